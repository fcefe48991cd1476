//! Text formats: what hupwrap reads and writes, without touching a file. Pure.

pub(crate) mod env_file;
mod fact_lines;
pub(crate) mod handover;
pub(crate) mod hints;
pub(crate) mod listen;
pub(crate) mod main_process;
pub mod messages;
pub(crate) mod notify;
pub(crate) mod socket_facts;
pub mod status_file;
pub(crate) mod words;
