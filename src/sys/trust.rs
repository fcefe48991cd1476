//! Who may change a file: a file that names a process must be nobody else's.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::libc;
use nix::unistd::geteuid;

use crate::sys::{errno, start_error};

/// The sticky bit of a directory: only owners remove files there.
const STICKY: u32 = 0o1000;
/// More than any status file has, in bytes.
const LONGEST: u64 = 1 << 20;
/// As many symbolic links as the kernel follows.
const MOST_LINKS: u8 = 40;

/// The directory that a path is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Checks the directory of a path. If everybody may remove and make files in it, root's tools can trust no file there.
///
/// # Errors
/// One line that says what is wrong with the directory.
pub(super) fn check_directory(path: &Path) -> Result<(), String> {
    let directory = directory_of(path);
    let shown = directory.display();
    let found = fs::metadata(directory).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("the directory '{shown}' does not exist; create it first"),
        _ => format!("the directory '{shown}': {}", why(error)),
    })?;
    if !found.is_dir() {
        return Err(format!("'{shown}' is not a directory"));
    }
    let mode = found.permissions().mode();
    if geteuid().is_root() && mode & 0o002 != 0 && mode & STICKY == 0 {
        return Err(format!("everybody may replace files in '{shown}'; want one that only its owner can write to"));
    }
    Ok(())
}

/// The path that a symbolic link leads to in the end, which need not exist; the path itself if it is not a link. Each
/// link must belong to root or to this user: the link of somebody else could lead anywhere.
///
/// # Errors
/// One line that says what is wrong with a link, or with a directory on the way.
pub(super) fn follow(path: &Path) -> Result<PathBuf, String> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        check_directory(&path)?;
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let (owner, own) = (found.uid(), geteuid().as_raw());
                if owner != 0 && owner != own {
                    let shown = path.display();
                    return Err(format!(
                        "'{shown}' is a symbolic link of uid {owner}; want one of root or of uid {own}"
                    ));
                }
                let target = fs::read_link(&path).map_err(why)?;
                path = directory_of(&path).join(target);
            }
            _ => return Ok(path),
        }
    }
    Err("too many symbolic links".to_owned())
}

/// Whether this file is the one with this name in this directory. It need not exist.
pub(super) fn is_at(file: &Path, directory: &Path, name: &OsStr) -> bool {
    let same_directory = || {
        let real = |directory: &Path| fs::metadata(directory).map(|found| (found.dev(), found.ino())).ok();
        real(directory_of(file)) == real(directory)
    };
    file.file_name() == Some(name) && same_directory()
}

/// Whether two paths are those of one file, which need not exist.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let end = |path: &Path| follow(path).unwrap_or_else(|_| path.to_owned());
    let (one, other) = (end(one), end(other));
    one == other || other.file_name().is_some_and(|name| is_at(&one, directory_of(&other), name))
}

/// A path without symbolic links that leads where this one does, and the owners of the links that were followed.
///
/// # Errors
/// Something on the way does not exist, or cannot be looked at; ELOOP.
pub(super) fn resolve(path: &Path) -> io::Result<(PathBuf, Vec<u32>)> {
    let mut todo: Vec<OsString> = std::path::absolute(path)?.components().rev().map(name_of).collect();
    let (mut found, mut owners) = (PathBuf::new(), Vec::new());
    while let Some(name) = todo.pop() {
        if name == ".." {
            found.pop();
            continue;
        }
        let next = found.join(name);
        let seen = fs::symlink_metadata(&next)?;
        if !seen.is_symlink() {
            found = next;
            continue;
        }
        owners.push(seen.uid());
        if owners.len() > usize::from(MOST_LINKS) {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        todo.extend(fs::read_link(&next)?.components().rev().map(name_of));
    }
    Ok((found, owners))
}

fn name_of(component: Component) -> OsString {
    component.as_os_str().to_owned()
}

/// Opens a regular file to read it. Nothing else is opened: to open a device or a FIFO may have an effect, or wait.
///
/// # Errors
/// One line.
pub(super) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // It may be another by now.
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Reads a status file. None if it is longer than any.
///
/// # Errors
/// It cannot be read.
pub(super) fn read_status(file: File) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let length = file.take(LONGEST.saturating_add(1)).read_to_end(&mut text)?;
    Ok(u64::try_from(length).is_ok_and(|length| length <= LONGEST).then_some(text))
}

/// Says for people why a file could not be used.
pub(super) fn why(error: io::Error) -> String {
    start_error::describe(errno(error)).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_what_need_not_exist() {
        let dir = std::env::temp_dir().join(format!("hupwrap-trust-{}", std::process::id()));
        fs::create_dir_all(dir.join("sub")).unwrap();
        let at = |name: &str| dir.join(name);
        symlink("sub/two", at("one")).unwrap();
        symlink(at("three"), at("sub/two")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("missing/x", at("lost")).unwrap();
        assert_eq!(follow(&at("plain")), Ok(at("plain")));
        assert_eq!(follow(&at("one")), Ok(at("three")));
        assert_eq!(follow(&at("loop")), Err("too many symbolic links".to_owned()));
        let missing = format!("the directory '{}' does not exist; create it first", at("missing").display());
        assert_eq!(follow(&at("lost")), Err(missing));
        fs::write(at("three"), "").unwrap();
        symlink("..", at("sub/up")).unwrap();
        let own = geteuid().as_raw();
        let here = resolve(&dir).unwrap();
        for (path, links) in [("three", 0), ("./sub/../three", 0), ("one", 2), ("sub/up/sub/up/one", 4)] {
            let (found, owners) = resolve(&at(path)).unwrap();
            assert_eq!((found, owners.len()), (here.0.join("three"), here.1.len() + links), "{path}");
            assert!(owners.iter().rev().take(links).all(|owner| *owner == own));
        }
        assert_eq!(resolve(&at("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(resolve(&at("lost")).unwrap_err().kind(), ErrorKind::NotFound);
        let file = format!("'{}' is not a directory", at("three").display());
        assert_eq!(follow(&at("three/x")), Err(file));
        fs::remove_dir_all(dir).unwrap();
    }
}
