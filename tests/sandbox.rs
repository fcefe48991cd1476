//! Kernels and sandboxes that lack a system call, or refuse it: hupwrap does the same by other means.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::support::*;

/// What they answer, each.
const ERRNOS: [&str; 4] = ["ENOSYS", "EPERM", "EINVAL", "EACCES"];

/// hupwrap where these system calls fail.
fn refused(calls: &str, args: &[&str], command: &[&Path]) -> Setup {
    let words = [Path::new(calls), Path::new("--"), hupwrap()].into_iter();
    Setup::of(
        without(),
        words.chain(args.iter().map(Path::new)).chain([Path::new("--")]).chain(command.iter().copied()),
    )
}

/// A child that has a child, and another in a session of its own. All three are puppets.
fn with_grandchildren(calls: &str, args: &[&str]) -> Run {
    let script = r#""$0" & setsid "$0" & exec "$0" exit=TERM:7"#;
    refused(calls, args, &["sh", "-c", script].map(Path::new).into_iter().chain([&*puppet()]).collect::<Vec<_>>())
        .start()
}

/// Everything that hupwrap does to processes: start, forward, restart, stop.
fn whole_life(calls: &str) {
    for (args, receivers) in [(&[][..], 1), (&["--group", "shared", "--kill-mode", "group"], 3)] {
        let mut run = with_grandchildren(calls, args);
        (0..3).for_each(|_| assert_eq!(run.ready().0, 1, "{calls}"));
        run.kill("USR1");
        run.wrote_times("got USR1", receivers);
        run.kill("HUP");
        (0..3).for_each(|_| assert_eq!(run.ready().0, 2, "{calls}"));
        run.wrote_times("got TERM", 3);
        let ended = run.stop();
        assert_eq!(ended.shell(), 7, "{calls}: {ended:?}");
        assert_eq!(ended.stdout.matches("got TERM").count(), 6, "{calls}: {ended:?}");
        assert_eq!(ended.stdout.matches("got USR1").count(), receivers, "{calls}: {ended:?}");
        // A restart says so; nothing had to be killed, nothing is missed aloud.
        assert!(ended.stderr.lines().all(|line| line.contains("restart")), "{calls}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{calls}: {ended:?}");
    }
}

/// hupwrap, or a command that asks it, below this.
fn below(outer: &[OsString], args: Vec<OsString>) -> Setup {
    let words = [outer, &[hupwrap().into()], &args].concat();
    Setup::of(&words[0], &words[1..])
}

/// Everything that hupwrap does to itself and with two children, asked for by commands below the same. `asks`: whether
/// those can know that the process is the right one.
fn renewals(outer: &[OsString], asks: bool) {
    let dir = Dir::new();
    let file = dir.path().join("status.json");
    let options = ["--on", "USR1=replace", "--on", "USR2=reexec", "--ready", "exec", "--status-file"];
    let list = [options.map(OsString::from).to_vec(), args([&file, &"--", &puppet(), &"exit=TERM:7"])].concat();
    let mut run = below(outer, list).start();
    let what = outer.join(" ".as_ref());
    let ask = |form: &str| {
        let ended = below(outer, args([&form, &file, &"--timeout", &"50s"])).end();
        assert_eq!(ended.shell(), if asks { 0 } else { 125 }, "{what:?} {form}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), usize::from(!asks), "{what:?} {form}: {ended:?}");
    };
    assert_eq!(run.ready().0, 1, "{what:?}");
    wait_until("there is a status file", || file.exists());
    ask("--wait-ready");
    ask("--status");
    run.kill("USR1");
    assert_eq!(run.ready().0, 2, "{what:?}");
    run.wrote_times("got TERM", 1);
    wait_until("the old one is gone", || children(run.pid).len() == 1);
    run.kill("USR2");
    run.wrote_times("got TERM", 2);
    assert_eq!(run.ready().0, 3, "{what:?}");
    run.said("took over");
    if asks {
        ask("--reload");
        run.wrote_times("got TERM", 3);
        assert_eq!(run.ready().0, 4, "{what:?}");
        ask("--stop");
    } else {
        run.kill("TERM");
    }
    let ended = run.end();
    assert_eq!(ended.shell(), 7, "{what:?}: {ended:?}");
    let is_known = |line: &str| {
        ["restart", "replac", "ready; stopping", "re-exec", "took over"].iter().any(|word| line.contains(word))
    };
    assert!(ended.stderr.lines().all(is_known), "{what:?}: {ended:?}");
}

/// The calls that hupwrap has a next best method for.
const CALLS: [&str; 10] = [
    "pidfd_open",
    "pidfd_send_signal",
    "memfd_create",
    "inotify_init1",
    "pwritev2",
    "clone_vm",
    "close_range",
    "waitid_pidfd",
    "waitid",
    "ppoll",
];

/// Each call, and what its lack is answered with.
fn table() -> impl Iterator<Item = String> {
    let calls = CALLS.into_iter().chain(["inotify_add_watch", "getdents64"]);
    calls.flat_map(|call| ERRNOS.map(|errno| format!("{call}:{errno}")))
}

#[test]
fn each_refusal_leaves_everything_as_it_is() {
    for calls in table() {
        renewals(&args([&without(), &calls, &"--"]), true);
    }
}

#[test]
fn all_refusals_together_leave_everything_as_it_is() {
    for errno in ERRNOS {
        let calls: Vec<_> = table().filter(|call| call.ends_with(errno)).collect();
        renewals(&args([&without(), &calls.join(","), &"--"]), true);
    }
}

#[test]
fn nothing_is_refused() {
    whole_life("pwritev2:EOPNOTSUPP");
}

/// Without /proc nobody can know whether a pid means the same process still.
#[test]
fn no_proc() {
    let script = "umount -l /proc && exec \"$@\"";
    let outer = args([&"unshare", &"--mount", &"sh", &"-c", &script, &"sh"]);
    if Setup::of("unshare", [&outer[1..], &["true".into()]].concat()).end().shell() != 0 {
        return skipped("sandbox::no_proc", "unshare(1), or the right to unmount /proc");
    }
    renewals(&outer, false);
}

/// Emulators of user space refuse much of what a kernel can do.
#[test]
fn below_qemu() {
    const NAME: &str = "sandbox::below_qemu";
    let Some(program) = static_build() else { return skipped(NAME, "a static build (cargo static)") };
    let Some(qemu) = installed("qemu-x86_64") else { return skipped(NAME, "qemu-x86_64 (Debian: qemu-user)") };
    let emulated = |words: &[&dyn AsRef<OsStr>]| {
        let words = words.iter().map(|word| word.as_ref().to_owned());
        Setup::of(&qemu, [program.clone().into_os_string()].into_iter().chain(words))
    };
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let ended = emulated(&[&"--", &"sh", &"-c", &script]).end();
        assert_eq!((ended.shell(), &*ended.stderr), (code, ""), "{script}");
    }
    assert_eq!(emulated(&[&"--", &"/no/such"]).end().shell(), 127);
    assert_eq!(emulated(&[&"--", &"/"]).end().shell(), 126);
    assert_eq!(emulated(&[&"--no-such"]).end().shell(), 125);
    for options in [&["-v"][..], &["--group", "shared", "--kill-mode", "group"], &["--kill-mode", "process"]] {
        let options = options.iter().map(|word| word as &dyn AsRef<OsStr>);
        let puppet = puppet();
        let command: [&dyn AsRef<OsStr>; 3] = [&"--", &puppet, &"exit=TERM:7"];
        let mut run = emulated(&options.chain(command).collect::<Vec<_>>()).start();
        assert_eq!(run.ready().0, 1);
        run.kill("USR1");
        run.line("got USR1");
        run.kill("HUP");
        run.line("got TERM");
        assert_eq!(run.ready().0, 2);
        assert_eq!(run.stop().shell(), 7);
    }
}

/// The calls by which it finds, watches and makes processes.
#[test]
fn no_other_way_to_processes() {
    for call in ["pidfd_open", "pidfd_send_signal", "waitid", "ppoll", "clone_vm"] {
        for errno in ERRNOS {
            whole_life(&format!("{call}:{errno}"));
        }
    }
}

#[test]
fn a_failed_start_without_shared_memory() {
    let dir = Dir::new();
    let odd = dir.program("odd", "#!/no/such/sh\n");
    let ended = refused("clone_vm:EINVAL", &[], &[&odd]).end();
    assert_eq!(ended.shell(), 127);
    assert!(ended.stderr.contains("its interpreter /no/such/sh is missing"), "{ended:?}");
}

#[test]
fn no_descriptor_for_a_look_at_proc() {
    let Some(strace) = installed("strace") else {
        return skipped("sandbox::no_descriptor_for_a_look_at_proc", "strace(1)");
    };
    // The first open of /proc fails, or the first three.
    for (path, when) in [("/proc", "1"), ("/proc", "1..3")] {
        let inject = format!("inject=openat:error=ENFILE:when={when}");
        let tracing = ["-D", "-o", "/dev/null", "-P", path, "-e", &inject].map(Path::new);
        let script = r#"setsid "$0" & exec "$0""#;
        let command = [Path::new("--"), Path::new("sh"), Path::new("-c"), Path::new(script)];
        let words = tracing.into_iter().chain([hupwrap()]).chain(command).map(Path::to_owned).chain([puppet()]);
        let mut run = Setup::of(&strace, words).start();
        (0..2).for_each(|_| assert_eq!(run.ready().0, 1));
        run.kill("HUP");
        (0..2).for_each(|_| assert_eq!(run.ready().0, 2));
        assert_eq!(run.stdout().matches("got TERM").count(), 2, "{when}: {}", run.stdout());
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn everything_at_once_is_refused() {
    for errno in ERRNOS {
        whole_life(&CALLS.map(|call| format!("{call}:{errno}")).join(","));
    }
}

/// Grandchildren cannot be found then; the child is served all the same.
#[test]
fn no_list_of_processes() {
    for errno in ERRNOS {
        let calls = format!("getdents64:{errno},pidfd_open:{errno}");
        let mut run = refused(&calls, &[], &[&puppet(), Path::new("exit=TERM:7")]).start();
        run.ready();
        run.kill("USR1");
        run.line("got USR1");
        run.kill("HUP");
        assert_eq!(run.ready().0, 2, "{calls}");
        let ended = run.stop();
        assert_eq!(ended.shell(), 7, "{calls}: {ended:?}");
        assert!(ended.stderr.lines().all(|line| line.contains("restart")), "{calls}: {ended:?}");
    }
}

/// EAGAIN: early in a boot.
#[test]
fn no_random_numbers_from_getrandom() {
    for errno in ERRNOS.into_iter().chain(["EAGAIN"]) {
        let calls = format!("getrandom:{errno}");
        let script = "echo at $NOTIFY_SOCKET; exec sleep 1000";
        let mut run = refused(&calls, &["--ready", "notify"], &["sh", "-c", script].map(Path::new)).start();
        let socket = run.line("at ").rsplit('/').next().unwrap_or_default().to_owned();
        assert!(socket.len() == 32 && socket.bytes().all(|byte| byte.is_ascii_hexdigit()), "{calls}: {socket}");
        assert_eq!(run.stop().stderr, "", "{calls}");
    }
}

/// Nothing else tells of signals without losing one.
#[test]
fn no_signalfd_is_said_before_anything_is_started() {
    for errno in ERRNOS {
        let ended = refused(&format!("signalfd4:{errno}"), &[], &[Path::new("echo"), Path::new("started")]).end();
        assert_eq!((ended.shell(), &*ended.stdout), (125, ""));
        assert!(ended.stderr.starts_with("hupwrap: cannot listen to signals: "), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}
