//! The protocol as a model: everything that may happen next, and the state after it.
//!
//! A write is decided at one moment and done at a later one. It may be done twice: a first copy, whose answer was
//! lost, at any later time or never, beside its repetition under the same stamp. A message may come at any time, any number
//! of times or never, so it needs no place in the state. Whoever works goes on when its lease is over.

use std::sync::atomic::{AtomicU32, Ordering};

use darkroom_core::breaker::{Breaker, OpenReason, State};
use darkroom_core::job::WaitReason;
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::lifecycle::{Command, Ending, RefusedClaim, Seen as AsSeen, unclaimable};
use darkroom_core::pace::Pace;
use darkroom_core::sweep::{Rules, SweepAction, paced, sweep_action};
use stateright::{Model, Property};

use crate::common::{Shown, command, end, failure, rules, seconds};
use crate::guards::{Guard, Off};
use crate::known::Known;
use crate::properties::properties;
use crate::steps::Step;
use crate::store::{Created, capture};
use crate::world::{Config, Copied, Doing, Held, World, holds, tick};

/// The protocol of a world, without the guards that are off.
pub(crate) struct Protocol {
    pub(crate) config: Config,
    pub(crate) off: Off,
    seen: AtomicU32,
}

/// What a search must have come by, or it has not searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Captured,
    CapturedFromAnOlderAttempt,
    CapturedAlthoughCancelWasAsked,
    Failed,
    Cancelled,
    Requeued,
    Released,
    ACallGivenBack,
    TwoCallsInOneAttempt,
    RefusedClaimEnded,
    LatePictureRefused,
    EveryCallUsed,
    NotCalledAfterALook,
    SweeperWaited,
    KeyUsedTwice,
    ClaimWonThoughItsAnswerWasLost,
    SubmissionKnownByItsStamp,
    Published,
    TakenBack,
    Deleted,
    LiveJobNotDeleted,
    KeyOfADeletedJob,
}

impl Seen {
    /// Where the owner does something with what is over.
    pub(crate) const OF_WISHES: [Self; 5] =
        [Self::Published, Self::TakenBack, Self::Deleted, Self::LiveJobNotDeleted, Self::KeyOfADeletedJob];
    pub(crate) const ALL: [Self; 22] = [
        Self::Captured,
        Self::CapturedFromAnOlderAttempt,
        Self::CapturedAlthoughCancelWasAsked,
        Self::Failed,
        Self::Cancelled,
        Self::Requeued,
        Self::Released,
        Self::ACallGivenBack,
        Self::TwoCallsInOneAttempt,
        Self::RefusedClaimEnded,
        Self::LatePictureRefused,
        Self::EveryCallUsed,
        Self::NotCalledAfterALook,
        Self::SweeperWaited,
        Self::KeyUsedTwice,
        Self::ClaimWonThoughItsAnswerWasLost,
        Self::SubmissionKnownByItsStamp,
        Self::Published,
        Self::TakenBack,
        Self::Deleted,
        Self::LiveJobNotDeleted,
        Self::KeyOfADeletedJob,
    ];
}

impl Protocol {
    pub(crate) fn new(config: Config, off: Off) -> Self {
        Self { config, off, seen: AtomicU32::new(0) }
    }

    pub(crate) fn saw(&self, seen: Seen) {
        self.seen.fetch_or(1 << seen as u32, Ordering::Relaxed);
    }

    /// What the search has not come by.
    pub(crate) fn not_seen(&self) -> Vec<Seen> {
        let seen = self.seen.load(Ordering::Relaxed);
        Seen::ALL.into_iter().filter(|what| seen >> *what as u32 & 1 == 0).collect()
    }

    /// What a sweep at this moment does with a job.
    pub(crate) fn sweeps(&self, record: &Shown, now: u64) -> SweepAction {
        sweep_action(record, tick(now), &self.rules())
    }

    /// The same while the model's breaker is open for another tick.
    fn sweeps_paced(&self, record: &Shown, action: SweepAction, now: u64) -> SweepAction {
        let (at, reason) = (tick(now), OpenReason::Failures);
        let state = State::Open { at, until: tick(now + 1), reason, openings: 1 };
        let breaker = Breaker { state, ..Breaker::default() };
        paced(record, action, &mut Pace::keyless(&breaker, at), at, &self.rules())
    }

    fn rules(&self) -> Rules {
        Rules { bounds: self.config.bounds, wake: seconds(60), ahead: seconds(0), ..rules() }
    }

    /// What an actor does after it has read, or been told.
    fn decide(&self, world: &mut World, step: Step) {
        let now = world.now;
        match step {
            Step::Claim(actor, job) => {
                let lease_until = tick(now + self.config.lease);
                let claim = Command::Claim { now: tick(now), lease_until, bounds: self.config.bounds };
                self.begin(world, actor, job, claim);
            }
            Step::Look(actor, job) => {
                let record = world.record(job).unwrap();
                let Some(RefusedClaim::End(seen, why)) = unclaimable(&record, tick(now), self.config.bounds)
                else {
                    unreachable!()
                };
                let ending = Ending::Failed(why);
                self.begin(world, actor, job, Command::EndAsSeen { seen, ending, end: end(tick(0)) });
            }
            Step::Undrawable(actor, job) => {
                let attempt = world.record(job).unwrap().attempt;
                let (seen, ending) = (AsSeen::Pending { attempt }, Ending::Failed(failure()));
                self.begin(world, actor, job, Command::EndAsSeen { seen, ending, end: end(tick(0)) });
            }
            Step::Defer(actor, job) => {
                let record = world.record(job).unwrap();
                let command = Command::defer(&record, tick(now + 1), WaitReason::BreakerOpen);
                self.begin(world, actor, job, command);
            }
            Step::Sweep(actor, job) | Step::SweepWaits(actor, job) => {
                let record = world.record(job).unwrap();
                let mut action = self.sweeps(&record, now);
                if matches!(step, Step::SweepWaits(..)) {
                    action = self.sweeps_paced(&record, action, now);
                    self.saw(Seen::SweeperWaited);
                }
                if let Some(command) = command(&action).cloned() {
                    self.begin(world, actor, job, command);
                }
            }
            Step::Cancel(job) => {
                world.owner_asked = true;
                self.ask(world, job);
            }
            Step::Wish(job, wish) => self.wish(world, job, wish),
            _ => self.answer(world, step),
        }
    }

    /// What a worker does after a provider's answer, or before it calls.
    fn answer(&self, world: &mut World, step: Step) {
        let (Step::Drawn(actor)
        | Step::Failed(actor)
        | Step::Retry(actor)
        | Step::Release(actor)
        | Step::OtherKey(actor)) = step
        else {
            unreachable!()
        };
        let (held, uncalled) = match world.actors[actor] {
            Doing::Calling(held) => (held, 0),
            Doing::Counted { held, .. } => {
                world.uncalled -= 1;
                (held, 1)
            }
            _ => unreachable!(),
        };
        let Held { job, attempt, .. } = held;
        if uncalled == 0 && self.off.has(Guard::CountBeforeTheCall) {
            count_late(world, held);
        }
        let (now, at) = (tick(world.now), tick(world.now + 1));
        let mine = |world: &World| {
            let job = darkroom_core::job::Job::clone(&world.record(job).unwrap());
            darkroom_core::job::Job { attempt, ..job }
        };
        let command = match step {
            Step::Drawn(_) => {
                self.off.put_object(world, job, attempt);
                capture(attempt)
            }
            Step::Retry(_) => Command::retry(&mine(world), now, at, JobErrorCode::ProviderUnavailable),
            Step::Release(_) => Command::release(&mine(world), now, at, WaitReason::BreakerOpen, uncalled),
            Step::OtherKey(_) => Command::CountCall { attempt, calls_max: self.config.bounds.calls_max },
            _ => end_held(attempt, Ending::Failed(failure())),
        };
        self.begin(world, actor, job, command);
    }

    fn act(&self, world: &mut World, step: Step) {
        match step {
            Step::Tick => {
                world.now += 1;
                for doing in &mut world.actors {
                    if let Doing::Counted { is_fresh, .. } = doing {
                        *is_fresh = false;
                    }
                }
            }
            Step::Expire(job) => {
                let entry = &mut world.jobs[job];
                (entry.record, entry.op, entry.calls, entry.objects) =
                    (None, None, 0, <[u8; crate::world::ATTEMPTS]>::default());
                entry.tombstone = None;
                entry.expired += 1;
            }
            Step::Submit(actor, job) => {
                world.submissions += 1;
                world.actors[actor] = Doing::Submitting(job);
            }
            Step::Sent(actor) => self.rest(world, actor),
            Step::SendFailed(actor) => {
                let Doing::Sending(job) = world.actors[actor] else { unreachable!() };
                // Due at once; the attempt is the submission's.
                let (not_before, reason) = (tick(world.now), WaitReason::Capacity);
                self.begin(world, actor, job, Command::Defer { attempt: 0, not_before, reason });
            }
            Step::Call(actor) => self.call(world, actor),
            Step::Progress(actor) => {
                let Doing::Calling(held) = world.actors[actor] else { unreachable!() };
                self.off.write(world, held.job, Known::command(sign_of_life(held.attempt)), None);
            }
            Step::Write(actor) => match world.actors[actor] {
                Doing::Submitting(job) => {
                    let created = self.off.create(world, job, Some(actor), self.config);
                    self.created(world, actor, job, created);
                }
                Doing::Writing { job, command } => {
                    let applied = self.off.write(world, job, command, Some(actor));
                    self.answered(world, actor, job, command, applied);
                }
                Doing::Wishing(job, wish) => self.wished(world, job, wish),
                Doing::Burying(job, attempt) => {
                    self.off.delete_object(world, job, attempt);
                    self.rest(world, actor);
                }
                _ => unreachable!(),
            },
            Step::Double(actor) => {
                world.copies -= 1;
                let (job, command) = match world.actors[actor] {
                    Doing::Submitting(job) => (job, None),
                    Doing::Writing { job, command } => (job, Some(command)),
                    _ => unreachable!(),
                };
                world.copy = Some(Copied { job, command, by: Some(actor) });
            }
            Step::LateCopy => {
                let Copied { job, command, by } = world.copy.take().unwrap();
                match command {
                    Some(command) => _ = self.off.write(world, job, command, by),
                    None => _ = self.off.create(world, job, by, self.config),
                }
            }
            Step::Crash(actor) => {
                world.crashes -= 1;
                self.rest(world, actor);
            }
            step => self.decide(world, step),
        }
    }

    fn created(&self, world: &mut World, actor: usize, job: usize, created: Created) {
        match created {
            Created::New => {
                if world.copy.is_none() && world.copies < self.config.copies {
                    self.saw(Seen::SubmissionKnownByItsStamp);
                }
                if self.config.send_fails {
                    world.actors[actor] = Doing::Sending(job);
                } else {
                    self.rest(world, actor);
                }
            }
            Created::Existing => {
                let is_deleted = world.jobs[job].tombstone.is_some();
                self.saw(if is_deleted { Seen::KeyOfADeletedJob } else { Seen::KeyUsedTwice });
                self.rest(world, actor);
            }
            Created::Refused => self.rest(world, actor),
        }
    }
}

/// The call is counted when its answer has come: what the protocol does not do.
fn count_late(world: &mut World, held: Held) {
    if let Some(record) = world.live(held.job).filter(|record| holds(record, held.attempt)) {
        let mut job = darkroom_core::job::Job::clone(&record);
        job.calls += 1;
        world.jobs[held.job].record = Some(Known::job(job));
    }
}

/// Two of one attempt are told apart by nothing that matters.
pub(crate) fn sign_of_life(attempt: u32) -> Command {
    Command::Progress { attempt, now: tick(0), progress: 50 }
}

pub(crate) fn end_held(attempt: u32, ending: Ending) -> Command {
    Command::EndHeld { attempt, ending, end: end(tick(0)) }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::start(self.config)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.steps(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = *world;
        self.act(&mut next, step);
        Some(next.canonical(self.config))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}
