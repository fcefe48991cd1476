//! What the pages say is true: they are compared with the program and with each other, and their commands are run.

mod files;
mod pages;
mod program;
mod sessions;
mod structure;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A file of the repository.
pub fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Every file under a directory of the repository. None if there is no such directory.
pub fn files_below(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).into_iter().flatten();
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.expect("an entry");
        let name = format!("{directory}/{}", entry.file_name().display());
        match entry.file_type().expect("its type").is_dir() {
            true => all.extend(files_below(&name)),
            false => all.push(name),
        }
    }
    all.sort();
    all
}

/// Every page: those at the top, and all of docs/ and examples/.
pub fn pages() -> Vec<String> {
    let at_the_top = ["README.md", "CHANGELOG.md"].map(str::to_owned);
    let below = ["docs", "examples"].iter().flat_map(|directory| files_below(directory));
    at_the_top.into_iter().chain(below.filter(|name| name.ends_with(".md"))).collect()
}

pub fn set<S: Into<String>>(words: impl IntoIterator<Item = S>) -> BTreeSet<String> {
    words.into_iter().map(Into::into).collect()
}

/// The parts of a text in backticks.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The cells of the rows of the first table after a line of a page.
pub fn table(text: &str, after: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| *line != after).skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let table: Vec<Vec<String>> =
        rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!table.is_empty(), "there is no table after '{after}'");
    table
}

/// A section of the man page, in its source.
pub fn section<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let lines = page.lines().skip_while(|line| *line != format!(".Sh {name}")).skip(1);
    let section: Vec<&str> = lines.take_while(|line| !line.starts_with(".Sh ")).collect();
    assert!(!section.is_empty(), "the man page has no section {name}");
    section
}
