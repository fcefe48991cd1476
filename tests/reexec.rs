//! Re-execution: `reexec` and `upgrade`, with good files and bad ones in hupwrap's place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::libc;

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
        ("an empty file", &|dir| drop(dir.program("bad", "")), "is no hupwrap: it is empty"),
        ("text", &|dir| drop(dir.program("bad", "touch \"$0.ran\"\n")), "it is no program (ELF), but a text or script"),
        (
            "a script",
            &|dir| drop(dir.program("bad", "#!/bin/sh\ntouch \"$0.ran\"\n")),
            "it is no program (ELF), but a text or script",
        ),
        ("less than a magic number", &|dir| drop(dir.program("bad", "\x7fEL")), "it is no program (ELF)"),
        ("a program that answers nonsense", &|dir| drop(dir.impostor("bad", "echo nonsense")), "it answers 'nonsense'"),
        ("a program that answers nothing", &|dir| drop(dir.impostor("bad", "")), "it answers nothing"),
        (
            "a program that ends with 3",
            &|dir| drop(dir.impostor("bad", "echo why >&2; exit 3")),
            "it ended with 3: why",
        ),
        ("a program that crashes", &|dir| drop(dir.impostor("bad", "kill -SEGV $$")), "SEGV ended it"),
        ("another architecture", &|dir| elf(dir, &|program| program[18] = 0xf3), "no program for this machine"),
        ("a truncated program", &|dir| elf(dir, &|program| program.truncate(4000)), ""),
        ("not executable", &|dir| drop(dir.file("bad", b"\x7fELF", 0o644)), "permission denied"),
        ("a directory", &|dir| fs::create_dir(dir.path().join("bad")).unwrap(), "it is a directory"),
        ("a loop of links", &|dir| symlink("hupwrap", dir.path().join("bad")).unwrap(), "too many symbolic links"),
        (
            "one that speaks another language",
            &|dir| drop(dir.impostor("bad", "echo hupwrap 0.0.1 understands handover 0")),
            "hupwrap 0.0.1 does not understand the state of hupwrap 0.1.0",
        ),
        (
            "one with a flood of words",
            &|dir| drop(dir.impostor("bad", "head -c 60000 /dev/zero | tr '\\0' x")),
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
        wait_until("hupwrap waits", || is_at_rest(run.pid));
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
            wait_until(&format!("hupwrap is as before ({name})"), || {
                children(run.pid) == [child] && open_fds(run.pid) == fds && is_at_rest(run.pid)
            });
            if program.is_dir() && !program.is_symlink() {
                fs::remove_dir(&program).unwrap();
            } else {
                fs::remove_file(&program).unwrap();
            }
            fs::rename(dir.path().join("aside"), &program).unwrap();
        }
        assert!(!dir.path().join("hupwrap.ran").exists(), "a text was run");
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
    let hanging = dir.impostor("new", &format!("read x < {}", fifo.display()));
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
    let (generation, child) = run.ready();
    assert_eq!(generation, 2);
    // A TERM while a probe hangs ends everything at once.
    replace(&program, &dir.impostor("new", &format!("read x < {}", fifo.display())));
    run.kill("HUP");
    wait_until("the probe runs", || children(run.pid).len() == 2);
    let probe = children(run.pid).into_iter().find(|pid| *pid != child).unwrap();
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
    // Found by its absolute path once, before.
    run.kill("HUP");
    run.said("took over");
    fs::rename(&old, dir.path().join("three")).unwrap();
    run.kill("HUP");
    run.said_times("took over", 2);
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
    let slow = format!("read x < {}\nexec {} \"$@\"\n", fifo.display(), dir.hupwrap("good").display());
    let mut run = Setup::of(&program, args([&"--on-hup", &"reexec", &"--", &puppet(), &"exit=USR1:9"])).start();
    let (_, child) = run.ready();
    replace(&program, &dir.impostor("new", &slow));
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

/// Every action that re-executes hupwrap.
const MODES: [&str; 3] = ["upgrade", "reexec", "upgrade+replace"];

/// A hupwrap that HUP re-executes, and its child.
fn renewable(program: &Path, mode: &str, options: &[&str]) -> (Run, i32) {
    let puppet = puppet();
    let rest = ["--on-hup", mode, "--ready", "exec", "--", puppet.to_str().unwrap(), "exit=TERM:7"];
    let mut run = Setup::of(program, options.iter().chain(&rest)).start();
    let (_, child) = run.ready();
    (run, child)
}

/// The child after a re-exec: the same, or another. It hears signals.
#[track_caller]
fn child_after(run: &mut Run, mode: &str, child: i32) -> i32 {
    let child = if mode == "upgrade" { child } else { run.ready().1 };
    kill(child, "USR1");
    run.line("got USR1");
    child
}

#[test]
fn a_status_file_that_cannot_be_written_any_more_stops_nothing() {
    use std::os::unix::fs::PermissionsExt;
    type Break<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let cases: &[Break] = &[
        ("gone", &|place| fs::rename(place, place.with_file_name("gone")).unwrap(), ""),
        ("writable by all", &|place| fs::set_permissions(place, fs::Permissions::from_mode(0o777)).unwrap(), ""),
        (
            "a directory is in its place",
            &|place| {
                // hupwrap may just write it.
                wait_until("the directory is made", || {
                    let _ = fs::remove_file(place.join("status"));
                    fs::create_dir(place.join("status")).is_ok()
                });
            },
            "directory",
        ),
    ];
    for mode in MODES {
        for (name, spoil, reason) in cases {
            if *name == "writable by all" && !nix::unistd::geteuid().is_root() {
                skipped("reexec::a_status_file_that_cannot_be_written_any_more_stops_nothing", "root");
                continue;
            }
            let dir = Dir::new();
            let place = dir.path().join("place");
            fs::create_dir(&place).unwrap();
            let file = place.join("status");
            let program = dir.hupwrap("hupwrap");
            let (mut run, child) = renewable(&program, mode, &["--status-file", file.to_str().unwrap()]);
            wait_until("the file is there", || file.is_file());
            spoil(&place);
            run.kill("HUP");
            run.said("took over");
            let child = child_after(&mut run, mode, child);
            run.said(" cannot be written: ");
            assert!(run.stderr().contains(reason), "{mode}, {name}: {}", run.stderr());
            // Mended, it is written again at the next change.
            let _ = fs::rename(&place, dir.path().join("aside"));
            fs::create_dir(&place).unwrap();
            run.kill("HUP");
            run.said_times("took over", 2);
            child_after(&mut run, mode, child);
            wait_until("the file is there again", || file.is_file());
            let ended = run.stop();
            assert_eq!(ended.shell(), 7, "{mode}, {name}: {}", ended.stderr);
        }
    }
}

/// Sets how many descriptors a process may have (`prlimit(2)`).
fn limit_fds(pid: i32, number: u64) {
    // SAFETY: the pointers are to a struct of ours, or null.
    unsafe {
        let mut limit: nix::libc::rlimit = std::mem::zeroed();
        let resource = nix::libc::RLIMIT_NOFILE;
        assert_eq!(nix::libc::prlimit(pid, resource, std::ptr::null(), &raw mut limit), 0);
        limit.rlim_cur = number;
        assert_eq!(nix::libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut()), 0);
    }
}

#[test]
fn descriptors_that_run_out_stop_nothing() {
    let dir = Dir::new();
    let (status, pidfile) = (dir.path().join("status"), dir.path().join("pid"));
    let options = ["--status-file", status.to_str().unwrap(), "--pidfile", pidfile.to_str().unwrap()];
    for mode in MODES {
        let (mut run, mut child) = renewable(hupwrap(), mode, &options);
        let mut times = 0;
        for free in 0..10 {
            let used = u64::from(*fds(run.pid).keys().max().unwrap()) + 1;
            let before = run.stderr().len();
            limit_fds(run.pid, used + free);
            run.kill("HUP");
            let mut said = String::new();
            wait_until("the HUP is answered", || {
                said = run.stderr()[before..].to_owned();
                said.contains("refused") || said.contains("took over")
            });
            let crossed = said.contains("took over");
            times += u32::from(crossed);
            assert!(crossed || is_alive(child), "{mode}, {free}: {}", run.stderr());
            if crossed && mode == "upgrade+replace" {
                wait_until("the replace is over", || {
                    let said = run.stderr()[before..].to_owned();
                    said.contains("replace failed") || said.contains("is ready; stopping")
                });
            }
            limit_fds(run.pid, 1024);
            match mode {
                "reexec" if crossed => child = run.ready().1,
                // One that failed has left the old one.
                "upgrade+replace" => {
                    let mut all = Vec::new();
                    wait_until("one child is there", || {
                        all = children(run.pid);
                        matches!(all[..], [only] if is_alive(only))
                    });
                    let serves = all[0];
                    // It takes the signal only when it has said so.
                    while child != serves {
                        child = run.ready().1;
                    }
                }
                _ => {}
            }
            kill(child, "USR1");
            run.line("got USR1");
        }
        assert!(times > 0, "{mode}: {}", run.stderr());
        assert_eq!(run.stop().shell(), 7, "{mode}");
        assert!(!pidfile.exists());
    }
}

#[test]
fn a_limit_below_the_descriptors_that_are_open_leaves_hupwrap_responsive() {
    // Its NOTIFY_SOCKET is looked at as well as the signals.
    let mut run = Setup::new(args([&"--ready", &"notify", &"--", &puppet(), &"exit=TERM:7"])).start();
    let (_, child) = run.ready();
    limit_fds(run.pid, 1);
    run.kill("TERM");
    run.line("got TERM");
    assert_eq!(run.end().shell(), 7);
    assert!(!is_alive(child));
}

#[test]
fn without_memfds_or_with_hardened_ones_nothing_changes() {
    for refused in
        ["memfd_create:ENOSYS", "memfd_create:EPERM", "memfd_create:EACCES", "memfd_exec:EACCES", "memfd_noexec:EINVAL"]
    {
        for mode in MODES {
            let list = args([
                &refused,
                &"--",
                &hupwrap(),
                &"--on-hup",
                &mode,
                &"--ready",
                &"exec",
                &"--",
                &puppet(),
                &"exit=TERM:7",
            ]);
            let mut run = Setup::of(without(), list).start();
            let (_, mut child) = run.ready();
            let mut fds = None;
            for times in 1..4 {
                run.kill("HUP");
                run.said_times("took over", times);
                child = child_after(&mut run, mode, child);
                wait_until("one child is left", || children(run.pid) == [child]);
                let fds = *fds.get_or_insert_with(|| open_fds(run.pid));
                wait_until("no more descriptors are open than before", || open_fds(run.pid) <= fds);
            }
            assert!(!run.stderr().contains("refused"), "{refused}: {}", run.stderr());
            assert_eq!(run.stop().shell(), 7, "{refused}, {mode}");
        }
    }
}

/// As `LimitFSIZE=0` of systemd has it. XFSZ, which comes with the refusal, is nobody's.
#[test]
fn without_room_for_files_nothing_changes() {
    for mode in MODES {
        let words = args([&"--on-hup", &mode, &"--ready", &"exec", &"--", &puppet(), &"exit=TERM:7"]);
        let mut run = Setup::new(words)
            .with(|command| {
                before_exec(command, || {
                    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                    // SAFETY: the pointer is to a struct of ours.
                    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
                });
            })
            .start();
        let (_, mut child) = run.ready();
        for times in 1..3 {
            run.kill("HUP");
            run.said_times("took over", times);
            child = child_after(&mut run, mode, child);
        }
        assert!(!run.stderr().contains("refused"), "{}", run.stderr());
        assert_eq!(run.stop().shell(), 7, "{mode}");
    }
}

#[test]
fn a_state_that_the_new_one_cannot_read_is_refused() {
    for mode in MODES {
        let dir = Dir::new();
        let program = dir.hupwrap("hupwrap");
        let good = dir.hupwrap("good");
        let (mut run, child) = renewable(&program, mode, &[]);
        replace(&program, &dir.impostor("new", &format!("sed 's/^kind .*/kind moon/' | {} \"$@\"", good.display())));
        run.kill("HUP");
        run.said("does not run: it ended with 125: hupwrap: the state of the running hupwrap: its 'kind' is 'moon'");
        assert!(run.stderr().contains("refused, nothing was touched: "), "{}", run.stderr());
        kill(child, "USR1");
        run.line("got USR1");
        // A fact that it does not know is skipped.
        dir.impostor(
            "new",
            &format!(
                "if test \"$1\" = --hupwrap-probe; then (cat; echo moon full) | {0} \"$@\"; else exec {0} \"$@\"; fi",
                good.display()
            ),
        );
        run.kill("HUP");
        run.said("took over");
        child_after(&mut run, mode, child);
        assert_eq!(run.stop().shell(), 7, "{mode}");
    }
}

/// A hupwrap whose state a script changes on its way, and its child. The state is `$state`.
fn tampered(mode: &str, options: &[&str], script: &str) -> (Dir, Run, i32) {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let good = dir.hupwrap("good");
    let (run, child) = renewable(&program, mode, options);
    let script = format!(
        "if test \"$1\" = --hupwrap-probe; then exec {good} \"$@\"; fi\n\
         fd=$(expr ${{HUPWRAP_HANDOVER#*:}} + 0)\nstate=$(cat /proc/$$/fd/$fd)\n{script}\n\
         exec 9<<END\n$state\nEND\nexport HUPWRAP_HANDOVER=$$:9\nexec {good} \"$@\"\n",
        good = good.display()
    );
    replace(&program, &dir.impostor("new", &script));
    run.kill("HUP");
    (dir, run, child)
}

#[test]
fn a_state_that_is_damaged_on_its_way_loses_no_child() {
    // Another process than the child is named: it is left alone.
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let forged = format!("state=$(echo \"$state\" | sed 's/^child .*/child {}/')", other.id());
    for (script, line) in [
        ("", ""),
        ("state=\"moon\nwriter hupwrap 9.9.9\"", "is damaged: its format is 'moon'"),
        ("state=$(echo \"$state\" | sed '/^child /d;/^generation/d;/^kind/d')", "is damaged: it has no 'kind'"),
        (&forged, "the child is found again: pid "),
    ] {
        for mode in MODES {
            let (_dir, mut run, child) = tampered(mode, &[], script);
            run.said("took over");
            run.said(line);
            // Without a kind it is an upgrade.
            let mode = if line.contains("damaged") { "upgrade" } else { mode };
            let child = child_after(&mut run, mode, child);
            wait_until("one child is left", || children(run.pid) == [child]);
            assert_eq!(run.stop().shell(), 7, "{mode}: {script}");
        }
    }
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_descriptor_that_is_lost_on_its_way_stops_nothing() {
    for (name, options) in [("socket", &["--listen", "tcp:127.0.0.1:0"][..]), ("signal_fd", &[])] {
        for mode in MODES {
            let script =
                format!("lost=$(echo \"$state\" | sed -n 's/^{name} \\([0-9]*\\).*/\\1/p')\neval \"exec $lost<&-\"");
            let (_dir, mut run, child) = tampered(mode, options, &script);
            run.said("took over");
            if name == "socket" {
                run.said(" is not open any more");
            }
            child_after(&mut run, mode, child);
            assert_eq!(run.stop().shell(), 7, "{mode}: {name}");
        }
    }
}

#[test]
fn no_descriptor_of_signals_has_to_be_made_after_an_exec() {
    let test = "reexec::no_descriptor_of_signals_has_to_be_made_after_an_exec";
    if installed("strace").is_none() {
        return skipped(test, "strace(1)");
    }
    for error in ["EMFILE", "ENFILE", "ENOMEM"] {
        for mode in MODES {
            // The first is that of the first start.
            let inject = format!("inject=signalfd4:error={error}:when=2+");
            let list = args([
                &"-D",
                &"-qq",
                &"-o/dev/null",
                &"-e",
                &inject,
                &hupwrap(),
                &"--on-hup",
                &mode,
                &"--ready",
                &"exec",
                &"--",
                &puppet(),
                &"exit=TERM:7",
            ]);
            let mut run = Setup::of("strace", list).start();
            let (_, child) = run.ready();
            run.kill("HUP");
            run.said("took over");
            child_after(&mut run, mode, child);
            assert_eq!(run.stop().shell(), 7, "{error}, {mode}");
        }
    }
}
