//! The table of docs/env-files.md: what hupwrap and python-dotenv make of real-world lines.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Command;

use crate::support::*;

/// The variables of a file; none if it is an error.
type Variables = Option<BTreeMap<String, String>>;

struct Row {
    /// What is in the file.
    text: Vec<u8>,
    /// The same as it is on the page.
    shown: String,
    hupwrap: Variables,
    python: Variables,
    why: String,
}

const PAGE: &str = include_str!("../docs/env-files.md");

/// What the signs of the page stand for.
const SIGNS: [(char, char); 4] = [('⏎', '\n'), ('␍', '\r'), ('⇥', '\t'), ('␀', '\0')];

/// Bytes as they are on the page.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match SIGNS.iter().find(|(_, byte)| *byte == c) {
                Some((sign, _)) => text.push(*sign),
                None if c.is_control() => text += &format!("⟨{:02X}⟩", u32::from(c)),
                None => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("⟨{byte:02X}⟩")));
    }
    text
}

/// The bytes that are on the page so.
fn bytes(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = shown.chars();
    while let Some(c) = chars.next() {
        match SIGNS.iter().find(|(sign, _)| *sign == c) {
            Some((_, byte)) => bytes.push(u8::try_from(*byte).unwrap()),
            None if c == '⟨' => {
                let digits: String = chars.by_ref().take_while(|c| *c != '⟩').collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            None => bytes.extend(c.to_string().bytes()),
        }
    }
    bytes
}

fn codes(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn variables(cell: &str) -> Variables {
    match cell {
        "error" => return None,
        "nothing" => {}
        _ => assert!(!codes(cell).is_empty(), "{cell}"),
    }
    Some(codes(cell).iter().map(|code| code.split_once('=').unwrap()).map(|(n, v)| (n.into(), v.into())).collect())
}

fn rows() -> Vec<Row> {
    let mut lines = PAGE.lines().filter(|line| line.starts_with('|'));
    assert_eq!(lines.next(), Some("| in the file | hupwrap | python-dotenv | docker | systemd | why |"));
    let rows = lines.skip(1).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" |").map(str::trim).collect();
        let [text, hupwrap, python, _, _, why] = cells[..] else { panic!("{line}") };
        let [shown] = codes(text).try_into().unwrap_or_else(|_| panic!("{line}"));
        Row {
            text: bytes(&shown),
            shown,
            hupwrap: variables(hupwrap),
            python: variables(if python == "same" { hupwrap } else { python }),
            why: why.to_owned(),
        }
    });
    rows.collect()
}

#[test]
fn hupwrap_reads_what_the_page_says() {
    let dir = Dir::new();
    for Row { text, shown: row, hupwrap, .. } in rows() {
        let (file, out) = (dir.path().join("env"), dir.path().join("out"));
        fs::write(&file, text).unwrap();
        let env = installed("env").unwrap();
        let setup = Setup::new(["--env-file", "env", "--", env.to_str().unwrap(), "-0"]).dir(dir.path());
        let ended = setup.with(|command| _ = command.env_clear().stdout(File::create(&out).unwrap())).end();
        let said = fs::read(&out).unwrap();
        let found = said.split_inclusive(|byte| *byte == 0).map(|variable| variable.strip_suffix(b"\0").unwrap());
        let found = found.filter(|variable| !variable.starts_with(b"HUPWRAP_")).map(|variable| {
            let at = variable.iter().position(|byte| *byte == b'=').unwrap();
            (shown(&variable[..at]), shown(&variable[at + 1..]))
        });
        match hupwrap {
            Some(variables) => assert_eq!(found.collect::<BTreeMap<_, _>>(), variables, "{row}"),
            None => {
                assert_eq!((ended.status.code(), said.len()), (Some(125), 0), "{row}");
                assert!(ended.stderr.starts_with("hupwrap: --env-file 'env': line "), "{row}: {}", ended.stderr);
            }
        }
    }
}

#[test]
fn each_difference_has_its_reason() {
    let mut reasons = 0;
    for Row { shown, hupwrap, python, why, .. } in rows() {
        assert_eq!(why.is_empty(), hupwrap == python, "{shown}");
        if !why.is_empty() {
            assert!(PAGE.contains(&format!("\n{why}. ")), "{shown}: there is no reason {why}");
            reasons = reasons.max(why.parse().unwrap());
        }
    }
    assert!(!PAGE.contains(&format!("\n{}. ", reasons + 1)), "reason {} is not used", reasons + 1);
}

/// Prints for each file the variables as hexadecimal, a line each, and an empty line.
const READER: &str = r"
import sys
from dotenv import dotenv_values
for name in sys.argv[1:]:
    try:
        for variable in dotenv_values(name).items():
            if variable[1] is not None:
                print('=' + ' '.join(text.encode().hex() for text in variable))
    except UnicodeDecodeError:
        print('error')
    print()
";

#[test]
fn python_dotenv_reads_what_the_page_says() {
    const NAME: &str = "python_dotenv_reads_what_the_page_says";
    let version = PAGE.split("python-dotenv ").find(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let version = version.unwrap().split([',', ' ', '\n']).next().unwrap();
    let Some(python) = installed("python3") else { return skipped(NAME, "python3 is not installed") };
    let ask = "import importlib.metadata as m; print(m.version('python-dotenv'))";
    let found = Command::new(&python).args(["-c", ask]).output().unwrap();
    let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    if found != version {
        return skipped(NAME, &format!("python-dotenv {version} is not installed; found '{found}'"));
    }
    let dir = Dir::new();
    let rows = rows();
    let names: Vec<String> = (0..rows.len()).map(|number| number.to_string()).collect();
    for (name, row) in names.iter().zip(&rows) {
        fs::write(dir.path().join(name), &row.text).unwrap();
    }
    let read = Command::new(&python)
        .args(["-c", READER])
        .args(&names)
        .current_dir(dir.path())
        .env("HOME", "/root")
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let said = String::from_utf8(read.stdout).unwrap();
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let mut lines = said.lines();
    for row in &rows {
        let mut found = Some(BTreeMap::new());
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            match line.strip_prefix('=') {
                Some(pair) => {
                    let words: Vec<String> = pair.split(' ').map(|word| shown(&unhex(word))).collect();
                    found.as_mut().unwrap().insert(words[0].clone(), words[1].clone());
                }
                None => found = None,
            }
        }
        assert_eq!(found, row.python, "{}", row.shown);
    }
    assert_eq!(lines.next(), None);
}
