//! S3 as the real SDK meets it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::common::Local;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, Tag, Tagging};
use darkroom_local_aws::CorsRule;

const BUCKET: &str = "images";

async fn start() -> (Local, Client) {
    let local = Local::start().await;
    local.aws.ensure_bucket(BUCKET).await.unwrap();
    local.aws.ensure_bucket(BUCKET).await.unwrap();
    let client = local.s3();
    (local, client)
}

fn body(bytes: &[u8]) -> ByteStream {
    ByteStream::from(bytes.to_vec())
}

async fn put(client: &Client, key: &str, bytes: &[u8]) {
    client.put_object().bucket(BUCKET).key(key).body(body(bytes)).send().await.unwrap();
}

async fn get(client: &Client, key: &str) -> Vec<u8> {
    let got = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
    got.body.collect().await.unwrap().to_vec()
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    error.code().unwrap_or("none").to_owned()
}

/// How many files hold objects, published or not.
fn files(local: &Local) -> usize {
    std::fs::read_dir(local.folder().join("s3/objects")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_racing_creators_one_wins_each_time() {
    let (local, client) = start().await;
    for round in 0..15 {
        let key = format!("race/{round}");
        let racers: Vec<_> = (0..20_u8)
            .map(|racer| {
                let put = client
                    .put_object()
                    .bucket(BUCKET)
                    .key(&key)
                    .if_none_match("*")
                    .body(body(&[racer; 1000]));
                tokio::spawn(async move { (racer, put.send().await) })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            let (racer, result) = racer.await.unwrap();
            match result {
                Ok(_) => winners.push(racer),
                Err(error) => assert_eq!(code(&error), "PreconditionFailed"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?} all won");
        assert_eq!(get(&client, &key).await, [winners[0]; 1000]);
    }
    assert_eq!(files(&local), 15, "the losers' bytes are gone");
}

#[tokio::test]
async fn a_replaced_object_is_wholly_new_and_its_old_bytes_are_gone() {
    let (local, client) = start().await;
    let first = client.put_object().bucket(BUCKET).key("k").content_type("image/png").metadata("a", "1");
    let first = first.body(body(b"first")).send().await.unwrap();
    let second = client.put_object().bucket(BUCKET).key("k").content_type("image/webp");
    second.body(body(b"second one")).send().await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.content_type(), Some("image/webp"));
    assert_eq!(head.content_length(), Some(10));
    assert!(head.metadata().is_none_or(std::collections::HashMap::is_empty));
    assert_ne!(head.e_tag(), first.e_tag());
    assert_eq!(files(&local), 1);

    let stale = client.put_object().bucket(BUCKET).key("k").if_match(first.e_tag().unwrap());
    assert_eq!(code(&stale.body(body(b"x")).send().await.unwrap_err()), "PreconditionFailed");
    let fresh = client.put_object().bucket(BUCKET).key("k").if_match(head.e_tag().unwrap());
    fresh.body(body(b"third")).send().await.unwrap();
    assert_eq!(get(&client, "k").await, b"third");
}

#[tokio::test]
async fn every_algorithm_of_the_sdk_arrives_and_comes_back() {
    let (local, client) = start().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let file = local.folder().join("upload");
    std::fs::write(&file, &bytes).unwrap();
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        let key = algorithm.as_str();
        // One with its checksum in a header, and one that is streamed with its checksum behind it.
        for body in [body(&bytes), ByteStream::from_path(&file).await.unwrap()] {
            let put = client.put_object().bucket(BUCKET).key(key).checksum_algorithm(algorithm.clone());
            put.body(body).send().await.unwrap();
        }
        let got = client.get_object().bucket(BUCKET).key(key).checksum_mode(ChecksumMode::Enabled);
        let got = got.send().await.unwrap();
        let stored = [
            got.checksum_crc32(),
            got.checksum_crc32_c(),
            got.checksum_crc64_nvme(),
            got.checksum_sha1(),
            got.checksum_sha256(),
        ];
        assert_eq!(stored.iter().flatten().count(), 1, "{key}");
        // The SDK verifies the checksum while it reads.
        assert!(got.body.collect().await.unwrap().to_vec() == bytes, "{key}");
    }
}

#[tokio::test]
async fn what_does_not_match_its_checksum_is_refused_and_not_kept() {
    let (local, client) = start().await;
    let wrong_crc =
        client.put_object().bucket(BUCKET).key("k").checksum_crc32("AAAAAA==").body(body(b"bytes"));
    assert_eq!(code(&wrong_crc.send().await.unwrap_err()), "BadDigest");
    let wrong_sha = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let wrong_sha =
        client.put_object().bucket(BUCKET).key("k").checksum_sha256(wrong_sha).body(body(b"bytes"));
    assert_eq!(code(&wrong_sha.send().await.unwrap_err()), "BadDigest");
    let wrong_md5 = client.put_object().bucket(BUCKET).key("k").content_md5("1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_eq!(code(&wrong_md5.body(body(b"bytes")).send().await.unwrap_err()), "BadDigest");
    let no_md5 = client.put_object().bucket(BUCKET).key("k").content_md5("nonsense").body(body(b"bytes"));
    assert_eq!(code(&no_md5.send().await.unwrap_err()), "InvalidDigest");
    let missing = client.head_object().bucket(BUCKET).key("k").send().await.unwrap_err();
    assert!(missing.into_service_error().is_not_found());
    assert_eq!(files(&local), 0, "refused bytes are gone");
}

#[tokio::test]
async fn keys_never_leave_the_folder() {
    let (local, client) = start().await;
    let keys = [
        "../../outside",
        "..",
        "a/../../../b",
        "/absolute",
        "//two//slashes//",
        "a",
        "a/",
        "a/b",
        "A",
        "spaces and ünïcödé/✓",
        "percent%2e%2e%2f",
        "C:\\windows",
        &"long/".repeat(200),
    ];
    for key in keys {
        put(&client, key, key.as_bytes()).await;
    }
    for key in keys {
        assert_eq!(get(&client, key).await, key.as_bytes(), "{key}");
    }
    let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let listed: BTreeSet<String> =
        listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect();
    assert_eq!(listed, keys.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(files(&local), keys.len());
    let beside: BTreeSet<String> = std::fs::read_dir(local.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let allowed =
        |name: &String| ["s3", "lock", "kms-master-key"].contains(&name.as_str()) || name.contains(".sqlite");
    assert!(beside.iter().all(allowed), "{beside:?}");
}

#[tokio::test]
async fn reads_select_bytes_and_answer_conditions() {
    let (_local, client) = start().await;
    put(&client, "k", b"0123456789").await;
    for (range, expected, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
    ] {
        let got = client.get_object().bucket(BUCKET).key("k").range(range).send().await.unwrap();
        assert_eq!(got.content_range(), Some(content_range));
        assert_eq!(got.body.collect().await.unwrap().to_vec(), expected.as_bytes(), "{range}");
    }
    let beyond = client.get_object().bucket(BUCKET).key("k").range("bytes=10-").send().await.unwrap_err();
    assert_eq!(code(&beyond), "InvalidRange");
    let etag = client.head_object().bucket(BUCKET).key("k").send().await.unwrap().e_tag().unwrap().to_owned();
    let same = client.get_object().bucket(BUCKET).key("k").if_none_match(&etag).send().await.unwrap_err();
    assert_eq!(same.raw_response().unwrap().status().as_u16(), 304);
    let other = client.get_object().bucket(BUCKET).key("k").if_match("\"other\"").send().await.unwrap_err();
    assert_eq!(code(&other), "PreconditionFailed");
}

#[tokio::test]
async fn metadata_and_headers_come_back_without_the_transfer_coding() {
    let (_local, client) = start().await;
    let put = client.put_object().bucket(BUCKET).key("k").content_type("image/png");
    let put = put.cache_control("max-age=60").content_disposition("inline").metadata("job", "job_7");
    put.body(body(b"bytes")).send().await.unwrap();
    let got = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(got.content_type(), Some("image/png"));
    assert_eq!(got.cache_control(), Some("max-age=60"));
    assert_eq!(got.content_disposition(), Some("inline"));
    assert_eq!(got.content_encoding(), None);
    assert_eq!(got.metadata().unwrap()["job"], "job_7");
    assert!(got.last_modified().is_some());
}

#[tokio::test]
async fn deletes_are_idempotent_and_leave_no_bytes() {
    let (local, client) = start().await;
    put(&client, "k", b"bytes").await;
    for _ in 0..2 {
        client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    }
    let missing = client.get_object().bucket(BUCKET).key("k").send().await.unwrap_err();
    assert!(missing.into_service_error().is_no_such_key());
    assert_eq!(files(&local), 0);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named_in_every_answer() {
    let (_local, client) = start().await;
    let put = client.put_object().bucket("absent").key("k").body(body(b"bytes")).send().await.unwrap_err();
    assert_eq!(code(&put), "NoSuchBucket");
    let get = client.get_object().bucket("absent").key("k").send().await.unwrap_err();
    assert_eq!(code(&get), "NoSuchBucket");
    let list = client.list_objects_v2().bucket("absent").send().await.unwrap_err();
    assert_eq!(code(&list), "NoSuchBucket");
    assert!(
        client.head_bucket().bucket("absent").send().await.unwrap_err().into_service_error().is_not_found()
    );
    client.head_bucket().bucket(BUCKET).send().await.unwrap();
    client.create_bucket().bucket("absent").send().await.unwrap();
    let again = client.create_bucket().bucket("absent").send().await.unwrap_err();
    assert_eq!(code(&again), "BucketAlreadyOwnedByYou");
}

#[tokio::test]
async fn lists_in_order_by_page_prefix_and_delimiter() {
    let (_local, client) = start().await;
    let keys = ["a", "a-b", "a/1", "a/2", "a/x/3", "a0", "b/1", "c"];
    for key in keys {
        put(&client, key, b"x").await;
    }
    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let page = client.list_objects_v2().bucket(BUCKET).max_keys(3).set_continuation_token(token);
        let page = page.send().await.unwrap();
        seen.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, keys);

    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let page =
            client.list_objects_v2().bucket(BUCKET).delimiter("/").max_keys(2).set_continuation_token(token);
        let page = page.send().await.unwrap();
        let objects = page.contents().iter().map(|object| object.key().unwrap().to_owned());
        let prefixes = page.common_prefixes().iter().map(|common| common.prefix().unwrap().to_owned());
        seen.extend(objects.chain(prefixes).collect::<BTreeSet<_>>());
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a", "a-b", "a/", "a0", "b/", "c"]);

    let under = client.list_objects_v2().bucket(BUCKET).prefix("a/").delimiter("/").send().await.unwrap();
    let objects: Vec<&str> = under.contents().iter().map(|object| object.key().unwrap()).collect();
    let prefixes: Vec<&str> = under.common_prefixes().iter().map(|common| common.prefix().unwrap()).collect();
    assert_eq!((objects, prefixes), (vec!["a/1", "a/2"], vec!["a/x/"]));
    let after = client.list_objects_v2().bucket(BUCKET).start_after("a0").send().await.unwrap();
    assert_eq!(after.key_count(), Some(2));
}

#[tokio::test]
async fn presigned_urls_work_until_they_expire_and_only_as_signed() {
    let (_local, client) = start().await;
    put(&client, "folder/picture.png", b"bytes").await;
    let presign = |config: PresigningConfig| {
        let get = client.get_object().bucket(BUCKET).key("folder/picture.png");
        async move { get.presigned(config).await.unwrap().uri().to_owned() }
    };
    let http = crate::common::http();
    let fetch = async |url: &str| http.get(url).send().await.unwrap();

    let good = presign(PresigningConfig::expires_in(Duration::from_secs(900)).unwrap()).await;
    let answer = fetch(&good).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), &b"bytes"[..]);

    let minute_ago = SystemTime::now() - Duration::from_secs(60);
    let config =
        PresigningConfig::builder().start_time(minute_ago).expires_in(Duration::from_secs(30)).build();
    let expired = fetch(&presign(config.unwrap()).await).await;
    assert_eq!(expired.status(), 403);
    assert!(expired.text().await.unwrap().contains("Request has expired"));

    for tampered in [
        good.replace("picture", "other"),
        good.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"),
        format!("{good}&response-content-type=text%2Fhtml"),
    ] {
        assert_eq!(fetch(&tampered).await.status(), 403, "{tampered}");
    }
    let deleted = http.delete(&good).send().await.unwrap();
    assert_eq!(deleted.status(), 403, "a URL for reading does not delete");
}

/// What a browser does with an upload that the API has prepared: length, type and checksum are signed.
#[tokio::test]
async fn a_presigned_upload_takes_the_bytes_it_was_signed_for_and_no_others() {
    let (local, client) = start().await;
    let sha256_of_bytes = "J3CJ2RwL308uaGK6fkoHYFEZQx9dE/cm3TUrBvGyBqk=";
    let presigned = client
        .put_object()
        .bucket(BUCKET)
        .key("upload")
        .content_type("image/png")
        .content_length(5)
        .checksum_sha256(sha256_of_bytes)
        .if_none_match("*")
        .tagging("use=none")
        .presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap())
        .await
        .unwrap();
    // The body, without one of the headers, and with another one.
    let upload = async |bytes: &'static [u8], without: &str, with: Option<(&str, &str)>| {
        let mut request = crate::common::http().put(presigned.uri());
        // The client says how long its body is.
        for (name, value) in
            presigned.headers().filter(|(name, _)| ![without, "content-length"].contains(name))
        {
            request = request.header(name, value);
        }
        if let Some((name, value)) = with {
            request = request.header(name, value);
        }
        let answer = request.body(bytes).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for (bytes, without, with, status, code) in [
        (&b"other"[..], "", None, 400, "BadDigest"),
        (b"longer", "", None, 403, "SignatureDoesNotMatch"),
        (b"byte", "", None, 403, "SignatureDoesNotMatch"),
        (b"", "", None, 403, "SignatureDoesNotMatch"),
        (b"bytes", "content-type", None, 403, "SignatureDoesNotMatch"),
        (b"bytes", "content-type", Some(("content-type", "text/html")), 403, "SignatureDoesNotMatch"),
        (b"other", "x-amz-checksum-sha256", None, 403, "SignatureDoesNotMatch"),
        (b"bytes", "if-none-match", None, 403, "SignatureDoesNotMatch"),
        (b"bytes", "x-amz-tagging", None, 403, "SignatureDoesNotMatch"),
        (b"bytes", "x-amz-tagging", Some(("x-amz-tagging", "use=job")), 403, "SignatureDoesNotMatch"),
        (b"bytes", "", Some(("x-amz-meta-more", "1")), 403, "AccessDenied"),
        (b"bytes", "", Some(("x-amz-acl", "public-read")), 403, "AccessDenied"),
    ] {
        let (found, text) = upload(bytes, without, with).await;
        assert_eq!(found, status, "{bytes:?} without {without:?} with {with:?}: {text}");
        assert!(text.contains(code), "{bytes:?} without {without:?} with {with:?}: {text}");
        assert_eq!(files(&local), 0);
    }
    let (status, text) = upload(b"bytes", "", None).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(get(&client, "upload").await, b"bytes");
    assert_eq!(tags(&client, "upload").await, [("use".to_owned(), "none".to_owned())]);
    let (status, text) = upload(b"bytes", "", None).await;
    assert!(status == 412 && text.contains("PreconditionFailed"), "{text}");
    let head = client.head_object().bucket(BUCKET).key("upload").send().await.unwrap();
    assert_eq!(head.content_type(), Some("image/png"));
}

async fn tags(client: &Client, key: &str) -> Vec<(String, String)> {
    let tagging = client.get_object_tagging().bucket(BUCKET).key(key).send().await.unwrap();
    tagging.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

#[tokio::test]
async fn an_objects_tags_are_exchanged_and_the_rest_of_it_stays() {
    let (local, client) = start().await;
    let tagged =
        client.put_object().bucket(BUCKET).key("k").tagging("use=none&of=alice").content_type("image/png");
    tagged.body(body(b"bytes")).send().await.unwrap();
    let before = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    let tag = |key: &str| {
        let tag = Tag::builder().key("use").value("job").build().unwrap();
        let tagging = Tagging::builder().tag_set(tag).build().unwrap();
        client.put_object_tagging().bucket(BUCKET).key(key).tagging(tagging).send()
    };
    for _ in 0..2 {
        tag("k").await.unwrap();
        assert_eq!(tags(&client, "k").await, [("use".to_owned(), "job".to_owned())]);
    }
    let after = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!((before.last_modified(), before.e_tag()), (after.last_modified(), after.e_tag()));
    assert_eq!(after.content_type(), Some("image/png"));
    assert_eq!(get(&client, "k").await, b"bytes");
    assert_eq!(code(&tag("absent").await.unwrap_err()), "NoSuchKey");
    let local = local.restart().await;
    assert_eq!(tags(&local.s3(), "k").await, [("use".to_owned(), "job".to_owned())]);
    // Another object has its own.
    put(&local.s3(), "k", b"other bytes").await;
    assert!(tags(&local.s3(), "k").await.is_empty());
}

const ORIGIN: &str = "https://app.example";

fn allow(origin: &str) -> Vec<CorsRule> {
    vec![CorsRule {
        allowed_origins: vec![origin.to_owned()],
        allowed_methods: vec!["GET".to_owned(), "HEAD".to_owned()],
        allowed_headers: Vec::new(),
        max_age: Duration::from_secs(60),
    }]
}

/// What a browser asks before it lets a page of [`ORIGIN`] send this method, with these headers of its own.
async fn preflight(local: &Local, method: &str, headers: Option<&str>) -> reqwest::Response {
    let mut request = crate::common::http()
        .request(reqwest::Method::OPTIONS, format!("{}/{BUCKET}/k", local.aws.s3_endpoint()))
        .header("origin", ORIGIN)
        .header("access-control-request-method", method);
    if let Some(headers) = headers {
        request = request.header("access-control-request-headers", headers);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_page_of_another_origin_gets_what_the_buckets_rules_allow() {
    let (local, client) = start().await;
    put(&client, "k", b"bytes").await;
    let url = client.get_object().bucket(BUCKET).key("k");
    let url = url.presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap()).await.unwrap();
    let read = async || {
        let got = crate::common::http().get(url.uri()).header("origin", ORIGIN).send().await.unwrap();
        let allowed = got.headers().get("access-control-allow-origin").cloned();
        assert_eq!(got.bytes().await.unwrap(), &b"bytes"[..], "the signature decides who reads");
        allowed.map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(read().await, None, "a bucket without rules");
    assert_eq!(preflight(&local, "GET", None).await.status(), 403);
    for (allowed, answered) in [("*", Some("*")), (ORIGIN, Some(ORIGIN)), ("https://other.example", None)] {
        local.aws.set_bucket_cors(BUCKET, allow(allowed));
        assert_eq!(read().await.as_deref(), answered, "{allowed}");
        let asked = preflight(&local, "GET", None).await;
        assert_eq!(asked.status(), if answered.is_some() { 200 } else { 403 }, "{allowed}");
    }
    local.aws.set_bucket_cors("another-bucket", allow(ORIGIN));
    assert_eq!(read().await, None, "another bucket's rules");

    local.aws.set_bucket_cors(BUCKET, allow(ORIGIN));
    let asked = preflight(&local, "GET", None).await;
    assert_eq!(asked.headers()["access-control-allow-methods"], "GET, HEAD");
    assert_eq!(asked.headers()["access-control-max-age"], "60");
    assert!(asked.headers()["vary"].to_str().unwrap().contains("Origin"));
    assert_eq!(preflight(&local, "PUT", None).await.status(), 403);
    assert_eq!(preflight(&local, "GET", Some("x-custom")).await.status(), 403);
    let headers = vec!["content-type".to_owned(), "X-Amz-*".to_owned()];
    let upload = CorsRule {
        allowed_methods: vec!["PUT".to_owned()],
        allowed_headers: headers,
        ..allow(ORIGIN).remove(0)
    };
    local.aws.set_bucket_cors(BUCKET, [allow(ORIGIN), vec![upload]].concat());
    for (method, headers, status) in [
        ("PUT", None, 200),
        ("PUT", Some("Content-Type, x-amz-tagging"), 200),
        ("PUT", Some("content-type,x-custom"), 403),
        ("GET", Some("content-type"), 403),
        ("GET", None, 200),
        ("DELETE", None, 403),
    ] {
        let asked = preflight(&local, method, headers).await;
        assert_eq!(asked.status(), status, "{method} {headers:?}");
        let allowed =
            asked.headers().get("access-control-allow-headers").map(|value| value.to_str().unwrap());
        assert_eq!(allowed.is_some(), status == 200 && headers.is_some(), "{method} {headers:?}");
    }
    let refused = format!("{}/{BUCKET}/k", local.aws.s3_endpoint());
    let refused = crate::common::http().get(refused).header("origin", ORIGIN).send().await.unwrap();
    assert_eq!(refused.status(), 403, "the origin does not replace the signature");
}

#[tokio::test]
async fn requests_without_our_signature_are_refused() {
    let (local, client) = start().await;
    put(&client, "k", b"bytes").await;
    let unsigned =
        crate::common::http().get(format!("{}/{BUCKET}/k", local.aws.s3_endpoint())).send().await.unwrap();
    assert_eq!(unsigned.status(), 403);
    let stranger = crate::common::s3(local.aws.s3_endpoint(), "another secret");
    let refused = stranger.get_object().bucket(BUCKET).key("k").send().await.unwrap_err();
    assert_eq!(code(&refused), "SignatureDoesNotMatch");
    assert_eq!(
        local.aws.requests().get(&("s3", "GetObject".to_owned())),
        None,
        "refused requests do not count"
    );
}

#[tokio::test]
async fn large_objects_stream_in_pieces() {
    let (local, client) = start().await;
    let bytes: Vec<u8> = (0..9_000_000_u32).map(|n| u8::try_from(n % 253).unwrap()).collect();
    put(&client, "large", &bytes).await;
    assert!(get(&client, "large").await == bytes);
    let tail =
        client.get_object().bucket(BUCKET).key("large").range("bytes=2500000-8999998").send().await.unwrap();
    assert!(tail.body.collect().await.unwrap().to_vec() == bytes[2_500_000..8_999_999]);
    let requests = local.aws.requests();
    assert_eq!(requests[&("s3", "PutObject".to_owned())], 1);
    assert_eq!(requests[&("s3", "GetObject".to_owned())], 2);
}

#[tokio::test]
async fn a_restart_keeps_objects_and_removes_files_nobody_names() {
    let (local, client) = start().await;
    put(&client, "k", b"bytes").await;
    std::fs::write(local.folder().join("s3/objects/half-written"), b"half").unwrap();
    let local = local.restart().await;
    assert_eq!(get(&local.s3(), "k").await, b"bytes");
    assert_eq!(files(&local), 1);
}
