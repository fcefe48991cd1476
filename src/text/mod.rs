//! Text formats: what hupwrap reads and writes, without touching a file. Pure.

pub mod env_file;
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

/// Whether a character may be shown as it is. A terminal obeys control characters, and those that begin a line or change the
/// direction of text make a line look like another one.
pub(crate) fn is_plain(c: char) -> bool {
    let misleads = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !misleads
}
