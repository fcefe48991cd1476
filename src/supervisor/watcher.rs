//! The files of `--watch`: when a look at them is due, and what a change is told as.

use nix::poll::PollFlags;

use super::{Supervisor, own_files};
use crate::config::Config;
use crate::exit::Ending;
use crate::machine::event::Event;
use crate::report;
use crate::sys::clock;
use crate::sys::path_watch::{PathWatch, WatchEvent};
use crate::sys::poll::is_ready;
use crate::text::messages;

/// Begins to watch what the command line says, if it says anything.
/// `watched`: what was seen before a re-exec.
pub(super) fn open(config: &Config, watched: &[Option<u64>]) -> Option<PathWatch> {
    let is_asked = !config.watch.is_empty();
    is_asked.then(|| PathWatch::with_digests(&config.watch, &own_files::paths(config), watched))
}

impl Supervisor {
    /// Finishes the first look at the files: the first child starts after it, so that no change is missed. Signals are
    /// handled between its steps.
    pub(super) fn finish_first_look(&mut self) -> Option<Ending> {
        let is_looking = |watch: &PathWatch| !watch.has_looked();
        while self.before.is_none() && self.watch.as_ref().is_some_and(is_looking) {
            self.update_status();
            let signalled = self.wait();
            if let Some(ending) = self.turn(signalled) {
                return Some(ending);
            }
        }
        None
    }

    /// Goes on with a look at the files, if it is time. Several changes that are found together are one request.
    pub(super) fn look_for_changes(&mut self) -> Option<Event> {
        let watch = self.watch.as_mut()?;
        let now = clock::now();
        let is_due = watch.deadline().is_some_and(|deadline| deadline <= now);
        if !is_due && !watch.fd().is_some_and(|fd| is_ready(fd, PollFlags::POLLIN)) {
            return None;
        }
        let mut changed = None;
        for event in watch.turn(now) {
            match event {
                WatchEvent::Changed(path) => {
                    report::say(&messages::changed(&path.to_string_lossy()));
                    changed = Some(Event::Changed);
                }
                WatchEvent::Polling(reason) => report::say(&messages::watching_late(&reason)),
            }
        }
        changed
    }
}
