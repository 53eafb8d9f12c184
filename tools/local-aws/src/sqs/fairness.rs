//! Fair queues: which of the visible messages come first.
//!
//! On AWS a group (`MessageGroupId` on a standard queue) that has more than its share in flight is noisy, and
//! messages of quiet groups go before its own. How AWS measures is not published; here the group with the
//! fewest messages in flight comes first, and among equals the message that has been visible longest.
//! Messages without a group never count as noisy.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html>

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rusqlite::{OptionalExtension, params};

use super::messages::{Stored, visible, visible_of_group};
use super::state::State;

/// With more groups than this at once, time alone decides: telling them apart would cost more than it gives.
const MAX_GROUPS: usize = 256;

/// A group, or none.
type Group = Option<String>;

/// The next message of a group. The heap gives the greatest, so this is compared in reverse: few in flight,
/// then long visible.
type Turn = Reverse<(i64, i64, i64, Group)>;

/// Up to `limit` visible messages of a queue, in the order in which they should be received.
pub(super) fn choose(state: &State, queue: i64, now: i64, limit: usize) -> rusqlite::Result<Vec<Stored>> {
    let mut in_flight = in_flight(state, queue, now)?;
    if in_flight.is_empty() {
        return visible(state, queue, now, limit);
    }
    let Some(groups) = groups(state, queue)? else { return visible(state, queue, now, limit) };
    let mut turns: BinaryHeap<Turn> = BinaryHeap::new();
    for group in groups {
        let head = head(state, queue, group.as_deref(), now)?;
        turns.extend(head.map(|head| turn(&in_flight, group, head)));
    }
    let mut waiting: BTreeMap<Group, VecDeque<Stored>> = BTreeMap::new();
    let mut chosen = Vec::with_capacity(limit);
    while let Some(Reverse((.., group))) = turns.pop().filter(|_| chosen.len() < limit) {
        let messages = match waiting.entry(group.clone()) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                unread.insert(visible_of_group(state, queue, group.as_deref(), now, limit)?.into())
            }
        };
        chosen.extend(messages.pop_front());
        if group.is_some() {
            *in_flight.entry(group.clone()).or_default() += 1;
        }
        let next = messages.front().map(|next| (next.visible_at, next.id));
        turns.extend(next.map(|next| turn(&in_flight, group, next)));
    }
    Ok(chosen)
}

fn turn(in_flight: &BTreeMap<Group, i64>, group: Group, (visible_at, id): (i64, i64)) -> Turn {
    let count = in_flight.get(&group).copied().unwrap_or(0);
    Reverse((count, visible_at, id, group))
}

/// The first visible message of a group: since when it is, and its id. Reads the index only.
fn head(state: &State, queue: i64, group: Option<&str>, now: i64) -> rusqlite::Result<Option<(i64, i64)>> {
    let select = "SELECT visible_at, id FROM messages
        WHERE queue = ?1 AND group_id IS ?2 AND visible_at <= ?3 ORDER BY visible_at, id LIMIT 1";
    let mut select = state.connection.prepare_cached(select)?;
    select.query_row(params![queue, group, now], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// How many messages of each group are with receivers.
fn in_flight(state: &State, queue: i64, now: i64) -> rusqlite::Result<BTreeMap<Group, i64>> {
    let select = "SELECT group_id, count(*) FROM messages
        WHERE queue = ?1 AND visible_at > ?2 AND received_here > 0 AND group_id IS NOT NULL GROUP BY group_id";
    let mut select = state.connection.prepare_cached(select)?;
    let rows = select.query_map([queue, now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The groups that have messages in a queue, and `None` for messages without one; nothing when they are too
/// many. Each group costs one step in an index, however many messages it has.
fn groups(state: &State, queue: i64) -> rusqlite::Result<Option<Vec<Group>>> {
    let first = "SELECT 1 FROM messages WHERE queue = ?1 AND group_id IS NULL LIMIT 1";
    let ungrouped = state.connection.prepare_cached(first)?.exists([queue])?;
    let mut groups: Vec<Group> = if ungrouped { vec![None] } else { Vec::new() };
    let next = "SELECT group_id FROM messages WHERE queue = ?1 AND group_id > ?2 ORDER BY group_id LIMIT 1";
    let mut next = state.connection.prepare_cached(next)?;
    let mut last = String::new();
    while let Some(group) = next.query_row(params![queue, last], |row| row.get::<_, String>(0)).optional()? {
        if groups.len() == MAX_GROUPS {
            return Ok(None);
        }
        last.clone_from(&group);
        groups.push(Some(group));
    }
    Ok(Some(groups))
}
