//! Events as no authorizer should make them, given to the functions' processes as Lambda does: past the gateway.
//!
//! Only `requestContext.authorizer.jwt.claims.sub`, a text that is a user's name, makes a caller. Everything else is
//! nobody, or a user of another name who has nothing.

use bytes::Bytes;
use darkroom_local_lambda::InvokeError;
use darkroom_tests::stack::Answer;
use serde_json::{Value, json};

use super::house::{House, NEWCOMER, OWNER, alike};
use super::rows::{Asked, ROWS, Row, Shows};

/// Whom a shape makes of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// Nobody: 401.
    Nobody,
    /// A user who has nothing.
    Newcomer,
    /// The event cannot be read: the invocation fails, and the gateway says 500.
    Unreadable,
}

/// The `authorizer` of a request's context, as text because a member may stand twice in it; `None` leaves it out.
struct Shape {
    authorizer: Option<String>,
    taken: Taken,
}

fn shape(taken: Taken, authorizer: &Value) -> Shape {
    Shape { authorizer: Some(authorizer.to_string()), taken }
}

fn claims(taken: Taken, claims: &Value) -> Shape {
    shape(taken, &json!({"jwt": {"claims": claims, "scopes": null}}))
}

fn sub(taken: Taken, sub: impl Into<Value>) -> Shape {
    claims(taken, &json!({"sub": sub.into()}))
}

/// Where there is no JWT, or none with a `sub`.
fn without_a_subject() -> Vec<Shape> {
    let nobody = |authorizer: Value| shape(Taken::Nobody, &authorizer);
    let iam = json!({"accessKey": "AKIA", "accountId": "000000000000", "callerId": OWNER, "userId": OWNER,
                     "userArn": format!("arn:aws:iam::000000000000:user/{OWNER}")});
    vec![
        Shape { authorizer: None, taken: Taken::Nobody },
        nobody(Value::Null),
        nobody(json!({})),
        nobody(json!({"jwt": null})),
        nobody(json!({"jwt": {}})),
        nobody(json!({"jwt": {"scopes": [OWNER]}})),
        nobody(json!({"jwt": {"claims": null}})),
        nobody(json!({"jwt": {"claims": {}}})),
        nobody(json!({"jwt": {"sub": OWNER}})),
        nobody(json!({"sub": OWNER, "principalId": OWNER})),
        // A REST API's form.
        nobody(json!({"claims": {"sub": OWNER}})),
        // Other authorizers than the JWT's, also when they speak of one.
        nobody(json!({"lambda": {"sub": OWNER}})),
        nobody(json!({"lambda": {"jwt": {"claims": {"sub": OWNER}}, "claims": {"sub": OWNER}}})),
        nobody(json!({"iam": iam})),
        nobody(json!({"lambda": {"sub": OWNER}, "iam": iam, "jwt": {"claims": {"iss": OWNER}}})),
        // Names that other systems use.
        claims(
            Taken::Nobody,
            &json!({"username": OWNER, "cognito:username": OWNER, "email": OWNER,
                                      "client_id": OWNER, "user_id": OWNER, "uid": OWNER, "oid": OWNER}),
        ),
        claims(
            Taken::Nobody,
            &json!({"SUB": OWNER, "Sub": OWNER, " sub": OWNER, "sub ": OWNER, "subject": OWNER}),
        ),
    ]
}

/// Where the `sub` is not the owner's name.
fn with_another_subject() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for text in
        ["", " ", "alice ", " alice", "alice\n", "\talice", "al ice", "alice\0", "alicé", "а\u{200b}lice"]
    {
        shapes.push(sub(Taken::Nobody, text));
    }
    // Look alike: a Cyrillic letter, full width.
    shapes.extend(["аlice", "ａｌｉｃｅ"].map(|text| sub(Taken::Nobody, text)));
    shapes.push(sub(Taken::Nobody, "a".repeat(256)));
    shapes.push(sub(Taken::Nobody, format!("alice{}", "a".repeat(100_000))));
    // A list, as API Gateway writes it into a claim.
    shapes.push(sub(Taken::Nobody, "[alice bob]"));
    // Names like any others, whatever they resemble.
    for text in [
        "Alice",
        "ALICE",
        "[alice]",
        "alice#",
        "alice#BAL",
        "\"alice\"",
        "alice,bob",
        "alice/../bob",
        "*",
        "null",
    ] {
        shapes.push(sub(Taken::Newcomer, text));
    }
    shapes.push(sub(Taken::Newcomer, "a".repeat(255)));
    for value in [json!(7), json!(true), Value::Null, json!([OWNER]), json!({"sub": OWNER})] {
        shapes.push(sub(Taken::Unreadable, value));
    }
    shapes.push(shape(Taken::Unreadable, &json!({"jwt": {"claims": [["sub", OWNER]]}})));
    shapes.push(shape(Taken::Unreadable, &json!({"jwt": OWNER})));
    shapes.push(shape(Taken::Unreadable, &json!(OWNER)));
    shapes
}

/// Where there are two.
fn with_two_subjects() -> Vec<Shape> {
    let twice = format!(r#"{{"jwt": {{"claims": {{"sub": "{OWNER}", "sub": "{NEWCOMER}"}}}}}}"#);
    vec![
        // The last of two members of one name is the claim, as JSON readers have it.
        Shape { authorizer: Some(twice), taken: Taken::Newcomer },
        shape(
            Taken::Newcomer,
            &json!({"jwt": {"claims": {"sub": NEWCOMER, "username": OWNER}}, "lambda": {"sub": OWNER},
                    "claims": {"sub": OWNER}, "principalId": OWNER}),
        ),
    ]
}

/// An invocation's answer as HTTP, or why there is none.
async fn invoke(
    house: &House,
    row: &Row,
    asked: &Asked,
    authorizer: Option<&str>,
) -> Result<Answer, InvokeError> {
    let headers: serde_json::Map<_, _> =
        asked.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let mut event = json!({
        "version": "2.0",
        "routeKey": row.route,
        "rawPath": asked.path,
        "rawQueryString": asked.query,
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": "127.0.0.1",
            "http": {"method": asked.method, "path": asked.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "request",
            "routeKey": row.route,
            "stage": "$default",
            "timeEpoch": 0,
        },
        "body": asked.body.as_ref().map(Value::to_string),
        "isBase64Encoded": false,
    });
    if authorizer.is_some() {
        event["requestContext"]["authorizer"] = json!("AUTHORIZER");
    }
    let event = event.to_string().replace("\"AUTHORIZER\"", authorizer.unwrap_or_default());
    let function = house.stack.system.function(row.function).unwrap();
    let answer: Value = serde_json::from_slice(&function.invoke(Bytes::from(event)).await?).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Answer {
        status: u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap(),
        headers: ["headers", "multiValueHeaders"]
            .iter()
            .filter_map(|part| answer[part].as_object())
            .flatten()
            .map(|(name, value)| (name.to_lowercase(), text(value)))
            .collect(),
        body: serde_json::from_str(&text(&answer["body"])).unwrap_or_default(),
    })
}

fn named(user: &str) -> String {
    json!({"jwt": {"claims": {"sub": user}, "scopes": null}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_shape_of_claims_makes_the_owner_of_a_caller() -> anyhow::Result<()> {
    let house = House::start().await?;
    let shapes: Vec<_> =
        [without_a_subject(), with_another_subject(), with_two_subjects()].into_iter().flatten().collect();
    let before = house.stored().await?;
    for row in &ROWS {
        for path in house.paths(row) {
            let asked = row.asked(&path);
            let newcomer = invoke(&house, row, &asked, Some(&named(NEWCOMER))).await?;
            for shape in &shapes {
                let said = format!("{} {:.120}", row.route, shape.authorizer.as_deref().unwrap_or("none"));
                let answer = match invoke(&house, row, &asked, shape.authorizer.as_deref()).await {
                    Ok(answer) => answer,
                    Err(InvokeError::Unhandled { .. }) if shape.taken == Taken::Unreadable => continue,
                    Err(error) => panic!("{said}: {error}"),
                };
                house.shows_nothing_of_the_owner(&answer, &asked);
                match (shape.taken, row.shows) {
                    (Taken::Unreadable, _) => panic!("{said}: it was read: {answer:?}"),
                    // What needs no caller asks for none.
                    (_, Shows::Everybody) => assert_eq!(answer.status, newcomer.status, "{said}: {answer:?}"),
                    (Taken::Newcomer, Shows::MadeFree) => {
                        assert_eq!(answer.status, 202, "{said}: {answer:?}");
                        assert_ne!(answer.text("id"), house.export, "{said}");
                    }
                    (Taken::Newcomer, _) | (Taken::Nobody, Shows::Nothing) => {
                        assert!(alike(&answer, &newcomer), "{said}: {answer:?} is not {newcomer:?}");
                    }
                    (Taken::Nobody, _) => {
                        assert_eq!((answer.status, answer.text("code")), (401, "unauthenticated"), "{said}");
                    }
                }
            }
        }
        assert_eq!(house.stored().await?, before, "{} changed what is stored", row.route);
    }
    the_owner_is_taken_for_the_owner(&house).await?;
    house.finish().await
}

/// The same way, with the owner's claims: otherwise nothing above could fail.
async fn the_owner_is_taken_for_the_owner(house: &House) -> anyhow::Result<()> {
    for row in
        ROWS.iter().filter(|row| matches!(row.shows, Shows::OneJob | Shows::OneExport | Shows::CallersOwn))
    {
        let asked = row.asked(&house.owners_path(row));
        let answer = invoke(house, row, &asked, Some(&named(OWNER))).await?;
        house.is_the_owners(row, &answer);
    }
    Ok(())
}
