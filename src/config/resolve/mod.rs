//! From typed blocks to the model: defaults, inheritance, names, and conditions across blocks.
//!
//! A top-level block is resolved when it ends and then dropped; what is only known at the end of the text (members of
//! groups, ids used twice, unused scripts) is kept in the [`Draft`].

pub(crate) mod address;
mod announce;
mod check;
pub(crate) mod command;
mod extras;
mod firewall;
mod global;
mod group;
mod instance;
mod route;
mod script;
mod service;
mod settled;
mod tls;
mod track;
mod tracker;
mod vmac;

use core::ops::{Deref, DerefMut};
use std::rc::Rc;

use indexmap::{IndexMap, IndexSet};

use self::command::Verdict;
use super::block::global::GlobalDefs;
use super::block::root::{Root, Top};
use super::block::service::VirtualServer;
use super::block::vrrp::VrrpInstance;
use super::codes;
use super::context::{Cx, Given};
use super::diagnostic::{Class, Diagnostic, Diagnostics};
use super::document::Document;
use super::names::Folders;
use super::schema::Block;
use super::span::Span;
use crate::base::Name;
use crate::model::{Model, Service, Shared, User};

/// One load: the context of its stages, and their results.
pub(crate) struct Load<'a> {
    cx: Cx<'a>,
    pub draft: Draft,
}

impl<'a> Deref for Load<'a> {
    type Target = Cx<'a>;

    fn deref(&self) -> &Self::Target {
        &self.cx
    }
}

impl DerefMut for Load<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cx
    }
}

impl<'a> Load<'a> {
    pub(crate) fn new(cx: Cx<'a>) -> Self {
        let mut new = Self { cx, draft: Draft::default() };
        new.push_down();
        new
    }

    /// `global_defs` as text, as far as they are known.
    pub(crate) fn global_text(&self) -> Vec<u8> {
        Document { nodes: self.draft.global.nodes() }.to_conf()
    }

    /// Adds a service that is known from an earlier read, as if its block had been read.
    pub(crate) fn close_known(&mut self, service: Shared<Service>, span: Span) {
        self.draft.services_asked += 1;
        self.draft.used = true;
        service::add(service, span, self);
        self.position.settle(VirtualServer::table().name, span, Span::NONE);
    }

    /// Forgets everything except the files and `global_defs`, for a second pass.
    pub(crate) fn restart(&mut self) {
        self.cx.restart();
        self.draft = Draft::second(core::mem::take(&mut self.draft));
    }

    /// Whether to read the block opened by a statement of `root`. If not, that is reported.
    pub(crate) fn open(&mut self, root: &mut Root) -> bool {
        if let Some(block) = &mut root.global_defs.0 {
            let span = block.span;
            **block = self.draft.take_global(self.cx.given.used);
            block.span = span;
            return true;
        }
        let within = core::mem::take(&mut self.position.within);
        let wanted = root.track_group.0.as_ref().is_none_or(|b| track::wants_group(b, self))
            && root.bfd_instance.0.as_ref().is_none_or(|b| track::wants_bfd(b, self))
            && root.vrrp_sync_group.0.as_ref().is_none_or(|b| group::wants(b, self))
            && root.vrrp_instance.0.as_ref().is_none_or(|b| instance::wants(b, self));
        self.position.within = within;
        wanted
    }

    /// Resolves a complete block.
    pub(crate) fn close(&mut self, block: Top) {
        match block {
            Top::Global(block) => self.global_ended(*block),
            Top::Ssl(block) => tls::tls(block, self),
            Top::TrackGroup(block) => track::group(block, self),
            Top::GarpGroup(block) => track::garp_group(block, self),
            Top::Script(block) => script::resolve(*block, self),
            Top::File(block) => track::file(*block, self),
            Top::Process(block) => track::process(*block, self),
            Top::Bfd(block) => track::bfd(*block, self),
            Top::Group(block) => group::resolve(*block, self),
            Top::Instance(block) => self.instance(&block),
            Top::ServerGroup(block) => service::group(block, self),
            Top::Server(block) => {
                self.draft.services_asked += 1;
                service::close(*block, self);
            }
        }
    }

    /// Resolves an instance.
    pub(crate) fn instance(&mut self, block: &VrrpInstance) {
        instance::close(block, self);
    }

    fn global_ended(&mut self, block: GlobalDefs) {
        self.draft.put_global(block);
        self.again.unsettle();
        self.push_down();
    }

    /// Passes the settings of `global_defs` down to the values that depend on them.
    fn push_down(&mut self) {
        let global = &self.draft.global;
        let mut folders = match global.iproute_usr_dir.value() {
            Some(path) => vec![path.0.to_vec()],
            None => vec![b"/usr/lib/iproute2".to_vec(), b"/usr/share/iproute2".to_vec()],
        };
        // The machine's own tables override the distribution's.
        folders.push(global.iproute_etc_dir().0.into());
        self.cx.given = Given {
            dynamic_interfaces: global.dynamic_interfaces.is_set(),
            default_interface: Some(global.default_interface().0),
            iproute: Folders(folders),
            bad_script_user: self.cx.given.bad_script_user,
            used: false,
        };
    }

    /// The model, the problems, and the parsed statements.
    pub(crate) fn finish(self) -> (Draft, Diagnostics, Document) {
        let (diagnostics, document) = self.cx.finish();
        (self.draft, diagnostics, document)
    }
}

/// The results so far.
#[derive(Debug)]
pub(crate) struct Draft {
    pub model: Model,
    /// Number of virtual servers, including those that are left out.
    pub services_asked: usize,
    /// `global_defs`. In a second pass the result of the first.
    global: GlobalDefs,
    /// Receives `global_defs` in a second pass.
    scratch: Option<GlobalDefs>,
    /// A block has used `global_defs`.
    used: bool,
    /// `global_defs` came after a block that had used it.
    late: bool,
    pub default_user: Option<Option<User>>,
    /// The first script that will run.
    pub scripts_run: Option<Span>,
    /// The first script that users other than root could change.
    pub insecure: Option<(Span, String, String)>,
    pub verdicts: IndexMap<(Vec<u8>, u32, u32), Rc<Verdict>>,
    pub scripts: IndexMap<Name, script::ScriptDraft>,
    pub instances: IndexMap<Name, instance::Notes>,
    pub groups: IndexMap<Name, group::GroupDraft>,
    pub services: Vec<service::Notes>,
    /// Interfaces to create.
    pub made: vmac::Made,
    /// Scripts that this machine cannot run.
    pub lost_scripts: IndexSet<Name>,
    /// Files, processes and BFD sessions that can be tracked.
    pub objects: IndexMap<(track::Kind, Name), track::Object>,
    /// Places of BFD instances, including those that were left out.
    pub bfds: IndexMap<Name, Span>,
    pub track_groups: IndexMap<Name, track::TrackGroupDraft>,
    /// Preferences assigned to rules without one, by family.
    pub next_preference: [u32; 2],
    pub service_groups: Vec<service::Group>,
    /// Services by group.
    pub group_services: Vec<service::GroupUse>,
    /// References to trackers that were not defined before: kind, name, place.
    pub unresolved: Vec<(track::Kind, Name, Span, Name)>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            services_asked: 0,
            model: Model::default(),
            global: GlobalDefs::new((), Span::NONE),
            scratch: None,
            used: false,
            late: false,
            default_user: None,
            scripts_run: None,
            insecure: None,
            verdicts: IndexMap::new(),
            scripts: IndexMap::new(),
            instances: IndexMap::new(),
            groups: IndexMap::new(),
            services: Vec::new(),
            made: vmac::Made::default(),
            lost_scripts: IndexSet::new(),
            objects: IndexMap::new(),
            bfds: IndexMap::new(),
            track_groups: IndexMap::new(),
            next_preference: [16384; 2],
            service_groups: Vec::new(),
            group_services: Vec::new(),
            unresolved: Vec::new(),
        }
    }
}

impl Draft {
    /// A draft for a second pass, in which `global_defs` is known from the start.
    fn second(first: Self) -> Self {
        Self {
            global: first.global,
            scratch: Some(GlobalDefs::new((), Span::NONE)),
            ..Self::default()
        }
    }

    /// Whether the text has to be read again, because `global_defs` comes after settings that depend on it.
    pub(crate) fn needs_second(&self) -> bool {
        self.late && self.scratch.is_none()
    }

    /// `global_defs` as far as it is known.
    pub(crate) fn global(&mut self) -> &GlobalDefs {
        self.used = true;
        &self.global
    }

    /// The block to be filled by `global_defs` statements.
    fn take_global(&mut self, used: bool) -> GlobalDefs {
        self.late |= self.used || used;
        let empty = GlobalDefs::new((), Span::NONE);
        match &mut self.scratch {
            Some(scratch) => core::mem::replace(scratch, empty),
            None => core::mem::replace(&mut self.global, empty),
        }
    }

    fn put_global(&mut self, block: GlobalDefs) {
        match &mut self.scratch {
            Some(scratch) => *scratch = block,
            None => self.global = block,
        }
        self.used = false;
    }
}

/// Resolves what is only known at the end of the text.
pub(crate) fn finish(root: &mut Root, cx: &mut Load<'_>) {
    cx.position.settle("", Span::NONE, Span::NONE);
    if cx.options.document {
        describe(root, cx);
    }
    global::finish(root, cx);
    address::statics(root, cx);
    route::statics(root, cx);
    track::finish(cx);
    group::finish(cx);
    script::finish(cx);
    instance::finish(cx);
    service::finish(cx);
    global::tell_fifos(cx);
    let without = cx.draft.global().vrrp_without_ipvs().0;
    cx.draft.model.vrrp.needs_ipvs = !without && !cx.draft.model.lvs.services.is_empty();
    tracker::unresolved(cx);
    security(cx);
}

/// Reports once that scripts run without script security, or that one of them is insecure.
fn security(cx: &mut Load<'_>) {
    let Some(at) = cx.draft.scripts_run else {
        return;
    };
    if cx.draft.global().enable_script_security.is_set() {
        return;
    }
    let mut new = Diagnostic::environment(
        &codes::SECURITY_OFF,
        "scripts are run, but enable_script_security is not set",
    )
    .at(at)
    .label("this one, for instance")
    .class(Class::Security)
    .help("add 'enable_script_security' and 'script_user USER' to global_defs");
    if let Some((_, reason, mend)) = cx.draft.insecure.take() {
        new = new.note(format!("there are insecure scripts: {reason}")).help(mend);
    }
    cx.report(new);
}

/// Puts statements outside blocks, and `global_defs`, in front of the document.
fn describe(root: &mut Root, cx: &mut Load<'_>) {
    let empty = GlobalDefs::new((), Span::NONE);
    root.global_defs.0 = Some(Box::new(core::mem::replace(&mut cx.draft.global, empty)));
    cx.document.nodes.splice(0..0, root.nodes());
    if let Some(global) = root.global_defs.0.take() {
        cx.draft.global = *global;
    }
}
