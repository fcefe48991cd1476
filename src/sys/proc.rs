//! Processes as /proc shows them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::sys::fd::names;
use crate::sys::wait::has_children;
use crate::sys::{Pid, errno, own_pid, poll};

/// More processes than can begin within a hundredth of a second.
const PIDS_A_TICK: Pid = 10_000;

/// More ancestors than any process has, in a /proc that changes while it is read.
const MOST_ANCESTORS: usize = 10_000;

/// How often processes in the middle of an exec are waited for, and how long each time. An exec takes microseconds;
/// only a process that gets no processor time, or reads a slow file, needs longer.
const EXEC_PAUSES: u32 = 100;
const EXEC_PAUSE: Duration = Duration::from_millis(1);

/// A pid, and when its process began (see [`ProcStat::began`]).
pub(crate) type Identity = (Pid, u64);

/// A process that was seen alive: a pid alone may by now mean another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcStat {
    /// Its pid.
    pub pid: Pid,
    /// Its process group.
    pub group: Pid,
    parent: Pid,
    began: u64,
}

impl ProcStat {
    /// Reads `/proc/PID/stat` (`proc(5)`). None where it is gone, or dead and unreaped.
    pub(crate) fn at(pid: Pid) -> Option<Self> {
        Self::read(pid).filter(|(_, state)| *state != State::Dead).map(|(seen, _)| seen)
    }

    /// The same of a child that was just started, though it may be dead already.
    pub(crate) fn at_birth(child: Pid) -> Option<Self> {
        Self::read(child).map(|(seen, _)| seen)
    }

    fn read(pid: Pid) -> Option<(Self, State)> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: Pid, stat: &[u8]) -> Option<(Self, State)> {
        // The name, field 2, stands in parentheses and may hold anything, those included.
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end.checked_add(2)?..)?).ok()?;
        let mut fields = rest.split(' ');
        let letter = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        // Fields 20 and 22, of which 3 to 5 are read.
        let threads = fields.nth(14)?;
        let began = fields.nth(1)?.parse().ok()?;
        let state = match letter {
            // The letter is that of the main thread, which may end before the others.
            "Z" if threads != "0" && threads != "1" => State::Alive,
            "Z" | "X" => State::Dead,
            "T" => State::Stopped,
            _ => State::Alive,
        };
        Some((Self { pid, group, parent, began }, state))
    }

    /// Whether it is the same process; its parent may be another by now.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// What tells it from every other process.
    pub(crate) fn identity(&self) -> Identity {
        (self.pid, self.began)
    }

    /// When it began, in clock ticks since boot: with the pid, an identity.
    pub(crate) fn began(&self) -> u64 {
        self.began
    }

    /// Its parent when it was read.
    pub(crate) fn parent(&self) -> Pid {
        self.parent
    }

    /// Whether it began before another. Time is told in hundredths of a second: within one, the pid tells, which goes
    /// up until it begins anew.
    pub(crate) fn is_older_than(&self, (pid, began): Identity) -> bool {
        let earlier_pids = pid.saturating_sub(PIDS_A_TICK)..pid;
        self.began < began || (self.began == began && earlier_pids.contains(&self.pid))
    }

    /// The value of a variable in the environment that it was executed with, if that can be read. In the middle of an
    /// exec there is no environment for a moment, or a read of it ends too early: that is waited for as long as
    /// `patience` lasts.
    pub(crate) fn var(&self, name: &str, patience: &Patience) -> Option<String> {
        let mut before = (self.end_of_environment()?, Vec::new());
        loop {
            let environment = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
            let mut all = environment.split_inclusive(|byte| *byte == 0).filter_map(|var| var.strip_suffix(&[0]));
            if let Some(value) = all.find_map(|var| var.strip_prefix(name.as_bytes())?.strip_prefix(b"=")) {
                return String::from_utf8(value.to_vec()).ok();
            }
            let now = (self.end_of_environment()?, environment);
            let is_whole = if now.0 == "0" { now == before && !now.1.is_empty() } else { now.0 == before.0 };
            if is_whole || !patience.pause() {
                return None;
            }
            before = now;
        }
    }

    /// Where its environment ends, field 51 of stat: `0` as long as a new program has no stack (and always in gVisor),
    /// and another address for each one. None when it, or its main thread, has ended.
    fn end_of_environment(&self) -> Option<String> {
        let stat = fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        Self::parse(self.pid, &stat).filter(|(seen, state)| seen.is(self) && *state != State::Dead)?;
        let (_, fields) = stat.split_at(stat.iter().rposition(|byte| *byte == b')')?);
        let mut fields = fields.split(|byte| *byte == b' ');
        // Of a process whose main thread has ended, nothing is shown any more: there is no exec to wait for.
        fields.nth(1).filter(|state| *state != b"Z")?;
        fields.nth(47).map(|end| String::from_utf8_lossy(end).into_owned())
    }
}

/// How much longer processes in the middle of an exec are waited for. All that are looked at together share it, because
/// a child can make many that never get on with it.
pub(crate) struct Patience(Cell<u32>);

impl Patience {
    /// As much as there is.
    pub(crate) fn new() -> Self {
        Self(Cell::new(EXEC_PAUSES))
    }

    /// Waits a moment, unless it has run out.
    fn pause(&self) -> bool {
        let left = self.0.get().checked_sub(1);
        if let Some(left) = left {
            self.0.set(left);
            let _ = poll::wait(&mut [], Some(EXEC_PAUSE));
        }
        left.is_some()
    }
}

/// What a process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Alive,
    Stopped,
    /// It is unreaped.
    Dead,
}

/// Whether a process is stopped.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    ProcStat::read(pid).is_some_and(|(_, state)| state == State::Stopped)
}

/// The child of this process that a process is, or descends from. Both may be dead and unreaped.
pub(crate) fn root_of(pid: Pid) -> Option<ProcStat> {
    shows_us().ok()?;
    let own_pid = own_pid();
    line(pid).find(|seen| seen.parent == own_pid)
}

/// Whether a process is this process's `parent`, or an ancestor of that.
pub(crate) fn is_ancestor(pid: Pid, parent: Pid) -> bool {
    pid == parent || (shows_us().is_ok() && line(parent).any(|seen| seen.pid == pid))
}

/// A process and its ancestors.
fn line(pid: Pid) -> impl Iterator<Item = ProcStat> {
    std::iter::successors(ProcStat::at_birth(pid), |seen| ProcStat::at_birth(seen.parent)).take(MOST_ANCESTORS)
}

/// The living children of this process.
pub(crate) fn children() -> Vec<Pid> {
    let own_pid = own_pid();
    everyone().unwrap_or_default().iter().filter(|seen| seen.parent == own_pid).map(|seen| seen.pid).collect()
}

/// Why the processes cannot be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unseen {
    /// There is no /proc, or it shows another pid namespace.
    NoProc,
    /// No descriptor or no memory is left. It may be seen later.
    NotNow,
}

/// The living descendants of this process, each with the child of this process that it descends from, or is; without
/// the children that are foreign, and what descends from them.
///
/// # Errors
/// They cannot be seen.
pub(crate) fn descendants(is_foreign: impl Fn(&ProcStat) -> bool) -> Result<Vec<(ProcStat, ProcStat)>, Unseen> {
    if has_children() == Some(false) {
        return Ok(Vec::new());
    }
    let mut by_parent: BTreeMap<Pid, Vec<ProcStat>> = BTreeMap::new();
    for seen in everyone()? {
        by_parent.entry(seen.parent).or_default().push(seen);
    }
    let children = by_parent.remove(&own_pid()).unwrap_or_default();
    let mut todo: Vec<(ProcStat, ProcStat)> =
        children.into_iter().filter(|child| !is_foreign(child)).map(|child| (child, child)).collect();
    let mut found = Vec::new();
    while let Some((root, seen)) = todo.pop() {
        todo.extend(by_parent.remove(&seen.pid).unwrap_or_default().into_iter().map(|child| (root, child)));
        found.push((root, seen));
    }
    Ok(found)
}

/// Whether /proc shows the processes of this pid namespace. In the /proc of another one, every pid means another
/// process.
///
/// # Errors
/// It does not.
pub(crate) fn shows_us() -> Result<(), Unseen> {
    let named = fs::read_link("/proc/self").map_err(|error| unseen(errno(error)))?;
    if named.to_str() == Some(own_pid().to_string().as_str()) { Ok(()) } else { Err(Unseen::NoProc) }
}

/// Every living process. Tried twice: an error that does not last must not hide a family.
fn everyone() -> Result<Vec<ProcStat>, Unseen> {
    scan().or_else(|_| scan())
}

fn scan() -> Result<Vec<ProcStat>, Unseen> {
    shows_us()?;
    let mut all = Vec::new();
    for name in names(Path::new("/proc")).map_err(unseen)? {
        let Some(pid) = name.map_err(unseen)?.to_str().and_then(|name| name.parse().ok()) else { continue };
        match fs::read(format!("/proc/{pid}/stat")).map(|stat| ProcStat::parse(pid, &stat)) {
            Ok(Some((seen, state))) if state != State::Dead => all.push(seen),
            // It is dead, or nobody's business.
            Ok(_) => {}
            Err(error) => match unseen(errno(error)) {
                Unseen::NotNow => return Err(Unseen::NotNow),
                // It has ended, or must not be seen.
                Unseen::NoProc => {}
            },
        }
    }
    // An empty directory is no /proc.
    if all.is_empty() { Err(Unseen::NoProc) } else { Ok(all) }
}

fn unseen(error: Errno) -> Unseen {
    match error {
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => Unseen::NotNow,
        _ => Unseen::NoProc,
    }
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
            assert_eq!(one.is_older_than(other.identity()), older, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_process_that_executes_again_and_again_shows_its_environment() {
        let script = r#"i=0; while test $i -lt 2000; do i=$((i + 1)); done
            test "$1" -eq 0 || exec sh -c "$0" "$0" $(($1 - 1))"#;
        let mut child = Command::new("sh").args(["-c", script, script, "1000000"]).env("MARK", "here").spawn().unwrap();
        let seen = ProcStat::at_birth(Pid::try_from(child.id()).unwrap()).unwrap();
        let shown = (0..3000).filter(|_| seen.var("MARK", &Patience::new()).is_some()).count();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(shown, 3000);
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
