//! Intrinsic functions: what `Ref`, `Fn::GetAtt` and `Fn::Sub` stand for in one stack.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::node::Node;
use crate::{Names, TemplateError};

/// Names that lead through more references than this lead in a circle.
const DEPTH_MAX: u8 = 8;

/// Resolves references for one stack.
pub(crate) struct Resolver<'a> {
    names: &'a Names,
    parameters: BTreeMap<String, String>,
    resources: Node<'a>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(names: &'a Names, parameters: BTreeMap<String, String>, resources: Node<'a>) -> Self {
        Self { names, parameters, resources }
    }

    /// `node` with every intrinsic function replaced by what it stands for.
    pub(crate) fn resolve(&self, node: &Node<'_>) -> Result<Value, TemplateError> {
        self.resolve_at(node, DEPTH_MAX)
    }

    /// A section that may be absent, resolved; an absent one is an empty mapping.
    pub(crate) fn resolve_section(&self, section: Option<&Node<'_>>) -> Result<Value, TemplateError> {
        section.map_or_else(|| Ok(Value::Object(Map::new())), |node| self.resolve(node))
    }

    /// What `Ref` gives for this resource.
    pub(crate) fn reference_to(&self, resource: &str) -> Result<String, TemplateError> {
        self.reference(resource, self.resources.at(), DEPTH_MAX)
    }

    /// What `Fn::GetAtt` gives for this resource's `Arn`.
    pub(crate) fn arn_of(&self, resource: &str) -> Result<String, TemplateError> {
        self.attribute(resource, "Arn", self.resources.at(), DEPTH_MAX)
    }

    /// The logical id of the resource of type `kind` whose ARN `node` holds.
    pub(crate) fn resource_with_arn(&self, kind: &str, node: &Node<'_>) -> Result<String, TemplateError> {
        self.find(kind, node, |resource| self.arn_of(resource))
    }

    /// The logical id of the resource of type `kind` whose `Ref` `node` holds.
    pub(crate) fn resource_with_reference(
        &self,
        kind: &str,
        node: &Node<'_>,
    ) -> Result<String, TemplateError> {
        self.find(kind, node, |resource| self.reference_to(resource))
    }

    /// The logical id of the table whose stream's ARN `node` holds.
    pub(crate) fn table_with_stream(&self, node: &Node<'_>) -> Result<String, TemplateError> {
        self.find("AWS::DynamoDB::Table", node, |resource| {
            self.attribute(resource, "StreamArn", self.resources.at(), DEPTH_MAX)
        })
    }

    fn find(
        &self,
        kind: &str,
        node: &Node<'_>,
        identify: impl Fn(&str) -> Result<String, TemplateError>,
    ) -> Result<String, TemplateError> {
        let wanted = node.text()?;
        for (logical_id, resource) in self.resources.entries()? {
            if resource.need("Type")?.text()? == kind && identify(logical_id)? == wanted {
                return Ok(logical_id.to_owned());
            }
        }
        Err(dangling(node.at(), &wanted))
    }

    fn resolve_at(&self, node: &Node<'_>, depth: u8) -> Result<Value, TemplateError> {
        match node.value() {
            Value::Object(object) => self.resolve_mapping(object, node, depth),
            Value::Array(_) => node
                .list()?
                .iter()
                .map(|entry| self.resolve_at(entry, depth))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array),
            plain => Ok(plain.clone()),
        }
    }

    fn resolve_mapping(
        &self,
        object: &Map<String, Value>,
        node: &Node<'_>,
        depth: u8,
    ) -> Result<Value, TemplateError> {
        if let Some((function, argument)) = only_entry(object)
            && (function == "Ref" || function.starts_with("Fn::"))
        {
            let argument = Node::new(argument, node.at());
            return self.call(function, &argument, depth).map(Value::String);
        }
        let resolved = node
            .entries()?
            .into_iter()
            .map(|(key, value)| Ok((key.to_owned(), self.resolve_at(&value, depth)?)));
        resolved.collect::<Result<Map<_, _>, _>>().map(Value::Object)
    }

    fn call(&self, function: &str, argument: &Node<'_>, depth: u8) -> Result<String, TemplateError> {
        let depth =
            depth.checked_sub(1).ok_or_else(|| TemplateError::Circular { at: argument.at().to_owned() })?;
        match (function, argument.value()) {
            ("Ref", Value::String(name)) => self.reference(name, argument.at(), depth),
            ("Fn::Sub", Value::String(text)) => self.substitute(text, argument.at(), depth),
            ("Fn::GetAtt", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(resource), Value::String(attribute)] => {
                    self.attribute(resource, attribute, argument.at(), depth)
                }
                _ => Err(argument.mismatch("a resource and an attribute")),
            },
            ("Ref" | "Fn::Sub" | "Fn::GetAtt", _) => Err(argument.mismatch("a name")),
            (unknown, _) => Err(TemplateError::UnknownIntrinsic {
                at: argument.at().to_owned(),
                name: unknown.to_owned(),
            }),
        }
    }

    /// What `Ref` gives: a parameter's value, a pseudo parameter, or what CloudFormation documents for the resource's type.
    fn reference(&self, name: &str, at: &str, depth: u8) -> Result<String, TemplateError> {
        if let Some(value) = self.parameters.get(name) {
            return Ok(value.clone());
        }
        match name {
            "AWS::StackName" => Ok(self.names.stack.clone()),
            "AWS::Region" => Ok(self.names.region.clone()),
            "AWS::AccountId" => Ok(self.names.account.clone()),
            "AWS::Partition" => Ok(self.names.partition.clone()),
            resource => match self.kind(resource, at, resource)?.as_str() {
                "AWS::SQS::Queue" => {
                    let Names { queue_url_prefix, account, .. } = self.names;
                    Ok(format!("{queue_url_prefix}/{account}/{}", self.name(resource, depth)?))
                }
                _ => self.name(resource, depth),
            },
        }
    }

    /// What `Fn::GetAtt` gives, for the attributes that the local system has a value for.
    fn attribute(
        &self,
        resource: &str,
        attribute: &str,
        at: &str,
        depth: u8,
    ) -> Result<String, TemplateError> {
        let Names { region, account, partition, api_url, .. } = self.names;
        let wanted = format!("{resource}.{attribute}");
        let kind = self.kind(resource, at, &wanted)?;
        let name = self.name(resource, depth)?;
        let arn =
            |service: &str, rest: &str| Ok(format!("arn:{partition}:{service}:{region}:{account}:{rest}"));
        match (kind.as_str(), attribute) {
            ("AWS::DynamoDB::Table", "Arn") => arn("dynamodb", &format!("table/{name}")),
            // AWS names a stream by the time at which it was switched on.
            ("AWS::DynamoDB::Table", "StreamArn") => arn("dynamodb", &format!("table/{name}/stream/now")),
            ("AWS::SQS::Queue", "Arn") => arn("sqs", &name),
            ("AWS::KMS::Key", "Arn") => arn("kms", &format!("key/{name}")),
            ("AWS::Logs::LogGroup", "Arn") => arn("logs", &format!("log-group:{name}:*")),
            ("AWS::S3::Bucket", "Arn") => Ok(format!("arn:{partition}:s3:::{name}")),
            ("AWS::IAM::Role", "Arn") => Ok(format!("arn:{partition}:iam::{account}:role/{name}")),
            ("AWS::Serverless::Function", "Arn") => arn("lambda", &format!("function:{name}")),
            ("AWS::Serverless::HttpApi", "ApiEndpoint") => Ok(api_url.clone()),
            // On AWS another host; here the same.
            ("AWS::ApiGatewayV2::Api", "ApiEndpoint") => Ok(api_url.replacen("http", "ws", 1)),
            _ => Err(dangling(at, &wanted)),
        }
    }

    /// `text` with each `${Name}` and `${Resource.Attribute}` replaced.
    fn substitute(&self, text: &str, at: &str, depth: u8) -> Result<String, TemplateError> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or_else(|| TemplateError::Malformed {
                at: at.to_owned(),
                reason: "a `${` without its `}`".to_owned(),
            })?;
            resolved.push_str(before);
            resolved.push_str(&match name.split_once('.') {
                Some((resource, attribute)) => self.attribute(resource, attribute, at, depth)?,
                None => self.reference(name, at, depth)?,
            });
            rest = after;
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    fn kind(&self, resource: &str, at: &str, wanted: &str) -> Result<String, TemplateError> {
        self.resources.get(resource).ok_or_else(|| dangling(at, wanted))?.need("Type")?.text()
    }

    /// The resource's name: the one the template gives it, else one made of the stack's name and the logical id.
    fn name(&self, resource: &str, depth: u8) -> Result<String, TemplateError> {
        let node = self.resources.need(resource)?;
        let named_by = match node.need("Type")?.text()?.as_str() {
            "AWS::DynamoDB::Table" => "TableName",
            "AWS::SQS::Queue" => "QueueName",
            "AWS::S3::Bucket" => "BucketName",
            "AWS::Logs::LogGroup" => "LogGroupName",
            "AWS::Serverless::Function" => "FunctionName",
            "AWS::IAM::Role" => "RoleName",
            "AWS::KMS::Alias" => "AliasName",
            "AWS::ApiGatewayV2::Stage" => "StageName",
            _ => "Name",
        };
        match node.get("Properties").and_then(|properties| properties.get(named_by)) {
            Some(given) => {
                let resolved = self.resolve_at(&given, depth)?;
                Node::new(&resolved, given.at()).text()
            }
            None => Ok(format!("{}-{resource}", self.names.stack)),
        }
    }
}

fn only_entry(object: &Map<String, Value>) -> Option<(&String, &Value)> {
    let mut entries = object.iter();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Some(entry),
        _ => None,
    }
}

fn dangling(at: &str, name: &str) -> TemplateError {
    TemplateError::DanglingReference { at: at.to_owned(), name: name.to_owned() }
}
