//! The parameters of the connection URL. Their names and meanings are those of libpq (PostgreSQL documentation, section 32.1.2).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs};

use super::tls::TlsMode;
use crate::config::PostgresUrl;

/// The time limit of a TCP connection to one address. A host name may have several addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time after which a connection counts as lost if the network does not acknowledge its data.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without traffic after which the network connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(30);
const PORT: u16 = 5432;

/// A server of the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DatabaseServer {
    /// A name, an address or the folder of a Unix socket. The server's certificate must be valid for this host.
    host: Option<String>,
    /// The address to connect to, instead of the addresses of `host`.
    address: Option<IpAddr>,
    port: u16,
}

impl DatabaseServer {
    /// Returns the configuration for a connection to this server.
    pub(super) fn configure(&self, base: &Config) -> Config {
        let mut config = base.clone();
        config.port(self.port);
        if let Some(host) = &self.host {
            config.host(host);
        }
        // As in libpq, a Unix socket has no TLS, whatever sslmode says.
        if self.address.is_none() && self.host.as_ref().is_some_and(|host| host.starts_with(['/', '@'])) {
            config.ssl_mode(SslMode::Disable);
        }
        if let Some(address) = self.address {
            config.hostaddr(address);
        }
        config
    }
}

impl fmt::Display for DatabaseServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.address) {
            (Some(host), _) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            (Some(host), _) => write!(f, "{host}:{}", self.port),
            (None, Some(address)) => write!(f, "{}", SocketAddr::new(address, self.port)),
            (None, None) => Ok(()),
        }
    }
}

/// The parsed parameters of a connection URL.
pub(super) struct Parameters {
    /// The configuration without a server.
    pub(super) base: Config,
    /// The servers in the order of the URL; at least one.
    pub(super) servers: Vec<DatabaseServer>,
    /// Whether connections are spread over the servers.
    pub(super) is_balanced: bool,
    pub(super) tls: TlsMode,
}

impl Parameters {
    /// Parses a URL. The error is a message that names the parameter.
    pub(super) fn parse(url: &PostgresUrl) -> Result<Self, String> {
        let parameters = url.expose().map_err(|error| error.to_string())?;
        let get = |key: &str| parameters.get(key).map(|value| value.as_str());
        let mut base = Config::new();
        base.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(NETWORK_TIMEOUT).keepalives_idle(KEEPALIVE);
        // During a failover, a name may lead to a standby. A standby accepts no writes.
        base.target_session_attrs(TargetSessionAttrs::ReadWrite);
        base.application_name(get("fallback_application_name").unwrap_or("alovoice-gateway"));
        for (key, value) in &parameters {
            apply(&mut base, key, value)?;
        }
        let tls = TlsMode::parse(get)?;
        base.ssl_mode(tls.mode);
        let balancing = get("load_balance_hosts").unwrap_or("disable");
        let is_balanced = choose("load_balance_hosts", balancing, &[("disable", false), ("random", true)])?;
        Ok(Self { base, servers: servers(get)?, is_balanced, tls })
    }
}

/// Applies a parameter that concerns neither the servers nor TLS. Refuses an unknown parameter and an unsupported
/// value.
fn apply(base: &mut Config, key: &str, value: &str) -> Result<(), String> {
    match key {
        "user" => drop(base.user(value)),
        "password" => drop(base.password(value)),
        "dbname" => drop(base.dbname(value)),
        "options" => drop(base.options(value)),
        "application_name" => drop(base.application_name(value)),
        "channel_binding" => {
            use ChannelBinding::{Disable, Prefer, Require};
            let known = [("disable", Disable), ("prefer", Prefer), ("require", Require)];
            base.channel_binding(choose(key, value, &known)?);
        }
        "sslnegotiation" => {
            let known = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
            base.ssl_negotiation(choose(key, value, &known)?);
        }
        // As in libpq, zero means the default.
        "connect_timeout" => match number(key, value)? {
            0 => {}
            seconds => drop(base.connect_timeout(Duration::from_secs(seconds))),
        },
        "keepalives" => drop(base.keepalives(number::<u8>(key, value)? != 0)),
        "keepalives_idle" => drop(base.keepalives_idle(Duration::from_secs(number(key, value)?))),
        "keepalives_interval" => drop(base.keepalives_interval(Duration::from_secs(number(key, value)?))),
        "keepalives_count" => drop(base.keepalives_retries(number(key, value)?)),
        "tcp_user_timeout" => drop(base.tcp_user_timeout(Duration::from_millis(number(key, value)?))),
        // The gateway writes, so each of these values means a server that accepts writes.
        "target_session_attrs" => only(key, value, &["any", "read-write", "primary"])?,
        "client_encoding" => only(key, value, &["auto", "UTF8", "utf8", "UTF-8"])?,
        "gssencmode" => only(key, value, &["disable", "prefer"])?,
        "sslcompression" => only(key, value, &["0"])?,
        "sslsni" => only(key, value, &["1"])?,
        "host" | "hostaddr" | "port" | "load_balance_hosts" | "fallback_application_name" => {}
        "sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "ssl_min_protocol_version" => {}
        _ => return Err(unknown(key)),
    }
    Ok(())
}

fn unknown(key: &str) -> String {
    let hint = match key {
        "schema" | "currentSchema" | "search_path" => ": use options=-csearch_path%3DNAME",
        "passfile" | "service" | "servicefile" => ": use store.password_file for the password",
        _ => "",
    };
    format!("the parameter {key} is unknown or not supported{hint}")
}

/// Returns the value in `known` that the text of a parameter stands for.
fn choose<T: Copy>(key: &str, value: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == value);
    found.map(|(_, found)| *found).ok_or_else(|| refused(key, value, known.iter().map(|(name, _)| *name)))
}

/// Refuses a value that is not one of `known`.
fn only(key: &str, value: &str, known: &[&str]) -> Result<(), String> {
    let found = known.contains(&value).then_some(());
    found.ok_or_else(|| refused(key, value, known.iter().copied()))
}

fn refused<'a>(key: &str, value: &str, known: impl Iterator<Item = &'a str>) -> String {
    format!("{key}={value}: must be one of {}", known.collect::<Vec<_>>().join(", "))
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key}={value}: must be a number that is not negative"))
}

/// Returns the servers of `host`, `hostaddr` and `port`, which are lists of the same length. A single port applies to
/// all servers.
fn servers<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Vec<DatabaseServer>, String> {
    let list = |key: &str| get(key).map_or_else(Vec::new, |list| list.split(',').collect::<Vec<&str>>());
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err("the URL names no host; for a Unix socket add ?host=/var/run/postgresql".to_owned());
    }
    for (key, length) in [("host", hosts.len()), ("hostaddr", addresses.len()), ("port", ports.len())] {
        if length != count && length > usize::from(key == "port") {
            return Err(format!("{key} has {length} values for {count} servers"));
        }
    }
    let server = |index: usize| {
        let host = hosts.get(index).map(|host| (*host).to_owned());
        let address = match addresses.get(index) {
            Some(text) => Some(text.parse().map_err(|_| format!("hostaddr={text}: must be an IP address"))?),
            None => None,
        };
        let port = match ports.get(index).or(ports.first()).copied() {
            None | Some("") => PORT,
            Some(port) => number("port", port)?,
        };
        Ok(DatabaseServer { host, address, port })
    };
    (0..count).map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Parameters, String> {
        Parameters::parse(&PostgresUrl::from(url.to_owned()))
    }

    fn refused(query: &str) -> String {
        read(&format!("postgres://db/x?{query}")).err().unwrap_or_default()
    }

    fn servers(url: &str) -> String {
        let shown = |parameters: Parameters| {
            let servers = parameters.servers.iter().map(DatabaseServer::to_string);
            servers.collect::<Vec<_>>().join(" ")
        };
        read(url).map_or_else(|error| error, shown)
    }

    #[test]
    fn a_url_is_parsed_with_the_tls_parameters_of_libpq() {
        let Parameters { base, servers, tls, .. } =
            read("postgres://gateway:p%40ss@db.internal:6432/calls?sslmode=verify-full&sslrootcert=/ca.pem&options=-csearch_path%3Dx")
                .unwrap();
        assert_eq!(base.get_user(), Some("gateway"));
        assert_eq!(base.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(base.get_dbname(), Some("calls"));
        assert_eq!(base.get_options(), Some("-csearch_path=x"));
        assert_eq!(base.get_ssl_mode(), SslMode::Require);
        let config = servers[0].configure(&base);
        assert_eq!((config.get_ports(), config.get_hosts().len()), (&[6432][..], 1));
        let expected = |key: &str| match key {
            "sslmode" => Some("verify-full"),
            "sslrootcert" => Some("/ca.pem"),
            _ => None,
        };
        assert_eq!(tls, TlsMode::parse(expected).unwrap());
    }

    #[test]
    fn several_servers_are_listed_in_their_order() {
        for (url, expected) in [
            ("postgres://a,b:6432/x?target_session_attrs=read-write", "a:5432 b:6432"),
            ("postgres:///x?host=a,b&port=6432", "a:6432 b:6432"),
            ("postgres:///x?host=/run/postgresql", "/run/postgresql:5432"),
            ("postgres://[::1]:6432/x", "[::1]:6432"),
            ("postgres:///x?hostaddr=::1", "[::1]:5432"),
            ("postgres:///x?hostaddr=10.0.0.1,10.0.0.2", "10.0.0.1:5432 10.0.0.2:5432"),
            ("postgres://a,b,c/x?port=1,2", "port has 2 values for 3 servers"),
            ("postgres://a/x?hostaddr=10.0.0.1,10.0.0.2", "host has 1 values for 2 servers"),
            ("postgres://a/x?hostaddr=b", "hostaddr=b: must be an IP address"),
            ("postgres:///x", "the URL names no host; for a Unix socket add ?host=/var/run/postgresql"),
        ] {
            assert_eq!(servers(url), expected, "{url}");
        }
    }

    #[test]
    fn parameters_of_libpq_are_honoured() {
        let url = "postgres://db/x?connect_timeout=7&keepalives_idle=9&keepalives_interval=3&keepalives_count=4\
             &tcp_user_timeout=2500&application_name=crm&channel_binding=require&gssencmode=prefer&client_encoding=UTF8\
             &load_balance_hosts=random&sslnegotiation=postgres&sslcompression=0&sslsni=1&keepalives=1";
        let Parameters { base, is_balanced, .. } = read(url).unwrap();
        assert_eq!(base.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(base.get_keepalives_idle(), Duration::from_secs(9));
        assert_eq!(base.get_tcp_user_timeout(), Some(&Duration::from_millis(2500)));
        assert_eq!(base.get_application_name(), Some("crm"));
        assert_eq!(base.get_channel_binding(), ChannelBinding::Require);
        assert!(is_balanced);
        let fallback = read("postgres://db/x?fallback_application_name=crm&connect_timeout=0").unwrap().base;
        assert_eq!(fallback.get_application_name(), Some("crm"));
        assert_eq!(fallback.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
    }

    #[test]
    fn parameters_that_cannot_be_honoured_are_named() {
        for (query, expected) in [
            ("colour=red", "the parameter colour is unknown or not supported"),
            ("pgbouncer=true", "the parameter pgbouncer is unknown or not supported"),
            (
                "schema=x",
                "the parameter schema is unknown or not supported: use options=-csearch_path%3DNAME",
            ),
            ("sslcrl=/crl.pem", "the parameter sslcrl is unknown or not supported"),
            (
                "target_session_attrs=standby",
                "target_session_attrs=standby: must be one of any, read-write, primary",
            ),
            ("client_encoding=LATIN1", "client_encoding=LATIN1: must be one of auto, UTF8, utf8, UTF-8"),
            ("gssencmode=require", "gssencmode=require: must be one of disable, prefer"),
            ("connect_timeout=soon", "connect_timeout=soon: must be a number that is not negative"),
            ("load_balance_hosts=yes", "load_balance_hosts=yes: must be one of disable, random"),
            (
                "sslmode=maybe",
                "sslmode=maybe: must be disable, allow, prefer, require, verify-ca or verify-full",
            ),
            ("sslmode=require&sslrootcert=system", "sslrootcert=system: sslmode must be verify-full"),
            ("sslcert=/c.pem", "sslcert and sslkey must be given together"),
            (
                "ssl_min_protocol_version=SSLv3",
                "ssl_min_protocol_version=SSLv3: must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3",
            ),
        ] {
            assert_eq!(refused(query), expected, "{query}");
        }
    }
}
