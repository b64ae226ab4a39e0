//! The fuzz targets: one function per target, to be called with any octets. None may panic, or take long relative to
//! the input.
//!
//! The same file is a module of the test program (`tests/fuzz/mod.rs`), which calls every target with its seeds and with
//! mutated copies of them. So nothing here needs a fuzzer, and the functions only use the public interface of the
//! crate.

pub mod bfd;
pub mod channel;
pub mod check;
pub mod config;
pub mod http;
pub mod input;
pub mod others;
pub mod packet;
pub mod probe;
pub mod process;
pub mod reload;
pub mod resume;
pub mod scripts;
pub mod text;

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. `fuzz/Cargo.toml` has a program for each.
pub const TARGETS: &[Target] = &[
    ("advert", packet::advert),
    ("api", others::api),
    ("arguments", others::arguments),
    ("bfd", bfd::packets),
    ("channel", channel::channel),
    ("check_events", check::events),
    ("config", config::load_all),
    ("dns", probe::dns),
    ("expand", config::expand),
    ("files", others::files),
    ("format", text::layout),
    ("http", http::answer),
    ("ipc", process::ipc),
    ("ipvs", process::ipvs),
    ("json", text::json),
    ("log", process::log),
    ("mail", others::mail),
    ("mailer", probe::mailer),
    ("peer", text::peer),
    ("ping", probe::ping),
    ("reload", reload::pair),
    ("resume", resume::resume),
    ("rtnetlink", process::rtnetlink),
    ("scripts", scripts::walk),
    ("smtp", others::smtp),
    ("udp", probe::udp),
    ("vrrp_events", packet::events),
];
