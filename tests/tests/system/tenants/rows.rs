//! What each route shows, and to whom.

use serde_json::{Value, json};

use super::house::KEY;

/// Whose data a route shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// The job, batch or webhook that its path names: to anybody but its owner it is absent.
    OneJob,
    /// The export that its path names: the same.
    OneExport,
    /// The export that it makes, which costs nothing: each who is signed in has one of this key.
    MadeFree,
    /// What the caller has.
    CallersOwn,
    /// The same to all who are signed in.
    SignedIn,
    /// Something new to each who is signed in, each time. That it is nobody else's, `live.rs` shows.
    Fresh,
    /// The same to all, signed in or not.
    Everybody,
    /// The job or batch that it makes, paid by the caller.
    Made,
    /// A place that is new each time, in the caller's own folder.
    NewPlace,
    /// No route: nothing, whatever its path names.
    Nothing,
}

/// One route.
pub(super) struct Row {
    /// Its key in the template.
    pub(super) route: &'static str,
    /// The function that answers.
    pub(super) function: &'static str,
    /// A request that it takes; `{id}` is a job's.
    method: &'static str,
    pub(super) path: &'static str,
    pub(super) shows: Shows,
    /// Which of the owner's jobs takes it, and what is answered.
    pub(super) owners: (Job, u16),
}

/// What is the owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Has a picture.
    Draft,
    /// Was cancelled, so its tokens are back.
    Cancelled,
    /// Waits.
    Live,
    /// Is no job, but a batch whose jobs wait.
    Batch,
    /// No job: the owner's webhook, and what was sent there.
    Webhook,
}

const fn row(
    route: &'static str,
    function: &'static str,
    method: &'static str,
    path: &'static str,
    shows: Shows,
) -> Row {
    Row { route, function, method, path, shows, owners: (Job::Live, 200) }
}

impl Row {
    const fn owners(self, job: Job, status: u16) -> Self {
        Self { owners: (job, status), ..self }
    }
}

/// In an order in which the owner can have all of it.
pub(super) const ROWS: [Row; 29] = [
    row("POST /v1/jobs", "submit", "POST", "/v1/jobs", Shows::Made),
    row("POST /v1/batches", "submit", "POST", "/v1/batches", Shows::Made),
    row("GET /v1/batches/{id}", "api", "GET", "/v1/batches/{id}", Shows::OneJob).owners(Job::Batch, 200),
    row("POST /v1/batches/{id}/cancel", "api", "POST", "/v1/batches/{id}/cancel", Shows::OneJob)
        .owners(Job::Batch, 200),
    row("GET /v1/jobs", "api", "GET", "/v1/jobs", Shows::CallersOwn),
    row("GET /v1/jobs/{id}", "api", "GET", "/v1/jobs/{id}", Shows::OneJob),
    row("POST /v1/jobs/{id}/cancel", "api", "POST", "/v1/jobs/{id}/cancel", Shows::OneJob),
    row("PATCH /v1/jobs/{id}/metadata", "api", "PATCH", "/v1/jobs/{id}/metadata", Shows::OneJob),
    row("POST /v1/jobs/{id}/publish", "api", "POST", "/v1/jobs/{id}/publish", Shows::OneJob)
        .owners(Job::Draft, 200),
    row("POST /v1/jobs/{id}/unpublish", "api", "POST", "/v1/jobs/{id}/unpublish", Shows::OneJob)
        .owners(Job::Draft, 200),
    row("POST /v1/jobs/{id}/retry", "submit", "POST", "/v1/jobs/{id}/retry", Shows::OneJob)
        .owners(Job::Cancelled, 202),
    row("DELETE /v1/jobs/{id}", "api", "DELETE", "/v1/jobs/{id}", Shows::OneJob).owners(Job::Cancelled, 204),
    row("POST /v1/uploads", "api", "POST", "/v1/uploads", Shows::NewPlace),
    row("GET /v1/exports/{id}", "api", "GET", "/v1/exports/{export}", Shows::OneExport),
    row("POST /v1/exports", "submit", "POST", "/v1/exports", Shows::MadeFree),
    row("GET /v1/account", "api", "GET", "/v1/account", Shows::CallersOwn),
    row("GET /v1/account/entries", "api", "GET", "/v1/account/entries", Shows::CallersOwn),
    row("GET /v1/models", "api", "GET", "/v1/models", Shows::SignedIn),
    row("GET /v1/queue", "api", "GET", "/v1/queue", Shows::SignedIn),
    row("POST /v1/ws-tickets", "api", "POST", "/v1/ws-tickets", Shows::Fresh),
    // Of a body that is refused: one that is taken makes a webhook, of which a user has ten at most.
    row("POST /v1/webhooks", "api", "POST", "/v1/webhooks", Shows::SignedIn),
    row("GET /v1/webhooks", "api", "GET", "/v1/webhooks", Shows::CallersOwn).owners(Job::Webhook, 200),
    row("GET /v1/webhooks/{id}/deliveries", "api", "GET", "/v1/webhooks/{id}/deliveries", Shows::OneJob)
        .owners(Job::Webhook, 200),
    row(
        "POST /v1/webhooks/{id}/deliveries/{delivery}/resend",
        "api",
        "POST",
        "/v1/webhooks/{id}/deliveries/{delivery}/resend",
        Shows::OneJob,
    )
    .owners(Job::Webhook, 202),
    row("POST /v1/webhooks/{id}/rotate", "api", "POST", "/v1/webhooks/{id}/rotate", Shows::OneJob)
        .owners(Job::Webhook, 200),
    row("POST /v1/webhooks/{id}/enable", "api", "POST", "/v1/webhooks/{id}/enable", Shows::OneJob)
        .owners(Job::Webhook, 200),
    row("DELETE /v1/webhooks/{id}", "api", "DELETE", "/v1/webhooks/{id}", Shows::OneJob)
        .owners(Job::Webhook, 204),
    row("GET /health", "api", "GET", "/health", Shows::Everybody),
    row("$default", "api", "GET", "/v1/jobs/{id}/image", Shows::Nothing),
];

/// A request, without its caller.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

impl Row {
    /// The request of this route for a path. A submission comes with the owner's key and another prompt: were it taken
    /// for the owner's, the answer would say so.
    pub(super) fn asked(&self, path: &str) -> Asked {
        let mut asked = Asked {
            method: self.method,
            path: path.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: None,
        };
        if self.shows == Shows::Made {
            asked.headers.push(("content-type", "application/json".to_owned()));
            asked.headers.push(("idempotency-key", KEY.to_owned()));
            let is_batch = self.path == "/v1/batches";
            let job = json!({"prompt": "a bridge"});
            asked.body = Some(if is_batch { json!({"jobs": [job]}) } else { job });
        } else if self.shows == Shows::MadeFree {
            asked.headers.push(("content-type", "application/json".to_owned()));
            asked.headers.push(("idempotency-key", KEY.to_owned()));
            asked.body = Some(
                json!({"kind": "jobs", "format": "csv", "start_date": "2026-01-01", "end_date": "2026-01-31"}),
            );
        } else if self.shows == Shows::NewPlace {
            asked.headers.push(("content-type", "application/json".to_owned()));
            let hash = "0f".repeat(32);
            asked.body =
                Some(json!({"kind": "reference", "content_type": "image/png", "bytes": 70, "sha256": hash}));
        } else if self.route == "POST /v1/webhooks" {
            asked.headers.push(("content-type", "application/json".to_owned()));
            asked.body = Some(json!({"url": "ftp://app.example.com"}));
        } else if self.method == "PATCH" {
            asked.headers.push(("content-type", "application/merge-patch+json".to_owned()));
            asked.body = Some(json!({"added": 1}));
        }
        asked
    }
}

impl Asked {
    /// The same with a header.
    pub(super) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The same with a query.
    pub(super) fn with_query(mut self, query: &str) -> Self {
        query.clone_into(&mut self.query);
        self
    }

    /// The same with these members in its body.
    pub(super) fn with_members(mut self, members: &Value) -> Self {
        let body = self.body.get_or_insert_with(|| json!({}));
        for (name, value) in members.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        if self.headers.iter().all(|(name, _)| *name != "content-type") {
            self.headers.push(("content-type", "application/json".to_owned()));
        }
        self
    }
}
