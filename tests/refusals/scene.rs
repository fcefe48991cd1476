//! A life under strace(1) in which a system call may fail: what happens is waited for, and what must hold is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollTimeout, poll};
use serde_json::Value;

use super::trace::{self, Call};
use crate::support::notify::monotonic;
use crate::support::pty::Terminal;
use crate::support::*;

/// How long a step of a life may take on a loaded machine. A life that waits longer hangs.
const BOUND: Duration = Duration::from_secs(40);
/// The status that the child ends with, which hupwrap must not lose.
pub const CHILD_STATUS: i32 = 7;

/// A call that is to fail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub call: String,
    /// `error=ERRNO` or `retval=NUMBER`.
    pub answer: String,
    /// Which of the calls: a number, or a number and `+` for all from there on.
    pub when: String,
}

impl Fault {
    fn injection(&self) -> String {
        format!("inject={}:{}:when={}", self.call, self.answer, self.when)
    }

    fn lasts(&self) -> bool {
        self.when.ends_with('+')
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:when={}", self.call, self.answer, self.when)
    }
}

/// What a life without a fault looks like.
#[derive(Clone, Debug)]
pub struct Usual {
    pub calls: Vec<Call>,
    /// The descriptors at rest, before the end.
    fds: BTreeMap<u32, PathBuf>,
}

/// A life, and what was seen of it.
pub struct Seen {
    pub calls: Vec<Call>,
    fds: BTreeMap<u32, PathBuf>,
    /// What must not be.
    pub wrong: Vec<String>,
    pub stdout: String,
    pub stderr: String,
    pub status: i32,
}

impl Seen {
    pub fn usual(self) -> Usual {
        Usual { calls: self.calls, fds: self.fds }
    }
}

/// A hupwrap that runs, and everything around it.
pub struct Scene {
    pub dir: Dir,
    pub run: Run,
    above: UnixDatagram,
    fds: BTreeMap<u32, PathBuf>,
    hung: Option<String>,
    /// Whether the fault lasts, so that hupwrap may not see its family.
    lasts: bool,
    /// How many there were.
    requests: usize,
    /// Whether a child was ready.
    served: bool,
    _terminal: Option<Terminal>,
}

/// The arguments of strace, up to the program.
fn tracing(dir: &Dir, fault: Option<&Fault>) -> Vec<OsString> {
    let log = dir.path().join("log");
    let mut args: Vec<OsString> = vec!["-s".into(), "64".into(), "-o".into(), log.into(), "-e".into()];
    match fault {
        // What a fault is judged by: where it is, and how often hupwrap wakes up.
        Some(fault) => {
            args.push(format!("trace={},execve,rt_sigprocmask,ppoll", fault.call).into());
            args.extend(["-e".into(), fault.injection().into()]);
        }
        None => args.push("trace=all".into()),
    }
    args
}

/// How a life begins.
#[derive(Default)]
pub struct Stage<'a> {
    /// What `{}` stands for in it is the directory of the life.
    pub options: &'a [&'a str],
    pub command: Vec<OsString>,
    /// Whether hupwrap leads the session of a terminal.
    pub has_terminal: bool,
    /// Whether strace comes later: see [`Scene::attach`].
    pub is_attached: bool,
}

impl Scene {
    /// Starts hupwrap.
    pub fn begin(stage: &Stage, fault: Option<&Fault>) -> Self {
        let dir = Dir::new();
        dir.file("env", "NAME=value\n", 0o644);
        dir.file("watched", "one", 0o644);
        fs::create_dir(dir.path().join("work")).expect("a directory");
        let above = UnixDatagram::bind(dir.path().join("above")).expect("a socket");
        above.set_nonblocking(true).expect("a socket");
        let path = dir.path().to_str().expect("a path");
        let mut args = vec![hupwrap().into()];
        args.extend(stage.options.iter().map(|option| OsString::from(option.replace("{}", path))));
        args.push("--".into());
        args.extend(stage.command.iter().cloned());
        if !stage.is_attached {
            args.splice(0..0, [vec!["strace".into(), "-D".into()], tracing(&dir, fault)].concat());
        }
        // A child may be ready before it can hear USR1.
        let mut setup =
            Setup::of(&args[0], &args[1..]).env("NOTIFY_SOCKET", dir.path().join("above")).blocking(libc::SIGUSR1);
        let terminal = stage.has_terminal.then(Terminal::new);
        if let Some(terminal) = &terminal {
            setup = terminal.lead(setup).with(|command| {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            });
        }
        Self {
            dir,
            run: setup.start(),
            above,
            fds: BTreeMap::new(),
            hung: None,
            lasts: fault.is_some_and(Fault::lasts),
            requests: 0,
            served: false,
            _terminal: terminal,
        }
    }

    /// Has strace trace hupwrap, and every process that it makes from now on, in place of the present one.
    pub fn attach(&mut self, fault: Option<&Fault>) -> Run {
        let mut args = vec!["-f".into(), "-p".into(), self.run.pid.to_string().into()];
        if fault.is_none_or(|fault| fault.call != "execve") {
            // A child is of interest until it executes. And so is hupwrap.
            args.extend(["-b".into(), "execve".into()]);
        }
        args.extend(tracing(&self.dir, fault));
        let strace = Setup::of("strace", args).start();
        strace.said("attached");
        strace
    }

    /// Waits until something holds. False where hupwrap has ended before, or hangs.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        if self.hung.is_some() {
            return false;
        }
        let began = Instant::now();
        loop {
            let lives = self.run.lives();
            self.drain();
            if holds(self) {
                return true;
            }
            if !lives {
                return false;
            }
            if began.elapsed() > BOUND {
                self.hung = Some(format!("it hangs: no {what}"));
                return false;
            }
            let _ = poll(&mut [], PollTimeout::from(2_u8));
        }
    }

    /// The supervisor above reads what it is told.
    fn drain(&self) {
        let mut buffer = [0; 4096];
        while self.above.recv(&mut buffer).is_ok() {}
    }

    /// Sends hupwrap a signal, if it lives.
    pub fn send(&mut self, signal: &str) {
        if self.run.lives() {
            self.run.kill(signal);
        }
    }

    /// The puppets that live.
    pub fn puppets(&self) -> Vec<i32> {
        let ready = |line: &str| line.strip_prefix("ready ")?.split(' ').nth(1)?.parse().ok();
        self.run.stdout().lines().filter_map(ready).filter(|pid| is_alive(*pid)).collect()
    }

    /// Waits for a child that is ready.
    pub fn serves(&mut self) {
        self.served |= self.until("child", |scene| !scene.puppets().is_empty());
    }

    /// Has a command ask this hupwrap something. Returns what is wrong with its answer.
    pub fn ask(&mut self, form: &str, fault: Option<&Fault>) -> Vec<String> {
        let file = self.dir.path().join("status.json");
        self.until("status file", |_| file.exists());
        let mut args = vec!["-D".into()];
        args.extend(tracing(&self.dir, fault));
        args.extend([hupwrap().into(), form.into(), file.into(), "--timeout".into(), "5".into()]);
        let mut command = Setup::of("strace", args).start();
        self.until("answer", |_| !command.lives());
        if self.hung.is_some() {
            return Vec::new();
        }
        let ended = command.end();
        let is_true = ended.shell() != 0
            || match form {
                "--reload" => self.until("new child", |scene| scene.run.stdout().contains("ready 2 ")),
                "--stop" => !self.run.lives(),
                // A reader that has gone has read enough.
                "--status" => !ended.stdout.is_empty() || fault.is_some_and(|fault| fault.answer == "error=EPIPE"),
                _ => true,
            };
        match ended.shell() {
            0 if is_true => Vec::new(),
            1 | 124 | 125 if ended.stderr.lines().count() == 1 && ended.stderr.starts_with("hupwrap: ") => Vec::new(),
            code => vec![format!("{form} answered with {code}: {ended:?}")],
        }
    }

    /// Kills the child, and waits for another one.
    pub fn dies(&mut self) {
        let before = self.puppets();
        for pid in &before {
            // SAFETY: has no preconditions; only hupwrap reaps it, and it was just alive.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        self.until("another child", |scene| scene.puppets().iter().any(|pid| !before.contains(pid)));
    }

    /// Sends a signal that is for the child: it arrives, or a line says why not.
    pub fn forward(&mut self, signal: &str) {
        let got = format!("got {signal} ");
        let before = self.run.stdout().matches(&got).count();
        let lines = |scene: &Self| {
            let stderr = scene.run.stderr();
            stderr.lines().filter(|line| line.contains(&format!("{signal} ")) && !line.contains("got ")).count()
        };
        let said = lines(self);
        self.send(signal);
        self.until(signal, |scene| scene.run.stdout().matches(&got).count() > before || lines(scene) > said);
    }

    fn status_file(&self) -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(self.dir.path().join("status.json")).ok()?).ok()
    }

    /// How often lines say that a request is over.
    fn outcomes(&self) -> usize {
        let is_outcome = |line: &&str| {
            let ends = [" refused, nothing was touched", " failed: ", " failed, the old one serves on"];
            line.ends_with(" done") || ends.iter().any(|end| line.contains(end))
        };
        self.run.stderr().lines().filter(is_outcome).count()
    }

    /// Asks for something, and waits for the outcome: in a line, or in the status file. Each request has one line.
    pub fn request(&mut self, what: &str, ask: impl FnOnce(&mut Self)) {
        self.requests += 1;
        let (requests, asked) = (self.requests, monotonic());
        ask(self);
        self.until(&format!("outcome of {what}"), |scene| {
            let reload = scene.status_file().map(|mut status| status["reload"].take()).unwrap_or_default();
            let is_ours = reload["began"].as_u64().is_some_and(|began| began / 1000 > asked);
            scene.outcomes() >= requests || (is_ours && !reload["ended"].is_null())
        });
    }

    /// Waits until nothing goes on: hupwrap has one child, has reaped every other one, and waits.
    pub fn rests(&mut self) {
        let pid = self.run.pid;
        if !self.lasts {
            self.until("one child", |_| children(pid).len() == 1);
        }
        // With a signal it notices the exec of its child, and closes what has told of it.
        self.forward("WINCH");
        let rest = |pid| (state(pid), status(pid, "voluntary_ctxt_switches"));
        self.until("rest", |_| {
            let before = rest(pid);
            let _ = poll(&mut [], PollTimeout::from(10_u8));
            before.0 == Some('S') && before == rest(pid)
        });
        self.fds = fds(pid);
    }

    /// TERM, and what is left to see.
    pub fn stop(mut self, fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
        self.send("TERM");
        self.until("end", |scene| {
            let may_not =
                scene.run.stderr().contains("cannot send TERM") || scene.run.stderr().contains("cannot send CONT");
            for pid in scene.puppets().into_iter().filter(|_| may_not) {
                // It says that it may not stop its child, and waits for it.
                // SAFETY: has no preconditions; a child of hupwrap's is not reaped by anybody else.
                unsafe { libc::kill(pid, libc::SIGTERM) };
            }
            !scene.run.lives()
        });
        self.seen(fault, usual)
    }

    fn seen(mut self, fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
        let mut wrong: Vec<String> = self.hung.take().into_iter().collect();
        let hangs = !wrong.is_empty();
        if hangs {
            let state = state(self.run.pid);
            wrong.push(format!("its state is {state:?}, its children: {:?}", children(self.run.pid)));
        } else if !self.lasts && fault.is_none_or(|fault| fault.call != "prctl") && !self.gone() {
            wrong.push(format!("processes are left: {:?}", self.run.family()));
        }
        let (dir, fds, served, pid) = (self.dir, self.fds, self.served, self.run.pid);
        let (stdout, stderr, status) = if hangs {
            (self.run.stdout(), self.run.stderr(), -1)
        } else {
            let ended = self.run.end();
            let shell = ended.shell();
            (ended.stdout, ended.stderr, shell)
        };
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        let mut seen = Seen { calls: trace::calls(&log), fds, wrong, stdout, stderr, status };
        // Where the fault lasts, it may meet the loader later.
        let in_loader = trace::injected(&seen.calls).is_some_and(|call| call.is_loader)
            || (fault.is_some_and(Fault::lasts) && seen.stderr.contains("error while loading shared libraries"));
        if hangs || in_loader {
            return seen;
        }
        let mut wrong = std::mem::take(&mut seen.wrong);
        for word in ["panicked", "internal error", "core dumped", "memory allocation"] {
            if seen.stderr.contains(word) {
                wrong.push(format!("it says '{word}'"));
            }
        }
        wrong.extend(
            seen.stderr.lines().filter(|line| !line.starts_with("hupwrap: ")).map(|line| format!("a line: {line}")),
        );
        let lines = seen.stderr.lines().filter(|line| !line.contains(" is at tcp:")).count();
        match (served, seen.status) {
            (true, CHILD_STATUS) => {}
            (false, 125) if lines == 1 => {}
            (false, 126 | 127) if lines > 0 => {}
            // What would have shown that the child is ready is refused for ever.
            (_, 124) if fault.is_some_and(Fault::lasts) && seen.stderr.contains("was not ready within") => {}
            (_, status) => wrong.push(format!("it ended with {status}")),
        }
        let call = fault.map_or("", |fault| &*fault.call);
        // What cannot be removed stays, and so does what cannot be recognised.
        let is_unknown = call == "getsockname" && fault.is_some_and(Fault::lasts);
        if !is_unknown && !["unlink", "rmdir", "newfstatat", "statx"].contains(&call) {
            let names: BTreeSet<String> = fs::read_dir(dir.path())
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            let known = ["above", "env", "log", "watched", "work", "status.json", "pidfile.child"];
            // Whose pidfile it is nobody knows where the lock says that it is another's.
            let is_taken = seen.stderr.contains("another hupwrap has it");
            let names = names.into_iter().filter(|name| name != "pidfile" || !is_taken).collect::<Vec<_>>();
            wrong.extend(names.iter().filter(|name| !known.contains(&&***name)).map(|name| format!("left: {name}")));
            for place in ["/run", "/tmp", "/dev/shm"] {
                let ours = format!("hupwrap-{pid}-");
                let entries = fs::read_dir(place).into_iter().flatten().flatten();
                let left = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(&ours));
                wrong.extend(left.map(|path| format!("left: {}", path.display())));
            }
        }
        let status: Option<Value> =
            fs::read_to_string(dir.path().join("status.json")).ok().and_then(|text| serde_json::from_str(&text).ok());
        let is_said = seen.stderr.contains("status.json");
        if served && !is_said && status.is_none_or(|status| status["state"] != "ended") {
            wrong.push("the status file does not say that it has ended".to_owned());
        }
        if let Some(usual) = usual {
            let often = |calls: &[Call], name: &str| calls.iter().filter(|call| call.name == name).count();
            let (now, then) = (often(&seen.calls, "ppoll"), often(&usual.calls, "ppoll"));
            if now > 3 * then + 300 {
                wrong.push(format!("it spins: {now} calls of ppoll in place of {then}"));
            }
            // Those that work are not counted: a scan of /proc makes some for each process of the machine, and other
            // tests may run a thousand.
            let refused = seen.calls.iter().filter(|call| call.is_injected()).count();
            if refused > 10 * often(&usual.calls, call) + 3000 {
                wrong.push(format!("it spins: {refused} refused calls of {call}"));
            }
            let lasts = fault.is_some_and(Fault::lasts);
            if served && !usual.fds.is_empty() && !lasts && seen.fds.len() > usual.fds.len() {
                wrong.push(format!("it has the descriptors {:?}, and usually {:?}", seen.fds, usual.fds));
            }
        }
        seen.wrong = wrong;
        seen
    }

    /// Whether nothing is left that came of it, strace included.
    fn gone(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < BOUND {
            if self.run.family().is_empty() {
                return true;
            }
            let _ = poll(&mut [], PollTimeout::from(2_u8));
        }
        false
    }
}

/// A file of a life.
pub fn at(scene: &Scene, name: &str) -> PathBuf {
    scene.dir.path().join(name)
}
