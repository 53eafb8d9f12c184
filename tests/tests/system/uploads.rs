//! Uploads, and jobs that are drawn from one: whose it is, what S3 takes, what a worker finds, and what a model is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Tag, Tagging};
use darkroom_aws::clients::{Clients, Endpoints};
use darkroom_aws::{UploadStore, now};
use darkroom_core::id::{UploadId, UserId};
use darkroom_core::image::ImageFormat;
use darkroom_core::limits::{REFERENCE_BYTES_MAX, UPLOAD_USE};
use darkroom_core::model::ProviderName;
use darkroom_core::upload::{Reference, UploadFormat, UploadKind, UploadRequest};
use darkroom_providers::image_check::check;
use darkroom_tests::interposer::{Canned, Interposer};
use darkroom_tests::keys::{self, MODEL};
use darkroom_tests::stack::{Answer, TestStack};
use darkroom_tests::stand_in_gemini::{Settings, StandIn};
use darkroom_tests::stand_in_openai;
use darkroom_tests::stores::{TestStores, clients};
use data_encoding::HEXLOWER;
use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const PNG: &[u8] = include_bytes!("../../corpora/image/good_rgb.png");
const OTHER_PNG: &[u8] = include_bytes!("../../corpora/image/good_rgba.png");
/// Has chunks of every kind, of which a checked picture keeps few.
const CHATTY_PNG: &[u8] = include_bytes!("../../corpora/image/good_every_ancillary_chunk.png");
const JPEG: &[u8] = include_bytes!("../../corpora/image/good_baseline.jpg");
const BROKEN_PNG: &[u8] = include_bytes!("../../corpora/image/bad_crc.png");

/// The bucket as its operator sees it.
struct Bucket {
    s3: Client,
    name: String,
}

impl Bucket {
    fn of(stack: &TestStack) -> Self {
        let running = stack.system.running();
        let name = format!("darkroom-local-images-000000000000-{}", running.region);
        Self { s3: Clients::new(&running.access()).s3, name }
    }

    /// The keys below `uploads/`.
    async fn keys(&self) -> anyhow::Result<Vec<String>> {
        let listed = self.s3.list_objects_v2().bucket(&self.name).prefix("uploads/").send().await?;
        Ok(listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect())
    }

    /// The key of an upload.
    async fn key(&self, upload: &str) -> anyhow::Result<String> {
        let keys = self.keys().await?;
        Ok(keys.into_iter().find(|key| key.contains(upload)).expect("an object of this upload"))
    }

    async fn tag(&self, upload: &str) -> anyhow::Result<String> {
        let key = self.key(upload).await?;
        let tagging = self.s3.get_object_tagging().bucket(&self.name).key(key).send().await?;
        let tags: Vec<_> =
            tagging.tag_set().iter().map(|tag| format!("{}={}", tag.key(), tag.value())).collect();
        Ok(tags.join("&"))
    }

    async fn set_tag(&self, upload: &str, value: &str) -> anyhow::Result<()> {
        let tag = Tag::builder().key("use").value(value).build()?;
        let tagging = Tagging::builder().tag_set(tag).build()?;
        let key = self.key(upload).await?;
        self.s3.put_object_tagging().bucket(&self.name).key(key).tagging(tagging).send().await?;
        Ok(())
    }

    async fn delete(&self, upload: &str) -> anyhow::Result<()> {
        let key = self.key(upload).await?;
        self.s3.delete_object().bucket(&self.name).key(key).send().await?;
        Ok(())
    }
}

fn order(upload: &str) -> Value {
    json!({"prompt": "a lighthouse at dusk", "reference_upload_id": upload})
}

async fn drawn(stack: &TestStack, key: &str, body: &Value) -> anyhow::Result<Value> {
    let accepted = stack.app.submit("alice", key, body).await?;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    stack.app.settled("alice", accepted.text("id")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_drawn_from_an_upload_and_shows_it() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let bucket = Bucket::of(&stack);
    stack.grant("alice", 10).await?;
    let upload = stack.app.upload("alice", "image/png", PNG).await?;
    assert_eq!(bucket.tag(&upload).await?, "use=none", "it goes soon unless a job names it");
    let job = drawn(&stack, "k1", &order(&upload)).await?;
    assert_eq!(job["status"], "draft", "{job}");
    let reference = json!({"upload_id": upload, "sha256": HEXLOWER.encode(&Sha256::digest(PNG)),
                           "bytes": PNG.len(), "content_type": "image/png"});
    assert_eq!(job["reference"], reference);
    assert_eq!(bucket.tag(&upload).await?, "use=job", "it is kept");

    // The answer to a submission may be lost, and its process with it: who asks again has it kept, too.
    bucket.set_tag(&upload, "none").await?;
    let again = stack.app.submit("alice", "k1", &order(&upload)).await?;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"), "{}", again.body);
    assert_eq!(bucket.tag(&upload).await?, "use=job");

    // Nothing is kept for who cannot pay.
    let unpaid = stack.app.upload("carol", "image/png", PNG).await?;
    let refused = stack.app.submit("carol", "k", &order(&unpaid)).await?;
    assert_eq!((refused.status, refused.text("code")), (402, "insufficient_tokens"), "{}", refused.body);
    assert_eq!(bucket.tag(&unpaid).await?, "use=none");

    // One upload serves many jobs.
    let other = stack.app.upload("alice", "image/png", OTHER_PNG).await?;
    assert_ne!(other, upload);
    for (key, body) in [("k2", order(&upload)), ("k3", order(&other)), ("k4", json!({"prompt": "x"}))] {
        let job = drawn(&stack, key, &body).await?;
        assert_eq!((&job["status"], job["reference"].is_null()), (&json!("draft"), key == "k4"), "{job}");
    }
    let listed = stack.app.get("alice", "/v1/jobs").await?.body;
    let named: Vec<_> =
        listed["jobs"].as_array().unwrap().iter().map(|job| &job["reference"]["upload_id"]).collect();
    assert_eq!(named, [&Value::Null, &json!(other), &json!(upload), &json!(upload)]);
    stack.finish().await?;
    Ok(())
}

/// Owner, id and what lies there: whatever is wrong with an upload, the answer is the same as for one that never was.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cannot_be_used_is_as_one_that_never_was() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let bucket = Bucket::of(&stack);
    for user in ["alice", "bob"] {
        stack.grant(user, 10).await?;
    }
    let never = UploadId::new(now(), [7; 10]);
    let refused = stack.app.submit("alice", "k", &order(never.as_str())).await?;
    assert_eq!((refused.status, refused.text("code")), (422, "invalid_value"), "{}", refused.body);
    assert_eq!(refused.body["errors"][0]["pointer"], "/reference_upload_id");

    let bobs = stack.app.upload("bob", "image/png", PNG).await?;
    let not_put = stack.app.begin_upload("alice", "image/png", PNG).await?.text("upload_id").to_owned();
    let gone = stack.app.upload("alice", "image/png", PNG).await?;
    bucket.delete(&gone).await?;
    // As it would lie there had it been made a day ago.
    let recent = stack.app.upload("alice", "image/png", OTHER_PNG).await?;
    let old = UploadId::new(now().minus(UPLOAD_USE), [7; 10]);
    let old_key = bucket.key(&recent).await?.replace(&recent, old.as_str());
    let put = bucket.s3.put_object().bucket(&bucket.name).key(old_key);
    put.body(ByteStream::from_static(OTHER_PNG)).send().await?;
    for upload in [bobs.as_str(), &not_put, &gone, old.as_str()] {
        let answer = stack.app.submit("alice", "k", &order(upload)).await?;
        assert_eq!((answer.status, &answer.body), (refused.status, &refused.body), "{upload}");
    }
    assert_eq!(bucket.tag(&bobs).await?, "use=none", "nothing of another's is touched");
    for (upload, pointer) in [("upl_x", "/reference_upload_id"), ("../../images", "/reference_upload_id")] {
        let answer = stack.app.submit("alice", "k", &order(upload)).await?;
        assert_eq!((answer.status, &answer.body["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
    let account = stack.app.get("alice", "/v1/account").await?.body;
    assert_eq!((&account["held"], &account["available"]), (&json!(0), &json!(10)), "nothing was taken");
    // It is bob's all the same, and the key that was refused is not used up.
    for (user, upload) in [("bob", &bobs), ("alice", &recent)] {
        let made = stack.app.submit(user, "k", &order(upload)).await?;
        assert_eq!(made.status, 202, "{}", made.body);
        assert_eq!(stack.app.settled(user, made.text("id")).await?["status"], "draft");
    }
    stack.finish().await?;
    Ok(())
}

/// What the link takes is what was promised, whatever is promised.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_promised_bytes_can_be_put() -> anyhow::Result<()> {
    let stack = TestStack::start().await?;
    let bucket = Bucket::of(&stack);
    let place = stack.app.begin_upload("alice", "image/png", PNG).await?;
    let url = place.text("url").to_owned();
    let names: Vec<_> = place.body["headers"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["content-type", "if-none-match", "x-amz-checksum-sha256", "x-amz-tagging"]);
    for signed in
        ["content-length", "content-type", "if-none-match", "x-amz-checksum-sha256", "x-amz-tagging"]
    {
        assert!(url.contains("X-Amz-SignedHeaders=") && url.contains(signed), "{signed} in {url}");
    }
    assert!(url.contains("X-Amz-Expires=900"), "{url}");
    let mut same_length = PNG.to_vec();
    *same_length.last_mut().unwrap() ^= 1;
    for (bytes, code) in [
        (&same_length[..], "BadDigest"),
        (&PNG[1..], "SignatureDoesNotMatch"),
        (&[PNG, b"x"].concat(), "SignatureDoesNotMatch"),
        (b"", "SignatureDoesNotMatch"),
    ] {
        let (status, text) = stack.app.put(&place, bytes).await?;
        assert!([400, 403].contains(&status) && text.contains(code), "{status} {text}");
    }
    // A header that is another, and a link to another place: another's folder, a picture that was drawn.
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = place.body.clone();
        change(&mut body);
        Answer { status: 201, headers: std::collections::BTreeMap::new(), body }
    };
    let folder = UserId::parse("alice")?.upload_folder();
    let bobs = UserId::parse("bob")?.upload_folder();
    assert!(url.contains(&folder) && !url.contains("alice"), "{url}");
    for changed in [
        changed(&|body| body["headers"]["content-type"] = json!("text/html")),
        changed(&|body| body["headers"]["x-amz-tagging"] = json!("use=job")),
        changed(&|body| body["headers"]["x-amz-acl"] = json!("public-read")),
        changed(&|body| body["url"] = json!(url.replace(&folder, &bobs))),
        changed(&|body| body["url"] = json!(url.replace("/uploads/reference/", "/images/"))),
        changed(&|body| body["url"] = json!(url.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"))),
    ] {
        let (status, text) = stack.app.put(&changed, PNG).await?;
        assert_eq!(status, 403, "{:?}: {text}", changed.body);
    }
    assert_eq!(bucket.keys().await?, Vec::<String>::new());
    assert_eq!(stack.app.put(&place, PNG).await?.0, 200);
    let (status, text) = stack.app.put(&place, PNG).await?;
    assert!(status == 412 && text.contains("PreconditionFailed"), "{status} {text}");

    // As large as one may be, and its bytes arrive.
    let largest = vec![7; usize::try_from(REFERENCE_BYTES_MAX)?];
    let upload = stack.app.upload("alice", "image/jpeg", &largest).await?;
    let sha256 = HEXLOWER.encode(&Sha256::digest(&largest));
    assert!(bucket.key(&upload).await?.ends_with(&format!("/{sha256}.jpg")));
    stack.finish().await?;
    Ok(())
}

/// What lies there is looked at when it is drawn from: then it shows that it is gone, no picture, or another kind of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_drawn_from_fails_the_job_and_gives_its_tokens_back() -> anyhow::Result<()> {
    let mut stack = TestStack::start().await?;
    let bucket = Bucket::of(&stack);
    stack.grant("alice", 10).await?;
    for (key, content_type, bytes, detail) in [
        ("text", "image/png", &b"<svg onload=alert(1)>"[..], "the picture is no PNG, JPEG or WebP"),
        ("broken", "image/png", BROKEN_PNG, "the picture is damaged"),
        ("lie", "image/png", JPEG, "the picture is image/jpeg, and image/png was promised"),
    ] {
        let upload = stack.app.upload("alice", content_type, bytes).await?;
        let job = drawn(&stack, key, &order(&upload)).await?;
        assert_eq!((&job["status"], &job["settled"]), (&json!("failed"), &json!("refunded")), "{job}");
        assert_eq!(
            (&job["error"]["code"], &job["error"]["detail"]),
            (&json!("invalid_reference"), &json!(detail))
        );
        assert_eq!(job["error"]["retryable"], false);
    }

    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let upload = stack.app.upload("alice", "image/png", PNG).await?;
    let accepted = stack.app.submit("alice", "gone", &order(&upload)).await?;
    bucket.delete(&upload).await?;
    stack.system.start_consuming()?;
    let job = stack.app.settled("alice", accepted.text("id")).await?;
    assert_eq!((&job["status"], &job["settled"]), (&json!("failed"), &json!("refunded")), "{job}");
    assert_eq!(job["error"]["code"], "reference_missing", "{job}");
    // Its key still answers with it, and it cannot be tried again.
    let again = stack.app.submit("alice", "gone", &order(&upload)).await?;
    assert_eq!((again.status, again.text("id")), (202, accepted.text("id")), "{}", again.body);
    let retry = stack.app.post("alice", &format!("/v1/jobs/{}/retry", accepted.text("id"))).await?;
    assert_eq!((retry.status, retry.text("code")), (409, "wrong_state"), "{}", retry.body);
    assert!(retry.text("detail").contains("gone"), "{}", retry.body);
    let account = stack.app.get("alice", "/v1/account").await?.body;
    assert_eq!((&account["available"], &account["spent"]), (&json!(10), &json!(0)), "{account}");
    stack.finish().await?;
    Ok(())
}

/// What is tried again is drawn from the same, also when a new job could not name it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_tried_again_is_drawn_from_the_same() -> anyhow::Result<()> {
    let mut stack = TestStack::start().await?;
    stack.grant("alice", 10).await?;
    let upload = stack.app.upload("alice", "image/png", PNG).await?;
    stack.system.stop_consuming(Duration::from_secs(5)).await;
    let first = stack.app.submit("alice", "k", &order(&upload)).await?;
    let path = format!("/v1/jobs/{}", first.text("id"));
    // Another reference, or none, is another request.
    let other = stack.app.upload("alice", "image/png", PNG).await?;
    for body in [order(&other), json!({"prompt": "a lighthouse at dusk"})] {
        let answer = stack.app.submit("alice", "k", &body).await?;
        assert_eq!((answer.status, answer.text("code")), (422, "idempotency_mismatch"), "{}", answer.body);
    }
    assert_eq!(stack.app.post("alice", &format!("{path}/cancel")).await?.status, 200);
    stack.system.start_consuming()?;
    let retry = stack.app.post("alice", &format!("{path}/retry")).await?;
    assert_eq!(retry.status, 202, "{}", retry.body);
    assert_eq!(retry.body["reference"], first.body["reference"]);
    let drawn = stack.app.settled("alice", retry.text("id")).await?;
    assert_eq!(
        (&drawn["status"], &drawn["reference"]),
        (&json!("draft"), &first.body["reference"]),
        "{drawn}"
    );
    // What is deleted shows and keeps nothing of it.
    let deleted = stack.app.delete("alice", &format!("/v1/jobs/{}", retry.text("id"))).await?;
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    stack.finish().await?;
    Ok(())
}

/// The model gets the picture, and nothing else that its file held.
#[tokio::test(flavor = "multi_thread")]
async fn gemini_is_sent_the_picture_without_what_it_does_not_need() -> anyhow::Result<()> {
    let gemini = StandIn::start(Settings::default())?;
    gemini.add_key("AIza-canary-one", "one");
    let url = gemini.base_url();
    let stack = TestStack::start_with(|settings| {
        settings.variables.insert("DARKROOM_GEMINI_BASE_URL".to_owned(), url);
    })
    .await?;
    keys::add(&stack.stores()?, "AIza-canary-one", "one", 60).await?;
    stack.grant("alice", 20).await?;
    for (key, content_type, bytes) in [("png", "image/png", CHATTY_PNG), ("jpeg", "image/jpeg", JPEG)] {
        let upload = stack.app.upload("alice", content_type, bytes).await?;
        let mut body = order(&upload);
        body["model"] = json!(MODEL);
        let job = drawn(&stack, key, &body).await?;
        assert_eq!(job["status"], "draft", "{job}");
        let call = gemini.calls().pop().unwrap();
        let (media_type, sent) = call.reference.expect("a picture in the request");
        let checked = check(bytes.to_vec()).unwrap();
        assert_eq!((media_type.as_str(), &sent), (content_type, &checked.bytes));
        assert!(key != "png" || sent.len() < bytes.len(), "texts and profiles stay behind");
    }
    drawn(&stack, "none", &json!({"prompt": "x", "model": MODEL})).await?;
    assert_eq!(gemini.calls().pop().unwrap().reference, None);
    stack.finish().await?;
    Ok(())
}

/// A model that draws from none is not asked to: not by a caller, and not in another one's place.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_references_draws_nothing_from_one() -> anyhow::Result<()> {
    const OTHER: &str = "gpt-image-2.6-flare";
    let (gemini, openai) = (StandIn::start(Settings::default())?, stand_in_openai::StandIn::start()?);
    gemini.add_key("AIza-one", "one");
    openai.add_key("sk-one", []);
    let urls = [("GEMINI", gemini.base_url()), ("OPENAI", openai.base_url())];
    let stack = TestStack::start_with(|settings| {
        for (name, url) in urls {
            settings.variables.insert(format!("DARKROOM_{name}_BASE_URL"), url);
        }
        // The quota frees within the test, and not so soon that a worker waits for it rather than ask the fallback.
        settings.variables.insert("DARKROOM_QUOTA_MINUTE_SECONDS".to_owned(), "35".to_owned());
        settings.variables.insert("DARKROOM_SWEEP_SECONDS".to_owned(), "1".to_owned());
    })
    .await?;
    gemini.update(|settings| settings.minute = Duration::from_secs(35));
    keys::add(&stack.stores()?, "AIza-one", "one", 1).await?;
    keys::add_for(&stack.stores()?, (ProviderName::OpenAi, OTHER), "sk-one", "one", 60).await?;
    let set = stack.command(&["models", "set", MODEL, "--fallback", OTHER], "").await?;
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    stack.grant("alice", 50).await?;

    let models = stack.app.get("alice", "/v1/models").await?.body;
    let takes: Vec<_> = models["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| {
            (model["provider"].as_str().unwrap().to_owned(), model["takes_reference"].as_bool().unwrap())
        })
        .collect();
    assert!(takes.iter().all(|(provider, takes)| *takes == (provider != "openai")), "{takes:?}");
    let upload = stack.app.upload("alice", "image/png", PNG).await?;
    let mut body = order(&upload);
    body["model"] = json!(OTHER);
    let refused = stack.app.submit("alice", "refused", &body).await?;
    assert_eq!((refused.status, refused.text("code")), (422, "invalid_value"), "{}", refused.body);
    let error = &refused.body["errors"][0];
    assert_eq!(error["pointer"], "/reference_upload_id");
    assert!(error["reason"].as_str().unwrap().contains(OTHER), "{error}");

    body["model"] = json!(MODEL);
    let plain = json!({"prompt": "x", "model": MODEL});
    assert_eq!(drawn(&stack, "first", &plain).await?["drawn_by"], MODEL);
    // The quota is used up: the fallback draws what has no reference, and the other waits.
    let (with, without) = tokio::join!(drawn(&stack, "with", &body), drawn(&stack, "without", &plain));
    let (with, without) = (with?, without?);
    assert_eq!(
        (&with["drawn_by"], &with["attempts"]),
        (&json!(MODEL), &json!(1)),
        "waiting is no attempt: {with}"
    );
    assert_eq!(without["drawn_by"], OTHER, "{without}");
    assert!(openai.calls().iter().all(|call| call.prompt == "x"), "{:?}", openai.calls());
    stack.finish().await?;
    Ok(())
}

/// Without the permission to list the whole bucket S3 answers 403 for what is not there. It is told from being refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_told_from_what_may_not_be_read() -> anyhow::Result<()> {
    const BUCKET: &str = "bucket";
    let stores = TestStores::start().await?;
    stores.aws.ensure_bucket(BUCKET).await?;
    let s3 = Interposer::before(stores.endpoints.s3.as_deref().unwrap()).await?;
    let endpoints = Endpoints { s3: Some(s3.url().to_owned()), ..Endpoints::default() };
    let uploads = UploadStore::new(clients(endpoints).s3, BUCKET.to_owned());
    let (alice, bob) = (UserId::parse("alice")?, UserId::parse("bob")?);
    let sha256 = HEXLOWER.encode(&Sha256::digest(PNG));
    let promise = UploadRequest {
        kind: UploadKind::Reference,
        format: UploadFormat::Image(ImageFormat::Png),
        bytes: PNG.len() as u64,
        sha256: sha256.clone(),
    };
    let place = uploads.begin(&alice, &promise, now()).await?;
    let reference =
        Reference { upload: place.id.clone(), sha256, bytes: promise.bytes, format: ImageFormat::Png };
    let refused = || Canned::s3_error(StatusCode::FORBIDDEN, "AccessDenied");
    let absent = async || -> anyhow::Result<()> {
        assert_eq!(uploads.find_reference(&alice, &place.id).await?, None);
        for is_hidden in [false, true] {
            if is_hidden {
                s3.answer("GetObject", 1, &refused());
            }
            assert_eq!(uploads.read(&alice, &reference).await?, None);
            if is_hidden {
                // The SDK names it nowhere.
                s3.answer("", 1, &refused());
            }
            assert!(!uploads.keep(&alice, &reference).await?);
        }
        Ok(())
    };
    absent().await?;

    let path = http::Uri::try_from(place.url.as_str())?.path().to_owned();
    let key = path.trim_start_matches('/').trim_start_matches(BUCKET).trim_start_matches('/');
    let direct = &stores.clients.s3;
    direct.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(PNG)).send().await?;
    assert_eq!(uploads.find_reference(&alice, &place.id).await?, Some(reference.clone()));
    assert_eq!(uploads.find_reference(&bob, &place.id).await?, None, "another's folder");
    assert_eq!(uploads.read(&alice, &reference).await?.as_deref(), Some(PNG));
    assert!(uploads.keep(&alice, &reference).await?);
    s3.answer("GetObject", 1, &refused());
    assert!(uploads.read(&alice, &reference).await.is_err_and(|error| !error.is_temporary()));
    s3.answer("", 1, &refused());
    assert!(uploads.keep(&alice, &reference).await.is_err_and(|error| !error.is_temporary()));
    // More than was promised is not read to its end.
    let longer = [PNG, &[0; 4_096]].concat();
    direct.put_object().bucket(BUCKET).key(key).body(ByteStream::from(longer)).send().await?;
    assert_eq!(uploads.read(&alice, &reference).await?.map(|bytes| bytes.len()), Some(PNG.len() + 1));
    direct.delete_object().bucket(BUCKET).key(key).send().await?;
    absent().await
}
