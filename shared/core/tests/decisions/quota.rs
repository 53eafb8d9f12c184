//! Reservations against a provider that counts arrivals: never over its limits, hardly below them.

use std::time::Duration;

use crate::common::{at, cases, fewer_cases, seconds};
use darkroom_core::id::{ModelName, ProjectName};
use darkroom_core::key::{CoolReason, Scope, ScopeDisabled, ScopeState, Standing};
use darkroom_core::limits::{MARKS_MAX, QUOTA_MINUTE, SLOT_WAIT_MAX};
use darkroom_core::model::ProviderName;
use darkroom_core::quota::{
    Ask, Mark, Reservation, Slots, Usage, guard as guard_of, reserve, state_at, used,
};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

fn scope(per_minute: u32, per_day: Option<u32>) -> Scope {
    Scope {
        provider: ProviderName::Gemini,
        project: ProjectName::parse("p").unwrap(),
        model: ModelName::parse("m").unwrap(),
        requests_per_minute: per_minute,
        requests_per_day: per_day,
        state: ScopeState::Active,
        standing: Standing::Proven,
        usage: Usage::default(),
        version: 1,
    }
}

fn cooling(until: Timestamp) -> ScopeState {
    ScopeState::Cooling { reason: CoolReason::RateLimited, at: at(0), until }
}

fn millis(timestamp: Timestamp) -> u64 {
    timestamp.as_millis()
}

/// How much later than reserved a call may arrive.
fn guard(minute: Duration) -> u64 {
    let guard = guard_of(minute);
    assert!(guard <= minute / 400, "a quarter of a hundredth of the minute at most");
    millis(Timestamp::EPOCH.plus(guard))
}

/// One call.
fn one(now: Timestamp, horizon: Duration, minute: Duration) -> Ask {
    Ask { now, horizon, wanted: 1, minute, trial: seconds(110), promised: 0 }
}

/// Asks at these times, stores what is to be stored, and returns the reserved moments.
fn ask(scope: &mut Scope, asks: &[Timestamp], horizon: Duration, minute: Duration) -> Vec<Timestamp> {
    let mut slots = Vec::new();
    for now in asks {
        match reserve(scope, &one(*now, horizon, minute)) {
            Reservation::Slots(Slots { at, usage, standing }) => {
                assert_eq!((at.len(), standing), (1, Standing::Proven));
                let at = at[0];
                assert!(at >= *now && at <= now.plus(horizon), "a slot outside of the horizon");
                assert!(usage.marks.len() <= MARKS_MAX, "{} blocks", usage.marks.len());
                assert!(usage.marks.windows(2).all(|pair| pair[0].at < pair[1].at), "marks out of order");
                scope.usage = usage;
                slots.push(at);
            }
            Reservation::FreeAt(free) => {
                assert!(free > now.plus(horizon) || scope.requests_per_day.is_some());
            }
            other => panic!("{other:?}"),
        }
    }
    slots
}

/// The provider's own count of any window of a minute: more than it allows, or nothing.
fn over_the_minute(arrivals: &[u64], limit: u32, minute: Duration) -> Option<(u64, u64)> {
    let minute = u64::try_from(minute.as_millis()).unwrap();
    let limit = limit as usize;
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    sorted
        .windows(limit + 1)
        .map(|calls| (calls[0], calls[limit]))
        .find(|(first, last)| last - first < minute)
}

fn over_the_day(arrivals: &[u64], limit: u32) -> Option<String> {
    let mut days: Vec<String> =
        arrivals.iter().map(|arrival| Timestamp::from_millis(*arrival).pacific_day()).collect();
    days.sort_unstable();
    days.chunk_by(|a, b| a == b).find(|calls| calls.len() > limit as usize).map(|calls| calls[0].clone())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Jitters lie in 0..=1.
/// Each call arrives within the guard after its moment; the jitters are drawn in turn.
fn arrivals(slots: &[Timestamp], jitters: &[f64], minute: Duration) -> Vec<u64> {
    let jitter = |index: usize| (guard(minute) as f64 * jitters[index % jitters.len()]) as u64;
    slots.iter().enumerate().map(|(index, slot)| millis(*slot) + jitter(index)).collect()
}

/// What an exact sliding window without guard or blocks would have granted to the same asks, until `until`.
fn ideal(asks: &[Timestamp], limit: u32, horizon: Duration, minute: Duration, until: Timestamp) -> usize {
    let mut slots: Vec<Timestamp> = Vec::new();
    for now in asks {
        let free = slots.len().checked_sub(limit as usize).map(|first| slots[first].plus(minute));
        let slot = free.unwrap_or_default().max(*now).max(slots.last().copied().unwrap_or_default());
        if slot <= now.plus(horizon) {
            slots.push(slot);
        }
    }
    slots.iter().filter(|slot| **slot < until).count()
}

/// A steady sequence of draws in 0..1: the same ones in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const MINUTES: u64 = 6;

/// Ways in which calls may be asked for over six minutes, with the mean number of asks in a minute.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Small and never negative.
fn patterns(limit: u32) -> Vec<(&'static str, Vec<Timestamp>)> {
    let moment = |millis: f64| Timestamp::from_millis(at(0).as_millis() + millis as u64);
    let even = |per_minute: f64| {
        let count = (per_minute * MINUTES as f64) as u64;
        (0..count).map(|index| moment(index as f64 * 60_000.0 / per_minute)).collect()
    };
    let random = |per_minute: f64, seed: u64| {
        let mut draws = Draws(seed);
        let mut time = 0.0;
        let mut asks = Vec::new();
        while time < MINUTES as f64 * 60_000.0 {
            time -= (1.0 - draws.next()).ln() * 60_000.0 / per_minute;
            asks.push(moment(time));
        }
        asks
    };
    let limit = f64::from(limit);
    let bursts = (0..MINUTES * 12)
        .flat_map(|burst| std::iter::repeat_n(moment(burst as f64 * 5_000.0), (limit / 8.0).ceil() as usize));
    // An even pace first, which fills the blocks, then all at once, as after a breaker has closed.
    let mut turning: Vec<Timestamp> = even(limit);
    turning.truncate(turning.len() / 2);
    let half = MINUTES as f64 * 30_000.0;
    turning.extend((0..MINUTES * 60).flat_map(|step| {
        std::iter::repeat_n(moment(half + step as f64 * 500.0), (limit / 40.0).ceil() as usize)
    }));
    vec![
        ("an even pace at the limit", even(limit)),
        ("an even pace above it", even(limit * 1.3)),
        ("at random, as much as allowed", random(limit, 1)),
        ("at random, three times as much", random(limit * 3.0, 2)),
        ("in bursts", bursts.collect()),
        ("an even pace, then a crowd", turning),
    ]
}

#[test]
fn no_pattern_of_use_exceeds_the_minute_or_loses_a_hundredth_of_it() {
    let jitters: Vec<f64> = (0..97_u32).map(|n| f64::from(n * 37 % 97) / 96.0).collect();
    let until = at(MINUTES * 60);
    let mut worst = (1.0, String::new());
    for limit in (1..=200).rev() {
        for (name, asks) in patterns(limit) {
            let mut scope = scope(limit, None);
            let slots = ask(&mut scope, &asks, SLOT_WAIT_MAX, QUOTA_MINUTE);
            let over = over_the_minute(&arrivals(&slots, &jitters, QUOTA_MINUTE), limit, QUOTA_MINUTE);
            assert_eq!(over, None, "{limit} per minute, {name}");
            let granted = slots.iter().filter(|slot| **slot < until).count();
            let ideal = ideal(&asks, limit, SLOT_WAIT_MAX, QUOTA_MINUTE, until);
            // A whole call more or less is not a rate.
            let share = (granted + 1) as f64 / ideal as f64;
            if share < worst.0 {
                worst = (share, format!("{limit} per minute, {name}: {granted} of {ideal}"));
            }
        }
    }
    assert!(worst.0 >= 0.99, "{}", worst.1);
}

#[test]
fn more_calls_than_blocks_stay_exact_at_their_latest_moments() {
    // 200 calls at an even pace do not fit into 64 blocks one by one. None of the joins may let a call
    // come earlier than an exact window would.
    let asks: Vec<_> = (0..600_u64).map(|n| Timestamp::from_millis(at(0).as_millis() + n * 300)).collect();
    let mut scope = scope(200, None);
    let slots = ask(&mut scope, &asks, Duration::MAX, QUOTA_MINUTE);
    assert_eq!(slots.len(), asks.len());
    for (first, later) in slots.iter().zip(&slots[200..]) {
        let apart = later.since(*first);
        assert!(apart >= Duration::from_millis(60_150), "{apart:?}");
    }
    assert!(scope.usage.marks.len() > MARKS_MAX / 2, "blocks are used");
}

#[test]
fn a_full_minute_is_free_again_a_minute_and_a_guard_after_its_first_call() {
    let mut scope = scope(2, None);
    assert_eq!(ask(&mut scope, &[at(0), at(10)], Duration::ZERO, QUOTA_MINUTE), [at(0), at(10)]);
    let free = Timestamp::from_millis(at(60).as_millis() + 150);
    assert_eq!(reserve(&scope, &one(at(11), seconds(20), QUOTA_MINUTE)), Reservation::FreeAt(free));
    // Within the horizon it is given out at once, for its moment, and the next one follows ten seconds later.
    let Reservation::Slots(Slots { at: slots, usage, .. }) =
        reserve(&scope, &one(at(50), seconds(20), QUOTA_MINUTE))
    else {
        panic!("no slot");
    };
    assert_eq!(slots, [free]);
    scope.usage = usage;
    assert_eq!(
        reserve(&scope, &one(at(50), seconds(20), QUOTA_MINUTE)),
        Reservation::FreeAt(Timestamp::from_millis(at(70).as_millis() + 150))
    );
}

#[test]
fn the_horizon_is_inclusive() {
    let mut scope = scope(1, None);
    ask(&mut scope, &[at(0)], Duration::ZERO, QUOTA_MINUTE);
    let now = Timestamp::from_millis(at(40).as_millis() + 150);
    assert!(matches!(reserve(&scope, &one(now, seconds(20), QUOTA_MINUTE)), Reservation::Slots(_)));
    assert!(matches!(reserve(&scope, &one(at(40), seconds(20), QUOTA_MINUTE)), Reservation::FreeAt(_)));
}

#[test]
fn a_clock_that_is_behind_does_not_overtake_what_is_reserved() {
    let mut scope = scope(5, None);
    ask(&mut scope, &[at(10)], Duration::ZERO, QUOTA_MINUTE);
    assert_eq!(ask(&mut scope, &[at(3)], seconds(20), QUOTA_MINUTE), [at(10)]);
    assert_eq!(scope.usage.marks, [Mark { at: at(10), count: 2 }]);
}

#[test]
fn marks_of_a_longer_minute_stay_in_order() {
    // The operator shortened the minute; this clock is behind the one that made the last mark.
    let marks = [0, 100].map(|time| Mark { at: at(time), count: 1 });
    let mut scope = scope(2, None);
    scope.usage.marks = marks.to_vec();
    assert_eq!(ask(&mut scope, &[at(95)], seconds(20), seconds(10)), [at(100)]);
}

#[test]
fn a_cooling_scope_is_free_when_it_has_cooled() {
    let mut scope = Scope { state: cooling(at(30)), ..scope(5, None) };
    assert_eq!(reserve(&scope, &one(at(0), seconds(20), QUOTA_MINUTE)), Reservation::FreeAt(at(30)));
    assert_eq!(ask(&mut scope, &[at(10)], seconds(20), QUOTA_MINUTE), [at(30)]);
    assert_eq!(ask(&mut scope, &[at(40)], seconds(20), QUOTA_MINUTE), [at(40)]);
    assert_eq!(state_at(scope.state, at(29)), scope.state);
    assert_eq!(state_at(scope.state, at(30)), ScopeState::Active);
}

#[test]
fn what_a_person_must_clear_is_never_free() {
    let disabled = ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: at(0) };
    assert_eq!(state_at(disabled, at(1_000_000)), disabled);
    for scope in [Scope { state: disabled, ..scope(5, None) }, scope(0, None), scope(5, Some(0))] {
        assert_eq!(reserve(&scope, &one(at(1_000_000), seconds(20), QUOTA_MINUTE)), Reservation::Disabled);
    }
}

#[test]
fn the_day_is_used_up_until_midnight_in_los_angeles() {
    let mut scope = scope(10, Some(2));
    assert_eq!(ask(&mut scope, &[at(0), at(1), at(2)], Duration::ZERO, QUOTA_MINUTE), [at(0), at(1)]);
    let midnight = at(0).next_pacific_midnight();
    assert_eq!(reserve(&scope, &one(at(3), seconds(20), QUOTA_MINUTE)), Reservation::FreeAt(midnight));
    assert_eq!((scope.usage.day.as_str(), scope.usage.day_count), ("2026-11-22", 2));
    ask(&mut scope, &[midnight], Duration::ZERO, QUOTA_MINUTE);
    assert_eq!((scope.usage.day.as_str(), scope.usage.day_count), ("2026-11-23", 1));
}

#[test]
fn a_call_that_may_arrive_after_midnight_is_made_after_midnight() {
    // Counted on one day and arriving on the next, it would be one more than the next day allows.
    let midnight = at(0).next_pacific_midnight();
    let mut scope = scope(10, Some(3));
    let last = Timestamp::from_millis(millis(midnight) - 151);
    let late = Timestamp::from_millis(millis(midnight) - 150);
    assert_eq!(ask(&mut scope, &[last, late], seconds(20), QUOTA_MINUTE), [last, midnight]);
    assert_eq!((scope.usage.day.as_str(), scope.usage.day_count), ("2026-11-23", 1));
    // A day that is used up is free at the next one's beginning, not a day later.
    let mut full = Scope { usage: Usage::default(), ..scope };
    ask(&mut full, &[at(0), at(1), at(2)], Duration::ZERO, QUOTA_MINUTE);
    assert!(
        matches!(reserve(&full, &one(late, seconds(20), QUOTA_MINUTE)), Reservation::Slots(Slots { at, .. }) if at == [midnight])
    );
    assert_eq!(reserve(&full, &one(late, Duration::ZERO, QUOTA_MINUTE)), Reservation::FreeAt(midnight));
}

#[test]
fn used_counts_the_minute_before_now_and_the_day_of_now() {
    let marks = [(0, 1), (30, 2), (60, 4), (70, 8)].map(|(time, count)| Mark { at: at(time), count });
    let usage = Usage { marks: marks.to_vec(), day: "2026-11-22".to_owned(), day_count: 15 };
    assert_eq!(used(&usage, at(60), QUOTA_MINUTE), (6, 15));
    assert_eq!(used(&usage, at(59), QUOTA_MINUTE), (3, 15));
    assert_eq!(used(&usage, at(86_400), QUOTA_MINUTE), (0, 0));
    assert_eq!(used(&Usage::default(), at(0), QUOTA_MINUTE), (0, 0));
}

#[test]
fn days_with_23_and_25_hours_count_once() {
    // 2027-03-14 (spring forward) and 2026-11-01 (fall back) in Los Angeles, by the hour.
    for (day, start, hours) in [("2027-03-14", 1_805_011_200_000, 23), ("2026-11-01", 1_793_516_400_000, 25)]
    {
        let start = Timestamp::from_millis(start);
        assert_eq!(start.pacific_day(), day);
        assert_ne!(start.minus(seconds(1)).pacific_day(), day);
        assert_eq!(start.next_pacific_midnight().since(start), seconds(hours * 3600));
        let mut scope = scope(10, Some(30));
        let asks: Vec<_> = (0..hours).map(|hour| start.plus(seconds(hour * 3600))).collect();
        assert_eq!(ask(&mut scope, &asks, Duration::ZERO, QUOTA_MINUTE).len(), asks.len());
        assert_eq!((scope.usage.day.as_str(), u64::from(scope.usage.day_count)), (day, hours));
        ask(&mut scope, &[start.plus(seconds(hours * 3600))], Duration::ZERO, QUOTA_MINUTE);
        assert_eq!(scope.usage.day_count, 1);
    }
}

/// Asks with pauses that are often nothing, often short and sometimes a minute.
fn ask_times(start: impl Strategy<Value = Timestamp>) -> impl Strategy<Value = Vec<Timestamp>> {
    let pause =
        prop_oneof![3 => Just(0_u64), 4 => 1..2_000_u64, 2 => 2_000..9_000_u64, 1 => 9_000..70_000_u64];
    (start, proptest::collection::vec(pause, 1..60)).prop_map(|(start, pauses)| {
        pauses
            .into_iter()
            .scan(start.as_millis(), |time, pause| {
                *time += pause;
                Some(Timestamp::from_millis(*time))
            })
            .collect()
    })
}

/// A moment within a minute before a midnight in Los Angeles, of any day of three years.
fn before_midnight() -> impl Strategy<Value = Timestamp> {
    (0..1_096_u64, 0..60_000_u64).prop_map(|(day, millis)| {
        at(day * 86_400).next_pacific_midnight().minus(Duration::from_millis(millis))
    })
}

fn jitters() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(prop_oneof![Just(0.0), Just(1.0), 0.0..1.0], 1..20)
}

fn horizons() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(SLOT_WAIT_MAX), (0..120_u64).prop_map(Duration::from_secs)]
}

fn minutes() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => Just(QUOTA_MINUTE), 1 => Just(seconds(10)), 1 => Just(seconds(1))]
}

#[test]
fn a_block_is_what_single_calls_would_have_got() {
    for (limit, wanted, granted) in [(10, 4, 4), (10, 30, 20), (3, 10, 6)] {
        let ask_for = Ask { wanted, ..one(at(0), seconds(61), QUOTA_MINUTE) };
        let Reservation::Slots(block) = reserve(&scope(limit, None), &ask_for) else { panic!("no slots") };
        assert_eq!(block.at.len(), granted);
        let mut single = scope(limit, None);
        let asks = vec![at(0); granted];
        assert_eq!(ask(&mut single, &asks, seconds(61), QUOTA_MINUTE), block.at);
        assert_eq!(single.usage, block.usage);
    }
}

#[test]
fn an_unproven_scope_has_one_call_in_flight() {
    let mut new = Scope { standing: Standing::UNTRIED, ..scope(10, None) };
    let ask_for = |now| Ask { wanted: 10, ..one(now, seconds(20), QUOTA_MINUTE) };
    let Reservation::Slots(first) = reserve(&new, &ask_for(at(0))) else { panic!("no slot") };
    assert_eq!(first.at, [at(0)]);
    assert_eq!(first.standing, Standing::Unproven { trial_until: at(110) });
    (new.usage, new.standing) = (first.usage, first.standing);
    assert_eq!(reserve(&new, &ask_for(at(109))), Reservation::OnTrial(at(110)));
    // Whoever made it has died: somebody else may.
    let Reservation::Slots(second) = reserve(&new, &ask_for(at(110))) else { panic!("no slot") };
    assert_eq!((second.at.len(), second.standing), (1, Standing::Unproven { trial_until: at(220) }));
    new.standing = Standing::Proven;
    let Reservation::Slots(block) = reserve(&new, &ask_for(at(1))) else { panic!("no slots") };
    assert_eq!(block.at.len(), 9, "the first call counts");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_provider_that_counts_arrivals_never_refuses(
        limit in 1..12_u32,
        asks in ask_times(Just(at(0))),
        jitters in jitters(),
        horizon in horizons(),
        minute in minutes(),
    ) {
        let slots = ask(&mut scope(limit, None), &asks, horizon, minute);
        prop_assert_eq!(over_the_minute(&arrivals(&slots, &jitters, minute), limit, minute), None);
        prop_assert!(slots.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}

proptest! {
    #![proptest_config(fewer_cases(5_000))]

    #[test]
    fn no_day_gets_more_than_it_allows(
        limit in 1..12_u32,
        per_day in 1..20_u32,
        asks in ask_times(before_midnight()),
        jitters in jitters(),
        horizon in horizons(),
    ) {
        let slots = ask(&mut scope(limit, Some(per_day)), &asks, horizon, QUOTA_MINUTE);
        let arrivals = arrivals(&slots, &jitters, QUOTA_MINUTE);
        prop_assert_eq!(over_the_minute(&arrivals, limit, QUOTA_MINUTE), None);
        prop_assert_eq!(over_the_day(&arrivals, per_day), None);
    }

    #[test]
    fn the_asked_time_is_free_when_it_comes(
        limit in 1..8_u32,
        per_day in proptest::option::of(1..20_u32),
        asks in ask_times(before_midnight()),
    ) {
        let mut scope = scope(limit, per_day);
        ask(&mut scope, &asks, Duration::ZERO, QUOTA_MINUTE);
        let last = *asks.last().unwrap();
        if let Reservation::FreeAt(free) = reserve(&scope, &one(last, Duration::ZERO, QUOTA_MINUTE)) {
            prop_assert!(free > last);
            let then = reserve(&scope, &one(free, Duration::ZERO, QUOTA_MINUTE));
            prop_assert!(matches!(&then, Reservation::Slots(Slots { at, .. }) if at == &[free]), "{:?}", then);
        }
    }

    #[test]
    fn no_call_goes_uncounted_when_blocks_are_joined(
        limit in 65..400_u32,
        pauses in proptest::collection::vec(0..600_u64, 65..200),
        jitters in jitters(),
    ) {
        let mut time = at(0).as_millis();
        let asks: Vec<_> = pauses.iter().map(|pause| { time += pause; Timestamp::from_millis(time) }).collect();
        let mut scope = scope(limit, None);
        let slots = ask(&mut scope, &asks, SLOT_WAIT_MAX, QUOTA_MINUTE);
        prop_assert_eq!(over_the_minute(&arrivals(&slots, &jitters, QUOTA_MINUTE), limit, QUOTA_MINUTE), None);
        let last = *slots.last().unwrap();
        let in_window = slots.iter().filter(|slot| slot.plus(QUOTA_MINUTE) > last).count();
        let counted: u32 = scope.usage.marks.iter().map(|mark| mark.count).sum();
        prop_assert!(counted as usize >= in_window);
        prop_assert_eq!(scope.usage.marks.last().map(|mark| mark.at), Some(last));
    }

    #[test]
    fn midnights_in_los_angeles_divide_days(hours in 0..60_000_u64, millis in 0..3_600_000_u64) {
        let now = at(hours * 3600).plus(Duration::from_millis(millis));
        let midnight = now.next_pacific_midnight();
        prop_assert!(midnight > now && midnight.since(now) <= seconds(25 * 3600));
        prop_assert_eq!(midnight.minus(Duration::from_millis(1)).pacific_day(), now.pacific_day());
        prop_assert!(midnight.pacific_day() > now.pacific_day());
        let length = midnight.next_pacific_midnight().since(midnight).as_secs() / 3600;
        prop_assert!((23..=25).contains(&length));
    }
}
