//! Text formats: what hupwrap reads and writes, without touching a file. Pure.

pub mod env_file;
mod fact_lines;
pub mod handover;
pub(crate) mod hints;
pub mod listen;
pub mod log_line;
pub(crate) mod main_process;
pub mod messages;
pub mod notify;
pub(crate) mod socket_facts;
pub mod status_file;
pub(crate) mod words;
