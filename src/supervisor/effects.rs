//! Carries out the effects that the machine orders.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::Supervisor;
use super::child::Child;
use super::family::{GENERATION_VARIABLE, PID_VARIABLE};
use super::helper::{Helper, Purpose};
use super::service_manager::{self, ServiceManager};
use crate::config::Ready;
use crate::facts::{GenerationId, StartError};
use crate::machine::RequestKind;
use crate::machine::effect::{Effect, To};
use crate::machine::event::Event;
use crate::machine::message::{Message, Outcome};
use crate::signal::{Signal, SignalSet};
use crate::sys::environment::ChildEnv;
use crate::sys::notify_socket::NotifySocket;
use crate::sys::proc::ProcStat;
use crate::sys::ready_pipe::ReadyPipe;
use crate::sys::reexec::Probe;
use crate::sys::resolve::{Lookup, is_name, resolve_all};
use crate::sys::sockets::Socket;
use crate::sys::spawn::{self, Spawn};
use crate::sys::{child_pidfile, clock, lookup, signals, start_error};
use crate::text::{listen, socket_facts};

/// The number of the start, for programs that know `start_server`.
const STARTER_GENERATION_VARIABLE: &str = "SERVER_STARTER_GENERATION";
/// The process that the sockets are for.
pub(super) const LISTEN_PID_VARIABLE: &str = "LISTEN_PID";
/// Variables that are meant for hupwrap itself, or set for each child.
const NOT_PASSED_ON: [&str; 6] = [
    "LISTEN_FDS",
    LISTEN_PID_VARIABLE,
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    service_manager::SOCKET_VARIABLE,
    GENERATION_VARIABLE,
];

impl Supervisor {
    /// Carries out one effect. Returns the event that it causes at once, if it causes one.
    pub(super) fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Start(generation) => {
                self.forget();
                if generation > 1 {
                    self.prepare_terminal();
                    self.prepare_sockets();
                }
                self.unreceived = SignalSet::EMPTY;
                match self.start(generation) {
                    Ok(child) => self.family.add(child),
                    Err(error) => return Some(Event::StartFailed(generation, error)),
                }
            }
            Effect::Try(generation) => return self.try_out(generation),
            Effect::Signal { generation, to, signal } => {
                if to == To::Group && self.machine.stop_signal(generation).is_some() {
                    self.family.note_group(generation);
                }
                return self.signal(generation, to, signal);
            }
            Effect::AskRest(generation, signal) => self.family.ask_rest(generation, signal),
            Effect::Survey { generation, group_asked } => return self.family.sweep(generation, group_asked),
            Effect::Check { new_child } => return self.check(new_child),
            Effect::Probe => match Probe::new(self.origin.as_ref()?, &self.startup, &self.state_for_proof()) {
                Ok(probe) => self.family.probe = Some(probe),
                Err(reason) => return Some(Event::Refused(reason)),
            },
            Effect::Abandon => self.family.give_up_request(),
            Effect::Feed => self.manager.iter_mut().for_each(ServiceManager::feed),
            Effect::Suspend { signal, insist } => {
                let began = clock::now();
                // As the kernel would without hupwrap: those between this hupwrap and the one above stop as well, so
                // that the one above sees it.
                let with_group = self.family.is_nested && !self.family.shared_group && !insist;
                self.resumed |= signals::suspend(signal, insist, with_group);
                return Some(Event::Resumed(clock::now().saturating_sub(began)));
            }
            // Somebody may send it over and over. One line says it, until there is another child.
            Effect::Say(Message::NotForwarded(signal)) if self.unreceived.contains(signal) => {}
            // No KILL reaches it, as another line says.
            Effect::Say(Message::Killing(generation, _)) if !self.family.may_kill(generation) => {}
            Effect::Say(Message::Unkillable(_)) if self.family.may_stop().is_err() => {}
            Effect::Say(line) => {
                if let Message::NotForwarded(signal) = line {
                    self.unreceived.insert(signal);
                }
                if matches!(line, Message::Began(_) | Message::Settled { kind: RequestKind::Forward, .. }) {
                    self.restore_files();
                }
                self.say(&line);
            }
            // The loop ends with it.
            Effect::Finish(_) => {}
        }
        None
    }

    /// A HUP is not forwarded to a child that hupwrap may not signal: the request is refused.
    pub(super) fn refuse_forward(&self, effects: &mut Vec<Effect>) {
        let is_done = |effect: &Effect| {
            matches!(effect, Effect::Say(Message::Settled { kind: RequestKind::Forward, outcome: Outcome::Ok, .. }))
        };
        let is_lost = |effect: &Effect| match effect {
            Effect::Signal { generation, .. } => !self.family.may_kill(*generation),
            _ => false,
        };
        if !effects.iter().any(is_done) || !effects.iter().any(is_lost) {
            return;
        }
        let Err(error) = self.family.may_stop() else { return };
        effects.retain(|effect| !is_lost(effect));
        for effect in effects {
            if let Effect::Say(Message::Settled { kind: RequestKind::Forward, outcome, .. }) = effect {
                *outcome = Outcome::Refused(error.reason.clone());
            }
        }
    }

    fn command(&self) -> &OsStr {
        self.config.command.first().map(OsString::as_os_str).unwrap_or_default()
    }

    /// The environment of every command that is started now, without what is for the child alone.
    fn child_env(&self) -> Result<ChildEnv, StartError> {
        let mut child_env = ChildEnv::read(&self.startup.env, &self.config.env_files, self.config.workdir.as_deref())?;
        for name in NOT_PASSED_ON {
            child_env.remove(name.as_bytes());
        }
        if !self.sockets.is_empty() {
            child_env.remove(b"SERVER_STARTER_PORT");
            child_env.remove(STARTER_GENERATION_VARIABLE.as_bytes());
        }
        child_env.set(PID_VARIABLE.as_bytes(), self.startup.pid.to_string().as_bytes());
        Ok(child_env)
    }

    /// What the child is told of its sockets.
    fn told(&self) -> Vec<(&'static str, String)> {
        socket_facts::environment(self.sockets.iter().map(Socket::facts))
    }

    fn start(&self, generation: GenerationId) -> Result<Child, StartError> {
        let mut child_env = self.child_env()?;
        let mut child = Child::new(generation, None, None);
        child.file_before = self.config.child_pidfile.as_deref().and_then(child_pidfile::written);
        let number = generation.to_string();
        child_env.set(GENERATION_VARIABLE.as_bytes(), number.as_bytes());
        let mut fds = Vec::new();
        let mut pid_vars = Vec::new();
        if !self.sockets.is_empty() {
            for (name, value) in self.told() {
                child_env.set(name.as_bytes(), value.as_bytes());
            }
            child_env.set(STARTER_GENERATION_VARIABLE.as_bytes(), number.as_bytes());
            pid_vars.push(LISTEN_PID_VARIABLE);
            fds.extend(self.sockets.iter().map(|socket| socket.as_fd().as_raw_fd()).zip(listen::FIRST_FD..));
        }
        let lacking = |what: &str, error: Errno| {
            let reason = format!(
                "{}: {what} cannot be made: {}",
                self.command().to_string_lossy(),
                start_error::describe(error)
            );
            StartError { code: crate::exit::CANNOT_EXECUTE, transient: start_error::is_transient(error), reason }
        };
        if self.manager.is_some() || self.config.ready == Ready::Notify {
            let notify = NotifySocket::new(self.startup.pid, generation, self.startup.var("XDG_RUNTIME_DIR"))
                .map_err(|error| lacking("its NOTIFY_SOCKET", error))?;
            child_env.set(service_manager::SOCKET_VARIABLE.as_bytes(), notify.path().as_bytes());
            child.notify = Some(notify);
        }
        // A watchdog that waits for hupwrap waits for the child: what the child says is passed up.
        let awaited = self.manager.as_ref().and_then(|_| child_env.var(service_manager::WATCHDOG_PID_VARIABLE));
        if awaited.is_some_and(|awaited| awaited == self.startup.pid.to_string().as_bytes()) {
            pid_vars.push(service_manager::WATCHDOG_PID_VARIABLE);
        }
        let mut theirs = None;
        if let Ready::Fd(fd) = self.config.ready {
            let (pipe, end) = ReadyPipe::new().map_err(|error| lacking("the pipe for its readiness", error))?;
            fds.push((end.as_raw_fd(), fd));
            (child.pipe, theirs) = (Some(pipe), Some(end));
        }
        let order = Spawn {
            pid_vars: pid_vars
                .into_iter()
                .map(|name| {
                    child_env.remove(name.as_bytes());
                    CString::new(format!("{name}="))
                })
                .collect::<Result<_, _>>()
                .unwrap_or_default(),
            chld_ignored: self.startup.chld_ignored,
            own_group: !self.family.shared_group,
            tether: self.config.tether.then_some(Signal::TERM),
            fds,
            ..self.order(&self.config.command, child_env)?
        };
        let program = order.program.clone();
        let workdir = order.workdir.clone();
        let spawned = spawn::spawn(order)
            .map_err(|error| start_error::explain(self.command(), Some(&program), workdir.as_deref(), error))?;
        drop(theirs);
        (child.pid, child.number) = (Some(spawned.pid), spawned.pid);
        child.group = child.pid.filter(|_| !self.family.shared_group);
        child.born = if self.family.children.is_empty() { None } else { ProcStat::at_birth(spawned.pid) };
        child.started = Some(clock::now());
        child.unexecuted = Some(spawned);
        Ok(child)
    }

    /// How a command is spawned: its words and its environment, nothing else.
    fn order(&self, command: &[OsString], child_env: ChildEnv) -> Result<Spawn, StartError> {
        let name = command.first().map(OsString::as_os_str).unwrap_or_default();
        let program = lookup::find(name, child_env.var("PATH"), child_env.workdir.as_deref())?;
        let word = |word: &OsString| {
            CString::new(word.as_bytes()).map_err(|_| start_error::explain(name, Some(&program), None, Errno::EINVAL))
        };
        Ok(Spawn {
            argv: command.iter().map(word).collect::<Result<_, _>>()?,
            program,
            env: child_env.inherited,
            own_env: child_env.own,
            pid_vars: Vec::new(),
            workdir: child_env.workdir,
            parent: self.startup.pid,
            mask: self.startup.mask,
            chld_ignored: false,
            own_group: true,
            tether: Some(Signal::KILL),
            fds: Vec::new(),
        })
    }

    /// Runs the checks: those that cost nothing first.
    fn check(&mut self, new_child: bool) -> Option<Event> {
        let checked = self.child_env().and_then(|child_env| {
            if new_child {
                self.family.may_stop()?;
                lookup::check(&self.config.command, &child_env, &self.told())?;
            }
            if self.config.check.is_empty() {
                return Ok(None);
            }
            let order = self.order(&self.config.check, child_env);
            order.map(Some).map_err(|error| StartError { reason: format!("check {}", error.reason), ..error })
        });
        match checked {
            Ok(None) => Some(Event::Checked),
            Ok(Some(order)) => self.send_out(Purpose::Check, order),
            Err(error) => Some(Event::Refused(error.reason)),
        }
    }

    /// Finds out whether a child is ready.
    fn try_out(&mut self, generation: GenerationId) -> Option<Event> {
        let purpose = Purpose::Try(generation);
        self.family.child_mut(generation)?.try_began = Some(clock::now());
        match &self.config.ready {
            Ready::Tcp(endpoint) if is_name(&endpoint.host) => match Lookup::begin(endpoint, self.startup.mask) {
                Ok(lookup) => {
                    self.family.helpers.push(Helper::lookup(generation, lookup));
                    None
                }
                Err(error) => {
                    let reason = format!("'{}' cannot be looked up: {}", endpoint.host, start_error::describe(error));
                    self.family.answered((purpose, Err(reason)))
                }
            },
            Ready::Tcp(endpoint) => self.family.answered((purpose, resolve_all(endpoint))),
            Ready::Cmd(words) => {
                let order = self.child_env().and_then(|mut child_env| {
                    // In a replace there are two children.
                    child_env.set(GENERATION_VARIABLE.as_bytes(), generation.to_string().as_bytes());
                    self.order(words, child_env)
                });
                match order {
                    Ok(order) => self.send_out(purpose, order),
                    Err(error) => {
                        let reason = format!("{} {}", purpose.word(), error.reason);
                        self.family.answered((purpose, Err(reason)))
                    }
                }
            }
            _ => None,
        }
    }

    /// Runs a command to find something out. Answers at once only where that fails.
    fn send_out(&mut self, purpose: Purpose, order: Spawn) -> Option<Event> {
        match Helper::new(purpose, order) {
            Ok(helper) => {
                self.family.helpers.push(helper);
                None
            }
            Err(reason) => self.family.answered((purpose, Err(reason))),
        }
    }
}
