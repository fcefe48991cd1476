//! Kernels and sandboxes that lack a system call, or refuse it: hupwrap does the same by other means.

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
    }
}

#[test]
fn nothing_is_refused() {
    whole_life("pwritev2:EOPNOTSUPP");
}

#[test]
fn no_pidfds() {
    for errno in ERRNOS {
        whole_life(&format!("pidfd_open:{errno}"));
        whole_life(&format!("pidfd_send_signal:{errno}"));
    }
}

#[test]
fn no_shared_memory() {
    for errno in ERRNOS {
        whole_life(&format!("clone_vm:{errno}"));
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
