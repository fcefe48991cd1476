//! What a status file says, for people. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::answer::exit;
use crate::config::Shown;
use crate::facts::Time;
use crate::text::is_plain;
use crate::text::status_file::Read;

/// When the file is read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// What CLOCK_MONOTONIC reads.
    pub time: Time,
    /// How long ago hupwrap began.
    pub age: Duration,
}

/// A summary of a status file, a line for each thing that it mentions.
pub fn text(seen: &Read, now: Now) -> String {
    let all = |key: &str| seen.all.get(key);
    let ready = if seen.ready { "ready" } else { "not ready" };
    let mut lines = vec![("state", format!("{}, {ready}", seen.state))];
    let version = all("version").and_then(Value::as_str).unwrap_or("of an unknown version");
    let (pid, age, on_hup) = (seen.pid, rounded(now.age), &seen.on_hup);
    lines.push(("hupwrap", format!("{version}, pid {pid}, up {age}; HUP means {on_hup}")));
    // After a replace that failed, the child is of an earlier one.
    if let Some(last) = all("generation").and_then(Value::as_u64) {
        lines.push(("last start", format!("generation {last}")));
    }
    lines.push(match all("child").filter(|child| child.is_object()) {
        Some(child) => {
            let since = child.get("since").and_then(Value::as_u64).map(Duration::from_nanos);
            let up = since.map_or(String::new(), |since| format!(", up {}", rounded(now.time.saturating_sub(since))));
            ("child", format!("{}{up}", pid_of(child)))
        }
        None => ("child", "not there".to_owned()),
    });
    if let Some(old) = all("old_child").filter(|old| old.is_object()) {
        let generation = old.get("generation").and_then(Value::as_u64).unwrap_or(0);
        lines.push(("old child", format!("generation {generation}, {}", pid_of(old))));
    }
    let count = |key: &str| all("restarts").and_then(|counts| counts.get(key)).and_then(Value::as_u64).unwrap_or(0);
    lines.push(("restarts", format!("{} on request, {} after failures", count("asked"), count("failed"))));
    if let Some(exit) = all("last_exit").and_then(exit) {
        lines.push(("last exit", exit));
    }
    if let Some(reload) = &seen.reload {
        let ago = |time: Time| rounded(now.time.saturating_sub(time));
        let what = match &reload.ended {
            None => format!("{}, under way since {}", reload.action, ago(reload.asked)),
            Some((ended, answer)) => {
                let why = answer.reason().map_or(String::new(), |reason| format!(": {reason}"));
                let took = Shown(ended.saturating_sub(reload.asked));
                format!("{} {} {} ago, after {took}{why}", reload.action, answer.name(), ago(*ended))
            }
        };
        lines.push(("reload", what));
    }
    for socket in all("listen").and_then(Value::as_array).into_iter().flatten() {
        let word = |key: &str| socket.get(key).and_then(Value::as_str).unwrap_or("?");
        let fd = socket.get("fd").and_then(Value::as_i64).unwrap_or(-1);
        // As the sd_listen_fds(3) protocol calls a socket that has no name.
        let name = Some(word("name")).filter(|name| *name != "unknown").map(|name| format!("{name} at "));
        lines.push(("socket", format!("{}{}, fd {fd}", name.unwrap_or_default(), word("address"))));
    }
    let mut text = String::new();
    for (name, what) in lines {
        let _ = write!(text, "{name:<11}");
        for c in what.chars() {
            // A name may hold anything, and a terminal would obey it.
            match is_plain(c) {
                true => text.push(c),
                false => text.extend(c.escape_default()),
            }
        }
        text.push('\n');
    }
    text
}

fn pid_of(child: &Value) -> String {
    child.get("pid").and_then(Value::as_i64).map_or("pid unknown".to_owned(), |pid| format!("pid {pid}"))
}

/// A time in its two greatest units.
fn rounded(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::status_file;

    const NOW: Now = Now { time: Duration::from_secs(10_000), age: Duration::from_secs(200_000) };

    #[test]
    fn everything_there_is_to_say() {
        let file = r#"{"version":"1.2.3","pid":7,"pid_start":1,"state":"replacing","generation":4,
            "child":{"pid":9,"since":9990000000000,"ready":false},"old_child":{"pid":8,"generation":3},
            "on_hup":"replace","restarts":{"asked":2,"failed":1},"last_exit":{"signal":"TERM"},
            "requested":9997000000000,"reload":{"action":"replace","began":9998000000000,"ended":9999500000000,"outcome":"failed","reason":"a \u001b[31m"},
            "listen":[{"name":"web","address":"tcp:127.0.0.1:80","fd":3},
            {"name":"unknown","address":"udp:127.0.0.1:53","fd":4}]}"#;
        let want = "\
state      replacing, ready
hupwrap    1.2.3, pid 7, up 2d 7h; HUP means replace
last start generation 4
child      pid 9, up 10s
old child  generation 3, pid 8
restarts   2 on request, 1 after failures
last exit  killed by TERM
reload     replace failed 0s ago, after 2.5s: a \\u{1b}[31m
socket     web at tcp:127.0.0.1:80, fd 3
socket     udp:127.0.0.1:53, fd 4
";
        assert_eq!(text(&status_file::read(file.as_bytes()).unwrap(), NOW), want);
    }

    #[test]
    fn next_to_nothing_to_say() {
        let file = r#"{"pid":7,"pid_start":1,"state":"starting","on_hup":"restart","reload":null}"#;
        let want = "\
state      starting, not ready
hupwrap    of an unknown version, pid 7, up 2d 7h; HUP means restart
child      not there
restarts   0 on request, 0 after failures
";
        assert_eq!(text(&status_file::read(file.as_bytes()).unwrap(), NOW), want);
    }

    #[test]
    fn times() {
        for (seconds, want) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (7260, "2h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(rounded(Duration::from_secs(seconds)), want);
        }
    }
}
