//! Why there is no connection.

use super::Key;
use crate::{Error, error::Cause};
use mesh_core::balance::Security;
use std::{error::Error as StdError, sync::Arc};

/// Why there is no connection; everybody who waited for it gets the same.
#[derive(Clone, Debug)]
pub(crate) struct ConnectError {
    cause: Cause,
    pub(super) message: String,
    transport: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl ConnectError {
    pub(super) fn new(cause: Cause, message: String, transport: Option<String>) -> Self {
        Self { cause, message, transport, source: None }
    }

    pub(super) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The connection was made, and ended before its first request.
    pub(super) fn closed(key: &Key) -> Self {
        let hint = match &key.security {
            // In TLS 1.3 that comes after the client's side of the handshake is done.
            Security::Mutual(_) => {
                ": if it accepts others, it may have refused our certificate; its log says why"
            }
            _ => "",
        };
        let message = format!("{} closed the connection before it took a request (UF){hint}", key.address);
        Self::new(Cause::Connect { tls: false }, message, None)
    }

    pub(super) fn gone(key: &Key) -> Self {
        let message = format!("the task that connects to {} was ended (UF)", key.address);
        Self::new(Cause::Connect { tls: false }, message, None)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        let mut this = Self::new(error.cause, error.message);
        if let Some(transport) = error.transport {
            this = this.with_transport(transport);
        }
        if let Some(source) = error.source {
            this = this.with_source(source);
        }
        this
    }
}
