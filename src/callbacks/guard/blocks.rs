//! The blocks of addresses that are not public.
//!
//! They are the blocks of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), and the multicast
//! blocks. In IPv6, only `2000::/3` is assigned (RFC 4291, 2.4; IANA IPv6 Global Unicast Address Assignments). The registries
//! mark some small blocks inside reserved blocks as global (`192.0.0.9`, `2001:1::1`, …). These small blocks belong to anycast
//! services of a network and never to receivers, so they are refused with the surrounding block.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(high: [u16; 4], low: u16, prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = high;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, low), prefix)
}

const IPV4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 0, 8), "of \"this network\" (RFC 791)"),
    (v4(10, 0, 0, 0, 8), "private (RFC 1918)"),
    (v4(100, 64, 0, 0, 10), "shared address space of a carrier (RFC 6598)"),
    (v4(127, 0, 0, 0, 8), "loopback (RFC 1122)"),
    (v4(169, 254, 0, 0, 16), "link-local (RFC 3927)"),
    (v4(172, 16, 0, 0, 12), "private (RFC 1918)"),
    (v4(192, 0, 0, 0, 24), "for IETF protocols (RFC 6890)"),
    (v4(192, 0, 2, 0, 24), "for documentation (RFC 5737)"),
    (v4(192, 88, 99, 0, 24), "for 6to4 relays (RFC 7526)"),
    (v4(192, 168, 0, 0, 16), "private (RFC 1918)"),
    (v4(198, 18, 0, 0, 15), "for benchmarks (RFC 2544)"),
    (v4(198, 51, 100, 0, 24), "for documentation (RFC 5737)"),
    (v4(203, 0, 113, 0, 24), "for documentation (RFC 5737)"),
    (v4(224, 0, 0, 0, 4), "multicast (RFC 5771)"),
    (v4(255, 255, 255, 255, 32), "broadcast (RFC 8190)"),
    (v4(240, 0, 0, 0, 4), "reserved (RFC 1112)"),
];

const IPV6: [(Ipv6Net, &str); 13] = [
    (v6([0, 0, 0, 0], 0, 128), "unspecified (RFC 4291)"),
    (v6([0, 0, 0, 0], 1, 128), "loopback (RFC 4291)"),
    (v6([0x64, 0xff9b, 1, 0], 0, 48), "for local IPv4 translation (RFC 8215)"),
    (v6([0x100, 0, 0, 0], 0, 64), "discard-only (RFC 6666)"),
    (v6([0x100, 0, 0, 1], 0, 64), "a dummy prefix (RFC 9780)"),
    // This block contains Teredo (2001::/32), which is deprecated. Teredo is refused as a whole, whatever the embedded address
    // is.
    (v6([0x2001, 0, 0, 0], 0, 23), "for IETF protocols (RFC 2928)"),
    (v6([0x2001, 0xdb8, 0, 0], 0, 32), "for documentation (RFC 3849)"),
    (v6([0x3fff, 0, 0, 0], 0, 20), "for documentation (RFC 9637)"),
    (v6([0x5f00, 0, 0, 0], 0, 16), "for segment routing (RFC 9602)"),
    (v6([0xfc00, 0, 0, 0], 0, 7), "unique local (RFC 4193)"),
    (v6([0xfe80, 0, 0, 0], 0, 10), "link-local (RFC 4291)"),
    (v6([0xfec0, 0, 0, 0], 0, 10), "site-local (RFC 3879)"),
    (v6([0xff00, 0, 0, 0], 0, 8), "multicast (RFC 4291)"),
];

/// The block of IPv6 global unicast addresses.
const IPV6_GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0], 0, 3);

/// Blocks whose addresses embed an IPv4 address in their last 32 bits: mapped (RFC 4291, 2.5.5.2), compatible (2.5.5.1), and
/// NAT64 (RFC 6052).
const IPV4_LAST: [Ipv6Net; 3] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    v6([0, 0, 0, 0], 0, 96),
    v6([0x64, 0xff9b, 0, 0], 0, 96),
];

/// The block whose addresses embed an IPv4 address after the prefix: 6to4 (RFC 3056).
const IPV4_AFTER_PREFIX: Ipv6Net = v6([0x2002, 0, 0, 0], 0, 16);

/// Returns the kind of an address that is not public, such as "private (RFC 1918)". Returns `None` for a public address.
///
/// For an IPv6 address that embeds an IPv4 address, callers must pass the IPv4 address: see [`embedded`].
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => find(&IPV4, |block| block.contains(&address)),
        IpAddr::V6(address) => find(&IPV6, |block| block.contains(&address))
            .or_else(|| (!IPV6_GLOBAL.contains(&address)).then_some("reserved (RFC 4291)")),
    }
}

/// Returns the IPv4 address that an IPv6 address embeds.
pub(super) fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [_, _, a, b, c, d, .., w, x, y, z] = address.octets();
    if address.is_unspecified() || address.is_loopback() {
        return None; // They have the compatible form but embed no IPv4 address.
    }
    if IPV4_LAST.iter().any(|network| network.contains(&address)) {
        return Some(Ipv4Addr::new(w, x, y, z));
    }
    IPV4_AFTER_PREFIX.contains(&address).then_some(Ipv4Addr::new(a, b, c, d))
}

fn find<N>(blocks: &[(N, &'static str)], holds: impl Fn(&N) -> bool) -> Option<&'static str> {
    blocks.iter().find(|(block, _)| holds(block)).map(|(_, name)| *name)
}
