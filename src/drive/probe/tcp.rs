//! The shell of `TCP_CHECK`.

use super::connect::connect;
use crate::check::probe::tcp::Tcp;
use crate::check::probe::{Closing, In, Verdict};
use crate::model::Connection;

/// One attempt. The connection is closed after the verdict.
pub(super) async fn run(connection: &Connection, closing: Closing) -> Verdict {
    match connect(connection, closing).await {
        Ok(_stream) => Tcp.step(In::Connected),
        Err(input) => Tcp.step(input),
    }
}
