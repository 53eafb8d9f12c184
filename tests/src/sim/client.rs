//! An app's side of the system.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::ensure;
use axum::body::Body;
use data_encoding::HEXLOWER;
use http::Request;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::time::pass;
use super::world::World;
use crate::caller::context_of;

/// A client asks again after so long.
const RETRY: Duration = Duration::from_secs(2);
/// And gives up after so many times.
const TRIES: usize = 10;

/// An app that asks again until it is answered.
#[derive(Clone)]
pub struct Client {
    pub(crate) world: World,
    pub(crate) user: String,
}

impl Client {
    /// Submits a job; its id.
    ///
    /// # Errors
    /// When it is not accepted, however often it asks.
    pub async fn submit(&self, key: &str, body: &Value) -> anyhow::Result<String> {
        let request = || {
            Request::post("/v1/jobs")
                .header("content-type", "application/json")
                .header("idempotency-key", key)
        };
        let (status, answer) = self.ask("submit", || request().body(Body::from(body.to_string()))).await?;
        ensure!(status == 202, "{status} {answer}");
        Ok(self.accepted(&answer))
    }

    /// Submits a batch; as it is accepted.
    ///
    /// # Errors
    /// When it is not, however often it asks.
    pub async fn submit_batch(&self, key: &str, body: &Value) -> anyhow::Result<Value> {
        let request = || {
            Request::post("/v1/batches")
                .header("content-type", "application/json")
                .header("idempotency-key", key)
        };
        let (status, answer) = self.ask("submit", || request().body(Body::from(body.to_string()))).await?;
        ensure!(status == 202, "{status} {answer}");
        self.accepted(&answer);
        Ok(answer)
    }

    /// A batch as it is.
    ///
    /// # Errors
    /// When it is not there, or no answer comes, however often it asks.
    pub async fn show_batch(&self, id: &str) -> anyhow::Result<Value> {
        let path = format!("/v1/batches/{id}");
        let (status, batch) = self.ask("api", || Request::get(path.as_str()).body(Body::empty())).await?;
        ensure!(status == 200, "{status} {batch}");
        Ok(batch)
    }

    /// Cancels a batch; as it is then.
    ///
    /// # Errors
    /// When there is no answer, however often it asks.
    pub async fn cancel_batch(&self, id: &str) -> anyhow::Result<Value> {
        let path = format!("/v1/batches/{id}/cancel");
        let (status, batch) = self.ask("api", || Request::post(path.as_str()).body(Body::empty())).await?;
        ensure!(status == 200, "{status} {batch}");
        Ok(batch)
    }

    /// Makes a place for a picture and puts it there; the upload's id.
    ///
    /// # Errors
    /// When there is none, however often it asks.
    pub async fn upload(&self, picture: &[u8]) -> anyhow::Result<String> {
        self.put("reference", "image/png", picture).await
    }

    /// The same of a batch's lines.
    ///
    /// # Errors
    /// When there is none, however often it asks.
    pub async fn upload_lines(&self, lines: &str) -> anyhow::Result<String> {
        self.put("batch", "application/x-ndjson", lines.as_bytes()).await
    }

    async fn put(&self, kind: &str, content_type: &str, picture: &[u8]) -> anyhow::Result<String> {
        let sha256 = HEXLOWER.encode(&Sha256::digest(picture));
        let promise =
            json!({"kind": kind, "content_type": content_type, "bytes": picture.len(), "sha256": sha256});
        let request = || Request::post("/v1/uploads").header("content-type", "application/json");
        let (status, place) = self.ask("api", || request().body(Body::from(promise.to_string()))).await?;
        ensure!(status == 201, "{status} {place}");
        let url: http::Uri = place["url"].as_str().unwrap_or_default().parse()?;
        self.world.0.stores.put_object(url.path(), picture);
        Ok(place["upload_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Asks to end a job; the status of the answer.
    ///
    /// # Errors
    /// When there is none, however often it asks.
    pub async fn cancel(&self, id: &str) -> anyhow::Result<u16> {
        let path = format!("/v1/jobs/{id}/cancel");
        let (status, _) = self.ask("api", || Request::post(path.as_str()).body(Body::empty())).await?;
        Ok(status)
    }

    /// Merges a patch into a job's metadata; the job.
    ///
    /// # Errors
    /// When it is not taken, however often it asks.
    pub async fn patch(&self, id: &str, changes: &Value) -> anyhow::Result<Value> {
        let path = format!("/v1/jobs/{id}/metadata");
        let request = || Request::patch(path.as_str()).header("content-type", "application/merge-patch+json");
        let (status, job) = self.ask("api", || request().body(Body::from(changes.to_string()))).await?;
        ensure!(status == 200, "{status} {job}");
        Ok(job)
    }

    /// A job as it is.
    ///
    /// # Errors
    /// When it is not there, or no answer comes, however often it asks.
    pub async fn show(&self, id: &str) -> anyhow::Result<Value> {
        let path = format!("/v1/jobs/{id}");
        let (status, job) = self.ask("api", || Request::get(path.as_str()).body(Body::empty())).await?;
        ensure!(status == 200, "{status} {job}");
        Ok(job)
    }

    /// Publishes a draft, or takes that back; the status of the answer.
    ///
    /// # Errors
    /// When there is none, however often it asks.
    pub async fn publish(&self, id: &str, published: bool) -> anyhow::Result<u16> {
        let path = format!("/v1/jobs/{id}/{}", if published { "publish" } else { "unpublish" });
        let (status, _) = self.ask("api", || Request::post(path.as_str()).body(Body::empty())).await?;
        Ok(status)
    }

    /// Deletes a job; the status of the answer.
    ///
    /// # Errors
    /// When there is none, however often it asks.
    pub async fn delete(&self, id: &str) -> anyhow::Result<u16> {
        let path = format!("/v1/jobs/{id}");
        let (status, _) = self.ask("api", || Request::delete(path.as_str()).body(Body::empty())).await?;
        Ok(status)
    }

    /// Tries a job again that gave its tokens back; the new job's id.
    ///
    /// # Errors
    /// When it is not accepted, however often it asks.
    pub async fn retry(&self, id: &str) -> anyhow::Result<String> {
        let path = format!("/v1/jobs/{id}/retry");
        let (status, answer) =
            self.ask("submit", || Request::post(path.as_str()).body(Body::empty())).await?;
        ensure!(status == 202 && answer["retry_of"] == id, "{status} {answer}");
        Ok(self.accepted(&answer))
    }

    /// The ids of the drafts.
    ///
    /// # Errors
    /// When they are not listed, however often it asks.
    pub async fn drafts(&self) -> anyhow::Result<Vec<String>> {
        let list = || Request::get("/v1/jobs?status=draft").body(Body::empty());
        let (status, answer) = self.ask("api", list).await?;
        let jobs = answer["jobs"].as_array();
        ensure!(status == 200 && jobs.is_some(), "{status} {answer}");
        let ids = jobs.into_iter().flatten().filter_map(|job| job["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    /// Takes a job down that was accepted; its id.
    fn accepted(&self, answer: &Value) -> String {
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        self.world.accepted().lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        id
    }

    async fn ask(
        &self,
        function: &'static str,
        request: impl Fn() -> http::Result<Request<Body>>,
    ) -> anyhow::Result<(u16, Value)> {
        for _ in 0..TRIES {
            let mut request = request()?;
            request.extensions_mut().insert(context_of(&self.user)?);
            match self.world.request(function, request).await {
                Some((status, body)) if status < 500 && status != 429 => return Ok((status, body)),
                Some(_) | None => pass(RETRY).await,
            }
        }
        anyhow::bail!("{function} gave no answer")
    }
}
