//! Forge over the wire: the request, every row of the answer table, progress, and an earlier call that still draws.

use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_core::model::ProviderName;
use darkroom_providers::{DrawError, Progress, Providers, Settings};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::raw_server::{RawServer, Script, response};
use crate::{Asked, parts, picture, providers, refused};

const DRAW: &str = "/sdapi/v1/txt2img";
const LOOK: &str = "/internal/progress";
const WORK: &str = "/sdapi/v1/progress";

fn answer() -> Vec<u8> {
    let info = json!({"prompt": "x", "seed": 7, "sd_model_name": "sd_xl_base_1.0_0.9vae"}).to_string();
    let body = json!({"images": [BASE64.encode(&picture())], "parameters": {"prompt": "x"}, "info": info});
    response("200 OK", "", body.to_string().as_bytes())
}

fn look(active: bool, queued: bool, progress: Option<f64>) -> Script {
    let body = json!({
        "active": active, "queued": queued, "completed": !active && !queued, "progress": progress,
        "eta": null, "live_preview": null, "id_live_preview": -1, "textinfo": "Waiting...",
    });
    Script::Answer(response("200 OK", "", body.to_string().as_bytes()))
}

fn work(job: &str) -> Script {
    let body = json!({"progress": 0.0, "eta_relative": 0.0, "state": {"job": job, "job_count": 0}});
    Script::Answer(response("200 OK", "", body.to_string().as_bytes()))
}

fn asked() -> Asked<'static> {
    Asked { secret: Some("none"), ..Asked::of(ProviderName::Forge) }
}

fn task_id(call: u32) -> String {
    format!("darkroom-job_{}-{call}", "a".repeat(52))
}

#[tokio::test]
async fn the_request_is_what_the_api_asks_for() {
    let server = RawServer::start(Script::Answer(answer())).await;
    let image = asked().draw(&providers(&server)).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "a first call asks for nothing else");
    let (first, headers, body) = parts(&requests[0]);
    assert_eq!(first, "POST /sdapi/v1/txt2img HTTP/1.1");
    assert_eq!(headers, ["content-type: application/json"]);
    let expected = json!({
        "prompt": "a \"lighthouse\" at dusk — Leuchtturm 灯台",
        "width": 2720,
        "height": 1536,
        "seed": 7,
        "batch_size": 1,
        "n_iter": 1,
        "send_images": true,
        "save_images": false,
        "force_task_id": task_id(1),
        "override_settings": {"sd_model_checkpoint": "sd_xl_base_1.0"},
        "override_settings_restore_afterwards": false,
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    assert_eq!((image.width, image.height), (3, 2));
    assert_eq!(image.drawn_by, "sd_xl_base_1.0_0.9vae", "what drew, not what was asked for");
}

#[tokio::test]
async fn a_key_that_is_user_and_password_is_sent() {
    let server = RawServer::start(Script::Answer(answer())).await;
    Asked { secret: Some("user:Canary"), ..asked() }.draw(&providers(&server)).await.unwrap();
    let (_, headers, _) = parts(&server.requests()[0]);
    assert_eq!(headers[0], format!("authorization: Basic {}", BASE64.encode(b"user:Canary")));
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let http = |status: u16| format!("HTTP_{status}");
    let unavailable = |status| Refusal::Unavailable { detail: http(status) };
    let invalid = |status| Refusal::InvalidRequest { detail: http(status) };
    let validation = json!({"detail": [{"loc": ["body", "width"], "msg": "Canary", "type": "int_parsing"}]});
    let gone_a1111 =
        json!({"error": "RuntimeError", "detail": "", "body": "", "errors": "model 'x' not found"});
    let gone_forge =
        json!({"error": "RuntimeError", "detail": "", "body": "", "message": "model 'x' not found"});
    let memory = json!({"error": "OutOfMemoryError", "errors": "CUDA out of memory."});
    for (status, body, expected) in [
        ("422 Unprocessable Entity", validation.to_string(), invalid(422)),
        ("400 Bad Request", json!({"detail": "Sampler not found"}).to_string(), invalid(400)),
        ("413 X", String::new(), invalid(413)),
        (
            "401 Unauthorized",
            json!({"detail": "Incorrect username or password"}).to_string(),
            Refusal::InvalidKey,
        ),
        ("403 Forbidden", String::new(), unavailable(403)),
        ("404 Not Found", json!({"detail": "Not Found"}).to_string(), unavailable(404)),
        ("408 X", String::new(), unavailable(408)),
        ("500 X", "Internal Server Error".to_owned(), unavailable(500)),
        ("500 X", memory.to_string(), unavailable(500)),
        ("500 X", gone_a1111.to_string(), Refusal::ModelRetired),
        ("500 X", gone_forge.to_string(), Refusal::ModelRetired),
        ("502 X", gone_forge.to_string(), unavailable(502)),
        ("504 X", String::new(), unavailable(504)),
        ("302 X", String::new(), unavailable(302)),
        ("429 X", String::new(), Refusal::RateLimited { retry_after: None }),
        (
            "200 OK",
            json!({"images": []}).to_string(),
            Refusal::NoImage { detail: "the answer has no picture".to_owned() },
        ),
    ] {
        let server = RawServer::start(Script::Answer(response(status, "", body.as_bytes()))).await;
        let error = asked().draw(&providers(&server)).await.expect_err("a refusal");
        assert_eq!(refused(error), expected, "{status} {body}");
        assert_eq!(server.requests().len(), 1, "one call");
    }
    let busy = response("429 X", "retry-after: 7\r\n", b"");
    let server = RawServer::start(Script::Answer(busy)).await;
    let rest = Refusal::RateLimited { retry_after: Some(Duration::from_secs(7)) };
    assert_eq!(refused(asked().draw(&providers(&server)).await.unwrap_err()), rest);
}

#[tokio::test]
async fn progress_is_told_while_the_call_runs() {
    for (looks, expected) in [
        (
            vec![look(false, true, None), look(true, false, Some(0.25)), look(true, false, Some(0.734))],
            Some(73),
        ),
        (vec![look(false, true, None), look(false, true, None), look(false, true, None)], Some(0)),
        // A server started with `--nowebui` has no such route.
        (vec![Script::Answer(response("404 Not Found", "", b"{\"detail\": \"Not Found\"}"))], None),
        (vec![look(false, false, None)], None),
    ] {
        // The fourth look begins when the third has been heard.
        let drawn = Script::AnswerAfter(LOOK, 4, answer());
        let server = RawServer::start(Script::ByPath(vec![(DRAW, vec![drawn]), (LOOK, looks)])).await;
        let asked = Asked { progress: Progress::unknown(), ..asked() };
        asked.draw(&providers(&server)).await.unwrap();
        assert_eq!(asked.progress.percent(), expected);
        let (first, _, body) = parts(&server.requests()[1]);
        assert_eq!(first, "POST /internal/progress HTTP/1.1");
        let expected = json!({"id_task": task_id(1), "id_live_preview": -1, "live_preview": false});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
        assert_eq!(server.requests_to(DRAW), 1, "looking is no call");
    }
}

#[tokio::test]
async fn a_later_call_waits_until_the_earlier_ones_are_over() {
    let script = Script::ByPath(vec![
        (LOOK, vec![look(false, true, None), look(true, false, Some(0.9)), look(false, false, None)]),
        (WORK, vec![work("scripts_txt2img")]),
        (DRAW, vec![Script::Answer(answer())]),
    ]);
    let server = RawServer::start(script).await;
    let asked = Asked { call: 3, ..asked() };
    asked.draw(&providers(&server)).await.unwrap();
    let requests = server.requests();
    let looked: Vec<_> =
        requests.iter().filter(|request| request.contains(LOOK)).map(|request| parts(request).2).collect();
    let ids: Vec<_> =
        looked.iter().map(|body| serde_json::from_str::<Value>(body).unwrap()["id_task"].clone()).collect();
    assert_eq!(ids, [task_id(1), task_id(1), task_id(1), task_id(2)]);
    let last: Value = serde_json::from_str(&parts(requests.last().unwrap()).2).unwrap();
    assert_eq!(last["force_task_id"], task_id(3), "only then it draws, under its own name");
    assert_eq!(server.requests_to(DRAW), 1);
    assert_eq!(asked.progress.percent(), None, "the earlier call's progress is not this one's");
}

#[tokio::test]
async fn a_call_that_never_ends_is_not_paid_twice() {
    let script = Script::ByPath(vec![
        (LOOK, vec![look(true, false, Some(0.5))]),
        (WORK, vec![work("scripts_txt2img")]),
        (DRAW, vec![Script::Answer(answer())]),
    ]);
    let server = RawServer::start(script).await;
    let asked = Asked { call: 2, timeout: Duration::from_secs(5), ..asked() };
    let error = asked.draw(&providers(&server)).await.unwrap_err();
    assert!(matches!(&error, DrawError::NotSent { detail } if detail.contains("earlier call")), "{error:?}");
    assert_eq!(server.requests_to(DRAW), 0);
}

#[tokio::test]
async fn a_call_that_failed_stays_on_the_books_and_is_over_all_the_same() {
    for on_the_books in [look(true, false, Some(0.0)), look(false, true, None)] {
        let script = Script::ByPath(vec![
            (LOOK, vec![on_the_books]),
            // Between two calls nothing runs for a moment: one look is not enough.
            (WORK, vec![work(""), work("scripts_txt2img"), work(""), work("")]),
            (DRAW, vec![Script::Answer(answer())]),
        ]);
        let server = RawServer::start(script).await;
        Asked { call: 2, ..asked() }.draw(&providers(&server)).await.unwrap();
        assert_eq!((server.requests_to(WORK), server.requests_to(DRAW)), (4, 1));
    }
}

#[tokio::test]
async fn a_server_that_does_not_tell_is_called() {
    let none = Script::Answer(response("404 Not Found", "", b"{\"detail\": \"Not Found\"}"));
    let script = Script::ByPath(vec![(LOOK, vec![none]), (DRAW, vec![Script::Answer(answer())])]);
    let server = RawServer::start(script).await;
    Asked { call: 2, ..asked() }.draw(&providers(&server)).await.unwrap();
    assert_eq!((server.requests_to(LOOK), server.requests_to(DRAW)), (1, 1));
}

#[tokio::test]
async fn without_a_base_url_there_is_no_forge() {
    let providers = Providers::new(Settings::default());
    let missing = providers.get(ProviderName::Forge).missing_setting().unwrap();
    assert!(missing.contains("DARKROOM_FORGE_BASE_URL"));
    let error = asked().draw(&providers).await.unwrap_err();
    assert_eq!(error, DrawError::NotSent { detail: missing.to_owned() });
    for provider in [ProviderName::Local, ProviderName::Gemini, ProviderName::OpenAi] {
        assert_eq!(providers.get(provider).missing_setting(), None);
    }
}
