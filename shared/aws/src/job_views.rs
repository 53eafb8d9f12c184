//! What is read to show jobs to their owners: what is kept beside their records, their places in the queue, when their
//! pictures may be expected, links to these. One of it, so that a push shows a job exactly as `GET` does.

use std::sync::Arc;
use std::time::Duration;

use darkroom_core::job::{Job, Stage};
use darkroom_core::job_view::JobView;
use darkroom_core::metadata::JobMetadata;
use darkroom_core::model::Model;
use darkroom_core::outlook::Outlook;
use darkroom_core::pace::Turn;
use darkroom_core::position::Position;
use darkroom_core::time::Timestamp;

use crate::catalogue::Catalogue;
use crate::clock::now;
use crate::error::StoreError;
use crate::forecast::Forecast;
use crate::image_store::ImageStore;
use crate::job_table::JobTable;
use crate::key_table::KeyTable;
use crate::metadata_table::Kept;
use crate::pacer::Pacer;
use crate::waiting_cache::{LookAtQueue, WaitingCache};

/// What one process has read of queue, pool and catalogue, and where the rest is.
pub struct JobViews {
    jobs: JobTable,
    images: ImageStore,
    catalogue: Catalogue,
    waiting: WaitingCache,
    forecast: Forecast,
}

impl JobViews {
    /// Over these stores, nothing read yet.
    pub fn new(jobs: JobTable, keys: &KeyTable, images: ImageStore, quota_minute: Duration) -> Self {
        Self {
            waiting: WaitingCache::new(jobs.clone()),
            catalogue: Catalogue::new(keys.clone()),
            forecast: Forecast::new(Pacer::new(keys.clone(), quota_minute)),
            images,
            jobs,
        }
    }

    /// The waiting jobs as of at most a second ago. The cost grows neither with the queue nor with the askers.
    pub async fn queue(&self) -> Result<Arc<LookAtQueue>, StoreError> {
        self.waiting.look().await
    }

    /// The catalogue, as of at most a minute ago.
    pub async fn models(&self, at: Timestamp) -> Result<Arc<[Model]>, StoreError> {
        self.catalogue.models(at).await
    }

    /// The turn of the `nth` job in the queue, from 1, as if all before it wanted the same model; `None` where nothing is
    /// limited, or time alone frees nothing.
    pub async fn turn(&self, models: &[Model], model: &Model, nth: u64, at: Timestamp) -> Option<Turn> {
        self.forecast.turn(models, model, nth, at).await
    }

    /// A job's place; `None` unless it waits. Never higher than this process told before of the same wait.
    pub async fn position(&self, job: &Job) -> Result<Option<Position>, StoreError> {
        self.waiting.position(job).await
    }

    /// What is shown beside the record, with this metadata and place.
    pub async fn view(
        &self,
        job: &Job,
        metadata: JobMetadata,
        position: Option<Position>,
    ) -> Result<JobView, StoreError> {
        let long_prompt = match job.order.prompt {
            Some(_) => None,
            None => self.jobs.long_prompt(&job.id).await?,
        };
        self.view_with(job, position, Kept { long_prompt, metadata }).await
    }

    /// What is shown beside each of these records, in their order. One may stand there twice, in two versions.
    pub async fn views(&self, jobs: &[Job]) -> Result<Vec<JobView>, StoreError> {
        let kept = self.jobs.beside(jobs).await?;
        let mut views = Vec::with_capacity(jobs.len());
        for job in jobs {
            let position = self.position(job).await?;
            let kept = kept.get(&job.id).cloned().unwrap_or_default();
            views.push(self.view_with(job, position, kept).await?);
        }
        Ok(views)
    }

    async fn view_with(
        &self,
        job: &Job,
        position: Option<Position>,
        kept: Kept,
    ) -> Result<JobView, StoreError> {
        let at = now();
        let models = self.models(at).await?;
        let model = models.iter().find(|model| model.name == job.order.model);
        let turn = match (model, &job.stage) {
            (Some(model), Stage::Pending(_)) => {
                let place = position.map_or(1, |position| position.place);
                self.turn(&models, model, place, at).await
            }
            _ => None,
        };
        let image_url = match job.image() {
            Some(image) => Some(self.images.link(&image.key).await?),
            None => None,
        };
        let typical = model.map(Model::typical).unwrap_or_default();
        let outlook = Outlook::of(job, position, turn, typical, at);
        let Kept { long_prompt, metadata } = kept;
        Ok(JobView { long_prompt, metadata: metadata.value, position, outlook, image_url })
    }
}
