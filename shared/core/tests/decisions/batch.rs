//! A batch: what each change of it needs to be so, and that no order of changes loses a line or a token.

use crate::common::{at, cases};
use darkroom_core::batch::{Batch, BatchCommand, BatchEnding, BatchRejection, BatchStage, apply};
use darkroom_core::ledger::{Balance, LedgerError, Settlement};
use proptest::prelude::*;

const OPEN: Batch = Batch { lines: 5, made: 2, remaining: 9, stage: BatchStage::Open { due_at: DUE } };
const DUE: darkroom_core::time::Timestamp = darkroom_core::time::Timestamp::from_millis(7);

const fn make(made_seen: u32, jobs: u32, tokens: u64) -> BatchCommand {
    BatchCommand::Make { made_seen, jobs, tokens, due_at: DUE }
}

const fn end(made_seen: u32, tokens: u64) -> BatchCommand {
    BatchCommand::End { made_seen, tokens, ending: BatchEnding::Cancelled }
}

#[test]
fn lines_become_jobs_in_their_order_and_take_their_prices_with_them() {
    let next = apply(&OPEN, &make(2, 2, 4)).unwrap();
    assert_eq!(next, Batch { made: 4, remaining: 5, ..OPEN });
    let last = apply(&next, &make(4, 1, 5)).unwrap();
    assert_eq!(last, Batch { made: 5, remaining: 0, stage: BatchStage::Made, ..OPEN });
    assert_eq!((OPEN.due_at(), last.due_at()), (Some(DUE), None));
    for (command, rejection) in [
        (make(1, 1, 3), BatchRejection::Overtaken),
        (make(3, 1, 3), BatchRejection::Overtaken),
        (make(2, 0, 0), BatchRejection::NotSoMuch),
        (make(2, 4, 9), BatchRejection::NotSoMuch),
        (make(2, u32::MAX, 9), BatchRejection::NotSoMuch),
        (make(2, 1, 10), BatchRejection::NotSoMuch),
        // The last one leaves nothing behind.
        (make(2, 3, 8), BatchRejection::NotSoMuch),
    ] {
        assert_eq!(apply(&OPEN, &command), Err(rejection), "{command:?}");
    }
}

#[test]
fn what_is_left_is_given_back_whole_and_once() {
    let ended = apply(&OPEN, &end(2, 9)).unwrap();
    assert_eq!(ended, Batch { remaining: 0, stage: BatchStage::Ended(BatchEnding::Cancelled), ..OPEN });
    for (command, rejection) in [
        (end(1, 9), BatchRejection::Overtaken),
        (end(2, 8), BatchRejection::NotSoMuch),
        (end(2, 10), BatchRejection::NotSoMuch),
    ] {
        assert_eq!(apply(&OPEN, &command), Err(rejection), "{command:?}");
    }
    let made = Batch { made: 5, remaining: 0, stage: BatchStage::Made, ..OPEN };
    for batch in [ended, made] {
        let (seen, mark) = (batch.made, BatchCommand::Mark { due_at_seen: DUE, due_at: at(1) });
        for command in [make(seen, 1, 0), end(seen, 0), mark] {
            assert_eq!(apply(&batch, &command), Err(BatchRejection::NotOpen), "{command:?}");
        }
    }
}

#[test]
fn a_mark_moves_the_time_that_it_has_seen() {
    let mark = |due_at_seen| apply(&OPEN, &BatchCommand::Mark { due_at_seen, due_at: at(1) });
    assert_eq!(mark(DUE), Ok(Batch { stage: BatchStage::Open { due_at: at(1) }, ..OPEN }));
    assert_eq!(mark(at(1)), Err(BatchRejection::Overtaken));
}

#[test]
fn a_batch_is_held_whole_and_none_of_it_is_in_flight() {
    let balance = Balance { available: 10, held: 1, spent: 0, granted: 11, inflight: 3 };
    let held = balance.hold_batch(10).unwrap();
    assert_eq!(held, Balance { available: 0, held: 11, ..balance });
    assert_eq!(balance.hold_batch(11), Err(LedgerError::Insufficient { price: 11, available: 10 }));
    let captured = held.settle_in_batch(4, Settlement::Captured).unwrap();
    assert_eq!(captured, Balance { held: 7, spent: 4, ..held });
    let refunded = captured.settle_in_batch(6, Settlement::Refunded).unwrap();
    assert_eq!(refunded, Balance { held: 1, available: 6, ..captured });
    let too_much = refunded.settle_in_batch(2, Settlement::Refunded);
    assert_eq!(too_much, Err(LedgerError::NotHeld { cost: 2, held: 1 }));
    // A job of its own is one less in flight.
    assert_eq!(refunded.settle(1, Settlement::Captured).map(|balance| balance.inflight), Ok(2));
}

fn command() -> impl Strategy<Value = BatchCommand> {
    prop_oneof![
        (0_u32..6, 0_u32..4, 0_u64..6).prop_map(|(made, jobs, tokens)| make(made, jobs, tokens)),
        (0_u32..6, 0_u64..12).prop_map(|(made, tokens)| end(made, tokens)),
    ]
}

proptest! {
    #![proptest_config(cases())]

    /// Whatever is done in any order: lines only become jobs, each token goes with a job or is given back, and an end is the end.
    #[test]
    fn no_order_of_changes_loses_a_line_or_a_token(commands in prop::collection::vec(command(), 0..40)) {
        let whole = Batch::submitted(5, 10, DUE);
        let (mut batch, mut given) = (whole, 0);
        for command in commands {
            let Ok(next) = apply(&batch, &command) else { continue };
            given += match command {
                BatchCommand::Make { tokens, .. } | BatchCommand::End { tokens, .. } => tokens,
                BatchCommand::Mark { .. } => 0,
            };
            prop_assert!(batch.due_at().is_some() && next.made >= batch.made && next.made <= whole.lines);
            prop_assert_eq!(given + next.remaining, 10);
            prop_assert_eq!(next.due_at().is_none(), next.remaining == 0 && next.stage != batch.stage);
            batch = next;
        }
        prop_assert_eq!(batch.stage == BatchStage::Made, batch.made == whole.lines);
    }
}
