//! What hostile processes, users, environments and files can do, and what they cannot: docs/SECURITY.md.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::fcntl::{Flock, FlockArg};

use crate::support::*;

/// What every handover has; the rest is the attacker's choice.
const STATE: &str = "writer hupwrap 9.9.9\nkind upgrade\ngeneration 1\nfailed_starts 0\nbegan 0\nshared_group false\n\
                     had_terminal false\nmask 0\nchld_ignored false\n";

/// A hupwrap that finds a state in its environment that no hupwrap has left. `$child` is a child of it that leads a
/// group.
fn forged(state: &str, options: &[&str]) -> Setup {
    let script = format!(
        "setsid sleep 1000 >/dev/null 2>&1 & child=$!; exec 9<<END\n{state}\nEND\nexport HUPWRAP_HANDOVER=$$:9; exec \"$@\""
    );
    Setup::of("sh", args([&"-c", &script, &"sh", &hupwrap()])).with(|command| {
        command.args(options);
    })
}

/// A process of somebody else, in a group of its own.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").process_group(0).spawn().unwrap())
    }

    fn is_untouched(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_forged_state_reaches_no_process_of_others() {
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    let own = "child_generation 1\nchild $child\n";
    for facts in [
        format!("child_generation 1\nchild {pid}\n"),
        format!("{own}child_group {pid}\n"),
        format!("{own}foreign_child {pid}\n"),
        format!("{own}announced {pid} 0\n"),
        format!("child_generation 1\nended_child {pid} code 3 0\nchild_group {pid}\nannounced {pid} 0\n"),
    ] {
        let options = ["-v", "--kill-mode", "group", "--stop-timeout", "0.1", "--", "sleep", "1000"];
        let run = forged(&format!("3\n{STATE}{facts}"), &options).start();
        // The one that has ended is the end of hupwrap.
        let ended = match facts.contains("ended_child") {
            true => run.end(),
            false => {
                run.said("took over");
                run.kill("USR1");
                run.stop()
            }
        };
        assert!(bystander.is_untouched(), "{facts}: {}", ended.stderr);
    }
}

#[test]
fn a_forged_state_removes_no_file_of_others() {
    let (dir, theirs) = (Dir::new(), Dir::new());
    let precious = theirs.file("precious", "1", 0o600);
    let found = fs::metadata(&precious).unwrap();
    let shown = precious.display();
    let datagrams = UnixDatagram::bind(dir.path().join("datagrams")).unwrap();
    let listener = UnixListener::bind(dir.path().join("listener")).unwrap();
    for (fd, facts) in [
        (datagrams.as_raw_fd(), format!("notify_socket 8\nnotify_path {shown}")),
        (listener.as_raw_fd(), format!("socket 8 unix {}.{}.600 x:{shown}", found.dev(), found.ino())),
    ] {
        let state = format!("3\n{STATE}child_generation 1\nchild $child\n{facts}");
        let setup = forged(&state, &["-v", "--", "sleep", "1000"]).with(|command| {
            before_exec(command, move || {
                // SAFETY: has no preconditions.
                unsafe { nix::libc::dup2(fd, 8) };
            });
        });
        let run = setup.start();
        run.said("took over");
        assert_eq!(run.stop().shell(), 143);
        assert!(precious.exists(), "{facts}");
    }
}

#[test]
fn a_forged_state_that_cannot_be_read_does_no_harm() {
    let whole = format!("3\n{STATE}child_generation 1\nchild $child\n");
    let too_new = whole.replacen('3', "4", 1);
    let truncated = &whole[..whole.find("shared_group").unwrap()];
    for (state, line) in [
        (too_new.as_str(), "its format is '4'"),
        (truncated, "it has no 'shared_group'"),
        ("moon\nwriter hupwrap 9.9.9", "its format is 'moon'"),
    ] {
        let run = forged(state, &["-v", "--", "sleep", "1000"]).start();
        run.said(line);
        run.said("took over");
        assert_eq!(run.stop().shell(), 143, "{state}");
    }
    // A pipe that no hupwrap has filled is nothing at all.
    let ended = forged("3\nchild 1", &["--", "sh", "-c", "echo $HUPWRAP_GENERATION"]).end();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("1\n", ""));
}

const NOBODY: u32 = 65534;
const USER: u32 = 65533;

fn is_root(test: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skipped(&format!("security::{test}"), "root");
    }
    is_root
}

/// A directory as /tmp is: everybody may make files there, and only their owners remove them.
fn sticky() -> Dir {
    let dir = Dir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    dir
}

/// A symbolic link of nobody's.
fn plant(target: &Path, link: &Path) {
    symlink(target, link).unwrap();
    lchown(link, Some(NOBODY), Some(NOBODY)).unwrap();
}

#[test]
fn a_hostile_environment_changes_nothing() {
    for (name, value) in [
        ("NOTIFY_SOCKET", "/nowhere/at/all"),
        ("NOTIFY_SOCKET", "@nobody listens at this name"),
        ("NOTIFY_SOCKET", "vsock:2:1"),
        ("NOTIFY_SOCKET", "\u{1b}]0;x\u{7}"),
        ("WATCHDOG_USEC", "-1"),
        ("WATCHDOG_USEC", "1"),
        ("WATCHDOG_USEC", "18446744073709551615"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_FDS", "2147483647"),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", "a\nchild 1:b"),
        ("XDG_RUNTIME_DIR", "../x\ny"),
        ("PWD", "/nowhere\u{1b}"),
        ("HUPWRAP_PID", "1"),
        ("HUPWRAP_GENERATION", "18446744073709551615"),
        ("TERM", "\u{1b}[31m"),
    ] {
        let script = "echo $HUPWRAP_GENERATION $((HUPWRAP_PID == PPID)); exit 5";
        let ended = Setup::new(["--ready", "exec", "--", "sh", "-c", script]).env(name, value).end();
        assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (5, "1 1\n", ""), "{name}={value}");
    }
}

#[test]
fn links_planted_in_a_directory_of_everybody_are_not_followed() {
    if !is_root("links_planted_in_a_directory_of_everybody_are_not_followed") {
        return;
    }
    for uid in [0, USER] {
        let (dir, home) = (sticky(), Dir::new());
        let program = home.hupwrap("hupwrap");
        let precious = home.file("precious", "1", 0o600);
        chown(&precious, Some(uid), None).unwrap();
        chown(home.path(), Some(uid), None).unwrap();
        for target in [precious.clone(), home.path().join("missing")] {
            let planted = dir.path().join("file");
            plant(&target, &planted);
            let shown = planted.display();
            for option in
                [format!("--pidfile={shown}"), format!("--status-file={shown}"), format!("--listen=unix:{shown}")]
            {
                let setup = Setup::of(&program, args([&option, &"--", &"echo", &"started"])).with(|command| {
                    command.uid(uid).gid(uid);
                });
                let ended = setup.end();
                assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{uid} {option}: {}", ended.stderr);
                assert!(ended.stderr.contains("symbolic link"), "{}", ended.stderr);
            }
            fs::remove_file(&planted).unwrap();
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "1");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }
}

#[test]
fn a_planted_draft_does_not_freeze_the_status_file() {
    if !is_root("a_planted_draft_does_not_freeze_the_status_file") {
        return;
    }
    if installed("setpriv").is_none() {
        return skipped("security::a_planted_draft_does_not_freeze_the_status_file", "setpriv");
    }
    for uid in [0, USER] {
        let (dir, home) = (sticky(), Dir::new());
        let program = home.hupwrap("hupwrap");
        // In the place of the file that is written before it is renamed; the name is known when the pid is.
        let script = format!(
            "mkdir .s.$$ && chown {NOBODY} .s.$$ && exec setpriv --reuid {uid} --regid {uid} --clear-groups \"$@\""
        );
        let hupwrap = args([&"-c", &script, &"sh", &program, &"--status-file", &"s", &"--", &puppet()]);
        let mut run = Setup::of("sh", hupwrap).dir(dir.path()).start();
        run.ready();
        let file = dir.path().join("s");
        let generation = |number: u64| {
            let part = format!("\"generation\":{number},");
            wait_until("it is written", || fs::read_to_string(&file).is_ok_and(|text| text.contains(&part)));
        };
        generation(1);
        run.kill("HUP");
        run.ready();
        generation(2);
        let ended = run.stop();
        assert!(!ended.stderr.contains("cannot be written"), "{}", ended.stderr);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

#[test]
fn nobody_leads_root_to_the_hupwrap_of_another() {
    if !is_root("nobody_leads_root_to_the_hupwrap_of_another") {
        return;
    }
    let dir = Dir::new();
    let at = |name: &str| dir.path().join(name);
    for name in ["run", "home"] {
        fs::create_dir(at(name)).unwrap();
    }
    chown(at("home"), Some(NOBODY), None).unwrap();
    let file = at("run/app");
    let mut run = Setup::new(args([&"--status-file", &file, &"--", &puppet()])).start();
    run.ready();
    // For the last time: another name of it must remain another name.
    wait_until("it is written", || fs::read_to_string(&file).is_ok_and(|text| text.contains("\"ready\":true")));
    // A directory on the way, a link to such a link, and another name of the file.
    plant(&at("run"), &at("home/run"));
    plant(&at("home/run/app"), &at("home/app"));
    let through_links = ["home/run/app", "home/app", "home/../home/run/app"];
    for form in ["--reload", "--stop"] {
        for path in through_links {
            let ended = Setup::new(args([&form, &at(path)])).end();
            assert_eq!(ended.shell(), 125, "{path}: {}", ended.stderr);
            assert!(
                ended.stderr.contains(&format!("it belongs to uid {NOBODY}, but pid {}", run.pid)),
                "{}",
                ended.stderr
            );
        }
        fs::hard_link(&file, at("home/hard")).unwrap();
        let ended = Setup::new(args([&form, &at("home/hard")])).end();
        assert_eq!(ended.shell(), 125, "{}", ended.stderr);
        assert!(ended.stderr.contains("it has a second name, a hard link"), "{}", ended.stderr);
        fs::remove_file(at("home/hard")).unwrap();
    }
    // A user does not believe the links of another one either.
    let program = dir.hupwrap("hupwrap");
    let setup = Setup::of(&program, args([&"--reload", &at("home/run/app")])).with(|command| {
        command.uid(USER).gid(USER);
    });
    let ended = setup.end();
    assert_eq!(ended.shell(), 125);
    assert!(ended.stderr.contains(&format!("a link to it belongs to uid {NOBODY}")), "{}", ended.stderr);
    // Root's own links lead anywhere.
    symlink(at("run"), at("link")).unwrap();
    assert_eq!(Setup::new(args([&"--reload", &at("link/app")])).end().shell(), 0);
    run.ready();
    let ended = run.stop();
    assert_eq!(ended.stdout.matches("got ").count(), 2, "{}", ended.stdout);
}

#[test]
fn who_can_read_a_pidfile_can_lock_a_stale_one() {
    let dir = Dir::new();
    let file = dir.path().join("pid");
    let lock = || Flock::lock(fs::File::open(&file).unwrap(), FlockArg::LockExclusiveNonblock);
    let mut run = Setup::new(args([&"--pidfile", &file, &"--", &puppet()])).start();
    run.ready();
    assert!(lock().is_err(), "as long as hupwrap runs, the lock is its own");
    run.kill("KILL");
    run.status();
    let taken = lock().unwrap_or_else(|_| panic!("hupwrap's lock has ended with it"));
    let ended = Setup::new(args([&"--pidfile", &file, &"--", &"true"])).end();
    assert_eq!(ended.shell(), 125);
    drop(taken);
    assert_eq!(Setup::new(args([&"--pidfile", &file, &"--", &"true"])).end().shell(), 0);
}

#[test]
fn files_have_their_modes_whatever_the_umask() {
    for (mask, pidfile) in [("0", 0o644), ("077", 0o600), ("022", 0o644)] {
        let dir = Dir::new();
        let script = format!("umask {mask}; exec \"$@\"");
        let options =
            ["--pidfile=p", "--status-file=s", "--listen=unix:k", "--listen=unix:m,mode=0600", "--ready=notify"];
        let setup = Setup::of("sh", args([&"-c", &script, &"sh", &hupwrap()])).dir(dir.path()).with(|command| {
            command.args(options).args(["--", "sh", "-c", "umask; echo $NOTIFY_SOCKET; exec sleep 1000"]);
        });
        let mut run = setup.start();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(run.line(""), format!("{mask:0>4}"));
        let notify = PathBuf::from(run.line(""));
        if notify.is_absolute() {
            assert_eq!((mode(&notify), mode(notify.parent().unwrap())), (0o222, 0o711));
        }
        let file = dir.path().join("s");
        wait_until("it is written", || file.exists());
        assert_eq!(mode(&file), 0o644);
        for (name, expected) in [("p", pidfile), ("k", 0o660), ("m", 0o600)] {
            assert_eq!(mode(&dir.path().join(name)), expected, "umask {mask}: {name}");
        }
        run.stop();
    }
}

#[test]
fn no_descriptor_of_hupwraps_leaks() {
    let count = "ls /proc/self/fd | wc -l";
    let bare: usize = Setup::of("sh", ["-c", count]).end().stdout.trim().parse().unwrap();
    let dir = Dir::new();
    dir.file("watched", "", 0o644);
    let check = format!("--check=sh -c 'echo check $({count}) >&2'");
    let options = ["--pidfile=p", "--status-file=s", "--listen=unix:k", "--listen=tcp:127.0.0.1:0", "--watch=watched"];
    let script = format!("echo child $({count}); exec \"$0\"");
    let mut run = Setup::new(options)
        .dir(dir.path())
        .with(|command| {
            command.args(["--on-hup=reexec", "--ready=notify", &check]);
            command.args(["--", "sh", "-c", &script]).arg(puppet());
        })
        .start();
    for generation in 1..=2 {
        // The two sockets, which it is to have.
        assert_eq!(run.line("child "), format!("child {}", bare + 2));
        let child = run.ready().1;
        notify::tell(child, "READY=1");
        if generation == 1 {
            let ready = || fs::read_to_string(dir.path().join("s")).is_ok_and(|text| text.contains("\"ready\":true"));
            wait_until("it is ready", ready);
            run.kill("HUP");
            run.said(&format!("check {bare}\n"));
        }
    }
    run.stop();
}

#[test]
fn what_an_env_file_says_stays_with_the_child() {
    let dir = Dir::new();
    let env = dir.file("env", "SECRET=hunter2\n", 0o600);
    let status = dir.path().join("status");
    let options = args([&"-v", &"--env-file", &env, &"--status-file", &status, &"--on-hup=reexec", &"--", &puppet()]);
    let mut run = Setup::new(options).start();
    run.ready();
    run.kill("HUP");
    let (generation, child) = run.ready();
    assert_eq!(generation, 2);
    let shows = |file: String| fs::read(file).unwrap().windows(7).any(|part| part == b"hunter2");
    assert!(shows(format!("/proc/{child}/environ")));
    for file in ["environ", "cmdline", "status"] {
        assert!(!shows(format!("/proc/{}/{file}", run.pid)), "{file}");
    }
    wait_until("it is written", || fs::read_to_string(&status).is_ok_and(|text| text.contains("\"generation\":2")));
    assert!(!shows(status.display().to_string()));
    fs::write(&env, "SECRET=\"hunter2\n").unwrap();
    run.kill("HUP");
    run.said("refused");
    let ended = run.stop();
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[test]
fn a_status_file_commands_no_terminal() {
    let dir = Dir::new();
    let file = dir.path().join("status");
    let mut run = Setup::new(args([&"--status-file", &file, &"--", &puppet()])).start();
    run.ready();
    let evil = "\\u001b]0;x\\u0007\\u009b31m\u{9b}31m\u{202e}\\n";
    wait_until("it is written", || fs::read_to_string(&file).is_ok_and(|text| text.contains("\"ready\":true")));
    let text = fs::read_to_string(&file).unwrap();
    let forged = text
        .replace("\"state\":\"running\"", &format!("\"state\":\"{evil}\""))
        .replace("\"listen\":[]", &format!("\"listen\":[{{\"name\":\"{evil}\",\"address\":\"{evil}\",\"fd\":3}}]"));
    assert_eq!(forged.matches("31m").count(), 6);
    let forged = dir.file("forged", forged, 0o644);
    let ended = Setup::new(args([&"--status", &forged])).end();
    let said = ended.stdout + &ended.stderr;
    assert_eq!(said.matches("31m").count(), 6, "{said}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{said:?}");
    run.stop();
}

#[test]
fn another_listener_answers_for_the_child() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let ready = format!("tcp:{}", stranger.local_addr().unwrap());
    let run = Setup::new(["-v", "--ready", &ready, "--", "sleep", "1000"]).start();
    run.said("is ready");
    run.stop();
}

#[test]
fn hupwrap_drops_no_privileges() {
    let ids = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status";
    let bare = Setup::of("sh", ["-c", ids]).end();
    let ended = Setup::new(["--", "sh", "-c", ids]).end();
    assert_eq!((ended.shell(), ended.stdout), (0, bare.stdout));
}

/// Each line of the page names the tests that prove it.
#[test]
fn the_page_names_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/SECURITY.md")).unwrap();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| test |")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(tests.starts_with('`') && tests.contains("::"), "no test: {row}");
    }
    let names: Vec<_> = page.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit_once("::")).collect();
    assert!(names.len() > 40, "only {} tests are named", names.len());
    for (module, test) in names.into_iter().filter(|(_, test)| test.contains('_')) {
        let path = module.replace("::", "/");
        let places = [format!("tests/{path}.rs"), format!("src/{path}.rs"), format!("src/{path}/tests.rs")];
        let texts = places.iter().filter_map(|place| fs::read_to_string(root.join(place)).ok());
        let head = format!("fn {test}(");
        let is_there = texts.into_iter().any(|text| {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            lines.windows(2).any(|pair| pair[0] == "#[test]" && pair[1].starts_with(&head))
        });
        assert!(is_there, "there is no test {module}::{test}");
    }
}
