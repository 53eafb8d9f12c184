//! Where a user's own server is said to be: a public one, or a refusal.

use darkroom_core::public_address::is_public;
use darkroom_core::webhook::{Reach, WEBHOOK_URL_CHARS_MAX, WebhookUrl};
use darkroom_core::webhook_endpoint::WebhookRequest;
use serde_json::Value;

use super::Verdict;

pub(super) fn run(body: &[u8]) -> Verdict {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Verdict::Refused };
    match WebhookRequest::parse(&body, Reach::Public) {
        Ok(request) => {
            may_be_called(&request);
            Verdict::Taken
        }
        Err(violations) => {
            assert!(!violations.is_empty(), "refused for nothing");
            Verdict::Refused
        }
    }
}

/// Whatever was written, what is called is one server of the public internet, over TLS, with no name and no password; and it is
/// the same when it is read back.
fn may_be_called(request: &WebhookRequest) {
    let url = &request.url;
    let again = WebhookUrl::parse(url.as_str(), Reach::Public);
    assert!(again.is_ok_and(|again| again == *url), "{} is another when it is read back", url.as_str());
    assert!(url.is_tls() && url.as_str().starts_with("https://"), "{}", url.as_str());
    assert!(url.as_str().is_ascii() && url.as_str().len() <= 12 * WEBHOOK_URL_CHARS_MAX, "{}", url.as_str());
    assert!(matches!(url.port(), 443 | 1_024..), "{}", url.as_str());
    let host = url.host().trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        assert!(is_public(address), "{}", url.as_str());
    } else {
        assert!(host.contains('.') && !host.contains(['@', '/', '\\', ' ']), "{}", url.as_str());
    }
    // What goes out are lines of a request: nothing may end one.
    for line in [url.authority(), url.target()] {
        assert!(line.bytes().all(|byte| byte.is_ascii_graphic()), "{line:?}");
    }
    assert!(url.target().starts_with('/'), "{}", url.target());
    assert!(!request.events.is_empty(), "told of nothing");
}
