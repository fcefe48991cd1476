//! The status file of `--status-file`: replaced as a whole at each change.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::sys::Pid;
use crate::sys::fd::Locked;
use crate::sys::proc::ProcStat;
use crate::sys::random::random;
use crate::sys::trust::{directory_of, follow, open_regular, read_status, why};
use crate::sys::unix_path;
use crate::text::status_file;

/// Its owner may write to a status file, and all may read it.
const MODE: u32 = 0o644;
/// How often the lock of the file's directory is tried: 300 ms in all. A hupwrap holds it while it starts its first
/// child. One that gave up too early would start a child beside another's, and find out after that.
const LOCK_TRIES: u8 = 30;
/// How much of the file's name the draft's name has, in bytes: 255 is the most that a name can have.
const LONGEST_PART: usize = 200;

/// Device and inode; and time of the last change and size, because an inode is used again.
type Identity = (u64, u64, i64, i64, u64);

/// A file that is always whole: its content is replaced at once.
pub(crate) struct StatusFile {
    path: PathBuf,
    own_pid: Pid,
    /// The file that was written last, and its path without links. No path if it cannot be resolved.
    written: Option<Identity>,
    place: Option<PathBuf>,
}

impl StatusFile {
    /// The status file of this path. Nothing is looked at and nothing is written yet.
    pub(crate) fn new(path: &OsStr, own_pid: Pid) -> Self {
        Self { path: PathBuf::from(path), own_pid, written: None, place: None }
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the directory of the file, and checks the file. Of two hupwraps that start at once, the one that writes
    /// the file as long as it has the lock is found by the other. Where nothing can be locked, there is no lock.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub(crate) fn lock(&self) -> Result<Option<Locked<OwnedFd>>, String> {
        let lock = unix_path::lock(directory_of(&follow(&self.path)?), LOCK_TRIES);
        self.check()?;
        Ok(lock)
    }

    /// Checks that the file may be replaced: it does not exist, is empty, or is the status file of a hupwrap that has
    /// ended, or of this one. Symbolic links are followed. Returns the path that is to be replaced.
    ///
    /// # Errors
    /// One line that says what the file is.
    pub(crate) fn check(&self) -> Result<PathBuf, String> {
        if self.path.file_name().is_none() {
            return Err("want a file".to_owned());
        }
        let target = follow(&self.path)?;
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(why(error)),
            Ok(found) if self.written == Some(identity(&found)) => {}
            Ok(found) if found.is_dir() => return Err("it is a directory; want a file".to_owned()),
            Ok(_) => match open_regular(&target).map_err(why)? {
                Some(file) => self.check_content(file)?,
                None => return Err("it is not a regular file; want one, or a path that does not exist".to_owned()),
            },
        }
        Ok(target)
    }

    /// Checks what is in a file that this hupwrap has not written.
    fn check_content(&self, file: File) -> Result<(), String> {
        const FOREIGN: &str = "it holds something other than a status file; remove it, or name another path";
        let text = read_status(file).map_err(why)?.ok_or(FOREIGN)?;
        if text.is_empty() {
            return Ok(());
        }
        let other = status_file::read(&text).map_err(|_| FOREIGN)?;
        let alive = other.pid_start.is_some() && ProcStat::at(other.pid).map(|seen| seen.began()) == other.pid_start;
        if alive && other.pid != self.own_pid {
            return Err(format!("another hupwrap, pid {}, keeps its status there; name another path", other.pid));
        }
        Ok(())
    }

    /// Whether the file that was written last is still there.
    pub(crate) fn is_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| self.written == Some(identity(&found)))
    }

    /// Replaces its content. Where the path leads elsewhere by now, the file that was written before is removed: it
    /// would never be true again.
    ///
    /// # Errors
    /// Says why not. The content before is still there.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), String> {
        let target = self.check()?;
        let before = self.written;
        let was_in_place = self.is_in_place();
        let (file, draft) = create(&target, self.own_pid).map_err(why)?;
        let written = replace(file, &draft, &target, text);
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        self.written = Some(written.map_err(why)?);
        if !was_in_place {
            let left = std::mem::replace(&mut self.place, target.canonicalize().ok());
            if let Some(left) = left.filter(|left| Some(left) != self.place.as_ref())
                && fs::symlink_metadata(&left).is_ok_and(|found| before == Some(identity(&found)))
            {
                let _ = fs::remove_file(left);
            }
        }
        Ok(())
    }
}

/// Makes the file that holds the new content until it is complete, beside the old one: a rename does not leave a file
/// system. It is new: not one that somebody else has put there, a symbolic link for example.
fn create(target: &Path, own_pid: Pid) -> io::Result<(File, PathBuf)> {
    let open = |path: &Path| {
        OpenOptions::new().write(true).create_new(true).mode(MODE).custom_flags(libc::O_CLOEXEC).open(path)
    };
    let mut path = draft(target, &own_pid.to_string());
    let mut file = open(&path);
    if file.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
        // A hupwrap with this pid has left it behind.
        file = fs::remove_file(&path).and_then(|()| open(&path));
        if let (Err(_), Ok(random)) = (&file, random::<8>()) {
            // Somebody else keeps it there, in a directory such as /tmp.
            path = draft(target, &random);
            file = open(&path);
        }
    }
    Ok((file?, path))
}

fn draft(target: &Path, end: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let part = OsStr::from_bytes(name.get(..LONGEST_PART).unwrap_or(name));
    let name: OsString = [OsStr::new("."), part, OsStr::new("."), OsStr::new(end)].into_iter().collect();
    target.with_file_name(name)
}

fn replace(mut file: File, draft: &Path, target: &Path, text: &str) -> io::Result<Identity> {
    file.write_all(text.as_bytes())?;
    // Whatever the umask is, the waiting commands may read it, and nobody else may write to it.
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    let written = identity(&file.metadata()?);
    fs::rename(draft, target)?;
    Ok(written)
}

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hupwrap-status-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn file(&self, name: &str) -> StatusFile {
            StatusFile::new(self.at(name).as_os_str(), own_pid())
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> =
                fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn own_pid() -> Pid {
        nix::unistd::getpid().as_raw()
    }

    /// The least that is a status file, of a process that began then.
    fn status(pid: Pid, start: Option<u64>) -> String {
        let start = start.map_or("null".to_owned(), |start| start.to_string());
        format!(r#"{{"pid":{pid},"pid_start":{start},"state":"running","on_hup":"restart","reload":null}}"#)
    }

    #[test]
    fn what_may_be_replaced() {
        let dir = Dir::new("may");
        let parent = nix::unistd::getppid().as_raw();
        let start = |pid| ProcStat::at(pid).map(|seen| seen.began());
        let (own, other) = (start(own_pid()), start(parent));
        for (text, error) in [
            (String::new(), ""),
            (status(own_pid(), own), ""),
            (status(parent, other.map(|start| start + 1)), ""),
            (status(parent, None), ""),
            (status(parent, other), "another hupwrap, pid "),
            ("my notes\n".to_owned(), "it holds something other"),
            (format!("{parent}\n"), "it holds something other"),
            ("{}".to_owned(), "it holds something other"),
            (" ".repeat((1 << 20) + 1), "it holds something other"),
        ] {
            fs::write(dir.at("s"), &text).unwrap();
            let written = dir.file("s").write("x");
            let now = fs::read_to_string(dir.at("s")).unwrap();
            match error {
                "" => assert_eq!((written, now.as_str()), (Ok(()), "x"), "{text}"),
                error => {
                    assert!(written.as_ref().is_err_and(|line| line.starts_with(error)), "{written:?}");
                    assert_eq!(now, text);
                }
            }
        }
        nix::unistd::mkfifo(&dir.at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("fifo", dir.at("link")).unwrap();
        for name in ["fifo", "link", "", "s/x"] {
            assert!(dir.file(name).write("x").is_err(), "{name}");
        }
        assert_eq!(dir.names(), ["fifo", "link", "s"]);
        assert!(fs::symlink_metadata(dir.at("link")).unwrap().is_symlink());
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = Dir::new("link");
        symlink("target", dir.at("link")).unwrap();
        let mut file = dir.file("link");
        for text in ["one", "two"] {
            file.write(text).unwrap();
            assert_eq!(fs::read_to_string(dir.at("target")).unwrap(), text);
            assert_eq!(dir.names(), ["link", "target"]);
        }
        assert!(fs::symlink_metadata(dir.at("link")).unwrap().is_symlink());
    }

    #[test]
    fn a_name_may_be_as_long_as_names_are() {
        let dir = Dir::new("long");
        let name = "n".repeat(255);
        dir.file(&name).write("x").unwrap();
        assert_eq!(dir.names(), [name]);
    }

    #[test]
    fn it_is_known_when_the_file_is_missing_or_another() {
        let dir = Dir::new("place");
        let mut file = dir.file("s");
        assert!(!file.is_in_place());
        file.write("one").unwrap();
        assert!(file.is_in_place());
        fs::remove_file(dir.at("s")).unwrap();
        assert!(!file.is_in_place());
        file.write("two").unwrap();
        assert!(file.is_in_place());
        // Somebody else's file is left alone, also while hupwrap runs.
        fs::remove_file(dir.at("s")).unwrap();
        fs::write(dir.at("s"), "my notes").unwrap();
        assert!(!file.is_in_place());
        assert!(file.write("three").is_err());
        assert_eq!(fs::read_to_string(dir.at("s")).unwrap(), "my notes");
    }
}
