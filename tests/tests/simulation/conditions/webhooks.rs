//! Endpoints are written as they were seen, a change makes one delivery, and of two calls for one try the first is noted.

use std::time::Duration;

use anyhow::ensure;
use darkroom_aws::{Changed, Noted};
use darkroom_core::error_code::Language;
use darkroom_core::id::{DeliveryId, IdempotencyKey, JobId, Ticket, UserId, WebhookId};
use darkroom_core::limits::WEBHOOK_LOOK;
use darkroom_core::time::Timestamp;
use darkroom_core::webhook::{EventKind, Reach};
use darkroom_core::webhook_delivery::{CallResult, Delivery, LastTry, Standing};
use darkroom_core::webhook_endpoint::{Endpoint, Endpoints, WebhookRequest};
use darkroom_tests::sim::Writes;
use serde_json::json;

use super::Case;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("endpoints", a_user_s_endpoints_are_written_as_they_were_seen),
        Case::new("delivery", a_change_that_is_read_twice_makes_one_delivery),
        Case::new("noted", of_two_calls_for_one_try_the_first_is_noted),
        Case::new("woken", what_is_due_is_woken_by_one),
    ]
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn endpoint(number: u8) -> Endpoint {
    let request = WebhookRequest::parse(&json!({"url": "https://app.example.com/"}), Reach::Public).unwrap();
    Endpoint::new(WebhookId::from_random([number; 16]), &request, Language::Tr, "sealed".to_owned(), NOW)
}

fn delivery(of: &str, body: &str) -> Delivery {
    let (user, endpoint) = (user(of), endpoint(1).id);
    let job = JobId::derive(&user, &IdempotencyKey::parse("k").unwrap());
    let id = DeliveryId::derive(&endpoint, &Ticket::new(NOW, &job), 3, NOW);
    Delivery::new(id, (user, endpoint), (EventKind::JobDraft, job), body.to_owned(), NOW)
}

fn called(seen: &Delivery, status: u16) -> Delivery {
    let result = CallResult::answered(status, b"");
    seen.after(LastTry { at: at(1), ended_at: at(2), result }, 0.0)
}

async fn stored(writes: &Writes, like: &Delivery) -> anyhow::Result<Option<Delivery>> {
    Ok(writes.webhooks.delivery(&like.user, &like.endpoint, &like.id, NOW).await?)
}

async fn a_user_s_endpoints_are_written_as_they_were_seen(writes: Writes) -> anyhow::Result<()> {
    let (webhooks, alice) = (&writes.webhooks, user("alice"));
    let none = Endpoints::default();
    let with = |number: u8| move |seen: &Endpoints| seen.with(endpoint(number));
    let first = webhooks.change(&alice, none.clone(), with(1)).await?;
    ensure!(matches!(&first, Changed::Applied(now) if now.list.len() == 1), "{first:?}");
    let one = webhooks.endpoints_of(&alice).await?;
    // Others that have seen none, and one: nobody's is lost.
    webhooks.change(&alice, none, with(2)).await?;
    webhooks.change(&alice, one.clone(), with(3)).await?;
    let ids = |endpoints: &Endpoints| -> Vec<_> {
        endpoints.list.iter().map(|endpoint| endpoint.id.clone()).collect()
    };
    let all = webhooks.endpoints_of(&alice).await?;
    ensure!(ids(&all) == [1, 2, 3].map(|number| endpoint(number).id), "{all:?}");
    let gone = webhooks.change(&alice, one, |seen| seen.without(&endpoint(1).id)).await?;
    ensure!(matches!(&gone, Changed::Applied(now) if now.list.len() == 2), "{gone:?}");
    let again = webhooks.change(&alice, all, |seen| seen.without(&endpoint(1).id)).await?;
    ensure!(matches!(&again, Changed::Not(now) if now.list.len() == 2), "{again:?}");
    webhooks.change(&user("bob"), Endpoints::default(), with(9)).await?;
    let both = webhooks.endpoints(&[user("bob"), user("alice"), user("carol"), user("bob")]).await?;
    ensure!(both.len() == 2 && both[&user("bob")].list.len() == 1, "{both:?}");
    Ok(())
}

async fn a_change_that_is_read_twice_makes_one_delivery(writes: Writes) -> anyhow::Result<()> {
    let first = delivery("alice", "{\"first\":true}");
    ensure!(stored(&writes, &first).await?.is_none(), "before it is put");
    ensure!(writes.webhooks.put(&first).await?, "the first");
    let noted = called(&first, 500);
    ensure!(writes.webhooks.note(&first, &noted).await? == Noted::Applied, "its call");
    ensure!(!writes.webhooks.put(&delivery("alice", "{\"second\":true}")).await?, "the same again");
    ensure!(stored(&writes, &first).await?.as_ref() == Some(&noted), "it is what it was");
    ensure!(writes.webhooks.put(&delivery("bob", "{}")).await?, "another's");
    Ok(())
}

async fn of_two_calls_for_one_try_the_first_is_noted(writes: Writes) -> anyhow::Result<()> {
    let (webhooks, seen) = (&writes.webhooks, delivery("alice", "{}"));
    ensure!(webhooks.note(&seen, &called(&seen, 200)).await? == Noted::Absent, "what is not there");
    ensure!(stored(&writes, &seen).await?.is_none(), "is not made by a note");
    webhooks.put(&seen).await?;
    let arrived = called(&seen, 200);
    ensure!(webhooks.note(&seen, &arrived).await? == Noted::Applied, "the first");
    let second = webhooks.note(&seen, &called(&seen, 500)).await?;
    ensure!(second == Noted::Overtaken(Box::new(arrived.clone())), "{second:?}");
    ensure!(stored(&writes, &seen).await?.as_ref() == Some(&arrived), "it has arrived");
    ensure!(webhooks.due(at(100_000)).await?.is_empty(), "and is due no more");
    // Sent again, as it was seen: its time is in the index again.
    let again = arrived.sent_again(at(50));
    ensure!(webhooks.note(&arrived, &again).await? == Noted::Applied, "sent again");
    ensure!(webhooks.due(at(50)).await?.len() == 1, "due at once");
    let page = webhooks.deliveries(&seen.user, &seen.endpoint, None, 10, NOW).await?;
    ensure!(page.deliveries == [again.clone()] && page.next.is_none(), "{page:?}");
    let page = webhooks.deliveries(&seen.user, &seen.endpoint, None, 10, again.expires_at).await?;
    ensure!(page.deliveries.is_empty(), "forgotten");
    Ok(())
}

async fn what_is_due_is_woken_by_one(writes: Writes) -> anyhow::Result<()> {
    let (webhooks, put) = (&writes.webhooks, delivery("alice", "{}"));
    webhooks.put(&put).await?;
    let due_at = NOW.plus(WEBHOOK_LOOK);
    ensure!(webhooks.due(due_at.minus(Duration::from_millis(1))).await?.is_empty(), "not yet");
    let due = webhooks.due(due_at).await?;
    let [one] = due.as_slice() else { anyhow::bail!("{due:?}") };
    ensure!(one.message == put.message(), "{one:?}");
    ensure!(webhooks.mark(one, at(1_000)).await?, "the first");
    ensure!(!webhooks.mark(one, at(2_000)).await?, "another that has seen the same");
    let marked = stored(&writes, &put).await?;
    let standing = marked.as_ref().map(|delivery| delivery.standing);
    ensure!(standing == Some(Standing::Due(at(1_000))), "{marked:?}");
    ensure!(marked.is_some_and(|delivery| delivery.is_called_for(&one.message)), "it is still called for");
    // A call's note moves its time, too: what a sweeper saw before is no more.
    webhooks.note(&put, &called(&put, 500)).await?;
    ensure!(!webhooks.mark(one, at(3_000)).await?, "after its call");
    Ok(())
}
