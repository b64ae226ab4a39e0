//! Lints: what is valid and still not what its author wants.
//!
//! They run after a configuration was read, when [`Options::lints`](super::Options) asks for them, and only give
//! advice: they change neither the model nor the exit status. What is read for them is kept in [`Kept`] while the
//! blocks are resolved. Mistakes that keepalived reports too belong to `resolve`.

mod peer;
mod router;
mod service;

use super::block::service::VirtualServer;
use super::block::vrrp::VrrpInstance;
use super::context::Cx;
use super::span::Span;
use super::value::service::{Endpoint, ServerName};
use crate::model::Forward;
use crate::model::service::Protocol;

pub use peer::Peer;

/// Blocks as they were written, with their places.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    instances: Vec<VrrpInstance>,
    services: Vec<Service>,
}

/// What the lints want to know of a `virtual_server`.
#[derive(Debug)]
struct Service {
    name: ServerName,
    span: Span,
    protocol: Protocol,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    span: Span,
    forward: Forward,
}

impl Kept {
    pub(crate) fn instance(&mut self, block: VrrpInstance) {
        self.instances.push(block);
    }

    pub(crate) fn service(&mut self, block: &VirtualServer) {
        let method = block.lvs_method.value().map_or(Forward::Nat, |m| m.0);
        let servers = block.real_server.0.iter().map(|server| Server {
            endpoint: server.header,
            span: server.span,
            forward: server.lvs_method.value().map_or(method, |m| m.0),
        });
        self.services.push(Service {
            name: block.header.clone(),
            span: block.span,
            protocol: block.protocol.value().map_or(Protocol::Udp, |p| Protocol::from(*p)),
            servers: servers.collect(),
        });
    }
}

/// Looks for everything.
pub(crate) fn run(cx: &mut Cx<'_>) {
    let kept = core::mem::take(&mut cx.draft.kept);
    for block in &kept.instances {
        router::instance(block, cx);
    }
    router::scripts(cx);
    router::mails(&kept, cx);
    service::servers(&kept, cx);
    service::addresses(&kept, cx);
    peer::compare(&kept, cx);
}
