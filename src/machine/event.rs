//! What the machine is told: facts, in the past tense.

use std::time::Duration;

use crate::exit::ExitStatus;
use crate::facts::{GenerationId, Sender, StartError};
use crate::signal::Signal;

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// hupwrap is ready to supervise; the signals that came until now were told before.
    Began,
    /// This is a re-executed hupwrap, and has taken over.
    Adopted {
        /// Name and version of the one before.
        before: String,
    },
    /// A signal came.
    Signal {
        /// The signal.
        signal: Signal,
        /// Who sent it.
        sender: Sender,
        /// Whether hupwrap had a controlling terminal that is gone. Only looked at for HUP.
        hung_up: bool,
        /// Whether the child is in hupwrap's process group: what the terminal sends has reached it too.
        shared: bool,
    },
    /// A file of `--watch` has changed.
    Changed,
    /// The terminal, or the leader of the session, was found gone.
    TerminalGone,
    /// The child executes the program.
    Executed(GenerationId),
    /// There is no child after all.
    StartFailed(GenerationId, StartError),
    /// The child has said that it is ready, or was found to be.
    Ready(GenerationId),
    /// The child was tried, and is not ready yet.
    TriedInVain(GenerationId),
    /// The child needs at least this long from now, whatever it is doing (`EXTEND_TIMEOUT_USEC`, sd_notify(3)).
    Extended(GenerationId, Duration),
    /// A child was stopped by this signal, and can go on.
    ChildStopped(Signal),
    /// The process that was the child has ended, and the one that is to take its place, the main process, is waited
    /// for.
    MainAwaited(GenerationId),
    /// The main process is found: it is the child from now on.
    MainFound(GenerationId),
    /// The child has ended, and was reaped.
    ChildEnded(GenerationId, ExitStatus),
    /// Processes of the generation remain, though its child has ended.
    RestRemains(GenerationId),
    /// No process of the generation remains.
    RestGone(GenerationId),
    /// The checks passed.
    Checked,
    /// Something was found wrong before anything was touched.
    Refused(String),
    /// The new hupwrap file runs and understands us.
    Proven,
    /// hupwrap itself was stopped for this long.
    Resumed(Duration),
    /// Time passed.
    Tick,
}
