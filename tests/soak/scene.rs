//! A life as it is played: what was done, what is seen, and what must hold at any time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::Value;

use super::clients::Client;
use super::consistent;
use super::expect::Ending;
use super::knock::{Door, Knocker};
use super::proc;
use super::schedule::{Fault, Life, Plan};
use super::setup::{arguments, break_it, free_address, write_plan};
use super::told::{Log, Time};
use crate::support::*;
use watched::monotonic;

/// What a soak has seen.
#[derive(Default, Debug)]
pub struct Tally {
    pub lives: u64,
    pub steps: u64,
    pub generations: usize,
    pub connections: u64,
    pub answers: u64,
}

/// Something that was wrong: certainly between the inner times, possibly between the outer ones.
pub struct Trouble {
    pub fault: Fault,
    pub outer: (Time, Option<Time>),
    pub inner: (Time, Option<Time>),
}

pub struct Scene<'a> {
    // The run comes first: its processes are gone before their directory.
    pub run: Run,
    pub clients: Vec<Client>,
    pub knocker: Option<Knocker>,
    /// What was done and heard so far. It is written if the life ends in a panic.
    pub story: Vec<String>,
    pub began: Instant,
    pub life: &'a Life,
    pub log: Log,
    pub hupwrap: Hupwrap,
    pub troubles: Vec<Trouble>,
    /// The values of the env file, and since when.
    pub values: Vec<(Time, String)>,
    /// When the last request of each action was sent: after the first time, and before the second. When a watched file
    /// was changed.
    pub asked: BTreeMap<&'static str, (Time, Time)>,
    pub touched: Option<Time>,
    /// Every signal that hupwrap was sent.
    pub sent: BTreeSet<&'static str>,
    /// The generations whose main process was killed, and when.
    pub killed: BTreeMap<u64, Time>,
    /// The signal that told hupwrap to stop.
    pub stopped: Option<(&'static str, Time)>,
    pub ending: Ending,
    /// The generations that were seen alive the last time any were.
    pub lived: BTreeSet<u64>,
    pub removed: Vec<&'static str>,
    pub last_status: Value,
    /// What the children were told to do; a child names the number of its plan.
    pub plans: Vec<Plan>,
    pub tally: Tally,
    /// What it had open, and its memory, when it first was at rest.
    pub base: Option<(Vec<String>, u64)>,
    pub above: Option<UnixDatagram>,
    pub heard_above: String,
    pub dir: Dir,
}

/// Hupwrap as a process: its pid means nobody else.
pub struct Hupwrap {
    pub pid: i32,
    began: Option<String>,
    ended: Cell<bool>,
}

impl Hupwrap {
    pub fn new(pid: i32) -> Self {
        Self { pid, began: began(pid), ended: Cell::new(false) }
    }

    /// Whether it runs; a zombie does not.
    pub fn lives(&self) -> bool {
        let lives = !self.ended.get() && began(self.pid) == self.began && is_alive(self.pid);
        self.ended.set(!lives);
        lives
    }

    /// Sends it a signal. It is not reaped before [`Hupwrap::lives`] has found that it has ended.
    pub fn send(&self, signal: &str) {
        if self.lives() {
            let signal: hupwrap::signal::Signal = signal.parse().expect("a signal");
            // SAFETY: has no preconditions.
            let _ = unsafe { libc::kill(self.pid, signal.number()) };
        }
    }
}

fn began(pid: i32) -> Option<String> {
    stat(pid)?.get(19).cloned()
}

impl<'a> Scene<'a> {
    /// Starts hupwrap. `pristine`: a copy of it that can be linked to.
    pub fn begin(life: &'a Life, pristine: &Path) -> Self {
        let dir = Dir::new();
        let path = dir.path().to_owned();
        let options = &life.options;
        ["worker", "checker"].iter().for_each(|name| symlink(actor(), path.join(name)).expect("a link"));
        fs::hard_link(pristine, path.join("hupwrap")).expect("a link");
        ["a", "watched", "run"].iter().for_each(|name| fs::create_dir(path.join(name)).expect("a directory"));
        symlink("a", path.join("current")).expect("a link");
        dir.file("env", "SOAK=0\n", 0o644);
        let door = match options.listen {
            "tcp" => Some(Door::Tcp(free_address())),
            "unix" => Some(Door::Unix(path.join("socket"))),
            _ => None,
        };
        let above = (!options.above.is_empty()).then(|| UnixDatagram::bind(path.join("above")).expect("a socket"));
        above.iter().for_each(|above| above.set_nonblocking(true).expect("a socket"));
        let list = arguments(options, &path, door.as_ref());
        write_plan(&path, 0, &life.plan);
        life.fault.iter().for_each(|fault| break_it(&path, *fault, 0));
        let story = vec![
            format!("as pid 1: {}; above: '{}'; hupwrap {}", options.init, options.above, list.join(" ")),
            format!("at the beginning broken: {:?}; plan {}", life.fault, life.plan.0),
        ];
        let setup = match options.init {
            true => {
                let before = ["--pid", "--fork", "--mount-proc", "--kill-child=KILL"].map(str::to_owned);
                let program = path.join("hupwrap").to_string_lossy().into_owned();
                Setup::of("unshare", before.into_iter().chain([program]).chain(list))
            }
            false => Setup::of(path.join("hupwrap"), list),
        };
        let outer = above.as_ref().map(|_| path.join("above"));
        let setup = setup.with(|command| {
            command
                .env_remove("NOTIFY_SOCKET")
                .env_remove("LISTEN_FDS")
                .envs(outer.map(|outer| ("NOTIFY_SOCKET", outer)));
            // A job of a terminal would take a HUP for a hang-up.
            before_exec(command, || {
                let _ = nix::unistd::setsid();
            });
        });
        let log = Log::new(&path.join("log"));
        let mut run = setup.start();
        let mut pid = run.pid;
        if options.init {
            wait_until("unshare has executed hupwrap", || {
                let blocks = |pid: &i32| !["", "0000000000000000"].contains(&status(*pid, "SigBlk").as_str());
                let inside = children(run.pid).first().copied().filter(blocks);
                pid = inside.unwrap_or(pid);
                inside.is_some() || !run.lives()
            });
        }
        let mut scene = Self {
            hupwrap: Hupwrap::new(pid),
            values: vec![(monotonic(), "0".to_owned())],
            troubles: Vec::new(),
            clients: Vec::new(),
            knocker: None,
            asked: BTreeMap::new(),
            touched: None,
            sent: BTreeSet::new(),
            killed: BTreeMap::new(),
            stopped: None,
            ending: Ending::Own,
            lived: BTreeSet::new(),
            removed: Vec::new(),
            last_status: Value::Null,
            plans: vec![life.plan.clone()],
            tally: Tally::default(),
            base: None,
            heard_above: String::new(),
            run,
            story,
            began: Instant::now(),
            life,
            log,
            above,
            dir,
        };
        let has_file = |scene: &Self| !options.status_file || !scene.last_status.is_null();
        scene.wait("the first child starts", |scene| !scene.log.told.is_empty() && has_file(scene));
        scene.knocker = door.filter(|_| scene.hupwrap.lives()).map(Knocker::new);
        scene
    }

    pub fn tell(&mut self, line: impl AsRef<str>) {
        self.story.push(format!("{:>6} ms  {}", self.began.elapsed().as_millis(), line.as_ref()));
    }

    /// Waits until something holds, and looks at what must hold all the time. Returns whether hupwrap lives.
    #[track_caller]
    pub fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let began = Instant::now();
        loop {
            if !self.observe() {
                return false;
            }
            if holds(self) {
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
            let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(3_u8));
        }
    }

    /// A pause of the schedule.
    pub fn pause(&mut self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until && self.observe() {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    /// Looks at what must hold at any time. Returns whether hupwrap lives.
    pub fn observe(&mut self) -> bool {
        let lives = self.hupwrap.lives();
        self.log.read();
        self.look_at_status();
        if lives {
            self.count_generations();
        }
        if let Some(refused) = self.knocker.as_ref().and_then(Knocker::refused) {
            // It may be about to end.
            wait_until(&refused, || !self.hupwrap.lives());
        }
        self.hear_above();
        self.hear_clients();
        lives
    }

    /// Never three generations; two only in a replace.
    fn count_generations(&mut self) {
        let most = if self.life.options.replaces() { 2 } else { 1 };
        let living = self.living();
        assert!(living.len() <= most, "generations {living:?} live at the same time");
    }

    /// The generations that live. Under `--kill-mode process` what a child left behind does not count.
    pub fn living(&self) -> BTreeSet<u64> {
        let only_main = self.life.options.kill_mode == "process";
        proc::living(self.hupwrap.pid, |seen| {
            let told = seen.generation.and_then(|generation| self.log.told.get(&generation));
            !only_main || told.is_some_and(|told| told.main == seen.own_pid() && told.named)
        })
    }

    /// The main process of a generation, if it lives.
    pub fn main(&self, generation: u64) -> Option<proc::Process> {
        let main = self.log.told.get(&generation)?.main;
        let is_main = |seen: &proc::Process| seen.generation == Some(generation) && seen.own_pid() == main;
        proc::below(self.hupwrap.pid).into_iter().find(|seen| is_main(seen) && is_alive(seen.pid))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn look_at_status(&mut self) {
        if !self.life.options.status_file {
            return;
        }
        // It is replaced at once, or removed by a step.
        let Ok(text) = fs::read(self.path("status")) else {
            return;
        };
        let seen: Value = serde_json::from_slice(&text).expect("the status file is JSON");
        if seen != self.last_status {
            consistent::check(&seen, &self.last_status);
            self.last_status = seen;
        }
    }

    fn hear_above(&mut self) {
        if self.life.options.above != "read" {
            return;
        }
        let mut buffer = [0; 8192];
        while let Some(Ok(length)) = self.above.as_ref().map(|above| above.recv(&mut buffer)) {
            self.heard_above.push_str(&String::from_utf8_lossy(&buffer[..length]));
            self.heard_above.push('\n');
        }
    }

    fn hear_clients(&mut self) {
        let mut answers = Vec::new();
        self.clients.retain_mut(|client| match client.answer() {
            Some(answer) => {
                answers.push(answer);
                false
            }
            None => true,
        });
        answers.into_iter().for_each(|answer| self.judge(answer));
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("HUPWRAP_SOAK_SEED={} begins with this life:", self.life.seed);
            self.story.iter().for_each(|line| eprintln!("{line}"));
            eprintln!("stderr:\n{}", self.run.stderr());
            for pid in [self.hupwrap.pid].into_iter().chain(proc::below(self.hupwrap.pid).iter().map(|seen| seen.pid)) {
                eprintln!("{}", proc::doing(pid));
            }
            for file in ["status", "plan", "log"] {
                eprintln!("{file}:\n{}", fs::read_to_string(self.path(file)).unwrap_or_default());
            }
        }
    }
}
