//! Starts a program.
//!
//! The child is made with `clone(CLONE_VM)`: it borrows hupwrap's memory until it executes, as with vfork, and so costs
//! no copy of the page tables. Unlike with vfork, hupwrap does not sleep until then, so that a child that is stopped by
//! Ctrl-Z, or that hangs on a dead file system, before it executes cannot make hupwrap deaf. For that the child must
//! touch nothing of libc's that knows threads, errno above all: between clone and exec it makes bare system calls only.

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{self, setpgid};

use crate::exit::NOT_FOUND;
use crate::facts::StartError;
use crate::signal::{Signal, SignalSet};
use crate::sys::Pid;
use crate::sys::bare::{PID_ROOM, append_number, bare, looks_like_text, place_descriptors};
use crate::sys::fd::pipe;
use crate::sys::lookup;
use crate::sys::start_error::{cannot_execute, describe, explain, workdir_error};

/// What a child needs to know before it executes.
pub(crate) struct Spawn {
    /// The file, as the child finds it: from its working directory.
    pub program: CString,
    /// Its arguments, `argv[0]` included.
    pub argv: Vec<CString>,
    /// The part of its environment that hupwrap was given itself.
    pub env: Vec<&'static CStr>,
    /// The part that hupwrap adds.
    pub own_env: Vec<CString>,
    /// Variables of which the value is the child's own pid: `NAME=`.
    pub pid_vars: Vec<CString>,
    /// Its working directory, where it is not hupwrap's.
    pub workdir: Option<CString>,
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
    /// Which descriptor of hupwrap's it gets under which number, besides those that it inherits anyway. Each number
    /// once.
    pub fds: Vec<(RawFd, RawFd)>,
}

/// A child between clone and exec.
pub(crate) struct Spawned {
    /// The child.
    pub pid: Pid,
    loan: ManuallyDrop<Loan>,
}

/// Everything the child touches.
struct ChildPlan {
    /// The part that hupwrap reads as well. Nobody changes it.
    spawn: Spawn,
    /// `/bin/sh`, then argv, then null: a script without `#!` is run by the shell, as execvp(3) does it.
    shell_argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// `NAME=`, and room for a pid and a NUL behind it.
    pid_vars: Vec<Vec<u8>>,
    fds: Vec<(RawFd, RawFd)>,
    report: RawFd,
    stack: Vec<u128>,
}

/// A plan that a child may be using, and what tells when it no longer does. The plan is not a Box, because a Box must
/// not be moved while others have pointers into it.
struct Loan {
    report: OwnedFd,
    plan: NonNull<ChildPlan>,
}

thread_local! {
    /// What children may still use that nobody waits for: one that was just killed, or that reported its failure, runs
    /// on for a moment, or longer if it is frozen.
    static OUTSTANDING: RefCell<Vec<Loan>> = const { RefCell::new(Vec::new()) };
}

/// Much more than the few small frames of [`child`] need, in a debug build too: there is no guard page below. Only the
/// pages that are touched cost memory.
const STACK_WORDS: usize = 4096;
/// What the kernel answers where a file is neither a program nor a script with `#!`.
const NO_PROGRAM: isize = (libc::ENOEXEC as isize).wrapping_neg();
const SHELL: &CStr = c"/bin/sh";
/// What a child could not do: in its report behind the errno.
type Step = c_int;
const EXECUTE: Step = 0;
const CHANGE_DIRECTORY: Step = 1;
const PLACE_DESCRIPTORS: Step = 2;
const SET_MASK: Step = 3;

/// Makes a child that executes a program.
///
/// # Errors
/// Those of `pipe2(2)` and `clone(2)`.
pub(crate) fn spawn(spawn: Spawn) -> nix::Result<Spawned> {
    let own_group = spawn.own_group;
    let (report, theirs) = pipe(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let loan = Loan { report, plan: ChildPlan::new(spawn, theirs.as_raw_fd()) };
    let pid = match loan.clone_child(libc::CLONE_VM) {
        // qemu-user shares memory between threads only, and a sandbox may refuse it. The child may as well have a copy.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => loan.clone_child(0),
        cloned => cloned,
    };
    drop(theirs);
    let pid = pid?;
    if own_group {
        // The child does the same: the first one counts, and no signal to the group is lost. EACCES says it has
        // executed.
        let pid = unistd::Pid::from_raw(pid);
        let _ = setpgid(pid, pid);
    }
    Ok(Spawned { pid, loan: ManuallyDrop::new(loan) })
}

impl ChildPlan {
    fn new(mut spawn: Spawn, report: RawFd) -> NonNull<Self> {
        let plan = NonNull::from(Box::leak(Box::new(Self {
            shell_argv: Vec::new(),
            envp: Vec::new(),
            pid_vars: spawn.pid_vars.iter().map(|name| [name.as_bytes(), &PID_ROOM].concat()).collect(),
            fds: mem::take(&mut spawn.fds),
            report,
            stack: Vec::with_capacity(STACK_WORDS),
            spawn,
        })));
        // SAFETY: it was just made, and nobody else knows of it.
        let Self { spawn, shell_argv, envp, pid_vars, .. } = unsafe { &mut *plan.as_ptr() };
        // Now that nothing of it moves any more there can be pointers into it.
        let end = [ptr::null()];
        let argv = spawn.argv.iter().map(|arg| arg.as_ptr());
        *shell_argv = [SHELL.as_ptr()].into_iter().chain(argv).chain(end).collect();
        let own_env = spawn.own_env.iter().map(|var| var.as_ptr());
        let pid_env = pid_vars.iter().map(|var| var.as_ptr().cast());
        *envp = spawn.env.iter().map(|var| var.as_ptr()).chain(own_env).chain(pid_env).chain(end).collect();
        plan
    }
}

impl Loan {
    fn clone_child(&self, sharing: c_int) -> nix::Result<Pid> {
        let plan = self.plan.as_ptr();
        // SAFETY: the plan is there, and no child uses it yet. The child runs on a stack of its own, touches only the
        // plan, which stays until the child has executed or ended, and makes bare system calls only. Until then hupwrap
        // only reads the plan's Spawn, as the child does.
        Errno::result(unsafe {
            let stack_end = (*plan).stack.spare_capacity_mut().as_mut_ptr_range().end;
            libc::clone(child, stack_end.cast(), sharing | libc::SIGCHLD, plan.cast())
        })
    }

    fn spawn(&self) -> &Spawn {
        // SAFETY: the plan is there, and nobody changes this part of it.
        unsafe { &(*self.plan.as_ptr()).spawn }
    }

    /// Whether the program is executed, or what has failed. None while that is open. False if it cannot be known: the
    /// program counts as executed then, and its end tells the rest.
    fn outcome(&self) -> Option<Result<bool, (Errno, Step)>> {
        let mut report = [0_u8; size_of::<[c_int; 2]>()];
        loop {
            return match nix::unistd::read(&self.report, &mut report) {
                // Closed by the exec, or by the child's death, which is told on its own.
                Ok(0) => Some(Ok(true)),
                Ok(_) => {
                    let word = |bytes: &[u8]| bytes.try_into().map_or(0, c_int::from_ne_bytes);
                    let (errno, step) = report.split_at(size_of::<c_int>());
                    Some(Err((Errno::from_raw(word(errno)), word(step))))
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => None,
                Err(_) => Some(Ok(false)),
            };
        }
    }

    /// Whether the child has left the plan: it has executed, or ended. The kernel closes its files later than its
    /// memory.
    fn is_over(&self) -> bool {
        // A report that nobody wants to hear any more is in front.
        std::iter::from_fn(|| self.outcome()).find_map(Result::ok).unwrap_or(false)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.is_over() {
            // SAFETY: it was a Box, and nobody uses it any more.
            drop(unsafe { Box::from_raw(self.plan.as_ptr()) });
        }
    }
}

impl Spawned {
    /// Whether the program is executed: none while that is open, else yes or the reason why not, in which the program
    /// is called `command`. A reason is told once.
    pub(crate) fn executed(&self, command: &OsStr) -> Option<Result<(), StartError>> {
        let (error, step) = match self.loan.outcome()? {
            Ok(_) => return Some(Ok(())),
            Err(failure) => failure,
        };
        let Spawn { program, workdir, argv, env, own_env, .. } = self.loan.spawn();
        Some(Err(match (step, workdir) {
            (CHANGE_DIRECTORY, Some(workdir)) => workdir_error(workdir, error),
            (PLACE_DESCRIPTORS, _) => {
                // The kernel calls a number that is beyond the limit invalid.
                let error = if error == Errno::EINVAL { Errno::EMFILE } else { error };
                cannot_execute(command, error, &format!("its descriptors cannot be put in place: {}", describe(error)))
            }
            (SET_MASK, _) => {
                cannot_execute(command, error, &format!("its signals cannot be unblocked: {}", describe(error)))
            }
            _ => {
                let variables = own_env.iter().map(CString::as_c_str).chain(env.iter().copied()).map(CStr::to_bytes);
                let words: Vec<&[u8]> = argv.iter().map(|word| word.to_bytes()).collect();
                match lookup::fits(&words, &variables.collect::<Vec<_>>()) {
                    Err(why) if error == Errno::E2BIG => cannot_execute(command, error, &why),
                    _ => explain(command, Some(program), workdir.as_deref(), error),
                }
            }
        }))
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // SAFETY: this is the only place that takes it, and nothing comes after.
        let loan = unsafe { ManuallyDrop::take(&mut self.loan) };
        if !loan.is_over() {
            OUTSTANDING.with_borrow_mut(|all| all.push(loan));
        }
    }
}

/// Takes back what children still used when nobody waited for them any more. To be called now and then.
pub(crate) fn take_back() {
    OUTSTANDING.with_borrow_mut(|all| all.retain(|loan| !loan.is_over()));
}

impl AsFd for Spawned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.loan.report.as_fd()
    }
}

/// The child's life before exec.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: the plan is that of `clone_child`, and what is borrowed from it is the child's alone, or is not changed.
    // The pointer is to memory of this stack, of the size that is said.
    unsafe {
        let plan = plan.cast::<ChildPlan>();
        let (step, error) = become_program(plan);
        let report = [error.unsigned_abs() as c_int, step];
        bare(libc::SYS_write, [(*plan).report as usize, report.as_ptr() as usize, size_of_val(&report), 0]);
        bare(libc::SYS_exit_group, [usize::from(NOT_FOUND), 0, 0, 0]);
    }
    0
}

/// Comes back only where that fails: with the step, and what the kernel answered.
///
/// # Safety
/// This is a child that may become another program; the plan is as [`spawn`] makes it.
unsafe fn become_program(plan: *mut ChildPlan) -> (Step, isize) {
    // SAFETY: (all that follow) the pointers are to memory of the plan or of this stack, of the sizes that are said.
    unsafe {
        let null = 0_usize;
        let spawn = &(*plan).spawn;
        let program = spawn.program.as_ptr();
        if spawn.own_group {
            bare(libc::SYS_setpgid, [0, 0, 0, 0]);
        }
        if let Some(signal) = spawn.tether {
            bare(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, signal.number() as usize, 0, 0]);
            // A parent outside of the child's pid namespace is 0.
            let parent = bare(libc::SYS_getppid, [0; 4]);
            if parent != 0 && parent != spawn.parent as isize {
                // hupwrap was killed before the line above: the signal no longer comes.
                bare(libc::SYS_exit_group, [usize::from(crate::exit::OWN_FAILURE), 0, 0, 0]);
            }
        }
        if spawn.chld_ignored {
            // The kernel's sigaction: the handler, and three words of zero.
            let action = [libc::SIG_IGN, 0, 0, 0];
            bare(libc::SYS_rt_sigaction, [libc::SIGCHLD as usize, action.as_ptr() as usize, null, 8]);
        }
        if let Some(workdir) = &spawn.workdir {
            let changed = bare(libc::SYS_chdir, [workdir.as_ptr() as usize, 0, 0, 0]);
            if changed < 0 {
                return (CHANGE_DIRECTORY, changed);
            }
        }
        let fds = &mut (*plan).fds;
        if !fds.is_empty() {
            let placed = place_descriptors(fds, &mut (*plan).report);
            if placed < 0 {
                return (PLACE_DESCRIPTORS, placed);
            }
        }
        let pid_vars = &mut (*plan).pid_vars;
        if !pid_vars.is_empty() {
            let pid = bare(libc::SYS_getpid, [0; 4]);
            pid_vars.iter_mut().for_each(|var| append_number(var, pid));
        }
        let mask = spawn.mask.bits();
        let set = bare(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, &raw const mask as usize, null, 8]);
        if set < 0 {
            // With every signal blocked it could not be stopped.
            return (SET_MASK, set);
        }
        let (shell_argv, envp) = (&mut (*plan).shell_argv, &(*plan).envp);
        let (shell_argv, envp) = (shell_argv.as_mut_ptr(), envp.as_ptr() as usize);
        let argv = shell_argv.add(1);
        let mut error = bare(libc::SYS_execve, [program as usize, argv as usize, envp, 0]);
        if error == NO_PROGRAM && looks_like_text(program) {
            *argv = program;
            error = bare(libc::SYS_execve, [SHELL.as_ptr() as usize, shell_argv as usize, envp, 0]);
            if error < 0 {
                error = NO_PROGRAM;
            }
        }
        (EXECUTE, error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::{env, fs, process};

    use super::*;
    use crate::sys::environment::ChildEnv;
    use crate::sys::lookup::{check, find};

    /// A child holds, until it executes, what another test has open at that moment: a script that is being written
    /// could not be executed.
    static ALONE: Mutex<()> = Mutex::new(());

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("hupwrap-spawn-{name}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn dir(&self, name: &str) -> CString {
            fs::create_dir_all(self.0.join(name)).unwrap();
            self.path(name)
        }

        fn path(&self, name: &str) -> CString {
            CString::new(self.0.join(name).as_os_str().as_bytes()).unwrap()
        }

        fn file(&self, name: &str, text: &str, mode: u32) {
            let _alone = ALONE.lock().unwrap();
            fs::write(self.0.join(name), text).unwrap();
            fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        /// Opens an empty file.
        fn open(&self, name: &str) -> File {
            File::create(self.0.join(name)).unwrap()
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn reap(pid: Pid) {
        let mut word = 0;
        // SAFETY: the pointer is to an int of ours.
        while unsafe { libc::waitpid(pid, &raw mut word, 0) } < 0 && Errno::last() == Errno::EINTR {}
    }

    fn order(argv: &[&str]) -> Spawn {
        let argv: Vec<_> = argv.iter().map(|arg| CString::new(*arg).unwrap()).collect();
        Spawn {
            program: argv[0].clone(),
            argv,
            env: vec![c"PATH=/bin:/usr/bin"],
            own_env: Vec::new(),
            pid_vars: Vec::new(),
            workdir: None,
            parent: i32::try_from(process::id()).unwrap(),
            mask: SignalSet::EMPTY,
            chld_ignored: false,
            own_group: false,
            tether: None,
            fds: Vec::new(),
        }
    }

    fn shell(script: &str) -> Spawn {
        order(&["/bin/sh", "-c", script])
    }

    /// Starts it, and waits for its end.
    fn run(order: Spawn) -> Result<Pid, StartError> {
        let _alone = ALONE.lock().unwrap();
        let spawned = spawn(order).unwrap();
        reap(spawned.pid);
        spawned.executed(OsStr::new("it")).expect("it has ended").map(|()| spawned.pid)
    }

    fn failure(order: Spawn) -> (u8, bool, String) {
        let error = run(order).unwrap_err();
        (error.code, error.transient, error.reason)
    }

    #[test]
    fn the_childs_pid_is_told_to_it() {
        let dir = Dir::new("pid");
        let out = dir.open("out");
        let pid = run(Spawn {
            own_env: vec![c"OWN=1".to_owned()],
            pid_vars: vec![c"LISTEN_PID=".to_owned(), c"WATCHDOG_PID=".to_owned()],
            fds: vec![(out.as_raw_fd(), 1)],
            ..shell("echo $LISTEN_PID $WATCHDOG_PID $$ $OWN")
        });
        let pid = pid.unwrap();
        assert_eq!(dir.read("out"), format!("{pid} {pid} {pid} 1\n"));
    }

    #[test]
    fn descriptors_trade_places() {
        let dir = Dir::new("fds");
        let [out, a, b, c] = ["out", "a", "b", "c"].map(|name| dir.open(name));
        let [a, b, c] = [&a, &b, &c].map(AsRawFd::as_raw_fd);
        // A cycle, one that stays where it is, and one more of the first.
        let fds = vec![(a, b), (b, a), (c, c), (a, 199), (out.as_raw_fd(), 1)];
        let script =
            format!("for fd in {a} {b} {c} 199; do readlink /proc/self/fd/$fd; done; ls /proc/self/fd | wc -l");
        run(Spawn { fds, ..shell(&script) }).unwrap();
        let path = |name| dir.0.join(name).display().to_string();
        let read = dir.read("out");
        let lines: Vec<_> = read.lines().collect();
        assert_eq!(lines[..4], [path("b"), path("a"), path("c"), path("a")]);
        // 0, 1 and 2, the four, and the directory that ls reads; what else cargo may have handed down is no business of
        // this test.
        run(Spawn { fds: vec![(out.as_raw_fd(), 1)], ..shell("ls /proc/self/fd | wc -l") }).unwrap();
        let read = dir.read("out");
        let count = |line: Option<&str>| line.unwrap().parse::<usize>().unwrap();
        assert_eq!(count(lines.last().copied()), count(read.lines().last()) + 4, "{read}");
    }

    #[test]
    fn the_report_gets_out_of_the_way() {
        let dir = Dir::new("report");
        let file = dir.open("file");
        // Wherever it is, it is among these.
        let fds: Vec<_> = (3..300).map(|to| (file.as_raw_fd(), to)).collect();
        let (code, _, reason) = failure(Spawn { fds: fds.clone(), ..order(&["/nowhere/x"]) });
        assert_eq!((code, &*reason), (127, "it: not found"));
        run(Spawn { fds, ..shell("ls /proc/self/fd >&3") }).unwrap();
        let all = dir.read("file");
        assert!((3..300).all(|fd| all.lines().any(|line| line == fd.to_string())), "{all}");
    }

    #[test]
    fn numbers_beyond_the_limit() {
        let dir = Dir::new("limit");
        let file = dir.open("file");
        let fds = vec![(file.as_raw_fd(), i32::MAX - 1)];
        let reason = "it: cannot be executed: its descriptors cannot be put in place: too many open files (ulimit -n)"
            .to_owned();
        assert_eq!(failure(Spawn { fds, ..shell("exit") }), (126, true, reason));
    }

    #[test]
    fn the_working_directory_is_where_the_program_is_found() {
        let dir = Dir::new("workdir");
        for name in ["one", "two"] {
            dir.dir(&format!("{name}/bin"));
            dir.file(&format!("{name}/bin/say"), &format!("#!/bin/sh\npwd -P; echo {name} $0\n"), 0o755);
            // Run by a shell, which must find it too.
            dir.file(&format!("{name}/plain"), &format!("echo {name} plain\n"), 0o755);
        }
        dir.file("one/bin/odd", "#!./missing\n", 0o755);
        dir.file("one/bin/ours", "#!bin/say\n", 0o755);
        dir.file("one/locked", "", 0o644);
        symlink("one", dir.0.join("link")).unwrap();
        let link = dir.path("link");
        let workdir = Some(&*link);
        let found = |word: &str, path: &[u8]| find(OsStr::new(word), Some(path), workdir);
        assert_eq!(found("bin/say", b""), Ok(c"bin/say".to_owned()));
        assert_eq!(found("say", b"/bin:bin"), Ok(c"bin/say".to_owned()));
        assert_eq!(found("plain", b"bin::/bin"), Ok(c"./plain".to_owned()));
        assert_eq!(found("sh", b"bin:/bin"), Ok(c"/bin/sh".to_owned()));
        let error = |word, path| found(word, path).unwrap_err();
        assert_eq!(error("one", b":bin").reason, "one: not found");
        assert_eq!(error("locked", b"").reason, "locked: cannot be executed: permission denied");
        assert_eq!(error("bin", b"").reason, "bin: cannot be executed: it is a directory");
        let child_env = ChildEnv { inherited: vec![c"PATH=bin"], own: Vec::new(), workdir: Some(link.clone()) };
        let checked = |word: &str| check(&[word.into()], &child_env, &[]).map_err(|error| error.reason);
        assert_eq!((checked("say"), checked("bin/say"), checked("ours")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(checked("./bin"), Err("./bin: cannot be executed: it is a directory".to_owned()));
        assert_eq!(checked("odd"), Err("odd: not found (its interpreter ./missing is missing)".to_owned()));
        assert_eq!(checked("one/bin/say"), Err("one/bin/say: not found".to_owned()));

        let out = dir.open("out");
        let start = |program: &str| Spawn {
            program: found(program, b"bin").unwrap(),
            workdir: Some(link.clone()),
            fds: vec![(out.as_raw_fd(), 1)],
            ..order(&[program])
        };
        run(start("say")).unwrap();
        run(start("./plain")).unwrap();
        let odd = failure(start("./bin/odd"));
        assert_eq!(odd, (127, false, "it: not found (its interpreter ./missing is missing)".to_owned()));
        // What moves between the look and the exec takes both with it.
        let moved = start("say");
        fs::remove_file(dir.0.join("link")).unwrap();
        symlink("two", dir.0.join("link")).unwrap();
        run(moved).unwrap();
        let place = |name| dir.0.join(name).canonicalize().unwrap().display().to_string();
        let want = format!("{}\none bin/say\none plain\n{}\ntwo bin/say\n", place("one"), place("two"));
        assert_eq!(dir.read("out"), want);
    }

    #[test]
    fn a_working_directory_that_vanished() {
        let dir = Dir::new("vanished");
        dir.file("file", "", 0o644);
        for (name, why) in
            [("gone", "no such file or directory"), ("file", "it, or a part of its path, is no directory")]
        {
            let workdir = dir.path(name);
            let reason = format!("--workdir '{}': {why}", workdir.to_str().unwrap());
            assert_eq!(failure(Spawn { workdir: Some(workdir), ..shell("exit") }), (125, false, reason));
        }
    }

    #[test]
    fn too_much_to_carry() {
        let long = CString::new(["A=", &"x".repeat(1 << 18)].concat()).unwrap();
        let reason = "it: cannot be executed: the variable A is too long; want less than 128 KiB".to_owned();
        assert_eq!(failure(Spawn { own_env: vec![long], ..shell("exit") }), (126, false, reason));
    }
}
