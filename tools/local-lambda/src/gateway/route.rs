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

/// One segment of a route's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Variable(String),
    Greedy(String),
}

/// What a route is found by.
#[derive(Debug, Clone)]
struct Key {
    text: String,
    /// `None` is `ANY`.
    method: Option<Method>,
    /// `None` is `$default`.
    path: Option<Vec<Segment>>,
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
    key: Key,
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
        Ok(Self { key: Key::parse(key)?, function, access: Access::Anyone })
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
        &self.key.text
    }
}

/// All routes, in order of preference.
pub(crate) struct Routes(Vec<Route>);

impl Routes {
    /// Refuses two routes that fit the same requests, as API Gateway does.
    pub(crate) fn new(mut routes: Vec<Route>) -> Result<Self, SettingsError> {
        routes.sort_by_cached_key(|route| route.key.rank());
        let twice = routes.iter().enumerate().find(|(number, route)| {
            routes.iter().skip(number + 1).any(|other| other.key.fits_the_same(&route.key))
        });
        match twice {
            Some((_, route)) => Err(route.key.wrong("another route fits the same requests")),
            None => Ok(Self(routes)),
        }
    }

    /// The route for a decoded path, and its variables.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<(&Route, BTreeMap<String, String>)> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        self.0.iter().find_map(|route| Some((route, route.key.matches(method, &segments)?)))
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, SettingsError> {
        let mut key = Self { text: text.to_owned(), method: None, path: None };
        if text != "$default" {
            let Some((method, path)) = text.split_once(' ') else {
                return Err(key.wrong("write METHOD, a space and a path"));
            };
            key.method = parse_method(method).map_err(|reason| key.wrong(reason))?;
            key.path = Some(parse_path(path).map_err(|reason| key.wrong(reason))?);
        }
        Ok(key)
    }

    fn wrong(&self, reason: &'static str) -> SettingsError {
        SettingsError::Route { key: self.text.clone(), reason }
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
        let kinds: Vec<u8> = self.path.iter().flatten().map(kind).collect();
        let greedy = kinds.last() == Some(&GREEDY);
        // Of two greedy routes the longer one is the closer match.
        let length = Reverse(if greedy { kinds.len() } else { 0 });
        (default, greedy, length, kinds, self.method.is_none())
    }

    fn fits_the_same(&self, other: &Self) -> bool {
        let shape = |key: &Self| {
            let literal = |segment: &Segment| match segment {
                Segment::Literal(text) => (kind(segment), text.clone()),
                Segment::Variable(_) | Segment::Greedy(_) => (kind(segment), String::new()),
            };
            key.path.as_ref().map(|path| path.iter().map(literal).collect::<Vec<_>>())
        };
        self.method == other.method && shape(self) == shape(other)
    }
}

const GREEDY: u8 = 2;

fn kind(segment: &Segment) -> u8 {
    match segment {
        Segment::Literal(_) => 0,
        Segment::Variable(_) => 1,
        Segment::Greedy(_) => GREEDY,
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// The key of the preferred route that fits, and its variables.
    fn chosen(keys: &[&str], method: &str, path: &str) -> Option<(String, String)> {
        let mut keys: Vec<Key> = keys.iter().map(|key| Key::parse(key).unwrap()).collect();
        keys.sort_by_cached_key(Key::rank);
        let segments: Vec<&str> = path.strip_prefix('/').unwrap().split('/').collect();
        let method = method.parse().unwrap();
        keys.iter().find_map(|key| {
            let variables = key.matches(&method, &segments)?;
            let variables: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Some((key.text.clone(), variables.join(" ")))
        })
    }

    #[test]
    fn the_closest_route_is_chosen_whatever_the_order_they_are_given_in() {
        let mut keys = [
            "$default",
            "ANY /{proxy+}",
            "ANY /a/{proxy+}",
            "GET /a/{proxy+}",
            "ANY /a/{id}",
            "GET /a/{id}",
            "GET /a/b",
            "ANY /a/b",
            "GET /{x}/b",
            "GET /",
        ];
        for _ in 0..keys.len() {
            keys.rotate_left(1);
            let cases = [
                ("GET", "/a/b", "GET /a/b", ""),
                ("POST", "/a/b", "ANY /a/b", ""),
                ("GET", "/a/c", "GET /a/{id}", "id=c"),
                ("PUT", "/a/c", "ANY /a/{id}", "id=c"),
                ("GET", "/a/c/d", "GET /a/{proxy+}", "proxy=c/d"),
                ("PUT", "/a/c/d", "ANY /a/{proxy+}", "proxy=c/d"),
                ("GET", "/z/b", "GET /{x}/b", "x=z"),
                ("GET", "/z/c/d", "ANY /{proxy+}", "proxy=z/c/d"),
                ("PUT", "/z/b", "ANY /{proxy+}", "proxy=z/b"),
                ("GET", "/", "GET /", ""),
                ("PUT", "/", "$default", ""),
            ];
            for (method, path, key, variables) in cases {
                let expected = Some((key.to_owned(), variables.to_owned()));
                assert_eq!(chosen(&keys, method, path), expected, "{method} {path}");
            }
        }
    }

    #[test]
    fn a_variable_is_one_segment_that_is_not_empty() {
        let keys = ["GET /v1/jobs/{id}", "GET /v1/jobs/{id}/metadata"];
        for path in
            ["/v1/jobs", "/v1/jobs/", "/v1/jobs//metadata", "/v1/jobs/a/", "/v1/jobs/a/b", "/v1/jobs/a/b/c"]
        {
            assert_eq!(chosen(&keys, "GET", path), None, "{path}");
        }
        assert_eq!(chosen(&keys, "HEAD", "/v1/jobs/a"), None);
    }

    #[test]
    fn keys_that_fit_the_same_requests_are_recognized() {
        let same = |one, other| Key::parse(one).unwrap().fits_the_same(&Key::parse(other).unwrap());
        assert!(same("GET /a/{x}", "GET /a/{y}"));
        assert!(same("$default", "$default"));
        assert!(!same("GET /a/{x}", "ANY /a/{x}"));
        assert!(!same("GET /a/{x}", "GET /b/{x}"));
        assert!(!same("GET /a/{x}", "GET /a/{x+}"));
        assert!(!same("GET /a", "GET /a/b"));
    }
}
