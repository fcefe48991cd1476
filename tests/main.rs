//! hupwrap as a whole, run as its users run it.

#![allow(unsafe_code, missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

mod architecture;
mod basics;
mod birth;
mod check;
mod completions;
mod corpora;
mod docs;
mod env_files;
mod environment;
mod exits;
mod forwarding;
mod generations;
mod hang_ups;
mod help;
mod init;
mod input;
mod jobs;
mod log;
mod mainpid;
mod names;
mod package;
mod php;
mod race;
mod ready;
mod recipes;
mod reexec;
mod refusals;
mod replace;
mod report;
mod restart;
mod sandbox;
mod security;
mod servers;
mod soak;
mod sockets;
mod status;
mod storm;
mod support;
mod terminal;
mod upward;
mod waiting;
mod watch;
