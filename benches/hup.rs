//! The table `hup`: from asking a supervisor for a restart until the first instruction of the new child.
//!
//! Each is asked as directly as it can be: by kill(2), or by what its client would write, so that no client's start is
//! counted. The child is benches/hup-child.c, which ends at once when it is told to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const CHILD_SOURCE: &str = include_str!("hup-child.c");
const FLOOR_SOURCE: &str = include_str!("hup-floor.c");

/// runsv and s6-supervise let a second pass between two starts, s6-supervise after the end of a child that was not
/// ready for that long. The second is over when they are asked, and would otherwise be what is measured. It is waited
/// for with all alike, since what was idle for longer is slower.
const LIFE: Duration = Duration::from_millis(1050);
/// Of each contender, taking turns: a thousand rounds would take as many times longer with one.
const INSTANCES: usize = 16;
/// Between two restarts, so that what the one before has still to do is done.
const SETTLE: Duration = Duration::from_millis(2);
/// supervisord may take a second, and then that second is all there is to see.
const SELDOM: usize = 20;

const FLOOR: &str = "floor restart";
const FLOOR_REEXEC: &str = "floor reexec";
const S6: &str = "s6-supervise";
const RUNSV: &str = "runsv";
const SUPERVISORD: &str = "supervisord";
const START_SERVER: &str = "start_server";
const RESTART: &str = "hupwrap restart";
const REEXEC: &str = "hupwrap reexec";
const STATIC_RESTART: &str = "hupwrap-static restart";
const STATIC_REEXEC: &str = "hupwrap-static reexec";

/// Stop, then start, in one request: `supervisorctl restart` makes two.
const RPC: &str = "<?xml version=\"1.0\"?><methodCall><methodName>system.multicall</methodName><params><param><value>\
    <array><data><value><struct><member><name>methodName</name><value><string>supervisor.stopProcess</string></value>\
    </member><member><name>params</name><value><array><data><value><string>run</string></value></data></array></value>\
    </member></struct></value><value><struct><member><name>methodName</name><value><string>supervisor.startProcess\
    </string></value></member><member><name>params</name><value><array><data><value><string>run</string></value></data>\
    </array></value></member></struct></value></data></array></value></param></params></methodCall>";
/// With `startsecs=0` a start is over when the process is there.
const SUPERVISORD_CONF: &str = "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=pid\n\
    [unix_http_server]\nfile=%(here)s/sock\n\
    [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
    [program:run]\ncommand=./run\nstartsecs=0\nstdout_logfile=NONE\nstderr_logfile=NONE\n";

/// How a restart is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Hup,
    /// A letter to `supervise/control`: what `s6-svc -r` and `sv term` do.
    Letter(u8),
    Rpc,
}

struct Restarter {
    name: &'static str,
    program: PathBuf,
    args: &'static [&'static str],
    ask: Ask,
    /// Takes part in each round, or in each so manieth.
    every: usize,
}

impl Bench {
    pub(super) fn hup(&mut self) {
        let scratch = match Scratch::new("hup") {
            Ok(scratch) => scratch,
            Err(why) => return self.failures.push(format!("hup: {why}")),
        };
        let child = scratch.0.join("child");
        if let Err(why) = compile(CHILD_SOURCE, &child, &["-static", "-nostdlib"]) {
            return println!("\nhup: skipped, {why}");
        }
        println!();
        let restarters = self.restarters(&scratch.0);
        let mut instances: Vec<Vec<Instance>> = Vec::new();
        for one in &restarters {
            let count = if one.every == 1 { INSTANCES } else { 1 };
            match (0..count).map(|nth| Instance::start(one, &scratch.0, nth, &child)).collect() {
                Ok(started) => instances.push(started),
                Err(why) => return self.failures.push(format!("hup: {}: {why}", one.name)),
            }
        }

        let mut times: Vec<Vec<f64>> = vec![Vec::new(); restarters.len()];
        let mut order: Vec<usize> = (0..restarters.len()).collect();
        for round in 0..INSTANCES + self.rounds {
            self.random.shuffle(&mut order);
            for &which in order.iter().filter(|which| round % restarters[**which].every == 0) {
                let turn = round % instances[which].len();
                match instances[which][turn].restart() {
                    Ok(micros) if round >= INSTANCES => times[which].push(micros),
                    Ok(_) => {}
                    Err(why) => return self.failures.push(format!("hup: {}: {why}", restarters[which].name)),
                }
            }
        }
        for (one, mut instances) in restarters.iter().zip(instances) {
            instances.iter().for_each(Instance::stop);
            if let Some(why) = instances.iter_mut().find_map(|instance| instance.finish().err()) {
                self.failures.push(format!("hup: {}: {why}", one.name));
            }
        }

        let names = restarters.iter().map(|one| one.name).collect();
        self.print_hup(&Samples { names, times, stretch: INSTANCES });
    }

    fn print_hup(&mut self, samples: &Samples) {
        println!(
            "\nhup: from asking for a restart until the first instruction of the new child, {} rounds (microseconds)",
            self.rounds
        );
        let mut rows = Vec::new();
        for (name, times) in samples.names.iter().zip(&samples.times) {
            let mut row = vec![(*name).to_string(), format!("{:.0}", median(times)), spread(times)];
            row.push(format!("{:.0}", quantile(times, 0.99)));
            for to in [FLOOR, S6, RUNSV] {
                row.push(samples.of(to).map_or_else(String::new, |to| format!("{:.2}", median(times) / median(to))));
            }
            rows.push(row);
        }
        print_table(&["", "median", "p10-p90", "p99", "/floor", "/s6", "/runsv"], &rows);
        println!("asked by kill -HUP; {S6} by `r` and {RUNSV} by `t` to their control fifo");
        println!("{S6}: with notification-fd; without, it waits for a second before each start");
        println!("{START_SERVER} --interval=0: starts the new child first, then tells the old one");
        println!("{SUPERVISORD}: stop and start in one XML-RPC request; one round in {SELDOM}");
        let pairs = [
            (RESTART, FLOOR),
            (RESTART, S6),
            (RESTART, RUNSV),
            (REEXEC, RESTART),
            (REEXEC, FLOOR_REEXEC),
            (STATIC_RESTART, FLOOR),
            (STATIC_RESTART, S6),
            (STATIC_RESTART, RUNSV),
            (STATIC_REEXEC, STATIC_RESTART),
            (STATIC_REEXEC, FLOOR_REEXEC),
            (FLOOR_REEXEC, FLOOR),
        ];
        samples.print_ratios("whole", None, &pairs, &mut self.random);
    }

    fn restarters(&self, scratch: &Path) -> Vec<Restarter> {
        let mut found = Vec::new();
        let mut add = |name, program, args, ask, every| {
            found.push(Restarter { name, program, args, ask, every });
        };
        let floor = scratch.join("floor");
        match compile(FLOOR_SOURCE, &floor, &["-static"]) {
            Ok(()) => {
                add(FLOOR, floor.clone(), &["./run"], Ask::Hup, 1);
                add(FLOOR_REEXEC, floor, &["-e", "./run"], Ask::Hup, 1);
            }
            Err(why) => println!("{FLOOR}: skipped, {why}"),
        }
        type Args = &'static [&'static str];
        let installed: [(&'static str, Args, Ask, usize); 4] = [
            (S6, &["."], Ask::Letter(b'r'), 1),
            (RUNSV, &["."], Ask::Letter(b't'), 1),
            (SUPERVISORD, &["-c", "conf"], Ask::Rpc, SELDOM),
            (START_SERVER, &["--interval=0", "--", "./run"], Ask::Hup, 1),
        ];
        for (name, args, ask, every) in installed {
            match find(name, &[]) {
                // Scripts are as they are; of programs each is a copy with the same past.
                Some(path) if every == 1 && name != START_SERVER => match fresh_copy(name, &path) {
                    Ok(copy) => add(name, copy, args, ask, every),
                    Err(error) => println!("{name}: skipped, {error}"),
                },
                Some(path) => add(name, path, args, ask, every),
                None => println!("{name}: not installed"),
            }
        }
        for contender in &self.contenders {
            let (restart, reexec) = match contender.name {
                RELEASE => (RESTART, REEXEC),
                STATIC => (STATIC_RESTART, STATIC_REEXEC),
                _ => continue,
            };
            add(restart, contender.file.clone(), &["--", "./run"], Ask::Hup, 1);
            add(reexec, contender.file.clone(), &["--on-hup", "reexec", "--", "./run"], Ask::Hup, 1);
        }
        found
    }
}

pub(super) fn bar(of: &str, to: &str) -> Option<f64> {
    match (of, to) {
        (REEXEC, RESTART) | (STATIC_REEXEC, STATIC_RESTART) => Some(2.0),
        (RESTART | STATIC_RESTART, FLOOR) => Some(1.5),
        (RESTART | STATIC_RESTART, S6 | RUNSV) => Some(1.0),
        _ => None,
    }
}

/// A directory that goes when the table is done, and whatever an earlier run had to leave there before it.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Result<Self, String> {
        let path = target_dir().join("tmp").join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A supervisor with its child, in a directory of its own.
struct Instance {
    dir: PathBuf,
    ask: Ask,
    supervisor: Child,
    /// Where the child tells of itself. The bench alone has it open for reading: without the bench it is of no use to
    /// anyone, and the child ends.
    out: File,
    child: Pid,
    began: Instant,
}

impl Instance {
    fn start(restarter: &Restarter, scratch: &Path, nth: usize, child: &Path) -> Result<Self, String> {
        let said = |error: std::io::Error| error.to_string();
        let dir = scratch.join(format!("{}-{nth}", restarter.name.replace(' ', "-")));
        fs::create_dir(&dir).map_err(said)?;
        fs::hard_link(child, dir.join("run")).map_err(said)?;
        match restarter.name {
            SUPERVISORD => fs::write(dir.join("conf"), SUPERVISORD_CONF).map_err(said)?,
            S6 => fs::write(dir.join("notification-fd"), "3").map_err(said)?,
            _ => {}
        }
        let out = dir.join("out");
        mkfifo(&out, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| error.to_string())?;
        let out = File::options().read(true).write(true).open(out).map_err(said)?;
        let mut command = Command::new(&restarter.program);
        command.args(restarter.args).current_dir(&dir).env_clear().env("PATH", CHILD_PATH);
        let supervisor = start_tethered(&mut command).map_err(said)?;
        let child = Pid::from_raw(0);
        let mut instance = Self { dir, ask: restarter.ask, supervisor, out, child, began: Instant::now() };
        instance.read()?;
        Ok(instance)
    }

    /// When the child began, on the monotonic clock; there is another one from now on.
    fn read(&mut self) -> Result<u64, String> {
        let patience = PollTimeout::try_from(PATIENCE).unwrap();
        let mut fds = [PollFd::new(self.out.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, patience).map_err(|error| error.to_string())? == 0 {
            return Err(format!("no child within {} s", PATIENCE.as_secs()));
        }
        let mut bytes = [0; 16];
        self.out.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        let (began, pid) = bytes.split_at(8);
        self.began = Instant::now();
        self.child = Pid::from_raw(u64::from_ne_bytes(pid.try_into().unwrap()) as i32);
        Ok(u64::from_ne_bytes(began.try_into().unwrap()))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.supervisor.id() as i32)
    }

    /// Microseconds from asking until the new child began.
    fn restart(&mut self) -> Result<f64, String> {
        let said = |error: std::io::Error| error.to_string();
        sleep(LIFE.saturating_sub(self.began.elapsed()).max(SETTLE));
        let (asked, began);
        match self.ask {
            Ask::Hup => {
                asked = monotonic();
                kill(self.pid(), Signal::SIGHUP).map_err(|error| error.to_string())?;
                began = self.read()?;
            }
            Ask::Letter(letter) => {
                let mut control = File::options().write(true).open(self.dir.join("supervise/control")).map_err(said)?;
                asked = monotonic();
                control.write_all(&[letter]).map_err(said)?;
                began = self.read()?;
            }
            Ask::Rpc => {
                let mut socket = UnixStream::connect(self.dir.join("sock")).map_err(said)?;
                let head = format!("POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {}", RPC.len());
                let request = format!("{head}\r\n\r\n{RPC}");
                asked = monotonic();
                socket.write_all(request.as_bytes()).map_err(said)?;
                began = self.read()?;
                let mut answer = String::new();
                socket.read_to_string(&mut answer).map_err(said)?;
                if answer.matches("<boolean>1</boolean>").count() != 2 {
                    return Err(format!("answered {answer}"));
                }
            }
        }
        Ok(began.saturating_sub(asked) as f64 / 1000.0)
    }

    fn stop(&self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
    }

    /// It was told to stop. Has it, and its child?
    fn finish(&mut self) -> Result<(), String> {
        let due = Instant::now() + PATIENCE;
        while self.supervisor.try_wait().map_err(|error| error.to_string())?.is_none() {
            if Instant::now() > due {
                return Err(format!("did not stop within {} s", PATIENCE.as_secs()));
            }
            sleep(Duration::from_millis(1));
        }
        if kill(self.child, None).is_ok() { Err("left its child behind".to_string()) } else { Ok(()) }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Ok(None) = self.supervisor.try_wait() {
            let _ = self.supervisor.kill();
            let _ = self.supervisor.wait();
        }
    }
}

/// Starts what is killed when the bench ends, however that comes about.
pub(super) fn start_tethered(command: &mut Command) -> std::io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: one system call, which takes no pointer.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command.spawn()
}
