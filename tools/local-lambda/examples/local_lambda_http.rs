//! A function on `lambda_http` that answers with what it understood of its request, or as the request's headers
//! tell it to: a subject of this crate's tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use lambda_http::{Body, Error, Request, RequestExt as _, Response, run, service_fn};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(answer)).await
}

async fn answer(request: Request) -> Result<Response<Body>, Error> {
    if let Some(status) = request.headers().get("x-status") {
        let status: u16 = status.to_str()?.parse()?;
        let response = Response::builder()
            .status(status)
            .header("set-cookie", "a=1; Path=/")
            .header("set-cookie", "b=2")
            .header("x-list", "one")
            .header("connection", "close, x-private")
            .header("x-private", "1")
            .header("content-type", "application/octet-stream");
        return Ok(response.body(Body::Binary(vec![0, 159, 146, 150]))?);
    }
    let headers: BTreeMap<_, _> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let mut query: Vec<_> = request.query_string_parameters().iter().map(own).collect();
    query.sort();
    let (kind, body) = match request.body() {
        Body::Text(text) => ("text", text.clone()),
        Body::Binary(bytes) => ("binary", format!("{bytes:?}")),
        _ => ("empty", String::new()),
    };
    let seen = json!({
        "method": request.method().as_str(),
        "uri": request.uri().to_string(),
        "raw_path": request.raw_http_path(),
        "path": request.path_parameters().iter().collect::<BTreeMap<_, _>>(),
        "query": query,
        "headers": headers,
        "context": request.request_context(),
        "body_kind": kind,
        "body": body,
    });
    Ok(Response::builder().header("content-type", "application/json").body(seen.to_string().into())?)
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
