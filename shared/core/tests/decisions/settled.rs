//! What its owner does with a settled job, and for how long it is kept.

use std::time::Duration;

use darkroom_core::job::{Job, Outcome, Settled, Stage, Status};
use darkroom_core::lifecycle::expires_at;
use darkroom_core::limits::{IMAGE_DAYS, RECORD_DAYS_MAX, WORKER_TIMEOUT};
use darkroom_core::settled::{Days, Publication, Unfit, beside_expires_at, kept_until, tombstone};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

use crate::common::samples::{leased, waiting};
use crate::common::{
    Shown, at, cancelling, cases, drawn, failure, image, job, jobs, published, settled, stamp, times,
};

const DAYS: Days = Days { published: 400, settled: 90 };
const DAY: u64 = 86_400;

fn with(outcome: Outcome) -> Job {
    job(1, settled(outcome))
}

fn the_settled(job: &Job) -> &Settled {
    let Stage::Settled(settled) = &job.stage else { panic!("not settled") };
    settled
}

#[test]
fn each_wish_on_each_stage() {
    type Cell = Result<Status, Unfit>;
    const LIVE: Cell = Err(Unfit::Live);
    const OTHER: Cell = Err(Unfit::OtherStatus);
    let stages = [
        (waiting(), [LIVE, LIVE, LIVE]),
        (leased(), [LIVE, LIVE, LIVE]),
        (job(1, cancelling(at(101))), [LIVE, LIVE, LIVE]),
        (with(drawn()), [Ok(Status::Published), OTHER, Ok(Status::Draft)]),
        (with(published()), [OTHER, Ok(Status::Draft), Ok(Status::Published)]),
        (with(Outcome::Failed(failure())), [OTHER, OTHER, Ok(Status::Failed)]),
        (with(Outcome::Cancelled), [OTHER, OTHER, Ok(Status::Cancelled)]),
    ];
    for (job, [publish, unpublish, delete]) in stages {
        let to = |published| Publication { published, version_seen: 7, now: at(10), expires_at: at(500) };
        let status = |publication: Publication| publication.apply(&job, stamp(9)).map(|next| next.status());
        assert_eq!(status(to(true)), publish, "{:?}", job.stage);
        assert_eq!(status(to(false)), unpublish, "{:?}", job.stage);
        // What is left says how it was settled.
        let left = tombstone(&job).map(|left| (left.settlement, left.image_key));
        let image_key = job.image().map(|image| image.key.clone());
        let wanted = delete.map(|_| (job.settlement().unwrap(), image_key));
        assert_eq!(left, wanted, "{:?}", job.stage);
    }
}

/// Nothing to write where it is so already: a wish can be repeated.
#[test]
fn a_wish_that_is_fulfilled_writes_nothing() {
    let wish = |outcome, published| Publication::of(&with(outcome), published, at(10), DAYS);
    for (outcome, published, writes) in [
        (drawn(), true, true),
        (drawn(), false, false),
        (published(), true, false),
        (published(), false, true),
    ] {
        let publication = wish(outcome.clone(), published).unwrap();
        assert_eq!(publication.is_some(), writes, "{published} {outcome:?}");
        let made = publication.map(|publication| {
            let next = publication.apply(&with(outcome), stamp(9)).unwrap();
            publication.has_made(&next) && next.version == 8 && next.op == stamp(9)
        });
        assert_ne!(made, Some(false));
    }
    for published in [true, false] {
        assert_eq!(wish(Outcome::Cancelled, published), Err(Unfit::OtherStatus));
        assert_eq!(wish(Outcome::Failed(failure()), published), Err(Unfit::OtherStatus));
        assert_eq!(Publication::of(&waiting(), published, at(10), DAYS), Err(Unfit::Live));
    }
}

/// Published, taken back and published again: a write of the first time that comes late takes nothing back.
#[test]
fn a_late_write_does_not_find_its_state_again() {
    let wish = |job: &Job, published| Publication::of(job, published, at(10), DAYS).unwrap().unwrap();
    let first = with(published());
    let late = wish(&first, false);
    let draft = late.apply(&first, stamp(1)).unwrap();
    let again = wish(&draft, true).apply(&draft, stamp(2)).unwrap();
    assert_eq!(again.status(), first.status());
    assert_eq!(late.apply(&again, stamp(1)).err(), Some(Unfit::Changed));
}

#[test]
fn an_expired_record_is_not_published_back_to_life() {
    let draft = with(drawn());
    let expires_at = the_settled(&draft).expires_at;
    let publish =
        |now| Publication { published: true, version_seen: 7, now, expires_at: now }.apply(&draft, stamp(9));
    assert!(publish(expires_at.minus(Duration::from_millis(1))).is_ok());
    assert_eq!(publish(expires_at).err(), Some(Unfit::Expired));
    assert!(draft.is_expired(expires_at) && !draft.belongs_to(&draft.user, expires_at));
    let left = tombstone(&draft).unwrap();
    assert!(left.belongs_to(&draft.user, expires_at.minus(Duration::from_millis(1))));
    assert!(!left.belongs_to(&draft.user, expires_at));
}

#[test]
fn records_are_kept_for_days_and_never_longer_than_their_pictures() {
    let day = |number: u64| Timestamp::from_millis(1_800_000_000_000 + number * DAY * 1_000);
    for (now, days, until) in [
        (0, 90, 90),
        (0, 400, 400),
        // Published late: the picture, stored on day 0, goes on day 401.
        (89, 400, 400),
        (89, 200, 289),
        (350, 200, 400),
        // A draft again, and again.
        (100, 90, 190),
        (399, 90, 400),
    ] {
        assert_eq!(kept_until(day(0), day(now), days), day(until), "on day {now} for {days} days");
    }
}

#[test]
fn what_lies_beside_a_record_outlives_it_by_a_day() {
    // A live job's, by when it will have ended at the latest.
    for live in [waiting(), leased()] {
        let ended = expires_at(live.order.deadline_at, 90);
        assert_eq!(beside_expires_at(&live, 90), ended.plus(Duration::from_secs(DAY)));
    }
    // A settled one's record is kept as it says, for whatever was set when it ended or was published.
    let day = |day| at(0).plus(Duration::from_secs(day * DAY));
    for until in [1, 90, 400] {
        let end = |outcome| Settled { finished_at: at(0), expires_at: day(until), outcome };
        for outcome in [drawn(), Outcome::Cancelled] {
            let job = Job { stage: Stage::Settled(end(outcome)), ..waiting() };
            assert_eq!(beside_expires_at(&job, 90), day(until + 1));
        }
        let publication =
            Publication { published: true, version_seen: 7, now: at(0), expires_at: day(until) };
        assert_eq!(publication.beside_expires_at(), day(until + 1));
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_record_never_outlives_its_picture(
        changes in proptest::collection::vec((any::<bool>(), 0..600_u64), 1..20),
        published in 1..=RECORD_DAYS_MAX,
        kept in 1..=RECORD_DAYS_MAX,
    ) {
        let days = Days { published, settled: kept };
        let mut job = with(drawn());
        let stored_at = the_settled(&job).finished_at.minus(WORKER_TIMEOUT);
        let mut now = the_settled(&job).finished_at;
        job.stage = match job.stage {
            Stage::Settled(settled) => {
                let expires_at = kept_until(settled.finished_at, now, kept);
                Stage::Settled(Settled { expires_at, ..settled })
            }
            other => other,
        };
        for (published, after) in changes {
            now = now.plus(Duration::from_secs(after * DAY / 3));
            if let Some(publication) = Publication::of(&job, published, now, days).unwrap() {
                match publication.apply(&job, stamp(9)) {
                    Ok(next) => job = next,
                    Err(unfit) => prop_assert_eq!(unfit, Unfit::Expired),
                }
            }
            let goes = stored_at.plus(Duration::from_secs(IMAGE_DAYS * DAY));
            prop_assert!(the_settled(&job).expires_at < goes, "{:?}", Shown(job));
        }
    }

    /// Nothing changes a settlement.
    #[test]
    fn a_wish_changes_what_it_is_for_and_nothing_else(
        job in jobs(),
        published in any::<bool>(),
        now in times(),
        expires_at in times(),
    ) {
        let publication = Publication { published, version_seen: job.version, now, expires_at };
        if let Ok(next) = publication.apply(&job, stamp(9)) {
            prop_assert!(publication.has_made(&next) && !publication.has_made(&job));
            let mut expected = Job { version: job.version + 1, op: stamp(9), ..Job::clone(&job) };
            let Stage::Settled(settled) = &mut expected.stage else { panic!("a live job was published") };
            settled.expires_at = expires_at;
            let drawn_by = "painter-1".to_owned();
            settled.outcome = Outcome::Drawn { image: image(1), drawn_by, published };
            prop_assert!(next == expected, "{:?}", Shown(next));
            prop_assert_eq!(next.settlement(), job.settlement());
        }
    }
}
