//! Walks through all the machine can come into, with a model of the world beside it: a breadth-first search over what
//! may happen next, in every order. Time is relative, so that the walk ends: only what is left of a deadline counts.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::*;
use crate::cli::Args;

/// The present of every state. Far from zero, so that the past fits in.
const NOW: Time = Duration::from_secs(1000);
/// Before every window that is looked at.
const LONG_AGO: Time = Duration::ZERO;
/// More feedback than one event can need.
const MAX_ROUNDS: usize = 20;

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

/// What the machine cannot know but by events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    child: Body,
    executed: bool,
    rest: Body,
    surveyed: bool,
    probe: bool,
    /// The new hupwrap has not begun to act.
    crossing: bool,
    /// A restart was asked for, and nothing has begun since that answers it.
    owed: bool,
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
    finished: bool,
    path: Path,
}

/// How a state came about, for whoever must mend it. Shared by the states that follow from it.
#[derive(Clone, Default)]
struct Path(Option<Rc<(Trace, Path)>>);

#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug alone")]
enum Trace {
    Move { name: &'static str, failing: Option<Fallible> },
    Told { event: Event, actions: Vec<Action> },
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

type Key =
    (Phase, Option<Request>, Option<Kind>, Option<Signal>, Option<Outcome>, SignalSet, u32, [Option<Time>; 3], World);

impl State {
    fn key(&self) -> Key {
        let m = &self.machine;
        let times = [m.first_start, m.interrupted, m.terminal_gone];
        (m.phase, m.request, m.again, m.stop, m.ended, m.early, m.failed_starts, times, self.world)
    }

    fn fail(&self, what: &str) -> ! {
        panic!(
            "{what}\nphase {:?}\nrequest {:?}\nworld {:?}\npath:\n  {}",
            self.machine.phase,
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
        if let Phase::Stopping { deadline, .. } | Phase::Sweeping { deadline, .. } | Phase::Down { until: deadline } =
            &mut m.phase
        {
            deadline.iter_mut().for_each(moved);
        }
        if let Some(Request { step: Step::Probing { deadline }, .. }) = &mut m.request {
            moved(deadline);
        }
        // The past is either just now or, by the move "time passes", long ago.
        for time in [&mut m.first_start, &mut m.interrupted, &mut m.terminal_gone] {
            *time = time.map(|time| if time == LONG_AGO { LONG_AGO } else { NOW });
        }
        m.generation = 0;
        m.failed_starts = m.failed_starts.min(1);
    }

    /// Tells an event and everything that follows from it.
    fn tell(&mut self, now: Time, event: Event) {
        let mut events = VecDeque::from([event]);
        for round in 0.. {
            let Some(event) = events.pop_front() else { break };
            if round > MAX_ROUNDS {
                self.fail("it turns in circles");
            }
            let mut actions = Vec::new();
            self.machine.handle(now, event.clone(), &mut actions);
            self.path.push(Trace::Told { event, actions: actions.clone() });
            for action in actions {
                if self.finished {
                    self.fail("an action after the end");
                }
                events.extend(self.carry_out(action));
            }
        }
        self.rebase(now);
        self.check();
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
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
        match action {
            Action::Start { .. } => {
                if world.child != Body::Absent {
                    self.fail("a second child");
                }
                let killed = matches!(world.rest, Body::Absent | Body::Dying);
                if !killed && self.machine.rules.kill_mode != KillMode::Process {
                    self.fail("a start while the generation before lives");
                }
                if fails(Fallible::Start) {
                    return Some(Event::StartFailed(StartError { code: 127, transient: false, reason: String::new() }));
                }
                (world.child, world.executed, world.owed) = (Body::Willing, false, false);
                Some(Event::Started)
            }
            Action::Signal { to: To::Child | To::Group, signal } => {
                if world.child == Body::Absent {
                    self.fail("a signal for no child");
                }
                if is_fatal(signal, world.child) {
                    world.child = Body::Dying;
                }
                None
            }
            Action::Signal { to: To::Rest, signal } | Action::AskRest(signal) => {
                if is_fatal(signal, world.rest) {
                    world.rest = Body::Dying;
                }
                None
            }
            Action::Survey { .. } => {
                world.surveyed = true;
                self.survey()
            }
            Action::Check => {
                world.owed = false;
                Some(if fails(Fallible::Check) { Event::Refused(String::new()) } else { Event::Checked })
            }
            Action::Probe => {
                if world.probe {
                    self.fail("a second probe");
                }
                world.probe = true;
                None
            }
            Action::AbandonProbe => {
                if !world.probe {
                    self.fail("no probe to abandon");
                }
                world.probe = false;
                None
            }
            Action::Suspend { .. } => Some(Event::Resumed(Duration::ZERO)),
            Action::Say(_) => None,
            Action::Finish(_) => {
                if world.child != Body::Absent {
                    self.fail("the end before the child's");
                }
                if world.probe {
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
        if snapshot.child_runs != (self.world.child != Body::Absent) {
            self.fail("the child is not handed over as it is");
        }
        if self.failing == Some(Fallible::Reexec) {
            return self.tell(NOW, Event::Refused(String::new()));
        }
        self.machine = Machine::adopt(self.machine.rules.clone(), snapshot);
        self.world.crossing = true;
        self.check();
    }

    fn survey(&mut self) -> Option<Event> {
        if !self.world.surveyed {
            return None;
        }
        if self.world.rest == Body::Absent {
            self.world.surveyed = false;
            return Some(Event::RestGone);
        }
        Some(Event::RestRemains)
    }

    /// What must hold whenever the machine has nothing left to do.
    fn check(&self) {
        let m = &self.machine;
        if self.finished != (m.phase == Phase::Finished) {
            self.fail("the end was not told");
        }
        if self.finished {
            return;
        }
        if m.phase.has_child() != (self.world.child != Body::Absent) {
            self.fail("the machine is wrong about the child");
        }
        let idle = m.request.is_none() && m.again.is_none();
        if m.phase == Phase::Running && idle && self.world.owed {
            self.fail("a request was lost");
        }
        if m.stop.is_some() && !idle {
            self.fail("a request outlived a stop");
        }
        let crosses = self.world.crossing || m.snapshot().is_some();
        let waits_for_world =
            crosses || m.phase.has_child() || m.phase == Phase::Unborn || self.world.rest == Body::Dying;
        if !waits_for_world && m.deadline().is_none() {
            self.fail("it waits for nothing");
        }
        let bounded = |default: Limit| matches!(m.rules.stop_timeout.unwrap_or(default), Limit::After(_));
        if let Phase::Stopping { deadline: None, killed: false } = m.phase
            && m.stop.is_none()
            && bounded(Limit::After(STOP_TIMEOUT))
        {
            self.fail("a restart that may wait for ever");
        }
        // Told early, a tick changes nothing.
        let mut early = m.clone();
        let mut actions = Vec::new();
        if m.deadline().is_none_or(|deadline| deadline > NOW) {
            early.handle(NOW, Event::Tick, &mut actions);
            if !actions.is_empty() || early != *m {
                self.fail("an early tick did something");
            }
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
        let world = self.world;
        if self.machine.phase == Phase::Unborn {
            add("began", &|state| state.tell(NOW, Event::Began));
            return next;
        }
        if world.crossing {
            add("adopted", &|state| {
                state.world.crossing = false;
                state.tell(NOW, Event::Adopted { before: String::new() });
            });
        }
        if world.child != Body::Absent {
            if !world.executed {
                add("executes", &|state| {
                    state.world.executed = true;
                    state.tell(NOW, Event::Executed);
                });
                for transient in [false, true] {
                    add("cannot execute", &|state| {
                        state.world.child = Body::Absent;
                        state.tell(NOW, Event::StartFailed(StartError { code: 126, transient, reason: String::new() }));
                    });
                }
            }
            add("child ends", &|state| {
                let outcome =
                    if state.world.child == Body::Dying { Outcome::Killed(Signal::TERM) } else { Outcome::Exited(3) };
                state.world.child = Body::Absent;
                state.tell(NOW, Event::ChildEnded(outcome));
            });
        }
        if world.rest != Body::Absent {
            add("rest ends", &|state| {
                state.world.rest = Body::Absent;
                if let Some(event) = state.survey() {
                    state.tell(NOW, event);
                }
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
                let asks = name == "HUP" && sender == Sender::Process && state.machine.stop.is_none();
                state.world.owed |= asks && state.machine.phase != Phase::Unborn;
                state.tell(NOW, Event::Signal { signal, sender, hung_up: false });
            });
        }
        let world = self.world;
        if world.child == Body::Willing && world.executed {
            add("turns obstinate", &|state| state.world.child = Body::Obstinate);
        }
        if world.child != Body::Absent && world.executed && world.rest == Body::Absent {
            for body in [Body::Willing, Body::Obstinate] {
                add("leaves behind", &|state| state.world.rest = body);
            }
        }
        add("time passes", &|state| {
            for time in
                [&mut state.machine.first_start, &mut state.machine.interrupted, &mut state.machine.terminal_gone]
            {
                *time = time.map(|_| LONG_AGO);
            }
        });
        next
    }

    /// From a state that was told to stop, the world left alone, the end must come, unless a human must decide.
    fn must_end(&self) {
        let mut state = self.clone();
        for _ in 0..20 {
            if state.finished {
                return;
            }
            let unbounded = state.machine.deadline().is_none() && state.world.child == Body::Obstinate;
            if unbounded && !matches!(state.machine.rules.stop_timeout, Some(Limit::After(_))) {
                return;
            }
            let ends = |before: Body, after: Body| before == Body::Dying && after == Body::Absent;
            let world = state.world;
            let dying = world.child == Body::Dying || world.rest == Body::Dying;
            let found = state.world_moves().into_iter().find(|(name, next)| match dying {
                true => ends(world.child, next.world.child) || ends(world.rest, next.world.rest),
                false => *name == "deadline",
            });
            match found {
                Some((_, next)) => state = next,
                None => state.fail("told to stop, and it does not"),
            }
        }
        state.fail("told to stop, and it takes for ever");
    }
}

fn rules(kill_mode: KillMode, stop_timeout: Option<Limit>, shared_group: bool, is_init: bool, nohup: bool) -> Rules {
    let on = ["USR1=upgrade", "USR2=reexec"].map(str::to_owned).to_vec();
    let config = Config::new(Args { command: vec!["x".into()], on, ..Args::default() }).unwrap();
    let config = Config { kill_mode, stop_timeout, ..config };
    Rules::new(&config, shared_group, shared_group, is_init, nohup)
}

fn walk(rules: Rules) -> usize {
    let world = World {
        child: Body::Absent,
        executed: false,
        rest: Body::Absent,
        surveyed: false,
        probe: false,
        crossing: false,
        owed: false,
    };
    let machine = Machine::new(rules);
    let start = State { machine, world, failing: None, tried: Vec::new(), finished: false, path: Path::default() };
    let mut seen = HashSet::new();
    let mut todo = VecDeque::from([start]);
    while let Some(state) = todo.pop_front() {
        if state.finished || !seen.insert(state.key()) {
            continue;
        }
        if state.machine.stop.is_some() {
            state.must_end();
        }
        todo.extend(state.world_moves().into_iter().map(|(_, next)| next));
        todo.extend(state.outside_moves());
    }
    seen.len()
}

fn walk_with(kill_mode: KillMode) {
    let limits =
        [None, Some(Limit::Never), Some(Limit::After(Duration::ZERO)), Some(Limit::After(Duration::from_secs(3)))];
    for limit in limits {
        for (shared, init, nohup) in
            [(false, false, false), (true, false, false), (false, true, false), (true, false, true)]
        {
            let states = walk(rules(kill_mode, limit, shared, init, nohup));
            assert!(states > 1000, "{kill_mode:?} {limit:?} {shared} {init}: only {states} states");
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
