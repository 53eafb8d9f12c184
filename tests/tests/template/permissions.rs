//! What each function may do: exactly what it does.

use std::collections::{BTreeMap, BTreeSet};

use darkroom_aws::{KEY_PROJECTION, PROBE_PREFIX};
use darkroom_template::Condition;
use serde_json::{Value, json};

use crate::{Faults, View};

/// Function, resource, actions, and under which condition ([`condition`]). A transaction needs the permissions of the
/// writes in it.
const PERMISSIONS: [(&str, &str, &[&str], &str); 78] = [
    // Records jobs and answers with the stored one; after a failed send it pulls the job's due time forward.
    ("submit", "jobs", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], ALWAYS),
    ("submit", "ledger", &["dynamodb:UpdateItem"], ALWAYS),
    // How long a batch takes: what its models' quotas allow.
    ("submit", "keys", &["dynamodb:Query"], "pool"),
    ("submit", "keys", &["dynamodb:Query"], "keys without secrets"),
    ("submit", "keys", &["dynamodb:GetItem"], "breakers"),
    ("submit", "queue", &["sqs:SendMessage"], ALWAYS),
    ("submit", "bulk queue", &["sqs:SendMessage"], ALWAYS),
    // Looks whether an upload is there and has it kept, and reads none but the lines of a batch; those that can be drawn it keeps.
    ("submit", "bucket", &["s3:ListBucket"], "uploads"),
    ("submit", "uploads", &["s3:PutObjectTagging"], ALWAYS),
    ("submit", "uploads of batches", &["s3:GetObject"], ALWAYS),
    ("submit", "batches", &["s3:PutObject"], ALWAYS),
    ("submit", "logs", LOGS, ALWAYS),
    // Reads and lists jobs, cancels and sweeps them and refunds; changes metadata, and makes the first of a job that is there;
    // deletes what is kept beside records, leaving tombstones of these; presigns and deletes images; looks whether all this is
    // healthy. It never makes a job, and stores no image.
    (
        "api",
        "jobs",
        &[
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:UpdateItem",
        ],
        ALWAYS,
    ),
    ("api", "jobs/index/due", &["dynamodb:Query"], ALWAYS),
    ("api", "jobs/index/waiting", &["dynamodb:Query"], ALWAYS),
    ("api", "jobs/index/by_user", &["dynamodb:Query"], ALWAYS),
    ("api", "jobs/index/by_batch", &["dynamodb:Query"], ALWAYS),
    (
        "api",
        "ledger",
        &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"],
        ALWAYS,
    ),
    ("api", "keys", &["dynamodb:Query"], "pool"),
    ("api", "keys", &["dynamodb:Query"], "keys without secrets"),
    ("api", "keys", &["dynamodb:GetItem"], "heartbeats and breakers"),
    // Gives out tickets, and reads none of what others do with them.
    ("api", "push", &["dynamodb:PutItem"], "tickets"),
    // Webhooks, and what was sent to them. It seals their secrets and opens none.
    (
        "api",
        "push",
        &["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"],
        "webhooks",
    ),
    ("api", "secrets", &["kms:GenerateDataKey"], "push table"),
    ("api", "queue", &["sqs:GetQueueAttributes"], ALWAYS),
    ("api", "images", &["s3:DeleteObject", "s3:GetObject"], ALWAYS),
    // Signs links to exports, and to put uploads.
    ("api", "exports", &["s3:GetObject"], ALWAYS),
    ("api", "uploads", &["s3:PutObject", "s3:PutObjectTagging"], ALWAYS),
    ("api", "bucket", &["s3:ListBucket"], "probe"),
    ("api", "logs", LOGS, ALWAYS),
    // Claims and settles. It never makes a job, never sends and never holds.
    ("worker", "jobs", &["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:UpdateItem"], ALWAYS),
    ("worker", "ledger", &["dynamodb:PutItem", "dynamodb:UpdateItem"], ALWAYS),
    ("worker", "keys", &["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"], ALWAYS),
    // Nobody else opens the pool's secrets.
    ("worker", "secrets", &["kms:Decrypt"], "own table"),
    ("worker", "images", &["s3:PutObject"], ALWAYS),
    ("worker", "uploads", &["s3:GetObject"], ALWAYS),
    ("worker", "bucket", &["s3:ListBucket"], "uploads"),
    ("worker", "queue", &["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"], ALWAYS),
    ("worker", "logs", LOGS, ALWAYS),
    // Reads what is due, requeues, settles what cannot be done, sends.
    ("sweeper", "jobs", &["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], ALWAYS),
    ("sweeper", "jobs/index/due", &["dynamodb:Query"], ALWAYS),
    ("sweeper", "ledger", &["dynamodb:PutItem", "dynamodb:UpdateItem"], ALWAYS),
    // What a backlog may be woken for.
    ("sweeper", "keys", &["dynamodb:GetItem", "dynamodb:Query"], "pool"),
    ("sweeper", "keys", &["dynamodb:Query"], "keys without secrets"),
    ("sweeper", "keys", &["dynamodb:UpdateItem"], "heartbeats"),
    ("sweeper", "queue", &["sqs:SendMessage"], ALWAYS),
    ("sweeper", "bulk queue", &["sqs:SendMessage"], ALWAYS),
    // Wakes deliveries, and reads none of what they tell.
    ("sweeper", "push/index/due", &["dynamodb:Query"], ALWAYS),
    ("sweeper", "push", &["dynamodb:UpdateItem"], "webhooks"),
    ("sweeper", "webhooks' queue", &["sqs:SendMessage"], ALWAYS),
    ("sweeper", "logs", LOGS, ALWAYS),
    // Reads what is shown of a job, and changes nothing of it.
    ("notifier", "jobs", &["dynamodb:BatchGetItem"], ALWAYS),
    ("notifier", "jobs/index/waiting", &["dynamodb:Query"], ALWAYS),
    ("notifier", "jobs/index/by_user", &["dynamodb:Query"], ALWAYS),
    (
        "notifier",
        "jobs/stream/now",
        &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
        ALWAYS,
    ),
    ("notifier", "jobs/stream/*", &["dynamodb:ListStreams"], ALWAYS),
    ("notifier", "ledger", &["dynamodb:GetItem"], ALWAYS),
    ("notifier", "keys", &["dynamodb:GetItem", "dynamodb:Query"], "pool"),
    ("notifier", "keys", &["dynamodb:Query"], "keys without secrets"),
    // Stored deliveries go to the queue, and are called from there; nobody else opens webhooks' secrets.
    (
        "notifier",
        "webhooks' queue",
        &["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"],
        ALWAYS,
    ),
    ("notifier", "secrets", &["kms:Decrypt"], "push table"),
    // Who is connected, and webhooks with their deliveries.
    (
        "notifier",
        "push",
        &[
            "dynamodb:BatchGetItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
        ],
        ALWAYS,
    ),
    ("notifier", "images", &["s3:GetObject"], ALWAYS),
    // Nobody else speaks to connections, and none is asked about.
    ("notifier", "POST to connections", &["execute-api:ManageConnections"], ALWAYS),
    ("notifier", "DELETE of connections", &["execute-api:ManageConnections"], ALWAYS),
    ("notifier", "logs", LOGS, ALWAYS),
    // Makes the jobs of batches, sends their messages, and has kept what they are drawn from. Writes the records of exports, and reads
    // what is exported. It holds and settles nothing.
    (
        "bulk",
        "jobs",
        &["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
        ALWAYS,
    ),
    ("bulk", "queue", &["sqs:SendMessage"], ALWAYS),
    ("bulk", "batches", &["s3:GetObject"], ALWAYS),
    ("bulk", "bucket", &["s3:ListBucket"], "uploads"),
    ("bulk", "uploads", &["s3:PutObjectTagging"], ALWAYS),
    ("bulk", "jobs/index/by_user", &["dynamodb:Query"], ALWAYS),
    ("bulk", "ledger", &["dynamodb:Query"], ALWAYS),
    ("bulk", "exports", &["s3:AbortMultipartUpload", "s3:PutObject"], ALWAYS),
    ("bulk", "bucket", &["s3:ListBucket"], "exports"),
    ("bulk", "keys", &["dynamodb:GetItem"], "breakers"),
    ("bulk", "bulk queue", &["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"], ALWAYS),
    ("bulk", "logs", LOGS, ALWAYS),
];

/// Without a condition.
const ALWAYS: &str = "always";

/// A named condition, one line for each operator and key. `ForAllValues` holds for a request that lacks the key: `Null`
/// asks that it be there.
fn condition(name: &str) -> Vec<String> {
    let partitions = |operator: &str, partitions: &str| {
        vec![
            format!("ForAllValues:{operator} dynamodb:LeadingKeys {partitions}"),
            "Null dynamodb:LeadingKeys false".to_owned(),
        ]
    };
    match name {
        "tickets" => partitions("StringLike", "TICKET#*"),
        "webhooks" => partitions("StringLike", "HOOKS#*"),
        "push table" => vec!["StringEquals kms:EncryptionContext:table dark-push".to_owned()],
        "pool" => partitions("StringLike", "BREAKER MODEL SCOPE#*"),
        "breakers" => partitions("StringEquals", "BREAKER"),
        "heartbeats" => partitions("StringEquals", "HB"),
        "heartbeats and breakers" => partitions("StringEquals", "BREAKER HB"),
        "keys without secrets" => {
            let mut all = partitions("StringEquals", "KEY");
            let attributes = KEY_PROJECTION.join(" ");
            all.push(format!("ForAllValues:StringEquals dynamodb:Attributes pk sk {attributes}"));
            all.push("Null dynamodb:Attributes false".to_owned());
            all.push("StringEqualsIfExists dynamodb:Select SPECIFIC_ATTRIBUTES".to_owned());
            all
        }
        "own table" => vec!["StringEquals kms:EncryptionContext:table dark-keys".to_owned()],
        "uploads" => vec!["StringLike s3:prefix uploads/*".to_owned()],
        "exports" => vec!["StringLike s3:prefix exports/*".to_owned()],
        "probe" => vec![format!("StringEquals s3:prefix {PROBE_PREFIX}")],
        _ => Vec::new(),
    }
}

fn written(conditions: &[Condition]) -> Vec<String> {
    let line = |condition: &Condition| {
        format!("{} {} {}", condition.operator, condition.key, condition.values.join(" "))
    };
    let mut all: Vec<_> = conditions.iter().map(line).collect();
    all.sort();
    all
}

#[test]
fn no_function_but_the_worker_may_read_a_secret() {
    assert!(!KEY_PROJECTION.contains(&"secret"));
    for (function, resource, actions, name) in PERMISSIONS {
        let reads = actions.iter().any(|action| ["dynamodb:GetItem", "dynamodb:Query"].contains(action));
        if function == "worker" || resource != "keys" || !reads {
            continue;
        }
        let lines = condition(name);
        let of_keys = lines.iter().any(|line| line.ends_with("LeadingKeys KEY"));
        let named =
            lines.iter().any(|line| line.starts_with("ForAllValues:StringEquals dynamodb:Attributes "));
        assert!(!lines.is_empty() && (!of_keys || named), "{function} {name}: {lines:?}");
    }
}

const LOGS: &[&str] = &["logs:CreateLogStream", "logs:PutLogEvents"];

/// ARN, action, condition.
type Permissions = BTreeSet<(String, String, Vec<String>)>;

pub(crate) fn check(view: &View<'_>, faults: &mut Faults) {
    for function in &view.stack.functions {
        let mut found = Permissions::new();
        for statement in &function.policy_statements {
            faults.same(&format!("{} effect", function.binary), &statement.effect.as_str(), &"Allow");
            for action in &statement.actions {
                faults.require(!action.contains('*'), &format!("{} may do {action}", function.binary));
                let conditions = written(&statement.conditions);
                let permission = |resource: &String| (resource.clone(), action.clone(), conditions.clone());
                found.extend(statement.resources.iter().map(permission));
            }
        }
        let wanted = wanted(&function.binary);
        for (resource, action, conditions) in found.difference(&wanted) {
            let when = format!("{resource} when {conditions:?}");
            faults.require(false, &format!("{} may {action} on {when} but never does", function.binary));
        }
        for (resource, action, conditions) in wanted.difference(&found) {
            let when = format!("{resource} when {conditions:?}");
            faults.require(false, &format!("{} must {action} on {when} but may not", function.binary));
        }
    }
    check_trust(view, faults);
}

/// What one function may do, by ARN.
fn wanted(function: &str) -> Permissions {
    let own = PERMISSIONS.iter().filter(|(binary, ..)| *binary == function);
    own.flat_map(|(_, resource, actions, name)| {
        let mut conditions = condition(name);
        conditions.sort();
        let arn = arn(function, resource);
        actions.iter().map(move |action| (arn.clone(), (*action).to_owned(), conditions.clone()))
    })
    .collect()
}

fn arn(function: &str, resource: &str) -> String {
    const PLACE: &str = "eu-central-1:123456789012";
    match resource {
        "queue" => format!("arn:aws:sqs:{PLACE}:dark-jobs"),
        "bulk queue" => format!("arn:aws:sqs:{PLACE}:dark-bulk"),
        "webhooks' queue" => format!("arn:aws:sqs:{PLACE}:dark-webhooks"),
        "secrets" => format!("arn:aws:kms:{PLACE}:key/dark-SecretsKey"),
        "images" => "arn:aws:s3:::dark-images-123456789012-eu-central-1/images/*".to_owned(),
        "exports" => "arn:aws:s3:::dark-images-123456789012-eu-central-1/exports/*".to_owned(),
        "batches" => "arn:aws:s3:::dark-images-123456789012-eu-central-1/batches/*".to_owned(),
        "uploads of batches" => {
            "arn:aws:s3:::dark-images-123456789012-eu-central-1/uploads/batch/*".to_owned()
        }
        "uploads" => "arn:aws:s3:::dark-images-123456789012-eu-central-1/uploads/*".to_owned(),
        "bucket" => "arn:aws:s3:::dark-images-123456789012-eu-central-1".to_owned(),
        "POST to connections" => format!("arn:aws:execute-api:{PLACE}:dark-websocket/ws/POST/@connections/*"),
        "DELETE of connections" => {
            format!("arn:aws:execute-api:{PLACE}:dark-websocket/ws/DELETE/@connections/*")
        }
        "logs" => format!("arn:aws:logs:{PLACE}:log-group:/aws/lambda/dark-{function}:*"),
        table => format!("arn:aws:dynamodb:{PLACE}:table/dark-{table}"),
    }
}

/// Each function has a role of its own, which Lambda alone may take.
fn check_trust(view: &View<'_>, faults: &mut Faults) {
    let mut owners = BTreeMap::new();
    for function in &view.stack.functions {
        let id = &function.logical_id;
        let role = view.written(&format!("{id}/Properties/Role"))["Fn::GetAtt"][0].as_str().unwrap_or("?");
        faults.require(owners.insert(role, id).is_none(), &format!("{id} has a role of its own"));
        let properties = view.written(&format!("{role}/Properties"));
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }],
        });
        faults.same(&format!("who may be {role}"), &properties["AssumeRolePolicyDocument"], &trust);
        let policies = properties["Policies"].as_array().map_or(&[][..], Vec::as_slice);
        for policy in policies {
            faults.same(&format!("{role} policy"), &policy["PolicyName"], &json!(function.binary));
            let version = &policy["PolicyDocument"]["Version"];
            faults.same(&format!("{role} policy language"), version, &Value::from("2012-10-17"));
        }
    }
}
