//! The recipes of docs/recipes.md: the commands are taken from the page, and run with the programs they are for.
//!
//! What differs from the page is where things are: directories, and the port.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::http::{Load, free_port, get};
use crate::support::*;

const PAGE: &str = include_str!("../docs/recipes.md");

/// How often a server is renewed.
const DEPLOYS: usize = 2;

/// The blocks of code in a language under a heading of the page.
fn blocks(heading: &str, language: &str) -> Vec<String> {
    let lines = PAGE.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading)).skip(1);
    let mut lines = lines.take_while(|line| !line.starts_with("## "));
    let mut blocks = Vec::new();
    while lines.any(|line| line == format!("```{language}")) {
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(block.join("\n") + "\n");
    }
    assert!(!blocks.is_empty(), "the page has no {language} under '{heading}'");
    blocks
}

/// Where a test runs recipes: its directory, and its port.
struct Place {
    dir: Dir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: Dir::new(), port: free_port() };
        fs::create_dir(place.path("log")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A text of the page, with the paths and the port of this place.
    fn here(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        let address = self.address().to_string();
        let mut text = text.replace("0.0.0.0:8000", &address).replace("127.0.0.1:9000", &address);
        text = text.replace("0.0.0.0:80 ", &format!("{address} ")).replace("/var/log/app", &format!("{dir}/log"));
        for place in ["/run/app", "/etc/nginx", "/etc/php/8.2/fpm", "/etc/supervisor"] {
            text = text.replace(place, &dir);
        }
        text
    }

    /// A program in this directory, with what the page needs in its PATH: the directory, hupwrap, and what is for root.
    fn setup(&self, program: &str, args: &[&str]) -> Setup {
        let mut path = vec![self.dir.path().to_owned(), hupwrap().parent().unwrap().to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        path.push("/usr/sbin".into());
        let path = std::env::join_paths(path).unwrap();
        Setup::of(program, args).dir(self.dir.path()).env("PATH", path)
    }

    /// A command line of the page, as hupwrap.
    fn start(&self, line: &str) -> Run {
        self.setup("sh", &["-c", &format!("exec {}", self.here(line))]).start()
    }

    #[track_caller]
    fn ends_well(&self, program: &str, args: &[&str]) -> String {
        let ended = self.setup(program, args).end();
        assert_eq!(ended.shell(), 0, "{program} {args:?}: {ended:?}");
        ended.stdout
    }

    /// What a deploy runs.
    #[track_caller]
    fn deploy(&self) {
        self.ends_well("hupwrap", &["--reload", "status.json"]);
    }

    /// The same, of a release that the check does not let through.
    #[track_caller]
    fn deploy_is_refused(&self) {
        let ended = self.setup("hupwrap", &["--reload", "status.json"]).end();
        assert_eq!(ended.shell(), 1, "{ended:?}");
        assert!(ended.stderr.contains("refused, nothing was touched: check"), "{ended:?}");
    }

    #[track_caller]
    fn wait_ready(&self) {
        self.ends_well("hupwrap", &["--wait-ready", "status.json"]);
    }

    #[track_caller]
    fn stop(&self, run: Run) {
        self.ends_well("hupwrap", &["--stop", "status.json"]);
        let ended = run.end();
        assert_eq!(ended.shell(), 0, "{ended:?}");
    }

    fn status(&self) -> Value {
        let text = fs::read_to_string(self.path("status.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Starts a server that answers with its release, the first one.
    #[track_caller]
    fn serve(&self, line: &str) -> Run {
        let run = self.start(line);
        self.wait_ready();
        wait_until("the server listens", || TcpStream::connect(self.address()).is_ok());
        assert_eq!(get(self.address()), "1", "stderr: {:?}", run.stderr());
        run
    }

    /// Renews such a server under load. `release` makes one ready to be started.
    #[track_caller]
    fn renews(&self, line: &str, release: impl Fn(usize)) {
        release(1);
        let run = self.serve(line);
        let load = Load::on(self.address());
        for number in 2..=DEPLOYS + 1 {
            release(number);
            self.deploy();
            // After a forwarded signal, the old one may answer for a while.
            load.meets(&number.to_string());
            load.goes_on();
        }
        let tally = load.end();
        tally.nothing_is_lost();
        assert_eq!(tally.bodies.len(), DEPLOYS + 1, "{tally:?}; stderr: {:?}", run.stderr());
        self.stop(run);
    }

    /// The same for a server whose release is in a file.
    #[track_caller]
    fn renews_file(&self, line: &str) {
        self.renews(line, |number| drop(self.dir.file("release", number.to_string(), 0o644)));
    }
}

/// Where a program is, also if it is for root only.
fn found(name: &str) -> Option<PathBuf> {
    installed(name).or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|file| file.is_file()))
}

/// Whether a test is skipped because a program is not installed.
fn lacks(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| found(program).is_none());
    if let Some(program) = missing {
        skipped(&format!("recipes::{test}"), &format!("no {program}"));
    }
    missing.is_some()
}

/// A program that says which generation it is, and opens its log again on a signal.
fn logger(place: &Place, signal: &str) {
    let script = format!(
        "#!/bin/sh\ntrap 'exec >> log/app.log; echo opened again' {signal}\nexec >> log/app.log\n\
        echo generation $HUPWRAP_GENERATION\nwhile :; do sleep 0.1; done\n"
    );
    place.dir.program("server", script);
}

/// Runs logrotate with a block of the page, and waits until the log has a line.
#[track_caller]
fn rotate(place: &Place, block: usize, line: &str) {
    let file = place.dir.file("rotate.conf", place.here(&blocks("Log rotation", "logrotate")[block]), 0o644);
    let state = place.path("rotate.state");
    place.ends_well("logrotate", &["--force", "--state", state.to_str().unwrap(), file.to_str().unwrap()]);
    let log = |name: &str| fs::read_to_string(place.path("log").join(name)).unwrap_or_default();
    wait_until("the new log has the line", || log("app.log").contains(line));
    assert!(log("app.log.1").contains("generation 1"), "{}", log("app.log.1"));
    assert!(!log("app.log").contains("generation 1"), "{}", log("app.log"));
}

#[track_caller]
fn log_has(place: &Place, line: &str) {
    wait_until("the log has the line", || {
        fs::read_to_string(place.path("log/app.log")).is_ok_and(|text| text.contains(line))
    });
}

#[test]
fn logs_are_rotated() {
    if lacks("logs_are_rotated", &["logrotate"]) {
        return;
    }
    let lines = blocks("Log rotation", "sh");
    // USR1 is forwarded.
    let place = Place::new();
    logger(&place, "USR1");
    let run = place.start(&lines[0]);
    log_has(&place, "generation 1");
    rotate(&place, 0, "opened again");
    drop(run);
    // HUP is forwarded.
    let place = Place::new();
    logger(&place, "HUP");
    let run = place.start(&lines[1]);
    place.wait_ready();
    log_has(&place, "generation 1");
    rotate(&place, 1, "opened again");
    place.ends_well("hupwrap", &["--stop", "status.json"]);
    drop(run);
    // A restart, by the same file of logrotate.
    let place = Place::new();
    logger(&place, "USR1");
    let run = place.start(&lines[1].replace("--on-hup forward ", ""));
    place.wait_ready();
    log_has(&place, "generation 1");
    rotate(&place, 1, "generation 2");
    drop(run);
    // The log is copied, and then truncated: what is written in between is lost.
    let place = Place::new();
    place.dir.program(
        "server",
        "#!/bin/sh\necho generation 1\nwhile [ -s log/app.log ]; do sleep 0.1; done\necho afterwards\nexec sleep 1000\n",
    );
    let run = place.start(&lines[2]);
    log_has(&place, "generation 1");
    rotate(&place, 2, "afterwards");
    drop(run);
}

/// nginx answers with a number that its configuration holds.
fn nginx(place: &Place, number: usize) {
    let (dir, address) = (place.dir.path().display(), place.address());
    let configuration = format!(
        "pid {dir}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\n\
        http {{\naccess_log off;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\n\
        fastcgi_temp_path {dir}/f;\nuwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
        server {{ listen {address}; location / {{ return 200 {number}; }} }}\n}}\n"
    );
    place.dir.file("nginx.conf", configuration, 0o644);
}

#[test]
fn nginx_is_renewed() {
    if lacks("nginx_is_renewed", &["nginx"]) {
        return;
    }
    for line in blocks("nginx", "sh") {
        let place = Place::new();
        place.renews(&line, |number| nginx(&place, number));
        // A broken configuration is refused.
        nginx(&place, 1);
        let run = place.serve(&line);
        place.dir.file("nginx.conf", "nonsense", 0o644);
        place.deploy_is_refused();
        place.stop(run);
    }
}

/// php-fpm speaks FastCGI, so nginx stands in front of it.
#[test]
fn php_fpm_is_renewed() {
    let entries = fs::read_dir("/usr/sbin").into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let Some(fpm) = names.find(|name| name.starts_with("php-fpm")) else {
        return skipped("recipes::php_fpm_is_renewed", "no php-fpm");
    };
    if lacks("php_fpm_is_renewed", &["nginx"]) {
        return;
    }
    for line in blocks("php-fpm", "sh") {
        let place = Place::new();
        let front = Place::new();
        let (dir, script) = (front.dir.path().display(), front.path("index.php"));
        let configuration = format!(
            "daemon off;\npid {dir}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\n\
            http {{\naccess_log off;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\n\
            fastcgi_temp_path {dir}/f;\nuwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
            server {{ listen {}; location / {{ fastcgi_pass {}; fastcgi_param REQUEST_METHOD GET;\n\
            fastcgi_param SCRIPT_FILENAME {}; }} }}\n}}\n",
            front.address(),
            place.address(),
            script.display()
        );
        front.dir.file("index.php", "<?php header('Content-Length: 1'); echo getenv('RELEASE');", 0o644);
        let file = front.dir.file("nginx.conf", configuration, 0o644);
        // Its workers end with it, however this test ends: it is tethered.
        let proxy = front.setup("hupwrap", &["--", "nginx", "-e", "stderr", "-c", file.to_str().unwrap()]).start();
        let user = if nix::unistd::geteuid().is_root() { "user = nobody\n" } else { "" };
        let release = |number: usize| {
            let configuration = format!(
                "[global]\nerror_log = {}\nprocess_control_timeout = 20s\n[www]\n{user}listen = {}\npm = static\n\
                pm.max_children = 3\nenv[RELEASE] = {number}\n",
                place.path("fpm.log").display(),
                place.address()
            );
            place.dir.file("php-fpm.conf", configuration, 0o644);
        };
        release(1);
        let run = place.start(&line.replace("php-fpm8.2", &fpm));
        place.wait_ready();
        wait_until("nginx answers", || TcpStream::connect(front.address()).is_ok());
        let load = Load::on(front.address());
        for number in 2..=DEPLOYS + 1 {
            release(number);
            place.deploy();
            wait_until("the new release answers", || get(front.address()) == number.to_string());
            load.goes_on();
        }
        load.end().nothing_is_lost();
        place.stop(run);
        assert_eq!(proxy.stop().shell(), 0);
    }
}

const GUNICORN: &str = "release = open('release').read().encode()

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(release)))])
    return [release]
";

#[test]
fn gunicorn_is_renewed() {
    if lacks("gunicorn_is_renewed", &["gunicorn"]) {
        return;
    }
    for line in blocks("gunicorn", "sh") {
        let place = Place::new();
        place.dir.file("app.py", GUNICORN, 0o644);
        place.renews_file(&line);
    }
}

/// Its own reload, of a release that does not load: only the check keeps gunicorn from ending.
#[test]
fn gunicorn_refuses_a_broken_release() {
    if lacks("gunicorn_refuses_a_broken_release", &["gunicorn"]) {
        return;
    }
    let place = Place::new();
    place.dir.file("app.py", GUNICORN, 0o644);
    place.dir.file("release", "1", 0o644);
    let run = place.serve(&blocks("gunicorn", "sh")[1]);
    place.dir.file("app.py", "a syntax error\n", 0o644);
    place.deploy_is_refused();
    assert_eq!(get(place.address()), "1");
    place.stop(run);
}

#[test]
fn uvicorn_is_renewed() {
    let place = Place::new();
    if lacks("uvicorn_is_renewed", &["python3"]) {
        return;
    }
    if place.setup("python3", &["-c", "import uvicorn"]).end().shell() != 0 {
        return skipped("recipes::uvicorn_is_renewed", "python3 has no uvicorn");
    }
    let code = "release = open('release').read().encode()

async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        return
    headers = [(b'content-length', str(len(release)).encode())]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send({'type': 'http.response.body', 'body': release})
";
    place.dir.file("app.py", code, 0o644);
    place.dir.file("serve.py", &blocks("uvicorn", "python")[0], 0o644);
    place.renews_file(&blocks("uvicorn", "sh")[0]);
}

/// A program for Rack that says by a descriptor that it is loaded.
fn rack(place: &Place) {
    let code = "release = File.read('release')
run lambda { |env| [200, { 'content-type' => 'text/plain', 'content-length' => release.size.to_s }, [release]] }
";
    place.dir.file("config.ru", code.to_owned() + &blocks("Puma", "ruby")[0], 0o644);
}

#[test]
fn puma_is_renewed() {
    if lacks("puma_is_renewed", &["puma"]) {
        return;
    }
    let place = Place::new();
    rack(&place);
    place.renews_file(&blocks("Puma", "sh")[0]);
}

#[test]
fn unicorn_is_renewed() {
    if lacks("unicorn_is_renewed", &["unicorn"]) {
        return;
    }
    let place = Place::new();
    rack(&place);
    place.renews_file(&blocks("Unicorn", "sh")[0]);
}

#[test]
fn node_is_renewed() {
    if lacks("node_is_renewed", &["node"]) {
        return;
    }
    let place = Place::new();
    let code = blocks("Node.js", "js")[0].replace("'hello\\n'", "release");
    assert!(code.contains("response.end(release)"), "{code}");
    place.dir.file("app.js", code + "const release = fs.readFileSync('release', 'utf8');\n", 0o644);
    place.renews_file(&blocks("Node.js", "sh")[0]);
}

#[test]
fn starlet_is_renewed() {
    if lacks("starlet_is_renewed", &["plackup"]) {
        return;
    }
    if Setup::of("perl", ["-MPlack::Handler::Starlet", "-e1"]).end().shell() != 0 {
        return skipped("recipes::starlet_is_renewed", "perl has no Starlet");
    }
    let place = Place::new();
    let heading = "Starlet, and other PSGI servers";
    let code = format!(
        "open my $file, '<', 'release';\nmy $release = <$file>;\n\
        my $app = sub {{ [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $release], [$release]] }};\n\
        {}$app;\n",
        blocks(heading, "perl")[0]
    );
    place.dir.file("app.psgi", code, 0o644);
    place.renews_file(&blocks(heading, "sh")[0]);
}

#[test]
fn h2o_is_renewed() {
    if lacks("h2o_is_renewed", &["h2o"]) {
        return;
    }
    let place = Place::new();
    place.renews(&blocks("h2o", "sh")[0], |number| {
        let root = place.path(&format!("root-{number}"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("index.html"), number.to_string()).unwrap();
        let configuration = format!(
            "listen: {{ host: 127.0.0.1, port: {} }}\nnum-threads: 1\n\
            hosts: {{ default: {{ paths: {{ /: {{ file.dir: {} }} }} }} }}\n",
            place.port,
            root.display()
        );
        place.dir.file("h2o.conf", configuration, 0o644);
    });
}

/// A server that says who it is.
const WHO: &str = "#!/bin/sh\necho generation $HUPWRAP_GENERATION uid $(id -u) pid $$\nexec sleep 1000\n";

#[test]
fn another_user_is_tethered_too() {
    if lacks("another_user_is_tethered_too", &["setpriv"]) {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return skipped("recipes::another_user_is_tethered_too", "not root");
    }
    let Some(user) = nix::unistd::User::from_name("www-data").ok().flatten() else {
        return skipped("recipes::another_user_is_tethered_too", "no user www-data");
    };
    let place = Place::new();
    place.dir.program("server", WHO);
    let mut run = place.start(&blocks("Another user", "sh")[0]);
    place.wait_ready();
    run.line(&format!("generation 1 uid {} ", user.uid));
    place.deploy();
    run.line(&format!("generation 2 uid {} ", user.uid));
    let child = children(run.pid)[0];
    assert_eq!(status(child, "NoNewPrivs"), "1");
    run.kill("KILL");
    wait_until("the tether ends the server", || !is_alive(child));
}

/// supervisord above hupwrap, and hupwrap above that.
#[test]
fn supervisord_is_above_and_below() {
    if lacks("supervisord_is_above_and_below", &["supervisord", "supervisorctl"]) {
        return;
    }
    let place = Place::new();
    place.dir.program("server", WHO);
    let dir = place.dir.path().display();
    let configuration = format!(
        "[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={dir}/s.pid\n\
        [unix_http_server]\nfile={dir}/s.sock\n\
        [rpcinterface:supervisor]\n\
        supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
        [supervisorctl]\nserverurl=unix://{dir}/s.sock\n{}",
        place.here(&blocks("supervisord", "ini")[0])
    );
    place.dir.file("supervisord.conf", configuration, 0o644);
    let run = place.start(&blocks("supervisord", "sh")[0]);
    place.wait_ready();
    let first = place.status()["pid"].as_i64();
    place.ends_well("supervisorctl", &["-c", "supervisord.conf", "signal", "HUP", "app"]);
    wait_until("it is replaced", || place.status()["generation"] == 2 && place.status()["old_child"].is_null());
    place.deploy();
    assert_eq!((place.status()["pid"].as_i64(), place.status()["generation"].as_i64()), (first, Some(3)));
    // Its own reload starts all programs again.
    run.kill("HUP");
    wait_until("another hupwrap runs", || {
        let status = place.status();
        status["pid"].as_i64() != first && status["child"]["ready"] == true
    });
    let ended = run.stop();
    assert_eq!((ended.shell(), &place.status()["state"]), (0, &"ended".into()), "{ended:?}");
}

/// A directory as runsv and s6-supervise want it.
fn service(place: &Place) {
    place.dir.program("server", WHO);
    fs::create_dir(place.path("service")).unwrap();
    place.dir.program("service/run", place.here(&blocks("runit and s6", "sh")[0]));
}

#[test]
fn runsv_is_above() {
    if lacks("runsv_is_above", &["runsv", "sv"]) {
        return;
    }
    let place = Place::new();
    service(&place);
    let run = place.setup("runsv", &["service"]).start();
    place.wait_ready();
    let service = place.path("service");
    place.ends_well("sv", &["hup", service.to_str().unwrap()]);
    run.wrote_times("generation 2 ", 1);
    place.ends_well("sv", &["-w", "60", "force-shutdown", service.to_str().unwrap()]);
    assert_eq!(run.end().shell(), 0);
    assert_eq!(place.status()["state"], "ended");
}

#[test]
fn s6_supervise_is_above() {
    if lacks("s6_supervise_is_above", &["s6-supervise", "s6-svc"]) {
        return;
    }
    let place = Place::new();
    service(&place);
    let run = place.setup("s6-supervise", &["service"]).start();
    place.wait_ready();
    place.ends_well("s6-svc", &["-h", "service"]);
    run.wrote_times("generation 2 ", 1);
    place.ends_well("s6-svc", &["-dx", "service"]);
    assert_eq!(run.end().shell(), 0);
    assert_eq!(place.status()["state"], "ended");
}
