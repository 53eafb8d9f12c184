//! Clients that watch while processes die: who comes again ends with what the record says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use darkroom_core::id::UserId;
use darkroom_tests::kill;
use darkroom_tests::local_command::{self, LocalCommand};
use darkroom_tests::stack::{App, PATIENCE, TestStack};
use darkroom_tests::stand_in_gemini::{Latency, Settings, StandIn};
use darkroom_tests::watcher::Watcher;
use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::submit;

/// What dies.
const NOTIFIER: &str = "notifier";
const API: &str = "api";

/// A client: it knows the jobs that it was told it has, and what it was told of them.
struct Client<'a> {
    user: &'a str,
    ids: Mutex<Vec<String>>,
}

impl Client<'_> {
    fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    /// Reads what comes, and comes again when it is cut off; once the kills are over, until all of its jobs are.
    async fn watch(
        &self,
        app: impl Fn() -> anyhow::Result<App>,
        mut over: Receiver<bool>,
    ) -> anyhow::Result<BTreeMap<String, Value>> {
        let mut highest: BTreeMap<String, u64> = BTreeMap::new();
        loop {
            let is_last = *over.borrow_and_update();
            // Whoever would answer may be dead at this very moment.
            let Ok(mut watcher) = connect(&app, self.user).await else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let ids = self.ids();
            watcher.say(&json!({"type": "sync", "jobs": ids})).await.ok();
            let mut is_synced = false;
            let until = Instant::now() + PATIENCE;
            loop {
                let message = tokio::select! {
                    message = watcher.next_until(until) => message?,
                    _ = over.changed(), if !is_last => None,
                };
                let Some(message) = message else { break };
                is_synced |= message["type"] == "synced";
                let is_over = |id: &String| watcher.jobs.get(id).is_some_and(|job| !job["settled"].is_null());
                // What the sync did not find over is told.
                if is_last && is_synced && ids.iter().all(is_over) {
                    return Ok(watcher.jobs);
                }
            }
            assert!(!is_last, "cut off, or not told: {:?} {:?}", watcher.closed, watcher.jobs);
            for (id, job) in &watcher.jobs {
                let version = job["version"].as_u64().unwrap();
                let before = highest.insert(id.clone(), version);
                assert!(before <= Some(version), "{id} went back from {before:?} to {version}");
            }
        }
    }

    /// Asks for so many pictures, one after another, each until it is taken.
    async fn ask(&self, jobs: usize, app: impl Fn() -> anyhow::Result<App>) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        for number in 0..jobs {
            let order = json!({"prompt": format!("{} {number}", self.user), "model": "gemini-3.1-flash-image", "deadline_seconds": 600});
            let key = format!("k{number}");
            let taken = loop {
                // What was not answered is asked again: by its key it is the same job.
                if let Ok(app) = app()
                    && let Ok(answer) = app.submit(self.user, &key, &order).await
                    && answer.status == 202
                {
                    break answer;
                }
                anyhow::ensure!(Instant::now() < until, "{} was never taken", self.user);
                tokio::time::sleep(Duration::from_millis(200)).await;
            };
            self.ids.lock().unwrap().push(taken.text("id").to_owned());
            tokio::time::sleep(Duration::from_millis(fastrand::u64(200..1_500))).await;
        }
        Ok(())
    }

    /// What it was told in the end is what is shown.
    async fn ends_with_the_records(&self, app: &App, told: &BTreeMap<String, Value>) -> anyhow::Result<()> {
        let ids = self.ids();
        for id in &ids {
            let record = app.settled(self.user, id).await?;
            let (told, is) = (&told[id], (&record["version"], &record["status"]));
            assert_eq!((&told["version"], &told["status"]), is, "{} {id}", self.user);
        }
        assert_eq!(told.len(), ids.len(), "{} was told of others", self.user);
        Ok(())
    }
}

async fn connect(app: &impl Fn() -> anyhow::Result<App>, user: &str) -> anyhow::Result<Watcher> {
    Watcher::connect(&app()?, user).await
}

/// Kills every notifier that there is, again and again: so many times, or until none is started any more because all has
/// been told.
async fn kill_notifiers(stack: &TestStack, times: usize) -> anyhow::Result<usize> {
    let (mut kills, mut last) = (0, Instant::now());
    while kills < times && last.elapsed() < Duration::from_secs(5) {
        // Some before they have begun, some in the middle of it.
        tokio::time::sleep(Duration::from_millis(50 + 37 * kills as u64 % 200)).await;
        for process in stack.system.function(NOTIFIER).unwrap().process_ids() {
            kill(process).await?;
            (kills, last) = (kills + 1, Instant::now());
        }
    }
    Ok(kills)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_the_notifier_leave_no_client_behind() -> anyhow::Result<()> {
    const JOBS: usize = 8;
    let stack = TestStack::start().await?;
    let clients = ["alice", "bob", "carol"].map(|user| Client { user, ids: Mutex::default() });
    for client in &clients {
        stack.grant(client.user, 100).await?;
        for number in 0..JOBS {
            let order = json!({"prompt": format!("{} {number}", client.user)});
            let id = submit(&stack, client.user, &format!("k{number}"), order).await?;
            client.ids.lock().unwrap().push(id);
        }
    }
    let (tell, over) = tokio::sync::watch::channel(false);
    let killing = async {
        let killed = kill_notifiers(&stack, 20).await;
        tell.send_replace(true);
        killed
    };
    let app = || Ok(stack.app.clone());
    let watching = join_all(clients.iter().map(|client| client.watch(app, over.clone())));
    let (killed, watched) = tokio::join!(killing, watching);
    assert!(killed? >= 4, "too few kills to show anything");
    for (client, told) in clients.iter().zip(watched) {
        client.ends_with_the_records(&stack.app, &told?).await?;
    }
    stack.finish().await?;
    Ok(())
}

/// How often each has died.
#[derive(Debug, Default)]
struct Kills {
    notifier: usize,
    api: usize,
    system: usize,
}

/// Kills at random moments, until this is told to be over.
async fn rampage(system: &mut LocalCommand, asked: &mut Receiver<bool>) -> anyhow::Result<Kills> {
    let mut kills = Kills::default();
    for number in 1_u32.. {
        tokio::select! {
            _ = asked.wait_for(|is_over| *is_over) => break,
            () = tokio::time::sleep(Duration::from_millis(fastrand::u64(50..500))) => {}
        }
        // None is left to chance: the system has a fair time to get somewhere in between.
        match number % 12 {
            0 => {
                system.kill_and_start().await?;
                kills.system += 1;
            }
            1 | 4 | 7 | 10 => kills.api += kill_function(system, API).await?,
            _ => kills.notifier += kill_function(system, NOTIFIER).await?,
        }
    }
    Ok(kills)
}

async fn kill_function(system: &LocalCommand, function: &str) -> anyhow::Result<usize> {
    let processes = system.function_processes(function)?;
    for process in &processes {
        kill(*process).await?;
    }
    Ok(processes.len())
}

async fn furnish(system: &LocalCommand, users: &[String], tokens: u64) -> anyhow::Result<()> {
    let stores = system.stores().await?;
    darkroom_tests::keys::add(&stores, "AIza-one", "one", 10_000).await?;
    for user in users {
        stores.ledger.grant(&UserId::parse(user)?, tokens, "g", darkroom_aws::now()).await?;
    }
    Ok(())
}

/// Twenty clients watch and ask for two hundred pictures, while the notifier, the API and the whole system die.
#[tokio::test(flavor = "multi_thread")]
async fn kills_of_everything_leave_no_client_behind() -> anyhow::Result<()> {
    const USERS: usize = 20;
    const JOBS: usize = 10;
    let gemini = StandIn::start(Settings {
        latency: Latency::Fixed(Duration::from_millis(400)),
        accept_unknown_keys: true,
        ..Settings::default()
    })?;
    let mut system = LocalCommand::start(&[
        ("DARKROOM_GEMINI_BASE_URL", &gemini.base_url()),
        ("DARKROOM_SWEEP_SECONDS", "1"),
        ("DARKROOM_WAKE_SECONDS", "2"),
        ("DARKROOM_CALL_TIMEOUT_SECONDS", "2"),
        ("DARKROOM_ATTEMPTS_MAX", "20"),
        ("DARKROOM_CALLS_MAX", "40"),
    ])
    .await?;
    let users: Vec<_> = (0..USERS).map(|number| format!("user{number}")).collect();
    furnish(&system, &users, 100).await?;
    let folder = system.folder().to_owned();
    let app = || local_command::app(Path::new(&folder));
    let clients: Vec<_> = users.iter().map(|user| Client { user, ids: Mutex::default() }).collect();
    let (tell_asked, mut asked) = tokio::sync::watch::channel(false);
    let (tell, over) = tokio::sync::watch::channel(false);
    let asking = async {
        let asked = try_join_all(clients.iter().map(|client| client.ask(JOBS, app))).await;
        tell_asked.send_replace(true);
        asked
    };
    let killing = async {
        let kills = rampage(&mut system, &mut asked).await;
        tell.send_replace(true);
        kills
    };
    let watching = join_all(clients.iter().map(|client| client.watch(app, over.clone())));
    let (taken, kills, watched) = tokio::join!(asking, killing, watching);
    taken?;
    let kills = kills?;
    assert!(
        kills.notifier >= 3 && kills.api >= 3 && kills.system >= 1,
        "too few to show anything: {kills:?}"
    );
    for (client, told) in clients.iter().zip(watched) {
        client.ends_with_the_records(&app()?, &told?).await?;
        assert_eq!(client.ids().len(), JOBS);
    }
    let stores = system.stores().await?;
    let audit = darkroom::audit::audit(&stores.jobs, &stores.ledger).await?;
    let all = (USERS * JOBS) as u64;
    assert_eq!((audit.faults, audit.jobs, audit.settled), (Vec::<String>::new(), all, all));
    system.kill().await?;
    Ok(())
}
