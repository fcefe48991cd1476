//! How things are, for whoever watches.

use super::generation::Generation;
use super::{Counts, Machine, Phase, Request, Step};
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
        }
    }
}

/// A child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChildStatus {
    /// Which.
    pub generation: GenerationId,
    /// When its start was ordered.
    pub since: Time,
    /// Whether it is ready.
    pub ready: bool,
}

/// Everything of the machine that is told.
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
    /// How things are.
    pub fn status(&self) -> Status {
        let lives = [Some(self.child), self.other].into_iter().flatten().filter(|life| life.has_child());
        let newest: Option<Generation> = lives.clone().max_by_key(|life| life.generation);
        let child = newest.map(|life| ChildStatus {
            generation: life.generation,
            since: life.began,
            ready: life.ready_at.is_some(),
        });
        let old_child = lives
            .map(|life| life.generation)
            .min()
            .filter(|oldest| newest.is_some_and(|life| life.generation != *oldest));
        Status {
            state: self.state(),
            generation: newest.map_or(self.generation, |life| life.generation),
            child,
            old_child,
            counts: self.counts,
            last_exit: self.last_exit,
        }
    }

    fn state(&self) -> State {
        let checks = matches!(self.request, Some(Request { step, .. }) if step.can_be_refused());
        match self.child.phase {
            _ if self.stop.is_some() => State::Stopping,
            _ if matches!(self.request, Some(Request { step: Step::Replacing, .. })) || self.other.is_some() => {
                State::Replacing
            }
            _ if checks => State::Checking,
            Phase::NotStarted | Phase::Starting => State::Starting,
            Phase::Running if self.child.probation.is_some() => State::Starting,
            Phase::Running => State::Running,
            Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Finished => State::Stopping,
            Phase::Absent { .. } => State::Waiting,
        }
    }
}
