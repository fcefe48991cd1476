//! The commands that ask another hupwrap for something, by the status file that it writes, and wait for the answer. They
//! are told: by the file's directory when it is replaced, by a pidfd when hupwrap ends. What a file says in answer is
//! decided in [`answer`], what people see of it in [`summary`]; both are pure.

pub mod answer;
pub mod summary;

use crate::facts::Time;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::config::{Form, Limit, Shown, Wait};
use crate::exit::{Ending, OWN_FAILURE, TIMED_OUT};
use crate::report::{self, Ticker};
use crate::signal::Signal;
use crate::sys::files::read_trusted;
use crate::sys::inotify::FileWatch;
use crate::sys::pidfd::PidFd;
use crate::sys::signals::Interrupt;
use crate::sys::startup::Startup;
use crate::sys::{clock, hold_stdio, signals, terminal};
use crate::text::status_file::{self, Read};
use answer::Answer;

/// The answer is no.
const NO: u8 = 1;
/// As a shell shows an end by INT.
const INTERRUPTED: u8 = 130;
/// How often the line on a terminal is written anew.
const TICK: Duration = Duration::from_secs(1);

/// Asks, and waits.
///
/// # Errors
/// One line: nothing runs there, or it cannot be asked.
pub fn run(wait: &Wait, startup: &Startup) -> Result<Ending, String> {
    hold_stdio();
    let interrupt = match wait.form {
        Form::Status => None,
        // Without it Ctrl-C ends the waiting as it ends every program.
        Form::Reload | Form::Stop | Form::WaitReady => Interrupt::new().ok().flatten(),
    };
    let mut mask = startup.mask;
    // A line that nobody reads is not worth the answer.
    [Signal::PIPE, Signal::XFSZ, Signal::TTOU].into_iter().for_each(|signal| mask.insert(signal));
    signals::set_mask(mask);
    let named = |error| format!("{} '{}': {error}", wait.form.option(), wait.file.to_string_lossy());
    let (code, said) = match ask(wait, interrupt) {
        Ok(end) => end,
        Err(error) => (OWN_FAILURE, Some(error)),
    };
    said.iter().for_each(|said| report::complain(&named(said)));
    Ok(Ending::Own(code))
}

/// The exit status, and what is said with it.
type End = (u8, Option<String>);

fn ask(wait: &Wait, interrupt: Option<Interrupt>) -> Result<End, String> {
    let path = Path::new(&wait.file);
    let news = match wait.form {
        // Before the first look, so that no change is missed.
        Form::Reload | Form::WaitReady => Some(FileWatch::of(path)?),
        Form::Stop | Form::Status => None,
    };
    let seen = status_file::read(&read_trusted(path)?)?;
    let process = PidFd::new(seen.pid, seen.pid_start).map_err(|error| match error {
        Errno::EACCES => format!("/proc does not show pid {}, so that it cannot be told from another", seen.pid),
        error => format!("pid {} cannot be watched: {}", seen.pid, error.desc()),
    })?;
    let Some(process) = process else {
        return Err(format!("nothing runs there: its hupwrap, pid {}, has ended", seen.pid));
    };
    let asked = clock::now();
    match wait.form {
        Form::Status => {
            let now = summary::Now { time: asked, age: clock::age(seen.pid_start) };
            report::print(&summary::text(&seen, now));
            return Ok((if seen.ready { 0 } else { NO }, None));
        }
        Form::Reload => match answer::wanted(&seen.on_hup) {
            Ok(_) => send(&process, Signal::HUP, &seen)?,
            Err(why) => return Ok((NO, Some(why))),
        },
        Form::Stop => send(&process, Signal::TERM, &seen)?,
        Form::WaitReady => {}
    }
    let deadline = match wait.timeout {
        Limit::After(limit) => Some(asked.saturating_add(limit)),
        Limit::Never => None,
    };
    let mut waiting = Waiting { wait, process, news, interrupt, seen, asked, deadline };
    let mut ticker = Ticker::default();
    let end = waiting.end(&mut ticker);
    ticker.clear();
    end
}

fn send(process: &PidFd, signal: Signal, seen: &Read) -> Result<(), String> {
    process.kill(signal).map_err(|error| match error {
        Errno::ESRCH => format!("nothing runs there: its hupwrap, pid {}, has ended", seen.pid),
        Errno::EPERM => format!("you may not send {signal} to pid {}; want root, or the user whose it is", seen.pid),
        error => format!("{signal} cannot be sent to pid {}: {}", seen.pid, error.desc()),
    })
}

struct Waiting<'a> {
    wait: &'a Wait,
    process: PidFd,
    news: Option<FileWatch>,
    interrupt: Option<Interrupt>,
    /// What the file said last.
    seen: Read,
    /// When it was asked.
    asked: Time,
    deadline: Option<Time>,
}

impl Waiting<'_> {
    fn end(&mut self, ticker: &mut Ticker) -> Result<End, String> {
        loop {
            // Looked at first: what it wrote last is read then.
            let ended = self.process.has_ended();
            let changed = match &mut self.news {
                // When it has ended that is what there is to say, and not that its directory went with it.
                Some(news) => match news.take() {
                    Err(_) if !ended => {
                        return Err(format!(
                            "its directory is gone: what becomes of pid {} cannot be told",
                            self.seen.pid
                        ));
                    }
                    taken => taken.unwrap_or(false),
                },
                None => false,
            };
            if changed || ended {
                self.look();
            }
            match answer::to(self.wait.form, &self.seen, self.asked, ended) {
                Some(Answer::Yes) => return Ok((0, None)),
                Some(Answer::No(why)) => return Ok((NO, Some(why))),
                Some(Answer::Gone(how)) => return Err(how),
                None => {}
            }
            let now = clock::now();
            let waited = now.saturating_sub(self.asked);
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                let why =
                    format!("{} within {}; it goes on", answer::not_yet(self.wait.form, &self.seen), Shown(waited));
                return Ok((TIMED_OUT, Some(why)));
            }
            let columns = terminal::columns();
            if let Some(columns) = columns {
                ticker.show(&self.line(waited), columns);
            }
            if self.sleep(now, columns.map(|_| next_tick(self.asked, now))) {
                let goes_on = match self.wait.form {
                    Form::Reload => "the reload goes on",
                    Form::Stop => "the stop goes on",
                    Form::Status | Form::WaitReady => "hupwrap goes on",
                };
                return Ok((INTERRUPTED, Some(format!("no longer waiting; {goes_on} without you, see --status"))));
            }
        }
    }

    /// Reads the file once more. One that is no good, or another's, says nothing new.
    fn look(&mut self) {
        let read = read_trusted(Path::new(&self.wait.file)).and_then(|text| status_file::read(&text));
        if let Ok(read) = read
            && (read.pid, read.pid_start) == (self.seen.pid, self.seen.pid_start)
        {
            self.seen = read;
        }
    }

    /// Sleeps until there is news, or until then. Returns whether Ctrl-C came.
    fn sleep(&self, now: Time, tick: Option<Time>) -> bool {
        let until = self.deadline.into_iter().chain(tick).min();
        let left = until.map(|until| TimeSpec::from_duration(until.saturating_sub(now)));
        let others = [self.news.as_ref().map(AsFd::as_fd), self.interrupt.as_ref().map(AsFd::as_fd)];
        let fds = [Some(self.process.as_fd())].into_iter().chain(others).flatten();
        let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Whatever goes wrong here shows again at once, or is over.
        let _ = ppoll(&mut fds, left, None);
        self.interrupt.as_ref().is_some_and(Interrupt::came)
    }

    fn line(&self, waited: Duration) -> String {
        let waited = Duration::from_secs(waited.as_secs());
        let of = match self.wait.timeout {
            Limit::After(limit) => format!(" of {}", Shown(limit)),
            Limit::Never => String::new(),
        };
        format!("hupwrap: {}; {}{of}", answer::awaited(self.wait.form, &self.seen), humantime::format_duration(waited))
    }
}

/// The next full second of the waiting.
fn next_tick(asked: Time, now: Time) -> Time {
    let seconds = now.saturating_sub(asked).as_secs();
    asked.saturating_add(Duration::from_secs(seconds)).saturating_add(TICK)
}
