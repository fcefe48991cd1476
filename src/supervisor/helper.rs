//! Processes that find something out: the commands of `--check` and `--ready cmd:`, and the lookup of a name.

use std::ffi::{CStr, CString, OsStr};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use crate::exit::ExitStatus;
use crate::facts::GenerationId;
use crate::signal::Signal;
use crate::sys::fd::nothing;
use crate::sys::resolve::Lookup;
use crate::sys::spawn::{self, Spawn, Spawned};
use crate::sys::{Pid, signals, start_error};
use crate::text::words;

/// What it is to find out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Whether a request may be acted upon.
    Check,
    /// Whether this generation's child is ready.
    Try(GenerationId),
}

impl Purpose {
    /// What the command is called in a reason.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Try(_) => "cmd",
        }
    }
}

/// What a helper was for, and what it has found: yes, where there are no addresses; or addresses of which one is to be
/// connected to; or the reason why not.
pub(super) type Answer = (Purpose, Result<Vec<SocketAddr>, String>);

/// One that is under way.
pub(super) struct Helper {
    /// What for.
    pub purpose: Purpose,
    task: Task,
}

enum Task {
    Command {
        /// Its first word.
        program: CString,
        /// All its words.
        name: String,
        spawned: Spawned,
    },
    Lookup(Lookup),
}

impl Helper {
    /// Runs it, in a process group of its own. It reads nothing. What a check says is for people, and goes to stderr; a
    /// try is made over and over, and what it says goes nowhere.
    ///
    /// # Errors
    /// The reason why it could not be started.
    pub(super) fn new(purpose: Purpose, mut order: Spawn) -> Result<Self, String> {
        let words: Vec<_> = order.argv.iter().map(|word| word.to_string_lossy()).collect();
        let name = words::join(&words);
        let failed = |program: &CStr, error| {
            let command = OsStr::from_bytes(program.to_bytes());
            let reason = start_error::explain(command, Some(program), None, error).reason;
            format!("{} '{name}': {reason}", purpose.word())
        };
        let nothing = nothing().map_err(|error| {
            let why = start_error::describe(error);
            format!("{} '{name}': /dev/null cannot be opened, and no memfd takes its place: {why}", purpose.word())
        })?;
        let null = nothing.as_raw_fd();
        order.fds = match purpose {
            Purpose::Check if has_stderr() => vec![(null, 0), (2, 1)],
            _ => vec![(null, 0), (null, 1), (null, 2)],
        };
        // It is in the background of a terminal: with `stty tostop` a line of it, or a look at the keyboard, would stop
        // it.
        order.mask.insert(Signal::TTOU);
        order.mask.insert(Signal::TTIN);
        let file = order.program.clone();
        let program = order.argv.first().cloned().unwrap_or_default();
        let spawned = spawn::spawn(order).map_err(|error| failed(&file, error))?;
        Ok(Self { purpose, task: Task::Command { program, name, spawned } })
    }

    /// A lookup of the address at which a connection shows that a child is ready.
    pub(super) fn lookup(generation: GenerationId, lookup: Lookup) -> Self {
        Self { purpose: Purpose::Try(generation), task: Task::Lookup(lookup) }
    }

    /// Its pid.
    pub(super) fn pid(&self) -> Pid {
        match &self.task {
            Task::Command { spawned, .. } => spawned.pid,
            Task::Lookup(lookup) => lookup.pid(),
        }
    }

    /// Ends it, and what it has started. It is reaped as any other child.
    pub(super) fn give_up(self) -> Pid {
        let pid = self.pid();
        let _ = signals::kill_group(pid, Signal::KILL);
        let _ = signals::kill(pid, Signal::KILL);
        pid
    }

    /// It was reaped. What does its end mean?
    pub(super) fn ended(self, status: ExitStatus) -> Answer {
        let Self { purpose, task } = self;
        let (program, name, spawned) = match task {
            Task::Command { program, name, spawned } => (program, name, spawned),
            Task::Lookup(lookup) => return (purpose, lookup.answer()),
        };
        let program = OsStr::from_bytes(program.as_bytes());
        let word = purpose.word();
        let answer = match (spawned.executed(program), status) {
            (Some(Err(error)), _) => Err(format!("{word} {}", error.reason)),
            (_, ExitStatus::Exited(0)) => Ok(Vec::new()),
            (_, ExitStatus::Exited(code)) => Err(format!("{word} '{name}' ended with {code}")),
            (_, ExitStatus::Killed(signal)) => Err(format!("{signal} ended {word} '{name}'")),
        };
        (purpose, answer)
    }
}

/// Whether stderr is open.
fn has_stderr() -> bool {
    nix::fcntl::fcntl(std::io::stderr(), nix::fcntl::FcntlArg::F_GETFD).is_ok()
}
