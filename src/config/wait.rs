//! What a waiting command asks for (contract, section 11). Pure.

use std::ffi::OsString;
use std::time::Duration;

use super::duration::{Limit, limit};
use super::value::{not_empty, optional};
use crate::cli::Args;

/// What is asked of the hupwrap that writes a status file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// To act on a HUP, and to report the outcome.
    Reload,
    /// To end.
    Stop,
    /// Its state.
    Status,
    /// To have a child that is ready.
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
    /// The status file, which names the hupwrap.
    pub file: OsString,
    /// How long the answer may take.
    pub timeout: Limit,
}

/// How long a waiting command waits by default.
const DEFAULT_TIMEOUT: Limit = Limit::After(Duration::from_secs(60));

impl Wait {
    /// Makes sense of a command line that has one of the forms.
    ///
    /// # Errors
    /// One line that names the option and its value, and says what would be right.
    pub fn new(args: &Args) -> Result<Self, String> {
        let Args { reload, stop, status, wait_ready, .. } = args;
        let forms = [(Form::Reload, reload), (Form::Stop, stop), (Form::Status, status), (Form::WaitReady, wait_ready)];
        let said = forms.into_iter().find_map(|(form, file)| Some((form, file.clone()?)));
        let (form, file) = said.ok_or("want one of --reload, --stop, --status and --wait-ready")?;
        let timeout = optional("--timeout", &args.timeout, limit)?.unwrap_or(DEFAULT_TIMEOUT);
        not_empty(form.option(), "the file that --status-file names", [&file])?;
        Ok(Self { form, file, timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for() {
        let wait = |line: &str| {
            let words: Vec<_> = line.split(' ').map(std::ffi::OsStr::new).collect();
            let Ok(crate::cli::Said::Wait(args)) = crate::cli::read(&words) else { panic!("{line}") };
            Wait::new(&args)
        };
        for (line, form, timeout) in [
            ("hupwrap --reload f", Form::Reload, DEFAULT_TIMEOUT),
            ("hupwrap --stop f --timeout never", Form::Stop, Limit::Never),
            ("hupwrap --timeout 0 --status f", Form::Status, Limit::After(Duration::ZERO)),
            ("hupwrap --wait-ready f", Form::WaitReady, DEFAULT_TIMEOUT),
        ] {
            assert_eq!(wait(line), Ok(Wait { form, file: "f".into(), timeout }), "{line}");
        }
        assert!(wait("hupwrap --stop f --timeout 1M").unwrap_err().starts_with("--timeout '1M': 'M' is a month"));
        let error = "--stop '': the path is empty; want the file that --status-file names";
        assert_eq!(wait("hupwrap --stop="), Err(error.to_owned()));
    }
}
