//! Children and their descendants.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::Change;
use crate::signal::Signal;
use crate::sys::{Pid, new_fd, signals};

/// Makes hupwrap the one that orphans of its descendants are given to (`PR_SET_CHILD_SUBREAPER`). Pid 1 is it already.
pub fn become_subreaper() {
    // SAFETY: changes nothing but that. It cannot fail on Linux 3.4 or later.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Has the kernel send `signal` when the parent ends. Returns whether it is still there, which is the one at startup.
pub fn follow_parent(signal: Signal, parent_at_birth: Pid) -> bool {
    // SAFETY: changes nothing but that; the signal is valid.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number(), 0, 0, 0) };
    // SAFETY: has no preconditions.
    unsafe { libc::getppid() == parent_at_birth }
}

/// Takes the next child that changed, if one did. A child that has ended is reaped: its pid means nothing afterwards.
pub fn reap() -> Option<(Pid, Change)> {
    loop {
        let mut word = 0;
        // SAFETY: the pointer is to an int of ours.
        let pid = unsafe { libc::waitpid(-1, &raw mut word, libc::WNOHANG | libc::WUNTRACED) };
        if pid <= 0 {
            return None;
        }
        if let Some(change) = Change::from_word(word) {
            return Some((pid, change));
        }
    }
}

/// Waits for one child that is about to end.
pub fn reap_dying(pid: Pid) {
    let mut word = 0;
    // SAFETY: the pointer is to an int of ours.
    while unsafe { libc::waitpid(pid, &raw mut word, 0) } < 0 && Errno::last() == Errno::EINTR {}
}

/// Whether this process has any child, alive or unreaped.
pub fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the struct is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a struct of ours.
    unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0 }
}

/// More processes than can begin within a hundredth of a second.
const PIDS_A_TICK: Pid = 10_000;

/// A process that was seen alive: a pid alone may by now mean another.
#[derive(Clone, Copy, Debug)]
pub struct ProcStat {
    /// Its pid.
    pub pid: Pid,
    /// Its process group.
    pub group: Pid,
    parent: Pid,
    began: u64,
}

impl ProcStat {
    /// Reads `/proc/PID/stat` (`proc(5)`). None where it is gone, or dead and unreaped.
    pub fn at(pid: Pid) -> Option<Self> {
        Self::read(pid).filter(|(_, is_dead)| !is_dead).map(|(seen, _)| seen)
    }

    /// The same of a child that was just started, though it may be dead already.
    pub fn at_birth(child: Pid) -> Option<Self> {
        Self::read(child).map(|(seen, _)| seen)
    }

    fn read(pid: Pid) -> Option<(Self, bool)> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name, field 2, stands in parentheses and may hold anything, those included.
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end.checked_add(2)?..)?).ok()?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        // Field 22, of which 3 to 5 are read.
        let began = fields.nth(16)?.parse().ok()?;
        Some((Self { pid, group, parent, began }, matches!(state, "Z" | "X")))
    }

    /// Whether it is the same process; its parent may be another by now.
    pub fn is(&self, other: &Self) -> bool {
        (self.pid, self.began) == (other.pid, other.began)
    }

    /// When it began, in clock ticks since boot: with the pid, an identity.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// Its parent when it was read.
    pub(crate) fn parent(&self) -> Pid {
        self.parent
    }

    /// Whether it began before another. Time is told in hundredths of a second: within one, the pid tells, which goes up
    /// until it begins anew.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let earlier_pids = other.pid.saturating_sub(PIDS_A_TICK)..other.pid;
        self.began < other.began || (self.began == other.began && earlier_pids.contains(&self.pid))
    }

    /// The value of a variable in the environment that it was executed with, if that can be read.
    pub fn var(&self, name: &str) -> Option<String> {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        let mut all = environment.split(|byte| *byte == 0);
        let value = all.find_map(|var| var.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        String::from_utf8(value.to_vec()).ok()
    }

    /// Sends it a signal, and nothing to another process that has its pid by now.
    ///
    /// # Errors
    /// EPERM. That it is gone is none.
    pub fn kill(&self, signal: Signal) -> nix::Result<()> {
        // SAFETY: has no preconditions.
        if self.parent == unsafe { libc::getpid() } {
            // Nobody else can reap it, so its pid is its own.
            return match signals::kill(self.pid, signal) {
                Err(Errno::ESRCH) => Ok(()),
                sent => sent,
            };
        }
        match PidFd::new(self.pid, self.began)?.map(|held| held.kill(signal)) {
            None | Some(Err(Errno::ESRCH)) => Ok(()),
            Some(sent) => sent,
        }
    }
}

/// A process by a descriptor (`pidfd_open(2)`), which never comes to mean another.
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process of this pid that began then: see [`ProcStat::began`]. None where it has ended, or the pid means another.
    ///
    /// # Errors
    /// Those of `pidfd_open(2)`; EACCES where /proc does not show a process that is there.
    pub fn new(pid: Pid, began: u64) -> nix::Result<Option<Self>> {
        // SAFETY: has no preconditions.
        let held = match new_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }) {
            Ok(fd) => Self(fd),
            Err(Errno::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The descriptor stays with the process that it was opened for; was the pid used again before?
        match ProcStat::at(pid) {
            Some(now) => Ok((now.began == began).then_some(held)),
            None if held.has_ended() => Ok(None),
            None => Err(Errno::EACCES),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// EPERM, or ESRCH.
    pub fn kill(&self, signal: Signal) -> nix::Result<()> {
        let (fd, number) = (self.0.as_raw_fd(), signal.number());
        // SAFETY: the descriptor is a pidfd; the null pointer asks for what kill(2) would say of the sender.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, std::ptr::null::<libc::siginfo_t>(), 0) };
        Errno::result(sent).map(drop)
    }

    /// Whether it has ended, reaped or not. Its descriptor is readable then.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO) == Ok(1)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The living children of this process.
pub fn children() -> Vec<Pid> {
    // SAFETY: has no preconditions.
    let own_pid = unsafe { libc::getpid() };
    everyone().unwrap_or_default().iter().filter(|seen| seen.parent == own_pid).map(|seen| seen.pid).collect()
}

/// The living descendants of this process, each with the child of this process that it descends from, or is; without
/// the children in `except` and what descends from them. None where there is no /proc.
pub fn descendants(except: &[Pid]) -> Option<Vec<(ProcStat, ProcStat)>> {
    if !has_children() {
        return Some(Vec::new());
    }
    let mut by_parent: BTreeMap<Pid, Vec<ProcStat>> = BTreeMap::new();
    for seen in everyone()? {
        by_parent.entry(seen.parent).or_default().push(seen);
    }
    // SAFETY: has no preconditions.
    let children = by_parent.remove(&unsafe { libc::getpid() }).unwrap_or_default();
    let mut todo: Vec<(ProcStat, ProcStat)> =
        children.into_iter().filter(|child| !except.contains(&child.pid)).map(|child| (child, child)).collect();
    let mut found = Vec::new();
    while let Some((root, seen)) = todo.pop() {
        todo.extend(by_parent.remove(&seen.pid).unwrap_or_default().into_iter().map(|child| (root, child)));
        found.push((root, seen));
    }
    Some(found)
}

/// Whether /proc shows the processes of this pid namespace. In the /proc of another one, every pid means another process.
pub(crate) fn proc_is_own() -> bool {
    // SAFETY: has no preconditions.
    let own_pid = unsafe { libc::getpid() };
    fs::read_link("/proc/self").is_ok_and(|target| target.to_str() == Some(own_pid.to_string().as_str()))
}

fn everyone() -> Option<Vec<ProcStat>> {
    if !proc_is_own() {
        return None;
    }
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<ProcStat> = pids.filter_map(ProcStat::at).collect();
    // An empty directory is no /proc.
    (!all.is_empty()).then_some(all)
}

/// Sends a signal to every process of the pid namespace, as pid 1 may. For where there is no /proc.
pub fn kill_everyone(signal: Signal) {
    let _ = signals::kill(-1, signal);
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_is_older() {
        let seen = |pid, began| ProcStat { pid, group: 1, parent: 1, began };
        for (one, other, older) in [
            (seen(5, 1), seen(4, 2), true),
            (seen(4, 2), seen(5, 1), false),
            (seen(4, 2), seen(5, 2), true),
            (seen(5, 2), seen(4, 2), false),
            (seen(5, 2), seen(5, 2), false),
            // The pids began anew between them.
            (seen(300, 2), seen(32_767, 2), false),
        ] {
            assert_eq!(one.is_older_than(&other), older, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_dead_child_has_a_birth() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::try_from(child.id()).unwrap();
        while ProcStat::at(pid).is_some() {
            std::thread::yield_now();
        }
        assert!(ProcStat::at_birth(pid).is_some_and(|seen| seen.pid == pid));
        child.wait().unwrap();
        assert!(ProcStat::at_birth(pid).is_none());
    }
}
