//! hupwrap: a supervisor for one command.
//!
//! A pure machine decides, a thin supervisor does. The rooms, and what each may touch:
//!
//! | room | purpose | touches |
//! |---|---|---|
//! | [`cli`] | what was said | strings |
//! | [`config`] | what it means | nothing |
//! | [`signal`], [`exit`] | names, numbers, exit codes | nothing |
//! | [`facts`] | what machine and sys share | nothing |
//! | [`machine`] | the decisions | nothing; time is an argument |
//! | [`text`] | text formats, read and written | nothing |
//! | [`sys`] | system calls, the only `unsafe` | the kernel |
//! | `wait` | the commands that wait for a supervisor | sys; its decisions are pure |
//! | [`supervisor`] | carries out what the machine orders | machine and sys |
//! | [`report`] | the lines for people | stderr |

pub mod cli;
pub mod config;
pub mod exit;
pub mod facts;
pub mod machine;
pub mod report;
pub mod signal;
pub mod supervisor;
pub mod sys;
pub mod text;
mod wait;

use std::ffi::{c_char, c_int};

use crate::cli::Said;
use crate::config::{Config, Wait};
use crate::exit::{Ending, OWN_FAILURE};
use crate::signal::SignalSet;
use crate::supervisor::Supervisor;
use crate::sys::startup::Startup;

/// What `--version` prints, and how a re-executed hupwrap calls itself.
pub const NAME_AND_VERSION: &str = concat!("hupwrap ", env!("CARGO_PKG_VERSION"));

/// The signals blocked from the first instruction on: all but the faults.
pub const BLOCKED_AT_STARTUP: SignalSet = SignalSet::ALL_BUT_FAULTS;

/// Runs the program from its first to its last instruction; the status is for libc to exit with.
///
/// # Safety
/// `argv` and `envp` are those of `main`, unchanged; [`BLOCKED_AT_STARTUP`] is blocked, and `mask` was before.
#[allow(unsafe_code)]
pub unsafe fn run(argc: c_int, argv: *const *const c_char, envp: *const *const c_char, mask: u64) -> c_int {
    // SAFETY: the caller's promise is the one Startup wants.
    let startup = unsafe { Startup::new(argc, argv, envp, SignalSet::from_bits(mask)) };
    match life(startup) {
        Ok(ending) => sys::finish::end(ending),
        Err(error) => {
            report::complain(&error);
            sys::finish::end(Ending::Own(OWN_FAILURE))
        }
    }
}

fn life(mut startup: Startup) -> Result<Ending, String> {
    let adopted = sys::reexec::adopt(&mut startup)?;
    let probed = startup.take_probe_flag();
    match cli::read(&startup.words())? {
        Said::Print(text) => {
            report::print(&text)?;
            Ok(Ending::Own(0))
        }
        Said::Wait(args) => Ok(wait::run(&Wait::new(&args)?, &startup)),
        Said::Supervise(args) => {
            let config = Config::new(args)?;
            report::set_look(config.log_format, config.log_level, startup.var("NO_COLOR"), startup.var("TERM"));
            if probed {
                report::print(&text::handover::introduction())?;
                return Ok(Ending::Own(0));
            }
            Ok(Supervisor::new(config, startup, adopted)?.run())
        }
    }
}
