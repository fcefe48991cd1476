//! The status file and the pidfile: contract, section 11.

use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use nix::libc;
use serde_json::{Value, json};

use crate::support::watched::{monotonic, status_where};
use crate::support::*;

pub const KEYS: [&str; 15] = [
    "version",
    "pid",
    "pid_start",
    "state",
    "generation",
    "child",
    "old_child",
    "on_hup",
    "restarts",
    "last_exit",
    "late",
    "requested",
    "reload",
    "settled",
    "listen",
];

/// A directory, and a status file to be in it.
fn place() -> (Dir, PathBuf) {
    let dir = Dir::new();
    let file = dir.path().join("status");
    (dir, file)
}

/// A hupwrap that keeps a status file.
fn watched(file: &Path, options: &[&str], command: &[&str]) -> Setup {
    let words = [options, &["--"], command].concat();
    Setup::new(["--status-file".as_ref(), file.as_os_str()].into_iter().chain(words.iter().map(AsRef::as_ref)))
}

fn name(file: &Path) -> &str {
    file.to_str().expect("UTF-8")
}

/// The status once it has this state, with every key of the contract, and hupwrap's identity.
#[track_caller]
fn in_state(run: &Run, file: &Path, state: &str) -> Value {
    let status = status_where(file, state, |status| status["state"] == state);
    whole(&status);
    assert_eq!((&status["version"], &status["pid"]), (&env!("CARGO_PKG_VERSION").into(), &run.pid.into()));
    assert_eq!(status["pid_start"].to_string(), stat(run.pid).expect("a process")[19]);
    status
}

/// Every key is there, no other, and each is of its kind.
#[track_caller]
fn whole(status: &Value) {
    let keys = status.as_object().expect("an object");
    assert!(keys.len() == KEYS.len() && KEYS.iter().all(|key| keys.contains_key(*key)), "{status}");
    for key in ["pid", "pid_start", "generation"] {
        assert!(status[key].is_u64(), "{key}: {status}");
    }
    for key in ["version", "state", "on_hup"] {
        assert!(status[key].is_string(), "{key}: {status}");
    }
    let has = |key: &str, parts: &[&str]| {
        let value = &status[key];
        let is = value.as_object().is_some_and(|o| o.len() == parts.len() && parts.iter().all(|p| o.contains_key(*p)));
        assert!(value.is_null() || is, "{key}: {status}");
    };
    has("child", &["pid", "since", "ready"]);
    has("old_child", &["pid", "generation"]);
    has("restarts", &["asked", "failed"]);
    has("reload", &["action", "began", "ended", "outcome", "reason"]);
    assert!(status["restarts"].is_object() && status["listen"].is_array(), "{status}");
}

/// What is in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn puppet_name() -> String {
    puppet().display().to_string()
}

/// A start that failed has used up its number: the number in the file never goes back.
#[test]
fn a_failed_start_uses_up_its_number() {
    let (dir, file) = place();
    let script = "[ ! -e broken ] || exit 7; echo $HUPWRAP_GENERATION; echo >&9; exec sleep 1000";
    let options = ["--on-hup", "replace", "--ready", "fd:9"];
    let mut run = watched(&file, &options, &["sh", "-c", script]).dir(dir.path()).start();
    assert_eq!(run.line(""), "1");
    in_state(&run, &file, "running");
    fs::write(dir.path().join("broken"), "").unwrap();
    run.kill("HUP");
    let is_over = |status: &Value| status["reload"]["outcome"] == "failed" && status["state"] == "running";
    let status = status_where(&file, "the replace has failed", is_over);
    assert_eq!((&status["generation"], &status["old_child"]), (&2.into(), &Value::Null));
    fs::remove_file(dir.path().join("broken")).unwrap();
    run.kill("HUP");
    assert_eq!(run.line(""), "3");
    let is_over = |status: &Value| status["reload"]["outcome"] == "ok" && status["state"] == "running";
    let status = status_where(&file, "it was replaced", is_over);
    assert_eq!((&status["generation"], &status["restarts"]["asked"]), (&3.into(), &2.into()));
}

#[test]
fn every_state_is_told() {
    let (dir, file) = place();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let options =
        ["--on-hup", "replace", "--ready", "fd:3", "--check", "sh -c 'read go < fifo'", "--restart", "on-failure"];
    let options = [&options[..], &["--restart-delay", "1h", "--restart-max-delay", "1h"]].concat();
    let puppet = puppet_name();
    let before = monotonic();
    let mut run =
        watched(&file, &options, &[&puppet, "tell=USR2:3", "exit=USR1:3", "ignore=TERM"]).dir(dir.path()).start();
    let (_, first) = run.ready();

    let status = in_state(&run, &file, "starting");
    let text = fs::read_to_string(&file).unwrap();
    let places: Vec<_> = KEYS.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted() && text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    let since = status["child"]["since"].as_u64().unwrap();
    assert!((before..monotonic()).contains(&since));
    assert_eq!(status["child"], json!({ "pid": first, "since": since, "ready": false }));
    assert_eq!((&status["generation"], &status["on_hup"]), (&1.into(), &"replace".into()));
    assert_eq!(status["restarts"], json!({ "asked": 0, "failed": 0 }));
    for key in ["old_child", "last_exit", "reload"] {
        assert!(status[key].is_null(), "{key}: {status}");
    }
    assert_eq!(status["listen"], json!([]));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);

    kill(first, "USR2");
    let status = in_state(&run, &file, "running");
    assert_eq!(status["child"], json!({ "pid": first, "since": since, "ready": true }));

    run.kill("HUP");
    let status = in_state(&run, &file, "checking");
    assert_eq!((&status["child"]["pid"], &status["child"]["ready"]), (&first.into(), &true.into()));
    fs::write(dir.path().join("fifo"), "go\n").unwrap();

    let (_, second) = run.ready();
    let status = status_where(&file, "two", |status| status["state"] == "replacing" && status["old_child"].is_object());
    whole(&status);
    assert_eq!(status["old_child"], json!({ "pid": first, "generation": 1 }));
    assert_eq!((&status["generation"], &status["child"]["pid"]), (&2.into(), &second.into()));
    assert_eq!(status["child"]["ready"], false);
    let reload = &status["reload"];
    assert_eq!(
        (&reload["action"], &reload["outcome"], &reload["ended"]),
        (&"replace".into(), &Value::Null, &Value::Null)
    );
    kill(second, "USR2");
    // The old one has not ended yet: TERM is nothing to it.
    let status = status_where(&file, "it is ready", |status| status["child"]["ready"] == true);
    assert_eq!((&status["state"], &status["old_child"]["pid"]), (&"replacing".into(), &first.into()));
    kill(first, "KILL");
    let status = in_state(&run, &file, "running");
    assert_eq!((&status["old_child"], &status["restarts"]["asked"]), (&Value::Null, &1.into()));
    assert_eq!((&status["last_exit"], &status["reload"]["outcome"]), (&json!({ "signal": "KILL" }), &"ok".into()));

    kill(second, "USR1");
    let status = in_state(&run, &file, "waiting");
    assert_eq!((&status["child"], &status["last_exit"]), (&Value::Null, &json!({ "code": 3 })));
    assert_eq!((&status["restarts"]["failed"], &status["generation"]), (&1.into(), &2.into()));

    run.kill("HUP");
    let status = in_state(&run, &file, "checking");
    assert_eq!(status["child"], Value::Null);
    fs::write(dir.path().join("fifo"), "go\n").unwrap();
    let (_, third) = run.ready();
    kill(third, "USR2");
    in_state(&run, &file, "running");
    run.kill("TERM");
    let status = in_state(&run, &file, "stopping");
    assert_eq!(status["child"]["pid"], third);
    kill(third, "KILL");
    assert_eq!(run.status().code(), None);
    // It tells of the end.
    let last: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    whole(&last);
    assert_eq!((&last["state"], &last["child"]), (&"ended".into(), &Value::Null));
    assert_eq!((&last["last_exit"], &last["generation"]), (&json!({ "signal": "KILL" }), &3.into()));
    assert_eq!(names(dir.path()), ["fifo", "status"]);
}

#[test]
fn sockets_are_told() {
    let (dir, file) = place();
    let unix = format!("local=unix:{}", dir.path().join("socket").display());
    let options = ["--listen", "web=tcp:127.0.0.1:0", "--listen", &unix];
    let mut run = watched(&file, &options, &[&puppet_name()]).start();
    run.ready();
    let status = in_state(&run, &file, "running");
    let [web, local] = &status["listen"].as_array().unwrap()[..] else { panic!("{status}") };
    assert_eq!((&web["name"], &web["fd"]), (&"web".into(), &3.into()));
    assert_eq!((&local["name"], &local["fd"]), (&"local".into(), &4.into()));
    let address = web["address"].as_str().unwrap();
    let port = address.rsplit(':').next().unwrap();
    assert_ne!(port, "0");
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    run.stop();
}

/// Reads a status file all the while; each time it must be whole.
struct Reader {
    over: Arc<AtomicBool>,
    read: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn of(file: &Path) -> Self {
        let (over, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, count, file) = (over.clone(), read.clone(), file.to_owned());
        let thread = std::thread::spawn(move || {
            let mut last = (0, 0);
            while !until.load(Ordering::Relaxed) {
                let text = fs::read(&file).expect("it is always there");
                let status: Value = serde_json::from_slice(&text).expect("it is always whole");
                whole(&status);
                let now = (status["generation"].as_u64().unwrap(), status["restarts"]["asked"].as_u64().unwrap());
                assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
                last = now;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { over, read, thread: Some(thread) }
    }

    /// Waits until it has read more than once since.
    #[track_caller]
    fn reads_on(&self) {
        let read = || self.read.load(Ordering::Relaxed);
        let before = read();
        let has_ended = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        wait_until("it reads", || has_ended() || read() > before + 1);
    }

    #[track_caller]
    fn end(mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn it_is_whole_whenever_it_is_read() {
    for on_hup in ["restart", "replace", "upgrade"] {
        let (dir, file) = place();
        let options = ["--on-hup", on_hup, "--ready", "notify"];
        let mut run = watched(&file, &options, &[&puppet_name(), "notify"]).start();
        status_where(&file, "it is there", Value::is_object);
        let reader = Reader::of(&file);
        for times in 1..=25 {
            if on_hup != "upgrade" || times == 1 {
                run.ready();
            }
            // Three at once: two of them come in the middle of what the first began.
            for _ in 0..3 {
                run.kill("HUP");
            }
            if on_hup == "upgrade" {
                run.said_times("took over", times);
            }
            reader.reads_on();
        }
        reader.end();
        run.kill("TERM");
        run.status();
        assert_eq!(names(dir.path()), ["status"]);
    }
}

// Requests.

/// The reload object once it is settled, later than this; its times are sane.
#[track_caller]
fn settled(file: &Path, before: u64) -> Value {
    let status = status_where(file, "it is settled", |status| {
        status["reload"]["ended"].is_u64() && status["reload"]["began"].as_u64().unwrap() >= before
    });
    whole(&status);
    let reload = &status["reload"];
    let (began, ended) = (reload["began"].as_u64().unwrap(), reload["ended"].as_u64().unwrap());
    assert!(before <= began && began <= ended && ended <= monotonic(), "{before} {reload}");
    reload.clone()
}

#[test]
fn every_outcome_is_told() {
    let (dir, file) = place();
    let puppet = puppet_name();
    let script = format!("[ ! -e fails ] || exit 9; exec {puppet} notify");
    let options = ["--on-hup", "replace", "--ready", "notify", "--check", "test ! -e refuses"];
    let mut run = watched(&file, &options, &["sh", "-c", &script]).dir(dir.path()).start();
    run.ready();
    in_state(&run, &file, "running");

    let ask = |run: &Run| {
        let before = monotonic();
        run.kill("HUP");
        settled(&file, before)
    };
    let reload = ask(&run);
    assert_eq!(
        (&reload["action"], &reload["outcome"], &reload["reason"]),
        (&"replace".into(), &"ok".into(), &Value::Null)
    );

    let mark = dir.file("refuses", "", 0o644);
    let reload = ask(&run);
    assert_eq!((&reload["action"], &reload["outcome"]), (&"replace".into(), &"refused".into()));
    assert!(!reload["reason"].as_str().unwrap().is_empty());
    fs::remove_file(mark).unwrap();

    let mark = dir.file("fails", "", 0o644);
    let reload = ask(&run);
    assert_eq!((&reload["action"], &reload["outcome"]), (&"replace".into(), &"failed".into()));
    assert!(reload["reason"].as_str().unwrap().contains("ended (9) before it was ready"), "{reload}");
    fs::remove_file(mark).unwrap();
    let status = in_state(&run, &file, "running");
    assert_eq!(status["child"]["ready"], true);

    assert_eq!(ask(&run)["outcome"], "ok");
    run.stop();
}

/// The request that is shown: its action and its outcome.
fn shown(status: &Value) -> Value {
    json!([status["reload"]["action"], status["reload"]["outcome"]])
}

#[test]
fn a_hup_that_is_forwarded_is_told_from_its_beginning() {
    // While it is checked.
    let (dir, file) = place();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let options = ["--on-hup", "forward", "--check", "sh -c 'read answer < fifo; exit $answer'"];
    let mut run = watched(&file, &options, &[&puppet_name()]).dir(dir.path()).start();
    run.ready();
    for (answer, outcome) in [("1\n", "refused"), ("0\n", "ok")] {
        let asked = monotonic();
        run.kill("HUP");
        assert_eq!(shown(&in_state(&run, &file, "checking")), json!(["forward", null]));
        fs::write(dir.path().join("fifo"), answer).unwrap();
        assert_eq!(settled(&file, asked)["outcome"], outcome);
    }
    run.stop();
    // While it is held.
    let (_dir, file) = place();
    let mut run = watched(&file, &["--on-hup", "forward", "--ready", "notify"], &[&puppet_name()]).start();
    let (_, child) = run.ready();
    run.kill("HUP");
    let held = status_where(&file, "it is held", |status| status["reload"].is_object());
    assert_eq!((shown(&held), &held["state"]), (json!(["forward", null]), &json!("starting")));
    let asked = monotonic();
    notify::tell(child, "READY=1");
    assert_eq!(settled(&file, asked)["outcome"], "ok");
    run.line("got HUP");
    run.stop();
}

#[test]
fn what_is_under_way_is_not_hidden_by_a_hup_that_is_forwarded_beside_it() {
    let (_dir, file) = place();
    let options = ["--on-hup", "forward", "--on", "USR2=replace", "--ready", "notify"];
    let mut run = watched(&file, &options, &[&puppet_name()]).start();
    let (_, child) = run.ready();
    notify::tell(child, "READY=1");
    in_state(&run, &file, "running");
    run.kill("USR2");
    let (_, child) = run.ready();
    run.kill("HUP");
    let beside = status_where(&file, "it is delivered", |status| status["settled"][0].is_object());
    assert_eq!(shown(&beside), json!(["replace", null]));
    assert_eq!((&beside["settled"][0]["action"], &beside["settled"][0]["outcome"]), (&"forward".into(), &"ok".into()));
    notify::tell(child, "READY=1");
    let after = status_where(&file, "it is over", |status| status["reload"]["outcome"].is_string());
    assert_eq!(shown(&after), json!(["replace", "ok"]));
    assert_eq!(after["settled"].as_array().unwrap().len(), 1);
    run.stop();
}

#[test]
fn a_signal_other_than_hup_is_no_request_when_it_is_forwarded() {
    let (_dir, file) = place();
    let mut run = watched(&file, &["--on", "USR1=forward", "--check", "false"], &[&puppet_name()]).start();
    run.ready();
    run.kill("USR1");
    run.said("forward refused, nothing was touched: check 'false' ended with 1");
    let asked = monotonic();
    run.kill("HUP");
    assert_eq!(settled(&file, asked)["action"], "restart");
    assert_eq!(in_state(&run, &file, "running")["settled"], json!([]));
    run.stop();
}

#[test]
fn an_upgrade_keeps_what_is_told() {
    let (_dir, file) = place();
    let options = ["--on-hup", "upgrade", "--restart", "on-failure", "--restart-delay", "1ms"];
    let mut run = watched(&file, &options, &[&puppet_name(), "exit=USR1:3"]).start();
    kill(run.ready().1, "USR1");
    let (_, child) = run.ready();
    let before =
        status_where(&file, "it runs", |status| status["child"]["pid"] == child && status["state"] == "running");
    let asked = monotonic();
    run.kill("HUP");
    let reload = settled(&file, asked);
    assert_eq!((&reload["action"], &reload["outcome"]), (&"upgrade".into(), &"ok".into()));
    let after = in_state(&run, &file, "running");
    for key in ["pid", "pid_start", "generation", "child", "last_exit", "on_hup"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(after["restarts"]["failed"], 1);
    run.stop();
}

// What can go wrong with the file.

#[test]
fn a_directory_that_is_gone_stops_nothing() {
    let dir = Dir::new();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let file = inner.join("status");
    let mut run = watched(&file, &[], &[&puppet_name()]).start();
    run.ready();
    in_state(&run, &file, "running");
    fs::remove_dir_all(&inner).unwrap();
    for generation in 2..=4 {
        run.kill("HUP");
        assert_eq!(run.ready().0, generation);
    }
    run.said(" cannot be written: the directory ");
    fs::create_dir(&inner).unwrap();
    // Though nothing changes.
    wait_until("it is there again", || file.exists());
    assert_eq!(in_state(&run, &file, "running")["generation"], 4);
    assert_eq!(names(&inner), ["status"]);
    let ended = run.stop();
    assert_eq!(ended.stderr.matches("--status-file").count(), 1, "{}", ended.stderr);
}

#[test]
fn a_full_disk_and_one_that_is_read_only_stop_nothing() {
    let test = "status::a_full_disk_and_one_that_is_read_only_stop_nothing";
    let dir = Dir::new();
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let file = small.join("status");
    let script = "mount -t tmpfs -o size=16k none \"$0\" && exec \"$@\"";
    let setup = |words: &[&str]| {
        let unshare = ["--mount", "sh", "-c", script, name(&small)];
        Setup::of("unshare", unshare.iter().chain(words))
    };
    if installed("unshare").is_none() || installed("nsenter").is_none() || setup(&["true"]).end().shell() != 0 {
        return skipped(test, "unshare(1) and nsenter(1), or the right to mount");
    }
    let puppet = puppet_name();
    let mut run = setup(&[name(hupwrap()), "--status-file", name(&file), "--", &puppet]).start();
    run.ready();
    // As hupwrap sees it.
    let seen = PathBuf::from(format!("/proc/{}/root{}", run.pid, name(&file)));
    let filler = seen.with_file_name("filler");
    in_state(&run, &seen, "running");
    let _ = fs::write(&filler, [0; 1 << 15]);
    let mut generation = 1;
    let mut renew = |run: &mut Run| {
        run.kill("HUP");
        generation += 1;
        assert_eq!(run.ready().0, generation);
        generation
    };
    let before = fs::read(&seen).unwrap();
    assert_eq!(renew(&mut run), 2);
    assert_eq!(renew(&mut run), 3);
    run.said(" cannot be written: No space left on device");
    // What was there is there still, and nothing beside it.
    assert_eq!(fs::read(&seen).unwrap(), before);
    // The last try may be under way: its draft goes with it.
    wait_until("nothing is left beside it", || names(seen.parent().unwrap()) == ["filler", "status"]);
    fs::remove_file(&filler).unwrap();
    let now = renew(&mut run);
    status_where(&seen, "it is kept again", |status| status["generation"] == now && status["state"] == "running");

    let pid = run.pid.to_string();
    let remount = |how: &str| {
        let words = ["-m", "-t", &pid, "mount", "-o", &format!("remount,{how}"), name(&small)].map(str::to_owned);
        assert!(Command::new("nsenter").args(words).status().unwrap().success());
    };
    remount("ro");
    let now = renew(&mut run);
    run.said(" cannot be written: Read-only file system");
    remount("rw");
    status_where(&seen, "it is kept again", |status| status["generation"] == now && status["state"] == "running");
    let ended = run.stop();
    assert_eq!(ended.stderr.matches("--status-file").count(), 2, "{}", ended.stderr);
}

#[test]
fn a_link_in_the_place_of_the_draft_is_not_followed() {
    let (dir, file) = place();
    let precious = dir.file("precious", "precious", 0o644);
    let mut run = watched(&file, &[], &[&puppet_name()]).start();
    let draft = dir.path().join(format!(".status.{}", run.pid));
    run.ready();
    in_state(&run, &file, "running");
    for planted in 1..=2 {
        symlink(&precious, &draft).unwrap();
        run.kill("HUP");
        assert_eq!(run.ready().0, planted + 1);
        status_where(&file, "it runs", |status| status["generation"] == planted + 1 && status["state"] == "running");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(names(dir.path()), ["precious", "status"]);
    }
    run.stop();
    assert_eq!(names(dir.path()), ["precious", "status"]);
}

#[test]
fn a_file_that_cannot_be_is_said_at_the_start() {
    let dir = Dir::new();
    let missing = dir.path().join("missing/status");
    for file in [&missing, dir.path()] {
        let ended = watched(file, &[], &["echo", "started"]).end();
        assert_eq!(
            (ended.shell(), ended.stdout.as_str(), ended.stderr.lines().count()),
            (125, "", 1),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("--status-file"), "{}", ended.stderr);
    }
}

#[test]
fn what_is_no_status_file_is_left_alone() {
    let dir = Dir::new();
    let text = dir.file("text", "my notes\n", 0o644);
    let pid = dir.file("pid", "4711\n", 0o644);
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for target in ["fifo", "text", "loop"] {
        symlink(target, dir.path().join(if target == "loop" { "loop".to_owned() } else { format!("to-{target}") }))
            .unwrap();
    }
    let before = names(dir.path());
    for (name, why) in [
        ("text", "something other than a status file"),
        ("pid", "something other than a status file"),
        ("to-text", "something other than a status file"),
        ("fifo", "not a regular file"),
        ("to-fifo", "not a regular file"),
        ("loop", "too many symbolic links"),
        ("text/status", "is not a directory"),
        ("missing/status", "does not exist; create it first"),
    ] {
        refused(watched(&dir.path().join(name), &[], &["echo", "started"]), why);
    }
    let both = dir.path().join("both");
    refused(with_pidfile(&both, &["--status-file", name(&both)], &["echo", "started"]), "--status-file");
    assert_eq!(names(dir.path()), before);
    assert_eq!(
        (fs::read_to_string(text).unwrap(), fs::read_to_string(pid).unwrap()),
        ("my notes\n".into(), "4711\n".into())
    );
}

#[test]
fn a_link_is_followed_and_stays() {
    let dir = Dir::new();
    let (link, target) = (dir.path().join("link"), dir.path().join("target"));
    symlink("target", &link).unwrap();
    for _ in 0..2 {
        let mut run = watched(&link, &[], &[&puppet_name()]).start();
        run.ready();
        in_state(&run, &link, "running");
        assert_eq!(Setup::new(["--reload", name(&link)]).end().shell(), 0);
        assert_eq!(in_state(&run, &target, "running")["generation"], 2);
        run.stop();
        assert_eq!(names(dir.path()), ["link", "target"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[test]
fn two_options_need_two_files() {
    let dir = Dir::new();
    fs::create_dir(dir.path().join("run")).unwrap();
    symlink("run", dir.path().join("link")).unwrap();
    symlink("run/app", dir.path().join("app")).unwrap();
    let written = ["--pidfile", "--status-file", "--child-pidfile", "--listen"];
    let value = |option: &str, path: &str| match option {
        "--listen" => format!("unix:{path},mode=0600"),
        _ => path.to_owned(),
    };
    for (at, option) in written.iter().copied().chain(["--env-file", "--watch"]).enumerate() {
        for other in written.iter().take(at) {
            for (path, same) in [("app", "app"), ("./run/app", "link/app"), ("run/app", "app"), ("app", "run/app")] {
                let (path, same) = (value(option, path), value(other, same));
                let words = ["--watch", "x", option, &path, other, &same, "echo"];
                let ended = Setup::new(words).dir(dir.path()).end();
                let error =
                    format!("hupwrap: {option} '{path}': that file is made for {other} '{same}'; want another path\n");
                assert_eq!((ended.shell(), ended.stdout, ended.stderr), (125, String::new(), error));
                assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 0, "{words:?}");
            }
        }
    }
    // What is only read may be so twice.
    fs::write(dir.path().join("run/app"), "A=1\n").unwrap();
    let words = ["--watch", "app", "--env-file", "app", "--env-file", "run/app", "--watch", "run/app", "echo"];
    assert_eq!(Setup::new(words).dir(dir.path()).end().shell(), 0);
}

#[test]
fn a_second_one_cuts_nobody_off() {
    let (_dir, file) = place();
    let mut first = watched(&file, &["--on-hup", "upgrade"], &[&puppet_name()]).start();
    first.ready();
    in_state(&first, &file, "running");
    let other = format!("another hupwrap, pid {}, keeps its status there", first.pid);
    refused(watched(&file, &[], &["echo", "started"]), &other);
    // Adoption is not a second one.
    first.kill("HUP");
    first.said("took over");
    refused(watched(&file, &[], &["echo", "started"]), &other);
    assert_eq!(Setup::new(["--status", name(&file)]).end().shell(), 0);
    first.kill("KILL");
    first.status();
    let mut second = watched(&file, &[], &[&puppet_name()]).start();
    second.ready();
    status_where(&file, "it is the second's", |status| status["pid"] == second.pid);
    in_state(&second, &file, "running");
    second.stop();
}

#[test]
fn of_those_that_start_at_once_one_remains() {
    let (dir, file) = place();
    for round in 0..3 {
        let started = dir.path().join(format!("started.{round}"));
        let script = format!("echo >>{}; exec sleep 1000", name(&started));
        let mut all: Vec<Run> = (0..8).map(|_| watched(&file, &[], &["sh", "-c", &script]).start()).collect();
        wait_until("one remains", || all.iter_mut().map(Run::lives).filter(|lives| *lives).count() == 1);
        let at = all.iter_mut().position(Run::lives).unwrap();
        let last = all.remove(at);
        let other = format!("another hupwrap, pid {}, keeps its status there", last.pid);
        for run in all {
            let ended = run.end();
            assert!(ended.shell() == 125 && ended.stderr.contains(&other), "{ended:?}");
        }
        in_state(&last, &file, "running");
        wait_until("it was started", || started.exists());
        last.stop();
        assert_eq!(fs::read_to_string(&started).unwrap(), "\n");
        fs::remove_file(started).unwrap();
    }
    assert_eq!(names(dir.path()), ["status"]);
}

/// A program that holds the lock of the directory can delay a start, and no more.
#[test]
fn nobody_can_block_a_start() {
    let (dir, file) = place();
    let lock = fs::File::open(dir.path()).unwrap();
    lock.lock().unwrap();
    let mut run = watched(&file, &[], &[&puppet_name()]).start();
    run.ready();
    in_state(&run, &file, "running");
    assert_eq!(run.stop().stderr, "");
    drop(lock);
}

#[test]
fn its_name_may_be_as_long_as_names_are() {
    let dir = Dir::new();
    let file = dir.path().join("n".repeat(255));
    let mut run = watched(&file, &[], &[&puppet_name()]).start();
    run.ready();
    in_state(&run, &file, "running");
    assert_eq!(Setup::new(["--reload", name(&file)]).end().shell(), 0);
    assert!(!run.stop().stderr.contains("--status-file"));
}

#[test]
fn the_proc_of_another_pid_namespace_shows_no_start() {
    let test = "status::the_proc_of_another_pid_namespace_shows_no_start";
    let (_dir, file) = place();
    let setup = |words: &[&str]| Setup::of("unshare", ["--pid", "--fork", "--kill-child"].iter().chain(words));
    if installed("unshare").is_none() || setup(&["true"]).end().shell() != 0 {
        return skipped(test, "unshare(1), or the right to a pid namespace");
    }
    let mut run = setup(&[name(hupwrap()), "--status-file", name(&file), "--", &puppet_name()]).start();
    run.ready();
    let status = status_where(&file, "it runs", |status| status["state"] == "running");
    assert!(status["pid_start"].is_null() && status["pid"] == 1, "{status}");
    for form in ["--status", "--reload", "--stop", "--wait-ready"] {
        let ended = Setup::new([form, name(&file), "--timeout", "10s"]).end();
        assert_eq!(ended.shell(), 125, "{form}: {}", ended.stderr);
    }
    run.kill("KILL");
    run.status();
}

#[test]
fn files_that_somebody_removed_are_created_again() {
    let dir = Dir::new();
    let (status, pid) = (dir.path().join("status"), dir.path().join("pid"));
    let options = ["--status-file", name(&status), "--restart", "always", "--restart-delay", "1ms"];
    let mut run = with_pidfile(&pid, &options, &[&puppet_name(), "exit=USR1:3"]).start();
    let content = format!("{}\n", run.pid);
    let mut child = run.ready().1;
    in_state(&run, &status, "running");
    for (round, request) in [true, false, true].into_iter().enumerate() {
        fs::remove_file(&status).unwrap();
        fs::remove_file(&pid).unwrap();
        if request {
            run.kill("HUP");
        } else {
            kill(child, "USR1");
        }
        child = run.ready().1;
        status_where(&status, "it is there", |status| status["child"]["pid"] == child && status["state"] == "running");
        assert_eq!(fs::read_to_string(&pid).unwrap(), content);
        run.said_times(&format!("somebody has removed '{}'", name(&pid)), round + 1);
        refused(with_pidfile(&pid, &[], &["echo", "started"]), "another hupwrap has it");
    }
    // The file of another is left alone, also at the end.
    fs::remove_file(&status).unwrap();
    fs::write(&status, "my notes").unwrap();
    run.kill("HUP");
    run.ready();
    run.said("cannot be written: it holds something other than a status file");
    run.stop();
    assert_eq!(fs::read_to_string(&status).unwrap(), "my notes");
    assert_eq!(names(dir.path()), ["status"]);
}

// The pidfile.

#[test]
fn a_pidfile_needs_no_descriptor_to_be_removed() {
    let dir = Dir::new();
    let file = dir.path().join("pid");
    // Until a limit is enough to start.
    for limit in 4..64_u64 {
        let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        let setup = with_pidfile(&file, &[], &["true"]).with(|command| {
            before_exec(command, move || {
                // SAFETY: the pointer is to a struct of ours.
                unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) };
            });
        });
        let mut run = setup.start();
        wait_until("it has ended, or tries again", || !run.lives() || run.stderr().contains("trying again"));
        if run.lives() {
            run.kill("TERM");
        }
        let code = run.status().code();
        assert!(!file.exists(), "{limit}: {}", run.stderr());
        if code == Some(0) {
            break;
        }
    }
    let mut run = with_pidfile(&file, &[], &[&puppet_name()]).start();
    run.ready();
    let limits = libc::rlimit { rlim_cur: 3, rlim_max: 3 };
    // SAFETY: the pointer is to a struct of ours.
    let limited = unsafe { libc::prlimit(run.pid, libc::RLIMIT_NOFILE, &raw const limits, std::ptr::null_mut()) };
    assert_eq!(limited, 0);
    run.stop();
    assert!(!file.exists());
}

fn with_pidfile(file: &Path, options: &[&str], command: &[&str]) -> Setup {
    let words = [options, &["--"], command].concat();
    Setup::new(["--pidfile".as_ref(), file.as_os_str()].into_iter().chain(words.iter().map(AsRef::as_ref)))
}

/// Whether somebody has it locked.
fn is_locked(file: &fs::File) -> bool {
    // SAFETY: has no preconditions; what is won is given back.
    unsafe {
        let won = libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0;
        if won {
            libc::flock(file.as_raw_fd(), libc::LOCK_UN);
        }
        !won
    }
}

#[track_caller]
fn refused(setup: Setup, part: &str) {
    let ended = setup.end();
    assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(part) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
}

#[test]
fn a_pidfile_is_there_as_long_as_hupwrap_and_keeps_others_away() {
    let dir = Dir::new();
    let file = dir.path().join("pid");
    let mut run = with_pidfile(&file, &[], &[&puppet_name()]).start();
    run.ready();
    let content = format!("{}\n", run.pid);
    assert_eq!(fs::read_to_string(&file).unwrap(), content);
    let inode = fs::metadata(&file).unwrap().ino();
    refused(with_pidfile(&file, &[], &["echo", "started"]), &format!("another hupwrap has it, pid {}", run.pid));
    assert_eq!((fs::read_to_string(&file).unwrap(), fs::metadata(&file).unwrap().ino()), (content, inode));
    // A child has neither the file nor the lock.
    let (_, child) = {
        run.kill("HUP");
        run.ready()
    };
    assert!(!fds(child).values().any(|target| target == &file));
    assert_eq!(run.stop().shell(), 0);
    assert!(!file.exists());
    // As when the command cannot be started, or another option is wrong.
    assert_eq!(with_pidfile(&file, &[], &["/no/such/program"]).end().shell(), 127);
    assert!(!file.exists());
    assert_eq!(with_pidfile(&file, &["--status-file", name(dir.path())], &["true"]).end().shell(), 125);
    assert!(!file.exists());
}

#[test]
fn the_lock_is_held_over_every_re_exec() {
    for on_hup in ["upgrade", "reexec"] {
        let dir = Dir::new();
        let file = dir.path().join("pid");
        let mut run = with_pidfile(&file, &["--on-hup", on_hup], &[&puppet_name()]).start();
        run.ready();
        let open = OpenOptions::new().read(true).open(&file).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let tries = Arc::new(AtomicUsize::new(0));
        let (until, count) = (over.clone(), tries.clone());
        let contender = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                assert!(is_locked(&open), "it was free for a moment");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        for times in 1..=20 {
            run.kill("HUP");
            run.said_times("took over", times);
            if on_hup == "reexec" {
                run.ready();
            }
            let before = tries.load(Ordering::Relaxed);
            wait_until("it is tried", || contender.is_finished() || tries.load(Ordering::Relaxed) > before + 1);
        }
        over.store(true, Ordering::Relaxed);
        contender.join().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", run.pid));
        // One descriptor, after twenty as after none.
        assert_eq!(fds(run.pid).values().filter(|target| **target == file).count(), 1);
        assert_eq!(run.stop().shell(), 0);
        assert!(!file.exists(), "{on_hup}");
    }
}

#[test]
fn a_stale_pidfile_is_taken_over() {
    let dir = Dir::new();
    let mut stranger = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    for content in [format!("{}\n", stranger.id()), String::new()] {
        let file = dir.file("pid", &content, 0o644);
        let mut run = with_pidfile(&file, &[], &[&puppet_name()]).start();
        run.ready();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", run.pid));
        assert_eq!(run.stop().shell(), 0);
        assert!(!file.exists());
    }
    // It was left alone.
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    // And after a KILL.
    let file = dir.path().join("pid");
    let mut run = with_pidfile(&file, &[], &[&puppet_name()]).start();
    run.ready();
    run.kill("KILL");
    run.status();
    assert!(file.exists());
    assert_eq!(with_pidfile(&file, &[], &["true"]).end().shell(), 0);
    assert!(!file.exists());
}

#[test]
fn another_file_at_its_place_is_not_removed() {
    let dir = Dir::new();
    let file = dir.path().join("pid");
    let mut run = with_pidfile(&file, &[], &[&puppet_name()]).start();
    run.ready();
    let other = dir.file("other", "4711\n", 0o644);
    fs::rename(&other, &file).unwrap();
    assert_eq!(run.stop().shell(), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "4711\n");
}

#[test]
fn another_file_at_its_place_is_said_once() {
    let dir = Dir::new();
    let file = dir.path().join("pid");
    let mut run = with_pidfile(&file, &[], &[&puppet_name()]).start();
    run.ready();
    fs::remove_file(&file).unwrap();
    fs::write(&file, "1\n").unwrap();
    for _ in 0..2 {
        run.kill("HUP");
        run.ready();
    }
    let ended = run.stop();
    let line = "is no longer the file that hupwrap made: another file is there, which is left alone";
    assert_eq!(ended.stderr.matches(line).count(), 1, "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
}

/// It is not written to, but replaced: its owner could write another pid to it.
#[test]
fn a_stale_pidfile_of_another_user_is_replaced() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("status::a_stale_pidfile_of_another_user_is_replaced", "root");
    }
    let nobody = 65534;
    let (dir, theirs) = (Dir::new(), Dir::new());
    let program = dir.hupwrap("hupwrap");
    let give = |path: &Path| nix::unistd::chown(path, Some(nobody.into()), None).unwrap();
    give(theirs.path());
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    for content in ["99999\n", ""] {
        let file = theirs.file("pid", content, 0o666);
        give(&file);
        let held = fs::File::open(&file).unwrap();
        held.lock().unwrap();
        refused(with_pidfile(&file, &[], &["echo", "started"]), "another hupwrap has it");
        // Another test may just have forked: its child has the file open too, until it executes.
        held.unlock().unwrap();
        let mut run = with_pidfile(&file, &[], &[&puppet_name()]).start();
        run.ready();
        assert_eq!((fs::read_to_string(&file).unwrap(), owner(&file)), (format!("{}\n", run.pid), 0));
        assert_eq!(run.stop().shell(), 0);
        assert!(!file.exists());
    }
    let file = theirs.file("pid", "my notes", 0o644);
    give(&file);
    refused(with_pidfile(&file, &[], &["echo", "started"]), "neither empty nor holds a pid");
    assert_eq!((fs::read_to_string(&file).unwrap(), owner(&file)), ("my notes".to_owned(), nobody));
    // Who may not remove it, may not replace it.
    let as_nobody = |file: &Path| {
        let setup = Setup::of(&program, args([&"--pidfile", &file, &"--", &"echo", &"started"]));
        setup.with(move |command| {
            command.uid(nobody);
        })
    };
    assert_eq!(as_nobody(&theirs.file("pid", "99999\n", 0o644)).end().shell(), 0);
    assert!(!theirs.path().join("pid").exists());
    let file = dir.file("pid", "99999\n", 0o644);
    refused(as_nobody(&file), "it belongs to another user: ");
    assert_eq!(fs::read_to_string(&file).unwrap(), "99999\n");
}

#[test]
fn what_is_no_pidfile_is_left_alone() {
    let dir = Dir::new();
    let precious = dir.file("precious", "precious", 0o644);
    let link = dir.path().join("link");
    symlink(&precious, &link).unwrap();
    refused(with_pidfile(&link, &[], &["echo", "started"]), "symbolic link");
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    refused(with_pidfile(&dangling, &[], &["echo", "started"]), "symbolic link");
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
    refused(with_pidfile(&fifo, &[], &["echo", "started"]), "not a regular file");
    drop(reader);
    refused(with_pidfile(dir.path(), &[], &["echo", "started"]), "--pidfile");
    refused(with_pidfile(&precious, &[], &["echo", "started"]), "neither empty nor holds a pid");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    let named = dir.file("named", "12\n", 0o644);
    fs::hard_link(&named, dir.path().join("second")).unwrap();
    refused(with_pidfile(&named, &[], &["echo", "started"]), "a hard link");
    assert_eq!(fs::read_to_string(&named).unwrap(), "12\n");
    let missing = dir.path().join("missing/pid");
    refused(with_pidfile(&missing, &[], &["echo", "started"]), "does not exist; create it first");
    assert_eq!(names(dir.path()), ["dangling", "fifo", "link", "named", "precious", "second"]);
}

#[test]
fn root_trusts_no_directory_of_everybody() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("status::root_trusts_no_directory_of_everybody", "root");
    }
    let dir = Dir::new();
    let mode = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    let file = dir.path().join("file");
    refused(with_pidfile(&file, &[], &["echo", "started"]), "everybody may replace files in");
    refused(watched(&file, &[], &["echo", "started"]), "want one that only its owner can write to");
    assert_eq!(names(dir.path()), [] as [&str; 0]);
    mode(0o1777);
    assert_eq!(with_pidfile(&file, &[], &["true"]).end().shell(), 0);
    assert_eq!(watched(&file, &[], &["true"]).end().shell(), 0);
}
