//! Carries out the steps of a life.

use std::fs;
use std::path::Path;

use super::clients::{Client, LONG};
use super::expect::Ending;
use super::proc;
use super::scene::{Scene, Tally, Trouble};
use super::schedule::{Fault, Life, Plan, Step};
use super::setup::{break_it, mend, put, write_plan};
use super::told::{Time, Told};
use crate::support::*;
use watched::monotonic;

/// Lives a life, and adds what was seen to `tally`.
pub fn live(life: &Life, pristine: &Path, tally: &mut Tally) {
    let mut scene = Scene::begin(life, pristine);
    std::mem::swap(&mut scene.tally, tally);
    let mut killing: Option<&'static str> = None;
    for step in &life.steps {
        if !scene.observe() {
            break;
        }
        scene.tell(step.to_string());
        scene.tally.steps += 1;
        let next = scene.step(step, pristine);
        if let Some(signal) = killing.take() {
            scene.clients.iter_mut().rev().take(1).for_each(|client| client.kill(signal));
        }
        killing = next;
    }
    if scene.observe() {
        scene.stop(pristine);
    }
    scene.over();
    std::mem::swap(&mut scene.tally, tally);
}

impl Scene<'_> {
    /// Returns what the client that this step has started gets later.
    fn step(&mut self, step: &Step, pristine: &Path) -> Option<&'static str> {
        match step {
            Step::Pause(ms) => self.pause(*ms),
            Step::Signals(signals) => {
                for signal in signals {
                    self.send(signal);
                }
            }
            Step::Plan(plan) => self.plan(plan),
            Step::Break(fault, how) => self.break_it(*fault, *how),
            Step::Mend(fault) => self.mend(*fault, pristine),
            Step::Touch(how) => self.touch(*how),
            Step::Child(signal) => self.signal_child(signal),
            Step::Suspend(signal, ms) => self.suspend(signal, *ms),
            Step::Client(form, timeout, killed) => {
                if self.life.options.status_file {
                    self.start_client(form, *timeout);
                    return *killed;
                }
            }
            Step::Remove(name) => self.remove(name),
            Step::Calm(plan, ms) => drop(self.calm(plan, *ms, pristine)),
        }
        None
    }

    /// Sends hupwrap a signal, of which an outcome may be expected. Returns whether it has got it as one of ours.
    pub fn send(&mut self, signal: &'static str) -> bool {
        let given = self.give(signal);
        self.sent.insert(signal);
        let action = match signal {
            "HUP" => Some(self.life.options.on_hup),
            "USR2" => self.life.options.on_usr2,
            _ => None,
        };
        if let (Some(action), Some(times)) = (action.filter(|action| *action != "ignore"), given) {
            self.asked.insert(action, times);
        }
        given.is_some()
    }

    /// Sends hupwrap a signal. Returns the times before and after, or none if hupwrap may take it for an echo: the
    /// kernel keeps one signal of each kind, with its first sender, and a child that is being stopped may have sent the
    /// same one just before.
    fn give(&mut self, signal: &'static str) -> Option<(Time, Time)> {
        // What is gone was reaped after what it had sent was read, or what it had sent still waits.
        let there: Vec<i32> = proc::below(self.hupwrap.pid).iter().map(proc::Process::own_pid).collect();
        let waits = proc::awaits(self.hupwrap.pid, signal);
        let before = monotonic();
        self.hupwrap.send(signal);
        let after = monotonic();
        self.log.read();
        let echoes = |told: &&Told| told.stopped.is_some() && self.plans[told.plan].echoes();
        let mut echoing = self.log.told.values().filter(echoes);
        let may_merge =
            ["TERM", "INT", "HUP"].contains(&signal) && echoing.any(|told| waits || there.contains(&told.main));
        (!may_merge).then_some((before, after))
    }

    pub fn plan(&mut self, plan: &Plan) {
        write_plan(self.dir.path(), self.plans.len(), plan);
        self.plans.push(plan.clone());
    }

    fn break_it(&mut self, fault: Fault, how: u64) {
        let options = &self.life.options;
        let has_effect = match fault {
            Fault::Env => options.env_file,
            Fault::Workdir => options.workdir,
            Fault::Check => options.check,
            Fault::Program | Fault::Hupwrap => true,
        };
        if has_effect && !self.troubles.iter().any(|trouble| trouble.fault == fault && trouble.outer.1.is_none()) {
            let before = monotonic();
            break_it(self.dir.path(), fault, how);
            self.troubles.push(Trouble { fault, outer: (before, None), inner: (monotonic(), None) });
        }
    }

    pub fn mend(&mut self, fault: Fault, pristine: &Path) {
        let before = monotonic();
        let number = self.values.len();
        if fault == Fault::Env {
            self.values.push((before, number.to_string()));
        }
        mend(self.dir.path(), fault, pristine, number);
        let after = monotonic();
        let open = self.troubles.iter_mut().filter(|trouble| trouble.fault == fault && trouble.outer.1.is_none());
        let closed = open.map(|trouble| (trouble.inner.1, trouble.outer.1) = (Some(before), Some(after))).count();
        if fault == Fault::Hupwrap && closed == 0 {
            // It was good before, too; but a file that changes while it is checked is refused.
            self.troubles.push(Trouble { fault, outer: (before, Some(after)), inner: (Time::MAX, None) });
        }
    }

    /// Mends what is broken.
    pub fn mend_all(&mut self, pristine: &Path) {
        let open = self.troubles.iter().filter(|trouble| trouble.outer.1.is_none());
        let faults: Vec<Fault> = open.map(|trouble| trouble.fault).chain(self.life.fault).collect();
        faults.into_iter().for_each(|fault| self.mend(fault, pristine));
    }

    fn touch(&mut self, how: u64) {
        let name = match how {
            0 => "watched/one".to_owned(),
            1 => "watched/two".to_owned(),
            _ => format!("watched/{}", self.tally.steps),
        };
        self.touched = Some(monotonic());
        // The number of the step is unlike everything before.
        put(self.dir.path(), &name, format!("{}\n", "x".repeat(self.tally.steps as usize)), 0o644);
    }

    fn signal_child(&mut self, signal: &'static str) {
        let living = self.living();
        if let Some(main) = living.iter().next_back().and_then(|generation| self.main(*generation)) {
            if signal == "KILL" {
                self.killed.extend(main.generation.map(|generation| (generation, monotonic())));
            }
            // Nobody but hupwrap reaps it, and a pid is not used again so soon.
            kill(main.pid, signal);
            if signal == "STOP" {
                // A CONT that hupwrap still has to forward ends it again at once.
                self.wait("the child has got STOP", |_| {
                    state(main.pid) == Some('T') || !proc::awaits(main.pid, "STOP")
                });
            }
        }
    }

    fn suspend(&mut self, signal: &'static str, ms: u64) {
        if signal == "TSTP" {
            self.hupwrap.send(signal);
        } else {
            self.hupwrap.send(signal);
            self.wait("it is stopped", |scene| state(scene.hupwrap.pid) == Some('T'));
        }
        self.pause(ms);
        self.hupwrap.send("CONT");
    }

    fn start_client(&mut self, form: &'static str, timeout: u64) {
        let within = self.life.options.init.then_some(self.hupwrap.pid);
        self.clients.push(Client::new(form, &self.path("status"), timeout, within));
    }

    fn remove(&mut self, name: &'static str) {
        let options = &self.life.options;
        let is_there = match name {
            "status" => options.status_file,
            "pid" => options.pidfile,
            _ => options.listen == "unix",
        };
        // Without a request it stays away.
        if is_there && options.hup_renews() {
            self.removed.push(name);
            self.knocker.iter().filter(|_| name == "socket").for_each(|knocker| knocker.removed());
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// Tells hupwrap to end.
    fn stop(&mut self, pristine: &Path) {
        let end = &self.life.end;
        let steady = if end.calm { self.calm(&end.plan, 0, pristine) } else { None };
        if end.calm && steady.is_none() {
            return;
        }
        if let Some(mut knocker) = self.knocker.take() {
            knocker.finish();
            self.tally.connections += knocker.times();
            assert!(knocker.refused().is_none(), "{:?}", knocker.refused());
        }
        for _ in 0..end.hups / 2 {
            self.send("HUP");
        }
        let signal = if end.client { "TERM" } else { end.signal };
        self.tell(format!("stop by {signal}, client: {}, {} HUPs", end.client, end.hups));
        self.stopped = Some((signal, monotonic()));
        // A client does not see that its TERM was taken for an echo.
        let may_echo = steady.is_none() && self.plans.iter().any(Plan::echoes);
        match end.client && !may_echo && !self.removed.contains(&"status") {
            true => self.start_client("--stop", LONG),
            false => drop(self.wait("it has got the signal to stop", |scene| scene.give(signal).is_some())),
        }
        (0..end.hups / 2).for_each(|_| self.hupwrap.send("HUP"));
        self.ending = match (steady, end.hups) {
            (Some(generation), 0) => Ending::Steady(generation),
            _ => Ending::Any,
        };
        // Without a time limit it waits for as long as its child takes: then somebody must help.
        let waits_for_ever = self.life.options.stop_timeout.is_none();
        self.wait("it ends after it was told to", |scene| {
            for generation in scene.living().into_iter().filter(|_| waits_for_ever) {
                // One that has told nothing yet can hear.
                let is_deaf = scene.log.told.get(&generation).is_some_and(|told| {
                    told.stopped.is_some_and(|at| monotonic() - at > 1_000_000_000) && told.end.is_none()
                });
                if is_deaf && !scene.killed.contains_key(&generation) {
                    scene.killed.insert(generation, monotonic());
                    scene.main(generation).iter().for_each(|main| kill(main.pid, "KILL"));
                }
            }
            false
        });
    }
}
