//! The functions' settings: typed, read once at start, refused with the variable's name.

use std::time::Duration;

use darkroom_core::breaker;
use darkroom_core::lifecycle::Bounds;
use darkroom_core::limits;
use darkroom_core::model::ProviderName;
use darkroom_core::push::ConnectTicket;
use darkroom_core::settled::Days;
use darkroom_core::sweep::Rules;
use darkroom_core::webhook::Reach;
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
        self.optional_number(variable, least, most).map(|number| number.unwrap_or(default))
    }

    /// A whole number within bounds, or none.
    fn optional_number(
        &self,
        variable: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(text) = self.optional(variable) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| ConfigError {
            variable,
            problem: format!("is {text:?}; it must be a whole number from {least} to {most}"),
        })
    }

    fn optional_seconds(
        &self,
        variable: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<Duration>, ConfigError> {
        self.optional_number(variable, least, most).map(|number| number.map(Duration::from_secs))
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

    /// `true` or `false`, or none.
    fn switch(&self, variable: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.optional(variable).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => {
                Err(ConfigError { variable, problem: format!("is {other:?}; it must be `true` or `false`") })
            }
        }
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
    a_queue_url(environment, "DARKROOM_QUEUE_URL")
}

/// The URL of the queue of what takes long.
///
/// # Errors
/// Names the variable when it is missing or no URL.
pub fn bulk_queue_url(environment: &Environment<'_>) -> Result<String, ConfigError> {
    a_queue_url(environment, "DARKROOM_BULK_QUEUE_URL")
}

/// The URL of the webhooks' queue.
///
/// # Errors
/// Names the variable when it is missing or no URL.
pub fn webhook_queue(environment: &Environment<'_>) -> Result<String, ConfigError> {
    a_queue_url(environment, "DARKROOM_WEBHOOK_QUEUE_URL")
}

fn a_queue_url(environment: &Environment<'_>, variable: &'static str) -> Result<String, ConfigError> {
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

/// The table of connections and tickets.
///
/// # Errors
/// Names the variable when it is missing.
pub fn push_table(environment: &Environment<'_>) -> Result<String, ConfigError> {
    environment.required("DARKROOM_PUSH_TABLE")
}

/// Where webhooks' endpoints may be: on the public internet. `anywhere`, and without TLS, only where DynamoDB is not AWS's own:
/// in an account it would let any user call the operator's network.
///
/// # Errors
/// Names the variable when it is another word, or `anywhere` on AWS.
pub fn webhook_reach(environment: &Environment<'_>) -> Result<Reach, ConfigError> {
    let variable = "DARKROOM_WEBHOOK_REACH";
    let is_local = environment.optional("AWS_ENDPOINT_URL_DYNAMODB").is_some();
    match environment.optional(variable).as_deref() {
        None | Some("public") => Ok(Reach::Public),
        Some("anywhere") if is_local => Ok(Reach::Anywhere),
        Some("anywhere") => Err(ConfigError {
            variable,
            problem:
                "is \"anywhere\", which is for local systems alone: remove it, endpoints are public servers"
                    .to_owned(),
        }),
        Some(other) => {
            Err(ConfigError { variable, problem: format!("is {other:?}; it must be `public` or `anywhere`") })
        }
    }
}

/// Where the WebSocket API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketUrl(String);

impl WebSocketUrl {
    /// What a client connects to with this ticket.
    pub fn with_ticket(&self, ticket: &ConnectTicket) -> String {
        format!("{}?ticket={}", self.0, ticket.reveal())
    }

    /// Where messages to connections are posted: the same place over HTTP (API Gateway developer guide, "Use
    /// @connections commands in your backend service").
    pub fn management_endpoint(&self) -> String {
        self.0.replacen("ws", "http", 1)
    }
}

/// The WebSocket API's URL, its stage included.
///
/// # Errors
/// Names the variable when it is missing or no such URL.
pub fn websocket_url(environment: &Environment<'_>) -> Result<WebSocketUrl, ConfigError> {
    let variable = "DARKROOM_WEBSOCKET_URL";
    let url = environment.required(variable)?;
    let rest = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#'])) {
        return Ok(WebSocketUrl(url));
    }
    Err(ConfigError {
        variable,
        problem: format!("is {url:?}; it must be the WebSocket API's URL with its stage, wss://…/ws"),
    })
}

/// The KMS key that the pool's secrets are sealed under: an id, an ARN or an alias.
///
/// # Errors
/// Names the variable when it is missing or none of these.
pub fn kms_key(environment: &Environment<'_>) -> Result<String, ConfigError> {
    let variable = "DARKROOM_KMS_KEY";
    let key = environment.required(variable)?;
    let name = key.strip_prefix("alias/").unwrap_or(&key);
    let is_known = match key.strip_prefix("arn:") {
        // arn:PARTITION:kms:REGION:ACCOUNT:key/ID, or :alias/NAME.
        Some(arn) => {
            arn.split(':').nth(1) == Some("kms") && (arn.contains(":key/") || arn.contains(":alias/"))
        }
        None => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_/".contains(&b)),
    };
    if is_known {
        return Ok(key);
    }
    Err(ConfigError {
        variable,
        problem: format!(
            "is {key:?}; it must be a KMS key's id, its ARN (arn:…:kms:…) or an alias (alias/…)"
        ),
    })
}

/// What submit goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitRules {
    /// A job's deadline, and the longest that a caller may ask for.
    pub deadline: Duration,
    /// Unsettled jobs per user.
    pub inflight_max: u64,
    /// Whether a job is refused while its model's breaker is open, instead of queued for later.
    pub refuse_when_open: bool,
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
            refuse_when_open: environment.switch("DARKROOM_REFUSE_WHEN_OPEN", false)?,
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
    /// One provider call, when it is not the provider's own default.
    pub call_timeout: Option<Duration>,
    /// The provider's minute.
    pub quota_minute: Duration,
    /// When breakers open, and for how long; [`WorkerRules::breaker`] for a provider's own.
    breaker: breaker::Rules,
    /// Days a settled record is kept.
    pub ttl_days: u64,
    /// Gemini's base URL, when it is not the vendor's.
    pub gemini_base_url: Option<String>,
    /// OpenAI's base URL, when it is not the vendor's.
    pub openai_base_url: Option<String>,
    /// Forge's base URL; without one there is no Forge.
    pub forge_base_url: Option<String>,
}

impl WorkerRules {
    /// Reads the worker's rules.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn read(environment: &Environment<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            bounds: bounds(environment)?,
            call_timeout: environment.optional_seconds("DARKROOM_CALL_TIMEOUT_SECONDS", 1, 180)?,
            quota_minute: quota_minute(environment)?,
            breaker: breaker_rules(environment)?,
            ttl_days: ttl_days(environment)?,
            gemini_base_url: environment.optional("DARKROOM_GEMINI_BASE_URL"),
            openai_base_url: environment.optional("DARKROOM_OPENAI_BASE_URL"),
            forge_base_url: environment.optional("DARKROOM_FORGE_BASE_URL"),
        })
    }

    /// When a provider's breakers open, for how long, and when a probe that has not answered has died.
    pub fn breaker(&self, provider: ProviderName) -> breaker::Rules {
        breaker::Rules { probe: self.trial(provider), ..self.breaker }
    }

    /// Whoever makes the first call of a key, a scope or a closed breaker has died when that takes longer.
    pub fn trial(&self, provider: ProviderName) -> Duration {
        self.call_timeout(provider) + limits::AFTER_CALL
    }

    /// How long one call to a provider may take, connecting included.
    pub fn call_timeout(&self, provider: ProviderName) -> Duration {
        self.call_timeout.unwrap_or(match provider {
            ProviderName::Forge => limits::FORGE_CALL_TIMEOUT,
            ProviderName::Local | ProviderName::Gemini | ProviderName::OpenAi => limits::CALL_TIMEOUT,
        })
    }
}

/// The provider's minute.
///
/// # Errors
/// Names the variable when it is wrong.
pub fn quota_minute(environment: &Environment<'_>) -> Result<Duration, ConfigError> {
    environment.seconds("DARKROOM_QUOTA_MINUTE_SECONDS", limits::QUOTA_MINUTE, 1, 60)
}

fn breaker_rules(environment: &Environment<'_>) -> Result<breaker::Rules, ConfigError> {
    let open = environment.seconds("DARKROOM_BREAKER_OPEN_SECONDS", limits::BREAKER_OPEN, 1, 3_600)?;
    let open_max =
        environment.seconds("DARKROOM_BREAKER_OPEN_MAX_SECONDS", limits::BREAKER_OPEN_MAX, 1, 3_600)?;
    if open_max < open {
        return Err(ConfigError {
            variable: "DARKROOM_BREAKER_OPEN_MAX_SECONDS",
            problem: format!(
                "is {}; it must be at least DARKROOM_BREAKER_OPEN_SECONDS, {}",
                open_max.as_secs(),
                open.as_secs()
            ),
        });
    }
    Ok(breaker::Rules {
        failures: environment.count("DARKROOM_BREAKER_FAILURES", limits::BREAKER_FAILURES, 1_000)?,
        open,
        open_max,
        exhausted_rounds: environment.count("DARKROOM_EXHAUSTED_ROUNDS", limits::EXHAUSTED_ROUNDS, 1_000)?,
        probe: limits::CALL_TIMEOUT + limits::AFTER_CALL,
    })
}

/// What the sweeper goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepRules {
    /// What a sweep does with which job.
    pub rules: Rules,
    /// From one scheduled sweep to the next.
    pub every: Duration,
    /// The provider's minute.
    pub quota_minute: Duration,
}

impl SweepRules {
    /// Reads the sweeper's rules; refuses settings under which a live worker's job could count as stuck.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn read(environment: &Environment<'_>) -> Result<Self, ConfigError> {
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
        Ok(Self { rules: sweep_rules(environment)?, every, quota_minute: quota_minute(environment)? })
    }
}

/// What a sweep does with which job, whoever sweeps.
///
/// # Errors
/// Names the variable that is wrong.
pub fn sweep_rules(environment: &Environment<'_>) -> Result<Rules, ConfigError> {
    let deadline = deadline(environment)?;
    let within_deadline = |variable, default: Duration| {
        environment.seconds(variable, default.min(deadline), 1, deadline.as_secs())
    };
    Ok(Rules {
        bounds: bounds(environment)?,
        pending_max: within_deadline("DARKROOM_PENDING_MAX_SECONDS", Duration::from_secs(3_600))?,
        retry_max: within_deadline("DARKROOM_RETRY_MAX_SECONDS", Duration::from_secs(3_600))?,
        processing_max: within_deadline("DARKROOM_PROCESSING_MAX_SECONDS", Duration::from_secs(1_800))?,
        wake: wake(environment)?,
        ahead: limits::SWEEP_AHEAD,
        ttl_days: ttl_days(environment)?,
    })
}

/// Days a settled record is kept, unless it is published.
///
/// # Errors
/// Names the variable when it is wrong.
pub fn ttl_days(environment: &Environment<'_>) -> Result<u64, ConfigError> {
    environment.number("DARKROOM_TTL_DAYS", limits::TTL_DAYS, 1, limits::RECORD_DAYS_MAX)
}

/// Days a settled record is kept, published or not.
///
/// # Errors
/// Names the variable when it is wrong.
pub fn record_days(environment: &Environment<'_>) -> Result<Days, ConfigError> {
    let (variable, most) = ("DARKROOM_PUBLISHED_TTL_DAYS", limits::RECORD_DAYS_MAX);
    let settled = ttl_days(environment)?;
    let published = environment.number(variable, limits::PUBLISHED_TTL_DAYS, 1, most)?;
    if published < settled {
        return Err(ConfigError {
            variable,
            problem: format!("is {published}; it must be at least DARKROOM_TTL_DAYS, {settled}"),
        });
    }
    Ok(Days { published, settled })
}

fn deadline(environment: &Environment<'_>) -> Result<Duration, ConfigError> {
    let least = limits::DEADLINE_MIN.as_secs();
    environment.seconds("DARKROOM_DEADLINE_SECONDS", limits::DEADLINE, least, limits::DEADLINE_MAX.as_secs())
}

/// After how long a lost message is made up for.
///
/// # Errors
/// Names the variable when it is wrong.
pub fn wake(environment: &Environment<'_>) -> Result<Duration, ConfigError> {
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
