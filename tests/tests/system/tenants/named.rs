//! The owner, named where a request can name somebody: it has no effect on whose data is shown.

use darkroom_tests::stack::Answer;
use serde_json::json;

use super::house::{House, NEWCOMER, OTHER, OWNER, alike};
use super::rows::{ROWS, Shows};

/// Headers by which proxies and frameworks tell who calls.
const HEADERS: [(&str, &str); 10] = [
    ("x-user", OWNER),
    ("x-user-id", OWNER),
    ("sub", OWNER),
    ("x-forwarded-user", OWNER),
    ("x-auth-request-user", OWNER),
    ("x-amzn-oidc-identity", OWNER),
    ("x-amzn-request-context", r#"{"authorizer":{"jwt":{"claims":{"sub":"alice"}}}}"#),
    ("x-http-method-override", "GET"),
    ("x-original-url", "/v1/account"),
    ("cookie", "sub=alice; user=alice"),
];

const QUERIES: [&str; 3] = ["user=alice", "sub=alice&user_id=alice", "owner=alice&limit=50"];

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_header_a_query_or_a_body_has_no_effect() -> anyhow::Result<()> {
    let house = House::start().await?;
    let before = house.stored().await?;
    for row in &ROWS {
        for path in house.paths(row) {
            let plain = row.asked(&path);
            let newcomer = house.ask_as(&plain, NEWCOMER).await?;
            for (name, value) in HEADERS {
                let asked = plain.clone().with_header(name, value);
                let answer = house.ask_as(&asked, NEWCOMER).await?;
                house.shows_nothing_of_the_owner(&answer, &asked);
                assert_eq!(answer.status, newcomer.status, "{asked:?}");
                let is_told_apart = row.shows != Shows::Everybody && !alike(&answer, &newcomer);
                assert!(!is_told_apart, "{asked:?}: {answer:?} is not {newcomer:?}");
                if row.shows != Shows::Everybody {
                    assert_eq!(house.ask(&asked, None).await?.status, 401, "{asked:?}");
                }
            }
            // A parameter that is not known is ignored or refused.
            let same_or_refused = |answer: &Answer| answer.status == newcomer.status || answer.status == 400;
            for query in QUERIES {
                let asked = plain.clone().with_query(query);
                let answer = house.ask_as(&asked, NEWCOMER).await?;
                house.shows_nothing_of_the_owner(&answer, &asked);
                assert!(same_or_refused(&answer), "{asked:?}: {answer:?}");
            }
            for members in [json!({"user": OWNER}), json!({"sub": OWNER, "claims": {"sub": OWNER}})] {
                let asked = plain.clone().with_members(&members);
                let answer = house.ask_as(&asked, NEWCOMER).await?;
                house.shows_nothing_of_the_owner(&answer, &asked);
                assert!(same_or_refused(&answer), "{asked:?}: {answer:?}");
            }
        }
        assert_eq!(house.stored().await?, before, "{} changed what is stored", row.route);
    }
    house.finish().await
}

/// A cursor says where a list goes on, never whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_the_owners_list_leads_into_no_other() -> anyhow::Result<()> {
    let house = House::start().await?;
    for row in ROWS.iter().filter(|row| ["GET /v1/jobs", "GET /v1/account/entries"].contains(&row.route)) {
        let first = row.asked(row.path).with_query("limit=1");
        let owners = house.ask_as(&first, OWNER).await?;
        let cursor = owners.body["next_cursor"].as_str().expect("the owner's list has a second page");
        let asked = row.asked(row.path).with_query(&format!("limit=1&cursor={cursor}"));
        let second = house.ask_as(&asked, OWNER).await?;
        assert!(!house.marks_in(&second).is_empty(), "{second:?}");
        let newcomer = house.ask_as(&asked, NEWCOMER).await?;
        assert!(alike(&newcomer, &house.ask_as(&row.asked(row.path), NEWCOMER).await?), "{newcomer:?}");
        house.shows_nothing_of_the_owner(&house.ask_as(&asked, OTHER).await?, &asked);
    }
    house.finish().await
}
