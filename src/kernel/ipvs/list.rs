//! The kernel's own list of virtual servers with their servers, `/proc/net/ip_vs`.
//!
//! It is the only list of everything: netlink gives the servers of one service at a time, which takes thirty times as
//! long. It shows less (`plan::listing`), and the settings of services in kernel units: those are read by netlink.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use crate::model::ServiceKey;
use crate::model::service::Protocol;
use crate::plan::ipvs::DestinationKey;
use crate::plan::listing::{Listing, Way};

/// The list of this thread's network namespace.
const PATH: &str = "/proc/thread-self/net/ip_vs";
/// The kernel returns a page at a time.
const CHUNK: usize = 8 << 10;
/// The longest line, in octets; the kernel's have about 100.
const LINE: u64 = 1 << 10;

/// Adds all servers to a list of services.
///
/// # Errors
/// If there is no such file, or it cannot be read.
pub fn add_servers(listing: &mut Listing) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(CHUNK, File::open(PATH)?);
    let (mut line, mut service) = (Vec::new(), None);
    loop {
        line.clear();
        if reader.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        take(&line, &mut service, listing);
    }
}

/// Processes one line: a service, whose servers follow, or a server of the previous service. Lines that are not
/// understood are ignored.
pub fn take(line: &[u8], service: &mut Option<ServiceKey>, listing: &mut Listing) {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    match words.next() {
        Some(b"->") => {
            let server = words.next().and_then(endpoint).zip(words.next().and_then(way));
            let weight = words.next().and_then(|word| str::from_utf8(word).ok()?.parse().ok());
            if let (Some(service), Some((at, way)), Some(weight)) = (service, server, weight) {
                let key = DestinationKey { address: at.ip(), port: at.port() };
                listing.destination(service, &key, way, weight);
            }
        }
        Some(word) => {
            let protocol = match word {
                b"TCP" => Some(Protocol::Tcp),
                b"UDP" => Some(Protocol::Udp),
                b"SCTP" => Some(Protocol::Sctp),
                _ => None,
            };
            let at = words.next().and_then(endpoint);
            *service = protocol
                .zip(at)
                .map(|(protocol, endpoint)| ServiceKey::Address { protocol, endpoint });
        }
        None => {}
    }
}

/// `0A000001:0050` or `[2001:0db8:0000:0000:0000:0000:0000:0001]:0050`
fn endpoint(word: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(word).ok()?;
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?)),
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

fn way(word: &[u8]) -> Option<Way> {
    match word {
        b"Masq" => Some(Way::Masquerade),
        b"Route" | b"Local" => Some(Way::Direct),
        b"Tunnel" => Some(Way::Tunnel),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Name;
    use crate::model::service::{Forward, Tunnel};
    use crate::plan::ipvs::{Destination, Entry, Settings, Table};

    const TEXT: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  \
        -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
        TCP  0A000001:0050 rr persistent 36000 FFFFFFFF\n  \
        -> AC100001:0050      Masq    1      0          0         \n  \
        -> AC100002:1F90      Masq    20     3          4         \n\
        FWM  00000007 wlc\n  \
        -> AC100009:0000      Route   1      0          0         \n\
        UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 rr ops \n  \
        -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035      Tunnel  0      0          0         \n  \
        -> [2001:0db8:0000:0000:0000:0000:0000:0003]:0035      Local   2      0          0         \n";

    fn table() -> Table {
        let settings = Settings {
            scheduler: Name::from("rr"),
            flags: 0,
            timeout: 0,
            netmask: u32::MAX,
            engine: None,
        };
        let entry = |servers: &[(&str, Forward, u32)]| {
            let pair = |(at, forward, weight): &(&str, Forward, u32)| {
                let at: SocketAddr = at.parse().unwrap();
                let key = DestinationKey { address: at.ip(), port: at.port() };
                let (forward, weight) = (*forward, *weight);
                (key, Destination { forward, weight, upper_threshold: 0, lower_threshold: 0 })
            };
            Entry { settings: settings.clone(), destinations: servers.iter().map(pair).collect() }
        };
        let key =
            |protocol, at: &str| ServiceKey::Address { protocol, endpoint: at.parse().unwrap() };
        let masked =
            entry(&[("172.16.0.2:8080", Forward::Nat, 20), ("172.16.0.1:80", Forward::Nat, 1)]);
        let names = entry(&[
            ("[2001:db8::2]:53", Forward::Tun(Tunnel::Ipip), 0),
            ("[2001:db8::3]:53", Forward::Dr, 2),
        ]);
        Table {
            services: [
                (key(Protocol::Tcp, "10.0.0.1:80"), masked),
                (key(Protocol::Udp, "[2001:db8::1]:53"), names),
            ]
            .into(),
            ..Table::default()
        }
    }

    fn read(text: &str) -> Listing {
        let mut listing = Listing::default();
        for (key, entry) in &table().services {
            listing.service(*key, &entry.settings);
        }
        let mut service = None;
        for line in text.split_inclusive('\n') {
            take(line.as_bytes(), &mut service, &mut listing);
        }
        listing
    }

    #[test]
    fn the_list_of_the_kernel_is_understood() {
        assert_eq!(read(TEXT), Listing::of(&table()));
    }

    /// A truncated list, or one of a later kernel, shows less: missing services are read individually.
    #[test]
    fn what_is_not_understood_is_not_there() {
        for (word, other) in [
            ("AC100001:0050", "AC10000:x"),
            ("Masq    20", "Magic   20"),
            ("TCP", "QUIC"),
            ("20 ", "-1 "),
        ] {
            let text = TEXT.replace(word, other);
            assert_ne!(text, TEXT);
            let first = table().services.into_iter().next().unwrap();
            assert!(!read(&text).shows(&first.0, Some(&first.1)), "{other}");
        }
        for end in 0..TEXT.len() {
            read(&TEXT[..end]);
        }
    }
}
