//! What may happen next.

use darkroom_core::job::Stage;
use darkroom_core::lifecycle::{RefusedClaim, unclaimable};
use darkroom_core::sweep::SweepAction;

use crate::common::{Shown, seconds};
use crate::guards::Write;
use crate::known::Known;
use crate::protocol::{Protocol, Seen};
use crate::world::{Doing, Held, OWNER, SUBMITTERS, SWEEPERS, WORKERS, Wish, World, tick};

/// What may happen. Actors and jobs by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Tick,
    Expire(usize),
    Submit(usize, usize),
    Sent(usize),
    SendFailed(usize),
    Claim(usize, usize),
    /// A message is read ahead, and nothing is left for its job.
    Look(usize, usize),
    Defer(usize, usize),
    /// Nothing may draw it: no key, no model.
    Undrawable(usize, usize),
    Call(usize),
    Drawn(usize),
    Failed(usize),
    Retry(usize),
    Release(usize),
    OtherKey(usize),
    Progress(usize),
    Sweep(usize, usize),
    SweepWaits(usize, usize),
    Cancel(usize),
    Wish(usize, Wish),
    Write(usize),
    Double(usize),
    LateCopy,
    Crash(usize),
}

impl Protocol {
    /// Everything that may happen next.
    pub(crate) fn steps(&self, world: &World, steps: &mut Vec<Step>) {
        if self.is_over(world) {
            return;
        }
        let jobs = 0..self.config.jobs;
        let lasts = |job| {
            let over_at =
                |record: Known<Shown>| record.order.deadline_at.plus(seconds(60 * self.config.lease));
            world.live(job).is_some_and(|record| world.now() < over_at(record))
        };
        if jobs.clone().any(lasts) {
            steps.push(Step::Tick);
        }
        let is_quiet = world.copy.is_none() && world.actors == [Doing::Nothing; 7];
        for job in jobs.filter(|_| self.config.expires && is_quiet) {
            let entry = &world.jobs[job];
            // Days later, when whoever worked on it has long gone.
            let is_over = entry.record.is_some() || entry.tombstone.is_some();
            if is_over && world.live(job).is_none() && entry.expired == 0 {
                steps.push(Step::Expire(job));
            }
        }
        for actor in self.actors() {
            if !world.is_twin(actor) {
                self.actor(world, actor, steps);
            }
        }
        if world.copy.is_some() {
            steps.push(Step::LateCopy);
        }
    }

    fn submitter(&self, world: &World, actor: usize, job: usize, steps: &mut Vec<Step>) {
        // With one job, two submissions are of the same key.
        let is_its = self.config.jobs == 1 || actor == SUBMITTERS[job];
        if is_its && world.submissions < self.config.submissions {
            steps.push(Step::Submit(actor, job));
        }
    }

    fn idle_worker(&self, world: &World, actor: usize, job: usize, steps: &mut Vec<Step>) {
        let Some(record) = world.live(job) else { return };
        steps.push(Step::Claim(actor, job));
        if let Some(RefusedClaim::End(..)) = unclaimable(&record, world.now(), self.config.bounds) {
            steps.push(Step::Look(actor, job));
        }
        if matches!(record.stage, Stage::Pending(_)) {
            steps.push(Step::Undrawable(actor, job));
        }
        // A job that waits already is not moved on.
        if matches!(&record.stage, Stage::Pending(wait) if wait.not_before <= world.now()) {
            steps.push(Step::Defer(actor, job));
        }
    }

    fn calling(&self, world: &World, actor: usize, held: Held, steps: &mut Vec<Step>) {
        steps.push(Step::Drawn(actor));
        // Once it is settled, a late picture is all that matters.
        let Some(record) = world.live(held.job) else { return };
        steps.extend([Step::Failed(actor), Step::OtherKey(actor)]);
        if self.config.signs_of_life {
            steps.push(Step::Progress(actor));
        }
        let bounds = self.config.bounds;
        let calls_left = held.calls < bounds.calls_max;
        if calls_left {
            steps.push(Step::Release(actor));
        }
        // Otherwise it fails instead.
        let in_time = tick(world.now + 1) < record.order.deadline_at;
        if calls_left && held.tries < bounds.attempts_max && in_time {
            steps.push(Step::Retry(actor));
        }
    }

    fn idle_sweeper(&self, world: &World, actor: usize, job: usize, steps: &mut Vec<Step>) {
        let Some(record) = world.live(job) else { return };
        if record.due_at().is_none_or(|due_at| due_at > world.now()) {
            return;
        }
        match self.sweeps(&record, world.now) {
            SweepAction::Leave => {}
            SweepAction::Send { .. } => {
                steps.extend([Step::Sweep(actor, job), Step::SweepWaits(actor, job)]);
            }
            _ => steps.push(Step::Sweep(actor, job)),
        }
    }

    fn actor(&self, world: &World, actor: usize, steps: &mut Vec<Step>) {
        let jobs = 0..self.config.jobs;
        match world.actors[actor] {
            Doing::Nothing if actor == OWNER => {
                let may = |job: &usize| !world.owner_asked && world.live(*job).is_some();
                steps.extend(jobs.clone().filter(may).map(Step::Cancel));
                let may = |job: &usize| world.wishes > 0 && world.record(*job).is_some();
                let wishes = [Wish::Publish, Wish::Unpublish, Wish::Delete];
                steps.extend(jobs.filter(may).flat_map(|job| wishes.map(|wish| Step::Wish(job, wish))));
            }
            Doing::Nothing if SWEEPERS.contains(&actor) => {
                jobs.for_each(|job| self.idle_sweeper(world, actor, job, steps));
            }
            Doing::Nothing if SUBMITTERS.contains(&actor) => {
                jobs.for_each(|job| self.submitter(world, actor, job, steps));
            }
            Doing::Nothing => jobs.for_each(|job| self.idle_worker(world, actor, job, steps)),
            Doing::Counted { held, .. } => {
                steps.push(Step::Call(actor));
                if world.uncalled > 0 && world.live(held.job).is_some() {
                    steps.push(Step::Release(actor));
                }
            }
            Doing::Calling(held) => self.calling(world, actor, held, steps),
            Doing::Writing { .. } | Doing::Submitting(_) => {
                steps.push(Step::Write(actor));
                if world.copies > 0 {
                    steps.push(Step::Double(actor));
                }
            }
            Doing::Wishing(..) | Doing::Burying(..) => steps.push(Step::Write(actor)),
            Doing::Sending(_) => steps.extend([Step::Sent(actor), Step::SendFailed(actor)]),
        }
        if world.crashes > 0 && actor != OWNER && world.actors[actor] != Doing::Nothing {
            steps.push(Step::Crash(actor));
        }
    }

    /// Whether no step can change anything any more: all that is under way is refused, as the properties look after.
    fn is_over(&self, world: &World) -> bool {
        let all_settled = (0..self.config.jobs)
            .all(|job| world.record(job).is_some_and(|record| record.settlement().is_some()));
        let late_picture = |doing: &Doing| matches!(doing, Doing::Writing { command, .. } if Write::of(command) == Write::Capture);
        let is_wished = world.wishes > 0 || world.actors[OWNER] != Doing::Nothing;
        let is_over = all_settled && !self.config.expires && !(self.config.wishes > 0 && is_wished);
        if is_over && world.actors.iter().any(late_picture) {
            self.saw(Seen::LatePictureRefused);
        }
        is_over
    }

    fn actors(&self) -> impl Iterator<Item = usize> {
        let workers = WORKERS.into_iter().take(self.config.workers);
        let sweepers = SWEEPERS.into_iter().take(self.config.sweepers);
        let owner = self.config.owner.then_some(OWNER);
        workers.chain(sweepers).chain(owner).chain(SUBMITTERS)
    }
}
