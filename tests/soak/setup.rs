//! The files of a life: how they are made, broken and mended; and hupwrap's command line.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::knock::Door;
use super::schedule::{DELAY, Fault, Options, Plan};
use crate::support::actor;

/// An address that nobody has now, and hardly anybody will.
pub fn free_address() -> String {
    let host = format!("127.77.{}.{}", std::process::id() % 250 + 1, std::process::id() / 250 % 250 + 1);
    let port = TcpListener::bind((host.as_str(), 0)).expect("a port").local_addr().expect("an address").port();
    format!("{host}:{port}")
}

/// What hupwrap is started with.
pub fn arguments(options: &Options, dir: &Path, door: Option<&Door>) -> Vec<String> {
    let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let mut list = vec![format!("--on-hup={}", options.on_hup)];
    let mut add = |option: &str, value: Option<String>| list.extend(value.map(|value| format!("--{option}={value}")));
    let ms = |ms: u64| format!("{ms}ms");
    add("on", options.on_usr2.map(|action| format!("USR2={action}")));
    add(
        "ready",
        match options.ready {
            "" => None,
            "fd" => Some("fd:9".to_owned()),
            "delay" => Some(format!("delay:{DELAY}ms")),
            "cmd" => Some(format!("cmd:{} {} try", at("checker"), at(""))),
            other => Some(other.to_owned()),
        },
    );
    add("ready-timeout", Some(ms(options.ready_timeout)));
    add("overlap", options.overlap.map(ms));
    add("check", options.check.then(|| format!("{} {} check", at("checker"), at(""))));
    add("check-timeout", options.check.then(|| ms(5000)));
    add("restart", Some(options.restart.to_owned()));
    add("restart-delay", Some(ms(DELAY)));
    add("restart-max-delay", Some(ms(200)));
    add("restart-limit", options.limit.map(|limit| limit.to_string()));
    add("no-restart-on", options.no_restart_on.then(|| "3".to_owned()));
    add("map-status", options.map_status.then(|| "42=17".to_owned()));
    add("map-status", options.map_status.then(|| "TERM=18".to_owned()));
    add("stop-signal", Some(options.stop_signal.to_owned()));
    add("stop-timeout", options.stop_timeout.map(ms));
    add("kill-mode", Some(options.kill_mode.to_owned()));
    add(
        "listen",
        door.map(|door| match door {
            Door::Tcp(address) => format!("tcp:{address}"),
            Door::Unix(path) => format!("unix:{}", path.display()),
        }),
    );
    add("max-age", options.max_age.map(ms));
    add("watch", options.watch.then(|| at("watched")));
    add("env-file", options.env_file.then(|| at("env")));
    add("workdir", options.workdir.then(|| at("current")));
    add("child-pidfile", options.child_pidfile.then(|| at("child.pid")));
    add("pidfile", options.pidfile.then(|| at("pid")));
    add("status-file", options.status_file.then(|| at("status")));
    list.extend(options.others.iter().map(|option| (*option).to_owned()));
    list.extend(["--".to_owned(), at("worker"), at("")]);
    list
}

pub fn write_plan(dir: &Path, number: usize, Plan(plan): &Plan) {
    put(dir, "plan", format!("{number} {plan}"), 0o644);
}

/// Writes a file in the place of another, at once.
pub fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>, mode: u32) {
    let draft = dir.join(format!("{name}.draft"));
    fs::write(&draft, content).expect("a file");
    fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).expect("its mode");
    fs::rename(draft, dir.join(name)).expect("its name");
}

/// Links a name to something else, at once.
fn relink(dir: &Path, name: &str, target: impl AsRef<Path>) {
    let draft = dir.join(format!("{name}.draft"));
    let _ = fs::remove_file(&draft);
    symlink(target, &draft).expect("a link");
    fs::rename(draft, dir.join(name)).expect("its name");
}

fn remove(dir: &Path, name: &str) {
    // A fault on a fault: it may be gone.
    let _ = fs::remove_file(dir.join(name));
}

/// Makes something wrong, in one of several ways.
pub fn break_it(dir: &Path, fault: Fault, how: u64) {
    match (fault, how % 4) {
        (Fault::Env, 0) => put(dir, "env", "no assignment\n", 0o644),
        (Fault::Env, 1) => put(dir, "env", "SOAK=\"1\n", 0o644),
        (Fault::Env, _) => remove(dir, "env"),
        (Fault::Workdir, 0 | 1) => relink(dir, "current", "nowhere"),
        (Fault::Workdir, _) => remove(dir, "current"),
        (Fault::Program, 0) => remove(dir, "worker"),
        (Fault::Program, 1) => relink(dir, "worker", "watched"),
        (Fault::Program, 2) => put(dir, "worker", "#!/no/such/interpreter\n", 0o755),
        (Fault::Program, _) => put(dir, "worker", "exit 0\n", 0o644),
        (Fault::Hupwrap, 0) => remove(dir, "hupwrap"),
        (Fault::Hupwrap, 1) => put(dir, "hupwrap", "#!/bin/sh\nexit 0\n", 0o755),
        (Fault::Hupwrap, 2) => put(dir, "hupwrap", "exit 0\n", 0o644),
        (Fault::Hupwrap, _) => put(dir, "hupwrap", b"\x7fELF\x02\x01\x01", 0o755),
        (Fault::Check, 0) => put(dir, "check", "hang", 0o644),
        (Fault::Check, _) => put(dir, "check", "7", 0o644),
    }
}

/// Makes it right. `number`: for a new value in the env file.
pub fn mend(dir: &Path, fault: Fault, pristine: &Path, number: usize) {
    match fault {
        Fault::Env => put(dir, "env", format!("# right\nexport SOAK='{number}'\n"), 0o600),
        Fault::Workdir => relink(dir, "current", "a"),
        Fault::Program => relink(dir, "worker", actor()),
        Fault::Check => put(dir, "check", "0", 0o644),
        Fault::Hupwrap => {
            let draft = dir.join("hupwrap.draft");
            let _ = fs::remove_file(&draft);
            fs::hard_link(pristine, &draft).expect("a link");
            // A rename of one link over another to the same file does nothing.
            remove(dir, "hupwrap");
            fs::rename(draft, dir.join("hupwrap")).expect("its name");
        }
    }
}
