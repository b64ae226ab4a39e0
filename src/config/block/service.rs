//! `virtual_server` and `real_server`.

use super::checker::{
    BfdCheck, DnsCheck, FileCheck, HttpGet, Limit, MiscCheck, Pause, Period, PingCheck, SmtpCheck,
    SslGet, TcpCheck, UdpCheck,
};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::Node;
use crate::config::judging::Judging;
use crate::config::keyword::{Keyword, Table, Times};
use crate::config::reader::Reader;
use crate::config::schema::{Args, Block, Next, Value, Words, block};
use crate::config::slot::{First, One, Over, Subs};
use crate::config::span::{Span, Spanned};
use crate::config::value::number::{Bool, Exact, Flag, Int, Time, U32};
use crate::config::value::script::Script;
use crate::config::value::service::{
    Endpoint, FamilyWord, Granularity, GroupLine, Method, PersistenceTimeout, ProtocolWord, Quorum,
    Scheduler, ServerName, misplaced,
};
use crate::config::value::text::{Cut, ObjectName, Path, Text};
use crate::config::words::Statement;
use crate::model::Forward;

block! {
    /// A service that IPVS balances over its real servers: an address with a port, a firewall mark, or a group of both.
    pub struct VirtualServer(ServerName) = "virtual_server" {
        /// Family of a firewall-mark service or of a group.
        ip_family: One<FamilyWord> = "ip_family", otherwise("that of the servers, else inet");
        /// Seconds between checks of a server.
        delay_loop: One<Period> = "delay_loop", default(Time::seconds(60));
        /// Number of retries before a server goes down, for all checks of the service.
        retry: One<Exact<1, U32>> = "retry", otherwise("that of the check");
        /// Seconds before a retry.
        delay_before_retry: One<Pause> = "delay_before_retry", otherwise("that of the check");
        /// Maximum random delay of the first checks in seconds.
        warmup: One<Pause> = "warmup", otherwise("delay_loop");
        /// Seconds after which a connection of a check counts as failed.
        connect_timeout: One<Limit> = "connect_timeout", default(Time::seconds(5));
        /// Keep the entries of failed servers, with weight 0.
        inhibit_on_failure: One<Flag> = "inhibit_on_failure";
        /// The scheduler of the kernel.
        lvs_sched: One<Scheduler> = "lvs_sched" | "lb_algo", default(Scheduler::WeightedLeastConnection);
        /// Without effect.
        hashed: One<Flag> = "hashed" => hashed;
        /// Schedule each datagram separately (UDP only).
        ops: One<Flag> = "ops";
        /// First flag of the scheduler.
        flag_1: One<Flag> = "flag-1";
        /// Second flag of the scheduler.
        flag_2: One<Flag> = "flag-2";
        /// Third flag of the scheduler.
        flag_3: One<Flag> = "flag-3";
        /// Source hashing takes the port into account. The scheduler must be set before.
        sh_port: One<Flag> = "sh-port" => sh_port;
        /// Source hashing chooses another server when the chosen one is not available. The scheduler must be set before.
        sh_fallback: One<Flag> = "sh-fallback" => sh_fallback;
        /// Maglev hashing takes the port into account. The scheduler must be set before.
        mh_port: One<Flag> = "mh-port" => mh_port;
        /// Maglev hashing chooses another server when the chosen one is not available. The scheduler must be set before.
        mh_fallback: One<Flag> = "mh-fallback" => mh_fallback;
        /// How packets reach the servers: NAT rewrites addresses, DR changes only the MAC address, TUN encapsulates.
        lvs_method: One<Method> = "lvs_method" | "lb_kind", default(Method(Forward::Nat));
        /// Keep a client with its server for this many seconds.
        persistence_timeout: One<PersistenceTimeout> = "persistence_timeout", otherwise("360 if given without a value");
        /// Clients in one network of this size are treated as one client.
        persistence_granularity: One<Granularity> = "persistence_granularity",
            otherwise("each address separately");
        /// Persistence engine of the kernel.
        persistence_engine: One<Cut<16>> = "persistence_engine";
        /// Protocol of the service.
        protocol: One<ProtocolWord> = "protocol", default(ProtocolWord::Udp);
        /// Check only while this machine holds the address of the service.
        ha_suspend: One<Flag> = "ha_suspend";
        /// Send mail when the quorum is gained or lost.
        smtp_alert: One<Bool> = "smtp_alert", otherwise("smtp_alert_checker, else smtp_alert, else off");
        /// Host name for HTTP checks.
        virtualhost: Judging<Over<Text>> = "virtualhost", lenient;
        /// Name for SNMP.
        snmp_name: Over<Text> = "snmp_name", lenient, later;
        /// All checks count as failed until their first success.
        alpha: One<Flag> = "alpha";
        /// Run the down scripts when the daemon stops.
        omega: One<Flag> = "omega";
        /// Runs when the quorum is gained, also at start.
        quorum_up: First<Script> = "quorum_up";
        /// Runs when the quorum is lost.
        quorum_down: First<Script> = "quorum_down";
        /// Total weight of live servers that the service needs.
        quorum: One<Quorum> = "quorum", default(Quorum(1));
        /// Weight by which the quorum must be exceeded to be gained, and missed to be lost.
        hysteresis: One<Int<0, U32>> = "hysteresis", default(Int(0));
        /// Weight of servers that do not set their own.
        weight: One<Int<1, 2_147_483_647>> = "weight", default(Int(1));
        /// Server used while the quorum is lost.
        sorry_server: One<Endpoint> = "sorry_server";
        /// Keep the entry of the sorry server, with weight 0, while it is not needed. Must follow `sorry_server`.
        sorry_server_inhibit: One<Flag> = "sorry_server_inhibit" => after_sorry;
        /// How packets reach the sorry server. Must follow `sorry_server`.
        sorry_server_lvs_method: One<Method> = "sorry_server_lvs_method", otherwise("lvs_method")
            => sorry_method;
        /// A server.
        real_server: Subs<RealServer> = "real_server";
    }
}

block! {
    /// A server behind a service.
    pub struct RealServer(Endpoint) = "real_server" {
        /// Its share of connections.
        weight: One<Int<0, 2_147_483_647>> = "weight", otherwise("that of the virtual server");
        /// How packets reach it.
        lvs_method: One<Method> = "lvs_method", otherwise("that of the virtual server");
        /// Number of connections above which the server gets no new ones; 0 for no limit.
        uthreshold: One<Int<0, U32>> = "uthreshold", default(Int(0));
        /// Number of connections below which the server gets new ones again.
        lthreshold: One<Int<0, U32>> = "lthreshold", default(Int(0));
        /// Keep the entry of the server, with weight 0, when it fails.
        inhibit_on_failure: One<Bool> = "inhibit_on_failure", otherwise("that of the virtual server");
        /// Runs when it is put in service.
        notify_up: First<Script> = "notify_up";
        /// Runs when it is taken out of service.
        notify_down: First<Script> = "notify_down";
        /// Its checks count as failed until their first success.
        alpha: One<Bool> = "alpha", otherwise("that of the virtual server");
        /// Number of retries before the server goes down.
        retry: One<Exact<1, U32>> = "retry", otherwise("that of the virtual server");
        /// Seconds before a retry.
        delay_before_retry: One<Pause> = "delay_before_retry", otherwise("that of the virtual server");
        /// Maximum random delay of the first checks in seconds.
        warmup: One<Pause> = "warmup", otherwise("that of the virtual server");
        /// Seconds after which a connection counts as failed.
        connect_timeout: One<Limit> = "connect_timeout", otherwise("that of the virtual server");
        /// Seconds between checks.
        delay_loop: One<Period> = "delay_loop", otherwise("that of the virtual server");
        /// Send mail when its checks change.
        smtp_alert: One<Bool> = "smtp_alert", otherwise("smtp_alert_checker, else smtp_alert of global_defs, else on");
        /// Host name for HTTP checks.
        virtualhost: Judging<Over<Text>> = "virtualhost", lenient;
        /// Name for SNMP.
        snmp_name: Over<Text> = "snmp_name", lenient, later;
        /// Check by a TCP connection.
        tcp_check: Subs<TcpCheck> = "TCP_CHECK";
        /// Check by fetching pages.
        http_get: Subs<HttpGet> = "HTTP_GET";
        /// Check by fetching pages over TLS.
        ssl_get: Subs<SslGet> = "SSL_GET";
        /// Check the greeting of a mail server.
        smtp_check: Subs<SmtpCheck> = "SMTP_CHECK";
        /// Check by a DNS query.
        dns_check: Subs<DnsCheck> = "DNS_CHECK";
        /// An echo comes back.
        ping_check: Subs<PingCheck> = "PING_CHECK";
        /// A datagram is answered, or at least not refused.
        udp_check: Subs<UdpCheck> = "UDP_CHECK";
        /// A program ends well.
        misc_check: Subs<MiscCheck> = "MISC_CHECK";
        /// The content of a tracked file.
        file_check: Subs<FileCheck> = "FILE_CHECK";
        /// The state of a BFD session.
        bfd_check: Subs<BfdCheck> = "BFD_CHECK";
    }
}

block! {
    /// The certificate that SSL_GET presents to servers that ask for one. Servers are not verified.
    pub struct Ssl(()) = "SSL" {
        /// Password of the key.
        password: Over<Text> = "password", lenient, secret;
        /// File of certificates of authorities. It must be readable, and completes the chain of the certificate.
        ca: Over<Path> = "ca", lenient;
        /// File of the certificate, followed by the ones that vouch for it, as PEM.
        certificate: Over<Path> = "certificate", lenient;
        /// File of its key, as PEM.
        key: Over<Path> = "key", lenient;
    }
}

/// `virtual_server_group`: a block of entries instead of keywords.
#[derive(Debug)]
pub(crate) struct VirtualServerGroup {
    pub header: ObjectName,
    pub span: Span,
    pub end: Span,
    pub entries: Vec<Spanned<GroupLine>>,
}

/// The pseudo keyword of its lines, for messages.
static LINE: Keyword =
    Keyword::new("virtual_server_group", &[], "", <GroupLine as Value>::shape, Times::Many);

impl Block for VirtualServerGroup {
    type Header = ObjectName;

    fn table() -> &'static Table {
        static TABLE: Table = Table::new(
            "virtual_server_group",
            "Addresses and marks that virtual servers share, one a line: an address, a range or a prefix with an optional \
             port, or `fwmark` with a number and optionally `inet` or `inet6`. The block may follow those that refer to it.",
            &[],
        );
        &TABLE
    }

    fn new(header: ObjectName, span: Span) -> Self {
        Self { header, span, end: span, entries: Vec::new() }
    }

    fn header(&self) -> &ObjectName {
        &self.header
    }

    fn span(&self) -> Span {
        self.span
    }

    fn end(&self) -> Span {
        self.end
    }

    fn ended(&mut self, at: Span) {
        self.end = at;
    }

    fn begin(&mut self, _row: usize, _statement: &Statement<'_>, _cx: &mut Cx<'_>) -> Next {
        Next::Done
    }

    fn body(&mut self, _row: usize, _reader: &mut Reader, _cx: &mut Cx<'_>) -> Next {
        Next::Done
    }

    fn lines(&mut self, statement: &Statement<'_>, cx: &mut Cx<'_>) -> bool {
        let mut args = Args::line(&LINE, statement);
        if let Some(line) = GroupLine::read(&mut args, cx) {
            self.entries.push(Spanned::new(line, statement.span()));
        }
        true
    }

    fn nodes(&self) -> Vec<Node> {
        let line = |entry: &Spanned<GroupLine>| {
            let mut words = Words::default();
            entry.value.words(&mut words);
            Node::line(words.0)
        };
        self.entries.iter().map(line).collect()
    }
}

/// A flag of one scheduler, which must be set already.
fn needs_scheduler(
    block: &VirtualServer,
    keyword: &str,
    wanted: Scheduler,
    statement: &Statement<'_>,
    cx: &mut Cx<'_>,
) -> bool {
    let set = block.lvs_sched.value().copied();
    if set == Some(wanted) {
        return true;
    }
    let other = matches!(set, Some(Scheduler::SourceHashing | Scheduler::Maglev));
    let message = match set {
        None => format!("'{keyword}' must follow the scheduler, ignored"),
        Some(_) => format!("'{keyword}' is for scheduler {}, ignored", wanted.word()),
    };
    let mut new = Diagnostic::error(&codes::CONFLICT, message).at(statement.span());
    if other {
        new = new.class(crate::config::diagnostic::Class::Quiet);
    }
    cx.report(new.related(block.lvs_sched.span(), "the scheduler is set here"));
    false
}

macro_rules! scheduler_flag {
    ($($name:ident, $keyword:literal, $scheduler:ident;)*) => {
        $(fn $name(block: &mut VirtualServer, statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next {
            if !needs_scheduler(block, $keyword, Scheduler::$scheduler, statement, cx) {
                block.$name.clear();
            }
            Next::Done
        })*
    };
}

scheduler_flag! {
    sh_port, "sh-port", SourceHashing;
    sh_fallback, "sh-fallback", SourceHashing;
    mh_port, "mh-port", Maglev;
    mh_fallback, "mh-fallback", Maglev;
}

fn hashed(block: &mut VirtualServer, statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next {
    let hashing =
        matches!(block.lvs_sched.value(), Some(Scheduler::SourceHashing | Scheduler::Maglev));
    let new = Diagnostic::warning(&codes::DEAD, "'hashed' has no effect");
    let new = if hashing { new.class(crate::config::diagnostic::Class::Quiet) } else { new };
    cx.report(new.at(statement.span()).help("remove it; the schedulers that hash are sh and mh"));
    Next::Done
}

fn after_sorry(block: &mut VirtualServer, statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next {
    if !block.sorry_server.is_set() {
        misplaced("'sorry_server_inhibit' must follow 'sorry_server', ignored", statement, cx);
        block.sorry_server_inhibit.clear();
    }
    Next::Done
}

fn sorry_method(block: &mut VirtualServer, statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next {
    if !block.sorry_server.is_set() {
        misplaced("'sorry_server_lvs_method' must follow 'sorry_server', ignored", statement, cx);
        block.sorry_server_lvs_method.clear();
    }
    Next::Done
}
