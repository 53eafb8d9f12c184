//! The choice among scopes and keys.

use std::time::Duration;

use crate::common::pool::{ask, key, pool, project, scope, untried, untried_scope};
use crate::common::{at, cases, seconds};
use darkroom_core::key::{
    ApiKey, CoolReason, KeyDisabled, KeyState, Scope, ScopeDisabled, ScopeState, Standing,
};
use darkroom_core::limits::{QUOTA_MINUTE, SLOT_WAIT_MAX};
use darkroom_core::pool::{Choice, Pick, choose, sending};
use darkroom_core::quota::{Ask, Reservation, guard, reserve};
use darkroom_core::time::Timestamp;
use proptest::prelude::*;

fn off(key: ApiKey) -> ApiKey {
    ApiKey { state: KeyState::Disabled { reason: KeyDisabled::Invalid, at: at(0) }, ..key }
}

fn trial(until: u64) -> Standing {
    Standing::Unproven { trial_until: at(until) }
}

/// A scope without a free call before the 60.15th second.
fn full(number: usize) -> Scope {
    let mut full = scope(number, 2);
    let Reservation::Slots(slots) = reserve(&full, &ask(at(0), 2)) else { panic!("no slots") };
    full.usage = slots.usage;
    full
}

fn full_until() -> Timestamp {
    at(60).plus(guard(QUOTA_MINUTE))
}

fn disabled(number: usize) -> Scope {
    Scope { state: ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: at(0) }, ..scope(number, 2) }
}

/// The blocks that are reserved at once.
fn blocks(scopes: &[Scope], keys: &[ApiKey], ask: &Ask, turn: usize) -> Vec<Pick> {
    match choose(scopes, keys, ask, turn) {
        Choice::Reserve(picks) => picks,
        other => panic!("{other:?}"),
    }
}

/// The first of them.
fn picked(scopes: &[Scope], keys: &[ApiKey], ask: &Ask, turn: usize) -> Pick {
    blocks(scopes, keys, ask, turn).remove(0)
}

/// Scope, keys and seconds from 0 of the pick.
fn brief(pick: &Pick) -> (usize, Vec<usize>, Vec<u64>) {
    (pick.scope, pick.keys.clone(), pick.slots.at.iter().map(|slot| slot.since(at(0)).as_secs()).collect())
}

#[test]
fn what_there_is_to_wait_for() {
    let (untried_0, on_trial_1) = (untried_scope(scope(0, 5)), Scope { standing: trial(90), ..scope(1, 5) });
    let key_on_trial = ApiKey { standing: trial(70), ..key(0, 0) };
    let cases = [
        (vec![], vec![key(0, 0)], Choice::NoneUsable),
        (vec![scope(0, 5)], vec![], Choice::NoneUsable),
        (vec![scope(0, 5)], vec![key(1, 0)], Choice::NoneUsable),
        (vec![scope(0, 5)], vec![off(key(0, 0))], Choice::NoneUsable),
        (vec![disabled(0)], vec![key(0, 0)], Choice::NoneUsable),
        (vec![disabled(0), full(1)], vec![key(0, 0), key(1, 0)], Choice::FreeAt(full_until())),
        // A first call that is under way may free more than time does, and the last of them the most.
        (vec![full(0), on_trial_1.clone()], vec![key(0, 0), key(1, 0)], Choice::OnTrial(at(90))),
        (vec![on_trial_1.clone(), full(0)], vec![key(0, 0), key(1, 0)], Choice::OnTrial(at(90))),
        (
            vec![on_trial_1, Scope { standing: trial(95), ..scope(2, 5) }],
            vec![key(1, 0), key(2, 0)],
            Choice::OnTrial(at(95)),
        ),
        // The key's first call is under way, of this model or of another.
        (vec![scope(0, 5)], vec![key_on_trial.clone()], Choice::OnTrial(at(70))),
        (vec![untried_0.clone()], vec![key_on_trial.clone()], Choice::OnTrial(at(70))),
        // The one that is free first, of those that time frees.
        (
            vec![
                full(0),
                Scope {
                    state: ScopeState::Cooling { reason: CoolReason::DailyQuota, at: at(0), until: at(40) },
                    ..scope(1, 5)
                },
            ],
            vec![key(0, 0), key(1, 0)],
            Choice::FreeAt(at(40)),
        ),
    ];
    for (scopes, keys, expected) in cases {
        assert_eq!(choose(&scopes, &keys, &ask(at(0), 3), 0), expected, "{scopes:?} {keys:?}");
    }
    let usable = [untried_0, full(1)];
    assert_eq!(brief(&picked(&usable, &[key_on_trial, key(0, 1)], &ask(at(0), 3), 0)), (0, vec![1], vec![0]));
}

#[test]
fn a_first_call_is_made_alone() {
    // A new scope: one call, with a key that is known if there is one.
    let new = [untried_scope(scope(0, 5))];
    for (keys, chosen) in [
        (vec![untried(key(0, 0))], 0),
        (vec![untried(key(0, 0)), untried(key(0, 1))], 0),
        (vec![untried(key(0, 0)), key(0, 1)], 1),
    ] {
        let pick = picked(&new, &keys, &ask(at(0), 9), 0);
        assert_eq!(brief(&pick), (0, vec![chosen], vec![0]));
        assert_eq!(pick.slots.standing, trial(110));
    }
    // A new key in a scope that is known: one call with it, then the others again until it is answered.
    let mut keys = vec![key(0, 0), untried(key(0, 1))];
    assert_eq!(brief(&picked(&[scope(0, 5)], &keys, &ask(at(0), 9), 0)), (0, vec![1], vec![0]));
    keys[1].standing = trial(110);
    assert_eq!(brief(&picked(&[scope(0, 5)], &keys, &ask(at(0), 9), 0)), (0, vec![0; 5], vec![0; 5]));
    // It may take its time from its own second on.
    let cooled = ScopeState::Cooling { reason: CoolReason::RateLimited, at: at(0), until: at(15) };
    let ahead = [Scope { state: cooled, ..new[0].clone() }];
    assert_eq!(picked(&ahead, &keys, &ask(at(0), 9), 0).slots.standing, trial(125));
    // Whoever made the first call has died.
    assert_eq!(brief(&picked(&[scope(0, 5)], &keys, &ask(at(110), 9), 0)), (0, vec![1], vec![110]));
    let dead = [Scope { standing: trial(110), ..scope(0, 5) }];
    assert_eq!(brief(&picked(&dead, &keys, &ask(at(110), 9), 0)), (0, vec![0], vec![110]));
}

#[test]
fn a_block_comes_from_one_scope_for_as_long_as_no_other_is_sooner() {
    let keys = [key(0, 0), key(1, 0)];
    let both = [scope(0, 5), scope(1, 60)];
    let long = |now, wanted| Ask { horizon: seconds(130), ..ask(now, wanted) };
    // The small one has five now; the next ones would be a minute later than the other's.
    assert_eq!(brief(&picked(&both, &keys, &long(at(0), 9), 0)), (0, vec![0; 5], vec![0; 5]));
    assert_eq!(brief(&picked(&both, &keys, &long(at(0), 9), 1)), (1, vec![1; 9], vec![0; 9]));
    assert_eq!(picked(&both, &keys, &long(at(0), 3), 0).slots.usage.marks[0].count, 3);
    assert_eq!(
        picked(&both, &keys, &long(at(0), 9), 0).slots.usage.day_count,
        5,
        "what is cut is not counted"
    );
    // Alone it gives a minute's calls after another.
    let alone = picked(&both[..1], &keys, &long(at(0), 9), 0);
    assert_eq!(brief(&alone).2, [0, 0, 0, 0, 0, 60, 60, 60, 60]);
    // What is free a little later is no reason to divide a block; what is free much sooner goes first.
    let later = |number, millis| Scope {
        state: ScopeState::Cooling {
            reason: CoolReason::RateLimited,
            at: at(0),
            until: at(0).plus(Duration::from_millis(millis)),
        },
        ..scope(number, 5)
    };
    let step = 300;
    assert_eq!(picked(&[later(0, step - 1), scope(1, 5)], &keys, &ask(at(0), 3), 0).scope, 0);
    assert_eq!(picked(&[later(0, step), scope(1, 5)], &keys, &ask(at(0), 3), 0).scope, 1);
    assert_eq!(picked(&[scope(0, 5), later(1, step)], &keys, &ask(at(0), 3), 1).scope, 0);
}

#[test]
fn no_more_first_calls_are_begun_than_can_be_followed_up() {
    let new: Vec<_> = (0..3).map(|number| untried_scope(scope(number, 5))).collect();
    let keys = [key(0, 0), key(1, 0), key(2, 0)];
    let begun = |wanted| blocks(&new, &keys, &ask(at(0), wanted), 0).len();
    // Each promises four calls more.
    assert_eq!([1, 2, 5, 6, 10, 11, 15, 90].map(begun), [1, 1, 1, 2, 2, 3, 3, 3]);
    let promised = |promised, wanted| Ask { promised, horizon: seconds(90), ..ask(at(0), wanted) };
    for (scopes, promised, expected) in [
        // Everything is promised: nothing more is tried, and no later moment is taken.
        (&new[..], promised(4, 4), None),
        (&[full(0)], promised(4, 4), None),
        // The rest takes one.
        (&[full(0)], promised(3, 4), Some(1)),
        (&[full(0)], promised(2, 4), Some(2)),
        // What is free now is for whoever comes.
        (&[scope(0, 5)], promised(9, 9), Some(5)),
        (&[scope(0, 5)], promised(9, 3), Some(3)),
    ] {
        let calls = match choose(scopes, &keys, &promised, 0) {
            Choice::Reserve(picks) => Some(picks.iter().map(|pick| pick.keys.len()).sum()),
            Choice::OnTrial(until) => {
                assert_eq!(until, at(110));
                None
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(calls, expected, "{promised:?} of {scopes:?}");
    }
}

#[test]
fn blocks_of_one_choice_are_as_far_apart_as_their_calls_take_to_be_sent() {
    let (scopes, keys) = pool(&[10, 10, 10]);
    let picks = blocks(&scopes, &keys, &ask(at(0), 25), 0);
    let moments: Vec<_> = picks.iter().map(|pick| (pick.scope, pick.keys.len(), pick.slots.at[0])).collect();
    let ten = sending(10, QUOTA_MINUTE);
    assert!(ten > Duration::ZERO);
    assert_eq!(moments, [(0, 10, at(0)), (1, 10, at(0).plus(ten)), (2, 5, at(0).plus(ten).plus(ten))]);
}

#[test]
fn scopes_and_keys_take_turns() {
    let (scopes, keys) = pool(&[10, 10, 10]);
    let chosen: Vec<_> = (0..7).map(|turn| picked(&scopes, &keys, &ask(at(0), 4), turn).scope).collect();
    assert_eq!(chosen, [0, 1, 2, 0, 1, 2, 0]);
    // A full one is passed over.
    let one_full = [scopes[0].clone(), full(1), scopes[2].clone()];
    assert_eq!(picked(&one_full, &keys, &ask(at(0), 4), 1).scope, 2);
    // Keys of one project share its scope.
    let shared = [key(0, 0), off(key(0, 1)), key(1, 0), key(0, 2)];
    assert_eq!(brief(&picked(&scopes[..1], &shared, &ask(at(0), 5), 0)).1, [0, 3, 0, 3, 0]);
    assert_eq!(brief(&picked(&scopes[..1], &shared, &ask(at(0), 5), 1)).1, [3, 0, 3, 0, 3]);
    assert_eq!(brief(&picked(&scopes[..1], &shared, &ask(at(0), 50), 0)).2.len(), 10, "and its limit");
}

fn standings() -> impl Strategy<Value = Standing> {
    prop_oneof![
        3 => Just(Standing::Proven),
        1 => Just(Standing::UNTRIED),
        1 => (90..111_u64).prop_map(trial),
    ]
}

fn scopes() -> impl Strategy<Value = Vec<Scope>> {
    let state = prop_oneof![
        6 => Just(ScopeState::Active),
        2 => (95..150_u64).prop_map(|until| ScopeState::Cooling {
            reason: CoolReason::RateLimited,
            at: at(90),
            until: at(until)
        }),
        1 => Just(ScopeState::Disabled { reason: ScopeDisabled::ZeroQuota, at: at(0) }),
    ];
    let day = prop_oneof![4 => Just(None), 1 => (0..9_u32).prop_map(Some)];
    let used = proptest::collection::vec(0..20_u64, 0..9);
    let one = (state, standings(), 0..7_u32, day, used).prop_map(|(state, standing, rpm, per_day, used)| {
        let mut one = Scope { requests_per_day: per_day, ..scope(0, rpm) };
        let mut now = at(40);
        for pause in used {
            now = now.plus(seconds(pause));
            if let Reservation::Slots(slots) = reserve(&one, &ask(now, 1)) {
                one.usage = slots.usage;
            }
        }
        Scope { state, standing, ..one }
    });
    proptest::collection::vec(one, 0..5).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(number, one)| Scope { project: project(number), ..one }).collect()
    })
}

fn keys() -> impl Strategy<Value = Vec<ApiKey>> {
    let one = (0..5_usize, standings(), 0..5_u8).prop_map(|(project, standing, state)| {
        let one = ApiKey { standing, ..key(project, 0) };
        if state == 0 { off(one) } else { one }
    });
    proptest::collection::vec(one, 0..8)
}

/// The moments that this scope has for a call with any of its keys; none while its first call or its only keys' are under way,
/// or when it would be a first call and enough is promised.
fn moments(scope: &Scope, keys: &[ApiKey], ask: &Ask) -> Vec<Timestamp> {
    let may_try = ask.promised < ask.wanted;
    let is_usable = |key: &&ApiKey| {
        key.project == scope.project
            && key.state == KeyState::Active
            && key.standing.on_trial(ask.now).is_none()
            && (may_try || key.standing.is_proven() && scope.standing.is_proven())
    };
    match reserve(scope, ask) {
        Reservation::Slots(slots) if keys.iter().any(|key| is_usable(&key)) => slots.at,
        _ => Vec::new(),
    }
}

/// What was chosen may be used: by the limits, the states and the trials.
fn check_pick(pick: &Pick, scopes: &[Scope], keys: &[ApiKey], ask: &Ask) -> Result<(), TestCaseError> {
    let chosen = &scopes[pick.scope];
    prop_assert!(!pick.keys.is_empty() && pick.keys.len() == pick.slots.at.len());
    prop_assert!(pick.keys.len() <= ask.wanted as usize);
    prop_assert!(chosen.standing.on_trial(ask.now).is_none());
    let of_project = |key: &&ApiKey| key.project == chosen.project && key.state == KeyState::Active;
    for key in pick.keys.iter().map(|index| &keys[*index]) {
        prop_assert!(of_project(&key) && key.standing.on_trial(ask.now).is_none());
        if !key.standing.is_proven() {
            prop_assert_eq!(pick.keys.len(), 1, "a block on trial");
            let others = keys.iter().filter(of_project).any(|key| key.standing.is_proven());
            prop_assert!(chosen.standing.is_proven() || !others, "two things are tried at once");
        }
    }
    prop_assert!(chosen.standing.is_proven() || pick.keys.len() == 1);
    // Exactly what the scope itself gives to as many calls.
    let as_many = Ask { wanted: u32::try_from(pick.keys.len()).unwrap(), ..*ask };
    prop_assert_eq!(reserve(chosen, &as_many), Reservation::Slots(pick.slots.clone()));
    let latest = *pick.slots.at.last().unwrap();
    let others = scopes.iter().enumerate().filter(|(other, _)| *other != pick.scope);
    let runner_up = others.filter_map(|(_, other)| moments(other, keys, ask).first().copied()).min();
    if let Some(runner_up) = runner_up {
        prop_assert!(latest < runner_up.plus(QUOTA_MINUTE / 50), "{} where {} is free", latest, runner_up);
    }
    // A block is not cut without need.
    let room = moments(chosen, keys, ask);
    let is_now = |moment: Timestamp| ask.promised == 0 || moment < ask.now.plus(QUOTA_MINUTE / 200);
    let is_sooner = |moment: Timestamp| runner_up.is_none_or(|other| moment <= other) && is_now(moment);
    let sooner = room.iter().filter(|moment| is_sooner(**moment)).count();
    let unpromised = ask.wanted.saturating_sub(ask.promised);
    let free_now = room.iter().filter(|moment| is_now(**moment)).count();
    let of_use = if free_now == 0 { unpromised as usize } else { free_now };
    prop_assert!(pick.keys.len() <= of_use || ask.promised == 0, "a later moment than is of use");
    let is_known = keys[pick.keys[0]].standing.is_proven();
    prop_assert!(!is_known || pick.keys.len() >= sooner, "{} of {}", pick.keys.len(), sooner);
    Ok(())
}

/// Each block may be used after those before it, no scope has two, and all of them have no more calls than were asked for.
fn check_picks(
    picks: &[Pick],
    mut scopes: Vec<Scope>,
    mut keys: Vec<ApiKey>,
    mut ask: Ask,
) -> Result<(), TestCaseError> {
    prop_assert!(!picks.is_empty());
    for pick in picks {
        check_pick(pick, &scopes, &keys, &ask)?;
        let is_trial = !pick.slots.standing.is_proven() || !keys[pick.keys[0]].standing.is_proven();
        prop_assert!(!is_trial || ask.promised < ask.wanted, "a first call more than is of use");
        let calls = u32::try_from(pick.keys.len()).unwrap();
        ask.wanted -= calls;
        ask.now = ask.now.plus(sending(calls, QUOTA_MINUTE));
        let scope = &mut scopes[pick.scope];
        (scope.usage, scope.standing) = (pick.slots.usage.clone(), pick.slots.standing);
        if is_trial {
            ask.promised += scope.requests_per_minute - 1;
        }
        let key = &mut keys[pick.keys[0]];
        if !key.standing.is_proven() {
            key.standing = Standing::Unproven { trial_until: pick.slots.at[0].plus(ask.trial) };
        }
    }
    let mut chosen: Vec<_> = picks.iter().map(|pick| pick.scope).collect();
    chosen.sort_unstable();
    chosen.dedup();
    prop_assert_eq!(chosen.len(), picks.len(), "two blocks of a scope");
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_chosen_may_be_used_and_is_the_soonest(
        scopes in scopes(),
        keys in keys(),
        wanted in 1..12_u32,
        turn in 0..9_usize,
        horizon in prop_oneof![Just(SLOT_WAIT_MAX), Just(Duration::ZERO), Just(seconds(90))],
    ) {
        let ask = Ask { horizon, ..ask(at(100), wanted) };
        let free: Vec<_> = scopes.iter().flat_map(|scope| moments(scope, &keys, &ask)).collect();
        match choose(&scopes, &keys, &ask, turn) {
            Choice::Reserve(picks) => check_picks(&picks, scopes, keys, ask)?,
            Choice::OnTrial(until) => {
                prop_assert!(free.is_empty());
                let standings = scopes.iter().map(|scope| scope.standing);
                let mut all = standings.chain(keys.iter().map(|key| key.standing));
                prop_assert!(all.any(|standing| standing.on_trial(ask.now) == Some(until)));
            }
            Choice::FreeAt(free_at) => {
                prop_assert!(free.is_empty() && free_at > ask.now.plus(horizon));
                // Nothing before it, and something at it.
                let choice = |now| choose(&scopes, &keys, &Ask { now, horizon: Duration::ZERO, ..ask }, turn);
                let before = choice(free_at.minus(Duration::from_millis(1)));
                prop_assert!(!matches!(before, Choice::Reserve(_)), "{:?}", before);
                prop_assert!(matches!(choice(free_at), Choice::Reserve(_)));
            }
            Choice::NoneUsable => {
                let later = Ask { now: at(9_000_000), ..ask };
                prop_assert_eq!(choose(&scopes, &keys, &later, turn), Choice::NoneUsable);
            }
        }
    }
}
