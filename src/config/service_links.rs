//! Variables that Kubernetes and Docker add to a process. They are not settings, even if they begin with `GATEWAY_`.
//!
//! For a Service named `gateway` or `gateway-admin`, Kubernetes sets `GATEWAY_SERVICE_HOST`,
//! `GATEWAY_SERVICE_PORT_HTTP`, `GATEWAY_PORT_80_TCP_ADDR` and others in every pod of the namespace, unless the pod
//! has `enableServiceLinks: false`. A link of Docker sets `GATEWAY_NAME`, `GATEWAY_PORT` and `GATEWAY_ENV_…`.

use std::collections::{BTreeMap, BTreeSet};

/// The Services and links that the environment describes. Each is stored as the prefix of its variables.
pub(super) struct ServiceLinks(BTreeSet<String>);

impl ServiceLinks {
    /// Finds the Services and links. Each Service and each link has a variable that cannot be a setting.
    pub(super) fn find(environment: &BTreeMap<String, String>) -> Self {
        let beginning = |(name, text): (&String, &String)| {
            let name = name.to_ascii_uppercase();
            let end = ["_SERVICE_HOST", "_PORT", "_NAME"].into_iter().find(|end| name.ends_with(end))?;
            is_telling(end, text).then(|| name.strip_suffix(end).map(str::to_owned))?
        };
        Self(environment.iter().filter_map(beginning).collect())
    }

    /// Returns whether the variable belongs to one of the Services or links.
    pub(super) fn contain(&self, name: &str, text: &str) -> bool {
        let name = name.to_ascii_uppercase();
        self.0.iter().filter_map(|beginning| name.strip_prefix(beginning.as_str())).any(|end| match end {
            "_SERVICE_PORT" => true,
            "_SERVICE_HOST" | "_PORT" | "_NAME" => is_telling(end, text),
            // The prefix is followed by the name or number of a port, or by the name of a variable.
            _ => ["_SERVICE_PORT_", "_PORT_", "_ENV_"].iter().any(|beginning| end.starts_with(beginning)),
        })
    }
}

/// Returns whether the value proves that a variable with this suffix is not a misspelt setting. Proofs are a host,
/// the URL of a port such as `tcp://10.0.0.1:80`, and the path of a link.
fn is_telling(end: &str, text: &str) -> bool {
    match end {
        "_PORT" => ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme)),
        "_NAME" => text.starts_with('/'),
        _ => true,
    }
}
