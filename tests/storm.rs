//! Storms of HUPs, and what must be as before when they are over.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use nix::libc;

use crate::support::*;

/// The fields of /proc/PID/status that tell of memory, in kB.
fn memory(pid: i32) -> u64 {
    let field = |name| status(pid, name).trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    field("RssAnon") + field("VmStk")
}

fn environ(pid: i32) -> usize {
    fs::read(format!("/proc/{pid}/environ")).unwrap().len()
}

fn cmdline(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap()
}

fn maps(pid: i32) -> usize {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines().count()
}

/// A hupwrap as any process, and one that is pid 1 of a namespace of its own where that is permitted.
fn everywhere(test: &str, list: Vec<std::ffi::OsString>, act: impl Fn(Run)) {
    act(Setup::new(&list).start());
    let unshare = args([&"--pid", &"--fork", &"--mount-proc", &hupwrap()]).into_iter().chain(list);
    if Setup::of("unshare", ["--pid", "--fork", "--mount-proc", "true"]).end().shell() != 0 {
        return skipped(test, "the right to make a pid namespace: the part as pid 1");
    }
    let mut run = Setup::of("unshare", unshare).start();
    wait_until("unshare has executed hupwrap", || {
        let inside = children(run.pid).first().copied();
        let blocks = |pid: &i32| !["", "0000000000000000"].contains(&status(*pid, "SigBlk").as_str());
        let hupwrap = inside.filter(blocks);
        run.pid = hupwrap.unwrap_or(run.pid);
        hupwrap.is_some()
    });
    act(run);
}

/// Sends this many HUPs as fast as it can, and looks how many children there are meanwhile.
fn storm(run: &Run, count: usize, most: usize) {
    for round in 0..count {
        run.kill("HUP");
        if round % 50 == 0 {
            // A probe is a child as well, and so is one that was just reaped by nobody yet.
            let children: Vec<i32> = children(run.pid).into_iter().filter(|child| is_alive(*child)).collect();
            assert!(children.len() <= most, "{children:?} after {round}");
        }
    }
}

/// Waits until hupwrap has taken note of everything up to now: a signal goes the same way. What it needs no longer it
/// closes after that.
fn at_rest(run: &mut Run) {
    run.kill("USR1");
    run.line("got USR1");
    has_read_all(run);
}

/// Waits until HUPs are over and the last child is up, and returns its pid. What they wrote may be read late, so this
/// looks at them: both sleep with nothing to take, and did all the while.
fn calm(run: &mut Run) -> i32 {
    let naps = |pid| status(pid, "voluntary_ctxt_switches");
    let mut child = 0;
    wait_until("one child is left, and nothing is under way", || {
        let [only] = children(run.pid)[..] else { return false };
        child = only;
        let before = (naps(run.pid), naps(child));
        is_at_rest(run.pid)
            && is_at_rest(child)
            && children(run.pid) == [child]
            && (naps(run.pid), naps(child)) == before
    });
    // Whatever a sleeping hupwrap may still hold, it lets go of with the next signal.
    at_rest(run);
    child
}

#[test]
fn ten_thousand_hups_under_restart() {
    everywhere("storm::ten_thousand_hups_under_restart", args([&"--", &puppet()]), restarts);
}

fn restarts(mut run: Run) {
    run.ready();
    run.kill("HUP");
    run.line("got TERM");
    run.ready();
    at_rest(&mut run);
    let before = (open_fds(run.pid), memory(run.pid), maps(run.pid));
    storm(&run, 10_000, 1);
    let child = calm(&mut run);
    assert_eq!(open_fds(run.pid), before.0);
    assert_eq!(maps(run.pid), before.2);
    assert!(memory(run.pid) <= before.1 + 256, "{} kB, before {} kB", memory(run.pid), before.1);
    assert_eq!(children(run.pid), [child]);
    // Never two at a time: each start follows the end of the one before.
    let mut alive = 0;
    for line in run.stdout().lines() {
        alive += i32::from(line.starts_with("ready")) - i32::from(line.starts_with("got TERM"));
        assert!((0..=1).contains(&alive), "{alive} alive");
    }
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_thousand_hups_under_reexec_and_upgrade() {
    for mode in ["reexec", "upgrade"] {
        let list = args([&"--on-hup", &mode, &"--", &puppet()]);
        everywhere("storm::a_thousand_hups_under_reexec_and_upgrade", list, |run| reexecs(mode, run));
    }
}

fn reexecs(mode: &str, mut run: Run) {
    run.ready();
    run.kill("HUP");
    run.said("took over");
    let child = calm(&mut run);
    let before = (open_fds(run.pid), memory(run.pid), environ(run.pid), cmdline(run.pid));
    // At full speed they coalesce.
    storm(&run, 1000, 2);
    calm(&mut run);
    // One by one none does.
    for _ in 0..if mode == "reexec" { 100 } else { 1000 } {
        let took_over = run.stderr().matches("took over").count();
        run.kill("HUP");
        wait_until("it took over", || run.stderr().matches("took over").count() > took_over);
    }
    let last = calm(&mut run);
    assert_eq!(last == child, mode == "upgrade");
    assert_eq!((open_fds(run.pid), environ(run.pid), cmdline(run.pid)), (before.0, before.2, before.3), "{mode}");
    assert!(memory(run.pid) <= before.1 + 256, "{mode}: {} kB, before {} kB", memory(run.pid), before.1);
    assert_eq!(run.stop().shell(), 0, "{mode}");
}

#[test]
fn no_usr1_is_lost_in_a_storm_of_upgrades() {
    let list = args([&"--on-hup", &"upgrade", &"--", &puppet()]);
    everywhere("storm::no_usr1_is_lost_in_a_storm_of_upgrades", list, |mut run| {
        run.ready();
        for _ in 0..1000 {
            run.kill("HUP");
            run.kill("USR1");
            // At most one in flight.
            run.line("got USR1");
        }
        run.said("took over");
        assert_eq!(run.stdout().matches("got USR1").count(), 1000);
        assert_eq!(run.stop().shell(), 0);
    });
}

#[test]
fn a_term_anywhere_in_a_storm_ends_both() {
    for mode in ["restart", "reexec", "upgrade"] {
        for round in 0..25 {
            let mut run = Setup::new(args([&"--on-hup", &mode, &"--", &puppet(), &"exit=TERM:7"])).start();
            run.ready();
            for _ in 0..round * 7 {
                run.kill("HUP");
            }
            run.kill("TERM");
            for _ in 0..round {
                // It may be gone by now.
                // SAFETY: the process is a child of this one and not waited for: its pid is its own.
                unsafe { libc::kill(run.pid, libc::SIGHUP) };
            }
            run.status();
            wait_until("nobody is left", || run.family().is_empty());
            // A child that ended as a step of a restart is not the answer: then no child ran, and it is 143.
            let ended = run.end();
            assert!([7, 143].contains(&ended.shell()), "{mode} {round}: {ended:?}");
        }
    }
}

#[test]
fn a_hup_during_the_drain_shares_the_start_to_come() {
    let mut run = Setup::new(args([&"--", &puppet(), &"ignore=TERM", &"exit=USR2:0"])).start();
    let (_, child) = run.ready();
    run.kill("HUP");
    run.line("got TERM");
    for _ in 0..100 {
        run.kill("HUP");
    }
    kill(child, "USR2");
    let (generation, _) = run.ready();
    assert_eq!(generation, 2);
    run.kill("USR1");
    run.line("got USR1");
    assert_eq!(run.stdout().matches("ready").count(), 2);
    run.kill("USR2");
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn a_term_in_the_same_batch_as_hups_forbids_the_start() {
    for order in [["HUP", "HUP", "TERM"], ["TERM", "HUP", "HUP"]] {
        let mut run = Setup::new(args([&"--", &puppet()])).start();
        run.ready();
        // Stopped, it takes all of them at once.
        run.kill("STOP");
        wait_until("it is stopped", || state(run.pid) == Some('T'));
        for signal in order {
            run.kill(signal);
        }
        run.kill("CONT");
        let ended = run.end();
        assert_eq!((ended.shell(), ended.stdout.matches("ready").count()), (0, 1), "{order:?}");
    }
}

/// Sends a real-time signal to a stopped process very often. Each waits in the queue.
fn flood(run: &Run, and_then: &[&str]) {
    run.kill("STOP");
    wait_until("it is stopped", || state(run.pid) == Some('T'));
    (0..50_000).for_each(|_| run.kill("RTMIN+1"));
    and_then.iter().for_each(|signal| run.kill(signal));
}

/// All processes of a user share the room for what waits in queues, and a real-time signal without room has no sender.
/// What a flood may take of it is half: the other tests need some too.
fn leave_room(command: &mut Command) {
    before_exec(command, || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointers are to a struct of ours.
        unsafe {
            libc::getrlimit(libc::RLIMIT_SIGPENDING, &raw mut limit);
            limit.rlim_cur /= 2;
            libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const limit);
        }
    });
}

/// Waits until hupwrap has read every signal, and handled them.
fn has_read_all(run: &Run) {
    wait_until("no signal waits", || is_at_rest(run.pid));
}

/// Waits until no signal waits. A hupwrap that waits for the end of what a child left behind looks at /proc time and
/// again, and may never rest where other processes are many.
fn has_taken_all(run: &Run) {
    wait_until("every signal is taken", || status(run.pid, "ShdPnd").bytes().all(|digit| digit == b'0'));
}

/// A TERM behind a flood costs hupwrap less time than this: a flood of which each signal takes a turn costs more. It is
/// time of the processor, because the other kind passes while other processes run.
const LITTLE: Duration = Duration::from_secs(1);

/// Waits for hupwrap's end, and returns for how long it has run.
#[track_caller]
fn busy_till_its_end(run: &Run) -> Duration {
    wait_until("hupwrap ends", || state(run.pid) == Some('Z'));
    // utime and stime (`proc(5)`), in ticks of a hundredth of a second.
    let fields = stat(run.pid).expect("a zombie");
    let ticks = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

#[test]
fn a_flood_of_real_time_signals_costs_neither_memory_nor_time() {
    let crashed = args([&"--restart", &"always", &"--restart-delay", &"1h", &"--", &"true"]);
    let starting = args([&"--ready", &"notify", &"--", &puppet()]);
    let running = args([&"--", &puppet()]);
    for (list, sign, code) in [(crashed, "", 143), (starting, "ready", 0), (running, "ready", 0)] {
        for signals in [&["TERM"][..], &[]] {
            let mut run = Setup::new(&list).with(leave_room).start();
            match sign {
                "" => run.said("starting it again"),
                sign => drop(run.line(sign)),
            }
            has_read_all(&run);
            let before = memory(run.pid);
            flood(&run, signals);
            run.kill("CONT");
            if signals.is_empty() {
                has_read_all(&run);
                assert!(memory(run.pid) <= before + 256, "{} kB, before {before} kB", memory(run.pid));
                run.kill("TERM");
            }
            let busy = busy_till_its_end(&run);
            let ended = run.end();
            assert_eq!(ended.shell(), code, "{list:?} {signals:?}");
            assert!(busy < LITTLE, "{list:?} {signals:?}: {busy:?}");
            assert!(ended.stderr.lines().count() <= 1, "{list:?} {signals:?}: {}", ended.stderr.lines().count());
            // They are levels: many of them may count as one.
            let heard = ended.stdout.matches("got RTMIN+1").count();
            assert!(heard <= 100, "{list:?} {signals:?}: {heard}");
        }
    }
}

#[test]
fn what_nobody_receives_is_said_once() {
    let dir = Dir::new();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // What is left of the child ignores TERM, and ends with the fifo.
    let script = r#"(trap '' TERM; echo up; read line <"$0") & exec "$1""#;
    let options = args([&"--stop-timeout", &"never", &"--", &"sh", &"-c", &script, &fifo, &puppet()]);
    let mut run = Setup::new(options).with(leave_room).start();
    let (_, child) = run.ready();
    run.wrote_times("up", 1);
    run.kill("TERM");
    run.line("got TERM");
    wait_until("the child is reaped", || state(child).is_none());
    for _ in 0..3 {
        // One by one, so that each has a turn of its own.
        for signal in ["USR1", "RTMIN+1", "USR2"] {
            run.kill(signal);
            has_taken_all(&run);
        }
    }
    flood(&run, &[]);
    run.kill("CONT");
    has_taken_all(&run);
    fs::write(&fifo, "").unwrap();
    let ended = run.end();
    let said = ended.stderr.matches("not passed on: no child runs").count();
    assert_eq!((said, ended.shell()), (3, 0));
}

#[test]
fn thousands_of_orphans_that_end_at_once_do_not_delay_a_stop() {
    const NAME: &str = "storm::thousands_of_orphans_that_end_at_once_do_not_delay_a_stop";
    const COUNT: usize = 1000;
    if installed("perl").is_none() {
        return skipped(NAME, "perl(1)");
    }
    let script = r#"$| = 1; <STDIN>; for (1..shift) { my $p = fork; if (!$p) { fork; exit } waitpid $p, 0 } print "done\n"; sleep 1000"#;
    let list = args([&"--", &"perl", &"-e", &script, &COUNT.to_string()]);
    let mut run = Setup::new(list).stdin().start();
    has_read_all(&run);
    run.kill("STOP");
    wait_until("it is stopped", || state(run.pid) == Some('T'));
    run.write("\n");
    run.line("done");
    wait_until("all are orphans, and have ended", || children(run.pid).len() == COUNT + 1);
    run.kill("TERM");
    run.kill("CONT");
    let busy = busy_till_its_end(&run);
    assert_eq!(run.status().signal(), Some(libc::SIGTERM));
    assert!(busy < LITTLE, "{busy:?}");
}
