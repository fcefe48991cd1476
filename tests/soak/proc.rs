//! The processes below hupwrap, as /proc shows them.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{stat, status};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// When it began: with the pid an identity.
    pub began: String,
    pub state: char,
    pub name: String,
    /// The generation that its environment names.
    pub generation: Option<u64>,
}

impl Process {
    fn at(pid: i32, parent: i32) -> Option<Self> {
        let fields = stat(pid)?;
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let number = |var: &[u8]| std::str::from_utf8(var.strip_prefix(b"HUPWRAP_GENERATION=")?).ok()?.parse().ok();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(Self {
            pid,
            parent,
            began: fields.get(19)?.clone(),
            state: fields.first()?.chars().next()?,
            name: name.trim_end().to_owned(),
            generation: environ.split(|byte| *byte == 0).find_map(number),
        })
    }

    /// Whether it is still there, and no zombie.
    fn lives(&self) -> bool {
        stat(self.pid).is_some_and(|fields| fields.get(19) == Some(&self.began) && !["Z", "X"].contains(&&*fields[0]))
    }

    /// Whether it is a child of the soak, or came of one.
    pub fn is_worker(&self) -> bool {
        self.name == "worker"
    }

    /// The pid that it has for itself.
    pub fn own_pid(&self) -> i32 {
        let pids = status(self.pid, "NSpid");
        pids.split_whitespace().last().and_then(|pid| pid.parse().ok()).unwrap_or(self.pid)
    }
}

/// Everything that descends from a process.
pub fn below(pid: i32) -> Vec<Process> {
    let mut all: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            parents.push(child);
            all.extend(Process::at(child, parent));
        }
    }
    all
}

/// The generations of which processes live at the same moment. `counts`: which processes count.
pub fn living(pid: i32, counts: impl Fn(&Process) -> bool) -> BTreeSet<u64> {
    let seen = below(pid);
    // What was there before and is there after was there in between.
    seen.iter()
        .filter(|seen| seen.is_worker() && counts(seen) && seen.lives())
        .filter_map(|seen| seen.generation)
        .collect()
}

/// Whether a signal to a process waits for it.
pub fn awaits(pid: i32, signal: &str) -> bool {
    let signal: hupwrap::signal::Signal = signal.parse().expect("a signal");
    let waiting = u64::from_str_radix(&status(pid, "ShdPnd"), 16).unwrap_or(0);
    waiting >> (signal.number() - 1) & 1 == 1
}

/// What a process does, for people.
pub fn doing(pid: i32) -> String {
    let fields = ["Name", "State", "NSpid", "PPid", "SigPnd", "ShdPnd", "SigBlk"].map(|field| status(pid, field));
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    format!("{pid}: {fields:?}, system call {}", call.trim_end())
}

/// The time that a process has run, in nanoseconds, and how often it woke up.
pub fn busy(pid: i32) -> (u64, u64) {
    let times = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let ran = times.split(' ').next().and_then(|ran| ran.parse().ok()).unwrap_or(0);
    (ran, status(pid, "voluntary_ctxt_switches").parse().unwrap_or(0))
}

/// The memory of its own that a process has, in kB.
pub fn memory(pid: i32) -> u64 {
    let field = |name| status(pid, name).trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    field("RssAnon") + field("VmStk")
}
