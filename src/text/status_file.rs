//! The status file: one JSON object. Written by a supervisor, read by the waiting commands. Pure.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::exit::ExitStatus;
use crate::facts::{GenerationId, Time};
use crate::machine::status::Status;
use crate::text::is_plain;

/// How many settled requests are remembered besides the last one.
pub const MOST_SETTLED: usize = 8;

/// Why a request has failed that was under way when hupwrap ended.
pub const CUT_OFF: &str = "hupwrap was told to stop, or has ended, before it was done";

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// What was asked for is there.
    Ok,
    /// Nothing was touched, and why.
    Refused(String),
    /// The new child was tried and is not there, and why.
    Failed(String),
}

impl Answer {
    /// The name in the status file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// Why, where there is a reason.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Refused(reason) | Self::Failed(reason) => Some(reason),
        }
    }

    fn new(name: &str, reason: &str) -> Option<Self> {
        match name {
            "ok" => Some(Self::Ok),
            "refused" => Some(Self::Refused(reason.to_owned())),
            "failed" => Some(Self::Failed(reason.to_owned())),
            _ => None,
        }
    }
}

/// The last request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reload {
    /// What was asked for.
    pub action: String,
    /// When it was taken up.
    pub asked: Time,
    /// When the start, upgrade or delivery that settles it began.
    pub began: Time,
    /// When it was over, and what came of it; none while it is under way.
    pub ended: Option<(Time, Answer)>,
}

impl Reload {
    /// As one line, for a re-exec.
    pub fn encode(&self) -> String {
        let mut line = format!("{} {}:{}", self.action, self.began.as_nanos(), self.asked.as_nanos());
        if let Some((ended, answer)) = &self.ended {
            let reason = answer.reason().unwrap_or_default();
            line.push_str(&format!(" {} {} {reason}", ended.as_nanos(), answer.name()));
        }
        line.replace('\n', " ")
    }

    /// Reads it back.
    pub fn decode(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        let action = words.next()?.to_owned();
        let times = words.next()?;
        // An older hupwrap wrote only when it began.
        let (began, asked) = times.split_once(':').unwrap_or((times, times));
        let (began, asked) = (nanoseconds(began)?, nanoseconds(asked)?);
        let ended = match (words.next(), words.next(), words.next()) {
            (Some(ended), Some(name), reason) => {
                Some((nanoseconds(ended)?, Answer::new(name, reason.unwrap_or_default())?))
            }
            _ => None,
        };
        Some(Self { action, asked, began, ended })
    }

    fn json(&self) -> Value {
        let (ended, answer) = self.ended.as_ref().map_or((None, None), |(ended, answer)| (Some(*ended), Some(answer)));
        json!({
            "action": self.action,
            "began": number(self.began),
            "ended": ended.map(number),
            "outcome": answer.map(Answer::name),
            "reason": answer.and_then(Answer::reason),
        })
    }
}

fn nanoseconds(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_nanos)
}

/// CLOCK_MONOTONIC in nanoseconds: room for 584 years.
fn number(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How a process ended, as JSON.
pub fn exit(outcome: ExitStatus) -> Value {
    match outcome {
        ExitStatus::Exited(code) => json!({ "code": code }),
        ExitStatus::Killed(signal) => json!({ "signal": signal.to_string() }),
    }
}

/// A socket, as the status file shows it.
pub struct Listening {
    /// The name.
    pub name: String,
    /// Where it listens in fact.
    pub address: String,
    /// The descriptor in the child.
    pub fd: i32,
}

/// What the machine does not know of the status.
pub struct StatusFacts<'a> {
    /// hupwrap's pid.
    pub pid: i32,
    /// When it began, in the kernel's clock ticks (`proc(5)`, field 22 of stat).
    pub pid_start: Option<u64>,
    /// What HUP means.
    pub on_hup: String,
    /// Whether the last child that was started was not ready in time.
    pub late: bool,
    /// The last request.
    pub reload: Option<&'a Reload>,
    /// Those before it that are settled, the last few.
    pub settled: &'a [Reload],
    /// The sockets.
    pub listen: &'a [Listening],
}

/// The object, and a newline; its keys in the order of the contract.
pub fn write(status: &Status, facts: &StatusFacts, pid_of: impl Fn(GenerationId) -> i32) -> String {
    let child = status
        .child
        .map(|child| json!({ "pid": pid_of(child.generation), "since": number(child.since), "ready": child.ready }));
    let old = status.old_child.map(|generation| json!({ "pid": pid_of(generation), "generation": generation }));
    let listen: Vec<Value> = facts
        .listen
        .iter()
        .map(|Listening { name, address, fd }| json!({ "name": name, "address": address, "fd": fd }))
        .collect();
    let keys = [
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("pid", json!(facts.pid)),
        ("pid_start", json!(facts.pid_start)),
        ("state", json!(status.state.name())),
        ("generation", json!(status.generation)),
        ("child", json!(child)),
        ("old_child", json!(old)),
        ("on_hup", json!(facts.on_hup)),
        ("restarts", json!({ "asked": status.counts.asked, "failed": status.counts.failed })),
        ("last_exit", json!(status.last_exit.map(exit))),
        ("late", json!(facts.late)),
        ("requested", json!(facts.reload.map(|reload| number(reload.asked)))),
        ("reload", json!(facts.reload.map(Reload::json))),
        ("settled", json!(facts.settled.iter().map(Reload::json).collect::<Vec<_>>())),
        ("listen", json!(listen)),
    ];
    object(keys)
}

/// An object in one line, its keys in this order; serde_json would sort them. It holds only what may
/// be shown as it is: serde_json escapes no more than what is below a space.
pub fn object<'a>(keys: impl IntoIterator<Item = (&'a str, Value)>) -> String {
    let fields: Vec<String> = keys.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    let mut line = String::new();
    for c in format!("{{{}}}", fields.join(",")).chars() {
        match is_plain(c) {
            true => line.push(c),
            // None of them has more than four digits.
            false => line.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    line.push('\n');
    line
}

/// What a waiting command reads.
#[derive(Clone, PartialEq, Debug)]
pub struct Read {
    /// Everything.
    pub all: Map<String, Value>,
    /// hupwrap's pid.
    pub pid: i32,
    /// When it began, with the pid an identity. None where hupwrap had no /proc of its own pid namespace.
    pub pid_start: Option<u64>,
    /// What HUP means.
    pub on_hup: String,
    /// What hupwrap is doing.
    pub state: String,
    /// Whether there is a child that is ready: the new one, or in a replace the old.
    pub ready: bool,
    /// Whether the last child that was started was not ready in time.
    pub late: bool,
    /// The last request.
    pub reload: Option<Reload>,
    /// Those before it that are settled, the last few.
    pub settled: Vec<Reload>,
}

/// Reads a status file.
///
/// # Errors
/// Says what it is not.
pub fn read(text: &[u8]) -> Result<Read, String> {
    let Ok(Value::Object(all)) = serde_json::from_slice(text) else {
        let is_pid = std::str::from_utf8(text).is_ok_and(|text| text.trim().parse::<u32>().is_ok());
        let hint = if is_pid { ", but looks like a pidfile; pass the --status-file" } else { "" };
        return Err(format!("it is not a hupwrap status file{hint}"));
    };
    let lacks = |key: &str| format!("it is not a hupwrap status file: it has no '{key}'");
    let text = |key: &str| all.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| lacks(key));
    let child_ready = all.get("child").and_then(|child| child.get("ready")).and_then(Value::as_bool).unwrap_or(false);
    let state = text("state")?;
    let old = all.get("old_child").is_some_and(Value::is_object);
    let reload = match all.get("reload") {
        None => return Err(lacks("reload")),
        Some(Value::Null) => None,
        Some(reload) => {
            let reload = read_reload(reload).ok_or_else(|| lacks("reload"))?;
            // Another version may not have it.
            let asked = all.get("requested").and_then(Value::as_u64).map_or(reload.began, Duration::from_nanos);
            Some(Reload { asked, ..reload })
        }
    };
    // Another version may not have them.
    let settled = all.get("settled").and_then(Value::as_array).into_iter().flatten().filter_map(read_reload).collect();
    Ok(Read {
        settled,
        pid: all
            .get("pid")
            .and_then(Value::as_i64)
            .and_then(|pid| pid.try_into().ok())
            .filter(|pid| *pid > 0)
            .ok_or_else(|| lacks("pid"))?,
        pid_start: match all.get("pid_start") {
            Some(Value::Null) => None,
            found => Some(found.and_then(Value::as_u64).ok_or_else(|| lacks("pid_start"))?),
        },
        on_hup: text("on_hup")?,
        ready: !["stopping", "ended"].contains(&state.as_str()) && (child_ready || (state == "replacing" && old)),
        late: all.get("late").and_then(Value::as_bool).unwrap_or(false),
        state,
        reload,
        all,
    })
}

fn read_reload(value: &Value) -> Option<Reload> {
    let time = |key: &str| value.get(key).and_then(Value::as_u64).map(Duration::from_nanos);
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let answer = text("outcome").and_then(|name| Answer::new(name, text("reason").unwrap_or_default()));
    let began = time("began")?;
    Some(Reload { action: text("action")?.to_owned(), asked: began, began, ended: time("ended").zip(answer) })
}
