//! What goes over the wire, how often, and what happens when the wire breaks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use darkroom_core::answer::Refusal;
use darkroom_core::image::ImageFormat;
use darkroom_core::limits::IMAGE_BYTES_MAX;
use darkroom_core::model::ProviderName;
use darkroom_providers::image_check::check;
use darkroom_providers::{BaseUrl, ConnectError, DrawError, Providers, Settings};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::raw_server::{RawServer, Script, response};
use crate::{Asked, KEY, draw, draw_within, picture, providers};

fn answer(model_version: &str) -> Vec<u8> {
    let body = json!({
        "candidates": [{
            "content": {"parts": [{"inlineData": {"mimeType": "image/jpeg", "data": BASE64.encode(&picture())}}]},
            "finishReason": "STOP",
        }],
        "modelVersion": model_version,
    });
    response("200 OK", "", body.to_string().as_bytes())
}

fn unavailable(detail: &str) -> DrawError {
    DrawError::Refused(Refusal::Unavailable { detail: detail.to_owned() })
}

fn lost() -> DrawError {
    unavailable("the connection was lost")
}

#[tokio::test]
async fn the_request_is_what_the_api_asks_for() {
    let server = RawServer::start(Script::Answer(answer("gemini-3.1-flash-image-002"))).await;
    let image = draw(&providers(&server)).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "POST /v1beta/models/gemini-3.1-flash-image:generateContent HTTP/1.1");
    lines.retain(|line| !line.starts_with("content-length") && !line.starts_with("user-agent: darkroom/"));
    lines.sort();
    let host = format!("host: 127.0.0.1:{}", server.port);
    assert_eq!(lines, ["content-type: application/json".to_owned(), host, format!("x-goog-api-key: {KEY}")]);
    let expected = json!({
        "contents": [{"role": "user", "parts": [{"text": "a \"lighthouse\" at dusk — Leuchtturm 灯台"}]}],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
        },
    });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);

    assert_eq!((image.width, image.height, image.format), (3, 2, ImageFormat::Png));
    assert_eq!(image.drawn_by, "gemini-3.1-flash-image-002");
    assert_eq!(image.sha256, HEXLOWER.encode(&Sha256::digest(&image.bytes)));
    assert!(!image.bytes.windows(4).any(|bytes| bytes == b"tEXt"), "texts are dropped");
    assert!(png::Decoder::new(std::io::Cursor::new(&image.bytes)).read_info().is_ok());
}

/// Behind the prompt, as it was checked, with the type that its bytes have.
#[tokio::test]
async fn a_reference_goes_along_in_the_request() {
    for (file, media_type) in [
        (&include_bytes!("../data/palette.png")[..], "image/png"),
        (include_bytes!("../data/baseline.jpg"), "image/jpeg"),
        (include_bytes!("../data/lossless_exif.webp"), "image/webp"),
    ] {
        let server = RawServer::start(Script::Answer(answer("m"))).await;
        let reference = check(file.to_vec()).unwrap();
        let asked = Asked { reference: Some(reference.clone()), ..Asked::of(ProviderName::Gemini) };
        asked.draw(&providers(&server)).await.unwrap();
        let requests = server.requests();
        let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        let data = BASE64.encode(&reference.bytes);
        let parts = json!([
            {"text": "a \"lighthouse\" at dusk — Leuchtturm 灯台"},
            {"inlineData": {"mimeType": media_type, "data": data}},
        ]);
        assert_eq!(body["contents"], json!([{"role": "user", "parts": parts}]));
        assert_eq!(body["generationConfig"]["imageConfig"]["imageSize"], "2K");
    }
}

#[tokio::test]
async fn the_path_of_a_base_url_is_kept() {
    let server = RawServer::start(Script::Answer(answer("m"))).await;
    let base = BaseUrl::parse(&format!("{}/gateway/gemini/", server.base_url())).unwrap();
    draw(&Providers::new(Settings { gemini_base_url: base, ..Settings::default() })).await.unwrap();
    assert!(server.requests()[0].starts_with("POST /gateway/gemini/v1beta/models/"));
}

#[tokio::test]
async fn a_model_version_that_is_no_name_is_not_repeated() {
    for version in ["", "free text", KEY, &"x".repeat(200)] {
        let server = RawServer::start(Script::Answer(answer(version))).await;
        assert_eq!(draw(&providers(&server)).await.unwrap().drawn_by, "gemini-3.1-flash-image", "{version}");
    }
}

#[tokio::test]
async fn a_call_without_a_key_is_not_made() {
    let server = RawServer::start(Script::Answer(answer("m"))).await;
    let providers = providers(&server);
    for provider in [ProviderName::Gemini, ProviderName::OpenAi, ProviderName::Forge] {
        let drawn = Asked { secret: None, ..Asked::of(provider) }.draw(&providers).await;
        assert!(matches!(drawn, Err(DrawError::NotSent { .. })), "{provider}");
        let probed = providers.get(provider).probe(None, Duration::from_secs(5)).await;
        assert!(matches!(probed, Err(Refusal::Unavailable { .. })), "{provider}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn connections_are_kept_between_calls_and_warmed_before() {
    let server = RawServer::start(Script::Answer(answer("m"))).await;
    let providers = providers(&server);
    providers.warm(&[ProviderName::Gemini]).await.unwrap();
    server.until(|seen| seen.connections == 1).await;
    for _ in 0..5 {
        draw(&providers).await.unwrap();
    }
    assert_eq!(server.connections(), 1, "one after another on the warm connection");
    let chunked = b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec();
    for answer in [response("503 X", "", b"{}"), response("503 X", "", b""), chunked] {
        let server = RawServer::start(Script::Answer(answer)).await;
        let providers = crate::providers(&server);
        for _ in 0..3 {
            assert_eq!(draw(&providers).await, Err(unavailable("HTTP_503")));
        }
        assert_eq!((server.connections(), server.requests().len()), (1, 3), "errors keep it too");
    }
}

#[tokio::test]
async fn a_connection_that_the_far_end_closed_in_between_is_replaced() {
    let script = Script::AnswerAndCloseLater(answer("m"), Duration::from_millis(50));
    let server = RawServer::start(script).await;
    let providers = providers(&server);
    for calls in 1..=3 {
        draw(&providers).await.unwrap();
        server.until(|seen| seen.closed == calls).await;
    }
    assert_eq!((server.connections(), server.requests().len()), (3, 3));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = RawServer::start(Script::Answer(answer("m"))).await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: {}/v1beta/models/x:generateContent\r\n", target.base_url());
        let server = RawServer::start(Script::Answer(response(status, &location, b""))).await;
        assert_eq!(draw(&providers(&server)).await, Err(unavailable(&format!("HTTP_{}", &status[..3]))));
        assert_eq!(server.requests().len(), 1);
    }
    assert_eq!(target.connections(), 0, "the key goes nowhere else");
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_left_in_time() {
    let half = answer("m");
    let half = half[..half.len() / 2].to_vec();
    let head = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 10\r\n\r\n{".to_vec();
    for (script, expected) in [
        (Script::Hang, unavailable("no answer in time")),
        (Script::Answer(half), unavailable("no answer in time")),
        // The status was heard: it counts.
        (Script::Answer(head), unavailable("HTTP_500")),
    ] {
        let server = RawServer::start(script).await;
        let start = Instant::now();
        assert_eq!(draw_within(&providers(&server), Duration::from_millis(300)).await, Err(expected));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!(server.requests().len(), 1);
        server.until(|seen| seen.closed == 1).await;
    }
}

#[tokio::test]
async fn a_broken_connection_is_one_call_and_unavailable() {
    let whole = answer("m");
    for script in [
        Script::Reset,
        Script::AnswerAndClose(Vec::new()),
        Script::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
        Script::AnswerAndClose(whole[..whole.len() - 1].to_vec()),
        Script::AnswerAndClose(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n".to_vec(),
        ),
        Script::AnswerAndClose(b"220 smtp.example ESMTP\r\n".to_vec()),
    ] {
        let server = RawServer::start(script.clone()).await;
        assert_eq!(draw(&providers(&server)).await, Err(lost()), "{script:?}");
        assert_eq!(server.requests().len(), 1, "{script:?}");
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_was_not_sent_anything() {
    // The port was free a moment ago and is not listened on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = BaseUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let providers = Providers::new(Settings { gemini_base_url: base, ..Settings::default() });
    assert!(matches!(providers.warm(&[ProviderName::Gemini]).await, Err(ConnectError::Unreachable(_))));
    let error = draw(&providers).await.unwrap_err();
    assert!(matches!(&error, DrawError::NotSent { .. }), "{error:?}");
    assert!(matches!(error.into_refusal(), Refusal::Unavailable { .. }));
}

#[tokio::test]
async fn the_key_is_not_shown_to_a_server_that_did_not_prove_itself() {
    let server = RawServer::start(Script::Answer(answer("m"))).await;
    let base = BaseUrl::parse(&format!("https://127.0.0.1:{}", server.port)).unwrap();
    let providers = Providers::new(Settings { gemini_base_url: base, ..Settings::default() });
    let error = draw(&providers).await.unwrap_err();
    assert!(matches!(&error, DrawError::NotSent { .. }), "{error:?}");
    server.until(|seen| seen.closed == 1).await;
    assert!(!server.requests().iter().any(|request| request.contains("Canary")));
}

#[tokio::test]
async fn an_endless_answer_is_left_at_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let opening = br#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":""#;
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let piece = chunk(&vec![b'A'; 1 << 20]);
    for opening in [chunk(opening), chunk(b"[\"")] {
        let server = RawServer::start(Script::Endless([head.clone(), opening].concat(), piece.clone())).await;
        let refusal = Refusal::NoImage { detail: "the answer is too long".to_owned() };
        assert_eq!(draw(&providers(&server)).await, Err(DrawError::Refused(refusal)));
        server.until(|seen| seen.closed == 1).await;
        let written = server.seen.lock().unwrap().written;
        assert!(written < 5 * IMAGE_BYTES_MAX, "{written}");
    }
    // What is no JSON is left at once.
    let server = RawServer::start(Script::Endless([head, chunk(b"<html>")].concat(), piece)).await;
    let refusal = Refusal::NoImage { detail: "the answer is not JSON".to_owned() };
    assert_eq!(draw(&providers(&server)).await, Err(DrawError::Refused(refusal)));
    server.until(|seen| seen.closed == 1).await;
    assert!(server.seen.lock().unwrap().written < 8 << 20);
}

#[tokio::test]
async fn an_endless_error_is_left_and_its_status_counts() {
    let head = b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let piece = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    let server = RawServer::start(Script::Endless(head, piece)).await;
    assert_eq!(draw(&providers(&server)).await, Err(unavailable("HTTP_503")));
    server.until(|seen| seen.closed == 1).await;
}

#[tokio::test]
async fn a_picture_at_the_limit_passes_and_one_above_does_not() {
    // A text chunk makes the file as long as wanted; it is dropped afterwards.
    let padded = |length: usize| {
        let small = picture();
        let (before, end) = small.split_at(small.len() - 12);
        let padding = length - small.len() - 12;
        let mut chunk = Vec::from(u32::try_from(padding).unwrap().to_be_bytes());
        chunk.extend_from_slice(b"prVt");
        chunk.resize(8 + padding, b'x');
        let crc = crc32fast::hash(&chunk[4..]);
        [before, &chunk, &crc.to_be_bytes(), end].concat()
    };
    let too_large = Refusal::NoImage { detail: "the picture is too large".to_owned() };
    for (length, expected) in
        [(IMAGE_BYTES_MAX, Ok(())), (IMAGE_BYTES_MAX + 3, Err(DrawError::Refused(too_large)))]
    {
        let data = BASE64.encode(&padded(length));
        let body =
            format!(r#"{{"candidates":[{{"content":{{"parts":[{{"inlineData":{{"data":"{data}"}}}}]}}}}]}}"#);
        let server = RawServer::start(Script::Answer(response("200 OK", "", body.as_bytes()))).await;
        let drawn = draw(&providers(&server)).await;
        assert_eq!(drawn.as_ref().map(|_| ()).map_err(Clone::clone), expected);
        if let Ok(image) = drawn {
            assert_eq!(image.bytes.len(), without_text(&picture()).len());
        }
    }
}

fn without_text(file: &[u8]) -> Bytes {
    darkroom_providers::image_check::check(file.to_vec()).unwrap().bytes
}

#[tokio::test]
async fn calls_at_once_each_have_their_own_connection() {
    let server = RawServer::start(Script::Answer(answer("m"))).await;
    let providers = providers(&server);
    let drawn = futures::future::join_all((0..20).map(|_| draw(&providers))).await;
    assert!(drawn.iter().all(Result::is_ok));
    assert_eq!(server.requests().len(), 20);
}
