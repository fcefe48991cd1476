//! The lines for people: the only writer to stderr, and for `--help` to stdout. A stream that is closed, full or broken
//! never stops supervision.

use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::machine::action::Line;

/// Writes the lines of one supervisor.
pub struct Report {
    command: String,
}

impl Report {
    /// Of a supervisor of this command, which is named without its directories.
    pub fn new(command: &str) -> Self {
        Self { command: command.rsplit('/').next().unwrap_or(command).to_owned() }
    }

    /// Says what the machine has to say. `child` is the pid of the child it speaks of, 0 where there is none.
    pub fn say(&self, line: &Line, child: i32) {
        let command = &self.command;
        let text = match line {
            Line::Restarting => format!("restarting {command}[{child}]"),
            Line::StartingAgain(outcome) => {
                format!("{command} ended by itself ({outcome}) before it was stopped; starting it again")
            }
            Line::Refused { what, reason } => format!("{what} refused, nothing was touched: {reason}"),
            Line::Reexecuted { before } => {
                format!("{} took over from {before} as pid {}", crate::NAME_AND_VERSION, std::process::id())
            }
            Line::Killing(after) => format!("{command}[{child}] did not end within {}; sending KILL", Shown(*after)),
            Line::KillingRest(after) => {
                format!("what {command} left behind did not end within {}; sending KILL", Shown(*after))
            }
            Line::Unkillable(after) => {
                format!("KILL did not end it within {}; is it in uninterruptible sleep?", Shown(*after))
            }
            Line::CannotStart(reason) => reason.clone(),
            Line::StartingLater(error, delay) => format!("{}; trying again in {}", error.reason, Shown(*delay)),
            Line::NotForwarded(signal) => format!("{signal} not passed on: no child runs"),
            Line::HangUpIgnored => "the terminal is gone; its HUP is ignored, as nohup asked".to_owned(),
        };
        complain(&text);
    }

    /// Says that a signal could not be sent.
    pub fn not_sent(&self, signal: crate::signal::Signal, pid: i32, error: Errno) {
        complain(&format!("cannot send {signal} to pid {pid}: {}", error.desc()));
    }

    /// Says that something is wrong with hupwrap itself.
    pub fn internal(&self, what: &str) {
        complain(&format!("internal error: {what}; please report it"));
    }
}

struct Shown(Duration);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

/// Writes one line to stderr, if it takes it at once.
pub fn complain(text: &str) {
    let mut line = String::from("hupwrap: ");
    // Up to a page: a pipe takes that whole, or not at all.
    for c in text.chars().take(900) {
        // A name may hold anything, a line of ours is one line.
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    // A pipe that nobody reads must not hold supervision up, and a terminal under Ctrl-S neither.
    let stderr = std::io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO) == Ok(1) {
        let _ = nix::unistd::write(stderr.as_fd(), line.as_bytes());
    }
}

/// Writes a text to stdout.
pub fn print(text: &str) {
    let mut rest = text.as_bytes();
    let stdout = std::io::stdout();
    while !rest.is_empty() {
        match nix::unistd::write(stdout.as_fd(), rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
