//! The controlling terminal.

use std::io::{IsTerminal, stderr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Pid as Group, getpgid, getpgrp, getsid, read, tcgetpgrp, tcsetpgrp};

use crate::sys::fd::{is_non_blocking, set_non_blocking};
use crate::sys::poll::is_ready;
use crate::sys::{Pid, own_pid, pidfd};

/// Where hupwrap stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It has no terminal.
    NoTerminal,
    /// It has one, and another job is in the foreground.
    Background,
    /// Its process group is the foreground job.
    Foreground,
}

/// The controlling terminal. It is opened for a moment at a time: an open terminal would keep a closed window alive.
pub(crate) struct Terminal(OwnedFd);

impl Terminal {
    /// Opens it, if there is one.
    pub(crate) fn open() -> Option<Self> {
        match open_controlling() {
            Ok(tty) => Some(Self(tty)),
            Err(Errno::ENXIO) => None,
            // A bare chroot has no /dev/tty. One of the standard descriptors may lead to the terminal.
            Err(_) => standard().into_iter().flatten().next()?.try_clone_to_owned().ok().map(Self),
        }
    }

    /// Where hupwrap stands at it.
    pub(crate) fn place(&self) -> Place {
        let own = own_group();
        // Process groups outside of this pid namespace are all 0.
        let is_in_front = self.front() == Some(own) && (own != 0 || self.may_be_read());
        if is_in_front { Place::Foreground } else { Place::Background }
    }

    /// Whether the kernel lets hupwrap read it, as it lets the foreground. TTIN is blocked, so the answer is EIO
    /// otherwise.
    fn may_be_read(&self) -> bool {
        let flags = fcntl(&self.0, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        // Without O_NONBLOCK the call would wait while somebody else reads.
        !flags.is_ok_and(|flags| flags.contains(OFlag::O_NONBLOCK)) || read(&self.0, &mut []) != Err(Errno::EIO)
    }

    /// The process group in the foreground. It may have no member left.
    pub(crate) fn front(&self) -> Option<Pid> {
        tcgetpgrp(&self.0).ok().map(Group::as_raw)
    }

    /// Puts a process group of this session into the foreground. TTOU is blocked, so hupwrap may do that from the
    /// background.
    pub(crate) fn give_to(&self, group: Pid) {
        let _ = tcsetpgrp(&self.0, Group::from_raw(group));
    }

    /// Its modes.
    pub(crate) fn modes(&self) -> Option<Modes> {
        let modes = libc::termios::from(tcgetattr(&self.0).ok()?);
        Some(Modes {
            flags: [modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag],
            line: modes.c_line,
            characters: modes.c_cc.to_vec(),
        })
    }

    /// Sets these modes, unless they are set.
    pub(crate) fn restore(&self, modes: &Modes) {
        let Ok(now) = tcgetattr(&self.0) else { return };
        if self.modes().as_ref() == Some(modes) {
            return;
        }
        let mut changed = libc::termios::from(now);
        let [input, output, control, local] = modes.flags;
        (changed.c_iflag, changed.c_oflag, changed.c_cflag, changed.c_lflag) = (input, output, control, local);
        changed.c_line = modes.line;
        changed.c_cc.iter_mut().zip(&modes.characters).for_each(|(now, then)| *now = *then);
        let _ = tcsetattr(&self.0, SetArg::TCSANOW, &changed.into());
    }
}

/// The modes of a terminal (`termios(3)`): echo, line editing, the keys that send signals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Modes {
    flags: [u32; 4],
    line: u8,
    characters: Vec<u8>,
}

impl Modes {
    /// As bytes, for a re-exec.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let flags = self.flags.iter().flat_map(|flags| flags.to_le_bytes());
        flags.chain([self.line]).chain(self.characters.iter().copied()).collect()
    }

    /// Reads them back. None where bytes are missing.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_at_checked(size_of::<[u32; 4]>())?;
        let (line, characters) = rest.split_first()?;
        let mut words = flags.chunks(size_of::<u32>()).map(|word| word.try_into().map_or(0, u32::from_le_bytes));
        let flags = [words.next()?, words.next()?, words.next()?, words.next()?];
        Some(Self { flags, line: *line, characters: characters.to_vec() })
    }
}

/// Which of the standard descriptors are non-blocking, for a re-exec as the bits 1, 2 and 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NonBlocking(pub u8);

impl NonBlocking {
    /// Looks at them.
    pub(crate) fn look() -> Self {
        let bits = STANDARD.map(|number| u8::from(is_non_blocking(standard_fd(number)) == Some(true)));
        let [input, output, errors] = bits;
        Self(input | output << 1 | errors << 2)
    }

    /// Makes those blocking again that were blocking before. A child has changed them: it shares them with hupwrap and
    /// the next child.
    pub(crate) fn restore(self) {
        for number in STANDARD {
            set_non_blocking(standard_fd(number), self.0 >> number & 1 == 1);
        }
    }
}

const STANDARD: [i32; 3] = [0, 1, 2];

fn standard_fd(number: i32) -> BorrowedFd<'static> {
    // SAFETY: hupwrap never closes a standard descriptor. If it was closed at the start, each call says EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Watches for the end of the terminal. It goes with the leader of the session, and no signal tells a background job.
pub(crate) struct HangUp {
    /// Readable when the leader has ended. None if hupwrap itself leads the session, or there are no pidfds.
    leader: Option<OwnedFd>,
    /// The standard descriptor that leads to the terminal, if there is one: it has a hang-up when the terminal is gone.
    standard: Option<BorrowedFd<'static>>,
    is_over: bool,
    /// Whether the leader cannot be watched: then somebody has to look now and then. poll(2) does not wake for the
    /// hang-up that its end causes, unless it waits for input.
    pub is_blind: bool,
    /// Whether the terminal went while the leader lived on, at a time that nobody knows. Then only the leader's end is
    /// news.
    pub is_late: bool,
}

impl HangUp {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        let leader = getsid(None).map(Group::as_raw).unwrap_or(0);
        // A leader outside of this pid namespace is 0, which cannot be opened.
        let others = Some(leader).filter(|leader| *leader != own_pid());
        let (leader, is_over, is_blind) = match others.map(pidfd::open) {
            None => (None, false, false),
            Some(Ok(leader)) => (Some(leader), false, false),
            // The number of a session is not used for another process while the session exists.
            Some(Err(Errno::ESRCH | Errno::EINVAL)) if is_gone() => (None, true, false),
            Some(Err(_)) => (None, false, true),
        };
        Self { leader, standard: standard().into_iter().flatten().next(), is_over, is_blind, is_late: false }
    }

    /// What to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let leader = self.leader.iter().map(|leader| (leader.as_fd(), PollFlags::POLLIN));
        // A hang-up needs no asking for.
        leader.chain(self.standard.iter().map(|fd| (*fd, PollFlags::empty())))
    }

    /// Whether the terminal, or the leader of the session, is gone.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over || self.fds().any(|(fd, flags)| is_ready(fd, flags))
    }

    /// Whether a leader lives that may have outlived the terminal: no descriptor tells of that.
    pub(crate) fn has_leader(&self) -> bool {
        self.leader.is_some() && !self.is_over()
    }
}

/// The process group of a process. None if it does not exist.
pub(crate) fn group_of(pid: Pid) -> Option<Pid> {
    getpgid(Some(Group::from_raw(pid))).ok().map(Group::as_raw)
}

/// Whether a process is in hupwrap's session.
pub(crate) fn in_own_session(pid: Pid) -> bool {
    getsid(Some(Group::from_raw(pid))).is_ok_and(|session| getsid(None) == Ok(session))
}

/// hupwrap's own process group.
pub(crate) fn own_group() -> Pid {
    getpgrp().as_raw()
}

/// The standard descriptors that lead to the controlling terminal: of another one the kernel tells no foreground group.
fn standard() -> [Option<BorrowedFd<'static>>; 3] {
    STANDARD.map(|number| Some(standard_fd(number)).filter(|fd| tcgetpgrp(fd).is_ok()))
}

fn open_controlling() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    open("/dev/tty", flags, Mode::empty())
}

/// Whether the terminal that hupwrap had is gone: `/dev/tty` no longer leads anywhere, or leads to one that was hung
/// up.
pub(crate) fn is_gone() -> bool {
    // Asked twice: an answer that does not last must not turn a reload into a stop.
    match open_controlling().or_else(|_| open_controlling()) {
        // A hang-up is the only thing that this can find.
        Ok(tty) => is_ready(tty.as_fd(), PollFlags::empty()),
        Err(error) => matches!(error, Errno::ENXIO | Errno::EIO),
    }
}

/// Takes the terminal back from a process group that has been given it, if it still has it. Returns whether it had.
pub(crate) fn take_from(group: Option<Pid>) -> bool {
    let Some(terminal) = Terminal::open().filter(|terminal| group.is_some() && terminal.front() == group) else {
        return false;
    };
    terminal.give_to(own_group());
    true
}

/// The process group in the foreground of the terminal, if there is one.
pub(crate) fn front() -> Option<Pid> {
    Terminal::open()?.front()
}

/// How many columns stderr has, if it is a terminal that this process may write to without being asked. If this process
/// is in the background, the terminal belongs to another program.
pub(crate) fn columns() -> Option<usize> {
    if !stderr().is_terminal() || tcgetpgrp(stderr()).is_ok_and(|group| group != getpgrp()) {
        return None;
    }
    Some(width(&stderr()).unwrap_or(80))
}

/// How many columns a terminal has, if this is one and knows it.
pub(crate) fn width(fd: &impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a struct of ours.
    unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_cross_a_re_exec() {
        let modes = Modes { flags: [1, u32::MAX, 3, 0x8a3b], line: 7, characters: (0..32).collect() };
        assert_eq!(Modes::from_bytes(&modes.to_bytes()), Some(modes));
        for length in 0..17 {
            assert_eq!(Modes::from_bytes(&vec![0; length]), None);
        }
    }
}
