//! What the child is born with: all that it would have without hupwrap, and nothing of hupwrap's own.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;

use crate::support::*;

/// A command that stops where it can be looked at, and then ends with 3.
const STOPS: [&str; 3] = ["sh", "-c", "kill -STOP $$; exit 3"];

/// Everything the kernel shows of a process that it got from its parent.
#[derive(PartialEq, Debug)]
struct Facts(BTreeMap<String, Vec<String>>);

impl Facts {
    fn of(pid: i32) -> Self {
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, value: Vec<String>| {
            facts.insert(name.to_owned(), value);
        };
        for field in [
            "Umask",
            "Uid",
            "Gid",
            "Groups",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "THP_enabled",
            "Cpus_allowed",
            "Mems_allowed",
            "Threads",
        ] {
            fact(field, vec![status(pid, field)]);
        }
        for file in
            ["limits", "personality", "timerslack_ns", "oom_score_adj", "coredump_filter", "cgroup", "cmdline", "comm"]
        {
            let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            fact(file, vec![content.escape_ascii().to_string()]);
        }
        for link in ["cwd", "root", "exe"] {
            fact(link, vec![format!("{:?}", fs::read_link(format!("/proc/{pid}/{link}")))]);
        }
        fact("fds", fds(pid).into_iter().map(|(fd, link)| format!("{fd} {}", link.display())).collect());
        let stat = stat(pid).expect("a process");
        for (name, field) in [("session", 6), ("terminal", 7), ("nice", 19), ("rt_priority", 40), ("policy", 41)] {
            fact(name, vec![stat[field - 3].clone()]);
        }
        let environ = environ(pid);
        fact("environ", environ.iter().map(|var| var.escape_ascii().to_string()).collect());
        Self(facts)
    }
}

/// The environment of a process, without what tests and hupwrap add.
fn environ(pid: i32) -> Vec<Vec<u8>> {
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("an environment");
    let added = [&b"HUPWRAP_TEST_MARK="[..], b"HUPWRAP_PID=", b"HUPWRAP_GENERATION="];
    let vars = environ.strip_suffix(b"\0").unwrap_or(&environ).split(|byte| *byte == 0).map(<[u8]>::to_vec);
    vars.filter(|var| !added.iter().any(|name| var.starts_with(name))).collect()
}

/// The one child of hupwrap, once it has stopped itself.
fn stopped_child(run: &Run) -> i32 {
    let mut child = 0;
    wait_until("the child stops", || {
        child = children(run.pid).first().copied().unwrap_or(0);
        state(child) == Some('T')
    });
    child
}

/// Starts the command with and without hupwrap, in the same circumstances, and compares what each is given.
#[track_caller]
fn same<S: AsRef<OsStr>>(command: &[S], circumstances: impl Fn(&mut Command)) {
    let quiet = |setup: Setup| {
        setup.with(|command| _ = command.stdout(Stdio::null()).stderr(Stdio::null())).with(&circumstances)
    };
    let mut plain = quiet(Setup::of(&command[0], &command[1..])).start();
    wait_until("the command stops", || state(plain.pid) == Some('T'));
    let wanted = Facts::of(plain.pid);
    plain.kill("CONT");
    assert_eq!(plain.status().code(), Some(3));

    let mut run = quiet(Setup::new([OsStr::new("--")].into_iter().chain(command.iter().map(AsRef::as_ref)))).start();
    let child = stopped_child(&run);
    let given = Facts::of(child);
    for (name, value) in &wanted.0 {
        assert_eq!(given.0.get(name), Some(value), "{name}: with hupwrap left, without right");
    }
    assert_eq!(status(run.pid, "Threads"), "1");
    kill(child, "CONT");
    // It hears of the end, whatever it was told to ignore or found blocked.
    assert_eq!(run.status().code(), Some(3));
}

#[test]
fn the_child_sees_what_it_would_see_without_hupwrap() {
    same(&STOPS, |_| ());
}

/// Blocks and ignores signals, by the kernel's own calls: libc hides 32 and 33.
fn blocked_and_ignored(command: &mut Command, blocked: u64, ignored: &[i32]) {
    let ignored = ignored.to_vec();
    before_exec(command, move || {
        for number in 1..=64 {
            // The kernel's sigaction: the handler, and three words of zero.
            let action = [if ignored.contains(&number) { libc::SIG_IGN } else { libc::SIG_DFL }, 0, 0, 0];
            let number = libc::c_long::from(number);
            // SAFETY: the pointers are to a struct of ours, and null.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, number, action.as_ptr(), std::ptr::null::<u8>(), 8) };
        }
        let (set, none) = (&raw const blocked, std::ptr::null::<u64>());
        // SAFETY: the pointers are to a set of ours, and null.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, set, none, 8) };
    });
}

#[test]
fn blocked_and_ignored_signals_are_the_childs() {
    let bits = |numbers: &[i32]| numbers.iter().fold(0_u64, |bits, number| bits | 1 << (number - 1));
    let every: Vec<i32> = (1..=64).collect();
    for (blocked, ignored) in [
        (0, &[][..]),
        (0, &[libc::SIGPIPE]),
        (0, &[libc::SIGCHLD]),
        (0, &[libc::SIGHUP]),
        (0, &[libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTOU]),
        (0, &[32, 33, 34, 64]),
        (0, &every),
        (bits(&[libc::SIGCHLD, libc::SIGALRM, libc::SIGTERM]), &[]),
        (bits(&[32, 33]), &[]),
        (bits(&[libc::SIGHUP, libc::SIGPIPE, libc::SIGSEGV, libc::SIGABRT, 64]), &[libc::SIGCHLD, libc::SIGUSR1]),
        (u64::MAX, &[]),
        (u64::MAX, &every),
    ] {
        same(&STOPS, |command| blocked_and_ignored(command, blocked, ignored));
    }
}

#[test]
fn a_child_of_one_that_ignores_chld_is_waited_for() {
    let deaf = |command: &mut Command| blocked_and_ignored(command, 1 << (libc::SIGCHLD - 1), &[libc::SIGCHLD]);
    let ended = Setup::new(["--", "sh", "-c", "exit 7"]).with(deaf).end();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (7, ""));
    // Every start after the first as well.
    let mut run = Setup::new(args([&"--", &puppet()])).with(deaf).start();
    for generation in 1..=3 {
        let (number, child) = run.ready();
        let ignored = u64::from_str_radix(&status(child, "SigIgn"), 16).unwrap();
        assert_eq!((number, ignored & 1 << (libc::SIGCHLD - 1)), (generation, 1 << (libc::SIGCHLD - 1)));
        run.kill("HUP");
    }
    run.ready();
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_child_can_be_stopped_by_a_term_that_hupwrap_found_blocked() {
    let blocked = |command: &mut Command| blocked_and_ignored(command, u64::MAX, &[]);
    let mut run = Setup::new(args([&"--", &puppet(), &"exit=TERM:4"])).with(blocked).start();
    run.ready();
    assert_eq!(run.stop().shell(), 4);
}

#[test]
fn closed_standard_descriptors_stay_closed() {
    for closed in 0..8 {
        same(&STOPS, |command| {
            before_exec(command, move || {
                for fd in (0..3).filter(|fd| closed & (1 << fd) != 0) {
                    // SAFETY: nothing of this process uses it any more.
                    unsafe { libc::close(fd) };
                }
            });
        });
    }
}

#[test]
fn a_restart_and_a_reexec_keep_closed_descriptors_closed() {
    let mut run = Setup::new(["--on", "USR1=reexec", "--", STOPS[0], STOPS[1], STOPS[2]])
        .with(|command| {
            before_exec(command, || {
                // SAFETY: nothing of this process uses them any more.
                unsafe { (libc::close(0), libc::close(1), libc::close(2)) };
            });
        })
        .start();
    let mut old = stopped_child(&run);
    let given = fds(old);
    assert!(given.range(..3).next().is_none(), "{given:?}");
    for signal in ["HUP", "USR1", "HUP"] {
        run.kill(signal);
        let mut child = old;
        wait_until("another child stops", || {
            child = children(run.pid).first().copied().unwrap_or(old);
            child != old && state(child) == Some('T')
        });
        assert_eq!(fds(child), given, "after {signal}");
        old = child;
    }
    kill(old, "CONT");
    assert_eq!(run.status().code(), Some(3));
}

#[test]
fn other_descriptors_are_passed_on() {
    let dir = Dir::new();
    let file = fs::File::open(dir.file("file", "x", 0o600)).unwrap();
    let fd = file.as_raw_fd();
    // Numbers that nothing here has taken: std has a descriptor of its own open until the exec.
    let open = |command: &mut Command| {
        before_exec(command, move || {
            for number in [300, 301, 555] {
                // SAFETY: has no preconditions.
                unsafe { libc::dup2(fd, number) };
            }
        });
    };
    same(&STOPS, open);
    // And were they there at all?
    let mut run = Setup::new([&["--"][..], &STOPS].concat()).with(open).start();
    let child = stopped_child(&run);
    assert_eq!(fds(child).range(300..).map(|(number, _)| *number).collect::<Vec<u32>>(), [300, 301, 555]);
    kill(child, "CONT");
    assert_eq!(run.status().code(), Some(3));
}

#[test]
fn directory_mask_priority_and_limits_are_the_childs() {
    let dir = Dir::new();
    same(&STOPS, |command| {
        command.current_dir(dir.path());
        before_exec(command, || {
            let limit = libc::rlimit { rlim_cur: 99, rlim_max: 199 };
            // SAFETY: the pointer is to a struct of ours; the rest have no preconditions.
            unsafe {
                libc::umask(0o137);
                libc::setpriority(libc::PRIO_PROCESS, 0, 7);
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
                libc::prctl(libc::PR_SET_TIMERSLACK, 123_456, 0, 0, 0);
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
                let batch: libc::sched_param = std::mem::zeroed();
                libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const batch);
            }
        });
    });
}

#[test]
fn arguments_are_passed_on_byte_for_byte() {
    let odd: [&[u8]; 10] =
        [b"", b" ", b"a b", b"'\"\\$`", b"\n\r\t", b"\xff\xfe", b"-x", b"--", "\u{fc}".as_bytes(), b"--on=x"];
    let mut command: Vec<OsString> = STOPS.iter().map(OsString::from).collect();
    command.extend(odd.map(|arg| OsString::from_vec(arg.to_vec())));
    same(&command, |_| ());
    // Empty ones at the end, and argument lists of some length.
    command.extend((0..5000).map(|number| OsString::from("x".repeat(number % 20))));
    command.push(OsString::new());
    same(&command, |_| ());
}

/// Executes hupwrap with exactly this environment, whatever [`Command`] thinks of it.
fn with_environment(vars: &[&[u8]], args: &[&str]) -> Ended {
    let program = hupwrap().as_os_str();
    let argv = [program].into_iter().chain(args.iter().map(OsStr::new));
    let strings = |list: Vec<&[u8]>| list.into_iter().map(|text| CString::new(text).unwrap()).collect::<Vec<CString>>();
    let (argv, envp) = (strings(argv.map(OsStr::as_bytes).collect()), strings(vars.to_vec()));
    let addresses =
        |list: &[CString]| list.iter().map(|text| text.as_ptr() as usize).chain([0]).collect::<Vec<usize>>();
    let (argv_addresses, envp_addresses) = (addresses(&argv), addresses(&envp));
    let execute = move || {
        let _strings = (&argv, &envp);
        // SAFETY: both are arrays of pointers to strings that the closure owns, with a null at their end.
        unsafe { libc::execve(argv[0].as_ptr(), argv_addresses.as_ptr().cast(), envp_addresses.as_ptr().cast()) };
    };
    Setup::new(args).with(|command| before_exec(command, execute)).end()
}

#[test]
fn the_environment_is_passed_on_byte_for_byte() {
    let vars: [&[u8]; 9] = [
        b"PATH=/usr/bin:/bin",
        b"A=",
        b"NOT_UTF8=\xff\xfe",
        b"LINES=one\ntwo",
        b"TWICE=1",
        b"TWICE=2",
        b"no equals sign",
        b"",
        b"=odd",
    ];
    let lossy =
        |vars: &[&[u8]]| vars.iter().map(|var| format!("{}\0", String::from_utf8_lossy(var))).collect::<String>();
    let ended = with_environment(&vars, &["--", "/bin/cat", "/proc/self/environ"]);
    let own = format!("HUPWRAP_PID={}\0HUPWRAP_GENERATION=1\0", own_pid(&ended.stdout));
    assert_eq!(ended.stdout, lossy(&vars) + &own);

    // What another hupwrap left is replaced, wherever and however often it stands.
    let left: [&[u8]; 8] = [
        b"HUPWRAP_GENERATION=7",
        b"A=1",
        b"HUPWRAP_PID=1",
        b"HUPWRAP_PID=2",
        b"HUPWRAP_PIDS=3",
        b"HUPWRAP_HANDOVER=0000000001:0000000000",
        b"HUPWRAP_HANDOVER=x",
        b"HUPWRAP_HANDOVER=",
    ];
    let ended = with_environment(&left, &["/bin/cat", "/proc/self/environ"]);
    let own = format!("HUPWRAP_PID={}\0HUPWRAP_GENERATION=1\0", own_pid(&ended.stdout));
    assert_eq!(ended.stdout, lossy(&[b"A=1", b"HUPWRAP_PIDS=3"]) + &own);
}

fn own_pid(environ: &str) -> String {
    let (_, rest) = environ.rsplit_once("HUPWRAP_PID=").expect("a pid");
    rest.chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn the_child_knows_hupwraps_pid_and_its_own_generation() {
    let script = "echo \"at $HUPWRAP_PID $HUPWRAP_GENERATION\"; exec sleep 1000";
    let mut run = Setup::new(["--", "sh", "-c", script]).env("HUPWRAP_GENERATION", "99").start();
    for generation in 1..=3 {
        let pid = run.pid;
        assert_eq!(run.line("at "), format!("at {pid} {generation}"));
        run.kill("HUP");
    }
    run.line("at ");
    assert_eq!(run.stop().shell(), 143);
}

#[test]
fn a_strangers_handover_is_not_believed() {
    // The right pid, and a descriptor that is none, or not what a hupwrap leaves; or not even that.
    for value in ["$$:0", "$$:00000099", "0000000001:0000000000", "$$:-1", "$$:99999999999", "$$", "x:y", ""] {
        let script = format!("HUPWRAP_HANDOVER={value} exec \"$@\"");
        let mut run = Setup::of("sh", args([&"-c", &script, &"sh", &hupwrap(), &"--", &puppet()])).start();
        let (generation, child) = run.ready();
        let environ = environ(child);
        assert!(!environ.iter().any(|var| var.starts_with(b"HUPWRAP_HANDOVER")), "HUPWRAP_HANDOVER={value}");
        let ended = run.stop();
        assert_eq!((generation, ended.shell(), ended.stderr.as_str()), (1, 0, ""), "HUPWRAP_HANDOVER={value}");
    }
}

#[test]
fn strangers_handovers_do_not_hide_the_true_one() {
    let vars: [&[u8]; 3] = [b"HUPWRAP_HANDOVER=1:3", b"HUPWRAP_HANDOVER=x", b"PATH=/usr/bin:/bin"];
    // It asks for a re-exec once; the second generation ends.
    let script = "echo $HUPWRAP_GENERATION; [ $HUPWRAP_GENERATION = 2 ] && exit 6; kill -HUP $PPID; exec sleep 1000";
    let ended = with_environment(&vars, &["--on", "HUP=reexec", "--", "sh", "-c", script]);
    assert_eq!((ended.shell(), ended.stdout.as_str()), (6, "1\n2\n"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("took over").count(), 1, "{}", ended.stderr);
}

// Those that were there before.

/// A hupwrap that has a child already, whom it never asked for.
fn with_stranger(options: &[&str]) -> (Run, i32, i32) {
    let script = "sleep 1000 & exec \"$@\"";
    let mut words = args([&"-c", &script, &"sh", &hupwrap()]);
    words.extend(options.iter().map(OsString::from));
    words.extend(args([&"--", &puppet()]));
    let mut run = Setup::of("sh", words).start();
    let (_, child) = run.ready();
    let stranger = children(run.pid).into_iter().find(|pid| *pid != child).expect("a stranger");
    (run, child, stranger)
}

#[test]
fn a_strangers_death_is_nothing_to_hupwrap() {
    let (mut run, child, stranger) = with_stranger(&[]);
    kill(stranger, "KILL");
    wait_until("the stranger is reaped", || children(run.pid) == [child]);
    run.kill("USR1");
    run.line("got USR1");
    let ended = run.stop();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (0, ""));
}

#[test]
fn a_stranger_is_not_stopped() {
    for mode in ["mixed", "process", "group"] {
        let (mut run, child, stranger) = with_stranger(&["--kill-mode", mode]);
        run.kill("HUP");
        run.line("got TERM");
        let (_, second) = run.ready();
        assert_ne!(child, second);
        run.kill("TERM");
        assert_eq!(run.status().code(), Some(0));
        assert!(is_alive(stranger), "{mode}");
    }
}

// Who goes with whom.

#[test]
fn hupwrap_follows_its_parent_where_it_shall() {
    let words: [&dyn AsRef<OsStr>; 11] = [
        &"-c",
        &"\"$@\" & wait",
        &"sh",
        &hupwrap(),
        &"--parent-death",
        &"USR2",
        &"--on",
        &"USR2=stop:INT",
        &"--",
        &puppet(),
        &"exit=INT:0",
    ];
    let mut run = Setup::of("sh", args(words)).start();
    let (_, child) = run.ready();
    let hupwrap = parent(child).unwrap();
    run.kill("KILL");
    assert_eq!(run.line("got "), format!("got INT from {hupwrap}"));
    wait_until("hupwrap ends", || !is_alive(hupwrap));
}

#[test]
fn the_child_is_tethered() {
    let mut run = Setup::new(args([&"--", &puppet()])).start();
    let (_, child) = run.ready();
    run.kill("KILL");
    run.line("got TERM");
    wait_until("the child ends", || !is_alive(child));
}

#[test]
fn the_child_is_not_tethered_where_it_shall_not() {
    let mut run = Setup::new(args([&"--no-tether", &"--", &puppet()])).start();
    let (_, child) = run.ready();
    run.kill("KILL");
    run.status();
    // The lowest number is heard first: TERM would have been.
    kill(child, "RTMAX");
    run.line("got RTMAX");
    assert!(!run.stdout().contains("got TERM"), "{}", run.stdout());
}

// What hupwrap needs, and does not.

#[test]
fn it_works_without_proc() {
    let script = "umount -l /proc && exec \"$@\"";
    let without = |words: &[&dyn AsRef<OsStr>]| {
        let mut all = args([&"--mount", &"sh", &"-c", &script, &"sh"]);
        all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        Setup::of("unshare", all)
    };
    if installed("unshare").is_none() || without(&[&"true"]).end().shell() != 0 {
        return skipped("it_works_without_proc", "unshare(1), or the right to unmount /proc");
    }
    let mut run = without(&[&hupwrap(), &"--on", &"USR1=reexec", &"--", &puppet()]).start();
    for (generation, signal) in [(1, "HUP"), (2, "USR1"), (3, "HUP")] {
        assert_eq!(run.ready().0, generation);
        assert!(!Path::new(&format!("/proc/{}/root/proc/self", run.pid)).exists());
        run.kill(signal);
        run.line("got TERM");
    }
    assert_eq!(run.ready().0, 4);
    assert_eq!(run.stop().shell(), 0);
    // Where a generation cannot be looked up, its child is known all the same.
    let mut run = without(&[&hupwrap(), &"--group", &"shared", &"--kill-mode", &"group", &puppet()]).start();
    run.ready();
    run.kill("USR1");
    run.line("got USR1");
    assert_eq!(run.stop().shell(), 0);
    assert_eq!(without(&[&hupwrap(), &"sh", &"-c", &"kill -9 $$"]).end().shell(), 137);
    assert_eq!(without(&[&hupwrap(), &"/no/such/program"]).end().shell(), 127);
}

#[test]
fn it_sleeps_while_nothing_happens() {
    let mut run = Setup::new(args([&"--", &puppet()])).start();
    let (_, child) = run.ready();
    run.kill("USR1");
    run.line("got USR1");
    let (asleep, switches) = (
        |pid: i32| {
            let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            let words: Vec<&str> = call.split(' ').collect();
            // In read(fd, …) of its signals, or in ppoll(fds, count, timeout, …) without a timeout.
            let fd = words.get(1).and_then(|fd| i32::from_str_radix(fd.trim_start_matches("0x"), 16).ok());
            let link = fs::read_link(format!("/proc/{pid}/fd/{}", fd.unwrap_or(-1))).unwrap_or_default();
            let reads = words[0] == libc::SYS_read.to_string() && link.to_string_lossy().contains("signalfd");
            reads || (words[0] == libc::SYS_ppoll.to_string() && words.get(3) == Some(&"0x0"))
        },
        |pid: i32| [status(pid, "voluntary_ctxt_switches"), status(pid, "nonvoluntary_ctxt_switches")],
    );
    if fs::read_to_string(format!("/proc/{}/syscall", run.pid)).is_err() {
        return skipped("it_sleeps_while_nothing_happens", "/proc/PID/syscall");
    }
    wait_until("hupwrap sleeps without a timeout", || asleep(run.pid));
    let before = switches(run.pid);
    assert_eq!(status(run.pid, "Threads"), "1");
    for _ in 0..50 {
        kill(child, "USR2");
        run.line("got USR2");
    }
    assert!(asleep(run.pid));
    assert_eq!(switches(run.pid), before);
    assert_eq!(run.stop().shell(), 0);
}
