//! The decisions. Pure: no clock, no environment, no pid; time is an argument.
//!
//! The machine is told facts ([`Event`]) and answers with orders ([`Effect`]). Three things are kept apart, because each
//! has a life of its own: the *generations*, of which there are two only while one replaces the other; the *request*
//! somebody made by a signal; and whether hupwrap was told to *stop*. docs/signals.md has the tables in words.

pub mod effect;
pub mod event;
mod generation;
mod request;
pub mod status;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use crate::facts::{GenerationId, Sender, StartError, Time};
use std::time::Duration;

use crate::config::{
    Action, Config, KillMode, Limit, Ready, Restart, RestartLimit, Shown, SignalTable, StatusMap, When,
};
use crate::exit::{Ending, ExitStatus, TIMED_OUT};
use crate::signal::{Signal, SignalSet};
use effect::{Effect, Failure, Message, Outcome, To};
use event::Event;
use generation::{Generation, Phase, Probation, after, is_due};
pub use request::RequestKind;
use request::{Request, Step};

/// How long a restart waits for the child to end, where nobody said otherwise. Also what the rest of a generation gets
/// where the child's own end had no deadline.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the new hupwrap file may take to prove that it runs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a try in vain the child is tried again.
const TRY_DELAY: Duration = Duration::from_millis(250);
/// A child that ends this soon after Ctrl-C ended because of it.
const INTERRUPT_WINDOW: Duration = Duration::from_secs(5);
/// HUPs this soon after the terminal's end are echoes of it.
const HANG_UP_WINDOW: Duration = Duration::from_secs(1);
/// How long the very first start is tried again.
const FIRST_START_PATIENCE: Duration = Duration::from_secs(10);

/// Where hupwrap stands: what the configuration does not say.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Place {
    /// Whether child and hupwrap share a process group, so that the child hears what the terminal sends.
    pub shared_group: bool,
    /// Whether hupwrap has a controlling terminal.
    pub has_terminal: bool,
    /// Whether hupwrap is pid 1.
    pub is_init: bool,
    /// Whether hupwrap was started with HUP ignored, by nohup(1).
    pub nohup: bool,
    /// Whether somebody above wants to know at once when the child is ready.
    pub is_watched: bool,
    /// How often a watchdog above wants to be fed.
    pub watchdog: Option<Duration>,
    /// Any number: delays differ by it, so that what failed together does not start again together.
    pub seed: u64,
}

/// What never changes while hupwrap runs: configuration, and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// What each signal means.
    pub on: SignalTable,
    /// What asks the child to end.
    pub stop_signal: Signal,
    /// The explicit bound on a stop.
    pub stop_timeout: Option<Limit>,
    /// Who is signalled.
    pub kill_mode: KillMode,
    /// How statuses change on the way out.
    pub map_status: StatusMap,
    /// When a child is ready.
    pub ready: Readiness,
    /// When one is that was started beside another.
    pub ready_beside: Readiness,
    /// How long it may take to be.
    pub ready_timeout: Limit,
    /// How long a new child is watched beside the old one after it is ready.
    pub overlap: Duration,
    /// When the child is started again by itself.
    pub restart: Restart,
    /// How long somebody's own check may take, where there is one.
    pub check: Option<Limit>,
    /// Where hupwrap stands.
    pub place: Place,
    /// Whether hupwrap stops when its child was stopped: it shares the child's terminal.
    pub follows_stops: bool,
}

/// When a child is taken for ready, as the machine sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// When it executes.
    Executed,
    /// When it says so.
    Told,
    /// When it has executed for this long.
    After(Duration),
    /// When a try says so.
    Tried,
}

impl From<&Ready> for Readiness {
    fn from(ready: &Ready) -> Self {
        match ready {
            Ready::Exec => Self::Executed,
            Ready::Notify | Ready::Fd(_) => Self::Told,
            Ready::Delay(time) => Self::After(*time),
            Ready::Tcp(_) | Ready::Cmd(_) => Self::Tried,
        }
    }
}

impl Rules {
    /// The rules of a configuration, with what is known of hupwrap's place.
    pub fn new(config: &Config, place: Place) -> Self {
        Self {
            on: config.on.clone(),
            stop_signal: config.stop_signal,
            stop_timeout: config.stop_timeout,
            kill_mode: config.kill_mode,
            map_status: config.map_status.clone(),
            ready: Readiness::from(&config.ready),
            ready_beside: Readiness::from(&config.ready_beside),
            ready_timeout: config.ready_timeout,
            overlap: config.overlap,
            restart: config.restart.clone(),
            check: (!config.check.is_empty()).then_some(config.check_timeout),
            place,
            follows_stops: place.shared_group && place.has_terminal && !place.is_init,
        }
    }

    /// The time that has run out when KILL is due.
    fn patience(&self) -> Duration {
        match self.stop_timeout {
            Some(Limit::After(limit)) => limit,
            Some(Limit::Never) | None => STOP_TIMEOUT,
        }
    }

    /// How long a child may take to end that makes place for another.
    fn stop_limit(&self) -> Limit {
        self.stop_timeout.unwrap_or(Limit::After(STOP_TIMEOUT))
    }
}

/// What follows as soon as the second generation is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Then {
    /// A start: there are never three.
    Start,
    /// hupwrap's end.
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

/// The part of the machine that crosses a re-exec. A child runs and is trusted, or none does; there is no other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The number of the child that runs, if one does.
    pub child: Option<GenerationId>,
    /// When the child is started again.
    pub restart_at: Option<Time>,
    /// What the re-exec is for.
    pub kind: RequestKind,
    /// What was asked meanwhile.
    pub again: Option<RequestKind>,
    /// The number of the last start.
    pub generation: GenerationId,
    /// When the child was ordered that runs.
    pub began: Time,
    /// When it was ready.
    pub ready_at: Option<Time>,
    /// Restarts that nobody asked for, and starts that failed, in a row.
    pub row: u32,
    /// When there were some lately.
    pub restarts: Vec<Time>,
    /// How often the child was started because it was asked for, and because it had ended.
    pub counts: Counts,
    /// How the last child ended.
    pub last_exit: Option<ExitStatus>,
    /// When the very first start was ordered, while none has succeeded.
    pub first_start: Option<Time>,
    /// When the child heard Ctrl-C.
    pub interrupted: Option<Time>,
    /// When the terminal was found gone.
    pub terminal_gone: Option<Time>,
}

/// The machine. It hears by [`Machine::handle`]; [`Machine::deadline`], [`Machine::awaits_execution`] and
/// [`Machine::is_about_to_start`] say how it wants to be told; [`Machine::snapshot`] and [`Machine::adopt`] carry it over
/// a re-exec.
#[derive(Clone, PartialEq, Debug)]
pub struct Machine {
    rules: Rules,
    /// The one that serves, or is to.
    child: Generation,
    /// The second one: with a greater number the child's successor, which is not trusted yet or has failed; with a
    /// smaller one its predecessor, which is on its way out.
    other: Option<Generation>,
    then: Option<Then>,
    request: Option<Request>,
    /// A request that came during another: one, not a queue.
    again: Option<RequestKind>,
    /// What told hupwrap to stop.
    stop: Option<Signal>,
    /// How the last child ended, unless a stop came too late for it to be the answer.
    ended: Option<ExitStatus>,
    /// Whether the child is stopped because it was not ready in time.
    was_late: bool,
    /// Signals to forward that came before the first child, or while a new one was not ready to hear them.
    held_signals: SignalSet,
    /// The number of the last start.
    generation: GenerationId,
    /// When the child is started again that has ended, while its generation is swept.
    restart_at: Option<Time>,
    /// Restarts that nobody asked for, and starts that failed, in a row: each waits twice as long as the one before.
    row: u32,
    /// When there were some, for a limit within a time.
    restarts: Vec<Time>,
    counts: Counts,
    /// How the last child ended, as it ended.
    last_exit: Option<ExitStatus>,
    /// The state of a small generator of random numbers.
    seed: u64,
    first_start: Option<Time>,
    interrupted: Option<Time>,
    terminal_gone: Option<Time>,
    /// When the watchdog is fed next, if no child can.
    feed_at: Time,
}

impl Machine {
    /// A machine that has done nothing yet and waits for [`Event::Began`].
    pub fn new(rules: Rules) -> Self {
        let rules_seed = rules.place.seed | 1;
        Self {
            rules,
            child: Generation {
                generation: 0,
                phase: Phase::NotStarted,
                probation: None,
                began: Time::ZERO,
                ready_at: None,
            },
            other: None,
            then: None,
            request: None,
            again: None,
            stop: None,
            ended: None,
            was_late: false,
            held_signals: SignalSet::EMPTY,
            generation: 0,
            restart_at: None,
            row: 0,
            restarts: Vec::new(),
            counts: Counts::default(),
            last_exit: None,
            seed: rules_seed,
            first_start: None,
            interrupted: None,
            terminal_gone: None,
            feed_at: Time::ZERO,
        }
    }

    /// A machine that goes on where another left off, and waits for [`Event::Adopted`].
    pub fn adopt(rules: Rules, snapshot: Snapshot) -> Self {
        let phase = match snapshot.child {
            Some(_) => Phase::Running,
            None => Phase::Absent { until: snapshot.restart_at },
        };
        let generation = snapshot.child.unwrap_or(snapshot.generation);
        Self {
            child: Generation {
                generation,
                phase,
                probation: None,
                began: snapshot.began,
                ready_at: snapshot.ready_at,
            },
            request: Some(Request { kind: snapshot.kind, step: Step::Crossed, began: Time::ZERO }),
            again: snapshot.again,
            generation: snapshot.generation,
            row: snapshot.row,
            restarts: snapshot.restarts,
            counts: snapshot.counts,
            last_exit: snapshot.last_exit,
            first_start: snapshot.first_start,
            interrupted: snapshot.interrupted,
            terminal_gone: snapshot.terminal_gone,
            ..Self::new(rules)
        }
    }

    /// What must cross a re-exec, when it is time for one: the driver then executes the new hupwrap, once everything
    /// that it knows was told. Answered by [`Event::Adopted`] in the new one, or by [`Event::Refused`].
    pub fn snapshot(&self) -> Option<Snapshot> {
        let (child, restart_at) = match self.child.phase {
            Phase::Running if self.child.probation.is_none() => (Some(self.child.generation), None),
            Phase::Absent { until } => (None, until),
            _ => return None,
        };
        let Request { kind, .. } = self.request.filter(|request| request.step == Step::Proven)?;
        // What came until now is served by the hupwrap that is about to begin, and by its start if it makes one.
        let again = self.again.and_then(RequestKind::without_hupwrap).filter(|_| !kind.wants_new_child());
        Some(Snapshot {
            child,
            restart_at,
            kind,
            again,
            generation: self.generation,
            began: self.child.began,
            ready_at: self.child.ready_at,
            row: self.row,
            restarts: self.restarts.clone(),
            counts: self.counts,
            last_exit: self.last_exit,
            first_start: self.first_start,
            interrupted: self.interrupted,
            terminal_gone: self.terminal_gone,
        })
    }

    /// When [`Event::Tick`] is due. Told early, late or twice it changes nothing.
    pub fn deadline(&self) -> Option<Time> {
        let of_request = self.request.and_then(|request| request.step.deadline());
        let of_other = self.other.and_then(|other| other.deadline());
        let hungry = self.rules.place.watchdog.filter(|_| !self.child.serves() && self.child.phase != Phase::Finished);
        let of_watchdog = hungry.map(|_| self.feed_at);
        // A start that is due while a request is under way is that one's to make.
        let waits = matches!(self.child.phase, Phase::Absent { .. }) && self.request.is_some();
        let of_child = self.child.deadline().filter(|_| !waits);
        of_child.into_iter().chain(of_other).chain(of_request).chain(of_watchdog).min()
    }

    /// Whether a start follows as soon as the last child and its generation are gone: requests that came before share it.
    pub fn is_about_to_start(&self) -> bool {
        let renews = self.request.is_some_and(|request| request.step == Step::Renewing);
        renews && matches!(self.child.phase, Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Absent { .. })
    }

    /// Whether something is to be done as soon as [`Event::Executed`] comes. Otherwise it may be told late, though before
    /// anything else that happened after it.
    pub fn awaits_execution(&self) -> bool {
        let beside = self.other.is_some_and(|other| other.phase == Phase::Starting);
        let awaited = self.again.is_some() || self.rules.place.is_watched || self.rules.ready != Readiness::Executed;
        beside || (self.child.phase == Phase::Starting && awaited)
    }

    /// Whether a generation is there: its child, or what remains of it.
    pub fn knows(&self, generation: GenerationId) -> bool {
        // Whoever asks for another child before the end has the one before looked after.
        let may_return = matches!(self.then, Some(Then::End(_)));
        let is_there = |life: &Generation| match life.phase {
            Phase::Absent { .. } => may_return,
            phase => !matches!(phase, Phase::NotStarted | Phase::Finished),
        };
        [Some(self.child), self.other]
            .into_iter()
            .flatten()
            .any(|life| life.generation == generation && is_there(&life))
    }

    /// Whether it is of interest that a generation's child is ready.
    pub fn awaits_readiness(&self, generation: GenerationId) -> bool {
        let awaited = |life: Generation| matches!(life.probation, Some(Probation::Readiness { .. }));
        [Some(self.child), self.other].into_iter().flatten().any(|life| life.generation == generation && awaited(life))
    }

    /// Whether a generation speaks for the service: it is neither one that was replaced nor one that was to replace
    /// another and failed.
    pub fn speaks(&self, generation: GenerationId) -> bool {
        [Some(self.child), self.successor()].into_iter().flatten().any(|life| life.generation == generation)
    }

    /// The child that runs and is ready, if there is one.
    pub fn serving(&self) -> Option<GenerationId> {
        self.child.serves().then_some(self.child.generation)
    }

    /// Whether a request is under way, or waits for its turn.
    pub fn is_asked(&self) -> bool {
        self.request.is_some() || self.again.is_some()
    }

    /// Takes a fact, and adds the orders that follow from it.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Effect>) {
        if self.child.phase == Phase::Finished {
            return;
        }
        match event {
            Event::Began => {
                if self.child.phase == Phase::NotStarted {
                    self.first_start = Some(now);
                    self.start(now, out);
                }
            }
            Event::Adopted { before } => self.adopted(now, before, out),
            Event::Signal { signal: Signal::HUP, sender, hung_up } => self.hup(now, sender, hung_up, out),
            Event::Signal { signal, sender, .. } => self.signal(now, signal, sender, out),
            Event::TerminalGone => self.terminal_gone = self.terminal_gone.or(Some(now)),
            Event::Started => {
                if self.other.is_none() {
                    self.send_held_signals(out);
                }
            }
            Event::Executed(generation) => self.executed(now, generation, out),
            Event::StartFailed(generation, error) => self.start_failed(now, generation, error, out),
            Event::Ready(generation) => self.ready(now, generation, out),
            Event::TriedInVain(generation) => {
                if let Some(Generation { probation: Some(Probation::Readiness { next, .. }), .. }) =
                    self.life(generation)
                {
                    *next = Some(now.saturating_add(TRY_DELAY));
                }
            }
            Event::Extended(generation, by) => {
                if let Some(life) = self.life(generation) {
                    life.extend(now.saturating_add(by));
                }
            }
            Event::ChildStopped(signal) => {
                if self.rules.follows_stops && self.child.has_child() {
                    out.push(Effect::Suspend { signal, insist: false });
                }
            }
            Event::ChildEnded(generation, status) => self.some_child_ended(now, generation, status, out),
            Event::RestRemains(generation) => {
                let Self { rules, child, other, .. } = self;
                let life = [Some(child), other.as_mut()].into_iter().flatten();
                life.filter(|life| life.generation == generation).for_each(|life| life.rest_remains(now, rules, out));
            }
            Event::RestGone(generation) => {
                if let Some(Generation { phase: Phase::Sweeping { .. }, .. }) = self.life(generation) {
                    self.gone(now, generation, out);
                }
            }
            Event::Checked => self.checked(now, out),
            Event::Refused(reason) => {
                if self.request.is_some_and(|request| request.step.can_be_refused()) {
                    self.refuse(now, reason, out);
                }
            }
            Event::Proven => {
                if let Some(Request { step: step @ Step::Probing { .. }, .. }) = &mut self.request {
                    *step = Step::Proven;
                    if self.rules.place.watchdog.is_some() {
                        out.push(Effect::Feed);
                    }
                }
            }
            Event::Resumed(pause) => self.shift(pause),
            Event::Tick => self.tick(now, out),
        }
    }

    /// The generation of that number, if it is one of those that are there.
    fn life(&mut self, generation: GenerationId) -> Option<&mut Generation> {
        [Some(&mut self.child), self.other.as_mut()].into_iter().flatten().find(|life| life.generation == generation)
    }

    /// The new child of a replace, while it may still take over.
    fn successor(&self) -> Option<Generation> {
        self.other.filter(|other| other.generation > self.child.generation && other.is_up())
    }

    // Signals.

    /// A hang-up is not a reload: where the terminal is gone, HUP means stop.
    fn hup(&mut self, now: Time, sender: Sender, hung_up: bool, out: &mut Vec<Effect>) {
        let by_kernel = sender == Sender::Kernel;
        if by_kernel || hung_up {
            let gone = *self.terminal_gone.get_or_insert(now);
            let echo = now.saturating_sub(gone) < HANG_UP_WINDOW;
            if self.rules.place.nohup {
                if by_kernel || echo {
                    out.push(Effect::Say(Message::HangUpIgnored));
                    return;
                }
            } else {
                return self.told_to_stop(now, Signal::HUP, Signal::HUP, out);
            }
        }
        self.signal(now, Signal::HUP, sender, out);
    }

    fn signal(&mut self, now: Time, signal: Signal, sender: Sender, out: &mut Vec<Effect>) {
        let from_terminal = sender == Sender::Kernel
            && (signal.is_job_control() || matches!(signal, Signal::INT | Signal::QUIT | Signal::WINCH));
        // What the terminal sends goes to the whole foreground group.
        let heard = from_terminal && self.rules.place.shared_group && self.child.has_child();
        if heard && matches!(signal, Signal::INT | Signal::QUIT) {
            self.interrupted = Some(now);
        }
        match self.rules.on.of(signal) {
            Action::Restart => self.ask(now, RequestKind::Restart, out),
            Action::Replace => self.ask(now, RequestKind::Replace, out),
            Action::Upgrade => self.ask(now, RequestKind::Upgrade, out),
            Action::Reexec => self.ask(now, RequestKind::Reexec, out),
            Action::UpgradeReplace => self.ask(now, RequestKind::UpgradeReplace, out),
            // A child that lives through Ctrl-C, a shell or a REPL, lives on.
            Action::Stop(None) | Action::Forward(None) if heard => {}
            Action::Stop(by) => {
                let default = if signal == Signal::TERM { self.rules.stop_signal } else { signal };
                self.told_to_stop(now, signal, by.unwrap_or(default), out);
            }
            // Ctrl-C with no child to hear it.
            Action::Forward(_)
                if from_terminal && matches!(signal, Signal::INT | Signal::QUIT) && !self.child.has_child() =>
            {
                self.told_to_stop(now, signal, signal, out);
            }
            Action::Forward(by) => {
                self.forward(by.unwrap_or(signal), out);
                // Whoever waits for it waits for nothing else that is under way.
                if signal == Signal::HUP {
                    let outcome = match self.child.has_child() {
                        true => Outcome::Ok,
                        false => Outcome::Refused("no child runs".to_owned()),
                    };
                    out.push(Effect::Say(Message::Settled { kind: RequestKind::Forward, began: now, outcome }));
                }
                if signal.is_job_control() && !self.rules.place.is_init && !heard {
                    out.push(Effect::Suspend { signal, insist: true });
                }
            }
            Action::Ignore | Action::LeftAlone => {}
        }
    }

    fn forward(&mut self, signal: Signal, out: &mut Vec<Effect>) {
        // These tell of a state that the next child finds anyhow.
        let passes = signal.is_job_control() || matches!(signal, Signal::CONT | Signal::WINCH);
        match self.child.phase {
            Phase::NotStarted => self.held_signals.insert(signal),
            _ if self.child.has_child() => {
                self.child.send(&self.rules, signal, out);
                match self.successor() {
                    Some(successor) if passes => successor.send(&self.rules, signal, out),
                    // It may not be ready to hear it, and die of it.
                    Some(_) => self.held_signals.insert(signal),
                    None => {}
                }
            }
            _ if passes => {}
            _ => out.push(Effect::Say(Message::NotForwarded(signal))),
        }
    }

    fn send_held_signals(&mut self, out: &mut Vec<Effect>) {
        for signal in std::mem::take(&mut self.held_signals).iter() {
            self.child.send(&self.rules, signal, out);
        }
    }

    // Stopping.

    /// A stop beats everything: requests are forgotten, whichever came first.
    fn told_to_stop(&mut self, now: Time, told: Signal, by: Signal, out: &mut Vec<Effect>) {
        let first = self.stop.is_none();
        if first {
            out.push(Effect::Say(Message::Stopping(told)));
        }
        self.stop = self.stop.or(Some(told));
        let restarts = self.request.is_some();
        self.drop_request(out);
        self.again = None;
        self.was_late = false;
        if let Some(other) = &mut self.other {
            other.stop_for_good(now, &self.rules, by, out);
        }
        // The last child's end was a step of a restart, and is not hupwrap's.
        if first && (restarts || self.restart_at.is_some()) && matches!(self.child.phase, Phase::Sweeping { .. }) {
            self.ended = None;
        }
        match self.child.phase {
            Phase::NotStarted => self.finish(Ending::Told(told), out),
            Phase::Absent { .. } => {
                if !matches!(self.then, Some(Then::End(_))) {
                    self.finish(Ending::Told(told), out);
                }
            }
            _ => self.child.stop_for_good(now, &self.rules, by, out),
        }
    }

    // The child's life.

    /// Starts the child; once a second generation is gone, if there is one.
    fn start(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.restart_at = None;
        self.ended = None;
        self.was_late = false;
        if self.other.is_some() {
            self.then = Some(Then::Start);
            self.child.phase = Phase::Absent { until: None };
            return;
        }
        self.child = self.order(now, self.rules.ready, out);
    }

    fn order(&mut self, now: Time, trust: Readiness, out: &mut Vec<Effect>) -> Generation {
        self.generation = self.generation.saturating_add(1);
        out.push(Effect::Start(self.generation));
        let deadline = after(now, self.rules.ready_timeout).filter(|_| trust != Readiness::Executed);
        let probation = Some(Probation::Readiness { deadline, next: None });
        if let Some(request) = &mut self.request {
            request.began = now;
            self.counts.asked = self.counts.asked.saturating_add(1);
        }
        Generation { generation: self.generation, phase: Phase::Starting, probation, began: now, ready_at: None }
    }

    fn executed(&mut self, now: Time, generation: GenerationId, out: &mut Vec<Effect>) {
        let beside = generation != self.child.generation;
        let trust = if beside { self.rules.ready_beside } else { self.rules.ready };
        let Some(life) = self.life(generation) else { return };
        if life.phase != Phase::Starting {
            return;
        }
        life.phase = Phase::Running;
        if let (Readiness::After(time), Some(Probation::Readiness { deadline, next })) = (trust, &mut life.probation) {
            // It has nothing to say, so that it cannot be late.
            (*deadline, *next) = (None, Some(now.saturating_add(time)));
        }
        self.first_start = None;
        match trust {
            Readiness::Executed => self.ready(now, generation, out),
            Readiness::Tried => out.push(Effect::Try(generation)),
            Readiness::Told | Readiness::After(_) => {}
        }
    }

    fn ready(&mut self, now: Time, generation: GenerationId, out: &mut Vec<Effect>) {
        let overlap = self.rules.overlap;
        let beside = self.successor().is_some_and(|successor| successor.generation == generation);
        let Some(life) = self.life(generation) else { return };
        if !matches!(life, Generation { phase: Phase::Running, probation: Some(Probation::Readiness { .. }), .. }) {
            return;
        }
        (life.probation, life.ready_at) = (None, Some(now));
        out.push(Effect::Say(Message::Ready(generation)));
        if !beside {
            self.send_held_signals(out);
            self.settle(Outcome::Ok, out);
            self.take_up_again(now, out);
        } else if overlap > Duration::ZERO {
            life.probation = Some(Probation::Overlap { until: now.saturating_add(overlap) });
        } else {
            self.hand_over(now, out);
        }
    }

    /// The successor serves from now on, its predecessor is stopped.
    fn hand_over(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(successor) = self.successor() else { return };
        let mut old = std::mem::replace(&mut self.child, successor);
        self.child.probation = None;
        out.push(Effect::Say(Message::Replaced { old: old.generation, new: self.child.generation }));
        old.stop(now, &self.rules, self.rules.stop_signal, self.rules.stop_limit(), out);
        self.other = Some(old);
        self.settle(Outcome::Ok, out);
        self.send_held_signals(out);
    }

    fn start_failed(&mut self, now: Time, generation: GenerationId, error: StartError, out: &mut Vec<Effect>) {
        if self.other.is_some_and(|other| other.generation == generation) {
            self.other_failed(Failure::CannotStart(error.reason), out);
            return self.gone(now, generation, out);
        }
        if self.child.generation != generation || !self.child.has_child() {
            return;
        }
        self.child.probation = None;
        if self.first_start.is_none() {
            self.held_signals = SignalSet::EMPTY;
        }
        // It was to end anyhow: a start that was asked for since is another one.
        if matches!(self.child.phase, Phase::Stopping { .. }) {
            return self.swept(now, out);
        }
        let patient = match self.first_start {
            Some(first) => error.transient && now.saturating_sub(first) < FIRST_START_PATIENCE,
            None => true,
        };
        if !patient {
            match self.request {
                Some(_) => self.settle(Outcome::Failed(Failure::CannotStart(error.reason)), out),
                None => out.push(Effect::Say(Message::CannotStart(error.reason))),
            }
            return self.finish(Ending::Own(error.code), out);
        }
        let reason = error.reason.clone();
        let Some(delay) = self.next_delay(now) else {
            let last = Failure::CannotStart(reason);
            let unsaid = self.request.is_none().then(|| last.clone());
            self.settle(Outcome::Failed(last), out);
            out.push(Effect::Say(self.gave_up(unsaid)));
            return self.finish(Ending::Own(error.code), out);
        };
        // The last try of the first start is when its patience ends, and not later.
        let left = self.first_start.map(|first| first.saturating_add(FIRST_START_PATIENCE).saturating_sub(now));
        let delay = left.map_or(delay, |left| delay.min(left));
        out.push(Effect::Say(Message::StartingLater(error, delay)));
        self.settle(Outcome::Failed(Failure::CannotStart(reason)), out);
        self.child.phase = Phase::Absent { until: Some(now.saturating_add(delay)) };
        // Who has asked meanwhile wants an outcome of his own.
        self.take_up_again(now, out);
    }

    fn some_child_ended(&mut self, now: Time, generation: GenerationId, status: ExitStatus, out: &mut Vec<Effect>) {
        self.last_exit = Some(status);
        if generation == self.child.generation {
            return self.child_ended(now, status, out);
        }
        let Some(mut other) = self.other.filter(|other| other.generation == generation) else { return };
        let deadline = match other.phase {
            Phase::Starting | Phase::Running => {
                self.other_failed(
                    match other.probation {
                        Some(Probation::Overlap { .. }) => Failure::EndedInOverlap(status),
                        _ => Failure::Ended(status),
                    },
                    out,
                );
                None
            }
            Phase::Stopping { killed: true, .. } => Some(now),
            Phase::Stopping { deadline, .. } => deadline,
            Phase::NotStarted | Phase::Sweeping { .. } | Phase::Absent { .. } | Phase::Finished => return,
        };
        match self.rules.kill_mode {
            KillMode::Process => self.gone(now, generation, out),
            KillMode::Mixed | KillMode::Group => {
                other.sweep(deadline, &self.rules, out);
                self.other = Some(other);
            }
        }
    }

    /// The successor is not what it should be; the old child serves on.
    fn other_failed(&mut self, failure: Failure, out: &mut Vec<Effect>) {
        if self.successor().is_some() {
            self.held_signals = SignalSet::EMPTY;
            self.settle(Outcome::Failed(failure), out);
        }
    }

    fn child_ended(&mut self, now: Time, status: ExitStatus, out: &mut Vec<Effect>) {
        if self.successor().is_none() {
            // What it was to hear when it was ready is for no other.
            self.held_signals = SignalSet::EMPTY;
        }
        let status = self.rules.map_status.map(status);
        // The child's end after Ctrl-C is what the person at the terminal asked for.
        let interrupted = self.interrupted.take().is_some_and(|at| now.saturating_sub(at) < INTERRUPT_WINDOW);
        match self.child.phase {
            Phase::Starting | Phase::Running => {
                self.ended = Some(status);
                match self.successor() {
                    Some(successor) if !interrupted => self.succeed(now, successor, status, out),
                    _ => self.ended_by_itself(now, status, interrupted, out),
                }
            }
            Phase::Stopping { deadline, killed } => {
                self.ended = Some(status);
                if interrupted && self.stop.is_none() {
                    self.drop_request(out);
                    self.again = None;
                }
                match self.rules.kill_mode {
                    KillMode::Process => self.swept(now, out),
                    // Where KILL was needed, its time is over for the rest too.
                    KillMode::Mixed | KillMode::Group => {
                        self.child.sweep(if killed { Some(now) } else { deadline }, &self.rules, out);
                    }
                }
            }
            Phase::NotStarted | Phase::Sweeping { .. } | Phase::Absent { .. } | Phase::Finished => {}
        }
    }

    /// The old child ended by itself before its successor was trusted: that one is all there is, and waited for.
    fn succeed(&mut self, now: Time, successor: Generation, status: ExitStatus, out: &mut Vec<Effect>) {
        out.push(Effect::Say(Message::SuccessorRemains(status)));
        let mut old = std::mem::replace(&mut self.child, successor);
        self.ended = None;
        self.other = None;
        if self.rules.kill_mode != KillMode::Process {
            old.sweep(None, &self.rules, out);
            self.other = Some(old);
        }
        if let Some(request) = &mut self.request {
            request.step = Step::Renewing;
        }
        if let Some(Probation::Overlap { .. }) = self.child.probation {
            self.child.probation = None;
            self.send_held_signals(out);
            self.settle(Outcome::Ok, out);
            self.take_up_again(now, out);
        }
    }

    fn ended_by_itself(&mut self, now: Time, status: ExitStatus, interrupted: bool, out: &mut Vec<Effect>) {
        self.child.probation = None;
        // A new child that was asked for ended before it was ready. A request that came meanwhile waits in `again`.
        if self.request.is_none_or(|request| request.step == Step::Renewing) {
            self.settle(Outcome::Failed(Failure::Ended(status)), out);
            if let Some(kind) = self.again.filter(|kind| kind.wants_new_child()) {
                self.owe_restart(now, kind, out);
            }
        }
        // One that came behind an upgrade is owed as well: now they are one.
        if let Some(request @ Request { kind: RequestKind::Upgrade, .. }) = &mut self.request
            && self.again.is_some_and(RequestKind::wants_new_child)
        {
            request.kind = RequestKind::Reexec;
            self.again = self.again.filter(|again| again.wants_new_hupwrap());
        }
        let asked = self.request.is_some_and(|request| request.kind.wants_new_child());
        if !interrupted && !asked && self.rules.restart.wants(status) && self.restart_later(now, Some(status), out) {
            return;
        }
        if interrupted || !asked {
            self.drop_request(out);
            self.again = None;
            if let Some(mut successor) = self.successor() {
                successor.stop(now, &self.rules, self.rules.stop_signal, self.rules.stop_limit(), out);
                self.other = Some(successor);
            }
            return self.end_with_child(status, out);
        }
        out.push(Effect::Say(Message::StartingAgain(status)));
        match self.rules.kill_mode {
            KillMode::Process => self.after_sweep_with_request(now, out),
            KillMode::Mixed | KillMode::Group => self.child.sweep(None, &self.rules, out),
        }
    }

    /// The child has ended, and is to be started again though nobody asked for it. `outcome`: how it ended; none where it
    /// was stopped because it was late. Returns false where that was once too often.
    fn restart_later(&mut self, now: Time, status: Option<ExitStatus>, out: &mut Vec<Effect>) -> bool {
        if self.child.ready_at.is_some_and(|ready| now.saturating_sub(ready) >= self.rules.restart.reset) {
            self.row = 0;
        }
        let Some(delay) = self.next_delay(now) else {
            out.push(Effect::Say(self.gave_up(status.map(Failure::Ended))));
            return false;
        };
        out.push(Effect::Say(Message::RestartingLater {
            generation: self.child.generation,
            status,
            ran: now.saturating_sub(self.child.began),
            delay,
            attempt: self.row,
        }));
        let at = Some(now.saturating_add(delay));
        match (self.rules.kill_mode, status) {
            // What there was to sweep was swept.
            (KillMode::Process, _) | (_, None) => {
                self.child.phase = Phase::Absent { until: at };
                self.take_up_again(now, out);
            }
            (KillMode::Mixed | KillMode::Group, Some(_)) => {
                self.restart_at = at;
                self.child.sweep(None, &self.rules, out);
            }
        }
        true
    }

    /// How long to wait before the next restart, which is counted; none where there were too many.
    fn next_delay(&mut self, now: Time) -> Option<Duration> {
        let Restart { delay, max_delay, limit, .. } = self.rules.restart;
        // The very first start has a bound of its own.
        match limit.filter(|_| self.first_start.is_none()) {
            Some(RestartLimit { count, within: None }) if self.row >= count => return None,
            Some(RestartLimit { count, within: Some(within) }) => {
                self.restarts.retain(|at| now.saturating_sub(*at) < within);
                if self.restarts.len() >= usize::try_from(count).unwrap_or(usize::MAX) {
                    return None;
                }
                self.restarts.push(now);
            }
            _ => {}
        }
        // A factor beyond any duration comes to the longest delay.
        let delay = delay.saturating_mul(1u32.checked_shl(self.row).unwrap_or(u32::MAX)).min(max_delay);
        self.row = self.row.saturating_add(1);
        self.counts.failed = self.counts.failed.saturating_add(1);
        Some(delay.saturating_add(delay.mul_f64(self.random() / 4.0)))
    }

    fn gave_up(&self, last: Option<Failure>) -> Message {
        let (restarts, within) = match self.rules.restart.limit {
            Some(RestartLimit { count, within: within @ Some(_) }) => (count, within),
            _ => (self.row, None),
        };
        Message::GaveUp { restarts, within, generation: self.child.generation, last }
    }

    /// A number from 0 to 1 (Marsaglia, "Xorshift RNGs", 2003).
    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        f64::from(u16::try_from(self.seed >> 48).unwrap_or(0)) / f64::from(u16::MAX)
    }

    /// The command ended by itself and is not started again.
    fn end_with_child(&mut self, status: ExitStatus, out: &mut Vec<Effect>) {
        match self.rules.kill_mode {
            // Pid 1 takes everything with it: they shall hear of it before.
            KillMode::Mixed | KillMode::Group if self.rules.place.is_init => self.child.sweep(None, &self.rules, out),
            KillMode::Group => {
                self.child.signal(To::Rest, self.rules.stop_signal, out);
                self.child.signal(To::Rest, Signal::CONT, out);
                self.finish(Ending::Child(status), out);
            }
            KillMode::Mixed | KillMode::Process => self.finish(Ending::Child(status), out),
        }
    }

    /// Nothing remains of a generation.
    fn gone(&mut self, now: Time, generation: GenerationId, out: &mut Vec<Effect>) {
        if generation == self.child.generation {
            return self.swept(now, out);
        }
        self.other = None;
        match self.then.take() {
            Some(Then::Start) => self.start(now, out),
            Some(Then::End(ending)) => self.finish(ending, out),
            None => self.take_up_again(now, out),
        }
    }

    /// Nothing remains of the child's generation: what comes next?
    fn swept(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.stop.is_none() && self.request.is_some_and(|request| request.kind.wants_new_child()) {
            return self.after_sweep_with_request(now, out);
        }
        if let Some(until) = self.restart_at.take().filter(|_| self.stop.is_none()) {
            self.child.phase = Phase::Absent { until: Some(until) };
            return self.take_up_again(now, out);
        }
        // One that is not ready in time is a failure like any other.
        let restarts = self.was_late && self.rules.restart.when != When::No && self.stop.is_none();
        if restarts && self.restart_later(now, None, out) {
            self.was_late = false;
            return;
        }
        let ending = match (self.ended, self.stop) {
            _ if self.was_late => Ending::Own(TIMED_OUT),
            (Some(status), _) => Ending::Child(status),
            (None, Some(told)) => Ending::Told(told),
            (None, None) => Ending::Own(crate::exit::OWN_FAILURE),
        };
        self.finish(ending, out);
    }

    fn after_sweep_with_request(&mut self, now: Time, out: &mut Vec<Effect>) {
        match self.request {
            Some(Request { step: Step::Renewing, .. }) | None => self.start(now, out),
            Some(_) => {
                self.child.phase = Phase::Absent { until: None };
            }
        }
    }

    /// hupwrap's end; once a second generation is gone, if there is one.
    fn finish(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        self.drop_request(out);
        if self.other.is_some() {
            self.then = Some(Then::End(ending));
            self.child.phase = Phase::Absent { until: None };
            return;
        }
        self.child.phase = Phase::Finished;
        out.push(Effect::Finish(ending));
    }

    // Requests.

    /// Somebody asks for something new. One request at a time; what comes meanwhile shares its start where that begins
    /// later, and is taken up afterwards where it does not.
    fn ask(&mut self, now: Time, kind: RequestKind, out: &mut Vec<Effect>) {
        if self.stop.is_some() {
            return;
        }
        self.interrupted = None;
        match (self.child.phase, self.request, self.then) {
            // The first start, by the hupwrap that was just started, is all that could be asked for.
            (Phase::NotStarted | Phase::Finished, ..) => {}
            // The start to come answers it.
            (
                Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Absent { .. },
                Some(Request { step: Step::Renewing, .. }),
                _,
            ) if !kind.wants_new_hupwrap() => {}
            // The child ended by itself, or is about to be given up, and hupwrap was about to follow.
            (Phase::Stopping { .. } | Phase::Sweeping { .. }, None, _) if kind.wants_new_child() => {
                self.owe_restart(now, kind, out);
            }
            // What it left behind has to go now.
            (Phase::Absent { .. }, None, Some(Then::End(_))) if kind.wants_new_child() => {
                self.owe_restart(now, kind, out);
                self.then = None;
                match self.rules.kill_mode {
                    KillMode::Process => self.start(now, out),
                    KillMode::Mixed | KillMode::Group => self.child.sweep(None, &self.rules, out),
                }
            }
            (Phase::Stopping { .. } | Phase::Sweeping { .. }, None, _)
            | (Phase::Absent { .. }, None, Some(Then::End(_))) => {}
            (Phase::Absent { .. }, None, Some(Then::Start)) if !kind.wants_new_hupwrap() => {
                self.set_request(now, kind, Step::Renewing, out);
            }
            (Phase::Running | Phase::Absent { .. }, None, None)
                if self.other.is_none() && self.child.probation.is_none() =>
            {
                self.begin(now, kind, out);
            }
            _ => self.again = Some(kind.and(self.again)),
        }
    }

    fn set_request(&mut self, now: Time, kind: RequestKind, step: Step, out: &mut Vec<Effect>) {
        self.request = Some(Request { kind, step, began: now });
        out.push(Effect::Say(Message::Began(kind)));
    }

    /// The child is gone, or going, and is to be started again because of this request; a new hupwrap can wait.
    fn owe_restart(&mut self, now: Time, kind: RequestKind, out: &mut Vec<Effect>) {
        self.set_request(now, RequestKind::Restart, Step::Renewing, out);
        self.again = kind.wants_new_hupwrap().then_some(RequestKind::Upgrade);
    }

    fn begin(&mut self, now: Time, kind: RequestKind, out: &mut Vec<Effect>) {
        let new_child = kind.wants_new_child();
        let deadline = self.rules.check.and_then(|limit| after(now, limit));
        self.set_request(now, kind, Step::Checking { deadline }, out);
        // An upgrade does not touch the child: that the program could be started again does not matter.
        if new_child || self.rules.check.is_some() {
            out.push(Effect::Check { new_child });
        } else {
            self.probe(now, out);
        }
    }

    fn probe(&mut self, now: Time, out: &mut Vec<Effect>) {
        let deadline = now.saturating_add(PROBE_TIMEOUT);
        if let Some(request) = &mut self.request {
            request.step = Step::Probing { deadline };
        }
        out.push(Effect::Probe);
    }

    fn checked(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(Request { kind, step: Step::Checking { .. }, .. }) = self.request else { return };
        if kind.wants_new_hupwrap() {
            self.probe(now, out);
        } else {
            self.renew(now, out);
        }
    }

    fn adopted(&mut self, now: Time, before: String, out: &mut Vec<Effect>) {
        if self.rules.place.watchdog.is_some() {
            out.push(Effect::Feed);
        }
        out.push(Effect::Say(Message::Reexecuted { before }));
        let Some(request) = self.request.as_mut().filter(|request| request.step == Step::Crossed) else { return };
        request.began = now;
        if request.kind.wants_new_child() {
            self.renew(now, out);
        } else {
            self.settle(Outcome::Ok, out);
            self.take_up_again(now, out);
        }
    }

    /// Stops the child, if there is one, and starts it again; or starts another beside it.
    fn renew(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(request) = &mut self.request else { return };
        let beside = request.kind.replaces() && self.child.phase == Phase::Running;
        request.step = if beside { Step::Replacing } else { Step::Renewing };
        self.row = 0;
        match self.child.phase {
            Phase::Absent { .. } => self.start(now, out),
            _ if beside => {
                out.push(Effect::Say(Message::Replacing(self.child.generation)));
                self.other = Some(self.order(now, self.rules.ready_beside, out));
            }
            Phase::Starting | Phase::Running => {
                out.push(Effect::Say(Message::Restarting(self.child.generation)));
                self.child.stop(now, &self.rules, self.rules.stop_signal, self.rules.stop_limit(), out);
            }
            // On its way down already; the start follows.
            Phase::NotStarted | Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Finished => {}
        }
    }

    fn refuse(&mut self, now: Time, reason: String, out: &mut Vec<Effect>) {
        self.settle(Outcome::Refused(reason), out);
        let is_gone = self.child.phase == Phase::Absent { until: None };
        if !is_gone && !matches!(self.child.phase, Phase::Sweeping { .. }) {
            return self.take_up_again(now, out);
        }
        // The child ended by itself meanwhile. Someone asked for it, so it is started again.
        self.set_request(now, RequestKind::Restart, Step::Renewing, out);
        self.again = self.again.filter(|kind| kind.wants_new_hupwrap());
        if is_gone {
            self.start(now, out);
        }
    }

    /// The request under way is over.
    fn settle(&mut self, outcome: Outcome, out: &mut Vec<Effect>) {
        if let Some(Request { kind, began, .. }) = self.request.take() {
            out.push(Effect::Say(Message::Settled { kind, began, outcome }));
        }
    }

    /// What was asked during another request begins when that is over, the end of the old child included.
    fn take_up_again(&mut self, now: Time, out: &mut Vec<Effect>) {
        if let Some(kind) = self.again.take() {
            self.ask(now, kind, out);
        }
    }

    fn drop_request(&mut self, out: &mut Vec<Effect>) {
        if let Some(Request { step: Step::Checking { .. } | Step::Probing { .. }, .. }) = self.request.take() {
            out.push(Effect::Abandon);
        }
    }

    // Time.

    fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        if let Some(interval) = self.rules.place.watchdog
            && !self.child.serves()
            && self.feed_at <= now
        {
            self.feed_at = now.saturating_add(interval);
            out.push(Effect::Feed);
        }
        if let Some(Request { step, .. }) = self.request
            && is_due(step.deadline(), now)
        {
            out.push(Effect::Abandon);
            let reason = match (step, self.rules.check) {
                (Step::Checking { .. }, Some(Limit::After(limit))) => {
                    format!("the check did not end within {}", Shown(limit))
                }
                _ => format!("the new hupwrap did not answer within {}s", PROBE_TIMEOUT.as_secs()),
            };
            self.refuse(now, reason, out);
        }
        for generation in [Some(self.child.generation), self.other.map(|other| other.generation)].into_iter().flatten()
        {
            self.tick_life(now, generation, out);
        }
    }

    fn tick_life(&mut self, now: Time, generation: GenerationId, out: &mut Vec<Effect>) {
        let Self { rules, child, other, .. } = self;
        let life = [Some(child), other.as_mut()].into_iter().flatten().find(|life| life.generation == generation);
        let Some(life) = life else { return };
        if life.overdue(now, rules, out) {
            return self.gone(now, generation, out);
        }
        match (life.phase, &mut life.probation) {
            (Phase::Absent { until }, _) if is_due(until, now) && self.request.is_none() => self.start(now, out),
            (Phase::Starting | Phase::Running, Some(Probation::Readiness { deadline, .. }))
                if is_due(*deadline, now) =>
            {
                self.is_late(now, generation, out);
            }
            (Phase::Running, Some(Probation::Readiness { next, .. })) if is_due(*next, now) => {
                *next = None;
                let beside = generation != self.child.generation;
                match if beside { self.rules.ready_beside } else { self.rules.ready } {
                    Readiness::Tried => out.push(Effect::Try(generation)),
                    Readiness::Executed | Readiness::Told | Readiness::After(_) => self.ready(now, generation, out),
                }
            }
            (Phase::Running, Some(Probation::Overlap { until })) if *until <= now => self.hand_over(now, out),
            _ => {}
        }
    }

    /// A child was not ready in time, and is stopped.
    fn is_late(&mut self, now: Time, generation: GenerationId, out: &mut Vec<Effect>) {
        let waited = match self.rules.ready_timeout {
            Limit::After(limit) => limit,
            Limit::Never => Duration::ZERO,
        };
        if let Some(mut other) = self.successor().filter(|other| other.generation == generation) {
            self.other_failed(Failure::NotReady(waited), out);
            other.stop(now, &self.rules, self.rules.stop_signal, self.rules.stop_limit(), out);
            self.other = Some(other);
            return;
        }
        self.settle(Outcome::Failed(Failure::NotReady(waited)), out);
        match self.again.take().filter(|kind| kind.wants_new_child()) {
            // Somebody has asked for another one meanwhile.
            Some(kind) => self.owe_restart(now, kind, out),
            None => {
                self.was_late = true;
                out.push(Effect::Say(Message::NotReady(generation, waited)));
            }
        }
        self.child.stop(now, &self.rules, self.rules.stop_signal, self.rules.stop_limit(), out);
    }

    /// No deadline runs out while hupwrap itself is stopped.
    fn shift(&mut self, pause: Duration) {
        self.child.shift(pause);
        if let Some(other) = &mut self.other {
            other.shift(pause);
        }
        if let Some(deadline) = self.request.as_mut().and_then(|request| request.step.deadline_mut()) {
            *deadline = deadline.saturating_add(pause);
        }
    }
}
