//! Finding a program, and checking it before a child is stopped for it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::stat;

use crate::facts::StartError;
use crate::sys::environment::ChildEnv;
use crate::sys::program::{Defect, defect, from_here, is_executable};
use crate::sys::start_error::{cannot_execute, explain};

/// The directories that are searched where PATH is not set: glibc's own default.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Finds the file of a command, as execvp(3): a word with a slash is a path, another is looked for in PATH. `path` is
/// the PATH of the child. Paths are relative to `workdir`, if the child gets one; also the path that is returned: a
/// link in it that moves before the exec leads both to the same place.
///
/// # Errors
/// Not found, or found but not executable.
pub(crate) fn find(command: &OsStr, path: Option<&[u8]>, workdir: Option<&CStr>) -> Result<CString, StartError> {
    let name = command.as_bytes();
    if name.contains(&b'/') {
        return CString::new(name).map_err(|_| explain(command, None, workdir, Errno::ENOENT));
    }
    let mut denied = None;
    // In every directory there is a `.`, and it is a command of the shell.
    if !matches!(name, b"" | b".") {
        for directory in path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':') {
            // An empty entry is the working directory.
            let directory = if directory.is_empty() { &b"."[..] } else { directory };
            let Ok(file) = CString::new([directory, b"/", name].concat()) else { continue };
            let here = from_here(&file, workdir);
            match is_executable(&here).and_then(|()| needs(&file, workdir)) {
                Ok(()) => return Ok(file),
                // What is in a directory that may not be searched was not found, whatever it is.
                Err(Errno::EACCES) if stat(&*here).is_err() => {}
                Err(error @ (Errno::EACCES | Errno::EISDIR | Errno::ELOOP)) => denied = denied.or(Some((file, error))),
                // What it needs is missing: execvp(3) goes on.
                Err(error) if is_executable(&here).is_ok() => denied = denied.or(Some((file, error))),
                Err(_) => {}
            }
        }
    }
    Err(match denied {
        Some((file, error)) => explain(command, Some(&file), workdir, error),
        None => explain(command, None, workdir, Errno::ENOENT),
    })
}

/// Whether the interpreter of a script, or the loader of a program, is there.
fn needs(file: &CStr, workdir: Option<&CStr>) -> nix::Result<()> {
    match defect(file, workdir) {
        Some(Defect::Interpreter(_, error) | Defect::Loader(_, error)) => Err(error),
        _ => Ok(()),
    }
}

/// Checks before a child is stopped that a command can be executed, in an environment to which a start adds these
/// variables, and little else. The program is looked for as by [`find`].
///
/// # Errors
/// What starting it would have said.
pub(crate) fn check(command: &[OsString], child_env: &ChildEnv, added: &[(&str, String)]) -> Result<(), StartError> {
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let workdir = child_env.workdir.as_deref();
    let file = find(name, child_env.var("PATH"), workdir)?;
    let explained = |error| explain(name, Some(&file), workdir, error);
    is_executable(&from_here(&file, workdir)).map_err(explained)?;
    if let Some(defect) = defect(&file, workdir) {
        return Err(explained(defect.errno()));
    }
    let variables = child_env.own.iter().map(CString::as_c_str).chain(child_env.inherited.iter().copied());
    let added = added.iter().map(|(_, value)| value.as_bytes());
    let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
    fits(&words, &variables.map(CStr::to_bytes).chain(added).collect::<Vec<_>>())
        .map_err(|why| cannot_execute(name, Errno::E2BIG, &why))
}

/// No argument and no variable is longer, its NUL included (`execve(2)`).
const LONGEST_STRING: usize = 128 << 10;
/// Arguments and environment together may always be that long, and never longer than the other.
const LEAST_LIMIT: u64 = 128 << 10;
const MOST_LIMIT: u64 = 6 << 20;
/// What a start adds besides, roughly: names and numbers.
const ADDED: u64 = 4 << 10;

/// Whether a command and an environment are short enough.
///
/// # Errors
/// Names what is too long.
pub(super) fn fits(command: &[&[u8]], variables: &[&[u8]]) -> Result<(), String> {
    let limit = LONGEST_STRING >> 10;
    if let Some(variable) = variables.iter().find(|variable| variable.len() >= LONGEST_STRING) {
        let name =
            variable.iter().position(|byte| *byte == b'=').and_then(|end| variable.get(..end)).unwrap_or_default();
        return Err(format!("the variable {} is too long; want less than {limit} KiB", String::from_utf8_lossy(name)));
    }
    if let Some(at) = command.iter().position(|word| word.len() >= LONGEST_STRING) {
        return Err(format!("argument {at} is too long; want less than {limit} KiB"));
    }
    // Each takes its NUL, and a pointer.
    let beside = size_of::<usize>().saturating_add(1);
    let all = variables.iter().chain(command);
    let sum = all.fold(0_usize, |sum, string| sum.saturating_add(string.len()).saturating_add(beside));
    let sum = u64::try_from(sum).unwrap_or(u64::MAX).saturating_add(ADDED);
    let stack = getrlimit(Resource::RLIMIT_STACK).map_or(u64::MAX, |(soft, _)| soft);
    let limit = (stack >> 2).clamp(LEAST_LIMIT, MOST_LIMIT);
    if sum > limit {
        let (sum, limit) = (sum >> 10, limit >> 10);
        return Err(format!(
            "arguments and environment are too long: {sum} KiB; want less than {limit} KiB, a quarter of the stack (ulimit -s)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long() {
        let child_env = |own: Vec<CString>| ChildEnv { inherited: vec![c"A=1"], own, workdir: None };
        let checked =
            |words: &[OsString], own| check(words, &child_env(own), &[]).map_err(|error| (error.code, error.reason));
        let long = |length: usize| "x".repeat(length);
        let words = |length| [OsString::from("true"), long(length).into()];
        let variable = |length: usize| vec![CString::new(format!("B={}", long(length))).unwrap()];
        assert_eq!(checked(&words(LONGEST_STRING - 1), Vec::new()), Ok(()));
        let argument = "true: cannot be executed: argument 1 is too long; want less than 128 KiB";
        assert_eq!(checked(&words(LONGEST_STRING), Vec::new()), Err((126, argument.to_owned())));
        assert_eq!(checked(&words(0), variable(LONGEST_STRING - 3)), Ok(()));
        let too_long = "true: cannot be executed: the variable B is too long; want less than 128 KiB";
        assert_eq!(checked(&words(0), variable(LONGEST_STRING - 2)), Err((126, too_long.to_owned())));
        // What a start adds counts too.
        let most = vec![OsString::from(long(100 << 10)); 50];
        let of_sockets = vec![("A", long(120 << 10)); 10];
        let checked_with = |added| check(&[&["true".into()], &most[..]].concat(), &child_env(Vec::new()), added);
        assert!(checked_with(&of_sockets).unwrap_err().reason.contains("arguments and environment are too long: 620"));
        // More than any stack allows.
        let many = vec![OsString::from(long(100 << 10)); 62];
        let refused = checked(&[&["true".into()], &many[..]].concat(), Vec::new()).unwrap_err();
        assert!(refused.1.contains("arguments and environment are too long: 620"), "{}", refused.1);
    }
}
