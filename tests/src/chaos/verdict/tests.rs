//! A good history passes, and each of these bad ones is found out. Otherwise a run that finds nothing says nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

use darkroom_core::job::Status;
use darkroom_core::ledger::Settlement;

use super::*;
use crate::chaos::history::{Answered, Asked, Seen};

const RULES: Rules = Rules { calls_max: 4, batch: 10, receives_max: 5 };

/// A run: everything that is judged.
#[derive(Clone)]
struct Run {
    history: Vec<Operation>,
    kills: Vec<Kill>,
    found: Found,
}

impl Run {
    fn faults(&self) -> Vec<String> {
        faults(&self.history, &self.kills, &self.found, &RULES)
    }

    fn record(&mut self, user: &str, key: &str) -> &mut Record {
        self.found.records.get_mut(&job_id(user, key)).unwrap()
    }

    fn ask(&mut self, (user, key): (&str, &str), asked: Asked, at: u64, answer: Answered) {
        self.history.push(Operation {
            user: user.to_owned(),
            key: key.to_owned(),
            asked,
            sent_at: Duration::from_millis(at),
            answered_at: Duration::from_millis(at + 10),
            answer,
        });
    }

    fn call(&mut self, prompt: &str, at: u64, drew: bool) {
        let (at, ended_at) = (Duration::from_millis(at), Duration::from_millis(at + 300));
        self.found.calls.push(Call { prompt: prompt.to_owned(), at, ended_at, drew });
    }

    fn kill(&mut self, function: &'static str, at: u64) {
        self.kills.push(Kill { at: Duration::from_millis(at), function });
    }
}

fn seen((user, key): (&str, &str), version: u64, status: &str) -> Answered {
    let settled = !["pending", "processing"].contains(&status);
    Answered::Job(Seen {
        id: job_id(user, key),
        version,
        status: status.to_owned(),
        settled,
        replayed: false,
    })
}

fn replayed(answer: Answered) -> Answered {
    match answer {
        Answered::Job(seen) => Answered::Job(Seen { replayed: true, ..seen }),
        other => other,
    }
}

fn refused(status: u16) -> Answered {
    Answered::Refused(status, String::new())
}

fn record(user: &str, key: &str, status: Status) -> Record {
    let settlement = if status == Status::Draft { Settlement::Captured } else { Settlement::Refunded };
    let hash = "hash".to_owned();
    Record {
        user: user.to_owned(),
        prompt: format!("{user} {key}"),
        status,
        settlement: Some(settlement),
        entries: vec![settlement],
        cost: 3,
        attempt: 1,
        calls: 1,
        failure: None,
        picture: (status == Status::Draft).then(|| Picture { recorded: hash.clone(), stored: Some(hash) }),
    }
}

const DRAWN: (&str, &str) = ("alice", "drawn");
const TWICE: (&str, &str) = ("alice", "twice");
const LEFT: (&str, &str) = ("alice", "left");
const ENDED: (&str, &str) = ("bob", "ended");
const POOR: (&str, &str) = ("bob", "poor");

/// One job is drawn; one is drawn twice, since its first worker died; one was never answered and is not there; one is
/// cancelled; one is refused.
fn good() -> Run {
    let mut run = Run { history: Vec::new(), kills: Vec::new(), found: Found::default() };
    run.ask(DRAWN, Asked::Submit, 0, Answered::Nothing);
    run.ask(DRAWN, Asked::Submit, 200, replayed(seen(DRAWN, 1, "pending")));
    run.ask(DRAWN, Asked::SubmitOther, 300, refused(422));
    run.ask(DRAWN, Asked::Read, 400, seen(DRAWN, 2, "processing"));
    run.ask(DRAWN, Asked::Read, 2_000, seen(DRAWN, 3, "draft"));
    run.ask(DRAWN, Asked::Cancel, 2_100, refused(409));
    run.ask(TWICE, Asked::Submit, 0, seen(TWICE, 1, "pending"));
    run.ask(LEFT, Asked::Submit, 0, Answered::Nothing);
    run.ask(ENDED, Asked::Submit, 0, seen(ENDED, 1, "pending"));
    run.ask(ENDED, Asked::Cancel, 100, seen(ENDED, 2, "cancelled"));
    run.ask(POOR, Asked::Submit, 0, refused(402));
    for ((user, key), status) in [(DRAWN, Status::Draft), (TWICE, Status::Draft), (ENDED, Status::Cancelled)]
    {
        run.found.records.insert(job_id(user, key), record(user, key, status));
    }
    run.record("alice", "twice").calls = 3;
    run.record("bob", "ended").calls = 0;
    run.call("alice drawn", 1_000, true);
    run.call("alice twice", 1_000, true);
    run.kill("worker", 1_500);
    run.call("alice twice", 40_000, false);
    run.call("alice twice", 41_000, true);
    let balance = |available, spent| Balance { available, held: 0, spent, granted: 10, inflight: 0 };
    run.found.granted = [("alice".to_owned(), 10), ("bob".to_owned(), 10)].into();
    run.found.balances = [("alice".to_owned(), balance(4, 6)), ("bob".to_owned(), balance(10, 0))].into();
    run
}

#[test]
fn a_good_history_passes() {
    assert_eq!(good().faults(), [""; 0]);
    assert_eq!(unneeded(&good().found).len(), 1, "the picture that its dead worker did not store");
    // A submission that was left open may exist.
    let mut run = good();
    run.found.records.insert(job_id("alice", "left"), record("alice", "left", Status::Failed));
    assert_eq!(run.faults(), [""; 0]);
    // A message is given up when five workers died with it.
    let mut run = good();
    run.found.dead_letters.push(job_id("alice", "twice"));
    (0..4).for_each(|nth| run.kill("worker", 2_000 + nth));
    assert_eq!(run.faults(), [""; 0]);
}

/// A change to the good run, and the one fault that it must make.
type Bad = (&'static str, fn(&mut Run));

fn fails(bad: &[Bad]) {
    for (words, change) in bad {
        let mut run = good();
        change(&mut run);
        let faults = run.faults();
        assert!(faults.iter().any(|fault| fault.contains(words)), "{words:?} is not among {faults:?}");
    }
}

#[test]
fn submissions_are_judged() {
    fails(&[
        ("alice twice: acknowledged and lost", |run| {
            run.found.records.remove(&job_id("alice", "twice"));
        }),
        ("never settled, it is processing", |run| {
            let record = run.record("alice", "drawn");
            (record.status, record.settlement) = (Status::Processing, None);
        }),
        ("nobody asked for this job of carol", |run| {
            run.found.records.insert(job_id("carol", "k"), record("carol", "k", Status::Failed));
        }),
        ("bob poor: refused, and there all the same", |run| {
            run.found.records.insert(job_id("bob", "poor"), record("bob", "poor", Status::Failed));
        }),
        ("asked for, but there is \"a windmill\" of alice", |run| {
            run.record("alice", "drawn").prompt = "a windmill".to_owned();
        }),
        ("asked for, but there is \"alice drawn\" of bob", |run| {
            run.record("alice", "drawn").user = "bob".to_owned();
        }),
        ("acknowledged with another job's id", |run| {
            run.ask(TWICE, Asked::Submit, 500, replayed(seen(DRAWN, 1, "pending")));
        }),
        ("one key made 2 jobs", |run| run.ask(TWICE, Asked::Submit, 0, seen(TWICE, 1, "pending"))),
        ("made anew after it had been acknowledged", |run| {
            run.ask(DRAWN, Asked::Submit, 5_000, seen(DRAWN, 1, "pending"));
        }),
        ("its key was taken for another request", |run| {
            run.ask(DRAWN, Asked::SubmitOther, 500, seen(DRAWN, 1, "pending"));
        }),
    ]);
}

#[test]
fn answers_are_judged() {
    fails(&[
        ("went back from version 3 to 2", |run| run.ask(DRAWN, Asked::Read, 3_000, seen(DRAWN, 2, "draft"))),
        ("was draft and then pending", |run| run.ask(DRAWN, Asked::Read, 3_000, seen(DRAWN, 4, "pending"))),
        ("was told to be cancelled and is failed", |run| run.record("bob", "ended").status = Status::Failed),
        ("was acknowledged and then not found", |run| run.ask(TWICE, Asked::Read, 500, refused(404))),
        ("was cancelled by nobody", |run| run.record("alice", "twice").status = Status::Cancelled),
        ("was cancelled after its end", |run| run.ask(ENDED, Asked::Cancel, 50, refused(409))),
    ]);
}

#[test]
fn calls_are_judged() {
    fails(&[
        ("alice drawn: 1 calls were made and 0 counted", |run| run.record("alice", "drawn").calls = 0),
        ("5 calls were counted, 4 are allowed", |run| run.record("alice", "drawn").calls = 5),
        ("12 calls were counted and not made, by 1 dead workers", |run| {
            for number in 0..3 {
                let key = format!("more{number}");
                run.ask(("alice", &key), Asked::Submit, 0, Answered::Nothing);
                let record = Record { calls: 4, ..record("alice", &key, Status::Failed) };
                run.found.records.insert(job_id("alice", &key), record);
            }
        }),
        ("alice left: called, and there is no such job", |run| run.call("alice left", 1_000, false)),
        ("bob ended: called 19.9 s after its cancel was answered", |run| {
            run.call("bob ended", 20_000, false);
        }),
        // Nobody died, somebody else did, or much later.
        ("the picture drawn at 1.0 s came to nothing", |run| run.kills.clear()),
        ("the picture drawn at 1.0 s came to nothing", |run| run.kills[0].function = "api"),
        ("the picture drawn at 1.0 s came to nothing", |run| run.kills[0].at = Duration::from_secs(12)),
        ("the picture drawn at 1.0 s came to nothing", |run| run.kills[0].at = Duration::from_millis(400)),
        // A cancelled job's picture was paid by nobody.
        ("bob ended: the picture drawn at 30.0 s came to nothing", |run| run.call("bob ended", 30_000, true)),
        // One death explains no more than a worker had in its hands.
        ("came to nothing, and no worker died", |run| {
            let record = run.record("alice", "twice");
            record.calls = 20;
            (0..10).for_each(|nth| run.call("alice twice", 1_001 + nth, true));
        }),
    ]);
}

#[test]
fn books_are_judged() {
    fails(&[
        ("audit: it does not add up", |run| run.found.audit.push("it does not add up".to_owned())),
        ("an entry, and no job", |run| run.found.stray_entries.push("job_x".to_owned())),
        ("its entries say [Captured, Captured]", |run| {
            run.record("alice", "drawn").entries.push(Settlement::Captured);
        }),
        ("its entries say [Captured, Refunded]", |run| {
            run.record("alice", "drawn").entries.push(Settlement::Refunded);
        }),
        ("its entries say []", |run| run.record("alice", "drawn").entries.clear()),
        ("is cancelled, settled as Some(Captured)", |run| {
            let record = run.record("bob", "ended");
            (record.settlement, record.entries) = (Some(Settlement::Captured), vec![Settlement::Captured]);
        }),
        ("is drawn and has no picture", |run| run.record("alice", "drawn").picture = None),
        ("its picture is None", |run| {
            run.record("alice", "drawn").picture.as_mut().unwrap().stored = None;
        }),
        ("its picture is Some(\"other\")", |run| {
            run.record("alice", "drawn").picture.as_mut().unwrap().stored = Some("other".to_owned());
        }),
        // Granted = available + spent, and spent is what the drafts cost.
        ("alice: the balance is", |run| run.found.balances.get_mut("alice").unwrap().available = 5),
        ("alice: the balance is", |run| run.found.balances.get_mut("alice").unwrap().held = 3),
        ("bob: the balance is", |run| run.found.balances.get_mut("bob").unwrap().inflight = 1),
        ("bob: the balance is", |run| {
            run.found.balances.remove("bob");
        }),
        ("a dead letter after 1 deaths of workers", |run| {
            run.found.dead_letters.push(job_id("alice", "twice"));
        }),
        ("this is no message: a dead letter", |run| {
            (0..9).for_each(|nth| run.kill("worker", 2_000 + nth));
            run.found.dead_letters.push("this is no message".to_owned());
        }),
    ]);
}
