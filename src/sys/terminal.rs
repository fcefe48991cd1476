//! The controlling terminal.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getpgrp, getsid, tcgetpgrp};

use crate::sys::poll::is_ready;
use crate::sys::{own_pid, pidfd};

/// Where hupwrap stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It has no terminal.
    NoTerminal,
    /// It has one, and another job is in the foreground.
    Background,
    /// Its process group is the foreground job.
    Foreground,
}

/// Looks where hupwrap stands now. Nothing is kept open: an open terminal would keep a closed window alive.
pub fn place() -> Place {
    let group = match terminal() {
        Ok(tty) => tcgetpgrp(tty),
        Err(Errno::ENXIO) => return Place::NoTerminal,
        // A bare chroot has no /dev/tty. Of a terminal that is not the controlling one the kernel does not tell.
        Err(_) => match standard_group() {
            Some(group) => Ok(group),
            None => return Place::NoTerminal,
        },
    };
    match group {
        Ok(group) if group == getpgrp() => Place::Foreground,
        _ => Place::Background,
    }
}

/// The foreground group of a terminal. The kernel tells that of the controlling one only.
fn group_of(terminal: impl AsFd) -> Option<Pid> {
    tcgetpgrp(terminal).ok()
}

fn standard_group() -> Option<Pid> {
    [group_of(stdin()), group_of(stdout()), group_of(stderr())].into_iter().flatten().next()
}

fn terminal() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    open("/dev/tty", flags, Mode::empty())
}

/// Whether the terminal hupwrap had is gone: `/dev/tty` no longer leads anywhere, or leads to one that was hung up.
pub fn is_gone() -> bool {
    match terminal() {
        // A hang-up is the only thing that this can find.
        Ok(tty) => is_ready(tty.as_fd(), PollFlags::empty()),
        Err(error) => matches!(error, Errno::ENXIO | Errno::EIO),
    }
}

/// A descriptor that becomes readable when the session's leader ends. The terminal goes with the leader, and no signal
/// tells a background job. None if hupwrap itself leads the session.
pub fn watch_session_leader() -> Option<OwnedFd> {
    // A leader outside of this pid namespace is 0.
    let leader = getsid(None).ok()?.as_raw();
    if leader == 0 || leader == own_pid() {
        return None;
    }
    pidfd::open(leader).ok()
}

/// How many columns stderr has, if it is a terminal that this process may write to without being asked. If this process is
/// in the background, the terminal belongs to another program.
pub fn columns() -> Option<usize> {
    if !stderr().is_terminal() || group_of(stderr()).is_some_and(|group| group != getpgrp()) {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a struct of ours.
    unsafe { libc::ioctl(2, libc::TIOCGWINSZ, &raw mut size) };
    Some(match size.ws_col {
        0 => 80,
        columns => usize::from(columns),
    })
}
