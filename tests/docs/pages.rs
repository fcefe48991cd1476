//! Pages are found, their links lead somewhere, and those for users say nothing of the code.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::{file, files_below, pages};

/// Pages for people who change hupwrap.
const FOR_DEVELOPERS: [&str; 5] =
    ["docs/ARCHITECTURE.md", "docs/states.md", "docs/CONTRIBUTING.md", "docs/RELIABILITY.md", "docs/SECURITY.md"];
/// Columns of a line, except in tables and blocks of code.
const MOST_COLUMNS: usize = 120;

/// The prose of a page: what stands outside of blocks of code.
fn prose(text: &str) -> String {
    let mut inside = false;
    let prose = text.lines().filter(|line| {
        inside ^= line.starts_with("```");
        !inside && !line.starts_with("```")
    });
    prose.map(|line| format!("{line}\n")).collect()
}

/// The relative links of a page: the file, and the anchor if there is one.
fn links(page: &str) -> Vec<(String, Option<String>)> {
    let text = prose(&file(page));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let relative = links.filter(|link| !link.contains("://"));
    let target = |path: &str| {
        let mut target = Path::new(page).parent().expect("a directory").to_path_buf();
        for part in Path::new(path).components() {
            match part {
                Component::ParentDir => assert!(target.pop(), "{page}: {path}"),
                part => target.push(part),
            }
        }
        target.display().to_string()
    };
    let split = relative.map(|link| match link.split_once('#') {
        Some(("", anchor)) => (page.to_owned(), Some(anchor.to_owned())),
        Some((path, anchor)) => (target(path), Some(anchor.to_owned())),
        None => (target(link), None),
    });
    split.collect()
}

#[test]
fn links_lead_somewhere() {
    let heading = |line: &str| -> Option<String> {
        let title = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
    };
    for page in pages() {
        for (target, anchor) in links(&page) {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            assert!(root.join(&target).exists(), "{page}: there is no {target}");
            let Some(anchor) = anchor else { continue };
            let found = prose(&file(&target)).lines().filter_map(heading).any(|it| it == anchor);
            assert!(found, "{page}: {target}#{anchor} leads nowhere");
        }
    }
}

/// Links lead from README to every page.
#[test]
fn every_page_is_found_from_the_readme() {
    let all = pages();
    let (mut found, mut next) = (BTreeSet::new(), vec!["README.md".to_owned()]);
    while let Some(page) = next.pop() {
        if all.contains(&page) && found.insert(page.clone()) {
            next.extend(links(&page).into_iter().map(|(target, _)| target));
        }
    }
    let lost: Vec<&String> = all.iter().filter(|page| !found.contains(*page)).collect();
    assert!(lost.is_empty(), "no link leads from README.md to {lost:?}");
}

#[test]
fn pages_for_users_say_nothing_of_the_code() {
    let rooms: BTreeSet<String> =
        files_below("src").iter().filter_map(|name| name.rsplit('/').next()).map(str::to_owned).collect();
    for page in pages().iter().filter(|page| !FOR_DEVELOPERS.contains(&page.as_str())) {
        let text = file(page);
        for word in ["src/", "crate::", "tests/fixtures"] {
            assert!(!text.contains(word), "{page}: {word}");
        }
        let named: Vec<&String> = rooms.iter().filter(|room| text.contains(&format!("`{room}`"))).collect();
        assert!(named.is_empty(), "{page}: {named:?}");
    }
}

#[test]
fn lines_fit_a_window() {
    for page in pages() {
        let text = prose(&file(&page));
        let long = text.lines().filter(|line| !line.starts_with('|') && line.chars().count() > MOST_COLUMNS);
        let long: Vec<&str> = long.collect();
        assert!(long.is_empty(), "{page}: {long:#?}");
    }
}
