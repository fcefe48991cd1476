//! The only writer to stderr, and to stdout for `--help` and `--status`. A stream that is closed, full or broken never
//! stops supervision.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::config::{Level, LogFormat};
use crate::sys::{output, start_error};
use crate::text::is_plain;
use crate::text::messages::{self, LogLine, MessageKind};
use crate::text::status_file;

/// How lines look, and which lines are written.
#[derive(Clone, Copy, Default, Debug)]
struct Look {
    format: LogFormat,
    level: Level,
    /// Whether lines on a terminal are coloured.
    colour: bool,
}

/// Before the command line is read: text, and what is remarkable.
static LOOK: OnceLock<Look> = OnceLock::new();

fn look() -> Look {
    LOOK.get().copied().unwrap_or_default()
}

/// Sets how lines look from now on. The first call counts. Lines on a terminal are coloured unless the environment has
/// NO_COLOR (no-color.org) or TERM=dumb.
pub(crate) fn set_look(format: LogFormat, level: Level, no_color: Option<&[u8]>, term: Option<&[u8]>) {
    let colour = no_color.is_none_or(<[u8]>::is_empty) && term.is_some_and(|term| term != b"dumb");
    let _ = LOOK.set(Look { format, level, colour });
}

/// Whether lines of this kind are written at all.
pub(crate) fn is_said(kind: &MessageKind) -> bool {
    kind.level <= look().level
}

/// Reports an error of hupwrap, or an error in what it was told.
pub(crate) fn complain(text: &str) {
    say(&messages::error(text));
}

/// Writes one line to stderr. A stderr that does not take the line at once does not get it.
pub(crate) fn say(log_line: &LogLine) {
    if !is_said(log_line.kind) {
        return;
    }
    let Look { format, colour, .. } = look();
    let line = match format {
        LogFormat::Text => text_line(log_line, colour && std::io::stderr().is_terminal()),
        LogFormat::Json => json_line(log_line),
    };
    write_at_once(&line);
}

/// The longest line, in bytes: `PIPE_BUF`. A pipe takes such a line as a whole or not at all.
const LONGEST: usize = 4096;

/// With texts of this length, a line with three texts of six bytes a character still fits.
const SHORTEST_CUT: usize = 190;

/// Makes the line with its texts as long as they may be.
fn fit(line: impl Fn(usize) -> String) -> String {
    let all = [LONGEST, 2000, 1300, 900, 600, 400].into_iter().map(&line).find(|line| line.len() <= LONGEST);
    all.unwrap_or_else(|| line(SHORTEST_CUT))
}

/// A text of at most so many characters.
fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

fn text_line(log_line: &LogLine, colour: bool) -> String {
    let head = match (colour, log_line.kind.level) {
        (false, _) => "hupwrap: ",
        (true, Level::Error) => "\x1b[1;31mhupwrap:\x1b[0m ",
        (true, Level::Info | Level::Debug) => "\x1b[1mhupwrap:\x1b[0m ",
    };
    fit(|longest| {
        let mut line = String::from(head);
        for c in cut(&log_line.text, longest).chars() {
            // A name may hold a newline. A message is always one line.
            match is_plain(c) {
                true => line.push(c),
                false => line.extend(c.escape_default()),
            }
        }
        line.push('\n');
        line
    })
}

fn json_line(log_line: &LogLine) -> String {
    let level = match log_line.kind.level {
        Level::Error => "error",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    fit(|longest| {
        let head = [("time", json!(time)), ("level", json!(level)), ("event", json!(log_line.kind.name))];
        let facts = log_line.kind.facts.iter().copied().zip(log_line.facts.iter().map(|fact| match fact {
            Value::String(text) => json!(cut(text, longest)),
            other => other.clone(),
        }));
        status_file::object(head.into_iter().chain(facts).chain([("message", json!(cut(&log_line.text, longest)))]))
    })
}

fn write_at_once(text: &str) {
    // Neither a pipe that nobody reads nor a terminal under Ctrl-S may block supervision.
    output::write_at_once(std::io::stderr().as_fd(), text.as_bytes());
}

/// A line on a terminal that is overwritten again and again.
#[derive(Default)]
pub(crate) struct Ticker {
    /// How many columns it takes.
    width: usize,
}

impl Ticker {
    /// Shows this in place of what it showed, cut off where the window ends. In no other way than by a carriage return: so
    /// it does on every terminal.
    pub(crate) fn show(&mut self, text: &str, columns: usize) {
        // The last column stays free: some terminals begin a new line behind it.
        let fits = columns.saturating_sub(1);
        let text: String = text.chars().filter(|c| is_plain(*c)).take(fits).collect();
        let width = text.chars().count();
        let rest = self.width.min(fits).saturating_sub(width);
        write_at_once(&format!("\r{text}{:rest$}", ""));
        self.width = width;
    }

    /// Shows this in place of what it showed, for good.
    pub(crate) fn finish(&mut self, text: &str, columns: usize) {
        self.show(text, columns);
        write_at_once("\n");
        self.width = 0;
    }

    /// Leaves the line empty.
    pub(crate) fn clear(&mut self) {
        if self.width > 0 {
            write_at_once(&format!("\r{:width$}\r", "", width = self.width));
            self.width = 0;
        }
    }
}

/// Writes a text to stdout. A reader that has gone has read enough, and a closed stdout wants nothing.
///
/// # Errors
/// One line that says why not all of it was written.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut rest = text.as_bytes();
    let stdout = std::io::stdout();
    while !rest.is_empty() {
        match nix::unistd::write(stdout.as_fd(), rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(Errno::EPIPE | Errno::EBADF) => return Ok(()),
            Err(error) => return Err(format!("cannot write to stdout: {}", start_error::describe(error))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_one_object() {
        let line = json_line(&messages::error("a \"quote\"\nand a newline\u{7f}"));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.is_ascii());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "error");
        assert_eq!(value["message"], "a \"quote\"\nand a newline\u{7f}");
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_line_is_never_longer_than_a_pipe_takes_as_a_whole() {
        for c in ["a", "\u{1}", "\u{9f}", "\u{10ffff}", "\"", "ä"] {
            let long = c.repeat(5000);
            for log_line in
                [messages::listening(&long, &long, long.clone()), messages::status_file_failed(&long, &long)]
            {
                for colour in [false, true] {
                    let line = text_line(&log_line, colour);
                    assert!(line.len() <= LONGEST && line.ends_with('\n'), "{}", line.len());
                }
                let line = json_line(&log_line);
                assert!(line.len() <= LONGEST, "{}", line.len());
                let value: Value = serde_json::from_str(&line).unwrap();
                assert!(value["message"].as_str().unwrap().ends_with('…'));
            }
        }
        let short = "a".repeat(3000);
        assert_eq!(text_line(&messages::error(&short), false).len(), "hupwrap: \n".len() + 3000);
    }

    #[test]
    fn a_text_line_is_one_line() {
        assert_eq!(text_line(&messages::error("a\nb\x1b"), false), "hupwrap: a\\nb\\u{1b}\n");
    }

    #[test]
    fn no_text_commands_a_terminal() {
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        for text in all.chars().collect::<Vec<_>>().chunks(100) {
            let error = messages::error(&text.iter().collect::<String>());
            for line in [text_line(&error, false), json_line(&error)] {
                let line = line.strip_suffix('\n').unwrap();
                assert!(line.chars().all(is_plain), "{line:?}");
                assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
