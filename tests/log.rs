//! What hupwrap says of its work, to people and to programs, and what it does where nobody takes it.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use hupwrap::config::Level;
use hupwrap::text::events::EVENTS;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde_json::Value;

use crate::support::pty::Terminal;
use crate::support::*;

/// A life with everything in it: a restart that needs KILL, one that is refused, a crash, and one crash too many. With
/// `says_all`, a step is taken when hupwrap has said that the child is ready.
#[track_caller]
fn life(options: &[&str], says_all: bool) -> Ended {
    let dir = Dir::new();
    let ok = dir.file("ok", "", 0o600);
    let rules =
        ["--restart", "on-failure", "--restart-limit", "1", "--restart-delay", "10ms", "--stop-timeout", "100ms"];
    let puppet = puppet();
    let command = ["--check", "test -e ok", "--", puppet.to_str().unwrap(), "exit=USR2:3", "ignore=TERM"];
    let mut run = Setup::new([&rules, options, &command].concat()).dir(dir.path()).start();
    let comes = |run: &mut Run, times: usize| {
        let (generation, pid) = run.ready();
        assert_eq!(generation, u64::try_from(times).unwrap());
        if says_all {
            run.said_times(" is ready", times);
        }
        pid
    };
    comes(&mut run, 1);
    run.kill("HUP");
    let second = comes(&mut run, 2);
    fs::remove_file(ok).unwrap();
    run.kill("HUP");
    run.said("nothing was touched");
    kill(second, "USR2");
    let third = comes(&mut run, 3);
    kill(third, "USR2");
    run.end()
}

/// What is not the same in any two runs: pids become N, times T.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| match (word.split_once('['), word.trim_end_matches(';')) {
        (Some((name, rest)), _) => {
            format!("{name}[N]{}", rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ']'))
        }
        (None, time) if time.starts_with(|c: char| c.is_ascii_digit()) && time.ends_with(['s', 'm']) => {
            word.replace(time, "T")
        }
        _ => word.to_owned(),
    };
    text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect()
}

#[track_caller]
fn lines_are(ended: &Ended, wanted: &[&str]) {
    assert_eq!(shape(&ended.stderr), wanted, "{}", ended.stderr);
}

#[test]
fn what_people_are_told() {
    let ended = life(&[], false);
    assert_eq!(ended.shell(), 3);
    lines_are(
        &ended,
        &[
            "hupwrap: restarting puppet[N]",
            "hupwrap: puppet[N] did not end within T; sending KILL",
            "hupwrap: restart refused, nothing was touched: check 'test -e ok' ended with 1",
            "hupwrap: puppet[N] ended with 3 after T; starting it again in T (attempt 1)",
            "hupwrap: puppet[N] ended with 3; gave up on puppet after 1 restart in a row; see --restart-limit",
        ],
    );
}

#[test]
fn what_people_are_told_who_want_to_hear_all_of_it() {
    let ended = life(&["-v"], true);
    assert_eq!(ended.shell(), 3);
    lines_are(
        &ended,
        &[
            "hupwrap: puppet[N] started (generation 1)",
            "hupwrap: puppet[N] is ready",
            "hupwrap: got HUP",
            "hupwrap: restart requested",
            "hupwrap: restarting puppet[N]",
            "hupwrap: puppet[N] did not end within T; sending KILL",
            "hupwrap: puppet[N] was ended by KILL",
            "hupwrap: puppet[N] started (generation 2)",
            "hupwrap: puppet[N] is ready",
            "hupwrap: restart done",
            "hupwrap: got HUP",
            "hupwrap: restart requested",
            "hupwrap: restart refused, nothing was touched: check 'test -e ok' ended with 1",
            // Once, not twice.
            "hupwrap: puppet[N] ended with 3 after T; starting it again in T (attempt 1)",
            "hupwrap: puppet[N] started (generation 3)",
            "hupwrap: puppet[N] is ready",
            "hupwrap: puppet[N] ended with 3; gave up on puppet after 1 restart in a row; see --restart-limit",
        ],
    );
}

#[test]
fn what_people_are_told_who_want_to_hear_of_errors() {
    let ended = life(&["-q"], false);
    assert_eq!(ended.shell(), 3);
    lines_are(
        &ended,
        &[
            "hupwrap: restart refused, nothing was touched: check 'test -e ok' ended with 1",
            "hupwrap: puppet[N] ended with 3; gave up on puppet after 1 restart in a row; see --restart-limit",
        ],
    );
}

#[test]
fn nobody_hears_more_and_less() {
    for both in [["-q", "-v"], ["--verbose", "--quiet"]] {
        let ended = Setup::new([&both[..], &["--", "true"]].concat()).end();
        assert_eq!(ended.shell(), 125);
        assert_eq!(ended.stderr, "hupwrap: --quiet and --verbose: want one of them\n");
    }
}

#[test]
fn a_life_in_which_nothing_remarkable_happens_is_silent() {
    let mut run = Setup::new(args([&"--", &puppet()])).start();
    run.ready();
    run.kill("USR1");
    run.line("got USR1 ");
    assert_eq!(run.stop().stderr, "");
    assert_eq!(Setup::new(["--restart", "on-failure", "--", "true"]).end().stderr, "");
    assert_eq!(Setup::new(["--", "sh", "-c", "exit 3"]).end().stderr, "");
}

#[test]
fn a_start_is_said_when_it_is() {
    let mut run = Setup::new(args([&"-v", &"--", &puppet()])).start();
    let (_, pid) = run.ready();
    // Nothing else happens.
    run.said(&format!("hupwrap: puppet[{pid}] started (generation 1)\n"));
    run.kill("USR1");
    run.line("got USR1 ");
    let ended = run.stop();
    assert_eq!(
        ended.stderr,
        format!(
            "hupwrap: puppet[{pid}] started (generation 1)\nhupwrap: puppet[{pid}] is ready\nhupwrap: got USR1\n\
             hupwrap: got TERM\nhupwrap: stopping puppet, as TERM asks\nhupwrap: puppet[{pid}] ended with 0\n"
        )
    );
}

// JSON.

/// The objects, each of which has what the table of events says, in that order.
#[track_caller]
fn objects(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n') || text.is_empty(), "{text:?}");
    let object = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let kind = EVENTS.iter().find(|kind| kind.name == value["event"]).unwrap_or_else(|| panic!("{line}"));
        let level = match kind.level {
            Level::Error => "error",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        assert_eq!(value["level"], level);
        let time = value["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok(), "{time}");
        let keys: Vec<&str> =
            ["time", "level", "event"].iter().chain(kind.facts).chain(&["message"]).copied().collect();
        assert_eq!(value.as_object().unwrap().len(), keys.len(), "{line}");
        let mut rest = line;
        for key in keys {
            let (_, behind) = rest.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}: {line}"));
            rest = behind;
        }
        value
    };
    text.lines().map(object).collect()
}

fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["event"].as_str().unwrap()).collect()
}

/// Every line reaches a stderr that is a socket, the journal's for example, also before Linux 6.5: there RWF_NOWAIT
/// does not work with sockets.
#[test]
fn a_socket_gets_every_line() {
    let without = puppet().with_file_name("without");
    if !without.exists() {
        return skipped("log::a_socket_gets_every_line", "the program `without` of the tests");
    }
    let lines = |ours: &mut dyn FnMut(&mut [u8]) -> std::io::Result<usize>, theirs: OwnedFd| {
        let words = ["pwritev2:EOPNOTSUPP", "--", hupwrap().to_str().unwrap(), "-v", "--", "true"];
        let ended = Setup::of(&without, words).with(|command| _ = command.stderr(theirs)).end();
        assert_eq!(ended.shell(), 0);
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = ours(&mut piece) {
            text.extend_from_slice(&piece[..length]);
        }
        String::from_utf8(text).unwrap().lines().count()
    };
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    assert_eq!(lines(&mut |piece| ours.read(piece), theirs.into()), 3);
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    assert_eq!(lines(&mut |piece| ours.recv(piece), theirs.into()), 3);
}

/// What `jq` makes of it.
fn jq(test: &str, filter: &str, text: &str) -> Option<String> {
    let Some(jq) = installed("jq") else {
        skipped(test, "jq");
        return None;
    };
    let dir = Dir::new();
    let file = dir.file("log", text, 0o600);
    let output = Command::new(jq).args(["-r", filter]).arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_programs_are_told() {
    let ended = life(&["-v", "--log-format", "json"], true);
    assert_eq!(ended.shell(), 3);
    let objects = objects(&ended.stderr);
    let wanted = [
        "started",
        "ready",
        "signal",
        "requested",
        "restarting",
        "killing",
        "ended",
        "started",
        "ready",
        "settled",
        "signal",
        "requested",
        "refused",
        "ended",
        "restarting-later",
        "started",
        "ready",
        "ended",
        "gave-up",
    ];
    assert_eq!(names(&objects), wanted);
    let one = |name: &str| objects.iter().find(|object| object["event"] == name).unwrap();
    assert_eq!(one("signal")["signal"], "HUP");
    assert_eq!(one("killing")["timeout"], 0.1);
    assert_eq!(one("ended")["exit"], serde_json::json!({ "signal": "KILL" }));
    assert_eq!(one("refused")["reason"], "check 'test -e ok' ended with 1");
    let later = one("restarting-later");
    assert_eq!(later["exit"], serde_json::json!({ "code": 3 }));
    assert_eq!(later["attempt"], 1);
    assert!((0.01..=0.0125).contains(&later["delay"].as_f64().unwrap()), "{later}");
    assert!(later["ran"].as_f64().unwrap() > 0.0, "{later}");
    assert_eq!(one("gave-up")["restarts"], 1);
    let started: Vec<_> = objects.iter().filter(|object| object["event"] == "started").collect();
    assert_eq!(started.iter().map(|object| object["generation"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    for (object, line) in started.iter().zip(ended.stdout.lines().filter(|line| line.starts_with("ready "))) {
        assert_eq!(line, format!("ready {} {}", object["generation"], object["pid"]));
    }
    let filter = "select(.time | sub(\"\\\\.[0-9]+Z$\"; \"Z\") | fromdate > 0) | .event";
    if let Some(told) = jq("what programs are told", filter, &ended.stderr) {
        assert_eq!(told.lines().collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn programs_are_told_of_a_stop() {
    let words = args([&"-v", &"--log-format=json", &"--stop-timeout", &"100ms", &"--", &puppet(), &"ignore=TERM"]);
    let mut run = Setup::new(words).start();
    run.ready();
    run.said("is ready");
    let ended = run.stop();
    assert_eq!(ended.shell(), 137);
    assert_eq!(names(&objects(&ended.stderr)), ["started", "ready", "signal", "stopping", "killing", "ended"]);
}

#[test]
fn programs_are_told_why_nothing_was_begun() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp:127.0.0.1:{}", taken.local_addr().unwrap().port());
    let dir = Dir::new();
    let pidfile = dir.path().join("pid");
    let mut run = Setup::new(args([&"--pidfile", &pidfile, &"--", &puppet()])).start();
    run.ready();
    let json = "--log-format=json";
    for (options, part) in [
        (args([&json, &"--listen", &port, &"--", &"true"]), "--listen"),
        (args([&json, &"--pidfile", &pidfile, &"--", &"true"]), "--pidfile"),
        (args([&json, &"--status-file", &"/no/such/file", &"--", &"true"]), "--status-file"),
    ] {
        let ended = Setup::new(options).end();
        assert_eq!(ended.shell(), 125);
        let objects = objects(&ended.stderr);
        assert_eq!(names(&objects), ["error"]);
        assert!(objects[0]["message"].as_str().unwrap().starts_with(part), "{objects:?}");
    }
    let ended = Setup::new([json, "--", "/no/such/program"]).end();
    assert_eq!((ended.shell(), names(&objects(&ended.stderr))), (127, vec!["cannot-start"]));
    assert_eq!(run.stop().shell(), 0);
}

// How lines look.

const RED: &str = "\x1b[1;31mhupwrap:\x1b[0m /no/such: not found";
const PLAIN: &str = "hupwrap: /no/such: not found";

#[test]
fn colour_is_for_terminals() {
    let says = |vars: &[(&str, &str)], options: &[&str]| {
        let mut terminal = Terminal::new();
        let words = [options, &["--", "/no/such"]].concat();
        let setup = Setup::new(words).with(|command| {
            command.stderr(terminal.stdio()).env_remove("NO_COLOR").env_remove("TERM").envs(vars.iter().copied());
        });
        assert_eq!(setup.end().shell(), 127);
        terminal.line("")
    };
    let xterm = ("TERM", "xterm-256color");
    assert_eq!(says(&[xterm], &[]), RED);
    // no-color.org: "when present and not an empty string".
    assert_eq!(says(&[xterm, ("NO_COLOR", "")], &[]), RED);
    assert_eq!(says(&[xterm, ("NO_COLOR", "1")], &[]), PLAIN);
    assert_eq!(says(&[("TERM", "dumb")], &[]), PLAIN);
    assert_eq!(says(&[], &[]), PLAIN);
    assert_eq!(names(&objects(&format!("{}\n", says(&[xterm], &["--log-format", "json"])))), ["cannot-start"]);
    let piped = Setup::new(["--", "/no/such"]).env("TERM", "xterm").end();
    assert_eq!(piped.stderr, format!("{PLAIN}\n"));
}

#[test]
fn a_name_breaks_no_line() {
    let dir = Dir::new();
    let name = "pup\npet\r\u{1b}[31m\u{9b}m\t";
    symlink(puppet(), dir.path().join(name)).unwrap();
    let shown = "pup\\npet\\r\\u{1b}[31m\\u{9b}m\\t";
    for format in ["text", "json"] {
        let mut run = Setup::new(args([&"-v", &"--log-format", &format, &"--", &dir.path().join(name)])).start();
        run.ready();
        run.said("is ready");
        let ended = run.stop();
        assert_eq!(ended.stderr.lines().count(), 5, "{:?}", ended.stderr);
        if format == "text" {
            assert!(ended.stderr.lines().all(|line| line.starts_with("hupwrap: ")), "{:?}", ended.stderr);
            assert!(ended.stderr.contains(&format!("hupwrap: stopping {shown}, as TERM asks\n")), "{:?}", ended.stderr);
        } else {
            let objects = objects(&ended.stderr);
            assert_eq!(objects[3]["message"], format!("stopping {name}, as TERM asks"));
        }
    }
}

// A stderr that takes nothing.

/// A pipe of so many pages.
fn pipe_of(pages: usize) -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let size = i32::try_from(pages * 4096).unwrap();
    assert_eq!(fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size)), Ok(size));
    (reader, writer)
}

/// A life with that stderr: nothing in it waits for anything.
#[track_caller]
fn lives_on(what: &str, change: impl FnOnce(&mut Command)) {
    let mut run = Setup::new(args([&"-v", &"--", &puppet()])).with(change).start();
    assert_eq!(run.ready().0, 1, "{what}");
    run.kill("USR1");
    run.line("got USR1 ");
    run.kill("HUP");
    let (generation, pid) = run.ready();
    assert_eq!(generation, 2, "{what}");
    run.kill("USR2");
    run.line("got USR2 ");
    run.kill("TERM");
    let ended = run.end();
    assert_eq!(ended.shell(), 0, "{what}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{what}");
    // What hupwrap's writing does to hupwrap is not the child's matter.
    assert!(!ended.stdout.contains("got PIPE"), "{what}: {}", ended.stdout);
}

#[test]
fn a_stderr_that_takes_nothing_holds_nothing_up() {
    lives_on("closed", |command| {
        before_exec(command, || {
            // SAFETY: nothing of this process uses it any more.
            unsafe { libc::close(2) };
        });
    });
    lives_on("/dev/full", |command| {
        command.stderr(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    });
    lives_on("broken", |command| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stderr(writer);
    });
    lives_on("a socket that is broken", |command| {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(reader);
        command.stderr(Stdio::from(std::os::fd::OwnedFd::from(writer)));
    });
    let (reader, mut writer) = pipe_of(1);
    writer.write_all(&[b'x'; 4096]).unwrap();
    lives_on("a full pipe", |command| {
        command.stderr(writer);
    });
    drop(reader);
}

#[test]
fn ctrl_s_holds_nothing_up() {
    let mut terminal = Terminal::new();
    terminal.keys("\x13");
    wait_until("the terminal is stopped", || !terminal.takes_output());
    lives_on("Ctrl-S", |command| {
        command.stderr(terminal.stdio());
    });
    terminal.keys("\x11");
    wait_until("the terminal goes on", || terminal.takes_output());
    assert_eq!(
        Setup::new(["--", "/no/such"])
            .with(|command| {
                command.stderr(terminal.stdio()).env("TERM", "dumb");
            })
            .end()
            .shell(),
        127
    );
    // Nothing of what was said meanwhile, and all of what is said now.
    assert_eq!(terminal.line(""), PLAIN);
}

#[test]
fn a_pipe_that_nobody_reads_gets_whole_lines_or_none() {
    let (mut reader, writer) = pipe_of(2);
    let mut run = Setup::new(args([&"-v", &"--", &puppet()]))
        .with(|command| {
            command.stderr(writer.try_clone().unwrap());
        })
        .start();
    run.ready();
    // More than it holds.
    for _ in 0..600 {
        run.kill("USR1");
        run.line("got USR1 ");
    }
    let mut text = vec![0; 8192];
    let read = reader.read(&mut text).unwrap();
    let text = String::from_utf8(text[..read].to_vec()).unwrap();
    assert!(text.ends_with('\n') && (4096..8192).contains(&text.len()), "{}", text.len());
    let is_whole = |line: &str| line.starts_with("hupwrap: puppet[") || line == "hupwrap: got USR1";
    assert!(text.lines().all(is_whole), "{text:?}");
    // It is read, and lines come again.
    drop(writer);
    assert_eq!(run.stop().shell(), 0);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(
        shape(&rest),
        ["hupwrap: got TERM", "hupwrap: stopping puppet, as TERM asks", "hupwrap: puppet[N] ended with 0"]
    );
}

#[test]
fn a_long_line_is_cut_to_what_a_pipe_takes_at_once() {
    // One page is free, the line would be of two.
    let name = format!("/{}", "\u{1}".repeat(1500));
    for format in ["text", "json"] {
        let (mut reader, mut writer) = pipe_of(2);
        writer.write_all(&[b'\n'; 4096]).unwrap();
        let ended = Setup::new(["--log-format", format, "--", &name])
            .with(|command| {
                command.stderr(writer);
            })
            .end();
        assert!([126, 127].contains(&ended.shell()), "{ended:?}");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let line = text.trim_start();
        assert!(line.len() <= 4096 && line.ends_with('\n') && line.len() > 1000, "{}", line.len());
        if format == "json" {
            assert_eq!(names(&objects(line)), ["cannot-start"]);
        } else {
            assert!(
                line.starts_with("hupwrap: /\\u{1}") && line.ends_with(": cannot be executed: File name too long\n"),
                "{line}"
            );
        }
    }
}
