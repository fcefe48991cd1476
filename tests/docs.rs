//! What the documents say is so: they are compared with the code and with each other, and their examples are run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::CommandFactory;
use hupwrap::cli::Args;
use hupwrap::config::{ACTIONS, Action, SignalTable};
use hupwrap::exit::{self, ExitStatus};
use hupwrap::facts::StartError;
use hupwrap::machine::message::{Failure, Message, Outcome};
use hupwrap::machine::status::{State, Status};
use hupwrap::machine::{Counts, RequestKind};
use hupwrap::signal::Signal;
use hupwrap::text::messages::{EVENTS, Words};
use hupwrap::text::status_file::{self, StatusFacts};

use crate::support::*;

/// A file of the source.
fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn set<S: Into<String>>(words: impl IntoIterator<Item = S>) -> BTreeSet<String> {
    words.into_iter().map(Into::into).collect()
}

/// The long flags in a text: `--` and a name of lower-case letters.
fn flags_in(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().map(str::to_owned);
    let names = text.match_indices("--").filter_map(|(at, _)| name(&text[at + 2..]));
    set(names.filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).map(|name| format!("--{name}")))
}

/// What stands in backticks in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The cells of the rows of the first table behind a line of a document.
fn table(text: &str, behind: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| *line != behind).skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let table: Vec<Vec<String>> =
        rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!table.is_empty(), "there is no table behind '{behind}'");
    table
}

/// A section of the man page, in its source.
fn section<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let lines = page.lines().skip_while(|line| *line != format!(".Sh {name}")).skip(1);
    let section: Vec<&str> = lines.take_while(|line| !line.starts_with(".Sh ")).collect();
    assert!(!section.is_empty(), "the man page has no section {name}");
    section
}

#[test]
fn every_option_is_everywhere() {
    let options = Args::command();
    let wanted = set(options.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))));
    assert!(wanted.contains("--help"), "{wanted:?}");

    let help = Setup::new(["--help"]).end().stdout;
    let in_help = help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(flags_in);
    let man = file("docs/hupwrap.1");
    // `.It Fl h , Fl -help`
    let in_man = section(&man, "OPTIONS").into_iter().filter(|line| line.starts_with(".It ")).flat_map(|line| {
        let flags = line.split("Fl -").skip(1);
        flags.map(|flag| format!("--{}", flag.split(' ').next().unwrap_or_default()))
    });
    let readme = file("README.md");
    let in_readme = table(&readme, "## Options").into_iter().flat_map(|row| flags_in(&row[0]));
    let fish = file("completions/hupwrap.fish").replace("\\\n", "");
    let in_fish = fish.lines().filter(|line| line.starts_with("complete ")).filter_map(|line| {
        let long = line.split_once(" -l ")?.1;
        Some(format!("--{}", long.split(' ').next()?))
    });
    let places = BTreeMap::from([
        ("--help", set(in_help)),
        ("docs/hupwrap.1", set(in_man)),
        ("README.md", set(in_readme)),
        ("completions/hupwrap.bash", flags_in(&file("completions/hupwrap.bash"))),
        ("completions/_hupwrap", flags_in(&file("completions/_hupwrap"))),
        ("completions/hupwrap.fish", set(in_fish)),
    ]);
    for (place, found) in places {
        let missing: Vec<_> = wanted.difference(&found).collect();
        let extra: Vec<_> = found.difference(&wanted).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{place}: missing {missing:?}, too many {extra:?}");
    }
}

#[test]
fn the_help_fits_a_terminal() {
    let help = Setup::new(["--help"]).end().stdout;
    let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
    assert!(help.lines().count() < 80);
}

#[test]
fn the_actions_are_those_of_the_code() {
    let actions = set(ACTIONS);
    let name = |word: &str| word.split([':', '[']).next().unwrap_or_default().to_owned();
    let readme = file("README.md");
    assert_eq!(
        set(table(&readme, "## Actions").iter().flat_map(|row| quoted(&row[0]).map(name))),
        actions,
        "README.md"
    );
    let signals = file("docs/signals.md");
    let mut found = set(table(&signals, "## Actions").iter().flat_map(|row| quoted(&row[0]).map(name)));
    assert!(found.remove("upgrade+restart") && "upgrade+restart".parse() == Ok(Action::Reexec));
    assert_eq!(found, actions, "docs/signals.md");
    let man = file("docs/hupwrap.1");
    let items = section(&man, "SIGNALS").into_iter().filter_map(|line| line.strip_prefix(".It Cm "));
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

/// The names in the first column of the table behind a line.
fn first_column(page: &str, behind: &str) -> Vec<String> {
    table(page, behind).iter().flat_map(|row| quoted(&row[0]).map(str::to_owned)).collect()
}

/// Both must name the same, each once.
#[track_caller]
fn assert_same(what: &str, page: &[String], code: &[String]) {
    let missing: Vec<_> = code.iter().filter(|name| !page.contains(name)).collect();
    let extra: Vec<_> = page.iter().filter(|name| !code.contains(name)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{what}: missing {missing:?}, superfluous {extra:?}");
    assert_eq!(page.len(), code.len(), "{what}: something stands there twice");
}

/// The variants of an enum, in the source of a file.
fn variants(room: &str, name: &str) -> Vec<String> {
    let source = file(room);
    let (_, rest) = source.split_once(&format!("enum {name} {{\n")).unwrap_or_else(|| panic!("no {name} in {room}"));
    let body = rest.split_once("\n}\n").expect("its end").0;
    // Fields of a variant stand deeper.
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    names.filter_map(|line| line.split([',', ' ', '(']).next()).map(str::to_owned).collect()
}

#[test]
fn the_phases_and_steps_are_those_of_the_code() {
    let states = file("docs/states.md");
    for (behind, room, name) in [
        ("## Phases", "src/machine/generation.rs", "Phase"),
        ("## Probation", "src/machine/generation.rs", "Probation"),
        ("## Requests", "src/machine/request.rs", "Step"),
        ("### Kinds", "src/machine/request.rs", "RequestKind"),
        ("### Outcomes", "src/machine/message.rs", "Outcome"),
        ("## Next", "src/machine/mod.rs", "Next"),
    ] {
        assert_same(name, &first_column(&states, behind), &variants(room, name));
    }
    // A table of what happens has a column for each phase in which something can.
    let head = states.lines().skip_while(|line| *line != "## What happens when").find(|line| line.starts_with('|'));
    let mut columns: Vec<String> = quoted(head.expect("a table")).map(str::to_owned).collect();
    columns.extend(["Gone".to_owned(), "Finished".to_owned()]);
    assert_same("What happens when", &columns, &variants("src/machine/generation.rs", "Phase"));
}

/// The rules and their sections, in their order.
#[test]
fn the_rules_are_those_of_the_code() {
    let rules = file("src/machine/rules.rs");
    let (_, rest) = rules.split_once("const RULES:").expect("the rules");
    let list = rest.split_once("\n];").expect("their end").0;
    let code: Vec<(String, String)> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Machine::")?.split_once(','))
        .map(|(name, section)| (name.to_owned(), section.trim().trim_start_matches("// ").to_owned()))
        .collect();
    let rows = table(&file("docs/ARCHITECTURE.md"), "### Rules");
    let page: Vec<(String, String)> = rows.iter().map(|row| (row[0].replace('`', ""), row[1].clone())).collect();
    assert_eq!(page, code);
}

/// Every file under a directory of the source.
fn sources(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).expect(directory);
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.expect("an entry");
        let name = format!("{directory}/{}", entry.file_name().display());
        match entry.file_type().expect("its type").is_dir() {
            true => all.extend(sources(&name)),
            false => all.push(name),
        }
    }
    all
}

#[test]
fn the_rooms_are_those_of_the_source() {
    let page = file("docs/ARCHITECTURE.md");
    let code: Vec<String> = sources("src").into_iter().filter(|name| name.ends_with(".rs")).collect();
    let (_, rooms) = page.split_once("## Rooms\n").expect("the rooms");
    let rooms = rooms.split_once("\n## ").expect("their end").0;
    let rows = rooms.lines().filter(|line| line.starts_with("| `"));
    let named: Vec<String> = rows.filter_map(|row| quoted(row).next().map(str::to_owned)).collect();
    assert_same("rooms", &named, &code);
    // Where the sections of the contract live: files and rooms that exist, and each section.
    let sections = table(&page, "## Where the sections of the contract live");
    let numbers: Vec<&str> = sections.iter().filter_map(|row| row[0].split(' ').next()).collect();
    assert_eq!(numbers, (1..=13).map(|number| number.to_string()).collect::<Vec<_>>());
    for name in sections.iter().flat_map(|row| row[1..].iter()).flat_map(|cell| quoted(cell)) {
        assert!(code.iter().any(|file| file == name || (name.ends_with('/') && file.starts_with(name))), "{name}");
    }
}

#[test]
fn the_dependencies_are_those_of_the_manifest() {
    let manifest = file("Cargo.toml");
    let named_in = |table: &str| -> Vec<String> {
        let lines =
            manifest.lines().skip_while(|line| *line != table).skip(1).take_while(|line| !line.starts_with('['));
        lines.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
    };
    let mut code = named_in("[dependencies]");
    assert!(!code.is_empty());
    let for_tests: Vec<String> =
        named_in("[dev-dependencies]").into_iter().filter(|name| !code.contains(name)).collect();
    let rows = table(&file("docs/ARCHITECTURE.md"), "## Dependencies");
    let marked = rows.iter().filter(|row| row[1].starts_with("tests only: ")).map(|row| row[0].clone());
    assert_same("dependencies of the tests", &marked.collect::<Vec<_>>(), &for_tests);
    code.extend(for_tests);
    assert_same("dependencies", &rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), &code);
}

/// The tests that hold the invariants exist.
#[test]
fn the_invariants_are_tested() {
    let rows = table(&file("docs/ARCHITECTURE.md"), "## Invariants, and what holds them");
    assert_eq!(rows.len(), 9);
    let mut count = 0;
    for name in rows.iter().flat_map(|row| quoted(&row[2])) {
        let Some((module, test)) = name.split_once("::") else { continue };
        let path = format!("tests/{module}.rs");
        if Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).is_file() {
            assert!(file(&path).contains(&format!("#[test]\nfn {test}()")), "there is no test {name}");
            count += 1;
        }
    }
    assert!(count > 6, "only {count} tests are named");
}

/// The machine imports its own types, and those of four pure rooms.
#[test]
fn the_machine_is_pure() {
    for name in sources("src/machine").iter().filter(|name| !name.ends_with("/tests.rs") && !name.ends_with("/walk.rs"))
    {
        let text = file(name);
        // Unit tests come last.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (at, _) in text.match_indices("crate::") {
            let room = text[at..].split("::").nth(1).unwrap_or_default();
            assert!(["config", "exit", "facts", "machine", "signal"].contains(&room), "{name}: crate::{room}");
        }
        for word in ["nix::", "std::env", "std::process", "std::fs", "std::io", "Instant", "SystemTime", "unsafe "] {
            assert!(!text.contains(word), "{name}: {word}");
        }
    }
}

/// Links inside the documents lead somewhere.
#[test]
fn links_lead_somewhere() {
    let heading = |line: &str| -> Option<String> {
        let title = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
    };
    let pages = [
        "ARCHITECTURE",
        "states",
        "signals",
        "comparison",
        "zero-downtime",
        "recipes",
        "scripts",
        "events",
        "systemd",
        "containers",
    ];
    let pages = pages.map(|page| format!("docs/{page}.md"));
    for name in pages.iter().map(String::as_str).chain(["README.md", "CHANGELOG.md"]) {
        let text = file(name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => name.to_owned(),
                path => Path::new(name).with_file_name(path).display().to_string(),
            };
            let target = file(&target);
            assert!(
                anchor.is_empty() || target.lines().filter_map(heading).any(|it| it == anchor),
                "{name}: {link} leads nowhere"
            );
        }
    }
}

#[test]
fn the_man_page_is_clean() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hupwrap.1");
    let mut linted = false;
    if installed("man").is_some() && installed("groff").is_some() {
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(&page).env("MANWIDTH", "100");
        let out = man.env("LC_ALL", "C.UTF-8").output().expect("man");
        assert!(out.status.success() && out.stderr.is_empty(), "man: {}", String::from_utf8_lossy(&out.stderr));
        linted = true;
    }
    if installed("mandoc").is_some() {
        let out = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output().expect("mandoc");
        let said = [out.stdout, out.stderr].concat();
        assert!(out.status.success() && said.is_empty(), "mandoc: {}", String::from_utf8_lossy(&said));
        linted = true;
    }
    if !linted {
        skipped("the_man_page_is_clean", "neither man with groff nor mandoc is installed");
    }
}

/// A session in a document, behind a line such as `<!-- run: php tini=0.19.0 -->`.
struct Session {
    /// The programs it needs, and their versions where that matters.
    needs: Vec<(String, Option<String>)>,
    /// Each command, and what it prints.
    steps: Vec<(String, Vec<String>)>,
}

fn sessions(text: &str) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(marker) = line.strip_prefix("<!-- run").and_then(|rest| rest.strip_suffix("-->")) else { continue };
        assert_eq!(lines.next(), Some("```console"), "behind {line}");
        let needs = marker.trim_start_matches(':').split_whitespace().map(|need| match need.split_once('=') {
            Some((program, version)) => (program.to_owned(), Some(version.to_owned())),
            None => (need.to_owned(), None),
        });
        let mut session = Session { needs: needs.collect(), steps: Vec::new() };
        for line in lines.by_ref().take_while(|line| *line != "```") {
            if let Some(command) = line.strip_prefix("$ ") {
                session.steps.push((command.to_owned(), Vec::new()));
                continue;
            }
            let step = session.steps.last_mut().expect("a command first");
            match line.strip_prefix("> ") {
                Some(more) => step.0 += &format!("\n{more}"),
                None => step.1.push(line.to_owned()),
            }
        }
        sessions.push(session);
    }
    assert!(!sessions.is_empty());
    sessions
}

/// A line with every pid as 0: digits behind `[` and behind `pid `.
fn without_pids(line: &str) -> String {
    let mut shown = String::new();
    for c in line.chars() {
        let is_pid = c.is_ascii_digit() && (shown.ends_with("[0") || shown.ends_with("pid 0"));
        let begins = c.is_ascii_digit() && (shown.ends_with('[') || shown.ends_with("pid "));
        match (begins, is_pid) {
            (true, _) => shown.push('0'),
            (_, true) => {}
            _ => shown.push(c),
        }
    }
    shown
}

fn missing(needs: &[(String, Option<String>)]) -> Option<String> {
    needs.iter().find_map(|(program, version)| {
        if installed(program).is_none() {
            return Some(format!("no {program}"));
        }
        let version = version.as_ref()?;
        let out = Command::new(program).arg("--version").output().expect(program);
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        let is = said.lines().next()?.split_whitespace().any(|word| word.trim_start_matches('v') == version);
        (!is).then(|| format!("{program} is not {version}, but: {said}"))
    })
}

/// Types a session into a shell. The next command is typed when the one before has printed what it should.
fn replay(document: &str, session: &Session) {
    let first = &session.steps[0].0;
    if let Some(missing) = missing(&session.needs) {
        return skipped(&format!("{document}, from '{first}'"), &missing);
    }
    let dir = Dir::new();
    let mut path = hupwrap().parent().expect("a directory").as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut shell = Setup::of("sh", ["-s"]).stdin().env("PATH", &path).with(|command| {
        command.current_dir(dir.path());
    });
    shell = shell.env("LC_ALL", "C");
    let mut shell = shell.start();
    shell.write("exec 2>&1\n");
    let mut lines = 0;
    for (command, prints) in &session.steps {
        shell.write(&format!("{command}\n"));
        for wanted in prints {
            let line = shell.line("");
            assert_eq!(without_pids(&line), without_pids(wanted), "{document}, after '{command}':\n{}", shell.stdout());
        }
        lines += prints.len();
    }
    // What runs in the background may go on; the shell has had its say.
    shell.write("echo 'that is all'\n");
    assert_eq!(shell.line(""), "that is all", "{document}, from '{first}':\n{}", shell.stdout());
    assert_eq!(shell.stdout().lines().count(), lines + 1, "{document}: {}", shell.stdout());
}

#[test]
fn the_examples_of_the_readme_run() {
    sessions(&file("README.md")).iter().for_each(|session| replay("README.md", session));
}

#[test]
fn the_examples_of_zero_downtime_run() {
    sessions(&file("docs/zero-downtime.md")).iter().for_each(|session| replay("docs/zero-downtime.md", session));
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
        (Message::SuccessorRemains(ExitStatus::Exited(1)), false),
        (Message::StartingAgain(ExitStatus::Exited(1)), false),
        (Message::Killing(1, Duration::from_secs(10)), true),
        (Message::KillingRest(Duration::from_secs(10)), true),
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
    let rows = table(&file("docs/events.md"), "## Lines");
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
    let names = |rows: Vec<Vec<String>>| set(rows.iter().flat_map(|row| quoted(&row[0])));
    assert_eq!(names(table(&page, "## The status file")), set(object.keys()));
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

/// In these, each block of code is run, or says why it is not.
#[test]
fn the_examples_of_the_newer_pages_run() {
    for name in ["docs/events.md", "docs/containers.md", "docs/systemd.md", "docs/recipes.md"] {
        let text = file(name);
        let mut before = "";
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with("```") {
                let said = before.starts_with("<!-- run") || before.starts_with("<!-- not run here: ");
                assert!(inside || said, "{name}: {line}, behind '{before}'");
                inside = !inside;
            }
            before = line;
        }
        sessions(&text).iter().for_each(|session| replay(name, session));
    }
}

#[test]
fn the_units_are_clean() {
    let Some(analyze) = installed("systemd-analyze") else {
        return skipped("the_units_are_clean", "systemd-analyze is not installed");
    };
    let said = Command::new(&analyze).arg("--version").output().expect("systemd-analyze");
    // `systemd 252 (252.38-1~deb12u1)`
    let version = String::from_utf8_lossy(&said.stdout);
    let version: u32 = version.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    for name in ["hupwrap-example.service", "hupwrap-notify-reload.service"] {
        let unit = file(&format!("docs/{name}"));
        assert_eq!(unit.matches("ExecStart=/usr/local/bin/hupwrap ").count(), 1);
        let mut unit = unit.replace("/usr/local/bin/hupwrap", &hupwrap().display().to_string());
        if version < 253 {
            unit = unit.replace("Type=notify-reload", "Type=notify");
        }
        let dir = Dir::new();
        let unit = dir.file(name, unit, 0o644);
        let out = Command::new(&analyze).args(["verify", "--man=no"]).arg(unit).output().expect("systemd-analyze");
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // It loads other units of this machine too, and reports their faults: those do not name ours.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(ours.is_empty(), "{name}: {ours:#?}");
        // Without any line, a failure must be about ours.
        assert!(out.status.success() || !said.is_empty(), "{name}: {}", out.status);
    }
}

#[test]
fn the_comparison_is_so() {
    sessions(&file("docs/comparison.md")).iter().for_each(|session| replay("docs/comparison.md", session));
}

#[test]
fn the_scripts_are_so() {
    sessions(&file("docs/scripts.md")).iter().for_each(|session| replay("docs/scripts.md", session));
}
