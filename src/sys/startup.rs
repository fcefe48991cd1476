//! What is true when hupwrap begins, read before anything changes it.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use nix::unistd::getppid;

use crate::signal::{Signal, SignalSet};
use crate::sys::{Pid, own_pid, signals};

/// Facts at startup.
pub struct Startup {
    /// The arguments, `argv[0]` included.
    pub argv: Vec<&'static CStr>,
    /// The environment, as it was given.
    pub env: Vec<&'static CStr>,
    /// The signals that were blocked.
    pub mask: SignalSet,
    /// Whether SIGCHLD was ignored. It no longer is: nothing could be waited for.
    pub chld_ignored: bool,
    /// This process.
    pub pid: Pid,
    /// Its parent.
    pub parent: Pid,
}

/// The hidden first argument by which an old hupwrap asks a new one whether it runs.
pub(crate) const PROBE_FLAG: &CStr = c"--hupwrap-probe";

impl Startup {
    /// Reads the facts.
    ///
    /// # Safety
    /// `argv` and `envp` are those of `main`, unchanged.
    pub unsafe fn new(argc: c_int, argv: *const *const c_char, envp: *const *const c_char, mask: SignalSet) -> Self {
        let argc = usize::try_from(argc).unwrap_or(0);
        // SAFETY: the caller's promise: both end with a null pointer, and live as long as the process.
        let (argv, env) = unsafe { (strings(argv), strings(envp)) };
        Self {
            argv: argv.into_iter().take(argc).collect(),
            env,
            mask,
            chld_ignored: signals::is_ignored(Signal::CHLD, true),
            pid: own_pid(),
            parent: getppid().as_raw(),
        }
    }

    /// The arguments as words.
    pub fn words(&self) -> Vec<&'static OsStr> {
        self.argv.iter().map(|arg| OsStr::from_bytes(arg.to_bytes())).collect()
    }

    /// The value of an environment variable, as bytes.
    pub fn var(&self, name: &str) -> Option<&'static [u8]> {
        self.env.iter().find_map(|var| value(var, name))
    }

    /// Takes a variable out of the environment, and returns its value.
    pub fn take_var(&mut self, name: &str) -> Option<&'static [u8]> {
        let at = self.env.iter().position(|var| value(var, name).is_some())?;
        value(self.env.remove(at), name)
    }

    /// Takes the flag of a probe out of the arguments, and returns whether it was there.
    pub fn take_probe_flag(&mut self) -> bool {
        let found = self.argv.get(1) == Some(&PROBE_FLAG);
        if found {
            self.argv.remove(1);
        }
        found
    }
}

fn value(var: &'static CStr, name: &str) -> Option<&'static [u8]> {
    var.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// # Safety
/// `list` points to pointers to strings that live as long as the process, and the last pointer is null.
unsafe fn strings(mut list: *const *const c_char) -> Vec<&'static CStr> {
    let mut all = Vec::new();
    // SAFETY: the caller's promise; the pointer moves on no further than the null.
    unsafe {
        while !list.is_null() && !(*list).is_null() {
            all.push(CStr::from_ptr(*list));
            list = list.add(1);
        }
    }
    all
}
