//! FileWatch of a file that is replaced as a whole: the directory tells of it (`inotify(7)`), for the file itself is another
//! each time.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::trust::directory_of;

/// Where a file tells that it was replaced.
pub struct FileWatch {
    inotify: Inotify,
    path: PathBuf,
    /// What it is called, and where it is a link its target.
    names: Vec<OsString>,
}

impl FileWatch {
    /// Of the file at this path, which need not be there. What happens from now on is told.
    ///
    /// # Errors
    /// One line that says why its directory cannot be watched.
    pub fn of(path: &Path) -> Result<Self, String> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|error| match error {
            Errno::EMFILE => "too many programs wait for files; raise fs.inotify.max_user_instances".to_owned(),
            error => format!("cannot wait for files: {}", error.desc()),
        })?;
        let happens = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut names = Vec::new();
        for path in [Some(path.to_owned()), path.canonicalize().ok()].into_iter().flatten() {
            let directory = directory_of(&path);
            inotify.add_watch(directory, happens).map_err(|error| match error {
                Errno::ENOENT => "there is no such file: nothing runs there".to_owned(),
                error => format!("its directory '{}' cannot be watched: {}", directory.display(), error.desc()),
            })?;
            names.extend(path.file_name().map(OsString::from));
        }
        Ok(Self { inotify, path: path.to_owned(), names })
    }

    /// Takes what was told since, and returns whether the file may be another.
    ///
    /// # Errors
    /// Its directory is gone, and nothing can be told any more.
    pub fn take(&mut self) -> Result<bool, String> {
        let mut changed = false;
        let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_IGNORED;
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                if event.mask.intersects(gone) {
                    // There may be another in its place.
                    *self = Self::of(&self.path.clone())?;
                    return Ok(true);
                }
                // Without a name: more happened than was kept.
                changed |= event.name.is_none_or(|name| self.names.contains(&name));
            }
        }
        Ok(changed)
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
