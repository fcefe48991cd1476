//! The decisions. Pure: no clock, no environment, no pid; time is an argument.
//!
//! The machine is told facts ([`Event`]) and answers with orders ([`Action`]). Three things are kept apart, because each
//! has a life of its own: the *phase* of the child, the *request* somebody made by a signal, and whether hupwrap was
//! told to *stop*. docs/signals.md has the tables in words.

pub mod action;
pub mod event;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::time::Duration;

use crate::config::{Config, KillMode, Limit, Meaning, Meanings, StatusMap};
use crate::signal::{Signal, SignalSet};
use crate::status::{Ending, Outcome};
use action::{Action, Line, To};
use event::{Event, Sender, StartError};

/// A point in time: what CLOCK_MONOTONIC reads. A re-exec carries it over, which `std::time::Instant` cannot be.
pub type Time = Duration;

/// How long a restart waits for the child to end, where nobody said otherwise. Also what the rest of a generation gets
/// where the child's own end had no deadline.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the new hupwrap file may take to prove that it runs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long KILL may take before it is called useless.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// A child that ends this soon after Ctrl-C ended because of it.
const INTERRUPT_WINDOW: Duration = Duration::from_secs(5);
/// HUPs this soon after the terminal's end are echoes of it.
const HANG_UP_WINDOW: Duration = Duration::from_secs(1);
/// The first wait before a failed start is tried again; each further one is twice as long.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Up to this.
const RETRY_MAX_DELAY: Duration = Duration::from_secs(60);
/// How long the very first start is tried again.
const FIRST_START_PATIENCE: Duration = Duration::from_secs(10);

/// What never changes while hupwrap runs: configuration, and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// What each signal means.
    pub on: Meanings,
    /// What asks the child to end.
    pub stop_signal: Signal,
    /// The explicit bound on a stop.
    pub stop_timeout: Option<Limit>,
    /// Who is signalled.
    pub kill_mode: KillMode,
    /// How statuses change on the way out.
    pub map_status: StatusMap,
    /// Whether child and hupwrap share a process group, so that the child hears what the terminal sends.
    pub shared_group: bool,
    /// Whether hupwrap stops when its child was stopped: it shares the child's terminal.
    pub follows_stops: bool,
    /// Whether hupwrap is pid 1.
    pub is_init: bool,
    /// Whether hupwrap was started with HUP ignored, by nohup(1).
    pub nohup: bool,
}

impl Rules {
    /// The rules of a configuration, with what is known of hupwrap's place.
    pub fn new(config: &Config, shared_group: bool, has_terminal: bool, is_init: bool, nohup: bool) -> Self {
        Self {
            on: config.on.clone(),
            stop_signal: config.stop_signal,
            stop_timeout: config.stop_timeout,
            kill_mode: config.kill_mode,
            map_status: config.map_status.clone(),
            shared_group,
            follows_stops: shared_group && has_terminal && !is_init,
            is_init,
            nohup,
        }
    }
}

/// Where the child is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Nothing was started yet.
    Unborn,
    /// The child exists, or is about to; the program is not executed yet.
    Starting,
    /// The child executes the program.
    Running,
    /// The child was asked to end, and at `deadline` gets KILL, or got it.
    Stopping { deadline: Option<Time>, killed: bool },
    /// The child has ended; what remains of its generation is asked to end.
    Sweeping { deadline: Option<Time>, asked: bool, killed: bool },
    /// No process. A start is due at `until`, or follows a request that is being proven.
    Down { until: Option<Time> },
    /// hupwrap ends.
    Finished,
}

impl Phase {
    fn has_child(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Stopping { .. } => true,
            Self::Unborn | Self::Sweeping { .. } | Self::Down { .. } | Self::Finished => false,
        }
    }
}

/// What a signal can ask for and somebody may wait for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A new child.
    Restart,
    /// A new hupwrap, the same child.
    Upgrade,
    /// Both.
    Reexec,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Restart, Self::Upgrade, Self::Reexec];

    /// The action that asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Upgrade => "upgrade",
            Self::Reexec => "reexec",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn wants_new_child(self) -> bool {
        self != Self::Upgrade
    }

    fn wants_new_hupwrap(self) -> bool {
        self != Self::Restart
    }

    /// One request that does what both would.
    fn and(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other != self => Self::Reexec,
            _ => self,
        }
    }
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// The free checks are under way.
    Checking,
    /// The new hupwrap file has until then to answer.
    Probing { deadline: Time },
    /// It has answered; re-executed as soon as the child's phase allows.
    Proven,
    /// This is the new hupwrap, and has not begun to act.
    Crossed,
    /// Nothing can be refused any more: the child is stopped and started again.
    Renewing,
}

/// What was asked, and is not settled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Request {
    kind: Kind,
    step: Step,
}

/// The part of the machine that crosses a re-exec. Its phase is one of two: a child runs, or none does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Whether a child runs.
    pub child_runs: bool,
    /// When a failed start is tried again.
    pub retry_at: Option<Time>,
    /// What the re-exec is for.
    pub kind: Kind,
    /// What was asked meanwhile.
    pub again: Option<Kind>,
    /// The number of the last start.
    pub generation: u64,
    /// Starts that failed in a row.
    pub failed_starts: u32,
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
    phase: Phase,
    request: Option<Request>,
    /// A request that came during another: one, not a queue.
    again: Option<Kind>,
    /// What told hupwrap to stop.
    stop: Option<Signal>,
    /// How the last child ended, unless a stop came too late for it to be the answer.
    ended: Option<Outcome>,
    /// Signals to forward that came before the first child.
    early: SignalSet,
    generation: u64,
    failed_starts: u32,
    first_start: Option<Time>,
    interrupted: Option<Time>,
    terminal_gone: Option<Time>,
}

impl Machine {
    /// A machine that has done nothing yet and waits for [`Event::Began`].
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Unborn,
            request: None,
            again: None,
            stop: None,
            ended: None,
            early: SignalSet::EMPTY,
            generation: 0,
            failed_starts: 0,
            first_start: None,
            interrupted: None,
            terminal_gone: None,
        }
    }

    /// A machine that goes on where another left off, and waits for [`Event::Adopted`].
    pub fn adopt(rules: Rules, snapshot: Snapshot) -> Self {
        Self {
            phase: if snapshot.child_runs { Phase::Running } else { Phase::Down { until: snapshot.retry_at } },
            request: Some(Request { kind: snapshot.kind, step: Step::Crossed }),
            again: snapshot.again,
            generation: snapshot.generation,
            failed_starts: snapshot.failed_starts,
            first_start: snapshot.first_start,
            interrupted: snapshot.interrupted,
            terminal_gone: snapshot.terminal_gone,
            ..Self::new(rules)
        }
    }

    /// What must cross a re-exec, when it is time for one: the driver then executes the new hupwrap, once everything
    /// that it knows was told. Answered by [`Event::Adopted`] in the new one, or by [`Event::Refused`].
    pub fn snapshot(&self) -> Option<Snapshot> {
        let (child_runs, retry_at) = match self.phase {
            Phase::Running => (true, None),
            Phase::Down { until } => (false, until),
            _ => return None,
        };
        let Request { kind, .. } = self.request.filter(|request| request.step == Step::Proven)?;
        // What came until now is served by the hupwrap that is about to begin, and by its start if it makes one.
        let again =
            self.again.filter(|again| again.wants_new_child() && !kind.wants_new_child()).map(|_| Kind::Restart);
        Some(Snapshot {
            child_runs,
            retry_at,
            kind,
            again,
            generation: self.generation,
            failed_starts: self.failed_starts,
            first_start: self.first_start,
            interrupted: self.interrupted,
            terminal_gone: self.terminal_gone,
        })
    }

    /// When [`Event::Tick`] is due. Told early, late or twice it changes nothing.
    pub fn deadline(&self) -> Option<Time> {
        let of_phase = match self.phase {
            Phase::Stopping { deadline, .. } | Phase::Sweeping { deadline, .. } => deadline,
            Phase::Down { until } => until,
            Phase::Unborn | Phase::Starting | Phase::Running | Phase::Finished => None,
        };
        let of_request = match self.request {
            Some(Request { step: Step::Probing { deadline }, .. }) => Some(deadline),
            _ => None,
        };
        of_phase.into_iter().chain(of_request).min()
    }

    /// Whether a start follows as soon as the last child and its generation are gone: requests that came before share it.
    pub fn is_about_to_start(&self) -> bool {
        let renews = self.request.is_some_and(|request| request.step == Step::Renewing);
        renews && matches!(self.phase, Phase::Stopping { .. } | Phase::Sweeping { .. })
    }

    /// Whether something is to be done as soon as [`Event::Executed`] comes. Otherwise it may be told late, though before
    /// anything else that happened after it.
    pub fn awaits_execution(&self) -> bool {
        self.phase == Phase::Starting && self.again.is_some()
    }

    /// Takes a fact, and adds the orders that follow from it.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        if self.phase == Phase::Finished {
            return;
        }
        match event {
            Event::Began => {
                if self.phase == Phase::Unborn {
                    self.first_start = Some(now);
                    self.start(out);
                }
            }
            Event::Adopted { before } => self.adopted(now, before, out),
            Event::Signal { signal: Signal::HUP, sender, hung_up } => self.hup(now, sender, hung_up, out),
            Event::Signal { signal, sender, .. } => self.signal(now, signal, sender, out),
            Event::TerminalGone => self.terminal_gone = self.terminal_gone.or(Some(now)),
            Event::Started => {
                for signal in std::mem::take(&mut self.early).iter() {
                    self.send(signal, out);
                }
            }
            Event::Executed => self.executed(now, out),
            Event::StartFailed(error) => self.start_failed(now, error, out),
            Event::ChildStopped(signal) => {
                if self.rules.follows_stops && self.phase.has_child() {
                    out.push(Action::Suspend { signal, insist: false });
                }
            }
            Event::ChildEnded(outcome) => self.child_ended(now, outcome, out),
            Event::RestRemains => self.rest_remains(now, out),
            Event::RestGone => {
                if let Phase::Sweeping { .. } = self.phase {
                    self.swept(out);
                }
            }
            Event::Checked => self.checked(now, out),
            Event::Refused(reason) => {
                if self.request.is_some_and(|request| request.step != Step::Renewing) {
                    self.refuse(now, reason, out);
                }
            }
            Event::Proven => {
                if let Some(Request { step: step @ Step::Probing { .. }, .. }) = &mut self.request {
                    *step = Step::Proven;
                }
            }
            Event::Resumed(pause) => self.shift(pause),
            Event::Tick => self.tick(now, out),
        }
    }

    // Signals.

    /// A hang-up is not a reload: where the terminal is gone, HUP means stop.
    fn hup(&mut self, now: Time, sender: Sender, hung_up: bool, out: &mut Vec<Action>) {
        let by_kernel = sender == Sender::Kernel;
        if by_kernel || hung_up {
            let gone = *self.terminal_gone.get_or_insert(now);
            let echo = now.saturating_sub(gone) < HANG_UP_WINDOW;
            if self.rules.nohup {
                if by_kernel || echo {
                    out.push(Action::Say(Line::HangUpIgnored));
                    return;
                }
            } else {
                return self.told_to_stop(now, Signal::HUP, Signal::HUP, out);
            }
        }
        self.signal(now, Signal::HUP, sender, out);
    }

    fn signal(&mut self, now: Time, signal: Signal, sender: Sender, out: &mut Vec<Action>) {
        let from_terminal = sender == Sender::Kernel
            && (signal.is_job_control() || matches!(signal, Signal::INT | Signal::QUIT | Signal::WINCH));
        // What the terminal sends goes to the whole foreground group.
        let heard = from_terminal && self.rules.shared_group && self.phase.has_child();
        if heard && matches!(signal, Signal::INT | Signal::QUIT) {
            self.interrupted = Some(now);
        }
        match self.rules.on.of(signal) {
            Meaning::Restart => self.ask(now, Kind::Restart, out),
            Meaning::Upgrade => self.ask(now, Kind::Upgrade, out),
            Meaning::Reexec => self.ask(now, Kind::Reexec, out),
            // A child that lives through Ctrl-C, a shell or a REPL, lives on.
            Meaning::Stop(None) | Meaning::Forward(None) if heard => {}
            Meaning::Stop(by) => {
                let default = if signal == Signal::TERM { self.rules.stop_signal } else { signal };
                self.told_to_stop(now, signal, by.unwrap_or(default), out);
            }
            // Ctrl-C with no child to hear it.
            Meaning::Forward(_)
                if from_terminal && matches!(signal, Signal::INT | Signal::QUIT) && !self.phase.has_child() =>
            {
                self.told_to_stop(now, signal, signal, out);
            }
            Meaning::Forward(by) => {
                self.forward(by.unwrap_or(signal), out);
                if signal.is_job_control() && !self.rules.is_init && !heard {
                    out.push(Action::Suspend { signal, insist: true });
                }
            }
            Meaning::Ignore | Meaning::LeftAlone => {}
        }
    }

    fn forward(&mut self, signal: Signal, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Unborn => self.early.insert(signal),
            _ if self.phase.has_child() => self.send(signal, out),
            // These tell of a state that the next child finds anyhow.
            _ if signal.is_job_control() || matches!(signal, Signal::CONT | Signal::WINCH) => {}
            _ => out.push(Action::Say(Line::NotForwarded(signal))),
        }
    }

    /// A signal for the child, and in `group` mode for its group.
    fn send(&self, signal: Signal, out: &mut Vec<Action>) {
        let to = match self.rules.kill_mode {
            KillMode::Mixed | KillMode::Process => To::Child,
            KillMode::Group => To::Group,
        };
        out.push(Action::Signal { to, signal });
    }

    // Stopping.

    /// A stop beats everything: requests are forgotten, whichever came first.
    fn told_to_stop(&mut self, now: Time, told: Signal, by: Signal, out: &mut Vec<Action>) {
        let first = self.stop.is_none();
        self.stop = self.stop.or(Some(told));
        let restarts = self.request.is_some();
        self.drop_request(out);
        self.again = None;
        match self.phase {
            Phase::Starting | Phase::Running => {
                let limit = self.rules.stop_timeout.unwrap_or(Limit::Never);
                self.stop_child(now, by, limit, out);
            }
            // A restart was under way, or this is a second TERM. A deadline that runs goes on running.
            Phase::Stopping { .. } => {
                self.send(by, out);
                out.push(self.cont());
            }
            Phase::Sweeping { .. } => {
                // The last child's end was a step of a restart, and is not hupwrap's.
                if first && restarts {
                    self.ended = None;
                }
                out.push(Action::Signal { to: To::Rest, signal: by });
            }
            Phase::Unborn | Phase::Down { .. } => self.finish(Ending::Told(told), out),
            Phase::Finished => {}
        }
    }

    fn stop_child(&mut self, now: Time, by: Signal, limit: Limit, out: &mut Vec<Action>) {
        if limit == Limit::After(Duration::ZERO) {
            self.kill_child(now, out);
            return;
        }
        self.send(by, out);
        out.push(self.cont());
        self.phase = Phase::Stopping { deadline: after(now, limit), killed: false };
    }

    /// A stopped child can only react when it continues.
    fn cont(&self) -> Action {
        let to = if self.rules.kill_mode == KillMode::Group { To::Group } else { To::Child };
        Action::Signal { to, signal: Signal::CONT }
    }

    fn kill_child(&mut self, now: Time, out: &mut Vec<Action>) {
        self.send(Signal::KILL, out);
        self.phase = Phase::Stopping { deadline: Some(now.saturating_add(KILL_TIMEOUT)), killed: true };
    }

    fn sweep(&mut self, deadline: Option<Time>, out: &mut Vec<Action>) {
        let group_asked = self.rules.kill_mode == KillMode::Group && matches!(self.phase, Phase::Stopping { .. });
        self.phase = Phase::Sweeping { deadline, asked: false, killed: false };
        out.push(Action::Survey { group_asked });
    }

    fn rest_remains(&mut self, now: Time, out: &mut Vec<Action>) {
        let Phase::Sweeping { deadline, asked, killed } = self.phase else { return };
        if killed {
            out.push(Action::Signal { to: To::Rest, signal: Signal::KILL });
            return;
        }
        let limit = self.rules.stop_timeout.unwrap_or(Limit::After(STOP_TIMEOUT));
        if limit == Limit::After(Duration::ZERO) {
            self.kill_rest(now, out);
            return;
        }
        out.push(Action::AskRest(self.rules.stop_signal));
        if !asked {
            // Where the child's own end had no deadline, its rest has one from now.
            let deadline = deadline.or_else(|| after(now, Limit::After(self.limit())));
            self.phase = Phase::Sweeping { deadline, asked: true, killed };
        }
    }

    fn kill_rest(&mut self, now: Time, out: &mut Vec<Action>) {
        self.phase = Phase::Sweeping { deadline: Some(now.saturating_add(KILL_TIMEOUT)), asked: true, killed: true };
        out.push(Action::Signal { to: To::Rest, signal: Signal::KILL });
    }

    // The child's life.

    fn start(&mut self, out: &mut Vec<Action>) {
        self.generation = self.generation.saturating_add(1);
        self.phase = Phase::Starting;
        out.push(Action::Start { generation: self.generation });
    }

    fn executed(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.phase != Phase::Starting {
            return;
        }
        self.phase = Phase::Running;
        self.failed_starts = 0;
        self.first_start = None;
        self.request = None;
        self.take_up_again(now, out);
    }

    fn start_failed(&mut self, now: Time, error: StartError, out: &mut Vec<Action>) {
        if !self.phase.has_child() {
            return;
        }
        if let Some(told) = self.stop {
            return self.finish(Ending::Told(told), out);
        }
        let patient = match self.first_start {
            Some(first) => error.transient && now.saturating_sub(first) < FIRST_START_PATIENCE,
            None => true,
        };
        if !patient {
            out.push(Action::Say(Line::CannotStart(error.reason)));
            let code = if error.transient { crate::status::CANNOT_EXECUTE } else { error.code };
            return self.finish(Ending::Own(code), out);
        }
        let delay =
            RETRY_DELAY.saturating_mul(1u32.checked_shl(self.failed_starts).unwrap_or(u32::MAX)).min(RETRY_MAX_DELAY);
        // The last try of the first start is when its patience ends, and not later.
        let left = self.first_start.map(|first| first.saturating_add(FIRST_START_PATIENCE).saturating_sub(now));
        let delay = left.map_or(delay, |left| delay.min(left));
        self.failed_starts = self.failed_starts.saturating_add(1);
        out.push(Action::Say(Line::StartingLater(error, delay)));
        self.request = None;
        self.phase = Phase::Down { until: Some(now.saturating_add(delay)) };
        // The start to come is one that a restart asked for meanwhile can share; a new hupwrap it is not.
        match self.again.take() {
            Some(kind) if kind.wants_new_hupwrap() => self.begin(now, kind, out),
            _ => {}
        }
    }

    fn child_ended(&mut self, now: Time, outcome: Outcome, out: &mut Vec<Action>) {
        let outcome = self.rules.map_status.map(outcome);
        // The child's end after Ctrl-C is what the person at the terminal asked for.
        let interrupted = self.interrupted.take().is_some_and(|at| now.saturating_sub(at) < INTERRUPT_WINDOW);
        match self.phase {
            Phase::Starting | Phase::Running => {
                self.ended = Some(outcome);
                self.ended_by_itself(outcome, interrupted, out);
            }
            Phase::Stopping { deadline, killed } => {
                self.ended = Some(outcome);
                if interrupted && self.stop.is_none() {
                    self.drop_request(out);
                    self.again = None;
                }
                match self.rules.kill_mode {
                    KillMode::Process => self.swept(out),
                    // Where KILL was needed, its time is over for the rest too.
                    KillMode::Mixed | KillMode::Group => self.sweep(if killed { Some(now) } else { deadline }, out),
                }
            }
            Phase::Unborn | Phase::Sweeping { .. } | Phase::Down { .. } | Phase::Finished => {}
        }
    }

    fn ended_by_itself(&mut self, outcome: Outcome, interrupted: bool, out: &mut Vec<Action>) {
        // A restart that came while the program was being started waits in `again`.
        if self.request.is_none_or(|request| request.step == Step::Renewing) {
            self.request = self.again.take().map(|kind| Request { kind, step: Step::Renewing });
        }
        // One that came behind an upgrade is owed as well: now they are one.
        if let Some(request @ Request { kind: Kind::Upgrade, .. }) = &mut self.request
            && self.again.is_some_and(Kind::wants_new_child)
        {
            request.kind = Kind::Reexec;
            self.again = self.again.filter(|again| again.wants_new_hupwrap());
        }
        if interrupted || !self.request.is_some_and(|request| request.kind.wants_new_child()) {
            self.drop_request(out);
            self.again = None;
            return self.end_with_child(outcome, out);
        }
        out.push(Action::Say(Line::StartingAgain(outcome)));
        match self.rules.kill_mode {
            KillMode::Process => self.after_sweep_with_request(out),
            KillMode::Mixed | KillMode::Group => self.sweep(None, out),
        }
    }

    /// The command ended by itself and is not started again.
    fn end_with_child(&mut self, outcome: Outcome, out: &mut Vec<Action>) {
        match self.rules.kill_mode {
            // Pid 1 takes everything with it: they shall hear of it before.
            KillMode::Mixed | KillMode::Group if self.rules.is_init => self.sweep(None, out),
            KillMode::Group => {
                out.push(Action::Signal { to: To::Rest, signal: self.rules.stop_signal });
                out.push(Action::Signal { to: To::Rest, signal: Signal::CONT });
                self.finish(Ending::Child(outcome), out);
            }
            KillMode::Mixed | KillMode::Process => self.finish(Ending::Child(outcome), out),
        }
    }

    /// Nothing remains of the generation: what comes next?
    fn swept(&mut self, out: &mut Vec<Action>) {
        if self.stop.is_none() && self.request.is_some() {
            return self.after_sweep_with_request(out);
        }
        let ending = match (self.ended, self.stop) {
            (Some(outcome), _) => Ending::Child(outcome),
            (None, Some(told)) => Ending::Told(told),
            (None, None) => Ending::Own(crate::status::OWN_FAILURE),
        };
        self.finish(ending, out);
    }

    fn after_sweep_with_request(&mut self, out: &mut Vec<Action>) {
        match self.request {
            Some(Request { step: Step::Renewing, .. }) | None => self.start(out),
            Some(_) => {
                self.phase = Phase::Down { until: None };
            }
        }
    }

    fn finish(&mut self, ending: Ending, out: &mut Vec<Action>) {
        self.drop_request(out);
        self.phase = Phase::Finished;
        out.push(Action::Finish(ending));
    }

    // Requests.

    /// Somebody asks for something new. One request at a time; what comes meanwhile shares its start where that begins
    /// later, and is taken up afterwards where it does not.
    fn ask(&mut self, now: Time, kind: Kind, out: &mut Vec<Action>) {
        if self.stop.is_some() {
            return;
        }
        self.interrupted = None;
        match self.phase {
            // The first start, by the hupwrap that was just started, is all that could be asked for.
            Phase::Unborn | Phase::Finished => {}
            Phase::Starting => self.again = Some(kind.and(self.again)),
            Phase::Running | Phase::Down { .. } if self.request.is_none() => self.begin(now, kind, out),
            Phase::Running | Phase::Down { .. } => self.again = Some(kind.and(self.again)),
            Phase::Stopping { .. } | Phase::Sweeping { .. } => match self.request {
                Some(Request { step: Step::Renewing, .. }) if !kind.wants_new_hupwrap() => {}
                Some(_) => self.again = Some(kind.and(self.again)),
                // The child ended by itself, and hupwrap was about to follow.
                None if kind.wants_new_child() => {
                    self.request = Some(Request { kind: Kind::Restart, step: Step::Renewing });
                    self.again = kind.wants_new_hupwrap().then_some(Kind::Upgrade);
                }
                None => {}
            },
        }
    }

    fn begin(&mut self, now: Time, kind: Kind, out: &mut Vec<Action>) {
        if kind.wants_new_child() {
            self.request = Some(Request { kind, step: Step::Checking });
            out.push(Action::Check);
        } else {
            // The child is not touched: that the program could be started again does not matter.
            self.probe(now, kind, out);
        }
    }

    fn probe(&mut self, now: Time, kind: Kind, out: &mut Vec<Action>) {
        let deadline = now.saturating_add(PROBE_TIMEOUT);
        self.request = Some(Request { kind, step: Step::Probing { deadline } });
        out.push(Action::Probe);
    }

    fn checked(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(request) = self.request.filter(|request| request.step == Step::Checking) else { return };
        if request.kind.wants_new_hupwrap() {
            self.probe(now, request.kind, out);
        } else {
            self.renew(now, out);
        }
    }

    fn adopted(&mut self, now: Time, before: String, out: &mut Vec<Action>) {
        out.push(Action::Say(Line::Reexecuted { before }));
        let Some(request) = self.request.filter(|request| request.step == Step::Crossed) else { return };
        if request.kind.wants_new_child() {
            self.renew(now, out);
        } else {
            self.request = None;
            self.take_up_again(now, out);
        }
    }

    /// Stops the child, if there is one, and starts it again.
    fn renew(&mut self, now: Time, out: &mut Vec<Action>) {
        if let Some(request) = &mut self.request {
            request.step = Step::Renewing;
        }
        self.failed_starts = 0;
        match self.phase {
            Phase::Down { .. } => self.start(out),
            Phase::Starting | Phase::Running => {
                out.push(Action::Say(Line::Restarting));
                let limit = self.rules.stop_timeout.unwrap_or(Limit::After(STOP_TIMEOUT));
                self.stop_child(now, self.rules.stop_signal, limit, out);
            }
            // On its way down already; the start follows.
            Phase::Unborn | Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Finished => {}
        }
    }

    fn refuse(&mut self, now: Time, reason: String, out: &mut Vec<Action>) {
        let Some(request) = self.request.take() else { return };
        out.push(Action::Say(Line::Refused { what: request.kind.name(), reason }));
        match self.phase {
            // The child ended by itself meanwhile. Someone asked for it, so it is started again.
            Phase::Sweeping { .. } => {
                self.request = Some(Request { kind: Kind::Restart, step: Step::Renewing });
                self.again = self.again.filter(|kind| kind.wants_new_hupwrap());
            }
            Phase::Down { until: None } => {
                self.again = self.again.filter(|kind| kind.wants_new_hupwrap());
                self.start(out);
            }
            _ => self.take_up_again(now, out),
        }
    }

    fn take_up_again(&mut self, now: Time, out: &mut Vec<Action>) {
        if let Some(kind) = self.again.take() {
            self.begin(now, kind, out);
        }
    }

    fn drop_request(&mut self, out: &mut Vec<Action>) {
        if let Some(Request { step: Step::Probing { .. }, .. }) = self.request.take() {
            out.push(Action::AbandonProbe);
        }
    }

    // Time.

    fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        let due = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= now);
        if let Some(Request { step: Step::Probing { deadline }, .. }) = self.request
            && due(Some(deadline))
        {
            out.push(Action::AbandonProbe);
            self.refuse(now, format!("the new hupwrap did not answer within {}s", PROBE_TIMEOUT.as_secs()), out);
        }
        match self.phase {
            Phase::Stopping { deadline, killed } if due(deadline) => {
                if killed {
                    out.push(Action::Say(Line::Unkillable(KILL_TIMEOUT)));
                    self.phase = Phase::Stopping { deadline: None, killed };
                } else {
                    out.push(Action::Say(Line::Killing(self.limit())));
                    self.kill_child(now, out);
                }
            }
            Phase::Sweeping { deadline, killed, .. } if due(deadline) => {
                if killed {
                    out.push(Action::Say(Line::Unkillable(KILL_TIMEOUT)));
                    self.swept(out);
                } else {
                    out.push(Action::Say(Line::KillingRest(self.limit())));
                    self.kill_rest(now, out);
                }
            }
            Phase::Down { until } if due(until) && self.request.is_none() => self.start(out),
            _ => {}
        }
    }

    /// The time that has run out when KILL is due.
    fn limit(&self) -> Duration {
        match self.rules.stop_timeout {
            Some(Limit::After(limit)) => limit,
            Some(Limit::Never) | None => STOP_TIMEOUT,
        }
    }

    /// No deadline runs out while hupwrap itself is stopped.
    fn shift(&mut self, pause: Duration) {
        let later = |deadline: &mut Time| *deadline = deadline.saturating_add(pause);
        match &mut self.phase {
            Phase::Stopping { deadline, .. } | Phase::Sweeping { deadline, .. } => deadline.iter_mut().for_each(later),
            Phase::Down { until } => until.iter_mut().for_each(later),
            Phase::Unborn | Phase::Starting | Phase::Running | Phase::Finished => {}
        }
        if let Some(Request { step: Step::Probing { deadline }, .. }) = &mut self.request {
            later(deadline);
        }
    }
}

/// When a limit that begins now is up.
fn after(now: Time, limit: Limit) -> Option<Time> {
    match limit {
        Limit::Never => None,
        Limit::After(limit) => Some(now.saturating_add(limit)),
    }
}
