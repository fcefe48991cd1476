//! What hupwrap passes on, to whom, and what it keeps to itself.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use hupwrap::signal::Signal;
use nix::libc;

use crate::support::*;

/// The signals that are forwarded where nothing else is said. 32 and 33, which glibc hides from the puppet too, are
/// looked at on their own.
fn forwarded() -> impl Iterator<Item = Signal> {
    let kept = |signal: &Signal| matches!(signal.number(), 1 | 2 | 3 | 9 | 15 | 17 | 19 | 32 | 33);
    Signal::all().filter(move |signal| !kept(signal) && !signal.is_fault() && !signal.is_job_control())
}

/// A puppet under hupwrap, ready. Its pid too.
#[track_caller]
fn puppet_with(options: &[&str], puppet_args: &[&str]) -> (Run, i32) {
    let words = options.iter().map(OsStr::new).chain([OsStr::new("--")]);
    let file = puppet();
    let words = words.chain([file.as_os_str()]).chain(puppet_args.iter().map(OsStr::new));
    let mut run = Setup::new(words).start();
    let (_, child) = run.ready();
    (run, child)
}

/// Everything the puppet has said of signals, up to a last one that is heard after all others.
#[track_caller]
fn heard(mut run: Run) -> Vec<String> {
    // Of those that wait the lowest is heard first, by hupwrap and by the puppet.
    run.kill("RTMAX");
    run.line("got RTMAX");
    let heard = run.stdout().lines().filter_map(|line| line.strip_prefix("got ")).map(str::to_owned).collect();
    run.kill("TERM");
    assert_eq!(run.end().shell(), 0);
    heard
}

#[test]
fn every_signal_is_forwarded_by_hupwrap() {
    let (mut run, _) = puppet_with(&[], &[]);
    let hupwrap = run.pid;
    for signal in forwarded() {
        run.kill(&signal.to_string());
        assert_eq!(run.line("got "), format!("got {signal} from {hupwrap}"));
    }
    let count = forwarded().count();
    assert_eq!(heard(run).len(), count + 1);
}

#[test]
fn the_two_signals_that_glibc_hides_are_forwarded_as_well() {
    for number in [32, 33] {
        let deaf_to_none = || {
            for number in [32, 33] {
                // The kernel's sigaction: the handler, and three words of zero.
                let default = [libc::SIG_DFL, 0, 0, 0];
                // SAFETY: the pointers are to a struct of ours, and null.
                unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), std::ptr::null::<u8>(), 8) };
            }
        };
        let setup = Setup::new(["--", "sh", "-c", "echo up; exec sleep 1000"]);
        let mut run = setup.with(|command| before_exec(command, deaf_to_none)).start();
        run.line("up");
        kill(run.pid, &number.to_string());
        assert_eq!(run.end().status.signal(), Some(number));
    }
}

#[test]
fn signals_for_job_control_are_forwarded_and_followed() {
    for signal in ["TSTP", "TTIN", "TTOU"] {
        let (mut run, _) = puppet_with(&[], &[]);
        run.kill(signal);
        assert_eq!(run.line("got "), format!("got {signal} from {}", run.pid));
        wait_until("hupwrap stops", || state(run.pid) == Some('T'));
        run.kill("CONT");
        run.line("got CONT");
        assert!(!heard(run).iter().any(|line| line.starts_with("TERM")));
    }
}

#[test]
fn two_terms_are_heard_twice() {
    let (mut run, _) = puppet_with(&[], &["ignore=TERM", "exit=USR1:5"]);
    for _ in 0..2 {
        run.kill("TERM");
        assert_eq!(run.line("got "), format!("got TERM from {}", run.pid));
        // So that a stopped child can react.
        assert_eq!(run.line("got "), format!("got CONT from {}", run.pid));
    }
    run.kill("USR1");
    let ended = run.end();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (5, ""));
}

#[test]
fn a_stopped_child_hears_of_a_stop() {
    let (mut run, child) = puppet_with(&[], &["exit=TERM:4"]);
    kill(child, "STOP");
    wait_until("the child stops", || state(child) == Some('T'));
    run.kill("USR1");
    wait_until("USR1 waits for the child", || {
        let waits = u64::from_str_radix(&status(child, "ShdPnd"), 16);
        waits.is_ok_and(|bits| bits & 1 << (libc::SIGUSR1 - 1) != 0)
    });
    run.kill("TERM");
    // The lower number first, and TERM ends it.
    run.line("got USR1");
    assert_eq!(run.line("got "), format!("got TERM from {}", run.pid));
    assert_eq!(run.end().shell(), 4);
}

#[test]
fn a_child_that_somebody_stopped_is_left_alone() {
    let (mut run, child) = puppet_with(&[], &[]);
    kill(child, "STOP");
    wait_until("the child stops", || state(child) == Some('T'));
    assert!(run.lives());
    kill(child, "CONT");
    run.line("got CONT");
    assert_eq!(heard(run).len(), 2);
}

#[test]
fn another_signal_is_sent_in_its_place_and_swaps_are_applied_once() {
    let swap = ["--on", "USR1=forward:USR2", "--on", "USR2=forward:USR1", "--on", "hup=forward:RTMIN+3"];
    let (mut run, _) = puppet_with(&swap, &[]);
    for (sent, heard) in [("USR1", "USR2"), ("USR2", "USR1"), ("HUP", "RTMIN+3")] {
        run.kill(sent);
        assert_eq!(run.line("got "), format!("got {heard} from {}", run.pid));
    }
    assert_eq!(heard(run).len(), 4);

    let swap = ["--on", "TERM=forward:INT", "--on", "INT=forward:TERM"];
    let (mut run, _) = puppet_with(&swap, &["ignore=TERM", "exit=QUIT:6"]);
    for (sent, heard) in [("TERM", "INT"), ("INT", "TERM")] {
        run.kill(sent);
        assert_eq!(run.line("got "), format!("got {heard} from {}", run.pid));
    }
    run.kill("QUIT");
    assert_eq!(run.end().shell(), 6);
}

#[test]
fn kill_and_stop_can_be_sent_in_the_place_of_another() {
    let (run, child) = puppet_with(&["--on", "USR1=forward:STOP", "--on", "USR2=forward:KILL"], &[]);
    run.kill("USR1");
    wait_until("the child stops", || state(child) == Some('T'));
    run.kill("USR2");
    assert_eq!(run.end().status.signal(), Some(libc::SIGKILL));
}

#[test]
fn what_is_ignored_is_not_heard() {
    let (run, _) = puppet_with(&["--on", "USR1=ignore", "--on", "HUP=ignore", "--on", "PIPE=ignore"], &[]);
    for signal in ["USR1", "HUP", "PIPE"] {
        run.kill(signal);
    }
    let hupwrap = run.pid;
    assert_eq!(heard(run), [format!("RTMAX from {hupwrap}")]);
}

#[test]
fn a_stop_may_have_a_signal_of_its_own() {
    for (options, sent, heard) in [
        (&["--on", "USR1=stop"][..], "USR1", "USR1"),
        (&["--on", "USR1=stop:INT"], "USR1", "INT"),
        (&["--stop-signal", "QUIT"], "TERM", "QUIT"),
        (&["--stop-signal", "QUIT"], "INT", "INT"),
        (&["--on", "TERM=stop:USR2", "--stop-signal", "QUIT"], "TERM", "USR2"),
    ] {
        let (mut run, _) = puppet_with(options, &["exit=USR1:7,USR2:7,INT:7,QUIT:7"]);
        run.kill(sent);
        assert_eq!(run.line("got "), format!("got {heard} from {}", run.pid), "{options:?} {sent}");
        assert_eq!(run.end().shell(), 7);
    }
}

#[test]
fn a_fault_is_hupwraps_own_unless_it_is_named() {
    let dir = Dir::new();
    for signal in Signal::all().filter(|signal| signal.is_fault()) {
        let name = signal.to_string();
        let setup = Setup::new(args([&"--", &puppet()]));
        let mut run = setup.with(|command| _ = command.current_dir(dir.path())).start();
        let (_, child) = run.ready();
        run.kill(&name);
        // The tether.
        run.line("got TERM");
        assert_eq!(run.status().signal(), Some(signal.number()));
        assert!(!run.stdout().contains(&format!("got {name}")), "{}", run.stdout());
        wait_until("the child ends", || !is_alive(child));

        let (mut run, _) = puppet_with(&["--on", &format!("{name}=forward")], &[]);
        run.kill(&name);
        assert_eq!(run.line("got "), format!("got {name} from {}", run.pid));
        assert_eq!(heard(run).len(), 2);
    }
}

#[test]
fn chld_is_forwarded_where_it_is_named() {
    let (run, _) = puppet_with(&[], &[]);
    run.kill("CHLD");
    let hupwrap = run.pid;
    assert_eq!(heard(run), [format!("RTMAX from {hupwrap}")]);

    // What the kernel says of hupwrap's own children stays with it: the end of the child before.
    let (mut run, _) = puppet_with(&["--on", "CHLD=forward"], &[]);
    run.kill("HUP");
    run.line("got TERM");
    run.ready();
    run.kill("CHLD");
    run.line("got CHLD");
    assert_eq!(heard(run).iter().filter(|line| line.starts_with("CHLD")).count(), 1);
}

#[test]
fn a_pipe_by_kill_is_forwarded_and_one_of_hupwraps_own_is_not() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let setup = Setup::new(args([&"--", &puppet()])).with(|command| _ = command.stderr(writer));
    let mut run = setup.start();
    run.ready();
    run.kill("PIPE");
    assert_eq!(run.line("got "), format!("got PIPE from {}", run.pid));
    // The line about this one has no reader.
    run.kill("HUP");
    run.ready();
    assert_eq!(heard(run).iter().filter(|line| line.starts_with("PIPE")).count(), 1);
}

#[test]
fn an_xfsz_that_hupwrap_caused_is_not_forwarded() {
    let dir = Dir::new();
    let program = dir.path().join("puppet");
    assert!(std::process::Command::new("cp").arg(puppet()).arg(&program).status().unwrap().success());
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut run = Setup::new(args([&"--", &program]))
        .with(|command| {
            command.stderr(log);
            before_exec(command, || {
                let limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
                // SAFETY: the pointer is to a struct of ours.
                unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) };
            });
        })
        .start();
    run.ready();
    std::fs::remove_file(&program).unwrap();
    // The line about its refusal is beyond the limit.
    run.kill("HUP");
    run.kill("USR1");
    run.line("got USR1");
    let hupwrap = run.pid;
    assert_eq!(heard(run), [format!("USR1 from {hupwrap}"), format!("RTMAX from {hupwrap}")]);
}

#[test]
fn in_group_mode_the_whole_group_hears_it() {
    let file = puppet();
    let script = "\"$0\" & exec \"$0\"";
    let mut run = Setup::new(args([&"--kill-mode", &"group", &"--", &"sh", &"-c", &script, &file])).start();
    let (_, one) = run.ready();
    let (_, other) = run.ready();
    assert_eq!(group(one), group(other));
    run.kill("USR1");
    run.line("got USR1");
    run.line("got USR1");
    run.kill("TERM");
    run.line("got TERM");
    run.line("got TERM");
    assert_eq!(run.end().shell(), 0);
    assert!(!is_alive(one) && !is_alive(other));
}

/// With these blocked, as env(1) starts it, a puppet cannot die of what it receives right after its exec.
fn blocking_users(words: Vec<OsString>) -> Setup {
    let env = args([&"--block-signal=USR1,USR2", &hupwrap()]);
    Setup::of("env", env.into_iter().chain(words))
}

#[test]
fn an_exec_that_is_tried_again_keeps_what_is_held() {
    for ready in ["exec", "notify"] {
        let dir = Dir::new();
        let program = dir.program("program", fs::read(puppet()).unwrap());
        let writer = fs::OpenOptions::new().append(true).open(&program).unwrap();
        let mut run = blocking_users(args([&"--ready", &ready, &"--", &program, &"notify"]))
            .env("NOTIFY_SOCKET", "/nowhere")
            .start();
        run.said("trying again in");
        run.kill("USR1");
        run.kill("USR2");
        run.kill("USR1");
        wait_until("hupwrap holds them", || is_at_rest(run.pid));
        drop(writer);
        run.line("got USR1");
        let ended = run.stop();
        assert_eq!((ended.shell(), ended.stdout.matches("got USR1").count()), (0, 1), "{ready}: {}", ended.stdout);
        assert!(!ended.stderr.contains("not passed on"), "{ready}: {}", ended.stderr);
    }
}

#[test]
fn a_hup_that_is_forwarded_is_held_too() {
    let dir = Dir::new();
    let program = dir.program("program", fs::read(puppet()).unwrap());
    let writer = fs::OpenOptions::new().append(true).open(&program).unwrap();
    let mut run = blocking_users(args([&"-v", &"--on-hup", &"forward:USR1", &"--", &program])).start();
    run.said("trying again in");
    run.kill("HUP");
    drop(writer);
    run.line("got USR1");
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stderr.matches("forward done").count()), (0, 1), "{}", ended.stderr);
    assert!(!ended.stderr.contains("refused") && !ended.stderr.contains("not passed on"), "{}", ended.stderr);
}

#[test]
fn a_signal_that_no_child_will_receive_is_said() {
    for (on_hup, signal, line) in
        [("restart", "USR1", "USR1 not passed on: no child runs"), ("forward", "HUP", "forward refused")]
    {
        let script = "\"$0\" ignore=TERM exit=USR1:0 & exec sleep 1000";
        let mut run = Setup::new(args([&"--on-hup", &on_hup, &"--", &"sh", &"-c", &script, &puppet()])).start();
        let (_, worker) = run.ready();
        // Told to stop, hupwrap ends when what is left has ended, and nothing starts again.
        run.kill("TERM");
        run.line("got TERM");
        run.kill(signal);
        run.said(line);
        kill(worker, "USR1");
        let ended = run.end();
        assert_eq!((ended.shell(), ended.stderr.lines().count()), (143, 1), "{signal}: {}", ended.stderr);
    }
}

#[test]
fn a_child_that_became_another_user_is_supervised_on() {
    const NAME: &str = "a_child_that_became_another_user_is_supervised_on";
    const NOBODY: u32 = 65534;
    let Some(setpriv) = installed("setpriv") else { return skipped(NAME, "setpriv(1)") };
    let dir = Dir::new();
    let as_nobody = |program: &std::path::Path, words: &[&dyn AsRef<OsStr>]| {
        Setup::of(program, words.iter().map(|word| word.as_ref().to_owned()))
            .with(|command| _ = command.uid(NOBODY).gid(NOBODY).current_dir("/"))
    };
    // Where nobody reaches them: the checkout may be in a home.
    let copy = |file: &std::path::Path, name: &str| {
        let done = Command::new("install").args(["-m", "755", "--"]).arg(file).arg(dir.path().join(name)).status();
        assert!(done.unwrap().success());
        dir.path().join(name)
    };
    let (hupwrap, puppet, setpriv) = (dir.hupwrap("hupwrap"), copy(&puppet(), "puppet"), copy(&setpriv, "setpriv"));
    let done = Command::new("chmod").arg("4755").arg(&setpriv).status();
    assert!(done.unwrap().success());
    assert_eq!(std::fs::metadata(&setpriv).unwrap().permissions().mode() & 0o7777, 0o4755);
    let become_root: [&dyn AsRef<OsStr>; 3] = [&setpriv, &"--reuid=0", &"--regid=0"];
    let able = nix::unistd::geteuid().is_root() && {
        let words: Vec<&dyn AsRef<OsStr>> =
            become_root[1..].iter().copied().chain([&"--clear-groups" as _, &"true" as _]).collect();
        let setup = as_nobody(&setpriv, &words);
        setup.with(|command| _ = command.stderr(Stdio::null())).end().shell() == 0
    };
    if !able {
        return skipped(NAME, "root, and a temporary directory where set-uid counts");
    }
    let mut words: Vec<&dyn AsRef<OsStr>> = vec![&"--"];
    words.extend(become_root);
    words.extend::<[&dyn AsRef<OsStr>; 3]>([&"--clear-groups", &puppet, &"exit=USR2:8"]);
    let mut run = as_nobody(&hupwrap, &words).start();
    let (_, child) = run.ready();
    for signal in ["USR1", "TERM"] {
        run.kill(signal);
        run.said(&format!("hupwrap: cannot send {signal} to pid {child}: Operation not permitted\n"));
    }
    // Root ends it.
    kill(child, "USR2");
    let ended = run.end();
    assert_eq!(ended.shell(), 8);
    assert!(!ended.stdout.contains("got USR1") && !ended.stdout.contains("got TERM"), "{}", ended.stdout);
}
