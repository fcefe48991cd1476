//! Starting a program, and finding it.
//!
//! The child is made with `clone(CLONE_VM)`: it borrows hupwrap's memory until it executes, as with vfork, and so costs
//! no copy of the page tables. Unlike with vfork hupwrap does not sleep meanwhile, so that a child that is stopped by
//! Ctrl-Z, or that hangs on a dead file system, before it executes cannot make hupwrap deaf. For that the child must
//! touch nothing of libc's that knows threads, errno above all: between clone and exec it makes bare system calls only.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, access, pipe2};

use crate::machine::event::StartError;
use crate::signal::{Signal, SignalSet};
use crate::status::{CANNOT_EXECUTE, NOT_FOUND};
use crate::sys::{Pid, above_stdio};

/// What a child needs to know before it executes.
pub struct Order {
    /// The file.
    pub program: CString,
    /// Its arguments, `argv[0]` included.
    pub argv: Vec<CString>,
    /// The part of its environment that hupwrap was given itself.
    pub env: Vec<&'static CStr>,
    /// The part that hupwrap adds.
    pub own_env: Vec<CString>,
    /// hupwrap's own pid.
    pub parent: Pid,
    /// Its blocked signals.
    pub mask: SignalSet,
    /// Whether it ignores SIGCHLD.
    pub chld_ignored: bool,
    /// Whether it leads a process group of its own.
    pub own_group: bool,
    /// What it gets when hupwrap is killed.
    pub tether: Option<Signal>,
    /// What becomes its stdin, stdout and stderr, where those are not hupwrap's.
    pub stdio: Option<[RawFd; 3]>,
}

/// A child between clone and exec. It borrows memory from here, so this is kept until [`Spawned::executed`] knows.
pub struct Spawned {
    /// The child.
    pub pid: Pid,
    report: OwnedFd,
    lent: Option<Lent>,
}

/// What the child may still read, or write.
type Lent = (Box<Loan>, CString, Vec<CString>, Vec<CString>);

/// Everything the child touches.
struct Loan {
    program: *const c_char,
    /// `/bin/sh`, then argv, then null: a script without `#!` is run by the shell, as execvp(3) does it.
    shell_argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    mask: u64,
    chld_ignored: bool,
    own_group: bool,
    tether: c_int,
    stdio: Option<[RawFd; 3]>,
    parent: Pid,
    report: RawFd,
    stack: Vec<u128>,
}

/// Enough for the few small frames of [`child`], in a debug build too; each page of it that is touched is one of hupwrap's
/// for ever.
const STACK_WORDS: usize = 256;
/// What the kernel answers where a file is neither a program nor a script with `#!`.
const NO_PROGRAM: isize = (libc::ENOEXEC as isize).wrapping_neg();
const SHELL: &CStr = c"/bin/sh";

/// Makes a child that executes a program.
///
/// # Errors
/// Those of `pipe2(2)` and `clone(2)`.
pub fn spawn(order: Order) -> nix::Result<Spawned> {
    let (ours, theirs) = pipe(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let end = [ptr::null()];
    let shell_argv = [SHELL.as_ptr()].into_iter().chain(order.argv.iter().map(|arg| arg.as_ptr())).chain(end).collect();
    let own_env = order.own_env.iter().map(|var| var.as_ptr());
    let mut loan = Box::new(Loan {
        program: order.program.as_ptr(),
        shell_argv,
        envp: order.env.iter().map(|var| var.as_ptr()).chain(own_env).chain(end).collect(),
        mask: order.mask.bits(),
        chld_ignored: order.chld_ignored,
        own_group: order.own_group,
        tether: order.tether.map_or(0, Signal::number),
        stdio: order.stdio,
        parent: order.parent,
        report: theirs.as_raw_fd(),
        stack: Vec::with_capacity(STACK_WORDS),
    });
    let stack_end = loan.stack.spare_capacity_mut().as_mut_ptr_range().end.cast::<c_void>();
    let loan_pointer = (&raw mut *loan).cast::<c_void>();
    // SAFETY: the child runs on a stack of its own, reads only the loan, which lives until it has executed or ended,
    // and makes bare system calls only; hupwrap does not touch the loan meanwhile.
    let pid = Errno::result(unsafe { libc::clone(child, stack_end, libc::CLONE_VM | libc::SIGCHLD, loan_pointer) })?;
    if order.own_group {
        // The child does the same: whoever comes first, no signal to the group is lost. EACCES says it has executed.
        // SAFETY: has no preconditions.
        unsafe { libc::setpgid(pid, pid) };
    }
    Ok(Spawned { pid, report: ours, lent: Some((loan, order.program, order.argv, order.own_env)) })
}

impl Spawned {
    /// Whether the program is executed: none while that is open, else yes or the reason why not.
    pub fn executed(&self) -> Option<Result<(), Errno>> {
        let mut errno = [0_u8; size_of::<c_int>()];
        match nix::unistd::read(&self.report, &mut errno) {
            // Closed by the exec, or by the child's death, which is told on its own.
            Ok(0) => Some(Ok(())),
            Ok(_) => Some(Err(Errno::from_raw(c_int::from_ne_bytes(errno)))),
            Err(_) => None,
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // One that was killed may run on for a moment: then its stack stays its own.
        if self.executed().is_none() {
            std::mem::forget(self.lent.take());
        }
    }
}

impl AsFd for Spawned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// A system call as the kernel knows it: what it returns is negative on an error, and errno stays untouched.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "x86_64")]
unsafe fn bare(number: libc::c_long, args: [usize; 4]) -> isize {
    let [a, b, c, d] = args;
    let returned: isize;
    // SAFETY: the kernel's calling convention; the caller answers for the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => returned,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    returned
}

/// A system call as the kernel knows it: what it returns is negative on an error, and errno stays untouched.
///
/// # Safety
/// As the call itself.
#[cfg(target_arch = "aarch64")]
unsafe fn bare(number: libc::c_long, args: [usize; 4]) -> isize {
    let [a, b, c, d] = args;
    let returned: isize;
    // SAFETY: the kernel's calling convention; the caller answers for the call.
    unsafe {
        std::arch::asm!(
            "svc #0",
            in("x8") number as isize,
            inlateout("x0") a as isize => returned,
            in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    returned
}

/// The child's life before exec.
extern "C" fn child(loan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its loan, and leaves it alone from then on.
    let loan = unsafe { &mut *loan.cast::<Loan>() };
    // SAFETY: (all that follow) the pointers are to memory of the loan or of this stack, of the sizes that are said.
    unsafe {
        let null = 0_usize;
        if loan.own_group {
            bare(libc::SYS_setpgid, [0, 0, 0, 0]);
        }
        if loan.tether != 0 {
            bare(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, loan.tether as usize, 0, 0]);
            // A parent outside of the child's pid namespace is 0.
            let parent = bare(libc::SYS_getppid, [0; 4]);
            if parent != 0 && parent != loan.parent as isize {
                // It was killed before the line above: the signal will not come any more.
                bare(libc::SYS_exit_group, [usize::from(crate::status::OWN_FAILURE), 0, 0, 0]);
            }
        }
        if loan.chld_ignored {
            // The kernel's sigaction: the handler, and three words of zero.
            let action = [libc::SIG_IGN, 0, 0, 0];
            bare(libc::SYS_rt_sigaction, [libc::SIGCHLD as usize, action.as_ptr() as usize, null, 8]);
        }
        if let Some([stdin, stdout, stderr]) = loan.stdio {
            bare(libc::SYS_dup3, [stdin as usize, 0, 0, 0]);
            bare(libc::SYS_dup3, [stdout as usize, 1, 0, 0]);
            bare(libc::SYS_dup3, [stderr as usize, 2, 0, 0]);
        }
        let mask = &raw const loan.mask;
        bare(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, mask as usize, null, 8]);
        let shell_argv = loan.shell_argv.as_mut_ptr();
        let argv = shell_argv.add(1);
        let envp = loan.envp.as_ptr() as usize;
        let mut error = bare(libc::SYS_execve, [loan.program as usize, argv as usize, envp, 0]);
        if error == NO_PROGRAM && looks_like_text(loan.program) {
            *argv = loan.program;
            error = bare(libc::SYS_execve, [SHELL.as_ptr() as usize, shell_argv as usize, envp, 0]);
            if error < 0 {
                error = NO_PROGRAM;
            }
        }
        let errno = error.unsigned_abs() as c_int;
        bare(libc::SYS_write, [loan.report as usize, (&raw const errno) as usize, size_of::<c_int>(), 0]);
        bare(libc::SYS_exit_group, [usize::from(NOT_FOUND), 0, 0, 0]);
    }
    0
}

/// Whether a shell may be tried: the first line holds no NUL byte (POSIX, `sh`, 2.9.1.1; bash does the same).
///
/// # Safety
/// The path ends with NUL. Makes bare system calls only.
unsafe fn looks_like_text(path: *const c_char) -> bool {
    let mut start = [0_u8; 128];
    // SAFETY: the path is the caller's promise, the buffer is ours.
    let read = unsafe {
        let at = libc::AT_FDCWD as usize;
        let fd = bare(libc::SYS_openat, [at, path as usize, (libc::O_RDONLY | libc::O_CLOEXEC) as usize, 0]);
        if fd < 0 {
            return false;
        }
        let read = bare(libc::SYS_read, [fd as usize, start.as_mut_ptr() as usize, start.len(), 0]);
        bare(libc::SYS_close, [fd as usize, 0, 0, 0]);
        read
    };
    for byte in start.iter().take(usize::try_from(read).unwrap_or(0)) {
        match byte {
            0 => return false,
            b'\n' => return true,
            _ => {}
        }
    }
    true
}

/// The directories that are searched where PATH is not set: glibc's own default.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Finds the file of a command, as execvp(3): a word with a slash is a path, another is looked for in PATH.
///
/// # Errors
/// Not found, or found but not executable.
pub fn find(command: &OsStr, path: Option<&[u8]>) -> Result<CString, StartError> {
    let name = command.as_bytes();
    if name.contains(&b'/') {
        return CString::new(name).map_err(|_| explain(command, None, Errno::ENOENT));
    }
    let mut denied = None;
    if !name.is_empty() {
        for directory in path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':') {
            // An empty entry is the working directory.
            let directory = if directory.is_empty() { &b"."[..] } else { directory };
            let Ok(file) = CString::new([directory, b"/", name].concat()) else { continue };
            match is_executable(&file) {
                Ok(()) => return Ok(file),
                // What is in a directory that may not be searched was not found, whatever it is.
                Err(Errno::EACCES) if stat(file.as_c_str()).is_err() => {}
                Err(error @ (Errno::EACCES | Errno::EISDIR | Errno::ELOOP)) => denied = denied.or(Some((file, error))),
                Err(_) => {}
            }
        }
    }
    Err(match denied {
        Some((file, error)) => explain(command, Some(&file), error),
        None => explain(command, None, Errno::ENOENT),
    })
}

fn is_executable(file: &CStr) -> nix::Result<()> {
    match stat(file)?.st_mode & libc::S_IFMT {
        libc::S_IFREG => access(file, AccessFlags::X_OK),
        libc::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EACCES),
    }
}

/// Checks for free, before a child is stopped, that a command can be executed.
///
/// # Errors
/// What starting it would have said.
pub fn check(command: &OsStr, path: Option<&[u8]>) -> Result<(), StartError> {
    let file = find(command, path)?;
    is_executable(&file).map_err(|error| explain(command, Some(&file), error))?;
    match interpreter(&file) {
        Some(interpreter) if access(interpreter.as_c_str(), AccessFlags::F_OK) == Err(Errno::ENOENT) => {
            Err(explain(command, Some(&file), Errno::ENOENT))
        }
        _ => Ok(()),
    }
}

/// Says for people why a command could not be started, and what that makes of the exit status. `file` is what was
/// found, if anything was.
pub fn explain(command: &OsStr, file: Option<&CStr>, error: Errno) -> StartError {
    let name = if command.is_empty() { "''".into() } else { command.to_string_lossy() };
    let transient =
        matches!(error, Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EIO | Errno::ETXTBSY);
    let (code, reason) = match error {
        Errno::ENOENT => {
            let exists = file.is_some_and(|file| access(file, AccessFlags::F_OK).is_ok());
            let hint = match file.filter(|_| exists).map(interpreter) {
                Some(Some(interpreter)) => format!(" (its interpreter {} is missing)", interpreter.to_string_lossy()),
                Some(None) => {
                    " (it is there, but the loader it wants is missing: built for another system?)".to_owned()
                }
                None => String::new(),
            };
            (NOT_FOUND, format!("{name}: not found{hint}"))
        }
        Errno::ENOTDIR => (NOT_FOUND, format!("{name}: not found (a part of its path is no directory)")),
        _ => {
            let why = match error {
                Errno::EACCES if file.is_some_and(|file| is_executable(file) == Err(Errno::EISDIR)) => {
                    "it is a directory"
                }
                Errno::EISDIR => "it is a directory",
                Errno::EACCES => "permission denied",
                Errno::ELOOP => "too many symbolic links",
                Errno::ENOEXEC => "it is no program for this machine, and no script",
                Errno::ETXTBSY => "it is open for writing",
                Errno::EAGAIN => "no further process is allowed (ulimit -u, or the cgroup's limit)",
                Errno::E2BIG => "arguments and environment are too long",
                other => other.desc(),
            };
            (CANNOT_EXECUTE, format!("{name}: cannot be executed: {why}"))
        }
    };
    StartError { code, transient, reason }
}

/// What a script's first line names.
fn interpreter(file: &CStr) -> Option<CString> {
    let mut start = Vec::new();
    File::open(OsStr::from_bytes(file.to_bytes())).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let path = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    CString::new(path).ok()
}

/// A pipe, its ends for reading and for writing.
///
/// # Errors
/// Those of `pipe2(2)`.
pub fn pipe(flags: OFlag) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(flags)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}
