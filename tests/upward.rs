//! What a supervisor above, systemd, is told: a fake one listens.

use std::fs;
use std::os::unix::net::UnixListener;

use crate::support::notify::*;
use crate::support::*;

/// Ends the run, of which nothing else was to be told.
#[track_caller]
fn the_end(run: Run, above: &mut Above) -> Ended {
    run.kill("TERM");
    above.expect(&["STOPPING=1"]);
    let ended = run.end();
    assert_eq!(above.rest(), [""; 0]);
    ended
}

/// Returns when hupwrap has acted upon everything that was told and sent before. The child is a puppet.
#[track_caller]
fn settled(run: &mut Run) {
    // Not held until the child is ready, as most signals are.
    run.kill("WINCH");
    run.line("got WINCH ");
}

#[test]
fn a_restart_is_a_reload() {
    for mut above in [Above::new(), Above::hidden("restart")] {
        let mut run = Setup::new(args([&"--", &puppet()])).env("NOTIFY_SOCKET", above.name()).start();
        run.ready();
        above.expect(&["READY=1"]);
        for _ in 0..3 {
            run.kill("HUP");
            above.expect(&["RELOADING", "READY=1"]);
            run.ready();
        }
        let ended = the_end(run, &mut above);
        assert_eq!(ended.shell(), 0);
    }
}

#[test]
fn the_status_says_what_has_been_running_since_when() {
    let mut above = Above::new();
    let program = puppet().file_name().unwrap().to_string_lossy().into_owned();
    let options = args([&"--restart", &"on-failure", &"--restart-delay", &"1ms", &"--", &puppet(), &"exit=USR1:3"]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    above.expect(&["READY=1"]);
    // After a crash the next child is shown, and before that why there is none.
    kill(child, "USR1");
    let crashed = above.expect_beginning(&format!("STATUS={program}[{child}] ended with 3 after "));
    assert!(crashed.contains("starting it again in "), "{crashed}");
    let (_, child) = run.ready();
    above.expect(&["STATUS=running"]);
    run.kill("HUP");
    above.expect(&["RELOADING", "READY=1"]);
    run.ready();
    assert_eq!(above.running.len(), 3);
    for running in &above.running {
        let since = running.strip_prefix(&format!("{program} has been running since ")).expect(running);
        let since = humantime::parse_rfc3339(since).expect(since);
        let age = std::time::SystemTime::now().duration_since(since).expect("a time in the past");
        assert!(age < PATIENCE * 2, "{running}");
    }
    assert!(state(child).is_none());
    the_end(run, &mut above);
}

#[test]
fn a_child_that_says_its_own_status_keeps_it() {
    let mut above = Above::new();
    let options = args([&"--ready", &"notify", &"--on", &"USR2=upgrade", &"--", &puppet()]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    tell(child, "READY=1\nSTATUS=mine");
    above.expect(&["STATUS=mine", "READY=1"]);
    run.kill("USR2");
    above.expect(&["RELOADING", "READY=1"]);
    run.said("took over");
    assert_eq!(above.running, [""; 0]);
    // Of the next one, nothing is known before it says something.
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    let (_, child) = run.ready();
    tell(child, "READY=1");
    above.expect(&["READY=1"]);
    assert_eq!(above.running.len(), 1);
    the_end(run, &mut above);
}

/// systemd sends HUP to a unit with `Type=notify-reload`, whatever hupwrap makes of it.
#[test]
fn a_forwarded_hup_is_a_reload() {
    let mut above = Above::new();
    let options = args([&"--on-hup", &"forward", &"--check", &"test -e fine", &"--", &puppet()]);
    let dir = Dir::new();
    let mut run = Setup::new(options).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
    run.ready();
    above.expect(&["READY=1"]);
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    above.expect_beginning("READY=1\nSTATUS=forward refused, nothing was touched: check 'test -e fine' ended with 1");
    dir.file("fine", "", 0o644);
    run.kill("HUP");
    above.expect(&["RELOADING", "READY=1"]);
    run.line("got HUP");
    the_end(run, &mut above);
}

#[test]
fn a_replace_is_over_when_the_new_child_is_ready() {
    let mut above = Above::new();
    let options =
        args([&"--on-hup", &"replace", &"--ready", &"notify", &"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, old) = run.ready();
    tell(old, "STATUS=starting");
    tell(old, "READY=1\nSTATUS=first");
    above.expect(&["STATUS=starting", "STATUS=first", "READY=1"]);
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    let (_, new) = run.ready();
    // Both are of interest until then, and neither is the other.
    tell(old, "STATUS=old\nREADY=1\nMAINPID=1\nSTOPPING=1");
    tell(new, "STATUS=new");
    above.expect(&["STATUS=old", "STATUS=new"]);
    tell(new, "READY=1");
    above.expect(&["READY=1"]);
    run.line("got TERM");
    // What the old one still says is no news of the service.
    tell(old, "STATUS=going\nSTOPPING=1\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=1");
    tell(new, "STATUS=serving\nWATCHDOG=1");
    above.expect(&["STATUS=serving\nWATCHDOG=1"]);
    kill(old, "USR1");
    wait_until("the old one is reaped", || state(old).is_none());
    tell(new, "STATUS=alone");
    above.expect(&["STATUS=alone"]);
    run.kill("TERM");
    above.expect(&["STOPPING=1"]);
    run.line("got TERM");
    tell(new, "STATUS=ending\nEXTEND_TIMEOUT_USEC=1");
    above.expect(&["STATUS=ending\nEXTEND_TIMEOUT_USEC=1"]);
    kill(new, "USR1");
    run.end();
    assert_eq!(above.rest(), [""; 0]);
}

#[test]
fn a_reexec_goes_on_where_the_one_before_left_off() {
    for (action, new_child) in [("upgrade", false), ("reexec", true), ("upgrade+replace", true)] {
        let mut above = Above::new();
        let dir = Dir::new();
        let program = dir.hupwrap("hupwrap");
        let options = args([&"--on-hup", &action, &"--ready", &"notify", &"--", &puppet()]);
        let mut run = Setup::of(&program, options).env("NOTIFY_SOCKET", above.name()).start();
        let (_, mut child) = run.ready();
        let socket = socket_of(child);
        tell(child, "READY=1");
        above.expect(&["READY=1"]);
        assert_eq!(std::mem::take(&mut above.running).len(), 1, "{action}");
        for _ in 0..3 {
            run.kill("HUP");
            above.expect(&["RELOADING"]);
            if new_child {
                child = run.ready().1;
                tell(child, "READY=1");
            }
            above.expect(&["READY=1"]);
            // It takes away what the child before had to say.
            assert_eq!(std::mem::take(&mut above.running).len(), usize::from(new_child), "{action}");
            run.said("took over");
            assert_eq!(socket_of(child) == socket, !new_child, "{action}");
            tell(child, "STATUS=up");
            above.expect(&["STATUS=up"]);
            wait_until("the old one is gone", || children(run.pid) == [child]);
        }
        the_end(run, &mut above);
        assert!(socket.is_some_and(|socket| !std::path::Path::new(&socket).exists()), "{action}");
    }
}

#[test]
fn a_refusal_ends_the_reload_with_its_reason() {
    for action in ["restart", "replace", "reexec", "upgrade"] {
        let mut above = Above::new();
        let dir = Dir::new();
        let options =
            args([&"--on-hup", &action, &"--check", &"test -e fine", &"--ready", &"notify", &"--", &puppet()]);
        let program = dir.hupwrap("hupwrap");
        let mut run = Setup::of(&program, options).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
        let (_, child) = run.ready();
        tell(child, "READY=1");
        above.expect(&["READY=1"]);
        let refused =
            format!("READY=1\nSTATUS={action} refused, nothing was touched: check 'test -e fine' ended with 1");
        run.kill("HUP");
        above.expect(&["RELOADING", &refused]);
        // The next one takes that away.
        run.kill("HUP");
        above.expect(&["RELOADING", &refused]);
        assert_eq!(above.running.len(), 4, "{:?}", above.running);
        // What the child says afterwards is its own.
        tell(child, "STATUS=mine");
        above.expect(&["STATUS=mine"]);
        run.kill("HUP");
        above.expect(&["RELOADING", &refused]);
        assert_eq!(children(run.pid), [child]);
        the_end(run, &mut above);
    }
}

#[test]
fn a_new_hupwrap_that_is_none_is_refused() {
    let mut above = Above::new();
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let options = args([&"--on-hup", &"reexec", &"--", &puppet()]);
    let mut run = Setup::of(&program, options).env("NOTIFY_SOCKET", above.name()).start();
    run.ready();
    above.expect(&["READY=1"]);
    fs::remove_file(&program).unwrap();
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    let reason = above.expect_beginning("READY=1\nSTATUS=reexec refused, nothing was touched: ");
    assert!(reason.contains(program.to_str().unwrap()), "{reason}");
    the_end(run, &mut above);
}

#[test]
fn a_replace_that_fails_ends_the_reload_with_its_reason() {
    let mut above = Above::new();
    let script =
        "echo ready $HUPWRAP_GENERATION $$; test $HUPWRAP_GENERATION = 2 || exec \"$0\"; read x < fifo; exit 3";
    let dir = Dir::new();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let options = ["--on-hup", "replace", "--ready", "notify", "--", "sh", "-c", script];
    let command: Vec<_> = options.iter().map(std::ffi::OsString::from).chain([puppet().into_os_string()]).collect();
    let mut run = Setup::new(command).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
    run.ready();
    let (_, old) = run.ready();
    tell(old, "READY=1");
    above.expect(&["READY=1"]);
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    run.ready();
    fs::write(dir.path().join("fifo"), "\n").unwrap();
    let reason = above.expect_beginning("READY=1\nSTATUS=replace failed, the old one serves on: ");
    assert!(reason.starts_with("the new sh ended (") && reason.contains("before it was ready"), "{reason}");
    // The next one is fine.
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    run.ready();
    let (generation, new) = run.ready();
    assert_eq!(generation, 3);
    tell(new, "READY=1");
    above.expect(&["READY=1"]);
    the_end(run, &mut above);
}

#[test]
fn a_new_child_that_was_given_up_does_not_speak_for_the_service() {
    let mut above = Above::new();
    let options = args([
        &"--on-hup",
        &"replace",
        &"--ready",
        &"notify",
        &"--ready-timeout",
        &"4s",
        &"--",
        &puppet(),
        &"ignore=TERM",
        &"exit=USR1:0",
    ]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, old) = run.ready();
    tell(old, "READY=1");
    above.expect(&["READY=1"]);
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    let (_, new) = run.ready();
    above.expect_beginning("READY=1\nSTATUS=replace failed, the old one serves on: ");
    run.line("got TERM");
    tell(new, "STATUS=I am going\nWATCHDOG=trigger\nREADY=1");
    tell(old, "STATUS=I am not");
    above.expect(&["STATUS=I am not"]);
    kill(new, "USR1");
    wait_until("it is reaped", || state(new).is_none());
    kill(old, "USR1");
    run.end();
    assert_eq!(above.rest(), [""; 0]);
}

#[test]
fn a_restart_that_fails_for_good_says_why_and_is_never_ready() {
    let mut above = Above::new();
    let script = "echo ready $HUPWRAP_GENERATION $$; test $HUPWRAP_GENERATION = 2 || exec \"$0\"; exit 3";
    let command = args([&"--ready", &"notify", &"--", &"sh", &"-c", &script, &puppet()]);
    let mut run = Setup::new(command).env("NOTIFY_SOCKET", above.name()).start();
    run.ready();
    let (_, child) = run.ready();
    tell(child, "READY=1");
    run.kill("HUP");
    above.expect(&["READY=1", "RELOADING"]);
    let reason = above.expect_beginning("STATUS=restart failed: ");
    assert!(reason.contains("before it was ready"), "{reason}");
    assert_eq!(run.end().shell(), 3);
    assert_eq!(above.rest(), [""; 0]);
}

#[test]
fn why_nothing_was_ever_ready_is_told() {
    let mut above = Above::new();
    let options = ["--ready", "notify", "--ready-timeout", "300ms", "--restart", "always", "--restart-delay", "1ms"];
    let command = args([&"--", &puppet()]);
    let run =
        Setup::new([options.map(Into::into).to_vec(), command].concat()).env("NOTIFY_SOCKET", above.name()).start();
    for _ in 0..2 {
        let reason = above.expect_beginning("STATUS=");
        assert!(reason.contains(" was not ready within 300ms"), "{reason}");
        let reason = above.expect_beginning("STATUS=");
        assert!(reason.contains(" was not ready in time after ") && reason.contains("starting it again"), "{reason}");
    }
    run.stop();
    let mut above = Above::new();
    let options =
        ["--ready", "delay:1h", "--ready-timeout", "never", "--restart", "on-failure", "--restart-delay", "1ms"];
    let command = ["--restart-limit", "1", "--", "sh", "-c", "exit 3"];
    let ended = Setup::new([&options[..], &command].concat()).env("NOTIFY_SOCKET", above.name()).end();
    let reason = above.expect_beginning("STATUS=sh[");
    assert!(reason.contains("] ended with 3 after "), "{reason}");
    let reason = above.expect_beginning("STATUS=sh[");
    assert!(reason.contains("] ended with 3; gave up on sh after 1 restart"), "{reason}");
    assert_eq!((ended.shell(), above.rest()), (3, vec![]));
}

#[test]
fn a_restart_that_fails_for_a_while_is_a_reload_until_it_succeeds() {
    let mut above = Above::new();
    let dir = Dir::new();
    let (program, hupwrap) = (dir.path().join("child"), dir.hupwrap("hupwrap"));
    assert!(std::process::Command::new("cp").arg(puppet()).arg(&program).status().unwrap().success());
    let options = args([&"--on", &"USR2=upgrade", &"--", &program]);
    let mut run = Setup::of(hupwrap, options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    above.expect(&["READY=1"]);
    tell(child, "STATUS=up");
    above.expect(&["STATUS=up"]);
    // Its text is busy while somebody has it open for writing; and a file that runs cannot be opened so.
    let copy = dir.path().join("copy");
    assert!(std::process::Command::new("cp").arg(&program).arg(&copy).status().unwrap().success());
    let open = fs::OpenOptions::new().append(true).open(&copy).unwrap();
    fs::rename(&copy, &program).unwrap();
    run.kill("HUP");
    above.expect(&["RELOADING"]);
    above.expect_beginning("STATUS=restart failed: ");
    // No child serves: nothing that is done meanwhile makes the service ready.
    run.kill("USR2");
    above.expect(&["RELOADING\nSTATUS="]);
    run.said("took over");
    drop(open);
    run.ready();
    above.expect(&["READY=1"]);
    the_end(run, &mut above);
}

#[test]
fn a_hup_that_shares_a_start_is_answered_as_well() {
    let mut above = Above::new();
    let mut run =
        Setup::new(args([&"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"])).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    above.expect(&["READY=1"]);
    run.kill("HUP");
    run.line("got TERM");
    // systemd asks just now, and waits for a reload that began later than this, of which it has to be told.
    let asked = monotonic();
    run.kill("HUP");
    settled(&mut run);
    above.expect(&["RELOADING"]);
    assert!(above.reloaded() < asked);
    kill(child, "USR1");
    assert_eq!(run.ready().0, 2);
    above.expect(&["RELOADING", "READY=1"]);
    assert!(above.reloaded() >= asked);
    // It was one start, and nothing is left to be done.
    settled(&mut run);
    let (_, child) = (2, children(run.pid)[0]);
    run.kill("TERM");
    above.expect(&["STOPPING=1"]);
    kill(child, "USR1");
    run.end();
    assert_eq!(above.rest(), [""; 0]);
}

#[test]
fn a_hup_that_a_reexec_serves_as_well_is_answered() {
    let mut above = Above::new();
    let dir = Dir::new();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let check = "sh -c 'echo checking; read x < fifo'";
    let options = args([&"--on-hup", &"upgrade", &"--check", &check, &"--", &puppet()]);
    let program = dir.hupwrap("hupwrap");
    let mut run = Setup::of(&program, options).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
    run.ready();
    above.expect(&["READY=1"]);
    run.kill("HUP");
    run.said_times("checking", 1);
    let asked = monotonic();
    run.kill("HUP");
    settled(&mut run);
    above.expect(&["RELOADING"]);
    assert!(above.reloaded() < asked);
    fs::write(dir.path().join("fifo"), "\n").unwrap();
    above.expect(&["RELOADING", "READY=1"]);
    assert!(above.reloaded() >= asked);
    the_end(run, &mut above);
}

#[test]
fn a_hup_during_a_reload_is_another_reload() {
    let mut above = Above::new();
    let mut run =
        Setup::new(args([&"--ready", &"notify", &"--", &puppet()])).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    // Before the first one is ready, and before the second.
    for child in [child, 0] {
        let child = if child == 0 { run.ready().1 } else { child };
        run.kill("HUP");
        settled(&mut run);
        tell(child, "READY=1");
        above.expect(&["READY=1", "RELOADING"]);
    }
    let (generation, child) = run.ready();
    assert_eq!(generation, 3);
    tell(child, "READY=1");
    above.expect(&["READY=1"]);
    the_end(run, &mut above);
}

/// What systemd makes of it, for a unit with `Type=notify-reload` (service.c, `service_notify_message_process_state`).
#[derive(Clone, Copy, PartialEq, Debug)]
enum Unit {
    Start,
    Running,
    /// The signal was sent then, and no reload has begun since.
    ReloadSignal(u64),
    ReloadNotify,
    Stopping,
}

impl Unit {
    fn hear(self, datagram: &str, reloaded: u64) -> Self {
        match (self, datagram.lines().next().unwrap_or_default()) {
            (_, "STOPPING=1") => Self::Stopping,
            (Self::Start | Self::ReloadNotify, "READY=1") => Self::Running,
            (Self::Running, "RELOADING") => Self::ReloadNotify,
            (Self::ReloadSignal(sent), "RELOADING") if reloaded >= sent => Self::ReloadNotify,
            (unit, _) => unit,
        }
    }
}

#[test]
fn systemctl_reload_never_waits_in_vain() {
    for action in ["restart", "replace", "reexec", "upgrade", "upgrade+replace"] {
        for check in ["true", "false"] {
            let mut above = Above::new();
            let dir = Dir::new();
            let options = args([&"--on-hup", &action, &"--check", &check, &"--ready", &"delay:1ms", &"--", &puppet()]);
            let run = Setup::of(dir.hupwrap("hupwrap"), options).env("NOTIFY_SOCKET", above.name()).start();
            let mut unit = Unit::Start;
            while unit != Unit::Running {
                unit = unit.hear(&above.next(), 0);
            }
            for other_hups in [0, 1, 2, 3, 1, 0] {
                // Somebody else sends HUPs as well, and systemd has not heard of what they do when it sends its own.
                (0..other_hups).for_each(|_| run.kill("HUP"));
                unit = Unit::ReloadSignal(monotonic());
                run.kill("HUP");
                run.kill("CONT");
                while unit != Unit::Running {
                    let next = above.next();
                    unit = unit.hear(&next, above.reloaded());
                }
            }
            run.kill("TERM");
            while unit != Unit::Stopping {
                let next = above.next();
                unit = unit.hear(&next, above.reloaded());
            }
            // Right after its exec a puppet has not yet arranged to end well.
            assert!([0, 143].contains(&run.end().shell()), "{action} {check}");
        }
    }
}

#[test]
fn the_child_never_sees_the_socket_above() {
    let above = Above::new();
    let mut run = Setup::new(args([&"--", &puppet()])).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    let socket = socket_of(child).unwrap();
    assert_ne!(Some(socket.as_str()), above.name().to_str());
    run.kill("HUP");
    let (_, child) = run.ready();
    let next = socket_of(child).unwrap();
    assert_ne!((next.as_str(), Some(next.as_str())), (socket.as_str(), above.name().to_str()));
    run.stop();
    // What is not understood is no socket for the child either.
    for odd in ["vsock:2:1234", "nonsense", ""] {
        let mut run = Setup::new(args([&"--", &puppet()])).env("NOTIFY_SOCKET", odd).start();
        let (_, child) = run.ready();
        assert_eq!(socket_of(child), None, "{odd}");
    }
}

#[test]
fn a_stop_before_anything_is_ready_is_told() {
    let mut above = Above::new();
    let mut run =
        Setup::new(args([&"--ready", &"notify", &"--", &puppet()])).env("NOTIFY_SOCKET", above.name()).start();
    run.ready();
    run.kill("HUP");
    the_end(run, &mut above);
}

/// The watchdog is fed so often at least, more often on a slow machine, and then this is said.
#[track_caller]
fn fed(above: &mut Above, least: usize, then: &str) {
    let mut times = 0;
    loop {
        match above.next() {
            said if said == "WATCHDOG=1" => times += 1,
            said => return assert_eq!((said.as_str(), times >= least), (then, true), "fed {times} times"),
        }
    }
}

#[test]
fn the_watchdog_is_fed_while_no_child_can() {
    let mut above = Above::new();
    // The variable must name hupwrap, whose pid the shell has.
    let script = "WATCHDOG_PID=$$ exec \"$@\"";
    let setup = |own: &str| {
        let options = args([&"-c", &script.replace("$$", own), &"sh", &hupwrap(), &"--on", &"USR2=upgrade"]);
        let command = args([&"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]);
        Setup::of("sh", options.into_iter().chain(command)).env("WATCHDOG_USEC", "100000")
    };
    let mut run = setup("$$").env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    assert_eq!(variable_of(child, "WATCHDOG_PID"), Some(child.to_string()));
    assert_eq!(variable_of(child, "WATCHDOG_USEC").as_deref(), Some("100000"));
    // Before its exec no child was there.
    fed(&mut above, 0, "READY=1");
    // Then it feeds it itself.
    tell(child, "WATCHDOG=1\nSTATUS=mine");
    above.expect(&["WATCHDOG=1\nSTATUS=mine"]);
    // An exec, before and after.
    run.kill("USR2");
    above.expect(&["RELOADING"]);
    fed(&mut above, 2, "READY=1");
    // It is stopped, which takes its time.
    run.kill("HUP");
    above.expect(&["RELOADING", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    kill(child, "USR1");
    let (_, child) = run.ready();
    while above.next() == "WATCHDOG=1" {}
    assert_eq!(variable_of(child, "WATCHDOG_PID"), Some(child.to_string()));
    run.kill("TERM");
    above.expect(&["STOPPING=1", "WATCHDOG=1", "WATCHDOG=1"]);
    kill(child, "USR1");
    run.end();

    // One that waits for somebody else is no business of ours, nor of the child's.
    let mut run = setup("1").env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    assert_eq!(variable_of(child, "WATCHDOG_PID").as_deref(), Some("1"));
    kill(child, "USR1");
    run.end();
    // And without a socket nobody could be fed.
    let mut run = setup("$$").start();
    let (_, child) = run.ready();
    assert_eq!(variable_of(child, "WATCHDOG_PID"), Some(run.pid.to_string()));
}

#[test]
fn a_missing_service_manager_holds_nothing_up() {
    let dir = Dir::new();
    let stream = dir.path().join("stream");
    let _listener = UnixListener::bind(&stream).unwrap();
    let gone = dir.path().join("gone");
    drop(std::os::unix::net::UnixDatagram::bind(&gone).unwrap());
    let file = dir.file("file", "", 0o600);
    for name in [&stream, &gone, &file, &dir.path().join("nowhere"), dir.path(), std::path::Path::new("@nobody there")]
    {
        let mut run = Setup::new(args([&"--", &puppet()])).env("NOTIFY_SOCKET", name).start();
        let (_, child) = run.ready();
        tell(child, "STATUS=up");
        run.kill("HUP");
        run.ready();
        let ended = run.stop();
        assert_eq!((ended.shell(), ended.stderr.contains("NOTIFY")), (0, false), "{name:?}");
    }
}

#[test]
fn a_busy_service_manager_holds_nothing_up_and_hears_it_later() {
    let mut above = Above::new();
    let filled = above.fill();
    let options = args([&"--ready", &"notify", &"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    // What a child has to say does not take hupwrap's own words' place.
    for number in 0..300 {
        tell(child, format!("STATUS={number}"));
    }
    tell(child, "READY=1");
    settled(&mut run);
    run.kill("HUP");
    run.line("got TERM");
    kill(child, "USR1");
    let (_, child) = run.ready();
    tell(child, "READY=1");
    settled(&mut run);
    for _ in 0..filled {
        above.expect(&["X_FILL=1"]);
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last: &String| !last.starts_with("READY=1") || heard.len() < 3) {
        heard.extend(Some(above.next()).filter(|next| !next.starts_with("STATUS=")));
    }
    assert_eq!(heard[..2], ["READY=1", "RELOADING"], "{heard:?}");
    run.kill("TERM");
    above.expect(&["STOPPING=1"]);
    kill(child, "USR1");
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn a_service_manager_that_never_reads_holds_nothing_up() {
    let above = Above::new();
    above.fill();
    let dir = Dir::new();
    let options = args([&"--on", &"USR2=reexec", &"--", &puppet()]);
    let mut run = Setup::of(dir.hupwrap("hupwrap"), options).env("NOTIFY_SOCKET", above.name()).start();
    run.ready();
    for signal in ["HUP", "USR2"].repeat(40) {
        run.kill(signal);
        run.ready();
    }
    let fds = open_fds(run.pid);
    assert!(fds < 16, "{fds}");
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn what_there_was_no_room_for_crosses_a_reexec() {
    let mut above = Above::new();
    let dir = Dir::new();
    let options = args([&"--on", &"USR2=reexec", &"--", &puppet()]);
    let mut run = Setup::of(dir.hupwrap("hupwrap"), options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, mut child) = run.ready();
    above.expect(&["READY=1"]);
    let filled = above.fill();
    for times in 1..3 {
        tell(child, format!("STATUS=\u{1}ü\\ {times}"));
        settled(&mut run);
        run.kill("USR2");
        run.said_times("took over", times);
        (_, child) = run.ready();
        settled(&mut run);
    }
    for _ in 0..filled {
        above.expect(&["X_FILL=1"]);
    }
    for times in 1..3 {
        above.expect(&[&format!("STATUS=\u{1}ü\\ {times}"), "RELOADING"]);
        let ready = above.next();
        assert!(ready == "READY=1" || ready == "READY=1\nSTATUS=", "{ready}");
    }
    the_end(run, &mut above);
}
