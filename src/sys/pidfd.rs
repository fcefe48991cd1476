//! A process by a descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;

use crate::signal::Signal;
use crate::sys::fd::new_fd;
use crate::sys::poll::is_ready;
use crate::sys::proc::ProcStat;
use crate::sys::{Pid, own_pid, signals};

impl ProcStat {
    /// Sends it a signal, and nothing to another process that has its pid by now. A process that has ended is no error.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn kill(&self, signal: Signal) -> nix::Result<()> {
        // Nobody else can reap a child of ours, so its pid is its own.
        let sent = if self.parent() == own_pid() { signals::kill(self.pid, signal) } else { self.kill_held(signal) };
        if sent == Err(Errno::ESRCH) { Ok(()) } else { sent }
    }

    fn kill_held(&self, signal: Signal) -> nix::Result<()> {
        match PidFd::new(self.pid, self.began()) {
            Ok(None) => return Err(Errno::ESRCH),
            Ok(Some(held)) if held.kill(signal).is_ok() => return Ok(()),
            _ => {}
        }
        // There are no pidfds here, or no descriptor is left. The next best is the pid, right after a look at which
        // process has it. If the signal is not permitted, kill(2) says so again.
        match Self::at(self.pid) {
            Some(now) if now.is(self) => signals::kill(self.pid, signal),
            _ => Err(Errno::ESRCH),
        }
    }
}

/// Opens the process that has this pid now. The descriptor is readable when the process has ended.
pub(super) fn open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: has no preconditions.
    new_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// A process by a descriptor (`pidfd_open(2)`), which never comes to mean another.
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// The process of this pid that began then: see [`ProcStat::began`]. None where it has ended, or the pid means
    /// another.
    ///
    /// # Errors
    /// Those of `pidfd_open(2)`; EACCES where /proc does not show a process that is there.
    pub(crate) fn new(pid: Pid, began: u64) -> nix::Result<Option<Self>> {
        let held = match open(pid) {
            Ok(fd) => Self(fd),
            Err(Errno::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The descriptor stays with the process that it was opened for; was the pid used again before?
        match ProcStat::at(pid) {
            Some(now) => Ok((now.began() == began).then_some(held)),
            None if held.has_ended() => Ok(None),
            None => Err(Errno::EACCES),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// EPERM, or ESRCH.
    pub(crate) fn kill(&self, signal: Signal) -> nix::Result<()> {
        let (fd, number) = (self.0.as_raw_fd(), signal.number());
        // SAFETY: the descriptor is a pidfd; the null pointer asks for what kill(2) would say of the sender.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, std::ptr::null::<libc::siginfo_t>(), 0) };
        Errno::result(sent).map(drop)
    }

    /// Whether it has ended, reaped or not. Its descriptor is readable then.
    pub(crate) fn has_ended(&self) -> bool {
        is_ready(self.0.as_fd(), PollFlags::POLLIN)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
