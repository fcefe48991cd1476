//! Signals in and out. They stay blocked for ever and are read from a signalfd: no handler is installed, so the child
//! inherits every disposition untouched, and what is pending crosses an exec.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;

use crate::facts::Sender;
use crate::signal::{Signal, SignalSet};
use crate::sys::fd::{new_fd, take};
use crate::sys::poll::is_ready;
use crate::sys::{Pid, own_pid};

/// How long a signal set is for the kernel. glibc's wrappers hide signals 32 and 33; the child's mask must not
/// lose them, so the wrappers are not used.
const SET_SIZE: usize = size_of::<u64>();

/// How often one turn reads from a signalfd at most.
const BATCHES_A_TURN: usize = 64;

/// A signal that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    /// The signal.
    pub signal: Signal,
    /// Who sent it.
    pub sender: Sender,
    /// The pid of the process that sent it; 0 where no process did, or one outside of this pid namespace.
    pub pid: Pid,
}

/// Sets the mask of blocked signals.
pub(crate) fn set_mask(mask: SignalSet) {
    // If a sandbox refuses it, nothing else does it.
    let _ = change_mask(libc::SIG_SETMASK, mask);
}

/// Blocks the signals of a set.
///
/// # Errors
/// A sandbox refuses it, or has refused it when the signals of `already` were to be blocked: the mask that hupwrap was
/// started with is not known then.
pub(crate) fn block(set: SignalSet, already: SignalSet) -> nix::Result<()> {
    let before = change_mask(libc::SIG_BLOCK, set)?;
    // An emulator such as qemu-user may keep real-time signals for itself.
    let mut missing = SignalSet::from_bits(already.bits() & !before.bits() & u64::from(u32::MAX >> 1));
    // The kernel leaves these out of every mask.
    [Signal::KILL, Signal::STOP].into_iter().for_each(|signal| missing.remove(signal));
    if missing == SignalSet::EMPTY { Ok(()) } else { Err(Errno::EPERM) }
}

/// Changes the mask of blocked signals, and returns the one before.
fn change_mask(how: libc::c_int, set: SignalSet) -> nix::Result<SignalSet> {
    let mut before = 0_u64;
    let set = set.bits();
    // SAFETY: both pointers are to sets of ours, of the size that is said.
    let changed = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut before, SET_SIZE) };
    Errno::result(changed).map(|_| SignalSet::from_bits(before))
}

/// The signals that wait to be received.
fn pending() -> SignalSet {
    let mut set = 0_u64;
    // SAFETY: the pointer is to a set of ours, of the size that is said.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, SET_SIZE) };
    SignalSet::from_bits(set)
}

/// Whether TSTP, TTIN or TTOU waits to be received.
pub(crate) fn stop_is_pending() -> bool {
    let pending = pending();
    [Signal::TSTP, Signal::TTIN, Signal::TTOU].into_iter().any(|signal| pending.contains(signal))
}

/// Whether the signal is ignored; with `reset`, it has its default disposition afterwards.
pub(crate) fn is_ignored(signal: Signal, reset: bool) -> bool {
    // The kernel's sigaction: the handler, and three words of zero. The default disposition is zero as well.
    let (default, mut before) = ([libc::SIG_DFL, 0, 0, 0], [0_usize; 4]);
    let new = if reset { default.as_ptr() } else { ptr::null() };
    // SAFETY: the pointers are to structs of ours, or null, which changes nothing.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal.number(), new, before.as_mut_ptr(), SET_SIZE) };
    before.first() == Some(&libc::SIG_IGN)
}

/// The signals that come to this process, as a descriptor.
pub(crate) struct SignalFd {
    fd: OwnedFd,
    own_pid: Pid,
}

impl SignalFd {
    /// Listens to these signals, which must be blocked.
    ///
    /// # Errors
    /// Those of `signalfd(2)`: no descriptor or no memory is left.
    pub(crate) fn new(signals: SignalSet, own_pid: Pid) -> nix::Result<Self> {
        let mask = signals.bits();
        // SAFETY: the pointer is to a set of ours, of the size that is said.
        let fd =
            new_fd(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, SET_SIZE, libc::SFD_CLOEXEC) })?;
        Ok(Self { fd, own_pid })
    }

    /// Goes on with a descriptor that crossed a re-exec, and listens to these signals with it. None where it is no
    /// signalfd. Nothing else matters: where the signals cannot be changed, they are those of the hupwrap before.
    pub(crate) fn adopt(fd: RawFd, signals: SignalSet, own_pid: Pid) -> Option<Self> {
        let mask = signals.bits();
        let fd = take(fd).ok()?;
        // SAFETY: the pointer is to a set of ours, of the size that is said.
        let changed = unsafe { libc::syscall(libc::SYS_signalfd4, fd.as_raw_fd(), &raw const mask, SET_SIZE, 0) };
        (Errno::result(changed) != Err(Errno::EINVAL)).then_some(Self { fd, own_pid })
    }

    /// Whether a signal waits.
    pub(crate) fn is_full(&self) -> bool {
        is_ready(self.fd.as_fd(), PollFlags::POLLIN)
    }

    /// Adds the signals that wait to `all`. Sleeps until there is one: a single call, where nothing else is waited for.
    /// Real-time signals queue, and somebody may send them faster than they are read. So one turn reads a part of them.
    /// All others are among what it reads, because the kernel hands out the lowest number first.
    pub(crate) fn drain(&self, all: &mut Vec<Received>) {
        // SAFETY: the struct is plain data, for which zero is valid.
        let mut batch: [libc::signalfd_siginfo; 16] = unsafe { std::mem::zeroed() };
        for _ in 0..BATCHES_A_TURN {
            // SAFETY: the buffer is ours, and as long as is said.
            let got = unsafe { libc::read(self.fd.as_raw_fd(), batch.as_mut_ptr().cast(), size_of_val(&batch)) };
            let count = usize::try_from(got).unwrap_or(0).div_euclid(size_of::<libc::signalfd_siginfo>());
            for new in batch.iter().take(count).filter_map(|info| received(info, self.own_pid)) {
                add(all, new);
            }
            if count < batch.len() || !self.is_full() {
                break;
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Adds a signal to those that were read before, in numeric order. Equal ones count once, because signals are levels;
/// but of two that may be echoes, one may be none.
fn add(all: &mut Vec<Received>, new: Received) {
    // The kernel discards a pending CONT when a stop comes, and the reverse. One of them may have been read.
    match new.signal {
        Signal::CONT => all.retain(|old| !old.signal.is_job_control()),
        stop if stop.is_job_control() => all.retain(|old| old.signal != Signal::CONT),
        _ => {}
    }
    let is_same = |old: &Received| {
        (old.signal, old.sender) == (new.signal, new.sender) && (old.pid == new.pid || !new.signal.may_echo())
    };
    if !all.iter().any(is_same) {
        all.insert(all.partition_point(|old| old.signal <= new.signal), new);
    }
}

fn received(info: &libc::signalfd_siginfo, own_pid: Pid) -> Option<Received> {
    let signal = Signal::from_number(i32::try_from(info.ssi_signo).ok()?)?;
    let by_process = info.ssi_code <= 0;
    let pid = if by_process { Pid::try_from(info.ssi_pid).unwrap_or(0) } else { 0 };
    match signal {
        // The kernel's word for a write of ours to a broken stderr, or to one at the limit of its size: nobody sent it.
        Signal::PIPE | Signal::XFSZ if pid == own_pid => None,
        _ => Some(Received { signal, sender: if by_process { Sender::Process } else { Sender::Kernel }, pid }),
    }
}

/// Sends a signal to a process, as `kill(2)`; -1 is every process that it may reach.
///
/// # Errors
/// EPERM, or ESRCH.
pub(crate) fn kill(pid: Pid, signal: Signal) -> nix::Result<()> {
    // SAFETY: has no preconditions.
    Errno::result(unsafe { libc::kill(pid, signal.number()) }).map(drop)
}

/// Whether hupwrap may send signals to a process. One that is gone counts as well: what is sent to it does no harm.
pub(crate) fn may_signal(pid: Pid) -> bool {
    // SAFETY: has no preconditions; signal 0 only asks.
    matches!(Errno::result(unsafe { libc::kill(pid, 0) }), Ok(_) | Err(Errno::ESRCH))
}

/// Whether a process group has members, dead and unreaped ones included.
pub(crate) fn group_exists(group: Pid) -> bool {
    // SAFETY: as above.
    Errno::result(unsafe { libc::kill(group.saturating_neg(), 0) }) != Err(Errno::ESRCH)
}

/// Sends a signal to every process of the pid namespace, as pid 1 may. For where there is no /proc.
pub(crate) fn kill_everyone(signal: Signal) {
    let _ = kill(-1, signal);
}

/// Sends a signal to a process group.
///
/// # Errors
/// EPERM, or ESRCH.
pub(crate) fn kill_group(leader: Pid, signal: Signal) -> nix::Result<()> {
    kill(leader.saturating_neg(), signal)
}

/// Stops this process by a signal that is otherwise blocked, and returns when it was continued. With `insist` it stops
/// too where the kernel discards the signal: in an orphaned process group, or where it is ignored. Returns whether a
/// CONT has ended the stop, or came so early that there was none. `with_group`: stops its whole process group.
///
/// A CONT that comes between a look at what is pending and the stop behind it is lost: the kernel has no call that does
/// both. That is the time of one system call.
pub(crate) fn suspend(signal: Signal, insist: bool, with_group: bool) -> bool {
    // The kernel discards a pending CONT when a stop is sent: it must be seen before. Sent while it is blocked, the
    // stop is one with the terminal's own where that waits. The other way round that would stop the process first, and
    // this one again after the CONT.
    if pending().contains(Signal::CONT) {
        return true;
    }
    if with_group {
        let _ = kill(0, signal);
    } else {
        raise(signal);
    }
    let mut open = SignalSet::EMPTY;
    open.insert(signal);
    if let Ok(before) = change_mask(libc::SIG_UNBLOCK, open) {
        set_mask(before);
    }
    // Only a CONT ends a stop: one that waits now says that there was a stop. Without it there was none.
    if insist && !pending().contains(Signal::CONT) {
        raise(Signal::STOP);
    }
    pending().contains(Signal::CONT)
}

fn raise(signal: Signal) {
    // SAFETY: has no preconditions.
    unsafe { libc::syscall(libc::SYS_tgkill, own_pid(), nix::unistd::gettid().as_raw(), signal.number()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_signals_count_once_unless_one_may_be_an_echo() {
        let mut all = Vec::new();
        for (signal, pid) in
            [(Signal::WINCH, 2), (Signal::WINCH, 3), (Signal::TERM, 2), (Signal::TERM, 3), (Signal::TERM, 2)]
        {
            add(&mut all, Received { signal, sender: Sender::Process, pid });
        }
        let seen: Vec<_> = all.iter().map(|received| (received.signal, received.pid)).collect();
        // In numeric order.
        assert_eq!(seen, [(Signal::TERM, 2), (Signal::TERM, 3), (Signal::WINCH, 2)]);
    }

    #[test]
    fn a_stop_and_a_continuation_undo_each_other() {
        let mut all = Vec::new();
        for signal in [Signal::CONT, Signal::TSTP, Signal::CONT] {
            add(&mut all, Received { signal, sender: Sender::Process, pid: 2 });
        }
        assert_eq!(all.iter().map(|received| received.signal).collect::<Vec<_>>(), [Signal::CONT]);
    }
}
