//! Webhooks: where an endpoint may be, what is told of which change, how it is signed and how often it is tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::common::cases;
use darkroom_core::job::Status;
use darkroom_core::public_address::is_public;
use darkroom_core::time::Timestamp;
use darkroom_core::webhook::{
    DELIVERY_TRIES_MAX, EventKind, Reach, UrlError, Verdict, WEBHOOK_URL_CHARS_MAX, WebhookUrl,
    delivery_pause, message_body,
};
use darkroom_core::webhook_signature::{WEBHOOK_SECRET_BYTES, WebhookSecret, signature_header};
use proptest::prelude::*;

fn hostile() -> impl Iterator<Item = &'static str> {
    include_str!("hostile_webhook_urls.txt").lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn no_hostile_url_is_an_endpoint() {
    let urls: Vec<_> = hostile().collect();
    assert!(urls.len() >= 100, "{}", urls.len());
    let taken: Vec<_> = urls
        .into_iter()
        .filter_map(|url| Some((url, WebhookUrl::parse(url, Reach::Public).ok()?.as_str().to_owned())))
        .collect();
    assert!(taken.is_empty(), "{taken:#?}");
}

#[test]
fn a_public_server_is_an_endpoint_and_is_called_as_it_was_written() {
    for (text, host, port) in [
        ("https://app.example.com/hook", "app.example.com", 443),
        ("https://app.example.com:443/hook?key=1&b=%20", "app.example.com", 443),
        ("https://app.example.com:1024/", "app.example.com", 1_024),
        ("https://app.example.com:65535/", "app.example.com", 65_535),
        ("https://APP.example.com", "app.example.com", 443),
        ("https://app.example.com./", "app.example.com.", 443),
        ("https://localhost.example.com/", "localhost.example.com", 443),
        ("https://mylocal.example.com/", "mylocal.example.com", 443),
        ("https://not.alocal/", "not.alocal", 443),
        ("https://bücher.example.com/", "xn--bcher-kva.example.com", 443),
        ("https://8.8.8.8/", "8.8.8.8", 443),
        ("https://[2606:4700:4700::1111]/", "[2606:4700:4700::1111]", 443),
    ] {
        let url = WebhookUrl::parse(text, Reach::Public).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((url.host(), url.port()), (host, port), "{text}");
        assert_eq!(WebhookUrl::parse(url.as_str(), Reach::Public), Ok(url.clone()), "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_url_is_told() {
    for (text, error) in [
        ("app.example.com", UrlError::NotAUrl),
        ("http://app.example.com", UrlError::NotHttps),
        ("https://u@app.example.com", UrlError::Credentials),
        ("https://:p@app.example.com", UrlError::Credentials),
        ("https://app.example.com/#a", UrlError::Fragment),
        ("https://app.example.com:80/", UrlError::Port),
        ("https://app.example.com:1023/", UrlError::Port),
        ("https://10.0.0.1/", UrlError::NotPublic),
        ("https://intranet/", UrlError::NotPublic),
    ] {
        assert_eq!(WebhookUrl::parse(text, Reach::Public), Err(error), "{text}");
    }
    let of_length = |length: usize| {
        let start = "https://app.example.com/";
        format!("{start}{}", "a".repeat(length - start.len()))
    };
    assert!(WebhookUrl::parse(&of_length(WEBHOOK_URL_CHARS_MAX), Reach::Public).is_ok());
    let too_long = WebhookUrl::parse(&of_length(WEBHOOK_URL_CHARS_MAX + 1), Reach::Public);
    assert_eq!(too_long, Err(UrlError::NotAUrl));
}

#[test]
fn an_operator_can_let_endpoints_be_anywhere_and_no_more_than_that() {
    for text in ["http://127.0.0.1:8080/hook", "http://intranet/", "https://10.0.0.1:22/"] {
        assert!(WebhookUrl::parse(text, Reach::Anywhere).is_ok(), "{text}");
        assert!(WebhookUrl::parse(text, Reach::Public).is_err(), "{text}");
    }
    for text in
        ["file:///etc/passwd", "gopher://127.0.0.1/", "http://u:p@127.0.0.1/", "http://127.0.0.1/#a", "", "x"]
    {
        assert!(WebhookUrl::parse(text, Reach::Anywhere).is_err(), "{text}");
    }
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert!(Reach::Anywhere.allows(here) && !Reach::Public.allows(here));
}

/// First and last address of each block that is not the public internet's, and their neighbours where these are.
#[test]
fn blocks_end_where_they_end() {
    for (first, last) in [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "255.255.255.255"),
    ] {
        let [first, last]: [Ipv4Addr; 2] = [first, last].map(|text| text.parse().unwrap());
        for address in [first, last] {
            assert!(!is_public(IpAddr::V4(address)), "{address}");
        }
        let before = first.to_bits().checked_sub(1).map(Ipv4Addr::from_bits);
        let after = last.to_bits().checked_add(1).map(Ipv4Addr::from_bits);
        for address in [before, after].into_iter().flatten() {
            assert!(is_public(IpAddr::V4(address)), "{address}");
        }
    }
    for (first, last, has_public_neighbours) in [
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", [false, true]),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", [true, true]),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", [true, true]),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", [true, true]),
        ("3fff::", "3fff:0fff:ffff:ffff:ffff:ffff:ffff:ffff", [true, true]),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", [true, false]),
    ] {
        let [first, last]: [Ipv6Addr; 2] = [first, last].map(|text| text.parse().unwrap());
        for address in [first, last] {
            assert!(!is_public(IpAddr::V6(address)), "{address}");
        }
        let before = first.to_bits().checked_sub(1).map(Ipv6Addr::from_bits);
        let after = last.to_bits().checked_add(1).map(Ipv6Addr::from_bits);
        for (address, is) in [before, after].into_iter().zip(has_public_neighbours) {
            assert_eq!(address.is_some_and(|address| is_public(IpAddr::V6(address))), is, "{address:?}");
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    /// An address is judged as the standard library knows it, and in its IPv6 form as in its own.
    #[test]
    fn what_is_somebodys_own_is_not_public_in_either_form(bits: u32, near in 0_u32..=0xffff) {
        let known = [10 << 24, 127 << 24, 0xa9fe_0000, 0xc0a8_0000, 0xac10_0000, 0xe000_0000, bits & 0xffff_0000];
        for address in known.map(|first| Ipv4Addr::from_bits(first | near)) {
            let is_own = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_unspecified() || address.is_documentation();
            prop_assert!(!is_own || !is_public(IpAddr::V4(address)), "{}", address);
            let mapped = IpAddr::V6(address.to_ipv6_mapped());
            prop_assert_eq!(is_public(mapped), is_public(IpAddr::V4(address)), "{}", mapped);
            prop_assert!(!is_public(IpAddr::V6(address.to_ipv6_compatible())) , "{}", address);
            let url = format!("https://[{}]/", address.to_ipv6_mapped());
            prop_assert_eq!(WebhookUrl::parse(&url, Reach::Public).is_ok(), is_public(mapped), "{}", url);
            let url = format!("https://{}/", address.to_bits());
            prop_assert_eq!(WebhookUrl::parse(&url, Reach::Public).is_ok(), is_public(mapped), "{}", url);
        }
    }

    /// Whatever is taken is https, without credentials, and is the same when it is read back.
    #[test]
    fn whatever_is_taken_is_called_over_tls(text in "https?://[a-z0-9.@:\\[\\]%/#-]{0,40}") {
        if let Ok(url) = WebhookUrl::parse(&text, Reach::Public) {
            prop_assert!(url.as_str().starts_with("https://"), "{}", text);
            prop_assert!(!url.as_str().contains('@') || url.as_str().find('@') > url.as_str()[8..].find('/').map(|at| at + 8), "{}", text);
            prop_assert_eq!(WebhookUrl::parse(url.as_str(), Reach::Public), Ok(url));
        }
    }
}

#[test]
fn each_change_that_an_owner_waits_for_is_told_once() {
    for before in Status::ALL {
        for after in Status::ALL {
            let is_live = matches!(before, Status::Pending | Status::Processing);
            let expected = match (is_live, before, after) {
                (true, _, Status::Draft) => Some("job.draft"),
                (true, _, Status::Failed) => Some("job.failed"),
                (true, _, Status::Cancelled) => Some("job.cancelled"),
                (false, Status::Draft, Status::Published) => Some("job.published"),
                _ => None,
            };
            assert_eq!(EventKind::of(before, after).map(EventKind::as_str), expected, "{before:?} {after:?}");
        }
    }
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.as_str()), Some(kind));
    }
    assert_eq!(EventKind::parse("job.deleted"), None);
}

#[test]
fn a_message_tells_what_happened_when_and_no_link() {
    let job =
        serde_json::json!({"id": "job_a", "status": "draft", "image_url": "https://example.com/?signature"});
    let body = message_body(EventKind::JobDraft, Timestamp::from_millis(1_800_000_000_123), job);
    let expected = r#"{"data":{"id":"job_a","image_url":null,"status":"draft"},"timestamp":"2027-01-15T08:00:00.123Z","type":"job.draft"}"#;
    let [body, expected]: [serde_json::Value; 2] =
        [&*body, expected].map(|text| serde_json::from_str(text).unwrap());
    assert_eq!(body, expected);
}

#[test]
fn a_message_is_tried_ten_times_over_three_days() {
    let pauses = |jitter| (1..=DELIVERY_TRIES_MAX).map_while(move |tries| delivery_pause(tries, jitter));
    let seconds: Vec<_> = pauses(0.0).map(|pause| pause.as_secs()).collect();
    assert_eq!(seconds, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
    assert_eq!((DELIVERY_TRIES_MAX, delivery_pause(DELIVERY_TRIES_MAX, 0.0)), (10, None));
    assert_eq!((delivery_pause(0, 0.0), delivery_pause(u32::MAX, 0.0)), (None, None));
    // Never earlier, and no more than a tenth later.
    for (shortest, longest) in pauses(0.0).zip(pauses(1.0)) {
        assert_eq!(longest, shortest.mul_f64(1.1));
        assert_eq!(delivery_pause(1, f64::INFINITY), Some(Duration::from_millis(5_500)));
    }
}

#[test]
fn only_a_status_of_success_is_a_delivery() {
    for status in 0..=999 {
        let expected = match status {
            200..=299 => Verdict::Delivered,
            410 => Verdict::Gone,
            _ => Verdict::Failed,
        };
        assert_eq!(Verdict::of(status), expected, "{status}");
    }
}

/// The example of Standard Webhooks' own libraries.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn signed_at() -> Timestamp {
    Timestamp::from_millis(1_614_265_330_000)
}

#[test]
fn a_message_is_signed_as_the_standard_has_it() {
    let secret = WebhookSecret::parse(SECRET).unwrap();
    let sign = |id: &str, at: Timestamp, body: &[u8]| secret.sign(id, at, body);
    let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
    assert_eq!(sign(id, signed_at(), body), SIGNATURE);
    // Id, time and body are signed, and the time in whole seconds.
    assert_eq!(sign(id, signed_at().plus(Duration::from_millis(999)), body), SIGNATURE);
    for other in [
        sign("msg_p5jXN8AQM9LWM0D4loKWxJel", signed_at(), body),
        sign(id, signed_at().plus(Duration::from_secs(1)), body),
        sign(id, signed_at(), br#"{"test": 2432232315}"#),
        WebhookSecret::from_random([7; WEBHOOK_SECRET_BYTES]).sign(id, signed_at(), body),
    ] {
        assert_ne!(other, SIGNATURE);
    }
    // While it is changed, both are valid: each receiver finds the one that it knows.
    let both = [WebhookSecret::from_random([7; WEBHOOK_SECRET_BYTES]), secret.clone()];
    let header = signature_header(&both, id, signed_at(), body);
    assert_eq!(header.split(' ').nth(1), Some(SIGNATURE));
    assert_eq!(header.split(' ').count(), 2);
}

#[test]
fn a_secret_is_of_24_to_64_bytes_and_reads_back() {
    let of = |length: usize| format!("whsec_{}", data_encoding::BASE64.encode(&vec![7; length]));
    for length in [24, 32, 64] {
        let secret = WebhookSecret::parse(&of(length)).unwrap();
        assert_eq!(secret.reveal().as_str(), of(length));
    }
    for text in [
        of(0),
        of(23),
        of(65),
        SECRET[6..].to_owned(),
        format!("{SECRET}="),
        format!("{SECRET} "),
        String::new(),
    ] {
        assert!(WebhookSecret::parse(&text).is_none(), "{text}");
    }
    let made = WebhookSecret::from_random([9; WEBHOOK_SECRET_BYTES]);
    assert_eq!(made.reveal().len(), "whsec_".len() + 44);
    assert!(WebhookSecret::parse(&made.reveal()) == Some(made));
}
