//! The waiting commands of a soak.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::told::Time;
use crate::support::{children, hupwrap, watched::monotonic};

/// A timeout that none of them reaches.
pub const LONG: u64 = 90_000;

pub struct Client {
    pub form: &'static str,
    pub timeout: u64,
    pub asked: Time,
    pub killed: bool,
    /// In a pid namespace it is the child of another.
    within: bool,
    process: Child,
}

/// How one has ended.
pub struct Answer {
    pub form: &'static str,
    pub timeout: u64,
    pub asked: Time,
    pub ended: Time,
    /// None if it was killed.
    pub code: Option<i32>,
    pub said: String,
}

impl Client {
    /// `within`: the process whose namespace it runs in.
    pub fn new(form: &'static str, file: &Path, timeout: u64, within: Option<i32>) -> Self {
        let mut command = match within {
            Some(pid) => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &pid.to_string(), "--pid", "--mount", "--"]).arg(hupwrap());
                command
            }
            None => Command::new(hupwrap()),
        };
        command.arg(form).arg(file).arg(format!("--timeout={timeout}ms"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let asked = monotonic();
        let process = command.spawn().expect("hupwrap, and nsenter");
        Self { form, timeout, asked, killed: false, within: within.is_some(), process }
    }

    /// Sends a signal to it, if it still runs.
    pub fn kill(&mut self, signal: &str) {
        self.killed = true;
        let pid = i32::try_from(self.process.id()).expect("a pid");
        if self.process.try_wait().expect("a child").is_some() {
            return;
        }
        let number = signal.parse::<hupwrap::signal::Signal>().expect("a signal").number();
        for pid in if self.within { children(pid) } else { vec![pid] } {
            // It may just have ended.
            // SAFETY: has no preconditions.
            unsafe { nix::libc::kill(pid, number) };
        }
    }

    /// How it ended, if it has.
    pub fn answer(&mut self) -> Option<Answer> {
        let status = self.process.try_wait().expect("a child")?;
        let mut said = String::new();
        if let Some(mut stderr) = self.process.stderr.take() {
            stderr.read_to_string(&mut said).expect("text");
        }
        let &mut Self { form, timeout, asked, .. } = self;
        let code = if self.killed { None } else { Some(status.code().unwrap_or(-1)) };
        Some(Answer { form, timeout, asked, ended: monotonic(), code, said })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            let pid = i32::try_from(self.process.id()).unwrap_or(0);
            if self.within {
                for child in children(pid) {
                    // SAFETY: has no preconditions.
                    unsafe { nix::libc::kill(child, nix::libc::SIGKILL) };
                }
            }
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
