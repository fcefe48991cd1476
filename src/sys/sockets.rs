//! The sockets of `--listen`, and those that hupwrap was given. A socket is bound once and kept as a descriptor, over
//! every child and every re-exec.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind as bind_to, getsockname,
    getsockopt, listen as listen_at, setsockopt, socket, sockopt,
};

use crate::sys::fd::{above, is_non_blocking, keep_over_exec, set_non_blocking, take};
use crate::sys::resolve::resolve;
use crate::sys::unix_path::{self, file_at, is_bound_beside};
use crate::sys::{Pid, start_error};
use crate::text::listen::{self, Address, Endpoint, FIRST_FD, Listen};
use crate::text::socket_facts::{self, SocketFacts, SocketFile, SocketKind};

/// A socket that is kept. The file of a unix socket goes with it.
pub(crate) struct Socket {
    fd: OwnedFd,
    facts: SocketFacts,
    local: Option<SocketAddr>,
    /// Whether it was non-blocking for the first child.
    non_blocking: bool,
}

impl Socket {
    fn new(fd: OwnedFd, kind: SocketKind, name: String, said: Option<String>, made: Option<SocketFile>) -> Self {
        let local = match kind {
            SocketKind::Tcp | SocketKind::Udp => local_address(fd.as_fd()),
            SocketKind::Unix | SocketKind::Other => None,
        };
        let non_blocking = is_non_blocking(&fd) == Some(true);
        Self { facts: SocketFacts { fd: fd.as_raw_fd(), kind, name, said, made }, fd, local, non_blocking }
    }

    /// What a re-executed hupwrap must know of it, and the child is told.
    pub(crate) fn facts(&self) -> &SocketFacts {
        &self.facts
    }

    /// Takes over a socket that the hupwrap before this one left open.
    ///
    /// # Errors
    /// It is not open.
    pub(crate) fn from_facts(facts: SocketFacts, non_blocking: bool) -> Result<Self, String> {
        let fd = take(facts.fd).map_err(|_| format!("the socket '{}' is not open any more", facts.name))?;
        let is_ours = facts.said.as_ref().is_some_and(|path| is_bound_beside(&fd, path));
        let mut socket = Self::new(fd, facts.kind, facts.name, facts.said, facts.made.filter(|_| is_ours));
        socket.non_blocking = non_blocking;
        Ok(socket)
    }

    /// Its descriptor, if it was non-blocking for the first child.
    pub(crate) fn non_blocking(&self) -> Option<RawFd> {
        self.non_blocking.then_some(self.facts.fd)
    }

    /// Makes it blocking or non-blocking again as the first child found it. A child has changed that for every later
    /// one.
    pub(crate) fn restore_blocking(&self) {
        set_non_blocking(&self.fd, self.non_blocking);
    }

    /// Where it listens in fact, for people: `tcp:127.0.0.1:8080` with the address that a name stood for and the port
    /// that was chosen, `unix:PATH`, or `other`.
    pub(crate) fn address(&self) -> String {
        let kind = self.facts.kind.name();
        match (self.local, &self.facts.said) {
            (Some(local), _) => format!("{kind}:{local}"),
            (None, Some(said)) => format!("{kind}:{said}"),
            (None, None) => kind.to_owned(),
        }
    }

    /// The address of a TCP or UDP socket, for [`listen::answers`].
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// One line with the chosen port, where port 0 was asked for: the option, and the address.
    pub(crate) fn chosen(&self) -> Option<String> {
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
            Address::Unix { path, .. } => return self.facts.made.is_some_and(|made| made.is_at(file_at(path))),
        };
        let Some(local) = self.local.filter(|_| self.facts.kind == kind) else { return false };
        resolve(endpoint).is_ok_and(|asked| listen::answers(local, asked) || listen::answers(asked, local))
    }

    /// Whether the socket stays open over an exec of hupwrap itself. It does not otherwise, nor in the child, which
    /// gets copies.
    pub(crate) fn stays_open(&self, stays: bool) -> nix::Result<()> {
        keep_over_exec(&self.fd, stays)
    }

    /// Removes the file of a unix socket, if it is still the one that was made. Its inode cannot be another's while the
    /// socket is open. Dropping the socket does the same, so an error on the way leaves no file behind.
    pub(crate) fn remove_file(&self) {
        if let (Some(made), Some(path)) = (self.facts.made, &self.facts.said) {
            unix_path::remove(path, made);
        }
    }
}

/// The first number above those of this many sockets in the child: copying one to its place overwrites no other.
fn lowest(count: usize) -> RawFd {
    FIRST_FD.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX))
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
pub(crate) fn bind_all(all: &[Listen], inherited: &[Socket]) -> Result<Vec<Socket>, String> {
    let lowest = lowest(inherited.len().saturating_add(all.len()));
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

fn bind(option: &Listen, lowest: RawFd) -> Result<Socket, String> {
    let (fd, kind, made) = match &option.address {
        Address::Tcp(endpoint) => (bind_endpoint(endpoint, SockType::Stream, lowest)?, SocketKind::Tcp, None),
        Address::Udp(endpoint) => (bind_endpoint(endpoint, SockType::Datagram, lowest)?, SocketKind::Udp, None),
        Address::Unix { path, mode } => {
            let fd = unix_path::bind(path, *mode, lowest)?;
            let made = file_at(path).ok().flatten().map(|file| SocketFile { mode: *mode, ..file });
            if let Some(made) = made {
                unix_path::keep(path, made);
            }
            (fd, SocketKind::Unix, made)
        }
    };
    let name = option.name.clone().unwrap_or_else(|| listen::UNKNOWN.to_owned());
    // From here on an error takes the file back.
    let socket = Socket::new(fd, kind, name, Some(option.said.clone()), made);
    if kind != SocketKind::Udp {
        // The kernel limits the backlog to net.core.somaxconn. If a second socket has taken the same port in between,
        // this fails.
        listen_at(&socket.fd, Backlog::MAXALLOWABLE).map_err(|error| explain(error, 0))?;
    }
    Ok(socket)
}

fn bind_endpoint(endpoint: &Endpoint, kind: SockType, lowest: RawFd) -> Result<OwnedFd, String> {
    let address = resolve(endpoint)?;
    let bind = || {
        let fd = above(socket(family(address), kind, SockFlag::SOCK_CLOEXEC, None)?, lowest)?;
        if kind == SockType::Stream {
            // Lingering connections of an earlier socket are no obstacle. For UDP it would share the port.
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        }
        if address.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        }
        bind_to(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        Ok(fd)
    };
    bind().map_err(|error| explain(error, address.port()))
}

pub(super) fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
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

/// Takes the descriptors that hupwrap was given, if they were meant for it: `LISTEN_FDS`, `LISTEN_PID` and
/// `LISTEN_FDNAMES` as they are in the environment. They stay where they are, and are close-on-exec. Nothing may have
/// been opened before.
///
/// # Errors
/// One line, where a descriptor that was promised is not open, or `LISTEN_FDS` is no number.
pub(crate) fn inherited(
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
    let names = socket_facts::names(names, count);
    let socket = |((_, fd), name): ((RawFd, OwnedFd), String)| {
        let (kind, said) = describe(fd.as_fd());
        Socket::new(fd, kind, name, said.filter(|said| socket_facts::is_key(said)), None)
    };
    Ok(open.into_iter().zip(names).map(socket).collect())
}

/// What a descriptor is, and where it listens.
fn describe(fd: BorrowedFd) -> (SocketKind, Option<String>) {
    let family = getsockname::<SockaddrStorage>(fd.as_raw_fd()).ok().and_then(|address| address.family());
    let accepts = getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
    let address = || local_address(fd).map(|address| address.to_string());
    match (family, getsockopt(&fd, sockopt::SockType)) {
        (Some(AddressFamily::Inet | AddressFamily::Inet6), Ok(SockType::Stream)) if accepts => {
            (SocketKind::Tcp, address())
        }
        (Some(AddressFamily::Inet | AddressFamily::Inet6), Ok(SockType::Datagram)) => (SocketKind::Udp, address()),
        (Some(AddressFamily::Unix), Ok(SockType::Stream)) if accepts => (SocketKind::Unix, local_path(fd)),
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

pub(crate) mod restore;
#[cfg(test)]
mod tests;
