//! What may happen to a call, and which calls it happens to.

use std::time::Duration;

use darkroom_aws::random_fraction;

/// Longer than any lease: what is done then is done by nobody who still holds anything.
pub(crate) const LATE: Duration = Duration::from_secs(250);

/// What may happen to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process dies before it is sent.
    KilledBefore,
    /// It is done; the process dies before the answer.
    KilledAfter,
    /// The connection breaks before it is sent.
    Dropped,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It is refused for its rate.
    Throttled,
    /// The store fails.
    Failed,
    /// Another transaction writes the same item.
    Conflict,
    /// It hangs, and is done when every lease is over. A provider's call is done at once and never answered.
    Late,
    /// A message is delivered, and a copy of it some time later.
    Doubled,
    /// A message comes when every lease is over.
    Delayed,
    /// A message never comes.
    Lost,
}

/// What kind of call a fault may stand before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A read of a store, or a write that meets no other.
    Call,
    /// A write of a table.
    Write,
    /// A provider's call, which nobody repeats.
    Provider,
    /// The delivery of a message.
    Delivery,
}

impl Kind {
    /// What such a call can meet.
    pub(crate) const fn faults(self) -> &'static [Fault] {
        use Fault::{
            AnswerLost, Conflict, Delayed, Doubled, Dropped, Failed, KilledAfter, KilledBefore, Late, Lost,
            Throttled,
        };
        match self {
            Self::Write => {
                &[KilledBefore, KilledAfter, Dropped, AnswerLost, Throttled, Failed, Late, Conflict]
            }
            Self::Call | Self::Provider => {
                &[KilledBefore, KilledAfter, Dropped, AnswerLost, Throttled, Failed, Late]
            }
            Self::Delivery => &[Doubled, Delayed, Lost],
        }
    }

    /// Whether the SDK tries a call again that has met it.
    pub(crate) const fn is_tried_again(self, fault: Fault) -> bool {
        use Fault::{AnswerLost, Dropped, Failed, Late, Throttled};
        matches!(self, Self::Call | Self::Write)
            && matches!(fault, Dropped | AnswerLost | Throttled | Failed | Late)
    }
}

/// A fault that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The number of the call that meets it.
    pub at: usize,
    /// What it meets.
    pub fault: Fault,
    /// Whether the SDK's further tries of the call meet it too: then the handler hears of it.
    pub in_all_tries: bool,
}

/// Which calls meet a fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// These.
    At(Vec<Planned>),
    /// Any, with this probability, until the run has lasted so long.
    Random {
        /// 0 to 1.
        probability: f64,
        /// From the run's start.
        until: Duration,
    },
}

impl Plan {
    /// No fault.
    pub const NONE: Self = Self::At(Vec::new());

    pub(crate) fn fault(&self, at: usize, run: Duration, kind: Kind) -> Option<Planned> {
        match self {
            Self::At(planned) => planned
                .iter()
                .find(|planned| planned.at == at)
                .copied()
                .filter(|planned| kind.faults().contains(&planned.fault)),
            Self::Random { probability, until } => {
                let is_met = run < *until && random_fraction() < *probability;
                let (which, in_all_tries) = (random_fraction(), random_fraction() < 0.3);
                let share = 1.0 / kind.faults().len() as f64;
                let mut faults = (1_u32..).zip(kind.faults());
                let drawn = faults.find(|(number, _)| which < share * f64::from(*number));
                drawn.filter(|_| is_met).map(|(_, fault)| Planned { at, fault: *fault, in_all_tries })
            }
        }
    }
}
