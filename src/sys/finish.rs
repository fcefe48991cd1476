//! The last instructions.

use nix::libc;
use nix::sys::prctl::set_dumpable;

use crate::exit::Ending;
use crate::signal::SignalSet;
use crate::sys::{own_pid, signals};

/// Ends the process: by the signal that ended the child, so that a parent sees the death itself, or with a status.
pub(crate) fn end(ending: Ending) -> ! {
    let own_pid = own_pid();
    if let Some(signal) = ending.signal()
        // The kernel protects pid 1 from its own signals.
        && own_pid != 1
    {
        // The child did dump core if it was to. Once is enough.
        let _ = set_dumpable(false);
        signals::is_ignored(signal, true);
        let mut mask = SignalSet::ALL_BUT_FAULTS;
        mask.remove(signal);
        // All others stay blocked: a different pending signal must not kill hupwrap first.
        signals::set_mask(mask);
        let _ = signals::kill(own_pid, signal);
    }
    // SAFETY: ends the process; nothing is buffered.
    unsafe { libc::_exit(i32::from(ending.code())) }
}
