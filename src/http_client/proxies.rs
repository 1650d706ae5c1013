//! Forward proxies between the gateway and other servers.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{ClientBuilder, NoProxy, Proxy};
use url::Url;

use crate::config::{NetworkSettings, ProxyUrl};

/// The forward proxies of the settings; none by default.
#[derive(Default)]
pub(super) struct Proxies {
    proxies: Vec<Proxy>,
    /// The same rules in a form that can be queried, because a client does not report whether it used a proxy.
    rules: Option<Matcher>,
}

impl Proxies {
    pub(super) fn new(settings: &NetworkSettings) -> Result<Self, reqwest::Error> {
        let direct = settings.no_proxy.join(",");
        let no_proxy = || NoProxy::from_string(&direct);
        let (https, http) = (url_of(settings.https_proxy.as_ref()), url_of(settings.http_proxy.as_ref()));
        let mut proxies = Vec::new();
        if !https.is_empty() {
            proxies.push(Proxy::https(https)?.no_proxy(no_proxy()));
        }
        if !http.is_empty() {
            proxies.push(Proxy::http(http)?.no_proxy(no_proxy()));
        }
        let rules = Matcher::builder().https(https.to_owned()).http(http.to_owned()).no(direct).build();
        Ok(Self { proxies, rules: Some(rules) })
    }

    /// Adds the proxies to a client.
    pub(super) fn add_to(&self, client: ClientBuilder) -> ClientBuilder {
        self.proxies.iter().cloned().fold(client, ClientBuilder::proxy)
    }

    /// Returns whether a proxy forwards requests to this URL.
    pub(super) fn forward(&self, url: &Url) -> bool {
        let Ok(uri) = url.as_str().parse() else { return false };
        self.rules.as_ref().is_some_and(|rules| rules.intercept(&uri).is_some())
    }
}

/// Returns the URL of a proxy with its user name and password; empty if there is no proxy.
fn url_of(proxy: Option<&ProxyUrl>) -> &str {
    proxy.map_or("", ProxyUrl::expose)
}
