//! Carries out what the machine orders, and tells it what happens. The only room that knows both machine and sys.

pub(crate) mod adopt;
mod child;
mod crossing;
mod effects;
mod family;
mod helper;
mod main_process;
mod membership;
mod own_files;
mod received;
mod restore;
mod say;
mod service_manager;
pub(crate) mod setup;
mod status_writer;
mod terminal;
mod watcher;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::config::{Action, Config, LogFormat, Ready};
use crate::exit::Ending;
use crate::facts::Sender;
use crate::machine::Machine;
use crate::machine::effect::Effect;
use crate::machine::event::Event;
use crate::machine::message::{Failure, Message};
use crate::machine::status::State;
use crate::report;
use crate::signal::{Signal, SignalSet};
use crate::sys::path_watch::PathWatch;
use crate::sys::pidfile::Pidfile;
use crate::sys::reexec::Origin;
use crate::sys::signals::{self, Received, SignalFd};
use crate::sys::sockets::Socket;
use crate::sys::startup::Startup;
use crate::sys::terminal::HangUp;
use crate::sys::{clock, poll, spawn, wait};
use crate::text::events;
use crate::text::messages::Words;
use family::Family;
use helper::{Helper, Purpose};
use service_manager::ServiceManager;
use status_writer::StatusWriter;
use terminal::TerminalState;

/// More rounds than any event can cause: a machine that wants more never comes to rest.
const MAX_ROUNDS: usize = 1000;
/// How long hupwrap waits at most before it tries again what it could not do: send what the service manager had no room
/// for, or look at /proc.
const RETRY: Duration = Duration::from_millis(100);

/// A supervisor at work.
pub(crate) struct Supervisor {
    config: Config,
    startup: Startup,
    machine: Machine,
    words: Words,
    manager: Option<ServiceManager>,
    status_writer: Option<StatusWriter>,
    pidfile: Option<Pidfile>,
    signal_fd: SignalFd,
    terminal: TerminalState,
    /// Where hupwrap's own file is; looked up only where a signal can mean a re-exec.
    origin: Option<Origin>,
    /// The sockets that outlive the child, in the order it gets them.
    sockets: Vec<Socket>,
    /// The processes below.
    family: Family,
    /// Who wrote the state that this hupwrap has adopted.
    before: Option<String>,
    /// Whether a child may have changed that could not be waited for.
    reaps_again: bool,
    /// Whether hupwrap was stopped, and continued, since it last looked at what has happened.
    resumed: bool,
    /// The files whose change acts as a HUP.
    watch: Option<PathWatch>,
    /// Signals that no child has received, as was said already.
    unreceived: SignalSet,
    /// What is wrong with hupwrap's sockets and files: which, whether shutdown(2) did it, and why it cannot be
    /// restored.
    troubles: Vec<(String, bool, String)>,
}

impl Supervisor {
    /// Supervises until the end. The supervisor is boxed: each move of it would leave its pages on the stack.
    pub(crate) fn run(mut self: Box<Self>) -> Ending {
        if let Some(signal) = self.config.parent_death
            && !wait::follow_parent(signal, self.startup.parent)
        {
            // It ended before the kernel knew that we care.
            let _ = signals::kill(self.startup.pid, signal);
        }
        // What came before counts before.
        let mut ending = self.turn(self.signal_fd.is_full());
        ending = ending.or_else(|| self.finish_first_look());
        let first = match self.before.take() {
            Some(before) => Event::Adopted { before },
            None => Event::Began,
        };
        ending = ending.or_else(|| self.tell(first));
        loop {
            if let Some(ending) = ending {
                // Their files go with them. Nothing else in here needs to be given back one by one: the process ends.
                self.update_status();
                self.take_terminal_back(true);
                self.sockets.clear();
                self.family.children.iter_mut().for_each(|child| child.notify = None);
                // The tether would end the helper, not what it has started.
                self.family.helpers.drain(..).map(Helper::give_up).for_each(drop);
                self.pidfile = None;
                std::mem::forget(self);
                return ending;
            }
            self.update_status();
            let signalled = self.wait();
            ending = self.turn(signalled);
        }
    }

    /// Waits for the next event. If only a signal can wake hupwrap, the blocking read of the signalfd does the waiting.
    /// Returns whether to read signals.
    fn wait(&mut self) -> bool {
        // An exec that nobody waits for is noticed with the next event: at a start this saves a wake-up.
        let awaits_execution = self.machine.awaits_execution() || report::is_said(&events::STARTED);
        let all_told = self.manager.as_mut().is_none_or(ServiceManager::flush);
        let now = clock::now();
        let retries = !all_told || self.reaps_again || self.family.looks_again();
        let retry = retries.then_some(RETRY).into_iter().chain(self.terminal_interval()).min();
        let retry = retry.map(|interval| now.saturating_add(interval));
        let rewrite = self.status_writer.as_ref().and_then(StatusWriter::retry);
        let look = self.watch.as_ref().and_then(PathWatch::deadline);
        let deadline = self.machine.deadline().into_iter().chain(retry).chain(rewrite).chain(look).min();
        let left = deadline.map(|deadline| deadline.saturating_sub(now));
        let watch = self.watch.as_ref().and_then(PathWatch::fd).map(|watch| (watch, PollFlags::POLLIN));
        let children = self.family.children.iter().flat_map(|child| child.fds(awaits_execution));
        let hang_up = self.terminal.hang_up.iter().flat_map(HangUp::fds);
        let mut others = children.chain(hang_up).chain(watch).peekable();
        if left.is_none() && others.peek().is_none() {
            return true;
        }
        let signal_fd = PollFd::new(self.signal_fd.as_fd(), PollFlags::POLLIN);
        let others = others.map(|(fd, flags)| PollFd::new(fd, flags));
        let mut fds: Vec<PollFd> = [signal_fd].into_iter().chain(others).collect();
        if poll::wait(&mut fds, left).is_err() {
            // No memory, or a limit below the number of descriptors. One alone needs neither; the others are looked at
            // soon.
            fds.truncate(1);
            // Where a sandbox forbids it, the read of the signalfd waits.
            if poll::wait(&mut fds, Some(left.unwrap_or(RETRY).min(RETRY))).is_err() {
                return true;
            }
        }
        fds.first().and_then(PollFd::any).unwrap_or(false)
    }

    /// Tells the machine everything that has happened. Dead children are reaped first, so that no signal goes to a pid
    /// that means another process by now. A stop is told before the deaths, so that nothing is started after it. What a
    /// child said is told before its death, and so are renewals: someone has asked for the next child. Other requests
    /// come last, unless a start is about to follow that they share.
    fn turn(&mut self, signalled: bool) -> Option<Ending> {
        let (mut received, changes) = self.read_and_reap(signalled);
        let hung_up = self.hold_hup(&mut received);
        let mut said = self.hear_children();
        let command = self.config.command.first().map(OsString::as_os_str).unwrap_or_default();
        let executions = self.family.executions(command, &changes, &said);
        let mut deaths =
            self.family.changes(changes, |child, status| main_process::may_follow(child, status, &self.config));
        deaths.extend(self.follow());
        // A new child that has ended already does not take over from one that serves. An overlap sees to that as well.
        let has_ended = |id| deaths.iter().any(|event| matches!(event, Event::ChildEnded(ended, _) if *ended == id));
        let serving = self.machine.serving().filter(|_| self.config.overlap.is_zero());
        said.retain(
            |event| !matches!(event, Event::Ready(id) if serving.is_some_and(|old| old < *id) && has_ended(*id)),
        );
        let continued = received.iter().any(|received| received.signal == Signal::CONT);
        // Not to a child whose stop hupwrap is about to follow.
        if !deaths.iter().any(|event| matches!(event, Event::ChildStopped(_))) {
            self.lend_terminal(continued);
        }
        let is_stop = |signal| matches!(self.config.on.of(signal), Action::Stop(_));
        let (stops, others): (Vec<_>, Vec<_>) = received.into_iter().partition(|received| is_stop(received.signal));
        let told = |Received { signal, sender, .. }| {
            let hung_up = hung_up && signal == Signal::HUP;
            Event::Signal { signal, sender, hung_up, shared: self.family.is_in_own_group() }
        };
        let mut events: Vec<Event> = stops.into_iter().map(told).collect();
        let mut requests: Vec<Event> = others.into_iter().map(told).collect();
        requests.extend(self.look_for_changes());
        if self.machine.is_about_to_start() {
            events.append(&mut requests);
        }
        events.extend(self.terminal_gone(&deaths));
        events.extend(executions);
        events.extend(said);
        if !deaths.is_empty() {
            events.extend(requests.extract_if(.., |event| self.is_renewal(event)));
        }
        events.extend(deaths);
        events.append(&mut requests);
        if self.machine.deadline().is_some_and(|deadline| deadline <= clock::now()) {
            events.push(Event::Tick);
        }
        self.resumed = false;
        for event in events {
            if self.is_undone(&event, continued) {
                continue;
            }
            if let (Event::Signal { signal, sender, .. }, Some(manager)) = (&event, &mut self.manager)
                && (self.config.on.of(*signal).is_request() || *signal == Signal::HUP)
                && !matches!(sender, Sender::Member(_))
            {
                manager.asked();
            }
            if let Some(ending) = self.tell(event) {
                return Some(ending);
            }
        }
        self.take_terminal_back(false);
        self.forget();
        self.reexec_if_due()
    }

    /// Whether an event asks for a new child or a new hupwrap.
    fn is_renewal(&self, event: &Event) -> bool {
        match event {
            Event::Signal { signal, .. } => self.config.on.of(*signal).is_request(),
            event => *event == Event::Changed,
        }
    }

    /// What the children have said since, and what was found out about them.
    fn hear_children(&mut self) -> Vec<Event> {
        let says_ready = self.config.ready == Ready::Notify;
        let mut events = Vec::new();
        for child in &mut self.family.children {
            // For the service manager, a child that was replaced or given up no longer exists.
            let generation = child.generation;
            let mut above = self.manager.as_mut().filter(|_| self.machine.speaks(generation));
            let pass_up = |lines: &[u8]| above.iter_mut().for_each(|above| above.pass_up(generation, lines));
            events.extend(child.hear(says_ready, pass_up));
        }
        events
    }

    /// Lets go of generations that are over, and of tries that nobody waits for any more.
    fn forget(&mut self) {
        spawn::take_back();
        let Self { machine, family, .. } = self;
        family.children.retain(|child| machine.knows(child.generation));
        for child in family.children.iter_mut().filter(|child| !machine.awaits_readiness(child.generation)) {
            (child.pipe, child.attempt, child.try_began) = (None, None, None);
        }
        family.give_up_helpers(|purpose| match purpose {
            Purpose::Try(generation) => !machine.awaits_readiness(generation),
            Purpose::Check => false,
        });
    }

    /// Tells the machine one event, carries out the effects, and tells the events that they cause, until there are
    /// none.
    fn tell(&mut self, event: Event) -> Option<Ending> {
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let event = events.pop_front()?;
            self.mention(&event);
            let ended = match &event {
                Event::ChildEnded(generation, status) => Some(Message::Ended(*generation, *status)),
                _ => None,
            };
            let is_gone = matches!(event, Event::ChildEnded(..) | Event::RestGone(_));
            let background = self.background(&event);
            self.machine.handle(clock::now(), event, &mut effects);
            self.refuse_forward(&mut effects);
            if let Some(line) = background.filter(|_| self.machine.ends_by_itself()) {
                report::say(&line);
            }
            // At the end the files are removed.
            if is_gone && !matches!(self.machine.status().state, State::Stopping | State::Ended) {
                self.restore_files();
            }
            // People need not be told twice.
            let is_told_anyhow = |effect: &Effect| {
                matches!(
                    effect,
                    Effect::Say(
                        Message::RestartingLater { status: Some(_), .. }
                            | Message::GaveUp { last: Some(Failure::Ended(_)), .. }
                    )
                )
            };
            if let Some(line) = ended
                && (self.config.log_format == LogFormat::Json || !effects.iter().any(is_told_anyhow))
            {
                self.say(&line);
            }
            for effect in effects.drain(..) {
                if let Effect::Finish(ending) = effect {
                    return Some(ending);
                }
                events.extend(self.carry_out(effect));
            }
        }
        report::complain("internal error: the machine turns in circles; please report it");
        None
    }
}
