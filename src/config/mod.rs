//! What the command line means: closed enums, checked combinations. Pure.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::cli::Args;
use crate::exit::ExitStatus;
use crate::signal::{Signal, SignalSet};
use crate::text::listen::{self, Endpoint, FIRST_FD, Listen};
use crate::text::words;

/// What a signal sent to hupwrap means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The child is stopped, then started again.
    Restart,
    /// A new child is started; when it is ready, the old one is stopped.
    Replace,
    /// hupwrap re-executes itself; the new one stops the child and starts it again.
    Reexec,
    /// hupwrap re-executes itself; the new one replaces the child.
    UpgradeReplace,
    /// hupwrap re-executes itself; the child lives on.
    Upgrade,
    /// The child gets the signal, or another in its place.
    Forward(Option<Signal>),
    /// The child is stopped for good, by this signal; without one by `--stop-signal` for TERM, by itself for others.
    Stop(Option<Signal>),
    /// Nothing.
    Ignore,
    /// Not caught: the kernel's own default holds. For faults, CHLD, KILL and STOP.
    LeftAlone,
}

impl Action {
    /// Whether somebody asks for something new by it: a child, a hupwrap, or both.
    pub fn is_request(self) -> bool {
        matches!(self, Self::Restart | Self::Replace | Self::Reexec | Self::UpgradeReplace | Self::Upgrade)
    }
}

/// The actions as `--on` takes them. The completions and the man page name the same.
pub const ACTIONS: [&str; 8] =
    ["restart", "reexec", "replace", "upgrade", "upgrade+replace", "forward", "stop", "ignore"];

impl FromStr for Action {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (name, with) = match word.split_once(':') {
            Some((name, signal)) => {
                (name, Some(signal.parse::<Signal>().map_err(|error| format!("'{signal}': {error}"))?))
            }
            None => (word, None),
        };
        match (name, with) {
            ("restart", None) => Ok(Self::Restart),
            // The short name stands for the long one.
            ("reexec" | "upgrade+restart", None) => Ok(Self::Reexec),
            ("replace", None) => Ok(Self::Replace),
            ("upgrade+replace", None) => Ok(Self::UpgradeReplace),
            ("upgrade", None) => Ok(Self::Upgrade),
            ("forward", with) => Ok(Self::Forward(with)),
            ("stop", with) => Ok(Self::Stop(with)),
            ("ignore", None) => Ok(Self::Ignore),
            (name, Some(_)) if ACTIONS.contains(&name) => {
                Err(format!("'{name}' takes no signal; forward:SIG and stop:SIG do"))
            }
            _ => Err(format!("no such action; the actions are {}", ACTIONS.join(", "))),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Reexec => "reexec",
            Self::UpgradeReplace => "upgrade+replace",
            Self::Upgrade => "upgrade",
            Self::Forward(None) => "forward",
            Self::Stop(None) => "stop",
            Self::Forward(Some(signal)) => return write!(f, "forward:{signal}"),
            Self::Stop(Some(signal)) => return write!(f, "stop:{signal}"),
            Self::Ignore | Self::LeftAlone => "ignore",
        };
        f.write_str(name)
    }
}

/// What each signal means.
#[derive(Clone, PartialEq, Eq)]
pub struct SignalTable {
    actions: [Action; 65],
    named: SignalSet,
}

impl SignalTable {
    /// What the signal means.
    pub fn of(&self, signal: Signal) -> Action {
        self.actions.get(signal.index()).copied().unwrap_or(Action::LeftAlone)
    }

    /// Whether `--on` or `--on-hup` named the signal.
    pub fn is_named(&self, signal: Signal) -> bool {
        self.named.contains(signal)
    }

    fn set(&mut self, signal: Signal, action: Action) {
        self.named.insert(signal);
        if let Some(slot) = self.actions.get_mut(signal.index()) {
            *slot = action;
        }
    }
}

impl Default for SignalTable {
    /// The signal table of the contract, section 2.
    fn default() -> Self {
        let mut actions = Self { actions: [Action::LeftAlone; 65], named: SignalSet::EMPTY };
        for signal in Signal::all() {
            let action = match signal {
                Signal::HUP => Action::Restart,
                Signal::TERM | Signal::INT | Signal::QUIT => Action::Stop(None),
                Signal::CHLD => Action::LeftAlone,
                _ if signal.is_fault() || !signal.can_be_caught() => Action::LeftAlone,
                _ => Action::Forward(None),
            };
            actions.set(signal, action);
        }
        actions.named = SignalSet::EMPTY;
        actions
    }
}

impl fmt::Debug for SignalTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Signal::all().map(|signal| (signal, self.of(signal)))).finish()
    }
}

/// An upper bound on waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// No bound.
    Never,
    /// At most this long.
    After(Duration),
}

/// Who is signalled, and what becomes of the rest of a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KillMode {
    /// The child; when it has ended, what remains of its generation.
    #[default]
    Mixed,
    /// Only ever the child.
    Process,
    /// The child's whole process group.
    Group,
}

/// The process group of the child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// The child leads its own.
    Own,
    /// It is hupwrap's.
    Shared,
}

/// When a child is ready.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ready {
    /// When it executes.
    Exec,
    /// When it sends `READY=1` to its NOTIFY_SOCKET (sd_notify(3)).
    Notify,
    /// When it writes a newline to this descriptor (s6's notification-fd).
    Fd(i32),
    /// When it has lived for this long.
    Delay(Duration),
    /// When a connection is accepted there.
    Tcp(Endpoint),
    /// When this command, as words, ends with 0.
    Cmd(Vec<OsString>),
}

/// When the child is started again by itself, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restart {
    /// After which ends.
    pub when: When,
    /// The wait before the first restart in a row.
    pub delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// How long a child must have been ready for the count to start afresh.
    pub reset: Duration,
    /// When to give up.
    pub limit: Option<RestartLimit>,
    /// After which ends it is not.
    pub never_on: Vec<ExitStatus>,
}

/// After which ends the child is started again by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum When {
    /// None.
    #[default]
    No,
    /// A status other than 0, and a death by a signal other than those that ask for an end.
    OnFailure,
    /// Every one.
    Always,
}

/// How many restarts are too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartLimit {
    /// So many are allowed.
    pub count: u32,
    /// Within the last so much time; without it, in a row.
    pub within: Option<Duration>,
}

impl Restart {
    /// Whether a child that ended so is to be started again. HUP, INT, TERM and PIPE ask for an end, and are no failure.
    pub fn wants(&self, outcome: ExitStatus) -> bool {
        let is_failure = match outcome {
            ExitStatus::Exited(code) => code != 0,
            ExitStatus::Killed(signal) => ![Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE].contains(&signal),
        };
        let wanted = match self.when {
            When::No => false,
            When::OnFailure => is_failure,
            When::Always => true,
        };
        wanted && !self.never_on.contains(&outcome)
    }
}

/// How hupwrap's own lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object in a line.
    Json,
}

/// How much hupwrap says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// What went wrong.
    Error,
    /// What is remarkable.
    #[default]
    Info,
    /// Every start, end and signal.
    Debug,
}

/// What `--map-status` says: from how a child ended to a status.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusMap(Vec<(ExitStatus, u8)>);

impl StatusMap {
    /// The outcome as the world is to see it. Applied once: what comes out is not mapped again.
    pub fn map(&self, outcome: ExitStatus) -> ExitStatus {
        let to = self.0.iter().rev().find(|(from, _)| *from == outcome).map(|(_, to)| ExitStatus::Exited(*to));
        to.unwrap_or(outcome)
    }
}

/// Everything the command line decides.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// What each signal means.
    pub on: SignalTable,
    /// What asks the child to end.
    pub stop_signal: Signal,
    /// The explicit bound on a stop; without one it depends on who asked.
    pub stop_timeout: Option<Limit>,
    /// Who is stopped.
    pub kill_mode: KillMode,
    /// The child's group, where it was said.
    pub group: Option<Group>,
    /// Whether the child gets TERM when hupwrap is killed.
    pub tether: bool,
    /// What hupwrap gets when its parent ends.
    pub parent_death: Option<Signal>,
    /// How statuses change on the way out.
    pub map_status: StatusMap,
    /// The command that must end with 0 before a request is acted upon, as words; empty where there is none.
    pub check: Vec<OsString>,
    /// How long it may take.
    pub check_timeout: Limit,
    /// The sockets the child is given.
    pub listen: Vec<Listen>,
    /// When a child is ready.
    pub ready: Ready,
    /// When one is that was started beside another.
    pub ready_beside: Ready,
    /// How long it may take to be.
    pub ready_timeout: Limit,
    /// How long both run after the new one is ready.
    pub overlap: Duration,
    /// Files with more of the environment, read at every start.
    pub env_files: Vec<OsString>,
    /// The child's working directory, where it is not hupwrap's.
    pub workdir: Option<OsString>,
    /// When the child is started again by itself.
    pub restart: Restart,
    /// Where hupwrap's pid is written.
    pub pidfile: Option<OsString>,
    /// Where it is written how things are.
    pub status_file: Option<OsString>,
    /// How hupwrap's own lines look.
    pub log_format: LogFormat,
    /// How much of them is said.
    pub log_level: Level,
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
}

impl Config {
    /// Makes sense of the command line.
    ///
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub fn new(args: Args) -> Result<Self, String> {
        if args.command.is_empty() {
            return Err("no command given; usage: hupwrap [OPTIONS] [--] COMMAND [ARG]...".to_owned());
        }
        let mut on = SignalTable::default();
        for (place, said) in args.on.iter().enumerate() {
            if place == args.on_before_on_hup {
                on_hup(&mut on, &args)?;
            }
            let (signal, action) = each("--on", said, |said| {
                let (signal, action) = said.split_once('=').ok_or("want SIGNAL=ACTION, such as USR1=restart")?;
                let action = action.parse::<Action>().map_err(|error| format!("'{action}': {error}"))?;
                Ok::<_, String>((signal.parse::<Signal>().map_err(|error| format!("'{signal}': {error}"))?, action))
            })?;
            if !signal.can_be_caught() {
                return Err(format!("--on '{said}': no program can catch {signal}; name another signal"));
            }
            on.set(signal, action);
        }
        if args.on.len() <= args.on_before_on_hup {
            on_hup(&mut on, &args)?;
        }
        let optional = |option, said: &Option<String>| {
            said.as_deref().map(|said| each(option, said, str::parse::<Signal>)).transpose()
        };
        let listen = args
            .listen
            .iter()
            .map(|said| each("--listen", said, str::parse::<Listen>))
            .collect::<Result<Vec<_>, _>>()?;
        let ready = args.ready.as_deref().map(|said| each("--ready", said, readiness)).transpose()?;
        listen::check_distinct(&listen)?;
        let limit_of = |option, said: &Option<String>, default| {
            said.as_deref().map_or(Ok(Limit::After(default)), |said| each(option, said, limit))
        };
        Ok(Self {
            restart: restart(&args)?,
            pidfile: args.pidfile,
            status_file: args.status_file,
            log_format: match args.log_format.as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(other) => return Err(format!("--log-format '{other}': want text or json")),
            },
            log_level: match (args.quiet, args.verbose) {
                (true, true) => return Err("--quiet and --verbose: want one of them".to_owned()),
                (true, false) => Level::Error,
                (false, true) => Level::Debug,
                (false, false) => Level::Info,
            },
            check: args
                .check
                .as_deref()
                .map(|said| each("--check", said, words::split))
                .transpose()?
                .unwrap_or_default(),
            check_timeout: limit_of("--check-timeout", &args.check_timeout, CHECK_TIMEOUT)?,
            ready_timeout: limit_of("--ready-timeout", &args.ready_timeout, READY_TIMEOUT)?,
            overlap: args.overlap.as_deref().map_or(Ok(Duration::ZERO), |said| each("--overlap", said, duration))?,
            ready_beside: ready.clone().unwrap_or(Ready::Delay(READY_DELAY)),
            ready: ready.unwrap_or(Ready::Exec),
            listen,
            env_files: args.env_file,
            workdir: args.workdir,
            on,
            stop_signal: optional("--stop-signal", &args.stop_signal)?.unwrap_or(Signal::TERM),
            stop_timeout: args.stop_timeout.as_deref().map(|said| each("--stop-timeout", said, limit)).transpose()?,
            kill_mode: match args.kill_mode.as_deref() {
                None | Some("mixed") => KillMode::Mixed,
                Some("process") => KillMode::Process,
                Some("group") => KillMode::Group,
                Some(other) => return Err(format!("--kill-mode '{other}': want mixed, process or group")),
            },
            group: match args.group.as_deref() {
                None => None,
                Some("own") => Some(Group::Own),
                Some("shared") => Some(Group::Shared),
                Some(other) => return Err(format!("--group '{other}': want own or shared")),
            },
            tether: !args.no_tether,
            parent_death: optional("--parent-death", &args.parent_death)?,
            map_status: StatusMap(
                args.map_status.iter().map(|said| each("--map-status", said, mapping)).collect::<Result<_, _>>()?,
            ),
            command: args.command,
        })
    }
}

impl Config {
    /// Whether a signal can have a new child started beside the old one.
    pub fn replaces(&self) -> bool {
        self.on.actions.iter().any(|action| matches!(action, Action::Replace | Action::UpgradeReplace))
    }
}

/// What is asked of the hupwrap that writes a status file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// That it takes HUP, and what came of it.
    Reload,
    /// That it ends.
    Stop,
    /// How it is.
    Status,
    /// That its child is ready.
    WaitReady,
}

impl Form {
    /// Its option.
    pub fn option(self) -> &'static str {
        match self {
            Self::Reload => "--reload",
            Self::Stop => "--stop",
            Self::Status => "--status",
            Self::WaitReady => "--wait-ready",
        }
    }
}

/// A command line without a COMMAND.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// What is asked.
    pub form: Form,
    /// The status file that says whom.
    pub file: OsString,
    /// How long the answer may take.
    pub timeout: Limit,
}

impl Wait {
    /// Makes sense of the command line, which has one of the forms.
    ///
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub fn new(args: &Args) -> Result<Self, String> {
        let Args { reload, stop, status, wait_ready, .. } = args;
        let forms = [(Form::Reload, reload), (Form::Stop, stop), (Form::Status, status), (Form::WaitReady, wait_ready)];
        let said = forms.into_iter().find_map(|(form, file)| Some((form, file.clone()?)));
        let (form, file) = said.ok_or("want one of --reload, --stop, --status and --wait-ready")?;
        if file.is_empty() {
            return Err(format!("{} '': want the file that --status-file names", form.option()));
        }
        let timeout =
            args.timeout.as_deref().map_or(Ok(Limit::After(TIMEOUT)), |said| each("--timeout", said, limit))?;
        Ok(Self { form, file, timeout })
    }
}

/// How long a waiting command waits, where nobody said otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// `--on-hup` is `--on HUP=`, at its place among the others.
fn on_hup(on: &mut SignalTable, args: &Args) -> Result<(), String> {
    if let Some(said) = args.on_hup.last() {
        on.set(Signal::HUP, each("--on-hup", said, str::parse)?);
    }
    Ok(())
}

/// Parses one option's value; the error names both.
fn each<T, E: fmt::Display>(option: &str, said: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, String> {
    parse(said).map_err(|error| format!("{option} '{said}': {error}"))
}

/// How long a check may take, where nobody said otherwise.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a child may take to be ready, where nobody said otherwise.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a new child must live beside the old one, where nobody said how it shows that it is ready.
const READY_DELAY: Duration = Duration::from_secs(1);

fn restart(args: &Args) -> Result<Restart, String> {
    let time = |option, said: &Option<String>, default| {
        said.as_deref().map_or(Ok(default), |said| each(option, said, duration))
    };
    let delay = time("--restart-delay", &args.restart_delay, RESTART_DELAY)?;
    let max_delay = time("--restart-max-delay", &args.restart_max_delay, RESTART_MAX_DELAY.max(delay))?;
    if let (true, Some(said)) = (max_delay < delay, &args.restart_max_delay) {
        return Err(format!(
            "--restart-max-delay '{said}': shorter than --restart-delay, {}; want at least that",
            Shown(delay)
        ));
    }
    let lists =
        args.no_restart_on.iter().map(|said| each("--no-restart-on", said, outcomes)).collect::<Result<Vec<_>, _>>()?;
    Ok(Restart {
        when: match args.restart.as_deref() {
            None | Some("no") => When::No,
            Some("on-failure") => When::OnFailure,
            Some("always") => When::Always,
            Some(other) => return Err(format!("--restart '{other}': want no, on-failure or always")),
        },
        delay,
        max_delay,
        reset: time("--restart-reset", &args.restart_reset, RESTART_RESET)?,
        limit: args.restart_limit.as_deref().map(|said| each("--restart-limit", said, restart_limit)).transpose()?,
        never_on: lists.concat(),
    })
}

fn restart_limit(said: &str) -> Result<RestartLimit, String> {
    let (count, within) = said.split_once('/').map_or((said, None), |(count, within)| (count, Some(within)));
    let count = match count.bytes().all(|b| b.is_ascii_digit()) {
        true => count.parse().ok(),
        false => None,
    };
    let within = within.map(duration).transpose()?;
    match (count, within) {
        (Some(count), Some(_)) if count > MOST_REMEMBERED => {
            Err(format!("hupwrap remembers {MOST_REMEMBERED} restarts; want fewer within that time"))
        }
        (_, Some(Duration::ZERO)) | (None, _) => {
            Err("want N or N/T, such as 5 (in a row) or 5/1m (within a minute)".to_owned())
        }
        (Some(count), within) => Ok(RestartLimit { count, within }),
    }
}

/// The outcomes in a list such as `0,64,TERM`.
fn outcomes(said: &str) -> Result<Vec<ExitStatus>, &'static str> {
    said.split(',')
        .map(|word| outcome(word).ok_or("want statuses from 0 to 255 and signals' names, such as 0,64,TERM"))
        .collect()
}

/// The wait before the first restart, where nobody said otherwise.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// The longest wait, where nobody said otherwise.
const RESTART_MAX_DELAY: Duration = Duration::from_secs(60);
/// How long a child must have been ready for the count to start afresh, where nobody said otherwise.
const RESTART_RESET: Duration = Duration::from_secs(60);
/// How many restarts are remembered at most, for `N/T`.
const MOST_REMEMBERED: u32 = 1000;

fn readiness(said: &str) -> Result<Ready, String> {
    const WANT: &str = "want exec, notify, fd:N, delay:T, tcp:HOST:PORT or cmd:CMD";
    let (kind, with) = said.split_once(':').map_or((said, None), |(kind, with)| (kind, Some(with)));
    match (kind, with) {
        ("exec", None) => Ok(Ready::Exec),
        ("notify", None) => Ok(Ready::Notify),
        ("fd", Some(fd)) => match fd.parse::<i32>() {
            Ok(fd) if fd >= FIRST_FD => Ok(Ready::Fd(fd)),
            _ => Err("want a descriptor from 3 on, such as fd:3".to_owned()),
        },
        ("delay", Some(time)) => duration(time).map(Ready::Delay),
        ("tcp", Some(address)) => match address.parse::<Endpoint>()? {
            Endpoint { port: 0, .. } => Err("nobody accepts connections on port 0; want the child's port".to_owned()),
            endpoint => Ok(Ready::Tcp(endpoint)),
        },
        ("cmd", Some(command)) => words::split(command).map(Ready::Cmd),
        _ => Err(WANT.to_owned()),
    }
}

fn mapping(said: &str) -> Result<(ExitStatus, u8), &'static str> {
    const WANT: &str = "want FROM=TO; FROM is 0 to 255 or a signal's name, TO is 0 to 255";
    let (from, to) = said.split_once('=').ok_or(WANT)?;
    Ok((outcome(from).ok_or(WANT)?, code(to).ok_or(WANT)?))
}

/// How a child can end: a status from 0 to 255, or a signal's name. A number is a status, never a signal.
fn outcome(word: &str) -> Option<ExitStatus> {
    match word.starts_with(|c: char| c.is_ascii_digit()) {
        true => code(word).map(ExitStatus::Exited),
        false => word.parse().ok().map(ExitStatus::Killed),
    }
}

fn code(word: &str) -> Option<u8> {
    // The parser of u8 would take a sign.
    word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

/// The longest time anybody means.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Reads a duration of the contract, section 12, or `never`.
///
/// # Errors
/// Says what would be right.
pub fn limit(said: &str) -> Result<Limit, String> {
    if said == "never" {
        return Ok(Limit::Never);
    }
    duration(said).map(Limit::After)
}

/// Reads a duration: `10s`, `1m30s`, `250ms`, a bare number of seconds (`1.5`).
fn duration(said: &str) -> Result<Duration, String> {
    const WANT: &str = "want a duration such as 10s, 1m30s, 250ms or 1.5 (seconds)";
    let bare = !said.is_empty() && said.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds = if bare {
        said.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    } else {
        // humantime knows months and years; nobody waits that long, and `1M` is mistyped more often than meant.
        let unit = |unit: &&str| matches!(*unit, "M" | "month" | "months" | "y" | "yr" | "year" | "years");
        if let Some(unit) = said.split(|c: char| !c.is_ascii_alphabetic()).find(unit) {
            let hint = match unit {
                "M" => format!(": did you mean '{}'?", said.replace('M', "m")),
                _ => String::new(),
            };
            let name = if unit.starts_with(['M', 'm']) { "a month" } else { "a year" };
            return Err(format!("'{unit}' is {name}, longer than hupwrap waits{hint}"));
        }
        humantime::parse_duration(said).ok()
    };
    match seconds {
        Some(time) if time > LONGEST => {
            Err("more than ten years; want a shorter time or, where it makes sense, 'never'".to_owned())
        }
        Some(time) => Ok(time),
        None if bare && said.bytes().filter(|b| *b == b'.').count() <= 1 && said != "." => {
            Err("more than ten years; want a shorter time or, where it makes sense, 'never'".to_owned())
        }
        None => Err(WANT.to_owned()),
    }
}

/// A duration for people.
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two figures are enough for people: 2.1s, 412ms.
        let Self(time) = self;
        match time.as_millis() {
            0 => write!(f, "{}", humantime::format_duration(*time)),
            1..1000 => write!(f, "{}ms", time.as_millis()),
            1000..60_000 if time.subsec_millis() >= 100 => write!(f, "{:.1}s", time.as_secs_f64()),
            _ => write!(f, "{}", humantime::format_duration(Duration::from_secs(time.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Args)) -> Result<Config, String> {
        let mut args = Args { command: vec!["true".into()], ..Args::default() };
        change(&mut args);
        Config::new(args)
    }

    fn on(said: &[&str]) -> Result<Config, String> {
        config(|args| args.on = said.iter().map(|&said| said.to_owned()).collect())
    }

    #[test]
    fn the_signal_table() {
        let on = config(|_| ()).unwrap().on;
        for signal in Signal::all() {
            let want = match signal.number() {
                1 => Action::Restart,
                2 | 3 | 15 => Action::Stop(None),
                4 | 5 | 6 | 7 | 8 | 11 | 31 | 9 | 17 | 19 => Action::LeftAlone,
                _ => Action::Forward(None),
            };
            assert_eq!(on.of(signal), want, "{signal}");
        }
    }

    #[test]
    fn the_last_meaning_counts() {
        let on = on(&["USR1=restart", "sigusr1=stop:KILL", "SEGV=forward", "RTMIN+3=upgrade", "HUP=upgrade+restart"])
            .unwrap()
            .on;
        let of = |name: &str| on.of(name.parse().unwrap());
        assert_eq!(of("USR1"), Action::Stop(Some(Signal::KILL)));
        assert_eq!(of("SEGV"), Action::Forward(None));
        assert_eq!(of("RTMIN+3"), Action::Upgrade);
        assert_eq!(of("HUP"), Action::Reexec);
    }

    #[test]
    fn on_hup_is_one_of_them() {
        let hup = |line: &str| {
            let words: Vec<_> = line.split(' ').map(std::ffi::OsStr::new).collect();
            let Ok(crate::cli::Said::Supervise(args)) = crate::cli::read(&words) else { panic!("{line}") };
            Config::new(args).unwrap().on.of(Signal::HUP)
        };
        assert_eq!(hup("hupwrap --on-hup ignore x"), Action::Ignore);
        assert_eq!(hup("hupwrap --on-hup ignore --on HUP=upgrade x"), Action::Upgrade);
        assert_eq!(hup("hupwrap --on HUP=upgrade --on-hup ignore x"), Action::Ignore);
        assert_eq!(hup("hupwrap --on USR1=stop --on HUP=upgrade --on-hup ignore --on USR2=stop x"), Action::Ignore);
        assert_eq!(hup("hupwrap --on-hup stop --on-hup ignore --on USR2=stop x"), Action::Ignore);
    }

    #[test]
    fn a_swap_is_applied_once() {
        let on = on(&["TERM=forward:INT", "INT=forward:TERM"]).unwrap().on;
        assert_eq!(on.of(Signal::TERM), Action::Forward(Some(Signal::INT)));
        assert_eq!(on.of(Signal::INT), Action::Forward(Some(Signal::TERM)));
    }

    #[test]
    fn meanings_that_make_no_sense() {
        for (said, error) in [
            ("KILL=stop", "--on 'KILL=stop': no program can catch KILL; name another signal"),
            ("USR1", "--on 'USR1': want SIGNAL=ACTION, such as USR1=restart"),
            (
                "USR1=reboot",
                "--on 'USR1=reboot': 'reboot': no such action; the actions are restart, reexec, replace, upgrade, upgrade+replace, forward, stop, ignore",
            ),
            (
                "USR1=restart:TERM",
                "--on 'USR1=restart:TERM': 'restart:TERM': 'restart' takes no signal; forward:SIG and stop:SIG do",
            ),
        ] {
            assert_eq!(on(&[said]).unwrap_err(), error);
        }
        for said in ["", "=", "USR1=", "=stop", "USR3=stop", "USR1=stop:", "USR1=stop:FOO", "USR1=replace:"] {
            let error = on(&[said]).unwrap_err();
            assert!(error.starts_with(&format!("--on '{said}': ")), "{error}");
        }
    }

    #[test]
    fn statuses_are_mapped_once_and_the_last_rule_counts() {
        let map = config(|args| args.map_status = ["143=0", "TERM=7", "7=8", "1=2", "1=3"].map(str::to_owned).to_vec())
            .unwrap()
            .map_status;
        assert_eq!(map.map(ExitStatus::Exited(143)), ExitStatus::Exited(0));
        assert_eq!(map.map(ExitStatus::Killed(Signal::TERM)), ExitStatus::Exited(7));
        assert_eq!(map.map(ExitStatus::Exited(1)), ExitStatus::Exited(3));
        assert_eq!(map.map(ExitStatus::Exited(9)), ExitStatus::Exited(9));
        assert_eq!(map.map(ExitStatus::Killed(Signal::KILL)), ExitStatus::Killed(Signal::KILL));
        for said in ["", "=", "1", "1=", "=1", "256=0", "0=256", "FOO=0", "0=TERM", "-1=0", "+1=0", "1=+0"] {
            let error = config(|args| args.map_status = vec![said.to_owned()]).unwrap_err();
            assert!(error.contains("want FROM=TO"), "{said}: {error}");
        }
    }

    #[test]
    fn what_is_waited_for() {
        let wait = |line: &str| {
            let words: Vec<_> = line.split(' ').map(std::ffi::OsStr::new).collect();
            let Ok(crate::cli::Said::Wait(args)) = crate::cli::read(&words) else { panic!("{line}") };
            Wait::new(&args)
        };
        let minute = Limit::After(Duration::from_secs(60));
        for (line, form, timeout) in [
            ("hupwrap --reload f", Form::Reload, minute),
            ("hupwrap --stop f --timeout never", Form::Stop, Limit::Never),
            ("hupwrap --timeout 0 --status f", Form::Status, Limit::After(Duration::ZERO)),
            ("hupwrap --wait-ready f", Form::WaitReady, minute),
        ] {
            assert_eq!(wait(line), Ok(Wait { form, file: "f".into(), timeout }), "{line}");
        }
        assert!(wait("hupwrap --stop f --timeout 1M").unwrap_err().starts_with("--timeout '1M': 'M' is a month"));
        assert_eq!(wait("hupwrap --stop="), Err("--stop '': want the file that --status-file names".to_owned()));
    }

    #[test]
    fn durations() {
        let good = [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5", 1500),
            ("0", 0),
            ("0s", 0),
            ("2h", 7_200_000),
            ("1m 30s", 90_000),
            ("3", 3000),
            (".5", 500),
            ("1min", 60_000),
        ];
        for (said, millis) in good {
            assert_eq!(limit(said), Ok(Limit::After(Duration::from_millis(millis))), "{said}");
        }
        assert_eq!(limit("never"), Ok(Limit::Never));
    }

    #[test]
    fn a_duration_for_people() {
        for (time, want) in [
            (90_500_000_000, "1m 30s"),
            (3_693_760_458, "3.7s"),
            (1_000_000_001, "1s"),
            (412_345_678, "412ms"),
            (500_000, "500us"),
            (0, "0s"),
        ] {
            assert_eq!(Shown(Duration::from_nanos(time)).to_string(), want);
        }
    }

    #[test]
    fn durations_nobody_means() {
        for said in [
            "",
            " ",
            ".",
            "-1",
            "-1s",
            "s",
            "1x",
            "1e3",
            "inf",
            "NaN",
            "1.2.3",
            "1M",
            "2months",
            "1y",
            "1year",
            "11y",
            "4000d",
            "18446744073709551615s",
            "99999999999999999999",
            "18446744073709551615h",
            "1s1M",
            "\u{661}s",
            "Never",
        ] {
            let error = limit(said).unwrap_err();
            assert!(!error.contains('\n'), "{said}: {error}");
        }
        assert_eq!(limit("1M"), Err("'M' is a month, longer than hupwrap waits: did you mean '1m'?".to_owned()));
        assert!(limit("99999999999999999999").unwrap_err().contains("ten years"));
        assert!(limit("4000d").unwrap_err().contains("ten years"));
    }
}
