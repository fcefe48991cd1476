//! The lines for people: the only writer to stderr, and for `--help` to stdout. A stream that is closed, full or broken
//! never stops supervision.

use std::fmt::Write as _;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::Shown;
use crate::machine::action::{Failure, Line, Verdict};
use crate::machine::event::Generation;
use crate::status::Outcome;

/// Words the lines of one supervisor.
pub struct Report {
    command: String,
    /// Whether the child is given sockets.
    listens: bool,
}

impl Report {
    /// Of a supervisor of this command, which is named without its directories.
    pub fn new(command: &str, listens: bool) -> Self {
        Self { command: command.rsplit('/').next().unwrap_or(command).to_owned(), listens }
    }

    /// What the machine has to say, for people; nothing where it is not remarkable. `serves`: whether there is a child
    /// that runs and is ready. `pid` knows the pid of a generation's child, 0 where there is none any more.
    pub fn text(&self, line: &Line, serves: bool, pid: impl Fn(Generation) -> i32) -> Option<String> {
        let command = &self.command;
        let child = |generation: &Generation| format!("{command}[{}]", pid(*generation));
        Some(match line {
            Line::Began(_) | Line::Ready(_) | Line::Settled(_, Verdict::Done) | Line::Stopping(_) => return None,
            Line::Restarting(generation) => format!("restarting {}", child(generation)),
            Line::Replacing(generation) => {
                format!("replacing {}, which serves until a new one is ready", child(generation))
            }
            Line::Replaced { old, new } => format!("{} is ready; stopping {}", child(new), child(old)),
            Line::StartingAgain(outcome) => {
                format!("{command} ended by itself ({outcome}) before it was stopped; starting it again")
            }
            Line::SuccessorRemains(outcome) => {
                format!("{command} ended by itself ({outcome}) before it was replaced; waiting for the new one")
            }
            Line::Settled(kind, Verdict::Refused(reason)) => {
                format!("{} refused, nothing was touched: {reason}", kind.name())
            }
            Line::Settled(kind, Verdict::Failed(failure)) => {
                let old = if serves { ", the old one serves on" } else { "" };
                format!("{} failed{old}: {}", kind.name(), self.failure(failure, serves))
            }
            Line::NotReady(generation, after) => {
                format!("{} was not ready within {}; stopping it", child(generation), Shown(*after))
            }
            Line::Reexecuted { before } => {
                format!("{} took over from {before} as pid {}", crate::NAME_AND_VERSION, std::process::id())
            }
            Line::Killing(generation, after) => {
                format!("{} did not end within {}; sending KILL", child(generation), Shown(*after))
            }
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
        })
    }

    fn failure(&self, failure: &Failure, serves: bool) -> String {
        match failure {
            Failure::CannotStart(reason) => reason.clone(),
            Failure::NotReady(after) => format!("the new {} was not ready within {}", self.command, Shown(*after)),
            Failure::EndedInOverlap(outcome) => {
                format!("the new {} ended ({outcome}) soon after it was ready", self.command)
            }
            Failure::Ended(outcome) => {
                let hint = match outcome {
                    Outcome::Exited(0) => "; does it go into the background? it must stay in the foreground",
                    _ if serves && !self.listens => "; did it want the port that the old one has? see --listen",
                    _ => "",
                };
                format!("the new {} ended ({outcome}) before it was ready{hint}", self.command)
            }
        }
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
