//! What the terminal is to one child after another: jobs that come to the foreground, the modes, and who sends a
//! signal.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use nix::unistd::{Uid, User};

use crate::support::pty::Terminal;
use crate::support::*;
use crate::terminal::{gone, line_in, pass, ready_in};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

/// How often each chance is tried.
const TIMES: usize = 20;

fn stopped(pid: i32) {
    wait_until(&format!("{pid} is stopped"), || state(pid) == Some('T'));
}

/// Without its line editor.
const ZSH: [&str; 6] = ["-fi", "+o", "zle", "-onopromptcr", "-onobanghist", "-onocheckjobs"];

fn zsh(terminal: &mut Terminal) -> Option<Run> {
    let Some(zsh) = installed("zsh") else {
        skipped("a job of zsh", "zsh");
        return None;
    };
    let setup = terminal.lead(Setup::of(zsh, ZSH)).env("PS1", "prompt\n");
    let shell = setup.env("H", hupwrap()).env("P", puppet()).start();
    terminal.prompt();
    Some(shell)
}

/// A job that was started with `&` and brought to the foreground, by this shell.
fn a_job_reads(terminal: &mut Terminal, shell: &Run) {
    let command = r#""$H" --stop-signal KILL -- sh -c 'echo "ready $HUPWRAP_GENERATION $$"; exec cat' &"#;
    terminal.enter(command);
    let (_, cat) = terminal.ready();
    let hupwrap = parent(cat).unwrap();
    stopped(cat);
    terminal.enter("fg");
    terminal.enter("one");
    terminal.line("one");
    // Ctrl-Z, bg and fg, as of any job.
    for word in ["two", "three"] {
        // A CONT that hupwrap still has to pass on would undo it.
        wait_until("hupwrap waits", || is_at_rest(hupwrap));
        terminal.keys(CTRL_Z);
        terminal.prompt();
        stopped(cat);
        stopped(hupwrap);
        assert_eq!(terminal.foreground(), shell.pid);
        terminal.enter("bg");
        terminal.enter("echo still $((1 + 1)) here");
        terminal.line("still 2 here");
        stopped(cat);
        terminal.enter("fg");
        terminal.enter(word);
        terminal.line(word);
    }
    // The next child, too, once it reads.
    kill(hupwrap, "HUP");
    let (generation, next) = terminal.ready();
    assert_eq!((generation, parent(next)), (2, Some(hupwrap)));
    terminal.enter("four");
    terminal.line("four");
    assert_ne!(state(next), Some('T'));
    terminal.keys(CTRL_C);
    terminal.prompt();
    gone(&[next, hupwrap]);
    assert_eq!(terminal.foreground(), shell.pid);
}

#[test]
fn a_job_of_bash_reads_its_terminal() {
    let mut terminal = Terminal::new();
    let Some(shell) = terminal.shell(module_path!()) else { return };
    for _ in 0..3 {
        a_job_reads(&mut terminal, &shell);
    }
}

#[test]
fn a_job_of_zsh_reads_its_terminal() {
    let mut terminal = Terminal::new();
    let Some(shell) = zsh(&mut terminal) else { return };
    for _ in 0..3 {
        a_job_reads(&mut terminal, &shell);
    }
}

#[test]
fn ctrl_c_is_final_for_a_job_that_was_in_the_background() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    terminal.enter(r#""$H" --restart always -- sh -c 'echo "ready $HUPWRAP_GENERATION $$"; exec cat' &"#);
    let (_, cat) = terminal.ready();
    stopped(cat);
    terminal.enter("fg");
    terminal.enter("one");
    terminal.line("one");
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 130");
    assert_eq!(terminal.count("ready"), 1);
}

#[test]
fn a_job_that_is_replaced_reads_its_terminal() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    let reader = r#"sh -c 'echo "ready $HUPWRAP_GENERATION $$"; exec cat'"#;
    terminal.enter(&format!("\"$H\" --on-hup replace --ready exec -- {reader} &"));
    let (_, cat) = terminal.ready();
    let hupwrap = parent(cat).unwrap();
    stopped(cat);
    terminal.enter("fg");
    terminal.enter("one");
    terminal.line("one");
    let mut old = cat;
    for (generation, word) in [(2, "two"), (3, "three")] {
        kill(hupwrap, "HUP");
        let (ready, next) = terminal.ready();
        assert_eq!(ready, generation);
        gone(&[old]);
        terminal.enter(word);
        terminal.line(word);
        old = next;
    }
    terminal.keys(CTRL_C);
    terminal.prompt();
    gone(&[old, hupwrap]);
}

#[test]
fn a_job_below_another_hupwrap_reads_its_terminal() {
    let mut terminal = Terminal::new();
    let Some(shell) = terminal.shell(module_path!()) else { return };
    let reader = r#""$H" -- sh -c 'echo "ready $HUPWRAP_GENERATION $$"; exec cat'"#;
    for (options, end) in [("--", "&"), ("--group own --", "")] {
        terminal.enter(&format!("\"$H\" {options} {reader} {end}"));
        let (_, cat) = terminal.ready();
        let inner = parent(cat).unwrap();
        let outer = parent(inner).unwrap();
        if end == "&" {
            stopped(cat);
            stopped(inner);
            terminal.enter("fg");
        }
        for word in ["one", "two"] {
            terminal.enter(word);
            terminal.line(word);
            wait_until("both wait", || is_at_rest(outer) && is_at_rest(inner));
            terminal.keys(CTRL_Z);
            terminal.prompt();
            [cat, inner, outer].into_iter().for_each(stopped);
            assert_eq!(terminal.foreground(), shell.pid);
            terminal.enter("fg");
        }
        terminal.enter("three");
        terminal.line("three");
        terminal.keys(CTRL_C);
        terminal.prompt();
        gone(&[cat, inner, outer]);
    }
}

#[test]
fn a_job_reads_its_terminal_with_others_between_it_and_another_hupwrap() {
    let dir = Dir::new();
    let reader = dir.program("reader", "#!/bin/sh\necho \"ready $HUPWRAP_GENERATION $$\"\nexec cat\n");
    for script in ["\"$H\" -- \"$R\"; true", "true; x=$(\"$H\" -- \"$R\" >/dev/tty); true"] {
        let mut terminal = Terminal::new();
        let Some(shell) = terminal.shell(module_path!()) else { return };
        let between = dir.program("between", format!("#!/bin/bash\n{script}\n"));
        terminal.enter(&format!("R={} \"$H\" -- {} &", reader.display(), between.display()));
        let (_, cat) = terminal.ready();
        let line: Vec<i32> =
            std::iter::successors(Some(cat), |pid| parent(*pid).filter(|pid| *pid != shell.pid)).collect();
        assert!(line.len() >= 4, "{line:?}");
        for word in ["one", "two"] {
            // The one above, the last of the line, was never stopped before it is in the foreground.
            line.iter().rev().skip(1).copied().for_each(stopped);
            assert_eq!(terminal.foreground(), shell.pid);
            terminal.enter("fg");
            terminal.enter(word);
            terminal.line(word);
            wait_until("both wait", || [line[1], line[line.len() - 1]].into_iter().all(is_at_rest));
            terminal.keys(CTRL_Z);
            terminal.prompt();
        }
        terminal.enter("fg");
        terminal.enter("three");
        terminal.line("three");
        terminal.keys(CTRL_C);
        terminal.prompt();
        gone(&line);
    }
}

#[test]
fn what_has_started_it_reads_the_terminal_after_it() {
    // With nothing left in the child's group, and with a process in the background.
    for left in ["", "sleep 1000 </dev/null >/dev/null 2>&1 & echo left $!;"] {
        let child = format!("{left} echo ready 1 $$; read x; echo first $x; exit 3");
        let script = "\"$H\" --group own -- sh -c \"$C\"; echo status $?; read y; echo second $y";
        let mut terminal = Terminal::new();
        let setup = terminal.lead(Setup::of("sh", ["-c", script])).env("H", hupwrap()).env("C", child);
        let mut run = setup.start();
        let sleeper: Option<i32> = (!left.is_empty()).then(|| {
            let line = terminal.line("left ");
            line.trim_start_matches("left ").parse().unwrap()
        });
        terminal.ready();
        terminal.enter("a");
        terminal.line("first a");
        terminal.line("status 3");
        terminal.enter("b");
        terminal.line("second b");
        run.status();
        sleeper.into_iter().for_each(|pid| kill(pid, "KILL"));
    }
}

#[test]
fn a_leader_of_its_session_is_not_stopped_with_its_child() {
    // In a group that nobody continues, by Ctrl-Z and by somebody else.
    let script = "echo ready 1 $$; exec cat";
    let mut terminal = Terminal::new();
    let mut run = terminal.lead(Setup::new(["--group", "own", "--", "sh", "-c", script])).start();
    let (_, cat) = terminal.ready();
    for (at, word) in ["one", "two"].iter().enumerate() {
        terminal.enter(word);
        terminal.line(word);
        wait_until("hupwrap waits", || is_at_rest(run.pid));
        match at {
            0 => terminal.keys(CTRL_Z),
            _ => kill(cat, "STOP"),
        }
    }
    terminal.enter("three");
    terminal.line("three");
    terminal.keys(CTRL_C);
    run.status();

    let mut terminal = Terminal::new();
    let mut run = terminal.lead(Setup::new(["--", "sh", "-c", script])).start();
    let (_, cat) = terminal.ready();
    kill(cat, "STOP");
    stopped(cat);
    wait_until("hupwrap waits", || is_at_rest(run.pid));
    kill(cat, "CONT");
    terminal.enter("one");
    terminal.line("one");
    terminal.keys(CTRL_C);
    run.status();
}

#[test]
fn the_terminal_is_heard_during_a_restart_delay() {
    let options = "--restart always --restart-delay 1h";
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    let end = |terminal: &mut Terminal, hupwrap: i32| {
        terminal.line("hupwrap: ");
        wait_until("hupwrap is in the foreground", || terminal.foreground() == hupwrap);
        terminal.keys(CTRL_C);
        terminal.prompt();
        gone(&[hupwrap]);
    };
    terminal.enter(&format!("\"$H\" {options} -- sh -c 'echo ready 1 $$; read x; exit 1' &"));
    let (_, reader) = terminal.ready();
    let hupwrap = parent(reader).unwrap();
    stopped(reader);
    terminal.enter("fg");
    wait_until("the reader is in the foreground", || terminal.foreground() == reader);
    terminal.enter("x");
    end(&mut terminal, hupwrap);

    terminal.enter(&format!("PS1='inner\\n' \"$H\" {options} -- bash --norc --noprofile --noediting -i"));
    terminal.line("inner");
    let bash = terminal.in_front("bash");
    let hupwrap = parent(bash).unwrap();
    kill(bash, "KILL");
    end(&mut terminal, hupwrap);
}

/// An interactive shell that is killed leaves a foreground process group without members.
fn shell_after_shell(terminal: &mut Terminal, hupwrap: i32) {
    for _ in 0..3 {
        kill(hupwrap, "HUP");
        terminal.line("inner");
        terminal.enter("set -m && echo has job $((40 + 2))");
        terminal.line("has job 42");
        terminal.line("inner");
        terminal.enter("sleep 100");
        let sleep = terminal.in_front("sleep");
        terminal.keys(CTRL_Z);
        stopped(sleep);
        terminal.line("inner");
        assert_ne!(state(hupwrap), Some('T'));
    }
    let text = terminal.text();
    assert!(!text.contains("no job control") && !text.contains("ioctl"), "{text}");
}

const INNER: &str = "--stop-timeout 100ms -- bash --norc --noprofile --noediting -i";

#[test]
fn a_shell_that_was_killed_leaves_the_terminal_to_the_next() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    terminal.enter(&format!("PS1='inner\\n' \"$H\" {INNER}"));
    terminal.line("inner");
    let hupwrap = parent(terminal.in_front("bash")).unwrap();
    shell_after_shell(&mut terminal, hupwrap);
    kill(hupwrap, "KILL");
}

#[test]
fn a_leader_of_its_session_is_never_left_stopped() {
    if installed("bash").is_none() {
        return skipped("a shell below a session's leader", "bash");
    }
    let mut terminal = Terminal::new();
    let run = terminal.lead(Setup::new(INNER.split(' '))).env("PS1", "inner\\n").start();
    terminal.line("inner");
    shell_after_shell(&mut terminal, run.pid);
}

#[test]
fn the_next_child_finds_the_modes_and_the_descriptors_of_the_first() {
    let script = r#"
        stty -a >"$1"; python3 -c 'import fcntl, os
for fd in 0, 1, 2:
    print(bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK))' >>"$1"
        python3 -c 'import os
for fd in 0, 1, 2:
    os.set_blocking(fd, False)'
        stty raw -echo intr x; echo "ready $HUPWRAP_GENERATION $$"; exec sleep 1000"#;
    if installed("python3").is_none() || installed("stty").is_none() {
        return skipped("the modes of the terminal", "python3 or stty");
    }
    for action in ["restart", "reexec"] {
        let dir = Dir::new();
        let (found, copy) = (dir.path().join("found"), dir.path().join("copy"));
        let mut terminal = Terminal::new();
        let setup = Setup::new(args([&"--on-hup", &action, &"--", &"sh", &"-c", &script, &"sh", &found]));
        let run = terminal.lead(setup).start();
        terminal.ready();
        fs::copy(&found, &copy).unwrap();
        for generation in 2..5 {
            run.kill("HUP");
            assert_eq!(terminal.ready().0, generation);
            assert_eq!(fs::read_to_string(&found).unwrap(), fs::read_to_string(&copy).unwrap(), "{action}");
        }
        assert_eq!(fs::read_to_string(&copy).unwrap().matches("False").count(), 3);
    }
}

#[test]
fn descriptors_that_were_non_blocking_stay_so() {
    if installed("python3").is_none() {
        return skipped("non-blocking descriptors", "python3");
    }
    let script = r#"import fcntl, os, time
print("found", fcntl.fcntl(0, fcntl.F_GETFL) & os.O_NONBLOCK != 0, os.get_blocking(1), flush=True)
os.set_blocking(0, True)
os.set_blocking(1, False)
print("ready", os.environ["HUPWRAP_GENERATION"], os.getpid(), flush=True)
time.sleep(1000)"#;
    let mut run = Setup::new(["--", "python3", "-c", script])
        .stdin()
        .with(|command| {
            before_exec(command, || {
                // SAFETY: has no preconditions.
                unsafe { libc::fcntl(0, libc::F_SETFL, libc::O_NONBLOCK) };
            });
        })
        .start();
    for generation in 1..4 {
        assert_eq!(run.line("found"), "found True True");
        assert_eq!(run.ready().0, generation);
        run.kill("HUP");
    }
    run.kill("TERM");
}

#[test]
fn a_stop_that_takes_long_is_overtaken_all_the_same() {
    if installed("strace").is_none() {
        return skipped("a slow kill", "strace");
    }
    for when in ["1", "2"] {
        let inject = format!("inject=kill:delay_enter=300000:when={when}");
        let words = args([&"-D", &"-o", &"/dev/null", &"-e", &inject, &hupwrap(), &"--", &puppet()]);
        let mut run = Setup::of("strace", words).start();
        let hupwrap = parent(run.ready().1).unwrap();
        kill(hupwrap, "TSTP");
        pass(std::time::Instant::now(), Duration::from_millis(150));
        kill(hupwrap, "CONT");
        pass(std::time::Instant::now(), Duration::from_millis(300));
        kill(hupwrap, "TERM");
        gone(&[hupwrap]);
    }
}

#[test]
fn a_check_may_write_to_its_terminal() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    terminal.enter("stty tostop");
    terminal.prompt();
    for end in ["", "&"] {
        terminal.enter(&format!("\"$H\" --check 'sh -c \"echo checked >/dev/tty; echo checked >&2\"' -- \"$P\" {end}"));
        let hupwrap = parent(terminal.ready().1).unwrap();
        kill(hupwrap, "HUP");
        terminal.line("checked");
        terminal.line("checked");
        terminal.line("hupwrap: restarting");
        // What it writes is not for the next round. A puppet blocks TTOU: its lines are written in the background too.
        assert_eq!(terminal.ready().0, 2);
        kill(hupwrap, "KILL");
        terminal.enter("");
        terminal.prompt();
    }
}

// Echoes.

#[test]
fn an_echo_of_a_stop_has_no_effect() {
    let script = |trap: &str| {
        format!("trap '{trap}' TERM; echo ready $HUPWRAP_GENERATION $$; while :; do sleep 1000 & wait $!; done")
    };
    let traps = [
        "trap \"\" TERM; kill 0; exit 0",
        "kill -TERM $PPID; exit 0",
        "kill -INT $PPID; exit 0",
        "kill -QUIT $PPID; kill -HUP $PPID; exit 0",
        // By a process that lives on as the rest of the generation.
        "(kill -TERM $PPID; kill -TERM $HUPWRAP_PID; sleep 0.05) & exit 0",
    ];
    for trap in traps {
        for action in ["restart", "replace", "reexec"] {
            if action == "replace" && trap.contains("kill 0") {
                // It would reach the new child, which shares the group.
                continue;
            }
            let mut run = Setup::new(["--group", "shared", "--on-hup", action, "--ready-timeout", "5s"])
                .with(|command| {
                    command.args(["--", "sh", "-c", &script(trap)]).process_group(0);
                })
                .start();
            assert_eq!(run.ready().0, 1);
            for generation in 2..6 {
                run.kill("HUP");
                let (ready, pid) = run.ready();
                assert_eq!(ready, generation, "{trap} {action}");
                // As long as an old one may send a signal, or one waits, the kernel merges another one with it.
                wait_until("the old one is reaped, what it has left, and what these have sent is read", || {
                    assert!(run.lives(), "{trap} {action} {}", run.stderr());
                    children(run.pid) == [pid] && is_at_rest(run.pid)
                });
            }
            assert!(run.lives(), "{trap} {action}");
            run.kill("TERM");
            assert_eq!(run.end().shell(), 0, "{trap} {action}");
        }
    }
}

/// hupwrap, with a pause between the first time that it reads the signals of a death and its reaping.
fn slow_to_reap(test: &str, script: &str) -> Option<Setup> {
    if installed("strace").is_none() {
        skipped(test, "strace(1)");
        return None;
    }
    let strace = ["-D", "-qq", "-o/dev/null", "-e", "inject=wait4:delay_enter=5000000:when=1"];
    Some(Setup::of("strace", strace.into_iter().chain([hupwrap().to_str().unwrap(), "--", "sh", "-c", script])))
}

/// Runs `kill` in the background as soon as the shell itself is dead and not reaped yet.
fn once_dead(kill: &str) -> String {
    format!("(trap '' TERM; until grep -q 'State:.Z' /proc/$$/status; do :; done; {kill}) &")
}

#[test]
fn an_echo_of_a_process_that_is_reaped_with_another_has_no_effect() {
    let test = "jobs::an_echo_of_a_process_that_is_reaped_with_another_has_no_effect";
    let trap = format!("{} exit 0", once_dead("kill -TERM $PPID"));
    let script = format!(
        "on_term() {{ {trap}; }}; [ $HUPWRAP_GENERATION = 2 ] || trap on_term TERM
        echo ready $HUPWRAP_GENERATION $$; while :; do sleep 1000 & wait $!; done"
    );
    let Some(setup) = slow_to_reap(test, &script) else { return };
    let mut run = setup.start();
    assert_eq!(run.ready().0, 1);
    run.kill("HUP");
    assert_eq!(run.ready().0, 2);
    assert_eq!(run.stop().shell(), 143);
}

#[test]
fn a_hup_between_a_death_and_its_reaping_is_not_lost() {
    let test = "jobs::a_hup_between_a_death_and_its_reaping_is_not_lost";
    let script = format!("[ $HUPWRAP_GENERATION = 1 ] || exit 5; {} exit 3", once_dead("kill -HUP $PPID"));
    let Some(setup) = slow_to_reap(test, &script) else { return };
    assert_eq!(setup.start().end().shell(), 5);
}

#[test]
fn a_stop_by_a_child_that_is_not_being_stopped_is_one() {
    let mut run = Setup::new(["--", "sh", "-c", "echo ready 1 $$; kill $PPID; sleep 1000"]).start();
    run.ready();
    assert_eq!(run.end().shell(), 143);
}

#[test]
fn a_stop_from_outside_during_a_restart_is_one() {
    for _ in 0..TIMES {
        let mut run = Setup::new(args([&"--", &puppet(), &"ignore=TERM", &"exit=INT:3"])).start();
        run.ready();
        run.kill("HUP");
        run.line("got TERM");
        // By a process that is gone at once.
        let sent = std::process::Command::new("kill").args(["-INT", &run.pid.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert_eq!(run.end().shell(), 3);
    }
}

// INT and QUIT that were ignored at the start.

#[test]
fn a_job_of_a_script_ignores_int_and_quit() {
    let dir = Dir::new();
    for (options, generation) in [("", 1), ("--on INT=restart", 2)] {
        let out = dir.path().join(format!("out {generation}"));
        let script = format!("\"$0\" {options} -- \"$1\" >\"$2\" & wait");
        let run = Setup::of("/bin/sh", args([&"-c", &script, &hupwrap(), &puppet(), &out])).start();
        let puppet = ready_in(&out, 1);
        let hupwrap = parent(puppet).unwrap();
        let ignored = u64::from_str_radix(&status(puppet, "SigIgn"), 16).unwrap();
        assert_eq!(ignored & 0b110, 0b110, "INT and QUIT are ignored");
        kill(hupwrap, "INT");
        kill(hupwrap, "QUIT");
        if generation > 1 {
            ready_in(&out, generation);
        }
        kill(hupwrap, "RTMIN+1");
        line_in(&out, "got RTMIN+1 ");
        let text = fs::read_to_string(&out).unwrap();
        assert!(!text.contains("got INT") && !text.contains("got QUIT"), "{text}");
        kill(hupwrap, "TERM");
        gone(&[hupwrap]);
        drop(run);
    }
}

// A child out of reach.

#[test]
fn a_child_that_may_not_be_signalled_is_not_stopped() {
    let test = "a child out of reach";
    let nobody = User::from_name("nobody").ok().flatten();
    let (Some(nobody), Some(setpriv), true) = (nobody, installed("setpriv"), Uid::effective().is_root()) else {
        return skipped(test, "root, nobody or setpriv");
    };
    let dir = Dir::new();
    // A set-uid program that becomes root altogether.
    let rise = dir.program("rise", fs::read(setpriv).unwrap());
    fs::set_permissions(&rise, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let program = dir.hupwrap("hupwrap");
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    for action in ["restart", "replace", "reexec", "forward", "forward:USR1"] {
        let script = "echo ready $HUPWRAP_GENERATION $$; exec sleep 1000";
        let options = args([&"--on-hup", &action, &"--stop-timeout", &"1s", &"--"]);
        let command = args([&rise, &"--ruid=0", &"--euid=0", &"sh", &"-c", &script]);
        let setup = options.into_iter().chain(command);
        let mut run = Setup::of(&program, setup)
            .with(|command| {
                command.uid(uid).gid(gid).current_dir("/").stdin(Stdio::null());
            })
            .start();
        let (_, child) = run.ready();
        if status(child, "Uid").split_whitespace().any(|id| id != "0") {
            return skipped(test, "a file system that honours set-uid programs");
        }
        run.kill("HUP");
        run.said("may not signal");
        run.kill("HUP");
        run.said_times("may not signal", 2);
        // A request that is refused has sent nothing.
        assert!(!run.stderr().contains("cannot send"), "{}", run.stderr());
        assert!(is_alive(child) && run.lives());
        run.kill("TERM");
        run.said("cannot send TERM");
        run.said("cannot send KILL");
        assert!(run.lives());
        kill(child, "TERM");
        let ended = run.end();
        assert_eq!(ended.shell(), 143);
        assert!(!ended.stderr.contains("did not end"), "{}", ended.stderr);
    }
}
