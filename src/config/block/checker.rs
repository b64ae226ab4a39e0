//! The checks inside `real_server`.

use crate::config::context::Cx;
use crate::config::judging::Judging;
use crate::config::schema::{Next, block};
use crate::config::slot::{First, Many, One, Over, Subs};
use crate::config::value::address::Ip;
use crate::config::value::check::{
    Digest, Domain, FileWeight, Offset, Payload, Protocol, RecordType, Regex, RegexOptions, Reply,
    Stack, StatusCodes,
};
use crate::config::value::global::OptionalName;
use crate::config::value::number::{
    Bool, Exact, Flag, Int, LONG_MAX, Seconds, TIMER_MAX, Time, U32,
};
use crate::config::value::script::{Account, Script};
use crate::config::value::text::{Interface, ObjectName, Short, Text};
use crate::config::words::Statement;
use crate::model::checker::HttpProtocol;

/// A time that may be zero.
pub(crate) type Pause = Seconds<0, LONG_MAX>;
/// A time that may not be zero.
pub(crate) type Period = Seconds<1, LONG_MAX>;
/// A limit on a connection.
pub(crate) type Limit = Seconds<1, TIMER_MAX>;

/// Declares a check: shared rows, then its own. `runs` adds those of every periodic check, `connects` also those of
/// connections, `fetches` also those of pages.
macro_rules! check {
    (
        $(#[doc = $doc:literal])+
        pub struct $Check:ident = $name:literal (runs, retry $retry:literal, pause $pause:tt) { $($own:tt)* }
    ) => {
        check! { [] $(#[doc = $doc])+ pub struct $Check = $name ($retry, $pause) { $($own)* } }
    };
    (
        $(#[doc = $doc:literal])+
        pub struct $Check:ident = $name:literal (connects, retry $retry:literal, pause $pause:tt) { $($own:tt)* }
    ) => {
        check! {
            [
                /// Address to connect to.
                connect_ip: Judging<One<Ip>> = "connect_ip", otherwise("that of the real server");
                /// Port to connect to.
                connect_port: Judging<One<Int<1, 65535>>> = "connect_port", otherwise("that of the real server");
                /// Source address.
                bindto: Judging<One<Ip>> = "bindto";
                /// Source port.
                bind_port: Judging<One<Int<1, 65535>>> = "bind_port";
                /// Interface to use; required for link-local addresses.
                bind_if: Judging<One<Interface>> = "bind_if";
                /// Seconds after which a connection counts as failed.
                connect_timeout: One<Limit> = "connect_timeout", otherwise("that of the real server");
                /// Firewall mark of the packets.
                fwmark: Judging<One<Int<0, U32>>> = "fwmark", default(Int(0));
            ]
            $(#[doc = $doc])+ pub struct $Check = $name ($retry, $pause) { $($own)* }
        }
    };
    (
        $(#[doc = $doc:literal])+
        pub struct $Check:ident = $name:literal (fetches, retry $retry:literal, pause $pause:tt) { $($own:tt)* }
    ) => {
        check! {
            $(#[doc = $doc])+
            pub struct $Check = $name (connects, retry $retry, pause $pause) {
                /// Old name of `retry`.
                nb_get_retry: One<Int<0, U32>> = "nb_get_retry", deprecated("use 'retry'") => $Check::old_retry;
                /// Host name in requests.
                virtualhost: Judging<Over<Text>> = "virtualhost", lenient, otherwise("that of the real or virtual server, else address and port");
                /// Version in requests; 1.0C and 1.1 ask for the connection to be closed.
                http_protocol: One<Protocol> = "http_protocol", lenient, default(Protocol(HttpProtocol::V1_0));
                /// No pause between pages while starting or recovering.
                fast_recovery: One<Bool> = "fast_recovery", default(Bool(false));
                $($own)*
            }
        }

        impl $Check {
            /// `nb_get_retry` is `retry`.
            fn old_retry(&mut self, _statement: &Statement<'_>, _cx: &mut Cx<'_>) -> Next {
                if let Some(value) = self.nb_get_retry.0.take() {
                    self.retry.0 = Some(value);
                }
                Next::Done
            }
        }
    };
    (
        [$($first:tt)*]
        $(#[doc = $doc:literal])+
        pub struct $Check:ident = $name:literal ($retry:literal, delay_loop) { $($own:tt)* }
    ) => {
        check! {
            [$($first)*] [otherwise("that of the real server, else delay_loop")]
            $(#[doc = $doc])+ pub struct $Check = $name ($retry) { $($own)* }
        }
    };
    (
        [$($first:tt)*]
        $(#[doc = $doc:literal])+
        pub struct $Check:ident = $name:literal ($retry:literal, $pause:literal) { $($own:tt)* }
    ) => {
        check! {
            [$($first)*] [default(Time::seconds($pause)), after("that of the real server")]
            $(#[doc = $doc])+ pub struct $Check = $name ($retry) { $($own)* }
        }
    };
    (
        [$($first:tt)*] [$($pause:tt)*]
        $(#[doc = $doc:literal])+
        pub struct $Check:ident = $name:literal ($retry:literal) { $($own:tt)* }
    ) => {
        block! {
            $(#[doc = $doc])+
            pub struct $Check(()) = $name {
                $($first)*
                /// Number of retries before the server goes down.
                retry: One<Int<0, U32>> = "retry", default(Int($retry)), after("that of the real server");
                /// Seconds before a retry.
                delay_before_retry: One<Pause> = "delay_before_retry", $($pause)*;
                /// Maximum random delay of the first check in seconds, so that not all run at once.
                warmup: One<Pause> = "warmup", otherwise("that of the real server, else delay_loop");
                /// Seconds between checks.
                delay_loop: One<Period> = "delay_loop", otherwise("that of the real server");
                /// Down until the first success.
                alpha: One<Bool> = "alpha", otherwise("that of the real server");
                /// Log each failed check of a server that is up.
                log_all_failures: One<Bool> = "log_all_failures", otherwise("checker_log_all_failures");
                $($own)*
            }
        }
    };
}

/// Declares the block of a page: shared rows, then its own.
macro_rules! page {
    ($(#[doc = $doc:literal])+ pub struct $Page:ident { $($own:tt)* }) => {
        block! {
            $(#[doc = $doc])+
            pub struct $Page(()) = "url" {
                /// Path to request.
                path: Judging<Over<Text>> = "path";
                /// MD5 digest that the page must have.
                digest: Judging<First<Digest>> = "digest";
                /// Status codes that count as success.
                status_code: Judging<Many<StatusCodes>> = "status_code", default(vec![StatusCodes(vec![(200, 299)])]);
                /// Host name in the request.
                virtualhost: Judging<Over<Text>> = "virtualhost", lenient, otherwise("that of the check");
                /// Regular expression that must match the page, in PCRE2's notation, without look-around and references back.
                regex: Judging<Over<Regex>> = "regex", lenient;
                /// Succeed if `regex` does not match.
                regex_no_match: One<Flag> = "regex_no_match";
                /// Options of the expression.
                regex_options: Judging<Many<RegexOptions>, true> = "regex_options";
                /// First byte of the page at which a match may begin.
                regex_min_offset: Judging<One<Offset>> = "regex_min_offset", default(Offset(0));
                /// Last byte of the page at which a match may begin.
                regex_max_offset: Judging<One<Offset>> = "regex_max_offset", otherwise("no limit");
                /// Accepted: searching for the expression takes no stack.
                regex_stack: One<Stack> = "regex_stack", dead;
                $($own)*
            }
        }
    };
}

check! {
    /// The server is up if a TCP connection to it succeeds.
    pub struct TcpCheck = "TCP_CHECK" (connects, retry 1, pause 1) {}
}

check! {
    /// The server is up if it answers an ICMP echo request. Ports have no meaning here.
    pub struct PingCheck = "PING_CHECK" (connects, retry 1, pause 1) {

    }
}

check! {
    /// The server is up if it answers a datagram, or at least does not refuse it.
    pub struct UdpCheck = "UDP_CHECK" (connects, retry 1, pause 1) {
        /// Data to send, as hexadecimal digits.
        payload: Judging<One<Payload>> = "payload", lenient, otherwise("a fixed text");
        /// Require an answer. If hexadecimal digits are given, it must begin with them; X matches any digit.
        require_reply: Judging<One<Reply>> = "require_reply", otherwise("no answer is required");
        /// Minimum length of the answer, if its content is checked.
        min_reply_length: Judging<One<Exact<0, 65535>>> = "min_reply_length", default(Exact(0));
        /// Maximum length of the answer, if its content is checked.
        max_reply_length: Judging<One<Exact<0, 65535>>> = "max_reply_length", default(Exact(255));
    }
}

check! {
    /// The server is up if it completes an SMTP greeting.
    pub struct SmtpCheck = "SMTP_CHECK" (connects, retry 1, pause 1) {
        /// Name sent in HELO.
        helo_name: Over<Text> = "helo_name", lenient, default(Text("smtpchecker.keepalived.org".into()));
        /// Another host to check. Use a second SMTP_CHECK instead.
        host: Subs<SmtpHost> = "host", deprecated("use several SMTP_CHECK blocks");
    }
}

check! {
    /// A further host of a mail check.
    pub struct SmtpHost = "host" (connects, retry 1, pause 1) {

    }
}

check! {
    /// The server is up if it answers a DNS query.
    pub struct DnsCheck = "DNS_CHECK" (connects, retry 3, pause delay_loop) {
        /// Type of the query.
        record: Judging<One<RecordType>> = "type", default(RecordType::Soa);
        /// Name to query.
        name: Judging<First<Domain>> = "name", otherwise("the root");
    }
}

check! {
    /// The server is up if pages can be fetched from it.
    pub struct HttpGet = "HTTP_GET" (fetches, retry 1, pause 3) {
        /// Accepted for the sake of `SSL_GET`: without TLS there is no greeting.
        enable_sni: One<Bool> = "enable_sni", dead;
        /// Accepted for the sake of `SSL_GET`: without TLS there is no greeting.
        sni_name: Over<OptionalName<255>> = "sni_name", newer, dead;
        /// A page to fetch; all pages must be right.
        url: Subs<UrlBlock> = "url";
    }
}

check! {
    /// The server is up if pages can be fetched from it over TLS. Its certificate is not verified.
    pub struct SslGet = "SSL_GET" (fetches, retry 1, pause 3) {
        /// Send the host name in the TLS greeting.
        enable_sni: Judging<One<Bool>> = "enable_sni", default(Bool(false));
        /// Send this name in the TLS greeting.
        sni_name: Judging<Over<OptionalName<255>>> = "sni_name", newer;
        /// Shut TLS connections down properly.
        tls_compliant: One<Bool> = "tls_compliant", default(Bool(false));
        /// A page to fetch; all pages must be right.
        url: Subs<TlsUrlBlock> = "url";
    }
}

page! {
    /// A page.
    pub struct UrlBlock {}
}

page! {
    /// A page.
    pub struct TlsUrlBlock {
        /// Shut the TLS connection for this page down properly.
        tls_compliant: One<Bool> = "tls_compliant", otherwise("that of the check");
    }
}

check! {
    /// The server is up if a program exits with status 0. The program is run directly, not by a shell.
    pub struct MiscCheck = "MISC_CHECK" (runs, retry 0, pause 1) {
        /// The program and its arguments, in quotes if there are any.
        misc_path: Judging<One<Script>> = "misc_path", quiet;
        /// Time limit of the program in seconds; 0 for `delay_loop`.
        misc_timeout: One<Int<0, 4294>> = "misc_timeout", otherwise("delay_loop of the virtual server");
        /// An exit status of 2 to 255 is a success and sets the weight to the status minus 2.
        misc_dynamic: One<Flag> = "misc_dynamic";
        /// The account that runs it.
        user: Judging<One<Account>> = "user", lenient, otherwise("script_user");
    }
}

block! {
    /// The content of a tracked file adds to the weight of the server, or takes it down.
    pub struct FileCheck(()) = "FILE_CHECK" {
        /// Name of a `track_file` block, which must precede this one.
        track_file: Judging<One<ObjectName>> = "track_file";
        /// Factor for the content; with 0 the server is down while the content is not 0.
        weight: Judging<One<FileWeight>> = "weight", lenient, otherwise("that of the track_file");
    }
}

block! {
    /// The server is up while a BFD session is.
    pub struct BfdCheck(()) = "BFD_CHECK" {
        /// Name of a `bfd_instance` block, which must precede this one.
        name: Judging<First<Short<31>>> = "name", lenient;
        /// Down until the session reports up.
        alpha: One<Bool> = "alpha", otherwise("that of the real server");
    }
}
