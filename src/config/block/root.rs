//! The keywords outside all blocks. Their blocks are resolved one by one as they end.

use super::global::GlobalDefs;
use super::group::SyncGroup;
use super::script::VrrpScript;
use super::service::{Ssl, VirtualServer, VirtualServerGroup};
use super::track::{BfdInstance, GarpGroup, TrackFile, TrackGroup, TrackProcess};
use super::vrrp::VrrpInstance;
use crate::config::context::Cx;
use crate::config::document::Node;
use crate::config::keyword::{Keyword, Shape, Times};
use crate::config::reader::Reader;
use crate::config::schema::{Block, Next, Slot, Value, block, read_block};
use crate::config::slot::{First, Lines, One, block_node, header};
use crate::config::span::Span;
use crate::config::value::entry::AddressEntry;
use crate::config::value::global::OptionalName;
use crate::config::value::number::{Exact, Flag, U32};
use crate::config::value::route::RouteEntry;
use crate::config::value::router::{DelayEntry, LinkbeatEntry};
use crate::config::value::rule::RuleEntry;
use crate::config::value::text::ObjectName;
use crate::config::words::Statement;

block! {
    /// Keywords outside all blocks.
    pub struct Root(()) = "" {
        /// Name of this daemon, which distinguishes it from others on the machine.
        instance: First<ObjectName> = "instance", lenient;
        /// Network namespace of the daemon.
        net_namespace: First<ObjectName> = "net_namespace", lenient;
        /// Network namespace of IPVS; without a name, the initial one of the machine.
        net_namespace_ipvs: First<OptionalName<255>> = "net_namespace_ipvs", later,
            otherwise("that of the daemon");
        /// Allow ipsets in a network namespace; not needed here, where sets of nftables take their place.
        namespace_with_ipsets: One<Flag> = "namespace_with_ipsets", dead;
        /// Put pid files into their own directory.
        use_pid_dir: One<Flag> = "use_pid_dir";
        /// Poll the state of links every second instead of waiting for kernel events.
        linkbeat_use_polling: One<Flag> = "linkbeat_use_polling", later;
        /// Seconds for which the supervisor waits for its processes when it stops.
        child_wait_time: One<Exact<0, U32>> = "child_wait_time", default(Exact(5));
        /// Settings of the daemon as a whole.
        global_defs: Global = "global_defs";
        /// TLS material for SSL_GET.
        ssl: Each<Ssl> = "SSL";
        /// Instances that also track the interfaces of static items.
        track_group: Each<TrackGroup> = "track_group", lenient;
        /// Addresses that are set for as long as the daemon runs.
        static_ipaddress: Lines<AddressEntry> = "static_ipaddress";
        /// Routes that are set for as long as the daemon runs.
        static_routes: Lines<RouteEntry> = "static_routes";
        /// Policy rules that are set for as long as the daemon runs.
        static_rules: Lines<RuleEntry> = "static_rules";
        /// Interfaces whose link state is polled every second.
        linkbeat_interfaces: Lines<LinkbeatEntry> = "linkbeat_interfaces", later;
        /// Seconds for which a change of an interface must last to count.
        interface_up_down_delays: Lines<DelayEntry> = "interface_up_down_delays";
        /// Interfaces that share a minimum time between announcements.
        garp_group: Each<GarpGroup> = "garp_group";
        /// A program that is run periodically to check something.
        vrrp_script: Each<VrrpScript> = "vrrp_script";
        /// A file whose content is a number.
        track_file: Each<TrackFile> = "track_file" | "vrrp_track_file" (old silent);
        /// Tracks how many processes of a name run.
        vrrp_track_process: Each<TrackProcess> = "vrrp_track_process";
        /// A BFD session.
        bfd_instance: Each<BfdInstance> = "bfd_instance";
        /// Instances that are master together or not at all.
        vrrp_sync_group: Each<SyncGroup> = "vrrp_sync_group", lenient;
        /// One virtual router.
        vrrp_instance: Each<VrrpInstance> = "vrrp_instance", lenient;
        /// Addresses and marks that virtual servers share.
        virtual_server_group: Each<VirtualServerGroup> = "virtual_server_group";
        /// A service that IPVS balances.
        virtual_server: Each<VirtualServer> = "virtual_server";
    }
}

/// A complete block, to be resolved.
pub(crate) enum Top {
    Global(Box<GlobalDefs>),
    Ssl(Ssl),
    TrackGroup(TrackGroup),
    GarpGroup(GarpGroup),
    Script(Box<VrrpScript>),
    File(Box<TrackFile>),
    Process(Box<TrackProcess>),
    Bfd(Box<BfdInstance>),
    Group(Box<SyncGroup>),
    Instance(Box<VrrpInstance>),
    ServerGroup(VirtualServerGroup),
    Server(Box<VirtualServer>),
}

impl Root {
    /// The block that the last statement opened, if it is kept.
    pub(crate) fn take(&mut self) -> Option<Top> {
        let Self { global_defs, ssl, track_group, garp_group, vrrp_script, track_file, .. } = self;
        None.or_else(|| global_defs.0.take().map(Top::Global))
            .or_else(|| ssl.0.take().map(|b| Top::Ssl(*b)))
            .or_else(|| track_group.0.take().map(|b| Top::TrackGroup(*b)))
            .or_else(|| garp_group.0.take().map(|b| Top::GarpGroup(*b)))
            .or_else(|| vrrp_script.0.take().map(Top::Script))
            .or_else(|| track_file.0.take().map(Top::File))
            .or_else(|| self.vrrp_track_process.0.take().map(Top::Process))
            .or_else(|| self.bfd_instance.0.take().map(Top::Bfd))
            .or_else(|| self.vrrp_sync_group.0.take().map(Top::Group))
            .or_else(|| self.vrrp_instance.0.take().map(Top::Instance))
            .or_else(|| self.virtual_server_group.0.take().map(|b| Top::ServerGroup(*b)))
            .or_else(|| self.virtual_server.0.take().map(Top::Server))
    }
}

/// Blocks that are resolved one by one as they end: holds the one that is being read.
#[derive(Debug)]
pub(crate) struct Each<B>(pub Option<Box<B>>);

impl<B> Default for Each<B> {
    fn default() -> Self {
        Self(None)
    }
}

impl<B: Block> Slot for Each<B> {
    const TIMES: Times = Times::Many;

    fn shape() -> Shape {
        Shape::Block(B::table, B::Header::shape().expected_header())
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        cx.position.within = Span::NONE;
        self.0 = header::<B>(keyword, statement, cx).map(Box::new);
        cx.position.within = statement.span();
        if self.0.is_some() { Next::Body } else { Next::Skip }
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        if let Some(block) = &mut self.0 {
            if read_block(block.as_mut(), keyword.name, reader, cx) == Next::Leave {
                self.0 = None;
                return Next::Done;
            }
            if cx.options.document {
                let node = block_node(keyword, block.as_ref());
                cx.document.nodes.push(node);
            }
            cx.position.settle(keyword.name, block.span(), block.end());
        }
        Next::Done
    }

    fn nodes(&self, _keyword: &'static Keyword, _out: &mut Vec<Node>) {}
}

/// `global_defs`: all blocks fill one struct, which other blocks look at. Holds it while one of them is read.
#[derive(Debug, Default)]
pub(crate) struct Global(pub Option<Box<GlobalDefs>>);

impl Slot for Global {
    const TIMES: Times = Times::Many;

    fn shape() -> Shape {
        Shape::Block(GlobalDefs::table, String::new())
    }

    fn begin(
        &mut self,
        _keyword: &'static Keyword,
        statement: &Statement<'_>,
        _cx: &mut Cx<'_>,
    ) -> Next {
        let at = statement.word(0).map_or(Span::NONE, |w| w.span());
        self.0 = Some(Box::new(GlobalDefs::new((), at)));
        Next::Body
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        if let Some(block) = &mut self.0 {
            read_block(block.as_mut(), keyword.name, reader, cx);
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        let nodes = self.0.as_ref().map(|block| block.nodes()).unwrap_or_default();
        if !nodes.is_empty() {
            out.push(Node::block(keyword, Vec::new(), nodes));
        }
    }
}
