//! Errors of the command line as one line each, with a hint that fits the mistake.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use crate::signal::Signal;
use crate::text::{cut, hints};

/// Options of other programs, and what does the same here.
const HABITS: [(&[&str], &str); 20] = [
    (&["-s", "--signal", "--kill-signal"], "for the stop signal: '--stop-signal SIG'"),
    (&["-k", "--kill-after", "--kill-timeout"], "for KILL after a time: '--stop-timeout T'"),
    (
        &["-e", "--env", "--environment"],
        "for a variable: 'env NAME=VALUE COMMAND', or '--env-file FILE'; for a status: '--map-status 143=0'",
    ),
    (&["-u", "--user", "--uid"], "for another user: 'setpriv --reuid USER --regid GROUP --init-groups COMMAND'"),
    (&["-w", "-C", "--chdir", "--cwd", "--directory", "--working-directory"], "for the directory: '--workdir DIR'"),
    (&["-g"], "for the whole process group: '--kill-mode group'"),
    (&["-c", "--command", "--shell"], "for a shell command: 'sh -c CMD'"),
    (
        &["-d", "--daemon", "--daemonize", "--background", "--detach", "--foreground"],
        "hupwrap runs in the foreground: for the background, append '&'",
    ),
    (&["--on-kill", "--on-stop"], "no program can catch KILL or STOP; name another signal"),
    (&["--silent"], "did you mean '--quiet'?"),
    (&["--tether"], "COMMAND is tethered by default; remove it"),
    (&["--no-restart", "--restart-policy"], "for restarts: '--restart no', the default, or on-failure or always"),
    (&["--every", "--interval", "--max-lifetime", "--ttl"], "did you mean '--max-age T', a new child after a time?"),
    (&["-n", "--name"], "hupwrap has no names; '--status-file FILE' identifies one"),
    (&["--hup", "--replace", "--reexec", "--upgrade", "--forward"], "for what HUP does: '--on-hup ACTION'"),
    (
        &["--delay"],
        "for the delay before a restart: '--restart-delay T'; for readiness after a time: '--ready delay:T'",
    ),
    (&["--limit", "--max-restarts", "--retries", "--retry"], "for the number of restarts: '--restart-limit N'"),
    (&["--preserve-status"], "hupwrap always ends as COMMAND ends; remove it"),
    (&["--health", "--health-cmd", "--healthcheck"], "for readiness: '--ready cmd:CMD'"),
    (&["--port"], "for a socket: '--listen tcp:HOST:PORT'"),
];

/// clap explains over several lines. A log wants one.
pub(super) fn explain(options: &Command, argv: &[&OsStr], error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let option = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            as_value(options, argv, &option).unwrap_or_else(|| unknown(options, argv, &option))
        }
        ErrorKind::InvalidUtf8 => not_utf8(options, argv),
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            format!("'{option}' needs a value; see 'hupwrap --help'")
        }
        ErrorKind::TooManyValues => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            format!("'{option}' takes no value, but has '{value}'; remove it")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            format!("{}; see 'hupwrap --help'", first.trim_start_matches("error: "))
        }
    }
}

/// An option that hupwrap does not have.
fn unknown(options: &Command, argv: &[&OsStr], option: &str) -> String {
    // Of `-help`, clap names the first letter that is no option.
    let word = argv.iter().map(|word| word.to_string_lossy()).find(|word| match option.strip_prefix("--") {
        Some(_) => word.starts_with(option),
        None => !word.starts_with("--") && word.starts_with('-') && word.contains(option.trim_start_matches('-')),
    });
    let word = word.unwrap_or_else(|| option.into());
    let (name, value) = word.find('=').and_then(|at| word.split_at_checked(at)).unwrap_or((&word, ""));
    let longs: Vec<&str> = options.get_arguments().filter_map(Arg::get_long).collect();
    if let Some(long) = longs.iter().find(|long| hints::plain(long) == hints::plain(name)) {
        return format!("unknown option '{name}'; did you mean '--{long}{}'?", cut(value, LONGEST));
    }
    let said = option.strip_prefix("--").unwrap_or_default();
    let signal = said.strip_prefix("on-");
    if let Some(signal) = signal.filter(|name| name.parse::<Signal>().is_ok_and(Signal::can_be_caught)) {
        let action = after(argv, option).unwrap_or_else(|| "ACTION".to_owned());
        return format!("unknown option '{option}'; did you mean '--on {}={action}'?", signal.to_ascii_uppercase());
    }
    let habit = HABITS.iter().find(|(names, _)| names.contains(&option)).map(|(_, hint)| *hint);
    let mut begun = longs.iter().filter(|long| said.len() > 2 && long.starts_with(said));
    let near = match (begun.next(), begun.next()) {
        (Some(one), None) => Some(*one),
        _ => hints::near(said, &longs),
    };
    match (habit, near) {
        (None, Some(near)) => format!("unknown option '{option}'; did you mean '--{near}'?"),
        (habit, _) => {
            format!(
                "unknown option '{option}'; options of COMMAND go after it; {}",
                habit.unwrap_or("see 'hupwrap --help'")
            )
        }
    }
}

/// How long a value is at most that is repeated.
const LONGEST: usize = 200;

/// What clap takes for an unknown option may be meant as the value of the option before it.
fn as_value(options: &Command, argv: &[&OsStr], option: &str) -> Option<String> {
    let at = argv.iter().position(|word| word.as_bytes().starts_with(option.as_bytes()))?;
    let word = argv.get(at)?.to_string_lossy();
    let before = argv.get(at.checked_sub(1)?)?.to_string_lossy();
    let arg = options.get_arguments().find(|arg| takes_next(arg, &before))?;
    let is_number = word.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let is_duration = has_values(arg, &["T"]);
    let signal = word.trim_start_matches('-').parse::<Signal>();
    if let (Ok(signal), true) = (signal, has_values(arg, &["SIG"])) {
        return Some(format!("{before} '{word}': no signal begins with '-'; did you mean '{signal}'?"));
    }
    Some(match (is_number, is_duration) {
        (true, true) => format!("{before} '{word}': a duration is not negative; want one such as 10s"),
        (true, false) => format!("{before} '{word}': the value is not negative"),
        (false, _) => format!("'{before}' needs a value; if '{word}' is the value, write '{before}={word}'"),
    })
}

/// Names the option whose value is not UTF-8, which clap does not.
fn not_utf8(options: &Command, argv: &[&OsStr]) -> String {
    const WHAT: &str = "is not UTF-8; only paths, COMMAND and its arguments may be arbitrary bytes";
    let found = argv.windows(2).find_map(|pair| {
        let [before, word] = pair else { return None };
        let not_utf8 = word.to_str().is_none();
        let (before, word) = (before.to_string_lossy(), word.to_string_lossy());
        let (option, value) = word.split_once('=').unwrap_or((&before, &word));
        let arg = options.get_arguments().find(|arg| takes_next(arg, option))?;
        (not_utf8 && !has_values(arg, &["FILE", "DIR", "PATH"])).then(|| format!("{option} '{value}': it {WHAT}"))
    });
    found.unwrap_or_else(|| format!("the value of an option {WHAT}"))
}

/// Whether the help calls the option's value by one of these.
fn has_values(arg: &Arg, names: &[&str]) -> bool {
    arg.get_value_names().is_some_and(|all| all.iter().any(|name| names.contains(&name.as_str())))
}

/// Whether this is the option without a `=`, and the next word is its value.
fn takes_next(arg: &Arg, word: &str) -> bool {
    arg.get_action().takes_values() && arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long))
}

/// The value of an option that clap does not know.
fn after(argv: &[&OsStr], option: &str) -> Option<String> {
    let mut words = argv.iter().map(|word| word.to_string_lossy());
    let word = words.find(|word| word.starts_with(option))?;
    match word.strip_prefix(option)?.strip_prefix('=') {
        Some(value) => Some(value.to_owned()),
        None => words.next().filter(|word| !word.starts_with('-')).map(std::borrow::Cow::into_owned),
    }
}

/// Whether the last `--log-format` before the command says `json`.
pub(super) fn wants_json(options: &Command, argv: &[&OsStr]) -> bool {
    let mut words = argv.iter().skip(1).map(|word| word.to_string_lossy()).peekable();
    let mut json = false;
    while let Some(word) = words.next().filter(|word| word.starts_with('-') && !matches!(&**word, "-" | "--")) {
        let known = options.get_arguments().find(|arg| {
            arg.get_long()
                .is_some_and(|long| word.strip_prefix("--").is_some_and(|word| word.split('=').next() == Some(long)))
        });
        let value = match (word.split_once('='), known) {
            (Some((_, value)), _) => Some(value.to_owned()),
            (None, Some(arg)) if !takes_next(arg, &word) => None,
            // The word after an unknown option may be its value or the command. Assume the value. An option is no
            // value.
            (None, _) if word.starts_with("--") => {
                words.next_if(|word| word == "-" || !word.starts_with('-')).map(std::borrow::Cow::into_owned)
            }
            (None, _) => None,
        };
        if word.starts_with("--log-format") {
            json = value.as_deref() == Some("json");
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::cli::{Args, read};

    use super::*;

    fn words(line: &str) -> Vec<&OsStr> {
        line.split(' ').map(OsStr::new).collect()
    }

    #[test]
    fn an_error_is_one_line_that_helps() {
        let go_after = "options of COMMAND go after it";
        for (line, error) in [
            ("--on-hop restart x", "unknown option '--on-hop'; did you mean '--on-hup'?".to_owned()),
            ("--stop-sig x", "unknown option '--stop-sig'; did you mean '--stop-signal'?".to_owned()),
            ("--stop", "'--stop <FILE>' needs a value; see 'hupwrap --help'".to_owned()),
            ("--frobnicate x", format!("unknown option '--frobnicate'; {go_after}; see 'hupwrap --help'")),
            ("-help", "unknown option '-help'; did you mean '--help'?".to_owned()),
            ("-quiet x", "unknown option '-quiet'; did you mean '--quiet'?".to_owned()),
            ("-on-hup=replace x", "unknown option '-on-hup'; did you mean '--on-hup=replace'?".to_owned()),
            ("--on HUP=stop -restart x", "unknown option '-restart'; did you mean '--restart'?".to_owned()),
            ("--ON-HUP stop x", "unknown option '--ON-HUP'; did you mean '--on-hup'?".to_owned()),
            ("--pid_file=f x", "unknown option '--pid_file'; did you mean '--pidfile=f'?".to_owned()),
            ("--wait x", "unknown option '--wait'; did you mean '--wait-ready'?".to_owned()),
            ("--restrat no x", "unknown option '--restrat'; did you mean '--restart'?".to_owned()),
            ("--re x", format!("unknown option '--re'; {go_after}; see 'hupwrap --help'")),
            ("-vx x", format!("unknown option '-x'; {go_after}; see 'hupwrap --help'")),
            ("--hup stop x", format!("unknown option '--hup'; {go_after}; for what HUP does: '--on-hup ACTION'")),
            (
                "--preserve-status x",
                format!(
                    "unknown option '--preserve-status'; {go_after}; hupwrap always ends as COMMAND ends; remove it"
                ),
            ),
            (
                "--max-restarts 3 x",
                format!("unknown option '--max-restarts'; {go_after}; for the number of restarts: '--restart-limit N'"),
            ),
            ("--shell x", format!("unknown option '--shell'; {go_after}; for a shell command: 'sh -c CMD'")),
            ("-x", format!("unknown option '-x'; {go_after}; see 'hupwrap --help'")),
            ("--group", "'--group <WHICH>' needs a value; see 'hupwrap --help'".to_owned()),
            ("--no-tether=yes x", "'--no-tether' takes no value, but has 'yes'; remove it".to_owned()),
            ("--on-term stop x", "unknown option '--on-term'; did you mean '--on TERM=stop'?".to_owned()),
            ("--on-usr1=restart x", "unknown option '--on-usr1'; did you mean '--on USR1=restart'?".to_owned()),
            ("--on-term -- x", "unknown option '--on-term'; did you mean '--on TERM=ACTION'?".to_owned()),
            ("-s TERM x", format!("unknown option '-s'; {go_after}; for the stop signal: '--stop-signal SIG'")),
            (
                "-e A=b x",
                format!(
                    "unknown option '-e'; {go_after}; for a variable: 'env NAME=VALUE COMMAND', or '--env-file FILE'; for a status: '--map-status 143=0'"
                ),
            ),
            (
                "--user www x",
                format!(
                    "unknown option '--user'; {go_after}; for another user: 'setpriv --reuid USER --regid GROUP --init-groups COMMAND'"
                ),
            ),
            (
                "--every 1h x",
                format!("unknown option '--every'; {go_after}; did you mean '--max-age T', a new child after a time?"),
            ),
            (
                "--interval=1h x",
                format!(
                    "unknown option '--interval'; {go_after}; did you mean '--max-age T', a new child after a time?"
                ),
            ),
            ("--stop-timeout -5 x", "--stop-timeout '-5': a duration is not negative; want one such as 10s".to_owned()),
            (
                "--stop-timeout -5s x",
                "--stop-timeout '-5s': a duration is not negative; want one such as 10s".to_owned(),
            ),
            ("--restart-limit -1 x", "--restart-limit '-1': the value is not negative".to_owned()),
            (
                "--stop-signal -TERM x",
                "--stop-signal '-TERM': no signal begins with '-'; did you mean 'TERM'?".to_owned(),
            ),
            ("--parent-death -9 x", "--parent-death '-9': no signal begins with '-'; did you mean 'KILL'?".to_owned()),
            (
                "--on-kill stop x",
                format!(
                    "unknown option '--on-kill'; {go_after}; no program can catch KILL or STOP; name another signal"
                ),
            ),
            ("--silent x", format!("unknown option '--silent'; {go_after}; did you mean '--quiet'?")),
            ("--path x", format!("unknown option '--path'; {go_after}; see 'hupwrap --help'")),
            ("--tether x", format!("unknown option '--tether'; {go_after}; COMMAND is tethered by default; remove it")),
            ("--replace x", format!("unknown option '--replace'; {go_after}; for what HUP does: '--on-hup ACTION'")),
            ("--check -x y", "'--check' needs a value; if '-x' is the value, write '--check=-x'".to_owned()),
        ] {
            assert_eq!(read(&words(&format!("hupwrap {line}"))), Err(error), "{line}");
        }
    }

    #[test]
    fn the_log_format_is_found_in_a_line_that_cannot_be_parsed() {
        for (line, want) in [
            ("", false),
            ("--log-format json --zzz x", true),
            ("--zzz --log-format=json x", true),
            ("--zzz yes --log-format=json x", true),
            ("-x --log-format=json x", true),
            ("--log-format=json --log-format text --zzz", false),
            ("--check json --zzz", false),
            ("--check --log-format=json --zzz", true),
            ("--stop-timeout --log-format json -- x", true),
            ("--stop-timeout -5 --log-format json x", true),
            ("--check - --log-format json --zzz", true),
            ("-- --log-format json", false),
            ("ls --log-format json", false),
            ("- --log-format json", false),
            ("--no-tether ls --log-format json", false),
            ("--log-format", false),
            ("--log-formats json", true),
        ] {
            assert_eq!(wants_json(&Args::command(), &words(&format!("hupwrap {line}"))), want, "{line}");
        }
    }
}
