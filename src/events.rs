//! What hupwrap says: each event, with its level and its facts, and in words. The one table of events; docs/events.md has
//! it too. Pure.

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::config::{Level, Shown};
use crate::machine::action::{Failure, Line, Verdict};
use crate::machine::event::Generation;
use crate::signal::Signal;
use crate::status::Outcome;
use crate::status_file::exit;

/// A kind of event.
#[derive(PartialEq, Eq, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// At which level it is said.
    pub level: Level,
    /// The names of its facts.
    pub facts: &'static [&'static str],
}

macro_rules! events {
    ($($name:ident $level:ident $text:literal [$($fact:literal)*])*) => {
        $(
            #[doc = concat!("The event `", $text, "`.")]
            pub const $name: Kind = Kind { name: $text, level: Level::$level, facts: &[$($fact),*] };
        )*
        /// Every kind of event.
        pub const EVENTS: &[Kind] = &[$($name),*];
    };
}

events! {
    LISTENING Info "listening" ["name" "address"]
    SIGNAL Debug "signal" ["signal"]
    STARTED Debug "started" ["generation" "pid"]
    READY Debug "ready" ["generation" "pid"]
    ENDED Debug "ended" ["generation" "pid" "exit"]
    REQUESTED Debug "requested" ["action"]
    SETTLED Debug "settled" ["action"]
    REFUSED Error "refused" ["action" "reason"]
    FAILED Error "failed" ["action" "reason"]
    RESTARTING Info "restarting" ["generation" "pid"]
    REPLACING Info "replacing" ["generation" "pid"]
    REPLACED Info "replaced" ["generation" "pid" "old_generation" "old_pid"]
    REEXECUTED Info "reexecuted" ["before" "version"]
    ENDED_EARLY Info "ended-early" ["exit"]
    NOT_READY Error "not-ready" ["generation" "pid" "timeout"]
    RESTARTING_LATER Info "restarting-later" ["generation" "pid" "exit" "ran" "delay" "attempt"]
    STARTING_LATER Error "starting-later" ["reason" "delay"]
    CANNOT_START Error "cannot-start" ["reason"]
    GAVE_UP Error "gave-up" ["restarts"]
    STOPPING Debug "stopping" ["signal"]
    KILLING Info "killing" ["generation" "pid" "timeout"]
    KILLING_REST Info "killing-rest" ["timeout"]
    UNKILLABLE Error "unkillable" ["timeout"]
    NOT_SENT Error "not-sent" ["signal" "pid" "reason"]
    NOT_FORWARDED Info "not-forwarded" ["signal"]
    HANG_UP_IGNORED Info "hang-up-ignored" []
    STATUS_FILE_FAILED Error "status-file-failed" ["reason"]
    ERROR Error "error" []
}

/// Something that is said.
pub struct Entry {
    /// What kind of event it is.
    pub kind: &'static Kind,
    /// Its facts, in the order of [`Kind::facts`]. Times are in seconds.
    pub facts: Vec<Value>,
    /// All of it in words.
    pub text: String,
}

impl Entry {
    fn new(kind: &'static Kind, facts: impl IntoIterator<Item = Value>, text: String) -> Self {
        Self { kind, facts: facts.into_iter().collect(), text }
    }
}

/// hupwrap itself failed.
pub fn error(text: &str) -> Entry {
    Entry::new(&ERROR, [], text.to_owned())
}

/// The port that was chosen for a socket.
pub fn listening(name: &str, address: &str, text: String) -> Entry {
    Entry::new(&LISTENING, [json!(name), json!(address)], text)
}

/// A signal came.
pub fn signal(signal: Signal) -> Entry {
    Entry::new(&SIGNAL, [json!(signal.to_string())], format!("got {signal}"))
}

/// A signal could not be sent.
pub fn not_sent(signal: Signal, pid: i32, error: Errno) -> Entry {
    let text = format!("cannot send {signal} to pid {pid}: {}", error.desc());
    Entry::new(&NOT_SENT, [json!(signal.to_string()), json!(pid), json!(error.desc())], text)
}

/// The status file cannot be written.
pub fn status_file_failed(reason: &str) -> Entry {
    let text = format!("the status file cannot be written: {reason}; supervision goes on");
    Entry::new(&STATUS_FILE_FAILED, [json!(reason)], text)
}

/// Words the lines of one supervisor.
pub struct Words {
    command: String,
    /// Whether the child is given sockets.
    listens: bool,
}

impl Words {
    /// Of a supervisor of this command, which is named without its directories.
    pub fn new(command: &str, listens: bool) -> Self {
        Self { command: command.rsplit('/').next().unwrap_or(command).to_owned(), listens }
    }

    /// What the machine has to say. `serves`: whether there is a child that runs and is ready. `pid` knows the pid that a
    /// generation's child has or had.
    pub fn entry(&self, line: &Line, serves: bool, pid: impl Fn(Generation) -> i32) -> Entry {
        let command = &self.command;
        let child = |generation: &Generation| format!("{command}[{}]", pid(*generation));
        let of = |generation: &Generation| [json!(generation), json!(pid(*generation))];
        let seconds = |time: &std::time::Duration| json!(time.as_secs_f64());
        match line {
            Line::Started(g) => Entry::new(&STARTED, of(g), format!("{} started (generation {g})", child(g))),
            Line::Ended(g, outcome) => Entry::new(
                &ENDED,
                of(g).into_iter().chain([exit(*outcome)]),
                format!("{} {}", child(g), ended(*outcome)),
            ),
            Line::Began(kind) => Entry::new(&REQUESTED, [json!(kind.name())], format!("{} requested", kind.name())),
            Line::Settled { kind, verdict, .. } => {
                let name = kind.name();
                match (verdict, self.reason(verdict, serves)) {
                    (Verdict::Failed(_), Some(reason)) => {
                        let old = if serves { ", the old one serves on" } else { "" };
                        let text = format!("{name} failed{old}: {reason}");
                        Entry::new(&FAILED, [json!(name), json!(reason)], text)
                    }
                    (_, Some(reason)) => {
                        let text = format!("{name} refused, nothing was touched: {reason}");
                        Entry::new(&REFUSED, [json!(name), json!(reason)], text)
                    }
                    (_, None) => Entry::new(&SETTLED, [json!(name)], format!("{name} done")),
                }
            }
            Line::Ready(g) => Entry::new(&READY, of(g), format!("{} is ready", child(g))),
            Line::Restarting(g) => Entry::new(&RESTARTING, of(g), format!("restarting {}", child(g))),
            Line::Replacing(g) => {
                Entry::new(&REPLACING, of(g), format!("replacing {}, which serves until a new one is ready", child(g)))
            }
            Line::Replaced { old, new } => Entry::new(
                &REPLACED,
                of(new).into_iter().chain(of(old)),
                format!("{} is ready; stopping {}", child(new), child(old)),
            ),
            Line::Stopping(signal) => {
                Entry::new(&STOPPING, [json!(signal.to_string())], format!("stopping {command}, as {signal} asks"))
            }
            Line::StartingAgain(outcome) => Entry::new(
                &ENDED_EARLY,
                [exit(*outcome)],
                format!("{command} ended by itself ({outcome}) before it was stopped; starting it again"),
            ),
            Line::SuccessorRemains(outcome) => Entry::new(
                &ENDED_EARLY,
                [exit(*outcome)],
                format!("{command} ended by itself ({outcome}) before it was replaced; waiting for the new one"),
            ),
            Line::NotReady(g, after) => Entry::new(
                &NOT_READY,
                of(g).into_iter().chain([seconds(after)]),
                format!("{} was not ready within {}; stopping it", child(g), Shown(*after)),
            ),
            Line::Reexecuted { before } => Entry::new(
                &REEXECUTED,
                [json!(before), json!(env!("CARGO_PKG_VERSION"))],
                format!("{} took over from {before} as pid {}", crate::NAME_AND_VERSION, std::process::id()),
            ),
            Line::Killing(g, after) => Entry::new(
                &KILLING,
                of(g).into_iter().chain([seconds(after)]),
                format!("{} did not end within {}; sending KILL", child(g), Shown(*after)),
            ),
            Line::KillingRest(after) => Entry::new(
                &KILLING_REST,
                [seconds(after)],
                format!("what {command} left behind did not end within {}; sending KILL", Shown(*after)),
            ),
            Line::Unkillable(after) => Entry::new(
                &UNKILLABLE,
                [seconds(after)],
                format!("KILL did not end it within {}; is it in uninterruptible sleep?", Shown(*after)),
            ),
            Line::CannotStart(reason) => Entry::new(&CANNOT_START, [json!(reason)], reason.clone()),
            Line::StartingLater(error, delay) => Entry::new(
                &STARTING_LATER,
                [json!(error.reason), seconds(delay)],
                format!("{}; trying again in {}", error.reason, Shown(*delay)),
            ),
            Line::RestartingLater { generation, outcome, ran, delay, attempt } => {
                let how = match outcome {
                    Some(outcome) => ended(*outcome),
                    None => "was not ready in time".to_owned(),
                };
                let more = [json!(outcome.map(exit)), seconds(ran), seconds(delay), json!(attempt)];
                let text = format!(
                    "{} {how} after {}; starting it again in {} (attempt {attempt})",
                    child(generation),
                    Shown(*ran),
                    Shown(*delay)
                );
                Entry::new(&RESTARTING_LATER, of(generation).into_iter().chain(more), text)
            }
            Line::GaveUp { restarts, within, generation, last } => {
                let why = match last {
                    None => String::new(),
                    Some(Failure::Ended(outcome)) => format!("{} {}; ", child(generation), ended(*outcome)),
                    Some(failure) => format!("{}; ", self.failure(failure, serves)),
                };
                let times = if *restarts == 1 { "restart" } else { "restarts" };
                let how = within.map_or("in a row".to_owned(), |within| format!("within {}", Shown(within)));
                let text = format!("{why}gave up on {command} after {restarts} {times} {how}; see --restart-limit");
                Entry::new(&GAVE_UP, [json!(restarts)], text)
            }
            Line::NotForwarded(signal) => Entry::new(
                &NOT_FORWARDED,
                [json!(signal.to_string())],
                format!("{signal} not passed on: no child runs"),
            ),
            Line::HangUpIgnored => {
                let text = "the terminal is gone; its HUP is ignored, as nohup asked".to_owned();
                Entry::new(&HANG_UP_IGNORED, [], text)
            }
        }
    }

    /// Why a request was not granted; `serves` as above.
    pub fn reason(&self, verdict: &Verdict, serves: bool) -> Option<String> {
        match verdict {
            Verdict::Done => None,
            Verdict::Refused(reason) => Some(reason.clone()),
            Verdict::Failed(failure) => Some(self.failure(failure, serves)),
        }
    }

    fn failure(&self, failure: &Failure, serves: bool) -> String {
        let command = &self.command;
        match failure {
            Failure::CannotStart(reason) => reason.clone(),
            Failure::NotReady(after) => format!("the new {command} was not ready within {}", Shown(*after)),
            Failure::EndedInOverlap(outcome) => format!("the new {command} ended ({outcome}) soon after it was ready"),
            Failure::Ended(outcome) => {
                let hint = match outcome {
                    Outcome::Exited(0) => "; does it go into the background? it must stay in the foreground",
                    _ if serves && !self.listens => "; did it want the port that the old one has? see --listen",
                    _ => "",
                };
                format!("the new {command} ended ({outcome}) before it was ready{hint}")
            }
        }
    }
}

fn ended(outcome: Outcome) -> String {
    match outcome {
        Outcome::Exited(code) => format!("ended with {code}"),
        Outcome::Killed(signal) => format!("was ended by {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::Kind as Asked;
    use crate::machine::event::StartError;

    #[test]
    fn every_entry_has_the_facts_of_its_kind() {
        let second = Duration::from_secs(1);
        let outcome = Outcome::Exited(3);
        let settled = |verdict| Line::Settled { kind: Asked::Replace, began: second, verdict };
        let error = StartError { code: 127, transient: false, reason: "why".to_owned() };
        let lines = [
            Line::Started(1),
            Line::Ended(1, outcome),
            Line::Began(Asked::Restart),
            settled(Verdict::Done),
            settled(Verdict::Refused("why".to_owned())),
            settled(Verdict::Failed(Failure::NotReady(second))),
            Line::Ready(1),
            Line::Restarting(1),
            Line::Replacing(1),
            Line::Replaced { old: 1, new: 2 },
            Line::Stopping(Signal::TERM),
            Line::StartingAgain(outcome),
            Line::SuccessorRemains(outcome),
            Line::NotReady(1, second),
            Line::Reexecuted { before: "hupwrap 0".to_owned() },
            Line::Killing(1, second),
            Line::KillingRest(second),
            Line::Unkillable(second),
            Line::CannotStart("why".to_owned()),
            Line::StartingLater(error, second),
            Line::RestartingLater { generation: 1, outcome: Some(outcome), ran: second, delay: second, attempt: 3 },
            Line::GaveUp { restarts: 3, within: None, generation: 1, last: None },
            Line::NotForwarded(Signal::HUP),
            Line::HangUpIgnored,
        ];
        let words = Words::new("/usr/bin/web", true);
        let mut entries: Vec<Entry> = lines.iter().map(|line| words.entry(line, true, |_| 4711)).collect();
        entries.extend([
            super::error("x"),
            listening("web", "tcp:1", "x".to_owned()),
            signal(Signal::HUP),
            not_sent(Signal::HUP, 1, Errno::EPERM),
            status_file_failed("x"),
        ]);
        for entry in &entries {
            assert_eq!(entry.facts.len(), entry.kind.facts.len(), "{}", entry.kind.name);
            assert!(!entry.text.is_empty());
        }
        for kind in EVENTS {
            assert!(entries.iter().any(|entry| entry.kind == kind), "{} is never said", kind.name);
        }
    }

    #[test]
    fn a_line_says_what_happened_and_what_comes_next() {
        let line = Line::RestartingLater {
            generation: 3,
            outcome: Some(Outcome::Exited(3)),
            ran: Duration::from_millis(2123),
            delay: Duration::from_millis(400),
            attempt: 3,
        };
        let entry = Words::new("web", true).entry(&line, true, |_| 4711);
        assert_eq!(entry.text, "web[4711] ended with 3 after 2.1s; starting it again in 400ms (attempt 3)");
        let gave_up = |restarts, within, last| {
            Words::new("web", true).entry(&Line::GaveUp { restarts, within, generation: 3, last }, true, |_| 4711).text
        };
        let ended = Some(Failure::Ended(Outcome::Killed(Signal::KILL)));
        assert_eq!(gave_up(1, None, None), "gave up on web after 1 restart in a row; see --restart-limit");
        assert_eq!(
            gave_up(3, Some(Duration::from_secs(60)), ended),
            "web[4711] was ended by KILL; gave up on web after 3 restarts within 1m; see --restart-limit"
        );
        assert_eq!(
            gave_up(3, None, Some(Failure::CannotStart("/opt/web: not found".to_owned()))),
            "/opt/web: not found; gave up on web after 3 restarts in a row; see --restart-limit"
        );
    }
}
