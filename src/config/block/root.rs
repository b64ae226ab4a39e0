//! The keywords outside all blocks. Their blocks are resolved one by one as they end.

use super::global::GlobalDefs;
use super::group::SyncGroup;
use super::script::VrrpScript;
use super::service::VirtualServer;
use super::vrrp::VrrpInstance;
use crate::config::context::Cx;
use crate::config::document::Node;
use crate::config::reader::Reader;
use crate::config::schema::{Block, Keyword, Next, Shape, Slot, Times, Value, block, read_block};
use crate::config::slot::{Lines, One, block_node, header};
use crate::config::span::Span;
use crate::config::value::entry::AddressEntry;
use crate::config::value::number::{Int, U32};
use crate::config::words::Statement;

block! {
    /// Keywords outside all blocks.
    pub struct Root(()) = "" {
        /// Seconds for which the supervisor waits for its processes when it stops.
        child_wait_time: One<Int<0, U32>> = "child_wait_time", Live, default("5");
        /// Settings of the daemon as a whole.
        global_defs: Global = "global_defs", Live;
        /// Addresses that are set for as long as the daemon runs.
        static_ipaddress: Lines<AddressEntry> = "static_ipaddress", Live;
        /// A program that runs again and again.
        vrrp_script: Each<VrrpScript> = "vrrp_script", Live;
        /// Instances that are master together or not at all.
        vrrp_sync_group: Each<SyncGroup> = "vrrp_sync_group", Live, lenient;
        /// One virtual router.
        vrrp_instance: Each<VrrpInstance> = "vrrp_instance", Live, lenient;
        /// A service that IPVS balances.
        virtual_server: Each<VirtualServer> = "virtual_server", Live;
    }
}

/// A block that is resolved when it ends and not kept.
pub(crate) trait TopLevel: Block {
    /// Whether the block is wanted, now that its header is known.
    fn open(&self, _cx: &mut Cx<'_>) -> bool {
        true
    }

    /// Resolves the block.
    fn close(self, cx: &mut Cx<'_>);
}

/// Blocks that are resolved one by one.
#[derive(Debug)]
pub(crate) struct Each<B>(Option<B>);

impl<B> Default for Each<B> {
    fn default() -> Self {
        Self(None)
    }
}

impl<B: TopLevel> Slot for Each<B> {
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
        self.0 = header::<B>(keyword, statement, cx).filter(|b| b.open(cx));
        if self.0.is_some() { Next::Body } else { Next::Skip }
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        if let Some(mut block) = self.0.take() {
            if read_block(&mut block, keyword.name, reader, cx) != Next::Leave {
                if cx.options.document {
                    let node = block_node(keyword, &block);
                    cx.document.nodes.push(node);
                }
                block.close(cx);
            }
        }
        Next::Done
    }

    fn nodes(&self, _keyword: &'static Keyword, _out: &mut Vec<Node>) {}
}

/// `global_defs`: all blocks fill one struct, which other blocks look at.
#[derive(Debug, Default)]
pub(crate) struct Global;

impl Slot for Global {
    const TIMES: Times = Times::Many;

    fn shape() -> Shape {
        Shape::Block(GlobalDefs::table, String::new())
    }

    fn begin(
        &mut self,
        _keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        cx.draft.global_at = statement.word(0).map_or(Span::NONE, |w| w.span());
        Next::Body
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        let mut block = cx.draft.take_global();
        block.span = cx.draft.global_at;
        read_block(&mut block, keyword.name, reader, cx);
        cx.draft.put_global(block);
        Next::Done
    }

    fn nodes(&self, _keyword: &'static Keyword, _out: &mut Vec<Node>) {}
}
