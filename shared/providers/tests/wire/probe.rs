//! A probe: one request that draws nothing, and what its answer says of the key.

use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_core::key::Secret;
use darkroom_core::model::ProviderName;
use darkroom_providers::{Providers, Settings};
use data_encoding::BASE64;
use serde_json::json;

use crate::raw_server::{RawServer, Script, response};
use crate::{KEY, parts, providers};

const NETWORK: [ProviderName; 3] = [ProviderName::Gemini, ProviderName::OpenAi, ProviderName::Forge];

async fn probe(server: &RawServer, provider: ProviderName) -> Result<(), Refusal> {
    let secret = Secret::parse(KEY).unwrap();
    let answer = providers(server).get(provider).probe(Some(&secret), Duration::from_secs(10)).await;
    assert_eq!(server.requests().len(), 1, "one request");
    assert!(!format!("{answer:?}").contains("Canary"), "{answer:?}");
    answer
}

#[tokio::test]
async fn each_provider_is_asked_for_something_that_costs_nothing() {
    for (provider, line, header) in [
        (ProviderName::Gemini, "GET /v1beta/models?pageSize=1 HTTP/1.1", format!("x-goog-api-key: {KEY}")),
        (ProviderName::OpenAi, "GET /v1/models HTTP/1.1", format!("authorization: Bearer {KEY}")),
        (
            ProviderName::Forge,
            "GET /sdapi/v1/options HTTP/1.1",
            format!("authorization: Basic {}", BASE64.encode(KEY.as_bytes())),
        ),
    ] {
        let server = RawServer::start(Script::Answer(response("200 OK", "", b" {\"data\": []}"))).await;
        assert_eq!(probe(&server, provider).await, Ok(()), "{provider}");
        let (first, headers, body) = parts(&server.requests()[0]);
        assert_eq!((first.as_str(), headers, body.as_str()), (line, vec![header], ""));
    }
    let local = Providers::new(Settings::default());
    assert_eq!(local.get(ProviderName::Local).probe(None, Duration::from_secs(1)).await, Ok(()));
}

#[tokio::test]
async fn a_long_list_is_not_read_to_its_end() {
    for provider in NETWORK {
        let long = json!({"data": "x".repeat(1 << 20)}).to_string();
        let server = RawServer::start(Script::Answer(response("200 OK", "", long.as_bytes()))).await;
        assert_eq!(probe(&server, provider).await, Ok(()), "{provider}");
    }
}

#[tokio::test]
async fn a_refused_key_is_told() {
    let google = json!({"error": {"code": 400, "message": format!("API key not valid: {KEY}"), "status": "INVALID_ARGUMENT",
        "details": [{"reason": "API_KEY_INVALID"}]}});
    let openai = json!({"error": {"message": format!("Incorrect API key provided: {KEY}"), "type": "invalid_request_error", "code": "invalid_api_key"}});
    for (provider, status, body) in [
        (ProviderName::Gemini, "400 Bad Request", google),
        (ProviderName::OpenAi, "401 Unauthorized", openai),
        (ProviderName::Forge, "401 Unauthorized", json!({"detail": "Incorrect username or password"})),
    ] {
        let server =
            RawServer::start(Script::Answer(response(status, "", body.to_string().as_bytes()))).await;
        assert_eq!(probe(&server, provider).await, Err(Refusal::InvalidKey), "{provider}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_the_api_is_unavailable() {
    let unavailable = |detail: &str| Err(Refusal::Unavailable { detail: detail.to_owned() });
    let missing = json!({"error": {"message": "model not found", "code": "model_not_found"}}).to_string();
    for provider in NETWORK {
        for (answer, detail) in [
            (response("200 OK", "", b"<html>log in</html>"), "the answer is not JSON"),
            (response("200 OK", "", b""), "the answer is not JSON"),
            (response("404 Not Found", "", missing.as_bytes()), "HTTP_404"),
            (response("503 X", "", b""), "HTTP_503"),
            (response("302 X", "location: https://x\r\n", b""), "HTTP_302"),
        ] {
            let server = RawServer::start(Script::Answer(answer)).await;
            assert_eq!(probe(&server, provider).await, unavailable(detail), "{provider}");
        }
        let server = RawServer::start(Script::Reset).await;
        assert_eq!(probe(&server, provider).await, unavailable("the connection was lost"), "{provider}");
        let server = RawServer::start(Script::Hang).await;
        let secret = Secret::parse(KEY).unwrap();
        let hung = providers(&server).get(provider).probe(Some(&secret), Duration::from_millis(200)).await;
        assert_eq!(hung, unavailable("no answer in time"), "{provider}");
    }
}
