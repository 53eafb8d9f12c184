//! The functions' settings: typed, read once at start, refused with the variable's name.

use std::time::Duration;

use darkroom_core::lifecycle::Bounds;
use darkroom_core::limits;
use darkroom_core::sweep::Rules;
use thiserror::Error;

/// A setting that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    /// The variable's name.
    pub variable: &'static str,
    /// What is wrong and what it should be.
    pub problem: String,
}

/// Where settings come from.
pub struct Environment<'a>(Box<Lookup<'a>>);

/// A variable's value by its name.
type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl<'a> Environment<'a> {
    /// The process's own environment.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn process() -> Self {
        Self(Box::new(|name| std::env::var(name).ok()))
    }

    /// Another source, for tests.
    pub fn from_fn(lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self(Box::new(lookup))
    }

    /// A text; empty counts as absent.
    pub fn optional(&self, variable: &'static str) -> Option<String> {
        (self.0)(variable).filter(|text| !text.is_empty())
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// Names the variable.
    pub fn required(&self, variable: &'static str) -> Result<String, ConfigError> {
        self.optional(variable)
            .ok_or_else(|| ConfigError { variable, problem: "is not set; the template sets it".to_owned() })
    }

    /// A whole number within bounds.
    fn number(
        &self,
        variable: &'static str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<u64, ConfigError> {
        let Some(text) = self.optional(variable) else { return Ok(default) };
        text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or_else(|| ConfigError {
            variable,
            problem: format!("is {text:?}; it must be a whole number from {least} to {most}"),
        })
    }

    fn seconds(
        &self,
        variable: &'static str,
        default: Duration,
        least: u64,
        most: u64,
    ) -> Result<Duration, ConfigError> {
        self.number(variable, default.as_secs(), least, most).map(Duration::from_secs)
    }

    fn count(&self, variable: &'static str, default: u32, most: u64) -> Result<u32, ConfigError> {
        let number = self.number(variable, u64::from(default), 1, most)?;
        Ok(u32::try_from(number).unwrap_or(default))
    }
}

/// The tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Jobs.
    pub jobs: String,
    /// Ledger.
    pub ledger: String,
    /// Keys.
    pub keys: String,
}

impl Tables {
    /// Reads the tables' names.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn read(environment: &Environment<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            jobs: environment.required("DARKROOM_JOBS_TABLE")?,
            ledger: environment.required("DARKROOM_LEDGER_TABLE")?,
            keys: environment.required("DARKROOM_KEYS_TABLE")?,
        })
    }
}

/// The queue's URL.
///
/// # Errors
/// Names the variable when it is missing or no URL.
pub fn queue_url(environment: &Environment<'_>) -> Result<String, ConfigError> {
    let variable = "DARKROOM_QUEUE_URL";
    let url = environment.required(variable)?;
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(url);
    }
    Err(ConfigError {
        variable,
        problem: format!("is {url:?}; it must be the queue's URL, not its name or ARN"),
    })
}

/// The image bucket's name.
///
/// # Errors
/// Names the variable when it is missing.
pub fn image_bucket(environment: &Environment<'_>) -> Result<String, ConfigError> {
    environment.required("DARKROOM_IMAGE_BUCKET")
}

/// What submit goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitRules {
    /// A job's deadline, and the longest that a caller may ask for.
    pub deadline: Duration,
    /// Unsettled jobs per user.
    pub inflight_max: u64,
    /// A lost message is made up for after this.
    pub wake: Duration,
    /// Days a settled record is kept.
    pub ttl_days: u64,
}

impl SubmitRules {
    /// Reads submit's rules.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn read(environment: &Environment<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            deadline: deadline(environment)?,
            inflight_max: environment.number("DARKROOM_INFLIGHT_MAX", limits::INFLIGHT_MAX, 1, 1_000_000)?,
            wake: wake(environment)?,
            ttl_days: ttl_days(environment)?,
        })
    }
}

/// What the worker goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRules {
    /// Bounds of attempts and calls.
    pub bounds: Bounds,
    /// One provider call.
    pub call_timeout: Duration,
    /// The provider's minute.
    pub quota_minute: Duration,
    /// Days a settled record is kept.
    pub ttl_days: u64,
    /// Gemini's base URL, when it is not the vendor's.
    pub gemini_base_url: Option<String>,
}

impl WorkerRules {
    /// Reads the worker's rules.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn read(environment: &Environment<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            bounds: bounds(environment)?,
            call_timeout: environment.seconds(
                "DARKROOM_CALL_TIMEOUT_SECONDS",
                limits::CALL_TIMEOUT,
                1,
                180,
            )?,
            quota_minute: environment.seconds(
                "DARKROOM_QUOTA_MINUTE_SECONDS",
                limits::QUOTA_MINUTE,
                1,
                60,
            )?,
            ttl_days: ttl_days(environment)?,
            gemini_base_url: environment.optional("DARKROOM_GEMINI_BASE_URL"),
        })
    }
}

/// What the sweeper goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepRules {
    /// What a sweep does with which job.
    pub rules: Rules,
    /// From one scheduled sweep to the next.
    pub every: Duration,
}

impl SweepRules {
    /// Reads the sweeper's rules; refuses settings under which a live worker's job could count as stuck.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn read(environment: &Environment<'_>) -> Result<Self, ConfigError> {
        let deadline = deadline(environment)?;
        let within_deadline = |variable, default: Duration| {
            environment.seconds(variable, default.min(deadline), 1, deadline.as_secs())
        };
        let every = environment.seconds("DARKROOM_SWEEP_SECONDS", limits::SWEEP, 1, 3_600)?;
        let stuck = environment.seconds("DARKROOM_STUCK_SECONDS", limits::STUCK, 1, 86_400)?;
        if stuck < limits::LEASE_MAX + every {
            return Err(ConfigError {
                variable: "DARKROOM_STUCK_SECONDS",
                problem: format!(
                    "is {}; it must be at least {}: the longest lease ({} s) and one sweep (DARKROOM_SWEEP_SECONDS, {} s)",
                    stuck.as_secs(),
                    (limits::LEASE_MAX + every).as_secs(),
                    limits::LEASE_MAX.as_secs(),
                    every.as_secs()
                ),
            });
        }
        Ok(Self {
            rules: Rules {
                bounds: bounds(environment)?,
                pending_max: within_deadline("DARKROOM_PENDING_MAX_SECONDS", Duration::from_secs(3_600))?,
                retry_max: within_deadline("DARKROOM_RETRY_MAX_SECONDS", Duration::from_secs(3_600))?,
                processing_max: within_deadline(
                    "DARKROOM_PROCESSING_MAX_SECONDS",
                    Duration::from_secs(1_800),
                )?,
                wake: wake(environment)?,
                ahead: limits::SWEEP_AHEAD,
                ttl_days: ttl_days(environment)?,
            },
            every,
        })
    }
}

/// Days a settled record is kept.
///
/// # Errors
/// Names the variable when it is wrong.
pub fn ttl_days(environment: &Environment<'_>) -> Result<u64, ConfigError> {
    environment.number("DARKROOM_TTL_DAYS", limits::TTL_DAYS, 1, 400)
}

fn deadline(environment: &Environment<'_>) -> Result<Duration, ConfigError> {
    let least = limits::DEADLINE_MIN.as_secs();
    environment.seconds("DARKROOM_DEADLINE_SECONDS", limits::DEADLINE, least, 86_400)
}

fn wake(environment: &Environment<'_>) -> Result<Duration, ConfigError> {
    environment.seconds("DARKROOM_WAKE_SECONDS", limits::WAKE, 1, 3_600)
}

fn bounds(environment: &Environment<'_>) -> Result<Bounds, ConfigError> {
    let attempts_max = environment.count("DARKROOM_ATTEMPTS_MAX", limits::ATTEMPTS_MAX, 20)?;
    let calls_max = environment.count("DARKROOM_CALLS_MAX", limits::CALLS_MAX, 100)?;
    if calls_max < attempts_max {
        return Err(ConfigError {
            variable: "DARKROOM_CALLS_MAX",
            problem: format!("is {calls_max}; it must be at least DARKROOM_ATTEMPTS_MAX, {attempts_max}"),
        });
    }
    Ok(Bounds { attempts_max, calls_max })
}
