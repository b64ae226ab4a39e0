//! The networks of the five scenarios, and the files of etc/examples that are run in them unchanged.

use crate::lab::daemon::{CONF, Daemon, Program};
use crate::lab::node::Node;
use crate::lab::switch::Cable;
use crate::lab::{Lab, Res};

/// The text of a file of etc/examples.
macro_rules! example {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/etc/examples/", $name))
    };
}

pub const FAILOVER: [&str; 2] = [example!("failover-primary.conf"), example!("failover-backup.conf")];

/// The interface that the scenarios name.
pub const LAN: &str = "enp0s8";

/// Two daemons' machines and a client on one LAN, 10.0.0.0/24 on enp0s8.
pub struct Pair {
    pub svr1: Node,
    pub svr2: Node,
    pub client: Node,
    /// The cables of svr1 and svr2.
    pub cables: [Cable; 2],
}

impl Pair {
    pub fn new(lab: &mut Lab) -> Res<Self> {
        lab.segment("lan")?;
        let (svr1, svr2) = (lab.node("svr1")?, lab.node("svr2")?);
        let client = lab.node("client")?;
        let cables = [
            lab.plug(&svr1, "lan", LAN, &["10.0.0.71/24"])?,
            lab.plug(&svr2, "lan", LAN, &["10.0.0.72/24"])?,
        ];
        lab.plug(&client, "lan", LAN, &["10.0.0.10/24"])?;
        Ok(Self { svr1, svr2, client, cables })
    }

    /// Writes the configurations of both.
    pub fn configure(&self, [primary, backup]: [&str; 2]) -> Res {
        self.svr1.write(CONF, primary, 0o644)?;
        self.svr2.write(CONF, backup, 0o644)
    }

    /// Starts a program on both with these configurations.
    pub fn start(&self, program: &Program, configurations: [&str; 2]) -> Res<[Daemon; 2]> {
        self.configure(configurations)?;
        Ok([program.start(&self.svr1)?, program.start(&self.svr2)?])
    }
}
