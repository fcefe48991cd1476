//! Facts as lines, a name and a value each: read back without losing what can be read. Pure.

use std::str::FromStr;
use std::time::Duration;

use super::socket_facts::SocketFacts;

/// The lines of a handover, while they are read.
pub(super) struct Facts<'a> {
    lines: Vec<(&'a str, &'a str)>,
    /// The first thing that is wrong.
    pub(super) fault: Option<String>,
    /// The descriptors so far: no two facts have the same.
    fds: Vec<i32>,
}

impl<'a> Facts<'a> {
    /// Of a text whose first line is the number of its format: one of those that are understood.
    pub(super) fn new(text: &'a str, understood: &[u32]) -> Self {
        let (format, facts) = text.split_once('\n').unwrap_or((text, ""));
        let is_understood = format.parse().is_ok_and(|format| understood.contains(&format));
        Self {
            lines: facts.split('\n').filter_map(|line| line.split_once(' ')).collect(),
            fault: (!is_understood).then(|| format!("its format is '{}'", format.escape_default())),
            fds: Vec::new(),
        }
    }

    /// The values of every fact of this name, those left out that cannot be read.
    pub(super) fn all<T>(&mut self, name: &str, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let mut values = Vec::new();
        for (_, value) in self.lines.iter().filter(|(known, _)| *known == name) {
            match read(value) {
                Some(value) => values.push(value),
                None => self.fault = self.fault.take().or_else(|| Some(format!("its '{name}' is '{value}'"))),
            }
        }
        values
    }

    pub(super) fn find<T: FromStr>(&mut self, name: &str) -> Option<T> {
        self.all(name, parsed).pop()
    }

    pub(super) fn must<T>(&mut self, name: &str, read: impl Fn(&str) -> Option<T>, otherwise: T) -> T {
        self.all(name, read).pop().unwrap_or_else(|| {
            self.fault = self.fault.take().or_else(|| Some(format!("it has no '{name}'")));
            otherwise
        })
    }

    pub(super) fn time(&mut self, name: &str) -> Option<Duration> {
        self.all(name, nanoseconds).pop()
    }

    pub(super) fn fd(&mut self, name: &str) -> Option<i32> {
        let fd = self.find(name)?;
        self.claim(name, fd).then_some(fd)
    }

    pub(super) fn sockets(&mut self) -> Vec<SocketFacts> {
        let mut sockets = self.all("socket", parsed::<SocketFacts>);
        sockets.retain(|socket| self.claim("socket", socket.fd));
        sockets
    }

    /// Whether a descriptor can be what a fact says: none of the standard ones, and that of no other fact.
    pub(super) fn claim(&mut self, name: &str, fd: i32) -> bool {
        let is_free = fd > 2 && !self.fds.contains(&fd);
        match is_free {
            true => self.fds.push(fd),
            false => self.fault = self.fault.take().or_else(|| Some(format!("its '{name}' has descriptor {fd}"))),
        }
        is_free
    }
}

pub(super) fn parsed<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

pub(super) fn nanoseconds(value: &str) -> Option<Duration> {
    parsed(value).map(Duration::from_nanos)
}

/// A pid. What is not above 0 means other processes to kill(2), or all of them.
pub(super) fn pid(value: &str) -> Option<i32> {
    parsed(value).filter(|pid| *pid > 0)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect()
}
