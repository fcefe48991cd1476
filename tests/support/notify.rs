//! Both ends of a NOTIFY_SOCKET: the service manager above hupwrap, and the processes of a child.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Dir, PATIENCE, wait_until};

/// CLOCK_MONOTONIC in microseconds, as systemd writes it down when it sends a signal.
pub fn monotonic() -> u64 {
    // SAFETY: the struct is plain data, and ours.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Where systemd would be.
pub struct Above {
    socket: UnixDatagram,
    name: OsString,
    /// When the last reload began.
    reloaded: u64,
    /// What hupwrap has shown of the children that served, as long as they say nothing themselves.
    pub running: Vec<String>,
    _dir: Option<Dir>,
}

impl Above {
    /// At a path.
    pub fn new() -> Self {
        let dir = Dir::new();
        let path = dir.path().join("above");
        let address = SocketAddr::from_pathname(&path).unwrap();
        Self::at(&address, path.into(), Some(dir))
    }

    /// At an abstract name.
    pub fn hidden(name: &str) -> Self {
        let name = format!("hupwrap-test-{}-{name}", std::process::id());
        Self::at(&SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}").into(), None)
    }

    fn at(address: &SocketAddr, name: OsString, dir: Option<Dir>) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name, reloaded: monotonic(), running: Vec::new(), _dir: dir }
    }

    /// The value for NOTIFY_SOCKET.
    pub fn name(&self) -> &OsString {
        &self.name
    }

    /// Fills the socket, so that nothing more can be sent to it. Returns by how much.
    pub fn fill(&self) -> usize {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let path = self.name.to_str().unwrap();
        (0..1_000_000).take_while(|_| sender.send_to(b"X_FILL=1", path).is_ok()).count()
    }

    /// The next datagram. Of a RELOADING with its time, which is looked at, only `RELOADING` is returned.
    #[track_caller]
    pub fn next(&mut self) -> String {
        let mut buffer = vec![0; 1 << 16];
        let length = loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => break length,
                // With a timeout it is not begun again where something stops all of the machine for a moment.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing comes: {error}"),
            }
        };
        self.understand(&buffer[..length])
    }

    /// What has come until now and was not looked at.
    pub fn rest(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        self.socket.set_nonblocking(true).unwrap();
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => all.push(self.understand(&buffer[..length])),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        self.socket.set_nonblocking(false).unwrap();
        all
    }

    /// Waits for these, in this order, and nothing between them.
    #[track_caller]
    pub fn expect(&mut self, all: &[&str]) {
        for (at, expected) in all.iter().enumerate() {
            assert_eq!(self.next(), *expected, "number {at} of {all:?}");
        }
    }

    /// The next one, of which this is the beginning; returns what follows.
    #[track_caller]
    pub fn expect_beginning(&mut self, beginning: &str) -> String {
        let next = self.next();
        next.strip_prefix(beginning).unwrap_or_else(|| panic!("{next:?} does not begin with {beginning:?}")).to_owned()
    }

    /// When the last reload that was heard of began, in microseconds.
    pub fn reloaded(&self) -> u64 {
        self.reloaded
    }

    /// Takes away what hupwrap says of itself while a child serves, and remembers it: since when which program has been
    /// running.
    #[track_caller]
    fn without_running(&mut self, text: &str) -> String {
        let is_running = |part: &str| part.contains(" has been running since 20") && part.ends_with('Z');
        let Some(running) = text.rsplit(['=', ';', '\n']).find(|part| is_running(part)) else { return text.to_owned() };
        self.running.push(running.trim().to_owned());
        let text = text.replace(&format!("\nSTATUS={running}"), "").replace(&format!(";{running}"), "");
        text.replace(running, "running")
    }

    #[track_caller]
    fn understand(&mut self, datagram: &[u8]) -> String {
        let text = String::from_utf8_lossy(datagram).into_owned();
        // To systemd hupwrap is the service: its main pid never changes, and nobody tells of another.
        assert!(!text.contains("MAINPID"), "{text:?}");
        let text = self.without_running(&text);
        let Some(time) = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=") else { return text };
        let (time, status) = time.split_once('\n').unwrap_or((time, ""));
        let time: u64 = time.parse().expect("a time");
        assert!(self.reloaded < time && time <= monotonic(), "{time} after {}", self.reloaded);
        self.reloaded = time;
        if status.is_empty() { "RELOADING".to_owned() } else { format!("RELOADING\n{status}") }
    }
}

/// The NOTIFY_SOCKET of a process, by its environment.
pub fn socket_of(pid: i32) -> Option<String> {
    variable_of(pid, "NOTIFY_SOCKET")
}

/// A variable of a process.
pub fn variable_of(pid: i32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let mut values = environ.split(|byte| *byte == 0).filter_map(|variable| {
        let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    });
    values.next_back()
}

/// Says something for a child: on its socket, as it could itself. Returns when hupwrap has read it; to know that it has
/// acted on it too, have it forward a signal.
#[track_caller]
pub fn tell(child: i32, message: impl AsRef<[u8]>) {
    let mut socket = None;
    // While it executes another program it has no environment.
    wait_until("it has a NOTIFY_SOCKET", || {
        socket = socket_of(child);
        socket.is_some()
    });
    tell_at(&socket.unwrap(), message.as_ref());
}

/// The same, to a socket of this name.
#[track_caller]
pub fn tell_at(name: &str, message: &[u8]) {
    // As BARRIER=1 does it, and in the same datagram: after it the socket may be gone.
    let (ours, theirs) = pipe();
    send(name, message, &[theirs.as_raw_fd()]).unwrap();
    drop(theirs);
    closed(&ours);
}

/// Waits until nobody has the other end of a pipe open.
#[track_caller]
pub fn closed(ours: &OwnedFd) {
    use std::os::fd::AsFd;
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    let mut fds = [PollFd::new(ours.as_fd(), PollFlags::empty())];
    let mut polled = poll(&mut fds, patience);
    while polled == Err(nix::errno::Errno::EINTR) {
        polled = poll(&mut fds, patience);
    }
    assert_eq!(polled, Ok(1), "somebody keeps the descriptor");
}

/// A pipe: the end that reads, and the one that writes.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: the array is ours; the descriptors are nobody else's.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

/// Sends a datagram with descriptors.
pub fn send(name: &str, message: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match name.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    let mut control = [0_u64; 256];
    let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    let size = size_of_val(descriptors) as u32;
    // SAFETY: the header is plain data; the control data is in a buffer of ours that has room for it.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !descriptors.is_empty() {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(size) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(size) as _;
            std::ptr::copy_nonoverlapping(descriptors.as_ptr(), libc::CMSG_DATA(first).cast(), descriptors.len());
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const header, 0)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
