//! Which route a request takes.
//!
//! HTTP APIs choose in this order: a full match of method and path, a match with a greedy path variable
//! (`{proxy+}`), `$default`. A method that no route of the path names is not found, as an unknown path is.
//! Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html>.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::error::SettingsError;
use crate::function::Function;

/// One segment of a route's path. The order is the order of preference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Variable(String),
    Greedy(String),
}

/// Whom a route lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    Anyone,
    /// A caller with a token. The scopes are the route's; local tokens hold them all.
    Authorized {
        scopes: Vec<String>,
    },
}

/// One route of a [`Gateway`](crate::Gateway).
#[derive(Clone)]
pub struct Route {
    key: String,
    /// `None` is `ANY`.
    method: Option<Method>,
    /// `None` is `$default`.
    path: Option<Vec<Segment>>,
    pub(crate) function: Arc<Function>,
    pub(crate) access: Access,
}

impl Route {
    /// A route as the template writes it: `POST /v1/jobs`, `GET /v1/jobs/{id}`, `ANY /files/{proxy+}`, `$default`.
    /// It is open to anyone.
    ///
    /// # Errors
    /// [`SettingsError::Route`].
    pub fn new(key: &str, function: Arc<Function>) -> Result<Self, SettingsError> {
        let wrong = |reason| SettingsError::Route { key: key.to_owned(), reason };
        let (method, path) = if key == "$default" {
            (None, None)
        } else {
            let (method, path) = key.split_once(' ').ok_or_else(|| wrong("write METHOD, a space and a path"))?;
            (parse_method(method).map_err(wrong)?, Some(parse_path(path).map_err(wrong)?))
        };
        Ok(Self { key: key.to_owned(), method, path, function, access: Access::Anyone })
    }

    /// The same route for callers with a token only.
    #[must_use]
    pub fn authorized(mut self) -> Self {
        self.access = Access::Authorized { scopes: Vec::new() };
        self
    }

    /// The same route for callers with a token that holds one of these scopes.
    #[must_use]
    pub fn authorized_with<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.access = Access::Authorized { scopes: scopes.into_iter().map(Into::into).collect() };
        self
    }

    /// The route key as given.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Path variables when the route fits.
    fn matches(&self, method: &Method, path: &[&str]) -> Option<BTreeMap<String, String>> {
        if self.method.as_ref().is_some_and(|own| own != method) {
            return None;
        }
        let Some(pattern) = &self.path else { return Some(BTreeMap::new()) };
        let mut variables = BTreeMap::new();
        let mut rest = path;
        for segment in pattern {
            let (first, others) = rest.split_first()?;
            match segment {
                Segment::Literal(text) if text == first => {}
                Segment::Variable(name) if !first.is_empty() => {
                    variables.insert(name.clone(), (*first).to_owned());
                }
                Segment::Greedy(name) if !first.is_empty() => {
                    variables.insert(name.clone(), rest.join("/"));
                    return Some(variables);
                }
                _ => return None,
            }
            rest = others;
        }
        rest.is_empty().then_some(variables)
    }

    /// Smaller is preferred.
    fn rank(&self) -> impl Ord + use<> {
        let default = self.path.is_none();
        let greedy = matches!(self.path.as_deref(), Some([.., Segment::Greedy(_)]));
        let kinds: Vec<u8> = self.path.iter().flatten().map(kind).collect();
        // Of two greedy routes the longer one is the closer match.
        let length = if greedy { Reverse(kinds.len()) } else { Reverse(0) };
        (default, greedy, length, kinds, self.method.is_none())
    }
}

fn kind(segment: &Segment) -> u8 {
    match segment {
        Segment::Literal(_) => 0,
        Segment::Variable(_) => 1,
        Segment::Greedy(_) => 2,
    }
}

fn parse_method(text: &str) -> Result<Option<Method>, &'static str> {
    match text {
        "ANY" => Ok(None),
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => {
            text.parse().map(Some).map_err(|_| "no HTTP method")
        }
        _ => Err("the method is ANY, GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"),
    }
}

fn parse_path(text: &str) -> Result<Vec<Segment>, &'static str> {
    let path = text.strip_prefix('/').ok_or("the path begins with /")?;
    let segments: Vec<Segment> = path.split('/').map(parse_segment).collect::<Result<_, _>>()?;
    let greedy = segments.iter().position(|segment| matches!(segment, Segment::Greedy(_)));
    if greedy.is_some_and(|at| at + 1 < segments.len()) {
        return Err("only the last segment can be greedy");
    }
    Ok(segments)
}

fn parse_segment(text: &str) -> Result<Segment, &'static str> {
    let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return if text.contains(['{', '}', '?', '#', ':']) {
            Err("a segment is text, {name} or {name+}")
        } else {
            Ok(Segment::Literal(text.to_owned()))
        };
    };
    let (name, greedy) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err("a path variable has a name of A-Z a-z 0-9 - _ .");
    }
    let name = name.to_owned();
    Ok(if greedy { Segment::Greedy(name) } else { Segment::Variable(name) })
}

/// All routes, in order of preference.
pub(crate) struct Routes(Vec<Route>);

impl Routes {
    pub(crate) fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(Route::rank);
        Self(routes)
    }

    /// The route for a decoded path, and its variables.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<(&Route, BTreeMap<String, String>)> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        self.0.iter().find_map(|route| Some((route, route.matches(method, &segments)?)))
    }
}
