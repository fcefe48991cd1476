//! What every test needs: a hupwrap that is started, listened to, waited for, and gone afterwards.
//!
//! Nothing here waits for a time to pass: a test waits for a line, a file or a state in /proc, and [`PATIENCE`] only
//! bounds how long a broken one may take.

pub mod http;
pub mod notify;
pub mod podman;
pub mod pty;
pub mod resolver;
pub mod seen;
pub mod watched;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollTimeout, poll};

/// How long anything may take on a loaded machine before it is called broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The variable by which a test finds, at its end, every process that came of it.
const MARK: &str = "HUPWRAP_TEST_MARK";

/// The program under test.
pub fn hupwrap() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hupwrap"))
}

/// The program that is supervised; see tests/fixtures/puppet.rs.
pub fn puppet() -> PathBuf {
    fixture("puppet")
}

/// A server to be supervised; see tests/fixtures/server.rs.
pub fn server() -> PathBuf {
    fixture("server")
}

/// Runs a program without some system calls; see tests/fixtures/without.rs.
pub fn without() -> PathBuf {
    fixture("without")
}

/// The child of a soak; see tests/fixtures/actor.rs.
pub fn actor() -> PathBuf {
    fixture("actor")
}

/// A program of tests/fixtures. Cargo builds the programs of a package for its own tests only, so the first test that
/// asks for one builds them all, in the profile and the directory of hupwrap.
pub fn fixture(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let program = hupwrap().with_file_name(name);
    BUILT.call_once(|| {
        let mut directory = program.ancestors().skip(1);
        let profile = match directory.next().and_then(Path::file_name) {
            Some(debug) if debug == "debug" => OsStr::new("dev"),
            other => other.expect("target/PROFILE"),
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "hupwrap-fixtures", "--profile"])
            .arg(profile)
            .arg("--target-dir")
            .arg(directory.next().expect("target"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo").success(), "cargo does not build tests/fixtures");
    });
    program
}

/// The program as `cargo static` makes it, where it was made of this version.
pub fn static_build() -> Option<PathBuf> {
    let version = |program: &Path| Some(Command::new(program).arg("--version").output().ok()?.stdout);
    let wanted = version(hupwrap());
    let mut targets = fs::read_dir(hupwrap().parent()?.parent()?).ok()?.flatten();
    targets.find_map(|target| Some(target.path().join("release/hupwrap")).filter(|file| version(file) == wanted))
}

/// Says that a test, or a part of it, is skipped, and what is missing. It writes past the capture of `cargo test`,
/// which takes what the macros print.
pub fn skipped(test: &str, missing: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {missing}");
}

/// Where a program of this name is, if it is installed.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Waits until a condition holds that nobody tells about, such as a state in /proc.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        // The scheduler's turn; not a time that anything relies on.
        let _ = poll(&mut [], PollTimeout::from(1_u8));
    }
}

/// A directory of this test's own, gone with it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hupwrap-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).expect("a fresh directory");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, executable or not.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let file = self.0.join(name);
        fs::write(&file, content).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("its mode");
        file
    }

    /// Writes a file that is about to be executed; by another process, as with [`Dir::hupwrap`].
    pub fn program(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let draft = self.file(&format!("{name}.draft"), content, 0o600);
        let program = self.0.join(name);
        let done = Command::new("install").args(["-m", "755", "--"]).arg(draft).arg(&program).status();
        assert!(done.expect("install(1)").success());
        program
    }

    /// A copy of hupwrap, to be replaced by the test. A copy is written by another process: while this one has it open
    /// for writing, a fork in another thread would keep it open, and executing it would be ETXTBSY.
    pub fn hupwrap(&self, name: &str) -> PathBuf {
        self.copy(hupwrap(), name)
    }

    /// A program that is not hupwrap, for the place of one; see tests/fixtures/impostor.rs. There is one script for
    /// all.
    pub fn impostor(&self, name: &str, script: &str) -> PathBuf {
        self.file("impostor.sh", script, 0o644);
        self.copy(&fixture("impostor"), name)
    }

    fn copy(&self, program: &Path, name: &str) -> PathBuf {
        let copy = self.0.join(name);
        let done = Command::new("cp").arg("--").arg(program).arg(&copy).status().expect("cp");
        assert!(done.success());
        copy
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a process wrote so far, line by line.
#[derive(Clone, Default)]
struct Output(Arc<(Mutex<Written>, Condvar)>);

/// The bytes, and whether there will be no more.
type Written = (Vec<u8>, bool);

impl Output {
    /// Of a stream that somebody else has.
    fn none() -> Self {
        Self(Arc::new((Mutex::new((Vec::new(), true)), Condvar::new())))
    }

    fn follow(mut stream: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let writer = output.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer).unwrap_or(0);
                let mut state = writer.0.0.lock().expect("a lock");
                state.0.extend(&buffer[..read]);
                state.1 = read == 0;
                writer.0.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        output
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().expect("a lock").0).into_owned()
    }

    /// Waits for something in it.
    fn wait<T>(&self, mut find: impl FnMut(&str, bool) -> Option<T>) -> Option<T> {
        let began = Instant::now();
        let mut state = self.0.0.lock().expect("a lock");
        loop {
            if let Some(found) = find(&String::from_utf8_lossy(&state.0), state.1) {
                return Some(found);
            }
            let left = PATIENCE.checked_sub(began.elapsed())?;
            state = self.0.1.wait_timeout(state, left).expect("a lock").0;
        }
    }
}

/// A hupwrap about to be started.
pub struct Setup {
    command: Command,
    stdin: bool,
}

impl Setup {
    /// With these arguments, the command's included.
    pub fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::of(hupwrap(), args)
    }

    /// Another file than the one under test: a copy, a link, a wrapper such as `nohup` in front.
    pub fn of<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Self {
        // A test that runs in the background of a script has INT and QUIT ignored, and would pass that on.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                // SAFETY: the default disposition has no handler that could be unsound.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
        });
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, stdin: false }
    }

    /// A change that [`Command`] knows: environment, directory, `pre_exec`.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    pub fn env(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.with(|command| {
            command.env(name, value);
        })
    }

    /// In this working directory.
    pub fn dir(self, dir: &Path) -> Self {
        self.with(|command| {
            command.current_dir(dir);
        })
    }

    /// Has a signal blocked from the start: a puppet that has not come far yet does not die of it, but hears it.
    pub fn blocking(self, signal: libc::c_int) -> Self {
        self.with(|command| {
            before_exec(command, move || {
                // SAFETY: the set is plain data, and ours.
                unsafe {
                    let mut set = std::mem::zeroed();
                    libc::sigaddset(&raw mut set, signal);
                    libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                }
            });
        })
    }

    /// Keeps a pipe to the child's stdin open.
    pub fn stdin(mut self) -> Self {
        self.stdin = true;
        self.command.stdin(Stdio::piped());
        self
    }

    #[track_caller]
    pub fn start(mut self) -> Run {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.command.env(MARK, &mark);
        let mut process = self.command.spawn().expect("hupwrap starts");
        let stdout = process.stdout.take().map(Output::follow).unwrap_or_else(Output::none);
        let stderr = process.stderr.take().map(Output::follow).unwrap_or_else(Output::none);
        let pid = i32::try_from(process.id()).expect("a pid");
        Run { process, pid, stdout, stderr, seen: 0, mark: format!("{MARK}={mark}"), status: None }
    }

    /// Starts it, and waits for its end.
    #[track_caller]
    pub fn end(self) -> Ended {
        self.start().end()
    }
}

/// Has the process that is about to become the program do something first. Async-signal-safe things only: it is a fork
/// of a process with many threads.
pub fn before_exec(command: &mut Command, act: impl Fn() + Send + Sync + 'static) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the caller's promise, and nothing is returned but success.
    unsafe {
        command.pre_exec(move || {
            act();
            Ok(())
        });
    }
}

/// Everything of a run that is over.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The status as a shell shows it.
    pub fn shell(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().expect("a signal"))
    }
}

/// A hupwrap at work. At the end of the test, however it ends, neither it nor anything it started is left.
pub struct Run {
    process: Child,
    pub pid: i32,
    stdout: Output,
    stderr: Output,
    /// How much of stdout [`Run::line`] has returned.
    seen: usize,
    mark: String,
    status: Option<ExitStatus>,
}

impl Run {
    /// The next line of stdout that begins so; those before it are skipped.
    #[track_caller]
    pub fn line(&mut self, beginning: &str) -> String {
        let seen = self.seen;
        let found = self.stdout.wait(|text, ended| {
            let mut at = seen;
            for line in text.get(seen..).unwrap_or_default().split_inclusive('\n') {
                at += line.len();
                if line.ends_with('\n') && line.starts_with(beginning) {
                    return Some(Some((line.trim_end().to_owned(), at)));
                }
            }
            ended.then_some(None)
        });
        let Some(Some((line, at))) = found else {
            panic!("no line '{beginning}'; stdout: {:?}; stderr: {:?}", self.stdout(), self.stderr());
        };
        self.seen = at;
        line
    }

    /// Waits for the `ready` line of a puppet: its generation and pid.
    #[track_caller]
    pub fn ready(&mut self) -> (u64, i32) {
        let line = self.line("ready ");
        let mut words = line.split(' ').skip(1);
        let generation = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        (generation, words.next().and_then(|word| word.parse().ok()).expect("a pid"))
    }

    /// Waits until hupwrap has said something on stderr.
    #[track_caller]
    pub fn said(&self, part: &str) {
        let found =
            self.stderr.wait(|text, ended| if text.contains(part) { Some(true) } else { ended.then_some(false) });
        assert_eq!(
            found,
            Some(true),
            "it never said '{part}'; stderr: {:?}; stdout: {:?}",
            self.stderr(),
            self.stdout()
        );
    }

    /// Waits until hupwrap has said something that often.
    #[track_caller]
    pub fn said_times(&self, part: &str, times: usize) {
        let found = self.stderr.wait(|text, ended| {
            let enough = text.matches(part).count() >= times;
            (enough || ended).then_some(enough)
        });
        assert_eq!(found, Some(true), "it never said '{part}' {times} times; stderr: {:?}", self.stderr());
    }

    /// Waits until the children have written something that often, wherever it stands.
    #[track_caller]
    pub fn wrote_times(&self, part: &str, times: usize) {
        let found = self.stdout.wait(|text, ended| {
            let enough = text.matches(part).count() >= times;
            (enough || ended).then_some(enough)
        });
        assert_eq!(found, Some(true), "no '{part}' {times} times; stdout: {:?}", self.stdout());
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends hupwrap a signal.
    #[track_caller]
    pub fn kill(&self, signal: &str) {
        kill(self.pid, signal);
    }

    pub fn write(&mut self, text: &str) {
        use std::io::Write;
        self.process.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("a reader");
    }

    pub fn close_stdin(&mut self) {
        self.process.stdin = None;
    }

    /// Whether hupwrap still runs.
    pub fn lives(&mut self) -> bool {
        self.status = self.status.or(self.process.try_wait().expect("a child"));
        self.status.is_none()
    }

    /// Waits for hupwrap's end, whatever else has its stdout open.
    #[track_caller]
    pub fn status(&mut self) -> ExitStatus {
        wait_until("hupwrap ends", || !self.lives());
        self.status.expect("a status")
    }

    /// Waits until nobody can write to its output any more.
    pub fn all_written(&self) {
        self.stdout.wait(|_, ended| ended.then_some(()));
        self.stderr.wait(|_, ended| ended.then_some(()));
    }

    /// Waits for hupwrap's end, and that of its output.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let status = self.status();
        self.all_written();
        Ended { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// TERM, and the end.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.kill("TERM");
        self.end()
    }

    /// Every living process that came of this run, hupwrap included, as long as it kept its environment.
    pub fn family(&self) -> Vec<i32> {
        // A thread tells it too: where the main one has ended, /proc shows a zombie.
        let has_mark = |pid: &i32| {
            numbers(&format!("/proc/{pid}/task")).into_iter().any(|thread| {
                let directory = format!("/proc/{pid}/task/{thread}");
                let environ = fs::read(format!("{directory}/environ")).unwrap_or_default();
                environ.split(|byte| *byte == 0).any(|var| var == self.mark.as_bytes())
                    && state_in(&directory).is_some_and(|state| state != 'Z')
            })
        };
        pids().into_iter().filter(has_mark).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.lives() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        // One that was killed could not remove its sockets.
        for place in ["/run", "/tmp", "/dev/shm"] {
            let entries = fs::read_dir(place).into_iter().flatten().flatten();
            let ours = format!("hupwrap-{}-", self.pid);
            for left in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)) {
                let _ = fs::remove_dir_all(left.path());
            }
        }
        // Again and again: one that is being killed may just have forked.
        loop {
            let family = self.family();
            if family.is_empty() {
                return;
            }
            for pid in family {
                // SAFETY: has no preconditions.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            let _ = poll(&mut [], PollTimeout::from(1_u8));
        }
    }
}

/// Sends a signal, by name or number.
#[track_caller]
pub fn kill(pid: i32, signal: &str) {
    let signal: hupwrap::signal::Signal = signal.parse().expect("a signal");
    // SAFETY: has no preconditions.
    let sent = unsafe { libc::kill(pid, signal.number()) };
    assert_eq!(sent, 0, "kill {pid} {signal}: {}", std::io::Error::last_os_error());
}

fn pids() -> Vec<i32> {
    numbers("/proc")
}

fn numbers(directory: &str) -> Vec<i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The fields of /proc/PID/stat from the third on (`proc(5)`): state, parent, group, session, …
pub fn stat(pid: i32) -> Option<Vec<String>> {
    stat_in(&format!("/proc/{pid}"))
}

fn stat_in(directory: &str) -> Option<Vec<String>> {
    let stat = fs::read(format!("{directory}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// The state letter of a process: R, S, T, Z, …; none where it is gone.
pub fn state(pid: i32) -> Option<char> {
    state_in(&format!("/proc/{pid}"))
}

fn state_in(directory: &str) -> Option<char> {
    stat_in(directory)?.first()?.chars().next()
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

pub fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

pub fn group(pid: i32) -> Option<i32> {
    stat(pid)?.get(2)?.parse().ok()
}

/// The children of a process, zombies included.
pub fn children(pid: i32) -> Vec<i32> {
    pids().into_iter().filter(|child| parent(*child) == Some(pid)).collect()
}

/// A line of /proc/PID/status, such as `SigBlk`.
pub fn status(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether a process waits for something to happen, and no signal waits for it.
pub fn is_at_rest(pid: i32) -> bool {
    let none = |field| status(pid, field).bytes().all(|digit| digit == b'0');
    none("ShdPnd") && none("SigPnd") && state(pid) == Some('S')
}

/// The descriptors a process has open, and what each leads to.
pub fn fds(pid: i32) -> BTreeMap<u32, PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|fd| Some((fd.file_name().to_str()?.parse().ok()?, fs::read_link(fd.path()).ok()?))).collect()
}

/// How many descriptors a process has open.
pub fn open_fds(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0)
}

/// Arguments of any kind in one list.
pub fn args<const N: usize>(list: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    list.iter().map(|arg| arg.as_ref().to_owned()).collect()
}
