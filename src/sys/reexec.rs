//! Re-executing hupwrap: finding its file, proving that it runs, handing the state over, and adopting it.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::libc;
use nix::sys::stat::{FileStat, stat};

use crate::exit::ExitStatus;
use crate::signal::Signal;
use crate::sys::fd::{keep_over_exec, new_fd, pipe, same_file};
use crate::sys::spawn::{Spawn, Spawned, spawn};
use crate::sys::start_error::explain;
use crate::sys::startup::{PROBE_FLAG, Startup};
use crate::sys::{Pid, signals};
use crate::text::handover::{Handover, check_introduction};

/// The variable that carries the state's descriptor over the exec: the pid it is meant for, and the number.
const VARIABLE: &str = "HUPWRAP_HANDOVER";

/// Where hupwrap's own file is looked for: the path it was started by, which a deploy may by now have given another
/// file. `/proc/self/exe` would be the old one, or the loader.
pub struct Origin(Vec<CString>);

impl Origin {
    /// Reads it off `AT_EXECFN` (`getauxval(3)`), at startup: the environment's idea of the working directory may change.
    pub fn new(startup: &Startup) -> Self {
        // SAFETY: has no preconditions.
        let address = unsafe { libc::getauxval(libc::AT_EXECFN) };
        let path = match address {
            0 => startup.argv.first().copied().unwrap_or_default(),
            // SAFETY: the kernel puts a string there that lives as long as the process.
            _ => unsafe { CStr::from_ptr(ptr::with_exposed_provenance(address as usize)) },
        };
        let mut places = vec![path.to_owned()];
        if !path.to_bytes().starts_with(b"/") {
            // As the user meant it: by the name of the directory, where a deploy may have moved a link meanwhile.
            let named = startup.var("PWD").filter(|pwd| pwd.starts_with(b"/") && same_file(pwd, b"."));
            if let Some(absolute) = named.and_then(|pwd| CString::new([pwd, b"/", path.to_bytes()].concat()).ok()) {
                places.insert(0, absolute);
            }
        }
        Self(places)
    }

    fn find(&self) -> Result<(&CStr, FileStat), String> {
        let mut error = (Errno::ENOENT, c"");
        for place in &self.0 {
            match stat(place.as_c_str()) {
                Ok(found) => return Ok((place, found)),
                Err(Errno::ENOENT) if !error.1.is_empty() => {}
                Err(new) => error = (new, place),
            }
        }
        Err(explain(word(error.1), None, None, error.0).reason)
    }
}

fn word(path: &CStr) -> &OsStr {
    OsStr::from_bytes(path.to_bytes())
}

/// A new hupwrap file that is asked, as a process, whether it runs and understands this hupwrap.
pub struct Probe {
    spawned: Spawned,
    ended: bool,
    answer: OwnedFd,
    file: CString,
    identity: FileStat,
}

impl Probe {
    /// Starts it, with the arguments that it would have to understand.
    ///
    /// # Errors
    /// Says why it cannot be started.
    pub fn new(origin: &Origin, startup: &Startup) -> Result<Self, String> {
        let (file, identity) = origin.find()?;
        let failed = |error: Errno| explain(word(file), Some(file), None, error).reason;
        // There is nothing to read for it; and not everywhere is a /dev/null.
        let (input, writer) = pipe(OFlag::O_CLOEXEC).map_err(failed)?;
        drop(writer);
        let (answer, output) = pipe(OFlag::O_CLOEXEC).map_err(failed)?;
        // What it answers is read when it has ended, and may be nothing.
        fcntl(&answer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
        let first = startup.argv.first().copied().unwrap_or(c"hupwrap");
        let rest = startup.argv.iter().skip(1).copied();
        let order = Spawn {
            program: file.to_owned(),
            argv: [first, PROBE_FLAG].into_iter().chain(rest).map(CStr::to_owned).collect(),
            env: startup.env.clone(),
            own_env: Vec::new(),
            pid_vars: Vec::new(),
            workdir: None,
            parent: startup.pid,
            mask: startup.mask,
            chld_ignored: false,
            // Ctrl-C is not meant for it.
            own_group: true,
            tether: Some(Signal::KILL),
            fds: vec![(input.as_raw_fd(), 0), (output.as_raw_fd(), 1), (output.as_raw_fd(), 2)],
        };
        let spawned = spawn(order).map_err(failed)?;
        Ok(Self { spawned, ended: false, answer, file: file.to_owned(), identity })
    }

    /// Its pid, until it is reaped.
    pub fn pid(&self) -> Option<Pid> {
        Some(self.spawned.pid).filter(|_| !self.ended)
    }

    /// Ends it, and what it may have started. It is reaped as any other child.
    pub fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = signals::kill_group(pid, Signal::KILL);
            let _ = signals::kill(pid, Signal::KILL);
        }
    }

    /// It was reaped. What does its end mean?
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn verdict(&mut self, outcome: ExitStatus) -> Result<(), String> {
        self.ended = true;
        let name = self.file.to_string_lossy();
        if let Some(Err(error)) = self.spawned.executed(word(&self.file)) {
            return Err(error.reason);
        }
        let mut answer = [0; 4096];
        let read = nix::unistd::read(&self.answer, &mut answer).unwrap_or(0);
        let answer = answer.get(..read).unwrap_or_default();
        match outcome {
            ExitStatus::Exited(0) => {
                check_introduction(answer).map_err(|error| format!("{name} is no hupwrap: {error}"))
            }
            // A hupwrap that refuses the command line, or the loader, has said why.
            ExitStatus::Exited(code) => {
                let text = String::from_utf8_lossy(answer);
                let line: String =
                    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(160).collect();
                let colon = if line.is_empty() { "" } else { ": " };
                Err(format!("{name} does not run: it ended with {code}{colon}{line}"))
            }
            ExitStatus::Killed(signal) => Err(format!("{name} does not run: {signal} ended it")),
        }
    }

    /// Executes the file that was proven, in this process. Comes back only with the reason why it could not.
    pub fn exec(&self, startup: &Startup, state: &Handover) -> String {
        let name = self.file.to_string_lossy();
        let facts = |found: &FileStat| {
            (
                found.st_dev,
                found.st_ino,
                found.st_size,
                found.st_mtime,
                found.st_mtime_nsec,
                found.st_ctime,
                found.st_ctime_nsec,
            )
        };
        if stat(self.file.as_c_str()).is_ok_and(|found| facts(&found) != facts(&self.identity)) {
            return format!("{name} changed while it was checked");
        }
        let memory = match seal(&state.encode()) {
            Ok(memory) => memory,
            Err(error) => return format!("the state cannot be handed over: {}", error.desc()),
        };
        // Of fixed width, so that environment and arguments are as long after a thousand times as after one.
        let Ok(variable) = CString::new(format!("{VARIABLE}={:010}:{:010}", startup.pid, memory.as_raw_fd())) else {
            return "the state cannot be handed over".to_owned();
        };
        let end = [ptr::null()];
        let argv: Vec<_> = startup.argv.iter().map(|arg| arg.as_ptr()).chain(end).collect();
        let env: Vec<_> = startup.env.iter().map(|var| var.as_ptr()).chain([variable.as_ptr()]).chain(end).collect();
        // The descriptor alone crosses; when exec fails it is closed here, and no child inherits it.
        keep_over_exec(&memory, true);
        // SAFETY: all three are as execve(2) wants them, and what they point to is alive.
        unsafe { libc::execve(self.file.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        explain(word(&self.file), Some(&self.file), None, Errno::last()).reason
    }
}

fn seal(bytes: &[u8]) -> nix::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a string that ends with NUL.
    let memory = new_fd(unsafe { libc::syscall(libc::SYS_memfd_create, c"hupwrap".as_ptr(), flags) })?;
    let mut file = File::from(memory);
    file.write_all(bytes).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(file.into())
}

/// Takes over from the hupwrap that executed this one, if one did: what it left, and the facts of its startup.
///
/// # Errors
/// It left something that cannot be read. The probe is there so that this does not happen.
pub fn adopt(startup: &mut Startup) -> Result<Option<Handover>, String> {
    // The child must not see it, whoever set it, and however often. Ours is the last.
    let mut found = None;
    while let Some(value) = startup.take_var(VARIABLE) {
        found = Some(value);
    }
    let found = found.and_then(|value| std::str::from_utf8(value).ok());
    let Some(memory) = found.and_then(|value| meant_for(value, startup.pid)) else { return Ok(None) };
    let unreadable =
        |error: &dyn std::fmt::Display| format!("the state of the hupwrap before this one cannot be read: {error}");
    let mut bytes = Vec::new();
    // The descriptor's place in the file is at its end: it was written through it.
    let mut file = File::from(memory);
    std::io::Seek::rewind(&mut file).and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| unreadable(&error))?;
    let state = Handover::decode(&bytes).map_err(|error| unreadable(&error))?;
    startup.mask = state.mask;
    startup.chld_ignored = state.chld_ignored;
    Ok(Some(state))
}

/// The descriptor that a variable names, if it is for this process and is what [`seal`] makes.
fn meant_for(value: &str, own_pid: Pid) -> Option<OwnedFd> {
    let (pid, fd) = value.split_once(':')?;
    let (pid, fd): (Pid, RawFd) = (pid.parse().ok()?, fd.parse().ok()?);
    // SAFETY: has no preconditions; a descriptor that is none gives an error.
    let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
    let sealed = seals >= 0 && SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE);
    // SAFETY: it was opened by the hupwrap before this one, for this one alone.
    (pid == own_pid && sealed).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}
