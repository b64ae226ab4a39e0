//! `virtual_server`: families, ports, quorum and what the checks inherit.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use indexmap::{IndexMap, IndexSet};

use super::Load;
use super::check::Server;
use super::command::{Purpose, command};
use crate::base::{Family, Name, Secret};
use crate::config::block::service::{RealServer, Ssl, VirtualServer, VirtualServerGroup};
use crate::config::codes;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::slot::First;
use crate::config::span::Span;
use crate::config::value::script::Script;
use crate::config::value::service::{Endpoint, Granularity, Scheduler, ServerName};
use crate::model::service::{
    GroupEntry, Persistence, Protocol, ServerExtras, ServiceExtras, ServiceGroup, SorryServer, Tls,
};
use crate::model::{self, Command, Forward, Service, ServiceKey};

/// The flag of `ops`.
const ONE_PACKET: u32 = 0x04;

/// What the end of the text has to know about a service.
#[derive(Debug)]
pub(crate) struct Notes {
    pub span: Span,
}

/// Resolves a block.
pub(super) fn close(block: VirtualServer, cx: &mut Load<'_>) {
    let span = block.span;
    let group = match &block.header {
        ServerName::Group(name) => Some(name.clone()),
        _ => None,
    };
    let protocol = block.protocol.value().map(|p| Protocol::from(*p));
    let family = block.ip_family.value().map(|f| Family::from(*f));
    let Some(service) = resolve(block, cx) else {
        return;
    };
    match group {
        None => {
            cx.draft.model.lvs.services.push(service);
            cx.draft.services.push(Notes { span });
        }
        Some(group) => {
            let own = service.key.family();
            let bound = service.servers.iter().any(|s| !matches!(s.forward, Forward::Tun(_)));
            let family = family.or(bound.then_some(own));
            let place = cx.draft.model.lvs.services.len();
            let waiting = GroupUse { group, service, protocol, family, span, place };
            cx.draft.group_services.push(waiting);
        }
    }
}

/// A `virtual_server_group`.
#[derive(Debug)]
pub(crate) struct Group {
    name: Name,
    entries: Vec<GroupEntry>,
    /// How many services use it.
    uses: u32,
}

/// A service whose group may come later.
#[derive(Debug)]
pub(crate) struct GroupUse {
    group: Name,
    service: Service,
    protocol: Option<Protocol>,
    /// The only family that its servers allow.
    family: Option<Family>,
    span: Span,
    /// Its place among the other services.
    place: usize,
}

/// The most services that the entries of a group may be together.
const LARGEST_GROUP: u128 = 65_536;

/// Resolves a block.
pub(super) fn group(block: VirtualServerGroup, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let refuse = |message: String, cx: &mut Load<'_>| {
        cx.report(
            Diagnostic::error(&codes::INCOMPLETE, message)
                .at(block.end)
                .related(block.span, "it begins here"),
        );
    };
    if block.entries.is_empty() {
        refuse(format!("virtual server group {name} has no entries, it is left out"), cx);
        return;
    }
    let entries: Vec<GroupEntry> = block.entries.iter().map(|e| e.value.0).collect();
    let size = entries.iter().map(size).fold(0, u128::saturating_add);
    if size > LARGEST_GROUP {
        let message = format!(
            "virtual server group {name} has more than {LARGEST_GROUP} addresses, it is left out"
        );
        refuse(message, cx);
        return;
    }
    let has = |wanted: Family| {
        entries.iter().any(|e| match e {
            GroupEntry::Addresses { first, .. } => Family::of(first) == wanted,
            GroupEntry::Mark { family, .. } => *family == Some(wanted),
        })
    };
    let open = entries.iter().any(|e| matches!(e, GroupEntry::Mark { family: None, .. }));
    if has(Family::V4) && has(Family::V6) && open {
        let message = format!(
            "virtual server group {name} mixes IPv4, IPv6 and marks without a family, it is left out"
        );
        refuse(message, cx);
        return;
    }
    // Two groups of one name exist side by side for keepalived; references find the first one.
    let groups = &mut cx.draft.service_groups;
    if !groups.iter().any(|g| g.name == name) {
        groups.push(Group { name, entries, uses: 0 });
    }
}

/// Resolves a block.
pub(super) fn tls(block: Ssl, cx: &mut Load<'_>) {
    if cx.draft.model.lvs.tls.is_some() {
        let message = "SSL was given before, this one replaces it";
        cx.report(Diagnostic::warning(&codes::OVERWRITTEN, message).at(block.span));
    }
    let path = |p: Option<&crate::config::value::text::Path>| p.map(|p| p.0.clone());
    cx.draft.model.lvs.tls = Some(Tls {
        password: block.password.value().map(|p| Secret::new(p.0.clone())),
        ca: path(block.ca.value()),
        certificate: path(block.certificate.value()),
        key: path(block.key.value()),
    });
}

/// How many services of the kernel an entry is.
fn size(entry: &GroupEntry) -> u128 {
    match entry {
        GroupEntry::Mark { .. } => 1,
        GroupEntry::Addresses { first, last, .. } => {
            number(last).saturating_sub(number(first)).saturating_add(1)
        }
    }
}

fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The services of the kernel that the entries of a group are: addresses, then marks, each once.
fn keys(entries: &[GroupEntry], protocol: Protocol, own: Family) -> IndexSet<ServiceKey> {
    let mut keys = IndexSet::new();
    for entry in entries {
        let GroupEntry::Addresses { first, last, port } = entry else {
            continue;
        };
        for bits in number(first)..=number(last) {
            let address = match first {
                IpAddr::V4(_) => u32::try_from(bits).map(|b| Ipv4Addr::from_bits(b).into()),
                IpAddr::V6(_) => Ok(Ipv6Addr::from_bits(bits).into()),
            };
            if let Ok(address) = address {
                let endpoint = SocketAddr::new(address, *port);
                keys.insert(ServiceKey::Address { protocol, endpoint });
            }
        }
    }
    for entry in entries {
        if let GroupEntry::Mark { mark, family } = entry {
            keys.insert(ServiceKey::Mark { mark: *mark, family: family.unwrap_or(own) });
        }
    }
    keys
}

/// Services by group take their place among the others, each with the entries of its group.
fn finish_groups(cx: &mut Load<'_>) {
    let waiting = core::mem::take(&mut cx.draft.group_services);
    if waiting.is_empty() {
        return;
    }
    let mut groups = core::mem::take(&mut cx.draft.service_groups);
    let services = core::mem::take(&mut cx.draft.model.lvs.services);
    let notes = core::mem::take(&mut cx.draft.services);
    let mut single = services.into_iter().zip(notes);
    let mut taken = 0;
    let mut ordered = Vec::with_capacity(single.len() + waiting.len());
    for waiting in waiting {
        let ahead = waiting.place.saturating_sub(taken);
        ordered.extend(single.by_ref().take(ahead));
        taken += ahead;
        let span = waiting.span;
        let service = finish_group(waiting, &mut groups, cx);
        ordered.extend(service.map(|service| (service, Notes { span })));
    }
    ordered.extend(single);
    (cx.draft.model.lvs.services, cx.draft.services) = ordered.into_iter().unzip();
}

/// A service by group, if it can be one.
fn finish_group(mut waiting: GroupUse, groups: &mut [Group], cx: &mut Load<'_>) -> Option<Service> {
    let quiet = |code, message: String, cx: &mut Load<'_>| {
        cx.report(Diagnostic::error(code, message).at(waiting.span).class(Class::Quiet));
    };
    let Some(group) = groups.iter_mut().find(|group| group.name == waiting.group) else {
        let message =
            format!("virtual server group {} not found, the service is left out", waiting.group);
        quiet(&codes::UNKNOWN_REFERENCE, message, cx);
        return None;
    };
    let name = group.name.clone();
    let families: IndexSet<Family> = group
        .entries
        .iter()
        .filter_map(|e| match e {
            GroupEntry::Addresses { first, .. } => Some(Family::of(first)),
            GroupEntry::Mark { family, .. } => *family,
        })
        .collect();
    if waiting.family.is_some_and(|f| families.iter().any(|other| *other != f)) {
        let message = if families.len() > 1 {
            format!(
                "virtual server group {name} has both families, which needs TUN for every server and no ip_family; \
                 the service is left out"
            )
        } else {
            format!("virtual server group {name} is of another family, the service is left out")
        };
        quiet(&codes::FAMILY, message, cx);
        return None;
    }
    let protocol = waiting.protocol.unwrap_or(Protocol::Udp);
    let own = waiting.service.key.family();
    let keys = keys(&group.entries, protocol, own);
    waiting.service.key = *keys.first()?;
    group_ports(&waiting, group, cx);
    let warn = |code, message: String, cx: &mut Load<'_>| {
        cx.report(Diagnostic::warning(code, message).at(waiting.span));
    };
    let addresses = group.entries.iter().any(|e| matches!(e, GroupEntry::Addresses { .. }));
    if addresses && waiting.protocol.is_none() {
        let message = format!("virtual server [{name}]: no protocol set, UDP is used");
        warn(&codes::DEFAULTED, message, cx);
    }
    if addresses && protocol != Protocol::Udp && waiting.service.flags & ONE_PACKET != 0 {
        let message =
            format!("virtual server [{name}]: one packet scheduling requires UDP, ignored");
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(waiting.span));
        waiting.service.flags &= !ONE_PACKET;
    }
    let everything =
        group.entries.iter().any(|e| matches!(e, GroupEntry::Addresses { port: 0, .. }));
    if everything && waiting.service.persistence.is_none() {
        let message = format!(
            "virtual server [{name}]: a service for all ports needs persistence, a timeout of 360 is used"
        );
        warn(&codes::DEFAULTED, message, cx);
        let granularity = match waiting.service.key.family() {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        };
        waiting.service.persistence = Some(Persistence { timeout: 360, granularity, engine: None });
    }
    if !addresses && waiting.protocol.is_some() {
        let message =
            format!("virtual server [{name}]: a service by mark has no protocol, ignored");
        warn(&codes::NO_EFFECT_HERE, message, cx);
    }
    let index = group.uses;
    group.uses += 1;
    let keys = keys.into_iter().collect();
    let entries = group.entries.clone();
    let extras = waiting.service.extras.get_or_insert_default();
    extras.group = Some(ServiceGroup { name, index, entries, keys });
    Some(waiting.service)
}

/// With DR and TUN the port of an entry is used, and a mark has none: other ports of servers are only reported.
fn group_ports(waiting: &GroupUse, group: &Group, cx: &mut Load<'_>) {
    let name = &group.name;
    for server in waiting.service.servers.iter().filter(|s| s.port != 0) {
        let rewritten = server.forward == Forward::Nat;
        let other = group
            .entries
            .iter()
            .any(|e| matches!(e, GroupEntry::Addresses { port, .. } if *port != server.port));
        if other && !rewritten {
            let message = format!(
                "virtual server [{name}] and real server {} port {}: ports don't match",
                server.address, server.port
            );
            cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(waiting.span));
        }
        if !rewritten && group.entries.iter().any(|e| matches!(e, GroupEntry::Mark { .. })) {
            let message = format!(
                "virtual server [{name}] by mark: real server {} has port {}, which is ignored",
                server.address, server.port
            );
            cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(waiting.span));
        }
    }
}

/// What servers and checks inherit from their service.
pub(super) struct Inherited {
    pub name: String,
    pub delay_loop: Duration,
    pub connect_timeout: Duration,
    pub retry: Option<u32>,
    pub delay_before_retry: Option<Duration>,
    pub warmup: Option<Duration>,
    pub alpha: bool,
    pub log_all: bool,
    pub inhibit: bool,
    pub weight: u32,
    pub smtp_alert: bool,
    pub family: Family,
    pub key_port: u16,
    pub is_mark: bool,
    pub is_group: bool,
}

fn resolve(mut block: VirtualServer, cx: &mut Load<'_>) -> Option<Service> {
    let servers = core::mem::take(&mut block.real_server.0);
    let family = family(&block, &servers);
    let shown = match &block.header {
        ServerName::Address(endpoint) => {
            let protocol = block.protocol.value().map_or("udp", |p| Protocol::from(*p).word());
            format!("[{}]:{protocol}:{}", endpoint.ip(), endpoint.port())
        }
        ServerName::Mark(mark) => format!("FWM {mark}"),
        ServerName::Group(name) => format!("[{name}]"),
    };
    if servers.is_empty() {
        let message = format!("virtual server {shown} has no real servers, it is left out");
        cx.report(Diagnostic::error(&codes::INCOMPLETE, message).at(block.span));
        return None;
    }
    let key = key(&block, family, &shown, cx)?;
    let scheduler = match block.lvs_sched.value() {
        Some(scheduler) => scheduler.word(),
        None => {
            let message = format!("virtual server {shown}: no scheduler set, wlc is used");
            cx.report(Diagnostic::warning(&codes::DEFAULTED, message).at(block.span));
            Scheduler::WeightedLeastConnection.word()
        }
    };
    if block.lvs_method.value().is_none() && servers.iter().any(|s| s.lvs_method.value().is_none())
    {
        let message = format!("virtual server {shown}: no forwarding method set, NAT is used");
        cx.report(Diagnostic::warning(&codes::DEFAULTED, message).at(block.span));
    }
    let method = block.lvs_method.value().map_or(Forward::Nat, |m| m.0);
    let persistence = persistence(&block, &key, &shown, cx);
    let flags = flags(&block, &key, &shown, cx);
    let global = cx.draft.global();
    let inherited = Inherited {
        name: shown,
        delay_loop: block.delay_loop.value().map_or(Duration::from_secs(60), |t| t.duration()),
        connect_timeout: block
            .connect_timeout
            .value()
            .map_or(Duration::from_secs(5), |t| t.duration()),
        retry: block.retry.value().map(|n| n.u32()),
        delay_before_retry: block.delay_before_retry.value().map(|t| t.duration()),
        warmup: block.warmup.value().map(|t| t.duration()),
        alpha: block.alpha.is_set(),
        log_all: global.checker_log_all_failures.value().is_some_and(|b| b.0),
        inhibit: block.inhibit_on_failure.is_set(),
        weight: block.weight.value().map_or(1, |n| n.u32()),
        smtp_alert: global.mail_checker().unwrap_or(true),
        family,
        key_port: match &key {
            ServiceKey::Address { endpoint, .. } => endpoint.port(),
            ServiceKey::Mark { .. } => 0,
        },
        is_mark: matches!(block.header, ServerName::Mark(_)),
        is_group: matches!(block.header, ServerName::Group(_)),
    };
    let smtp_alert =
        block.smtp_alert.value().map_or_else(|| global.mail_checker().unwrap_or(false), |b| b.0);
    let mut list: IndexMap<(IpAddr, u16), model::RealServer> =
        IndexMap::with_capacity(servers.len());
    for server in servers {
        let written = server.header;
        let Some(server) = real_server(server, &inherited, method, cx) else {
            continue;
        };
        let (spot, span) = ((written.address, written.port), server.1);
        if list.contains_key(&spot) {
            let message = format!(
                "virtual server {}: real server {} port {} is listed already, ignored",
                inherited.name, written.address, written.port
            );
            cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(span));
        } else {
            list.insert(spot, server.0);
        }
    }
    if list.is_empty() {
        let name = &inherited.name;
        let message = format!("virtual server {name} has no usable real server, it is left out");
        cx.report(Diagnostic::error(&codes::INCOMPLETE, message).at(block.span));
        return None;
    }
    let servers: Vec<model::RealServer> = list.into_values().collect();
    if !inherited.is_group {
        sharing(&servers, &inherited.name, block.span, cx);
    }
    let sorry_server = sorry_server(&block, &inherited, method, cx)
        .map(|sorry| like_its_server(sorry, &servers, &block, &inherited.name, cx));
    let (quorum, hysteresis) = quorum(&block, &servers, &inherited.name, cx);
    let extras = ServiceExtras {
        ha_suspend: block.ha_suspend.is_set(),
        snmp_name: block.snmp_name.value().map(|n| n.0.clone()),
        virtualhost: block.virtualhost.value().map(|h| h.0.clone()),
        group: None,
    };
    let name = &inherited.name;
    Some(Service {
        key,
        scheduler: Name::from(scheduler),
        flags,
        persistence,
        quorum,
        hysteresis,
        quorum_up: script(&block.quorum_up, "quorum_up", name, cx),
        quorum_down: script(&block.quorum_down, "quorum_down", name, cx),
        sorry_server,
        omega: block.omega.is_set(),
        smtp_alert,
        servers,
        extras: (extras != ServiceExtras::default()).then(|| Box::new(extras)),
    })
}

/// Reports servers that are one for the kernel, because only NAT can change a port.
fn sharing(servers: &[model::RealServer], shown: &str, at: Span, cx: &mut Load<'_>) {
    let mut seen: IndexSet<(IpAddr, u16)> = IndexSet::with_capacity(servers.len());
    for server in servers.iter().filter(|server| !seen.insert((server.address, server.port))) {
        let message = format!(
            "virtual server {shown}: several real servers are {} port {} for the kernel: they share one entry, \
             which is in service while one of them is good",
            server.address, server.port
        );
        cx.report(
            Diagnostic::warning(&codes::ADJUSTED, message)
                .at(at)
                .note("with DR, TUN and marks the ports of real servers have no effect"),
        );
    }
}

fn script(slot: &First<Script>, keyword: &str, owner: &str, cx: &mut Load<'_>) -> Option<Command> {
    let script = slot.value()?;
    command(script, None, Purpose::Notify, &format!("{keyword} of {owner}"), cx)
}

/// The family of a service by mark is that of whatever tells one.
fn family(block: &VirtualServer, servers: &[RealServer]) -> Family {
    if let ServerName::Address(endpoint) = &block.header {
        return Family::of(&endpoint.ip());
    }
    if let Some(word) = block.ip_family.value() {
        return Family::from(*word);
    }
    match block.persistence_granularity.value() {
        Some(Granularity::Mask(_)) => return Family::V4,
        Some(Granularity::Length(_)) => return Family::V6,
        None => {}
    }
    let tunnelled = |s: &RealServer| {
        let own = s.lvs_method.value().or(block.lvs_method.value());
        own.is_some_and(|m| matches!(m.0, Forward::Tun(_)))
    };
    let server = servers.iter().find(|s| !tunnelled(s)).or(servers.first());
    server.map_or(Family::V4, |s| Family::of(&s.header.address))
}

fn key(
    block: &VirtualServer,
    family: Family,
    shown: &str,
    cx: &mut Load<'_>,
) -> Option<ServiceKey> {
    if let (ServerName::Address(endpoint), Some(word)) = (&block.header, block.ip_family.value())
        && Family::from(*word) != Family::of(&endpoint.ip())
    {
        let message =
            format!("virtual server {shown}: ip_family does not fit the address, ignored");
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(block.ip_family.span()));
    }
    match &block.header {
        ServerName::Address(endpoint) => {
            let protocol = match block.protocol.value() {
                Some(word) => (*word).into(),
                None => {
                    let message = format!("virtual server {shown}: no protocol set, UDP is used");
                    cx.report(
                        Diagnostic::warning(&codes::DEFAULTED, message)
                            .at(block.span)
                            .help("most services want 'protocol TCP'"),
                    );
                    Protocol::Udp
                }
            };
            Some(ServiceKey::Address { protocol, endpoint: *endpoint })
        }
        ServerName::Mark(0) => {
            let message = "a virtual server with mark 0 is not possible, it is left out";
            cx.report(Diagnostic::error(&codes::RANGE, message).at(block.span));
            None
        }
        ServerName::Mark(mark) => {
            if block.protocol.is_set() {
                let message =
                    format!("virtual server {shown}: a service by mark has no protocol, ignored");
                cx.report(
                    Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(block.protocol.span()),
                );
            }
            Some(ServiceKey::Mark { mark: *mark, family })
        }
        // The first entry stands for the group until it is known.
        ServerName::Group(_) => Some(ServiceKey::Mark { mark: 0, family }),
    }
}

fn persistence(
    block: &VirtualServer,
    key: &ServiceKey,
    shown: &str,
    cx: &mut Load<'_>,
) -> Option<Persistence> {
    let mut timeout = block.persistence_timeout.value().map(|t| t.0);
    let granularity = block.persistence_granularity.value().copied();
    if timeout.is_none() && granularity.is_some() {
        timeout = Some(360);
    }
    let everything = matches!(key, ServiceKey::Address { endpoint, .. } if endpoint.port() == 0);
    if timeout.is_none() && everything {
        let message = format!(
            "virtual server {shown}: a service for all ports needs persistence, a timeout of 360 is used"
        );
        cx.report(Diagnostic::warning(&codes::DEFAULTED, message).at(block.span));
        timeout = Some(360);
    }
    let timeout = timeout?;
    let granularity = match (granularity, key.family()) {
        (Some(Granularity::Mask(mask)), Family::V4) => u32::from(mask),
        (Some(Granularity::Length(length)), Family::V6) => u32::from(length),
        // A number alone is an address of inet_aton's short form for IPv4.
        (Some(Granularity::Length(length)), Family::V4) => u32::from(length),
        (_, Family::V4) => u32::MAX,
        (_, Family::V6) => 128,
    };
    Some(Persistence {
        timeout,
        granularity,
        engine: block.persistence_engine.value().map(|e| Name::from(e.0.clone())),
    })
}

fn flags(block: &VirtualServer, key: &ServiceKey, shown: &str, cx: &mut Load<'_>) -> u32 {
    let mut flags = 0;
    for (on, bit) in [
        (block.ops.is_set(), 0x04),
        (block.flag_1.is_set(), 0x08),
        (block.flag_2.is_set(), 0x10),
        (block.flag_3.is_set(), 0x20),
        (block.sh_port.is_set() || block.mh_port.is_set(), 0x10),
        (block.sh_fallback.is_set() || block.mh_fallback.is_set(), 0x08),
    ] {
        if on {
            flags |= bit;
        }
    }
    let datagrams = match key {
        ServiceKey::Address { protocol, .. } => *protocol == Protocol::Udp,
        ServiceKey::Mark { .. } => true,
    };
    if flags & 0x04 != 0 && !datagrams {
        let message =
            format!("virtual server {shown}: one packet scheduling requires UDP, ignored");
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(block.ops.span()));
        flags &= !0x04;
    }
    flags
}

/// The port as IPVS gets it.
fn port(
    written: Endpoint,
    forward: Forward,
    service: &Inherited,
    what: &str,
    at: Span,
    cx: &mut Load<'_>,
) -> u16 {
    if service.is_group {
        return written.port;
    }
    let wanted = match (forward, service.is_mark) {
        (Forward::Nat, false) if written.port == 0 => return service.key_port,
        (Forward::Nat, _) => return written.port,
        (_, true) => 0,
        (_, false) => service.key_port,
    };
    if written.port != wanted && written.port != 0 {
        let message = if service.is_mark {
            format!(
                "virtual server {}: {what} of a service by mark has no port, ignored",
                service.name
            )
        } else {
            format!(
                "virtual server {}: {what} has port {}, with DR and TUN the port of the service is used",
                service.name, written.port
            )
        };
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at));
    }
    wanted
}

fn wrong_family(address: &IpAddr, forward: Forward, service: &Inherited) -> bool {
    Family::of(address) != service.family && !matches!(forward, Forward::Tun(_))
}

fn real_server(
    block: RealServer,
    service: &Inherited,
    method: Forward,
    cx: &mut Load<'_>,
) -> Option<(model::RealServer, Span)> {
    let at = block.span;
    let Endpoint { address, .. } = block.header;
    let forward = block.lvs_method.value().map_or(method, |m| m.0);
    if wrong_family(&address, forward, service) {
        let message = format!(
            "virtual server {}: real server {address} is not an {} address, it is left out",
            service.name, service.family
        );
        cx.report(
            Diagnostic::error(&codes::FAMILY, message)
                .at(at)
                .help("only a server reached through TUN may be of another family"),
        );
        return None;
    }
    let what = format!("real server {address}");
    let port = port(block.header, forward, service, &what, at, cx);
    let checkers = Server { block: &block, port, service }.checks(cx);
    let extras = ServerExtras {
        snmp_name: block.snmp_name.value().map(|n| n.0.clone()),
        virtualhost: block.virtualhost.value().map(|h| h.0.clone()),
    };
    let owner = &service.name;
    let server = model::RealServer {
        address,
        port,
        forward,
        weight: block.weight.value().map_or(service.weight, |n| n.u32()),
        upper_threshold: block.uthreshold.value().map_or(0, |n| n.u32()),
        lower_threshold: block.lthreshold.value().map_or(0, |n| n.u32()),
        inhibit_on_failure: block.inhibit_on_failure.value().map_or(service.inhibit, |b| b.0),
        notify_up: script(&block.notify_up, "notify_up", owner, cx),
        notify_down: script(&block.notify_down, "notify_down", owner, cx),
        smtp_alert: block.smtp_alert.value().map_or(service.smtp_alert, |b| b.0),
        checkers,
        extras: (extras != ServerExtras::default()).then(|| Box::new(extras)),
    };
    Some((server, at))
}

fn sorry_server(
    block: &VirtualServer,
    service: &Inherited,
    method: Forward,
    cx: &mut Load<'_>,
) -> Option<SorryServer> {
    let written = *block.sorry_server.value()?;
    let at = block.sorry_server.span();
    let forward = block.sorry_server_lvs_method.value().map_or(method, |m| m.0);
    if wrong_family(&written.address, forward, service) {
        let message = format!(
            "virtual server {}: sorry server {} is not an {} address, it is left out",
            service.name, written.address, service.family
        );
        cx.report(Diagnostic::error(&codes::FAMILY, message).at(at));
        return None;
    }
    let port = match forward {
        // A sorry server without a port keeps 0, as with keepalived.
        Forward::Nat => written.port,
        _ => port(written, forward, service, "the sorry server", at, cx),
    };
    Some(SorryServer {
        address: written.address,
        port,
        forward,
        inhibit: block.sorry_server_inhibit.is_set(),
    })
}

/// A sorry server that is one of the servers, too, has one entry in the kernel: it is inhibited as the server is.
fn like_its_server(
    sorry: SorryServer,
    servers: &[model::RealServer],
    block: &VirtualServer,
    shown: &str,
    cx: &mut Load<'_>,
) -> SorryServer {
    let same = servers.iter().find(|s| (s.address, s.port) == (sorry.address, sorry.port));
    let Some(server) = same.filter(|server| server.inhibit_on_failure != sorry.inhibit) else {
        return sorry;
    };
    let inhibit = server.inhibit_on_failure;
    let message = format!(
        "virtual server {shown}: the sorry server is real server {} port {}, too, whose inhibit_on_failure \
         counts for both",
        server.address, server.port
    );
    let written = &block.sorry_server_inhibit;
    let at = if written.is_set() { written.span() } else { block.sorry_server.span() };
    cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at));
    SorryServer { inhibit, ..sorry }
}

/// The quorum cannot exceed what the servers have to offer.
fn quorum(
    block: &VirtualServer,
    servers: &[model::RealServer],
    shown: &str,
    cx: &mut Load<'_>,
) -> (u32, u32) {
    let sum: u64 = servers.iter().map(|s| u64::from(s.weight)).sum();
    let sum = u32::try_from(sum).unwrap_or(u32::MAX);
    let mut quorum = block.quorum.value().map_or(1, |n| n.u32());
    if quorum > sum {
        let message = format!(
            "virtual server {shown}: quorum {quorum} exceeds the total weight of the real servers, {sum} is used"
        );
        let at = if block.quorum.is_set() { block.quorum.span() } else { block.span };
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at));
        quorum = sum;
    }
    let mut hysteresis = block.hysteresis.value().map_or(0, |n| n.u32());
    let most = quorum.saturating_sub(1);
    if hysteresis > most {
        let message = format!(
            "virtual server {shown}: hysteresis {hysteresis} must be below the quorum, {most} is used"
        );
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(block.hysteresis.span()));
        hysteresis = most;
    }
    (quorum, hysteresis)
}

/// Services that are defined twice: IPVS knows each once, so the servers of the later one join the first. What an
/// entry of a group would define again belongs to the first, too.
pub(super) fn finish(cx: &mut Load<'_>) {
    finish_groups(cx);
    let mut seen: IndexSet<ServiceKey> = IndexSet::with_capacity(cx.draft.services.len());
    let mut all = cx.draft.model.lvs.services.iter().flat_map(Service::keys);
    let twice = all.any(|key| !seen.insert(*key));
    if !twice {
        return;
    }
    // The place of the service that has a key.
    let mut owners: IndexMap<ServiceKey, usize> = IndexMap::with_capacity(seen.len());
    let mut merged: Vec<Service> = Vec::with_capacity(cx.draft.services.len());
    let services = core::mem::take(&mut cx.draft.model.lvs.services);
    for (i, mut service) in services.into_iter().enumerate() {
        let at = cx.draft.services.get(i).map_or(Span::NONE, |n| n.span);
        let place = merged.len();
        if service.group().is_some() {
            if let Some(service) = without_taken(service, &owners, at, cx) {
                owners.extend(service.keys().iter().map(|key| (*key, place)));
                merged.push(service);
            }
            continue;
        }
        let Some(first) = owners.get(&service.key).and_then(|place| merged.get_mut(*place)) else {
            owners.insert(service.key, place);
            merged.push(service);
            continue;
        };
        if let Some(group) = first.group() {
            let message = format!(
                "virtual server {} is in group {} already, it is left out",
                service.key, group.name
            );
            cx.report(
                Diagnostic::error(&codes::DUPLICATE_NAME, message).at(at).class(Class::Quiet),
            );
            continue;
        }
        let message = format!(
            "virtual server {} is defined already, its servers join the first one",
            first.key
        );
        let known: IndexSet<(IpAddr, u16)> =
            first.servers.iter().map(|s| (s.address, s.port)).collect();
        service.servers.retain(|s| !known.contains(&(s.address, s.port)));
        first.servers.append(&mut service.servers);
        cx.report(
            Diagnostic::note_only(&codes::DUPLICATE_NAME, message)
                .at(at)
                .note("the settings of the first one count"),
        );
    }
    cx.draft.model.lvs.services = merged;
}

/// A service by group without the entries that an earlier service has; none if nothing is left.
fn without_taken(
    mut service: Service,
    owners: &IndexMap<ServiceKey, usize>,
    at: Span,
    cx: &mut Load<'_>,
) -> Option<Service> {
    let id = service.id();
    let group = service.extras.as_mut()?.group.as_mut()?;
    let first = group.keys.iter().copied().find(|key| owners.contains_key(key));
    let Some(first) = first else {
        return Some(service);
    };
    let before = group.keys.len();
    group.keys.retain(|key| !owners.contains_key(key));
    let (gone, left) = (before - group.keys.len(), group.keys.len());
    let message = format!(
        "virtual server {id}: {first} belongs to an earlier virtual server, {gone} of {before} are left out"
    );
    cx.report(Diagnostic::error(&codes::DUPLICATE_NAME, message).at(at).class(Class::Quiet));
    service.key = *group.keys.first()?;
    (left > 0).then_some(service)
}
