//! A receiver of callbacks that answers at once and counts requests.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};

/// A running receiver. It serves all addresses of the loopback network.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    count: Arc<AtomicUsize>,
}

impl Receiver {
    /// Starts the receiver. It listens on all addresses, because the loopback network has no address for all of its hosts.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("0.0.0.0", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    let count = Arc::clone(&counted);
                    App::new().app_data(web::PayloadConfig::new(16 << 20)).default_service(web::to(
                        move |_: web::Bytes| {
                            count.fetch_add(1, Ordering::Relaxed);
                            async { HttpResponse::NoContent().finish() }
                        },
                    ))
                });
                server.workers(1).disable_signals().listen(listener)?.run().await
            })
        });
        Self { port, count }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until the receiver has this number of requests.
    #[expect(clippy::disallowed_methods, reason = "this thread only waits")]
    pub(crate) fn wait_for(&self, count: usize) {
        let began = Instant::now();
        while self.count() < count {
            assert!(began.elapsed() < Duration::from_secs(300), "{} of {count} requests came", self.count());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
