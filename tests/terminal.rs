//! Terminals: the foreground, Ctrl-C, Ctrl-Z, the window's size and its end.
//!
//! What the puppet heard is counted behind a barrier: hupwrap and the puppet take signals in numeric order, so whatever
//! came before a real-time signal was said before it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;

use crate::support::pty::Terminal;
use crate::support::*;

/// A child that reads the terminal, and can be stopped by it. For a shell's command line.
const READER: &str =
    r#"sh -c 'echo "ready $HUPWRAP_GENERATION $$"; while read -r line; do echo "read $line"; done; echo end'"#;
/// A child that does nothing, and dies of any signal.
const SLEEPER: &str = r#"sh -c 'echo "ready $HUPWRAP_GENERATION $$"; exec sleep 1000'"#;
/// The same without a shell around it.
const SLEEPER_SCRIPT: &str = r#"echo "ready $HUPWRAP_GENERATION $$"; exec sleep 1000"#;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Q: &str = "\x11";
const CTRL_S: &str = "\x13";
const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";

/// A terminal and the shell at it; the test is skipped without one.
macro_rules! shell_at {
    ($terminal:ident, $shell:ident) => {
        let mut $terminal = Terminal::new();
        let Some($shell) = $terminal.shell(module_path!()) else { return };
    };
}

#[track_caller]
fn stopped(pids: &[i32]) {
    for pid in pids {
        wait_until(&format!("{pid} is stopped"), || state(*pid) == Some('T'));
    }
}

#[track_caller]
fn running(pids: &[i32]) {
    for pid in pids {
        wait_until(&format!("{pid} runs"), || is_alive(*pid) && state(*pid) != Some('T'));
    }
}

#[track_caller]
pub(crate) fn gone(pids: &[i32]) {
    for pid in pids {
        wait_until(&format!("{pid} is gone"), || !is_alive(*pid));
    }
}

/// Waits until hupwrap has acted upon everything it was sent before, a CONT from `fg` say, which it passes on. A Ctrl-Z
/// that comes at the same instant may be undone by it.
#[track_caller]
fn at_rest(hupwrap: i32) {
    wait_until("hupwrap waits", || {
        let before = status(hupwrap, "ShdPnd");
        before.bytes().all(|digit| digit == b'0') && !before.is_empty() && state(hupwrap) == Some('S')
    });
}

/// Waits until the puppet has said everything that it and hupwrap were sent before.
#[track_caller]
fn settle(terminal: &mut Terminal, hupwrap: i32) {
    kill(hupwrap, "RTMIN+1");
    terminal.line(&format!("got RTMIN+1 from {hupwrap}"));
}

/// Waits for a line in a file that begins so.
#[track_caller]
pub(crate) fn line_in(file: &Path, beginning: &str) -> String {
    let mut found = String::new();
    wait_until(&format!("{} has a line '{beginning}'", file.display()), || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.split_inclusive('\n').find(|line| line.starts_with(beginning) && line.ends_with('\n'));
        found = line.unwrap_or_default().trim_end().to_owned();
        line.is_some()
    });
    found
}

/// Waits until a child of this generation has written its `ready` to a file.
#[track_caller]
pub(crate) fn ready_in(file: &Path, generation: u64) -> i32 {
    let line = line_in(file, &format!("ready {generation} "));
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a pid")
}

/// Lets time pass that the contract names.
#[track_caller]
pub(crate) fn pass(since: Instant, time: Duration) {
    wait_until("it is later", || since.elapsed() > time);
}

fn session_of_its_own(command: &mut Command) {
    let lead = || {
        // SAFETY: has no preconditions.
        match unsafe { libc::setsid() } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(lead) };
}

fn file(path: &Path) -> Stdio {
    fs::File::options().create(true).append(true).open(path).expect("a file").into()
}

// The foreground.

/// Job control in a bash that is hupwrap's child, which has just prompted.
fn jobs_in_the_inner_shell(terminal: &mut Terminal) {
    let shell = terminal.in_front("bash");
    terminal.enter("sleep 100");
    let sleep = terminal.in_front("sleep");
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.line("inner");
    stopped(&[sleep]);
    assert_eq!(terminal.foreground(), shell);
    terminal.enter("jobs");
    terminal.line("[1]+  Stopped");
    terminal.line("inner");
    terminal.enter("fg");
    assert_eq!(terminal.in_front("sleep"), sleep);
    terminal.keys(CTRL_C);
    terminal.line("inner");
    terminal.enter("echo status $?");
    terminal.line("status 130");
    terminal.line("inner");
}

fn no_complaints(terminal: &Terminal) {
    let text = terminal.text();
    for complaint in ["job control", "ioctl", "terminal process group", "hupwrap: "] {
        assert!(!text.contains(complaint), "{text}");
    }
}

const INNER_SHELL: [&str; 5] = ["--", "bash", "--norc", "--noprofile", "-i"];

#[test]
fn a_shell_as_the_child_of_a_session_leader_has_job_control() {
    if installed("bash").is_none() {
        return skipped("job control", "bash");
    }
    let mut terminal = Terminal::new();
    let setup = terminal.lead(Setup::new(INNER_SHELL)).env("PS1", "inner\\n");
    let mut run = setup.start();
    terminal.line("inner");
    jobs_in_the_inner_shell(&mut terminal);
    terminal.enter("exit 4");
    assert_eq!(run.status().code(), Some(4));
    no_complaints(&terminal);
}

#[test]
fn a_shell_under_a_shell_has_job_control_and_can_be_suspended() {
    shell_at!(terminal, shell);
    terminal.enter(&format!("PS1='inner\\n' \"$H\" {}", INNER_SHELL.join(" ")));
    terminal.line("inner");
    jobs_in_the_inner_shell(&mut terminal);
    let inner = terminal.foreground();
    let hupwrap = parent(inner).unwrap();
    terminal.enter("suspend");
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[hupwrap, inner]);
    assert_eq!(terminal.foreground(), shell.pid);
    terminal.enter("fg");
    wait_until("the inner shell is back", || terminal.foreground() == inner);
    terminal.enter("echo here again; exit 4");
    terminal.line("here again");
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 4");
    assert_eq!(terminal.foreground(), shell.pid);
    no_complaints(&terminal);
}

/// `unshare` with a pid namespace of its own for what follows; none where that is not allowed.
fn as_pid_1(test: &str) -> Option<Vec<&'static str>> {
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child", "--"];
    let tried = Command::new("unshare").args(unshare).arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        skipped(test, "the right to unshare(1) a pid namespace");
        return None;
    }
    Some(unshare.into())
}

#[test]
fn a_shell_in_a_container_with_a_terminal_has_job_control() {
    if installed("bash").is_none() || installed("setsid").is_none() {
        return skipped("job control as pid 1", "bash or setsid");
    }
    let Some(mut words) = as_pid_1("job control as pid 1") else { return };
    words.extend(["setsid", "--ctty", hupwrap().to_str().unwrap()]);
    words.extend(INNER_SHELL);
    let mut terminal = Terminal::new();
    let setup = terminal.lead(Setup::of("unshare", words)).env("PS1", "inner\\n");
    let mut run = setup.start();
    terminal.line("inner");
    jobs_in_the_inner_shell(&mut terminal);
    terminal.enter("echo pid $PPID; exit 4");
    terminal.line("pid 1");
    assert_eq!(run.status().code(), Some(4));
    no_complaints(&terminal);
}

#[test]
fn the_first_of_a_pipeline_reads_the_terminal() {
    shell_at!(terminal, shell);
    terminal.enter(r#""$H" -- sh -c 'echo ready 1 $$ >&2; exec cat' | cat"#);
    let (_, cat) = terminal.ready();
    let hupwrap = parent(cat).unwrap();
    assert_eq!((group(cat), group(hupwrap)), (Some(hupwrap), Some(hupwrap)));
    assert_eq!(terminal.foreground(), hupwrap);
    terminal.enter("hello");
    terminal.line("hello");
    terminal.keys(CTRL_Z);
    terminal.prompt();
    stopped(&[cat, hupwrap]);
    terminal.enter("fg");
    terminal.enter("again");
    terminal.line("again");
    terminal.keys(CTRL_D);
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 0");
    assert_eq!(terminal.foreground(), shell.pid);
    no_complaints(&terminal);
}

#[test]
fn the_last_of_a_pipeline_shares_its_group() {
    shell_at!(terminal, _shell);
    terminal.enter(r#"sleep 1000 | "$H" -- sh -c 'echo ready 1 $$; exec cat'"#);
    let (_, cat) = terminal.ready();
    // The shell's copy of itself that is to become it may not have come so far, and would not hear Ctrl-C.
    let sleep = terminal.in_front("sleep");
    assert_eq!(group(cat), Some(sleep));
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 130");
    no_complaints(&terminal);
}

#[test]
fn less_works_beside_it_and_under_it() {
    if installed("less").is_none() {
        return skipped("less", "less");
    }
    shell_at!(terminal, _shell);
    // More than a pipe and less together hold, so that the child is there till the end.
    terminal.enter(r#""$H" -- sh -c 'while :; do echo "a line"; done' | less -d"#);
    terminal.line("a line");
    terminal.shows(":");
    terminal.keys("q");
    terminal.prompt();
    terminal.enter("echo status ${PIPESTATUS[*]}");
    terminal.line("status 141 0");

    let dir = Dir::new();
    let pages = dir.file("pages", "a line\n".repeat(1000), 0o600);
    terminal.enter(&format!("\"$H\" -- less -d {}", pages.display()));
    // It loses what comes before it reads keys.
    terminal.shows("/pages");
    let hupwrap = terminal.in_front("hupwrap");
    let less = children(hupwrap)[0];
    wait_until("less reads keys", || state(less) == Some('S'));
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[less, hupwrap]);
    terminal.enter("fg");
    running(&[less]);
    terminal.keys("q");
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 0");
    no_complaints(&terminal);
}

#[test]
fn the_innermost_of_nested_ones_reads_the_terminal() {
    shell_at!(terminal, _shell);
    terminal.enter(&format!("\"$H\" \"$H\" {READER}"));
    let (_, reader) = terminal.ready();
    let inner = parent(reader).unwrap();
    let outer = parent(inner).unwrap();
    assert_eq!((group(reader), terminal.foreground()), (Some(outer), outer));
    terminal.enter("hello");
    terminal.line("read hello");
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[reader, inner, outer]);
    terminal.enter("fg");
    terminal.enter("again");
    terminal.line("read again");
    running(&[reader, inner, outer]);
    terminal.keys(CTRL_D);
    terminal.line("end");
    terminal.prompt();

    terminal.enter(r#""$H" "$H" "$P" exit=INT:3"#);
    let (_, puppet) = terminal.ready();
    let outer = terminal.foreground();
    terminal.resize(30, 90);
    terminal.line("got WINCH from kernel");
    kill(outer, "RTMIN+1");
    terminal.line("got RTMIN+1");
    terminal.keys(CTRL_C);
    terminal.line("got INT from kernel");
    gone(&[puppet, outer]);
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 3");
    assert_eq!((terminal.count("got WINCH"), terminal.count("got INT")), (1, 1));
    no_complaints(&terminal);
}

/// Runs a puppet that leads a process group of its own, while hupwrap's is in the foreground.
fn leads_in_the_foreground(terminal: &mut Terminal, words: &str, columns: u16) {
    terminal.enter(&format!("\"$H\" {words} \"$P\" exit=QUIT:0"));
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    assert_eq!((group(puppet), terminal.foreground()), (Some(puppet), hupwrap));
    terminal.resize(30, columns);
    terminal.line(&format!("got WINCH from {hupwrap}"));
    terminal.keys(CTRL_C);
    terminal.line(&format!("got INT from {hupwrap}"));
    terminal.keys(CTRL_Z);
    // A CONT would take it away from a puppet that has not heard it yet.
    terminal.has(&format!("got TSTP from {hupwrap}"));
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[hupwrap]);
    terminal.enter("fg");
    terminal.line(&format!("got CONT from {hupwrap}"));
    settle(terminal, hupwrap);
    for signal in ["WINCH", "INT", "TSTP"] {
        assert_eq!(terminal.count(&format!("got {signal} from {hupwrap}")), 1, "{}", terminal.text());
    }
    terminal.keys(CTRL_BACKSLASH);
    terminal.line(&format!("got QUIT from {hupwrap}"));
    terminal.prompt();
}

#[test]
fn a_child_that_has_left_the_group_hears_the_terminal() {
    if installed("setsid").is_none() || installed("timeout").is_none() {
        return skipped("a child that leaves the group", "setsid or timeout");
    }
    shell_at!(terminal, shell);
    leads_in_the_foreground(&mut terminal, "-- setsid", 91);
    leads_in_the_foreground(&mut terminal, "--restart always -- setsid", 92);
    terminal.enter(r#""$H" --restart always -- timeout 1000 sleep 1000"#);
    let hupwrap = terminal.in_front("hupwrap");
    wait_until("timeout leads a group", || children(hupwrap).iter().any(|child| group(*child) == Some(*child)));
    terminal.keys(CTRL_C);
    terminal.prompt();
    assert_eq!(terminal.foreground(), shell.pid);
    no_complaints(&terminal);

    let mut terminal = Terminal::new();
    let mut run = terminal.lead(Setup::new(args([&"--", &"setsid", &puppet(), &"exit=INT:3"]))).start();
    terminal.ready();
    // The kernel stops nobody in a group that nobody continues.
    terminal.keys(CTRL_Z);
    terminal.line(&format!("got TSTP from {}", run.pid));
    terminal.keys(CTRL_C);
    terminal.line(&format!("got INT from {}", run.pid));
    assert_eq!(run.status().code(), Some(3));
}

#[test]
fn what_the_terminal_sends_reaches_the_whole_group_of_the_child() {
    shell_at!(terminal, shell);
    terminal.enter(r#""$H" --group own -- sh -c 'echo ready 1 $$; sleep 1000; exit 3'"#);
    let (_, child) = terminal.ready();
    let hupwrap = parent(child).unwrap();
    let mut sleep = 0;
    wait_until("it sleeps", || {
        sleep = children(child).into_iter().find(|pid| status(*pid, "Name") == "sleep").unwrap_or(0);
        sleep != 0
    });
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[hupwrap, child, sleep]);
    terminal.enter("fg");
    wait_until("all continue", || [hupwrap, child, sleep].iter().all(|pid| state(*pid) == Some('S')));
    // A shell ends by Ctrl-C only if the command that it waits for does.
    terminal.keys(CTRL_C);
    terminal.prompt();
    wait_until("all are gone", || ![hupwrap, child, sleep].into_iter().any(is_alive));
    assert_eq!(terminal.foreground(), shell.pid);
}

#[test]
fn the_group_can_be_chosen() {
    shell_at!(terminal, shell);
    // Its own in the foreground: what the terminal sends is passed on, and the foreground is left where it is.
    leads_in_the_foreground(&mut terminal, "--group own --", 90);

    // Shared in the background.
    terminal.enter(r#""$H" --group=shared -- "$P" &"#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    assert_eq!((group(puppet), terminal.foreground()), (Some(hupwrap), shell.pid));
    terminal.enter("fg");
    wait_until("it is in the foreground", || terminal.foreground() == hupwrap);
    terminal.keys(CTRL_C);
    terminal.line("got INT from kernel");
    settle(&mut terminal, hupwrap);
    assert_eq!(terminal.count("got INT"), 2);
    kill(hupwrap, "TERM");
    terminal.prompt();
    no_complaints(&terminal);
}

#[test]
fn without_a_terminal_the_child_leads_a_group_unless_told_otherwise() {
    for (args, shares) in [(&["--"][..], false), (&["--group", "shared"], true), (&["--group", "own"], false)] {
        let args = args.iter().map(Into::into).chain([puppet().into_os_string()]);
        let mut run = Setup::new(args).with(session_of_its_own).start();
        let (_, puppet) = run.ready();
        assert_eq!(group(puppet), Some(if shares { run.pid } else { puppet }));
        assert_eq!(run.stop().stderr, "");
    }
}

#[test]
fn its_terminal_is_known_without_dev_tty() {
    let script = "mount -t tmpfs none /dev && exec \"$@\"";
    let without = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut all = args([&"--mount", &"sh", &"-c", &script, &"sh"]);
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        Setup::of("unshare", all)
    };
    if installed("unshare").is_none() || without(&[&"true"]).end().shell() != 0 {
        return skipped("its_terminal_is_known_without_dev_tty", "unshare(1), or the right to mount over /dev");
    }
    let mut terminal = Terminal::new();
    let script = "echo ready 1 $$; read line; echo got $line";
    let mut run = terminal.lead(without(&[&hupwrap(), &"sh", &"-c", &script])).start();
    let (_, child) = terminal.ready();
    assert_eq!(group(child), group(run.pid));
    terminal.enter("it");
    terminal.line("got it");
    assert_eq!(run.status().code(), Some(0));
}

#[test]
fn it_takes_nothing_in_the_background() {
    shell_at!(terminal, shell);
    terminal.enter(r#""$H" -- sh -c 'echo ready 1 $$; exec cat' &"#);
    let (_, cat) = terminal.ready();
    let hupwrap = parent(cat).unwrap();
    // It wants to read the terminal, which is not its own.
    stopped(&[cat]);
    assert_eq!((group(cat), terminal.foreground()), (Some(cat), shell.pid));
    terminal.enter("echo the shell reads");
    terminal.line("the shell reads");
    assert_eq!(terminal.foreground(), shell.pid);
    // A stopped child can still be told to stop.
    kill(hupwrap, "TERM");
    gone(&[cat, hupwrap]);
    no_complaints(&terminal);
}

#[test]
fn its_lines_from_the_background_do_not_stop_it() {
    let dir = Dir::new();
    let out = dir.path().join("out");
    shell_at!(terminal, _shell);
    terminal.enter("stty tostop");
    terminal.prompt();
    terminal.enter(&format!("\"$H\" -- \"$P\" >{} &", out.display()));
    let puppet = ready_in(&out, 1);
    let hupwrap = parent(puppet).unwrap();
    kill(hupwrap, "HUP");
    terminal.line(&format!("hupwrap: restarting puppet[{puppet}]"));
    let second = ready_in(&out, 2);
    kill(hupwrap, "USR1");
    line_in(&out, &format!("got USR1 from {hupwrap}"));
    assert_ne!(state(hupwrap), Some('T'));
    assert_eq!(parent(second), Some(hupwrap));
}

#[test]
fn ctrl_s_does_not_hold_it_up() {
    let dir = Dir::new();
    let out = dir.path().join("out");
    shell_at!(terminal, _shell);
    terminal.enter(&format!("\"$H\" -- \"$P\" >{}", out.display()));
    let hupwrap = parent(ready_in(&out, 1)).unwrap();
    terminal.keys(CTRL_S);
    kill(hupwrap, "HUP");
    ready_in(&out, 2);
    terminal.keys(CTRL_Q);
    kill(hupwrap, "HUP");
    ready_in(&out, 3);
    terminal.line("hupwrap: restarting puppet[");
    kill(hupwrap, "TERM");
    terminal.prompt();
}

// Ctrl-C.

#[test]
fn ctrl_c_and_ctrl_backslash_are_heard_once_and_stop_nothing() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" -- "$P""#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    for (key, signal) in [(CTRL_C, "INT"), (CTRL_BACKSLASH, "QUIT")] {
        terminal.keys(key);
        terminal.line(&format!("got {signal} from kernel"));
        settle(&mut terminal, hupwrap);
        // One that was sent twice may be one by now; the CONT behind it would be there.
        assert_eq!(terminal.count(&format!("got {signal}")), 1, "{}", terminal.text());
        assert_eq!(terminal.count("got CONT"), 0, "{}", terminal.text());
        assert!(is_alive(hupwrap) && is_alive(puppet));
    }
    assert_eq!(terminal.foreground(), hupwrap);
    // Nothing was being stopped: a HUP still restarts.
    kill(hupwrap, "HUP");
    terminal.line("hupwrap: restarting");
    assert_eq!(terminal.ready().0, 2);
    terminal.keys(CTRL_C);
    terminal.line("got INT from kernel");
    settle(&mut terminal, hupwrap);
    assert_eq!(terminal.count("got INT"), 2);
    // What kill sends from outside is passed on, and is a stop.
    kill(hupwrap, "INT");
    terminal.line(&format!("got INT from {hupwrap}"));
    terminal.line(&format!("got CONT from {hupwrap}"));
    kill(hupwrap, "TERM");
    terminal.line(&format!("got TERM from {hupwrap}"));
    terminal.prompt();
}

#[test]
fn an_int_from_outside_ends_both() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" -- "$P" exit=INT:9"#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    kill(hupwrap, "INT");
    terminal.line(&format!("got INT from {hupwrap}"));
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 9");
}

#[test]
fn a_child_that_dies_of_ctrl_c_takes_hupwrap_with_it() {
    shell_at!(terminal, _shell);
    for (key, status) in [(CTRL_C, 130), (CTRL_BACKSLASH, 131)] {
        terminal.enter(&format!("ulimit -c 0; \"$H\" -- {SLEEPER}"));
        terminal.ready();
        terminal.keys(key);
        terminal.prompt();
        terminal.enter("echo status $?");
        terminal.line(&format!("status {status}"));
        terminal.prompt();
    }
    // A code of the child's own is kept.
    terminal.enter(r#""$H" -- "$P" exit=INT:3"#);
    terminal.ready();
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 3");
    no_complaints(&terminal);
}

#[test]
fn an_end_soon_after_ctrl_c_is_final_though_a_restart_was_asked_for() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" -- "$P" ignore=TERM exit=INT:3"#);
    let (_, puppet) = terminal.ready();
    kill(parent(puppet).unwrap(), "HUP");
    terminal.line("got TERM");
    terminal.keys(CTRL_C);
    terminal.line("got INT from kernel");
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 3");
    assert_eq!(terminal.count("ready"), 1);
}

#[test]
fn ctrl_c_reaches_the_child_of_a_script_that_uses_it_as_a_prefix() {
    let dir = Dir::new();
    let script =
        dir.file("script", format!("#!/bin/sh\necho before\n\"$H\" -- {SLEEPER}\necho after\n\"$H\" -- true\n"), 0o600);
    shell_at!(terminal, shell);
    terminal.enter(&format!("sh {}", script.display()));
    let (_, sleeper) = terminal.ready();
    let hupwrap = parent(sleeper).unwrap();
    let leader = parent(hupwrap).unwrap();
    assert_eq!((group(sleeper), terminal.foreground()), (Some(leader), leader));
    terminal.keys(CTRL_C);
    terminal.prompt();
    gone(&[sleeper, hupwrap, leader]);
    terminal.enter("echo status $?");
    terminal.line("status 130");
    // The script has seen a death by INT, and died of it too.
    assert_eq!(terminal.count("after"), 0, "{}", terminal.text());
    assert_eq!(terminal.foreground(), shell.pid);
}

#[test]
fn a_meaning_of_its_own_holds_for_ctrl_c_too() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" --on INT=restart --on QUIT=forward:USR1 -- "$P""#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    terminal.keys(CTRL_BACKSLASH);
    terminal.line(&format!("got USR1 from {hupwrap}"));
    terminal.keys(CTRL_C);
    assert_eq!(terminal.ready().0, 2);
    kill(hupwrap, "TERM");
    terminal.prompt();
}

// Ctrl-Z.

#[test]
fn ctrl_z_stops_both_and_fg_and_bg_continue_both() {
    shell_at!(terminal, shell);
    terminal.enter(&format!("\"$H\" -- {READER}"));
    let (_, reader) = terminal.ready();
    let hupwrap = parent(reader).unwrap();
    for word in ["one", "two"] {
        terminal.keys(CTRL_Z);
        terminal.line("[1]+  Stopped");
        terminal.prompt();
        stopped(&[reader, hupwrap]);
        assert_eq!(terminal.foreground(), shell.pid);
        terminal.enter("fg");
        terminal.enter(word);
        terminal.line(&format!("read {word}"));
        running(&[reader, hupwrap]);
        assert_eq!(terminal.foreground(), hupwrap);
        at_rest(hupwrap);
    }
    // In the background it may not read: the terminal stops both again.
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    terminal.enter("bg");
    terminal.prompt();
    stopped(&[reader, hupwrap]);
    terminal.enter("fg");
    terminal.enter("three");
    terminal.line("read three");
    at_rest(hupwrap);
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    // The shell's kill continues a job that is stopped.
    terminal.enter("kill %1");
    gone(&[reader, hupwrap]);
    no_complaints(&terminal);
}

#[test]
fn a_child_that_ignores_ctrl_z_is_not_left_alone() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" -- "$P""#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    terminal.keys(CTRL_Z);
    terminal.line("got TSTP from kernel");
    settle(&mut terminal, hupwrap);
    assert_eq!(terminal.count("got TSTP"), 1);
    assert_ne!(state(hupwrap), Some('T'));
    assert_eq!(terminal.foreground(), hupwrap);
    kill(hupwrap, "TERM");
    terminal.prompt();
}

#[test]
fn a_deadline_stands_still_while_both_are_stopped() {
    // Long enough for all that must happen before it is over.
    const LIMIT: Duration = Duration::from_secs(4);
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" --stop-timeout 4s -- "$P" ignore=TERM leave=TSTP"#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    let asked = Instant::now();
    kill(hupwrap, "HUP");
    terminal.line("got TERM");
    // It comes last, and would undo what Ctrl-Z has done before.
    terminal.line("got CONT");
    terminal.keys(CTRL_Z);
    stopped(&[puppet, hupwrap]);
    let before = asked.elapsed();
    let pause = Instant::now();
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    pass(pause, LIMIT);
    let continued = Instant::now();
    terminal.enter("fg");
    terminal.line(&format!("hupwrap: puppet[{puppet}] did not end within 4s; sending KILL"));
    assert!(before + continued.elapsed() >= LIMIT, "{before:?} before, {:?} after", continued.elapsed());
    assert_eq!(terminal.ready().0, 2);
}

#[test]
fn ctrl_z_between_two_children_stops_it_too() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" -- sh -c '"$P" ignore=TERM leave=TSTP & exec "$P"'"#);
    let (_, one) = terminal.ready();
    let (_, other) = terminal.ready();
    let (child, rest) = if parent(other) == Some(one) { (one, other) } else { (other, one) };
    let hupwrap = parent(child).unwrap();
    kill(hupwrap, "HUP");
    // The child's, and then the one of what remains of it.
    terminal.line("got TERM");
    terminal.line("got TERM");
    terminal.line("got CONT");
    gone(&[child]);
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[rest, hupwrap]);
    terminal.enter("fg");
    terminal.line("got CONT");
    running(&[rest, hupwrap]);
    assert_eq!(terminal.count("ready"), 2);
    kill(rest, "KILL");
    assert_eq!(terminal.ready().0, 2);
    assert_eq!(terminal.foreground(), hupwrap);
}

#[test]
fn a_hup_while_both_are_stopped_restarts_when_they_continue() {
    shell_at!(terminal, _shell);
    terminal.enter(&format!("\"$H\" -- {READER}"));
    let (_, reader) = terminal.ready();
    let hupwrap = parent(reader).unwrap();
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[reader, hupwrap]);
    kill(hupwrap, "HUP");
    terminal.enter("fg");
    assert_eq!(terminal.ready().0, 2);
    terminal.enter("hello");
    terminal.line("read hello");
    assert_eq!(terminal.count("ready"), 2);
}

#[test]
fn a_stop_that_kill_sends_is_passed_on_and_followed() {
    shell_at!(terminal, shell);
    for signal in ["TSTP", "TTIN", "TTOU"] {
        terminal.enter(&format!("\"$H\" -- {SLEEPER}"));
        let (_, sleeper) = terminal.ready();
        let hupwrap = parent(sleeper).unwrap();
        kill(hupwrap, signal);
        terminal.line("[1]+  Stopped");
        terminal.prompt();
        stopped(&[sleeper, hupwrap]);
        assert_eq!(terminal.foreground(), shell.pid);
        // To hupwrap alone, as the stop was.
        kill(hupwrap, "CONT");
        running(&[sleeper, hupwrap]);
        kill(hupwrap, "TERM");
        gone(&[sleeper, hupwrap]);
        terminal.enter("wait; echo over");
        terminal.line("over");
        terminal.prompt();
    }
}

#[test]
fn a_stop_can_be_passed_on_as_another() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" --on TSTP=forward:STOP -- "$P""#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    // By kill, and then by the terminal, which the puppet would live through.
    kill(hupwrap, "TSTP");
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[puppet, hupwrap]);
    kill(hupwrap, "CONT");
    terminal.line(&format!("got CONT from {hupwrap}"));
    settle(&mut terminal, hupwrap);
    running(&[puppet, hupwrap]);
    terminal.enter("fg");
    wait_until("it is in the foreground", || terminal.foreground() == hupwrap);
    settle(&mut terminal, hupwrap);
    terminal.keys(CTRL_Z);
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[puppet, hupwrap]);
    terminal.enter("fg");
    terminal.line("got CONT");
    settle(&mut terminal, hupwrap);
    kill(hupwrap, "TERM");
    terminal.prompt();
}

#[test]
fn a_stop_that_kill_sends_holds_without_a_terminal_too() {
    // A session of its own: its group is orphaned, and the kernel discards TSTP, TTIN and TTOU there.
    let mut run = Setup::new(args([&"--", &puppet()])).with(session_of_its_own).start();
    run.ready();
    let hupwrap = run.pid;
    for signal in ["TSTP", "TTIN", "TTOU"] {
        run.kill(signal);
        run.line(&format!("got {signal} from {hupwrap}"));
        stopped(&[hupwrap]);
        run.kill("CONT");
        run.line(&format!("got CONT from {hupwrap}"));
        run.kill("RTMIN+1");
        run.line(&format!("got RTMIN+1 from {hupwrap}"));
        assert_eq!(run.stdout().matches(&format!("got {signal} ")).count(), 1, "{}", run.stdout());
    }
    assert_eq!(run.stop().stderr, "");

    let mut run = Setup::new(args([&"--on", &"TSTP=forward:STOP", &"--", &puppet()])).with(session_of_its_own).start();
    let (_, puppet) = run.ready();
    run.kill("TSTP");
    stopped(&[puppet, run.pid]);
    run.kill("CONT");
    run.line(&format!("got CONT from {}", run.pid));
    run.kill("RTMIN+1");
    run.line(&format!("got RTMIN+1 from {}", run.pid));
    running(&[puppet, run.pid]);
    assert_eq!(run.stop().stderr, "");
}

#[test]
fn a_stop_that_kill_sends_does_not_stop_pid_1() {
    let Some(mut words) = as_pid_1("a stop for pid 1") else { return };
    let puppet = puppet();
    words.extend([hupwrap().to_str().unwrap(), "--", puppet.to_str().unwrap()]);
    let mut run = Setup::of("unshare", words).start();
    run.ready();
    let hupwrap = children(run.pid)[0];
    for signal in ["TSTP", "TTIN", "TTOU"] {
        kill(hupwrap, signal);
        run.line(&format!("got {signal} from 1"));
        kill(hupwrap, "RTMIN+1");
        run.line("got RTMIN+1 from 1");
    }
    kill(hupwrap, "TERM");
    assert_eq!(run.status().code(), Some(0));
}

#[test]
fn a_child_that_stops_its_whole_group_stops_hupwrap() {
    shell_at!(terminal, _shell);
    // As vim and nano do on Ctrl-Z.
    for signal in ["TSTP", "STOP"] {
        let script = format!(r#"echo ready 1 $$; read x; kill -{signal} 0; echo back; read -r x; echo "read $x""#);
        terminal.enter(&format!("\"$H\" -- sh -c '{script}'"));
        let (_, child) = terminal.ready();
        let hupwrap = parent(child).unwrap();
        terminal.enter("go");
        terminal.line("[1]+  Stopped");
        terminal.prompt();
        stopped(&[child, hupwrap]);
        terminal.enter("fg");
        terminal.line("back");
        terminal.enter("hello");
        terminal.line("read hello");
        terminal.prompt();
    }
    no_complaints(&terminal);
}

#[test]
fn a_child_that_was_stopped_can_be_told_to_end() {
    let dir = Dir::new();
    let out = dir.path().join("out");
    let mut run = Setup::new(args([&"--", &puppet()])).start();
    let (_, puppet) = run.ready();
    kill(puppet, "STOP");
    stopped(&[puppet]);
    assert_eq!(run.stop().shell(), 0);

    shell_at!(terminal, _shell);
    terminal.enter(&format!("\"$H\" -- \"$P\" >{}", out.display()));
    let puppet = ready_in(&out, 1);
    let hupwrap = parent(puppet).unwrap();
    kill(puppet, "STOP");
    terminal.line("[1]+  Stopped");
    terminal.prompt();
    stopped(&[puppet, hupwrap]);
    kill(hupwrap, "TERM");
    kill(hupwrap, "CONT");
    gone(&[puppet, hupwrap]);
    line_in(&out, &format!("got TERM from {hupwrap}"));
}

// The window's size.

#[test]
fn a_resized_window_is_heard_once() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" -- "$P""#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    terminal.resize(30, 90);
    terminal.line("got WINCH from kernel");
    settle(&mut terminal, hupwrap);
    assert_eq!(terminal.count("got WINCH"), 1);
    kill(hupwrap, "WINCH");
    terminal.line(&format!("got WINCH from {hupwrap}"));
    kill(hupwrap, "TERM");
    terminal.prompt();
}

// A hang-up is not a reload.

#[test]
fn a_hup_in_a_living_terminal_restarts() {
    shell_at!(terminal, _shell);
    for action in ["restart", "reexec"] {
        terminal.enter(&format!("\"$H\" --on-hup {action} -- {READER}"));
        let (_, first) = terminal.ready();
        let hupwrap = parent(first).unwrap();
        kill(hupwrap, "HUP");
        let (generation, second) = terminal.ready();
        assert_eq!((generation, parent(second), group(second)), (2, Some(hupwrap), Some(hupwrap)));
        assert_eq!(terminal.foreground(), hupwrap);
        terminal.enter("hello");
        terminal.line("read hello");
        terminal.keys(CTRL_Z);
        terminal.line("[1]+  Stopped");
        terminal.prompt();
        stopped(&[second, hupwrap]);
        terminal.enter("fg");
        terminal.enter("again");
        terminal.line("read again");
        terminal.keys(CTRL_D);
        terminal.prompt();
    }
    // The shell's own kill, to a job in the background.
    terminal.enter(r#""$H" -- "$P" &"#);
    terminal.ready();
    terminal.enter("kill -HUP %1");
    assert_eq!(terminal.ready().0, 2);
    terminal.enter("kill %1; wait; echo over");
    terminal.line("over");
}

#[test]
fn a_new_hupwrap_still_knows_its_terminal() {
    shell_at!(terminal, _shell);
    terminal.enter(r#""$H" --on-hup upgrade -- "$P" exit=HUP:7"#);
    let (_, puppet) = terminal.ready();
    let hupwrap = parent(puppet).unwrap();
    kill(hupwrap, "HUP");
    terminal.line("hupwrap: hupwrap ");
    terminal.keys(CTRL_C);
    terminal.line("got INT from kernel");
    settle(&mut terminal, hupwrap);
    assert_eq!((terminal.count("got INT"), terminal.count("got CONT")), (1, 0));
    terminal.close();
    gone(&[puppet, hupwrap]);
}

#[test]
fn a_closed_terminal_ends_a_session_leader_and_its_child() {
    let mut terminal = Terminal::new();
    let mut run = terminal.lead(Setup::new(["--", "sh", "-c", SLEEPER_SCRIPT])).start();
    let (_, sleeper) = terminal.ready();
    assert_eq!((group(sleeper), terminal.foreground()), (Some(run.pid), run.pid));
    terminal.close();
    assert_eq!(run.status().to_string(), "signal: 1 (SIGHUP)");
    gone(&[sleeper]);
}

#[test]
fn a_closed_terminal_is_passed_on_as_hup_and_cont() {
    let dir = Dir::new();
    let out = dir.path().join("out");
    let mut terminal = Terminal::new();
    let setup = terminal.lead(Setup::new(args([&"--", &puppet(), &"exit=CONT:7"])));
    let mut run = setup
        .with(|command| {
            command.stdout(file(&out));
        })
        .start();
    ready_in(&out, 1);
    terminal.close();
    assert_eq!(run.status().code(), Some(7));
    // By the kernel too, where hupwrap ends: but the child is gone by then.
    line_in(&out, &format!("got HUP from {}", run.pid));
    line_in(&out, &format!("got CONT from {}", run.pid));
    assert_eq!(fs::read_to_string(&out).unwrap().matches("ready").count(), 1);
}

#[test]
fn a_closed_terminal_ends_a_restart_under_way() {
    let dir = Dir::new();
    let out = dir.path().join("out");
    let mut terminal = Terminal::new();
    let setup = terminal.lead(Setup::new(args([&"--", &puppet(), &"ignore=TERM", &"exit=HUP:5"])));
    let mut run = setup
        .with(|command| {
            command.stdout(file(&out));
        })
        .start();
    ready_in(&out, 1);
    run.kill("HUP");
    line_in(&out, "got TERM");
    terminal.close();
    assert_eq!(run.status().code(), Some(5));
    assert_eq!(fs::read_to_string(&out).unwrap().matches("ready").count(), 1);
}

#[test]
fn a_closed_terminal_ends_a_shell_and_its_job() {
    if installed("bash").is_none() {
        return skipped("the end of a shell", "bash");
    }
    let mut terminal = Terminal::new();
    let setup = terminal.lead(Setup::new(INNER_SHELL)).env("PS1", "inner\\n");
    let mut run = setup.start();
    terminal.line("inner");
    let shell = terminal.in_front("bash");
    terminal.enter("sleep 1000");
    let sleep = terminal.in_front("sleep");
    terminal.close();
    assert_eq!(run.status().to_string(), "signal: 1 (SIGHUP)");
    gone(&[sleep, shell]);
}

#[test]
fn a_closed_terminal_ends_what_a_script_runs() {
    let dir = Dir::new();
    let out = dir.path().join("out");
    let mut terminal = Terminal::new();
    // The script leads the session and dies of HUP; the kernel then tells the rest of the foreground group.
    let script = r#""$1" -- "$2" exit=CONT:0 >"$0"; echo after"#;
    let mut run = terminal.lead(Setup::of("/bin/sh", args([&"-c", &script, &out, &hupwrap(), &puppet()]))).start();
    let puppet = ready_in(&out, 1);
    let hupwrap = parent(puppet).unwrap();
    assert_eq!((group(puppet), terminal.foreground()), (Some(run.pid), run.pid));
    terminal.close();
    gone(&[puppet, hupwrap]);
    assert_eq!(run.status().to_string(), "signal: 1 (SIGHUP)");
    let out = fs::read_to_string(&out).unwrap();
    assert!(out.contains("got HUP from") && out.matches("ready").count() == 1, "{out}");
}

#[test]
fn a_closed_terminal_ends_the_jobs_of_a_shell() {
    let dir = Dir::new();
    let status = dir.path().join("status");
    let out = dir.path().join("out");
    for (child, code) in [(SLEEPER, 129), (r#""$P" exit=HUP:7"#, 7)] {
        let _ = fs::remove_file(&status);
        shell_at!(terminal, _shell);
        // In front; the script around it lives on, to tell how it ended.
        let script = format!("trap : HUP; \"$H\" -- {child}\necho \"$?\" >{}\n", status.display());
        let script = dir.file("script", script, 0o600);
        terminal.enter(&format!("sh {}", script.display()));
        let (_, child) = terminal.ready();
        let hupwrap = parent(child).unwrap();
        terminal.close();
        gone(&[child, hupwrap]);
        assert_eq!(line_in(&status, ""), code.to_string());
    }
    for job in ["&", "--group own", "stopped"] {
        let _ = fs::remove_file(&out);
        shell_at!(terminal, _shell);
        let (options, end) = match job {
            "&" => ("", "&"),
            "stopped" => ("", ""),
            options => (options, ""),
        };
        terminal.enter(&format!("\"$H\" {options} -- {SLEEPER} >{} {end}", out.display()));
        let sleeper = ready_in(&out, 1);
        let hupwrap = parent(sleeper).unwrap();
        if job == "stopped" {
            terminal.keys(CTRL_Z);
            terminal.line("[1]+  Stopped");
            terminal.prompt();
            stopped(&[sleeper, hupwrap]);
        }
        terminal.close();
        gone(&[sleeper, hupwrap]);
        assert_eq!(fs::read_to_string(&out).unwrap().matches("ready").count(), 1, "{job}");
    }
}

#[test]
fn nohup_ignores_the_hang_up_and_takes_a_later_hup() {
    if installed("nohup").is_none() {
        return skipped("nohup", "nohup");
    }
    for front in [false, true] {
        let dir = Dir::new();
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        shell_at!(terminal, shell);
        let end = if front { "" } else { "&" };
        terminal.enter(&format!("nohup \"$H\" -- \"$P\" >{} 2>{} </dev/null {end}", out.display(), err.display()));
        let first = ready_in(&out, 1);
        let hupwrap = parent(first).unwrap();
        terminal.close();
        line_in(&err, "hupwrap: the terminal is gone; its HUP is ignored");
        gone(&[shell.pid]);
        let heard = Instant::now();
        pass(heard, Duration::from_millis(1100));
        assert!(is_alive(hupwrap) && is_alive(first));
        kill(hupwrap, "HUP");
        assert_eq!(parent(ready_in(&out, 2)), Some(hupwrap));
        let err = fs::read_to_string(&err).unwrap();
        assert!(err.ends_with(&format!("hupwrap: restarting puppet[{first}]\n")), "{err}");
        kill(hupwrap, "TERM");
        gone(&[hupwrap]);
    }
}

#[test]
fn nohup_takes_a_hup_while_the_terminal_lives() {
    if installed("nohup").is_none() {
        return skipped("nohup", "nohup");
    }
    let dir = Dir::new();
    let out = dir.path().join("out");
    shell_at!(terminal, _shell);
    terminal.enter(&format!("nohup \"$H\" -- \"$P\" >{} </dev/null &", out.display()));
    let hupwrap = parent(ready_in(&out, 1)).unwrap();
    kill(hupwrap, "HUP");
    ready_in(&out, 2);
    kill(hupwrap, "TERM");
    gone(&[hupwrap]);
}

#[test]
fn a_terminal_that_went_silently_is_noticed() {
    let dir = Dir::new();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    // Under nohup the terminal's end is an old story, and HUP means what it always does.
    if installed("nohup").is_some() {
        shell_at!(terminal, shell);
        let mut shell = shell;
        terminal.enter(&format!("nohup \"$H\" -- \"$P\" >{} 2>{} </dev/null &", out.display(), err.display()));
        let hupwrap = parent(ready_in(&out, 1)).unwrap();
        terminal.enter("exit 0");
        assert_eq!(shell.status().code(), Some(0));
        pass(Instant::now(), Duration::from_millis(1100));
        kill(hupwrap, "HUP");
        assert_eq!(parent(ready_in(&out, 2)), Some(hupwrap));
        line_in(&err, "hupwrap: restarting");
        assert!(!fs::read_to_string(&err).unwrap().contains("ignored"));
        kill(hupwrap, "TERM");
        gone(&[hupwrap]);
    }
    // Otherwise it means the end, from every sender.
    let out = dir.path().join("out 2");
    shell_at!(terminal, shell);
    let mut shell = shell;
    terminal.enter(&format!("\"$H\" -- \"$P\" exit=HUP:7 >'{}' 2>&1 </dev/null &", out.display()));
    let puppet = ready_in(&out, 1);
    let hupwrap = parent(puppet).unwrap();
    terminal.enter("exit 0");
    assert_eq!(shell.status().code(), Some(0));
    kill(hupwrap, "HUP");
    gone(&[puppet, hupwrap]);
    line_in(&out, &format!("got HUP from {hupwrap}"));
}

#[test]
fn without_a_terminal_a_hup_restarts() {
    let mut run = Setup::new(args([&"--", &puppet()])).with(session_of_its_own).start();
    run.ready();
    run.kill("HUP");
    assert_eq!(run.ready().0, 2);
    run.stop();

    // A terminal that is only its stdin is not its own, alive or dead.
    let mut terminal = Terminal::new();
    let setup = Setup::new(args([&"--", &puppet()])).with(session_of_its_own);
    let mut run = setup
        .with(|command| {
            command.stdin(terminal.stdio());
        })
        .start();
    run.ready();
    run.kill("HUP");
    assert_eq!(run.ready().0, 2);
    terminal.close();
    run.kill("HUP");
    assert_eq!(run.ready().0, 3);
    run.stop();

    // It began when the terminal was gone: that is no news.
    let dir = Dir::new();
    let out = dir.path().join("out");
    let mut terminal = Terminal::new();
    let script = r#"trap : HUP; echo waiting; read x; exec "$0" -- "$1" >"$2" 2>&1"#;
    let leader = Setup::of("/bin/sh", args([&"-c", &script, &hupwrap(), &puppet(), &out]));
    let mut run = terminal.lead(leader).start();
    terminal.line("waiting");
    terminal.close();
    ready_in(&out, 1);
    run.kill("HUP");
    ready_in(&out, 2);
    run.kill("TERM");
    assert_eq!(run.status().code(), Some(0));
}

// Whatever stdin is.

#[test]
fn it_starts_with_any_stdin() {
    let hello = ["--", "sh", "-c", "echo hello"];
    let mut terminal = Terminal::new();
    let dead = terminal.stdio();
    terminal.close();
    let ended = Setup::new(hello)
        .with(|command| {
            command.stdin(dead);
        })
        .end();
    assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "hello\n", ""));

    let ended = Setup::of("/bin/sh", args([&"-c", &r#"exec "$0" -- sh -c "echo hello" <&-"#, &hupwrap()])).end();
    assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "hello\n", ""));

    // In front of a terminal which is none of its standard descriptors.
    let dir = Dir::new();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    shell_at!(terminal, _shell);
    for stdin in ["</dev/null", "<&-"] {
        let _ = fs::remove_file(&out);
        terminal.enter(&format!("\"$H\" -- \"$P\" >{} 2>{} {stdin}", out.display(), err.display()));
        let puppet = ready_in(&out, 1);
        assert_eq!(group(puppet), Some(terminal.foreground()));
        terminal.keys(CTRL_C);
        line_in(&out, "got INT from kernel");
        kill(parent(puppet).unwrap(), "TERM");
        terminal.prompt();
        assert_eq!(fs::read_to_string(&err).unwrap(), "");
    }
    no_complaints(&terminal);
}
