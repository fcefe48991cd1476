//! A command that replaces its main process: `--child-pidfile` and `MAINPID=`. Contract, section 9.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http::{Load, free_port};
use crate::support::notify::tell;
use crate::support::watched::status_where;
use crate::support::*;

/// Starts `sh -c SCRIPT` under hupwrap, with the puppet as `$0`. The script finds `main` as its `--child-pidfile`.
fn supervise(dir: &Dir, options: &[&str], script: &str) -> Run {
    let own = ["--child-pidfile", "main", "--status-file", "status"];
    let command = ["--", "sh", "-c", script];
    let all = own.iter().chain(options).chain(&command).map(OsStr::new);
    let puppet = puppet();
    Setup::new(all.chain([puppet.as_os_str()])).dir(dir.path()).start()
}

fn fifo(dir: &Dir, name: &str) {
    nix::unistd::mkfifo(&dir.path().join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Opens the door for a script that does `read x < go`.
fn go(dir: &Dir) {
    fs::write(dir.path().join("go"), "\n").unwrap();
}

/// Waits until hupwrap's child has this pid, in the status file.
#[track_caller]
fn child_is(dir: &Dir, pid: i32) -> Value {
    status_where(&dir.path().join("status"), "the child is another", |status| status["child"]["pid"] == pid)
}

/// Waits until hupwrap has reaped a process.
#[track_caller]
fn is_reaped(pid: i32) {
    wait_until("it is reaped", || state(pid).is_none());
}

/// A script that prints its pid, starts a puppet in the background, writes its pid to the file, and ends with 3.
const FORKS: &str = r#"echo first $$; "$0" exit=TERM:7 & echo $! > main; exit 3"#;

/// The pid in the line `first PID`.
#[track_caller]
fn first(run: &mut Run) -> i32 {
    run.line("first ")["first ".len()..].parse().unwrap()
}

#[test]
fn a_named_process_takes_the_place_of_the_child() {
    let dir = Dir::new();
    let mut run = supervise(&dir, &[], FORKS);
    let first = first(&mut run);
    let (_, main) = run.ready();
    run.said(&format!("sh[{first}] ended with 3; pid {main} is its main process from now on"));
    let status = child_is(&dir, main);
    assert_eq!((&status["state"], &status["generation"]), (&"running".into(), &1.into()));
    assert_eq!((&status["restarts"]["failed"], &status["last_exit"]), (&0.into(), &Value::Null));
    run.kill("USR1");
    run.line("got USR1");
    kill(main, "STOP");
    // A stop continues it.
    run.kill("TERM");
    run.line("got TERM");
    let ended = run.end();
    assert_eq!(ended.shell(), 7);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

/// As JSON, the line has the facts of both.
#[test]
fn the_line_has_facts() {
    let dir = Dir::new();
    let mut run = supervise(&dir, &["--log-format", "json"], FORKS);
    let first = first(&mut run);
    let (_, main) = run.ready();
    run.said("main-process");
    let line: Value = serde_json::from_str(run.stderr().lines().next().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["generation"]), (&"main-process".into(), &1.into()));
    assert_eq!((&line["pid"], &line["old_pid"], &line["exit"]["code"]), (&main.into(), &first.into(), &3.into()));
    assert_eq!(run.stop().shell(), 7);
}

#[test]
fn its_death_by_a_signal_is_hupwraps() {
    let dir = Dir::new();
    let mut run = supervise(&dir, &[], FORKS);
    let (_, main) = run.ready();
    child_is(&dir, main);
    kill(main, "KILL");
    assert_eq!(run.end().shell(), 137);
}

/// The file is read when the process ends that hupwrap started, and that process gets the signals until then.
#[test]
fn the_first_process_is_the_child_as_long_as_it_lives() {
    let dir = Dir::new();
    let script = r#"trap 'echo first got USR1' USR1; echo first $$; "$0" & echo $! > main
        until [ -e gone ]; do sleep 0.02; done; exit 3"#;
    let mut run = supervise(&dir, &[], script);
    let first = first(&mut run);
    let (_, main) = run.ready();
    run.kill("USR1");
    run.line("first got USR1");
    dir.file("gone", "", 0o644);
    run.said(&format!("sh[{first}] ended with 3; pid {main}"));
    assert!(!run.stdout().contains("got USR1 from"), "{}", run.stdout());
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_message_names_it_too() {
    let dir = Dir::new();
    fifo(&dir, "go");
    let script = r#""$0" exit=TERM:7 & read x < go; exit 3"#;
    let options = ["--status-file", "status", "--ready", "notify", "--", "sh", "-c", script].map(OsStr::new);
    let puppet = puppet();
    let mut run = Setup::new(options.into_iter().chain([puppet.as_os_str()])).dir(dir.path()).start();
    let (_, main) = run.ready();
    let sh = parent(main).unwrap();
    // A process that is not of the generation, and then the right one: the last one counts.
    tell(sh, format!("MAINPID={}", std::process::id()));
    tell(sh, format!("MAINPID={main}\nREADY=1"));
    go(&dir);
    run.said(&format!("sh[{sh}] ended with 3; pid {main}"));
    assert_eq!(child_is(&dir, main)["child"]["ready"], true);
    assert_eq!(run.stop().shell(), 7);
}

/// A message that names a process which is not of the generation, or the child itself, changes nothing.
#[test]
fn a_message_that_names_another_process_changes_nothing() {
    for own in [true, false] {
        let dir = Dir::new();
        fifo(&dir, "go");
        let script = "echo ready 1 $$; read x < go; exit 3";
        let mut run = Setup::new(["--ready", "notify", "--", "sh", "-c", script]).dir(dir.path()).start();
        let (_, sh) = run.ready();
        let named = if own { sh } else { i32::try_from(std::process::id()).unwrap() };
        tell(sh, format!("MAINPID={named}\nREADY=1"));
        go(&dir);
        let ended = run.end();
        assert_eq!(ended.shell(), 3);
        assert!(!ended.stderr.contains("from now on"), "{}", ended.stderr);
    }
}

#[test]
fn a_file_that_names_no_process_of_the_generation_has_no_effect() {
    let dead = {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        pid
    };
    let us = std::process::id();
    for (content, reason) in [
        (dead.to_string(), format!("names pid {dead}, which does not run")),
        (us.to_string(), format!("names pid {us}, which is not of its generation")),
        ("1".to_owned(), "names pid 1, which is not of its generation".to_owned()),
        ("web".to_owned(), "'main': it holds no pid".to_owned()),
        ("-1".to_owned(), "'main': it holds no pid".to_owned()),
    ] {
        let dir = Dir::new();
        dir.file("main", &content, 0o644);
        let ended = supervise(&dir, &[], "echo $$; exit 3").end();
        assert_eq!(ended.shell(), 3, "{content}");
        let line = format!("sh[{}] ended with 3, and has no main process: ", ended.stdout.trim());
        assert!(ended.stderr.contains(&line) && ended.stderr.contains(&reason), "{content}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

/// An end like any other: nothing is remarkable about it.
#[test]
fn a_file_that_is_missing_or_names_the_child_itself_needs_no_line() {
    for script in ["exit 3", ": > main; exit 3", "echo $$ > main; exit 3"] {
        let dir = Dir::new();
        let ended = supervise(&dir, &[], script).end();
        assert_eq!((ended.shell(), ended.stderr.as_str()), (3, ""), "{script}");
    }
}

/// The daemon is a grandchild, and its file comes when the process that hupwrap started has ended.
const DAEMON: &str = r#"echo first $$; ("$0" exit=TERM:7 & echo $! > new; read x < go; mv new main) & exit 3"#;

/// Starts a daemon that has not written its file yet, and waits until the process that hupwrap started is gone.
fn late(dir: &Dir, options: &[&str]) -> (Run, i32, i32) {
    fifo(dir, "go");
    let mut run = supervise(dir, options, DAEMON);
    let first = first(&mut run);
    let (_, main) = run.ready();
    is_reaped(first);
    (run, first, main)
}

#[test]
fn a_daemon_may_write_its_file_late() {
    let dir = Dir::new();
    let (mut run, first, main) = late(&dir, &[]);
    // There is nobody yet who could get this.
    run.kill("USR1");
    run.kill("USR1");
    go(&dir);
    run.said(&format!("sh[{first}] ended with 3; pid {main}"));
    run.line("got USR1");
    child_is(&dir, main);
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stdout.matches("got USR1").count()), (7, 1));
}

/// Nothing is ready in the meantime, and nothing that the machine is told says so.
#[test]
fn the_status_says_that_no_child_is_ready_while_the_file_is_waited_for() {
    let dir = Dir::new();
    let (run, _, main) = late(&dir, &[]);
    let is_not_ready = |status: &Value| status["state"] == "starting" && status["child"]["ready"] == false;
    status_where(&dir.path().join("status"), "it is not ready", is_not_ready);
    let shown = || Setup::new(["--status", "status"]).dir(dir.path()).end().shell();
    assert_eq!(shown(), 1);
    go(&dir);
    let status = child_is(&dir, main);
    assert_eq!((&status["state"], &status["child"]["ready"]), (&"running".into(), &true.into()));
    assert_eq!(shown(), 0);
    assert_eq!(run.stop().shell(), 7);
}

/// Ready is who says so, or is found to be, as long as a child is alive: another may have answered.
#[test]
fn a_child_without_a_main_process_is_not_ready() {
    let dir = Dir::new();
    let options = ["-v", "--ready", "cmd:test -e ready", "--ready-timeout", "1s"];
    let mut run = supervise(&dir, &options, "echo first $$; sleep 1000 & exit 3");
    let sh = first(&mut run);
    is_reaped(sh);
    dir.file("ready", "", 0o644);
    // It is late, or its main process is: both are waited for as long.
    let status = run.status().code();
    assert!(matches!(status, Some(3 | 124)), "{status:?}");
    assert!(!run.stderr().contains("is ready"), "{}", run.stderr());
}

#[test]
fn what_a_daemon_says_before_it_writes_its_file_counts_when_it_is_found() {
    let dir = Dir::new();
    let (run, first, main) = late(&dir, &["-v", "--ready", "notify"]);
    tell(main, "READY=1");
    go(&dir);
    run.said(&format!("sh[{first}] ended with 3; pid {main}"));
    run.said(&format!("[{main}] is ready"));
    status_where(&dir.path().join("status"), "it is ready", |status| {
        status["child"]["pid"] == main && status["child"]["ready"] == true
    });
    assert_eq!(run.stop().shell(), 7);
}

#[test]
fn a_new_child_without_a_main_process_replaces_nobody() {
    for overlap in [&[][..], &["--overlap", "1ms"]] {
        let dir = Dir::new();
        // The second one would be ready when the process that hupwrap started has ended.
        let ready = "cmd:sh -c '[ $HUPWRAP_GENERATION = 1 ] || test -e ready'";
        let options = ["--on-hup", "replace", "--ready", ready, "--ready-timeout", "5s"];
        let script = r#"[ $HUPWRAP_GENERATION = 1 ] || { echo first $$; sleep 1000 & exit 1; }
            echo $$ > main; exec "$0""#;
        let mut run = supervise(&dir, &[&options[..], overlap].concat(), script);
        let (_, one) = run.ready();
        status_where(&dir.path().join("status"), "it is ready", |status| status["child"]["ready"] == true);
        run.kill("HUP");
        let two = first(&mut run);
        is_reaped(two);
        dir.file("ready", "", 0o644);
        run.said("replace failed, the old one serves on");
        assert!(is_alive(one));
        assert_eq!(child_is(&dir, one)["generation"], 2);
        assert_eq!(run.stop().shell(), 0);
    }
}

/// The wait is no running time: the child has ended soon after its start.
#[test]
fn the_restart_limit_counts_children_whose_main_process_is_never_named() {
    let dir = Dir::new();
    let options = ["--restart", "on-failure", "--restart-reset", "500ms", "--restart-limit", "1"];
    let all = [&options[..], &["--restart-delay", "1ms", "--ready-timeout", "500ms"]].concat();
    let ended = supervise(&dir, &all, "sleep 1000 >&- 2>&- & exit 5").end();
    assert_eq!(ended.shell(), 5);
    assert!(ended.stderr.contains("gave up on sh"), "{}", ended.stderr);
}

/// Nothing is to be waited for: the file names the process that has ended, and was written for it.
#[test]
fn a_main_process_that_the_file_names_ends_at_once() {
    let named = r#"echo $$ > main; sleep 1000 & exec "$0""#;
    let followed = r#"sleep 1000 & "$0" & echo $! > main; exit 3"#;
    for (script, crosses) in [(named, false), (named, true), (followed, false), (followed, true)] {
        let dir = Dir::new();
        let mut run = supervise(&dir, &["--restart", "on-failure", "--on-hup", "upgrade"], script);
        let (_, main) = run.ready();
        child_is(&dir, main);
        if crosses {
            run.kill("HUP");
            run.said("took over from");
        }
        kill(main, "KILL");
        let (generation, _) = run.ready();
        assert_eq!(generation, 2, "{script}");
        assert!(!run.stderr().contains("has no main process"), "{}", run.stderr());
        run.stop();
    }
}

/// A file from before the start does not name the child, though that has the same pid as the process it names.
#[test]
fn an_old_file_with_the_pid_of_the_child_does_not_name_it() {
    for crosses in [false, true] {
        let dir = Dir::new();
        let file = dir.file("main", "1\n", 0o644);
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_000_123_456_789);
        fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
        for name in ["go", "end"] {
            fifo(&dir, name);
        }
        // Nothing shows that the file was not written before.
        let script = r#"touch -r main before; echo $$ > main; touch -r before main; echo first $$
            ("$0" exit=TERM:7 & echo $! > new; read x < go; mv new main) & read x < end; exit 3"#;
        let mut run = supervise(&dir, &["--on-hup", "upgrade"], script);
        let first = first(&mut run);
        let (_, main) = run.ready();
        if crosses {
            run.kill("HUP");
            run.said("took over from");
        }
        fs::write(dir.path().join("end"), "\n").unwrap();
        is_reaped(first);
        go(&dir);
        run.said(&format!("sh[{first}] ended with 3; pid {main}"));
        assert_eq!(run.stop().shell(), 7);
    }
}

#[test]
fn a_stop_does_not_wait_for_the_file() {
    for mode in ["mixed", "group", "process"] {
        let dir = Dir::new();
        let (run, _, main) = late(&dir, &["--kill-mode", mode]);
        kill(main, "STOP");
        let ended = run.stop();
        assert_eq!(ended.shell(), 3, "{mode}");
        assert!(ended.stdout.contains("got TERM"), "{mode}: {}", ended.stdout);
        assert_eq!(state(main), None, "{mode}");
    }
}

#[test]
fn a_restart_does_not_wait_for_the_file() {
    let dir = Dir::new();
    let (mut run, _, main) = late(&dir, &[]);
    run.kill("HUP");
    run.line("got TERM");
    let (generation, second) = run.ready();
    assert_eq!((generation, state(main)), (2, None));
    go(&dir);
    child_is(&dir, second);
    assert_eq!(run.stop().shell(), 7);
}

#[test]
fn the_file_is_waited_for_as_long_as_the_child_may_take_to_be_ready() {
    let dir = Dir::new();
    let (run, first, main) = late(&dir, &["--ready-timeout", "300ms"]);
    let why = "and has no main process: --child-pidfile 'main' names none";
    run.said(&format!("sh[{first}] ended with 3, {why}"));
    let mut run = run;
    assert_eq!(run.status().code(), Some(3));
    // As after any end: what a command leaves behind is left alone.
    assert!(is_alive(main));
}

#[test]
fn the_file_is_waited_for_as_long_as_the_child_asks_for() {
    for action in ["restart", "upgrade"] {
        let dir = Dir::new();
        // It asks before the process that hupwrap started ends.
        fifo(&dir, "asked");
        let script = r#"echo first $$; ("$0" exit=TERM:7 & echo $! > new; read x < go; mv new main) & read x < asked"#;
        fifo(&dir, "go");
        let options = ["--ready", "notify", "--ready-timeout", "700ms", "--on-hup", action];
        let mut run = supervise(&dir, &options, script);
        let first = first(&mut run);
        let (_, main) = run.ready();
        tell(main, "EXTEND_TIMEOUT_USEC=100000000");
        // A line tells that hupwrap has handled what came before.
        tell(main, "READY=1");
        child_is(&dir, first);
        if action == "upgrade" {
            run.kill("HUP");
            run.said("took over from");
        }
        fs::write(dir.path().join("asked"), "\n").unwrap();
        is_reaped(first);
        // Longer than --ready-timeout: that this time passes is what is tested.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        go(&dir);
        run.said(&format!("sh[{first}] ended with 0; pid {main} is its main process from now on"));
        assert_eq!(run.stop().shell(), 7);
    }
}

#[test]
fn the_file_is_waited_for_as_long_as_the_generation_lives() {
    let dir = Dir::new();
    fifo(&dir, "go");
    let run = supervise(&dir, &["--ready-timeout", "never"], "echo first $$; (read x < go) & exit 3");
    let mut run = run;
    is_reaped(first(&mut run));
    go(&dir);
    assert_eq!(run.end().shell(), 3);
}

/// The process that a file names may still have a parent. hupwrap waits until that has ended.
#[test]
fn a_process_with_another_parent_is_followed_when_that_is_gone() {
    let dir = Dir::new();
    fifo(&dir, "go");
    let script = r#"echo first $$; ("$0" exit=TERM:7 & echo $! > main; read x < go) & exit 3"#;
    let mut run = supervise(&dir, &[], script);
    is_reaped(first(&mut run));
    let (_, main) = run.ready();
    assert!(!run.stderr().contains("from now on"), "{}", run.stderr());
    go(&dir);
    run.said(&format!("pid {main} is its main process from now on"));
    assert_eq!(run.stop().shell(), 7);
}

/// One after the other takes the place of the child.
#[test]
fn a_main_process_is_followed_by_another() {
    let dir = Dir::new();
    fifo(&dir, "go");
    let script = r#"echo first $$
        sh -c 'echo second $$; "$0" exit=TERM:7 & echo $! > new; read x < go; mv new main; exit 4' "$0" &
        echo $! > main; exit 3"#;
    let mut run = supervise(&dir, &[], script);
    let second: i32 = run.line("second ")["second ".len()..].parse().unwrap();
    let (_, third) = run.ready();
    run.said(&format!("pid {second} is its main process from now on"));
    go(&dir);
    run.said(&format!("sh[{second}] ended with 4; pid {third} is its main process from now on"));
    assert_eq!(run.stop().shell(), 7);
}

/// Waits until the first process has named the other one, and that one can receive signals.
#[track_caller]
fn both_are_there(run: &Run) {
    run.wrote_times("first ", 1);
    run.wrote_times("ready ", 1);
}

/// What is asked of the child is asked of the process that takes its place while the child ends.
#[test]
fn a_main_process_that_comes_during_a_stop_is_stopped_too() {
    for mode in ["mixed", "group", "process"] {
        let dir = Dir::new();
        let script = r#"trap 'exit 3' TERM; "$0" exit=TERM:7 & echo $! > main; echo first $$; while :; do wait; done"#;
        let run = supervise(&dir, &["--kill-mode", mode], script);
        both_are_there(&run);
        let ended = run.stop();
        // In a group both get the signal at once, and the second may have ended first.
        let either = mode == "group" && ended.shell() == 3;
        assert!(either || ended.shell() == 7, "{mode}: {ended:?}");
        assert_eq!(ended.stdout.matches("got TERM").count(), 1, "{mode}: {}", ended.stdout);
    }
}

/// It gets the signal that has stopped the process before it, not the usual one.
#[test]
fn a_main_process_that_comes_during_a_stop_gets_the_signal_of_that_stop() {
    for (on, signal) in [("TERM=stop:QUIT", "TERM"), ("TERM=ignore", "QUIT")] {
        for mode in ["mixed", "process"] {
            let dir = Dir::new();
            let script =
                r#"trap 'exit 3' QUIT; "$0" exit=QUIT:7 & echo $! > main; echo first $$; while :; do wait; done"#;
            let run = supervise(&dir, &["--kill-mode", mode, "--on", on], script);
            both_are_there(&run);
            run.kill(signal);
            let ended = run.end();
            assert_eq!(ended.shell(), 7, "{on}, {mode}: {ended:?}");
            assert!(!ended.stdout.contains("got TERM"), "{on}, {mode}: {}", ended.stdout);
        }
    }
}

#[test]
fn a_main_process_that_comes_during_a_stop_is_killed_in_time() {
    for mode in ["mixed", "group", "process"] {
        let dir = Dir::new();
        let script = r#"trap 'exit 3' TERM; "$0" ignore=TERM & echo $! > main; echo first $$; while :; do wait; done"#;
        let run = supervise(&dir, &["--kill-mode", mode, "--stop-timeout", "300ms"], script);
        both_are_there(&run);
        assert_eq!(run.stop().shell(), 137, "{mode}");
    }
}

/// A daemon has a session of its own. With `--kill-mode group` its group is signalled.
#[test]
fn the_group_of_the_main_process_is_signalled() {
    if installed("setsid").is_none() {
        return skipped("mainpid::the_group_of_the_main_process_is_signalled", "no setsid");
    }
    let dir = Dir::new();
    let script = r#"setsid sh -c '"$0" & echo $$ > new; mv new main; exec "$0" exit=TERM:7' "$0" &
        until [ -e main ]; do :; done; exit 3"#;
    let mut run = supervise(&dir, &["--kill-mode", "group"], script);
    run.ready();
    run.ready();
    run.said("from now on");
    run.kill("USR1");
    run.wrote_times("got USR1", 2);
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stdout.matches("got TERM").count()), (7, 2), "{}", ended.stdout);
}

/// A process can change its group at any time.
#[test]
fn a_group_that_the_main_process_has_left_is_not_signalled() {
    let dir = Dir::new();
    let script = r#""$0" & "$0" move=USR2 & echo $! > main; exit 3"#;
    let mut run = supervise(&dir, &["--kill-mode", "group"], script);
    run.ready();
    run.ready();
    run.said("from now on");
    run.kill("USR2");
    run.line("moved");
    run.kill("USR1");
    run.line("got USR1");
    let ended = run.stop();
    assert_eq!(ended.stdout.matches("got USR1").count(), 1, "{}", ended.stdout);
}

/// The number of a group without members may be taken by another process.
#[test]
fn a_process_with_the_number_of_an_old_group_gets_nothing() {
    const TEST: &str = "mainpid::a_process_with_the_number_of_an_old_group_gets_nothing";
    let dir = Dir::new();
    fifo(&dir, "go");
    let script = r#"
        set -e
        mount -t proc proc /proc
        "$1" --kill-mode group --child-pidfile main -- sh -c 'echo $$ > first; "$0" move=USR2 & echo $! > main' "$2" &
        hupwrap=$!
        read x < go
        echo $(($(cat first) - 1)) > /proc/sys/kernel/ns_last_pid
        setsid sh -c 'echo stranger; exec sleep 1000' &
        test $! = $(cat first)
        wait $hupwrap
        kill $! && echo the stranger lives"#;
    let unshare = |program: &[&dyn AsRef<OsStr>]| {
        let namespaces = ["--pid", "--fork", "--mount", "--kill-child"].map(OsStr::new);
        let program = program.iter().map(|word| word.as_ref());
        Setup::of("unshare", namespaces.into_iter().chain(program)).dir(dir.path())
    };
    let may = "mount -t proc proc /proc && echo $$ > /proc/sys/kernel/ns_last_pid && command -v setsid";
    if installed("unshare").is_none() || unshare(&[&"sh", &"-c", &may]).end().shell() != 0 {
        return skipped(TEST, "the right to make a pid namespace and to choose a pid there");
    }
    let mut run = unshare(&[&"sh", &"-c", &script, &"sh", &hupwrap(), &puppet()]).start();
    run.ready();
    run.said("from now on");
    let hupwrap = children(children(run.pid)[0])[0];
    kill(hupwrap, "USR2");
    run.line("moved");
    go(&dir);
    run.line("stranger");
    kill(hupwrap, "USR1");
    run.line("got USR1");
    kill(hupwrap, "TERM");
    run.line("the stranger lives");
}

#[test]
fn what_a_main_process_leaves_is_the_rest_of_the_generation() {
    let dir = Dir::new();
    let script = r#""$0" & "$0" exit=TERM:7 & echo $! > main; exit 3"#;
    let mut run = supervise(&dir, &[], script);
    run.ready();
    run.ready();
    run.said("from now on");
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stdout.matches("got TERM").count()), (7, 2), "{}", ended.stdout);
}

#[test]
fn the_policy_looks_at_the_main_process() {
    let dir = Dir::new();
    let options = ["--restart", "on-failure", "--restart-delay", "1ms"];
    let mut run = supervise(&dir, &options, r#"echo first $$; "$0" exit=USR1:7 & echo $! > main; exit 3"#);
    let (generation, main) = run.ready();
    assert_eq!(generation, 1);
    child_is(&dir, main);
    assert!(!run.stderr().contains("starting it again"), "{}", run.stderr());
    kill(main, "USR1");
    run.said(&format!("sh[{main}] ended with 7 after"));
    let (generation, main) = run.ready();
    assert_eq!(generation, 2);
    assert_eq!(child_is(&dir, main)["restarts"]["failed"], 1);
    assert_eq!(run.stop().shell(), 0);
}

/// Both generations write to one file: whose process it names decides.
#[test]
fn in_a_replace_each_generation_has_its_main_process() {
    let dir = Dir::new();
    fifo(&dir, "go");
    // The second generation takes its time to write; until then the file names the first one's.
    let script = r#"echo first $$; "$0" & pid=$!
        if [ $HUPWRAP_GENERATION = 1 ]; then echo $pid > main
        else (read x < go; echo $pid > new; mv new main) & fi; exit 3"#;
    let mut run = supervise(&dir, &["--on-hup", "replace", "--ready", "cmd:test -e ready"], script);
    let (_, one) = run.ready();
    child_is(&dir, one);
    fs::write(dir.path().join("ready"), "").unwrap();
    status_where(&dir.path().join("status"), "it is ready", |status| status["child"]["ready"] == true);
    fs::remove_file(dir.path().join("ready")).unwrap();
    run.kill("HUP");
    let (generation, two) = run.ready();
    assert_eq!(generation, 2);
    go(&dir);
    run.said(&format!("pid {two} is its main process from now on"));
    assert!(is_alive(one));
    fs::write(dir.path().join("ready"), "").unwrap();
    run.said(&format!("sh[{two}] is ready; stopping sh[{one}]"));
    wait_until("the old one is gone", || state(one).is_none());
    child_is(&dir, two);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_re_exec_preserves_the_main_process() {
    let dir = Dir::new();
    let mut run = supervise(&dir, &["--on-hup", "upgrade", "--kill-mode", "group"], FORKS);
    let (_, main) = run.ready();
    run.said("from now on");
    run.kill("HUP");
    run.said("took over from");
    child_is(&dir, main);
    run.kill("USR1");
    run.line("got USR1");
    assert_eq!(run.stop().shell(), 7);
}

#[test]
fn a_re_exec_preserves_what_a_message_named() {
    let dir = Dir::new();
    fifo(&dir, "go");
    let script = r#""$0" exit=TERM:7 & read x < go; exit 3"#;
    let options = ["--status-file", "status", "--on-hup", "upgrade", "--ready", "notify", "--", "sh", "-c", script];
    let puppet = puppet();
    let all = options.map(OsStr::new).into_iter().chain([puppet.as_os_str()]);
    let mut run = Setup::new(all).dir(dir.path()).start();
    let (_, main) = run.ready();
    tell(parent(main).unwrap(), format!("MAINPID={main}\nREADY=1"));
    run.kill("HUP");
    run.said("took over from");
    go(&dir);
    run.said(&format!("pid {main} is its main process from now on"));
    assert_eq!(run.stop().shell(), 7);
}

#[test]
fn a_re_exec_preserves_the_wait_for_the_file() {
    let dir = Dir::new();
    let (mut run, first, main) = late(&dir, &["--on-hup", "upgrade"]);
    run.kill("USR1");
    run.kill("HUP");
    run.said("took over from");
    go(&dir);
    run.said(&format!("sh[{first}] ended with 3; pid {main} is its main process from now on"));
    run.line("got USR1");
    assert!(!run.stderr().contains("found again"), "{}", run.stderr());
    assert_eq!(run.stop().shell(), 7);
}

/// Fault 39.
#[test]
fn a_command_that_goes_into_the_background_gets_a_hint() {
    let hint = "ended with 0, and left processes running; does it go into the background?";
    let hinted = |options: &[&str], script: &str| {
        let dir = Dir::new();
        let ended = Setup::new(options.iter().chain(&["--", "sh", "-c", script])).dir(dir.path()).end();
        assert_eq!(ended.shell(), i32::from(script.ends_with('1')));
        ended.stderr.matches(hint).count()
    };
    assert_eq!(hinted(&[], "sleep 1000 >&- 2>&- & exit 0"), 1);
    assert_eq!(hinted(&["--kill-mode", "group"], "sleep 1000 >&- 2>&- & exit 0"), 1);
    assert_eq!(hinted(&["--child-pidfile", "main", "--ready-timeout", "0"], "sleep 1000 >&- 2>&- & exit 0"), 1);
    assert_eq!(hinted(&[], "exit 0"), 0);
    assert_eq!(hinted(&[], "sleep 1000 >&- 2>&- & exit 1"), 0);
    assert_eq!(hinted(&[], "sleep 1000 >&- 2>&- & trap 'exit 0' TERM; kill -TERM $PPID; wait; exit 0"), 0);
}

/// hupwrap is slow between the moment when it has listened (a look, the word of the first process, nothing more) and
/// the look at the process that was named. In between, that one names another and ends.
#[test]
fn the_last_word_of_a_process_is_heard_before_it_counts_as_dead() {
    let test = "mainpid::the_last_word_of_a_process_is_heard_before_it_counts_as_dead";
    if installed("strace").is_none() || installed("perl").is_none() {
        return skipped(test, "strace(1), or perl");
    }
    let code = r#"$| = 1;
sub say_it { socket(my $s, 1, 2, 0) or die; send($s, $_[0], 0, pack('S a*', 1, $ENV{NOTIFY_SOCKET} =~ s/^@/\0/r)) or die }
my $first = $$;
my $second = fork // die;
if (!$second) {
    my $third = fork // die;
    if (!$third) { $SIG{TERM} = sub { exit 7 }; print "third $$\n"; sleep 1 while 1 }
    select undef, undef, undef, 0.001 while kill 0, $first;
    select undef, undef, undef, 0.2;
    say_it("MAINPID=$third");
    exit 4;
}
say_it("MAINPID=$second\nREADY=1");
exit 3;
"#;
    let strace = ["-D", "-qq", "-o/dev/null", "-e", "inject=recvfrom:delay_exit=500000:when=4+"];
    let options = ["--ready", "notify", "--", "perl", "-e", code];
    let mut run = Setup::of("strace", strace.into_iter().chain([hupwrap().to_str().unwrap()]).chain(options)).start();
    let third: i32 = run.line("third ")["third ".len()..].parse().unwrap();
    run.said(&format!("pid {third} is its main process from now on"));
    run.kill("TERM");
    assert_eq!(run.end().shell(), 7);
}

/// Where a server listens answers.
#[track_caller]
fn answers(port: u16) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("the server answers", || std::net::TcpStream::connect(address).is_ok());
    address
}

/// Upgrades a server under load, and returns the pid of its new main process. hupwrap passes HUP on as USR2. `second`:
/// the file that names the new master while there are two. `graceful`: what tells the old one to finish its requests
/// and end; the signal that other servers have for it cuts them off.
#[track_caller]
fn upgrade(run: &Run, dir: &Dir, address: SocketAddr, second: &str, graceful: &str) -> i32 {
    let named = |file: &str| fs::read_to_string(dir.path().join(file)).ok()?.trim().parse::<i32>().ok();
    let old = named("g.pid").expect("a pid");
    child_is(dir, old);
    let load = Load::on(address);
    run.kill("HUP");
    let mut new = 0;
    wait_until("there is a second master with a worker", || {
        new = named(second).filter(|pid| *pid != old).unwrap_or(0);
        new != 0 && !children(new).is_empty()
    });
    load.goes_on();
    kill(old, graceful);
    run.said(&format!("[{old}] ended with 0; pid {new} is its main process from now on"));
    child_is(dir, new);
    load.goes_on();
    load.end().nothing_is_lost();
    // gunicorn ignores USR2 until it has noticed that it is the only master.
    wait_until("it has the name of the first", || named("g.pid") == Some(new));
    new
}

/// Runs a server that is upgraded twice, and stopped.
#[track_caller]
fn is_upgraded(mut setup: Vec<String>, dir: &Dir, port: u16, second: &str, graceful: &str) {
    let options = ["--on-hup", "forward:USR2", "--child-pidfile", "g.pid", "--status-file", "status", "--"];
    setup.splice(0..0, options.map(str::to_owned));
    let run = Setup::new(setup).dir(dir.path()).start();
    let address = answers(port);
    wait_until("its file", || fs::read_to_string(dir.path().join("g.pid")).is_ok_and(|text| text.ends_with('\n')));
    let one = upgrade(&run, dir, address, second, graceful);
    let two = upgrade(&run, dir, address, second, graceful);
    assert_ne!(one, two);
    let stop = Setup::new(["--stop", "status"]).dir(dir.path()).end();
    assert_eq!(stop.shell(), 0, "{}", stop.stderr);
    assert_eq!(run.end().shell(), 0);
    assert_eq!((state(one), state(two)), (None, None));
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn gunicorn_is_upgraded() {
    if installed("gunicorn").is_none() {
        return skipped("mainpid::gunicorn_is_upgraded", "no gunicorn");
    }
    let dir = Dir::new();
    let code = "def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '2')])
    return [b'OK']
";
    dir.file("app.py", code, 0o644);
    let port = free_port();
    let line = format!(
        "gunicorn --pid g.pid --bind 127.0.0.1:{port} --preload --worker-class gthread --threads 4 --log-level warning app:app"
    );
    is_upgraded(words(&line), &dir, port, "g.pid.2", "TERM");
}

#[test]
fn unicorn_is_upgraded() {
    if installed("unicorn").is_none() {
        return skipped("mainpid::unicorn_is_upgraded", "no unicorn");
    }
    let dir = Dir::new();
    let port = free_port();
    dir.file("config.ru", "run lambda { |env| [200, { 'content-length' => '2' }, ['OK']] }\n", 0o644);
    dir.file("conf.rb", format!("listen '127.0.0.1:{port}'\npid 'g.pid'\npreload_app true\n"), 0o644);
    // It moves its own file out of the way, and the new master writes to the old name.
    is_upgraded(words("unicorn -c conf.rb"), &dir, port, "g.pid", "QUIT");
}

/// It goes into the background: with `daemon off`, it ignores USR2 as long as the process that started it lives.
#[test]
fn nginx_is_upgraded() {
    let Some(nginx) =
        installed("nginx").or_else(|| Some("/usr/sbin/nginx".into()).filter(|file: &std::path::PathBuf| file.exists()))
    else {
        return skipped("mainpid::nginx_is_upgraded", "no nginx");
    };
    let dir = Dir::new();
    let port = free_port();
    let place = dir.path().display();
    let configuration = format!(
        "pid {place}/g.pid;\nerror_log stderr warn;\nevents {{}}\n\
        http {{\naccess_log off;\nclient_body_temp_path {place}/b;\nproxy_temp_path {place}/p;\n\
        fastcgi_temp_path {place}/f;\nuwsgi_temp_path {place}/u;\nscgi_temp_path {place}/s;\n\
        server {{ listen 127.0.0.1:{port}; location / {{ return 200 OK; }} }}\n}}\n"
    );
    let file = dir.file("nginx.conf", configuration, 0o644);
    let line = format!("{} -e stderr -c {}", nginx.display(), file.display());
    is_upgraded(words(&line), &dir, port, "g.pid", "QUIT");
}

/// A daemon of the old kind: it forks twice, begins a session, and writes its pid when it is good and ready.
#[test]
fn a_daemon_is_followed_restarted_and_stopped_as_a_whole() {
    if installed("perl").is_none() {
        return skipped("mainpid::a_daemon_is_followed_restarted_and_stopped_as_a_whole", "no perl");
    }
    let dir = Dir::new();
    fifo(&dir, "go");
    let code = r#"use POSIX ();
$| = 1;
fork and exit 0;
POSIX::setsid();
fork and exit 0;
my $worker = fork // die;
if (!$worker) { $SIG{TERM} = sub { print "worker ends\n"; exit }; print "has a worker\n"; sleep 1 while 1 }
$SIG{TERM} = sub { print "daemon ends\n"; exit 5 };
print "daemon $$\n";
open my $go, '<', 'go'; readline $go;
open my $file, '>', 'main'; print $file "$$\n"; close $file;
sleep 1 while 1;
"#;
    let program = dir.file("daemon.pl", code, 0o644);
    let program = program.to_str().unwrap();
    let options = ["--child-pidfile", "main", "--status-file", "status", "--", "perl", program];
    let mut run = Setup::new(options).dir(dir.path()).start();
    for generation in 1..=2 {
        let main: i32 = run.line("daemon ")["daemon ".len()..].parse().unwrap();
        go(&dir);
        run.said(&format!("ended with 0; pid {main} is its main process from now on"));
        assert_eq!(child_is(&dir, main)["generation"], generation);
        run.wrote_times("has a worker", generation);
        if generation == 1 {
            run.kill("HUP");
            run.line("daemon ends");
        }
    }
    run.wrote_times("worker ends", 1);
    let ended = run.stop();
    assert_eq!(ended.shell(), 5);
    assert_eq!(ended.stdout.matches("worker ends").count(), 2, "{}", ended.stdout);
}
