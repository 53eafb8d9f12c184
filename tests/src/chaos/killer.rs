//! Kills processes of functions, some of them in the middle of their work.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use darkroom::local_system::LocalSystem;
use darkroom_local_lambda::Function;

use super::decide::{Aim, blows};
use super::history::History;
use crate::kill;
use crate::stand_in_gemini::StandIn;

/// A sign of work is looked for so often, and so long.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: u32 = 1_500;

pub(crate) struct Killer<'a> {
    pub(crate) system: &'a LocalSystem,
    pub(crate) gemini: &'a StandIn,
    pub(crate) history: &'a History,
}

impl Killer<'_> {
    /// Kills as the seed decides, until then; nobody without one.
    pub(crate) async fn rampage(&self, seed: Option<u64>, until: Instant) -> anyhow::Result<()> {
        let Some(seed) = seed else { return Ok(()) };
        for blow in blows(seed) {
            tokio::time::sleep(blow.pause).await;
            let function =
                self.system.function(blow.function).context("the template has no such function")?;
            let processes = match blow.aim {
                // A function that nobody calls has none.
                Aim::One(which) => {
                    let processes = function.process_ids();
                    processes.get(which % processes.len().max(1)).copied().into_iter().collect()
                }
                Aim::AtWork(after) => {
                    self.sign_of_work(blow.function, &function).await;
                    tokio::time::sleep(after).await;
                    function.process_ids()
                }
            };
            if Instant::now() >= until {
                break;
            }
            for process_id in processes {
                self.history.kill(blow.function);
                kill(process_id).await?;
            }
        }
        Ok(())
    }

    /// Waits until the provider has sent a picture, for a worker, or the function is invoked.
    async fn sign_of_work(&self, name: &str, function: &Function) {
        let work = || match name {
            "worker" => self.gemini.drawn_count() as u64,
            _ => function.stats().invocations,
        };
        let before = work();
        for _ in 0..LOOKS {
            if work() != before {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
