//! A watch on a file that is replaced as a whole. Its directory reports the new one (`inotify(7)`). That the path leads
//! to another directory by now is not reported: a deploy moves a link, or renames a directory above. So the watch is
//! renewed once a second.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::clock;
use super::trust::directory_of;
use crate::facts::Time;

/// How long a watch is good for.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Reports that a file was replaced, or has appeared.
pub(crate) struct FileWatch {
    path: PathBuf,
    /// None where nothing can be reported: no inotify instance is left, or a directory does not exist.
    reports: Option<Reports>,
    /// When the path is followed again.
    renewal: Time,
}

struct Reports {
    inotify: Inotify,
    /// The file, and where it is a symbolic link its target.
    places: Vec<PathBuf>,
}

impl FileWatch {
    /// Of the file at this path, which need not exist. What happens from now on is reported.
    pub(crate) fn of(path: &Path) -> Self {
        let renewal = clock::now().saturating_add(GOOD_FOR);
        Self { path: path.to_owned(), reports: Reports::of(path), renewal }
    }

    /// Takes what was reported, and returns whether the file may be another. Without reports that is always so.
    pub(crate) fn take(&mut self) -> bool {
        let (changed, lost) = self.reports.as_ref().map_or((true, true), Reports::take);
        let is_old = self.renewal <= clock::now();
        // A directory or a link may have come, or may lead elsewhere now.
        if is_old || lost || (changed && self.reports.as_ref().is_some_and(|reports| reports.are_stale(&self.path))) {
            *self = Self::of(&self.path);
        }
        changed || is_old
    }

    /// When [`Self::take`] is due, though nothing is reported.
    pub(crate) fn renewal(&self) -> Time {
        self.renewal
    }

    /// A descriptor that is readable when something is reported. Without one the file is looked at now and then.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.reports.as_ref().map(|reports| reports.inotify.as_fd())
    }
}

/// The path of the file, and of what it leads to. None where a link leads nowhere yet: nothing would report its target.
fn places(path: &Path) -> Option<Vec<PathBuf>> {
    let target = match path.canonicalize() {
        Ok(target) => Some(target),
        Err(_) if path.is_symlink() => return None,
        Err(_) => None,
    };
    Some([path.to_owned()].into_iter().chain(target).collect())
}

impl Reports {
    fn of(path: &Path) -> Option<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
        let happens = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let places = places(path)?;
        for place in &places {
            inotify.add_watch(directory_of(place), happens).ok()?;
        }
        Some(Self { inotify, places })
    }

    /// Whether the file may be another, and whether a directory is gone, so that nothing more is reported.
    fn take(&self) -> (bool, bool) {
        let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_IGNORED;
        let (mut changed, mut lost) = (false, false);
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                lost |= event.mask.intersects(gone);
                // An event without a name concerns the directory, or says that there were too many events.
                changed |= event.name.is_none_or(|name| self.has(&name));
            }
        }
        (changed, lost)
    }

    fn has(&self, name: &OsString) -> bool {
        self.places.iter().any(|place| place.file_name() == Some(name))
    }

    /// Whether other directories must be watched by now.
    fn are_stale(&self, path: &Path) -> bool {
        places(path).as_ref() != Some(&self.places)
    }
}
