//! Descriptors: above the standard ones, kept over an exec, and taken back after it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::stat;
use nix::unistd::pipe2;

/// The lowest number that is not a standard descriptor.
const ABOVE_STDIO: RawFd = 3;

/// Moves a descriptor above 2, close-on-exec. If hupwrap was started with a standard descriptor closed, the next one
/// that is opened takes its number, and messages or the child's output would go there.
///
/// # Errors
/// EMFILE.
pub(crate) fn above_stdio(fd: OwnedFd) -> nix::Result<OwnedFd> {
    above(fd, ABOVE_STDIO)
}

/// Moves a descriptor to `lowest` or above, close-on-exec, unless it is there already.
///
/// # Errors
/// EMFILE, also for a number beyond the limit, which the kernel calls invalid.
pub(crate) fn above(fd: OwnedFd, lowest: RawFd) -> nix::Result<OwnedFd> {
    if fd.as_raw_fd() >= lowest {
        return Ok(fd);
    }
    let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))
        .map_err(|error| if error == Errno::EINVAL { Errno::EMFILE } else { error })?;
    // SAFETY: fcntl has just made it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Takes the result of a system call that makes a descriptor, and moves it above 2.
///
/// # Errors
/// That of the system call.
pub(crate) fn new_fd(returned: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(returned)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it, and nothing else owns it.
    above_stdio(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Keeps a descriptor open over an exec of hupwrap itself; or no longer, after an exec that failed.
///
/// # Errors
/// A sandbox refuses it.
pub(crate) fn keep_over_exec(fd: impl AsFd, keep: bool) -> nix::Result<()> {
    let flags = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop)
}

/// Whether a descriptor is non-blocking. None if it is not open.
pub(crate) fn is_non_blocking(fd: impl AsFd) -> Option<bool> {
    Some(flags(fd)?.contains(OFlag::O_NONBLOCK))
}

/// Makes a descriptor blocking or non-blocking, for everybody who shares it.
pub(crate) fn set_non_blocking(fd: impl AsFd, non_blocking: bool) {
    let Some(mut wanted) = flags(&fd).filter(|now| now.contains(OFlag::O_NONBLOCK) != non_blocking) else { return };
    wanted.set(OFlag::O_NONBLOCK, non_blocking);
    let _ = fcntl(fd, FcntlArg::F_SETFL(wanted));
}

fn flags(fd: impl AsFd) -> Option<OFlag> {
    fcntl(fd, FcntlArg::F_GETFL).ok().map(OFlag::from_bits_retain)
}

/// Takes a descriptor that was open when hupwrap was executed, and makes it close-on-exec. Each is to be taken once.
///
/// # Errors
/// EBADF: it is not open, or a standard descriptor.
pub(crate) fn take(number: RawFd) -> nix::Result<OwnedFd> {
    if number < ABOVE_STDIO {
        return Err(Errno::EBADF);
    }
    // SAFETY: the process that executed hupwrap left the descriptor to it by this number, and nothing else in hupwrap
    // owns it. If the number is not open, the value is forgotten below, and closes nothing.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Err(Errno::EBADF) => {
            mem::forget(fd);
            Err(Errno::EBADF)
        }
        // Where a sandbox refuses the flag, the descriptor is open all the same.
        _ => Ok(fd),
    }
}

/// A file with a lock of `flock(2)`, exclusive as long as this lives. Not the type of nix, which panics where unlocking
/// fails.
#[derive(Debug)]
pub(crate) struct Locked<F: AsFd>(F);

impl<F: AsFd> Locked<F> {
    /// Locks a file, if nobody else has locked it.
    ///
    /// # Errors
    /// Those of `flock(2)`, with the file; EWOULDBLOCK if somebody else has locked it.
    pub(crate) fn new(file: F) -> Result<Self, (F, Errno)> {
        loop {
            match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
                Ok(()) => return Ok(Self(file)),
                Err(Errno::EINTR) => {}
                Err(error) => return Err((file, error)),
            }
        }
    }
}

fn flock(file: &impl AsFd, operation: libc::c_int) -> nix::Result<()> {
    // SAFETY: has no preconditions.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), operation) }).map(drop)
}

impl<F: AsFd> Drop for Locked<F> {
    fn drop(&mut self) {
        // A child between clone and exec keeps the file open, and with it the lock. If this fails, the lock ends with
        // it.
        let _ = flock(&self.0, libc::LOCK_UN);
    }
}

impl<F: AsFd> Deref for Locked<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl<F: AsFd> DerefMut for Locked<F> {
    fn deref_mut(&mut self) -> &mut F {
        &mut self.0
    }
}

/// The names in a directory, as they are read. Not the type of std, which panics where the directory cannot be closed,
/// nor that of nix, which loses a descriptor where it cannot be opened.
pub(crate) struct Names(NonNull<libc::DIR>);

/// Opens a directory.
///
/// # Errors
/// Those of `open(2)`.
pub(crate) fn names(directory: &Path) -> nix::Result<Names> {
    let path = CString::new(directory.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
    loop {
        // SAFETY: the path is a string that ends with NUL.
        match NonNull::new(unsafe { libc::opendir(path.as_ptr()) }) {
            Some(opened) => return Ok(Names(opened)),
            None if Errno::last() == Errno::EINTR => {}
            None => return Err(Errno::last()),
        }
    }
}

impl Iterator for Names {
    type Item = nix::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            Errno::clear();
            // SAFETY: it is open. What is returned is valid until the next call, and is copied before that.
            let name = unsafe {
                let entry = libc::readdir(self.0.as_ptr());
                if entry.is_null() {
                    return Some(Errno::last()).filter(|error| *error != Errno::UnknownErrno).map(Err);
                }
                CStr::from_ptr((*entry).d_name.as_ptr()).to_bytes()
            };
            if name != b"." && name != b".." {
                return Some(Ok(OsStr::from_bytes(name).to_owned()));
            }
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: it is open, and not used afterwards.
        unsafe { libc::closedir(self.0.as_ptr()) };
    }
}

/// Fills the standard descriptors that are closed, so that what is opened next is not one of them. Not for a
/// supervisor, whose child is to find them closed.
pub(crate) fn hold_stdio() {
    while let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        if null.as_raw_fd() >= ABOVE_STDIO {
            return;
        }
        let _ = null.into_raw_fd();
    }
}

/// A file without a name, in memory and empty.
///
/// # Errors
/// Those of `memfd_create(2)`, which a sandbox may refuse.
pub(crate) fn memory_file() -> nix::Result<OwnedFd> {
    let make = |flags: libc::c_uint| {
        // SAFETY: the name is a string that ends with NUL.
        new_fd(unsafe { libc::syscall(libc::SYS_memfd_create, c"hupwrap".as_ptr(), flags) })
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match make(flags | libc::MFD_NOEXEC_SEAL) {
        // Kernels before 6.3 do not know that flag; hardened ones since demand it (vm.memfd_noexec).
        Err(Errno::EINVAL) => make(flags),
        made => made,
    }
}

/// A descriptor that reads as empty, and takes what is written: /dev/null, or a file in memory where an image has none.
///
/// # Errors
/// As [`memory_file`].
pub(crate) fn nothing() -> nix::Result<OwnedFd> {
    let null = File::options().read(true).write(true).open("/dev/null");
    null.map_or_else(|_| memory_file(), |null| Ok(null.into()))
}

/// Makes a pipe: its ends for reading and for writing.
///
/// # Errors
/// Those of `pipe2(2)`.
pub(crate) fn pipe(flags: OFlag) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(flags)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}

/// The number that every descriptor is below (`RLIMIT_NOFILE`).
pub(crate) fn descriptor_limit() -> i64 {
    getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(soft, _)| i64::try_from(soft).ok()).unwrap_or(i64::MAX)
}

/// Whether two paths lead to the same file.
pub(crate) fn same_file(one: &[u8], other: &[u8]) -> bool {
    let identity = |path| stat(OsStr::from_bytes(path)).map(|found| (found.st_dev, found.st_ino));
    identity(one).is_ok_and(|one| identity(other) == Ok(one))
}

/// Whether a descriptor stays open over an exec.
#[cfg(test)]
pub(crate) fn is_kept(fd: impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFD).is_ok_and(|flags| !FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_crosses_an_exec_and_is_taken_back() {
        let fd = above(File::open("/proc/self/stat").map(OwnedFd::from).unwrap(), 800).unwrap();
        let number = fd.as_raw_fd();
        assert!(number >= 800 && !is_kept(&fd));
        keep_over_exec(&fd, true).unwrap();
        assert!(is_kept(&fd));
        // As an exec does it: the number alone remains.
        mem::forget(fd);
        let fd = take(number).unwrap();
        assert!(fd.as_raw_fd() == number && !is_kept(&fd));
        keep_over_exec(&fd, true).unwrap();
        keep_over_exec(&fd, false).unwrap();
        assert!(!is_kept(&fd));
    }

    #[test]
    fn a_lock_keeps_others_away_as_long_as_it_lives() {
        let path = std::env::temp_dir().join(format!("hupwrap-locked-{}", std::process::id()));
        let open = || File::options().create(true).truncate(false).write(true).open(&path).unwrap();
        let lock = Locked::new(open()).unwrap();
        assert_eq!(Locked::new(open()).err().map(|(_, error)| error), Some(Errno::EWOULDBLOCK));
        drop(lock);
        assert!(Locked::new(open()).is_ok());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_names_in_a_directory() {
        let found: Vec<OsString> = names(Path::new("/proc/self/fdinfo")).unwrap().map(Result::unwrap).collect();
        assert!(found.contains(&"0".into()) && !found.contains(&".".into()) && !found.contains(&"..".into()));
        assert_eq!(names(Path::new("/proc/self/stat")).err(), Some(Errno::ENOTDIR));
        assert_eq!(names(Path::new("/nowhere")).err(), Some(Errno::ENOENT));
    }

    #[test]
    fn what_is_not_open_is_not_taken() {
        for number in [-1, 0, 2, 1_000_000, RawFd::MAX] {
            assert_eq!(take(number).err(), Some(Errno::EBADF));
        }
    }

    #[test]
    fn a_number_beyond_the_limit() {
        let fd = OwnedFd::from(File::open("/proc/self/stat").unwrap());
        assert_eq!(above(fd, RawFd::MAX).err(), Some(Errno::EMFILE));
    }
}
