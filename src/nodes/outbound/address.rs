//! Addresses that deserve care: what they are, and what else they may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names under which clouds serve credentials of the machine to whoever asks from it.
const METADATA_NAMES: &[&str] = &[
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.azure.internal",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.tencentyun.com",
];

/// Addresses of the same, as far as they aren't link-local, with the bits that count.
const METADATA_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(100, 100, 100, 200), 32), // Alibaba
    (Ipv4Addr::new(168, 63, 129, 16), 32),   // Azure
    (Ipv4Addr::new(192, 0, 0, 192), 32),     // Oracle
];
const METADATA_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),     // Amazon
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128), // Google
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128),  // Scaleway
];

const PRIVATE_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8), // leads to this machine
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 3), // multicast, reserved, broadcast
];
const PRIVATE_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::UNSPECIFIED, 127), // and loopback
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Whether a name, in lower case and without a dot at its end, is that of a cloud's metadata service.
pub(super) fn is_metadata_name(name: &str) -> bool {
    METADATA_NAMES.contains(&name)
}

/// Whether an address is a cloud's metadata service, beyond those that are link-local.
pub(super) fn is_metadata(address: IpAddr) -> bool {
    within(address, METADATA_V4, METADATA_V6)
}

/// Whether an address is link-local. Most clouds' metadata services are.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    within(address, &[(Ipv4Addr::new(169, 254, 0, 0), 16)], &[(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)])
}

/// Whether an address is this machine's, of a private network, or of no single machine at all.
pub(super) fn is_private(address: IpAddr) -> bool {
    within(address, PRIVATE_V4, PRIVATE_V6)
}

/// The address, and the IPv4 address that it leads to where it is an IPv6 address that carries one: mapped, compatible,
/// translated (NAT64) or tunnelled (6to4).
pub(super) fn meanings(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let carried = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => carried(v6),
    };
    std::iter::once(address.to_canonical()).chain(carried.map(IpAddr::V4))
}

fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(last(high, low)),
        _ => None,
    }
}

fn within(address: IpAddr, v4: &[(Ipv4Addr, u32)], v6: &[(Ipv6Addr, u32)]) -> bool {
    match address {
        IpAddr::V4(address) => {
            let differing = |network: Ipv4Addr| (u32::from(address) ^ u32::from(network)).leading_zeros();
            v4.iter().any(|(network, bits)| differing(*network) >= *bits)
        }
        IpAddr::V6(address) => {
            let differing = |network: Ipv6Addr| (u128::from(address) ^ u128::from(network)).leading_zeros();
            v6.iter().any(|(network, bits)| differing(*network) >= *bits)
        }
    }
}
