use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn guard(allow_http: bool, networks: &[&str]) -> Guard {
    Guard::new(&CallbackSettings {
        timeout: Duration::from_secs(15),
        allow_http,
        allow_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        allow_templates: false,
        retry_schedule: Vec::new(),
    })
}

fn allows_url(guard: &Guard, url: &str) -> bool {
    guard.admit(&CallbackUrl::parse(url).unwrap()).is_ok()
}

fn allows_address(guard: &Guard, address: &str) -> bool {
    guard.check_address(address.parse().unwrap()).is_ok()
}

#[test]
fn the_first_and_last_address_of_every_special_block_is_refused() {
    let guard = guard(false, &[]);
    for block in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "169.254.169.254/32",
        "::/128",
        "::1/128",
        "64:ff9b:1::/48",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        // The registries do not list the following blocks, but no public addresses are assigned from them: the block of stateless
        // translation, and parts of the unassigned space.
        "::ffff:0:0:0/96",
        "200::/7",
        "4000::/3",
        "fd00:ec2::254/128",
        "fe00::/9",
    ] {
        let block: IpNet = block.parse().unwrap();
        assert!(guard.check_address(block.network()).is_err(), "{block}");
        assert!(guard.check_address(block.broadcast()).is_err(), "{block}");
    }
}

#[test]
fn the_addresses_next_to_special_blocks_are_public() {
    let guard = guard(false, &[]);
    for address in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.88.98.255",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "8.8.8.8",
        "2001:200::",
        "2001:db7:ffff::",
        "2001:db9::",
        "2606:4700:4700::1111",
        "2a00:1450:4001::",
        "3ffe:ffff::",
    ] {
        assert!(allows_address(&guard, address), "{address}");
    }
}

#[test]
fn an_ipv4_address_embedded_in_ipv6_counts_as_the_ipv4_address() {
    let guard = guard(false, &[]);
    for (inside, outside) in [
        ("::ffff:127.0.0.1", "::ffff:8.8.8.8"),
        ("::10.0.0.1", "::8.8.8.8"),
        ("64:ff9b::169.254.169.254", "64:ff9b::8.8.8.8"),
        ("2002:7f00:1::", "2002:808:808::1"),
        ("2002:c0a8:101::808:808", "2002:808:808::a00:1"),
    ] {
        assert!(!allows_address(&guard, inside), "{inside}");
        assert!(allows_address(&guard, outside), "{outside}");
    }
    // Teredo hides the address of its client by inverting it, so all of Teredo is refused.
    assert!(!allows_address(&guard, "2001:0:808:808::f7f7:f7f7"));
}

#[test]
fn every_spelling_of_a_literal_address_is_recognized() {
    let guard = guard(false, &[]);
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "0",
        "0xa9fea9fe",
        "169.254.43518",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::7f00:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[0:0:0:0:0:ffff:0a00:0001]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "db.localhost",
        "DB.localhost.",
        "loc%61lhost",
    ] {
        assert!(!allows_url(&guard, &format!("https://{host}:8443/hook")), "{host}");
    }
    for host in [
        "8.8.8.8",
        "134744072",
        "[2606:4700::1111]",
        "crm.example.uz",
        "localhost.example.uz",
        "notlocalhost",
    ] {
        assert!(allows_url(&guard, &format!("https://{host}/hook")), "{host}");
    }
}

#[test]
fn http_is_refused_unless_allowed() {
    assert_eq!(
        guard(false, &[]).admit(&CallbackUrl::parse("http://crm.example.uz/").unwrap()),
        Err(Forbidden::Http)
    );
    assert!(allows_url(&guard(true, &[]), "http://crm.example.uz/"));
    assert!(!allows_url(&guard(true, &[]), "http://127.0.0.1/"));
}

#[test]
fn allowed_networks_are_allowed_in_every_spelling() {
    let guard = guard(true, &["10.1.0.0/16", "127.0.0.0/8", "fd00::/8"]);
    for url in
        ["http://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://[2002:a01:203::]/", "http://[fd12::1]/"]
    {
        assert!(allows_url(&guard, url), "{url}");
    }
    assert!(allows_url(&guard, "http://localhost:8080/"));
    assert!(!allows_url(&guard, "http://10.2.0.1/"));
    assert!(!allows_url(&guard, "http://[::1]/"));
}

#[test]
fn the_text_names_the_rule_and_not_the_address() {
    let error = guard(false, &[]).check_address("10.9.8.7".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the host's address must be public, but it is private (RFC 1918)");
}

proptest! {
    /// The guard refuses each address that the standard library classifies as internal.
    #[test]
    fn no_address_that_the_standard_library_calls_internal_is_allowed(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let inside = address.is_private() || address.is_loopback() || address.is_link_local()
            || address.is_multicast() || address.is_documentation() || address.is_broadcast();
        let guard = guard(false, &[]);
        let passes = guard.check_address(address.into()).is_ok();
        prop_assert!(!(inside && passes));
        prop_assert_eq!(guard.check_address(address.to_ipv6_mapped().into()).is_ok(), passes);
    }

    #[test]
    fn outside_the_global_block_only_embedded_ipv4_is_allowed(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        let passes = guard(false, &[]).check_address(address.into()).is_ok();
        prop_assert!(!passes || bits >> 125 == 1 || blocks::embedded(address.into()).is_some());
    }
}
