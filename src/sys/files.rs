//! Files that tell of hupwrap: the pidfile, and the status file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;

use crate::sys::{Pid, above_stdio};

/// What a file of ours may be done with: written by its owner, read by all.
const MODE: u32 = 0o644;
/// The sticky bit of a directory: only owners remove files there.
const STICKY: u32 = 0o1000;

/// A pidfile, locked as long as this lives, and over a re-exec.
pub struct Pidfile {
    path: PathBuf,
    file: OwnedFd,
}

impl Pidfile {
    /// Takes a pidfile, and writes the pid. One that is there and not locked is a stale one, and taken over. The lock is
    /// one of `flock(2)`, which stays with the open file over fork and exec, and goes with its last process.
    ///
    /// # Errors
    /// One line that says who has it, or why it cannot be made.
    pub fn take(path: &OsStr, own_pid: Pid) -> Result<Self, String> {
        let path = Path::new(path);
        check_directory(path)?;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(MODE)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(path)
                .map_err(|error| match error.raw_os_error() {
                    Some(libc::ELOOP) => "it is a symbolic link, which is not followed".to_owned(),
                    _ => why(&error),
                })?;
            let found = file.metadata().map_err(|error| why(&error))?;
            if !found.is_file() {
                return Err("it is no regular file".to_owned());
            }
            // SAFETY: has no preconditions.
            if found.uid() != unsafe { libc::geteuid() } {
                return Err("it belongs to another user; remove it, or name another".to_owned());
            }
            // SAFETY: has no preconditions.
            match Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
                Ok(_) => {}
                Err(Errno::EWOULDBLOCK) => {
                    let holder = fs::read_to_string(path).unwrap_or_default();
                    let holder = holder.trim().parse::<Pid>().map_or(String::new(), |pid| format!(", pid {pid}"));
                    return Err(format!("another hupwrap has it{holder}"));
                }
                Err(error) => return Err(format!("it cannot be locked: {}", error.desc())),
            }
            // Between open and lock its owner may have ended, and removed it.
            if !is_at(&file, path) {
                continue;
            }
            let mut file = file;
            file.set_len(0).and_then(|()| writeln!(file, "{own_pid}")).map_err(|error| why(&error))?;
            let file = above_stdio(file.into()).map_err(|error| error.desc().to_owned())?;
            return Ok(Self { path: path.to_owned(), file });
        }
    }

    /// The descriptor, for a re-executed hupwrap.
    pub fn fact(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Lets the descriptor, and with it the lock, cross an exec; or not any more when it failed.
    pub fn set_crossing(&self, crossing: bool) {
        let flags = if crossing { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        let _ = fcntl(&self.file, FcntlArg::F_SETFD(flags));
    }

    /// Goes on with what crossed a re-exec.
    pub fn from_fact(path: &OsStr, fd: RawFd) -> Option<Self> {
        // SAFETY: has no preconditions; a descriptor that is none gives an error.
        let known = fd > 2 && unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
        // SAFETY: the hupwrap before this one opened it, and left it to this one alone.
        known.then(|| Self { path: PathBuf::from(path), file: unsafe { OwnedFd::from_raw_fd(fd) } })
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Removed before it is unlocked: whoever waits for the lock finds that it is not the file any more.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether an open file is the one at this path.
fn is_at(file: &impl AsFd, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let open = file.as_fd().try_clone_to_owned().and_then(|file| File::from(file).metadata()).map(identity);
    open.is_ok_and(|open| fs::symlink_metadata(path).map(identity).is_ok_and(|found| found == open))
}

/// Where everybody may remove and make files, nothing there can be trusted by root's tools.
pub(super) fn check_directory(path: &Path) -> Result<(), String> {
    let directory = directory_of(path);
    let found =
        fs::metadata(directory).map_err(|error| format!("the directory '{}': {}", directory.display(), why(&error)))?;
    let mode = found.permissions().mode();
    // SAFETY: has no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    if is_root && mode & 0o002 != 0 && mode & STICKY == 0 {
        return Err(format!("everybody may replace files in '{}'; want a directory that is not", directory.display()));
    }
    Ok(())
}

pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(super) fn why(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |errno| Errno::from_raw(errno).desc().to_owned())
}

/// A file that is always whole: what it says is replaced at once.
pub struct StatusFile {
    path: PathBuf,
    draft: PathBuf,
}

impl StatusFile {
    /// Of this path. Its directory is looked at; nothing is written yet.
    ///
    /// # Errors
    /// One line that says what is wrong with the path.
    pub fn new(path: &OsStr, own_pid: Pid) -> Result<Self, String> {
        let path = PathBuf::from(path);
        check_directory(&path)?;
        let name = path.file_name().ok_or("want a file")?;
        if path.is_dir() {
            return Err("it is a directory; want a file".to_owned());
        }
        let draft: OsString = [OsStr::new("."), name, OsStr::new(&format!(".{own_pid}"))].into_iter().collect();
        Ok(Self { draft: path.with_file_name(draft), path })
    }

    /// Replaces what it says.
    ///
    /// # Errors
    /// Says why not; what was there before is there still.
    pub fn write(&self, text: &str) -> Result<(), String> {
        let made = self.make(text);
        if made.is_err() {
            let _ = fs::remove_file(&self.draft);
        }
        made.map_err(|error| why(&error))
    }

    fn make(&self, text: &str) -> std::io::Result<()> {
        let create = || {
            // A new one, of ours: never what somebody else has put there, a symbolic link for one.
            OpenOptions::new().write(true).create_new(true).mode(MODE).custom_flags(libc::O_CLOEXEC).open(&self.draft)
        };
        let mut draft = match create() {
            // One that a hupwrap of this pid has left behind.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                fs::remove_file(&self.draft)?;
                create()?
            }
            created => created?,
        };
        draft.write_all(text.as_bytes())?;
        // The umask may have taken the right to read away from those who wait, or left one to write.
        draft.set_permissions(fs::Permissions::from_mode(MODE))?;
        fs::rename(&self.draft, &self.path)
    }
}
