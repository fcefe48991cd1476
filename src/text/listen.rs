//! What `--listen` says, and what the child is told of the sockets it gets (the contract, section 8). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::text::hints;

/// The first descriptor that is passed (`sd_listen_fds(3)`).
pub(crate) const FIRST_FD: i32 = 3;
/// The name of a socket that has none (`sd_listen_fds(3)`).
pub(crate) const UNKNOWN: &str = "unknown";
/// What fits into `sockaddr_un.sun_path` with its NUL (`unix(7)`).
const LONGEST_PATH: usize = 107;
/// The longest name of a descriptor (`systemd.socket(5)`, FileDescriptorName=).
const LONGEST_NAME: usize = 255;
/// The mode of a unix socket's file where none is said.
pub(super) const USUAL_MODE: u32 = 0o660;

const WANT: &str = "want [NAME=]tcp:HOST:PORT, [NAME=]udp:HOST:PORT or [NAME=]unix:PATH[,mode=0660]";
const WANT_PORT: &str = "want HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, or *:8080 for every IPv4 address";

/// One `--listen`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// The value of the option, for messages.
    pub option: String,
    /// What the child finds the socket by.
    pub name: Option<String>,
    /// Where.
    pub address: Address,
    /// `HOST:PORT` or the path as given: the key in `SERVER_STARTER_PORT`.
    pub said: String,
}

/// Where a socket listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// `tcp:HOST:PORT`.
    Tcp(Endpoint),
    /// `udp:HOST:PORT`.
    Udp(Endpoint),
    /// `unix:PATH[,mode=0660]`.
    Unix {
        /// The path; neither empty nor too long.
        path: String,
        /// The permissions of the file, at most 0777.
        mode: u32,
    },
}

impl Address {
    /// The host and the port, where it has those.
    pub(crate) fn endpoint_mut(&mut self) -> Option<&mut Endpoint> {
        match self {
            Self::Tcp(endpoint) | Self::Udp(endpoint) => Some(endpoint),
            Self::Unix { .. } => None,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(option: &str) -> Result<Self, String> {
        parse(option).map_err(|error| format!("{error}{}", hint(option)))
    }
}

/// The name and the address.
fn split(option: &str) -> (Option<&str>, &str) {
    // A name holds no colon, so an equals sign behind the first colon belongs to the address.
    match option.split_once('=') {
        Some((name, rest)) if !name.contains(':') => (Some(name), rest),
        _ => (None, option),
    }
}

fn parse(option: &str) -> Result<Listen, String> {
    if option.contains(char::is_control) {
        return Err(format!("it holds a control character; {WANT}"));
    }
    let (name, rest) = split(option);
    if let Some(name) = name.filter(|name| name.is_empty() || !is_name(name)) {
        return Err(format!("'{name}' is no name; want 1 to {LONGEST_NAME} ASCII characters and no colon"));
    }
    let (kind, said) = rest.split_once(':').ok_or(WANT)?;
    let (address, said) = match kind {
        "tcp" => (Address::Tcp(said.parse()?), said),
        "udp" => (Address::Udp(said.parse()?), said),
        "unix" => {
            let (path, mode) = match said.rsplit_once(",mode=") {
                Some((path, mode)) => (path, permissions(mode)?),
                None => (said, USUAL_MODE),
            };
            check_path(path)?;
            (Address::Unix { path: path.to_owned(), mode }, path)
        }
        _ => return Err(format!("'{kind}' is no kind of socket; {WANT}")),
    };
    Ok(Listen { option: option.to_owned(), name: name.map(str::to_owned), address, said: said.to_owned() })
}

/// What is not a host, though a colon and a number follow it.
const NO_HOSTS: [&str; 6] = ["fd", "sctp", "ssl", "tls", "vsock", "ws"];

/// What somebody may have meant by an address without a kind, or with that of a URL.
fn hint(option: &str) -> String {
    let (name, address) = split(option);
    let name = name.map_or_else(String::new, |name| format!("{name}="));
    let (said, rest) = address.split_once(':').unwrap_or(("", address));
    let lower = said.to_ascii_lowercase();
    let kind = if matches!(&*lower, "" | "http" | "https") { "tcp" } else { &*lower };
    let bare = rest.strip_prefix("//").unwrap_or(rest);
    if matches!(kind, "tcp" | "udp") && bare.parse::<u16>().is_ok() {
        return format!(
            "; did you mean '{name}{kind}:localhost:{bare}', or '{name}{kind}:*:{bare}' for every IPv4 address?"
        );
    }
    let is_path = kind != "unix" && (address.starts_with(['/', '.']) || address.ends_with(".sock"));
    let near = hints::near(said, &["tcp", "udp", "unix"]).unwrap_or_default();
    let meant = [
        format!("{kind}:{}", if kind == "unix" { bare } else { bare.trim_end_matches('/') }),
        format!("{}:{address}", if is_path { "unix" } else { "" }),
        format!("{}:{address}", if NO_HOSTS.contains(&kind) { "" } else { "tcp" }),
        format!("{near}:{rest}"),
    ];
    hints::first_accepted(&meant.map(|address| name.clone() + &address), &|said| parse(said).is_ok())
}

/// systemd's `fdname_is_valid`; an empty name is valid there.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':')
}

fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("want a path, as in unix:/run/app.sock".to_owned());
    }
    if path.ends_with('/') {
        return Err("a path that ends with '/' is that of a directory; want one as in unix:/run/app.sock".to_owned());
    }
    if path.starts_with('@') {
        return Err(format!("an abstract socket has no file; want a path, or './{path}' for a file of that name"));
    }
    let bare = path.rsplit_once(',').map_or("", |(_, option)| option);
    match bare.split_once('=') {
        Some(("mode", _)) => return Err("',mode=' is given twice; want it once".to_owned()),
        Some((option, _)) => {
            let hint = hints::did_you_mean(option, &["mode"]);
            let want = if hint.is_empty() { "; want ',mode=0660' or nothing" } else { &hint };
            return Err(format!("unknown option '{option}'{want}"));
        }
        None if bare.len() > 2 && permissions(bare).is_ok() => {
            return Err(format!("want the mode as ',mode='; did you mean ',mode={bare}'?"));
        }
        None if path.contains([';', '=']) => {
            return Err(format!("SERVER_STARTER_PORT cannot carry ';' or '='; want a path without: '{path}'"));
        }
        None => {}
    }
    if path.len() > LONGEST_PATH {
        return Err(format!("the path has {} bytes; the kernel takes {LONGEST_PATH} at most", path.len()));
    }
    Ok(())
}

fn permissions(mode: &str) -> Result<u32, String> {
    // from_str_radix would take a sign.
    let octal = !mode.is_empty() && mode.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let value = if octal { u32::from_str_radix(mode, 8).ok() } else { None };
    value
        .filter(|value| *value <= 0o777)
        .ok_or_else(|| format!("'{mode}' is no mode; want an octal number up to 0777, such as ',mode=0660'"))
}

/// Checks that no address is said twice. Names that mean the same address are found out by the kernel.
///
/// # Errors
/// One line that names both.
pub(crate) fn check_distinct(all: &[Listen]) -> Result<(), String> {
    let same = |one: &Address, other: &Address| match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) | (Address::Udp(one), Address::Udp(other)) => {
            // Port 0 is another one each time.
            one == other && one.port != 0
        }
        (Address::Unix { path: one, .. }, Address::Unix { path: other, .. }) => one == other,
        _ => false,
    };
    for (count, second) in all.iter().enumerate() {
        if let Some(first) = all.iter().take(count).find(|first| same(&first.address, &second.address)) {
            return Err(format!(
                "--listen '{}': --listen '{}' has the same address; want each address once",
                second.option, first.option
            ));
        }
    }
    Ok(())
}

/// `HOST:PORT`, as `--listen` and `--ready` take it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// A name or an address; without brackets, and `0.0.0.0` where none or `*` was said.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl From<SocketAddr> for Endpoint {
    /// With the host in figures.
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => format!("{}%{}", address.ip(), address.scope_id()),
            _ => address.ip().to_string(),
        };
        Self { host, port: address.port() }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(said: &str) -> Result<Self, String> {
        let (host, port) = match said.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(WANT_PORT)?;
                let (address, zone) = host.split_once('%').unwrap_or((host, "-"));
                if address.parse::<Ipv6Addr>().is_err() || !is_host(zone) {
                    return Err(format!("'{host}' is no IPv6 address; {WANT_PORT}"));
                }
                (host, port.strip_prefix(':').ok_or(WANT_PORT)?)
            }
            None => match said.rsplit_once(':').ok_or(WANT_PORT)? {
                ("" | "*", port) => ("0.0.0.0", port),
                (host, _) if host.contains(':') => {
                    return Err(format!("an IPv6 address stands in brackets; {WANT_PORT}"));
                }
                (host, _) if !is_host(host) => return Err(format!("'{host}' is no host; {WANT_PORT}")),
                found => found,
            },
        };
        // u16's own parser would take a sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if digits { port.parse().ok() } else { None }
            .ok_or_else(|| format!("'{port}' is no port; want a number from 0 to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Whether it can be the name of a host, or an IPv4 address.
fn is_host(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Whether a socket that listens on `bound` accepts connections to `asked`.
pub(crate) fn answers(bound: SocketAddr, asked: SocketAddr) -> bool {
    // Connecting to the unspecified address reaches this machine.
    let asked_ip = match asked.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let any = bound.ip().is_unspecified() && bound.is_ipv4() == asked_ip.is_ipv4();
    bound.port() == asked.port() && (any || bound.ip() == asked_ip)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::socket_facts::{SocketFacts, SocketFile, SocketKind, environment, is_key, names};

    fn listen(option: &str) -> Listen {
        option.parse().unwrap_or_else(|error| panic!("{option}: {error}"))
    }

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port }
    }

    #[test]
    fn addresses_of_the_internet() {
        let cases = [
            ("tcp:127.0.0.1:80", "127.0.0.1", 80, "127.0.0.1:80"),
            ("tcp:localhost:0", "localhost", 0, "localhost:0"),
            ("tcp:my-host_1.example.:65535", "my-host_1.example.", 65535, "my-host_1.example.:65535"),
            ("tcp:[::1]:80", "::1", 80, "[::1]:80"),
            ("tcp:[fe80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80"),
            ("tcp:*:80", "0.0.0.0", 80, "*:80"),
            ("tcp::80", "0.0.0.0", 80, ":80"),
            ("tcp:0.0.0.0:080", "0.0.0.0", 80, "0.0.0.0:080"),
        ];
        for (option, host, port, said) in cases {
            let found = listen(option);
            assert_eq!((found.name, found.said.as_str()), (None, said), "{option}");
            assert_eq!(found.address, Address::Tcp(endpoint(host, port)), "{option}");
            assert_eq!(found.option, option);
        }
        assert_eq!(listen("udp:[::]:53").address, Address::Udp(endpoint("::", 53)));
    }

    #[test]
    fn paths() {
        let cases = [
            ("unix:/run/a.sock", "/run/a.sock", 0o660),
            ("unix:a", "a", 0o660),
            ("unix:/a,mode=0600", "/a", 0o600),
            ("unix:/a,mode=777", "/a", 0o777),
            ("unix:/a,mode=0", "/a", 0),
            ("unix:/a,b c:d,mode=00640", "/a,b c:d", 0o640),
            ("unix:/a,mode", "/a,mode", 0o660),
            ("unix:./@a", "./@a", 0o660),
            ("unix:/ü", "/ü", 0o660),
        ];
        for (option, path, mode) in cases {
            let found = listen(option);
            assert_eq!((found.name, found.said.as_str()), (None, path), "{option}");
            assert_eq!(found.address, Address::Unix { path: path.to_owned(), mode }, "{option}");
        }
        assert_eq!(listen(&format!("unix:/{}", "a".repeat(106))).said.len(), 107);
    }

    #[test]
    fn a_name_stands_before_the_first_colon() {
        let name = |option: &str| listen(option).name;
        assert_eq!(name("web=tcp:*:80").as_deref(), Some("web"));
        assert_eq!(name("a b;c.d=unix:/x,mode=0600").as_deref(), Some("a b;c.d"));
        assert_eq!(name("unix:/x,mode=0600"), None);
        assert_eq!(name(&format!("{}=tcp:*:80", "n".repeat(255))).map(|name| name.len()), Some(255));
    }

    #[test]
    fn an_error_says_what_would_be_right() {
        let long_name = format!("{}=tcp:*:80", "n".repeat(256));
        let long_path = format!("unix:/{}", "a".repeat(107));
        let cases = [
            ("", WANT),
            ("8080", WANT),
            ("web=8080", WANT),
            (":8080", "; did you mean 'tcp:localhost:8080', or 'tcp:*:8080' for every IPv4 address?"),
            ("127.0.0.1:80", "; did you mean 'tcp:127.0.0.1:80'?"),
            ("a=localhost:80", "; did you mean 'a=tcp:localhost:80'?"),
            ("./x.sock", "; did you mean 'unix:./x.sock'?"),
            ("TCP:a:1", "; did you mean 'tcp:a:1'?"),
            ("unx:/a", "; did you mean 'unix:/a'?"),
            ("=tcp:*:80", "'' is no name; want 1 to 255 ASCII characters"),
            ("ä=tcp:*:80", "'ä' is no name"),
            (&long_name, "nnn' is no name"),
            ("a\nb=tcp:*:80", "it holds a control character"),
            ("unix:/a\tb", "it holds a control character"),
            ("a=b=tcp:*:80", "'b=tcp' is no kind of socket"),
            ("a:b=tcp:*:80", "'a' is no kind of socket"),
            ("[::1]:80", "; did you mean 'tcp:[::1]:80'?"),
            ("tcp://127.0.0.1:80", "; did you mean 'tcp:127.0.0.1:80'?"),
            ("http://localhost:8080/", "; did you mean 'tcp:localhost:8080'?"),
            ("w=udp:53", "; did you mean 'w=udp:localhost:53', or 'w=udp:*:53' for every IPv4 address?"),
            ("UNIX:///run/x", "; did you mean 'unix:/run/x'?"),
            ("top:80", "; did you mean 'tcp:top:80'?"),
            ("unix:x.sock,0666", "; did you mean ',mode=0666'?"),
            ("tcp:", WANT_PORT),
            ("tcp:80", "; did you mean 'tcp:localhost:80', or 'tcp:*:80' for every IPv4 address?"),
            ("tcp:host", WANT_PORT),
            ("tcp:[::1]", WANT_PORT),
            ("tcp:[::1]80", WANT_PORT),
            ("tcp:[::1:80", WANT_PORT),
            ("tcp:[]:80", "'' is no IPv6 address; want HOST:PORT"),
            ("tcp:[1.2.3.4]:80", "'1.2.3.4' is no IPv6 address"),
            ("tcp:[::1%]:80", "'::1%' is no IPv6 address"),
            ("tcp:[::1%a;b]:80", "'::1%a;b' is no IPv6 address"),
            ("tcp:::1:80", "an IPv6 address stands in brackets; want HOST:PORT"),
            ("tcp:a;b:80", "'a;b' is no host; want HOST:PORT"),
            ("tcp:a=b:80", "'a=b' is no host; want HOST:PORT"),
            ("tcp:a b:80", "'a b' is no host"),
            ("tcp:bücher:80", "'bücher' is no host"),
            ("tcp:a:", "'' is no port; want a number from 0 to 65535"),
            ("tcp:a:65536", "'65536' is no port"),
            ("tcp:a:+80", "'+80' is no port"),
            ("tcp:a:http", "'http' is no port"),
            ("udp:*:53,mode=0600", "'53,mode=0600' is no port"),
            ("unix:", "want a path"),
            ("unix:,mode=0600", "want a path"),
            ("unix:@a", "want a path, or './@a' for a file"),
            ("unix:/a;b", "SERVER_STARTER_PORT cannot carry ';' or '='; want a path without"),
            ("unix:/a=b", "SERVER_STARTER_PORT cannot carry"),
            ("unix:/a,user=www", "unknown option 'user'; want ',mode=0660' or nothing"),
            ("unix:/a,mod=0666", "unknown option 'mod'; did you mean 'mode'?"),
            ("unix:/a,mode=0600,mode=0600", "',mode=' is given twice"),
            ("unix:/a,mode=", "'' is no mode; want an octal number up to 0777"),
            ("unix:/a,mode=+660", "'+660' is no mode"),
            ("unix:/a,mode=0668", "'0668' is no mode"),
            ("unix:/a,mode=1777", "'1777' is no mode"),
            ("unix:/a,mode=77777777777777", "is no mode"),
            (&long_path, "the path has 108 bytes; the kernel takes 107 at most"),
        ];
        for (option, want) in cases {
            let error = option.parse::<Listen>().unwrap_err();
            assert!(error.contains(want) && !error.contains('\n'), "{option}: {error}");
        }
    }

    #[test]
    fn a_wrong_hint_is_worse_than_none() {
        for option in ["fd:3", "vsock:1", "sctp:80", "tcp:a:http", "unix:@x.sock", "unix:x.sock,user=a", "x", "80000"] {
            let error = option.parse::<Listen>().unwrap_err();
            assert!(!error.contains("did you mean"), "{option}: {error}");
        }
    }

    #[test]
    fn each_address_once() {
        let check = |options: &[&str]| check_distinct(&options.iter().map(|option| listen(option)).collect::<Vec<_>>());
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(
            check(&["tcp:*:80", "udp:*:80", "tcp:[::]:80", "tcp:*:81", "unix:/80", "tcp:a:0", "tcp:a:0"]),
            Ok(())
        );
        assert_eq!(
            check(&["unix:/x", "web=tcp:*:80", "tcp:0.0.0.0:80"]),
            Err("--listen 'tcp:0.0.0.0:80': --listen 'web=tcp:*:80' has the same address; want each address once"
                .to_owned())
        );
        assert!(check(&["udp:a:1", "udp:a:1"]).is_err());
        assert!(check(&["unix:/x", "unix:/y", "b=unix:/x,mode=0600"]).is_err());
    }

    #[test]
    fn who_answers() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.2:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.1:80", false),
            ("[::1]:80", "[::]:80", true),
        ];
        for (bound, asked, want) in cases {
            assert_eq!(answers(bound.parse().unwrap(), asked.parse().unwrap()), want, "{bound} {asked}");
        }
    }

    fn facts(kind: SocketKind, name: &str, said: Option<&str>) -> SocketFacts {
        SocketFacts { fd: 9, kind, name: name.to_owned(), said: said.map(str::to_owned), made: None }
    }

    #[test]
    fn what_the_child_is_told() {
        assert_eq!(environment(&[]), []);
        let all = [
            facts(SocketKind::Other, "fifo", None),
            facts(SocketKind::Tcp, "web", Some("[::1]:80")),
            facts(SocketKind::Udp, UNKNOWN, Some("*:53")),
            facts(SocketKind::Unix, UNKNOWN, Some("/run/a:b.sock")),
        ];
        let want = [
            ("LISTEN_FDS", "4"),
            ("LISTEN_FDNAMES", "fifo:web:unknown:unknown"),
            ("SERVER_STARTER_PORT", "[::1]:80=4;*:53=5;/run/a:b.sock=6"),
        ];
        assert_eq!(environment(&all), want.map(|(name, value)| (name, value.to_owned())));
        let names: Vec<_> = environment([&all[0]]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["LISTEN_FDS", "LISTEN_FDNAMES"]);
    }

    #[test]
    fn names_that_were_given() {
        assert_eq!(names(Some(b"a:b c"), 2), ["a", "b c"]);
        assert_eq!(names(Some(b"a:b"), 3), [UNKNOWN; 3]);
        assert_eq!(names(Some(b"a:b"), 1), [UNKNOWN]);
        assert_eq!(names(None, 2), [UNKNOWN; 2]);
        assert_eq!(names(Some(b"a::\xff:x\ny"), 4), ["a", UNKNOWN, UNKNOWN, UNKNOWN]);
        assert!(names(Some(b""), 0).is_empty());
    }

    #[test]
    fn torn_facts_are_refused() {
        for line in ["", "3", "3 tcp", "3 tcp -", "x tcp - a", "3 sctp - a", "3 unix 1 a", "3 unix 1.x a"] {
            assert_eq!(line.parse::<SocketFacts>(), Err(format!("'{line}' is no socket")));
        }
    }

    proptest! {
        #[test]
        fn a_hint_is_accepted(option in "(a=)?([a-z]{0,4}|http|TCP|Unix|unx)[:/]{0,3}[a:./\\[0-9]{0,9}(:[0-9]{1,2})?(/|,[0-7]{3}|.sock)?") {
            if let Err(error) = option.parse::<Listen>() && let Some((_, hint)) = error.rsplit_once("; did you mean '") {
                let hint = hint.split('\'').next().unwrap_or_default();
                prop_assert!(hint.starts_with(",mode=") || hint.parse::<Listen>().is_ok(), "{option}: {error}");
            }
        }

        #[test]
        fn no_value_panics(option in ".*", kind in "(a=)?(tcp|udp|unix):[^a]*[:,=]?(mode=)?.{0,6}") {
            for option in [option, kind] {
                if let Ok(found) = option.parse::<Listen>() {
                    prop_assert!(is_key(&found.said) && option.contains(&found.said));
                }
            }
        }

        #[test]
        fn facts_are_read_back(fd: i32, kind in 0..4_usize, name in "[ -9;-~]{0,9}", said in "(\\P{Cc}{1,9})?", made: (u64, u64, u32)) {
            let said = (!said.is_empty()).then_some(said);
            let (device, inode, mode) = made;
            for made in [None, Some(SocketFile { device, inode, mode })] {
                let facts = SocketFacts { fd, kind: SocketKind::ALL[kind], name: name.clone(), said: said.clone(), made };
                let line = facts.to_string();
                prop_assert_eq!(line.lines().count(), 1);
                prop_assert_eq!(line.parse(), Ok(facts));
            }
        }
    }
}
