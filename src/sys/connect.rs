//! Whether somebody listens at an address: the attempt of `--ready tcp:`.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};

use crate::sys::fd::above_stdio;
use crate::sys::sockets::family;
use crate::sys::start_error;

/// Asks whether somebody listens at one of some addresses, by connecting to all of them at once.
pub(crate) struct Attempt(Vec<(SocketAddr, nix::Result<Connection>)>);

/// A connection that is being made.
struct Connection {
    stream: TcpStream,
    to: SocketAddr,
}

impl Attempt {
    /// Begins to connect. When one of its descriptors is writable, [`Attempt::connected`] may have the answer.
    pub(crate) fn begin(to: &[SocketAddr]) -> Self {
        Self(to.iter().map(|to| (*to, Connection::begin(*to))).collect())
    }

    /// Whether one is connected, or why none is; none as long as that is undecided.
    pub(crate) fn connected(&mut self) -> Option<Result<(), String>> {
        for (_, connection) in &mut self.0 {
            match connection.as_ref().ok().and_then(Connection::connected) {
                Some(Ok(())) => return Some(Ok(())),
                Some(Err(error)) => *connection = Err(error),
                None => {}
            }
        }
        let errors: Vec<Errno> =
            self.0.iter().map_while(|(_, connection)| connection.as_ref().err().copied()).collect();
        (errors.len() == self.0.len()).then(|| {
            let all: Vec<String> = self.0.iter().map(|(to, _)| to.to_string()).collect();
            let error = errors.first().copied().unwrap_or(Errno::UnknownErrno);
            Err(format!("cannot connect to {}: {}", all.join(" or "), start_error::describe(error)))
        })
    }

    /// What to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().filter_map(|(_, connection)| Some(connection.as_ref().ok()?.stream.as_fd()))
    }
}

impl Connection {
    fn begin(to: SocketAddr) -> nix::Result<Self> {
        let fd = socket(family(to), SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        let fd = above_stdio(fd)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Self { stream: TcpStream::from(fd), to }),
            Err(error) => Err(error),
        }
    }

    /// Whether it is connected; none as long as that is undecided. A second `connect(2)` answers this.
    fn connected(&self) -> Option<nix::Result<()>> {
        match connect(self.stream.as_raw_fd(), &SockaddrStorage::from(self.to)) {
            Err(Errno::EALREADY | Errno::EINPROGRESS) => None,
            Ok(()) | Err(Errno::EISCONN) if self.is_with_itself() => Some(Err(Errno::ECONNREFUSED)),
            Ok(()) | Err(Errno::EISCONN) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether the connection is with itself: if nobody listens on the port, the kernel may choose that very port as
    /// the port of the side that connects.
    fn is_with_itself(&self) -> bool {
        matches!((self.stream.local_addr(), self.stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_with_itself() {
            // An orderly close would keep the child from its port for a minute.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = setsockopt(&self.stream, sockopt::Linger, &linger);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{AddressFamily, bind, getsockname};

    use super::*;

    fn bound(to: SocketAddr) -> (std::os::fd::OwnedFd, SocketAddr) {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
        let port = getsockname::<SockaddrStorage>(fd.as_raw_fd()).unwrap().as_sockaddr_in().unwrap().port();
        (fd, SocketAddr::new(to.ip(), port))
    }

    fn answer(to: &[SocketAddr]) -> Result<(), String> {
        let mut attempt = Attempt::begin(to);
        loop {
            if let Some(answer) = attempt.connected() {
                return answer;
            }
            let mut fds: Vec<_> = attempt.fds().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)).collect();
            poll(&mut fds, PollTimeout::NONE).unwrap();
        }
    }

    fn reaches(to: SocketAddr) -> bool {
        answer(&[to]).is_ok()
    }

    #[test]
    fn whether_somebody_listens() {
        let (_early, address) = bound("127.0.0.1:0".parse().unwrap());
        assert!(!reaches(address));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(reaches(listener.local_addr().unwrap()));
        let mut any = listener.local_addr().unwrap();
        any.set_ip(Ipv4Addr::UNSPECIFIED.into());
        assert!(reaches(any));
        if let Ok(listener) = TcpListener::bind("[::1]:0") {
            assert!(reaches(listener.local_addr().unwrap()));
        }
    }

    #[test]
    fn one_of_several_addresses_is_enough() {
        let (_early, nobody) = bound("127.0.0.1:0".parse().unwrap());
        let (_early, neither) = bound("127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let somebody = listener.local_addr().unwrap();
        for all in [[nobody, somebody], [somebody, nobody]] {
            assert_eq!(answer(&all), Ok(()), "{all:?}");
        }
        let error = answer(&[nobody, neither]).unwrap_err();
        assert!(error.starts_with(&format!("cannot connect to {nobody} or {neither}: ")), "{error}");
    }

    #[test]
    fn a_connection_with_itself_does_not_count() {
        let (fd, address) = bound("127.77.0.3:0".parse().unwrap());
        connect(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        let mut attempt = Connection { stream: TcpStream::from(fd), to: address };
        attempt.stream.write_all(b"x").unwrap();
        attempt.stream.read_exact(&mut [0]).unwrap();
        assert_eq!(attempt.connected(), Some(Err(Errno::ECONNREFUSED)));
        drop(attempt);
        // Without REUSEADDR: nothing of it lingers.
        bound(address);
    }
}
