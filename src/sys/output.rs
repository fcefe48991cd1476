//! Writing without waiting.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::write;

use crate::sys::poll;

/// Writes to a stream that others use too, if the stream takes it at once; otherwise nothing is written. A pipe takes
/// up to `PIPE_BUF` bytes as a whole, or not at all (`pipe(7)`). The stream's own O_NONBLOCK is left alone: it would be
/// everybody's.
pub(crate) fn write_at_once(stream: BorrowedFd, bytes: &[u8]) {
    let kind = fstat(stream).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    let _ = match kind {
        Ok(SFlag::S_IFREG) => write(stream, bytes),
        // Before Linux 6.5 a socket has no RWF_NOWAIT.
        Ok(SFlag::S_IFSOCK) => send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
        _ => match write_nowait(stream, bytes) {
            // Not every file has it, and a sandbox may refuse it.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::EPERM | Errno::EACCES) => {
                write_own(stream, bytes)
            }
            written => written,
        },
    };
}

fn write_nowait(stream: BorrowedFd, bytes: &[u8]) -> nix::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one part, which is only read; -1 means at the stream's own position.
    let write = || unsafe { libc::pwritev2(stream.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    let written = match Errno::result(write()) {
        Err(Errno::EINTR) => Errno::result(write()),
        written => written,
    };
    written.and_then(|written| usize::try_from(written).map_err(|_| Errno::EIO))
}

/// Writes to a stream without RWF_NOWAIT, a terminal for example: through a description of our own, if we may have one.
fn write_own(stream: BorrowedFd, bytes: &[u8]) -> nix::Result<usize> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match open(format!("/proc/self/fd/{}", stream.as_raw_fd()).as_str(), flags, Mode::empty()) {
        Ok(own) => write(&own, bytes),
        Err(Errno::ENXIO | Errno::EIO) => Ok(0),
        // This write waits. poll says less often than a write that does not wait that there is room: a pipe has some in
        // its last page, a unix socket in three quarters of its buffer. So nothing else is asked before.
        Err(_) => match poll::wait(&mut [PollFd::new(stream, PollFlags::POLLOUT)], Some(Duration::ZERO)) {
            Ok(0) => Ok(0),
            _ => write(stream, bytes),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    /// How many of 1000 lines a stream takes that nobody reads.
    fn taken(mut stream: impl Read + AsFd, write_line: impl Fn(&[u8])) -> usize {
        (0..1000).for_each(|_| write_line(&[&[b'x'; 199][..], b"\n"].concat()));
        let flags = OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&stream, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        text.iter().filter(|byte| **byte == b'\n').count()
    }

    #[test]
    fn a_stream_gets_every_line_that_it_takes() {
        let pipe = || {
            let (reader, writer) = std::io::pipe().unwrap();
            nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
            (reader, writer)
        };
        let plainly = |stream: BorrowedFd, line: &[u8]| {
            nix::fcntl::fcntl(stream, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            let _ = write(stream, line);
        };
        let (reader, writer) = pipe();
        let ours = taken(reader, |line| write_at_once(writer.as_fd(), line));
        let (reader, writer) = pipe();
        assert_eq!(ours, taken(reader, |line| plainly(writer.as_fd(), line)));
        let (reader, writer) = UnixStream::pair().unwrap();
        let ours = taken(reader, |line| write_at_once(writer.as_fd(), line));
        let (reader, writer) = UnixStream::pair().unwrap();
        assert_eq!(ours, taken(reader, |line| plainly(writer.as_fd(), line)));
    }

    #[test]
    fn a_socket_gets_every_line_and_makes_nobody_wait() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        write_at_once(ours.as_fd(), b"one\n");
        write_at_once(ours.as_fd(), b"two\n");
        let mut read = [0; 8];
        theirs.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"one\ntwo\n");
        // Nobody reads: it comes back.
        for _ in 0..10_000 {
            write_at_once(ours.as_fd(), &[b'x'; 1000]);
        }
        drop(theirs);
        // No SIGPIPE.
        write_at_once(ours.as_fd(), b"lost\n");

        let (ours, theirs) = UnixDatagram::pair().unwrap();
        write_at_once(ours.as_fd(), b"one\n");
        assert_eq!(theirs.recv(&mut read).unwrap(), 4);
        for _ in 0..10_000 {
            write_at_once(ours.as_fd(), b"x\n");
        }
        // The socket's own flags are untouched.
        let flags = nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
    }
}
