//! One event being handled: its time, and the effects so far.

use super::effect::Effect;
use super::message::Message;
use crate::facts::Time;

/// What every step of the handling of one event needs.
pub(super) struct Turn<'a> {
    /// The machine's own time: it stands still while hupwrap is suspended, so a pause moves every deadline.
    pub(super) now: Time,
    /// CLOCK_MONOTONIC, for what is told to others.
    pub(super) clock: Time,
    /// Whether the event is a tick: only then a deadline is up. Facts that came with it are handled before.
    pub(super) is_tick: bool,
    /// What is to be done.
    pub(super) out: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    pub(super) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    pub(super) fn say(&mut self, message: Message) {
        self.out.push(Effect::Say(message));
    }

    /// Whether a deadline is up.
    pub(super) fn is_due(&self, deadline: Option<Time>) -> bool {
        self.is_tick && deadline.is_some_and(|deadline| deadline <= self.now)
    }
}
