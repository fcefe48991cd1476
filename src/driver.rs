//! Carries out what the machine orders, and tells it what happens. The only file that knows both machine and sys.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::time::TimeSpec;

use crate::config::{Config, Group, Meaning};
use crate::handover::Handover;
use crate::machine::action::{Action, To};
use crate::machine::event::{Event, Sender, StartError};
use crate::machine::{Machine, Rules};
use crate::report::Report;
use crate::signal::{Signal, SignalSet};
use crate::status::{Change, Ending};
use crate::sys::birth::Birth;
use crate::sys::process::{self, Seen};
use crate::sys::reexec::{Origin, Probe};
use crate::sys::signals::{self, Inbox};
use crate::sys::spawn::{self, Order, Spawned};
use crate::sys::terminal::{self, Place};
use crate::sys::{Pid, clock};

/// More orders than any event can cause: a machine that wants more turns in circles.
const MAX_ROUNDS: usize = 1000;

/// What a hupwrap adds to its child's environment.
const PID_VARIABLE: &str = "HUPWRAP_PID";
/// The number of the start, 1, 2, …
const GENERATION_VARIABLE: &str = "HUPWRAP_GENERATION";

/// A supervisor at work.
pub struct Driver {
    config: Config,
    birth: Birth,
    machine: Machine,
    report: Report,
    inbox: Inbox,
    shared_group: bool,
    had_terminal: bool,
    nohup: bool,
    /// Where hupwrap's own file is; looked up only where a signal can mean a re-exec.
    origin: Option<Origin>,
    child: Option<Pid>,
    /// The process group the last child led.
    group: Option<Pid>,
    /// The child, while it has not executed.
    unexecuted: Option<Spawned>,
    probe: Option<Probe>,
    /// Children that are none of ours: those before us, and probes that were given up.
    strangers: Vec<Pid>,
    /// While the rest of a generation is looked for: who was asked to end.
    asked: Option<Vec<Seen>>,
    /// Tells of the end of the session's leader, under nohup.
    leader: Option<OwnedFd>,
    /// Who wrote the state this one has taken over.
    before: Option<String>,
    /// Whether hupwrap was stopped, and continued, since the last look at what has happened.
    resumed: bool,
}

impl Driver {
    /// Sets everything up that may fail. Afterwards nothing bails out any more.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn new(config: Config, birth: Birth, adopted: Option<Handover>) -> Result<Self, String> {
        let is_init = birth.pid == 1;
        let mut listened = SignalSet::EMPTY;
        for signal in
            Signal::all().filter(|signal| *signal == Signal::CHLD || config.on.of(*signal) != Meaning::LeftAlone)
        {
            listened.insert(signal);
        }
        // All but the faults are blocked since the first instruction; a fault that --on names is from now on.
        signals::block(listened, crate::BLOCKED_AT_BIRTH);
        let inbox =
            Inbox::new(listened, birth.pid).map_err(|error| format!("cannot listen to signals: {}", error.desc()))?;
        if !is_init {
            process::become_subreaper();
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
        let rules = Rules::new(&config, shared_group, had_terminal, is_init, nohup);
        let reexecs = |signal| matches!(config.on.of(signal), Meaning::Reexec | Meaning::Upgrade);
        let origin = Signal::all().any(reexecs).then(|| Origin::new(&birth));
        let command = config.command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let mut driver = Self {
            machine: Machine::new(rules.clone()),
            report: Report::new(&command),
            inbox,
            shared_group,
            had_terminal,
            nohup,
            origin,
            child: None,
            group: None,
            unexecuted: None,
            probe: None,
            strangers: Vec::new(),
            asked: None,
            leader: if nohup { terminal::watch_session_leader() } else { None },
            before: None,
            resumed: false,
            config,
            birth,
        };
        match adopted {
            Some(state) => {
                driver.child = state.child;
                driver.group = state.child.filter(|_| !shared_group);
                driver.strangers = state.strangers;
                driver.before = Some(state.writer);
                driver.machine = Machine::adopt(rules, state.machine);
            }
            None if process::has_children() => driver.strangers = process::children(),
            None => {}
        }
        Ok(driver)
    }

    /// Supervises until the end.
    pub fn run(mut self) -> Ending {
        if let Some(signal) = self.config.parent_death
            && !process::follow_parent(signal, self.birth.parent)
        {
            // It ended before the kernel knew that we care.
            let _ = signals::kill(self.birth.pid, signal);
        }
        // The session's leader may have ended before there was anything to watch.
        if self.nohup && self.leader.is_none() && terminal::is_gone() {
            self.tell(Event::TerminalGone);
        }
        // What came before counts before.
        let mut ending = self.turn(self.inbox.is_full());
        let first = match self.before.take() {
            Some(before) => Event::Adopted { before },
            None => Event::Began,
        };
        ending = ending.or_else(|| self.tell(first));
        loop {
            if let Some(ending) = ending {
                // The process is about to end: nothing in here needs to be given back one by one.
                std::mem::forget(self);
                return ending;
            }
            let signalled = self.wait();
            ending = self.turn(signalled);
        }
    }

    /// Sleeps until something happens or a deadline is up, unless it is a signal alone that can happen: then reading it
    /// is sleeping enough. Returns whether to read signals.
    fn wait(&self) -> bool {
        // Unless somebody waits for the exec, it is early enough to learn of it with whatever comes next: at a start, one
        // wake-up less beside the child's own.
        let awaited = self.unexecuted.as_ref().filter(|_| self.machine.awaits_execution()).map(Spawned::as_fd);
        let leader = self.leader.as_ref().map(OwnedFd::as_fd);
        let left = self.machine.deadline().map(|deadline| deadline.saturating_sub(clock::now()));
        if left.is_none() && awaited.is_none() && leader.is_none() {
            return true;
        }
        let all = [Some(self.inbox.as_fd()), awaited, leader].into_iter().flatten();
        let mut fds: Vec<PollFd> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Anything that goes wrong here shows again at once, or is over.
        let _ = ppoll(&mut fds, left.map(TimeSpec::from_duration), None);
        fds.first().and_then(PollFd::any).unwrap_or(false)
    }

    /// Tells the machine everything that has happened. Everything dead is reaped first, so that no signal goes to a pid
    /// that means another process by now. A stop is told before the deaths: nothing is started that it would have
    /// forbidden. Other requests come after them, unless it is the start to come that they ask for.
    fn turn(&mut self, signalled: bool) -> Option<Ending> {
        let mut received = if signalled { self.inbox.drain() } else { Vec::new() };
        // A child that ends has sent CHLD before it can be waited for. One that ended before a re-exec may have sent it
        // to the hupwrap before.
        let died = self.before.is_some() || received.iter().any(|received| received.signal == Signal::CHLD);
        received.retain(|received| received.signal != Signal::CHLD || received.sender == Sender::Process);
        let deaths = self.collect_deaths(died);
        let continued = received.iter().any(|received| received.signal == Signal::CONT);
        let is_stop = |signal| matches!(self.config.on.of(signal), Meaning::Stop(_));
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
        events.extend(deaths);
        events.extend(self.leader_ended());
        events.append(&mut requests);
        if self.machine.deadline().is_some_and(|deadline| deadline <= clock::now()) {
            events.push(Event::Tick);
        }
        self.resumed = false;
        for event in events {
            if !self.is_undone(&event, continued)
                && let Some(ending) = self.tell(event)
            {
                return Some(ending);
            }
        }
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

    /// Whether the child that was started executes by now. `reaped`: it is dead, and known to be.
    fn execution(&mut self, reaped: bool) -> Option<Event> {
        let child = self.unexecuted.as_ref()?;
        let event = match child.executed(self.command()) {
            None if !reaped => return None,
            // A child that was killed before is told by its death.
            None | Some(Ok(())) => Event::Executed,
            Some(Err(error)) => {
                if !reaped {
                    process::reap_dying(child.pid);
                }
                self.child = None;
                Event::StartFailed(error)
            }
        };
        self.unexecuted = None;
        Some(event)
    }

    fn collect_deaths(&mut self, died: bool) -> Vec<Event> {
        let mut events: Vec<Event> = self.execution(false).into_iter().collect();
        while let Some((pid, change)) = died.then(process::reap).flatten() {
            match change {
                Change::Stopped(signal) if self.child == Some(pid) => events.push(Event::ChildStopped(signal)),
                Change::Stopped(_) => {}
                Change::Ended(outcome) if self.child == Some(pid) => {
                    events.extend(self.execution(true));
                    // Unless it never was one.
                    if self.child.take().is_some() {
                        events.push(Event::ChildEnded(outcome));
                    }
                }
                Change::Ended(outcome) if self.probe.as_ref().is_some_and(|probe| probe.pid() == Some(pid)) => {
                    match self.probe.as_mut().map_or(Ok(()), |probe| probe.verdict(outcome)) {
                        Ok(()) => events.push(Event::Proven),
                        Err(reason) => {
                            self.probe = None;
                            events.push(Event::Refused(reason));
                        }
                    }
                }
                Change::Ended(_) => self.strangers.retain(|stranger| *stranger != pid),
            }
        }
        if self.asked.is_some() {
            events.extend(self.survey());
        }
        events
    }

    /// Under nohup: whether the session's leader has ended since, and the terminal with it.
    fn leader_ended(&mut self) -> Option<Event> {
        let leader = self.leader.as_ref()?;
        let mut fds = [PollFd::new(leader.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO) != Ok(1) {
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
            self.machine.handle(clock::now(), event, &mut orders);
            for order in orders.drain(..) {
                if let Action::Finish(ending) = order {
                    return Some(ending);
                }
                events.extend(self.carry_out(order));
            }
        }
        self.report.internal("the machine turns in circles");
        None
    }

    fn carry_out(&mut self, order: Action) -> Option<Event> {
        match order {
            Action::Start { generation } => Some(match self.start(generation) {
                Ok(spawned) => {
                    self.child = Some(spawned.pid);
                    self.group = self.child.filter(|_| !self.shared_group);
                    self.unexecuted = Some(spawned);
                    Event::Started
                }
                Err(error) => Event::StartFailed(error),
            }),
            Action::Signal { to, signal } => {
                self.signal(to, signal);
                None
            }
            Action::AskRest(signal) => {
                self.ask_rest(signal);
                None
            }
            Action::Survey { group_asked } => {
                let mut asked = if group_asked { self.generation().unwrap_or_default() } else { Vec::new() };
                asked.retain(|seen| self.shared_group || Some(seen.group) == self.group);
                self.asked = Some(asked);
                self.survey()
            }
            Action::Check => Some(match spawn::check(self.command(), self.path(), None) {
                Ok(()) => Event::Checked,
                Err(error) => Event::Refused(error.reason),
            }),
            Action::Probe => {
                let origin = self.origin.as_ref()?;
                match Probe::new(origin, &self.birth) {
                    Ok(probe) => {
                        self.probe = Some(probe);
                        None
                    }
                    Err(reason) => Some(Event::Refused(reason)),
                }
            }
            Action::AbandonProbe => {
                if let Some(probe) = self.probe.take() {
                    probe.kill();
                    self.strangers.extend(probe.pid());
                }
                None
            }
            Action::Suspend { signal, insist } => {
                let began = clock::now();
                self.resumed |= signals::suspend(signal, insist);
                Some(Event::Resumed(clock::now().saturating_sub(began)))
            }
            Action::Say(line) => {
                self.report.say(&line, self.child.unwrap_or(0));
                None
            }
            // Taken by the caller.
            Action::Finish(_) => None,
        }
    }

    fn command(&self) -> &OsStr {
        self.config.command.first().map(OsString::as_os_str).unwrap_or_default()
    }

    fn path(&self) -> Option<&'static [u8]> {
        self.birth.var("PATH")
    }

    fn start(&self, generation: u64) -> Result<Spawned, StartError> {
        let program = spawn::find(self.command(), self.path(), None)?;
        let failed = |error| spawn::explain(self.command(), Some(&program), None, error);
        let string = |bytes: &[u8]| CString::new(bytes).map_err(|_| failed(Errno::EINVAL));
        let own = [(PID_VARIABLE, u64::try_from(self.birth.pid).unwrap_or(0)), (GENERATION_VARIABLE, generation)];
        let is_own = |var: &CStr| {
            let name =
                |name: &str| var.to_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
            name(PID_VARIABLE) || name(GENERATION_VARIABLE)
        };
        let order = Order {
            program: program.clone(),
            argv: self.config.command.iter().map(|arg| string(arg.as_bytes())).collect::<Result<_, _>>()?,
            env: self.birth.env.iter().copied().filter(|var| !is_own(var)).collect(),
            own_env: own
                .iter()
                .map(|(name, value)| string(format!("{name}={value}").as_bytes()))
                .collect::<Result<_, _>>()?,
            parent: self.birth.pid,
            mask: self.birth.mask,
            chld_ignored: self.birth.chld_ignored,
            own_group: !self.shared_group,
            tether: self.config.tether.then_some(Signal::TERM),
            pid_vars: Vec::new(),
            workdir: None,
            fds: Vec::new(),
        };
        spawn::spawn(order).map_err(failed)
    }

    fn signal(&self, to: To, signal: Signal) {
        let said = |pid: Pid, result: nix::Result<()>| {
            if let Err(error @ Errno::EPERM) = result {
                self.report.not_sent(signal, pid, error);
            }
        };
        match (to, self.child) {
            (To::Child, Some(child)) => said(child, signals::kill(child, signal)),
            (To::Group, Some(child)) if !self.shared_group => {
                // Before its setpgid, and ours, there is no such group.
                let result = signals::kill_group(child, signal);
                said(child, if result == Err(Errno::ESRCH) { signals::kill(child, signal) } else { result });
            }
            (To::Child | To::Group, None) => {}
            (To::Group | To::Rest, child) => match self.generation() {
                Some(generation) => generation.iter().for_each(|seen| said(seen.pid, seen.kill(signal))),
                None if self.birth.pid == 1 => process::kill_everyone(signal),
                // Who else there is cannot be known, the child is.
                None => child.into_iter().for_each(|child| said(child, signals::kill(child, signal))),
            },
        }
    }

    /// Every process of the child's generation: the child, what descends from it, and the orphans hupwrap was given.
    fn generation(&self) -> Option<Vec<Seen>> {
        let mut except = self.strangers.clone();
        except.extend(self.probe.iter().filter_map(Probe::pid));
        process::descendants(&except)
    }

    fn ask_rest(&mut self, signal: Signal) {
        let Some(generation) = self.generation() else {
            self.signal(To::Rest, signal);
            return self.signal(To::Rest, Signal::CONT);
        };
        let Some(asked) = &mut self.asked else { return };
        let new: Vec<Seen> = generation.into_iter().filter(|seen| !asked.iter().any(|known| known.is(seen))).collect();
        asked.extend(&new);
        for seen in new {
            if let Err(error @ Errno::EPERM) = seen.kill(signal) {
                self.report.not_sent(signal, seen.pid, error);
            }
            let _ = seen.kill(Signal::CONT);
        }
    }

    fn survey(&mut self) -> Option<Event> {
        let remains = match self.generation() {
            // A look at /proc takes time, and one that moves meanwhile can be missed. Where every child is ours the kernel
            // knows for sure.
            Some(generation) => {
                let ours_alone = self.strangers.is_empty() && self.probe.is_none();
                !generation.is_empty() || (ours_alone && process::has_children())
            }
            // Without /proc only pid 1 can reach them, and only it must.
            None => self.birth.pid == 1,
        };
        if remains {
            return Some(Event::RestRemains);
        }
        self.asked = None;
        Some(Event::RestGone)
    }

    /// Executes the new hupwrap in this process, if it is time. Not before everything that was read was told: a signal
    /// that was taken from the kernel is in no state that crosses.
    fn reexec_if_due(&mut self) -> Option<Ending> {
        let machine = self.machine.snapshot()?;
        let state = Handover {
            writer: crate::NAME_AND_VERSION.to_owned(),
            machine,
            child: self.child,
            shared_group: self.shared_group,
            had_terminal: self.had_terminal,
            mask: self.birth.mask,
            chld_ignored: self.birth.chld_ignored,
            strangers: self.strangers.clone(),
        };
        let reason = match self.probe.take() {
            Some(probe) => probe.exec(&self.birth, &state),
            None => "it was not proven".to_owned(),
        };
        self.tell(Event::Refused(reason))
    }
}
