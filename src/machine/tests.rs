//! The rules one by one; what they make together is walked through in `walk`.

#![allow(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::effect::To;
use super::message::Failure;
use super::note::TRY_DELAY;
use super::settings::Place;
use super::status::State;
use super::*;
use crate::cli::Args;
use crate::config::Config;
use crate::exit::TIMED_OUT;
use crate::facts::{Sender, StartError};

const SECOND: Duration = Duration::from_secs(1);

/// A machine, its clock, and what it ordered last.
struct Bench {
    machine: Machine,
    now: Time,
    /// Whether the child is in hupwrap's process group.
    shared: bool,
    out: Vec<Effect>,
}

impl Bench {
    fn with(change: impl FnOnce(&mut Args), place: impl FnOnce(&mut Place)) -> Self {
        let mut bench = Self::unborn(change, place);
        bench.tell(Event::Began);
        bench.tell(Event::Executed(1));
        bench
    }

    fn unborn(change: impl FnOnce(&mut Args), place: impl FnOnce(&mut Place)) -> Self {
        let mut args = Args { command: vec!["x".into()], ..Args::default() };
        change(&mut args);
        let mut whereabouts = Place::default();
        place(&mut whereabouts);
        let rules = Settings::new(&Config::new(args).unwrap(), whereabouts);
        Self { machine: Machine::new(rules), now: Duration::from_secs(100), shared: false, out: Vec::new() }
    }

    fn new() -> Self {
        Self::with(|_| (), |_| ())
    }

    fn in_front(self) -> Self {
        Self { shared: true, ..self }
    }

    /// What follows, without what nobody needs to act upon.
    fn tell(&mut self, event: Event) -> &[Effect] {
        self.out.clear();
        self.machine.handle(self.now, event, &mut self.out);
        for action in &mut self.out {
            if let Effect::Say(Message::Settled { began, .. }) = action {
                *began = Time::ZERO;
            }
        }
        self.out.retain(|action| !matches!(action, Effect::Say(line) if line.is_usual()));
        &self.out
    }

    fn signal(&mut self, name: &str, sender: Sender) -> &[Effect] {
        let signal = name.parse().unwrap();
        self.tell(Event::Signal { signal, sender, hung_up: false, shared: self.shared });
        // The checks that cost nothing are answered at once.
        while let Some(Effect::Check { .. }) = self.out.last() {
            let before = std::mem::take(&mut self.out);
            self.tell(Event::Checked);
            self.out.splice(0..0, before);
        }
        &self.out
    }

    fn kill(&mut self, name: &str) -> &[Effect] {
        self.signal(name, Sender::Process)
    }

    /// What is left until the deadline.
    fn left(&self) -> Option<Duration> {
        self.machine.deadline().map(|deadline| deadline.saturating_sub(self.now))
    }

    fn pass(&mut self, time: Duration) -> &[Effect] {
        self.now += time;
        self.tell(Event::Tick)
    }
}

fn sent(to: To, name: &str) -> Effect {
    sent_to(1, to, name)
}

fn sent_to(generation: GenerationId, to: To, name: &str) -> Effect {
    Effect::Signal { generation, to, signal: name.parse().unwrap() }
}

/// A request is over; when its answer began is looked at elsewhere.
fn settled(kind: RequestKind, outcome: Outcome) -> Message {
    Message::Settled { kind, began: Time::ZERO, outcome }
}

const STARTING_SOON: Effect = Effect::Say(Message::StartingSoon);
const CHECK: Effect = Effect::Check { new_child: true };

fn survey(generation: GenerationId) -> Effect {
    Effect::Survey { generation, group_asked: false }
}

#[test]
fn how_long_a_stop_may_take() {
    let timeout = |said: Option<&str>| {
        let said = said.map(str::to_owned);
        Bench::with(|args| args.stop_timeout = said, |_| ())
    };
    for (said, restart, stop) in
        [(None, Some(10 * SECOND), None), (Some("3s"), Some(3 * SECOND), Some(3 * SECOND)), (Some("never"), None, None)]
    {
        let mut bench = timeout(said);
        bench.kill("HUP");
        assert_eq!(bench.left(), restart, "{said:?}");
        let mut bench = timeout(said);
        bench.kill("TERM");
        assert_eq!(bench.left(), stop, "{said:?}");
    }
    let mut bench = timeout(Some("0"));
    let killed = [Effect::Say(Message::Killing(1, Duration::ZERO)), sent(To::Child, "KILL")];
    assert_eq!(bench.kill("TERM"), killed);
    bench.tell(Event::ChildEnded(1, ExitStatus::Killed(Signal::KILL)));
    let killed = [Effect::Say(Message::KillingRest(Duration::ZERO)), sent(To::Rest, "KILL")];
    assert_eq!(bench.tell(Event::RestRemains(1)), killed);
    // One line is enough.
    assert_eq!(bench.tell(Event::RestRemains(1)), [sent(To::Rest, "KILL")]);
}

#[test]
fn a_term_during_a_restart_keeps_its_deadline_and_is_passed_on() {
    let mut bench = Bench::new();
    bench.kill("HUP");
    bench.pass(4 * SECOND);
    assert_eq!(bench.kill("TERM"), [sent(To::Child, "TERM"), sent(To::Child, "CONT")]);
    assert_eq!(bench.left(), Some(6 * SECOND));
    let killed = bench.pass(6 * SECOND).to_vec();
    assert_eq!(killed, [Effect::Say(Message::Killing(1, 10 * SECOND)), sent(To::Child, "KILL")]);
    bench.tell(Event::ChildEnded(1, ExitStatus::Killed(Signal::KILL)));
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Finish(Ending::Child(ExitStatus::Killed(Signal::KILL)))]);
}

#[test]
fn what_does_not_end_by_kill_is_said_once() {
    let mut bench = Bench::new();
    bench.kill("HUP");
    bench.pass(10 * SECOND);
    assert_eq!(bench.pass(10 * SECOND), [Effect::Say(Message::Unkillable(generation::KILL_TIMEOUT))]);
    assert_eq!(bench.left(), None);
    assert_eq!(bench.kill("USR1"), [sent(To::Child, "USR1")]);
}

#[test]
fn the_rest_gets_the_deadline_of_the_child_or_one_of_its_own() {
    let mut bench = Bench::new();
    bench.kill("HUP");
    bench.pass(3 * SECOND);
    assert_eq!(bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0))), [survey(1)]);
    assert_eq!(bench.tell(Event::RestRemains(1)), [Effect::AskRest(1, Signal::TERM)]);
    assert_eq!(bench.left(), Some(7 * SECOND));
    // The child that was told to stop had none.
    let mut bench = Bench::new();
    bench.kill("TERM");
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    bench.tell(Event::RestRemains(1));
    assert_eq!(bench.left(), Some(10 * SECOND));
    bench.pass(10 * SECOND);
    assert_eq!(bench.out, [Effect::Say(Message::KillingRest(10 * SECOND)), sent(To::Rest, "KILL")]);
    // What was forked since is killed as well.
    assert_eq!(bench.tell(Event::RestRemains(1)), [sent(To::Rest, "KILL")]);
}

#[test]
fn failed_starts_are_tried_again_later_and_later() {
    let error = |transient| StartError { code: 127, transient, reason: "x: not found".to_owned() };
    let mut bench = Bench::new();
    bench.kill("HUP");
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    bench.tell(Event::RestGone(1));
    let mut delay = Duration::from_millis(100);
    for _ in 0..40 {
        bench.tell(Event::StartFailed(bench.machine.last_id, error(false)));
        let left = bench.left().unwrap();
        assert_delay(left, delay);
        bench.pass(left);
        assert!(matches!(bench.out[..], [Effect::Start(_)]));
        delay = (delay * 2).min(60 * SECOND);
    }
    bench.machine.backoff.consecutive = u32::MAX;
    bench.tell(Event::StartFailed(bench.machine.last_id, error(false)));
    assert_delay(bench.left().unwrap(), 60 * SECOND);
    // A HUP starts at once, and resets the count.
    assert!(matches!(bench.kill("HUP"), [Effect::Check { .. }, STARTING_SOON, Effect::Start(_)]));
    bench.tell(Event::StartFailed(bench.machine.last_id, error(false)));
    assert_delay(bench.left().unwrap(), Duration::from_millis(100));
    assert_eq!(bench.kill("TERM"), [Effect::Finish(Ending::Told(Signal::TERM))]);
}

/// A delay is what it should be, and up to a quarter more.
#[track_caller]
fn assert_delay(delay: Duration, wanted: Duration) {
    assert!(delay >= wanted && delay <= wanted * 5 / 4, "{delay:?} is not {wanted:?}");
}

impl Bench {
    /// A machine with a restart policy.
    fn restarting(options: &[(&str, &str)]) -> Self {
        Self::with(
            |args| {
                for (name, value) in options {
                    let value = Some((*value).to_owned());
                    match *name {
                        "restart" => args.restart = value,
                        "delay" => args.restart_delay = value,
                        "max-delay" => args.restart_max_delay = value,
                        "reset" => args.restart_reset = value,
                        "limit" => args.restart_limit = value,
                        "not-on" => args.no_restart_on.extend(value),
                        "map" => args.map_status.extend(value),
                        "ready" => args.ready = value,
                        _ => panic!("{name}"),
                    }
                }
            },
            |_| (),
        )
    }

    /// The child ends so after a while, and nothing is left of it. The delay until it is started again, if it is.
    fn crash(&mut self, after: Duration, status: ExitStatus) -> Option<Duration> {
        self.now += after;
        let generation = self.machine.last_id;
        self.tell(Event::ChildEnded(generation, status));
        if self.machine.child.phase == Phase::Finished {
            return None;
        }
        self.tell(Event::RestGone(generation));
        self.left()
    }

    /// Waits until the child is started again, and that it executes.
    fn comes_back(&mut self) {
        let left = self.left().unwrap();
        self.pass(left);
        let generation = self.machine.last_id;
        assert_eq!(self.out, [Effect::Start(generation)]);
        self.tell(Event::Executed(generation));
    }
}

const FAILED: ExitStatus = ExitStatus::Exited(3);
const DONE: ExitStatus = ExitStatus::Exited(0);

#[test]
fn which_ends_are_followed_by_a_restart() {
    let killed = |name: &str| ExitStatus::Killed(name.parse().unwrap());
    for (options, status, restarts) in [
        (&[][..], FAILED, false),
        (&[("restart", "no")], FAILED, false),
        (&[("restart", "on-failure")], FAILED, true),
        (&[("restart", "on-failure")], DONE, false),
        (&[("restart", "on-failure")], killed("SEGV"), true),
        (&[("restart", "on-failure")], killed("KILL"), true),
        (&[("restart", "on-failure")], killed("TERM"), false),
        (&[("restart", "on-failure")], killed("HUP"), false),
        (&[("restart", "on-failure")], killed("INT"), false),
        (&[("restart", "on-failure")], killed("PIPE"), false),
        (&[("restart", "always")], DONE, true),
        (&[("restart", "always")], killed("TERM"), true),
        (&[("restart", "always"), ("not-on", "0,3")], FAILED, false),
        (&[("restart", "always"), ("not-on", "0"), ("not-on", "SEGV")], killed("SEGV"), false),
        (&[("restart", "always"), ("not-on", "0")], FAILED, true),
        // The policy looks at what the status is mapped to.
        (&[("restart", "on-failure"), ("map", "3=0")], FAILED, false),
        (&[("restart", "on-failure"), ("map", "TERM=1")], killed("TERM"), true),
    ] {
        let mut bench = Bench::restarting(options);
        let delay = bench.crash(SECOND, status);
        assert_eq!(delay.is_some(), restarts, "{options:?} {status}");
    }
}

#[test]
fn delays_double_up_to_the_longest_and_begin_again_after_a_long_run() {
    let mut bench = Bench::restarting(&[("restart", "on-failure"), ("max-delay", "1s"), ("reset", "10s")]);
    for wanted in [100, 200, 400, 800, 1000, 1000] {
        assert_delay(bench.crash(SECOND, FAILED).unwrap(), Duration::from_millis(wanted));
        bench.comes_back();
    }
    // One tick less than the time to reset, then that time.
    let tick = Duration::from_nanos(1);
    assert_delay(bench.crash(10 * SECOND - tick, FAILED).unwrap(), SECOND);
    bench.comes_back();
    assert_delay(bench.crash(10 * SECOND, FAILED).unwrap(), Duration::from_millis(100));
    // Under `always` a tight loop of successes is slowed down as well.
    let mut bench = Bench::restarting(&[("restart", "always")]);
    bench.crash(Duration::ZERO, DONE);
    bench.comes_back();
    assert_delay(bench.crash(Duration::ZERO, DONE).unwrap(), Duration::from_millis(200));
}

#[test]
fn delays_differ_by_chance_and_never_overflow() {
    let mut bench = Bench::restarting(&[("restart", "on-failure"), ("delay", "78840h"), ("max-delay", "78840h")]);
    bench.machine.backoff.consecutive = u32::MAX;
    bench.machine.counts.failed = u64::MAX;
    bench.machine.last_id = u64::MAX - 1;
    bench.machine.child.id = u64::MAX - 1;
    assert_delay(bench.crash(SECOND, FAILED).unwrap(), Duration::from_secs(78840 * 3600));
    let mut seen = std::collections::HashSet::new();
    let mut bench = Bench::restarting(&[("restart", "on-failure"), ("max-delay", "100ms")]);
    for _ in 0..100 {
        seen.insert(bench.crash(SECOND, FAILED).unwrap());
        bench.comes_back();
    }
    assert!(seen.len() > 90, "{seen:?}");
}

#[test]
fn at_the_limit_the_last_crash_is_the_status() {
    // Of a child that was stopped on request, the status is no reason to end: 0 would be a success.
    let stopped = ExitStatus::Killed(Signal::TERM);
    for (how, asked, expected) in
        [(FAILED, false, Ending::Child(FAILED)), (stopped, true, Ending::Own(127)), (DONE, true, Ending::Own(127))]
    {
        let mut bench = Bench::restarting(&[("restart", "on-failure"), ("limit", "1")]);
        if asked {
            bench.kill("HUP");
        }
        bench.tell(Event::ChildEnded(1, how));
        bench.tell(Event::RestGone(1));
        let error = || StartError { code: 127, transient: false, reason: "x: not found".to_owned() };
        while bench.machine.child.phase != Phase::Finished {
            if let Some(left) = bench.left() {
                bench.pass(left);
            }
            bench.tell(Event::StartFailed(bench.machine.last_id, error()));
        }
        assert_eq!(bench.out.last(), Some(&Effect::Finish(expected)), "{how:?}");
    }
}

#[test]
fn a_limit_in_a_row() {
    let mut bench = Bench::restarting(&[("restart", "on-failure"), ("limit", "3")]);
    for _ in 0..3 {
        assert!(bench.crash(SECOND, FAILED).is_some());
        bench.comes_back();
    }
    assert_eq!(bench.machine.last_id, 4);
    assert_eq!(bench.crash(SECOND, ExitStatus::Exited(7)), None);
    let end = Effect::Finish(Ending::Child(ExitStatus::Exited(7)));
    let last = Some(Failure::Ended(ExitStatus::Exited(7)));
    let gave_up = Message::GaveUp { restarts: 3, within: None, generation: 4, last };
    assert_eq!(bench.out, [Effect::Say(gave_up), end]);
    // Requests are not failures, and reset the count.
    let mut bench = Bench::restarting(&[("restart", "on-failure"), ("limit", "1")]);
    bench.crash(SECOND, FAILED);
    for _ in 0..10 {
        bench.kill("HUP");
        let generation = bench.machine.last_id;
        bench.tell(Event::Executed(generation));
        assert!(bench.crash(SECOND, FAILED).is_some());
    }
}

#[test]
fn tries_of_the_first_start_are_no_restarts() {
    for limit in ["2", "2/1h"] {
        let mut bench = Bench::unborn(
            |args| {
                args.restart = Some("on-failure".to_owned());
                args.restart_limit = Some(limit.to_owned());
            },
            |_| (),
        );
        bench.tell(Event::Began);
        for generation in 1..=4 {
            bench.tell(start_failed(generation, true));
            bench.pass(bench.left().unwrap());
        }
        bench.tell(Event::Executed(5));
        assert_delay(bench.crash(SECOND, FAILED).unwrap(), Duration::from_millis(100));
        bench.comes_back();
        assert!(bench.crash(SECOND, FAILED).is_some());
        bench.comes_back();
        assert_eq!(bench.crash(SECOND, FAILED), None);
    }
}

#[test]
fn a_limit_within_a_time() {
    let limited = || {
        let mut bench = Bench::restarting(&[("restart", "on-failure"), ("limit", "3/10s"), ("max-delay", "100ms")]);
        for _ in 0..3 {
            assert!(bench.crash(SECOND, FAILED).is_some());
            bench.comes_back();
        }
        bench
    };
    assert_eq!(limited().crash(SECOND, FAILED), None);
    // The fourth comes more than ten seconds after the first.
    assert!(limited().crash(8 * SECOND, FAILED).is_some());
}

#[test]
fn a_request_or_a_stop_while_a_restart_is_waited_for() {
    let waiting = || {
        let mut bench = Bench::restarting(&[("restart", "always"), ("delay", "1m")]);
        assert_delay(bench.crash(SECOND, FAILED).unwrap(), 60 * SECOND);
        bench
    };
    assert_eq!(waiting().kill("HUP"), [CHECK, STARTING_SOON, Effect::Start(2)]);
    assert_eq!(waiting().kill("TERM"), [Effect::Finish(Ending::Told(Signal::TERM))]);
    // While what the child has left behind is still being stopped.
    let mut bench = Bench::restarting(&[("restart", "always")]);
    bench.tell(Event::ChildEnded(1, FAILED));
    bench.tell(Event::RestRemains(1));
    bench.kill("TERM");
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Finish(Ending::Told(Signal::TERM))]);
    let mut bench = Bench::restarting(&[("restart", "always"), ("delay", "1m")]);
    bench.tell(Event::ChildEnded(1, FAILED));
    bench.kill("HUP");
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Start(2)]);
    // Ctrl-C is final, whatever the policy says.
    let mut bench = Bench::with(|args| args.restart = Some("always".to_owned()), |_| ()).in_front();
    bench.signal("INT", Sender::Kernel);
    assert_eq!(bench.tell(Event::ChildEnded(1, DONE)), [Effect::Finish(Ending::Child(DONE))]);
}

#[test]
fn an_upgrade_keeps_the_delay_and_the_count() {
    let mut bench = Bench::restarting(&[("restart", "always"), ("delay", "1m"), ("limit", "9/1h")]);
    bench.machine.settings.on = {
        let args = Args { command: vec!["x".into()], on_hup: vec!["upgrade".to_owned()], ..Args::default() };
        Config::new(args).unwrap().on
    };
    let delay = bench.crash(SECOND, FAILED).unwrap();
    bench.pass(SECOND);
    bench.kill("HUP");
    bench.tell(Event::Proven);
    let snapshot = bench.machine.snapshot().unwrap();
    bench.machine = Machine::adopt(bench.machine.settings.clone(), snapshot);
    bench.tell(Event::Adopted { before: "old".to_owned() });
    assert_eq!(bench.left(), Some(delay - SECOND));
    assert_eq!(
        (bench.machine.backoff.consecutive, bench.machine.backoff.recent.len(), bench.machine.counts.failed),
        (1, 1, 1)
    );
    bench.comes_back();
    // One that is due while the new hupwrap is being proven waits for that, without being asked again and again.
    let mut bench = Bench::restarting(&[("restart", "always")]);
    bench.machine.settings.on = {
        let args = Args { command: vec!["x".into()], on_hup: vec!["upgrade".to_owned()], ..Args::default() };
        Config::new(args).unwrap().on
    };
    bench.crash(SECOND, FAILED);
    bench.kill("HUP");
    assert_eq!(bench.left(), Some(5 * SECOND));
    bench.pass(SECOND);
    assert_eq!(bench.out, []);
    bench.tell(Event::Refused("x".to_owned()));
    assert_eq!(bench.left(), Some(Duration::ZERO));
    bench.comes_back();
}

#[test]
fn a_child_that_is_late_has_failed() {
    let mut bench = Bench::restarting(&[("restart", "on-failure"), ("ready", "notify"), ("limit", "1")]);
    for last in [false, true] {
        let generation = bench.machine.last_id;
        bench.pass(60 * SECOND);
        assert!(matches!(bench.out[..], [Effect::Say(Message::NotReady(..)), ..]), "{:?}", bench.out);
        let next = bench.tell(Event::ChildEnded(generation, ExitStatus::Killed(Signal::TERM))).to_vec();
        let gone = bench.tell(Event::RestGone(generation)).to_vec();
        if last {
            // That it was not ready was said.
            let gave_up = Message::GaveUp { restarts: 1, within: None, generation, last: None };
            assert_eq!(next, [Effect::Say(gave_up), survey(generation)]);
            assert_eq!(gone, [Effect::Finish(Ending::Own(TIMED_OUT))]);
        } else {
            let [Effect::Say(Message::RestartingLater { status: None, .. }), swept] = &next[..] else {
                panic!("{next:?}")
            };
            assert_eq!((swept, &gone[..]), (&survey(generation), &[][..]));
            bench.comes_back();
        }
    }
    // Without a policy it ends hupwrap.
    let mut bench = Bench::restarting(&[("ready", "notify")]);
    bench.pass(60 * SECOND);
    bench.tell(Event::ChildEnded(1, ExitStatus::Killed(Signal::TERM)));
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Finish(Ending::Own(TIMED_OUT))]);
}

#[test]
fn the_first_start_is_final_or_tried_for_ten_seconds() {
    let first = || {
        let mut bench = Bench::new();
        bench.machine = Machine::new(bench.machine.settings.clone());
        bench.tell(Event::Began);
        bench
    };
    let error = |transient| StartError { code: 127, transient, reason: "why".to_owned() };
    let said = Effect::Say(Message::CannotStart("why".to_owned()));
    assert_eq!(first().tell(Event::StartFailed(1, error(false))), [said.clone(), Effect::Finish(Ending::Own(127))]);
    let mut bench = first();
    bench.tell(Event::StartFailed(bench.machine.last_id, error(true)));
    while bench.left().is_some() {
        let left = bench.left().unwrap();
        bench.pass(left);
        bench.tell(Event::StartFailed(bench.machine.last_id, error(true)));
    }
    assert_eq!(bench.out, [said, Effect::Finish(Ending::Own(127))]);
    assert_eq!(bench.now, Duration::from_secs(110));
}

#[test]
fn ctrl_c_starts_no_stop_but_makes_the_end_final() {
    let shared = || Bench::with(|_| (), |_| ()).in_front();
    let mut bench = shared();
    assert_eq!(bench.signal("INT", Sender::Kernel), []);
    assert_eq!(bench.signal("QUIT", Sender::Kernel), []);
    assert_eq!(bench.signal("WINCH", Sender::Kernel), []);
    // By kill it is another matter.
    assert_eq!(bench.kill("INT"), [sent(To::Child, "INT"), sent(To::Child, "CONT")]);
    // Ctrl-C during a restart: the child's end within five seconds is what was wanted.
    for (after, is_final) in [(4 * SECOND, true), (6 * SECOND, false)] {
        let mut bench = shared();
        bench.kill("HUP");
        bench.signal("INT", Sender::Kernel);
        bench.pass(after);
        bench.tell(Event::ChildEnded(1, ExitStatus::Exited(3)));
        let next = bench.tell(Event::RestGone(1)).to_vec();
        let ended = [Effect::Finish(Ending::Child(ExitStatus::Exited(3)))];
        assert_eq!(next == ended, is_final, "{next:?}");
    }
    // The other order: who asks for a restart after Ctrl-C wants one.
    let mut bench = shared();
    bench.signal("INT", Sender::Kernel);
    bench.kill("HUP");
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(3)));
    assert!(matches!(bench.tell(Event::RestGone(1)), [Effect::Start(2)]));
    // With nobody there to hear it, it is for hupwrap.
    bench.tell(Event::StartFailed(2, StartError { code: 127, transient: true, reason: String::new() }));
    assert_eq!(bench.signal("INT", Sender::Kernel), [Effect::Finish(Ending::Told(Signal::INT))]);
    // In a group of its own the child has heard nothing.
    assert_eq!(Bench::new().signal("INT", Sender::Kernel), [sent(To::Child, "INT"), sent(To::Child, "CONT")]);
    // Nor has one that has left hupwrap's group.
    let mut bench = shared();
    assert_eq!(bench.signal("INT", Sender::Kernel), []);
    bench.shared = false;
    assert_eq!(bench.signal("QUIT", Sender::Kernel), [sent(To::Child, "QUIT"), sent(To::Child, "CONT")]);
}

#[test]
fn stops_of_the_terminal() {
    let mut bench = Bench::with(|_| (), |place| place.has_terminal = true).in_front();
    let suspend = |name: &str, insist| Effect::Suspend { signal: name.parse().unwrap(), insist };
    // Heard by the child: hupwrap stops when the child does.
    assert_eq!(bench.signal("TSTP", Sender::Kernel), []);
    assert_eq!(bench.tell(Event::ChildStopped(Signal::TSTP)), [suspend("TSTP", false)]);
    // Passed on, and hupwrap stops too.
    assert_eq!(bench.kill("TTIN"), [sent(To::Child, "TTIN"), suspend("TTIN", true)]);
    // A child that stops its group stops hupwrap where the kernel would.
    assert_eq!(bench.signal("TTIN", Sender::Member(1)), [sent(To::Child, "TTIN"), suspend("TTIN", false)]);
    // A child that somebody stops is followed as far as the kernel lets hupwrap.
    assert_eq!(bench.tell(Event::ChildStopped(Signal::STOP)), [suspend("TSTP", false)]);
    // No deadline runs during the suspension.
    bench.kill("HUP");
    bench.now += 100 * SECOND;
    bench.tell(Event::Resumed(100 * SECOND));
    // For a second the HUP may turn out to be a hang-up.
    assert_eq!(bench.left(), Some(SECOND));
    bench.pass(SECOND);
    assert_eq!(bench.left(), Some(9 * SECOND));
    let mut init = Bench::with(|args| args.on = vec!["TSTP=forward:STOP".to_owned()], |place| place.is_init = true);
    assert_eq!(init.kill("TSTP"), [sent(To::Child, "STOP")]);
    assert_eq!(init.tell(Event::ChildStopped(Signal::STOP)), []);
    // A STOP that was forwarded stops the child alone; one in the place of Ctrl-Z stops both.
    let on = |args: &mut Args| args.on = vec!["USR1=forward:STOP".to_owned(), "TSTP=forward:STOP".to_owned()];
    let mut bench = Bench::with(on, |place| place.has_terminal = true).in_front();
    assert_eq!(bench.kill("USR1"), [sent(To::Child, "STOP")]);
    assert_eq!(bench.tell(Event::ChildStopped(Signal::STOP)), []);
    assert_eq!(bench.signal("TSTP", Sender::Kernel), [sent(To::Child, "STOP"), suspend("TSTP", false)]);
}

#[test]
fn a_hang_up_is_not_a_reload() {
    let hup = |bench: &mut Bench, sender, hung_up| {
        bench.tell(Event::Signal { signal: Signal::HUP, sender, hung_up, shared: false }).to_vec()
    };
    let stop = [sent(To::Child, "HUP"), sent(To::Child, "CONT")];
    assert_eq!(hup(&mut Bench::new(), Sender::Kernel, false), stop);
    assert_eq!(hup(&mut Bench::new(), Sender::Process, true), stop);
    assert_eq!(hup(&mut Bench::new(), Sender::Process, false), [CHECK]);
    // Long after the end of the terminal it is a reload, and there is nothing to suspect.
    let mut bench = Bench::with(|_| (), |place| place.has_terminal = true);
    bench.tell(Event::TerminalGone);
    bench.now += SECOND;
    assert_eq!(hup(&mut bench, Sender::Process, false), [CHECK]);
    assert!(!bench.machine.suspects_hang_up());

    let ignored = [Effect::Say(Message::HangUpIgnored)];
    let mut nohup = Bench::with(|_| (), |place| place.nohup = true);
    assert_eq!(hup(&mut nohup, Sender::Process, true), ignored);
    nohup.now += SECOND / 2;
    assert_eq!(hup(&mut nohup, Sender::Process, true), ignored);
    nohup.now += SECOND / 2;
    assert_eq!(hup(&mut nohup, Sender::Kernel, true), ignored);
    assert_eq!(hup(&mut nohup, Sender::Process, true), [CHECK]);
    // The terminal's end was noticed without a HUP: the first one by kill is meant.
    let mut nohup = Bench::with(|_| (), |place| place.nohup = true);
    nohup.tell(Event::TerminalGone);
    nohup.now += SECOND;
    assert_eq!(hup(&mut nohup, Sender::Process, true), [CHECK]);
}

#[test]
fn what_comes_during_a_request_is_one_bit() {
    let mut bench = Bench::with(|args| args.on = vec!["USR1=upgrade".to_owned(), "USR2=reexec".to_owned()], |_| ());
    assert_eq!(bench.kill("USR1"), [Effect::Probe]);
    for _ in 0..3 {
        assert_eq!(bench.kill("HUP"), []);
        assert_eq!(bench.kill("USR1"), []);
    }
    // The upgrade is shared by those that came before it, the restart is still owed.
    bench.tell(Event::Proven);
    let snapshot = bench.machine.snapshot().unwrap();
    assert_eq!((snapshot.kind, snapshot.again), (RequestKind::Upgrade, Some(RequestKind::Restart)));
    bench.machine = Machine::adopt(bench.machine.settings.clone(), snapshot);
    assert_eq!(bench.machine.snapshot(), None);
    bench.tell(Event::Adopted { before: "old".to_owned() });
    assert_eq!(bench.out, [Effect::Say(Message::Reexecuted { before: "old".to_owned() }), CHECK]);
    assert_eq!(bench.machine.again, None);
}

#[test]
fn a_restart_behind_an_upgrade_outlives_the_child() {
    let asked = || {
        let mut bench = Bench::with(|args| args.on = vec!["USR1=upgrade".to_owned()], |_| ());
        bench.kill("USR1");
        bench.kill("HUP");
        bench
    };
    let ended = Event::ChildEnded(1, ExitStatus::Exited(3));
    // While it is proven.
    let mut bench = asked();
    assert_eq!(bench.tell(ended.clone()), [Effect::Say(Message::StartingAgain(ExitStatus::Exited(3))), survey(1)]);
    bench.tell(Event::RestGone(1));
    bench.tell(Event::Proven);
    let snapshot = bench.machine.snapshot().unwrap();
    assert_eq!(
        (snapshot.kind, snapshot.again, snapshot.child),
        (RequestKind::Upgrade, Some(RequestKind::Restart), None)
    );
    // Where it is refused, this hupwrap makes the start. Each has its own outcome.
    let mut bench = asked();
    bench.tell(ended.clone());
    bench.tell(Event::RestGone(1));
    let refused = settled(RequestKind::Upgrade, Outcome::Refused("x".to_owned()));
    assert_eq!(bench.tell(Event::Refused("x".to_owned())), [Effect::Say(refused), Effect::Start(2)]);
    assert_eq!(bench.outcomes(Event::Executed(2)), [settled(RequestKind::Restart, Outcome::Ok)]);
    // During the exec.
    let mut bench = asked();
    bench.tell(Event::Proven);
    let snapshot = bench.machine.snapshot().unwrap();
    bench.machine = Machine::adopt(bench.machine.settings.clone(), snapshot);
    assert_eq!(bench.tell(ended).last(), Some(&survey(1)));
    bench.tell(Event::RestGone(1));
    assert_eq!(bench.tell(Event::Adopted { before: "old".to_owned() }).last(), Some(&Effect::Start(2)));
}

#[test]
fn a_new_hupwrap_has_five_seconds_to_answer() {
    let mut bench = Bench::with(|args| args.on_hup = vec!["reexec".to_owned()], |_| ());
    bench.kill("HUP");
    assert_eq!(bench.left(), Some(5 * SECOND));
    bench.pass(5 * SECOND);
    assert!(matches!(
        &bench.out[..],
        [
            Effect::Abandon,
            Effect::Say(Message::Settled { kind: RequestKind::Reexec, outcome: Outcome::Refused(_), .. })
        ]
    ));
    // What the dead probe would have said is nobody's business any more.
    assert_eq!(bench.tell(Event::Proven), []);
    assert_eq!(bench.machine.snapshot(), None);
}

#[test]
fn a_signal_before_the_first_child_waits_for_it() {
    let mut bench = Bench::new();
    bench.machine = Machine::new(bench.machine.settings.clone());
    assert_eq!(bench.kill("USR1"), []);
    assert_eq!(bench.kill("RTMIN"), []);
    assert_eq!(bench.kill("HUP"), []);
    assert_eq!(bench.tell(Event::Began), [Effect::Start(1)]);
    // Before the exec it could die of them.
    assert_eq!(bench.tell(Event::Executed(1)), [sent(To::Child, "USR1"), sent(To::Child, "RTMIN")]);
    let mut unborn = Bench::unborn(|_| (), |_| ());
    assert_eq!(unborn.kill("TERM"), [Effect::Finish(Ending::Told(Signal::TERM))]);
    assert_eq!(unborn.tell(Event::Began), []);
}

#[test]
fn a_request_before_the_first_start_is_answered() {
    for (on_hup, kind) in [
        ("restart", RequestKind::Restart),
        ("reexec", RequestKind::Restart),
        ("replace", RequestKind::Replace),
        ("upgrade+replace", RequestKind::Replace),
    ] {
        let mut bench = Bench::unborn(|args| args.on_hup = vec![on_hup.to_owned()], |_| ());
        bench.kill("HUP");
        assert_eq!(bench.outcomes(Event::Began), [Message::Began(kind)]);
        assert_eq!(bench.outcomes(Event::Executed(1)), [settled(kind, Outcome::Ok)]);
        assert_eq!(bench.machine.last_id, 1);
    }
    let mut bench = Bench::unborn(|args| args.on_hup = vec!["upgrade".to_owned()], |_| ());
    bench.kill("HUP");
    assert_eq!(bench.outcomes(Event::Began), []);
    assert_eq!(bench.outcomes(Event::Executed(1)), [Message::Began(RequestKind::Upgrade)]);
    // It fails as the first start does.
    let mut bench = Bench::unborn(|_| (), |_| ());
    bench.kill("HUP");
    bench.tell(Event::Began);
    let failure = Failure::CannotStart("why".to_owned());
    assert_eq!(bench.outcomes(start_failed(1, false)), [failed(RequestKind::Restart, failure)]);
    assert!(bench.out.contains(&Effect::Finish(Ending::Own(127))));
}

// What `tell` leaves out, where it matters.
impl Bench {
    /// The requests that begin, and how they end.
    fn outcomes(&mut self, event: Event) -> Vec<Message> {
        self.out.clear();
        self.machine.handle(self.now, event, &mut self.out);
        let lines = self.out.iter().filter_map(|action| match action {
            Effect::Say(Message::Settled { kind, outcome, .. }) => Some(settled(*kind, outcome.clone())),
            Effect::Say(line @ Message::Began(_)) => Some(line.clone()),
            _ => None,
        });
        lines.collect()
    }
}

fn start_failed(generation: GenerationId, transient: bool) -> Event {
    Event::StartFailed(generation, StartError { code: 127, transient, reason: "why".to_owned() })
}

fn failed(kind: RequestKind, failure: Failure) -> Message {
    settled(kind, Outcome::Failed(failure))
}

#[test]
fn a_hup_that_is_forwarded_begins_and_ends_once() {
    let hup = || Event::Signal { signal: Signal::HUP, sender: Sender::Process, hung_up: false, shared: false };
    let usr1 =
        || Event::Signal { signal: "USR1".parse().unwrap(), sender: Sender::Process, hung_up: false, shared: false };
    let began = || vec![Message::Began(RequestKind::Forward)];
    let done = || vec![settled(RequestKind::Forward, Outcome::Ok)];
    let refused = || vec![settled(RequestKind::Forward, Outcome::Refused("no".to_owned()))];
    let bench = |check: Option<&str>| {
        Bench::with(
            |args| {
                args.on = ["HUP=forward", "USR1=forward"].map(str::to_owned).to_vec();
                args.check = check.map(str::to_owned);
                args.ready = Some("notify".to_owned());
            },
            |_| (),
        )
    };
    let mut plain = bench(None);
    assert_eq!(plain.outcomes(hup()), began());
    assert_eq!(plain.outcomes(hup()), []);
    assert_eq!(plain.outcomes(Event::Ready(1)), done());
    assert_eq!(plain.outcomes(hup()), done());
    let mut checked = bench(Some("x"));
    assert_eq!(checked.outcomes(hup()), began());
    assert_eq!(checked.outcomes(Event::Checked), []);
    // The first is under way while it is held.
    assert_eq!(checked.outcomes(hup()), []);
    assert_eq!(checked.outcomes(Event::Ready(1)), [done(), began()].concat());
    assert_eq!(checked.outcomes(Event::Refused("no".to_owned())), refused());
    // Nobody waits for another signal.
    assert_eq!(checked.outcomes(usr1()), []);
    assert_eq!(checked.tell(Event::Refused("no".to_owned())), [Effect::Say(Message::ForwardRefused("no".to_owned()))]);
}

#[test]
fn who_asks_during_a_start_that_fails_has_an_outcome_too() {
    let mut bench = Bench::new();
    bench.kill("HUP");
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    bench.tell(Event::RestGone(1));
    bench.kill("HUP");
    let why = Failure::CannotStart("why".to_owned());
    assert_eq!(
        bench.outcomes(start_failed(2, false)),
        [failed(RequestKind::Restart, why), Message::Began(RequestKind::Restart)]
    );
    // At once: a HUP does not wait for the next try.
    assert_eq!(bench.tell(Event::Checked), [STARTING_SOON, Effect::Start(3)]);
    assert_eq!(bench.outcomes(Event::Executed(3)), [settled(RequestKind::Restart, Outcome::Ok)]);
}

#[test]
fn the_last_try_of_the_first_start_settles_who_asked_for_it() {
    let mut bench = Bench::unborn(|_| (), |_| ());
    bench.tell(Event::Began);
    bench.tell(start_failed(1, true));
    bench.kill("HUP");
    let why = Failure::CannotStart("why".to_owned());
    assert_eq!(
        bench.tell(start_failed(2, false)),
        [Effect::Say(failed(RequestKind::Restart, why)), Effect::Finish(Ending::Own(127))]
    );
}

#[test]
fn a_start_that_is_due_does_not_wait_for_a_check() {
    let hup = Event::Signal { signal: Signal::HUP, sender: Sender::Process, hung_up: false, shared: false };
    let checking = |on_hup: &str| {
        let change = |args: &mut Args| {
            (args.on_hup, args.check) = (vec![on_hup.to_owned()], Some("x".to_owned()));
        };
        let mut bench = Bench::unborn(change, |_| ());
        bench.tell(Event::Began);
        bench.tell(start_failed(1, true));
        bench.tell(hup.clone());
        bench
    };
    // Who asks for a start shares it.
    let mut bench = checking("restart");
    assert_eq!(bench.pass(SECOND), [Effect::Abandon, STARTING_SOON, Effect::Start(2)]);
    assert_eq!(bench.outcomes(Event::Executed(2)), [settled(RequestKind::Restart, Outcome::Ok)]);
    assert_eq!(bench.machine.again, None);
    // A new hupwrap can wait.
    let mut bench = checking("reexec");
    assert_eq!(bench.pass(SECOND), [Effect::Abandon, STARTING_SOON, Effect::Start(2)]);
    assert_eq!(
        bench.outcomes(Event::Executed(2)),
        [settled(RequestKind::Restart, Outcome::Ok), Message::Began(RequestKind::Upgrade)]
    );
    // Anything else is checked again.
    let mut bench = checking("upgrade");
    assert_eq!(bench.pass(SECOND), [Effect::Abandon, Effect::Start(2)]);
    assert!(bench.tell(Event::Executed(2)).contains(&Effect::Check { new_child: false }));
    let mut bench = checking("forward");
    assert_eq!(bench.pass(SECOND)[..2], [Effect::Abandon, Effect::Start(2)]);
    assert!(bench.out.contains(&Effect::Check { new_child: false }));
    bench.tell(Event::Checked);
    let delivered = Effect::Signal { generation: 2, to: To::Child, signal: Signal::HUP };
    assert!(bench.tell(Event::Executed(2)).contains(&delivered));
}

#[test]
fn a_late_child_settles_nothing_but_a_renewal() {
    let change = |args: &mut Args| {
        args.on = vec!["USR1=forward".to_owned()];
        (args.ready, args.ready_timeout) = (Some("notify".to_owned()), Some("2s".to_owned()));
        args.check = Some("x".to_owned());
    };
    let mut bench = Bench::unborn(change, |_| ());
    bench.tell(Event::Began);
    bench.tell(Event::Executed(1));
    let sent = |name: &str| {
        let signal = name.parse().unwrap();
        Event::Signal { signal, sender: Sender::Process, hung_up: false, shared: false }
    };
    assert_eq!(bench.tell(sent("USR1")), [Effect::Check { new_child: false }]);
    bench.pass(2 * SECOND);
    assert!(!bench.out.iter().any(|effect| matches!(effect, Effect::Abandon | Effect::Say(Message::Settled { .. }))));
    // Who asks for a start before the end gets one.
    bench.tell(sent("HUP"));
    bench.tell(Event::ChildEnded(1, ExitStatus::Killed(Signal::TERM)));
    assert_eq!(bench.tell(Event::RestGone(1))[..2], [Effect::Abandon, Effect::Start(2)]);
}

#[test]
fn a_hup_to_forward_ends_a_delay() {
    let change = |args: &mut Args| {
        (args.on_hup, args.restart) = (vec!["forward".to_owned()], Some("always".to_owned()));
    };
    let mut bench = Bench::with(change, |_| ());
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(3)));
    bench.tell(Event::RestGone(1));
    bench.kill("HUP");
    assert_eq!(bench.out, [STARTING_SOON, Effect::Start(2)]);
    assert_eq!(bench.machine.backoff.consecutive, 0);
    assert_eq!(bench.outcomes(Event::Executed(2)), [settled(RequestKind::Forward, Outcome::Ok)]);
}

#[test]
fn only_a_renewal_in_vain_puts_off_the_age() {
    let change = |args: &mut Args| {
        args.on = vec!["USR1=upgrade".to_owned()];
        args.max_age = Some("10s".to_owned());
    };
    let mut bench = Bench::with(change, |_| ());
    bench.pass(8 * SECOND);
    bench.kill("USR1");
    bench.pass(4 * SECOND);
    assert!(bench.tell(Event::Refused("x".to_owned())).len() == 1);
    assert_eq!(bench.left(), Some(Duration::ZERO));
}

#[test]
fn when_hupwrap_gives_up_on_starts_the_mapped_status_of_the_last_child_is_its_own() {
    for (policy, map, status, shown) in [
        ("on-failure", "3=5", ExitStatus::Exited(3), 5),
        ("on-failure", "0=5", ExitStatus::Exited(0), 5),
        ("always", "TERM=0", ExitStatus::Killed(Signal::TERM), 0),
    ] {
        let change = |args: &mut Args| {
            (args.restart, args.restart_limit) = (Some(policy.to_owned()), Some("1".to_owned()));
            args.map_status = vec![map.to_owned()];
        };
        let mut bench = Bench::with(change, |_| ());
        bench.tell(Event::ChildEnded(1, status));
        bench.tell(Event::RestGone(1));
        bench.pass(SECOND);
        bench.tell(start_failed(2, true));
        let end = Ending::Child(ExitStatus::Exited(shown));
        assert_eq!(bench.out.last(), Some(&Effect::Finish(end)), "{policy} {map}");
    }
}

#[test]
fn the_end_of_a_replaced_child_does_not_hide_how_the_last_one_ended() {
    let mut bench =
        Bench::with(|args| (args.on_hup, args.ready) = (vec!["replace".to_owned()], Some("exec".to_owned())), |_| ());
    bench.kill("HUP");
    bench.tell(Event::Executed(2));
    bench.tell(Event::ChildEnded(2, ExitStatus::Exited(5)));
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    assert_eq!(bench.machine.status().last_exit, Some(ExitStatus::Exited(5)));
}

#[test]
fn a_late_child_that_cannot_be_executed_after_all() {
    let late = || {
        let mut bench = Bench::unborn(|args| args.ready = Some("notify".to_owned()), |_| ());
        bench.tell(Event::Began);
        bench.pass(60 * SECOND);
        bench
    };
    assert_eq!(late().tell(start_failed(1, true)), [Effect::Finish(Ending::Own(TIMED_OUT))]);
    // Who has asked for another since gets another.
    let mut bench = late();
    bench.kill("HUP");
    assert_eq!(bench.tell(start_failed(1, true)), [Effect::Start(2)]);
    let mut bench = late();
    bench.kill("TERM");
    assert_eq!(bench.tell(start_failed(1, true)), [Effect::Finish(Ending::Told(Signal::TERM))]);
}

#[test]
fn who_asks_when_the_child_has_ended_during_a_check_has_an_outcome_too() {
    let hup = Event::Signal { signal: Signal::HUP, sender: Sender::Process, hung_up: false, shared: false };
    let ended = || {
        let mut bench = Bench::with(|args| args.check = Some("x".to_owned()), |_| ());
        bench.tell(hup.clone());
        bench.tell(Event::ChildEnded(1, ExitStatus::Exited(3)));
        assert_eq!(bench.outcomes(hup.clone()), []);
        bench
    };
    let refused = Outcome::Refused("no".to_owned());
    let mut bench = ended();
    assert_eq!(
        bench.outcomes(Event::Refused("no".to_owned())),
        [settled(RequestKind::Restart, refused), Message::Began(RequestKind::Restart)]
    );
    bench.tell(Event::RestGone(1));
    assert_eq!(bench.outcomes(Event::Executed(2)), [settled(RequestKind::Restart, Outcome::Ok)]);
    // The start does not wait for the check, and both share it.
    let mut bench = ended();
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Abandon, Effect::Start(2)]);
    assert_eq!(bench.outcomes(Event::Executed(2)), [settled(RequestKind::Restart, Outcome::Ok)]);
    assert_eq!(bench.machine.again, None);
}

#[test]
fn who_asks_before_the_end_has_the_rest_swept_first() {
    let change = |args: &mut Args| {
        (args.on_hup, args.ready) = (vec!["replace".to_owned()], Some("notify".to_owned()));
    };
    let mut bench = Bench::with(change, |_| ());
    bench.tell(Event::Ready(1));
    bench.kill("HUP");
    bench.tell(Event::Executed(2));
    // The new one is late, and while it is stopped the old one ends.
    bench.pass(60 * SECOND);
    assert_eq!(bench.tell(Event::ChildEnded(1, ExitStatus::Exited(3))), []);
    assert!(bench.machine.knows(1));
    assert_eq!(bench.kill("HUP"), [STARTING_SOON, survey(1)]);
    bench.tell(Event::RestRemains(1));
    bench.tell(Event::ChildEnded(2, ExitStatus::Exited(3)));
    assert_eq!(bench.tell(Event::RestGone(2)), []);
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Start(3)]);
}

impl Bench {
    /// A child that serves, and HUP means replace.
    fn replacing(change: impl FnOnce(&mut Args)) -> Self {
        let with = |args: &mut Args| {
            args.on = ["HUP=replace", "USR2=upgrade"].map(str::to_owned).to_vec();
            change(args);
        };
        let mut bench = Self::with(with, |_| ());
        bench.tell(Event::Ready(1));
        let next = bench.kill("HUP");
        assert_eq!(next, [CHECK, Effect::Say(Message::Replacing(1)), Effect::Start(2)]);
        bench
    }
}

fn replaced(old: GenerationId, new: GenerationId) -> [Effect; 3] {
    [Effect::Say(Message::Replaced { old, new }), sent_to(old, To::Child, "TERM"), sent_to(old, To::Child, "CONT")]
}

fn notify(args: &mut Args) {
    args.ready = Some("notify".to_owned());
}

#[test]
fn a_new_child_takes_over_when_it_is_ready() {
    let mut bench = Bench::replacing(|_| ());
    assert_eq!(bench.tell(Event::Executed(2)), []);
    // Nothing was said of readiness: it has to live for a second.
    assert_eq!(bench.left(), Some(SECOND));
    assert_eq!(bench.pass(SECOND), replaced(1, 2));
    // What is asked now waits until the old one is gone, with all that was its.
    assert_eq!(bench.kill("HUP"), []);
    assert_eq!(bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0))), [survey(1)]);
    assert_eq!(bench.tell(Event::RestGone(1)), [CHECK]);
    assert_eq!(bench.tell(Event::Checked), [Effect::Say(Message::Replacing(2)), Effect::Start(3)]);
}

#[test]
fn the_old_one_is_killed_when_its_time_is_up() {
    let mut bench = Bench::replacing(notify);
    bench.tell(Event::Executed(2));
    assert_eq!(bench.outcomes(Event::Ready(2)), [settled(RequestKind::Replace, Outcome::Ok)]);
    let killed = [Effect::Say(Message::Killing(1, 10 * SECOND)), sent_to(1, To::Child, "KILL")];
    assert_eq!(bench.pass(10 * SECOND), killed);
}

#[test]
fn a_new_child_that_fails_leaves_the_old_one_alone() {
    let overlap = |args: &mut Args| {
        notify(args);
        args.overlap = Some("5s".to_owned());
    };
    let ended = ExitStatus::Exited(0);
    let stop = [sent_to(2, To::Child, "TERM"), sent_to(2, To::Child, "CONT")];
    let cases: [(&[Event], Event, Failure, &[Effect]); 4] = [
        (&[], start_failed(2, true), Failure::CannotStart("why".to_owned()), &[]),
        (&[Event::Executed(2)], Event::ChildEnded(2, ended), Failure::Ended(ended), &[survey(2)]),
        (
            &[Event::Executed(2), Event::Ready(2)],
            Event::ChildEnded(2, ended),
            Failure::EndedInOverlap(ended),
            &[survey(2)],
        ),
        (&[Event::Executed(2)], Event::Tick, Failure::NotReady(60 * SECOND), &stop),
    ];
    for (before, event, failure, after) in cases {
        let mut bench = Bench::replacing(overlap);
        for event in before {
            assert_eq!(bench.tell(event.clone()), []);
        }
        if event == Event::Tick {
            bench.now += 60 * SECOND;
        }
        let said = Effect::Say(failed(RequestKind::Replace, failure));
        assert_eq!(bench.tell(event.clone()), [&[said], after].concat());
        // One that was stopped ends.
        if event == Event::Tick {
            assert_eq!(bench.kill("HUP"), []);
            bench.tell(Event::ChildEnded(2, ended));
            assert_eq!(bench.tell(Event::RestGone(2)), [CHECK]);
            continue;
        }
        bench.tell(Event::RestGone(2));
        // Nothing is tried again. A second request gets another child.
        assert_eq!(bench.left(), None);
        assert_eq!(bench.kill("HUP"), [CHECK, Effect::Say(Message::Replacing(1)), Effect::Start(3)]);
    }
}

#[test]
fn both_run_for_the_overlap() {
    let mut bench = Bench::replacing(|args| args.overlap = Some("5s".to_owned()));
    bench.tell(Event::Executed(2));
    assert_eq!(bench.pass(SECOND), []);
    assert_eq!(bench.left(), Some(5 * SECOND));
    // It is no news that it is ready.
    assert_eq!(bench.tell(Event::Ready(2)), []);
    assert_eq!(bench.pass(5 * SECOND), replaced(1, 2));
}

#[test]
fn the_old_one_may_go_first() {
    let status = ExitStatus::Exited(7);
    let mut bench = Bench::replacing(notify);
    bench.tell(Event::Executed(2));
    let remains = Effect::Say(Message::SuccessorRemains { status, ready: false });
    assert_eq!(bench.tell(Event::ChildEnded(1, status)), [remains.clone(), survey(1)]);
    assert_eq!(bench.outcomes(Event::Ready(2)), [settled(RequestKind::Replace, Outcome::Ok)]);
    // Within the overlap nothing is left to wait for.
    let mut bench = Bench::replacing(|args| args.overlap = Some("5s".to_owned()));
    bench.tell(Event::Executed(2));
    bench.pass(SECOND);
    let done = [settled(RequestKind::Replace, Outcome::Ok)];
    assert_eq!(bench.outcomes(Event::ChildEnded(1, status)), done);
    assert!(bench.out.contains(&Effect::Say(Message::SuccessorRemains { status, ready: true })), "{:?}", bench.out);
    // What becomes of the new one is a crash as any other.
    let mut bench = Bench::replacing(notify);
    bench.tell(Event::Executed(2));
    bench.tell(Event::ChildEnded(1, status));
    bench.tell(Event::RestGone(1));
    let said = Effect::Say(failed(RequestKind::Replace, Failure::Ended(ExitStatus::Exited(8))));
    let end = Effect::Finish(Ending::Child(ExitStatus::Exited(8)));
    assert_eq!(bench.tell(Event::ChildEnded(2, ExitStatus::Exited(8))), [said, end]);
}

#[test]
fn a_stop_is_for_both() {
    let mut bench = Bench::replacing(notify);
    bench.tell(Event::Executed(2));
    bench.kill("USR2");
    let stop = |generation| [sent_to(generation, To::Child, "TERM"), sent_to(generation, To::Child, "CONT")];
    assert_eq!(bench.kill("TERM"), [stop(2), stop(1)].concat());
    // Nothing is asked any more, and a second one is passed on.
    assert_eq!(bench.kill("HUP"), []);
    assert_eq!(bench.kill("TERM"), [stop(2), stop(1)].concat());
    assert_eq!(bench.tell(Event::Ready(2)), []);
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(4)));
    assert_eq!(bench.tell(Event::RestGone(1)), []);
    bench.tell(Event::ChildEnded(2, ExitStatus::Exited(5)));
    // The one that served says how it ended.
    assert_eq!(bench.tell(Event::RestGone(2)), [Effect::Finish(Ending::Child(ExitStatus::Exited(4)))]);
}

#[test]
fn ctrl_c_is_for_both() {
    let with = |args: &mut Args| {
        args.on = vec!["HUP=replace".to_owned()];
        notify(args);
    };
    let mut bench = Bench::with(with, |_| ()).in_front();
    bench.tell(Event::Ready(1));
    bench.kill("HUP");
    bench.tell(Event::Executed(2));
    assert_eq!(bench.signal("INT", Sender::Kernel), []);
    let stop = [sent_to(2, To::Child, "TERM"), sent_to(2, To::Child, "CONT")];
    assert_eq!(bench.tell(Event::ChildEnded(1, ExitStatus::Exited(3))), stop);
    bench.tell(Event::ChildEnded(2, ExitStatus::Killed(Signal::INT)));
    assert_eq!(bench.tell(Event::RestGone(2)), [Effect::Finish(Ending::Child(ExitStatus::Exited(3)))]);
}

#[test]
fn what_is_passed_on_during_a_replace() {
    let usr1 = |generation| sent_to(generation, To::Child, "USR1");
    let mut bench = Bench::replacing(notify);
    bench.tell(Event::Executed(2));
    assert_eq!(bench.kill("USR1"), [usr1(1)]);
    let both = [sent_to(1, To::Child, "WINCH"), sent_to(2, To::Child, "WINCH")];
    assert_eq!(bench.kill("WINCH"), both);
    // The new one hears it when it can.
    assert_eq!(bench.tell(Event::Ready(2)), [&replaced(1, 2)[..], &[usr1(2)]].concat());
    assert_eq!(bench.kill("USR1"), [usr1(2)]);
    // One that has failed does not, nor does the one after it.
    let mut bench = Bench::replacing(notify);
    bench.tell(Event::Executed(2));
    bench.kill("USR1");
    bench.tell(Event::ChildEnded(2, ExitStatus::Exited(3)));
    bench.tell(Event::RestGone(2));
    bench.kill("HUP");
    bench.tell(Event::Executed(3));
    assert_eq!(bench.tell(Event::Ready(3)), replaced(1, 3));
}

#[test]
fn when_a_child_is_ready() {
    let tries = [Effect::Try(1)];
    type Case<'a> = (&'a str, &'a [Effect], Option<Duration>, Option<Event>);
    let cases: [Case; 6] = [
        ("exec", &[], None, None),
        ("notify", &[], Some(60 * SECOND), Some(Event::Ready(1))),
        ("fd:3", &[], Some(60 * SECOND), Some(Event::Ready(1))),
        ("delay:90s", &[], Some(90 * SECOND), Some(Event::Tick)),
        ("tcp:127.0.0.1:1", &tries, Some(60 * SECOND), Some(Event::Ready(1))),
        ("cmd:x", &tries, Some(60 * SECOND), Some(Event::Ready(1))),
    ];
    for (ready, orders, left, event) in cases {
        let mut bench = Bench::unborn(|args| args.ready = Some(ready.to_owned()), |_| ());
        bench.tell(Event::Began);
        // Before the exec there is nobody to be ready.
        bench.tell(Event::Ready(1));
        assert_eq!(bench.tell(Event::Executed(1)), orders, "{ready}");
        assert_eq!(bench.left(), left, "{ready}");
        assert_eq!(bench.machine.child.serves(), event.is_none(), "{ready}");
        if let Some(event) = event {
            if event == Event::Tick {
                bench.now += bench.left().unwrap();
            }
            bench.tell(event);
            assert!(bench.machine.child.serves() && bench.left().is_none(), "{ready}");
        }
    }
}

/// While no child is alive, none is ready: what shows it is looked at when the main process is found.
#[test]
fn a_generation_without_a_child_is_not_ready() {
    for (ready, event) in [("notify", Event::Ready(1)), ("delay:9s", Event::Tick), ("cmd:x", Event::Ready(1))] {
        let mut bench = Bench::with(|args| args.ready = Some(ready.to_owned()), |_| ());
        bench.tell(Event::MainAwaited(1));
        bench.now += 9 * SECOND;
        assert_eq!(bench.tell(event), [], "{ready}");
        assert_ne!(bench.left(), Some(Duration::ZERO), "{ready}");
        assert_eq!(bench.machine.awaits_main(1), Some(bench.now - 9 * SECOND));
        assert!(!bench.machine.status().child.unwrap().ready, "{ready}");
        assert_eq!(bench.tell(Event::MainFound(1)), []);
        assert_eq!(bench.left(), Some(Duration::ZERO), "{ready}");
        match bench.pass(Duration::ZERO) {
            [] => assert_ne!(ready, "cmd:x"),
            // Another process may have answered.
            tries => {
                assert_eq!(tries, [Effect::Try(1)], "{ready}");
                bench.tell(Event::Ready(1));
            }
        }
        assert!(bench.machine.child.serves(), "{ready}");
    }
}

#[test]
fn a_child_that_is_ready_is_not_while_its_main_process_is_awaited() {
    let mut bench = Bench::new();
    let shown = |bench: &Bench| (bench.machine.status().state, bench.machine.status().child.unwrap().ready);
    assert_eq!(shown(&bench), (State::Running, true));
    bench.tell(Event::MainAwaited(1));
    assert_eq!((shown(&bench), bench.left()), ((State::Starting, false), None));
    // The wait does not go on while hupwrap is suspended.
    bench.now += 3600 * SECOND;
    bench.tell(Event::Resumed(3600 * SECOND));
    assert_eq!(bench.machine.awaits_main(1), Some(bench.now));
    bench.tell(Event::MainFound(1));
    assert_eq!(shown(&bench), (State::Running, true));
}

/// The old child is not stopped before the new one has a main process.
#[test]
fn a_successor_without_a_child_replaces_nobody() {
    for (ready, overlap) in [("delay:5s", None), ("delay:5s", Some("5s")), ("exec", Some("5s"))] {
        let replaced = |named: bool| {
            let change = |args: &mut Args| {
                (args.on, args.ready) = (vec!["HUP=replace".to_owned()], Some(ready.to_owned()));
                args.overlap = overlap.map(str::to_owned);
            };
            let mut bench = Bench::with(change, |_| ());
            bench.pass(5 * SECOND);
            bench.kill("HUP");
            bench.tell(Event::Executed(2));
            bench.tell(Event::MainAwaited(2));
            assert_eq!((bench.left(), bench.pass(30 * SECOND)), (None, &[][..]), "{ready} {overlap:?}");
            if !named {
                let failed = bench.tell(Event::ChildEnded(2, ExitStatus::Exited(1))).to_vec();
                assert!(bench.machine.child.id == 1 && bench.machine.child.serves());
                return failed;
            }
            bench.tell(Event::MainFound(2));
            bench.tell(Event::Tick);
            bench.pass(5 * SECOND).to_vec()
        };
        let is_settled =
            |effect: &Effect| matches!(effect, Effect::Say(Message::Settled { outcome: Outcome::Failed(_), .. }));
        assert!(replaced(false).iter().any(is_settled), "{ready} {overlap:?}");
        replaced(true);
    }
}

/// The time of the end counts, not the time of giving up.
#[test]
fn the_wait_for_a_main_process_is_no_running_time() {
    let mut bench = Bench::with(
        |args| (args.restart, args.restart_limit) = (Some("always".to_owned()), Some("1".to_owned())),
        |_| (),
    );
    for generation in 1..=2 {
        bench.now += SECOND;
        bench.tell(Event::MainAwaited(generation));
        bench.now += 3600 * SECOND;
        bench.tell(Event::ChildEnded(generation, ExitStatus::Exited(5)));
        if generation == 1 {
            let later = bench.out.iter().find_map(|effect| match effect {
                Effect::Say(Message::RestartingLater { ran, attempt, .. }) => Some((*ran, *attempt)),
                _ => None,
            });
            assert_eq!(later, Some((SECOND, 1)));
            bench.tell(Event::RestGone(1));
            bench.pass(SECOND);
            bench.tell(Event::Executed(2));
        }
    }
    assert!(matches!(bench.out.first(), Some(Effect::Say(Message::GaveUp { restarts: 1, .. }))), "{:?}", bench.out);
}

/// So does the time of the end after Ctrl-C: it is final, however late it is noticed.
#[test]
fn ctrl_c_ends_a_child_whose_main_process_is_never_named() {
    for (before, after, is_final) in [(1, 3600, true), (6, 3600, false)] {
        let restarting = |args: &mut Args| args.restart = Some("always".to_owned());
        let mut bench = Bench::with(restarting, |place| place.has_terminal = true).in_front();
        bench.signal("INT", Sender::Kernel);
        bench.now += before * SECOND;
        bench.tell(Event::MainAwaited(1));
        bench.now += after * SECOND;
        bench.tell(Event::ChildEnded(1, ExitStatus::Exited(130)));
        assert_eq!(bench.out.iter().any(|effect| matches!(effect, Effect::Finish(_))), is_final, "{:?}", bench.out);
    }
}

#[test]
fn tries_are_a_quarter_of_a_second_apart() {
    let mut bench = Bench::with(|args| args.ready = Some("cmd:x".to_owned()), |_| ());
    assert_eq!(bench.out, [Effect::Try(1)]);
    for _ in 0..3 {
        assert_eq!(bench.tell(Event::TriedInVain(1)), []);
        assert_eq!(bench.left(), Some(TRY_DELAY));
        assert_eq!(bench.pass(TRY_DELAY), [Effect::Try(1)]);
    }
}

#[test]
fn a_child_that_is_late() {
    let stop = [sent(To::Child, "TERM"), sent(To::Child, "CONT")];
    let with = |args: &mut Args| {
        notify(args);
        args.ready_timeout = Some("20s".to_owned());
    };
    let late = Effect::Say(Message::NotReady(1, 20 * SECOND));
    let mut bench = Bench::with(with, |_| ());
    assert_eq!(bench.pass(20 * SECOND), [std::slice::from_ref(&late), &stop].concat());
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Finish(Ending::Own(TIMED_OUT))]);
    // If it was told to stop in between, that it was late is not the answer.
    let mut bench = Bench::with(with, |_| ());
    bench.pass(20 * SECOND);
    bench.kill("TERM");
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Finish(Ending::Child(ExitStatus::Exited(0)))]);
    // A request for another one before, or in between, gets it.
    for is_before in [true, false] {
        let mut bench = Bench::with(with, |_| ());
        if is_before {
            assert_eq!(bench.kill("HUP"), []);
            assert_eq!(bench.pass(20 * SECOND), [std::slice::from_ref(&late), &stop, &[STARTING_SOON]].concat());
        } else {
            bench.pass(20 * SECOND);
            assert_eq!(bench.kill("HUP"), [STARTING_SOON]);
        }
        assert_eq!(bench.kill("HUP"), []);
        bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
        assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Start(2)]);
    }
    // It may ask for more time, and never for less.
    let mut bench = Bench::with(with, |_| ());
    for (extension, left) in [(30, 30), (5, 30)] {
        bench.tell(Event::Extended(1, extension * SECOND));
        assert_eq!(bench.left(), Some(left * SECOND));
    }
    bench.tell(Event::Extended(1, Duration::MAX));
    bench.pass(365 * 24 * 3600 * SECOND);
    assert_eq!(bench.out, []);
}

#[test]
fn a_child_that_is_stopped_may_ask_for_more_time() {
    let mut bench = Bench::new();
    bench.kill("HUP");
    bench.tell(Event::Extended(1, 30 * SECOND));
    assert_eq!(bench.left(), Some(30 * SECOND));
    bench.pass(30 * SECOND);
    assert_eq!(bench.out.last(), Some(&sent(To::Child, "KILL")));
    bench.tell(Event::Extended(1, 30 * SECOND));
    assert_eq!(bench.left(), Some(generation::KILL_TIMEOUT));
}

#[test]
fn what_a_child_left_behind_may_ask_for_more_time() {
    let mut bench = Bench::new();
    bench.kill("HUP");
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    bench.tell(Event::RestRemains(1));
    bench.tell(Event::Extended(1, 30 * SECOND));
    assert_eq!(bench.left(), Some(30 * SECOND));
    bench.pass(30 * SECOND);
    assert_eq!(bench.out.last(), Some(&sent(To::Rest, "KILL")));
    bench.tell(Event::Extended(1, 30 * SECOND));
    assert_eq!(bench.left(), Some(generation::KILL_TIMEOUT));
}

#[test]
fn checks_come_first() {
    let checked = || {
        Bench::with(
            |args| {
                args.check = Some("x".to_owned());
                args.check_timeout = Some("5s".to_owned());
                args.on = ["USR1=upgrade", "USR2=replace"].map(str::to_owned).to_vec();
            },
            |_| (),
        )
    };
    let ask = |name: &str| Event::Signal {
        signal: name.parse().unwrap(),
        sender: Sender::Process,
        hung_up: false,
        shared: false,
    };
    for (name, kind, check, next) in [
        ("HUP", RequestKind::Restart, CHECK, Effect::Say(Message::Restarting(1))),
        ("USR1", RequestKind::Upgrade, Effect::Check { new_child: false }, Effect::Probe),
        ("USR2", RequestKind::Replace, CHECK, Effect::Say(Message::Replacing(1))),
    ] {
        let mut bench = checked();
        assert_eq!(bench.tell(ask(name)), std::slice::from_ref(&check));
        assert_eq!(bench.tell(Event::Checked).first(), Some(&next));
        let refused = |reason: &str| Effect::Say(settled(kind, Outcome::Refused(reason.to_owned())));
        let mut bench = checked();
        bench.tell(ask(name));
        assert_eq!(bench.tell(Event::Refused("no".to_owned())), [refused("no")]);
        // What the check says afterwards is nobody's business.
        assert_eq!(bench.tell(Event::Checked), []);
        // One that takes too long is given up, and the next request is heard.
        bench.tell(ask(name));
        assert_eq!(bench.left(), Some(5 * SECOND));
        let late = [Effect::Abandon, refused("the check did not end within 5s")];
        assert_eq!(bench.pass(5 * SECOND), late);
        assert_eq!(bench.tell(ask(name)), [check]);
        assert_eq!(bench.tell(ask("TERM")), [Effect::Abandon, sent(To::Child, "TERM"), sent(To::Child, "CONT")]);
    }
}

#[test]
fn a_watchdog_is_fed_while_no_child_can() {
    let mut bench = Bench::with(notify, |place| place.watchdog = Some(3 * SECOND));
    assert_eq!(bench.left(), Some(Duration::ZERO));
    for _ in 0..3 {
        assert_eq!(bench.tell(Event::Tick), [Effect::Feed]);
        assert_eq!(bench.tell(Event::Tick), []);
        assert_eq!(bench.left(), Some(3 * SECOND));
        bench.now += 3 * SECOND;
    }
    bench.tell(Event::Ready(1));
    assert_eq!(bench.left(), None);
    bench.kill("HUP");
    assert_eq!(bench.tell(Event::Tick), [Effect::Feed]);
}

#[test]
fn no_time_of_a_second_child_runs_out_while_hupwrap_is_stopped() {
    let mut bench = Bench::replacing(notify);
    bench.tell(Event::Executed(2));
    for (event, left) in [(None, 60), (Some(Event::Ready(2)), 10)] {
        event.into_iter().for_each(|event| drop(bench.tell(event).to_vec()));
        bench.now += 100 * SECOND;
        bench.tell(Event::Resumed(100 * SECOND));
        assert_eq!(bench.left(), Some(left * SECOND));
    }
}

/// A machine whose child is renewed after ten seconds and up to one more.
fn ageing(change: impl FnOnce(&mut Args)) -> Bench {
    let with = |args: &mut Args| {
        args.max_age = Some("10s".to_owned());
        change(args);
    };
    Bench::with(with, |_| ())
}

impl Bench {
    /// Goes to the time when the child is old.
    fn grow_old(&mut self) -> Vec<Effect> {
        let left = self.left().unwrap();
        assert!((10 * SECOND..=11 * SECOND).contains(&left), "{left:?}");
        let early = left - Duration::from_nanos(1);
        assert_eq!(self.pass(early), []);
        self.pass(Duration::from_nanos(1)).to_vec()
    }
}

fn grown_old(generation: GenerationId, effects: &[Effect]) -> bool {
    matches!(effects, [Effect::Say(Message::GrownOld(id, _)), Effect::Check { new_child: true }] if *id == generation)
}

#[test]
fn a_changed_file_acts_as_a_hup() {
    let mut bench = Bench::unborn(|_| (), |_| ());
    assert_eq!(bench.tell(Event::Changed), [], "the first start finds it");
    bench.tell(Event::Began);
    bench.tell(Event::Executed(1));
    assert_eq!(bench.tell(Event::Changed), [CHECK]);
    // What changes during the check and after it makes one more.
    assert_eq!(bench.tell(Event::Changed), []);
    let stops = [sent(To::Child, "TERM"), sent(To::Child, "CONT")];
    assert_eq!(bench.tell(Event::Checked)[1..], stops);
    assert_eq!(bench.tell(Event::Changed), []);
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    assert_eq!(bench.tell(Event::RestGone(1)), [Effect::Start(2)]);
    bench.kill("TERM");
    assert_eq!(bench.tell(Event::Changed), [], "after a stop");
}

#[test]
fn an_old_child_is_renewed() {
    let mut bench = ageing(notify);
    assert_eq!(bench.left(), Some(60 * SECOND), "its age counts from when it is ready");
    bench.pass(30 * SECOND);
    bench.tell(Event::Ready(1));
    assert!(grown_old(1, &bench.grow_old()));
    bench.tell(Event::Checked);
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    bench.tell(Event::RestGone(1));
    bench.tell(Event::Executed(2));
    bench.pass(3 * SECOND);
    bench.tell(Event::Ready(2));
    assert!(grown_old(2, &bench.grow_old()));
}

#[test]
fn a_renewal_for_age_that_is_refused_is_tried_again_when_the_child_is_older_by_as_much() {
    let mut bench = ageing(|_| ());
    for _ in 0..3 {
        assert!(grown_old(1, &bench.grow_old()));
        assert_eq!(bench.left(), None, "nothing is asked for while it is under way");
        bench.pass(2 * SECOND);
        bench.now -= 2 * SECOND;
        assert_eq!(bench.tell(Event::Refused("no".to_owned())).len(), 1);
    }
}

#[test]
fn a_replace_for_age_that_fails_is_tried_again_when_the_child_is_older_by_as_much() {
    let mut bench = ageing(|args| {
        (args.on_hup, args.ready) = (vec!["replace".to_owned()], Some("notify".to_owned()));
    });
    bench.tell(Event::Ready(1));
    assert!(grown_old(1, &bench.grow_old()));
    bench.tell(Event::Checked);
    bench.tell(Event::ChildEnded(2, ExitStatus::Exited(3)));
    bench.tell(Event::RestGone(2));
    assert!(grown_old(1, &bench.grow_old()));
    bench.tell(Event::Checked);
    bench.tell(Event::Executed(3));
    // However long the failure takes.
    bench.pass(60 * SECOND);
    bench.tell(Event::ChildEnded(3, ExitStatus::Exited(0)));
    bench.tell(Event::RestGone(3));
    assert!(grown_old(1, &bench.grow_old()));
    bench.tell(Event::Checked);
    bench.tell(Event::Executed(4));
    bench.pass(5 * SECOND);
    // The new one is old when it has been ready for so long, however long its predecessor takes to end.
    bench.tell(Event::Ready(4));
    bench.pass(4 * SECOND);
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    bench.tell(Event::RestGone(1));
    let left = bench.left().unwrap();
    assert!((6 * SECOND..=7 * SECOND).contains(&left), "{left:?}");
}

#[test]
fn a_child_that_is_renewed_for_another_reason_is_young() {
    let mut bench = ageing(|_| ());
    bench.pass(9 * SECOND);
    bench.kill("HUP");
    bench.pass(5 * SECOND);
    bench.tell(Event::ChildEnded(1, ExitStatus::Exited(0)));
    bench.tell(Event::RestGone(1));
    bench.tell(Event::Executed(2));
    assert!(grown_old(2, &bench.grow_old()));
}

#[test]
fn an_age_crosses_an_upgrade_and_a_suspension_does_not_count() {
    let mut bench = ageing(|args| args.on = vec!["USR1=upgrade".to_owned()]);
    bench.pass(3 * SECOND);
    bench.now += 100 * SECOND;
    bench.tell(Event::Resumed(100 * SECOND));
    let left = bench.left().unwrap();
    assert!((7 * SECOND..=8 * SECOND).contains(&left), "{left:?}");
    bench.kill("USR1");
    bench.tell(Event::Proven);
    let snapshot = bench.machine.snapshot().unwrap();
    let settings = bench.machine.settings.clone();
    bench.machine = Machine::adopt(settings.clone(), snapshot.clone());
    bench.tell(Event::Adopted { before: String::new() });
    assert_eq!(bench.left(), Some(left));
    // The hupwrap before may have known nothing of it.
    bench.machine = Machine::adopt(settings, Snapshot { renew_at: None, ..snapshot });
    bench.tell(Event::Adopted { before: String::new() });
    let left = bench.left().unwrap();
    assert!((7 * SECOND..=8 * SECOND).contains(&left), "{left:?}");
}
