//! The tables of the pages are those of the program: options, actions, signals, exit codes, events, the status file.

use std::collections::BTreeSet;
use std::time::Duration;

use hupwrap::config::{ACTIONS, Action, SignalTable};
use hupwrap::exit::{self, ExitStatus};
use hupwrap::facts::StartError;
use hupwrap::machine::message::{Failure, Message, Outcome};
use hupwrap::machine::status::{State, Status};
use hupwrap::machine::{Counts, RequestKind};
use hupwrap::signal::Signal;
use hupwrap::text::events::EVENTS;
use hupwrap::text::messages::Words;
use hupwrap::text::status_file::{self, StatusFacts};

use super::sessions::without_pids;
use super::{file, quoted, section, set, table};

#[test]
fn the_actions_are_those_of_the_code() {
    let actions = set(ACTIONS);
    let name = |word: &str| word.split([':', '[']).next().unwrap_or_default().to_owned();
    let readme = file("README.md");
    let row = readme.lines().find(|line| line.starts_with("| `--on-hup ACTION`")).expect("the option");
    let (_, named) = row.split_once("ACTION is ").expect("the actions");
    assert_eq!(set(quoted(named).map(name)), actions, "README.md");
    let signals = file("docs/signals.md");
    let mut found = set(table(&signals, "## Actions").iter().flat_map(|row| quoted(&row[0]).map(name)));
    assert!(found.remove("upgrade+restart") && "upgrade+restart".parse() == Ok(Action::Reexec));
    assert_eq!(found, actions, "docs/signals.md");
    let man = file("docs/hupwrap.1");
    let items = section(&man, "ACTIONS").into_iter().filter_map(|line| line.strip_prefix(".It Cm "));
    assert_eq!(set(items.filter_map(|item| item.split(' ').next())), actions, "docs/hupwrap.1");
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    let man = file("docs/hupwrap.1");
    let items = section(&man, "EXIT STATUS").into_iter().filter_map(|line| line.strip_prefix(".It ")?.parse().ok());
    let wanted = [exit::TIMED_OUT, exit::OWN_FAILURE, exit::CANNOT_EXECUTE, exit::NOT_FOUND];
    assert_eq!(items.collect::<Vec<u8>>(), wanted);
    // What it says of 128+N.
    for (name, code) in [("HUP", 129), ("TERM", 143)] {
        let signal = name.parse().expect("a signal");
        assert_eq!(exit::Ending::Told(signal).code(), code);
        assert!(section(&man, "EXIT STATUS").iter().any(|line| line.contains(&format!("{code} for {name}"))));
    }
}

#[test]
fn the_signal_table_is_that_of_the_code() {
    let code = SignalTable::default();
    let signals = file("docs/signals.md");
    let mut seen = BTreeSet::new();
    for row in table(&signals, "# Signals") {
        let names: Vec<Signal> = quoted(&row[0]).map(|name| name.parse().expect(name)).collect();
        let mut named = BTreeSet::from_iter(names.iter().copied());
        if row[0].starts_with("`RTMIN` to `RTMAX`") {
            named.extend(Signal::all().filter(|signal| (names[0]..=names[1]).contains(signal)));
        }
        let said = quoted(&row[1]).next().filter(|_| row[1].starts_with('`')).map(str::parse::<Action>);
        let action = match said {
            Some(action) => action.expect("an action"),
            None => {
                assert!(row[1].starts_with("left alone"), "{row:?}");
                Action::LeftAlone
            }
        };
        for signal in named {
            assert_eq!(code.of(signal), action, "{signal}");
            assert!(seen.insert(signal), "{signal} stands there twice");
        }
    }
    let missing: Vec<Signal> = Signal::all().filter(|signal| !seen.contains(signal)).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
}

#[test]
fn the_lines_are_those_of_the_code() {
    let minute = Duration::from_secs(60);
    let ended = Failure::Ended(ExitStatus::Exited(1));
    let settled = |kind, outcome| Message::Settled { kind, began: Duration::ZERO, outcome };
    let failed = |kind, failure| settled(kind, Outcome::Failed(failure));
    let error = StartError { code: 127, transient: false, reason: "./app: not found".to_owned() };
    let lines = [
        (Message::Restarting(1), true),
        (Message::Replacing(1), true),
        (Message::Replaced { old: 1, new: 2 }, true),
        (settled(RequestKind::Replace, Outcome::Refused("REASON".to_owned())), true),
        (failed(RequestKind::Replace, ended.clone()), true),
        (failed(RequestKind::Replace, Failure::Ended(ExitStatus::Exited(0))), true),
        (failed(RequestKind::Replace, Failure::EndedInOverlap(ExitStatus::Exited(1))), true),
        (failed(RequestKind::Replace, Failure::NotReady(minute)), true),
        (failed(RequestKind::Restart, ended.clone()), false),
        (Message::NotReady(1, minute), false),
        (Message::SuccessorRemains { status: ExitStatus::Exited(1), ready: false }, false),
        (Message::SuccessorRemains { status: ExitStatus::Exited(1), ready: true }, false),
        (Message::StartingAgain(ExitStatus::Exited(1)), false),
        (Message::StartingSoon, false),
        (Message::Killing(1, Duration::from_secs(10)), true),
        (Message::Killing(1, Duration::ZERO), true),
        (Message::KillingRest(Duration::from_secs(10)), true),
        (Message::KillingRest(Duration::ZERO), true),
        (Message::StartingLater(error, Duration::from_millis(100)), false),
        (Message::Reexecuted { before: hupwrap::NAME_AND_VERSION.to_owned() }, true),
    ];
    let texts = |listens| {
        let words = Words::new("./app", listens);
        let text = move |(line, serves): &(Message, bool)| {
            let entry = words.log_line(line, *serves, None, |generation| if generation == 1 { 4711 } else { 4712 });
            without_pids(&format!("hupwrap: {}", entry.text))
        };
        lines.iter().map(text).collect::<Vec<_>>()
    };
    let mut wanted = set(texts(true));
    // A hint where there are no sockets.
    wanted.extend(texts(false));
    let document = file("docs/zero-downtime.md");
    let rows = table(&document, "## What hupwrap says");
    assert_eq!(set(rows.iter().flat_map(|row| quoted(&row[0]).map(without_pids))), wanted);
}

#[test]
fn the_events_are_those_of_the_code() {
    let page = file("docs/events.md");
    let rows = table(&page, "## Messages");
    let found: Vec<(String, String, Vec<String>)> = rows
        .iter()
        .map(|row| (row[0].replace('`', ""), row[1].clone(), quoted(&row[2]).map(str::to_owned).collect()))
        .collect();
    let facts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let wanted: Vec<_> = EVENTS
        .iter()
        .map(|kind| (kind.name.to_owned(), format!("{:?}", kind.level).to_lowercase(), facts(kind.facts)))
        .collect();
    assert_eq!(found, wanted);
    let explained = table(&page, "| fact | type | what it is |");
    let explained = set(explained.iter().flat_map(|row| quoted(&row[0])));
    assert_eq!(explained, set(EVENTS.iter().flat_map(|kind| kind.facts.iter().copied())));
}

#[test]
fn the_status_file_is_that_of_the_code() {
    let status = Status {
        state: State::Waiting,
        generation: 1,
        child: None,
        old_child: None,
        counts: Counts::default(),
        last_exit: None,
    };
    let facts = StatusFacts {
        pid: 1,
        pid_start: None,
        on_hup: String::new(),
        late: false,
        reload: None,
        settled: &[],
        listen: &[],
    };
    let text = status_file::write(&status, &facts, |_| 1);
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("an object");
    let page = file("docs/events.md");
    let keys = table(&page, "## The status file");
    assert_eq!(set(keys.iter().flat_map(|row| quoted(&row[0]))), set(object.keys()));
    for row in &keys {
        let name = quoted(&row[0]).next().expect("a key");
        let types: &[&str] = match &object[name] {
            serde_json::Value::Null => &["null"],
            serde_json::Value::Bool(_) => &["boolean"],
            serde_json::Value::Number(_) => &["integer", "time"],
            serde_json::Value::String(_) => &["string"],
            serde_json::Value::Array(_) => &["array"],
            serde_json::Value::Object(_) => &["object"],
        };
        assert!(types.iter().any(|kind| row[1].contains(kind)), "{name} is no {}, but {}", row[1], object[name]);
    }
    let states = [
        State::Starting,
        State::Running,
        State::Checking,
        State::Replacing,
        State::Stopping,
        State::Waiting,
        State::Ended,
    ];
    let behind = page.lines().find(|line| line.starts_with("| state |")).expect("the states");
    let rows = page.lines().skip_while(|line| *line != behind).skip(2).take_while(|line| line.starts_with('|'));
    assert_eq!(set(rows.filter_map(|line| quoted(line).next())), set(states.map(State::name)));
}
