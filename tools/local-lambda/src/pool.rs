//! The environments of one function: which are idle, how many there may be, and who gets the next invocation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};

use crate::environment::{self, Beginning, Invocation};
use crate::error::InvokeError;
use crate::function::FunctionSettings;
use crate::lambda::House;
use crate::log::FunctionLog;
use crate::stats::Stats;

/// Whether environments are wanted, and if not, how long they have after SIGTERM.
pub(crate) type Stop = Option<Duration>;

/// The way to an environment that takes one invocation.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) number: u64,
    pub(crate) inbox: mpsc::Sender<Invocation>,
}

#[derive(Default)]
struct Environments {
    started: u64,
    stopping: bool,
    /// Most recently used last. Each is open for exactly one invocation.
    idle: Vec<Door>,
    /// All that live, with their process ids once they have one.
    live: BTreeMap<u64, Option<u32>>,
}

/// One unit of reserved concurrency. It travels with its invocation and comes back when the environment is idle
/// again or gone, so there are never more environments at work than units.
pub(crate) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // First the permit, so that whoever is woken finds it.
        self.permit = None;
        self.freed.notify_waiters();
    }
}

/// One function's environments.
pub(crate) struct Pool {
    pub(crate) settings: FunctionSettings,
    pub(crate) house: Arc<House>,
    pub(crate) log: Arc<FunctionLog>,
    slots: Arc<Semaphore>,
    freed: Arc<Notify>,
    environments: Mutex<Environments>,
    stats: Mutex<Stats>,
    stop: watch::Sender<Stop>,
    live_count: watch::Sender<usize>,
}

impl Pool {
    pub(crate) fn new(settings: FunctionSettings, house: Arc<House>, log: FunctionLog) -> Arc<Self> {
        // More permits than the semaphore can count is as good as no limit.
        let slots = Arc::new(Semaphore::new(settings.reserved_concurrency.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            settings,
            house,
            log: Arc::new(log),
            slots,
            freed: Arc::default(),
            environments: Mutex::default(),
            stats: Mutex::default(),
            stop: watch::Sender::new(None),
            live_count: watch::Sender::new(0),
        })
    }

    fn environments(&self) -> MutexGuard<'_, Environments> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the counts.
    pub(crate) fn stats<T>(&self, with: impl FnOnce(&mut Stats) -> T) -> T {
        with(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn arn(&self) -> String {
        let lambda = &self.house.settings;
        format!("arn:aws:lambda:{}:{}:function:{}", lambda.region, lambda.account_id, self.settings.name)
    }

    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.environments().live.values().copied().flatten().collect()
    }

    pub(crate) fn stop_signal(&self) -> watch::Receiver<Stop> {
        self.stop.subscribe()
    }

    /// A unit of concurrency, or the refusal.
    pub(crate) fn try_slot(&self) -> Result<Slot, InvokeError> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => self.throttled(),
            TryAcquireError::Closed => InvokeError::Stopped,
        });
        Ok(self.taken(permit?))
    }

    fn taken(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot { permit: Some(permit), freed: Arc::clone(&self.freed) }
    }

    /// A unit of concurrency, when there is one.
    pub(crate) async fn slot(&self) -> Result<Slot, InvokeError> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| InvokeError::Stopped)?;
        Ok(self.taken(permit))
    }

    /// Returns when a unit is free, without taking it: a unit held by somebody who is only looking would throttle an
    /// invocation.
    pub(crate) async fn free(&self) -> Result<(), InvokeError> {
        loop {
            let freed = self.freed.notified();
            if self.slots.is_closed() {
                return Err(InvokeError::Stopped);
            }
            if self.slots.available_permits() > 0 {
                return Ok(());
            }
            freed.await;
        }
    }

    pub(crate) fn throttled(&self) -> InvokeError {
        self.stats(|stats| stats.throttles += 1);
        InvokeError::Throttled { reserved: self.settings.reserved_concurrency }
    }

    /// Gives a new invocation to an environment.
    pub(crate) fn dispatch(self: &Arc<Self>, invocation: Invocation) {
        self.stats(|stats| stats.invocations += 1);
        self.place(invocation);
    }

    /// Gives an invocation that no handler has seen to the most recently used idle environment, else to a new one.
    pub(crate) fn place(self: &Arc<Self>, mut invocation: Invocation) {
        loop {
            let idle = {
                let mut environments = self.environments();
                if environments.stopping {
                    drop(environments);
                    return invocation.refuse(InvokeError::Stopped);
                }
                environments.idle.pop()
            };
            let Some(door) = idle else {
                return self.begin(Beginning::Invocation(invocation));
            };
            match door.inbox.try_send(invocation) {
                Ok(()) => return,
                // It has ended since; whoever is next takes it.
                Err(refused) => invocation = refused.into_inner(),
            }
        }
    }

    fn begin(self: &Arc<Self>, beginning: Beginning) {
        let mut environments = self.environments();
        environments.started += 1;
        let number = environments.started;
        environments.live.insert(number, None);
        self.live_count.send_replace(environments.live.len());
        drop(environments);
        self.stats(|stats| stats.environments_started += 1);
        // One place: an environment is idle for one invocation at a time.
        let (inbox, invocations) = mpsc::channel(1);
        tokio::spawn(environment::run(Arc::clone(self), Door { number, inbox }, invocations, beginning));
    }

    /// Starts environments until `wanted` live.
    pub(crate) async fn warm(self: &Arc<Self>, wanted: usize) -> Result<(), InvokeError> {
        let mut ready = Vec::new();
        while self.environments().live.len() < wanted.min(self.settings.reserved_concurrency) {
            let slot = self.try_slot()?;
            let (reply, up) = oneshot::channel();
            self.begin(Beginning::Warm { slot, reply });
            ready.push(up);
        }
        for up in ready {
            up.await.unwrap_or(Err(InvokeError::Stopped))?;
        }
        Ok(())
    }

    pub(crate) fn has_process(&self, number: u64, process_id: u32) {
        self.environments().live.insert(number, Some(process_id));
    }

    /// The environment takes an invocation from now on.
    pub(crate) fn idle(&self, door: Door) {
        self.environments().idle.push(door);
    }

    /// Takes an environment out of the idle ones. False when an invocation is already on its way to it.
    pub(crate) fn withdraw(&self, number: u64) -> bool {
        let mut environments = self.environments();
        let before = environments.idle.len();
        environments.idle.retain(|door| door.number != number);
        environments.idle.len() < before
    }

    /// The environment's process is gone.
    pub(crate) fn ended(&self, number: u64) {
        let mut environments = self.environments();
        environments.idle.retain(|door| door.number != number);
        environments.live.remove(&number);
        self.live_count.send_replace(environments.live.len());
    }

    /// No invocation is taken any more, and environments end.
    pub(crate) fn stop(&self, grace: Duration) {
        self.environments().stopping = true;
        self.slots.close();
        self.freed.notify_waiters();
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            if first {
                *stop = Some(grace);
            }
            first
        });
    }

    /// Returns when no environment is left.
    pub(crate) async fn stopped(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.live_count.subscribe().wait_for(|live| *live == 0).await;
    }
}
