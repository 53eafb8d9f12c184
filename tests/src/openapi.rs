//! The contract, `infra/openapi.yaml`: what it says of each route, and whether an answer is as it says.
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value gives null, never a panic")]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use crate::stack::Answer;

/// Headers of the connection, of the gateway or of the body, which the contract need not tell.
pub const NOT_TOLD: [&str; 5] = ["apigw-requestid", "connection", "content-length", "content-type", "date"];

/// The document.
pub struct Document {
    tree: Value,
}

/// One route of it.
pub struct Operation<'a> {
    document: &'a Document,
    /// As the template writes it: `GET /v1/jobs/{id}`.
    pub route: String,
    /// In upper case.
    pub method: String,
    /// With its variables: `/v1/jobs/{id}`.
    pub path: String,
    item: &'a Value,
    /// What stands below the path and method.
    node: &'a Value,
}

/// A kind of answer: route, status, media type; of a refusal of ours the code, too.
pub type Kind = (String, u16, String, String);

impl Document {
    /// Reads it.
    ///
    /// # Errors
    /// When it is not there, or no YAML.
    pub fn read() -> anyhow::Result<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/openapi.yaml");
        Ok(Self { tree: serde_yaml_ng::from_str(&std::fs::read_to_string(path)?)? })
    }

    /// What stands at a JSON pointer; null when nothing does.
    pub fn at(&self, pointer: &str) -> &Value {
        self.tree.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// What a node is, or what it refers to.
    pub fn resolved<'a>(&'a self, node: &'a Value) -> &'a Value {
        match node["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => self.at(pointer),
            None => node,
        }
    }

    /// Every route.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
        let mut operations = Vec::new();
        for (path, item) in self.tree["paths"].as_object().into_iter().flatten() {
            for method in methods {
                let Some(node) = item.get(method) else { continue };
                let (method, path) = (method.to_uppercase(), path.clone());
                let route = format!("{method} {path}");
                operations.push(Operation { document: self, route, method, path, item, node });
            }
        }
        operations
    }

    /// The route of this key.
    ///
    /// # Errors
    /// When it has none.
    pub fn operation(&self, route: &str) -> anyhow::Result<Operation<'_>> {
        let found = self.operations().into_iter().find(|operation| operation.route == route);
        found.with_context(|| format!("infra/openapi.yaml says nothing of {route}"))
    }

    /// Holds a value against a schema of this document. A member that the schema does not name is wrong, too: clients are
    /// told to ignore what they do not know, but nothing goes out that is not described.
    ///
    /// # Errors
    /// Every fault, in words; or that the schema is none.
    pub fn fits(&self, schema: &Value, value: &Value) -> anyhow::Result<()> {
        let mut schema = json!({"allOf": [schema], "components": self.tree["components"]});
        close(&mut schema);
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| anyhow::anyhow!("the schema is none: {error}"))?;
        let faults: Vec<_> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {:?}", error, error.instance_path().to_string()))
            .collect();
        ensure!(faults.is_empty(), "{}: {value}", faults.join("; "));
        Ok(())
    }
}

impl<'a> Operation<'a> {
    /// Whether it takes a token.
    pub fn needs_token(&self) -> bool {
        self.node["security"].as_array().is_none_or(|security| !security.is_empty())
    }

    /// Its own name.
    pub fn id(&self) -> &'a str {
        self.node["operationId"].as_str().unwrap_or_default()
    }

    /// Every status with its answer.
    pub fn responses(&self) -> BTreeMap<u16, &'a Value> {
        let responses = self.node["responses"].as_object().into_iter().flatten();
        responses
            .filter_map(|(status, response)| Some((status.parse().ok()?, self.document.resolved(response))))
            .collect()
    }

    /// Every kind of answer that it tells of.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let mut kinds = BTreeSet::new();
        for (status, response) in self.responses() {
            let kind =
                |media: &str, code: &str| (self.route.clone(), status, media.to_owned(), code.to_owned());
            let content = response["content"].as_object();
            if content.is_none() {
                kinds.insert(kind("", ""));
            }
            for (media, content) in content.into_iter().flatten() {
                let codes = content["schema"]["properties"]["code"]["enum"].as_array();
                let codes = codes.into_iter().flatten().filter_map(Value::as_str);
                let before = kinds.len();
                kinds.extend(codes.map(|code| kind(media, code)));
                if kinds.len() == before {
                    kinds.insert(kind(media, ""));
                }
            }
        }
        kinds
    }

    /// Its parameters: those of the path, then its own.
    pub fn parameters(&self) -> Vec<&'a Value> {
        let lists = [&self.item["parameters"], &self.node["parameters"]];
        let all = lists.into_iter().filter_map(Value::as_array).flatten();
        all.map(|parameter| self.document.resolved(parameter)).collect()
    }

    /// The schema of its body; `None` when it takes none.
    pub fn body(&self) -> Option<&'a Value> {
        let content = &self.node["requestBody"]["content"]["application/json"];
        (!content.is_null()).then_some(content)
    }

    /// A request as its examples have it: path, headers, body.
    pub fn example(&self) -> (String, Vec<(String, String)>, Option<Value>) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (mut path, mut headers) = (self.path.clone(), Vec::new());
        for parameter in self.parameters() {
            let (name, example) = (text(&parameter["name"]), text(&parameter["example"]));
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{name}}}"), &example),
                Some("header") if parameter["required"] == true => headers.push((name, example)),
                _ => {}
            }
        }
        let examples = self.body().and_then(|content| content["examples"].as_object());
        let body = examples.and_then(|examples| examples.values().next());
        let body = body.map(|example| self.document.resolved(example)["value"].clone());
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        (path, headers, body)
    }

    /// Holds an answer against what is said of it, and tells of which kind it is.
    ///
    /// # Errors
    /// A status, header, member or value that is not described, and what is promised and not there.
    pub fn describes(&self, answer: &Answer) -> anyhow::Result<Kind> {
        let said = format!("{} {}", self.route, answer.status);
        let responses = self.responses();
        let response =
            responses.get(&answer.status).with_context(|| format!("{said} is not described: {answer:?}"))?;
        self.headers(response, answer).with_context(|| said.clone())?;
        let media = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
        let is_ours = media == "application/problem+json";
        match response["content"].get(&media) {
            Some(content) => self.document.fits(&content["schema"], &answer.body).context(said)?,
            None => ensure!(
                response["content"].is_null() && answer.body.is_null(),
                "{said}: the type {media:?} is not described: {answer:?}"
            ),
        }
        let code = if is_ours { answer.text("code") } else { "" };
        Ok((self.route.clone(), answer.status, media, code.to_owned()))
    }

    fn headers(&self, response: &Value, answer: &Answer) -> anyhow::Result<()> {
        let described = response["headers"].as_object();
        let described: BTreeMap<_, _> = described
            .into_iter()
            .flatten()
            .map(|(name, header)| (name.to_lowercase(), self.document.resolved(header)))
            .collect();
        let told = answer.headers.keys().map(String::as_str).filter(|name| !NOT_TOLD.contains(name));
        for name in told {
            ensure!(described.contains_key(name), "the header {name} is not described: {answer:?}");
        }
        for (name, header) in described {
            let Some(text) = answer.headers.get(&name) else {
                ensure!(header["required"] != true, "the header {name} is not there: {answer:?}");
                continue;
            };
            let is_number = header["schema"]["type"] == "integer";
            let value = if is_number { serde_json::from_str(text)? } else { json!(text) };
            self.document.fits(&header["schema"], &value).with_context(|| name.clone())?;
        }
        Ok(())
    }
}

/// Lets no object of a schema have members that are not named.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(close),
        Value::Object(members) => {
            members.iter_mut().filter(|(name, _)| !is_data(name)).for_each(|(_, schema)| close(schema));
            if names_members(members) {
                members.insert("unevaluatedProperties".to_owned(), json!(false));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_data(name: &str) -> bool {
    ["examples", "example", "enum", "const", "default"].contains(&name)
}

/// Of a member that is itself called `properties` there is none in this contract.
fn names_members(schema: &Map<String, Value>) -> bool {
    schema.get("properties").is_some_and(Value::is_object) && !schema.contains_key("additionalProperties")
}
