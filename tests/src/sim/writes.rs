//! Tables in memory for tests of single writes: nothing takes time, and a clause of a condition can be left out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use darkroom_aws::clients::Clients;
use darkroom_aws::config::{Environment, Tables as Names, kms_key, push_table};
use darkroom_aws::{JobTable, KeyTable, LedgerTable, PushTable, SecretBox, WebhookTable};

use super::call::Call;
use super::clause::Clause;
use super::fault::Plan;
use super::stack::simulated;
use super::stores::Stores;
use super::tables::{Seen, Tables};
use super::wire::clients;

/// The tables as the template describes them.
pub struct Writes {
    /// Jobs.
    pub jobs: JobTable,
    /// Ledger.
    pub ledger: LedgerTable,
    /// Keys.
    pub keys: KeyTable,
    /// Connections and tickets.
    pub push: PushTable,
    /// Webhooks and their deliveries.
    pub webhooks: WebhookTable,
    /// The name of both's table.
    pub push_name: String,
    /// Seals secrets.
    pub secrets: SecretBox,
    /// For items by hand.
    pub clients: Clients,
    /// The tables' names.
    pub names: Names,
    stores: Arc<Stores>,
}

impl Writes {
    /// Empty tables, whose writes lack this clause.
    ///
    /// # Errors
    /// When the template is broken.
    pub fn new(without: Option<&Clause>) -> anyhow::Result<Self> {
        let tables = Tables::new(&simulated()?.tables, Duration::ZERO)?.without(without.cloned());
        Self::over(Arc::new(Stores::new(tables, Plan::NONE)))
    }

    /// The tables of these stores, to which nothing happens on this way.
    ///
    /// # Errors
    /// When the template is broken.
    pub(crate) fn over(stores: Arc<Stores>) -> anyhow::Result<Self> {
        let functions = simulated()?.functions.iter();
        let of = |binary: &str| functions.clone().find(|function| function.binary == binary);
        let variables = &of("worker").context("the template has no worker")?.environment;
        let environment = Environment::from_fn(|name| variables.get(name).cloned());
        let (names, kms_key) = (Names::read(&environment)?, kms_key(&environment)?);
        let variables = &of("notifier").context("the template has no notifier")?.environment;
        let push_name = push_table(&Environment::from_fn(|name| variables.get(name).cloned()))?;
        let clients = clients(&stores, None, None);
        let ledger = LedgerTable::new(clients.dynamodb.clone(), names.ledger.clone());
        Ok(Self {
            jobs: JobTable::new(clients.dynamodb.clone(), names.jobs.clone(), ledger.clone()),
            keys: KeyTable::new(clients.dynamodb.clone(), names.keys.clone()),
            webhooks: WebhookTable::new(clients.dynamodb.clone(), push_name.clone()),
            push: PushTable::new(clients.dynamodb.clone(), push_name.clone()),
            push_name,
            secrets: SecretBox::new(clients.kms(), kms_key),
            ledger,
            clients,
            names,
            stores,
        })
    }

    /// Every call from now on is noted; those of before are returned, when they were.
    pub(crate) fn note_calls(&self) -> Vec<Call> {
        self.stores.note_calls()
    }

    /// What was written so far, and will be.
    pub fn seen(&self) -> Seen {
        self.stores.tables().seen()
    }
}
