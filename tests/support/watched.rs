//! The status file, as one who watches reads it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use serde_json::Value;

use super::wait_until;

/// A status file, once it is as wanted.
#[track_caller]
pub fn status_where(file: &Path, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut status = Value::Null;
    wait_until(what, || {
        status = fs::read(file).map(|text| serde_json::from_slice(&text).expect("JSON")).unwrap_or_default();
        holds(&status)
    });
    status
}

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a struct of ours.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) }, 0);
    let seconds = Duration::from_secs(u64::try_from(now.tv_sec).expect("seconds"));
    u64::try_from((seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).expect("less"))).as_nanos()).expect("fits")
}
