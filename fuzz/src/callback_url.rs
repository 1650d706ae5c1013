//! Callback URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use alovoice_gateway::callbacks::Guard;
use alovoice_gateway::config::CallbackSettings;
use alovoice_gateway::domain::callback_url::CallbackUrl;
use url::Host;

/// An accepted URL is in normal form, within the bounds, and has no address that is not public.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(url) = CallbackUrl::parse(text) else { return };
    assert_eq!(CallbackUrl::parse(url.as_str()).as_ref(), Ok(&url), "the normal form parses to the same URL");
    assert!(url.as_str().starts_with(&url.receiver()));
    let settings = CallbackSettings {
        timeout: Duration::from_secs(1),
        allow_http: true,
        allow_networks: Vec::new(),
        allow_templates: false,
        retry_schedule: Vec::new(),
    };
    if Guard::new(&settings).admit(&url).is_ok() {
        match url.as_url().host() {
            Some(Host::Ipv4(address)) => assert!(is_public(address.into()), "{url:?}"),
            Some(Host::Ipv6(address)) => assert!(is_public(address.into()), "{url:?}"),
            Some(Host::Domain(name)) => {
                let last = name.trim_end_matches('.').rsplit('.').next();
                assert_ne!(last, Some("localhost"), "{url:?}");
            }
            None => panic!("no host: {url:?}"),
        }
    }
}

/// An independent check, coarser than the tables of the guard.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            let inner = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
            match address.to_ipv4_mapped() {
                Some(mapped) => is_public_v4(mapped),
                None if a == 0x2002 => is_public_v4(inner(b, c)),
                None if address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
                    is_public_v4(inner(address.segments()[6], address.segments()[7]))
                }
                None if address.segments()[..6] == [0; 6] && address != Ipv6Addr::LOCALHOST => {
                    is_public_v4(inner(address.segments()[6], address.segments()[7]))
                }
                None => a & 0xe000 == 0x2000 && (a, b) != (0x2001, 0xdb8) && (a, b) != (0x2001, 0),
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || shared
        || a == 0
        || a >= 224)
}
