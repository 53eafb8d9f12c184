//! Tickets and connections: a ticket opens one, a user's connections are written as they were seen, and only who is there is
//! heard.

use std::time::Duration;

use anyhow::ensure;
use darkroom_aws::{Connected, Heard};
use darkroom_core::error_code::Language;
use darkroom_core::id::{ConnectionId, UserId};
use darkroom_core::limits::{CLIENT_MESSAGE_EVERY, CONNECTIONS_MAX, TICKET_LIFE};
use darkroom_core::push::{ConnectTicket, Connection, Connections};
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;

use super::Case;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("ticket", a_ticket_opens_one_connection_within_its_minute),
        Case::new("ticket's user", a_ticket_is_used_up_by_its_own_user_alone),
        Case::new("connection again", a_connection_that_is_there_is_not_another_ticket_s),
        Case::new("connections", a_user_s_connections_are_written_as_they_were_seen),
        Case::new("one too many", the_oldest_connection_makes_room),
        Case::new("heard", a_connection_is_heard_once_a_second_if_it_is_there),
        Case::new("forgotten", what_has_ended_is_forgotten_and_nothing_else),
        Case::new("ticket again", a_ticket_that_is_there_is_not_given_to_another),
    ]
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn id(name: &str) -> ConnectionId {
    ConnectionId::parse(name).unwrap()
}

fn connection(name: &str) -> Connection {
    Connection { id: id(name), connected_at: NOW, language: Language::Tr }
}

fn ticket(number: u8) -> ConnectTicket {
    ConnectTicket::from_random([number; 32])
}

async fn seen(writes: &Writes, of: &str) -> anyhow::Result<Connections> {
    Ok(writes.push.connections(&[user(of)]).await?.remove(&user(of)).unwrap_or_default())
}

/// Opens a connection by a ticket of this user, with the connections seen so.
async fn open_as_seen(
    writes: &Writes,
    name: &str,
    of: &str,
    seen: &Connections,
) -> anyhow::Result<Connected> {
    let ticket = ConnectTicket::from_random(std::array::from_fn(|at| name.as_bytes()[at % name.len()]));
    writes.push.issue(&ticket, &user(of), NOW).await?;
    Ok(writes.push.open(&ticket, &user(of), seen.clone(), &connection(name)).await?)
}

async fn open(writes: &Writes, name: &str, of: &str) -> anyhow::Result<Connected> {
    open_as_seen(writes, name, of, &seen(writes, of).await?).await
}

/// The names of a user's connections, the oldest first.
async fn known(writes: &Writes, of: &str) -> anyhow::Result<Vec<String>> {
    Ok(seen(writes, of).await?.list.iter().map(|connection| connection.id.to_string()).collect())
}

fn is_open(outcome: &Connected) -> anyhow::Result<()> {
    ensure!(matches!(outcome, Connected::Open { .. }), "{outcome:?}");
    Ok(())
}

async fn a_ticket_opens_one_connection_within_its_minute(writes: Writes) -> anyhow::Result<()> {
    let (push, alice) = (&writes.push, user("alice"));
    let expires_at = push.issue(&ticket(1), &alice, NOW).await?;
    ensure!(expires_at == NOW.plus(TICKET_LIFE), "{expires_at}");
    ensure!(push.issue(&ticket(1), &alice, NOW).await? == expires_at, "the same again");
    ensure!(push.ticket(&ticket(1), expires_at).await?.is_none(), "after its minute");
    ensure!(push.ticket(&ticket(2), NOW).await?.is_none(), "an invented one");
    ensure!(push.ticket(&ticket(1), NOW).await?.as_ref() == Some(&alice), "within its minute");
    // Both have read the ticket when the first uses it up.
    is_open(&push.open(&ticket(1), &alice, Connections::default(), &connection("one")).await?)?;
    let seen = seen(&writes, "alice").await?;
    let second = push.open(&ticket(1), &alice, seen, &connection("other")).await?;
    ensure!(second == Connected::Refused, "a ticket opened two connections");
    ensure!(known(&writes, "alice").await? == ["one"], "one connection");
    ensure!(push.ticket(&ticket(1), NOW).await?.is_none(), "after it was used");
    Ok(())
}

async fn a_ticket_is_used_up_by_its_own_user_alone(writes: Writes) -> anyhow::Result<()> {
    writes.push.issue(&ticket(1), &user("alice"), NOW).await?;
    let outcome =
        writes.push.open(&ticket(1), &user("bob"), Connections::default(), &connection("one")).await?;
    ensure!(outcome == Connected::Refused && known(&writes, "bob").await?.is_empty(), "by another");
    ensure!(writes.push.ticket(&ticket(1), NOW).await? == Some(user("alice")), "and used up");
    Ok(())
}

async fn a_ticket_that_is_there_is_not_given_to_another(writes: Writes) -> anyhow::Result<()> {
    writes.push.issue(&ticket(1), &user("alice"), NOW).await?;
    ensure!(writes.push.issue(&ticket(1), &user("bob"), NOW).await.is_err(), "given to two");
    ensure!(writes.push.ticket(&ticket(1), NOW).await? == Some(user("alice")), "it stays the first one's");
    Ok(())
}

async fn a_connection_that_is_there_is_not_another_ticket_s(writes: Writes) -> anyhow::Result<()> {
    is_open(&open(&writes, "one", "alice").await?)?;
    // The gateway never gives an id twice; if it did, it would not become another's.
    writes.push.issue(&ticket(1), &user("bob"), NOW).await?;
    let again =
        writes.push.open(&ticket(1), &user("bob"), Connections::default(), &connection("one")).await?;
    ensure!(again == Connected::Refused && known(&writes, "bob").await?.is_empty(), "taken over");
    let heard = writes.push.hear(&id("one"), NOW).await?;
    ensure!(matches!(&heard, Heard::Of(watcher) if watcher.user == user("alice")), "{heard:?}");
    Ok(())
}

async fn a_user_s_connections_are_written_as_they_were_seen(writes: Writes) -> anyhow::Result<()> {
    let none = Connections::default();
    is_open(&open_as_seen(&writes, "c0", "alice", &none).await?)?;
    let one = seen(&writes, "alice").await?;
    // Others that have seen none, and one: nobody's is lost.
    is_open(&open_as_seen(&writes, "c1", "alice", &none).await?)?;
    is_open(&open_as_seen(&writes, "c2", "alice", &one).await?)?;
    ensure!(known(&writes, "alice").await? == ["c0", "c1", "c2"], "{:?}", known(&writes, "alice").await?);
    writes.push.forget_of(&user("alice"), one, &id("c0")).await?;
    ensure!(known(&writes, "alice").await? == ["c1", "c2"], "{:?}", known(&writes, "alice").await?);
    Ok(())
}

async fn the_oldest_connection_makes_room(writes: Writes) -> anyhow::Result<()> {
    for number in 0..CONNECTIONS_MAX {
        is_open(&open(&writes, &format!("c{number}"), "alice").await?)?;
    }
    let one_more = open(&writes, "one-more", "alice").await?;
    ensure!(one_more == Connected::Open { evicted: vec![id("c0")] }, "{one_more:?}");
    ensure!(known(&writes, "alice").await?.len() == CONNECTIONS_MAX, "as many as may be");
    ensure!(writes.push.hear(&id("c0"), NOW).await? == Heard::Unknown, "it is known no more");
    Ok(())
}

async fn a_connection_is_heard_once_a_second_if_it_is_there(writes: Writes) -> anyhow::Result<()> {
    ensure!(writes.push.hear(&id("one"), NOW).await? == Heard::Unknown, "before it is there");
    is_open(&open(&writes, "one", "alice").await?)?;
    let at = |millis: u64| NOW.plus(Duration::from_millis(millis));
    for (millis, is_heard) in [(0, true), (0, false), (999, false), (1_000, true), (1_500, false)] {
        let heard = writes.push.hear(&id("one"), at(millis)).await?;
        match (&heard, is_heard) {
            (Heard::Of(watcher), true) => {
                ensure!(watcher.user == user("alice") && watcher.language == Language::Tr, "{watcher:?}");
            }
            (Heard::TooSoon, false) => {}
            _ => anyhow::bail!("{millis}: {heard:?}"),
        }
    }
    ensure!(CLIENT_MESSAGE_EVERY == Duration::from_secs(1), "the times above");
    Ok(())
}

async fn what_has_ended_is_forgotten_and_nothing_else(writes: Writes) -> anyhow::Result<()> {
    for (name, of) in [("one", "alice"), ("two", "alice"), ("three", "bob")] {
        is_open(&open(&writes, name, of).await?)?;
    }
    // Somebody else's, told for alice's.
    writes.push.forget_of(&user("alice"), seen(&writes, "alice").await?, &id("three")).await?;
    ensure!(known(&writes, "bob").await? == ["three"], "bob's stays");
    ensure!(writes.push.hear(&id("three"), NOW).await? != Heard::Unknown, "and is heard");
    for _ in 0..2 {
        writes.push.forget(&id("one")).await?;
        ensure!(known(&writes, "alice").await? == ["two"], "the other stays");
        ensure!(writes.push.hear(&id("one"), NOW).await? == Heard::Unknown, "it is heard no more");
    }
    let list = writes.push.connections(&[user("alice"), user("bob"), user("carol")]).await?;
    ensure!(list.len() == 2, "{list:?}");
    Ok(())
}
