//! Facts that the machine and the system calls share. Neither imports the other. Pure.

use std::time::Duration;

/// A point in time: what CLOCK_MONOTONIC reads. A re-exec carries it over, which `std::time::Instant` cannot be.
pub type Time = Duration;

/// The number of a start, 1, 2, …: it names the child of that start, and everything that descends from it.
pub type GenerationId = u64;

/// Who sent a signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sender {
    /// The kernel, on behalf of the terminal for instance (`si_code` is SI_KERNEL).
    Kernel,
    /// A process, by `kill(2)` or a similar call.
    Process,
    /// A process of this generation.
    Member(GenerationId),
}

/// Why a program could not be started.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StartError {
    /// The exit status it makes: 125, 126 or 127.
    pub code: u8,
    /// Whether another try may succeed though nothing is repaired: EAGAIN, ENOMEM and the like.
    pub transient: bool,
    /// Names the command and what is wrong with it.
    pub reason: String,
}
