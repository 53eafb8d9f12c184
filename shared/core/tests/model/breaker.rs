//! A fleet and the one record of its breaker: workers with old copies, writes that name the version they saw, results that
//! come late, and a death at any moment.

use darkroom_core::breaker::{Breaker, Event, Gate, Pass, Rules, State};
use darkroom_core::time::Timestamp;
use stateright::{Model, Property};

use crate::common::stamp;
use crate::known::Known;
use crate::reach::reach;
use crate::report::{breaks, holds, is_deep, tells};
use crate::world::tick;

const WORKERS: usize = 3;
const RULES: Rules = Rules {
    failures: 2,
    open: seconds_of(1),
    open_max: seconds_of(2),
    exhausted_rounds: 2,
    probe: seconds_of(1),
};
const JITTER: f64 = 1.0;

const fn seconds_of(ticks: u64) -> std::time::Duration {
    std::time::Duration::from_secs(60 * ticks)
}

pub(crate) const ONE_PROBE: &str = "I10: one probe of an epoch";
pub(crate) const LATE_IS_NOTHING: &str = "what an older epoch learnt changes nothing";
pub(crate) const NOT_EARLY: &str = "no probe before its time";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// A result names the epoch that let its call through.
    Epoch,
    /// It names the probe.
    Probe,
    /// A write names the version that it saw.
    Version,
    /// Who loses the write does not call.
    Winner,
    /// Open for its time.
    OpenUntil,
    /// Nobody takes a probe over before its time.
    ProbeUntil,
    /// Somebody may, after it.
    TakeOver,
}

struct Fleet {
    workers: usize,
    /// Calls of a closed breaker, deaths, and moments.
    calls: u8,
    deaths: u8,
    ticks: u64,
    off: &'static [Guard],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    now: u64,
    record: Known<Breaker>,
    workers: [Worker; WORKERS],
    probes: u8,
    calls: u8,
    deaths: u8,
    /// Epochs that had a probe.
    probed: u32,
    faults: [bool; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Worker {
    copy: Known<Breaker>,
    doing: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Doing {
    Nothing,
    Calling(Way),
    Writing(Told, Known<Breaker>),
}

/// A pass, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Way {
    epoch: u64,
    probe: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Told {
    Probe(u8),
    Answered(Way),
    Failed(Way),
    NotReached(Way),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Tick,
    Read(usize),
    Enter(usize),
    Answered(usize),
    Failed(usize),
    NotReached(usize),
    Write(usize),
    Dies(usize),
}

impl Fleet {
    fn new(off: &'static [Guard]) -> Self {
        let (workers, ticks) = if is_deep() { (3, 5) } else { (2, 5) };
        Self { workers, calls: 2, deaths: 1, ticks, off }
    }

    fn has(&self, guard: Guard) -> bool {
        self.off.contains(&guard)
    }

    /// The copy as a decision to probe looks at it.
    fn looked_at(&self, copy: &Breaker, now: Timestamp) -> Breaker {
        let mut copy = copy.clone();
        match &mut copy.state {
            State::Open { until, .. } if self.has(Guard::OpenUntil) => *until = now.min(*until),
            State::HalfOpen { until, .. } if self.has(Guard::ProbeUntil) => *until = now.min(*until),
            State::HalfOpen { until, .. } if self.has(Guard::TakeOver) => *until = tick(1_000),
            _ => {}
        }
        copy
    }

    fn after(&self, copy: Known<Breaker>, told: Told, now: Timestamp) -> Option<Known<Breaker>> {
        let pass = |way: Way| {
            let epoch = if self.has(Guard::Epoch) { copy.epoch } else { way.epoch };
            let probe = match &copy.state {
                State::HalfOpen { probe, .. } if self.has(Guard::Probe) => Some(probe.clone()),
                _ => way.probe.map(stamp),
            };
            Pass { epoch, probe }
        };
        let event = match told {
            Told::Probe(probe) => Event::Probe(stamp(probe)),
            Told::Answered(way) => Event::Answered(pass(way)),
            Told::Failed(way) => Event::Failed { pass: pass(way), answered_at: Timestamp::EPOCH },
            Told::NotReached(way) => Event::NotReached { pass: pass(way), until: now },
        };
        let seen = self.looked_at(&copy, now);
        seen.after(&event, now, &RULES, JITTER).map(Known::breaker)
    }

    /// Decides on a write by the copy; nothing when it would change nothing.
    fn tell(&self, world: &mut World, worker: usize, told: Told) {
        let copy = world.workers[worker].copy;
        let next = self.after(copy, told, tick(world.now));
        world.workers[worker].doing = match (next, told) {
            (Some(next), told) => Doing::Writing(told, next),
            (None, Told::Probe(probe)) if self.has(Guard::Winner) => {
                probing(world, Way { epoch: world.record.epoch, probe: Some(probe) })
            }
            (None, _) => Doing::Nothing,
        };
    }

    fn enter(&self, world: &mut World, worker: usize) {
        let copy = world.workers[worker].copy;
        match self.looked_at(&copy, tick(world.now)).gate(tick(world.now)) {
            Gate::Closed => {
                world.calls -= 1;
                world.workers[worker].doing = Doing::Calling(Way { epoch: copy.epoch, probe: None });
            }
            Gate::MayProbe => {
                world.probes += 1;
                self.tell(world, worker, Told::Probe(world.probes));
            }
            Gate::OpenUntil(_) | Gate::Probing(_) => {}
        }
    }

    fn write(&self, world: &mut World, worker: usize) {
        let Doing::Writing(told, next) = world.workers[worker].doing else { unreachable!() };
        let seen = world.workers[worker].copy;
        if world.record.version != seen.version && !self.has(Guard::Version) {
            world.workers[worker].copy = world.record;
            return self.tell(world, worker, told);
        }
        let before = world.record;
        (world.record, world.workers[worker].copy) = (next, next);
        world.workers[worker].doing = match told {
            Told::Probe(probe) => {
                world.faults[2] |= before.gate(tick(world.now)) != Gate::MayProbe;
                probing(world, Way { epoch: next.epoch, probe: Some(probe) })
            }
            Told::Answered(way) | Told::Failed(way) | Told::NotReached(way) => {
                let is_its = match &before.state {
                    State::HalfOpen { probe, .. } => way.probe.map(stamp).as_ref() == Some(probe),
                    State::Open { .. } | State::Closed { .. } => true,
                };
                world.faults[1] |= way.epoch != before.epoch || !is_its;
                Doing::Nothing
            }
        };
    }
}

/// The probe's call.
fn probing(world: &mut World, way: Way) -> Doing {
    let epoch = 1 << way.epoch;
    world.faults[0] |= world.probed & epoch != 0;
    world.probed |= epoch;
    Doing::Calling(way)
}

impl Model for Fleet {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let record = Known::breaker(Breaker::default());
        vec![World {
            now: 0,
            record,
            workers: [Worker { copy: record, doing: Doing::Nothing }; WORKERS],
            probes: 0,
            calls: self.calls,
            deaths: self.deaths,
            probed: 0,
            faults: [false; 3],
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.now < self.ticks {
            steps.push(Step::Tick);
        }
        for (at, worker) in world.workers.iter().enumerate().take(self.workers) {
            match worker.doing {
                Doing::Nothing => {
                    if worker.copy != world.record {
                        steps.push(Step::Read(at));
                    }
                    match self.looked_at(&worker.copy, tick(world.now)).gate(tick(world.now)) {
                        Gate::Closed if world.calls > 0 => steps.push(Step::Enter(at)),
                        Gate::MayProbe => steps.push(Step::Enter(at)),
                        _ => {}
                    }
                }
                Doing::Calling(way) => {
                    steps.extend([Step::Answered(at), Step::Failed(at)]);
                    if way.probe.is_some() && world.probes < 3 {
                        steps.push(Step::NotReached(at));
                    }
                }
                Doing::Writing(..) => steps.push(Step::Write(at)),
            }
            if world.deaths > 0 && worker.doing != Doing::Nothing {
                steps.push(Step::Dies(at));
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = *world;
        let way = |worker: usize| match world.workers[worker].doing {
            Doing::Calling(way) => way,
            Doing::Nothing | Doing::Writing(..) => unreachable!(),
        };
        match step {
            Step::Tick => next.now += 1,
            Step::Read(worker) => next.workers[worker].copy = world.record,
            Step::Enter(worker) => self.enter(&mut next, worker),
            Step::Answered(worker) => self.tell(&mut next, worker, Told::Answered(way(worker))),
            Step::Failed(worker) => self.tell(&mut next, worker, Told::Failed(way(worker))),
            Step::NotReached(worker) => self.tell(&mut next, worker, Told::NotReached(way(worker))),
            Step::Write(worker) => self.write(&mut next, worker),
            Step::Dies(worker) => {
                next.deaths -= 1;
                next.workers[worker] = Worker { copy: world.record, doing: Doing::Nothing };
            }
        }
        next.workers[..self.workers].sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_PROBE, |_, world: &World| !world.faults[0]),
            Property::always(LATE_IS_NOTHING, |_, world: &World| !world.faults[1]),
            Property::always(NOT_EARLY, |_, world: &World| !world.faults[2]),
            Property::sometimes("a probe closes it", |_, world: &World| closed_again(world)),
            Property::sometimes("it opens for longer", |_, world: &World| openings(world) > 1),
            Property::sometimes("a dead probe is taken over", |_, world: &World| {
                matches!(world.record.state, State::HalfOpen { .. }) && world.probed.count_ones() > 1
            }),
        ]
    }
}

fn closed_again(world: &World) -> bool {
    matches!(world.record.state, State::Closed { .. }) && world.probed != 0
}

fn openings(world: &World) -> u32 {
    match world.record.state {
        State::Open { openings, .. } | State::HalfOpen { openings, .. } => openings,
        State::Closed { .. } => 0,
    }
}

#[test]
fn nothing_goes_wrong_with_the_breaker() {
    let found = holds("breaker", Fleet::new(&[])).found;
    assert_eq!(found, 3, "a search comes by all of it");
}

/// As long as there is time for a death, the longest opening and a probe.
fn stranded(name: &str, off: &'static [Guard]) -> usize {
    let fleet = Fleet::new(off);
    let late = fleet.ticks - 3;
    let closes = |world: &World| matches!(world.record.state, State::Closed { .. });
    tells(name, &reach(&fleet, |world| world.now <= late, closes, |_, _| true))
}

#[test]
fn a_breaker_can_close_from_every_state() {
    assert_eq!(stranded("breaker closes", &[]), 0);
    assert!(stranded("breaker closes without take-over", &[Guard::TakeOver]) > 0);
}

fn without(name: &str, off: &'static [Guard], expected: Option<&str>) {
    let found = breaks(name, || Fleet::new(off));
    assert_eq!(found.map(|(property, _)| property), expected, "{name}");
}

#[test]
fn breaker_version_as_seen() {
    without("breaker version as seen", &[Guard::Version], Some(ONE_PROBE));
}

#[test]
fn breaker_epoch() {
    without("breaker epoch", &[Guard::Epoch], Some(LATE_IS_NOTHING));
}

/// The epoch rises with each probe, so it tells two of them apart.
#[test]
fn breaker_probe() {
    without("breaker probe", &[Guard::Probe], None);
    without("breaker probe and epoch", &[Guard::Probe, Guard::Epoch], Some(LATE_IS_NOTHING));
}

#[test]
fn breaker_single_winner() {
    without("breaker single winner", &[Guard::Winner], Some(ONE_PROBE));
}

#[test]
fn breaker_open_until() {
    without("breaker open until", &[Guard::OpenUntil], Some(NOT_EARLY));
}

#[test]
fn breaker_probe_until() {
    without("breaker probe until", &[Guard::ProbeUntil], Some(NOT_EARLY));
}
