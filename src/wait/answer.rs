//! What a status file says in answer to a waiting command. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::config::{Action, Form};
use crate::facts::Time;
use crate::machine::RequestKind;
use crate::text::status_file::{self, CUT_OFF, MOST_SETTLED, Read, Reload};

/// A hupwrap that is told to stop says so in its file within this time.
const AT_ONCE: Duration = Duration::from_secs(1);
/// See [`grace`].
const MOST_GRACE: Duration = Duration::from_secs(1);

/// What came of the waiting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// What was asked for is there: a verdict in a word or two.
    Yes(&'static str),
    /// The request was refused or failed, and why.
    No(String),
    /// hupwrap has ended before there was an answer, and how.
    Gone(String),
    /// There was an answer, but the file no longer says which.
    Lost,
}

/// What a HUP is to bring about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// A new child.
    NewChild,
    /// A new hupwrap.
    NewHupwrap,
    /// The signal at the child.
    Delivery,
}

impl Wanted {
    /// Whether a request brings it about, by its action.
    fn is_covered_by(self, action: &str) -> bool {
        RequestKind::named(action).is_some_and(|kind| match self {
            Self::NewChild => kind.wants_new_child(),
            Self::NewHupwrap => kind.wants_new_hupwrap(),
            Self::Delivery => kind == RequestKind::Forward,
        })
    }
}

/// What there is to wait for after a HUP. `on_hup`: its action.
///
/// # Errors
/// Why there is nothing to wait for. Then HUP is not sent.
pub(super) fn wanted(on_hup: &str) -> Result<Wanted, String> {
    match on_hup.parse::<Action>() {
        Ok(Action::Restart | Action::Replace | Action::Reexec | Action::UpgradeReplace) => Ok(Wanted::NewChild),
        Ok(Action::Upgrade) => Ok(Wanted::NewHupwrap),
        Ok(Action::Forward(_)) => Ok(Wanted::Delivery),
        Ok(Action::Stop(_) | Action::Ignore | Action::LeftAlone) => {
            Err(format!("HUP means '{on_hup}' there, which reloads nothing; it was not sent. See --on-hup"))
        }
        Err(_) => Err(format!("HUP means '{on_hup}' there, which this hupwrap does not know; it was not sent")),
    }
}

/// The answer, as soon as there is one. `seen`: what the file says; `asked`: when the command asked; `ended`: whether
/// hupwrap had ended when the file was read.
pub(super) fn to(form: Form, seen: &Read, asked: Time, ended: bool) -> Option<Answer> {
    let answer = match form {
        Form::Reload => to_reload(seen, asked),
        Form::Stop => return ended.then_some(Answer::Yes("stopped")),
        Form::Status | Form::WaitReady => seen.ready.then_some(Answer::Yes("ready")),
    };
    match answer {
        // An outcome counts whenever it is read: it may be that hupwrap ended after it, or with it.
        Some(Answer::Yes(_) | Answer::No(_)) if form == Form::Reload => answer,
        // It is no longer ready.
        _ if ended => Some(Answer::Gone(format!("its hupwrap, pid {}, has ended{}", seen.pid, last_words(seen)))),
        answer => answer,
    }
}

fn to_reload(seen: &Read, asked: Time) -> Option<Answer> {
    let wanted = wanted(&seen.on_hup).ok()?;
    // Even the oldest outcome in a full list began after the question: those that were dropped may have done so too.
    let is_full = seen.settled.len() >= MOST_SETTLED;
    if is_full && seen.settled.first().is_some_and(|oldest| oldest.began >= asked) {
        return Some(Answer::Lost);
    }
    // The next request can begin as soon as the one before is settled: then that is among those before.
    let is_ours = |reload: &&Reload| reload.began >= asked && wanted.is_covered_by(&reload.action);
    let reload = seen.settled.iter().chain(&seen.reload).filter(|reload| reload.ended.is_some()).find(is_ours)?;
    let (_, answer) = reload.ended.as_ref()?;
    let reason = answer.reason().unwrap_or_default();
    Some(match answer {
        status_file::Answer::Ok => Answer::Yes(verdict(&reload.action)),
        status_file::Answer::Refused(_) => {
            Answer::No(format!("{} refused, nothing was touched: {reason}", reload.action))
        }
        // For another reason than the request itself: what counts is that hupwrap ends.
        status_file::Answer::Failed(reason) if reason == CUT_OFF => return None,
        status_file::Answer::Failed(_) => Answer::No(format!("{} failed: {reason}", reload.action)),
    })
}

/// What was done, by the action of a request that is ok.
fn verdict(action: &str) -> &'static str {
    match RequestKind::named(action) {
        Some(RequestKind::Restart) => "restarted",
        Some(RequestKind::Replace) => "replaced",
        Some(RequestKind::Reexec) => "re-executed and restarted",
        Some(RequestKind::Upgrade) => "upgraded",
        Some(RequestKind::UpgradeReplace) => "upgraded and replaced",
        Some(RequestKind::Forward) => "delivered",
        None => "done",
    }
}

/// How the last child ended, for people; nothing where there was none.
fn last_words(seen: &Read) -> String {
    match seen.all.get("last_exit").and_then(exit) {
        _ if seen.late => "; its child was not ready in time".to_owned(),
        Some(exit) => format!("; last child: {exit}"),
        None => String::new(),
    }
}

/// `exited with 3`, or `killed by TERM`.
pub(super) fn exit(value: &Value) -> Option<String> {
    let code = value.get("code").and_then(Value::as_u64).map(|code| format!("exited with {code}"));
    code.or_else(|| value.get("signal").and_then(Value::as_str).map(|signal| format!("killed by {signal}")))
}

/// What the command waits for, and what hupwrap is doing.
pub(super) fn awaited(form: Form, seen: &Read) -> String {
    let pid = seen.pid;
    match form {
        Form::Reload => format!("waiting for the {} of pid {pid}: {}", seen.on_hup, doing(seen)),
        Form::Stop => format!("waiting for the end of pid {pid}"),
        Form::Status | Form::WaitReady => format!("waiting until pid {pid} is ready: {}", doing(seen)),
    }
}

/// What has not happened, and what hupwrap is doing.
pub(super) fn not_yet(form: Form, seen: &Read) -> String {
    let pid = seen.pid;
    match form {
        Form::Reload => format!("the {} of pid {pid} ({}) had no outcome", seen.on_hup, doing(seen)),
        Form::Stop => format!("pid {pid} ({}) did not end", doing(seen)),
        Form::Status | Form::WaitReady => format!("pid {pid} ({}) was not ready", doing(seen)),
    }
}

/// What continues when the waiting ends early. `waited`: how long the command has waited.
pub(super) fn what_continues(form: Form, seen: &Read, waited: Duration) -> &'static str {
    match form {
        Form::Reload => "the reload continues",
        Form::Stop if waited < AT_ONCE || is_stop_under_way(seen) => "the stop continues",
        Form::Stop => "it is not stopping: --on may give TERM another meaning; it continues",
        Form::Status | Form::WaitReady => "hupwrap continues",
    }
}

/// A stop drops every request: what is being stopped for a request is followed by another child.
fn is_stop_under_way(seen: &Read) -> bool {
    seen.state == "ended" || (seen.state == "stopping" && !is_under_way(seen))
}

fn is_under_way(seen: &Read) -> bool {
    seen.reload.as_ref().is_some_and(|reload| reload.ended.is_none())
}

/// How much longer than it was told a command waits. hupwrap may give a new child up at the very moment at which the
/// command gives hupwrap up: both limits are 60s by default, and the command's runs from the signal on. The outcome is
/// worth that moment.
pub(super) fn grace(form: Form, seen: &Read, limit: Duration) -> Duration {
    match form {
        Form::Reload if is_under_way(seen) => limit.checked_div(10).unwrap_or_default().min(MOST_GRACE),
        _ => Duration::ZERO,
    }
}

fn doing(seen: &Read) -> String {
    let generation = seen.all.get("generation").and_then(Value::as_u64).map(|number| format!(", generation {number}"));
    format!("{}{}", seen.state, generation.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of pid 7: what HUP means, its child as JSON, and its reload as JSON.
    fn file(on_hup: &str, child: &str, reload: &str) -> Read {
        let text = format!(
            r#"{{"version":"9","pid":7,"pid_start":1,"state":"running","generation":3,"child":{child},"old_child":null,
            "on_hup":"{on_hup}","restarts":{{}},"last_exit":{{"code":3}},"reload":{reload},"listen":[],"more":{{}}}}"#
        );
        status_file::read(text.as_bytes()).unwrap()
    }

    fn reload(action: &str, began: u64, outcome: &str) -> String {
        let (ended, outcome, reason) = match outcome {
            "" => ("null", "null".to_owned(), "null"),
            "ok" => ("900", "\"ok\"".to_owned(), "null"),
            other => ("900", format!("\"{other}\""), "\"why\""),
        };
        format!(r#"{{"action":"{action}","began":{began},"ended":{ended},"outcome":{outcome},"reason":{reason}}}"#)
    }

    fn child(since: u64, ready: bool) -> String {
        format!(r#"{{"pid":8,"since":{since},"ready":{ready}}}"#)
    }

    fn answer(form: Form, seen: &Read, ended: bool) -> Option<Answer> {
        to(form, seen, Duration::from_nanos(100), ended)
    }

    fn yes(verdict: &'static str) -> Option<Answer> {
        Some(Answer::Yes(verdict))
    }

    fn no(why: &str) -> Option<Answer> {
        Some(Answer::No(why.to_owned()))
    }

    #[test]
    fn only_an_outcome_counts_that_began_later_and_covers_what_was_asked() {
        let refused = "restart refused, nothing was touched: why";
        for (on_hup, action, began, outcome, want) in [
            ("restart", "restart", 100, "ok", yes("restarted")),
            ("restart", "restart", 99, "ok", None),
            ("restart", "restart", 100, "", None),
            ("restart", "restart", 99, "refused", None),
            ("restart", "restart", 101, "refused", no(refused)),
            ("replace", "restart", 101, "refused", no(refused)),
            ("replace", "replace", 101, "failed", no("replace failed: why")),
            ("replace", "upgrade", 101, "ok", None),
            ("replace", "forward", 101, "ok", None),
            ("reexec", "restart", 101, "ok", yes("restarted")),
            ("upgrade", "restart", 101, "ok", None),
            ("upgrade", "upgrade", 101, "ok", yes("upgraded")),
            ("upgrade", "reexec", 101, "ok", yes("re-executed and restarted")),
            ("upgrade", "upgrade+replace", 101, "failed", no("upgrade+replace failed: why")),
            ("forward:USR1", "forward", 101, "ok", yes("delivered")),
            ("forward", "restart", 101, "ok", None),
            ("restart", "something new", 101, "ok", None),
        ] {
            let seen = file(on_hup, "null", &reload(action, began, outcome));
            assert_eq!(answer(Form::Reload, &seen, false), want, "{on_hup}: {action} {began} {outcome}");
        }
    }

    #[test]
    fn the_first_outcome_counts_though_the_next_request_has_begun() {
        let seen = |on_hup: &str, settled: &[String], last: &str| {
            let mut seen = file(on_hup, "null", last);
            seen.settled = settled.iter().map(|one| file(on_hup, "null", one).reload.unwrap()).collect();
            seen
        };
        let (old, ok) = (reload("restart", 50, "ok"), reload("restart", 150, "ok"));
        let (failed, under_way) = (reload("restart", 160, "failed"), reload("restart", 200, ""));
        for (settled, last, want) in [
            (&[old.clone()][..], &under_way, None),
            (&[old.clone(), ok.clone()], &under_way, yes("restarted")),
            (std::slice::from_ref(&ok), &failed, yes("restarted")),
            (&[old.clone(), failed.clone()], &ok, no("restart failed: why")),
            (&[reload("upgrade", 150, "ok")], &under_way, None),
        ] {
            assert_eq!(answer(Form::Reload, &seen("restart", settled, last), false), want, "{settled:?} {last}");
        }
    }

    #[test]
    fn an_outcome_that_was_dropped_is_not_mistaken_for_another() {
        let kept = |began: &[u64]| {
            let mut seen = file("restart", "null", &reload("restart", 999, "ok"));
            seen.settled =
                began.iter().map(|at| file("restart", "null", &reload("restart", *at, "ok")).reload.unwrap()).collect();
            answer(Form::Reload, &seen, false)
        };
        assert_eq!(kept(&[101, 102, 103, 104, 105, 106, 107]), yes("restarted"));
        assert_eq!(kept(&[99, 102, 103, 104, 105, 106, 107, 108]), yes("restarted"));
        assert_eq!(kept(&[101, 102, 103, 104, 105, 106, 107, 108]), Some(Answer::Lost));
    }

    #[test]
    fn a_late_child_is_not_called_killed() {
        let mut seen = file("restart", "null", "null");
        seen.late = true;
        let gone = "its hupwrap, pid 7, has ended; its child was not ready in time";
        assert_eq!(answer(Form::WaitReady, &seen, true), Some(Answer::Gone(gone.to_owned())));
    }

    #[test]
    fn after_the_end_only_an_outcome_counts() {
        let gone = Some(Answer::Gone("its hupwrap, pid 7, has ended; last child: exited with 3".to_owned()));
        let ok = file("restart", &child(150, true), &reload("restart", 150, "ok"));
        assert_eq!(answer(Form::Reload, &ok, true), yes("restarted"));
        assert_eq!(answer(Form::WaitReady, &ok, false), yes("ready"));
        assert_eq!(answer(Form::WaitReady, &ok, true), gone);
        assert_eq!(answer(Form::Stop, &ok, false), None);
        assert_eq!(answer(Form::Stop, &ok, true), yes("stopped"));
        let under_way = file("restart", "null", &reload("restart", 150, ""));
        assert_eq!(answer(Form::Reload, &under_way, true), gone);
        assert_eq!(answer(Form::WaitReady, &under_way, false), None);
        // One that failed before it asked is not its own.
        assert_eq!(answer(Form::Reload, &file("restart", "null", &reload("restart", 99, "failed")), true), gone);
        let failed = file("restart", "null", &reload("restart", 150, "failed"));
        assert_eq!(answer(Form::Reload, &failed, true), no("restart failed: why"));
    }

    #[test]
    fn an_outcome_that_is_due_now_gets_a_moment() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let under_way = file("replace", "null", &reload("replace", 150, ""));
        for (form, limit, want) in [
            (Form::Reload, minute, second),
            (Form::Reload, second, second / 10),
            (Form::Reload, Duration::ZERO, Duration::ZERO),
            (Form::Stop, minute, Duration::ZERO),
            (Form::WaitReady, minute, Duration::ZERO),
        ] {
            assert_eq!(grace(form, &under_way, limit), want, "{form:?} {limit:?}");
        }
        let settled = file("replace", "null", &reload("replace", 99, "ok"));
        assert_eq!(grace(Form::Reload, &settled, minute), Duration::ZERO);
    }

    #[test]
    fn what_reloads_nothing_is_said_at_once() {
        for on_hup in ["ignore", "stop", "stop:USR1", "frobnicate", ""] {
            assert!(wanted(on_hup).unwrap_err().starts_with(&format!("HUP means '{on_hup}' there")), "{on_hup}");
        }
        for on_hup in crate::config::ACTIONS {
            assert_eq!(wanted(on_hup).is_ok(), !["stop", "ignore"].contains(&on_hup), "{on_hup}");
        }
    }
}
