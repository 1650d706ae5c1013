//! Connection URL of a PostgreSQL database, in the form that libpq defines (PostgreSQL documentation, section 32.1.1.2).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use secrecy::zeroize::Zeroizing;

/// A connection URL. It may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Zeroizing<String>);

/// The decoded parameters of a connection URL: those of its query, and `user`, `password`, `host`, `port` and `dbname`
/// from the part before the query. `host` and `port` are lists with commas.
pub type ConnectionParameters = BTreeMap<String, Zeroizing<String>>;

/// The URL does not have the form of libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be \"postgres://user@host:5432/database\"")]
pub struct InvalidPostgresUrl;

impl From<String> for PostgresUrl {
    fn from(url: String) -> Self {
        Self(url.into())
    }
}

impl FromStr for PostgresUrl {
    type Err = InvalidPostgresUrl;

    fn from_str(url: &str) -> Result<Self, InvalidPostgresUrl> {
        let url = Self::from(url.to_owned());
        url.expose()?;
        Ok(url)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://…")
    }
}

impl PostgresUrl {
    /// Parses the URL into its parameters, which may include a password. If a parameter occurs twice, its last value
    /// counts.
    ///
    /// # Errors
    /// Returns an error if the URL does not have the form of libpq. Names and values of parameters are not checked.
    pub fn expose(&self) -> Result<ConnectionParameters, InvalidPostgresUrl> {
        let url = self.0.as_str();
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or(InvalidPostgresUrl)?;
        let mut parameters = ConnectionParameters::new();
        let mut set = |key: &str, value: &str| {
            if !value.is_empty() {
                parameters.insert(decode(key)?.to_string(), decode(value)?);
            }
            Ok(())
        };
        // As in libpq, the user ends at the first `@`, unless a slash comes before it.
        let (user, rest) = match rest.find(['@', '/']) {
            Some(end) if rest[end..].starts_with('@') => (&rest[..end], &rest[end + 1..]),
            _ => ("", rest),
        };
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        set("user", user)?;
        set("password", password)?;
        if rest.contains('#') {
            return Err(InvalidPostgresUrl);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (servers, database) = rest.split_once('/').unwrap_or((rest, ""));
        let servers: Vec<_> = servers.split(',').map(split_port).collect::<Result<_, _>>()?;
        if servers.len() > 1 && servers.iter().any(|(host, _)| host.is_empty()) {
            return Err(InvalidPostgresUrl);
        }
        let (hosts, ports): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
        set("host", &hosts.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            set("port", &ports.join(","))?;
        }
        set("dbname", database)?;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').ok_or(InvalidPostgresUrl)?;
            match (key, value) {
                // URLs for JDBC have this parameter. libpq accepts it too.
                ("ssl", "true") => set("sslmode", "require")?,
                _ => set(key, &value.replace('+', "%20"))?,
            }
        }
        Ok(parameters)
    }
}

/// Splits `host:port`, where the host may be an IPv6 address in brackets. A missing port becomes an empty string.
fn split_port(server: &str) -> Result<(&str, &str), InvalidPostgresUrl> {
    let (host, port) = match server.strip_prefix('[').and_then(|address| address.split_once(']')) {
        Some((address, "")) => (address, ""),
        Some((address, port)) => (address, port.strip_prefix(':').ok_or(InvalidPostgresUrl)?),
        None => server.split_once(':').unwrap_or((server, "")),
    };
    let is_valid = port.is_empty() || port.parse::<u16>().is_ok();
    if is_valid { Ok((host, port)) } else { Err(InvalidPostgresUrl) }
}

fn decode(text: &str) -> Result<Zeroizing<String>, InvalidPostgresUrl> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| InvalidPostgresUrl)?;
    if decoded.contains('\0') {
        return Err(InvalidPostgresUrl);
    }
    Ok(decoded.into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the parameters as `key=value` in the order of their keys, or "invalid".
    fn read(url: &str) -> String {
        match PostgresUrl::from(url.to_owned()).expose() {
            Ok(found) => {
                let shown = found.iter().map(|(key, value)| format!("{key}={}", value.as_str()));
                shown.collect::<Vec<_>>().join(" ")
            }
            Err(error) => {
                error.to_string().replace("must be \"postgres://user@host:5432/database\"", "invalid")
            }
        }
    }

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        for (url, expected) in [
            (
                "postgres://u:p%40ss@db:6432/calls?sslmode=require",
                "dbname=calls host=db password=p@ss port=6432 sslmode=require user=u",
            ),
            ("postgresql://db", "host=db"),
            ("postgres://u@[::1]:5433/x", "dbname=x host=::1 port=5433 user=u"),
            ("postgres://a:1,b:2/x", "dbname=x host=a,b port=1,2"),
            ("postgres://a,b:2/x", "dbname=x host=a,b port=,2"),
            ("postgres://[::1],b/x", "dbname=x host=::1,b"),
            (
                "postgres:///x?host=/run/postgresql&port=5433&user=u",
                "dbname=x host=/run/postgresql port=5433 user=u",
            ),
            ("postgres://u@%2Frun%2Fpostgresql/x", "dbname=x host=/run/postgresql user=u"),
            ("postgres://a/x?host=b&dbname=y", "dbname=y host=b"),
            ("postgres://db/x?ssl=true", "dbname=x host=db sslmode=require"),
            (
                "postgres://a+b:c+d#?@db/e+f?application_name=g+h",
                "application_name=g h dbname=e+f host=db password=c+d#? user=a+b",
            ),
            ("postgres://db/x?", "dbname=x host=db"),
        ] {
            assert_eq!(read(url), expected, "{url}");
        }
    }

    #[test]
    fn urls_of_another_form_are_invalid() {
        for url in [
            "mysql://db/x",
            "postgres://db:port/x",
            "postgres://db:70000/x",
            "postgres://[::1]5432/x",
            "postgres://a,,b/x",
            "postgres://db/x#fragment",
            "postgres://db/x?sslmode",
            "postgres://db/%zz%ff",
            "postgres://db/x%00",
        ] {
            assert_eq!(read(url), "invalid", "{url}");
        }
    }
}
