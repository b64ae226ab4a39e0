//! `virtual_server`: families, ports, quorum and settings inherited by checks.

mod group;
mod unique;

use core::net::IpAddr;
use std::collections::BTreeSet;

use indexmap::{IndexMap, IndexSet};

use super::Load;
use super::check::{Inherited, Server};
use super::command::{Purpose, command};
use crate::base::{Family, Name};
use crate::config::block::service::{RealServer, VirtualServer};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::Slot;
use crate::config::slot::First;
use crate::config::span::Span;
use crate::config::value::script::Script;
use crate::config::value::service::{Endpoint, Granularity, ServerName};
use crate::model::service::{Persistence, Protocol, ServerExtras, ServiceExtras, SorryServer};
use crate::model::{self, Command, Forward, Service, ServiceKey, Shared};

pub(super) use group::close as group;
pub(crate) use group::{Group, GroupUse};
pub(super) use unique::finish;

/// The flag of `ops`.
const ONE_PACKET: u32 = 0x04;

/// Reserved number of services: unused room costs no memory, and growing would copy the others.
const USUAL: usize = 16_384;

/// Facts about a service that are needed at the end of the text.
#[derive(Debug)]
pub(crate) struct Notes {
    pub span: Span,
}

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
        None => add(service.into(), span, cx),
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

/// A service that belongs to no group.
pub(super) fn add(service: Shared<Service>, span: Span, cx: &mut Load<'_>) {
    let services = &mut cx.draft.model.lvs.services;
    if services.is_empty() {
        services.reserve(USUAL);
    }
    services.push(service);
    cx.draft.services.push(Notes { span });
}

fn resolve(mut block: VirtualServer, cx: &mut Load<'_>) -> Option<Service> {
    let servers = core::mem::take(&mut block.real_server.0);
    let family = family(&block, &servers);
    let shown = match &block.header {
        ServerName::Address(endpoint) => {
            let protocol = Protocol::from(block.protocol()).word();
            format!("[{}]:{protocol}:{}", endpoint.ip(), endpoint.port())
        }
        ServerName::Mark(mark) => format!("FWM {mark}"),
        ServerName::Group(name) => format!("[{name}]"),
    };
    if servers.is_empty() {
        let which = if cx.was_refused("real_server", block.span) {
            "no usable real server"
        } else {
            "no real servers"
        };
        let message = format!("virtual server {shown} has {which}, it is left out");
        cx.report(Diagnostic::error(&codes::INCOMPLETE, message).at(block.span).after(block.end));
        return None;
    }
    let key = key(&block, family, &shown, cx)?;
    let scheduler = block.lvs_sched().word();
    if !block.lvs_sched.is_set() {
        let message = format!("virtual server {shown}: no scheduler set, {scheduler} is used");
        cx.report(Diagnostic::warning(&codes::DEFAULTED, message).at(block.span));
    }
    if block.lvs_method.value().is_none() && servers.iter().any(|s| s.lvs_method.value().is_none())
    {
        let message = format!("virtual server {shown}: no forwarding method set, NAT is used");
        cx.report(Diagnostic::warning(&codes::DEFAULTED, message).at(block.span));
    }
    let method = block.lvs_method().0;
    let persistence = persistence(&block, &key, &shown, cx);
    let flags = flags(&block, &key, &shown, cx);
    let global = cx.draft.global();
    let inherited = Inherited {
        name: shown,
        delay_loop: block.delay_loop().duration(),
        connect_timeout: block.connect_timeout().duration(),
        retry: block.retry.value().map(|n| n.u32()),
        delay_before_retry: block.delay_before_retry.value().map(|t| t.duration()),
        warmup: block.warmup.value().map(|t| t.duration()),
        alpha: block.alpha.is_set(),
        log_all: global.checker_log_all_failures().0,
        inhibit: block.inhibit_on_failure.is_set(),
        weight: block.weight().u32(),
        smtp_alert: global.mail_checker().unwrap_or(true),
        virtualhost: block.virtualhost.value().map(|h| h.0.clone()),
        refused_host: Slot::refused(&block.virtualhost),
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
                "virtual server {}: real server {} port {} is already listed, ignored",
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
        cx.report(Diagnostic::error(&codes::INCOMPLETE, message).at(block.span).after(block.end));
        return None;
    }
    let servers: Vec<model::RealServer> = list.into_values().collect();
    if !inherited.is_group {
        sharing(&servers, &inherited.name, block.span, cx);
    }
    let sorry_server = sorry_server(&block, &inherited, method, cx)
        .map(|sorry| like_its_server(sorry, &servers, &block, &inherited.name, cx));
    let (quorum, hysteresis) = quorum(&block, &key, &servers, &inherited.name, cx);
    let by_mark = matches!(key, ServiceKey::Mark { .. });
    if by_mark && block.ha_suspend.is_set() {
        unsuspendable(&inherited.name, block.ha_suspend.span(), cx);
    }
    let extras = ServiceExtras {
        ha_suspend: block.ha_suspend.is_set() && !by_mark,
        snmp_name: block.snmp_name.value().map(|n| n.0.clone()),
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
        // Set together with those of the instances.
        notify_fifo: false,
        servers,
        extras: (extras != ServiceExtras::default()).then(|| Box::new(extras)),
    })
}

/// Reports `ha_suspend` of a virtual server that a firewall mark selects.
pub(super) fn unsuspendable(name: &str, at: Span, cx: &mut Load<'_>) {
    let message = format!(
        "virtual server {name}: ha_suspend needs addresses, and a firewall mark has none; ignored"
    );
    cx.report(Diagnostic::error(&codes::CONFLICT, message).at(at));
}

/// Reports servers with the same kernel key, because only NAT can change a port.
fn sharing(servers: &[model::RealServer], shown: &str, at: Span, cx: &mut Load<'_>) {
    let mut seen: IndexSet<(IpAddr, u16)> = IndexSet::with_capacity(servers.len());
    for server in servers.iter().filter(|server| !seen.insert((server.address, server.port))) {
        let message = format!(
            "virtual server {shown}: several real servers are the same for the kernel, {} port {}: they share one entry, \
             which is in service while one of them is up",
            server.address, server.port
        );
        cx.report(
            Diagnostic::warning(&codes::ADJUSTED, message)
                .at(at)
                .note("with DR, TUN and firewall marks the ports of real servers have no effect"),
        );
    }
}

fn script(slot: &First<Script>, keyword: &str, user: &str, cx: &mut Load<'_>) -> Option<Command> {
    let script = slot.value()?;
    command(script, None, Purpose::Notify, &format!("{keyword} of {user}"), cx)
}

/// The family of a firewall-mark service, from the first setting that determines one.
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
            format!("virtual server {shown}: ip_family does not match the address, ignored");
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
                            .help("most services need 'protocol TCP'"),
                    );
                    Protocol::Udp
                }
            };
            Some(ServiceKey::Address { protocol, endpoint: *endpoint })
        }
        ServerName::Mark(0) => {
            let message = "a virtual server cannot have mark 0, it is left out";
            cx.report(Diagnostic::error(&codes::RANGE, message).at(block.span));
            None
        }
        ServerName::Mark(mark) => {
            if block.protocol.is_set() {
                let message = format!(
                    "virtual server {shown}: protocol is not used: the firewall mark selects the packets"
                );
                cx.report(
                    Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(block.protocol.span()),
                );
            }
            Some(ServiceKey::Mark { mark: *mark, family })
        }
        // A placeholder stands for the group until it is known.
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
        // For IPv4, a single number is an address in inet_aton's short form.
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

/// The port in IPVS.
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
                "virtual server {}: port {} of {what} is not used: a firewall-mark service keeps the client's port",
                service.name, written.port
            )
        } else {
            format!(
                "virtual server {}: port {} of {what} is not used: with DR and TUN it is the port of the service",
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
                .help("only a server reached through a tunnel (TUN) can be of a different family"),
        );
        return None;
    }
    let what = format!("real server {address}");
    let port = port(block.header, forward, service, &what, at, cx);
    let checkers = Server { block: &block, port, service }.checks(cx);
    let extras = ServerExtras { snmp_name: block.snmp_name.value().map(|n| n.0.clone()) };
    let user = &service.name;
    let server = model::RealServer {
        address,
        port,
        forward,
        weight: block.weight.value().map_or(service.weight, |n| n.u32()),
        upper_threshold: block.uthreshold().u32(),
        lower_threshold: block.lthreshold().u32(),
        inhibit_on_failure: block.inhibit_on_failure.value().map_or(service.inhibit, |b| b.0),
        notify_up: script(&block.notify_up, "notify_up", user, cx),
        notify_down: script(&block.notify_down, "notify_down", user, cx),
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
        // A sorry server without a port keeps 0, as in keepalived.
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

/// A sorry server that is also a real server has one kernel entry: it is inhibited like the real server.
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

/// The quorum cannot exceed the total weight of the servers. Those that share an entry in the kernel count once.
fn quorum(
    block: &VirtualServer,
    key: &ServiceKey,
    servers: &[model::RealServer],
    shown: &str,
    cx: &mut Load<'_>,
) -> (u32, u32) {
    let mut entries = BTreeSet::new();
    let firsts =
        servers.iter().filter(|s| entries.insert((s.address, key.entry_port(s.forward, s.port))));
    let sum: u64 = firsts.map(|s| u64::from(s.weight)).sum();
    let sum = u32::try_from(sum).unwrap_or(u32::MAX);
    let mut quorum = block.quorum().0;
    if quorum > sum {
        let message = format!(
            "virtual server {shown}: quorum {quorum} exceeds the total weight of the real servers, {sum} is used"
        );
        let at = if block.quorum.is_set() { block.quorum.span() } else { block.span };
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at));
        quorum = sum;
    }
    let mut hysteresis = block.hysteresis().u32();
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
