//! Carries out what the machine orders, and tells it what happens. The only room that knows both machine and sys.

mod child;
mod helper;
mod service_manager;
mod status_writer;

use crate::facts::{GenerationId, Sender, StartError};
use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::config::{Action, Config, Group, LogFormat, Ready};
use crate::exit::{Change, Ending, ExitStatus};
use crate::machine::effect::{Effect, Failure, Message, To};
use crate::machine::event::Event;
use crate::machine::{self, Machine, Rules};
use crate::report;
use crate::signal::{Signal, SignalSet};
use crate::sys::environment::ChildEnv;
use crate::sys::files::Pidfile;
use crate::sys::notify::{NotifySocket, Pipe};
use crate::sys::poll::is_ready;
use crate::sys::proc::{self, ProcStat};
use crate::sys::reexec::{Origin, Probe};
use crate::sys::signals::{self, SignalFd};
use crate::sys::sockets::{self, Attempt, Socket};
use crate::sys::spawn::{self, Spawn};
use crate::sys::startup::Startup;
use crate::sys::terminal::{self, Place};
use crate::sys::{Pid, clock, fd, lookup, start_error, wait};
use crate::text::handover::Handover;
use crate::text::listen;
use crate::text::messages::{self, Words};
use child::Child;
use helper::{Helper, Purpose};
use service_manager::{Service, ServiceManager};
use status_writer::StatusWriter;

/// More orders than any event can cause: a machine that wants more turns in circles.
const MAX_ROUNDS: usize = 1000;
/// How long hupwrap sleeps at most while something could not be sent to the service manager, in milliseconds.
const RETRY_UPWARD: u64 = 100;

/// What a hupwrap adds to its child's environment.
const PID_VARIABLE: &str = "HUPWRAP_PID";
/// The number of the start, 1, 2, …
const GENERATION_VARIABLE: &str = "HUPWRAP_GENERATION";
/// The same, for the sockets' sake.
const STARTER_GENERATION_VARIABLE: &str = "SERVER_STARTER_GENERATION";
/// For whom the sockets are.
const LISTEN_PID_VARIABLE: &str = "LISTEN_PID";
/// What is meant for one process only, and was not meant for the child.
const NOT_PASSED_ON: [&str; 6] = [
    "LISTEN_FDS",
    LISTEN_PID_VARIABLE,
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    service_manager::SOCKET_VARIABLE,
    GENERATION_VARIABLE,
];

/// A supervisor at work.
pub struct Supervisor {
    config: Config,
    startup: Startup,
    machine: Machine,
    words: Words,
    manager: Option<ServiceManager>,
    status_writer: Option<StatusWriter>,
    pidfile: Option<Pidfile>,
    signal_fd: SignalFd,
    shared_group: bool,
    had_terminal: bool,
    nohup: bool,
    /// Where hupwrap's own file is; looked up only where a signal can mean a re-exec.
    origin: Option<Origin>,
    /// The sockets that outlive the child, in the order it gets them.
    sockets: Vec<Socket>,
    /// Where a connection shows that the child is ready.
    ready_at: Option<SocketAddr>,
    /// One of each generation that is there.
    children: Vec<Child>,
    probe: Option<Probe>,
    /// Commands that are run to find something out.
    helpers: Vec<Helper>,
    /// Children that are none of ours: those before us, and probes and helpers that were given up.
    foreign_children: Vec<Pid>,
    /// Tells of the end of the session's leader, under nohup.
    leader: Option<OwnedFd>,
    /// Who wrote the state this one has taken over.
    before: Option<String>,
    /// Whether hupwrap was stopped, and continued, since the last look at what has happened.
    resumed: bool,
}

impl Supervisor {
    /// Sets everything up that may fail. Afterwards nothing bails out any more.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn new(config: Config, startup: Startup, adopted: Option<Handover>) -> Result<Self, String> {
        let is_init = startup.pid == 1;
        let ready_at = match (&config.ready, &adopted) {
            (Ready::Tcp(_), Some(state)) => state.ready_at,
            (Ready::Tcp(endpoint), None) => {
                let named = |error| format!("--ready 'tcp:{}:{}': {error}", endpoint.host, endpoint.port);
                Some(sockets::resolve(endpoint).map_err(named)?)
            }
            _ => None,
        };
        // First: the second instance leaves everything alone.
        let pidfile = match (&config.pidfile, adopted.as_ref().and_then(|state| state.pidfile)) {
            (None, _) => None,
            (Some(path), Some(fd)) => Pidfile::from_fact(path, fd),
            (Some(path), None) => Some(
                Pidfile::take(path, startup.pid)
                    .map_err(|error| format!("--pidfile '{}': {error}", path.to_string_lossy()))?,
            ),
        };
        // Before anything else is opened: they are known by their numbers.
        let sockets = match &adopted {
            Some(state) => state.sockets.iter().cloned().map(Socket::from_facts).collect::<Result<_, _>>()?,
            None => bind(&config, &startup)?,
        };
        if let Some(asked) = ready_at
            && config.replaces()
            && sockets.iter().filter_map(Socket::local).any(|bound| listen::answers(bound, asked))
        {
            return Err(format!(
                "--ready 'tcp:{asked}': that is a socket of --listen, which takes connections before the new child is ready; \
                 want notify, fd:N or cmd:CMD"
            ));
        }
        let mut listened = SignalSet::EMPTY;
        for signal in
            Signal::all().filter(|signal| *signal == Signal::CHLD || config.on.of(*signal) != Action::LeftAlone)
        {
            listened.insert(signal);
        }
        // All but the faults are blocked since the first instruction; a fault that --on names is from now on.
        signals::block(listened, crate::BLOCKED_AT_STARTUP);
        let signal_fd = SignalFd::new(listened, startup.pid)
            .map_err(|error| format!("cannot listen to signals: {}", start_error::describe(error)))?;
        if !is_init {
            wait::become_subreaper();
        }
        let (shared_group, had_terminal) = match &adopted {
            Some(state) => (state.shared_group, state.had_terminal),
            None => {
                let place = terminal::place();
                let shared = match config.group {
                    Some(group) => group == Group::Shared,
                    None => place == Place::Foreground,
                };
                (shared, place != Place::NoTerminal)
            }
        };
        let nohup = had_terminal && signals::is_ignored(Signal::HUP, false);
        let manager = ServiceManager::new(&startup, adopted.as_ref().map(|state| state.machine.child));
        let place = machine::Place {
            shared_group,
            has_terminal: had_terminal,
            is_init,
            nohup,
            is_watched: manager.is_some() || config.status_file.is_some(),
            watchdog: manager.as_ref().and_then(|_| service_manager::watchdog(&startup)),
            seed: clock::now().as_nanos() as u64 ^ u64::try_from(startup.pid).unwrap_or(0).rotate_left(32),
        };
        let requests = adopted.as_ref().map(|state| state.requests.clone()).unwrap_or_default();
        let status_writer = config.status_file.as_ref().map(|path| {
            StatusWriter::new(path, startup.pid, config.on.of(Signal::HUP).to_string(), &sockets, requests)
                .map_err(|error| format!("--status-file '{}': {error}", path.to_string_lossy()))
        });
        let status_writer = status_writer.transpose()?;
        let rules = Rules::new(&config, place);
        let reexecs =
            |signal| matches!(config.on.of(signal), Action::Reexec | Action::Upgrade | Action::UpgradeReplace);
        let origin = Signal::all().any(reexecs).then(|| Origin::new(&startup));
        let command = config.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let mut supervisor = Self {
            machine: Machine::new(rules.clone()),
            words: Words::new(&command, !sockets.is_empty()),
            manager,
            status_writer,
            pidfile,
            signal_fd,
            shared_group,
            had_terminal,
            nohup,
            origin,
            sockets,
            ready_at,
            children: Vec::new(),
            probe: None,
            helpers: Vec::new(),
            foreign_children: Vec::new(),
            leader: if nohup { terminal::watch_session_leader() } else { None },
            before: None,
            resumed: false,
            config,
            startup,
        };
        match adopted {
            Some(state) => {
                if let Some(generation) = state.machine.child {
                    let mut child = Child::new(generation, state.child, state.child.filter(|_| !shared_group));
                    child.notify = state.notify.and_then(NotifySocket::from_facts);
                    supervisor.children.push(child);
                }
                supervisor.foreign_children = state.foreign_children;
                supervisor.before = Some(state.writer);
                supervisor.machine = Machine::adopt(rules, state.machine);
            }
            None => {
                if wait::has_children() {
                    supervisor.foreign_children = proc::children();
                }
                for socket in &supervisor.sockets {
                    if let Some(text) = socket.chosen() {
                        report::say(&messages::listening(&socket.facts().name, &socket.address(), text));
                    }
                }
            }
        }
        Ok(supervisor)
    }

    /// Supervises until the end.
    pub fn run(mut self) -> Ending {
        if let Some(signal) = self.config.parent_death
            && !wait::follow_parent(signal, self.startup.parent)
        {
            // It ended before the kernel knew that we care.
            let _ = signals::kill(self.startup.pid, signal);
        }
        // The session's leader may have ended before there was anything to watch.
        if self.nohup && self.leader.is_none() && terminal::is_gone() {
            self.tell(Event::TerminalGone);
        }
        // What came before counts before.
        let mut ending = self.turn(self.signal_fd.is_full());
        let first = match self.before.take() {
            Some(before) => Event::Adopted { before },
            None => Event::Began,
        };
        ending = ending.or_else(|| self.tell(first));
        loop {
            if let Some(ending) = ending {
                // Their files go with them. Nothing else in here needs to be given back one by one: the process ends.
                self.update_watch();
                self.sockets.clear();
                self.children.iter_mut().for_each(|child| child.notify = None);
                // The tether would end the helper, not what it has started.
                self.helpers.drain(..).map(Helper::give_up).for_each(drop);
                self.pidfile = None;
                std::mem::forget(self);
                return ending;
            }
            self.update_watch();
            let signalled = self.wait();
            ending = self.turn(signalled);
        }
    }

    /// Sleeps until something happens or a deadline is up, unless it is a signal alone that can happen: then reading it
    /// is sleeping enough. Returns whether to read signals.
    fn wait(&mut self) -> bool {
        // Unless somebody waits for the exec, or wants to hear of it, it is early enough to learn of it with whatever comes
        // next: at a start, one wake-up less beside the child's own.
        let awaits_execution = self.machine.awaits_execution() || report::is_said(&messages::STARTED);
        let all_told = self.manager.as_mut().is_none_or(ServiceManager::flush);
        let now = clock::now();
        let retry = (!all_told).then(|| now.saturating_add(std::time::Duration::from_millis(RETRY_UPWARD)));
        let rewrite = self.status_writer.as_ref().and_then(StatusWriter::retry);
        let deadline = self.machine.deadline().into_iter().chain(retry).chain(rewrite).min();
        let left = deadline.map(|deadline| deadline.saturating_sub(now));
        let leader = self.leader.as_ref().map(|leader| (leader.as_fd(), PollFlags::POLLIN));
        let mut others = self.children.iter().flat_map(|child| child.fds(awaits_execution)).chain(leader).peekable();
        if left.is_none() && others.peek().is_none() {
            return true;
        }
        let signal_fd = [(self.signal_fd.as_fd(), PollFlags::POLLIN)];
        let mut fds: Vec<PollFd> =
            signal_fd.into_iter().chain(others).map(|(fd, flags)| PollFd::new(fd, flags)).collect();
        // Anything that goes wrong here shows again at once, or is over.
        let _ = ppoll(&mut fds, left.map(TimeSpec::from_duration), None);
        fds.first().and_then(PollFd::any).unwrap_or(false)
    }

    /// Tells the machine everything that has happened. Everything dead is reaped first, so that no signal goes to a pid
    /// that means another process by now. A stop is told before the deaths: nothing is started that it would have
    /// forbidden. What a child said it said before it died. Other requests come last, unless it is the start to come that
    /// they ask for.
    fn turn(&mut self, signalled: bool) -> Option<Ending> {
        let mut received = if signalled { self.signal_fd.drain() } else { Vec::new() };
        // A child that ends has sent CHLD before it can be waited for. One that ended before a re-exec may have sent it
        // to the hupwrap before.
        let died = self.before.is_some() || received.iter().any(|received| received.signal == Signal::CHLD);
        received.retain(|received| received.signal != Signal::CHLD || received.sender == Sender::Process);
        let changes: Vec<(Pid, Change)> = std::iter::from_fn(|| died.then(wait::reap).flatten()).collect();
        let said = self.hear_children();
        let executions = self.executions(&changes);
        let deaths = self.changes(changes);
        let continued = received.iter().any(|received| received.signal == Signal::CONT);
        let is_stop = |signal| matches!(self.config.on.of(signal), Action::Stop(_));
        let (stops, others): (Vec<_>, Vec<_>) = received.into_iter().partition(|received| is_stop(received.signal));
        let told = |had_terminal| {
            move |signals::Received { signal, sender }| {
                let hung_up = signal == Signal::HUP && had_terminal && terminal::is_gone();
                Event::Signal { signal, sender, hung_up }
            }
        };
        let mut events: Vec<Event> = stops.into_iter().map(told(self.had_terminal)).collect();
        let mut requests: Vec<Event> = others.into_iter().map(told(self.had_terminal)).collect();
        if self.machine.is_about_to_start() {
            events.append(&mut requests);
        }
        events.extend(executions);
        events.extend(said);
        events.extend(deaths);
        events.extend(self.leader_ended());
        events.append(&mut requests);
        if self.machine.deadline().is_some_and(|deadline| deadline <= clock::now()) {
            events.push(Event::Tick);
        }
        self.resumed = false;
        for event in events {
            if self.is_undone(&event, continued) {
                continue;
            }
            if let (Event::Signal { signal, .. }, Some(manager)) = (&event, &mut self.manager)
                && self.config.on.of(*signal).is_request()
            {
                manager.asked();
            }
            if let Some(ending) = self.tell(event) {
                return Some(ending);
            }
        }
        self.forget();
        self.reexec_if_due()
    }

    /// Whether a stop was ended by a later CONT, or a CONT overtaken by a later stop: each takes away the other where it
    /// waits, says the kernel, and so it is for those that were read and not yet acted upon. `continued`: a CONT was
    /// read along with the event.
    fn is_undone(&self, event: &Event, continued: bool) -> bool {
        match event {
            // How the child was stopped before a CONT that is for it too is no reason to follow it. A stop that waits
            // came after that CONT, and it is the one that has stopped the child.
            Event::ChildStopped(_) => self.resumed || (continued && !signals::stop_is_pending()),
            Event::Signal { signal: Signal::CONT, .. } => signals::stop_is_pending(),
            Event::Signal { signal, .. } => self.resumed && signal.is_job_control(),
            _ => false,
        }
    }

    /// What the children have said since, and what was found out about them.
    fn hear_children(&mut self) -> Vec<Event> {
        let says_ready = self.config.ready == Ready::Notify;
        let mut events = Vec::new();
        for child in &mut self.children {
            // To whoever is above it is over with one that was replaced, or given up.
            let generation = child.generation;
            let mut above = self.manager.as_mut().filter(|_| self.machine.speaks(generation));
            let pass_up = |lines: &[u8]| above.iter_mut().for_each(|above| above.pass_up(generation, lines));
            events.extend(child.hear(says_ready, pass_up));
        }
        events
    }

    /// Which children execute their program since, and which cannot. Those in `changes` were reaped.
    fn executions(&mut self, changes: &[(Pid, Change)]) -> Vec<Event> {
        let command = self.config.command.first().map(OsString::as_os_str).unwrap_or_default();
        let mut events = Vec::new();
        for child in &mut self.children {
            let Some(spawned) = &child.unexecuted else { continue };
            let reaped = changes.iter().any(|change| matches!(change, (pid, Change::Ended(_)) if *pid == spawned.pid));
            match spawned.executed(command) {
                None if !reaped => continue,
                // A child that was killed before is told by its death.
                None | Some(Ok(())) => events.push(Event::Executed(child.generation)),
                Some(Err(error)) => {
                    if !reaped {
                        // It is about to end. If it is frozen that takes long, and nobody waits for it.
                        self.foreign_children.push(spawned.pid);
                    }
                    // There never was one.
                    child.pid = None;
                    events.push(Event::StartFailed(child.generation, error));
                }
            }
            child.unexecuted = None;
        }
        events
    }

    /// What the ends and stops of processes mean.
    fn changes(&mut self, changes: Vec<(Pid, Change)>) -> Vec<Event> {
        let mut events = Vec::new();
        for (pid, change) in changes {
            let child = self.children.iter_mut().find(|child| child.pid == Some(pid));
            match (change, child) {
                (Change::Stopped(signal), Some(_)) => events.push(Event::ChildStopped(signal)),
                (Change::Stopped(_), None) => {}
                (Change::Ended(status), Some(child)) => {
                    child.pid = None;
                    events.push(Event::ChildEnded(child.generation, status));
                }
                (Change::Ended(status), None) => events.extend(self.helper_ended(pid, status)),
            }
        }
        for generation in
            self.children.iter().filter(|child| child.asked.is_some()).map(|child| child.generation).collect::<Vec<_>>()
        {
            events.extend(self.survey(generation));
        }
        events
    }

    /// A process ended that is no child of any generation.
    fn helper_ended(&mut self, pid: Pid, status: ExitStatus) -> Option<Event> {
        if self.probe.as_ref().is_some_and(|probe| probe.pid() == Some(pid)) {
            return Some(match self.probe.as_mut().map_or(Ok(()), |probe| probe.verdict(status)) {
                Ok(()) => Event::Proven,
                Err(reason) => {
                    self.probe = None;
                    Event::Refused(reason)
                }
            });
        }
        if let Some(at) = self.helpers.iter().position(|helper| helper.pid() == pid) {
            return Some(self.helpers.swap_remove(at).ended(status));
        }
        self.foreign_children.retain(|foreign_child| *foreign_child != pid);
        None
    }

    /// Lets go of generations that are over, and of tries that nobody waits for any more.
    fn forget(&mut self) {
        spawn::take_back();
        let machine = &self.machine;
        self.children.retain(|child| machine.knows(child.generation));
        for child in self.children.iter_mut().filter(|child| !machine.awaits_readiness(child.generation)) {
            (child.pipe, child.attempt) = (None, None);
        }
        let outdated = |helper: &mut Helper| match helper.purpose {
            Purpose::Try(generation) => !machine.awaits_readiness(generation),
            Purpose::Check => false,
        };
        self.foreign_children.extend(self.helpers.extract_if(.., outdated).map(Helper::give_up));
    }

    /// Under nohup: whether the session's leader has ended since, and the terminal with it.
    fn leader_ended(&mut self) -> Option<Event> {
        let leader = self.leader.as_ref()?;
        if !is_ready(leader.as_fd(), PollFlags::POLLIN) {
            return None;
        }
        self.leader = None;
        terminal::is_gone().then_some(Event::TerminalGone)
    }

    /// Tells the machine one event, carries out what it orders, and tells what comes of that, until it is content.
    fn tell(&mut self, event: Event) -> Option<Ending> {
        let mut events = VecDeque::from([event]);
        let mut orders = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let event = events.pop_front()?;
            self.mention(&event);
            let ended = match &event {
                Event::ChildEnded(generation, status) => Some(Message::Ended(*generation, *status)),
                _ => None,
            };
            self.machine.handle(clock::now(), event, &mut orders);
            // People need not be told twice.
            let is_told_anyhow = |order: &Effect| {
                matches!(
                    order,
                    Effect::Say(
                        Message::RestartingLater { status: Some(_), .. }
                            | Message::GaveUp { last: Some(Failure::Ended(_)), .. }
                    )
                )
            };
            if let Some(line) = ended
                && (self.config.log_format == LogFormat::Json || !orders.iter().any(is_told_anyhow))
            {
                self.say(&line);
            }
            for order in orders.drain(..) {
                if let Effect::Finish(ending) = order {
                    return Some(ending);
                }
                events.extend(self.carry_out(order));
            }
        }
        report::complain("internal error: the machine turns in circles; please report it");
        None
    }

    fn carry_out(&mut self, order: Effect) -> Option<Event> {
        match order {
            Effect::Start(generation) => {
                self.forget();
                Some(match self.start(generation) {
                    Ok(child) => {
                        self.children.push(child);
                        Event::Started
                    }
                    Err(error) => Event::StartFailed(generation, error),
                })
            }
            Effect::Try(generation) => self.try_out(generation),
            Effect::Signal { generation, to, signal } => {
                self.signal(generation, to, signal);
                None
            }
            Effect::AskRest(generation, signal) => {
                self.ask_rest(generation, signal);
                None
            }
            Effect::Survey { generation, group_asked } => {
                let mut asked = if group_asked { self.members(generation).unwrap_or_default() } else { Vec::new() };
                let shared = self.shared_group;
                let Some(child) = self.child_mut(generation) else { return Some(Event::RestGone(generation)) };
                asked.retain(|seen| shared || Some(seen.group) == child.group);
                child.asked = Some(asked);
                self.survey(generation)
            }
            Effect::Check { new_child } => self.check(new_child),
            Effect::Probe => {
                let origin = self.origin.as_ref()?;
                match Probe::new(origin, &self.startup) {
                    Ok(probe) => {
                        self.probe = Some(probe);
                        None
                    }
                    Err(reason) => Some(Event::Refused(reason)),
                }
            }
            Effect::Abandon => {
                if let Some(probe) = self.probe.take() {
                    probe.kill();
                    self.foreign_children.extend(probe.pid());
                }
                let checks = self.helpers.extract_if(.., |helper| helper.purpose == Purpose::Check);
                self.foreign_children.extend(checks.map(Helper::give_up));
                None
            }
            Effect::Feed => {
                self.manager.iter_mut().for_each(ServiceManager::feed);
                None
            }
            Effect::Suspend { signal, insist } => {
                let began = clock::now();
                self.resumed |= signals::suspend(signal, insist);
                Some(Event::Resumed(clock::now().saturating_sub(began)))
            }
            Effect::Say(line) => {
                self.say(&line);
                None
            }
            // Taken by the caller.
            Effect::Finish(_) => None,
        }
    }

    /// Says what happens, to those who want to hear all of it.
    fn mention(&mut self, event: &Event) {
        match event {
            Event::Signal { signal, .. } if report::is_said(&messages::SIGNAL) => {
                report::say(&messages::signal(*signal))
            }
            Event::Executed(generation) => self.say(&Message::Started(*generation)),
            _ => {}
        }
    }

    /// Brings the status file up to date.
    fn update_watch(&mut self) {
        let children = &self.children;
        let number =
            |generation| children.iter().find(|child| child.generation == generation).map_or(0, |child| child.number);
        if let Some(status_writer) = &mut self.status_writer {
            // It has said why not.
            let _ = status_writer.update(&self.machine.status(), number);
        }
    }

    fn say(&mut self, line: &Message) {
        let pid = |generation| self.child(generation).map_or(0, |child| child.number);
        // Most of what happens nobody wants to hear of: it is not put into words.
        let text = (!line.is_usual() || report::is_said(&messages::STARTED)).then(|| {
            let log_line = self.words.log_line(line, self.machine.serving().is_some(), pid);
            report::say(&log_line);
            log_line.text
        });
        if let Some(status_writer) = &mut self.status_writer {
            let reason = match line {
                Message::Settled { outcome, .. } => self.words.reason(outcome, self.machine.serving().is_some()),
                _ => None,
            };
            status_writer.hear(clock::now(), line, reason);
        }
        if let Some(manager) = &mut self.manager {
            let service = Service { serving: self.machine.serving(), is_asked: self.machine.is_asked() };
            manager.hear(clock::now(), line, text.as_deref().unwrap_or_default(), service);
        }
    }

    fn child(&self, generation: GenerationId) -> Option<&Child> {
        self.children.iter().find(|child| child.generation == generation)
    }

    fn child_mut(&mut self, generation: GenerationId) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.generation == generation)
    }

    fn command(&self) -> &OsStr {
        self.config.command.first().map(OsString::as_os_str).unwrap_or_default()
    }

    /// What every command sees that is started now, without what is for the child alone.
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

    fn start(&self, generation: GenerationId) -> Result<Child, StartError> {
        let mut child_env = self.child_env()?;
        let mut child = Child::new(generation, None, None);
        let number = generation.to_string();
        child_env.set(GENERATION_VARIABLE.as_bytes(), number.as_bytes());
        let mut fds = Vec::new();
        let mut pid_vars = Vec::new();
        if !self.sockets.is_empty() {
            for (name, value) in listen::environment(self.sockets.iter().map(Socket::facts)) {
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
        // A watchdog that waits for hupwrap waits for the child: what that says is passed up.
        let awaited = self.manager.as_ref().and_then(|_| child_env.var(service_manager::WATCHDOG_PID_VARIABLE));
        if awaited.is_some_and(|awaited| awaited == self.startup.pid.to_string().as_bytes()) {
            pid_vars.push(service_manager::WATCHDOG_PID_VARIABLE);
        }
        let mut theirs = None;
        if let Ready::Fd(fd) = self.config.ready {
            let (pipe, end) = Pipe::new().map_err(|error| lacking("the pipe for its readiness", error))?;
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
            own_group: !self.shared_group,
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
        child.group = child.pid.filter(|_| !self.shared_group);
        child.born = if self.children.is_empty() { None } else { ProcStat::at_birth(spawned.pid) };
        child.unexecuted = Some(spawned);
        Ok(child)
    }

    /// What spawns a command: its words and its environment, nothing else.
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

    /// The checks: those that cost nothing first.
    fn check(&mut self, new_child: bool) -> Option<Event> {
        let checked = self.child_env().and_then(|child_env| {
            if new_child {
                lookup::check(self.command(), child_env.var("PATH"), child_env.workdir.as_deref())?;
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
        let in_vain = Some(Event::TriedInVain(generation));
        match (&self.config.ready, self.ready_at) {
            (Ready::Tcp(_), Some(to)) => {
                let attempt = Attempt::begin(to);
                let begun = attempt.is_some();
                self.child_mut(generation)?.attempt = attempt;
                in_vain.filter(|_| !begun)
            }
            (Ready::Cmd(words), _) => {
                let order = self.child_env().and_then(|mut child_env| {
                    // In a replace there are two.
                    child_env.set(GENERATION_VARIABLE.as_bytes(), generation.to_string().as_bytes());
                    self.order(words, child_env)
                });
                match order {
                    Ok(order) => self.send_out(Purpose::Try(generation), order),
                    Err(_) => in_vain,
                }
            }
            _ => None,
        }
    }

    /// Runs a command to find something out. Answers at once only where it cannot.
    fn send_out(&mut self, purpose: Purpose, order: Spawn) -> Option<Event> {
        match Helper::new(purpose, order) {
            Ok(helper) => {
                self.helpers.push(helper);
                None
            }
            Err(event) => Some(event),
        }
    }

    fn signal(&self, generation: GenerationId, to: To, signal: Signal) {
        let said = |pid: Pid, result: nix::Result<()>| {
            if let Err(error @ Errno::EPERM) = result {
                report::say(&messages::not_sent(signal, pid, error));
            }
        };
        let pid = self.child(generation).and_then(|child| child.pid);
        match (to, pid) {
            (To::Child, Some(child)) => said(child, signals::kill(child, signal)),
            (To::Group, Some(child)) if !self.shared_group => {
                // Before its setpgid, and ours, there is no such group.
                let result = signals::kill_group(child, signal);
                said(child, if result == Err(Errno::ESRCH) { signals::kill(child, signal) } else { result });
            }
            (To::Child | To::Group, None) => {}
            (To::Group | To::Rest, child) => match self.members(generation) {
                Some(members) => members.iter().for_each(|seen| said(seen.pid, seen.kill(signal))),
                None if self.startup.pid == 1 && self.children.len() == 1 => signals::kill_everyone(signal),
                // Who else there is cannot be known, the child is.
                None => child.into_iter().for_each(|child| said(child, signals::kill(child, signal))),
            },
        }
    }

    /// Every process of a generation: the child, what descends from it, and the orphans of it that hupwrap was given.
    fn members(&self, generation: GenerationId) -> Option<Vec<ProcStat>> {
        let mut except = self.foreign_children.clone();
        except.extend(self.probe.iter().filter_map(Probe::pid));
        except.extend(self.helpers.iter().map(Helper::pid));
        let all = proc::descendants(&except)?;
        Some(all.into_iter().filter(|(root, _)| self.owner(root) == generation).map(|(_, seen)| seen).collect())
    }

    /// Of which generation a process is that is a child of hupwrap. An orphan does not tell whose it was; while there are
    /// two generations it shows in its age, its group or its environment. What shows nothing is of the new one: that ends
    /// too, but later.
    fn owner(&self, root: &ProcStat) -> GenerationId {
        if let Some(child) = self.children.iter().find(|child| child.pid == Some(root.pid)) {
            return child.generation;
        }
        let newest = self.children.iter().max_by_key(|child| child.generation);
        let Some(newest) = newest else { return 0 };
        let is_older = newest.born.as_ref().is_some_and(|born| root.is_older_than(born));
        // A hupwrap below numbers its own starts.
        let is_ours = || root.var(PID_VARIABLE).is_some_and(|pid| pid.parse() == Ok(self.startup.pid));
        let number = || root.var(GENERATION_VARIABLE).filter(|_| is_ours()).and_then(|number| number.parse().ok());
        let belongs = |child: &&Child| {
            child.generation != newest.generation
                && (is_older
                    || child.group == Some(root.group)
                    || (newest.group != Some(root.group) && number() == Some(child.generation)))
        };
        self.children.iter().find(belongs).unwrap_or(newest).generation
    }

    fn ask_rest(&mut self, generation: GenerationId, signal: Signal) {
        let Some(members) = self.members(generation) else {
            self.signal(generation, To::Rest, signal);
            return self.signal(generation, To::Rest, Signal::CONT);
        };
        let Some(asked) = self.child_mut(generation).and_then(|child| child.asked.as_mut()) else { return };
        let new: Vec<ProcStat> = members.into_iter().filter(|seen| !asked.iter().any(|known| known.is(seen))).collect();
        asked.extend(&new);
        for seen in new {
            if let Err(error @ Errno::EPERM) = seen.kill(signal) {
                report::say(&messages::not_sent(signal, seen.pid, error));
            }
            let _ = seen.kill(Signal::CONT);
        }
    }

    fn survey(&mut self, generation: GenerationId) -> Option<Event> {
        let alone = self.children.len() == 1;
        let remains = match self.members(generation) {
            // A look at /proc takes time, and one that moves meanwhile can be missed. Where every child is ours the kernel
            // knows for sure.
            Some(members) => {
                let ours_alone =
                    alone && self.foreign_children.is_empty() && self.probe.is_none() && self.helpers.is_empty();
                !members.is_empty() || (ours_alone && wait::has_children())
            }
            // Without /proc only pid 1 can reach them, and only it must.
            None => self.startup.pid == 1 && alone,
        };
        if remains {
            return Some(Event::RestRemains(generation));
        }
        self.child_mut(generation)?.asked = None;
        Some(Event::RestGone(generation))
    }

    /// Executes the new hupwrap in this process, if it is time. Not before everything that was read was told: a signal
    /// that was taken from the kernel is in no state that crosses.
    fn reexec_if_due(&mut self) -> Option<Ending> {
        let machine = self.machine.snapshot()?;
        if machine.again.is_none() {
            self.manager.iter_mut().for_each(|manager| manager.crossing(clock::now()));
        }
        let child = machine.child.and_then(|generation| self.child(generation));
        let state = Handover {
            writer: crate::NAME_AND_VERSION.to_owned(),
            child: child.and_then(|child| child.pid),
            notify: child.and_then(|child| child.notify.as_ref()).map(NotifySocket::facts),
            machine,
            shared_group: self.shared_group,
            had_terminal: self.had_terminal,
            mask: self.startup.mask,
            chld_ignored: self.startup.chld_ignored,
            foreign_children: self.foreign_children.clone(),
            sockets: self.sockets.iter().map(Socket::facts).cloned().collect(),
            ready_at: self.ready_at,
            pidfile: self.pidfile.as_ref().map(Pidfile::fact),
            requests: self.status_writer.as_ref().map(StatusWriter::requests).unwrap_or_default(),
        };
        self.let_cross(true);
        let reason = match self.probe.take() {
            Some(probe) => probe.exec(&self.startup, &state),
            None => "it was not proven".to_owned(),
        };
        self.let_cross(false);
        self.tell(Event::Refused(reason))
    }

    /// Whether sockets stay open over an exec.
    fn let_cross(&self, crossing: bool) {
        self.pidfile.iter().for_each(|pidfile| pidfile.set_crossing(crossing));
        self.sockets.iter().for_each(|socket| socket.stays_open(crossing));
        self.children.iter().filter_map(|child| child.notify.as_ref()).for_each(|notify| notify.set_crossing(crossing));
    }
}

/// The sockets that hupwrap was given, and those it is to make.
fn bind(config: &Config, startup: &Startup) -> Result<Vec<Socket>, String> {
    let var = |name| startup.var(name);
    let mut sockets =
        sockets::inherited(var("LISTEN_FDS"), var(LISTEN_PID_VARIABLE), var("LISTEN_FDNAMES"), startup.pid)?;
    let taken = listen::FIRST_FD
        .saturating_add(i32::try_from(sockets.len().saturating_add(config.listen.len())).unwrap_or(i32::MAX));
    if let Ready::Fd(fd) = config.ready {
        if fd < taken && taken > listen::FIRST_FD {
            return Err(format!(
                "--ready 'fd:{fd}': the sockets of the child are there; want a descriptor from {taken} on"
            ));
        }
        // While they are put in place each has a copy above, and so has what tells of the exec.
        let copies = taken.saturating_sub(listen::FIRST_FD).saturating_add(2);
        let end = fd::descriptor_limit().saturating_sub(i64::from(copies));
        if i64::from(fd) >= end {
            return Err(format!(
                "--ready 'fd:{fd}': so many files may not be open (ulimit -n); want a descriptor below {end}"
            ));
        }
    }
    let more = sockets::bind_all(&config.listen, &sockets)?;
    sockets.extend(more);
    Ok(sockets)
}
