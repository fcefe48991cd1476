//! The start of a hupwrap that another one has executed: it takes over what that one had.

use super::Supervisor;
use super::child::Child;
use super::service_manager::ServiceManager;
use super::setup::{Parts, assemble, listen_to_signals};
use crate::config::Config;
use crate::sys::files::Pidfile;
use crate::sys::notify_socket::NotifySocket;
use crate::sys::signals::SignalFd;
use crate::sys::sockets::Socket;
use crate::sys::start_error;
use crate::sys::startup::Startup;
use crate::text::handover::Handover;

/// Makes the supervisor that goes on with `state`.
///
/// # Errors
/// Says what is missing.
pub fn adopt(config: Config, startup: Startup, state: Handover) -> Result<Supervisor, String> {
    let signal_fd = SignalFd::new(listen_to_signals(&config), startup.pid)
        .map_err(|error| format!("cannot listen to signals: {}", start_error::describe(error)))?;
    let generation = state.machine.child;
    let parts = Parts {
        pidfile: config.pidfile.as_ref().zip(state.pidfile).and_then(|(path, fd)| Pidfile::from_fact(path, fd)),
        sockets: state.sockets.into_iter().map(Socket::from_facts).collect::<Result<_, _>>()?,
        ready_at: state.ready_at,
        signal_fd,
        shared_group: state.shared_group,
        had_terminal: state.had_terminal,
        manager: ServiceManager::new(&startup, Some(generation)),
        requests: state.requests,
        snapshot: Some(state.machine),
    };
    let mut supervisor = assemble(config, startup, parts);
    if let Some(generation) = generation {
        let mut child = Child::new(generation, state.child, state.child.filter(|_| !state.shared_group));
        child.notify = state.notify.and_then(NotifySocket::from_facts);
        supervisor.family.children.push(child);
    }
    supervisor.family.foreign_children = state.foreign_children;
    supervisor.before = Some(state.writer);
    Ok(supervisor)
}
