//! When a child is ready (contract, section 9). Pure.

use std::ffi::OsString;
use std::time::Duration;

use super::duration::duration;
use crate::text::hints;
use crate::text::listen::{Endpoint, FIRST_FD};
use crate::text::words;

/// When a child is ready.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ready {
    /// When it executes.
    Exec,
    /// When it sends `READY=1` to its NOTIFY_SOCKET (sd_notify(3)).
    Notify,
    /// When it writes a newline to this descriptor (s6's notification-fd).
    Fd(i32),
    /// When it has stayed alive for this long.
    Delay(Duration),
    /// When a connection is accepted there.
    Tcp(Endpoint),
    /// When this command, as words, exits with 0.
    Cmd(Vec<OsString>),
}

const WANT: &str = "want exec, notify, fd:N, delay:T, tcp:HOST:PORT or cmd:CMD";

/// Reads the value of `--ready`.
///
/// # Errors
/// Says what would be right.
pub(super) fn readiness(said: &str) -> Result<Ready, String> {
    let (kind, with) = said.split_once(':').map_or((said, None), |(kind, with)| (kind, Some(with)));
    match (kind, with) {
        ("exec", None) => Ok(Ready::Exec),
        ("notify", None) => Ok(Ready::Notify),
        ("fd", Some(fd)) => match fd.parse::<i32>() {
            Ok(fd) if fd >= FIRST_FD => Ok(Ready::Fd(fd)),
            _ => Err("want a descriptor from 3 up, such as fd:3".to_owned()),
        },
        ("delay", Some(time)) => duration(time).map(Ready::Delay),
        ("tcp", Some(address)) => match address.parse::<Endpoint>()? {
            Endpoint { port: 0, .. } => Err("nobody accepts connections on port 0; want the child's port".to_owned()),
            endpoint => Ok(Ready::Tcp(endpoint)),
        },
        ("cmd", Some(command)) => words::split("--ready", "cmd:", command).map(Ready::Cmd),
        // `1s`, `8080`, `localhost:8080`: the kind is missing.
        _ if duration(said).is_ok() && !said.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("{WANT}; did you mean 'delay:{said}'?"))
        }
        ("http" | "https", Some(_)) => Err(format!("{WANT}; did you mean 'cmd:curl -fsS {said}'?")),
        // A program with its arguments or its path.
        _ if said.contains([' ', '/']) && with.is_none() => Err(format!("{WANT}; did you mean 'cmd:{said}'?")),
        (host, Some(port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Err(format!("{WANT}; did you mean 'tcp:{said}'?"))
        }
        _ => {
            let Some(near) = hints::near(kind, &["exec", "notify", "fd", "delay", "tcp", "cmd"]) else {
                return Err(WANT.to_owned());
            };
            let value = match (near, with) {
                ("exec" | "notify", _) => String::new(),
                (_, Some(with)) if near != kind => format!(":{with}"),
                ("fd", _) => ":3".to_owned(),
                ("delay", _) => ":1s".to_owned(),
                ("tcp", _) => ":localhost:8080".to_owned(),
                (_, _) => ":CMD".to_owned(),
            };
            Err(format!("{WANT}; did you mean '{near}{value}'?"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kind_is_suggested() {
        for (said, hint) in [
            ("5s", "; did you mean 'delay:5s'?"),
            ("localhost:8080", "; did you mean 'tcp:localhost:8080'?"),
            ("Notify", "; did you mean 'notify'?"),
            ("comd:true", "; did you mean 'cmd:true'?"),
            ("Delay:5s", "; did you mean 'delay:5s'?"),
            // The kind is right, its value is missing, or there should be none.
            ("fd", "; did you mean 'fd:3'?"),
            ("Delay", "; did you mean 'delay:1s'?"),
            ("tcp", "; did you mean 'tcp:localhost:8080'?"),
            ("cmd", "; did you mean 'cmd:CMD'?"),
            ("notify:x", "; did you mean 'notify'?"),
            ("http://localhost:8080/up", "; did you mean 'cmd:curl -fsS http://localhost:8080/up'?"),
            ("./is-up --soon", "; did you mean 'cmd:./is-up --soon'?"),
            ("8080", ""),
            ("", ""),
            ("exec:", "; did you mean 'exec'?"),
        ] {
            assert_eq!(readiness(said), Err(format!("{WANT}{hint}")), "{said}");
        }
        assert_eq!(readiness("delay:1.5"), Ok(Ready::Delay(Duration::from_millis(1500))));
        assert!(readiness("delay:never").unwrap_err().contains("'never' is not possible here"));
        assert!(readiness("fd:2").unwrap_err().contains("from 3 up"));
    }
}
