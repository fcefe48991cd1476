//! What hostile processes, users, environments and files can do, and what they cannot: docs/SECURITY.md.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use crate::support::*;

/// What every handover has; the rest is the attacker's choice.
const STATE: &str = "writer hupwrap 9.9.9\nkind upgrade\ngeneration 1\nfailed_starts 0\nbegan 0\nshared_group false\n\
                     had_terminal false\nmask 0\nchld_ignored false\n";

/// A hupwrap that finds a state in its environment that no hupwrap has left. `$child` is a child of it that leads a
/// group.
fn forged(state: &str, options: &[&str]) -> Setup {
    let script = format!(
        "setsid sleep 1000 >/dev/null 2>&1 & child=$!; exec 9<<END\n{state}\nEND\nexport HUPWRAP_HANDOVER=$$:9; exec \"$@\""
    );
    Setup::of("sh", args([&"-c", &script, &"sh", &hupwrap()])).with(|command| {
        command.args(options);
    })
}

/// A process of somebody else, in a group of its own.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").process_group(0).spawn().unwrap())
    }

    fn is_untouched(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_forged_state_reaches_no_process_of_others() {
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    let own = "child_generation 1\nchild $child\n";
    for facts in [
        format!("child_generation 1\nchild {pid}\n"),
        format!("{own}child_group {pid}\n"),
        format!("{own}foreign_child {pid}\n"),
        format!("{own}announced {pid} 0\n"),
        format!("child_generation 1\nended_child {pid} code 3 false 0\nchild_group {pid}\nannounced {pid} 0\n"),
    ] {
        let options = ["-v", "--kill-mode", "group", "--stop-timeout", "0.1", "--", "sleep", "1000"];
        let run = forged(&format!("3\n{STATE}{facts}"), &options).start();
        // The one that has ended is the end of hupwrap.
        let ended = match facts.contains("ended_child") {
            true => run.end(),
            false => {
                run.said("took over");
                run.kill("USR1");
                run.stop()
            }
        };
        assert!(bystander.is_untouched(), "{facts}: {}", ended.stderr);
    }
}

#[test]
fn a_forged_state_removes_no_file_of_others() {
    let (dir, theirs) = (Dir::new(), Dir::new());
    let precious = theirs.file("precious", "1", 0o600);
    let found = fs::metadata(&precious).unwrap();
    let shown = precious.display();
    let datagrams = UnixDatagram::bind(dir.path().join("datagrams")).unwrap();
    let listener = UnixListener::bind(dir.path().join("listener")).unwrap();
    for (fd, facts) in [
        (datagrams.as_raw_fd(), format!("notify_socket 8\nnotify_path {shown}")),
        (listener.as_raw_fd(), format!("socket 8 unix {}.{}.600 x:{shown}", found.dev(), found.ino())),
    ] {
        let state = format!("3\n{STATE}child_generation 1\nchild $child\n{facts}");
        let setup = forged(&state, &["-v", "--", "sleep", "1000"]).with(|command| {
            before_exec(command, move || {
                // SAFETY: has no preconditions.
                unsafe { nix::libc::dup2(fd, 8) };
            });
        });
        let run = setup.start();
        run.said("took over");
        assert_eq!(run.stop().shell(), 143);
        assert!(precious.exists(), "{facts}");
    }
}

#[test]
fn a_forged_state_that_cannot_be_read_does_no_harm() {
    let whole = format!("3\n{STATE}child_generation 1\nchild $child\n");
    let too_new = whole.replacen('3', "4", 1);
    let truncated = &whole[..whole.find("shared_group").unwrap()];
    for (state, line) in [
        (too_new.as_str(), "its format is '4'"),
        (truncated, "it has no 'shared_group'"),
        ("moon\nwriter hupwrap 9.9.9", "its format is 'moon'"),
    ] {
        let run = forged(state, &["-v", "--", "sleep", "1000"]).start();
        run.said(line);
        run.said("took over");
        assert_eq!(run.stop().shell(), 143, "{state}");
    }
    // A pipe that no hupwrap has filled is nothing at all.
    let ended = forged("3\nchild 1", &["--", "sh", "-c", "echo $HUPWRAP_GENERATION"]).end();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("1\n", ""));
}
