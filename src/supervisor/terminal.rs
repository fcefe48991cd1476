//! The terminal: its end, and what one child leaves of it to the next.

use std::time::Duration;

use super::child::Child;
use super::family::Family;
use super::{RETRY, Supervisor};
use crate::exit::ExitStatus;
use crate::facts::{Sender, Time};
use crate::machine::event::Event;
use crate::signal::Signal;
use crate::sys::signals::{self, Received};
use crate::sys::terminal::{HangUp, Modes, NonBlocking, Place, Terminal, is_gone, own_group};
use crate::sys::{Pid, clock, proc};

/// How long a HUP waits for the end of the leader of the session.
const LEADER_TIME: Duration = Duration::from_secs(1);

/// What the supervisor keeps of its terminal.
pub(super) struct TerminalState {
    /// Whether hupwrap had a controlling terminal at its start.
    pub(super) exists: bool,
    /// Tells when that is gone. None where there was none, and when its end was told.
    pub(super) hang_up: Option<HangUp>,
    /// A HUP that is not told yet, and until when it waits.
    pub(super) held: Option<(Received, Time)>,
    /// Whether hupwrap's process group or a child's was in front when hupwrap last looked. Only where they have one of
    /// their own: then the kernel may tell that one of a hang-up, and not hupwrap.
    is_ours: bool,
    /// The modes that the first child found. A child in the background finds none: they are those of another program.
    pub(super) modes: Option<Modes>,
    /// Which standard descriptors were non-blocking for the first child.
    pub(super) non_blocking: NonBlocking,
}

impl TerminalState {
    /// That of a first start.
    pub(super) fn new(terminal: Option<&Terminal>, place: Place) -> Self {
        Self {
            exists: terminal.is_some(),
            hang_up: terminal.map(|_| HangUp::watch()),
            held: None,
            is_ours: false,
            modes: terminal.filter(|_| place == Place::Foreground).and_then(Terminal::modes),
            non_blocking: NonBlocking::look(),
        }
    }

    /// That of the hupwrap before. `is_gone`: whether its end was told.
    pub(super) fn adopt(exists: bool, is_gone: bool, modes: Option<&[u8]>, non_blocking: Option<u8>) -> Self {
        Self {
            exists,
            hang_up: (exists && !is_gone).then(HangUp::watch),
            held: None,
            is_ours: false,
            modes: modes.and_then(Modes::from_bytes),
            non_blocking: non_blocking.map_or_else(NonBlocking::look, NonBlocking),
        }
    }
}

impl Supervisor {
    /// How long hupwrap may wait before it looks at the terminal, where nothing tells of a change.
    pub(super) fn terminal_interval(&self) -> Option<Duration> {
        let is_unsure = |hang_up: &HangUp| hang_up.is_blind || self.machine.suspects_hang_up();
        let awaits = self.family.children.iter().any(|child| child.awaits_terminal);
        let must_look = self.terminal.hang_up.as_ref().is_some_and(is_unsure) || (self.terminal.exists && awaits);
        (must_look || self.terminal.held.is_some()).then_some(RETRY)
    }

    /// Whether a HUP among those that were read has come with the end of the terminal. Where the terminal is found gone
    /// and the leader of the session lives, it may have gone days ago. A leader that passes a hang-up on ends next, so
    /// the HUP is held back until then. If the leader lives on, the HUP has nothing to do with the terminal, and no
    /// later one has.
    pub(super) fn hold_hup(&mut self, received: &mut Vec<Received>) -> bool {
        let suspects = self.machine.suspects_hang_up();
        let TerminalState { hang_up, held, is_ours, .. } = &mut self.terminal;
        let is_settled = hang_up.as_ref().is_none_or(|hang_up| !hang_up.has_leader());
        if let Some((hup, _)) = held.take_if(|(_, until)| is_settled || *until <= clock::now()) {
            hang_up.iter_mut().for_each(|hang_up| hang_up.is_late = !is_settled);
            received.push(hup);
        }
        let Some(hang_up) = hang_up.as_ref().filter(|_| received.iter().any(|new| new.signal == Signal::HUP)) else {
            return false;
        };
        let is_gone = is_gone();
        if hang_up.is_late || is_settled || suspects || *is_ours || !is_gone {
            return is_gone && (is_settled || !hang_up.is_late);
        }
        let hups = received.extract_if(.., |new| new.signal == Signal::HUP && new.sender == Sender::Process);
        for hup in hups {
            held.get_or_insert((hup, clock::now().saturating_add(LEADER_TIME)));
        }
        false
    }

    /// Whether the terminal, or the leader of the session, is gone since. Where the kernel has told the child of it
    /// instead of hupwrap, that is a HUP.
    pub(super) fn terminal_gone(&mut self, deaths: &[Event]) -> Option<Event> {
        let hang_up = self.terminal.hang_up.as_ref()?;
        let is_told = |death: &Event| matches!(death, Event::ChildEnded(_, ExitStatus::Killed(Signal::HUP)));
        let is_for_child = self.terminal.is_ours || deaths.iter().any(is_told);
        let must_look = hang_up.is_blind || self.machine.suspects_hang_up() || is_for_child;
        let is_over = hang_up.is_over() || (must_look && !hang_up.is_late && is_gone());
        let hup = Event::Signal { signal: Signal::HUP, sender: Sender::Kernel, hung_up: true, shared: false };
        self.terminal.hang_up.take_if(|_| is_over).map(|_| if is_for_child { hup } else { Event::TerminalGone })
    }

    /// Gives the terminal to a child that was stopped in the background for want of it, once the shell has brought
    /// hupwrap to the foreground. `continued`: a CONT has come, which is for the whole job.
    pub(super) fn lend_terminal(&mut self, continued: bool) {
        if !self.terminal.exists {
            return;
        }
        for child in self.family.children.iter_mut().filter(|child| child.awaits_terminal) {
            let (Some(pid), Some(group)) = (child.pid, child.look_group_up()) else { continue };
            let terminal = Terminal::open();
            // A hupwrap that could neither follow a stop nor take the terminal back finds the child's group in front.
            let is_ours =
                |terminal: &Terminal| terminal.place() == Place::Foreground || terminal.front() == Some(group);
            let in_front = terminal.filter(is_ours);
            if in_front.is_none() && !continued {
                continue;
            }
            child.awaits_terminal = false;
            // The terminal may be gone before hupwrap looks again.
            self.terminal.is_ours |= in_front.is_some();
            if let Some(terminal) = in_front.filter(|_| proc::is_stopped(pid)) {
                self.terminal.modes = self.terminal.modes.take().or_else(|| terminal.modes());
                terminal.give_to(group);
            }
            let _ = signals::kill_group(group, Signal::CONT);
        }
    }

    /// Takes the terminal back from a process group of a child that has no member left: nobody hears its keys, and the
    /// next child may be waiting for it. At hupwrap's end, `ends`, from one with members as well, as a shell does: what
    /// a child has left behind runs in the background, and those that have started hupwrap read the terminal next.
    pub(super) fn take_terminal_back(&mut self, ends: bool) {
        let Family { children, left_groups: left, shared_group, .. } = &mut self.family;
        let empty: Vec<Pid> = left.extract_if(.., |group| ends || !signals::group_exists(*group)).collect();
        if self.terminal.hang_up.is_none() || (empty.is_empty() && *shared_group) {
            return;
        }
        let Some(terminal) = Terminal::open() else { return };
        // 0 is none, while the terminal goes.
        let Some(front) = terminal.front().filter(|front| *front != 0) else { return };
        if empty.contains(&front) {
            terminal.give_to(own_group());
        }
        let has_it = |child: &mut Child| !*shared_group && child.look_group_up() == Some(front);
        self.terminal.is_ours = front == own_group() || empty.contains(&front) || children.iter_mut().any(has_it);
    }

    /// Leaves the terminal to the next child as the first one found it.
    pub(super) fn prepare_terminal(&mut self) {
        self.terminal.non_blocking.restore();
        self.take_terminal_back(false);
        // A child that still runs has set the modes that it needs.
        if !self.terminal.exists || self.family.children.iter().any(|child| child.pid.is_some()) {
            return;
        }
        if let (Some(terminal), Some(modes)) = (Terminal::open(), &self.terminal.modes)
            && (terminal.place() == Place::Foreground
                || terminal.front().is_some_and(|front| self.family.left_groups.contains(&front)))
        {
            terminal.restore(modes);
        }
    }
}
