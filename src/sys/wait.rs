//! Waiting for children, and the ties between parent and child.

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::getppid;

use crate::exit::Change;
use crate::signal::Signal;
use crate::sys::Pid;

/// Makes hupwrap the process that adopts the orphans among its descendants (`PR_SET_CHILD_SUBREAPER`). Pid 1 does that
/// anyway.
pub(crate) fn become_subreaper() {
    // If a sandbox refuses this, another process adopts them, as it does without hupwrap.
    let _ = set_child_subreaper(true);
}

/// Has the kernel send `signal` when the parent ends. Returns whether the parent at startup still is the parent.
pub(crate) fn follow_parent(signal: Signal, parent_at_startup: Pid) -> bool {
    // SAFETY: changes nothing but that; the signal is valid.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number(), 0, 0, 0) };
    getppid().as_raw() == parent_at_startup
}

/// Takes the next child that changed, if one did. A child that has ended is reaped: its pid means nothing afterwards.
///
/// # Errors
/// It cannot be known now whether one did.
pub(crate) fn reap() -> nix::Result<Option<(Pid, Change)>> {
    loop {
        let mut word = 0;
        // SAFETY: the pointer is to an int of ours.
        match Errno::result(unsafe { libc::waitpid(-1, &raw mut word, libc::WNOHANG | libc::WUNTRACED) }) {
            Ok(0) | Err(Errno::ECHILD) => return Ok(None),
            Ok(pid) => {
                if let Some(change) = Change::from_word(word) {
                    return Ok(Some((pid, change)));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether this process has any child, alive or unreaped. None if that cannot be known: a sandbox refuses
/// the question, or nix does not know the signal that has killed one.
pub(crate) fn has_children() -> Option<bool> {
    is_there(Id::All)
}

/// Whether a pid is that of a child of this process, alive or unreaped, as far as can be known.
pub(crate) fn is_child(pid: Pid) -> bool {
    pid > 0 && is_there(Id::Pid(nix::unistd::Pid::from_raw(pid))) != Some(false)
}

/// Whether a pid is that of a child of this process, alive or unreaped. False also where the kernel does not say.
pub(crate) fn is_certainly_child(pid: Pid) -> bool {
    pid > 0 && is_there(Id::Pid(nix::unistd::Pid::from_raw(pid))) == Some(true)
}

#[expect(clippy::disallowed_methods, reason = "with WNOWAIT nothing is reaped, and no status is lost")]
fn is_there(which: Id) -> Option<bool> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(which, flags) {
        Ok(_) => Some(true),
        Err(Errno::ECHILD) => Some(false),
        Err(_) => None,
    }
}
