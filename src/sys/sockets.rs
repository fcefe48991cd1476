//! Sockets that outlive the child, and whether somebody listens.
//!
//! A socket of `--listen` is bound once and kept as a descriptor, over every child and every re-exec. A unix socket also
//! has a file. Whether one that is found there is in use is asked by connecting with a datagram socket: it answers
//! EPROTOTYPE where a stream socket is bound, though it may not listen yet, and no server sees a connection. A stale one
//! is replaced under a lock on its directory, so of two hupwraps one wins and the other hears that it is in use. The lock
//! cannot be had where the directory may not be read; then, and against programs that know nothing of it, a few
//! microseconds between question and replacement remain.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::libc::{self, c_int};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};

use crate::sys::fd::{above, keep_over_exec, new_fd, take};
use crate::sys::{Pid, start_error};
use crate::text::listen::{self, Address, Endpoint, FIRST_FD, Identity, Listen, SocketFacts, SocketKind};

/// How often the lock on a directory is tried, and the milliseconds between: a second in all. A hupwrap holds it for
/// microseconds; who holds it longer means something else by it, and is not waited for.
const LOCK_TRIES: u8 = 100;
const LOCK_PAUSE: u8 = 10;

/// A socket that is kept. The file of a unix socket goes with it.
pub struct Socket {
    fd: OwnedFd,
    facts: SocketFacts,
    local: Option<SocketAddr>,
}

impl Socket {
    fn new(fd: OwnedFd, kind: SocketKind, name: String, said: Option<String>, made: Option<Identity>) -> Self {
        let local = match kind {
            SocketKind::Tcp | SocketKind::Udp => local_address(fd.as_fd()),
            SocketKind::Unix | SocketKind::Other => None,
        };
        Self { facts: SocketFacts { fd: fd.as_raw_fd(), kind, name, said, made }, fd, local }
    }

    /// What a re-executed hupwrap must know of it, and the child is told.
    pub fn facts(&self) -> &SocketFacts {
        &self.facts
    }

    /// Takes over a socket that the hupwrap before this one left open.
    ///
    /// # Errors
    /// It is not open.
    pub fn from_facts(facts: SocketFacts) -> Result<Self, String> {
        let fd = take(facts.fd).map_err(|_| format!("the socket '{}' is not open any more", facts.name))?;
        Ok(Self::new(fd, facts.kind, facts.name, facts.said, facts.made))
    }

    /// Where it listens in fact, for people: `tcp:127.0.0.1:8080` with the address that a name stood for and the port
    /// that was chosen, `unix:PATH`, or `other`.
    pub fn address(&self) -> String {
        let kind = self.facts.kind.name();
        match (self.local, &self.facts.said) {
            (Some(local), _) => format!("{kind}:{local}"),
            (None, Some(said)) => format!("{kind}:{said}"),
            (None, None) => kind.to_owned(),
        }
    }

    /// The address of a TCP or UDP socket, for [`listen::answers`].
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// One line with the chosen port, where port 0 was asked for: the option, and the address.
    pub fn chosen(&self) -> Option<String> {
        let said = self.facts.said.as_ref()?;
        // What was given to hupwrap has a port.
        let asked: Endpoint = self.local.and_then(|_| said.parse().ok())?;
        let name = match self.facts.name.as_str() {
            listen::UNKNOWN => String::new(),
            name => format!("{name}="),
        };
        let kind = self.facts.kind.name();
        (asked.port == 0).then(|| format!("--listen '{name}{kind}:{said}' is at {}", self.address()))
    }

    /// Whether it stands in the way of another one at this address.
    fn is_where(&self, address: &Address) -> bool {
        let (kind, endpoint) = match address {
            Address::Tcp(endpoint) => (SocketKind::Tcp, endpoint),
            Address::Udp(endpoint) => (SocketKind::Udp, endpoint),
            Address::Unix { path, .. } => return self.facts.made.is_some() && self.facts.made == identity(path),
        };
        let Some(local) = self.local.filter(|_| self.facts.kind == kind) else { return false };
        resolve(endpoint).is_ok_and(|asked| listen::answers(local, asked) || listen::answers(asked, local))
    }

    /// Whether the socket stays open over an exec of hupwrap itself. It does not otherwise, nor in the child, which
    /// gets copies.
    pub fn stays_open(&self, stays: bool) {
        keep_over_exec(&self.fd, stays);
    }

    /// Removes the file of a unix socket, if it still is the one that was made. Its inode cannot be another's while the
    /// socket is open. Dropping the socket does the same, so an error on the way leaves no file behind.
    pub fn remove_file(&self) {
        if let (Some(made), Some(path)) = (self.facts.made, &self.facts.said)
            && identity(path) == Some(made)
        {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The descriptor is closed after this.
        self.remove_file();
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Binds every socket of `--listen`, or none: an error takes the files back that were made. `inherited` are the sockets
/// that the child gets before these. The descriptors are above those that the child gets, so copying one to its place
/// never overwrites another.
///
/// # Errors
/// One line that names the option, its value and the reason.
pub fn bind_all(all: &[Listen], inherited: &[Socket]) -> Result<Vec<Socket>, String> {
    let total = RawFd::try_from(inherited.len().saturating_add(all.len())).unwrap_or(RawFd::MAX);
    let lowest = FIRST_FD.saturating_add(total);
    let mut bound: Vec<Socket> = Vec::with_capacity(all.len());
    for listen in all {
        let socket = bind(listen, lowest).map_err(|error| {
            // Names and paths that mean the same are found out by the kernel, which does not say whose it is.
            let error = match inherited.iter().chain(&bound).find(|one| one.is_where(&listen.address)) {
                Some(ours) => format!("hupwrap listens there already, as {}; want each address once", ours.address()),
                None => error,
            };
            format!("--listen '{}': {error}", listen.option)
        })?;
        bound.push(socket);
    }
    Ok(bound)
}

fn bind(listen: &Listen, lowest: RawFd) -> Result<Socket, String> {
    let (fd, kind, made) = match &listen.address {
        Address::Tcp(endpoint) => (bind_endpoint(endpoint, libc::SOCK_STREAM, lowest)?, SocketKind::Tcp, None),
        Address::Udp(endpoint) => (bind_endpoint(endpoint, libc::SOCK_DGRAM, lowest)?, SocketKind::Udp, None),
        Address::Unix { path, mode } => {
            let fd = bind_path(path, *mode, lowest).map_err(|refusal| refusal.explain(path))?;
            (fd, SocketKind::Unix, identity(path))
        }
    };
    let name = listen.name.clone().unwrap_or_else(|| listen::UNKNOWN.to_owned());
    // From here on an error takes the file back.
    let socket = Socket::new(fd, kind, name, Some(listen.said.clone()), made);
    if kind != SocketKind::Udp {
        // The kernel cuts the backlog to net.core.somaxconn. A second socket that took the same port before this one
        // listened is found out here.
        // SAFETY: has no preconditions.
        Errno::result(unsafe { libc::listen(socket.fd.as_raw_fd(), c_int::MAX) }).map_err(|error| explain(error, 0))?;
    }
    Ok(socket)
}

fn bind_endpoint(endpoint: &Endpoint, kind: c_int, lowest: RawFd) -> Result<OwnedFd, String> {
    let address = resolve(endpoint)?;
    let bind = || {
        let fd = above(socket(domain(address), kind)?, lowest)?;
        if kind == libc::SOCK_STREAM {
            // Connections of an earlier life that linger are no obstacle. For UDP it would share the port.
            enable(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
        }
        if address.is_ipv6() {
            enable(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
        }
        Name::from(address).bind(&fd)?;
        Ok(fd)
    };
    bind().map_err(|error| explain(error, address.port()))
}

fn explain(error: Errno, port: u16) -> String {
    match error {
        Errno::EADDRINUSE => {
            "the address is in use by another process; stop that first (ss -lntup shows it)".to_owned()
        }
        Errno::EACCES if (1..1024).contains(&port) => {
            "no permission; a port below 1024 wants root, CAP_NET_BIND_SERVICE \
                                                       or the sysctl net.ipv4.ip_unprivileged_port_start"
                .to_owned()
        }
        Errno::EADDRNOTAVAIL => "no network interface here has this address".to_owned(),
        Errno::EAFNOSUPPORT => "this system does not know this kind of address".to_owned(),
        // A link-local IPv6 address without one.
        Errno::EINVAL => "the address needs a zone, as in [fe80::1%eth0]:80".to_owned(),
        other => start_error::describe(other).to_owned(),
    }
}

/// Finds the address of an endpoint. Of several that a name has, the first IPv4 one is taken, else the first. An address
/// in figures is not looked up.
///
/// # Errors
/// One line that says why not.
pub fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, String> {
    let Endpoint { host, port } = endpoint;
    let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        let reason = text.rsplit(": ").next().unwrap_or_default();
        format!("the host '{host}' has no address: {reason}; want one that resolves, or an address in figures")
    })?;
    let mut all: Vec<_> = found.collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    all.first().copied().ok_or_else(|| format!("the host '{host}' has no address"))
}

/// Why a path cannot be had.
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
        match self {
            Self::Live | Self::Failed(Errno::EADDRINUSE) => {
                "another process uses this socket; stop that first (ss -lxp shows it), or name another path".to_owned()
            }
            Self::Secret => {
                "a socket is there already, and without the permission to write to it nobody can tell whether \
                             it is in use; remove it, or name another path"
                    .to_owned()
            }
            Self::Stale(error) => {
                format!("the socket of an earlier process is there and cannot be removed: {}", error.desc())
            }
            Self::NoSocket(what) => format!("a {what} is there already, which is left alone; name another path"),
            Self::Failed(Errno::ENOENT | Errno::ENOTDIR) if directory_of(path).is_dir() => {
                format!("no file can be made in '{}'; name another path", directory_of(path).display())
            }
            Self::Failed(Errno::ENOENT | Errno::ENOTDIR) => {
                format!("there is no directory '{}'; make it first", directory_of(path).display())
            }
            Self::Failed(Errno::EACCES) => {
                format!("no permission to make a file in '{}'", directory_of(path).display())
            }
            Self::Failed(other) => start_error::describe(*other).to_owned(),
        }
    }
}

fn directory_of(path: &str) -> &Path {
    match Path::new(path).parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn bind_path(path: &str, mode: u32, lowest: RawFd) -> Result<OwnedFd, Refusal> {
    let name = Name::of_path(path);
    let fd = above(socket(libc::AF_UNIX, libc::SOCK_STREAM)?, lowest)?;
    match name.bind_with_mode(&fd, mode) {
        Err(Errno::EADDRINUSE) => {
            let _lock = lock(directory_of(path));
            if is_stale(path, &name)? {
                nix::unistd::unlink(path).map_err(Refusal::Stale)?;
            }
            name.bind_with_mode(&fd, mode)?;
        }
        bound => bound?,
    }
    Ok(fd)
}

/// Whether a socket is there that no process has bound any more. It is not where nothing is there.
fn is_stale(path: &str, name: &Name) -> Result<bool, Refusal> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(false) };
    let kind = found.file_type();
    if !kind.is_socket() {
        return Err(Refusal::NoSocket(match kind {
            _ if kind.is_dir() => "directory",
            _ if kind.is_symlink() => "symbolic link",
            _ => "file that is no socket",
        }));
    }
    let question = socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK)?;
    match name.connect(&question) {
        Err(Errno::ECONNREFUSED) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        // Of another type; a datagram socket; one that talks to its peer only.
        Err(Errno::EPROTOTYPE | Errno::EAGAIN | Errno::EPERM) | Ok(()) => Err(Refusal::Live),
        Err(Errno::EACCES) => Err(Refusal::Secret),
        Err(other) => Err(other.into()),
    }
}

/// Locks a directory against other hupwraps. None where that cannot be.
fn lock(directory: &Path) -> Option<Flock<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut fd = open(directory, flags, Mode::empty()).ok()?;
    for _ in 0..LOCK_TRIES {
        match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((unlocked, Errno::EWOULDBLOCK)) => fd = unlocked,
            Err(_) => return None,
        }
        let _ = poll(&mut [], PollTimeout::from(LOCK_PAUSE));
    }
    None
}

fn identity(path: &str) -> Option<Identity> {
    let found = fs::symlink_metadata(path).ok()?;
    Some(Identity { device: found.dev(), inode: found.ino() })
}

/// Takes the descriptors that hupwrap was given, if they were meant for it: `LISTEN_FDS`, `LISTEN_PID` and
/// `LISTEN_FDNAMES` as they are in the environment. They stay where they are, and are close-on-exec. Nothing may have
/// been opened before.
///
/// # Errors
/// One line, where a descriptor that was promised is not open, or `LISTEN_FDS` is no number.
pub fn inherited(
    fds: Option<&[u8]>,
    pid: Option<&[u8]>,
    names: Option<&[u8]>,
    own_pid: Pid,
) -> Result<Vec<Socket>, String> {
    receive(FIRST_FD, fds, pid, names, own_pid)
}

fn receive(
    first: RawFd,
    fds: Option<&[u8]>,
    pid: Option<&[u8]>,
    names: Option<&[u8]>,
    own_pid: Pid,
) -> Result<Vec<Socket>, String> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i32>().ok();
    let Some(fds) = fds.filter(|_| pid.and_then(number) == Some(own_pid)) else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(fds);
    let Some(count) = number(fds).and_then(|count| usize::try_from(count).ok()) else {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(format!("LISTEN_FDS '{shown}': want the number of descriptors from {first} on"));
    };
    // Before names are made for them: the number may be any.
    let open: Vec<_> = (first..).take(count).map_while(|fd| Some((fd, take(fd).ok()?))).collect();
    if open.len() < count {
        let missing = first.saturating_add(i32::try_from(open.len()).unwrap_or(i32::MAX));
        return Err(format!(
            "LISTEN_FDS '{text}': descriptor {missing} is not open; want {count} open ones from {first} on"
        ));
    }
    let names = listen::names(names, count);
    let socket = |((_, fd), name): ((RawFd, OwnedFd), String)| {
        let (kind, said) = describe(fd.as_fd());
        Socket::new(fd, kind, name, said.filter(|said| listen::is_key(said)), None)
    };
    Ok(open.into_iter().zip(names).map(socket).collect())
}

/// What a descriptor is, and where it listens.
fn describe(fd: BorrowedFd) -> (SocketKind, Option<String>) {
    let option = |name| option(fd, name).ok();
    let address = || local_address(fd).map(|address| address.to_string());
    match (option(libc::SO_DOMAIN), option(libc::SO_TYPE), option(libc::SO_ACCEPTCONN)) {
        (Some(libc::AF_INET | libc::AF_INET6), Some(libc::SOCK_STREAM), Some(1)) => (SocketKind::Tcp, address()),
        (Some(libc::AF_INET | libc::AF_INET6), Some(libc::SOCK_DGRAM), _) => (SocketKind::Udp, address()),
        (Some(libc::AF_UNIX), Some(libc::SOCK_STREAM), Some(1)) => (SocketKind::Unix, local_path(fd)),
        _ => (SocketKind::Other, None),
    }
}

fn local_address(fd: BorrowedFd) -> Option<SocketAddr> {
    TcpListener::from(fd.try_clone_to_owned().ok()?).local_addr().ok()
}

fn local_path(fd: BorrowedFd) -> Option<String> {
    let address = UnixListener::from(fd.try_clone_to_owned().ok()?).local_addr().ok()?;
    Some(address.as_pathname()?.to_str()?.to_owned())
}

/// Asks whether somebody listens, by connecting.
pub struct Attempt(TcpStream);

impl Attempt {
    /// Begins to connect; [`Attempt::connected`] knows when its descriptor is writable. None where it is refused at once.
    pub fn begin(to: SocketAddr) -> Option<Self> {
        let fd = socket(domain(to), libc::SOCK_STREAM | libc::SOCK_NONBLOCK).ok()?;
        match Name::from(to).connect(&fd) {
            Ok(()) | Err(Errno::EINPROGRESS) => Some(Self(TcpStream::from(fd))),
            Err(_) => None,
        }
    }

    /// Whether it is connected: none while that is open.
    pub fn connected(&self) -> Option<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, PollTimeout::ZERO) != Ok(1) {
            return None;
        }
        let answered = matches!(self.0.take_error(), Ok(None));
        Some(answered && !self.is_with_itself())
    }

    /// Where nobody listens on a port that the kernel may choose for one that connects, it may choose that very port:
    /// then the connection is with itself.
    fn is_with_itself(&self) -> bool {
        matches!((self.0.local_addr(), self.0.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_with_itself() {
            // Closed in an orderly way, it would keep the child from its port for a minute.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = set_option(&self.0, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
        }
    }
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An address as the kernel wants it.
struct Name {
    storage: libc::sockaddr_storage,
    len: usize,
}

impl Name {
    fn new<T>(address: T) -> Self {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        const { assert!(align_of::<T>() <= align_of::<libc::sockaddr_storage>()) };
        // SAFETY: the struct is plain data, for which zero is valid.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        // SAFETY: the storage is ours, and large and aligned enough, as is said above.
        unsafe { (&raw mut storage).cast::<T>().write(address) };
        Self { storage, len: size_of::<T>() }
    }

    /// Of a path, which must not be too long.
    fn of_path(path: &str) -> Self {
        // SAFETY: the struct is plain data, for which zero is valid.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        Self::new(address)
    }

    fn bind(&self, fd: &OwnedFd) -> nix::Result<()> {
        let storage = (&raw const self.storage).cast::<libc::sockaddr>();
        // SAFETY: the pointer is to an address of ours, of the size that is said.
        Errno::result(unsafe { libc::bind(fd.as_raw_fd(), storage, self.len as libc::socklen_t) }).map(drop)
    }

    /// Binds to a path. The kernel makes the file with 0777 less the umask (`unix(7)`): so it has its mode from the
    /// first moment on, and no second look at the path is needed that could find another file.
    fn bind_with_mode(&self, fd: &OwnedFd, mode: u32) -> nix::Result<()> {
        let before = umask(Mode::from_bits_truncate(0o777 & !mode));
        let bound = self.bind(fd);
        umask(before);
        bound
    }

    fn connect(&self, fd: &OwnedFd) -> nix::Result<()> {
        let storage = (&raw const self.storage).cast::<libc::sockaddr>();
        // SAFETY: the pointer is to an address of ours, of the size that is said.
        Errno::result(unsafe { libc::connect(fd.as_raw_fd(), storage, self.len as libc::socklen_t) }).map(drop)
    }
}

impl From<SocketAddr> for Name {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::new(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::new(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }
}

fn domain(address: SocketAddr) -> c_int {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// Makes a socket, close-on-exec and above the standard descriptors.
fn socket(domain: c_int, kind: c_int) -> nix::Result<OwnedFd> {
    // SAFETY: has no preconditions.
    new_fd(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) }.into())
}

fn enable(fd: &OwnedFd, level: c_int, name: c_int) -> nix::Result<()> {
    set_option::<c_int>(fd, level, name, &1)
}

fn set_option<T>(fd: &impl AsRawFd, level: c_int, name: c_int, value: &T) -> nix::Result<()> {
    let (pointer, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the pointer is to a value of ours, of the size that is said.
    Errno::result(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer, len) }).map(drop)
}

/// Reads an option of a socket that is an int.
fn option(fd: BorrowedFd, name: c_int) -> nix::Result<c_int> {
    let (mut value, mut len) = (0, size_of::<c_int>() as libc::socklen_t);
    let pointer = (&raw mut value).cast();
    // SAFETY: the pointers are to values of ours, of the size that is said.
    Errno::result(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, pointer, &raw mut len) })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::path::PathBuf;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;
    use crate::sys::fd::is_kept;

    /// A directory of this test's own, gone with it. The test's thread gets a umask and a working directory of its own:
    /// other tests make files meanwhile.
    struct Dir {
        path: PathBuf,
        alone: bool,
    }

    impl Dir {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("hupwrap-sockets-{}-{count}", std::process::id()));
            let alone = be_alone();
            fs::create_dir(&path).unwrap();
            Self { path, alone }
        }

        fn at(&self, name: &str) -> String {
            self.path.join(name).to_str().unwrap().to_owned()
        }

        fn is_empty(&self) -> bool {
            fs::read_dir(&self.path).unwrap().next().is_none()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    /// A container may forbid it.
    fn be_alone() -> bool {
        // SAFETY: concerns this thread only.
        unsafe { libc::unshare(libc::CLONE_FS) == 0 }
    }

    fn try_listen(options: &[&str]) -> Result<Vec<Socket>, String> {
        let all: Vec<Listen> = options.iter().map(|option| option.parse().unwrap()).collect();
        bind_all(&all, &[])
    }

    fn listen(option: &str) -> Socket {
        try_listen(&[option]).unwrap_or_else(|error| panic!("{error}")).pop().unwrap()
    }

    fn refused(option: &str) -> String {
        let error = try_listen(&[option]).err().unwrap();
        assert!(error.starts_with(&format!("--listen '{option}': ")) && !error.contains('\n'), "{error}");
        error
    }

    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn skipped(test: &str, missing: &str) {
        eprintln!("skipped: {test}: {missing}");
    }

    fn has_ipv6(test: &str) -> bool {
        let has = TcpListener::bind("[::1]:0").is_ok();
        if !has {
            skipped(test, "there is no IPv6");
        }
        has
    }

    #[test]
    fn a_tcp_socket_listens_at_once() {
        let options = ["web=tcp:127.0.0.1:0", "tcp:127.0.0.1:0"];
        let all = try_listen(&options).unwrap();
        for (socket, said) in all.iter().zip(options) {
            let local = socket.local().unwrap();
            TcpStream::connect(local).unwrap();
            assert_eq!(socket.address(), format!("tcp:{local}"));
            assert_eq!(socket.chosen(), Some(format!("--listen '{said}' is at tcp:{local}")));
            assert_eq!(socket.facts().said.as_deref(), Some("127.0.0.1:0"));
            assert!(socket.facts().fd == socket.as_fd().as_raw_fd() && socket.facts().fd >= 5);
            assert_eq!(option(socket.as_fd(), libc::SO_REUSEADDR), Ok(1));
            assert_eq!(option(socket.as_fd(), libc::SO_REUSEPORT), Ok(0));
            assert!(!is_kept(socket));
            socket.stays_open(true);
            assert!(is_kept(socket));
            socket.stays_open(false);
            assert!(!is_kept(socket));
        }
        assert_eq!(all.iter().map(|socket| socket.facts().name.as_str()).collect::<Vec<_>>(), ["web", "unknown"]);
    }

    #[test]
    fn a_port_that_is_said_is_taken_and_one_that_is_taken_is_an_error() {
        // An address that no other test uses: the port, once free, stays so.
        let option = listen("tcp:127.77.0.1:0").address();
        let socket = listen(&option);
        assert_eq!((socket.address(), socket.chosen()), (option.clone(), None));
        let error = refused(&option);
        assert!(error.contains("in use by another process"), "{error}");
    }

    #[test]
    fn udp_shares_no_port() {
        let socket = listen("udp:127.0.0.1:0");
        assert_eq!(socket.facts().kind, SocketKind::Udp);
        let error = refused(&socket.address());
        assert!(error.contains("in use by another process"), "{error}");
    }

    #[test]
    fn ipv6_means_ipv6_only() {
        if has_ipv6("ipv6_means_ipv6_only") {
            let socket = listen("tcp:[::]:0");
            let port = socket.local().unwrap().port();
            TcpStream::connect(("::1", port)).unwrap();
            assert_eq!(TcpStream::connect(("127.77.0.2", port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            assert_eq!(listen("tcp:[::1]:0").local().unwrap().ip().to_string(), "::1");
        }
    }

    #[test]
    fn an_address_that_cannot_be_had() {
        let error = refused("tcp:192.0.2.1:0");
        assert!(error.contains("no network interface here has this address"), "{error}");
        assert!(explain(Errno::EACCES, 80).contains("CAP_NET_BIND_SERVICE"));
        assert!(!explain(Errno::EACCES, 8080).contains("1024"));
        // Too long for the DNS, so nobody is asked.
        let host = "a".repeat(64);
        let error = refused(&format!("tcp:{host}:80"));
        assert!(error.contains(&format!("the host '{host}' has no address: ")), "{error}");
    }

    #[test]
    fn an_ipv4_address_goes_first() {
        let find = |said: &str| resolve(&said.parse().unwrap()).map(|found| found.to_string());
        assert_eq!(find("[::1]:1").as_deref(), Ok("[::1]:1"));
        assert_eq!(find("*:1").as_deref(), Ok("0.0.0.0:1"));
        assert_eq!(find("localhost:1").as_deref(), Ok("127.0.0.1:1"));
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_takes_its_file_along() {
        let dir = Dir::new();
        if dir.alone {
            umask(Mode::from_bits_truncate(0o027));
        }
        for (mode, wanted) in [("", 0o660), (",mode=0600", 0o600), (",mode=0777", 0o777), (",mode=0", 0)] {
            let path = dir.at("s");
            let socket = listen(&format!("unix:{path}{mode}"));
            assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, wanted);
            assert_eq!((socket.address(), socket.local(), socket.chosen()), (format!("unix:{path}"), None, None));
            drop(socket);
            assert!(dir.is_empty());
        }
        if dir.alone {
            assert_eq!(umask(Mode::empty()).bits(), 0o027);
        }
    }

    #[test]
    fn a_path_may_be_relative_and_as_long_as_the_kernel_takes() {
        let dir = Dir::new();
        if !dir.alone {
            return skipped("a_path_may_be_relative_and_as_long_as_the_kernel_takes", "unshare(2) is forbidden");
        }
        std::env::set_current_dir(&dir.path).unwrap();
        let name = "n".repeat(107);
        let socket = listen(&format!("unix:{name}"));
        UnixStream::connect(&name).unwrap();
        drop(socket);
        assert!(dir.is_empty());
        drop(UnixListener::bind("stale").unwrap());
        drop(listen("unix:stale"));
        assert!(dir.is_empty());
    }

    #[test]
    fn a_stale_file_is_replaced() {
        let dir = Dir::new();
        let path = dir.at("s");
        drop(UnixListener::bind(&path).unwrap());
        let socket = listen(&format!("unix:{path}"));
        UnixStream::connect(&path).unwrap();
        drop(socket);
        drop(UnixDatagram::bind(&path).unwrap());
        drop(listen(&format!("unix:{path}")));
        assert!(dir.is_empty());
    }

    #[test]
    fn a_live_socket_is_an_error_and_hears_nothing_of_it() {
        let dir = Dir::new();
        let option = format!("unix:{}", dir.at("s"));
        let check = || assert!(refused(&option).contains("another process uses this socket"));
        let live = UnixListener::bind(dir.at("s")).unwrap();
        check();
        live.set_nonblocking(true).unwrap();
        assert_eq!(live.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        fs::remove_file(dir.at("s")).unwrap();
        let _datagram = UnixDatagram::bind(dir.at("s")).unwrap();
        check();
        fs::remove_file(dir.at("s")).unwrap();
        let socket = listen(&option);
        check();
        UnixStream::connect(dir.at("s")).unwrap();
        drop(socket);
        // Between bind and listen a connection would be refused.
        let early = socket_at(&dir.at("s"));
        check();
        drop(early);
        drop(listen(&option));
    }

    fn socket_at(path: &str) -> OwnedFd {
        let fd = socket(libc::AF_UNIX, libc::SOCK_STREAM).unwrap();
        Name::of_path(path).bind(&fd).unwrap();
        fd
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = Dir::new();
        fs::create_dir(dir.at("dir")).unwrap();
        fs::write(dir.at("file"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.at("link")).unwrap();
        let cases = [
            ("dir", "a directory is there"),
            ("file", "a file that is no socket is there"),
            ("link", "a symbolic link is there"),
            ("none/s", "there is no directory '"),
            ("file/s", "there is no directory '"),
        ];
        for (name, want) in cases {
            let error = refused(&format!("unix:{}", dir.at(name)));
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(fs::read(dir.at("file")).unwrap(), b"x");
        assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_is_another_by_now_is_left_alone() {
        let dir = Dir::new();
        let path = dir.at("s");
        let socket = listen(&format!("unix:{path}"));
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        UnixStream::connect(&path).unwrap();
        drop(other);
    }

    #[test]
    fn all_are_bound_or_none() {
        let dir = Dir::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let (path, taken) = (format!("unix:{}", dir.at("s")), format!("tcp:{}", taken.local_addr().unwrap()));
        let error = try_listen(&[&path, &taken]).err().unwrap();
        assert!(error.starts_with(&format!("--listen '{taken}': ")), "{error}");
        assert!(dir.is_empty());
    }

    #[test]
    fn an_address_of_ours_is_told_from_that_of_another() {
        let dir = Dir::new();
        let port = listen("tcp:127.77.0.3:0").local().unwrap().port();
        let (one, other) = (format!("tcp:127.77.0.3:{port}"), format!("tcp:*:{port}"));
        let path = (format!("unix:{}", dir.at("s")), format!("unix:{}", dir.at("./s")));
        for (one, other) in [(&one, &other), (&other, &one), (&path.0, &path.1)] {
            let error = try_listen(&[one, other]).err().unwrap();
            let want = format!("--listen '{other}': hupwrap listens there already, as ");
            assert!(error.starts_with(&want) && error.ends_with("; want each address once"), "{error}");
        }
        let given = [listen(&one)];
        let error = bind_all(&[other.parse().unwrap()], &given).err().unwrap();
        assert!(error.contains("hupwrap listens there already"), "{error}");
    }

    #[test]
    fn of_several_on_a_stale_path_one_wins() {
        const COUNT: usize = 4;
        let dir = Dir::new();
        for round in 0..50 {
            let path = dir.at(&round.to_string());
            drop(UnixListener::bind(&path).unwrap());
            let barrier = Barrier::new(COUNT);
            let race = || {
                be_alone();
                barrier.wait();
                let socket = try_listen(&[&format!("unix:{path}")]);
                // Nobody gives it up while another still tries.
                barrier.wait();
                socket.map(drop)
            };
            let found: Vec<_> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..COUNT).map(|_| scope.spawn(race)).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            let lost: Vec<_> = found.into_iter().filter_map(Result::err).collect();
            assert_eq!(lost.len(), COUNT - 1, "{lost:?}");
            assert!(lost.iter().all(|error| error.contains("another process uses this socket")), "{lost:?}");
        }
        assert!(dir.is_empty());
    }

    #[test]
    fn a_foreign_lock_on_the_directory_holds_nobody_up() {
        let dir = Dir::new();
        let path = dir.at("s");
        drop(UnixListener::bind(&path).unwrap());
        let _lock = lock(&dir.path).unwrap();
        drop(listen(&format!("unix:{path}")));
        assert!(dir.is_empty());
    }

    #[test]
    fn a_socket_crosses_as_facts() {
        let dir = Dir::new();
        let socket = listen(&format!("a=unix:{}", dir.at("s")));
        socket.stays_open(true);
        let facts: SocketFacts = socket.facts().to_string().parse().unwrap();
        assert_eq!(&facts, socket.facts());
        // As an exec does it: the descriptor alone remains.
        std::mem::forget(socket);
        let socket = Socket::from_facts(facts).unwrap();
        assert!(!is_kept(&socket));
        UnixStream::connect(dir.at("s")).unwrap();
        drop(socket);
        assert!(dir.is_empty());
        let tcp = listen("tcp:127.0.0.1:0");
        let (facts, address) = (tcp.facts().clone(), tcp.address());
        std::mem::forget(tcp);
        assert_eq!(Socket::from_facts(facts).unwrap().address(), address);
        let facts: SocketFacts = "1000000 tcp - a:b".parse().unwrap();
        assert_eq!(Socket::from_facts(facts).err().as_deref(), Some("the socket 'a' is not open any more"));
    }

    /// Numbers that no other test gets: a descriptor that is opened takes the lowest.
    const HIGH: RawFd = 900;

    fn place(fd: impl Into<OwnedFd>, at: RawFd) {
        let copy = fcntl(fd.into(), FcntlArg::F_DUPFD(at)).unwrap();
        assert_eq!(copy, at);
    }

    #[test]
    fn what_hupwrap_was_given() {
        let dir = Dir::new();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, _) = (TcpStream::connect(tcp.local_addr().unwrap()).unwrap(), tcp.accept().unwrap());
        let address = tcp.local_addr().unwrap();
        place(tcp, HIGH);
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let of_udp = udp.local_addr().unwrap();
        place(udp, HIGH + 1);
        place(UnixListener::bind(dir.at("s")).unwrap(), HIGH + 2);
        place(UnixListener::bind(dir.at("a;b")).unwrap(), HIGH + 3);
        place(client, HIGH + 4);
        place(fs::File::open("/dev/null").unwrap(), HIGH + 5);
        let all = receive(HIGH, Some(b"6"), Some(b"77"), Some(b"a:b:c:d:e:f"), 77).unwrap();
        let told = listen::environment(all.iter().map(Socket::facts));
        let ports = format!("{address}=3;{of_udp}=4;{}=5", dir.at("s"));
        let want = [("LISTEN_FDS", "6"), ("LISTEN_FDNAMES", "a:b:c:d:e:f"), ("SERVER_STARTER_PORT", &ports)];
        assert_eq!(told, want.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(all.iter().map(|one| one.facts().fd).collect::<Vec<_>>(), (HIGH..HIGH + 6).collect::<Vec<_>>());
        assert!(all.iter().all(|one| !is_kept(one) && one.chosen().is_none()));
        assert_eq!(all[0].address(), format!("tcp:{address}"));
        assert_eq!(all[3].address(), "unix");
        assert_eq!(all[4].address(), "other");
        // Whoever made the files removes them.
        drop(all);
        assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 2);
    }

    #[test]
    fn what_was_meant_for_another_is_not_taken() {
        let none = |fds: Option<&[u8]>, pid: Option<&[u8]>| {
            assert!(inherited(fds, pid, Some(b"a"), 77).unwrap().is_empty());
        };
        none(None, None);
        none(None, Some(b"77"));
        none(Some(b"1"), None);
        none(Some(b"1"), Some(b"78"));
        none(Some(b"1"), Some(b""));
        none(Some(b"1"), Some(b"\xff"));
        none(Some(b"0"), Some(b"77"));
    }

    #[test]
    fn what_was_promised_and_is_not_there() {
        let refused = |fds: &[u8]| receive(HIGH + 50, Some(fds), Some(b"77"), None, 77).err().unwrap();
        assert_eq!(refused(b"1"), "LISTEN_FDS '1': descriptor 950 is not open; want 1 open ones from 950 on");
        place(fs::File::open("/dev/null").unwrap(), HIGH + 50);
        assert!(refused(b"2147483647").contains("descriptor 951 is not open"));
        for odd in [&b""[..], b"-1", b"x", b"2147483648", b"\xff\n"] {
            let error = refused(odd);
            assert!(
                error.ends_with("': want the number of descriptors from 950 on") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    fn connect(to: SocketAddr) -> bool {
        let Some(attempt) = Attempt::begin(to) else { return false };
        poll(&mut [PollFd::new(attempt.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE).unwrap();
        attempt.connected().unwrap()
    }

    #[test]
    fn whether_somebody_listens() {
        let early = bind_endpoint(&"127.0.0.1:0".parse().unwrap(), libc::SOCK_STREAM, 3).unwrap();
        let address = local_address(early.as_fd()).unwrap();
        assert!(!connect(address));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(connect(listener.local_addr().unwrap()));
        let mut any = listener.local_addr().unwrap();
        any.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
        assert!(connect(any));
        if has_ipv6("whether_somebody_listens") {
            assert!(connect(TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap()));
        }
    }

    #[test]
    fn a_connection_with_itself_is_none() {
        let fd = socket(libc::AF_INET, libc::SOCK_STREAM).unwrap();
        Name::from("127.77.0.3:0".parse::<SocketAddr>().unwrap()).bind(&fd).unwrap();
        let address = local_address(fd.as_fd()).unwrap();
        Name::from(address).connect(&fd).unwrap();
        let mut attempt = Attempt(TcpStream::from(fd));
        attempt.0.write_all(b"x").unwrap();
        attempt.0.read_exact(&mut [0]).unwrap();
        assert_eq!(attempt.connected(), Some(false));
        drop(attempt);
        // Without REUSEADDR: nothing of it lingers.
        let fd = socket(libc::AF_INET, libc::SOCK_STREAM).unwrap();
        Name::from(address).bind(&fd).unwrap();
    }
}
