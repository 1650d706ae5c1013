//! Resolves host names for the HTTP client.
//!
//! A name with a forbidden address is refused, even if its other addresses are allowed, because the client may connect
//! to any of them. The client connects to the addresses returned here and does not resolve the name again, so a name
//! whose address changes between check and use (DNS rebinding) has no effect.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::guard::Guard;

/// Source of the addresses of host names.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// Returns all addresses of a name.
    ///
    /// # Errors
    /// If the name has no address, or cannot be resolved now.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Maximum number of lookups in progress. Each lookup uses a blocking thread. The limit leaves threads for the store.
const MAX_LOOKUPS: usize = 256;

tokio::task_local! {
    /// Value that is dropped when the attempt and its lookups have ended.
    static HELD: Arc<dyn Any + Send + Sync>;
}

/// Runs an attempt. `held` is dropped when the attempt and its lookups have ended. The operating system cannot cancel a lookup, so a
/// name server that does not answer occupies a thread after the attempt has timed out.
pub async fn hold_during_lookups<F: Future>(held: Arc<dyn Any + Send + Sync>, attempt: F) -> F::Output {
    HELD.scope(held, attempt).await
}

/// The resolver of the operating system.
#[derive(Debug, Clone)]
pub struct SystemLookup(Arc<Semaphore>);

impl Default for SystemLookup {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKUPS)))
    }
}

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let held = HELD.try_with(Arc::clone).ok();
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let name = name.to_owned();
        let lookup = move || {
            let _until_it_ends = (held, permit);
            Ok((&name[..], 0).to_socket_addrs()?.map(|address| address.ip()).collect())
        };
        spawn_blocking(lookup).await.map_err(io::Error::other)?
    }
}

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
            // The client replaces port 0 by the port of the URL.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
