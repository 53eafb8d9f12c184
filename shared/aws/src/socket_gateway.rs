//! Messages to WebSocket connections, through API Gateway.

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use darkroom_core::id::ConnectionId;

use crate::error::StoreError;

/// API Gateway, which holds the connections.
#[derive(Clone, Debug)]
pub struct SocketGateway {
    client: Client,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The gateway has sent it, or is about to. Whether the client reads it is not known.
    Sent,
    /// The connection has ended.
    Gone,
}

impl SocketGateway {
    /// Through this client ([`crate::clients::Clients::websocket`]).
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends a text to a connection. Ends within [`darkroom_core::limits::PUSH_TIMEOUT`]. A try whose answer was lost is
    /// repeated: the client may get it twice.
    pub async fn post(&self, id: &ConnectionId, text: &str) -> Result<Posted, StoreError> {
        let call = self.client.post_to_connection().connection_id(id.as_str()).data(Blob::new(text)).send();
        match Box::pin(call).await {
            Ok(_) => Ok(Posted::Sent),
            Err(error) if is_gone(error.raw_response()) => Ok(Posted::Gone),
            Err(error) => Err(StoreError::from_sdk("API Gateway", "PostToConnection", error)),
        }
    }

    /// Ends a connection; its client sees it closed. Idempotent.
    pub async fn end(&self, id: &ConnectionId) -> Result<(), StoreError> {
        let call = self.client.delete_connection().connection_id(id.as_str()).send();
        match Box::pin(call).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(error.raw_response()) => Ok(()),
            Err(error) => Err(StoreError::from_sdk("API Gateway", "DeleteConnection", error)),
        }
    }
}

/// 410, `GoneException`. One that is not open yet, whose `$connect` has not answered, is gone, too.
fn is_gone(response: Option<&aws_smithy_runtime_api::http::Response>) -> bool {
    response.is_some_and(|response| response.status().as_u16() == 410)
}
