//! The one clock.

use std::time::Duration;

use nix::libc;

use crate::machine::Time;

/// CLOCK_MONOTONIC: it does not jump with the wall clock, and stands still while the machine is suspended.
pub fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The call cannot fail: the clock exists since Linux 2.6.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
