//! Makes sockets work again that somebody has ended for every child: the file of a unix socket was removed, or
//! shutdown(2) was called on a socket that listens.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen};

use super::{Socket, lowest};
use crate::sys::poll::is_ready;
use crate::sys::start_error;
use crate::sys::unix_path::{self, file_at};
use crate::text::socket_facts::{SocketFile, SocketKind};

/// What was done for a socket that did not work.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Restored {
    /// Its address, or the path of its file.
    pub name: String,
    /// Whether somebody had called shutdown(2). Otherwise its file was removed.
    pub shut_down: bool,
    /// Whether it is a new one, which the next child gets; or why it does not work.
    pub is_new: Result<bool, String>,
}

/// Makes sockets work again. Returns what was done for each one that did not work.
pub(crate) fn restore(sockets: &mut [Socket]) -> Vec<Restored> {
    let lowest = lowest(sockets.len());
    sockets.iter_mut().filter_map(|socket| socket.restore(lowest)).collect()
}

impl Socket {
    /// Makes it work again. A new socket has a descriptor above `lowest`.
    fn restore(&mut self, lowest: RawFd) -> Option<Restored> {
        let shut_down = self.is_shut_down();
        let (name, is_new) = match shut_down {
            true => (self.address(), self.listen_again(lowest)),
            false => (self.facts.said.clone()?, self.restore_file(lowest).transpose()?),
        };
        Some(Restored { name, shut_down, is_new })
    }

    /// Whether somebody has called shutdown(2) on a socket that listens. That ends it for everybody who has it.
    fn is_shut_down(&self) -> bool {
        let listens = matches!(self.facts.kind, SocketKind::Tcp | SocketKind::Unix);
        listens && is_ready(self.fd.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))
    }

    /// Takes connections again, where everybody has the socket. A unix socket cannot: another one takes its place.
    fn listen_again(&mut self, lowest: RawFd) -> Result<bool, String> {
        if let (Some(made), Some(path)) = (self.facts.made, &self.facts.said) {
            unix_path::remove(path, made);
            return self.restore_file(lowest)?.ok_or_else(|| "its file cannot be removed".to_owned());
        }
        let Some(local) = self.local else { return Err("the program that made it must make another one".to_owned()) };
        // The kernel has taken back a port that it had chosen itself. Another port is still bound.
        match bind(self.fd.as_raw_fd(), &SockaddrStorage::from(local)) {
            Ok(()) | Err(Errno::EINVAL) => listen(&self.fd, Backlog::MAXALLOWABLE),
            Err(error) => Err(error),
        }
        .map(|()| false)
        .map_err(|error| start_error::describe(error).to_owned())
    }

    /// Makes the file of a unix socket again if somebody has removed it. If its second name is gone too, it is the file
    /// of a new socket. Returns whether it is, if there was anything to do.
    fn restore_file(&mut self, lowest: RawFd) -> Result<Option<bool>, String> {
        let (Some(made), Some(path)) = (self.facts.made, &self.facts.said) else { return Ok(None) };
        match file_at(path) {
            Ok(None) if unix_path::bring_back(path, made) => Ok(Some(false)),
            Ok(None) => {
                self.fd = unix_path::bind_again(path, made.mode, lowest)?;
                self.facts.fd = self.fd.as_raw_fd();
                let file = file_at(path).ok().flatten().unwrap_or(made);
                let file = SocketFile { mode: made.mode, ..file };
                unix_path::keep(path, file);
                self.facts.made = Some(file);
                Ok(Some(true))
            }
            found if made.is_at(found) => {
                unix_path::keep(path, made);
                Ok(None)
            }
            Ok(Some(_)) => Err("another file is there, which is left alone".to_owned()),
            Err(error) => Err(start_error::describe(error).to_owned()),
        }
    }
}
