//! Names of hosts: a resolver that is silent delays nothing, and a name is looked up at each try.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::notify::Above;
use crate::support::resolver::Resolver;
use crate::support::*;

/// Much less than a resolver waits, and much more than a loaded machine needs.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_silent_resolver_does_not_keep_hupwrap_from_a_stop() {
    const NAME: &str = "names::a_silent_resolver_does_not_keep_hupwrap_from_a_stop";
    let Some(resolver) = Resolver::new(NAME, "127.77.53.1") else { return };
    let dir = Dir::new();
    let pidfile = dir.path().join("pid");
    for (signal, status) in [("TERM", 143), ("INT", 130), ("QUIT", 131), ("USR1", 138), ("RTMIN+1", 163)] {
        let options = args([&"--listen", &"tcp:127.0.0.1:0", &"--listen", &"tcp:web.test:0", &"--pidfile", &pidfile]);
        let rest = args([&"--on", &"USR1=stop", &"--on", &"RTMIN+1=stop:TERM", &"--", &puppet()]);
        let mut run = resolver.setup(hupwrap(), [options, rest].concat()).start();
        let _silence = (resolver.asked(), resolver.asked());
        let began = Instant::now();
        // Only a stop stops.
        run.kill("HUP");
        run.kill("USR2");
        run.kill(signal);
        assert_eq!(run.status().code(), Some(status), "{signal}: {}", run.stderr());
        assert!(began.elapsed() < SOON, "{signal}: {:?}", began.elapsed());
        wait_until("the lookup has ended too", || run.family().is_empty());
        let ended = run.end();
        assert_eq!((&*ended.stdout, &*ended.stderr, pidfile.exists()), ("", "", false), "{signal}");
    }
}

#[test]
fn what_comes_during_a_lookup_is_not_lost() {
    const NAME: &str = "names::what_comes_during_a_lookup_is_not_lost";
    let Some(resolver) = Resolver::new(NAME, "127.77.53.2") else { return };
    let sockets = ["--listen", "tcp:web.test:0", "--listen", "udp:web.test:0", "--ready", "notify", "--"];
    let list = [sockets.map(Into::into).to_vec(), args([&puppet(), &"notify"])].concat();
    let mut run = resolver.setup(hupwrap(), list).start();
    let query = resolver.asked();
    run.kill("USR1");
    run.kill("HUP");
    resolver.answer_lookup(query, true);
    resolver.answer_lookup(resolver.asked(), true);
    run.said("'tcp:web.test:0' is at tcp:127.0.0.1:");
    run.said("'udp:web.test:0' is at udp:127.0.0.1:");
    assert_eq!(run.ready().0, 1);
    run.line("got USR1");
    assert_eq!(children(run.pid).len(), 1);
    assert_eq!(run.stop().shell(), 0);

    // A name that does not exist.
    let run = resolver.setup(hupwrap(), ["--listen", "tcp:web.test:0", "--", "true"]).start();
    resolver.answer_lookup(resolver.asked(), false);
    let ended = run.end();
    assert_eq!((ended.shell(), ended.stderr.lines().count()), (125, 1), "{ended:?}");
    let start = "hupwrap: --listen 'tcp:web.test:0': the host 'web.test' has no address: ";
    assert!(ended.stderr.starts_with(start), "{ended:?}");
}

#[test]
fn hupwrap_is_suspended_during_a_lookup_too() {
    const NAME: &str = "names::hupwrap_is_suspended_during_a_lookup_too";
    let Some(resolver) = Resolver::new(NAME, "127.77.53.5") else { return };
    let list = args([&"--listen", &"tcp:web.test:0", &"--on", &"TTOU=ignore", &"--", &puppet()]);
    let mut run = resolver.setup(hupwrap(), list).start();
    let query = resolver.asked();
    run.kill("TTOU");
    for signal in ["TTIN", "TSTP"] {
        run.kill(signal);
        wait_until("hupwrap is stopped", || state(run.pid) == Some('T'));
        if signal == "TSTP" {
            resolver.answer_lookup(query, true);
            break;
        }
        run.kill("CONT");
        wait_until("hupwrap goes on", || state(run.pid) == Some('S'));
    }
    run.kill("CONT");
    run.ready();
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_name_is_looked_up_at_each_try() {
    const NAME: &str = "names::a_name_is_looked_up_at_each_try";
    let Some(resolver) = Resolver::new(NAME, "127.77.53.3") else { return };
    let mut above = Above::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ready = format!("tcp:web.test:{}", listener.local_addr().unwrap().port());
    let list = args([&"-v", &"--ready", &ready, &"--on-hup", &"upgrade", &"--", &puppet()]);
    let mut run = resolver.setup(hupwrap(), list).env("NOTIFY_SOCKET", above.name()).start();
    let (_, child) = run.ready();
    for _ in 0..2 {
        resolver.answer_lookup(resolver.asked(), false);
    }
    run.said("is not ready yet: the host 'web.test' has no address: ");
    // The lookup is a process like any other: somebody ends it, and there is another try.
    let _silence = (resolver.asked(), resolver.asked());
    let mut lookups = Vec::new();
    // The one before has answered, and may be about to end.
    wait_until("there is one lookup", || {
        lookups = children(run.pid).into_iter().filter(|pid| *pid != child).collect();
        lookups.len() == 1
    });
    kill(lookups[0], "TERM");
    run.said("is not ready yet: the lookup of 'web.test' was ended");
    resolver.answer_lookup(resolver.asked(), true);
    above.expect(&["READY=1"]);
    listener.accept().unwrap();
    // After a re-exec there is a next time.
    run.kill("HUP");
    run.said("took over");
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn a_silent_resolver_does_not_keep_a_child_from_signals() {
    const NAME: &str = "names::a_silent_resolver_does_not_keep_a_child_from_signals";
    let Some(resolver) = Resolver::new(NAME, "127.77.53.4") else { return };
    let list = args([&"--ready", &"tcp:web.test:80", &"--", &puppet(), &"exit=TERM:7"]);
    let mut run = resolver.setup(hupwrap(), list).start();
    run.ready();
    let _silence = (resolver.asked(), resolver.asked());
    let began = Instant::now();
    run.kill("TERM");
    assert_eq!(run.status().code(), Some(7));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    wait_until("the lookup has ended too", || run.family().is_empty());
}
