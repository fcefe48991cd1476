//! Sockets that outlive the child: who gets which, what is never lost, and what is said where one cannot be had.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::libc;

use crate::support::seen::*;
use crate::support::*;

/// The program that serves what it is given; see tests/fixtures/socketeer.rs.
fn socketeer() -> PathBuf {
    puppet().with_file_name("socketeer")
}

/// The address that a socket with port 0 got. `option` is as the option says it.
#[track_caller]
fn address(run: &Run, option: &str) -> String {
    let said = format!("hupwrap: --listen '{option}' is at ");
    run.said(&said);
    let all = run.stderr();
    let line = all.lines().find_map(|line| line.strip_prefix(&said)).unwrap();
    line.split_once(':').unwrap().1.to_owned()
}

/// What a server answers: its generation and its pid.
#[track_caller]
fn answer(mut connection: impl Read) -> (u64, i32) {
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    let (generation, pid) = text.split_once(' ').unwrap_or_else(|| panic!("it answered {text:?}"));
    (generation.parse().unwrap(), pid.parse().unwrap())
}

/// What a child gets of the sockets: numbers and inodes of all descriptors but the standard ones.
fn sockets(pid: i32) -> BTreeMap<u32, PathBuf> {
    fds(pid).into_iter().filter(|(fd, _)| *fd > 2).collect()
}

/// How many descriptors tell of an exec, and may still be open in hupwrap: it may not have run since, and nothing may
/// have woken it up.
const PASSING: usize = 2;

/// Waits until a generation is over, which may be replaced and still be there.
#[track_caller]
fn gone(pid: i32) {
    wait_until("the old one is gone", || !is_alive(pid));
}

/// A descriptor of another process, as one of ours (`pidfd_getfd(2)`).
#[track_caller]
fn borrow(pid: i32, fd: u32) -> OwnedFd {
    // SAFETY: there are no pointers, and both are new descriptors of ours.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        assert!(process >= 0);
        let process = OwnedFd::from_raw_fd(process);
        let fd = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) as i32;
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

/// An option of a socket, as many numbers as there are.
fn option(socket: &OwnedFd, level: i32, name: i32) -> Vec<i32> {
    let mut value = [0_i32; 64];
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointers are to values of ours, of the size that is said.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    value[..len as usize / 4].to_vec()
}

/// Has a program get these as its descriptors from 3 on.
fn handing_over(command: &mut Command, all: Vec<OwnedFd>) {
    without_strange_fds(command);
    before_exec(command, move || {
        // First out of each other's way.
        for (to, from) in (100..).zip(&all) {
            // SAFETY: there are no pointers.
            unsafe { libc::dup2(from.as_raw_fd(), to) };
        }
        for (to, from) in (3..).zip(100..).take(all.len()) {
            // SAFETY: there are no pointers.
            unsafe { (libc::dup2(from, to), libc::close(from)) };
        }
    });
}

/// Starts hupwrap as systemd does: with descriptors, and with its own pid in LISTEN_PID.
fn activated(vars: &str, all: Vec<OwnedFd>, args: Vec<OsString>) -> Setup {
    let script = format!("export LISTEN_PID=$$ {vars}; exec \"$0\" \"$@\"");
    let mut words: Vec<OsString> = vec!["-c".into(), script.into(), hupwrap().into()];
    words.extend(args);
    Setup::of("/bin/sh", words).with(|command| handing_over(command, all))
}

fn words(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

/// Whether this is root, who can become nobody.
fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped(test, "root, to become nobody");
    }
    root
}

/// As the user nobody, if that can run hupwrap where it lies.
fn as_nobody(command: &mut Command) {
    command.uid(65534).gid(65534);
}

#[test]
fn every_generation_gets_the_same_ones() {
    for (action, options) in [
        ("restart", &[][..]),
        ("reexec", &[]),
        ("replace", &["--ready", "exec"]),
        ("upgrade+replace", &["--ready", "exec"]),
    ] {
        let dir = Dir::new();
        let path = dir.path().join("s").display().to_string();
        let unix = format!("u=unix:{path},mode=0600");
        let mut args = words(&["--on-hup", action, "--listen", "web=tcp:127.0.0.1:0", "--listen", "udp:127.0.0.1:0"]);
        args.extend(words(&["--listen", &unix, "--listen", "tcp:localhost:0"]));
        args.extend(words(options));
        args.extend(words(&["--", "sleep", "1000"]));
        let run = Setup::new(args).env("LISTEN_FDNAMES", "strange").with(without_strange_fds).start();
        let mut child = sleeper(run.pid, &[]);
        let (mut given, mut kept) = (None, None);
        for generation in 1..=4 {
            let var = environ(child);
            let is = |name: &str, want: &str| assert_eq!(var.get(name).map(String::as_str), Some(want), "{action}");
            is("LISTEN_FDS", "4");
            is("LISTEN_PID", &child.to_string());
            is("LISTEN_FDNAMES", "web:unknown:u:unknown");
            is("SERVER_STARTER_PORT", &format!("127.0.0.1:0=3;{path}=5;localhost:0=6"));
            is("SERVER_STARTER_GENERATION", &generation.to_string());
            is("HUPWRAP_GENERATION", &generation.to_string());
            is("HUPWRAP_PID", &run.pid.to_string());
            let found = sockets(child);
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), [3, 4, 5, 6], "{action}");
            assert!(found.values().all(|link| link.to_string_lossy().starts_with("socket:")), "{action}");
            assert_eq!(*given.get_or_insert_with(|| found.clone()), found, "{action} {generation}");
            // What stands behind them in hupwrap stays the same too.
            let mut open = sockets(run.pid);
            open.retain(|_, link| link.to_string_lossy().starts_with("socket:"));
            assert_eq!(*kept.get_or_insert_with(|| open.clone()), open, "{action} {generation}");
            let file = fs::symlink_metadata(&path).unwrap();
            assert!(file.file_type().is_socket() && file.permissions().mode() & 0o777 == 0o600);
            if generation < 4 {
                run.kill("HUP");
                let old = child;
                child = sleeper(run.pid, &[old]);
                gone(old);
            }
        }
        let ended = run.stop();
        assert_eq!(ended.shell(), 143);
        // Told once, not at each start.
        assert_eq!(ended.stderr.matches(" is at ").count(), 3, "{}", ended.stderr);
        assert!(!Path::new(&path).exists());
    }
}

#[test]
fn an_upgrade_keeps_them_and_the_child() {
    let mut run =
        Setup::new(args([&"--on-hup", &"upgrade", &"--listen", &"tcp:127.0.0.1:0", &"--", &socketeer()])).start();
    let at = address(&run, "tcp:127.0.0.1:0");
    let (_, child) = run.ready();
    let before = sockets(child);
    for times in 1..=3 {
        run.kill("HUP");
        run.said_times("took over from", times);
        assert_eq!(answer(TcpStream::connect(&at).unwrap()), (1, child));
    }
    run.kill("TERM");
    assert_eq!(run.end().shell(), 0);
    assert!(!before.is_empty());
}

#[test]
fn a_hundred_reexecs_under_load_refuse_nobody() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let path = dir.path().join("s");
    let unix = format!("unix:{}", path.display());
    let options =
        args([&"--on-hup", &"reexec", &"--on", &"USR1=replace", &"--ready", &"exec", &"--listen", &"tcp:127.0.0.1:0"]);
    let command = args([&"--listen", &unix, &"--", &socketeer()]);
    let mut run = Setup::of(&program, [options, command].concat()).start();
    let at = address(&run, "tcp:127.0.0.1:0");
    run.ready();
    let child = children(run.pid)[0];
    let (given, fds) = (sockets(child), open_fds(run.pid));
    let inode = fs::metadata(&path).unwrap().ino();
    let (over, times) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
    std::thread::scope(|scope| {
        let hammer = |times, ask: Box<dyn Fn() -> (u64, i32) + Send>| {
            let (over, times): (_, &AtomicUsize) = (&over, times);
            scope.spawn(move || {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    last = ask().0.max(last);
                    times.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
                last
            })
        };
        let tcp = hammer(&times[0], Box::new(move || answer(TcpStream::connect(&at).unwrap())));
        let unix = hammer(&times[1], Box::new(|| answer(UnixStream::connect(&path).unwrap())));
        let asked = || times.each_ref().map(|times| times.load(Ordering::Relaxed));
        for generation in 2..=106 {
            let before = asked();
            let is_last = generation > 101;
            run.kill(if is_last { "USR1" } else { "HUP" });
            assert_eq!(run.ready().0, generation);
            wait_until("the old one is gone", || !is_last || children(run.pid).len() == 1);
            wait_until("both have had an answer since", || {
                let has_ended = tcp.is_finished() || unix.is_finished();
                has_ended || asked().iter().zip(before).all(|(now, before)| *now > before)
            });
        }
        over.store(true, Ordering::Relaxed);
        for thread in [tcp, unix] {
            let last = thread.join().unwrap();
            assert!(last > 100, "{last}");
        }
    });
    let child = children(run.pid)[0];
    let of_the_sockets =
        |all: BTreeMap<u32, PathBuf>| all.into_iter().filter(|(fd, _)| [3, 4].contains(fd)).collect::<Vec<_>>();
    assert_eq!(of_the_sockets(sockets(child)), of_the_sockets(given));
    wait_until("no more descriptors are open than before", || open_fds(run.pid).abs_diff(fds) <= PASSING);
    assert_eq!(fs::metadata(dir.path().join("s")).unwrap().ino(), inode);
    assert_eq!(run.stop().shell(), 0);
    assert!(!dir.path().join("s").exists());
}

#[test]
fn who_connects_while_nobody_accepts_is_served_by_the_next() {
    for (action, ready) in [("restart", "exec"), ("reexec", "exec"), ("replace", "exec"), ("replace", "delay:10ms")] {
        let setup = args([
            &"--on-hup",
            &action,
            &"--ready",
            &ready,
            &"--listen",
            &"tcp:127.0.0.1:0",
            &"--listen",
            &"udp:127.0.0.1:0",
            &"--",
            &socketeer(),
            &"from=2",
        ]);
        let mut run = Setup::new(setup).start();
        let (tcp, udp) = (address(&run, "tcp:127.0.0.1:0"), address(&run, "udp:127.0.0.1:0"));
        run.ready();
        let waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(&tcp).unwrap()).collect();
        let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
        datagram.send_to(b"?", &udp).unwrap();
        run.kill("HUP");
        let (generation, child) = run.ready();
        assert_eq!(generation, 2);
        for connection in waiting {
            assert_eq!(answer(connection), (2, child), "{action}");
        }
        let mut text = [0; 32];
        let (len, from) = datagram.recv_from(&mut text).unwrap();
        assert_eq!((&text[..len], from.to_string()), (format!("2 {child}").as_bytes(), udp), "{action}");
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn who_connects_between_two_children_is_served() {
    // The old one has stopped accepting, and takes its time.
    let script = "trap 'echo asked; read x; exit' TERM; echo ready $HUPWRAP_GENERATION $$; \
                  [ $HUPWRAP_GENERATION = 1 ] || exec \"$0\"; while :; do sleep 1000 & wait; done";
    let setup = args([&"--listen", &"tcp:127.0.0.1:0", &"--", &"sh", &"-c", &script, &socketeer()]);
    let mut run = Setup::new(setup).stdin().start();
    let at = address(&run, "tcp:127.0.0.1:0");
    run.ready();
    run.kill("HUP");
    run.line("asked");
    let connection = TcpStream::connect(at).unwrap();
    run.write("\n");
    assert_eq!(answer(connection).0, 2);
    run.kill("TERM");
    run.end();
}

#[test]
fn the_backlog_is_full_and_the_port_is_not_shared() {
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let mut options = words(&["--listen", "tcp:127.0.0.1:0"]);
    if has_ipv6 {
        options.extend(words(&["--listen", "tcp:[::]:0", "--listen", "udp:[::1]:0"]));
    }
    options.extend(words(&["sleep", "1000"]));
    let run = Setup::new(options).start();
    let child = sleeper(run.pid, &[]);
    let most: i32 = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    for fd in [3, 4, 5].into_iter().take(if has_ipv6 { 3 } else { 1 }) {
        let socket = borrow(child, fd);
        assert_eq!(option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT), [0]);
        assert_eq!(option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR), [i32::from(fd != 5)]);
        if fd != 5 {
            assert_eq!(option(&socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN), [1]);
            // tcpi_sacked, where a listening socket has its backlog (`struct tcp_info`).
            assert_eq!(option(&socket, libc::IPPROTO_TCP, libc::TCP_INFO)[7], most);
        }
        if fd != 3 {
            assert_eq!(option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), [1]);
        }
    }
    if !has_ipv6 {
        skipped("the_backlog_is_full_and_the_port_is_not_shared", "IPv6");
    }
    run.stop();
}

#[test]
fn what_systemd_gives_goes_first() {
    for (name, command) in [
        ("itself", args([&"sleep", &"1000"])),
        ("a script that executes", args([&"sh", &"-c", &"exec sleep 1000"])),
        ("two of them", args([&"sh", &"-c", &"exec \"$0\" \"$@\"", &"sh", &"-c", &"exec sleep 1000"])),
    ] {
        let dir = Dir::new();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let key = tcp.local_addr().unwrap().to_string();
        let given = vec![OwnedFd::from(tcp), fs::File::open("/dev/null").unwrap().into()];
        let path = dir.path().join("s").display().to_string();
        let unix = format!("own=unix:{path}");
        let options =
            args([&"--on", &"USR1=reexec", &"--on", &"USR2=replace", &"--ready", &"exec", &"--listen", &unix, &"--"]);
        let vars = "LISTEN_FDS=2 LISTEN_FDNAMES=web:";
        let run = activated(vars, given, [options, command].concat()).start();
        let mut child = sleeper(run.pid, &[]);
        let mut first = None;
        for (generation, signal) in (1..).zip(["HUP", "USR1", "USR2", "USR1", "HUP", ""]) {
            let var = environ(child);
            let var = |name: &str| var.get(name).map(String::as_str).unwrap_or_default().to_owned();
            assert_eq!(var("LISTEN_FDS"), "3", "{name} {generation}");
            assert_eq!(var("LISTEN_PID"), child.to_string(), "{name} {generation}");
            assert_eq!(var("LISTEN_FDNAMES"), "web:unknown:own", "{name} {generation}");
            assert_eq!(var("SERVER_STARTER_PORT"), format!("{key}=3;{path}=5"), "{name} {generation}");
            assert_eq!(var("HUPWRAP_GENERATION"), generation.to_string(), "{name}");
            let found = sockets(child);
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), [3, 4, 5], "{name} {generation}");
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{name} {generation}");
            if !signal.is_empty() {
                run.kill(signal);
                let old = child;
                child = sleeper(run.pid, &[old]);
                gone(old);
            }
        }
        assert_eq!(run.stop().shell(), 143);
    }
}

#[test]
fn the_next_child_finds_them_as_blocking_as_the_first_did() {
    if installed("python3").is_none() {
        return skipped("non-blocking sockets", "python3");
    }
    let script = r#"import os, time
print("found", *map(os.get_blocking, (3, 4, 5)), flush=True)
if os.environ["HUPWRAP_GENERATION"] != "4":
    for socket in (3, 4, 5):
        os.set_blocking(socket, not os.get_blocking(socket))
print("ready", os.environ["HUPWRAP_GENERATION"], os.getpid(), flush=True)
time.sleep(1000)"#;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    tcp.set_nonblocking(true).unwrap();
    let options = ["--on", "USR1=reexec", "--on", "USR2=replace", "--ready", "exec", "--listen", "tcp:127.0.0.1:0"];
    let command = ["--", "python3", "-c", script];
    let given = vec![tcp.into(), reader.into()];
    let mut run = activated("LISTEN_FDS=2", given, words(&[&options[..], &command[..]].concat())).start();
    for (generation, signal) in [(1, "HUP"), (2, "USR1"), (3, "HUP"), (4, "USR2")] {
        assert_eq!(run.line("found"), "found False True True", "{generation}");
        assert_eq!(run.ready().0, generation);
        run.kill(signal);
    }
    // The fourth has left them as they were. In a replace the old child shares them, and nobody changes them.
    assert_eq!(run.line("found"), "found False True True");
    assert_eq!(run.ready().0, 5);
    run.kill("USR2");
    assert_eq!(run.line("found"), "found True False False");
    run.kill("TERM");
    run.end();
}

#[test]
fn a_script_that_stays_has_them_under_its_pid() {
    let script = "echo $LISTEN_PID $$ $LISTEN_FDS; sh -c 'sleep 1000' & wait";
    let mut run = Setup::new(args([&"--listen", &"tcp:127.0.0.1:0", &"sh", &"-c", &script])).start();
    for _ in 0..3 {
        let line = run.line("");
        let words: Vec<_> = line.split(' ').collect();
        assert!(words[0] == words[1] && words[2] == "1", "{line}");
        run.kill("HUP");
    }
}

#[test]
fn a_hupwrap_below_another_passes_the_others_on_first() {
    let own = hupwrap();
    let dir = Dir::new();
    let unix = format!("c=unix:{}", dir.path().join("s").display());
    let run = Setup::new(args([
        &"--listen",
        &"a=tcp:127.0.0.1:0",
        &"--",
        &own,
        &"--on-hup",
        &"reexec",
        &"--listen",
        &"b=tcp:127.0.0.1:0",
        &"--",
        &own,
        &"--listen",
        &unix,
        &"--",
        &"sleep",
        &"1000",
    ]))
    .with(without_strange_fds)
    .start();
    wait_until("there is one", || children(run.pid).len() == 1);
    let second = children(run.pid)[0];
    wait_until("there is one more", || children(second).len() == 1);
    let mut third = children(second)[0];
    let mut child = sleeper(third, &[]);
    let first = sockets(child);
    for round in 0..3 {
        let var = environ(child);
        assert_eq!(var["LISTEN_FDS"], "3");
        assert_eq!(var["LISTEN_PID"], child.to_string());
        assert_eq!(var["LISTEN_FDNAMES"], "a:b:c");
        assert_eq!(var["HUPWRAP_PID"], third.to_string());
        assert_eq!(var["SERVER_STARTER_PORT"].matches(';').count(), 2);
        let found = sockets(child);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!((&found[&3], &found[&4]), (&first[&3], &first[&4]));
        if round == 0 {
            kill(third, "HUP");
            child = sleeper(third, &[child]);
        } else {
            kill(second, "HUP");
            wait_until("another is there", || children(second).first().is_some_and(|pid| *pid != third));
            third = children(second)[0];
            child = sleeper(third, &[]);
        }
    }
    assert_eq!(run.stop().shell(), 143);
    assert!(!dir.path().join("s").exists());
}

#[test]
fn systemd_socket_activate() {
    const NAME: &str = "systemd_socket_activate";
    let Some(systemd) = installed("systemd-socket-activate") else { return skipped(NAME, "systemd-socket-activate") };
    let dir = Dir::new();
    let path = dir.path().join("s");
    let setup = args([&"-l", &path, &"--fdname=web", &"--", &hupwrap(), &"--on", &"USR1=reexec", &"--", &socketeer()]);
    // What cargo was given is not meant for it.
    let mut run = Setup::of(systemd, setup).with(without_strange_fds).start();
    run.said("Listening on");
    let first = UnixStream::connect(&path).unwrap();
    let (_, mut child) = run.ready();
    assert_eq!(answer(first), (1, child));
    for (signal, generation) in [("HUP", 2), ("USR1", 3), ("HUP", 4)] {
        run.kill(signal);
        let connection = UnixStream::connect(&path).unwrap();
        child = run.ready().1;
        let (served_by, _) = answer(connection);
        assert!(served_by == generation || served_by == generation - 1);
        let var = environ(child);
        assert_eq!((var["LISTEN_FDNAMES"].as_str(), var["LISTEN_FDS"].as_str()), ("web", "1"));
        assert_eq!(var["LISTEN_PID"], child.to_string());
    }
    assert_eq!(run.stop().shell(), 0);
    // It is systemd's.
    assert!(path.exists());
}

#[test]
fn what_was_meant_for_another_is_not_passed_on() {
    let socket = || vec![OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap())];
    // Its parent's, nobody's, and something that is no pid.
    for pid in ["$PPID", "1", "0", "", "x", "-1", "99999999999999999999"] {
        for own in [false, true] {
            let options = if own { words(&["--listen", "own=tcp:127.0.0.1:0"]) } else { Vec::new() };
            let vars = format!("LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PIDFDID=7");
            let args = [options, words(&["--", "sleep", "1000"])].concat();
            let run = activated(&vars, socket(), args).start();
            let child = sleeper(run.pid, &[]);
            let all = environ(child);
            let mut vars: Vec<_> = all.iter().filter(|(name, _)| name.starts_with("LISTEN_")).collect();
            vars.sort();
            let child = child.to_string();
            let want = [("LISTEN_FDNAMES", "own"), ("LISTEN_FDS", "1"), ("LISTEN_PID", &child)];
            let vars: Vec<_> = vars.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(vars, if own { &want[..] } else { &[] }, "{pid}");
            assert_eq!(run.stop().shell(), 143, "{pid}");
        }
    }
}

#[test]
fn what_was_promised_and_is_not_open_is_said_before_anything_is_made() {
    let dir = Dir::new();
    let (pidfile, status) = (dir.path().join("pid"), dir.path().join("status"));
    let script = "exec 3<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    let words = args([&"-c", &script, &"sh", &hupwrap(), &"--pidfile", &pidfile, &"--status-file", &status]);
    refused(Setup::of("sh", [words, args([&"--", &"true"])].concat()), "LISTEN_FDS '1': descriptor 3 is not open");
    assert!(!pidfile.exists() && !status.exists());
}

#[test]
fn a_status_file_is_looked_at_before_anything_is_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", taken.local_addr().unwrap());
    let list = args([&"--listen", &address, &"--status-file", &"/dev/null", &"--", &"true"]);
    refused(Setup::new(list), "--status-file '/dev/null': ");
}

#[test]
fn other_descriptors_give_way() {
    let dir = Dir::new();
    let files = || ["a", "b", "c"].map(|name| OwnedFd::from(fs::File::create(dir.path().join(name)).unwrap())).to_vec();
    let options =
        words(&["--on", "USR1=reexec", "--listen", "tcp:127.0.0.1:0", "--listen", "tcp:127.0.0.1:0", "sleep", "1000"]);
    let run = Setup::new(options).with(|command| handing_over(command, files())).start();
    let mut child = sleeper(run.pid, &[]);
    for signal in ["HUP", "USR1", ""] {
        let found = sockets(child);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert!(found[&3].to_string_lossy().starts_with("socket:") && found[&4] != found[&3]);
        assert_eq!(found[&5], dir.path().join("c"));
        if !signal.is_empty() {
            run.kill(signal);
            child = sleeper(run.pid, &[child]);
        }
    }
    run.stop();
}

trait ToVec {
    fn to_vec(self) -> Vec<OwnedFd>;
}

impl<const N: usize> ToVec for [OwnedFd; N] {
    fn to_vec(self) -> Vec<OwnedFd> {
        self.into_iter().collect()
    }
}

#[test]
fn with_standard_descriptors_closed_the_rest_is_the_same() {
    for closed in 0..8_u32 {
        let is_closed = move |fd: u32| closed & (1 << fd) != 0;
        let options = words(&[
            "--on",
            "USR1=reexec",
            "--listen",
            "tcp:127.0.0.1:0",
            "--listen",
            "udp:127.0.0.1:0",
            "sleep",
            "1000",
        ]);
        let run = Setup::new(options)
            .with(without_strange_fds)
            .with(|command| {
                before_exec(command, move || {
                    for fd in (0..3).filter(|fd| is_closed(*fd)) {
                        // SAFETY: there are no pointers.
                        unsafe { libc::close(fd as i32) };
                    }
                });
            })
            .start();
        let want: Vec<_> = (0..5).filter(|fd| !is_closed(*fd)).collect();
        let mut child = sleeper(run.pid, &[]);
        for signal in ["HUP", "USR1", "HUP", ""] {
            let found = fds(child);
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), want, "{closed:03b} {signal}");
            assert!([3, 4].iter().all(|fd| found[fd].to_string_lossy().starts_with("socket:")), "{found:?}");
            assert!(fds(run.pid).keys().all(|fd| *fd > 2 || !is_closed(*fd)), "{closed:03b} {signal}");
            if !signal.is_empty() {
                run.kill(signal);
                child = sleeper(run.pid, &[child]);
            }
        }
        assert_eq!(run.stop().shell(), 143);
    }
}

/// One line, 125, and nothing started.
#[track_caller]
fn refused(setup: Setup, what: &str) {
    let ended = setup.end();
    assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{ended:?}");
    assert!(ended.stderr.contains(what) && ended.stderr.starts_with("hupwrap: "), "want {what}: {}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn one_that_cannot_be_had_is_said_before_anything_is_started() {
    let dir = Dir::new();
    let at = |name: &str| format!("unix:{}", dir.path().join(name).display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let live = UnixListener::bind(dir.path().join("live")).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    dir.file("file", "precious", 0o644);
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    let cases = [
        (format!("tcp:{}", taken.local_addr().unwrap()), "in use by another process; stop that first"),
        (format!("udp:{}", taken_udp.local_addr().unwrap()), "in use by another process; stop that first"),
        ("tcp:192.0.2.1:0".to_owned(), "no network interface here has this address"),
        ("tcp:no-such-host.invalid:80".to_owned(), "the host 'no-such-host.invalid' has no address: "),
        ("tcp:127.0.0.1".to_owned(), "want HOST:PORT, such as"),
        ("tcp:127.0.0.1:http".to_owned(), "'http' is no port"),
        ("tcp:127.0.0.1:65536".to_owned(), "'65536' is no port"),
        ("tcp:::1:80".to_owned(), "an IPv6 address stands in brackets"),
        ("127.0.0.1:80".to_owned(), "; did you mean 'tcp:127.0.0.1:80'?"),
        ("80".to_owned(), "want [NAME=]tcp:HOST:PORT"),
        (at("live"), "another process uses this socket; stop that first"),
        (at("dir"), "a directory is there already, which is left alone; name another path"),
        (at("file"), "a file that is no socket is there already, which is left alone"),
        (at("link"), "a symbolic link is there already, which is left alone"),
        (at("no/such/s"), "no/such' does not exist; create it first"),
        (at("a;b"), "SERVER_STARTER_PORT cannot carry ';' or '='; want a path without"),
        (at("a=b"), "SERVER_STARTER_PORT cannot carry ';' or '='; want a path without"),
        (at(&"x".repeat(108)), "bytes; the kernel takes 107 at most"),
        (format!("{},mode=rw", at("s")), "'rw' is no mode; want an octal number"),
        ("unix:".to_owned(), "want a path"),
        (at("s/"), "a path that ends with '/' is that of a directory"),
        ("unix:/proc/s".to_owned(), "no file can be made in '/proc'; name another path"),
        ("unix:@x".to_owned(), "an abstract socket has no file"),
        ("n:m=tcp:127.0.0.1:0".to_owned(), "'n' is no kind of socket"),
        ("=tcp:127.0.0.1:0".to_owned(), "'' is no name"),
    ];
    let command = args([&"--", &"touch", &dir.path().join("started")]);
    for (option, what) in &cases {
        let named = format!("--listen '{option}': ");
        // The one before it leaves no file behind.
        let options = args([&"--listen", &at("before"), &"--listen", &option]);
        refused(Setup::new([options, command.clone()].concat()), what);
        let ended = Setup::new([args([&"--listen", &option]), command.clone()].concat()).end();
        assert!(ended.stderr.contains(&named), "{named}: {}", ended.stderr);
    }
    let twice = |one: &str, other: &str, what: &str| {
        refused(Setup::new([args([&"--listen", &one, &"--listen", &other]), command.clone()].concat()), what);
    };
    twice(&at("s"), &at("s"), "has the same address; want each address once");
    twice(&at("s"), &at("./s"), "hupwrap listens there already, as unix:");
    twice("tcp:127.0.0.1:1", "web=tcp:127.0.0.1:1", "has the same address; want each address once");
    let ready = args([&"--ready", &"fd:3", &"--listen", &at("s")]);
    refused(Setup::new([ready, command].concat()), "--ready 'fd:3': ");
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["dir", "file", "link", "live"]);
    // Who asked has not been noticed, and what was there is as before.
    live.set_nonblocking(true).unwrap();
    assert_eq!(live.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "precious");
}

#[test]
fn what_nobody_may_not_have() {
    const NAME: &str = "what_nobody_may_not_have";
    if !is_root(NAME) {
        return;
    }
    let dir = Dir::new();
    let run = Command::new(hupwrap()).arg("--version").with_nobody().output();
    if !run.is_ok_and(|done| done.status.success()) {
        return skipped(NAME, "a hupwrap that nobody may run");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(dir.path().join("closed")).unwrap();
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let live = dir.path().join("secret");
    let _live = UnixListener::bind(&live).unwrap();
    fs::set_permissions(&live, fs::Permissions::from_mode(0o600)).unwrap();
    let at = |name: &str| format!("unix:{}", dir.path().join(name).display());
    let mut cases = vec![
        (at("s"), "no permission to make a file in '"),
        (at("closed/s"), "no permission to make a file in '"),
        (at("secret"), "without the permission to write to it nobody can tell whether it is in use"),
    ];
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim() == "1024" {
        cases.push(("tcp:127.0.0.1:1".to_owned(), "a port below 1024 wants root, CAP_NET_BIND_SERVICE or"));
    }
    for (option, what) in cases {
        refused(Setup::new(["--listen", &option, "--", "echo", "started"]).with(as_nobody), what);
    }
}

trait WithNobody {
    fn with_nobody(&mut self) -> &mut Command;
}

impl WithNobody for Command {
    fn with_nobody(&mut self) -> &mut Command {
        as_nobody(self);
        self
    }
}

#[test]
fn a_tight_limit_is_said() {
    let limited = |limit: u64, options: Vec<OsString>| {
        Setup::new([options, words(&["--", "sleep", "1000"])].concat()).with(without_strange_fds).with(|command| {
            before_exec(command, move || {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                // SAFETY: the pointer is to a value of ours.
                unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
            });
        })
    };
    let three =
        || words(&["--listen", "tcp:127.0.0.1:0", "--listen", "tcp:127.0.0.1:0", "--listen", "udp:127.0.0.1:0"]);
    for limit in 4..9 {
        refused(limited(limit, three()), "': too many open files (ulimit -n)");
    }
    // Enough for the sockets, too little for a child: another try may do, within bounds.
    let run = limited(9, three()).start();
    run.said("too many open files (ulimit -n); trying again in 1");
    assert_eq!(run.stop().shell(), 143);
    // Enough for all.
    let run = limited(32, three()).start();
    sleeper(run.pid, &[]);
    assert_eq!(run.stop().shell(), 143);
}

#[test]
fn the_second_on_a_path_leaves_the_first_its_file() {
    let dir = Dir::new();
    let path = dir.path().join("s");
    let options = args([&"--listen", &format!("unix:{}", path.display()), &"--", &socketeer()]);
    let mut run = Setup::new(&options).start();
    let (_, child) = run.ready();
    let inode = fs::metadata(&path).unwrap().ino();
    refused(Setup::new(&options), "another process uses this socket; stop that first");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(answer(UnixStream::connect(&path).unwrap()), (1, child));
    assert_eq!(run.stop().shell(), 0);
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_another_by_now_stays() {
    let dir = Dir::new();
    let path = dir.path().join("s");
    let option = format!("unix:{}", path.display());
    for (name, signal) in [("as it was", ""), ("after a reexec", "USR1")] {
        for what in ["a socket", "a file", "nothing"] {
            let run = Setup::new(["--on", "USR1=reexec", "--listen", &option, "sleep", "1000"]).start();
            let child = sleeper(run.pid, &[]);
            if !signal.is_empty() {
                run.kill(signal);
                sleeper(run.pid, &[child]);
            }
            fs::remove_file(&path).unwrap();
            match what {
                "a socket" => drop(UnixListener::bind(&path).unwrap()),
                "a file" => fs::write(&path, "").unwrap(),
                _ => {}
            }
            assert_eq!(run.stop().shell(), 143);
            assert_eq!(path.exists(), what != "nothing", "{name} {what}");
            let _ = fs::remove_file(&path);
        }
    }
}

#[test]
fn a_file_that_was_removed_is_created_again() {
    let dir = Dir::new();
    let path = dir.path().join("s");
    let listen = format!("unix:{},mode=0600", path.display());
    let server = socketeer();
    let options = ["--listen", &listen, "--restart", "always", "--restart-delay", "1ms", "--on-hup", "restart"];
    let upgrade = ["--on", "USR2=upgrade", "--", server.to_str().unwrap()];
    let run = Setup::new([&options[..], &upgrade].concat()).start();
    // The file is there a moment before it takes connections.
    let mut first = None;
    wait_until("it takes connections", || {
        first = UnixStream::connect(&path).ok();
        first.is_some()
    });
    let (generation, mut child) = answer(first.unwrap());
    assert_eq!(generation, 1);
    for round in 1..=4 {
        // With its second name, so that the socket cannot be reached any more.
        fs::remove_file(&path).unwrap();
        fs::remove_file(dir.path().join(".s.hupwrap")).unwrap();
        match round {
            1 | 4 => run.kill("HUP"),
            2 => kill(child, "KILL"),
            // The child serves on; the next start gets the new socket, over the re-exec.
            _ => {
                run.kill("USR2");
                run.said("took over");
                kill(child, "KILL");
            }
        }
        gone(child);
        wait_until("it is there again", || path.exists());
        let (generation, pid) = answer(UnixStream::connect(&path).unwrap());
        assert_eq!(generation, round + 1);
        child = pid;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        run.said_times("with a new socket for the next start", usize::try_from(round).unwrap());
    }
    // The file of another is left alone.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "x").unwrap();
    run.kill("HUP");
    run.said("another file is there, which is left alone");
    run.stop();
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

/// A re-exec asks where the socket is bound, to know that the file is its own.
#[test]
fn a_file_that_was_created_again_is_kept_over_a_re_exec_wherever_it_is() {
    let dir = Dir::new();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let whole = dir.path().join("s");
    for path in ["s", "./s", "sub/s", "sub/../s", whole.to_str().unwrap()] {
        let options = args([&"--listen", &format!("unix:{path}"), &"--on", &"USR2=upgrade", &"--", &socketeer()]);
        let run = Setup::new(options).dir(dir.path()).start();
        let file = dir.path().join(path);
        let second = file.with_file_name(".s.hupwrap");
        for round in 1..4 {
            wait_until("it is bound, and has its second name", || file.exists() && second.exists());
            fs::remove_file(&file).unwrap();
            fs::remove_file(&second).unwrap();
            run.kill("USR2");
            run.said_times("took over", round);
            run.said_times("with a new socket for the next start", round);
        }
        run.stop();
        let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.iter().all(|left| left.is_dir()), "{path}: {left:?}");
    }
}

#[test]
fn sockets_that_a_child_has_shut_down_take_connections_again() {
    for action in ["restart", "reexec", "replace"] {
        let dir = Dir::new();
        let unix = dir.path().join("s");
        let given = TcpListener::bind("127.0.0.1:0").unwrap();
        let inherited = given.local_addr().unwrap().to_string();
        let listen = format!("unix:{}", unix.display());
        let options = ["--on-hup", action, "--ready", "exec", "--listen", "tcp:127.0.0.1:0", "--listen", &listen, "--"];
        let command = args([&socketeer(), &"shuts"]);
        let setup = [words(&options), command].concat();
        let mut run = activated("LISTEN_FDS=1", vec![given.into()], setup).start();
        let own = address(&run, "tcp:127.0.0.1:0");
        let (_, mut old) = run.ready();
        for generation in 2..4 {
            run.kill("HUP");
            let (_, child) = run.ready();
            gone(old);
            for address in [&inherited, &own] {
                run.said_times(&format!("somebody has called shutdown(2) on 'tcp:{address}'"), generation - 1);
                assert_eq!(answer(TcpStream::connect(address).unwrap()), (generation as u64, child), "{action}");
            }
            // In a replace, the second child was started before, and has the unix socket that the first one shuts down.
            let is_replace = action == "replace";
            let times = if is_replace { 1 } else { generation - 1 };
            let line = format!("shutdown(2) on '{listen}'; it takes connections again, with a new socket");
            run.said_times(&line, times);
            if !is_replace || generation > 2 {
                assert_eq!(answer(UnixStream::connect(&unix).unwrap()), (generation as u64, child), "{action}");
            }
            old = child;
        }
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn an_old_child_that_removes_the_file_leaves_the_new_one_reachable() {
    let dir = Dir::new();
    let path = dir.path().join("s");
    let (listen, removes) = (format!("unix:{}", path.display()), format!("removes={}", path.display()));
    let options = args([&"--listen", &listen, &"--on-hup", &"replace", &"--ready", &"exec", &"--on", &"USR2=upgrade"]);
    let mut run = Setup::new([options, args([&"--", &socketeer(), &removes])].concat()).start();
    run.ready();
    let inode = fs::metadata(&path).unwrap().ino();
    for round in 1..=3 {
        if round == 2 {
            run.kill("USR2");
            run.said("took over");
        }
        run.kill("HUP");
        run.said_times("somebody has removed", round);
        assert_eq!(answer(UnixStream::connect(&path).unwrap()).0, u64::try_from(round).unwrap() + 1);
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        run.ready();
    }
    // Without a child that serves: at the request, and the child that was there is reached again.
    fs::remove_file(&path).unwrap();
    run.kill("USR2");
    run.said_times("somebody has removed", 4);
    assert_eq!(answer(UnixStream::connect(&path).unwrap()).0, 4);
    run.stop();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_a_dead_one_left_under_the_second_name_is_replaced_and_other_files_are_not() {
    let dir = Dir::new();
    let (path, second) = (dir.path().join("s"), dir.path().join(".s.hupwrap"));
    let options = args([&"--listen", &format!("unix:{}", path.display()), &"--", &socketeer()]);
    drop(UnixListener::bind(&second).unwrap());
    let mut run = Setup::new(&options).start();
    run.ready();
    assert_eq!(fs::metadata(&second).unwrap().ino(), fs::metadata(&path).unwrap().ino());
    run.stop();
    assert!(!second.exists());
    let live = UnixListener::bind(&second).unwrap();
    Setup::new(&options).start().stop();
    assert!(second.exists());
    drop(live);
    fs::remove_file(&second).unwrap();
    fs::write(&second, "x").unwrap();
    Setup::new(&options).start().stop();
    assert_eq!(fs::read(&second).unwrap(), b"x");
}

#[test]
fn a_flood_of_datagrams_leaves_no_memory_behind() {
    let script = "my $at = $ENV{NOTIFY_SOCKET}; socket(my $s, 1, 2, 0) or die; setsockopt($s, 1, 7, 1 << 20);
        connect($s, pack('S a*', 1, $at =~ s/^@/\\0/r)) or die $!;
        for my $i (0 .. 20000) { send($s, ('X' x ($i * 37 % 60000)) . \"\\nSTATUS=\" . ('x' x ($i % 3000)), 0); }
        send($s, 'READY=1', 0); sleep 1000";
    if installed("perl").is_none() {
        return skipped("sockets::a_flood_of_datagrams_leaves_no_memory_behind", "perl");
    }
    let run = Setup::new(["-v", "--ready", "notify", "--", "perl", "-e", script]).start();
    run.said(" is ready");
    let memory = status(run.pid, "RssAnon");
    let kilobytes: u64 = memory.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kilobytes < 1024, "{memory}");
    run.stop();
}

#[test]
fn the_file_goes_with_every_kind_of_end() {
    let dir = Dir::new();
    let path = dir.path().join("s");
    let option = format!("unix:{}", path.display());
    let sees = "test -S \"$0\" || exit 99; ";
    dir.file("not-executable", "", 0o644);
    let broken = dir.file("broken", "x", 0o644);
    let end = |options: &[&str], command: &[&str]| {
        let list = [options, &["--listen", &option, "--"], command].concat();
        let ended = Setup::new(list).dir(dir.path()).end();
        assert!(!path.exists(), "{ended:?}");
        ended.shell()
    };
    let shell =
        |script: &str| vec!["sh".to_owned(), "-c".to_owned(), format!("{sees}{script}"), path.display().to_string()];
    let run_shell = |options: &[&str], script: &str| {
        let words = shell(script);
        end(options, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(run_shell(&[], "exit 0"), 0);
    assert_eq!(run_shell(&[], "exit 7"), 7);
    assert_eq!(run_shell(&[], "kill -KILL $$"), 137);
    assert_eq!(run_shell(&[], "kill -SEGV $$"), 139);
    assert_eq!(run_shell(&["--map-status", "7=0"], "exit 7"), 0);
    assert_eq!(run_shell(&["--ready", "fd:9", "--ready-timeout", "10ms"], "exec sleep 1000"), 124);
    assert_eq!(run_shell(&[], "kill -TERM $PPID; exec sleep 1000"), 143);
    assert_eq!(end(&[], &["./not-executable"]), 126);
    assert_eq!(end(&[], &["no-such-program"]), 127);
    assert_eq!(end(&["--env-file", broken.to_str().unwrap()], &["true"]), 125);
    assert_eq!(end(&["--workdir", "nowhere"], &["true"]), 125);
    assert_eq!(end(&["--listen", "tcp:192.0.2.1:0"], &["true"]), 125);
    for signal in ["TERM", "INT", "QUIT"] {
        let run = Setup::new(["--listen", &option, "sleep", "1000"]).start();
        sleeper(run.pid, &[]);
        run.kill(signal);
        run.end();
        assert!(!path.exists(), "{signal}");
    }
}

#[test]
fn what_a_killed_one_leaves_is_replaced() {
    let dir = Dir::new();
    let path = dir.path().join("s");
    let options = args([&"--listen", &format!("unix:{},mode=600", path.display()), &"--", &socketeer()]);
    let mut run = Setup::new(&options).start();
    let (_, child) = run.ready();
    run.kill("KILL");
    assert_eq!(run.end().shell(), 137);
    // Its tether.
    gone(child);
    assert!(path.exists());
    let mut run = Setup::new(&options).start();
    let (_, child) = run.ready();
    assert_eq!(answer(UnixStream::connect(&path).unwrap()), (1, child));
    assert_eq!(run.stop().shell(), 0);
    assert!(!path.exists());
}

#[test]
fn a_helper_does_not_keep_the_port() {
    let mut run = Setup::new([
        "--listen",
        "tcp:127.0.0.1:0",
        "--",
        "sh",
        "-c",
        "setsid sh -c 'echo helper $$; exec sleep 1000' & exec sleep 1000",
    ])
    .start();
    let helper: i32 = run.line("helper ").trim_start_matches("helper ").parse().unwrap();
    let at = address(&run, "tcp:127.0.0.1:0");
    wait_until("it sleeps", || fs::read(format!("/proc/{helper}/comm")).is_ok_and(|name| name == b"sleep\n"));
    let inode = sockets(helper)[&3].to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
    let is_open = || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().any(|line| line.split_whitespace().nth(9) == Some(&inode))
    };
    assert!(is_open(), "{at}");
    assert_eq!(run.stop().shell(), 143);
    assert!(!is_open() && !is_alive(helper), "{at}");
}

#[test]
fn what_server_starter_reads() {
    const NAME: &str = "what_server_starter_reads";
    let has = Command::new("perl").args(["-MServer::Starter", "-e", "1"]).output();
    if !has.is_ok_and(|done| done.status.success()) {
        return skipped(NAME, "perl with Server::Starter");
    }
    let dir = Dir::new();
    let path = dir.path().join("s").display().to_string();
    let script = "my $ports = Server::Starter::server_ports; print join(',', map { \"$_ $ports->{$_}\" } sort keys %$ports), \
                  \" $ENV{SERVER_STARTER_GENERATION}\\n\"; close STDOUT; sleep 1000";
    let mut list = words(&["--listen", "tcp:127.0.0.1:0", "--listen", "udp:127.0.0.1:0", "--listen"]);
    list.extend(args([&format!("unix:{path}"), &"--listen", &"web=tcp:localhost:0", &"--"]));
    list.extend(words(&["perl", "-MServer::Starter", "-e", script]));
    let mut run = Setup::new(list).start();
    for generation in 1..=3 {
        assert_eq!(run.line(""), format!("{path} 5,127.0.0.1:0 3,localhost:0 6 {generation}"));
        run.kill("HUP");
    }
}

#[test]
fn a_name_that_is_lost_does_not_end_a_child() {
    const NAME: &str = "a_name_that_is_lost_does_not_end_a_child";
    let can = Command::new("unshare").args(["--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]).output();
    if !can.is_ok_and(|done| done.status.success()) {
        return skipped(NAME, "the right to mount");
    }
    let dir = Dir::new();
    let hosts = dir.file("hosts", "127.77.2.1 web.test\n", 0o644);
    let port = TcpListener::bind("127.77.2.1:0").unwrap();
    let ready = format!("tcp:web.test:{}", port.local_addr().unwrap().port());
    // Nothing but the file is asked.
    let switch = dir.file("nsswitch.conf", "hosts: files\n", 0o644);
    let script = "mount --bind \"$0\" /etc/hosts; mount --bind \"$1\" /etc/nsswitch.conf; shift; exec \"$@\"";
    let options = args([&"-v", &"--on-hup", &"upgrade", &"--on", &"USR1=replace", &"--ready", &ready, &puppet()]);
    let words = args([&"--mount", &"sh", &"-c", &script, &hosts, &switch, &hupwrap()]);
    let setup = Setup::of("unshare", [words, options].concat());
    let mut run = setup.start();
    let (_, child) = run.ready();
    run.said("] is ready\n");
    fs::write(&hosts, "").unwrap();
    for times in 1..=2 {
        run.kill("HUP");
        run.said_times("took over", times);
    }
    assert_eq!(children(run.pid), [child]);
    // The next child is ready when the name is known again.
    run.kill("USR1");
    assert_eq!(run.ready().0, 2);
    run.said("is not ready yet: the host 'web.test' has no address: ");
    fs::write(&hosts, "127.77.2.1 web.test\n").unwrap();
    run.said("is ready; stopping");
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn in_an_empty_root_addresses_in_figures_work() {
    const NAME: &str = "in_an_empty_root_addresses_in_figures_work";
    let Some(program) = static_build() else { return skipped(NAME, "a static build (cargo static)") };
    if !is_root(NAME) {
        return;
    }
    let dir = Dir::new();
    assert!(Command::new("cp").arg(program).arg(dir.path().join("hupwrap")).status().unwrap().success());
    let root = std::ffi::CString::new(dir.path().to_str().unwrap()).unwrap();
    let setup = |list: &[&str]| {
        let root = root.clone();
        // Looked up after the change of root.
        let setup = Setup::of("/hupwrap", list);
        setup.with(|command| {
            before_exec(command, move || {
                // SAFETY: the pointers are to strings that end with NUL.
                unsafe { (libc::chroot(root.as_ptr()), libc::chdir(c"/".as_ptr())) };
            });
        })
    };
    let list =
        ["--listen", "tcp:127.0.0.1:0", "--listen", "tcp::0", "--listen", "unix:/s", "--", "/hupwrap", "--version"];
    let ended = setup(&list).end();
    assert_eq!((ended.shell(), ended.stderr.lines().count()), (0, 2), "{ended:?}");
    assert!(!dir.path().join("s").exists());
    refused(setup(&["--listen", "tcp:web.invalid:80", "--", "/hupwrap"]), "the host 'web.invalid' has no address: ");
}

#[test]
fn nobody_is_told_of_a_port_that_was_said() {
    // An address that no other test uses: the port, once free, stays so.
    let port = TcpListener::bind("127.77.1.1:0").unwrap().local_addr().unwrap().port();
    let option = format!("web=tcp:127.77.1.1:{port}");
    let mut run = Setup::new(args([&"--listen", &option, &"--", &socketeer()])).start();
    let (_, child) = run.ready();
    let connection = TcpStream::connect(("127.77.1.1", port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(answer(connection), (1, child));
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (0, ""));
}
