//! Lints: settings that are valid but probably not intended.
//!
//! They run after a configuration was read, if [`Options::lints`](super::Options) is set, and only give advice: they
//! change neither the model nor the exit status. An instance is examined when its block ends; facts that are needed at
//! the end of the text are stored in [`Kept`]. Mistakes that keepalived also reports belong to `resolve`.

mod address;
mod hear;
mod peer;
mod router;
mod service;

use core::net::IpAddr;

use indexmap::IndexSet;

use super::block::service::VirtualServer;
use super::block::vrrp::VrrpInstance;
use super::resolve::Load;
use super::span::Span;
use super::value::service::{Endpoint, ServerName};
use crate::base::Name;
use crate::model::Forward;
use crate::model::service::Protocol;

/// Facts about the blocks that are needed at the end of the text.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Instances, for a comparison with the other router's.
    instances: Vec<VrrpInstance>,
    /// There is an instance.
    any: bool,
    /// Addresses of instances.
    held: IndexSet<IpAddr>,
    /// The same by instance.
    lines: Vec<address::Held>,
    /// The facts that tell whether the file is for this machine.
    place: address::Place,
    /// The first instance that sends mails.
    mails: Option<(Name, Span)>,
    /// Services by address.
    addresses: Vec<(IpAddr, Span)>,
    /// Services by group.
    groups: Vec<Group>,
}

/// A `virtual_server` on a group.
#[derive(Debug)]
struct Group {
    name: Name,
    protocol: Protocol,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    span: Span,
    forward: Forward,
}

/// An instance was read.
pub(crate) fn instance(mut block: VrrpInstance, kept: &mut Kept, cx: &mut Load<'_>) {
    // Addresses of another family were reported and left out.
    let made = cx.draft.model.vrrp.instances.last();
    if let Some(family) = made.filter(|i| i.name == block.header.0).map(|i| i.family) {
        block.virtual_ipaddress.items.retain(|line| line.value.prefix.family() == family);
    }
    router::instance(&block, cx);
    address::own(&block, cx);
    kept.any = true;
    kept.lines.extend(address::held(&block));
    kept.place.look(&block, cx);
    let lines = block.virtual_ipaddress.items.iter();
    kept.held.extend(
        lines.chain(&block.virtual_ipaddress_excluded.items).map(|line| line.value.prefix.address),
    );
    if kept.mails.is_none() && block.smtp_alert.value().is_some_and(|b| b.0) {
        kept.mails = Some((block.header.0.clone(), block.smtp_alert.span()));
    }
    if cx.options.peer.is_some() {
        kept.instances.push(block);
    }
}

/// A service was read.
pub(crate) fn service(block: &VirtualServer, kept: &mut Kept) {
    match &block.header {
        ServerName::Address(endpoint) => kept.addresses.push((endpoint.ip(), block.span)),
        ServerName::Mark(_) => {}
        ServerName::Group(name) => {
            let method = block.lvs_method().0;
            let servers = block.real_server.0.iter().map(|server| Server {
                endpoint: server.header,
                span: server.span,
                forward: server.lvs_method.value().map_or(method, |m| m.0),
            });
            kept.groups.push(Group {
                name: name.clone(),
                protocol: Protocol::from(block.protocol()),
                servers: servers.collect(),
            });
        }
    }
}

/// Runs the lints that need the whole text.
pub(crate) fn run(kept: &Kept, cx: &mut Load<'_>) {
    address::outside(kept, cx);
    address::shared(kept, cx);
    router::scripts(cx);
    router::mails(kept, cx);
    service::servers(kept, cx);
    service::addresses(kept, cx);
    peer::compare(kept, cx);
}
