//! Reading the status file of another hupwrap, and whether it may be believed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Uid, geteuid};

use super::trust::{check_directory, open_regular, read_status, resolve, why};

/// What a status file is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// To show what it says.
    Look,
    /// To send a signal to the process that it names: so nobody but root or the caller may have written it.
    Signal,
}

/// What was read.
pub(crate) struct StatusInput {
    pub(crate) text: Vec<u8>,
    /// The process that it names must belong to this user. Only root reads such a file to send a signal.
    pub(crate) of: Option<Uid>,
}

/// Why there is nothing to read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// There is no such file, or nothing in it yet.
    Absent(String),
    /// One line: what is wrong.
    Wrong(String),
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Absent("there is no such file; hupwrap may still be running".to_owned()),
            _ => Self::Wrong(why(error)),
        }
    }
}

impl From<String> for Unread {
    fn from(line: String) -> Self {
        Self::Wrong(line)
    }
}

/// Reads a status file.
///
/// # Errors
/// Says why it cannot be read, or believed.
pub(crate) fn read(path: &Path, purpose: Purpose) -> Result<StatusInput, Unread> {
    let file = open_regular(path)?;
    let file = file.ok_or_else(|| "it is not a regular file; want the file that --status-file names".to_owned())?;
    let of = match purpose {
        Purpose::Look => None,
        Purpose::Signal => trust(path, &file)?,
    };
    match read_status(file)? {
        Some(text) if text.is_empty() => Err(Unread::Absent("it is empty: no hupwrap has written it yet".to_owned())),
        Some(text) => Ok(StatusInput { text, of }),
        None => Err(Unread::Wrong("it is too long for a status file".to_owned())),
    }
}

/// Whether a signal may be sent to the process that the file names. Returns the user that this process must belong to,
/// where only root could do more.
///
/// Everybody who had a say in which file this is must be root or the caller. Root believes one other user as well, of
/// processes of that user: somebody else's file names any process, and somebody else's link, also to a directory on the
/// way, leads to the file of any hupwrap.
fn trust(path: &Path, file: &File) -> Result<Option<Uid>, Unread> {
    let found = file.metadata()?;
    let caller = geteuid();
    let (target, links) = resolve(path)?;
    let mut owners: Vec<u32> = [found.uid()].into_iter().chain(links).collect();
    owners.retain(|uid| *uid != 0 && *uid != caller.as_raw());
    owners.dedup();
    if let Some(owner) = owners.get(usize::from(caller.is_root())) {
        return Err(Unread::Wrong(if *owner == found.uid() {
            format!(
                "it belongs to uid {owner}, and names a process; want one of root or of uid {caller}, or be uid {owner}"
            )
        } else {
            format!("a link to it belongs to uid {owner}, and may lead to any hupwrap; name the path that it leads to")
        }));
    }
    if found.permissions().mode() & 0o022 != 0 {
        return Err(Unread::Wrong("it is writable by others; `chmod go-w` it".to_owned()));
    }
    if found.nlink() > 1 {
        // Anyone who may write to a directory may have linked another hupwrap's file into it.
        return Err(Unread::Wrong(
            "it has a second name, a hard link; name the file that --status-file names".to_owned(),
        ));
    }
    check_directory(path)?;
    check_directory(&target)?;
    if !is_at(file, &target) {
        return Err(Unread::Wrong("it became another file while it was looked at; try again".to_owned()));
    }
    Ok(owners.first().copied().map(Uid::from_raw))
}

/// Whether the kernel knows an open file by this path: a link that was changed after it was looked at has not led here.
/// A file that was replaced since has the name that it had. Without /proc nothing is sent anyway.
fn is_at(file: &File, path: &Path) -> bool {
    let known = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    known.map_or(true, |known| {
        let known = known.as_os_str().as_bytes();
        known.strip_suffix(b" (deleted)").unwrap_or(known) == path.as_os_str().as_bytes()
    })
}
