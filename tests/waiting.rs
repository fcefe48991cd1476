//! The commands that ask a hupwrap by its status file, and wait for the answer.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::support::pty::Terminal;
use crate::support::*;

/// Says that it was started, and is ready when somebody writes `go` to its fifo; `no` ends it with 3.
const APP: &str =
    "echo ready $HUPWRAP_GENERATION $$\nread go < fifo\n[ $go = go ] || exit 3\necho >&3\nexec sleep 1000\n";

/// A directory with a fifo for [`APP`], and the name of a status file in it.
fn place() -> (Dir, PathBuf) {
    let dir = Dir::new();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let file = dir.path().join("app.json");
    (dir, file)
}

/// A hupwrap whose status file is there. Its fifo is in its working directory.
#[track_caller]
fn service(dir: &Dir, file: &Path, options: &[&str], command: &[&str]) -> Run {
    let words = [options, &["--"], command].concat();
    let run =
        Setup::new(["--status-file".as_ref(), file.as_os_str()].into_iter().chain(words.iter().map(AsRef::as_ref)))
            .dir(dir.path())
            .start();
    wait_until("there is a status file", || file.exists());
    run
}

#[track_caller]
fn app(dir: &Dir, file: &Path, options: &[&str]) -> Run {
    let mut run = service(dir, file, &[&["--ready", "fd:3"], options].concat(), &["sh", "-c", APP]);
    assert_eq!(run.ready().0, 1);
    run
}

/// Tells the app that waits to be ready, or to end.
fn tell(dir: &Dir, word: &str) {
    fs::write(dir.path().join("fifo"), format!("{word}\n")).unwrap();
}

fn ask(form: &str, file: &Path) -> Setup {
    Setup::new(args([&form, &file, &"--timeout", &"55s"]))
}

/// Starts a command that waits, and returns when it has asked and waits.
#[track_caller]
fn waiting(form: &str, file: &Path) -> Run {
    let run = ask(form, file).start();
    has_asked(&run);
    run
}

fn has_asked(run: &Run) {
    let ppoll = format!("{} ", libc::SYS_ppoll);
    wait_until("it waits", || {
        fs::read_to_string(format!("/proc/{}/syscall", run.pid)).is_ok_and(|call| call.starts_with(&ppoll))
    });
}

/// The exit status, and that what was said is one line with this in it.
#[track_caller]
fn ends(run: Run, code: i32, part: &str) {
    let ended = run.end();
    assert_eq!(ended.shell(), code, "{}", ended.stderr);
    says(&ended, part);
}

#[track_caller]
fn says(ended: &Ended, part: &str) {
    assert!(ended.stderr.contains(part), "'{part}' is not in {:?}", ended.stderr);
    let lines = usize::from(!part.is_empty());
    assert_eq!(ended.stderr.lines().count(), lines, "{:?}", ended.stderr);
    assert!(ended.stderr.is_empty() || ended.stderr.starts_with("hupwrap: "), "{:?}", ended.stderr);
}

#[test]
fn a_reload_is_over_when_the_new_child_is_ready() {
    for on_hup in ["restart", "replace", "reexec", "upgrade+replace"] {
        let (dir, file) = place();
        let mut run = app(&dir, &file, &["--on-hup", on_hup]);
        let wait = waiting("--wait-ready", &file);
        ends(ask("--status", &file).start(), 1, "");
        tell(&dir, "go");
        ends(wait, 0, "");
        ends(ask("--status", &file).start(), 0, "");
        let mut reload = waiting("--reload", &file);
        assert_eq!(run.ready().0, 2, "{on_hup}");
        assert!(reload.lives(), "{on_hup}");
        tell(&dir, "go");
        ends(reload, 0, "");
        assert_eq!(ask("--stop", &file).end().shell(), 0);
        assert_eq!(run.status().code(), None, "{on_hup}: by TERM");
        ends(ask("--status", &file).start(), 125, "nothing runs there");
    }
}

/// Releases `one` and `two`, and a link to the first.
fn releases(dir: &Dir) -> PathBuf {
    for release in ["one", "two"] {
        fs::create_dir(dir.path().join(release)).unwrap();
    }
    symlink("one", dir.path().join("current")).unwrap();
    dir.path().join("current/app.json")
}

/// As `ln -sfn two current` does it.
fn switch(dir: &Dir) {
    symlink("two", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
}

#[test]
fn a_directory_that_is_another_by_now_is_noticed() {
    let renamed = |dir: &Dir| {
        fs::rename(dir.path().join("one"), dir.path().join("old")).unwrap();
        fs::create_dir(dir.path().join("one")).unwrap();
    };
    for moves in [switch as fn(&Dir), renamed] {
        let (dir, _) = place();
        let file = releases(&dir);
        let wait = waiting("--wait-ready", &file);
        moves(&dir);
        let _run = service(&dir, &file, &[], &["sleep", "1000"]);
        ends(wait, 0, "");
    }
}

/// The old file would say for ever that the restart is under way.
#[test]
fn the_status_file_goes_where_the_path_leads() {
    let (dir, _) = place();
    let file = releases(&dir);
    let mut run = app(&dir, &file, &[]);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    assert!(dir.path().join("one/app.json").exists());
    let reload = waiting("--reload", &file);
    assert_eq!(run.ready().0, 2);
    switch(&dir);
    tell(&dir, "go");
    ends(reload, 0, "");
    assert!(dir.path().join("two/app.json").exists() && !dir.path().join("one/app.json").exists());
    // What others have put in its old place is left alone.
    fs::remove_file(dir.path().join("current")).unwrap();
    fs::rename(dir.path().join("two/app.json"), dir.path().join("kept")).unwrap();
    fs::write(dir.path().join("two/app.json"), "").unwrap();
    symlink("one", dir.path().join("current")).unwrap();
    run.kill("HUP");
    assert_eq!(run.ready().0, 3);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    assert!(dir.path().join("two/app.json").exists());
    run.stop();
}

#[test]
fn two_reloads_at_once_get_an_outcome_each() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    let first = waiting("--reload", &file);
    assert_eq!(run.ready().0, 2);
    let mut second = waiting("--reload", &file);
    tell(&dir, "go");
    // Though the next has begun in the same moment.
    ends(first, 0, "");
    assert_eq!(run.ready().0, 3);
    assert!(second.lives());
    tell(&dir, "no");
    ends(second, 1, "restart failed: the new sh ended (3) before it was ready");
}

fn waiting_ready(file: &Path) -> Run {
    ask("--wait-ready", file).start()
}

#[test]
fn many_reloads_at_once_all_end_well() {
    let (dir, file) = place();
    let run = service(&dir, &file, &[], &["sleep", "1000"]);
    ends(waiting_ready(&file), 0, "");
    let clients: Vec<Run> = (0..20).map(|_| ask("--reload", &file).start()).collect();
    clients.into_iter().for_each(|client| ends(client, 0, ""));
    run.stop();
}

#[test]
fn the_outcome_of_an_earlier_hup_is_not_ones_own() {
    for on_hup in ["restart", "replace"] {
        let (dir, file) = place();
        let mut run = app(&dir, &file, &["--on-hup", on_hup]);
        tell(&dir, "go");
        ends(waiting_ready(&file), 0, "");
        run.kill("HUP");
        assert_eq!(run.ready().0, 2);
        let mut reload = waiting("--reload", &file);
        tell(&dir, "go");
        assert_eq!(run.ready().0, 3);
        assert!(reload.lives(), "{on_hup}");
        tell(&dir, "go");
        ends(reload, 0, "");
    }
}

#[test]
fn a_hup_from_elsewhere_does_not_confuse_it() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    let reload = waiting("--reload", &file);
    assert_eq!(run.ready().0, 2);
    run.kill("HUP");
    tell(&dir, "go");
    ends(reload, 0, "");
    assert_eq!(run.ready().0, 3);
}

#[test]
fn a_new_version_that_is_bad_is_told_with_the_reason() {
    let (dir, file) = place();
    let program = dir.program("server", format!("#!/bin/sh\n{APP}"));
    let mut run = service(&dir, &file, &["--ready", "fd:3", "--on-hup", "replace"], &[program.to_str().unwrap()]);
    let (_, old) = run.ready();
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    dir.program("server", "#!/bin/sh\nexit 3\n");
    ends(ask("--reload", &file).start(), 1, "replace failed: the new server ended (3) before it was ready");
    fs::remove_file(&program).unwrap();
    ends(ask("--reload", &file).start(), 1, "replace refused, nothing was touched: ");
    let status = ask("--status", &file).end();
    assert_eq!(status.shell(), 0);
    assert!(status.stdout.contains("\nreload     replace refused "), "{}", status.stdout);
    assert!(is_alive(old));
}

#[test]
fn a_refusal_of_the_check_is_told() {
    let (dir, file) = place();
    let _run = service(&dir, &file, &["--check", "test -e fine"], &["sleep", "1000"]);
    ends(waiting_ready(&file), 0, "");
    ends(ask("--reload", &file).start(), 1, "restart refused, nothing was touched: ");
    fs::write(dir.path().join("fine"), "").unwrap();
    ends(ask("--reload", &file).start(), 0, "");
}

#[test]
fn a_request_that_fails_and_takes_hupwrap_along_has_failed() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    let reload = waiting("--reload", &file);
    assert_eq!(run.ready().0, 2);
    tell(&dir, "no");
    ends(reload, 1, "restart failed: the new sh ended (3) before it was ready");
    assert_eq!(run.end().shell(), 3);
}

/// The command may have been suspended, or the machine was busy.
#[test]
fn an_outcome_counts_though_hupwrap_has_ended_since() {
    let (dir, file) = place();
    let script = format!("{}\n", APP.replace("exec sleep 1000", "read go < fifo\nexit 4"));
    let mut run = service(&dir, &file, &["--ready", "fd:3"], &["sh", "-c", &script]);
    assert_eq!(run.ready().0, 1);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    let reload = waiting("--reload", &file);
    assert_eq!(run.ready().0, 2);
    kill(reload.pid, "STOP");
    wait_until("it is suspended", || state(reload.pid) == Some('T'));
    tell(&dir, "go");
    wait_until("it is settled", || fs::read_to_string(&file).unwrap().contains("\"outcome\":\"ok\""));
    tell(&dir, "end");
    assert_eq!(run.end().shell(), 4);
    kill(reload.pid, "CONT");
    ends(reload, 0, "");
}

#[test]
fn a_request_that_a_stop_cuts_off_has_failed() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    let reload = waiting("--reload", &file);
    assert_eq!(run.ready().0, 2);
    run.stop();
    // It has ended for another reason than the request.
    ends(reload, 125, "has ended");
    let status: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&status["state"], &status["reload"]["outcome"]), (&"ended".into(), &"failed".into()));
    assert_eq!(status["reload"]["reason"], "hupwrap was told to stop, or has ended, before it was done");
    assert!(status["reload"]["ended"].is_u64());
}

#[test]
fn in_a_script_it_decides_between_two_ways() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &["--on-hup", "replace"]);
    tell(&dir, "go");
    ends(waiting_ready(&file), 0, "");
    for (generation, word, way) in [(2, "go", "deployed\n"), (3, "no", "rollback\n")] {
        let script = "\"$0\" --reload \"$1\" && echo deployed || echo rollback";
        let deploy = Setup::of("sh", args([&"-c", &script, &hupwrap(), &file])).start();
        assert_eq!(run.ready().0, generation);
        tell(&dir, word);
        assert_eq!(deploy.end().stdout, way);
    }
}

#[test]
fn an_upgrade_keeps_the_one_who_waits() {
    let (dir, file) = place();
    let copy = dir.hupwrap("supervisor");
    let options = args([&"--status-file", &file, &"--on-hup", &"upgrade", &"--", &puppet()]);
    let mut run = Setup::of(&copy, options).start();
    let (_, child) = run.ready();
    wait_until("there is a status file", || file.exists());
    for _ in 0..3 {
        ends(ask("--reload", &file).start(), 0, "");
    }
    fs::remove_file(&copy).unwrap();
    ends(ask("--reload", &file).start(), 1, "upgrade refused, nothing was touched: ");
    assert!(is_alive(child) && run.lives());
}

#[test]
fn a_hup_that_is_passed_on_is_over_when_it_is_delivered() {
    let (dir, file) = place();
    let mut run = service(&dir, &file, &["--on-hup", "forward:USR2"], &[puppet().to_str().unwrap()]);
    run.ready();
    for _ in 0..2 {
        ends(ask("--reload", &file).start(), 0, "");
        run.line("got USR2");
    }
}

#[test]
fn a_hup_that_is_forwarded_is_checked_before() {
    let (dir, file) = place();
    let check = "sh -c 'echo checking; read answer < fifo; exit $answer'";
    let options = ["--on-hup", "forward", "--on", "USR1=restart", "--check", check];
    let mut run = service(&dir, &file, &options, &[puppet().to_str().unwrap()]);
    run.ready();
    // It waits for another request that is under way.
    run.kill("USR1");
    run.said("checking");
    let reload = ask("--reload", &file).start();
    tell(&dir, "0");
    assert_eq!(run.ready().0, 2);
    run.said_times("checking", 2);
    assert_eq!(run.stdout().matches("got HUP").count(), 0);
    tell(&dir, "0");
    run.line("got HUP");
    ends(reload, 0, "");
    // A signal whose forwarding nobody named is not checked.
    run.kill("USR2");
    run.line("got USR2");
    let reload = ask("--reload", &file).start();
    run.said_times("checking", 3);
    tell(&dir, "3");
    ends(reload, 1, "forward refused");
    assert_eq!(run.stdout().matches("got HUP").count(), 1);
}

#[test]
fn where_hup_reloads_nothing_it_is_not_sent() {
    for on_hup in ["ignore", "stop", "stop:USR1"] {
        let (dir, file) = place();
        let mut run = service(&dir, &file, &["--on-hup", on_hup], &[puppet().to_str().unwrap()]);
        run.ready();
        ends(ask("--reload", &file).start(), 1, &format!("HUP means '{on_hup}' there"));
        run.kill("USR1");
        run.line("got USR1");
        assert_eq!(run.stop().stdout.matches("got ").count(), 2, "{on_hup}");
    }
}

#[test]
fn who_waits_for_a_hupwrap_that_is_killed_hears_of_it() {
    for form in ["--reload", "--wait-ready", "--stop"] {
        let (dir, file) = place();
        let mut run =
            service(&dir, &file, &["--ready", "fd:3", "--no-tether"], &[puppet().to_str().unwrap(), "ignore=TERM"]);
        run.ready();
        let client = waiting(form, &file);
        run.kill("KILL");
        match form {
            "--stop" => ends(client, 0, ""),
            _ => ends(client, 125, "has ended"),
        }
        run.status();
    }
}

#[test]
fn a_pid_that_means_another_process_by_now_is_left_alone() {
    let (dir, file) = place();
    let mut run = service(&dir, &file, &[], &[puppet().to_str().unwrap()]);
    run.ready();
    let text = fs::read_to_string(&file).unwrap();
    let (own, rest) = text.split_once("\"pid_start\":").unwrap();
    let text = format!("{own}\"pid_start\":1{rest}");
    let other = dir.file("other.json", text, 0o644);
    for form in ["--reload", "--stop", "--status"] {
        ends(ask(form, &other).start(), 125, &format!("nothing runs there: its hupwrap, pid {}, has ended", run.pid));
    }
    let wait = Setup::new(args([&"--wait-ready", &other, &"--timeout", &"0"]));
    ends(wait.start(), 124, &format!("nothing runs there: its hupwrap, pid {}, has ended", run.pid));
    // It has heard nothing of that.
    run.kill("USR1");
    assert!(run.line("got ").starts_with("got USR1"));
    assert!(run.lives());
    let pid = run.pid;
    run.stop();
    ends(ask("--reload", &file).start(), 125, &format!("nothing runs there: its hupwrap, pid {pid}, has ended"));
}

/// Asks by a file that has no answer. `--wait-ready` looks once.
#[track_caller]
fn ends_with_file(form: &str, path: &Path, code: i32, part: &str) {
    let time = if code == 124 { "0" } else { "55s" };
    let ended = Setup::new(args([&form, &path, &"--timeout", &time])).end();
    assert_eq!(ended.shell(), code, "{form} {}: {}", path.display(), ended.stderr);
    says(&ended, part);
    assert!(ended.stderr.contains(&format!("{form} '{}'", path.display())), "{}", ended.stderr);
}

#[test]
fn files_that_cannot_be_believed() {
    let (dir, file) = place();
    let run = service(&dir, &file, &[], &[puppet().to_str().unwrap()]);
    ends(waiting_ready(&file), 0, "");
    let good = fs::read_to_string(&file).unwrap();
    let half = &good[..good.len() / 2];
    let old = good.replace("\"on_hup\":", "\"hup\":");
    let new = good.replace("\"version\":", "\"future\":[{}],\"version\":");
    dir.file("new", &new, 0o644);
    dir.file("half", half, 0o644);
    dir.file("empty", "", 0o644);
    dir.file("text", "4711\n", 0o644);
    dir.file("list", "[]", 0o644);
    dir.file("bytes", b"\xff\xfe\x00{", 0o644);
    dir.file("deep", "[".repeat(100_000), 0o644);
    dir.file("old", old, 0o644);
    dir.file("zero", good.replace(&format!("\"pid\":{}", run.pid), "\"pid\":0"), 0o644);
    dir.file("minus", good.replace(&format!("\"pid\":{}", run.pid), "\"pid\":-1"), 0o644);
    let pid_start = good.split("\"pid_start\":").nth(1).unwrap().split(',').next().unwrap();
    dir.file("unknown", good.replace(&format!("\"pid_start\":{pid_start}"), "\"pid_start\":null"), 0o644);
    dir.file("big", format!("{}{good}", " ".repeat(1 << 20)), 0o644);
    dir.file("group", &good, 0o664);
    dir.file("all", &good, 0o646);
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    fs::create_dir(dir.path().join("directory")).unwrap();
    for (name, part) in [
        ("half", "it is not a hupwrap status file"),
        ("text", "it is not a hupwrap status file, but looks like a pidfile; pass the --status-file"),
        ("list", "it is not a hupwrap status file"),
        ("bytes", "it is not a hupwrap status file"),
        ("deep", "it is not a hupwrap status file"),
        ("old", "it has no 'on_hup'"),
        ("zero", "it has no 'pid'"),
        ("minus", "it has no 'pid'"),
        ("unknown", "cannot be told from another process"),
        ("big", "too long"),
        ("loop", "ymbolic link"),
        ("directory", "not a regular file"),
        ("fifo", "not a regular file"),
        ("new/app.json", "a part of its path is no directory"),
    ] {
        for form in ["--reload", "--stop", "--status", "--wait-ready"] {
            ends_with_file(form, &dir.path().join(name), 125, part);
        }
    }
    for (name, part) in [
        ("empty", "it is empty"),
        ("dangling", "there is no such file; hupwrap may still be running"),
        ("missing", "there is no such file; hupwrap may still be running"),
        ("missing/app.json", "there is no such file; hupwrap may still be running"),
    ] {
        for form in ["--reload", "--stop", "--status"] {
            ends_with_file(form, &dir.path().join(name), 125, part);
        }
        // It waits for the file.
        ends_with_file("--wait-ready", &dir.path().join(name), 124, part);
    }
    for name in ["group", "all"] {
        for form in ["--reload", "--stop"] {
            let part = "it is writable by others; `chmod go-w` it";
            ends_with_file(form, &dir.path().join(name), 125, part);
        }
        assert!(ask("--status", &dir.path().join(name)).end().shell() <= 1);
        ends(ask("--wait-ready", &dir.path().join(name)).start(), 0, "");
    }
    let run_puts_up_with_it = ask("--status", &dir.path().join("new")).end();
    assert!(run_puts_up_with_it.shell() <= 1, "{run_puts_up_with_it:?}");
    assert_eq!(run.stop().stdout.matches("got ").count(), 1);
}

#[test]
fn files_of_others_are_not_believed() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("files_of_others_are_not_believed", "root");
    }
    let (dir, file) = place();
    let program = dir.hupwrap("client");
    let mut run = service(&dir, &file, &[], &[puppet().to_str().unwrap()]);
    run.ready();
    let nobody = 65534;
    let as_nobody = |form: &str, file: &Path| {
        let setup = Setup::of(&program, args([&form, &file])).with(|command| {
            command.uid(nobody);
        });
        setup.end()
    };
    // Root's file is believed, its process is not one's own.
    assert_eq!(as_nobody("--status", &file).shell(), 0);
    assert_eq!(as_nobody("--wait-ready", &file).shell(), 0);
    for (form, signal) in [("--reload", "HUP"), ("--stop", "TERM")] {
        let ended = as_nobody(form, &file);
        assert_eq!(ended.shell(), 125);
        says(&ended, &format!("you may not send {signal} to pid {}", run.pid));
    }
    let theirs = dir.file("theirs", fs::read(&file).unwrap(), 0o644);
    nix::unistd::chown(&theirs, Some(nobody.into()), None).unwrap();
    assert_eq!(as_nobody("--status", &theirs).shell(), 0);
    let link = dir.path().join("link");
    symlink(&file, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(nobody), None).unwrap();
    let strange = dir.file("strange", fs::read(&file).unwrap(), 0o644);
    nix::unistd::chown(&strange, Some(65533.into()), None).unwrap();
    for form in ["--reload", "--stop"] {
        let ended = as_nobody(form, &strange);
        assert_eq!(ended.shell(), 125);
        says(&ended, "it belongs to uid 65533, and names a process");
    }
    assert_eq!(as_nobody("--wait-ready", &strange).shell(), 0);
    let secret = dir.file("secret", fs::read(&file).unwrap(), 0o600);
    let ended = as_nobody("--status", &secret);
    assert_eq!(ended.shell(), 125);
    says(&ended, "permission denied");
    fs::create_dir(dir.path().join("open")).unwrap();
    let open = dir.file("open/app.json", fs::read(&file).unwrap(), 0o644);
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(as_nobody("--status", &open).shell(), 0);
    let far = dir.path().join("far");
    symlink(&open, &far).unwrap();
    for form in ["--reload", "--stop"] {
        // Theirs names a process of root.
        ends(ask(form, &theirs).start(), 125, &format!("it belongs to uid 65534, but pid {} does not", run.pid));
        ends(ask(form, &link).start(), 125, "it belongs to uid 65534");
        ends(ask(form, &open).start(), 125, "everybody may replace files in");
        ends(ask(form, &far).start(), 125, "everybody may replace files in");
        let ended = as_nobody(form, &link);
        assert_eq!(ended.shell(), 125);
        says(&ended, "you may not send");
    }
    // Nothing is sent, so any file will do.
    for form in ["--status", "--wait-ready"] {
        for file in [&theirs, &link, &open, &far] {
            ends(ask(form, file).start(), 0, "");
            assert_eq!(as_nobody(form, file).shell(), 0);
        }
    }
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(run.stop().stdout.matches("got ").count(), 1);
}

#[test]
fn root_may_use_the_file_of_a_user_who_runs_hupwrap() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("root_may_use_the_file_of_a_user_who_runs_hupwrap", "root");
    }
    let (user, other) = (65534, 65533);
    let (dir, _) = place();
    let program = dir.hupwrap("hupwrap");
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    nix::unistd::chown(&home, Some(user.into()), None).unwrap();
    let file = home.join("app.json");
    let options = args([&"--status-file", &file, &"--", &"sh", &"-c", &"echo ready 1 $$; exec sleep 1000"]);
    let mut run = Setup::of(&program, options)
        .with(|command| {
            command.uid(user);
        })
        .start();
    run.ready();
    ends(ask("--wait-ready", &file).start(), 0, "");
    ends(ask("--status", &file).start(), 0, "");
    let link = home.join("link");
    symlink(&file, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(user), None).unwrap();
    for file in [&file, &link] {
        ends(ask("--reload", file).start(), 0, "");
        run.ready();
    }
    // Another user's link may lead anywhere.
    std::os::unix::fs::lchown(&link, Some(other), None).unwrap();
    ends(ask("--reload", &link).start(), 125, "it belongs to uid 65533");
    // What this user says of a process of another one is worth nothing.
    let forged = home.join("forged.json");
    fs::copy(&file, &forged).unwrap();
    nix::unistd::chown(&forged, Some(other.into()), None).unwrap();
    ends(ask("--reload", &forged).start(), 125, &format!("but pid {} does not", run.pid));
    ends(ask("--stop", &file).start(), 0, "");
    run.status();
}

#[test]
fn a_link_is_followed() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    let elsewhere = Dir::new();
    let link = elsewhere.path().join("link");
    symlink(&file, &link).unwrap();
    let wait = waiting("--wait-ready", &link);
    tell(&dir, "go");
    ends(wait, 0, "");
    let reload = waiting("--reload", &link);
    assert_eq!(run.ready().0, 2);
    tell(&dir, "go");
    ends(reload, 0, "");
}

#[test]
fn a_file_in_the_working_directory() {
    let (dir, file) = place();
    let _run = service(&dir, &file, &[], &["sleep", "1000"]);
    let reload = Setup::new(["--wait-ready", "app.json"]).dir(dir.path());
    ends(reload.start(), 0, "");
    ends(Setup::new(["--reload", "app.json"]).dir(dir.path()).start(), 0, "");
}

#[test]
fn half_a_file_while_it_waits_is_no_news() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    let mut wait = waiting("--wait-ready", &file);
    let good = fs::read(&file).unwrap();
    fs::write(&file, "{\"pid\":").unwrap();
    // Another's is none either.
    dir.file(
        "other",
        String::from_utf8_lossy(&good)
            .replace("\"ready\":false", "\"ready\":true")
            .replace("pid_start\":", "pid_start\":1"),
        0o644,
    );
    fs::rename(dir.path().join("other"), &file).unwrap();
    has_asked(&wait);
    assert!(wait.lives());
    tell(&dir, "go");
    ends(wait, 0, "");
    assert!(run.lives());
}

#[test]
fn a_directory_may_go_and_come_back() {
    let (dir, _) = place();
    let inner = dir.path().join("run");
    fs::create_dir(&inner).unwrap();
    let file = inner.join("app.json");
    let mut run = app(&dir, &file, &[]);
    let mut wait = waiting("--wait-ready", &file);
    fs::rename(&inner, dir.path().join("away")).unwrap();
    has_asked(&wait);
    assert!(wait.lives());
    fs::create_dir(&inner).unwrap();
    tell(&dir, "go");
    ends(wait, 0, "");
    assert!(run.lives());
}

#[test]
fn it_waits_no_longer_than_it_was_told() {
    let (dir, file) = place();
    let options = ["--ready", "fd:3", "--stop-timeout", "never"];
    let mut run = service(&dir, &file, &options, &[puppet().to_str().unwrap(), "ignore=TERM"]);
    run.ready();
    for (form, part) in [
        ("--wait-ready", "was not ready within"),
        ("--reload", "had no outcome within"),
        ("--stop", "did not end within"),
    ] {
        for time in ["0", "100ms"] {
            let ended = Setup::new(args([&form, &file, &"--timeout", &time])).end();
            assert_eq!(ended.shell(), 124, "{form} {time}: {}", ended.stderr);
            says(&ended, part);
        }
    }
    let mut client = Setup::new(args([&"--stop", &file, &"--timeout", &"never"])).start();
    has_asked(&client);
    assert!(client.lives());
    run.kill("KILL");
    ends(client, 0, "");
    run.status();
}

/// The seconds that a line on the terminal counts behind these words: a client that the machine holds up skips some.
fn seconds(text: &str, words: &str) -> BTreeSet<u64> {
    text.split(words).skip(1).filter_map(|rest| rest.split_once("s of 1m")?.0.parse().ok()).collect()
}

#[test]
fn on_a_terminal_it_shows_what_it_waits_for() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    let pid = run.pid;
    let mut terminal = Terminal::new();
    let client = terminal.lead(Setup::new(args([&"--wait-ready", &file]))).start();
    let words = format!("\rhupwrap: waiting until pid {pid} is ready: starting, generation 1; ");
    let counted = terminal.find("two times", |text| Some(seconds(text, &words)).filter(|all| all.len() > 1));
    // Nothing in the first second: that would stand in front of the lines of a hupwrap on the same terminal.
    assert!(!counted.contains(&0), "{counted:?}");
    tell(&dir, "go");
    assert_eq!(client.end().shell(), 0);
    let verdict = terminal.line("hupwrap: ready, ");
    assert!(verdict.ends_with('s') && !verdict.contains("of 1m"), "{verdict}");
    assert_eq!(terminal.text().matches('\n').count(), 1, "{:?}", terminal.text());
    // Nobody waits for microseconds.
    let client = terminal.lead(Setup::new(args([&"--wait-ready", &file]))).start();
    assert_eq!(client.end().shell(), 0);
    let verdict = terminal.line("hupwrap: ready");
    assert!(!verdict.ends_with("us"), "{verdict}");

    let client = terminal.lead(Setup::new(args([&"--reload", &file]))).start();
    assert_eq!(run.ready().0, 2);
    let words = format!("hupwrap: waiting for the restart of pid {pid}: starting, generation 2; ");
    terminal.find("a time", |text| seconds(text, &words).pop_first());
    terminal.keys("\x03");
    assert_eq!(client.end().shell(), 130);
    let line = terminal.line("hupwrap: --reload");
    assert!(line.ends_with("no longer waiting; the reload continues without you, see --status"), "{line}");
    // And so it does.
    let wait = waiting("--wait-ready", &file);
    tell(&dir, "go");
    ends(wait, 0, "");

    let client = terminal.lead(Setup::new(args([&"--reload", &file]))).start();
    assert_eq!(run.ready().0, 3);
    tell(&dir, "go");
    assert_eq!(client.end().shell(), 0);
    terminal.line("hupwrap: restarted");
    let client = terminal.lead(Setup::new(args([&"--stop", &file]))).start();
    assert_eq!(client.end().shell(), 0);
    terminal.line("hupwrap: stopped");
}

#[test]
fn a_narrow_window_gets_a_short_line() {
    let (dir, file) = place();
    let _run = app(&dir, &file, &[]);
    let mut terminal = Terminal::new();
    terminal.resize(24, 20);
    let client = terminal.lead(Setup::new(args([&"--wait-ready", &file]))).start();
    terminal.shows("\rhupwrap: waiting un\r");
    terminal.keys("\x03");
    assert_eq!(client.end().shell(), 130);
}

#[test]
fn a_signal_ends_the_waiting_and_nothing_else() {
    let (dir, file) = place();
    let options = ["--ready", "fd:3", "--stop-timeout", "never"];
    let mut run = service(&dir, &file, &options, &[puppet().to_str().unwrap(), "ignore=TERM"]);
    run.ready();
    for (form, continues) in
        [("--wait-ready", "hupwrap continues"), ("--reload", "the reload continues"), ("--stop", "the stop continues")]
    {
        for (name, signal) in
            [("INT", None), ("TERM", Some(libc::SIGTERM)), ("HUP", Some(libc::SIGHUP)), ("QUIT", Some(libc::SIGQUIT))]
        {
            let client = waiting(form, &file);
            client.kill(name);
            let ended = client.end();
            // A parent sees the signal itself. An end by INT would end the script of the caller as well.
            assert_eq!((ended.status.code(), ended.status.signal()), (signal.is_none().then_some(130), signal));
            says(&ended, &format!("no longer waiting; {continues} without you, see --status"));
        }
    }
    assert!(run.lives());
    run.kill("KILL");
    run.status();
}

#[test]
fn a_signal_leaves_the_terminals_line_whole() {
    let (dir, file) = place();
    let _run = app(&dir, &file, &[]);
    for signal in ["TERM", "HUP", "QUIT"] {
        let mut terminal = Terminal::new();
        let client = terminal.lead(Setup::new(args([&"--wait-ready", &file]))).start();
        terminal.shows("hupwrap: waiting until pid");
        client.kill(signal);
        assert_eq!(client.end().status.code(), None, "{signal}");
        // Nothing of the line that was there is left in front of it.
        let line = terminal.line("hupwrap: --wait-ready");
        assert!(line.ends_with("no longer waiting; hupwrap continues without you, see --status"), "{line}");
    }
    // The window is closed.
    let mut terminal = Terminal::new();
    let client = terminal.lead(Setup::new(args([&"--wait-ready", &file]))).start();
    terminal.shows("hupwrap: waiting until pid");
    drop(terminal);
    assert_eq!(client.end().status.signal(), Some(libc::SIGHUP));
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    let setup = ask("--wait-ready", &file).with(|command| {
        before_exec(command, || {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
                // SAFETY: async-signal-safe.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
        });
    });
    let mut client = setup.start();
    has_asked(&client);
    for signal in ["INT", "TERM", "HUP", "QUIT"] {
        client.kill(signal);
    }
    assert!(client.lives());
    tell(&dir, "go");
    ends(client, 0, "");
    assert!(run.lives());
}

#[test]
fn one_that_was_blocked_stays_blocked() {
    let (dir, file) = place();
    let _run = app(&dir, &file, &[]);
    let setup = ask("--wait-ready", &file).with(|command| {
        before_exec(command, || {
            let mut set = nix::sys::signal::SigSet::empty();
            set.add(nix::sys::signal::Signal::SIGTERM);
            let _ = set.thread_block();
        });
    });
    let mut client = setup.start();
    has_asked(&client);
    client.kill("TERM");
    assert!(client.lives());
    tell(&dir, "go");
    ends(client, 0, "");
}

#[test]
fn without_standard_descriptors_it_waits_all_the_same() {
    let (dir, file) = place();
    let _run = service(&dir, &file, &[], &["sleep", "1000"]);
    ends(waiting_ready(&file), 0, "");
    for form in ["--reload", "--status", "--wait-ready", "--stop"] {
        let setup = ask(form, &file).with(|command| {
            before_exec(command, || {
                // SAFETY: async-signal-safe; the descriptors are this process's own.
                [0, 1, 2].into_iter().for_each(|fd| assert_eq!(unsafe { libc::close(fd) }, 0));
            });
        });
        assert_eq!(setup.end().shell(), 0, "{form}");
    }
    let ended = Setup::of(
        "sh",
        args([
            &"-c",
            &"\"$0\" --reload \"$1\" 2>&1 >/dev/null | true; \"$0\" --reload \"$1\" 2>/dev/full",
            &hupwrap(),
            &file,
        ]),
    )
    .end();
    assert_eq!(ended.shell(), 125);
}

#[test]
fn a_status_for_people() {
    let (dir, file) = place();
    let mut run =
        service(&dir, &file, &["--listen", "web=tcp:127.0.0.1:0"], &["sh", "-c", "echo ready 1 $$; exec sleep 1000"]);
    let (_, child) = run.ready();
    ends(waiting_ready(&file), 0, "");
    let status = ask("--status", &file).end();
    let pid = run.pid;
    for line in [
        "state      running, ready\n",
        &format!("hupwrap    {}, pid {pid}, up ", env!("CARGO_PKG_VERSION")),
        "; HUP means restart\n",
        "last start generation 1\n",
        &format!("child      pid {child}, up "),
        "restarts   0 on request, 0 after failures\n",
        "socket     web at tcp:127.0.0.1:",
        ", fd 3\n",
    ] {
        assert!(status.stdout.contains(line), "'{line}' is not in {}", status.stdout);
    }
    ends(ask("--reload", &file).start(), 0, "");
    let status = ask("--status", &file).end().stdout;
    for line in [
        "last start generation 2\n",
        "restarts   1 on request",
        "last exit  killed by TERM\n",
        "reload     restart ok ",
        "s ago, after ",
    ] {
        assert!(status.contains(line), "'{line}' is not in {status}");
    }
}

/// Refuses system calls to a program, as an old kernel (ENOSYS) or a sandbox (EPERM) does: by a filter of seccomp(2).
fn refused(setup: Setup, calls: &[libc::c_long], error: i32) -> Setup {
    let step = |code: u32, jt, jf, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let number = |call: &libc::c_long| u32::try_from(*call).unwrap();
    // The number of the call is the first word.
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for call in calls {
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number(call)));
        let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(error).unwrap();
        filter.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, refusal));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    setup.with(|command| {
        let act = move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: async-signal-safe; the program is read during the call.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
                assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
            }
        };
        before_exec(command, act);
    })
}

#[test]
fn without_inotify_or_pidfds_it_polls() {
    let inotify = [libc::SYS_inotify_init1].as_slice();
    let pidfd = [libc::SYS_pidfd_open].as_slice();
    let sending = [libc::SYS_pidfd_send_signal].as_slice();
    let all = [libc::SYS_inotify_init1, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal];
    for (calls, error) in [
        (inotify, libc::EMFILE),
        (inotify, libc::ENOSYS),
        (pidfd, libc::ENOSYS),
        (pidfd, libc::EPERM),
        (pidfd, libc::EACCES),
        (pidfd, libc::EINVAL),
        (sending, libc::ENOSYS),
        (sending, libc::EPERM),
        (all.as_slice(), libc::EPERM),
    ] {
        let (dir, file) = place();
        let ask = |form: &str| refused(ask(form, &file), calls, error);
        let early = ask("--wait-ready").start();
        let mut run = app(&dir, &file, &[]);
        let wait = ask("--wait-ready").start();
        has_asked(&wait);
        tell(&dir, "go");
        ends(wait, 0, "");
        ends(early, 0, "");
        ends(ask("--status").start(), 0, "");
        let reload = ask("--reload").start();
        assert_eq!(run.ready().0, 2);
        tell(&dir, "go");
        ends(reload, 0, "");
        // A pid that means another process by now gets nothing.
        let text = fs::read_to_string(&file).unwrap().replace("\"pid_start\":", "\"pid_start\":1");
        let other = dir.file("other.json", text, 0o644);
        for form in ["--reload", "--stop"] {
            ends(refused(crate::waiting::ask(form, &other), calls, error).start(), 125, "nothing runs there");
        }
        ends(ask("--stop").start(), 0, "");
        run.status();
        ends(ask("--reload").start(), 125, "nothing runs there: its hupwrap, pid ");
        ends(ask("--status").start(), 125, "nothing runs there: its hupwrap, pid ");
    }
}

#[test]
fn while_it_polls_it_hears_of_the_end() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    let wait = refused(ask("--wait-ready", &file), &[libc::SYS_pidfd_open], libc::ENOSYS).start();
    has_asked(&wait);
    run.kill("KILL");
    run.status();
    ends(wait, 125, "has ended");
}

#[test]
fn it_waits_for_a_file_that_does_not_exist_yet() {
    let (dir, _) = place();
    // Nor does its directory, or what a link leads to.
    for name in ["app.json", "later/app.json", "link"] {
        let file = dir.path().join(name);
        let real = if name == "link" { dir.path().join("deep/app.json") } else { file.clone() };
        if name == "link" {
            symlink(&real, &file).unwrap();
        }
        let mut wait = waiting("--wait-ready", &file);
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        has_asked(&wait);
        assert!(wait.lives());
        let run = app(&dir, &real, &[]);
        assert!(wait.lives(), "{name}");
        tell(&dir, "go");
        ends(wait, 0, "");
        run.stop();
    }
}

#[test]
fn it_waits_for_the_hupwrap_that_follows_a_stale_file() {
    for how in ["TERM", "KILL"] {
        let (dir, file) = place();
        let mut first = service(&dir, &file, &[], &["sleep", "1000"]);
        ends(waiting_ready(&file), 0, "");
        first.kill(how);
        first.status();
        let mut wait = waiting("--wait-ready", &file);
        let mut second = app(&dir, &file, &[]);
        assert!(wait.lives());
        tell(&dir, "go");
        ends(wait, 0, "");
        assert!(second.lives());
    }
}

#[test]
fn a_file_that_says_ended_is_waited_on_though_the_pid_is_still_there() {
    let (dir, file) = place();
    let _run = service(&dir, &file, &[], &["sleep", "1000"]);
    ends(waiting_ready(&file), 0, "");
    let other = dir.path().join("other.json");
    let good = fs::read_to_string(&file).unwrap();
    dir.file("other.json", good.replace("\"state\":\"running\"", "\"state\":\"ended\""), 0o644);
    for form in ["--reload", "--status"] {
        ends(ask(form, &other).start(), 125, "nothing runs there");
    }
    let wait = waiting("--wait-ready", &other);
    fs::rename(&file, &other).unwrap();
    ends(wait, 0, "");
}

#[test]
fn a_child_that_was_not_ready_in_time_is_called_so() {
    let (dir, file) = place();
    let command = format!("echo ready 1 $$; exec {} ignore=TERM", puppet().display());
    let options = ["--ready", "notify", "--ready-timeout", "1s"];
    let mut run = service(&dir, &file, &options, &["sh", "-c", &command]);
    run.ready();
    let wait = waiting("--wait-ready", &file);
    run.said("was not ready within");
    for child in children(run.pid) {
        kill(child, "KILL");
    }
    assert_eq!(run.end().shell(), 124);
    ends(wait, 125, "has ended; its child was not ready in time");
}

#[test]
fn the_child_does_not_wait_for_its_own_reload() {
    for (how, on_hup) in [("", "restart"), ("", "replace"), ("setsid ", "restart"), ("", "upgrade")] {
        let (dir, file) = place();
        let copy = dir.hupwrap("supervisor");
        // The shell acts on TERM when the command in its foreground has ended.
        let script = format!(
            "echo ready $HUPWRAP_GENERATION $$; trap 'exit 0' TERM; [ $HUPWRAP_GENERATION = 1 ] || exec sleep 1000; \
             read go < fifo; {how}sh -c '$0 --reload app.json; echo code $?' $0; sleep 1000 & wait"
        );
        let options = args([&"--status-file", &"app.json", &"--on-hup", &on_hup, &"--stop-timeout", &"never", &"--"]);
        let command = args([&"sh", &"-c", &script, &copy]);
        let mut run = Setup::of(&copy, options.into_iter().chain(command)).dir(dir.path()).start();
        assert_eq!(run.ready().0, 1);
        wait_until("there is a status file", || file.exists());
        tell(&dir, "go");
        run.said("sent HUP, but does not wait: this command runs in the supervised child");
        run.wrote_times("code 0\n", 1);
        match on_hup {
            "upgrade" => wait_until("it is upgraded", || {
                fs::read_to_string(&file).is_ok_and(|text| text.contains("\"outcome\":\"ok\""))
            }),
            _ => assert_eq!(run.ready().0, 2, "{on_hup}"),
        }
    }
}

#[test]
fn the_child_does_not_wait_for_its_own_stop() {
    let (dir, file) = place();
    let script =
        "echo ready 1 $$; trap 'exit 7' TERM; read go < fifo; $0 --stop app.json; echo code $?; sleep 1000 & wait";
    let mut run = service(&dir, &file, &[], &["sh", "-c", script, hupwrap().to_str().unwrap()]);
    run.ready();
    tell(&dir, "go");
    let ended = run.end();
    assert_eq!(ended.shell(), 7);
    assert!(ended.stderr.contains("sent TERM, but does not wait"), "{}", ended.stderr);
}

#[test]
fn a_relative_of_hupwrap_that_is_not_below_it_waits() {
    let (dir, file) = place();
    // The same parent, and the same variable in the environment.
    let script = "$0 --status-file app.json -- sh -c 'echo ready 1 $$; exec sleep 1000' & export HUPWRAP_PID=$!; \
                  $0 --wait-ready app.json && $0 --reload app.json; echo code $?; kill $HUPWRAP_PID; wait";
    let run = Setup::of("sh", args([&"-c", &script, &hupwrap()])).dir(dir.path()).end();
    assert!(run.stdout.contains("code 0"), "{run:?}");
    assert!(!run.stderr.contains("does not wait"), "{run:?}");
    assert!(fs::read_to_string(file).unwrap().contains("\"asked\":1"));
}

/// An entrypoint starts it before it executes hupwrap: it belongs to no generation, and hupwrap does not wait for it.
#[test]
fn a_child_of_hupwrap_that_is_older_waits() {
    let (dir, file) = place();
    let script = "{ $0 --wait-ready app.json; $0 --reload app.json; echo reload $?; $0 --stop app.json; echo stop $?; } & \
                  exec $0 --status-file app.json --check false -- sleep 1000";
    let run = Setup::of("sh", args([&"-c", &script, &hupwrap()])).dir(dir.path()).end();
    assert_eq!(run.stdout, "reload 1\nstop 0\n", "{run:?}");
    assert!(run.stderr.contains("--reload 'app.json': restart refused"), "{run:?}");
    assert!(fs::read_to_string(file).unwrap().contains("\"state\":\"ended\""));
}

/// An orphan is left alone, or asked to end by itself: nobody waits for another that waits for it.
#[test]
fn an_orphan_of_the_child_waits() {
    for (options, output, part) in [
        (["--kill-mode", "process"], "code 0\n", ""),
        (["--check", "false"], "code 1\n", "--reload 'app.json': restart refused"),
        (["--kill-mode", "mixed"], "", "no longer waiting; the reload continues without you"),
    ] {
        let (dir, file) = place();
        let script = "[ $HUPWRAP_GENERATION = 1 ] && (sh -c 'read go < fifo; $0 --reload app.json; echo code $?' $0 &); \
                      echo ready $HUPWRAP_GENERATION $$; exec sleep 1000";
        let mut run = service(&dir, &file, &options, &["sh", "-c", script, hupwrap().to_str().unwrap()]);
        run.ready();
        tell(&dir, "go");
        match output {
            "" => run.said(part),
            output => run.wrote_times(output, 1),
        }
        let ended = run.stop();
        assert!(ended.stdout.contains(output) && ended.stderr.contains(part), "{options:?} {ended:?}");
        assert!(!ended.stderr.contains("does not wait"), "{options:?} {ended:?}");
    }
}

/// No stop is under way there.
#[test]
fn where_term_does_not_mean_stop_it_is_said() {
    let (dir, file) = place();
    for action in ["ignore", "forward:WINCH"] {
        let run = service(&dir, &file, &["--on", &format!("TERM={action}")], &["sleep", "1000"]);
        ends(waiting_ready(&file), 0, "");
        let ended = Setup::new(args([&"--stop", &file, &"--timeout", &"1s"])).end();
        assert_eq!(ended.shell(), 124);
        let pid = run.pid;
        says(&ended, &format!("pid {pid} (running, generation 1) did not end within 1s; it is not stopping: --on may"));
        run.kill("INT");
        run.end();
    }
}

#[test]
fn who_slept_through_too_many_requests_is_told_so() {
    for (count, code) in [(3, 0), (12, 124)] {
        let (dir, file) = place();
        let mut run = app(&dir, &file, &[]);
        tell(&dir, "go");
        ends(waiting_ready(&file), 0, "");
        let client = waiting("--reload", &file);
        assert_eq!(run.ready().0, 2);
        client.kill("STOP");
        wait_until("it is stopped", || state(client.pid) == Some('T'));
        tell(&dir, "go");
        for number in 0..count {
            let reload = ask("--reload", &file).start();
            assert_eq!(run.ready().0, 3 + number);
            tell(&dir, "go");
            ends(reload, 0, "");
        }
        client.kill("CONT");
        let part = if code == 0 { "" } else { "the outcome of this one is no longer known" };
        ends(client, code, part);
    }
}

#[test]
fn output_that_is_lost_is_no_success() {
    let (dir, file) = place();
    let _run = service(&dir, &file, &[], &["sleep", "1000"]);
    ends(waiting_ready(&file), 0, "");
    for words in ["--status app.json", "-h", "--help", "--version"] {
        let script = format!("$0 {words} > /dev/full");
        let ended = Setup::of("sh", args([&"-c", &script, &hupwrap()])).dir(dir.path()).end();
        assert_eq!(ended.shell(), 125, "{words}");
        says(&ended, "cannot write to stdout: No space left on device");
        // A reader that has read enough is no fault.
        let script = format!("trap '' PIPE; {{ $0 {words}; echo $? >&2; }} | true");
        let ended = Setup::of("sh", args([&"-c", &script, &hupwrap()])).dir(dir.path()).end();
        assert_eq!(ended.stderr, "0\n", "{words}");
    }
}

#[test]
fn the_time_of_a_reload_runs_from_the_request() {
    let (dir, file) = place();
    let options = ["--check", "sh -c 'echo checking; read go < fifo'"];
    let run = service(&dir, &file, &options, &["sleep", "1000"]);
    ends(waiting_ready(&file), 0, "");
    let reload = waiting("--reload", &file);
    run.said("checking");
    tell(&dir, "go");
    ends(reload, 0, "");
    let all: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let time = |key: &str| all["reload"][key].as_u64().unwrap();
    let asked = all["requested"].as_u64().unwrap();
    assert!(asked < time("began") && time("began") < time("ended"), "{all}");
    let took = std::time::Duration::from_nanos(time("ended") - asked).as_millis();
    let status = ask("--status", &file).end().stdout;
    // The time shown is rounded.
    let shown = |took: u128| status.contains(&format!("ago, after {took}ms\n"));
    assert!(took == 0 || took > 999 || shown(took) || shown(took + 1), "{took} {status}");
}

/// The /proc of another pid namespace shows other processes under the same pids.
#[test]
fn in_the_proc_of_another_pid_namespace_it_sends_nothing() {
    let test = "in_the_proc_of_another_pid_namespace_it_sends_nothing";
    let (dir, file) = place();
    let mut run = service(&dir, &file, &[], &[puppet().to_str().unwrap()]);
    run.ready();
    let inside = |form: &str| Setup::of("unshare", args([&"--pid", &"--fork", &"--", &hupwrap(), &form, &file]));
    let possible = || Setup::of("unshare", ["--pid", "--fork", "--", "true"]).end().shell() == 0;
    if installed("unshare").is_none() || !possible() {
        return skipped(test, "unshare(1), or the right to make a pid namespace");
    }
    for form in ["--reload", "--stop", "--status", "--wait-ready"] {
        let ended = inside(form).end();
        assert_eq!(ended.shell(), 125, "{form}");
        says(&ended, "/proc does not show the processes of this pid namespace");
    }
    assert_eq!(run.stop().stdout.matches("got ").count(), 1);
}

/// The kernel protects pid 1 from signals that it sends to itself.
#[test]
fn as_the_first_process_it_exits_with_the_number_of_the_signal() {
    let test = "as_the_first_process_it_exits_with_the_number_of_the_signal";
    let dir = Dir::new();
    let file = dir.path().join("app.json");
    let words = ["--pid", "--fork", "--mount-proc", "--kill-child", "--"];
    if installed("unshare").is_none() || Setup::of("unshare", [&words[..], &["true"]].concat()).end().shell() != 0 {
        return skipped(test, "unshare(1), or the right to make a pid namespace");
    }
    let words = args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"].each_ref().map(|word| word as _));
    let run = Setup::of("unshare", words.into_iter().chain(args([&hupwrap(), &"--wait-ready", &file]))).start();
    let client = || children(run.pid).first().copied();
    wait_until("it waits", || {
        let ppoll = format!("{} ", libc::SYS_ppoll);
        client().is_some_and(|pid| {
            fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with(&ppoll))
        })
    });
    kill(client().unwrap(), "TERM");
    ends(run, 143, "no longer waiting; there is no such file");
}
