//! hupwrap's own lines. Each is one line, of a bounded length, and without control characters, whatever it quotes.
//! Pure.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::config::Level;
use crate::text::messages::LogLine;
use crate::text::{cut, from_1970, is_plain, status_file};

/// The longest line, in bytes: `PIPE_BUF`. A pipe takes such a line as a whole or not at all.
pub const LONGEST: usize = 4096;

/// With texts of this length, a line with three texts of six bytes a character still fits.
const SHORTEST_CUT: usize = 190;

/// Makes the line with its texts as long as they may be.
fn fit(line: impl Fn(usize) -> String) -> String {
    let all = [LONGEST, 2000, 1300, 900, 600, 400].into_iter().map(&line).find(|line| line.len() <= LONGEST);
    all.unwrap_or_else(|| line(SHORTEST_CUT))
}

/// For people: the text, in colour or not.
pub fn text_line(log_line: &LogLine, colour: bool) -> String {
    let head = match (colour, log_line.kind.level) {
        (false, _) => "hupwrap: ",
        (true, Level::Error) => "\x1b[1;31mhupwrap:\x1b[0m ",
        (true, Level::Info | Level::Debug) => "\x1b[1mhupwrap:\x1b[0m ",
    };
    fit(|longest| {
        let mut line = String::from(head);
        for c in cut(&log_line.text, longest).chars() {
            // A name may hold a newline. A message is always one line.
            match is_plain(c) {
                true => line.push(c),
                false => line.extend(c.escape_default()),
            }
        }
        line.push('\n');
        line
    })
}

/// For programs: one object.
pub fn json_line(log_line: &LogLine, time: SystemTime) -> String {
    let level = match log_line.kind.level {
        Level::Error => "error",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let time = humantime::format_rfc3339_millis(from_1970(time)).to_string();
    fit(|longest| {
        let head = [("time", json!(time)), ("level", json!(level)), ("event", json!(log_line.kind.name))];
        let facts = log_line.kind.facts.iter().copied().zip(log_line.facts.iter().map(|fact| match fact {
            Value::String(text) => json!(cut(text, longest)),
            other => other.clone(),
        }));
        status_file::object(head.into_iter().chain(facts).chain([("message", json!(cut(&log_line.text, longest)))]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::messages;

    #[test]
    fn a_json_line_is_one_object() {
        let line = json_line(&messages::error("a \"quote\"\nand a newline\u{7f}\u{9b}"), SystemTime::UNIX_EPOCH);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "error");
        assert_eq!(value["message"], "a \"quote\"\nand a newline\u{7f}\u{9b}");
        assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_wall_clock_that_is_wrong_by_decades_is_no_failure() {
        let before = SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1);
        assert!(json_line(&messages::error("x"), before).contains("1970-01-01T00:00:00.000Z"));
        let running = messages::Words::new("web", false).running(before);
        assert_eq!(running, "web has been running since 1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_line_is_never_longer_than_a_pipe_takes_as_a_whole() {
        for c in ["a", "\u{1}", "\u{9f}", "\u{10ffff}", "\"", "ä"] {
            let long = c.repeat(5000);
            for log_line in
                [messages::listening(&long, &long, long.clone()), messages::status_file_failed(&long, &long)]
            {
                for colour in [false, true] {
                    let line = text_line(&log_line, colour);
                    assert!(line.len() <= LONGEST && line.ends_with('\n'), "{}", line.len());
                }
                let line = json_line(&log_line, SystemTime::UNIX_EPOCH);
                assert!(line.len() <= LONGEST, "{}", line.len());
                let value: Value = serde_json::from_str(&line).unwrap();
                assert!(value["message"].as_str().unwrap().contains('…'));
            }
        }
        let short = "a".repeat(3000);
        for value in [&short, &"\u{1}".repeat(1000)] {
            let line = messages::status_file_failed(value, "no space left on device");
            for line in [text_line(&line, false), json_line(&line, SystemTime::UNIX_EPOCH)] {
                let part = "cannot be written: no space left on device; supervision goes on";
                assert!(line.contains("--status-file '") && line.contains(part), "{line}");
            }
        }
        assert_eq!(text_line(&messages::error(&short), false).len(), "hupwrap: \n".len() + 3000);
    }

    #[test]
    fn a_text_line_is_one_line() {
        assert_eq!(text_line(&messages::error("a\nb\x1b"), false), "hupwrap: a\\nb\\u{1b}\n");
    }

    #[test]
    fn no_text_commands_a_terminal() {
        let all: Vec<char> = (0..0x3000).filter_map(char::from_u32).collect();
        for text in all.chunks(100) {
            let error = messages::error(&text.iter().collect::<String>());
            for line in [text_line(&error, false), json_line(&error, SystemTime::UNIX_EPOCH)] {
                let line = line.strip_suffix('\n').unwrap();
                assert!(line.chars().all(is_plain), "{line:?}");
            }
        }
        for c in ['\n', '\r', '\x1b', '\x7f', '\u{85}', '\u{9b}', '\u{2028}', '\u{202e}', '\u{2066}'] {
            assert!(!is_plain(c), "{c:?}");
        }
    }
}
