//! What hupwrap costs beside its peers: start-up (as pid 1 too), idling, forwarding, restarting, replacing, size;
//! `cargo bench` runs it all.
//!
//! Nothing here judges: it prints figures and ratios, and fails only where a contender does not do as it was asked to.
//! Within a table the contenders take turns, in a new order each round, so that a machine that is slow for a while is
//! slow for all of them. `cargo bench --bench peers -- start idle` runs only the tables named.
//!
//! Environment: `ROUNDS` (default 1000; signals are twice as many), `IDLE_SECONDS` (default 5), `REPLACE_SECONDS` (of
//! each run, default 2), `HUPWRAP_RELEASE` and `HUPWRAP_STATIC` (paths of the two builds).
#![allow(
    missing_docs,
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod hup;
mod replace;

use std::env;
use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::iter;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::ptr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;

const FLOOR_SOURCE: &str = include_str!("floor.c");
const TRUE: &str = "/bin/true";
/// Cargo's own environment (LD_LIBRARY_PATH above all) would slow every dynamic loader down.
const CHILD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No contender takes this long for anything asked of it here.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two signals, so that each finds the contender asleep.
const GAP: Duration = Duration::from_micros(100);
const BLOCK: usize = 25;
const BLOCK_WARM_UP: usize = 5;
const WARM_UP: usize = 20;

const BARE: &str = "bare";
const FLOOR_STATIC: &str = "floor-static";
const FLOOR_DYNAMIC: &str = "floor-dynamic";
const RELEASE: &str = "hupwrap";
const STATIC: &str = "hupwrap-static";
const TINI: &str = "tini";
const TINI_STATIC: &str = "tini-static";
const DUMB_INIT: &str = "dumb-init";
const CATATONIT: &str = "catatonit";
const TIMEOUT: &str = "timeout";
const DIRECT: &str = "direct";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--puppet") {
        puppet();
    }
    if !args.iter().any(|arg| arg == "--bench") {
        println!("peers: nothing to test; `cargo bench` measures");
        return ExitCode::SUCCESS;
    }
    let tables = ["start", "pid1", "idle", "forward", "hup", "replace", "size"];
    let wanted: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect();
    if let Some(odd) = wanted.iter().find(|name| !tables.contains(name)) {
        println!("peers: no table `{odd}`; there are {}", tables.join(", "));
        return ExitCode::from(2);
    }
    let wants = |name: &str| wanted.is_empty() || wanted.contains(&name);

    let mut bench = Bench::new();
    if wants("start") {
        bench.start(false);
    }
    if wants("pid1") {
        bench.start(true);
    }
    if wants("idle") {
        bench.idle();
    }
    if wants("forward") {
        bench.forward();
    }
    if wants("hup") {
        bench.hup();
    }
    if wants("replace") {
        bench.replace();
    }
    if wants("size") {
        bench.size();
    }
    bench.finish()
}

// ---- the contenders ---------------------------------------------------------------------------------------------

struct Contender {
    name: &'static str,
    path: PathBuf,
    /// The copy of it that is run.
    file: PathBuf,
    /// What stands between the contender's name and the command: ordinarily, as pid 1, and to pass USR1 on.
    plain: &'static [&'static str],
    pid1: &'static [&'static str],
    forward: Option<&'static [&'static str]>,
    /// Whether it runs as something else than pid 1 as well; some versions of catatonit do not.
    anywhere: bool,
}

impl Contender {
    fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

/// Those found, and a line for each that is not.
fn contenders() -> (Vec<Contender>, Vec<String>) {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let tmp = target_dir().join("tmp");
    for (name, flags) in [(FLOOR_STATIC, &["-static"][..]), (FLOOR_DYNAMIC, &[][..])] {
        let path = tmp.join(name);
        match compile(FLOOR_SOURCE, &path, flags) {
            Ok(()) => found.push(Contender {
                name,
                path,
                file: PathBuf::new(),
                plain: &[],
                pid1: &[],
                forward: None,
                anywhere: true,
            }),
            Err(why) => missing.push(format!("{name}: skipped, {why}")),
        }
    }
    type Args = &'static [&'static str];
    let installed: [(&'static str, &[&str], Args, Args, Args); 5] = [
        (TINI, &["/usr/bin/tini", "/sbin/tini", "/usr/bin/docker-init"], &["-s", "--"], &["--"], &["-s", "--"]),
        (TINI_STATIC, &["/usr/bin/tini-static", "/sbin/tini-static"], &["-s", "--"], &["--"], &["-s", "--"]),
        (DUMB_INIT, &["/usr/bin/dumb-init"], &["--"], &["--"], &["--"]),
        (
            CATATONIT,
            &["/usr/libexec/podman/catatonit", "/usr/libexec/catatonit/catatonit", "/usr/lib/podman/catatonit"],
            &["--"],
            &["--"],
            &["--"],
        ),
        // In the background it would turn a signal off after its first; by itself it does not pass USR1 on.
        (TIMEOUT, &["/usr/bin/timeout"], &["60"], &["60"], &["--foreground", "-s", "USR1", "600"]),
    ];
    for (name, usual, plain, pid1, forward) in installed {
        match find(name, usual) {
            Some(path) => found.push(Contender {
                name,
                path,
                file: PathBuf::new(),
                plain,
                pid1,
                forward: Some(forward),
                anywhere: true,
            }),
            None => missing.push(format!("{name}: not installed")),
        }
    }
    let libc_name = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    let triple = format!("{}-unknown-linux-{libc_name}", env::consts::ARCH);
    for (name, variable, built, command) in [
        (RELEASE, "HUPWRAP_RELEASE", PathBuf::from("release/hupwrap"), "cargo build --release"),
        (STATIC, "HUPWRAP_STATIC", Path::new(&triple).join("release/hupwrap"), "cargo static"),
    ] {
        let path = env::var_os(variable).map_or_else(|| target_dir().join(built), PathBuf::from);
        if is_executable(&path) {
            let args: Args = &["--"];
            found.push(Contender {
                name,
                path,
                file: PathBuf::new(),
                plain: args,
                pid1: args,
                forward: Some(args),
                anywhere: true,
            });
        } else {
            missing.push(format!("{name}: no {}; `{command}` builds it", path.display()));
        }
    }
    (found, missing)
}

/// How a file came into the page cache, and how long ago, decides how many of its pages a fault maps: up to a fifth of
/// the time to start. So that all have the same past, each is run from a copy made at the start, and written to the
/// disk, as the pages would otherwise count as its processes' dirty ones.
fn fresh_copy(name: &str, path: &Path) -> std::io::Result<PathBuf> {
    let to = target_dir().join("tmp/peers").join(name);
    fs::create_dir_all(to.parent().unwrap())?;
    if to.exists() {
        fs::remove_file(&to)?;
    }
    let bytes = fs::read(path)?;
    let mut file = File::create_new(&to)?;
    file.write_all(&bytes)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()?;
    Ok(to)
}

/// Cargo names `<target directory>/tmp` to every bench, wherever that directory was put.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_path_buf()
}

fn compile(source: &str, to: &Path, flags: &[&str]) -> Result<(), String> {
    fs::create_dir_all(to.parent().unwrap()).map_err(|error| format!("{}: {error}", to.display()))?;
    let mut cc = Command::new("cc")
        .args(["-O2", "-x", "c"])
        .args(flags)
        .arg("-o")
        .args([to.as_os_str(), OsStr::new("-")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cc: {error}"))?;
    let written = cc.stdin.take().unwrap().write_all(source.as_bytes());
    let status = cc.wait().map_err(|error| format!("cc: {error}"))?;
    if status.success() && written.is_ok() {
        Ok(())
    } else {
        Err(format!("cc {} cannot build it: {status}", flags.join(" ")))
    }
}

fn find(name: &str, usual: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|dir| dir.join(name));
    on_path.chain(usual.iter().map(PathBuf::from)).find(|file| is_executable(file))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

// ---- starting one and waiting for it ------------------------------------------------------------------------------

/// An argument vector that is ready for execve.
struct Launch {
    /// What `pointers` points into.
    _argv: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Launch {
    fn new(path: &Path, before: &[&str], command: &[&str]) -> Self {
        let mut argv = vec![CString::new(path.as_os_str().as_bytes()).unwrap()];
        argv.extend(before.iter().chain(command).map(|arg| CString::new(*arg).unwrap()));
        let pointers = argv.iter().map(|arg| arg.as_ptr()).chain([ptr::null()]).collect();
        Self { _argv: argv, pointers }
    }
}

struct Outcome {
    micros: f64,
    faults: f64,
    status: c_int,
}

/// Starts processes as posix_spawn does (the memory shared, the parent suspended until the exec), in a new pid
/// namespace if asked to.
struct Launcher {
    null: File,
    stack: Vec<u128>,
    _environment: Vec<CString>,
    environment: Vec<*const c_char>,
}

/// What the clone needs; it may allocate nothing.
struct CloneArgs {
    argv: *const *const c_char,
    environment: *const *const c_char,
    null: RawFd,
    errno: c_int,
}

/// A process that is killed and reaped if it was not waited for.
struct Reap(libc::pid_t);

impl Drop for Reap {
    fn drop(&mut self) {
        if self.0 > 0 {
            // SAFETY: the process is a child not yet waited for, so the pid is still its own.
            unsafe {
                libc::kill(self.0, libc::SIGKILL);
                while libc::waitpid(self.0, ptr::null_mut(), libc::__WALL) < 0
                    && *libc::__errno_location() == libc::EINTR
                {}
            }
        }
    }
}

impl Launcher {
    fn new() -> Self {
        let action = SigAction::new(SigHandler::Handler(on_alarm), SaFlags::empty(), SigSet::empty());
        // SAFETY: takes no pointer. What a contender leaves behind becomes a child of the bench.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        // SAFETY: the handler does nothing; that wait4 is interrupted is all there is to it.
        unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
        let environment = vec![CString::new(format!("PATH={CHILD_PATH}")).unwrap()];
        let pointers = environment.iter().map(|entry| entry.as_ptr()).chain([ptr::null()]).collect();
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        Self { null, stack: vec![0; 4096], _environment: environment, environment: pointers }
    }

    /// Runs it to its end.
    fn run(&mut self, launch: &Launch, namespaces: c_int) -> Result<Outcome, String> {
        let mut args = CloneArgs {
            argv: launch.pointers.as_ptr(),
            environment: self.environment.as_ptr(),
            null: self.null.as_raw_fd(),
            errno: 0,
        };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | namespaces;
        let top = self.stack.as_mut_ptr_range().end.cast::<c_void>();
        let mut status = 0;
        // SAFETY: rusage is plain integers, for which zero is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: takes no pointer.
        unsafe { libc::alarm(PATIENCE.as_secs() as u32) };

        let begun = Instant::now();
        // SAFETY: CLONE_VFORK suspends this thread until the clone has left this memory, so the stack, which is the
        // clone's alone, and what `args` points at outlive its use of them.
        let pid = unsafe { libc::clone(execute, top, flags, (&raw mut args).cast()) };
        if pid < 0 {
            return Err(format!("clone: {}", std::io::Error::last_os_error()));
        }
        let mut reap = Reap(pid);
        // SAFETY: both point to locals of the right type.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        let micros = begun.elapsed().as_nanos() as f64 / 1000.0;

        // SAFETY: takes no pointer.
        unsafe { libc::alarm(0) };
        if waited != pid {
            return Err(format!("did not end within {} s", PATIENCE.as_secs()));
        }
        reap.0 = 0;
        if args.errno != 0 {
            return Err(format!("exec: {}", std::io::Error::from_raw_os_error(args.errno)));
        }
        Ok(Outcome { micros, faults: usage.ru_minflt as f64, status })
    }

    /// Whether it hands on the exit code that `sh -c 'exit CODE'` ends with.
    fn probe(&mut self, contender: &Contender, namespaces: c_int) -> Result<(), String> {
        let before = if namespaces == 0 { contender.plain } else { contender.pid1 };
        for (command, code) in [("exit 0", 0), ("exit 7", 7)] {
            let launch = Launch::new(&contender.file, before, &["/bin/sh", "-c", command]);
            expect(self.run(&launch, namespaces)?.status, code)?;
        }
        Ok(())
    }

    /// The clone flags that make a pid 1 of what is started here, if any do.
    fn pid_namespace(&mut self) -> Result<c_int, String> {
        let launch = Launch::new(Path::new(TRUE), &[], &[]);
        let privileged = libc::CLONE_NEWPID;
        let Err(why) = self.run(&launch, privileged) else { return Ok(privileged) };
        let unprivileged = libc::CLONE_NEWPID | libc::CLONE_NEWUSER;
        self.run(&launch, unprivileged).map(|_| unprivileged).map_err(|also| format!("{why}; with a userns {also}"))
    }
}

impl Drop for Launcher {
    /// Ends what contenders that had to be killed left behind: by now all that was waited for is gone.
    fn drop(&mut self) {
        let own = std::process::id();
        let children = || fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let due = Instant::now() + PATIENCE;
        while let Some(pid) = children().split_whitespace().next().and_then(|pid| pid.parse().ok()) {
            drop(Reap(pid));
            if Instant::now() > due {
                return;
            }
        }
    }
}

fn expect(status: c_int, code: c_int) -> Result<(), String> {
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == code {
        return Ok(());
    }
    let status = <ExitStatus as std::os::unix::process::ExitStatusExt>::from_raw(status);
    Err(format!("ended with {status} where exit status: {code} was due"))
}

extern "C" fn on_alarm(_: c_int) {}

extern "C" fn execute(args: *mut c_void) -> c_int {
    let args = args.cast::<CloneArgs>();
    // SAFETY: `run` passes a CloneArgs and is suspended meanwhile; all of these are system calls and nothing else.
    unsafe {
        for fd in 0..3 {
            libc::dup2((*args).null, fd);
        }
        // Rust's runtime ignores it, and that would be inherited.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(*(*args).argv, (*args).argv, (*args).environment);
        (*args).errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

// ---- one that keeps running, with a puppet for a child ----------------------------------------------------------

/// Until its standard input ends, answers each USR1 with the time its handler ran, as eight bytes of nanoseconds; the
/// first eight bytes are its pid. If the bench goes, so does the other end of that input, and then this.
fn puppet() -> ! {
    let action = SigAction::new(SigHandler::Handler(on_usr1), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler makes two async-signal-safe calls.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let mut byte = [0_u8; 1];
    // SAFETY: the buffers are locals of the lengths given; _exit does not return.
    unsafe {
        let pid = u64::from(std::process::id()).to_ne_bytes();
        libc::write(1, pid.as_ptr().cast(), pid.len());
        while libc::read(0, byte.as_mut_ptr().cast(), 1) > 0 {}
        libc::_exit(0)
    }
}

extern "C" fn on_usr1(_: c_int) {
    let now = monotonic().to_ne_bytes();
    // SAFETY: write is async-signal-safe and the buffer is a local.
    unsafe { libc::write(1, now.as_ptr().cast(), now.len()) };
}

fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: points to a local; clock_gettime is async-signal-safe.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

struct Running {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    puppet: Option<Pid>,
}

impl Running {
    /// `None` runs the puppet by itself.
    fn start(contender: Option<&Contender>) -> Result<Self, String> {
        let bench = env::current_exe().map_err(|error| error.to_string())?;
        let mut command = match contender {
            Some(contender) => {
                let mut command = Command::new(&contender.file);
                command.args(contender.forward.unwrap_or(contender.plain)).arg(bench);
                command
            }
            None => Command::new(bench),
        };
        command.arg("--puppet").env_clear().env("PATH", CHILD_PATH);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let name = contender.map_or(DIRECT, |contender| contender.name);
        let mut running = Self { name, child, input, output, puppet: None };
        running.puppet = Some(Pid::from_raw(running.read()? as i32));
        Ok(running)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn read(&mut self) -> Result<u64, String> {
        let patience = PollTimeout::try_from(PATIENCE).unwrap();
        let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, patience).map_err(|error| error.to_string())? == 0 {
            return Err(format!("the puppet was silent for {} s", PATIENCE.as_secs()));
        }
        let mut bytes = [0; 8];
        self.output.read_exact(&mut bytes).map_err(|error| format!("the puppet went away: {error}"))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Microseconds from the signal's being sent until the handler of the puppet ran.
    fn signal(&mut self) -> Result<f64, String> {
        let sent = monotonic();
        kill(self.pid(), Signal::SIGUSR1).map_err(|error| error.to_string())?;
        let handled = self.read()?;
        Ok(handled.saturating_sub(sent) as f64 / 1000.0)
    }

    /// Ends the puppet by its input; the contender has to end with it, and as it did.
    fn finish(mut self) -> Result<(), String> {
        self.input = None;
        let due = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => {
                    self.puppet = None;
                    let mut rest = Vec::new();
                    self.output.read_to_end(&mut rest).map_err(|error| error.to_string())?;
                    let more = rest.len() / 8;
                    return if more == 0 { Ok(()) } else { Err(format!("passed {more} signals on twice")) };
                }
                Some(status) => return Err(format!("ended with {status} where exit status: 0 was due")),
                None if Instant::now() > due => return Err(format!("outlived its child by {} s", PATIENCE.as_secs())),
                None => sleep(Duration::from_millis(1)),
            }
        }
    }

    /// The number that stands after `key` in one of the files under /proc/PID.
    fn proc(&self, file: &str, key: &str) -> Result<u64, String> {
        let path = format!("/proc/{}/{file}", self.pid());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let number = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).ok_or_else(|| format!("{path}: no {key}"))
    }

    fn switches(&self) -> Result<u64, String> {
        Ok(self.proc("status", "voluntary_ctxt_switches")? + self.proc("status", "nonvoluntary_ctxt_switches")?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.input = None;
        // The puppet first: as long as the contender lives, its child's pid is not another's.
        if let Ok(None) = self.child.try_wait() {
            if let Some(puppet) = self.puppet.filter(|puppet| *puppet != self.pid()) {
                let _ = kill(puppet, Signal::SIGKILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

// ---- the tables -------------------------------------------------------------------------------------------------

struct Bench {
    contenders: Vec<Contender>,
    rounds: usize,
    idle: Duration,
    launcher: Launcher,
    failures: Vec<String>,
    random: Random,
}

impl Bench {
    fn new() -> Self {
        let (mut contenders, missing) = contenders();
        for contender in &mut contenders {
            contender.file = fresh_copy(contender.name, &contender.path).unwrap();
        }
        let rounds = number("ROUNDS", 1000);
        let idle = Duration::from_secs(number("IDLE_SECONDS", 5) as u64);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        println!("\nLinux {}, {cpus} CPUs, {rounds} rounds", release.trim());
        for line in missing {
            println!("{line}");
        }
        let mut bench = Self {
            contenders,
            rounds,
            idle,
            launcher: Launcher::new(),
            failures: Vec::new(),
            random: Random(88_172_645),
        };
        bench.probe();
        bench
    }

    /// Lets those that do not hand an exit code on take part no further.
    fn probe(&mut self) {
        let (launcher, failures) = (&mut self.launcher, &mut self.failures);
        self.contenders.retain_mut(|one| match launcher.probe(one, 0) {
            Ok(()) => true,
            Err(_) if one.is(CATATONIT) => {
                println!("{CATATONIT}: as pid 1 only, this version does not run otherwise");
                one.anywhere = false;
                true
            }
            Err(why) => {
                failures.push(format!("{}: {why}", one.name));
                false
            }
        });
    }

    fn start(&mut self, as_pid1: bool) {
        let title = if as_pid1 { "start as pid 1" } else { "start" };
        let mut namespaces = 0;
        if as_pid1 {
            match self.launcher.pid_namespace() {
                Ok(flags) => namespaces = flags,
                Err(why) => return println!("\n{title}: skipped, not permitted ({why})"),
            }
        }
        let mut names = vec![BARE];
        let mut launches = vec![Launch::new(Path::new(TRUE), &[], &[])];
        for contender in self.contenders.iter().filter(|one| as_pid1 || one.anywhere) {
            if as_pid1 && let Err(why) = self.launcher.probe(contender, namespaces) {
                self.failures.push(format!("{title}: {}: {why}", contender.name));
                continue;
            }
            names.push(contender.name);
            let before = if as_pid1 { contender.pid1 } else { contender.plain };
            launches.push(Launch::new(&contender.file, before, &[TRUE]));
        }

        let mut times: Vec<Vec<f64>> = vec![Vec::new(); launches.len()];
        let mut faults = times.clone();
        let mut order: Vec<usize> = (0..launches.len()).collect();
        for round in 0..WARM_UP + self.rounds {
            self.random.shuffle(&mut order);
            for &which in &order {
                let outcome = self.launcher.run(&launches[which], namespaces);
                match outcome.and_then(|outcome| expect(outcome.status, 0).map(|()| outcome)) {
                    Ok(outcome) if round >= WARM_UP => {
                        times[which].push(outcome.micros);
                        faults[which].push(outcome.faults);
                    }
                    Ok(_) => {}
                    Err(why) => return self.failures.push(format!("{title}: {}: {why}", names[which])),
                }
            }
        }

        let samples = Samples { names, times, stretch: 10 };
        let bare = median(&samples.times[0]);
        let bare_faults = median(&faults[0]);
        let added = |name: &str| samples.of(name).map(|times| median(times) - bare);
        println!("\n{title}: what `X -- {TRUE}` adds to {TRUE} (microseconds; faults: minor page faults added)");
        let mut rows = Vec::new();
        for (name, (times, faults)) in samples.names.iter().zip(samples.times.iter().zip(&faults)) {
            let mut row = vec![(*name).to_string(), format!("{:.0}", median(times)), spread(times)];
            if *name == BARE {
                row.resize(7, String::new());
                row.push(format!("({bare_faults:.0})"));
            } else {
                row.push(format!("{:.0}", median(times) - bare));
                for to in [FLOOR_STATIC, TINI_STATIC, TINI] {
                    row.push(added(to).map_or_else(String::new, |to| format!("{:.2}", (median(times) - bare) / to)));
                }
                row.push(format!("{:.0}", median(faults) - bare_faults));
            }
            rows.push(row);
        }
        print_table(&["", "median", "p10-p90", "added", "/floor", "/tini-st", "/tini", "faults"], &rows);
        let pairs = [
            (STATIC, FLOOR_STATIC),
            (STATIC, TINI_STATIC),
            (STATIC, CATATONIT),
            (RELEASE, TINI),
            (RELEASE, FLOOR_DYNAMIC),
        ];
        samples.print_ratios("added", Some(BARE), &pairs, &mut self.random);
    }

    fn idle(&mut self) {
        let mut running = Vec::new();
        for contender in self.contenders.iter().filter(|one| one.anywhere) {
            match Running::start(Some(contender)) {
                Ok(one) => running.push(one),
                Err(why) => self.failures.push(format!("idle: {}: {why}", contender.name)),
            }
        }
        sleep(Duration::from_millis(500));
        let before: Vec<_> = running.iter().map(Running::switches).collect();
        sleep(self.idle);
        let mut rows = Vec::new();
        for (one, before) in running.iter().zip(before) {
            let figures = || -> Result<Vec<String>, String> {
                let switches = one.switches()? - before?;
                let mut row = vec![one.name.to_string(), one.proc("status", "Threads")?.to_string()];
                row.push(switches.to_string());
                for key in ["Private_Dirty", "Pss", "Rss"] {
                    row.push(one.proc("smaps_rollup", key).map_or_else(|_| "?".to_string(), |size| size.to_string()));
                }
                Ok(row)
            };
            match figures() {
                Ok(row) => rows.push(row),
                Err(why) => self.failures.push(format!("idle: {}: {why}", one.name)),
            }
        }
        println!("\nidle: with a child that does nothing, for {} s (memory in KiB)", self.idle.as_secs());
        print_table(&["", "threads", "switches", "private dirty", "pss", "rss"], &rows);
        for one in running {
            let name = one.name;
            if let Err(why) = one.finish() {
                self.failures.push(format!("idle: {name}: {why}"));
            }
        }
    }

    fn forward(&mut self) {
        let forwarding = self.contenders.iter().filter(|one| one.anywhere && one.forward.is_some());
        let contenders: Vec<Option<&Contender>> = iter::once(None).chain(forwarding.map(Some)).collect();
        let names: Vec<&str> = contenders.iter().map(|one| one.map_or(DIRECT, |one| one.name)).collect();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
        let mut order: Vec<usize> = (0..names.len()).collect();
        let blocks = (2 * self.rounds).div_ceil(BLOCK);
        for _ in 0..blocks {
            self.random.shuffle(&mut order);
            for &which in &order {
                match forward_block(contenders[which]) {
                    Ok(block) => times[which].extend(block),
                    Err(why) => return self.failures.push(format!("forward: {}: {why}", names[which])),
                }
            }
        }

        let samples = Samples { names, times, stretch: BLOCK };
        println!(
            "\nforwarding: USR1 from kill(2) until the child's handler ran, {} signals (microseconds)",
            blocks * BLOCK
        );
        let mut rows = Vec::new();
        for (name, times) in samples.names.iter().zip(&samples.times) {
            let mut row = vec![(*name).to_string(), format!("{:.1}", median(times)), spread(times)];
            row.push(format!("{:.1}", quantile(times, 0.99)));
            for to in [TINI, DUMB_INIT] {
                let to = samples.of(to).filter(|_| *name != DIRECT);
                row.push(to.map_or_else(String::new, |to| format!("{:.2}", median(times) / median(to))));
            }
            rows.push(row);
        }
        print_table(&["", "median", "p10-p90", "p99", "/tini", "/dumb-init"], &rows);
        println!("direct: to the child itself; timeout: as `timeout --foreground -s USR1 600`");
        let pairs = [(RELEASE, TINI), (RELEASE, DUMB_INIT), (STATIC, TINI_STATIC), (STATIC, DUMB_INIT)];
        samples.print_ratios("whole", None, &pairs, &mut self.random);
    }

    fn size(&mut self) {
        let tini = self.contenders.iter().find(|one| one.is(TINI)).and_then(|one| fs::metadata(&one.path).ok());
        let mut rows = Vec::new();
        for contender in &self.contenders {
            let Ok(bytes) = fs::read(&contender.path) else { continue };
            let linked = if is_dynamic(&bytes) { "dynamic" } else { "static" };
            let ratio = tini.as_ref().map(|tini| format!("{:.2}", bytes.len() as f64 / tini.len() as f64));
            let path = contender.path.display().to_string();
            rows.push(vec![
                contender.name.to_string(),
                bytes.len().to_string(),
                ratio.unwrap_or_default(),
                linked.into(),
                path,
            ]);
        }
        println!("\nsize (bytes)");
        print_table(&["", "size", "/tini", "linked", "file"], &rows);
    }

    fn finish(self) -> ExitCode {
        println!();
        for failure in &self.failures {
            println!("FAILED: {failure}");
        }
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A block is a process of its own: on which CPUs it and its child come to sleep matters more than anything they do.
fn forward_block(contender: Option<&Contender>) -> Result<Vec<f64>, String> {
    let mut running = Running::start(contender)?;
    let mut times = Vec::new();
    for nth in 0..BLOCK_WARM_UP + BLOCK {
        sleep(GAP);
        let micros = running.signal()?;
        if nth >= BLOCK_WARM_UP {
            times.push(micros);
        }
    }
    running.finish()?;
    Ok(times)
}

/// Whether an ELF file names an interpreter.
fn is_dynamic(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let word =
        |at: usize| elf.get(at..at + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().unwrap()) as usize);
    if elf.get(..5) != Some(b"\x7fELF\x02") {
        return false;
    }
    let (table, entry, entries) = (word(32), word(54) & 0xffff, word(56) & 0xffff);
    (0..entries).any(|index| word(table + index * entry) as u32 == PT_INTERP)
}

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).ok().and_then(|value| value.parse().ok()).filter(|value| *value > 0).unwrap_or(default)
}

// ---- figures ----------------------------------------------------------------------------------------------------

/// What was measured, by contender and round.
struct Samples {
    names: Vec<&'static str>,
    times: Vec<Vec<f64>>,
    /// How many rounds in a row are likely to have something in common.
    stretch: usize,
}

impl Samples {
    fn of(&self, name: &str) -> Option<&Vec<f64>> {
        self.names.iter().position(|one| *one == name).map(|at| &self.times[at])
    }

    fn print_ratios(&self, which: &str, base: Option<&str>, pairs: &[(&str, &str)], random: &mut Random) {
        let mut lines = pairs.iter().filter_map(|(of, to)| self.ratio(of, to, base, random)).peekable();
        if lines.peek().is_some() {
            println!(
                "\nratios of the {which} time: of the medians, their 90 % interval; median of the rounds' own ratios"
            );
            lines.for_each(|line| println!("{line}"));
        }
    }

    /// None if one of the two is not there.
    fn ratio(&self, of: &str, to: &str, base: Option<&str>, random: &mut Random) -> Option<String> {
        let (over, under) = (self.of(of)?, self.of(to)?);
        let zeros = vec![0.0; over.len()];
        let base = base.and_then(|base| self.of(base)).unwrap_or(&zeros);
        let ratio = |rounds: &[usize]| {
            let middle = |times: &[f64]| median(&rounds.iter().map(|round| times[*round]).collect::<Vec<_>>());
            let base = middle(base);
            (middle(over) - base) / (middle(under) - base)
        };
        let all: Vec<usize> = (0..over.len()).collect();
        // The bootstrap: what the ratio would have been had other stretches of rounds been drawn; single rounds would
        // not do, as one is like the next.
        let stretches: Vec<&[usize]> = all.chunks(self.stretch).collect();
        let mut draw = || -> Vec<usize> {
            stretches.iter().flat_map(|_| stretches[random.below(stretches.len())]).copied().collect()
        };
        let drawn: Vec<f64> = (0..300).map(|_| ratio(&draw())).collect();
        let own: Vec<f64> =
            all.iter().map(|&round| (over[round] - base[round]) / (under[round] - base[round])).collect();
        let (low, high) = (quantile(&drawn, 0.05), quantile(&drawn, 0.95));
        let bar = bar(of, to).map_or_else(String::new, |bar| format!("   (bar {bar})"));
        let pair = format!("{of} / {to}");
        Some(format!("  {pair:<46} {:>5.2}  [{low:.2}, {high:.2}]  {:>5.2}{bar}", ratio(&all), median(&own)))
    }
}

/// What hupwrap wants to be no slower than.
fn bar(of: &str, to: &str) -> Option<f64> {
    match (of, to) {
        (STATIC, FLOOR_STATIC) => Some(1.25),
        _ => hup::bar(of, to),
    }
}

fn quantile(values: &[f64], at: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let nth = (last as f64 * at).round() as usize;
    *values.to_vec().select_nth_unstable_by(nth, f64::total_cmp).1
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn spread(values: &[f64]) -> String {
    format!("{:.0}-{:.0}", quantile(values, 0.1), quantile(values, 0.9))
}

/// The first column to the left, the others to the right.
fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |at: usize| rows.iter().map(|row| row[at].len()).chain([head[at].len()]).max().unwrap();
    let line = |cells: &[&str]| {
        let mut text = format!("  {:<1$}", cells[0], width(0));
        for (at, cell) in cells.iter().enumerate().skip(1) {
            text += &format!("  {cell:>0$}", width(at));
        }
        println!("{}", text.trim_end());
    };
    line(head);
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Xorshift: the order of a round needs to be no more random than this.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            let other = self.below(last + 1);
            order.swap(last, other);
        }
    }
}
