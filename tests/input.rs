//! Bad input: one clear line, 125, and nothing was started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use hupwrap::cli::{Said, read};
use hupwrap::config::{Config, Wait};
use proptest::prelude::*;

use crate::support::pty::Terminal;
use crate::support::*;

/// Runs hupwrap with these options in front of a command that leaves a trace, and returns what was said.
#[track_caller]
fn refused(options: &[&OsStr]) -> String {
    let dir = Dir::new();
    let command = ["touch", "trace"].map(OsStr::new);
    let words = options.iter().chain(&command);
    let ended = Setup::new(words).with(|command| _ = command.current_dir(dir.path())).end();
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(125), ""), "{options:?}");
    assert!(!dir.path().join("trace").exists(), "{options:?}: something was started");
    let said = ended.stderr.strip_prefix("hupwrap: ").and_then(|said| said.strip_suffix('\n'));
    let said = said.unwrap_or_else(|| panic!("{options:?}: {:?}", ended.stderr));
    assert!(!said.is_empty() && !said.contains('\n'), "{options:?}: {:?}", ended.stderr);
    said.to_owned()
}

#[test]
fn an_error_names_what_is_wrong_and_what_would_be_right() {
    for (options, parts) in [
        (&["--on-hop", "restart"][..], &["--on-hop", "did you mean '--on-hup'?"][..]),
        (&["--stop-tiemout=3s"], &["--stop-tiemout", "did you mean '--stop-timeout'?"]),
        (&["--zzz"], &["--zzz", "--help"]),
        (&["-x"], &["-x", "--help"]),
        (&["--no-tether=yes"], &["--no-tether", "yes", "no value"]),
        (&["--on-hup", "reboot"], &["--on-hup", "reboot", "restart, reexec"]),
        (&["--on-hup", "re-exec"], &["--on-hup", "did you mean 'reexec'?"]),
        (&["--on-hup="], &["--on-hup"]),
        (&["--on", "USR1"], &["--on", "USR1", "SIGNAL=ACTION"]),
        (&["--on", "SIGUSR3=stop"], &["--on", "USR3", "no such signal", "did you mean 'USR1'?"]),
        (&["--on", "USR1=stop:USR3"], &["--on", "USR3", "no such signal"]),
        (&["--on", "USR1=restart:TERM"], &["--on", "restart:TERM", "stop:SIG"]),
        (&["--on", "KILL=stop"], &["--on", "KILL"]),
        (&["--on", "19=ignore"], &["--on", "STOP"]),
        (&["--stop-signal", "TREM"], &["--stop-signal", "TREM", "no such signal", "did you mean 'TERM'?"]),
        (&["--stop-signal", "STOP"], &["--stop-signal", "STOP", "suspends", "TERM"]),
        (&["--stop-signal", "TSTP"], &["--stop-signal", "TSTP", "suspends", "TERM"]),
        (&["--on", "TTIN=stop"], &["--on", "TTIN=stop", "TTIN=stop:TERM"]),
        (&["--stop-signal", "18"], &["--stop-signal", "18", "continues", "TERM"]),
        (&["--on", "USR1=stop:CONT"], &["--on", "CONT", "continues", "TERM"]),
        (&["--on-hup", "stop:STOP"], &["--on-hup", "STOP", "suspends", "TERM"]),
        (&["--on", "CONT=stop"], &["--on", "CONT=stop:TERM"]),
        (&["--stop-signal", "65"], &["--stop-signal", "65"]),
        (&["--stop-signal", "0"], &["--stop-signal", "0"]),
        (&["--parent-death", "x"], &["--parent-death", "x"]),
        (&["--stop-timeout", "1M"], &["--stop-timeout", "1M", "did you mean '1m'?"]),
        (&["--stop-timeout", "2months"], &["--stop-timeout", "2months", "month"]),
        (&["--stop-timeout", "1year"], &["--stop-timeout", "1year", "year"]),
        (&["--stop-timeout", "4000d"], &["--stop-timeout", "4000d", "ten years", "never"]),
        (&["--stop-timeout", "18446744073709551615s"], &["--stop-timeout", "18446744073709551615s"]),
        (&["--stop-timeout", "18446744073709551616"], &["--stop-timeout", "ten years"]),
        (&["--stop-timeout=-1"], &["--stop-timeout", "-1", "10s"]),
        (&["--stop-timeout", "soon"], &["--stop-timeout", "soon", "10s"]),
        (&["--stop-timeout="], &["--stop-timeout"]),
        (&["--kill-mode", "all"], &["--kill-mode", "all", "mixed, process or group"]),
        (&["--group", "new"], &["--group", "new", "own or shared"]),
        (&["--restart", "onfailure"], &["--restart", "no, on-failure or always", "did you mean 'on-failure'?"]),
        (&["--map-status", "256=0"], &["--map-status", "256=0", "FROM=TO"]),
        (&["--map-status", "TERM"], &["--map-status", "TERM", "FROM=TO"]),
        (&["--map-status", "USR3=0"], &["--map-status", "USR3=0", "FROM=TO"]),
    ] {
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        let said = refused(&options);
        for part in parts {
            assert!(said.contains(part), "{options:?}: no '{part}' in '{said}'");
        }
    }
}

/// The whole line for each mistake that is made often.
#[test]
fn the_suggested_fix_matches_the_mistake() {
    const DURATION: &str = "want a duration such as 10s, 1m30s, 250ms or 1.5 (seconds)";
    const SOCKET: &str = "want [NAME=]tcp:HOST:PORT, [NAME=]udp:HOST:PORT or [NAME=]unix:PATH[,mode=0660]";
    const GO_AFTER: &str = "options of COMMAND go after it";
    const READY: &str = "want exec, notify, fd:N, delay:T, tcp:HOST:PORT or cmd:CMD";
    const MAP: &str = "want FROM=TO; FROM is 0 to 255 or a signal's name, TO is 0 to 255";
    const NO_SHELL: &str = "is shell syntax, and no shell runs CMD; want";
    const USELESS: &str = "has no effect without --restart; add --restart on-failure or --restart always";
    for (options, line) in [
        (&["--on-term", "stop"][..], "unknown option '--on-term'; did you mean '--on TERM=stop'?".to_owned()),
        (&["--stop-timeout", "-5"], "--stop-timeout '-5': a duration is not negative; want one such as 10s".to_owned()),
        (
            &["--stop-timeout", "infinity"],
            format!("--stop-timeout 'infinity': {DURATION}, or never; did you mean 'never'?"),
        ),
        (&["--stop-timeout", "10S"], format!("--stop-timeout '10S': {DURATION}, or never; did you mean '10s'?")),
        (&["--restart-delay", "never"], format!("--restart-delay 'never': 'never' is not possible here; {DURATION}")),
        (&["--overlap", "never"], format!("--overlap 'never': 'never' is not possible here; {DURATION}")),
        (
            &["--listen", "unix:x.sock,mod=0666"],
            "--listen 'unix:x.sock,mod=0666': unknown option 'mod'; did you mean 'mode'?".to_owned(),
        ),
        (
            &["--listen", "unix:x.sock,user=www"],
            "--listen 'unix:x.sock,user=www': unknown option 'user'; want ',mode=0660' or nothing".to_owned(),
        ),
        (
            &["--listen", "localhost:8080"],
            format!(
                "--listen 'localhost:8080': 'localhost' is no kind of socket; {SOCKET}; did you mean 'tcp:localhost:8080'?"
            ),
        ),
        (
            &["--listen", ":8080"],
            format!(
                "--listen ':8080': '' is no kind of socket; {SOCKET}; did you mean 'tcp:localhost:8080', or 'tcp:*:8080' for every IPv4 address?"
            ),
        ),
        (
            &["--listen", "8080"],
            format!(
                "--listen '8080': {SOCKET}; did you mean 'tcp:localhost:8080', or 'tcp:*:8080' for every IPv4 address?"
            ),
        ),
        (
            &["--listen", "web=8080"],
            format!(
                "--listen 'web=8080': {SOCKET}; did you mean 'web=tcp:localhost:8080', or 'web=tcp:*:8080' for every IPv4 address?"
            ),
        ),
        (&["--listen", "/run/x.sock"], format!("--listen '/run/x.sock': {SOCKET}; did you mean 'unix:/run/x.sock'?")),
        (
            &["--listen", "TCP:*:80"],
            format!("--listen 'TCP:*:80': 'TCP' is no kind of socket; {SOCKET}; did you mean 'tcp:*:80'?"),
        ),
        (
            &["--listen", "[::1]:80"],
            format!("--listen '[::1]:80': '[' is no kind of socket; {SOCKET}; did you mean 'tcp:[::1]:80'?"),
        ),
        (
            &["--listen", "http://localhost:8080"],
            format!(
                "--listen 'http://localhost:8080': 'http' is no kind of socket; {SOCKET}; did you mean 'tcp:localhost:8080'?"
            ),
        ),
        (&["--listen", "fd:3"], format!("--listen 'fd:3': 'fd' is no kind of socket; {SOCKET}")),
        (
            &["--listen", "unix:x.sock,0666"],
            "--listen 'unix:x.sock,0666': want the mode as ',mode='; did you mean ',mode=0666'?".to_owned(),
        ),
        (&["--ready", "notify:3"], format!("--ready 'notify:3': {READY}; did you mean 'notify'?")),
        (&["--ready", "fd=3"], format!("--ready 'fd=3': {READY}; did you mean 'fd:3'?")),
        (&["--ready", "cmd"], format!("--ready 'cmd': {READY}; did you mean 'cmd:CMD'?")),
        (&["--stop-timeout", "1h30"], format!("--stop-timeout '1h30': {DURATION}, or never; did you mean '1h30m'?")),
        (&["--map-status", "143"], format!("--map-status '143': {MAP}; did you mean '143=0'?")),
        (&["--map-status", "TREM=0"], format!("--map-status 'TREM=0': {MAP}; did you mean 'TERM'?")),
        (
            &["--on", "HUP:restart"],
            "--on 'HUP:restart': want SIGNAL=ACTION, such as USR1=restart; did you mean 'HUP=restart'?".to_owned(),
        ),
        (&["-help"], "unknown option '-help'; did you mean '--help'?".to_owned()),
        (&["-on-hup=stop"], "unknown option '-on-hup'; did you mean '--on-hup=stop'?".to_owned()),
        (
            &["--preserve-status"],
            format!("unknown option '--preserve-status'; {GO_AFTER}; hupwrap always ends as COMMAND ends; remove it"),
        ),
        (
            &["--check", "! true"],
            "--check '! true': !: not found; '!' is part of the shell, not a program: want sh -c '! …'".to_owned(),
        ),
        (&["-s", "TERM"], format!("unknown option '-s'; {GO_AFTER}; for the stop signal: '--stop-signal SIG'")),
        (
            &["--user", "x"],
            format!(
                "unknown option '--user'; {GO_AFTER}; \
                 for another user: 'setpriv --reuid USER --regid GROUP --init-groups COMMAND'"
            ),
        ),
        (
            &["-e", "A=b"],
            format!(
                "unknown option '-e'; {GO_AFTER}; for a variable: 'env NAME=VALUE COMMAND', or '--env-file FILE'; for a status: '--map-status 143=0'"
            ),
        ),
        (
            &["--check", "true && false"],
            format!("--check 'true && false': '&&' {NO_SHELL} --check \"sh -c 'true && false'\""),
        ),
        (
            &["--ready", "cmd:test -e $X"],
            format!("--ready 'cmd:test -e $X': '$X' {NO_SHELL} --ready \"cmd:sh -c 'test -e \\$X'\""),
        ),
        (&["--restart-limit", "3"], format!("--restart-limit '3': {USELESS}")),
        (&["--restart-reset", "3s"], format!("--restart-reset '3s': {USELESS}")),
        (&["--no-restart-on", "3"], format!("--no-restart-on '3': {USELESS}")),
        (&["--check-timeout", "3s"], "--check-timeout '3s': has no effect without --check; add it".to_owned()),
        (
            &["--overlap", "3s"],
            "--overlap '3s': has no effect unless a signal means replace or upgrade+replace; add --on-hup replace"
                .to_owned(),
        ),
        (
            &["--check", "true", "--on-hup", "ignore"],
            "--check 'true': has no effect, because no signal starts anything; want another action for HUP".to_owned(),
        ),
        // An invalid value is reported before a combination.
        (
            &["--restart-limit", "3", "--ready", "soon"],
            "--ready 'soon': want exec, notify, fd:N, delay:T, tcp:HOST:PORT or cmd:CMD".to_owned(),
        ),
        (
            &["--ready", "fd"],
            "--ready 'fd': want exec, notify, fd:N, delay:T, tcp:HOST:PORT or cmd:CMD; did you mean 'fd:3'?".to_owned(),
        ),
        (&["--pidfile", ""], "--pidfile '': the path is empty; want a file".to_owned()),
        (&["--status-file="], "--status-file '': the path is empty; want a file".to_owned()),
        (
            &["--child-pidfile", ""],
            "--child-pidfile '': the path is empty; want the file that the child writes its pid to".to_owned(),
        ),
        (&["--env-file", "f", "--env-file", ""], "--env-file '': the path is empty; want a file".to_owned()),
        (&["--workdir", ""], "--workdir '': the path is empty; want a directory".to_owned()),
        (
            &["--watch", ""],
            "--watch '': the path is empty; want a file or a directory, which need not exist yet".to_owned(),
        ),
        (&["--reload", "f", "--group", "x"], "--group 'x': want own or shared".to_owned()),
        (
            &["--reload", "f"],
            "--reload 'f' stands alone, or with --timeout: remove it, or remove COMMAND 'touch'".to_owned(),
        ),
    ] {
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        assert_eq!(refused(&options), line);
    }
    assert_eq!(
        refused(&[OsStr::new("--group"), OsStr::from_bytes(b"\xff")]),
        "--group '\u{fffd}': it is not UTF-8; only paths, COMMAND and its arguments may be arbitrary bytes"
    );
}

/// Each fix that an error shows is accepted.
#[test]
fn the_shown_fix_can_be_typed() {
    for command in ["true && false", "test -e $X", "echo 'a b' | cat", "A=\"b\" true", "ls ~ `id` \\* *"] {
        for (option, value) in [("--check", command.to_owned()), ("--ready", format!("cmd:{command}"))] {
            let said = refused(&[option, &value].map(OsStr::new));
            let (_, fix) = said.split_once("; want ").expect(&said);
            let ended = Setup::of("sh", ["-c", &format!("exec \"$0\" {fix} -- sh -c 'exit 3'")]).with(|sh| {
                sh.arg(hupwrap());
            });
            assert_eq!(ended.end().shell(), 3, "{fix}");
        }
    }
}

#[test]
fn a_command_from_habit_is_recognised() {
    let dir = Dir::new();
    dir.file("app.php", "<?php", 0o644);
    dir.file("run", "", 0o644);
    dir.file("noexec.sh", "#!/bin/sh\n", 0o644);
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    for (words, code, line) in [
        (
            &["sleep 1"][..],
            127,
            "sleep 1: not found; the name contains a space: want the words without quotes around them (sleep …), or sh -c 'sleep 1'",
        ),
        (&["app.php"], 127, "app.php: not found; did you mean './app.php', or 'php app.php'?"),
        (&["run", "x"], 127, "run: not found; did you mean './run'?"),
        (&["directory"], 127, "directory: not found"),
        (
            &["./noexec.sh"],
            126,
            "./noexec.sh: cannot be executed: permission denied; did you mean to 'chmod +x ./noexec.sh' first, or 'sh ./noexec.sh'?",
        ),
        (&["ls|wc"], 127, "ls|wc: not found; '|' is shell syntax: want sh -c 'ls|wc'"),
        (&["cd", "/"], 127, "cd: not found; 'cd' is part of the shell, not a program: want sh -c 'cd …'"),
        (&["~/x"], 127, "~/x: not found; only a shell expands '~': want the whole path"),
        (
            &["FOO=bar", "cmd"],
            127,
            "FOO=bar: not found; FOO=VALUE in front of a command is shell syntax: want 'env FOO=bar COMMAND', or --env-file",
        ),
    ] {
        let ended = Setup::new(words).dir(dir.path()).env("PATH", "/usr/bin:/bin").end();
        assert_eq!((ended.shell(), ended.stderr), (code, format!("hupwrap: {line}\n")), "{words:?}");
    }
}

/// Options of one kind or another, with and without a terminal.
#[test]
fn an_error_looks_as_the_command_line_says() {
    for options in [
        &["--log-format", "json", "--on-hop", "x"][..],
        &["--on-hop", "x", "--log-format=json"],
        &["--log-format", "json", "--group", "x", "true"],
        &["--log-format", "json", "--restart-limit", "3", "true"],
        &["--log-format", "json"],
        &["--stop-timeout", "--log-format", "json", "--", "true"],
        &["--log-format", "json", "--", "no-such-program"],
    ] {
        let said = Setup::new(options).end().stderr;
        let line: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!((line["level"].as_str(), said.lines().count()), (Some("error"), 1), "{said}");
    }
    for options in [&["--on-hop", "x"][..], &["--group", "x", "true"], &[], &["--timeout", "x", "--stop", "f"]] {
        let mut terminal = Terminal::new();
        let setup = Setup::new(options).env("TERM", "xterm").with(|command| {
            command.stderr(terminal.stdio()).env_remove("NO_COLOR");
        });
        assert_eq!(setup.end().shell(), 125);
        assert!(terminal.line("").starts_with("\u{1b}[1;31mhupwrap:\u{1b}[0m "), "{options:?}");
    }
}

#[test]
fn an_error_is_one_line_whatever_the_value() {
    for value in [&b"a\nb"[..], b"\xff\xfe", b"\x1b[31m", b"'", "\u{2028}\u{85}".as_bytes(), &[b'x'; 3000]] {
        for option in ["--on", "--on-hup", "--stop-signal", "--stop-timeout", "--kill-mode", "--group", "--map-status"]
        {
            let joined = OsString::from_vec([option.as_bytes(), b"=", value].concat());
            for said in [refused(&[OsStr::new(option), OsStr::from_bytes(value)]), refused(&[&joined])] {
                assert!(said.contains(option) || said.contains("UTF-8"), "{said}");
                assert!(!said.contains(char::is_control), "{said:?}");
            }
        }
        let unknown = OsString::from_vec([b"--x", value].concat());
        refused(&[&unknown]);
        let short = OsString::from_vec([b"-", value].concat());
        refused(&[&short]);
    }
}

/// A value may be as long as it likes. What is wrong with it is said all the same.
#[test]
fn a_long_value_does_not_hide_the_reason() {
    for length in [1300, 5000, 100_000] {
        let long = "x".repeat(length);
        let (words, check, way, path) =
            (format!("sleep 1 {long}"), format!("true {long} && x"), format!("a {long}"), format!("./{long}"));
        for (words, part) in [
            (&[&*words][..], "not found; the name contains a space"),
            (&[&*path], "too long"),
            (&["--pidfile", &*long, "true"], "too long"),
            (&["--status-file", &*long, "true"], "too long"),
            (&["--workdir", &*long, "true"], "too long"),
            (&["--env-file", &*long, "true"], "too long"),
            (&["--reload", &*long, "--", &*long], "stands alone"),
            (&["--group", &*long, "true"], "want own or shared"),
            (&["--check", &*check, "true"], "'&&' is shell syntax"),
            (&["--ready", &*way, "true"], "want exec, notify, fd:N"),
        ] {
            for format in ["text", "json"] {
                let ended = Setup::new(["--log-format", format].iter().chain(words)).end();
                assert!(ended.stderr.contains(part), "{}", ended.stderr);
                assert!(
                    ended.stderr.len() <= 4096 && (length < 5000 || ended.stderr.contains('…')),
                    "{}",
                    ended.stderr
                );
            }
        }
        let ended = Setup::new(["--reload", &long]).end();
        assert!(
            ended.stderr.starts_with("hupwrap: --reload 'xx") && ended.stderr.contains("too long"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_command_is_needed() {
    for words in [&[][..], &["--"], &["--on-hup", "restart"], &["--no-tether", "--"], &["--group", "own"]] {
        let ended = Setup::new(words).end();
        assert_eq!((ended.shell(), ended.stdout.as_str()), (125, ""), "{words:?}");
        let wanted = "hupwrap: no command given; want hupwrap [OPTIONS] [--] COMMAND [ARG]..., see 'hupwrap --help'\n";
        assert_eq!(ended.stderr, wanted, "{words:?}");
    }
    for option in ["--on", "--on-hup", "--stop-signal", "--stop-timeout", "--kill-mode", "--group", "--map-status"] {
        let ended = Setup::new([option]).end();
        assert_eq!((ended.shell(), ended.stderr.lines().count()), (125, 1), "{option}");
        assert!(ended.stderr.contains(option) && ended.stderr.contains("needs a value"), "{}", ended.stderr);
    }
}

#[test]
fn options_end_where_the_command_begins() {
    let ended = Setup::new(["echo", "--version", "--on", "nonsense", "--", "-x"]).end();
    assert_eq!((ended.shell(), ended.stdout.as_str()), (0, "--version --on nonsense -- -x\n"));
    let ended = Setup::new(["--group", "own", "--", "echo", "x", "--help"]).end();
    assert_eq!((ended.shell(), ended.stdout.as_str()), (0, "x --help\n"));
    // Behind `--` even what looks like an option is a command.
    let ended = Setup::new(["--", "--version"]).env("PATH", "/usr/bin:/bin").end();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (127, "hupwrap: --version: not found\n"));
}

// In this process, thousands of times.

/// A piece of an argument: what options are made of, and what they are not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "--",
        "-",
        "=",
        "--on",
        "--on-hup",
        "--stop-signal",
        "--stop-timeout",
        "--kill-mode",
        "--group",
        "--no-tether",
        "--parent-death",
        "--map-status",
        "--help",
        "--version",
        "-h",
        "-V",
        "-hV",
        "--hupwrap-probe",
        "HUP",
        "sigterm",
        "RTMIN+3",
        "RTMAX-1",
        "RTMAX-31",
        "64",
        "65",
        "0",
        "-1",
        "255",
        "256",
        "restart",
        "reexec",
        "upgrade",
        "upgrade+restart",
        "forward",
        "forward:",
        "stop",
        "stop:",
        "stop:KILL",
        "ignore",
        ":",
        "+",
        ".",
        "1.5",
        "10s",
        "1m30s",
        "1M",
        "1y",
        "99999999999999999999",
        "never",
        "mixed",
        "process",
        "group",
        "own",
        "shared",
        "sh",
        "-c",
        "",
        " ",
        "\u{661}",
        "\u{130}",
    ];
    prop_oneof![
        4 => proptest::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(1_u8..=255, 0..6),
    ]
}

fn word() -> impl Strategy<Value = OsString> {
    prop_oneof![
        2 => piece(),
        1 => (piece(), piece()).prop_map(|(one, other)| [one, other].concat()),
        2 => (piece(), piece(), piece()).prop_map(|(one, two, three)| [&one[..], b"=", &two, &three].concat()),
        1 => (piece(), piece(), piece()).prop_map(|(one, two, three)| [&one[..], b"=", &two, b"=", &three].concat()),
    ]
    .prop_map(OsString::from_vec)
}

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() }
}

/// What hupwrap makes of the words behind its name.
fn understood(words: &[OsString]) -> Result<Option<Config>, String> {
    let argv: Vec<&OsStr> = [OsStr::new("hupwrap")].into_iter().chain(words.iter().map(OsString::as_os_str)).collect();
    match read(&argv)? {
        Said::Help { .. } | Said::Version => Ok(None),
        Said::Wait(args) => Wait::new(&args).map(|_| None),
        Said::Supervise(args) => Config::new(args).map(Some),
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn no_words_make_it_panic(words in proptest::collection::vec(word(), 0..8)) {
        match understood(&words) {
            Ok(Some(config)) => prop_assert!(!config.command.is_empty()),
            Ok(None) => {}
            Err(error) => {
                prop_assert!(!error.is_empty());
                // What was said is repeated as it was; that it stays one line is the report's business.
                let several = words.iter().any(|word| word.as_bytes().contains(&b'\n'));
                prop_assert!(several || error.lines().count() == 1, "{error:?}");
            }
        }
    }

    #[test]
    fn words_behind_two_dashes_are_the_commands(words in proptest::collection::vec(word(), 1..6)) {
        for front in [&["--"][..], &["--no-tether", "--"], &["--group=own", "--"]] {
            let all: Vec<OsString> = front.iter().map(OsString::from).chain(words.iter().cloned()).collect();
            let config = understood(&all).map_err(TestCaseError::fail)?;
            prop_assert_eq!(config.map(|config| config.command), Some(words.clone()));
        }
    }
}
