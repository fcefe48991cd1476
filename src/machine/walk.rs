//! Walks through all the machine can come into, with a model of the world beside it: a breadth-first search over what
//! may happen next, in every order. Time is relative, so that the walk ends: only what is left of a deadline counts.

#![allow(clippy::arithmetic_side_effects)]

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write as _;
use std::rc::Rc;

use std::time::Duration;

use super::effect::To;
use super::settings::{Place, STOP_TIMEOUT};
use super::*;
use crate::cli::Args;
use crate::config::{Action, Config, KillMode, Limit, When};
use crate::facts::{Sender, StartError};

/// The present of every state. Far from zero, so that the past fits in.
const NOW: Time = Duration::from_secs(1000);
/// Before every window that is looked at.
const LONG_AGO: Time = Duration::ZERO;
/// After every other deadline.
const LATER: Time = Duration::from_secs(100_000);
/// More feedback than one event can need.
const MAX_ROUNDS: usize = 20;
/// The longest overlap and delay of these rules: no longer time than this counts.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
/// What a child asks for that needs more time.
const EXTENSION: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Body {
    Absent,
    /// Alive, and it ends when it is asked to.
    Willing,
    /// Alive, and only KILL ends it.
    Obstinate,
    /// It has what ends it, and is not reaped yet.
    Dying,
}

/// What the machine cannot know of a generation but by events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Model {
    generation: GenerationId,
    child: Body,
    executed: bool,
    rest: Body,
    surveyed: bool,
    /// It is being found out whether the child is ready.
    tried: bool,
    /// It was started beside another, which has not gone since.
    beside: bool,
    /// It was found ready, or has said so.
    said: bool,
    /// Its child has ended, and its main process is waited for. Until that is found or not, its body stands for it.
    awaits_main: bool,
    /// It has executed, and nobody was told.
    unnoticed: bool,
    /// It is ready, and that for longer than a series of restarts lasts.
    ran_long: bool,
    /// How long it executes, and how long it is known to be ready. Up to a second, and only where that counts.
    lived: Duration,
    shown: Option<Duration>,
}

/// What the machine cannot know but by events.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct World {
    models: Vec<Model>,
    check: bool,
    probe: bool,
    /// The new hupwrap has not begun to act.
    crossing: bool,
    /// A new child was asked for, and nothing has begun since that answers it.
    owed: bool,
    /// The same of a new hupwrap.
    owed_hupwrap: bool,
    /// Something was asked for, and what answers it has not begun.
    asked: bool,
    /// It has begun, and the outcome is to come.
    answering: bool,
    /// A line has said that the next start is one that somebody asked for.
    announced: bool,
    /// The request that began and has no outcome.
    open: Option<RequestKind>,
    /// Whom a new child is started beside, until that is trusted or has failed.
    replacing: Option<GenerationId>,
    /// How long nobody has fed the watchdog.
    unfed: Duration,
    /// A USR1 to forward came, and no child has received it.
    held: bool,
    /// No start has succeeded yet.
    is_first: bool,
}

impl World {
    fn model(&mut self, generation: GenerationId) -> Option<&mut Model> {
        self.models.iter_mut().find(|model| model.generation == generation)
    }

    fn has_child(&self, generation: GenerationId) -> bool {
        self.models.iter().any(|model| model.generation == generation && model.child != Body::Absent)
    }

    /// What was asked until now is answered by what begins now.
    fn begins(&mut self) {
        self.answering |= std::mem::take(&mut self.asked);
    }
}

/// The signal that is forwarded where a walk forwards one.
fn usr1() -> Signal {
    "USR1".parse().unwrap()
}

/// A step that can fail at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fallible {
    Start,
    Check,
    Reexec,
}

#[derive(Clone)]
struct State {
    machine: Machine,
    world: World,
    /// What is to fail in this move.
    failing: Option<Fallible>,
    /// What could have failed in it.
    tried: Vec<Fallible>,
    /// The signal that is passed on in it.
    passed_on: Option<Signal>,
    /// Whether that was sent to a child, or said to be lost.
    is_sent: bool,
    /// Whose main process is found in it.
    found: Option<GenerationId>,
    /// Whether children ask for more time in this walk.
    extends: bool,
    /// Whether they are followed by a main process in this walk.
    hands_over: bool,
    /// Whether the terminal may go away in this walk.
    hangs_up: bool,
    finished: bool,
    path: Path,
}

/// How a state came about, for the person who must fix it. Shared by the states that follow from it.
#[derive(Clone, Default)]
struct Path(Option<Rc<(Trace, Path)>>);

#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug alone")]
enum Trace {
    Move { name: &'static str, failing: Option<Fallible> },
    Told { event: Event, effects: Vec<Effect> },
}

impl Path {
    fn push(&mut self, step: Trace) {
        *self = Self(Some(Rc::new((step, std::mem::take(self)))));
    }

    fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let mut at = self;
        while let Some(node) = &at.0 {
            steps.insert(0, format!("{:?}", node.0));
            at = &node.1;
        }
        steps
    }
}

type Key = (
    (Generation, Option<Generation>, Option<Next>, Option<Request>, Option<RequestKind>, Option<Signal>),
    (SignalSet, SignalSet, bool, u32, [Option<Time>; 5], bool, World),
);

type Seen = HashSet<Key, BuildHasherDefault<Quick>>;

/// Hashes fast what nobody has chosen with malice: most of the walk's time would go into it.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(20)
    }
}

impl State {
    fn key(&self) -> Key {
        let m = &self.machine;
        let times = [m.first_start, m.interrupted, m.terminal_gone, m.suspect_hup, m.renew_at];
        // When the watchdog is fed next depends on all that has been: one time for each state must do.
        let hungry = m.settings.place.watchdog.is_some() && m.feed_at <= NOW;
        let world = World { unfed: Duration::ZERO, ..self.world.clone() };
        (
            (m.child.clone(), m.other.clone(), m.next, m.request, m.again, m.stop),
            (m.held_signals, m.unchecked, m.held_hup, m.backoff.consecutive, times, hungry, world),
        )
    }

    fn fail(&self, what: &str) -> ! {
        panic!(
            "{what}\nchild {:?}\nother {:?}\nrequest {:?}\nworld {:?}\npath:\n  {}",
            self.machine.child,
            self.machine.other,
            self.machine.request,
            self.world,
            self.path.steps().join("\n  ")
        );
    }

    /// Moves the past and the future so that this is now; what no longer matters is made equal.
    fn rebase(&mut self, now: Time) {
        let m = &mut self.machine;
        let passed = now.saturating_sub(NOW);
        let moved = |time: &mut Time| *time = time.saturating_sub(passed).max(NOW);
        // The past is either just now or, by the move "time passes", long ago.
        let past = |time: &mut Time| *time = if *time == LONG_AGO { LONG_AGO } else { NOW };
        let counts_runs = m.settings.restart.when != When::No;
        for life in std::iter::once(&mut m.child).chain(&mut m.other) {
            if let Phase::Stopping { deadline, .. } | Phase::Sweeping { deadline, .. } = &mut life.phase {
                deadline.iter_mut().for_each(moved);
            }
            match &mut life.probation {
                Some(Probation::Readiness { deadline, next }) => deadline.iter_mut().chain(next).for_each(moved),
                Some(Probation::Overlap { until }) => moved(until),
                None => {}
            }
            // Told to people only, but for a restart policy.
            let counts = counts_runs && life.readiness == Readiness::Executed;
            (life.began, life.since) = (if counts { life.began } else { NOW }, NOW);
            past(&mut life.began);
            life.ready_at.iter_mut().for_each(past);
            life.awaits_main.iter_mut().for_each(past);
            // It is for the supervisor.
            life.extended = None;
        }
        m.request.iter_mut().filter_map(|request| request.step.deadline_mut()).for_each(moved);
        moved(&mut m.feed_at);
        for time in [&mut m.first_start, &mut m.interrupted, &mut m.terminal_gone, &mut m.suspect_hup] {
            time.iter_mut().for_each(past);
        }
        if let Some(Next::StartAt(at)) = &mut m.next {
            moved(at);
        }
        // A child is old, or has time: the move "grows old" makes the difference.
        let is_old = m.renew_at.is_some_and(|at| at <= now);
        m.renew_at = m.renew_at.map(|_| if is_old { NOW } else { LATER });
        if !self.hangs_up {
            m.suspect_hup = None;
        }
        let counted = m.settings.restart.limit.map_or(1, |limit| limit.count);
        let consecutive = m.backoff.consecutive.min(counted);
        m.backoff = Backoff::new(1);
        m.backoff.consecutive = consecutive;
        m.request.iter_mut().for_each(|request| request.began = NOW);
        (m.counts, m.last_exit) = (Counts::default(), None);
        for model in &mut self.world.models {
            let life = std::iter::once(&m.child).chain(&m.other).find(|life| life.id == model.generation);
            if life.is_none_or(|life| life.probation.is_none()) {
                (model.lived, model.shown) = (Duration::ZERO, None);
            }
        }
        if m.child.serves() || m.settings.place.watchdog.is_none() {
            self.world.unfed = Duration::ZERO;
        }
        // Only which is the older one counts.
        let mut numbers: Vec<GenerationId> = std::iter::once(0).chain(m.generations().map(|life| life.id)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let place = |number: GenerationId| numbers.iter().position(|known| *known == number).map(|place| place as u64);
        let is_over = |model: &Model| {
            let gone = |body| matches!(body, Body::Absent | Body::Dying);
            gone(model.child) && (gone(model.rest) || m.settings.kill_mode == KillMode::Process)
        };
        let forgotten = |model: &Model| place(model.generation).is_none() && !is_over(model);
        if !self.finished && self.world.models.iter().any(forgotten) {
            self.fail("a generation is forgotten while it lives");
        }
        let m = &mut self.machine;
        self.world.models.retain(|model| place(model.generation).is_some());
        self.world.replacing = self.world.replacing.and_then(place);
        for number in [&mut m.child.id]
            .into_iter()
            .chain(m.other.iter_mut().map(|other| &mut other.id))
            .chain(self.world.models.iter_mut().map(|model| &mut model.generation))
        {
            *number = place(*number).unwrap();
        }
        self.world.models.sort_by_key(|model| model.generation);
        m.last_id = numbers.len() as u64 - 1;
    }

    /// Tells an event and everything that follows from it.
    fn tell(&mut self, now: Time, event: Event) {
        // An exec that nobody was told of is told before anything else.
        let unnoticed = |model: &&Model| model.unnoticed && event != Event::Executed(model.generation);
        if let Some(id) = self.world.models.iter().find(unnoticed).map(|model| model.generation) {
            self.tell_one(NOW, Event::Executed(id));
            return self.tell(now, event);
        }
        self.tell_one(now, event);
        self.check();
    }

    fn tell_one(&mut self, now: Time, event: Event) {
        if let Event::Executed(id) = event {
            self.world.model(id).unwrap().unnoticed = false;
            self.world.is_first = false;
        }
        if let Event::MainAwaited(id) = event {
            self.world.model(id).unwrap().awaits_main = true;
        }
        self.passed_on = match event {
            Event::Signal { signal, .. } => Some(signal),
            _ => None,
        };
        self.found = match event {
            Event::MainFound(generation) => Some(generation),
            _ => None,
        };
        self.is_sent = false;
        let passed = now.saturating_sub(NOW);
        let more = |time: Duration| (time + passed).min(LONG_ENOUGH);
        let timed = matches!(self.machine.settings.ready_beside, Readiness::After(_));
        for model in self.world.models.iter_mut().filter(|model| model.executed) {
            model.lived = if timed { more(model.lived) } else { Duration::ZERO };
            model.shown = model.shown.map(more);
        }
        self.world.unfed += passed;
        let mut events = VecDeque::from([event]);
        for round in 0.. {
            let Some(event) = events.pop_front() else { break };
            if round > MAX_ROUNDS {
                self.fail("it turns in circles");
            }
            let mut effects = Vec::new();
            self.check_pause(now, &event);
            self.machine.handle(now, event.clone(), &mut effects);
            let is_forwarded = matches!(&event, Event::Signal { signal, .. } if *signal == usr1());
            let was_held = self.world.held;
            self.path.push(Trace::Told { event, effects: effects.clone() });
            for action in effects {
                if self.finished {
                    self.fail("an action after the end");
                }
                events.extend(self.carry_out(action));
            }
            let holds = self.machine.held_signals.contains(usr1());
            if is_forwarded {
                self.world.held = holds;
            } else if was_held && self.world.held && !holds {
                // A successor that failed takes with it what its predecessor has received.
                self.world.held = false;
            }
        }
        self.rebase(now);
        if self.machine.stop.is_some() || self.finished {
            let World { models, check, probe, crossing, unfed, is_first, .. } = std::mem::take(&mut self.world);
            self.world = World { models, check, probe, crossing, unfed, is_first, ..World::default() };
        }
    }

    /// A pause of hupwrap itself moves every time: the same follows, so much later.
    fn check_pause(&self, now: Time, event: &Event) {
        let pause = Duration::from_secs(7);
        let (mut plain, mut paused) = (self.machine.clone(), self.machine.clone());
        let (mut before, mut after, mut none) = (Vec::new(), Vec::new(), Vec::new());
        paused.handle(NOW + pause, Event::Resumed(pause), &mut none);
        plain.handle(now, event.clone(), &mut before);
        paused.handle(now + pause, event.clone(), &mut after);
        for effect in before.iter_mut().chain(&mut after) {
            if let Effect::Say(Message::Settled { began, .. }) = effect {
                *began = Time::ZERO;
            }
        }
        if before != after || plain.deadline().map(|time| time + pause) != paused.deadline() || !none.is_empty() {
            self.fail(&format!("a pause before {event:?} changes what follows: {before:?} and {after:?}"));
        }
    }

    fn hear(&mut self, line: &Message) {
        let m = &self.machine;
        match line {
            // A HUP that is passed on may be held beside another request.
            Message::Began(RequestKind::Forward) => {}
            Message::Began(kind) => {
                // An upgrade that was put back because a start was due begins once more.
                let is_put_back = kind.wants_new_hupwrap() || wants_new_hupwrap(m.again);
                let is_lost = |before: &RequestKind| *before != RequestKind::Upgrade || !is_put_back;
                if let Some(before) = self.world.open.replace(*kind).filter(is_lost) {
                    self.fail(&format!("a request begins and {before:?} has no status"));
                }
            }
            Message::Settled { kind, outcome: Outcome::Failed(_), .. } if !kind.wants_new_child() => {
                self.fail("a child is no part of that request");
            }
            // A signal that was passed on, or one that a check has refused.
            Message::Settled { kind: RequestKind::Forward, .. } => {}
            Message::NotForwarded(_) => self.is_sent = true,
            Message::Settled { kind, outcome, .. } => {
                let (id, was_asked) = (m.child.id, *outcome == Outcome::Ok && kind.wants_new_child());
                if was_asked && self.world.models.iter().any(|model| model.generation == id && model.awaits_main) {
                    self.fail("a request is ok, and there is no child");
                }
                (self.world.answering, self.world.replacing) = (false, None);
                let open = self.world.open.take();
                if !is_it_or_part(Some(*kind), open) {
                    self.fail("an outcome of no request");
                }
            }
            Message::GrownOld(generation, _) => {
                if m.serving() != Some(*generation) || self.world.open.is_some() {
                    self.fail("a child is renewed for its age that does not serve, or is renewed anyway");
                }
                (self.world.owed, self.world.asked) = (true, true);
                self.world.owed_hupwrap |= m.request.is_some_and(|request| request.kind.wants_new_hupwrap());
            }
            Message::Replacing(old) => (self.world.replacing, self.world.announced) = (Some(*old), true),
            Message::Restarting(_) | Message::StartingAgain(_) | Message::StartingSoon => self.world.announced = true,
            Message::SuccessorRemains { .. } => {
                self.world.replacing = None;
                self.world.models.iter_mut().for_each(|model| model.beside = false);
            }
            Message::Ready(generation) => {
                let Some(model) = self.world.models.iter().find(|model| model.generation == *generation) else {
                    self.fail("nobody is ready")
                };
                let shows = |trust| match trust {
                    Readiness::Executed => model.executed,
                    Readiness::After(time) => model.lived >= time,
                    Readiness::Told | Readiness::Tried => model.said,
                };
                if model.awaits_main {
                    self.fail("nobody is there who could be ready");
                }
                let is_again = self.found == Some(*generation);
                if !is_again && !shows(m.generations().find(|life| life.id == *generation).unwrap().readiness) {
                    self.fail("it is taken for ready, and is not");
                }
                self.world.model(*generation).unwrap().shown = Some(Duration::ZERO);
            }
            Message::Replaced { old, new } => {
                let shown = self.world.model(*new).and_then(|model| model.shown);
                if self.world.model(*new).is_some_and(|model| model.awaits_main) {
                    self.fail("replaced by one that has no child");
                }
                if self.world.replacing != Some(*old) || shown.is_none_or(|shown| shown < self.machine.settings.overlap)
                {
                    self.fail("replaced by one that is not trusted");
                }
                self.world.replacing = None;
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, action: Effect) -> Option<Event> {
        let is_fatal = |signal: Signal, body: Body| match body {
            Body::Willing => signal != Signal::CONT && signal != Signal::WINCH && !signal.is_job_control(),
            Body::Obstinate => signal == Signal::KILL,
            Body::Absent | Body::Dying => false,
        };
        let (failing, tried) = (self.failing, &mut self.tried);
        let mut fails = |step| {
            tried.push(step);
            failing == Some(step)
        };
        let world = &mut self.world;
        let m = &self.machine;
        match action {
            Effect::Start(generation) => {
                let beside = m.other.as_ref().is_some_and(|other| other.id == generation);
                let others = || world.models.iter().filter(|model| model.generation != generation);
                let alive = others().filter(|model| model.child != Body::Absent).count();
                if alive > usize::from(beside) {
                    self.fail("a child too many");
                }
                let killed = |model: &Model| matches!(model.rest, Body::Absent | Body::Dying);
                // The one beside may have processes that have left it; one before that is to be gone altogether.
                let over = |model: &Model| (beside && model.child != Body::Absent) || killed(model);
                if !others().all(over) && m.settings.kill_mode != KillMode::Process {
                    self.fail("a start while the generation before lives");
                }
                if m.stop.is_some() {
                    self.fail("a start after a stop");
                }
                let is_asked = m.request.is_some_and(|request| !request.step.can_be_refused());
                // That of the first one is no news.
                if is_asked && generation > 1 && !world.announced {
                    self.fail("a start that somebody asked for, and no line says so");
                }
                (world.owed, world.announced) = (false, false);
                world.begins();
                if fails(Fallible::Start) {
                    let error = StartError { code: 127, transient: false, reason: String::new() };
                    return Some(Event::StartFailed(generation, error));
                }
                world.models.push(Model {
                    generation,
                    unnoticed: false,
                    ran_long: false,
                    child: Body::Willing,
                    executed: false,
                    rest: Body::Absent,
                    surveyed: false,
                    tried: false,
                    beside,
                    said: false,
                    awaits_main: false,
                    lived: Duration::ZERO,
                    shown: None,
                });
                None
            }
            Effect::Try(generation) => {
                match world.model(generation) {
                    Some(model)
                        if model.executed && model.child != Body::Absent && !model.tried && !model.awaits_main =>
                    {
                        model.tried = true;
                    }
                    _ => self.fail("nobody to try"),
                }
                None
            }
            Effect::Signal { generation, to: To::Child | To::Group, signal } => {
                if !world.has_child(generation) {
                    self.fail("a signal for no child");
                }
                if signal == usr1() {
                    let life = m.generations().find(|life| life.id == generation).unwrap();
                    let model = world.models.iter().find(|model| model.generation == generation).unwrap();
                    let told = matches!(life.readiness, Readiness::Told | Readiness::Tried);
                    if m.stop.is_none() && (!model.executed || (told && !model.said)) {
                        self.fail("a signal for a child that cannot receive it");
                    }
                    if self.passed_on != Some(signal) && !std::mem::take(&mut world.held) {
                        self.fail("a signal is delivered twice");
                    }
                    self.is_sent = true;
                }
                let untrusted = world.replacing == Some(generation) && m.stop.is_none();
                if untrusted && self.passed_on != Some(signal) {
                    self.fail("the old one is signalled before the new one is trusted");
                }
                let model = world.model(generation).unwrap();
                if is_fatal(signal, model.child) {
                    model.child = Body::Dying;
                }
                None
            }
            Effect::Signal { generation, to: To::Rest, signal } | Effect::AskRest(generation, signal) => {
                if let Some(model) = world.model(generation)
                    && is_fatal(signal, model.rest)
                {
                    model.rest = Body::Dying;
                }
                None
            }
            Effect::Survey { generation, .. } => {
                match world.model(generation) {
                    Some(model) => model.surveyed = true,
                    None => self.fail("a survey of nothing"),
                }
                self.survey(generation)
            }
            Effect::Check { .. } => {
                world.owed = false;
                world.owed_hupwrap &= !m.request.is_some_and(|request| request.kind.wants_new_hupwrap());
                world.begins();
                if m.settings.check.is_some() {
                    world.check = true;
                    return None;
                }
                Some(if fails(Fallible::Check) { Event::Refused(String::new()) } else { Event::Checked })
            }
            Effect::Probe => {
                if world.probe || world.check {
                    self.fail("a second probe");
                }
                world.probe = true;
                world.owed_hupwrap = false;
                world.begins();
                None
            }
            Effect::Abandon => {
                if !world.probe && !world.check {
                    self.fail("nothing to abandon");
                }
                (world.probe, world.check) = (false, false);
                None
            }
            Effect::Suspend { .. } => Some(Event::Resumed(Duration::ZERO)),
            Effect::Say(line) => {
                self.hear(&line);
                None
            }
            Effect::Feed => {
                world.unfed = Duration::ZERO;
                None
            }
            Effect::Finish(_) => {
                // An upgrade that was not acted upon goes with the child, and everything with what Ctrl-C has ended.
                let excused = matches!(world.open, None | Some(RequestKind::Upgrade)) || m.settings.place.has_terminal;
                if m.stop.is_none() && !excused {
                    self.fail("the end, and a request has no status");
                }
                if world.models.iter().any(|model| model.child != Body::Absent) {
                    self.fail("the end before the child's");
                }
                if world.probe || world.check {
                    self.fail("the end before the probe's");
                }
                self.finished = true;
                None
            }
        }
    }

    fn reexec(&mut self) {
        self.tried.push(Fallible::Reexec);
        let Some(snapshot) = self.machine.snapshot() else { return };
        let alive = |model: &&Model| model.child != Body::Absent;
        if snapshot.child != self.world.models.iter().find(alive).map(|model| model.generation) {
            self.fail("the child is not handed over as it is");
        }
        if self.failing == Some(Fallible::Reexec) {
            return self.tell(NOW, Event::Refused(String::new()));
        }
        let before = self.machine.clone();
        let kind = snapshot.kind;
        self.machine = Machine::adopt(self.machine.settings.clone(), snapshot);
        let mut expected = before;
        let again = expected.again.and_then(RequestKind::without_hupwrap).filter(|_| !kind.wants_new_child());
        let new = &self.machine;
        (expected.request, expected.again, expected.feed_at) = (new.request, again, new.feed_at);
        // Nothing of a child that is gone matters, nor how this one has shown that it is ready.
        match expected.child.phase {
            Phase::Running => {
                (expected.child.readiness, expected.child.began) = (new.child.readiness, new.child.began);
            }
            _ => expected.child = new.child.clone(),
        }
        expected.backoff = Backoff { consecutive: expected.backoff.consecutive, ..new.backoff.clone() };
        if self.machine != expected {
            self.fail("something does not cross");
        }
        (self.world.owed_hupwrap, self.world.crossing) = (false, true);
        self.world.begins();
        self.check();
    }

    fn survey(&mut self, generation: GenerationId) -> Option<Event> {
        let model = self.world.model(generation).filter(|model| model.surveyed)?;
        if model.rest == Body::Absent {
            model.surveyed = false;
            return Some(Event::RestGone(generation));
        }
        Some(Event::RestRemains(generation))
    }

    /// What must hold whenever the machine has nothing left to do.
    fn check(&self) {
        let m = &self.machine;
        if self.finished != (m.child.phase == Phase::Finished) {
            self.fail("the end was not told");
        }
        if self.finished {
            return;
        }
        for life in m.generations() {
            if life.has_child() != self.world.has_child(life.id) {
                self.fail("the machine is wrong about a child");
            }
        }
        let world = &self.world;
        let idle = m.request.is_none() && m.again.is_none();
        let open = m.request.map(|request| request.kind).filter(|kind| *kind != RequestKind::Forward);
        let is_put_back = world.open == Some(RequestKind::Upgrade) && wants_new_hupwrap(m.again);
        if !(is_it_or_part(open, world.open) || (open.is_none() && is_put_back)) {
            self.fail("a request is over without an outcome");
        }
        let is_checked = |request: Request| matches!(request.step, Step::Checking { .. } | Step::Probing { .. });
        if (world.check || world.probe) && !m.request.is_some_and(is_checked) {
            self.fail("a check of no request goes on");
        }
        if idle && (world.asked || world.answering || world.owed_hupwrap) {
            self.fail("somebody who asked is not answered");
        }
        let free = m.request.is_none() && m.other.is_none() && m.child.probation.is_none();
        if m.again.is_some() && free && m.stop.is_none() && matches!(m.child.phase, Phase::Running | Phase::Absent) {
            self.fail("what was asked during a request is not taken up");
        }
        if m.settings.place.watchdog.is_some_and(|interval| world.unfed > interval) {
            self.fail("the watchdog starves");
        }
        if m.child.phase == Phase::Running && idle && self.world.owed {
            self.fail("a request was lost");
        }
        if m.stop.is_some() && !idle {
            self.fail("a request outlived a stop");
        }
        if m.other.as_ref().is_some_and(|other| other.id < m.child.id && other.is_up()) {
            self.fail("one that was replaced is left alone");
        }
        if m.generations().any(|life| matches!(life.phase, Phase::Gone(_))) || m.stop_by.is_some() {
            self.fail("a fact that no rule has handled");
        }
        if m.next.is_some() != matches!(m.child.phase, Phase::Absent | Phase::Sweeping { .. }) {
            self.fail("what follows is decided when the child is gone, and only then");
        }
        if m.stop.is_none() && m.held_signals.contains(usr1()) != world.held {
            self.fail("a signal that is held is lost, or held for ever");
        }
        let receives = m.child.is_up() && m.child.hears && m.successor().is_none();
        if world.held && receives {
            self.fail("a signal is not delivered");
        }
        let crosses = self.world.crossing || m.snapshot().is_some();
        let waits_for_world = crosses
            || m.generations().any(Generation::has_child)
            || self.world.check
            || m.child.phase == Phase::NotStarted
            || self.world.models.iter().any(|model| model.rest == Body::Dying);
        if !waits_for_world && m.deadline().is_none() {
            self.fail("it waits for nothing");
        }
        let bounded = |default: Limit| matches!(m.settings.stop_timeout.unwrap_or(default), Limit::After(_));
        for life in m.generations() {
            if matches!(life.phase, Phase::Stopping { deadline: None, killed: false, .. })
                && m.stop.is_none()
                && bounded(Limit::After(STOP_TIMEOUT))
            {
                self.fail("a restart that may wait for ever");
            }
        }
        // Told early, a tick changes nothing; told when it is due, something: or else it is due for ever.
        let (mut ticked, mut effects) = (m.clone(), Vec::new());
        ticked.handle(NOW, Event::Tick, &mut effects);
        let changed = !effects.is_empty() || ticked != *m;
        match m.deadline().is_some_and(|deadline| deadline <= NOW) {
            true if !changed => self.fail("a deadline that stays"),
            false if changed => self.fail("an held_signals tick did something"),
            _ => {}
        }
    }

    /// A move, and the same where something in it fails.
    fn moved(&self, name: &'static str, change: &dyn Fn(&mut State)) -> Vec<State> {
        let with = |failing| {
            let mut state = Self { failing, tried: Vec::new(), ..self.clone() };
            state.path.push(Trace::Move { name, failing });
            change(&mut state);
            state
        };
        let works = with(None);
        let fails: Vec<State> = works.tried.iter().map(|step| with(Some(*step))).collect();
        [works].into_iter().chain(fails).collect()
    }

    /// Everything that the world may do next by itself.
    fn world_moves(&self) -> Vec<(&'static str, State)> {
        let mut next = Vec::new();
        let mut add = |name: &'static str, change: &dyn Fn(&mut State)| {
            next.extend(self.moved(name, change).into_iter().map(|state| (name, state)));
        };
        let world = self.world.clone();
        if self.machine.child.phase == Phase::NotStarted {
            add("began", &|state| state.tell(NOW, Event::Began));
            return next;
        }
        if world.crossing {
            add("adopted", &|state| {
                state.world.crossing = false;
                state.tell(NOW, Event::Adopted { before: String::new() });
            });
        }
        for Model { generation, child, executed, rest, tried, awaits_main, .. } in world.models {
            let change =
                |state: &mut State, change: &dyn Fn(&mut Model)| change(state.world.model(generation).unwrap());
            if child != Body::Absent && !executed {
                if !self.machine.awaits_execution() {
                    add("executes unnoticed", &|state| {
                        change(state, &|model| (model.executed, model.unnoticed) = (true, true));
                    });
                }
                add("executes", &|state| {
                    change(state, &|model| model.executed = true);
                    state.tell(NOW, Event::Executed(generation));
                });
                for transient in [false, true] {
                    add("cannot execute", &|state| {
                        change(state, &|model| model.child = Body::Absent);
                        let error = StartError { code: 126, transient, reason: String::new() };
                        state.tell(NOW, Event::StartFailed(generation, error));
                    });
                }
            }
            if child != Body::Absent {
                let dying = child == Body::Dying;
                add(if dying { "child dies" } else { "child ends" }, &|state| {
                    let status = if dying { ExitStatus::Killed(Signal::TERM) } else { ExitStatus::Exited(3) };
                    change(state, &|model| {
                        (model.child, model.tried, model.awaits_main) = (Body::Absent, false, false);
                    });
                    state.tell(NOW, Event::ChildEnded(generation, status));
                });
            }
            if self.hands_over && executed && child == Body::Willing && !awaits_main {
                add("main process is awaited", &|state| {
                    state.tell(NOW, Event::MainAwaited(generation));
                });
            }
            if awaits_main {
                add("main process is found", &|state| {
                    change(state, &|model| model.awaits_main = false);
                    state.tell(NOW, Event::MainFound(generation));
                });
            }
            if child == Body::Willing && executed && (tried || self.machine.settings.ready == Readiness::Told) {
                add("ready", &|state| {
                    change(state, &|model| (model.tried, model.said) = (false, true));
                    state.tell(NOW, Event::Ready(generation));
                });
            }
            if tried {
                add("tried in vain", &|state| {
                    change(state, &|model| model.tried = false);
                    state.tell(NOW, Event::TriedInVain(generation));
                });
            }
            if rest != Body::Absent {
                add(if rest == Body::Dying { "rest dies" } else { "rest ends" }, &|state| {
                    change(state, &|model| model.rest = Body::Absent);
                    if let Some(event) = state.survey(generation) {
                        state.tell(NOW, event);
                    }
                });
            }
        }
        if world.check {
            add("checked", &|state| {
                state.world.check = false;
                state.tell(NOW, Event::Checked);
            });
            add("check refuses", &|state| {
                state.world.check = false;
                state.tell(NOW, Event::Refused(String::new()));
            });
        }
        if world.probe {
            add("proven", &|state| {
                state.world.probe = false;
                state.tell(NOW, Event::Proven);
            });
            add("probe refused", &|state| {
                state.world.probe = false;
                state.tell(NOW, Event::Refused(String::new()));
            });
        }
        if self.machine.snapshot().is_some() {
            add("reexec", &|state| state.reexec());
        }
        if let Some(deadline) = self.machine.deadline() {
            add("deadline", &|state| state.tell(deadline.max(NOW), Event::Tick));
        }
        next
    }

    /// Everything that people and programs may do to it.
    fn outside_moves(&self) -> Vec<State> {
        let mut next = Vec::new();
        let mut add = |name: &'static str, change: &dyn Fn(&mut State)| next.extend(self.moved(name, change));
        for (name, sender) in [
            ("HUP", Sender::Process),
            ("HUP", Sender::Kernel),
            ("USR1", Sender::Process),
            ("USR2", Sender::Process),
            ("TERM", Sender::Process),
            ("INT", Sender::Kernel),
            ("TSTP", Sender::Kernel),
            ("TSTP", Sender::Process),
            ("WINCH", Sender::Process),
        ] {
            let signal: Signal = name.parse().unwrap();
            add(name, &|state| {
                // A hang-up, and what comes after a stop, asks for nothing.
                let m = &state.machine;
                let hears = m.stop.is_none();
                let is_new = m.child.phase == Phase::NotStarted;
                let action = m.settings.on.of(signal);
                let is_near_end = m.terminal_gone == Some(NOW);
                let hung_up = signal == Signal::HUP && (sender == Sender::Kernel || is_near_end);
                let (child, hupwrap) = match action {
                    _ if !hears || hung_up => (false, false),
                    Action::Restart | Action::Replace => (true, false),
                    Action::Reexec | Action::UpgradeReplace => (true, !is_new),
                    Action::Upgrade => (false, true),
                    _ => (false, false),
                };
                state.world.owed |= child;
                state.world.owed_hupwrap |= hupwrap;
                state.world.asked |= child || hupwrap;
                let forwards = signal == usr1() && matches!(action, Action::Forward(_));
                let was_held = state.world.held;
                let shared = m.settings.place.has_terminal;
                state.tell(NOW, Event::Signal { signal, sender, hung_up: false, shared });
                if state.finished || state.machine.stop.is_some() {
                    return;
                }
                let failed = u32::from(state.failing == Some(Fallible::Start));
                if child && hears && state.machine.backoff.consecutive > failed {
                    state.fail("a request does not begin a new series of restarts");
                }
                if forwards && !state.is_sent && !state.world.held {
                    state.fail("a signal is lost");
                }
                if was_held && !state.world.held {
                    state.fail("a signal that is held is dropped");
                }
            });
        }
        for Model { generation, child, executed, rest, .. } in self.world.models.clone() {
            if self.extends && executed && (child, rest) != (Body::Absent, Body::Absent) {
                add("needs more time", &|state| {
                    state.tell(NOW, Event::Extended(generation, EXTENSION));
                    let m = &state.machine;
                    let life = m.generations().find(|life| life.id == generation);
                    let waits = |life: &&Generation| match (&life.phase, life.probation) {
                        (Phase::Stopping { killed, .. } | Phase::Sweeping { killed, .. }, _) => !killed,
                        (_, probation) => matches!(probation, Some(Probation::Readiness { next: None, .. })),
                    };
                    let deadline = life.filter(waits).and_then(Generation::deadline);
                    if deadline.is_some_and(|deadline| deadline < NOW + EXTENSION) {
                        state.fail("more time was not given");
                    }
                });
            }
            if child == Body::Willing && executed {
                add("turns obstinate", &|state| state.world.model(generation).unwrap().child = Body::Obstinate);
            }
            if child != Body::Absent && executed && rest == Body::Absent {
                for body in [Body::Willing, Body::Obstinate] {
                    add("leaves behind", &|state| state.world.model(generation).unwrap().rest = body);
                }
            }
        }
        if self.machine.settings.max_age.is_some() {
            add("grows old", &|state| state.machine.renew_at = state.machine.renew_at.map(|_| NOW));
            let hup: Signal = Signal::HUP;
            add("file changes", &|state| {
                // The same follows as from a HUP.
                let mut other = state.machine.clone();
                let (mut effects, mut expected) = (Vec::new(), Vec::new());
                other.handle(
                    NOW,
                    Event::Signal { signal: hup, sender: Sender::Process, hung_up: false, shared: false },
                    &mut expected,
                );
                let mut machine = state.machine.clone();
                machine.handle(NOW, Event::Changed, &mut effects);
                if (machine, effects) != (other, expected) {
                    state.fail("a changed file is not what a HUP is");
                }
            });
        }
        add("time passes", &|state| {
            let m = &mut state.machine;
            for time in [&mut m.first_start, &mut m.interrupted, &mut m.terminal_gone] {
                *time = time.map(|_| LONG_AGO);
            }
            if m.settings.restart.when != When::No {
                for life in std::iter::once(&mut m.child).chain(&mut m.other) {
                    life.began = LONG_AGO;
                    life.ready_at = life.ready_at.map(|_| LONG_AGO);
                    life.awaits_main = life.awaits_main.map(|_| LONG_AGO);
                }
                let ready = m.settings.ready;
                for model in &mut state.world.models {
                    model.ran_long |= match ready {
                        Readiness::Executed => model.executed,
                        _ => m.child.id == model.generation && m.child.serves(),
                    };
                }
            }
        });
        if self.hangs_up {
            add("terminal gone", &|state| state.tell(NOW, Event::TerminalGone));
            let id = self.machine.child.id;
            add("echo", &|state| {
                let was = state.machine.clone();
                let is_stopped = matches!(was.child.phase, Phase::Stopping { .. } | Phase::Sweeping { .. });
                if is_stopped && !state.world.models.iter().any(|model| model.unnoticed) {
                    let signal = Signal::TERM;
                    state
                        .tell(NOW, Event::Signal { signal, sender: Sender::Member(id), hung_up: false, shared: false });
                    if state.machine != was {
                        state.fail("an echo has an effect");
                    }
                }
            });
        }
        next
    }

    /// From a state that was told to stop, the world left alone, the end must come, unless a human must decide.
    /// What was seen to end is in `known`.
    fn must_end(&self, known: &mut Seen) {
        let mut state = self.clone();
        for _ in 0..40 {
            if state.finished || !known.insert(state.key()) {
                return;
            }
            let models = &state.world.models;
            let obstinate = models.iter().any(|model| model.child == Body::Obstinate);
            let unbounded = state.machine.deadline().is_none() && obstinate;
            if unbounded && !matches!(state.machine.settings.stop_timeout, Some(Limit::After(_))) {
                return;
            }
            let dying = |model: &Model| model.child == Body::Dying || model.rest == Body::Dying;
            let waits = models.iter().any(dying);
            // What has got what ends it ends.
            let found = state.world_moves().into_iter().find(|(name, _)| match waits {
                false => *name == "deadline",
                true => matches!(*name, "child dies" | "rest dies"),
            });
            match found {
                Some((_, next)) => state = next,
                None => state.fail("told to stop, and it does not"),
            }
        }
        state.fail("told to stop, and it takes for ever");
    }
}

/// A set of rules: what the option parser makes of it is not at stake here.
fn rules(change: impl FnOnce(&mut Args), kill_mode: KillMode, stop_timeout: Option<Limit>, place: Place) -> Settings {
    let mut args = Args { command: vec!["x".into()], ..Args::default() };
    change(&mut args);
    let config = Config { kill_mode, stop_timeout, ..Config::new(args).unwrap() };
    Settings::new(&config, place)
}

fn walk(rules: Settings, extends: bool) -> usize {
    walk_from(rules, extends, false)
}

#[allow(clippy::disallowed_methods)]
fn walk_from(rules: Settings, extends: bool, hands_over: bool) -> usize {
    let began = std::time::Instant::now();
    let start = State {
        machine: Machine::new(rules.clone()),
        world: World::default(),
        failing: None,
        tried: Vec::new(),
        passed_on: None,
        found: None,
        is_sent: false,
        extends,
        hands_over,
        hangs_up: rules.place.has_terminal && rules.kill_mode == KillMode::Mixed && rules.ready == Readiness::Executed,
        finished: false,
        path: Path::default(),
    };
    let (mut seen, mut ending) = (Seen::default(), Seen::default());
    seen.insert(start.key());
    let mut todo = VecDeque::from([start]);
    while let Some(state) = todo.pop_front() {
        if state.machine.stop.is_some() {
            state.must_end(&mut ending);
        }
        let next = state.world_moves().into_iter().map(|(_, next)| next).chain(state.outside_moves());
        todo.extend(next.filter(|next| !next.finished && seen.insert(next.key())));
    }
    // Past the capture of cargo: how much was walked through is part of the result.
    let test = std::thread::current().name().unwrap_or_default().rsplit("::").next().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: {} states in {:.1?}", seen.len(), began.elapsed());
    seen.len()
}

/// Whether a request is the one that has begun. A start that has overtaken its check is a part of it: the new hupwrap
/// is a request of its own then.
fn is_it_or_part(kind: Option<RequestKind>, began: Option<RequestKind>) -> bool {
    kind == began || (kind.is_some() && began.is_some_and(|began| began.without_hupwrap() == kind))
}

fn wants_new_hupwrap(kind: Option<RequestKind>) -> bool {
    kind.is_some_and(RequestKind::wants_new_hupwrap)
}

const SHORT: Option<Limit> = Some(Limit::After(Duration::from_secs(3)));

fn on(actions: &[&str]) -> Vec<String> {
    actions.iter().map(|&action| action.to_owned()).collect()
}

fn walk_with(kill_mode: KillMode) {
    for limit in [None, Some(Limit::Never), Some(Limit::After(Duration::ZERO)), SHORT] {
        for (has_terminal, is_init, nohup) in
            [(false, false, false), (true, false, false), (false, true, false), (true, false, true)]
        {
            let place = Place { has_terminal, is_init, nohup, ..Place::default() };
            let rules = rules(|args| args.on = on(&["USR1=upgrade", "USR2=reexec"]), kill_mode, limit, place);
            let states = walk(rules, false);
            assert!(states > 1000, "{kill_mode:?} {limit:?} {place:?}: only {states} states");
        }
    }
}

#[test]
fn every_order_of_events_when_the_mode_is_mixed() {
    walk_with(KillMode::Mixed);
}

#[test]
fn every_order_of_events_when_the_mode_is_process() {
    walk_with(KillMode::Process);
}

#[test]
fn every_order_of_events_when_the_mode_is_group() {
    walk_with(KillMode::Group);
}

/// Rules under which there may be two generations; `options` are those of `--on`, `--ready`, `--overlap` and `--check`.
fn walk_two(actions: &[&str], options: [&str; 3], kill_mode: KillMode) {
    for (limit, is_init) in [(None, false), (SHORT, true)] {
        walk_place(actions, options, kill_mode, limit, Place { is_init, ..Place::default() }, false);
    }
}

fn walk_place(
    actions: &[&str],
    options: [&str; 3],
    kill_mode: KillMode,
    limit: Option<Limit>,
    place: Place,
    extends: bool,
) {
    let [ready, overlap, check] = options.map(|said| Some(said.to_owned()).filter(|said| !said.is_empty()));
    let change = |args: &mut Args| {
        args.on = on(actions);
        (args.ready, args.overlap, args.check) = (ready, overlap, check);
    };
    let states = walk(rules(change, kill_mode, limit, place), extends);
    assert!((1000..200_000).contains(&states), "{states} states");
}

#[test]
fn every_order_of_events_with_a_restart_policy() {
    for (limit, kill_mode) in [(None, KillMode::Mixed), (Some("2"), KillMode::Process), (Some("1"), KillMode::Mixed)] {
        let change = |args: &mut Args| {
            args.on = on(&["HUP=restart", "USR1=upgrade", "USR2=replace"]);
            args.restart = Some("always".to_owned());
            args.ready = Some("notify".to_owned());
            args.restart_limit = limit.map(str::to_owned);
        };
        let states = walk(rules(change, kill_mode, None, Place::default()), false);
        assert!(states > 1000, "only {states} states");
    }
}

#[test]
fn every_order_of_events_in_a_terminal_with_a_restart_policy() {
    let change = |args: &mut Args| {
        args.on = on(&["HUP=restart", "USR1=forward", "USR2=ignore"]);
        args.restart = Some("always".to_owned());
    };
    // In `process` mode nothing is swept, and the terminal stays: what is left is small enough to walk through.
    let place = Place { has_terminal: true, ..Place::default() };
    let states = walk(rules(change, KillMode::Process, SHORT, place), false);
    assert!(states > 1000, "only {states} states");
}

#[test]
fn every_order_of_events_when_signals_wait_for_readiness() {
    for (mode, hup) in [(KillMode::Process, "HUP=replace"), (KillMode::Mixed, "HUP=restart")] {
        walk_place(&[hup, "USR1=forward", "USR2=upgrade"], ["notify", "", ""], mode, SHORT, Place::default(), false);
    }
}

#[test]
fn every_order_of_events_with_two_generations() {
    for mode in [KillMode::Mixed, KillMode::Process] {
        walk_two(&["HUP=replace", "USR1=upgrade", "USR2=restart"], ["notify", "", ""], mode);
    }
}

#[test]
fn every_order_of_events_with_an_overlap() {
    walk_two(&["HUP=upgrade+replace", "USR1=forward", "USR2=replace"], ["delay:1s", "1s", ""], KillMode::Mixed);
}

#[test]
fn every_order_of_events_with_a_check_and_a_readiness() {
    let options = ["cmd:x", "", "y"];
    let pid_1 = Place { is_init: true, ..Place::default() };
    walk_place(&["HUP=restart", "USR1=reexec", "USR2=ignore"], options, KillMode::Mixed, None, Place::default(), false);
    walk_place(&["HUP=restart", "USR1=ignore", "USR2=ignore"], options, KillMode::Mixed, SHORT, pid_1, false);
}

#[test]
fn every_order_of_events_with_a_check_of_signals_before_a_child_is_ready() {
    for restart in ["no", "always"] {
        let change = |args: &mut Args| {
            args.on = on(&["HUP=restart", "USR1=ignore", "USR2=forward"]);
            (args.ready, args.check) = (Some("notify".to_owned()), Some("y".to_owned()));
            (args.restart, args.ready_timeout) = (Some(restart.to_owned()), Some("20s".to_owned()));
        };
        let states = walk(rules(change, KillMode::Process, SHORT, Place::default()), false);
        assert!((1000..200_000).contains(&states), "{restart}: {states} states");
    }
}

#[test]
fn every_order_of_events_with_a_check_and_two_generations() {
    walk_two(&["HUP=replace", "USR1=upgrade", "USR2=forward"], ["exec", "", "y"], KillMode::Group);
}

#[test]
fn every_order_of_events_when_nothing_was_said_of_readiness() {
    walk_two(&["HUP=replace", "USR1=restart", "USR2=ignore"], ["", "", ""], KillMode::Mixed);
}

#[test]
fn every_order_of_events_in_a_terminal_with_two_generations() {
    let place = Place { has_terminal: true, ..Place::default() };
    walk_place(
        &["HUP=replace", "USR1=upgrade", "USR2=restart"],
        ["notify", "", ""],
        KillMode::Mixed,
        SHORT,
        place,
        false,
    );
}

#[test]
fn every_order_of_events_when_children_need_more_time() {
    let actions = ["HUP=replace", "USR1=ignore", "USR2=restart"];
    walk_place(&actions, ["notify", "", ""], KillMode::Mixed, SHORT, Place::default(), true);
}

#[test]
fn every_order_of_events_when_main_processes_are_waited_for() {
    for (hup, ready, overlap, restart) in [
        ("HUP=replace", "delay:1s", "", "no"),
        ("HUP=replace", "delay:1s", "1s", "no"),
        ("HUP=upgrade+replace", "notify", "", "no"),
        ("HUP=restart", "exec", "", "always"),
    ] {
        let change = |args: &mut Args| {
            args.on = on(&[hup, "USR1=ignore", "USR2=ignore"]);
            args.ready = Some(ready.to_owned());
            args.overlap = Some(overlap.to_owned()).filter(|overlap| !overlap.is_empty());
            args.restart = Some(restart.to_owned());
        };
        let states = walk_from(rules(change, KillMode::Process, SHORT, Place::default()), false, true);
        assert!((1000..200_000).contains(&states), "{hup} {ready} {overlap}: {states} states");
    }
}

#[test]
fn every_order_of_events_when_children_grow_old() {
    for (hup, ready, mode) in [
        ("HUP=restart", None, KillMode::Mixed),
        ("HUP=replace", Some("notify"), KillMode::Process),
        ("HUP=reexec", Some("notify"), KillMode::Process),
        ("HUP=upgrade+replace", Some("delay:1s"), KillMode::Process),
    ] {
        let change = |args: &mut Args| {
            args.on = on(&[hup, "USR1=upgrade", "USR2=ignore"]);
            args.max_age = Some("30h".to_owned());
            args.ready = ready.map(str::to_owned);
            args.check = Some("y".to_owned());
        };
        let states = walk(rules(change, mode, SHORT, Place::default()), false);
        assert!((1000..200_000).contains(&states), "{states} states");
    }
}

#[test]
fn every_order_of_events_under_a_watchdog() {
    let place = Place { is_watched: true, watchdog: Some(Duration::from_secs(20)), ..Place::default() };
    walk_place(
        &["HUP=replace", "USR1=reexec", "USR2=ignore"],
        ["delay:1s", "", ""],
        KillMode::Mixed,
        SHORT,
        place,
        false,
    );
}
