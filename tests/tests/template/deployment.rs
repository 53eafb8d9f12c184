//! Settings, outputs and what deploys them: each variable that a function reads is set, and each that is set is read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use darkroom_aws::config::{self, ConfigError, Environment, SubmitRules, SweepRules, Tables, WorkerRules};
use darkroom_template::{Function, Names, Stack, TemplateError};
use serde_json::{Value, json};

use crate::{Faults, View, names, read, template};

pub(crate) fn check(view: &View<'_>, faults: &mut Faults) {
    for function in &view.stack.functions {
        check_settings(function, faults);
    }
    check_outputs(view, faults);
    check_document(view, faults);
}

type Reader = fn(&Environment<'_>) -> Result<(), ConfigError>;

/// What reads settings, under the words that call it.
const READERS: [(&str, Reader); 15] = [
    ("Tables::read(environment)", |environment| Tables::read(environment).map(drop)),
    ("queue_url(environment)", |environment| config::queue_url(environment).map(drop)),
    ("bulk_queue_url(environment)", |environment| config::bulk_queue_url(environment).map(drop)),
    ("webhook_queue(environment)", |environment| config::webhook_queue(environment).map(drop)),
    ("webhook_reach(environment)", |environment| config::webhook_reach(environment).map(drop)),
    ("image_bucket(environment)", |environment| config::image_bucket(environment).map(drop)),
    ("push_table(environment)", |environment| config::push_table(environment).map(drop)),
    ("websocket_url(environment)", |environment| config::websocket_url(environment).map(drop)),
    ("kms_key(environment)", |environment| config::kms_key(environment).map(drop)),
    ("record_days(environment)", |environment| config::record_days(environment).map(drop)),
    ("sweep_rules(environment)", |environment| config::sweep_rules(environment).map(drop)),
    ("quota_minute(environment)", |environment| config::quota_minute(environment).map(drop)),
    ("SubmitRules::read(environment)", |environment| SubmitRules::read(environment).map(drop)),
    ("WorkerRules::read(environment)", |environment| WorkerRules::read(environment).map(drop)),
    ("SweepRules::read(environment)", |environment| SweepRules::read(environment).map(drop)),
];

/// Reads a function's settings as its `lib.rs` does at its start.
fn start(binary: &str, environment: &Environment<'_>) -> Result<(), ConfigError> {
    let source = read(&format!("functions/{binary}/src/lib.rs"));
    let called = READERS.iter().filter(|(words, _)| source.contains(words));
    called.into_iter().try_for_each(|(_, reader)| reader(environment))
}

/// The names of the variables that a function asked for at its start.
fn variables_read(function: &Function) -> Result<BTreeSet<String>, ConfigError> {
    let asked = RefCell::new(BTreeSet::new());
    let environment = Environment::from_fn(|name| {
        asked.borrow_mut().insert(name.to_owned());
        function.environment.get(name).cloned()
    });
    start(&function.binary, &environment)?;
    drop(environment);
    Ok(asked.into_inner())
}

fn check_settings(function: &Function, faults: &mut Faults) {
    let id = &function.logical_id;
    match variables_read(function) {
        Err(error) => faults.require(false, &format!("{id} does not start: {error}")),
        Ok(asked) => {
            for set in function.environment.keys().filter(|name| !asked.contains(*name)) {
                faults.require(false, &format!("{id} is given {set}, which it never reads"));
            }
        }
    }
    let value = |name: &str| function.environment.get(name).map_or("", String::as_str);
    for (variable, wanted) in [
        ("DARKROOM_JOBS_TABLE", "dark-jobs"),
        ("DARKROOM_LEDGER_TABLE", "dark-ledger"),
        ("DARKROOM_KEYS_TABLE", "dark-keys"),
    ] {
        faults.same(&format!("{id} {variable}"), &value(variable), &wanted);
    }
    if ["api", "notifier", "sweeper"].contains(&function.binary.as_str()) {
        faults.same(&format!("{id} DARKROOM_PUSH_TABLE"), &value("DARKROOM_PUSH_TABLE"), &"dark-push");
    }
    if ["api", "notifier"].contains(&function.binary.as_str()) {
        let url = "wss://api.example/ws";
        faults.same(&format!("{id} WebSocket API"), &value("DARKROOM_WEBSOCKET_URL"), &url);
    }
    if ["submit", "api", "notifier", "worker"].contains(&function.binary.as_str()) {
        let bucket = "dark-images-123456789012-eu-central-1";
        faults.same(&format!("{id} bucket"), &value("DARKROOM_IMAGE_BUCKET"), &bucket);
    }
    if ["api", "notifier", "worker"].contains(&function.binary.as_str()) {
        let key = "arn:aws:kms:eu-central-1:123456789012:key/dark-SecretsKey";
        faults.same(&format!("{id} KMS key"), &value("DARKROOM_KMS_KEY"), &key);
    }
    check_limits(function, faults);
}

/// What an operator may set must reach the function; unset, it must be the code's own default.
fn check_limits(function: &Function, faults: &mut Faults) {
    let given = Environment::from_fn(|name| function.environment.get(name).cloned());
    let unset = Environment::from_fn(|_| None);
    let id = &function.logical_id;
    let set: BTreeSet<_> = function.environment.keys().map(String::as_str).collect();
    let tuned: &[&str] = match function.binary.as_str() {
        "submit" => {
            faults.same(&format!("{id} rules"), &SubmitRules::read(&given), &SubmitRules::read(&unset));
            &["DARKROOM_INFLIGHT_MAX", "DARKROOM_REFUSE_WHEN_OPEN"]
        }
        "worker" => {
            let bounds = |environment| WorkerRules::read(environment).map(|rules| rules.bounds);
            faults.same(&format!("{id} bounds"), &bounds(&given), &bounds(&unset));
            &[
                "DARKROOM_ATTEMPTS_MAX",
                "DARKROOM_CALLS_MAX",
                "DARKROOM_GEMINI_BASE_URL",
                "DARKROOM_OPENAI_BASE_URL",
                "DARKROOM_FORGE_BASE_URL",
            ]
        }
        "api" => {
            let rules = [config::sweep_rules(&given), config::sweep_rules(&unset)];
            faults.same(&format!("{id} rules"), &rules[0], &rules[1]);
            &["DARKROOM_ATTEMPTS_MAX", "DARKROOM_CALLS_MAX"]
        }
        "sweeper" => {
            faults.same(&format!("{id} rules"), &SweepRules::read(&given), &SweepRules::read(&unset));
            &["DARKROOM_ATTEMPTS_MAX", "DARKROOM_CALLS_MAX"]
        }
        _ => &[],
    };
    for variable in tuned {
        faults.require(set.contains(variable), &format!("{id} is given {variable}"));
    }
}

fn check_outputs(view: &View<'_>, faults: &mut Faults) {
    let queues = "https://sqs.eu-central-1.amazonaws.com/123456789012";
    let wanted = [
        ("ApiUrl", "https://api.example".to_owned()),
        ("BulkDeadLetterQueueUrl", format!("{queues}/dark-bulk-dead")),
        ("BulkQueueUrl", format!("{queues}/dark-bulk")),
        ("DeadLetterQueueUrl", format!("{queues}/dark-jobs-dead")),
        ("ImageBucket", "dark-images-123456789012-eu-central-1".to_owned()),
        ("JobsTable", "dark-jobs".to_owned()),
        ("KeysTable", "dark-keys".to_owned()),
        ("LedgerTable", "dark-ledger".to_owned()),
        ("PushTable", "dark-push".to_owned()),
        ("QueueUrl", format!("{queues}/dark-jobs")),
        ("SecretsKeyAlias", "alias/dark-secrets".to_owned()),
        ("WebSocketUrl", "wss://api.example/ws".to_owned()),
    ];
    let wanted: BTreeMap<_, _> = wanted.map(|(name, value)| (name.to_owned(), value)).into();
    faults.same("outputs", &view.stack.outputs, &wanted);
}

fn check_document(view: &View<'_>, faults: &mut Faults) {
    faults.same("transform", &view.tree["Transform"], &json!("AWS::Serverless-2016-10-31"));
    let required = view.tree["Parameters"].as_object().into_iter().flatten();
    let required: BTreeSet<_> = required
        .filter(|(_, parameter)| parameter.get("Default").is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    faults.same("parameters without a default", &required, &["JwtAudience", "JwtIssuer"].into());
    faults.same("rules", &view.tree["Rules"], &calls_cover_attempts());
}

/// A rule without numbers: for each number of attempts, the numbers of calls that the code refuses with it.
fn calls_cover_attempts() -> Value {
    let assertion = |attempts: u32| {
        let too_few: Vec<_> = (1..attempts).map(|calls| calls.to_string()).collect();
        json!({
            "AssertDescription": format!("CallsMax must be at least AttemptsMax, {attempts}."),
            "Assert": {"Fn::Not": [{"Fn::And": [
                {"Fn::Equals": [{"Ref": "AttemptsMax"}, attempts.to_string()]},
                {"Fn::Contains": [too_few, {"Ref": "CallsMax"}]},
            ]}]},
        })
    };
    json!({"CallsCoverAttempts": {"Assertions": (2..=20).map(assertion).collect::<Vec<_>>()}})
}

/// The stack with these parameters.
fn stack_with(given: &[(&str, String)]) -> Result<Stack, TemplateError> {
    let mut names = names();
    names.parameters.extend(given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    template().stack(&names)
}

/// A parameter, the variable that it becomes, and a function that reads it.
const TUNED: [(&str, &str, &str); 6] = [
    ("InflightMax", "DARKROOM_INFLIGHT_MAX", "submit"),
    ("AttemptsMax", "DARKROOM_ATTEMPTS_MAX", "worker"),
    ("CallsMax", "DARKROOM_CALLS_MAX", "worker"),
    ("CallsMax", "DARKROOM_CALLS_MAX", "sweeper"),
    ("AttemptsMax", "DARKROOM_ATTEMPTS_MAX", "api"),
    ("CallsMax", "DARKROOM_CALLS_MAX", "api"),
];

#[test]
fn the_bounds_of_parameters_are_those_of_the_code() {
    for (parameter, variable, binary) in TUNED {
        let declared = template().tree()["Parameters"][parameter].clone();
        let bound =
            |name: &str| declared[name].as_u64().unwrap_or_else(|| panic!("{parameter} has no {name}"));
        let (least, most) = (bound("MinValue"), bound("MaxValue"));
        let stack = template().stack(&names()).unwrap();
        let function = stack.functions.iter().find(|function| function.binary == binary).unwrap();
        let starts = |value: u64| {
            let environment = Environment::from_fn(|name| match name {
                name if name == variable => Some(value.to_string()),
                // Attempts and calls bound each other; apart from that each is judged alone.
                "DARKROOM_ATTEMPTS_MAX" => Some("1".to_owned()),
                "DARKROOM_CALLS_MAX" => Some("100".to_owned()),
                name => function.environment.get(name).cloned(),
            });
            start(binary, &environment).is_ok()
        };
        let judged = [least - 1, least, most, most + 1].map(starts);
        assert_eq!(judged, [false, true, true, false], "{variable} from {least} to {most}");
        if let Some(listed) = declared["AllowedValues"].as_array() {
            assert_eq!(*listed, (least..=most).map(Value::from).collect::<Vec<_>>(), "{parameter}");
        }
    }
}

#[test]
fn no_pair_of_attempts_and_calls_is_deployed_that_the_code_refuses() {
    for attempts in 1..=20_u32 {
        for calls in 1..=21_u32 {
            let pair = [("AttemptsMax", attempts.to_string()), ("CallsMax", calls.to_string())];
            assert_eq!(stack_with(&pair).is_ok(), attempts <= calls, "{attempts} attempts, {calls} calls");
        }
    }
    let refused = stack_with(&[("AttemptsMax", "7".into()), ("CallsMax", "6".into())]).unwrap_err();
    assert_eq!(refused.to_string(), "rule CallsCoverAttempts: CallsMax must be at least AttemptsMax, 7.");
    assert!(stack_with(&[("CallsMax", "06".into())]).is_err(), "a number is written in one way");
}

#[test]
fn tables_are_protected_unless_the_operator_says_otherwise() {
    let protected = |stack: &Stack| {
        stack.tables.iter().all(|table| table.create_table["DeletionProtectionEnabled"] == json!(true))
    };
    assert!(!protected(&stack_with(&[("DeletionProtection", "false".into())]).unwrap()));
    let parameters = environments().remove("prod").unwrap();
    assert!(protected(&template().stack(&Names { parameters, ..names() }).unwrap()), "prod");
}

/// Each environment of samconfig.toml, with its `parameter_overrides`.
fn environments() -> BTreeMap<String, BTreeMap<String, String>> {
    let config: toml::Table = read("samconfig.toml").parse().unwrap();
    let sections = config.into_iter().filter(|(name, _)| name != "version" && name != "default");
    let overrides = |section: toml::Value| {
        let list = section["deploy"]["parameters"]["parameter_overrides"].as_array().unwrap().clone();
        let pairs = list.into_iter().map(|pair| {
            let (name, value) = pair.as_str().unwrap().split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        pairs.collect()
    };
    sections.map(|(name, section)| (name, overrides(section))).collect()
}

/// Otherwise a variable would escape the checks above: by a reader that they do not know, or that no function calls.
#[test]
fn every_variable_of_the_configuration_is_read_by_some_function() {
    let stack = template().stack(&names()).unwrap();
    let read_at_start = stack.functions.iter().flat_map(|function| variables_read(function).unwrap());
    let ours: BTreeSet<_> = read_at_start.filter(|name| name.starts_with("DARKROOM_")).collect();
    let source = read("shared/aws/src/config.rs");
    let named: BTreeSet<_> = source
        .split('"')
        .filter(|text| text.starts_with("DARKROOM_") && !text.contains(' '))
        .map(str::to_owned)
        .collect();
    assert!(named.len() > 10, "{named:?}");
    assert_eq!(ours, named);
}

#[test]
fn both_environments_can_be_deployed() {
    let environments = environments();
    assert_eq!(environments.keys().collect::<Vec<_>>(), ["dev", "prod"]);
    for (environment, parameters) in environments {
        let stack = template().stack(&Names { parameters, ..names() });
        stack.unwrap_or_else(|error| panic!("{environment}: {error}"));
    }
}

#[test]
fn every_environment_is_built_and_validated_from_the_template() {
    let config: toml::Table = read("samconfig.toml").parse().unwrap();
    for environment in ["default", "dev", "prod"] {
        let of = |command: &str| config[environment][command]["parameters"].clone();
        assert_eq!(of("build")["template_file"].as_str(), Some("infra/template.yaml"));
        assert_eq!(of("build")["build_in_source"].as_bool(), Some(true));
        assert_eq!(of("validate")["template_file"].as_str(), Some("infra/template.yaml"));
        assert_eq!(of("validate")["lint"].as_bool(), Some(true));
    }
    for environment in ["dev", "prod"] {
        let stack = config[environment]["global"]["parameters"]["stack_name"].as_str().unwrap();
        assert_eq!(stack, format!("darkroom-{environment}"));
        // Otherwise the source template would be deployed, without any binary.
        assert!(config[environment]["deploy"]["parameters"].get("template_file").is_none());
    }
}

#[test]
fn the_makefile_builds_each_function_for_the_templates_processor() {
    let makefile = read("infra/Makefile");
    let stack = template().stack(&names()).unwrap();
    for function in &stack.functions {
        let rule = format!("\nbuild-{}: {}\n", function.logical_id, function.binary);
        assert!(makefile.contains(&rule), "no rule{rule}");
        let manifest: toml::Table =
            read(&format!("functions/{}/Cargo.toml", function.binary)).parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(function.binary.as_str()));
    }
    let default = template().tree()["Parameters"]["Architecture"]["Default"].as_str().unwrap().to_owned();
    assert!(makefile.contains(&format!("\nARCHITECTURE ?= {default}\n")));
    for (environment, parameters) in environments() {
        assert_eq!(parameters.get("Architecture"), Some(&default), "{environment}");
    }
}
