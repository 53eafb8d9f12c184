//! What the actors do with the answers of the stores. A refusal brings the record as it is.

use darkroom_core::job::{Job, Stage};
use darkroom_core::lifecycle::{
    Command, Ending, RefusedClaim, Rejection, Seen as SeenJob, apply, refused_claim,
};

use crate::common::{Shown, end, failure, stamp};
use crate::guards::Guard;
use crate::known::Known;
use crate::protocol::{Protocol, Seen, end_held};
use crate::store::looked_at;
use crate::world::{Doing, Fault, Held, OWNER, SWEEPERS, WORKERS, Wish, World, holds, tick};

impl Protocol {
    /// An actor's next write, under a fresh stamp: none that is on a record or on its way is its own any more.
    pub(crate) fn begin(&self, world: &mut World, actor: usize, job: usize, command: Command) {
        self.draw_stamp(world, actor);
        world.actors[actor] = Doing::Writing { job, command: Known::command(command) };
    }

    /// An actor has done its work, or has died.
    pub(crate) fn rest(&self, world: &mut World, actor: usize) {
        self.draw_stamp(world, actor);
        world.actors[actor] = Doing::Nothing;
    }

    fn draw_stamp(&self, world: &mut World, actor: usize) {
        if self.off.has(Guard::FreshStamp) {
            return;
        }
        for entry in &mut world.jobs {
            entry.op = entry.op.filter(|by| *by != actor);
        }
        if let Some(copy) = &mut world.copy {
            copy.by = copy.by.filter(|by| *by != actor);
        }
    }

    /// Whether an actor finds its stamp on the record.
    fn is_own(&self, world: &World, actor: usize, job: usize) -> bool {
        let is_shared = self.off.has(Guard::OwnStamp) && WORKERS.contains(&actor);
        world.jobs[job].op.is_some_and(|by| by == actor || (is_shared && WORKERS.contains(&by)))
    }

    /// The owner cancels the job as it is.
    pub(crate) fn ask(&self, world: &mut World, job: usize) {
        match world.record(job).map(|record| record.stage.clone()) {
            Some(Stage::Pending(_)) => {
                self.begin(world, OWNER, job, Command::CancelPending { end: end(tick(0)) });
            }
            Some(Stage::Processing(held)) if !held.cancel_requested => {
                self.begin(world, OWNER, job, Command::RequestCancel);
            }
            Some(Stage::Processing(_) | Stage::Settled(_)) | None => self.rest(world, OWNER),
        }
    }

    /// The owner wishes for something, without a look at the job: the store's condition is all that decides.
    pub(crate) fn wish(&self, world: &mut World, job: usize, wish: Wish) {
        self.draw_stamp(world, OWNER);
        world.wishes -= 1;
        if wish == Wish::Delete && self.off.has(Guard::RecordBeforeThePicture) {
            let attempt = world.record(job).and_then(|record| record.image().map(|image| image.attempt));
            if let Some(attempt) = attempt {
                self.off.delete_object(world, job, attempt);
            }
        }
        world.actors[OWNER] = Doing::Wishing(job, wish);
    }

    /// What the owner's wish comes to. A deleted job's picture goes after it.
    pub(crate) fn wished(&self, world: &mut World, job: usize, wish: Wish) {
        let before = world.record(job);
        let done = self.off.wish(world, job, wish, Some(OWNER));
        self.rest(world, OWNER);
        let is_live = before.is_some_and(|record| record.settlement().is_none());
        match wish {
            Wish::Publish if done => self.saw(Seen::Published),
            Wish::Unpublish if done => self.saw(Seen::TakenBack),
            Wish::Delete if done => {
                self.saw(Seen::Deleted);
                let attempt = before.and_then(|record| record.image().map(|image| image.attempt));
                if let Some(attempt) = attempt {
                    world.actors[OWNER] = Doing::Burying(job, attempt);
                }
            }
            Wish::Delete if is_live => self.saw(Seen::LiveJobNotDeleted),
            Wish::Publish | Wish::Unpublish | Wish::Delete => {}
        }
    }

    /// A worker has counted a call and goes on to make it.
    fn counted(&self, world: &mut World, actor: usize, job: usize) {
        let Some(record) = world.record(job) else { return self.rest(world, actor) };
        let Job { attempt, tries, calls, .. } = **record;
        world.faults.add(Fault::CallNotByTheHolder, !holds(&record, attempt));
        let held = Held { job, attempt, tries, calls };
        world.actors[actor] = Doing::Counted { held, is_fresh: true };
    }

    /// The socket opens, if the record does not tell otherwise to a worker that has to look again.
    pub(crate) fn call(&self, world: &mut World, actor: usize) {
        let Doing::Counted { held, is_fresh } = world.actors[actor] else { unreachable!() };
        let Some(record) = world.record(held.job) else { return self.rest(world, actor) };
        if !is_fresh && (!holds(&record, held.attempt) || record.is_cancel_requested()) {
            self.saw(Seen::NotCalledAfterALook);
            return self.not_counted(world, actor, held.job, held.attempt);
        }
        world.jobs[held.job].calls += 1;
        if world.jobs[held.job].calls == self.config.bounds.calls_max {
            self.saw(Seen::EveryCallUsed);
        }
        world.actors[actor] = Doing::Calling(held);
    }

    /// The next call may not be made: the owner asked to end the job, its calls are used, or it is not ours any more.
    fn not_counted(&self, world: &mut World, actor: usize, job: usize, attempt: u32) {
        match world.record(job).filter(|record| holds(record, attempt)) {
            Some(record) => {
                let cancelled = record.is_cancel_requested();
                let ending = if cancelled { Ending::Cancelled } else { Ending::Failed(failure()) };
                self.begin(world, actor, job, end_held(attempt, ending));
            }
            None => self.rest(world, actor),
        }
    }

    /// What an actor does with the answer to its write.
    pub(crate) fn answered(
        &self,
        world: &mut World,
        actor: usize,
        job: usize,
        command: Known<Command>,
        applied: bool,
    ) {
        let Some(record) = world.record(job) else { return self.rest(world, actor) };
        let is_as_made = self.off.has(Guard::StateBesideTheStamp) || command.has_made(&record);
        let done = applied || (self.is_own(world, actor, job) && is_as_made);
        self.note_end(world, actor, &record, &command, done);
        match *command {
            Command::Claim { .. } if applied => self.counted(world, actor, job),
            Command::Claim { .. } => self.refused(world, actor, job, &command),
            Command::CountCall { .. } if done && !record.is_cancel_requested() => {
                self.saw(Seen::TwoCallsInOneAttempt);
                self.counted(world, actor, job);
            }
            Command::CountCall { attempt, .. } => self.not_counted(world, actor, job, attempt),
            Command::Retry { .. } | Command::Release { .. } if !done => {
                if apply(&record, &command, stamp(0)).err() == Some(Rejection::CancelRequested) {
                    let ending = Ending::Cancelled;
                    return self.begin(world, actor, job, end_held(record.attempt, ending));
                }
                self.rest(world, actor);
            }
            Command::CancelPending { .. } | Command::RequestCancel if !done => self.ask(world, job),
            _ => self.rest(world, actor),
        }
    }

    fn refused(&self, world: &mut World, actor: usize, job: usize, claim: &Command) {
        let Command::Claim { now, bounds, .. } = *claim else { unreachable!() };
        let Some(record) = world.record(job) else { return self.rest(world, actor) };
        let (mine, is_own) = (stamp(1), self.is_own(world, actor, job));
        let refused = if is_own && self.off.has(Guard::StateBesideTheStamp) {
            RefusedClaim::Won
        } else {
            let op = if is_own { mine.clone() } else { stamp(0) };
            let looked = Job { op, ..looked_at(self.off, &record, now) };
            refused_claim(&looked, claim, &mine, now, bounds)
        };
        match refused {
            RefusedClaim::Won => {
                self.saw(Seen::ClaimWonThoughItsAnswerWasLost);
                self.counted(world, actor, job);
            }
            RefusedClaim::WonButCancelled => {
                self.begin(world, actor, job, end_held(record.attempt, Ending::Cancelled));
            }
            RefusedClaim::Early(_) | RefusedClaim::Leave(_) => self.rest(world, actor),
            RefusedClaim::End(_, failure) => {
                let Some(seen) = SeenJob::of(&record) else { return self.rest(world, actor) };
                let ending = Ending::Failed(failure);
                self.begin(world, actor, job, Command::EndAsSeen { seen, ending, end: end(tick(0)) });
            }
        }
    }

    /// Takes down what a search must have come by.
    fn note_end(&self, world: &World, actor: usize, record: &Shown, command: &Command, done: bool) {
        match command {
            Command::Capture { .. } if !done => self.saw(Seen::LatePictureRefused),
            Command::Capture { image, .. } => {
                self.saw(Seen::Captured);
                if image.attempt < record.attempt {
                    self.saw(Seen::CapturedFromAnOlderAttempt);
                }
                if world.owner_asked {
                    self.saw(Seen::CapturedAlthoughCancelWasAsked);
                }
            }
            _ if !done => {}
            Command::EndAsSeen { .. } if !SWEEPERS.contains(&actor) => self.saw(Seen::RefusedClaimEnded),
            Command::EndHeld { ending, .. } | Command::EndAsSeen { ending, .. } => match ending {
                Ending::Cancelled => self.saw(Seen::Cancelled),
                Ending::Failed(_) => self.saw(Seen::Failed),
            },
            Command::Requeue { .. } => self.saw(Seen::Requeued),
            Command::Release { uncalled, .. } => {
                self.saw(if *uncalled == 0 { Seen::Released } else { Seen::ACallGivenBack });
            }
            _ => {}
        }
    }
}
