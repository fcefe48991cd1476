//! What each signal does: the actions and the table of signals (contract, section 2). Pure.

use std::fmt;
use std::str::FromStr;

use super::value::{self, value};
use crate::signal::{Signal, SignalSet};
use crate::text::hints;

/// What a signal that is sent to hupwrap does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The child is stopped, then started again.
    Restart,
    /// A new child is started; when it is ready, the old one is stopped.
    Replace,
    /// hupwrap re-executes itself; the new hupwrap stops the child and starts it again.
    Reexec,
    /// hupwrap re-executes itself; the new hupwrap replaces the child.
    UpgradeReplace,
    /// hupwrap re-executes itself; the child keeps running.
    Upgrade,
    /// The child receives the signal, or another in its place.
    Forward(Option<Signal>),
    /// The child is stopped permanently, by this signal. Without one, TERM sends `--stop-signal` and any other signal
    /// sends itself.
    Stop(Option<Signal>),
    /// Nothing happens.
    Ignore,
    /// The signal is not caught: the kernel's default action applies. For faults, CHLD, KILL and STOP.
    LeftAlone,
}

impl Action {
    /// Whether it asks for something new: a child, a hupwrap, or both.
    pub fn is_request(self) -> bool {
        matches!(self, Self::Restart | Self::Replace | Self::Reexec | Self::UpgradeReplace | Self::Upgrade)
    }
}

/// The actions as `--on` takes them. The completions and the man page name the same.
pub const ACTIONS: [&str; 8] =
    ["restart", "reexec", "replace", "upgrade", "upgrade+replace", "forward", "stop", "ignore"];

impl FromStr for Action {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::read(word).map_err(|error| {
            error.unwrap_or_else(|| {
                let name = word.split(':').next().unwrap_or_default();
                let mut hint = hints::did_you_mean(name, &ACTIONS);
                if hint.is_empty() {
                    let action = word.split('=').next_back().unwrap_or_default();
                    let kill = if word.eq_ignore_ascii_case("kill") { "stop:KILL" } else { "" };
                    let forward = if word == "reload" { "forward" } else { "" };
                    let meant = [
                        action.to_owned(),
                        forward.to_owned(),
                        kill.to_owned(),
                        format!("forward:{}", word.to_ascii_uppercase()),
                    ];
                    hint = hints::first_accepted(&meant, &|word| Self::read(word).is_ok());
                }
                format!("no such action; the actions are {}{hint}", ACTIONS.join(", "))
            })
        })
    }
}

impl Action {
    /// None where it is no action.
    fn read(word: &str) -> Result<Self, Option<String>> {
        let (name, with) = word.split_once(':').map_or((word, None), |(name, signal)| (name, Some(signal)));
        let parse = if name == "stop" { value::stop_signal } else { value::signal };
        let signal = || with.map(|said| parse(said).map_err(|error| format!("'{said}': {error}"))).transpose();
        match (name, with) {
            ("restart", None) => Ok(Self::Restart),
            // The short name stands for the long one.
            ("reexec" | "upgrade+restart", None) => Ok(Self::Reexec),
            ("replace", None) => Ok(Self::Replace),
            ("upgrade+replace", None) => Ok(Self::UpgradeReplace),
            ("upgrade", None) => Ok(Self::Upgrade),
            ("forward", _) => Ok(Self::Forward(signal()?)),
            ("stop", _) => Ok(Self::Stop(signal()?)),
            ("ignore", None) => Ok(Self::Ignore),
            (name, Some(_)) if ACTIONS.contains(&name) => {
                Err(Some(format!("'{name}' takes no signal; forward:SIG and stop:SIG do")))
            }
            _ => Err(None),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Reexec => "reexec",
            Self::UpgradeReplace => "upgrade+replace",
            Self::Upgrade => "upgrade",
            Self::Forward(None) => "forward",
            Self::Stop(None) => "stop",
            Self::Forward(Some(signal)) => return write!(f, "forward:{signal}"),
            Self::Stop(Some(signal)) => return write!(f, "stop:{signal}"),
            Self::Ignore | Self::LeftAlone => "ignore",
        };
        f.write_str(name)
    }
}

/// The action of each signal.
#[derive(Clone, PartialEq, Eq)]
pub struct SignalTable {
    actions: [Action; 65],
    /// The signals that the command line named.
    named: SignalSet,
}

impl SignalTable {
    /// Reads `--on` and `--on-hup`. `before_on_hup` of the `on` came before the last `on_hup`; for one signal, the last
    /// action counts.
    ///
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub(super) fn new(on: &[String], on_hup: &[String], before_on_hup: usize) -> Result<Self, String> {
        let mut table = Self::default();
        let (before, after) = on.split_at_checked(before_on_hup).unwrap_or((on, &[]));
        for said in before {
            table.set(value("--on", said, signal_and_action)?);
        }
        for said in on_hup {
            table.set((Signal::HUP, value("--on-hup", said, str::parse)?));
        }
        for said in after {
            table.set(value("--on", said, signal_and_action)?);
        }
        Ok(table)
    }

    /// The action of the signal.
    pub fn of(&self, signal: Signal) -> Action {
        self.actions.get(signal.index()).copied().unwrap_or(Action::LeftAlone)
    }

    /// Whether a signal has such an action.
    pub(crate) fn any(&self, is: impl Fn(Action) -> bool) -> bool {
        self.actions.iter().any(|action| is(*action))
    }

    /// Whether `--on` or `--on-hup` named the signal.
    pub fn is_named(&self, signal: Signal) -> bool {
        self.named.contains(signal)
    }

    /// Has a signal ignored that was ignored at the start, unless the command line names it: a job that a script
    /// started with `&` ignores INT and QUIT (POSIX, `sh`, 2.11).
    pub fn ignore_unless_named(&mut self, signal: Signal) {
        if !self.is_named(signal)
            && let Some(slot) = self.actions.get_mut(signal.index())
        {
            *slot = Action::Ignore;
        }
    }

    fn set(&mut self, (signal, action): (Signal, Action)) {
        self.named.insert(signal);
        if let Some(slot) = self.actions.get_mut(signal.index()) {
            *slot = action;
        }
    }
}

fn signal_and_action(said: &str) -> Result<(Signal, Action), String> {
    read_pair(said).map_err(|error| {
        let (left, right) = said.split_once('=').unwrap_or_default();
        let meant = [
            said.replacen([':', ' '], "=", 1),
            said.replace(' ', ""),
            format!("{right}={left}"),
            format!("{left}={}", right.replacen('=', ":", 1)),
            // As dumb-init has it.
            said.replacen(':', "=forward:", 1),
        ];
        match hints::first_accepted(&meant, &|said| read_pair(said).is_ok()) {
            hint if hint.is_empty() => error,
            hint => format!("{WANT_PAIR}{hint}"),
        }
    })
}

const WANT_PAIR: &str = "want SIGNAL=ACTION, such as USR1=restart";

fn read_pair(said: &str) -> Result<(Signal, Action), String> {
    let (signal, action) = said.split_once('=').ok_or(WANT_PAIR)?;
    let action = action.parse::<Action>().map_err(|error| format!("'{action}': {error}"))?;
    let signal = value::signal(signal).map_err(|error| format!("'{signal}': {error}"))?;
    match (signal, action) {
        _ if !signal.can_be_caught() => Err(format!("no program can catch {signal}; name another signal")),
        // It would ask the child to end by a signal that ends nothing.
        (Signal::CONT | Signal::TSTP | Signal::TTIN | Signal::TTOU, Action::Stop(None)) => {
            Err(format!("want {signal}=stop:SIG, such as {signal}=stop:TERM"))
        }
        _ => Ok((signal, action)),
    }
}

impl Default for SignalTable {
    /// The signal table of the contract, section 2.
    fn default() -> Self {
        let mut table = Self { actions: [Action::LeftAlone; 65], named: SignalSet::EMPTY };
        for signal in Signal::all() {
            let action = match signal {
                Signal::HUP => Action::Restart,
                Signal::TERM | Signal::INT | Signal::QUIT => Action::Stop(None),
                Signal::CHLD => Action::LeftAlone,
                _ if signal.is_fault() || !signal.can_be_caught() => Action::LeftAlone,
                _ => Action::Forward(None),
            };
            table.set((signal, action));
        }
        table.named = SignalSet::EMPTY;
        table
    }
}

impl fmt::Debug for SignalTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Signal::all().map(|signal| (signal, self.of(signal)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(said: &[&str]) -> Result<SignalTable, String> {
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        SignalTable::new(&said, &[], 0)
    }

    #[test]
    fn the_signal_table() {
        let on = SignalTable::default();
        for signal in Signal::all() {
            let want = match signal.number() {
                1 => Action::Restart,
                2 | 3 | 15 => Action::Stop(None),
                4 | 5 | 6 | 7 | 8 | 11 | 31 | 9 | 17 | 19 => Action::LeftAlone,
                _ => Action::Forward(None),
            };
            assert_eq!(on.of(signal), want, "{signal}");
        }
    }

    #[test]
    fn the_last_action_counts() {
        let on = on(&["USR1=restart", "sigusr1=stop:KILL", "SEGV=forward", "RTMIN+3=upgrade", "HUP=upgrade+restart"]);
        let of = |name: &str| on.as_ref().unwrap().of(name.parse().unwrap());
        assert_eq!(of("USR1"), Action::Stop(Some(Signal::KILL)));
        assert_eq!(of("SEGV"), Action::Forward(None));
        assert_eq!(of("RTMIN+3"), Action::Upgrade);
        assert_eq!(of("HUP"), Action::Reexec);
    }

    #[test]
    fn on_hup_counts_at_its_place() {
        let hup = |on: &[&str], on_hup: &[&str], before: usize| {
            let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
            SignalTable::new(&words(on), &words(on_hup), before).unwrap().of(Signal::HUP)
        };
        assert_eq!(hup(&[], &["ignore"], 0), Action::Ignore);
        assert_eq!(hup(&["HUP=upgrade"], &["ignore"], 0), Action::Upgrade);
        assert_eq!(hup(&["HUP=upgrade"], &["ignore"], 1), Action::Ignore);
        assert_eq!(hup(&["USR1=stop", "HUP=upgrade", "USR2=stop"], &["ignore"], 2), Action::Ignore);
        assert_eq!(hup(&["USR2=stop"], &["stop", "ignore"], 0), Action::Ignore);
    }

    #[test]
    fn a_swap_is_applied_once() {
        let on = on(&["TERM=forward:INT", "INT=forward:TERM"]).unwrap();
        assert_eq!(on.of(Signal::TERM), Action::Forward(Some(Signal::INT)));
        assert_eq!(on.of(Signal::INT), Action::Forward(Some(Signal::TERM)));
    }

    #[test]
    fn actions_that_make_no_sense() {
        let all =
            "no such action; the actions are restart, reexec, replace, upgrade, upgrade+replace, forward, stop, ignore";
        for (said, error) in [
            ("KILL=stop", "no program can catch KILL; name another signal".to_owned()),
            ("USR1", "want SIGNAL=ACTION, such as USR1=restart".to_owned()),
            ("USR1=reboot", format!("'reboot': {all}")),
            ("USR1=re-exec", format!("'re-exec': {all}; did you mean 'reexec'?")),
            ("USR1=stopp:INT", format!("'stopp:INT': {all}; did you mean 'stop'?")),
            (
                "USR1=stop:STOP",
                "'stop:STOP': 'STOP': it only suspends a process; want a signal that asks it to end, such as TERM"
                    .to_owned(),
            ),
            (
                "USR1=stop:TTOU",
                "'stop:TTOU': 'TTOU': it only suspends a process; want a signal that asks it to end, such as TERM"
                    .to_owned(),
            ),
            ("CONT=stop", "want CONT=stop:SIG, such as CONT=stop:TERM".to_owned()),
            ("TSTP=stop", "want TSTP=stop:SIG, such as TSTP=stop:TERM".to_owned()),
            ("ttin=stop", "want TTIN=stop:SIG, such as TTIN=stop:TERM".to_owned()),
            ("HUP:restart", "want SIGNAL=ACTION, such as USR1=restart; did you mean 'HUP=restart'?".to_owned()),
            ("HUP restart", "want SIGNAL=ACTION, such as USR1=restart; did you mean 'HUP=restart'?".to_owned()),
            ("HUP = restart", "want SIGNAL=ACTION, such as USR1=restart; did you mean 'HUP=restart'?".to_owned()),
            ("restart=HUP", "want SIGNAL=ACTION, such as USR1=restart; did you mean 'HUP=restart'?".to_owned()),
            ("USR1=forward=USR2", format!("{WANT_PAIR}; did you mean 'USR1=forward:USR2'?")),
            ("15:3", format!("{WANT_PAIR}; did you mean '15=forward:3'?")),
            ("USR1=reload", format!("'reload': {all}; did you mean 'forward'?")),
            ("HUP=USR1", format!("'USR1': {all}; did you mean 'forward:USR1'?")),
            ("HUP=kill", format!("'kill': {all}; did you mean 'stop:KILL'?")),
            ("HUP=STOP", format!("'STOP': {all}; did you mean 'stop'?")),
            ("USR1=restart:TERM", "'restart:TERM': 'restart' takes no signal; forward:SIG and stop:SIG do".to_owned()),
            ("USR1=restart:", "'restart:': 'restart' takes no signal; forward:SIG and stop:SIG do".to_owned()),
        ] {
            assert_eq!(on(&[said]).unwrap_err(), format!("--on '{said}': {error}"));
        }
        for said in ["", "=", "USR1=", "=stop", "USR3=stop", "USR1=stop:", "USR1=stop:FOO", "USR1=replace:"] {
            let error = on(&[said]).unwrap_err();
            assert!(error.starts_with(&format!("--on '{said}': ")), "{error}");
        }
        let error = SignalTable::new(&[], &["HUP=restart".into()], 0).unwrap_err();
        assert_eq!(error, format!("--on-hup 'HUP=restart': {all}; did you mean 'restart'?"));
        // An earlier value is not forgiven because a later one counts.
        assert!(SignalTable::new(&[], &["nonsense".into(), "stop".into()], 0).is_err());
    }
}
