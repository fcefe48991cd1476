//! Re-executing hupwrap: finding its file, proving that it runs, handing the state over, and adopting it.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::libc;
use nix::sys::stat::{FileStat, stat};

use crate::exit::ExitStatus;
use crate::signal::Signal;
use crate::sys::Pid;
use crate::sys::fd::{keep_over_exec, memory_file, pipe, same_file, take};
use crate::sys::signals;
use crate::sys::spawn::{Spawn, Spawned, spawn};
use crate::sys::start_error::{describe, explain};
use crate::sys::startup::{PROBE_FLAG, Startup};
use crate::text::handover::{Handover, check_introduction, introduction};

/// The variable that names the descriptor of the state after the exec: the pid it is meant for, and the number.
const VARIABLE: &str = "HUPWRAP_HANDOVER";
/// Marks a state that comes through a pipe.
const PIPED: &[u8] = b"\nwriter hupwrap ";

/// Where hupwrap's own file is looked for: the path it was started by, which a deploy may by now have given another
/// file. `/proc/self/exe` would be the old one, or the loader.
pub(crate) struct Origin(Vec<CString>);

impl Origin {
    /// Reads it off `AT_EXECFN` (`getauxval(3)`), at startup: the environment's idea of the working directory may
    /// change. `known`: the places that the hupwrap before had, if there was one. It may have executed only one of
    /// them.
    pub(crate) fn new(startup: &Startup, known: Vec<Vec<u8>>) -> Self {
        let known: Vec<_> = known.into_iter().filter_map(|place| CString::new(place).ok()).collect();
        if !known.is_empty() {
            return Self(known);
        }
        // SAFETY: has no preconditions.
        let address = unsafe { libc::getauxval(libc::AT_EXECFN) };
        let path = match address {
            0 => startup.argv.first().copied().unwrap_or_default(),
            // SAFETY: the kernel puts a string there that lives as long as the process.
            _ => unsafe { CStr::from_ptr(ptr::with_exposed_provenance(address as usize)) },
        };
        let mut places = vec![path.to_owned()];
        if !path.to_bytes().starts_with(b"/") {
            // As the user meant it: by the name of the directory, where a deploy may have moved a link since.
            let named = startup.var("PWD").filter(|pwd| pwd.starts_with(b"/") && same_file(pwd, b"."));
            if let Some(absolute) = named.and_then(|pwd| CString::new([pwd, b"/", path.to_bytes()].concat()).ok()) {
                places.insert(0, absolute);
            }
        }
        Self(places)
    }

    /// All places, for the next hupwrap.
    pub(crate) fn places(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|place| place.to_bytes().to_vec()).collect()
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
pub(crate) struct Probe {
    spawned: Spawned,
    ended: bool,
    answer: OwnedFd,
    file: CString,
    identity: FileStat,
}

impl Probe {
    /// Starts it, with the arguments and a state that it would have to understand.
    ///
    /// # Errors
    /// Says why it cannot be started.
    pub(crate) fn new(origin: &Origin, startup: &Startup, state: &[u8]) -> Result<Self, String> {
        let (file, identity) = origin.find()?;
        let failed = |error: Errno| explain(word(file), Some(file), None, error).reason;
        check_magic(file)?;
        let input = carrier(state)?;
        let (answer, output) = pipe(OFlag::O_CLOEXEC).map_err(failed)?;
        // The answer is read when the probe has ended, and may be empty.
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
    pub(crate) fn pid(&self) -> Option<Pid> {
        Some(self.spawned.pid).filter(|_| !self.ended)
    }

    /// Ends it, and what it may have started. It is reaped as any other child.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = signals::kill_group(pid, Signal::KILL);
            let _ = signals::kill(pid, Signal::KILL);
        }
    }

    /// It was reaped. What does its end mean?
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn verdict(&mut self, outcome: ExitStatus) -> Result<(), String> {
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
    pub(crate) fn exec(&self, startup: &Startup, state: &Handover) -> String {
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
        let carrier = match carrier(&state.encode()) {
            Ok(carrier) => carrier,
            Err(reason) => return reason,
        };
        // The loader opens libraries, one at a time. If no descriptor is left for them, the new hupwrap ends before its
        // first instruction. So these must be there, and the exec closes them.
        let _room = match pipe(OFlag::O_CLOEXEC) {
            Ok(room) => room,
            Err(error) => return format!("no descriptor is left to load {name} with: {}", describe(error)),
        };
        // Of fixed width, so that environment and arguments are as long after a thousand times as after one.
        let Ok(variable) = CString::new(format!("{VARIABLE}={:010}:{:010}", startup.pid, carrier.as_raw_fd())) else {
            return "the state cannot be handed over".to_owned();
        };
        let end = [ptr::null()];
        let argv: Vec<_> = startup.argv.iter().map(|arg| arg.as_ptr()).chain(end).collect();
        let env: Vec<_> = startup.env.iter().map(|var| var.as_ptr()).chain([variable.as_ptr()]).chain(end).collect();
        // If the exec fails, it is closed here, and no child inherits it.
        if let Err(error) = keep_over_exec(&carrier, true) {
            return format!("the state cannot be handed over: {}", describe(error));
        }
        // SAFETY: all three are as execve(2) wants them, and what they point to is alive.
        unsafe { libc::execve(self.file.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        explain(word(&self.file), Some(&self.file), None, Errno::last()).reason
    }
}

/// Refuses a file that the kernel, or the shell, would run as a script: a program that was replaced by a text must not
/// run as one.
fn check_magic(file: &CStr) -> Result<(), String> {
    let mut start = Vec::new();
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(word(file));
    let is_known = open.is_ok_and(|file| file.take(4).read_to_end(&mut start).is_ok());
    match start.as_slice() {
        // A program that may be executed but not read, or something that the exec itself refuses.
        _ if !is_known => Ok(()),
        b"\x7fELF" => Ok(()),
        b"" => Err(format!("{} is no hupwrap: it is empty", file.to_string_lossy())),
        _ => Err(format!("{} is no hupwrap: it is no program (ELF), but a text or script", file.to_string_lossy())),
    }
}

/// Takes the state that the hupwrap before this one left, if one executed this one: as much of it as can be read, and
/// what is wrong with it, if anything is. The probe has read such a state before, so nothing should be.
///
/// It cannot fail: a supervisor that ends here would lose its child.
pub(crate) fn take_over(startup: &mut Startup) -> Option<(Handover, Option<String>)> {
    // The child must not see the variable, whatever set it, and however often. Ours is the last.
    let mut found = None;
    while let Some(value) = startup.take_var(VARIABLE) {
        found = Some(value);
    }
    let (pid, fd) = std::str::from_utf8(found?).ok()?.split_once(':')?;
    let fd = fd.parse().ok().filter(|_| pid.parse() == Ok(startup.pid))?;
    // Where a sandbox refuses to tell, the content decides.
    if !matches!(kind(fd), Ok(libc::S_IFREG | libc::S_IFIFO) | Err(_)) {
        return None;
    }
    // The hupwrap before this one opened it, for this one alone.
    let carrier = take(fd).ok()?;
    let is_sealed = seals(fd).contains(SealFlag::F_SEAL_WRITE);
    // A pipe that is not ours may have a writer, which is not waited for.
    let _ = fcntl(&carrier, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    let bytes = read_carrier(carrier);
    // A pipe, or a file, may be anything.
    if !is_sealed && !bytes.windows(PIPED.len()).any(|part| part == PIPED) {
        return None;
    }
    let (state, fault) = Handover::salvage(&bytes);
    startup.mask = state.mask;
    startup.chld_ignored = state.chld_ignored;
    Some((state, fault))
}

/// What a new hupwrap answers when it is probed: that it runs, and could take over with these arguments, and from the
/// state on its stdin.
///
/// # Errors
/// It could not take over from that state.
pub(crate) fn prove() -> Result<String, String> {
    if is_carrier(0) {
        // SAFETY: it is open, and nothing else in here reads it.
        let carrier = unsafe { OwnedFd::from_raw_fd(0) };
        let bytes = read_carrier(carrier);
        // A hupwrap of format 2 hands nothing to its probe.
        if !bytes.is_empty() {
            Handover::decode(&bytes).map_err(|fault| format!("the state of the running hupwrap: {fault}"))?;
        }
    }
    Ok(introduction())
}

/// Makes a descriptor that bytes can be read from once: a sealed memfd, or where that cannot be made or written (a
/// seccomp profile, `ulimit -f`), a pipe. The pipe needs no file system, but holds 1 MiB at most.
fn carrier(bytes: &[u8]) -> Result<OwnedFd, String> {
    let said = |error: Errno| format!("the state cannot be handed over: {}", describe(error));
    if let Ok(memory) = memory(bytes) {
        return Ok(memory);
    }
    let (reader, writer) = pipe(OFlag::O_CLOEXEC).map_err(said)?;
    // It is large enough for most states from the beginning.
    if let Ok(size) = i32::try_from(bytes.len()) {
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size));
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(said)?;
    match nix::unistd::write(&writer, bytes) {
        Ok(written) if written == bytes.len() => Ok(reader),
        Ok(_) | Err(Errno::EAGAIN) => {
            Err(format!("the state cannot be handed over: its {} bytes do not fit into a pipe", bytes.len()))
        }
        Err(error) => Err(said(error)),
    }
}

fn memory(bytes: &[u8]) -> nix::Result<OwnedFd> {
    let mut file = File::from(memory_file()?);
    let written = file.write_all(bytes).and_then(|()| file.rewind());
    written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(file.into())
}

/// Whether a descriptor is what [`carrier`] makes.
fn is_carrier(fd: RawFd) -> bool {
    seals(fd).contains(SealFlag::F_SEAL_WRITE) || kind(fd) == Ok(libc::S_IFIFO)
}

/// What kind of file a descriptor is, as `inode(7)` numbers it.
fn kind(fd: RawFd) -> nix::Result<libc::mode_t> {
    // SAFETY: the struct is plain data, for which zero is valid; the pointer is to it.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        Errno::result(libc::fstat(fd, &raw mut found))?;
        Ok(found.st_mode & libc::S_IFMT)
    }
}

/// The seals of a descriptor; none where it is not a memfd.
fn seals(fd: RawFd) -> SealFlag {
    // SAFETY: has no preconditions; a number that is no descriptor gives an error.
    SealFlag::from_bits_truncate(unsafe { libc::fcntl(fd, libc::F_GET_SEALS) }.max(0))
}

/// What a descriptor of [`carrier`] holds; empty where it cannot be read.
fn read_carrier(carrier: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = File::from(carrier);
    // A memfd of format 2 is at its end. A pipe cannot be rewound.
    let _ = file.rewind();
    // Tried twice: an error that does not last must not cost the state. The second read goes on from there.
    let _ = file.read_to_end(&mut bytes).or_else(|_| file.read_to_end(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_is_read_back() {
        for length in [0, 1, 5000] {
            let bytes = vec![b'x'; length];
            let carrier = carrier(&bytes).unwrap();
            assert!(carrier.as_raw_fd() > 2 && is_carrier(carrier.as_raw_fd()));
            assert_eq!(read_carrier(carrier), bytes);
        }
        assert!(!is_carrier(-1) && !is_carrier(File::open("/dev/null").unwrap().as_raw_fd()));
    }
}
