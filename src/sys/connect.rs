//! Whether somebody listens at an address: the attempt of `--ready tcp:`.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};

use crate::sys::fd::above_stdio;
use crate::sys::sockets::family;
use crate::sys::start_error;

/// Asks whether somebody listens, by connecting.
pub(crate) struct Attempt {
    stream: TcpStream,
    to: SocketAddr,
}

impl Attempt {
    /// Begins to connect. When its descriptor is writable, [`Attempt::connected`] has the answer.
    ///
    /// # Errors
    /// One line that says why it was refused at once.
    pub(crate) fn begin(to: SocketAddr) -> Result<Self, String> {
        let begin = || {
            let fd = socket(family(to), SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
            let fd = above_stdio(fd)?;
            match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
                Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
                Err(error) => Err(error),
            }
        };
        begin().map(|stream| Self { stream, to }).map_err(|error| no_connection(to, error))
    }

    /// Whether it is connected, or why it is not; none as long as that is undecided. A second `connect(2)` answers this.
    pub(crate) fn connected(&self) -> Option<Result<(), String>> {
        match connect(self.stream.as_raw_fd(), &SockaddrStorage::from(self.to)) {
            Err(Errno::EALREADY | Errno::EINPROGRESS) => None,
            Ok(()) | Err(Errno::EISCONN) if self.is_with_itself() => {
                Some(Err(no_connection(self.to, Errno::ECONNREFUSED)))
            }
            Ok(()) | Err(Errno::EISCONN) => Some(Ok(())),
            Err(error) => Some(Err(no_connection(self.to, error))),
        }
    }

    /// Whether the connection is with itself: if nobody listens on the port, the kernel may choose that very port as the
    /// port of the side that connects.
    fn is_with_itself(&self) -> bool {
        matches!((self.stream.local_addr(), self.stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
    }
}

fn no_connection(to: SocketAddr, error: Errno) -> String {
    format!("cannot connect to {to}: {}", start_error::describe(error))
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_with_itself() {
            // An orderly close would keep the child from its port for a minute.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = setsockopt(&self.stream, sockopt::Linger, &linger);
        }
    }
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
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

    fn reaches(to: SocketAddr) -> bool {
        let Ok(attempt) = Attempt::begin(to) else { return false };
        poll(&mut [PollFd::new(attempt.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE).unwrap();
        attempt.connected().unwrap().is_ok()
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
    fn a_connection_with_itself_does_not_count() {
        let (fd, address) = bound("127.77.0.3:0".parse().unwrap());
        connect(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        let mut attempt = Attempt { stream: TcpStream::from(fd), to: address };
        attempt.stream.write_all(b"x").unwrap();
        attempt.stream.read_exact(&mut [0]).unwrap();
        assert!(attempt.connected().unwrap().unwrap_err().ends_with("onnection refused"));
        drop(attempt);
        // Without REUSEADDR: nothing of it lingers.
        bound(address);
    }
}
