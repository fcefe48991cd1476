//! The socket of a service manager above, systemd for example: `sd_notify(3)`.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::errno::Errno;

use crate::sys::errno;

/// The NOTIFY_SOCKET of systemd, if hupwrap was given one.
pub(crate) struct ManagerSocket(SocketAddr);

impl ManagerSocket {
    /// Reads the variable's value: a path, or `@` and an abstract name. None for anything else: `vsock:` is for whole
    /// virtual machines.
    pub(crate) fn new(value: &[u8]) -> Option<Self> {
        match value {
            [b'/', _, ..] => SocketAddr::from_pathname(OsStr::from_bytes(value)),
            [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
            _ => return None,
        }
        .ok()
        .map(Self)
    }

    /// Sends a message, without waiting. Returns false if another try makes sense: systemd has not read the messages
    /// before this one yet, or no descriptor or memory is left. Otherwise the message is sent, or nobody listens.
    ///
    /// Each message goes through a socket of its own. So no socket has to cross a re-exec or be kept from a child, and
    /// hupwrap finds a systemd that was itself re-executed.
    pub(crate) fn send(&self, message: &[u8]) -> bool {
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message, &self.0)
        });
        !matches!(
            sent.map_err(errno),
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_systemds_socket() {
        let long = [&b"/"[..], &[b'x'; 108]].concat();
        for bad in [&b""[..], b"/", b"@", b"run/x", b"vsock:2:1234", b"vsock-stream:2:1", b"unix:/x", b"/\0", &long] {
            assert!(ManagerSocket::new(bad).is_none(), "{}", bad.escape_ascii());
        }
        for good in [&b"/run/systemd/notify"[..], b"@x", b"/\xff", b"@\xff", &long[..107]] {
            assert!(ManagerSocket::new(good).is_some(), "{}", good.escape_ascii());
        }
        // Nobody there, no socket, no right.
        for nobody in [&b"/nowhere/at/all"[..], b"@nobody of that name", b"/dev/null", b"/tmp"] {
            assert!(ManagerSocket::new(nobody).unwrap().send(b"READY=1"));
        }
    }
}
