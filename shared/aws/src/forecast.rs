//! When the next jobs of a model may start, read from the pool every few seconds at most per process and model.

use std::collections::HashMap;
use std::time::Duration;

use darkroom_core::id::ModelName;
use darkroom_core::job::WaitReason;
use darkroom_core::model::Model;
use darkroom_core::pace::{Pace, Turn};
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::pacer::Pacer;

/// The pool is read again when the last look is older: three reads and more, of items that workers write.
const FRESH: Duration = Duration::from_secs(3);

/// What this process has read of each model.
pub(crate) struct Forecast {
    pacer: Pacer,
    models: Mutex<HashMap<ModelName, Seen>>,
}

/// One model's next turns.
struct Seen {
    read_at: Timestamp,
    /// `None` where nothing is limited.
    pace: Option<Pace>,
    /// Those that were asked for so far, in order.
    turns: Vec<Turn>,
}

impl Forecast {
    pub(crate) fn new(pacer: Pacer) -> Self {
        Self { pacer, models: Mutex::default() }
    }

    /// The turn of the `nth` job in the queue, from 1, as if all before it wanted the same model; `None` where
    /// nothing is limited, or time alone frees nothing. A pool that cannot be read is logged: the job is shown all the same.
    pub(crate) async fn turn(
        &self,
        models: &[Model],
        model: &Model,
        nth: u64,
        now: Timestamp,
    ) -> Option<Turn> {
        let mut all = self.models.lock().await;
        let is_fresh = all.get(&model.name).is_some_and(|seen| now.finds_fresh(seen.read_at, FRESH));
        if !is_fresh {
            let pace = self.pacer.pace(models, model, now, &[]).await.unwrap_or_else(|error| {
                tracing::warn!(model.name = %model.name, error = %error, "the pool could not be read");
                None
            });
            all.insert(model.name.clone(), Seen::of(pace, now));
        }
        all.get_mut(&model.name).and_then(|seen| seen.turn(nth))
    }
}

impl Seen {
    /// The first turns are those that are reserved: their jobs are in the queue until they are called.
    fn of(pace: Option<Pace>, read_at: Timestamp) -> Self {
        let reserved = pace.iter().flat_map(Pace::reserved);
        let turns = reserved.map(|at| Turn { at: *at, reason: WaitReason::Quota, is_firm: true }).collect();
        Self { read_at, pace, turns }
    }

    fn turn(&mut self, nth: u64) -> Option<Turn> {
        let wanted = usize::try_from(nth.max(1)).ok()?;
        while self.turns.len() < wanted {
            let turn = self.pace.as_mut()?.take()?;
            self.turns.push(turn);
        }
        self.turns.get(wanted - 1).copied()
    }
}
