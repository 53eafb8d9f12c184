//! Which addresses belong to the public internet: a user's own server is called there and nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that share a prefix of so many bits.
struct Block<Bits> {
    first: Bits,
    prefix: u32,
}

/// Not globally reachable, or not one host: IANA's registry of special-purpose IPv4 addresses, as of 2026, and multicast (RFC 5771).
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
const NOT_PUBLIC_V4: [Block<u32>; 15] = [
    // This network. An operating system takes 0.0.0.0 for itself.
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    // Behind a provider's translation; some clouds' own services.
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    // Link-local: a cloud's metadata service gives credentials there.
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    // 6to4 relays, deprecated.
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    // Benchmarks.
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Multicast.
    v4(224, 0, 0, 0, 4),
    // Reserved, and broadcast.
    v4(240, 0, 0, 0, 4),
];

/// All that is allocated for hosts of the IPv6 internet.
/// <https://www.iana.org/assignments/ipv6-address-space>
const UNICAST_V6: Block<u128> = v6(0x2000, 0, 0, 3);

/// What of it is special: IANA's registry of special-purpose IPv6 addresses, as of 2026. Those that contain an IPv4 address are
/// among them: a tunnel must not lead where the address itself may not.
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
const NOT_PUBLIC_V6: [Block<u128>; 4] = [
    // Protocol assignments, Teredo and benchmarks among them.
    v6(0x2001, 0, 0, 23),
    // Documentation.
    v6(0x2001, 0x0db8, 0, 32),
    // 6to4.
    v6(0x2002, 0, 0, 16),
    // Documentation.
    v6(0x3fff, 0, 0, 20),
];

/// Whether a host of the public internet can have this address. One that says which IPv4 address it stands for is judged by that.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !NOT_PUBLIC_V4.iter().any(|block| (bits ^ block.first) >> (u32::BITS - block.prefix) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_in = |block: &Block<u128>| (address.to_bits() ^ block.first) >> (u128::BITS - block.prefix) == 0;
    is_in(&UNICAST_V6) && !NOT_PUBLIC_V6.iter().any(is_in)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> Block<u32> {
    Block { first: Ipv4Addr::new(a, b, c, d).to_bits(), prefix }
}

const fn v6(a: u16, b: u16, c: u16, prefix: u32) -> Block<u128> {
    Block { first: Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits(), prefix }
}
