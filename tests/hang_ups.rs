//! A hang-up is not a reload: shells pass the end of a terminal on with `kill`, often while it is still there.
//!
//! Each case is tried often, at the same time on several terminals: who comes first is a matter of chance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::libc;

use crate::support::pty::Terminal;
use crate::support::*;
use crate::terminal::{gone, line_in, pass, ready_in};

const TIMES: u32 = 20;
/// A HUP this long after hupwrap has noticed the end of a terminal is a reload.
const WINDOW: Duration = Duration::from_millis(1010);

const BASH: [&str; 5] = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
const LOGIN: [&str; 8] = ["bash", "--norc", "--noprofile", "--noediting", "-i", "-l", "-O", "huponexit"];
const DASH: [&str; 2] = ["dash", "-i"];
/// Without its line editor, and without a question about running jobs.
const ZSH: [&str; 7] = ["zsh", "-fi", "+o", "zle", "-onopromptcr", "-onobanghist", "-onocheckjobs"];

/// How a shell and its terminal end.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Exit,
    Hup,
    Close,
}

/// Does something often, a few at a time.
fn often(test: &str, words: &[&str], act: impl Fn(u32, &Path) + Sync) {
    let Some(program) = installed(words[0]) else { return skipped(test, words[0]) };
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        turn if turn < TIMES => act(turn, &program),
                        _ => return,
                    }
                }
            });
        }
    });
}

/// Shows a file where a test fails.
struct Shown<'a>(&'a Path);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.0).unwrap_or_default());
        }
    }
}

/// Ends a process that may be ending.
fn end_somehow(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
}

/// Waits until hupwrap has noticed that its terminal, or the leader of its session, is gone, and lets the time pass in
/// which a HUP is taken for a hang-up.
#[track_caller]
fn long_after_the_end(hupwrap: i32) {
    let read = format!("{} ", libc::SYS_read);
    wait_until("hupwrap has noticed the end of the terminal", || {
        // As long as it watches more than its signals, it waits in ppoll(2).
        match fs::read_to_string(format!("/proc/{hupwrap}/syscall")) {
            Ok(call) => call.starts_with(&read),
            // Not every kernel has it.
            Err(_) => is_at_rest(hupwrap),
        }
    });
    pass(Instant::now(), WINDOW);
}

fn shell(terminal: &mut Terminal, program: &Path, words: &[&str]) -> Run {
    let setup = terminal.lead(Setup::of(program, &words[1..])).env("PS1", "prompt\n");
    let shell = setup.env("H", hupwrap()).env("P", puppet()).start();
    terminal.prompt();
    shell
}

fn end(terminal: &mut Terminal, shell: &mut Run, end: End) {
    match end {
        End::Exit => terminal.enter("exit"),
        End::Hup => shell.kill("HUP"),
        End::Close => terminal.close(),
    }
    shell.status();
}

/// What a shell does with a job in the background, bare and under hupwrap. `stays`: whether the job is left running.
fn background(words: &[&str], how: End, stays: bool) {
    let missed = AtomicU32::new(0);
    often("the end of a shell", words, |turn, program| {
        let dir = Dir::new();
        let out = dir.path().join("out");
        let mut terminal = Terminal::new();
        let mut shell = shell(&mut terminal, program, words);
        // With and without a descriptor that leads to the terminal.
        let stdin = ["", "</dev/null"][turn as usize % 2];
        let action = ["restart", "reexec", "replace"][turn as usize % 3];
        terminal.enter("sleep 1000 >/dev/null 2>&1 </dev/null &");
        terminal.enter("echo bare $!");
        let bare: i32 = terminal.line("bare ").trim_start_matches("bare ").parse().unwrap();
        terminal
            .enter(&format!("\"$H\" -v --on-hup {action} -- \"$P\" exit=HUP:7 >{0} 2>>{0} {stdin} &", out.display()));
        let _shown = Shown(&out);
        // The shell is at rest: it has prompted after the line before, and after this one.
        terminal.prompt();
        terminal.prompt();
        let first = ready_in(&out, 1);
        let hupwrap = parent(first).unwrap();
        end(&mut terminal, &mut shell, how);
        if !stays {
            end_somehow(bare);
            if words[0] == "zsh" {
                // zsh misses a job now and then, when it is killed. It has ended, so what it has sent is there before
                // this.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(hupwrap), nix::sys::signal::SIGUSR2);
                wait_until("the job has ended, or has had no HUP", || {
                    let said = fs::read_to_string(&out).unwrap();
                    !is_alive(hupwrap) || (said.contains("got USR2") && !said.contains("got HUP"))
                });
                let is_missed = !fs::read_to_string(&out).unwrap().contains("got HUP");
                missed.fetch_add(u32::from(is_missed), Ordering::Relaxed);
                if is_missed {
                    kill(hupwrap, "TERM");
                }
            }
            gone(&[first, hupwrap]);
            return;
        }
        long_after_the_end(hupwrap);
        assert!(is_alive(bare) && is_alive(first) && is_alive(hupwrap), "{words:?} {how:?} {stdin}");
        // Long after the end of the terminal it is a reload.
        kill(hupwrap, "HUP");
        assert_eq!(parent(ready_in(&out, 2)), Some(hupwrap));
        pass(Instant::now(), Duration::from_millis(100));
        kill(hupwrap, "HUP");
        assert_eq!(parent(ready_in(&out, 3)), Some(hupwrap));
        kill(hupwrap, "TERM");
        kill(bare, "TERM");
        gone(&[hupwrap]);
    });
    assert!(missed.into_inner() < TIMES / 2, "{words:?} {how:?}");
}

/// A job in the foreground goes with its shell.
fn foreground(words: &[&str], how: End) {
    often("the end of a shell", words, |turn, program| {
        let dir = Dir::new();
        let out = dir.path().join("out");
        let mut terminal = Terminal::new();
        let mut shell = shell(&mut terminal, program, words);
        let options = ["", "--group own", "--on-hup replace", "--on-hup upgrade"][turn as usize % 4];
        terminal.enter(&format!("\"$H\" {options} -- \"$P\" exit=HUP:7 >{}", out.display()));
        let first = ready_in(&out, 1);
        let hupwrap = parent(first).unwrap();
        end(&mut terminal, &mut shell, how);
        gone(&[first, hupwrap]);
    });
}

/// A job that was started with `&` and brought to the foreground goes with its shell too. The kernel tells the child,
/// whose process group has the terminal, and not hupwrap.
fn lent(words: &[&str]) {
    often("the end of a shell", words, |turn, program| {
        let mut terminal = Terminal::new();
        let mut shell = shell(&mut terminal, program, words);
        let child = ["exec cat", "trap 'exit 7' HUP; while read -r x; do echo $x; done"][turn as usize % 2];
        terminal.enter(&format!(
            "\"$H\" --restart always -- sh -c \"echo ready 1 \\$\\$; {}\" &",
            child.replace('$', "\\$")
        ));
        let (_, child) = terminal.ready();
        let hupwrap = parent(child).unwrap();
        wait_until("it wants the terminal", || state(child) == Some('T'));
        terminal.enter("fg");
        terminal.enter("one");
        // Its echo; the child may just be about to get the terminal.
        terminal.line("one");
        match turn / 2 % 2 {
            0 => shell.kill("KILL"),
            _ => terminal.close(),
        }
        shell.status();
        gone(&[child, hupwrap]);
    });
}

#[test]
fn a_job_that_has_the_terminal_goes_with_its_shell() {
    lent(&BASH);
    lent(&ZSH);
    lent(&DASH);
}

#[test]
fn bash_leaves_its_jobs() {
    background(&BASH, End::Exit, true);
}

#[test]
fn bash_with_huponexit_ends_its_jobs() {
    background(&LOGIN, End::Exit, false);
}

#[test]
fn bash_passes_a_hup_on() {
    background(&BASH, End::Hup, false);
    foreground(&BASH, End::Hup);
}

#[test]
fn bash_loses_its_terminal() {
    background(&BASH, End::Close, false);
    foreground(&BASH, End::Close);
}

#[test]
fn zsh_ends_its_jobs() {
    background(&ZSH, End::Exit, false);
}

#[test]
fn zsh_passes_a_hup_on() {
    background(&ZSH, End::Hup, false);
    foreground(&ZSH, End::Hup);
}

#[test]
fn zsh_loses_its_terminal() {
    background(&ZSH, End::Close, false);
    foreground(&ZSH, End::Close);
}

#[test]
fn dash_leaves_its_jobs() {
    background(&DASH, End::Exit, true);
}

#[test]
fn dash_dies_of_a_hup() {
    background(&DASH, End::Hup, true);
    foreground(&DASH, End::Hup);
}

#[test]
fn dash_loses_its_terminal() {
    background(&DASH, End::Close, true);
    foreground(&DASH, End::Close);
}

/// A tmux server of the test's own.
struct Tmux(PathBuf);

impl Tmux {
    fn run(&self, args: &[&str]) {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.0).args(["-f", "/dev/null"]).args(args).env_remove("TMUX").env("TERM", "dumb");
        command.env("H", hupwrap()).env("P", puppet()).env("HISTFILE", "").stdin(Stdio::null());
        assert!(command.status().expect("tmux").success(), "tmux {args:?}");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.0).arg("kill-server").stderr(Stdio::null()).status();
    }
}

#[test]
fn tmux_ends_what_runs_in_a_pane() {
    often("tmux", &["tmux"], |turn, _| {
        let dir = Dir::new();
        let out = dir.path().join("out");
        let tmux = Tmux(dir.path().join("socket"));
        let hupwrap = format!("\"$H\" -- \"$P\" exit=HUP:7 >{} 2>&1", out.display());
        // As the pane's own command, below a script, and in the background of a shell.
        let command = match turn % 4 {
            0 => format!("exec {hupwrap}"),
            1 => hupwrap.clone(),
            2 => format!("{hupwrap}; echo after"),
            _ => "exec bash --norc --noprofile -i".to_owned(),
        };
        tmux.run(&["new-session", "-d", "-s", "main", "-x", "80", "-y", "24", "sleep 1000"]);
        tmux.run(&["new-window", "-t", "main", &command]);
        if turn % 4 == 3 {
            tmux.run(&["send-keys", "-t", "main", &format!("{hupwrap} &"), "Enter"]);
        }
        let first = ready_in(&out, 1);
        let hupwrap = parent(first).unwrap();
        match turn / 4 % 2 {
            0 => tmux.run(&["kill-pane", "-t", "main"]),
            _ => tmux.run(&["kill-session", "-t", "main"]),
        }
        gone(&[first, hupwrap]);
    });
}

#[test]
fn without_pidfds_too() {
    let open = "pidfd_open";
    for (words, stays) in [(&BASH[..], true), (&LOGIN[..], false)] {
        often("without pidfds", words, |_, program| {
            let dir = Dir::new();
            let out = dir.path().join("out");
            let mut terminal = Terminal::new();
            let mut shell = shell(&mut terminal, program, words);
            let without = without();
            terminal.enter(&format!(
                "'{0}' {open} -- \"$H\" -v -- \"$P\" exit=HUP:7 >{1} 2>>{1} &",
                without.display(),
                out.display()
            ));
            let _shown = Shown(&out);
            let first = ready_in(&out, 1);
            let hupwrap = parent(first).unwrap();
            end(&mut terminal, &mut shell, End::Exit);
            if !stays {
                return gone(&[first, hupwrap]);
            }
            long_after_the_end(hupwrap);
            kill(hupwrap, "HUP");
            assert_eq!(parent(ready_in(&out, 2)), Some(hupwrap));
            kill(hupwrap, "TERM");
            gone(&[hupwrap]);
        });
    }
}

/// Nothing tells hupwrap of the end of a terminal that its session outlives: no descriptor leads to it.
#[test]
fn a_reload_long_after_the_end_is_one_though_nothing_has_told_of_the_end() {
    // With the second one, HUP is ignored from the start, as by nohup.
    for trap in ["trap : HUP", "trap '' HUP"] {
        let dir = Dir::new();
        let out = dir.path().join("out");
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script =
            format!("{trap}; set -m; \"$H\" -- \"$P\" exit=HUP:7 >out 2>&1 </dev/null & while :; do true <fifo; done");
        let mut terminal = Terminal::new();
        let setup = terminal.lead(Setup::of("sh", ["-c", &script])).env("H", hupwrap()).env("P", puppet());
        let leader = setup.dir(dir.path()).start();
        let _shown = Shown(&out);
        let hupwrap = parent(ready_in(&out, 1)).unwrap();
        assert!(is_alive(hupwrap));
        wait_until("hupwrap waits", || is_at_rest(hupwrap));
        terminal.close();
        wait_until("it has no terminal", || stat(hupwrap).is_some_and(|stat| stat[4] == "0"));
        for generation in 2..5 {
            kill(hupwrap, "HUP");
            assert_eq!(parent(ready_in(&out, generation)), Some(hupwrap), "{trap}");
        }
        pass(Instant::now(), WINDOW);
        assert!(is_alive(leader.pid) && is_alive(hupwrap));
        kill(hupwrap, "TERM");
        gone(&[hupwrap]);
        assert!(!fs::read_to_string(&out).unwrap().contains("got HUP"));
    }
}

#[test]
fn a_hup_is_a_hang_up_if_the_leader_ends_with_it_or_soon_after() {
    for action in ["restart", "replace", "reexec", "upgrade"] {
        let dir = Dir::new();
        let out = dir.path().join("out");
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let job = format!("\"$H\" --on-hup {action} -- \"$P\" exit=HUP:7 >out 2>&1 </dev/null &");
        let script = format!("trap : HUP; set -m; {job} while :; do true <fifo; done");
        let mut terminal = Terminal::new();
        let setup = terminal.lead(Setup::of("sh", ["-c", &script])).env("H", hupwrap()).env("P", puppet());
        let mut leader = setup.dir(dir.path()).start();
        let _shown = Shown(&out);
        let first = ready_in(&out, 1);
        let hupwrap = parent(first).unwrap();
        wait_until("hupwrap waits", || is_at_rest(hupwrap));
        terminal.close();
        wait_until("it has no terminal", || stat(hupwrap).is_some_and(|stat| stat[4] == "0"));
        kill(hupwrap, "HUP");
        leader.kill("KILL");
        leader.status();
        gone(&[first, hupwrap]);
        line_in(&out, "got HUP");
    }
}

#[test]
fn a_reload_in_a_living_terminal_is_one() {
    let dir = Dir::new();
    let out = dir.path().join("out");
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    terminal.enter(&format!("\"$H\" -- \"$P\" exit=HUP:7 >{} &", out.display()));
    let hupwrap = parent(ready_in(&out, 1)).unwrap();
    for generation in 2..5 {
        terminal.enter("kill -HUP %1");
        assert_eq!(parent(ready_in(&out, generation)), Some(hupwrap));
        pass(Instant::now(), WINDOW);
        assert!(is_alive(hupwrap));
    }
    assert_eq!(fs::read_to_string(&out).unwrap().matches("got HUP").count(), 0);
    kill(hupwrap, "TERM");
    gone(&[hupwrap]);
    line_in(&out, "got TERM");
}
