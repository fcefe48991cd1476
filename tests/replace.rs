//! `replace`: two generations at a time, and one serves at every moment.
//!
//! The puppets here write a newline to fd 3 by USR2: the test says when one is ready.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::notify::{send, socket_of, tell};
use crate::support::pty::Terminal;
use crate::support::*;

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

/// What makes HUP replace, and USR2 make ready.
const REPLACE: [&str; 4] = ["--on-hup", "replace", "--ready", "fd:3"];

/// A time limit that children must keep, which they do on a machine that stalls, too.
const SLOW: &str = "4s";

/// Arguments for hupwrap: those of [`REPLACE`], more, and a puppet that is ready by USR2, with more.
fn by_hand(options: &[&str], puppet_args: &[&str]) -> Vec<OsString> {
    let mut list: Vec<OsString> = REPLACE.iter().chain(options).map(OsString::from).collect();
    list.extend(args([&"--", &puppet(), &"tell=USR2:3"]));
    list.extend(puppet_args.iter().map(OsString::from));
    list
}

/// The same with a puppet that has other arguments in the first generation than in those after it.
fn two_kinds(options: &[&str], first: &str, others: &str) -> Vec<OsString> {
    let mut list: Vec<OsString> = REPLACE.iter().chain(options).map(OsString::from).collect();
    let puppet = puppet();
    let puppet = puppet.display();
    list.extend(args([&"--", &"sh", &"-c", &format!(
        "case $HUPWRAP_GENERATION in 1) exec {puppet} tell=USR2:3 {first};; *) exec {puppet} tell=USR2:3 {others};; esac"
    )]));
    list
}

/// Has a puppet say that it is ready. What follows from it may be said before.
#[track_caller]
fn make_ready(run: &mut Run, pid: i32) {
    let before = run.stdout().matches("told\n").count();
    kill(pid, "USR2");
    run.wrote_times("told\n", before + 1);
}

/// Starts hupwrap, and makes the first child ready.
#[track_caller]
fn serving(list: Vec<OsString>) -> (Run, i32) {
    let mut run = Setup::new(list).start();
    let (_, first) = run.ready();
    make_ready(&mut run, first);
    (run, first)
}

/// HUP, and the new child that is not ready yet.
#[track_caller]
fn second(run: &mut Run) -> i32 {
    run.kill("HUP");
    run.ready().1
}

/// Waits until one child is left, and nothing of the others.
#[track_caller]
fn alone(run: &Run, pid: i32) {
    wait_until(&format!("{pid} is alone"), || children(run.pid) == [pid]);
}

/// Waits until hupwrap, and a puppet, have acted upon everything that was sent before. What hupwrap needs no longer it
/// closes after that.
#[track_caller]
fn at_rest(run: &mut Run) {
    run.kill("RTMIN+1");
    run.line("got RTMIN+1");
    wait_until("hupwrap waits", || is_at_rest(run.pid));
}

/// The same where no child is ready to receive more than that, or everybody does.
#[track_caller]
fn settled(run: &mut Run) {
    run.kill("WINCH");
    run.line("got WINCH");
}

fn starts(run: &Run) -> usize {
    run.stdout().matches("ready ").count()
}

/// The living children, at one moment. Pids begin again at some time: their order says nothing.
fn alive(pid: i32) -> BTreeSet<i32> {
    // Looked at again: /proc is not read at once, and one may have ended before another began.
    let listed = children(pid);
    listed.into_iter().filter(|child| is_alive(*child)).collect()
}

/// Looks all the while whether there are ever three.
struct Watch {
    over: Arc<AtomicBool>,
    watcher: Option<std::thread::JoinHandle<usize>>,
}

impl Watch {
    fn new(hupwrap: i32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let watcher = std::thread::spawn(move || {
            let mut most = 0;
            while !until.load(Ordering::Relaxed) {
                most = most.max(alive(hupwrap).len());
            }
            most
        });
        Self { over, watcher: Some(watcher) }
    }

    /// The most there were.
    fn most(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.take().unwrap().join().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

// The request.

#[test]
fn the_old_one_serves_until_the_new_one_is_ready() {
    let (mut run, old) = serving(by_hand(&[], &[]));
    let new = second(&mut run);
    at_rest(&mut run);
    assert_eq!(alive(run.pid), [old, new].into());
    assert!(!run.stdout().contains("got TERM"));
    make_ready(&mut run, new);
    run.line("got TERM");
    alone(&run, new);
    let ended = run.stop();
    assert_eq!(ended.shell(), 0);
    let lines = format!(
        "hupwrap: replacing puppet[{old}], which serves until a new one is ready\n\
         hupwrap: puppet[{new}] is ready; stopping puppet[{old}]\n"
    );
    assert_eq!(ended.stderr, lines);
}

#[test]
fn without_a_readiness_a_second_of_life_is_one() {
    let mut run = Setup::new(args([&"--on-hup", &"replace", &"--", &puppet()])).start();
    run.ready();
    let asked = Instant::now();
    let watch = Watch::new(run.pid);
    second(&mut run);
    // It waits for the end of that second.
    run.kill("HUP");
    run.said("is ready; stopping");
    assert!(asked.elapsed() >= Duration::from_secs(1));
    run.said_times("is ready; stopping", 2);
    assert!(asked.elapsed() >= Duration::from_secs(2));
    let (_, last) = run.ready();
    alone(&run, last);
    at_rest(&mut run);
    assert!(watch.most() <= 2);
    assert_eq!(starts(&run), 3, "{}", run.stdout());
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn an_explicit_exec_is_believed() {
    let mut run = Setup::new(args([&"--on-hup", &"replace", &"--ready", &"exec", &"--", &puppet()])).start();
    run.ready();
    let asked = Instant::now();
    let new = second(&mut run);
    run.said("is ready; stopping");
    alone(&run, new);
    assert!(asked.elapsed() < PATIENCE);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn hups_while_the_new_one_is_not_ready_make_one_more() {
    let (mut run, _) = serving(by_hand(&[], &[]));
    let watch = Watch::new(run.pid);
    let new = second(&mut run);
    for _ in 0..20 {
        run.kill("HUP");
    }
    at_rest(&mut run);
    make_ready(&mut run, new);
    let (generation, third) = run.ready();
    make_ready(&mut run, third);
    alone(&run, third);
    at_rest(&mut run);
    assert_eq!((generation, starts(&run)), (3, 3));
    assert!(watch.most() <= 2);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_hup_while_the_old_one_drains_waits_for_it() {
    let (mut run, old) = serving(two_kinds(&["--stop-timeout", "never"], "ignore=TERM exit=WINCH:0", ""));
    let new = second(&mut run);
    let watch = Watch::new(run.pid);
    make_ready(&mut run, new);
    run.line("got TERM");
    for _ in 0..20 {
        run.kill("HUP");
    }
    at_rest(&mut run);
    assert_eq!((alive(run.pid), starts(&run)), ([old, new].into(), 2));
    kill(old, "WINCH");
    let (generation, third) = run.ready();
    make_ready(&mut run, third);
    alone(&run, third);
    assert_eq!(generation, 3);
    assert!(watch.most() <= 2);
    run.kill("KILL");
}

#[test]
fn a_hup_before_the_first_child_is_ready_waits_for_it() {
    let mut run = Setup::new(by_hand(&[], &[])).start();
    let (_, first) = run.ready();
    run.kill("HUP");
    settled(&mut run);
    assert_eq!((alive(run.pid), starts(&run)), ([first].into(), 1));
    make_ready(&mut run, first);
    let (_, second) = run.ready();
    make_ready(&mut run, second);
    alone(&run, second);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn an_obstinate_old_one_is_killed_and_the_request_is_ok() {
    let (mut run, old) = serving(two_kinds(&["--stop-timeout", "300ms"], "ignore=TERM", "exit=USR1:0"));
    let new = second(&mut run);
    make_ready(&mut run, new);
    run.said(&format!("puppet[{new}] is ready; stopping puppet[{old}]").replace("puppet", "sh"));
    run.said(&format!("sh[{old}] did not end within 300ms; sending KILL"));
    alone(&run, new);
    // By itself: whether it would obey a TERM within that time is up to the machine.
    kill(new, "USR1");
    let ended = run.end();
    assert_eq!(ended.shell(), 0);
    assert!(!ended.stderr.contains("failed"), "{}", ended.stderr);
}

#[test]
fn a_forward_reaches_the_old_one_at_once_and_the_new_one_when_it_is_ready() {
    let (mut run, old) = serving(by_hand(&[], &[]));
    let new = second(&mut run);
    run.kill("USR1");
    run.line("got USR1");
    at_rest(&mut run);
    // Everything that the new one was sent by now it would say before this.
    kill(new, "RTMIN+2");
    run.line("got RTMIN+2");
    assert_eq!(run.stdout().matches("got USR1").count(), 1);
    make_ready(&mut run, new);
    run.line("got USR1");
    alone(&run, new);
    assert!(!is_alive(old));
    // A new one that fails takes with it what it was not told: no later one hears it.
    let bad = second(&mut run);
    run.kill("USR1");
    run.line("got USR1");
    kill(bad, "KILL");
    run.said("replace failed, the old one serves on");
    alone(&run, new);
    let good = second(&mut run);
    make_ready(&mut run, good);
    alone(&run, good);
    at_rest(&mut run);
    assert_eq!(run.stdout().matches("got USR1").count(), 3);
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn what_tells_of_a_state_reaches_both() {
    let (mut run, _) = serving(by_hand(&[], &[]));
    second(&mut run);
    for signal in ["WINCH", "CONT"] {
        run.kill(signal);
        run.line(&format!("got {signal} from {}", run.pid));
        run.line(&format!("got {signal} from {}", run.pid));
    }
    assert_eq!(run.stop().shell(), 0);
}

// The old one's end.

#[test]
fn when_the_old_one_dies_the_new_one_is_waited_for() {
    for replaced in [false, true] {
        let (mut run, old) = serving(by_hand(&[], &[]));
        let new = second(&mut run);
        kill(old, "KILL");
        run.said("puppet ended by itself (KILL) before it was replaced; waiting for the new one");
        alone(&run, new);
        if !replaced {
            // Its failure is a crash.
            kill(new, "SEGV");
            kill(new, "KILL");
            let ended = run.end();
            assert_eq!(ended.shell(), 137);
            assert_eq!(ended.stdout.matches("ready ").count(), 2);
            continue;
        }
        make_ready(&mut run, new);
        let third = second(&mut run);
        assert_eq!(alive(run.pid), [new, third].into());
        make_ready(&mut run, third);
        alone(&run, third);
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn when_the_old_one_dies_nothing_that_was_forwarded_reaches_the_new_one_too_early() {
    let (mut run, old) = serving(by_hand(&[], &[]));
    let new = second(&mut run);
    run.kill("USR1");
    run.line("got USR1");
    kill(old, "KILL");
    run.said("waiting for the new one");
    alone(&run, new);
    settled(&mut run);
    assert_eq!(run.stdout().matches("got USR1").count(), 1);
    make_ready(&mut run, new);
    run.line("got USR1");
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_new_one_that_is_late_after_the_old_one_died_is_a_failure() {
    let (mut run, old) = serving(by_hand(&["--ready-timeout", SLOW], &[]));
    second(&mut run);
    kill(old, "KILL");
    run.said("was not ready within 4s");
    let ended = run.end();
    assert_eq!(ended.shell(), 124, "{}", ended.stderr);
}

// A new one that is not what it should be.

#[test]
fn a_new_one_that_ends_before_it_is_ready_has_failed() {
    let cases = [
        (
            "exit=WINCH:3",
            "WINCH",
            "the new puppet ended (3) before it was ready; did it want the port that the old one has? see --listen",
        ),
        (
            "exit=WINCH:0",
            "WINCH",
            "the new puppet ended (0) before it was ready; does it go into the background? it must stay in the foreground, or name its main process, see --child-pidfile",
        ),
        (
            "",
            "KILL",
            "the new puppet ended (KILL) before it was ready; did it want the port that the old one has? see --listen",
        ),
    ];
    for (puppet_args, signal, line) in cases {
        let (mut run, old) =
            serving(by_hand(&[], &[puppet_args].into_iter().filter(|arg| !arg.is_empty()).collect::<Vec<_>>()));
        let new = second(&mut run);
        kill(new, signal);
        run.said(&format!("replace failed, the old one serves on: {line}\n"));
        alone(&run, old);
        at_rest(&mut run);
        assert_eq!(starts(&run), 2, "exactly one attempt");
        assert!(!run.stdout().contains("got TERM"));
        // A second request is served.
        let new = second(&mut run);
        make_ready(&mut run, new);
        alone(&run, new);
        assert_eq!(run.stop().shell(), 0);
    }
}

#[test]
fn a_new_one_that_is_late_is_stopped_to_the_last() {
    let (mut run, old) =
        serving(two_kinds(&["--ready-timeout", SLOW, "--stop-timeout", "300ms"], "exit=USR1:0", "ignore=TERM"));
    let new = second(&mut run);
    run.said("replace failed, the old one serves on: the new sh was not ready within 4s");
    run.said(&format!("sh[{new}] did not end within 300ms; sending KILL"));
    alone(&run, old);
    at_rest(&mut run);
    // It may have been killed before it came to say so. The old one has not got it, or would have ended.
    assert!(run.stdout().matches("got TERM").count() <= 1);
    kill(old, "USR1");
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn a_hup_while_a_late_one_is_stopped_waits_for_its_end() {
    let (mut run, old) =
        serving(two_kinds(&["--ready-timeout", SLOW, "--stop-timeout", "never"], "", "ignore=TERM exit=WINCH:0"));
    let late = second(&mut run);
    let watch = Watch::new(run.pid);
    run.said("was not ready within 4s");
    run.line("got TERM");
    run.kill("HUP");
    at_rest(&mut run);
    assert_eq!(alive(run.pid), [old, late].into());
    kill(late, "WINCH");
    let (_, new) = run.ready();
    make_ready(&mut run, new);
    alone(&run, new);
    assert!(watch.most() <= 2);
    run.kill("KILL");
}

#[test]
fn within_the_overlap_a_death_is_a_failure_and_after_it_a_crash() {
    let (mut run, old) = serving(by_hand(&["--overlap", "1h"], &[]));
    let new = second(&mut run);
    make_ready(&mut run, new);
    kill(new, "KILL");
    run.said(
        "replace failed, the old one serves on: the new puppet ended (KILL) soon after it was ready; \
         did it want the port that the old one has? see --listen\n",
    );
    alone(&run, old);
    at_rest(&mut run);
    assert!(!run.stdout().contains("got TERM"));
    assert_eq!(run.stop().shell(), 0);

    let (mut run, _) = serving(by_hand(&["--overlap", "500ms"], &[]));
    let asked = Instant::now();
    let new = second(&mut run);
    make_ready(&mut run, new);
    run.said("is ready; stopping");
    assert!(asked.elapsed() >= Duration::from_millis(500));
    kill(new, "KILL");
    assert_eq!(run.end().shell(), 137);
}

#[test]
fn when_the_old_one_dies_within_the_overlap_the_new_one_serves() {
    let (mut run, old) = serving(by_hand(&["--overlap", "1h"], &[]));
    let new = second(&mut run);
    make_ready(&mut run, new);
    // A HUP behind it waits for the overlap's end, which is this.
    run.kill("HUP");
    at_rest(&mut run);
    kill(old, "KILL");
    run.said("puppet ended by itself (KILL) before it was replaced; the new one is ready\n");
    let (generation, third) = run.ready();
    assert_eq!((generation, alive(run.pid)), (3, [new, third].into()));
    assert_eq!(run.stop().shell(), 0);
}

// What remains of a generation.

/// What a child may leave behind: a name, and how it is started. `$W` is the worker.
const KINDS: [(&str, &str); 6] = [
    ("background", "sh -c \"$W\" background &"),
    ("session", "setsid sh -c \"$W\" session &"),
    ("orphan", "(sh -c \"$W\" orphan &)"),
    ("daemon", "(setsid sh -c \"$W\" daemon &)"),
    ("bare-orphan", "(env -u HUPWRAP_GENERATION -u HUPWRAP_PID sh -c \"$W\" bare-orphan &)"),
    ("bare-daemon", "(env -u HUPWRAP_GENERATION -u HUPWRAP_PID setsid sh -c \"$W\" bare-daemon &)"),
];

/// Leaves one of each kind behind, and one more when the test says `go`, where it is the first.
fn script() -> String {
    let workers: String = KINDS.iter().map(|(_, start)| format!("{start}\n")).collect();
    format!(
        "exec 4>&3 3>&-
         W='echo worker $0 $$; exec sleep 1000'; export W
         {workers}
         if [ $HUPWRAP_GENERATION = 1 ]; then
             (read x < go; (setsid sh -c \"$W\" late &); (sh -c \"$W\" late &)) 4>&- &
         fi
         exec {} tell=USR2:4",
        puppet().display()
    )
}

/// The pid here of the process that has that pid there, in the pid namespace of `peer`.
fn from_outside(peer: i32, inside: i32) -> i32 {
    let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = space(peer);
    let text = inside.to_string();
    let everyone = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = everyone.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found =
        pids.find(|pid| status(*pid, "NSpid").split_whitespace().last() == Some(&text) && space(*pid) == wanted);
    found.unwrap_or_else(|| panic!("no process has pid {inside} there"))
}

/// The pids here of that many workers, with their kinds.
#[track_caller]
fn workers(run: &mut Run, count: usize) -> Vec<(String, i32)> {
    let mut all = Vec::new();
    for _ in 0..count {
        let line = run.line("worker ");
        let mut words = line.split(' ').skip(1);
        let kind = words.next().unwrap().to_owned();
        let pid = from_outside(run.pid, words.next().unwrap().parse().unwrap());
        // While it executes, nothing shows its generation.
        wait_until("it has executed", || {
            let is_sleep = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
            // The name is there first.
            is_sleep && fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| !environment.is_empty())
        });
        all.push((kind, pid));
    }
    all
}

/// What a generation says of itself, in any order: its child, and so many workers.
#[track_caller]
fn generation(run: &mut Run, number: u64, count: usize) -> (i32, Vec<(String, i32)>) {
    let mut child = 0;
    let mut all = Vec::new();
    while child == 0 || all.len() < count {
        let line = run.line("");
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["ready", said, pid] => {
                assert_eq!(said, number.to_string());
                child = from_outside(run.pid, pid.parse().unwrap());
            }
            ["worker", kind, pid] => all.push((kind.to_owned(), from_outside(run.pid, pid.parse().unwrap()))),
            _ => {}
        }
    }
    (child, all)
}

/// hupwrap, and hupwrap as pid 1 where that is permitted; `pid` is its own.
fn everywhere(test: &str, dir: &Path, list: &[OsString], act: impl Fn(Run, &str)) {
    let own_group = |setup: Setup| {
        setup.dir(dir).with(|command| {
            command.process_group(0);
        })
    };
    act(own_group(Setup::new(list)).start(), "as a process");
    let unshare = ["--pid", "--fork", "--mount-proc"];
    if Setup::of("unshare", unshare.iter().chain(&["true"])).end().shell() != 0 {
        return skipped(test, "the right to make a pid namespace: the part as pid 1");
    }
    let list: Vec<OsString> =
        unshare.iter().map(OsString::from).chain([hupwrap().into()]).chain(list.iter().cloned()).collect();
    let mut run = own_group(Setup::of("unshare", list)).start();
    wait_until("unshare has executed hupwrap", || {
        let inside = children(run.pid).first().copied();
        let hupwrap = inside.filter(|pid| !["", "0000000000000000"].contains(&status(*pid, "SigBlk").as_str()));
        run.pid = hupwrap.unwrap_or(run.pid);
        hupwrap.is_some()
    });
    act(run, "as pid 1");
}

#[track_caller]
fn all_gone(workers: &[(String, i32)], when: &str) {
    for (kind, pid) in workers {
        wait_until(&format!("{kind} is gone ({when})"), || !is_alive(*pid));
    }
}

#[track_caller]
fn all_live(workers: &[(String, i32)], when: &str) {
    for (kind, pid) in workers {
        assert!(is_alive(*pid), "{kind} lives ({when})");
    }
}

#[test]
fn the_rest_of_the_generation_that_goes_is_swept_and_that_of_the_other_lives() {
    for mode in ["mixed", "group"] {
        for group in ["own", "shared"] {
            let dir = Dir::new();
            nix::unistd::mkfifo(&dir.path().join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            let mut list: Vec<OsString> = REPLACE.iter().map(OsString::from).collect();
            list.extend(args([&"--kill-mode", &mode, &"--group", &group, &"--", &"sh", &"-c", &script()]));
            everywhere("replace::the_rest_of_the_generation_that_goes", dir.path(), &list, |mut run, place| {
                let when = |what: &str| format!("{what}, {mode}, {group}, {place}");
                let (first, mut old) = generation(&mut run, 1, KINDS.len());
                make_ready(&mut run, first);
                // One that fails takes its own with it.
                run.kill("HUP");
                let (second, failed) = generation(&mut run, 2, KINDS.len());
                fs::write(dir.path().join("go"), "\n").unwrap();
                old.extend(workers(&mut run, 2));
                kill(second, "KILL");
                run.said("replace failed, the old one serves on");
                all_gone(&failed, &when("failed"));
                settled(&mut run);
                all_live(&old, &when("serves on"));
                // One that is replaced takes its own with it.
                run.kill("HUP");
                let (third, new) = generation(&mut run, 3, KINDS.len());
                all_live(&old, &when("not ready yet"));
                make_ready(&mut run, third);
                all_gone(&old, &when("replaced"));
                wait_until("the old child is gone", || !is_alive(first));
                settled(&mut run);
                all_live(&new, &when("new"));
                assert!(!run.stderr().contains("sending KILL"), "{}", run.stderr());
                kill(run.pid, "TERM");
                assert_eq!(run.status().code(), Some(0), "{}", when("stopped"));
                for (kind, pid) in &new {
                    assert!(!is_alive(*pid), "{kind}, {}", when("stopped"));
                }
            });
        }
    }
}

#[test]
fn in_mode_process_nobody_but_the_child_is_asked() {
    let dir = Dir::new();
    let mut list: Vec<OsString> = REPLACE.iter().map(OsString::from).collect();
    list.extend(args([&"--kill-mode", &"process", &"--", &"sh", &"-c", &script()]));
    let mut run = Setup::new(list).dir(dir.path()).start();
    let (first, old) = generation(&mut run, 1, KINDS.len());
    make_ready(&mut run, first);
    run.kill("HUP");
    let (second, new) = generation(&mut run, 2, KINDS.len());
    make_ready(&mut run, second);
    wait_until("the old child is gone", || !is_alive(first));
    run.kill("TERM");
    assert_eq!(run.status().code(), Some(0));
    all_live(&old, "old");
    all_live(&new, "new");
}

#[test]
fn an_orphan_of_a_hupwrap_below_is_not_taken_for_one_of_the_old_generation() {
    // The one below numbers its own starts: its first is not ours.
    let script = format!(
        "if [ $HUPWRAP_GENERATION = 2 ]; then
             {} --kill-mode process sh -c 'setsid sh -c \"echo worker below \\$\\$; exec sleep 1000\" & exit'
         fi
         exec {} tell=USR2:3",
        hupwrap().display(),
        puppet().display()
    );
    let mut list: Vec<OsString> = REPLACE.iter().map(OsString::from).collect();
    list.extend(args([&"--", &"sh", &"-c", &script]));
    let (mut run, first) = serving(list);
    run.kill("HUP");
    let (second, below) = generation(&mut run, 2, 1);
    make_ready(&mut run, second);
    wait_until("the old child is gone", || !is_alive(first));
    at_rest(&mut run);
    all_live(&below, "an orphan of the new generation");
    run.kill("TERM");
    run.status();
    assert!(!is_alive(below[0].1));
}

// TERM in the middle of it.

/// A stop at this moment ends everything, with one of these statuses, and leaves nothing. (A puppet that is taken for
/// ready when it executes may not have got to its mask yet, and dies of TERM.)
#[track_caller]
fn ends(run: Run, statuses: &[i32], when: &str) {
    let asked = Instant::now();
    let family = run.family();
    let mut run = run;
    run.kill("TERM");
    let ended = run.status();
    assert!(asked.elapsed() < Duration::from_secs(20), "{when}");
    wait_until("nobody is left", || family.iter().all(|pid| !is_alive(*pid)) && run.family().is_empty());
    let ended = Ended { status: ended, stdout: run.stdout(), stderr: run.stderr() };
    assert!(statuses.contains(&ended.shell()), "{when}: {ended:?}");
}

/// The directories of NOTIFY_SOCKETs. Those of a hupwrap that was killed stay, and its pid may be another's by now.
fn directories() -> BTreeSet<OsString> {
    let entries = ["/run", "/tmp"].into_iter().flat_map(fs::read_dir).flatten().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name.as_encoded_bytes().starts_with(b"hupwrap-")).collect()
}

/// How many of them this hupwrap has made since.
fn made_by(pid: i32, before: &BTreeSet<OsString>) -> usize {
    let beginning = format!("hupwrap-{pid}-");
    let new = directories().into_iter().filter(|name| !before.contains(name));
    new.filter(|name| name.as_encoded_bytes().starts_with(beginning.as_bytes())).count()
}

/// The statuses of an old child and of a new one, which end by TERM.
const OLD: i32 = 3;
const NEW: i32 = 4;

/// The arguments for such children.
fn kinds(options: &[&str], old: &str, new: &str) -> Vec<OsString> {
    two_kinds(options, &format!("exit=TERM:{OLD} {old}"), &format!("exit=TERM:{NEW} {new}"))
}

#[test]
fn a_term_in_the_middle_of_a_replace_ends_it_with_the_status_of_the_one_that_served() {
    let (mut run, _) = serving(kinds(&[], "", ""));
    second(&mut run);
    ends(run, &[OLD], "the new one is not ready");

    // Wherever its start is.
    for _ in 0..20 {
        let (run, _) = serving(kinds(&[], "", ""));
        run.kill("HUP");
        ends(run, &[OLD], "the new one is starting");
    }

    let (mut run, _) = serving(kinds(&["--overlap", "1h"], "", ""));
    let new = second(&mut run);
    make_ready(&mut run, new);
    ends(run, &[OLD], "both are ready");

    let (mut run, _) = serving(kinds(&["--stop-timeout", "300ms"], "ignore=TERM", ""));
    second(&mut run);
    ends(run, &[137], "the old one is obstinate");

    let (mut run, old) = serving(kinds(&[], "", ""));
    let new = second(&mut run);
    kill(old, "KILL");
    alone(&run, new);
    ends(run, &[NEW], "the old one died, and the new one is not ready");

    let (mut run, _) = serving(kinds(&[], "", ""));
    let new = second(&mut run);
    for _ in 0..5 {
        run.kill("HUP");
    }
    kill(new, "KILL");
    run.said("replace failed");
    ends(run, &[OLD], "another one was asked for");
}

/// The other one obeys in time, on a machine that stalls, too.
#[test]
fn a_term_in_the_middle_of_a_replace_waits_for_one_that_is_obstinate() {
    let hangs = || {
        let (mut run, _) = serving(kinds(&["--stop-timeout", SLOW], "", "ignore=TERM"));
        second(&mut run);
        ends(run, &[OLD], "the new one hangs, and is obstinate");
    };
    let is_late = || {
        let (mut run, _) = serving(kinds(&["--stop-timeout", SLOW, "--ready-timeout", SLOW], "", "ignore=TERM"));
        second(&mut run);
        run.said("was not ready within 4s");
        ends(run, &[OLD], "the new one was late, and is obstinate");
    };
    let drains = || {
        let (mut run, _) = serving(kinds(&["--stop-timeout", SLOW], "ignore=TERM", ""));
        let new = second(&mut run);
        make_ready(&mut run, new);
        run.line("got TERM");
        ends(run, &[NEW], "the old one drains, and is obstinate");
    };
    std::thread::scope(|scope| {
        scope.spawn(hangs);
        scope.spawn(is_late);
        drains();
    });
}

#[test]
fn a_term_in_the_same_batch_as_hups_forbids_the_start() {
    for order in [["HUP", "HUP", "TERM"], ["TERM", "HUP", "HUP"]] {
        let (run, _) = serving(by_hand(&[], &["exit=TERM:3"]));
        // Stopped, it takes all of them at once.
        run.kill("STOP");
        wait_until("it is stopped", || state(run.pid) == Some('T'));
        for signal in order {
            run.kill(signal);
        }
        run.kill("CONT");
        let ended = run.end();
        assert_eq!((ended.shell(), ended.stdout.matches("ready ").count()), (3, 1), "{order:?}");
    }
}

#[test]
fn a_try_that_is_under_way_ends_with_hupwrap() {
    // By itself, and told to.
    for by in ["KILL", "TERM"] {
        let ready = "cmd:sh -c 'sleep 1000 & wait'";
        let mut run = Setup::new(args([&"--ready", &ready, &"--", &puppet()])).start();
        let (_, child) = run.ready();
        wait_until("it is tried", || run.family().len() == 4);
        let family = run.family();
        kill(if by == "KILL" { child } else { run.pid }, by);
        run.status();
        wait_until("nobody is left", || family.iter().all(|pid| !is_alive(*pid)));
    }
}

#[test]
fn a_second_term_is_passed_on_to_both() {
    let (mut run, _) = serving(by_hand(&[], &["ignore=TERM", "exit=INT:7"]));
    second(&mut run);
    for _ in 0..2 {
        run.kill("TERM");
        run.line("got TERM");
        run.line("got TERM");
    }
    run.kill("HUP");
    run.kill("INT");
    let ended = run.end();
    assert_eq!((ended.shell(), ended.stdout.matches("ready ").count()), (7, 2));
}

#[test]
fn a_term_at_any_moment_ends_everything() {
    for round in 0..60 {
        let list = args([&"--on-hup", &"replace", &"--ready", &"exec", &"--", &puppet(), &"exit=TERM:7"]);
        let mut run = Setup::new(list).start();
        run.ready();
        for _ in 0..=round % 15 {
            run.kill("HUP");
        }
        if round % 2 == 0 {
            run.line("got TERM");
        }
        for _ in 0..round {
            std::thread::yield_now();
        }
        ends(run, &[7, 143], &format!("round {round}"));
    }
}

#[test]
fn a_term_during_a_probe_or_a_reexec_ends_everything() {
    for mode in ["upgrade+replace", "reexec", "upgrade"] {
        let dir = Dir::new();
        let program = dir.hupwrap("hupwrap");
        let list = args([&"--on-hup", &mode, &"--ready", &"fd:3", &"--", &puppet(), &"tell=USR2:3", &"exit=TERM:3"]);
        let mut run = Setup::of(&program, list).start();
        let (_, child) = run.ready();
        make_ready(&mut run, child);
        dir.impostor("bad", "echo probed >&2\nexec sleep 1000\n");
        // A probe's stderr is hupwrap's to read: what shows is a second child that sleeps.
        fs::rename(dir.path().join("bad"), &program).unwrap();
        run.kill("HUP");
        wait_until("the probe sleeps", || children(run.pid).iter().any(|pid| status(*pid, "Name") == "sleep"));
        ends(run, &[3], mode);
    }
    for round in 0..20 {
        let list = args([&"--on-hup", &"upgrade+replace", &"--ready", &"exec", &"--", &puppet(), &"exit=TERM:3"]);
        let mut run = Setup::new(list).start();
        run.ready();
        run.kill("HUP");
        match round % 4 {
            0 => {}
            1 => run.said("took over"),
            2 => run.said("replacing"),
            _ => run.said("is ready; stopping"),
        }
        ends(run, &[3, 143], &format!("round {round}"));
    }
}

/// Both come to hupwrap at the same time.
#[test]
fn a_new_child_that_says_it_is_ready_and_ends_does_not_take_over() {
    let mut run = Setup::new(args([&"--on-hup", &"replace", &"--ready", &"notify", &"--", &puppet()])).start();
    let (_, old) = run.ready();
    tell(old, "READY=1");
    wait_until("it has heard that", || is_at_rest(run.pid));
    run.kill("HUP");
    let (_, new) = run.ready();
    // Not while it still looks at what came before.
    wait_until("it waits for the new one", || is_at_rest(run.pid));
    run.kill("STOP");
    wait_until("hupwrap is stopped", || state(run.pid) == Some('T'));
    send(&socket_of(new).unwrap(), b"READY=1", &[]).unwrap();
    kill(new, "KILL");
    wait_until("it has ended", || state(new) == Some('Z'));
    run.kill("CONT");
    run.said("replace failed, the old one serves on: ");
    assert!(is_alive(old));
    assert_eq!(run.stop().shell(), 0);
}

// Re-execution.

#[test]
fn upgrade_and_replace_renews_hupwrap_and_then_the_child() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let list = args([&"--on-hup", &"upgrade+replace", &"--ready", &"fd:3", &"--", &puppet(), &"tell=USR2:3"]);
    let mut run = Setup::of(&program, list).start();
    let (_, old) = run.ready();
    make_ready(&mut run, old);
    let new = second(&mut run);
    run.said("took over");
    at_rest(&mut run);
    assert_eq!(alive(run.pid), [old, new].into());
    // A failure leaves the new hupwrap and the old child.
    kill(new, "KILL");
    run.said("upgrade+replace failed, the old one serves on");
    alone(&run, old);
    // As does a new hupwrap that does not run, which starts nothing at all.
    fs::rename(&program, dir.path().join("aside")).unwrap();
    run.kill("HUP");
    run.said("upgrade+replace refused, nothing was touched");
    assert_eq!(alive(run.pid), [old].into());
    fs::rename(dir.path().join("aside"), &program).unwrap();
    let new = second(&mut run);
    make_ready(&mut run, new);
    alone(&run, new);
    assert_eq!(run.stop().shell(), 0);
}

// Storms.

/// The fields of /proc/PID/status that tell of memory, in kB.
fn memory(pid: i32) -> u64 {
    let field = |name| status(pid, name).trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    field("RssAnon") + field("VmStk")
}

#[test]
fn three_hundred_replaces_leave_nothing_behind() {
    let unmade = directories();
    let mut run =
        Setup::new(args([&"--on-hup", &"replace", &"--ready", &"notify", &"--", &puppet(), &"notify"])).start();
    run.ready();
    let replace = |run: &mut Run| {
        let new = second(run);
        alone(run, new);
        new
    };
    for _ in 0..5 {
        replace(&mut run);
    }
    at_rest(&mut run);
    let before = (open_fds(run.pid), memory(run.pid));
    let watch = Watch::new(run.pid);
    for _ in 0..300 {
        replace(&mut run);
    }
    at_rest(&mut run);
    assert!(watch.most() <= 2);
    assert_eq!((open_fds(run.pid), made_by(run.pid, &unmade)), (before.0, 1));
    assert!(memory(run.pid) <= before.1 + 256, "{} kB, before {} kB", memory(run.pid), before.1);
    assert_eq!(starts(&run), 306);
    let pid = run.pid;
    assert_eq!(run.stop().shell(), 0);
    assert_eq!(made_by(pid, &unmade), 0);
}

#[test]
fn a_flood_of_hups_is_never_three_generations() {
    let unmade = directories();
    let mut run =
        Setup::new(args([&"--on-hup", &"replace", &"--ready", &"notify", &"--", &puppet(), &"notify"])).start();
    run.ready();
    let watch = Watch::new(run.pid);
    for _ in 0..300 {
        run.kill("HUP");
        std::thread::yield_now();
    }
    // Two more that are waited for: whatever the flood has asked for is done then.
    run.said("is ready; stopping");
    wait_until("the flood is over", || {
        let only = children(run.pid);
        only.len() == 1 && is_at_rest(run.pid)
    });
    assert!(watch.most() <= 2);
    let pid = run.pid;
    assert_eq!(run.stop().shell(), 0);
    assert_eq!(made_by(pid, &unmade), 0);
}

// In the foreground of a terminal.

/// hupwrap in front of a shell's terminal, with the first child ready.
#[track_caller]
fn in_front(terminal: &mut Terminal, options: &str, command: &str) -> (i32, i32) {
    terminal.enter(&format!("$H {} {options} -- {command}", REPLACE.join(" ")));
    let (_, first) = terminal.ready();
    kill(first, "USR2");
    terminal.line("told");
    (parent(first).unwrap(), first)
}

#[test]
fn ctrl_c_during_a_replace_reaches_both_once() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    let (hupwrap, old) = in_front(&mut terminal, "", "$P tell=USR2:3");
    kill(hupwrap, "HUP");
    let (_, new) = terminal.ready();
    assert_eq!(group(old), group(new));
    terminal.keys(CTRL_C);
    terminal.line("got INT from kernel");
    terminal.line("got INT from kernel");
    // Neither has ended, and the replace goes on.
    kill(new, "USR2");
    terminal.has("got TERM");
    wait_until("the new one is alone", || children(hupwrap) == [new]);
    kill(hupwrap, "RTMIN+1");
    terminal.line("got RTMIN+1");
    assert_eq!(terminal.count("got INT"), 2);
    kill(hupwrap, "TERM");
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 0");
}

#[test]
fn ctrl_c_that_ends_both_is_the_end() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    let (hupwrap, _) = in_front(&mut terminal, "", "$P tell=USR2:3 leave=INT");
    kill(hupwrap, "HUP");
    terminal.ready();
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.enter("echo status $?");
    terminal.line("status 130");
    assert_eq!(terminal.count("ready "), 2);
}

#[test]
fn ctrl_c_that_ends_the_new_one_leaves_the_old_one() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    let command = "sh -c 'test $HUPWRAP_GENERATION = 1 || exec $P leave=INT; exec $P tell=USR2:3'";
    terminal.enter("export P");
    terminal.prompt();
    let (hupwrap, old) = in_front(&mut terminal, "", command);
    kill(hupwrap, "HUP");
    terminal.ready();
    terminal.keys(CTRL_C);
    terminal.has("hupwrap: replace failed, the old one serves on");
    wait_until("the old one is alone", || children(hupwrap) == [old]);
    kill(hupwrap, "TERM");
    terminal.prompt();
}

#[test]
fn ctrl_z_during_a_replace_stops_all_three() {
    let mut terminal = Terminal::new();
    let Some(_shell) = terminal.shell(module_path!()) else { return };
    let (hupwrap, old) = in_front(&mut terminal, "", "$P tell=USR2:3 leave=TSTP");
    kill(hupwrap, "HUP");
    let (_, new) = terminal.ready();
    terminal.keys(CTRL_Z);
    for pid in [hupwrap, old, new] {
        wait_until(&format!("{pid} is stopped"), || state(pid) == Some('T'));
    }
    terminal.prompt();
    terminal.enter("fg");
    for pid in [hupwrap, old, new] {
        wait_until(&format!("{pid} runs"), || state(pid).is_some_and(|state| state != 'T'));
    }
    kill(new, "USR2");
    wait_until("the new one is alone", || children(hupwrap) == [new]);
    kill(hupwrap, "TERM");
    terminal.prompt();
}
