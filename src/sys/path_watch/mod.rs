//! The files of `--watch`: tells which PATH has changed.
//!
//! A change is told by a comparison, never by an event: inotify only says when to look. Each look walks over every PATH
//! and makes one number of all that counts ([`digest`]). Everything that is written, removed and restored before that
//! is no change. The walk is done in short steps, because signals must not wait for it.
//!
//! The crate `notify` is not used: it starts a thread, and hupwrap has one thread. PDEATHSIG follows the thread that
//! started the child.

mod digest;
#[cfg(test)]
mod tests;
mod walk;
mod watches;

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::facts::Time;
use crate::sys::start_error::describe;
use walk::{Found, Walk};
use watches::Watches;

/// How long nothing must have changed.
const SETTLING: Duration = Duration::from_millis(200);
/// How often hupwrap looks where no event tells when to look, and after a look that failed.
const POLLING: Duration = Duration::from_secs(2);
/// How long the descriptor is left alone after an event. A busy neighbour, or a file that is written all the time, does
/// not wake hupwrap at each event.
const REST: Duration = Duration::from_millis(50);
/// Roughly how many names are looked at in one turn.
const STEP: usize = 256;

/// What a turn has found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum WatchEvent {
    /// Something has changed at this PATH, as the user wrote it.
    Changed(OsString),
    /// Changes are noticed late, and why: a line for people. It comes once.
    Polling(String),
}

/// Why a walk is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To see what is there.
    Look,
    /// Something is new: its changes have no events before it is watched.
    WatchNew,
    /// If there was no event since it was planned, nothing has changed for [`SETTLING`].
    Settle,
}

/// What happens next.
enum Phase {
    /// Nothing, until there is an event.
    Idle,
    /// A walk begins at this time.
    Waiting { until: Time, purpose: Purpose },
    /// A walk is in progress. `disturbed`: there were events, so it may have missed a change.
    Walking { walk: Walk, purpose: Purpose, disturbed: bool },
}

/// Watches files and directories.
pub(crate) struct PathWatch {
    paths: Vec<OsString>,
    /// What hupwrap and its child make.
    own_files: Vec<PathBuf>,
    /// What was there when the last change was told, or at the beginning; of each PATH.
    known: Vec<Option<u64>>,
    /// What the last walk has seen.
    seen: Option<Vec<u64>>,
    watches: Watches,
    phase: Phase,
    /// Until when the descriptor is left alone.
    rest: Option<Time>,
    /// Whether a part of it cannot be watched.
    is_partial: bool,
    /// Whether people know that changes are noticed late.
    told: bool,
    /// Whether a walk has come to its end.
    has_looked: bool,
}

impl PathWatch {
    /// Watches these paths. What is there when they are looked at first is no change.
    ///
    /// `own_files`: what hupwrap and its child make. They do not count as entries of a watched directory, nor as what a
    /// symbolic link leads to: a report must not cause anything, and a start must not cause the next one.
    ///
    /// `digests`: after a re-exec, those of the same paths from before. What has changed since then is reported.
    pub(crate) fn with_digests(paths: &[OsString], own_files: &[PathBuf], digests: &[Option<u64>]) -> Self {
        Self::over(Watches::open(), paths, own_files, digests)
    }

    fn over(watches: Watches, paths: &[OsString], own_files: &[PathBuf], digests: &[Option<u64>]) -> Self {
        let mut known = digests.to_vec();
        known.resize(paths.len(), None);
        Self {
            paths: paths.to_vec(),
            own_files: own_files.to_vec(),
            known,
            seen: None,
            watches,
            phase: Phase::Waiting { until: Time::ZERO, purpose: Purpose::Look },
            rest: None,
            is_partial: false,
            told: false,
            has_looked: false,
        }
    }

    /// What is known of each PATH, for a re-exec. None if it was not looked at yet.
    pub(crate) fn digests(&self) -> &[Option<u64>] {
        &self.known
    }

    /// Whether the first look is over. What could not be seen then is looked at again, and nobody waits for it.
    pub(crate) fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// A descriptor to be polled for POLLIN. When it is readable, it is time for a turn. None where the system refuses
    /// inotify, and for a moment after each event. Ask again after each turn.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watches.fd().filter(|_| self.rest.is_none())
    }

    /// When it is time for a turn, even if the descriptor is not readable. Zero, which is always over, if there is
    /// something to do now.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let next = match self.phase {
            Phase::Idle => None,
            Phase::Waiting { until, .. } => Some(until),
            Phase::Walking { .. } => Some(Time::ZERO),
        };
        next.into_iter().chain(self.rest).min()
    }

    /// Does what is to be done now, up to a limit. A turn that comes too early or too late does no harm.
    pub(crate) fn turn(&mut self, now: Time) -> Vec<WatchEvent> {
        let mut events = Vec::new();
        let read = self.watches.read();
        self.rest = read.any.then(|| now.saturating_add(REST));
        if read.counts {
            self.wait_for_quiet(now, read.brings);
        }
        match &mut self.phase {
            Phase::Waiting { until, purpose } if *until <= now => {
                self.watches.begin_round();
                let walk = Walk::new(&self.own_files);
                self.phase = Phase::Walking { walk, purpose: *purpose, disturbed: false };
            }
            // Events that are not read yet may belong to what was seen.
            Phase::Walking { walk, .. } if walk.is_done() && read.all => self.conclude(now, &mut events),
            Phase::Walking { walk, .. } => walk.step(STEP, &self.paths, &mut self.watches),
            _ => {}
        }
        if let Some(error) = self.watches.take_refusal() {
            if matches!(self.phase, Phase::Idle) {
                self.wait_for_quiet(now, false);
            }
            self.tell_polling(&mut events, || format!("inotify is refused ({})", refusal(error)));
        }
        events
    }

    /// There were events: a walk in progress has seen one thing before them and another thing after them. `brings`:
    /// something may be new. The first time it is watched at once, later with the look that follows: a walk for each
    /// name would be too many.
    fn wait_for_quiet(&mut self, now: Time, brings: bool) {
        match &mut self.phase {
            phase @ Phase::Idle if brings => *phase = Phase::Waiting { until: now, purpose: Purpose::WatchNew },
            // The first walk goes on: what it misses would never be noticed.
            Phase::Walking { disturbed, .. } if self.known.contains(&None) => *disturbed = true,
            phase => *phase = settling(now),
        }
    }

    /// Compares what a finished walk has found with what is known.
    fn conclude(&mut self, now: Time, events: &mut Vec<WatchEvent>) {
        let again = Phase::Waiting { until: now.saturating_add(POLLING), purpose: Purpose::Look };
        let Phase::Walking { walk, purpose, disturbed } = std::mem::replace(&mut self.phase, again) else { return };
        self.has_looked = true;
        let Some(Found { digests, unwatched }) = walk.found() else { return };
        let has_added = self.watches.end_round();
        self.is_partial = unwatched.is_some();
        if let Some(path) = unwatched {
            let why = || format!("'{}' cannot be watched: {}", path.display(), describe(Errno::EACCES));
            self.tell_polling(events, why);
        }
        let polls = self.is_partial || self.watches.is_refused();
        // Where not every change is an event, only a second look shows that nothing changes any more.
        let settled = match polls {
            true => self.seen.as_ref() == Some(&digests),
            false => purpose == Purpose::Settle && !has_added,
        };
        let mut differs = false;
        for ((path, known), found) in self.paths.iter().zip(&mut self.known).zip(&digests) {
            if known.is_none() {
                // A change before the first look at it is told after the next one, by a number that no look makes.
                *known = Some(if disturbed { !found } else { *found });
            } else if *known != Some(*found) && settled {
                *known = Some(*found);
                events.push(WatchEvent::Changed(path.clone()));
            }
            differs |= *known != Some(*found);
        }
        self.seen = Some(digests);
        if differs || purpose == Purpose::WatchNew {
            self.phase = settling(now);
        } else if !polls {
            self.phase = Phase::Idle;
        }
    }

    fn tell_polling(&mut self, events: &mut Vec<WatchEvent>, why: impl FnOnce() -> String) {
        if !self.told {
            self.told = true;
            events.push(WatchEvent::Polling(format!("{}: looking every {}s", why(), POLLING.as_secs())));
        }
    }
}

/// Unless there is an event before, nothing has changed then for [`SETTLING`].
fn settling(now: Time) -> Phase {
    Phase::Waiting { until: now.saturating_add(SETTLING), purpose: Purpose::Settle }
}

/// Says for people why the system refuses inotify.
fn refusal(error: Errno) -> &'static str {
    match error {
        Errno::EMFILE => "too many instances, see fs.inotify.max_user_instances",
        Errno::ENOSPC => "too many watches, see fs.inotify.max_user_watches",
        error => describe(error),
    }
}
