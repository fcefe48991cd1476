//! The waiting commands: they ask another hupwrap, which its status file names, and wait for the answer. The directory
//! of the file reports each change, and a pidfd reports the end of hupwrap. Without them the command polls, and once a
//! second it looks anyway. What a file answers is decided in `answer`, what people see of it in [`summary`]; both are
//! pure.

mod answer;
mod found;
pub mod summary;

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::config::{Form, Limit, Shown, Wait};
use crate::exit::{Ending, OWN_FAILURE, TIMED_OUT};
use crate::facts::Time;
use crate::report::{self, Ticker};
use crate::signal::Signal;
use crate::sys::inotify::FileWatch;
use crate::sys::interrupt::{self, Interrupt};
use crate::sys::startup::Startup;
use crate::sys::{Pid, clock, hold_stdio, poll, signals, start_error, terminal};
use answer::Answer;
use found::{Found, NotFound};

/// The answer is no.
const NO: u8 = 1;
/// As a shell shows an end by INT.
const INTERRUPTED: u8 = 130;
/// How often the line on a terminal is written.
const TICK: Duration = Duration::from_secs(1);
/// How often a command looks where nothing reports a change to it.
const POLL: Duration = Duration::from_millis(100);

/// Asks, and waits.
pub(crate) fn run(wait: &Wait, startup: &Startup) -> Ending {
    hold_stdio();
    let interrupt = match wait.form {
        Form::Status => None,
        // Without a pipe for it, a signal ends the waiting as it ends every program.
        Form::Reload | Form::Stop | Form::WaitReady => Interrupt::new().ok(),
    };
    let mut mask = startup.mask;
    // Failing to print must not end the wait.
    [Signal::PIPE, Signal::XFSZ, Signal::TTOU].into_iter().for_each(|signal| mask.insert(signal));
    signals::set_mask(mask);
    let hint = startup.var("HUPWRAP_PID").and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
    let (end, said) = ask(wait, interrupt, hint).unwrap_or_else(|error| (End::Code(OWN_FAILURE), Some(error)));
    if let Some(said) = said {
        report::complain(&format!("{} '{}': {said}", wait.form.option(), wait.file.to_string_lossy()));
    }
    match end {
        End::Code(code) => Ending::Own(code),
        End::By(Signal::INT) => Ending::Own(INTERRUPTED),
        End::By(signal) => {
            interrupt::end_by(signal);
            Ending::Told(signal)
        }
    }
}

/// How the command ends.
enum End {
    /// With this status.
    Code(u8),
    /// As this signal ended the waiting.
    By(Signal),
}

/// How the command ends, and what it says with that.
type Said = (End, Option<String>);

/// `hint`: the pid of the hupwrap that this process may descend from.
fn ask(wait: &Wait, interrupt: Option<Interrupt>, hint: Option<Pid>) -> Result<Said, String> {
    let path = Path::new(&wait.file);
    let watch = match wait.form {
        // Before the first look, so that no change is missed.
        Form::Reload | Form::Stop | Form::WaitReady => Some(FileWatch::of(path)),
        Form::Status => None,
    };
    let found = match Found::at(path, wait.form) {
        Err(NotFound::Yet(why)) if wait.form == Form::WaitReady => Err(why),
        found => Ok(found.map_err(NotFound::into_line)?),
    };
    // Before the signal, which may end the child at once.
    let is_inside = found.as_ref().is_ok_and(|found| found.waits_for_us(hint));
    let asked = clock::now();
    match (&found, wait.form) {
        (Ok(found), Form::Status) => {
            let now = summary::Now { time: asked, age: clock::age(found.began) };
            report::print(&summary::text(&found.seen, now))?;
            return Ok((End::Code(if found.seen.ready { 0 } else { NO }), None));
        }
        (Ok(found), form) => {
            if let (Form::Reload, Err(why)) = (form, answer::wanted(&found.seen.on_hup)) {
                return Ok((End::Code(NO), Some(why)));
            }
            signal_of(form).map_or(Ok(()), |signal| send(found, signal))?;
        }
        (Err(_), _) => {}
    }
    let mut waiting = Waiting { wait, found, watch, interrupt, hint, is_inside, asked };
    let mut ticker = Ticker::default();
    let end = waiting.end(&mut ticker);
    ticker.clear();
    end
}

/// What it sends.
fn signal_of(form: Form) -> Option<Signal> {
    match form {
        Form::Reload => Some(Signal::HUP),
        Form::Stop => Some(Signal::TERM),
        Form::Status | Form::WaitReady => None,
    }
}

fn send(found: &Found, signal: Signal) -> Result<(), String> {
    let pid = found.seen.pid;
    found.target.kill(signal).map_err(|error| match error {
        Errno::ESRCH => found::has_ended(pid),
        Errno::EPERM => format!("you may not send {signal} to pid {pid}; want root, or the user that runs it"),
        error => format!("{signal} cannot be sent to pid {pid}: {}", start_error::describe(error)),
    })
}

struct Waiting<'a> {
    wait: &'a Wait,
    /// hupwrap and what it wrote last, or why it is not found yet.
    found: Result<Found, String>,
    watch: Option<FileWatch>,
    interrupt: Option<Interrupt>,
    /// The pid of the hupwrap that this process may descend from.
    hint: Option<Pid>,
    /// Whether hupwrap may wait for the end of this process.
    is_inside: bool,
    /// When the command asked.
    asked: Time,
}

impl Waiting<'_> {
    fn end(&mut self, ticker: &mut Ticker) -> Result<Said, String> {
        let path = Path::new(&self.wait.file);
        let form = self.wait.form;
        loop {
            // Asked before the file is read: then it is the last that hupwrap wrote.
            let ended = self.found.as_ref().is_ok_and(|found| found.target.has_ended());
            let changed = self.watch.as_mut().is_some_and(FileWatch::take);
            match &mut self.found {
                Ok(found) if changed || ended => found.look(path),
                Err(why) if changed => match Found::at(path, form) {
                    Ok(found) => {
                        self.found = Ok(found);
                        continue;
                    }
                    Err(error) => *why = error.into_line(),
                },
                _ => {}
            }
            // A child that has just begun may not be in the file yet.
            self.is_inside |= changed && self.found.as_ref().is_ok_and(|found| found.waits_for_us(self.hint));
            if let Some(signal) = signal_of(form).filter(|_| self.is_inside) {
                let why = "this command runs in the supervised child, and each would wait for the other";
                return Ok((End::Code(0), Some(format!("sent {signal}, but does not wait: {why}"))));
            }
            let now = clock::now();
            let waited = now.saturating_sub(self.asked);
            let columns = terminal::columns();
            match self.found.as_ref().ok().and_then(|found| answer::to(form, &found.seen, self.asked, ended)) {
                Some(Answer::Yes(verdict)) => {
                    if let Some(columns) = columns {
                        let took = match waited.as_millis() {
                            0 => String::new(),
                            _ => format!(", {}", Shown(waited)),
                        };
                        ticker.finish(&format!("hupwrap: {verdict}{took}"), columns);
                    }
                    return Ok((End::Code(0), None));
                }
                Some(Answer::No(why)) => return Ok((End::Code(NO), Some(why))),
                Some(Answer::Gone(how)) => return Err(how),
                Some(Answer::Lost) => {
                    let why = "there have been too many requests since, and the outcome of this one is no longer known";
                    return Ok((End::Code(TIMED_OUT), Some(why.to_owned())));
                }
                None => {}
            }
            if let (Limit::After(limit), true) = (self.wait.timeout, self.deadline().is_some_and(|at| at <= now)) {
                let why = match &self.found {
                    Ok(found) => {
                        let not_yet = answer::not_yet(form, &found.seen);
                        let continues = answer::what_continues(form, &found.seen, waited);
                        format!("{not_yet} within {}; {continues}", Shown(limit))
                    }
                    Err(why) => format!("no hupwrap was there within {}: {why}", Shown(limit)),
                };
                return Ok((End::Code(TIMED_OUT), Some(why)));
            }
            // Not at once: in the first moments a hupwrap on the same terminal prints lines of its own.
            if let Some(columns) = columns.filter(|_| waited >= TICK) {
                ticker.show(&self.line(waited), columns);
            }
            if let Some(signal) = self.sleep(now, columns.map(|_| next_tick(self.asked, now))) {
                let more = match &self.found {
                    Ok(found) => {
                        let continues = answer::what_continues(form, &found.seen, waited);
                        format!("{continues} without you, see --status")
                    }
                    Err(why) => why.clone(),
                };
                return Ok((End::By(signal), Some(format!("no longer waiting; {more}"))));
            }
        }
    }

    /// When the time is up.
    fn deadline(&self) -> Option<Time> {
        let Limit::After(limit) = self.wait.timeout else { return None };
        let grace =
            self.found.as_ref().map_or(Duration::ZERO, |found| answer::grace(self.wait.form, &found.seen, limit));
        Some(self.asked.saturating_add(limit).saturating_add(grace))
    }

    /// Sleeps until something is reported, or until then. Returns the signal that ends the waiting.
    fn sleep(&self, now: Time, tick: Option<Time>) -> Option<Signal> {
        let end = self.found.as_ref().ok().map(|found| found.target.fd());
        let change = self.watch.as_ref().map(FileWatch::fd);
        let reports: Vec<_> = [end, change].into_iter().flatten().collect();
        let polls = reports.iter().any(Option::is_none).then(|| now.saturating_add(POLL));
        let renewal = self.watch.as_ref().map(FileWatch::renewal);
        let until = [self.deadline(), tick, polls, renewal].into_iter().flatten().min();
        let left = until.map(|until| until.saturating_sub(now));
        let fds = reports.into_iter().flatten().chain(self.interrupt.as_ref().map(AsFd::as_fd));
        let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // An error here is seen again at the next look, or has passed.
        let _ = poll::wait(&mut fds, left);
        self.interrupt.as_ref().and_then(Interrupt::came)
    }

    fn line(&self, waited: Duration) -> String {
        let waited = Duration::from_secs(waited.as_secs());
        let of = match self.wait.timeout {
            Limit::After(limit) => format!(" of {}", Shown(limit)),
            Limit::Never => String::new(),
        };
        let what = match &self.found {
            Ok(found) => answer::awaited(self.wait.form, &found.seen),
            Err(_) => format!("waiting for a hupwrap behind '{}'", self.wait.file.to_string_lossy()),
        };
        format!("hupwrap: {what}; {}{of}", humantime::format_duration(waited))
    }
}

/// The next full second of the waiting.
fn next_tick(asked: Time, now: Time) -> Time {
    let seconds = now.saturating_sub(asked).as_secs();
    asked.saturating_add(Duration::from_secs(seconds)).saturating_add(TICK)
}
