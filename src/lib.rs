//! hupwrap: a supervisor for one command.
//!
//! A pure machine decides, a thin driver does. The rooms, and what each may touch:
//!
//! | room | purpose | touches |
//! |---|---|---|
//! | [`cli`] | what was said | strings |
//! | [`config`] | what it means | nothing |
//! | [`signal`], [`status`] | names, numbers, exit codes | nothing |
//! | [`machine`] | the decisions | nothing; time is an argument |
//! | [`env_file`], [`words`] | two small syntaxes | nothing |
//! | [`handover`] | the state that crosses a re-exec, as bytes | nothing |
//! | [`notify`] | what is said on a NOTIFY_SOCKET, as bytes | nothing |
//! | [`sys`] | system calls, the only `unsafe` | the kernel |
//! | [`wait`] | the commands that wait for a supervisor | sys; its decisions are pure |
//! | [`driver`] | carries out what the machine orders | machine and sys |
//! | [`report`] | the lines for people | stderr |

pub mod cli;
pub mod config;
pub mod driver;
pub mod env_file;
pub mod events;
pub mod handover;
pub mod listen;
pub mod machine;
pub mod notify;
pub mod report;
pub mod signal;
pub mod status;
pub mod status_file;
pub mod sys;
pub mod wait;
pub mod words;

use std::ffi::{c_char, c_int};

use crate::cli::Said;
use crate::config::{Config, Wait};
use crate::driver::Driver;
use crate::signal::SignalSet;
use crate::status::{Ending, OWN_FAILURE};
use crate::sys::birth::Birth;

/// What `--version` prints, and how a re-executed hupwrap calls itself.
pub const NAME_AND_VERSION: &str = concat!("hupwrap ", env!("CARGO_PKG_VERSION"));

/// The signals blocked from the first instruction on: all but the faults.
pub const BLOCKED_AT_BIRTH: SignalSet = SignalSet::ALL_BUT_FAULTS;

/// Runs the program from its first to its last instruction; the status is for libc to exit with.
///
/// # Safety
/// `argv` and `envp` are those of `main`, unchanged; [`BLOCKED_AT_BIRTH`] is blocked, and `mask` was before.
#[allow(unsafe_code)]
pub unsafe fn run(argc: c_int, argv: *const *const c_char, envp: *const *const c_char, mask: u64) -> c_int {
    // SAFETY: the caller's promise is the one Birth wants.
    let birth = unsafe { Birth::new(argc, argv, envp, SignalSet::from_bits(mask)) };
    match life(birth) {
        Ok(ending) => sys::finish::end(ending),
        Err(error) => {
            report::complain(&error);
            sys::finish::end(Ending::Own(OWN_FAILURE))
        }
    }
}

fn life(mut birth: Birth) -> Result<Ending, String> {
    let adopted = sys::reexec::adopt(&mut birth)?;
    let probed = birth.take_probe_flag();
    match cli::read(&birth.words())? {
        Said::Print(text) => {
            report::print(&text);
            Ok(Ending::Own(0))
        }
        Said::Wait(args) => wait::run(&Wait::new(&args)?, &birth),
        Said::Supervise(args) => {
            let config = Config::new(args)?;
            report::set_look(config.log_format, config.log_level, birth.var("NO_COLOR"), birth.var("TERM"));
            if probed {
                report::print(&handover::introduction());
                return Ok(Ending::Own(0));
            }
            Ok(Driver::new(config, birth, adopted)?.run())
        }
    }
}
