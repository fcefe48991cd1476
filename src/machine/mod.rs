//! The decisions. Pure: no clock, no environment, no pid; time is an argument.
//!
//! The machine is told facts ([`Event`]) and answers with [`Effect`]s. It works in two steps. `note` writes down what
//! happened and decides nothing. Then `rules` look at what is written there, the strongest rule first, and the first
//! one that applies does one thing, until none applies. What follows the end of a child is decided in one rule, and
//! kept in one value, `Next`. docs/ARCHITECTURE.md has the rules in words, docs/states.md the tables of the states.

mod backoff;
pub mod effect;
pub mod event;
mod follow;
mod generation;
pub mod message;
mod note;
mod progress;
pub mod request;
mod rules;
pub mod settings;
mod signals;
mod snapshot;
pub mod status;
#[cfg(test)]
mod tests;
mod turn;
#[cfg(test)]
mod walk;

use crate::exit::{Ending, ExitStatus};
use crate::facts::{GenerationId, Time};
use crate::signal::{Signal, SignalSet};
use backoff::Backoff;
use effect::Effect;
use event::Event;
use generation::{Generation, Phase, Probation};
use message::{Message, Outcome};
pub use request::RequestKind;
use request::{Request, Step};
use settings::{Readiness, Settings};
pub use snapshot::Snapshot;
use turn::Turn;

/// More rules than can apply to one event: a machine that wants more turns in circles.
const MAX_RULES: usize = 50;

/// What follows the end of the child.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Next {
    /// Another start, as soon as nothing is in its way.
    Start,
    /// Another start, not before this time.
    StartAt(Time),
    /// hupwrap's own end.
    End(Ending),
}

/// How often the child was started again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counts {
    /// Because somebody asked for it.
    pub asked: u64,
    /// Because it had ended, or could not be started.
    pub failed: u64,
}

/// The machine. It is told facts by [`Machine::handle`]. [`Machine::deadline`], [`Machine::awaits_execution`] and
/// [`Machine::is_about_to_start`] say how it wants to be told. [`Machine::snapshot`] and [`Machine::adopt`] carry it
/// over a re-exec.
#[derive(Clone, PartialEq, Debug)]
pub struct Machine {
    settings: Settings,
    /// The generation that serves, or is to.
    child: Generation,
    /// The second one. With a greater number it is the child's successor, which is not trusted yet or has failed; with
    /// a smaller one its predecessor, which is being stopped.
    other: Option<Generation>,
    /// What follows the child's end: decided when it is gone, and none while there is a child.
    next: Option<Next>,
    request: Option<Request>,
    /// A renewal that was asked for during another request: one, not a queue.
    again: Option<RequestKind>,
    /// Signals to forward that wait for the user's check.
    unchecked: SignalSet,
    /// What told hupwrap to stop.
    stop: Option<Signal>,
    /// The signal of a stop that was not passed on yet, and whether it goes to the child's whole group. A rule does
    /// that within the same event.
    stop_by: Option<(Signal, bool)>,
    /// Signals to forward that wait until a child can receive them.
    held_signals: SignalSet,
    /// Whether a HUP among those has no outcome yet.
    held_hup: bool,
    /// The number of the last start.
    last_id: GenerationId,
    backoff: Backoff,
    counts: Counts,
    /// How the last child ended.
    last_exit: Option<ExitStatus>,
    /// When the very first start was ordered, while none has succeeded.
    first_start: Option<Time>,
    /// When Ctrl-C reached the child, unless a renewal was asked for since.
    interrupted: Option<Time>,
    /// When the terminal, or the leader of the session, was found gone.
    terminal_gone: Option<Time>,
    /// When a process sent the HUP that began a renewal. It may turn out to be a hang-up.
    suspect_hup: Option<Time>,
    /// When the child that serves is renewed because of its age. It means nothing while none serves.
    renew_at: Option<Time>,
    /// When the watchdog is fed next, if no child can.
    feed_at: Time,
    /// How long hupwrap was suspended altogether. All times above are less by this than CLOCK_MONOTONIC: a pause moves
    /// them all, and none can be forgotten.
    paused: Time,
}

impl Machine {
    /// A machine that has done nothing yet and waits for [`Event::Began`].
    pub fn new(settings: Settings) -> Self {
        let backoff = Backoff::new(settings.place.seed);
        Self {
            settings,
            child: Generation::none(),
            other: None,
            next: None,
            request: None,
            again: None,
            unchecked: SignalSet::EMPTY,
            stop: None,
            stop_by: None,
            held_signals: SignalSet::EMPTY,
            held_hup: false,
            last_id: 0,
            backoff,
            counts: Counts::default(),
            last_exit: None,
            first_start: None,
            interrupted: None,
            terminal_gone: None,
            suspect_hup: None,
            renew_at: None,
            feed_at: Time::ZERO,
            paused: Time::ZERO,
        }
    }

    /// Takes a fact at this time, as CLOCK_MONOTONIC reads it, and adds the effects that follow from it.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Effect>) {
        if self.child.phase == Phase::Finished {
            return;
        }
        if let Event::Resumed(pause) = event {
            self.paused = self.paused.saturating_add(pause);
        }
        let is_tick = event == Event::Tick;
        let mut turn = Turn { now: now.saturating_sub(self.paused), clock: now, is_tick, out };
        self.note(event, &mut turn);
        for _ in 0..MAX_RULES {
            if !self.apply_rule(&mut turn) {
                return;
            }
        }
        debug_assert!(false, "the rules turn in circles");
    }

    /// When [`Event::Tick`] is due. Told early, late or twice it changes nothing.
    pub fn deadline(&self) -> Option<Time> {
        let of_request = self.request.and_then(|request| request.step.deadline());
        let hungry =
            self.settings.place.watchdog.filter(|_| !self.child.serves() && self.child.phase != Phase::Finished);
        let of_watchdog = hungry.map(|_| self.feed_at);
        let of_start = match self.next {
            Some(Next::StartAt(at)) if self.may_start() => Some(at),
            _ => None,
        };
        let of_suspect = self.suspect_hup.map(|at| at.saturating_add(signals::HANG_UP_WINDOW));
        let of_generations = self.generations().filter_map(Generation::deadline);
        let others = [of_request, of_watchdog, of_start, of_suspect, self.of_age()].into_iter().flatten();
        of_generations.chain(others).min().map(|deadline| deadline.saturating_add(self.paused))
    }

    /// Whether a start follows as soon as the last child and its generation are gone: requests that came before share
    /// it.
    pub fn is_about_to_start(&self) -> bool {
        let renews = self.is_renewing();
        let has_started = matches!(self.child.phase, Phase::NotStarted | Phase::Starting | Phase::Running);
        (renews || self.next == Some(Next::Start)) && !has_started
    }

    /// Whether something is to be done as soon as [`Event::Executed`] comes. Otherwise it may be told late, though
    /// before anything else that happened after it.
    pub fn awaits_execution(&self) -> bool {
        let beside = self.other.as_ref().is_some_and(|other| other.phase == Phase::Starting);
        let awaited = self.again.is_some()
            || self.settings.place.is_watched
            || self.settings.max_age.is_some()
            || self.child.readiness != Readiness::Executed
            || self.held_signals != SignalSet::EMPTY;
        beside || (self.child.phase == Phase::Starting && awaited)
    }

    /// Whether a HUP may turn out to be a hang-up, so that the end of the terminal must be noticed soon.
    pub fn suspects_hang_up(&self) -> bool {
        self.suspect_hup.is_some()
    }

    /// Whether a generation exists: its child, or what remains of it.
    pub fn knows(&self, generation: GenerationId) -> bool {
        let exists = |life: &&Generation| match life.phase {
            // A renewal that is asked for before the end has the rest swept.
            Phase::Absent => life.unswept,
            Phase::NotStarted | Phase::Finished => false,
            _ => true,
        };
        self.generations().any(|life| life.id == generation && exists(&life))
    }

    /// Whether it matters that a generation's child is ready.
    pub fn awaits_readiness(&self, generation: GenerationId) -> bool {
        let awaited = |life: &Generation| matches!(life.probation, Some(Probation::Readiness { .. }));
        self.generations().any(|life| life.id == generation && awaited(life))
    }

    /// Since when the main process of a generation is waited for, by CLOCK_MONOTONIC. A pause of hupwrap moves it.
    pub fn awaits_main(&self, generation: GenerationId) -> Option<Time> {
        let since = self.generations().find(|life| life.id == generation)?.awaits_main?;
        Some(since.saturating_add(self.paused))
    }

    /// Until when a generation has asked for time, by CLOCK_MONOTONIC.
    pub fn extended(&self, generation: GenerationId) -> Option<Time> {
        let until = self.generations().find(|life| life.id == generation)?.extended?;
        Some(until.saturating_add(self.paused))
    }

    /// Whether a generation speaks for the service: it is neither one that was replaced nor one that was to replace
    /// another and failed.
    pub fn speaks(&self, generation: GenerationId) -> bool {
        self.child.id == generation || self.successor().is_some_and(|successor| successor.id == generation)
    }

    /// The signal that a child which is being stopped has got: KILL when its time was up, or what has asked it to end.
    /// None for a child that is not being stopped.
    pub fn stop_signal(&self, generation: GenerationId) -> Option<Signal> {
        match self.generations().find(|life| life.id == generation)?.phase {
            Phase::Stopping { by, .. } => Some(by),
            _ => None,
        }
    }

    /// Whether hupwrap ends because its child has ended by itself.
    pub fn ends_by_itself(&self) -> bool {
        let is_told = self.stop.is_some() || self.interrupted.is_some();
        !is_told && matches!(self.next, Some(Next::End(Ending::Child(_))))
    }

    /// The child that runs and is ready, if there is one.
    pub fn serving(&self) -> Option<GenerationId> {
        self.child.serves().then_some(self.child.id)
    }

    /// When the start of that child was ordered, by CLOCK_MONOTONIC.
    pub fn serving_since(&self) -> Option<Time> {
        self.child.serves().then_some(self.child.since)
    }

    /// Whether a request is under way, or waits for its turn.
    pub fn is_asked(&self) -> bool {
        self.request.is_some() || self.again.is_some()
    }

    /// Both generations, the child's first.
    fn generations(&self) -> impl Iterator<Item = &Generation> {
        std::iter::once(&self.child).chain(&self.other)
    }

    /// The generation of that number, if it exists.
    fn generation(&mut self, id: GenerationId) -> Option<&mut Generation> {
        std::iter::once(&mut self.child).chain(&mut self.other).find(|life| life.id == id)
    }

    /// The new child of a replace, while it may still take over.
    fn successor(&self) -> Option<&Generation> {
        self.other.as_ref().filter(|other| other.id > self.child.id && other.is_up())
    }

    /// When the child is old enough for a renewal. None while one is asked for, or under way.
    fn of_age(&self) -> Option<Time> {
        self.renew_at.filter(|_| self.child.serves() && self.other.is_none() && !self.is_asked())
    }

    /// Whether a request has the child stopped and started again, and waits for the start to be ready.
    fn is_renewing(&self) -> bool {
        self.request.is_some_and(|request| request.step == Step::Renewing)
    }

    /// Whether nothing is in the way of a start. A check never is.
    fn may_start(&self) -> bool {
        let allowed = self.request.is_none_or(|request| matches!(request.step, Step::Renewing | Step::Checking { .. }));
        self.child.phase == Phase::Absent && self.other.is_none() && allowed
    }

    fn set_request(&mut self, kind: RequestKind, step: Step, signals: SignalSet, turn: &mut Turn) {
        let request = Request { kind, step, began: turn.clock, signals };
        if request.has_outcome() {
            turn.say(Message::Began(kind));
        }
        self.request = Some(request);
    }

    /// The request under way is over.
    fn settle(&mut self, outcome: Outcome, turn: &mut Turn) {
        let Some(request) = self.request.take() else { return };
        // If the child came of age in the course of a renewal, the same is not tried at once.
        let is_in_vain = request.wants_new_child() && outcome != Outcome::Ok;
        if is_in_vain && self.renew_at.is_some_and(|at| at <= turn.now) {
            self.begin_age(turn.now);
        }
        turn.say(match outcome {
            Outcome::Refused(reason) if !request.has_outcome() => Message::ForwardRefused(reason),
            outcome => Message::Settled { kind: request.kind, began: request.began, outcome },
        });
    }
}
