//! Values of which a search meets few and each very often: kept once, told apart by where they are kept.

use std::collections::HashMap;
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{LazyLock, Mutex};

use darkroom_core::breaker::Breaker;
use darkroom_core::job::{Job, Stage};
use darkroom_core::lifecycle::Command;

use crate::common::{Shown, at, failure, stamp};

/// A value that is kept until the program ends. Two of the same value are the same.
pub(crate) struct Known<T: 'static>(&'static T);

/// Every value so far, by the hash of what `Debug` shows of it: all that two of them can differ in.
type Table<T> = LazyLock<Mutex<HashMap<u64, &'static T>>>;

static JOBS: Table<Shown> = LazyLock::new(Mutex::default);
static COMMANDS: Table<Command> = LazyLock::new(Mutex::default);
static BREAKERS: Table<Breaker> = LazyLock::new(Mutex::default);

impl Known<Shown> {
    /// A job without what bears on no decision here: stamp, version, the moments that are only told to people, and
    /// how it failed.
    pub(crate) fn job(mut job: Job) -> Self {
        (job.version, job.op, job.started_at, job.last_failure) = (0, stamp(0), None, None);
        match &mut job.stage {
            Stage::Pending(pending) => pending.wait_at = at(0),
            Stage::Processing(processing) => processing.claimed_at = at(0),
            Stage::Settled(settled) => (settled.finished_at, settled.expires_at) = (at(0), at(0)),
        }
        kept(&JOBS, Shown(job))
    }
}

impl Known<Command> {
    pub(crate) fn command(mut command: Command) -> Self {
        use darkroom_core::lifecycle::Ending;
        if let Command::EndHeld { ending, end, .. } | Command::EndAsSeen { ending, end, .. } = &mut command {
            *end = crate::common::end(at(0));
            if let Ending::Failed(why) = ending {
                *why = failure();
            }
        }
        kept(&COMMANDS, command)
    }
}

impl Known<Breaker> {
    pub(crate) fn breaker(breaker: Breaker) -> Self {
        kept(&BREAKERS, breaker)
    }
}

fn kept<T: Debug>(table: &Table<T>, value: T) -> Known<T> {
    let mut hash = Hashed(DefaultHasher::new());
    write!(hash, "{value:?}").unwrap();
    let mut table = table.lock().unwrap();
    Known(table.entry(hash.0.finish()).or_insert_with(|| Box::leak(Box::new(value))))
}

/// Takes the hash of a text that is never put together.
struct Hashed(DefaultHasher);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl<T> Known<T> {
    fn address(self) -> usize {
        std::ptr::from_ref(self.0).addr()
    }
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Known<T> {}

impl<T> PartialEq for Known<T> {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl<T> Eq for Known<T> {}

impl<T> Hash for Known<T> {
    fn hash<H: Hasher>(&self, hash: &mut H) {
        self.address().hash(hash);
    }
}

/// Some order, the same for one run.
impl<T> PartialOrd for Known<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Known<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.address().cmp(&other.address())
    }
}

impl<T: Debug> Debug for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Deref for Known<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0
    }
}
