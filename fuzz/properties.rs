//! What holds for every input, whatever its bytes. The fuzz targets look for an input that breaks one of these, and the
//! tests feed them the corpora.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, missing_docs)]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use hupwrap::cli::{self, Args, Said};
use hupwrap::config::{Config, Limit, LogFormat, Ready, Shown, Wait};
use hupwrap::exit::ExitStatus;
use hupwrap::machine::Counts;
use hupwrap::machine::status::{ChildStatus, State, Status};
use hupwrap::signal::Signal;
use hupwrap::text::handover::{self, Handover};
use hupwrap::text::listen::{Address, Endpoint, Listen};
use hupwrap::text::log_line::{LONGEST, json_line, text_line};
use hupwrap::text::status_file::{self, Read, StatusFacts};
use hupwrap::text::{env_file, messages, notify as notification};
use hupwrap::wait::summary;

/// Panics if a property does not hold for these bytes.
pub type Property = fn(&[u8]);

/// Each target and its properties.
pub const TARGETS: [(&str, Property); 7] = [
    ("arguments", arguments),
    ("env_files", env_files),
    ("handover", handover),
    ("listen", listen),
    ("notify", notify),
    ("ready", ready),
    ("status_files", status_files),
];

/// An error is not empty, grows no faster than what it quotes, and is written as one line that a terminal cannot obey.
#[track_caller]
fn check_error(error: &str, said: usize) {
    assert!(!error.is_empty());
    assert!(error.len() <= 500 + 20 * said, "{} bytes of {said}: {error:?}", error.len());
    let line = messages::error(error);
    for text in [text_line(&line, false), json_line(&line, SystemTime::UNIX_EPOCH)] {
        assert!(text.len() <= LONGEST, "{} bytes", text.len());
        check_lines(&text);
        assert_eq!(text.lines().count(), 1, "{text:?}");
    }
    let json: serde_json::Value = serde_json::from_str(&json_line(&line, SystemTime::UNIX_EPOCH)).unwrap();
    let message = json["message"].as_str().unwrap();
    assert!(message == error || message.ends_with('…'), "{message:?}");
}

/// A text for people consists of whole lines without control characters.
#[track_caller]
fn check_lines(text: &str) {
    let body = text.strip_suffix('\n').unwrap_or_else(|| panic!("no whole line: {text:?}"));
    let obeyed = body.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(obeyed, None, "{text:?}");
}

/// The input is what stands behind the program's name: words, each up to a NUL.
pub fn arguments(data: &[u8]) {
    let words: Vec<&OsStr> = data.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
    let argv: Vec<&OsStr> = [OsStr::new("hupwrap")].into_iter().chain(words.iter().copied()).collect();
    let args = match cli::read(&argv) {
        Err(error) => return check_error(&error, data.len()),
        Ok(Said::Help { .. } | Said::Version) => return,
        Ok(Said::Wait(args)) => {
            return match Wait::new(&args) {
                Err(error) => check_error(&error, data.len()),
                Ok(wait) => assert!(words.iter().any(|word| word.as_bytes().ends_with(wait.file.as_bytes()))),
            };
        }
        Ok(Said::Supervise(args)) => args,
    };
    let config = match Config::new(args) {
        Err(error) => return check_error(&error, data.len()),
        Ok(config) => config,
    };
    assert_eq!(cli::wants_json(&argv), config.log_format == LogFormat::Json, "{argv:?}");
    // The command is the last words, and nothing in it is an option.
    let (options, command) = words.split_at(words.len().checked_sub(config.command.len()).unwrap());
    assert!(!command.is_empty() && config.command == command, "{command:?} of {words:?}");
    let options = options.strip_suffix(&[OsStr::new("--")]).unwrap_or(options);
    let more = ["--", "--zzz", "--log-format=json"].map(OsStr::new);
    let again: Vec<&OsStr> =
        argv.iter().take(1).chain(options).chain(&more[..1]).chain(command).chain(&more).copied().collect();
    let Ok(Said::Supervise(args)) = cli::read(&again) else { panic!("{again:?}") };
    let longer: Vec<OsString> = command.iter().chain(&more).map(OsString::from).collect();
    assert_eq!(Config::new(args), Ok(Config { command: longer, ..config }), "{again:?}");
}

/// The input is an env file.
pub fn env_files(data: &[u8]) {
    let variables = match env_file::parse(data) {
        Ok(variables) => variables,
        Err(error) => {
            let line = error.strip_prefix("line ").and_then(|rest| rest.split(':').next()).unwrap();
            let line: usize = line.parse().unwrap();
            assert!((1..=data.split(|byte| matches!(byte, b'\n' | b'\r')).count()).contains(&line), "{error}");
            // The file may hold a secret: the text of an error does not depend on it.
            return check_error(&error, 0);
        }
    };
    let size: usize = variables.iter().map(|(name, value)| name.len() + 1 + value.len()).sum();
    assert!(size <= data.len(), "{size} of {} bytes", data.len());
    for (name, value) in &variables {
        assert!(!name.is_empty() && !name.contains(&b'=') && ![name, value].iter().any(|text| text.contains(&0)));
    }
    // What was read is read again, from a file that quotes all of it.
    let mut quoted = Vec::new();
    for (name, value) in &variables {
        quoted.extend([name.as_slice(), b"=\""].concat());
        for byte in value {
            match byte {
                b'\r' => quoted.extend(b"\\r"),
                b'\\' | b'"' | b'$' => quoted.extend([b'\\', *byte]),
                _ => quoted.push(*byte),
            }
        }
        quoted.extend(b"\"\n");
    }
    assert_eq!(env_file::parse(&quoted).as_ref(), Ok(&variables));
    // A file may be continued, is the same with a byte order mark, and the same on Windows.
    let more = [data, b"\n# more\nMORE='1'"].concat();
    let last = (b"MORE".to_vec(), b"1".to_vec());
    assert_eq!(env_file::parse(&more), Ok(variables.iter().cloned().chain([last]).collect()));
    if !data.starts_with(b"\xef\xbb\xbf") {
        assert_eq!(env_file::parse(&[b"\xef\xbb\xbf", data].concat()).as_ref(), Ok(&variables));
    }
    if !data.contains(&b'\r') {
        let crlf = data.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
        assert_eq!(env_file::parse(&crlf).as_ref(), Ok(&variables));
    }
}

/// The input is the state that a re-exec hands over, and the answer of a program that is probed.
pub fn handover(data: &[u8]) {
    let (state, fault) = Handover::salvage(data);
    match (&fault, Handover::decode(data)) {
        (None, Ok(decoded)) => assert_eq!(decoded, state),
        (Some(fault), Err(error)) => assert_eq!(*fault, error),
        (fault, decoded) => panic!("{fault:?} {decoded:?}"),
    }
    if let Some(fault) = fault {
        check_error(&fault, data.len());
    }
    // What could be read is a whole state, and crosses any number of re-execs.
    let bytes = state.encode();
    assert!(bytes.len() <= 1000 + 4 * data.len(), "{} of {}", bytes.len(), data.len());
    assert_eq!(Handover::decode(&bytes), Ok(state));
    if let Err(error) = handover::check_introduction(data) {
        check_error(&error, data.len());
    }
}

/// The input is an address of `--listen`.
pub fn listen(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let args = || Args { listen: vec![text.to_owned()], command: vec!["x".into()], ..Args::default() };
    let listen = match (text.parse::<Listen>(), Config::new(args())) {
        (Ok(listen), Ok(config)) => {
            assert_eq!(config.listen, std::slice::from_ref(&listen));
            listen
        }
        (Err(error), Err(whole)) => {
            assert_eq!(whole, format!("--listen '{text}': {error}"));
            return check_error(&whole, data.len());
        }
        (listen, config) => panic!("{listen:?} {config:?}"),
    };
    assert_eq!(listen.option, text);
    assert!(!text.contains(char::is_control));
    // The parts, put together, mean the same.
    let name = listen.name.as_ref().map_or(String::new(), |name| format!("{name}="));
    let again: Listen = match &listen.address {
        Address::Tcp(endpoint) => format!("{name}tcp:{}", check_endpoint(endpoint)).parse().unwrap(),
        Address::Udp(endpoint) => format!("{name}udp:{}", check_endpoint(endpoint)).parse().unwrap(),
        Address::Unix { path, mode } => {
            assert!((1..108).contains(&path.len()) && *mode <= 0o777 && *path == listen.said);
            format!("{name}unix:{path},mode={mode:04o}").parse().unwrap()
        }
    };
    assert_eq!((again.name, again.address), (listen.name, listen.address));
    assert!(!listen.said.contains(['=', ';']) && text.contains(&listen.said));
}

/// An endpoint as it may be typed.
fn check_endpoint(endpoint: &Endpoint) -> String {
    let Endpoint { host, port } = endpoint;
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    assert_eq!(text.parse().as_ref(), Ok(endpoint));
    text
}

/// The input is a datagram on the NOTIFY_SOCKET, and a status that hupwrap sends itself.
pub fn notify(data: &[u8]) {
    const MOST: usize = 4096;
    let notice = notification::read(data);
    assert!(notice.main_pid.is_none_or(|pid| pid > 0));
    if let Some(passed_up) = &notice.passed_up {
        assert!(passed_up.len() <= MOST && !passed_up.contains(&0));
        let came: Vec<&[u8]> = data.split(|byte| matches!(byte, b'\n' | b'\r' | 0)).collect();
        for line in passed_up.split(|byte| *byte == b'\n') {
            let key = line.split(|byte| *byte == b'=').next().unwrap();
            assert!([&b"STATUS"[..], b"WATCHDOG", b"EXTEND_TIMEOUT_USEC"].contains(&key), "{}", line.escape_ascii());
            assert!(came.contains(&line), "{}", line.escape_ascii());
        }
        let again = notification::read(passed_up);
        assert_eq!(again, notification::Notice { ready: false, main_pid: None, ..notice.clone() });
    }
    // Each line counts by itself, up to the length that systemd takes.
    if data.len() < MOST && !data.ends_with(b"\0") {
        let twice = notification::read(&[data, b"\n", data].concat());
        assert_eq!((twice.ready, twice.extend, twice.main_pid), (notice.ready, notice.extend, notice.main_pid));
        assert!(twice.passed_up.is_none_or(|lines| lines.starts_with(&notice.passed_up.unwrap_or_default())));
    }
    let text = String::from_utf8_lossy(data);
    let time = Duration::from_micros(u64::MAX);
    for message in
        [notification::status(&text), notification::ready(Some(&text)), notification::reloading(time, Some(&text))]
    {
        assert!(message.len() <= MOST && !message.contains(&0));
        let notice = notification::read(&message);
        assert_eq!((notice.extend, notice.main_pid), (None, None));
        assert!(notice.passed_up.is_some_and(|lines| lines.starts_with(b"STATUS=") && !lines.contains(&b'\n')));
    }
}

/// The input is the value of `--ready`, and if it is a duration, of every option that takes one.
pub fn ready(data: &[u8]) {
    const LONGEST_TIME: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let config =
        |ready: &str| Config::new(Args { ready: Some(ready.to_owned()), command: vec!["x".into()], ..Args::default() });
    let timeout = |text: &str| {
        Config::new(Args { stop_timeout: Some(text.to_owned()), command: vec!["x".into()], ..Args::default() })
            .map(|config| config.stop_timeout.unwrap())
    };
    let found = match config(text) {
        Ok(config) => config.ready,
        Err(error) => {
            assert!(error.starts_with(&format!("--ready '{text}': ")), "{error:?}");
            check_error(&error, data.len());
            match timeout(text) {
                Ok(Limit::After(time)) => Ready::Delay(time),
                Ok(Limit::Never) => return assert_eq!(text, "never"),
                Err(error) => return check_error(&error, data.len()),
            }
        }
    };
    let again = match &found {
        Ready::Exec => "exec".to_owned(),
        Ready::Notify => "notify".to_owned(),
        Ready::Fd(fd) => {
            assert!(*fd > 2);
            format!("fd:{fd}")
        }
        Ready::Tcp(endpoint) => {
            assert!(endpoint.port > 0);
            format!("tcp:{}", check_endpoint(endpoint))
        }
        Ready::Cmd(words) => {
            assert!(words.first().is_some_and(|word| !word.is_empty()));
            format!("cmd:{}", shell_words::join(words.iter().map(|word| word.to_str().unwrap())))
        }
        Ready::Delay(time) => {
            assert!(*time <= LONGEST_TIME);
            let exact = format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
            assert_eq!(timeout(&exact), Ok(Limit::After(*time)));
            // What is shown is rounded, and can be typed.
            let Ok(Limit::After(shown)) = timeout(&Shown(*time).to_string()) else { panic!("{}", Shown(*time)) };
            assert!(shown.abs_diff(*time) <= Duration::from_micros(500).max(*time / 19), "{}", Shown(*time));
            format!("delay:{exact}")
        }
    };
    assert_eq!(config(&again).map(|config| config.ready).as_ref(), Ok(&found), "{again:?}");
}

/// The input is a status file.
pub fn status_files(data: &[u8]) {
    let read = match status_file::read(data) {
        Ok(read) => read,
        Err(error) => return check_error(&error, 0),
    };
    assert!(read.pid > 0);
    let now = summary::Now { time: Duration::from_secs(1000), age: Duration::from_secs(7) };
    let text = summary::text(&read, now);
    check_lines(&text);
    assert!(text.lines().all(|line| line.len() > 11), "{text:?}");
    assert!(text.len() <= 1000 + 20 * data.len(), "{} of {}", text.len(), data.len());
    // Written by hupwrap, it is read as it was.
    let Some(written) = rewritten(&read) else { return };
    check_lines(&written);
    assert_eq!(written.lines().count(), 1);
    let again = status_file::read(written.as_bytes()).unwrap();
    assert_eq!(again, Read { all: again.all.clone(), ..read });
}

/// The status file of a hupwrap of which all of this is true; none if it is in no state that there is.
fn rewritten(read: &Read) -> Option<String> {
    use State::*;
    let states = [Starting, Running, Checking, Replacing, Stopping, Waiting, Ended];
    let object = |key: &str| read.all.get(key).and_then(serde_json::Value::as_object);
    let status = Status {
        state: states.into_iter().find(|state| state.name() == read.state)?,
        generation: 2,
        child: object("child").map(|child| ChildStatus {
            generation: 2,
            since: Duration::ZERO,
            ready: child.get("ready") == Some(&true.into()),
        }),
        old_child: object("old_child").map(|_| 1),
        counts: Counts::default(),
        last_exit: Some(ExitStatus::Killed(Signal::TERM)),
    };
    let facts = StatusFacts {
        pid: read.pid,
        pid_start: read.pid_start,
        on_hup: read.on_hup.clone(),
        late: read.late,
        reload: read.reload.as_ref(),
        settled: &read.settled,
        listen: &[],
    };
    Some(status_file::write(&status, &facts, |_| 7))
}
