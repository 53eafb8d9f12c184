//! API keys, quota scopes and the catalogue of models.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use darkroom_core::id::{KeyId, ModelName};
use darkroom_core::key::{ApiKey, KeyState, Scope, ScopeState, Secret};
use darkroom_core::model::{Model, ProviderName};
use darkroom_core::quota::Usage;

use crate::attributes::{Item, json, number, text};
use crate::error::StoreError;
use crate::expression::Expression;
use crate::items::ItemError;
use crate::items::key::{
    KEY_PROJECTION, api_key, api_key_item, model, model_item, name, scope, scope_item, secret,
};
use crate::keys::{API_KEY_PARTITION, Key, MODEL_PARTITION, PK, SCOPE_PREFIX, readable_key, scope_partition};

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

impl KeyTable {
    /// The table of this name.
    pub const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Adds a key with its secret; [`KeyWrite::Refused`] when this secret is there already.
    pub async fn add_key(&self, key: &ApiKey, secret: &Secret) -> Result<KeyWrite, StoreError> {
        self.put_if_absent("PutItem key", api_key_item(key, secret)).await
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
                scopes.push(scope(item).map_err(|problem| unreadable(item, &problem))?);
            }
            start = answer.last_evaluated_key().cloned();
            if start.is_none() {
                return Ok(scopes);
            }
        }
    }

    /// A key's secret; `None` when the key is gone.
    pub async fn secret(&self, key: &ApiKey) -> Result<Option<Secret>, StoreError> {
        let item = self.get(Key::ApiKey(key.provider, &key.project, &key.id)).await?;
        item.as_ref().map(|item| secret(item).map_err(|problem| unreadable(item, &problem))).transpose()
    }

    /// Stores a scope's usage, and that its rest is over, if nobody wrote the scope since it was read.
    pub async fn reserve(
        &self,
        scope: &Scope,
        state: ScopeState,
        usage: &Usage,
    ) -> Result<KeyWrite, StoreError> {
        let write = Expression::default()
            .set(name::USAGE, json(usage))
            .set(name::STATE, json(&state))
            .add(name::VERSION, 1)
            .require(name::VERSION, "=", number(scope.version));
        self.conditional("UpdateItem scope usage", scope_key(scope), write).await
    }

    /// Stores a scope's state if nobody wrote the scope since it was read.
    pub async fn set_scope_state(&self, scope: &Scope, state: ScopeState) -> Result<KeyWrite, StoreError> {
        let write = Expression::default().set(name::STATE, json(&state)).add(name::VERSION, 1).require(
            name::VERSION,
            "=",
            number(scope.version),
        );
        self.conditional("UpdateItem scope state", scope_key(scope), write).await
    }

    /// Stores a scope's limits if nobody wrote the scope since it was read.
    pub async fn set_scope_limits(
        &self,
        scope: &Scope,
        requests_per_minute: u32,
        requests_per_day: Option<u32>,
    ) -> Result<KeyWrite, StoreError> {
        let write = Expression::default().set(name::RPM, number(requests_per_minute)).add(name::VERSION, 1);
        let write = match requests_per_day {
            Some(limit) => write.set(name::RPD, number(limit)),
            None => write.remove(&[name::RPD]),
        };
        let write = write.require(name::VERSION, "=", number(scope.version));
        self.conditional("UpdateItem scope limits", scope_key(scope), write).await
    }

    /// Stores a key's state if it still has the state that was read.
    pub async fn set_key_state(&self, key: &ApiKey, state: KeyState) -> Result<KeyWrite, StoreError> {
        let write =
            Expression::default().set(name::STATE, json(&state)).require(name::STATE, "=", json(&key.state));
        self.conditional("UpdateItem key state", Key::ApiKey(key.provider, &key.project, &key.id), write)
            .await
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
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.get(Key::Heartbeat("ping")).await.map(|_| ())
    }

    pub(crate) async fn get(&self, key: Key<'_>) -> Result<Option<Item>, StoreError> {
        self.client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .send()
            .await
            .map(|answer| answer.item)
            .map_err(|error| StoreError::from_sdk("DynamoDB", "GetItem keys", error))
    }

    pub(crate) async fn write(
        &self,
        key: Key<'_>,
        write: Expression,
    ) -> Result<UpdateItemOutput, SdkError<UpdateItemError>> {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .update_expression(write.update())
            .condition_expression(write.condition())
            .set_expression_attribute_names(Some(write.names))
            .set_expression_attribute_values(Some(write.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await
    }

    async fn conditional(
        &self,
        operation: &'static str,
        key: Key<'_>,
        write: Expression,
    ) -> Result<KeyWrite, StoreError> {
        match self.write(key, write).await {
            Ok(_) => Ok(KeyWrite::Applied),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(KeyWrite::Refused),
                _ => Err(StoreError::from_sdk("DynamoDB", operation, error)),
            },
        }
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

    /// All of a partition, strongly consistent.
    async fn partition<T>(
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
                values.push(read(item).map_err(|problem| unreadable(item, &problem))?);
            }
            start = answer.last_evaluated_key().cloned();
            if start.is_none() {
                return Ok(values);
            }
        }
    }
}

const fn scope_key(scope: &Scope) -> Key<'_> {
    Key::Scope(scope.provider, &scope.model, &scope.project)
}

fn unreadable(item: &Item, problem: &ItemError) -> StoreError {
    StoreError::Unreadable { key: readable_key(item), problem: problem.to_string() }
}
