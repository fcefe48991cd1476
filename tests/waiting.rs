//! The commands that ask a hupwrap by its status file, and wait for the answer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
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

/// Also while something else is under way.
#[test]
fn a_hup_is_passed_on_during_a_check() {
    let (dir, file) = place();
    let options = ["--on-hup", "forward", "--on", "USR1=restart", "--check", "sh -c 'echo checking; read go < fifo'"];
    let mut run = service(&dir, &file, &options, &[puppet().to_str().unwrap()]);
    run.ready();
    run.kill("USR1");
    run.said("checking");
    ends(ask("--reload", &file).start(), 0, "");
    run.line("got HUP");
    tell(&dir, "go");
    assert_eq!(run.ready().0, 2);
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
            _ => ends(client, 125, "has ended meanwhile"),
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
    for form in ["--reload", "--stop", "--status", "--wait-ready"] {
        ends(ask(form, &other).start(), 125, &format!("nothing runs there: its hupwrap, pid {}, has ended", run.pid));
    }
    // It has heard nothing of that.
    run.kill("USR1");
    assert!(run.line("got ").starts_with("got USR1"));
    assert!(run.lives());
    let pid = run.pid;
    run.stop();
    ends(ask("--reload", &file).start(), 125, &format!("nothing runs there: its hupwrap, pid {pid}, has ended"));
}

#[test]
fn files_that_cannot_be_believed() {
    let (dir, file) = place();
    let run = service(&dir, &file, &[], &[puppet().to_str().unwrap()]);
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
    dir.file("big", format!("{}{good}", " ".repeat(1 << 20)), 0o644);
    dir.file("group", &good, 0o664);
    dir.file("all", &good, 0o646);
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    fs::create_dir(dir.path().join("directory")).unwrap();
    for (name, part) in [
        ("half", "no JSON, or half of it"),
        ("empty", "no JSON, or half of it"),
        ("text", "no JSON object"),
        ("list", "no JSON object"),
        ("bytes", "no JSON, or half of it"),
        ("deep", "no JSON, or half of it"),
        ("old", "it has no 'on_hup'"),
        ("zero", "it has no 'pid'"),
        ("minus", "it has no 'pid'"),
        ("big", "too long"),
        ("group", "others than its owner may write to it"),
        ("all", "others than its owner may write to it"),
        ("dangling", "there is no such file: nothing runs there"),
        ("loop", "ymbolic link"),
        ("directory", "no regular file"),
        ("fifo", "no regular file"),
        ("missing", "there is no such file: nothing runs there"),
        ("missing/app.json", "there is no such file: nothing runs there"),
        ("new/app.json", "Not a directory"),
    ] {
        let path = dir.path().join(name);
        for form in ["--reload", "--stop", "--status", "--wait-ready"] {
            let ended = ask(form, &path).end();
            assert_eq!(ended.shell(), 125, "{form} {name}: {}", ended.stderr);
            says(&ended, part);
            assert!(ended.stderr.contains(&format!("{form} '{}'", path.display())), "{}", ended.stderr);
        }
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
    ends(ask("--status", &link).start(), 0, "");
    std::os::unix::fs::lchown(&link, Some(nobody), None).unwrap();
    let secret = dir.file("secret", fs::read(&file).unwrap(), 0o600);
    let ended = as_nobody("--status", &secret);
    assert_eq!(ended.shell(), 125);
    says(&ended, "Permission denied");
    fs::create_dir(dir.path().join("open")).unwrap();
    let open = dir.file("open/app.json", fs::read(&file).unwrap(), 0o644);
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(as_nobody("--status", &open).shell(), 0);
    let far = dir.path().join("far");
    symlink(&open, &far).unwrap();
    for form in ["--reload", "--stop", "--status", "--wait-ready"] {
        ends(ask(form, &theirs).start(), 125, "it belongs to uid 65534");
        ends(ask(form, &link).start(), 125, "it belongs to uid 65534");
        ends(ask(form, &open).start(), 125, "everybody may replace files in");
        ends(ask(form, &far).start(), 125, "everybody may replace files in");
    }
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    ends(ask("--status", &open).start(), 0, "");
    assert_eq!(run.stop().stdout.matches("got ").count(), 1);
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
fn a_directory_that_goes_is_the_end_of_news() {
    let (dir, _) = place();
    let inner = dir.path().join("run");
    fs::create_dir(&inner).unwrap();
    let file = inner.join("app.json");
    let mut run = app(&dir, &file, &[]);
    let wait = waiting("--wait-ready", &file);
    fs::remove_dir_all(&inner).unwrap();
    ends(wait, 125, "cannot be told");
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

#[test]
fn on_a_terminal_it_shows_what_it_waits_for() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    let pid = run.pid;
    let mut terminal = Terminal::new();
    let client = terminal.lead(Setup::new(args([&"--wait-ready", &file]))).start();
    terminal.shows(&format!("\rhupwrap: waiting until pid {pid} is ready: starting, generation 1; 0s of 1m"));
    terminal.shows("; 1s of 1m");
    terminal.shows("; 2s of 1m");
    tell(&dir, "go");
    assert_eq!(client.end().shell(), 0);
    // It leaves an empty line behind.
    terminal.shows("  \r");
    assert!(!terminal.text().contains('\n'), "{:?}", terminal.text());

    let client = terminal.lead(Setup::new(args([&"--reload", &file]))).start();
    assert_eq!(run.ready().0, 2);
    terminal.shows(&format!("hupwrap: waiting for the restart of pid {pid}: starting, generation 2; 0s of 1m"));
    terminal.keys("\x03");
    assert_eq!(client.end().shell(), 130);
    let line = terminal.line("hupwrap: --reload");
    assert!(line.ends_with("no longer waiting; the reload goes on without you, see --status"), "{line}");
    // And so it does.
    let wait = waiting("--wait-ready", &file);
    tell(&dir, "go");
    ends(wait, 0, "");
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
fn int_by_kill_ends_the_waiting_and_term_ends_it_as_ever() {
    let (dir, file) = place();
    let mut run = app(&dir, &file, &[]);
    for (form, goes_on) in [("--wait-ready", "hupwrap goes on"), ("--reload", "the reload goes on")] {
        let client = waiting(form, &file);
        client.kill("INT");
        let ended = client.end();
        assert_eq!(ended.status.code(), Some(130));
        says(&ended, goes_on);
    }
    let client = waiting("--wait-ready", &file);
    ends(ended_by(client, "TERM"), 143, "");
    assert!(run.lives());
    // In the background of a script INT is ignored, and stays so.
    let setup = ask("--wait-ready", &file).with(|command| {
        // SAFETY: async-signal-safe.
        before_exec(command, || unsafe {
            libc::signal(libc::SIGINT, libc::SIG_IGN);
        });
    });
    let mut client = setup.start();
    has_asked(&client);
    client.kill("INT");
    assert!(client.lives());
    tell(&dir, "go");
    // The reload that nobody waits for any more.
    assert_eq!(run.ready().0, 2);
    tell(&dir, "go");
    ends(client, 0, "");
}

fn ended_by(run: Run, signal: &str) -> Run {
    run.kill(signal);
    run
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
        &format!("child      generation 1, pid {child}, up "),
        "restarts   0 asked for, 0 after a failure\n",
        "socket     web at tcp:127.0.0.1:",
        ", fd 3\n",
    ] {
        assert!(status.stdout.contains(line), "'{line}' is not in {}", status.stdout);
    }
    ends(ask("--reload", &file).start(), 0, "");
    let status = ask("--status", &file).end().stdout;
    for line in [
        "child      generation 2, ",
        "restarts   1 asked for",
        "last exit  by TERM\n",
        "reload     restart ok 0s ago, after ",
    ] {
        assert!(status.contains(line), "'{line}' is not in {status}");
    }
}
