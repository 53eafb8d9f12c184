//! What is true in every state: the invariants of the protocol by their numbers, and three that have none.

use std::cell::RefCell;
use std::collections::HashMap;

use darkroom_core::job::{Outcome, Stage};
use darkroom_core::ledger::{Books, Settlement};
use stateright::Property;

use crate::common::{COST, Shown, command};
use crate::guards::Guard;
use crate::known::Known;
use crate::protocol::{Protocol, sign_of_life};
use crate::store::capture;
use crate::world::{Doing, Entry, Fault, JOBS, LIVES, WORKERS, World, held, tick};

pub(crate) const MONEY: &str = "I1: money is conserved";
pub(crate) const SETTLES_ONCE: &str = "I2: a job settles once, and its entry agrees";
pub(crate) const SETTLES_IN_TIME: &str = "I3: the sweeper alone settles it in time";
pub(crate) const CALLS: &str = "I4: calls are counted first and bounded";
pub(crate) const ONE_HOLDER: &str = "I5: one holder of an attempt";
pub(crate) const PICTURE: &str = "I6: the picture is its attempt's";
pub(crate) const SETTLED_STAYS: &str = "I7: nothing changes a settlement";
pub(crate) const LIVE_LEASE: &str = "I8: a live lease is not taken";
pub(crate) const ONE_JOB: &str = "I12: one job of a key";
pub(crate) const CANCEL_KEPT: &str = "a cancel request is not forgotten";
pub(crate) const NO_CALL_AFTER_CANCEL: &str = "no call is counted after a cancel request";
pub(crate) const STILL_A_JOB: &str = "what is stored is a job";

pub(crate) fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always(MONEY, money),
        Property::always(SETTLES_ONCE, |protocol, world| {
            jobs(world, |job| settles_once(protocol, world, job))
                && world.jobs.iter().all(is_left_as_it_settled)
        }),
        Property::always(SETTLES_IN_TIME, |protocol, world| {
            jobs(world, |job| settles_in_time(protocol, world, job))
        }),
        Property::always(CALLS, |protocol, world| jobs(world, |job| calls(protocol, world, job))),
        Property::always(ONE_HOLDER, |_, world: &World| {
            let [one, other] = WORKERS.map(|worker| held(&world.actors[worker]));
            (one.is_none() || one != other) && !world.faults.has(Fault::CallNotByTheHolder)
        }),
        Property::always(PICTURE, |protocol, world| jobs(world, |job| picture(protocol, world, job))),
        Property::always(SETTLED_STAYS, |protocol, world: &World| {
            !world.faults.has(Fault::SettledJobWritten) && jobs(world, |job| stays(protocol, world, job))
        }),
        Property::always(LIVE_LEASE, |_, world: &World| !world.faults.has(Fault::LiveLeaseTaken)),
        Property::always(ONE_JOB, |_, world: &World| {
            let once = |job: usize| world.jobs[job].lives <= world.jobs[job].expired + 1;
            jobs(world, once) && !world.faults.has(Fault::SecondJob)
        }),
        Property::always(CANCEL_KEPT, |_, world: &World| !world.faults.has(Fault::CancelForgotten)),
        Property::always(NO_CALL_AFTER_CANCEL, |_, world: &World| !world.faults.has(Fault::CallAfterCancel)),
        Property::always(STILL_A_JOB, |_, world: &World| !world.faults.has(Fault::NoJobAnyMore)),
    ]
}

/// Every job that has a record.
fn jobs(world: &World, holds: impl FnMut(usize) -> bool) -> bool {
    (0..JOBS).filter(|job| world.record(*job).is_some()).all(holds)
}

fn money(protocol: &Protocol, world: &World) -> bool {
    let live = (0..JOBS).filter(|job| world.live(*job).is_some()).count() as u64;
    let entries = world.jobs.iter().flat_map(|entry| entry.settled);
    let captured = entries.filter(|settled| *settled == Some(Settlement::Captured)).count() as u64;
    let books = Books {
        balance: world.account.0,
        grants: protocol.config.granted,
        captures: captured * COST,
        unsettled: live * COST,
        unsettled_jobs: live,
    };
    let is_bounded = live <= protocol.config.inflight_max;
    books.faults().is_empty() && is_bounded && !world.faults.has(Fault::Overdrawn)
}

fn settles_once(protocol: &Protocol, world: &World, job: usize) -> bool {
    let entry = &world.jobs[job];
    let settlement = entry.record.and_then(|record| record.settlement());
    let ticket = if protocol.off.has(Guard::TicketInTheEntrysKey) { 0 } else { usize::from(entry.lives) - 1 };
    let agrees = settlement.is_none() || entry.settled[ticket] == settlement;
    agrees && entry.settlements == entry.expired + u8::from(settlement.is_some())
}

/// A tombstone says what the entry of its job's life says.
fn is_left_as_it_settled(entry: &Entry) -> bool {
    let of_its_life = || entry.settled[usize::from(entry.lives) - 1];
    entry.tombstone.is_none_or(|left| of_its_life() == Some(left) && entry.settlements == entry.expired + 1)
}

type Asked = (usize, u64, Known<Shown>, u8, [Option<Settlement>; LIVES]);

thread_local! {
    static IN_TIME: RefCell<HashMap<Asked, bool>> = RefCell::default();
}

/// Everybody is gone but a sweep at each tick: settled by the deadline, a lease and two sweeps.
fn settles_in_time(protocol: &Protocol, world: &World, job: usize) -> bool {
    let Some(record) = world.live(job) else { return true };
    let entry = &world.jobs[job];
    let asked = (protocol.off.0.as_ptr().addr(), world.now, record, entry.lives, entry.settled);
    if let Some(known) = IN_TIME.with_borrow(|known| known.get(&asked).copied()) {
        return known;
    }
    let mut world = *world;
    let mut after = 0;
    loop {
        world.now += 1;
        after = if world.now() > record.order.deadline_at { after + 1 } else { 0 };
        let Some(live) = world.live(job) else { break };
        if after > protocol.config.lease + 2 {
            break;
        }
        if live.due_at().is_some_and(|due_at| due_at <= tick(world.now))
            && let Some(command) = command(&protocol.sweeps(&live, world.now))
        {
            protocol.off.write(&mut world, job, Known::command(command.clone()), None);
        }
    }
    let in_time = world.live(job).is_none();
    IN_TIME.with_borrow_mut(|known| known.insert(asked, in_time));
    in_time
}

fn calls(protocol: &Protocol, world: &World, job: usize) -> bool {
    let (entry, bounds) = (&world.jobs[job], protocol.config.bounds);
    let Some(record) = entry.record else { return true };
    let to_be_made = world.actors.iter().filter(|doing| counted_for(doing, job)).count();
    let made = entry.calls + u32::try_from(to_be_made).unwrap();
    let counted = made <= record.calls || protocol.off.has(Guard::CountBeforeTheCall);
    counted && entry.calls <= bounds.calls_max && record.tries <= bounds.attempts_max
}

fn counted_for(doing: &Doing, job: usize) -> bool {
    matches!(doing, Doing::Counted { held, .. } if held.job == job)
}

/// Nothing that is under way, or that a call under way can lead to, will change a settled job.
fn stays(protocol: &Protocol, world: &World, job: usize) -> bool {
    if world.live(job).is_some() {
        return true;
    }
    let refused = |command| !protocol.off.write(&mut world.clone(), job, command, None);
    let copied = world.copy.filter(|copy| copy.job == job).and_then(|copy| copy.command);
    copied.into_iter().all(refused)
        && world.actors.iter().all(|doing| match doing {
            Doing::Writing { job: at, command } => *at != job || refused(*command),
            Doing::Calling(held) | Doing::Counted { held, .. } => {
                let late = [capture(held.attempt), sign_of_life(held.attempt)];
                held.job != job || late.into_iter().map(Known::command).all(refused)
            }
            // A wish is looked at when it is written.
            Doing::Nothing
            | Doing::Submitting(_)
            | Doing::Sending(_)
            | Doing::Wishing(..)
            | Doing::Burying(..) => true,
        })
}

fn picture(protocol: &Protocol, world: &World, job: usize) -> bool {
    let entry = &world.jobs[job];
    let Some(record) = entry.record else { return true };
    let Stage::Settled(settled) = &record.stage else { return true };
    let Outcome::Drawn { image, .. } = &settled.outcome else { return true };
    u32::from(entry.objects[protocol.off.object_of(image.attempt)]) == image.attempt
}
