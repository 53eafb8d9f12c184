//! The queue as everybody may see it: numbers, and nobody's data.

use std::collections::BTreeMap;

use crate::id::ModelName;
use crate::time::Timestamp;

/// The jobs that wait for one model, as far as a look at the queue reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// How many.
    pub jobs: u64,
    /// Since when the first of them waits.
    pub oldest: Timestamp,
}

/// Sorts waiting jobs, each given by its model and the time since when it waits, into the lines of their models.
pub fn lines<'a>(waiting: impl IntoIterator<Item = (&'a ModelName, Timestamp)>) -> BTreeMap<ModelName, Line> {
    let mut lines: BTreeMap<ModelName, Line> = BTreeMap::new();
    for (model, since) in waiting {
        match lines.get_mut(model) {
            Some(line) => *line = Line { jobs: line.jobs + 1, oldest: line.oldest.min(since) },
            None => drop(lines.insert(model.clone(), Line { jobs: 1, oldest: since })),
        }
    }
    lines
}
