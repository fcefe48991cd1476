//! The controlling terminal.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::stat::Mode;
use nix::unistd::{getpgrp, tcgetpgrp};

use crate::sys::Pid;
use crate::sys::fd::new_fd;
use crate::sys::poll::is_ready;

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
            Some(group) => Ok(nix::unistd::Pid::from_raw(group)),
            None => return Place::NoTerminal,
        },
    };
    match group {
        Ok(group) if group == getpgrp() => Place::Foreground,
        _ => Place::Background,
    }
}

fn standard_group() -> Option<Pid> {
    // SAFETY: has no preconditions; a descriptor that is none gives an error.
    [0, 1, 2].into_iter().map(|fd| unsafe { libc::tcgetpgrp(fd) }).find(|group| *group >= 0)
}

fn terminal() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    open("/dev/tty", flags, Mode::empty())
}

/// Whether the terminal hupwrap had is gone: `/dev/tty` leads nowhere any more, or to one that was hung up.
pub fn is_gone() -> bool {
    match terminal() {
        // A hang-up is the only thing that this can find.
        Ok(tty) => is_ready(tty.as_fd(), PollFlags::empty()),
        Err(error) => matches!(error, Errno::ENXIO | Errno::EIO),
    }
}

/// A descriptor that becomes readable when the session's leader ends. With it goes the terminal, and no signal says so
/// to a background job. None where hupwrap leads the session itself.
pub fn watch_session_leader() -> Option<OwnedFd> {
    // SAFETY: neither has preconditions.
    let (leader, own_pid) = unsafe { (libc::getsid(0), libc::getpid()) };
    // A leader outside of this pid namespace is 0.
    if leader <= 0 || leader == own_pid {
        return None;
    }
    // SAFETY: has no preconditions.
    new_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, leader, 0) }).ok()
}

/// How many columns stderr has, where it is a terminal that this process may write to without being asked: one in whose
/// background it is has another program on it.
pub fn columns() -> Option<usize> {
    // SAFETY: has no preconditions; a descriptor that is no terminal gives an error.
    if unsafe { libc::isatty(2) } != 1 {
        return None;
    }
    // SAFETY: has no preconditions. Of a terminal that is not the controlling one the kernel does not tell.
    let group = unsafe { libc::tcgetpgrp(2) };
    if group >= 0 && group != getpgrp().as_raw() {
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
