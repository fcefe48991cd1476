//! What can be seen of a child from outside, without its help: programs that know nothing of a test can be its
//! children.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::libc;

use super::{before_exec, children, state, wait_until};

/// The environment of a process.
pub fn environ(pid: i32) -> BTreeMap<String, String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("an environment");
    let text = String::from_utf8_lossy(&environ);
    text.split_terminator('\0')
        .filter_map(|var| var.split_once('='))
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

/// Where a process is.
pub fn cwd(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/cwd")).expect("a working directory")
}

/// Whether a process does nothing but sleep: its loader is through.
fn is_asleep(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/syscall")) {
        Ok(call) => {
            let number = call.split(' ').next().and_then(|number| number.parse().ok());
            [libc::SYS_clock_nanosleep, libc::SYS_nanosleep].map(Some).contains(&number)
        }
        // Not every kernel has it.
        Err(_) => state(pid) == Some('S'),
    }
}

/// Waits for a child of this process that executes `sleep`, is asleep, and is none of these.
#[track_caller]
pub fn sleeper(parent: i32, but: &[i32]) -> i32 {
    sleeper_called("sleep", parent, but)
}

/// The same, where `sleep` has another name.
#[track_caller]
pub fn sleeper_called(name: &str, parent: i32, but: &[i32]) -> i32 {
    let mut found = None;
    let is_called =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    wait_until("it sleeps", || {
        let others = children(parent).into_iter().filter(|pid| !but.contains(pid));
        found = others.filter(is_called).find(|pid| is_asleep(*pid));
        found.is_some()
    });
    found.expect("a pid")
}

/// Hides from a program what descriptors the tests themselves were given.
pub fn without_strange_fds(command: &mut Command) {
    before_exec(command, || {
        for fd in 3..1024 {
            // SAFETY: has no pointers; what is not open is no matter.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    });
}
