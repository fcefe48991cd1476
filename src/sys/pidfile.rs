//! The pidfile of `--pidfile`.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::geteuid;

use crate::sys::fd::{Locked, above_stdio, keep_over_exec, take};
use crate::sys::trust::{check_directory, why};
use crate::sys::{Pid, start_error};

/// Its owner may write to a pidfile, and all may read it.
const MODE: u32 = 0o644;
/// More than any pid has, in bytes.
const LONGEST: u64 = 32;
/// How often a pidfile may disappear between open and lock. Each time another hupwrap has ended.
const TRIES: u8 = 100;

/// A pidfile, locked as long as this lives, and over a re-exec.
pub(crate) struct Pidfile {
    path: PathBuf,
    file: Locked<File>,
}

impl Pidfile {
    /// Takes a pidfile, and writes the pid. An unlocked one is stale, and is taken over. The lock is one of `flock(2)`:
    /// it stays with the open file over fork and exec, and ends with the last process that has the file open. A stale
    /// file of another user is replaced: that user could write another pid to it later.
    ///
    /// # Errors
    /// One line that says who has it, what is wrong with it, or why it cannot be made.
    pub(crate) fn take(path: &OsStr, own_pid: Pid) -> Result<Self, String> {
        let path = Path::new(path);
        check_directory(path)?;
        for _ in 0..TRIES {
            let Some((file, is_new)) = open(path)? else { continue };
            let file = Locked::new(file).map_err(|(file, error)| match error {
                Errno::EWOULDBLOCK => {
                    let holder = pid_in(&file).flatten().map_or(String::new(), |pid| format!(", pid {pid}"));
                    format!("another hupwrap has it{holder}")
                }
                error => {
                    if is_new {
                        let _ = fs::remove_file(path);
                    }
                    format!("it cannot be locked: {}", start_error::describe(error))
                }
            })?;
            // Between open and lock its owner may have ended, and removed it.
            if !is_at(&file, path) {
                continue;
            }
            if !is_new && pid_in(&file).is_none() {
                return Err("it is neither empty nor holds a pid; remove it, or name another path".to_owned());
            }
            if !is_new && !file.metadata().is_ok_and(|found| is_own(&found)) {
                fs::remove_file(path).map_err(|error| format!("it belongs to another user: {}", why(error)))?;
                continue;
            }
            // If it cannot be written, it is removed: what is left could name another process.
            let mut pidfile = Self { path: path.to_owned(), file };
            let text = format!("{own_pid}\n");
            pidfile.file.set_len(0).and_then(|()| pidfile.file.write_all(text.as_bytes())).map_err(why)?;
            return Ok(pidfile);
        }
        Err("others remove it again and again".to_owned())
    }

    /// Makes the file again if somebody has removed it. Returns whether that was necessary.
    ///
    /// # Errors
    /// One line that says why it cannot be made: a file that somebody has put there instead is left alone.
    pub(crate) fn restore(&mut self, own_pid: Pid) -> Result<bool, String> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                *self = Self::take(self.path.as_os_str(), own_pid)?;
                Ok(true)
            }
            _ if is_at(&self.file, &self.path) => Ok(false),
            Ok(_) => Err("another file is there, which is left alone".to_owned()),
            Err(error) => Err(why(error)),
        }
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor, for a re-executed hupwrap.
    pub(crate) fn fact(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Lets the descriptor, and with it the lock, cross an exec; or no longer, after an exec that failed.
    pub(crate) fn set_crossing(&self, crossing: bool) -> nix::Result<()> {
        keep_over_exec(&*self.file, crossing)
    }

    /// Adopts what crossed a re-exec. None if that is not open.
    pub(crate) fn from_fact(path: &OsStr, fd: RawFd) -> Option<Self> {
        // The open file has the lock already, so locking it again cannot fail.
        let file = Locked::new(File::from(take(fd).ok()?)).ok()?;
        Some(Self { path: PathBuf::from(path), file })
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Removed before it is unlocked: a hupwrap that gets the lock finds that this file is no longer the one at the
        // path.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file, or makes it. Returns whether it was made. None if it is removed or made by somebody else just then.
fn open(path: &Path) -> Result<Option<(File, bool)>, String> {
    // Looked at before it is opened: to open a device may have an effect.
    let (is_new, writes) = match fs::symlink_metadata(path) {
        Ok(found) => check(&found).map(|()| (false, is_own(&found)))?,
        Err(error) if error.kind() == ErrorKind::NotFound => (true, true),
        Err(error) => return Err(why(error)),
    };
    let opened = OpenOptions::new()
        .read(true)
        .write(writes)
        .create_new(is_new)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error)
            if matches!((is_new, error.kind()), (true, ErrorKind::AlreadyExists) | (false, ErrorKind::NotFound)) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(why(error)),
    };
    let usable = file.metadata().map_err(why).and_then(|found| check(&found));
    let file = usable.and_then(|()| above_stdio(file.into()).map_err(|error| start_error::describe(error).to_owned()));
    if file.is_err() && is_new {
        let _ = fs::remove_file(path);
    }
    Ok(Some((File::from(file?), is_new)))
}

fn is_own(found: &Metadata) -> bool {
    found.uid() == geteuid().as_raw()
}

fn check(found: &Metadata) -> Result<(), String> {
    let kind = found.file_type();
    Err(match () {
        () if kind.is_symlink() => "it is a symbolic link, which is not followed",
        () if kind.is_dir() => "it is a directory; want a file",
        () if !kind.is_file() => "it is not a regular file",
        // In a directory of somebody else it could be any file of ours.
        () if found.nlink() > 1 => "it has a second name, a hard link; remove it, or name another path",
        () => return Ok(()),
    }
    .to_owned())
}

/// The pid in a file, none if that is empty; and none at all if it holds something else. Does not move the file's
/// position.
fn pid_in(file: &File) -> Option<Option<Pid>> {
    let mut text = String::new();
    let length = file.take(LONGEST.saturating_add(1)).read_to_string(&mut text).ok()?;
    let _ = std::io::Seek::rewind(&mut &*file);
    if length == 0 {
        return Some(None);
    }
    let is_short = u64::try_from(length).is_ok_and(|length| length <= LONGEST);
    text.trim().parse().ok().filter(|pid| is_short && *pid > 0).map(Some)
}

/// Whether an open file is the one at this path.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: Metadata| (found.dev(), found.ino());
    // No descriptor is needed for this: there may be none at the end.
    let open = file.metadata().map(identity);
    open.is_ok_and(|open| fs::symlink_metadata(path).map(identity).is_ok_and(|found| found == open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_again_where_it_is_missing() {
        let path = std::env::temp_dir().join(format!("hupwrap-pidfile-{}", std::process::id()));
        let mut pidfile = Pidfile::take(path.as_os_str(), 4711).unwrap();
        assert_eq!(pidfile.restore(4711), Ok(false));
        fs::remove_file(&path).unwrap();
        assert_eq!(pidfile.restore(4711), Ok(true));
        assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
        // Locked.
        assert_eq!(Pidfile::take(path.as_os_str(), 1).err().as_deref(), Some("another hupwrap has it, pid 4711"));
        // Another file is left alone, at the end too.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "12\n").unwrap();
        assert_eq!(pidfile.restore(4711), Err("another file is there, which is left alone".to_owned()));
        drop(pidfile);
        assert_eq!(fs::read_to_string(&path).unwrap(), "12\n");
        drop(Pidfile::take(path.as_os_str(), 1).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn what_it_may_hold() {
        let path = std::env::temp_dir().join(format!("hupwrap-pidfile-text-{}", std::process::id()));
        let long = "1".repeat(33);
        for text in ["x", "1 2", "-1", "0", "1x\n", "12\n13\n", &long] {
            fs::write(&path, text).unwrap();
            let error = Pidfile::take(path.as_os_str(), 1).err().unwrap();
            assert!(error.starts_with("it is neither empty nor holds a pid"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for text in ["", "12", "12\n", " 12 \n"] {
            fs::write(&path, text).unwrap();
            drop(Pidfile::take(path.as_os_str(), 1).unwrap());
            assert!(!path.exists());
        }
    }
}
