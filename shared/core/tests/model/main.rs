//! Every interleaving of the protocol, and of the breaker's, in a small world, over the functions that the product
//! decides by: `apply`, `refused_claim`, `unclaimable`, `sweep_action`, `paced`, `Balance`, `Breaker::after`.
//!
//! `cargo test --release --locked --test model -- --nocapture` tells the sizes; `DARKROOM_MODEL=deep` searches larger
//! worlds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../decisions/common/mod.rs"]
mod common;

mod actors;
mod guards;
mod known;
mod properties;
mod protocol;
mod removed;
mod report;
mod store;
mod world;

use common::COST;
use darkroom_core::lifecycle::Bounds;
use guards::Off;
use protocol::{Protocol, Seen};
use report::{holds, is_deep};
use stateright::Checker;
use world::Config;

/// One job, two workers, a sweeper and an owner who cancels.
const SMALL: Config = Config {
    jobs: 1,
    workers: 2,
    sweepers: 1,
    owner: true,
    submissions: 1,
    lease: 1,
    deadline: 2,
    bounds: Bounds { attempts_max: 2, calls_max: 2 },
    crashes: 0,
    copies: 0,
    uncalled: 1,
    signs_of_life: true,
    send_fails: false,
    granted: COST,
    inflight_max: 2,
    expires: false,
};

/// Nothing goes wrong in any order; everything that can be come by was, except in a world `without` it.
fn search(name: &str, config: Config, without: &[Seen]) {
    let searched = holds(name, Protocol::new(config, Off::NONE));
    let missing = searched.checker.model().not_seen();
    let missing: Vec<_> = missing.iter().filter(|what| !without.contains(what)).collect();
    assert!(missing.is_empty(), "{name} has not come by {missing:?} in {} states", searched.unique);
}

#[test]
fn a_death_anywhere() {
    use Seen::{ACallGivenBack, ClaimWonThoughItsAnswerWasLost, KeyUsedTwice, SubmissionKnownByItsStamp};
    let bounds = Bounds { attempts_max: 2, calls_max: 3 };
    let config = Config { bounds, crashes: 1, ..SMALL };
    let (uncalled, copies) = if is_deep() { (1, 1) } else { (0, 0) };
    let without = [ClaimWonThoughItsAnswerWasLost, KeyUsedTwice, SubmissionKnownByItsStamp, ACallGivenBack];
    let without = if is_deep() { &[][..] } else { &without };
    search("a death anywhere", Config { uncalled, copies, ..config }, without);
}

#[test]
fn a_write_done_twice() {
    let uncalled = u8::from(is_deep());
    let without = if is_deep() { &[][..] } else { &[Seen::ACallGivenBack] };
    search("a write done twice", Config { copies: 1, uncalled, ..SMALL }, without);
}

#[test]
fn a_call_that_is_given_back() {
    use Seen::{ClaimWonThoughItsAnswerWasLost, KeyUsedTwice, SubmissionKnownByItsStamp};
    let uncalled = if is_deep() { 2 } else { 1 };
    let without = [ClaimWonThoughItsAnswerWasLost, KeyUsedTwice, SubmissionKnownByItsStamp];
    search("a call that is given back", Config { uncalled, ..SMALL }, &without);
}

#[test]
fn two_sweepers() {
    use Seen::{ACallGivenBack, ClaimWonThoughItsAnswerWasLost, KeyUsedTwice, SubmissionKnownByItsStamp};
    let without = [ClaimWonThoughItsAnswerWasLost, KeyUsedTwice, SubmissionKnownByItsStamp, ACallGivenBack];
    search("two sweepers", Config { sweepers: 2, crashes: 1, signs_of_life: is_deep(), ..SMALL }, &without);
}
