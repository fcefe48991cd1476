//! What is shipped beside the program: the examples, the crate, the Debian package, the list of changes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::docs::file;
use crate::support::podman::Podman;
use crate::support::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// PATH with these programs in front, and then the hupwrap under test.
fn path(front: &Path) -> OsString {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [front.to_owned(), hupwrap().parent().expect("a directory").to_owned()];
    std::env::join_paths(dirs.into_iter().chain(std::env::split_paths(&inherited))).expect("a PATH")
}

fn units() -> Vec<String> {
    let entries = fs::read_dir(root().join("examples/systemd")).expect("the units").flatten();
    let units: Vec<String> = entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    assert!(units.len() > 4, "{units:?}");
    units
}

#[test]
fn the_units_are_clean() {
    let Some(analyze) = installed("systemd-analyze") else {
        return skipped("package::the_units_are_clean", "systemd-analyze is not installed");
    };
    let said = Command::new(&analyze).arg("--version").output().expect("systemd-analyze");
    // `systemd 252 (252.38-1~deb12u1)`
    let version = String::from_utf8_lossy(&said.stdout);
    let version: u32 = version.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let dir = Dir::new();
    for name in units() {
        let mut unit =
            file(&format!("examples/systemd/{name}")).replace("=hupwrap ", &format!("={} ", hupwrap().display()));
        if version < 253 {
            unit = unit.replace("Type=notify-reload", "Type=notify");
        }
        dir.file(&name, unit, 0o644);
    }
    for name in units() {
        // A template is verified as one of its instances.
        let unit = dir.path().join(name.replace("@.", "@1."));
        let mut verify = Command::new(&analyze);
        let out = verify.args(["verify", "--man=no"]).arg(unit).output().expect("systemd-analyze");
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // It loads other units of this machine too, and reports their faults: those do not name ours.
        let stem = name.split(['@', '.']).next().unwrap_or_default();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(stem)).collect();
        assert!(ours.is_empty(), "{name}: {ours:#?}");
        // Without any line, a failure must be about ours.
        assert!(out.status.success() || !said.is_empty(), "{name}: {}", out.status);
    }
}

/// The documents of a YAML file; none without a Python that reads it.
fn yaml(name: &str) -> Option<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    // The first may not be the one that Debian's python3-yaml belongs to.
    ["python3", "/usr/bin/python3"].iter().find_map(|python| {
        let out = Command::new(python).args(["-c", script]).arg(root().join(name)).output().ok()?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() || said.contains("No module named"), "{name}: {said}");
        out.status.success().then(|| serde_json::from_slice(&out.stdout).expect("JSON"))
    })
}

/// The words of a list, for a shell.
fn line(words: &Value) -> String {
    let words = words.as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().map(|word| format!("'{}' ", word.as_str().expect("a word"))).collect()
}

/// The lists in a YAML file that are the end of a hupwrap command line, each with what stands before it.
fn lines_in(value: &Value, lines: &mut Vec<String>) {
    if let Some(object) = value.as_object() {
        let of = |name: &str| line(&object.get(name).cloned().unwrap_or_default());
        // Kubernetes has args, compose has an entrypoint in front of a command.
        let whole = format!("{}{}{}", of("entrypoint"), of("command"), of("args"));
        if whole.contains("hupwrap") {
            lines.push(whole);
        }
        object.values().for_each(|value| lines_in(value, lines));
    } else if let Some(list) = value.as_array() {
        list.iter().for_each(|value| lines_in(value, lines));
    }
}

/// Every hupwrap command line of the examples, for a shell, by its file.
fn command_lines(test: &str) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for name in units() {
        let unit = file(&format!("examples/systemd/{name}")).replace("\\\n", "");
        let lines =
            unit.lines().filter_map(|line| line.strip_prefix("ExecStart=").or(line.strip_prefix("ExecReload=")));
        all.push((name, lines.map(|line| line.replace("%i", "1")).collect()));
    }
    for name in ["compose.yaml", "kubernetes.yaml"] {
        let Some(value) = yaml(&format!("examples/{name}")) else {
            skipped(&format!("{test}, {name}"), "python3 with yaml");
            continue;
        };
        let mut lines = Vec::new();
        lines_in(&value, &mut lines);
        all.push((name.to_owned(), lines));
    }
    let image = file("examples/Containerfile").replace("\\\n", "");
    let list = |word: &str| {
        let found = image.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("no {word}"));
        line(&serde_json::from_str(&found[found.find('[').expect("a list")..]).expect("JSON"))
    };
    let lines = vec![list("ENTRYPOINT ") + &list("CMD "), list("HEALTHCHECK ")];
    all.push(("Containerfile".to_owned(), lines));
    all
}

/// Each is started with a puppet in place of its program, and in another directory than `/`; those of the same file
/// that ask a hupwrap then ask this one.
#[test]
fn the_command_lines_of_the_examples_work() {
    let mut count = 0;
    for (name, lines) in command_lines("package::the_command_lines_of_the_examples_work") {
        let dir = Dir::new();
        for made in ["bin", "srv/app/current", "etc/app", "run/app", "run/worker-1"] {
            fs::create_dir_all(dir.path().join(made)).expect("a directory");
        }
        dir.file("etc/app.env", "NAME=value\n", 0o644);
        let program =
            format!("#!/bin/sh\n[ \"$1\" = --check ] || exec {} ${{NOTIFY_SOCKET:+notify}}\n", puppet().display());
        for file in ["bin/server", "bin/php", "srv/app/current/server"] {
            dir.program(file, &program);
        }
        let moved = |line: &str| {
            let mut line = line.replace("/usr/local/bin/hupwrap", "hupwrap").replace(":8080", ":0");
            for place in ["/srv/app", "/etc/app", "/run/"] {
                line = line.replace(place, &format!("{}{place}", dir.path().display()));
            }
            format!("exec {line}")
        };
        let sh = |line: &str| Setup::of("sh", ["-c", &moved(line)]).env("PATH", path(&dir.path().join("bin")));
        let asks = |line: &&String| {
            ["--reload", "--status", "--wait-ready"]
                .iter()
                .any(|option| line.replace('\'', "").starts_with(&format!("hupwrap {option} ")))
        };
        let (asking, starting): (Vec<&String>, Vec<&String>) = lines.iter().partition(asks);
        for line in starting {
            let mut run = sh(line).start();
            assert_eq!(run.ready().0, 1, "{name}: {line}");
            for line in &asking {
                // The line of the puppet may come before hupwrap knows that it is ready.
                let file = moved(line).replace('\'', "").split(' ').nth(3).expect("a status file").to_owned();
                assert_eq!(Setup::new(["--wait-ready", &file]).end().shell(), 0, "{name}: {line}");
                let ended = sh(line).end();
                assert_eq!((ended.shell(), ended.stderr.as_str()), (0, ""), "{name}: {line}");
                if line.contains("--reload") {
                    // The new puppet may only have executed, and would die of a TERM.
                    assert_eq!(run.ready().0, 2, "{name}: {line}");
                }
            }
            let ended = run.stop();
            assert_eq!(ended.shell(), 0, "{name}: {line}: {ended:?}");
            count += 1 + asking.len();
        }
    }
    assert!(count > 8, "only {count} command lines");
}

/// A deploy script at work: its directory, and a hupwrap that serves `current` there.
struct Deploys(Dir);

impl Deploys {
    fn new() -> Self {
        let dir = Dir::new();
        fs::create_dir_all(dir.path().join("bin")).expect("a directory");
        Self(dir)
    }

    /// A release whose server runs this.
    fn release(&self, name: &str, script: &str) -> PathBuf {
        fs::create_dir(self.0.path().join(name)).expect("a directory");
        self.0.program(&format!("{name}/server"), format!("#!/bin/sh\n{script}\n"));
        self.0.path().join(name)
    }

    /// One that says that it is ready, and serves.
    fn good(&self, name: &str) -> PathBuf {
        self.release(name, &format!("echo serves {name}; echo >&3; exec sleep 1000"))
    }

    fn hupwrap(&self) -> Run {
        let words = ["--status-file", "status.json", "--on-hup", "replace", "--ready", "fd:3", "--workdir"];
        Setup::new(words.into_iter().chain(["root/current", "./server"])).dir(self.0.path()).start()
    }

    fn deploy(&self, release: &Path, timeout: &str) -> Setup {
        let script = root().join("examples/deploy.sh");
        let setup = Setup::of(script, [release]).dir(self.0.path()).env("PATH", path(&self.0.path().join("bin")));
        setup.env("APP_ROOT", "root").env("APP_STATUS", "status.json").env("APP_TIMEOUT", timeout)
    }

    /// What the deployed server would say.
    fn current(&self) -> String {
        fs::read_to_string(self.0.path().join("root/current/server")).expect("a release")
    }
}

#[test]
fn a_deploy_serves_the_new_release_or_the_old_one() {
    let deploys = Deploys::new();
    let ended = deploys.deploy(&deploys.good("one"), "60s").end();
    assert_eq!(ended.shell(), 0, "{}", ended.stderr);
    assert!(ended.stderr.ends_with("is the first release; start hupwrap now\n"), "{}", ended.stderr);

    let mut run = deploys.hupwrap();
    run.line("serves one");
    let ended = deploys.deploy(&deploys.good("two"), "60s").end();
    assert_eq!(ended.shell(), 0, "{}", ended.stderr);
    assert!(ended.stderr.ends_with(" serves\n"), "{}", ended.stderr);
    run.line("serves two");
    run.said("is ready; stopping server");

    // One that ends before it is ready fails; one that cannot be executed is refused.
    let missing = deploys.0.path().join("missing");
    fs::create_dir(&missing).expect("a directory");
    let current = deploys.current();
    for bad in [deploys.release("three", "exit 7"), missing] {
        let ended = deploys.deploy(&bad, "60s").end();
        assert_eq!(ended.shell(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("continues to serve"), "{}", ended.stderr);
        assert_eq!(deploys.current(), current);
    }
    // The old release was not touched, and the link leads to it again.
    run.kill("HUP");
    run.line("serves two");
    assert_eq!(run.stdout().matches("serves").count(), 3);
    assert_eq!(run.stop().shell(), 143);

    let ended = deploys.deploy(&deploys.good("four"), "60s").end();
    assert_eq!(ended.shell(), 125, "{}", ended.stderr);
    assert!(ended.stderr.contains("no hupwrap answers"), "{}", ended.stderr);
}

#[test]
fn a_deploy_that_nobody_waits_for_is_not_taken_back() {
    let deploys = Deploys::new();
    assert_eq!(deploys.deploy(&deploys.good("one"), "60s").end().shell(), 0);
    let mut run = deploys.hupwrap();
    run.line("serves one");

    // It is not ready before somebody writes to the FIFO.
    let fifo = deploys.0.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let slow = |name: &str| {
        let script = format!("echo begins {name}; read line <{}; echo >&3; exec sleep 1000", fifo.display());
        deploys.release(name, &script)
    };
    let ended = deploys.deploy(&slow("two"), "100ms").end();
    assert_eq!(ended.shell(), 124, "{}", ended.stderr);
    assert!(ended.stderr.contains("is not ready after 100ms"), "{}", ended.stderr);
    assert!(deploys.current().contains("begins two"));
    run.line("begins two");
    fs::write(&fifo, "\n").expect("a reader");
    run.said("is ready; stopping server");

    // Ctrl-C: everything in the foreground gets INT.
    let deploy = deploys.deploy(&slow("three"), "60s").start();
    run.line("begins three");
    let waiting = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "hupwrap\n");
    let asking = children(deploy.pid).into_iter().find(waiting).expect("--reload");
    // Another deploy must wait for this one.
    let ended = deploys.deploy(&deploys.good("four"), "60s").end();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (2, "deploy: another deploy is under way\n"));
    deploy.kill("INT");
    kill(asking, "INT");
    let ended = deploy.end();
    assert_eq!(ended.shell(), 130, "{}", ended.stderr);
    assert!(ended.stderr.contains("was interrupted"), "{}", ended.stderr);
    assert!(deploys.current().contains("begins three"));
    fs::write(&fifo, "\n").expect("a reader");
    run.said_times("is ready; stopping server", 2);
    run.stop();
}

#[test]
fn the_deploy_script_wants_a_directory() {
    let deploys = Deploys::new();
    let ended = deploys.deploy(Path::new("/no/such/release"), "60s").end();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (2, "deploy: want the directory of the new release\n"));
    assert!(!deploys.0.path().join("root").exists());
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if installed("shellcheck").is_none() {
        return skipped("package::shellcheck_has_nothing_to_say", "shellcheck is not installed");
    }
    for script in ["examples/deploy.sh", ".ci/run"] {
        let out = Command::new("shellcheck").arg(root().join(script)).output().expect("shellcheck");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
}

/// The image of examples/Containerfile, as docker would run it, and as Kubernetes would.
#[test]
fn the_image_of_the_examples_works() {
    let Some(podman) = Podman::new("package::the_image_of_the_examples_works") else { return };
    podman.build("app", &file("examples/Containerfile"));
    let inside = |words: &[&str]| podman.start(&[&["exec", "app", "hupwrap"], words].concat()).end();
    // As compose.yaml says: another user, and nothing to write to but the directory of the status file.
    for options in [&[][..], &["--read-only", "--user=65534:65534", "--tmpfs=/run/app"]] {
        let mut run = podman.run("app", &[options, &["app"]].concat());
        run.line("ready 1");
        assert_eq!(inside(&["--wait-ready", "/run/app/status.json"]).shell(), 0);
        assert_eq!(inside(&["--reload", "/run/app/status.json"]).shell(), 0);
        run.line("ready 2");
        podman.does(&["healthcheck", "run", "app"]);
        podman.does(&["kill", "--signal=HUP", "app"]);
        run.line("ready 3");
        podman.does(&["stop", "--time=60", "app"]);
        assert_eq!(run.end().shell(), 0, "--map-status TERM=0");
    }
    let ended = podman.run("codes", &["app", "--version"]).end();
    assert_eq!(ended.shell(), 127, "what follows the image is the program");

    // What podman has no network for is taken away, and the pods would share their volumes.
    let manifest = file("examples/kubernetes.yaml").replace("registry.example/app:1", "localhost/app:latest");
    let ports = "          ports:\n            - { name: http, containerPort: 8080 }\n";
    let changed = manifest.replacen(ports, "", 1).replacen("replicas: 2", "replicas: 1", 1);
    assert_eq!(manifest.len() - changed.len(), ports.len());
    fs::write(podman.path("kubernetes.yaml"), changed).expect("a file");
    let manifest = podman.path("kubernetes.yaml");
    podman.does(&["kube", "play", "--network=none", manifest.to_str().expect("UTF-8")]);
    let mut log = podman.start(&["logs", "--follow", "app-pod-0-app"]);
    log.line("ready 1");
    // The kubelet does it with links; the volume of the ConfigMap is an ordinary directory here.
    fs::write(podman.path("podman/volumes/app/_data/app.conf"), "greeting = good day\n").expect("a file");
    log.line("ready 2");
    podman.does(&["pod", "stop", "--all", "--time=60"]);
    log.end();
}

#[test]
fn the_version_is_told_and_nothing_else() {
    for option in ["--version", "-V"] {
        let ended = Setup::new([option]).end();
        assert_eq!(ended.shell(), 0);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("hupwrap 0.1.0\n", ""));
    }
}

#[test]
fn the_lists_of_changes_begin_with_this_version() {
    let version = hupwrap::NAME_AND_VERSION.trim_start_matches("hupwrap ");
    let changes = file("CHANGELOG.md");
    let newest = changes.lines().find_map(|line| line.strip_prefix("## ")).expect("a version");
    let (number, date) = newest.split_once(" - ").expect("VERSION - DATE");
    assert_eq!((number, date.len()), (version, "2026-11-26".len()));
    assert!(file("docs/debian/changelog").starts_with(&format!("hupwrap ({version}-1) ")));
}
