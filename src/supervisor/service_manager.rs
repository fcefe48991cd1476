//! What a supervisor above, systemd for one, is told: sd_notify(3).

use std::collections::VecDeque;
use std::time::Duration;

use crate::facts::{GenerationId, Time};
use crate::machine::RequestKind;
use crate::machine::message::{Message, Outcome};
use crate::sys::manager_socket::ManagerSocket;
use crate::sys::startup::Startup;
use crate::text::notify;

/// The variable that says where to.
pub(super) const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// How long the watchdog waits, in microseconds.
pub(super) const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// From whom it wants to hear.
pub(super) const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";

/// What it was told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Ready,
    Reloading,
    Stopping,
}

/// The connection to the service manager.
pub(super) struct ServiceManager {
    outer: ManagerSocket,
    told: Told,
    /// Of which child the status is that is shown, or [`OWN`]; none where there is none.
    status_of: Option<GenerationId>,
    /// Whether something was asked for since the last `RELOADING=1`.
    asked: bool,
    /// What its socket had no room for.
    unsent: VecDeque<Vec<u8>>,
}

/// No child's number: the status is hupwrap's own.
const OWN: GenerationId = 0;
/// The most messages of a child that are kept for a service manager that does not read.
const MOST_PASSED_UP: usize = 64;
/// The longest message that systemd reads, in bytes.
const LONGEST_MESSAGE: usize = 4096;
/// More than systemd can have missed without being hung.
const MOST_UNSENT: usize = 128;

/// What there is to serve, as far as it matters above.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// The child that runs and is ready, if there is one.
    pub serving: Option<GenerationId>,
    /// Whether a request is under way, or waits.
    pub is_asked: bool,
}

impl ServiceManager {
    /// The connection, where hupwrap was started by a service manager.
    pub(super) fn new(startup: &Startup) -> Option<Self> {
        let outer = ManagerSocket::new(startup.var(SOCKET_VARIABLE)?)?;
        Some(Self { outer, told: Told::Nothing, status_of: None, asked: false, unsent: VecDeque::new() })
    }

    /// The connection of a re-executed hupwrap that has adopted this child, or none. It goes on in the middle of a reload.
    pub(super) fn adopt(startup: &Startup, child: Option<GenerationId>, unsent: Vec<Vec<u8>>) -> Option<Self> {
        // That child may have said something. What hupwrap had to say was taken back when the reload began.
        Some(Self { told: Told::Reloading, status_of: child, unsent: unsent.into(), ..Self::new(startup)? })
    }

    /// What must cross a re-exec: the messages that could not be sent, as far as systemd would take them.
    pub(super) fn unsent(&self) -> Vec<Vec<u8>> {
        self.unsent.iter().filter(|message| message.len() <= LONGEST_MESSAGE).cloned().collect()
    }

    /// Makes of an event what it means above. `text` says it for people.
    ///
    /// systemd, for a unit with `Type=notify-reload`, waits after its HUP for a `RELOADING=1` that is not older than that
    /// HUP, and then for `READY=1` (service.c). The latter is said whatever came of it, but only of a child that serves.
    pub(super) fn hear(&mut self, now: Time, line: &Message, text: &str, service: Service) {
        match (line, self.told) {
            // A signal that was passed on is no reload, and does not end one.
            (_, Told::Stopping)
            | (Message::Began(RequestKind::Forward) | Message::Settled { kind: RequestKind::Forward, .. }, _) => {}
            (Message::Stopping(_), _) => {
                self.told = Told::Stopping;
                self.send(notify::stopping());
            }
            (Message::Began(_), Told::Ready | Told::Reloading) => self.reload(now),
            (Message::Ready(generation), Told::Nothing | Told::Reloading) if service.serving == Some(*generation) => {
                self.ready(now, *generation, None, service);
            }
            (Message::Settled { outcome, .. }, Told::Nothing | Told::Reloading) => {
                let reason = (*outcome != Outcome::Ok).then_some(text);
                match (service.serving, reason) {
                    (Some(generation), _) => self.ready(now, generation, reason, service),
                    (None, Some(reason)) => {
                        self.status_of = Some(OWN);
                        self.send(notify::status(reason));
                    }
                    (None, None) => {}
                }
            }
            _ => {}
        }
    }

    fn reload(&mut self, now: Time) {
        self.told = Told::Reloading;
        self.asked = false;
        let clear = (self.status_of == Some(OWN)).then_some("");
        if clear.is_some() {
            self.status_of = None;
        }
        self.send(notify::reloading(now, clear));
    }

    fn ready(&mut self, now: Time, generation: GenerationId, reason: Option<&str>, service: Service) {
        // Who asked during a reload and shares it does not take it for an answer before hearing that it is.
        if self.asked && !service.is_asked && self.told == Told::Reloading {
            self.reload(now);
        }
        self.told = Told::Ready;
        // What another child had to say is no news of this one.
        let clear = self.status_of.filter(|of| *of != generation).map(|_| "");
        let status = reason.or(clear);
        if status.is_some() {
            self.status_of = reason.map(|_| OWN);
        }
        self.send(notify::ready(status));
    }

    /// Somebody is about to ask for something by a signal.
    pub(super) fn asked(&mut self) {
        self.asked = true;
    }

    /// The new hupwrap is about to begin. It serves everybody who has asked until now.
    pub(super) fn crossing(&mut self, now: Time) {
        if self.asked && self.told == Told::Reloading {
            self.reload(now);
        }
    }

    /// Passes on what a child said.
    pub(super) fn pass_up(&mut self, generation: GenerationId, lines: &[u8]) {
        if lines.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"STATUS=")) {
            self.status_of = Some(generation);
        }
        self.send_if_room(lines.to_vec());
    }

    /// Feeds the watchdog.
    pub(super) fn feed(&mut self) {
        self.send_if_room(notify::watchdog());
    }

    /// Sends what could not be sent before, and returns whether nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(first) = self.unsent.front() {
            if !self.outer.send(first) {
                return false;
            }
            self.unsent.pop_front();
        }
        true
    }

    fn send(&mut self, message: Vec<u8>) {
        if self.unsent.len() >= MOST_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
        self.flush();
    }

    /// What may get lost must not take the place of what may not.
    fn send_if_room(&mut self, message: Vec<u8>) {
        if self.unsent.len() < MOST_PASSED_UP {
            self.send(message);
        }
    }
}

/// How often a watchdog above wants to be fed: twice in the time it waits, as sd_watchdog_enabled(3) advises.
pub(super) fn watchdog(startup: &Startup) -> Option<Duration> {
    let number = |name| std::str::from_utf8(startup.var(name)?).ok()?.parse::<u64>().ok();
    let is_ours = startup.var(WATCHDOG_PID_VARIABLE).is_none()
        || number(WATCHDOG_PID_VARIABLE) == u64::try_from(startup.pid).ok();
    let time = number(WATCHDOG_VARIABLE).filter(|time| is_ours && *time > 0)?;
    // Nobody means less than a millisecond, and it would keep hupwrap busy.
    Some(Duration::from_micros(time.div_ceil(2).max(1000)))
}
