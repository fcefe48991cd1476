//! What the kernel has for hupwrap: signals, who sent them, and children that have ended.

use super::Supervisor;
use crate::exit::Change;
use crate::facts::Sender;
use crate::machine::event::Event;
use crate::signal::Signal;
use crate::sys::signals::{self, Received};
use crate::sys::{Pid, clock, wait};

/// How often one turn reads signals. It reads once more after each death, so that nobody is forgotten who has sent
/// something. So many deaths, each after a read, are a flood.
const READS_A_TURN: usize = 64;

impl Supervisor {
    /// The signals that have come, with their senders, and every child that has changed.
    pub(super) fn read_and_reap(&mut self, signalled: bool) -> (Vec<Received>, Vec<(Pid, Change)>) {
        let (mut received, mut changes) = (Vec::new(), Vec::new());
        let is_due = self.machine.deadline().is_some_and(|deadline| deadline <= clock::now());
        // For a child that ended before a re-exec, the hupwrap before this one may have read the CHLD.
        let mut must_reap = self.before.is_some() || self.reaps_again || is_due;
        let mut must_read = signalled;
        for _ in 0..READS_A_TURN {
            if must_read {
                self.signal_fd.drain(&mut received);
                // CHLD comes before its child can be waited for.
                must_reap |= received.iter().any(|received| received.signal == Signal::CHLD);
                received.retain(|received| received.signal != Signal::CHLD || received.sender == Sender::Process);
                // Before anybody is reaped who may have sent something.
                self.name_senders(&mut received, &changes);
            }
            if !must_reap {
                break;
            }
            changes.extend(self.reap());
            // A process that was reaped just now may have sent a signal since the read. It belongs to this turn too.
            (must_reap, must_read) = (false, self.signal_fd.is_full());
        }
        (received, changes)
    }

    /// Every child that has changed. Those that have ended are reaped.
    fn reap(&mut self) -> Vec<(Pid, Change)> {
        let mut changes = Vec::new();
        self.reaps_again = loop {
            match wait::reap() {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        changes
    }

    /// Finds out which signals come from a process of a generation, where that matters: an echo of a stop has no
    /// effect, and a stop that a child sends to its own group stops hupwrap no more than the kernel would. Those in
    /// `changes` were reaped, and /proc does not show them any longer.
    fn name_senders(&self, received: &mut [Received], changes: &[(Pid, Change)]) {
        let stopped = self.machine.stopped();
        for Received { signal, sender, pid } in received.iter_mut().filter(|new| new.sender == Sender::Process) {
            let may_echo = stopped.is_some() && signal.may_echo();
            if !may_echo && !signal.is_job_control() {
                continue;
            }
            let reaped = || changes.iter().any(|change| change.0 == *pid) && !self.family.is_foreign(*pid);
            let generation = self.family.generation_of(*pid, stopped);
            if let Some(generation) = generation.or_else(|| stopped.filter(|_| reaped())) {
                *sender = Sender::Member(generation);
            }
        }
    }

    /// Whether a later signal undoes this one. The kernel discards a pending CONT when a stop signal comes, and the
    /// reverse. The same must hold for signals that were read but not handled yet. `continued`: a CONT was read along
    /// with the event.
    pub(super) fn is_undone(&self, event: &Event, continued: bool) -> bool {
        match event {
            // How the child was stopped before a CONT that is for it too is no reason to follow it. A stop that waits
            // came after that CONT, and it is the one that has stopped the child.
            Event::ChildStopped(_) => self.resumed || (continued && !signals::stop_is_pending()),
            Event::Signal { signal: Signal::CONT, .. } => signals::stop_is_pending(),
            Event::Signal { signal, .. } => self.resumed && signal.is_job_control(),
            _ => false,
        }
    }
}
