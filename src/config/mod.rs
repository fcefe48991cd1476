//! What the command line means: closed enums and checked combinations. Pure.

mod actions;
mod duration;
mod readiness;
mod renewal;
mod restart;
mod status_map;
mod value;
mod wait;

use std::ffi::OsString;
use std::time::Duration;

pub use actions::{ACTIONS, Action, SignalTable};
pub use duration::{Limit, Shown};
pub use readiness::Ready;
pub use restart::{Restart, RestartLimit, When};
pub use status_map::StatusMap;
pub use wait::{Form, Wait};

use crate::cli::Args;
use crate::signal::Signal;
use crate::text::listen::{self, Listen};
use crate::text::words;
use duration::{duration, limit};
use readiness::readiness;
use value::{choice, not_empty, optional, repeated, signal, stop_signal};

/// Which processes are signalled, and what happens to the rest of a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KillMode {
    /// The child. When it has ended, the rest of its generation.
    #[default]
    Mixed,
    /// Only the child, always.
    Process,
    /// The child's whole process group.
    Group,
}

/// The process group of the child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// The child leads its own group.
    Own,
    /// The child is in hupwrap's group.
    Shared,
}

/// The format of hupwrap's own lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object in a line.
    Json,
}

/// How important a line is, and which lines are written.
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

/// Everything the command line decides.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// What each signal does.
    pub on: SignalTable,
    /// The signal that asks the child to end.
    pub stop_signal: Signal,
    /// The explicit bound on a stop. Without one, the bound depends on who asked for the stop.
    pub stop_timeout: Option<Limit>,
    /// Which processes are stopped.
    pub kill_mode: KillMode,
    /// The child's group, if the command line decides it.
    pub group: Option<Group>,
    /// Whether the child receives TERM when hupwrap is killed.
    pub tether: bool,
    /// What hupwrap receives when its parent ends.
    pub parent_death: Option<Signal>,
    /// How statuses change when hupwrap exits.
    pub map_status: StatusMap,
    /// The command that must exit with 0 before a request is acted upon, as words; empty without `--check`.
    pub check: Vec<OsString>,
    /// How long the check may take.
    pub check_timeout: Limit,
    /// The sockets that the child receives.
    pub listen: Vec<Listen>,
    /// When a child is ready.
    pub ready: Ready,
    /// When a child is ready that was started beside another.
    pub ready_beside: Ready,
    /// How long a child may take to be ready.
    pub ready_timeout: Limit,
    /// The file that names the main process of a generation, once the process that hupwrap started has ended.
    pub child_pidfile: Option<OsString>,
    /// How long both children run after the new one is ready.
    pub overlap: Duration,
    /// Files that add to the environment, read at every start.
    pub env_files: Vec<OsString>,
    /// The child's working directory, if it is not hupwrap's.
    pub workdir: Option<OsString>,
    /// When the child is restarted automatically.
    pub restart: Restart,
    /// The files and directories whose change acts as a HUP.
    pub watch: Vec<OsString>,
    /// How long a child may be ready before it is renewed.
    pub max_age: Option<Duration>,
    /// Where hupwrap's pid is written.
    pub pidfile: Option<OsString>,
    /// Where the current state is written.
    pub status_file: Option<OsString>,
    /// The format of hupwrap's own lines.
    pub log_format: LogFormat,
    /// Which lines are written.
    pub log_level: Level,
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
}

const DEFAULT_CHECK_TIMEOUT: Limit = Limit::After(Duration::from_secs(30));
const DEFAULT_READY_TIMEOUT: Limit = Limit::After(Duration::from_secs(60));
/// How long a new child must stay alive beside the old one without `--ready`.
const DEFAULT_READY_DELAY: Duration = Duration::from_secs(1);

impl Config {
    /// Makes sense of the command line. Invalid values are reported first, then invalid combinations.
    ///
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub fn new(mut args: Args) -> Result<Self, String> {
        let command = |said: &str| words::split("--check", "", said);
        let format = choice([("text", LogFormat::Text), ("json", LogFormat::Json)]);
        let group = choice([("own", Group::Own), ("shared", Group::Shared)]);
        let mode = choice([("mixed", KillMode::Mixed), ("process", KillMode::Process), ("group", KillMode::Group)]);
        let ready = optional("--ready", &args.ready, readiness)?;
        not_empty("--pidfile", "a file", &args.pidfile)?;
        not_empty("--status-file", "a file", &args.status_file)?;
        not_empty("--child-pidfile", "the file that the child writes its pid to", &args.child_pidfile)?;
        not_empty("--env-file", "a file", &args.env_file)?;
        not_empty("--workdir", "a directory", &args.workdir)?;
        not_empty("--watch", "a file or a directory, which need not exist yet", &args.watch)?;
        let config = Self {
            on: SignalTable::new(&args.on, &args.on_hup, args.on_before_on_hup)?,
            check: optional("--check", &args.check, command)?.unwrap_or_default(),
            check_timeout: optional("--check-timeout", &args.check_timeout, limit)?.unwrap_or(DEFAULT_CHECK_TIMEOUT),
            listen: repeated("--listen", &args.listen, str::parse::<Listen>)?,
            ready_beside: ready.clone().unwrap_or(Ready::Delay(DEFAULT_READY_DELAY)),
            ready: ready.unwrap_or(Ready::Exec),
            ready_timeout: optional("--ready-timeout", &args.ready_timeout, limit)?.unwrap_or(DEFAULT_READY_TIMEOUT),
            overlap: optional("--overlap", &args.overlap, duration)?.unwrap_or_default(),
            child_pidfile: std::mem::take(&mut args.child_pidfile),
            env_files: std::mem::take(&mut args.env_file),
            workdir: std::mem::take(&mut args.workdir),
            group: optional("--group", &args.group, group)?,
            stop_signal: optional("--stop-signal", &args.stop_signal, stop_signal)?.unwrap_or(Signal::TERM),
            stop_timeout: optional("--stop-timeout", &args.stop_timeout, limit)?,
            kill_mode: optional("--kill-mode", &args.kill_mode, mode)?.unwrap_or_default(),
            tether: !args.no_tether,
            parent_death: optional("--parent-death", &args.parent_death, signal)?,
            map_status: StatusMap::new(&args.map_status)?,
            restart: Restart::new(&args)?,
            watch: args.watch.clone(),
            max_age: renewal::max_age(&args)?,
            pidfile: std::mem::take(&mut args.pidfile),
            status_file: std::mem::take(&mut args.status_file),
            log_format: optional("--log-format", &args.log_format, format)?.unwrap_or_default(),
            log_level: match (args.quiet, args.verbose) {
                (true, _) => Level::Error,
                (false, true) => Level::Debug,
                (false, false) => Level::Info,
            },
            command: std::mem::take(&mut args.command),
        };
        optional("--timeout", &args.timeout, limit)?;
        config.check_combinations(&args)?;
        Ok(config)
    }

    /// Looks for options that contradict each other, and for options that have no effect.
    fn check_combinations(&self, args: &Args) -> Result<(), String> {
        if let Some(error) = &args.mixed {
            return Err(error.clone());
        }
        if self.command.is_empty() {
            return Err(
                "no command given; want hupwrap [OPTIONS] [--] COMMAND [ARG]..., see 'hupwrap --help'".to_owned()
            );
        }
        if args.quiet && args.verbose {
            return Err("--quiet and --verbose: want one of them".to_owned());
        }
        listen::check_distinct(&self.listen)?;
        self.restart.check(args, &self.map_status)?;
        renewal::check(args, self.on.of(Signal::HUP))?;
        // A forward is checked if the command line names it, not if it is the default.
        let is_checked = |signal| match self.on.of(signal) {
            Action::Forward(_) => self.on.is_named(signal),
            action => action.is_request(),
        };
        let is_checked = Signal::all().any(is_checked);
        // With a child's pidfile, it limits the wait for that too.
        let never_ready = self.child_pidfile.is_none()
            && matches!((&self.ready, self.ready_timeout), (Ready::Delay(delay), Limit::After(limit)) if limit <= *delay);
        // What counts then is a start that fails. Without `--restart`, nothing else could.
        let never_counts = self.restart.when != When::No
            && self.restart.reset.is_zero()
            && self.ready == Ready::Exec
            && matches!(self.restart.limit, Some(RestartLimit { count: 1.., within: None }));
        let useless = [
            (
                "--check",
                &args.check,
                is_checked,
                "has no effect, because no signal starts anything; want another action for HUP",
            ),
            ("--check-timeout", &args.check_timeout, args.check.is_some(), "has no effect without --check; add it"),
            (
                "--overlap",
                &args.overlap,
                self.replaces(),
                "has no effect unless a signal means replace or upgrade+replace; add --on-hup replace",
            ),
            (
                "--ready-timeout",
                &args.ready_timeout,
                !never_ready,
                "no child is ready in time; want more than the delay of --ready",
            ),
            (
                "--restart-reset",
                &args.restart_reset,
                !never_counts,
                "--restart-limit never counts a restart; want more, or --restart-limit N/T",
            ),
        ];
        for (option, said, has_effect, why) in useless {
            if let Some(said) = said.as_ref().filter(|_| !has_effect) {
                return Err(format!("{option} '{said}': {why}"));
            }
        }
        Ok(())
    }

    /// Whether a signal can start a new child beside the old one.
    pub fn replaces(&self) -> bool {
        self.on.any(|action| matches!(action, Action::Replace | Action::UpgradeReplace))
    }

    /// The commands that options run, which are looked up at the start. Each with what stands before it: the option,
    /// and the beginning of its value.
    pub(crate) fn helpers(&self) -> impl Iterator<Item = (&'static str, &'static str, &[OsString])> {
        let ready = match &self.ready {
            Ready::Cmd(words) => words.as_slice(),
            _ => &[],
        };
        [("--check", "", self.check.as_slice()), ("--ready", "cmd:", ready)]
            .into_iter()
            .filter(|(_, _, words)| !words.is_empty())
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

    fn some(said: &str) -> Option<String> {
        Some(said.into())
    }

    #[test]
    fn an_option_without_effect_is_an_error() {
        let error = |change: &dyn Fn(&mut Args)| config(change).unwrap_err();
        assert_eq!(
            error(&|args| args.restart_limit = some("3")),
            "--restart-limit '3': has no effect without --restart; add --restart on-failure or --restart always"
        );
        assert!(error(&|args| args.restart_reset = some("3s")).starts_with("--restart-reset '3s': has no effect"));
        assert!(error(&|args| args.no_restart_on = vec!["3".into()]).starts_with("--no-restart-on '3': has no effect"));
        assert!(error(&|args| args.check_timeout = some("3s")).starts_with("--check-timeout '3s': has no effect"));
        assert!(error(&|args| args.overlap = some("3s")).starts_with("--overlap '3s': has no effect unless"));
        for restart in ["no", "on-failure", "always"] {
            let set = |args: &mut Args| {
                args.restart = some(restart);
                args.restart_limit = some("3");
                args.restart_reset = some("3s");
                args.no_restart_on = vec!["3".into()];
            };
            assert!(config(set).is_ok(), "{restart}");
        }
        // A later start that fails is tried again after these, whatever --restart says.
        let delays = |args: &mut Args| {
            args.restart_delay = some("1s");
            args.restart_max_delay = some("2s");
        };
        assert!(config(delays).is_ok());
        for on in ["USR1=replace", "HUP=upgrade+replace"] {
            let set = |args: &mut Args| {
                args.overlap = some("1s");
                args.on = vec![on.into()];
            };
            assert!(config(set).is_ok(), "{on}");
        }
    }

    #[test]
    fn an_option_that_another_one_defeats_is_an_error() {
        let error = |line: &str| {
            let words: Vec<_> = line.split(' ').map(std::ffi::OsStr::new).collect();
            let Ok(crate::cli::Said::Supervise(args)) = crate::cli::read(&words) else { panic!("{line}") };
            Config::new(args).err().unwrap_or_default()
        };
        for (line, begins) in [
            ("--check true --on HUP=forward --on HUP=ignore", "--check 'true': has no effect, because no signal"),
            ("--check true --on-hup ignore --on USR1=forward", ""),
            ("--check true --on-hup ignore", "--check 'true': has no effect, because no signal"),
            (
                "--restart on-failure --no-restart-on 0",
                "--no-restart-on '0': has no effect, because that is no failure",
            ),
            ("--restart on-failure --no-restart-on 3 --no-restart-on TERM,PIPE", "--no-restart-on 'TERM,PIPE': has no"),
            ("--restart on-failure --no-restart-on 0,64", ""),
            ("--restart always --no-restart-on 0", ""),
            (
                "--restart always --map-status 3=5 --no-restart-on 3",
                "--no-restart-on '3': has no effect, because --map",
            ),
            (
                "--restart on-failure --map-status 3=0 --no-restart-on 3",
                "--no-restart-on '3': has no effect, because --m",
            ),
            ("--restart always --map-status 3=5 --no-restart-on 3,4", ""),
            ("--restart always --map-status 3=5 --map-status 4=3 --no-restart-on 3", ""),
            ("--restart always --map-status 124=5 --no-restart-on 124", ""),
            ("--restart no --map-status 3=5 --no-restart-on 3", ""),
            ("--restart no --no-restart-on 0", ""),
            (
                "--restart always --restart-reset 0 --restart-limit 1",
                "--restart-reset '0': --restart-limit never counts",
            ),
            ("--restart always --restart-reset 0 --restart-limit 1/1m", ""),
            ("--restart always --restart-reset 0 --restart-limit 0", ""),
            ("--restart always --restart-reset 0 --restart-limit 1 --ready notify", ""),
            ("--restart no --restart-reset 0 --restart-limit 1", ""),
            ("--ready delay:5s --ready-timeout 5", "--ready-timeout '5': no child is ready in time; want"),
            ("--ready delay:5s --ready-timeout 6", ""),
            ("--ready delay:2m", ""),
            ("--ready delay:5s --ready-timeout 5 --child-pidfile f", ""),
            ("--ready delay:5s --ready-timeout never", ""),
            ("--ready exec --ready-timeout 1ms", ""),
            (
                "--restart-delay 1s --restart-max-delay 0",
                "--restart-max-delay '0': shorter than --restart-delay, 1s; want at least that",
            ),
            (
                "--restart unless-stopped",
                "--restart 'unless-stopped': want no, on-failure or always; did you mean 'always'?",
            ),
            (
                "--restart on-failure:5",
                "--restart 'on-failure:5': want two options; did you mean '--restart on-failure --restart-limit 5'?",
            ),
            ("--kill-mode cgroup", "--kill-mode 'cgroup': want mixed, process or group; did you mean 'mixed'?"),
            (
                "--kill-mode control-group",
                "--kill-mode 'control-group': want mixed, process or group; did you mean 'mixed'?",
            ),
            (
                "--restart always --restart-limit 5:10s",
                "--restart-limit '5:10s': want N or N/T, such as 5 (consecutive restarts) or 5/1m (within a minute); did you mean '5/10s'?",
            ),
            (
                "--restart always --no-restart-on 64,TREM",
                "--no-restart-on '64,TREM': want statuses from 0 to 255 and signals' names, such as 0,64,TERM; did you mean 'TERM'?",
            ),
        ] {
            let error = error(&format!("hupwrap {line} true"));
            assert!(error.starts_with(begins) && begins.is_empty() == error.is_empty(), "{line}: {error}");
        }
    }

    #[test]
    fn an_invalid_value_is_reported_first() {
        let set = |args: &mut Args| {
            args.restart_limit = some("3");
            args.quiet = true;
            args.verbose = true;
            args.mixed = some("mixed");
            args.command.clear();
            args.timeout = some("soon");
        };
        assert!(config(set).unwrap_err().starts_with("--timeout 'soon': "));
        let set = |args: &mut Args| {
            args.overlap = some("1s");
            args.restart_reset = some("soon");
        };
        assert!(config(set).unwrap_err().starts_with("--restart-reset 'soon': "));
    }
}
