//! How hupwrap ends: the exit-code table of the contract, section 4.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use hupwrap::signal::Signal;
use nix::libc;

use crate::support::*;

/// The signals that end a process which does nothing about them.
fn deadly() -> impl Iterator<Item = Signal> {
    Signal::all().filter(|signal| !matches!(signal.number(), 17..=23 | 28))
}

/// A shell that ends itself by a signal.
fn suicide(signal: Signal) -> [String; 3] {
    ["sh".to_owned(), "-c".to_owned(), format!("kill -{} $$", signal.number())]
}

#[test]
fn every_exit_code_is_the_childs() {
    for code in 0..=255 {
        let ended = Setup::new(["--", "sh", "-c", &format!("exit {code}")]).end();
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(code), ""));
    }
}

#[test]
fn the_childs_death_is_hupwraps() {
    for signal in deadly() {
        // posix_spawn of glibc has 32 and 33 ignored in what it starts, this test by cargo for one.
        let heed = move || {
            // The kernel's sigaction: the handler, and three words of zero.
            let default = [libc::SIG_DFL, 0, 0, 0];
            let number = libc::c_long::from(signal.number());
            // SAFETY: the pointers are to a struct of ours, and null.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), std::ptr::null::<u8>(), 8) };
        };
        let ended = Setup::new(suicide(signal)).with(|command| before_exec(command, heed)).end();
        assert_eq!((ended.status.signal(), ended.stderr.as_str()), (Some(signal.number()), ""), "{signal}");
    }
}

#[test]
fn the_childs_death_is_hupwraps_though_hupwrap_was_to_ignore_that_signal() {
    if !Command::new("env").args(["--default-signal", "true"]).status().is_ok_and(|status| status.success()) {
        return skipped(
            "the_childs_death_is_hupwraps_though_hupwrap_was_to_ignore_that_signal",
            "env --default-signal",
        );
    }
    for signal in deadly().filter(|signal| *signal != Signal::KILL && !matches!(signal.number(), 32 | 33)) {
        let command = ["env", "--default-signal"].map(str::to_owned).into_iter().chain(suicide(signal));
        let ignore = move || {
            // SAFETY: has no preconditions.
            unsafe { libc::signal(signal.number(), libc::SIG_IGN) };
        };
        let ended = Setup::new(command).with(|command| before_exec(command, ignore)).end();
        assert_eq!((ended.status.signal(), ended.stderr.as_str()), (Some(signal.number()), ""), "{signal}");
    }
}

#[test]
fn only_the_child_dumps_core() {
    let dir = Dir::new();
    let with_cores = |command: &mut Command| {
        command.current_dir(dir.path());
        before_exec(command, || {
            let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: the pointer is to a struct of ours.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) };
        });
    };
    for signal in deadly().filter(|signal| signal.is_fault() || matches!(signal.number(), 3 | 24 | 25)) {
        let [shell, rest @ ..] = suicide(signal);
        let plain = Setup::of(shell, rest).with(with_cores).end();
        if !plain.status.core_dumped() {
            return skipped("only_the_child_dumps_core", "nothing dumps core here (hard limit, core_pattern)");
        }
        let ended = Setup::new(suicide(signal)).with(with_cores).end();
        assert_eq!((ended.status.signal(), ended.status.core_dumped()), (Some(signal.number()), false), "{signal}");
    }
}

#[test]
fn a_child_that_had_to_be_killed_has_died_by_kill() {
    let mut run = Setup::new(args([&"--stop-timeout", &"50ms", &"--", &puppet(), &"ignore=TERM"])).start();
    let (_, child) = run.ready();
    let ended = run.stop();
    assert_eq!(ended.status.signal(), Some(libc::SIGKILL));
    assert_eq!(ended.stderr, format!("hupwrap: puppet[{child}] did not end within 50ms; sending KILL\n"));
}

#[test]
fn a_child_that_ends_as_it_is_stopped_has_the_last_word() {
    for code in [0, 7] {
        let mut run = Setup::new(args([&"--", &puppet(), &format!("exit=TERM:{code}")])).start();
        run.ready();
        assert_eq!(run.stop().status.code(), Some(code));
    }
}

// What cannot be executed.

/// Runs a command that cannot be executed, and returns the status and what was said of it.
#[track_caller]
fn failed(command: &str, change: impl FnOnce(&mut Command)) -> (i32, String) {
    let ended = Setup::new(["--", command]).with(change).end();
    assert_eq!(ended.stdout, "");
    let name = if command.is_empty() { "''" } else { command };
    let said = ended.stderr.strip_prefix(&format!("hupwrap: {name}: ")).map(str::to_owned);
    let said = said.unwrap_or_else(|| panic!("it does not name '{command}': {:?}", ended.stderr));
    assert_eq!(said.lines().count(), 1, "{said}");
    (ended.status.code().expect("no signal"), said.trim_end().to_owned())
}

fn path_of(file: &Path) -> &str {
    file.to_str().expect("UTF-8")
}

#[test]
fn what_is_not_found_is_127() {
    let dir = Dir::new();
    let file = dir.file("file", "", 0o644);
    // Where this test may not look there might be one: execvp(3), and hupwrap, call that denied.
    let searched = |command: &mut Command| _ = command.env("PATH", "/usr/bin:/bin");
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    assert_eq!(failed("/no/such/program", |_| ()), (127, "not found".to_owned()));
    assert_eq!(failed("./no-such-program", |_| ()), (127, "not found".to_owned()));
    assert_eq!(failed("no-such-program-anywhere", searched), (127, "not found".to_owned()));
    assert_eq!(failed("", |_| ()), (127, "not found".to_owned()));
    assert_eq!(failed(path_of(&dangling), |_| ()), (127, "not found".to_owned()));
    let (code, said) = failed(&format!("{}/x", path_of(&file)), |_| ());
    assert_eq!(code, 127);
    assert!(said.starts_with("not found ("), "{said}");
    // A name that is longer than any file's.
    assert_eq!(failed(&"x".repeat(300), searched).0, 127);
}

#[test]
fn what_is_found_and_cannot_be_executed_is_126() {
    let dir = Dir::new();
    let plain = dir.file("plain", "#!/bin/sh\n", 0o644);
    let looped = dir.path().join("looped");
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let device = Path::new("/dev/null");
    let chmod = format!("permission denied; did you mean to 'chmod +x {}' first?", plain.display());
    for (file, why) in [
        (plain.as_path(), chmod.as_str()),
        (dir.path(), "it is a directory"),
        (&looped, "too many symbolic links"),
        // To open either would wait for somebody, or do something.
        (&fifo, "it is not a regular file"),
        (device, "it is not a regular file"),
    ] {
        assert_eq!(failed(path_of(file), |_| ()), (126, format!("cannot be executed: {why}")));
    }
}

#[test]
fn a_missing_interpreter_is_127_and_named() {
    let dir = Dir::new();
    for (name, line, interpreter) in [
        ("missing", "#!/no/such/interpreter -x\n", "/no/such/interpreter"),
        ("spaced", "#! \t/no/such/interpreter\n", "/no/such/interpreter"),
        ("windows", "#!/bin/sh\r\nexit 0\r\n", "/bin/sh\\r"),
    ] {
        let script = dir.program(name, line);
        let (code, said) = failed(path_of(&script), |_| ());
        assert_eq!((code, said), (127, format!("not found (its interpreter {interpreter} is missing)")));
    }
}

#[test]
fn what_is_wrong_with_the_interpreter_is_not_said_of_the_command() {
    let dir = Dir::new();
    let beneath = dir.program("beneath", "#!/etc/passwd/sh\n");
    let want = (127, "not found (its interpreter /etc/passwd/sh is missing)".to_owned());
    assert_eq!(failed(path_of(&beneath), |_| ()), want);
    let on_directory = dir.program("on-directory", "#!/etc\n");
    let want = (126, "cannot be executed: its interpreter /etc: it is a directory".to_owned());
    assert_eq!(failed(path_of(&on_directory), |_| ()), want);
    // The other way round as well.
    let plain = dir.file("plain", "#!/no/such/sh\n", 0o644);
    assert!(failed(path_of(&plain), |_| ()).1.starts_with("cannot be executed: permission denied; "));
}

#[test]
fn an_interpreter_that_cannot_be_executed_is_126() {
    let dir = Dir::new();
    let script = dir.program("script", format!("#!{}\n", path_of(&dir.file("plain", "", 0o644))));
    assert_eq!(failed(path_of(&script), |_| ()).0, 126);
}

#[test]
fn a_program_of_another_machine_is_126() {
    let dir = Dir::new();
    let own = fs::read("/bin/true").unwrap();
    let mut foreign = own.clone();
    // e_machine (elf(5)): one that nobody has, or qemu might run it.
    foreign[18..20].copy_from_slice(&[0xed, 0xfe]);
    for (name, content) in [("foreign", &foreign[..]), ("cut", &own[..100]), ("garbage", &b"\x01\0\xff\n"[..])] {
        let program = dir.program(name, content);
        let (code, said) = failed(path_of(&program), |_| ());
        assert_eq!(code, 126, "{name}");
        assert_eq!(said, "cannot be executed: it is no program for this machine, and no script", "{name}");
    }
}

#[test]
fn a_script_without_interpreter_that_cannot_be_read_is_126() {
    let dir = Dir::new();
    let script = dir.file("script", "exit 5\n", 0o311);
    let like_anybody = |command: &mut Command| {
        before_exec(command, || {
            // CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root reads it.
            for capability in [1, 2] {
                // SAFETY: no pointers. It fails where there is nothing to drop.
                unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            }
        });
    };
    let want = "it is no program for this machine, and as a script it cannot be read: permission denied";
    assert_eq!(failed(path_of(&script), like_anybody), (126, format!("cannot be executed: {want}")));
}

#[test]
fn a_missing_loader_is_127_with_a_hint() {
    let dir = Dir::new();
    let mut program = fs::read("/bin/true").unwrap();
    let loader = program.windows(8).position(|bytes| bytes == b"ld-linux");
    let Some(loader) = loader else { return skipped("a_missing_loader_is_127_with_a_hint", "/bin/true has no loader") };
    program[loader..loader + 2].copy_from_slice(b"xx");
    let program = dir.program("program", program);
    let (code, said) = failed(path_of(&program), |_| ());
    assert_eq!(code, 127);
    assert!(said.starts_with("not found (it is there, but its loader /"), "{said}");
}

#[test]
fn a_script_without_interpreter_is_run_by_sh() {
    let dir = Dir::new();
    let script = dir.program("script", "printf '%s|' \"$0\" \"$@\"\nexit 5\n");
    let ended = Setup::new(args([&"--", &script, &"a b", &""])).end();
    assert_eq!((ended.shell(), ended.stdout, ended.stderr), (5, format!("{}|a b||", path_of(&script)), String::new()));
    // Nothing to do is done at once.
    assert_eq!(Setup::new([dir.program("empty", "")]).end().shell(), 0);
    // Found in PATH it is run as well.
    let ended = Setup::new(["script", "x"]).with(|command| search(command, &[dir.path()])).end();
    assert_eq!((ended.shell(), ended.stdout), (5, format!("{}|x|", path_of(&script))));
}

/// Sets a PATH that ends with the one of this test.
fn search(command: &mut Command, dirs: &[&Path]) {
    let rest = std::env::var_os("PATH").unwrap();
    let dirs = dirs.iter().map(|dir| dir.to_path_buf()).chain(std::env::split_paths(&rest));
    command.env("PATH", std::env::join_paths(dirs).unwrap());
}

#[test]
fn path_is_searched_as_a_shell_does() {
    let (first, second) = (Dir::new(), Dir::new());
    second.program("tool", "#!/bin/sh\necho second\n");
    let file = first.file("file", "", 0o644);
    let run = |what: &str| {
        let path =
            |command: &mut Command| search(command, &[&file, Path::new("/no/such"), first.path(), second.path()]);
        let ended = Setup::new(["--", "tool"]).with(path).end();
        assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "second\n", ""), "{what}");
    };
    run("not there");
    fs::create_dir(first.path().join("tool")).unwrap();
    run("a directory");
    fs::remove_dir(first.path().join("tool")).unwrap();
    std::os::unix::fs::symlink("tool", first.path().join("tool")).unwrap();
    run("a loop");
    fs::remove_file(first.path().join("tool")).unwrap();
    first.file("tool", "#!/bin/sh\necho first\n", 0o644);
    run("not executable");
    fs::remove_file(first.path().join("tool")).unwrap();
    first.program("tool", "#!/no/such/sh\n");
    run("without its interpreter");
    fs::remove_file(first.path().join("tool")).unwrap();
    first.file("tool", "#!/bin/sh\necho first\n", 0o644);
    // Nothing else anywhere: that one is what was found.
    let only = |command: &mut Command| {
        command.env("PATH", first.path());
    };
    assert_eq!(failed("tool", only), (126, "cannot be executed: permission denied".to_owned()));
    first.program("tool", "#!/bin/sh\necho first\n");
    let ended = Setup::new(["--", "tool"]).with(only).end();
    assert_eq!((ended.shell(), ended.stdout.as_str()), (0, "first\n"));
}

#[test]
fn an_empty_entry_of_path_is_the_working_directory_and_no_path_is_the_systems() {
    let dir = Dir::new();
    dir.program("tool", "#!/bin/sh\necho here\n");
    for path in ["", ":", "/no/such:", "/no/such::/x"] {
        let ended = Setup::new(["--", "tool"]).env("PATH", path).with(|command| _ = command.current_dir(dir.path()));
        assert_eq!(ended.end().stdout, "here\n", "PATH='{path}'");
    }
    let no_path = |command: &mut Command| _ = command.current_dir(dir.path()).env_remove("PATH");
    assert_eq!(failed("tool", no_path), (127, "not found; did you mean './tool'?".to_owned()));
    assert_eq!(Setup::new(["true"]).with(no_path).end().shell(), 0);
}

#[test]
fn a_relative_command_is_one_of_the_working_directory() {
    let dir = Dir::new();
    dir.program("tool", "#!/bin/sh\necho here\n");
    let ended = Setup::new(["./tool"]).with(|command| _ = command.current_dir(dir.path())).end();
    assert_eq!(ended.stdout, "here\n");
}

#[test]
fn a_file_that_is_being_written_is_tried_again() {
    let dir = Dir::new();
    let program = dir.program("program", "#!/bin/sh\nexit 6\n");
    let busy = format!("hupwrap: {}: cannot be executed: it is open for writing; trying again in ", path_of(&program));
    let writer = OpenOptions::new().append(true).open(&program).unwrap();
    let run = Setup::new([&program]).start();
    run.said(&busy);
    drop(writer);
    assert_eq!(run.end().shell(), 6);

    // A stop meanwhile: no child runs, so the status is a number and no death.
    let writer = OpenOptions::new().append(true).open(&program).unwrap();
    for (signal, code) in [("TERM", 143), ("INT", 130), ("QUIT", 131)] {
        let run = Setup::new([&program]).start();
        run.said(&busy);
        run.kill(signal);
        assert_eq!(run.end().status.code(), Some(code));
    }
    drop(writer);
}

// --map-status.

#[track_caller]
fn mapped(rules: &[&str], command: &[&str]) -> ExitStatus {
    let rules = rules.iter().flat_map(|rule| ["--map-status", rule]);
    Setup::new(rules.chain(["--"]).chain(command.iter().copied())).end().status
}

#[test]
fn statuses_are_mapped_once() {
    let swap = ["1=2", "2=1"];
    assert_eq!(mapped(&swap, &["sh", "-c", "exit 1"]).code(), Some(2));
    assert_eq!(mapped(&swap, &["sh", "-c", "exit 2"]).code(), Some(1));
    assert_eq!(mapped(&swap, &["sh", "-c", "exit 3"]).code(), Some(3));
    assert_eq!(mapped(&["0=9"], &["true"]).code(), Some(9));
    // A death and the number a shell shows for it are two things.
    let by_term = ["sh", "-c", "kill -TERM $$"];
    assert_eq!(mapped(&["TERM=0", "0=1"], &by_term).code(), Some(0));
    assert_eq!(mapped(&["143=0"], &by_term).signal(), Some(libc::SIGTERM));
    assert_eq!(mapped(&["143=0"], &["sh", "-c", "exit 143"]).code(), Some(0));
    assert_eq!(mapped(&["TERM=0"], &["sh", "-c", "exit 143"]).code(), Some(143));
    assert_eq!(mapped(&["rtmin+1=8"], &["sh", "-c", "kill -35 $$"]).code(), Some(8));
}

#[test]
fn a_stop_is_mapped_as_well() {
    let mut run = Setup::new(["--map-status", "TERM=0", "--", "sh", "-c", "echo up; exec sleep 1000"]).start();
    run.line("up");
    assert_eq!(run.stop().status.code(), Some(0));
}

#[test]
fn hupwraps_own_verdict_is_not_mapped() {
    let all = ["124=0", "125=0", "126=0", "127=0"];
    assert_eq!(mapped(&all, &["/no/such/program"]).code(), Some(127));
    assert_eq!(mapped(&all, &["/"]).code(), Some(126));
    assert_eq!(mapped(&all, &[]).code(), Some(125));
    // The same numbers from the child are the child's.
    for code in 124..=127 {
        assert_eq!(mapped(&all, &["sh", "-c", &format!("exit {code}")]).code(), Some(0), "{code}");
    }
}

// A stderr that takes nothing.

/// What it is called, and how a command gets it.
type Useless = (&'static str, fn(&mut Command));

/// Every way in which a stderr can be of no use.
fn useless_stderrs() -> [Useless; 4] {
    fn closed(command: &mut Command) {
        before_exec(command, || {
            // SAFETY: nothing of this process uses it any more.
            unsafe { libc::close(2) };
        });
    }
    fn full(command: &mut Command) {
        command.stderr(OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
    }
    fn broken(command: &mut Command) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        command.stderr(writer);
    }
    fn read_only(command: &mut Command) {
        command.stderr(fs::File::open("/dev/null").expect("/dev/null"));
    }
    [("closed", closed), ("full", full), ("broken", broken), ("read-only", read_only)]
}

#[test]
fn a_useless_stderr_changes_no_status() {
    for (what, useless) in useless_stderrs() {
        let code = |command: &[&str]| Setup::new(command).with(useless).end().status.code();
        assert_eq!(code(&["--", "sh", "-c", "exit 3"]), Some(3), "{what}");
        assert_eq!(code(&["--", "/no/such/program"]), Some(127), "{what}");
        assert_eq!(code(&["--", "/"]), Some(126), "{what}");
        assert_eq!(code(&["--no-such-option", "true"]), Some(125), "{what}");
        assert_eq!(code(&[]), Some(125), "{what}");
        assert_eq!(code(&["--version"]), Some(0), "{what}");
    }
}

#[test]
fn a_useless_stderr_stops_no_supervision() {
    for (what, useless) in useless_stderrs() {
        let mut run = Setup::new(args([&"--", &puppet(), &"exit=USR1:9"])).with(useless).start();
        for generation in 1..=4 {
            assert_eq!(run.ready().0, generation, "{what}");
            // Each has its line, and the line is lost.
            run.kill("HUP");
        }
        run.ready();
        run.kill("USR1");
        let ended = run.end();
        assert_eq!(ended.status.code(), Some(9), "{what}");
        assert!(!ended.stdout.contains("PIPE"), "{what}: {}", ended.stdout);
    }
}

#[test]
fn a_pipe_that_nobody_reads_stops_no_supervision() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    while std::io::Write::write(&mut writer, &[b'x'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let stderr = writer.try_clone().unwrap();
    let mut run = Setup::new(args([&"--", &puppet()])).with(|command| _ = command.stderr(stderr)).start();
    run.ready();
    run.kill("HUP");
    run.ready();
    assert_eq!(run.stop().shell(), 0);
    let missing = Setup::new(["/no/such/program"]).with(|command| _ = command.stderr(writer));
    assert_eq!(missing.end().shell(), 127);
}

// Help, version, and nothing at all.

#[test]
fn help_and_version_go_to_stdout() {
    let ended = Setup::new(["--version"]).end();
    assert_eq!((ended.shell(), ended.stdout, ended.stderr), (0, format!("{}\n", hupwrap::NAME_AND_VERSION), "".into()));
    for flag in ["--help", "-h"] {
        let ended = Setup::new([flag]).end();
        assert_eq!((ended.shell(), ended.stderr.as_str()), (0, ""));
        for part in ["hupwrap [OPTIONS] [--] COMMAND [ARG]...", "--map-status", "Exit status", "Examples:"] {
            assert!(ended.stdout.contains(part), "no '{part}' in {}", ended.stdout);
        }
    }
}

#[test]
fn help_and_version_into_a_closed_pipe_are_0_and_no_command_is_125() {
    for (args, code) in [(&["--help"][..], 0), (&["-h"], 0), (&["--version"], 0), (&[], 125), (&["--"], 125)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let both = |command: &mut Command| _ = command.stderr(writer.try_clone().unwrap()).stdout(writer);
        assert_eq!(Setup::new(args).with(both).end().status.code(), Some(code), "{args:?} into a closed pipe");
        let closed = ["-c", "exec \"$@\" >&- 2>&-", "sh", path_of(hupwrap())];
        let ended = Setup::of("sh", closed.iter().chain(args)).end();
        assert_eq!(ended.status.code(), Some(code), "{args:?} with stdout closed");
    }
}

#[test]
fn sigpipe_ends_the_child_as_it_would_without_hupwrap() {
    let script = format!("{} yes | head -1; echo \"${{PIPESTATUS[0]}}\"", path_of(hupwrap()));
    if installed("bash").is_none() {
        return skipped("sigpipe_ends_the_child_as_it_would_without_hupwrap", "bash");
    }
    assert_eq!(Setup::of("bash", ["-c", &script]).end().stdout, "y\n141\n");
}

#[test]
fn a_grandchild_that_holds_stdout_does_not_hold_hupwrap() {
    let mut run = Setup::new(["--", "sh", "-c", "sleep 1000 & exit 4"]).start();
    assert_eq!(run.status().code(), Some(4));
}
