//! Signals that come while hupwrap starts: from its first instruction on none is lost.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hupwrap::signal::SignalSet;
use nix::libc;

use crate::support::*;

/// The start is over by then, on a machine that is not loaded.
const START: Duration = Duration::from_millis(5);

/// Lets a time pass: not to wait for something, but to send the next signal somewhere else in the start.
fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Does something `count` times on a few threads, at moments spread evenly over the start.
fn at_every_moment(count: u32, act: impl Fn(u32, Duration) + Sync) {
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count {
                        return;
                    }
                    act(turn, START * turn / count);
                }
            });
        }
    });
}

/// A hupwrap without the comforts of [`Run`]: there are many. Killed at the end, it takes its child along.
struct Launched(Child);

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts hupwrap, sends a signal that early, and returns the status that a shell shows.
fn signalled_early(options: &[&str], signal: &str, moment: Duration) -> i32 {
    let mut command = Command::new(hupwrap());
    command.args(options).args(["--", "sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut hupwrap = Launched(command.stderr(Stdio::null()).spawn().expect("hupwrap starts"));
    spin(moment);
    kill(i32::try_from(hupwrap.0.id()).expect("a pid"), signal);
    let mut status = None;
    wait_until("hupwrap ends", || {
        status = hupwrap.0.try_wait().expect("a child");
        status.is_some()
    });
    let status = status.expect("a status");
    status.code().unwrap_or_else(|| 128 + status.signal().expect("a signal"))
}

#[test]
fn a_term_during_the_start_ends_it() {
    at_every_moment(1000, |turn, moment| {
        let group = ["own", "shared"][turn as usize % 2];
        let code = signalled_early(&["--group", group], "TERM", moment);
        assert_eq!(code, 143, "TERM {moment:?} after the start, --group {group}");
    });
}

#[test]
fn a_signal_to_forward_during_the_start_reaches_the_child() {
    // Whom it reaches it ends: hupwrap itself before its first instruction, afterwards the child.
    at_every_moment(500, |turn, moment| {
        let (signal, number) = [("USR1", 10), ("PIPE", 13), ("RTMIN", 34)][turn as usize % 3];
        let mode = ["mixed", "process", "group"][turn as usize / 3 % 3];
        let code = signalled_early(&["--kill-mode", mode], signal, moment);
        assert_eq!(code, 128 + number, "{signal} {moment:?} after the start, --kill-mode {mode}");
    });
}

// As pid 1, where the kernel throws away what is neither blocked nor handled.

/// A pid 1, seen from outside. With it goes everything in its pid namespace.
struct Init(i32);

impl Init {
    /// Executes a program as pid 1, and returns when the kernel has taken it for the old one. None where this is not
    /// permitted.
    fn launch(program: &Path, args: &[&str], traced: bool) -> Option<Self> {
        let string = |bytes: Vec<u8>| CString::new(bytes).expect("no NUL");
        let argv: Vec<CString> = [program.as_os_str().as_bytes()]
            .into_iter()
            .chain(args.iter().map(|arg| arg.as_bytes()))
            .map(|arg| string(arg.to_vec()))
            .collect();
        let env: Vec<CString> = std::env::vars_os()
            .map(|(name, value)| string([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()))
            .collect();
        let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
            list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv_pointers, env_pointers) = (pointers(&argv), pointers(&env));
        let (mut executed, end) = std::io::pipe().expect("a pipe");
        let flags = libc::c_long::from(libc::CLONE_NEWPID | libc::SIGCHLD);
        // SAFETY: without CLONE_VM and a stack it is a fork. The child makes system calls only.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match pid {
            -1 => return None,
            0 => {
                // SAFETY: the pointers are to what execve(2) wants.
                unsafe {
                    libc::close(executed.as_raw_fd());
                    if traced {
                        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                    }
                    libc::execve(argv_pointers[0], argv_pointers.as_ptr(), env_pointers.as_ptr());
                    libc::_exit(99);
                }
            }
            _ => {}
        }
        drop(end);
        let init = Self(i32::try_from(pid).expect("a pid"));
        let _ = executed.read(&mut [0]);
        Some(init)
    }

    fn blocks_term(&self) -> bool {
        let blocked = u64::from_str_radix(&status(self.0, "SigBlk"), 16);
        blocked.is_ok_and(|bits| SignalSet::from_bits(bits).contains(hupwrap::signal::Signal::TERM))
    }

    /// Waits for a change, and returns the word that tells of it.
    fn wait(&self, flags: libc::c_int) -> i32 {
        let mut word = 0;
        wait_until("pid 1 changes", || {
            // SAFETY: the pointer is to an int of ours.
            unsafe { libc::waitpid(self.0, &raw mut word, libc::WNOHANG | flags) == self.0 }
        });
        word
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // SAFETY: has no preconditions. Where it was waited for, it is no child of this process any more.
        unsafe {
            if libc::waitpid(self.0, std::ptr::null_mut(), libc::WNOHANG) == 0 {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, std::ptr::null_mut(), 0);
            }
        }
    }
}

#[test]
fn a_probe_that_was_reaped_is_not_killed() {
    let Some(strace) = installed("strace") else {
        return skipped("a_probe_that_was_reaped_is_not_killed", "strace(1)");
    };
    let dir = Dir::new();
    let program = dir.hupwrap("hupwrap");
    let (log, fifo) = (dir.path().join("log"), dir.path().join("fifo"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("read x < {}\nexec {} \"$@\"\n", fifo.display(), hupwrap().display());
    let slow = dir.impostor("slow", &script);
    let tracing = args([&"-qq", &"-e", &"signal=none", &"-e", &"trace=kill", &"-o", &log]);
    let words = args([&program, &"--on-hup", &"upgrade", &"--", &puppet()]);
    let mut run = Setup::of(strace, tracing.into_iter().chain(words)).start();
    let (_, child) = run.ready();
    let hupwrap = parent(child).unwrap();
    std::fs::rename(slow, program).unwrap();
    kill(hupwrap, "HUP");
    let mut probe = 0;
    wait_until("there is a probe", || {
        probe = children(hupwrap).into_iter().find(|pid| *pid != child).unwrap_or(0);
        probe != 0
    });
    // Its end and a TERM are read together.
    kill(hupwrap, "STOP");
    wait_until("hupwrap is stopped", || matches!(state(hupwrap), Some('T' | 't')));
    std::fs::write(fifo, "\n").unwrap();
    wait_until("the probe has ended", || state(probe) == Some('Z'));
    kill(hupwrap, "TERM");
    kill(hupwrap, "CONT");
    assert_eq!(run.end().shell(), 0);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains(&format!("kill({child}, SIGTERM)")), "{log}");
    assert!(!log.contains(&format!("kill({probe}, ")) && !log.contains(&format!("kill(-{probe}, ")), "{log}");
}

#[test]
fn as_pid_1_a_term_during_the_start_ends_it() {
    let programs: Vec<_> = [Some(hupwrap().to_owned()), static_build()].into_iter().flatten().collect();
    let permitted = Init::launch(hupwrap(), &["--", "true"], false).is_some();
    if !permitted {
        return skipped("as_pid_1_a_term_during_the_start_ends_it", "the right to make a pid namespace");
    }
    for program in programs {
        at_every_moment(1000, |_, moment| {
            let init = Init::launch(&program, &["--", "sleep", "1000"], false).expect("a pid namespace");
            spin(moment);
            // What comes before hupwrap's first instruction, while the kernel or ld.so is at work, is lost to any
            // program; the next test looks at that instruction.
            wait_until("TERM is blocked", || init.blocks_term());
            kill(init.0, "TERM");
            let word = init.wait(0);
            assert!(libc::WIFEXITED(word), "{word:#x}, TERM {moment:?} after the start of {}", program.display());
            assert_eq!(libc::WEXITSTATUS(word), 143, "TERM {moment:?} after the start of {}", program.display());
        });
    }
}

#[test]
fn the_first_instructions_block_all_signals() {
    const NAME: &str = "the_first_instructions_block_all_signals";
    // In front of the dynamic one runs ld.so.
    let Some(program) = static_build() else { return skipped(NAME, "a static build (cargo static)") };
    let Some(init) = Init::launch(&program, &["--", "sleep", "1000"], true) else {
        return skipped(NAME, "the right to make a pid namespace");
    };
    // It stops after the exec, before the first instruction. This thread is its tracer.
    let stopped = init.wait(libc::WUNTRACED);
    assert!(libc::WIFSTOPPED(stopped), "{stopped:#x}");
    let mut instructions = 0;
    while !init.blocks_term() {
        assert!(instructions < 10, "TERM is not blocked after {instructions} instructions");
        // SAFETY: the process is a tracee of this thread's, and stopped.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, init.0, 0, 0) }, 0);
        assert!(libc::WIFSTOPPED(init.wait(libc::WUNTRACED)));
        instructions += 1;
    }
    kill(init.0, "TERM");
    // SAFETY: as above.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_DETACH, init.0, 0, 0) }, 0);
    let word = init.wait(0);
    assert!(libc::WIFEXITED(word) && libc::WEXITSTATUS(word) == 143, "{word:#x}");
}

#[test]
fn a_child_that_is_frozen_before_its_end_holds_nobody_up() {
    let Some(strace) = installed("strace") else {
        return skipped("a_child_that_is_frozen_before_its_end_holds_nobody_up", "strace(1)");
    };
    let dir = Dir::new();
    let odd = dir.program("odd", "#!/no/such/sh\n");
    // The child has reported that it cannot execute, and does not get further.
    let tracing = args([&"-D", &"-f", &"-o", &"/dev/null", &"-e", &"inject=exit_group:delay_enter=200000000"]);
    let words = args([&hupwrap(), &"-v", &"--", &odd]);
    let run = Setup::of(strace, tracing.into_iter().chain(words)).start();
    run.said("its interpreter /no/such/sh is missing");
    // hupwrap itself is about to end: it would be held up in the same call.
    let in_exit = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = format!("{} ", libc::SYS_exit_group);
    wait_until("hupwrap ends", || in_exit(run.pid).starts_with(&number));
    // Nobody is held up any more.
    let is_strace =
        |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "strace\n");
    run.family().iter().filter(|pid| is_strace(pid)).for_each(|pid| kill(*pid, "KILL"));
}

#[test]
fn a_hup_before_the_end_of_the_child_starts_it_again() {
    for action in ["restart", "reexec", "replace", "upgrade+replace"] {
        let mut run = Setup::new(args([&"--on-hup", &action, &"--ready", &"exec", &"--", &puppet()])).start();
        let (_, child) = run.ready();
        // Stopped, it learns of both at once.
        run.kill("STOP");
        wait_until("it is stopped", || state(run.pid) == Some('T'));
        run.kill("HUP");
        kill(child, "KILL");
        wait_until("the child has ended", || state(child) == Some('Z'));
        run.kill("CONT");
        assert_eq!(run.ready().0, 2, "{action}");
        assert_eq!(run.stop().shell(), 0, "{action}");
    }
}
