//! Signals by name and number. Pure: the numbers come from signal-hook, the names from nix, the real-time range from
//! glibc.

use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal as Named;
use signal_hook::consts;

/// The first real-time signal a program may use; glibc keeps 32 and 33 for itself (`signal(7)`).
const RTMIN: u8 = 34;
/// The last signal of Linux (`_NSIG` is 65).
const RTMAX: u8 = 64;

/// A signal of Linux, 1 to 64. It reads and writes itself as `TERM`, `RTMIN+3` or, for the two that glibc hides, `32`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

impl Signal {
    /// Hang-up, and by custom "read your configuration again".
    pub const HUP: Self = Self::of(consts::SIGHUP);
    /// Ctrl-C.
    pub const INT: Self = Self::of(consts::SIGINT);
    /// Ctrl-\.
    pub const QUIT: Self = Self::of(consts::SIGQUIT);
    /// Cannot be caught.
    pub const KILL: Self = Self::of(consts::SIGKILL);
    /// A write to a pipe without a reader.
    pub const PIPE: Self = Self::of(consts::SIGPIPE);
    /// The polite request to end.
    pub const TERM: Self = Self::of(consts::SIGTERM);
    /// A child changed state.
    pub const CHLD: Self = Self::of(consts::SIGCHLD);
    /// Continue after a stop.
    pub const CONT: Self = Self::of(consts::SIGCONT);
    /// Cannot be caught.
    pub const STOP: Self = Self::of(consts::SIGSTOP);
    /// Ctrl-Z.
    pub const TSTP: Self = Self::of(consts::SIGTSTP);
    /// A background process read from its terminal.
    pub const TTIN: Self = Self::of(consts::SIGTTIN);
    /// A background process wrote to its terminal.
    pub const TTOU: Self = Self::of(consts::SIGTTOU);
    /// A write beyond the limit of a file's size.
    pub const XFSZ: Self = Self::of(consts::SIGXFSZ);
    /// The terminal's size changed.
    pub const WINCH: Self = Self::of(consts::SIGWINCH);

    /// The signals the kernel raises for a fault of the program itself: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS.
    const FAULTS: SignalSet = SignalSet::of(&[
        Self::of(consts::SIGILL),
        Self::of(consts::SIGTRAP),
        Self::of(consts::SIGABRT),
        Self::of(consts::SIGBUS),
        Self::of(consts::SIGFPE),
        Self::of(consts::SIGSEGV),
        Self::of(consts::SIGSYS),
    ]);

    /// A signal of signal-hook's table; all of them are below 32.
    const fn of(number: i32) -> Self {
        Self(number.to_le_bytes()[0])
    }

    /// The signal with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=RTMAX).contains(n)).map(Self)
    }

    /// The number, 1 to 64.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Its place in a table indexed by number.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Whether a process may decide what it means: all but KILL and STOP.
    pub fn can_be_caught(self) -> bool {
        self != Self::KILL && self != Self::STOP
    }

    /// Whether the kernel raises it for a fault of the program itself.
    pub fn is_fault(self) -> bool {
        Self::FAULTS.contains(self)
    }

    /// Whether it is one of the three that stop a process for the sake of its terminal: TSTP, TTIN, TTOU.
    pub fn is_job_control(self) -> bool {
        matches!(self, Self::TSTP | Self::TTIN | Self::TTOU)
    }

    /// Whether a process that is being stopped may pass it on: then it matters who has sent it.
    pub fn may_echo(self) -> bool {
        matches!(self, Self::TERM | Self::INT | Self::QUIT | Self::HUP)
    }

    /// Every signal, in numeric order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=RTMAX).map(Self)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Named::try_from(self.number()) {
            Ok(named) => f.write_str(named.as_str().trim_start_matches("SIG")),
            Err(_) if self.0 == RTMIN => f.write_str("RTMIN"),
            Err(_) if self.0 == RTMAX => f.write_str("RTMAX"),
            Err(_) => match self.0.checked_sub(RTMIN) {
                Some(offset) => write!(f, "RTMIN+{offset}"),
                None => write!(f, "{}", self.0),
            },
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A word that names no signal.
#[derive(Debug, PartialEq, Eq)]
pub struct NoSuchSignal;

impl fmt::Display for NoSuchSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such signal; a signal is a name (HUP, SIGHUP), a number (1 to 64) or RTMIN+3")
    }
}

impl FromStr for Signal {
    type Err = NoSuchSignal;

    /// Takes `HUP`, `SIGHUP`, `hup`, `1`, `RTMIN+3`, `RTMAX-1`, and the aliases `IOT`, `CLD` and `POLL` of `signal(7)`.
    fn from_str(word: &str) -> Result<Self, NoSuchSignal> {
        if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
            return word.parse().ok().and_then(Self::from_number).ok_or(NoSuchSignal);
        }
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let offset = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<u8>().ok(),
            false => None,
        };
        let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
            match rest.strip_prefix('+') {
                Some(digits) => offset(digits).and_then(|n| RTMIN.checked_add(n)),
                None => rest.is_empty().then_some(RTMIN),
            }
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            match rest.strip_prefix('-') {
                Some(digits) => offset(digits).and_then(|n| RTMAX.checked_sub(n)),
                None => rest.is_empty().then_some(RTMAX),
            }
        } else {
            let name = match name {
                "IOT" => "ABRT",
                "CLD" => "CHLD",
                "POLL" => "IO",
                other => other,
            };
            return Self::all()
                .take_while(|signal| signal.0 < 32)
                .find(|signal| signal.to_string() == name)
                .ok_or(NoSuchSignal);
        };
        real_time.filter(|n| (RTMIN..=RTMAX).contains(n)).map(Self).ok_or(NoSuchSignal)
    }
}

/// A set of signals as the kernel writes it: bit N-1 is signal N.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SignalSet(u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal. The kernel itself leaves KILL and STOP out of a mask.
    pub const ALL: Self = Self(u64::MAX);
    /// What is blocked while nothing is known yet: every signal but the faults.
    pub const ALL_BUT_FAULTS: Self = Self(!Signal::FAULTS.0);

    const fn of(signals: &[Signal]) -> Self {
        let mut bits = 0;
        let mut rest = signals;
        while let [first, tail @ ..] = rest {
            bits |= 1 << first.0.saturating_sub(1);
            rest = tail;
        }
        Self(bits)
    }

    /// The set whose kernel representation this is.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's representation.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the signal is in it.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & Self::of(&[signal]).0 != 0
    }

    /// Puts a signal in.
    pub fn insert(&mut self, signal: Signal) {
        self.0 |= Self::of(&[signal]).0;
    }

    /// Takes a signal out.
    pub fn remove(&mut self, signal: Signal) {
        self.0 &= !Self::of(&[signal]).0;
    }

    /// The signals in it, in numeric order.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::all().filter(move |signal| self.contains(*signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_reads_back_from_its_own_name() {
        for signal in Signal::all() {
            assert_eq!(signal.to_string().parse(), Ok(signal));
            assert_eq!(
                format!("SIG{signal}").to_lowercase().parse(),
                if signal.0 == 32 || signal.0 == 33 { Err(NoSuchSignal) } else { Ok(signal) }
            );
            assert_eq!(signal.number().to_string().parse(), Ok(signal));
        }
    }

    #[test]
    fn names_of_the_field() {
        let cases = [
            ("HUP", 1),
            ("sighup", 1),
            ("1", 1),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("sigrtmax-1", 63),
            ("RTMAX", 64),
            ("IOT", 6),
            ("cld", 17),
            ("POLL", 29),
            ("PWR", 30),
            ("STKFLT", 16),
        ];
        for (word, number) in cases {
            assert_eq!(word.parse::<Signal>().map(Signal::number), Ok(number), "{word}");
        }
    }

    #[test]
    fn words_that_are_no_signal() {
        for word in [
            "",
            "SIG",
            "0",
            "65",
            "-1",
            "+1",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+",
            "RTMIN++1",
            "RTMIN+ 1",
            "HUPP",
            "99999999999999999999",
            "H\u{dc}P",
        ] {
            assert_eq!(word.parse::<Signal>(), Err(NoSuchSignal), "{word}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = SignalSet::EMPTY;
        for signal in Signal::all() {
            assert!(!set.contains(signal));
            set.insert(signal);
            assert!(set.contains(signal));
        }
        assert_eq!(set, SignalSet::ALL);
        set.remove(Signal::HUP);
        assert_eq!(set.bits(), u64::MAX - 1);
        assert_eq!(set.iter().count(), 63);
        assert_eq!(SignalSet::ALL_BUT_FAULTS.iter().count(), 57);
    }
}
