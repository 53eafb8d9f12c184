//! The words that people read: there in both languages, each of its own, and the codes behind them.

use std::collections::HashSet;

use crate::common::cases;
use darkroom_core::error_code::{ErrorCode, Language};
use darkroom_core::job_error::{JobErrorCode, JobFailure};
use proptest::prelude::*;

const LANGUAGES: [Language; 2] = [Language::En, Language::Tr];

/// A sentence as people write it: begins and ends well, and has no traces of line breaks.
fn assert_well_written(text: &str) {
    assert!(!text.is_empty() && text.trim() == text, "{text:?}");
    assert!(!text.contains("  ") && !text.chars().any(char::is_control), "{text:?}");
}

/// Each text belongs to one code and one language.
fn assert_unique<'a>(texts: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    for text in texts {
        assert!(seen.insert(text), "twice: {text:?}");
    }
}

#[test]
fn every_job_error_is_told_in_both_languages() {
    for code in JobErrorCode::ALL {
        for language in LANGUAGES {
            let text = code.message(language);
            assert_well_written(text);
            assert!(
                text.ends_with('.') && text.matches(['.', ';']).count() >= 2,
                "what happened, what to do: {text:?}"
            );
        }
        assert!(code.message(Language::En).contains("Your tokens are back"), "{code:?}");
        assert!(code.message(Language::Tr).contains("Jetonlarınız iade edildi"), "{code:?}");
    }
    assert_unique(JobErrorCode::ALL.iter().flat_map(|code| LANGUAGES.map(|language| code.message(language))));
    let failure = JobFailure::new(JobErrorCode::Timeout, "seen");
    assert_eq!((failure.code, failure.detail.as_str()), (JobErrorCode::Timeout, "seen"));
}

#[test]
fn every_error_is_told_in_both_languages() {
    for code in ErrorCode::ALL {
        for language in LANGUAGES {
            assert_well_written(code.title(language));
            assert!(!code.title(language).ends_with('.'), "a title is no sentence: {code:?}");
            assert_well_written(code.detail(language));
            assert!(code.detail(language).ends_with('.'), "{code:?}");
        }
    }
    assert_unique(ErrorCode::ALL.iter().flat_map(|code| LANGUAGES.map(|language| code.title(language))));
    assert_unique(ErrorCode::ALL.iter().flat_map(|code| LANGUAGES.map(|language| code.detail(language))));
}

/// Code, status, whether to try again, and after how long: what clients are built on.
#[test]
fn codes_have_their_status() {
    let table = [
        ("malformed_json", 400, false, None),
        ("unknown_field", 400, false, None),
        ("missing_idempotency_key", 400, false, None),
        ("unauthenticated", 401, false, None),
        ("insufficient_tokens", 402, false, None),
        ("not_found", 404, false, None),
        ("method_not_allowed", 405, false, None),
        ("wrong_state", 409, false, None),
        ("job_deleted", 409, false, None),
        ("too_many_webhooks", 409, false, None),
        ("webhook_disabled", 409, false, None),
        ("body_too_large", 413, false, None),
        ("unsupported_media_type", 415, false, None),
        ("invalid_value", 422, false, None),
        ("idempotency_mismatch", 422, false, None),
        ("unknown_model", 422, false, None),
        ("model_retired", 422, false, None),
        ("too_many_inflight", 429, true, Some(10)),
        ("too_many_exports", 429, true, Some(30)),
        ("internal", 500, true, None),
        ("store_throttled", 503, true, Some(1)),
        ("circuit_open", 503, true, Some(10)),
    ];
    let mut codes: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| (code.as_str(), code.status(), code.is_retryable(), code.retry_after_seconds()))
        .collect();
    codes.sort_by_key(|(word, status, ..)| (*status, table.iter().position(|row| row.0 == *word)));
    assert_eq!(codes, table);
    for code in ErrorCode::ALL {
        let asks_to_wait = matches!(code.status(), 429 | 503);
        assert_eq!(asks_to_wait, code.retry_after_seconds().is_some(), "{code:?}");
    }
}

#[test]
fn what_may_be_asked_again_is_not_what_was_refused_for_good() {
    let for_good: Vec<_> =
        JobErrorCode::ALL.iter().filter(|code| !code.is_retryable()).map(|code| code.as_str()).collect();
    assert_eq!(
        for_good,
        ["content_blocked", "invalid_request", "reference_missing", "invalid_reference", "model_retired"]
    );
}

#[test]
fn a_language_is_told_by_its_tag() {
    for language in LANGUAGES {
        assert_eq!(Language::negotiate(language.tag()), language);
    }
    for (header, language) in [
        ("*", Language::En),
        ("*;q=0.1, tr;q=0.2", Language::Tr),
        ("tr;q=0.5, en;q=0.5", Language::Tr),
        ("tr;q=1.5", Language::En),
        ("tr;q=-1", Language::En),
        ("tr;q=NaN", Language::En),
        ("tr ; q=0.3 , de", Language::Tr),
        ("trx", Language::En),
        (",,;;q=,tr", Language::Tr),
    ] {
        assert_eq!(Language::negotiate(header), language, "{header}");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_header_gives_a_language(header in prop_oneof![any::<String>(), "[a-z*]{0,3}(;q=[0-9.]{0,4})?(,[a-z*]{2}(;q=[01](\\.[0-9])?)?){0,3}"]) {
        let chosen = Language::negotiate(&header);
        prop_assert!(chosen == Language::En || header.to_ascii_lowercase().contains("tr"));
    }
}
