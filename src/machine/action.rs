//! What the machine orders, and what it has to say.

use std::time::Duration;

use crate::machine::event::StartError;
use crate::signal::Signal;
use crate::status::{Ending, Outcome};

/// Whom a signal goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum To {
    /// The child alone.
    Child,
    /// The child's process group, or its whole generation where it shares hupwrap's group.
    Group,
    /// What remains of the generation after the child's end.
    Rest,
}

/// An order to the driver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Start the child of this generation. Answered by `Started`, then `Executed`; or by `StartFailed`.
    Start {
        /// 1, 2, …
        generation: u64,
    },
    /// Send a signal. A receiver that is gone is not an error.
    Signal {
        /// The receiver.
        to: To,
        /// The signal.
        signal: Signal,
    },
    /// Send a signal, and CONT, to those of the rest that were not asked yet in this survey.
    AskRest(Signal),
    /// Look for what remains of the generation, now and after each death, until nothing does. Answered by `RestRemains`
    /// and, last, `RestGone`.
    Survey {
        /// Whether the child's group was asked to end, the child among them: then its members are not asked again.
        group_asked: bool,
    },
    /// Do the free checks. Answered by `Checked` or `Refused`.
    Check,
    /// Prove that the hupwrap file that is there now runs. Answered by `Proven` or `Refused`.
    Probe,
    /// End the probe; no answer.
    AbandonProbe,
    /// Stop hupwrap itself, as its terminal asks. Answered by `Resumed`.
    Suspend {
        /// The signal to stop by.
        signal: Signal,
        /// Whether to stop even where the kernel discards that signal (an orphaned process group).
        insist: bool,
    },
    /// Tell people.
    Say(Line),
    /// End. Nothing follows.
    Finish(Ending),
}

/// A remarkable event, for people.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Line {
    /// The child is about to be stopped and started again.
    Restarting,
    /// The child ended by itself while it was to be started again.
    StartingAgain(Outcome),
    /// A request was refused, nothing was touched.
    Refused {
        /// What was asked.
        what: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// The new hupwrap has taken over.
    Reexecuted {
        /// Name and version of the one before.
        before: String,
    },
    /// The child did not end in time, and is killed.
    Killing(Duration),
    /// What remains of a generation did not end in time, and is killed.
    KillingRest(Duration),
    /// KILL did not help within this time.
    Unkillable(Duration),
    /// The child could not be started, final.
    CannotStart(String),
    /// The child could not be started; tried again after this time.
    StartingLater(StartError, Duration),
    /// A signal to forward came while no child ran.
    NotForwarded(Signal),
    /// A hang-up was ignored, because hupwrap was started with HUP ignored.
    HangUpIgnored,
}
