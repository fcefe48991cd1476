//! The messages of hupwrap: each event with its facts and its words. Pure.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::config::Shown;
use crate::exit::ExitStatus;
use crate::facts::GenerationId;
use crate::machine::RequestKind;
use crate::machine::message::{Failure, Message, Outcome};
use crate::signal::Signal;
use crate::text::events::*;
use crate::text::from_1970;
use crate::text::status_file::exit;

/// A message.
pub struct LogLine {
    /// What kind of event it is.
    pub kind: &'static MessageKind,
    /// Its facts, in the order of [`MessageKind::facts`]. Times are in seconds.
    pub facts: Vec<Value>,
    /// The whole event in words.
    pub text: String,
}

impl LogLine {
    fn new(kind: &'static MessageKind, facts: impl IntoIterator<Item = Value>, text: String) -> Self {
        Self { kind, facts: facts.into_iter().collect(), text }
    }
}

/// hupwrap itself failed.
pub fn error(text: &str) -> LogLine {
    LogLine::new(&ERROR, [], text.to_owned())
}

/// The kernel has chosen the port of a socket.
pub fn listening(name: &str, address: &str, text: String) -> LogLine {
    LogLine::new(&LISTENING, [json!(name), json!(address)], text)
}

fn refused(kind: RequestKind, reason: &str) -> LogLine {
    let text = format!("{} refused, nothing was touched: {reason}", kind.name());
    LogLine::new(&REFUSED, [json!(kind.name()), json!(reason)], text)
}

/// A signal has arrived.
pub fn signal(signal: Signal) -> LogLine {
    LogLine::new(&SIGNAL, [json!(signal.to_string())], format!("got {signal}"))
}

/// A PATH of `--watch` has changed.
pub fn changed(path: &str) -> LogLine {
    LogLine::new(&CHANGED, [json!(path)], format!("'{path}' has changed"))
}

/// Changes are noticed late.
pub fn watching_late(reason: &str) -> LogLine {
    LogLine::new(&WATCHING_LATE, [json!(reason)], format!("--watch: {reason}"))
}

/// A signal could not be sent.
pub fn not_sent(signal: Signal, pid: i32, reason: &str) -> LogLine {
    let text = format!("cannot send {signal} to pid {pid}: {reason}");
    LogLine::new(&NOT_SENT, [json!(signal.to_string()), json!(pid), json!(reason)], text)
}

/// A try of `--ready cmd:` or `tcp:` has failed, for another reason than the one before.
pub fn tried(generation: GenerationId, pid: i32, reason: &str) -> LogLine {
    let facts = [json!(generation), json!(pid), json!(reason)];
    LogLine::new(&TRIED, facts, format!("generation {generation} is not ready yet: {reason}"))
}

/// The status file cannot be written.
pub fn status_file_failed(path: &str, reason: &str) -> LogLine {
    let text = format!("--status-file '{path}' cannot be written: {reason}; supervision goes on");
    LogLine::new(&STATUS_FILE_FAILED, [json!(reason)], text)
}

/// A file that somebody had removed is there again, or a socket that was shut down takes connections again. Either may
/// be a new socket.
pub fn restored(name: &str, shut_down: bool, is_new_socket: bool) -> LogLine {
    let text = match shut_down {
        true => format!("somebody has called shutdown(2) on '{name}'; it takes connections again"),
        false => format!("somebody has removed '{name}'; created it again"),
    };
    let more = if is_new_socket { ", with a new socket for the next start" } else { "" };
    LogLine::new(&RESTORED, [json!(name)], text + more)
}

/// A file of hupwrap's is missing or another, or a socket was shut down, and cannot be restored.
pub fn not_restored(name: &str, shut_down: bool, reason: &str) -> LogLine {
    let text = match shut_down {
        true => format!("somebody has called shutdown(2) on '{name}', which takes no connections any more: {reason}"),
        false => format!("'{name}' is no longer the file that hupwrap made: {reason}"),
    };
    LogLine::new(&NOT_RESTORED, [json!(name), json!(reason)], text)
}

/// Puts the messages of one supervisor into words.
pub struct Words {
    command: String,
    /// Whether the child receives sockets.
    listens: bool,
}

impl Words {
    /// For a supervisor of this command. Messages name the command without its directories.
    pub fn new(command: &str, listens: bool) -> Self {
        Self { command: command.rsplit('/').next().unwrap_or(command).to_owned(), listens }
    }

    /// What the service manager is shown of a child that serves. Without its pid: the child may hand over to another
    /// process.
    pub(crate) fn running(&self, since: SystemTime) -> String {
        format!("{} has been running since {}", self.command, humantime::format_rfc3339_seconds(from_1970(since)))
    }

    /// The line for a message of the machine. `serves`: whether a child is running and ready. `last_try`: why the
    /// newest child was not ready at the last try. `pid` knows the pid that a generation's child has or had.
    pub fn log_line(
        &self,
        line: &Message,
        serves: bool,
        last_try: Option<&str>,
        pid: impl Fn(GenerationId) -> i32,
    ) -> LogLine {
        let command = &self.command;
        let child = |generation: &GenerationId| format!("{command}[{}]", pid(*generation));
        let of = |generation: &GenerationId| [json!(generation), json!(pid(*generation))];
        let seconds = |time: &std::time::Duration| json!(time.as_secs_f64());
        match line {
            Message::Started(g) => LogLine::new(&STARTED, of(g), format!("{} started (generation {g})", child(g))),
            Message::Ended(g, status) => LogLine::new(
                &ENDED,
                of(g).into_iter().chain([exit(*status)]),
                format!("{} {}", child(g), ended(*status)),
            ),
            Message::Began(kind) => {
                LogLine::new(&REQUESTED, [json!(kind.name())], format!("{} requested", kind.name()))
            }
            Message::Settled { kind, outcome, .. } => {
                let name = kind.name();
                match (outcome, self.reason(outcome, serves, last_try)) {
                    (Outcome::Failed(_), Some(reason)) => {
                        let old = if serves { ", the old one serves on" } else { "" };
                        let text = format!("{name} failed{old}: {reason}");
                        LogLine::new(&FAILED, [json!(name), json!(reason)], text)
                    }
                    (_, Some(reason)) => refused(*kind, &reason),
                    (_, None) => LogLine::new(&SETTLED, [json!(name)], format!("{name} done")),
                }
            }
            Message::Ready(g) => LogLine::new(&READY, of(g), format!("{} is ready", child(g))),
            Message::GrownOld(g, age) => LogLine::new(
                &GROWN_OLD,
                of(g).into_iter().chain([seconds(age)]),
                format!("{} has been ready for {}; renewing it, see --max-age", child(g), Shown(*age)),
            ),
            Message::Restarting(g) => LogLine::new(&RESTARTING, of(g), format!("restarting {}", child(g))),
            Message::Replacing(g) => LogLine::new(
                &REPLACING,
                of(g),
                format!("replacing {}, which serves until a new one is ready", child(g)),
            ),
            Message::Replaced { old, new } => LogLine::new(
                &REPLACED,
                of(new).into_iter().chain(of(old)),
                format!("{} is ready; stopping {}", child(new), child(old)),
            ),
            Message::Stopping(signal) => {
                LogLine::new(&STOPPING, [json!(signal.to_string())], format!("stopping {command}, as {signal} asks"))
            }
            Message::StartingAgain(status) => LogLine::new(
                &ENDED_EARLY,
                [exit(*status)],
                format!("{command} ended by itself ({status}) before it was stopped; starting it again"),
            ),
            Message::StartingSoon => {
                LogLine::new(&STARTING_SOON, [], format!("starting {command} again without a delay, as was asked"))
            }
            Message::SuccessorRemains { status, ready } => {
                let next = if *ready { "the new one is ready" } else { "waiting for the new one" };
                let text = format!("{command} ended by itself ({status}) before it was replaced; {next}");
                LogLine::new(&ENDED_EARLY, [exit(*status)], text)
            }
            Message::NotReady(g, after) => LogLine::new(
                &NOT_READY,
                of(g).into_iter().chain([seconds(after), json!(last_try)]),
                format!("{} was not ready within {}{}; stopping it", child(g), Shown(*after), because(last_try)),
            ),
            Message::Reexecuted { before } => LogLine::new(
                &REEXECUTED,
                [json!(before), json!(env!("CARGO_PKG_VERSION"))],
                format!("{} took over from {before} as pid {}", crate::NAME_AND_VERSION, std::process::id()),
            ),
            Message::Killing(g, after) => LogLine::new(
                &KILLING,
                of(g).into_iter().chain([seconds(after)]),
                match after.is_zero() {
                    true => format!("sending KILL to {} at once, see --stop-timeout", child(g)),
                    false => format!("{} did not end within {}; sending KILL", child(g), Shown(*after)),
                },
            ),
            Message::KillingRest(after) => LogLine::new(
                &KILLING_REST,
                [seconds(after)],
                match after.is_zero() {
                    true => format!("sending KILL to what {command} left behind, see --stop-timeout"),
                    false => format!("what {command} left behind did not end within {}; sending KILL", Shown(*after)),
                },
            ),
            Message::Unkillable(after) => LogLine::new(
                &UNKILLABLE,
                [seconds(after)],
                format!("KILL did not end it within {}; is it in uninterruptible sleep?", Shown(*after)),
            ),
            Message::CannotStart(reason) => LogLine::new(&CANNOT_START, [json!(reason)], reason.clone()),
            Message::StartingLater(error, delay) => LogLine::new(
                &STARTING_LATER,
                [json!(error.reason), seconds(delay)],
                format!("{}; trying again in {}", error.reason, Shown(*delay)),
            ),
            Message::RestartingLater { generation, status, ran, delay, attempt } => {
                let how = match status {
                    Some(status) => ended(*status),
                    None => "was not ready in time".to_owned(),
                };
                let more = [json!(status.map(exit)), seconds(ran), seconds(delay), json!(attempt)];
                let text = format!(
                    "{} {how} after {}; starting it again in {} (attempt {attempt})",
                    child(generation),
                    Shown(*ran),
                    Shown(*delay)
                );
                LogLine::new(&RESTARTING_LATER, of(generation).into_iter().chain(more), text)
            }
            Message::GaveUp { restarts, within, generation, last } => {
                let why = match last {
                    None => String::new(),
                    Some(Failure::Ended(status)) => format!("{} {}; ", child(generation), ended(*status)),
                    Some(failure) => format!("{}; ", self.failure(failure, serves, last_try)),
                };
                let times = if *restarts == 1 { "restart" } else { "restarts" };
                let how = within.map_or("in a row".to_owned(), |within| format!("within {}", Shown(within)));
                let text = format!("{why}gave up on {command} after {restarts} {times} {how}; see --restart-limit");
                LogLine::new(&GAVE_UP, [json!(restarts)], text)
            }
            Message::ForwardRefused(reason) => refused(RequestKind::Forward, reason),
            Message::NotForwarded(signal) => LogLine::new(
                &NOT_FORWARDED,
                [json!(signal.to_string())],
                format!("{signal} not passed on: no child runs"),
            ),
            Message::HangUpIgnored => {
                let text = "the terminal is gone; its HUP is ignored, as nohup asked".to_owned();
                LogLine::new(&HANG_UP_IGNORED, [], text)
            }
        }
    }

    /// Why a request was not granted; `serves` and `last_try` as above.
    pub fn reason(&self, outcome: &Outcome, serves: bool, last_try: Option<&str>) -> Option<String> {
        match outcome {
            Outcome::Ok => None,
            Outcome::Refused(reason) => Some(reason.clone()),
            Outcome::Failed(failure) => Some(self.failure(failure, serves, last_try)),
        }
    }

    /// The process that hupwrap has started ended; another one of its generation is the child from now on.
    pub fn followed(&self, generation: GenerationId, pid: i32, old: i32, status: ExitStatus) -> LogLine {
        let text = format!("{}[{old}] {}; pid {pid} is its main process from now on", self.command, ended(status));
        LogLine::new(&MAIN_PROCESS, [json!(generation), json!(pid), json!(old), exit(status)], text)
    }

    /// The process that hupwrap has started ended, and no other one takes its place.
    pub fn not_followed(&self, generation: GenerationId, pid: i32, status: ExitStatus, reason: &str) -> LogLine {
        let text = format!("{}[{pid}] {}, and has no main process: {reason}", self.command, ended(status));
        LogLine::new(&NO_MAIN_PROCESS, [json!(generation), json!(pid), exit(status), json!(reason)], text)
    }

    /// The child ended with 0 soon after its start, and processes that it has started are still running.
    /// `has_file`: whether `--child-pidfile` is given.
    pub fn backgrounded(&self, generation: GenerationId, pid: i32, has_file: bool) -> LogLine {
        let hint = if has_file { IN_BACKGROUND_WITH_FILE } else { IN_BACKGROUND };
        let text = format!("{}[{pid}] ended with 0, and left processes running{hint}", self.command);
        LogLine::new(&BACKGROUNDED, [json!(generation), json!(pid)], text)
    }

    fn failure(&self, failure: &Failure, serves: bool, last_try: Option<&str>) -> String {
        let command = &self.command;
        match failure {
            Failure::CannotStart(reason) => reason.clone(),
            Failure::NotReady(after) => {
                format!("the new {command} was not ready within {}{}", Shown(*after), because(last_try))
            }
            Failure::Ended(status) | Failure::EndedInOverlap(status) => {
                let when = match failure {
                    Failure::EndedInOverlap(_) => "soon after",
                    _ => "before",
                };
                let hint = match status {
                    ExitStatus::Exited(0) => IN_BACKGROUND,
                    _ if serves && !self.listens => "; did it want the port that the old one has? see --listen",
                    _ => "",
                };
                format!("the new {command} ended ({status}) {when} it was ready{hint}")
            }
        }
    }
}

/// The hint for a command that ends with 0 too early.
const IN_BACKGROUND: &str =
    "; does it go into the background? it must stay in the foreground, or name its main process, see --child-pidfile";
const IN_BACKGROUND_WITH_FILE: &str = "; does it go into the background? it must stay in the foreground, or write the \
                                       file of --child-pidfile within --ready-timeout";

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(code) => format!("ended with {code}"),
        ExitStatus::Killed(signal) => format!("was ended by {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::facts::StartError;

    #[test]
    fn every_entry_has_the_facts_of_its_kind() {
        let second = Duration::from_secs(1);
        let status = ExitStatus::Exited(3);
        let settled = |outcome| Message::Settled { kind: RequestKind::Replace, began: second, outcome };
        let error = StartError { code: 127, transient: false, reason: "why".to_owned() };
        let lines = [
            Message::Started(1),
            Message::Ended(1, status),
            Message::Began(RequestKind::Restart),
            settled(Outcome::Ok),
            settled(Outcome::Refused("why".to_owned())),
            settled(Outcome::Failed(Failure::NotReady(second))),
            Message::Ready(1),
            Message::GrownOld(1, second),
            Message::Restarting(1),
            Message::Replacing(1),
            Message::Replaced { old: 1, new: 2 },
            Message::Stopping(Signal::TERM),
            Message::StartingAgain(status),
            Message::StartingSoon,
            Message::SuccessorRemains { status, ready: false },
            Message::NotReady(1, second),
            Message::Reexecuted { before: "hupwrap 0".to_owned() },
            Message::Killing(1, second),
            Message::KillingRest(second),
            Message::Unkillable(second),
            Message::CannotStart("why".to_owned()),
            Message::StartingLater(error, second),
            Message::RestartingLater { generation: 1, status: Some(status), ran: second, delay: second, attempt: 3 },
            Message::GaveUp { restarts: 3, within: None, generation: 1, last: None },
            Message::ForwardRefused("why".to_owned()),
            Message::NotForwarded(Signal::HUP),
            Message::HangUpIgnored,
        ];
        let words = Words::new("/usr/bin/web", true);
        let mut log_lines: Vec<LogLine> =
            lines.iter().map(|line| words.log_line(line, true, Some("why"), |_| 4711)).collect();
        log_lines.extend([
            super::error("x"),
            listening("web", "tcp:1", "x".to_owned()),
            signal(Signal::HUP),
            not_sent(Signal::HUP, 1, "Operation not permitted"),
            status_file_failed("x", "y"),
            restored("x", false, true),
            restored("x", true, true),
            not_restored("x", false, "y"),
            not_restored("x", true, "y"),
            tried(1, 4711, "x"),
            changed("x"),
            watching_late("x"),
            words.backgrounded(1, 4711, false),
            words.backgrounded(1, 4711, true),
            words.followed(1, 4712, 4711, status),
            words.not_followed(1, 4711, status, "x"),
        ]);
        for log_line in &log_lines {
            assert_eq!(log_line.facts.len(), log_line.kind.facts.len(), "{}", log_line.kind.name);
            assert!(!log_line.text.is_empty());
        }
        for kind in EVENTS {
            assert!(log_lines.iter().any(|log_line| log_line.kind == kind), "{} is never said", kind.name);
        }
    }

    #[test]
    fn a_line_says_what_happened_and_what_comes_next() {
        let line = Message::RestartingLater {
            generation: 3,
            status: Some(ExitStatus::Exited(3)),
            ran: Duration::from_millis(2123),
            delay: Duration::from_millis(400),
            attempt: 3,
        };
        let log_line = Words::new("web", true).log_line(&line, true, None, |_| 4711);
        assert_eq!(log_line.text, "web[4711] ended with 3 after 2.1s; starting it again in 400ms (attempt 3)");
        let gave_up = |restarts, within, last| {
            Words::new("web", true)
                .log_line(&Message::GaveUp { restarts, within, generation: 3, last }, true, None, |_| 4711)
                .text
        };
        let ended = Some(Failure::Ended(ExitStatus::Killed(Signal::KILL)));
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
