//! Why something could not be started, for people: the only place that puts an errno into words.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc::{S_IFDIR, S_IFMT, S_IFREG};
use nix::sys::stat::stat;

use crate::exit::{CANNOT_EXECUTE, NOT_FOUND, OWN_FAILURE};
use crate::facts::StartError;
use crate::sys::program::{Defect, defect, from_here};
use crate::text::hints::{self, CommandFacts};

/// Whether another try may succeed though nothing is repaired.
pub(crate) fn is_transient(error: Errno) -> bool {
    matches!(error, Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EIO | Errno::ETXTBSY)
}

/// Says for people what is wrong with a file.
pub(crate) fn describe(error: Errno) -> &'static str {
    match error {
        Errno::ENOENT => "no such file or directory",
        Errno::ENOTDIR => "a part of its path is no directory",
        Errno::EACCES => "permission denied",
        Errno::ELOOP => "too many symbolic links",
        Errno::EMFILE => "too many open files (ulimit -n)",
        other => other.desc(),
    }
}

/// Says for people why a command could not be started, and what that makes of the exit status. `file` is what was
/// found, if anything was, as a path of the child's.
pub(crate) fn explain(command: &OsStr, file: Option<&CStr>, workdir: Option<&CStr>, error: Errno) -> StartError {
    let here = file.map(|file| from_here(file, workdir));
    let here = here.as_deref();
    let not_found = |hint: &str| StartError {
        code: NOT_FOUND,
        transient: false,
        reason: format!("{}: not found{hint}", shown(command)),
    };
    let found = match error {
        Errno::ENOENT | Errno::EACCES | Errno::ENOEXEC | Errno::ELOOP => file.and_then(|file| defect(file, workdir)),
        _ => None,
    };
    // What the program needs, and its path.
    let needed = match &found {
        Some(Defect::Interpreter(path, _)) => Some(("interpreter", path.to_string_lossy())),
        Some(Defect::Loader(path, _)) => Some(("loader", path.to_string_lossy())),
        _ => None,
    };
    match (error, needed) {
        (Errno::ENOENT, Some(("loader", path))) => {
            return not_found(&format!(" (it is there, but its loader {path} is missing: built for another system?)"));
        }
        (Errno::ENOENT, Some((what, path))) => return not_found(&format!(" (its {what} {path} is missing)")),
        (_, Some((what, path))) => {
            return cannot_execute(command, error, &format!("its {what} {path}: {}", describe(error)));
        }
        (_, None) => {}
    }
    let kind = here.and_then(|file| stat(file).ok()).map(|seen| seen.st_mode & S_IFMT);
    let why = match error {
        Errno::ENOENT => return not_found(&hint(command, file, workdir)),
        Errno::ENOEXEC if found == Some(Defect::Empty) => "it is empty",
        Errno::ENOTDIR => return not_found(" (a part of its path is no directory)"),
        Errno::EACCES | Errno::EISDIR if kind == Some(S_IFDIR) => "it is a directory",
        Errno::EACCES if kind.is_some_and(|kind| kind != S_IFREG) => "it is not a regular file",
        Errno::ENOEXEC => "it is no program for this machine, and no script",
        Errno::ETXTBSY => "it is open for writing",
        Errno::EAGAIN => "no further process is allowed (ulimit -u, or the cgroup's limit)",
        Errno::E2BIG => "arguments and environment are too long",
        other => describe(other),
    };
    let hint = if error == Errno::EACCES { hint(command, file, workdir) } else { String::new() };
    cannot_execute(command, error, &format!("{why}{hint}"))
}

/// What somebody who typed this may have meant.
fn hint(command: &OsStr, found: Option<&CStr>, workdir: Option<&CStr>) -> String {
    let mode = |file: &CStr| {
        let mode = stat(&*from_here(file, workdir)).ok()?.st_mode;
        (mode & S_IFMT == S_IFREG).then_some(mode)
    };
    let facts = CommandFacts {
        is_here: CString::new(command.as_bytes()).is_ok_and(|file| mode(&file).is_some()),
        not_executable: found.and_then(mode).is_some_and(|mode| mode & 0o111 == 0),
    };
    hints::for_command(&command.to_string_lossy(), facts)
}

pub(super) fn cannot_execute(command: &OsStr, error: Errno, why: &str) -> StartError {
    StartError {
        code: CANNOT_EXECUTE,
        transient: is_transient(error),
        reason: format!("{}: cannot be executed: {why}", shown(command)),
    }
}

fn shown(command: &OsStr) -> Cow<'_, str> {
    if command.is_empty() { "''".into() } else { command.to_string_lossy() }
}

/// Says why a child cannot have a working directory.
pub(super) fn workdir_error(directory: &CStr, error: Errno) -> StartError {
    let why = match error {
        Errno::ENOTDIR => "it, or a part of its path, is no directory",
        error => describe(error),
    };
    StartError {
        code: OWN_FAILURE,
        transient: is_transient(error),
        reason: format!("--workdir '{}': {why}", directory.to_string_lossy()),
    }
}
