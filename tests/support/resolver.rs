//! A DNS server of this test's own, silent or not, and programs that know no other.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use super::{Dir, PATIENCE, Setup, skipped};

/// The server.
pub struct Resolver {
    socket: UdpSocket,
    dir: Dir,
}

/// A question: the message, and from where.
pub struct Query(Vec<u8>, SocketAddr);

impl Query {
    /// Where the name ends that is asked for.
    fn end_of_name(&self) -> usize {
        12 + self.0[12..].iter().position(|byte| *byte == 0).expect("the end of a name")
    }

    fn wants_ipv4(&self) -> bool {
        self.0[self.end_of_name() + 1..].starts_with(&[0, 1])
    }
}

impl Resolver {
    /// At this address. None, and a word about it, where a mount namespace or port 53 is not permitted.
    pub fn new(test: &str, address: &str) -> Option<Self> {
        let Ok(socket) = UdpSocket::bind((address, 53)) else {
            skipped(test, "the right to use port 53");
            return None;
        };
        if Setup::of("unshare", ["--mount", "true"]).end().shell() != 0 {
            skipped(test, "the right to make a mount namespace");
            return None;
        }
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let dir = Dir::new();
        dir.file("resolv.conf", format!("nameserver {address}\noptions timeout:30 attempts:1\n"), 0o644);
        dir.file("nsswitch.conf", "hosts: dns\n", 0o644);
        Some(Self { socket, dir })
    }

    /// hupwrap, where this is the only server.
    pub fn setup(&self, hupwrap: &Path, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Setup {
        let script = r#"mount --bind "$0/resolv.conf" /etc/resolv.conf && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf && exec "$@""#;
        let words = ["--mount", "sh", "-c", script].map(Into::into).into_iter();
        let program = [self.dir.path().as_os_str().to_owned(), hupwrap.as_os_str().to_owned()];
        Setup::of("unshare", words.chain(program).chain(args.into_iter().map(|arg| arg.as_ref().to_owned())))
    }

    /// Waits for a question: somebody looks a name up now.
    #[track_caller]
    pub fn asked(&self) -> Query {
        let mut message = [0; 512];
        let (length, from) = self.socket.recv_from(&mut message).expect("a question");
        Query(message[..length].to_vec(), from)
    }

    /// Answers with 127.0.0.1, or that there is no such name.
    pub fn answer(&self, query: &Query, exists: bool) {
        let mut message = query.0.clone();
        // The question ends with its type and its class; what stands behind it is no part of the answer.
        message.truncate(query.end_of_name() + 5);
        let count = u8::from(exists && query.wants_ipv4());
        message[2..12].copy_from_slice(&[0x81, if exists { 0x80 } else { 0x83 }, 0, 1, 0, count, 0, 0, 0, 0]);
        if count == 1 {
            // The name again, type A, class IN, for no time, four bytes.
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
        }
        let _ = self.socket.send_to(&message, query.1);
    }

    /// Answers the two questions of a lookup: for an IPv4 and an IPv6 address.
    #[track_caller]
    pub fn answer_lookup(&self, first: Query, exists: bool) {
        self.answer(&first, exists);
        self.answer(&self.asked(), exists);
    }
}
