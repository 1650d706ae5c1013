//! Checks the connection to the vendor, for the command `check`.

use std::time::Duration;

use reqwest::StatusCode;
use url::Url;

use crate::domain::transport_error::TransportError;
use crate::http_client::Network;

/// Time limit of the request that checks the connection.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A path that the vendor does not have. The path names the sender, because the vendor's log shows the path.
const PATH: [&str; 3] = ["alovoice-gateway", "check", "connection"];

/// Sends a request without a token to the vendor. Any answer of the vendor is a success, even a 404.
///
/// # Errors
/// Returns the reason why the vendor did not answer, for example because a proxy asks for credentials (407).
pub async fn check_connection(base_url: &Url, network: &Network) -> Result<(), TransportError> {
    let explain = |error: reqwest::Error| network.explain(&error);
    let client =
        network.builder().retry(reqwest::retry::never()).timeout(TIMEOUT).build().map_err(explain)?;
    let answer = client.get(harmless_url(base_url)).send().await.map_err(explain)?;
    match answer.status() {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(TransportError::ProxyAuthentication),
        _ => Ok(()),
    }
}

/// Returns the URL of [`PATH`] at the vendor. A request for it changes nothing and needs no token.
pub(super) fn harmless_url(base_url: &Url) -> Url {
    let mut url = base_url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(PATH);
    }
    url
}
