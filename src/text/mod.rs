//! Text formats: what hupwrap reads and writes, without touching a file. Pure.

pub mod env_file;
pub mod handover;
pub(crate) mod hints;
pub mod listen;
pub mod main_process;
pub mod messages;
pub mod notify;
pub mod status_file;
pub(crate) mod words;
