//! Which model a request gets.

use std::time::Duration;

use crate::common::cases;
use darkroom_core::id::ModelName;
use darkroom_core::model::{Choice, Model, ProviderName, choose};
use proptest::prelude::*;
use serde_json::json;

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn model(text: &str, default: bool, retired_on: Option<&str>) -> Model {
    Model {
        name: name(text),
        provider: ProviderName::Gemini,
        provider_model: name("gemini-image"),
        price: 1,
        description: "Draws.".to_owned(),
        typical_milliseconds: 2_570,
        default,
        retired_on: retired_on.map(str::to_owned),
        fallback: None,
        replacement: None,
    }
}

#[test]
fn a_request_gets_what_it_names_or_the_default() {
    let models =
        [model("old", false, Some("2026-11-22")), model("new", true, None), model("other", false, None)];
    let asked = |text: Option<&str>, day| match choose(&models, text.map(name).as_ref(), day) {
        Choice::Offered(model) => format!("offered {}", model.name),
        Choice::Retired(model) => format!("retired {}", model.name),
        Choice::Unknown => "unknown".to_owned(),
    };
    assert_eq!(asked(None, "2026-11-22"), "offered new");
    assert_eq!(asked(Some("other"), "2026-11-22"), "offered other");
    assert_eq!(asked(Some("none"), "2026-11-22"), "unknown");
    assert_eq!(asked(Some("old"), "2026-11-21"), "offered old");
    assert_eq!(asked(Some("old"), "2026-11-22"), "retired old");
    assert_eq!(choose(&models[2..], None, "2026-11-22"), Choice::Unknown);
    let retired_default = [model("old", true, Some("2026-11-22"))];
    assert!(matches!(choose(&retired_default, None, "2026-11-22"), Choice::Retired(_)));
}

#[test]
fn an_entry_of_the_catalogue_is_read_strictly() {
    let entry = json!({"name": "m", "provider": "gemini", "provider_model": "g", "price": 2,
                       "description": "d", "typical_milliseconds": 1500});
    let read: Model = serde_json::from_value(entry.clone()).unwrap();
    assert_eq!((read.default, &read.retired_on, &read.replacement), (false, &None, &None));
    assert_eq!(read.typical(), Duration::from_millis(1_500));
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(written.get("retired_on"), None);
    assert_eq!(serde_json::from_value::<Model>(written).unwrap(), read);
    for (field, value) in
        [("colour", json!(1)), ("provider", json!("nobody")), ("name", json!("a b")), ("price", json!(-1))]
    {
        let mut wrong = entry.clone();
        wrong[field] = value;
        assert!(serde_json::from_value::<Model>(wrong).is_err(), "{field}");
    }
}

#[test]
fn only_the_built_in_generator_needs_no_key() {
    assert!(!ProviderName::Local.needs_key());
    for (provider, name) in
        [(ProviderName::Gemini, "gemini"), (ProviderName::OpenAi, "openai"), (ProviderName::Forge, "forge")]
    {
        assert!(provider.needs_key());
        assert_eq!(provider.to_string(), name);
        assert_eq!(serde_json::to_value(provider).unwrap(), json!(name), "as it is stored");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn nothing_is_offered_from_the_day_it_is_retired(days in proptest::collection::vec(1..29_u8, 0..5), today in 1..29_u8) {
        let day = |day: u8| format!("2026-11-{day:02}");
        let models: Vec<_> = days
            .iter()
            .enumerate()
            .map(|(index, retired)| model(&format!("m{index}"), index == 0, Some(&day(*retired))))
            .collect();
        for (index, retired) in days.iter().enumerate() {
            let asked = name(&format!("m{index}"));
            match choose(&models, Some(&asked), &day(today)) {
                Choice::Offered(model) => prop_assert!(model.name == asked && today < *retired),
                Choice::Retired(model) => prop_assert!(model.name == asked && today >= *retired),
                Choice::Unknown => prop_assert!(false, "not found"),
            }
        }
    }
}
