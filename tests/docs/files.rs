//! Files beside the pages: the man page, and what README installs.

use std::path::Path;
use std::process::Command;

use super::file;
use crate::support::*;

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

/// README's lines with `install`, below another directory than that of the system.
#[test]
fn the_readme_installs_what_is_there() {
    let root = Dir::new();
    let readme = file("README.md");
    let lines: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("sudo install ")).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for line in lines {
        let (what, to) = line.split_once(" /").expect("an absolute path");
        let to = root.path().join(to);
        let mut install = Command::new("install");
        install.args(what.split(' ')).arg(&to).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(install.status().expect("install").success() && to.is_file(), "{line}");
    }
}
