//! What the machine has to say, to people and to the service manager.

use std::time::Duration;

use super::request::RequestKind;
use crate::exit::ExitStatus;
use crate::facts::{GenerationId, StartError, Time};
use crate::signal::Signal;

/// Why a new child that was tried is not there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// It could not be started.
    CannotStart(String),
    /// It ended before it was ready.
    Ended(ExitStatus),
    /// It was ready, and ended before its predecessor was stopped.
    EndedInOverlap(ExitStatus),
    /// It was not ready in time.
    NotReady(Duration),
}

/// How a request ends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// What was asked for is there.
    Ok,
    /// Nothing was touched; the reason.
    Refused(String),
    /// The new child was tried, and is not there.
    Failed(Failure),
}

/// An event that people, or a supervisor above, may want to know of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// A request is taken up.
    Began(RequestKind),
    /// A request is over: the one outcome that it gets.
    Settled {
        /// What was asked.
        kind: RequestKind,
        /// When the start, upgrade or delivery that settles it began, or if it is refused, its check.
        began: Time,
        /// What came of it.
        outcome: Outcome,
    },
    /// A child executes the program.
    Started(GenerationId),
    /// A child has ended with this status.
    Ended(GenerationId, ExitStatus),
    /// A child is ready.
    Ready(GenerationId),
    /// The child has been ready for so long that it is to be renewed.
    GrownOld(GenerationId, Duration),
    /// The child is about to be stopped and started again.
    Restarting(GenerationId),
    /// A new child is about to be started beside this one.
    Replacing(GenerationId),
    /// The new child is ready; the old one is about to be stopped.
    Replaced {
        /// The generation that is stopped.
        old: GenerationId,
        /// The generation that serves from now on.
        new: GenerationId,
    },
    /// hupwrap was told to stop by this signal.
    Stopping(Signal),
    /// The child ended by itself while it was to be started again.
    StartingAgain(ExitStatus),
    /// Somebody asks for a start while there is no child.
    StartingSoon,
    /// The child ended by itself while its successor was being started.
    SuccessorRemains {
        /// How it ended.
        status: ExitStatus,
        /// Whether the successor is ready.
        ready: bool,
    },
    /// The child was not ready in time, and is stopped.
    NotReady(GenerationId, Duration),
    /// The new hupwrap has taken over.
    Reexecuted {
        /// Name and version of the one before.
        before: String,
    },
    /// The child did not end in time, and is killed; at once where that is no time.
    Killing(GenerationId, Duration),
    /// The same of what remains of a generation.
    KillingRest(Duration),
    /// KILL did not help within this time.
    Unkillable(Duration),
    /// The child could not be started, and is not tried again.
    CannotStart(String),
    /// The child could not be started; tried again after this time.
    StartingLater(StartError, Duration),
    /// The child has ended, and is started again after a while though nobody asked for it.
    RestartingLater {
        /// Its generation.
        generation: GenerationId,
        /// How it ended; none where it was stopped because it was late.
        status: Option<ExitStatus>,
        /// How long after its start.
        ran: Duration,
        /// When it is started again.
        delay: Duration,
        /// Which restart in a row that will be.
        attempt: u32,
    },
    /// It was started again too often.
    GaveUp {
        /// How often: in a row, or within that time.
        restarts: u32,
        /// The time of the limit, where it has one.
        within: Option<Duration>,
        /// The last generation.
        generation: GenerationId,
        /// How it failed, if no line has said so.
        last: Option<Failure>,
    },
    /// The check has refused signals to forward that nobody waits for.
    ForwardRefused(String),
    /// A signal to forward came while no child ran.
    NotForwarded(Signal),
    /// A hang-up was ignored, because hupwrap was started with HUP ignored.
    HangUpIgnored,
}

impl Message {
    /// Whether it is a usual event, of which only those hear who want to hear everything.
    pub fn is_usual(&self) -> bool {
        match self {
            Self::Began(_) | Self::Started(_) | Self::Ended(..) | Self::Ready(_) | Self::Stopping(_) => true,
            Self::Settled { outcome, .. } => *outcome == Outcome::Ok,
            _ => false,
        }
    }
}
