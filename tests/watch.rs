//! Renewal without a signal: `--watch` and `--max-age` (contract, section 7). What counts as a change is tested with
//! the engine, in src/sys/path_watch; here files are edited as people and programs edit them.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;

use crate::support::watched::status_where;
use crate::support::*;

/// A hupwrap in a directory, with options and a command, and how often its child was renewed.
struct Watching<'a> {
    run: Run,
    dir: &'a Dir,
    renewals: usize,
}

impl<'a> Watching<'a> {
    /// The child is `app.sh` of the directory: it says its version, and becomes a puppet.
    fn app(dir: &'a Dir, options: &[&str]) -> Self {
        write_app(dir, 1);
        Self::of(dir, options, &["sh", "app.sh"])
    }

    fn of(dir: &'a Dir, options: &[&str], command: &[&str]) -> Self {
        let words = options.iter().chain(&["--"]).chain(command);
        let mut run = Setup::new(words).dir(dir.path()).env("PUPPET", puppet()).start();
        assert_eq!(run.ready().0, 1);
        Self { run, dir, renewals: 0 }
    }

    /// A shell command of somebody who edits; the child is renewed once, and each of these PATHs is named once.
    #[track_caller]
    fn edit(&mut self, command: &str, paths: &[&str]) -> i32 {
        self.at_once(|dir| shell(dir, command));
        self.renewed(command, paths)
    }

    /// Does several things that hupwrap sees together: a machine that stalls in between would make several changes of
    /// them. Even one file that is written is created first.
    fn at_once(&self, edit: impl FnOnce(&Dir)) {
        at_once(&self.run, || edit(self.dir));
    }

    #[track_caller]
    fn renewed(&mut self, why: &str, paths: &[&str]) -> i32 {
        self.renewals += 1;
        let (generation, pid) = self.run.ready();
        assert_eq!(generation as usize, self.renewals + 1, "{why}: {}", self.run.stderr());
        for path in paths {
            let line = format!("hupwrap: '{path}' has changed\n");
            self.run.said_times(&line, self.renewals);
            assert_eq!(self.run.stderr().matches(&line).count(), self.renewals, "{why}: {}", self.run.stderr());
        }
        pid
    }

    fn stop(self) -> Ended {
        let renewals = self.renewals;
        let ended = self.run.stop();
        assert_eq!(ended.stdout.matches("ready ").count(), renewals + 1, "{}", ended.stderr);
        ended
    }
}

/// While hupwrap is stopped.
#[track_caller]
fn at_once(run: &Run, edit: impl FnOnce()) {
    run.kill("STOP");
    wait_until("it is stopped", || state(run.pid) == Some('T'));
    edit();
    run.kill("CONT");
}

fn write_app(dir: &Dir, version: u32) {
    dir.file("app.sh", app(version), 0o644);
}

fn app(version: u32) -> String {
    format!("echo version {version}\nexec \"$PUPPET\"\n")
}

/// Has a shell do something to the files of a directory.
#[track_caller]
fn shell(dir: &Dir, command: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-ec", command]).current_dir(dir.path()).env("HOME", dir.path());
    let done = shell.output().expect("sh");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn each_edit_of_a_file_runs_the_new_code_once() {
    let dir = Dir::new();
    let mut watching = Watching::app(&dir, &["--watch", "app.sh"]);
    let mut edits = vec![
        "sed -i s/1/2/ app.sh",
        "sed s/2/3/ app.sh >new; mv new app.sh",
        "echo \"$(sed s/3/4/ app.sh)\" >app.sh",
        "sed s/4/5/ app.sh >new; mv app.sh old; mv new app.sh",
        "sed s/5/6/ app.sh >new; rm app.sh; cp new app.sh",
    ];
    match installed("vim") {
        Some(_) => edits.push("vim -Nes -u NONE -c '%s/6/7/' -c wq app.sh </dev/null >/dev/null"),
        None => {
            skipped("each_edit_of_a_file_runs_the_new_code_once", "vim is not installed");
            edits.push("sed -i s/6/7/ app.sh");
        }
    }
    for (at, edit) in edits.into_iter().enumerate() {
        match ["mv app.sh", "rm app.sh", ">app.sh"].iter().any(|part| edit.contains(part)) {
            true => watching.at_once(|dir| shell(dir, edit)),
            // A new file is there at once.
            false => shell(&dir, edit),
        }
        watching.run.line(&format!("version {}", at + 2));
        watching.renewed(edit, &["app.sh"]);
    }
    // Neither is a change.
    shell(&dir, "cat app.sh; chmod 600 app.sh; touch other .");
    watching.edit("sed -i s/7/8/ app.sh", &["app.sh"]);
    let ended = watching.stop();
    assert_eq!((ended.shell(), ended.stderr.matches("restarting ").count()), (0, 7), "{}", ended.stderr);
}

#[test]
fn a_checkout_runs_the_new_code_once() {
    if installed("git").is_none() {
        return skipped("a_checkout_runs_the_new_code_once", "git is not installed");
    }
    let dir = Dir::new();
    write_app(&dir, 1);
    let commit = "git add -A && git -c user.name=a -c user.email=a@b commit -qm";
    let changed = "mkdir lib; for i in 1 2 3 4 5; do echo $i >lib/$i; done; sed -i s/1/2/ app.sh";
    shell(&dir, &format!("git init -q . && {commit} one && {changed} && {commit} two && git checkout -q HEAD~"));
    let mut watching = Watching::app(&dir, &["--watch", "."]);
    watching.edit("git checkout -q -", &["."]);
    watching.edit("git checkout -q HEAD~", &["."]);
    // What git keeps for itself is hidden.
    shell(&dir, "git gc -q; git tag x; git fetch -q . HEAD");
    watching.edit("git checkout -q -", &["."]);
    assert_eq!(watching.stop().shell(), 0);
}

#[test]
fn a_large_tree_is_replaced_once_for_each_edit() {
    let dir = Dir::new();
    for directory in 0..300 {
        let directory = dir.path().join(format!("src/{}/{directory}", directory % 10));
        fs::create_dir_all(&directory).unwrap();
        (0..7).for_each(|file| fs::write(directory.join(format!("{file}.rs")), "old").unwrap());
    }
    let options = ["--on-hup", "replace", "--ready", "exec", "--watch", "src"];
    let mut watching = Watching::of(&dir, &options, &[puppet().to_str().unwrap()]);
    for edit in [
        "echo new >src/7/137/3.rs",
        "for file in src/*/*/0.rs; do echo new >$file; done",
        "mkdir -p src/new/deep; echo one >src/new/deep/file",
        "echo two >src/new/deep/file",
        "mkdir -p src/new/deep/er/still",
        "touch src/new/deep/er/still/here",
        "rm -r src/new",
        "mv src/1 src/one",
        "rm src/one/1/*",
        "rm -r src",
        "mkdir src; touch src/one",
    ] {
        watching.edit(edit, &["src"]);
        // The old one has to be gone before the next can begin.
        wait_until("one child is left", || children(watching.run.pid).len() == 1);
    }
    let ended = watching.stop();
    assert_eq!((ended.shell(), ended.stderr.matches("is ready; stopping").count()), (0, 11), "{}", ended.stderr);
}

#[test]
fn an_update_of_a_config_map_is_one_change() {
    let dir = Dir::new();
    // As Kubernetes does it: the names lead through `..data`, which is replaced at once.
    let etc = dir.path().join("etc");
    let version = |number: u32| {
        let name = format!("..2026_{number}");
        fs::create_dir_all(etc.join(&name)).unwrap();
        fs::write(etc.join(&name).join("app.conf"), number.to_string()).unwrap();
        symlink(&name, etc.join("..data_tmp")).unwrap();
        fs::rename(etc.join("..data_tmp"), etc.join("..data")).unwrap();
        let _ = fs::remove_dir_all(etc.join(format!("..2026_{}", number - 1)));
    };
    version(1);
    symlink("..data/app.conf", etc.join("app.conf")).unwrap();
    let options = ["--watch", "etc", "--watch", "etc/app.conf"];
    let mut watching = Watching::of(&dir, &options, &[puppet().to_str().unwrap()]);
    for number in 2..6 {
        watching.at_once(|_| version(number));
        watching.renewed("an update", &["etc", "etc/app.conf"]);
    }
    let ended = watching.stop();
    assert_eq!(ended.stderr.matches("restarting ").count(), 4, "{}", ended.stderr);
}

#[test]
fn a_broken_edit_is_refused() {
    let dir = Dir::new();
    let options = ["--watch", "app.sh", "--check", "sh -n app.sh", "--status-file", "status"];
    let mut watching = Watching::app(&dir, &options);
    let child = children(watching.run.pid);
    shell(&dir, "echo 'if' >>app.sh");
    watching.run.said("'app.sh' has changed\n");
    watching.run.said("restart refused, nothing was touched: check 'sh -n app.sh' ended with 2");
    let reload =
        |what, outcome| status_where(&dir.path().join("status"), what, |status| status["reload"]["outcome"] == outcome);
    assert_eq!(reload("it is refused", "refused")["reload"]["action"], "restart");
    assert_eq!(children(watching.run.pid), child);
    shell(&dir, "sed -i '$d; s/1/2/' app.sh");
    watching.run.line("version 2");
    assert_eq!(watching.run.ready().0, 2);
    reload("it is done", "ok");
    let ended = watching.run.stop();
    assert_eq!(ended.stderr.matches("has changed").count(), 2, "{}", ended.stderr);
}

#[test]
fn changes_during_a_restart_make_one_more() {
    let dir = Dir::new();
    let program = puppet();
    let options = ["--ready", "fd:3", "--watch", "src", "--log-format", "json"];
    let command = [program.to_str().unwrap(), "tell=USR1:3", "ignore=TERM", "exit=USR2:0"];
    let mut run = Setup::new(options.iter().chain(&["--"]).chain(&command)).dir(dir.path()).start();
    let ready = |run: &mut Run, wanted| {
        let (generation, child) = run.ready();
        assert_eq!(generation, wanted, "{}", run.stderr());
        child
    };
    let mut changes = 0;
    let mut change = |run: &Run| {
        changes += 1;
        shell(&dir, &format!("echo {changes} >new; mv new src"));
        run.said_times(r#""event":"changed","path":"src""#, changes);
    };
    let one = ready(&mut run, 1);
    kill(one, "USR1");
    run.line("told");
    change(&run);
    run.line("got TERM");
    // What changes before the start is found by it.
    change(&run);
    change(&run);
    kill(one, "USR2");
    let two = ready(&mut run, 2);
    // What changes after it makes another.
    change(&run);
    change(&run);
    kill(two, "USR1");
    run.line("got TERM");
    kill(two, "USR2");
    let three = ready(&mut run, 3);
    kill(three, "USR1");
    run.line("told");
    change(&run);
    run.line("got TERM");
    kill(three, "USR2");
    let four = ready(&mut run, 4);
    run.kill("TERM");
    run.line("got TERM");
    kill(four, "USR2");
    assert_eq!(run.end().shell(), 0);
}

#[test]
fn changes_during_a_reexec_are_not_lost() {
    for (hup, signal) in [("restart", "USR2"), ("reexec", "HUP"), ("upgrade+replace", "HUP")] {
        let dir = Dir::new();
        write_app(&dir, 1);
        let program = dir.hupwrap("hupwrap");
        let options =
            ["--on-hup", hup, "--on", "USR2=upgrade", "--ready", "exec", "--watch", "app.sh", "--watch", "none"];
        let words = options.iter().chain(&["--", "sh", "app.sh"]);
        let mut run = Setup::of(&program, words).dir(dir.path()).env("PUPPET", puppet()).start();
        run.line("version 1");
        run.ready();
        // What is executed in the place of the supervisor changes the file, and then becomes the new hupwrap.
        let script = format!(
            "if [ $$ = {} ]; then sed -i s/1/2/ app.sh; fi\nexec {} \"$@\"\n",
            run.pid,
            dir.hupwrap("good").display()
        );
        fs::rename(dir.impostor("new", &script), &program).unwrap();
        run.kill(signal);
        run.said("took over from");
        run.line("version 2");
        run.said("'app.sh' has changed");
        // A change that comes with a renewal makes another: nobody knows what that one has read.
        let last = if hup == "restart" { 2 } else { 3 };
        while run.ready().0 < last {}
        shell(&dir, "sed -i s/2/3/ app.sh");
        run.line("version 3");
        assert_eq!(run.ready().0, last + 1, "{hup}: {}", run.stderr());
        let ended = run.stop();
        assert_eq!(ended.stderr.matches("has changed").count(), 2, "{hup}: {}", ended.stderr);
    }
}

#[test]
fn a_path_that_comes_and_goes_changes() {
    let dir = Dir::new();
    let path = "not/yet/there";
    let mut watching = Watching::of(&dir, &["--watch", path], &[puppet().to_str().unwrap()]);
    // A directory on the way is no change.
    shell(&dir, "mkdir not not/yet not/other");
    watching.edit("echo 1 >not/yet/there", &[path]);
    watching.edit("rm -r not", &[path]);
    watching.edit("mkdir -p not/yet/there", &[path]);
    watching.edit("touch not/yet/there/too", &[path]);
    watching.edit("mv not elsewhere", &[path]);
    watching.edit("mv elsewhere not", &[path]);
    assert_eq!(watching.stop().shell(), 0);
}

#[test]
fn without_inotify_it_looks_every_two_seconds() {
    for refused in ["inotify_init1:EMFILE", "inotify_add_watch:ENOSPC"] {
        let dir = Dir::new();
        write_app(&dir, 1);
        let words =
            args([&refused, &"--", &hupwrap(), &"--watch", &"app.sh", &"--watch", &".", &"--", &"sh", &"app.sh"]);
        let mut run = Setup::of(without(), words).dir(dir.path()).env("PUPPET", puppet()).start();
        run.line("version 1");
        run.ready();
        for version in 2..4 {
            at_once(&run, || shell(&dir, &format!("sed -i s/{}/{version}/ app.sh", version - 1)));
            run.line(&format!("version {version}"));
            assert_eq!(run.ready().0, version, "{}", run.stderr());
        }
        let ended = run.stop();
        let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("looking every 2s")).collect();
        assert_eq!(lines.len(), 1, "{}", ended.stderr);
        assert!(lines[0].starts_with("hupwrap: --watch: inotify is refused ("), "{}", lines[0]);
        assert_eq!(ended.stderr.matches("restarting ").count(), 2, "{}", ended.stderr);
    }
}

#[test]
fn while_nothing_changes_it_sleeps() {
    let dir = Dir::new();
    let options = ["--watch", ".", "--watch", "missing", "--max-age", "1h"];
    let mut watching = Watching::app(&dir, &options);
    let switches = |pid| {
        let [voluntary, other] =
            ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"].map(|name| status(pid, name));
        (voluntary, other)
    };
    let sleep = |time| assert!(Command::new("sleep").arg(time).status().unwrap().success());
    let pid = watching.run.pid;
    let mut before = switches(pid);
    // Other directories above may be busy: a wake-up for those is none of every two seconds.
    wait_until("it has come to rest", || {
        sleep("0.5");
        let last = std::mem::replace(&mut before, switches(pid));
        last == before
    });
    let voluntary = |pid| switches(pid).0.trim().parse::<u64>().unwrap();
    let quiet = (0..3).any(|_| {
        let before = voluntary(pid);
        sleep("4.5");
        voluntary(pid) == before
    });
    assert!(quiet, "it wakes up though nothing changes");
    watching.edit("sed -i s/1/2/ app.sh", &["."]);
    assert_eq!(watching.stop().shell(), 0);
}

#[test]
fn what_hupwrap_writes_is_no_change() {
    let (dir, other) = (Dir::new(), Dir::new());
    let listen = format!("unix:{}/app.sock", dir.path().display());
    let marker = other.path().join("marker").display().to_string();
    let own = ["--status-file", "status", "--pidfile", "pid", "--listen", &listen, "--ready", "exec"];
    let mut watching = Watching::app(&dir, &[&["--watch", ".", "--watch", &marker], &own[..]].concat());
    for times in 1..3 {
        watching.run.kill("HUP");
        assert_eq!(watching.run.ready().0, 2 * times);
        let file = dir.path().join("status");
        let is_done = |status: &Value| status["reload"]["outcome"] == "ok" && status["generation"] == 2 * times;
        status_where(&file, "it is done", is_done);
        // All PATHs are looked at together: what has changed at another one would be told with this.
        at_once(&watching.run, || shell(&other, "date +%N >marker"));
        assert_eq!(watching.run.ready().0, 2 * times + 1);
    }
    let ended = watching.run.stop();
    assert_eq!(ended.stderr.matches(&format!("'{marker}' has changed")).count(), 2, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("has changed").count(), 2, "{}", ended.stderr);
}

/// It would be an endless loop of restarts.
#[test]
fn the_pidfile_of_the_child_is_no_change() {
    let (dir, other) = (Dir::new(), Dir::new());
    let marker = other.path().join("marker").display().to_string();
    dir.program("app.sh", "#!/bin/sh\necho $$ >app.pid\nexec \"$@\"\n");
    let program = puppet();
    let options = ["--watch", ".", "--watch", &marker, "--child-pidfile", "app.pid", "--", "./app.sh"];
    let mut run = Setup::new(options.iter().copied().chain([program.to_str().unwrap()])).dir(dir.path()).start();
    for times in 1..4 {
        assert_eq!(run.ready().0, times);
        at_once(&run, || shell(&other, "date +%N >marker"));
    }
    assert_eq!(run.ready().0, 4);
    let stderr = run.stop().stderr;
    assert_eq!(stderr.matches(&format!("'{marker}' has changed")).count(), 3, "{stderr}");
    assert_eq!(stderr.matches("has changed").count(), 3, "{stderr}");
}

#[test]
fn a_term_during_the_first_look_ends_it() {
    let dir = Dir::new();
    for directory in 0..100 {
        let directory = dir.path().join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        (0..100).for_each(|file| drop(fs::File::create(directory.join(file.to_string())).unwrap()));
    }
    let looks = |pid| fds(pid).values().any(|file| file.parent() == Some(dir.path()));
    // On a busy machine the look may be over before the test sees it.
    for _ in 0..20 {
        let run = Setup::new(["--watch", ".", "--", "echo", "begun"]).dir(dir.path()).start();
        wait_until("it looks", || looks(run.pid) || run.stdout() == "begun\n");
        run.kill("STOP");
        wait_until("it is stopped", || matches!(state(run.pid), Some('T' | 'Z')));
        let is_looking = looks(run.pid);
        run.kill("TERM");
        run.kill("CONT");
        let ended = run.end();
        if is_looking {
            assert_eq!((ended.shell(), ended.stdout.as_str()), (143, ""), "{}", ended.stderr);
            return;
        }
    }
    panic!("the test is never fast enough");
}

#[test]
fn an_old_child_is_renewed() {
    for (hup, line) in [("restart", "restarting "), ("replace", "replacing "), ("reexec", "restarting ")] {
        let program = puppet();
        let options = ["--on-hup", hup, "--max-age", "200ms", "--ready", "exec", "--log-format", "json", "--"];
        let mut run = Setup::new(options.iter().chain(&[program.to_str().unwrap()])).start();
        // Where the machine stalls, one is old before it has said that it is ready.
        while run.ready().0 < 4 {}
        let stderr = run.stop().stderr;
        let lines: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let old: Vec<&Value> = lines.iter().filter(|line| line["event"] == "grown-old").collect();
        assert!(old.len() >= 3, "{stderr}");
        for (at, line) in old.iter().enumerate() {
            assert_eq!(line["generation"], at + 1, "{stderr}");
            assert!(line["age"].as_f64().unwrap() >= 0.2, "{stderr}");
            let words = line["message"].as_str().unwrap();
            assert!(words.starts_with("puppet[") && words.ends_with("; renewing it, see --max-age"), "{words}");
        }
        let renewals = lines.iter().filter(|said| said["message"].as_str().unwrap().starts_with(line));
        // The last re-exec may not have come as far as its restart.
        let begun = usize::from(hup == "reexec");
        assert!((old.len() - begun..=old.len()).contains(&renewals.count()), "{stderr}");
    }
}

#[test]
fn a_renewal_for_age_that_is_refused_does_not_loop() {
    let program = puppet();
    let options = ["--max-age", "300ms", "--check", "false", "--log-format", "json", "--"];
    let mut run = Setup::new(options.iter().chain(&[program.to_str().unwrap()])).start();
    let (_, child) = run.ready();
    run.said_times(r#""event":"refused""#, 3);
    // The next check may be under way.
    wait_until("only the child is there", || children(run.pid) == [child]);
    let stderr = run.stop().stderr;
    let lines = stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let ages: Vec<f64> =
        lines.filter(|line| line["event"] == "grown-old").map(|line| line["age"].as_f64().unwrap()).collect();
    assert!(ages.len() >= 3 && ages.windows(2).all(|pair| pair[1] - pair[0] >= 0.3), "{stderr}");
}

#[test]
fn an_age_crosses_an_upgrade() {
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let words = args([&"--on", &"USR2=upgrade", &"--max-age", &"1s", &"--log-format", &"json", &"--", &puppet()]);
    let mut run = Setup::of(&program, words).start();
    let (_, child) = run.ready();
    for times in 1..4 {
        run.kill("USR2");
        run.said_times(r#""event":"reexecuted""#, times);
    }
    let (generation, new) = run.ready();
    assert!(generation >= 2 && new != child, "{}", run.stderr());
    let ended = run.stop();
    let line = ended.stderr.lines().find(|line| line.contains("grown-old")).expect("it grew old");
    let age = serde_json::from_str::<Value>(line).unwrap()["age"].as_f64().unwrap();
    // It did not begin again with each hupwrap. That the machine is slow only makes it later.
    assert!(age >= 1.0, "{age}");
}

#[test]
fn a_changed_path_is_named_as_it_was_typed() {
    let dir = Dir::new();
    let absolute = dir.path().join("a b");
    let typed = absolute.to_str().unwrap();
    let mut watching = Watching::of(&dir, &["--watch", typed, "--watch", "./x"], &[puppet().to_str().unwrap()]);
    watching.edit("touch 'a b' x", &[typed, "./x"]);
    assert_eq!(watching.stop().shell(), 0);
}
