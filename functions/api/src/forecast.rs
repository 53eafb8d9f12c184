//! When the next jobs of a model may start, read from the pool at most once a second per process and model.

use std::collections::HashMap;
use std::time::Duration;

use darkroom_aws::Pacer;
use darkroom_core::id::ModelName;
use darkroom_core::model::Model;
use darkroom_core::pace::{Pace, Turn};
use darkroom_core::time::Timestamp;
use tokio::sync::Mutex;

/// The pool is read again when the last look is older.
const FRESH: Duration = Duration::from_secs(1);

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
        let is_fresh = all.get(&model.name).is_some_and(|seen| now.since(seen.read_at) < FRESH);
        if !is_fresh {
            let pace = self.pacer.pace(models, model, now, &[]).await.unwrap_or_else(|error| {
                tracing::warn!(model.name = %model.name, error = %error, "the pool could not be read");
                None
            });
            all.insert(model.name.clone(), Seen { read_at: now, pace, turns: Vec::new() });
        }
        all.get_mut(&model.name).and_then(|seen| seen.turn(nth))
    }
}

impl Seen {
    fn turn(&mut self, nth: u64) -> Option<Turn> {
        let wanted = usize::try_from(nth.max(1)).ok()?;
        while self.turns.len() < wanted {
            let turn = self.pace.as_mut()?.take()?;
            self.turns.push(turn);
        }
        self.turns.get(wanted - 1).copied()
    }
}
