//! Writes the status file at each change.

use std::ffi::OsStr;
use std::time::Duration;

use crate::facts::{GenerationId, Time};
use crate::machine::RequestKind;
use crate::machine::message::{Message, Outcome};
use crate::machine::status::{State, Status};
use crate::report;
use crate::sys::proc::{ProcStat, shows_us};
use crate::sys::sockets::Socket;
use crate::sys::status_file::StatusFile;
use crate::sys::{Pid, clock};
use crate::text::messages;
use crate::text::status_file::{self, Answer, CUT_OFF, Listening, MOST_SETTLED, Reload, StatusFacts};

/// How long after a failure the file is tried again, if nothing changes before.
const RETRY: Duration = Duration::from_secs(5);

/// What watches.
pub(super) struct StatusWriter {
    file: StatusFile,
    pid: Pid,
    pid_start: Option<u64>,
    on_hup: String,
    listen: Vec<Listening>,
    /// The last child that was not ready in time.
    late: Option<GenerationId>,
    /// When the request that runs was taken up.
    asked: Option<Time>,
    reload: Option<Reload>,
    /// Those before it that are settled: a client that waits for one may read the file when the next has begun.
    settled: Vec<Reload>,
    /// What the file says.
    written: String,
    /// When it is tried again, after a failure.
    retry: Option<Time>,
}

impl StatusWriter {
    /// Of this file. Whether it can be written shows when it is.
    pub(super) fn new(path: &OsStr, pid: Pid, on_hup: String, sockets: &[Socket], mut settled: Vec<Reload>) -> Self {
        let listen = sockets.iter().zip(crate::text::listen::FIRST_FD..).map(|(socket, fd)| Listening {
            name: socket.facts().name.clone(),
            address: socket.address(),
            fd,
        });
        Self {
            file: StatusFile::new(path, pid),
            pid,
            pid_start: None,
            on_hup,
            listen: listen.collect(),
            late: None,
            asked: settled.last().filter(|reload| reload.ended.is_none()).map(|reload| reload.asked),
            reload: settled.pop(),
            settled,
            written: String::new(),
            retry: None,
        }
    }

    /// Takes care that no other hupwrap takes the file, as long as the lock lives.
    ///
    /// # Errors
    /// One line: another has taken it, or it cannot be used.
    pub(super) fn lock(&self) -> Result<impl Sized + use<>, String> {
        self.file.lock()
    }

    /// The requests, the last one last, for a re-exec.
    pub(super) fn requests(&self) -> Vec<Reload> {
        self.settled.iter().chain(&self.reload).cloned().collect()
    }

    fn set(&mut self, reload: Reload) {
        let before = self.reload.replace(reload).filter(|before| before.ended.is_some());
        self.settled.extend(before);
        let surplus = self.settled.len().saturating_sub(MOST_SETTLED);
        self.settled.drain(..surplus);
    }

    /// Keeps account of requests. `reason`: why, for people.
    pub(super) fn hear(&mut self, now: Time, line: &Message, reason: Option<String>) {
        let reason = reason.unwrap_or_default();
        match line {
            Message::Began(kind) => {
                self.asked = Some(now);
                self.set(Reload { action: kind.name().to_owned(), asked: now, began: now, ended: None });
            }
            Message::Settled { kind, began, outcome } => {
                let answer = match outcome {
                    Outcome::Ok => Answer::Ok,
                    Outcome::Refused(_) => Answer::Refused(reason),
                    Outcome::Failed(_) => Answer::Failed(reason),
                };
                // A HUP that is forwarded is settled at once, perhaps while another request runs.
                let asked = if *kind == RequestKind::Forward { None } else { self.asked.take() };
                let asked = asked.unwrap_or(*began);
                self.set(Reload { action: kind.name().to_owned(), asked, began: *began, ended: Some((now, answer)) });
            }
            Message::Stopping(_) => self.cut_off(now),
            Message::NotReady(generation, _) => self.late = Some(*generation),
            _ => {}
        }
    }

    /// hupwrap ends: nothing comes of a request that is under way.
    fn cut_off(&mut self, now: Time) {
        if let Some(reload) = self.reload.as_mut().filter(|reload| reload.ended.is_none()) {
            reload.ended = Some((now, Answer::Failed(CUT_OFF.to_owned())));
        }
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

    /// Writes the file where it says something else.
    pub(super) fn update(&mut self, status: &Status, pid_of: impl Fn(GenerationId) -> Pid) {
        if status.state == State::Ended {
            self.cut_off(clock::now());
        }
        // It may not have been readable before.
        self.pid_start =
            self.pid_start.or_else(|| shows_us().is_ok().then(|| ProcStat::at(self.pid))?.map(|seen| seen.began()));
        let facts = StatusFacts {
            pid: self.pid,
            pid_start: self.pid_start,
            on_hup: self.on_hup.clone(),
            late: self.late == Some(status.generation),
            reload: self.reload.as_ref(),
            settled: &self.settled,
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
        self.written = text;
    }
}
