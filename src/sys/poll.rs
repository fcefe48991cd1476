//! Whether a descriptor is ready, without waiting.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Whether one of these events holds for a descriptor now. A hang-up and an error always count (`poll(2)`).
pub(crate) fn is_ready(fd: BorrowedFd, flags: PollFlags) -> bool {
    poll(&mut [PollFd::new(fd, flags)], PollTimeout::ZERO) == Ok(1)
}
