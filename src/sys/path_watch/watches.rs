//! The kernel's side: an inotify instance, and what is watched through it for which reason.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::sys::fd::above_stdio;

/// How many reads of 4 KB are done in one turn: a flood of events must not keep others waiting.
const MAX_READS: usize = 64;

/// A name comes, goes or is replaced. No event of this set is caused by reading, or by writing to a file.
const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(ITSELF);
/// What is watched is moved or removed.
const ITSELF: AddWatchFlags = AddWatchFlags::IN_MOVE_SELF.union(AddWatchFlags::IN_DELETE_SELF);
/// A file is written, or `touch` sets its mtime. A file that is written through a mapping only tells when it is closed.
const FILE: AddWatchFlags =
    AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_ATTRIB).union(AddWatchFlags::IN_CLOSE_WRITE);
/// Something may be there that has no watch of its own yet.
const NEW: AddWatchFlags =
    AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_MOVED_TO).union(AddWatchFlags::IN_Q_OVERFLOW);
/// The events of one directory for two reasons come through one watch: a second reason must not take the first one's
/// events away. nix has no name for this flag, nor for the next one.
const MASK_ADD: AddWatchFlags = AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);
/// A removed file that somebody still writes to no longer counts as an entry.
const EXCL_UNLINK: AddWatchFlags = AddWatchFlags::from_bits_retain(libc::IN_EXCL_UNLINK);

/// Which events of a watch count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// Of a directory: whether this name comes, goes or is replaced.
    Name(&'a OsStr),
    /// Of a directory: the same, and whether what has this name is written.
    NameAndContent(&'a OsStr),
    /// Of a directory: the same of every name, except the hidden ones.
    Everything,
    /// Of a file: whether it is written, moved or removed.
    File,
    /// Of a directory: whether it is moved or removed.
    Itself,
}

/// What was read from the kernel.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Read {
    /// Whether there was an event.
    pub(super) any: bool,
    /// Whether it may be a change.
    pub(super) counts: bool,
    /// Whether something may be there that is not watched yet.
    pub(super) brings: bool,
    /// Whether there was nothing more to read.
    pub(super) all: bool,
}

/// Which events of a watch count.
struct Interest {
    mask: AddWatchFlags,
    /// Whether all names count that are not hidden.
    everything: bool,
    /// The names that count. They are few: a directory of which all count has none here.
    names: Vec<OsString>,
}

impl Interest {
    fn counts(&self, name: &OsStr) -> bool {
        self.names.iter().any(|known| known == name) || self.everything && !is_excluded(name)
    }

    /// Whether everything that counts for the other one counts for this one.
    fn includes(&self, other: &Self) -> bool {
        self.mask.contains(other.mask)
            && (self.everything || !other.everything)
            && other.names.iter().all(|name| self.counts(name))
    }

    fn add_name(&mut self, name: &OsStr) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
    }

    fn add(&mut self, other: Self) {
        self.mask |= other.mask;
        self.everything |= other.everything;
        other.names.iter().for_each(|name| self.add_name(name));
    }
}

/// Not a HashMap, which panics where the kernel has no random numbers.
type Interests = BTreeMap<WatchDescriptor, Interest>;

/// An inotify instance with its watches.
pub(super) struct Watches {
    /// None where the system refuses it.
    inotify: Option<Inotify>,
    /// What was wanted before this round.
    before: Interests,
    /// What is wanted in this round.
    wanted: Interests,
    /// Why the system refuses it, until somebody asks.
    refusal: Option<Errno>,
}

/// Whether an entry of a watched directory does not count. Kubernetes replaces the contents of a volume by renaming
/// over the link `..data`.
pub(super) fn is_excluded(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") && name != "..data"
}

impl Watches {
    /// Opens an inotify instance. If the system refuses it, nothing is ever read, and every file counts as watched.
    pub(super) fn open() -> Self {
        let opened = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .and_then(|inotify| above_stdio(OwnedFd::from(inotify)));
        let mut watches = Self { inotify: None, before: Interests::new(), wanted: Interests::new(), refusal: None };
        match opened {
            // SAFETY: it is the descriptor of an inotify instance.
            Ok(fd) => watches.inotify = Some(unsafe { Inotify::from_owned_fd(fd) }),
            Err(error) => watches.refuse(error),
        }
        watches
    }

    /// Is readable when there are events.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Whether no event will ever come.
    pub(super) fn is_refused(&self) -> bool {
        self.inotify.is_none()
    }

    /// Does without inotify from now on. A part of the watches would miss a part of the changes, and would be taken
    /// away from other programs.
    pub(super) fn refuse(&mut self, error: Errno) {
        *self = Self { inotify: None, before: Interests::new(), wanted: Interests::new(), refusal: Some(error) };
    }

    /// Why the system refuses inotify; the first time only.
    pub(super) fn take_refusal(&mut self) -> Option<Errno> {
        self.refusal.take()
    }

    /// Begins to collect what is to be watched. If the last round was not ended, what it has added is kept until the
    /// end of this one.
    pub(super) fn begin_round(&mut self) {
        for (watch, interest) in std::mem::take(&mut self.wanted) {
            match self.before.entry(watch) {
                Entry::Occupied(mut before) => before.get_mut().add(interest),
                Entry::Vacant(before) => {
                    before.insert(interest);
                }
            }
        }
    }

    /// Gives up what was not wanted in this round. Returns whether something was wanted that was not watched before:
    /// its changes before that had no events.
    pub(super) fn end_round(&mut self) -> bool {
        let before = std::mem::replace(&mut self.before, std::mem::take(&mut self.wanted));
        let is_old = |(watch, wanted): (_, &Interest)| before.get(watch).is_some_and(|before| before.includes(wanted));
        let has_added = !self.before.iter().all(is_old);
        for watch in before.into_keys().filter(|watch| !self.before.contains_key(watch)) {
            if let Some(inotify) = &self.inotify {
                // It fails if the kernel has given it up already, with what was watched.
                let _ = inotify.rm_watch(watch);
            }
        }
        has_added
    }

    /// Watches a file or a directory, links not followed. Returns false if this user may not do so. What no longer
    /// exists counts as watched: the watch of its directory has an event.
    pub(super) fn watch(&mut self, path: &Path, wanted: Wanted<'_>) -> bool {
        let mask = match wanted {
            Wanted::Name(_) => NAMES | AddWatchFlags::IN_ONLYDIR,
            Wanted::NameAndContent(_) | Wanted::Everything => NAMES | FILE | AddWatchFlags::IN_ONLYDIR | EXCL_UNLINK,
            Wanted::File => FILE | ITSELF,
            Wanted::Itself => ITSELF,
        };
        let Some(inotify) = &self.inotify else { return true };
        match inotify.add_watch(path, mask | AddWatchFlags::IN_DONT_FOLLOW | MASK_ADD) {
            Ok(watch) => {
                let new = || Interest { mask, everything: false, names: Vec::new() };
                let interest = self.wanted.entry(watch).or_insert_with(new);
                interest.mask |= mask;
                match wanted {
                    Wanted::Everything => interest.everything = true,
                    Wanted::Name(name) | Wanted::NameAndContent(name) => interest.add_name(name),
                    Wanted::File | Wanted::Itself => {}
                }
                true
            }
            Err(Errno::EACCES | Errno::EPERM) => false,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => true,
            Err(error) => {
                self.refuse(error);
                true
            }
        }
    }

    /// Reads the events.
    pub(super) fn read(&mut self) -> Read {
        let mut read = Read::default();
        for _ in 0..MAX_READS {
            let Some(inotify) = &self.inotify else { break };
            match inotify.read_events() {
                Ok(events) => {
                    read.any = true;
                    for event in events.iter().filter(|event| self.counts(event)) {
                        read.counts = true;
                        read.brings |= event.mask.intersects(NEW);
                    }
                }
                Err(Errno::EAGAIN) => return Read { all: true, ..read },
                Err(Errno::EINTR) => {}
                Err(error) => self.refuse(error),
            }
        }
        Read { all: self.is_refused(), ..read }
    }

    fn counts(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        // A watch that was given up may still have events.
        let mut interests = [&self.wanted, &self.before].into_iter().filter_map(|interests| interests.get(&event.wd));
        interests.any(|interest| event.name.as_ref().is_none_or(|name| interest.counts(name)))
    }

    /// How many watches there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.before.len()
    }

    /// The events that have come, as names; empty for an event without a name.
    #[cfg(test)]
    pub(super) fn take_names(&self) -> Vec<OsString> {
        let read = || self.inotify.as_ref()?.read_events().ok();
        std::iter::from_fn(read).flatten().map(|event| event.name.unwrap_or_default()).collect()
    }
}
