//! Reports what happens: lines for people, the status file, the service manager.

use super::Supervisor;
use super::service_manager::Service;
use crate::machine::event::Event;
use crate::machine::message::Message;
use crate::report;
use crate::sys::clock;
use crate::text::{events, messages};

impl Supervisor {
    /// Says what happens, to those who want to hear all of it.
    pub(super) fn mention(&mut self, event: &Event) {
        match event {
            Event::Signal { signal, .. } if report::is_said(&events::SIGNAL) => report::say(&messages::signal(*signal)),
            Event::Executed(generation) => self.say(&Message::Started(*generation)),
            _ => {}
        }
    }

    /// Brings the status file up to date.
    pub(super) fn update_status(&mut self) {
        let family = &self.family;
        if let Some(status_writer) = &mut self.status_writer {
            status_writer.update(&self.machine.status(), |generation| family.number(generation));
        }
    }

    pub(super) fn say(&mut self, line: &Message) {
        let pid = |generation| self.family.number(generation);
        let serves = self.machine.serving().is_some();
        let last_try = self.family.why_not_ready();
        // Most messages are not wanted: they are not put into words.
        let text = (!line.is_usual() || report::is_said(&events::STARTED)).then(|| {
            let log_line = self.words.log_line(line, serves, last_try.as_deref(), pid);
            report::say(&log_line);
            log_line.text
        });
        if let Some(status_writer) = &mut self.status_writer {
            let reason = match line {
                Message::Settled { outcome, .. } => self.words.reason(outcome, serves, last_try.as_deref()),
                _ => None,
            };
            status_writer.hear(clock::now(), line, reason);
        }
        let service = self.manager.as_ref().map(|_| self.service());
        if let (Some(manager), Some(service)) = (&mut self.manager, service) {
            manager.hear(clock::now(), line, text.as_deref().unwrap_or_default(), &service);
        }
    }

    /// What the service manager must know of the child and the requests.
    pub(super) fn service(&self) -> Service {
        let running = self.machine.serving_since().map(|since| self.words.running(clock::wall_time(since)));
        Service { serving: self.machine.serving().zip(running), is_asked: self.machine.is_asked() }
    }
}
