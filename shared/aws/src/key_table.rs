//! API keys, quota scopes and the catalogue of models.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use darkroom_core::id::{KeyId, ModelName};
use darkroom_core::key::{ApiKey, Scope, Secret};
use darkroom_core::model::{Model, ProviderName};

use crate::attributes::{Item, Reader, text};
use crate::clock::random_stamp;
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::ItemError;
use crate::items::key::{
    KEY_PROJECTION, api_key, api_key_item, model, model_item, name, scope, scope_item, sealed_secret,
};
use crate::keys::{API_KEY_PARTITION, Key, MODEL_PARTITION, PK, SCOPE_PREFIX, scope_partition};
use crate::secret_box::{Context, Opened, Owner, SecretBox};

/// The keys table.
#[derive(Clone, Debug)]
pub struct KeyTable {
    client: Client,
    table: String,
}

/// What a conditional write of a key or scope came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWrite {
    /// It was written.
    Applied,
    /// The item is not as expected, or absent: read it again.
    Refused,
}

/// What a conditional write of a key, scope or breaker came to, with the value as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written<T> {
    /// It was written.
    Applied(T),
    /// It is not as it was seen, but like this; `None` when it is absent.
    Refused(Option<T>),
}

impl<T> Written<T> {
    /// The value as it is now, whoever wrote it.
    pub fn into_current(self) -> Option<T> {
        match self {
            Self::Applied(value) => Some(value),
            Self::Refused(value) => value,
        }
    }
}

/// The same for an item.
pub(crate) enum Stamped {
    Applied,
    Refused(Option<Item>),
}

impl KeyTable {
    /// The table of this name.
    pub const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Adds a key with its secret, sealed; [`KeyWrite::Refused`] when this secret is there already.
    pub async fn add_key(
        &self,
        key: &ApiKey,
        secret: &Secret,
        secrets: &SecretBox,
    ) -> Result<KeyWrite, StoreError> {
        let sealed = secrets.seal(secret, self.context(key)).await?;
        self.put_if_absent("PutItem key", api_key_item(key, &sealed)).await
    }

    /// Adds a scope; [`KeyWrite::Refused`] when this project has one for the model already.
    pub async fn add_scope(&self, scope: &Scope) -> Result<KeyWrite, StoreError> {
        self.put_if_absent("PutItem scope", scope_item(scope)).await
    }

    /// Adds a model to the catalogue; [`KeyWrite::Refused`] when there is one of this name already.
    pub async fn add_model(&self, model: &Model) -> Result<KeyWrite, StoreError> {
        self.put_if_absent("PutItem model", model_item(model)).await
    }

    /// The catalogue, by name.
    pub async fn models(&self) -> Result<Vec<Model>, StoreError> {
        self.partition(MODEL_PARTITION, None, model).await
    }

    /// Every key of the pool, without secrets.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.partition(API_KEY_PARTITION, Some(&KEY_PROJECTION), api_key).await
    }

    /// Every scope of a provider's model.
    pub async fn scopes(&self, provider: ProviderName, model: &ModelName) -> Result<Vec<Scope>, StoreError> {
        self.partition(&scope_partition(provider, model), None, scope).await
    }

    /// Every scope of every model: for the operator's list.
    pub async fn all_scopes(&self) -> Result<Vec<Scope>, StoreError> {
        let (mut scopes, mut start) = (Vec::new(), None);
        loop {
            let answer = self
                .client
                .scan()
                .table_name(&self.table)
                .filter_expression("begins_with(#pk, :scope)")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_values(":scope", text(SCOPE_PREFIX))
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| StoreError::from_sdk("DynamoDB", "Scan scopes", error))?;
            for item in answer.items() {
                scopes.push(scope(item).map_err(|problem| StoreError::unreadable(item, &problem))?);
            }
            start = answer.last_evaluated_key().cloned();
            if start.is_none() {
                return Ok(scopes);
            }
        }
    }

    /// A key's secret, opened; `None` when the key is gone. A secret that was altered, or is another key's, is
    /// [`Opened::Unusable`]: it concerns this key alone and is no error.
    pub async fn secret(&self, key: &ApiKey, secrets: &SecretBox) -> Result<Option<Opened>, StoreError> {
        let Some(item) = self.get(Key::ApiKey(key.provider, &key.project, &key.id)).await? else {
            return Ok(None);
        };
        match sealed_secret(&item) {
            Ok(sealed) => secrets.open(&sealed, self.context(key)).await.map(Some),
            Err(problem) => Ok(Some(Opened::Unusable(problem))),
        }
    }

    /// What a key's envelope is bound to.
    fn context<'a>(&'a self, key: &'a ApiKey) -> Context<'a> {
        Context { table: &self.table, owner: Owner::Key(&key.id) }
    }

    /// Removes a key and its secret; [`KeyWrite::Refused`] when it is gone already.
    pub async fn remove_key(&self, key: &ApiKey) -> Result<KeyWrite, StoreError> {
        self.delete("DeleteItem key", Key::ApiKey(key.provider, &key.project, &key.id)).await
    }

    /// The key of this id, without its secret.
    pub async fn key(&self, id: &KeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.keys().await?.into_iter().find(|key| key.id == *id))
    }

    /// Answers when the table answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.get(Key::Ping).await.map(|_| ())
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn name(&self) -> &str {
        &self.table
    }

    pub(crate) async fn get(&self, key: Key<'_>) -> Result<Option<Item>, StoreError> {
        self.client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .consistent_read(matches!(key, Key::ApiKey(..)))
            .send()
            .await
            .map(|answer| answer.item)
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem keys", error))
    }

    /// Writes if the condition holds, with a fresh stamp: a refused write that finds its own stamp had succeeded, and its
    /// answer was lost.
    pub(crate) async fn stamped(
        &self,
        operation: &'static str,
        key: Key<'_>,
        write: Expression,
    ) -> Result<Stamped, StoreError> {
        let op = random_stamp();
        match self.write(key, write.set(name::OP, text(op.as_str()))).await {
            Ok(_) => Ok(Stamped::Applied),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    let is_ours =
                        |item: &&Item| Reader(item).text(name::OP).is_ok_and(|text| text == op.as_str());
                    Ok(match refused.item() {
                        Some(item) if is_ours(&item) => Stamped::Applied,
                        item => Stamped::Refused(item.cloned()),
                    })
                }
                _ => Err(StoreError::from_sdk("DynamoDB", operation, error)),
            },
        }
    }

    pub(crate) async fn write(
        &self,
        key: Key<'_>,
        write: Expression,
    ) -> Result<UpdateItemOutput, SdkError<UpdateItemError>> {
        write.update_item(&self.client, &self.table, key.attributes()).send().await
    }

    async fn put_if_absent(&self, operation: &'static str, item: Item) -> Result<KeyWrite, StoreError> {
        let sent = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        match sent {
            Ok(_) => Ok(KeyWrite::Applied),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(KeyWrite::Refused),
                _ => Err(StoreError::from_sdk("DynamoDB", operation, error)),
            },
        }
    }

    async fn delete(&self, operation: &'static str, key: Key<'_>) -> Result<KeyWrite, StoreError> {
        use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
        let sent = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .condition_expression("attribute_exists(pk)")
            .send()
            .await;
        match sent {
            Ok(_) => Ok(KeyWrite::Applied),
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(KeyWrite::Refused),
                _ => Err(StoreError::from_sdk("DynamoDB", operation, error)),
            },
        }
    }

    /// All of a partition, strongly consistent. An item that cannot be read is logged and left out: it must not stop what goes
    /// by the others.
    pub(crate) async fn partition<T>(
        &self,
        partition: &str,
        projection: Option<&[&str]>,
        read: impl Fn(&Item) -> Result<T, ItemError>,
    ) -> Result<Vec<T>, StoreError> {
        let (mut values, mut start) = (Vec::new(), None);
        loop {
            let mut query = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("#pk = :pk")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_values(":pk", text(partition))
                .consistent_read(true)
                .set_exclusive_start_key(start);
            if let Some(attributes) = projection {
                let aliases: Vec<_> = attributes.iter().map(|attribute| format!("#{attribute}")).collect();
                query = query.projection_expression(aliases.join(", "));
                for attribute in attributes {
                    query = query.expression_attribute_names(format!("#{attribute}"), *attribute);
                }
            }
            let answer =
                query.send().await.map_err(|error| StoreError::from_sdk("DynamoDB", "Query keys", error))?;
            for item in answer.items() {
                match read(item) {
                    Ok(value) => values.push(value),
                    Err(problem) => {
                        tracing::error!(error = %StoreError::unreadable(item, &problem), "an item is left out");
                    }
                }
            }
            start = answer.last_evaluated_key().cloned();
            if start.is_none() {
                return Ok(values);
            }
        }
    }
}
