//! What the seed decides.

use std::time::Duration;

use fastrand::Rng;

/// What a user wants with one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// After the wish before.
    pub(crate) pause: Duration,
    pub(crate) aspect_ratio: &'static str,
    /// How often the submission is tried until it is answered for good.
    pub(crate) tries: u32,
    /// Whether it is sent twice at once.
    pub(crate) twice: bool,
    /// Whether its key is used for something else afterwards.
    pub(crate) misuses_key: bool,
    /// When it is cancelled, after it was taken.
    pub(crate) cancel_after: Option<Duration>,
    /// When it is looked at, each after the look before.
    pub(crate) looks: Vec<Duration>,
}

/// A function's processes die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blow {
    /// After the one before.
    pub(crate) pause: Duration,
    pub(crate) function: &'static str,
    pub(crate) aim: Aim,
}

/// Which of its processes, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// This one, counted round, whatever it does.
    One(usize),
    /// All of them, so long after the next sign that one is in the middle of something.
    AtWork(Duration),
}

const ASPECT_RATIOS: [&str; 5] = ["1:1", "16:9", "9:16", "4:3", "3:4"];
/// A patient client's tries: more than any process is away for.
const TRIES: u32 = 60;
/// Workers die most: they have most to lose.
const VICTIMS: [&str; 10] =
    ["worker", "worker", "worker", "worker", "submit", "submit", "submit", "api", "api", "sweeper"];

/// What a user wants with its nth job.
pub(crate) fn wish(seed: u64, user: &str, number: u32) -> Wish {
    let mut rng = rng(seed, &format!("{user} {number}"));
    Wish {
        pause: milliseconds(&mut rng, 0..2_000),
        aspect_ratio: rng.choice(ASPECT_RATIOS).unwrap_or("1:1"),
        tries: if rng.u32(..10) == 0 { 1 } else { TRIES },
        twice: rng.u32(..10) == 0,
        misuses_key: rng.u32(..20) == 0,
        cancel_after: (rng.u32(..5) == 0).then(|| milliseconds(&mut rng, 0..1_500)),
        looks: (0..rng.u32(..4)).map(|_| milliseconds(&mut rng, 100..3_000)).collect(),
    }
}

/// Which processes die, without end.
pub(crate) fn blows(seed: u64) -> impl Iterator<Item = Blow> {
    let mut rng = rng(seed, "blows");
    std::iter::repeat_with(move || Blow {
        pause: milliseconds(&mut rng, 50..800),
        function: rng.choice(VICTIMS).unwrap_or("worker"),
        aim: if rng.bool() {
            Aim::AtWork(Duration::from_micros(rng.u64(..8_000)))
        } else {
            Aim::One(rng.usize(..100))
        },
    })
}

fn milliseconds(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// Numbers of their own for each purpose, so that none depends on how often another was asked.
fn rng(seed: u64, purpose: &str) -> Rng {
    // FNV-1a: short, and stable over versions of the compiler.
    let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Rng::with_seed(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_same_again_and_another_seed_does_not() {
        let decided = |seed: u64| {
            let wishes: Vec<_> = (0..50).map(|number| wish(seed, "user1", number)).collect();
            (wishes, blows(seed).take(50).collect::<Vec<_>>())
        };
        assert_eq!(decided(1), decided(1));
        assert_ne!(decided(1), decided(2));
        assert_ne!(wish(1, "user1", 11), wish(1, "user11", 1));
    }
}
