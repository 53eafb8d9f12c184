//! What a stand-in saw.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A picture was sent.
    Drawn,
    /// Answered with this status and word: `429 RATE_LIMIT`, `400 API_KEY_INVALID`, `200 IMAGE_SAFETY`.
    Answered(u16, String),
    /// The connection was broken on purpose.
    Reset,
    /// The client went away before the answer.
    Abandoned,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it arrived, since the start.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// The key it came with; empty when there was none.
    pub key: String,
    /// The key's project; empty for an unknown key.
    pub project: String,
    /// The model it named.
    pub model: String,
    /// Its prompt; empty when it could not be read.
    pub prompt: String,
    /// The picture that it brought, with the type that it was said to be.
    pub reference: Option<(String, Bytes)>,
    /// What came of it.
    pub outcome: Outcome,
}

#[derive(Debug)]
pub(crate) struct Log {
    start: Instant,
    /// In the order of arrival; `None` while under way.
    calls: Vec<Option<Call>>,
    /// Raised by clearing, so that a call that ends afterwards finds no place.
    cleared: usize,
    in_flight: usize,
    in_flight_max: usize,
    drawn: usize,
    connections: usize,
}

impl Log {
    pub(crate) const fn new(start: Instant) -> Self {
        Self {
            start,
            calls: Vec::new(),
            cleared: 0,
            in_flight: 0,
            in_flight_max: 0,
            drawn: 0,
            connections: 0,
        }
    }

    /// A call arrives; the number is for [`Log::end`].
    pub(crate) fn begin(&mut self) -> usize {
        self.calls.push(None);
        self.in_flight += 1;
        self.in_flight_max = self.in_flight_max.max(self.in_flight);
        self.cleared + self.calls.len() - 1
    }

    pub(crate) fn end(&mut self, number: usize, call: Call) {
        self.in_flight -= 1;
        self.drawn += usize::from(call.outcome == Outcome::Drawn);
        let place = number.checked_sub(self.cleared).and_then(|at| self.calls.get_mut(at));
        if let Some(place) = place {
            *place = Some(call);
        }
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) const fn connected(&mut self) {
        self.connections += 1;
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.iter().flatten().cloned().collect()
    }

    pub(crate) fn arrived(&self) -> usize {
        self.calls.len()
    }

    /// Pictures that were sent since the start, whatever was cleared.
    pub(crate) const fn drawn(&self) -> usize {
        self.drawn
    }

    pub(crate) const fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    pub(crate) const fn connections(&self) -> usize {
        self.connections
    }

    pub(crate) fn clear(&mut self) {
        self.cleared += self.calls.len();
        self.calls.clear();
        self.in_flight_max = self.in_flight;
    }
}
