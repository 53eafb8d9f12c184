//! What one process knows of a model's scopes and keys, and of its own first calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use darkroom_aws::now;
use darkroom_core::id::ProjectName;
use darkroom_core::key::{ApiKey, Scope};
use darkroom_core::time::Timestamp;
use tokio::sync::futures::Notified;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::invocation::Slot;

/// Claiming a job takes about so many round trips of a store, and half of one more for each other job that this process
/// claims at the same time: a slot is asked for that much later than now, or it would be over before its call. A job that is
/// claimed already needs only the reservation's.
const LEAD_ROUND_TRIPS: u32 = 3;
/// What claims are given at most.
const LEAD_MAX: Duration = Duration::from_secs(1);

/// What one process knows of one model.
pub(crate) type SharedSeen = Arc<ModelPool>;

#[derive(Default)]
pub(crate) struct ModelPool {
    /// Held while blocks are reserved: one process's messages do not race each other for a scope.
    pub(crate) seen: AsyncMutex<Seen>,
    /// Told to jobs that were claimed ahead: there may be a slot for them.
    free: Notify,
    /// Jobs that were claimed ahead and wait for a slot that was promised.
    ahead: AtomicU32,
}

impl ModelPool {
    /// Nothing seen yet. `fraction`, uniform in 0..1, is where its turn begins.
    pub(crate) fn beginning_at(fraction: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 999")]
        let turn = (fraction * 1_000.0) as usize;
        Self { seen: AsyncMutex::new(Seen { turn, ..Seen::default() }), ..Self::default() }
    }

    /// Jobs that wait for a slot that was promised.
    pub(crate) fn claimed_ahead(&self) -> u32 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// When one of them is woken.
    pub(crate) fn slot_is_free(&self) -> Notified<'_> {
        self.free.notified()
    }

    /// Wakes so many of the jobs that were claimed ahead.
    pub(crate) fn wake(&self, jobs: usize) {
        for _ in 0..jobs.min(self.ahead.load(Ordering::Relaxed) as usize) {
            self.free.notify_one();
        }
    }
}

/// A job's part in what the process's first calls promise, from then until it has its slot or waits no more.
pub(crate) struct Promise(SharedSeen);

impl Promise {
    /// One more job is claimed ahead.
    pub(crate) fn of(shared: &SharedSeen) -> Self {
        shared.ahead.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.ahead.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One model's scopes and keys, as last read or written.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) read_at: Timestamp,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) keys: Vec<ApiKey>,
    /// Whose turn it is among equals; processes begin at different ones.
    pub(crate) turn: usize,
    /// The longest of the latest round trips to the store, halved with each shorter one.
    pub(crate) round_trip: Duration,
    /// First calls of this process.
    trials: Vec<Trial>,
    /// This process's next block begins then at the earliest.
    pub(crate) next_block_at: Timestamp,
}

/// Key and scope after a first call, where they were written.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) key: Option<ApiKey>,
    pub(crate) scope: Option<Scope>,
}

/// A first call that is under way.
struct Trial {
    project: ProjectName,
    /// Calls that follow when it is granted.
    promises: u32,
    until: Timestamp,
}

impl Seen {
    pub(crate) fn is_younger_than(&self, fresh: Duration) -> bool {
        now().finds_fresh(self.read_at, fresh)
    }

    /// How long this process's claims take, as far as the store's latest answers tell.
    pub(crate) fn lead(&self, claims: u32) -> Duration {
        (self.round_trip * (LEAD_ROUND_TRIPS + claims / 2)).min(LEAD_MAX)
    }

    /// Not before this process's own blocks are sent. What lies further ahead than these reach was noted by another clock.
    pub(crate) fn after_own_blocks(&self, at: Timestamp) -> Timestamp {
        at.max(self.next_block_at.min(at.plus(LEAD_MAX)))
    }

    pub(crate) fn took(&mut self, round_trip: Duration) {
        self.round_trip = round_trip.max(self.round_trip / 2).min(LEAD_MAX);
    }

    /// Calls that follow this process's first calls when those are granted.
    pub(crate) fn promises(&self) -> u32 {
        let at = now();
        self.trials.iter().filter(|trial| trial.until > at).map(|trial| trial.promises).sum()
    }

    /// A first call of this scope is under way.
    pub(crate) fn begin_trial(&mut self, scope: &Scope, until: Timestamp) {
        self.trials.push(Trial { project: scope.project.clone(), promises: scope.promises(), until });
    }

    /// A first call is over.
    pub(crate) fn ended(&mut self, slot: &Slot, ended: Ended) {
        self.trials.retain(|trial| trial.project != slot.scope.project);
        ended.key.into_iter().for_each(|key| self.put_key(key));
        ended.scope.into_iter().for_each(|scope| self.put_scope(&slot.scope.project, Some(scope)));
    }

    /// The scope as it is now; without one it is gone.
    pub(crate) fn put_scope(&mut self, project: &ProjectName, scope: Option<Scope>) {
        let Some(index) = self.scopes.iter().position(|other| other.project == *project) else { return };
        match (self.scopes.get_mut(index), scope) {
            (Some(place), Some(scope)) => *place = scope,
            _ => drop(self.scopes.remove(index)),
        }
    }

    pub(crate) fn put_key(&mut self, key: ApiKey) {
        if let Some(place) = self.keys.iter_mut().find(|other| other.id == key.id) {
            *place = key;
        }
    }
}
