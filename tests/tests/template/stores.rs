//! Tables, queues, the bucket and the key that secrets are sealed under.

use std::collections::BTreeSet;
use std::time::Duration;

use darkroom_core::limits;
use darkroom_template::Queue;
use serde_json::{Value, json};

use crate::{Faults, View};

pub(crate) fn check(view: &View<'_>, faults: &mut Faults) {
    check_tables(view, faults);
    check_jobs_table(view, faults);
    check_push_table(view, faults);
    check_queues(view, faults);
    check_secrets_key(view, faults);
    check_bucket(view, faults);
    check_bucket_policy(view, faults);
}

fn check_tables(view: &View<'_>, faults: &mut Faults) {
    let names: BTreeSet<_> = view.stack.tables.iter().map(|table| table.name.as_str()).collect();
    faults.same("tables", &names, &["dark-jobs", "dark-keys", "dark-ledger", "dark-push"].into());
    for table in &view.stack.tables {
        let id = table.logical_id.as_str();
        let request = &table.create_table;
        faults.same(&format!("{id} is paid per request"), &request["BillingMode"], &json!("PAY_PER_REQUEST"));
        faults.same(&format!("{id} is protected"), &request["DeletionProtectionEnabled"], &json!(true));
        faults.same(
            &format!("{id} encryption"),
            &request["SSESpecification"],
            &json!({"Enabled": true, "SSEType": "KMS"}),
        );
        faults.same(&format!("{id} keys"), &request["KeySchema"], &key_schema("pk", "sk"));
        let recovery = view
            .written(&format!("{id}/Properties/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled"));
        faults.same(&format!("{id} can be recovered"), recovery, &json!(true));
        check_retained(view, id, faults);
        // Money never expires; keys live until a person removes them.
        let expires = ["dark-jobs", "dark-push"].contains(&table.name.as_str());
        faults.same(&format!("{id} expiry"), &table.ttl_attribute.as_deref(), &expires.then_some("ttl"));
        if !["dark-jobs", "dark-push"].contains(&table.name.as_str()) {
            faults.same(&format!("{id} attributes"), &attributes(request), &attribute_set(&["pk S", "sk S"]));
        }
    }
}

fn check_jobs_table(view: &View<'_>, faults: &mut Faults) {
    let Some(jobs) = view.stack.tables.iter().find(|table| table.name == "dark-jobs") else { return };
    let request = &jobs.create_table;
    let stream = json!({"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"});
    faults.same("stream of jobs", &request["StreamSpecification"], &stream);
    let wanted = [
        "pk S",
        "sk S",
        "shard S",
        "due_at N",
        "wait_at N",
        "user S",
        "created_at N",
        "batch_id S",
        "batch_line N",
    ];
    faults.same("attributes of jobs", &attributes(request), &attribute_set(&wanted));
    let index = |name: &str, hash: &str, range: &str, projection: Value| json!({"IndexName": name, "KeySchema": key_schema(hash, range), "Projection": projection});
    // No prompt, and no user in what everybody is shown numbers of.
    let with = |attributes: &[&str]| json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": attributes});
    let indexes = json!([
        index("due", "shard", "due_at", with(&["model", "status"])),
        index("waiting", "shard", "wait_at", with(&["model"])),
        index("by_user", "user", "created_at", json!({"ProjectionType": "KEYS_ONLY"})),
        index("by_batch", "batch_id", "batch_line", with(&["status"]))
    ]);
    faults.same("indexes of jobs", &request["GlobalSecondaryIndexes"], &indexes);
}

fn check_push_table(view: &View<'_>, faults: &mut Faults) {
    let Some(push) = view.stack.tables.iter().find(|table| table.name == "dark-push") else { return };
    let request = &push.create_table;
    faults.same(
        "attributes of push",
        &attributes(request),
        &attribute_set(&["pk S", "sk S", "shard S", "due_at N"]),
    );
    // Nothing of what is told.
    let projection = json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["tries"]});
    let due =
        json!({"IndexName": "due", "KeySchema": key_schema("shard", "due_at"), "Projection": projection});
    faults.same("indexes of push", &request["GlobalSecondaryIndexes"], &json!([due]));
}

fn key_schema(hash: &str, range: &str) -> Value {
    json!([{"AttributeName": hash, "KeyType": "HASH"}, {"AttributeName": range, "KeyType": "RANGE"}])
}

/// Names and types of a request's attributes, in no order.
fn attributes(request: &Value) -> BTreeSet<String> {
    let definitions = request["AttributeDefinitions"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    definitions
        .map(|definition| {
            format!("{} {}", text(&definition["AttributeName"]), text(&definition["AttributeType"]))
        })
        .collect()
}

fn attribute_set(attributes: &[&str]) -> BTreeSet<String> {
    attributes.iter().map(|&attribute| attribute.to_owned()).collect()
}

fn check_retained(view: &View<'_>, id: &str, faults: &mut Faults) {
    // What a failed first deploy has made is empty; kept, its fixed name would make every further deploy fail.
    for (policy, wanted) in [("DeletionPolicy", "RetainExceptOnCreate"), ("UpdateReplacePolicy", "Retain")] {
        faults.same(&format!("{id} {policy}"), view.written(&format!("{id}/{policy}")), &json!(wanted));
    }
}

fn seconds(queue: &Queue, attribute: &str) -> u64 {
    queue.attributes.get(attribute).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn check_queues(view: &View<'_>, faults: &mut Faults) {
    for queue in &view.stack.queues {
        let encrypted = queue.attributes.get("SqsManagedSseEnabled").map(String::as_str);
        faults.same(&format!("{} encryption", queue.logical_id), &encrypted, &Some("true"));
    }
    let all = [
        ("worker", "dark-jobs", limits::VISIBILITY_TIMEOUT),
        ("notifier", "dark-webhooks", limits::WEBHOOK_VISIBILITY_TIMEOUT),
        ("bulk", "dark-bulk", limits::BULK_VISIBILITY_TIMEOUT),
    ];
    faults.same("queues", &view.stack.queues.len(), &(2 * all.len()));
    for (function, name, visibility) in all {
        check_queue(view, (function, name), visibility, faults);
    }
}

/// The queue that a function listens to, and where its messages end that cannot be begun.
fn check_queue(view: &View<'_>, (function, name): (&str, &str), visibility: Duration, faults: &mut Faults) {
    let source = view.function(function).and_then(|function| function.queue_source.as_ref());
    let Some(queue) = source.and_then(|source| view.stack.queue(&source.queue_logical_id)) else {
        return faults.require(false, &format!("the {function} listens to a queue"));
    };
    let id = &queue.logical_id;
    faults.same(&format!("queue of the {function}"), &queue.name.as_str(), &name);
    faults.same(
        &format!("visibility of {name}"),
        &seconds(queue, "VisibilityTimeout"),
        &visibility.as_secs(),
    );
    let dead = queue.redrive.as_ref().and_then(|redrive| view.stack.queue(&redrive.dead_letter_queue));
    let Some(dead) = dead else {
        return faults
            .require(false, &format!("messages of {name} received too often go to a dead-letter queue"));
    };
    faults.require(dead.name != queue.name, "the dead-letter queue is another queue");
    faults.same("dead-letter queue, another queue for each", &dead.name, &format!("{name}-dead"));
    faults.same("receives", &queue.redrive.as_ref().map(|redrive| redrive.receives_max), &Some(5));

    let days = |queue: &Queue| seconds(queue, "MessageRetentionPeriod") / 86_400;
    faults.require(days(dead) > days(queue), "a dead message is kept longer than it could wait before");
    faults.same(&format!("retention of {id} in days"), &(days(queue), days(dead)), &(4, 14));
    let allowed = json!({"redrivePermission": "byQueue", "sourceQueueArns": [queue.arn]}).to_string();
    faults.same("who may dead-letter", &dead.attributes.get("RedriveAllowPolicy"), &Some(&allowed));
}

fn check_secrets_key(view: &View<'_>, faults: &mut Faults) {
    let [key] = view.stack.kms_keys.as_slice() else {
        return faults.require(false, "there is one KMS key");
    };
    let id = key.logical_id.as_str();
    check_retained(view, id, faults);
    let written = |pointer: &str| view.written(&format!("{id}/Properties/{pointer}"));
    faults.same("rotation of the secrets' key", written("EnableKeyRotation"), &json!(true));
    faults.same("days to think better of its deletion", written("PendingWindowInDays"), &json!(30));
    let account = json!({"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"});
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "AccountDecides",
        "Effect": "Allow",
        "Principal": {"AWS": account},
        "Action": "kms:*",
        "Resource": "*",
    }]});
    faults.same("policy of the secrets' key", written("KeyPolicy"), &policy);
    // `darkroom keys add --stack` makes up the same name.
    let aliases: Vec<_> = view
        .stack
        .kms_aliases
        .iter()
        .map(|alias| (alias.name.as_str(), alias.key_logical_id.as_str()))
        .collect();
    faults.same("aliases", &aliases, &vec![("alias/dark-secrets", id)]);
}

fn check_bucket(view: &View<'_>, faults: &mut Faults) {
    faults.same("buckets", &view.stack.buckets.len(), &1);
    let Some(bucket) = view.stack.buckets.first() else { return };
    let id = bucket.logical_id.as_str();
    check_retained(view, id, faults);
    let written = |pointer: &str| view.written(&format!("{id}/Properties/{pointer}"));
    let private = json!({
        "BlockPublicAcls": true,
        "BlockPublicPolicy": true,
        "IgnorePublicAcls": true,
        "RestrictPublicBuckets": true,
    });
    faults.same("public access", written("PublicAccessBlockConfiguration"), &private);
    let owner = json!([{"ObjectOwnership": "BucketOwnerEnforced"}]);
    faults.same("object ownership", written("OwnershipControls/Rules"), &owner);
    let encrypted = json!([{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]);
    faults.same(
        "bucket encryption",
        written("BucketEncryption/ServerSideEncryptionConfiguration"),
        &encrypted,
    );

    let signed = ["content-type", "if-none-match", "x-amz-checksum-sha256", "x-amz-tagging"];
    let cors = json!([
        {"AllowedOrigins": [{"Ref": "ImageOrigin"}], "AllowedMethods": ["GET", "HEAD"], "MaxAge": 3_600},
        {"AllowedOrigins": [{"Ref": "ImageOrigin"}], "AllowedMethods": ["PUT"], "AllowedHeaders": signed, "MaxAge": 3_600},
    ]);
    faults.same("pages that may use the bucket", written("CorsConfiguration/CorsRules"), &cors);
    let nobody = ["https://origin.invalid".to_owned()];
    let allowed: Vec<_> = bucket.cors.iter().flat_map(|rule| &rule.allowed_origins).collect();
    faults.same("pages that may by default", &allowed, &nobody.iter().chain(&nobody).collect());

    let lifecycle = json!([
        {"Id": "expire-images", "Status": "Enabled", "Prefix": "images/", "ExpirationInDays": limits::IMAGE_DAYS},
        {
            "Id": "expire-unused-uploads",
            "Status": "Enabled",
            "Prefix": "uploads/",
            "TagFilters": [{"Key": "use", "Value": "none"}],
            "ExpirationInDays": limits::UPLOAD_UNUSED_DAYS,
        },
        {"Id": "expire-uploads", "Status": "Enabled", "Prefix": "uploads/", "ExpirationInDays": limits::UPLOAD_DAYS},
        {"Id": "expire-exports", "Status": "Enabled", "Prefix": "exports/", "ExpirationInDays": limits::EXPORT_FILE_DAYS},
        {"Id": "expire-batches", "Status": "Enabled", "Prefix": "batches/", "ExpirationInDays": limits::BATCH_LINES_DAYS},
        {"Id": "abort-uploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
    ]);
    faults.same("object expiry", written("LifecycleConfiguration/Rules"), &lifecycle);
}

fn check_bucket_policy(view: &View<'_>, faults: &mut Faults) {
    let policy = view.written("ImageBucketPolicy");
    faults.same("bucket policy type", &policy["Type"], &json!("AWS::S3::BucketPolicy"));
    faults.same("bucket policy's bucket", &policy["Properties"]["Bucket"], &json!({"Ref": "ImageBucket"}));
    let document = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [{"Fn::GetAtt": ["ImageBucket", "Arn"]}, {"Fn::Sub": "${ImageBucket.Arn}/*"}],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }]});
    faults.same("TLS only", &policy["Properties"]["PolicyDocument"], &document);
}
