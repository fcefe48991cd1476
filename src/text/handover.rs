//! The state that crosses a re-exec, as bytes: a first line with the format's number, then a line for each fact. A fact
//! that is not known is skipped, so a newer hupwrap may add facts. Pure.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::exit::ExitStatus;
use crate::machine::{Counts, RequestKind, Snapshot};
use crate::signal::{Signal, SignalSet};
use crate::text::fact_lines::{Facts, hex, nanoseconds, parsed, pid, unhex};
use crate::text::main_process::{Announced, EndedChild, Written};
use crate::text::notify::NotifySocketFacts;
use crate::text::socket_facts::SocketFacts;
use crate::text::status_file::Reload;

/// The format written here. It grows when an older reader would misunderstand.
const FORMAT: u32 = 3;
/// The formats understood here. Format 2 had no signalfd: a reader of it would leave that open for its children.
const UNDERSTOOD: &[u32] = &[2, FORMAT];
/// What stands in front of the formats in an introduction.
const UNDERSTANDS: &str = " understands handover";

/// What stands in place of a number of `watched`.
const UNSEEN: &str = "none";

/// Everything a re-executed hupwrap must know that neither its command line nor the kernel tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handover {
    /// Name and version of the hupwrap that wrote it.
    pub(crate) writer: String,
    /// The machine's part.
    pub(crate) machine: Snapshot,
    /// The child's pid.
    pub(crate) child: Option<i32>,
    /// The process group of the child, where that is not hupwrap's.
    pub(crate) child_group: Option<i32>,
    /// The main process that the child has announced.
    pub(crate) announced: Option<Announced>,
    /// When the `--child-pidfile` was written that was there before this child.
    pub(crate) file_before: Option<Written>,
    /// The child, where it has ended and its main process is waited for.
    pub(crate) ended: Option<EndedChild>,
    /// Whether child and hupwrap share a process group.
    pub(crate) shared_group: bool,
    /// Whether hupwrap had a terminal at startup.
    pub(crate) had_terminal: bool,
    /// The modes of the terminal that the first child found.
    pub(crate) terminal_modes: Option<Vec<u8>>,
    /// Which of the standard descriptors were non-blocking for the first child, as bits.
    pub(crate) non_blocking: Option<u8>,
    /// The signals that were blocked at startup.
    pub(crate) mask: SignalSet,
    /// Whether SIGCHLD was ignored at startup.
    pub(crate) chld_ignored: bool,
    /// Children that are not hupwrap's: they were there before.
    pub(crate) foreign_children: Vec<i32>,
    /// The pid of the first child, and when it began, where such children were there before.
    pub(crate) first_child: Option<(i32, u64)>,
    /// The sockets that outlive the child.
    pub(crate) sockets: Vec<SocketFacts>,
    /// The child's NOTIFY_SOCKET.
    pub(crate) notify: Option<NotifySocketFacts>,
    /// Where hupwrap's own file is looked for.
    pub(crate) origin: Vec<Vec<u8>>,
    /// The descriptor by which the pidfile is locked.
    pub(crate) pidfile: Option<i32>,
    /// The descriptor that signals are read from.
    pub(crate) signal_fd: Option<i32>,
    /// The last requests, for clients that wait for the end of one.
    pub(crate) requests: Vec<Reload>,
    /// What was seen of each PATH of `--watch`, as a number; none of one that was not looked at.
    pub(crate) watched: Vec<Option<u64>>,
    /// What the service manager had no room for yet, the oldest first.
    pub(crate) unsent: Vec<Vec<u8>>,
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

fn identity(text: &str) -> Option<(i32, u64)> {
    let (pid, began) = text.split_once(' ')?;
    Some((pid.parse().ok()?, began.parse().ok()?))
}

/// The lines of a state.
struct Lines(String);

impl Lines {
    /// Adds a line for each of these values.
    fn add<V: Display>(&mut self, name: &str, values: impl IntoIterator<Item = V>) {
        for value in values {
            let _ = writeln!(self.0, "{name} {value}");
        }
    }
}

impl Handover {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let machine = &self.machine;
        let mut lines = Lines(format!("{FORMAT}\n"));
        lines.add("writer", [&self.writer]);
        lines.add("kind", [machine.kind.name()]);
        lines.add("generation", [machine.generation]);
        lines.add("failed_starts", [machine.consecutive]);
        lines.add("asked", [machine.counts.asked]);
        lines.add("failed", [machine.counts.failed]);
        lines.add("began", [machine.began.as_nanos()]);
        lines.add("shared_group", [self.shared_group]);
        lines.add("had_terminal", [self.had_terminal]);
        lines.add("terminal_modes", self.terminal_modes.as_deref().map(hex));
        lines.add("non_blocking", self.non_blocking);
        lines.add("mask", [self.mask.bits()]);
        lines.add("chld_ignored", [self.chld_ignored]);
        lines.add("again", machine.again.map(RequestKind::name));
        lines.add("child_generation", machine.child);
        lines.add("child", self.child);
        lines.add("child_group", self.child_group);
        lines.add("announced", self.announced);
        lines.add("file_before", self.file_before);
        lines.add("ended_child", &self.ended);
        let times = [
            ("retry_at", machine.restart_at),
            ("ready_since", machine.ready_at),
            ("awaits_main", machine.awaits_main),
            ("first_start", machine.first_start),
            ("interrupted", machine.interrupted),
            ("terminal_gone", machine.terminal_gone),
            ("renew_at", machine.renew_at),
            ("suspect_hup", machine.suspect_hup),
            ("paused", Some(machine.paused)),
        ];
        for (name, time) in times {
            lines.add(name, time.map(|time| time.as_nanos()));
        }
        lines.add("restart", machine.restarts.iter().map(Duration::as_nanos));
        lines.add("last_exit", machine.last_exit.map(word));
        lines.add("held_signals", [machine.held_signals.bits()]);
        lines.add("held_hup", [machine.held_hup]);
        lines.add("unchecked", [machine.unchecked.bits()]);
        lines.add("origin", self.origin.iter().map(|place| hex(place)));
        lines.add("pidfile", self.pidfile);
        lines.add("signal_fd", self.signal_fd);
        lines.add("request", self.requests.iter().map(Reload::encode));
        let seen = |seen: &Option<u64>| seen.map_or(UNSEEN.to_owned(), |seen| seen.to_string());
        lines.add("watched", self.watched.iter().map(seen));
        lines.add("unsent", self.unsent.iter().map(|message| hex(message)));
        lines.add("foreign_child", &self.foreign_children);
        lines.add("first_child", self.first_child.map(|(pid, began)| format!("{pid} {began}")));
        lines.add("socket", &self.sockets);
        if let Some(NotifySocketFacts { socket, directory, path }) = &self.notify {
            lines.add("notify_socket", [socket]);
            lines.add("notify_path", [path]);
            lines.add("notify_directory", directory);
        }
        lines.0.into_bytes()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (state, fault) = Self::salvage(bytes);
        fault.map_or(Ok(state), Err)
    }

    /// Reads as much of it as can be read, and says what is missing or wrong, if anything is. What is not known of a
    /// child must be found out otherwise.
    pub fn salvage(bytes: &[u8]) -> (Self, Option<String>) {
        let text = String::from_utf8_lossy(bytes);
        let mut facts = Facts::new(&text, UNDERSTOOD);
        let machine = Snapshot {
            child: facts.find("child_generation"),
            restart_at: facts.time("retry_at"),
            began: facts.time("began").unwrap_or_default(),
            ready_at: facts.time("ready_since"),
            awaits_main: facts.time("awaits_main"),
            // A new hupwrap at least: the child is left alone.
            kind: facts.must("kind", RequestKind::named, RequestKind::Upgrade),
            again: facts.all("again", RequestKind::named).pop(),
            generation: facts.must("generation", parsed, 0),
            consecutive: facts.must("failed_starts", parsed, 0),
            restarts: facts.all("restart", nanoseconds),
            counts: Counts {
                asked: facts.find("asked").unwrap_or_default(),
                failed: facts.find("failed").unwrap_or_default(),
            },
            last_exit: facts.all("last_exit", |value| parsed(value).and_then(from_word)).pop(),
            first_start: facts.time("first_start"),
            interrupted: facts.time("interrupted"),
            terminal_gone: facts.time("terminal_gone"),
            renew_at: facts.time("renew_at"),
            suspect_hup: facts.time("suspect_hup"),
            held_signals: SignalSet::from_bits(facts.find("held_signals").unwrap_or_default()),
            held_hup: facts.find("held_hup").unwrap_or_default(),
            unchecked: SignalSet::from_bits(facts.find("unchecked").unwrap_or_default()),
            paused: facts.time("paused").unwrap_or_default(),
        };
        let directory = facts.fd("notify_directory");
        let notify = facts.find("notify_path").zip(facts.fd("notify_socket"));
        let state = Self {
            machine,
            writer: facts.must("writer", parsed, "another hupwrap".to_owned()),
            child: facts.all("child", pid).pop(),
            child_group: facts.all("child_group", pid).pop(),
            announced: facts.find("announced"),
            file_before: facts.find("file_before"),
            ended: facts.find("ended_child"),
            shared_group: facts.must("shared_group", parsed, false),
            had_terminal: facts.must("had_terminal", parsed, false),
            terminal_modes: facts.all("terminal_modes", unhex).pop(),
            non_blocking: facts.find("non_blocking"),
            mask: SignalSet::from_bits(facts.must("mask", parsed, 0)),
            chld_ignored: facts.must("chld_ignored", parsed, false),
            foreign_children: facts.all("foreign_child", pid),
            first_child: facts.all("first_child", identity).pop(),
            sockets: facts.sockets(),
            origin: facts.all("origin", unhex),
            pidfile: facts.fd("pidfile"),
            signal_fd: facts.fd("signal_fd"),
            requests: facts.all("request", Reload::decode),
            watched: facts.all("watched", |value| if value == UNSEEN { Some(None) } else { parsed(value).map(Some) }),
            unsent: facts.all("unsent", unhex),
            notify: notify.map(|(path, socket)| NotifySocketFacts { socket, directory, path }),
        };
        (state, facts.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::socket_facts::SocketKind;
    use crate::text::status_file::Answer;

    fn sample() -> Handover {
        Handover {
            writer: "hupwrap 9.9.9".to_owned(),
            machine: Snapshot {
                child: Some(u64::MAX),
                restart_at: Some(Duration::from_nanos(u64::MAX)),
                began: Duration::from_nanos(3),
                ready_at: Some(Duration::from_nanos(4)),
                awaits_main: Some(Duration::from_nanos(7)),
                kind: RequestKind::Reexec,
                again: Some(RequestKind::Restart),
                generation: u64::MAX,
                consecutive: u32::MAX,
                restarts: vec![Duration::from_nanos(5), Duration::from_nanos(6)],
                counts: Counts { asked: 7, failed: u64::MAX },
                last_exit: Some(ExitStatus::Killed(Signal::TERM)),
                first_start: Some(Duration::ZERO),
                interrupted: Some(Duration::from_nanos(1)),
                terminal_gone: Some(Duration::from_secs(2)),
                renew_at: Some(Duration::from_secs(5)),
                suspect_hup: Some(Duration::from_secs(3)),
                held_signals: SignalSet::ALL,
                held_hup: true,
                unchecked: SignalSet::ALL,
                paused: Duration::from_secs(4),
            },
            child: Some(4711),
            child_group: Some(4710),
            announced: Some(Announced { pid: 4712, began: Some(99) }),
            file_before: Some(Written { inode: 1, seconds: 2, nanoseconds: 3 }),
            ended: Some(EndedChild { pid: 4710, status: ExitStatus::Exited(3), held: SignalSet::ALL }),
            shared_group: true,
            had_terminal: false,
            terminal_modes: Some(vec![0, 255, 3]),
            non_blocking: Some(5),
            mask: SignalSet::ALL,
            chld_ignored: true,
            foreign_children: vec![1, 2],
            first_child: Some((3, 4)),
            origin: vec![b"/a b/\xff".to_vec(), b"./c".to_vec()],
            pidfile: Some(11),
            signal_fd: Some(12),
            watched: vec![Some(u64::MAX), None],
            unsent: vec![b"READY=1\nSTATUS=\xff".to_vec(), vec![]],
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
            renew_at: None,
            suspect_hup: None,
            ..full.machine.clone()
        };
        let bare = Handover {
            machine,
            child: None,
            child_group: None,
            announced: None,
            ended: None,
            foreign_children: vec![],
            first_child: None,
            sockets: vec![],
            notify: None,
            pidfile: None,
            signal_fd: None,
            requests: vec![],
            watched: vec![],
            unsent: vec![],
            ..full
        };
        assert_eq!(Handover::decode(&bare.encode()), Ok(bare));
    }

    #[test]
    fn facts_of_a_newer_hupwrap_are_skipped() {
        let mut bytes = sample().encode();
        bytes.extend(b"moon full\n\nodd\n");
        assert_eq!(Handover::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn the_format_before_is_read() {
        let text = String::from_utf8(sample().encode()).unwrap();
        let before = text.replacen('3', "2", 1).replace("signal_fd 12\n", "");
        assert_eq!(Handover::decode(before.as_bytes()), Ok(Handover { signal_fd: None, ..sample() }));
    }

    #[test]
    fn a_torn_or_foreign_state_is_refused() {
        let bytes = sample().encode();
        for len in 0..60 {
            assert!(Handover::decode(bytes.get(..len).unwrap()).is_err());
        }
        for format in ["1", "4", "", "x"] {
            let other = format!("{format}\nwriter x\n");
            assert_eq!(Handover::decode(other.as_bytes()), Err(format!("its format is '{format}'")));
        }
        assert!(Handover::decode(b"\xff").is_err());
    }

    #[test]
    fn a_pid_or_descriptor_that_cannot_be_is_refused_and_left_out() {
        let bytes = sample().encode();
        let without_child = Handover { child: None, ..sample() };
        for (line, fault, rest) in [
            ("child -1", "its 'child' is '-1'", &without_child),
            ("child 0", "its 'child' is '0'", &without_child),
            ("child -4711", "its 'child' is '-4711'", &without_child),
        ] {
            let text = String::from_utf8(bytes.clone()).unwrap().replace("\nchild 4711\n", &format!("\n{line}\n"));
            assert_eq!(Handover::salvage(text.as_bytes()), (rest.clone(), Some(fault.to_owned())));
        }
        for (line, fault) in [
            ("foreign_child -1", "its 'foreign_child' is '-1'"),
            ("socket 2 tcp - a", "its 'socket' has descriptor 2"),
            ("socket 9 tcp - a", "its 'socket' has descriptor 9"),
            ("socket -1 tcp - a", "its 'socket' has descriptor -1"),
            ("socket 20 moon - a", "its 'socket' is '20 moon - a'"),
            ("pidfile 0", "its 'pidfile' has descriptor 0"),
            ("signal_fd 11", "its 'signal_fd' has descriptor 11"),
            ("unsent 0", "its 'unsent' is '0'"),
            ("unsent +1", "its 'unsent' is '+1'"),
        ] {
            let mut bytes = bytes.clone();
            bytes.extend(format!("{line}\n").bytes());
            assert_eq!(Handover::decode(&bytes), Err(fault.to_owned()), "{line}");
        }
    }

    #[test]
    fn of_a_broken_state_the_rest_is_taken() {
        let (state, fault) = Handover::salvage(b"\xff\0");
        assert_eq!((state.machine.kind, state.machine.child, state.child), (RequestKind::Upgrade, None, None));
        assert!(fault.unwrap().starts_with("its format is '"));
        let full = String::from_utf8(sample().encode()).unwrap();
        for line in full.lines() {
            let name = line.split(' ').next().unwrap();
            let (state, fault) = Handover::salvage(full.replace(&format!("\n{line}\n"), "\n").as_bytes());
            assert!(state.child.is_some() || name == "child", "{line}: {fault:?}");
        }
    }

    #[test]
    fn introductions() {
        assert_eq!(check_introduction(introduction().as_bytes()), Ok(()));
        assert_eq!(check_introduction(b"hupwrap 7.0.0 understands handover 5 3 4\nmore"), Ok(()));
        for bad in [&b""[..], b"\n", b"garbage", b"\xff\x1b[31m\0", b"hupwrap 0.1.0\n", b"x understands handover 3"] {
            assert!(check_introduction(bad).unwrap_err().starts_with("it answers "));
        }
        let error = check_introduction(b"hupwrap 0.0.1 understands handover 0 11").unwrap_err();
        assert!(error.starts_with("hupwrap 0.0.1 does not understand"), "{error}");
    }
}
