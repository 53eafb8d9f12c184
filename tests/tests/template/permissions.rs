//! What each function may do: exactly what it does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Faults, View};

/// Function, resource, actions. A transaction needs the permissions of the writes in it.
const PERMISSIONS: [(&str, &str, &[&str]); 25] = [
    // Records jobs and answers with the stored one; after a failed send it pulls the job's due time forward.
    ("submit", "jobs", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]),
    ("submit", "ledger", &["dynamodb:UpdateItem"]),
    ("submit", "keys", &["dynamodb:Query"]),
    ("submit", "queue", &["sqs:SendMessage"]),
    ("submit", "logs", LOGS),
    // Reads and lists jobs, cancels them and refunds; presigns images.
    ("api", "jobs", &["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:UpdateItem"]),
    ("api", "jobs/index/waiting", &["dynamodb:Query"]),
    ("api", "jobs/index/by_user", &["dynamodb:Query"]),
    ("api", "ledger", &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"]),
    ("api", "keys", &["dynamodb:GetItem", "dynamodb:Query"]),
    ("api", "queue", &["sqs:GetQueueAttributes"]),
    ("api", "images", &["s3:GetObject"]),
    ("api", "logs", LOGS),
    // Claims and settles. It never makes a job, never sends and never holds.
    ("worker", "jobs", &["dynamodb:GetItem", "dynamodb:UpdateItem"]),
    ("worker", "ledger", &["dynamodb:PutItem", "dynamodb:UpdateItem"]),
    ("worker", "keys", &["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"]),
    ("worker", "images", &["s3:PutObject"]),
    ("worker", "queue", &["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]),
    ("worker", "logs", LOGS),
    // Reads what is due, requeues, settles what cannot be done, sends.
    ("sweeper", "jobs", &["dynamodb:BatchGetItem", "dynamodb:UpdateItem"]),
    ("sweeper", "jobs/index/due", &["dynamodb:Query"]),
    ("sweeper", "ledger", &["dynamodb:PutItem", "dynamodb:UpdateItem"]),
    ("sweeper", "keys", &["dynamodb:UpdateItem"]),
    ("sweeper", "queue", &["sqs:SendMessage"]),
    ("sweeper", "logs", LOGS),
];

const LOGS: &[&str] = &["logs:CreateLogStream", "logs:PutLogEvents"];

type Permissions = BTreeSet<(String, String)>;

pub(crate) fn check(view: &View<'_>, faults: &mut Faults) {
    for function in &view.stack.functions {
        let mut found = Permissions::new();
        for statement in &function.policy_statements {
            faults.same(&format!("{} effect", function.binary), &statement.effect.as_str(), &"Allow");
            for action in &statement.actions {
                faults.require(!action.contains('*'), &format!("{} may do {action}", function.binary));
                found.extend(statement.resources.iter().map(|resource| (resource.clone(), action.clone())));
            }
        }
        let wanted = wanted(&function.binary);
        for (resource, action) in found.difference(&wanted) {
            faults.require(false, &format!("{} may {action} on {resource} but never does", function.binary));
        }
        for (resource, action) in wanted.difference(&found) {
            faults.require(false, &format!("{} must {action} on {resource} but may not", function.binary));
        }
    }
    check_trust(view, faults);
}

/// Resources and actions of one function, by ARN.
fn wanted(function: &str) -> Permissions {
    let own = PERMISSIONS.iter().filter(|(binary, _, _)| *binary == function);
    own.flat_map(|(_, resource, actions)| {
        let arn = arn(function, resource);
        actions.iter().map(move |action| (arn.clone(), (*action).to_owned()))
    })
    .collect()
}

fn arn(function: &str, resource: &str) -> String {
    const PLACE: &str = "eu-central-1:123456789012";
    match resource {
        "queue" => format!("arn:aws:sqs:{PLACE}:dark-jobs"),
        "images" => "arn:aws:s3:::dark-images-123456789012-eu-central-1/images/*".to_owned(),
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
