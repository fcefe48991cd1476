//! A soak: many lives of hupwrap, each with random options, children and events, watched from outside.
//!
//! Each life is drawn from its seed before it starts (soak/schedule.rs), and the seed of the next life follows from it.
//! A failure prints the seed of its life and what was done; `HUPWRAP_SOAK_SEED` begins with that life.
//! `HUPWRAP_SOAK=120` lives for that many seconds, from a new seed if none is given.

mod act;
mod calm;
mod clients;
mod consistent;
mod expect;
mod knock;
mod proc;
mod scene;
mod schedule;
mod setup;
mod told;

use std::time::{Duration, Instant};

use crate::support::*;
use scene::Tally;
use schedule::{Life, Rng};

/// How many lives `cargo test` lives, and from which seed.
const LIVES: u64 = 5;
const SEED: u64 = 11;

#[test]
fn soak() {
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seconds = number("HUPWRAP_SOAK").map(Duration::from_secs);
    let new = || watched::monotonic() ^ u64::from(std::process::id()) << 32;
    let mut seed = number("HUPWRAP_SOAK_SEED").unwrap_or_else(|| if seconds.is_some() { new() } else { SEED });
    let can_be_init = Setup::of("unshare", ["--pid", "--fork", "--mount-proc", "true"]).end().shell() == 0
        && installed("nsenter").is_some();
    if !can_be_init {
        skipped("soak::soak", "unshare(1), nsenter(1), or the right to make a pid namespace: the lives as pid 1");
    }
    let shared = Dir::new();
    let pristine = shared.hupwrap("hupwrap");
    let began = Instant::now();
    let mut tally = Tally::default();
    eprintln!("HUPWRAP_SOAK_SEED={seed}");
    while seconds.map_or(tally.lives < LIVES, |seconds| began.elapsed() < seconds) {
        let mut life = Life::new(seed);
        life.options.init &= can_be_init;
        act::live(&life, &pristine, &mut tally);
        seed = Rng(seed).next();
    }
    eprintln!("{tally:?} in {:.0?}", began.elapsed());
}
