//! `health`: checks whether the gateway with these settings is alive, for images without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::StatusCode;

use super::{Failed, print};
use crate::config::Settings;
use crate::http_client;

/// Deadline of the whole request. It is shorter than the deadline of the image's health check, so that the command can print
/// the reason.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn run(settings: &Settings) -> Result<(), Failed> {
    let address = reachable(settings.server.admin_listen)?;
    let url = format!("http://{address}/livez");
    let client = http_client::builder().timeout(TIMEOUT).build().map_err(Failed::fault)?;
    let answer = client.get(&url).send().await;
    match answer {
        Ok(answer) if answer.status() == StatusCode::OK => print("alive"),
        Ok(answer) => Err(Failed::fault(format!("{url} answered {}", answer.status()))),
        Err(error) if error.is_timeout() => {
            Err(Failed::fault(format!("{url} is not reachable: no answer within {} s", TIMEOUT.as_secs())))
        }
        Err(error) => Err(Failed::fault(format!("{url} is not reachable: {}", http_client::explain(&error)))),
    }
}

/// Returns the address at which this machine reaches a gateway that listens on `listen`.
fn reachable(listen: SocketAddr) -> Result<SocketAddr, Failed> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    match listen.port() {
        0 => Err(Failed::Usage(
            "server.admin_listen has port 0, so the port of the running gateway is unknown".to_owned(),
        )),
        port => Ok(SocketAddr::new(ip, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_checked_on_the_loopback_interface() {
        for (listen, address) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.1.2.3:9090", "10.1.2.3:9090"),
            ("[fd00::1]:9091", "[fd00::1]:9091"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).unwrap(), address.parse().unwrap(), "{listen}");
        }
    }

    #[test]
    fn a_port_chosen_by_the_system_cannot_be_checked() {
        let Err(Failed::Usage(text)) = reachable("127.0.0.1:0".parse().unwrap()) else { panic!() };
        assert!(text.contains("server.admin_listen"), "{text}");
    }
}
