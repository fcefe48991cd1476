//! Durations, read and written: the only place that puts a time into words. Pure.

use std::fmt;
use std::time::Duration;

use crate::text::hints;

/// An upper bound on a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// No bound.
    Never,
    /// At most this long.
    After(Duration),
}

/// The longest duration that is accepted: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
const TOO_LONG: &str = "more than ten years, or finer than a nanosecond";
const WANT: &str = "want a duration such as 10s, 1m30s, 250ms or 1.5 (seconds)";

/// Reads a duration, or `never`.
///
/// # Errors
/// Says what would be right.
pub(crate) fn limit(said: &str) -> Result<Limit, String> {
    match said {
        "never" => Ok(Limit::Never),
        _ if is_endless(said) => Err(format!("{WANT}, or never; did you mean 'never'?")),
        _ => read(said, &format!("{WANT}, or never")).map(Limit::After),
    }
}

/// Reads a duration: `10s`, `1m30s`, `250ms`, a bare number of seconds (`1.5`).
///
/// # Errors
/// Says what would be right.
pub(crate) fn duration(said: &str) -> Result<Duration, String> {
    match is_endless(said) {
        true => Err(format!("'never' is not possible here; {WANT}")),
        false => read(said, WANT),
    }
}

/// Whether this is `never`, or another word for it.
fn is_endless(said: &str) -> bool {
    let words = ["never", "infinity", "infinite", "inf", "forever", "unlimited", "none", "off"];
    words.iter().any(|word| said.eq_ignore_ascii_case(word))
}

fn read(said: &str, want: &str) -> Result<Duration, String> {
    if said.starts_with('-') {
        return Err(format!("a duration is not negative; {want}"));
    }
    check(said).map_err(|why| {
        let plain = said.to_ascii_lowercase().replace(',', ".").replace(' ', "");
        // `1h30`: the unit of the last number is missing.
        let smaller = match plain.trim_end_matches(|c: char| c.is_ascii_digit()).chars().next_back() {
            Some('d') => "h",
            Some('h') => "m",
            Some('m') => "s",
            _ => "",
        };
        let near = [plain.clone(), format!("{plain}{smaller}")];
        format!("{why}{want}{}", hints::first_accepted(&near, &|near| check(near).is_ok()))
    })
}

/// Reads a duration, or says why it is not one, as far as that is known.
fn check(said: &str) -> Result<Duration, String> {
    if let Some((unit, name)) = calendar_unit(said) {
        return Err(format!("'{unit}' is {name}, which is not accepted; the longest unit is a day (30d); "));
    }
    match parse(said) {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err(format!("{TOO_LONG}; ")),
        Err(_) => Err(String::new()),
    }
}

fn parse(said: &str) -> Result<Duration, humantime::DurationError> {
    let is_bare = said.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !said.is_empty();
    match said {
        _ if !is_bare => humantime::parse_duration(said),
        _ if said.starts_with('.') => humantime::parse_duration(&format!("0{said}s")),
        _ => humantime::parse_duration(&format!("{said}s")),
    }
}

/// humantime knows months and years. Nobody waits that long, and `1M` is a typing error more often than a month.
fn calendar_unit(said: &str) -> Option<(&str, &'static str)> {
    said.split(|c: char| !c.is_ascii_alphabetic()).find_map(|unit| match &*unit.to_ascii_lowercase() {
        "m" if unit == "M" => Some((unit, "a month")),
        "month" | "months" => Some((unit, "a month")),
        "y" | "yr" | "year" | "years" => Some((unit, "a year")),
        _ => None,
    })
}

/// A duration for people: rounded, in at most two units.
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(time) = *self;
        let rounded = |unit: Duration| {
            let half = unit.checked_div(2).unwrap_or_default();
            time.saturating_add(half).as_nanos().checked_div(unit.as_nanos()).unwrap_or_default()
        };
        let (micros, millis) = (rounded(Duration::from_micros(1)), rounded(Duration::from_millis(1)));
        let (tenths, seconds) = (rounded(Duration::from_millis(100)), rounded(Duration::from_secs(1)));
        let (minutes, hours) = (rounded(Duration::from_secs(60)), rounded(Duration::from_secs(60 * 60)));
        match time {
            Duration::ZERO => f.write_str("0s"),
            _ if micros < 1000 => write!(f, "{}us", micros.max(1)),
            _ if millis < 1000 => write!(f, "{millis}ms"),
            _ if tenths < 600 && tenths % 10 != 0 => write!(f, "{}.{}s", tenths / 10, tenths % 10),
            _ if tenths < 600 => write!(f, "{}s", tenths / 10),
            _ if seconds < 60 * 60 => two_units(f, (seconds / 60, "m"), (seconds % 60, "s")),
            _ if minutes < 24 * 60 => two_units(f, (minutes / 60, "h"), (minutes % 60, "m")),
            _ => two_units(f, (hours / 24, "d"), (hours % 24, "h")),
        }
    }
}

fn two_units(f: &mut fmt::Formatter<'_>, large: (u128, &str), small: (u128, &str)) -> fmt::Result {
    write!(f, "{}{}", large.0, large.1)?;
    match small {
        (0, _) => Ok(()),
        (count, unit) => write!(f, " {count}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_read() {
        for (said, millis) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5", 1500),
            ("0", 0),
            ("0s", 0),
            ("0.0", 0),
            ("2h", 7_200_000),
            ("1m 30s", 90_000),
            ("3", 3000),
            (".5", 500),
            ("1min", 60_000),
            ("1.5m", 90_000),
        ] {
            assert_eq!(limit(said), Ok(Limit::After(Duration::from_millis(millis))), "{said}");
            assert_eq!(duration(said), Ok(Duration::from_millis(millis)), "{said}");
        }
        assert_eq!(limit("never"), Ok(Limit::Never));
    }

    #[test]
    fn what_is_not_read_says_what_would_be_right() {
        for (said, want) in [
            ("", WANT),
            (" ", WANT),
            (".", WANT),
            ("1.", WANT),
            ("-1", "a duration is not negative; want a duration such as 10s"),
            ("-1s", "a duration is not negative"),
            ("s", WANT),
            ("1x", WANT),
            ("1e3", WANT),
            ("1.2.3", WANT),
            ("\u{661}s", WANT),
            ("soon", WANT),
            ("10S", "did you mean '10s'?"),
            ("1Min", "did you mean '1min'?"),
            ("1,5", "did you mean '1.5'?"),
            ("1M", "'M' is a month, which is not accepted; "),
            ("1M", "; did you mean '1m'?"),
            ("1s1M", "; did you mean '1s1m'?"),
            ("1M30S", "; did you mean '1m30s'?"),
            ("1h30", "; did you mean '1h30m'?"),
            ("1m30", "; did you mean '1m30s'?"),
            ("1H 30", "; did you mean '1h30m'?"),
            ("2months", "'months' is a month, which is not accepted; the longest unit is a day (30d); want"),
            ("2Y", "'Y' is a year"),
            ("1Month", "'Month' is a month"),
            ("1YEAR", "'YEAR' is a year"),
            ("1y", "'y' is a year"),
            ("11years", "'years' is a year"),
            ("4000d", "more than ten years"),
            ("18446744073709551615s", "more than ten years"),
            ("99999999999999999999", "more than ten years"),
            ("18446744073709551615h", "more than ten years"),
            ("0.0000000001", "finer than a nanosecond"),
        ] {
            for error in [limit(said).unwrap_err(), duration(said).unwrap_err()] {
                assert!(error.contains(want) && !error.contains('\n'), "{said}: {error}");
            }
        }
        for said in ["2Y", "1Month", "1YEAR", "4000D", "1y", "1x30", "30"] {
            assert!(limit(said).err().is_none_or(|error| !error.contains("did you mean")), "{said}");
        }
        for said in ["infinity", "Never", "INF", "forever", "none"] {
            assert!(limit(said).unwrap_err().ends_with(", or never; did you mean 'never'?"), "{said}");
            assert!(duration(said).unwrap_err().starts_with("'never' is not possible here; want a duration"), "{said}");
        }
        assert!(duration("never").unwrap_err().starts_with("'never' is not possible here; want a duration"));
        assert!(limit("soon").unwrap_err().ends_with(", or never"));
    }

    #[test]
    fn what_is_shown() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1us"),
            (981_455, "981us"),
            (999_600, "1ms"),
            (500_000, "500us"),
            (412_345_678, "412ms"),
            (999_600_000, "1s"),
            (1_000_000_001, "1s"),
            (3_693_760_458, "3.7s"),
            (59_960_000_000, "1m"),
            (90_500_000_000, "1m 31s"),
            (3_599_700_000_000, "1h"),
            (7_384_000_000_000, "2h 3m"),
            (86_399_000_000_000, "1d"),
            (100_000_000_000_000, "1d 4h"),
            (86_400_000_000_000 * 40, "40d"),
        ] {
            assert_eq!(Shown(Duration::from_nanos(nanos)).to_string(), want);
        }
        assert!(!Shown(Duration::MAX).to_string().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(nanos in 1..100_000_000_000_000_000_u64) {
            let time = Duration::from_nanos(nanos);
            let shown = Shown(time).to_string();
            let read = duration(&shown).map_err(TestCaseError::fail)?;
            let off = read.abs_diff(time);
            prop_assert!(off <= Duration::from_micros(1) || off.as_secs_f64() <= time.as_secs_f64() / 19.0, "{shown}");
            prop_assert!(shown.split(' ').count() <= 2);
        }

        #[test]
        fn a_hint_is_accepted(said in "([0-9,.]{1,4} ?(M|m|mS|S|D|d|h|Y|Month|YEAR|inf|x)? ?){1,3}") {
            for error in [limit(&said).err(), duration(&said).err()].into_iter().flatten() {
                if let Some((_, hint)) = error.split_once("did you mean '") {
                    let hint = hint.strip_suffix("'?").unwrap_or_default();
                    prop_assert!(limit(hint).is_ok(), "{said}: {error}");
                }
            }
        }

        #[test]
        fn no_value_panics(said: String) {
            let _ = (limit(&said), duration(&said));
        }
    }
}
