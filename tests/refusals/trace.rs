//! What strace(1) has written: the calls of a life, and which of them failed on demand.

use std::collections::HashMap;

/// A system call that a life made.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: String,
    /// The line of strace.
    pub line: String,
    /// Which call of this name it was, from 1 on: what strace calls `when`.
    pub number: usize,
    /// Whether it was the loader's: between an exec and the first instruction of hupwrap.
    pub is_loader: bool,
    /// Whether it is hupwrap's where the calls of its children count.
    pub is_parent: bool,
    /// How many processes were made and programs executed before.
    pub step: usize,
    kind: String,
}

impl Call {
    /// What it has in common with other calls like it: itself and the call before it, without what changes.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether it failed on demand.
    pub fn is_injected(&self) -> bool {
        self.line.contains("(INJECTED)")
    }
}

/// The calls with a path that tells one from another.
const WITH_PATH: [&str; 14] = [
    "openat",
    "statx",
    "newfstatat",
    "access",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "chmod",
    "readlink",
    "inotify_add_watch",
    "execve",
    "bind",
    "connect",
];

/// The calls of a log. One that was written with `-f` names the process in front of each.
pub fn calls(log: &str) -> Vec<Call> {
    let mut numbers: HashMap<(&str, &str), usize> = HashMap::new();
    // The first call is strace's exec.
    let (mut is_loader, mut step) = (true, 0);
    let mut before = String::new();
    let mut parent = None;
    let mut all = Vec::new();
    for line in log.lines() {
        let (pid, text) = match line.split_once(' ') {
            Some((pid, text)) if pid.parse::<i32>().is_ok() => (pid, text.trim_start()),
            _ => ("", line),
        };
        let Some((name, rest)) = text.split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let number = numbers.entry((pid, name)).or_default();
        *number += 1;
        // The loader blocks no signal: the first call that does is hupwrap's own.
        is_loader &= name != "rt_sigprocmask" && pid.is_empty();
        let short = summary(name, rest);
        all.push(Call {
            name: name.to_owned(),
            line: line.to_owned(),
            number: *number,
            is_loader,
            is_parent: !pid.is_empty() && *parent.get_or_insert(pid) == pid,
            step,
            kind: format!("{before} {short}"),
        });
        let has_succeeded = !line.contains(" = -1 ");
        is_loader |= name == "execve" && has_succeeded;
        step += usize::from(["execve", "clone", "fork"].contains(&name));
        before = short;
    }
    all
}

/// A call without what changes from one time to the next.
fn summary(name: &str, rest: &str) -> String {
    let arguments = rest.rsplit_once(" = ").map_or(rest, |(arguments, _)| arguments);
    let shown = match WITH_PATH.contains(&name) {
        true => arguments.split('"').nth(1).unwrap_or_default(),
        // What was read or written says nothing.
        false => arguments.split('"').next().unwrap_or_default(),
    };
    let shown: String = shown.chars().filter(|c| !c.is_ascii_digit() && !c.is_ascii_lowercase()).take(80).collect();
    let path = if WITH_PATH.contains(&name) { arguments.split('"').nth(1).unwrap_or_default() } else { "" };
    let path: String = path.chars().filter(|c| !c.is_ascii_hexdigit()).collect();
    format!("{name}({shown}{path})")
}

/// The call that failed on demand, if one did.
pub fn injected(calls: &[Call]) -> Option<&Call> {
    calls.iter().find(|call| call.is_injected())
}
