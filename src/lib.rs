//! hupwrap: a supervisor for one command.
//!
//! A pure machine decides, a thin supervisor does. The rooms, and what each may touch:
//!
//! | room | purpose | touches |
//! |---|---|---|
//! | `cli` | what was said | strings |
//! | `config` | what it means | nothing |
//! | `signal`, `exit` | names, numbers, exit codes | nothing |
//! | `facts` | what machine and sys share | nothing |
//! | `machine` | the decisions | nothing; time is an argument |
//! | `text` | text formats, read and written | nothing |
//! | `sys` | system calls, the only `unsafe` | the kernel |
//! | `wait` | the commands that wait for a supervisor | sys; its decisions are pure |
//! | `supervisor` | carries out what the machine orders | machine and sys |
//! | `report` | the lines for people | stderr |

#![deny(unreachable_pub)]

pub mod cli;
pub mod config;
pub mod exit;
pub mod facts;
pub mod machine;
mod report;
pub mod signal;
mod supervisor;
mod sys;
pub mod text;
pub mod wait;

use crate::cli::Said;
use crate::config::{Config, Level, LogFormat, Wait};
use crate::exit::{Ending, OWN_FAILURE};
use crate::signal::SignalSet;
use crate::supervisor::setup::NotSetUp;
pub use crate::sys::startup::Startup;

/// What `--version` prints, and how a re-executed hupwrap calls itself.
pub const NAME_AND_VERSION: &str = concat!("hupwrap ", env!("CARGO_PKG_VERSION"));

/// The signals blocked from the first instruction on: all but the faults.
pub const BLOCKED_AT_STARTUP: SignalSet = SignalSet::ALL_BUT_FAULTS;

/// Runs the program to its end. [`BLOCKED_AT_STARTUP`] is blocked.
pub fn run(startup: Startup) -> ! {
    sys::finish::end(life(startup).unwrap_or_else(|error| {
        report::complain(&error);
        Ending::Own(OWN_FAILURE)
    }))
}

fn life(mut startup: Startup) -> Result<Ending, String> {
    let taken_over = sys::reexec::take_over(&mut startup);
    let probed = startup.take_probe_flag();
    let words = startup.words();
    let (no_color, term) = (startup.var("NO_COLOR"), startup.var("TERM"));
    // An error in the command line looks as the command line says.
    let look_as_said = |_: &String| {
        let format = if cli::wants_json(&words) { LogFormat::Json } else { LogFormat::Text };
        report::set_look(format, Level::default(), no_color, term);
    };
    match cli::read(&words).inspect_err(look_as_said)? {
        Said::Help { all } => {
            let told = startup.var("COLUMNS").and_then(|columns| str::from_utf8(columns).ok()?.parse().ok());
            let columns = told.filter(|columns| *columns > 0).or_else(|| sys::terminal::width(&std::io::stdout()));
            report::print(&cli::help::text(all, columns))?;
            Ok(Ending::Own(0))
        }
        Said::Version => {
            report::print(&format!("{NAME_AND_VERSION}\n"))?;
            Ok(Ending::Own(0))
        }
        Said::Wait(args) => {
            report::set_look(LogFormat::default(), Level::default(), no_color, term);
            Ok(wait::run(&Wait::new(&args)?, &startup))
        }
        Said::Supervise(args) => {
            let config = Config::new(args).inspect_err(look_as_said)?;
            report::set_look(config.log_format, config.log_level, no_color, term);
            if probed {
                report::print(&sys::reexec::prove()?)?;
                return Ok(Ending::Own(0));
            }
            let supervisor = match taken_over {
                Some((state, fault)) => supervisor::adopt::adopt(config, startup, state, fault),
                None => match supervisor::setup::setup(config, startup) {
                    Ok(supervisor) => supervisor,
                    Err(NotSetUp::Told(signal)) => return Ok(Ending::Told(signal)),
                    Err(NotSetUp::Because(reason)) => return Err(reason),
                },
            };
            Ok(supervisor.run())
        }
    }
}
