//! One look at every PATH, in steps: watches everything, then looks at it. In this order no change is missed between
//! the two.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::digest::{Digest, Entry};
use super::watches::{Wanted, Watches, is_excluded};
use crate::sys::errno;
use crate::sys::fd::{Names, names};
use crate::sys::trust::{follow, is_at};

/// How many links are followed on the way to a file: as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// A look in progress.
#[derive(Default)]
pub(super) struct Walk {
    /// What hupwrap and its child make: as named, and what each link among them leads to now.
    own_files: Vec<PathBuf>,
    /// One of each PATH that was reached so far.
    digests: Vec<Digest>,
    /// Directories that are still to be listed.
    directories: Vec<PathBuf>,
    /// The directory that is being listed.
    listing: Option<(PathBuf, Names)>,
    /// How many names may still be looked at in this step.
    budget: usize,
    done: bool,
    unwatched: Option<PathBuf>,
    failed: bool,
}

/// What a finished walk has found.
#[derive(Debug)]
pub(super) struct Found {
    /// The digest of each PATH.
    pub(super) digests: Vec<u64>,
    /// A file or directory that this user may not watch.
    pub(super) unwatched: Option<PathBuf>,
}

impl Walk {
    /// Begins a look in which these files do not count.
    pub(super) fn new(own_files: &[PathBuf]) -> Self {
        let own_files = own_files.iter().flat_map(|file| follow(file).into_iter().chain([file.clone()])).collect();
        Self { own_files, ..Self::default() }
    }

    /// Whether everything was looked at.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// What was found. None if a part of it could not be seen for lack of memory, descriptors or the like: nothing
    /// follows from that.
    pub(super) fn found(self) -> Option<Found> {
        let digests = self.digests.into_iter().map(Digest::value).collect();
        (!self.failed).then_some(Found { digests, unwatched: self.unwatched })
    }

    /// Looks at roughly this many names.
    pub(super) fn step(&mut self, budget: usize, paths: &[OsString], watches: &mut Watches) {
        self.budget = budget;
        while self.budget > 0 && !self.done {
            self.budget = self.budget.saturating_sub(1);
            if let Some((directory, mut names)) = self.listing.take() {
                match names.next() {
                    Some(Ok(name)) => {
                        if !is_excluded(&name) && !self.is_own(&directory, &name) {
                            self.entry(&directory, &name, watches);
                        }
                        self.listing = Some((directory, names));
                    }
                    // The rest of the names is unknown.
                    Some(Err(_)) => self.failed = true,
                    None => {}
                }
            } else if let Some(directory) = self.directories.pop() {
                // One that cannot be watched cannot be listed either. The watch of the directory above it has an event
                // when that changes.
                watches.watch(&directory, Wanted::Everything);
                match names(&directory) {
                    Ok(names) => self.listing = Some((directory, names)),
                    Err(error) => self.note_failure(error),
                }
            } else if let Some(path) = paths.get(self.digests.len()) {
                self.digests.push(Digest::default());
                let path = Path::new(path);
                let start = if path.is_absolute() { "/" } else { "." };
                if let Some(directory) = self.resolve(PathBuf::from(start), path, watches) {
                    // Nothing above it tells that it becomes readable.
                    if !watches.watch(&directory, Wanted::Everything) {
                        self.unwatched = Some(directory.clone());
                    }
                    self.directories.push(directory);
                }
            } else {
                self.done = true;
            }
        }
    }

    fn entry(&mut self, directory: &Path, name: &OsStr, watches: &mut Watches) {
        let path = directory.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                // A link to a directory is not descended into: it may lead back here.
                self.resolve(directory.to_owned(), Path::new(name), watches);
            }
            Ok(found) => {
                self.add(&path, kind(&found));
                if found.is_dir() {
                    self.directories.push(path);
                }
            }
            Err(error) => {
                self.add(&path, Entry::Missing);
                self.note_failure(errno(error));
            }
        }
    }

    /// Follows a path from a directory, one component after the other. Watches each component in its directory, and
    /// counts each link and what is at the end. Returns the end if it is a directory, without a link in its path.
    fn resolve(&mut self, start: PathBuf, path: &Path, watches: &mut Watches) -> Option<PathBuf> {
        let whole = start.join(path);
        let mut here = start;
        let mut rest = components(path);
        let mut links = 0_usize;
        // Whether a watch tells that another directory is in the place of this one.
        let mut is_watched = true;
        while let Some(name) = rest.pop() {
            self.budget = self.budget.saturating_sub(1);
            if name == "/" {
                here = PathBuf::from("/");
                continue;
            }
            if name == ".." {
                go_up(&mut here);
                continue;
            }
            if rest.is_empty() && self.is_own(&here, &name) {
                return None;
            }
            let names_watched = watches.watch(&here, Wanted::Name(&name));
            if !names_watched && !is_watched {
                self.unwatched = Some(here.clone());
            }
            let at = here.join(&name);
            let found = match fs::symlink_metadata(&at) {
                Ok(found) => found,
                Err(error) => {
                    let error = errno(error);
                    // If this user may not search `here`, nothing tells when that changes.
                    if !names_watched || error == Errno::EACCES {
                        self.unwatched = Some(here);
                    }
                    // The whole path is missing, whichever of the directories above it are there.
                    self.add(&whole, Entry::Missing);
                    self.note_failure(error);
                    return None;
                }
            };
            if found.is_dir() {
                here = at;
                is_watched = names_watched;
                continue;
            }
            if found.is_symlink() {
                if !names_watched {
                    self.unwatched = Some(here.clone());
                }
                links = links.saturating_add(1);
                match fs::read_link(&at) {
                    Ok(target) if links <= MAX_LINKS => {
                        self.add(&at, Entry::Link(&target));
                        rest.extend(components(&target));
                        continue;
                    }
                    Ok(_) => {}
                    Err(error) => self.note_failure(errno(error)),
                }
                self.add(&whole, Entry::Missing);
                return None;
            }
            // The file itself is watched, not the content of every file beside it: those may be busy logs.
            let watched = match found.is_file() {
                true => watches.watch(&at, Wanted::File) || watches.watch(&here, Wanted::NameAndContent(&name)),
                false => names_watched || watches.watch(&at, Wanted::Itself),
            };
            if !watched {
                self.unwatched = Some(here);
            }
            // A file is no directory: nothing is below it.
            if rest.is_empty() {
                self.add(&at, kind(&found));
            } else {
                self.add(&whole, Entry::Missing);
            }
            return None;
        }
        if !is_watched && !watches.watch(&here, Wanted::Itself) {
            self.unwatched = Some(here.clone());
        }
        self.add(&here, Entry::Directory);
        Some(here)
    }

    fn is_own(&self, directory: &Path, name: &OsStr) -> bool {
        self.own_files.iter().any(|own| is_at(own, directory, name))
    }

    fn add(&mut self, path: &Path, entry: Entry<'_>) {
        if let Some(digest) = self.digests.last_mut() {
            digest.add(path, entry);
        }
    }

    /// As if a part could not be seen.
    #[cfg(test)]
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Records a look that failed. An error that describes the path, such as ENOENT, is an answer and no failure.
    fn note_failure(&mut self, error: Errno) {
        let is_answer =
            matches!(error, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP | Errno::ENAMETOOLONG);
        self.failed |= !is_answer;
    }
}

/// The components of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let components = path.components().filter(|component| *component != Component::CurDir);
    components.rev().map(|component| component.as_os_str().to_owned()).collect()
}

/// Replaces a directory without links in its path by the one above it.
fn go_up(directory: &mut PathBuf) {
    if directory.file_name().is_some() {
        directory.pop();
    } else if directory != Path::new("/") {
        directory.push("..");
    }
}

fn kind(found: &Metadata) -> Entry<'static> {
    if found.is_dir() {
        return Entry::Directory;
    }
    if !found.is_file() {
        return Entry::Other;
    }
    Entry::File { modified: (found.mtime(), found.mtime_nsec()), size: found.size(), inode: found.ino() }
}
