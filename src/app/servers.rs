//! The servers of the API and of the admin port.

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use actix_web::dev::{ServerHandle, Service, ServiceResponse};
use actix_web::error::ErrorInternalServerError;
use actix_web::http::ConnectionType;
use actix_web::middleware::from_fn;
use actix_web::{App, Error, HttpServer, web};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::StartError;
use crate::config::Settings;
use crate::http::admin::{self, Readiness};
use crate::http::cors::cors;
use crate::http::observe::observe;
use crate::http::state::ApiState;

/// Time for which an idle connection stays open. It is longer than the idle timeout of ingresses (60 s), so the
/// ingress closes the connection first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

pub(super) fn serve_api(
    settings: &Settings,
    state: &web::Data<ApiState>,
    draining: &CancellationToken,
    loops: &TaskTracker,
) -> Result<(ServerHandle, Url), StartError> {
    let (address, public_url) = (settings.server.listen, state.env.public_url.clone());
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (state, draining, of_pages) = (state.clone(), draining.clone(), settings.cors.clone());
    let server = HttpServer::new(move || {
        let (public_url, draining) = (public_url.clone(), draining.clone());
        App::new()
            .app_data(state.clone())
            .wrap(cors(&of_pages))
            .wrap(from_fn(observe))
            .wrap_fn(move |request, api| {
                let is_safe = request.method().is_safe();
                let (answering, draining) = (api.call(request), draining.clone());
                async move {
                    // A caller may disconnect after it has sent a write, which is executed nevertheless.
                    let answer = if is_safe { answering.await? } else { run_to_end(answering).await? };
                    Ok(last_if(draining.is_cancelled(), answer))
                }
            })
            .configure(move |config| crate::http::configure(config, &public_url))
    })
    .workers(workers)
    // The limit applies to each server thread.
    .max_connections(settings.server.max_connections.div_ceil(workers))
    .client_request_timeout(settings.server.head_timeout)
    .keep_alive(KEEP_ALIVE)
    // A caller that disconnects ends its read, and with it the statements in the database.
    .h1_allow_half_closed(false)
    .shutdown_timeout(settings.server.shutdown_grace.as_secs())
    .disable_signals()
    .bind(address)
    .map_err(|source| StartError::Listen { address, source })?;
    let url = url_of(&server.addrs());
    let server = server.run();
    let handle = server.handle();
    loops.spawn(log_end(server));
    Ok((handle, url))
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
    loops.spawn(log_end(server));
    Ok((handle, url))
}

/// Answers a request in a task of its own, which continues if the caller disconnects.
async fn run_to_end<B: 'static>(
    answering: impl Future<Output = Result<ServiceResponse<B>, Error>> + 'static,
) -> Result<ServiceResponse<B>, Error> {
    actix_web::rt::spawn(answering).await.map_err(ErrorInternalServerError)?
}

/// During a drain, marks a response as the last one of its connection. Clients then send the next request to another
/// replica, and no request is lost on a connection that closes.
fn last_if<B>(is_draining: bool, mut response: ServiceResponse<B>) -> ServiceResponse<B> {
    if is_draining {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

async fn log_end(server: actix_web::dev::Server) {
    if let Err(error) = server.await {
        tracing::error!(%error, "server failed");
    }
}

/// Returns the URL of a bound server, as seen from this machine.
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
