//! The hupwrap behind a status file.

use std::path::Path;

use crate::config::Form;
use crate::sys::Pid;
use crate::sys::status_input::{self, Purpose, StatusInput, Unread};
use crate::sys::target::Target;
use crate::text::status_file::{self, Read};

/// A hupwrap that was alive when it was found.
pub(super) struct Found {
    pub(super) target: Target,
    /// When it began, in the ticks of the kernel.
    pub(super) began: u64,
    /// What it wrote last.
    pub(super) seen: Read,
    purpose: Purpose,
}

/// Why none was found.
pub(super) enum NotFound {
    /// There may be one later.
    Yet(String),
    /// The file is not one that can be used.
    Ever(String),
}

impl NotFound {
    pub(super) fn into_line(self) -> String {
        match self {
            Self::Yet(line) | Self::Ever(line) => line,
        }
    }
}

impl From<String> for NotFound {
    fn from(line: String) -> Self {
        Self::Ever(line)
    }
}

impl From<Unread> for NotFound {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Absent(line) => Self::Yet(line),
            Unread::Wrong(line) => Self::Ever(line),
        }
    }
}

pub(super) fn has_ended(pid: Pid) -> String {
    format!("nothing runs there: its hupwrap, pid {pid}, has ended")
}

impl Found {
    /// The one that wrote this file. `form`: what is to be asked of it.
    pub(super) fn at(path: &Path, form: Form) -> Result<Self, NotFound> {
        let purpose = match form {
            Form::Reload | Form::Stop => Purpose::Signal,
            Form::Status | Form::WaitReady => Purpose::Look,
        };
        let StatusInput { text, of } = status_input::read(path, purpose)?;
        let seen = status_file::read(&text)?;
        let pid = seen.pid;
        let Some(began) = seen.pid_start else {
            return Err(NotFound::Ever(format!(
                "its hupwrap has no /proc of its own pid namespace, so pid {pid} cannot be told from another process"
            )));
        };
        let target = Target::find(pid, began)?.ok_or_else(|| NotFound::Yet(has_ended(pid)))?;
        if seen.state == "ended" && form != Form::Stop {
            return Err(NotFound::Yet(has_ended(pid)));
        }
        if let Some(uid) = of.filter(|uid| !target.belongs_to(*uid)) {
            return Err(NotFound::Ever(format!(
                "it belongs to uid {uid}, but pid {pid} does not; want a file of root, or a process of uid {uid}"
            )));
        }
        Ok(Self { target, began, seen, purpose })
    }

    /// Whether this command is part of a child of it: then hupwrap may wait for the end of this command. A process that
    /// runs below hupwrap, but not below a child that it has started, is told to end by itself, or is left alone.
    /// `hint`: the hupwrap that this process may descend from.
    pub(super) fn waits_for_us(&self, hint: Option<Pid>) -> bool {
        let pid = |key: &str| self.seen.all.get(key)?.get("pid")?.as_i64()?.try_into().ok();
        let children: Vec<Pid> = ["child", "old_child"].into_iter().filter_map(pid).collect();
        self.target.is_above_us(&children, hint == Some(self.seen.pid))
    }

    /// Reads the file once more. A file that is not usable, or that of another hupwrap, says nothing new.
    pub(super) fn look(&mut self, path: &Path) {
        let text = status_input::read(path, self.purpose).ok();
        let read = text.and_then(|input| status_file::read(&input.text).ok());
        let is_same = |read: &Read| (read.pid, read.pid_start) == (self.seen.pid, self.seen.pid_start);
        if let Some(read) = read.filter(is_same) {
            self.seen = read;
        }
    }
}
