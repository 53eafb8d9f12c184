//! What changes of jobs come to for webhooks: a delivery for each endpoint that is told of it, stored before anything is sent.

use std::collections::HashMap;
use std::time::Duration;

use darkroom_aws::{StoreError, now};
use darkroom_core::id::{DeliveryId, UserId};
use darkroom_core::job::{Job, Stage};
use darkroom_core::job_view::JobView;
use darkroom_core::time::Timestamp;
use darkroom_core::webhook::{EventKind, message_body};
use darkroom_core::webhook_delivery::Delivery;
use darkroom_core::webhook_endpoint::{Endpoint, Endpoints};

use crate::Notifier;
use crate::tell::side_by_side;

/// Something that an owner's server is told of.
pub(crate) struct Announcement {
    event: EventKind,
    /// The job as this change has made it.
    job: Job,
    /// When it happened: the same however often the change is read.
    changed_at: Timestamp,
    /// What is told may have happened so much later.
    within: Duration,
}

impl Announcement {
    /// What a change has made of a job. Its end tells when it was; of anything else the stream does, in whole seconds.
    pub(crate) const fn new(event: EventKind, job: Job, written_at: Timestamp) -> Self {
        let (changed_at, within) = match (event, &job.stage) {
            (
                EventKind::JobDraft | EventKind::JobFailed | EventKind::JobCancelled,
                Stage::Settled(settled),
            ) => (settled.finished_at, Duration::ZERO),
            _ => (written_at, Duration::from_secs(1)),
        };
        Self { event, job, changed_at, within }
    }

    /// Whether an endpoint is told: not of what happened before it was made or enabled.
    fn is_for(&self, endpoint: &Endpoint) -> bool {
        endpoint.wants(self.event) && self.changed_at.plus(self.within) >= endpoint.enabled_at
    }
}

impl Notifier {
    /// Stores a delivery for each endpoint that is told, and sends a message for each that was not there. What is not sent is due
    /// in a minute.
    ///
    /// # Errors
    /// When a store does not answer: then the changes have to come again.
    pub(crate) async fn announce(&self, announcements: Vec<Announcement>) -> Result<(), StoreError> {
        if announcements.is_empty() {
            return Ok(());
        }
        let users: Vec<_> = announcements.iter().map(|announcement| announcement.job.user.clone()).collect();
        let endpoints = self.webhooks.endpoints(&users).await?;
        let told = |announcement: &Announcement| wanting(&endpoints, announcement).next().is_some();
        let told: Vec<_> = announcements.into_iter().filter(told).collect();
        let jobs: Vec<_> = told.iter().map(|announcement| announcement.job.clone()).collect();
        let views = self.views.views(&jobs).await?;
        let deliveries = told.iter().zip(&views).flat_map(|(announcement, view)| {
            wanting(&endpoints, announcement).map(|endpoint| delivery(announcement, endpoint, view))
        });
        let put: Vec<_> = deliveries.map(|delivery| self.put(delivery)).collect();
        side_by_side(put).await.into_iter().collect()
    }

    async fn put(&self, delivery: Delivery) -> Result<(), StoreError> {
        if !self.webhooks.put(&delivery).await? {
            return Ok(());
        }
        if let Err(error) = self.webhook_queue.send(&delivery.message()).await {
            tracing::warn!(delivery.id = %delivery.id, error = %error, "a delivery's message could not be sent: it is due in a minute");
        }
        Ok(())
    }
}

fn wanting<'a>(
    endpoints: &'a HashMap<UserId, Endpoints>,
    announcement: &Announcement,
) -> impl Iterator<Item = &'a Endpoint> {
    let all = endpoints.get(&announcement.job.user).into_iter().flat_map(|endpoints| &endpoints.list);
    all.filter(move |endpoint| announcement.is_for(endpoint))
}

fn delivery(announcement: &Announcement, endpoint: &Endpoint, view: &JobView) -> Delivery {
    let Announcement { event, job, changed_at, .. } = announcement;
    let body = message_body(*event, *changed_at, view.render(job, endpoint.language));
    let id = DeliveryId::derive(&endpoint.id, &job.ticket(), job.version, *changed_at);
    let (whose, what) = ((job.user.clone(), endpoint.id.clone()), (*event, job.id.clone()));
    Delivery::new(id, whose, what, body, now())
}
