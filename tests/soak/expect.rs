//! What the answers of the waiting commands, and the end of hupwrap, may be: from what was done and what the children
//! told, and from nothing else.

use std::collections::BTreeSet;

use nix::libc;
use serde_json::Value;

use super::clients::{Answer, LONG};
use super::scene::Scene;
use super::schedule::{Fault, wants_new_child};
use super::told::{Time, Told};
use crate::support::*;

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// By itself.
    Own,
    /// It was told to while this generation served and nothing else went on.
    Steady(u64),
    /// It was told to at any moment.
    Any,
}

impl Scene<'_> {
    /// Whether children tell when they are ready.
    pub fn readiness_is_told(&self) -> bool {
        ["notify", "fd", "cmd"].contains(&self.life.options.ready)
    }

    /// Whether a generation was ready in time, if readiness is told.
    fn was_late(&self, generation: u64, told: &Told) -> bool {
        let before = self.log.told.range(..generation).map(|(_, told)| told.last).max().unwrap_or(0);
        let limit = self.life.options.ready_timeout * 1_000_000;
        let in_time = |ready: Time| ready.saturating_sub(before.min(told.start)) < limit;
        self.readiness_is_told() && !told.announced.is_some_and(in_time)
    }

    /// Whether something about a generation is a reason for a request to fail.
    fn is_bad(&self, generation: u64, told: &Told) -> bool {
        let ended_itself = told.end.is_some_and(|(at, _)| told.stopped.is_none_or(|stopped| at < stopped));
        self.was_late(generation, told) || ended_itself || self.killed.contains_key(&generation)
    }

    /// Judges how a waiting command has ended.
    pub fn judge(&mut self, answer: Answer) {
        let Answer { form, timeout, asked, ended, code, said } = answer;
        let words = format!("{form} that began at {asked} and ended at {ended}: {code:?}, said '{}'", said.trim());
        self.tell(&words);
        self.log.read();
        assert!(!said.contains("panicked"), "{words}");
        self.tally.answers += 1;
        // A killed one tells nothing.
        let Some(code) = code else { return };
        if code == -1 && self.life.options.init {
            // With pid 1 everything in its namespace ends.
            return wait_until(&words, || !self.hupwrap.lives());
        }
        let is_over = !self.hupwrap.lives() || self.stopped.is_some();
        let is_missing = self.removed.contains(&"status");
        let explained = match (form, code) {
            // It has written that it has ended, and is about to.
            (_, 125) if !is_over && !is_missing => return wait_until(&words, || !self.hupwrap.lives()),
            (_, 125) => true,
            (_, 124) => timeout < LONG && ended - asked >= timeout * 1_000_000,
            ("--stop", 0) => !self.hupwrap.lives(),
            ("--status", 0 | 1) => true,
            ("--wait-ready", 0) => {
                let is_ready = |told: &Told| !self.readiness_is_told() || told.ready.is_some_and(|at| at < ended);
                self.log.told.values().any(is_ready)
            }
            ("--reload", 0) => return self.judge_reloaded(asked, ended, &words),
            ("--reload", 1) => is_over || self.may_fail(asked, ended) || self.was_killed_at_once(&said),
            _ => false,
        };
        assert!(explained, "{words}");
        assert!(code == 0 || form == "--status" || !said.trim().is_empty(), "no reason: {words}");
    }

    /// Whether a new child was ended by a signal to forward. Without a word from the child, such a signal is delivered
    /// as soon as COMMAND is executed: before it is blocked, and before the child tells anything.
    fn was_killed_at_once(&self, said: &str) -> bool {
        let is_said = |signal: &&str| said.contains(&format!("ended ({signal}) before it was ready"));
        !self.readiness_is_told() && self.sent.iter().any(is_said)
    }

    fn judge_reloaded(&mut self, asked: Time, ended: Time, words: &str) {
        let action = self.life.options.on_hup;
        assert_ne!(action, "ignore", "{words}");
        let hindrance = self.troubles.iter().find(|trouble| {
            let covers = trouble.inner.0 <= asked && trouble.inner.1.is_none_or(|until| until >= ended);
            // A start that an earlier request has had checked is shared by this one.
            let is_shared = matches!(trouble.fault, Fault::Check);
            covers && !is_shared && trouble.fault.hinders(action, &self.life.options)
        });
        assert!(hindrance.is_none(), "in spite of {:?}: {words}", hindrance.map(|trouble| trouble.fault));
        if !wants_new_child(action) {
            return;
        }
        // Without a word from the child, it may be ready before it has written its first line.
        wait_until(words, || {
            self.log.read();
            !self.hupwrap.lives() || self.log.told.keys().any(|new| self.is_answer(*new, asked, ended))
        });
    }

    /// Whether a generation is what was asked for: it began after that, was ready before the answer, and runs unless
    /// there is a reason why it does not.
    fn is_answer(&self, generation: u64, asked: Time, ended: Time) -> bool {
        let told = &self.log.told[&generation];
        let is_ready = !self.readiness_is_told() || told.ready.is_some_and(|at| at < ended);
        let is_current = !self.life.options.env_file || self.is_current(&told.env, asked, told.start);
        let newest = self.log.told.keys().last().is_some_and(|newest| *newest == generation);
        let may_be_over = told.end.is_some() || told.stopped.is_some() || self.killed.contains_key(&generation);
        let runs = || may_be_over || !newest || self.stopped.is_some() || self.main(generation).is_some();
        told.start > asked && is_ready && is_current && runs()
    }

    /// Whether the env file had this value at some time in between.
    fn is_current(&self, value: &str, from: Time, until: Time) -> bool {
        let last = self.values.iter().rfind(|(at, _)| *at < from);
        let since = self.values.iter().filter(|(at, _)| (from..until).contains(at));
        last.into_iter().chain(since).any(|(_, current)| current == value)
    }

    /// Whether there is a reason why a request in this time was refused or has failed.
    fn may_fail(&self, asked: Time, ended: Time) -> bool {
        let options = &self.life.options;
        if options.on_hup == "ignore" {
            return true;
        }
        // Requests are merged: what hinders one hinders both.
        let actions = || [options.on_hup].into_iter().chain(options.on_usr2);
        let is_hindered = self.troubles.iter().any(|trouble| {
            let overlaps = trouble.outer.0 <= ended && trouble.outer.1.is_none_or(|until| until >= asked);
            overlaps && actions().any(|action| trouble.fault.hinders(action, options))
        });
        let mut new = self.log.told.iter().filter(|(_, told)| told.start > asked);
        is_hindered || new.any(|(generation, told)| self.is_bad(*generation, told))
    }

    /// The statuses that a generation may have ended with: a status, or less than 0 by that signal.
    fn ends_of(&self, generation: u64) -> BTreeSet<i32> {
        let told = &self.log.told[&generation];
        let mut ends: BTreeSet<i32> = told.end.iter().map(|(_, end)| *end).collect();
        // A named main process that ends before hupwrap looks is as good as none.
        ends.extend(told.handed_over.filter(|_| told.end.is_some() || self.killed.contains_key(&generation)));
        let may_be_killed = self.life.options.stop_timeout.is_some() || self.killed.contains_key(&generation);
        let is_final = told.end.is_some() && !may_be_killed;
        if may_be_killed || (told.stopped.is_some() && !is_final) {
            ends.insert(-libc::SIGKILL);
        }
        ends
    }

    /// As a shell shows it, after `--map-status`.
    fn shown(&self, end: i32) -> i32 {
        match (self.life.options.map_status, end) {
            (true, 42) => 17,
            (true, end) if end == -libc::SIGTERM => 18,
            (_, end) if end < 0 => 128 - end,
            (_, end) => end,
        }
    }

    /// Hupwrap has ended: whether it may have, and what it left behind.
    pub fn over(&mut self) {
        wait_until("hupwrap is waited for", || !self.run.lives());
        let code = {
            let status = self.run.status();
            use std::os::unix::process::ExitStatusExt;
            status.code().unwrap_or_else(|| 128 + status.signal().expect("a signal"))
        };
        self.tell(format!("it ended with {code}"));
        self.log.read();
        self.judge_left_behind(code);
        self.run.all_written();
        // This one waits for the next hupwrap behind the file, if it has seen the last one's end.
        self.clients.iter_mut().filter(|client| client.form == "--wait-ready").for_each(|client| client.kill("KILL"));
        wait_until("the waiting commands end", || {
            self.observe();
            self.clients.is_empty()
        });
        self.judge_end(code);
        self.judge_lines();
        self.tally.lives += 1;
        self.tally.generations += self.log.told.len();
    }

    fn judge_end(&self, code: i32) {
        let newest = self.log.told.keys().next_back().copied();
        let Some(newest) = newest else {
            let right = match self.life.fault {
                Some(Fault::Program) => vec![127],
                Some(fault) if fault.hinders("restart", &self.life.options) => vec![125],
                _ => vec![],
            };
            return assert!(right.contains(&code), "it ended with {code} without a child");
        };
        let shown = |generation: u64| self.ends_of(generation).into_iter().map(|end| self.shown(end));
        if let Ending::Steady(generation) = self.ending {
            let right: Vec<i32> = shown(generation).collect();
            return assert!(right.contains(&code), "{right:?} would be right, not {code}");
        }
        let is_right = self.last().any(|generation| shown(generation).any(|end| end == code));
        match self.stopped {
            Some((signal, _)) => {
                let signal: hupwrap::signal::Signal = signal.parse().expect("a signal");
                let stop: hupwrap::signal::Signal = self.life.options.stop_signal.parse().expect("a signal");
                // It may not have come far enough to tell that it got the signal; or there was no child.
                let without = [signal, stop].map(|signal| self.shown(-signal.number()));
                let told = 128 + signal.number();
                let is_right = is_right || code == told || without.contains(&code) || code == 137;
                assert!(is_right || self.is_own_end(newest, code), "it was told to stop, and ended with {code}");
            }
            None => assert!(self.is_own_end(newest, code), "it ended by itself with {code}"),
        }
    }

    /// The generations that may have lived at the end.
    fn last(&self) -> impl Iterator<Item = u64> {
        let oldest = self.lived.first().copied().unwrap_or(0);
        let newest = self.lived.last().copied().unwrap_or(0);
        let may_have = move |generation: &u64| *generation > newest || self.lived.contains(generation);
        self.log.told.range(oldest..).map(|(generation, _)| *generation).filter(may_have)
    }

    /// Whether hupwrap may have ended so without being told to.
    fn is_own_end(&self, newest: u64, code: i32) -> bool {
        let options = &self.life.options;
        let told = &self.log.told[&newest];
        let gave_up = options.limit.is_some() && self.run.stderr().contains("gave up on");
        if code == 124 {
            return self.was_late(newest, told) && (options.restart == "no" || gave_up);
        }
        if (125..=127).contains(&code) {
            return gave_up && !self.troubles.is_empty();
        }
        let permits = |end: i32| match options.restart {
            _ if options.no_restart_on && end == 3 => true,
            "no" => true,
            "on-failure" => [0, 1, 2, 13, 15].contains(&-end),
            _ => false,
        };
        let is_it = |generation: u64| {
            let mut ends = self.ends_of(generation).into_iter();
            // What is mapped is mapped before the policy looks at it.
            ends.any(|end| {
                self.shown(end) == code && (gave_up || permits(if self.shown(end) == 17 { 17 } else { end }))
            })
        };
        // Somebody asked for a new child before this one ended: then one is started.
        let is_asked = |generation: u64| {
            let end = self.log.told[&generation].end.map(|(at, _)| at).or(self.killed.get(&generation).copied());
            let is_open = |(action, (from, until)): (&&str, &(Time, Time))| {
                wants_new_child(action) && end.is_some_and(|end| *until < end) && !self.is_settled(action, *from)
            };
            options.status_file && !gave_up && self.stopped.is_none() && self.asked.iter().any(is_open)
        };

        // Without a word from the child, a signal is forwarded as soon as COMMAND is executed: before it is blocked.
        let kills = |name: &&str| {
            let number = name.parse::<hupwrap::signal::Signal>().expect("a signal").number();
            !["CONT", "WINCH", "URG", "STOP", "TSTP"].contains(name) && self.shown(-number) == code && permits(-number)
        };
        let died_at_once = || !self.readiness_is_told() && self.sent.iter().any(kills);
        self.last().any(|generation| is_it(generation) && !is_asked(generation)) || died_at_once()
    }

    fn judge_left_behind(&mut self, code: i32) {
        // What a child that has ended by itself left behind is its own matter, but not after a stop.
        let newest = self.log.told.keys().next_back().copied();
        let is_own_end = match self.ending {
            Ending::Own => true,
            Ending::Steady(_) => false,
            Ending::Any => newest.is_some_and(|newest| self.is_own_end(newest, code)),
        };
        let may_remain = self.life.options.kill_mode == "process" || is_own_end;
        if may_remain && !self.life.options.init {
            for pid in self.run.family() {
                // SAFETY: has no preconditions.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        // A check that was killed may take a moment to end.
        wait_until("no process is left", || self.run.family().is_empty());
        let options = &self.life.options;
        for (name, there) in [("pid", options.pidfile), ("socket", options.listen == "unix")] {
            assert!(!there || !self.path(name).exists(), "{name} is left");
        }
        let sockets = self.notify_sockets();
        assert!(sockets.is_empty(), "NOTIFY_SOCKETs are left: {sockets:?}");
        self.observe();
        if options.status_file && !self.log.told.is_empty() {
            assert_eq!(self.last_status["state"], Value::from("ended"), "the status file: {}", self.last_status);
        }
    }

    fn judge_lines(&self) {
        let text = self.run.stderr();
        let no_outer = |told: &Told| !told.notify.ends_with("/above");
        assert!(self.log.told.values().all(no_outer), "a child was given the NOTIFY_SOCKET of hupwrap");
        if self.life.options.above == "read" {
            let said = |what: &str| self.heard_above.lines().filter(|line| *line == what).count();
            assert!(self.base.is_none() || said("READY=1") > 0, "it was ready, and told nobody: {}", self.heard_above);
            let ends = usize::from(matches!(self.ending, Ending::Steady(_)));
            assert!((ends..2).contains(&said("STOPPING=1")), "once STOPPING=1: {}", self.heard_above);
        }
        assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
        if self.life.options.others.contains(&"--log-format=json") {
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in '{line}'"));
                assert!(line["event"].is_string() && line["message"].is_string(), "{line}");
            }
        }
    }
}
