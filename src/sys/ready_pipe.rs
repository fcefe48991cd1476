//! The pipe of `--ready fd:N`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::sys::fd::pipe;

/// The reading end of a pipe: a child writes a newline when it is ready (s6, dinit). It does not cross a re-exec, which
/// waits until the child is ready.
pub(crate) struct ReadyPipe(OwnedFd);

impl ReadyPipe {
    /// Makes the pipe. The second value is the child's end.
    ///
    /// # Errors
    /// Those of `pipe2(2)`.
    pub(crate) fn new() -> nix::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe(OFlag::O_CLOEXEC)?;
        // Our end only: the child may expect its end to block.
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self(ours), theirs))
    }

    /// Whether a newline came: true if one did, false if none will come, as the pipe is closed, none if neither has happened
    /// yet. Reads one piece: `poll(2)` reports the next one.
    pub(crate) fn newline_came(&self) -> Option<bool> {
        let mut piece = [0; 512];
        match nix::unistd::read(&self.0, &mut piece) {
            Ok(0) => Some(false),
            Ok(length) => piece.iter().take(length).any(|byte| *byte == b'\n').then_some(true),
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            // It cannot be read.
            Err(_) => Some(false),
        }
    }
}

impl AsFd for ReadyPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::is_kept;

    #[test]
    fn a_newline_makes_ready() {
        let write = |fd: &OwnedFd, bytes: &[u8]| assert_eq!(nix::unistd::write(fd, bytes), Ok(bytes.len()));
        let (pipe, theirs) = ReadyPipe::new().unwrap();
        assert_eq!(pipe.newline_came(), None);
        write(&theirs, b"not yet");
        assert_eq!((pipe.newline_came(), pipe.newline_came()), (None, None));
        write(&theirs, b"now\nand more");
        assert_eq!(pipe.newline_came(), Some(true));

        let (pipe, theirs) = ReadyPipe::new().unwrap();
        assert!(!is_kept(&pipe) && !is_kept(&theirs));
        write(&theirs, &[b'x'; 600]);
        drop(theirs);
        assert_eq!((pipe.newline_came(), pipe.newline_came(), pipe.newline_came()), (None, None, Some(false)));
    }
}
