//! What a run's calls come to.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stand_in::call_log::{Call, Outcome};

/// Figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// All calls.
    pub calls: usize,
    /// Those that drew.
    pub drawn: usize,
    /// From the first arrival to the last arrival of a call that drew.
    pub span: Duration,
    /// Refused because a minute was used up.
    pub rate_refusals: usize,
    /// Refused because a day was used up.
    pub day_refusals: usize,
    /// Calls with a key that is of no use, by key.
    pub dead: BTreeMap<String, usize>,
    /// Calls that met a fault of the provider's own: a server error, a broken connection, no answer, no picture. They
    /// count towards its limits.
    pub faults: usize,
    /// Calls that neither drew nor met a fault.
    pub wasted: usize,
}

impl Figures {
    /// Adds up.
    pub fn of(calls: &[Call]) -> Self {
        let mut figures = Self { calls: calls.len(), ..Self::default() };
        let first = calls.iter().map(|call| call.at).min().unwrap_or_default();
        for call in calls {
            match &call.outcome {
                Outcome::Drawn => {
                    figures.drawn += 1;
                    figures.span = figures.span.max(call.at.saturating_sub(first));
                    continue;
                }
                Outcome::Reset | Outcome::Abandoned | Outcome::Answered(200 | 500..=599, _) => {
                    figures.faults += 1;
                    continue;
                }
                Outcome::Answered(429, word) if word == "PER_MINUTE" => figures.rate_refusals += 1,
                Outcome::Answered(429, word) if word == "PER_DAY" => figures.day_refusals += 1,
                Outcome::Answered(429, word) if word != "ZERO_QUOTA" => {}
                Outcome::Answered(..) => *figures.dead.entry(call.key.clone()).or_default() += 1,
            }
            figures.wasted += 1;
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_counts_where_it_belongs() {
        let answered = |status, word: &str| Outcome::Answered(status, word.to_owned());
        let outcomes = [
            answered(429, "PER_MINUTE"),
            Outcome::Drawn,
            Outcome::Drawn,
            answered(503, "UNAVAILABLE"),
            answered(200, "NO_IMAGE"),
            Outcome::Abandoned,
            Outcome::Reset,
            answered(429, "PER_DAY"),
            answered(429, "BARE"),
            answered(429, "ZERO_QUOTA"),
            answered(400, "API_KEY_INVALID"),
            answered(400, "API_KEY_INVALID"),
        ];
        let calls: Vec<_> = (1_u64..)
            .zip(outcomes)
            .map(|(second, outcome)| Call {
                at: Duration::from_secs(second),
                took: Duration::ZERO,
                key: if second == 10 { "zero" } else { "key" }.to_owned(),
                project: String::new(),
                model: String::new(),
                prompt: String::new(),
                reference: None,
                outcome,
            })
            .collect();
        let expected = Figures {
            calls: 12,
            drawn: 2,
            span: Duration::from_secs(2),
            rate_refusals: 1,
            day_refusals: 1,
            dead: [("zero".to_owned(), 1), ("key".to_owned(), 2)].into(),
            faults: 4,
            wasted: 6,
        };
        assert_eq!(Figures::of(&calls), expected);
    }
}
