//! What somebody asked for by a signal, and how far it is.

use crate::config::Action;
use crate::facts::Time;
use crate::signal::{Signal, SignalSet};

/// What a signal can ask for and somebody may wait for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RequestKind {
    /// A new child, when the old one is gone.
    #[default]
    Restart,
    /// A new child; the old one is stopped when that is ready.
    Replace,
    /// A new hupwrap, the same child.
    Upgrade,
    /// A new hupwrap, then a restart by it.
    Reexec,
    /// A new hupwrap, then a replace by it.
    UpgradeReplace,
    /// The signal, passed on. Over as soon as it is asked for.
    Forward,
}

impl RequestKind {
    const ALL: [Self; 6] =
        [Self::Restart, Self::Replace, Self::Upgrade, Self::Reexec, Self::UpgradeReplace, Self::Forward];

    /// What an action asks for, unless it only passes a signal on, stops or ignores.
    pub(super) fn of(action: Action) -> Option<Self> {
        match action {
            Action::Restart => Some(Self::Restart),
            Action::Replace => Some(Self::Replace),
            Action::Upgrade => Some(Self::Upgrade),
            Action::Reexec => Some(Self::Reexec),
            Action::UpgradeReplace => Some(Self::UpgradeReplace),
            Action::Forward(_) | Action::Stop(_) | Action::Ignore | Action::LeftAlone => None,
        }
    }

    /// The action that asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Upgrade => "upgrade",
            Self::Reexec => "reexec",
            Self::UpgradeReplace => "upgrade+replace",
            Self::Forward => "forward",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a new child is part of it.
    pub fn wants_new_child(self) -> bool {
        !matches!(self, Self::Upgrade | Self::Forward)
    }

    /// Whether a new hupwrap is part of it.
    pub fn wants_new_hupwrap(self) -> bool {
        matches!(self, Self::Upgrade | Self::Reexec | Self::UpgradeReplace)
    }

    /// Whether the old child serves until the new one is ready.
    pub(super) fn replaces(self) -> bool {
        matches!(self, Self::Replace | Self::UpgradeReplace)
    }

    /// What of it the same hupwrap can do.
    pub(super) fn without_hupwrap(self) -> Option<Self> {
        match self {
            Self::Restart | Self::Reexec => Some(Self::Restart),
            Self::Replace | Self::UpgradeReplace => Some(Self::Replace),
            Self::Upgrade | Self::Forward => None,
        }
    }

    /// One request that does what both would. If one of them wants the old child gone first, it is.
    pub(super) fn and(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let new_child = match (self.without_hupwrap(), other.without_hupwrap()) {
            (Some(Self::Restart), _) | (_, Some(Self::Restart)) => Some(Self::Restart),
            (one, another) => one.or(another),
        };
        match (self.wants_new_hupwrap() || other.wants_new_hupwrap(), new_child) {
            (true, None) => Self::Upgrade,
            (true, Some(Self::Replace)) => Self::UpgradeReplace,
            (true, Some(_)) => Self::Reexec,
            (false, new_child) => new_child.unwrap_or(self),
        }
    }
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step {
    /// It is taken up, and nothing was done for it yet.
    Asked,
    /// The checks are under way, until then at most.
    Checking { deadline: Option<Time> },
    /// The checks have passed.
    Checked,
    /// The new hupwrap file has until then to answer.
    Probing { deadline: Time },
    /// It has answered; it is executed as soon as the child's phase allows.
    Proven,
    /// This is the new hupwrap, which has not begun to act.
    Crossed,
    /// The new hupwrap has taken over.
    Adopted,
    /// The child is stopped and started again, until it is ready.
    Renewing,
    /// A new child was started beside the old one, which serves.
    Replacing,
}

impl Step {
    /// Whether nothing was touched yet, so that the request can be refused.
    pub(super) fn can_be_refused(self) -> bool {
        !matches!(self, Self::Renewing | Self::Replacing)
    }

    pub(super) fn deadline(self) -> Option<Time> {
        match self {
            Self::Checking { deadline } => deadline,
            Self::Probing { deadline } => Some(deadline),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(super) fn deadline_mut(&mut self) -> Option<&mut Time> {
        match self {
            Self::Checking { deadline } => deadline.as_mut(),
            Self::Probing { deadline } => Some(deadline),
            _ => None,
        }
    }
}

/// What was asked, and is not settled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Request {
    pub(super) kind: RequestKind,
    pub(super) step: Step,
    /// When its check began, or later the start, upgrade or delivery that can settle it. By CLOCK_MONOTONIC.
    pub(super) began: Time,
    /// The signals to forward, where that is what was asked.
    pub(super) signals: SignalSet,
}

impl Request {
    /// Whether the request wants a new child.
    pub(super) fn wants_new_child(&self) -> bool {
        self.kind.wants_new_child()
    }

    /// Whether it has an outcome. A forward has one for a HUP only: another signal may be sent at any time, and nobody
    /// waits for its delivery.
    pub(super) fn has_outcome(&self) -> bool {
        self.kind != RequestKind::Forward || self.signals.contains(Signal::HUP)
    }
}
