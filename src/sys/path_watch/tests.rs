//! With real files. Time is an argument, and the kernel queues an event before the call that causes it returns: no test
//! waits. Directories above the test's own are used by others, who may cause events that do not count at any time.
#![allow(clippy::disallowed_methods, clippy::arithmetic_side_effects)]

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, geteuid, mkfifo, setfsuid};

use super::*;

impl PathWatch {
    fn new(paths: &[OsString], own_files: &[PathBuf]) -> Self {
        Self::with_digests(paths, own_files, &[])
    }
}

/// A directory of the test's own.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hupwrap-path-watch-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file as a shell does, with the directories above it.
    fn write(&self, name: impl AsRef<Path>, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn mkdir(&self, name: &str) {
        fs::create_dir_all(self.at(name)).unwrap();
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.at(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.at(name)).unwrap();
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Sets both times, as `touch` does: the kernel tells of one that is set alone in another way.
    fn touch(&self, name: &str) {
        let later = std::time::SystemTime::now() + Duration::from_secs(60);
        File::open(self.at(name)).unwrap().set_times(FileTimes::new().set_modified(later).set_accessed(later)).unwrap();
    }

    fn watch(&self, names: &[&str]) -> Watching {
        let mut watching = Watching::new(PathWatch::new(&self.paths(names), &[]));
        assert_eq!(watching.settle(), [], "what is there at first is no change");
        watching
    }

    fn paths(&self, names: &[&str]) -> Vec<OsString> {
        names.iter().map(|name| self.at(name).into_os_string()).collect()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{program} {arguments:?}");
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a supervisor does with a watch.
struct Watching {
    watch: PathWatch,
    now: Time,
    /// How many turns belonged to a walk.
    steps: usize,
}

impl Watching {
    fn new(watch: PathWatch) -> Self {
        Self { watch, now: Duration::from_secs(1000), steps: 0 }
    }

    fn is_readable(&self) -> bool {
        self.watch.fd().is_some_and(|fd| {
            let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
        })
    }

    fn wants_turn(&self) -> bool {
        self.is_readable() || self.watch.deadline().is_some_and(|deadline| deadline <= self.now)
    }

    fn turn(&mut self) -> Vec<WatchEvent> {
        self.steps += usize::from(matches!(self.watch.phase, Phase::Walking { .. }));
        assert!(self.steps < 10_000, "it never comes to rest");
        self.watch.turn(self.now)
    }

    /// Takes turns until nothing is to be done at this time.
    fn work(&mut self) -> Vec<WatchEvent> {
        let mut events = Vec::new();
        while self.wants_turn() {
            events.extend(self.turn());
        }
        events
    }

    fn pass(&mut self, time: Duration) -> Vec<WatchEvent> {
        self.now += time;
        self.work()
    }

    /// Takes turns, and lets time pass, until nothing is to be done soon.
    fn settle(&mut self) -> Vec<WatchEvent> {
        let mut events = self.work();
        while let Some(deadline) = self.watch.deadline().filter(|deadline| *deadline <= self.now + SETTLING) {
            self.now = deadline;
            events.extend(self.work());
        }
        events
    }

    /// Expects that nothing has changed, and that nothing is to be done from now on.
    #[track_caller]
    fn unchanged(&mut self) {
        assert_eq!(self.settle(), []);
        assert_eq!(self.watch.deadline(), None);
    }

    /// Whether there was an event of a file with one of these names, or of what is watched itself.
    fn is_woken_by(&self, names: &[&str]) -> bool {
        self.watch.watches.take_names().iter().any(|name| name.is_empty() || names.iter().any(|own| name == own))
    }

    fn until(&self) -> Option<Time> {
        match self.watch.phase {
            Phase::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Expects exactly one change.
    #[track_caller]
    fn changed(&mut self) {
        let path = self.watch.paths[0].clone();
        assert_eq!(self.settle(), [WatchEvent::Changed(path)]);
        self.unchanged();
    }

    /// The same, where the system refuses inotify.
    #[track_caller]
    fn changed_late(&mut self) {
        let path = self.watch.paths[0].clone();
        assert_eq!(self.settle(), [], "not looked yet");
        self.now += POLLING;
        assert_eq!(self.settle(), [WatchEvent::Changed(path)]);
        self.unchanged_late();
    }

    #[track_caller]
    fn unchanged_late(&mut self) {
        for _ in 0..3 {
            assert_eq!(self.settle(), []);
            let deadline = self.watch.deadline().unwrap();
            assert!(deadline > self.now && deadline <= self.now + POLLING);
            self.now = deadline;
        }
        assert_eq!(self.settle(), []);
    }
}

fn polling(why: &str) -> WatchEvent {
    WatchEvent::Polling(format!("{why}: looking every 2s"))
}

#[test]
fn every_change_of_a_file_is_one() {
    let dir = Dir::new();
    dir.write("conf", "1");
    let mut watching = dir.watch(&["conf"]);
    dir.write("conf", "22");
    watching.changed();
    dir.touch("conf");
    watching.changed();
    dir.write("new", "333");
    dir.rename("new", "conf");
    watching.changed();
    dir.remove("conf");
    watching.changed();
    dir.write("conf", "4444");
    watching.changed();
    // By a program that keeps it open.
    let mut open = OpenOptions::new().append(true).open(dir.at("conf")).unwrap();
    open.write_all(b"5").unwrap();
    watching.changed();
    open.set_len(2).unwrap();
    watching.changed();
    drop(open);
    dir.remove("conf");
    dir.mkdir("conf");
    watching.changed();
    dir.write("conf/file", "");
    watching.changed();
}

/// The kernel tells of it only when the file is closed.
#[test]
#[allow(unsafe_code)]
fn a_file_may_be_written_through_a_mapping() {
    use nix::libc::{MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap};
    let dir = Dir::new();
    dir.write("conf", "1");
    let mut watching = dir.watch(&["conf"]);
    let file = OpenOptions::new().read(true).write(true).open(dir.at("conf")).unwrap();
    // SAFETY: it is a new mapping of one byte of an open file, at an address of the kernel's choice. It is written
    // once, and nobody else uses it.
    unsafe {
        let byte = mmap(std::ptr::null_mut(), 1, PROT_READ | PROT_WRITE, MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(byte, MAP_FAILED);
        byte.cast::<u8>().write_volatile(b'2');
        munmap(byte, 1);
    }
    drop(file);
    watching.changed();
}

#[test]
fn what_is_no_change_is_none() {
    let dir = Dir::new();
    dir.write("d/conf", "1");
    dir.mkdir("d/sub");
    for name in ["d", "d/conf"] {
        let mut watching = dir.watch(&[name]);
        dir.chmod("d/conf", 0o600);
        watching.unchanged();
        dir.chmod("d/sub", 0o700);
        dir.touch("d/sub");
        dir.touch("d");
        watching.unchanged();
        drop(OpenOptions::new().write(true).open(dir.at("d/conf")).unwrap());
        watching.unchanged();
        // It is as before.
        dir.rename("d/conf", "d/away");
        dir.rename("d/away", "d/conf");
        watching.unchanged();
        let modified = fs::metadata(dir.at("d/conf")).unwrap().modified().unwrap();
        dir.write("d/conf", "2");
        assert_eq!(watching.work(), []);
        dir.write("d/conf", "1");
        let file = File::open(dir.at("d/conf")).unwrap();
        file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        watching.unchanged();
        dir.write("d/4913", "");
        dir.remove("d/4913");
        watching.unchanged();
    }
}

#[test]
fn nobody_is_woken_by_reading_or_by_a_neighbour() {
    let dir = Dir::new();
    dir.write("conf", "1");
    dir.write("log", "");
    dir.write("tree/file", "1");
    let watching = dir.watch(&["conf", "tree", "later/conf"]);
    let mut text = String::new();
    File::open(dir.at("conf")).unwrap().read_to_string(&mut text).unwrap();
    File::open(dir.at("tree/file")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(fs::read_dir(dir.at("tree")).unwrap().count(), 1);
    OpenOptions::new().append(true).open(dir.at("log")).unwrap().write_all(b"busy").unwrap();
    dir.touch("log");
    assert!(!watching.is_woken_by(&["log", "conf", "file", "tree"]));
    assert_eq!(watching.watch.deadline(), None);
    dir.write("conf", "1");
    assert!(watching.is_woken_by(&[]));
    dir.write("tree/file", "1");
    assert!(watching.is_woken_by(&["file"]));
}

#[test]
fn a_removed_file_that_is_still_written_wakes_nobody() {
    let dir = Dir::new();
    dir.write("d/log", "1");
    let mut watching = dir.watch(&["d"]);
    let mut log = OpenOptions::new().append(true).open(dir.at("d/log")).unwrap();
    dir.remove("d/log");
    watching.changed();
    log.write_all(b"2").unwrap();
    assert!(!watching.is_woken_by(&["log"]));
}

#[test]
fn it_acts_when_nothing_has_changed_for_a_while() {
    let dir = Dir::new();
    dir.write("conf", "1");
    let mut watching = dir.watch(&["conf"]);
    let start = watching.now;
    for size in 2..10 {
        dir.write("conf", &"x".repeat(size));
        let until = watching.now + SETTLING;
        assert_eq!(watching.work(), []);
        assert_eq!(watching.pass(REST), []);
        assert_eq!(watching.until(), Some(until));
        watching.now = until - Duration::from_millis(1);
        assert_eq!(watching.work(), []);
    }
    assert_eq!(watching.pass(Duration::from_millis(1)), [WatchEvent::Changed(dir.at("conf").into())]);
    assert!(watching.now - start > SETTLING * 7);
    watching.unchanged();
    // A turn that comes late reads the events first.
    dir.write("conf", "1");
    assert_eq!(watching.work(), []);
    dir.write("conf", "22");
    assert_eq!(watching.pass(SETTLING * 10), []);
    watching.changed();
}

/// A file that is created or replaced and then written has no watch of its own at first, and nothing is watched below a
/// new directory.
#[test]
fn what_is_new_must_be_quiet_too() {
    let dir = Dir::new();
    dir.write("d/old", "");
    let part = SETTLING / 2;
    // All at once, or with a pause in which nothing happens that is watched already.
    for pause in [Duration::ZERO, part] {
        let mut watching = dir.watch(&["conf", "d", "later/conf"]);
        let mut expected = Vec::new();
        for (index, path) in ["conf", "conf", "d/new/x", "d/new/sub/deep/x", "later/conf"].into_iter().enumerate() {
            if index == 1 {
                dir.remove("conf");
            }
            let path = dir.at(path);
            for directory in path.parent().unwrap().ancestors().collect::<Vec<_>>().into_iter().rev() {
                if !directory.exists() {
                    fs::create_dir(directory).unwrap();
                    assert_eq!(watching.pass(pause), [], "{path:?}");
                }
            }
            let mut file = File::create(path).unwrap();
            for _ in 0..15 {
                assert_eq!(watching.pass(part), [], "{index}");
                file.write_all(b"123456789\n").unwrap();
            }
            expected = watching.settle();
            assert_eq!(expected.len(), 1, "{index}: {expected:?}");
            watching.unchanged();
        }
        assert_eq!(expected, [WatchEvent::Changed(dir.at("later/conf").into())]);
        for path in ["d/new", "later"] {
            fs::remove_dir_all(dir.at(path)).unwrap();
        }
        dir.remove("conf");
    }
}

/// Each tree is moved there with everything below it, and changes there before it is watched.
#[test]
fn new_trees_in_a_row_are_one_change() {
    let dir = Dir::new();
    dir.mkdir("d");
    let mut watching = dir.watch(&["d"]);
    for tree in 0..4 {
        for file in ["x/1", "x/y/2", "x/y/z/3"] {
            dir.write(format!("d/{tree}/{file}"), "");
            assert_eq!(watching.pass(SETTLING / 2), []);
        }
        // Nobody watches these directories yet, or since a moment ago.
        for _ in 0..3 {
            let file = OpenOptions::new().append(true).open(dir.at(format!("d/{tree}/x/y/z/3")));
            file.unwrap().write_all(b"1").unwrap();
            assert_eq!(watching.pass(SETTLING * 3 / 4), []);
        }
    }
    watching.changed();
}

/// One walk at the first name, and one when it is over.
#[test]
fn names_that_come_and_go_all_the_time_are_not_walked_over_each_time() {
    let dir = Dir::new();
    dir.write("d/file", "");
    let mut watching = dir.watch(&["d"]);
    let first = watching.steps;
    for _ in 0..100 {
        dir.write("d/lock", "");
        dir.remove("d/lock");
        assert_eq!(watching.pass(REST), []);
    }
    let during = watching.steps - first;
    assert!(during <= 4, "{during}");
    watching.unchanged();
}

/// A replaced file is told as soon as nothing has changed for a while, also if it is replaced again soon after.
#[test]
fn a_new_file_is_told_in_time() {
    let dir = Dir::new();
    dir.write("conf", "0");
    let mut watching = dir.watch(&["conf"]);
    for round in 1..4 {
        dir.write("new", &"x".repeat(round));
        dir.rename("new", "conf");
        assert_eq!(watching.work(), []);
        assert_eq!(watching.pass(SETTLING), [WatchEvent::Changed(dir.at("conf").into())]);
    }
}

#[test]
fn everything_below_a_directory_is_watched() {
    let dir = Dir::new();
    dir.write("d/a/b/c/file", "1");
    let mut watching = dir.watch(&["d"]);
    dir.write("d/a/b/c/file", "22");
    watching.changed();
    // New directories, with what was created before anybody could watch them.
    dir.write("d/x/y/z/file", "1");
    watching.changed();
    dir.write("d/x/y/z/file", "22");
    watching.changed();
    dir.mkdir("d/empty");
    watching.changed();
    fs::remove_dir_all(dir.at("d/x")).unwrap();
    watching.changed();
    dir.rename("d/a/b", "d/b");
    watching.changed();
    dir.write("d/b/c/file", "333");
    watching.changed();
    // Out of the tree.
    dir.rename("d/b", "b");
    watching.changed();
    dir.write("b/c/file", "4444");
    assert!(!watching.is_woken_by(&["file"]));
}

#[test]
fn hidden_entries_do_not_count() {
    let dir = Dir::new();
    dir.write("d/.git/index", "1");
    dir.write("d/file", "1");
    let mut watching = dir.watch(&["d"]);
    dir.write("d/.git/index", "22");
    assert!(!watching.is_woken_by(&["index"]), "it is not even watched");
    dir.write("d/.file.swp", "1");
    watching.unchanged();
    dir.remove("d/.file.swp");
    dir.write("d/.hidden/file", "1");
    watching.unchanged();
    dir.rename("d/file", "d/.file");
    watching.changed();
}

#[test]
fn a_path_that_is_hidden_itself_counts() {
    let dir = Dir::new();
    dir.write(".env", "1");
    dir.write(".config/app/file", "1");
    let mut watching = dir.watch(&[".env"]);
    dir.write(".env", "22");
    watching.changed();
    for name in [".config", ".config/app", ".config/app/file"] {
        let mut watching = dir.watch(&[name]);
        dir.touch(".config/app/file");
        dir.write(".config/app/file", name);
        watching.changed();
    }
}

#[test]
fn links_on_the_way_are_followed_and_count() {
    let dir = Dir::new();
    dir.write("releases/1/etc/conf", "1");
    dir.write("releases/2/etc/conf", "1");
    dir.link("releases/1", "one");
    dir.link("one", "current");
    for name in ["current", "current/etc", "current/etc/conf"] {
        let mut watching = dir.watch(&[name]);
        let watches = watching.watch.watches.len();
        dir.write("releases/1/etc/conf", name);
        watching.changed();
        // The first link, then the second one, as `ln -sfn` and a deploy do.
        dir.link("releases/2", "new");
        dir.rename("new", "current");
        watching.changed();
        dir.write("releases/1/etc/conf", "no longer");
        assert!(!watching.is_woken_by(&["conf"]), "{name}");
        dir.write("releases/2/etc/conf", name);
        watching.changed();
        dir.link("one", "new");
        dir.rename("new", "current");
        watching.changed();
        dir.remove("one");
        dir.link("releases/2", "one");
        watching.changed();
        dir.link("./releases/../releases/1", "new");
        dir.rename("new", "one");
        watching.changed();
        // The same target is no change.
        dir.link("./releases/../releases/1", "new");
        dir.rename("new", "one");
        watching.unchanged();
        assert_eq!(watching.watch.watches.len(), watches, "nothing piles up");
    }
}

#[test]
fn links_that_lead_nowhere_are_missing() {
    let dir = Dir::new();
    dir.link("there/conf", "conf");
    dir.link("b", "a");
    dir.link("a", "b");
    let mut watching = dir.watch(&["conf", "a"]);
    dir.write("there/other", "1");
    watching.unchanged();
    dir.write("there/conf", "1");
    watching.changed();
    dir.write("new", "1");
    dir.rename("new", "b");
    assert_eq!(watching.settle(), [WatchEvent::Changed(dir.at("a").into())]);
}

#[test]
fn the_target_of_a_link_below_a_directory_counts() {
    let dir = Dir::new();
    dir.write("opt/conf", "1");
    dir.write("opt/sub/file", "1");
    dir.mkdir("d");
    dir.link("../opt/conf", "d/file");
    dir.link("../opt/sub", "d/directory");
    dir.link("..", "d/cycle");
    dir.link("../opt/later", "d/later");
    let mut watching = dir.watch(&["d"]);
    dir.write("opt/conf", "22");
    watching.changed();
    dir.write("opt/new", "333");
    dir.rename("opt/new", "opt/conf");
    watching.changed();
    dir.write("opt/later", "1");
    watching.changed();
    // It is not descended into a link.
    dir.write("opt/sub/file", "22");
    assert!(!watching.is_woken_by(&["file"]));
    dir.rename("opt/sub", "opt/away");
    watching.changed();
    dir.link("../opt/away", "d/new");
    dir.rename("d/new", "d/directory");
    watching.changed();
    dir.rename("opt", "opt2");
    watching.changed();
}

/// The steps of the kubelet's AtomicWriter.
struct ConfigMap<'a> {
    dir: &'a Dir,
    current: String,
}

impl ConfigMap<'_> {
    fn write(&self, version: &str, files: &[(&str, &str)]) {
        let directory = format!("volume/..{version}");
        self.dir.mkdir(&directory);
        self.dir.chmod(&directory, 0o755);
        for (name, text) in files {
            self.dir.write(format!("{directory}/{name}"), text);
            self.dir.chmod(&format!("{directory}/{name}"), 0o644);
        }
        self.dir.link(&format!("..{version}"), "volume/..data_tmp");
        self.dir.rename("volume/..data_tmp", "volume/..data");
        for (name, _) in files {
            let _ = symlink(format!("..data/{name}"), self.dir.at(format!("volume/{name}")));
        }
    }

    /// The kubelet removes the old version last.
    fn update(&mut self, version: &str, files: &[(&str, &str)]) {
        self.write(version, files);
        self.clean(version);
    }

    fn clean(&mut self, version: &str) {
        fs::remove_dir_all(self.dir.at(format!("volume/..{}", self.current))).unwrap();
        self.current = version.to_owned();
    }
}

#[test]
fn a_configmap_changes_once_per_update() {
    let dir = Dir::new();
    let mut map = ConfigMap { dir: &dir, current: "2024_01".to_owned() };
    map.write("2024_01", &[("app.conf", "1"), ("other.conf", "1")]);
    let mut whole = dir.watch(&["volume"]);
    let mut file = dir.watch(&["volume/app.conf"]);
    dir.mkdir("conf.d");
    dir.link("../volume/app.conf", "conf.d/app.conf");
    let mut linked = dir.watch(&["conf.d"]);
    for version in ["2024_02", "2024_03"] {
        map.update(version, &[("app.conf", version), ("other.conf", "1")]);
        whole.changed();
        file.changed();
        linked.changed();
    }
    let watches = whole.watch.watches.len();
    // A slow kubelet: cleaning up is not another change.
    map.write("2024_04", &[("app.conf", "4"), ("other.conf", "1"), ("new.conf", "1")]);
    whole.changed();
    file.changed();
    map.clean("2024_04");
    whole.unchanged();
    file.unchanged();
    map.update("2024_05", &[("app.conf", "5"), ("other.conf", "1")]);
    dir.remove("volume/new.conf");
    whole.changed();
    assert_eq!(whole.watch.watches.len(), watches, "nothing piles up");
}

#[test]
fn a_path_may_appear_with_its_parents() {
    let dir = Dir::new();
    let mut watching = dir.watch(&["a/b/c/conf"]);
    dir.mkdir("other");
    dir.mkdir("a");
    watching.unchanged();
    dir.mkdir("a/b/other");
    watching.unchanged();
    dir.write("a/b/c/conf", "1");
    watching.changed();
    dir.write("a/b/c/conf", "22");
    watching.changed();
    fs::remove_dir_all(dir.at("a")).unwrap();
    watching.changed();
    // All at once.
    dir.write("a/b/c/conf", "1");
    watching.changed();
    dir.write("a/b/c/conf", "22");
    watching.changed();
    // A directory: that it is there is a change.
    dir.remove("a/b/c/conf");
    dir.mkdir("a/b/c/conf");
    watching.changed();
    // A file where a directory should be.
    dir.rename("a", "b");
    watching.changed();
    dir.write("a", "");
    watching.unchanged();
    dir.remove("a");
    dir.rename("b", "a");
    watching.changed();
}

#[test]
fn a_directory_may_go_and_come_again() {
    let dir = Dir::new();
    dir.write("p/d/sub/file", "1");
    for name in ["p/d", "p/d/sub/file"] {
        let mut watching = dir.watch(&[name]);
        dir.rename("p", "away");
        dir.rename("away", "p");
        watching.unchanged();
        // For longer.
        dir.rename("p", "away");
        watching.changed();
        dir.rename("away", "p");
        watching.changed();
        // Changed where it was in the meantime.
        dir.rename("p/d", "p/away");
        dir.write("p/away/sub/file", name);
        dir.rename("p/away", "p/d");
        watching.changed();
        // Another one in its place, whose files have other inodes.
        dir.rename("p", "old");
        dir.write("p/d/sub/file", name);
        watching.changed();
        dir.write("old/d/sub/file", "1");
        assert!(!watching.is_woken_by(&["file"]));
        dir.write("p/d/sub/file", "1");
        watching.changed();
        fs::remove_dir_all(dir.at("old")).unwrap();
    }
}

/// As if the command had it as its working directory: the kernel does not tell that such a directory is removed, except
/// in the directory above it.
#[test]
fn a_directory_in_use_may_be_removed() {
    let dir = Dir::new();
    for name in ["p/d/sub", "p/d/sub/conf"] {
        dir.write("p/d/sub/conf", "1");
        let _used = [File::open(dir.at("p")), File::open(dir.at("p/d")), File::open(dir.at("p/d/sub"))];
        let mut watching = dir.watch(&[name]);
        fs::remove_dir_all(dir.at("p")).unwrap();
        watching.changed();
        dir.write("p/d/sub/conf", "22");
        watching.changed();
        dir.write("p/d/sub/conf", "333");
        watching.changed();
    }
}

#[test]
fn a_relative_path_begins_at_the_working_directory() {
    let dir = Dir::new();
    dir.write("conf", "1");
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let path = Path::new(".").join(up).join("..").join(dir.at("conf").strip_prefix("/").unwrap());
    let mut watching = Watching::new(PathWatch::new(&[path.into_os_string()], &[]));
    watching.unchanged();
    dir.write("conf", "22");
    watching.changed();
    let mut watching = Watching::new(PathWatch::new(&["Cargo.toml".into(), "no-such-file".into()], &[]));
    watching.unchanged();
    assert_ne!(watching.watch.digests()[0], watching.watch.digests()[1]);
}

#[test]
fn deep_trees_and_strange_names() {
    let dir = Dir::new();
    let deep: PathBuf = (0..150).map(|level| format!("level{level}")).collect();
    dir.write(Path::new("d").join(&deep).join("file"), "1");
    let strange = OsString::from_vec(b"d/\xff\xfe \n*".to_vec());
    dir.write(&strange, "1");
    let mut watching = dir.watch(&["d"]);
    dir.write(Path::new("d").join(&deep).join("file"), "22");
    watching.changed();
    dir.write(&strange, "22");
    watching.changed();
    let path = dir.at(OsStr::from_bytes(b"d/\xff\xfe \n*"));
    let mut watching = Watching::new(PathWatch::new(&[path.clone().into_os_string()], &[]));
    watching.unchanged();
    dir.write(&strange, "333");
    assert_eq!(watching.settle(), [WatchEvent::Changed(path.into_os_string())]);
}

#[test]
fn special_files_are_only_names() {
    let dir = Dir::new();
    dir.mkdir("d");
    mkfifo(&dir.at("d/fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let mut watching = dir.watch(&["d"]);
    let mut pipe = OpenOptions::new().read(true).write(true).open(dir.at("d/fifo")).unwrap();
    pipe.write_all(b"1").unwrap();
    watching.unchanged();
    drop(std::os::unix::net::UnixListener::bind(dir.at("d/socket")).unwrap());
    watching.changed();
    // A server that binds its socket again, at each start, does not cause the next start.
    dir.remove("d/socket");
    drop(std::os::unix::net::UnixListener::bind(dir.at("d/socket")).unwrap());
    watching.unchanged();
    let mut watching = dir.watch(&["d/fifo"]);
    pipe.write_all(b"1").unwrap();
    assert!(!watching.is_woken_by(&["fifo"]));
    dir.remove("d/fifo");
    watching.changed();
}

#[test]
fn several_paths_settle_together() {
    let dir = Dir::new();
    dir.write("one/file", "1");
    dir.write("two/file", "1");
    let mut watching = dir.watch(&["one", "two/file", "one/file", "three", "one"]);
    dir.write("one/file", "22");
    assert_eq!(watching.work(), []);
    assert_eq!(watching.pass(SETTLING / 2), []);
    dir.write("two/file", "22");
    let expected: Vec<_> = dir.paths(&["one", "two/file", "one/file", "one"]);
    let expected: Vec<_> = expected.into_iter().map(WatchEvent::Changed).collect();
    assert_eq!(watching.settle(), expected);
    dir.write("three", "");
    assert_eq!(watching.settle(), [WatchEvent::Changed(dir.at("three").into())]);
    watching.unchanged();
}

#[test]
fn a_directory_may_be_watched_for_two_reasons() {
    let dir = Dir::new();
    dir.write("d/file", "1");
    dir.write("d/other", "1");
    for names in [["d", "d/file"], ["d/file", "d"]] {
        let mut watching = dir.watch(&names);
        dir.write("d/other", names[0]);
        assert_eq!(watching.settle(), [WatchEvent::Changed(dir.at("d").into())]);
        dir.write("d/file", names[0]);
        assert_eq!(watching.settle().len(), 2);
    }
}

/// What is reported does not cause anything.
#[test]
fn hupwraps_own_files_do_not_count() {
    let dir = Dir::new();
    dir.write("d/file", "1");
    dir.write("d/sub/status", "1");
    dir.link("d", "link");
    let own = [dir.at("link/status"), dir.at("d/pid")];
    let mut watching = Watching::new(PathWatch::new(&dir.paths(&["d"]), &own));
    watching.unchanged();
    dir.write("d/.status.1", "1");
    dir.rename("d/.status.1", "d/status");
    dir.write("d/pid", "1");
    watching.unchanged();
    dir.remove("d/pid");
    watching.unchanged();
    dir.write("d/sub/status", "22");
    watching.changed();
}

/// The link is named or the file, and the link is in a watched directory, is a PATH, or neither.
#[test]
fn hupwraps_own_files_do_not_count_through_links() {
    for (own, paths) in [
        (["d/link", "d/pid"], &["d", "elsewhere/other"][..]),
        (["elsewhere/status", "elsewhere/pid"], &["d", "elsewhere/other"]),
        (["elsewhere/link", "elsewhere/pid"], &["d", "elsewhere/other"]),
        (["elsewhere/status", "d/pid"], &["link", "d/link"]),
    ] {
        let dir = Dir::new();
        dir.write("d/file", "1");
        dir.mkdir("elsewhere");
        dir.link("../elsewhere/status", "d/link");
        dir.link("../elsewhere/pid", "d/pid");
        dir.link("status", "elsewhere/link");
        dir.link("d/link", "link");
        let mut watching = Watching::new(PathWatch::new(&dir.paths(paths), &own.map(|name| dir.at(name))));
        watching.unchanged();
        for text in ["1", "22"] {
            for name in ["elsewhere/pid", "elsewhere/status"] {
                dir.write("elsewhere/new", text);
                dir.rename("elsewhere/new", name);
            }
            watching.unchanged();
        }
        dir.write("elsewhere/other", "1");
        dir.write("d/file", "22");
        assert_eq!(watching.settle().is_empty(), paths[0] == "link", "{own:?}");
    }
}

/// The status file follows its link.
#[test]
fn hupwraps_own_files_do_not_count_where_their_links_lead_now() {
    let dir = Dir::new();
    dir.mkdir("d");
    dir.link("d/one", "status");
    let mut watching = Watching::new(PathWatch::new(&dir.paths(&["d"]), &[dir.at("status")]));
    watching.unchanged();
    dir.write("d/one", "1");
    watching.unchanged();
    dir.link("d/two", "new");
    dir.rename("new", "status");
    dir.remove("d/one");
    for text in ["1", "22"] {
        dir.write("d/two", text);
        watching.unchanged();
    }
}

/// A file that is written all the time does not keep hupwrap busy.
#[test]
fn a_flood_of_events_wakes_it_from_time_to_time() {
    let dir = Dir::new();
    dir.write("d/log", "");
    let mut watching = dir.watch(&["d"]);
    dir.write("d/log", "1");
    assert!(watching.is_readable());
    assert_eq!(watching.turn(), []);
    dir.write("d/log", "22");
    assert!(!watching.wants_turn());
    assert_eq!(watching.watch.deadline(), Some(watching.now + REST));
    watching.now += REST;
    assert_eq!(watching.turn(), []);
    assert_eq!(watching.until(), Some(watching.now + SETTLING));
    watching.changed();
}

#[test]
fn many_files_are_walked_in_steps() {
    let dir = Dir::new();
    for directory in 0..300 {
        for file in 0..7 {
            dir.write(format!("d/{directory}/{file}"), "");
        }
    }
    let mut watching = Watching::new(PathWatch::new(&dir.paths(&["d"]), &[]));
    watching.unchanged();
    assert!(watching.steps > 2400 / STEP, "{}", watching.steps);
    assert!(watching.steps < 30, "{}", watching.steps);
    assert!(watching.watch.watches.len() > 300 && watching.watch.watches.len() < 320);
    dir.write("d/299/6", "1");
    watching.changed();
    dir.write("d/0/0", "1");
    watching.changed();
}

#[test]
fn a_change_during_the_first_walk_counts() {
    let dir = Dir::new();
    for file in 0..6 * STEP {
        dir.write(format!("d/{file}"), "");
    }
    // The first or the last ones: it has been seen already, or not yet.
    for file in [0, 1, 6 * STEP - 1, 3 * STEP] {
        let mut watching = Watching::new(PathWatch::new(&dir.paths(&["d"]), &[]));
        for _ in 0..3 {
            assert_eq!(watching.turn(), []);
            assert_eq!(watching.watch.deadline(), Some(Time::ZERO));
        }
        assert_eq!(watching.watch.digests(), [None]);
        dir.write(format!("d/{file}"), &format!("{file}"));
        watching.changed();
    }
}

#[test]
fn a_change_during_a_later_walk_is_one_change() {
    let dir = Dir::new();
    for file in 0..6 * STEP {
        dir.write(format!("d/{file}"), "");
    }
    let mut watching = dir.watch(&["d"]);
    dir.write("d/0", "1");
    assert_eq!(watching.work(), []);
    watching.now += SETTLING;
    for _ in 0..3 {
        assert_eq!(watching.turn(), []);
        assert_eq!(watching.watch.deadline(), Some(Time::ZERO));
    }
    for file in 0..6 * STEP {
        dir.write(format!("d/{file}"), "22");
    }
    watching.changed();
    // Nothing of it was missed.
    assert_eq!(watching.watch.digests(), dir.watch(&["d"]).watch.digests());
}

#[test]
fn a_lost_event_makes_it_look_again() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap_or_default();
    let Some(limit) = limit.trim().parse().ok().filter(|limit: &usize| *limit < 200_000) else { return };
    let dir = Dir::new();
    // Events of these do not count.
    dir.write("d/.a", "");
    dir.write("d/.b", "");
    let mut watching = dir.watch(&["d"]);
    let mut files = ["d/.a", "d/.b"].map(|name| OpenOptions::new().append(true).open(dir.at(name)).unwrap());
    for index in 0..=limit {
        files[index % 2].write_all(b"1").unwrap();
    }
    // Nothing tells of this one.
    dir.write("d/new/file", "1");
    watching.changed();
    dir.write("d/new/file", "22");
    watching.changed();
}

#[test]
fn without_inotify_it_looks_from_time_to_time() {
    let dir = Dir::new();
    dir.write("d/conf", "1");
    for (error, line) in [
        (Errno::EMFILE, "inotify is refused (too many instances, see fs.inotify.max_user_instances)"),
        (Errno::ENOSPC, "inotify is refused (too many watches, see fs.inotify.max_user_watches)"),
        (Errno::ENOSYS, "inotify is refused (Function not implemented)"),
    ] {
        let mut watches = Watches::open();
        watches.refuse(error);
        let mut watching = Watching::new(PathWatch::over(watches, &dir.paths(&["d"]), &[], &[]));
        assert_eq!(watching.settle(), [polling(line)]);
        assert!(watching.watch.fd().is_none());
        watching.unchanged_late();
        dir.write("d/conf", line);
        watching.changed_late();
        dir.touch("d");
        dir.chmod("d/conf", 0o600);
        watching.unchanged_late();
        dir.write("d/conf", "1");
        assert_eq!(watching.pass(POLLING), [], "it may still change");
        dir.write("d/conf", "22");
        assert_eq!(watching.pass(SETTLING), [], "it still changes");
        assert_eq!(watching.pass(SETTLING), [WatchEvent::Changed(dir.at("d").into())]);
        watching.unchanged_late();
    }
}

#[test]
fn inotify_may_be_refused_later() {
    let dir = Dir::new();
    dir.write("d/conf", "1");
    let line = "inotify is refused (too many watches, see fs.inotify.max_user_watches)";
    // While nothing happens, between the event and the look, and during the look.
    for turns in 0..4 {
        let mut watching = dir.watch(&["d"]);
        dir.write("d/conf", &"x".repeat(turns + 10));
        for _ in 0..turns {
            assert_eq!(watching.turn(), []);
            watching.now += SETTLING;
        }
        watching.watch.watches.refuse(Errno::ENOSPC);
        let mut events = watching.turn();
        events.extend(watching.settle());
        events.sort_by_key(|event| matches!(event, WatchEvent::Changed(_)));
        assert_eq!(events, [polling(line), WatchEvent::Changed(dir.at("d").into())], "{turns}");
        watching.unchanged_late();
        dir.write("d/conf", "1");
        watching.changed_late();
    }
}

#[test]
fn the_instance_is_closed_over_an_exec() {
    let watch = PathWatch::new(&[], &[]);
    let fd = watch.fd().unwrap();
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, nix::libc::FD_CLOEXEC);
    assert!(fd.as_raw_fd() > 2);
}

#[test]
fn nothing_follows_from_what_could_not_be_seen() {
    let dir = Dir::new();
    dir.write("conf", "1");
    let mut watching = dir.watch(&["conf"]);
    dir.write("conf", "22");
    assert_eq!(watching.work(), []);
    watching.now += SETTLING;
    watching.turn();
    let Phase::Walking { walk, .. } = &mut watching.watch.phase else { panic!() };
    walk.fail();
    assert_eq!(watching.work(), []);
    assert_eq!(watching.until(), Some(watching.now + POLLING));
    watching.now += POLLING;
    watching.changed();
}

#[test]
fn what_changes_during_a_re_exec_is_told() {
    let dir = Dir::new();
    dir.write("one", "1");
    dir.write("d/sub/two", "1");
    let paths = dir.paths(&["one", "d"]);
    let watching = dir.watch(&["one", "d"]);
    let digests = watching.watch.digests().to_vec();
    drop(watching);
    Watching::new(PathWatch::with_digests(&paths, &[], &digests)).unchanged();

    dir.write("d/sub/two", "22");
    let mut watching = Watching::new(PathWatch::with_digests(&paths, &[], &digests));
    assert_eq!(watching.work(), [], "it may still change");
    assert_eq!(watching.watch.digests(), digests, "another re-exec does not lose it either");
    assert_eq!(watching.settle(), [WatchEvent::Changed(paths[1].clone())]);
    watching.unchanged();
    let digests = watching.watch.digests().to_vec();

    // Noticed before the re-exec, but not settled.
    dir.write("one", "22");
    assert_eq!(watching.work(), []);
    assert_eq!(watching.watch.digests(), digests);
    drop(watching);
    let mut watching = Watching::new(PathWatch::with_digests(&paths, &[], &digests));
    watching.changed();

    // What was not known then is known from now on.
    let mut watching = Watching::new(PathWatch::with_digests(&paths, &[], &[None, None]));
    watching.unchanged();
    // Without inotify.
    let mut watches = Watches::open();
    watches.refuse(Errno::EMFILE);
    let mut watching = Watching::new(PathWatch::over(watches, &paths, &[], &digests));
    watching.work();
    assert_eq!(watching.settle(), [WatchEvent::Changed(paths[0].clone())]);
    watching.unchanged_late();
}

/// Lets this thread be a user who is not root, as far as files are concerned.
struct Ordinary(Uid);

impl Ordinary {
    fn new() -> Self {
        Self(match geteuid().is_root() {
            true => setfsuid(Uid::from_raw(65534)),
            false => geteuid(),
        })
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        setfsuid(self.0);
    }
}

#[test]
fn directories_that_may_only_be_searched() {
    let dir = Dir::new();
    dir.write("home/user/conf", "1");
    dir.write("home/file", "1");
    dir.link("user", "home/link");
    dir.chmod("home", 0o711);
    let open = |names: &[&str]| {
        let _user = Ordinary::new();
        Watching::new(PathWatch::new(&dir.paths(names), &[]))
    };
    // What is found there is watched itself.
    for name in ["home/user", "home/user/conf", "home/file"] {
        let mut watching = open(&[name]);
        {
            let _user = Ordinary::new();
            watching.unchanged();
        }
        dir.write("home/user/conf", name);
        dir.write("home/file", name);
        dir.rename("home/file", "home/new");
        dir.rename("home/user", "home/away");
        let user = Ordinary::new();
        let events = watching.settle();
        assert!(events.contains(&WatchEvent::Changed(dir.at(name).into())), "{name}: {events:?}");
        drop(user);
        dir.rename("home/new", "home/file");
        dir.rename("home/away", "home/user");
    }
    // Not what is two of them further down.
    dir.write("home/closed/conf", "1");
    dir.chmod("home/closed", 0o711);
    let mut watching = open(&["home/closed/conf"]);
    {
        let why = format!("'{}' cannot be watched: permission denied", dir.at("home/closed").display());
        let _user = Ordinary::new();
        assert_eq!(watching.settle(), [polling(&why)]);
    }
    // Of a link, and of what is not there, nothing tells.
    let why = format!("'{}' cannot be watched: permission denied", dir.at("home").display());
    for name in ["home/link/conf", "home/missing", "home/missing/conf"] {
        let mut watching = open(&[name]);
        let _user = Ordinary::new();
        assert_eq!(watching.settle(), [polling(&why)]);
        watching.unchanged_late();
    }
    let mut watching = open(&["home/missing/conf"]);
    {
        let _user = Ordinary::new();
        assert_eq!(watching.settle(), [polling(&why)]);
    }
    dir.write("home/missing/conf", "1");
    let _user = Ordinary::new();
    watching.changed_now_late();
}

#[test]
fn directories_that_may_not_be_read() {
    let dir = Dir::new();
    dir.write("secret/d/conf", "1");
    dir.chmod("secret", 0o700);
    let mut watching = Watching::new(PathWatch::new(&dir.paths(&["secret/d"]), &[]));
    let why = format!("'{}' cannot be watched: permission denied", dir.at("secret").display());
    {
        let _user = Ordinary::new();
        assert_eq!(watching.settle(), [polling(&why)]);
    }
    dir.chmod("secret", 0o755);
    {
        let _user = Ordinary::new();
        watching.now += POLLING;
        // It is there now, and is watched from now on.
        watching.changed_now(dir.at("secret/d"));
        watching.unchanged();
    }
    // One below: nothing in it counts, until it can be read.
    dir.write("secret/d/sub/file", "1");
    dir.chmod("secret/d/sub", 0o700);
    {
        let _user = Ordinary::new();
        watching.changed_now(dir.at("secret/d"));
        watching.unchanged();
    }
    dir.write("secret/d/sub/file", "22");
    {
        let _user = Ordinary::new();
        watching.unchanged();
    }
    dir.chmod("secret/d/sub", 0o755);
    {
        let _user = Ordinary::new();
        watching.changed_now(dir.at("secret/d"));
        watching.unchanged();
    }
    // PATH itself.
    dir.chmod("secret/d", 0o700);
    {
        let _user = Ordinary::new();
        watching.settle();
    }
    dir.chmod("secret/d", 0o755);
    let _user = Ordinary::new();
    watching.now += POLLING;
    watching.changed_now(dir.at("secret/d"));
}

#[test]
fn a_file_that_may_not_be_read_is_watched_by_its_directory() {
    let dir = Dir::new();
    dir.write("d/secret", "1");
    dir.chmod("d/secret", 0o600);
    let mut watching = Watching::new(PathWatch::new(&dir.paths(&["d/secret"]), &[]));
    {
        let _user = Ordinary::new();
        watching.unchanged();
    }
    dir.write("d/secret", "22");
    let _user = Ordinary::new();
    watching.changed();
}

impl Watching {
    #[track_caller]
    fn changed_now(&mut self, path: PathBuf) {
        assert_eq!(self.settle(), [WatchEvent::Changed(path.into_os_string())]);
    }

    #[track_caller]
    fn changed_now_late(&mut self) {
        let path = self.watch.paths[0].clone();
        self.now += POLLING;
        assert_eq!(self.settle(), [WatchEvent::Changed(path)]);
    }
}

#[test]
fn editors_and_tools_make_one_change() {
    let dir = Dir::new();
    dir.write("d/conf", "one\n");
    let mut watches = [dir.watch(&["d"]), dir.watch(&["d/conf"])];
    let mut expect = |what: &str| {
        for watching in &mut watches {
            let events = watching.settle();
            assert_eq!(events.len(), 1, "{what}: {events:?}");
            watching.unchanged();
        }
    };
    dir.run("sed", &["-i", "s/one/two or three/", "d/conf"]);
    expect("sed -i");
    dir.write("new", "four\n");
    dir.run("mv", &["new", "d/conf"]);
    expect("mv");
    dir.run("cp", &["/proc/self/limits", "d/conf"]);
    expect("cp");
    for (tool, version) in [("vim", "--version"), ("git", "--version")] {
        let found = Command::new(tool).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            crate::sys::skipped("path_watch::editors_and_tools_make_one_change", &format!("{tool} is not installed"));
            continue;
        }
        if tool == "vim" {
            for backup in ["set nobackup writebackup", "set backupcopy=no", "set backupcopy=yes"] {
                dir.run("vim", &["-u", "NONE", "-es", "-c", backup, "-c", "normal ofive", "-c", "wq", "d/conf"]);
                expect(backup);
            }
        } else {
            let commit = ["-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-qam", "message"];
            dir.run("git", &["init", "-q", "d"]);
            dir.run("git", &["-C", "d", "add", "conf"]);
            dir.run("git", &[&["-C", "d"], &commit[..]].concat());
            dir.write("d/conf", "changed\n");
            expect("write");
            dir.run("git", &["-C", "d", "checkout", "-q", "--", "conf"]);
            expect("git checkout");
        }
    }
}
