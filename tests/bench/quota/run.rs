//! One run: keys proven, jobs submitted, clock started, everything drawn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use darkroom_core::id::ModelName;
use darkroom_core::model::ProviderName;
use darkroom_local_aws::DynamoDbUse;
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::{TestStack, function_binaries};
use darkroom_tests::stand_in_gemini::{
    Behaviour, Call, Faults, Figures, Limits, Settings, StandIn, shortest_span,
};

use super::clocks;
use super::variant::{Fate, Plan};
use crate::load;
use crate::process::MachineTime;

/// What is run.
pub(crate) struct Setup {
    pub(crate) plan: Plan,
    pub(crate) processes: usize,
    pub(crate) batch: usize,
}

/// What it came to.
pub(crate) enum Outcome {
    Measured(Box<Measured>),
    /// Something is not installed.
    NotRun(&'static str),
}

/// What was measured.
pub(crate) struct Measured {
    pub(crate) figures: Figures,
    /// The shortest span in which so many calls could have arrived.
    pub(crate) floor: Option<Duration>,
    pub(crate) jobs: usize,
    /// Jobs without a picture.
    pub(crate) failed: usize,
    /// Invocations of the worker that gave no answer.
    pub(crate) errors: u64,
    pub(crate) submitting: DynamoDbUse,
    pub(crate) drawing: DynamoDbUse,
    /// Of the processors' time that was wanted while it drew, the share that this machine was not given.
    pub(crate) stolen: f64,
}

/// Pictures are small: the machine's own time is not what is measured.
const IMAGE_BYTES: usize = 16 * 1024;
/// A batch of more than ten needs a batching window, and this is the shortest.
const BATCHING_WINDOW: Duration = Duration::from_secs(1);
/// Rounds in which each key must have drawn.
const PROVING_ROUNDS: usize = 20;

impl Setup {
    /// Runs it on a system of its own.
    pub(crate) async fn run(&self) -> anyhow::Result<Outcome> {
        let plan = &self.plan;
        let library = clocks::library();
        let folder = match (plan.skewed_clocks, &library) {
            (true, None) => return Ok(Outcome::NotRun("needs faketime (Debian's package libfaketime)")),
            (true, Some(library)) => Some(clocks::skewed(function_binaries().await?, library)?),
            (false, _) => None,
        };
        let settings = Settings {
            minute: plan.minute,
            latency: plan.latency,
            image_bytes: IMAGE_BYTES,
            ..Settings::default()
        };
        let gemini = StandIn::start(settings)?;
        let mut stack = self.start(gemini.base_url(), folder.as_ref().map(tempfile::TempDir::path)).await?;
        self.add_keys(&stack, &gemini).await?;
        if plan.proven {
            self.prove(&mut stack, &gemini).await?;
        }
        let before = gemini.calls();
        gemini.clear_calls();
        stack.system.aws().take_dynamodb_use();
        load::submit(&stack, "job", plan.jobs, plan.users).await?;
        let submitting = stack.system.aws().take_dynamodb_use().unwrap_or_default();
        let worker = stack.system.function("worker").context("there is no worker")?;
        worker.warm(self.processes).await?;
        gemini.update(|settings| settings.faults = plan.faults);
        stack.system.aws().take_dynamodb_use();
        let before_drawing = MachineTime::now();
        stack.system.start_consuming()?;
        tokio::try_join!(self.revoke(&gemini), self.drawn(&stack, &gemini))?;
        let drawing = stack.system.aws().take_dynamodb_use().unwrap_or_default();
        let stolen = MachineTime::now().stolen_since(before_drawing);
        let errors = worker.stats().errors;
        drop(worker);
        let figures = Figures::of(&gemini.calls());
        let failed = plan.jobs - gemini.pictures_by_prompt().len();
        stack.finish().await?;
        let floor = self.floor(&figures, &before);
        let jobs = plan.jobs;
        let measured = Measured { figures, floor, jobs, failed, errors, submitting, drawing, stolen };
        Ok(Outcome::Measured(Box::new(measured)))
    }

    async fn start(
        &self,
        provider_url: String,
        binaries: Option<&std::path::Path>,
    ) -> anyhow::Result<TestStack> {
        let mut variables = vec![
            ("DARKROOM_GEMINI_BASE_URL", provider_url),
            ("DARKROOM_INFLIGHT_MAX", "100000".to_owned()),
            ("DARKROOM_QUOTA_MINUTE_SECONDS", self.plan.minute.as_secs().to_string()),
        ];
        if let Some(timeout) = self.plan.call_timeout {
            variables.push(("DARKROOM_CALL_TIMEOUT_SECONDS", timeout.as_secs().to_string()));
        }
        TestStack::start_with(|settings| {
            settings.workers = self.processes;
            settings.batch_size = Some(self.batch);
            settings.batching_window = (self.batch > 10).then_some(BATCHING_WINDOW);
            settings.consuming = false;
            settings.count_dynamodb = true;
            settings.variables.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
            if let Some(binaries) = binaries {
                binaries.clone_into(&mut settings.binaries);
            }
        })
        .await
    }

    /// At the provider and in the pool.
    async fn add_keys(&self, stack: &TestStack, gemini: &StandIn) -> anyhow::Result<()> {
        let stores = stack.stores()?;
        for key in &self.plan.keys {
            let per_minute = if key.fate == Fate::ZeroQuota { 0 } else { key.per_minute };
            gemini.set_limits(&key.project, Limits { per_minute: Some(per_minute), per_day: key.per_day });
            if key.fate != Fate::Invalid {
                gemini.add_key(&key.secret, &key.project);
            }
            keys::add(&stores, &key.secret, &key.project, key.per_minute).await?;
        }
        let scopes = stores.keys.scopes(ProviderName::Gemini, &ModelName::parse(MODEL)?).await?;
        for key in self.plan.keys.iter().filter(|key| key.day_is_told) {
            let scope = scopes.iter().find(|scope| scope.project.as_str() == key.project);
            let scope = scope.with_context(|| format!("{} has no scope", key.project))?;
            stores.keys.set_scope_limits(scope, key.per_minute, key.per_day).await?;
        }
        Ok(())
    }

    /// Lets every key draw, without faults, and a whole minute pass.
    async fn prove(&self, stack: &mut TestStack, gemini: &StandIn) -> anyhow::Result<()> {
        stack.system.start_consuming()?;
        for round in 1.. {
            load::submit(stack, &format!("proving-{round}"), self.plan.keys.len(), self.plan.users).await?;
            load::settled(stack, self.patience()).await?;
            let calls = gemini.calls();
            if self.plan.keys.iter().all(|key| drawn_with(&calls, &key.project) > 0) {
                break;
            }
            ensure!(round < PROVING_ROUNDS, "not every key has drawn after {round} rounds");
        }
        stack.system.stop_consuming(Duration::from_secs(5)).await;
        // And a twentieth: the pool's guard, and the time that a call was under way.
        tokio::time::sleep(self.plan.minute + self.plan.minute / 20).await;
        Ok(())
    }

    /// Revokes the keys whose fate that is, when their time has come.
    async fn revoke(&self, gemini: &StandIn) -> anyhow::Result<()> {
        let mut revoked: Vec<_> = self
            .plan
            .keys
            .iter()
            .filter_map(|key| match key.fate {
                Fate::Revoked(at) => Some((at, &key.secret)),
                _ => None,
            })
            .collect();
        revoked.sort();
        if revoked.is_empty() {
            return Ok(());
        }
        let submitted = Instant::now();
        while gemini.call_count() == 0 {
            ensure!(submitted.elapsed() < self.patience(), "no call came");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let started = Instant::now();
        for (at, secret) in revoked {
            tokio::time::sleep(at.saturating_sub(started.elapsed())).await;
            gemini.set_behaviour(secret, Behaviour::InvalidKey);
        }
        Ok(())
    }

    /// Waits until every job has ended. The tables are not read while calls come: that would take the functions' time.
    async fn drawn(&self, stack: &TestStack, gemini: &StandIn) -> anyhow::Result<()> {
        let started = Instant::now();
        let quiet = self.plan.minute * 2;
        let (mut calls, mut changed) = (0, Instant::now());
        while gemini.pictures_by_prompt().len() < self.plan.jobs && changed.elapsed() < quiet {
            ensure!(started.elapsed() < self.patience(), "{calls} calls, and the jobs do not end");
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = gemini.call_count();
            if now != calls {
                (calls, changed) = (now, Instant::now());
            }
        }
        load::settled(stack, self.patience()).await
    }

    /// Long enough for a pool that uses a tenth of its quota.
    fn patience(&self) -> Duration {
        Duration::from_secs(120) + self.plan.minute * 40
    }

    /// The floor for the calls that were needed: those that drew, and those that the provider spoiled.
    fn floor(&self, figures: &Figures, before: &[Call]) -> Option<Duration> {
        let supplies: Vec<_> = self
            .plan
            .keys
            .iter()
            .filter_map(|key| {
                let used = u32::try_from(drawn_with(before, &key.project)).unwrap_or(u32::MAX);
                key.supply(used)
            })
            .collect();
        let spoiled = if is_spoiled(&self.plan.faults) { figures.faults } else { 0 };
        shortest_span(figures.drawn + spoiled, self.plan.minute, &supplies)
    }
}

/// Calls of a project that were counted by its provider.
fn drawn_with(calls: &[Call], project: &str) -> usize {
    use darkroom_tests::stand_in_gemini::Outcome;
    calls.iter().filter(|call| call.project == project && call.outcome == Outcome::Drawn).count()
}

/// Whether the provider spoils calls in this variant: only then are they no fault of the pool's.
fn is_spoiled(faults: &Faults) -> bool {
    faults.server_error + faults.hang + faults.no_image > 0.0
}
