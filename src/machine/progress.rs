//! How a request proceeds (contract, sections 2 and 5): checked, proven, acted upon, settled.

use std::time::Duration;

use super::effect::Effect;
use super::generation::{Phase, after};
use super::message::{Message, Outcome};
use super::request::{Request, RequestKind, Step};
use super::turn::Turn;
use super::{Machine, Next};
use crate::config::{Limit, Shown};
use crate::signal::SignalSet;

/// How long the new hupwrap file may take to prove that it runs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Machine {
    /// A check or a proof that takes too long is a refusal.
    pub(super) fn refuse_overdue(&mut self, turn: &mut Turn) -> bool {
        let Some(request) = self.request.filter(|request| turn.is_due(request.step.deadline())) else { return false };
        turn.push(Effect::Abandon);
        let reason = match (request.step, self.settings.check) {
            (Step::Checking { .. }, Some(Limit::After(limit))) => {
                format!("the check did not end within {}", Shown(limit))
            }
            _ => format!("the new hupwrap did not answer within {}s", PROBE_TIMEOUT.as_secs()),
        };
        self.settle(Outcome::Refused(reason), turn);
        true
    }

    /// A start that was asked for is ready.
    pub(super) fn settle_renewal(&mut self, turn: &mut Turn) -> bool {
        let is_ready = self.child.serves() && self.is_renewing();
        if is_ready {
            self.settle(Outcome::Ok, turn);
        }
        is_ready
    }

    /// The next step of the request: check, probe, then cross or renew.
    pub(super) fn go_on_with_request(&mut self, turn: &mut Turn) -> bool {
        let Some(request) = &mut self.request else { return false };
        let new_child = request.wants_new_child();
        // The end after Ctrl-C is final until somebody asks again.
        if new_child && matches!(self.next, Some(Next::End(_))) {
            return false;
        }
        match request.step {
            Step::Asked if new_child || self.settings.check.is_some() => {
                request.step =
                    Step::Checking { deadline: self.settings.check.and_then(|limit| after(turn.now, limit)) };
                turn.push(Effect::Check { new_child });
            }
            Step::Checked if request.kind == RequestKind::Forward => {
                let signals = request.signals;
                self.request = None;
                signals.iter().for_each(|signal| self.forward(signal, false, turn));
            }
            Step::Asked | Step::Checked if request.kind.wants_new_hupwrap() => {
                request.step = Step::Probing { deadline: turn.now.saturating_add(PROBE_TIMEOUT) };
                turn.push(Effect::Probe);
            }
            Step::Adopted if !new_child => {
                request.began = turn.clock;
                self.settle(Outcome::Ok, turn);
            }
            Step::Asked | Step::Checked | Step::Adopted => {
                request.began = turn.clock;
                self.renew(turn);
            }
            _ => return false,
        }
        true
    }

    /// Stops the child, if there is one, and starts it again; or starts another beside it.
    fn renew(&mut self, turn: &mut Turn) {
        let Some(request) = &mut self.request else { return };
        let beside = request.kind.replaces() && self.child.phase == Phase::Running;
        request.step = if beside { Step::Replacing } else { Step::Renewing };
        match self.child.phase {
            Phase::Running if beside => {
                turn.say(Message::Replacing(self.child.id));
                self.other = Some(self.order(self.settings.ready_beside, true, turn));
            }
            Phase::Starting | Phase::Running => {
                turn.say(Message::Restarting(self.child.id));
                self.child.stop_for_another(&self.settings, turn);
            }
            Phase::Sweeping { .. } | Phase::Absent => self.start_soon(turn),
            // It is being stopped already; the start follows.
            Phase::Stopping { .. } | Phase::NotStarted | Phase::Gone(_) | Phase::Finished => {}
        }
    }

    /// There is no child that could be stopped: a start follows because somebody asks for it.
    pub(super) fn start_soon(&mut self, turn: &mut Turn) {
        if self.next.replace(Next::Start) != Some(Next::Start) {
            turn.say(Message::StartingSoon);
        }
    }

    /// A renewal that waits shares a start that is to come anyhow. A new hupwrap can wait.
    pub(super) fn share_start(&mut self, turn: &mut Turn) -> bool {
        let is_owed = self.next == Some(Next::Start) || matches!(self.child.phase, Phase::Stopping { .. });
        if !is_owed || self.request.is_some() || self.stop.is_some() {
            return false;
        }
        let Some(kind) = self.again else { return false };
        let Some(renewal) = kind.without_hupwrap() else { return false };
        self.again = kind.wants_new_hupwrap().then_some(RequestKind::Upgrade);
        self.set_request(renewal, Step::Renewing, SignalSet::EMPTY, turn);
        if self.next.is_none() {
            // It is being stopped because it was late.
            turn.say(Message::StartingSoon);
        }
        true
    }

    /// A start that is due does not wait for a check. A renewal that is checked shares the start; a new hupwrap can
    /// wait. Anything else is checked again after the start. Returns whether there was a check.
    pub(super) fn overtake_check(&mut self, turn: &mut Turn) -> bool {
        let Some(request) = self.request.take_if(|request| matches!(request.step, Step::Checking { .. })) else {
            return false;
        };
        turn.push(Effect::Abandon);
        match request.kind {
            RequestKind::Forward => request.signals.iter().for_each(|signal| self.unchecked.insert(signal)),
            kind => self.again = Some(kind.and(self.again)),
        }
        if self.again.is_some_and(RequestKind::wants_new_child) {
            self.start_soon(turn);
        }
        if let Some(kind) = self.again.filter(|_| request.wants_new_child())
            && let Some(renewal) = kind.without_hupwrap()
        {
            // It has begun already.
            self.again = kind.wants_new_hupwrap().then_some(RequestKind::Upgrade);
            self.request = Some(Request { kind: renewal, step: Step::Renewing, ..request });
        }
        true
    }

    /// What waited for another request begins when that is over, the drain of the old child included.
    pub(super) fn take_up_again(&mut self, turn: &mut Turn) -> bool {
        if self.request.is_some() || self.stop.is_some() || self.child.phase == Phase::NotStarted {
            return false;
        }
        let is_free = match self.child.phase {
            Phase::Running => self.child.probation.is_none(),
            Phase::Absent => matches!(self.next, Some(Next::StartAt(_))),
            _ => false,
        };
        let renewal = if is_free && self.other.is_none() { self.again.take() } else { None };
        if let Some(kind) = renewal {
            self.set_request(kind, Step::Asked, SignalSet::EMPTY, turn);
            return true;
        }
        // A HUP that is held is a request under way.
        if self.held_hup || self.unchecked == SignalSet::EMPTY {
            return false;
        }
        let signals = std::mem::take(&mut self.unchecked);
        self.set_request(RequestKind::Forward, Step::Asked, signals, turn);
        true
    }

    /// Only a stop and the end drop requests.
    pub(super) fn drop_requests(&mut self, turn: &mut Turn) {
        let request = self.request.take();
        if request.is_some_and(|request| matches!(request.step, Step::Checking { .. } | Step::Probing { .. })) {
            turn.push(Effect::Abandon);
        }
        (self.again, self.unchecked) = (None, SignalSet::EMPTY);
        self.forget_held();
    }
}
