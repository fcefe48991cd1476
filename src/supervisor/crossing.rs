//! The re-exec: what the new hupwrap is told, and which descriptors it keeps.

use std::os::fd::{AsFd, AsRawFd};

use super::Supervisor;
use super::service_manager::ServiceManager;
use super::status_writer::StatusWriter;
use crate::exit::Ending;
use crate::machine::Snapshot;
use crate::machine::event::Event;
use crate::sys::notify_socket::NotifySocket;
use crate::sys::pidfile::Pidfile;
use crate::sys::reexec::Origin;
use crate::sys::sockets::Socket;
use crate::sys::terminal::Modes;
use crate::sys::{clock, fd, start_error};
use crate::text::handover::Handover;

impl Supervisor {
    /// Executes the new hupwrap in this process, if it is time. Every event that was read must be told before: a signal
    /// that was read is no longer pending, so an exec would lose it.
    pub(super) fn reexec_if_due(&mut self) -> Option<Ending> {
        let machine = self.machine.snapshot().filter(|_| self.terminal.held.is_none())?;
        if machine.child.is_none() {
            // The new hupwrap does not know which process groups the last child has left.
            self.prepare_terminal();
        }
        if machine.again.is_none() {
            let service = self.service();
            self.manager.iter_mut().for_each(|manager| manager.crossing(clock::now(), &service));
        }
        let state = self.handover(machine);
        let kept = self.keep_over_exec(true);
        let reason = match (self.family.probe.take(), kept) {
            (Some(probe), Ok(())) => probe.exec(&self.startup, &state),
            (_, Err(error)) => format!("the descriptors cannot be kept open: {}", start_error::describe(error)),
            (None, _) => "it was not proven".to_owned(),
        };
        // At worst they stay open in the next child as well.
        let _ = self.keep_over_exec(false);
        self.tell(Event::Refused(reason))
    }

    /// The state that would cross if the new file were proven now. The probe reads it: a file that does not understand
    /// it is refused before anything is touched. A copy of the machine tells: it hears that all is well.
    pub(super) fn state_for_proof(&self) -> Vec<u8> {
        let mut machine = self.machine.clone();
        let (now, ignored) = (clock::now(), &mut Vec::new());
        for child in &self.family.children {
            if child.unexecuted.is_some() {
                machine.handle(now, Event::Executed(child.generation), ignored);
            }
            if machine.awaits_readiness(child.generation) {
                machine.handle(now, Event::MainFound(child.generation), ignored);
                machine.handle(now, Event::Ready(child.generation), ignored);
            }
        }
        machine.handle(now, Event::Proven, ignored);
        machine.snapshot().map(|machine| self.handover(machine).encode()).unwrap_or_default()
    }

    fn handover(&self, machine: Snapshot) -> Handover {
        let child = machine.child.and_then(|generation| self.family.child(generation));
        Handover {
            writer: crate::NAME_AND_VERSION.to_owned(),
            child: child.and_then(|child| child.pid),
            child_group: child.and_then(|child| child.group),
            announced: child.and_then(|child| child.announced),
            file_before: child.and_then(|child| child.file_before),
            ended: child.and_then(|child| child.ended.clone()),
            notify: child.and_then(|child| child.notify.as_ref()).map(NotifySocket::facts),
            machine,
            shared_group: self.family.shared_group,
            had_terminal: self.terminal.exists,
            terminal_modes: self.terminal.modes.as_ref().map(Modes::to_bytes),
            non_blocking: Some(self.terminal.non_blocking.0),
            mask: self.startup.mask,
            chld_ignored: self.startup.chld_ignored,
            foreign_children: self.family.foreign_children.clone(),
            first_child: self.family.first,
            sockets: self.sockets.iter().map(Socket::facts).cloned().collect(),
            non_blocking_sockets: self.sockets.iter().filter_map(Socket::non_blocking).collect(),
            origin: self.origin.as_ref().map(Origin::places).unwrap_or_default(),
            pidfile: self.pidfile.as_ref().map(Pidfile::fact),
            requests: self.status_writer.as_ref().map(StatusWriter::requests).unwrap_or_default(),
            watched: self.watch.as_ref().map(|watch| watch.digests().to_vec()).unwrap_or_default(),
            signal_fd: Some(self.signal_fd.as_fd().as_raw_fd()),
            unsent: self.manager.as_ref().map(ServiceManager::unsent).unwrap_or_default(),
        }
    }

    /// Whether the descriptors that the new hupwrap goes on with stay open over an exec.
    fn keep_over_exec(&self, keep: bool) -> nix::Result<()> {
        let children = self.family.children.iter();
        let mut all = vec![fd::keep_over_exec(&self.signal_fd, keep)];
        all.extend(self.pidfile.iter().map(|pidfile| pidfile.set_crossing(keep)));
        all.extend(self.sockets.iter().map(|socket| socket.stays_open(keep)));
        all.extend(children.filter_map(|child| child.notify.as_ref()).map(|notify| notify.set_crossing(keep)));
        all.into_iter().collect()
    }
}
