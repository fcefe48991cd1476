//! The structure of the source: no circle of imports, sys apart from the decisions, files that can be read at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Lines of a file without its tests.
const MOST_LINES: usize = 350;

/// Every file of the library without its tests, by its path below src.
fn sources() -> BTreeMap<String, String> {
    fn visit(dir: &Path, root: &Path, all: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                visit(&path, root, all);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let is_test = name.ends_with("tests.rs") || name.ends_with("walk.rs");
            if name.ends_with(".rs") && (!is_test || name == "sys/path_watch/walk.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let tests = text.rfind("\n#[cfg(test)]\n").filter(|at| text[*at..].contains("\nmod tests {"));
                all.insert(name, text[..tests.unwrap_or(text.len())].to_owned());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = BTreeMap::new();
    visit(&root, &root, &mut all);
    all
}

/// The module of a file, as a path below the crate.
fn module(file: &str) -> Vec<String> {
    let name = file.trim_end_matches(".rs");
    name.trim_end_matches("/mod").split('/').map(str::to_owned).collect()
}

/// What a `use` names, braces expanded.
fn expanded(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let (inner, mut depth, mut at) = (rest.rsplit_once('}').unwrap().0, 0, 0);
    let mut parts = Vec::new();
    for (index, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(inner.get(at..index).unwrap().trim());
                at = (index + 1).min(inner.len());
            }
            _ => {}
        }
    }
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.flat_map(|part| expanded(&format!("{prefix}{part}"))).collect()
}

/// The files that each file imports from.
fn imports(sources: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let files: BTreeMap<Vec<String>, &String> = sources.keys().map(|file| (module(file), file)).collect();
    let of = |file: &String, code: &String| {
        let uses = code.split(';').filter_map(|statement| {
            let at = ["use crate::", "use super::"].iter().find_map(|start| statement.rfind(start))?;
            statement.get(at + 4..)
        });
        let found = uses.flat_map(|tree| expanded(&tree.split_whitespace().collect::<String>())).filter_map(|path| {
            let mut at = module(file);
            let mut words = path.split("::").peekable();
            while let Some(word) = words.next_if(|word| ["crate", "super", "self"].contains(word)) {
                match word {
                    "crate" => at.clear(),
                    "super" => drop(at.pop()),
                    _ => {}
                }
            }
            at.extend(words.map(str::to_owned));
            // The longest part that is a module.
            (1..=at.len()).rev().find_map(|length| files.get(at.get(..length)?)).copied()
        });
        found.filter(|found| *found != file).cloned().collect()
    };
    sources.iter().map(|(file, code)| (file.clone(), of(file, code))).collect()
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let mut imports = imports(&sources());
    assert!(imports["supervisor/setup.rs"].contains("sys/sockets.rs"), "the imports are found");
    // Files that nothing is left to import from are no part of a circle.
    loop {
        let done: Vec<String> =
            imports.iter().filter(|(_, from)| from.is_empty()).map(|(file, _)| file.clone()).collect();
        if done.is_empty() {
            break;
        }
        for file in done {
            imports.remove(&file);
            for from in imports.values_mut() {
                from.remove(&file);
            }
        }
    }
    // A room's files belong to its `mod.rs`: what they import from it is theirs.
    let parent = |file: &str| file.rsplit_once('/').map(|(dir, _)| format!("{dir}/mod.rs"));
    let circles: BTreeMap<_, Vec<_>> = imports
        .iter()
        .map(|(file, from)| {
            (file, from.iter().filter(|from| Some(from.to_string()) != parent(file)).collect::<Vec<_>>())
        })
        .filter(|(file, from)| !from.is_empty() && !file.ends_with("mod.rs"))
        .collect();
    let mut left: BTreeMap<String, BTreeSet<String>> =
        circles.into_iter().map(|(file, from)| (file.clone(), from.into_iter().cloned().collect())).collect();
    loop {
        let files: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.values_mut().for_each(|from| from.retain(|from| files.contains(from)));
        left.retain(|_, from| !from.is_empty());
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn system_calls_know_nothing_of_the_decisions() {
    for (file, from) in imports(&sources()) {
        let room = |path: &str| path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let allowed = |from: &str| match room(&file).as_str() {
            "sys" => !["machine", "supervisor", "wait"].contains(&room(from).as_str()),
            "machine" => ["machine", "config", "facts", "signal", "exit"].contains(&room(from).as_str()),
            "text" | "config" => !["sys", "supervisor", "wait"].contains(&room(from).as_str()),
            _ => true,
        };
        let wrong: Vec<_> = from.iter().filter(|from| !allowed(from)).collect();
        assert!(wrong.is_empty(), "{file} imports from {wrong:?}");
    }
}

#[test]
fn unsafe_stands_under_sys_alone() {
    for (file, code) in sources() {
        assert!(file.starts_with("sys/") || !code.contains("unsafe {"), "{file}");
    }
}

#[test]
fn a_file_can_be_read_at_once() {
    for (file, code) in sources() {
        let lines = code.lines().count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines");
    }
}
