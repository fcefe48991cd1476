//! What is said on a NOTIFY_SOCKET, as sd_notify(3) has it: a datagram of assignments, one in a line. Pure.

use std::time::Duration;

use crate::text::is_plain;

/// The longest datagram systemd takes, in bytes (its `NOTIFY_BUFFER_MAX`); a longer one it drops as a whole.
const MOST_TAKEN: usize = 4096;
/// The longest status hupwrap makes, in bytes. It leaves room for what is said beside it.
const LONGEST_STATUS: usize = 2048;

/// A child's NOTIFY_SOCKET as it crosses a re-exec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NotifySocketFacts {
    /// The socket's descriptor.
    pub socket: i32,
    /// The directory's descriptor, if there is a directory.
    pub directory: Option<i32>,
    /// The value for NOTIFY_SOCKET. One line.
    pub path: String,
}

/// What a child said in one datagram.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Notice {
    /// That it is ready: `READY=1`, the only value there is.
    pub ready: bool,
    /// For how long from now its deadlines are not to run out: `EXTEND_TIMEOUT_USEC`. May be hundreds of millennia.
    pub extend: Option<Duration>,
    /// Which process is its main process: `MAINPID`. The last one counts.
    pub main_pid: Option<i32>,
    /// The lines that are for systemd as well, as they came, in a datagram that it takes; none where there are none.
    pub passed_up: Option<Vec<u8>>,
}

/// Reads a datagram. What is not known, or makes no sense, is skipped.
///
/// `STATUS`, `EXTEND_TIMEOUT_USEC`, `WATCHDOG=1` and `WATCHDOG=trigger` are passed up. `MAINPID`, `RELOADING` and
/// `STOPPING` are not, because for systemd hupwrap is the service. Nothing about descriptors is, because they are
/// closed. `WATCHDOG_USEC` is not: it would change the time that hupwrap keeps when it feeds the watchdog itself.
pub fn read(datagram: &[u8]) -> Notice {
    let mut notice = Notice::default();
    // systemd too allows for a C string's end, and for both ends of a line.
    let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let mut parts = line.splitn(2, |byte| *byte == b'=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
        let for_systemd = match (key, value) {
            (b"READY", b"1") => {
                notice.ready = true;
                false
            }
            (b"EXTEND_TIMEOUT_USEC", _) => match microseconds(value) {
                Some(time) => {
                    notice.extend.get_or_insert(time);
                    true
                }
                None => false,
            },
            (b"MAINPID", _) => {
                notice.main_pid = pid(value).or(notice.main_pid);
                false
            }
            (b"WATCHDOG", b"1" | b"trigger") => true,
            // With a NUL in it systemd would drop the datagram, and what is said beside it.
            (b"STATUS", _) => !value.contains(&0),
            _ => false,
        };
        if for_systemd {
            pass_up(&mut notice.passed_up, line);
        }
    }
    notice
}

/// Adds a line where it fits: a status that is too long must not take a watchdog's ping with it.
fn pass_up(lines: &mut Option<Vec<u8>>, line: &[u8]) {
    let before = lines.as_ref().map_or(0, |lines| lines.len().saturating_add(1));
    if before.saturating_add(line.len()) > MOST_TAKEN {
        return;
    }
    match lines {
        Some(lines) => {
            lines.push(b'\n');
            lines.extend(line);
        }
        None => *lines = Some(line.to_vec()),
    }
}

/// A pid, as plain digits.
fn pid(value: &[u8]) -> Option<i32> {
    let digits = std::str::from_utf8(value).ok().filter(|_| value.iter().all(u8::is_ascii_digit))?;
    digits.parse().ok().filter(|pid| *pid > 0)
}

fn microseconds(value: &[u8]) -> Option<Duration> {
    std::str::from_utf8(value).ok()?.parse().ok().map(Duration::from_micros)
}

/// Says that the service is ready, for the first time or after [`reloading`]. An empty status clears the one before.
pub fn ready(status: Option<&str>) -> Vec<u8> {
    with_status("READY=1".to_owned(), status)
}

/// Says that a reload has begun, at this time by CLOCK_MONOTONIC; `Type=notify-reload` wants both in one datagram.
/// [`ready`] ends it, whatever came of it.
pub fn reloading(monotonic: Duration, status: Option<&str>) -> Vec<u8> {
    with_status(format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros()), status)
}

fn with_status(mut message: String, status: Option<&str>) -> Vec<u8> {
    if let Some(status) = status {
        message.push_str("\nSTATUS=");
        message.push_str(&one_line(status));
    }
    message.into_bytes()
}

/// Says that the service is about to end. There is no way back from it (systemd 259).
pub(crate) fn stopping() -> Vec<u8> {
    b"STOPPING=1".to_vec()
}

/// Describes the state in words.
pub fn status(status: &str) -> Vec<u8> {
    format!("STATUS={}", one_line(status)).into_bytes()
}

/// Feeds the watchdog.
pub(crate) fn watchdog() -> Vec<u8> {
    b"WATCHDOG=1".to_vec()
}

/// A status may quote what is not hupwrap's: a name with a newline must not become an assignment.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for char in text.chars() {
        if line.len().saturating_add(char.len_utf8()) > LONGEST_STATUS {
            break;
        }
        line.push(if is_plain(char) { char } else { ' ' });
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A datagram, and what it says.
    type Case = (&'static [u8], bool, Option<Duration>, Option<&'static [u8]>);

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn what_a_child_may_say() {
        let none = None;
        let cases: [Case; 36] = [
            (b"", false, none, None),
            (b"\n\r\n\0", false, none, None),
            (b"READY=1", true, none, None),
            (b"READY=1\n", true, none, None),
            (b"READY=1\r\n", true, none, None),
            (b"READY=1\0", true, none, None),
            (b"\nX=Y\nREADY=1", true, none, None),
            (b"READY=0", false, none, None),
            (b"READY=1 ", false, none, None),
            (b" READY=1", false, none, None),
            (b"READY=11", false, none, None),
            (b"READY=01", false, none, None),
            (b"READY", false, none, None),
            (b"ready=1", false, none, None),
            (b"XREADY=1", false, none, None),
            (b"READY=1\0\0", false, none, None),
            (b"READY=1\nREADY=0", true, none, None),
            (b"READY=1\nSTATUS=up", true, none, Some(b"STATUS=up")),
            (b"STATUS=", false, none, Some(b"STATUS=")),
            (b"STATUS=a=b=c", false, none, Some(b"STATUS=a=b=c")),
            (b"STATUS=READY=1", false, none, Some(b"STATUS=READY=1")),
            (b"STATUS=\xff\xfe\x1b ", false, none, Some(b"STATUS=\xff\xfe\x1b ")),
            (b"STATUS=a\0b\nWATCHDOG=1", false, none, Some(b"WATCHDOG=1")),
            (b"WATCHDOG=1", false, none, Some(b"WATCHDOG=1")),
            (b"WATCHDOG=trigger", false, none, Some(b"WATCHDOG=trigger")),
            (b"WATCHDOG=0\nWATCHDOG_USEC=1000000", false, none, None),
            (b"EXTEND_TIMEOUT_USEC=1000000", false, SECOND, Some(b"EXTEND_TIMEOUT_USEC=1000000")),
            (b"EXTEND_TIMEOUT_USEC=0", false, Some(Duration::ZERO), Some(b"EXTEND_TIMEOUT_USEC=0")),
            (b"EXTEND_TIMEOUT_USEC=\nEXTEND_TIMEOUT_USEC=soon\nEXTEND_TIMEOUT_USEC=-1", false, none, None),
            (b"EXTEND_TIMEOUT_USEC=18446744073709551616", false, none, None),
            (
                b"EXTEND_TIMEOUT_USEC=1000000\nEXTEND_TIMEOUT_USEC=2",
                false,
                SECOND,
                Some(b"EXTEND_TIMEOUT_USEC=1000000\nEXTEND_TIMEOUT_USEC=2"),
            ),
            (b"MAINPID=1\nSTOPPING=1\nRELOADING=1\nMONOTONIC_USEC=1", false, none, None),
            (b"FDSTORE=1\nFDNAME=x\nFDPOLL=0\nFDSTOREREMOVE=1", false, none, None),
            (b"BARRIER=1", false, none, None),
            (b"NOTIFYACCESS=all\nERRNO=2\nBUSERROR=x\nEXIT_STATUS=1\nX_MINE=1\n=1\n=", false, none, None),
            (
                b"MAINPID=1\nSTATUS=a\nREADY=1\nWATCHDOG=1\nWATCHDOG_USEC=7\nSTATUS=b",
                true,
                none,
                Some(b"STATUS=a\nWATCHDOG=1\nSTATUS=b"),
            ),
        ];
        for (datagram, ready, extend, passed_up) in cases {
            let expected = Notice { ready, extend, main_pid: None, passed_up: passed_up.map(<[u8]>::to_vec) };
            assert_eq!(Notice { main_pid: None, ..read(datagram) }, expected, "{}", datagram.escape_ascii());
        }
    }

    #[test]
    fn the_main_process_is_a_pid() {
        let cases: [(&[u8], Option<i32>); 12] = [
            (b"MAINPID=4711", Some(4711)),
            (b"STATUS=x\nMAINPID=4711\nREADY=1", Some(4711)),
            (b"MAINPID=1\nMAINPID=2", Some(2)),
            (b"MAINPID=2\nMAINPID=x", Some(2)),
            (b"MAINPID=0", None),
            (b"MAINPID=-1", None),
            (b"MAINPID=+1", None),
            (b"MAINPID= 1", None),
            (b"MAINPID=", None),
            (b"MAINPID=2147483648", None),
            (b"MAINPIDFD=1", None),
            (b"READY=1", None),
        ];
        for (datagram, pid) in cases {
            let notice = read(datagram);
            assert_eq!(notice.main_pid, pid, "{}", datagram.escape_ascii());
            assert!(!notice.passed_up.is_some_and(|lines| lines.escape_ascii().to_string().contains("MAINPID")));
        }
    }

    #[test]
    fn a_long_status_takes_nothing_with_it() {
        let long = |len: usize| [b"STATUS=".to_vec(), vec![b'x'; len - 7]].concat();
        let whole = long(MOST_TAKEN);
        assert_eq!(read(&whole).passed_up, Some(whole));
        assert_eq!(read(&long(MOST_TAKEN + 1)), Notice::default());
        let crowd = [b"WATCHDOG=1\n".to_vec(), long(1 << 16), b"\nREADY=1\nSTATUS=short".to_vec()].concat();
        let notice = read(&crowd);
        assert_eq!((notice.ready, notice.passed_up), (true, Some(b"WATCHDOG=1\nSTATUS=short".to_vec())));
    }

    #[test]
    fn what_hupwrap_says() {
        assert_eq!(ready(Some("generation 2")), b"READY=1\nSTATUS=generation 2");
        assert_eq!(ready(Some("")), b"READY=1\nSTATUS=");
        assert_eq!(ready(None), b"READY=1");
        let time = Duration::from_nanos(1_234_567_890);
        assert_eq!(reloading(time, Some("checking")), b"RELOADING=1\nMONOTONIC_USEC=1234567\nSTATUS=checking");
        assert_eq!(stopping(), b"STOPPING=1");
        assert_eq!(watchdog(), b"WATCHDOG=1");
        assert_eq!(status("a\nREADY=1\r\0\x1b\u{85}b"), "STATUS=a READY=1    b".as_bytes());
        let long = status(&"\u{20ac}".repeat(LONGEST_STATUS));
        assert_eq!(long.len(), "STATUS=".len() + LONGEST_STATUS - LONGEST_STATUS % 3);
        assert!(std::str::from_utf8(&long).is_ok());
    }

    /// Lines that mean something, next to such that nearly do.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let known =
            prop::sample::select(vec!["READY=", "STATUS=", "WATCHDOG=", "EXTEND_TIMEOUT_USEC=", "BARRIER=", ""]);
        let value = prop_oneof![
            Just(b"1".to_vec()),
            any::<u64>().prop_map(|number| number.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..3000),
        ];
        (known, value).prop_map(|(key, value)| [key.as_bytes(), &value].concat())
    }

    proptest! {
        #[test]
        fn no_bytes_panic(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&datagram);
        }

        #[test]
        fn what_is_passed_up_is_what_came_and_what_systemd_takes(lines in prop::collection::vec(line(), 0..6)) {
            let datagram = lines.join(&b'\n');
            let Some(passed_up) = read(&datagram).passed_up else { return Ok(()) };
            prop_assert!(passed_up.len() <= MOST_TAKEN && !passed_up.contains(&0));
            let came: Vec<&[u8]> = datagram.split(|byte| matches!(byte, b'\n' | b'\r' | 0)).collect();
            for line in passed_up.split(|byte| *byte == b'\n') {
                prop_assert!(came.contains(&line), "{}", line.escape_ascii());
            }
            // Said again it means the same, but for the readiness.
            prop_assert_eq!(read(&passed_up).passed_up, Some(passed_up));
        }

        #[test]
        fn no_status_becomes_an_assignment(text in any::<String>()) {
            for message in [ready(Some(&text)), reloading(Duration::MAX, Some(&text)), status(&text)] {
                prop_assert!(message.len() <= MOST_TAKEN && !message.contains(&0));
                let notice = read(&message);
                prop_assert_eq!(notice.extend, None);
                prop_assert_eq!(notice.passed_up.map(|lines| lines.starts_with(b"STATUS=") && !lines.contains(&b'\n')), Some(true));
            }
        }
    }
}
