//! One generation: a child, and what descends from it. How it is stopped, to the last process; what follows from its
//! end is for the rules to decide.

use std::time::Duration;

use super::effect::{Effect, To};
use super::message::Message;
use super::settings::{Readiness, STOP_TIMEOUT, Settings};
use super::turn::Turn;
use crate::config::{KillMode, Limit};
use crate::exit::ExitStatus;
use crate::facts::{GenerationId, StartError, Time};
use crate::signal::Signal;

/// How long KILL may take before hupwrap reports that it does not help.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a generation is doing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    /// Nothing was started yet.
    NotStarted,
    /// The child exists, or is about to; it has not executed the program yet.
    Starting,
    /// The child executes the program.
    Running,
    /// The child was asked to end, last by the signal `by`. At `deadline` it gets KILL, or KILL has been of no use.
    Stopping { deadline: Option<Time>, by: Signal, killed: bool },
    /// The child is gone, and the rules have not handled that yet. This lasts no longer than the handling of one event.
    Gone(Gone),
    /// The child has ended; what remains of its generation is asked to end.
    Sweeping { deadline: Option<Time>, asked: bool, killed: bool },
    /// No process.
    Absent,
    /// hupwrap ends.
    Finished,
}

/// How a child went.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Gone {
    /// How it ended, or why it could not be started.
    pub(super) how: Result<ExitStatus, StartError>,
    /// Whether it was being stopped.
    pub(super) was_stopped: bool,
    /// When the rest of its generation gets KILL: its own deadline goes on.
    pub(super) rest_deadline: Option<Time>,
}

/// What a child has to show before it is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Probation {
    /// That it is ready, until `deadline`. At `next` it is tried, or ready.
    Readiness { deadline: Option<Time>, next: Option<Time> },
    /// That it lives until then, beside its predecessor.
    Overlap { until: Time },
}

/// One generation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Generation {
    /// Its number; 0 before the first.
    pub(super) id: GenerationId,
    pub(super) phase: Phase,
    /// How it shows that it is ready.
    pub(super) readiness: Readiness,
    /// None when it is trusted, or does not exist.
    pub(super) probation: Option<Probation>,
    /// Whether it can receive forwarded signals.
    pub(super) hears: bool,
    /// Whether it is stopped because it was not ready in time.
    pub(super) late: bool,
    /// Since when its main process is waited for: the child before it ended then, and nobody takes its place yet.
    /// Remains if nobody ever does: then it is when the child ended.
    pub(super) awaits_main: Option<Time>,
    /// Until when it has asked for time.
    pub(super) extended: Option<Time>,
    /// Whether its child has ended and nobody looked for the rest.
    pub(super) unswept: bool,
    /// When its start was ordered.
    pub(super) began: Time,
    /// The same as CLOCK_MONOTONIC read it.
    pub(super) since: Time,
    /// When it was ready.
    pub(super) ready_at: Option<Time>,
}

impl Generation {
    /// None at all: what there is before the first.
    pub(super) fn none() -> Self {
        Self {
            id: 0,
            phase: Phase::NotStarted,
            readiness: Readiness::Executed,
            probation: None,
            hears: false,
            late: false,
            awaits_main: None,
            extended: None,
            unswept: false,
            began: Time::ZERO,
            since: Time::ZERO,
            ready_at: None,
        }
    }

    pub(super) fn has_child(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running | Phase::Stopping { .. })
    }

    /// Whether the child lives and nobody has asked it to end.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// Whether the child runs and has shown what it has to.
    pub(super) fn serves(&self) -> bool {
        self.phase == Phase::Running && self.probation.is_none() && self.awaits_main.is_none()
    }

    /// How the child went, where the rules have not handled that yet.
    pub(super) fn gone(&self) -> Option<&Gone> {
        match &self.phase {
            Phase::Gone(gone) => Some(gone),
            _ => None,
        }
    }

    pub(super) fn signal(&self, to: To, signal: Signal, turn: &mut Turn) {
        turn.push(Effect::Signal { generation: self.id, to, signal });
    }

    /// Sends a signal to the child, and in `group` mode to its group.
    pub(super) fn send(&self, settings: &Settings, signal: Signal, turn: &mut Turn) {
        self.pass_on(settings, signal, false, turn);
    }

    /// The same. What comes from the terminal (`to_job`) goes to the whole group, as the terminal would send it, unless
    /// nobody but the child may ever be signalled.
    pub(super) fn pass_on(&self, settings: &Settings, signal: Signal, to_job: bool, turn: &mut Turn) {
        let to = match settings.kill_mode {
            KillMode::Group => To::Group,
            KillMode::Mixed if to_job => To::Group,
            KillMode::Mixed | KillMode::Process => To::Child,
        };
        self.signal(to, signal, turn);
    }

    /// Asks the child to end. `to_job`: as in [`Self::pass_on`].
    pub(super) fn stop(&mut self, settings: &Settings, by: Signal, limit: Limit, to_job: bool, turn: &mut Turn) {
        self.probation = None;
        if limit == Limit::After(Duration::ZERO) {
            self.kill(settings, turn);
            return;
        }
        self.pass_on(settings, by, to_job, turn);
        // A stopped child can only react when it continues.
        self.pass_on(settings, Signal::CONT, to_job, turn);
        self.phase = Phase::Stopping { deadline: after(turn.now, limit), by, killed: false };
    }

    /// Asks the child to end that makes place for another.
    pub(super) fn stop_for_another(&mut self, settings: &Settings, turn: &mut Turn) {
        self.stop(settings, settings.stop_signal, settings.stop_limit(), false, turn);
    }

    /// hupwrap is told to stop, for the first time or once more. A deadline that runs goes on running.
    pub(super) fn stop_for_good(&mut self, settings: &Settings, by: Signal, to_job: bool, turn: &mut Turn) {
        self.late = false;
        match self.phase {
            Phase::Starting | Phase::Running => {
                let limit = settings.stop_timeout.unwrap_or(Limit::Never);
                self.stop(settings, by, limit, to_job, turn);
            }
            Phase::Stopping { deadline, killed, by: before } => {
                self.pass_on(settings, by, to_job, turn);
                self.pass_on(settings, Signal::CONT, to_job, turn);
                self.phase = Phase::Stopping { deadline, killed, by: if killed { before } else { by } };
            }
            Phase::Sweeping { .. } => {
                self.signal(To::Rest, by, turn);
                self.signal(To::Rest, Signal::CONT, turn);
            }
            Phase::NotStarted | Phase::Gone(_) | Phase::Absent | Phase::Finished => {}
        }
    }

    fn kill(&mut self, settings: &Settings, turn: &mut Turn) {
        turn.say(Message::Killing(self.id, settings.patience()));
        let (deadline, by) = (Some(turn.now.saturating_add(KILL_TIMEOUT)), Signal::KILL);
        self.phase = Phase::Stopping { deadline, by, killed: true };
        self.send(settings, by, turn);
    }

    /// The child has ended, or there is none after all.
    pub(super) fn went(&mut self, how: Result<ExitStatus, StartError>, now: Time) {
        let (was_stopped, rest_deadline) = match self.phase {
            Phase::Starting | Phase::Running => (false, None),
            // Where KILL was needed, the time of the rest is up as well.
            Phase::Stopping { killed: true, .. } => (true, Some(now)),
            Phase::Stopping { deadline, .. } => (true, deadline),
            _ => return,
        };
        self.phase = Phase::Gone(Gone { how, was_stopped, rest_deadline });
    }

    /// Looks for the rest of the generation, which has until `deadline` to end, where there is one.
    pub(super) fn sweep(&mut self, deadline: Option<Time>, group_asked: bool, turn: &mut Turn) {
        self.probation = None;
        self.unswept = false;
        self.phase = Phase::Sweeping { deadline, asked: false, killed: false };
        turn.push(Effect::Survey { generation: self.id, group_asked });
    }

    pub(super) fn rest_remains(&mut self, settings: &Settings, turn: &mut Turn) {
        let Phase::Sweeping { deadline, asked, killed } = self.phase else { return };
        if killed {
            self.signal(To::Rest, Signal::KILL, turn);
            return;
        }
        let limit = settings.stop_timeout.unwrap_or(Limit::After(STOP_TIMEOUT));
        if limit == Limit::After(Duration::ZERO) {
            self.kill_rest(settings, turn);
            return;
        }
        turn.push(Effect::AskRest(self.id, settings.stop_signal));
        if !asked {
            // Where the child's own end had no deadline, its rest has one from now.
            let deadline = deadline.or_else(|| after(turn.now, Limit::After(settings.patience())));
            self.phase = Phase::Sweeping { deadline, asked: true, killed };
        }
    }

    fn kill_rest(&mut self, settings: &Settings, turn: &mut Turn) {
        turn.say(Message::KillingRest(settings.patience()));
        let deadline = Some(turn.now.saturating_add(KILL_TIMEOUT));
        self.phase = Phase::Sweeping { deadline, asked: true, killed: true };
        self.signal(To::Rest, Signal::KILL, turn);
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        match (&self.phase, self.probation) {
            (Phase::Stopping { deadline, .. } | Phase::Sweeping { deadline, .. }, _) => *deadline,
            (Phase::Starting | Phase::Running, Some(Probation::Readiness { deadline, next })) => {
                deadline.into_iter().chain(next.filter(|_| self.awaits_main.is_none())).min()
            }
            (Phase::Starting | Phase::Running, Some(Probation::Overlap { until })) => {
                Some(until).filter(|_| self.awaits_main.is_none())
            }
            _ => None,
        }
    }

    /// Kills what had its time to end. Returns whether anything was due.
    pub(super) fn kill_overdue(&mut self, settings: &Settings, turn: &mut Turn) -> bool {
        match self.phase {
            Phase::Stopping { deadline, by, killed } if turn.is_due(deadline) => {
                if killed {
                    turn.say(Message::Unkillable(KILL_TIMEOUT));
                    self.phase = Phase::Stopping { deadline: None, by, killed };
                } else {
                    self.kill(settings, turn);
                }
            }
            Phase::Sweeping { deadline, killed, .. } if turn.is_due(deadline) => {
                if killed {
                    // hupwrap goes on without it.
                    turn.say(Message::Unkillable(KILL_TIMEOUT));
                    self.phase = Phase::Absent;
                } else {
                    self.kill_rest(settings, turn);
                }
            }
            _ => return false,
        }
        true
    }

    /// Whether the child was not ready in time.
    pub(super) fn is_late(&self, turn: &Turn) -> bool {
        match self.probation {
            Some(Probation::Readiness { deadline, .. }) => self.is_up() && turn.is_due(deadline),
            _ => false,
        }
    }

    /// How long it may take to be ready, with the time that it has asked for.
    pub(super) fn ready_limit(&self) -> Duration {
        match self.probation {
            Some(Probation::Readiness { deadline: Some(deadline), .. }) => deadline.saturating_sub(self.began),
            _ => Duration::ZERO,
        }
    }

    /// The generation needs more time: what is waited for is waited for until then at least.
    pub(super) fn extend(&mut self, until: Time) {
        self.extended = self.extended.max(Some(until));
        match (&mut self.phase, &mut self.probation) {
            (
                Phase::Stopping { deadline: Some(deadline), killed: false, .. }
                | Phase::Sweeping { deadline: Some(deadline), killed: false, .. },
                _,
            )
            | (_, Some(Probation::Readiness { deadline: Some(deadline), .. })) => *deadline = (*deadline).max(until),
            _ => {}
        }
    }
}

/// When a limit that begins now is up.
pub(super) fn after(now: Time, limit: Limit) -> Option<Time> {
    match limit {
        Limit::Never => None,
        Limit::After(limit) => Some(now.saturating_add(limit)),
    }
}
