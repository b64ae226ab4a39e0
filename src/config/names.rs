//! Names for numbers: iproute2's tables of route attributes, and IP protocols.

use indexmap::IndexMap;

use super::host::Host;

/// Built-in names, by table.
const BUILT_IN: &[(&str, &[(&str, u32)])] = &[
    ("rt_tables", &[("default", 253), ("main", 254), ("local", 255)]),
    (
        "rt_protos",
        &[
            ("unspec", 0),
            ("redirect", 1),
            ("kernel", 2),
            ("boot", 3),
            ("static", 4),
            ("gated", 8),
            ("ra", 9),
            ("mrt", 10),
            ("zebra", 11),
            ("bird", 12),
            ("dnrouted", 13),
            ("xorp", 14),
            ("ntk", 15),
            ("dhcp", 16),
            ("keepalived", 18),
            ("babel", 42),
        ],
    ),
    (
        "rt_scopes",
        &[
            ("global", 0),
            ("universe", 0),
            ("site", 200),
            ("link", 253),
            ("host", 254),
            ("nowhere", 255),
        ],
    ),
    ("rt_realms", &[("cosmos", 0), ("unknown", 0)]),
    ("group", &[("default", 0)]),
    (
        "protocols",
        &[
            ("icmp", 1),
            ("igmp", 2),
            ("tcp", 6),
            ("udp", 17),
            ("gre", 47),
            ("esp", 50),
            ("ah", 51),
            ("ipv6-icmp", 58),
            ("vrrp", 112),
            ("sctp", 132),
        ],
    ),
];

/// Largest file of names that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// The directories of iproute2's tables. A name in a later directory overrides the same name in an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Folders(pub Vec<Vec<u8>>);

/// Names read from files so far, by table.
#[derive(Debug, Default)]
pub(crate) struct Names(IndexMap<&'static str, IndexMap<String, u32>>);

impl Names {
    /// The number of a built-in name.
    pub(crate) fn built_in(table: &'static str, name: &str) -> Option<u32> {
        let fixed = BUILT_IN.iter().find(|t| t.0 == table).map_or(&[][..], |t| t.1);
        fixed.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
    }

    /// The number of a name in a file of the machine.
    pub(crate) fn number_of(
        &mut self,
        table: &'static str,
        name: &str,
        folders: &Folders,
        host: &dyn Host,
    ) -> Option<u32> {
        self.0.entry(table).or_insert_with(|| read(table, folders, host)).get(name).copied()
    }
}

fn read(table: &'static str, folders: &Folders, host: &dyn Host) -> IndexMap<String, u32> {
    let mut names = IndexMap::new();
    if table == "protocols" {
        let text = host.read_start(b"/etc/protocols", LARGEST).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [name, number, others @ ..] = words.as_slice()
                && let Ok(number) = number.parse()
            {
                for name in core::iter::once(name).chain(others) {
                    names.insert((*name).to_owned(), number);
                }
            }
        }
        return names;
    }
    for folder in &folders.0 {
        let mut path = folder.clone();
        path.push(b'/');
        path.extend_from_slice(table.as_bytes());
        let text = host.read_start(&path, LARGEST).unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            if let (Some(number), Some(name)) = (words.next(), words.next()) {
                let number = match number.strip_prefix("0x") {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => number.parse().ok(),
                };
                names.extend(number.map(|n| (name.to_owned(), n)));
            }
        }
    }
    names
}
