//! What a child or somebody else has changed for the next child: sockets, and files of hupwrap that were removed by a
//! child that closes its socket, or by a cleaner of /tmp.

use super::Supervisor;
use super::status_writer::StatusWriter;
use crate::report;
use crate::sys::sockets::Socket;
use crate::sys::sockets::restore::{Restored, restore};
use crate::text::messages;

impl Supervisor {
    /// Leaves the sockets to the next child as the first one found them. A child that still runs has set what it needs.
    pub(super) fn prepare_sockets(&self) {
        if self.family.children.iter().all(|child| child.pid.is_none() && child.ended.is_none()) {
            self.sockets.iter().for_each(Socket::restore_blocking);
        }
    }

    /// Makes the sockets work again, and creates the pidfile and the status file again where they are missing. To be
    /// called at each request and when a child is gone, before the next one is started.
    pub(super) fn restore_files(&mut self) {
        let mut troubles = Vec::new();
        for Restored { name, shut_down, is_new } in restore(&mut self.sockets) {
            match is_new {
                Ok(is_new) => report::say(&messages::restored(&name, shut_down, is_new)),
                Err(reason) => troubles.push((name, shut_down, reason)),
            }
        }
        if let Some(pidfile) = &mut self.pidfile {
            let path = pidfile.path().to_string_lossy().into_owned();
            match pidfile.restore(self.startup.pid) {
                Ok(true) => report::say(&messages::restored(&path, false, false)),
                Ok(false) => {}
                Err(reason) => troubles.push((path, false, reason)),
            }
        }
        // What was said before and has not changed is not said again.
        for (name, shut_down, reason) in troubles.iter().filter(|trouble| !self.troubles.contains(trouble)) {
            report::say(&messages::not_restored(name, *shut_down, reason));
        }
        self.troubles = troubles;
        self.status_writer.iter_mut().for_each(StatusWriter::restore);
    }
}
