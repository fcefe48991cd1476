//! The process that a status file names. It is known by pid and start time; a pidfd keeps hold of it where the kernel
//! gives one.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::{Uid, getpid};

use super::pidfd::PidFd;
use super::proc::{ProcStat, shows_us};
use super::{Pid, signals};
use crate::signal::Signal;

/// A process that was alive when it was found.
pub(crate) struct Target {
    pid: Pid,
    began: u64,
    /// None where the kernel or a sandbox refuses pidfds.
    fd: Option<PidFd>,
}

/// What /proc says of a pid.
#[derive(PartialEq, Eq)]
enum Seen {
    /// The process is there and alive.
    Alive,
    /// It has ended, or the pid means another process.
    Gone,
    /// There is a process, but /proc does not show it.
    Hidden,
}

fn look(pid: Pid, began: u64) -> Seen {
    match ProcStat::at(pid) {
        Some(now) if now.began() == began => Seen::Alive,
        Some(_) => Seen::Gone,
        // A dead process that nobody has reaped yet.
        None if ProcStat::at_birth(pid).is_some() => Seen::Gone,
        None if nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(Errno::ESRCH) => Seen::Gone,
        None => Seen::Hidden,
    }
}

impl Target {
    /// The process of this pid that began then, in the ticks of [`ProcStat::began`]. None where it has ended, or the
    /// pid means another process.
    ///
    /// # Errors
    /// One line: it cannot be told whether the pid still means that process.
    pub(crate) fn find(pid: Pid, began: u64) -> Result<Option<Self>, String> {
        if shows_us().is_err() {
            return Err(format!(
                "/proc does not show the processes of this pid namespace, so pid {pid} cannot be told from another \
                 process; mount /proc"
            ));
        }
        if let Ok(held) = PidFd::new(pid, began) {
            return Ok(held.map(|fd| Self { pid, began, fd: Some(fd) }));
        }
        match look(pid, began) {
            Seen::Alive => Ok(Some(Self { pid, began, fd: None })),
            Seen::Gone => Ok(None),
            Seen::Hidden => Err(format!(
                "/proc does not show pid {pid}, so it cannot be told from another process; want root, or the user that \
                 runs it"
            )),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// EPERM, or ESRCH.
    pub(crate) fn kill(&self, signal: Signal) -> nix::Result<()> {
        match self.fd.as_ref().map(|fd| fd.kill(signal)) {
            Some(sent @ (Ok(()) | Err(Errno::ESRCH))) => sent,
            // A sandbox may refuse pidfd_send_signal(2). Between the look and the kill no pid is used again in
            // practice.
            _ if self.has_ended() => Err(Errno::ESRCH),
            _ => signals::kill(self.pid, signal),
        }
    }

    /// Whether it has ended, reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.fd {
            Some(fd) => fd.has_ended(),
            None => look(self.pid, self.began) == Seen::Gone,
        }
    }

    /// A descriptor that is readable when it has ended, where there is one.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Whether all its user ids are this one.
    pub(crate) fn belongs_to(&self, uid: Uid) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        let same = ids.split_whitespace().all(|id| id.parse() == Ok(uid.as_raw()));
        !ids.is_empty() && same && !self.has_ended()
    }

    /// Whether this process is one of these children of it, or descends from one. `hint` is the answer where an
    /// ancestor is not to be seen.
    pub(crate) fn is_above_us(&self, children: &[Pid], hint: bool) -> bool {
        // An ancestor that ends during the walk breaks it; another walk finds the new parent.
        [(); 3].into_iter().find_map(|()| self.walk(children)).unwrap_or(hint)
    }

    /// None where the walk breaks off.
    fn walk(&self, children: &[Pid]) -> Option<bool> {
        let mut pid = getpid().as_raw();
        loop {
            match ProcStat::at(pid)?.parent() {
                parent if parent == self.pid => return Some(children.contains(&pid)),
                // The first process, or one whose parent is outside of this pid namespace.
                0 => return Some(false),
                parent => pid = parent,
            }
        }
    }
}
