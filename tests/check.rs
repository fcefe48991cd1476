//! What is looked at before anything is touched, and a bad new version: the old child serves on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::libc;

use crate::support::watched::status_where;
use crate::support::*;

/// The actions that a check comes before.
const ACTIONS: [&str; 5] = ["restart", "reexec", "replace", "upgrade", "upgrade+replace"];

/// A place where a deploy puts things: `current` links to a directory of one version, with all that hupwrap is told of.
struct Deploy {
    dir: Dir,
}

impl Deploy {
    const PARTS: [&str; 4] = ["program", "check", "env", "work"];

    /// Everything that can be put in a part's place, and the good one in it.
    fn new() -> Self {
        let dir = Dir::new();
        fs::create_dir(dir.path().join("work-good")).unwrap();
        dir.file("work-file", "", 0o644);
        dir.file("env-good", "VERSION=good\n", 0o644);
        dir.file("env-broken", "VERSION=secret\nno sign\n", 0o644);
        dir.program("check-good", "#!/bin/sh\nexit 0\n");
        dir.program("check-fails", "#!/bin/sh\nexit 3\n");
        dir.program("check-hangs", "#!/bin/sh\nexec sleep 1000\n");
        dir.program("check-dies", "#!/bin/sh\nkill -KILL $$\n");
        dir.program("check-floods", "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x\nexit 4\n");
        dir.program("check-alien", "#!/no/such/sh\n");
        dir.file("check-plain", "#!/bin/sh\n", 0o644);
        dir.program("program-crashes", "#!/bin/sh\nexit 3\n");
        dir.program("program-dies", "#!/bin/sh\nkill -SEGV $$\n");
        dir.program("program-ends", "#!/bin/sh\nexit 0\n");
        dir.program("program-leaves", "#!/bin/sh\nsleep 1000 &\nsetsid sleep 1000 &\nexit 0\n");
        dir.program("program-hangs", "#!/bin/sh\nexec sleep 1000\n");
        dir.program("program-obstinate", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1000; done\n");
        dir.program("program-alien", "#!/no/such/sh\n");
        dir.program("program-garbage", b"\x7fELF\x02\x01\x01\0garbage\0\0\0\n");
        dir.program("program-noise", b"\x01\0\xff\n");
        dir.program("program-empty", "");
        dir.program("program-locked", format!("#!{}/check-plain\n", dir.path().display()));
        dir.program("program-indirect", format!("#! {}/program-alien x\n", dir.path().display()));
        let own = fs::read("/bin/true").unwrap();
        dir.program("program-cut", &own[..100]);
        let altered = |name: &str, at: usize, bytes: &[u8]| {
            let mut program = own.clone();
            program[at..at + bytes.len()].copy_from_slice(bytes);
            dir.program(name, program);
        };
        // e_machine, EI_CLASS and e_type (elf(5)). The first is one that nobody has, or qemu might run it.
        altered("program-foreign", 18, &[0xed, 0xfe]);
        altered("program-narrow", 4, &[1]);
        altered("program-core", 16, &[4, 0]);
        let loader = own.windows(8).position(|bytes| bytes == b"ld-linux").expect("/bin/true has a loader");
        altered("program-lost", loader, b"no");
        // A directory.
        altered("program-housed", loader - 1, b"\0");
        dir.program("program-beneath", "#!/etc/passwd/sh\n");
        dir.file("env-huge", format!("A=1\nBIG={}\n", "x".repeat(128 << 10)), 0o644);
        let many: String = (0..30).map(|number| format!("V{number}={}\n", "x".repeat(10 << 10))).collect();
        dir.file("env-many", many, 0o644);
        dir.file("program-plain", "#!/bin/sh\n", 0o644);
        fs::create_dir(dir.path().join("program-directory")).unwrap();
        symlink("program-loop", dir.path().join("program-loop")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("program-fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        nix::unistd::mkfifo(&dir.path().join("check-fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let deploy = Self { dir };
        deploy.mend();
        deploy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Links a part to one of its versions, at once.
    fn set(&self, part: &str, version: &str) {
        symlink(format!("{part}-{version}"), self.path("next")).unwrap();
        fs::rename(self.path("next"), self.path(part)).unwrap();
    }

    fn mend(&self) {
        Self::PARTS.iter().for_each(|part| self.set(part, "good"));
    }

    /// hupwrap on it, with this good program.
    fn setup(&self, program: &Path, options: &[&str], program_args: &[&str]) -> Setup {
        if !self.path("program-good").exists() {
            symlink(program, self.path("program-good")).unwrap();
        }
        let check = format!("'{}' -t", self.path("check").display());
        let mut list: Vec<OsString> = options.iter().map(OsString::from).collect();
        list.extend(args([&"--check", &check, &"--env-file", &self.path("env"), &"--workdir", &self.path("work")]));
        list.extend(args([&"--", &self.path("program")]));
        list.extend(program_args.iter().map(OsString::from));
        // The limit of arguments and environment is a quarter of it.
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        // SAFETY: the pointer is to a struct of ours.
        let set = move || assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_STACK, &raw const limit) }, 0);
        Setup::new(list).with(|command| before_exec(command, set))
    }
}

/// What can be wrong: a part, what is in its place, and what is said. Nothing of it is tried.
const REFUSED: [(&str, &str, &str); 32] = [
    ("program", "plain", "cannot be executed: permission denied"),
    ("program", "missing", "program: not found"),
    ("program", "directory", "cannot be executed: it is a directory"),
    ("program", "loop", "cannot be executed: too many symbolic links"),
    ("program", "fifo", "cannot be executed: it is not a regular file"),
    ("program", "alien", "not found (its interpreter /no/such/sh is missing)"),
    ("program", "locked", "check-plain: permission denied"),
    ("program", "indirect", "not found (its interpreter /no/such/sh is missing)"),
    ("program", "garbage", "it is no program for this machine, and no script"),
    ("program", "noise", "it is no program for this machine, and no script"),
    ("program", "cut", "it is no program for this machine, and no script"),
    ("program", "foreign", "it is no program for this machine, and no script"),
    ("program", "narrow", "it is no program for this machine, and no script"),
    ("program", "core", "it is no program for this machine, and no script"),
    ("program", "lost", "no-linux"),
    ("program", "housed", "cannot be executed: its loader /lib"),
    ("program", "beneath", "not found (its interpreter /etc/passwd/sh is missing)"),
    ("program", "empty", "it is empty"),
    ("env", "huge", "the variable BIG is too long; want less than 128 KiB"),
    ("env", "many", "arguments and environment are too long: "),
    ("env", "broken", "line 2: it has no '='; want NAME=VALUE"),
    ("env", "missing", "cannot be read: no such file or directory"),
    ("work", "missing", "no such file or directory"),
    ("work", "file", "is no directory"),
    ("check", "fails", "-t' ended with 3"),
    ("check", "dies", "KILL ended check '"),
    ("check", "hangs", "the check did not end within 5s"),
    ("check", "floods", "-t' ended with 4"),
    ("check", "missing", "check: not found"),
    ("check", "plain", "check: cannot be executed: permission denied"),
    ("check", "fifo", "check: cannot be executed: it is not a regular file"),
    ("check", "alien", "not found (its interpreter /no/such/sh is missing)"),
];

/// What shows when it is tried.
const FAILED: [(&str, &str, &str); 6] = [
    ("program", "crashes", "ended (3) before it was ready"),
    ("program", "dies", "ended (SEGV) before it was ready"),
    ("program", "ends", "ended (0) before it was ready; does it go into the background?"),
    ("program", "leaves", "ended (0) before it was ready; does it go into the background?"),
    ("program", "hangs", "was not ready within 5s"),
    ("program", "obstinate", "was not ready within 5s"),
];

/// Whether one of these shows only when a time is over.
fn is_slow(version: &str) -> bool {
    ["hangs", "obstinate"].contains(&version)
}

/// Waits until a file has a text so often.
#[track_caller]
fn text_in(file: &Path, part: &str, times: usize) {
    wait_until(&format!("{} has '{part}' {times} times", file.display()), || {
        String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).matches(part).count() >= times
    });
}

/// Waits until a puppet has acted upon everything.
#[track_caller]
fn at_rest(run: &mut Run) {
    run.kill("RTMIN+1");
    run.line("got RTMIN+1");
}

#[test]
fn a_refused_request_touches_nothing_and_the_next_one_works() {
    // At the same time: each waits for a check that hangs.
    std::thread::scope(|scope| {
        for action in ["restart", "replace", "reexec"] {
            scope.spawn(move || requests_are_refused(action));
        }
    });
}

fn requests_are_refused(action: &str) {
    let deploy = Deploy::new();
    // A file has room for whatever a check says.
    let stderr = deploy.path("stderr");
    let options = ["--on-hup", action, "--ready", "exec", "--check-timeout", "5s"];
    let into_file = fs::File::options().create(true).append(true).open(&stderr).unwrap();
    let setup = deploy.setup(&puppet(), &options, &[]);
    let mut run = setup
        .with(|command| {
            command.stderr(into_file);
        })
        .start();
    let (_, mut child) = run.ready();
    for (round, (part, version, line)) in REFUSED.into_iter().enumerate() {
        deploy.set(part, version);
        run.kill("HUP");
        text_in(&stderr, &format!("hupwrap: {action} refused, nothing was touched: "), round + 1);
        let said = String::from_utf8_lossy(&fs::read(&stderr).unwrap()).into_owned();
        let last = said.lines().rfind(|line| line.contains("refused")).unwrap();
        assert!(last.contains(line), "{part} {version}: {last}");
        assert!(part != "check" || last.contains("check"), "{part} {version}: {last}");
        assert!(!last.contains("secret"), "{last}");
        at_rest(&mut run);
        // A check that was killed may take a moment to be gone.
        wait_until(&format!("the old child is alone: {part} {version}"), || children(run.pid) == [child]);
        deploy.mend();
        run.kill("HUP");
        child = run.line(&format!("ready {} ", round + 2)).rsplit(' ').next().unwrap().parse().unwrap();
        wait_until("the new one is alone", || children(run.pid) == [child]);
    }
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stdout.matches("got TERM").count()), (0, REFUSED.len() + 1));
}

#[test]
fn the_names_of_sockets_count_before_a_stop() {
    let dir = Dir::new();
    let env = dir.file("env", "", 0o644);
    let mut list = args([&"--env-file", &env]);
    for number in 0..80 {
        list.extend(args([&"--listen", &format!("{}{number}=tcp:127.0.0.1:0", "n".repeat(250))]));
    }
    list.extend(args([&"--", &puppet()]));
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: the pointer is to a struct of ours.
    let set = move || assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_STACK, &raw const limit) }, 0);
    let mut run = Setup::new(list).with(|command| before_exec(command, set)).start();
    let (_, child) = run.ready();
    let inherited: usize = std::env::vars_os().map(|(name, value)| name.len() + value.len() + 10).sum();
    // Of a quarter of the stack, 12 KiB are left.
    let left = (256 << 10) - (12 << 10) - inherited;
    let half = "x".repeat(left / 3);
    dir.file("env", format!("A={half}\nB={half}\nC={half}\n"), 0o644);
    run.kill("HUP");
    run.said("restart refused, nothing was touched: ");
    run.said("arguments and environment are too long: ");
    at_rest(&mut run);
    assert_eq!(children(run.pid), [child]);
    run.stop();
}

#[test]
fn every_request_is_checked_and_nothing_else_is() {
    for action in ACTIONS {
        let dir = Dir::new();
        let check =
            dir.program("check", format!("#!/bin/sh\necho checked \"$@\" >> {}/log\nexit 1\n", dir.path().display()));
        let check = format!("{} \"a b\" '$HOME' \\; # no more", check.display());
        let mut run = Setup::new(args([&"--on-hup", &action, &"--check", &check, &"--", &puppet()])).start();
        run.ready();
        // What is passed on asks for nothing new.
        run.kill("USR1");
        run.line("got USR1");
        assert!(!dir.path().join("log").exists());
        for round in 1..=2 {
            run.kill("HUP");
            run.said_times(&format!("{action} refused, nothing was touched: check '"), round);
        }
        at_rest(&mut run);
        assert_eq!(run.stdout().matches("ready").count(), 1);
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "checked a b $HOME ;\n".repeat(2));
        assert!(!run.stderr().contains("took over"));
        assert_eq!(run.stop().shell(), 0, "{action}");
    }
}

#[test]
fn a_check_that_passes_lets_every_action_go_on() {
    for action in ACTIONS {
        let list = args([&"--on-hup", &action, &"--check", &"true", &"--ready", &"exec", &"--", &puppet()]);
        let mut run = Setup::new(list).start();
        let (_, child) = run.ready();
        run.kill("HUP");
        if action == "upgrade" {
            run.said("took over");
            at_rest(&mut run);
            assert_eq!(children(run.pid), [child]);
        } else {
            run.line("ready 2");
        }
        run.stop();
    }
}

#[test]
fn a_check_sees_what_the_child_would_see_now() {
    let dir = Dir::new();
    let work = dir.path().join("work");
    let env = dir.file("env", "A=1\n", 0o644);
    fs::create_dir(&work).unwrap();
    let check = "sh -c 'echo $A $B $HUPWRAP_PID \"$LISTEN_FDS\" $(pwd) $(readlink /proc/self/fd/0) >&2; exit 1'";
    let list = args([&"--check", &check, &"--env-file", &env, &"--workdir", &work, &"--", &puppet()]);
    let mut run = Setup::new(list).env("A", "outer").env("B", "outer").stdin().start();
    run.ready();
    for value in ["1", "2"] {
        dir.file("env", format!("A={value}\n"), 0o644);
        run.kill("HUP");
        run.said(&format!("{value} outer {}  {} /dev/null\n", run.pid, work.display()));
    }
    run.said_times("restart refused", 2);
    run.stop();
}

#[test]
fn without_dev_null_a_command_reads_nothing_and_only_a_check_is_heard() {
    let test = "check::without_dev_null_a_command_reads_nothing_and_only_a_check_is_heard";
    let bare = |words: &[&str]| {
        let script = "mount -t tmpfs none /dev && exec \"$@\"";
        Setup::of("unshare", ["--mount", "sh", "-c", script, "sh"].iter().chain(words))
    };
    if installed("unshare").is_none() || bare(&["true"]).end().shell() != 0 {
        return skipped(test, "unshare(1), or the right to mount in a namespace of its own");
    }
    let puppet = puppet();
    let hupwrap = hupwrap().to_str().unwrap();
    let (check, ready) = ("sh -c 'cat && echo checked'", "cmd:sh -c 'cat && seq 20000 && echo tried'");
    let words = [hupwrap, "--check", check, "--ready", ready, "--", puppet.to_str().unwrap()];
    let mut run = bare(&words).stdin().start();
    assert_eq!(run.ready().0, 1);
    // Held until it is ready.
    run.kill("HUP");
    assert_eq!(run.ready().0, 2);
    run.said("checked\n");
    let ended = run.stop();
    assert!(!ended.stdout.contains("tried") && !ended.stdout.contains("checked"), "{}", ended.stdout);
}

#[test]
fn an_edited_env_file_takes_effect_by_hup() {
    let dir = Dir::new();
    let env = dir.file("env", "VALUE=one\n", 0o644);
    let script = format!("echo value $VALUE; exec {} exit=TERM:0", puppet().display());
    for action in ["restart", "replace"] {
        dir.file("env", "VALUE=one\n", 0o644);
        let list = args([&"--on-hup", &action, &"--ready", &"exec", &"--env-file", &env, &"--", &"sh", &"-c", &script]);
        let mut run = Setup::new(list).start();
        assert_eq!(run.line("value "), "value one");
        run.ready();
        dir.file("env", "VALUE='two\n", 0o644);
        run.kill("HUP");
        run.said(&format!("{action} refused, nothing was touched: --env-file '"));
        dir.file("env", "VALUE=three\n", 0o644);
        run.kill("HUP");
        assert_eq!(run.line("value "), "value three");
        run.ready();
        run.stop();
    }
}

#[test]
fn what_is_no_check_is_a_usage_error() {
    for (check, why) in
        [("'nginx -t", "a quote is not closed"), ("", "names no program"), ("\"a", "a quote is not closed")]
    {
        let ended = Setup::new(args([&"--check", &check, &"--", &"sh", &"-c", &"echo started"])).end();
        assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""));
        assert!(ended.stderr.starts_with(&format!("hupwrap: --check '{check}': {why}")), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_check_that_is_nowhere_is_noticed_at_the_start() {
    let dir = Dir::new();
    let plain = dir.file("plain", "#!/bin/sh\n", 0o644);
    let alien = dir.program("alien", "#!/no/such/sh\n");
    for (check, why) in [
        ("no-such-check -t".to_owned(), "no-such-check: not found".to_owned()),
        ("/nonexistent".to_owned(), "/nonexistent: not found".to_owned()),
        (format!("{} -t", plain.display()), format!("{}: cannot be executed: permission denied; ", plain.display())),
        (format!("{}", alien.display()), format!("{}: not found (its interpreter ", alien.display())),
    ] {
        for (options, option) in [
            (["--check".to_owned(), check.clone()], format!("--check '{check}': ")),
            (["--ready".to_owned(), format!("cmd:{check}")], format!("--ready 'cmd:{check}': ")),
        ] {
            let words = options.iter().map(String::as_str).chain(["--", "sh", "-c", "echo started"]);
            let ended = Setup::new(words).end();
            assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{check}");
            assert!(ended.stderr.starts_with(&format!("hupwrap: {option}{why}")), "{}", ended.stderr);
            assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        }
    }
    // It is looked for where the child's environment says.
    let there = dir.program("there", "#!/bin/sh\n");
    let env = dir.file("env", format!("PATH={}:/bin:/usr/bin\n", there.parent().unwrap().display()), 0o600);
    let ended = Setup::new(args([&"--env-file", &env, &"--check", &"there", &"--", &"sh", &"-c", &"exit 3"])).end();
    assert_eq!(ended.shell(), 3);
}

#[test]
fn a_check_that_vanishes_is_named_as_one() {
    let dir = Dir::new();
    let check = dir.program("check", "#!/bin/sh\n");
    let mut run = Setup::new(args([&"--check", &check, &"--", &puppet()])).start();
    run.ready();
    fs::remove_file(&check).unwrap();
    run.kill("HUP");
    run.said(&format!("restart refused, nothing was touched: check {}: not found\n", check.display()));
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_check_that_hangs_is_killed_with_all_it_started() {
    let check = "sh -c 'echo checking $$ >&2; trap \"\" TERM; sleep 1000 & wait'";
    let list = args([&"--check", &check, &"--check-timeout", &"500ms", &"--", &puppet()]);
    let mut run = Setup::new(list).start();
    let (_, child) = run.ready();
    for round in 1..=3 {
        run.kill("HUP");
        run.said_times("restart refused, nothing was touched: the check did not end within 500ms", round);
        // A dead one shows no environment, and is a child as long as it is not reaped.
        wait_until("it is gone, and reaped", || run.family().len() == 2 && children(run.pid) == [child]);
    }
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_term_during_a_check_ends_everything() {
    let check = "sh -c 'echo checking >&2; trap \"\" TERM; sleep 1000 & wait'";
    for action in ACTIONS {
        let list = args([&"--on-hup", &action, &"--check", &check, &"--", &puppet(), &"exit=TERM:3"]);
        let mut run = Setup::new(list).start();
        run.ready();
        run.kill("HUP");
        run.said("checking");
        run.kill("TERM");
        assert_eq!(run.status().code(), Some(3), "{action}");
        wait_until("nobody is left", || run.family().is_empty());
        assert_eq!(run.stdout().matches("ready").count(), 1);
    }
}

/// Nobody would gain by waiting: it is started again whatever the check says.
#[test]
fn a_child_that_ends_during_a_check_is_started_again_at_once() {
    for action in ["restart", "replace", "reexec", "upgrade+replace"] {
        let dir = Dir::new();
        nix::unistd::mkfifo(&dir.path().join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let check = "sh -c 'echo \"checking ($$)\" >&2; read x < go'";
        let list = args([
            &"--on-hup",
            &action,
            &"--check",
            &check,
            &"--status-file",
            &"status",
            &"--ready=exec",
            &"--",
            &puppet(),
        ]);
        let mut run = Setup::new(list).dir(dir.path()).start();
        let (_, child) = run.ready();
        run.kill("HUP");
        run.said("checking");
        kill(child, "KILL");
        assert_eq!(run.ready().0, 2, "{action}");
        let status = status_where(&dir.path().join("status"), "the start answers", |status| {
            status["reload"]["outcome"] == "ok" || status["settled"][0]["outcome"] == "ok"
        });
        assert_eq!(status["restarts"]["asked"], 1, "{action}");
        let first: i32 = run.stderr().split(['(', ')']).nth(1).unwrap().parse().unwrap();
        wait_until("the check is killed", || !is_alive(first));
        if ["reexec", "upgrade+replace"].contains(&action) {
            // A new hupwrap is checked for, once there is a child.
            run.said_times("checking", 2);
            fs::write(dir.path().join("go"), "\n").unwrap();
            run.said("took over");
        }
        assert_eq!(run.stop().shell(), 0, "{action}");
    }
}

#[test]
fn a_restart_that_is_due_does_not_wait_for_a_check() {
    let dir = Dir::new();
    nix::unistd::mkfifo(&dir.path().join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let check = "sh -c 'echo checking >&2; read x < go'";
    let options = ["--restart", "on-failure", "--restart-delay", "2s", "--check", check, "--status-file", "status"];
    let puppet = puppet();
    let command = ["--", puppet.to_str().unwrap()];
    let mut run = Setup::new([&options[..], &command].concat()).dir(dir.path()).start();
    let (_, child) = run.ready();
    kill(child, "KILL");
    run.said("starting it again in");
    run.kill("HUP");
    run.said("checking");
    assert_eq!(run.ready().0, 2);
    let status =
        status_where(&dir.path().join("status"), "the start answers", |status| status["reload"]["outcome"] == "ok");
    assert_eq!(status["reload"]["action"], "restart");
    wait_until("the check is killed", || children(run.pid).len() == 1);
    assert_eq!(run.stderr().matches("checking").count(), 1);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn hups_during_a_check_make_one_more() {
    let dir = Dir::new();
    nix::unistd::mkfifo(&dir.path().join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let check = "sh -c 'echo checking >&2; read x < go'";
    let list = args([&"--check", &check, &"--", &puppet()]);
    let mut run = Setup::new(list).dir(dir.path()).start();
    run.ready();
    run.kill("HUP");
    run.said("checking");
    for _ in 0..20 {
        run.kill("HUP");
    }
    at_rest(&mut run);
    fs::write(dir.path().join("go"), "\n").unwrap();
    assert_eq!(run.ready().0, 2);
    run.said_times("checking", 2);
    fs::write(dir.path().join("go"), "\n").unwrap();
    assert_eq!(run.ready().0, 3);
    at_rest(&mut run);
    assert_eq!(run.stderr().matches("checking").count(), 2);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_program_that_is_being_written_is_tried_again() {
    let dir = Dir::new();
    let program = dir.path().join("program");
    fs::copy(puppet(), dir.path().join("copy")).unwrap();
    for action in ["restart", "replace"] {
        let done = std::process::Command::new("cp").arg("--").arg(puppet()).arg(&program).status().unwrap();
        assert!(done.success());
        let list = args([&"--on-hup", &action, &"--ready", &"exec", &"--", &program]);
        let mut run = Setup::new(list).start();
        let (_, child) = run.ready();
        let mut writer = std::process::Command::new("sh")
            .args(["-c", "cp \"$0\" \"$0.new\"; mv \"$0.new\" \"$0\"; exec 3>>\"$0\"; echo open; read x"])
            .arg(&program)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 5];
        writer.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        run.kill("HUP");
        if action == "restart" {
            run.said("cannot be executed: it is open for writing; trying again in ");
        } else {
            run.said("replace failed, the old one serves on: ");
            at_rest(&mut run);
            assert_eq!(children(run.pid), [child]);
        }
        drop(writer.stdin.take());
        writer.wait().unwrap();
        if action == "replace" {
            run.kill("HUP");
        }
        run.ready();
        assert_eq!(run.stop().shell(), 0, "{action}");
    }
}

// The service.

/// Somebody who connects again and again, and counts the answers.
struct Client {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    client: std::thread::JoinHandle<Vec<String>>,
}

impl Client {
    fn of(socket: PathBuf) -> Self {
        let (over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, count) = (over.clone(), answers.clone());
        let client = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !until.load(Ordering::Relaxed) {
                match ask(&socket) {
                    Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => failures.push(error),
                }
            }
            failures
        });
        Self { over, answers, client }
    }

    /// Waits until it was answered once more.
    #[track_caller]
    fn served(&self) {
        // One may be under way.
        let before = self.answers.load(Ordering::Relaxed) + 1;
        wait_until("the client was answered", || self.answers.load(Ordering::Relaxed) > before);
    }

    fn failures(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.client.join().unwrap()
    }
}

/// The pid of the process that answers.
fn ask(socket: &Path) -> Result<i32, String> {
    let mut stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let pid = answer.strip_suffix('\n').and_then(|line| line.split(' ').nth(1)?.parse().ok());
    pid.ok_or_else(|| format!("the answer was {answer:?}"))
}

/// A service, with somebody who uses it.
struct Service {
    deploy: Deploy,
    run: Run,
    client: Client,
    serving: i32,
    /// How often each line was said.
    said: BTreeMap<String, usize>,
}

impl Service {
    fn new(options: &[&str]) -> Self {
        let deploy = Deploy::new();
        let socket = deploy.path("socket");
        let listen = format!("unix:{}", socket.display());
        let always = ["--on-hup", "replace", "--listen", &listen, "--ready", "notify"];
        let mini = fixture("mini");
        let mut run = deploy.setup(&mini, &[&always[..], options].concat(), &[]).start();
        let (_, serving) = run.ready();
        Self { client: Client::of(socket), deploy, run, serving, said: BTreeMap::new() }
    }

    /// Waits for one more of these lines.
    #[track_caller]
    fn says(&mut self, part: &str) {
        let times = self.said.entry(part.to_owned()).or_default();
        *times += 1;
        self.run.said_times(part, *times);
    }

    /// A HUP with this wrong: the old one serves on.
    #[track_caller]
    fn withstands(&mut self, part: &str, version: &str, outcome: &str, line: &str) {
        self.deploy.set(part, version);
        self.run.kill("HUP");
        self.says(&format!("replace {outcome}"));
        let stderr = self.run.stderr();
        let said = stderr.lines().rfind(|line| line.contains(" refused") || line.contains(" failed")).unwrap();
        assert!(said.contains(outcome) && said.contains(line), "{part} {version}: {said}");
        wait_until("the old one is alone", || children(self.run.pid) == [self.serving]);
        self.client.served();
    }

    /// A HUP with nothing wrong: a new one serves.
    #[track_caller]
    fn renews(&mut self) {
        self.deploy.mend();
        self.run.kill("HUP");
        self.says("is ready; stopping");
        let (_, new) = self.run.ready();
        wait_until("the new one is alone", || children(self.run.pid) == [new]);
        assert_ne!(new, self.serving);
        self.serving = new;
        self.client.served();
    }

    fn ends(self) {
        let Self { run, client, .. } = self;
        let failures = client.failures();
        assert_eq!(failures, Vec::<String>::new());
        assert_eq!(run.stop().shell(), 0);
    }
}

/// What can be wrong with a new version, with its outcome.
fn faults() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    let refused = REFUSED.into_iter().map(|(part, version, line)| (part, version, REFUSED_OUTCOME, line));
    let failed = FAILED.into_iter().map(|(part, version, line)| (part, version, FAILED_OUTCOME, line));
    refused.chain(failed).filter(|(_, version, ..)| *version != "floods")
}

const REFUSED_OUTCOME: &str = "refused, nothing was touched: ";
const FAILED_OUTCOME: &str = "failed, the old one serves on: ";

#[test]
fn a_bad_new_version_never_takes_the_service_down() {
    let mut service = Service::new(&[]);
    for (part, version, outcome, line) in faults().filter(|(_, version, ..)| !is_slow(version)) {
        service.withstands(part, version, outcome, line);
        service.renews();
    }
    service.ends();
}

/// At the same time: each waits for a time to be over. Only these limits are short.
#[test]
fn a_new_version_that_hangs_never_takes_the_service_down() {
    std::thread::scope(|scope| {
        for (part, version, outcome, line) in faults().filter(|(_, version, ..)| is_slow(version)) {
            scope.spawn(move || {
                let options = ["--ready-timeout", "5s", "--check-timeout", "5s", "--stop-timeout", "5s"];
                let mut service = Service::new(&options);
                service.withstands(part, version, outcome, line);
                service.renews();
                service.ends();
            });
        }
    });
}

#[test]
fn two_hundred_bad_versions_lose_no_connection() {
    // Set HUPWRAP_TEST_SEED to have the same order again.
    let seed = std::env::var("HUPWRAP_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() ^ u64::from(now.subsec_nanos())
    });
    eprintln!("HUPWRAP_TEST_SEED={seed}");
    // SplitMix64.
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(below).unwrap()).unwrap()
    };
    let faults: Vec<_> = faults().filter(|(_, version, ..)| !is_slow(version)).collect();
    let mut service = Service::new(&[]);
    for round in 0..200 {
        let (part, version, outcome, line) = faults[random(faults.len())];
        service.withstands(part, version, outcome, line);
        if random(2) == 0 || round == 199 {
            service.renews();
        }
        service.deploy.mend();
    }
    service.ends();
}
