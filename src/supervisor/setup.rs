//! The first start: everything that may fail, loudly.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use super::Supervisor;
use super::effects::LISTEN_PID_VARIABLE;
use super::family::{self, Family, PID_VARIABLE};
use super::own_files;
use super::service_manager::{self, ServiceManager};
use super::status_writer::StatusWriter;
use super::terminal::TerminalState;
use super::watcher;
use crate::config::{Action, Config, Group, Ready};
use crate::facts::{Sender, StartError};
use crate::machine::settings::{self, Settings};
use crate::machine::{Machine, Snapshot};
use crate::report;
use crate::signal::{Signal, SignalSet};
use crate::sys::environment::ChildEnv;
use crate::sys::pidfile::Pidfile;
use crate::sys::reexec::Origin;
use crate::sys::resolve::{Lookup, is_name, resolve_all};
use crate::sys::signals::{self, Received, SignalFd};
use crate::sys::sockets::{self, Socket};
use crate::sys::startup::Startup;
use crate::sys::status_file::StatusFile;
use crate::sys::terminal::{Place, Terminal, in_own_session, own_group};
use crate::sys::{clock, fd, lookup, poll, proc, start_error, wait};
use crate::text::listen::Endpoint;
use crate::text::messages::Words;
use crate::text::socket_facts::SocketKind;
use crate::text::status_file::Reload;
use crate::text::{listen, messages, words};

/// What a first start sets up, and an adoption takes over.
pub(super) struct Parts {
    pub(super) pidfile: Option<Pidfile>,
    pub(super) sockets: Vec<Socket>,
    pub(super) signal_fd: SignalFd,
    pub(super) shared_group: bool,
    pub(super) terminal: TerminalState,
    pub(super) manager: Option<ServiceManager>,
    /// Where hupwrap's own file is, where that is known from a hupwrap before.
    pub(super) origin: Vec<Vec<u8>>,
    /// The requests so far, for the status file.
    pub(super) requests: Vec<Reload>,
    /// What was seen of each PATH of `--watch`.
    pub(super) watched: Vec<Option<u64>>,
    /// The state of the machine, where there is one.
    pub(super) snapshot: Option<Snapshot>,
}

/// Why there is no supervisor.
pub(crate) enum NotSetUp {
    /// This signal told hupwrap to stop.
    Told(Signal),
    /// Something is missing, or wrong.
    Because(String),
}

impl From<String> for NotSetUp {
    fn from(reason: String) -> Self {
        Self::Because(reason)
    }
}

/// Sets up the supervisor of a first start.
///
/// # Errors
/// Something is missing, or hupwrap was told to stop.
pub(crate) fn setup(mut config: Config, startup: Startup) -> Result<Box<Supervisor>, NotSetUp> {
    own_files::check(&config)?;
    look_up_helpers(&config, &startup)?;
    // Before anything is opened that stays open: inherited sockets are known by their numbers.
    let var = |name| startup.var(name);
    let inherited =
        sockets::inherited(var("LISTEN_FDS"), var(LISTEN_PID_VARIABLE), var("LISTEN_FDNAMES"), startup.pid)?;
    // Before anything is made: a second instance must leave everything else alone.
    let pidfile = config.pidfile.as_ref().map(|path| {
        Pidfile::take(path, startup.pid).map_err(|error| format!("--pidfile '{}': {error}", path.to_string_lossy()))
    });
    let pidfile = pidfile.transpose()?;
    let status_file = config.status_file.clone().unwrap_or_default();
    let of_status_file = |error| format!("--status-file '{}': {error}", status_file.to_string_lossy());
    if config.status_file.is_some() {
        StatusFile::new(&status_file, startup.pid).check().map_err(of_status_file)?;
    }
    let listened = listen_to_signals(&mut config);
    // All but the faults are blocked since the first instruction; a fault that --on names is from now on.
    signals::block(listened, crate::BLOCKED_AT_STARTUP)
        .map_err(|error| format!("cannot block signals: {}", start_error::describe(error)))?;
    // Before a lookup of a name: that is a child of hupwrap's own.
    let has_children = wait::has_children();
    let children = if has_children == Some(false) { Vec::new() } else { proc::children() };
    let sockets = bind(&mut config, &startup, inherited)?;
    check_readiness(&config, &startup, &sockets)?;
    let signal_fd = SignalFd::new(listened, startup.pid).map_err(no_signals)?;
    let terminal = Terminal::open();
    let place = terminal.as_ref().map_or(Place::NoTerminal, Terminal::place);
    let parts = Parts {
        pidfile,
        sockets,
        signal_fd,
        shared_group: match config.group {
            Some(group) => group == Group::Shared,
            // A group outside of this pid namespace has no number: the terminal could not be given back to it.
            None => place == Place::Foreground || (place == Place::Background && own_group() == 0),
        },
        terminal: TerminalState::new(terminal.as_ref(), place),
        manager: ServiceManager::new(&startup),
        origin: Vec::new(),
        requests: Vec::new(),
        watched: Vec::new(),
        snapshot: None,
    };
    let mut supervisor = assemble(config, startup, parts);
    supervisor.family.first = (has_children == Some(true) || !children.is_empty()).then_some(family::UNSEEN);
    supervisor.family.foreign_children = children;
    // At the very end: from here on nothing fails.
    supervisor.status_writer.as_mut().map_or(Ok(()), StatusWriter::lock).map_err(of_status_file)?;
    for socket in &supervisor.sockets {
        if let Some(text) = socket.chosen() {
            report::say(&messages::listening(&socket.facts().name, &socket.address(), text));
        }
    }
    Ok(supervisor)
}

/// Reads what the child's environment comes from, and looks for the commands of `--check` and `--ready cmd:` in it, as
/// they are looked for when they run.
fn look_up_helpers(config: &Config, startup: &Startup) -> Result<(), String> {
    let mut helpers = config.helpers().peekable();
    if helpers.peek().is_none() && config.env_files.is_empty() && config.workdir.is_none() {
        return Ok(());
    }
    let child_env = ChildEnv::read(&startup.env, &config.env_files, config.workdir.as_deref());
    let child_env = child_env.map_err(|error| error.reason)?;
    for (option, prefix, words) in helpers {
        let named = |error: StartError| {
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            format!("{option} '{prefix}{}': {}", words::join(&words), error.reason)
        };
        lookup::check(words, &child_env, &[]).map_err(named)?;
    }
    Ok(())
}

/// The signals that hupwrap listens to; they must be blocked. INT and QUIT that were ignored at the start have no
/// action from now on, unless the command line names one.
pub(super) fn listen_to_signals(config: &mut Config) -> SignalSet {
    for signal in [Signal::INT, Signal::QUIT].into_iter().filter(|signal| signals::is_ignored(*signal, false)) {
        config.on.ignore_unless_named(signal);
    }
    let mut listened = SignalSet::EMPTY;
    for signal in Signal::all().filter(|signal| *signal == Signal::CHLD || config.on.of(*signal) != Action::LeftAlone) {
        listened.insert(signal);
    }
    listened
}

/// Makes a supervisor of its parts. Nothing in here can fail.
pub(super) fn assemble(config: Config, startup: Startup, parts: Parts) -> Box<Supervisor> {
    let Parts { pidfile, sockets, signal_fd, shared_group, terminal, manager, origin, requests, watched, snapshot } =
        parts;
    let watch = watcher::open(&config, &watched);
    let is_init = startup.pid == 1;
    let above = startup.var(PID_VARIABLE).and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
    let is_nested = above.is_some_and(|pid| in_own_session(pid) && proc::is_ancestor(pid, startup.parent));
    if !is_init {
        wait::become_subreaper();
    }
    let place = settings::Place {
        has_terminal: terminal.exists,
        is_init,
        nohup: terminal.exists && signals::is_ignored(Signal::HUP, false),
        is_watched: manager.is_some() || config.status_file.is_some(),
        watchdog: manager.as_ref().and_then(|_| service_manager::watchdog(&startup)),
        seed: clock::now().as_nanos() as u64 ^ u64::try_from(startup.pid).unwrap_or(0).rotate_left(32),
    };
    let status_writer = config
        .status_file
        .as_ref()
        .map(|path| StatusWriter::new(path, startup.pid, config.on.of(Signal::HUP).to_string(), &sockets, requests));
    let rules = Settings::new(&config, place);
    let reexecs = |signal| matches!(config.on.of(signal), Action::Reexec | Action::Upgrade | Action::UpgradeReplace);
    let command = config.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    Box::new(Supervisor {
        machine: match snapshot {
            Some(snapshot) => Machine::adopt(rules, snapshot),
            None => Machine::new(rules),
        },
        words: Words::new(&command, !sockets.is_empty()),
        manager,
        status_writer,
        pidfile,
        signal_fd,
        terminal,
        origin: Signal::all().any(reexecs).then(|| Origin::new(&startup, origin)),
        sockets,
        family: Family::new(startup.pid, shared_group, is_nested),
        before: None,
        reaps_again: false,
        resumed: false,
        watch,
        unreceived: SignalSet::EMPTY,
        troubles: Vec::new(),
        config,
        startup,
    })
}

/// The sockets that hupwrap was given, and those it is to make. The names among their addresses are looked up.
fn bind(config: &mut Config, startup: &Startup, mut sockets: Vec<Socket>) -> Result<Vec<Socket>, NotSetUp> {
    let taken = listen::FIRST_FD
        .saturating_add(i32::try_from(sockets.len().saturating_add(config.listen.len())).unwrap_or(i32::MAX));
    if let Ready::Fd(fd) = config.ready {
        if fd < taken && taken > listen::FIRST_FD {
            let error =
                format!("--ready 'fd:{fd}': the sockets of the child are there; want a descriptor from {taken} on");
            return Err(error.into());
        }
        // While they are put in place each has a copy above, and so has what tells of the exec.
        let copies = taken.saturating_sub(listen::FIRST_FD).saturating_add(2);
        let end = fd::descriptor_limit().saturating_sub(i64::from(copies));
        if i64::from(fd) >= end {
            let error =
                format!("--ready 'fd:{fd}': so many files may not be open (ulimit -n); want a descriptor below {end}");
            return Err(error.into());
        }
    }
    let mut listen = std::mem::take(&mut config.listen);
    for listen in &mut listen {
        let option = &listen.option;
        if let Some(endpoint) = listen.address.endpoint_mut() {
            let found = look_up(config, startup, endpoint)?;
            let found = found.map_err(|error| format!("--listen '{option}': {error}"))?;
            found.first().into_iter().for_each(|address| *endpoint = Endpoint::from(*address));
        }
    }
    let more = sockets::bind_all(&listen, &sockets)?;
    config.listen = listen;
    sockets.extend(more);
    Ok(sockets)
}

/// Whether `--ready tcp:` would prove nothing, because a socket of hupwrap's own answers there. Where the name has no
/// address yet, the child is not ready as long as that is so.
fn check_readiness(config: &Config, startup: &Startup, sockets: &[Socket]) -> Result<(), NotSetUp> {
    let Ready::Tcp(endpoint) = &config.ready else { return Ok(()) };
    let tcp = sockets.iter().filter(|socket| socket.facts().kind == SocketKind::Tcp).filter_map(Socket::local);
    let mut bound = tcp.filter(|bound| bound.port() == endpoint.port).peekable();
    if !config.replaces() || bound.peek().is_none() {
        return Ok(());
    }
    let found = look_up(config, startup, endpoint)?.unwrap_or_default();
    match bound.find_map(|bound| found.iter().find(|asked| listen::answers(bound, **asked))) {
        Some(asked) => Err(NotSetUp::Because(format!(
            "--ready 'tcp:{}': that is a socket of --listen, which takes connections before the new child is ready; \
             want notify, fd:N or cmd:CMD",
            // As it was said.
            if is_name(&endpoint.host) { format!("{}:{}", endpoint.host, endpoint.port) } else { asked.to_string() }
        ))),
        _ => Ok(()),
    }
}

/// Finds the addresses of an endpoint, or why it has none. A signal that tells hupwrap to stop ends the wait for a
/// resolver, and one that suspends hupwrap does so. All other signals stay pending until there is a supervisor.
fn look_up(
    config: &Config,
    startup: &Startup,
    endpoint: &Endpoint,
) -> Result<Result<Vec<SocketAddr>, String>, NotSetUp> {
    if !is_name(&endpoint.host) {
        return Ok(resolve_all(endpoint));
    }
    let is_stop = |signal: Signal| matches!(config.on.of(signal), Action::Stop(_));
    let suspends = |signal: Signal| {
        startup.pid != 1 && signal.is_job_control() && matches!(config.on.of(signal), Action::Forward(_))
    };
    let mut listened = SignalSet::EMPTY;
    for signal in Signal::all().filter(|signal| is_stop(*signal) || suspends(*signal)) {
        listened.insert(signal);
    }
    let signal_fd = SignalFd::new(listened, startup.pid).map_err(no_signals)?;
    let lookup = match Lookup::begin(endpoint, startup.mask) {
        Ok(lookup) => lookup,
        Err(error) => return Ok(Err(start_error::describe(error).to_owned())),
    };
    let mut fds = [lookup.as_fd(), signal_fd.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll::wait(&mut fds, None) {
            Err(Errno::EINTR) => continue,
            Err(error) => {
                lookup.give_up();
                return Ok(Err(start_error::describe(error).to_owned()));
            }
            Ok(_) if !signal_fd.is_full() => return Ok(lookup.answer()),
            Ok(_) => {}
        }
        let mut received = Vec::new();
        signal_fd.drain(&mut received);
        if let Some(Received { signal, .. }) = received.iter().find(|received| is_stop(received.signal)) {
            lookup.give_up();
            report::say(&messages::signal(*signal));
            return Err(NotSetUp::Told(*signal));
        }
        for Received { signal, sender, .. } in received {
            report::say(&messages::signal(signal));
            signals::suspend(signal, sender == Sender::Process, false);
        }
    }
}

fn no_signals(error: Errno) -> String {
    format!("cannot listen to signals: {}", start_error::describe(error))
}
