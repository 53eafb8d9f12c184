//! The contract, `infra/openapi.yaml`, against what it is about: the template's routes, the routers, the codes and limits of the
//! core, its own examples, and ([`answers`]) what the running system answers.
//!
//! Everything goes over what the document lists, so a route needs no line here: described, it is asked; not described, it is
//! missed by [`routes_stand_in_template_document_and_routers`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod answers;
mod batches;
mod routers;
mod settled;
mod webhooks;

use std::collections::BTreeSet;

use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::export::{ExportFailure, ExportFormat, ExportKind, GroupBy};
use darkroom_core::image::ImageFormat;
use darkroom_core::job::{Status, WaitReason};
use darkroom_core::job_error::JobErrorCode;
use darkroom_core::ledger::Settlement;
use darkroom_core::limits::{
    BATCH_INLINE_MAX, BATCH_INVALID_MAX, BATCH_LINES_MAX, BATCH_REASON_CHARS, BATCH_UPLOAD_BYTES_MAX,
    DEADLINE, DEADLINE_MIN, IMAGE_BYTES_MAX, IMAGE_SIDE_MAX, PROMPT_CHARS_MAX, REFERENCE_BYTES_MAX,
    WEBHOOK_ANSWER_BYTES_KEPT, WEBHOOKS_MAX,
};
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize};
use darkroom_core::upload::UploadKind;
use darkroom_core::webhook::{EventKind, WEBHOOK_URL_CHARS_MAX};
use darkroom_core::webhook_delivery::{Standing, Unanswered};
use darkroom_core::webhook_endpoint::DisabledReason;
use darkroom_tests::openapi::Document;
use darkroom_tests::stores::stack;
use serde_json::{Value, json};

use self::routers::Routers;

fn document() -> Document {
    Document::read().unwrap()
}

#[tokio::test]
async fn routes_stand_in_template_document_and_routers() {
    let document = document();
    let described: BTreeSet<_> = document.operations().into_iter().map(|operation| operation.route).collect();
    let functions = stack("contract", "http://127.0.0.1").unwrap().functions;
    let routes = functions.iter().flat_map(|function| &function.routes);
    let deployed: BTreeSet<_> =
        routes.map(|route| route.key.clone()).filter(|key| key != "$default").collect();
    assert_eq!(deployed, described, "infra/template.yaml and infra/openapi.yaml list the same routes");
    let served = Routers::nowhere().routes().await;
    assert_eq!(served, described, "the functions' routers and infra/openapi.yaml list the same routes");
}

#[test]
fn whoever_needs_no_token_in_the_document_needs_none_in_the_template() {
    let document = document();
    for function in stack("contract", "http://127.0.0.1").unwrap().functions {
        for route in function.routes.iter().filter(|route| route.key != "$default") {
            let operation = document.operation(&route.key).unwrap();
            assert_eq!(operation.needs_token(), route.auth, "{}", route.key);
        }
    }
}

/// The values of an enum, `null` left out.
fn words(document: &Document, pointer: &str) -> BTreeSet<String> {
    let words = document.at(pointer).as_array().unwrap_or_else(|| panic!("no enum at {pointer}"));
    words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn set<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
    words.map(str::to_owned).into()
}

fn all<T: Copy>(known: &[T], word: fn(T) -> &'static str) -> BTreeSet<String> {
    known.iter().map(|known| word(*known).to_owned()).collect()
}

fn put_formats() -> BTreeSet<String> {
    let formats = UploadKind::ALL.into_iter().flat_map(UploadKind::formats);
    formats.map(|format| format.content_type().to_owned()).collect()
}

#[test]
fn the_words_are_those_of_the_core() {
    let document = document();
    let schemas = "/components/schemas";
    for (pointer, wanted) in [
        ("ErrorCode/enum", set(ErrorCode::ALL.map(ErrorCode::as_str))),
        ("JobErrorCode/enum", set(JobErrorCode::ALL.map(JobErrorCode::as_str))),
        ("Status/enum", set(Status::ALL.map(Status::as_str))),
        ("JobRequest/properties/aspect_ratio/enum", set(AspectRatio::ALL.map(AspectRatio::as_str))),
        ("Job/properties/aspect_ratio/enum", set(AspectRatio::ALL.map(AspectRatio::as_str))),
        ("JobRequest/properties/size/enum", set(ImageSize::ALL.map(ImageSize::as_str))),
        ("Job/properties/size/enum", set(ImageSize::ALL.map(ImageSize::as_str))),
        ("Model/properties/provider/enum", set(ProviderName::ALL.map(ProviderName::as_str))),
        (
            "Job/properties/eta_reason/enum",
            set([WaitReason::Capacity, WaitReason::Quota, WaitReason::BreakerOpen, WaitReason::Retry]
                .map(WaitReason::as_str)),
        ),
        (
            "Job/properties/settled/enum",
            set([Settlement::Captured, Settlement::Refunded].map(Settlement::as_str)),
        ),
        ("Image/properties/content_type/enum", set(ImageFormat::ALL.map(ImageFormat::content_type))),
        ("Reference/properties/content_type/enum", set(ImageFormat::ALL.map(ImageFormat::content_type))),
        ("UploadRequest/properties/content_type/enum", put_formats()),
        ("UploadRequest/properties/kind/enum", set(UploadKind::ALL.map(UploadKind::as_str))),
        ("ExportRequest/properties/kind/enum", all(ExportKind::ALL, ExportKind::as_str)),
        ("Export/properties/kind/enum", all(ExportKind::ALL, ExportKind::as_str)),
        ("ExportRequest/properties/format/enum", all(ExportFormat::ALL, ExportFormat::as_str)),
        ("Export/properties/format/enum", all(ExportFormat::ALL, ExportFormat::as_str)),
        ("ExportRequest/properties/group_by/enum", all(GroupBy::ALL, GroupBy::as_str)),
        ("Export/properties/group_by/enum", all(GroupBy::ALL, GroupBy::as_str)),
        ("ExportError/properties/code/enum", all(ExportFailure::ALL, ExportFailure::as_str)),
        ("EventKind/enum", set(EventKind::ALL.map(EventKind::as_str))),
        ("Webhook/properties/disabled_reason/enum", set(DisabledReason::ALL.map(DisabledReason::as_str))),
        ("Delivery/properties/status/enum", set(Standing::WORDS)),
        ("LastTry/properties/failure/enum", set(Unanswered::ALL.map(Unanswered::as_str))),
    ] {
        assert_eq!(words(&document, &format!("{schemas}/{pointer}")), wanted, "{pointer}");
    }
}

#[test]
fn the_bounds_are_those_of_the_core() {
    let document = document();
    for (pointer, wanted) in [
        ("JobRequest/properties/prompt/maxLength", PROMPT_CHARS_MAX as u64),
        ("JobRequest/properties/deadline_seconds/minimum", DEADLINE_MIN.as_secs()),
        ("JobRequest/properties/deadline_seconds/maximum", DEADLINE.as_secs()),
        ("Image/properties/bytes/maximum", IMAGE_BYTES_MAX as u64),
        ("Reference/properties/bytes/maximum", REFERENCE_BYTES_MAX),
        ("UploadRequest/properties/bytes/maximum", BATCH_UPLOAD_BYTES_MAX),
        ("UploadRequest/oneOf/0/properties/bytes/maximum", REFERENCE_BYTES_MAX),
        ("UploadRequest/oneOf/1/properties/bytes/maximum", BATCH_UPLOAD_BYTES_MAX),
        ("BatchRequest/properties/jobs/maxItems", BATCH_INLINE_MAX as u64),
        ("Batch/properties/lines/maximum", BATCH_LINES_MAX as u64),
        ("Batch/properties/made/maximum", BATCH_LINES_MAX as u64),
        ("Batch/properties/invalid_lines/maximum", BATCH_INVALID_MAX as u64),
        ("Batch/properties/invalid/maxItems", BATCH_INVALID_MAX as u64),
        ("InvalidLine/properties/reason/maxLength", BATCH_REASON_CHARS as u64),
        ("WebhookRequest/properties/url/maxLength", WEBHOOK_URL_CHARS_MAX as u64),
        ("WebhookRequest/properties/events/maxItems", EventKind::ALL.len() as u64),
        ("WebhookList/properties/webhooks/maxItems", WEBHOOKS_MAX as u64),
        ("LastTry/properties/answer/maxLength", WEBHOOK_ANSWER_BYTES_KEPT as u64),
        ("Image/properties/width/maximum", u64::from(IMAGE_SIDE_MAX)),
        ("Image/properties/height/maximum", u64::from(IMAGE_SIDE_MAX)),
    ] {
        assert_eq!(*document.at(&format!("/components/schemas/{pointer}")), json!(wanted), "{pointer}");
    }
}

/// Every code is refused with its status somewhere, with an example in the core's words, and says when to come again where the
/// core says so.
#[test]
fn every_code_is_described_with_its_status_and_words() {
    let document = document();
    let mut described = BTreeSet::new();
    for (name, response) in document.at("/components/responses").as_object().unwrap() {
        let content = &response["content"]["application/problem+json"];
        let properties = &content["schema"]["properties"];
        for code in properties["code"]["enum"].as_array().into_iter().flatten() {
            let code = ErrorCode::ALL.into_iter().find(|known| *code == known.as_str()).unwrap();
            assert_eq!(properties["status"]["const"], code.status(), "{name} {}", code.as_str());
            let example = &content["examples"][code.as_str()]["value"];
            assert_eq!(example["code"], code.as_str(), "{name} has no example of {}", code.as_str());
            assert_eq!(example["type"], format!("urn:darkroom:error:{}", code.as_str()), "{name}");
            assert_eq!(example["title"], code.title(Language::En), "{name}");
            assert_eq!(example["retryable"], code.is_retryable(), "{name}");
            let promises = !response["headers"]["Retry-After"].is_null();
            assert_eq!(promises, code.retry_after_seconds().is_some(), "{name} {}", code.as_str());
            described.insert(code.as_str());
        }
    }
    assert_eq!(described, ErrorCode::ALL.map(ErrorCode::as_str).into(), "each code is some answer's");
}

#[test]
fn every_answer_stands_at_its_status_and_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    for operation in document.operations() {
        for (status, response) in operation.responses() {
            for content in response["content"].as_object().into_iter().flat_map(|content| content.values()) {
                let told = &content["schema"]["properties"]["status"]["const"];
                assert!(
                    told.is_null() || told.is_string() || *told == status,
                    "{} {status}",
                    operation.route
                );
            }
            used.insert(response.to_string());
        }
    }
    for (name, response) in document.at("/components/responses").as_object().unwrap() {
        assert!(used.contains(&response.to_string()), "{name} is no route's answer");
    }
}

#[test]
fn every_answer_and_body_has_an_example_and_each_is_valid() {
    let document = document();
    let mut examples = 0;
    let mut check = |place: &str, content: &Value| {
        let all = content["examples"].as_object().unwrap_or_else(|| panic!("{place} has no example"));
        for (name, example) in all {
            let value = &document.resolved(example)["value"];
            document
                .fits(&content["schema"], value)
                .unwrap_or_else(|error| panic!("{place} {name}: {error}"));
            examples += 1;
        }
    };
    for operation in document.operations() {
        if let Some(body) = operation.body() {
            check(&operation.route, body);
        }
        for (status, response) in operation.responses() {
            for (media, content) in response["content"].as_object().into_iter().flatten() {
                check(&format!("{} {status} {media}", operation.route), content);
            }
        }
        for parameter in operation.parameters() {
            let (name, example) = (&parameter["name"], &parameter["example"]);
            if *example != Value::Null {
                let valid = document.fits(&parameter["schema"], example);
                valid.unwrap_or_else(|error| panic!("{} {name}: {error}", operation.route));
            }
        }
    }
    assert!(examples > 80, "{examples}");
}

#[test]
fn every_schema_is_one_and_bodies_take_no_other_members() {
    let document = document();
    for (name, schema) in document.at("/components/schemas").as_object().unwrap() {
        jsonschema::draft202012::meta::validate(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for operation in document.operations() {
        if let Some(body) = operation.body() {
            let schema = document.resolved(&body["schema"]);
            // What an app keeps with a job is its own.
            let is_own = operation.route == "PATCH /v1/jobs/{id}/metadata";
            assert_eq!(schema["additionalProperties"], is_own, "{}", operation.route);
        }
    }
}

/// Names by which generated clients call: each once.
#[test]
fn every_route_has_a_name_of_its_own() {
    let document = document();
    let names: Vec<_> = document.operations().iter().map(|operation| operation.id().to_owned()).collect();
    let once: BTreeSet<_> = names.iter().cloned().collect();
    assert!(once.len() == names.len() && !once.contains(""), "{names:?}");
}

/// What would be noticed: otherwise nothing above could fail.
#[test]
fn what_is_not_described_does_not_fit() {
    let document = document();
    let account = json!({"available": 1, "held": 0, "spent": 0, "granted": 1, "inflight": 0});
    let schema = json!({"$ref": "#/components/schemas/Account"});
    document.fits(&schema, &account).unwrap();
    for (name, value) in
        [("more", json!(1)), ("held", json!(-1)), ("held", json!("0")), ("held", Value::Null)]
    {
        let mut other = account.clone();
        other[name] = value;
        document.fits(&schema, &other).expect_err(name);
    }
    let mut fewer = account;
    fewer.as_object_mut().unwrap().remove("spent");
    document.fits(&schema, &fewer).expect_err("a member is missing");
    let health =
        json!({"$ref": "#/components/schemas/Health", "properties": {"status": {"const": "healthy"}}});
    let checks = json!({"store": "ok", "queue": "ok", "worker": "ok", "sweeper": "ok", "api_keys": "0/0", "breaker": "x"});
    let mut value = json!({"status": "healthy", "timestamp": "2026-11-22T10:00:00Z", "checks": checks});
    document.fits(&health, &value).unwrap();
    value["timestamp"] = json!("yesterday");
    document.fits(&health, &value).expect_err("no time");
    value["timestamp"] = json!("2026-11-22T10:00:00Z");
    value["checks"]["key_id"] = json!("key_1");
    document.fits(&health, &value).expect_err("a member deep inside");
}
