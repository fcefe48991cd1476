//! The life of one generation: a child, and what descends from it. How it is stopped, to the last process; what
//! follows from its end is for the machine to decide.

use crate::facts::{GenerationId, Time};
use std::time::Duration;

use super::effect::{Effect, Message, To};
use super::{Rules, STOP_TIMEOUT};
use crate::config::{KillMode, Limit};
use crate::signal::Signal;

/// How long KILL may take before it is called useless.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the child is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    /// Nothing was started yet.
    NotStarted,
    /// The child exists, or is about to; the program is not executed yet.
    Starting,
    /// The child executes the program.
    Running,
    /// The child was asked to end, and at `deadline` gets KILL, or got it.
    Stopping { deadline: Option<Time>, killed: bool },
    /// The child has ended; what remains of its generation is asked to end.
    Sweeping { deadline: Option<Time>, asked: bool, killed: bool },
    /// No process. A start is due at `until`, or follows something that is waited for.
    Absent { until: Option<Time> },
    /// hupwrap ends.
    Finished,
}

/// What a child has to show before it is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Probation {
    /// That it is ready, until `deadline`. It is tried, or taken for ready, at `next`.
    Readiness { deadline: Option<Time>, next: Option<Time> },
    /// That it lives until then, beside its predecessor.
    Overlap { until: Time },
}

/// One generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Generation {
    /// Its number; 0 before the first.
    pub(super) generation: GenerationId,
    pub(super) phase: Phase,
    /// None when it is trusted, or is not there.
    pub(super) probation: Option<Probation>,
    /// When its start was ordered.
    pub(super) began: Time,
    /// When it was ready.
    pub(super) ready_at: Option<Time>,
}

impl Generation {
    pub(super) fn has_child(self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running | Phase::Stopping { .. })
    }

    /// Whether it lives and nobody has asked it to end.
    pub(super) fn is_up(self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// Whether it runs and has shown what it has to.
    pub(super) fn serves(self) -> bool {
        self.phase == Phase::Running && self.probation.is_none()
    }

    pub(super) fn signal(&self, to: To, signal: Signal, out: &mut Vec<Effect>) {
        out.push(Effect::Signal { generation: self.generation, to, signal });
    }

    /// A signal for the child, and in `group` mode for its group.
    pub(super) fn send(&self, rules: &Rules, signal: Signal, out: &mut Vec<Effect>) {
        let to = match rules.kill_mode {
            KillMode::Mixed | KillMode::Process => To::Child,
            KillMode::Group => To::Group,
        };
        self.signal(to, signal, out);
    }

    /// Asks the child to end.
    pub(super) fn stop(&mut self, now: Time, rules: &Rules, by: Signal, limit: Limit, out: &mut Vec<Effect>) {
        self.probation = None;
        if limit == Limit::After(Duration::ZERO) {
            self.kill(now, rules, out);
            return;
        }
        self.send(rules, by, out);
        // A stopped child can only react when it continues.
        self.send(rules, Signal::CONT, out);
        self.phase = Phase::Stopping { deadline: after(now, limit), killed: false };
    }

    /// hupwrap is told to stop, for the first time or once more. A deadline that runs goes on running.
    pub(super) fn stop_for_good(&mut self, now: Time, rules: &Rules, by: Signal, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Starting | Phase::Running => {
                let limit = rules.stop_timeout.unwrap_or(Limit::Never);
                self.stop(now, rules, by, limit, out);
            }
            Phase::Stopping { .. } => {
                self.send(rules, by, out);
                self.send(rules, Signal::CONT, out);
            }
            Phase::Sweeping { .. } => self.signal(To::Rest, by, out),
            Phase::NotStarted | Phase::Absent { .. } | Phase::Finished => {}
        }
    }

    fn kill(&mut self, now: Time, rules: &Rules, out: &mut Vec<Effect>) {
        self.phase = Phase::Stopping { deadline: Some(now.saturating_add(KILL_TIMEOUT)), killed: true };
        self.send(rules, Signal::KILL, out);
    }

    /// The child has ended: looks for the rest, which has until `deadline` to end, where there is one.
    pub(super) fn sweep(&mut self, deadline: Option<Time>, rules: &Rules, out: &mut Vec<Effect>) {
        let group_asked = rules.kill_mode == KillMode::Group && matches!(self.phase, Phase::Stopping { .. });
        self.probation = None;
        self.phase = Phase::Sweeping { deadline, asked: false, killed: false };
        out.push(Effect::Survey { generation: self.generation, group_asked });
    }

    pub(super) fn rest_remains(&mut self, now: Time, rules: &Rules, out: &mut Vec<Effect>) {
        let Phase::Sweeping { deadline, asked, killed } = self.phase else { return };
        if killed {
            self.signal(To::Rest, Signal::KILL, out);
            return;
        }
        let limit = rules.stop_timeout.unwrap_or(Limit::After(STOP_TIMEOUT));
        if limit == Limit::After(Duration::ZERO) {
            self.kill_rest(now, out);
            return;
        }
        out.push(Effect::AskRest(self.generation, rules.stop_signal));
        if !asked {
            // Where the child's own end had no deadline, its rest has one from now.
            let deadline = deadline.or_else(|| after(now, Limit::After(rules.patience())));
            self.phase = Phase::Sweeping { deadline, asked: true, killed };
        }
    }

    fn kill_rest(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.phase = Phase::Sweeping { deadline: Some(now.saturating_add(KILL_TIMEOUT)), asked: true, killed: true };
        self.signal(To::Rest, Signal::KILL, out);
    }

    /// When [`Generation::overdue`] is.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Stopping { deadline, .. } | Phase::Sweeping { deadline, .. } => deadline,
            Phase::Absent { until } => until,
            Phase::NotStarted | Phase::Starting | Phase::Running | Phase::Finished => match self.probation {
                Some(Probation::Readiness { deadline, next }) => deadline.into_iter().chain(next).min(),
                Some(Probation::Overlap { until }) => Some(until),
                None => None,
            },
        }
    }

    /// A stop has taken too long. Returns whether the generation is given up, after KILL.
    pub(super) fn overdue(&mut self, now: Time, rules: &Rules, out: &mut Vec<Effect>) -> bool {
        match self.phase {
            Phase::Stopping { deadline, killed } if is_due(deadline, now) => {
                if killed {
                    out.push(Effect::Say(Message::Unkillable(KILL_TIMEOUT)));
                    self.phase = Phase::Stopping { deadline: None, killed };
                } else {
                    out.push(Effect::Say(Message::Killing(self.generation, rules.patience())));
                    self.kill(now, rules, out);
                }
                false
            }
            Phase::Sweeping { deadline, killed, .. } if is_due(deadline, now) => {
                if killed {
                    out.push(Effect::Say(Message::Unkillable(KILL_TIMEOUT)));
                } else {
                    out.push(Effect::Say(Message::KillingRest(rules.patience())));
                    self.kill_rest(now, out);
                }
                killed
            }
            _ => false,
        }
    }

    /// It needs more time: what is waited for is waited for until then at least.
    pub(super) fn extend(&mut self, until: Time) {
        match (&mut self.phase, &mut self.probation) {
            (Phase::Stopping { deadline: Some(deadline), killed: false }, _)
            | (_, Some(Probation::Readiness { deadline: Some(deadline), .. })) => *deadline = (*deadline).max(until),
            _ => {}
        }
    }

    /// No deadline runs out while hupwrap itself is stopped.
    pub(super) fn shift(&mut self, pause: Duration) {
        let later = |time: &mut Time| *time = time.saturating_add(pause);
        match &mut self.phase {
            Phase::Stopping { deadline, .. } | Phase::Sweeping { deadline, .. } => deadline.iter_mut().for_each(later),
            Phase::Absent { until } => until.iter_mut().for_each(later),
            Phase::NotStarted | Phase::Starting | Phase::Running | Phase::Finished => {}
        }
        match &mut self.probation {
            Some(Probation::Readiness { deadline, next }) => deadline.iter_mut().chain(next).for_each(later),
            Some(Probation::Overlap { until }) => later(until),
            None => {}
        }
    }
}

pub(super) fn is_due(time: Option<Time>, now: Time) -> bool {
    time.is_some_and(|time| time <= now)
}

/// When a limit that begins now is up.
pub(super) fn after(now: Time, limit: Limit) -> Option<Time> {
    match limit {
        Limit::Never => None,
        Limit::After(limit) => Some(now.saturating_add(limit)),
    }
}
