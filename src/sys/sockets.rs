//! Sockets that outlive the child, and whether somebody listens.
//!
//! A socket of `--listen` is bound once and kept as a descriptor, over every child and every re-exec. A unix socket also
//! has a file. Whether one that is found there is in use is asked by connecting with a datagram socket: it answers
//! EPROTOTYPE where a stream socket is bound, though it may not listen yet, and no server sees a connection. A stale one
//! is replaced under a lock on its directory, so of two hupwraps one wins and the other hears that it is in use. The lock
//! cannot be had where the directory may not be read; then, and against programs that know nothing of it, a few
//! microseconds between question and replacement remain.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, OFlag, fcntl, open};
use nix::libc::{self, c_int};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};

use crate::listen::{self, Address, Endpoint, FIRST_FD, Facts, Identity, Kind, Listen};
use crate::sys::{Pid, above, new_fd};

/// How often the lock on a directory is tried, and the milliseconds between: a second in all. A hupwrap holds it for
/// microseconds; who holds it longer means something else by it, and is not waited for.
const LOCK_TRIES: u8 = 100;
const LOCK_PAUSE: u8 = 10;

/// A socket that is kept. The file of a unix socket goes with it.
pub struct Socket {
    fd: OwnedFd,
    facts: Facts,
    local: Option<SocketAddr>,
}

impl Socket {
    fn new(fd: OwnedFd, kind: Kind, name: String, said: Option<String>, made: Option<Identity>) -> Self {
        let local = match kind {
            Kind::Tcp | Kind::Udp => local_address(fd.as_fd()),
            Kind::Unix | Kind::Other => None,
        };
        Self { facts: Facts { fd: fd.as_raw_fd(), kind, name, said, made }, fd, local }
    }

    /// What a re-executed hupwrap must know of it, and the child is told.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes over a socket that the hupwrap before this one left open.
    ///
    /// # Errors
    /// It is not open.
    pub fn from_facts(facts: Facts) -> Result<Self, String> {
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

    /// One line with the chosen port, where port 0 was asked for.
    pub fn chosen(&self) -> Option<String> {
        let said = self.facts.said.as_ref()?;
        // What was given to hupwrap has a port.
        let asked: Endpoint = self.local.and_then(|_| said.parse().ok())?;
        (asked.port == 0).then(|| format!("port 0: {}:{said} is {}", self.facts.kind.name(), self.address()))
    }

    /// Whether the socket stays open over an exec of hupwrap itself. It does not otherwise, nor in the child, which
    /// gets copies.
    pub fn stays_open(&self, stays: bool) {
        let flags = if stays { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        // It cannot fail with an open descriptor.
        let _ = fcntl(&self.fd, FcntlArg::F_SETFD(flags));
    }

    /// Removes the file of a unix socket, if it still is the one that was made. Its inode cannot be another's while the
    /// socket is open.
    fn remove_file(&self) {
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

/// Binds every socket of `--listen`, or none: an error takes the files back that were made. `inherited` is how many
/// sockets the child gets before these. The descriptors are above those that the child gets, so copying one to its place
/// never overwrites another.
///
/// # Errors
/// One line that names the option, its value and the reason.
pub fn bind_all(all: &[Listen], inherited: usize) -> Result<Vec<Socket>, String> {
    let total = RawFd::try_from(inherited.saturating_add(all.len())).unwrap_or(RawFd::MAX);
    let lowest = FIRST_FD.saturating_add(total);
    let named = |listen: &Listen, error| format!("--listen '{}': {error}", listen.option);
    all.iter().map(|listen| bind(listen, lowest).map_err(|error| named(listen, error))).collect()
}

fn bind(listen: &Listen, lowest: RawFd) -> Result<Socket, String> {
    let (fd, kind, made) = match &listen.address {
        Address::Tcp(endpoint) => (bind_endpoint(endpoint, libc::SOCK_STREAM)?, Kind::Tcp, None),
        Address::Udp(endpoint) => (bind_endpoint(endpoint, libc::SOCK_DGRAM)?, Kind::Udp, None),
        Address::Unix { path, mode } => {
            let fd = bind_path(path, *mode).map_err(|refusal| refusal.explain(path))?;
            (fd, Kind::Unix, identity(path))
        }
    };
    let name = listen.name.clone().unwrap_or_else(|| listen::UNKNOWN.to_owned());
    // From here on an error takes the file back.
    let mut socket = Socket::new(fd, kind, name, Some(listen.said.clone()), made);
    if kind != Kind::Udp {
        // The kernel cuts the backlog to net.core.somaxconn. A second socket that took the same port before this one
        // listened is found out here.
        // SAFETY: has no preconditions.
        Errno::result(unsafe { libc::listen(socket.fd.as_raw_fd(), c_int::MAX) }).map_err(|error| explain(error, 0))?;
    }
    let copy = socket.fd.try_clone().and_then(|fd| Ok(above(fd, lowest)?));
    socket.fd = copy.map_err(|error| error.to_string())?;
    socket.facts.fd = socket.fd.as_raw_fd();
    Ok(socket)
}

fn bind_endpoint(endpoint: &Endpoint, kind: c_int) -> Result<OwnedFd, String> {
    let address = resolve(endpoint)?;
    let bind = || {
        let fd = socket(if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }, kind)?;
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
        other => other.desc().to_owned(),
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
            Self::NoSocket(what) => format!("a {what} is there already, which is left alone; name another path"),
            Self::Failed(Errno::ENOENT | Errno::ENOTDIR) => {
                format!("there is no directory '{}'; make it first", directory_of(path).display())
            }
            Self::Failed(Errno::EACCES) => {
                format!("no permission to make a file in '{}'", directory_of(path).display())
            }
            Self::Failed(other) => other.desc().to_owned(),
        }
    }
}

fn directory_of(path: &str) -> &Path {
    match Path::new(path).parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn bind_path(path: &str, mode: u32) -> Result<OwnedFd, Refusal> {
    let name = Name::of_path(path);
    let fd = socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    match name.bind_with_mode(&fd, mode) {
        Err(Errno::EADDRINUSE) => {
            let _lock = lock(directory_of(path));
            if is_stale(path, &name)? {
                nix::unistd::unlink(path)?;
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
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i32>().ok();
    let Some(fds) = fds.filter(|_| pid.and_then(number) == Some(own_pid)) else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(fds);
    let Some(count) = number(fds).and_then(|count| usize::try_from(count).ok()) else {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(format!("LISTEN_FDS '{shown}': want the number of descriptors from {FIRST_FD} on"));
    };
    // Before names are made for them: the number may be any.
    let open: Vec<_> = (FIRST_FD..).take(count).map_while(|fd| Some((fd, take(fd).ok()?))).collect();
    if open.len() < count {
        let missing = FIRST_FD.saturating_add(i32::try_from(open.len()).unwrap_or(i32::MAX));
        return Err(format!(
            "LISTEN_FDS '{text}': descriptor {missing} is not open; want {count} open ones from {FIRST_FD} on"
        ));
    }
    let names = listen::names(names, count);
    let socket = |((_, fd), name): ((RawFd, OwnedFd), String)| {
        let (kind, said) = describe(fd.as_fd());
        Socket::new(fd, kind, name, said.filter(|said| listen::is_key(said)), None)
    };
    Ok(open.into_iter().zip(names).map(socket).collect())
}

/// Takes a descriptor that was open when hupwrap was executed.
fn take(fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: has no preconditions; a descriptor that is none gives an error.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and whoever opened it left it to this process by its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a descriptor is, and where it listens.
fn describe(fd: BorrowedFd) -> (Kind, Option<String>) {
    let option = |name| option(fd, name).ok();
    let address = || local_address(fd).map(|address| address.to_string());
    match (option(libc::SO_DOMAIN), option(libc::SO_TYPE), option(libc::SO_ACCEPTCONN)) {
        (Some(libc::AF_INET | libc::AF_INET6), Some(libc::SOCK_STREAM), Some(1)) => (Kind::Tcp, address()),
        (Some(libc::AF_INET | libc::AF_INET6), Some(libc::SOCK_DGRAM), _) => (Kind::Udp, address()),
        (Some(libc::AF_UNIX), Some(libc::SOCK_STREAM), Some(1)) => (Kind::Unix, local_path(fd)),
        _ => (Kind::Other, None),
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
        let domain = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let fd = socket(domain, libc::SOCK_STREAM | libc::SOCK_NONBLOCK).ok()?;
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
        self.0.local_addr().ok() == self.0.peer_addr().ok()
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
