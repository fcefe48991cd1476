//! How a child ended, and what that makes of hupwrap's own end. The one table of exit codes. Pure.

use std::fmt;

use crate::signal::Signal;

/// Not ready in time, or a waiting command ran out of time; `timeout(1)` says the same with it.
pub const TIMED_OUT: u8 = 124;
/// hupwrap itself failed: usage and the like. As `timeout(1)`, `env(1)`, `nohup(1)`.
pub const OWN_FAILURE: u8 = 125;
/// COMMAND was found but cannot be executed (POSIX, `sh`, 2.8.2).
pub const CANNOT_EXECUTE: u8 = 126;
/// COMMAND was not found (POSIX, `sh`, 2.8.2).
pub const NOT_FOUND: u8 = 127;
/// What a shell adds to the number of the signal that ended a program.
const BY_SIGNAL: u8 = 128;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExitStatus {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Killed(Signal),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "{code}"),
            Self::Killed(signal) => write!(f, "{signal}"),
        }
    }
}

/// What `waitpid(2)` tells of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It has ended.
    Ended(ExitStatus),
    /// It was stopped, and can go on.
    Stopped(Signal),
}

impl Change {
    /// Reads a status word of `waitpid(2)`. It is read here and not by nix, which answers EINVAL, and has lost the
    /// word, when a real-time signal killed the child. Returns None for any other word.
    pub fn from_word(word: i32) -> Option<Self> {
        let low = word & 0x7f;
        let high = (word >> 8) & 0xff;
        match low {
            0 => u8::try_from(high).ok().map(|code| Self::Ended(ExitStatus::Exited(code))),
            0x7f => Signal::from_number(high).map(Self::Stopped),
            signal => Signal::from_number(signal).map(|signal| Self::Ended(ExitStatus::Killed(signal))),
        }
    }
}

/// How hupwrap ends. This is the exit-code table of the contract, section 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ending {
    /// As the child ended.
    Child(ExitStatus),
    /// This signal told hupwrap to stop while no child ran.
    Told(Signal),
    /// hupwrap's own outcome: one of 124 to 127.
    Own(u8),
}

impl Ending {
    /// The status a shell shows for it.
    pub fn code(self) -> u8 {
        match self {
            Self::Child(ExitStatus::Exited(code)) | Self::Own(code) => code,
            Self::Child(ExitStatus::Killed(signal)) | Self::Told(signal) => {
                BY_SIGNAL.saturating_add(u8::try_from(signal.number()).unwrap_or(0))
            }
        }
    }

    /// The signal hupwrap ends by, so that its parent sees the death itself; none where it exits.
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Child(ExitStatus::Killed(signal)) => Some(signal),
            Self::Child(ExitStatus::Exited(_)) | Self::Told(_) | Self::Own(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_an_exit() {
        for code in 0..=255 {
            let status = ExitStatus::Exited(u8::try_from(code).unwrap());
            assert_eq!(Change::from_word(code << 8), Some(Change::Ended(status)));
            assert_eq!(i32::from(Ending::Child(status).code()), code);
            assert_eq!(Ending::Child(status).signal(), None);
        }
    }

    #[test]
    fn every_word_of_a_death_and_a_stop() {
        for signal in Signal::all() {
            let status = ExitStatus::Killed(signal);
            for core in [0, 0x80] {
                assert_eq!(Change::from_word(signal.number() | core), Some(Change::Ended(status)));
            }
            assert_eq!(Change::from_word(signal.number() << 8 | 0x7f), Some(Change::Stopped(signal)));
            assert_eq!(i32::from(Ending::Child(status).code()), 128 + signal.number());
            assert_eq!(Ending::Child(status).signal(), Some(signal));
            assert_eq!(i32::from(Ending::Told(signal).code()), 128 + signal.number());
            assert_eq!(Ending::Told(signal).signal(), None);
        }
    }
}
