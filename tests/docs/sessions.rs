//! The commands on the pages are typed into a shell, and print what the pages show.
//!
//! Every block of code on a page has a mark on the line before it:
//!
//! - `<!-- run -->`: typed into a new shell in an empty directory. `<!-- run: php tini=0.19.0 -->` names the programs that
//!   it needs, and their versions if these matter.
//! - `<!-- run on -->`: typed into the shell of the block before, with the same programs behind a colon.
//! - `<!-- not run here: why -->`.
//!
//! The need `containers` is the right to run one, and a static build. `~/hupwrap` is a copy of this repository.
//!
//! A block of `text` shows a picture and needs no mark. The port 8080 in a block that is run is a free one.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{file, files_below, pages};
use crate::support::http::free_port;
use crate::support::podman;
use crate::support::*;

/// A block that is run.
struct Session {
    /// Whether it goes on in the shell of the block before.
    goes_on: bool,
    /// The programs that it needs, and their versions if these matter.
    needs: Vec<(String, Option<String>)>,
    /// Each command, and what it prints.
    steps: Vec<(String, Vec<String>)>,
}

fn sessions(page: &str) -> Vec<Session> {
    let text = file(page);
    let mut sessions = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(mark) = line.strip_prefix("<!-- run").and_then(|rest| rest.strip_suffix("-->")) else { continue };
        assert_eq!(lines.next(), Some("```console"), "{page}, after {line}");
        let (how, needs) = mark.split_once(':').unwrap_or((mark, ""));
        assert!(["", "on"].contains(&how.trim()), "{page}: {line}");
        let needs = needs.split_whitespace().map(|need| match need.split_once('=') {
            Some((program, version)) => (program.to_owned(), Some(version.to_owned())),
            None => (need.to_owned(), None),
        });
        let mut session = Session { goes_on: how.trim() == "on", needs: needs.collect(), steps: Vec::new() };
        for line in lines.by_ref().take_while(|line| *line != "```") {
            if let Some(command) = line.strip_prefix("$ ") {
                session.steps.push((command.to_owned(), Vec::new()));
                continue;
            }
            let step = session.steps.last_mut().expect("a command first");
            match line.strip_prefix("> ") {
                Some(more) => step.0 += &format!("\n{more}"),
                None => step.1.push(line.to_owned()),
            }
        }
        sessions.push(session);
    }
    sessions
}

/// A line with every pid as 0: digits behind `[` and behind `pid `.
pub fn without_pids(line: &str) -> String {
    let mut shown = String::new();
    for c in line.chars() {
        let is_pid = c.is_ascii_digit() && (shown.ends_with("[0") || shown.ends_with("pid 0"));
        let begins = c.is_ascii_digit() && (shown.ends_with('[') || shown.ends_with("pid "));
        match (begins, is_pid) {
            (true, _) => shown.push('0'),
            (_, true) => {}
            _ => shown.push(c),
        }
    }
    shown
}

fn missing(needs: &[(String, Option<String>)]) -> Option<String> {
    needs.iter().find_map(|(program, version)| {
        if program == "containers" {
            return podman::missing();
        }
        if installed(program).is_none() {
            return Some(format!("no {program}"));
        }
        let version = version.as_ref()?;
        let out = Command::new(program).arg("--version").output().expect(program);
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        let is = said.lines().next()?.split_whitespace().any(|word| word.trim_start_matches('v') == version);
        (!is).then(|| format!("{program} is not {version}, but: {said}"))
    })
}

/// A shell as a reader has it: in a directory of its own, with hupwrap in its PATH.
struct Shell {
    run: Run,
    port: String,
    /// Its home directory, beside the one in which the page is typed.
    home: Dir,
}

impl Shell {
    fn new() -> Self {
        let home = Dir::new();
        let dir = home.path().join("empty");
        fs::create_dir(&dir).expect("a new directory");
        symlink(env!("CARGO_MANIFEST_DIR"), home.path().join("hupwrap")).expect("a link");
        let mut path = hupwrap().parent().expect("a directory").as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let setup = Setup::of("sh", ["-s"]).stdin().env("PATH", &path).env("LC_ALL", "C").dir(&dir);
        let setup = podman::allow(setup.env("HOME", home.path()), &home.path().join("podman"));
        let mut run = setup.start();
        run.write("exec 2>&1\n");
        Self { run, port: free_port().to_string(), home }
    }

    /// Types a session. The next command is typed when the one before has printed what it should.
    fn replay(&mut self, page: &str, session: &Session) {
        let before = self.run.stdout().lines().count();
        let mut lines = 0;
        for (command, prints) in &session.steps {
            self.run.write(&format!("{}\n", command.replace("8080", &self.port)));
            for wanted in prints {
                let line = self.run.line("");
                let wanted = wanted.replace("8080", &self.port);
                let shown = self.run.stdout();
                assert_eq!(without_pids(&line), without_pids(&wanted), "{page}, after '{command}':\n{shown}");
            }
            lines += prints.len();
        }
        // What runs in the background may go on. The shell has nothing more to print.
        let first = &session.steps[0].0;
        self.run.write("echo 'that is all'\n");
        assert_eq!(self.run.line(""), "that is all", "{page}, from '{first}':\n{}", self.run.stdout());
        assert_eq!(self.run.stdout().lines().count() - before, lines + 1, "{page}: {}", self.run.stdout());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        podman::end(&self.home.path().join("podman"));
    }
}

/// Types a session, and those that go on in its shell.
fn replay(page: &str, sessions: &[Session]) {
    let mut shell = None;
    for session in sessions {
        if let Some(missing) = missing(&session.needs) {
            skipped(&format!("{page}, from '{}'", session.steps[0].0), &missing);
        } else {
            shell.get_or_insert_with(Shell::new).replay(page, session);
        }
    }
}

/// Those that share no shell are typed at the same time, a few of them: some take their time.
#[test]
fn the_pages_show_what_is_printed() {
    let mut shells: Vec<(String, Vec<Session>)> = Vec::new();
    for page in pages() {
        for session in sessions(&page) {
            match shells.last_mut().filter(|_| session.goes_on) {
                Some((_, sessions)) => sessions.push(session),
                None => shells.push((page.clone(), vec![session])),
            }
        }
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((page, sessions)) = shells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    replay(page, sessions);
                }
            });
        }
    });
}

#[test]
fn every_block_of_code_is_run_or_says_why_not() {
    let others = files_below("tests");
    for page in pages() {
        let text = file(&page);
        let (mut before, mut inside) = ("", false);
        for line in text.lines() {
            if line.starts_with("```") {
                let marked = before.starts_with("<!-- run") || before.starts_with("<!-- not run here: ");
                assert!(inside || marked || line == "```text", "{page}: {line}, after '{before}'");
                // Another test that runs it must exist.
                for other in before.split([' ', ',', ';']).filter(|word| word.starts_with("tests/")) {
                    assert!(others.iter().any(|file| file == other), "{page}: there is no {other}");
                }
                inside = !inside;
            }
            // Blocks without a fence could have no mark.
            let is_indented = line.starts_with("    ") && before.is_empty();
            assert!(inside || !is_indented, "{page}: a block without ```: {line}");
            before = line;
        }
        assert!(!inside, "{page}: a block of code has no end");
    }
}
