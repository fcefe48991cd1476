//! Children: what became of them, and whose they are.

use nix::errno::Errno;
use nix::libc;

use crate::exit::Change;
use crate::signal::Signal;
use crate::sys::Pid;

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
