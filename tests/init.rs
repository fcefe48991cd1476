//! hupwrap as pid 1: of a pid namespace, and of a container.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hupwrap::signal::Signal;
use nix::libc;

use crate::support::podman::Podman;
use crate::support::*;

/// A grace period that no test sees the end of.
const LONG: [&str; 2] = ["--stop-timeout", "1h"];

/// A program as pid 1, with a /proc of its own.
fn as_init(words: &[&dyn AsRef<OsStr>]) -> Setup {
    let mut all = args([&"--pid", &"--fork", &"--mount-proc"]);
    all.extend(words.iter().map(|word| word.as_ref().to_owned()));
    Setup::of("unshare", all)
}

fn permitted(test: &str) -> bool {
    let permitted = installed("unshare").is_some() && as_init(&[&"true"]).end().shell() == 0;
    if !permitted {
        skipped(test, "unshare(1), or the right to make a pid namespace");
    }
    permitted
}

/// Hupwrap, that is the child of unshare, as it is seen from here.
fn pid_1(run: &Run) -> i32 {
    let [hupwrap] = children(run.pid)[..] else { panic!("unshare has one child") };
    hupwrap
}

/// The child of hupwrap that has this pid inside.
fn from_outside(hupwrap: i32, inside: i32) -> i32 {
    let inside = inside.to_string();
    let has_pid = |pid: &i32| status(*pid, "NSpid").split_whitespace().last() == Some(&inside);
    children(hupwrap).into_iter().find(has_pid).expect("a child with that pid")
}

#[test]
fn statuses_come_through() {
    if !permitted("init::statuses_come_through") {
        return;
    }
    for code in [0, 1, 42, 125, 126, 127, 128, 143, 255] {
        let ended = as_init(&[&hupwrap(), &"--", &"sh", &"-c", &format!("exit {code}")]).end();
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(code), ""));
    }
    for number in [1, 2, 3, 6, 9, 11, 13, 15, 34, 64] {
        let ended = as_init(&[&hupwrap(), &"sh", &"-c", &format!("kill -{number} $$")]).end();
        // It cannot die by it: the kernel protects pid 1 from its own signals.
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(128 + number), ""));
    }
    assert_eq!(as_init(&[&hupwrap(), &"/no/such/program"]).end().status.code(), Some(127));
    assert_eq!(as_init(&[&hupwrap(), &"/"]).end().status.code(), Some(126));
    assert_eq!(as_init(&[&hupwrap()]).end().status.code(), Some(125));
    assert_eq!(as_init(&[&hupwrap(), &"--map-status", &"TERM=3", &"sh", &"-c", &"kill $$"]).end().shell(), 3);
}

#[test]
fn it_is_stopped_as_any_other() {
    if !permitted("init::it_is_stopped_as_any_other") {
        return;
    }
    for (signal, code) in [("TERM", 0), ("INT", 2), ("QUIT", 3)] {
        let mut run = as_init(&[&hupwrap(), &"--", &puppet(), &"exit=INT:2,QUIT:3"]).start();
        run.ready();
        kill(pid_1(&run), signal);
        assert_eq!(run.line("got "), format!("got {signal} from 1"));
        let ended = run.end();
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(code), ""));
    }
    let mut run = as_init(&[&hupwrap(), &"--stop-timeout", &"10ms", &"--", &puppet(), &"ignore=TERM"]).start();
    run.ready();
    kill(pid_1(&run), "TERM");
    assert_eq!(run.end().status.code(), Some(137));
}

#[test]
fn it_restarts_reexecutes_and_upgrades() {
    if !permitted("init::it_restarts_reexecutes_and_upgrades") {
        return;
    }
    let mut run = as_init(&[&hupwrap(), &"--on", &"USR1=reexec", &"--on", &"USR2=upgrade", &"--", &puppet()]).start();
    let (_, first) = run.ready();
    let hupwrap = pid_1(&run);
    for (signal, generation) in [("HUP", 2), ("USR1", 3)] {
        kill(hupwrap, signal);
        run.line("got TERM from 1");
        assert_eq!(run.ready().0, generation);
    }
    kill(hupwrap, "USR2");
    run.said_times("took over", 2);
    kill(hupwrap, "WINCH");
    run.line("got WINCH from 1");
    assert_eq!(run.stdout().matches("ready").count(), 3);
    assert_eq!(pid_1(&run), hupwrap);
    kill(hupwrap, "TERM");
    let ended = run.end();
    assert_eq!(ended.shell(), 0);
    assert!(ended.stderr.starts_with(&format!("hupwrap: restarting puppet[{first}]\n")), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches(" as pid 1\n").count(), 2, "{}", ended.stderr);
}

#[test]
fn it_is_not_stopped_by_tstp() {
    if !permitted("init::it_is_not_stopped_by_tstp") {
        return;
    }
    let mut run = as_init(&[&hupwrap(), &"--", &puppet()]).start();
    run.ready();
    let hupwrap = pid_1(&run);
    for signal in ["TSTP", "TTIN", "TTOU"] {
        kill(hupwrap, signal);
        run.line(&format!("got {signal} from 1"));
        kill(hupwrap, "USR1");
        run.line("got USR1 from 1");
        assert_ne!(state(hupwrap), Some('T'), "{signal}");
    }
    kill(hupwrap, "TERM");
    assert_eq!(run.end().shell(), 0);
}

/// A command that leaves orphans behind, which wait for the end of a pipe, and becomes a puppet.
const LEAVE_ORPHANS: &str = r#"
    fifo=$1 count=$2; shift 2
    while [ $count -gt 0 ]; do (read line <"$fifo" &); count=$((count - 1)); done
    exec "$@"
"#;

/// Ends every orphan that waits by now.
fn end_orphans(fifo: &Path) {
    // Closed at once: they read the end. Where none waits, this fails.
    drop(OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo));
}

#[test]
fn four_hundred_orphans_are_reaped_while_the_child_lives() {
    if !permitted("init::four_hundred_orphans_are_reaped_while_the_child_lives") {
        return;
    }
    for upgrade in [false, true] {
        let dir = Dir::new();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut words: Vec<&dyn AsRef<OsStr>> = vec![];
        let (hupwrap_file, puppet_file) = (hupwrap(), puppet());
        words.extend::<[&dyn AsRef<OsStr>; 11]>([
            &hupwrap_file,
            &"--on",
            &"HUP=upgrade",
            &"--",
            &"sh",
            &"-c",
            &LEAVE_ORPHANS,
            &"sh",
            &fifo,
            &"400",
            &puppet_file,
        ]);
        words.push(&"exit=USR1:42");
        let mut run = as_init(&words).start();
        let (_, inside) = run.ready();
        let hupwrap = pid_1(&run);
        let child = from_outside(hupwrap, inside);
        wait_until("all are orphans", || children(hupwrap).len() == 401);
        if upgrade {
            kill(hupwrap, "HUP");
        }
        // One that has not come to the pipe yet has to be told again.
        wait_until("all orphans are reaped", || {
            end_orphans(&fifo);
            children(hupwrap) == [child]
        });
        if upgrade {
            run.said("took over");
        }
        kill(hupwrap, "USR1");
        let ended = run.end();
        assert_eq!(ended.shell(), 42);
        assert_eq!(ended.stderr.lines().count(), usize::from(upgrade), "{}", ended.stderr);
        assert_eq!(ended.stdout, format!("ready 1 {inside}\ngot USR1 from 1\n"));
    }
}

#[test]
fn four_hundred_orphans_end_with_the_child() {
    if !permitted("init::four_hundred_orphans_end_with_the_child") {
        return;
    }
    let script = "i=0; while [ $i -lt 400 ]; do (sleep 1000 &); i=$((i + 1)); done; exit 42";
    // A grace period is no sleep.
    let ended = as_init(&[&hupwrap(), &LONG[0], &LONG[1], &"sh", &"-c", &script]).end();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (42, ""));
}

/// A command that starts a puppet in the background and, at a line of input, ends with 3.
fn leaves(how: &str, puppet_args: &str) -> String {
    format!("{how} \"$0\" {puppet_args} & read line; exit 3")
}

#[test]
fn orphans_are_told_of_the_end_and_waited_for() {
    if !permitted("init::orphans_are_told_of_the_end_and_waited_for") {
        return;
    }
    for how in ["", "setsid"] {
        let script = leaves(how, "ignore=TERM exit=USR1:0");
        let words: [&dyn AsRef<OsStr>; 8] = [&hupwrap(), &LONG[0], &LONG[1], &"--", &"sh", &"-c", &script, &puppet()];
        let mut run = as_init(&words).stdin().start();
        let (_, inside) = run.ready();
        let hupwrap = pid_1(&run);
        run.write("end\n");
        run.line("got TERM from 1");
        run.line("got CONT from 1");
        let orphan = from_outside(hupwrap, inside);
        // It takes its time, and is alone with hupwrap.
        wait_until("the child is reaped", || children(hupwrap) == [orphan]);
        assert!(run.lives());
        // When all are gone it ends at once.
        kill(orphan, "USR1");
        let ended = run.end();
        assert_eq!((ended.shell(), ended.stderr.as_str()), (3, ""));
    }
}

#[test]
fn orphans_that_do_not_listen_are_killed() {
    if !permitted("init::orphans_that_do_not_listen_are_killed") {
        return;
    }
    let script = leaves("", "ignore=TERM");
    let words: [&dyn AsRef<OsStr>; 8] = [&hupwrap(), &"--stop-timeout", &"4s", &"--", &"sh", &"-c", &script, &puppet()];
    let mut run = as_init(&words).stdin().start();
    run.ready();
    run.write("end\n");
    run.line("got TERM from 1");
    let ended = run.end();
    assert_eq!(ended.shell(), 3);
    // The stop timeout is theirs as well.
    assert_eq!(ended.stderr, "hupwrap: what sh left behind did not end within 4s; sending KILL\n");
}

#[test]
fn it_works_without_proc() {
    let script = "umount -l /proc && exec \"$@\"";
    let without = |words: &[&dyn AsRef<OsStr>]| {
        let mut all = args([&"--pid", &"--fork", &"--mount", &"sh", &"-c", &script, &"sh"]);
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        Setup::of("unshare", all)
    };
    if installed("unshare").is_none() || without(&[&"true"]).end().shell() != 0 {
        return skipped("init::it_works_without_proc", "unshare(1), or the right to unmount /proc");
    }
    let program = hupwrap();
    // The lookup of a name is a child of hupwrap, but is not older than it.
    for options in [&[] as &[&dyn AsRef<OsStr>], &[&"--listen", &"tcp:localhost:0"]] {
        let command: [&dyn AsRef<OsStr>; 4] = [&"sh", &"-c", &leaves("setsid", ""), &puppet()];
        let mut words: Vec<&dyn AsRef<OsStr>> = vec![&program];
        words.extend(options.iter().chain(&command));
        let mut run = without(&words).stdin().start();
        run.ready();
        run.write("end\n");
        run.line("got TERM from 1");
        let ended = run.end();
        // One line has the port.
        assert_eq!((ended.shell(), ended.stderr.lines().count()), (3, options.len() / 2), "{}", ended.stderr);
    }
}

#[test]
fn a_parent_that_is_pid_1_or_outside_is_not_taken_for_dead() {
    if !permitted("init::a_parent_that_is_pid_1_or_outside_is_not_taken_for_dead") {
        return;
    }
    let following: [&dyn AsRef<OsStr>; 6] = [&hupwrap(), &"--parent-death", &"TERM", &"sh", &"-c", &"exit 3"];
    assert_eq!(as_init(&following).end().shell(), 3);
    let mut below: Vec<&dyn AsRef<OsStr>> = vec![&"sh", &"-c", &"\"$@\"; exit $?", &"sh"];
    below.extend(following);
    assert_eq!(as_init(&below).end().shell(), 3);
}

#[test]
fn the_child_may_be_pid_1_where_hupwrap_is_not() {
    // What comes after this unshare without --fork: hupwrap stays outside, its child is the first inside.
    let outside = |words: &[&dyn AsRef<OsStr>]| {
        let mut all = args([&"--pid"]);
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        Setup::of("unshare", all)
    };
    if !permitted("init::the_child_may_be_pid_1_where_hupwrap_is_not") {
        return;
    }
    let ended = outside(&[&hupwrap(), &"sh", &"-c", &"echo $$; exit 3"]).end();
    assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (3, "1\n", ""));
}

#[test]
fn every_signal_but_its_own_reaches_the_child() {
    if !permitted("init::every_signal_but_its_own_reaches_the_child") {
        return;
    }
    let mut run = as_init(&[&hupwrap(), &"--", &puppet()]).start();
    run.ready();
    let hupwrap = pid_1(&run);
    let own = |signal: &Signal| signal.is_fault() || matches!(signal.number(), 1 | 2 | 3 | 9 | 15 | 17 | 19 | 32 | 33);
    for signal in Signal::all().filter(|signal| !own(signal)) {
        kill(hupwrap, &signal.to_string());
        assert_eq!(run.line("got "), format!("got {signal} from 1"));
    }
    kill(hupwrap, "TERM");
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn it_runs_in_a_container_made_of_an_empty_image() {
    let Some(podman) = Podman::new("init::it_runs_in_a_container_made_of_an_empty_image") else { return };
    podman.build("plain", "FROM scratch\nCOPY hupwrap server /\n");
    let run = |name, words: &[&str]| podman.run(name, &[&["plain", "/hupwrap"], words].concat());

    let ended = run("codes", &["/server", "orphans", "0", "42"]).end();
    assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (42, "clean\n", ""));
    assert_eq!(run("missing", &["/no/such/program"]).end().shell(), 127);

    let ended = run("orphans", &["/server", "orphans", "100", "43"]).end();
    assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (43, "clean\n", ""));

    let mut signals = run("signals", &["--on", "USR1=reexec", "/server", "wait"]);
    signals.line("ready 1");
    for (signal, line) in [("HUP", "ready 2"), ("USR1", "ready 3"), ("HUP", "ready 4")] {
        podman.does(&["kill", "--signal", signal, "signals"]);
        signals.line(line);
    }
    podman.does(&["stop", "--time", "60", "signals"]);
    let ended = signals.end();
    assert_eq!(ended.shell(), 143);
    assert!(ended.stderr.contains(" as pid 1\n"), "{}", ended.stderr);

    // hupwrap below hupwrap.
    let mut nested = run("nested", &["/hupwrap", "/server", "wait"]);
    nested.line("ready 1");
    podman.does(&["stop", "--time", "60", "nested"]);
    assert_eq!(nested.end().shell(), 143);
}
