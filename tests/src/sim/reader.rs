//! An environment of the api function that serves one request after another, and so goes by what it has seen before.

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use darkroom_aws::clients::Clients;
use darkroom_aws::config::Environment;
use http::Request;
use serde_json::Value;
use tower::ServiceExt as _;

use super::process::Process;
use super::triggers::read;
use super::world::World;
use crate::caller::context_of;

/// One environment.
pub struct Reader {
    world: World,
    process: Process,
    router: Router,
}

impl World {
    /// A new environment of the api function.
    ///
    /// # Errors
    /// When the template's settings do not start it.
    pub fn reader(&self) -> anyhow::Result<Reader> {
        let router = |environment: &Environment<'_>, clients: Clients| {
            api::start(environment, clients).map(api::router)
        };
        let (process, router) = self.process("api", router).context("api does not start")?;
        Ok(Reader { world: self.clone(), process, router })
    }
}

impl Reader {
    /// Reads a path as a user.
    ///
    /// # Errors
    /// When it gives no answer, or another than 200.
    pub async fn get(&self, user: &str, path: &str) -> anyhow::Result<Value> {
        let mut request = Request::get(path).body(Body::empty())?;
        request.extensions_mut().insert(context_of(user)?);
        let answered = self.process.run(self.router.clone().oneshot(request)).await;
        let response = answered.context("killed")?.unwrap_or_else(|never| match never {});
        let (status, body) = read(response).await.context("no answer")?;
        anyhow::ensure!(status == 200, "{path}: {status} {body}");
        Ok(body)
    }

    /// The same, and the names of the calls to stores that were made for it.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub async fn get_counted(&self, user: &str, path: &str) -> anyhow::Result<(Value, Vec<String>)> {
        let before = self.world.steps().len();
        let body = self.get(user, path).await?;
        let calls = self.world.steps().split_off(before).into_iter().map(|step| step.name);
        // A sweep may go on meanwhile.
        let mut calls: Vec<_> = calls.filter(|name| name.starts_with("api: ")).collect();
        calls.sort();
        Ok((body, calls))
    }
}
