//! What a run came to, as lines and a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::Settings;
use super::history::{Answered, Asked, History, Kill, Operation};
use super::verdict::{Found, unneeded};

/// A run's figures, and what does not hold.
#[derive(Debug)]
pub struct Report {
    settings: Settings,
    settling: Duration,
    /// Jobs that were asked for: pairs of user and key.
    pub asked: usize,
    /// Those whose submission was acknowledged.
    pub acknowledged: usize,
    /// Those without an acknowledgement that exist all the same.
    pub unacknowledged: usize,
    requests: usize,
    unanswered: usize,
    replayed: usize,
    ends: BTreeMap<String, usize>,
    /// Jobs that were settled.
    pub settled: usize,
    /// Kills by function.
    pub kills: BTreeMap<&'static str, usize>,
    /// Calls at the provider.
    pub calls_made: usize,
    /// Calls on the records.
    pub calls_counted: usize,
    drawn: usize,
    /// Pictures that were paid for and came to nothing.
    pub lost_pictures: usize,
    dead_letters: usize,
    spent: u64,
    /// What does not hold, in words.
    pub faults: Vec<String>,
}

impl Report {
    pub(super) fn new(
        settings: &Settings,
        settling: Duration,
        operations: &[Operation],
        kills: &[Kill],
        found: &Found,
        faults: Vec<String>,
    ) -> Self {
        let counts = Counts::of(operations, kills);
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for record in found.records.values() {
            let why = record.failure.as_ref().map_or_else(String::new, |code| format!(" ({code})"));
            *ends.entry(format!("{}{why}", record.status.as_str())).or_default() += 1;
        }
        let answers =
            |is: &dyn Fn(&Answered) -> bool| operations.iter().filter(|one| is(&one.answer)).count();
        Self {
            settings: settings.clone(),
            settling,
            asked: counts.asked.len(),
            acknowledged: counts.acknowledged.len(),
            unacknowledged: found.records.len().saturating_sub(counts.acknowledged.len()),
            requests: operations.len(),
            unanswered: answers(&|answer| *answer == Answered::Nothing),
            replayed: answers(&|answer| matches!(answer, Answered::Job(seen) if seen.replayed)),
            ends,
            settled: found.records.values().filter(|record| record.settlement.is_some()).count(),
            kills: counts.kills,
            calls_made: found.calls.len(),
            calls_counted: found.records.values().map(|record| record.calls as usize).sum(),
            drawn: found.calls.iter().filter(|call| call.drew).count(),
            lost_pictures: unneeded(found).len(),
            dead_letters: found.dead_letters.len(),
            spent: found.balances.values().map(|balance| balance.spent).sum(),
            faults,
        }
    }
}

/// What is known while it runs.
struct Counts<'a> {
    asked: BTreeSet<(&'a str, &'a str)>,
    acknowledged: BTreeSet<(&'a str, &'a str)>,
    kills: BTreeMap<&'static str, usize>,
}

impl<'a> Counts<'a> {
    fn of(operations: &'a [Operation], kills: &[Kill]) -> Self {
        let submits = || operations.iter().filter(|operation| operation.asked == Asked::Submit);
        let name = |operation: &'a Operation| (operation.user.as_str(), operation.key.as_str());
        let is_taken = |operation: &&Operation| matches!(operation.answer, Answered::Job(_));
        let mut by_function: BTreeMap<_, usize> = BTreeMap::new();
        for kill in kills {
            *by_function.entry(kill.function).or_default() += 1;
        }
        Self {
            asked: submits().map(name).collect(),
            acknowledged: submits().filter(is_taken).map(name).collect(),
            kills: by_function,
        }
    }
}

/// A line each minute, until then.
pub(super) async fn minutes(history: &History, until: Instant, tell: impl Fn(&str)) {
    for minute in 1.. {
        tokio::time::sleep(Duration::from_secs(60).min(until.saturating_duration_since(Instant::now())))
            .await;
        let line = history.read(|operations, kills| {
            let counts = Counts::of(operations, kills);
            let (asked, acknowledged) = (counts.asked.len(), counts.acknowledged.len());
            format!(
                "minute {minute}: {asked} jobs asked for, {acknowledged} acknowledged, killed {}",
                list(&counts.kills)
            )
        });
        tell(&line);
        if Instant::now() >= until {
            return;
        }
    }
}

fn list<K: fmt::Display>(counts: &BTreeMap<K, usize>) -> String {
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, lasts, users, .. } = &self.settings;
        let rows = [
            ("seed", format!("{seed}")),
            (
                "trouble",
                format!(
                    "{} s by {users} users, then {:.0} s to settle",
                    lasts.as_secs(),
                    self.settling.as_secs_f64()
                ),
            ),
            ("killed", list(&self.kills)),
            (
                "requests",
                format!(
                    "{}, of which {} left open, {} answered with a job made before",
                    self.requests, self.unanswered, self.replayed
                ),
            ),
            ("jobs asked for", format!("{}, of which {} acknowledged", self.asked, self.acknowledged)),
            ("made unacknowledged", self.unacknowledged.to_string()),
            ("settled", format!("{}: {}", self.settled, list(&self.ends))),
            ("provider calls", format!("{} made, {} counted", self.calls_made, self.calls_counted)),
            ("pictures", format!("{} drawn, {} lost with a killed worker", self.drawn, self.lost_pictures)),
            ("tokens", format!("{} spent, the books balance per user unless told below", self.spent)),
            ("dead letters", self.dead_letters.to_string()),
            ("faults", self.faults.len().to_string()),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<20} {value}")?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))
    }
}
