//! The re-exec: what the new hupwrap is told, and which descriptors it keeps.

use super::Supervisor;
use super::status_writer::StatusWriter;
use crate::exit::Ending;
use crate::machine::event::Event;
use crate::sys::clock;
use crate::sys::files::Pidfile;
use crate::sys::notify_socket::NotifySocket;
use crate::sys::sockets::Socket;
use crate::text::handover::Handover;

impl Supervisor {
    /// Executes the new hupwrap in this process, if it is time. Every event that was read must be told before: a signal
    /// that was read is no longer pending, so an exec would lose it.
    pub(super) fn reexec_if_due(&mut self) -> Option<Ending> {
        let machine = self.machine.snapshot()?;
        if machine.again.is_none() {
            self.manager.iter_mut().for_each(|manager| manager.crossing(clock::now()));
        }
        let child = machine.child.and_then(|generation| self.family.child(generation));
        let state = Handover {
            writer: crate::NAME_AND_VERSION.to_owned(),
            child: child.and_then(|child| child.pid),
            notify: child.and_then(|child| child.notify.as_ref()).map(NotifySocket::facts),
            machine,
            shared_group: self.family.shared_group,
            had_terminal: self.had_terminal,
            mask: self.startup.mask,
            chld_ignored: self.startup.chld_ignored,
            foreign_children: self.family.foreign_children.clone(),
            sockets: self.sockets.iter().map(Socket::facts).cloned().collect(),
            ready_at: self.ready_at,
            pidfile: self.pidfile.as_ref().map(Pidfile::fact),
            requests: self.status_writer.as_ref().map(StatusWriter::requests).unwrap_or_default(),
        };
        self.keep_over_exec(true);
        let reason = match self.family.probe.take() {
            Some(probe) => probe.exec(&self.startup, &state),
            None => "it was not proven".to_owned(),
        };
        self.keep_over_exec(false);
        self.tell(Event::Refused(reason))
    }

    /// Whether the descriptors that the new hupwrap goes on with stay open over an exec.
    fn keep_over_exec(&self, keep: bool) {
        self.pidfile.iter().for_each(|pidfile| pidfile.set_crossing(keep));
        self.sockets.iter().for_each(|socket| socket.stays_open(keep));
        let children = self.family.children.iter();
        children.filter_map(|child| child.notify.as_ref()).for_each(|notify| notify.set_crossing(keep));
    }
}
