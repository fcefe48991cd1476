//! What follows from what was noted: the rules, the strongest first. Each one does one thing and says whether it did.

use super::effect::{Effect, To};
use super::generation::{Generation, Phase, Probation, after};
use super::message::{Failure, Message, Outcome};
use super::request::Step;
use super::settings::Readiness;
use super::turn::Turn;
use super::{Machine, Next, signals};
use crate::config::KillMode;
use crate::exit::Ending;
use crate::signal::{Signal, SignalSet};

type Rule = fn(&mut Machine, &mut Turn) -> bool;

/// The rules in their order, with the section of the contract that each one comes from.
const RULES: [Rule; 16] = [
    Machine::stop_for_good,       // 3
    Machine::kill_overdue,        // 3
    Machine::refuse_overdue,      // 2, 5
    Machine::stop_late,           // 9
    Machine::keep_time,           // 9, 2, 7
    Machine::fail_successor,      // 9
    Machine::promote_successor,   // 9
    Machine::deliver_held,        // 2
    Machine::settle_renewal,      // 2
    Machine::decide_what_follows, // 2, 4, 7
    Machine::sweep,               // 3
    Machine::end,                 // 4
    Machine::share_start,         // 2
    Machine::start,               // 2, 7
    Machine::go_on_with_request,  // 2, 5
    Machine::take_up_again,       // 2
];

impl Machine {
    /// Applies the first rule that applies, and returns whether one did.
    pub(super) fn apply_rule(&mut self, turn: &mut Turn) -> bool {
        RULES.iter().any(|rule| rule(self, turn))
    }

    /// A stop takes precedence over everything: requests are dropped, and what is up is asked to end.
    fn stop_for_good(&mut self, turn: &mut Turn) -> bool {
        let (Some(told), Some((by, to_job))) = (self.stop, self.stop_by.take()) else { return false };
        self.drop_requests(turn);
        let settings = &self.settings;
        for life in self.other.iter_mut().chain([&mut self.child]) {
            life.stop_for_good(settings, by, to_job, turn);
        }
        match (&self.child.phase, self.next) {
            (Phase::NotStarted, _) => {
                self.child.phase = Phase::Absent;
                self.next = Some(Next::End(Ending::Told(told)));
            }
            // The last child's end was a step of a restart, and is not hupwrap's.
            (_, Some(Next::Start | Next::StartAt(_))) => self.next = Some(Next::End(Ending::Told(told))),
            _ => {}
        }
        true
    }

    fn kill_overdue(&mut self, turn: &mut Turn) -> bool {
        let Self { settings, child, other, .. } = self;
        std::iter::once(child).chain(other).any(|life| life.kill_overdue(settings, turn))
    }

    /// A child that was not ready in time is stopped.
    fn stop_late(&mut self, turn: &mut Turn) -> bool {
        if self.child.is_late(turn) {
            let waited = self.child.ready_limit();
            if self.is_renewing() {
                self.settle(Outcome::Failed(Failure::NotReady(waited)), turn);
            }
            turn.say(Message::NotReady(self.child.id, waited));
            self.child.late = true;
            self.child.stop_for_another(&self.settings, turn);
            return true;
        }
        let Some(mut successor) = self.other.take_if(|other| other.is_late(turn)) else { return false };
        self.settle(Outcome::Failed(Failure::NotReady(successor.ready_limit())), turn);
        self.forget_held();
        successor.stop_for_another(&self.settings, turn);
        self.other = Some(successor);
        true
    }

    /// What is due at a time and is no failure: readiness after a delay, the next try, the watchdog, the end of a
    /// suspicion, the renewal of an old child.
    fn keep_time(&mut self, turn: &mut Turn) -> bool {
        if turn.is_due(self.of_age()) {
            // If that is refused or fails, this one is asked for again when it is older by as much.
            self.begin_age(turn.now);
            let age = turn.now.saturating_sub(self.child.ready_at.unwrap_or(turn.now));
            turn.say(Message::GrownOld(self.child.id, age));
            self.note_renewal_of(self.settings.on.of(Signal::HUP), turn);
            return true;
        }
        if turn.is_due(self.suspect_hup.map(|at| at.saturating_add(signals::HANG_UP_WINDOW))) {
            self.suspect_hup = None;
            return true;
        }
        if let Some(interval) = self.settings.place.watchdog
            && !self.child.serves()
            && turn.is_due(Some(self.feed_at))
        {
            self.feed_at = turn.now.saturating_add(interval);
            turn.push(Effect::Feed);
            return true;
        }
        let due = std::iter::once(&mut self.child).chain(&mut self.other).find_map(|life| match &mut life.probation {
            Some(Probation::Readiness { next, .. })
                if life.phase == Phase::Running && life.awaits_main.is_none() && turn.is_due(*next) =>
            {
                *next = None;
                Some((life.id, life.readiness))
            }
            _ => None,
        });
        match due {
            Some((id, Readiness::Tried)) => turn.push(Effect::Try(id)),
            Some((id, _)) => self.note_readiness(id, turn),
            None => return false,
        }
        true
    }

    /// The successor ended, or could not be started: the old child continues to serve.
    fn fail_successor(&mut self, turn: &mut Turn) -> bool {
        let is_newer = |other: &&mut Generation| other.id > self.child.id;
        let Some(other) = self.other.as_mut().filter(is_newer) else { return false };
        let failure = match other.gone() {
            Some(gone) if !gone.was_stopped => match &gone.how {
                Err(error) => Failure::CannotStart(error.reason.clone()),
                Ok(status) if matches!(other.probation, Some(Probation::Overlap { .. })) => {
                    Failure::EndedInOverlap(*status)
                }
                Ok(status) => Failure::Ended(*status),
            },
            _ => return false,
        };
        self.settle(Outcome::Failed(failure), turn);
        self.forget_held();
        self.leave_other(turn);
        true
    }

    /// The successor serves from now on. Either it is trusted and its predecessor is stopped, or its predecessor has
    /// ended by itself, and it is the only child.
    fn promote_successor(&mut self, turn: &mut Turn) -> bool {
        let Some(successor) = self.successor() else { return false };
        let is_trusted = match successor.probation {
            Some(Probation::Overlap { until }) => successor.awaits_main.is_none() && turn.is_due(Some(until)),
            _ => successor.serves(),
        };
        let ended = match self.child.gone() {
            Some(gone) if !gone.was_stopped && !self.is_interrupted(turn) => gone.how.as_ref().ok().copied(),
            _ => None,
        };
        if !is_trusted && ended.is_none() {
            return false;
        }
        let Some(successor) = self.other.take() else { return false };
        let mut old = std::mem::replace(&mut self.child, successor);
        if let Some(status) = ended {
            turn.say(Message::SuccessorRemains { status, ready: self.child.ready_at.is_some() });
            if let Some(request) = &mut self.request {
                request.step = Step::Renewing;
            }
        } else {
            turn.say(Message::Replaced { old: old.id, new: self.child.id });
            old.stop_for_another(&self.settings, turn);
            self.settle(Outcome::Ok, turn);
        }
        if let Some(ready_at) = self.child.ready_at {
            self.begin_age(ready_at);
        }
        // Nothing is left that an overlap could wait for.
        self.child.probation = self.child.probation.filter(|on| matches!(on, Probation::Readiness { .. }));
        self.other = Some(old);
        true
    }

    /// What was held goes to a child that can receive it; not to one that is about to be replaced.
    fn deliver_held(&mut self, turn: &mut Turn) -> bool {
        let is_possible = self.child.is_up() && self.child.hears && self.successor().is_none();
        if self.held_signals == SignalSet::EMPTY || !is_possible {
            return false;
        }
        self.deliver(turn);
        true
    }

    /// What remains of a generation is asked to end, where something follows or the kill mode says so.
    fn sweep(&mut self, turn: &mut Turn) -> bool {
        if self.other.as_ref().is_some_and(|other| matches!(other.phase, Phase::Gone(_) | Phase::Absent)) {
            self.leave_other(turn);
            return true;
        }
        let mode = self.settings.kill_mode;
        if let Some(gone) = self.child.gone().cloned() {
            let has_ended = gone.how.is_ok() && mode != KillMode::Process;
            // Pid 1 takes everything with it: what remains is asked before.
            let follows = !matches!(self.next, Some(Next::End(_))) || self.settings.place.is_init;
            if has_ended && (gone.was_stopped || follows) {
                self.child.sweep(gone.rest_deadline, gone.was_stopped && mode == KillMode::Group, turn);
                return true;
            }
            if has_ended && mode == KillMode::Group {
                self.child.signal(To::Rest, self.settings.stop_signal, turn);
                self.child.signal(To::Rest, Signal::CONT, turn);
            }
            (self.child.phase, self.child.probation, self.child.unswept) = (Phase::Absent, None, has_ended);
            return true;
        }
        // The end was decided, and then another start was asked for.
        let is_owed = self.child.phase == Phase::Absent && self.child.unswept && self.next == Some(Next::Start);
        if is_owed {
            self.child.sweep(None, false, turn);
        }
        is_owed
    }

    /// The second generation has no child any more: what remains of it is swept, or nothing does.
    fn leave_other(&mut self, turn: &mut Turn) {
        let Some(mut other) = self.other.take() else { return };
        let mode = self.settings.kill_mode;
        if let Some(gone) = other.gone().cloned()
            && gone.how.is_ok()
            && mode != KillMode::Process
        {
            other.sweep(gone.rest_deadline, gone.was_stopped && mode == KillMode::Group, turn);
            self.other = Some(other);
        }
    }

    /// hupwrap's own end, once nothing is left to wait for.
    fn end(&mut self, turn: &mut Turn) -> bool {
        let Some(Next::End(ending)) = self.next else { return false };
        if let Some(mut other) = self.other.take_if(|other| other.is_up()) {
            other.stop_for_another(&self.settings, turn);
            self.other = Some(other);
            // The replace has no old child any more. A start answers it, if somebody asks for one before the end.
            self.request.iter_mut().for_each(|request| request.step = Step::Renewing);
            return true;
        }
        if self.child.phase != Phase::Absent || self.other.is_some() {
            return false;
        }
        self.drop_requests(turn);
        self.child.phase = Phase::Finished;
        turn.push(Effect::Finish(ending));
        true
    }

    /// A start is due, and nothing is in its way: there are never three generations.
    fn start(&mut self, turn: &mut Turn) -> bool {
        let is_due = match self.next {
            Some(Next::Start) => true,
            Some(Next::StartAt(at)) => turn.is_due(Some(at)),
            _ => false,
        };
        if !is_due || !self.may_start() {
            return false;
        }
        if self.overtake_check(turn) {
            return true;
        }
        let is_asked = self.next == Some(Next::Start) && self.last_id > 0;
        // Ctrl-C has not reached the child to come.
        (self.next, self.interrupted) = (None, None);
        self.child = self.order(self.settings.ready, is_asked, turn);
        true
    }

    pub(super) fn order(&mut self, readiness: Readiness, is_asked: bool, turn: &mut Turn) -> Generation {
        self.last_id = self.last_id.saturating_add(1);
        turn.push(Effect::Start(self.last_id));
        if let Some(request) = &mut self.request {
            request.began = turn.clock;
        }
        self.counts.asked = self.counts.asked.saturating_add(u64::from(is_asked));
        let deadline = after(turn.now, self.settings.ready_timeout).filter(|_| readiness != Readiness::Executed);
        Generation {
            id: self.last_id,
            phase: Phase::Starting,
            readiness,
            probation: Some(Probation::Readiness { deadline, next: None }),
            began: turn.now,
            since: turn.clock,
            ..Generation::none()
        }
    }
}
