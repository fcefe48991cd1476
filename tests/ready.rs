//! When a child is ready: the six kinds, in a restart and in a replace, and what comes in between.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::libc;

use crate::support::notify::*;
use crate::support::*;

const LOOPBACK: &str = "127.0.0.1";

/// Waits until so much time has passed, over which something was not to happen.
fn pass(began: Instant, time: Duration) {
    wait_until("the time has passed", || began.elapsed() > time);
}

/// Returns when hupwrap has acted upon everything that was told and sent before. The child is a puppet.
#[track_caller]
fn settled(run: &mut Run) {
    // Not held until the child is ready, as most signals are.
    run.kill("WINCH");
    run.line("got WINCH ");
}

fn fifo(dir: &Dir, name: &str) {
    nix::unistd::mkfifo(&dir.path().join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Shows that hupwrap takes nothing for ready yet.
#[track_caller]
fn not_yet(above: &mut Above, child: i32) {
    tell(child, "WATCHDOG=1");
    above.expect(&["WATCHDOG=1"]);
}

/// A port that nobody listens at, until somebody does by this socket.
struct Port(OwnedFd, u16);

impl Port {
    fn new() -> Self {
        // SAFETY: the structs are plain data, and ours; the descriptor is nobody else's.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            let mut size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            address.sin_family = libc::AF_INET as _;
            address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
            assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0);
            assert_eq!(libc::getsockname(fd, (&raw mut address).cast(), &raw mut size), 0);
            Self(OwnedFd::from_raw_fd(fd), u16::from_be(address.sin_port))
        }
    }

    fn listen(self) -> TcpListener {
        // SAFETY: has no preconditions.
        assert_eq!(unsafe { libc::listen(self.0.as_raw_fd(), 8) }, 0);
        self.0.into()
    }
}

// One by one.

#[test]
fn a_child_that_says_nothing_is_ready_when_it_executes() {
    for options in [&[][..], &["--ready", "exec"]] {
        let mut above = Above::new();
        let command = options.iter().map(std::ffi::OsString::from).chain(args([&"--", &puppet()]));
        let mut run = Setup::new(command).env("NOTIFY_SOCKET", above.name()).start();
        above.expect(&["READY=1"]);
        run.ready();
        // Nothing that it says changes that.
        tell(children(run.pid)[0], "READY=1");
        assert_eq!(run.stop().shell(), 0);
        above.expect(&["STOPPING=1"]);
    }
}

#[test]
fn a_newline_makes_ready_and_nothing_less_does() {
    // s6's notification-fd, whichever it is.
    for (fd, write) in [("3", "echo >&3"), ("7", "printf 'up\\nand more' >&7"), ("9", "echo >&9; exec 9>&-")] {
        let (mut above, dir) = (Above::new(), Dir::new());
        ["half", "whole"].into_iter().for_each(|name| fifo(&dir, name));
        let script = format!(
            "echo ready $HUPWRAP_GENERATION $$; read x < half; printf x >&{fd}; echo written; read x < whole; {write}; exec \"$0\""
        );
        let options = args([&"--ready", &format!("fd:{fd}"), &"--", &"sh", &"-c", &script, &puppet()]);
        let mut run = Setup::new(options).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
        for generation in 1..=2 {
            let (number, child) = run.ready();
            assert_eq!(number, generation);
            not_yet(&mut above, child);
            fs::write(dir.path().join("half"), "\n").unwrap();
            run.line("written");
            not_yet(&mut above, child);
            fs::write(dir.path().join("whole"), "\n").unwrap();
            above.expect(&["READY=1"]);
            run.ready();
            settled(&mut run);
            // Nobody waits for more.
            let ours = fds(std::process::id() as i32);
            let pipes = fds(run.pid).into_values().filter(|to| to.to_string_lossy().starts_with("pipe:"));
            assert_eq!(pipes.filter(|to| !ours.values().any(|ours| ours == to)).count(), 0);
            if generation == 1 {
                run.kill("HUP");
                above.expect(&["RELOADING"]);
            }
        }
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn a_child_that_closes_its_descriptor_or_writes_half_a_line_is_late() {
    for act in ["exec 3>&-", "printf x >&3", "printf x >&3; exec 3>&-", ":"] {
        let script = format!("{act}; echo ready 1 $$; exec sleep 1000");
        let ended = Setup::new(["--ready", "fd:3", "--ready-timeout", "300ms", "--", "sh", "-c", &script]).end();
        assert_eq!(ended.shell(), 124, "{act}");
        assert!(ended.stderr.contains("was not ready within 300ms; stopping it"), "{act}: {}", ended.stderr);
    }
}

#[test]
fn a_descriptor_that_cannot_be_had_is_an_error() {
    let path = Dir::new();
    let listen = format!("unix:{}/socket", path.path().display());
    let more = format!("unix:{}/more", path.path().display());
    let none = [&listen, &more];
    for (fd, sockets) in [("3", 1), ("3", 2), ("4", 2)] {
        let mut options = vec!["--ready".to_owned(), format!("fd:{fd}")];
        none.iter().take(sockets).for_each(|socket| options.extend(["--listen".to_owned(), (*socket).clone()]));
        let ended = Setup::new(options.iter().map(String::as_str).chain(["--", "echo", "started"])).end();
        assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{fd} {sockets}");
        assert!(ended.stderr.contains(&format!("fd:{fd}")), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    for fd in ["4", "9"] {
        let mut run = Setup::new(args([
            &"--listen",
            &listen,
            &"--ready",
            &format!("fd:{fd}"),
            &"--",
            &"sh",
            &"-c",
            &format!("echo >&{fd}; exec \"$0\""),
            &puppet(),
        ]))
        .start();
        run.ready();
        assert_eq!(run.stop().shell(), 0);
    }
    for fd in ["2", "0", "-1", "x", "", "3x", "99999999999999999999"] {
        let ended = Setup::new(["--ready", &format!("fd:{fd}"), "--", "echo", "started"]).end();
        assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{fd}");
        assert!(ended.stderr.contains(&format!("fd:{fd}")), "{}", ended.stderr);
    }
    // Beyond what the child may have.
    for (fd, limit) in [("62", "64"), ("1000000000", "1024"), ("2147483647", "64")] {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let ready = format!("fd:{fd}");
        let options = args([&"-c", &script, &"sh", &hupwrap(), &"--ready", &ready, &"--", &"echo", &"started"]);
        let ended = Setup::of("sh", options).end();
        assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{fd}");
        assert!(ended.stderr.contains(&ready) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
    let Some(bash) = installed("bash") else {
        return skipped("a_descriptor_that_cannot_be_had_is_an_error", "bash, for a descriptor of two figures");
    };
    let script = "ulimit -n 64; exec \"$@\"";
    let options = args([&"-c", &script, &"sh", &hupwrap(), &"--ready", &"fd:61", &"--ready-timeout", &"never", &"--"]);
    let command = args([&bash, &"-c", &"echo >&61; exec \"$0\"", &puppet()]);
    let mut above = Above::new();
    let mut run = Setup::of("sh", options.into_iter().chain(command)).env("NOTIFY_SOCKET", above.name()).start();
    above.expect(&["READY=1"]);
    run.ready();
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_delay_is_a_time_that_it_has_lived() {
    let mut above = Above::new();
    let options = args([&"--ready", &"delay:1200ms", &"--", &puppet()]);
    let began = Instant::now();
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    above.expect(&["READY=1"]);
    assert!(began.elapsed() >= Duration::from_millis(1200));
    run.ready();
    let began = Instant::now();
    run.kill("HUP");
    above.expect(&["RELOADING", "READY=1"]);
    assert!(began.elapsed() >= Duration::from_millis(1200));
    run.ready();
    run.stop();
    // One that ends before is not ready.
    let mut above = Above::new();
    let ended =
        Setup::new(["--ready", "delay:1h", "--", "sh", "-c", "exit 3"]).env("NOTIFY_SOCKET", above.name()).end();
    assert_eq!((ended.shell(), above.rest()), (3, vec![]));
    // No child could live that long in time.
    let ended = Setup::new(["--ready", "delay:1200ms", "--ready-timeout", "1.2", "--", "echo", "started"]).end();
    let line = "hupwrap: --ready-timeout '1.2': no child is ready in time; want more than the delay of --ready\n";
    assert_eq!((ended.shell(), ended.stdout.as_str(), ended.stderr.as_str()), (125, "", line));
}

#[test]
fn a_connection_that_is_accepted_makes_ready() {
    for host in [LOOPBACK, "localhost"] {
        let (mut above, port) = (Above::new(), Port::new());
        let options = args([&"--ready", &format!("tcp:{host}:{}", port.1), &"--", &puppet()]);
        let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
        let (_, child) = run.ready();
        not_yet(&mut above, child);
        let listener = port.listen();
        above.expect(&["READY=1"]);
        drop(listener.accept().unwrap());
        run.kill("HUP");
        above.expect(&["RELOADING", "READY=1"]);
        run.ready();
        // It is not tried again, nor kept.
        drop(listener.accept().unwrap());
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn a_port_that_nobody_opens_is_late() {
    let port = Port::new();
    let ready = format!("tcp:{LOOPBACK}:{}", port.1);
    let options = args([&"--ready", &ready, &"--ready-timeout", &"700ms", &"--", &puppet()]);
    let mut run = Setup::new(options).blocking(libc::SIGTERM).start();
    run.ready();
    run.line("got TERM");
    assert_eq!(run.end().shell(), 124);
}

#[test]
fn a_command_that_succeeds_makes_ready() {
    let (mut above, dir) = (Above::new(), Dir::new());
    let tries = dir.path().join("tries");
    let command = "cmd:sh -c 'echo x >> tries; test -e up'";
    let options = args([&"--ready", &command, &"--", &puppet()]);
    let began = Instant::now();
    let mut run = Setup::new(options).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    let count = || fs::read_to_string(&tries).unwrap_or_default().len() / 2;
    wait_until("it was tried a few times", || count() >= 3);
    // The time between them is a bound as well.
    assert!(began.elapsed() >= Duration::from_millis(2 * 250));
    not_yet(&mut above, child);
    fs::write(dir.path().join("up"), "").unwrap();
    above.expect(&["READY=1"]);
    let before = count();
    run.kill("HUP");
    above.expect(&["RELOADING", "READY=1"]);
    assert_eq!((run.ready().0, count()), (2, before + 1));
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_slow_command_is_waited_for_and_not_started_twice() {
    let (mut above, dir) = (Above::new(), Dir::new());
    fifo(&dir, "go");
    let command = "cmd:sh -c 'echo x >> tries; read x < go'";
    let options = args([&"--ready", &command, &"--", &puppet()]);
    let mut run = Setup::new(options).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    let began = Instant::now();
    wait_until("it is tried", || dir.path().join("tries").exists());
    pass(began, Duration::from_millis(600));
    not_yet(&mut above, child);
    fs::write(dir.path().join("go"), "\n").unwrap();
    above.expect(&["READY=1"]);
    assert_eq!(fs::read_to_string(dir.path().join("tries")).unwrap(), "x\n");
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_command_that_vanished_is_tried_until_it_is_there() {
    let (mut above, dir) = (Above::new(), Dir::new());
    // It is there when it is looked for at the start, and removes itself.
    let probe = dir.program("probe", "#!/bin/sh\nrm $0; exit 1\n");
    let options = args([&"--ready", &format!("cmd:{}", probe.display()), &"--", &puppet()]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    wait_until("it is tried", || !probe.exists());
    not_yet(&mut above, child);
    dir.program("probe", "#!/bin/sh\n");
    above.expect(&["READY=1"]);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn why_a_command_was_not_ready_is_said() {
    let dir = Dir::new();
    let probe = dir.program("probe", "#!/bin/sh\nrm $0; exit 1\n");
    let run = |probe: &str, options: &[&str]| {
        // The first try has long ended by then.
        let ready = format!("cmd:{probe}");
        let all = [&["--ready", &ready, "--ready-timeout", "6s"][..], options, &["--", "sleep", "1000"]].concat();
        let ended = Setup::new(all).dir(dir.path()).end();
        assert_eq!(ended.shell(), 124);
        ended.stderr
    };
    let fails = "sh -c 'exit 7'";
    let (plain, verbose, vanished, json, hangs) = std::thread::scope(|scope| {
        let hangs = scope.spawn(|| run("sleep 1000", &[]));
        let verbose = scope.spawn(|| run(fails, &["-v"]));
        let vanished = scope.spawn(|| run("./probe", &[]));
        let json = scope.spawn(|| run(fails, &["--log-format", "json"]));
        (
            run(fails, &[]),
            verbose.join().unwrap(),
            vanished.join().unwrap(),
            json.join().unwrap(),
            hangs.join().unwrap(),
        )
    });
    let line = "was not ready within 6s (cmd 'sh -c 'exit 7'' ended with 7); stopping it\n";
    assert!(plain.ends_with(line) && plain.lines().count() == 1, "{plain}");
    assert!(hangs.contains("was not ready within 6s (its try was still running after "), "{hangs}");
    // Each reason once, not each try.
    let tried = "hupwrap: generation 1 is not ready yet: cmd 'sh -c 'exit 7'' ended with 7\n";
    assert_eq!((verbose.matches(tried).count(), verbose.matches(line).count()), (1, 1), "{verbose}");
    assert!(vanished.contains("was not ready within 6s (cmd ./probe: not found); stopping it\n"), "{vanished}");
    assert!(!probe.exists());
    assert!(
        json.contains(r#""event":"not-ready","#) && json.contains(r#""reason":"cmd 'sh -c 'exit 7'' ended with 7""#),
        "{json}"
    );
}

#[test]
fn why_the_command_of_a_new_child_was_not_ready_is_said() {
    let dir = Dir::new();
    let probe = "cmd:sh -c 'exit $(($HUPWRAP_GENERATION - 1))'";
    let options = ["--on-hup", "replace", "--ready", probe, "--ready-timeout", "5s", "-v", "--status-file", "status"];
    let mut run =
        Setup::new(options.iter().map(OsString::from).chain(args([&"--", &puppet()]))).dir(dir.path()).start();
    run.ready();
    run.said("is ready\n");
    run.kill("HUP");
    run.said("the new puppet was not ready within 5s (cmd 'sh -c 'exit $(($HUPWRAP_GENERATION - 1))'' ended with 1)\n");
    let status = dir.path().join("status");
    wait_until("the reason is in the file", || fs::read_to_string(&status).unwrap().contains("ended with 1)"));
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_command_goes_with_the_generation_it_was_for() {
    // It has a child of its own.
    let command = "cmd:sh -c 'echo x >> tries; sleep 1000; true'";
    // By its own end, by a stop, by being late, and by HUP.
    for how in ["end", "stop", "late", "restart"] {
        let dir = Dir::new();
        let tries = dir.path().join("tries");
        let timeout = if how == "late" { "5s" } else { "never" };
        let options = args([&"--ready", &command, &"--ready-timeout", &timeout, &"--", &puppet(), &"exit=USR1:3"]);
        let mut run = Setup::new(options).dir(dir.path()).start();
        let (_, child) = run.ready();
        wait_until("it is tried", || run.family().len() >= 4 && tries.exists());
        let code = match how {
            "end" => {
                kill(child, "USR1");
                3
            }
            "stop" => {
                run.kill("TERM");
                0
            }
            "late" => 124,
            _ => {
                // It does not make the wait shorter, but it is taken up when the child ends.
                run.kill("HUP");
                settled(&mut run);
                kill(child, "USR1");
                assert_eq!(run.ready().0, 2);
                run.said("starting it again");
                wait_until("it is tried again", || fs::read_to_string(&tries).unwrap().len() == 4);
                wait_until("the one before is gone", || run.family().len() <= 4);
                run.kill("TERM");
                0
            }
        };
        assert_eq!(run.status().code(), Some(code), "{how}");
        wait_until("nothing is left", || run.family().is_empty());
    }
}

// In a replace.

/// A TCP socket of hupwrap's own takes connections for a child that is not ready. A UDP socket beside it takes none.
#[test]
fn a_socket_of_hupwraps_own_proves_nothing_if_it_takes_connections() {
    for (kind, status, said) in [("tcp", 125, "that is a socket of --listen, which takes connections"), ("udp", 0, "")]
    {
        let address = format!("{LOOPBACK}:{}", http::free_port());
        let (listen, ready) = (format!("{kind}:{address}"), format!("tcp:{address}"));
        let ended = Setup::new(["--on-hup", "replace", "--listen", &listen, "--ready", &ready, "--", "true"]).end();
        assert_eq!((ended.shell(), ended.stderr.contains(said)), (status, true), "{ended:?}");
    }
}

#[test]
fn a_replace_waits_for_each_kind() {
    for kind in ["exec", "notify", "fd:3", "delay:50ms", "tcp", "cmd:test -e up"] {
        let dir = Dir::new();
        fifo(&dir, "go");
        let port = Port::new();
        let number = port.1;
        let mut listener = None;
        let ready = if kind == "tcp" { format!("tcp:{LOOPBACK}:{number}") } else { kind.to_owned() };
        // The first one is to be ready at once.
        let script = "echo begun $HUPWRAP_GENERATION $$; test $HUPWRAP_GENERATION = 1 || read x < go; \
            if test -e /proc/self/fd/3; then echo >&3; fi; exec \"$0\"";
        let options = args([&"--on-hup", &"replace", &"--ready", &ready, &"--", &"sh", &"-c", &script, &puppet()]);
        let mut above = Above::new();
        let mut run = Setup::new(options).dir(dir.path()).env("NOTIFY_SOCKET", above.name()).start();
        let (_, old) = run.ready();
        let mut port = Some(port);
        let mut make_ready = |child: i32| match kind {
            "notify" => tell(child, "READY=1"),
            "tcp" => listener = listener.take().or_else(|| Some(port.take()?.listen())),
            "cmd:test -e up" => fs::write(dir.path().join("up"), "").unwrap(),
            _ => {}
        };
        make_ready(old);
        above.expect(&["READY=1"]);
        let _ = fs::remove_file(dir.path().join("up"));
        run.kill("HUP");
        above.expect(&["RELOADING"]);
        let begun = run.line("begun 2 ");
        let new = begun.rsplit(' ').next().unwrap().parse().unwrap();
        if ["notify", "fd:3", "cmd:test -e up"].contains(&kind) {
            not_yet(&mut above, new);
            assert!(is_alive(old), "{kind}");
        }
        fs::write(dir.path().join("go"), "\n").unwrap();
        make_ready(new);
        above.expect(&["READY=1"]);
        run.said(&format!("sh[{new}] is ready; stopping sh[{old}]"));
        wait_until("the old one is gone", || children(run.pid) == [new]);
        run.kill("TERM");
        assert!([0, 143].contains(&run.end().shell()), "{kind}");
    }
}

#[test]
fn only_its_own_word_makes_a_generation_ready() {
    let options =
        args([&"--on-hup", &"replace", &"--ready", &"notify", &"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]);
    let mut run = Setup::new(options).start();
    let (_, first) = run.ready();
    tell(first, "READY=1");
    settled(&mut run);
    let first_socket = socket_of(first).unwrap();
    run.kill("HUP");
    let (_, second) = run.ready();
    let second_socket = socket_of(second).unwrap();
    assert_ne!(first_socket, second_socket);
    for _ in 0..3 {
        tell(first, "READY=1\nMAINPID=1");
        settled(&mut run);
    }
    // A stranger sees a name, which is not the one that works.
    let shown = second_socket.rsplit_once('/').map(|(directory, _)| format!("{directory}/bound"));
    if let Some(shown) = shown {
        assert!(UnixDatagram::unbound().unwrap().connect(shown).is_err());
    }
    assert!(!run.stderr().contains("is ready;"), "{}", run.stderr());
    tell(second, "READY=1");
    run.said(&format!("puppet[{second}] is ready; stopping puppet[{first}]"));
    run.line("got TERM");
    // What the old one is told by its own socket is not for the third.
    kill(first, "USR1");
    wait_until("it is gone", || children(run.pid) == [second]);
    wait_until("its socket is gone", || send(&first_socket, b"READY=1", &[]).is_err());
    run.kill("HUP");
    let (generation, third) = run.ready();
    assert_eq!(generation, 3);
    tell(second, "READY=1");
    settled(&mut run);
    assert!(!run.stderr().contains(&format!("puppet[{third}] is ready")));
    run.kill("TERM");
    run.line("got TERM");
    run.line("got TERM");
    kill(second, "USR1");
    kill(third, "USR1");
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn one_that_ends_before_it_is_ready_is_not_there() {
    for (code, hint) in [(0, "does it go into the background?"), (3, "see --listen")] {
        let dir = Dir::new();
        fifo(&dir, "go");
        let script = format!(
            "test $HUPWRAP_GENERATION = 1 && exec \"$0\"; echo ready $HUPWRAP_GENERATION $$; read x < go; exit {code}"
        );
        // In a replace its status is nobody's.
        let options = args([&"--on-hup", &"replace", &"--ready", &"notify", &"--", &"sh", &"-c", &script, &puppet()]);
        let mut run = Setup::new(options).dir(dir.path()).start();
        let (_, old) = run.ready();
        tell(old, "READY=1");
        settled(&mut run);
        run.kill("HUP");
        run.ready();
        fs::write(dir.path().join("go"), "\n").unwrap();
        run.said("replace failed, the old one serves on: the new sh ended");
        run.said(hint);
        settled(&mut run);
        assert_eq!(children(run.pid), [old]);
        assert_eq!(run.stop().shell(), 0);
        // As the first one, or after a restart, its own status decides.
        let script = format!("exit {code}");
        let ended = Setup::new(["--ready", "notify", "--", "sh", "-c", &script]).end();
        assert_eq!((ended.shell(), ended.stderr.as_str()), (code, ""));
    }
}

// NOTIFY_SOCKET.

#[test]
fn systemd_notify_is_heard_and_answered() {
    if installed("systemd-notify").is_none() {
        return skipped("systemd_notify_is_heard_and_answered", "systemd-notify(1)");
    }
    // With BARRIER=1, which it waits for up to 5 s and then fails; without, so that it is gone at once; by what the
    // child starts, in a session of its own; by what it leaves behind.
    for script in [
        "systemd-notify --ready --status=up || exit 9; echo notified",
        "systemd-notify --no-block --ready; echo notified",
        "sh -c '(systemd-notify --no-block --ready &)'; echo notified",
        "setsid sh -c 'systemd-notify --ready; echo notified; exec sleep 1000' &",
        "sh -c '(setsid systemd-notify --ready && echo notified &)'",
    ] {
        let mut above = Above::new();
        let script = format!("{script}\nexec \"$0\"");
        let options = args([&"--ready", &"notify", &"--", &"sh", &"-c", &script, &puppet()]);
        let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
        for _ in 0..2 {
            run.line("notified");
            while above.next() != "READY=1" {}
            run.kill("HUP");
            while above.next() != "RELOADING" {}
        }
        run.kill("TERM");
        assert!([0, 143].contains(&run.end().shell()), "{script}");
    }
}

#[test]
fn a_client_library_is_heard() {
    let Some(python) = installed("python3") else {
        return skipped("a_client_library_is_heard", "python3");
    };
    let mut above = Above::new();
    let script = "import os, socket\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        n = os.environ['NOTIFY_SOCKET']\n\
        s.connect('\\0' + n[1:] if n[0] == '@' else n)\n\
        s.sendall(b'READY=1\\nSTATUS=here\\nMAINPID=%d' % os.getpid())\n\
        os.execv(os.environ['PUPPET'], ['puppet'])\n";
    let options = args([&"--ready", &"notify", &"--", &python, &"-c", &script]);
    let mut run = Setup::new(options).env("PUPPET", puppet()).env("NOTIFY_SOCKET", above.name()).start();
    above.expect(&["STATUS=here", "READY=1"]);
    run.ready();
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_child_that_has_become_nobody_is_heard() {
    let test = "a_child_that_has_become_nobody_is_heard";
    if !nix::unistd::geteuid().is_root() {
        return skipped(test, "the right to become nobody");
    }
    if installed("setpriv").is_none() || installed("systemd-notify").is_none() {
        return skipped(test, "setpriv(1) and systemd-notify(1)");
    }
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c"];
    let script = "systemd-notify --ready && echo notified $(id -u); exec sleep 1000";
    let mut above = Above::new();
    let options = ["--ready", "notify", "--"].into_iter().chain(nobody).chain([script]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    above.expect(&["READY=1"]);
    run.line("notified 65534");
    assert_eq!(run.stop().shell(), 143);
}

#[test]
fn odd_datagrams_are_survived_and_what_is_known_in_them_is_used() {
    let mut above = Above::new();
    let mut run =
        Setup::new(args([&"--ready", &"notify", &"--", &puppet()])).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    let long = |length: usize| vec![b'x'; length];
    let odd: [&[u8]; 10] = [
        b"",
        b"\0\0\n=\n==\nREADY=\nREADY=2\nREADY=1 \n",
        b"\xff\xfe\nREADY\xff=1",
        &[b"STATUS=", &long(1 << 16)[..]].concat(),
        &long(1 << 16),
        &long((1 << 16) + 1),
        &[&long(1 << 16)[..], b"\nREADY=1"].concat(),
        b"EXTEND_TIMEOUT_USEC=99999999999999999999999\nEXTEND_TIMEOUT_USEC=-1\nWATCHDOG=2",
        b"RELOADING=1\nMONOTONIC_USEC=1\nSTOPPING=1\nMAINPID=1\nFDSTORE=1\nNOTIFYACCESS=all\nWATCHDOG_USEC=1",
        b"ready=1\n READY=1",
    ];
    for datagram in odd {
        tell(child, datagram);
    }
    settled(&mut run);
    assert_eq!(above.rest(), [""; 0]);
    let datagram = [&b"X=\xff\xfe\nSTATUS=\xc3\xa4 and \xff\nREADY=1\nUNKNOWN=1\nY="[..], &long(1 << 15)].concat();
    tell(child, datagram);
    above.expect(&["STATUS=\u{e4} and \u{fffd}", "READY=1"]);
    tell(child, "EXTEND_TIMEOUT_USEC=18446744073709551615");
    above.expect(&["EXTEND_TIMEOUT_USEC=18446744073709551615"]);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn no_descriptor_that_is_sent_stays_open() {
    let mut run = Setup::new(args([&"--ready", &"notify", &"--", &puppet()])).start();
    let (_, child) = run.ready();
    tell(child, "READY=1");
    settled(&mut run);
    let before = open_fds(run.pid);
    let socket = socket_of(child).unwrap();
    for count in [1, 2, 100, 253] {
        let (ours, theirs) = pipe();
        send(&socket, b"FDSTORE=1\nFDNAME=x", &vec![theirs.as_raw_fd(); count]).unwrap();
        drop(theirs);
        closed(&ours);
    }
    settled(&mut run);
    assert_eq!(open_fds(run.pid), before);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_flood_keeps_hupwrap_from_nothing() {
    let (short, long) = (b"STATUS=again and again".to_vec(), [b"STATUS=".to_vec(), vec![b'x'; 60_000]].concat());
    for (message, heard) in [(short.clone(), true), (short, false), (long, true), (b"READY=1".to_vec(), false)] {
        // The service manager may read all of it, or nothing.
        let above = Above::new();
        let mut setup = Setup::new(args([&"--ready", &"notify", &"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]));
        if heard {
            setup = setup.env("NOTIFY_SOCKET", above.name());
        }
        let mut run = setup.start();
        let (_, child) = run.ready();
        tell(child, "READY=1");
        let ended = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (message, ended, socket) = (message.clone(), ended.clone(), socket_of(child).unwrap());
                std::thread::spawn(move || {
                    let sender = UnixDatagram::unbound().unwrap();
                    let mut count = 0_u64;
                    while !ended.load(Ordering::Relaxed) && sender.send_to(&message, &socket).is_ok() {
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut slowest = Duration::ZERO;
        for _ in 0..500 {
            let began = Instant::now();
            settled(&mut run);
            slowest = slowest.max(began.elapsed());
        }
        // It is noticed that the child was told to end, and that it did.
        let began = Instant::now();
        run.kill("TERM");
        run.line("got TERM");
        kill(child, "USR1");
        assert_eq!(run.status().code(), Some(0));
        let stopped = began.elapsed();
        ended.store(true, Ordering::Relaxed);
        let sent: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        eprintln!("{sent} datagrams of {} bytes; a signal took up to {slowest:?}, the stop {stopped:?}", message.len());
        // Of a minute that a broken one would take there is nothing to be seen.
        assert!(slowest < Duration::from_secs(20) && stopped < Duration::from_secs(20), "{slowest:?} {stopped:?}");
    }
}

// Deadlines.

#[test]
fn the_first_child_that_is_late_ends_hupwrap_and_leaves_nothing() {
    for worker in ["", "\"$0\" leave=TERM >/dev/null & "] {
        let script = format!("{worker}echo ready 1 $$; exec \"$0\" ignore=TERM exit=USR1:7");
        let options =
            args([&"--ready", &"notify", &"--ready-timeout", &"300ms", &"--", &"sh", &"-c", &script, &puppet()]);
        let mut above = Above::new();
        let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).blocking(libc::SIGTERM).start();
        let (_, child) = run.ready();
        // Now it is the puppet; in between it has no environment.
        run.ready();
        let socket = socket_of(child);
        run.line("got TERM");
        run.said(&format!("sh[{child}] was not ready within 300ms; stopping it"));
        kill(child, "USR1");
        assert_eq!(run.status().code(), Some(124));
        assert!(run.family().is_empty());
        assert!(socket.is_some_and(|socket| !std::path::Path::new(&socket).parent().unwrap().exists()));
        assert!(!above.rest().contains(&"READY=1".to_owned()));
    }
    // One that is killed for it as well.
    let options = args([
        &"--ready",
        &"notify",
        &"--ready-timeout",
        &"200ms",
        &"--stop-timeout",
        &"200ms",
        &"--",
        &puppet(),
        &"ignore=TERM",
    ]);
    let ended = Setup::new(options).blocking(libc::SIGTERM).end();
    assert_eq!(ended.shell(), 124);
    assert!(ended.stderr.contains("sending KILL"), "{}", ended.stderr);
}

/// Only the first one says that it is ready, by itself.
const FIRST_IS_READY: &str = "test $HUPWRAP_GENERATION = 1 && exec \"$0\" notify; exec \"$0\"";

#[test]
fn a_restart_that_is_late_fails() {
    let options =
        args([&"--ready", &"notify", &"--ready-timeout", &"4s", &"--", &"sh", &"-c", &FIRST_IS_READY, &puppet()]);
    let mut run = Setup::new(options).blocking(libc::SIGTERM).start();
    run.ready();
    run.kill("HUP");
    assert_eq!(run.ready().0, 2);
    let ended = run.end();
    assert_eq!(ended.shell(), 124);
    assert!(ended.stderr.contains("restart failed: the new sh was not ready within 4s"), "{}", ended.stderr);
}

#[test]
fn a_hup_to_a_late_child_and_what_follows_are_said() {
    let options = args([&"--ready", &"notify", &"--ready-timeout", &"500ms", &"--stop-timeout", &"1h"]);
    let command = args([&"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]);
    let mut run = Setup::new([options, command].concat()).start();
    let (_, child) = run.ready();
    // Before it is late, or while it is stopped because of that.
    run.kill("HUP");
    run.said("was not ready within 500ms; stopping it\n");
    run.said("starting puppet again without a delay, as was asked\n");
    kill(child, "USR1");
    let (generation, child) = run.ready();
    assert_eq!(generation, 2);
    run.kill("TERM");
    run.line("got TERM");
    kill(child, "USR1");
    run.end();
}

#[test]
fn a_replace_that_is_late_fails_and_the_old_one_serves() {
    let options = args([&"--on-hup", &"replace", &"--ready", &"notify", &"--ready-timeout", &"4s"]);
    let command = args([&"--", &"sh", &"-c", &FIRST_IS_READY, &puppet()]);
    let mut run = Setup::new([options, command].concat()).blocking(libc::SIGTERM).start();
    let (_, old) = run.ready();
    for generation in 2..=3 {
        run.kill("HUP");
        let (number, new) = run.ready();
        assert_eq!(number, generation);
        run.said_times(
            "replace failed, the old one serves on: the new sh was not ready within 4s",
            generation as usize - 1,
        );
        run.line("got TERM");
        wait_until("the new one is gone", || state(new).is_none());
        assert_eq!(children(run.pid), [old]);
    }
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn never_is_a_timeout() {
    let mut above = Above::new();
    let options = args([&"--ready", &"notify", &"--ready-timeout", &"never", &"--", &puppet()]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    not_yet(&mut above, child);
    tell(child, "READY=1");
    above.expect(&["READY=1"]);
    assert_eq!(run.stop().shell(), 0);
    let ended = Setup::new(["--ready", "notify", "--ready-timeout", "soon", "--", "true"]).end();
    assert_eq!(ended.shell(), 125);
}

#[test]
fn a_child_may_ask_for_more_time_to_be_ready() {
    let mut above = Above::new();
    let options = args([&"--ready", &"notify", &"--ready-timeout", &"5s", &"--", &puppet()]);
    let began = Instant::now();
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    tell(child, "EXTEND_TIMEOUT_USEC=100000000");
    // Less than that takes nothing away.
    tell(child, "EXTEND_TIMEOUT_USEC=1");
    pass(began, Duration::from_millis(5500));
    above.expect(&["EXTEND_TIMEOUT_USEC=100000000", "EXTEND_TIMEOUT_USEC=1"]);
    not_yet(&mut above, child);
    tell(child, "READY=1");
    above.expect(&["READY=1"]);
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (0, ""));
}

#[test]
fn a_child_may_ask_for_more_time_to_end() {
    // With a NOTIFY_SOCKET because of its readiness, or because of one above. At the same time.
    std::thread::scope(|scope| {
        for ready in ["notify", "exec"] {
            scope.spawn(move || a_child_asks_for_more_time_to_end(ready));
        }
        for kind in ["stop", "crash"] {
            scope.spawn(move || what_it_left_behind_asks_for_more_time_to_end(kind));
        }
    });
}

fn what_it_left_behind_asks_for_more_time_to_end(kind: &str) {
    let dir = Dir::new();
    fifo(&dir, "fifo");
    let script = format!("{} ignore=TERM exit=USR1:0 & read end < fifo; exit 3", puppet().display());
    let options = args([&"--restart", &"on-failure", &"--ready", &"notify", &"--stop-timeout", &"5s"]);
    let command = args([&"--restart-delay", &"1ms", &"--", &"sh", &"-c", &script]);
    let mut run = Setup::new([options, command].concat()).dir(dir.path()).start();
    let (_, worker) = run.ready();
    tell(worker, "READY=1");
    let began = Instant::now();
    match kind {
        "stop" => run.kill("TERM"),
        _ => fs::write(dir.path().join("fifo"), "end\n").unwrap(),
    }
    run.line("got TERM");
    tell(worker, "EXTEND_TIMEOUT_USEC=100000000");
    pass(began, Duration::from_millis(5500));
    kill(worker, "USR1");
    let stderr = match kind {
        "stop" => {
            let ended = run.end();
            assert_eq!(ended.shell(), 143);
            ended.stderr
        }
        _ => {
            assert_eq!(run.ready().0, 2);
            run.stderr()
        }
    };
    assert!(!stderr.contains("KILL"), "{kind}: {stderr}");
}

fn a_child_asks_for_more_time_to_end(ready: &str) {
    let above = Above::new();
    let options =
        args([&"--ready", &ready, &"--stop-timeout", &"5s", &"--", &puppet(), &"ignore=TERM", &"exit=USR1:0"]);
    let mut run = Setup::new(options).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    tell(child, "READY=1");
    settled(&mut run);
    let began = Instant::now();
    run.kill("HUP");
    run.line("got TERM");
    tell(child, "EXTEND_TIMEOUT_USEC=100000000");
    pass(began, Duration::from_millis(5500));
    settled(&mut run);
    kill(child, "USR1");
    let (generation, child) = run.ready();
    assert_eq!(generation, 2);
    assert!(!run.stderr().contains("KILL"), "{}", run.stderr());
    // Not for ever: this much from when it was said.
    run.kill("TERM");
    run.line("got TERM");
    tell(child, "EXTEND_TIMEOUT_USEC=5100000");
    assert_eq!(run.end().shell(), 137);
}

#[test]
fn a_stop_while_readiness_is_waited_for_is_a_stop() {
    for ready in ["notify", "fd:3", "delay:1h", "cmd:false"] {
        let mut run = Setup::new(args([&"--ready", &ready, &"--", &puppet(), &"exit=TERM:7"])).start();
        run.ready();
        run.kill("TERM");
        run.line("got TERM");
        let ended = run.end();
        assert_eq!((ended.shell(), ended.stderr.as_str()), (7, ""), "{ready}");
    }
    // Both, where there are two.
    let mut run = Setup::new(args([&"--on-hup", &"replace", &"--ready", &"notify", &"--", &puppet()])).start();
    let (_, old) = run.ready();
    tell(old, "READY=1");
    settled(&mut run);
    run.kill("HUP");
    let (_, new) = run.ready();
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stdout.matches("got TERM").count()), (0, 2));
    assert!(!is_alive(old) && !is_alive(new));
}

#[test]
fn a_hup_while_readiness_is_waited_for_comes_after_it() {
    for action in ["restart", "replace"] {
        let options = args([&"--on-hup", &action, &"--ready", &"notify", &"--", &puppet()]);
        let mut run = Setup::new(options).start();
        let (_, first) = run.ready();
        for _ in 0..3 {
            run.kill("HUP");
            settled(&mut run);
        }
        assert_eq!(children(run.pid), [first], "{action}");
        tell(first, "READY=1");
        // One more for all of them.
        let (generation, second) = run.ready();
        assert_eq!(generation, 2, "{action}");
        tell(second, "READY=1");
        wait_until("the first one is gone", || children(run.pid) == [second]);
        settled(&mut run);
        assert_eq!(run.stop().stdout.matches("ready ").count(), 2, "{action}");
    }
}

#[test]
fn a_socket_goes_on_over_an_upgrade() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let options = args([
        &"--on-hup",
        &"upgrade",
        &"--stop-timeout",
        &"5s",
        &"--ready",
        &"notify",
        &"--",
        &puppet(),
        &"ignore=TERM",
        &"exit=USR1:0",
    ]);
    let mut run = Setup::of(&program, options).start();
    let (_, child) = run.ready();
    tell(child, "READY=1");
    settled(&mut run);
    for count in 1..=5 {
        run.kill("HUP");
        run.said_times("took over", count);
        // It is read, and acted upon.
        tell(child, "READY=1\nSTATUS=up");
    }
    let before = open_fds(run.pid);
    run.kill("HUP");
    run.said_times("took over", 6);
    settled(&mut run);
    assert_eq!(open_fds(run.pid), before);
    let began = Instant::now();
    run.kill("TERM");
    run.line("got TERM");
    tell(child, "EXTEND_TIMEOUT_USEC=100000000");
    pass(began, Duration::from_millis(5500));
    let socket = socket_of(child).unwrap();
    kill(child, "USR1");
    assert_eq!(run.end().shell(), 0);
    assert!(!std::path::Path::new(&socket).parent().unwrap().exists());
}
