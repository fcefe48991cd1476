//! The state, for the status file and the service manager.

use super::generation::Phase;
use super::request::Step;
use super::{Counts, Machine};
use crate::exit::ExitStatus;
use crate::facts::{GenerationId, Time};

/// What hupwrap is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A child was started, and is not ready.
    Starting,
    /// A child is ready, and nothing is to be done.
    Running,
    /// A request is being checked.
    Checking,
    /// Two generations are there.
    Replacing,
    /// The child is being stopped, or what it left behind.
    Stopping,
    /// There is no child; a start is due later.
    Waiting,
    /// hupwrap has ended.
    Ended,
}

impl State {
    /// The name in the status file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Checking => "checking",
            Self::Replacing => "replacing",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
        }
    }
}

/// A child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChildStatus {
    /// Its generation.
    pub generation: GenerationId,
    /// When its start was ordered.
    pub since: Time,
    /// Whether it is ready.
    pub ready: bool,
}

/// Everything of the machine that is reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// What is being done.
    pub state: State,
    /// The number of the newest child, or the last.
    pub generation: GenerationId,
    /// The newest child.
    pub child: Option<ChildStatus>,
    /// The other one, while there are two.
    pub old_child: Option<GenerationId>,
    /// How often a child was started again.
    pub counts: Counts,
    /// How the last child ended.
    pub last_exit: Option<ExitStatus>,
}

impl Machine {
    /// The state, for the status file.
    pub fn status(&self) -> Status {
        let living = || self.generations().filter(|life| life.has_child());
        let child = living().max_by_key(|life| life.id).map(|life| ChildStatus {
            generation: life.id,
            since: life.since,
            ready: life.ready_at.is_some() && life.awaits_main.is_none(),
        });
        let old_child = living().map(|life| life.id).min().filter(|_| living().count() > 1);
        Status {
            state: self.state(),
            generation: self.last_id,
            child,
            old_child,
            counts: self.counts,
            last_exit: self.last_exit,
        }
    }

    fn state(&self) -> State {
        let step = self.request.map(|request| request.step);
        match self.child.phase {
            Phase::Finished => State::Ended,
            _ if self.stop.is_some() => State::Stopping,
            _ if step == Some(Step::Replacing) || self.other.is_some() => State::Replacing,
            _ if step.is_some_and(Step::can_be_refused) => State::Checking,
            Phase::NotStarted | Phase::Starting => State::Starting,
            Phase::Running if !self.child.serves() => State::Starting,
            Phase::Running => State::Running,
            Phase::Stopping { .. } | Phase::Gone(_) | Phase::Sweeping { .. } => State::Stopping,
            Phase::Absent => State::Waiting,
        }
    }
}
