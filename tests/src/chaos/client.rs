//! A user: asks, asks again with the same key when no answer came, looks, and sometimes thinks better of it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tokio::task::JoinSet;

use super::decide::{Wish, wish};
use super::history::{Answered, Asked, History};
use crate::keys::MODEL;
use crate::stack::App;

/// A client asks again after so long.
const AGAIN: Duration = Duration::from_millis(200);
/// Looks and cancels are tried so often.
const TRIES: u32 = 20;

#[derive(Clone)]
pub(crate) struct Client {
    app: App,
    user: String,
    history: History,
}

/// What a job is asked for by; no two jobs have the same.
pub(crate) fn prompt(user: &str, key: &str) -> String {
    format!("{user} {key}")
}

impl Client {
    pub(crate) const fn new(app: App, user: String, history: History) -> Self {
        Self { app, user, history }
    }

    /// One wish after the other until then, each followed to its end beside the others.
    pub(crate) async fn live(self, seed: u64, until: Instant) -> anyhow::Result<()> {
        let mut wishes = JoinSet::new();
        for number in 0.. {
            let wish = wish(seed, &self.user, number);
            tokio::time::sleep(wish.pause).await;
            if Instant::now() >= until {
                break;
            }
            wishes.spawn(self.clone().follow(format!("k{number}"), wish));
        }
        while let Some(wish) = wishes.join_next().await {
            wish.context("a wish's own program failed")?;
        }
        Ok(())
    }

    async fn follow(self, key: String, wish: Wish) {
        let taken = if wish.twice {
            let (one, two) = tokio::join!(self.submit(&key, &wish), self.submit(&key, &wish));
            one.or(two)
        } else {
            self.submit(&key, &wish).await
        };
        let Some(id) = taken else { return };
        if wish.misuses_key {
            let other = json!({"prompt": "something else", "model": MODEL});
            let request = || self.app.submit(&self.user, &key, &other);
            self.ask(&key, Asked::SubmitOther, TRIES, request).await;
        }
        if let Some(after) = wish.cancel_after {
            tokio::time::sleep(after).await;
            let path = format!("/v1/jobs/{id}/cancel");
            self.ask(&key, Asked::Cancel, TRIES, || self.app.post(&self.user, &path)).await;
        }
        for after in wish.looks {
            tokio::time::sleep(after).await;
            let path = format!("/v1/jobs/{id}");
            self.ask(&key, Asked::Read, TRIES, || self.app.get(&self.user, &path)).await;
        }
    }

    /// The job's id, once the submission is taken.
    async fn submit(&self, key: &str, wish: &Wish) -> Option<String> {
        let body = json!({
            "prompt": prompt(&self.user, key),
            "model": MODEL,
            "aspect_ratio": wish.aspect_ratio,
        });
        let request = || self.app.submit(&self.user, key, &body);
        match self.ask(key, Asked::Submit, wish.tries, request).await {
            Answered::Job(seen) => Some(seen.id),
            Answered::Refused(..) | Answered::Nothing => None,
        }
    }

    /// Asks until it is answered for good, so often at most; the last answer.
    async fn ask<T: Future<Output = anyhow::Result<crate::stack::Answer>>>(
        &self,
        key: &str,
        asked: Asked,
        tries: u32,
        request: impl Fn() -> T,
    ) -> Answered {
        for nth in 1.. {
            let answer = self.history.operation((&self.user, key), asked, request()).await;
            let is_open = matches!(answer, Answered::Nothing | Answered::Refused(429, _));
            if !is_open || nth >= tries {
                return answer;
            }
            tokio::time::sleep(AGAIN).await;
        }
        Answered::Nothing
    }
}
