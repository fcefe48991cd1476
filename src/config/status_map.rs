//! `--map-status`, and how options name the end of a child (contract, section 4). Pure.

use super::value::{near_signal, repeated};
use crate::exit::ExitStatus;
use crate::signal::Signal;
use crate::text::hints;

/// What `--map-status` says: which end of a child becomes which status.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusMap(Vec<(ExitStatus, u8)>);

impl StatusMap {
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub(super) fn new(said: &[String]) -> Result<Self, String> {
        let all = repeated("--map-status", said, mapping)?;
        let is_alone = |(from, _): &(ExitStatus, u8)| all.iter().filter(|(other, _)| other == from).count() == 1;
        let is_useless = |pair: &(ExitStatus, u8)| pair.0 == ExitStatus::Exited(pair.1) && is_alone(pair);
        match all.iter().zip(said).find(|(pair, _)| is_useless(pair)) {
            Some((_, said)) => Err(format!("--map-status '{said}': has no effect; want another status, or remove it")),
            None => Ok(Self(all)),
        }
    }

    /// The status that hupwrap reports for the child's. The mapping is applied once: its result is not mapped again.
    pub fn map(&self, status: ExitStatus) -> ExitStatus {
        let to = self.0.iter().rev().find(|(from, _)| *from == status).map(|(_, to)| ExitStatus::Exited(*to));
        to.unwrap_or(status)
    }

    /// Whether a status that can be mapped is none that is left after it.
    pub(super) fn hides(&self, status: ExitStatus) -> bool {
        let is_own = matches!(status, ExitStatus::Exited(124..=127));
        let remains = self.map(status) == status || self.0.iter().any(|(from, _)| self.map(*from) == status);
        !is_own && !remains
    }
}

fn mapping(said: &str) -> Result<(ExitStatus, u8), String> {
    const WANT: &str = "want FROM=TO; FROM is 0 to 255 or a signal's name, TO is 0 to 255";
    let read = |said: &str| {
        let (from, to) = said.split_once('=')?;
        Some((exit_status(from).ok()?, code(to)?))
    };
    read(said).ok_or_else(|| {
        let signal = said.split_once('=').and_then(|(from, _)| exit_status(from).err()).unwrap_or_default();
        if said.contains(',') && said.split(',').all(|pair| read(pair).is_some()) {
            return format!("{WANT}; repeat the option for each");
        }
        let near = [said.replace(':', "="), said.replace(' ', ""), format!("{said}=0")];
        format!("{WANT}{signal}{}", hints::first_accepted(&near, &|near| read(near).is_some()))
    })
}

/// What suspends a process, or does nothing to it, unless the process itself acts on it.
const NEVER_ENDS: [Signal; 7] =
    [Signal::CHLD, Signal::CONT, Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::WINCH];

/// How a child can end: a status from 0 to 255, or a signal's name. A number is a status, never a signal.
///
/// # Errors
/// A hint.
pub(super) fn exit_status(word: &str) -> Result<ExitStatus, String> {
    match word.starts_with(|c: char| c.is_ascii_digit()) {
        true => code(word).map(ExitStatus::Exited).ok_or_else(String::new),
        false => match word.parse().map_err(|_| near_signal(word))? {
            signal if NEVER_ENDS.contains(&signal) => Err(format!("; no process ends by {signal}")),
            signal => Ok(ExitStatus::Killed(signal)),
        },
    }
}

fn code(word: &str) -> Option<u8> {
    // The parser of u8 would accept a sign.
    word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_meant() {
        for (said, hint) in [
            ("143", "; did you mean '143=0'?"),
            ("143:0", "; did you mean '143=0'?"),
            ("TERM", "; did you mean 'TERM=0'?"),
            ("143=0,130=0", "; repeat the option for each"),
            ("143 = 0", "; did you mean '143=0'?"),
            ("STOP=0", "; no process ends by STOP"),
            ("ALL=0", ""),
            ("TREM=0", "; did you mean 'TERM'?"),
            ("256", ""),
            ("1=256", ""),
        ] {
            assert!(mapping(said).unwrap_err().ends_with(&format!("TO is 0 to 255{hint}")), "{said}");
        }
    }

    #[test]
    fn statuses_are_mapped_once_and_the_last_rule_counts() {
        let map = StatusMap::new(&["143=0", "TERM=7", "7=8", "1=2", "1=3"].map(str::to_owned)).unwrap();
        assert_eq!(map.map(ExitStatus::Exited(143)), ExitStatus::Exited(0));
        assert_eq!(map.map(ExitStatus::Killed(Signal::TERM)), ExitStatus::Exited(7));
        assert_eq!(map.map(ExitStatus::Exited(1)), ExitStatus::Exited(3));
        assert_eq!(map.map(ExitStatus::Exited(9)), ExitStatus::Exited(9));
        assert_eq!(map.map(ExitStatus::Killed(Signal::KILL)), ExitStatus::Killed(Signal::KILL));
        let new = |said: &[&str]| StatusMap::new(&said.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            new(&["1=0", "3=3"]).unwrap_err(),
            "--map-status '3=3': has no effect; want another status, or remove it"
        );
        assert!(new(&["3=0", "3=3"]).is_ok());
        for said in ["", "=", "1", "1=", "=1", "256=0", "0=256", "FOO=0", "0=TERM", "-1=0", "+1=0", "1=+0"] {
            let error = StatusMap::new(&[said.into()]).unwrap_err();
            assert!(error.starts_with(&format!("--map-status '{said}': want FROM=TO")), "{error}");
        }
    }
}
