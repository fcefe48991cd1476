//! Files beside the pages: the man page, the units, and what README installs.

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
