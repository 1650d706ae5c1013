//! Resolves host names with the resolver of the operating system.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Source of the addresses of host names.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// Returns all addresses of a name.
    ///
    /// # Errors
    /// Returns an error if the name has no address, or cannot be resolved now.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

tokio::task_local! {
    /// Value, such as a slot of a worker, that is dropped when the current attempt and its lookups have ended.
    static HELD: Arc<dyn Any + Send + Sync>;
}

/// Runs an attempt to send a request. `held` is dropped when the attempt and its lookups have ended. The operating system cannot
/// cancel a lookup, so a name server that does not answer occupies a thread even after the attempt has timed out.
pub async fn hold_during_lookups<F: Future>(held: Arc<dyn Any + Send + Sync>, attempt: F) -> F::Output {
    HELD.scope(held, attempt).await
}

/// Function that returns the addresses of a name. It may block its thread.
type BlockingLookup = fn(&str) -> io::Result<Vec<IpAddr>>;

/// The resolver of the operating system, with a limit on the number of lookups in progress. Clones share the limit.
///
/// Each lookup uses a blocking thread. tokio has 512 of these threads, and the readers of the store use them too. So lookups
/// that wait for name servers must not use all threads.
#[derive(Debug, Clone)]
pub struct SystemLookup {
    permits: Arc<Semaphore>,
    lookup: BlockingLookup,
}

impl SystemLookup {
    /// Creates a resolver with a maximum number of lookups in progress.
    pub fn new(max_lookups: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max_lookups)),
            lookup: |name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()),
        }
    }
}

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let held = HELD.try_with(Arc::clone).ok();
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        let (name, lookup) = (name.to_owned(), self.lookup);
        let lookup = move || {
            let _until_it_ends = (held, permit);
            lookup(&name)
        };
        spawn_blocking(lookup).await.map_err(io::Error::other)?
    }
}

impl Resolve for SystemLookup {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.clone();
        Box::pin(async move { Ok(socket_addresses(lookup.lookup(name.as_str()).await?)) })
    }
}

/// Returns addresses in the form that the HTTP client takes. The client replaces port 0 by the port of the URL.
pub fn socket_addresses(addresses: Vec<IpAddr>) -> Addrs {
    Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};

    use futures_util::poll;

    use super::*;

    static ANSWERS: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    static BEGUN: AtomicUsize = AtomicUsize::new(0);

    fn answer_late(_: &str) -> io::Result<Vec<IpAddr>> {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        let (answers, changed) = &ANSWERS;
        drop(changed.wait_while(answers.lock().unwrap(), |answers| !*answers).unwrap());
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }

    #[tokio::test]
    async fn abandoned_lookups_count_until_the_name_server_answers() {
        let lookup = SystemLookup { permits: Arc::new(Semaphore::new(2)), lookup: answer_late };
        for _ in 0..2 {
            let mut abandoned = Box::pin(lookup.lookup("vendor.example"));
            assert!(poll!(&mut abandoned).is_pending());
        }
        let mut third = Box::pin(lookup.lookup("vendor.example"));
        assert!(poll!(&mut third).is_pending());
        assert_eq!(lookup.permits.available_permits(), 0);

        *ANSWERS.0.lock().unwrap() = true;
        ANSWERS.1.notify_all();
        assert_eq!(third.await.unwrap(), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        assert_eq!(BEGUN.load(Ordering::SeqCst), 3);
    }
}
