//! A batch of a few lines on one balance: makers that read and write at different times, a message that is lost or doubled, an owner who
//! ends it, a deadline, a write that is done late, and a death at any moment.

use darkroom_core::batch::{Batch, BatchCommand, BatchEnding, BatchRejection, BatchStage, apply};
use darkroom_core::ledger::{Balance, Settlement};
use stateright::{Model, Property};

use crate::common::COST;
use crate::reach::reach;
use crate::report::{breaks, holds, is_deep, tells};
use crate::world::tick;

const LINES: usize = 3;
const MAKERS: usize = 2;

pub(crate) const MONEY: &str = "I1: what is held are live jobs and what the batch has left";
pub(crate) const ONE_JOB: &str = "I12: a line becomes one job";
pub(crate) const ONE_BATCH: &str = "I12: a key makes one batch";
pub(crate) const ENDED_STAYS: &str = "I7: no line becomes a job after the end";
pub(crate) const MARKED: &str = "a mark moves nothing that was done since";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// The submission makes a batch if there is none.
    BatchAbsent,
    /// Jobs are made of the lines that come next, as seen.
    MadeAsSeen,
    /// And of an open batch.
    MakeOpen,
    /// A job is made if there is none.
    JobAbsent,
    /// What is given back is what is there now.
    EndAsSeen,
    /// And of an open batch.
    EndOpen,
    /// One entry for what is given back.
    EntryAbsent,
    /// A mark is of the time that was seen.
    DueAsSeen,
    /// Somebody looks for batches that nobody works on.
    Sweeper,
}

struct Batches {
    lines: usize,
    submissions: u8,
    wishes: u8,
    deaths: u8,
    late: u8,
    off: &'static [Guard],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Line {
    Nothing,
    Live,
    Settled(bool),
}

/// What a process was about to do by what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Write {
    seen: Batch,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    /// So many lines become jobs.
    Make(u32),
    End(BatchEnding),
    Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    balance: [u64; 4],
    batch: Option<Batch>,
    lines: [Line; LINES],
    /// What was given back for it.
    entries: u8,
    /// Submitted, and the message not sent yet.
    to_send: bool,
    messages: u8,
    makers: [Option<Write>; MAKERS],
    owner: Option<Write>,
    sweeper: Option<Write>,
    /// A write that its process has given up, and that is done all the same.
    late: Option<Write>,
    submissions: u8,
    wishes: u8,
    deaths: u8,
    lates: u8,
    is_overdue: bool,
    faults: [bool; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Submit,
    Send,
    /// The message is lost.
    Lose,
    Receive(usize),
    Make(usize),
    Dies(usize),
    /// It gives the write up, and the store does it later.
    GiveUp(usize),
    Late,
    Wish,
    End,
    Overdue,
    Sweep,
    SweepWrite,
    Settle(usize, bool),
}

impl Batches {
    fn new(off: &'static [Guard]) -> Self {
        let lines = if is_deep() { 3 } else { 2 };
        Self { lines, submissions: 2, wishes: 2, deaths: 1, late: 1, off }
    }

    fn is_off(&self, guard: Guard) -> bool {
        self.off.contains(&guard)
    }

    fn new_batch(&self) -> Batch {
        let lines = u32::try_from(self.lines).unwrap();
        Batch::submitted(lines, COST * self.lines as u64, tick(0))
    }

    fn submit(&self, world: &mut World) {
        world.submissions -= 1;
        let is_there = world.batch.is_some();
        if is_there && !self.is_off(Guard::BatchAbsent) {
            return;
        }
        let Ok(held) = balance(world).hold_batch(COST * self.lines as u64) else { return };
        world.faults[1] |= is_there;
        store(world, held);
        (world.batch, world.to_send) = (Some(self.new_batch()), true);
    }

    /// The batch as a write without its guards finds it.
    fn shown(&self, batch: Batch, write: Write) -> Batch {
        let mut shown = batch;
        let (as_seen, open) = match write.what {
            What::Make(_) => (Guard::MadeAsSeen, Guard::MakeOpen),
            What::End(_) => (Guard::EndAsSeen, Guard::EndOpen),
            What::Mark => (Guard::DueAsSeen, Guard::DueAsSeen),
        };
        if self.is_off(as_seen) {
            (shown.made, shown.remaining) = (write.seen.made, write.seen.remaining);
        }
        let is_mark = matches!(write.what, What::Mark);
        if self.is_off(open) && (is_mark || !matches!(shown.stage, BatchStage::Open { .. })) {
            (shown.stage, shown.remaining) = (write.seen.stage, write.seen.remaining);
        }
        shown
    }

    /// The transaction: whether it was done.
    fn write(&self, world: &mut World, write: Write) -> Result<(), BatchRejection> {
        let Some(batch) = world.batch else { return Err(BatchRejection::NotOpen) };
        let seen = write.seen;
        let command = match write.what {
            What::Make(jobs) => BatchCommand::Make {
                made_seen: seen.made,
                jobs,
                tokens: COST * u64::from(jobs),
                due_at: tick(0),
            },
            What::End(ending) => BatchCommand::End { made_seen: seen.made, tokens: seen.remaining, ending },
            What::Mark => BatchCommand::Mark {
                due_at_seen: seen.due_at().ok_or(BatchRejection::NotOpen)?,
                due_at: tick(1),
            },
        };
        let mut next = apply(&self.shown(batch, write), &command)?;
        match write.what {
            What::Make(jobs) => {
                let first = seen.made as usize;
                let lines = first..first + jobs as usize;
                let are_absent = world.lines[lines.clone()].iter().all(|line| *line == Line::Nothing);
                if !are_absent && !self.is_off(Guard::JobAbsent) {
                    return Err(BatchRejection::Overtaken);
                }
                world.faults[0] |= !are_absent;
                world.faults[2] |= matches!(batch.stage, BatchStage::Ended(_));
                world.lines[lines].fill(Line::Live);
            }
            What::End(_) => {
                if world.entries > 0 && !self.is_off(Guard::EntryAbsent) {
                    return Err(BatchRejection::NotOpen);
                }
                let Ok(paid) = balance(world).settle_in_batch(seen.remaining, Settlement::Refunded) else {
                    return Err(BatchRejection::NotSoMuch);
                };
                world.entries += 1;
                store(world, paid);
            }
            What::Mark => {
                world.faults[3] |= batch.due_at() != seen.due_at();
                // It writes the time alone.
                (next.made, next.remaining) = (batch.made, batch.remaining);
            }
        }
        world.batch = Some(next);
        Ok(())
    }

    /// A maker goes on with what it finds, or is done.
    fn look(world: &World) -> Option<Write> {
        let seen = world.batch?;
        if !matches!(seen.stage, BatchStage::Open { .. }) {
            return None;
        }
        let what = if world.is_overdue { What::End(BatchEnding::Expired) } else { What::Make(1) };
        Some(Write { seen, what })
    }
}

fn balance(world: &World) -> Balance {
    let [available, held, spent, granted] = world.balance;
    Balance { available, held, spent, granted, inflight: 0 }
}

fn store(world: &mut World, balance: Balance) {
    let Balance { available, held, spent, granted, .. } = balance;
    world.balance = [available, held, spent, granted];
}

impl Model for Batches {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let granted = 2 * COST * self.lines as u64;
        vec![World {
            balance: [granted, 0, 0, granted],
            batch: None,
            lines: [Line::Nothing; LINES],
            entries: 0,
            to_send: false,
            messages: 0,
            makers: [None; MAKERS],
            owner: None,
            sweeper: None,
            late: None,
            submissions: self.submissions,
            wishes: self.wishes,
            deaths: self.deaths,
            lates: self.late,
            is_overdue: false,
            faults: [false; 4],
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let is_open = world.batch.is_some_and(|batch| batch.due_at().is_some());
        let mut may = |is: bool, step: Step| {
            if is {
                steps.push(step);
            }
        };
        may(world.submissions > 0, Step::Submit);
        may(world.to_send, Step::Send);
        may(world.to_send || world.messages > 0, Step::Lose);
        for (at, maker) in world.makers.iter().enumerate() {
            may(maker.is_none() && world.messages > 0, Step::Receive(at));
            may(maker.is_some(), Step::Make(at));
            may(maker.is_some() && world.deaths > 0, Step::Dies(at));
            may(maker.is_some() && world.lates > 0, Step::GiveUp(at));
        }
        may(world.late.is_some(), Step::Late);
        may(is_open && world.wishes > 0 && world.owner.is_none(), Step::Wish);
        may(world.owner.is_some(), Step::End);
        may(is_open && !world.is_overdue, Step::Overdue);
        let sweeps = !self.is_off(Guard::Sweeper);
        may(sweeps && is_open && world.messages == 0 && world.sweeper.is_none(), Step::Sweep);
        may(world.sweeper.is_some(), Step::SweepWrite);
        for (at, line) in world.lines.iter().enumerate() {
            may(*line == Line::Live, Step::Settle(at, true));
            may(*line == Line::Live, Step::Settle(at, false));
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = *world;
        match step {
            Step::Submit => self.submit(&mut next),
            Step::Send => (next.to_send, next.messages) = (false, world.messages + 1),
            Step::Lose if world.to_send => next.to_send = false,
            Step::Lose => next.messages -= 1,
            Step::Receive(at) => {
                // A message can come twice.
                next.messages -= u8::from(world.makers.iter().any(Option::is_some) || world.batch.is_none());
                next.makers[at] = Self::look(world);
                if next.makers[at].is_none() {
                    next.messages = 0;
                }
            }
            Step::Make(at) => {
                let write = world.makers[at]?;
                // Done or overtaken, it looks again.
                self.write(&mut next, write).ok();
                next.makers[at] = Self::look(&next);
            }
            Step::Dies(at) => (next.deaths, next.makers[at]) = (world.deaths - 1, None),
            Step::GiveUp(at) => {
                (next.lates, next.late) = (world.lates - 1, world.makers[at]);
                next.makers[at] = Self::look(world);
            }
            Step::Late => {
                self.write(&mut next, world.late?).ok();
                next.late = None;
            }
            Step::Wish => {
                next.wishes -= 1;
                next.owner = world.batch.map(|seen| Write { seen, what: What::End(BatchEnding::Cancelled) });
            }
            Step::End => {
                let done = self.write(&mut next, world.owner?);
                let again = || Some(Write { seen: next.batch?, ..world.owner? });
                next.owner = if done == Err(BatchRejection::Overtaken) { again() } else { None };
            }
            Step::Overdue => next.is_overdue = true,
            Step::Sweep => next.sweeper = world.batch.map(|seen| Write { seen, what: What::Mark }),
            Step::SweepWrite => {
                let done = self.write(&mut next, world.sweeper?);
                next.messages += u8::from(done.is_ok());
                next.sweeper = None;
            }
            Step::Settle(at, is_drawn) => {
                let settlement = if is_drawn { Settlement::Captured } else { Settlement::Refunded };
                let settled = balance(world).settle_in_batch(COST, settlement).ok()?;
                store(&mut next, settled);
                next.lines[at] = Line::Settled(is_drawn);
            }
        }
        next.makers.sort_unstable_by_key(|maker| maker.map(|write| (write.seen.made, write.seen.remaining)));
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(MONEY, |_, world: &World| {
                let live = world.lines.iter().filter(|line| **line == Line::Live).count() as u64;
                let remaining = world.batch.map_or(0, |batch| batch.remaining);
                balance(world).is_balanced() && world.balance[1] == COST * live + remaining
            }),
            Property::always(ONE_JOB, |_, world: &World| !world.faults[0]),
            Property::always(ONE_BATCH, |_, world: &World| !world.faults[1]),
            Property::always(ENDED_STAYS, |_, world: &World| !world.faults[2]),
            Property::always(MARKED, |_, world: &World| !world.faults[3]),
            Property::sometimes("every line is a job", |_, world: &World| is(world, BatchStage::Made)),
            Property::sometimes("its owner ends one in the middle", |_, world: &World| {
                is(world, BatchStage::Ended(BatchEnding::Cancelled)) && world.lines[0] != Line::Nothing
            }),
            Property::sometimes("it ends with its time", |_, world: &World| {
                is(world, BatchStage::Ended(BatchEnding::Expired))
            }),
        ]
    }
}

fn is(world: &World, stage: BatchStage) -> bool {
    world.batch.is_some_and(|batch| batch.stage == stage)
}

#[test]
fn nothing_goes_wrong_with_a_batch() {
    assert_eq!(holds("batch", Batches::new(&[])).found, 3, "a search comes by all of it");
}

/// Whatever happened: nobody else dies, no message is lost and no owner helps.
fn stranded(name: &str, off: &'static [Guard]) -> usize {
    let is_over = |world: &World| {
        world.batch.is_none_or(|batch| batch.due_at().is_none()) && !world.lines.contains(&Line::Live)
    };
    let goes_on = |_: &World, step: &Step| {
        matches!(step, Step::Receive(_) | Step::Make(_) | Step::Sweep | Step::SweepWrite | Step::Settle(..))
    };
    tells(name, &reach(&Batches::new(off), |_| true, is_over, goes_on))
}

#[test]
fn a_batch_can_be_over_from_every_state() {
    assert_eq!(stranded("batch is over", &[]), 0);
    assert!(stranded("batch without a sweeper", &[Guard::Sweeper]) > 0);
}

fn without(name: &str, off: &'static [Guard], expected: Option<&str>) {
    let found = breaks(name, || Batches::new(off));
    assert_eq!(found.map(|(property, _)| property), expected, "{name}");
}

#[test]
fn batch_submission() {
    without("batch absent", &[Guard::BatchAbsent], Some(ONE_BATCH));
}

/// The jobs' own conditions stand behind it.
#[test]
fn batch_make_as_seen() {
    without("batch made as seen", &[Guard::MadeAsSeen], None);
    without("batch made as seen and job absent", &[Guard::MadeAsSeen, Guard::JobAbsent], Some(ONE_JOB));
    without("batch job absent", &[Guard::JobAbsent], None);
}

#[test]
fn batch_make_open() {
    without("batch make open", &[Guard::MakeOpen], Some(MONEY));
}

#[test]
fn batch_end_as_seen() {
    without("batch end as seen", &[Guard::EndAsSeen], Some(MONEY));
}

/// The entry's key stands behind it.
#[test]
fn batch_end_open() {
    without("batch end open", &[Guard::EndOpen], None);
    without("batch end open and entry", &[Guard::EndOpen, Guard::EntryAbsent], Some(MONEY));
    without("batch entry absent", &[Guard::EntryAbsent], None);
}

#[test]
fn batch_due_as_seen() {
    without("batch due as seen", &[Guard::DueAsSeen], Some(MARKED));
}
