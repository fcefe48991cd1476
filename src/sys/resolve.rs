//! Finding the address of a host. A resolver may be silent for half a minute, so a name is looked up by a process of
//! its own, and hupwrap handles signals in that time.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal as Named;
use nix::unistd::{self, ForkResult, fork, getppid, setpgid};

use crate::signal::{Signal, SignalSet};
use crate::sys::fd::pipe;
use crate::sys::{Pid, own_pid, signals};
use crate::text::listen::Endpoint;

/// The longest answer, in bytes: what a pipe takes as a whole.
const LONGEST: usize = libc::PIPE_BUF;
/// What stands between two addresses of an answer.
const SEPARATOR: &str = " ";
/// More than a name for one host has. An answer has room for them.
const MOST_ADDRESSES: usize = 16;

/// Whether a host is a name that is to be looked up, and not an address in figures.
pub(crate) fn is_name(host: &str) -> bool {
    // Only an IPv6 address has a colon.
    !host.contains(':') && host.parse::<Ipv4Addr>().is_err()
}

/// Finds the addresses of an endpoint, IPv4 first: one at least. For a name this may take long.
///
/// # Errors
/// One line that says why there is none.
pub(crate) fn resolve_all(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let Endpoint { host, port } = endpoint;
    let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        let reason = text.rsplit(": ").next().unwrap_or_default();
        format!("the host '{host}' has no address: {reason}; want one that resolves, or an address in figures")
    })?;
    let (mut all, ipv6): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv4);
    all.extend(ipv6);
    all.dedup();
    if all.is_empty() { Err(format!("the host '{host}' has no address")) } else { Ok(all) }
}

/// The first of them: the address that a socket is bound to.
///
/// # Errors
/// The same.
pub(crate) fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, String> {
    resolve_all(endpoint)?.first().copied().ok_or_else(|| format!("the host '{}' has no address", endpoint.host))
}

/// A lookup that is under way. Its process is a child of hupwrap, which somebody else reaps.
pub(crate) struct Lookup {
    pid: Pid,
    host: String,
    answer: OwnedFd,
}

impl Lookup {
    /// Begins to look up the address of an endpoint. `mask`: the signals that its process blocks.
    ///
    /// # Errors
    /// Those of `pipe2(2)` and `fork(2)`.
    pub(crate) fn begin(endpoint: &Endpoint, mask: SignalSet) -> nix::Result<Self> {
        let (answer, theirs) = pipe(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let parent = own_pid();
        // SAFETY: hupwrap has one thread. So its copy can do everything that it could do itself.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self { pid: child.as_raw(), host: endpoint.host.clone(), answer }),
            ForkResult::Child => look_up(endpoint, mask, parent, &theirs),
        }
    }

    /// The pid of its process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends its process, which must not have been reaped.
    pub(crate) fn give_up(&self) {
        let _ = signals::kill(self.pid, Signal::KILL);
    }

    /// The addresses, one at least. To be asked for once, when its descriptor is readable or its process has ended.
    ///
    /// # Errors
    /// One line that says why there is none.
    pub(crate) fn answer(&self) -> Result<Vec<SocketAddr>, String> {
        let mut bytes = [0; LONGEST];
        let length = unistd::read(&self.answer, &mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        match text.split(SEPARATOR).map(str::parse).collect() {
            Ok(addresses) => Ok(addresses),
            Err(_) if text.is_empty() => Err(format!("the lookup of '{}' was ended", self.host)),
            Err(_) => Err(text.into_owned()),
        }
    }
}

impl AsFd for Lookup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }
}

/// The first of these addresses, as many as an answer has room for.
fn answer_text(all: &[SocketAddr]) -> String {
    let all: Vec<String> = all.iter().take(MOST_ADDRESSES).map(SocketAddr::to_string).collect();
    all.join(SEPARATOR)
}

/// What the process does: it writes the addresses, or the reason why there is none.
fn look_up(endpoint: &Endpoint, mask: SignalSet, parent: Pid, answer: &OwnedFd) -> ! {
    let itself = unistd::Pid::from_raw(0);
    let _ = setpgid(itself, itself);
    let _ = set_pdeathsig(Named::SIGKILL);
    // A hupwrap that has ended before the line above takes nobody along. 0 is a hupwrap outside of the pid namespace.
    if [0, parent].contains(&getppid().as_raw()) {
        close_all_but(answer);
        signals::set_mask(mask);
        let text = resolve_all(endpoint).map_or_else(|error| error, |all| answer_text(&all));
        let _ = unistd::write(answer, text.as_bytes().get(..LONGEST).unwrap_or(text.as_bytes()));
    }
    // SAFETY: ends the process; nothing is buffered.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor but the standard ones and this one: a lookup must keep no socket and no lock of hupwrap's
/// alive. Where the kernel or a sandbox does not permit it, they stay open as long as the lookup takes.
fn close_all_but(answer: &OwnedFd) {
    let kept = answer.as_raw_fd().unsigned_abs();
    let ranges = [(3, kept.saturating_sub(1)), (kept.saturating_add(1), u32::MAX)];
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: this process uses none of these any more, and ends without dropping their owners.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
