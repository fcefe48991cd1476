//! Re-execution: `reexec` and `upgrade`, with good files and bad ones in hupwrap's place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::*;

/// A hupwrap under another version: the same program with one string changed, so that it must be told apart.
fn other_version(dir: &Dir, name: &str) -> std::path::PathBuf {
    let version = concat!("hupwrap ", env!("CARGO_PKG_VERSION")).as_bytes();
    let mut program = fs::read(hupwrap()).unwrap();
    let mut changed = 0;
    for at in 0..program.len() - version.len() {
        if program[at..].starts_with(version) {
            program[at + "hupwrap ".len()] = b'7';
            changed += 1;
        }
    }
    assert!(changed > 0, "the version stands in the program");
    dir.program(name, program)
}

/// Puts a file in another's place, as a deploy does.
fn replace(old: &Path, new: &Path) {
    fs::rename(new, old).unwrap();
}

fn exe(pid: i32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_replaced_hupwrap_takes_over_under_the_same_pid() {
    for (mode, keeps_child) in [("reexec", false), ("upgrade", true), ("upgrade+restart", false)] {
        let dir = Dir::new();
        let program = dir.hupwrap("hupwrap");
        let mut run = Setup::of(&program, args([&"--on-hup", &mode, &"--", &puppet()])).start();
        let (_, child) = run.ready();
        replace(&program, &other_version(&dir, "new"));
        run.kill("HUP");
        run.said(&format!("hupwrap 7.1.0 took over from hupwrap 0.1.0 as pid {}", run.pid));
        if keeps_child {
            kill(child, "USR1");
            run.line("got USR1");
            assert_eq!(children(run.pid), [child], "{mode}");
        } else {
            run.line("got TERM");
            let (generation, new) = run.ready();
            assert_eq!((generation, children(run.pid)), (2, vec![new]), "{mode}");
        }
        assert_eq!(exe(run.pid), program.to_string_lossy(), "{mode}");
        assert_eq!(run.stop().shell(), 0, "{mode}");
    }
}

#[test]
fn a_broken_hupwrap_is_refused_and_a_mended_one_taken() {
    let elf = |dir: &Dir, change: &dyn Fn(&mut Vec<u8>)| {
        let mut program = fs::read(hupwrap()).unwrap();
        change(&mut program);
        dir.program("bad", program);
    };
    type Break<'a> = (&'a str, &'a dyn Fn(&Dir), &'a str);
    let cases: &[Break] = &[
        ("an empty file", &|dir| drop(dir.program("bad", "")), "is no hupwrap: it answers nothing"),
        ("text", &|dir| drop(dir.program("bad", "so long\n")), "does not run"),
        (
            "a script that answers nonsense",
            &|dir| drop(dir.program("bad", "#!/bin/sh\necho nonsense\n")),
            "it answers 'nonsense'",
        ),
        (
            "a script that ends with 3",
            &|dir| drop(dir.program("bad", "#!/bin/sh\necho why >&2; exit 3\n")),
            "it ended with 3: why",
        ),
        ("a script that crashes", &|dir| drop(dir.program("bad", "#!/bin/sh\nkill -SEGV $$\n")), "SEGV ended it"),
        (
            "a script without its interpreter",
            &|dir| drop(dir.program("bad", "#!/no/such/sh\n")),
            "its interpreter /no/such/sh is missing",
        ),
        ("another architecture", &|dir| elf(dir, &|program| program[18] = 0xf3), "no program for this machine"),
        ("a truncated program", &|dir| elf(dir, &|program| program.truncate(4000)), ""),
        ("not executable", &|dir| drop(dir.file("bad", "x", 0o644)), "permission denied"),
        ("a directory", &|dir| fs::create_dir(dir.path().join("bad")).unwrap(), "it is a directory"),
        ("a loop of links", &|dir| symlink("hupwrap", dir.path().join("bad")).unwrap(), "too many symbolic links"),
        (
            "one that speaks another language",
            &|dir| drop(dir.program("bad", "#!/bin/sh\necho hupwrap 0.0.1 understands handover 0\n")),
            "hupwrap 0.0.1 does not understand the state of hupwrap 0.1.0",
        ),
        (
            "one with a flood of words",
            &|dir| drop(dir.program("bad", "#!/bin/sh\nhead -c 60000 /dev/zero | tr '\\0' x\n")),
            "it answers 'xxx",
        ),
    ];
    for mode in ["reexec", "upgrade"] {
        let dir = Dir::new();
        let program = dir.hupwrap("hupwrap");
        let good = dir.hupwrap("good");
        let mut run = Setup::of(&program, args([&"--on-hup", &mode, &"--", &puppet()])).start();
        let (_, child) = run.ready();
        run.kill("USR1");
        run.line("got USR1");
        let fds = open_fds(run.pid);
        for (name, make, reason) in cases {
            fs::rename(&program, dir.path().join("aside")).unwrap();
            make(&dir);
            fs::rename(dir.path().join("bad"), &program).unwrap();
            let before = run.stderr().len();
            run.kill("HUP");
            wait_until("the HUP is answered", || run.stderr()[before..].contains('\n'));
            let line = run.stderr()[before..].to_owned();
            assert!(line.starts_with(&format!("hupwrap: {mode} refused, nothing was touched: ")), "{name}: {line}");
            assert!(line.contains(reason) && line.contains("/hupwrap"), "{name}: {line}");
            assert_eq!(line.lines().count(), 1, "{name}: {line}");
            // The child lives, works, and heard nothing of it; hupwrap is as before.
            assert_eq!(children(run.pid), [child], "{name}");
            assert_eq!(open_fds(run.pid), fds, "{name}");
            assert_eq!(status(run.pid, "ShdPnd"), "0000000000000000", "{name}");
            if program.is_dir() && !program.is_symlink() {
                fs::remove_dir(&program).unwrap();
            } else {
                fs::remove_file(&program).unwrap();
            }
            fs::rename(dir.path().join("aside"), &program).unwrap();
        }
        // Nothing in its place.
        fs::remove_file(&program).unwrap();
        run.kill("HUP");
        run.said(&format!("nothing was touched: {}: not found", program.display()));
        assert_eq!(run.stdout().matches("got").count(), 1, "{}", run.stdout());
        replace(&program, &good);
        run.kill("HUP");
        run.said("took over");
        if mode == "upgrade" {
            kill(child, "USR1");
            run.line("got USR1");
        } else {
            run.line("got TERM");
            run.ready();
        }
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn a_hupwrap_that_hangs_is_given_up_and_killed() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let mut run = Setup::of(&program, args([&"--on-hup", &"reexec", &"--", &puppet()])).start();
    let (_, child) = run.ready();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let hanging = dir.program("new", format!("#!/bin/sh\nread x < {}\n", fifo.display()));
    fs::rename(&program, dir.path().join("aside")).unwrap();
    replace(&program, &hanging);
    run.kill("HUP");
    wait_until("the probe runs", || children(run.pid).len() == 2);
    let probe = children(run.pid).into_iter().find(|pid| *pid != child).unwrap();
    // It stays responsive meanwhile.
    run.kill("USR1");
    run.line("got USR1");
    run.said("the new hupwrap did not answer within 5s");
    wait_until("the probe is gone", || state(probe).is_none());
    assert_eq!(children(run.pid), [child]);
    replace(&program, &dir.path().join("aside"));
    run.kill("HUP");
    run.line("got TERM");
    assert_eq!(run.ready().0, 2);
    // A TERM while a probe hangs ends everything at once.
    replace(&program, &dir.program("new", format!("#!/bin/sh\nread x < {}\n", fifo.display())));
    run.kill("HUP");
    wait_until("the probe runs", || children(run.pid).len() == 2);
    let probe = children(run.pid).into_iter().max().unwrap();
    run.kill("TERM");
    assert_eq!(run.status().code(), Some(0));
    wait_until("the probe is gone", || !is_alive(probe));
}

#[test]
fn a_file_that_is_still_written_is_refused() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let run = Setup::of(&program, args([&"--on-hup", &"upgrade", &"--", &puppet()])).start();
    let mut run = run;
    run.ready();
    replace(&program, &dir.hupwrap("new"));
    // By another process: a fork in another thread of this one would keep it open for longer.
    let writer = ["-c", "exec 9>>\"$0\"; echo open; read x", program.to_str().unwrap()];
    let mut writer = Setup::of("sh", writer).stdin().start();
    writer.line("open");
    run.kill("HUP");
    run.said("it is open for writing");
    writer.close_stdin();
    writer.status();
    run.kill("HUP");
    run.said("took over");
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_link_is_followed_afresh() {
    let dir = Dir::new();
    dir.hupwrap("one");
    other_version(&dir, "two");
    let link = dir.path().join("current");
    symlink("one", &link).unwrap();
    let mut run = Setup::of(&link, args([&"--on-hup", &"upgrade", &"--", &puppet()])).start();
    run.ready();
    symlink("two", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), &link).unwrap();
    run.kill("HUP");
    run.said("hupwrap 7.1.0 took over");
    assert!(exe(run.pid).ends_with("/two"));
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn it_is_found_again_however_it_was_started() {
    // As ./hupwrap from a directory whose link was moved: the new one, as the person at the prompt meant it.
    let dir = Dir::new();
    for release in ["one", "two"] {
        fs::create_dir(dir.path().join(release)).unwrap();
        fs::rename(dir.hupwrap("part"), dir.path().join(release).join("hupwrap")).unwrap();
    }
    let link = dir.path().join("current");
    symlink("one", &link).unwrap();
    let relative = Setup::of("./hupwrap", args([&"--on-hup", &"upgrade", &"--", &puppet()]));
    let mut run = relative.dir(&link).env("PWD", &link).start();
    run.ready();
    run.kill("HUP");
    run.said("took over");
    assert!(exe(run.pid).ends_with("/one/hupwrap"));
    symlink("two", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), &link).unwrap();
    run.kill("HUP");
    wait_until("the other one runs", || exe(run.pid).ends_with("/two/hupwrap"));
    assert_eq!(run.stop().shell(), 0);

    // The directory was renamed: where it is now. It is gone: refused.
    let old = dir.path().join("one");
    let relative = Setup::of("./hupwrap", args([&"--on-hup", &"upgrade", &"--", &puppet()]));
    let mut run = relative.dir(&old).env("PWD", &old).start();
    run.ready();
    fs::rename(&old, dir.path().join("three")).unwrap();
    run.kill("HUP");
    run.said("took over");
    assert!(exe(run.pid).ends_with("/three/hupwrap"));
    fs::remove_dir_all(dir.path().join("three")).unwrap();
    run.kill("HUP");
    run.said("not found");
    assert_eq!(run.stop().shell(), 0);

    // By PATH, from a directory that is gone since.
    let bin = dir.path().join("two");
    let gone = dir.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let script = format!(
        "cd {} && PATH={}:$PATH exec hupwrap --on-hup upgrade -- {}",
        gone.display(),
        bin.display(),
        puppet().display()
    );
    let mut run = Setup::of("sh", ["-c", &script]).start();
    run.ready();
    fs::remove_dir(&gone).unwrap();
    run.kill("HUP");
    run.said("took over");
    assert!(exe(run.pid).ends_with("/two/hupwrap"));
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn it_needs_no_dev() {
    let script = "mount -t tmpfs none /dev && exec \"$@\"";
    let without = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut all = args([&"--mount", &"sh", &"-c", &script, &"sh"]);
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        Setup::of("unshare", all)
    };
    if installed("unshare").is_none() || without(&[&"true"]).end().shell() != 0 {
        return skipped("reexec::it_needs_no_dev", "unshare(1), or the right to mount over /dev");
    }
    let mut run = without(&[&hupwrap(), &"--on-hup", &"reexec", &"--", &puppet()]).start();
    run.ready();
    run.kill("HUP");
    run.said(" took over from ");
    assert_eq!(run.ready().0, 2);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn everything_that_matters_survives() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let report = "echo report; grep -E 'Sig(Blk|Ign)|Umask' /proc/self/status; pwd; ls /proc/self/fd | wc -l; nice; env | sort | grep -v HUPWRAP_GEN; tr '\\0' '|' < /proc/$HUPWRAP_PID/cmdline; echo; tr '\\0' '\\n' < /proc/$HUPWRAP_PID/environ | grep -v HUPWRAP_HANDOVER; echo end; exec \"$0\"";
    let script = format!(
        "umask 027; trap '' USR2 PIPE; exec -a odd {} --on-hup reexec -- sh -c '{}' {} '' 'two words'",
        program.display(),
        report.replace('\'', "'\\''"),
        puppet().display()
    );
    // bash knows `exec -a`.
    let mut run = Setup::of("bash", ["-c", &script]).dir(dir.path()).start();
    let mut reports = Vec::new();
    for _ in 0..4 {
        run.line("report");
        run.ready();
        let text = run.stdout();
        let last = text.rsplit("report\n").next().unwrap();
        reports.push(last.split("\nend").next().unwrap().to_owned());
        run.kill("HUP");
    }
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[3]);
    assert!(reports[0].contains("odd|--on-hup|reexec|--|sh|-c|"), "{}", reports[0]);
    run.line("report");
    run.ready();
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn the_mask_and_ignored_signals_of_birth_reach_every_generation() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    // One process: a shell would set the mask to its own liking.
    let command = ["grep", "--line-buffered", "-hE", "SigBlk|SigIgn", "/proc/self/status", "-"];
    let setup = Setup::of(&program, ["--on-hup", "reexec", "--stop-timeout", "100ms", "--"].into_iter().chain(command));
    let setup = setup.stdin().with(|command| {
        use std::os::unix::process::CommandExt;
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                let mask: u64 = 1 << (10 - 1) | 1 << (33 - 1) | 1 << (15 - 1) | 1 << (17 - 1);
                nix::libc::syscall(nix::libc::SYS_rt_sigprocmask, nix::libc::SIG_SETMASK, &mask, 0, 8);
                for signal in [17, 12] {
                    nix::libc::signal(signal, nix::libc::SIG_IGN);
                }
                Ok(())
            });
        }
    });
    let mut run = setup.start();
    for generation in 1..4 {
        assert_eq!(run.line("SigBlk"), "SigBlk:\t0000000100014200");
        // glibc's posix_spawn, which cargo uses, leaves its own signal 32 ignored.
        let ignored = u64::from_str_radix(run.line("SigIgn").trim_start_matches("SigIgn:\t"), 16).unwrap();
        assert_eq!(ignored & !(1 << 31), 0x10800);
        if generation < 3 {
            run.kill("HUP");
            // It has TERM blocked, as it was born; it ends when KILL comes.
            run.said("did not end within 100ms");
        }
    }
    run.close_stdin();
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn a_child_that_ends_meanwhile_is_not_lost() {
    // Stopped before the exec, hupwrap cannot see the child's end; the next one must find it.
    for _ in 0..20 {
        let dir = Dir::new();
        let program = dir.hupwrap("hupwrap");
        let mut run = Setup::of(&program, args([&"--on-hup", &"upgrade", &"--", &puppet(), &"exit=USR1:9"])).start();
        let (_, child) = run.ready();
        run.kill("HUP");
        kill(child, "USR1");
        let ended = run.end();
        assert_eq!(ended.shell(), 9, "{}", ended.stderr);
    }
}

#[test]
fn a_child_that_ends_during_a_reexec_is_started_again() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let slow = format!("#!/bin/sh\nread x < {}\nexec {} \"$@\"\n", fifo.display(), dir.hupwrap("good").display());
    let mut run = Setup::of(&program, args([&"--on-hup", &"reexec", &"--", &puppet(), &"exit=USR1:9"])).start();
    let (_, child) = run.ready();
    replace(&program, &dir.program("new", slow));
    run.kill("HUP");
    wait_until("the probe runs", || children(run.pid).len() == 2);
    kill(child, "USR1");
    run.said("puppet ended by itself (9)");
    assert!(run.lives());
    fs::remove_file(&program).unwrap();
    fs::rename(dir.path().join("good"), &program).unwrap();
    // Opened so, a fifo blocks nobody, though a slow machine may have given the probe up by now.
    let mut fifo = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    std::io::Write::write_all(&mut fifo, b"\n").unwrap();
    // The file has changed since: refused. But someone asked for a child.
    run.said("refused");
    assert_eq!(run.ready().0, 2);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_stranger_s_variable_is_neither_believed_nor_passed_on() {
    for value in ["0000000001:0000000003", "garbage", "", "-1:-1"] {
        let ended =
            Setup::new(["--", "sh", "-c", "echo \"[$HUPWRAP_HANDOVER]\"; exit 5"]).env("HUPWRAP_HANDOVER", value).end();
        assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (5, "[]\n", ""));
    }
}

#[test]
fn large_arguments_and_environments_cross() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let large = "x".repeat(100_000);
    let script = "echo ${#0} ${#1} ${#LARGE}; exec \"$2\"";
    let list = args([&"--on-hup", &"reexec", &"--", &"sh", &"-c", &script, &large, &large, &puppet()]);
    let mut run = Setup::of(&program, list).env("LARGE", &large).start();
    for generation in 1..=3 {
        run.line("100000 100000 100000");
        assert_eq!(run.ready().0, generation);
        if generation < 3 {
            run.kill("HUP");
        }
    }
    assert_eq!(run.stop().shell(), 0);
}
