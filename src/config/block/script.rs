//! `vrrp_script`.

use crate::config::schema::block;
use crate::config::slot::One;
use crate::config::value::number::{Flag, Int, Time};
use crate::config::value::script::{Account, Script};
use crate::config::value::text::ObjectName;
use crate::config::value::tracker::BlockWeight;

/// A time of a script in milliseconds, up to 4294 s.
type Pace = Time<0, 4_294_000_000, 3>;

block! {
    /// A program that is run periodically. Its exit status tells whether a check succeeded; instances and sync groups
    /// that track it react. The block must precede those that refer to it.
    pub struct VrrpScript(ObjectName) = "vrrp_script" {
        /// The program and its arguments, in quotes if there are any. It is run directly, not by a shell.
        script: One<Script> = "script", quiet;
        /// Seconds between starts.
        interval: One<Pace> = "interval", default(Time::seconds(1));
        /// Seconds after which a run counts as failed and is killed. 0 means the interval.
        timeout: One<Pace> = "timeout", otherwise("interval");
        /// What is added to the priority while the program succeeds (if positive) or fails (if negative). 0: FAULT while
        /// it fails. `reverse` inverts the result.
        weight: One<BlockWeight<253>> = "weight", default(BlockWeight { weight: 0, reverse: false });
        /// Consecutive successes after which a failed script is good again.
        rise: One<Int<1, 2_147_483_647>> = "rise", default(Int(1));
        /// Consecutive failures after which a good script has failed.
        fall: One<Int<1, 2_147_483_647>> = "fall", default(Int(1));
        /// The account that runs the program.
        user: One<Account> = "user", otherwise("script_user");
        /// Count as failed until the first result. Has no effect in keepalived, because the first reference to the script
        /// overwrites it.
        init_fail: One<Flag> = "init_fail";
    }
}
