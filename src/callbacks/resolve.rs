//! Resolves host names for the HTTP client.
//!
//! A name with a forbidden address is refused, even if its other addresses are allowed, because the client may connect to any of
//! them. The client connects to the addresses returned here and does not resolve the name again. So an address that changes
//! between the check and the connection (DNS rebinding) has no effect.

use std::io;
use std::sync::Arc;

use reqwest::dns::{Name, Resolve, Resolving};

use super::guard::Guard;
use crate::http_client::{Lookup, socket_addresses};

/// A resolver that returns only addresses that the guard allows.
pub(super) struct GuardedResolver {
    guard: Guard,
    lookup: Arc<dyn Lookup>,
}

impl GuardedResolver {
    pub(super) fn new(guard: Guard, lookup: Arc<dyn Lookup>) -> Self {
        Self { guard, lookup }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, lookup) = (self.guard.clone(), Arc::clone(&self.lookup));
        Box::pin(async move {
            let addresses = lookup.lookup(name.as_str()).await?;
            if addresses.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            for address in &addresses {
                guard.check_address(*address)?;
            }
            Ok(socket_addresses(addresses))
        })
    }
}
