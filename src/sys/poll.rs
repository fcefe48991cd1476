//! Waits for descriptors.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::time::TimeSpec;

/// Waits until one of the descriptors is ready, at most for `limit`: `ppoll(2)`, or `poll(2)` where a sandbox refuses
/// that. Returns how many are ready.
///
/// # Errors
/// As `ppoll(2)`: no memory, or more descriptors than the limit allows.
pub(crate) fn wait(fds: &mut [PollFd], limit: Option<Duration>) -> nix::Result<i32> {
    match ppoll(fds, limit.map(TimeSpec::from_duration), None) {
        Err(error) if error != Errno::EINTR => {
            // Rounded up: it would wake up before the time, again and again.
            let whole = |limit: Duration| limit.saturating_add(Duration::from_nanos(999_999));
            let limit = limit.map_or(Ok(PollTimeout::NONE), |limit| PollTimeout::try_from(whole(limit)));
            poll(fds, limit.unwrap_or(PollTimeout::MAX))
        }
        result => result,
    }
}

/// Whether one of these events holds for a descriptor now. A hang-up and an error always count (`poll(2)`).
pub(crate) fn is_ready(fd: BorrowedFd, flags: PollFlags) -> bool {
    wait(&mut [PollFd::new(fd, flags)], Some(Duration::ZERO)) == Ok(1)
}
