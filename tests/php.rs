//! The case hupwrap was made for: a PHP program that is edited while it runs, and knows nothing of HUP.

use std::fs;

use crate::support::*;

/// Prints its version and dots, as a program that works and was never told of signals.
fn app(dir: &Dir, version: u32) {
    let code = format!(
        "<?php\necho 'version {version}, pid ', getmypid(), ', parent ', posix_getppid(), \"\\n\";\n\
         while (true) {{ echo \".\\n\"; usleep(10000); }}\n"
    );
    dir.file("app.php", code, 0o644);
}

/// The pids of the program and of its parent, off its first line.
fn began(run: &mut Run, version: u32) -> (i32, i32) {
    let line = run.line(&format!("version {version}, "));
    let pid = |name: &str| {
        let rest = line.split_once(name).expect("a pid").1;
        rest.split(',').next().and_then(|pid| pid.parse().ok()).expect("a number")
    };
    (pid(", pid "), pid(", parent "))
}

fn php_is_missing(test: &str, modules: &[&str]) -> bool {
    if installed("php").is_none() {
        skipped(test, "no php");
        return true;
    }
    let listed = Setup::of("php", ["-m"]).end().stdout;
    match modules.iter().find(|module| !listed.lines().any(|line| line == **module)) {
        Some(module) => {
            skipped(test, &format!("php has no {module}"));
            true
        }
        None => false,
    }
}

#[test]
fn a_hup_runs_the_edited_program() {
    if php_is_missing("a_hup_runs_the_edited_program", &["posix"]) {
        return;
    }
    let dir = Dir::new();
    app(&dir, 1);
    let mut run = Setup::new(["--", "php", "app.php"])
        .with(|command| {
            command.current_dir(dir.path());
        })
        .start();
    let (old, parent) = began(&mut run, 1);
    assert_eq!(parent, run.pid);
    run.line(".");
    app(&dir, 2);
    run.kill("HUP");
    let (new, parent) = began(&mut run, 2);
    assert_eq!(parent, run.pid);
    assert_ne!(new, old);
    assert!(!is_alive(old));
    run.line(".");
    // PHP has no handler: TERM ends it, and hupwrap with it.
    let ended = run.stop();
    assert_eq!(ended.shell(), 143);
    assert_eq!(ended.stderr, format!("hupwrap: restarting php[{old}]\n"));
}

#[test]
fn a_hup_renews_program_and_supervisor_under_one_pid() {
    if php_is_missing("a_hup_renews_program_and_supervisor_under_one_pid", &["posix"]) {
        return;
    }
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    app(&dir, 1);
    let mut run = Setup::of(&program, ["--on-hup", "reexec", "--", "php", "app.php"])
        .with(|command| {
            command.current_dir(dir.path());
        })
        .start();
    let (mut old, parent) = began(&mut run, 1);
    assert_eq!(parent, run.pid);
    for version in 2..5 {
        // As a deploy does it: both files are other ones afterwards.
        let new = dir.hupwrap("hupwrap.new");
        fs::rename(new, &program).unwrap();
        let runs = || fs::read_link(format!("/proc/{}/exe", run.pid)).unwrap();
        assert_ne!(runs(), program);
        app(&dir, version);
        run.kill("HUP");
        let (new, parent) = began(&mut run, version);
        assert_eq!(parent, run.pid, "hupwrap keeps its pid");
        assert_eq!(fs::read_link(format!("/proc/{}/exe", run.pid)).unwrap(), program, "and runs the new file");
        assert_ne!(new, old);
        assert!(!is_alive(old));
        old = new;
    }
    run.line(".");
    let took_over = format!("took over from {0} as pid {1}\n", hupwrap::NAME_AND_VERSION, run.pid);
    let ended = run.stop();
    assert_eq!(ended.shell(), 143);
    assert_eq!(ended.stderr.matches(&took_over).count(), 3, "{}", ended.stderr);
}

#[test]
fn a_program_that_handles_term_ends_in_its_own_way() {
    if php_is_missing("a_program_that_handles_term_ends_in_its_own_way", &["pcntl", "posix"]) {
        return;
    }
    // Finishes what it is at, and says goodbye. There is no word of HUP in it.
    let code = "<?php
        pcntl_async_signals(true);
        $going = true;
        pcntl_signal(SIGTERM, function () use (&$going) { $going = false; });
        echo 'begin ', getenv('HUPWRAP_GENERATION'), \"\\n\";
        while ($going) { usleep(10000); }
        echo 'bye ', getenv('HUPWRAP_GENERATION'), \"\\n\";
        exit(7);
    ";
    let dir = Dir::new();
    let app = dir.file("app.php", code, 0o644);
    let mut run = Setup::new(args([&"--", &"php", &app])).start();
    run.line("begin 1");
    run.kill("HUP");
    run.line("begin 2");
    run.kill("HUP");
    run.line("begin 3");
    let ended = run.stop();
    assert_eq!(ended.stdout, "begin 1\nbye 1\nbegin 2\nbye 2\nbegin 3\nbye 3\n");
    assert_eq!(ended.shell(), 7);
}
