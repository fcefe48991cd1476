//! The processes below hupwrap: which belongs to which generation, and which to none.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::child::Child;
use super::helper::{Answer, Helper, Purpose};
use crate::exit::{Change, ExitStatus, OWN_FAILURE};
use crate::facts::{GenerationId, Sender, StartError, Time};
use crate::machine::effect::To;
use crate::machine::event::Event;
use crate::report;
use crate::signal::Signal;
use crate::sys::connect::Attempt;
use crate::sys::proc::{self, ProcStat, Unseen};
use crate::sys::reexec::Probe;
use crate::sys::{Pid, clock, signals, start_error, terminal, wait};
use crate::text::main_process::EndedChild;
use crate::text::messages;

/// What a hupwrap adds to its child's environment.
pub(super) const PID_VARIABLE: &str = "HUPWRAP_PID";
/// The number of the start, 1, 2, …
pub(super) const GENERATION_VARIABLE: &str = "HUPWRAP_GENERATION";

/// How long nothing new is looked for after a look at /proc, while the kernel says that something is left.
const SURVEY_INTERVAL: Duration = Duration::from_millis(50);

/// Every process that hupwrap is the parent of.
pub(super) struct Family {
    own_pid: Pid,
    /// Whether hupwrap and its children share a process group.
    pub shared_group: bool,
    /// One of each generation that exists.
    pub children: Vec<Child>,
    /// The new hupwrap, while it is asked whether it runs.
    pub probe: Option<Probe>,
    /// Processes that find something out.
    pub helpers: Vec<Helper>,
    /// Children that belong to no generation: those before the first, and probes and helpers that were given up.
    pub foreign_children: Vec<Pid>,
    /// Process groups of the last generation, which may have left the terminal without a foreground process.
    pub left_groups: Vec<Pid>,
    /// Whether what is left of a generation could not be seen the last time, and may be seen later.
    unseen: bool,
    /// When what is left of a generation was last looked for.
    surveyed: Time,
}

impl Family {
    /// A family without members.
    pub(super) fn new(own_pid: Pid, shared_group: bool) -> Self {
        Self {
            own_pid,
            shared_group,
            children: Vec::new(),
            probe: None,
            helpers: Vec::new(),
            foreign_children: Vec::new(),
            left_groups: Vec::new(),
            unseen: false,
            surveyed: Time::ZERO,
        }
    }

    /// Whether somebody has to look again, because nothing may tell that there is more to see.
    pub(super) fn looks_again(&self) -> bool {
        let is_swept = |child: &Child| self.unseen && child.asked.is_some();
        self.children.iter().any(|child| is_swept(child) || child.ended.is_some())
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

    /// Which children have executed `command` since, and which could not. Those in `changes` were reaped.
    pub(super) fn executions(&mut self, command: &OsStr, changes: &[(Pid, Change)]) -> Vec<Event> {
        let mut events = Vec::new();
        for child in &mut self.children {
            let Some(spawned) = &child.unexecuted else { continue };
            let reaped = changes.iter().any(|change| matches!(change, (pid, Change::Ended(_)) if *pid == spawned.pid));
            match spawned.executed(command) {
                None if !reaped => continue,
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

    /// What the ends and stops of processes mean. `may_follow`: whether another process may take the place of a child that
    /// has ended; then nothing is said of its end.
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
                    let is_shared = child.group.is_none();
                    let wants_terminal = matches!(signal, Signal::TTIN | Signal::TTOU);
                    // hupwrap follows a stop of the job in the foreground: it is the same job to the shell.
                    let is_followed = is_shared || (!wants_terminal && terminal::front() == child.group);
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
                        events.push(Event::Signal { signal, sender: Sender::Kernel, hung_up: false });
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
            match is_soon && self.is_one_generation() && wait::has_children() {
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
            (Purpose::Try(generation), Ok(None)) => Some(Event::Ready(generation)),
            (Purpose::Try(generation), Ok(Some(address))) => self.connect(generation, address),
            (Purpose::Try(generation), Err(reason)) => Some(self.child_mut(generation)?.tried_in_vain(reason)),
        }
    }

    /// Begins to connect to a child. The event for a connection that is refused at once.
    pub(super) fn connect(&mut self, generation: GenerationId, to: SocketAddr) -> Option<Event> {
        let child = self.child_mut(generation)?;
        match Attempt::begin(to) {
            Ok(attempt) => {
                child.attempt = Some(attempt);
                None
            }
            Err(reason) => Some(child.tried_in_vain(reason)),
        }
    }

    /// Why the last try found that the newest child is not ready.
    pub(super) fn why_not_ready(&self) -> Option<&str> {
        self.children.iter().max_by_key(|child| child.generation)?.not_ready_because.as_deref()
    }

    /// Whether every child belongs to the same generation.
    pub(super) fn is_one_generation(&self) -> bool {
        self.children.len() == 1 && self.foreign_children.is_empty() && self.probe.is_none() && self.helpers.is_empty()
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
    pub(super) fn signal(&self, generation: GenerationId, to: To, signal: Signal) {
        let said = |pid: Pid, result: nix::Result<()>| {
            if let Err(error @ Errno::EPERM) = result {
                report::say(&messages::not_sent(signal, pid, start_error::describe(error)));
            }
        };
        let pid = self.child(generation).and_then(|child| child.pid);
        let group = self.child(generation).and_then(|child| child.group);
        match (to, pid) {
            (To::Child, Some(child)) => said(child, signals::kill(child, signal)),
            (To::Group, Some(child)) if group.is_some() => {
                // Before the setpgid of the child, and ours, this group does not exist.
                let result = group.map_or(Ok(()), |group| signals::kill_group(group, signal));
                said(child, if result == Err(Errno::ESRCH) { signals::kill(child, signal) } else { result });
            }
            (To::Child | To::Group, None) => {}
            (To::Group | To::Rest, child) => match self.members(generation) {
                Ok(members) => members.iter().for_each(|seen| said(seen.pid, seen.kill(signal))),
                Err(_) if self.own_pid == 1 && self.children.len() == 1 => signals::kill_everyone(signal),
                // The other members cannot be found, but the child is known.
                Err(_) => child.into_iter().for_each(|child| said(child, signals::kill(child, signal))),
            },
        }
    }

    /// Whether hupwrap may stop the children: one that has changed its user may be out of reach.
    ///
    /// # Errors
    /// Says which one it may not stop.
    pub(super) fn may_stop(&self) -> Result<(), StartError> {
        match self.children.iter().filter_map(|child| child.pid).find(|pid| !signals::may_signal(*pid)) {
            Some(pid) => {
                let reason = format!("pid {pid} runs as another user, and hupwrap may not signal it");
                Err(StartError { code: OWN_FAILURE, transient: false, reason })
            }
            None => Ok(()),
        }
    }

    /// The generation that a process belongs to, as far as can be seen: its sender may have ended.
    pub(super) fn generation_of(&self, pid: Pid) -> Option<GenerationId> {
        let was_asked = |child: &Child| child.asked.iter().flatten().any(|seen| seen.pid == pid);
        if let Some(child) = self.children.iter().find(|child| child.pid == Some(pid) || was_asked(child)) {
            return Some(child.generation);
        }
        let root = proc::root_of(pid)?;
        (!self.is_foreign(root.pid)).then(|| self.owner(&root))
    }

    /// Whether a child belongs to no generation.
    pub(super) fn is_foreign(&self, pid: Pid) -> bool {
        self.foreign_pids().any(|foreign| foreign == pid)
    }

    fn foreign_pids(&self) -> impl Iterator<Item = Pid> {
        let probe = self.probe.iter().filter_map(Probe::pid);
        self.foreign_children.iter().copied().chain(probe).chain(self.helpers.iter().map(Helper::pid))
    }

    /// Every process of a generation: the child, its descendants, and those of its orphans that hupwrap has adopted.
    /// An error if /proc cannot tell.
    pub(super) fn members(&self, generation: GenerationId) -> Result<Vec<ProcStat>, Unseen> {
        let all = proc::descendants(&self.foreign_pids().collect::<Vec<_>>())?;
        Ok(all.into_iter().filter(|(root, _)| self.owner(root) == generation).map(|(_, seen)| seen).collect())
    }

    /// The generation of a process that is a child of hupwrap. An orphan does not tell whose it was. While there are two
    /// generations, its age, its group or its environment shows it. If nothing shows it, the orphan belongs to the new
    /// generation: that one ends too, but later.
    pub(super) fn owner(&self, root: &ProcStat) -> GenerationId {
        if let Some(child) = self.children.iter().find(|child| child.pid == Some(root.pid)) {
            return child.generation;
        }
        let newest = self.children.iter().max_by_key(|child| child.generation);
        let Some(newest) = newest else { return 0 };
        let is_older = newest.born.as_ref().is_some_and(|born| root.is_older_than(born));
        // A hupwrap below numbers its own starts.
        let is_ours = || root.var(PID_VARIABLE).is_some_and(|pid| pid.parse() == Ok(self.own_pid));
        let number = || root.var(GENERATION_VARIABLE).filter(|_| is_ours()).and_then(|number| number.parse().ok());
        let belongs = |child: &&Child| {
            child.generation != newest.generation
                && (is_older
                    || child.group == Some(root.group)
                    || (newest.group != Some(root.group) && number() == Some(child.generation)))
        };
        self.children.iter().find(belongs).unwrap_or(newest).generation
    }

    /// Asks every member of a generation to end that was not asked before.
    pub(super) fn ask_rest(&mut self, generation: GenerationId, signal: Signal) {
        let Ok(members) = self.members(generation) else {
            self.signal(generation, To::Rest, signal);
            return self.signal(generation, To::Rest, Signal::CONT);
        };
        let Some(asked) = self.child_mut(generation).and_then(|child| child.asked.as_mut()) else { return };
        let new: Vec<ProcStat> = members.into_iter().filter(|seen| !asked.iter().any(|known| known.is(seen))).collect();
        asked.extend(&new);
        for seen in new {
            if let Err(error @ Errno::EPERM) = seen.kill(signal) {
                report::say(&messages::not_sent(signal, seen.pid, start_error::describe(error)));
            }
            let _ = seen.kill(Signal::CONT);
        }
    }

    /// Begins to look for what is left of a generation. `group_asked`: its process group was asked to end before.
    pub(super) fn sweep(&mut self, generation: GenerationId, group_asked: bool) -> Option<Event> {
        let mut asked = if group_asked { self.members(generation).unwrap_or_default() } else { Vec::new() };
        let shared = self.shared_group;
        let Some(child) = self.child_mut(generation) else { return Some(Event::RestGone(generation)) };
        asked.retain(|seen| shared || Some(seen.group) == child.group);
        child.asked = Some(asked);
        self.survey(generation)
    }

    /// Whether anything is left of a generation.
    fn survey(&mut self, generation: GenerationId) -> Option<Event> {
        let alone = self.children.len() == 1;
        let members = self.members(generation);
        self.left_groups.extend(members.iter().flatten().map(|seen| seen.group));
        self.surveyed = clock::now();
        self.unseen = matches!(members, Err(Unseen::NotNow));
        let remains = match members {
            // A scan of /proc takes time, and can miss a process that is moved to another parent in between. Where every
            // child belongs to this generation, the kernel knows for sure.
            Ok(members) => !members.is_empty() || (self.is_one_generation() && wait::has_children()),
            // Without /proc only pid 1 can reach them, and only pid 1 must.
            Err(Unseen::NoProc) => self.own_pid == 1 && alone,
            Err(Unseen::NotNow) => wait::has_children(),
        };
        if remains {
            return Some(Event::RestRemains(generation));
        }
        self.child_mut(generation)?.asked = None;
        Some(Event::RestGone(generation))
    }
}
