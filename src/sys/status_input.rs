//! Reading the status file of another hupwrap, and whether it may be believed.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Uid, geteuid};

use super::trust::{check_directory, open_regular, read_status, why};

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
    let link = fs::symlink_metadata(path)?;
    let file = open_regular(path)?;
    let file = file.ok_or_else(|| "it is not a regular file; want the file that --status-file names".to_owned())?;
    let of = match purpose {
        Purpose::Look => None,
        Purpose::Signal => trust(path, &link, &file.metadata()?)?,
    };
    match read_status(file)? {
        Some(text) if text.is_empty() => Err(Unread::Absent("it is empty: no hupwrap has written it yet".to_owned())),
        Some(text) => Ok(StatusInput { text, of }),
        None => Err(Unread::Wrong("it is too long for a status file".to_owned())),
    }
}

/// Whether a signal may be sent to the process that the file names. Returns the user that this process must belong to,
/// where only root could do more. `link`: what is at the path itself. Somebody else's link could lead to the file of
/// another hupwrap.
fn trust(path: &Path, link: &Metadata, found: &Metadata) -> Result<Option<Uid>, String> {
    let caller = geteuid();
    let is_believed = |uid: u32| uid == 0 || uid == caller.as_raw();
    for owner in [found.uid(), link.uid()] {
        let is_of_one_user = caller.is_root() && owner == found.uid();
        if !(is_believed(owner) || is_of_one_user) {
            return Err(format!(
                "it belongs to uid {owner}, and names a process; want one of root or of uid {caller}, or be uid {owner}"
            ));
        }
    }
    if found.permissions().mode() & 0o022 != 0 {
        return Err("it is writable by others; `chmod go-w` it".to_owned());
    }
    check_directory(path)?;
    if let Ok(target) = path.canonicalize() {
        check_directory(&target)?;
    }
    Ok((!is_believed(found.uid())).then(|| Uid::from_raw(found.uid())))
}
