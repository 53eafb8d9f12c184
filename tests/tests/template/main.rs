//! What `infra/template.yaml` must say, and that these checks notice when it no longer does.
//!
//! The checks are functions of the parsed template that return faults, so that they can be tried on damaged copies: each line is deleted alone,
//! each limit is weakened alone, and every such copy must be found faulty.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod damage;
mod deployment;
mod functions;
mod permissions;
mod stores;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use darkroom_template::{Function, Names, Stack, Template};
use serde_json::Value;

/// The workspace's folder.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn template() -> Template {
    Template::parse(&read("infra/template.yaml")).unwrap()
}

fn names() -> Names {
    let parameters = [("JwtIssuer", "https://issuer.example"), ("JwtAudience", "app")];
    Names {
        stack: "dark".into(),
        region: "eu-central-1".into(),
        account: "123456789012".into(),
        partition: "aws".into(),
        queue_url_prefix: "https://sqs.eu-central-1.amazonaws.com".into(),
        api_url: "https://api.example".into(),
        parameters: parameters.map(|(name, value)| (name.into(), value.into())).into(),
    }
}

/// A template as its checks see it: the tree as written, and what it resolves to.
struct View<'a> {
    tree: &'a Value,
    stack: &'a Stack,
}

impl View<'_> {
    /// What stands at a JSON pointer below `/Resources`; null when nothing does.
    fn written(&self, pointer: &str) -> &Value {
        self.tree.pointer(&format!("/Resources/{pointer}")).unwrap_or(&Value::Null)
    }

    fn function(&self, binary: &str) -> Option<&Function> {
        self.stack.functions.iter().find(|function| function.binary == binary)
    }
}

/// What is wrong with a template.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn require(&mut self, holds: bool, what: &str) {
        if !holds {
            self.0.push(what.to_owned());
        }
    }

    fn same<T: PartialEq + Debug>(&mut self, what: &str, found: &T, wanted: &T) {
        self.require(found == wanted, &format!("{what}: {found:?} instead of {wanted:?}"));
    }
}

/// Everything that is wrong with a template.
fn faults(template: &Template) -> Vec<String> {
    let stack = match template.stack(&names()) {
        Ok(stack) => stack,
        Err(error) => return vec![error.to_string()],
    };
    let view = View { tree: template.tree(), stack: &stack };
    let mut faults = Faults::default();
    for check in [stores::check, functions::check, permissions::check, deployment::check] {
        check(&view, &mut faults);
    }
    faults.0
}

#[test]
fn the_template_is_sound() {
    assert_eq!(faults(&template()), [""; 0]);
}
