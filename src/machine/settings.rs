//! What never changes while hupwrap runs: the configuration, and what it found at its start.

use std::time::Duration;

use crate::config::{Config, KillMode, Limit, Ready, Restart, SignalTable, StatusMap};
use crate::signal::Signal;

/// How long a restart waits for the child to end, by default. Also what the rest of a generation gets where the child's
/// own end had no deadline.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What hupwrap found at its start.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Place {
    /// Whether hupwrap has a controlling terminal.
    pub has_terminal: bool,
    /// Whether hupwrap is pid 1.
    pub is_init: bool,
    /// Whether hupwrap was started with HUP ignored, by nohup(1).
    pub nohup: bool,
    /// Whether somebody wants to know at once when the child is ready.
    pub is_watched: bool,
    /// How often the service manager's watchdog wants to be fed.
    pub watchdog: Option<Duration>,
    /// Any number: delays differ by it, so that what failed together does not start again together.
    pub seed: u64,
}

/// When a child is ready, as the machine sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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

impl Readiness {
    /// Whether a child may get signals as soon as it executes (contract, section 2). Otherwise it must be ready first.
    pub(super) fn hears_when_executed(self) -> bool {
        matches!(self, Self::Executed | Self::After(_))
    }
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

/// The part of the configuration that the machine needs, and hupwrap's place.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// What each signal does.
    pub on: SignalTable,
    /// What asks the child to end.
    pub stop_signal: Signal,
    /// The explicit bound on a stop.
    pub stop_timeout: Option<Limit>,
    /// Which processes are signalled.
    pub kill_mode: KillMode,
    /// How the child's status is mapped.
    pub map_status: StatusMap,
    /// When a child is ready.
    pub ready: Readiness,
    /// When the new child of a replace is ready.
    pub ready_beside: Readiness,
    /// How long a child may take to be ready.
    pub ready_timeout: Limit,
    /// How long both children run after the new one is ready.
    pub overlap: Duration,
    /// When the child is started again without a request.
    pub restart: Restart,
    /// How long a child may be ready before it is renewed.
    pub max_age: Option<Duration>,
    /// How long the user's check may take, where there is one.
    pub check: Option<Limit>,
    /// What hupwrap found at its start.
    pub place: Place,
    /// Whether hupwrap suspends itself when its child, the foreground job of the terminal, was suspended.
    pub follows_stops: bool,
}

impl Settings {
    /// Those of a configuration, at this place.
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
            max_age: config.max_age,
            check: (!config.check.is_empty()).then_some(config.check_timeout),
            place,
            follows_stops: place.has_terminal && !place.is_init,
        }
    }

    /// How long a stop waits before KILL, for the line that says so.
    pub(super) fn patience(&self) -> Duration {
        match self.stop_timeout {
            Some(Limit::After(limit)) => limit,
            Some(Limit::Never) | None => STOP_TIMEOUT,
        }
    }

    /// How long a child may take to end that is stopped for another one.
    pub(super) fn stop_limit(&self) -> Limit {
        self.stop_timeout.unwrap_or(Limit::After(STOP_TIMEOUT))
    }
}
