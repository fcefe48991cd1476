//! The one clock.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::facts::Time;

/// CLOCK_MONOTONIC: it does not jump with the wall clock, and stands still while the machine is suspended.
pub(crate) fn now() -> Time {
    read(ClockId::CLOCK_MONOTONIC)
}

/// When a time of [`now`] was by the wall clock: for people alone.
pub(crate) fn wall_time(time: Time) -> SystemTime {
    let wall = SystemTime::now();
    wall.checked_sub(now().saturating_sub(time)).unwrap_or(wall)
}

/// How long ago it was that a process began. `ticks`: field 22 of its stat (`proc(5)`), which counts from boot, times
/// of suspension included.
pub(crate) fn age(ticks: u64) -> Duration {
    let in_second =
        sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(0);
    let began = ticks.checked_div(in_second).unwrap_or(0);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(Duration::from_secs(began))
}

fn read(clock: ClockId) -> Duration {
    // It cannot fail: both clocks exist since Linux 2.6.39.
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}
