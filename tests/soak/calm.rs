//! A life at rest, looked at closely.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::proc;
use super::scene::Scene;
use super::schedule::{Plan, wants_new_child};
use crate::support::*;
use watched::monotonic;

/// How much memory, in kB, one rest may need more than another.
const MEMORY: u64 = 256;

impl Scene<'_> {
    /// Mends everything, waits until it is at rest, and looks at it. Returns the generation that serves, or none if
    /// hupwrap has ended.
    pub fn calm(&mut self, plan: &Plan, ms: u64, pristine: &Path) -> Option<u64> {
        self.mend_all(pristine);
        self.plan(plan);
        if !self.removed.is_empty() {
            // What was removed is made again at a request.
            self.wait("HUP is sent", |scene| scene.send("HUP"));
        }
        let generation = self.rest()?;
        let mut removed = std::mem::take(&mut self.removed).into_iter();
        assert!(removed.all(|name| self.path(name).exists()), "what was removed is there again");
        if let Some(knocker) = &self.knocker {
            assert!(knocker.answers(), "it is at rest, and nobody answers");
        }
        let (before, starts) = (monotonic(), self.log.told.len());
        self.send("USR1");
        let is_heard = |scene: &mut Self| {
            let heard = &scene.log.told[&generation].heard;
            heard.iter().any(|(at, number)| *at > before && *number == nix::libc::SIGUSR1)
        };
        // Its age, a file that has changed, or a request that has not shown yet, may end it just now.
        let is_renewed = |scene: &mut Self| scene.log.told.len() > starts;
        if !self.wait("the child hears USR1", |scene| is_heard(scene) || is_renewed(scene)) {
            return None;
        }
        // An exec that nobody waits for was noticed with that signal.
        let generation = self.rest()?;
        self.count();
        self.idle(generation, ms);
        Some(generation)
    }

    /// Waits until nothing goes on any more.
    fn rest(&mut self) -> Option<u64> {
        let began = Instant::now();
        loop {
            if !self.observe() {
                return None;
            }
            // Twice: what was seen first may have been over before the last.
            match self.unrest().and_then(|first| Ok((first, self.unrest()?))) {
                Ok((first, second)) if first == second => return Some(first),
                Ok(_) => {}
                Err(why) => assert!(began.elapsed() < PATIENCE, "it does not come to rest: {why}"),
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// The generation that serves, or what still goes on.
    fn unrest(&mut self) -> Result<u64, String> {
        self.observe();
        if self.clients.iter().any(|client| client.form == "--reload") {
            return Err("a reload is waited for".to_owned());
        }
        let pid = self.hupwrap.pid;
        let living = self.living();
        let Some(&generation) = living.first().filter(|_| living.len() == 1) else {
            return Err(format!("generations {living:?} live"));
        };
        let main = self.main(generation).ok_or("its main process does not live")?;
        if main.state == 'T' {
            kill(main.pid, "CONT");
            return Err("the child is stopped".to_owned());
        }
        let told = &self.log.told[&generation];
        // The last two come to an end in time.
        let is_ready = told.ready.is_some() || !self.readiness_is_told();
        if !told.idle || told.frozen || !is_ready || told.stopped.is_some() {
            return Err(format!("generation {generation} is busy"));
        }
        if main.parent != pid {
            return Err("its main process is not hupwrap's child".to_owned());
        }
        let strange = |seen: &proc::Process| seen.parent == pid && !(seen.is_worker() && seen.generation.is_some());
        if let Some(strange) = proc::below(pid).into_iter().find(strange) {
            return Err(format!("there is another child: {strange:?}"));
        }
        if let Some(zombie) = proc::below(pid).into_iter().find(|seen| seen.parent == pid && seen.state == 'Z') {
            return Err(format!("there is a zombie: {zombie:?}"));
        }
        if self.life.options.status_file {
            self.status_unrest(generation, main.own_pid())?;
        }
        match is_at_rest(pid) {
            true => Ok(generation),
            false => Err(format!("hupwrap is {:?}, signals wait: {}", state(pid), status(pid, "ShdPnd"))),
        }
    }

    fn status_unrest(&self, generation: u64, main: i32) -> Result<(), String> {
        let seen = &self.last_status;
        let is = |holds: bool, what: &str| {
            if holds { Ok(()) } else { Err(format!("{what}; status file: {seen}")) }
        };
        is(seen["state"] == "running", "it does not run")?;
        is(seen["child"]["pid"] == main, "the child has another pid")?;
        let newest = self.log.told.keys().last().copied().unwrap_or(0);
        is(seen["generation"].as_u64() >= Some(newest), "the generation is older than the newest start")?;
        // What the file calls the generation is the last start, which may have failed.
        let _ = generation;
        for (action, (at, _)) in &self.asked {
            is(self.is_settled(action, *at), &format!("a {action} was asked for at {at} and has no outcome"))?;
        }
        let touched = self.touched.filter(|_| self.life.options.watch);
        let waits = touched.is_some_and(|at| !self.is_settled(self.life.options.on_hup, at));
        is(!waits, "a watched file has changed")
    }

    /// Whether a request that was sent by then has an outcome.
    pub fn is_settled(&self, action: &str, asked: u64) -> bool {
        let first = self.log.told.get(&1).map(|told| told.start);
        if first.is_none_or(|first| asked < first) {
            // The first start answers it.
            return true;
        }
        let settled = self.last_status["settled"].as_array().into_iter().flatten();
        let all = settled.chain([&self.last_status["reload"]]).filter(|request| request["outcome"].is_string());
        // A list that is full may have lost it.
        let is_full = self.last_status["settled"].as_array().is_some_and(|settled| settled.len() >= 8);
        let covers = |done: &str| match action {
            "upgrade" => done == "reexec" || done.contains("upgrade"),
            "forward" => done == "forward",
            _ => wants_new_child(done),
        };
        let is_it = |request: &Value| {
            request["began"].as_u64() >= Some(asked) && covers(request["action"].as_str().unwrap_or(""))
        };
        all.into_iter().any(is_it) || is_full
    }

    /// What must not grow.
    fn count(&mut self) {
        let pid = self.hupwrap.pid;
        // Inodes and the names of generations differ.
        let kind = |path: &Path| {
            let path = path.to_string_lossy().into_owned();
            path.rsplit_once("/hupwrap-")
                .map_or(&*path, |(dir, _)| dir)
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let mut open: Vec<String> = fds(pid).values().map(|path| kind(path)).collect();
        open.sort();
        let memory = proc::memory(pid);
        let (was_open, was) = self.base.get_or_insert_with(|| (open.clone(), memory));
        assert_eq!(&open, was_open, "open descriptors, now and at the first rest");
        assert!(memory <= *was + MEMORY, "{memory} kB, {was} kB at the first rest");
    }

    /// Nothing happens, so hupwrap does nothing.
    fn idle(&mut self, generation: u64, ms: u64) {
        let all = |scene: &Self| (scene.last_status.clone(), scene.log.told.len(), scene.log.told[&generation].last);
        let before = (all(self), proc::busy(self.hupwrap.pid));
        self.pause(ms);
        let after = (all(self), proc::busy(self.hupwrap.pid));
        let is_renewed = self.life.options.max_age.is_some() || !self.life.options.above.is_empty();
        if before.0 == after.0 && !is_renewed && self.hupwrap.lives() {
            let (ran, woke) = (after.1.0 - before.1.0, after.1.1 - before.1.1);
            // Files that are written near a watched one are looked at.
            let most = if self.life.options.watch { 20 } else { 3 };
            assert!(
                ran < 10_000_000 && woke <= most,
                "hupwrap ran for {ran} ns and woke up {woke} times while idle for {ms} ms"
            );
        }
    }

    /// The directories of NOTIFY_SOCKETs that are still there, by generation.
    pub fn notify_sockets(&self) -> BTreeMap<u64, String> {
        let all = self.log.told.iter().map(|(generation, told)| (*generation, told.notify.clone()));
        all.filter(|(_, path)| path.starts_with('/') && fs::exists(path).unwrap_or(true)).collect()
    }
}
