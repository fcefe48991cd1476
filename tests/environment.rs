//! What every start reads afresh: env files, the working directory, and the command in them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::support::seen::*;
use crate::support::*;

/// What stands in files and must be told to nobody.
const SECRET: &str = "hunter2-s3cret";

fn words(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

/// Every way to a new child.
const ACTIONS: [&[&str]; 4] = [
    &["--on-hup", "restart"],
    &["--on-hup", "reexec"],
    &["--on-hup", "replace", "--ready", "exec"],
    &["--on-hup", "upgrade+replace", "--ready", "exec"],
];

/// Asks for a new child, and waits until it alone is there.
#[track_caller]
fn next(run: &Run, old: i32) -> i32 {
    run.kill("HUP");
    let child = sleeper(run.pid, &[old]);
    wait_until("the old one is gone", || state(old).is_none());
    child
}

/// A program that sleeps, in a directory of a release: it is a link to sleep(1), by whatever name.
fn sleeps(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    symlink(installed("sleep").unwrap(), file).unwrap();
}

/// Lets a link lead somewhere else, as a deploy does.
fn point(link: &Path, to: &str) {
    let new = link.with_extension("new");
    symlink(to, &new).unwrap();
    fs::rename(new, link).unwrap();
}

#[test]
fn an_edited_file_counts_at_the_next_start() {
    for options in ACTIONS {
        let dir = Dir::new();
        dir.file("one", "A=1\nB=1\nC=1\nINHERITED=1\n", 0o600);
        dir.file("two", "B='2 $A'\nexport D=\"x\\ny\"\nHUPWRAP_PID=7\nHUPWRAP_GENERATION=7\nLISTEN_FDS=7\n", 0o600);
        let files = ["--env-file", "one", "--env-file", "two", "--", "sleep", "1000"];
        let setup = Setup::new([options, &files].concat()).dir(dir.path());
        let run = setup.env("INHERITED", "0").env("KEPT", "0").start();
        let mut child = sleeper(run.pid, &[]);
        let mut want = vec![("A", "1"), ("B", "2 $A"), ("C", "1"), ("D", "x\ny"), ("INHERITED", "1"), ("KEPT", "0")];
        for generation in 1..=4 {
            let var = environ(child);
            for (name, value) in &want {
                assert_eq!(var.get(*name).map(String::as_str), Some(*value), "{options:?} {generation} {name}");
            }
            assert_eq!(var["HUPWRAP_PID"], run.pid.to_string());
            assert_eq!(var["HUPWRAP_GENERATION"], generation.to_string());
            assert!(!var.contains_key("LISTEN_FDS"));
            match generation {
                1 => {
                    dir.file("one", "A=changed\nB=1\n", 0o600);
                    want = vec![("A", "changed"), ("B", "2 $A"), ("INHERITED", "0"), ("KEPT", "0")];
                }
                2 => {
                    dir.file("two", "", 0o600);
                    want = vec![("A", "changed"), ("B", "1"), ("INHERITED", "0"), ("KEPT", "0")];
                }
                3 => {
                    // As an editor saves it, or a secret store: another file, or a link that moved.
                    dir.file("draft", "KEPT=no\n", 0o600);
                    point(&dir.path().join("one"), "draft");
                    want = vec![("KEPT", "no"), ("INHERITED", "0")];
                }
                _ => break,
            }
            child = next(&run, child);
        }
        assert_eq!((environ(child).contains_key("A"), environ(child).contains_key("B")), (false, false));
        let ended = run.stop();
        assert_eq!(ended.shell(), 143);
    }
}

/// Makes of what is at this path a broken env file. Every one holds the secret that can.
type Break = fn(&Dir, &Path);

const BROKEN: [(&str, Break, &str); 12] = [
    ("no sign", |_, file| fs::write(file, format!("A=1\n\n{SECRET}\n")).unwrap(), "line 3: it has no '='"),
    (
        "no name",
        |_, file| fs::write(file, format!("A=1\n+{SECRET}={SECRET}\n")).unwrap(),
        "line 2: what is before the '='",
    ),
    ("blanks", |_, file| fs::write(file, format!("A {SECRET} = 1\n")).unwrap(), "line 1: what is before the '='"),
    ("yaml", |_, file| fs::write(file, format!("A: {SECRET}=\n")).unwrap(), "line 1: what is before the '='"),
    ("open", |_, file| fs::write(file, format!("A='{SECRET}\nB=1\n")).unwrap(), "line 1: its quote is not closed"),
    ("rest", |_, file| fs::write(file, format!("#\n#\n#\nA=\"x\"{SECRET}\n")).unwrap(), "line 4: something follows"),
    ("nul", |_, file| fs::write(file, format!("A=1\nB={SECRET}\0\n")).unwrap(), "line 2: it holds a NUL byte"),
    ("long", |_, file| fs::write(file, format!("A={SECRET}\n").repeat(100_000)).unwrap(), "it is longer than 1 MiB"),
    (
        "pipe",
        |_, file| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "it is a pipe, which cannot be read again at the next start; want a regular file",
    ),
    ("directory", |_, file| fs::create_dir(file).unwrap(), "it is a directory; want a file"),
    ("nothing", |_, _| (), "cannot be read: no such file or directory"),
    ("loop", |_, file| symlink(file.file_name().unwrap(), file).unwrap(), "cannot be read: too many symbolic links"),
];

fn clear(file: &Path) {
    if file.is_dir() && !file.is_symlink() {
        fs::remove_dir(file).unwrap();
    } else if file.symlink_metadata().is_ok() {
        fs::remove_file(file).unwrap();
    }
}

/// Options of which hupwrap makes something.
const MADE: [&str; 8] =
    ["--listen", "unix:socket", "--listen", "tcp:127.0.0.1:0", "--status-file", "status", "--pidfile", "pid"];

#[track_caller]
fn nothing_is_made(dir: &Dir) {
    ["socket", "status", "pid", "started"].iter().for_each(|name| assert!(!dir.path().join(name).exists(), "{name}"));
}

#[test]
fn a_missing_workdir_is_found_before_anything_is_made() {
    let dir = Dir::new();
    let ended =
        Setup::new([&MADE[..], &["--workdir", "none", "--", "touch", "started"]].concat()).dir(dir.path()).end();
    let line = "hupwrap: --workdir 'none': no such file or directory\n";
    assert_eq!((ended.shell(), ended.stderr.as_str()), (125, line));
    nothing_is_made(&dir);
}

#[test]
fn a_broken_file_stops_the_first_start() {
    let dir = Dir::new();
    dir.file("good", format!("TOKEN={SECRET}\n"), 0o600);
    let file = dir.path().join("env");
    for (name, make, what) in BROKEN {
        clear(&file);
        make(&dir, &file);
        for options in [&[][..], &["--env-file", "good"], &MADE] {
            let options = [options, &["--env-file", "env", "--", "touch", "started"]].concat();
            let ended = Setup::new(options).dir(dir.path()).end();
            assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{name}: {ended:?}");
            assert!(
                ended.stderr.starts_with(&format!("hupwrap: --env-file 'env': {what}")),
                "{name}: {}",
                ended.stderr
            );
            assert_eq!(ended.stderr.lines().count(), 1, "{name}: {}", ended.stderr);
            assert!(!ended.stderr.contains(SECRET), "{name}: {}", ended.stderr);
            nothing_is_made(&dir);
        }
    }
}

#[test]
fn a_broken_file_refuses_a_hup_and_a_mended_one_does_not() {
    for options in ACTIONS {
        let dir = Dir::new();
        let file = dir.file("env", format!("TOKEN={SECRET}\nA=1\n"), 0o600);
        let rest = args([&"--env-file", &"env", &"--", &puppet()]);
        let mut run = Setup::new([words(options), rest].concat()).dir(dir.path()).start();
        let (_, child) = run.ready();
        wait_until("hupwrap waits", || is_at_rest(run.pid));
        let fds = open_fds(run.pid);
        for (name, make, what) in BROKEN {
            clear(&file);
            make(&dir, &file);
            let before = run.stderr().len();
            run.kill("HUP");
            wait_until("the HUP is answered", || run.stderr()[before..].ends_with('\n'));
            let line = run.stderr()[before..].to_owned();
            let want = format!("hupwrap: {} refused, nothing was touched: --env-file 'env': {what}", options[1]);
            assert!(line.starts_with(&want) && line.lines().count() == 1, "{options:?} {name}: {line}");
            assert_eq!(children(run.pid), [child], "{name}");
        }
        assert!(open_fds(run.pid) <= fds, "{options:?}");
        kill(child, "USR1");
        run.line("got USR1");
        assert_eq!(run.stdout().matches("got").count(), 1, "{}", run.stdout());
        clear(&file);
        dir.file("env", format!("TOKEN={SECRET}\nA=2\n"), 0o600);
        run.kill("HUP");
        let (generation, new) = run.ready();
        assert_eq!((generation, environ(new)["A"].as_str(), environ(new)["TOKEN"].as_str()), (2, "2", SECRET));
        let ended = run.stop();
        assert_eq!(ended.shell(), 0);
        assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
    }
}

#[test]
fn a_file_that_breaks_after_the_check_is_tried_again() {
    let dir = Dir::new();
    dir.file("env", "A=1\n", 0o600);
    let rest = args([&"--env-file", &"env", &"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]);
    let mut run = Setup::new(rest).dir(dir.path()).start();
    let (_, child) = run.ready();
    run.kill("HUP");
    run.line("got TERM");
    dir.file("env", SECRET, 0o600);
    kill(child, "USR1");
    run.said(
        "--env-file 'env': line 1: it has no '='; want NAME=VALUE, or a comment that begins with '#'; trying again in",
    );
    dir.file("env", "A=2\n", 0o600);
    let (_, child) = run.ready();
    assert_eq!(environ(child)["A"], "2");
    kill(child, "USR1");
    let ended = run.end();
    assert_eq!(ended.shell(), 0);
    assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
}

#[test]
fn what_nobody_may_not_read() {
    const NAME: &str = "what_nobody_may_not_read";
    if !nix::unistd::geteuid().is_root() {
        return skipped(NAME, "root, to become nobody");
    }
    let as_nobody = |setup: Setup| setup.with(|command| _ = command.uid(65534).gid(65534));
    let mut asked = std::process::Command::new(hupwrap());
    if !asked.arg("--version").uid(65534).gid(65534).output().is_ok_and(|done| done.status.success()) {
        return skipped(NAME, "a hupwrap that nobody may run");
    }
    let dir = Dir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.file("env", format!("A={SECRET}\n"), 0o644);
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let options = args([&"--env-file", &file, &"--workdir", &closed, &"--", &"sleep", &"1000"]);
    let setup = || as_nobody(Setup::new(&options));
    let run = setup().start();
    let child = sleeper(run.pid, &[]);
    for (path, mode, what) in
        [(&file, 0o600, "cannot be read: permission denied"), (&closed, 0o700, "permission denied")]
    {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        run.kill("HUP");
        run.said("restart refused, nothing was touched: --");
        run.said(&format!("'{}': {what}\n", path.display()));
        assert_eq!(children(run.pid), [child]);
        let ended = setup().end();
        assert_eq!(ended.shell(), 125);
        assert!(ended.stderr.ends_with(&format!("'{}': {what}\n", path.display())), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1);
        fs::set_permissions(path, before).unwrap();
    }
    let child = next(&run, child);
    assert_eq!(environ(child)["A"], SECRET);
    assert!(!run.stop().stderr.contains(SECRET));
}

#[test]
fn a_moved_link_leads_to_the_next_release() {
    for options in ACTIONS {
        let dir = Dir::new();
        for release in ["1", "2", "3", "4"] {
            sleeps(&dir.path().join(release).join("bin/app"));
            fs::write(dir.path().join(release).join("env"), format!("RELEASE={release}\n")).unwrap();
        }
        let link = dir.path().join("current");
        point(&link, "1");
        // One of them relative to hupwrap's own directory, in which the env file is looked up too.
        for workdir in [link.to_str().unwrap(), "current"] {
            point(&link, "1");
            let rest = words(&["--workdir", workdir, "--env-file", "current/env", "--", "bin/app", "1000"]);
            let setup = Setup::new([words(options), rest].concat()).dir(dir.path());
            let run = setup.env("PWD", dir.path()).start();
            let mut child = sleeper_called("app", run.pid, &[]);
            for release in ["1", "2", "3", "4"] {
                assert_eq!(cwd(child), dir.path().join(release).canonicalize().unwrap(), "{options:?} {workdir}");
                let var = environ(child);
                assert_eq!(var["RELEASE"], release);
                // As `cd` would have set it.
                assert_eq!(Path::new(&var["PWD"]), link, "{options:?} {workdir}");
                assert_eq!(fs::read(format!("/proc/{child}/cmdline")).unwrap(), b"bin/app\x001000\x00");
                // hupwrap stays where it is.
                assert_eq!(cwd(run.pid), dir.path().canonicalize().unwrap());
                let Ok(following @ 2..=4) = release.parse::<u32>().map(|number| number + 1) else { continue };
                point(&link, &following.to_string());
                run.kill("HUP");
                let old = child;
                child = sleeper_called("app", run.pid, &[old]);
                wait_until("the old one is gone", || state(old).is_none());
            }
            assert_eq!(run.stop().shell(), 143);
        }
    }
}

#[test]
fn a_directory_that_is_not_there() {
    let dir = Dir::new();
    dir.file("file", "", 0o600);
    type Make = fn(&Path);
    let cases: [(&str, Make, &str); 4] = [
        ("removed", |_| (), "no such file or directory"),
        ("a file", |path| fs::write(path, "").unwrap(), "it, or a part of its path, is no directory"),
        ("a loop", |path| symlink("work", path).unwrap(), "too many symbolic links"),
        ("a dead link", |path| symlink("nowhere", path).unwrap(), "no such file or directory"),
    ];
    let work = dir.path().join("work");
    for options in ACTIONS {
        fs::create_dir(&work).unwrap();
        let rest = ["--workdir", "work", "--", "sleep", "1000"];
        let setup = || Setup::new([options, &rest].concat()).dir(dir.path());
        let run = setup().start();
        let child = sleeper(run.pid, &[]);
        fs::remove_dir(&work).unwrap();
        for (times, (name, make, what)) in (1..).zip(&cases) {
            make(&work);
            run.kill("HUP");
            run.said_times("refused, nothing was touched: --workdir 'work': ", times);
            assert!(run.stderr().ends_with(&format!("--workdir 'work': {what}\n")), "{name}: {}", run.stderr());
            assert_eq!(children(run.pid), [child], "{name}");
            let ended = setup().end();
            assert_eq!((ended.shell(), ended.stderr), (125, format!("hupwrap: --workdir 'work': {what}\n")), "{name}");
            clear(&work);
        }
        fs::create_dir(&work).unwrap();
        next(&run, child);
        assert_eq!(run.stop().shell(), 143);
        fs::remove_dir(&work).unwrap();
    }
}

#[test]
fn a_command_with_a_slash_is_looked_up_in_the_directory() {
    let dir = Dir::new();
    for release in ["1", "2"] {
        sleeps(&dir.path().join(release).join("bin/sleep"));
    }
    // One that is not meant.
    dir.file("sleep", "#!/bin/sh\nexit 9\n", 0o755);
    fs::create_dir(dir.path().join("bin")).unwrap();
    fs::copy(dir.path().join("sleep"), dir.path().join("bin/sleep")).unwrap();
    let link = dir.path().join("current");
    point(&link, "1");
    for options in ACTIONS {
        let rest = ["--workdir", "current", "--", "bin/sleep", "1000"];
        let run = Setup::new([options, &rest].concat()).dir(dir.path()).start();
        let child = sleeper(run.pid, &[]);
        // What is not in the next release is missed while nothing is touched.
        fs::create_dir_all(dir.path().join("3/bin")).unwrap();
        point(&link, "3");
        run.kill("HUP");
        run.said("refused, nothing was touched: bin/sleep: not found\n");
        fs::write(dir.path().join("3/bin/sleep"), "").unwrap();
        run.kill("HUP");
        run.said("refused, nothing was touched: bin/sleep: cannot be executed: permission denied; ");
        fs::remove_file(dir.path().join("3/bin/sleep")).unwrap();
        fs::create_dir(dir.path().join("3/bin/sleep")).unwrap();
        run.kill("HUP");
        run.said("refused, nothing was touched: bin/sleep: cannot be executed: it is a directory\n");
        assert_eq!(children(run.pid), [child]);
        fs::remove_dir_all(dir.path().join("3")).unwrap();
        point(&link, "2");
        let child = next(&run, child);
        assert_eq!(cwd(child), dir.path().join("2").canonicalize().unwrap());
        point(&link, "1");
        assert_eq!(run.stop().shell(), 143);
    }
    let end = |command: &str| {
        let ended = Setup::new(["--workdir", "current", "--", command]).dir(dir.path()).end();
        (ended.shell(), ended.stderr)
    };
    assert_eq!(end("./none"), (127, "hupwrap: ./none: not found\n".to_owned()));
    assert_eq!(end("./bin"), (126, "hupwrap: ./bin: cannot be executed: it is a directory\n".to_owned()));
}

#[test]
fn a_command_is_found_by_the_path_of_its_environment() {
    let dir = Dir::new();
    sleeps(&dir.path().join("one/app"));
    sleeps(&dir.path().join("two/app"));
    sleeps(&dir.path().join("work/rel/app"));
    let env = |path: &str| dir.file("env", format!("PATH={path}\n"), 0o600);
    let at = |name: &str| dir.path().join(name).display().to_string();
    env(&at("one"));
    let options = ["--env-file", "env", "--workdir", "work", "--", "app", "1000"];
    let run = Setup::new(options).dir(dir.path()).start();
    let mut child = sleeper_called("app", run.pid, &[]);
    let given = |pid: i32| environ(pid)["PATH"].clone();
    assert_eq!(given(child), at("one"));
    // Relative ones are meant from where the command will be.
    for path in [at("two"), format!("{}:rel", at("none")), ":/none".to_owned()] {
        if path.starts_with(':') {
            symlink("rel/app", dir.path().join("work/app")).unwrap();
        }
        env(&path);
        run.kill("HUP");
        child = sleeper_called("app", run.pid, &[child]);
        assert_eq!(given(child), path);
        assert!(fs::read(format!("/proc/{child}/cmdline")).unwrap().starts_with(b"app\0"));
    }
    for (path, what) in [("one", "app: not found"), ("", "app: not found")] {
        fs::remove_file(dir.path().join("work/app")).unwrap_or(());
        env(path);
        run.kill("HUP");
        run.said(&format!("refused, nothing was touched: {what}\n"));
        assert_eq!(children(run.pid), [child]);
        let ended = Setup::new(options).dir(dir.path()).end();
        assert_eq!((ended.shell(), ended.stderr), (127, format!("hupwrap: {what}\n")), "{path}");
    }
    assert_eq!(run.stop().shell(), 143);
}

#[test]
fn a_check_and_a_try_run_where_the_child_would() {
    let dir = Dir::new();
    let tool = "#!/bin/sh\necho \"$0 $1 $A $HUPWRAP_PID ${HUPWRAP_GENERATION-none} ${LISTEN_FDS-none} $(pwd -P)\" >> \"$LOG\"\n";
    for name in ["tools/tool", "1/bin/try", "2/bin/try"] {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        dir.program("draft2", tool);
        fs::rename(dir.path().join("draft2"), dir.path().join(name)).unwrap();
    }
    let log = dir.path().join("log");
    let link = dir.path().join("current");
    point(&link, "1");
    let path = format!("{}:/usr/bin:/bin", dir.path().join("tools").display());
    let env = |value: &str| dir.file("env", format!("PATH={path}\nA={value}\nLOG={}\n", log.display()), 0o600);
    env("first");
    let run = Setup::new(args([
        &"--env-file",
        &"env",
        &"--workdir",
        &"current",
        &"--check",
        &"tool 'a check'",
        &"--ready",
        &"cmd:bin/try try",
        &"--listen",
        &"tcp:127.0.0.1:0",
        &"--",
        &"sleep",
        &"1000",
    ]))
    .dir(dir.path())
    .start();
    let child = sleeper(run.pid, &[]);
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    let place = |release: &str| dir.path().join(release).canonicalize().unwrap().display().to_string();
    // Which child it is to look at.
    let tried =
        |value: &str, release: &str| format!("bin/try try {value} {} {release} none {}\n", run.pid, place(release));
    wait_until("it was tried", || lines().ends_with('\n'));
    assert_eq!(lines(), tried("first", "1"));
    fs::write(&log, "").unwrap();
    env("second");
    point(&link, "2");
    next(&run, child);
    let tool = dir.path().join("tools/tool").display().to_string();
    let checked = format!("{tool} a check second {} none none {}\n", run.pid, place("2"));
    wait_until("it was tried", || lines().lines().count() == 2);
    assert_eq!(lines(), checked + &tried("second", "2"));
    // What it cannot run in refuses as well.
    env("third");
    fs::remove_file(dir.path().join("tools/tool")).unwrap();
    run.kill("HUP");
    run.said("refused, nothing was touched: ");
    assert!(run.stderr().contains("tool: not found"), "{}", run.stderr());
    assert_eq!(run.stop().shell(), 143);
}

#[test]
fn generations_are_counted_over_reexecs_and_failures() {
    let dir = Dir::new();
    let env = dir.file("env", "", 0o600);
    let options = ["--on", "USR1=reexec", "--on", "USR2=replace", "--on", "RTMIN=upgrade", "--ready", "exec"];
    let setup = Setup::new([&options[..], &["--env-file", "env", "--", "sleep", "1000"]].concat()).dir(dir.path());
    let run = setup.start();
    let mut child = sleeper(run.pid, &[]);
    let (mut want, mut upgrades) = (1, 0);
    for signal in ["USR1", "USR2", "HUP", "RTMIN", "USR1", "HUP"] {
        let check = |child: i32, want: u64| {
            let var = environ(child);
            assert_eq!(var["HUPWRAP_GENERATION"], want.to_string(), "{signal}");
            assert_eq!(var["HUPWRAP_PID"], run.pid.to_string(), "{signal}");
            // Each once, whatever was handed from one hupwrap to the next.
            let environ = fs::read(format!("/proc/{child}/environ")).unwrap();
            let ours = |var: &&[u8]| var.starts_with(b"HUPWRAP_PID=") || var.starts_with(b"HUPWRAP_GENERATION=");
            assert_eq!(environ.split(|byte| *byte == 0).filter(ours).count(), 2, "{signal}");
        };
        check(child, want);
        upgrades += usize::from(["USR1", "RTMIN"].contains(&signal));
        run.kill(signal);
        if signal == "RTMIN" {
            run.said_times("took over", upgrades);
            assert_eq!(children(run.pid), [child]);
            // A refusal is no start.
            fs::write(&env, SECRET).unwrap();
            run.kill("HUP");
            run.said("refused");
            fs::write(&env, "").unwrap();
        } else {
            let old = child;
            child = sleeper(run.pid, &[old]);
            wait_until("the old one is gone", || state(old).is_none());
            want += 1;
            check(child, want);
        }
    }
    assert_eq!(run.stop().shell(), 143);
}
