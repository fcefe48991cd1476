//! The file of a unix socket: whether one that exists is in use, its mode, and making it again.
//!
//! Whether a socket that is found at a path is in use is asked by connecting with a datagram socket. If a stream socket
//! is bound there, the answer is EPROTOTYPE, even if it does not listen yet, and no server sees a connection. A stale
//! file is replaced under a lock on its directory, so of two hupwraps one wins and the other one hears that the path is
//! in use. There is no lock if the directory may not be read. Then, and against programs that do not know the lock, a
//! few microseconds between question and replacement remain.
//!
//! A socket without its file cannot be given another one. So the file has a second name, which survives a child that
//! removes the first: then the sockets that children have already can be reached again.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_to, connect, getsockname, listen, socket,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::unlink;

use crate::sys::fd::{Locked, above};
use crate::sys::start_error;
use crate::sys::trust::directory_of;
use crate::sys::{errno, poll};
use crate::text::socket_facts::SocketFile;

/// How often the lock on a directory is tried: 100 ms in all. A hupwrap holds it for microseconds to replace a stale
/// socket. A program that holds it longer uses it for something else, and is not waited for.
const LOCK_TRIES: u8 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a socket cannot be bound to a path.
enum Refusal {
    /// The kernel's reason.
    Failed(Errno),
    /// A process listens there.
    Live,
    /// What a dead process left there cannot be removed.
    Stale(Errno),
    /// Nobody may ask whether it is in use.
    Secret,
    /// It is something else.
    NoSocket(&'static str),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

impl Refusal {
    fn explain(&self, path: &str) -> String {
        let directory = directory_of(Path::new(path));
        let shown = directory.display();
        match self {
            Self::Live | Self::Failed(Errno::EADDRINUSE) => {
                "another process uses this socket; stop that first (ss -lxp shows it), or name another path".to_owned()
            }
            Self::Secret => "a socket is there already, and without the permission to write to it nobody can tell \
                             whether it is in use; remove it, or name another path"
                .to_owned(),
            Self::Stale(error) => {
                let why = start_error::describe(*error);
                format!("the socket of an earlier process is there and cannot be removed: {why}")
            }
            Self::NoSocket(what) => format!("a {what} is there already, which is left alone; name another path"),
            Self::Failed(Errno::ENOENT | Errno::ENOTDIR) if directory.is_dir() => {
                format!("no file can be made in '{shown}'; name another path")
            }
            Self::Failed(Errno::ENOENT) => format!("the directory '{shown}' does not exist; create it first"),
            Self::Failed(Errno::ENOTDIR) => format!("'{shown}' is not a directory"),
            Self::Failed(Errno::EACCES) => format!("no permission to make a file in '{shown}'"),
            Self::Failed(other) => start_error::describe(*other).to_owned(),
        }
    }
}

/// Binds a socket, with a descriptor from `lowest` on, to a path. A stale file there is replaced.
///
/// # Errors
/// One line that says why not.
pub(super) fn bind(path: &str, mode: u32, lowest: RawFd) -> Result<OwnedFd, String> {
    try_bind(path, mode, lowest).map_err(|refusal| refusal.explain(path))
}

/// Binds a new socket for a path from which the file was removed. The file appears there when the socket takes
/// connections: it is bound to its second name, and `link(2)` replaces nothing. Without a second name, clients may find
/// a socket that does not take connections yet.
///
/// # Errors
/// One line that says why not.
pub(super) fn bind_again(path: &str, mode: u32, lowest: RawFd) -> Result<OwnedFd, String> {
    let bind = |name: &str| {
        let fd = bind_new(name, mode, lowest)?;
        let listens = listen(&fd, Backlog::MAXALLOWABLE);
        if listens.is_err() {
            let _ = fs::remove_file(name);
        }
        listens.map(|()| fd)
    };
    let linked = second_name(path).and_then(|second| {
        let fd = bind(second.to_str()?).ok()?;
        let linked = fs::hard_link(&second, path);
        if linked.is_err() {
            let _ = fs::remove_file(&second);
        }
        linked.ok().map(|()| fd)
    });
    linked.map_or_else(|| bind(path), Ok).map_err(|error| Refusal::Failed(error).explain(path))
}

/// The second name of a socket's file: hidden, in the same directory, known to the next hupwrap there.
fn second_name(path: &str) -> Option<PathBuf> {
    let name = Path::new(path).file_name()?.to_str()?;
    Some(directory_of(Path::new(path)).join(format!(".{name}.hupwrap")))
}

/// Gives the file of a socket its second name, if it does not have it. What a dead hupwrap left there is replaced. Some
/// file systems have no second names; then only a new socket can take the place of a file that is removed.
pub(super) fn keep(path: &str, made: SocketFile) {
    let Some(second) = second_name(path) else { return };
    let Some(name) = second.to_str().filter(|_| !made.is_at(file_at(&second))) else { return };
    if fs::hard_link(path, &second).is_err() && matches!(is_stale(name), Ok(true)) && unlink(name).is_ok() {
        let _ = fs::hard_link(path, &second);
    }
}

/// Brings the file of a socket back from its second name. False if it is not there, or something is at the path.
pub(super) fn bring_back(path: &str, made: SocketFile) -> bool {
    second_name(path).is_some_and(|second| made.is_at(file_at(&second)) && fs::hard_link(second, path).is_ok())
}

/// Removes a socket's file and its second name, where they are still those that were made.
pub(super) fn remove(path: &str, made: SocketFile) {
    for name in second_name(path).into_iter().chain([PathBuf::from(path)]) {
        if made.is_at(file_at(&name)) {
            let _ = fs::remove_file(name);
        }
    }
}

/// Whether a socket was bound in the directory of a path. A state that says otherwise is forged: what it calls the file
/// of the socket is somebody else's.
pub(super) fn is_bound_beside(socket: &OwnedFd, path: &str) -> bool {
    // Tried twice: an error that does not last must not leave a file behind.
    let ask = || getsockname::<UnixAddr>(socket.as_raw_fd());
    let bound = ask().or_else(|_| ask());
    bound.is_ok_and(|bound| bound.path().is_some_and(|bound| directory_of(bound) == directory_of(Path::new(path))))
}

/// The file at a path, if there is one.
pub(super) fn file_at(path: impl AsRef<Path>) -> nix::Result<Option<SocketFile>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(SocketFile { device: found.dev(), inode: found.ino(), mode: found.mode() & 0o777 })),
        Err(error) => match errno(error) {
            Errno::ENOENT => Ok(None),
            error => Err(error),
        },
    }
}

fn try_bind(path: &str, mode: u32, lowest: RawFd) -> Result<OwnedFd, Refusal> {
    match bind_new(path, mode, lowest) {
        Err(Errno::EADDRINUSE) => {
            let _lock = lock(directory_of(Path::new(path)), LOCK_TRIES);
            if is_stale(path)? {
                unlink(path).map_err(Refusal::Stale)?;
            }
            Ok(bind_new(path, mode, lowest)?)
        }
        bound => Ok(bound?),
    }
}

/// Binds a new socket. The kernel makes the file with 0777 less the umask (`unix(7)`). So it has its mode from the
/// first moment on, and no second look at the path is needed that could find another file.
fn bind_new(path: &str, mode: u32, lowest: RawFd) -> nix::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let fd = above(socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?, lowest)?;
    let before = umask(Mode::from_bits_truncate(0o777 & !mode));
    let bound = bind_to(fd.as_raw_fd(), &address);
    umask(before);
    bound.map(|()| fd)
}

/// Whether a socket is there that no process has bound any longer. False if nothing is there.
fn is_stale(path: &str) -> Result<bool, Refusal> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(false) };
    let kind = found.file_type();
    if !kind.is_socket() {
        return Err(Refusal::NoSocket(match kind {
            _ if kind.is_dir() => "directory",
            _ if kind.is_symlink() => "symbolic link",
            _ => "file that is no socket",
        }));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let question = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    match connect(question.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        // Of another type; a datagram socket; one that talks to its peer only.
        Err(Errno::EPROTOTYPE | Errno::EAGAIN | Errno::EPERM) | Ok(()) => Err(Refusal::Live),
        Err(Errno::EACCES) => Err(Refusal::Secret),
        Err(other) => Err(other.into()),
    }
}

/// Locks a directory against other hupwraps. None if that is impossible, or somebody else keeps the lock over this many
/// tries, one each 10 ms. Only a start does this: a loop that supervises must not wait for a stranger.
pub(super) fn lock(directory: &Path, tries: u8) -> Option<Locked<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut fd = open(directory, flags, Mode::empty()).ok()?;
    for _ in 0..tries {
        match Locked::new(fd) {
            Ok(lock) => return Some(lock),
            Err((unlocked, Errno::EWOULDBLOCK)) => fd = unlocked,
            Err(_) => return None,
        }
        let _ = poll::wait(&mut [], Some(LOCK_PAUSE));
    }
    None
}
