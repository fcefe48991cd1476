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

const KINDS: [&str; 6] = ["exec", "notify", "fd", "delay", "tcp", "cmd"];

/// Reads the value of `--ready`.
///
/// # Errors
/// Says what would be right.
pub(super) fn readiness(said: &str) -> Result<Ready, String> {
    read(said).map_err(|error| error.unwrap_or_else(|| format!("{WANT}{}", hint(said))))
}

/// None if it names no way to be ready.
fn read(said: &str) -> Result<Ready, Option<String>> {
    let (kind, with) = said.split_once(':').map_or((said, None), |(kind, with)| (kind, Some(with)));
    match (kind, with) {
        ("exec", None) => Ok(Ready::Exec),
        ("notify", None) => Ok(Ready::Notify),
        // The parser of i32 would accept a sign.
        ("fd", Some(fd)) => match fd.parse::<i32>() {
            Ok(number) if number >= FIRST_FD && !fd.starts_with('+') => Ok(Ready::Fd(number)),
            _ => Err(Some("want a descriptor from 3 up, such as fd:3".to_owned())),
        },
        ("delay", Some(time)) => duration(time).map(Ready::Delay).map_err(|error| Some(format!("'{time}': {error}"))),
        // A port alone, or a URL.
        ("tcp", Some(address)) if address.contains("//") || address.parse::<u16>().is_ok() => Err(None),
        ("tcp", Some(address)) => match address.parse::<Endpoint>()? {
            Endpoint { port: 0, .. } => {
                Err(Some("nobody accepts connections on port 0; want the child's port".to_owned()))
            }
            endpoint => Ok(Ready::Tcp(endpoint)),
        },
        ("cmd", Some(command)) => Ok(Ready::Cmd(words::split("--ready", "cmd:", command)?)),
        _ => Err(None),
    }
}

/// What somebody may have meant who named no kind, or wrote it in another way.
fn hint(said: &str) -> String {
    let said = said.trim();
    let (kind, rest) = said.split_at(said.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(said.len()));
    let value = rest.trim_start_matches([':', '=', ' ']);
    let is_short = rest.is_empty() || rest.starts_with(|c: char| matches!(c, ':' | '=' | ' ') || c.is_ascii_digit());
    let with = |kind: &str| match (kind, value) {
        ("exec", command) if rest.starts_with(' ') => format!("cmd:{command}"),
        ("exec" | "notify", _) => kind.to_owned(),
        ("fd", "") => "fd:3".to_owned(),
        ("delay", "") => "delay:1s".to_owned(),
        ("tcp", "") => "tcp:localhost:8080".to_owned(),
        ("cmd", "") => "cmd:CMD".to_owned(),
        ("tcp", address) => {
            let address = address.rsplit_once("//").map_or(address, |(_, address)| address);
            format!("tcp:{}", address.split('/').next().unwrap_or_default())
        }
        _ => format!("{kind}:{value}"),
    };
    let known = KINDS.iter().find(|known| is_short && kind.eq_ignore_ascii_case(known));
    let near = hints::near(kind, &KINDS).filter(|_| is_short);
    let port = value.parse::<u16>().ok().filter(|_| matches!(kind, "" | "tcp" | "port"));
    let is_url = said.starts_with("http://") || said.starts_with("https://");
    let is_command = said.contains(' ') || said.contains('/') && !said.contains(':');
    let when = |is: bool, meant: String| if is { meant } else { String::new() };
    let meant = [
        known.map_or_else(String::new, |known| with(known)),
        when(["sd_notify", "sd-notify", "systemd"].contains(&said), "notify".to_owned()),
        when(!said.bytes().all(|b| b.is_ascii_digit()), format!("delay:{said}")),
        when(port.is_some_and(|port| port < 80) && kind.is_empty(), format!("fd:{value}")),
        when(port.is_some(), format!("tcp:localhost:{value}")),
        when(is_url, format!("cmd:curl -fsS {said}")),
        // A program with its arguments or its path.
        when(is_command, format!("cmd:{said}")),
        format!("tcp:{said}"),
        near.map_or_else(String::new, with),
    ];
    hints::first_accepted(&meant, &|said| read(said).is_ok())
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
            ("cmd", "; did you mean 'cmd:CMD'?"),
            ("delay", "; did you mean 'delay:1s'?"),
            ("fd", "; did you mean 'fd:3'?"),
            ("tcp", "; did you mean 'tcp:localhost:8080'?"),
            ("fd=3", "; did you mean 'fd:3'?"),
            ("fd3", "; did you mean 'fd:3'?"),
            ("3", "; did you mean 'fd:3'?"),
            ("fd 3", "; did you mean 'fd:3'?"),
            ("exec /bin/up -x", "; did you mean 'cmd:/bin/up -x'?"),
            ("cmd=/bin/up", "; did you mean 'cmd:/bin/up'?"),
            ("cmd up", "; did you mean 'cmd:up'?"),
            ("upper case", "; did you mean 'cmd:upper case'?"),
            ("delay=1s", "; did you mean 'delay:1s'?"),
            ("notify:3", "; did you mean 'notify'?"),
            ("[::1]:80", "; did you mean 'tcp:[::1]:80'?"),
            ("web:80", "; did you mean 'tcp:web:80'?"),
            ("cms:80", "; did you mean 'tcp:cms:80'?"),
            (":8080", "; did you mean 'tcp:localhost:8080'?"),
            ("tcp:8080", "; did you mean 'tcp:localhost:8080'?"),
            ("tcp://127.0.0.1:80", "; did you mean 'tcp:127.0.0.1:80'?"),
            ("curl -f http://localhost/", "; did you mean 'cmd:curl -f http://localhost/'?"),
            ("Delay:5s", "; did you mean 'delay:5s'?"),
            ("Delay", "; did you mean 'delay:1s'?"),
            ("notify:x", "; did you mean 'notify'?"),
            ("http://localhost:8080/up", "; did you mean 'cmd:curl -fsS http://localhost:8080/up'?"),
            ("./is-up --soon", "; did you mean 'cmd:./is-up --soon'?"),
            (" notify", "; did you mean 'notify'?"),
            ("sd_notify", "; did you mean 'notify'?"),
            ("port:8080", "; did you mean 'tcp:localhost:8080'?"),
            ("tcp:http://a:80/up", "; did you mean 'tcp:a:80'?"),
            ("8080", "; did you mean 'tcp:localhost:8080'?"),
            ("80000", ""),
            ("soon", ""),
            ("", ""),
            ("exec:", "; did you mean 'exec'?"),
        ] {
            assert_eq!(readiness(said), Err(format!("{WANT}{hint}")), "{said}");
        }
        assert_eq!(readiness("delay:1.5"), Ok(Ready::Delay(Duration::from_millis(1500))));
        assert!(readiness("delay:never").unwrap_err().contains("'never' is not possible here"));
        assert!(readiness("fd:+3").unwrap_err().contains("from 3 up"));
        assert!(readiness("fd:2").unwrap_err().contains("from 3 up"));
    }
}
