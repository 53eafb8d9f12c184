//! Who is connected, what a client may say, and what is stored of a ticket.

use std::time::Duration;

use darkroom_core::error_code::Language;
use darkroom_core::id::{ConnectionId, JobId};
use darkroom_core::limits::{CONNECTION_LIFE, CONNECTIONS_MAX, SYNC_JOBS_MAX};
use darkroom_core::push::{ClientMessage, ConnectTicket, Connection, Connections};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn connection(name: &str, at: Timestamp) -> Connection {
    let id = ConnectionId::parse(name).unwrap();
    Connection { id, connected_at: at, language: Language::En }
}

fn names(list: &[Connection]) -> Vec<&str> {
    list.iter().map(|connection| connection.id.as_str()).collect()
}

#[test]
fn one_more_than_the_most_ends_the_oldest() {
    let mut connections = Connections::default();
    for number in 0..CONNECTIONS_MAX {
        let (next, gone) = connections.with(&connection(&format!("c{number}"), NOW));
        assert!(gone.is_empty());
        connections = next;
    }
    let (next, gone) = connections.with(&connection("one-more", NOW));
    assert_eq!(names(&gone), ["c0"]);
    assert_eq!(next.list.len(), CONNECTIONS_MAX);
    assert_eq!(next.version, CONNECTIONS_MAX as u64 + 1);
    assert_eq!(names(&next.list)[CONNECTIONS_MAX - 1], "one-more");
    // The same again, after an answer that was lost: nobody else has to go.
    let (again, gone) = next.with(&connection("one-more", NOW));
    assert_eq!((names(&again.list), gone.len()), (names(&next.list), 0));
}

#[test]
fn what_the_gateway_has_ended_is_not_told_and_makes_room() {
    let (connections, _) = Connections::default().with(&connection("old", NOW));
    let end = NOW.plus(CONNECTION_LIFE);
    assert_eq!(connections.open(end.minus(Duration::from_millis(1))).count(), 1);
    assert_eq!(connections.open(end).count(), 0);
    let (next, gone) = connections.with(&connection("new", end));
    assert_eq!((names(&next.list), names(&gone)), (vec!["new"], vec!["old"]));
}

#[test]
fn what_is_not_there_cannot_be_taken_away() {
    let (connections, _) = Connections::default().with(&connection("a", NOW));
    let (connections, _) = connections.with(&connection("b", NOW));
    assert_eq!(connections.without(&ConnectionId::parse("c").unwrap()), None);
    let left = connections.without(&ConnectionId::parse("a").unwrap()).unwrap();
    assert_eq!((names(&left.list), left.version), (vec!["b"], 3));
}

#[test]
fn a_client_says_sync_or_ping_and_nothing_else() {
    let id = format!("job_{}", "a".repeat(52));
    let job = JobId::parse(&id).unwrap();
    for (text, said) in [
        (r#"{"type":"sync"}"#.to_owned(), Some(ClientMessage::Sync { jobs: vec![] })),
        (format!(r#"{{"jobs":["{id}"],"type":"sync"}}"#), Some(ClientMessage::Sync { jobs: vec![job] })),
        (r#"{"type":"ping"}"#.to_owned(), Some(ClientMessage::Ping)),
        (r#"{"type":"ping","jobs":[]}"#.to_owned(), None),
        (r#"{"type":"sync","user":"bob"}"#.to_owned(), None),
        (r#"{"type":"sync","jobs":["job_x"]}"#.to_owned(), None),
        (r#"{"type":"sync","jobs":"all"}"#.to_owned(), None),
        (r#"{"type":"subscribe"}"#.to_owned(), None),
        (r#"{"type":7}"#.to_owned(), None),
        ("[]".to_owned(), None),
        ("{".to_owned(), None),
        (String::new(), None),
        ("[".repeat(100_000), None),
    ] {
        assert_eq!(ClientMessage::parse(&text), said, "{}", text.get(..80).unwrap_or(&text));
    }
    let of = |count: usize| format!(r#"{{"type":"sync","jobs":{:?}}}"#, vec![id.clone(); count]);
    assert!(ClientMessage::parse(&of(SYNC_JOBS_MAX)).is_some());
    assert!(ClientMessage::parse(&of(SYNC_JOBS_MAX + 1)).is_none());
}

#[test]
fn a_ticket_is_stored_as_a_hash_that_is_its_own() {
    let ticket = ConnectTicket::from_random([7; 32]);
    let same = ConnectTicket::parse(ticket.reveal()).unwrap();
    assert!(ticket == same && ticket.hash() == same.hash());
    assert_ne!(ticket.hash(), ConnectTicket::from_random([8; 32]).hash());
    let bare = ticket.reveal().strip_prefix("wst_").unwrap();
    assert!(!ticket.hash().contains(bare) && !bare.contains(&ticket.hash()));
    for text in ["", "wst_", bare, &ticket.reveal().to_uppercase(), &format!("{}a", ticket.reveal())] {
        assert!(ConnectTicket::parse(text).is_none(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever comes and goes: never more than the most, none twice, the version counts the changes.
    #[test]
    fn connections_stay_few_and_different(steps in prop::collection::vec((0_u8..30, any::<bool>(), 0_u64..9_000), 0..60)) {
        let (mut connections, mut at) = (Connections::default(), NOW);
        for (name, opens, seconds) in steps {
            at = at.plus(Duration::from_secs(seconds / 10));
            let one = connection(&format!("c{name}"), at);
            let before = connections.clone();
            let next = if opens { Some(connections.with(&one).0) } else { connections.without(&one.id) };
            let Some(next) = next else { continue };
            prop_assert_eq!(next.version, before.version + 1);
            prop_assert!(next.list.len() <= CONNECTIONS_MAX);
            let mut ids = names(&next.list);
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), next.list.len());
            prop_assert_eq!(next.list.contains(&one), opens);
            connections = next;
        }
    }
}
