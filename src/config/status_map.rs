//! `--map-status`, and how options name the end of a child (contract, section 4). Pure.

use super::value::{near_signal, repeated};
use crate::exit::ExitStatus;
use crate::text::hints;

/// What `--map-status` says: which end of a child becomes which status.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusMap(Vec<(ExitStatus, u8)>);

impl StatusMap {
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub(super) fn new(said: &[String]) -> Result<Self, String> {
        repeated("--map-status", said, mapping).map(Self)
    }

    /// The status that hupwrap reports for the child's. The mapping is applied once: its result is not mapped again.
    pub fn map(&self, status: ExitStatus) -> ExitStatus {
        let to = self.0.iter().rev().find(|(from, _)| *from == status).map(|(_, to)| ExitStatus::Exited(*to));
        to.unwrap_or(status)
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
        let near = [said.replace(':', "="), format!("{said}=0")];
        format!("{WANT}{signal}{}", hints::first_accepted(&near, &|near| read(near).is_some()))
    })
}

/// How a child can end: a status from 0 to 255, or a signal's name. A number is a status, never a signal.
///
/// # Errors
/// A hint.
pub(super) fn exit_status(word: &str) -> Result<ExitStatus, String> {
    match word.starts_with(|c: char| c.is_ascii_digit()) {
        true => code(word).map(ExitStatus::Exited).ok_or_else(String::new),
        false => word.parse().map(ExitStatus::Killed).map_err(|_| near_signal(word)),
    }
}

fn code(word: &str) -> Option<u8> {
    // The parser of u8 would accept a sign.
    word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;

    #[test]
    fn what_may_have_been_meant() {
        for (said, hint) in [
            ("143", "; did you mean '143=0'?"),
            ("143:0", "; did you mean '143=0'?"),
            ("TERM", "; did you mean 'TERM=0'?"),
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
        for said in ["", "=", "1", "1=", "=1", "256=0", "0=256", "FOO=0", "0=TERM", "-1=0", "+1=0", "1=+0"] {
            let error = StatusMap::new(&[said.into()]).unwrap_err();
            assert!(error.starts_with(&format!("--map-status '{said}': want FROM=TO")), "{error}");
        }
    }
}
