//! Which process belongs to which generation, and what remains of one whose child has ended.

use super::child::Child;
use super::family::{Family, GENERATION_VARIABLE, PID_VARIABLE, UNSEEN};
use super::helper::Helper;
use crate::exit::OWN_FAILURE;
use crate::facts::{GenerationId, StartError};
use crate::machine::effect::To;
use crate::machine::event::Event;
use crate::report;
use crate::signal::Signal;
use crate::sys::proc::{self, Patience, ProcStat, Unseen};
use crate::sys::reexec::Probe;
use crate::sys::{Pid, clock, signals, start_error, wait};
use crate::text::messages;

impl Family {
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

    /// Whether KILL would reach the child of a generation.
    pub(super) fn may_kill(&self, generation: GenerationId) -> bool {
        self.child(generation).and_then(|child| child.pid).is_none_or(signals::may_signal)
    }

    /// The generation that a process belongs to, as far as can be seen: it may have ended. A dead orphan that shows
    /// nothing is taken for one of the generation that is being stopped.
    pub(super) fn generation_of(&self, pid: Pid, stopped: Option<GenerationId>) -> Option<GenerationId> {
        let was_asked = |child: &Child| child.asked.iter().flatten().any(|seen| seen.pid == pid);
        if let Some(child) = self.children.iter().find(|child| child.pid == Some(pid) || was_asked(child)) {
            return Some(child.generation);
        }
        let root = proc::root_of(pid).filter(|root| !self.is_foreign_root(root))?;
        let patience = Patience::new();
        let is_placed = root.var(GENERATION_VARIABLE, &patience).is_some()
            || self.children.iter().any(|child| child.pid == Some(root.pid) || child.group == Some(root.group));
        stopped.filter(|_| !is_placed).or_else(|| Some(self.owner(&root, &patience)))
    }

    /// Whether a child belongs to no generation.
    pub(super) fn is_foreign(&self, pid: Pid) -> bool {
        self.foreign_pids().any(|foreign| foreign == pid)
    }

    fn foreign_pids(&self) -> impl Iterator<Item = Pid> {
        let probe = self.probe.iter().filter_map(Probe::pid);
        self.foreign_children.iter().copied().chain(probe).chain(self.helpers.iter().map(Helper::pid))
    }

    /// The same of a child that was seen. One that is older than the first child is an orphan that hupwrap has adopted
    /// from a process before it. Within a hundredth of a second the pid decides. If the pids have wrapped around, the
    /// process counts as younger, because most orphans are.
    pub(super) fn is_foreign_root(&self, root: &ProcStat) -> bool {
        self.is_foreign(root.pid) || self.first.is_some_and(|first| root.is_older_than(first))
    }

    /// A child was started.
    pub(super) fn add(&mut self, child: Child) {
        if self.first == Some(UNSEEN) && self.children.is_empty() {
            self.first = child.pid.and_then(ProcStat::at_birth).map(|seen| seen.identity()).or(self.first);
        }
        self.children.push(child);
    }

    /// Every process of a generation: the child, its descendants, and those of its orphans that hupwrap has adopted;
    /// without those that have refused a signal. An error if /proc cannot tell.
    pub(super) fn members(&self, generation: GenerationId) -> Result<Vec<ProcStat>, Unseen> {
        let all = proc::descendants(|root| self.is_foreign_root(root))?;
        let refused = |seen: &ProcStat| self.refused().any(|known| known.is(seen));
        let patience = Patience::new();
        let is_member = |root: &ProcStat| self.owner(root, &patience) == generation;
        let members = all.into_iter().filter(|(root, seen)| is_member(root) && !refused(seen));
        Ok(members.map(|(_, seen)| seen).collect())
    }

    /// The generation of a process that is a child of hupwrap. An orphan does not tell whose it was. While there are
    /// two generations, its age, its group or its environment shows it. If nothing shows it, the orphan belongs to the
    /// new generation: that one ends too, but later.
    pub(super) fn owner(&self, root: &ProcStat, patience: &Patience) -> GenerationId {
        if let Some(child) = self.children.iter().find(|child| child.pid == Some(root.pid)) {
            return child.generation;
        }
        let newest = self.children.iter().max_by_key(|child| child.generation);
        let Some(newest) = newest else { return 0 };
        let is_older = newest.born.as_ref().is_some_and(|born| root.is_older_than(born.identity()));
        // A hupwrap below numbers its own starts.
        let is_ours = || root.var(PID_VARIABLE, patience).is_some_and(|pid| pid.parse() == Ok(self.own_pid));
        let number =
            || root.var(GENERATION_VARIABLE, patience).filter(|_| is_ours()).and_then(|number| number.parse().ok());
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
        self.signal_rest(generation, &new, signal);
        for seen in new {
            let _ = seen.kill(Signal::CONT);
        }
    }

    /// Sends a signal to processes of the rest. One that refuses it is no longer waited for.
    pub(super) fn signal_rest(&mut self, generation: GenerationId, rest: &[ProcStat], signal: Signal) {
        for seen in rest {
            if let Err(error) = seen.kill(signal) {
                report::say(&messages::not_sent(signal, seen.pid, start_error::describe(error)));
                self.child_mut(generation).into_iter().for_each(|child| child.refused.push(*seen));
                self.unseen = true;
            }
        }
    }

    /// The processes that have refused a signal.
    pub(super) fn refused(&self) -> impl Iterator<Item = &ProcStat> {
        self.children.iter().flat_map(|child| &child.refused)
    }

    /// Notes who is in the process group of a child that is about to be asked to end. A process that joins it later has
    /// not heard the signal.
    pub(super) fn note_group(&mut self, generation: GenerationId) {
        if self.child(generation).is_none_or(|child| child.in_group.is_some()) {
            return;
        }
        let mut members = self.members(generation).unwrap_or_default();
        let shared = self.shared_group;
        let Some(child) = self.child_mut(generation) else { return };
        let group = if shared { None } else { child.look_group_up() };
        // A signal to a group is sent if one of its members does not refuse it.
        members.retain(|seen| group.is_none_or(|group| seen.group == group) && signals::may_signal(seen.pid));
        child.in_group = Some(members);
    }

    /// Begins to look for what is left of a generation. `group_asked`: its process group was asked to end before.
    pub(super) fn sweep(&mut self, generation: GenerationId, group_asked: bool) -> Option<Event> {
        let Some(child) = self.child_mut(generation) else { return Some(Event::RestGone(generation)) };
        child.asked = Some(child.in_group.take().filter(|_| group_asked).unwrap_or_default());
        self.survey(generation)
    }

    /// Whether anything is left of a generation.
    pub(super) fn survey(&mut self, generation: GenerationId) -> Option<Event> {
        // Without any child, nobody older is left.
        self.first = self.first.filter(|_| wait::has_children() != Some(false));
        let members = self.members(generation);
        for group in members.iter().flatten().map(|seen| seen.group) {
            if !self.left_groups.contains(&group) {
                self.left_groups.push(group);
            }
        }
        self.surveyed = clock::now();
        self.unseen = matches!(members, Err(Unseen::NotNow));
        let remains = match members {
            // A scan of /proc takes time, and can miss a process that is moved to another parent in between. Where
            // every child belongs to this generation, the kernel knows for sure.
            Ok(members) => !members.is_empty() || (self.is_one_generation() && wait::has_children() == Some(true)),
            // Without /proc only pid 1 can reach them, and only pid 1 must.
            Err(Unseen::NoProc) => self.is_everyone(),
            Err(Unseen::NotNow) => wait::has_children() != Some(false),
        };
        if remains {
            return Some(Event::RestRemains(generation));
        }
        self.child_mut(generation)?.asked = None;
        Some(Event::RestGone(generation))
    }
}
