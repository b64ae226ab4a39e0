//! What programs that people use with keepalived read of its files, each as strictly as the program itself: a field that
//! is missing or of another type is an error where the program would show none or a wrong value.

use serde::Deserialize;
use serde_json::Value;

/// What a reader makes of one instance.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub interface: String,
    /// As a number of the JSON file.
    pub state: u64,
    /// Addresses and their interfaces.
    pub addresses: Vec<(String, String)>,
}

pub struct Reader {
    pub name: &'static str,
    /// The pid file of the process to which it sends the signal.
    pub asks: &'static str,
    pub read: fn(&str) -> Result<Vec<Seen>, String>,
    /// It reads addresses.
    pub addresses: bool,
}

pub const JSON_READERS: [Reader; 6] = [
    Reader { name: "mehdy/keepalived-exporter", asks: "keepalived", read: mehdy, addresses: true },
    Reader { name: "gen2brain", asks: "keepalived", read: gen2brain, addresses: false },
    Reader { name: "keepalived-exporter-cgi", asks: "keepalived", read: cgi, addresses: true },
    Reader { name: "textfile collector", asks: "keepalived", read: textfile, addresses: false },
    Reader { name: "Checkmk", asks: "vrrp", read: checkmk, addresses: false },
    Reader { name: "VyOS", asks: "keepalived", read: vyos, addresses: false },
];

/// The first and the third word of a line.
fn address(line: &str) -> Result<(String, String), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [address, _, interface, ..] => Ok(((*address).into(), (*interface).into())),
        _ => Err(format!("too few words: {line}")),
    }
}

fn decode<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))
}

/// Go: the top level is an array, integers have no fraction.
fn mehdy(text: &str) -> Result<Vec<Seen>, String> {
    #[derive(Deserialize)]
    struct Entry {
        data: Data,
        #[serde(rename = "stats")]
        _stats: Stats,
    }
    #[derive(Deserialize)]
    struct Data {
        iname: String,
        state: u64,
        wantstate: u64,
        ifp_ifname: String,
        #[serde(rename = "garp_delay")]
        _garp_delay: i64,
        #[serde(rename = "vrid")]
        _vrid: i64,
        #[serde(default)]
        vips: Vec<String>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    struct Stats {
        advert_rcvd: i64,
        advert_sent: i64,
        become_master: i64,
        release_master: i64,
        packet_len_err: i64,
        advert_interval_err: i64,
        ip_ttl_err: i64,
        invalid_type_rcvd: i64,
        addr_list_err: i64,
        invalid_authtype: i64,
        authtype_mismatch: i64,
        auth_failure: i64,
        pri_zero_rcvd: i64,
        pri_zero_sent: i64,
    }
    let entries: Vec<Entry> = decode(text)?;
    entries
        .into_iter()
        .map(|Entry { data, .. }| {
            if data.state > 3 || data.wantstate > 3 {
                return Err(format!("no state of an instance: {}", data.state));
            }
            let addresses = data.vips.iter().map(|line| address(line)).collect::<Result<_, _>>()?;
            Ok(Seen { name: data.iname, interface: data.ifp_ifname, state: data.state, addresses })
        })
        .collect()
}

/// Go: counters and the time of the last transition.
fn gen2brain(text: &str) -> Result<Vec<Seen>, String> {
    #[derive(Deserialize)]
    struct Entry {
        data: Data,
        stats: std::collections::BTreeMap<String, u64>,
    }
    #[derive(Deserialize)]
    struct Data {
        iname: String,
        ifp_ifname: String,
        last_transition: f64,
        #[serde(rename = "vrid")]
        _vrid: i64,
        state: u64,
        #[serde(rename = "wantstate")]
        _wantstate: u64,
    }
    let entries: Vec<Entry> = decode(text)?;
    entries
        .into_iter()
        .map(|Entry { data, stats }| {
            if data.last_transition < 1e9 || stats.len() < 14 {
                return Err(format!("{} {stats:?}", data.last_transition));
            }
            let addresses = Vec::new();
            Ok(Seen { name: data.iname, interface: data.ifp_ifname, state: data.state, addresses })
        })
        .collect()
}

fn text_of(value: &Value, field: &str) -> Result<String, String> {
    value[field].as_str().map(Into::into).ok_or_else(|| format!("no {field} in {value}"))
}

fn number_of(value: &Value, field: &str) -> Result<u64, String> {
    value[field].as_u64().ok_or_else(|| format!("no {field} in {value}"))
}

/// The entries; jq and Python take both forms of the document.
fn entries(text: &str) -> Result<Vec<Value>, String> {
    let value: Value = decode(text)?;
    let list = value.as_array().or_else(|| value["vrrp"].as_array());
    list.cloned().ok_or_else(|| format!("neither form of the file: {text}"))
}

/// jq: words 1 and 3 of addresses.
fn cgi(text: &str) -> Result<Vec<Seen>, String> {
    let of = |entry: &Value| {
        let data = &entry["data"];
        number_of(data, "vrid")?;
        number_of(data, "garp_delay")?;
        entry["stats"].as_object().ok_or("no stats")?;
        let lines = data["vips"].as_array().into_iter().chain(data["evips"].as_array()).flatten();
        Ok(Seen {
            name: text_of(data, "iname")?,
            interface: text_of(data, "ifp_ifname")?,
            state: number_of(data, "state")?,
            addresses: lines
                .map(|line| address(line.as_str().unwrap_or_default()))
                .collect::<Result<_, String>>()?,
        })
    };
    entries(text)?.iter().map(of).collect()
}

/// Python.
fn textfile(text: &str) -> Result<Vec<Seen>, String> {
    let of = |entry: &Value| {
        let data = &entry["data"];
        for field in ["vrid", "base_priority", "effective_priority", "version"] {
            number_of(data, field)?;
        }
        for field in ["last_transition", "adver_int"] {
            data[field].as_f64().ok_or_else(|| format!("no {field}"))?;
        }
        data["nopreempt"].as_bool().ok_or("no nopreempt")?;
        text_of(data, "vmac_ifname")?;
        for field in [
            "advert_rcvd",
            "advert_sent",
            "become_master",
            "release_master",
            "packet_len_err",
            "advert_interval_err",
            "ip_ttl_err",
            "invalid_type_rcvd",
            "addr_list_err",
            "auth_failure",
            "pri_zero_rcvd",
            "pri_zero_sent",
        ] {
            number_of(&entry["stats"], field)?;
        }
        Ok(Seen {
            name: text_of(data, "iname")?,
            interface: text_of(data, "ifp_ifname")?,
            state: number_of(data, "state")?,
            addresses: Vec::new(),
        })
    };
    entries(text)?.iter().map(of).collect()
}

/// Python: the first line is the document, every number of the statistics is a metric.
fn checkmk(text: &str) -> Result<Vec<Seen>, String> {
    let first = text.lines().next().ok_or("empty")?;
    for entry in entries(first)? {
        let stats = entry["stats"].as_object().ok_or("no stats")?;
        if !stats.values().all(Value::is_number) {
            return Err(format!("not all are numbers: {stats:?}"));
        }
    }
    textfile(first)
}

/// Python: these must be there, most others are shown.
fn vyos(text: &str) -> Result<Vec<Seen>, String> {
    for entry in entries(text)? {
        let data = &entry["data"];
        number_of(data, "effective_priority")?;
        data["last_transition"].as_f64().ok_or("no last_transition")?;
        data["vipset"].as_bool().ok_or("no vipset")?;
        number_of(data, "wantstate")?;
        number_of(data, "master_priority")?;
    }
    textfile(text)
}

/// An instance in `keepalived.stats`.
#[derive(Debug, Default)]
pub struct Statistics {
    pub name: String,
    numbers: std::collections::BTreeMap<String, u64>,
}

impl Statistics {
    /// A number by its heading, if it has one, and its label.
    pub fn number(&self, label: &str) -> Result<u64, String> {
        self.numbers.get(label).copied().ok_or_else(|| format!("no {label} in {self:?}"))
    }
}

/// The parsers of mehdy's exporter, of gen2brain's and of those who read the file as YAML: headings with a colon, below
/// them labels with integers, two more blanks for each level.
pub fn stats(text: &str) -> Result<Vec<Statistics>, String> {
    let (mut all, mut heading) = (Vec::<Statistics>::new(), String::new());
    for line in text.lines() {
        let wrong = || format!("{line}\nin {text}");
        let (label, value) = line.split_once(':').ok_or_else(wrong)?;
        let (indent, label) = (label.len() - label.trim_start().len(), label.trim_start());
        let value = value.trim();
        if indent == 0 {
            if label != "VRRP Instance" || value.is_empty() {
                return Err(wrong());
            }
            all.push(Statistics { name: value.into(), ..Statistics::default() });
            continue;
        }
        let one = all.last_mut().ok_or_else(wrong)?;
        match (indent, value) {
            (2, "") => heading = format!("{label}: "),
            (2, number) => {
                one.numbers.insert(label.into(), number.parse().map_err(|_| wrong())?);
            }
            (4, number) => {
                let number = number.parse().map_err(|_| wrong())?;
                one.numbers.insert(format!("{heading}{label}"), number);
            }
            _ => return Err(wrong()),
        }
    }
    // All that they look for.
    for one in &all {
        for label in [
            "Advertisements: Received",
            "Advertisements: Sent",
            "Became master",
            "Released master",
            "Packet Errors: Length",
            "Packet Errors: TTL",
            "Packet Errors: Invalid Type",
            "Packet Errors: Advertisement Interval",
            "Packet Errors: Address List",
            "Authentication Errors: Invalid Type",
            "Authentication Errors: Type Mismatch",
            "Authentication Errors: Failure",
            "Priority Zero: Received",
            "Priority Zero: Sent",
        ] {
            one.number(label)?;
        }
    }
    Ok(all)
}
