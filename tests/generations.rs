//! What is left of a stopped generation, and who is signalled.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};

use crate::support::*;

/// A leader that leaves workers behind, and says their pids: `worker PID` each.
fn leader(workers: &str, rest: &str) -> String {
    format!("echo ready $HUPWRAP_GENERATION $$\n{workers}\n{rest}\n")
}

fn worker_pid(run: &mut Run) -> i32 {
    run.line("worker ").trim_start_matches("worker ").parse().unwrap()
}

/// A fifo, whose name is `fifo` in the directory.
fn fifo(dir: &Dir) {
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Runs in the background and ends by TERM, or ignores it.
const WILLING: &str = "sh -c 'echo worker $$; exec sleep 1000' &";
const DETACHED: &str = "setsid sh -c 'echo worker $$; exec sleep 1000' &";
const OBSTINATE: &str = "sh -c 'trap \"\" TERM; echo worker $$; while :; do sleep 1000; done' &";
const SLOW: &str =
    "sh -c 'trap \"echo asked; read x < fifo; exit\" TERM; echo worker $$; while :; do sleep 1000 & wait; done' &";

#[test]
fn the_rest_is_gone_before_the_next_start() {
    for (name, workers) in [("same group", WILLING), ("own session", DETACHED)] {
        let script = leader(workers, "exec sleep 1000");
        let mut run = Setup::new(["--", "sh", "-c", &script]).start();
        run.ready();
        let old = worker_pid(&mut run);
        run.kill("HUP");
        assert_eq!(run.ready().0, 2);
        assert!(!is_alive(old), "{name}");
        let new = worker_pid(&mut run);
        assert!(is_alive(new), "{name}");
        assert_eq!(run.stop().shell(), 143, "{name}");
        assert!(!is_alive(new), "{name}");
    }
}

#[test]
fn the_next_start_waits_for_a_slow_worker() {
    let dir = Dir::new();
    fifo(&dir);
    let script = leader(SLOW, "exec sleep 1000");
    let mut run = Setup::new(["--", "sh", "-c", &script]).dir(dir.path()).start();
    let (_, first) = run.ready();
    let old = worker_pid(&mut run);
    run.kill("HUP");
    run.line("asked");
    wait_until("the leader is gone", || !is_alive(first));
    assert!(is_alive(old));
    assert_eq!(run.stdout().matches("ready").count(), 1);
    fs::write(dir.path().join("fifo"), "\n").unwrap();
    assert_eq!(run.ready().0, 2);
    assert!(!is_alive(old));
}

#[test]
fn a_worker_that_loses_its_parent_meanwhile_is_asked_once() {
    let dir = Dir::new();
    fifo(&dir);
    let parent = "trap 'read x < fifo; exit' TERM; echo worker $$; \"$0\" ignore=TERM exit=USR1:0 & wait";
    let script = "sh -c \"$1\" \"$0\" & exec sleep 1000";
    let mut run = Setup::new(args([&"-v", &"--", &"sh", &"-c", &script, &puppet(), &parent])).dir(dir.path()).start();
    let parent = worker_pid(&mut run);
    let (_, worker) = run.ready();
    run.kill("HUP");
    run.line("got TERM");
    fs::write(dir.path().join("fifo"), "\n").unwrap();
    wait_until("the parent is reaped", || state(parent).is_none());
    // Whatever its death has caused is done when this is said.
    run.kill("URG");
    run.said("got URG");
    kill(worker, "RTMAX");
    run.line("got RTMAX");
    assert_eq!(run.stdout().matches("got TERM").count(), 1, "{}", run.stdout());
    kill(worker, "USR1");
    assert_eq!(run.ready().0, 2);
}

#[test]
fn an_obstinate_worker_is_killed_at_the_deadline_of_the_child() {
    let script = leader(OBSTINATE, "exec sleep 1000");
    let mut run = Setup::new(["--stop-timeout", "300ms", "--", "sh", "-c", &script]).start();
    run.ready();
    let old = worker_pid(&mut run);
    run.kill("HUP");
    assert_eq!(run.ready().0, 2);
    assert!(!is_alive(old));
    run.said("what sh left behind did not end within 300ms; sending KILL");
    let new = worker_pid(&mut run);
    let ended = run.stop();
    assert_eq!(ended.shell(), 143);
    assert!(!is_alive(new));
}

#[test]
fn an_obstinate_child_is_killed() {
    let mut run = Setup::new(args([&"--stop-timeout", &"4s", &"--", &puppet(), &"ignore=TERM"])).start();
    let (_, child) = run.ready();
    run.kill("HUP");
    run.line("got TERM");
    run.said(&format!("puppet[{child}] did not end within 4s; sending KILL"));
    assert_eq!(run.ready().0, 2);
}

#[test]
fn without_a_timeout_a_stop_waits_and_a_second_term_is_passed_on() {
    let mut run = Setup::new(args([&"--", &puppet(), &"ignore=TERM", &"exit=USR1:9"])).start();
    run.ready();
    run.kill("TERM");
    run.line("got TERM");
    run.kill("TERM");
    run.line("got TERM");
    // A HUP has nothing to say any more, other signals are passed on.
    run.kill("HUP");
    run.kill("USR1");
    let ended = run.end();
    assert_eq!((ended.shell(), ended.stdout.matches("ready").count()), (9, 1));
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_zero_timeout_kills_at_once() {
    let mut run = Setup::new(args([&"--stop-timeout", &"0", &"--", &puppet()])).start();
    let (_, first) = run.ready();
    run.kill("HUP");
    let (generation, second) = run.ready();
    assert_eq!(generation, 2);
    let ended = run.stop();
    assert_eq!(ended.shell(), 137);
    assert!(!ended.stdout.contains("got TERM"));
    let killed = |pid| format!("hupwrap: sending KILL to puppet[{pid}] at once, see --stop-timeout\n");
    let lines = [format!("hupwrap: restarting puppet[{first}]\n"), killed(first), killed(second)];
    assert_eq!(ended.stderr, lines.concat());
}

#[test]
fn a_stopped_child_can_react() {
    let mut run = Setup::new(args([&"--", &puppet(), &"exit=TERM:5"])).start();
    let (_, child) = run.ready();
    kill(child, "STOP");
    wait_until("it is stopped", || state(child) == Some('T'));
    // It is neither restarted nor asked about.
    run.kill("USR1");
    run.kill("HUP");
    run.line("got TERM");
    assert_eq!(run.ready().0, 2);
    let (_, child) = (0, children(run.pid)[0]);
    kill(child, "STOP");
    wait_until("it is stopped", || state(child) == Some('T'));
    assert_eq!(run.stop().shell(), 5);
}

#[test]
fn the_stop_signal_is_for_term_and_others_go_as_they_are() {
    let setup = |list: &[&str]| {
        let options = [&["--stop-signal", "USR2"][..], list, &["--"]].concat();
        let mut command: Vec<std::ffi::OsString> = options.iter().map(|&word| word.into()).collect();
        command.extend(args([&puppet(), &"exit=USR2:1,INT:2,QUIT:3,HUP:4,RTMIN:5"]));
        Setup::new(command)
    };
    for (signal, options, code) in [
        ("TERM", &[][..], 1),
        ("INT", &[], 2),
        ("QUIT", &[], 3),
        ("USR1", &["--on", "USR1=stop:HUP"], 4),
        ("TERM", &["--on", "TERM=stop:RTMIN"], 5),
    ] {
        let mut run = setup(options).start();
        run.ready();
        run.kill(signal);
        assert_eq!(run.end().shell(), code, "{signal} {options:?}");
    }
}

#[test]
fn in_mode_process_nobody_else_hears_anything() {
    let script = leader(WILLING, "exec sleep 1000");
    let mut run = Setup::new(["--kill-mode", "process", "--", "sh", "-c", &script]).start();
    run.ready();
    let old = worker_pid(&mut run);
    run.kill("HUP");
    assert_eq!(run.ready().0, 2);
    assert!(is_alive(old));
    let new = worker_pid(&mut run);
    run.kill("TERM");
    run.status();
    assert!(is_alive(old) && is_alive(new));
}

#[test]
fn in_mode_group_everybody_hears_everything() {
    for group in ["own", "shared"] {
        let puppet = puppet();
        let script = format!("{} exit=USR2:0 & exec {} exit=USR2:0", puppet.display(), puppet.display());
        let setup = Setup::new(["--kill-mode", "group", "--group", group, "--", "sh", "-c", &script]);
        // What the test's own group is must not matter.
        let setup = setup.with(|command| {
            command.process_group(0);
        });
        let mut run = setup.start();
        run.ready();
        run.ready();
        run.kill("USR1");
        run.line("got USR1");
        run.line("got USR1");
        run.kill("HUP");
        run.line("got TERM");
        run.ready();
        run.ready();
        assert_eq!(run.stop().shell(), 0, "{group}");
    }
}

#[test]
fn a_command_that_ends_by_itself_leaves_its_background_alone() {
    for (mode, left) in [("mixed", true), ("process", true), ("group", false)] {
        let script = leader(WILLING, "read x; exit 4");
        let mut run = Setup::new(["--kill-mode", mode, "--", "sh", "-c", &script]).stdin().start();
        run.ready();
        let worker = worker_pid(&mut run);
        run.write("\n");
        assert_eq!(run.status().code(), Some(4), "{mode}");
        if left {
            assert!(is_alive(worker), "{mode}");
        } else {
            wait_until("it is gone", || !is_alive(worker));
        }
    }
}

#[test]
fn what_is_older_than_the_first_child_is_left_alone() {
    for action in ["restart", "reexec"] {
        let dir = Dir::new();
        fifo(&dir);
        // The shell that becomes hupwrap has a job, which has a process below it.
        let script = r#"sh -c 'sh -c "echo elder \$\$; exec sleep 1000" & read x < fifo' & read x; exec "$@""#;
        let worker = leader("(setsid sh -c 'echo worker $$; exec sleep 1000' &)", "exec sleep 1000");
        let command = args([&hupwrap(), &"--on-hup", &action, &"--", &"sh", &"-c", &worker]);
        let words = args([&"-c", &script, &"sh"]).into_iter().chain(command);
        let mut run = Setup::of("sh", words).dir(dir.path()).stdin().start();
        let elder: i32 = run.line("elder ").trim_start_matches("elder ").parse().unwrap();
        run.write("\n");
        run.ready();
        for generation in [2, 3] {
            let worker = worker_pid(&mut run);
            wait_until("it is an orphan", || parent(worker) == Some(run.pid));
            run.kill("HUP");
            assert_eq!(run.ready().0, generation, "{action}");
            assert!(!is_alive(worker) && is_alive(elder), "{action} {generation}");
            if generation == 2 {
                fs::write(dir.path().join("fifo"), "\n").unwrap();
                wait_until("hupwrap adopts it", || parent(elder) == Some(run.pid));
            }
        }
        run.kill("TERM");
        assert_eq!(run.status().signal(), Some(15), "{action}");
        assert!(is_alive(elder), "{action}");
    }
}

#[test]
fn a_worker_whose_main_thread_has_ended_is_one_of_the_rest() {
    let script = format!("{} thread & exec sleep 1000", puppet().display());
    let mut run = Setup::new(["--", "sh", "-c", &script]).start();
    let (_, worker) = run.ready();
    wait_until("its main thread has ended", || state(worker) == Some('Z'));
    run.kill("HUP");
    run.line("got TERM");
    assert_eq!(run.ready().0, 2);
    assert_eq!(state(worker), None);
}

#[test]
fn a_worker_that_may_not_be_signalled_is_not_waited_for() {
    let test = "generations::a_worker_that_may_not_be_signalled_is_not_waited_for";
    let (Some(setpriv), true) = (installed("setpriv"), nix::unistd::geteuid().is_root()) else {
        return skipped(test, "root, or setpriv(1)");
    };
    let dir = Dir::new();
    // A set-uid program that becomes root altogether.
    let rise = dir.program("rise", fs::read(setpriv).unwrap());
    fs::set_permissions(&rise, fs::Permissions::from_mode(0o4755)).unwrap();
    let program = dir.hupwrap("hupwrap");
    for options in [&["--kill-mode", "mixed"][..], &["--kill-mode", "group"], &["--stop-timeout", "0"]] {
        let rise = rise.display();
        let worker = format!("{rise} --ruid=0 --euid=0 sh -c 'echo worker $$; exec sleep 1000' &");
        let command = args([&"--", &"sh", &"-c", &leader(&worker, "exec sleep 1000")]);
        let words = options.iter().map(OsString::from).chain(command);
        let setup = Setup::of(&program, words).with(|command| _ = command.uid(65534).gid(65534).current_dir("/"));
        let mut run = setup.start();
        run.ready();
        let worker = worker_pid(&mut run);
        if status(worker, "Uid").split_whitespace().any(|id| id != "0") {
            return skipped(test, "a file system that honours set-uid programs");
        }
        run.kill("HUP");
        assert_eq!(run.ready().0, 2, "{options:?}");
        let next = worker_pid(&mut run);
        assert!(is_alive(worker), "{options:?}");
        assert_eq!(run.stderr().matches(&format!("pid {worker}: ")).count(), 1, "{options:?}: {}", run.stderr());
        run.kill("TERM");
        run.status();
        assert!(is_alive(next) && !run.stderr().contains("did not end"), "{options:?}: {}", run.stderr());
    }
}

#[test]
fn a_worker_that_was_stopped_can_react_to_a_second_term() {
    let script = format!("{} ignore=TERM exit=USR2:0 & exec sleep 1000", puppet().display());
    let mut run = Setup::new(["--", "sh", "-c", &script]).start();
    let (_, worker) = run.ready();
    run.kill("TERM");
    run.line("got TERM");
    // What may still come would end the stop.
    run.line("got CONT");
    kill(worker, "STOP");
    wait_until("it is stopped", || state(worker) == Some('T'));
    run.kill("TERM");
    run.line("got TERM");
    kill(worker, "USR2");
    assert_eq!(run.end().shell(), 143);
}

#[test]
fn hupwrap_does_not_wait_for_those_that_hold_its_stdout() {
    // The shell waits for the pipe's end, hupwrap does not.
    let mut run = Setup::new(["--", "sh", "-c", "sleep 1000 & exit 3"]).start();
    assert_eq!(run.status().code(), Some(3));
}

#[test]
fn orphans_are_adopted_and_reaped_in_silence() {
    let mut run = Setup::new(args([
        &"--",
        &"sh",
        &"-c",
        &format!("for i in 1 2 3 4 5 6 7 8 9; do (sh -c 'exit 3' & ) ; done; exec {}", puppet().display()),
    ]))
    .start();
    let (_, child) = run.ready();
    wait_until("only the child is left", || children(run.pid) == [child]);
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (0, ""));
}

#[test]
fn a_child_that_ends_while_it_is_asked_to_is_no_error() {
    for _ in 0..300 {
        let mut run = Setup::new(["--", "sh", "-c", "echo ready 1 $$; read x; exit 6"]).stdin().start();
        run.ready();
        run.write("\n");
        run.kill("TERM");
        let ended = run.end();
        assert!([6, 143].contains(&ended.shell()), "{ended:?}");
        assert_eq!(ended.stderr, "");
    }
}

/// A child that has joined hupwrap's group is signalled there, with the processes of its generation one by one.
#[test]
fn in_mode_group_a_child_that_has_changed_its_group_hears_everything() {
    let script = r#""$0" & exec "$0" move=USR2"#;
    let mut run = Setup::new(args([&"--kill-mode", &"group", &"--", &"sh", &"-c", &script, &puppet()])).start();
    run.ready();
    run.ready();
    run.kill("USR2");
    run.line("moved");
    run.kill("USR1");
    run.wrote_times("got USR1", 2);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn in_mode_group_a_member_that_outlives_the_child_is_asked_once() {
    for group in ["own", "shared"] {
        let puppet = puppet();
        let script = format!("{0} ignore=TERM exit=USR2:0 & exec {0}", puppet.display());
        let setup = Setup::new(["--kill-mode", "group", "--group", group, "--", "sh", "-c", &script]);
        let setup = setup.with(|command| {
            command.process_group(0);
        });
        let mut run = setup.start();
        let pids = [run.ready().1, run.ready().1];
        let child = children(run.pid)[0];
        let worker = pids.into_iter().find(|pid| *pid != child).unwrap();
        run.kill("TERM");
        wait_until("the child is reaped", || state(child).is_none());
        // What comes now comes after the worker would have been asked again.
        run.kill("USR1");
        run.said("USR1 not passed on");
        wait_until("it has heard everything", || is_at_rest(worker));
        kill(worker, "USR2");
        let ended = run.end();
        assert_eq!(ended.stdout.matches("got TERM").count(), 2, "{group}: {}", ended.stdout);
    }
}

#[test]
fn in_mode_group_a_member_that_begins_after_the_signal_is_asked_too() {
    let cleans_up = format!("exec {} spawn=TERM", puppet().display());
    let worker = format!("{} spawn=TERM & exec sleep 1000", puppet().display());
    for (group, script) in [("own", &cleans_up), ("shared", &cleans_up), ("own", &worker), ("shared", &worker)] {
        let args = ["--kill-mode", "group", "--group", group, "--stop-timeout", "1h", "--", "sh", "-c", script];
        let setup = Setup::new(args).with(|command| {
            command.process_group(0);
        });
        let mut run = setup.start();
        run.ready();
        run.kill("HUP");
        assert_eq!(run.ready().0, 2, "{group} {script}");
        run.kill("TERM");
        run.status();
    }
}

#[test]
fn a_death_that_cannot_be_waited_for_at_once_is_not_lost() {
    let test = "generations::a_death_that_cannot_be_waited_for_at_once_is_not_lost";
    if installed("strace").is_none() {
        return skipped(test, "strace(1)");
    }
    for error in ["EINTR", "ENOMEM"] {
        let inject = format!("inject=wait4:error={error}:when=1");
        let strace = ["-D", "-qq", "-o/dev/null", "-e", &inject, hupwrap().to_str().unwrap()];
        let ended = Setup::of("strace", strace.into_iter().chain(["--", "sh", "-c", "exit 7"])).end();
        assert_eq!(ended.shell(), 7, "{error}: {}", ended.stderr);
    }
}
