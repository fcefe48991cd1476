//! `--map-status`, and how options name the end of a child (contract, section 4). Pure.

use super::value::repeated;
use crate::exit::ExitStatus;

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

fn mapping(said: &str) -> Result<(ExitStatus, u8), &'static str> {
    const WANT: &str = "want FROM=TO; FROM is 0 to 255 or a signal's name, TO is 0 to 255";
    let (from, to) = said.split_once('=').ok_or(WANT)?;
    Ok((exit_status(from).ok_or(WANT)?, code(to).ok_or(WANT)?))
}

/// How a child can end: a status from 0 to 255, or a signal's name. A number is a status, never a signal.
pub(super) fn exit_status(word: &str) -> Option<ExitStatus> {
    match word.starts_with(|c: char| c.is_ascii_digit()) {
        true => code(word).map(ExitStatus::Exited),
        false => word.parse().ok().map(ExitStatus::Killed),
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
