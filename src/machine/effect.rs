//! What the machine decides to have done. The supervisor carries it out.

use super::message::Message;
use crate::exit::Ending;
use crate::facts::GenerationId;
use crate::signal::Signal;

/// Which processes of a generation a signal goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum To {
    /// The child alone.
    Child,
    /// The child's process group, or its whole generation where it shares hupwrap's group.
    Group,
    /// What remains of the generation after the child's end.
    Rest,
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Start the child of this generation. Answered by `Executed` or `StartFailed`, at any time.
    Start(GenerationId),
    /// Find out whether the child is ready. Answered by `Ready` or `TriedInVain`, at any time.
    Try(GenerationId),
    /// Send a signal. A receiver that is gone is not an error.
    Signal {
        /// The generation.
        generation: GenerationId,
        /// The receiver.
        to: To,
        /// The signal.
        signal: Signal,
    },
    /// Send a signal, and CONT, to those of the rest that were not asked yet in this survey.
    AskRest(GenerationId, Signal),
    /// Look for what remains of the generation, now and after each death, until nothing does. Answered by `RestRemains`
    /// and, last, `RestGone`.
    Survey {
        /// The generation.
        generation: GenerationId,
        /// Whether the child's group was asked to end, the child among them: then its members are not asked again.
        group_asked: bool,
    },
    /// Do the checks: the user's, and if a new child is wanted, the free ones. Answered by `Checked` or
    /// `Refused`.
    Check {
        /// Whether a new child is wanted.
        new_child: bool,
    },
    /// Prove that the hupwrap file that is there now runs. Answered by `Proven` or `Refused`.
    Probe,
    /// End the check or the probe that is under way; no answer.
    Abandon,
    /// Tell the watchdog above that hupwrap lives, while no child can.
    Feed,
    /// Stop hupwrap itself, as its terminal asks. Answered by `Resumed`.
    Suspend {
        /// The signal to stop by.
        signal: Signal,
        /// Whether to stop even where the kernel discards that signal (an orphaned process group).
        insist: bool,
    },
    /// Tell people and the service manager.
    Say(Message),
    /// End. Nothing follows.
    Finish(Ending),
}
