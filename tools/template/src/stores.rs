//! Tables, queues, buckets and KMS keys: from CloudFormation's properties to the requests that make them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::node::Node;
use crate::resolve::Resolver;
use crate::{Bucket, CorsRule, KmsAlias, KmsKey, Queue, Redrive, Table, TemplateError};

/// Reads an `AWS::DynamoDB::Table`.
pub(crate) fn table(logical_id: &str, properties: &Node<'_>) -> Result<Table, TemplateError> {
    let mut request = Map::new();
    let mut ttl_attribute = None;
    for (property, node) in properties.entries()? {
        match property {
            "TableName" | "BillingMode" => insert(&mut request, property, json!(node.text()?)),
            "AttributeDefinitions" | "KeySchema" | "GlobalSecondaryIndexes" => {
                insert(&mut request, property, node.value().clone());
            }
            "DeletionProtectionEnabled" => insert(&mut request, property, json!(node.flag()?)),
            "StreamSpecification" => insert(&mut request, property, stream(&node)?),
            "SSESpecification" => insert(&mut request, property, encryption(&node)?),
            "TimeToLiveSpecification" => ttl_attribute = time_to_live(&node)?,
            // Set by a request of its own, which a local store does not have.
            "PointInTimeRecoverySpecification" => {}
            unknown => return Err(unknown_property(properties, unknown)),
        }
    }
    Ok(Table {
        logical_id: logical_id.to_owned(),
        name: properties.need("TableName")?.text()?,
        create_table: Value::Object(request),
        ttl_attribute,
    })
}

/// CloudFormation leaves out `StreamEnabled`, which the request needs.
fn stream(node: &Node<'_>) -> Result<Value, TemplateError> {
    node.only(&["StreamViewType"])?;
    Ok(json!({ "StreamEnabled": true, "StreamViewType": node.need("StreamViewType")?.text()? }))
}

/// CloudFormation says `SSEEnabled` where the request says `Enabled`.
fn encryption(node: &Node<'_>) -> Result<Value, TemplateError> {
    node.only(&["SSEEnabled", "SSEType"])?;
    Ok(json!({ "Enabled": node.need("SSEEnabled")?.flag()?, "SSEType": node.need("SSEType")?.text()? }))
}

fn time_to_live(node: &Node<'_>) -> Result<Option<String>, TemplateError> {
    node.only(&["AttributeName", "Enabled"])?;
    let attribute = node.need("AttributeName")?.text()?;
    Ok(node.need("Enabled")?.flag()?.then_some(attribute))
}

/// Reads an `AWS::SQS::Queue`. Its properties but for `QueueName` have the names of the request's attributes.
pub(crate) fn queue(
    resolver: &Resolver<'_>,
    logical_id: &str,
    properties: &Node<'_>,
) -> Result<Queue, TemplateError> {
    let mut attributes = BTreeMap::new();
    for (property, node) in properties.entries()? {
        match property {
            "QueueName" => continue,
            "RedrivePolicy" | "RedriveAllowPolicy" => {
                attributes.insert(property.to_owned(), node.value().to_string())
            }
            "VisibilityTimeout"
            | "MessageRetentionPeriod"
            | "ReceiveMessageWaitTimeSeconds"
            | "DelaySeconds" => attributes.insert(property.to_owned(), node.number()?.to_string()),
            "SqsManagedSseEnabled" => attributes.insert(property.to_owned(), node.flag()?.to_string()),
            unknown => return Err(unknown_property(properties, unknown)),
        };
    }
    Ok(Queue {
        logical_id: logical_id.to_owned(),
        name: properties.need("QueueName")?.text()?,
        arn: resolver.arn_of(logical_id)?,
        url: resolver.reference_to(logical_id)?,
        attributes,
        redrive: properties.get("RedrivePolicy").map(|policy| redrive(resolver, &policy)).transpose()?,
    })
}

fn redrive(resolver: &Resolver<'_>, policy: &Node<'_>) -> Result<Redrive, TemplateError> {
    policy.only(&["deadLetterTargetArn", "maxReceiveCount"])?;
    Ok(Redrive {
        dead_letter_queue: resolver
            .resource_with_arn("AWS::SQS::Queue", &policy.need("deadLetterTargetArn")?)?,
        receives_max: policy.need("maxReceiveCount")?.number_as()?,
    })
}

/// Reads an `AWS::S3::Bucket`. A local bucket is private and on one machine's disk as it is.
pub(crate) fn bucket(logical_id: &str, properties: &Node<'_>) -> Result<Bucket, TemplateError> {
    properties.only(&[
        "BucketName",
        "OwnershipControls",
        "PublicAccessBlockConfiguration",
        "BucketEncryption",
        "LifecycleConfiguration",
        "CorsConfiguration",
    ])?;
    Ok(Bucket {
        logical_id: logical_id.to_owned(),
        name: properties.need("BucketName")?.text()?,
        cors: properties.get("CorsConfiguration").map_or_else(|| Ok(Vec::new()), |node| cors(&node))?,
    })
}

fn cors(node: &Node<'_>) -> Result<Vec<CorsRule>, TemplateError> {
    node.only(&["CorsRules"])?;
    let rule = |rule: &Node<'_>| {
        rule.only(&["AllowedOrigins", "AllowedMethods", "AllowedHeaders", "MaxAge"])?;
        Ok(CorsRule {
            allowed_origins: rule.need("AllowedOrigins")?.one_or_more()?,
            allowed_methods: rule.need("AllowedMethods")?.one_or_more()?,
            allowed_headers: rule
                .get("AllowedHeaders")
                .map_or_else(|| Ok(Vec::new()), |headers| headers.one_or_more())?,
            max_age: rule.get("MaxAge").map_or(Ok(Duration::ZERO), |age| age.seconds())?,
        })
    };
    node.need("CorsRules")?.list()?.iter().map(rule).collect()
}

/// Reads an `AWS::KMS::Key`. A local key is symmetric too, without policy and rotation.
pub(crate) fn kms_key(
    resolver: &Resolver<'_>,
    logical_id: &str,
    properties: &Node<'_>,
) -> Result<KmsKey, TemplateError> {
    properties.only(&["Description", "EnableKeyRotation", "KeyPolicy", "PendingWindowInDays"])?;
    Ok(KmsKey {
        logical_id: logical_id.to_owned(),
        id: resolver.reference_to(logical_id)?,
        arn: resolver.arn_of(logical_id)?,
    })
}

/// Reads an `AWS::KMS::Alias`.
pub(crate) fn kms_alias(resolver: &Resolver<'_>, properties: &Node<'_>) -> Result<KmsAlias, TemplateError> {
    properties.only(&["AliasName", "TargetKeyId"])?;
    Ok(KmsAlias {
        name: properties.need("AliasName")?.text()?,
        key_logical_id: resolver
            .resource_with_reference("AWS::KMS::Key", &properties.need("TargetKeyId")?)?,
    })
}

fn insert(request: &mut Map<String, Value>, property: &str, value: Value) {
    request.insert(property.to_owned(), value);
}

fn unknown_property(properties: &Node<'_>, name: &str) -> TemplateError {
    TemplateError::Unknown { at: properties.at().to_owned(), name: name.to_owned() }
}
