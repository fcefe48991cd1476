//! Nothing is lost while a server is renewed: `--listen` and its two generations, under clients that never pause.
//!
//! The many rounds are with a server of these tests; that it is no favourite is shown with servers that nobody here
//! wrote, each of which takes its socket in the way its own documentation tells. docs/recipes.md has them as recipes.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::support::http::{Load, Tally, free_port, get, listening};
use crate::support::*;

/// How often a server is renewed in each way.
const ROUNDS: usize = 50;

/// Where hupwrap listens for its child.
#[track_caller]
fn address(run: &mut Run) -> SocketAddr {
    let mut found = None;
    wait_until("hupwrap listens", || {
        if !run.lives() {
            // Which never comes: but this shows all that did.
            run.said("an address");
        }
        found = listening(run.pid);
        found.is_some()
    });
    found.expect("an address")
}

/// Sends hupwrap a signal, and waits until its child is another process, and alone.
#[track_caller]
fn renew(run: &Run, signal: &str) {
    let mut before = Vec::new();
    // The kernel's list may have lacked the old child while another process ended.
    wait_until("there is one child", || {
        before = children(run.pid);
        before.len() == 1
    });
    run.kill(signal);
    wait_until("there is one child, another one", || {
        let now = children(run.pid);
        now.len() == 1 && now != before
    });
}

/// Renews the server time and again, and has it asked all the while.
#[track_caller]
fn under_load(rounds: usize, run: &Run, address: SocketAddr, mut round: impl FnMut(usize)) -> Tally {
    let load = Load::on(address);
    for number in 1..=rounds {
        round(number);
        load.goes_on();
        assert!(is_alive(run.pid), "hupwrap ended in round {number}; stderr: {:?}", run.stderr());
    }
    load.end()
}

/// Every action under load, so many times each: none of them loses anything, and each but the upgrade brings a new
/// generation. The server answers every request with its generation; `prepare` is called with the number of each before
/// it begins.
#[track_caller]
fn in_every_way(rounds: usize, setup: Setup, mut prepare: impl FnMut(usize)) {
    prepare(1);
    let mut run = setup.start();
    let address = address(&mut run);
    assert_eq!(get(address), "1", "stderr: {:?}", run.stderr());
    let (mut generation, mut reexecs) = (1, 0);
    let signals = ["HUP", "USR1", "USR2", "RTMIN"];
    let tally = under_load(signals.len() * rounds, &run, address, |round| {
        let signal = signals[round % signals.len()];
        match signal {
            "USR2" => run.kill(signal),
            _ => {
                generation += 1;
                prepare(generation);
                renew(&run, signal);
            }
        }
        if signal != "HUP" {
            reexecs += 1;
            run.said_times("took over from", reexecs);
        }
    });
    assert_eq!(get(address), generation.to_string(), "stderr: {:?}", run.stderr());
    tally.nothing_is_lost();
    assert_eq!(run.stop().shell(), 0);
}

/// Whether a test must be skipped for want of a program.
fn lacks(test: &str, program: &str) -> bool {
    let lacks = installed(program).is_none();
    if lacks {
        skipped(test, &format!("no {program}"));
    }
    lacks
}

/// The server of these tests, and what a HUP is to do with it.
fn own_server(action: &str) -> Setup {
    let listen = ["--listen", "tcp:127.0.0.1:0", "--ready", "notify", "--on-hup", action, "--"];
    Setup::new(listen.iter().map(OsString::from).chain([server().into_os_string()]))
}

/// The generation that answers.
fn generation(address: SocketAddr) -> String {
    get(address).split(' ').next().unwrap_or_default().to_owned()
}

#[track_caller]
fn own_server_is_renewed_by(action: &str) {
    let mut run = own_server(action).start();
    let address = address(&mut run);
    assert_eq!(generation(address), "1");
    let reexecutes = action != "replace" && action != "restart";
    let tally = under_load(ROUNDS, &run, address, |number| {
        match action {
            "upgrade" => run.kill("HUP"),
            _ => renew(&run, "HUP"),
        }
        if reexecutes {
            run.said_times("took over from", number);
        }
    });
    let renewed = if action == "upgrade" { 0 } else { ROUNDS };
    assert_eq!(generation(address), (renewed + 1).to_string(), "{action}");
    tally.nothing_is_lost();
    assert_eq!(tally.bodies.len(), renewed + 1, "each generation has served: {tally:?}");
    assert_eq!(run.stop().shell(), 0);
}

#[test]
fn replace_loses_nothing() {
    own_server_is_renewed_by("replace");
}

#[test]
fn reexec_loses_nothing() {
    own_server_is_renewed_by("reexec");
}

#[test]
fn upgrade_loses_nothing() {
    own_server_is_renewed_by("upgrade");
}

#[test]
fn upgrade_and_replace_loses_nothing() {
    own_server_is_renewed_by("upgrade+replace");
}

#[test]
fn restart_loses_nothing() {
    own_server_is_renewed_by("restart");
}

/// What stands before the command of a server that is renewed in every way.
fn replacing<'a>(listen: &'a str, ready: &'a str) -> Vec<&'a str> {
    let mut args = vec!["--listen", listen, "--on-hup", "replace", "--on", "USR1=reexec", "--on", "USR2=upgrade"];
    args.extend(["--on", "RTMIN=upgrade+replace", "--ready", ready, "--"]);
    args
}

/// LISTEN_FDS, and READY=1 by itself. Fewer rounds: it takes a third of a second to come and to go.
#[test]
fn gunicorn_loses_nothing() {
    if lacks("servers::gunicorn_loses_nothing", "gunicorn") {
        return;
    }
    let code = "import os

def app(environ, start_response):
    body = os.environ['HUPWRAP_GENERATION'].encode()
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
";
    let dir = Dir::new();
    dir.file("app.py", code, 0o644);
    let mut args = replacing("tcp:127.0.0.1:0", "notify");
    args.extend(["gunicorn", "--preload", "--worker-class", "gthread", "--threads", "4", "app:app"]);
    in_every_way(10, Setup::new(args).dir(dir.path()), |_| ());
}

/// SERVER_STARTER_PORT; the program says by a descriptor that it is loaded.
#[test]
fn starlet_loses_nothing() {
    let test = "servers::starlet_loses_nothing";
    if lacks(test, "plackup") {
        return;
    }
    if Setup::of("perl", ["-MPlack::Handler::Starlet", "-e1"]).end().shell() != 0 {
        return skipped(test, "perl has no Starlet");
    }
    let code = r#"use POSIX ();
my $body = $ENV{HUPWRAP_GENERATION};
my $app = sub { [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $body], [$body]] };
POSIX::write(4, "\n", 1);
POSIX::close(4);
$app;
"#;
    let dir = Dir::new();
    dir.file("app.psgi", code, 0o644);
    let mut args = replacing("tcp:127.0.0.1:0", "fd:4");
    args.extend(["plackup", "-E", "deployment", "-s", "Starlet", "--max-workers", "3"]);
    args.extend(["--max-keepalive-reqs", "100", "app.psgi"]);
    in_every_way(ROUNDS, Setup::new(args).dir(dir.path()), |_| ());
}

/// Its own `listen({ fd: 3 })`; the program says by a descriptor that it listens.
#[test]
fn node_loses_nothing() {
    if lacks("servers::node_loses_nothing", "node") {
        return;
    }
    let code = r"const fs = require('fs'), http = require('http');
let stopping = false;
const server = http.createServer((request, response) => {
    if (stopping) response.setHeader('Connection', 'close');
    response.end(process.env.HUPWRAP_GENERATION);
});
server.listen({ fd: 3 }, () => { fs.writeSync(4, '\n'); fs.closeSync(4); });
process.on('SIGTERM', () => { stopping = true; server.close(); server.closeIdleConnections(); });
";
    let dir = Dir::new();
    dir.file("app.js", code, 0o644);
    let mut args = replacing("tcp:127.0.0.1:0", "fd:4");
    args.extend(["node", "app.js"]);
    in_every_way(ROUNDS, Setup::new(args).dir(dir.path()), |_| ());
}

/// SERVER_STARTER_PORT, which must name what its configuration names. It has no words of its own for "ready", and no
/// program that could have them; its configuration is another one in each generation.
#[test]
fn h2o_loses_nothing() {
    if lacks("servers::h2o_loses_nothing", "h2o") {
        return;
    }
    let dir = Dir::new();
    let port = free_port();
    let listen = format!("tcp:127.0.0.1:{port}");
    let mut args = replacing(&listen, "delay:100ms");
    args.extend(["h2o", "-c", "h2o.conf"]);
    in_every_way(ROUNDS, Setup::new(args).dir(dir.path()), |generation| {
        let root = dir.path().join(generation.to_string());
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("index.html"), generation.to_string()).unwrap();
        let configuration = format!(
            "listen: {{ host: 127.0.0.1, port: {port} }}\n\
            num-threads: 1\n\
            hosts: {{ default: {{ paths: {{ /: {{ file.dir: {} }} }} }} }}\n",
            root.display()
        );
        dir.file("h2o.conf", configuration, 0o644);
    });
}

/// Who counts losses must see them.
#[test]
fn the_clients_notice_what_is_lost() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        for number in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            if ended.try_recv().is_ok() {
                return;
            }
            // Every third finds the door shut, and every third hears half of it.
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
            let _ = stream.read(&mut [0; 1024]);
            match number % 3 {
                0 => drop(stream),
                1 => drop(stream.write_all(&answer.as_bytes()[..answer.len() - 1])),
                _ => drop(stream.write_all(answer.as_bytes())),
            }
        }
    });
    let load = Load::on(address);
    (0..10).for_each(|_| load.goes_on());
    end.send(()).unwrap();
    server.join().unwrap();
    load.goes_on();
    let tally = load.end();
    assert!(tally.refused > 0, "{tally:?}");
    assert!(tally.failed["closed without an answer"] > 0, "{tally:?}");
    assert!(tally.failed["closed in the middle of a body"] > 0, "{tally:?}");
    assert!(tally.answered > 0 && tally.bodies["OK"] == tally.answered, "{tally:?}");
}
