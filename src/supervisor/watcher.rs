//! The files of `--watch`: when a look at them is due, and what a change is told as.

use std::path::PathBuf;

use nix::poll::PollFlags;

use super::Supervisor;
use crate::config::Config;
use crate::exit::Ending;
use crate::machine::event::Event;
use crate::report;
use crate::sys::path_watch::{self, PathWatch, WatchEvent};
use crate::sys::pidfile::Pidfile;
use crate::sys::poll::is_ready;
use crate::sys::sockets::Socket;
use crate::sys::status_file::StatusFile;
use crate::sys::{Pid, clock};
use crate::text::messages;

/// Checks that hupwrap does not cause the changes itself.
///
/// # Errors
/// One line that names the option and its value.
pub(super) fn check(config: &Config, own_pid: Pid) -> Result<(), String> {
    let Some(status_file) = status_file(config, own_pid) else { return Ok(()) };
    match config.watch.iter().find(|path| path_watch::is_file(path, &status_file)) {
        Some(path) => Err(format!(
            "--watch '{}': hupwrap itself writes to that file, its --status-file; want another path",
            path.to_string_lossy()
        )),
        None => Ok(()),
    }
}

/// Begins to watch what the command line says, if it says anything.
/// `watched`: what was seen before a re-exec.
pub(super) fn open(
    config: &Config,
    pidfile: Option<&Pidfile>,
    sockets: &[Socket],
    watched: &[Option<u64>],
    own_pid: Pid,
) -> Option<PathWatch> {
    if config.watch.is_empty() {
        return None;
    }
    let sockets = sockets.iter().map(|socket| socket.facts());
    let socket_files = sockets.filter(|facts| facts.made.is_some()).filter_map(|facts| facts.said.as_ref());
    let own_files: Vec<PathBuf> = status_file(config, own_pid)
        .into_iter()
        .chain(pidfile.into_iter().map(|pidfile| pidfile.path().to_owned()))
        .chain(socket_files.map(PathBuf::from))
        .collect();
    Some(PathWatch::with_digests(&config.watch, &own_files, watched))
}

/// The file that is replaced as the status file. One that cannot be written to is reported elsewhere.
fn status_file(config: &Config, own_pid: Pid) -> Option<PathBuf> {
    let path = config.status_file.as_ref()?;
    Some(StatusFile::new(path, own_pid).check().unwrap_or_else(|_| PathBuf::from(path)))
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
