//! The program. Its first instructions are in sys, because they are unsafe; everything else is in the library.

#![no_main]

#[path = "sys/entry.rs"]
mod entry;
