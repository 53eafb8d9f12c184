//! The picture that a submission is drawn from: there, and the caller's. What its bytes are the worker looks at.

use darkroom_aws::StoreError;
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::model::Model;
use darkroom_core::time::Timestamp;
use darkroom_core::upload::Reference;
use darkroom_edge::Problem;

use crate::submit::{Asked, Submit, unavailable};

const POINTER: &str = "/reference_upload_id";

/// The same whether it never was, is somebody else's, holds nothing yet, or is too old: nobody learns of another's.
const UNUSABLE: &str = "no upload of yours has this id, nothing was put there, or it is older than a day; POST /v1/uploads makes a new one";

impl Submit {
    /// The reference that is asked for. Of a job that is tried again it was named in time before.
    ///
    /// # Errors
    /// The refusal, when the model draws from none or the caller has no such upload.
    pub(crate) async fn reference(
        &self,
        asked: &Asked,
        model: &Model,
        at: Timestamp,
        language: Language,
    ) -> Result<Option<Reference>, Problem> {
        let Some(upload) = &asked.request.reference else { return Ok(None) };
        let is_retry = asked.retry_of.is_some();
        if !model.takes_reference() {
            return Err(if is_retry { gone(language) } else { without_reference(model, language) });
        }
        let refused = || if is_retry { gone(language) } else { unusable(language) };
        if !is_retry && !upload.is_usable(at) {
            return Err(refused());
        }
        let failed = |error: StoreError| unavailable(&error, language);
        let found = self.uploads.find_reference(&asked.user, upload).await.map_err(failed)?;
        found.ok_or_else(refused).map(Some)
    }
}

fn unusable(language: Language) -> Problem {
    Problem::value(ErrorCode::InvalidValue, POINTER, UNUSABLE, language)
}

fn without_reference(model: &Model, language: Language) -> Problem {
    let reason = format!("{} draws from no reference; GET /v1/models tells which models do", model.name);
    Problem::value(ErrorCode::InvalidValue, POINTER, &reason, language)
}

/// A job that is tried again has no body that could be wrong.
fn gone(language: Language) -> Problem {
    let words = match language {
        Language::En => {
            "The picture that the job was to be drawn from is gone, or its model draws from none any more. Upload it again and submit a new job."
        }
        Language::Tr => {
            "İşin dayandığı görsel artık yok ya da modeli artık referans görsel almıyor. Görseli yeniden yükleyip yeni bir iş gönderin."
        }
    };
    Problem::new(ErrorCode::WrongState, language).with_detail(words.to_owned())
}
