//! Whether somebody listens at an address: the attempt of `--ready tcp:`.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::socket::{SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};

use crate::sys::fd::above_stdio;
use crate::sys::poll::is_ready;
use crate::sys::sockets::family;

/// Asks whether somebody listens, by connecting.
pub struct Attempt(TcpStream);

impl Attempt {
    /// Begins to connect. When its descriptor is writable, [`Attempt::connected`] has the answer. None if it is refused at
    /// once.
    pub fn begin(to: SocketAddr) -> Option<Self> {
        let fd = socket(family(to), SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).ok()?;
        let fd = above_stdio(fd).ok()?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Some(Self(TcpStream::from(fd))),
            Err(_) => None,
        }
    }

    /// Whether it is connected; none as long as that is undecided.
    pub fn connected(&self) -> Option<bool> {
        if !is_ready(self.0.as_fd(), PollFlags::POLLOUT) {
            return None;
        }
        let answered = matches!(self.0.take_error(), Ok(None));
        Some(answered && !self.is_with_itself())
    }

    /// Whether the connection is with itself: if nobody listens on the port, the kernel may choose that very port as the
    /// port of the side that connects.
    fn is_with_itself(&self) -> bool {
        matches!((self.0.local_addr(), self.0.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_with_itself() {
            // An orderly close would keep the child from its port for a minute.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = setsockopt(&self.0, sockopt::Linger, &linger);
        }
    }
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use nix::poll::{PollFd, PollTimeout, poll};
    use nix::sys::socket::{AddressFamily, bind, getsockname};

    use super::*;

    fn bound(to: SocketAddr) -> (std::os::fd::OwnedFd, SocketAddr) {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
        let port = getsockname::<SockaddrStorage>(fd.as_raw_fd()).unwrap().as_sockaddr_in().unwrap().port();
        (fd, SocketAddr::new(to.ip(), port))
    }

    fn reaches(to: SocketAddr) -> bool {
        let Some(attempt) = Attempt::begin(to) else { return false };
        poll(&mut [PollFd::new(attempt.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE).unwrap();
        attempt.connected().unwrap()
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
        let mut attempt = Attempt(TcpStream::from(fd));
        attempt.0.write_all(b"x").unwrap();
        attempt.0.read_exact(&mut [0]).unwrap();
        assert_eq!(attempt.connected(), Some(false));
        drop(attempt);
        // Without REUSEADDR: nothing of it lingers.
        bound(address);
    }
}
