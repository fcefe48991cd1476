//! Writing without waiting.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};

/// Writes to a stream that others have too, if it takes it at once; otherwise nothing is written. Up to `PIPE_BUF` bytes
/// a pipe takes as a whole, or not at all (`pipe(7)`). The stream's own O_NONBLOCK is left alone: it would be everybody's.
pub fn write_at_once(stream: BorrowedFd, bytes: &[u8]) {
    let mut ready = [PollFd::new(stream, PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO) != Ok(1) {
        return;
    }
    // Others may fill it between the poll and the write.
    let kind = fstat(stream).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    if kind == Ok(SFlag::S_IFREG) {
        let _ = nix::unistd::write(stream, bytes);
        return;
    }
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one part, which is only read; -1 means at the stream's own position.
    let written = unsafe { libc::pwritev2(stream.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    if !matches!(Errno::result(written), Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL)) {
        return;
    }
    // A terminal knows no RWF_NOWAIT, nor does an old kernel: then a description of our own, if it may be had.
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let _ = match open(format!("/proc/self/fd/{}", stream.as_raw_fd()).as_str(), flags, Mode::empty()) {
        Ok(own) => nix::unistd::write(&own, bytes),
        Err(Errno::ENXIO | Errno::EIO) => Ok(0),
        Err(_) => nix::unistd::write(stream, bytes),
    };
}
