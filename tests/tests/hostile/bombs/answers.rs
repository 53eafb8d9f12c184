//! Providers' answers that are long, deep, or made of many small things.

use std::sync::PoisonError;

use bytes::Bytes;
use darkroom_core::answer::Refusal;
use darkroom_core::limits::IMAGE_BYTES_MAX;
use darkroom_core::model::ProviderName::{self, Forge, Gemini, OpenAi};
use darkroom_providers::{DrawError, DrawnImage};
use darkroom_tests::hostile::provider::{Answer, Bench};
use data_encoding::BASE64;

use super::{MB, counted};
use crate::QUIET;
use crate::pictures::{chunk, header, png};

/// Two pictures at their limit whose lengths are not told: a draft, in a buffer of up to twice its length, and the one being read,
/// whose buffer doubles: for a moment the old one and the new one are there.
const ANSWER_HEAP_MAX: usize = 5 * IMAGE_BYTES_MAX + 8 * MB;
/// Of a refusal 64 KB are read; a tree of that is some twenty times as large.
const REFUSAL_HEAP_MAX: usize = 4 * MB;

/// The longest picture there may be, of bytes that do not repeat.
fn longest() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(IMAGE_BYTES_MAX - 57).collect();
    png(&[header(2, 2, 8, 2), chunk(b"IDAT", &noise), chunk(b"IEND", b"")])
}

/// A body as a provider writes it around these pictures, the last of which is not a draft. It is sent in pieces of 64 KB.
fn around(provider: ProviderName, pictures: &[&str]) -> Vec<Bytes> {
    let (head, before, after) = match provider {
        Gemini => {
            (r#"{"candidates":[{"content":{"parts":["#, r#"{"thought":true,"inlineData":{"data":""#, r#""}}"#)
        }
        OpenAi => (r#"{"data":["#, r#"{"b64_json":""#, r#""}"#),
        _ => (r#"{"images":["#, "\"", "\""),
    };
    let tail = if provider == Gemini { r#"]},"finishReason":"STOP"}],"modelVersion":"m"}"# } else { "]}" };
    let mut body = head.to_owned();
    for (at, &picture) in pictures.iter().enumerate() {
        let last = at + 1 == pictures.len();
        body.push_str(&if last { before.replace("true", "false") } else { before.to_owned() });
        for part in [picture, after, if last { tail } else { "," }] {
            body.push_str(part);
        }
    }
    let body = Bytes::from(body);
    body.chunks(64 * 1024).map(|piece| body.slice_ref(piece)).collect()
}

fn no_image(result: &Result<DrawnImage, DrawError>) -> &str {
    match result {
        Err(DrawError::Refused(Refusal::NoImage { detail })) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_read_in_a_few_times_its_picture() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start().unwrap();
    let draw = |what: &str, provider: ProviderName, answer: Answer| {
        counted(&format!("{provider}: {what}"), ANSWER_HEAP_MAX, || bench.draw(provider, answer))
    };
    let file = longest();
    let picture = BASE64.encode(&file);
    for provider in [Gemini, OpenAi, Forge] {
        let body = around(provider, &[&picture]);
        let length = Some(body.iter().map(Bytes::len).sum());
        for (what, length) in [("a picture of 20 MB", None), ("the same, its length told", length)] {
            let image = draw(what, provider, Answer { length, ..Answer::ok(body.clone()) }).unwrap();
            assert!(image.bytes == file, "{what}");
        }
        let escaped: Vec<_> = picture.bytes().take(MB).map(|byte| format!("\\u{byte:04x}")).collect();
        let escaped = escaped.concat();
        let escaped = draw(
            "1 MB of base64, each character escaped",
            provider,
            Answer::ok(around(provider, &[&escaped])),
        );
        assert_eq!(no_image(&escaped), "the picture is cut off");

        // Room is made for what the whole answer could hold.
        let rest = format!("{},{}", &picture[..1_024], " ".repeat(24 * MB));
        let small = around(provider, &[&picture[..1_024], &rest]);
        let length = Some(small.iter().map(Bytes::len).sum());
        let small = draw("1 KB in an answer of 24 MB", provider, Answer { length, ..Answer::ok(small) });
        assert_eq!(no_image(&small), "the picture is cut off");
        let many = vec![&picture[..4]; 200_000];
        let many = draw("200,000 pictures of 3 bytes", provider, Answer::ok(around(provider, &many)));
        assert_eq!(no_image(&many), "the picture is no PNG, JPEG or WebP");

        let long = |byte: u8, times: usize| vec![Bytes::from(vec![byte; 64 * 1024]); times * 16];
        for (what, byte) in [("80 MB of [", b'['), ("80 MB of {", b'{'), ("80 MB of digits", b'7')] {
            assert_eq!(no_image(&draw(what, provider, Answer::ok(long(byte, 80)))), "the answer is not JSON");
        }
        assert_eq!(
            no_image(&draw("8 MB of spaces", provider, Answer::ok(long(b' ', 8)))),
            "the answer is not JSON"
        );
        for (what, head) in [("a name of 96 MB", "{\""), ("a text of 96 MB", "{\"x\":\"")] {
            let body = [vec![Bytes::from_static(head.as_bytes())], long(b' ', 96)].concat();
            assert_eq!(no_image(&draw(what, provider, Answer::ok(body))), "the answer is too long");
        }
    }
    let three = around(Gemini, &[&picture[..picture.len() - 4096]; 3]);
    assert_eq!(
        no_image(&draw("three pictures of 20 MB", Gemini, Answer::ok(three))),
        "the picture is cut off"
    );
}

/// Bodies of a refusal, and the most that is read of one.
#[test]
fn a_refusal_is_read_in_little() {
    let _alone = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start().unwrap();
    let details = format!(
        r#"{{"error":{{"message":"{}","details":[{}{{}}]}}}}"#,
        "limit: 0x".repeat(2_000),
        "[],".repeat(14_000)
    );
    let deep = format!("{}1{}", r#"{"error":"#.repeat(6_000), "}".repeat(6_000));
    for provider in [Gemini, OpenAi, Forge] {
        for (what, body) in [("14,000 details", &details), ("6,000 levels", &deep)] {
            for status in [400, 403, 404, 429, 500] {
                let answer = Answer {
                    status: http::StatusCode::from_u16(status).unwrap(),
                    ..Answer::ok(vec![Bytes::from(body.clone())])
                };
                let told = counted(&format!("{provider}: {status} with {what}"), REFUSAL_HEAP_MAX, || {
                    bench.draw(provider, answer)
                });
                assert!(told.is_err());
            }
        }
    }
}
