//! The last instructions.

use nix::libc;

use crate::exit::Ending;
use crate::signal::SignalSet;
use crate::sys::signals;

/// Ends the process: by the signal that ended the child, so that a parent sees the death itself, or with a status.
pub fn end(ending: Ending) -> ! {
    // SAFETY: has no preconditions.
    let own_pid = unsafe { libc::getpid() };
    if let Some(signal) = ending.signal()
        // The kernel spares pid 1 from its own signals.
        && own_pid != 1
    {
        // SAFETY: changes nothing but whether this process dumps core. The child did, once is enough.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        signals::is_ignored(signal, true);
        let mut mask = SignalSet::ALL_BUT_FAULTS;
        mask.remove(signal);
        // What waits must not be first: it would be another death.
        signals::set_mask(mask);
        let _ = signals::kill(own_pid, signal);
    }
    // SAFETY: ends the process; nothing is buffered.
    unsafe { libc::_exit(i32::from(ending.code())) }
}
