//! The only writer to stderr, and to stdout for `--help` and `--status`. A stream that is closed, full or broken never
//! stops supervision.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::config::{Level, LogFormat};
use crate::sys::{output, poll, start_error};
use crate::text::events::MessageKind;
use crate::text::is_plain;
use crate::text::log_line::{json_line, text_line};
use crate::text::messages::{self, LogLine};

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
        LogFormat::Json => json_line(log_line, SystemTime::now()),
    };
    write_at_once(&line);
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
    /// Shows this in place of what it showed, cut off where the window ends. It uses a carriage return only, which
    /// every terminal understands.
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
                let _ = poll::wait(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)], None);
            }
            Err(Errno::EPIPE | Errno::EBADF) => return Ok(()),
            Err(error) => return Err(format!("cannot write to stdout: {}", start_error::describe(error))),
        }
    }
    Ok(())
}
