//! What is known of a generation's main process, as it crosses a re-exec. Pure.

use std::fmt;
use std::str::FromStr;

use crate::exit::ExitStatus;
use crate::signal::{Signal, SignalSet};

/// The process that `MAINPID=` named last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Announced {
    /// Its pid.
    pub pid: i32,
    /// When it began, as `/proc/PID/stat` shows it. With the pid it is an identity. None without a /proc.
    pub began: Option<u64>,
}

/// When the file was written that names the main process: not a time to compare with others, because clocks are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    /// Which file it is.
    pub inode: u64,
    /// When its content was written last, by the file system's clock.
    pub seconds: i64,
    /// The rest of that.
    pub nanoseconds: i64,
}

/// A child that has ended while its main process may still be named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EndedChild {
    /// The pid that it had.
    pub pid: i32,
    /// How it ended.
    pub status: ExitStatus,
    /// Signals to forward, which the main process is to get.
    pub held: SignalSet,
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.began.unwrap_or(0))
    }
}

impl FromStr for Announced {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (pid, began) = text.split_once(' ').ok_or(())?;
        let began: u64 = began.parse().map_err(|_| ())?;
        let pid = pid.parse().ok().filter(|pid| *pid > 0).ok_or(())?;
        Ok(Self { pid, began: Some(began).filter(|began| *began > 0) })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} {}", self.inode, self.seconds, self.nanoseconds)
    }
}

impl FromStr for Written {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().ok_or(());
        Ok(Self {
            inode: word()?.parse().map_err(|_| ())?,
            seconds: word()?.parse().map_err(|_| ())?,
            nanoseconds: word()?.parse().map_err(|_| ())?,
        })
    }
}

impl fmt::Display for EndedChild {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (kind, number) = match self.status {
            ExitStatus::Exited(code) => ("code", i32::from(code)),
            ExitStatus::Killed(signal) => ("signal", signal.number()),
        };
        write!(f, "{} {kind} {number} {}", self.pid, self.held.bits())
    }
}

impl FromStr for EndedChild {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        let [pid, kind, number, held] = words.as_slice() else { return Err(()) };
        let status = match *kind {
            "code" => number.parse().ok().map(ExitStatus::Exited),
            "signal" => number.parse().ok().and_then(Signal::from_number).map(ExitStatus::Killed),
            _ => None,
        };
        Ok(Self {
            pid: pid.parse().ok().filter(|pid| *pid > 0).ok_or(())?,
            status: status.ok_or(())?,
            held: SignalSet::from_bits(held.parse().map_err(|_| ())?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was() {
        for announced in [Announced { pid: 7, began: Some(12) }, Announced { pid: 7, began: None }] {
            assert_eq!(announced.to_string().parse(), Ok(announced));
        }
        let mut held = SignalSet::EMPTY;
        held.insert(Signal::TERM);
        for status in [ExitStatus::Exited(3), ExitStatus::Killed(Signal::KILL)] {
            let ended = EndedChild { pid: 7, status, held };
            assert_eq!(ended.to_string().parse(), Ok(ended));
        }
        for bad in ["", "7", "0 code 0 0", "-1 code 0 0", "7 code 256 0", "7 code 0 0 x", "7 x 0 0"] {
            assert_eq!(bad.parse::<EndedChild>(), Err(()), "{bad}");
        }
        let written = Written { inode: 7, seconds: -1, nanoseconds: 9 };
        assert_eq!(written.to_string().parse(), Ok(written));
        for bad in ["", "7", "7 1", "-7 1 2", "7 x 2", "7 1 2 3"] {
            assert_eq!(bad.parse::<Written>(), Err(()), "{bad}");
        }
        for bad in ["", "7", "0 1", "-1 1", "7 x"] {
            assert_eq!(bad.parse::<Announced>(), Err(()), "{bad}");
        }
    }
}
