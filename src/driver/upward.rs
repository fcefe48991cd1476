//! What a supervisor above, systemd for one, is told: sd_notify(3).

use std::collections::VecDeque;
use std::time::Duration;

use crate::machine::Time;
use crate::machine::action::{Line, Verdict};
use crate::notify;
use crate::sys::birth::Birth;
use crate::sys::notify::Outer;

/// The variable that says where to.
pub const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// How long the watchdog waits, in microseconds.
pub const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// From whom it wants to hear.
pub const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";

/// What it was told last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Ready,
    Reloading,
    Stopping,
}

/// The line upward.
pub struct Upward {
    outer: Outer,
    told: Told,
    /// Whether the status shown is one of hupwrap's own.
    own_status: bool,
    /// What its socket had no room for.
    unsent: VecDeque<Vec<u8>>,
}

impl Upward {
    /// Where there is somebody above. A re-executed hupwrap goes on in the middle of a reload.
    pub fn new(birth: &Birth, reexecuted: bool) -> Option<Self> {
        let outer = Outer::new(birth.var(SOCKET_VARIABLE)?)?;
        let told = if reexecuted { Told::Reloading } else { Told::Nothing };
        Some(Self { outer, told, own_status: reexecuted, unsent: VecDeque::new() })
    }

    /// Makes of an event what it means above. `text` says it for people; `serves`: whether a child serves.
    pub fn hear(&mut self, now: Time, line: &Line, text: &str, serves: bool) {
        match (line, self.told) {
            (_, Told::Stopping) => {}
            (Line::Stopping(_), _) => {
                self.told = Told::Stopping;
                self.send(notify::stopping());
            }
            (Line::Ready(_), Told::Nothing) | (Line::Settled(_, Verdict::Done), Told::Reloading) => self.ready(None),
            (Line::Began(_), Told::Ready) => {
                self.told = Told::Reloading;
                let clear = self.own_status.then_some("");
                self.own_status = false;
                self.send(notify::reloading(now, clear));
            }
            (Line::Settled(_, verdict @ (Verdict::Refused(_) | Verdict::Failed(_))), Told::Reloading) => {
                if serves || matches!(verdict, Verdict::Refused(_)) {
                    self.ready(Some(text));
                } else {
                    self.own_status = true;
                    self.send(notify::status(text));
                }
            }
            // After a restart that failed, and one that did not.
            (Line::Ready(_), Told::Reloading) if serves => self.ready(None),
            _ => {}
        }
    }

    fn ready(&mut self, status: Option<&str>) {
        self.told = Told::Ready;
        self.own_status |= status.is_some();
        self.send(notify::ready(status));
    }

    /// Passes on what a child said.
    pub fn pass_up(&mut self, lines: &[u8]) {
        self.send(lines.to_vec());
    }

    /// Feeds the watchdog.
    pub fn feed(&mut self) {
        self.send(notify::watchdog());
    }

    /// Sends what could not be sent before, and returns whether nothing is left.
    pub fn flush(&mut self) -> bool {
        while let Some(first) = self.unsent.front() {
            if !self.outer.send(first) {
                return false;
            }
            self.unsent.pop_front();
        }
        true
    }

    fn send(&mut self, message: Vec<u8>) {
        /// More than systemd can have missed without being hung.
        const MOST: usize = 64;
        if self.unsent.len() < MOST {
            self.unsent.push_back(message);
        }
        self.flush();
    }
}

/// How often a watchdog above wants to be fed: twice in the time it waits, as sd_watchdog_enabled(3) advises.
pub fn watchdog(birth: &Birth) -> Option<Duration> {
    let number = |name| std::str::from_utf8(birth.var(name)?).ok()?.parse::<u64>().ok();
    let is_ours =
        birth.var(WATCHDOG_PID_VARIABLE).is_none() || number(WATCHDOG_PID_VARIABLE) == u64::try_from(birth.pid).ok();
    let time = number(WATCHDOG_VARIABLE).filter(|time| is_ours && *time > 0)?;
    Some(Duration::from_micros(time.div_ceil(2)))
}
