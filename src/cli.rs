//! What the user typed: the command line as strings. What it means is decided in [`crate::config`].

mod errors;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser};

/// The command line, word for word. If an option that is not a list is repeated, the last one counts.
#[derive(Parser, Debug, Default, PartialEq)]
#[command(
    name = "hupwrap",
    version,
    about = "Supervise one command: forward signals, exit as it exits, restart it on HUP.",
    override_usage = USAGE,
    after_help = AFTER_HELP,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true,
)]
pub struct Args {
    /// Change what SIGNAL does (see ACTION); repeatable
    #[arg(long, value_name = "SIGNAL=ACTION", help_heading = SIGNALS)]
    pub on: Vec<String>,

    /// The same as --on HUP=ACTION [default: restart]
    #[arg(long, value_name = "ACTION", help_heading = SIGNALS)]
    pub on_hup: Vec<String>,

    /// How many of `on` came before the last of `on_hup`.
    #[arg(skip)]
    pub on_before_on_hup: usize,

    /// Run CMD first; refuse unless it exits with 0
    #[arg(long, value_name = "CMD", help_heading = SIGNALS)]
    pub check: Option<String>,

    /// How long the check may take [default: 30s]
    #[arg(long, value_name = "T", help_heading = SIGNALS)]
    pub check_timeout: Option<String>,

    /// Keep a socket open across restarts; repeatable
    #[arg(long, value_name = "[NAME=]ADDRESS", help_heading = CHILD)]
    pub listen: Vec<String>,

    /// When the child is ready (see HOW)
    #[arg(long, value_name = "HOW", help_heading = CHILD)]
    pub ready: Option<String>,

    /// Stop the child if not ready in T [default: 60s]
    #[arg(long, value_name = "T", help_heading = CHILD)]
    pub ready_timeout: Option<String>,

    /// How long both run in a replace [default: 0]
    #[arg(long, value_name = "T", help_heading = CHILD)]
    pub overlap: Option<String>,

    /// FILE names the main process, if it changes
    #[arg(long, value_name = "FILE", help_heading = CHILD)]
    pub child_pidfile: Option<OsString>,

    /// Add the variables in FILE; repeatable
    #[arg(long, value_name = "FILE", help_heading = CHILD)]
    pub env_file: Vec<OsString>,

    /// Run the child in DIR
    #[arg(long, value_name = "DIR", help_heading = CHILD)]
    pub workdir: Option<OsString>,

    /// Process group of the child: own or shared
    #[arg(long, value_name = "WHICH", help_heading = CHILD)]
    pub group: Option<String>,

    /// Ask the child to end with SIG [default: TERM]
    #[arg(long, value_name = "SIG", help_heading = STOP)]
    pub stop_signal: Option<String>,

    /// Send KILL after T [default: 10s; never on a stop]
    #[arg(long, value_name = "T", help_heading = STOP)]
    pub stop_timeout: Option<String>,

    /// mixed, process or group [default: mixed]
    #[arg(long, value_name = "MODE", help_heading = STOP)]
    pub kill_mode: Option<String>,

    /// Keep the child running if hupwrap is killed
    #[arg(long, help_heading = STOP)]
    pub no_tether: bool,

    /// Send hupwrap SIG when its own parent ends
    #[arg(long, value_name = "SIG", help_heading = STOP)]
    pub parent_death: Option<String>,

    /// Exit with TO in place of FROM; repeatable
    #[arg(long, value_name = "FROM=TO", help_heading = STOP)]
    pub map_status: Vec<String>,

    /// no, on-failure or always [default: no]
    #[arg(long, value_name = "WHEN", help_heading = RESTART)]
    pub restart: Option<String>,

    /// Delay before a restart; doubles [default: 100ms]
    #[arg(long, value_name = "T", help_heading = RESTART)]
    pub restart_delay: Option<String>,

    /// Longest delay before a restart [default: 1m]
    #[arg(long, value_name = "T", help_heading = RESTART)]
    pub restart_max_delay: Option<String>,

    /// Reset the count when ready for T [default: 1m]
    #[arg(long, value_name = "T", help_heading = RESTART)]
    pub restart_reset: Option<String>,

    /// Give up after N restarts, or N within T
    #[arg(long, value_name = "N[/T]", help_heading = RESTART)]
    pub restart_limit: Option<String>,

    /// Never restart after these, such as 0,64,TERM
    #[arg(long, value_name = "LIST", help_heading = RESTART)]
    pub no_restart_on: Vec<String>,

    /// Act as on HUP when PATH changes; repeatable
    #[arg(long, value_name = "PATH", help_heading = RESTART)]
    pub watch: Vec<OsString>,

    /// Act as on HUP when the child was ready for T
    #[arg(long, value_name = "T", help_heading = RESTART)]
    pub max_age: Option<String>,

    /// Write hupwrap's pid to FILE, and lock FILE
    #[arg(long, value_name = "FILE", help_heading = MONITORING)]
    pub pidfile: Option<OsString>,

    /// Write the current state to FILE, as JSON
    #[arg(long, value_name = "FILE", help_heading = MONITORING)]
    pub status_file: Option<OsString>,

    /// Format of messages: text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = MONITORING)]
    pub log_format: Option<String>,

    /// Report starts, exits and signals too
    #[arg(short, long, help_heading = MONITORING)]
    pub verbose: bool,

    /// Report errors only
    #[arg(short, long, help_heading = MONITORING)]
    pub quiet: bool,

    /// Send HUP to the hupwrap of FILE; wait for the outcome
    #[arg(long, value_name = "FILE", help_heading = WAITING)]
    pub reload: Option<OsString>,

    /// Send TERM to the hupwrap of FILE; wait for its end
    #[arg(long, value_name = "FILE", help_heading = WAITING)]
    pub stop: Option<OsString>,

    /// Show the state of the hupwrap of FILE
    #[arg(long, value_name = "FILE", help_heading = WAITING)]
    pub status: Option<OsString>,

    /// Wait until the child of that hupwrap is ready
    #[arg(long, value_name = "FILE", help_heading = WAITING)]
    pub wait_ready: Option<OsString>,

    /// How long these four wait [default: 60s]
    #[arg(long, value_name = "T", help_heading = WAITING)]
    pub timeout: Option<String>,

    /// Print this help
    #[arg(short, long, help_heading = HELP)]
    pub help: bool,

    /// Print the version
    #[arg(short = 'V', long, help_heading = HELP)]
    pub version: bool,

    /// The program to supervise, and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND", hide = true)]
    pub command: Vec<OsString>,

    /// What is wrong if the forms of a command line are mixed. Reported after invalid values.
    #[arg(skip)]
    pub mixed: Option<String>,
}

const USAGE: &str = "\
hupwrap [OPTIONS] [--] COMMAND [ARG]...
       hupwrap --reload|--stop|--status|--wait-ready FILE [--timeout T]";

const SIGNALS: &str = "Signals";
const CHILD: &str = "Child";
const STOP: &str = "Stopping and exit status";
const RESTART: &str = "Automatic restart";
const MONITORING: &str = "Monitoring";
const WAITING: &str = "Without a COMMAND, with the --status-file of a running hupwrap";
const HELP: &str = "Help";

const AFTER_HELP: &str = "\
ACTION:
  restart          stop the child, then start it again
  reexec           re-execute hupwrap's program file, then restart the child
  replace          start a new child; when it is ready, stop the old one
  upgrade          re-execute hupwrap; the child keeps running
  upgrade+replace  re-execute hupwrap, then replace the child
  forward[:SIG]    send the signal, or SIG, to the child
  stop[:SIG]       stop the child, with SIG, and exit as it exits
  ignore           do nothing
Default: restart for HUP; stop for TERM, INT and QUIT; forward for the others.

ADDRESS: tcp:HOST:PORT, udp:HOST:PORT or unix:PATH[,mode=0660]
HOW: exec (default), notify (READY=1), fd:N (a newline), tcp:HOST:PORT, cmd:CMD,
     or delay:T (delay:1s is the default for the new child of a replace)
T: 10s, 1m30s, 250ms, 1.5 (seconds); for a timeout also never
Exit status: that of the child; 128+N if signal N killed the child; 124 timeout;
125 error in hupwrap; 126 COMMAND not executable; 127 COMMAND not found.

Examples:
  hupwrap --on-hup replace --listen tcp:*:8080 --ready notify -- ./server
  hupwrap --restart on-failure --watch conf --status-file app.json -- ./app
  hupwrap --reload app.json";

/// What a command line asks for.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// Supervise a command.
    Supervise(Args),
    /// Wait for another hupwrap, or ask about it.
    Wait(Args),
    /// Print this on stdout, and exit with 0.
    Print(String),
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
    if args.help {
        return Ok(Said::Print(Args::command().render_help().to_string()));
    }
    if args.version {
        return Ok(Said::Print(format!("{}\n", crate::NAME_AND_VERSION)));
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
            Some(value) => format!("{option} '{}'", value.to_string_lossy()),
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
