//! What the world tells the machine: facts, in the past tense.

use std::time::Duration;

use crate::exit::ExitStatus;
use crate::signal::Signal;

/// The number of a start, 1, 2, …: it names the child of that start, and everything that descends from it.
pub type GenerationId = u64;

/// Who sent a signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sender {
    /// The kernel, on behalf of the terminal for instance (`si_code` is SI_KERNEL).
    Kernel,
    /// A process, by `kill(2)` or its kin.
    Process,
}

/// Why a program could not be started.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StartError {
    /// The exit status it makes: 125, 126 or 127.
    pub code: u8,
    /// Whether another try may do, though nobody mends anything: EAGAIN, ENOMEM and the like.
    pub transient: bool,
    /// Names the command and what is wrong with it.
    pub reason: String,
}

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
        /// Which.
        signal: Signal,
        /// From whom.
        sender: Sender,
        /// Whether hupwrap had a controlling terminal that is no more. Only looked at for HUP.
        hung_up: bool,
    },
    /// The session's leader ended and the terminal is no more, though no signal said so.
    TerminalGone,
    /// The child that was ordered exists; it has not executed the program yet.
    Started,
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
    /// The child is no more, and was reaped.
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
    /// hupwrap itself was stopped for so long.
    Resumed(Duration),
    /// Time passed.
    Tick,
}
