//! Finding a program, and checking it before a child is stopped for it.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, access};

use crate::facts::StartError;
use crate::sys::program::{from_here, interpreter, is_executable};
use crate::sys::start_error::explain;

/// The directories that are searched where PATH is not set: glibc's own default.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Finds the file of a command, as execvp(3): a word with a slash is a path, another is looked for in PATH. `path` is the
/// PATH of the child. What is relative is so to `workdir`, where the child gets one, and so is the path that is returned:
/// a link in it that moves before the exec leads both to the same place.
///
/// # Errors
/// Not found, or found but not executable.
pub fn find(command: &OsStr, path: Option<&[u8]>, workdir: Option<&CStr>) -> Result<CString, StartError> {
    let name = command.as_bytes();
    if name.contains(&b'/') {
        return CString::new(name).map_err(|_| explain(command, None, workdir, Errno::ENOENT));
    }
    let mut denied = None;
    if !name.is_empty() {
        for directory in path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':') {
            // An empty entry is the working directory.
            let directory = if directory.is_empty() { &b"."[..] } else { directory };
            let Ok(file) = CString::new([directory, b"/", name].concat()) else { continue };
            let here = from_here(&file, workdir);
            match is_executable(&here) {
                Ok(()) => return Ok(file),
                // What is in a directory that may not be searched was not found, whatever it is.
                Err(Errno::EACCES) if stat(&*here).is_err() => {}
                Err(error @ (Errno::EACCES | Errno::EISDIR | Errno::ELOOP)) => denied = denied.or(Some((file, error))),
                Err(_) => {}
            }
        }
    }
    Err(match denied {
        Some((file, error)) => explain(command, Some(&file), workdir, error),
        None => explain(command, None, workdir, Errno::ENOENT),
    })
}

/// Checks for free, before a child is stopped, that a command can be executed. It is looked for as by [`find`].
///
/// # Errors
/// What starting it would have said.
pub fn check(command: &OsStr, path: Option<&[u8]>, workdir: Option<&CStr>) -> Result<(), StartError> {
    let file = find(command, path, workdir)?;
    let here = from_here(&file, workdir);
    is_executable(&here).map_err(|error| explain(command, Some(&file), workdir, error))?;
    match interpreter(&here) {
        Some(interpreter) if access(&*from_here(&interpreter, workdir), AccessFlags::F_OK) == Err(Errno::ENOENT) => {
            Err(explain(command, Some(&file), workdir, Errno::ENOENT))
        }
        _ => Ok(()),
    }
}
