//! Stable Diffusion WebUI Forge and AUTOMATIC1111's WebUI: `POST {base}/sdapi/v1/txt2img`.
//!
//! Sources: `modules/api/api.py`, `modules/progress.py`, `modules/shared_state.py` and `webui.py` of lllyasviel/stable-diffusion-webui-forge and
//! AUTOMATIC1111/stable-diffusion-webui. What follows from them:
//! - One picture is drawn at a time: a call waits for the others behind a lock, inside its own request.
//! - A call goes on when its connection is gone, and nothing ever gives its picture out again. So a later call of the same job
//!   cannot fetch it; it can only wait until the earlier one is over (`task.rs`), and it draws the same picture, from the same seed.
//! - `override_settings` are applied before the lock is taken: two checkpoints asked of one server at once can mix. One server,
//!   one model.

mod answer;
mod task;

use std::convert::Infallible;
use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_core::key::Secret;
use data_encoding::BASE64;
use http::header;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::answer::Reader;
use self::task::Task;
use crate::base_url::BaseUrl;
use crate::dimensions::dimensions;
use crate::wire::{ConnectError, Endpoint, KeyHeader, not_sent};
use crate::{DrawError, DrawRequest, DrawnImage, NO_FORGE, needed};

/// The key of a server without `--api-auth`. Anything else is `user:password`.
const NO_CREDENTIALS: &str = "none";

/// How often a server is asked how far it is. It answers from memory.
const POLL: Duration = Duration::from_secs(1);

/// A Forge at one base URL, if there is one.
#[derive(Debug)]
pub struct Forge {
    endpoint: Option<Endpoint>,
}

impl Forge {
    pub(crate) fn new(base: Option<BaseUrl>) -> Self {
        Self { endpoint: base.map(Endpoint::new) }
    }

    pub(crate) const fn is_there(&self) -> bool {
        self.endpoint.is_some()
    }

    pub(crate) async fn warm(&self) -> Result<(), ConnectError> {
        match &self.endpoint {
            Some(endpoint) => endpoint.warm().await,
            None => Ok(()),
        }
    }

    /// Draws, unless an earlier call of the job is still at work after half of the time: then nothing is sent, and the rest of the time
    /// would be too short anyway.
    pub(crate) async fn draw(
        &self,
        request: DrawRequest<'_>,
        timeout: Duration,
    ) -> Result<DrawnImage, DrawError> {
        let endpoint = self.endpoint()?;
        let started = Instant::now();
        let secret = credentials(needed(request.secret)?);
        for earlier in 1..request.call {
            let task = Task::new(endpoint, secret, request.job, earlier);
            if !task.is_over_by(started + timeout / 2).await {
                return Err(not_sent("an earlier call of this job still draws"));
            }
        }
        let task = Task::new(endpoint, secret, request.job, request.call);
        let call = endpoint.post("/sdapi/v1/txt2img", key_header(secret)?, &body(&request, task.id()))?;
        let raw = tokio::select! {
            raw = endpoint.picture::<Reader>(call, secret, started + timeout) => raw?,
            never = task.follow(request.progress) => match never {},
        };
        raw.checked(request.model).await.map_err(DrawError::Refused)
    }

    /// Reads the server's settings: it needs the credentials and draws nothing.
    pub(crate) async fn probe(&self, secret: Option<&Secret>, timeout: Duration) -> Result<(), Refusal> {
        let deadline = Instant::now() + timeout;
        let prepare = || {
            let endpoint = self.endpoint()?;
            let secret = credentials(needed(secret)?);
            let call = endpoint.get("/sdapi/v1/options", key_header(secret)?)?;
            Ok((endpoint, secret, call))
        };
        let (endpoint, secret, call) = prepare().map_err(DrawError::into_refusal)?;
        endpoint.probe::<Reader>(call, secret, deadline).await
    }

    fn endpoint(&self) -> Result<&Endpoint, DrawError> {
        self.endpoint.as_ref().ok_or_else(|| not_sent(NO_FORGE))
    }
}

/// The server's defaults apart from what a job says. `override_settings_restore_afterwards`: otherwise A1111 loads its former checkpoint again
/// after each picture.
fn body(request: &DrawRequest<'_>, task_id: &str) -> Value {
    let (width, height) = dimensions(request.shape);
    json!({
        "prompt": request.prompt.reveal(),
        "width": width,
        "height": height,
        // The largest seed that its random generators take is 2^32 - 1.
        "seed": request.seed & u64::from(u32::MAX),
        "batch_size": 1,
        "n_iter": 1,
        "send_images": true,
        "save_images": false,
        "force_task_id": task_id,
        "override_settings": {"sd_model_checkpoint": request.model.as_str()},
        "override_settings_restore_afterwards": false,
    })
}

fn credentials(secret: &Secret) -> Option<&Secret> {
    (secret.reveal() != NO_CREDENTIALS).then_some(secret)
}

/// Basic authentication (RFC 7617), where the server wants it.
fn key_header(credentials: Option<&Secret>) -> Result<Option<KeyHeader>, DrawError> {
    let header = |secret: &Secret| {
        KeyHeader::new(header::AUTHORIZATION, &format!("Basic {}", BASE64.encode(secret.reveal().as_bytes())))
    };
    credentials.map(header).transpose()
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at a running call")]
async fn pause() {
    tokio::time::sleep(POLL).await;
}

/// What a follower of a call returns: it is dropped when the call has its answer.
type Never = Infallible;
