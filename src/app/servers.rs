//! The servers of the API and of the admin port.

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server, ServerHandle, Service, ServiceResponse};
use actix_web::error::ErrorInternalServerError;
use actix_web::http::ConnectionType;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, Error, HttpServer, web};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::StartError;
use crate::config::Settings;
use crate::http::admin::{self, Readiness};
use crate::http::connection::{Connection, ConnectionPolicy};
use crate::http::connection_state::is_last;
use crate::http::cors::cors;
use crate::http::observe::observe;
use crate::http::open_connections::OpenConnections;
use crate::http::state::ApiState;

/// Time for which an idle connection stays open. It is longer than the idle timeout of ingresses (60 s), so the
/// ingress closes the connection first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Time that the server waits for the client to close a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of unsent bytes of a connection in the kernel (`TCP_NOTSENT_LOWAT`).
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 128 << 10;
/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

pub(super) fn serve_api(
    settings: &Settings,
    state: &web::Data<ApiState>,
    draining: &CancellationToken,
    loops: &TaskTracker,
) -> Result<(ServerHandle, Url), StartError> {
    let address = settings.server.listen;
    let listen = |source| StartError::Listen { address, source };
    let listener = listener(address).map_err(listen)?;
    let local = listener.local_addr().map_err(listen)?;
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (server, state, draining) = (settings.server.clone(), state.clone(), draining.clone());
    let (public_url, of_pages) = (state.env.public_url.clone(), settings.cors.clone());
    // The limit applies to each server thread. A thread closes idle connections to keep its last place free for a new
    // connection.
    let max_connections = server.max_connections.div_ceil(workers).max(2);
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(max_connections)
        .shutdown_timeout(server.shutdown_grace.as_secs())
        .disable_signals();
    let shutdown = builder.graceful_shutdown_signal();
    let policy =
        ConnectionPolicy::new(server.body_timeout, state.write_buffers.clone(), state.env.metrics.clone());
    // The framework's `HttpServer` does the same, but it does not accept another type of connection.
    let builder = builder.listen("api", listener, move || {
        let (public_url, draining, shutdown) = (public_url.clone(), draining.clone(), shutdown.clone());
        let app = App::new()
            .app_data(state.clone())
            .wrap(cors(&of_pages))
            .wrap(from_fn(observe))
            .wrap_fn(move |request, api| {
                let is_safe = request.method().is_safe();
                let (answering, draining) = (api.call(request), draining.clone());
                async move {
                    // A request that may change data is executed even if the caller disconnects.
                    let answer = if is_safe { answering.await? } else { run_to_end(answering).await? };
                    Ok(last_if(draining.is_cancelled(), answer))
                }
            })
            .configure(|config| crate::http::configure(config, &public_url));
        let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let shutdown = shutdown.clone();
                async move { shutdown.notified().await }
            })
            .client_request_timeout(server.head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .keep_alive(KEEP_ALIVE)
            // If a caller disconnects, its read ends, and the store cancels the statements of the read.
            .h1_allow_half_closed(false)
            .local_addr(local)
            .on_connect_ext(|connection: &Connection, data| _ = data.insert(connection.state()))
            .h1(map_config(app, |()| AppConfig::default()));
        let policy = policy.clone();
        // The framework calls this function once in each server thread.
        let connections = OpenConnections::new(max_connections);
        fn_service(move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            ready(Ok((Connection::new(stream, policy.clone(), &connections), peer)))
        })
        .and_then(http)
    });
    let server = builder.map_err(listen)?.run();
    let handle = server.handle();
    loops.spawn(log_end("api", server));
    Ok((handle, url_of(&[local])))
}

/// Listens at an address. Accepted connections inherit the socket options.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Without this option, the last packet of a long answer waits for an acknowledgement, which clients delay by 40 ms.
    socket.set_nodelay(true)?;
    // Without this limit, the kernel buffers megabytes of an answer that the client does not read.
    #[cfg(target_os = "linux")]
    SockRef::from(&socket).set_tcp_notsent_lowat(MAX_UNSENT)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

pub(super) fn serve_admin(
    settings: &Settings,
    state: &web::Data<ApiState>,
    readiness: &Readiness,
    loops: &TaskTracker,
) -> Result<(ServerHandle, Url), StartError> {
    let address = settings.server.admin_listen;
    let (state, readiness) = (state.clone(), web::Data::new(readiness.clone()));
    let server = HttpServer::new(move || {
        App::new().app_data(state.clone()).app_data(readiness.clone()).configure(admin::configure)
    })
    .workers(1)
    .shutdown_timeout(1)
    .disable_signals()
    .bind(address)
    .map_err(|source| StartError::Listen { address, source })?;
    let url = url_of(&server.addrs());
    let server = server.run();
    let handle = server.handle();
    loops.spawn(log_end("admin", server));
    Ok((handle, url))
}

/// Answers a request in a separate task, which continues if the caller disconnects.
async fn run_to_end<B: 'static>(
    answering: impl Future<Output = Result<ServiceResponse<B>, Error>> + 'static,
) -> Result<ServiceResponse<B>, Error> {
    actix_web::rt::spawn(answering).await.map_err(ErrorInternalServerError)?
}

/// Marks a response as the last one of its connection during a drain, or if [`is_last`] is true. Clients then send the
/// next request on another connection, and no request is lost on a connection that closes.
fn last_if<B>(is_draining: bool, mut response: ServiceResponse<B>) -> ServiceResponse<B> {
    if is_draining || is_last(response.request()) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

async fn log_end(name: &'static str, server: Server) {
    if let Err(error) = server.await {
        tracing::error!(server = name, %error, "server failed");
    }
}

/// Returns the URL at which this machine reaches a server that listens on these addresses.
fn url_of(addresses: &[SocketAddr]) -> Url {
    let mut url = Url::parse("http://127.0.0.1").unwrap_or_else(|_| unreachable!("a constant"));
    if let Some(address) = addresses.first() {
        if !address.ip().is_unspecified() {
            let _ = url.set_ip_host(address.ip());
        }
        let _ = url.set_port(Some(address.port()));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_send_without_delay() {
        let listener = listener(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
