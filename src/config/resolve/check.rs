//! The checks of a real server, with inherited settings.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::Load;
use super::command::{Purpose, command};
use super::track::Kind;
use crate::base::{Family, IfName};
use crate::config::block::checker::{
    BfdCheck, DnsCheck, FileCheck, HttpGet, MiscCheck, PingCheck, SmtpCheck, SmtpHost, SslGet,
    TcpCheck, UdpCheck,
};
use crate::config::block::service::RealServer;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Block, Refused, Slot};
use crate::config::span::{Span, Spanned};
use crate::config::value::number::{Bool, Exact, Int};
use crate::config::value::text::Text;
use crate::model::checker::{self, HttpCheck, Source};
use crate::model::{Checker, CheckerKind, Connection};
use page::{plain_url, tls_url};

/// Settings that servers and checks inherit from their service.
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
    pub virtualhost: Option<Box<str>>,
    /// `virtualhost`, if it cannot be used.
    pub refused_host: Option<Refused>,
    pub family: Family,
    pub key_port: u16,
    pub is_mark: bool,
    pub is_group: bool,
}

/// A server whose checks are resolved.
pub(super) struct Server<'a> {
    pub block: &'a RealServer,
    /// The port in IPVS.
    pub port: u16,
    pub service: &'a Inherited,
}

/// The target of a check, as configured.
struct Target {
    ip: Option<IpAddr>,
    port: Option<u16>,
    source: Option<(IpAddr, Span)>,
    source_port: Option<u16>,
    interface: Option<IfName>,
    timeout: Option<Duration>,
    mark: u32,
    /// A setting that cannot be used.
    refused: Option<Refused>,
    span: Span,
    end: Span,
}

/// The schedule of a check, as configured.
struct Pace {
    retry: Option<u32>,
    delay_before_retry: Option<Duration>,
    warmup: Option<Duration>,
    delay_loop: Option<Duration>,
    alpha: Option<bool>,
    log_all_failures: bool,
}

/// Takes the common keywords of a check's block.
macro_rules! target {
    ($block:expr) => {
        Target {
            ip: $block.connect_ip.value().map(|ip| ip.0),
            port: $block.connect_port.value().and_then(|p| u16::try_from(p.0).ok()),
            source: $block.bindto.value().map(|ip| (ip.0, $block.bindto.span())),
            source_port: port_of($block.bind_port.value()),
            interface: $block.bind_if.value().map(|i| i.0.clone()),
            timeout: $block.connect_timeout.value().map(|t| t.duration()),
            mark: $block.fwmark().u32(),
            refused: Block::refused($block),
            span: $block.span,
            end: $block.end,
        }
    };
}

mod page;

macro_rules! pace {
    ($block:expr) => {
        Pace {
            retry: $block.retry.value().map(|n| n.u32()),
            delay_before_retry: $block.delay_before_retry.value().map(|t| t.duration()),
            warmup: $block.warmup.value().map(|t| t.duration()),
            delay_loop: $block.delay_loop.value().map(|t| t.duration()),
            alpha: $block.alpha.value().map(|b| b.0),
            log_all_failures: is_on($block.log_all_failures.value()),
        }
    };
}

fn port_of(port: Option<&Int<1, 65535>>) -> Option<u16> {
    port.and_then(|p| u16::try_from(p.0).ok())
}

fn is_on(value: Option<&Bool>) -> bool {
    value.is_some_and(|b| b.0)
}

impl Server<'_> {
    /// All checks of the server.
    pub(super) fn checks(&self, cx: &mut Load<'_>) -> Vec<Checker> {
        let block = self.block;
        let mut list = Vec::with_capacity(block.tcp_check.0.len());
        for check in &block.tcp_check.0 {
            list.extend(self.tcp(check, cx));
        }
        for check in &block.http_get.0 {
            list.extend(self.http(check, cx));
        }
        for check in &block.ssl_get.0 {
            list.extend(self.https(check, cx));
        }
        for check in &block.smtp_check.0 {
            list.extend(self.smtp(check, cx));
            for host in &check.host.0 {
                list.extend(self.smtp_host(check, host, cx));
            }
        }
        for check in &block.dns_check.0 {
            list.extend(self.dns(check, cx));
        }
        for check in &block.ping_check.0 {
            list.extend(self.ping(check, cx));
        }
        for check in &block.udp_check.0 {
            list.extend(self.udp(check, cx));
        }
        for check in &block.misc_check.0 {
            list.extend(self.misc(check, cx));
        }
        for check in &block.file_check.0 {
            list.extend(self.file(check, cx));
        }
        for check in &block.bfd_check.0 {
            list.extend(self.bfd(check, &list, cx));
        }
        list
    }

    /// The connection of a check, and the setting of the check that cannot be used. None if a setting is missing, which is
    /// reported.
    fn connection(
        &self,
        mut target: Target,
        cx: &mut Load<'_>,
    ) -> Option<(Connection, Option<Refused>)> {
        let own = self.block.header;
        let address = target.ip.unwrap_or(own.address);
        // A server without a port of its own is checked at the port of the service, which keepalived does not do.
        let port = target.port.unwrap_or(if own.port == 0 { self.port } else { own.port });
        let link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
        if link_local && target.interface.is_none() && target.refused.is_none() {
            let message =
                format!("a check of link-local address {address} needs 'bind_if', it is left out");
            self.left_out(message, target.end, target.span, cx);
            return None;
        }
        let from = match target.source {
            Some((source, at)) if Family::of(&source) != Family::of(&address) => {
                let message =
                    format!("source address {source} and {address} are of different families");
                cx.report(Diagnostic::error(&codes::FAMILY, message).at(at));
                target.refused = target.refused.or(Some(Spanned::new("bindto", at)));
                None
            }
            Some((address, _)) => Some(Source { address, port: target.source_port.unwrap_or(0) }),
            None => None,
        };
        let timeout = target.timeout.or(self.block.connect_timeout.value().map(|t| t.duration()));
        let connection = Connection {
            to: SocketAddr::new(address, port),
            from,
            interface: target.interface,
            timeout: timeout.unwrap_or(self.service.connect_timeout),
            mark: target.mark,
        };
        Some((connection, target.refused))
    }

    fn left_out(&self, message: String, at: Span, start: Span, cx: &mut Load<'_>) {
        cx.report(
            Diagnostic::error(&codes::INCOMPLETE, message).at(at).related(start, "it begins here"),
        );
    }

    /// The same check, which always fails if one of its settings cannot be used: what cannot be judged as the
    /// configuration asks must not count as good.
    fn judged(
        &self,
        check: &str,
        checker: Checker,
        refused: Option<Refused>,
        cx: &mut Load<'_>,
    ) -> Checker {
        let Some(Spanned { value: keyword, span }) = refused else {
            return checker;
        };
        let message = format!(
            "{check} of {} fails because '{keyword}' cannot be used: the server stays out of service",
            self.block.header.address
        );
        cx.report(Diagnostic::advice(&codes::UNJUDGED, message).at(span));
        let reason = format!("'{keyword}' of the configuration cannot be used").into();
        let kind =
            CheckerKind::Unusable(Box::new(checker::Unusable { check: check.into(), reason }));
        // It is never in service, not even until the first attempt.
        Checker { kind, alpha: true, retry: 0, ..checker }
    }

    /// A check with its schedule: its own settings, else those of its server, else those of its service, else the
    /// defaults of its kind.
    fn paced(
        &self,
        kind: CheckerKind,
        pace: &Pace,
        retry: u32,
        pause: Option<Duration>,
    ) -> Checker {
        let (server, service) = (self.block, self.service);
        let delay_loop = pace
            .delay_loop
            .or(server.delay_loop.value().map(|t| t.duration()))
            .unwrap_or(service.delay_loop);
        Checker {
            kind,
            delay_loop,
            retry: pace
                .retry
                .or(server.retry.value().map(|n| n.u32()))
                .or(service.retry)
                .unwrap_or(retry),
            delay_before_retry: pace
                .delay_before_retry
                .or(server.delay_before_retry.value().map(|t| t.duration()))
                .or(service.delay_before_retry)
                .or(pause)
                .unwrap_or(delay_loop),
            warmup: pace
                .warmup
                .or(server.warmup.value().map(|t| t.duration()))
                .or(service.warmup)
                .unwrap_or(delay_loop),
            alpha: pace.alpha.or(server.alpha.value().map(|b| b.0)).unwrap_or(service.alpha),
            log_all_failures: service.log_all || pace.log_all_failures,
        }
    }

    fn tcp(&self, block: &TcpCheck, cx: &mut Load<'_>) -> Option<Checker> {
        let (connection, refused) = self.connection(target!(block), cx)?;
        let checker = self.paced(
            CheckerKind::Tcp(connection),
            &pace!(block),
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        );
        Some(self.judged("TCP_CHECK", checker, refused, cx))
    }

    fn ping(&self, block: &PingCheck, cx: &mut Load<'_>) -> Option<Checker> {
        let (connection, refused) = self.connection(target!(block), cx)?;
        let checker = self.paced(
            CheckerKind::Ping(connection),
            &pace!(block),
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        );
        Some(self.judged("PING_CHECK", checker, refused, cx))
    }

    fn udp(&self, block: &UdpCheck, cx: &mut Load<'_>) -> Option<Checker> {
        let (connection, refused) = self.connection(target!(block), cx)?;
        let length = |n: Exact<0, 65535>| u16::try_from(n.0).unwrap_or(u16::MAX);
        let min_reply = length(block.min_reply_length());
        let max_reply = length(block.max_reply_length());
        if min_reply > max_reply {
            let message = "min_reply_length is above max_reply_length: the check always fails";
            let at = block.min_reply_length.span();
            cx.report(Diagnostic::warning(&codes::CONFLICT, message).at(at));
        }
        let check = checker::UdpCheck {
            connection,
            payload: block.payload.value().map(|p| p.0.clone()),
            reply: block.require_reply.value().map(|r| r.0.clone()),
            min_reply,
            max_reply,
        };
        let checker = self.paced(
            CheckerKind::Udp(Box::new(check)),
            &pace!(block),
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        );
        Some(self.judged("UDP_CHECK", checker, refused, cx))
    }

    fn smtp(&self, block: &SmtpCheck, cx: &mut Load<'_>) -> Option<Checker> {
        let (connection, refused) = self.connection(target!(block), cx)?;
        let helo = Some(block.helo_name().0);
        let check = checker::SmtpCheck { connection, helo };
        let checker = self.paced(
            CheckerKind::Smtp(Box::new(check)),
            &pace!(block),
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        );
        Some(self.judged("SMTP_CHECK", checker, refused, cx))
    }

    /// A `host` block is a check of its own, which inherits missing settings from the enclosing check.
    fn smtp_host(&self, outer: &SmtpCheck, block: &SmtpHost, cx: &mut Load<'_>) -> Option<Checker> {
        let (mut target, around) = (target!(block), target!(outer));
        target.timeout = target.timeout.or(around.timeout);
        target.interface = target.interface.or(around.interface);
        target.source = target.source.or(around.source);
        target.refused = target.refused.or(around.refused);
        target.port = target.port.or(around.port);
        target.source_port = target.source_port.or(around.source_port);
        if !block.fwmark.is_set() {
            target.mark = around.mark;
        }
        let (connection, refused) = self.connection(target, cx)?;
        let helo = Some(outer.helo_name().0);
        let check = checker::SmtpCheck { connection, helo };
        let (mut pace, around) = (pace!(block), pace!(outer));
        pace.retry = pace.retry.or(around.retry);
        pace.delay_before_retry = pace.delay_before_retry.or(around.delay_before_retry);
        pace.warmup = pace.warmup.or(around.warmup);
        pace.delay_loop = pace.delay_loop.or(around.delay_loop);
        pace.alpha = pace.alpha.or(around.alpha);
        pace.log_all_failures |= around.log_all_failures;
        let checker = self.paced(
            CheckerKind::Smtp(Box::new(check)),
            &pace,
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        );
        Some(self.judged("SMTP_CHECK", checker, refused, cx))
    }

    fn dns(&self, block: &DnsCheck, cx: &mut Load<'_>) -> Option<Checker> {
        let (connection, refused) = self.connection(target!(block), cx)?;
        let check = checker::DnsCheck {
            connection,
            kind: block.record().number(),
            name: block.name.value().map_or_else(Box::default, |n| n.0.clone()),
        };
        let checker =
            self.paced(CheckerKind::Dns(Box::new(check)), &pace!(block), block.retry().u32(), None);
        Some(self.judged("DNS_CHECK", checker, refused, cx))
    }

    /// The host name in requests, if the page does not set one.
    fn virtualhost(&self, own: Option<&Text>) -> Option<Box<str>> {
        let named = own.or(self.block.virtualhost.value()).map(|name| name.0.clone());
        named.or_else(|| self.service.virtualhost.clone())
    }

    /// The inherited host name, if it cannot be used.
    fn refused_host(&self, own: Option<&Text>) -> Option<Refused> {
        let inherits = own.is_none() && self.block.virtualhost.value().is_none();
        let of_server = Slot::refused(&self.block.virtualhost);
        of_server.or(self.service.refused_host).filter(|_| inherits)
    }

    fn http(&self, block: &HttpGet, cx: &mut Load<'_>) -> Option<Checker> {
        let (connection, refused) = self.connection(target!(block), cx)?;
        let (mut urls, mut refused) = (Vec::with_capacity(block.url.0.len()), refused);
        for url in &block.url.0 {
            urls.extend(plain_url(url, cx, &mut refused));
        }
        if urls.is_empty() {
            let message = "HTTP_GET has no url, it is left out".to_owned();
            self.left_out(message, block.end, block.span, cx);
            return None;
        }
        let check = HttpCheck {
            connection,
            tls: false,
            protocol: block.http_protocol().0,
            sni: false,
            sni_name: None,
            fast_recovery: block.fast_recovery().0,
            tls_compliant: false,
            virtualhost: self.virtualhost(block.virtualhost.value()),
            urls,
        };
        let checker = self.paced(
            CheckerKind::Http(Box::new(check)),
            &pace!(block),
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        );
        let refused = refused.or_else(|| self.refused_host(block.virtualhost.value()));
        Some(self.judged("HTTP_GET", checker, refused, cx))
    }

    fn https(&self, block: &SslGet, cx: &mut Load<'_>) -> Option<Checker> {
        let (connection, refused) = self.connection(target!(block), cx)?;
        let (mut urls, mut refused) = (Vec::with_capacity(block.url.0.len()), refused);
        for url in &block.url.0 {
            urls.extend(tls_url(url, cx, &mut refused));
        }
        if urls.is_empty() {
            let message = "SSL_GET has no url, it is left out".to_owned();
            self.left_out(message, block.end, block.span, cx);
            return None;
        }
        let check = HttpCheck {
            connection,
            tls: true,
            protocol: block.http_protocol().0,
            sni: block.enable_sni().0 || block.sni_name.value().is_some(),
            sni_name: block.sni_name.value().and_then(|n| n.0.clone()),
            fast_recovery: block.fast_recovery().0,
            tls_compliant: block.tls_compliant().0,
            virtualhost: self.virtualhost(block.virtualhost.value()),
            urls,
        };
        let checker = self.paced(
            CheckerKind::Http(Box::new(check)),
            &pace!(block),
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        );
        let refused = refused.or_else(|| self.refused_host(block.virtualhost.value()));
        Some(self.judged("SSL_GET", checker, refused, cx))
    }

    fn misc(&self, block: &MiscCheck, cx: &mut Load<'_>) -> Option<Checker> {
        if let Some(refused) = Block::refused(block) {
            return Some(self.failing("MISC_CHECK", refused, cx));
        }
        let Some(script) = block.misc_path.value() else {
            let message = "MISC_CHECK has no misc_path, it is left out".to_owned();
            self.left_out(message, block.end, block.span, cx);
            return None;
        };
        let what = format!("MISC_CHECK of {}", self.block.header.address);
        let account = block.user.value().or(script.account.as_ref());
        match account {
            Some(account) => {
                super::command::account(account, cx)?;
            }
            None if !super::command::default_exists(&what, block.end, cx) => return None,
            None => {}
        }
        let command = command(script, account, Purpose::Probe, &what, cx)?;
        let timeout = block.misc_timeout.value().map_or(0, |n| n.u32());
        let check = checker::MiscCheck {
            command,
            timeout: match timeout {
                0 => self.service.delay_loop,
                n => Duration::from_secs(u64::from(n)),
            },
            dynamic: block.misc_dynamic.is_set(),
        };
        Some(self.paced(
            CheckerKind::Misc(Box::new(check)),
            &pace!(block),
            block.retry().u32(),
            Some(block.delay_before_retry().duration()),
        ))
    }

    fn file(&self, block: &FileCheck, cx: &mut Load<'_>) -> Option<Checker> {
        cx.again.depends();
        if let Some(refused) = Block::refused(block) {
            return Some(self.failing("FILE_CHECK", refused, cx));
        }
        let Some(file) = block.track_file.value().map(|n| n.0.clone()) else {
            let message = "FILE_CHECK has no track_file, it is left out".to_owned();
            self.left_out(message, block.end, block.span, cx);
            return None;
        };
        let Some(object) = cx.draft.objects.get(&(Kind::File, file.clone())).copied() else {
            let message = format!("track_file {file} not found");
            let at = block.track_file.span();
            cx.report(Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(at));
            return Some(self.failing("FILE_CHECK", Spanned::new("track_file", at), cx));
        };
        let own = block.weight.value();
        let check = checker::FileCheck {
            file,
            weight: own.map_or(i32::from(object.weight), |w| w.weight),
            reverse: own.and_then(|w| w.reverse).unwrap_or(object.reverse),
        };
        Some(self.idle(CheckerKind::File(check), false))
    }

    fn bfd(&self, block: &BfdCheck, others: &[Checker], cx: &mut Load<'_>) -> Option<Checker> {
        cx.again.depends();
        if let Some(refused) = Block::refused(block) {
            return Some(self.failing("BFD_CHECK", refused, cx));
        }
        let Some(name) = block.name.value() else {
            let message = "BFD_CHECK has no name, it is left out".to_owned();
            self.left_out(message, block.end, block.span, cx);
            return None;
        };
        let name = crate::base::Name::from(name.0.clone());
        let at = block.name.span();
        let report = |message: String, cx: &mut Load<'_>| {
            cx.report(Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(at));
        };
        if !cx.draft.objects.contains_key(&(Kind::Bfd, name.clone())) {
            report(format!("BFD instance {name} not found"), cx);
            return Some(self.failing("BFD_CHECK", Spanned::new("name", at), cx));
        }
        let mut private = cx.draft.model.vrrp.bfds.iter().filter(|bfd| !bfd.for_checker);
        if private.any(|bfd| bfd.name == name) {
            let message = format!("BFD instance {name} is for instances only");
            let new = Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(at);
            cx.report(new.help("add 'checker' to its block"));
            return Some(self.failing("BFD_CHECK", Spanned::new("name", at), cx));
        }
        if others.iter().any(|c| matches!(&c.kind, CheckerKind::Bfd(n) if *n == name)) {
            report(format!("BFD instance {name} is already tracked, the check is left out"), cx);
            return None;
        }
        let alpha = block.alpha.value().or(self.block.alpha.value());
        let alpha = alpha.map_or(self.service.alpha, |b| b.0);
        Some(self.idle(CheckerKind::Bfd(name), alpha))
    }

    /// A check of a program, a file or a session that cannot be made because of a setting.
    fn failing(&self, check: &str, refused: Refused, cx: &mut Load<'_>) -> Checker {
        let none = CheckerKind::Unusable(Box::new(checker::Unusable {
            check: check.into(),
            reason: Box::default(),
        }));
        let checker = self.paced(none, &NO_PACE, 0, None);
        self.judged(check, checker, Some(refused), cx)
    }

    /// A check that waits for events instead of running periodically.
    fn idle(&self, kind: CheckerKind, alpha: bool) -> Checker {
        let mut checker = self.paced(kind, &NO_PACE, 0, None);
        checker.alpha = alpha;
        checker
    }
}

const NO_PACE: Pace = Pace {
    retry: None,
    delay_before_retry: None,
    warmup: None,
    delay_loop: None,
    alpha: None,
    log_all_failures: false,
};

#[cfg(test)]
mod tests;
