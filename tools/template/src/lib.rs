//! Reads `infra/template.yaml`, so that the local system is started from the very file that is deployed.
//!
//! [`Template::parse`] reads the YAML, [`Template::stack`] resolves it for one stack: tables as `CreateTable` requests, queues as
//! `CreateQueue` attributes, functions with their environment, limits, routes and event sources. What the crate does not know (an intrinsic
//! function, a resource type, a property) is an error that names it, never skipped: skipping is how the laptop and the cloud would drift apart.
//!
//! ```
//! use darkroom_template::{Names, Template, TemplateError};
//!
//! # fn main() -> Result<(), TemplateError> {
//! let template = Template::parse(
//!     r#"
//!     Resources:
//!       JobQueue:
//!         Type: AWS::SQS::Queue
//!         Properties:
//!           QueueName: !Sub "${AWS::StackName}-jobs"
//!           VisibilityTimeout: 1380
//!     "#,
//! )?;
//! let stack = template.stack(&Names {
//!     stack: "darkroom".into(),
//!     region: "us-east-1".into(),
//!     account: "000000000000".into(),
//!     partition: "aws".into(),
//!     queue_url_prefix: "http://127.0.0.1:9324".into(),
//!     api_url: "http://127.0.0.1:3000".into(),
//!     parameters: [].into(),
//! })?;
//! let queue = stack.queue("JobQueue").ok_or(TemplateError::Missing { at: "JobQueue".into() })?;
//! assert_eq!(queue.url, "http://127.0.0.1:9324/000000000000/darkroom-jobs");
//! assert_eq!(queue.attributes["VisibilityTimeout"], "1380");
//! # Ok(())
//! # }
//! ```

mod error;
mod functions;
mod node;
mod parameters;
mod resolve;
mod roles;
mod rules;
mod stack;
mod stores;
mod websocket;
mod yaml;

use std::collections::BTreeMap;

use serde_json::Value;

pub use error::TemplateError;
use node::Node;
use resolve::Resolver;
pub use stack::{
    Bucket, Condition, CorsRule, Function, KmsAlias, KmsKey, Logging, Queue, QueueSource, Redrive, Route,
    Schedule, Stack, Statement, StreamSource, Table, WebSocketApi,
};

/// What a stack's template is resolved with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The stack's name, the first part of every resource's name.
    pub stack: String,
    /// The region, such as `us-east-1`.
    pub region: String,
    /// The account's twelve digits.
    pub account: String,
    /// The partition, `aws` outside China and government regions.
    pub partition: String,
    /// What stands before `/ACCOUNT/QUEUE` in a queue's URL, without a slash at its end.
    pub queue_url_prefix: String,
    /// The HTTP API's base URL, without a slash at its end.
    pub api_url: String,
    /// Values for the template's parameters. Those that are not here keep their defaults.
    pub parameters: BTreeMap<String, String>,
}

/// A template as it stands in the file, before it is resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    tree: Value,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Text that is not YAML, a mapping with one key twice, a key that is not text, an unknown tag.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        yaml::parse(yaml).map(Self::from_tree)
    }

    /// The template whose JSON form is `tree`.
    pub fn from_tree(tree: Value) -> Self {
        Self { tree }
    }

    /// The template in the JSON form that CloudFormation defines: `!Ref X` is `{"Ref": "X"}`, `!GetAtt X.Arn` is
    /// `{"Fn::GetAtt": ["X", "Arn"]}`, `!Sub "…"` is `{"Fn::Sub": "…"}`.
    pub fn tree(&self) -> &Value {
        &self.tree
    }

    /// Resolves the template for the stack that `names` describes.
    ///
    /// # Errors
    /// A parameter without a value or with one the template forbids, values that a rule refuses together, a reference that leads nowhere or in a circle, anything this crate
    /// does not know, anything missing or of the wrong kind.
    pub fn stack(&self, names: &Names) -> Result<Stack, TemplateError> {
        let root = Node::new(&self.tree, "");
        root.only(&[
            "AWSTemplateFormatVersion",
            "Transform",
            "Description",
            "Parameters",
            "Rules",
            "Globals",
            "Resources",
            "Outputs",
        ])?;
        let resources = root.need("Resources")?;
        let parameters = parameters::values(root.get("Parameters").as_ref(), &names.parameters)?;
        rules::check(root.get("Rules").as_ref(), &parameters)?;
        let resolver = Resolver::new(names, parameters, resources.clone());

        let globals = resolver.resolve_section(root.get("Globals").as_ref())?;
        let resources = resolver.resolve(&resources)?;
        let outputs = resolver.resolve_section(root.get("Outputs").as_ref())?;
        read_stack(
            &resolver,
            &Node::new(&globals, "Globals"),
            &Node::new(&resources, "Resources"),
            &Node::new(&outputs, "Outputs"),
        )
    }
}

/// Reads a stack from the sections of a resolved template.
fn read_stack(
    resolver: &Resolver<'_>,
    globals: &Node<'_>,
    resources: &Node<'_>,
    outputs: &Node<'_>,
) -> Result<Stack, TemplateError> {
    let mut stack = Stack {
        tables: Vec::new(),
        queues: Vec::new(),
        buckets: Vec::new(),
        kms_keys: Vec::new(),
        kms_aliases: Vec::new(),
        functions: Vec::new(),
        websocket: None,
        outputs: read_outputs(outputs)?,
    };
    let context = functions::Context::new(resolver, globals, resources)?;
    for (logical_id, resource) in resources.entries()? {
        resource.only(&["Type", "Properties", "Metadata", "DeletionPolicy", "UpdateReplacePolicy"])?;
        let properties = resource.need("Properties")?;
        match resource.need("Type")?.text()?.as_str() {
            "AWS::DynamoDB::Table" => stack.tables.push(stores::table(logical_id, &properties)?),
            "AWS::SQS::Queue" => stack.queues.push(stores::queue(resolver, logical_id, &properties)?),
            "AWS::S3::Bucket" => stack.buckets.push(stores::bucket(logical_id, &properties)?),
            "AWS::KMS::Key" => stack.kms_keys.push(stores::kms_key(resolver, logical_id, &properties)?),
            "AWS::KMS::Alias" => stack.kms_aliases.push(stores::kms_alias(resolver, &properties)?),
            "AWS::Serverless::Function" => {
                stack.functions.push(functions::function(&context, logical_id, &properties)?);
            }
            "AWS::Serverless::HttpApi" => functions::http_api(&properties)?,
            "AWS::ApiGatewayV2::Api" => {
                let api = websocket::api(resolver, resources, logical_id, &properties)?;
                if stack.websocket.replace(api).is_some() {
                    let reason = "a second WebSocket API".to_owned();
                    return Err(TemplateError::Malformed { at: resource.at().to_owned(), reason });
                }
            }
            "AWS::Lambda::Permission" => websocket::permission(&properties)?,
            // Roles are read from the functions that use them, the parts of a WebSocket API with it; nothing local depends on
            // the others.
            "AWS::IAM::Role"
            | "AWS::ApiGatewayV2::Stage"
            | "AWS::ApiGatewayV2::Route"
            | "AWS::ApiGatewayV2::Integration"
            | "AWS::Logs::LogGroup"
            | "AWS::S3::BucketPolicy" => {}
            unknown => {
                return Err(TemplateError::Unknown {
                    at: resource.at().to_owned(),
                    name: unknown.to_owned(),
                });
            }
        }
    }
    Ok(stack)
}

fn read_outputs(outputs: &Node<'_>) -> Result<BTreeMap<String, String>, TemplateError> {
    let read = |(name, output): (&str, Node<'_>)| {
        output.only(&["Description", "Value"])?;
        Ok((name.to_owned(), output.need("Value")?.text()?))
    };
    outputs.entries()?.into_iter().map(read).collect()
}
