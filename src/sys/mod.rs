//! The only room with system calls and `unsafe`. Each block says why it is sound; each function says what it does to
//! the process.

#![allow(unsafe_code)]

pub mod clock;
pub mod environment;
pub mod files;
pub mod finish;
pub(crate) mod inotify;
pub(crate) mod interrupt;
pub mod notify;
pub mod output;
pub mod process;
pub mod reexec;
pub mod signals;
pub mod sockets;
pub mod spawn;
pub mod startup;
pub(crate) mod status_input;
pub(crate) mod target;
pub mod terminal;

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// A process id.
pub type Pid = libc::pid_t;

/// Moves a descriptor above 2, close-on-exec. Where hupwrap was started with a standard descriptor closed, the next one
/// opened takes its number, and messages or the child's output would go there.
fn above_stdio(fd: OwnedFd) -> nix::Result<OwnedFd> {
    above(fd, 3)
}

/// Moves a descriptor to `lowest` or above, close-on-exec, where it is not there already. A number beyond the limit,
/// which the kernel calls invalid, is EMFILE as any that is not to be had.
fn above(fd: OwnedFd, lowest: RawFd) -> nix::Result<OwnedFd> {
    if fd.as_raw_fd() >= lowest {
        return Ok(fd);
    }
    let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))
        .map_err(|error| if error == Errno::EINVAL { Errno::EMFILE } else { error })?;
    // SAFETY: fcntl has just made it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Fills the standard descriptors that are closed, so that what is opened next is none of them. Not for a supervisor,
/// whose child is to find them closed.
pub fn hold_stdio() {
    while let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        if null.as_raw_fd() > 2 {
            return;
        }
        let _ = null.into_raw_fd();
    }
}

/// Takes what a system call that makes a descriptor returned.
fn new_fd(returned: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(returned)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it, and nothing else owns it.
    above_stdio(unsafe { OwnedFd::from_raw_fd(fd) })
}
