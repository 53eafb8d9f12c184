//! Submissions, settlements and grants: what the balance and the entries let through.

use std::time::Duration;

use anyhow::{bail, ensure};
use darkroom_aws::{Beside, Commit, Created, Granted};
use darkroom_core::id::{Stamp, UserId};
use darkroom_core::ledger::{LedgerError, Tokens};
use darkroom_core::lifecycle::{Bounds, Command, End, Ending};
use darkroom_core::limits::SETTLE_PATIENCE;
use darkroom_core::request::Prompt;
use darkroom_core::time::Timestamp;
use darkroom_tests::sim::Writes;

use super::choices::{Choices, new_job};
use super::{Case, damage, number, put, put_item, text};

const GRANTED_AT: Timestamp = Timestamp::from_millis(1);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("submit", the_balance_refuses_what_it_has_not),
        Case::new("submit again", a_key_makes_one_job_until_its_record_expires),
        Case::new("lost answers", a_lost_answer_is_told_from_a_lost_race_by_the_stamp),
        Case::new("second settlement", the_entry_alone_refuses_a_second_settlement),
        Case::new("settlement without a hold", a_settlement_needs_its_hold),
        Case::new("grant", an_operation_gives_once),
    ]
}

fn user() -> UserId {
    UserId::parse("user").unwrap()
}

fn stamp(text: &str) -> Stamp {
    Stamp::from_stored(text.to_owned())
}

/// A balance from which anything can be settled.
pub(super) async fn put_rich_balance(writes: &Writes) -> anyhow::Result<()> {
    let fields = ["avail", "held", "spent", "granted", "inflight", "ver"];
    let item = fields.map(|field| (field.to_owned(), number(1_000_000)));
    let key = [("pk", "user"), ("sk", "BAL")].map(|(name, value)| (name.to_owned(), text(value)));
    put_item(writes, &writes.names.ledger, item.into_iter().chain(key).collect()).await
}

fn refused(created: &Created) -> anyhow::Result<LedgerError> {
    match created {
        Created::Refused(error) => Ok(*error),
        Created::New(_) | Created::Existing(_) | Created::Deleted(_) => bail!("it was created"),
    }
}

async fn the_balance_refuses_what_it_has_not(writes: Writes) -> anyhow::Result<()> {
    let create = |key, cost, op| writes.jobs.create(new_job(key, cost, op), None, 2);
    let nothing = refused(&create("k1", 1, "a").await?)?;
    ensure!(nothing == LedgerError::Insufficient { price: 1, available: 0 }, "{nothing}");
    writes.ledger.grant(&user(), 5, "g", GRANTED_AT).await?;
    let too_much = refused(&create("k1", 6, "b").await?)?;
    ensure!(too_much == LedgerError::Insufficient { price: 6, available: 5 }, "{too_much}");
    ensure!(matches!(create("k1", 2, "c").await?, Created::New(_)), "2 of 5");
    ensure!(matches!(create("k2", 3, "d").await?, Created::New(_)), "3 of 3");
    let too_many = refused(&create("k3", 0, "e").await?)?;
    ensure!(too_many == LedgerError::TooManyInflight { inflight: 2, max: 2 }, "{too_many}");
    ensure!(writes.jobs.get(&new_job("k3", 0, "e").id).await?.is_none(), "nothing was written");
    let balance = writes.ledger.balance(&user()).await?;
    ensure!(balance.is_balanced() && balance.available == 0 && balance.held == 5, "{balance:?}");
    Ok(())
}

async fn a_key_makes_one_job_until_its_record_expires(writes: Writes) -> anyhow::Result<()> {
    writes.ledger.grant(&user(), 9, "g", GRANTED_AT).await?;
    let prompt = Prompt::parse(&"a long prompt ".repeat(60)).map_err(anyhow::Error::msg)?;
    let job = new_job("k", 3, "first");
    let (created_at, id) = (job.order.created_at, job.id.clone());
    let long = Some(Beside { long_prompt: Some(&prompt), metadata: None, expires_at: created_at });
    ensure!(matches!(writes.jobs.create(job.clone(), long, 9).await?, Created::New(_)), "the first");
    ensure!(matches!(writes.jobs.create(new_job("k", 3, "b"), None, 9).await?, Created::Existing(_)), "live");
    // Over, and to be kept until a second after the next submission.
    let end = |expires_at| Command::CancelPending { end: End { now: created_at, expires_at } };
    let kept = end(created_at.plus(Duration::from_secs(1)));
    ensure!(
        is_applied(&writes.jobs.commit(&job, &kept, &stamp("c"), GRANTED_AT, SETTLE_PATIENCE).await?),
        "ended"
    );
    ensure!(matches!(writes.jobs.create(new_job("k", 3, "d"), None, 9).await?, Created::Existing(_)), "kept");
    let again = writes.jobs.get(&id).await?.is_some_and(|kept| kept.op == stamp("c"));
    ensure!(again, "the record was written over");
    let mut later = new_job("k", 3, "e");
    later.order.created_at = created_at.plus(Duration::from_secs(1));
    ensure!(matches!(writes.jobs.create(later, None, 9).await?, Created::New(_)), "expired");
    let balance = writes.ledger.balance(&user()).await?;
    ensure!((balance.available, balance.held, balance.inflight) == (6, 3, 1), "{balance:?}");
    Ok(())
}

const fn is_applied(commit: &Commit) -> bool {
    matches!(commit, Commit::Applied(_))
}

async fn a_lost_answer_is_told_from_a_lost_race_by_the_stamp(writes: Writes) -> anyhow::Result<()> {
    writes.ledger.grant(&user(), 10, "g", GRANTED_AT).await?;
    let mut job = new_job("k", 3, "first");
    ensure!(matches!(writes.jobs.create(job.clone(), None, 10).await?, Created::New(_)), "the first");
    // The same write again, as after a time-out: ours. Another one: somebody else's.
    ensure!(matches!(writes.jobs.create(job.clone(), None, 10).await?, Created::New(_)), "ours");
    let other = writes.jobs.create(new_job("k", 3, "second"), None, 10).await?;
    ensure!(matches!(other, Created::Existing(_)), "somebody else's");
    let balance = writes.ledger.balance(&job.user).await?;
    ensure!((balance.available, balance.held, balance.inflight) == (7, 3, 1), "held once: {balance:?}");

    let moment = job.order.created_at;
    let bounds = Bounds { attempts_max: 3, calls_max: 6 };
    let claim = Command::Claim { now: moment, lease_until: moment.plus(Duration::from_secs(60)), bounds };
    job.order.deadline_at = moment.plus(Duration::from_secs(3_600));
    put(&writes, &job).await?;
    let (op, other) = (stamp("claim"), stamp("other"));
    let Commit::Applied(claimed) = writes.jobs.update(&job.id, &claim, &op).await? else {
        bail!("not claimed")
    };
    let Commit::Applied(again) = writes.jobs.update(&job.id, &claim, &op).await? else {
        bail!("our own success")
    };
    ensure!(claimed == again && again.attempt == 1 && again.calls == 1, "counted once");
    ensure!(
        matches!(writes.jobs.update(&job.id, &claim, &other).await?, Commit::Refused(_)),
        "claimed twice"
    );

    // Settled by us, the answer lost; then the same settlement again: applied, and one entry.
    let end = End { now: moment, expires_at: moment };
    let settle = Command::EndHeld { attempt: 1, ending: Ending::Cancelled, end };
    let commit = |op| writes.jobs.commit(&claimed, &settle, op, moment, SETTLE_PATIENCE);
    let op = stamp("settle");
    ensure!(is_applied(&commit(&op).await?) && is_applied(&commit(&op).await?), "settled");
    ensure!(matches!(commit(&other).await?, Commit::Refused(_)), "settled twice");
    let balance = writes.ledger.balance(&job.user).await?;
    ensure!(
        (balance.available, balance.held, balance.inflight) == (10, 0, 0),
        "given back once: {balance:?}"
    );
    Ok(())
}

async fn the_entry_alone_refuses_a_second_settlement(writes: Writes) -> anyhow::Result<()> {
    writes.ledger.grant(&user(), 10, "g", GRANTED_AT).await?;
    let job = new_job("k", 3, "first");
    writes.jobs.create(job.clone(), None, 10).await?;
    let end = End { now: job.order.created_at, expires_at: job.order.created_at };
    let cancel = Command::CancelPending { end };
    writes.jobs.commit(&job, &cancel, &stamp("a"), end.now, SETTLE_PATIENCE).await?;
    // The record is made live again by hand, and there is enough to give back once more.
    put(&writes, &job).await?;
    let balance = (writes.names.ledger.as_str(), "user", "BAL");
    damage(&writes, balance, "SET held = :n, inflight = :n", &[], &[(":n", number(9))]).await?;
    let again = writes.jobs.commit(&job, &cancel, &stamp("b"), end.now, SETTLE_PATIENCE).await;
    ensure!(again.is_err_and(|error| error.to_string().contains("do not add up")), "settled twice");
    ensure!(writes.ledger.balance(&user()).await?.available == 10, "paid twice");
    Ok(())
}

async fn a_settlement_needs_its_hold(writes: Writes) -> anyhow::Result<()> {
    writes.ledger.grant(&user(), 10, "g", GRANTED_AT).await?;
    let balance = (writes.names.ledger.as_str(), "user", "BAL");
    for key in ["refunded", "captured"] {
        let job = new_job(key, 3, "first");
        writes.jobs.create(job.clone(), None, 10).await?;
        let end = End { now: job.order.created_at, expires_at: job.order.created_at };
        let settle = if key == "refunded" {
            Command::CancelPending { end }
        } else {
            Command::Capture { image: Choices(1).image(), drawn_by: "m".to_owned(), end }
        };
        for (field, wrong, right) in [("held", 2, 3), ("inflight", 0, 1)] {
            let set = |value| [(":n", number(value))];
            damage(&writes, balance, "SET #f = :n", &[("#f", field)], &set(wrong)).await?;
            let commit = writes.jobs.commit(&job, &settle, &stamp(field), end.now, SETTLE_PATIENCE).await;
            ensure!(!commit.is_ok_and(|commit| is_applied(&commit)), "{key} with {field} = {wrong}");
            damage(&writes, balance, "SET #f = :n", &[("#f", field)], &set(right)).await?;
        }
        let commit = writes.jobs.commit(&job, &settle, &stamp(key), end.now, SETTLE_PATIENCE).await?;
        ensure!(is_applied(&commit), "{key} with its hold");
    }
    Ok(())
}

async fn an_operation_gives_once(writes: Writes) -> anyhow::Result<()> {
    let grant = async |tokens, op| writes.ledger.grant(&user(), tokens, op, GRANTED_AT).await;
    ensure!(grant(10, "a").await? == Granted::Now, "the first");
    ensure!(grant(10, "a").await? == Granted::Before, "the same again");
    ensure!(grant(11, "a").await? == Granted::OtherNumber(10), "the same, another number");
    ensure!(grant(5, "b").await? == Granted::Now, "another");
    ensure!(grant(Tokens::MAX - 14, "c").await.is_err(), "more than there can be");
    let balance = writes.ledger.balance(&user()).await?;
    ensure!((balance.available, balance.granted) == (15, 15), "{balance:?}");
    Ok(())
}
