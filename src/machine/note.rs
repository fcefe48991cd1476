//! What happened, written down. Nothing is decided here: an event changes fields, and where it must act exactly once,
//! it does so and no more.

use std::time::Duration;

use super::effect::Effect;
use super::event::Event;
use super::generation::{Phase, Probation};
use super::message::{Message, Outcome};
use super::request::{RequestKind, Step};
use super::settings::Readiness;
use super::turn::Turn;
use super::{Machine, Next};
use crate::config::Action;
use crate::exit::ExitStatus;
use crate::facts::{GenerationId, StartError, Time};
use crate::signal::Signal;

/// How long after a failed try the child is tried again.
pub(super) const TRY_DELAY: Duration = Duration::from_millis(250);

impl Machine {
    pub(super) fn note(&mut self, event: Event, turn: &mut Turn) {
        match event {
            Event::Began => {
                if self.child.phase == Phase::NotStarted {
                    self.first_start = Some(turn.now);
                    self.child.phase = Phase::Absent;
                    self.next = Some(Next::Start);
                }
            }
            Event::Adopted { before } => {
                self.feed(turn);
                turn.say(Message::Reexecuted { before });
                // Where the hupwrap before did not say it.
                if self.child.serves() && self.renew_at.is_none() {
                    self.begin_age(self.child.ready_at.unwrap_or(turn.now));
                }
                self.request_step(Step::Crossed, Step::Adopted);
            }
            Event::Signal { signal: Signal::HUP, sender, hung_up, .. } => self.note_hup(sender, hung_up, turn),
            Event::Signal { signal, sender, shared, .. } => self.note_signal(signal, sender, shared, turn),
            Event::Changed => self.note_renewal_of(self.settings.on.of(Signal::HUP), turn),
            Event::TerminalGone => self.note_terminal_gone(turn),
            Event::Executed(id) => self.note_execution(id, turn),
            Event::StartFailed(id, error) => self.note_failed_start(id, error, turn),
            Event::Ready(id) => self.note_readiness(id, turn),
            Event::TriedInVain(id) => {
                let next_try = turn.now.saturating_add(TRY_DELAY);
                if let Some(Probation::Readiness { next, .. }) =
                    self.generation(id).and_then(|life| life.probation.as_mut())
                {
                    *next = Some(next_try);
                }
            }
            Event::Extended(id, by) => {
                let until = turn.now.saturating_add(by);
                self.generation(id).into_iter().for_each(|life| life.extend(until));
            }
            Event::ChildStopped(signal) => {
                // A STOP may be one that hupwrap has forwarded. It then keeps running.
                let is_own = signal == Signal::STOP
                    && self.settings.on.any(|action| action == Action::Forward(Some(Signal::STOP)));
                if self.settings.follows_stops && self.child.has_child() && !is_own {
                    // STOP would stop an orphaned process group as well, which nobody continues.
                    let signal = if signal == Signal::STOP { Signal::TSTP } else { signal };
                    turn.push(Effect::Suspend { signal, insist: false });
                }
            }
            Event::MainAwaited(id) => {
                self.generation(id).into_iter().for_each(|life| life.awaits_main = Some(turn.now));
            }
            Event::MainFound(id) => {
                let was_awaited = self.generation(id).and_then(|life| life.awaits_main.take()).is_some();
                // It is ready once more. An outcome to come says so too.
                if was_awaited && self.serving() == Some(id) && !self.is_asked() {
                    turn.say(Message::Ready(id));
                }
            }
            Event::ChildEnded(id, status) => self.note_end(id, status, turn),
            Event::RestRemains(id) => {
                let Self { settings, child, other, .. } = self;
                let mut both = std::iter::once(child).chain(other);
                both.find(|life| life.id == id).into_iter().for_each(|life| life.rest_remains(settings, turn));
            }
            Event::RestGone(id) => {
                if let Some(life) = self.generation(id)
                    && matches!(life.phase, Phase::Sweeping { .. })
                {
                    life.phase = Phase::Absent;
                }
            }
            Event::Checked => {
                if let Some(request) = &mut self.request
                    && matches!(request.step, Step::Checking { .. })
                {
                    request.step = Step::Checked;
                }
            }
            Event::Refused(reason) => {
                if self.request.is_some_and(|request| request.step.can_be_refused()) {
                    self.settle(Outcome::Refused(reason), turn);
                }
            }
            Event::Proven => {
                if let Some(request) = &mut self.request
                    && matches!(request.step, Step::Probing { .. })
                {
                    request.step = Step::Proven;
                    self.feed(turn);
                }
            }
            // Both are for the rules: a pause has moved the time, a tick makes deadlines count.
            Event::Resumed(_) | Event::Tick => {}
        }
    }

    fn request_step(&mut self, from: Step, to: Step) {
        if let Some(request) = self.request.as_mut().filter(|request| request.step == from) {
            request.step = to;
        }
    }

    /// Feeds the watchdog before or after something that may take long.
    fn feed(&self, turn: &mut Turn) {
        if self.settings.place.watchdog.is_some() {
            turn.push(Effect::Feed);
        }
    }

    fn note_execution(&mut self, id: GenerationId, turn: &mut Turn) {
        if !self.generation(id).is_some_and(|life| life.has_child()) {
            return;
        }
        if self.first_start.take().is_some() {
            // Tries of the first start are no restarts.
            self.backoff.reset();
        }
        // Otherwise it is being stopped.
        let Some(life) = self.generation(id).filter(|life| life.phase == Phase::Starting) else { return };
        life.phase = Phase::Running;
        life.hears = life.readiness.hears_when_executed();
        if let (Readiness::After(time), Some(Probation::Readiness { deadline, next })) =
            (life.readiness, &mut life.probation)
        {
            // A child that has nothing to say cannot be late.
            (*deadline, *next) = (None, Some(turn.now.saturating_add(time)));
        }
        match life.readiness {
            Readiness::Executed => self.note_readiness(id, turn),
            Readiness::Tried => turn.push(Effect::Try(id)),
            Readiness::Told | Readiness::After(_) => {}
        }
    }

    pub(super) fn note_readiness(&mut self, id: GenerationId, turn: &mut Turn) {
        let is_successor = self.successor().is_some_and(|successor| successor.id == id);
        let overlap = Some(self.settings.overlap).filter(|overlap| is_successor && !overlap.is_zero());
        let Some(life) = self.generation(id) else { return };
        let (Phase::Running, Some(Probation::Readiness { next, .. })) = (&life.phase, &mut life.probation) else {
            return;
        };
        if life.awaits_main.is_some() {
            // What it said counts when there is a child again. Where it was tried, another may have answered: tried
            // again.
            *next = Some(turn.now);
            return;
        }
        life.probation = overlap.map(|overlap| Probation::Overlap { until: turn.now.saturating_add(overlap) });
        life.hears = true;
        // That a child executes may be told late. So readiness by exec counts from the start that was ordered.
        let is_told_late = life.readiness == Readiness::Executed;
        let ready_at = if is_told_late { life.began } else { turn.now };
        life.ready_at = Some(ready_at);
        turn.say(Message::Ready(id));
        if id == self.child.id {
            self.begin_age(ready_at);
        }
    }

    /// The age of a child counts from then (`--max-age`). Children that were started together differ by up to 10 %.
    pub(super) fn begin_age(&mut self, from: Time) {
        self.renew_at = self.settings.max_age.map(|age| from.saturating_add(self.backoff.spread(age, 0.1)));
    }

    fn note_failed_start(&mut self, id: GenerationId, error: StartError, turn: &Turn) {
        if let Some(life) = self.generation(id) {
            life.went(Err(error), turn.now);
        }
    }

    fn note_end(&mut self, id: GenerationId, status: ExitStatus, turn: &Turn) {
        // How a successor ended is said with the request. The child's status may become hupwrap's own.
        let is_last = id < self.child.id && self.stop.is_none() && self.child.has_child();
        if id == self.child.id || is_last {
            self.last_exit = Some(status);
        }
        let mapped = if id == self.child.id { self.settings.map_status.map(status) } else { status };
        if let Some(life) = self.generation(id) {
            life.went(Ok(mapped), turn.now);
        }
    }

    /// Something asks for what an action asks for, if that is a renewal.
    pub(super) fn note_renewal_of(&mut self, action: Action, turn: &mut Turn) {
        if let Some(kind) = RequestKind::of(action) {
            self.note_renewal(kind, turn);
        }
    }

    /// Somebody asks for a renewal.
    fn note_renewal(&mut self, kind: RequestKind, turn: &mut Turn) {
        if self.stop.is_some() {
            return;
        }
        // The first start is to come, by the hupwrap that was just started. But who asks for that alone waits for it.
        let is_new = self.child.phase == Phase::NotStarted;
        let kind = kind.without_hupwrap().filter(|_| is_new).unwrap_or(kind);
        if kind.wants_new_child() {
            self.interrupted = None;
            self.backoff.reset();
            let is_swept = matches!(self.child.phase, Phase::Sweeping { .. });
            match self.next {
                Some(Next::End(_)) => self.start_soon(turn),
                Some(Next::StartAt(_)) if is_swept => self.start_soon(turn),
                _ => {}
            }
        }
        // The start to come answers it.
        let is_shared = self.is_renewing() && self.is_about_to_start();
        if !is_shared || kind.wants_new_hupwrap() {
            self.again = Some(kind.and(self.again));
        }
    }
}
