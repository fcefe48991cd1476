//! The table `replace`: what `wrk` gets from a server that is replaced once a second, and from the same one left alone.
//!
//! The server is benches/replace-server.c. It loses no request when it is told to end, so whatever is lost was lost by
//! the supervisor.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::hup::{Scratch, start_tethered};
use super::*;

const SERVER_SOURCE: &str = include_str!("replace-server.c");
const WRK: &str = "wrk";
const CONNECTIONS: &str = "8";
/// Between two HUPs, and half of it before the first.
const PERIOD: Duration = Duration::from_secs(1);
/// Each of them with HUPs and without.
const TURNS: usize = 5;

struct Replacer {
    name: &'static str,
    program: PathBuf,
    /// An address takes the place of `{}`.
    args: &'static [&'static str],
}

/// What `wrk` says of one run.
#[derive(Default)]
struct Run {
    requests: f64,
    seconds: f64,
    /// Milliseconds; the 99th of 100, and the slowest.
    p99: f64,
    slowest: f64,
    /// To connect, read and write, those that took two seconds, and answers of other kinds.
    failed: [u64; 5],
}

impl Bench {
    pub(super) fn replace(&mut self) {
        let Some(wrk) = find(WRK, &[]) else { return println!("\nreplace: skipped, {WRK} is not installed") };
        let scratch = match Scratch::new("replace") {
            Ok(scratch) => scratch,
            Err(why) => return self.failures.push(format!("replace: {why}")),
        };
        let server = scratch.0.join("server");
        if let Err(why) = compile(SERVER_SOURCE, &server, &[]) {
            return println!("\nreplace: skipped, {why}");
        }
        println!();
        let mut replacers = self.replacers();
        let seconds = number("REPLACE_SECONDS", 2) as u64;
        let mut runs: Vec<[Vec<Run>; 2]> = replacers.iter().map(|_| Default::default()).collect();
        let mut replaced = vec![(0, 0); replacers.len()];
        for turn in 0..TURNS {
            let mut order: Vec<usize> = (0..replacers.len()).collect();
            self.random.shuffle(&mut order);
            for which in order {
                for hups in [turn % 2 == 0, turn % 2 != 0] {
                    let Some(replacer) = &replacers[which] else { continue };
                    match run(replacer, &server, &wrk, seconds, hups) {
                        Ok((run, asked, generations)) => {
                            runs[which][usize::from(hups)].push(run);
                            replaced[which].0 += asked;
                            replaced[which].1 += generations - 1;
                        }
                        Err(why) => {
                            self.failures.push(format!("replace: {}: {why}", replacer.name));
                            replacers[which] = None;
                        }
                    }
                }
            }
        }

        println!(
            "\nreplace: what {WRK} with {CONNECTIONS} connections gets in {TURNS} x {seconds} s, with a HUP once a second"
        );
        let mut rows = Vec::new();
        for ((replacer, [quiet, busy]), (asked, replaced)) in replacers.iter().flatten().zip(&runs).zip(replaced) {
            let rate = |runs: &[Run]| runs.iter().map(|run| run.requests / run.seconds).collect::<Vec<_>>();
            let kept = median(&rate(busy)) / median(&rate(quiet));
            let of = |figure: fn(&Run) -> f64| median(&busy.iter().map(figure).collect::<Vec<_>>());
            let failed = |runs: &[Run], at: usize| runs.iter().map(|run| run.failed[at]).sum::<u64>();
            let mut row = vec![replacer.name.to_string(), asked.to_string(), replaced.to_string()];
            row.push(format!("{:.0}", busy.iter().map(|run| run.requests).sum::<f64>()));
            row.extend((0..5).map(|at| failed(busy, at).to_string()));
            row.push((0..5).map(|at| failed(quiet, at)).sum::<u64>().to_string());
            row.push(format!("{kept:.2}"));
            row.push(format!("{:.2}", of(|run| run.p99)));
            row.push(format!("{:.1}", of(|run| run.slowest)));
            rows.push(row);
        }
        let head = [
            "", "HUPs", "replaced", "requests", "connect", "read", "write", "timeout", "status", "quiet", "/quiet",
            "p99", "slowest",
        ];
        print_table(&head, &rows);
        println!(
            "connect to status: requests that failed, quiet: those without HUPs; /quiet: requests per second over those"
        );
        println!("without HUPs; p99 and slowest: medians of the runs, in milliseconds");
    }

    /// The server is ready when it listens, of which start_server hears nothing: it takes it to be so after its
    /// interval.
    fn replacers(&self) -> Vec<Option<Replacer>> {
        let mut found = Vec::new();
        match find("start_server", &[]) {
            Some(program) => {
                let args = &["--interval=0", "--port={}", "--"];
                found.push(Some(Replacer { name: "start_server, 0 s", program: program.clone(), args }));
                found.push(Some(Replacer { name: "start_server, 1 s", program, args: &["--port={}", "--"] }));
            }
            None => println!("start_server: not installed"),
        }
        for contender in self.contenders.iter().filter(|one| one.is(RELEASE) || one.is(STATIC)) {
            let args = &["--listen", "tcp:{}", "--on-hup", "replace", "--ready", "notify", "--"];
            found.push(Some(Replacer { name: contender.name, program: contender.file.clone(), args }));
        }
        found
    }
}

/// One run of wrk, how many HUPs there were in it, and which generation answers when it is over.
fn run(
    replacer: &Replacer,
    server: &Path,
    wrk: &Path,
    seconds: u64,
    hups: bool,
) -> Result<(Run, usize, usize), String> {
    let said = |error: std::io::Error| error.to_string();
    // Free a moment ago, and of those that are not given out soon again.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).map_err(said)?;
    let address = free.to_string();
    let mut command = Command::new(&replacer.program);
    command.args(replacer.args.iter().map(|arg| arg.replace("{}", &address))).arg(server);
    command.env_clear().env("PATH", CHILD_PATH);
    let mut supervisor = Supervisor(start_tethered(&mut command).map_err(said)?);
    let due = Instant::now() + PATIENCE;
    while let Err(why) = generation(&address) {
        if let Some(status) = supervisor.0.try_wait().map_err(said)? {
            return Err(format!("ended with {status}"));
        }
        if Instant::now() > due {
            return Err(format!("serves nobody after {} s: {why}", PATIENCE.as_secs()));
        }
        sleep(Duration::from_millis(1));
    }

    let mut command = Command::new(wrk);
    command.args(["--threads=1", "--latency", &format!("--connections={CONNECTIONS}")]);
    command.args([format!("--duration={seconds}"), format!("http://{address}/")]);
    // What it says fits into the pipe.
    let mut wrk = Supervisor(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(said)?);
    let begun = Instant::now();
    let mut asked = 0;
    while wrk.0.try_wait().map_err(said)?.is_none() {
        if hups && begun.elapsed() > PERIOD / 2 + PERIOD * asked {
            kill(supervisor.pid(), Signal::SIGHUP).map_err(|error| error.to_string())?;
            asked += 1;
        }
        if begun.elapsed() > Duration::from_secs(seconds) + PATIENCE {
            return Err(format!("{WRK} did not end"));
        }
        // The bench is not to take the server's time.
        sleep(Duration::from_millis(20));
    }
    let mut text = String::new();
    wrk.0.stdout.take().unwrap().read_to_string(&mut text).map_err(said)?;
    let run = parse(&text).ok_or_else(|| format!("{WRK} says:\n{text}"))?;
    let last = generation(&address)?;
    supervisor.stop()?;
    if generation(&address).is_ok() {
        return Err("left its server behind".to_string());
    }
    Ok((run, asked as usize, last))
}

/// Which one answers, by its own account.
fn generation(address: &str) -> Result<usize, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut socket = TcpStream::connect(address).map_err(said)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").map_err(said)?;
    let mut answer = [0; 200];
    let length = socket.read(&mut answer).map_err(said)?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    let number = answer.split("\r\n\r\n").nth(1).and_then(|body| body.parse().ok());
    number.ok_or_else(|| format!("answered {answer:?}"))
}

fn parse(text: &str) -> Option<Run> {
    let mut run = Run::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["Latency", _, _, slowest, _] => run.slowest = milliseconds(slowest)?,
            ["99%", p99] => run.p99 = milliseconds(p99)?,
            [requests, "requests", "in", duration, ..] => {
                run.requests = requests.parse().ok()?;
                run.seconds = milliseconds(duration)? / 1000.0;
            }
            ["Socket", "errors:", "connect", connect, "read", read, "write", write, "timeout", timeout] => {
                for (at, count) in [connect, read, write, timeout].iter().enumerate() {
                    run.failed[at] = count.parse().ok()?;
                }
            }
            ["Non-2xx", "or", "3xx", "responses:", count] => run.failed[4] = count.parse().ok()?,
            _ => {}
        }
    }
    (run.requests > 0.0 && run.seconds > 0.0).then_some(run)
}

fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    let (number, unit) = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

/// A process that is not left behind.
struct Supervisor(Child);

impl Supervisor {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32)
    }

    fn stop(&mut self) -> Result<(), String> {
        kill(self.pid(), Signal::SIGTERM).map_err(|error| error.to_string())?;
        let due = Instant::now() + PATIENCE;
        while self.0.try_wait().map_err(|error| error.to_string())?.is_none() {
            if Instant::now() > due {
                return Err(format!("did not stop within {} s", PATIENCE.as_secs()));
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
