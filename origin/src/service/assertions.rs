//! Client assertions, each good for one call.

use std::sync::Arc;

use super::{Service, ServiceError};
use crate::{
    clients::{Client, Clients},
    shell,
    store::{Key, Swapped},
};

impl Service {
    /// The clients of the configuration.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The client that made an assertion; none if the assertion does not count, or did before at any origin.
    ///
    /// What is remembered is bounded: 16 bytes per assertion, only of those that a registered client signed, until they
    /// expire, which is after [`crate::clients::LIFETIME_MAX`] at the latest.
    ///
    /// # Errors
    ///
    /// The store: then the assertion may be used up.
    pub async fn authenticate_assertion(&self, text: &str) -> Result<Option<Arc<Client>>, ServiceError> {
        let audiences = [self.issuer.as_str(), self.token_endpoint.as_str()];
        let assertion = match self.clients.check_assertion(text, audiences, shell::now(), self.skew_max) {
            Ok(assertion) => assertion,
            Err(error) => {
                tracing::info!(event = "client_assertion_refused", reason = %error);
                return Ok(None);
            }
        };
        // Remembered beyond its time by the skew between this clock and that of the store.
        let until = assertion.expires_at.saturating_add(self.skew_max);
        if self.store.swap(&Key::Assertion(assertion.id), None, &[1], Some(until)).await? == Swapped::Conflict {
            tracing::warn!(event = "client_assertion_repeated", client = assertion.client.id.as_str());
            return Ok(None);
        }
        Ok(Some(assertion.client))
    }
}
