//! Text formats: what hupwrap reads and writes, without touching a file. Pure.

pub mod env_file;
pub mod events;
mod fact_lines;
pub mod handover;
pub(crate) mod hints;
pub mod listen;
pub mod log_line;
pub(crate) mod main_process;
pub mod messages;
pub mod notify;
pub(crate) mod socket_facts;
pub mod status_file;
pub(crate) mod words;

use std::borrow::Cow;
use std::time::SystemTime;

/// A text of at most `longest` characters. A long one loses its middle: it begins with what is named, and ends with
/// what is said about it.
pub(crate) fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= longest {
        return text.into();
    }
    let head = longest / 3;
    let tail = length.saturating_sub(longest.saturating_sub(head)).saturating_add(1);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(tail)).collect::<String>().into()
}

/// Whether a character may be shown as it is. A terminal obeys control characters, and those that begin a line or
/// change the direction of text make a line look like another one.
pub(crate) fn is_plain(c: char) -> bool {
    let misleads = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !misleads
}

/// A time of the wall clock, and 1970 for one before that: humantime panics there. A machine without a battery starts
/// in 1970, and what began before the clock was set back may be earlier.
pub(crate) fn from_1970(time: SystemTime) -> SystemTime {
    time.max(SystemTime::UNIX_EPOCH)
}
