//! The start of a hupwrap that another one has executed: it takes over what that one had.
//!
//! Nothing in here can fail. What is missing is reported in one line and tried again later: a supervisor that ended now
//! would end its child too, or leave it alone.

use std::time::Duration;

use super::Supervisor;
use super::child::Child;
use super::family::{GENERATION_VARIABLE, PID_VARIABLE};
use super::service_manager::ServiceManager;
use super::setup::{Parts, assemble, listen_to_signals};
use super::terminal::TerminalState;
use crate::config::Config;
use crate::facts::GenerationId;
use crate::machine::RequestKind;
use crate::report;
use crate::signal::SignalSet;
use crate::sys::notify_socket::NotifySocket;
use crate::sys::pidfile::Pidfile;
use crate::sys::proc::{self, Patience, ProcStat};
use crate::sys::signals::{self, SignalFd};
use crate::sys::sockets::Socket;
use crate::sys::startup::Startup;
use crate::sys::{Pid, poll, start_error, wait};
use crate::text::handover::Handover;

/// The pause between two tries to listen to signals.
const RETRY: Duration = Duration::from_millis(100);

/// Makes the supervisor that goes on with `state`. `fault` is what is wrong with the state, if anything is.
pub(crate) fn adopt(
    mut config: Config,
    startup: Startup,
    mut state: Handover,
    fault: Option<String>,
) -> Box<Supervisor> {
    if let Some(fault) = &fault {
        report::complain(&format!("the state of {} is damaged: {fault}; the rest of it is used", state.writer));
    }
    find_child(&mut state, fault.is_some(), startup.pid);
    let is_known = state.child.is_some() || state.ended.is_some();
    let adopted = state.machine.child.filter(|_| is_known);
    let parts = Parts {
        pidfile: adopt_pidfile(&config, state.pidfile, startup.pid),
        sockets: state
            .sockets
            .into_iter()
            .filter_map(|facts| {
                let non_blocking = state.non_blocking_sockets.contains(&facts.fd);
                told(Socket::from_facts(facts, non_blocking))
            })
            .collect(),
        signal_fd: adopt_signal_fd(state.signal_fd, listen_to_signals(&mut config), startup.pid),
        shared_group: state.shared_group,
        terminal: TerminalState::adopt(
            state.had_terminal,
            state.machine.terminal_gone.is_some(),
            state.terminal_modes.as_deref(),
            state.non_blocking,
        ),
        manager: ServiceManager::adopt(&startup, state.machine.child, state.unsent),
        origin: state.origin,
        requests: state.requests,
        watched: state.watched,
        snapshot: Some(state.machine),
    };
    let mut supervisor = assemble(config, startup, parts);
    supervisor.family.foreign_children = state.foreign_children;
    supervisor.family.first = state.first_child;
    if let Some(generation) = adopted {
        let group = state.child_group.or(state.child).filter(|_| !state.shared_group);
        let mut child = Child::new(generation, state.child, group);
        child.number = state.child.or(state.ended.as_ref().map(|ended| ended.pid)).unwrap_or(0);
        (child.announced, child.file_before, child.ended) = (state.announced, state.file_before, state.ended);
        if let Some(facts) = state.notify {
            let lost = || "the NOTIFY_SOCKET of the child is no longer open; what it says is lost".to_owned();
            child.notify = told(NotifySocket::from_facts(facts).ok_or_else(lost));
        }
        child.awaits_terminal = child.group.is_some() && child.pid.is_some_and(proc::is_stopped);
        supervisor.family.children.push(child);
    }
    supervisor.before = Some(state.writer);
    supervisor
}

/// Reports what is missing, and goes on without it.
fn told<T>(found: Result<T, String>) -> Option<T> {
    found.map_err(|missing| report::complain(&missing)).ok()
}

/// Makes sure that the child of a state is a child of this process. Where it is not, or is not known, the youngest
/// child that carries hupwrap's variables is taken for it: the kernel shows those. Where there is none, another is
/// started.
fn find_child(state: &mut Handover, is_damaged: bool, own_pid: Pid) {
    state.foreign_children.retain(|pid| wait::is_child(*pid));
    let named = state.machine.child.zip(state.child).filter(|(_, pid)| wait::is_child(*pid));
    // A child that has ended is not looked for: its main process is.
    let has_ended = state.machine.child.is_some() && state.child.is_none() && state.ended.is_some();
    if named.is_some() || has_ended || (state.machine.child.is_none() && !is_damaged) {
        return;
    }
    let patience = Patience::new();
    let found = proc::children().into_iter().filter_map(|pid| started_by(own_pid, ProcStat::at(pid)?, &patience));
    let found = found.filter(|(_, seen)| !state.foreign_children.contains(&seen.pid));
    match found.max_by_key(|(generation, _)| *generation) {
        Some((generation, seen)) => {
            report::complain(&format!("the child is found again: pid {}, start {generation}", seen.pid));
            state.machine.child = Some(generation);
            state.machine.generation = state.machine.generation.max(generation);
            state.child = Some(seen.pid);
            state.shared_group = seen.group != seen.pid;
        }
        None => {
            (state.machine.child, state.child) = (None, None);
            if state.machine.restart_at.is_none() && state.machine.kind == RequestKind::Upgrade {
                report::complain("the child cannot be found; it is started again");
                state.machine.kind = RequestKind::Reexec;
            }
        }
    }
}

/// A process, and the number of its start, if this hupwrap started it.
fn started_by(own_pid: Pid, seen: ProcStat, patience: &Patience) -> Option<(GenerationId, ProcStat)> {
    seen.var(PID_VARIABLE, patience).filter(|pid| pid.parse() == Ok(own_pid))?;
    Some((seen.var(GENERATION_VARIABLE, patience)?.parse().ok()?, seen))
}

/// Goes on with the lock, or takes it again.
fn adopt_pidfile(config: &Config, fd: Option<i32>, own_pid: Pid) -> Option<Pidfile> {
    let path = config.pidfile.as_ref()?;
    fd.and_then(|fd| Pidfile::from_fact(path, fd)).or_else(|| {
        told(Pidfile::take(path, own_pid).map_err(|error| format!("--pidfile '{}': {error}", path.to_string_lossy())))
    })
}

/// Goes on with the descriptor of signals. Format 2 had none: then another is made, and hupwrap waits until it can be,
/// because without it hupwrap could do nothing. Until then the signals are pending.
fn adopt_signal_fd(fd: Option<i32>, listened: SignalSet, own_pid: Pid) -> SignalFd {
    // They are blocked since before the exec. Another version may have left out one that --on names.
    let _ = signals::block(listened, SignalSet::EMPTY);
    let mut adopted = fd.and_then(|fd| SignalFd::adopt(fd, listened, own_pid));
    let mut is_told = false;
    loop {
        if let Some(adopted) = adopted {
            return adopted;
        }
        adopted = match SignalFd::new(listened, own_pid) {
            Ok(made) => Some(made),
            Err(error) => {
                if !is_told {
                    report::complain(&format!("cannot listen to signals yet: {}", start_error::describe(error)));
                }
                is_told = true;
                let _ = poll::wait(&mut [], Some(RETRY));
                None
            }
        };
    }
}
