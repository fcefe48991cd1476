//! Restarting by itself: contract, section 7. The rules are tested with the machine; here real processes end.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::Value;

use crate::support::notify::Above;
use crate::support::pty::Terminal;
use crate::support::watched::{monotonic, status_where};
use crate::support::*;

/// No test waits that long: a test that goes on before has ended the wait itself.
const LONG: [&str; 4] = ["--restart-delay", "1h", "--restart-max-delay", "1h"];

/// A hupwrap that restarts on failure, with more options, and a command.
fn restarting(options: &[&str], command: &[&dyn AsRef<std::ffi::OsStr>]) -> Setup {
    let words = ["--restart", "on-failure"].iter().chain(options).chain(&["--"]).map(Into::into);
    Setup::new(words.chain(command.iter().map(|word| word.as_ref().to_owned())).collect::<Vec<_>>())
}

/// A puppet that ends with 3 by USR1, in a hupwrap that restarts it.
fn failing(options: &[&str]) -> Setup {
    restarting(options, &[&puppet(), &"exit=USR1:3"])
}

/// What was said of one kind, where it is said in JSON.
fn events(stderr: &str, kind: &str) -> Vec<Value> {
    let lines = stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.filter(|line| line["event"] == kind).collect()
}

fn delays(events: &[Value]) -> Vec<f64> {
    events.iter().map(|event| event["delay"].as_f64().expect("seconds")).collect()
}

#[test]
fn a_crash_loop_slows_down_and_is_given_up() {
    let script = "cut -d' ' -f1 /proc/uptime; exit $((HUPWRAP_GENERATION + 10))";
    let options = ["--restart-delay", "100ms", "--restart-limit", "3", "--log-format", "json"];
    let ended = restarting(&options, &[&"sh", &"-c", &script]).end();
    assert_eq!(ended.shell(), 14, "the last child's: {}", ended.stderr);
    let starts: Vec<f64> = ended.stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(starts.len(), 4, "{}", ended.stdout);
    let later = events(&ended.stderr, "restarting-later");
    let said = delays(&later);
    for (at, delay) in said.iter().enumerate() {
        let least = [0.1, 0.2, 0.4][at];
        // A quarter more at most.
        assert!((least..=least * 1.2501).contains(delay), "{said:?}");
        // The clock of /proc/uptime has ticks of 10 ms.
        assert!(starts[at + 1] - starts[at] >= delay - 0.011, "{starts:?}, {said:?}");
        assert_eq!((&later[at]["attempt"], &later[at]["exit"]["code"]), (&(at + 1).into(), &(at + 11).into()));
    }
    assert_eq!(said.len(), 3);
    assert_eq!(events(&ended.stderr, "gave-up").len(), 1);
    assert_eq!(ended.stderr.lines().count(), 4, "{}", ended.stderr);
}

#[test]
fn a_crash_loop_slows_down_to_the_longest_delay() {
    let options = ["--restart-delay", "2ms", "--restart-max-delay", "8ms", "--restart-limit", "8"];
    let ended = restarting(&[&options[..], &["--log-format", "json"]].concat(), &[&"false"]).end();
    assert_eq!(ended.shell(), 1);
    let said = delays(&events(&ended.stderr, "restarting-later"));
    assert_eq!(said.len(), 8);
    assert!(said[2..].iter().all(|delay| (0.008..=0.0101).contains(delay)), "{said:?}");
}

#[test]
fn giving_up_is_said_in_one_line() {
    let ended = restarting(&["--restart-delay", "1ms", "--restart-limit", "3/1h"], &[&"sh", &"-c", &"exit 7"]).end();
    assert_eq!((ended.shell(), ended.stderr.matches("gave up").count()), (7, 1), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("starting it again in").count(), 3, "{}", ended.stderr);
    let none = restarting(&["--restart-limit", "0"], &[&"sh", &"-c", &"exit 7"]).end();
    assert_eq!((none.shell(), none.stderr.lines().count()), (7, 1), "{}", none.stderr);
}

#[test]
fn a_child_that_ran_long_enough_starts_the_count_afresh() {
    for (reset, attempts) in [("50ms", [1, 1, 1]), ("1h", [1, 2, 3])] {
        let dir = Dir::new();
        let file = dir.path().join("status");
        let options = ["--restart-delay", "1ms", "--restart-reset", reset, "--log-format", "json", "--status-file"];
        let mut run = failing(&[&options[..], &[file.to_str().unwrap()]].concat()).start();
        for generation in 1..=3 {
            let (is, child) = run.ready();
            assert_eq!(is, generation);
            let status = status_where(&file, "it runs", |status| {
                status["generation"] == generation && status["child"]["ready"] == true
            });
            let since = status["child"]["since"].as_u64().unwrap();
            // The time is what is tested. Ready was a little later than its start.
            let ready = since.max(monotonic());
            wait_until("it ran for more than 50ms", || monotonic() >= ready + 51_000_000);
            kill(child, "USR1");
        }
        run.said_times("restarting-later", 3);
        let said: Vec<_> = events(&run.stderr(), "restarting-later").iter().map(|e| e["attempt"].clone()).collect();
        assert_eq!(said, attempts, "{reset}");
        run.stop();
    }
}

#[test]
fn always_is_after_success_too() {
    let options = ["--restart", "always", "--restart-delay", "5ms", "--restart-limit", "3", "--log-format", "json"];
    let ended = Setup::new(options.iter().chain(&["sh", "-c", "echo started"])).end();
    assert_eq!((ended.shell(), ended.stdout.lines().count()), (0, 4), "{}", ended.stderr);
    let said = delays(&events(&ended.stderr, "restarting-later"));
    assert!(said.len() == 3 && said[1] >= 0.01 && said[2] >= 0.02, "{said:?}");
}

#[test]
fn what_is_no_failure_is_final() {
    let quiet = |setup: Setup, status: i32| {
        let ended = setup.end();
        assert_eq!((ended.shell(), ended.stderr.as_str(), ended.stdout.as_str()), (status, "", "started\n"));
    };
    quiet(restarting(&[], &[&"sh", &"-c", &"echo started"]), 0);
    for (signal, status) in [("HUP", 129), ("INT", 130), ("PIPE", 141), ("TERM", 143)] {
        // hupwrap dies of it too.
        quiet(restarting(&[], &[&"sh", &"-c", &format!("echo started; kill -{signal} $$")]), status);
    }
}

#[test]
fn what_never_restarts_is_final() {
    let options = ["--restart-delay", "1ms", "--no-restart-on", "3,USR1"];
    let script =
        |first: &str, then: &str| format!("echo started; case $HUPWRAP_GENERATION in 1) {first};; *) {then};; esac");
    for (first, then, status) in [("exit 4", "exit 3", 3), ("kill -USR2 $$", "kill -USR1 $$", 138)] {
        let ended = restarting(&options, &[&"sh", &"-c", &script(first, then)]).end();
        assert_eq!((ended.shell(), ended.stdout.lines().count()), (status, 2), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_killed_child_has_failed() {
    let mut run = failing(&["--restart-delay", "1ms", "--restart-limit", "1"]).start();
    kill(run.ready().1, "KILL");
    run.said("was ended by KILL");
    kill(run.ready().1, "KILL");
    let ended = run.end();
    assert_eq!(ended.shell(), 137);
    assert_eq!(ended.stderr.matches("gave up").count(), 1, "{}", ended.stderr);
}

#[test]
fn a_child_that_is_not_ready_in_time_has_failed() {
    let options = ["--ready", "fd:3", "--ready-timeout", "100ms", "--restart-delay", "1ms", "--restart-limit", "2"];
    let mut run = restarting(&options, &[&puppet()]).start();
    // Not one of them has to come as far as this before it is stopped.
    run.said("gave up");
    assert!(!run.status().success());
    let stderr = run.stderr();
    assert_eq!(stderr.matches("was not ready within 100ms; stopping it").count(), 3, "{stderr}");
    assert_eq!(stderr.matches("was not ready in time").count(), 2, "{stderr}");
    assert_eq!(stderr.matches("gave up").count(), 1, "{stderr}");
}

// In the middle of a delay.

/// A hupwrap whose child failed, and whose delay is longer than any test.
#[track_caller]
fn waiting(options: &[&str]) -> Run {
    let mut run = failing(&[&LONG[..], options].concat()).start();
    kill(run.ready().1, "USR1");
    run.said("starting it again in 1h");
    run
}

#[test]
fn a_hang_up_starts_at_once() {
    for on_hup in ["restart", "replace"] {
        let mut run = waiting(&["--on-hup", on_hup]);
        run.kill("HUP");
        let (generation, child) = run.ready();
        assert_eq!(generation, 2, "{on_hup}");
        run.said("starting puppet again without a delay, as was asked\n");
        assert_eq!(children(run.pid), [child]);
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn a_stop_is_at_once_and_starts_nothing() {
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let run = waiting(&[]);
        assert!(children(run.pid).is_empty());
        run.kill(signal);
        let ended = run.end();
        assert_eq!((ended.shell(), ended.stdout.matches("ready").count()), (status, 1), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn what_is_forwarded_waits_for_the_next_child() {
    let run = waiting(&[]);
    run.kill("USR1");
    run.kill("HUP");
    // It ends the next child, too, by its handler or right after the exec.
    run.said_times("starting it again in 1h", 2);
    assert_eq!(run.stop().shell(), 143);
    // A stop forgets what is held.
    let run = waiting(&["-v"]);
    run.kill("USR1");
    run.said("got USR1");
    let ended = run.stop();
    assert_eq!(ended.shell(), 143);
    assert!(!ended.stderr.contains("not passed on"), "{}", ended.stderr);
}

#[test]
fn an_upgrade_keeps_the_delay_and_the_count() {
    let dir = Dir::new();
    let file = dir.path().join("status");
    let options = ["--on-hup", "upgrade", "--restart-delay", "8s", "--status-file", file.to_str().unwrap()];
    let mut run = failing(&options).start();
    let child = run.ready().1;
    let before = monotonic();
    kill(child, "USR1");
    run.said("(attempt 1)");
    for times in 1..=2 {
        run.kill("HUP");
        run.said_times("took over", times);
        let status = status_where(&file, "it waits on", |status| status["state"] != "checking");
        assert_eq!((&status["state"], &status["child"]), (&"waiting".into(), &Value::Null));
        assert_eq!(status["restarts"], serde_json::json!({ "asked": 0, "failed": 1 }));
        assert_eq!(status["last_exit"]["code"], 3);
    }
    let (generation, child) = run.ready();
    let began = status_where(&file, "it runs", |status| status["child"]["ready"] == true);
    assert_eq!((generation, &began["child"]["pid"]), (2, &child.into()));
    let after = began["child"]["since"].as_u64().unwrap() - before;
    assert!((8_000_000_000..60_000_000_000).contains(&after), "{after}");
    kill(child, "USR1");
    run.said("(attempt 2)");
    assert_eq!(run.stop().shell(), 143);
}

#[test]
fn ctrl_c_is_final() {
    let mut terminal = Terminal::new();
    let options = ["--restart", "always", "--restart-delay", "1ms"].map(String::from);
    let puppet = puppet().display().to_string();
    let setup = |word: &str| Setup::new(options.iter().cloned().chain([puppet.clone(), word.to_owned()]));
    for (word, status) in [("exit=INT:3", 3), ("exit=INT:0", 0), ("leave=INT", 130)] {
        let run = terminal.lead(setup(word)).start();
        terminal.ready();
        terminal.keys("\x03");
        assert_eq!(run.end().shell(), status, "{word}");
    }
    assert_eq!(terminal.count("ready "), 3, "{}", terminal.text());
    assert_eq!(terminal.count("hupwrap: "), 0, "{}", terminal.text());
}

#[test]
fn ctrl_c_in_a_delay_is_final() {
    let mut terminal = Terminal::new();
    let run = terminal.lead(failing(&LONG)).start();
    let (_, child) = terminal.ready();
    kill(child, "USR1");
    terminal.line("hupwrap: puppet");
    terminal.keys("\x03");
    assert_eq!(run.end().shell(), 130);
}

// A start that cannot be, now.

/// A program that is about to be replaced: a copy of the puppet.
fn copy(program: &Path) {
    assert!(Command::new("cp").arg("--").args([&puppet(), program]).status().unwrap().success());
}

#[test]
fn a_program_that_is_missing_for_a_moment_is_waited_for() {
    let dir = Dir::new();
    let program = dir.path().join("program");
    copy(&program);
    let mut run = restarting(&["--restart-delay", "1ms"], &[&program, &"exit=USR1:3"]).start();
    let (_, child) = run.ready();
    fs::remove_file(&program).unwrap();
    kill(child, "USR1");
    run.said_times("not found; trying again in", 2);
    // The next try may be under way.
    wait_until("nothing is left of it", || children(run.pid).is_empty());
    // As it should be done: put there by a rename.
    let draft = dir.path().join("draft");
    copy(&draft);
    fs::rename(&draft, &program).unwrap();
    assert!(run.ready().0 > 1);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_program_that_is_being_written_is_waited_for() {
    let dir = Dir::new();
    let program = dir.path().join("program");
    copy(&program);
    let other = dir.path().join("other");
    copy(&other);
    let mut run = restarting(&["--restart-delay", "1ms"], &[&program, &"exit=USR1:3"]).start();
    let (_, child) = run.ready();
    // What runs cannot be opened for writing; in its place is another.
    let open = OpenOptions::new().write(true).open(&other).unwrap();
    fs::rename(&other, &program).unwrap();
    kill(child, "USR1");
    run.said_times("trying again in", 2);
    assert!(run.stderr().contains("it is open for writing"), "{}", run.stderr());
    drop(open);
    assert!(run.ready().0 > 1);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn tries_of_the_first_start_are_no_restarts() {
    let dir = Dir::new();
    let program = dir.path().join("program");
    copy(&program);
    let open = OpenOptions::new().write(true).open(&program).unwrap();
    let options = ["--restart-delay", "1ms", "--restart-max-delay", "20ms", "--restart-limit", "1"];
    let mut run = restarting(&options, &[&program, &"exit=USR1:3"]).start();
    run.said_times("trying again in", 3);
    drop(open);
    let (_, child) = run.ready();
    kill(child, "USR1");
    run.said("ended with 3 after");
    let (_, child) = run.ready();
    kill(child, "USR1");
    let ended = run.end();
    assert_eq!(ended.shell(), 3);
    assert!(ended.stderr.contains("gave up on program after 1 restart in a row"), "{}", ended.stderr);
}

/// Sets a limit of another process.
#[track_caller]
fn limit(pid: i32, resource: libc::__rlimit_resource_t, soft: u64) {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to structs of ours, or null.
    unsafe {
        assert_eq!(libc::prlimit(pid, resource, std::ptr::null(), &raw mut now), 0);
        now.rlim_cur = soft.min(now.rlim_max);
        assert_eq!(libc::prlimit(pid, resource, &raw const now, std::ptr::null_mut()), 0);
    }
}

#[test]
fn a_start_without_descriptors_is_tried_again() {
    let mut run = failing(&["--restart-delay", "1ms"]).start();
    let (_, child) = run.ready();
    limit(run.pid, libc::RLIMIT_NOFILE, 3);
    kill(child, "USR1");
    run.said_times("trying again in", 2);
    assert!(run.stderr().contains("too many open files"), "{}", run.stderr());
    wait_until("nothing is left of it", || children(run.pid).is_empty());
    limit(run.pid, libc::RLIMIT_NOFILE, 1024);
    let (_, child) = run.ready();
    assert_eq!(children(run.pid), [child]);
    assert_eq!(run.stop().shell(), 0);
}

/// Has it run as a user who may have that many processes.
fn ordinary(user: u32, processes: u64) -> impl Fn(&mut Command) {
    move |command| {
        before_exec(command, move || {
            let limit = libc::rlimit { rlim_cur: processes, rlim_max: processes };
            // SAFETY: the pointers are to a struct of ours, and null.
            unsafe {
                if libc::setgroups(0, std::ptr::null()) != 0 || libc::setgid(user) != 0 || libc::setuid(user) != 0 {
                    libc::_exit(99);
                }
                libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit);
            }
        });
    }
}

#[test]
fn a_start_without_a_process_is_tried_again() {
    let test = "restart::a_start_without_a_process_is_tried_again";
    if !nix::unistd::geteuid().is_root() {
        return skipped(test, "root");
    }
    // Somebody who has no other processes.
    let user = 100_000 + std::process::id();
    let may = Setup::of("test", args([&"-x", &puppet()])).with(ordinary(user, 10)).end();
    if may.shell() != 0 {
        return skipped(test, "the right of other users to execute the puppet");
    }
    let other = || {
        let mut run = Setup::of(puppet(), [] as [&str; 0]).with(ordinary(user, 10)).start();
        run.ready();
        run
    };
    // The very first start, though nothing else is started again.
    let another = other();
    let mut run = Setup::new(args([&puppet()])).with(ordinary(user, 2)).start();
    run.said_times("trying again in", 2);
    assert!(run.stderr().contains("no further process is allowed"), "{}", run.stderr());
    another.stop();
    run.ready();
    assert_eq!(run.stop().shell(), 0);

    let mut run = failing(&["--restart-delay", "1ms"]).with(ordinary(user, 2)).start();
    let (_, child) = run.ready();
    let another = other();
    kill(child, "USR1");
    run.said_times("trying again in", 2);
    another.stop();
    run.ready();
    assert_eq!(run.stop().shell(), 0);
}

// What was left behind.

#[test]
fn what_a_crashed_child_left_behind_is_gone_before_the_next_start() {
    let puppet = puppet();
    let script = format!(
        "case $HUPWRAP_GENERATION in
        1) {puppet} ignore=TERM & echo $! > left; read go < fifo; exit 3;;
        *) grep State: /proc/$(cat left)/status; exec {puppet} exit=USR1:0;; esac",
        puppet = puppet.display()
    );
    let dir = Dir::new();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let options = ["--restart-delay", "1ms", "--stop-timeout", "50ms"];
    let mut run = restarting(&options, &[&"sh", &"-c", &script]).dir(dir.path()).start();
    let (_, left) = run.ready();
    wait_until("it is noted", || fs::read_to_string(dir.path().join("left")).is_ok_and(|pid| pid.ends_with('\n')));
    fs::write(dir.path().join("fifo"), "go\n").unwrap();
    let (generation, child) = run.ready();
    assert_eq!((generation, is_alive(left)), (2, false));
    assert!(!run.stdout().contains("State:"), "{}", run.stdout());
    assert_eq!(children(run.pid), [child]);
    run.said("what sh left behind did not end within 50ms; sending KILL");
    // By itself: whether it would obey a TERM within that time is up to the machine.
    kill(child, "USR1");
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn pid_1_restarts_too() {
    let as_init = |words: &[&str]| {
        let unshare = ["--pid", "--fork", "--mount-proc"].map(std::ffi::OsString::from);
        Setup::of("unshare", unshare.into_iter().chain(words.iter().map(Into::into)))
    };
    if installed("unshare").is_none() || as_init(&["true"]).end().shell() != 0 {
        return skipped("restart::pid_1_restarts_too", "unshare(1), or the right to make a pid namespace");
    }
    let hupwrap = hupwrap().to_str().unwrap();
    // An orphan is left each time.
    let script = "(sleep 1000 &); until pgrep -x sleep > /dev/null; do :; done; echo $$ is $(pgrep -c sleep); exit 9";
    let options = ["--restart", "on-failure", "--restart-delay", "1ms", "--restart-limit", "2"];
    let ended = as_init(&[&[hupwrap][..], &options, &["--", "sh", "-c", script]].concat()).end();
    assert_eq!(ended.shell(), 9, "{}", ended.stderr);
    let orphans: Vec<&str> = ended.stdout.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(orphans, ["1", "1", "1"], "{}", ended.stdout);
    assert_eq!(ended.stderr.matches("gave up").count(), 1, "{}", ended.stderr);
}

#[test]
fn it_gives_up_with_the_status_of_the_last_child_also_if_a_start_fails() {
    for (deed, why) in [("rm", "not found"), ("chmod -x", "permission denied")] {
        let dir = Dir::new();
        let program = dir.program("program", format!("#!/bin/sh\n{deed} \"$0\"; exit 3\n"));
        let ended = restarting(&["--restart-delay", "1ms", "--restart-limit", "2"], &[&program]).end();
        assert_eq!((ended.shell(), ended.stderr.matches("gave up").count()), (3, 1), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
}

/// Nobody watches, or somebody does: what happens is the same.
#[test]
fn a_long_run_begins_a_new_series_watched_or_not() {
    let dir = Dir::new();
    let file = dir.path().join("status");
    let watchers: [&[&str]; 4] = [&[], &["-v"], &["--status-file", file.to_str().unwrap()], &["--log-format", "json"]];
    for (watcher, above) in watchers.into_iter().map(|watcher| (watcher, None)).chain([(&[][..], Some(Above::new()))]) {
        let options = ["--restart-limit", "1", "--restart-reset", "200ms", "--restart-delay", "10ms"];
        let mut setup = failing(&[&options[..], watcher].concat());
        if let Some(above) = &above {
            setup = setup.env("NOTIFY_SOCKET", above.name());
        }
        let mut run = setup.start();
        let mut killed = Instant::now();
        for _ in 0..3 {
            let (_, child) = run.ready();
            let began = Instant::now();
            wait_until("it has run for long", || began.elapsed() > Duration::from_millis(250));
            killed = Instant::now();
            kill(child, "USR1");
        }
        // The last of them was the first of its series. A short run after it is one too many.
        for starts in 4.. {
            let before = std::mem::replace(&mut killed, Instant::now());
            kill(run.ready().1, "USR1");
            wait_until("it gives up, or not", || !run.lives() || run.stdout().matches("ready ").count() > starts);
            if !run.lives() {
                break;
            }
            // That run was long: the machine has stalled.
            assert!(before.elapsed() > Duration::from_millis(200), "{watcher:?}: {}", run.stderr());
        }
        let ended = run.end();
        assert_eq!(ended.shell(), 3, "{watcher:?}: {}", ended.stderr);
    }
}

/// `--reload` hears of an upgrade that is asked for while a crashed child's rest is stopped, and the delay goes on.
#[test]
fn an_upgrade_during_the_sweep_after_a_crash_has_an_outcome() {
    for broken in [false, true] {
        let dir = Dir::new();
        let file = dir.path().join("status");
        let program = dir.hupwrap("hupwrap");
        let worker = puppet();
        let script = "\"$0\" ignore=TERM exit=USR1:0 & read x < fifo; exit 7";
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let options = ["-v", "--restart", "on-failure", "--on-hup", "upgrade", "--status-file", file.to_str().unwrap()];
        let command = ["--", "sh", "-c", script, worker.to_str().unwrap()];
        let words: Vec<OsString> = [&options[..], &LONG, &command].concat().into_iter().map(Into::into).collect();
        let mut run = Setup::of(&program, words).dir(dir.path()).start();
        let (_, worker) = run.ready();
        fs::write(dir.path().join("fifo"), "\n").unwrap();
        run.line("got TERM");
        if broken {
            fs::remove_file(&program).unwrap();
        }
        let reload = Setup::new(args([&"--reload", &file, &"--timeout", &"50s"])).start();
        run.said("got HUP");
        kill(worker, "USR1");
        assert_eq!(reload.end().shell(), i32::from(broken));
        // Nobody has asked for a start, so none is made before its time.
        let status = status_where(&file, "it waits", |status| status["state"] == "waiting");
        assert_eq!(status["reload"]["action"], "upgrade", "{status}");
        assert_eq!((&status["restarts"]["asked"], &status["generation"]), (&0.into(), &1.into()));
        assert_eq!(run.stop().shell(), 143);
    }
}

/// A HUP while the rest of a crashed child is stopped begins a new series: the next attempt is the first.
#[test]
fn a_hup_during_the_sweep_after_a_crash_begins_a_new_series() {
    let dir = Dir::new();
    let script = "\"$0\" ignore=TERM exit=USR1:0 & read x < fifo; exit 7";
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let options = ["--restart-delay", "10ms", "--log-format", "json"];
    let mut run = restarting(&options, &[&"sh", &"-c", &script, &puppet()]).dir(dir.path()).start();
    for round in 1..=3 {
        let (_, worker) = run.ready();
        fs::write(dir.path().join("fifo"), "\n").unwrap();
        run.line("got TERM");
        if round == 3 {
            run.kill("HUP");
        }
        kill(worker, "USR1");
    }
    let (_, worker) = run.ready();
    fs::write(dir.path().join("fifo"), "\n").unwrap();
    run.line("got TERM");
    run.kill("TERM");
    kill(worker, "USR1");
    let later = events(&run.end().stderr, "restarting-later");
    let attempts: Vec<_> = later.iter().map(|line| line["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 2, 3, 1]);
}

/// Ctrl-C is final for a child that is stopped because it was not ready in time, too.
#[test]
fn ctrl_c_is_final_for_a_late_child() {
    for policy in ["no", "always"] {
        let mut terminal = Terminal::new();
        let options = ["--ready", "notify", "--ready-timeout", "100ms", "--restart", policy];
        let words = args([&puppet(), &"ignore=TERM", &"exit=INT:9"]);
        // A TERM that comes before the child has arranged to hear it waits.
        let setup = Setup::new(options.iter().map(OsString::from).chain(words)).blocking(libc::SIGTERM);
        let run = terminal.lead(setup).start();
        terminal.line("got TERM");
        terminal.keys("\x03");
        assert_eq!(run.end().shell(), 9, "{policy}: {}", terminal.text());
    }
}
