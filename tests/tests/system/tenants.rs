//! Never another's data (I13): each route of the template against its owner, another user, a newcomer, nobody, and whoever
//! bends a token, a claim, a header, a query or a body.
//!
//! [`rows::ROWS`] has one row per route; a route without one fails [`every_route_has_a_row`]. What is the owner's is
//! marked with words that occur nowhere else ([`house::House::marks`]), so that every answer can be searched for it,
//! whatever its form, and the tables are compared before and after.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forged;
mod house;
mod named;
mod rows;

use std::collections::BTreeSet;

use darkroom_tests::stores::stack;
use serde_json::json;

use self::house::{House, KEY, NEWCOMER, OTHER, OWNER, alike, order};
use self::rows::{Asked, ROWS, Shows};

#[test]
fn every_route_has_a_row() {
    let functions = stack("tenants", "http://127.0.0.1").unwrap().functions;
    let routes: BTreeSet<_> = functions
        .iter()
        .flat_map(|function| {
            function.routes.iter().map(|route| (route.key.clone(), function.binary.clone(), route.auth))
        })
        .collect();
    let rows: BTreeSet<_> = ROWS
        .iter()
        .map(|row| (row.route.to_owned(), row.function.to_owned(), row.shows != Shows::Everybody))
        .collect();
    assert_eq!(routes, rows, "each route needs a row that says whose data it shows");
}

/// What the authorizer must not take for a token of the owner.
const NO_TOKENS: [&str; 12] = [
    "",
    "Bearer",
    "Bearer ",
    "alice",
    "Basic alice",
    "Bearer\talice",
    "Bearer  alice",
    "Bearer alice alice",
    "Bearer alice,bob",
    "Bearer alice;",
    "Bearer alice.",
    "Bearer ../alice",
];

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_or_changes_what_is_anothers() -> anyhow::Result<()> {
    let house = House::start().await?;
    let before = house.stored().await?;
    for row in &ROWS {
        for path in house.paths(row) {
            let asked = row.asked(&path);
            let other = house.ask_as(&asked, OTHER).await?;
            let newcomer = house.ask_as(&asked, NEWCOMER).await?;
            for answer in [&other, &newcomer] {
                house.shows_nothing_of_the_owner(answer, &asked);
            }
            house
                .is_closed_to_nobody(&asked, (row.shows == Shows::Everybody).then_some(other.status))
                .await?;
            match row.shows {
                Shows::OneJob | Shows::OneExport | Shows::Nothing => {
                    let absent = house.ask_as(&row.asked(&house.absent_path(row)), OTHER).await?;
                    assert_eq!((absent.status, absent.text("code")), (404, "not_found"), "{asked:?}");
                    assert!(alike(&other, &absent), "{asked:?}: {other:?} is not {absent:?}");
                }
                Shows::CallersOwn => {
                    let stranger = house.ask_as(&asked, "nobody-ever-heard-of").await?;
                    assert!(alike(&newcomer, &stranger), "{asked:?}: {newcomer:?} is not {stranger:?}");
                }
                Shows::SignedIn => {
                    let owner = house.ask_as(&asked, OWNER).await?;
                    assert!(alike(&other, &owner), "{asked:?}: {other:?} is not {owner:?}");
                }
                Shows::Fresh => {
                    assert_eq!(other.status, 201, "{asked:?}: {other:?}");
                    assert_ne!(other.text("ticket"), newcomer.text("ticket"), "{asked:?}");
                }
                Shows::Made => {
                    assert_eq!(
                        newcomer.text("code"),
                        "insufficient_tokens",
                        "the owner's tokens pay for nobody"
                    );
                    assert!(alike(&other, &newcomer), "{other:?} is not {newcomer:?}");
                }
                Shows::MadeFree => {
                    assert_eq!((other.status, newcomer.status), (202, 202), "{asked:?}: {other:?}");
                    let ids: BTreeSet<_> = [other.text("id"), newcomer.text("id"), &house.export].into();
                    assert_eq!(ids.len(), 3, "one for each: {ids:?}");
                }
                Shows::NewPlace => {
                    let stranger = house.ask_as(&asked, "nobody-ever-heard-of").await?;
                    assert_eq!(other.status, 201, "{}", other.body);
                    assert!(alike(&other, &newcomer) && alike(&newcomer, &stranger), "{other:?}");
                    let folders: BTreeSet<_> =
                        [&other, &newcomer, &stranger].map(|answer| folder(answer.text("url"))).into();
                    assert_eq!(folders.len(), 3, "one for each: {folders:?}");
                }
                Shows::Everybody => {}
            }
            assert_eq!(house.stored().await?, before, "{asked:?} changed what is stored");
        }
    }
    the_owner_sees_all_of_it(&house).await?;
    house.finish().await
}

impl House {
    /// Asks without a token, and with what is none: 401, or this status where nobody need sign in.
    async fn is_closed_to_nobody(&self, asked: &Asked, open: Option<u16>) -> anyhow::Result<()> {
        for token in NO_TOKENS.iter().copied().map(Some).chain([None]) {
            let answer = self.ask(asked, token).await?;
            self.shows_nothing_of_the_owner(&answer, asked);
            assert_eq!(answer.status, open.unwrap_or(401), "{token:?} {asked:?}: {}", answer.body);
            if open.is_none() {
                assert_eq!(answer.body, json!({"message": "Unauthorized"}), "{token:?} {asked:?}");
            }
        }
        Ok(())
    }
}

/// The same requests, as the owner: otherwise nothing above could fail.
async fn the_owner_sees_all_of_it(house: &House) -> anyhow::Result<()> {
    for row in
        ROWS.iter().filter(|row| matches!(row.shows, Shows::OneJob | Shows::OneExport | Shows::CallersOwn))
    {
        let answer = house.ask_as(&row.asked(&house.owners_path(row)), OWNER).await?;
        house.is_the_owners(row, &answer);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_two_users_do_not_meet() -> anyhow::Result<()> {
    let house = House::start().await?;
    let app = &house.stack.app;
    let alices = app.get(OWNER, &format!("/v1/jobs/{}", house.draft)).await?.body;
    // The same key: with the owner's very request, and with one that the owner's key would refuse.
    house.stack.grant("dave", 1).await?;
    house.stack.grant("erin", 1).await?;
    let mut ids = BTreeSet::from([house.draft.clone(), house.live.clone()]);
    for (user, body) in [("dave", order()), ("erin", json!({"prompt": "a bridge"}))] {
        let made = app.submit(user, KEY, &body).await?;
        assert_eq!((made.status, made.header("idempotent-replayed")), (202, ""), "{user}: {}", made.body);
        assert!(ids.insert(made.text("id").to_owned()), "{user} was given another's job");
        let again = app.submit(user, KEY, &body).await?;
        assert_eq!((again.text("id"), again.header("idempotent-replayed")), (made.text("id"), "true"));
    }
    let after = app.get(OWNER, &format!("/v1/jobs/{}", house.draft)).await?.body;
    assert_eq!(without_link(after), without_link(alices));
    house.finish().await
}

/// The owner's folder in a link to put an upload.
fn folder(url: &str) -> String {
    let path = url.split('?').next().unwrap_or_default();
    path.rsplit('/').nth(2).unwrap_or_default().to_owned()
}

/// A link is signed anew each time it is asked for.
fn without_link(mut job: serde_json::Value) -> serde_json::Value {
    job["image_url"].take();
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_seen_through_its_link_alone() -> anyhow::Result<()> {
    let house = House::start().await?;
    let job = house.stack.app.get(OWNER, &format!("/v1/jobs/{}", house.draft)).await?.body;
    let link = job["image_url"].as_str().unwrap();
    house.stack.app.download(link).await?;
    let (object, query) = link.split_once('?').unwrap();
    assert!(query.rsplit('&').next().unwrap().starts_with("X-Amz-Signature="), "{query}");
    let other_object = object.replace(&house.draft, &house.live);
    for link in [
        object.to_owned(),
        format!("{other_object}?{query}"),
        link.replace("X-Amz-Expires=900", "X-Amz-Expires=90000"),
        format!("{}{}", &link[..link.len() - 1], if link.ends_with('0') { '1' } else { '0' }),
    ] {
        let refused = house.stack.app.download(&link).await.expect_err(&link).to_string();
        assert!(refused.starts_with("403"), "{refused}");
    }
    house.finish().await
}
