//! The NOTIFY_SOCKET of a child: `sd_notify(3)`.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockType, getsockopt, recv, sockopt};

use crate::sys::fd::{Locked, above_stdio, keep_over_exec, take};
use crate::sys::random::random;
use crate::sys::unix_path::is_bound_beside;
use crate::sys::{Pid, errno};
use crate::text::notify::NotifySocketFacts;

/// How much of a datagram is read, in bytes. systemd itself takes 4096.
const LONGEST_DATAGRAM: usize = 1 << 16;

/// The NOTIFY_SOCKET of one generation. Dropping or removing it removes its files.
///
/// The child may have dropped its privileges, so everybody may write to the socket. The name alone decides who does:
/// the child gets it in its environment. `/proc/net/unix` shows everybody the name that a socket was bound to. So the
/// socket is bound in a directory that others can enter but not list, and is then renamed: the name that is shown does
/// not work. If hupwrap is killed, the socket and its directory stay until the next boot.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: OwnedFd,
    /// The socket's directory, locked: a cleaner of old files (tmpfiles.d(5)) skips a locked directory, and would not
    /// recognize the renamed socket as a live one. None if the socket is abstract, or the file system has no locks.
    directory: Option<Locked<OwnedFd>>,
    path: String,
    fails: AtomicBool,
}

impl NotifySocket {
    /// Makes the socket in the first of `/run`, `runtime_dir` (XDG_RUNTIME_DIR), `/tmp` and `/dev/shm` that works and
    /// that a child of any user can enter; `/dev/shm` exists in containers that are otherwise read-only. If none works,
    /// the socket is abstract: its name is as random, but is shown to everybody in the network namespace.
    ///
    /// # Errors
    /// No descriptor or no memory is left.
    pub(crate) fn new(own_pid: Pid, generation: u64, runtime_dir: Option<&[u8]>) -> nix::Result<Self> {
        let runtime_dir = runtime_dir.and_then(|dir| std::str::from_utf8(dir).ok());
        // It has to cross a re-exec as a line. A relative one counts as unset (XDG Base Directory Specification).
        let runtime_dir = runtime_dir.filter(|dir| dir.starts_with('/') && !dir.contains(char::is_control));
        let places = [Some("/run"), runtime_dir, Some("/tmp"), Some("/dev/shm")];
        Self::below(places.into_iter().flatten(), own_pid, generation)
    }

    fn below<'a>(places: impl Iterator<Item = &'a str>, own_pid: Pid, generation: u64) -> nix::Result<Self> {
        for place in places.filter(|place| others_can_enter(place)) {
            // The pid is for people who find the directory left behind. The rest is random because /tmp is everybody's.
            let directory = format!("{place}/hupwrap-{own_pid}-{generation}-{}", random::<8>()?);
            match Self::within(&directory).map_err(errno) {
                // The next place would not help.
                Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)) => return Err(error),
                Err(_) => {}
                done => return done,
            }
        }
        let name = format!("hupwrap-{}", random::<16>()?);
        let address = SocketAddr::from_abstract_name(&name).map_err(errno)?;
        let socket = above_stdio(UnixDatagram::bind_addr(&address).map_err(errno)?.into())?;
        Ok(Self { socket, directory: None, path: format!("@{name}"), fails: AtomicBool::default() })
    }

    /// Makes the socket in a new directory of this name.
    fn within(directory: &str) -> io::Result<Self> {
        let (bound, path) = (format!("{directory}/bound"), format!("{directory}/{}", random::<16>()?));
        // The sender must be able to name it: the path may be too long for that.
        SocketAddr::from_pathname(&path)?;
        DirBuilder::new().mode(0o700).create(directory)?;
        let made = Self::make(directory, &bound, &path);
        if made.is_err() {
            let _ = fs::remove_file(bound).or_else(|_| fs::remove_file(path));
            let _ = fs::remove_dir(directory);
        }
        made
    }

    fn make(directory: &str, bound: &str, path: &str) -> io::Result<Self> {
        let locked = lock(above_stdio(File::open(directory)?.into())?);
        let socket = above_stdio(UnixDatagram::bind(bound)?.into())?;
        fs::rename(bound, path)?;
        // Writing is enough to send. The directory is opened to others last: nobody has entered by the name that is
        // shown.
        fs::set_permissions(path, Permissions::from_mode(0o222))?;
        fs::set_permissions(directory, Permissions::from_mode(0o711))?;
        Ok(Self { socket, directory: locked, path: path.to_owned(), fails: AtomicBool::default() })
    }

    /// The value for NOTIFY_SOCKET: a path, or `@` and an abstract name.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The next datagram, if one waits; cut at the end of a line after 64 KiB.
    ///
    /// No descriptor comes in with it: no buffer for descriptors is offered, so the kernel closes them (unix(7),
    /// SCM_RIGHTS). For `BARRIER=1` that is the answer. The sender's credentials are not read: it may be gone.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let receive = |buffer: &mut [u8], flags| {
            let received = recv(self.socket.as_raw_fd(), buffer, flags);
            let fails = received.is_err_and(|error| !matches!(error, Errno::EAGAIN | Errno::EINTR));
            self.fails.store(fails, Relaxed);
            received.ok()
        };
        // Its length first: a flood of small ones is not worth 64 KiB each.
        let length = receive(&mut [], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
        let mut datagram = vec![0; length.min(LONGEST_DATAGRAM)];
        let read = receive(&mut datagram, MsgFlags::MSG_DONTWAIT)?;
        datagram.truncate(read);
        if length > LONGEST_DATAGRAM {
            datagram.truncate(datagram.iter().rposition(|byte| *byte == b'\n').unwrap_or(0));
        }
        Some(datagram)
    }

    /// Whether the last datagram could not be read. It is still there, so that the descriptor tells nothing: it is
    /// tried again soon.
    pub(crate) fn fails(&self) -> bool {
        self.fails.load(Relaxed)
    }

    /// Removes the files, if there are any: nobody finds the socket by its name any longer.
    pub(crate) fn remove(&self) {
        if self.path.starts_with('/') {
            // Both names are random, in a directory of ours. A directory that is not empty stays.
            let _ = fs::remove_file(&self.path);
            let _ = Path::new(&self.path).parent().map(fs::remove_dir);
        }
    }

    /// What a re-executed hupwrap must know to adopt the socket.
    pub(crate) fn facts(&self) -> NotifySocketFacts {
        let directory = self.directory.as_ref().map(|directory| directory.as_raw_fd());
        NotifySocketFacts { socket: self.socket.as_raw_fd(), directory, path: self.path.clone() }
    }

    /// Lets the descriptors cross an exec; or no longer, after an exec that failed.
    pub(crate) fn set_crossing(&self, crossing: bool) -> nix::Result<()> {
        self.directory.iter().try_for_each(|directory| keep_over_exec(&**directory, crossing))?;
        keep_over_exec(&self.socket, crossing)
    }

    /// Adopts what crossed a re-exec; to be called once. None if the socket is not one.
    pub(crate) fn from_facts(facts: NotifySocketFacts) -> Option<Self> {
        let socket = take(facts.socket).ok()?;
        let directory = facts.directory.and_then(|fd| take(fd).ok()).and_then(lock);
        let kind = getsockopt(&socket, sockopt::SockType);
        let is_known = facts.path.starts_with('@') || is_bound_beside(&socket, &facts.path);
        let is_ours = kind == Ok(SockType::Datagram) && is_known;
        // Made only if it is ours: a value that is dropped removes its files.
        is_ours.then(|| Self { socket, directory, path: facts.path, fails: AtomicBool::default() })
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        self.remove();
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether every user may enter a directory, and those above it: the child may run as another user.
fn others_can_enter(directory: &str) -> bool {
    let is_open = |directory: &Path| fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
    fs::canonicalize(directory).is_ok_and(|path| path.ancestors().all(is_open))
}

/// Locks a directory; again after a re-exec, over which the lock was kept.
fn lock(directory: OwnedFd) -> Option<Locked<OwnedFd>> {
    Locked::new(directory).ok()
}

#[cfg(test)]
// The tests have threads, programs of others to run, and something to say.
#[allow(clippy::disallowed_methods, clippy::arithmetic_side_effects)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::{IntoRawFd, RawFd};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::thread;

    use nix::libc;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::sys::manager_socket::ManagerSocket;
    use crate::sys::ready_pipe::ReadyPipe;
    use crate::sys::skipped;

    const NOBODY: u32 = 65534;
    const END: &[u8] = b"the end";

    /// A NOTIFY_SOCKET in /tmp, and one that found no directory.
    fn both_kinds() -> [NotifySocket; 2] {
        [at("/tmp"), at("/nowhere")]
    }

    fn at(place: &str) -> NotifySocket {
        NotifySocket::below([place].into_iter(), 1, 1).unwrap()
    }

    fn say(inner: &NotifySocket, message: &[u8]) {
        assert!(ManagerSocket::new(inner.path().as_bytes()).unwrap().send(message));
    }

    fn may_change_user(test: &str) -> bool {
        let may = fs::metadata("/proc/self").unwrap().uid() == 0;
        if !may {
            skipped(test, "the right to become nobody");
        }
        may
    }

    /// What a command says on the socket until it has ended, which must be well. None where it is not installed.
    fn said_by(inner: &NotifySocket, command: &mut Command) -> Option<Vec<Vec<u8>>> {
        let program = command.env("NOTIFY_SOCKET", inner.path()).get_program().to_owned();
        thread::scope(|scope| {
            let ended = scope.spawn(|| {
                let ended = command.output();
                say(inner, END);
                ended
            });
            let mut said = Vec::new();
            while said.last().is_none_or(|last| last != END) {
                poll(&mut [PollFd::new(inner.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
                said.extend(inner.receive());
            }
            said.pop();
            match ended.join().unwrap() {
                Ok(output) if output.status.success() => Some(said),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    skipped("a program of sd_notify(3)", &format!("{program:?} is not installed"));
                    None
                }
                bad => panic!("{bad:?}"),
            }
        })
    }

    #[test]
    fn the_name_that_everybody_sees_is_not_the_one_that_works() {
        let inner = at("/tmp");
        let directory = Path::new(inner.path()).parent().unwrap();
        let bound = directory.join("bound");
        let shown = fs::read_to_string("/proc/net/unix").unwrap();
        assert!(shown.contains(bound.to_str().unwrap()) && !shown.contains(inner.path()));
        assert!(UnixDatagram::unbound().unwrap().connect(&bound).is_err());
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o7777, 0o711);
        say(&inner, b"heard");
        assert_eq!(inner.receive(), Some(b"heard".to_vec()));
    }

    #[test]
    fn no_two_names_are_alike() {
        let all: Vec<NotifySocket> = (0..20).flat_map(|_| both_kinds()).collect();
        let names: BTreeSet<&str> = all.iter().map(NotifySocket::path).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn the_first_place_that_works_is_taken() {
        let too_long = format!("/tmp/{}", "x".repeat(80));
        fs::create_dir(&too_long).unwrap();
        let places = ["/nowhere", "/proc", "/dev/null", too_long.as_str(), "/tmp", "/run"];
        let inner = NotifySocket::below(places.into_iter(), 4711, 12).unwrap();
        assert!(inner.path().starts_with("/tmp/hupwrap-4711-12-"), "{}", inner.path());
        // Nothing was left in it.
        fs::remove_dir(too_long).unwrap();
        for odd in [&b""[..], b"tmp", b"/tmp\n", b"/tmp\xff", b"/\0"] {
            assert!(NotifySocket::new(1, 1, Some(odd)).unwrap().path().len() > 32);
        }
    }

    #[test]
    fn a_place_that_others_cannot_enter_is_skipped() {
        let private = format!("/tmp/hupwrap-private-{}", std::process::id());
        let below = format!("{private}/open");
        fs::create_dir_all(&below).unwrap();
        for (mode, wanted) in [(0o755, private.as_str()), (0o700, "/dev/shm/"), (0o750, "/dev/shm/")] {
            fs::set_permissions(&private, Permissions::from_mode(mode)).unwrap();
            for place in [&private, &below] {
                let inner = NotifySocket::below([place.as_str(), "/dev/shm"].into_iter(), 4711, 12).unwrap();
                assert!(inner.path().starts_with(wanted), "{mode:o}: {}", inner.path());
            }
        }
        fs::remove_dir_all(private).unwrap();
    }

    #[test]
    fn datagrams_come_whole_and_one_by_one_when_their_sender_is_gone() {
        for inner in both_kinds() {
            assert_eq!(inner.receive(), None);
            for message in [&b"READY=1"[..], b"", b"STATUS=\xff\0", &[b'x'; LONGEST_DATAGRAM]] {
                say(&inner, message);
            }
            for message in [&b"READY=1"[..], b"", b"STATUS=\xff\0", &[b'x'; LONGEST_DATAGRAM]] {
                assert_eq!(inner.receive().as_deref(), Some(message));
            }
            assert_eq!(inner.receive(), None);
        }
    }

    #[test]
    fn one_that_is_too_long_is_cut_at_a_line() {
        let inner = at("/tmp");
        let long = vec![b'x'; LONGEST_DATAGRAM];
        say(&inner, &[b"READY=1\nX=", &long[..]].concat());
        assert_eq!(inner.receive(), Some(b"READY=1".to_vec()));
        say(&inner, &[&long[..], b"\nREADY=1"].concat());
        assert_eq!(inner.receive(), Some(Vec::new()));
        assert_eq!(inner.receive(), None);
    }

    #[test]
    fn a_full_socket_makes_nobody_wait() {
        for inner in both_kinds() {
            let outer = ManagerSocket::new(inner.path().as_bytes()).unwrap();
            let sent = (0_u32..100_000).take_while(|number| outer.send(&number.to_ne_bytes())).count();
            assert!(sent < 100_000);
            for number in (0_u32..).take(sent) {
                assert_eq!(inner.receive(), Some(number.to_ne_bytes().to_vec()));
            }
            assert_eq!(inner.receive(), None);
            assert!(outer.send(b"again"));
        }
    }

    /// Sends a message, and descriptors in so many pieces of control data.
    fn send_descriptors(inner: &NotifySocket, message: &[u8], pieces: &[Vec<RawFd>]) {
        let socket = UnixDatagram::unbound().unwrap();
        let path = inner.path();
        match path.strip_prefix('@') {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap(),
            None => socket.connect(path).unwrap(),
        }
        let mut control = [0_u64; 256];
        let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        // SAFETY: the struct is plain data, for which zero is valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let mut used = 0;
        // SAFETY: (all that follow) the control data is in a buffer of ours that has room for it.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&raw const header);
            for piece in pieces {
                let size = size_of_val(piece.as_slice()) as u32;
                (*next).cmsg_level = libc::SOL_SOCKET;
                (*next).cmsg_type = libc::SCM_RIGHTS;
                (*next).cmsg_len = libc::CMSG_LEN(size) as _;
                std::ptr::copy_nonoverlapping(piece.as_ptr(), libc::CMSG_DATA(next).cast(), piece.len());
                used += libc::CMSG_SPACE(size);
                next = libc::CMSG_NXTHDR(&raw const header, next);
            }
            header.msg_controllen = used as _;
            let sent = libc::sendmsg(socket.as_raw_fd(), &raw const header, 0);
            assert_eq!(
                Errno::result(sent).and_then(|sent| usize::try_from(sent).map_err(|_| Errno::EIO)),
                Ok(message.len())
            );
        }
    }

    #[test]
    fn descriptors_that_come_along_are_closed_at_once() {
        for inner in both_kinds() {
            let (ours, theirs) = ReadyPipe::new().unwrap();
            let pipe = fs::read_link(format!("/proc/self/fd/{}", theirs.as_raw_fd())).unwrap();
            let open = || {
                let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
                all.filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == pipe)).count()
            };
            let copies = |count| vec![theirs.as_raw_fd(); count];
            assert_eq!(open(), 2);
            let fdstore = b"FDSTORE=1\nFDNAME=x";
            send_descriptors(&inner, b"BARRIER=1", &[copies(1)]);
            send_descriptors(&inner, fdstore, &[copies(100)]);
            send_descriptors(&inner, fdstore, &[copies(253)]);
            send_descriptors(&inner, b"", &[copies(1)]);
            send_descriptors(&inner, fdstore, &[copies(3), copies(5)]);
            drop(theirs);
            assert_eq!((open(), ours.newline_came()), (1, None));
            for expected in [&b"BARRIER=1"[..], fdstore, fdstore, b"", fdstore] {
                assert_eq!(inner.receive().as_deref(), Some(expected));
                assert_eq!(open(), 1);
            }
            // Nobody has one any more; nor, in a moment, has a child that another test is starting.
            poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
            assert_eq!(ours.newline_came(), Some(false));
        }
    }

    #[test]
    fn systemd_notify_is_answered() {
        for inner in both_kinds() {
            let Some(said) = said_by(&inner, Command::new("systemd-notify").args(["--ready", "--status=up"])) else {
                return;
            };
            assert_eq!(said.first(), Some(&b"READY=1\nSTATUS=up".to_vec()));
            // As a script does it, which ends at once.
            let mut script = Command::new("sh");
            let said = said_by(&inner, script.args(["-c", "systemd-notify --no-block --ready & wait"])).unwrap();
            assert_eq!(said, [b"READY=1"]);
        }
    }

    #[test]
    fn a_child_without_privileges_is_heard_but_sees_nothing() {
        if !may_change_user("a_child_without_privileges_is_heard_but_sees_nothing") {
            return;
        }
        for inner in [at("/tmp"), at("/nowhere"), NotifySocket::new(1, 1, None).unwrap()] {
            let mut command = Command::new("systemd-notify");
            if let Some(said) = said_by(&inner, command.arg("--ready").uid(NOBODY).gid(NOBODY)) {
                assert_eq!(said.first(), Some(&b"READY=1".to_vec()));
            }
            if let Some(directory) = Path::new(inner.path()).parent().filter(|_| !inner.path().starts_with('@')) {
                let listed = Command::new("ls").arg(directory).uid(NOBODY).gid(NOBODY).output().unwrap();
                assert!(!listed.status.success() && listed.stdout.is_empty(), "{listed:?}");
            }
        }
    }

    #[test]
    fn what_is_removed_leaves_no_file_and_takes_none_of_others() {
        let directory = |inner: &NotifySocket| Path::new(inner.path()).parent().unwrap().to_owned();
        let inner = at("/tmp");
        let (outer, gone) = (ManagerSocket::new(inner.path().as_bytes()).unwrap(), directory(&inner));
        assert!(gone.exists());
        inner.remove();
        assert!(!gone.exists());
        // Nobody is there: that is no reason to try again.
        assert!(outer.send(b"lost"));
        inner.remove();

        let inner = at("/tmp");
        let full = directory(&inner);
        let other = full.join("other");
        fs::write(&other, "").unwrap();
        drop(inner);
        assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
        fs::remove_file(other).unwrap();
        fs::remove_dir(full).unwrap();

        let inner = at("/tmp");
        let dropped = directory(&inner);
        drop(inner);
        assert!(!dropped.exists());
    }

    /// Whether the descriptor stays open over an exec.
    fn crosses(fd: RawFd) -> bool {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        i32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_CLOEXEC == 0
    }

    #[test]
    fn it_crosses_a_reexec() {
        for inner in both_kinds() {
            let facts = inner.facts();
            let descriptors: Vec<RawFd> = [facts.socket].into_iter().chain(facts.directory).collect();
            assert!(!descriptors.iter().any(|fd| *fd <= 2 || crosses(*fd)));
            inner.set_crossing(true).unwrap();
            assert!(descriptors.iter().all(|fd| crosses(*fd)));
            inner.set_crossing(false).unwrap();
            assert!(!descriptors.iter().any(|fd| crosses(*fd)));
            inner.set_crossing(true).unwrap();
            say(&inner, b"before");
            // As exec does it.
            std::mem::forget(inner);
            let inner = NotifySocket::from_facts(facts.clone()).unwrap();
            assert_eq!(inner.facts(), facts);
            assert!(!descriptors.iter().any(|fd| crosses(*fd)));
            assert_eq!(inner.receive(), Some(b"before".to_vec()));
            say(&inner, b"after");
            assert_eq!(inner.receive(), Some(b"after".to_vec()));
            let path = inner.path().to_owned();
            drop(inner);
            assert!(!Path::new(&path).parent().unwrap().exists() || path.starts_with('@'));
        }
        let none = NotifySocketFacts { socket: -1, directory: None, path: "/nowhere/x".to_owned() };
        assert!(NotifySocket::from_facts(none.clone()).is_none());
        assert!(NotifySocket::from_facts(NotifySocketFacts { socket: RawFd::MAX, ..none.clone() }).is_none());
        let number = File::open("/proc/self/stat").map(IntoRawFd::into_raw_fd).unwrap();
        assert!(NotifySocket::from_facts(NotifySocketFacts { socket: number, ..none }).is_none());
    }
}
