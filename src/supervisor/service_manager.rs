//! What a service manager, for example systemd, is told: sd_notify(3).

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

/// What the status says that it was told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    Nothing,
    /// Since when this child has been running.
    Running(GenerationId),
    /// Why a request was refused or has failed.
    Reason,
    /// What this child says itself.
    Word(GenerationId),
}

/// The connection to the service manager.
pub(super) struct ServiceManager {
    outer: ManagerSocket,
    told: Told,
    shown: Shown,
    /// Whether something was asked for since the last `RELOADING=1`.
    asked: bool,
    /// What its socket had no room for.
    unsent: VecDeque<Vec<u8>>,
}

/// The most messages of a child that are kept for a service manager that does not read.
const MOST_PASSED_UP: usize = 64;
/// The longest message that systemd reads, in bytes.
const LONGEST_MESSAGE: usize = 4096;
/// More than systemd can have missed without being hung.
const MOST_UNSENT: usize = 128;

/// What the service manager must know of the child and the requests.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// The child that runs and is ready, if there is one, and a text that says since when.
    pub serving: Option<(GenerationId, String)>,
    /// Whether a request is under way, or waits.
    pub is_asked: bool,
}

impl ServiceManager {
    /// The connection, where hupwrap was started by a service manager.
    pub(super) fn new(startup: &Startup) -> Option<Self> {
        let outer = ManagerSocket::new(startup.var(SOCKET_VARIABLE)?)?;
        Some(Self { outer, told: Told::Nothing, shown: Shown::Nothing, asked: false, unsent: VecDeque::new() })
    }

    /// The connection of a re-executed hupwrap that has adopted this child, or none. It goes on in the middle of a
    /// reload.
    pub(super) fn adopt(startup: &Startup, child: Option<GenerationId>, unsent: Vec<Vec<u8>>) -> Option<Self> {
        // That child may have said something. What hupwrap had to say was taken back when the reload began.
        let shown = child.map_or(Shown::Nothing, Shown::Word);
        Some(Self { told: Told::Reloading, shown, unsent: unsent.into(), ..Self::new(startup)? })
    }

    /// What must cross a re-exec: the messages that could not be sent, as far as systemd would take them.
    pub(super) fn unsent(&self) -> Vec<Vec<u8>> {
        self.unsent.iter().filter(|message| message.len() <= LONGEST_MESSAGE).cloned().collect()
    }

    /// Tells the service manager what an event means to it. `text` says it for people.
    ///
    /// systemd, for a unit with `Type=notify-reload`, waits after its HUP for a `RELOADING=1` that is not older than
    /// that HUP, and then for `READY=1` (service.c). The latter is said whatever came of it, but only of a child that
    /// serves. The same if HUP is forwarded: the program reloads itself.
    pub(super) fn hear(&mut self, now: Time, line: &Message, text: &str, service: &Service) {
        let is_serving = |id: &GenerationId| service.serving.as_ref().is_some_and(|serving| serving.0 == *id);
        match (line, self.told) {
            (_, Told::Stopping) => {}
            (Message::Stopping(_), _) => {
                self.told = Told::Stopping;
                self.send(notify::stopping());
            }
            (Message::Began(_), Told::Ready | Told::Reloading) => self.reload(now, service),
            (Message::Ready(generation), Told::Nothing | Told::Reloading) if is_serving(generation) => {
                self.ready(now, None, service);
            }
            (Message::Ready(generation), Told::Ready) if is_serving(generation) => {
                if let Some(status) = self.running(service) {
                    self.send(notify::status(&status));
                }
            }
            // A forward beside another request does not end that.
            (Message::Settled { kind: RequestKind::Forward, .. }, Told::Reloading) if service.is_asked => {}
            (Message::Settled { kind: RequestKind::Forward, outcome, .. }, Told::Ready) => {
                self.reload(now, service);
                self.settled(now, outcome, text, service);
            }
            (Message::Settled { outcome, .. }, Told::Nothing | Told::Reloading) => {
                self.settled(now, outcome, text, service);
            }
            // During a reload its outcome has the reason.
            (
                Message::NotReady(..)
                | Message::RestartingLater { .. }
                | Message::StartingLater(..)
                | Message::CannotStart(_)
                | Message::GaveUp { .. },
                Told::Nothing | Told::Ready,
            ) => self.explain(text),
            _ => {}
        }
    }

    fn settled(&mut self, now: Time, outcome: &Outcome, text: &str, service: &Service) {
        let reason = (*outcome != Outcome::Ok).then_some(text);
        match (&service.serving, reason) {
            (Some(_), _) => self.ready(now, reason, service),
            (None, Some(reason)) => self.explain(reason),
            (None, None) => {}
        }
    }

    /// Shows why nothing serves.
    fn explain(&mut self, reason: &str) {
        self.shown = Shown::Reason;
        self.send(notify::status(reason));
    }

    fn reload(&mut self, now: Time, service: &Service) {
        self.told = Told::Reloading;
        self.asked = false;
        // A new request takes away why an earlier one has failed.
        let status = match self.shown {
            Shown::Reason => Some(self.running(service).unwrap_or_default()),
            _ => None,
        };
        if status.as_ref().is_some_and(String::is_empty) {
            self.shown = Shown::Nothing;
        }
        self.send(notify::reloading(now, status.as_deref()));
    }

    fn ready(&mut self, now: Time, reason: Option<&str>, service: &Service) {
        // Who asked during a reload and shares it does not take it for an answer before hearing that it is.
        if self.asked && !service.is_asked && self.told == Told::Reloading {
            self.reload(now, service);
        }
        self.told = Told::Ready;
        let status = match (reason, &service.serving) {
            (Some(reason), Some((_, running))) => {
                self.shown = Shown::Reason;
                Some(format!("{reason}; {running}"))
            }
            _ => self.running(service),
        };
        self.send(notify::ready(status.as_deref()));
    }

    /// What to show of a child that serves; none if that is shown already, or if the child speaks for itself.
    fn running(&mut self, service: &Service) -> Option<String> {
        let (generation, running) = service.serving.as_ref()?;
        if [Shown::Running(*generation), Shown::Word(*generation)].contains(&self.shown) {
            return None;
        }
        self.shown = Shown::Running(*generation);
        Some(running.clone())
    }

    /// Somebody is about to ask for something by a signal.
    pub(super) fn asked(&mut self) {
        self.asked = true;
    }

    /// The new hupwrap is about to begin. It serves everybody who has asked until now.
    pub(super) fn crossing(&mut self, now: Time, service: &Service) {
        if self.asked && self.told == Told::Reloading {
            self.reload(now, service);
        }
    }

    /// Passes on what a child said.
    pub(super) fn pass_up(&mut self, generation: GenerationId, lines: &[u8]) {
        if lines.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"STATUS=")) {
            self.shown = Shown::Word(generation);
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

    /// A message that may be lost must not displace one that may not.
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
