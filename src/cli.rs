//! What was said: the command line as strings. What it means is decided in [`crate::config`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser};

/// The command line, word for word. An option that is repeated and is not a list: the last one counts.
#[derive(Parser, Debug, Default, PartialEq)]
#[command(
    name = "hupwrap",
    version,
    about = "Supervise one command: pass signals on, end as it ends, restart it on HUP.",
    override_usage = USAGE,
    after_help = AFTER_HELP,
    args_override_self = true,
    term_width = 100,
    disable_help_flag = true,
    disable_version_flag = true,
)]
pub struct Args {
    /// What SIGNAL means: one of the actions below; repeatable
    #[arg(long, value_name = "SIGNAL=ACTION", help_heading = SIGNALS)]
    pub on: Vec<String>,

    /// The same as --on HUP=ACTION [default: restart]
    #[arg(long, value_name = "ACTION", help_heading = SIGNALS)]
    pub on_hup: Vec<String>,

    /// How many of `on` came before the last of `on_hup`.
    #[arg(skip)]
    pub on_before_on_hup: usize,

    /// Run CMD first; unless it ends with 0 nothing is touched
    #[arg(long, value_name = "CMD", help_heading = SIGNALS)]
    pub check: Option<String>,

    /// How long that may take [default: 30s]
    #[arg(long, value_name = "T", help_heading = SIGNALS)]
    pub check_timeout: Option<String>,

    /// Give it a socket that outlives it, from descriptor 3 up; repeatable
    #[arg(long, value_name = "[NAME=]ADDRESS", help_heading = CHILD)]
    pub listen: Vec<String>,

    /// When it is ready [default: exec; in a replace delay:1s]
    #[arg(long, value_name = "HOW", help_heading = CHILD)]
    pub ready: Option<String>,

    /// How long it may take to be ready [default: 60s]
    #[arg(long, value_name = "T", help_heading = CHILD)]
    pub ready_timeout: Option<String>,

    /// In a replace, how long both run after it is ready [default: 0]
    #[arg(long, value_name = "T", help_heading = CHILD)]
    pub overlap: Option<String>,

    /// More of its environment, read afresh at every start; repeatable
    #[arg(long, value_name = "FILE", help_heading = CHILD)]
    pub env_file: Vec<OsString>,

    /// Its working directory, looked up afresh at every start
    #[arg(long, value_name = "DIR", help_heading = CHILD)]
    pub workdir: Option<OsString>,

    /// Its process group: own or shared [default: shared in a terminal's foreground]
    #[arg(long, value_name = "WHICH", help_heading = CHILD)]
    pub group: Option<String>,

    /// The signal that asks it to end; CONT follows it [default: TERM]
    #[arg(long, value_name = "SIG", help_heading = END)]
    pub stop_signal: Option<String>,

    /// KILL after T, 0 is at once [default: 10s for a new child, never for a stop]
    #[arg(long, value_name = "T", help_heading = END)]
    pub stop_timeout: Option<String>,

    /// Who is stopped: mixed (it, then its rest), process or group [default: mixed]
    #[arg(long, value_name = "MODE", help_heading = END)]
    pub kill_mode: Option<String>,

    /// Let it live on when hupwrap itself is killed [default: it gets TERM]
    #[arg(long, help_heading = END)]
    pub no_tether: bool,

    /// Send hupwrap SIG when its own parent ends
    #[arg(long, value_name = "SIG", help_heading = END)]
    pub parent_death: Option<String>,

    /// End with TO where the child ended with FROM, as in 143=0 or TERM=0; repeatable
    #[arg(long, value_name = "FROM=TO", help_heading = END)]
    pub map_status: Vec<String>,

    /// Start the child again by itself: no, on-failure or always [default: no]
    #[arg(long, value_name = "WHEN", help_heading = RESTART)]
    pub restart: Option<String>,

    /// The wait before that; doubles each time in a row, with up to 25 % more at random [default: 100ms]
    #[arg(long, value_name = "T", help_heading = RESTART)]
    pub restart_delay: Option<String>,

    /// Up to this [default: 1m]
    #[arg(long, value_name = "T", help_heading = RESTART)]
    pub restart_max_delay: Option<String>,

    /// A child that ran this long starts the count afresh [default: 1m]
    #[arg(long, value_name = "T", help_heading = RESTART)]
    pub restart_reset: Option<String>,

    /// Give up after N restarts in a row, or N within the last T
    #[arg(long, value_name = "N[/T]", help_heading = RESTART)]
    pub restart_limit: Option<String>,

    /// Statuses or signals after which the child is not started again, as in 0,64,TERM; repeatable
    #[arg(long, value_name = "LIST", help_heading = RESTART)]
    pub no_restart_on: Vec<String>,

    /// Write hupwrap's pid to FILE, and keep it locked
    #[arg(long, value_name = "FILE", help_heading = WATCHED)]
    pub pidfile: Option<OsString>,

    /// Keep FILE up to date with how things are, as JSON
    #[arg(long, value_name = "FILE", help_heading = WATCHED)]
    pub status_file: Option<OsString>,

    /// What hupwrap's own lines look like: text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = WATCHED)]
    pub log_format: Option<String>,

    /// Say more: starts, ends and signals as well
    #[arg(short, long, help_heading = WATCHED)]
    pub verbose: bool,

    /// Say less: errors only
    #[arg(short, long, help_heading = WATCHED)]
    pub quiet: bool,

    /// Send HUP to the hupwrap of the status file FILE; 0 when a new child is ready, 1 when not
    #[arg(long, value_name = "FILE", help_heading = ALONE)]
    pub reload: Option<OsString>,

    /// Send TERM to it, and wait for its end
    #[arg(long, value_name = "FILE", help_heading = ALONE)]
    pub stop: Option<OsString>,

    /// Show how it is; 0 when its child is ready
    #[arg(long, value_name = "FILE", help_heading = ALONE)]
    pub status: Option<OsString>,

    /// Wait until its child is ready
    #[arg(long, value_name = "FILE", help_heading = ALONE)]
    pub wait_ready: Option<OsString>,

    /// How long to wait [default: 60s]
    #[arg(long, value_name = "T", help_heading = ALONE)]
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
}

const USAGE: &str = "\
hupwrap [OPTIONS] [--] COMMAND [ARG]...
       hupwrap --reload FILE | --stop FILE | --status FILE | --wait-ready FILE   [--timeout T]";

const SIGNALS: &str = "What a signal does";
const CHILD: &str = "The child";
const END: &str = "Its end";
const RESTART: &str = "Restarting by itself";
const WATCHED: &str = "Being watched";
const ALONE: &str = "Instead of a COMMAND";
const HELP: &str = "Help";

const AFTER_HELP: &str = "\
ACTION:
  restart          stop the child, start it again
  reexec           the same, by the hupwrap file that is there now, under the same pid
  replace          start a new child; when it is ready, stop the old one
  upgrade          the hupwrap file that is there now takes over, the child lives on
  upgrade+replace  both: the new hupwrap replaces the child
  forward          pass the signal on (forward:SIG passes SIG on instead)
  stop             stop the child and end as it ends (stop:SIG stops it by SIG)
  ignore           nothing
HUP means restart; TERM, INT and QUIT mean stop; the others are forwarded.

ADDRESS: tcp:HOST:PORT, udp:HOST:PORT or unix:PATH[,mode=0660]
HOW: exec, notify (READY=1), fd:N (a newline), delay:T, tcp:HOST:PORT or cmd:CMD
T: 10s, 1m30s, 250ms, 1.5 (seconds), and never for a timeout

Exit status: the child's, or 128+N where signal N ended it; 124 it was not ready in time, or --timeout is up,
125 hupwrap failed, 126 COMMAND cannot be executed, 127 COMMAND not found.

Examples:
  hupwrap --on-hup reexec -- php app.php
  hupwrap --on-hup replace --listen tcp:*:8080 --ready notify -- ./server
  hupwrap --restart on-failure --status-file app.json -- ./app
  hupwrap --reload app.json";

/// What a command line asks for.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// Supervise a command.
    Supervise(Args),
    /// Wait for another hupwrap, or ask about it.
    Wait(Args),
    /// Print this on stdout, and end with 0.
    Print(String),
}

/// Reads a command line, `argv[0]` included.
///
/// # Errors
/// One line that says what is wrong and what would be right.
pub fn read(argv: &[&OsStr]) -> Result<Said, String> {
    // Without options there is nothing to parse: clap's pages need not be touched, which is a tenth of the start.
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
    let matches = Args::command().try_get_matches_from(argv).map_err(|error| one_line(&error))?;
    let mut args = Args::from_arg_matches(&matches).map_err(|error| one_line(&error))?;
    if let Some(on_hup) = matches.indices_of("on_hup").and_then(Iterator::last) {
        args.on_before_on_hup = matches.indices_of("on").map_or(0, |on| on.filter(|at| *at < on_hup).count());
    }
    if args.help {
        Ok(Said::Print(Args::command().render_help().to_string()))
    } else if args.version {
        Ok(Said::Print(format!("{}\n", crate::NAME_AND_VERSION)))
    } else if stands_alone(&matches)? {
        Ok(Said::Wait(args))
    } else {
        Ok(Said::Supervise(args))
    }
}

/// The options that stand in place of a COMMAND.
const FORMS: [&str; 4] = ["reload", "stop", "status", "wait_ready"];
/// What may stand beside one of them.
const BESIDE: &str = "timeout";

/// Whether one of the forms without a COMMAND was said. They take nothing of what a supervisor takes.
fn stands_alone(matches: &ArgMatches) -> Result<bool, String> {
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
    let options = Args::command();
    let is_form = |arg: &&Arg| FORMS.contains(&arg.get_id().as_str());
    let is_beside = |arg: &&Arg| arg.get_id() == BESIDE;
    let Some(form) = options.get_arguments().filter(said).find(is_form) else {
        return match options.get_arguments().filter(said).find(is_beside) {
            Some(beside) => Err(format!(
                "{}: it bounds --reload, --stop, --status and --wait-ready; want one of them",
                shown(beside)
            )),
            None => Ok(false),
        };
    };
    let mut others =
        options.get_arguments().filter(said).filter(|arg| arg.get_id() != form.get_id() && !is_beside(arg));
    match others.next() {
        Some(other) => {
            Err(format!("{} stands alone, or with --timeout: it does not go with {}", shown(form), shown(other)))
        }
        None => Ok(true),
    }
}

/// clap explains over several lines; a log wants one.
fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let option = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => match context(ContextKind::SuggestedArg).filter(|near| is_near(near, &option)) {
            Some(near) => format!("unknown option '{option}'; did you mean '{near}'?"),
            None => {
                format!("unknown option '{option}'; see 'hupwrap --help'. Options of COMMAND stand behind its name")
            }
        },
        ErrorKind::InvalidUtf8 => {
            "an option's value is not UTF-8; only COMMAND and its arguments may be any bytes".to_owned()
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            format!("'{option}' needs a value")
        }
        ErrorKind::TooManyValues => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            format!("'{option}' takes no value, but has '{value}'")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            format!("{}; see 'hupwrap --help'", first.trim_start_matches("error: "))
        }
    }
}

/// Whether a suggestion of clap's helps: to it, `--on` is near to everything.
fn is_near(suggested: &str, said: &str) -> bool {
    suggested.starts_with(said) || suggested.len().abs_diff(said.len()) <= 3
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
    fn an_error_is_one_line_that_helps() {
        let cases = [
            ("hupwrap --on-hop restart x", "unknown option '--on-hop'; did you mean '--on-hup'?"),
            ("hupwrap --stop-sig x", "unknown option '--stop-sig'; did you mean '--stop-signal'?"),
            ("hupwrap --stop", "'--stop <FILE>' needs a value"),
            (
                "hupwrap --frobnicate x",
                "unknown option '--frobnicate'; see 'hupwrap --help'. Options of COMMAND stand behind its name",
            ),
            ("hupwrap -x", "unknown option '-x'; see 'hupwrap --help'. Options of COMMAND stand behind its name"),
            ("hupwrap --group", "'--group <WHICH>' needs a value"),
            ("hupwrap --no-tether=yes x", "'--no-tether' takes no value, but has 'yes'"),
        ];
        for (line, error) in cases {
            assert_eq!(read(&words(line)), Err(error.to_owned()), "{line}");
        }
        let alone = "stands alone, or with --timeout: it does not go with";
        for (line, form, other) in [
            ("--reload f -- x y", "--reload 'f'", "COMMAND 'x'"),
            ("--reload f --stop g", "--reload 'f'", "--stop 'g'"),
            ("--check c --wait-ready f", "--wait-ready 'f'", "--check 'c'"),
            ("--timeout 5 --status f --no-tether", "--status 'f'", "--no-tether"),
            ("--stop f -q", "--stop 'f'", "--quiet"),
        ] {
            let line = format!("hupwrap {line}");
            assert_eq!(read(&words(&line)), Err(format!("{form} {alone} {other}")), "{line}");
        }
        assert_eq!(
            read(&words("hupwrap --timeout 5 x")),
            Err("--timeout '5': it bounds --reload, --stop, --status and --wait-ready; want one of them".to_owned())
        );
        for line in
            ["hupwrap --reload f", "hupwrap --timeout 5 --stop f --", "hupwrap --status=f", "hupwrap --wait-ready=-f"]
        {
            assert!(matches!(read(&words(line)), Ok(Said::Wait(_))), "{line}");
        }
        let odd = OsStr::from_bytes(b"\xff");
        let error = read(&[OsStr::new("hupwrap"), OsStr::new("--group"), odd, OsStr::new("x")]).unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
