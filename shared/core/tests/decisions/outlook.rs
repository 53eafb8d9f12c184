//! What a job's owner is told of when its picture comes.

use std::time::Duration;

use crate::common::{at, drawn, job, pending, processing, seconds, settled};
use darkroom_core::breaker::{Gate, all_open_until};
use darkroom_core::job::WaitReason::{BreakerOpen, Capacity, Quota};
use darkroom_core::outlook::Outlook;
use darkroom_core::pace::Turn;
use darkroom_core::position::Position;

const TYPICAL: Duration = Duration::from_secs(10);
const NOW: u64 = 100;

#[test]
fn a_waiting_job_starts_at_the_later_of_its_record_and_its_turn() {
    let turn = |second, reason| Some(Turn { at: at(second), reason, is_firm: true });
    let place = |place| Some(Position { place, exact: true });
    let cases = [
        // Nothing limits it: ten at a time.
        (90, None, None, (10, Capacity)),
        (90, place(1), None, (10, Capacity)),
        (90, place(10), None, (10, Capacity)),
        (90, place(11), None, (20, Capacity)),
        (130, place(11), None, (50, Capacity)),
        // Its turn has its place in it.
        (90, place(50), turn(100, Quota), (10, Capacity)),
        (90, place(50), turn(160, Quota), (70, Quota)),
        (90, place(50), turn(160, BreakerOpen), (70, BreakerOpen)),
        (130, place(1), turn(120, Quota), (40, Capacity)),
        (130, place(1), turn(140, Quota), (50, Quota)),
    ];
    for (not_before, position, turn, (eta, reason)) in cases {
        let job = job(0, pending(at(90), at(not_before)));
        let outlook = Outlook::of(&job, position, turn, TYPICAL, at(NOW)).unwrap();
        assert_eq!(outlook, Outlook { eta: seconds(eta), reason: Some(reason) }, "{not_before} {turn:?}");
    }
}

#[test]
fn the_next_job_is_told_what_it_would_be_told_once_it_waits() {
    let turn = |second, reason| Some(Turn { at: at(second), reason, is_firm: true });
    for (place, turn) in [
        (1, None),
        (11, None),
        (1_001, None),
        (11, turn(NOW - 1, Quota)),
        (11, turn(160, Quota)),
        (1, turn(160, BreakerOpen)),
    ] {
        let job = job(0, pending(at(NOW), at(NOW)));
        let waits = Outlook::of(&job, Some(Position { place, exact: false }), turn, TYPICAL, at(NOW));
        assert_eq!(Some(Outlook::of_next(place, turn, TYPICAL, at(NOW))), waits, "{place} {turn:?}");
    }
}

#[test]
fn a_job_that_is_drawn_has_the_rest_of_the_usual_time_and_a_settled_one_has_none() {
    let under_way = job(1, processing(at(300)));
    for (now, eta) in [(1, 10), (5, 6), (11, 0), (60, 0)] {
        let outlook = Outlook::of(&under_way, None, None, TYPICAL, at(now)).unwrap();
        assert_eq!(outlook, Outlook { eta: seconds(eta), reason: None });
    }
    assert_eq!(Outlook::of(&job(1, settled(drawn())), None, None, TYPICAL, at(NOW)), None);
}

/// A model can be drawn with as long as one of its routes lets a call through, or may be probed.
#[test]
fn a_model_is_closed_only_when_all_its_routes_are() {
    let open = |until| Gate::OpenUntil(at(until));
    assert_eq!(all_open_until([open(130), open(110)]), Some(at(110)));
    assert_eq!(all_open_until([open(130)]), Some(at(130)));
    for other in [Gate::Closed, Gate::MayProbe, Gate::Probing(at(120))] {
        assert_eq!(all_open_until([open(130), other]), None, "{other:?}");
    }
    assert_eq!(all_open_until([]), None);
}
