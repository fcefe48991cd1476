//! The state that crosses a re-exec, as bytes: a first line with the format's number, then a line for each fact. A fact
//! that is not known is skipped, so a newer hupwrap may add some. Pure.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::exit::ExitStatus;
use crate::machine::{Counts, RequestKind, Snapshot};
use crate::signal::{Signal, SignalSet};
use crate::text::listen::SocketFacts;
use crate::text::notify::NotifySocketFacts;
use crate::text::status_file::Reload;

/// The format written here. It grows when an older reader would misunderstand.
const FORMAT: u32 = 2;
/// The formats understood here. The first knew one generation only, and no sockets.
const UNDERSTOOD: &[u32] = &[1, FORMAT];
/// What stands in front of the formats in an introduction.
const UNDERSTANDS: &str = " understands handover";

/// Everything a re-executed hupwrap must know that neither its command line nor the kernel tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handover {
    /// Name and version of the hupwrap that wrote it.
    pub writer: String,
    /// The machine's part.
    pub machine: Snapshot,
    /// The child's pid.
    pub child: Option<i32>,
    /// Whether child and hupwrap share a process group.
    pub shared_group: bool,
    /// Whether hupwrap had a terminal at startup.
    pub had_terminal: bool,
    /// The signals that were blocked at startup.
    pub mask: SignalSet,
    /// Whether SIGCHLD was ignored at startup.
    pub chld_ignored: bool,
    /// Children that are not hupwrap's: they were there before.
    pub foreign_children: Vec<i32>,
    /// The sockets that outlive the child.
    pub sockets: Vec<SocketFacts>,
    /// The child's NOTIFY_SOCKET.
    pub notify: Option<NotifySocketFacts>,
    /// Where a connection shows that a child is ready. A name is not looked up again: after the exec nothing may fail.
    pub ready_at: Option<SocketAddr>,
    /// The descriptor by which the pidfile is locked.
    pub pidfile: Option<i32>,
    /// The last requests, for whoever waits for the end of one.
    pub requests: Vec<Reload>,
}

/// An outcome as a number: a status, or less than 0 a signal.
fn word(outcome: ExitStatus) -> i32 {
    match outcome {
        ExitStatus::Exited(code) => i32::from(code),
        ExitStatus::Killed(signal) => signal.number().saturating_neg(),
    }
}

fn from_word(word: i32) -> Option<ExitStatus> {
    match u8::try_from(word) {
        Ok(code) => Some(ExitStatus::Exited(code)),
        Err(_) => Signal::from_number(word.saturating_neg()).map(ExitStatus::Killed),
    }
}

/// What a hupwrap answers to a probe: name, version, and the formats it understands.
pub fn introduction() -> String {
    let mut text = format!("{}{UNDERSTANDS}", crate::NAME_AND_VERSION);
    for format in UNDERSTOOD {
        let _ = write!(text, " {format}");
    }
    text.push('\n');
    text
}

/// Whether an answer to a probe is that of a hupwrap that will understand us.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_introduction(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let line = text.lines().next().unwrap_or_default();
    let Some((name, formats)) = line.split_once(UNDERSTANDS).filter(|(name, _)| name.starts_with("hupwrap ")) else {
        let shown: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
        return Err(if shown.is_empty() { "it answers nothing".to_owned() } else { format!("it answers '{shown}'") });
    };
    match formats.split(' ').any(|format| format.parse() == Ok(FORMAT)) {
        true => Ok(()),
        false => Err(format!("{name} does not understand the state of {}", crate::NAME_AND_VERSION)),
    }
}

impl Handover {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{FORMAT}\n");
        let mut fact = |name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{name} {value}");
        };
        let machine = &self.machine;
        fact("writer", &self.writer);
        fact("kind", &machine.kind.name());
        fact("generation", &machine.generation);
        fact("failed_starts", &machine.row);
        fact("asked", &machine.counts.asked);
        fact("failed", &machine.counts.failed);
        fact("began", &machine.began.as_nanos());
        fact("shared_group", &self.shared_group);
        fact("had_terminal", &self.had_terminal);
        fact("mask", &self.mask.bits());
        fact("chld_ignored", &self.chld_ignored);
        if let Some(kind) = machine.again {
            fact("again", &kind.name());
        }
        if let Some(generation) = machine.child {
            fact("child_generation", &generation);
        }
        if let Some(child) = self.child {
            fact("child", &child);
        }
        let times = [
            ("retry_at", machine.restart_at),
            ("ready_since", machine.ready_at),
            ("first_start", machine.first_start),
            ("interrupted", machine.interrupted),
            ("terminal_gone", machine.terminal_gone),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                fact(name, &time.as_nanos());
            }
        }
        for restart in &machine.restarts {
            fact("restart", &restart.as_nanos());
        }
        if let Some(outcome) = machine.last_exit {
            fact("last_exit", &word(outcome));
        }
        if let Some(pidfile) = self.pidfile {
            fact("pidfile", &pidfile);
        }
        for request in &self.requests {
            fact("request", &request.encode());
        }
        for foreign_child in &self.foreign_children {
            fact("foreign_child", foreign_child);
        }
        for socket in &self.sockets {
            fact("socket", socket);
        }
        if let Some(NotifySocketFacts { socket, directory, path }) = &self.notify {
            fact("notify_socket", socket);
            fact("notify_path", path);
            if let Some(directory) = directory {
                fact("notify_directory", directory);
            }
        }
        if let Some(address) = &self.ready_at {
            let _ = writeln!(text, "ready_at {address}");
        }
        text.into_bytes()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Says what is missing or not understood.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let (format, facts) = text.split_once('\n').unwrap_or((text, ""));
        if !format.parse().is_ok_and(|format| UNDERSTOOD.contains(&format)) {
            return Err(format!("its format is '{format}'"));
        }
        let facts: Vec<(&str, &str)> = facts.lines().filter_map(|line| line.split_once(' ')).collect();
        let find = |name: &str| facts.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        fn must<T: FromStr>(name: &str, value: Option<&str>) -> Result<T, String> {
            value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("it has no '{name}'"))
        }
        fn number<T: FromStr>(value: Option<&str>) -> Option<T> {
            value.and_then(|value| value.parse().ok())
        }
        let all = |wanted: &'static str| facts.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| *value);
        let time = |name| find(name).and_then(|value| value.parse().ok()).map(Duration::from_nanos);
        Ok(Self {
            writer: must("writer", find("writer"))?,
            machine: Snapshot {
                child: match find("child_runs") {
                    // Format 1: every start was of the one generation.
                    Some("true") => Some(must("generation", find("generation"))?),
                    _ => find("child_generation").and_then(|value| value.parse().ok()),
                },
                restart_at: time("retry_at"),
                began: time("began").unwrap_or_default(),
                ready_at: time("ready_since"),
                kind: find("kind").and_then(RequestKind::named).ok_or("it has no 'kind'")?,
                again: find("again").and_then(RequestKind::named),
                generation: must("generation", find("generation"))?,
                row: must("failed_starts", find("failed_starts"))?,
                restarts: all("restart").filter_map(|at| at.parse().ok()).map(Duration::from_nanos).collect(),
                counts: Counts {
                    asked: number(find("asked")).unwrap_or(0),
                    failed: number(find("failed")).unwrap_or(0),
                },
                last_exit: number(find("last_exit")).and_then(from_word),
                first_start: time("first_start"),
                interrupted: time("interrupted"),
                terminal_gone: time("terminal_gone"),
            },
            child: find("child").and_then(|value| value.parse().ok()),
            shared_group: must("shared_group", find("shared_group"))?,
            had_terminal: must("had_terminal", find("had_terminal"))?,
            mask: SignalSet::from_bits(must("mask", find("mask"))?),
            chld_ignored: must("chld_ignored", find("chld_ignored"))?,
            foreign_children: all("foreign_child").filter_map(|pid| pid.parse().ok()).collect(),
            sockets: all("socket").map(str::parse).collect::<Result<_, _>>()?,
            pidfile: number(find("pidfile")),
            requests: all("request").filter_map(Reload::decode).collect(),
            notify: find("notify_path")
                .map(str::to_owned)
                .zip(number(find("notify_socket")))
                .map(|(path, socket)| NotifySocketFacts { socket, directory: number(find("notify_directory")), path }),
            ready_at: find("ready_at").and_then(|address| address.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::listen::SocketKind;
    use crate::text::status_file::Answer;

    fn sample() -> Handover {
        Handover {
            writer: "hupwrap 9.9.9".to_owned(),
            machine: Snapshot {
                child: Some(u64::MAX),
                restart_at: Some(Duration::from_nanos(u64::MAX)),
                began: Duration::from_nanos(3),
                ready_at: Some(Duration::from_nanos(4)),
                kind: RequestKind::Reexec,
                again: Some(RequestKind::Restart),
                generation: u64::MAX,
                row: u32::MAX,
                restarts: vec![Duration::from_nanos(5), Duration::from_nanos(6)],
                counts: Counts { asked: 7, failed: u64::MAX },
                last_exit: Some(ExitStatus::Killed(Signal::TERM)),
                first_start: Some(Duration::ZERO),
                interrupted: Some(Duration::from_nanos(1)),
                terminal_gone: Some(Duration::from_secs(2)),
            },
            child: Some(4711),
            shared_group: true,
            had_terminal: false,
            mask: SignalSet::ALL,
            chld_ignored: true,
            foreign_children: vec![1, 2],
            pidfile: Some(11),
            requests: vec![Reload {
                action: "upgrade".to_owned(),
                asked: Duration::from_nanos(11),
                began: Duration::from_nanos(12),
                ended: Some((Duration::from_nanos(13), Answer::Failed("of itself".to_owned()))),
            }],
            sockets: vec![
                SocketFacts {
                    fd: 7,
                    kind: SocketKind::Udp,
                    name: "dns".to_owned(),
                    said: Some("[::1]:53".to_owned()),
                    made: None,
                },
                SocketFacts { fd: 8, kind: SocketKind::Other, name: "unknown".to_owned(), said: None, made: None },
            ],
            notify: Some(NotifySocketFacts { socket: 9, directory: Some(10), path: "/run/x y".to_owned() }),
            ready_at: Some("[fe80::1%2]:80".parse().unwrap()),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let full = sample();
        assert_eq!(Handover::decode(&full.encode()), Ok(full.clone()));
        let machine = Snapshot {
            child: None,
            restart_at: None,
            ready_at: None,
            last_exit: None,
            again: None,
            first_start: None,
            interrupted: None,
            terminal_gone: None,
            ..full.machine.clone()
        };
        let bare = Handover {
            machine,
            child: None,
            foreign_children: vec![],
            sockets: vec![],
            notify: None,
            ready_at: None,
            pidfile: None,
            requests: vec![],
            ..full
        };
        assert_eq!(Handover::decode(&bare.encode()), Ok(bare));
    }

    #[test]
    fn the_first_format_is_read() {
        let text = b"1\nwriter hupwrap 0.1.0\nchild_runs true\nkind reexec\ngeneration 4\nfailed_starts 0\n\
            shared_group false\nhad_terminal false\nmask 0\nchld_ignored false\nchild 4711\n";
        let read = Handover::decode(text).unwrap();
        assert_eq!((read.machine.child, read.child, read.sockets.len()), (Some(4), Some(4711), 0));
    }

    #[test]
    fn facts_of_a_newer_hupwrap_are_skipped() {
        let mut bytes = sample().encode();
        bytes.extend(b"moon full\n\nodd\n");
        assert_eq!(Handover::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn a_torn_or_foreign_state_is_refused() {
        let bytes = sample().encode();
        for len in 0..60 {
            assert!(Handover::decode(bytes.get(..len).unwrap()).is_err());
        }
        assert_eq!(Handover::decode(b"3\nwriter x\n"), Err("its format is '3'".to_owned()));
        assert!(Handover::decode(b"\xff").is_err());
    }

    #[test]
    fn introductions() {
        assert_eq!(check_introduction(introduction().as_bytes()), Ok(()));
        assert_eq!(check_introduction(b"hupwrap 7.0.0 understands handover 5 2 3\nmore"), Ok(()));
        for bad in [&b""[..], b"\n", b"garbage", b"\xff\x1b[31m\0", b"hupwrap 0.1.0\n", b"x understands handover 2"] {
            assert!(check_introduction(bad).unwrap_err().starts_with("it answers "));
        }
        let error = check_introduction(b"hupwrap 0.0.1 understands handover 0 11").unwrap_err();
        assert!(error.starts_with("hupwrap 0.0.1 does not understand"), "{error}");
    }
}
