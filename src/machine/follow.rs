//! What follows the end of a child (contract, sections 4 and 7): the one place that decides it.

use std::time::Duration;

use super::message::{Failure, Message, Outcome};
use super::request::RequestKind;
use super::turn::Turn;
use super::{Machine, Next};
use crate::config::{RestartLimit, When};
use crate::exit::{Ending, ExitStatus, TIMED_OUT};
use crate::facts::{StartError, Time};

/// A child that ends this soon after Ctrl-C ended because of it.
const INTERRUPT_WINDOW: Duration = Duration::from_secs(5);
/// How long the very first start is tried again.
const FIRST_START_PATIENCE: Duration = Duration::from_secs(10);

impl Machine {
    /// The child is gone: the one place that decides what follows.
    pub(super) fn decide_what_follows(&mut self, turn: &mut Turn) -> bool {
        let Some(gone) = self.child.gone().cloned() else { return false };
        if self.next.is_some() {
            return false;
        }
        self.next = Some(match (gone.how, self.stop) {
            (Ok(status), Some(_)) => Next::End(Ending::Child(status)),
            (Err(_), Some(told)) => Next::End(Ending::Told(told)),
            (Ok(status), None) if !gone.was_stopped => self.after_end(status, turn),
            (Err(error), None) if !gone.was_stopped => self.after_failed_start(error, turn),
            (how, None) => self.after_stop(how.ok(), turn),
        });
        true
    }

    pub(super) fn is_interrupted(&self, turn: &Turn) -> bool {
        self.interrupted.is_some_and(|at| {
            // Where it came during the wait for a main process, it reached the rest, and that has ended now.
            let ended = Some(self.ended_at(turn)).filter(|ended| *ended >= at).unwrap_or(turn.now);
            ended.saturating_sub(at) < INTERRUPT_WINDOW
        })
    }

    /// When the child ended that is gone now: before the wait for a main process that was never named.
    fn ended_at(&self, turn: &Turn) -> Time {
        self.child.awaits_main.unwrap_or(turn.now)
    }

    /// After a child that hupwrap has stopped for another one, or because it was late.
    fn after_stop(&mut self, status: Option<ExitStatus>, turn: &mut Turn) -> Next {
        match status {
            Some(status) if self.is_interrupted(turn) => Next::End(Ending::Child(status)),
            _ if self.is_renewing() => Next::Start,
            // It waits for a check that is under way.
            _ if self.again.is_some_and(RequestKind::wants_new_child) => {
                turn.say(Message::StartingSoon);
                Next::Start
            }
            // A child that is not ready in time is a failure like any other.
            _ if self.settings.restart.when == When::No => Next::End(Ending::Own(TIMED_OUT)),
            _ => self.restart_later(None, turn).unwrap_or(Next::End(Ending::Own(TIMED_OUT))),
        }
    }

    /// After a child that has ended by itself.
    fn after_end(&mut self, status: ExitStatus, turn: &mut Turn) -> Next {
        // A child that was asked for has ended before it was ready.
        if self.is_renewing() {
            self.settle(Outcome::Failed(Failure::Ended(status)), turn);
        }
        let end = Next::End(Ending::Child(status));
        if self.is_interrupted(turn) {
            return end;
        }
        let is_asked = self.again.is_some_and(RequestKind::wants_new_child)
            || self.request.is_some_and(|request| request.wants_new_child());
        if is_asked {
            turn.say(Message::StartingAgain(status));
            return Next::Start;
        }
        match self.settings.restart.wants(status) {
            true => self.restart_later(Some(status), turn).unwrap_or(end),
            false => end,
        }
    }

    /// After a start that has failed. The first one is final, unless another try may do.
    fn after_failed_start(&mut self, error: StartError, turn: &mut Turn) -> Next {
        let end = Next::End(Ending::Own(error.code));
        let failure = Failure::CannotStart(error.reason.clone());
        let is_asked = self.is_renewing();
        let patience = self.first_start.map(|first| first.saturating_add(FIRST_START_PATIENCE));
        if patience.is_some_and(|until| !error.transient || until <= turn.now) {
            match is_asked {
                true => self.settle(Outcome::Failed(failure), turn),
                false => turn.say(Message::CannotStart(error.reason)),
            }
            return end;
        }
        let delay = self.backoff.next(turn.now, &self.settings.restart, self.first_start.is_none());
        if delay.is_none() {
            let unsaid = (!is_asked).then(|| failure.clone());
            let gave_up = self.gave_up(unsaid);
            if is_asked {
                self.settle(Outcome::Failed(failure), turn);
            }
            turn.say(gave_up);
            // The child that was to be started again has ended with a status of its own.
            let last = self.last_exit.map(|status| self.settings.map_status.map(status));
            let last = last.filter(|status| self.settings.restart.wants(*status));
            return last.map_or(end, |status| Next::End(Ending::Child(status)));
        }
        self.counts.failed = self.counts.failed.saturating_add(1);
        // The last try of the first start is when its patience ends, and not later.
        let left = patience.map(|until| until.saturating_sub(turn.now));
        let delay = delay.into_iter().chain(left).min().unwrap_or_default();
        turn.say(Message::StartingLater(error, delay));
        if is_asked {
            self.settle(Outcome::Failed(failure), turn);
        }
        Next::StartAt(turn.now.saturating_add(delay))
    }

    /// The policy starts the child again. `status`: how it ended; none if it was stopped because it was late. Returns
    /// none if the restart limit is reached.
    fn restart_later(&mut self, status: Option<ExitStatus>, turn: &mut Turn) -> Option<Next> {
        let ended = self.ended_at(turn);
        if self.child.ready_at.is_some_and(|ready| ended.saturating_sub(ready) >= self.settings.restart.reset) {
            self.backoff.reset();
        }
        let Some(delay) = self.backoff.next(turn.now, &self.settings.restart, true) else {
            turn.say(self.gave_up(status.map(Failure::Ended)));
            return None;
        };
        self.counts.failed = self.counts.failed.saturating_add(1);
        turn.say(Message::RestartingLater {
            generation: self.child.id,
            status,
            ran: ended.saturating_sub(self.child.began),
            delay,
            attempt: self.backoff.consecutive,
        });
        Some(Next::StartAt(turn.now.saturating_add(delay)))
    }

    fn gave_up(&self, last: Option<Failure>) -> Message {
        let (restarts, within) = match self.settings.restart.limit {
            Some(RestartLimit { count, within: within @ Some(_) }) => (count, within),
            _ => (self.backoff.consecutive, None),
        };
        Message::GaveUp { restarts, within, generation: self.child.id, last }
    }
}
