//! Damaged copies of the template: the checks must find each of them faulty.

use darkroom_template::Template;
use serde_json::{Value, json};

use crate::{faults, read, template};

/// Words for people, without effect on anything. cfn-lint checks that what CloudFormation itself demands is there.
const WITHOUT_EFFECT: [&str; 3] = ["Description", "Sid", "AWSTemplateFormatVersion"];
/// Bounds of parameters: they only refuse an operator's mistake earlier than AWS does.
const EARLY_REFUSALS: [&str; 4] = ["AllowedValues", "MinValue", "MaxValue", "MinLength"];

#[test]
fn no_line_can_be_deleted() {
    let template = template();
    let mut places = Vec::new();
    collect(template.tree(), "", &mut places);
    assert!(places.len() > 500, "only {} places", places.len());
    let missed: Vec<_> =
        places.into_iter().filter(|place| faults(&without(&template, place)).is_empty()).collect();
    assert_eq!(missed, [""; 0], "these can be deleted and nobody notices");
}

/// JSON pointers of everything in `value` that has an effect.
fn collect(value: &Value, at: &str, places: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(key, child)| (key.replace('/', "~1"), child)).collect(),
        Value::Array(entries) => {
            entries.iter().enumerate().map(|(index, child)| (index.to_string(), child)).collect()
        }
        _ => return,
    };
    for (key, child) in children {
        let bound = at.starts_with("/Parameters") && EARLY_REFUSALS.contains(&key.as_str());
        if WITHOUT_EFFECT.contains(&key.as_str()) || bound {
            continue;
        }
        let place = format!("{at}/{key}");
        places.push(place.clone());
        collect(child, &place, places);
    }
}

fn without(template: &Template, place: &str) -> Template {
    let mut tree = template.tree().clone();
    let (parent, key) = place.rsplit_once('/').unwrap();
    match tree.pointer_mut(parent).unwrap() {
        Value::Object(object) => object.remove(&key.replace("~1", "/")),
        Value::Array(entries) => Some(entries.remove(key.parse().unwrap())),
        _ => None,
    }
    .unwrap();
    Template::from_tree(tree)
}

#[test]
fn each_weakening_is_noticed_for_what_it_is() {
    let sound = template();
    for (place, value, words) in weakenings() {
        let mut tree = sound.tree().clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        let parent = format!("/Resources/{parent}");
        match tree.pointer_mut(&parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
            Value::Object(object) => drop(object.insert(key.to_owned(), value.clone())),
            Value::Array(entries) => entries.push(value.clone()),
            _ => panic!("{parent} has no parts"),
        }
        let found = faults(&Template::from_tree(tree));
        assert!(
            found.iter().any(|fault| fault.contains(words)),
            "{place} = {value}: {words:?} not in {found:?}"
        );
    }
}

/// Place below Resources, what is put there, words of the fault. `-` adds to a list.
fn weakenings() -> Vec<(&'static str, Value, &'static str)> {
    let mut all = vec![
        // Both ends of the queue.
        (
            "SubmitFunction/Properties/Environment/Variables/DARKROOM_QUEUE_URL",
            json!({"Ref": "DeadLetterQueue"}),
            "submit names the queue",
        ),
        (
            "SweeperFunction/Properties/Environment/Variables/DARKROOM_QUEUE_URL",
            json!({"Ref": "DeadLetterQueue"}),
            "sweeper names the queue",
        ),
        (
            "SubmitFunction/Properties/Environment/Variables/DARKROOM_QUEUE_URL",
            json!({"Fn::GetAtt": ["JobQueue", "Arn"]}),
            "does not start: DARKROOM_QUEUE_URL",
        ),
        (
            "WorkerFunction/Properties/Events/Jobs/Properties/Queue",
            json!({"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}),
            "submit names the queue",
        ),
        (
            "JobQueue/Properties/RedrivePolicy/deadLetterTargetArn",
            json!({"Fn::GetAtt": ["JobQueue", "Arn"]}),
            "another queue",
        ),
        (
            "SubmitFunction/Properties/Environment/Variables/DARKROOM_BULK_QUEUE_URL",
            json!({"Ref": "JobQueue"}),
            "submit names the queue that the bulk",
        ),
        (
            "SweeperFunction/Properties/Environment/Variables/DARKROOM_BULK_QUEUE_URL",
            json!({"Ref": "BulkDeadLetterQueue"}),
            "sweeper names the queue that the bulk",
        ),
        (
            "BulkFunction/Properties/Events/Bulk/Properties/Queue",
            json!({"Fn::GetAtt": ["JobQueue", "Arn"]}),
            "a queue of its own",
        ),
        (
            "BulkQueue/Properties/RedrivePolicy/deadLetterTargetArn",
            json!({"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}),
            "dead-letter queue",
        ),
        ("BulkFunction/Properties/Timeout", json!(901), "time-out of bulk"),
        ("BulkQueue/Properties/VisibilityTimeout", json!(5399), "time-out of bulk"),
        ("BulkFunction/Properties/Events/Bulk/Properties/BatchSize", json!(2), "batch of bulk"),
        (
            "BulkRole/Properties/Policies/0/PolicyDocument/Statement/5/Condition/ForAllValues:StringEquals/dynamodb:LeadingKeys/-",
            json!("KEY"),
            "bulk may dynamodb:GetItem",
        ),
        (
            "BulkRole/Properties/Policies/0/PolicyDocument/Statement/0/Action/-",
            json!("dynamodb:DeleteItem"),
            "bulk may dynamodb:DeleteItem",
        ),
        (
            "BulkRole/Properties/Policies/0/PolicyDocument/Statement/2/Action/-",
            json!("dynamodb:UpdateItem"),
            "bulk may dynamodb:UpdateItem",
        ),
        (
            "BulkRole/Properties/Policies/0/PolicyDocument/Statement/3/Resource",
            json!([{"Fn::Sub": "${ImageBucket.Arn}/*"}]),
            "bulk may s3:PutObject",
        ),
        (
            "BulkRole/Properties/Policies/0/PolicyDocument/Statement/4/Condition/StringLike/s3:prefix",
            json!("*"),
            "bulk may s3:ListBucket",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/9/Resource",
            json!([{"Fn::Sub": "${ImageBucket.Arn}/*"}]),
            "api may s3:GetObject",
        ),
        // Times.
        ("WorkerFunction/Properties/Timeout", json!(231), "six times"),
        ("WorkerFunction/Properties/Timeout", json!(231), "outlives"),
        ("JobQueue/Properties/VisibilityTimeout", json!(1379), "six times"),
        ("JobQueue/Properties/VisibilityTimeout", json!(1379), "visibility of dark-jobs"),
        ("JobQueue/Properties/MessageRetentionPeriod", json!(1_209_600), "kept longer"),
        ("DeadLetterQueue/Properties/MessageRetentionPeriod", json!(345_600), "kept longer"),
        ("JobQueue/Properties/RedrivePolicy/maxReceiveCount", json!(1), "receives"),
        ("SubmitFunction/Properties/Timeout", json!(30), "time-outs"),
        ("SweeperFunction/Properties/Timeout", json!(61), "time-outs"),
        // Event sources.
        (
            "WorkerFunction/Properties/Events/Jobs/Properties/FunctionResponseTypes",
            json!([]),
            "one bad message",
        ),
        ("WorkerFunction/Properties/Events/Jobs/Properties/BatchSize", json!(1), "batch"),
        (
            "WorkerFunction/Properties/Events/Jobs/Properties/MaximumBatchingWindowInSeconds",
            json!(1),
            "wait for a full batch",
        ),
        (
            "SweeperFunction/Properties/Events/EachMinute/Properties/Schedule",
            json!("rate(5 minutes)"),
            "time between sweeps",
        ),
        (
            "SweeperFunction/Properties/EventInvokeConfig/MaximumRetryAttempts",
            json!(2),
            "retries of a failed sweep",
        ),
        (
            "SweeperFunction/Properties/EventInvokeConfig/MaximumEventAgeInSeconds",
            json!(3600),
            "age of a late sweep",
        ),
        (
            "SweeperFunction/Properties/Events/EachMinute/Properties/RetryPolicy/MaximumRetryAttempts",
            json!(185),
            "retries of the rule",
        ),
        ("SweeperFunction/Properties/ReservedConcurrentExecutions", json!(2), "sweepers at a time"),
        // The notifier's source.
        ("NotifierFunction/Properties/Events/Changes/Properties/BatchSize", json!(101), "changes at a time"),
        (
            "NotifierFunction/Properties/Events/Changes/Properties/MaximumRecordAgeInSeconds",
            json!(300),
            "age of a change",
        ),
        (
            "NotifierFunction/Properties/Events/Changes/Properties/FunctionResponseTypes",
            json!([]),
            "one bad change",
        ),
        (
            "NotifierFunction/Properties/Events/Changes/Properties/BisectBatchOnFunctionError",
            json!(false),
            "is found",
        ),
        (
            "NotifierFunction/Properties/Events/Changes/Properties/StartingPosition",
            json!("LATEST"),
            "no change is missed",
        ),
        ("NotifierFunction/Properties/Timeout", json!(61), "time-outs"),
        // Webhooks.
        (
            "NotifierFunction/Properties/Environment/Variables/DARKROOM_WEBHOOK_QUEUE_URL",
            json!({"Ref": "JobQueue"}),
            "notifier names the queue that deliveries",
        ),
        (
            "SweeperFunction/Properties/Environment/Variables/DARKROOM_WEBHOOK_QUEUE_URL",
            json!({"Ref": "WebhookDeadLetterQueue"}),
            "sweeper names the queue that deliveries",
        ),
        (
            "ApiFunction/Properties/Environment/Variables/DARKROOM_WEBHOOK_REACH",
            json!("anywhere"),
            "does not start: DARKROOM_WEBHOOK_REACH",
        ),
        (
            "NotifierFunction/Properties/Environment/Variables/DARKROOM_WEBHOOK_REACH",
            json!("anywhere"),
            "does not start: DARKROOM_WEBHOOK_REACH",
        ),
        (
            "NotifierFunction/Properties/Environment/Variables/DARKROOM_WEBHOOK_REACH",
            json!("public"),
            "may not be told where webhooks are",
        ),
        (
            "NotifierFunction/Properties/Events/Deliveries/Properties/FunctionResponseTypes",
            json!([]),
            "one bad delivery",
        ),
        ("NotifierFunction/Properties/ReservedConcurrentExecutions", json!(4), "calls leave environments"),
        ("WebhookQueue/Properties/VisibilityTimeout", json!(359), "visibility of dark-webhooks"),
        (
            "WebhookQueue/Properties/RedrivePolicy/deadLetterTargetArn",
            json!({"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}),
            "dead-letter queue",
        ),
        ("PushTable/Properties/TimeToLiveSpecification/Enabled", json!(false), "PushTable expiry"),
        (
            "PushTable/Properties/GlobalSecondaryIndexes/0/Projection/NonKeyAttributes/-",
            json!("body"),
            "indexes of push",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/12/Condition/ForAllValues:StringLike/dynamodb:LeadingKeys/-",
            json!("USER#*"),
            "api may dynamodb:GetItem",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/13/Action/-",
            json!("kms:Decrypt"),
            "api may kms:Decrypt",
        ),
        (
            "NotifierRole/Properties/Policies/0/PolicyDocument/Statement/11/Condition/StringEquals/kms:EncryptionContext:table",
            json!({"Ref": "KeysTable"}),
            "notifier may kms:Decrypt",
        ),
        // Who connects.
        ("WebSocketConnect/Properties/AuthorizationType", json!("AWS_IAM"), "WebSocketConnect authorizer"),
        ("WebSocketPermission/Properties/Principal", json!("*"), "who may invoke the notifier"),
        (
            "WebSocketStage/Properties/DefaultRouteSettings/ThrottlingRateLimit",
            json!(10_000),
            "messages of all",
        ),
        (
            "NotifierRole/Properties/Policies/0/PolicyDocument/Statement/9/Resource",
            json!("*"),
            "notifier may execute-api:ManageConnections on *",
        ),
        (
            "NotifierRole/Properties/Policies/0/PolicyDocument/Statement/0/Action/-",
            json!("dynamodb:UpdateItem"),
            "notifier may dynamodb:UpdateItem",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/6/Condition/ForAllValues:StringLike/dynamodb:LeadingKeys/-",
            json!("CONN#*"),
            "api may dynamodb:PutItem",
        ),
        // Who may call.
        (
            "ApiFunction/Properties/Events/ReadJob/Properties/Auth",
            json!({"Authorizer": "NONE"}),
            "without the authorizer",
        ),
        (
            "ApiFunction/Properties/Events/AnythingElse/Properties/Auth",
            json!({"Authorizer": "NONE"}),
            "without the authorizer",
        ),
        ("Api/Properties/DefaultRouteSettings/ThrottlingRateLimit", json!(10_000), "requests per route"),
        ("Api/Properties/Auth/Authorizers/Jwt/AuthorizationScopes", json!([]), "authorizer"),
        ("SubmitFunction/Properties/Events/SubmitJob/Properties/Path", json!("/v1/job"), "routes"),
        // Who may do what.
        (
            "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/0/Action/-",
            json!("dynamodb:PutItem"),
            "worker may dynamodb:PutItem",
        ),
        (
            "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/0/Action/-",
            json!("dynamodb:*"),
            "worker may dynamodb:*",
        ),
        (
            "SubmitRole/Properties/Policies/0/PolicyDocument/Statement/0/Resource",
            json!("*"),
            "submit may dynamodb:GetItem on *",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/7/Action/-",
            json!("sqs:SendMessage"),
            "api may sqs:SendMessage",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/0/Action/-",
            json!("dynamodb:PutItem"),
            "api may dynamodb:PutItem",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/2/Action/-",
            json!("dynamodb:DeleteItem"),
            "api may dynamodb:DeleteItem",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/8/Action/-",
            json!("s3:PutObject"),
            "api may s3:PutObject",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/8/Resource",
            json!([{"Fn::Sub": "${ImageBucket.Arn}/*"}]),
            "api may s3:DeleteObject",
        ),
        (
            "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/4/Action/-",
            json!("s3:DeleteObject"),
            "worker may s3:DeleteObject",
        ),
        (
            "SubmitRole/Properties/Policies/0/PolicyDocument/Statement/2/Condition/ForAllValues:StringLike/dynamodb:LeadingKeys/-",
            json!("KEY"),
            "submit may dynamodb:Query on arn:aws:dynamodb:eu-central-1:123456789012:table/dark-keys when",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/4/Condition/ForAllValues:StringEquals/dynamodb:Attributes/-",
            json!("secret"),
            "api may dynamodb:Query",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/4/Condition/Null/dynamodb:Attributes",
            json!("true"),
            "api may dynamodb:Query",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/10/Condition/StringEquals/s3:prefix",
            json!("images/"),
            "api may s3:ListBucket",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/11/Resource",
            json!([{"Fn::Sub": "${ImageBucket.Arn}/*"}]),
            "api may s3:PutObject",
        ),
        (
            "ApiRole/Properties/Policies/0/PolicyDocument/Statement/11/Action/-",
            json!("s3:GetObject"),
            "api may s3:GetObject",
        ),
        (
            "SubmitRole/Properties/Policies/0/PolicyDocument/Statement/6/Condition/StringLike/s3:prefix",
            json!("*"),
            "submit may s3:ListBucket",
        ),
        (
            "SubmitRole/Properties/Policies/0/PolicyDocument/Statement/7/Action/-",
            json!("s3:GetObject"),
            "submit may s3:GetObject",
        ),
        // The lines of batches are the only uploads that it reads, and bulk reads none.
        (
            "SubmitRole/Properties/Policies/0/PolicyDocument/Statement/8/Resource/-",
            json!({"Fn::Sub": "${ImageBucket.Arn}/uploads/reference/*"}),
            "submit may s3:GetObject",
        ),
        (
            "BulkRole/Properties/Policies/0/PolicyDocument/Statement/7/Resource/-",
            json!({"Fn::Sub": "${ImageBucket.Arn}/uploads/*"}),
            "bulk may s3:GetObject",
        ),
        (
            "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/5/Resource",
            json!([{"Fn::Sub": "${ImageBucket.Arn}/*"}]),
            "worker may s3:GetObject",
        ),
        (
            "SweeperFunction/Properties/Role",
            json!({"Fn::GetAtt": ["WorkerRole", "Arn"]}),
            "a role of its own",
        ),
        (
            "ApiRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal",
            json!("*"),
            "who may be ApiRole",
        ),
        // The secrets.
        (
            "SubmitRole/Properties/Policies/0/PolicyDocument/Statement/2/Action/-",
            json!("kms:Decrypt"),
            "submit may kms:Decrypt",
        ),
        (
            "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/3/Action/-",
            json!("kms:GenerateDataKey"),
            "worker may kms:GenerateDataKey",
        ),
        (
            "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/3/Condition/StringEquals/kms:EncryptionContext:table",
            json!("*"),
            "worker may kms:Decrypt",
        ),
        (
            "WorkerRole/Properties/Policies/0/PolicyDocument/Statement/0/Condition",
            json!({"StringEquals": {"aws:PrincipalTag/x": "y"}}),
            "worker may dynamodb:",
        ),
        ("SecretsKey/Properties/EnableKeyRotation", json!(false), "rotation of the secrets' key"),
        ("SecretsKey/Properties/KeyPolicy/Statement/0/Principal", json!("*"), "policy of the secrets' key"),
        ("SecretsKey/DeletionPolicy", json!("Delete"), "SecretsKey DeletionPolicy"),
        ("SecretsKey/UpdateReplacePolicy", json!("Delete"), "SecretsKey UpdateReplacePolicy"),
        (
            "SecretsKeyAlias/Properties/AliasName",
            json!({"Fn::Sub": "alias/${AWS::StackName}-other"}),
            "aliases",
        ),
        (
            "WorkerFunction/Properties/Environment/Variables/DARKROOM_KMS_KEY",
            json!({"Fn::GetAtt": ["KeysTable", "Arn"]}),
            "does not start: DARKROOM_KMS_KEY",
        ),
        // The bucket.
        (
            "ImageBucket/Properties/CorsConfiguration/CorsRules/0/AllowedOrigins",
            json!(["*"]),
            "pages that may use the bucket",
        ),
        (
            "ImageBucket/Properties/CorsConfiguration/CorsRules/0/AllowedMethods/-",
            json!("PUT"),
            "pages that may use the bucket",
        ),
        (
            "ImageBucket/Properties/CorsConfiguration/CorsRules/1/AllowedOrigins",
            json!(["*"]),
            "pages that may use the bucket",
        ),
        (
            "ImageBucket/Properties/CorsConfiguration/CorsRules/1/AllowedHeaders",
            json!(["*"]),
            "pages that may use the bucket",
        ),
        (
            "ImageBucket/Properties/LifecycleConfiguration/Rules/1/TagFilters/0/Value",
            json!("job"),
            "object expiry",
        ),
        (
            "ImageBucket/Properties/LifecycleConfiguration/Rules/2/ExpirationInDays",
            json!(90),
            "object expiry",
        ),
        (
            "ImageBucket/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy",
            json!(false),
            "public access",
        ),
        (
            "ImageBucket/Properties/OwnershipControls/Rules/0/ObjectOwnership",
            json!("ObjectWriter"),
            "object ownership",
        ),
        (
            "ImageBucket/Properties/LifecycleConfiguration/Rules/0/ExpirationInDays",
            json!(90),
            "object expiry",
        ),
        (
            "ImageBucketPolicy/Properties/PolicyDocument/Statement/0/Condition/Bool/aws:SecureTransport",
            json!("true"),
            "TLS only",
        ),
        (
            "ImageBucketPolicy/Properties/PolicyDocument/Statement/0/Resource",
            json!([{"Fn::GetAtt": ["ImageBucket", "Arn"]}]),
            "TLS only",
        ),
        // Settings.
        (
            "WorkerFunction/Properties/Environment/Variables/DARKROOM_CALLS_MAX",
            json!(2),
            "it must be at least DARKROOM_ATTEMPTS_MAX",
        ),
        (
            "WorkerFunction/Properties/Environment/Variables/DARKROOM_CALS_MAX",
            json!(6),
            "DARKROOM_CALS_MAX, which it never reads",
        ),
        (
            "WorkerFunction/Properties/Environment/Variables/DARKROOM_JOBS_TABLE",
            json!({"Ref": "LedgerTable"}),
            "DARKROOM_JOBS_TABLE",
        ),
        (
            "LedgerTable/Properties/TimeToLiveSpecification",
            json!({"AttributeName": "ttl", "Enabled": true}),
            "LedgerTable expiry",
        ),
        ("JobsTable/Properties/TimeToLiveSpecification/Enabled", json!(false), "JobsTable expiry"),
        ("JobsTable/Properties/StreamSpecification/StreamViewType", json!("KEYS_ONLY"), "stream of jobs"),
    ];
    for table in ["JobsTable", "LedgerTable", "KeysTable", "PushTable"] {
        let of = |rest: &str| -> &'static str { format!("{table}/{rest}").leak() };
        all.extend([
            (of("Properties/DeletionProtectionEnabled"), json!(false), "is protected"),
            (
                of("Properties/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled"),
                json!(false),
                "can be recovered",
            ),
            (of("Properties/SSESpecification/SSEEnabled"), json!(false), "encryption"),
            (of("Properties/BillingMode"), json!("PROVISIONED"), "is paid per request"),
            (of("DeletionPolicy"), json!("Delete"), "DeletionPolicy"),
            (of("DeletionPolicy"), json!("Retain"), "DeletionPolicy"),
            (of("UpdateReplacePolicy"), json!("Delete"), "UpdateReplacePolicy"),
        ]);
    }
    all
}

#[test]
fn a_key_that_stands_twice_is_noticed() {
    let yaml = read("infra/template.yaml");
    let line = "      VisibilityTimeout: 1380\n";
    assert!(yaml.contains(line));
    let error = Template::parse(&yaml.replace(line, &line.repeat(2))).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("duplicate entry with key \"VisibilityTimeout\""), "{cause}");
}
