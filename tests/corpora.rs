//! The corpora of the fuzz targets, as ordinary tests.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../fuzz/properties.rs"]
mod properties;

fn fuzz(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// What is in a directory under `fuzz/`, sorted.
fn files(directory: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(fuzz(directory)).unwrap_or_else(|error| panic!("{directory}: {error}"));
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let names = |directory: &str| -> BTreeSet<String> {
        files(directory).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let targets: BTreeSet<String> = properties::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for target in targets {
        assert!(manifest.contains(&format!("\npath = \"fuzz_targets/{target}.rs\"\n")), "{target}");
        let program = fs::read_to_string(fuzz(&format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(program.contains(&format!("hupwrap_fuzz::{target}(data)")), "{target}");
        assert!(files(&format!("corpus/{target}")).len() > 9, "{target}");
    }
}

#[test]
fn the_properties_hold_for_the_corpora() {
    let mut broken = Vec::new();
    for (target, property) in properties::TARGETS {
        for file in files(&format!("corpus/{target}")) {
            let data = fs::read(&file).unwrap();
            if catch_unwind(|| property(&data)).is_err() {
                broken.push(file);
            }
        }
    }
    assert!(broken.is_empty(), "what is wrong with each is said above: {broken:#?}");
}
