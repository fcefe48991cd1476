//! A terminal, and its user.
//!
//! Nothing is read behind the test's back: what was written to the terminal waits in it until the test asks for a line.
//! So the terminal is closed at the moment the test says so, with no thread that still holds it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Instant;

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};

use super::{PATIENCE, Run, Setup, hupwrap, installed, puppet, skipped, wait_until};

/// The line that an interactive shell at a [`Terminal`] writes when it waits for a command.
pub const PROMPT: &str = "prompt";

/// A terminal: the test holds the end of the person in front of it.
pub struct Terminal {
    person: Option<PtyMaster>,
    program: OwnedFd,
    text: String,
    /// How much of the text [`Terminal::line`] has returned or skipped.
    seen: usize,
}

impl Terminal {
    /// 24 by 80. What is typed is not echoed, and Ctrl-C throws nothing away that was not read yet.
    pub fn new() -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let person = posix_openpt(flags).expect("a pty");
        grantpt(&person).expect("a pty");
        unlockpt(&person).expect("a pty");
        let program =
            open(ptsname_r(&person).expect("its name").as_str(), flags, Mode::empty()).expect("its other end");
        let mut modes = tcgetattr(&program).expect("its modes");
        modes.local_flags.remove(LocalFlags::ECHO);
        modes.local_flags.insert(LocalFlags::NOFLSH);
        modes.output_flags.remove(OutputFlags::ONLCR);
        tcsetattr(&program, SetArg::TCSANOW, &modes).expect("its modes");
        let terminal = Self { person: Some(person), program, text: String::new(), seen: 0 };
        terminal.resize(24, 80);
        terminal
    }

    fn person(&self) -> &PtyMaster {
        self.person.as_ref().expect("an open terminal")
    }

    /// The program's end, to be somebody's stdin, stdout or stderr.
    pub fn stdio(&self) -> Stdio {
        self.program.try_clone().expect("a descriptor").into()
    }

    /// Lets the program lead a session of its own, in the foreground of this terminal, which is its stdin, stdout and
    /// stderr. A test that is run in the background of a script has INT and QUIT ignored; here nothing is.
    pub fn lead(&self, setup: Setup) -> Setup {
        setup.env("TERM", "dumb").env("HISTFILE", "").env("PS1", format!("{PROMPT}\\n")).with(|command| {
            command.stdin(self.stdio()).stdout(self.stdio()).stderr(self.stdio());
            let ignored_by_some = [
                libc::SIGHUP,
                libc::SIGINT,
                libc::SIGQUIT,
                libc::SIGTERM,
                libc::SIGTSTP,
                libc::SIGTTIN,
                libc::SIGTTOU,
                libc::SIGPIPE,
            ];
            let become_leader = move || {
                // SAFETY: bare system calls, as between fork and exec they must be.
                unsafe {
                    for signal in ignored_by_some {
                        libc::signal(signal, libc::SIG_DFL);
                    }
                    if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            };
            // SAFETY: the closure allocates nothing and takes no lock.
            unsafe { command.pre_exec(become_leader) };
        })
    }

    /// An interactive bash with job control, which has prompted. It knows hupwrap and puppet as `$H` and `$P`.
    /// None where bash is not installed.
    pub fn shell(&mut self, test: &str) -> Option<Run> {
        let Some(bash) = installed("bash") else {
            skipped(test, "bash");
            return None;
        };
        let setup = Setup::of(bash, ["--norc", "--noprofile", "--noediting", "-i"]);
        let shell = self.lead(setup).env("H", hupwrap()).env("P", puppet()).start();
        self.prompt();
        Some(shell)
    }

    /// Whether it takes what is written to it.
    pub fn takes_output(&self) -> bool {
        poll(&mut [PollFd::new(self.program.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO) == Ok(1)
    }

    /// Types keys.
    pub fn keys(&self, keys: &str) {
        self.person().write_all(keys.as_bytes()).expect("an open terminal");
    }

    /// Types a line.
    pub fn enter(&self, line: &str) {
        self.keys(&format!("{line}\n"));
    }

    /// Waits for the shell to prompt.
    #[track_caller]
    pub fn prompt(&mut self) {
        self.line(PROMPT);
    }

    /// Everything that was read from the terminal so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many lines so far begin so.
    pub fn count(&self, beginning: &str) -> usize {
        self.text.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.starts_with(beginning)).count()
    }

    /// Waits until there is a line that begins so, wherever it comes between the others.
    #[track_caller]
    pub fn has(&mut self, beginning: &str) {
        let began = Instant::now();
        while self.count(beginning) == 0 {
            self.more(began, beginning);
        }
    }

    /// Waits for the next line that begins so; those before it are skipped.
    #[track_caller]
    pub fn line(&mut self, beginning: &str) -> String {
        let began = Instant::now();
        loop {
            for line in self.text[self.seen..].split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                self.seen += line.len();
                // What a pager leaves at the left edge is written over.
                let shown = line.trim_end().rsplit('\r').next().unwrap_or_default();
                if shown.starts_with(beginning) {
                    return shown.to_owned();
                }
            }
            self.more(began, beginning);
        }
    }

    /// Waits for a text that does not end a line.
    #[track_caller]
    pub fn shows(&mut self, part: &str) {
        let began = Instant::now();
        while !self.text[self.seen..].contains(part) {
            self.more(began, part);
        }
    }

    /// Waits until something is found in everything that was shown.
    #[track_caller]
    pub fn find<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            match find(&self.text) {
                Some(found) => return found,
                None => self.more(began, what),
            }
        }
    }

    #[track_caller]
    fn more(&mut self, began: Instant, what: &str) {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let more = self.read(PollTimeout::try_from(left).expect("a timeout"));
        assert!(more, "the terminal never showed '{what}': {:?}", self.text);
    }

    /// Reads what there is, or comes within that time.
    fn read(&mut self, timeout: PollTimeout) -> bool {
        let mut person = self.person.as_ref().expect("an open terminal");
        let mut ready = [PollFd::new(person.as_fd(), PollFlags::POLLIN)];
        let mut buffer = [0; 4096];
        match poll(&mut ready, timeout) {
            Ok(0) => false,
            Ok(_) => {
                let read = person.read(&mut buffer).unwrap_or(0);
                self.text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                read > 0
            }
            Err(_) => true,
        }
    }

    /// Waits for the `ready` line of a child: its generation and pid.
    #[track_caller]
    pub fn ready(&mut self) -> (u64, i32) {
        let line = self.line("ready ");
        let mut words = line.split(' ').skip(1);
        let generation = words.next().and_then(|word| word.parse().ok()).expect("a generation");
        (generation, words.next().and_then(|word| word.parse().ok()).expect("a pid"))
    }

    /// The process group in the foreground.
    pub fn foreground(&self) -> i32 {
        let mut group = 0;
        // SAFETY: the pointer is to an int of ours.
        let result = unsafe { libc::ioctl(self.person().as_raw_fd(), libc::TIOCGPGRP, &raw mut group) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        group
    }

    /// Waits until a program of this name leads the foreground group, and returns its pid.
    #[track_caller]
    pub fn in_front(&self, name: &str) -> i32 {
        wait_until(&format!("{name} is in the foreground"), || super::status(self.foreground(), "Name") == name);
        self.foreground()
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the pointer is to a struct of ours.
        let result = unsafe { libc::ioctl(self.person().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Closes the window, or drops the ssh.
    pub fn close(&mut self) {
        self.person = None;
    }
}
