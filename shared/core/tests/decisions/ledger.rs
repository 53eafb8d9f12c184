//! Money: what each step does to a balance, and that no order of steps makes or loses a token.

use crate::common::{BOUNDS, COST, Shown, cases, commands, job, live_stages, stamp, submitted};
use darkroom_core::job::Job;
use darkroom_core::ledger::{Balance, Books, LedgerError, Settlement};
use darkroom_core::lifecycle::{Command, apply};
use proptest::prelude::*;

const NOTHING: Balance = Balance { available: 0, held: 0, spent: 0, granted: 0, inflight: 0 };

#[test]
fn a_hold_a_capture_and_a_refund() {
    let granted = NOTHING.grant(10).unwrap();
    assert_eq!(granted, Balance { available: 10, granted: 10, ..NOTHING });
    let held = granted.hold(4, 2).unwrap();
    assert_eq!(held, Balance { available: 6, held: 4, granted: 10, inflight: 1, spent: 0 });
    let captured = held.settle(4, Settlement::Captured).unwrap();
    assert_eq!(captured, Balance { available: 6, spent: 4, granted: 10, ..NOTHING });
    let refunded = held.settle(4, Settlement::Refunded).unwrap();
    assert_eq!(refunded, granted);
}

#[test]
fn a_hold_takes_all_that_is_there_and_not_one_more() {
    let granted = NOTHING.grant(4).unwrap();
    assert_eq!(granted.hold(4, 1).unwrap().available, 0);
    assert_eq!(granted.hold(5, 1), Err(LedgerError::Insufficient { price: 5, available: 4 }));
    assert_eq!(granted.hold(0, 1).unwrap().inflight, 1);
}

#[test]
fn a_user_has_as_many_jobs_in_flight_as_allowed() {
    let one = NOTHING.grant(4).unwrap().hold(1, 2).unwrap();
    let two = one.hold(1, 2).unwrap();
    assert_eq!(two.hold(1, 2), Err(LedgerError::TooManyInflight { inflight: 2, max: 2 }));
    let again = two.settle(1, Settlement::Refunded).unwrap();
    assert!(again.hold(1, 2).is_ok());
    assert_eq!(NOTHING.hold(0, 0), Err(LedgerError::TooManyInflight { inflight: 0, max: 0 }));
}

#[test]
fn what_is_not_held_cannot_be_settled() {
    let held = NOTHING.grant(9).unwrap().hold(4, 9).unwrap();
    for settlement in [Settlement::Captured, Settlement::Refunded] {
        assert_eq!(held.settle(5, settlement), Err(LedgerError::NotHeld { cost: 5, held: 4 }));
        // No job is in flight, so nothing can be settled, not even a job that costs nothing.
        assert_eq!(NOTHING.settle(0, settlement), Err(LedgerError::NotHeld { cost: 0, held: 0 }));
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let full = NOTHING.grant(u64::MAX).unwrap();
    assert_eq!(full.grant(1), Err(LedgerError::Overflow));
    assert_eq!(Balance { available: 0, spent: u64::MAX, ..full }.grant(1), Err(LedgerError::Overflow));
    // Books that are wrong already are never made worse in silence.
    let wrong = Balance { available: u64::MAX, held: u64::MAX, spent: u64::MAX, granted: 0, inflight: 1 };
    assert!(!wrong.is_balanced());
    assert_eq!(wrong.hold(1, 2), Err(LedgerError::Overflow));
    assert_eq!(wrong.settle(1, Settlement::Captured), Err(LedgerError::Overflow));
    assert_eq!(wrong.settle(1, Settlement::Refunded), Err(LedgerError::Overflow));
}

#[test]
fn each_sum_that_is_off_is_named() {
    let balance = Balance { available: 1, held: 2, spent: 3, granted: 6, inflight: 1 };
    let right = Books { balance, grants: 6, captures: 3, unsettled: 2, unsettled_jobs: 1 };
    assert_eq!(right.faults(), Vec::<String>::new());
    for (wrong, word) in [
        (Books { balance: Balance { available: 2, ..balance }, ..right }, "available 2"),
        (Books { grants: 7, ..right }, "grant entries sum to 7"),
        (Books { captures: 4, ..right }, "capture entries sum to 4"),
        (Books { unsettled: 3, ..right }, "unsettled jobs and batches cost 3"),
        (Books { unsettled_jobs: 2, ..right }, "2 jobs are unsettled"),
    ] {
        let faults = wrong.faults();
        assert!(faults.len() == 1 && faults[0].contains(word), "{faults:?}");
    }
}

#[test]
fn stored_words_are_read_back() {
    for (settlement, word) in [(Settlement::Captured, "captured"), (Settlement::Refunded, "refunded")] {
        assert_eq!((settlement.as_str(), Settlement::parse(word)), (word, Some(settlement)));
        assert_eq!(serde_json::to_value(settlement).unwrap(), word);
    }
    assert_eq!(Settlement::parse("paid"), None);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Grant(u64),
    Hold(u64),
    Settle(u64, Settlement),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = || prop_oneof![4 => 0..20_u64, 1 => any::<u64>()];
    let settlement = prop_oneof![Just(Settlement::Captured), Just(Settlement::Refunded)];
    let step = prop_oneof![
        amount().prop_map(Step::Grant),
        amount().prop_map(Step::Hold),
        (amount(), settlement).prop_map(|(cost, settlement)| Step::Settle(cost, settlement)),
    ];
    proptest::collection::vec(step, 0..30)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_order_of_steps_makes_or_loses_a_token(steps in steps(), max in 0..5_u64) {
        let mut balance = NOTHING;
        for step in steps {
            let next = match step {
                Step::Grant(tokens) => balance.grant(tokens),
                Step::Hold(price) => balance.hold(price, max),
                Step::Settle(cost, settlement) => balance.settle(cost, settlement),
            };
            let Ok(next) = next else { continue };
            prop_assert!(next.is_balanced(), "{:?} made {:?} of {:?}", step, next, balance);
            prop_assert!(next.inflight <= max);
            prop_assert!(next.spent >= balance.spent && next.granted >= balance.granted);
            balance = next;
        }
    }

    /// Any command at any time, of the job as it is or of another one: whoever sent it, and however late.
    #[test]
    fn any_commands_settle_a_job_at_most_once(
        stage in live_stages(),
        sent in proptest::collection::vec(commands(), 1..60),
    ) {
        let mut job = Job { calls: 0, ..job(0, stage) };
        let mut balance = NOTHING.grant(COST).unwrap().hold(COST, 1).unwrap();
        let mut settlements = 0;
        for (number, command) in (0_u8..).zip(sent) {
            let Ok(next) = apply(&job, &command, stamp(number)) else { continue };
            if let Some(settlement) = command.settlement() {
                balance = balance.settle(next.order.cost, settlement).unwrap();
                settlements += 1;
                prop_assert_eq!(next.settlement(), Some(settlement));
            }
            prop_assert!(next.calls <= BOUNDS.calls_max);
            job = next;
            let unsettled = u64::from(job.settlement().is_none());
            let captures = if job.settlement() == Some(Settlement::Captured) { COST } else { 0 };
            let books =
                Books { balance, grants: COST, captures, unsettled: unsettled * COST, unsettled_jobs: unsettled };
            prop_assert_eq!(books.faults(), Vec::<String>::new(), "{:?}", Shown(job));
        }
        prop_assert!(settlements <= 1);
        prop_assert_eq!(settlements == 1, job.settlement().is_some());
    }
}

#[test]
fn what_a_command_does_to_the_tokens_is_what_the_record_says() {
    let cancel = Command::CancelPending { end: crate::common::end(crate::common::at(1)) };
    let over = apply(&submitted(3_600), &cancel, stamp(1)).unwrap();
    assert_eq!(cancel.settlement(), Some(Settlement::Refunded));
    assert_eq!(over.settlement(), Some(Settlement::Refunded));
}
