//! The processes below hupwrap: which belongs to which generation, and which to none.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::child::Child;
use super::helper::{Answer, Helper, Purpose};
use crate::exit::{Change, ExitStatus};
use crate::facts::{GenerationId, Sender, Time};
use crate::machine::effect::To;
use crate::machine::event::Event;
use crate::report;
use crate::signal::Signal;
use crate::sys::connect::Attempt;
use crate::sys::notify_socket::NotifySocket;
use crate::sys::proc::Identity;
use crate::sys::ready_pipe::ReadyPipe;
use crate::sys::reexec::Probe;
use crate::sys::{Pid, clock, signals, start_error, terminal, wait};
use crate::text::main_process::EndedChild;
use crate::text::messages;

/// What a hupwrap adds to its child's environment.
pub(super) const PID_VARIABLE: &str = "HUPWRAP_PID";
/// The number of the start, 1, 2, …
pub(super) const GENERATION_VARIABLE: &str = "HUPWRAP_GENERATION";

/// In place of the first child, until that was seen.
pub(super) const UNSEEN: Identity = (0, 0);

/// How long nothing new is looked for after a look at /proc, while the kernel says that something is left.
const SURVEY_INTERVAL: Duration = Duration::from_millis(50);

/// Every process that hupwrap is the parent of.
pub(super) struct Family {
    pub(super) own_pid: Pid,
    /// Whether hupwrap and its children share a process group.
    pub(super) shared_group: bool,
    /// Whether there is another hupwrap among the ancestors in its session.
    pub(super) is_nested: bool,
    /// One of each generation that exists.
    pub(super) children: Vec<Child>,
    /// The new hupwrap, while it is asked whether it runs.
    pub(super) probe: Option<Probe>,
    /// Processes that find something out.
    pub(super) helpers: Vec<Helper>,
    /// Children that belong to no generation: those before the first, and probes and helpers that were given up.
    pub(super) foreign_children: Vec<Pid>,
    /// The first child, where others were there before: what is older belongs to no generation.
    pub(super) first: Option<Identity>,
    /// Process groups of generations whose child has ended. They may leave the terminal without a foreground process.
    pub(super) left_groups: Vec<Pid>,
    /// Whether to look again soon at what is left of a generation: it could not be seen, or has refused a signal.
    pub(super) unseen: bool,
    /// When what is left of a generation was last looked for.
    pub(super) surveyed: Time,
}

impl Family {
    /// A family without members.
    pub(super) fn new(own_pid: Pid, shared_group: bool, is_nested: bool) -> Self {
        Self {
            own_pid,
            shared_group,
            is_nested,
            children: Vec::new(),
            probe: None,
            helpers: Vec::new(),
            foreign_children: Vec::new(),
            first: None,
            left_groups: Vec::new(),
            unseen: false,
            surveyed: Time::ZERO,
        }
    }

    /// Whether somebody has to look again, because nothing may tell that there is more to see.
    pub(super) fn looks_again(&self) -> bool {
        let is_swept = |child: &Child| self.unseen && child.asked.is_some();
        let fails = |child: &Child| {
            child.notify.as_ref().is_some_and(NotifySocket::fails) || child.pipe.as_ref().is_some_and(ReadyPipe::fails)
        };
        self.children.iter().any(|child| is_swept(child) || fails(child) || child.ended.is_some())
    }

    /// The child of a generation.
    pub(super) fn child(&self, generation: GenerationId) -> Option<&Child> {
        self.children.iter().find(|child| child.generation == generation)
    }

    /// The same, to change it.
    pub(super) fn child_mut(&mut self, generation: GenerationId) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.generation == generation)
    }

    /// The pid that the child of a generation has or had, for people.
    pub(super) fn number(&self, generation: GenerationId) -> Pid {
        self.child(generation).map_or(0, |child| child.number)
    }

    /// Which children have executed `command` since, and which could not. Those in `changes` were reaped. A child that
    /// has said in `said` that it is ready has executed.
    pub(super) fn executions(&mut self, command: &OsStr, changes: &[(Pid, Change)], said: &[Event]) -> Vec<Event> {
        let mut events = Vec::new();
        for child in &mut self.children {
            let Some(spawned) = &child.unexecuted else { continue };
            let reaped = changes.iter().any(|change| matches!(change, (pid, Change::Ended(_)) if *pid == spawned.pid));
            match spawned.executed(command) {
                None if !reaped && !said.contains(&Event::Ready(child.generation)) => continue,
                // A child that was killed before its exec is reported by its death.
                None | Some(Ok(())) => events.push(Event::Executed(child.generation)),
                Some(Err(error)) => {
                    if !reaped {
                        // It is about to end. If it is frozen that takes long, and nobody waits for it.
                        self.foreign_children.push(spawned.pid);
                    }
                    // There never was a child.
                    child.pid = None;
                    events.push(Event::StartFailed(child.generation, error));
                }
            }
            child.unexecuted = None;
        }
        events
    }

    /// What the ends and stops of processes mean. `may_follow`: whether another process may take the place of a child
    /// that has ended; then nothing is said of its end.
    pub(super) fn changes(
        &mut self,
        changes: Vec<(Pid, Change)>,
        may_follow: impl Fn(&Child, ExitStatus) -> Option<EndedChild>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for (pid, change) in changes {
            let child = self.children.iter_mut().find(|child| child.pid == Some(pid));
            match (change, child) {
                (Change::Stopped(signal), Some(child)) => {
                    let group = if self.shared_group { None } else { child.look_group_up() };
                    let is_shared = group.is_none();
                    let wants_terminal = matches!(signal, Signal::TTIN | Signal::TTOU);
                    // hupwrap follows a stop of the job in the foreground: it is the same job to the shell. The hupwrap
                    // above does not see that a child below wants the terminal, unless the one between them follows
                    // too.
                    let is_followed = match (is_shared, wants_terminal) {
                        (true, _) => true,
                        (false, true) => self.is_nested && terminal::front() != Some(terminal::own_group()),
                        (false, false) => terminal::take_from(group),
                    };
                    child.awaits_terminal = !is_shared && (wants_terminal || is_followed);
                    events.extend(is_followed.then_some(Event::ChildStopped(signal)));
                }
                (Change::Stopped(_), None) => {}
                (Change::Ended(status), Some(child)) => {
                    child.pid = None;
                    child.awaits_terminal = false;
                    self.left_groups.push(pid);
                    if let ExitStatus::Killed(signal @ (Signal::INT | Signal::QUIT)) = status
                        && child.group.is_some()
                        && terminal::front() == child.group
                    {
                        // Ctrl-C has reached the child alone: its group is the foreground.
                        events.push(Event::Signal { signal, sender: Sender::Kernel, hung_up: false, shared: true });
                    }
                    child.ended = may_follow(child, status);
                    if child.ended.is_none() {
                        events.push(Event::ChildEnded(child.generation, status));
                    }
                }
                (Change::Ended(status), None) => events.extend(self.helper_ended(pid, status)),
            }
        }
        let swept = self.children.iter().filter(|child| child.asked.is_some()).map(|child| child.generation);
        for generation in swept.collect::<Vec<_>>() {
            // Scanning /proc at each of a thousand deaths would take longer than the processes do to end.
            let is_soon = clock::now() < self.surveyed.saturating_add(SURVEY_INTERVAL);
            match is_soon && self.is_one_generation() && wait::has_children() == Some(true) {
                true => self.unseen = true,
                false => events.extend(self.survey(generation)),
            }
        }
        events
    }

    /// The event for what a helper has found, if it is one already.
    pub(super) fn answered(&mut self, (purpose, answer): Answer) -> Option<Event> {
        match (purpose, answer) {
            (Purpose::Check, Ok(_)) => Some(Event::Checked),
            (Purpose::Check, Err(reason)) => Some(Event::Refused(reason)),
            (Purpose::Try(generation), Ok(addresses)) if addresses.is_empty() => Some(Event::Ready(generation)),
            (Purpose::Try(generation), Ok(addresses)) => self.connect(generation, &addresses),
            (Purpose::Try(generation), Err(reason)) => Some(self.child_mut(generation)?.tried_in_vain(reason)),
        }
    }

    /// Begins to connect to a child. The event for an answer that is there at once.
    fn connect(&mut self, generation: GenerationId, to: &[SocketAddr]) -> Option<Event> {
        let child = self.child_mut(generation)?;
        let mut attempt = Attempt::begin(to);
        match attempt.connected() {
            Some(Ok(())) => Some(Event::Ready(generation)),
            Some(Err(reason)) => Some(child.tried_in_vain(reason)),
            None => {
                child.attempt = Some(attempt);
                None
            }
        }
    }

    /// Why the newest child is not ready, as far as tries have shown.
    pub(super) fn why_not_ready(&self) -> Option<String> {
        self.children.iter().max_by_key(|child| child.generation)?.why_not_ready()
    }

    /// Whether the children are in hupwrap's process group. One that was started there may have left it (setsid(1),
    /// timeout(1)): that is only known at the time.
    pub(super) fn is_in_own_group(&self) -> bool {
        let pids = self.children.iter().filter_map(|child| child.pid);
        self.shared_group
            && pids.into_iter().all(|pid| terminal::group_of(pid).is_none_or(|group| group == terminal::own_group()))
    }

    /// Whether every child belongs to the same generation.
    pub(super) fn is_one_generation(&self) -> bool {
        let all_known = self.foreign_children.is_empty() && self.first.is_none() && self.refused().next().is_none();
        self.children.len() == 1 && all_known && self.probe.is_none() && self.helpers.is_empty()
    }

    /// Whether a signal to every process reaches one generation, as far as is known.
    pub(super) fn is_everyone(&self) -> bool {
        self.own_pid == 1 && self.children.len() == 1 && self.first.is_none()
    }

    /// A process ended that is not the child of any generation.
    fn helper_ended(&mut self, pid: Pid, status: ExitStatus) -> Option<Event> {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.pid() == Some(pid)) {
            return Some(match probe.verdict(status) {
                Ok(()) => Event::Proven,
                Err(reason) => {
                    self.probe = None;
                    Event::Refused(reason)
                }
            });
        }
        if let Some(at) = self.helpers.iter().position(|helper| helper.pid() == pid) {
            let answer = self.helpers.swap_remove(at).ended(status);
            return self.answered(answer);
        }
        self.foreign_children.retain(|foreign_child| *foreign_child != pid);
        None
    }

    /// Ends the helpers of which `is_outdated` is true.
    pub(super) fn give_up_helpers(&mut self, is_outdated: impl Fn(Purpose) -> bool) {
        let outdated = self.helpers.extract_if(.., |helper| is_outdated(helper.purpose));
        self.foreign_children.extend(outdated.map(Helper::give_up));
    }

    /// Ends the probe and the check.
    pub(super) fn give_up_request(&mut self) {
        if let Some(probe) = self.probe.take() {
            probe.kill();
            self.foreign_children.extend(probe.pid());
        }
        self.give_up_helpers(|purpose| purpose == Purpose::Check);
    }

    /// Sends a signal to the child of a generation, to its process group or to what is left of the generation.
    pub(super) fn signal(&mut self, generation: GenerationId, to: To, signal: Signal) {
        let said = |pid: Pid, result: nix::Result<()>| {
            // A process that has ended needs no signal.
            if let Err(error) = result
                && error != Errno::ESRCH
            {
                report::say(&messages::not_sent(signal, pid, start_error::describe(error)));
            }
        };
        let pid = self.child(generation).and_then(|child| child.pid);
        let is_looked_up = to == To::Group && !self.shared_group;
        let group = self.child_mut(generation).filter(|_| is_looked_up).and_then(Child::look_group_up);
        match (to, pid) {
            (To::Child, Some(child)) => said(child, signals::kill(child, signal)),
            (To::Group, Some(child)) if group.is_some() => {
                let result = match group.map_or(Ok(()), |group| signals::kill_group(group, signal)) {
                    // The kernel does not tell the groups of processes, and this one is empty.
                    Err(Errno::ESRCH) => signals::kill(child, signal),
                    // Others in the group have got it. CONT is permitted more often, and follows a signal that is not.
                    Ok(()) if signal != Signal::CONT && !signals::may_signal(child) => Err(Errno::EPERM),
                    result => result,
                };
                said(child, result);
            }
            (To::Child | To::Group, None) => {}
            (To::Group | To::Rest, child) => match self.members(generation) {
                Ok(rest) if to == To::Rest => self.signal_rest(generation, &rest, signal),
                Ok(members) => {
                    members.iter().for_each(|seen| said(seen.pid, seen.kill(signal)));
                    // The child is signalled also if it could not be seen.
                    let unseen = child.filter(|child| members.iter().all(|seen| seen.pid != *child));
                    unseen.into_iter().for_each(|child| said(child, signals::kill(child, signal)));
                }
                Err(_) if self.is_everyone() => signals::kill_everyone(signal),
                // The other members cannot be found, but the child is known.
                Err(_) => child.into_iter().for_each(|child| said(child, signals::kill(child, signal))),
            },
        }
    }
}
