//! docs/ARCHITECTURE.md and docs/states.md describe the source as it is.

use super::{file, files_below, quoted, table};

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

#[test]
fn the_rooms_are_those_of_the_source() {
    let page = file("docs/ARCHITECTURE.md");
    let code: Vec<String> = files_below("src").into_iter().filter(|name| name.ends_with(".rs")).collect();
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
    let tests = files_below("tests");
    let mut count = 0;
    for name in rows.iter().flat_map(|row| quoted(&row[2])) {
        let Some((module, test)) = name.rsplit_once("::") else { continue };
        let path = format!("tests/{}.rs", module.replace("::", "/"));
        if tests.contains(&path) {
            assert!(file(&path).contains(&format!("#[test]\nfn {test}()")), "there is no test {name}");
            count += 1;
        }
    }
    assert!(count > 6, "only {count} tests are named");
}

/// The machine imports its own types, and those of four pure rooms.
#[test]
fn the_machine_is_pure() {
    for name in
        files_below("src/machine").iter().filter(|name| !name.ends_with("/tests.rs") && !name.ends_with("/walk.rs"))
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
