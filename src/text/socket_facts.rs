//! What is known of a socket: for the child's environment, for the status file, and over a re-exec. Pure.

use std::fmt;
use std::str::FromStr;

use super::listen::{FIRST_FD, UNKNOWN, USUAL_MODE, is_name};

/// What a descriptor that is passed to the child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SocketKind {
    /// A TCP socket that listens.
    Tcp,
    /// A UDP socket.
    Udp,
    /// A unix stream socket that listens.
    Unix,
    /// Another one that hupwrap was given.
    Other,
}

impl SocketKind {
    pub(super) const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Unix, Self::Other];

    /// As addresses begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Other => "other",
        }
    }
}

/// The file of a unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SocketFile {
    /// Its device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its permissions.
    pub mode: u32,
}

impl SocketFile {
    /// Whether this is the file that was found at a path.
    pub(crate) fn is_at<E>(self, found: Result<Option<Self>, E>) -> bool {
        matches!(found, Ok(Some(Self { device, inode, .. })) if (device, inode) == (self.device, self.inode))
    }
}

/// What is known of a socket besides what the kernel tells; crosses a re-exec as one line of text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SocketFacts {
    /// The descriptor in hupwrap.
    pub fd: i32,
    /// What it is.
    pub kind: SocketKind,
    /// What the child finds it by; holds no colon and no control character.
    pub name: String,
    /// The key in `SERVER_STARTER_PORT`, where it has one; holds no control character. The path of the file, if it made
    /// one.
    pub said: Option<String>,
    /// The file that it made.
    pub made: Option<SocketFile>,
}

impl fmt::Display for SocketFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.fd, self.kind.name())?;
        match self.made {
            Some(SocketFile { device, inode, mode }) => write!(f, "{device}.{inode}.{mode:o} ")?,
            None => write!(f, "- ")?,
        }
        write!(f, "{}", self.name)?;
        self.said.as_ref().map_or(Ok(()), |said| write!(f, ":{said}"))
    }
}

impl FromStr for SocketFacts {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let read = || {
            let mut words = line.splitn(4, ' ');
            let fd = words.next()?.parse().ok()?;
            let kind = words.next()?;
            let made = match words.next()? {
                "-" => None,
                made => {
                    let mut parts = made.split('.');
                    let (device, inode) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                    // The state of an older hupwrap may not hold it.
                    let mode = parts.next().map_or(Some(USUAL_MODE), |mode| u32::from_str_radix(mode, 8).ok())?;
                    Some(SocketFile { device, inode, mode })
                }
            };
            let rest = words.next()?;
            let (name, said) = rest.split_once(':').map_or((rest, None), |(name, said)| (name, Some(said.to_owned())));
            let kind = SocketKind::ALL.into_iter().find(|known| known.name() == kind)?;
            Some(Self { fd, kind, name: name.to_owned(), said, made })
        };
        read().ok_or_else(|| format!("'{line}' is no socket"))
    }
}

/// What the child is told of the sockets that it gets from [`FIRST_FD`] on, in this order; nothing where there is none.
/// `LISTEN_PID` and `SERVER_STARTER_GENERATION` differ with each child and are not among it, and `SERVER_STARTER_PORT`
/// only where it would say something. It has UDP sockets too, as that of start_server(1) has (`--port=u53`).
pub(crate) fn environment<'a>(sockets: impl IntoIterator<Item = &'a SocketFacts>) -> Vec<(&'static str, String)> {
    let sockets: Vec<&SocketFacts> = sockets.into_iter().collect();
    // Under one key, as DNS has it, there can be one socket: not the UDP one.
    let is_hidden = |socket: &SocketFacts| {
        let shares = |other: &&SocketFacts| other.kind == SocketKind::Tcp && other.said == socket.said;
        socket.kind == SocketKind::Other || (socket.kind == SocketKind::Udp && sockets.iter().any(shares))
    };
    let names: Vec<&str> = sockets.iter().map(|socket| socket.name.as_str()).collect();
    let visible = (FIRST_FD..).zip(&sockets).filter(|(_, socket)| !is_hidden(socket));
    let ports: Vec<String> =
        visible.filter_map(|(fd, socket)| Some(format!("{}={fd}", socket.said.as_ref()?))).collect();
    let mut environment = Vec::new();
    if !names.is_empty() {
        environment.push(("LISTEN_FDS", names.len().to_string()));
        environment.push(("LISTEN_FDNAMES", names.join(":")));
    }
    if !ports.is_empty() {
        environment.push(("SERVER_STARTER_PORT", ports.join(";")));
    }
    environment
}

/// The names in a `LISTEN_FDNAMES` for this many descriptors. A list of another length names none; a name that is empty
/// or none at all is [`UNKNOWN`].
pub(crate) fn names(said: Option<&[u8]>, count: usize) -> Vec<String> {
    let said: Vec<&[u8]> = said.map_or_else(Vec::new, |said| said.split(|byte| *byte == b':').collect());
    let name = |at: usize| {
        let name = said.get(at).filter(|_| said.len() == count)?;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && is_name(name))
    };
    (0..count).map(|at| name(at).unwrap_or(UNKNOWN).to_owned()).collect()
}

/// Whether a text can be a key in `SERVER_STARTER_PORT`, and can cross a re-exec.
pub(crate) fn is_key(text: &str) -> bool {
    !text.is_empty() && !text.contains([';', '=']) && !text.contains(char::is_control)
}
