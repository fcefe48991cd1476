//! What the supervisor keeps of one generation: pids and descriptors, by which it hears and reaches it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use crate::config::Shown;
use crate::facts::{GenerationId, Time};
use crate::machine::event::Event;
use crate::report;
use crate::sys::connect::Attempt;
use crate::sys::notify_socket::NotifySocket;
use crate::sys::proc::{self, ProcStat};
use crate::sys::ready_pipe::ReadyPipe;
use crate::sys::spawn::Spawned;
use crate::sys::{Pid, clock, terminal};
use crate::text::main_process::{Announced, EndedChild, Written};
use crate::text::messages;
use crate::text::notify::{self, Notice};

/// How many datagrams of a child are read before anything else has its turn.
const DATAGRAMS_A_TURN: usize = 64;

/// A try that takes this long hangs.
const LONG_TRY: Duration = Duration::from_secs(5);

/// A child, and what was made for it.
#[derive(Default)]
pub(super) struct Child {
    /// Its generation.
    pub generation: GenerationId,
    /// Its pid, until it is reaped.
    pub pid: Option<Pid>,
    /// The pid that it has or had, for people.
    pub number: Pid,
    /// Its process group when that was last looked up, where it was not hupwrap's. See [`Child::look_group_up`].
    pub group: Option<Pid>,
    /// When it was started; none where the hupwrap before this one has started it.
    pub started: Option<Time>,
    /// The main process that it has announced.
    pub announced: Option<Announced>,
    /// When the `--child-pidfile` was written that was there before this child.
    pub file_before: Option<Written>,
    /// When it has ended, while its main process may still be named. The machine has not heard of its end.
    pub ended: Option<EndedChild>,
    /// While it has not executed.
    pub unexecuted: Option<Spawned>,
    /// Its NOTIFY_SOCKET.
    pub notify: Option<NotifySocket>,
    /// The pipe of `--ready fd:N`.
    pub pipe: Option<ReadyPipe>,
    /// The connections that are to show it.
    pub attempt: Option<Attempt>,
    /// When the try began that is under way.
    pub try_began: Option<Time>,
    /// Why the last try found that it is not ready.
    pub not_ready_because: Option<String>,
    /// Who was in its process group when that was asked to end.
    pub in_group: Option<Vec<ProcStat>>,
    /// While the rest of its generation is looked for: who was asked to end.
    pub asked: Option<Vec<ProcStat>>,
    /// Processes of the rest that hupwrap may not signal. Nobody waits for them.
    pub refused: Vec<ProcStat>,
    /// Whether it was stopped and has its process group in the background, so that it needs the terminal to go on.
    pub awaits_terminal: bool,
    /// Its identity, if it was started beside another child: its age tells whose an orphan is.
    pub born: Option<ProcStat>,
}

impl Child {
    /// A child of which only this is known.
    pub(super) fn new(generation: GenerationId, pid: Option<Pid>, group: Option<Pid>) -> Self {
        Self { generation, pid, number: pid.unwrap_or(0), group, ..Self::default() }
    }

    /// Its process group, where that is not hupwrap's. A process may change its group at any time, and the number of a
    /// group without members may mean the processes of others. As long as the child is not reaped, that of its group
    /// cannot. Where the kernel does not tell it, the same is true of the group that has the number of the child.
    pub(super) fn look_group_up(&mut self) -> Option<Pid> {
        if let Some(pid) = self.pid {
            self.group = match terminal::group_of(pid) {
                // 0 is a group outside of this pid namespace. To `kill(2)`, 1 means every process.
                Some(group) => Some(group).filter(|group| *group > 1 && *group != terminal::own_group()),
                None => self.group.filter(|group| *group == pid),
            };
        }
        self.group
    }

    /// What to wait for; the exec only where somebody does.
    pub(super) fn fds(&self, awaits_execution: bool) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let unexecuted = self.unexecuted.as_ref().filter(|_| awaits_execution).map(AsFd::as_fd);
        let notify = self.notify.as_ref().filter(|notify| !notify.fails()).map(AsFd::as_fd);
        let pipe = self.pipe.as_ref().filter(|pipe| !pipe.fails()).map(AsFd::as_fd);
        let readable = [unexecuted, notify, pipe].into_iter().flatten().map(|fd| (fd, PollFlags::POLLIN));
        readable.chain(self.attempt.iter().flat_map(Attempt::fds).map(|fd| (fd, PollFlags::POLLOUT)))
    }

    /// What it has said since, and what was found out about it. Lines for the service manager go to `pass_up`.
    /// `says_ready`: whether `READY=1` is how it shows that it is ready.
    pub(super) fn hear(&mut self, says_ready: bool, mut pass_up: impl FnMut(&[u8])) -> Vec<Event> {
        let generation = self.generation;
        let mut events = Vec::new();
        let datagrams = self.notify.iter().flat_map(|notify| std::iter::from_fn(|| notify.receive()));
        for datagram in datagrams.take(DATAGRAMS_A_TURN) {
            let Notice { ready, extend, main_pid, passed_up } = notify::read(&datagram);
            self.announced = main_pid.and_then(announced).or(self.announced);
            events.extend(extend.map(|by| Event::Extended(generation, by)));
            events.extend((ready && says_ready).then_some(Event::Ready(generation)));
            passed_up.iter().for_each(|lines| pass_up(lines));
        }
        match self.pipe.as_ref().and_then(ReadyPipe::newline_came) {
            Some(true) => {
                self.pipe = None;
                events.push(Event::Ready(generation));
            }
            // Closed without a word: nothing more will come.
            Some(false) => self.pipe = None,
            None => {}
        }
        if let Some(connected) = self.attempt.as_mut().and_then(Attempt::connected) {
            self.attempt = None;
            events.push(match connected {
                Ok(()) => Event::Ready(generation),
                Err(reason) => self.tried_in_vain(reason),
            });
        }
        events
    }

    /// The event for a try that has failed. The reason is kept, because a line may have to say it.
    pub(super) fn tried_in_vain(&mut self, reason: String) -> Event {
        self.try_began = None;
        if self.not_ready_because.as_ref() != Some(&reason) {
            report::say(&messages::tried(self.generation, self.number, &reason));
            self.not_ready_because = Some(reason);
        }
        Event::TriedInVain(self.generation)
    }

    /// Why it is not ready, as far as tries have shown. One that takes long says more than the one before it.
    pub(super) fn why_not_ready(&self) -> Option<String> {
        let took = self.try_began.map(|began| clock::now().saturating_sub(began));
        match took.filter(|took| *took >= LONG_TRY || self.not_ready_because.is_none()) {
            Some(took) => Some(format!("its try was still running after {}", Shown(took))),
            None => self.not_ready_because.clone(),
        }
    }
}

/// The process of a `MAINPID=`. None if it does not exist.
fn announced(pid: Pid) -> Option<Announced> {
    let seen = ProcStat::at(pid);
    let exists = seen.is_some() || proc::shows_us().is_err();
    exists.then(|| Announced { pid, began: seen.map(|seen| seen.began()) })
}
