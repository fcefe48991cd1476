//! The only room with system calls and `unsafe`. Each block says why it is sound; each function says what it does to
//! the process.

#![allow(unsafe_code)]

mod bare;
pub(crate) mod child_pidfile;
pub(crate) mod clock;
pub(crate) mod connect;
pub(crate) mod environment;
pub(crate) mod fd;
pub(crate) mod finish;
pub(crate) mod inotify;
pub(crate) mod interrupt;
pub(crate) mod lookup;
pub(crate) mod manager_socket;
pub(crate) mod notify_socket;
pub(crate) mod output;
pub(crate) mod path_watch;
pub(crate) mod pidfd;
pub(crate) mod pidfile;
pub(crate) mod poll;
pub(crate) mod proc;
mod program;
mod random;
pub(crate) mod ready_pipe;
pub(crate) mod reexec;
pub(crate) mod resolve;
pub(crate) mod signals;
pub(crate) mod sockets;
pub(crate) mod spawn;
pub(crate) mod start_error;
pub(crate) mod startup;
pub(crate) mod status_file;
pub(crate) mod status_input;
pub(crate) mod target;
pub(crate) mod terminal;
pub(crate) mod trust;
mod unix_path;
pub(crate) mod wait;

use std::io;

use nix::errno::Errno;
use nix::libc;

pub(crate) use fd::hold_stdio;

/// A process id.
pub(crate) type Pid = libc::pid_t;

/// The pid of this process.
pub(crate) fn own_pid() -> Pid {
    nix::unistd::getpid().as_raw()
}

/// Says that a test is skipped, past the capture of `cargo test`.
#[cfg(test)]
fn skipped(test: &str, missing: &str) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "skipped: {test}: {missing}");
}

/// The errno of an error of std. Errors that std itself finds have none, and count as invalid.
fn errno(error: io::Error) -> Errno {
    Errno::try_from(error).unwrap_or(Errno::EINVAL)
}
