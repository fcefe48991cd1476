//! What of the machine crosses a re-exec.

use super::generation::{Generation, Phase};
use super::request::{Request, RequestKind, Step};
use super::settings::Settings;
use super::{Counts, Machine, Next};
use crate::exit::ExitStatus;
use crate::facts::{GenerationId, Time};
use crate::signal::SignalSet;

/// The part of the machine that crosses a re-exec. A child runs and is trusted, or none exists; there is no other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// The number of the child that runs, if one does.
    pub child: Option<GenerationId>,
    /// When the child is started again; none where it is to be at once.
    pub restart_at: Option<Time>,
    /// What the re-exec is for.
    pub kind: RequestKind,
    /// What was asked for since.
    pub again: Option<RequestKind>,
    /// The number of the last start.
    pub generation: GenerationId,
    /// When the start of the child that runs was ordered, as CLOCK_MONOTONIC read it.
    pub began: Time,
    /// When it was ready.
    pub ready_at: Option<Time>,
    /// Since when its main process is waited for.
    pub awaits_main: Option<Time>,
    /// Until when it has asked for time.
    pub extended: Option<Time>,
    /// Consecutive restarts that nobody asked for, and failed starts.
    pub consecutive: u32,
    /// When there were some lately.
    pub restarts: Vec<Time>,
    /// How often the child was started because it was asked for, and because it had ended.
    pub counts: Counts,
    /// How the last child ended.
    pub last_exit: Option<ExitStatus>,
    /// When the very first start was ordered, while none has succeeded.
    pub first_start: Option<Time>,
    /// When Ctrl-C reached the child.
    pub interrupted: Option<Time>,
    /// When the terminal was found gone.
    pub terminal_gone: Option<Time>,
    /// When the child is renewed because of its age.
    pub renew_at: Option<Time>,
    /// When a HUP came that may turn out to be a hang-up.
    pub suspect_hup: Option<Time>,
    /// Signals to forward that wait for a child.
    pub held_signals: SignalSet,
    /// Whether a HUP among those has no outcome yet.
    pub held_hup: bool,
    /// Signals to forward that wait for the user's check.
    pub unchecked: SignalSet,
    /// How long hupwrap was suspended in all. The times above are CLOCK_MONOTONIC less this.
    pub paused: Time,
}

impl Machine {
    /// A machine that goes on where another left off, and waits for [`super::event::Event::Adopted`].
    pub fn adopt(settings: Settings, snapshot: Snapshot) -> Self {
        let mut machine = Self::new(settings);
        let (phase, next) = match (snapshot.child, snapshot.restart_at) {
            (Some(_), _) => (Phase::Running, None),
            (None, Some(at)) => (Phase::Absent, Some(Next::StartAt(at))),
            (None, None) => (Phase::Absent, Some(Next::Start)),
        };
        machine.child = Generation {
            id: snapshot.child.unwrap_or(snapshot.generation),
            phase,
            readiness: machine.settings.ready,
            hears: true,
            began: snapshot.began.saturating_sub(snapshot.paused),
            since: snapshot.began,
            ready_at: snapshot.ready_at,
            awaits_main: snapshot.awaits_main,
            extended: snapshot.extended,
            ..Generation::none()
        };
        machine.next = next;
        machine.request =
            Some(Request { kind: snapshot.kind, step: Step::Crossed, began: Time::ZERO, signals: SignalSet::EMPTY });
        machine.again = snapshot.again;
        machine.last_id = snapshot.generation;
        machine.backoff.consecutive = snapshot.consecutive;
        machine.backoff.recent = snapshot.restarts;
        machine.counts = snapshot.counts;
        machine.last_exit = snapshot.last_exit;
        machine.first_start = snapshot.first_start;
        machine.interrupted = snapshot.interrupted;
        machine.terminal_gone = snapshot.terminal_gone;
        machine.renew_at = snapshot.renew_at;
        machine.suspect_hup = snapshot.suspect_hup;
        machine.held_signals = snapshot.held_signals;
        machine.held_hup = snapshot.held_hup;
        machine.unchecked = snapshot.unchecked;
        machine.paused = snapshot.paused;
        machine
    }

    /// What must cross a re-exec, when it is time for one. The supervisor then executes the new hupwrap, once
    /// everything that it knows was told. The answer is [`super::event::Event::Adopted`] in the new one, or
    /// [`super::event::Event::Refused`].
    pub fn snapshot(&self) -> Option<Snapshot> {
        let request = self.request.filter(|request| request.step == Step::Proven && self.other.is_none())?;
        let (child, restart_at) = match (&self.child.phase, self.next) {
            (Phase::Running, _) if self.child.probation.is_none() => (Some(self.child.id), None),
            (Phase::Absent, Some(Next::StartAt(at))) => (None, Some(at)),
            (Phase::Absent, Some(Next::Start)) => (None, None),
            _ => return None,
        };
        // What came until now is served by the hupwrap that is about to begin, and by its start if it makes one.
        let again = self.again.and_then(RequestKind::without_hupwrap).filter(|_| !request.wants_new_child());
        Some(Snapshot {
            child,
            restart_at,
            kind: request.kind,
            again,
            generation: self.last_id,
            began: self.child.since,
            ready_at: self.child.ready_at,
            awaits_main: self.child.awaits_main,
            // What can be written down.
            extended: self.child.extended.map(|until| until.min(Time::from_nanos(u64::MAX))),
            consecutive: self.backoff.consecutive,
            restarts: self.backoff.recent.clone(),
            counts: self.counts,
            last_exit: self.last_exit,
            first_start: self.first_start,
            interrupted: self.interrupted,
            terminal_gone: self.terminal_gone,
            renew_at: self.renew_at,
            suspect_hup: self.suspect_hup,
            held_signals: self.held_signals,
            held_hup: self.held_hup,
            unchecked: self.unchecked,
            paused: self.paused,
        })
    }
}
