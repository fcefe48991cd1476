//! A command that replaces its main process (contract, section 9). When the process that hupwrap started ends, and
//! `--child-pidfile` or `MAINPID=` names another process of its generation, that one is the child from then on. The
//! machine is told only of the time without a child, while the main process is waited for: its generation goes on, and
//! the child has another pid.

use std::ffi::OsStr;
use std::time::Duration;

use super::Supervisor;
use super::child::Child;
use super::family::Family;
use crate::config::{Config, KillMode, Limit};
use crate::exit::ExitStatus;
use crate::facts::GenerationId;
use crate::machine::effect::To;
use crate::machine::event::Event;
use crate::report;
use crate::signal::{Signal, SignalSet};
use crate::sys::proc::{self, Patience, ProcStat};
use crate::sys::{Pid, child_pidfile, clock, wait};
use crate::text::main_process::{Announced, EndedChild};
use crate::text::messages::LogLine;

/// A command that goes into the background ends this soon.
const SOON: Duration = Duration::from_secs(5);

/// What was found where a main process may be named.
enum Named {
    /// A process that can take the place of the child.
    Process(Pid),
    /// A process of the generation that is not a child of hupwrap yet: the process that started it lives.
    Later(String),
    /// The process that has ended: it was the main process.
    Itself,
    /// No process that can. Why, unless that needs no explanation.
    Nobody(Option<String>),
}

/// What is kept of a child that has ended, where a main process was or may be named.
pub(super) fn may_follow(child: &Child, status: ExitStatus, config: &Config) -> Option<EndedChild> {
    let may_be_named = config.child_pidfile.is_some() || child.announced.is_some();
    may_be_named.then_some(EndedChild { pid: child.number, status, held: SignalSet::EMPTY })
}

impl Family {
    /// Looks for the main process of a generation whose child has ended.
    fn main_process(&self, child: &Child, file: Option<&OsStr>) -> Named {
        let announced = child.announced.map(|Announced { pid, began }| match self.standing(child, pid, began) {
            Named::Nobody(reason) => Named::Nobody(reason.map(|reason| format!("MAINPID={pid} names {reason}"))),
            Named::Itself => Named::Nobody(None),
            named => named,
        });
        let in_file = file.map(|path| {
            let path_shown = path.to_string_lossy();
            let explained = |reason: String| format!("--child-pidfile '{path_shown}' names {reason}");
            match child_pidfile::read(path) {
                Ok(Some((pid, written))) => match self.standing(child, pid, None) {
                    Named::Nobody(reason) => Named::Nobody(reason.map(explained)),
                    // Another process had that pid when the file was written.
                    Named::Itself if child.file_before == Some(written) => Named::Nobody(None),
                    named => named,
                },
                Ok(None) => Named::Nobody(None),
                Err(reason) => Named::Nobody(Some(format!("--child-pidfile '{path_shown}': {reason}"))),
            }
        });
        match (announced, in_file) {
            (Some(named @ Named::Process(_)), _) | (_, Some(named @ Named::Process(_))) => named,
            (Some(named @ Named::Later(_)), _) | (_, Some(named)) | (Some(named), None) => named,
            (None, None) => Named::Nobody(None),
        }
    }

    /// Whether a process can take the place of a child. `began`: when it began, where that is known; another process
    /// may have its pid by now.
    fn standing(&self, child: &Child, pid: Pid, began: Option<u64>) -> Named {
        let is_itself = child.ended.as_ref().is_some_and(|ended| ended.pid == pid);
        let foreign = || Named::Nobody(Some(format!("pid {pid}, which is not of its generation")));
        if proc::shows_us().is_err() {
            let is_ours = wait::is_child(pid) && self.is_one_generation();
            return match (is_ours, is_itself) {
                (true, _) => Named::Process(pid),
                (false, true) => Named::Itself,
                (false, false) => foreign(),
            };
        }
        let seen = ProcStat::at(pid).filter(|seen| began.is_none_or(|began| seen.began() == began));
        let Some(seen) = seen else {
            let reason = || format!("pid {pid}, which does not run");
            return match is_itself {
                true => Named::Itself,
                // It has ended since hupwrap listened, and may have named another one before. The next turn hears that.
                false if wait::is_certainly_child(pid) => Named::Later(reason()),
                false => Named::Nobody(Some(reason())),
            };
        };
        match proc::root_of(seen.pid) {
            Some(root) if self.is_foreign_root(&root) => foreign(),
            Some(root) if self.owner(&root, &Patience::new()) != child.generation => foreign(),
            Some(root) if root.pid == pid => Named::Process(pid),
            Some(_) => Named::Later(format!("the process that has started pid {pid} still runs")),
            None => foreign(),
        }
    }

    /// Whether a process of a generation lives. Where every child belongs to this one, the kernel knows.
    fn lives(&self, generation: GenerationId) -> bool {
        match wait::has_children() {
            Some(true) if self.is_one_generation() => true,
            Some(false) => false,
            _ => self.members(generation).is_ok_and(|all| !all.is_empty()),
        }
    }
}

impl Supervisor {
    /// Looks for the main processes of children that have ended. Returns which ones are waited for from now on, which
    /// were found after that, and the ends of children that have none.
    pub(super) fn follow(&mut self) -> Vec<Event> {
        let ended = self.family.children.iter().filter(|child| child.ended.is_some()).map(|child| child.generation);
        let ended: Vec<GenerationId> = ended.collect();
        ended.into_iter().filter_map(|generation| self.follow_one(generation)).collect()
    }

    fn follow_one(&mut self, generation: GenerationId) -> Option<Event> {
        let file = self.config.child_pidfile.as_deref();
        let stop = self.machine.stop_signal(generation);
        let since = self.machine.awaits_main(generation);
        let child = self.family.child(generation)?;
        let ended = child.ended.as_ref()?;
        let (reason, is_late) = match self.family.main_process(child, file) {
            Named::Process(pid) => {
                self.hand_over(generation, pid, stop);
                return since.is_some().then_some(Event::MainFound(generation));
            }
            Named::Later(reason) => (Some(reason), true),
            Named::Itself => (None, false),
            Named::Nobody(reason) => (reason, file.is_some()),
        };
        // While it is stopped nobody waits for another; but see `signal`.
        let may_wait = is_late && (stop.is_none() || since.is_some());
        let now = clock::now();
        let in_time = match self.config.ready_timeout {
            Limit::Never => true,
            Limit::After(limit) => {
                let until = since.unwrap_or(now).saturating_add(limit);
                now < until.max(self.machine.extended(generation).unwrap_or(until))
            }
        };
        if may_wait && in_time && self.family.lives(generation) {
            return since.is_none().then_some(Event::MainAwaited(generation));
        }
        let shown = file.map(|file| format!("--child-pidfile '{}' names none", file.to_string_lossy()));
        let reason = reason.or(shown.filter(|_| since.is_some()));
        if let (Some(reason), None) = (reason, stop) {
            report::say(&self.words.not_followed(generation, ended.pid, ended.status, &reason));
        }
        self.give_up(generation)
    }

    /// No main process takes the place of a child that has ended.
    fn give_up(&mut self, generation: GenerationId) -> Option<Event> {
        let ended = self.family.child_mut(generation)?.ended.take()?;
        Some(Event::ChildEnded(generation, ended.status))
    }

    /// A process takes the place of a child that has ended. `stop`: the signal that this child has got in order to end.
    fn hand_over(&mut self, generation: GenerationId, pid: Pid, stop: Option<Signal>) {
        let own_group = !self.family.shared_group;
        let Some(child) = self.family.child_mut(generation) else { return };
        let Some(ended) = child.ended.take() else { return };
        (child.pid, child.number, child.announced) = (Some(pid), pid, None);
        let group_before = child.group;
        let keeps_group = !own_group || child.look_group_up() == group_before;
        report::say(&self.words.followed(generation, pid, ended.pid, ended.status));
        let whole_group = self.config.kill_mode == KillMode::Group;
        let to = if whole_group { To::Group } else { To::Child };
        if let Some(signal) = stop.filter(|_| !(whole_group && keeps_group)) {
            self.family.signal(generation, to, signal);
            self.family.signal(generation, to, Signal::CONT);
        }
        ended.held.iter().for_each(|signal| self.family.signal(generation, to, signal));
    }

    /// Sends a signal, as the machine orders it. While the main process of a generation is waited for, a stop ends the
    /// waiting: what lives of the generation is the rest of it. In `process` mode there is no such sweep, so the
    /// processes of the generation get the signal. Other signals wait for the main process.
    pub(super) fn signal(&mut self, generation: GenerationId, to: To, signal: Signal) -> Option<Event> {
        let is_stopped = self.machine.stop_signal(generation).is_some();
        let Some(ended) = self.family.child_mut(generation).and_then(|child| child.ended.as_mut()) else {
            self.family.signal(generation, to, signal);
            return None;
        };
        let is_immediate =
            signal.is_job_control() || matches!(signal, Signal::CONT | Signal::WINCH | Signal::KILL | Signal::STOP);
        if !is_stopped && !is_immediate {
            ended.held.insert(signal);
            return None;
        }
        if is_stopped && self.config.kill_mode == KillMode::Mixed {
            return self.give_up(generation);
        }
        self.family.signal(generation, To::Rest, signal);
        if is_stopped && self.config.kill_mode == KillMode::Group {
            self.family.signal(generation, To::Rest, Signal::CONT);
            return self.give_up(generation);
        }
        None
    }

    /// The hint for a command that has gone into the background: it ends with 0 soon after its start, and leaves
    /// processes.
    pub(super) fn background(&self, event: &Event) -> Option<LogLine> {
        let Event::ChildEnded(generation, ExitStatus::Exited(0)) = event else { return None };
        let child = self.family.child(*generation)?;
        let is_soon = clock::now().saturating_sub(child.started?) < SOON;
        let leaves = is_soon && self.family.members(*generation).is_ok_and(|members| !members.is_empty());
        leaves.then(|| self.words.backgrounded(*generation, child.number, self.config.child_pidfile.is_some()))
    }
}
