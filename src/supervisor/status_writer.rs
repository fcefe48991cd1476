//! Writes the status file at each change.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::facts::{GenerationId, Time};
use crate::machine::RequestKind;
use crate::machine::message::{Message, Outcome};
use crate::machine::status::{State, Status};
use crate::report;
use crate::sys::fd::Locked;
use crate::sys::proc::{ProcStat, shows_us};
use crate::sys::sockets::Socket;
use crate::sys::status_file::StatusFile;
use crate::sys::{Pid, clock};
use crate::text::messages;
use crate::text::status_file::{self, Answer, CUT_OFF, Listening, MOST_SETTLED, Reload, StatusFacts};

/// How long after a failure the file is tried again, if nothing changes before.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the status file up to date.
pub(super) struct StatusWriter {
    file: StatusFile,
    /// Until the file is written for the first time.
    lock: Option<Locked<OwnedFd>>,
    pid: Pid,
    pid_start: Option<u64>,
    on_hup: String,
    listen: Vec<Listening>,
    /// The last child that was not ready in time.
    late: Option<GenerationId>,
    /// Requests that are under way: a renewal, and a HUP to forward beside it.
    running: Vec<Reload>,
    /// The last ones that are settled: a client that waits for one may read the file when the next has begun.
    settled: Vec<Reload>,
    /// What the file says.
    written: String,
    /// When it is tried again, after a failure.
    retry: Option<Time>,
}

impl StatusWriter {
    /// For this file. Whether it can be written is known only when it is written.
    pub(super) fn new(path: &OsStr, pid: Pid, on_hup: String, sockets: &[Socket], requests: Vec<Reload>) -> Self {
        let listen = sockets.iter().zip(crate::text::listen::FIRST_FD..).map(|(socket, fd)| Listening {
            name: socket.facts().name.clone(),
            address: socket.address(),
            fd,
        });
        let (running, settled) = requests.into_iter().partition(|reload| reload.ended.is_none());
        Self {
            file: StatusFile::new(path, pid),
            lock: None,
            pid,
            pid_start: None,
            on_hup,
            listen: listen.collect(),
            late: None,
            running,
            settled,
            written: String::new(),
            retry: None,
        }
    }

    /// Takes care that no other hupwrap takes the file before it is written for the first time.
    ///
    /// # Errors
    /// One line: another has taken it, or it cannot be used.
    pub(super) fn lock(&mut self) -> Result<(), String> {
        self.lock = self.file.lock()?;
        Ok(())
    }

    /// The requests, for a re-exec.
    pub(super) fn requests(&self) -> Vec<Reload> {
        self.settled.iter().chain(&self.running).cloned().collect()
    }

    /// The request that the file shows, and those before it that are settled. One that is
    /// under way is shown even if another one was settled in the meantime.
    fn shown(&self) -> (Option<&Reload>, &[Reload]) {
        match (self.running.last(), self.settled.split_last()) {
            (None, Some((last, before))) => (Some(last), before),
            (running, _) => (running, &self.settled),
        }
    }

    /// Keeps account of requests. `reason`: why, for people.
    pub(super) fn hear(&mut self, now: Time, line: &Message, reason: Option<String>) {
        let reason = reason.unwrap_or_default();
        match line {
            Message::Began(kind) => {
                // What was put back begins once more.
                let asked = self.take_running(*kind).map_or(now, |before| before.asked);
                self.running.push(Reload { action: kind.name().to_owned(), asked, began: now, ended: None });
            }
            Message::Settled { kind, began, outcome } => {
                let answer = match outcome {
                    Outcome::Ok => Answer::Ok,
                    Outcome::Refused(_) => Answer::Refused(reason),
                    Outcome::Failed(_) => Answer::Failed(reason),
                };
                // A HUP that is forwarded at once begins and ends at the same time.
                let asked = self.take_running(*kind).map_or(*began, |before| before.asked);
                let ended = Some((now, answer));
                self.settled.push(Reload { action: kind.name().to_owned(), asked, began: *began, ended });
            }
            Message::Stopping(_) => self.cut_off(now),
            Message::NotReady(generation, _) => self.late = Some(*generation),
            _ => {}
        }
        let surplus = self.shown().1.len().saturating_sub(MOST_SETTLED);
        self.settled.drain(..surplus);
    }

    /// Takes out the request that is under way: there is one of each sort at most. What it does may have become less: a
    /// restart may be all that is left of a re-exec.
    fn take_running(&mut self, kind: RequestKind) -> Option<Reload> {
        let forwards = |action: &str| action == RequestKind::Forward.name();
        let at = self.running.iter().position(|reload| forwards(&reload.action) == forwards(kind.name()))?;
        Some(self.running.remove(at))
    }

    /// hupwrap ends: a request that is under way has failed.
    fn cut_off(&mut self, now: Time) {
        let ended = Some((now, Answer::Failed(CUT_OFF.to_owned())));
        self.settled.extend(self.running.drain(..).map(|reload| Reload { ended: ended.clone(), ..reload }));
    }

    /// When the file is to be tried again.
    pub(super) fn retry(&self) -> Option<Time> {
        self.retry
    }

    /// Has the file written again if it is missing, or is another.
    pub(super) fn restore(&mut self) {
        if !self.file.is_in_place() {
            self.written.clear();
        }
    }

    /// Writes the file if its content changes.
    pub(super) fn update(&mut self, status: &Status, pid_of: impl Fn(GenerationId) -> Pid) {
        if status.state == State::Ended {
            self.cut_off(clock::now());
        }
        // It may not have been readable before.
        self.pid_start =
            self.pid_start.or_else(|| shows_us().is_ok().then(|| ProcStat::at(self.pid))?.map(|seen| seen.began()));
        let (reload, settled) = self.shown();
        let facts = StatusFacts {
            pid: self.pid,
            pid_start: self.pid_start,
            on_hup: self.on_hup.clone(),
            late: self.late == Some(status.generation),
            reload,
            settled,
            listen: &self.listen,
        };
        let text = status_file::write(status, &facts, pid_of);
        if text == self.written && self.retry.is_none_or(|retry| clock::now() < retry) {
            return;
        }
        match self.file.write(&text) {
            Ok(()) => self.retry = None,
            Err(error) => {
                if self.retry.is_none() {
                    report::say(&messages::status_file_failed(&self.file.path().to_string_lossy(), &error));
                }
                self.retry = Some(clock::now().saturating_add(RETRY));
            }
        }
        (self.written, self.lock) = (text, None);
    }
}
