//! `vrrp_instance` and its inner blocks.

use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::Node;
use crate::config::schema::{Args, Keyword, Next, Shape, Slot, Times, Value, Words, block};
use crate::config::slot::{First, Lines, Many, One, Sub};
use crate::config::span::Spanned;
use crate::config::value::address::{Ip, Multicast};
use crate::config::value::entry::AddressEntry;
use crate::config::value::number::{Bool, Exact, Flag, Int, Seconds, Time, U32};
use crate::config::value::route::RouteEntry;
use crate::config::value::router::{
    AntiReplay, ExtraGarp, HighestOther, HmacModeWord, Key, OldChecksumWord, Peer, UseIpvlan,
    UseVmac,
};
use crate::config::value::rule::RuleEntry;
use crate::config::value::script::{OptionalScript, Script};
use crate::config::value::text::{Interface, SoleName, choice};
use crate::config::value::tracker::{TrackEntry, TrackInterface};
use crate::config::words::Statement;

choice! {
    /// `state`
    pub enum StateWord {
        Master = "MASTER",
        Backup = "BACKUP",
    }
}

choice! {
    /// `auth_type`
    pub enum AuthType {
        Pass = "PASS",
        Ah = "AH",
    }
}

/// `auth_pass`: cut off after 8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Password(pub Box<[u8]>);

impl Value for Password {
    fn shape() -> Shape {
        Shape::Text("a text of 1 to 8 bytes")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        if word.bytes.len() > 8 {
            cx.report(
                Diagnostic::warning(
                    &codes::PASSWORD_CUT,
                    "auth_pass is cut off after 8 characters",
                )
                .at(word.part(8, word.bytes.len()))
                .label("only the beginning is used")
                .help("version 2 adverts have room for 8 bytes (RFC 2338 5.3.10)"),
            );
        }
        Some(Self(word.slice(0, 8).bytes.into()))
    }

    fn words(&self, out: &mut Words) {
        out.push(&self.0);
    }
}

/// `state`: after MASTER, BACKUP is ignored.
#[derive(Debug, Default)]
pub(crate) struct State(pub Option<Spanned<StateWord>>);

impl Slot for State {
    const TIMES: Times = Times::Last;

    fn shape() -> Shape {
        StateWord::shape()
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        let mut new = One::<StateWord>::default();
        new.begin(keyword, statement, cx);
        match (&self.0, new.0) {
            (Some(first), Some(new))
                if first.value == StateWord::Master && new.value == StateWord::Backup =>
            {
                let message = "state is already MASTER, BACKUP is ignored";
                let new = Diagnostic::error(&codes::SET_TWICE, message).at(new.span);
                cx.report(new.related(first.span, "this one is used"));
            }
            (_, Some(new)) => self.0 = Some(new),
            // An unknown word means BACKUP.
            (_, None) => {}
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(
            self.0
                .iter()
                .map(|s| Node::statement(keyword, vec![s.value.word().as_bytes().to_vec()])),
        );
    }
}

/// `version`: a value that differs from the first one is ignored.
#[derive(Debug, Default)]
pub(crate) struct VersionSlot(pub Option<Spanned<Int<2, 3>>>);

impl Slot for VersionSlot {
    const TIMES: Times = Times::First;

    fn shape() -> Shape {
        Int::<2, 3>::shape()
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        let mut new = One::<Int<2, 3>>::default();
        new.begin(keyword, statement, cx);
        match (&self.0, new.0) {
            (Some(first), Some(new)) if first.value != new.value => {
                let message =
                    format!("version {} conflicts with the earlier version, ignored", new.value.0);
                let new = Diagnostic::error(&codes::SET_TWICE, message).at(new.span);
                cx.report(new.related(first.span, "this one is used"));
            }
            (None, Some(new)) => self.0 = Some(new),
            _ => {}
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(
            self.0
                .iter()
                .map(|v| Node::statement(keyword, vec![v.value.0.to_string().into_bytes()])),
        );
    }
}

block! {
    /// Authentication of version 2 adverts.
    pub struct Authentication(()) = "authentication" {
        /// PASS for a password in clear text, AH for IPsec authentication headers (IPv4 only).
        auth_type: One<AuthType> = "auth_type";
        /// The password or key, at most 8 bytes.
        auth_pass: One<Password> = "auth_pass", secret;
    }
}

block! {
    /// Authentication of adverts by HMAC-SHA256.
    pub struct AuthHmac(()) = "auth_hmac" {
        /// A key; receivers accept any of them.
        key: Many<Key> = "key", lenient, secret_key;
        /// Id of the key used to send.
        active_key: One<Int<1, 255>> = "active_key";
        /// Seconds by which clocks may differ.
        time_window: One<Int<1, 300>> = "time_window", otherwise("3 x advert_int, at least 5");
        /// What makes an advert fresh: the clock and growth, or growth alone.
        anti_replay: One<AntiReplay> = "anti_replay", default(AntiReplay::Time);
        /// Whether adverts without HMAC are accepted, and whether adverts with HMAC are sent.
        mode: One<HmacModeWord> = "mode", default(HmacModeWord::Enforce);
    }
}

block! {
    /// One virtual router.
    pub struct VrrpInstance(SoleName) = "vrrp_instance" {
        /// Preferred state at start. Below priority 255 every instance starts as backup and takes over when it hears no
        /// master.
        state: State = "state", otherwise("MASTER if the priority is 255, else BACKUP");
        /// The interface on which adverts are sent and expected, and to which addresses without an interface of their own are added.
        interface: One<Interface> = "interface" => no_loopback;
        /// The id of the virtual router: the same on all routers that share the addresses, and used only once on a link.
        virtual_router_id: One<Exact<1, 255>> = "virtual_router_id";
        /// The version of the protocol.
        version: VersionSlot = "version", otherwise("3 for IPv6, else vrrp_version");
        /// The highest priority becomes master. 255 is for the router that owns the addresses.
        priority: One<Exact<1, 255>> = "priority", otherwise("255 if state MASTER is given, else 100");
        /// Seconds between adverts. Version 2 takes whole seconds, version 3 multiples of 10 ms up to 40.95 s.
        advert_int: One<Seconds<10_000, 255_000_000>> = "advert_int", default(Time::seconds(1));
        /// Adverts that must be missed before a backup takes over.
        down_timer_adverts: One<Int<1, 100>> = "down_timer_adverts", otherwise("vrrp_down_timer_adverts");
        /// Authentication of version 2 adverts.
        authentication: Sub<Authentication> = "authentication";
        /// Source address of adverts.
        mcast_src_ip: One<Ip> = "mcast_src_ip", otherwise("the first address of the interface");
        /// Destination of adverts.
        mcast_dst_ip: One<Multicast> = "mcast_dst_ip", otherwise("vrrp_mcast_group4, vrrp_mcast_group6");
        /// Use IPv6 if no address determines the family of the instance.
        native_ipv6: One<Flag> = "native_ipv6";
        /// The addresses of the virtual router, all of one family.
        virtual_ipaddress: Lines<AddressEntry> = "virtual_ipaddress";
        /// Addresses that move with the others but are not part of the adverts; of any family.
        virtual_ipaddress_excluded: Lines<AddressEntry> = "virtual_ipaddress_excluded";
        /// Allow an instance without addresses.
        no_virtual_ipaddress: One<Flag> = "no_virtual_ipaddress";
        /// Take over from a master of lower priority. This is the default; the keyword exists for old configurations.
        preempt: One<Flag> = "preempt" => preempt;
        /// Do not take over from a master of lower priority.
        nopreempt: One<Flag> = "nopreempt" => nopreempt;
        /// Seconds for which a master of lower priority is left in place before this router takes over.
        preempt_delay: One<Seconds<0, 1_000_000_000>> = "preempt_delay", default(Time::seconds(0));
        /// Do not go into FAULT when the own interface goes down.
        dont_track_primary: One<Flag> = "dont_track_primary";
        /// Interfaces whose loss puts the instance into FAULT, or changes its priority by the weight.
        track_interface: Lines<TrackInterface> = "track_interface";
        /// Scripts whose failure puts the instance into FAULT, or changes its priority by the weight.
        track_script: Lines<TrackEntry<254>> = "track_script";
        /// Runs when the instance becomes master.
        notify_master: First<Script> = "notify_master";
        /// Runs when the instance becomes backup.
        notify_backup: First<Script> = "notify_backup";
        /// Runs when the instance goes into FAULT.
        notify_fault: First<Script> = "notify_fault";
        /// Runs when the daemon stops, for at most one second.
        notify_stop: First<Script> = "notify_stop";
        /// Report DELETED instead of FAULT when a reload removes the instance, and run the command if one is given.
        notify_deleted: First<OptionalScript> = "notify_deleted";
        /// Runs at every change, with the arguments INSTANCE, name, state and priority.
        notify: First<Script> = "notify";
        /// Runs when a master hears an advert of lower priority.
        notify_master_rx_lower_pri: First<Script> = "notify_master_rx_lower_pri";
        /// Mail changes of state.
        smtp_alert: One<Bool> = "smtp_alert", otherwise("smtp_alert_vrrp, else smtp_alert, else off");
        /// Seconds from the first to the second set of gratuitous ARPs after becoming master; 0 for no second set.
        garp_master_delay: One<Int<0, 4294>> = "garp_master_delay", otherwise("vrrp_garp_master_delay");
        /// Seconds between later sets while master; 0 for none.
        garp_master_refresh: One<Int<0, U32>> = "garp_master_refresh", otherwise("vrrp_garp_master_refresh");
        /// Messages for each address in a set.
        garp_master_repeat: One<Int<0, U32>> = "garp_master_repeat", otherwise("vrrp_garp_master_repeat");
        /// Messages for each address in a later set.
        garp_master_refresh_repeat: One<Int<0, U32>> = "garp_master_refresh_repeat", otherwise("vrrp_garp_master_refresh_repeat");
        /// Seconds to the second set after an advert of lower priority was heard while master.
        garp_lower_prio_delay: One<Int<0, 4294>> = "garp_lower_prio_delay", otherwise("vrrp_garp_lower_prio_delay");
        /// Messages for each address after an advert of lower priority; 0 for none.
        garp_lower_prio_repeat: One<Int<0, 2_147_483_647>> = "garp_lower_prio_repeat",
            otherwise("vrrp_garp_lower_prio_repeat");
        /// Do not answer an advert of lower priority with an immediate advert.
        lower_prio_no_advert: One<Bool> = "lower_prio_no_advert", otherwise("vrrp_lower_prio_no_advert");
        /// Send one more advert before giving way to a router of higher priority.
        higher_prio_send_advert: One<Bool> = "higher_prio_send_advert",
            otherwise("vrrp_higher_prio_send_advert");
        /// An instance of priority 255 drops all adverts it hears.
        owner_ignore_adverts: One<Bool> = "owner_ignore_adverts", otherwise("vrrp_owner_ignore_adverts");
        /// Compare the addresses in adverts only when the sender changes.
        skip_check_adv_addr: One<Bool> = "skip_check_adv_addr", otherwise("vrrp_skip_check_adv_addr");
        /// Leave the pseudo header out of the checksum of version 3 IPv4 adverts, and accept any checksum.
        v3_checksum_as_v2: One<Bool> = "v3_checksum_as_v2", otherwise("v3_checksum_as_v2 of global_defs");
        /// Run on a macvlan interface with the address of the virtual router.
        use_vmac: One<UseVmac> = "use_vmac";
        /// Create such interfaces also for addresses on other interfaces or of the other family.
        use_vmac_addr: One<Flag> = "use_vmac_addr";
        /// Send and receive adverts on the parent interface.
        vmac_xmit_base: One<Flag> = "vmac_xmit_base";
        /// Run on an ipvlan interface.
        use_ipvlan: First<UseIpvlan> = "use_ipvlan";
        /// VRF device of a unicast instance without an interface: it is in FAULT while its interface is not in that VRF.
        vrf: First<Interface> = "vrf";
        /// Send adverts to these routers instead of the multicast group.
        unicast_peer: Lines<Peer> = "unicast_peer";
        /// Source address of adverts to single routers.
        unicast_src_ip: One<Ip> = "unicast_src_ip", otherwise("the first address of the interface");
        /// Without peers, stay in FAULT instead of using multicast.
        unicast_fault_no_peer: One<Flag> = "unicast_fault_no_peer";
        /// Drop unicast adverts from routers that are not peers.
        check_unicast_src: One<Flag> = "check_unicast_src", otherwise("vrrp_check_unicast_src");
        /// Use the old checksum for unicast version 3 adverts; with `never`, do not even if the peer uses it.
        old_unicast_checksum: One<OldChecksumWord> = "old_unicast_checksum",
            otherwise("the form that the peer uses");
        /// TTL or hop limit of unicast adverts.
        unicast_ttl: One<Exact<0, 255>> = "unicast_ttl", default(Exact(255));
        /// Go into FAULT while the source address is not on the interface.
        track_src_ip: One<Flag> = "track_src_ip";
        /// Promote secondary addresses when the primary one is removed.
        promote_secondaries: One<Flag> = "promote_secondaries";
        /// Poll the state of the link every second.
        linkbeat_use_polling: One<Flag> = "linkbeat_use_polling", later,
            deprecated("use a 'linkbeat_interfaces' block");
        /// Routes that exist while the instance is master.
        virtual_routes: Lines<RouteEntry> = "virtual_routes";
        /// Policy rules that exist while the instance is master.
        virtual_rules: Lines<RuleEntry> = "virtual_rules";
        /// Accept packets to the virtual addresses although this router does not own them.
        accept: One<Flag> = "accept", otherwise("on unless strict") => accept;
        /// Drop packets to the virtual addresses unless this router owns them.
        no_accept: One<Flag> = "no_accept" => no_accept;
        /// Follow the RFC strictly, even where keepalived usually does not.
        strict_mode: One<Bool> = "strict_mode", otherwise("vrrp_strict");
        /// Files that put the instance into FAULT or change its priority.
        track_file: Lines<TrackEntry<254>> = "track_file";
        /// Processes that put the instance into FAULT or change its priority.
        track_process: Lines<TrackEntry<254>> = "track_process";
        /// BFD sessions that put the instance into FAULT or change its priority.
        track_bfd: Lines<TrackEntry<253>> = "track_bfd";
        /// Authentication of adverts of any version by HMAC-SHA256.
        auth_hmac: Sub<AuthHmac> = "auth_hmac";
        /// If this process was stalled for so long that another router must have taken over, become backup silently.
        /// The number is the highest priority of the other routers.
        timer_expired_backup: One<HighestOther> = "timer_expired_backup" | "thread_timer_expired" (old);
        /// While master, announce the addresses on further interfaces at this interval in seconds.
        garp_extra_if: One<ExtraGarp<0>> = "garp_extra_if" | "vmac_garp_intvl" (old),
            otherwise("vrrp_garp_extra_if");
        /// Write changes of the priority to the FIFOs.
        notify_priority_changes: One<Bool> = "notify_priority_changes",
            otherwise("that of the group, else vrrp_notify_priority_changes");
        /// Size in bytes of the receive buffer that this instance needs.
        kernel_rx_buf_size: One<Exact<0, U32>> = "kernel_rx_buf_size", lenient,
            otherwise("vrrp_rx_bufs_policy");
        /// Interface of an IPVS sync daemon that follows this instance.
        lvs_sync_daemon_interface: First<Interface> = "lvs_sync_daemon_interface",
            deprecated("use 'lvs_sync_daemon' in global_defs");
        /// Without effect.
        debug: One<Int<0, 4>> = "debug", dead;
    }
}

/// `preempt` cancels an earlier `nopreempt`, and the other way round.
fn preempt(block: &mut VrrpInstance, _statement: &Statement<'_>, _cx: &mut Cx<'_>) -> Next {
    block.nopreempt.clear();
    Next::Done
}

fn nopreempt(block: &mut VrrpInstance, _statement: &Statement<'_>, _cx: &mut Cx<'_>) -> Next {
    block.preempt.clear();
    Next::Done
}

fn accept(block: &mut VrrpInstance, _statement: &Statement<'_>, _cx: &mut Cx<'_>) -> Next {
    block.no_accept.clear();
    Next::Done
}

fn no_accept(block: &mut VrrpInstance, _statement: &Statement<'_>, _cx: &mut Cx<'_>) -> Next {
    block.accept.clear();
    Next::Done
}

fn no_loopback(block: &mut VrrpInstance, _statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next {
    let Some(name) = block.interface.value().map(|i| i.0.clone()) else {
        return Next::Done;
    };
    if cx.interface(&name).is_some_and(|i| i.loopback) {
        let message =
            format!("a virtual router cannot run on the loopback interface '{name}', ignored");
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(block.interface.span()));
        block.interface.clear();
    }
    Next::Done
}
