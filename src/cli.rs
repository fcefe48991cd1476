//! What the user typed: the command line as strings. What it means is decided in [`crate::config`].

mod errors;
pub(crate) mod help;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser};

use crate::text::cut;

/// The command line, word for word. If an option that is not a list is repeated, the last one counts. What each option
/// does stands in `help`.
#[derive(Parser, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "clap would carry the comments as a second help")]
#[command(name = "hupwrap", args_override_self = true, disable_help_flag = true, disable_version_flag = true)]
pub struct Args {
    #[arg(long, value_name = "SIGNAL=ACTION")]
    pub on: Vec<String>,
    #[arg(long, value_name = "ACTION")]
    pub on_hup: Vec<String>,

    /// How many of `on` came before the last of `on_hup`.
    #[arg(skip)]
    pub on_before_on_hup: usize,
    #[arg(long, value_name = "CMD")]
    pub check: Option<String>,
    #[arg(long, value_name = "T")]
    pub check_timeout: Option<String>,

    #[arg(long, value_name = "[NAME=]ADDRESS")]
    pub listen: Vec<String>,
    #[arg(long, value_name = "HOW")]
    pub ready: Option<String>,
    #[arg(long, value_name = "T")]
    pub ready_timeout: Option<String>,
    #[arg(long, value_name = "T")]
    pub overlap: Option<String>,
    #[arg(long, value_name = "FILE")]
    pub child_pidfile: Option<OsString>,
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<OsString>,
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<OsString>,
    #[arg(long, value_name = "WHICH")]
    pub group: Option<String>,

    #[arg(long, value_name = "SIG")]
    pub stop_signal: Option<String>,
    #[arg(long, value_name = "T")]
    pub stop_timeout: Option<String>,
    #[arg(long, value_name = "MODE")]
    pub kill_mode: Option<String>,
    #[arg(long)]
    pub no_tether: bool,
    #[arg(long, value_name = "SIG")]
    pub parent_death: Option<String>,
    #[arg(long, value_name = "FROM=TO")]
    pub map_status: Vec<String>,

    #[arg(long, value_name = "WHEN")]
    pub restart: Option<String>,
    #[arg(long, value_name = "T")]
    pub restart_delay: Option<String>,
    #[arg(long, value_name = "T")]
    pub restart_max_delay: Option<String>,
    #[arg(long, value_name = "T")]
    pub restart_reset: Option<String>,
    #[arg(long, value_name = "N[/T]")]
    pub restart_limit: Option<String>,
    #[arg(long, value_name = "LIST")]
    pub no_restart_on: Vec<String>,
    #[arg(long, value_name = "PATH")]
    pub watch: Vec<OsString>,
    #[arg(long, value_name = "T")]
    pub max_age: Option<String>,

    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<OsString>,
    #[arg(long, value_name = "FILE")]
    pub status_file: Option<OsString>,
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    #[arg(short, long)]
    pub verbose: bool,
    #[arg(short, long)]
    pub quiet: bool,

    #[arg(long, value_name = "FILE")]
    pub reload: Option<OsString>,
    #[arg(long, value_name = "FILE")]
    pub stop: Option<OsString>,
    #[arg(long, value_name = "FILE")]
    pub status: Option<OsString>,
    #[arg(long, value_name = "FILE")]
    pub wait_ready: Option<OsString>,
    #[arg(long, value_name = "T")]
    pub timeout: Option<String>,

    #[arg(short = 'h')]
    pub summary: bool,
    #[arg(long)]
    pub help: bool,
    #[arg(short = 'V', long)]
    pub version: bool,
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// What is wrong if the forms of a command line are mixed. Reported after invalid values.
    #[arg(skip)]
    pub mixed: Option<String>,
}

/// What a command line asks for.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// Supervise a command.
    Supervise(Args),
    /// Wait for another hupwrap, or ask about it.
    Wait(Args),
    /// Print all of the help or its summary, and exit with 0.
    Help {
        /// Whether it is all.
        all: bool,
    },
    /// Print the version, and exit with 0.
    Version,
}

/// Reads a command line, `argv[0]` included.
///
/// # Errors
/// One line that says what is wrong and what would be right.
pub fn read(argv: &[&OsStr]) -> Result<Said, String> {
    // Without options there is nothing to parse. This saves the pages of clap, a tenth of the start.
    let words = argv.get(1..).unwrap_or_default();
    let command = match words {
        [first, rest @ ..] if *first == "--" => Some(rest),
        [first, ..] if !first.as_bytes().starts_with(b"-") => Some(words),
        _ => None,
    };
    match command {
        Some(words) => {
            let command = words.iter().map(OsString::from).collect();
            Ok(Said::Supervise(Args { command, ..Args::default() }))
        }
        None => parse(argv),
    }
}

#[cold]
#[inline(never)]
fn parse(argv: &[&OsStr]) -> Result<Said, String> {
    let options = Args::command();
    let explain = |error: clap::Error| errors::explain(&options, argv, &error);
    let matches = options.clone().try_get_matches_from(argv).map_err(explain)?;
    let mut args = Args::from_arg_matches(&matches).map_err(explain)?;
    if let Some(on_hup) = matches.indices_of("on_hup").and_then(Iterator::last) {
        args.on_before_on_hup = matches.indices_of("on").map_or(0, |on| on.filter(|at| *at < on_hup).count());
    }
    if args.help || args.summary {
        return Ok(Said::Help { all: args.help });
    }
    if args.version {
        return Ok(Said::Version);
    }
    match has_form(&options, &matches) {
        Ok(true) => Ok(Said::Wait(args)),
        Ok(false) => Ok(Said::Supervise(args)),
        Err(error) => Ok(Said::Supervise(Args { mixed: Some(error), ..args })),
    }
}

/// Whether the errors in this command line are to be JSON. The line may be one that cannot be parsed.
#[cold]
pub fn wants_json(argv: &[&OsStr]) -> bool {
    errors::wants_json(&Args::command(), argv)
}

/// The options that stand in place of a COMMAND.
const FORMS: [&str; 4] = ["reload", "stop", "status", "wait_ready"];
/// The option that may stand beside one of them.
const BESIDE: &str = "timeout";

/// Whether there is one of the forms without a COMMAND. These forms take none of a supervisor's options.
fn has_form(options: &clap::Command, matches: &ArgMatches) -> Result<bool, String> {
    let said = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let shown = |arg: &Arg| {
        let id = arg.get_id().as_str();
        let option = arg.get_long().map_or("COMMAND".to_owned(), |long| format!("--{long}"));
        let value =
            matches.get_raw(id).and_then(|mut all| if arg.get_long().is_some() { all.next_back() } else { all.next() });
        match value.filter(|_| arg.get_action().takes_values()) {
            Some(value) => format!("{option} '{}'", cut(&value.to_string_lossy(), 200)),
            None => option,
        }
    };
    let is_form = |arg: &&Arg| FORMS.contains(&arg.get_id().as_str());
    let is_beside = |arg: &&Arg| arg.get_id() == BESIDE;
    let Some(form) = options.get_arguments().filter(said).find(is_form) else {
        return match options.get_arguments().filter(said).find(is_beside) {
            Some(beside) => Err(format!(
                "{}: has no effect without --reload, --stop, --status or --wait-ready; add one of them",
                shown(beside)
            )),
            None => Ok(false),
        };
    };
    let mut others =
        options.get_arguments().filter(said).filter(|arg| arg.get_id() != form.get_id() && !is_beside(arg));
    match others.next() {
        Some(other) => {
            Err(format!("{} stands alone, or with --timeout: remove it, or remove {}", shown(form), shown(other)))
        }
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&OsStr> {
        line.split(' ').map(OsStr::new).collect()
    }

    #[test]
    fn the_short_way_reads_what_clap_reads() {
        for line in [
            "hupwrap ls",
            "hupwrap ls -l",
            "hupwrap -- ls -l",
            "hupwrap -- -x --on",
            "hupwrap ls -- -l",
            "hupwrap -- ls -- x",
            "hupwrap a --on HUP=stop",
            "hupwrap --",
        ] {
            assert_eq!(read(&words(line)), parse(&words(line)), "{line}");
        }
    }

    #[test]
    fn options_end_at_the_first_word_that_is_none() {
        let Ok(Said::Supervise(args)) = read(&words("hupwrap --group own ls --group shared -- -l")) else { panic!() };
        assert_eq!(args.group.as_deref(), Some("own"));
        assert_eq!(args.command, words("ls --group shared -- -l"));
    }

    #[test]
    fn the_last_of_a_repeated_option_counts() {
        let Ok(Said::Supervise(args)) = read(&words("hupwrap --group own --group=shared --on A=b --on C=d x")) else {
            panic!()
        };
        assert_eq!(args.group.as_deref(), Some("shared"));
        assert_eq!(args.on, ["A=b", "C=d"]);
    }

    #[test]
    fn the_forms_do_not_mix() {
        let mixed = |line: &str| match read(&words(&format!("hupwrap {line}"))) {
            Ok(Said::Supervise(args)) => args.mixed,
            other => panic!("{other:?}"),
        };
        for (line, form, other) in [
            ("--reload f -- x y", "--reload 'f'", "COMMAND 'x'"),
            ("--reload f --stop g", "--reload 'f'", "--stop 'g'"),
            ("--check c --wait-ready f", "--wait-ready 'f'", "--check 'c'"),
            ("--timeout 5 --status f --no-tether", "--status 'f'", "--no-tether"),
            ("--stop f -q", "--stop 'f'", "--quiet"),
        ] {
            let want = format!("{form} stands alone, or with --timeout: remove it, or remove {other}");
            assert_eq!(mixed(line), Some(want), "{line}");
        }
        let want = "--timeout '5': has no effect without --reload, --stop, --status or --wait-ready; add one of them";
        assert_eq!(mixed("--timeout 5 x").as_deref(), Some(want));
        for line in
            ["hupwrap --reload f", "hupwrap --timeout 5 --stop f --", "hupwrap --status=f", "hupwrap --wait-ready=-f"]
        {
            assert!(matches!(read(&words(line)), Ok(Said::Wait(_))), "{line}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_named() {
        for (line, option) in [
            (&[&b"--group"[..], b"\xff"][..], "--group"),
            (&[b"--group=\xff", b"x"], "--group"),
            (&[b"--workdir", b"\xfe", b"--on", b"\xff", b"x"], "--on"),
            (&[b"--pidfile=\xfe", b"--on=\xff", b"x"], "--on"),
        ] {
            let argv: Vec<&OsStr> = [&b"hupwrap"[..]].iter().chain(line).map(|word| OsStr::from_bytes(word)).collect();
            let want = "is not UTF-8; only paths, COMMAND and its arguments may be arbitrary bytes";
            assert_eq!(read(&argv), Err(format!("{option} '\u{fffd}': it {want}")));
        }
    }
}
