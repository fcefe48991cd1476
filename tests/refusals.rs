//! Every system call fails in turn: whole lives under strace(1), which has one call fail in each. See
//! docs/RELIABILITY.md, whose tables say which calls and how.
//!
//! `HUPWRAP_REFUSALS` says how much is tried: nothing of it is a sample, `ci` or `ci:SEED` takes minutes, `all` or
//! `all:CALL` takes an hour or two, and `LIFE CALL:error=ERRNO:when=NUMBER` is one run, with everything that was seen.

mod scene;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;

use self::scene::{CHILD_STATUS, Fault, Scene, Seen, Stage, Usual, at};
use self::trace::Call;
use crate::support::*;

/// What a life is led with: the fault, and how it looks without one.
type Live = fn(Option<&Fault>, Option<&Usual>) -> Seen;

/// Lives, and how each is led.
const LIVES: [(&str, Live); 11] = [
    ("service", service),
    ("family", family),
    ("connection", connection),
    ("pipe", pipe),
    ("terminal", terminal),
    ("commands", commands),
    ("child", child),
    ("reload", ask_to_reload),
    ("stop", ask_to_stop),
    ("status", ask_for_status),
    ("wait-ready", ask_whether_ready),
];

/// A puppet that ends with its own status.
fn the_puppet(words: &[&str]) -> Vec<OsString> {
    let words = words.iter().map(OsString::from);
    [puppet().into(), OsString::from("exit=TERM:7")].into_iter().chain(words).collect()
}

/// Everything that a service does in its life.
fn service(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let stage = Stage { options: &OPTIONS_OF_A_SERVICE, command: the_puppet(&["notify"]), ..Stage::default() };
    let mut scene = Scene::begin(&stage, fault);
    scene.serves();
    scene.forward("USR1");
    for (signal, what) in [
        ("HUP", "restart"),
        ("USR2", "replace"),
        ("RTMIN", "reexec"),
        ("RTMIN+1", "upgrade"),
        ("RTMIN+2", "upgrade+replace"),
    ] {
        scene.request(what, |scene| scene.send(signal));
        scene.serves();
    }
    scene.request("a change", |scene| fs::write(at(scene, "watched"), "two, and longer").expect("a file"));
    scene.serves();
    scene.forward("USR1");
    scene.rests();
    scene.stop(fault, usual)
}

const OPTIONS_OF_A_SERVICE: [&str; 29] = [
    "-v",
    "--pidfile",
    "{}/pidfile",
    "--status-file",
    "{}/status.json",
    "--listen",
    "unix:{}/socket",
    "--listen",
    "tcp:127.0.0.1:0",
    "--ready",
    "notify",
    "--ready-timeout",
    "8",
    "--env-file",
    "{}/env",
    "--workdir",
    "{}/work",
    "--watch",
    "{}/watched",
    "--check",
    "true",
    "--on",
    "USR2=replace",
    "--on",
    "RTMIN=reexec",
    "--on",
    "RTMIN+1=upgrade",
    "--on",
    "RTMIN+2=upgrade+replace",
];

/// A child with a family: one that leaves the session, and one that must be killed. Files disappear.
fn family(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let options = [
        "-v",
        "--status-file",
        "{}/status.json",
        "--pidfile",
        "{}/pidfile",
        "--listen",
        "unix:{}/socket",
        "--stop-timeout",
        "2s",
        "--restart",
        "on-failure",
        "--restart-delay",
        "10ms",
        "--parent-death",
        "TERM",
    ];
    // The sleeps are children of no child of hupwrap's. One is obstinate once: the child that is stopped later has the
    // same time limit, and must keep it on a machine that stalls, too.
    let script = r#"setsid sh -c 'sleep 1000 & wait' &
        [ $HUPWRAP_GENERATION != 1 ] || { (trap '' TERM; sleep 1000 & wait) & }; exec "$0" "$@""#;
    let command = ["sh", "-c", script].into_iter().map(OsString::from).chain(the_puppet(&[])).collect();
    let mut scene = Scene::begin(&Stage { options: &options, command, ..Stage::default() }, fault);
    scene.serves();
    scene.forward("USR1");
    scene.dies();
    for file in ["socket", "pidfile", "status.json"] {
        let _ = fs::remove_file(at(&scene, file));
    }
    scene.request("restart", |scene| scene.send("HUP"));
    scene.serves();
    scene.rests();
    scene.stop(fault, usual)
}

/// Readiness by a connection to an address that has a name.
fn connection(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = format!("tcp:localhost:{}", listener.local_addr().expect("an address").port());
    let options = [
        "-v",
        "--status-file",
        "{}/status.json",
        "--listen",
        "tcp:localhost:0",
        "--ready",
        &address,
        "--ready-timeout",
        "8",
    ];
    let command = the_puppet(&[]);
    let mut scene = Scene::begin(&Stage { options: &options, command, ..Stage::default() }, fault);
    scene.serves();
    scene.request("restart", |scene| scene.send("HUP"));
    scene.serves();
    scene.forward("USR1");
    scene.rests();
    scene.stop(fault, usual)
}

/// Readiness by a pipe.
fn pipe(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let options = ["-v", "--status-file", "{}/status.json", "--ready", "fd:7", "--ready-timeout", "8"];
    let command = ["sh", "-c", r#"echo >&7; exec "$0" "$@""#].into_iter().map(OsString::from);
    let command = command.chain(the_puppet(&[])).collect();
    let mut scene = Scene::begin(&Stage { options: &options, command, ..Stage::default() }, fault);
    scene.serves();
    scene.request("restart", |scene| scene.send("HUP"));
    scene.serves();
    scene.forward("USR1");
    scene.rests();
    scene.stop(fault, usual)
}

/// In the foreground of a terminal, with a child that shares its group.
fn terminal(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let options = ["-v", "--status-file", "{}/status.json", "--kill-mode", "group", "--on", "RTMIN=reexec"];
    let stage = Stage { options: &options, command: the_puppet(&[]), has_terminal: true, ..Stage::default() };
    let mut scene = Scene::begin(&stage, fault);
    scene.serves();
    scene.forward("USR1");
    scene.request("restart", |scene| scene.send("HUP"));
    scene.serves();
    scene.request("reexec", |scene| scene.send("RTMIN"));
    scene.serves();
    scene.rests();
    scene.stop(fault, usual)
}

/// Commands that find something out.
fn commands(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let options = [
        "-v",
        "--status-file",
        "{}/status.json",
        "--ready",
        "cmd:true",
        "--ready-timeout",
        "8",
        "--check",
        "true",
        "--group",
        "shared",
        "--on",
        "USR2=replace",
    ];
    let command = the_puppet(&[]);
    let mut scene = Scene::begin(&Stage { options: &options, command, ..Stage::default() }, fault);
    scene.serves();
    scene.request("restart", |scene| scene.send("HUP"));
    scene.serves();
    scene.request("replace", |scene| scene.send("USR2"));
    scene.serves();
    scene.forward("USR1");
    scene.rests();
    scene.stop(fault, usual)
}

/// The calls of a child between clone and exec, and of those that hupwrap makes there too, hupwrap's. Every child fails
/// as long as strace is there: first the probe of a re-exec, then the second child of a replace, then the one of a
/// restart.
fn child(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let options = [
        "-v",
        "--status-file",
        "{}/status.json",
        "--listen",
        "unix:{}/socket",
        "--workdir",
        "{}/work",
        "--ready",
        "exec",
        "--on",
        "USR2=replace",
        "--on",
        "RTMIN=reexec",
    ];
    let command = the_puppet(&[]);
    let stage = Stage { options: &options, command, is_attached: true, ..Stage::default() };
    let mut scene = Scene::begin(&stage, fault);
    scene.serves();
    let mut strace = scene.attach(fault);
    for (signal, what) in [("RTMIN", "reexec"), ("USR2", "replace"), ("HUP", "restart")] {
        scene.request(what, |scene| scene.send(signal));
    }
    // It has let go of everything if hupwrap has executed itself.
    if strace.lives() {
        strace.kill("INT");
    }
    strace.end();
    scene.serves();
    scene.request("restart", |scene| scene.send("HUP"));
    scene.serves();
    scene.forward("USR1");
    scene.rests();
    scene.stop(fault, usual)
}

/// A command that asks hupwrap something, and waits. Its calls are the ones that fail.
fn ask(form: &str, fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    let options = ["-v", "--status-file", "{}/status.json"];
    let stage = Stage { options: &options, command: the_puppet(&[]), is_attached: true, ..Stage::default() };
    let mut scene = Scene::begin(&stage, None);
    scene.serves();
    let wrong = scene.ask(form, fault);
    if form != "--stop" || scene.run.lives() {
        scene.rests();
    }
    let mut seen = scene.stop(fault, usual);
    if trace::injected(&seen.calls).is_none_or(|call| !call.is_loader) {
        seen.wrong.extend(wrong);
    }
    seen
}

fn ask_to_reload(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    ask("--reload", fault, usual)
}

fn ask_to_stop(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    ask("--stop", fault, usual)
}

fn ask_for_status(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    ask("--status", fault, usual)
}

fn ask_whether_ready(fault: Option<&Fault>, usual: Option<&Usual>) -> Seen {
    ask("--wait-ready", fault, usual)
}

/// The tables of docs/RELIABILITY.md: each call, and what it is answered with.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RELIABILITY.md");
    let text = fs::read_to_string(page).expect("the page");
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let section = text.split("\n## ").find(|section| section.starts_with("System calls")).expect("the section");
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        for call in quoted(cells[1]) {
            let answers = quoted(cells[2]).into_iter().map(|answer| match answer.parse::<i64>() {
                Ok(number) => format!("retval={number}"),
                Err(_) => format!("error={answer}"),
            });
            table.entry(call).or_default().extend(answers);
        }
    }
    table
}

/// What hupwrap can do nothing without, once it runs, or starts no child.
const NOT_REPLACED: [&str; 4] = ["clone", "pipe2", "read", "wait4"];

/// How much is tried.
#[derive(Debug)]
enum Extent {
    Sample,
    Some(u64),
    All(String),
    One(String),
}

fn extent() -> Extent {
    let said = std::env::var("HUPWRAP_REFUSALS").unwrap_or_default();
    let seed = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    match said.split_once(':').unwrap_or((&said, "")) {
        ("", _) => Extent::Sample,
        ("ci", number) => Extent::Some(number.parse().unwrap_or_else(|_| seed())),
        ("all", call) => Extent::All(call.to_owned()),
        _ => Extent::One(said),
    }
}

/// A generator that is good enough to choose with (splitmix64).
fn random(seed: &mut u64) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 33) as usize
}

/// The faults to try in a life that made these calls. `known`: the kinds of calls that earlier lives have made.
fn plan(calls: &[Call], extent: &Extent, known: &mut BTreeSet<String>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let old = known.clone();
    let is_new = |call: &&Call| !call.is_loader && !call.is_parent && !old.contains(call.kind());
    known.extend(calls.iter().filter(|call| !call.is_loader).map(|call| call.kind().to_owned()));
    for (number, (call, answers)) in table().into_iter().enumerate() {
        let own: Vec<&Call> = calls.iter().filter(|one| one.name == call).filter(is_new).collect();
        if own.is_empty() || answers.is_empty() {
            continue;
        }
        let fault = |answer: &String, when: String| Fault { call: call.clone(), answer: answer.clone(), when };
        let at = |index: usize| own[index].number.to_string();
        match extent {
            Extent::Sample => {
                let answer = answers.iter().nth(number % answers.len()).expect("one");
                faults.push(fault(answer, at(own.len() / 2)));
            }
            // The first, the last, or another one.
            Extent::Some(seed) => {
                let mut seed = *seed ^ ((number as u64) << 32);
                for answer in &answers {
                    let index = [0, own.len() - 1, random(&mut seed) % own.len()][random(&mut seed) % 3];
                    faults.push(fault(answer, at(index)));
                }
            }
            // Of those that are alike in one step of the life, the first and the last; and all, from the first on.
            Extent::All(only) if only.is_empty() || *only == call => {
                let mut kinds: BTreeMap<(usize, &str), (usize, usize)> = BTreeMap::new();
                for one in &own {
                    kinds.entry((one.step, one.kind())).or_insert((one.number, one.number)).1 = one.number;
                }
                let places: BTreeSet<usize> = kinds.into_values().flat_map(|(first, last)| [first, last]).collect();
                for answer in &answers {
                    faults.extend(places.iter().map(|place| fault(answer, place.to_string())));
                    // As a sandbox refuses it, where there is another way.
                    let is_refusal = ["error=EPERM", "error=ENOSYS"].contains(&&**answer);
                    if is_refusal && !NOT_REPLACED.contains(&&*call) {
                        faults.push(fault(answer, format!("{}+", own[0].number)));
                    }
                }
            }
            Extent::All(_) | Extent::One(_) => {}
        }
    }
    faults
}

fn say(line: &str) {
    // Past the capture of `cargo test`.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn each_call_fails_in_turn() {
    if installed("strace").is_none() {
        return skipped("refusals", "strace(1)");
    }
    let extent = extent();
    if let Extent::One(said) = &extent {
        let (life, fault) = said.split_once(' ').expect("LIFE CALL:ANSWER:when=NUMBER");
        let mut words = fault.split(':').map(str::to_owned);
        let mut next = || words.next().expect("CALL:ANSWER:when=NUMBER");
        let fault = Fault { call: next(), answer: next(), when: next().replace("when=", "") };
        let (_, live) = LIVES.into_iter().find(|(name, _)| *name == life).expect("a life");
        let usual = live(None, None).usual();
        let seen = live(Some(&fault), Some(&usual));
        let lines: Vec<&str> = seen.calls.iter().map(|call| &*call.line).collect();
        say(&format!("{}\n{}\n{}", lines.join("\n"), seen.stdout, seen.stderr));
        assert!(seen.wrong.is_empty(), "status {}: {:#?}", seen.status, seen.wrong);
        return;
    }
    let mut runs = Vec::new();
    let known = table();
    let (mut usuals, mut kinds) = (BTreeMap::new(), BTreeSet::new());
    for (name, live) in LIVES {
        let seen = live(None, None);
        assert!(
            seen.wrong.is_empty() && seen.status == CHILD_STATUS,
            "{name}: {:#?}\n{}\n{}",
            seen.wrong,
            seen.stdout,
            seen.stderr
        );
        let usual = seen.usual();
        let made: BTreeSet<&String> =
            usual.calls.iter().filter(|call| !call.is_loader).map(|call| &call.name).collect();
        let missing: Vec<_> = made.into_iter().filter(|call| !known.contains_key(*call)).collect();
        assert!(missing.is_empty(), "docs/RELIABILITY.md lacks: {missing:?}");
        runs.extend(plan(&usual.calls, &extent, &mut kinds).into_iter().map(|fault| (name, live, fault)));
        usuals.insert(name, usual);
    }
    if let Extent::Some(seed) = extent {
        say(&format!("refusals: seed {seed}"));
    }
    // In an order of no meaning: a part of them is a fair sample.
    let mut seed = 0;
    runs.sort_by_cached_key(|_| random(&mut seed));
    let total = runs.len();
    if std::env::var_os("HUPWRAP_REFUSALS_COUNT").is_some() {
        say(&format!("{total}"));
        return;
    }
    let began = std::time::Instant::now();
    let queue = Mutex::new(runs.into_iter().enumerate());
    let failures = Mutex::new(Vec::new());
    let missed = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((number, (name, live, fault))) = queue.lock().expect("a lock").next() else { return };
                    let seen = live(Some(&fault), usuals.get(name));
                    let line = trace::injected(&seen.calls).map(|call| (call.is_loader, call.line.clone()));
                    if line.as_ref().is_none_or(|(is_loader, _)| *is_loader) {
                        *missed.lock().expect("a lock") += 1;
                    }
                    if !seen.wrong.is_empty() {
                        let text = format!(
                            "{name} {fault}: {:?} at {line:?}, status {}, stderr {:?}",
                            seen.wrong, seen.status, seen.stderr
                        );
                        say(&text);
                        failures.lock().expect("a lock").push(text);
                    }
                    if matches!(extent, Extent::All(_)) && number % 100 == 0 {
                        say(&format!("refusals: {number} of {total} after {:?}", began.elapsed()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("a lock");
    if !matches!(extent, Extent::Sample) {
        let missed = missed.into_inner().expect("a lock");
        say(&format!(
            "refusals: {total} runs in {:?}; in {missed} the call was the loader's or was not made",
            began.elapsed()
        ));
    }
    assert!(failures.is_empty(), "{} of {total} runs:\n{}", failures.len(), failures.join("\n"));
}
