//! When the child is restarted automatically, and how (contract, section 7). Pure.

use std::time::Duration;

use super::duration::{Shown, duration};
use super::status_map::{StatusMap, exit_status};
use super::value::{choice, optional, repeated};
use crate::cli::Args;
use crate::exit::ExitStatus;
use crate::signal::Signal;
use crate::text::hints;

/// When the child is restarted automatically, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restart {
    /// After which ends.
    pub when: When,
    /// The delay before the first of several consecutive restarts.
    pub delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// A child that stays ready for this long resets the restart counter.
    pub reset: Duration,
    /// When to give up.
    pub limit: Option<RestartLimit>,
    /// The ends that are final.
    pub never_on: Vec<ExitStatus>,
}

/// After which ends the child is restarted automatically.
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

/// How many restarts are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartLimit {
    /// This many are allowed.
    pub count: u32,
    /// Within the last period of this length; without it, consecutive ones count.
    pub within: Option<Duration>,
}

const DEFAULT_DELAY: Duration = Duration::from_millis(100);
const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(60);
const DEFAULT_RESET: Duration = Duration::from_secs(60);
/// How many restarts are remembered at most, for `N/T`.
const MOST_REMEMBERED: u32 = 1000;

impl Restart {
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub(super) fn new(args: &Args) -> Result<Self, String> {
        let when = |said: &str| match said.strip_prefix("on-failure:").map(|count| (count, restart_limit(count))) {
            // Docker's.
            Some((count, Ok(_))) => {
                Err(format!("want two options; did you mean '--restart on-failure --restart-limit {count}'?"))
            }
            _ => choice([("no", When::No), ("on-failure", When::OnFailure), ("always", When::Always)])(said),
        };
        let delay = optional("--restart-delay", &args.restart_delay, duration)?.unwrap_or(DEFAULT_DELAY);
        Ok(Self {
            when: optional("--restart", &args.restart, when)?.unwrap_or_default(),
            delay,
            max_delay: optional("--restart-max-delay", &args.restart_max_delay, duration)?
                .unwrap_or(DEFAULT_MAX_DELAY.max(delay)),
            reset: optional("--restart-reset", &args.restart_reset, duration)?.unwrap_or(DEFAULT_RESET),
            limit: optional("--restart-limit", &args.restart_limit, restart_limit)?,
            never_on: repeated("--no-restart-on", &args.no_restart_on, exit_statuses)?.concat(),
        })
    }

    /// Checks what goes together. The delays are always used: a later start that fails is tried again, whatever
    /// `--restart` says.
    ///
    /// # Errors
    /// One line that names both options.
    pub(super) fn check(&self, args: &Args, map: &StatusMap) -> Result<(), String> {
        if self.max_delay < self.delay {
            return Err(format!(
                "--restart-max-delay '{}': shorter than --restart-delay, {}; want at least that",
                args.restart_max_delay.as_deref().unwrap_or_default(),
                Shown(self.delay)
            ));
        }
        let needs_restart = [
            ("--restart-limit", args.restart_limit.as_ref()),
            ("--restart-reset", args.restart_reset.as_ref()),
            ("--no-restart-on", args.no_restart_on.first()),
        ];
        // An explicit `--restart no` may come from a script that has the other options in place.
        let is_missing = args.restart.is_none();
        if let Some((option, said)) =
            needs_restart.into_iter().find_map(|(option, said)| Some((option, said.filter(|_| is_missing)?)))
        {
            return Err(format!(
                "{option} '{said}': has no effect without --restart; add --restart on-failure or --restart always"
            ));
        }
        for said in args.no_restart_on.iter().filter(|_| self.when != When::No) {
            let all = exit_statuses(said).unwrap_or_default();
            let why = if self.when == When::OnFailure && !all.iter().copied().any(is_failure) {
                "that is no failure for --restart on-failure"
            } else if all.iter().all(|status| map.hides(*status)) {
                "--map-status makes another status of it before"
            } else {
                continue;
            };
            return Err(format!("--no-restart-on '{said}': has no effect, because {why}; remove it"));
        }
        Ok(())
    }

    /// Whether a child that ended in this way is to be restarted.
    pub fn wants(&self, status: ExitStatus) -> bool {
        let wanted = match self.when {
            When::No => false,
            When::OnFailure => is_failure(status),
            When::Always => true,
        };
        wanted && !self.never_on.contains(&status)
    }
}

/// A death by HUP, INT, TERM or PIPE is not a failure.
fn is_failure(status: ExitStatus) -> bool {
    match status {
        ExitStatus::Exited(code) => code != 0,
        ExitStatus::Killed(signal) => ![Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE].contains(&signal),
    }
}

fn restart_limit(said: &str) -> Result<RestartLimit, String> {
    read_limit(said).map_err(|error| {
        let near = [said.replace(' ', ""), said.replace(':', "/")];
        format!("{error}{}", hints::first_accepted(&near, &|near| read_limit(near).is_ok()))
    })
}

fn read_limit(said: &str) -> Result<RestartLimit, String> {
    let (count, within) = said.split_once('/').map_or((said, None), |(count, within)| (count, Some(within)));
    let count = match count.bytes().all(|b| b.is_ascii_digit()) {
        true => count.parse().ok(),
        false => None,
    };
    let within = within.map(|said| duration(said).map_err(|error| format!("'{said}': {error}"))).transpose()?;
    match (count, within) {
        (Some(count), Some(_)) if count > MOST_REMEMBERED => {
            Err(format!("hupwrap remembers {MOST_REMEMBERED} restarts; want fewer within that time"))
        }
        (_, Some(Duration::ZERO)) | (None, _) => {
            Err("want N or N/T, such as 5 (consecutive restarts) or 5/1m (within a minute)".to_owned())
        }
        (Some(count), within) => Ok(RestartLimit { count, within }),
    }
}

/// The ends in a list such as `0,64,TERM`.
fn exit_statuses(said: &str) -> Result<Vec<ExitStatus>, String> {
    let want = |hint| format!("want statuses from 0 to 255 and signals' names, such as 0,64,TERM{hint}");
    said.split(',').map(|word| exit_status(word).map_err(want)).collect()
}
