//! Checksums that follow the body: over TLS the SDK sends them unsigned, which it does not over loopback's plain
//! HTTP. So these requests are signed by hand.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use std::time::Duration;

use crate::common::{KEY, Local, SECRET};
use aws_sdk_s3::presigning::PresigningConfig;
use data_encoding::HEXLOWER;
use s3s::crypto::{Checksum as _, Sha256};

const BUCKET: &str = "images";
const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

fn hmac(key: &[u8], message: &str) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = [&block.map(|byte| byte ^ 0x36)[..], message.as_bytes()].concat();
    let outer = [&block.map(|byte| byte ^ 0x5c)[..], &Sha256::checksum(&inner)].concat();
    Sha256::checksum(&outer)
}

/// `Authorization` of Signature Version 4 for a PUT of `path`; `headers` by name, in order.
fn authorization(path: &str, headers: &[(&str, &str)], time: &str) -> String {
    let date = &time[..8];
    let scope = format!("{date}/us-east-1/s3/aws4_request");
    let lines = headers.iter().fold(String::new(), |lines, (name, value)| lines + name + ":" + value + "\n");
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let canonical = format!("PUT\n{path}\n\n{lines}\n{names}\n{UNSIGNED}");
    let digest = HEXLOWER.encode(&Sha256::checksum(canonical.as_bytes()));
    let key = hmac(format!("AWS4{SECRET}").as_bytes(), date);
    let key = ["us-east-1", "s3", "aws4_request"].iter().fold(key, |key, part| hmac(&key, part));
    let signature = HEXLOWER.encode(&hmac(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}")));
    format!("AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}")
}

/// The time as signatures have it, taken from a URL that the SDK signs.
async fn now(local: &Local) -> String {
    let config = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let url = local.s3().get_object().bucket(BUCKET).key("k").presigned(config).await.unwrap();
    url.uri().split_once("X-Amz-Date=").unwrap().1[..16].to_owned()
}

/// Puts ten bytes with `trailer` behind them; the status and the answer's text.
async fn put(local: &Local, bytes: &str, trailer: &str) -> (u16, String) {
    let endpoint = local.aws.s3_endpoint();
    let path = format!("/{BUCKET}/k");
    let time = now(local).await;
    let headers = [
        ("host", endpoint.strip_prefix("http://").unwrap()),
        ("x-amz-content-sha256", UNSIGNED),
        ("x-amz-date", time.as_str()),
        ("x-amz-decoded-content-length", "10"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let mut request = crate::common::http().put(format!("{endpoint}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .header("authorization", authorization(&path, &headers, &time))
        .header("content-encoding", "aws-chunked")
        .body(format!("{:x}\r\n{bytes}\r\n0\r\n{trailer}\r\n", bytes.len()));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn files(local: &Local) -> usize {
    std::fs::read_dir(local.folder().join("s3/objects")).unwrap().count()
}

#[tokio::test]
async fn the_bytes_must_match_the_checksum_that_follows_them() {
    let local = Local::start().await;
    local.aws.ensure_bucket(BUCKET).await.unwrap();
    let right = "x-amz-checksum-crc32:poTHxg==\r\n";
    for (bytes, trailer, code) in [
        ("0123456780", right, "BadDigest"),
        ("0123456789", "x-amz-checksum-crc32:AAAAAA==\r\n", "BadDigest"),
        ("0123456789", "x-amz-checksum-crc32:nonsense\r\n", "MalformedTrailerError"),
        ("0123456789", "x-amz-checksum-crc32c:poTHxg==\r\n", "MalformedTrailerError"),
        ("0123456789", "", "MalformedTrailerError"),
        ("012345678", right, "IncompleteBody"),
    ] {
        let (status, text) = put(&local, bytes, trailer).await;
        assert_eq!(status, 400, "{bytes} {trailer}: {text}");
        assert!(text.contains(&format!("<Code>{code}</Code>")), "{bytes} {trailer}: {text}");
        assert_eq!(files(&local), 0, "{bytes} {trailer}");
    }
    let (status, text) = put(&local, "0123456789", right).await;
    assert_eq!(status, 200, "{text}");
    let got = local.s3().get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(got.content_encoding(), None);
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"0123456789");
}
