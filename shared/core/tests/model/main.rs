//! Every interleaving of the protocol, and of the breaker's, in a small world, over the functions that the product
//! decides by: `apply`, `refused_claim`, `unclaimable`, `sweep_action`, `paced`, `Balance`, `Breaker::after`.
//!
//! `cargo test --release --locked --test model -- --nocapture` tells the sizes; `DARKROOM_MODEL=deep` searches larger
//! worlds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../decisions/common/mod.rs"]
mod common;

mod actors;
mod batch;
mod breaker;
mod guards;
mod known;
mod properties;
mod protocol;
mod reach;
mod removed;
mod report;
mod steps;
mod store;
mod world;

use common::COST;
use darkroom_core::lifecycle::Bounds;
use guards::Off;
use protocol::{Protocol, Seen};
use reach::reach;
use report::{holds, is_deep, tells};
use stateright::Checker;
use steps::Step;
use world::{Config, SWEEPERS, World};

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
    wishes: 0,
};

/// Nothing goes wrong in any order; everything that can be come by was, except in a world `without` it.
fn search(name: &str, config: Config, without: &[Seen]) {
    let searched = holds(name, Protocol::new(config, Off::NONE));
    let missing = searched.checker.model().not_seen();
    let can_be = |what: &&Seen| config.wishes > 0 || !Seen::OF_WISHES.contains(what);
    let missing: Vec<_> = missing.iter().filter(can_be).filter(|what| !without.contains(what)).collect();
    assert!(missing.is_empty(), "{name} has not come by {missing:?} in {} states", searched.unique);
}

/// What only a copy of a write leads to.
const BY_COPIES: [Seen; 3] =
    [Seen::ClaimWonThoughItsAnswerWasLost, Seen::KeyUsedTwice, Seen::SubmissionKnownByItsStamp];
const BY_COPIES_OR_GIVING_BACK: [Seen; 4] = [
    Seen::ClaimWonThoughItsAnswerWasLost,
    Seen::KeyUsedTwice,
    Seen::SubmissionKnownByItsStamp,
    Seen::ACallGivenBack,
];

#[test]
fn a_death_anywhere() {
    let bounds = Bounds { attempts_max: 2, calls_max: 3 };
    let config = Config { bounds, crashes: 1, uncalled: 0, ..SMALL };
    if is_deep() {
        search("a death anywhere", Config { uncalled: 1, ..config }, &BY_COPIES);
    } else {
        search("a death anywhere", config, &BY_COPIES_OR_GIVING_BACK);
    }
}

#[test]
fn a_write_done_twice() {
    let config = Config { copies: 1, uncalled: 0, ..SMALL };
    if is_deep() {
        search("a write done twice", Config { uncalled: 1, ..config }, &[]);
        search("a write done twice and a death", Config { crashes: 1, ..config }, &[Seen::ACallGivenBack]);
    } else {
        search("a write done twice", config, &[Seen::ACallGivenBack]);
    }
}

#[test]
fn a_call_that_is_given_back() {
    let uncalled = if is_deep() { 2 } else { 1 };
    search("a call that is given back", Config { uncalled, ..SMALL }, &BY_COPIES);
}

#[test]
fn two_sweepers() {
    let config = Config { sweepers: 2, crashes: 1, uncalled: 0, signs_of_life: is_deep(), ..SMALL };
    search("two sweepers", config, &BY_COPIES_OR_GIVING_BACK);
}

#[test]
fn a_client_that_asks_again() {
    let bounds = Bounds { attempts_max: 1, calls_max: 1 };
    let small = Config { bounds, submissions: 2, copies: 1, send_fails: true, owner: is_deep(), ..SMALL };
    let searched =
        holds("a client that asks again", Protocol::new(Config { workers: 1, ..small }, Off::NONE));
    let missing = searched.checker.model().not_seen();
    for what in [Seen::KeyUsedTwice, Seen::SubmissionKnownByItsStamp] {
        assert!(!missing.contains(&what), "{what:?} was not come by");
    }
}

#[test]
fn a_key_that_is_used_again_after_its_job_has_expired() {
    let config = Config { submissions: 2, expires: true, workers: if is_deep() { 2 } else { 1 }, ..SMALL };
    holds("a key used again", Protocol::new(config, Off::NONE));
}

/// The owner publishes, takes that back and deletes at any time, while others work on the job and a client asks again.
#[test]
fn an_owner_who_publishes_and_deletes() {
    let bounds = Bounds { attempts_max: 2, calls_max: 2 };
    let wishes = if is_deep() { 4 } else { 3 };
    let small = Config { wishes, bounds, submissions: 2, signs_of_life: false, uncalled: 0, ..SMALL };
    let name = "an owner who publishes and deletes";
    let workers = if is_deep() { 2 } else { 1 };
    let searched = holds(name, Protocol::new(Config { workers, ..small }, Off::NONE));
    let missing = searched.checker.model().not_seen();
    for what in Seen::OF_WISHES {
        assert!(!missing.contains(&what), "{what:?} was not come by");
    }
    let expires =
        Config { expires: true, workers: 1, bounds: Bounds { attempts_max: 1, calls_max: 1 }, ..small };
    holds("a key used again after its job was deleted", Protocol::new(expires, Off::NONE));
}

/// A balance for both, for one, and room for one in flight.
#[test]
fn two_jobs_on_one_balance() {
    let bounds = Bounds { attempts_max: 1, calls_max: 1 };
    let one =
        Config { jobs: 2, submissions: 3, workers: 1, bounds, signs_of_life: false, uncalled: 0, ..SMALL };
    holds("two jobs, tokens for one", Protocol::new(one, Off::NONE));
    let both = Config { granted: 2 * COST, submissions: 2, owner: is_deep(), ..one };
    holds("two jobs, tokens for both", Protocol::new(both, Off::NONE));
    holds(
        "two jobs, one in flight",
        Protocol::new(Config { inflight_max: 1, submissions: 3, ..both }, Off::NONE),
    );
}

/// Everybody is gone, and every message is lost.
#[test]
fn the_sweeper_and_time_settle_every_job() {
    let config = Config { crashes: u8::from(is_deep()), signs_of_life: false, ..SMALL };
    let protocol = Protocol::new(config, Off::NONE);
    let settled = |world: &World| world.live(0).is_none();
    let swept = |world: &World, step: &Step| match step {
        Step::Tick | Step::Sweep(..) => true,
        Step::Write(actor) => SWEEPERS.contains(actor) && world.record(0).is_some(),
        _ => false,
    };
    assert_eq!(tells("the sweeper and time settle it", &reach(&protocol, |_| true, settled, swept)), 0);
    let without = |world: &World, step: &Step| {
        let is_begun =
            !matches!(step, Step::Claim(..) | Step::Look(..) | Step::Defer(..) | Step::Undrawable(..));
        let sweeps = matches!(step, Step::Sweep(..) | Step::SweepWaits(..));
        let is_swept = matches!(step, Step::Write(actor) if SWEEPERS.contains(actor));
        is_begun && !sweeps && !is_swept && !matches!(step, Step::Cancel(_)) && world.copy.is_none()
    };
    assert!(tells("no sweeper", &reach(&protocol, |_| true, settled, without)) > 0);
}
