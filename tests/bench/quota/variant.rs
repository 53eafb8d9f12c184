//! What differs from run to run: keys, faults, clocks.

use std::time::Duration;

use clap::ValueEnum;
use darkroom_tests::stand_in_gemini::{Faults, Latency, Supply};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Every key has drawn before.
    Proven,
    /// No key has drawn before; two have no quota and one is invalid.
    New,
    /// Limits of 5, 10 and 20 calls a minute, mixed.
    UnequalRpm,
    /// Six projects' days are used up on the way, as the operator has told the pool.
    Daily,
    /// The same, but the pool has not been told.
    DailyUntold,
    /// Latencies spread lognormally.
    Lognormal,
    /// 5 % of the calls end in 500, 503 or 504.
    ServerErrors,
    /// 1 % of the calls are never answered.
    Hangs,
    /// 3 % of the answers have no picture.
    NoImage,
    /// Three keys are revoked on the way.
    Revoked,
    /// The workers' clocks are 2 s fast or slow; on a real minute.
    SkewedClocks,
    /// A hundred users with quota for 5,100 jobs in 60 s when the minute is 10 s: how often any one item is written.
    Busy,
}

/// A key and its project.
pub(crate) struct PlannedKey {
    pub(crate) secret: String,
    pub(crate) project: String,
    pub(crate) per_minute: u32,
    /// At the provider.
    pub(crate) per_day: Option<u32>,
    /// Whether the pool knows the day's limit too.
    pub(crate) day_is_told: bool,
    pub(crate) fate: Fate,
}

/// What becomes of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Live,
    /// Its project was granted nothing.
    ZeroQuota,
    /// The provider does not know it.
    Invalid,
    /// It is revoked so long after the clock's start.
    Revoked(Duration),
}

/// One variant in full.
pub(crate) struct Plan {
    pub(crate) jobs: usize,
    /// Who submit them.
    pub(crate) users: usize,
    pub(crate) minute: Duration,
    pub(crate) keys: Vec<PlannedKey>,
    /// Each key draws once before the clock starts.
    pub(crate) proven: bool,
    pub(crate) latency: Latency,
    pub(crate) faults: Faults,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) skewed_clocks: bool,
}

/// A real minute.
const MINUTE: Duration = Duration::from_secs(60);
/// A real model's latency, shortened as the minute is.
const LATENCY: Duration = Duration::from_millis(2_580);
/// Live keys.
const LIVE: usize = 17;

impl Variant {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it does when the provider's minute is so long.
    pub(crate) fn plan(self, minute: Duration) -> Plan {
        let latency = LATENCY.mul_f64(minute.as_secs_f64() / MINUTE.as_secs_f64());
        let mut plan = Plan {
            jobs: 600,
            users: 8,
            minute,
            keys: (0..LIVE).map(|number| key(&format!("live-{number}"), Fate::Live)).collect(),
            proven: true,
            latency: Latency::Fixed(latency),
            faults: Faults::default(),
            call_timeout: None,
            skewed_clocks: false,
        };
        match self {
            Self::Proven => {}
            Self::New => {
                plan.proven = false;
                plan.keys.push(key("zero-0", Fate::ZeroQuota));
                plan.keys.push(key("zero-1", Fate::ZeroQuota));
                plan.keys.push(key("invalid", Fate::Invalid));
            }
            Self::UnequalRpm => {
                for (key, per_minute) in plan.keys.iter_mut().zip([5, 10, 20].into_iter().cycle()) {
                    key.per_minute = per_minute;
                }
            }
            Self::Daily | Self::DailyUntold => {
                for key in plan.keys.iter_mut().take(6) {
                    // Used up in the second minute.
                    key.per_day = Some(16);
                    key.day_is_told = self == Self::Daily;
                }
            }
            Self::Lognormal => plan.latency = Latency::LogNormal { median: latency, sigma: 0.5 },
            Self::ServerErrors => plan.faults.server_error = 0.05,
            Self::Hangs => {
                plan.faults.hang = 0.01;
                plan.call_timeout = Some(latency * 7);
            }
            Self::NoImage => plan.faults.no_image = 0.03,
            Self::Revoked => {
                for key in plan.keys.iter_mut().take(3) {
                    // Between the second minute's calls and the third's.
                    key.fate = Fate::Revoked(minute * 3 / 2);
                }
            }
            Self::SkewedClocks => {
                plan.jobs = 255;
                plan.minute = MINUTE;
                plan.latency = Latency::Fixed(LATENCY);
                plan.skewed_clocks = true;
            }
            Self::Busy => {
                (plan.jobs, plan.users) = (2_000, 100);
                for key in &mut plan.keys {
                    key.per_minute = 50;
                }
            }
        }
        plan
    }
}

fn key(name: &str, fate: Fate) -> PlannedKey {
    PlannedKey {
        secret: format!("AIza-{name}"),
        project: format!("project-{name}"),
        per_minute: 10,
        per_day: None,
        day_is_told: false,
        fate,
    }
}

impl PlannedKey {
    /// What it is good for from the clock's start, after so many calls of that day.
    pub(crate) fn supply(&self, used_today: u32) -> Option<Supply> {
        let until = match self.fate {
            Fate::Live => None,
            Fate::Revoked(at) => Some(at),
            Fate::ZeroQuota | Fate::Invalid => return None,
        };
        let left_today = self.per_day.map(|limit| limit.saturating_sub(used_today));
        Some(Supply { per_minute: self.per_minute, left_today, until })
    }
}
