//! What a signal does (contract, sections 2 and 6).

use std::time::Duration;

use super::effect::Effect;
use super::generation::{Generation, Phase};
use super::message::{Message, Outcome};
use super::request::RequestKind;
use super::turn::Turn;
use super::{Machine, Next};
use crate::config::Action;
use crate::facts::{GenerationId, Sender};
use crate::signal::{Signal, SignalSet};

/// A HUP that a process sends this soon before or after the terminal's end is a hang-up.
pub(super) const HANG_UP_WINDOW: Duration = Duration::from_secs(1);

impl Machine {
    /// A hang-up is not a reload: where the terminal is gone, HUP means stop.
    pub(super) fn note_hup(&mut self, sender: Sender, hung_up: bool, turn: &mut Turn) {
        if self.is_echo(sender) {
            return;
        }
        if hung_up {
            self.terminal_gone = self.terminal_gone.or(Some(turn.now));
        }
        let is_hang_up = sender == Sender::Kernel || self.is_recent(self.terminal_gone, turn);
        if is_hang_up && self.settings.place.nohup {
            turn.say(Message::HangUpIgnored);
            return;
        }
        let is_renewal = self.settings.on.of(Signal::HUP).is_request();
        if is_renewal && is_hang_up {
            return self.told_to_stop(Signal::HUP, Signal::HUP, false, turn);
        }
        let may_hang_up = self.settings.place.has_terminal && self.terminal_gone.is_none();
        if is_renewal && may_hang_up && !self.settings.place.nohup {
            self.suspect_hup = Some(turn.now);
        }
        self.act_on(Signal::HUP, sender, false, turn);
    }

    /// The terminal, or the leader of the session, is gone. A HUP that came just before has told of it.
    pub(super) fn note_terminal_gone(&mut self, turn: &mut Turn) {
        self.terminal_gone = self.terminal_gone.or(Some(turn.now));
        let suspect = self.suspect_hup.take();
        if self.is_recent(suspect, turn) {
            self.told_to_stop(Signal::HUP, Signal::HUP, false, turn);
        }
    }

    fn is_recent(&self, time: Option<Duration>, turn: &Turn) -> bool {
        time.is_some_and(|time| turn.now.saturating_sub(time) < HANG_UP_WINDOW)
    }

    pub(super) fn note_signal(&mut self, signal: Signal, sender: Sender, shared: bool, turn: &mut Turn) {
        if !(signal.may_echo() && self.is_echo(sender)) {
            self.act_on(signal, sender, shared, turn);
        }
    }

    /// Whether this was sent by a process of a generation that is being stopped: it passes on what hupwrap sent it.
    fn is_echo(&self, sender: Sender) -> bool {
        self.stopping().any(|id| sender == Sender::Member(id))
    }

    /// The generation that hupwrap is stopping, if there is one: of two, the older one.
    pub fn stopped(&self) -> Option<GenerationId> {
        self.stopping().min()
    }

    fn stopping(&self) -> impl Iterator<Item = GenerationId> {
        let is_stopped = |life: &&Generation| matches!(life.phase, Phase::Stopping { .. } | Phase::Sweeping { .. });
        self.generations().filter(is_stopped).map(|life| life.id)
    }

    fn act_on(&mut self, signal: Signal, sender: Sender, shared: bool, turn: &mut Turn) {
        let is_interrupt = matches!(signal, Signal::INT | Signal::QUIT);
        let from_terminal =
            sender == Sender::Kernel && (signal.is_job_control() || is_interrupt || signal == Signal::WINCH);
        // What the terminal sends reaches the whole foreground group.
        let heard = from_terminal && shared && self.child.has_child();
        // A shell continues a whole job as well.
        let to_job = !shared && (from_terminal || signal == Signal::CONT);
        if heard && is_interrupt {
            self.interrupted = Some(turn.now);
        }
        match self.settings.on.of(signal) {
            action
            @ (Action::Restart | Action::Replace | Action::Upgrade | Action::Reexec | Action::UpgradeReplace) => {
                self.note_renewal_of(action, turn)
            }
            // A child that survives Ctrl-C, a shell or a REPL, keeps running.
            Action::Stop(None) | Action::Forward(None) if heard => {}
            Action::Stop(by) => {
                let default = if signal == Signal::TERM { self.settings.stop_signal } else { signal };
                self.told_to_stop(signal, by.unwrap_or(default), to_job, turn);
            }
            // Ctrl-C with no child to receive it.
            Action::Forward(_) if from_terminal && is_interrupt && !self.child.has_child() => {
                self.told_to_stop(signal, signal, to_job, turn);
            }
            Action::Forward(_) if self.must_check(signal) => self.unchecked.insert(signal),
            action @ Action::Forward(_) => {
                self.forward(signal, to_job, turn);
                let must_follow = !heard || action == Action::Forward(Some(Signal::STOP));
                if signal.is_job_control() && !self.settings.place.is_init && must_follow {
                    // The terminal, and a child that stops its own group, stop hupwrap where the kernel would, and not
                    // otherwise: nobody continues an orphaned group.
                    turn.push(Effect::Suspend { signal, insist: sender == Sender::Process });
                }
            }
            Action::Ignore | Action::LeftAlone => {}
        }
    }

    /// Whether the user's check comes before this signal is forwarded: only before a forward that `--on` names.
    fn must_check(&self, signal: Signal) -> bool {
        let is_possible = self.stop.is_none() && !signal.is_job_control();
        is_possible && self.settings.check.is_some() && self.settings.on.is_named(signal)
    }

    /// Stops for good. A rule passes the signal on.
    fn told_to_stop(&mut self, told: Signal, by: Signal, to_job: bool, turn: &mut Turn) {
        if self.stop.is_none() {
            turn.say(Message::Stopping(told));
            self.stop = Some(told);
        }
        self.stop_by = Some((by, to_job));
    }

    /// Forwards a signal: at once to a child that can receive it, later to one that cannot yet. A HUP that is forwarded
    /// is a request, and over as soon as it is delivered. It has begun with its check, or when it is held. `to_job`: as
    /// in [`Generation::pass_on`].
    pub(super) fn forward(&mut self, signal: Signal, to_job: bool, turn: &mut Turn) {
        let sent = match self.settings.on.of(signal) {
            Action::Forward(Some(other)) => other,
            _ => signal,
        };
        // These tell of a state that the next child finds anyhow. KILL and STOP need nobody to receive them.
        let is_state = signal.is_job_control() || matches!(signal, Signal::CONT | Signal::WINCH);
        let is_immediate = is_state || matches!(sent, Signal::KILL | Signal::STOP);
        let can_receive = self.child.has_child() && (self.child.hears || is_immediate || self.stop.is_some());
        let is_awaited = self.stop.is_none() && !matches!(self.next, Some(Next::End(_)));
        if can_receive {
            self.child.pass_on(&self.settings, sent, to_job, turn);
        }
        if signal == Signal::HUP {
            self.backoff.reset();
            // Somebody wants to be heard, and not after a delay.
            if matches!(self.next, Some(Next::StartAt(_))) {
                self.start_soon(turn);
            }
        }
        match self.successor() {
            Some(successor) if is_immediate => successor.pass_on(&self.settings, sent, to_job, turn),
            // It may not be ready to receive the signal, and die of it.
            Some(_) => self.held_signals.insert(sent),
            None if !can_receive && !is_immediate && is_awaited => self.held_signals.insert(sent),
            None if can_receive || is_state => {}
            None if signal == Signal::HUP => {
                let outcome = Outcome::Refused("no child runs".to_owned());
                turn.say(Message::Settled { kind: RequestKind::Forward, began: turn.clock, outcome });
                return;
            }
            None => turn.say(Message::NotForwarded(signal)),
        }
        if signal == Signal::HUP {
            match can_receive {
                true => self.settle_forward(turn),
                false if !std::mem::replace(&mut self.held_hup, true) && !self.must_check(signal) => {
                    turn.say(Message::Began(RequestKind::Forward));
                }
                false => {}
            }
        }
    }

    /// Sends what was held to a child that can receive it by now.
    pub(super) fn deliver(&mut self, turn: &mut Turn) {
        for signal in std::mem::take(&mut self.held_signals).iter() {
            self.child.send(&self.settings, signal, turn);
        }
        if std::mem::take(&mut self.held_hup) {
            self.settle_forward(turn);
        }
    }

    fn settle_forward(&self, turn: &mut Turn) {
        turn.say(Message::Settled { kind: RequestKind::Forward, began: turn.clock, outcome: Outcome::Ok });
    }

    /// Forgets what was held for a child that does not take over.
    pub(super) fn forget_held(&mut self) {
        (self.held_signals, self.held_hup) = (SignalSet::EMPTY, false);
    }
}
