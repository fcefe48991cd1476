//! The texts of the command line itself: `-h`, `--help`, the man page and the completions. They fit their place, and
//! name what exists.

use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory;
use hupwrap::cli::Args;
use serde_json::Value;

use crate::docs::{file, quoted, section, set, table};
use crate::support::pty::Terminal;
use crate::support::watched::status_where;
use crate::support::*;

/// The help for a terminal of so many columns.
fn help(flag: &str, columns: &str) -> String {
    let ended = Setup::new([flag]).env("COLUMNS", columns).end();
    assert_eq!((ended.shell(), ended.stderr.as_str()), (0, ""), "{flag}");
    ended.stdout
}

fn width(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// The long flags of the program, and how their values are called; empty where there is none.
fn flags() -> BTreeMap<String, String> {
    let flag = |arg: &clap::Arg| {
        let names = arg.get_value_names().filter(|_| arg.get_action().takes_values());
        Some((format!("--{}", arg.get_long()?), names.map(|names| names[0].to_string()).unwrap_or_default()))
    };
    Args::command().get_arguments().filter_map(flag).collect()
}

/// The options that a help names: each with its value, and the text that follows the first line or stands beside it.
fn options(help: &str) -> Vec<(String, String, String)> {
    let mut options: Vec<(String, String, String)> = Vec::new();
    for line in help.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with('-') && [2, 6].contains(&indent) {
            let (option, text) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
            let option = option.rsplit(", ").next().unwrap_or_default();
            let (name, value) = option.split_once(' ').unwrap_or((option, ""));
            options.push((name.to_owned(), value.to_owned(), text.trim().to_owned()));
        } else if let Some((.., text)) = options.last_mut().filter(|_| indent == 6) {
            *text = format!("{text} {}", line.trim()).trim().to_owned();
        }
    }
    assert!(options.len() > 10, "{options:?}");
    options
}

#[test]
fn the_summary_fits_a_screen() {
    for columns in ["", "0", "wide", "-3", "80", "81", "100", "200", "99999999999999999999"] {
        let summary = help("-h", columns);
        assert!(width(&summary) <= 80, "{columns}: {summary}");
        assert!(summary.lines().count() <= 40, "{columns}: {summary}");
        assert_eq!(summary, help("-h", "80"), "{columns}");
    }
    let summary = help("-h", "80");
    let last = summary.lines().last().unwrap_or_default();
    assert!(last.contains("'hupwrap --help' shows every option") && last.contains("'man hupwrap'"), "{last}");
    let flags = flags();
    for (name, value, _) in options(&summary) {
        let known = flags.get(&name).unwrap_or_else(|| panic!("-h names {name}"));
        assert!(*known == value || known.ends_with(&format!("]{value}")), "{name} {value}, not {known}");
    }
}

#[test]
fn the_help_fits_every_terminal() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for flag in ["-h", "--help"] {
        let (wide, widest) = if flag == "-h" { (help(flag, "80"), 80) } else { (help(flag, "100"), 100) };
        for columns in (0..=130).step_by(3) {
            let text = help(flag, &columns.to_string());
            let wanted = if columns == 0 { 80 } else { columns.clamp(40, widest) };
            for line in text.lines().filter(|line| line.chars().count() > wanted) {
                // A command can be copied, and a word is not broken.
                let is_whole = line.trim_start().starts_with("$ ") || line.trim().split(' ').count() == 1;
                assert!(is_whole && columns < 80, "{flag} at {columns}: {line}");
            }
            assert!(width(&text) > wanted * 3 / 4, "{flag} at {columns} is only {} wide", width(&text));
            assert_eq!(words(&text), words(&wide), "{flag} at {columns}");
            assert!(text.lines().all(|line| line.trim_end() == line && line.is_ascii()), "{flag} at {columns}");
        }
    }
}

#[test]
fn the_width_is_that_of_the_terminal() {
    for (rows_wide, columns, wanted) in [(70, None, "70"), (150, None, "100"), (0, None, "80"), (70, Some("90"), "90")]
    {
        let mut terminal = Terminal::new();
        terminal.resize(24, rows_wide);
        let setup = Setup::new(["--help"]).with(|command| {
            command.env_remove("COLUMNS").stdout(terminal.stdio());
            command.envs(columns.map(|columns| ("COLUMNS", columns)));
        });
        let wanted = help("--help", wanted);
        let run = setup.start();
        for line in wanted.lines() {
            assert_eq!(terminal.line(""), line, "{rows_wide}, {columns:?}");
        }
        assert_eq!(run.end().shell(), 0);
    }
    // Not a terminal.
    let ended = Setup::new(["--help"]).with(|command| _ = command.env_remove("COLUMNS")).end();
    assert_eq!(ended.stdout, help("--help", "80"));
}

#[test]
fn the_version_is_one_line() {
    for flag in ["-V", "--version"] {
        assert_eq!(Setup::new([flag]).env("COLUMNS", "1").end().stdout, "hupwrap 0.1.0\n");
    }
}

/// What each option is said to do in a completion script, by its long flag.
fn texts(script: &str) -> BTreeMap<String, String> {
    let text = file(script).replace("\\\n    -d", "-d");
    let fish = |line: &str| {
        let (flag, rest) = line.strip_prefix("complete -c hupwrap -n ")?.split_once(" -l ")?.1.split_once(' ')?;
        Some((format!("--{flag}"), rest.split_once("-d '")?.1.trim_end_matches('\'').to_owned()))
    };
    let zsh = |line: &str| {
        let (flags, rest) = line.trim().split_once('[')?;
        let flag = flags.rsplit_once("--")?.1.trim_end_matches(['=', '}', '\'', '"']);
        let mut text = rest.split_once(']')?.0.to_owned();
        text[..1].make_ascii_uppercase();
        let is_flag = line.starts_with("  ") && flag.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_flag.then(|| (format!("--{flag}"), text))
    };
    text.lines().filter_map(|line| if script.ends_with(".fish") { fish(line) } else { zsh(line) }).collect()
}

/// The long flags in a text: `--` and a name of lower-case letters.
fn flags_in(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().map(str::to_owned);
    let names = text.match_indices("--").filter_map(|(at, _)| name(&text[at + 2..]));
    set(names.filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).map(|name| format!("--{name}")))
}

/// The long options of the man page, and how their values are called: `.It Fl v , Fl -verbose`, `.It Fl -on-hup Ar
/// ACTION`.
fn man_options() -> BTreeMap<String, String> {
    let man = file("docs/hupwrap.1");
    let items =
        section(&man, "OPTIONS").into_iter().filter_map(|line| line.strip_prefix(".It Fl ")?.rsplit("Fl ").next());
    let plain = |value: &str| {
        let words = value.split(' ').filter(|word| !["Ar", "Ns", "Oo", "Oc", "Op"].contains(word));
        words.collect::<String>()
    };
    let option = |item: &str| {
        let (flag, value) = item.split_once(' ').unwrap_or((item, ""));
        Some((format!("-{}", flag.strip_prefix('-').map(|flag| format!("-{flag}"))?), plain(value)))
    };
    items.filter_map(option).collect()
}

#[test]
fn every_option_is_everywhere() {
    let flags = flags();
    let wanted = set(flags.keys());
    assert!(wanted.contains("--help"), "{wanted:?}");
    let in_help: BTreeMap<_, _> = options(&help("--help", "100"))
        .into_iter()
        .map(|(name, value, _)| (name, value))
        .filter(|(name, _)| name != "-h")
        .collect();
    assert_eq!(in_help, flags, "--help");
    let plain = |(flag, value): (&String, &String)| (flag.clone(), value.replace(['[', ']'], ""));
    assert_eq!(man_options(), flags.iter().map(plain).collect(), "docs/hupwrap.1");
    let readme = file("README.md");
    let in_readme = table(&readme, "## Options").into_iter().flat_map(|row| flags_in(&row[0]));
    let code = |name: &str| {
        let text = file(name);
        set(text.lines().filter(|line| !line.trim().starts_with('#')).flat_map(flags_in))
    };
    let places = BTreeMap::from([
        ("README.md", set(in_readme)),
        ("completions/hupwrap.bash", code("completions/hupwrap.bash")),
        ("completions/_hupwrap", code("completions/_hupwrap")),
        ("completions/_hupwrap, texts", set(texts("completions/_hupwrap").into_keys())),
        ("completions/hupwrap.fish", code("completions/hupwrap.fish")),
        ("completions/hupwrap.fish, texts", set(texts("completions/hupwrap.fish").into_keys())),
    ]);
    for (place, found) in places {
        let missing: Vec<_> = wanted.difference(&found).collect();
        let extra: Vec<_> = found.difference(&wanted).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{place}: missing {missing:?}, too many {extra:?}");
    }
}

/// A shell shows each text alone: there is nothing that a pronoun could refer to.
#[test]
fn the_texts_of_the_completions_stand_alone() {
    let texts = texts("completions/hupwrap.fish");
    assert_eq!(texts, self::texts("completions/_hupwrap"));
    const VERBS: [&str; 21] = [
        "Act",
        "Add",
        "Change",
        "Choose",
        "Exit",
        "Follow",
        "Give",
        "Keep",
        "Limit",
        "Never restart",
        "Refuse",
        "Report",
        "Reset",
        "Restart",
        "Run",
        "Send",
        "Set",
        "Show",
        "Stop",
        "Wait",
        "Write",
    ];
    const PRONOUNS: [&str; 12] =
        ["it", "its", "they", "them", "their", "this", "these", "those", "such", "one", "ones", "before that"];
    for (flag, text) in &texts {
        assert!(VERBS.iter().any(|verb| text.starts_with(&format!("{verb} "))), "{flag}: {text}");
        let bare = format!(" {} ", text.to_lowercase().replace([',', ';', '.'], ""));
        let pronoun = PRONOUNS.iter().find(|word| bare.contains(&format!(" {word} ")));
        assert_eq!(pronoun, None, "{flag}: {text}");
        assert!(text.len() <= 70, "{flag}: {text}");
    }
    // The same words as in the help.
    for (name, _, text) in options(&help("-h", "80")) {
        let wanted = &texts[&name];
        assert!(text == *wanted || text.starts_with(&format!("{wanted}: ")), "-h, {name}: {text}, not {wanted}");
    }
    for (name, _, text) in options(&help("--help", "100")) {
        let wanted = texts.get(&name).map_or("Show the options that people use first", String::as_str);
        let wanted = if name == "--timeout" { "Limit how long " } else { wanted };
        assert!(text.starts_with(wanted) && text.ends_with('.'), "--help, {name}: {text}, not {wanted}");
    }
}

/// The keys of a status file, those of the objects in it too: `reload.outcome`, `listen[].fd`.
fn keys(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = format!("{prefix}{key}");
                keys(&format!("{key}."), value, found);
                found.insert(key);
            }
        }
        Value::Array(all) => {
            let prefix = format!("{}[].", prefix.trim_end_matches('.'));
            all.iter().for_each(|value| keys(&prefix, value, found));
        }
        _ => {}
    }
}

#[test]
fn the_keys_of_the_status_file_are_in_the_pages() {
    let dir = Dir::new();
    let file_path = dir.path().join("status.json");
    let options = ["--listen", "tcp:127.0.0.1:0", "--on-hup=replace", "--ready=fd:9"];
    let mut all = args([&"--status-file", &file_path]);
    all.extend(options.map(Into::into));
    all.extend(args([&puppet(), &"tell=USR1:9"]));
    let mut run = Setup::new(all).start();
    let mut found = BTreeSet::new();
    let mut collect = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        keys("", &status_where(&file_path, what, holds), &mut found);
    };
    let mut child = run.ready().1;
    for _ in 0..2 {
        kill(child, "USR1");
        collect("the child is ready", &|status| status["state"] == "running" && status["child"]["pid"] == child);
        run.kill("HUP");
        child = run.ready().1;
        collect("there are two children", &|status| status["old_child"].is_object());
    }
    kill(child, "USR1");
    collect("two requests are settled", &|status| status["settled"][0].is_object() && status["old_child"].is_null());
    kill(child, "KILL");
    assert_eq!(run.status().code(), None);
    collect("hupwrap has ended", &|status| status["state"] == "ended");
    assert!(
        ["last_exit.code", "last_exit.signal", "settled[].outcome", "listen[].fd"]
            .iter()
            .all(|key| found.contains(*key))
    );

    let man = file("docs/hupwrap.1");
    let items = section(&man, "STATUS FILE").into_iter().filter_map(|line| line.strip_prefix(".It Va "));
    // An object of `settled` is like `reload`.
    let wanted: BTreeSet<String> = found.iter().filter(|key| !key.starts_with("settled[].")).cloned().collect();
    assert_eq!(set(items.flat_map(|item| item.split(" , "))), wanted, "docs/hupwrap.1");
    let rows = table(&file("docs/events.md"), "## The status file");
    for key in &wanted {
        let (first, inner) = key.split_once('.').unwrap_or((key, ""));
        let key = first.trim_end_matches("[]");
        let row = rows.iter().find(|row| quoted(&row[0]).next() == Some(key));
        let row = row.unwrap_or_else(|| panic!("docs/events.md: {key} is missing"));
        let explained = |inner: &str| row[1..].iter().any(|cell| quoted(cell).any(|word| word == inner));
        assert!(inner.is_empty() || explained(inner), "docs/events.md: {first} has {inner}");
    }
}
