//! One option and its value. Every error names both. Pure.

use std::ffi::OsString;
use std::fmt::Display;

use crate::signal::Signal;
use crate::text::hints;

/// Parses the value of an option.
///
/// # Errors
/// One line that names the option and its value, and says what would be right.
pub(super) fn value<T, E: Display>(
    option: &str,
    said: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, String> {
    parse(said).map_err(|error| format!("{option} '{said}': {error}"))
}

/// The same for an option that may be absent.
///
/// # Errors
/// As [`value`].
pub(super) fn optional<T, E: Display>(
    option: &str,
    said: &Option<String>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    said.as_deref().map(|said| value(option, said, parse)).transpose()
}

/// The same for an option that may be repeated.
///
/// # Errors
/// As [`value`].
pub(super) fn repeated<T, E: Display>(
    option: &str,
    said: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, String> {
    said.iter().map(|said| value(option, said, &parse)).collect()
}

/// Checks that no path of an option is empty.
///
/// # Errors
/// One line that names the option and says what would be right.
pub(super) fn not_empty<'a>(
    option: &str,
    want: &str,
    paths: impl IntoIterator<Item = &'a OsString>,
) -> Result<(), String> {
    match paths.into_iter().any(|path| path.is_empty()) {
        true => Err(format!("{option} '': the path is empty; want {want}")),
        false => Ok(()),
    }
}

/// Parses a signal.
///
/// # Errors
/// Says what a signal is, and which one may have been meant.
pub(super) fn signal(said: &str) -> Result<Signal, String> {
    said.parse::<Signal>().map_err(|error| format!("{error}{}", near_signal(said)))
}

/// Parses a signal that asks a process to end. Any signal but these two can do that: nobody can catch STOP, and every
/// stop signal is followed by CONT.
///
/// # Errors
/// As [`signal`].
pub(super) fn stop_signal(said: &str) -> Result<Signal, String> {
    let does = match signal(said)? {
        // The CONT behind it would undo it.
        Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU => "suspends",
        Signal::CONT => "continues",
        signal => return Ok(signal),
    };
    Err(format!("it only {does} a process; want a signal that asks it to end, such as TERM"))
}

/// A hint at the signal that may have been meant.
pub(super) fn near_signal(said: &str) -> String {
    let names: Vec<String> = Signal::all().map(|signal| signal.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let upper = said.to_ascii_uppercase();
    // Somebody means every signal, and not ILL.
    if upper == "ALL" {
        return String::new();
    }
    hints::did_you_mean(upper.strip_prefix("SIG").unwrap_or(&upper), &names)
}

/// Words of other programs, and those that mean the same here.
const HABITS: [(&str, &str); 3] = [("unless-stopped", "always"), ("control-group", "mixed"), ("cgroup", "mixed")];

/// Parses one of a few words.
pub(super) fn choice<T: Copy, const N: usize>(words: [(&'static str, T); N]) -> impl Fn(&str) -> Result<T, String> {
    move |said| {
        let found = words.iter().find(|(word, _)| *word == said).map(|(_, meaning)| *meaning);
        let names = words.map(|(word, _)| word);
        let habit = HABITS.iter().find(|(habit, word)| *habit == said && names.contains(word));
        let meant = habit.map_or(said, |(_, word)| word);
        found.ok_or_else(|| format!("want {}{}", hints::any_of(&names), hints::did_you_mean(meant, &names)))
    }
}
