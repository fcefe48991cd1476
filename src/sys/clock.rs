//! The one clock.

use crate::facts::Time;
use std::time::Duration;

use nix::libc;

/// CLOCK_MONOTONIC: it does not jump with the wall clock, and stands still while the machine is suspended.
pub fn now() -> Time {
    read(libc::CLOCK_MONOTONIC)
}

/// How long ago it was that a process began. `ticks`: field 22 of its stat (`proc(5)`), which counts from boot, times of
/// suspension included.
pub fn age(ticks: u64) -> Duration {
    // SAFETY: has no preconditions.
    let in_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(0);
    let began = ticks.checked_div(in_second).unwrap_or(0);
    read(libc::CLOCK_BOOTTIME).saturating_sub(Duration::from_secs(began))
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The call cannot fail: both clocks exist since Linux 2.6.39.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
