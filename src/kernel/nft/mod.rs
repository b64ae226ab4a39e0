//! The writer of our nftables tables, and the reader of the kernel's events about them.
//!
//! Consecutive operations are one transaction, so a table is created with its elements. Events report which table
//! another program changed; except for a known element of a set, the table then counts as gone and is recreated.
//!
//! | file | concern |
//! |---|---|
//! | `message` | attributes, expressions of rules, requests |
//! | `table` | the parts of a table |
//! | `element` | the elements of its sets |

mod element;
mod message;
mod table;

use std::io;

use netlink_packet_core::NLM_F_CREATE;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::monitor::Change;
use super::netlink::{
    DATAGRAM, Message, Packed, RequestError, Requests, attributes, messages, receive, text,
};
use crate::plan::filter::FilterTable;
use crate::plan::{self, ChangeKind, Identity, Object, Op, Outcome, Sight, Verb};
use crate::sys::aio::Async;
use message::{Attributes, CHAIN_NAME, NAME, TABLE};

/// Group of events about nf_tables (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;
/// Size of the event queue: sufficient for `nft flush ruleset` on a host with a large ruleset.
const QUEUE: usize = 4 << 20;
/// Number of datagrams read before other work gets its turn.
const SLICE: usize = 256;
/// Attempts to read a list that does not change meanwhile.
const ATTEMPTS: u32 = 5;

/// Our tables of packet filters.
pub struct Filters {
    /// Tables that may be wanted.
    tables: Vec<FilterTable>,
    requests: Option<Requests>,
    listener: Option<Async<Socket>>,
    buffer: Vec<u8>,
}

impl Default for Filters {
    fn default() -> Self {
        Self { tables: Vec::new(), requests: None, listener: None, buffer: vec![0; DATAGRAM] }
    }
}

/// Whether an operation is for [`Filters::carry_out`].
#[must_use]
pub fn takes(op: &Op) -> bool {
    matches!(*op.object, Object::FilterTable(_) | Object::Filter(_))
}

impl Filters {
    /// Sets the tables that may be wanted from now on. True if their state must be read. Earlier ones are included:
    /// they may not have been removed yet.
    pub fn watch(&mut self, tables: Vec<FilterTable>) -> bool {
        let news = tables.iter().any(|table| !self.tables.contains(table));
        let earlier = core::mem::replace(&mut self.tables, tables);
        for table in earlier {
            if self.tables.iter().all(|new| new.id() != table.id()) {
                self.tables.push(table);
            }
        }
        news
    }

    /// Subscribes to changes, if tables may be wanted and this has not been done. True if the state must be read,
    /// because earlier changes were not reported.
    ///
    /// # Errors
    /// If the kernel has no netfilter, or the process no descriptor left.
    pub fn listen(&mut self) -> io::Result<bool> {
        if self.tables.is_empty() || self.listener.is_some() {
            return Ok(false);
        }
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.set_non_blocking(true)?;
        // Needs NET_ADMIN; without it the kernel's default limit applies.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(GROUP)?;
        self.listener = Some(Async::read_only(socket)?);
        Ok(true)
    }

    /// Waits for changes by other programs and appends them. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn next(&mut self, changes: &mut Vec<Change>) -> io::Result<()> {
        let Self { tables, requests, listener, buffer } = self;
        let Some(listener) = listener else {
            return core::future::pending().await;
        };
        let own = requests.as_ref().map_or(0, Requests::port);
        listener
            .read(|socket| {
                let whole = receive(socket, buffer, SLICE, |datagram| {
                    decode(datagram, own, tables, changes);
                })?;
                if !whole {
                    changes.push(Change::Lost);
                }
                Ok(())
            })
            .await
    }

    /// Carries out operations in order and returns the kernel's answer to each. In one transaction if that works.
    pub fn carry_out(&mut self, ops: &[Op]) -> Vec<Outcome> {
        let requests = match self.requests() {
            Ok(requests) => requests,
            Err(e) => {
                let errno = e.raw_os_error().unwrap_or(libc::EIO);
                return vec![Outcome::Refused(errno); ops.len()];
            }
        };
        if ops.len() > 1 && transact(requests, ops).is_ok() {
            return vec![Outcome::Done; ops.len()];
        }
        ops.iter().map(|op| alone(requests, op)).collect()
    }

    fn requests(&mut self) -> io::Result<&mut Requests> {
        match &mut self.requests {
            Some(requests) => Ok(requests),
            none => Ok(none.insert(Requests::open_on(NETLINK_NETFILTER)?)),
        }
    }

    /// The existing tables that are identical to what would be created, with their elements. Any other is left out: it is
    /// recreated if it is wanted.
    ///
    /// # Errors
    /// The kernel's error; `EAGAIN` if a table changed during each attempt to read it.
    pub fn list(&mut self) -> Result<Vec<Sight>, RequestError> {
        let tables = self.tables.clone();
        let mut all = Vec::new();
        for table in &tables {
            let requests = self.requests()?;
            all.extend(settled(|found| look(requests, table, found))?);
        }
        Ok(all)
    }
}

/// Looks until nothing changes meanwhile. One that may lack a part must not count as a table: it would be recreated.
fn settled(
    mut look: impl FnMut(&mut Vec<Sight>) -> Result<bool, RequestError>,
) -> Result<Vec<Sight>, RequestError> {
    for _ in 0..ATTEMPTS {
        let mut found = Vec::new();
        if look(&mut found)? {
            return Ok(found);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN).into())
}

/// One operation on its own.
fn alone(requests: &mut Requests, op: &Op) -> Outcome {
    let Err(e) = transact(requests, core::slice::from_ref(op)) else {
        return Outcome::Done;
    };
    match (e.errno(), &op.verb) {
        (libc::ENOENT, Verb::Delete { .. }) => return Outcome::Already,
        // An interface whose parent was recreated: the map still has the parent's earlier index.
        (libc::EEXIST, Verb::Add) if replace(requests, op).is_ok() => return Outcome::Done,
        _ => {}
    }
    tracing::debug!("{op}: {e}");
    Outcome::Refused(e.errno())
}

/// Replaces an element that has another value.
fn replace(requests: &mut Requests, op: &Op) -> Result<(), RequestError> {
    let gone = Op { verb: Verb::Delete { keep_secondaries: false }, ..op.clone() };
    transact(requests, &[gone, op.clone()])
}

fn transact(requests: &mut Requests, ops: &[Op]) -> Result<(), RequestError> {
    let steps = ops.iter().map(steps).collect::<Option<Vec<_>>>();
    let steps = steps.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    requests.transaction(&message::transaction(steps.into_iter().flatten().collect()))
}

/// The requests of an operation; none for one that is not about filters.
fn steps(op: &Op) -> Option<Vec<Packed>> {
    let delete = matches!(op.verb, Verb::Delete { .. });
    match op.identity()? {
        Identity::FilterTable(id) => {
            let Object::FilterTable(table) = op.object.as_ref() else { return None };
            let name = Attributes::default().text(TABLE, &id.name);
            let family = message::protocol(id.family);
            let gone = message::request(message::DELETE_TABLE, 0, family, &name);
            if delete {
                return Some(vec![gone]);
            }
            // Removes a table of this name, whether it exists or not.
            let some = message::request(message::NEW_TABLE, NLM_F_CREATE, family, &name);
            let parts = table::parts(table);
            let parts = parts.iter().map(|part| part.request(id.family));
            Some([some, gone].into_iter().chain(parts).collect())
        }
        Identity::Filter(filter) => Some(element::requests(&filter, delete)),
        _ => None,
    }
}

/// Reads a table. False if it changed meanwhile.
fn look(
    requests: &mut Requests,
    table: &FilterTable,
    found: &mut Vec<Sight>,
) -> Result<bool, RequestError> {
    let family = message::protocol(table.family);
    let name = Attributes::default().text(TABLE, &table.settings.table);
    let get = message::kind(message::GET_TABLE);
    match requests.get(get, &message::body(family, 0, &name), |_| {}) {
        Err(e) if e.errno() == libc::ENOENT => return Ok(true),
        other => other?,
    }
    let mut whole = true;
    let mut told: Vec<(u16, Vec<u8>)> = Vec::new();
    for (get, new) in [
        (message::GET_SET, message::NEW_SET),
        (message::GET_CHAIN, message::NEW_CHAIN),
        (message::GET_RULE, message::NEW_RULE),
    ] {
        let body = message::body(family, 0, &name);
        whole &= requests.dump(message::kind(get), &body, |answer| {
            // Older kernels report all tables.
            let attributes = answer.body.get(message::HEAD..).unwrap_or_default();
            if value(attributes, TABLE).is_some_and(|t| text(t) == *table.settings.table) {
                told.push((new, attributes.to_vec()));
            }
        })?;
    }
    if !whole {
        return Ok(false);
    }
    if !is_as_made(table, &told) {
        return Ok(true);
    }
    found.push(table_sight(table));
    for set in element::sets(table) {
        let list = name.clone().text(NAME, set);
        let body = message::body(family, 0, &list);
        let kind = message::kind(message::GET_ELEMENTS);
        whole &= requests.dump(kind, &body, |answer| {
            let attributes = answer.body.get(message::HEAD..).unwrap_or_default();
            found.extend(element::sights(&table.id(), set, attributes).into_iter().flatten());
        })?;
    }
    Ok(whole)
}

/// Whether a table consists of exactly the parts that it would be created with.
fn is_as_made(table: &FilterTable, told: &[(u16, Vec<u8>)]) -> bool {
    let parts = table::parts(table);
    // Sets and chains are reported in any order, the rules of a chain in their own.
    let key = |message: u16, attributes: &[u8]| -> (u16, Vec<u8>) {
        let name = if message == message::NEW_CHAIN { CHAIN_NAME } else { NAME };
        (message, value(attributes, name).unwrap_or_default().to_vec())
    };
    let mut wanted: Vec<_> = parts
        .iter()
        .filter(|part| part.message != message::NEW_TABLE)
        .map(|part| (key(part.message, &part.told.0), part))
        .collect();
    let mut there: Vec<_> = told.iter().map(|(m, octets)| (key(*m, octets), octets)).collect();
    wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
    there.sort_by(|(a, _), (b, _)| a.cmp(b));
    wanted.len() == there.len()
        && wanted
            .iter()
            .zip(&there)
            .all(|((a, part), (b, octets))| a == b && part.told.are_in(octets))
}

fn table_sight(table: &FilterTable) -> Sight {
    Sight { identity: Identity::FilterTable(table.id()), links: Vec::new(), attributes: None }
}

fn value(list: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(list).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// Appends the foreign changes to these tables that the messages of a datagram report.
#[doc(hidden)]
pub fn decode(datagram: &[u8], own: u32, tables: &[FilterTable], changes: &mut Vec<Change>) {
    for message in messages(datagram) {
        if own == 0 || message.port != own {
            change(&message, tables, changes);
        }
    }
}

fn change(message: &Message<'_>, tables: &[FilterTable], changes: &mut Vec<Change>) {
    let Some(kind) = message::message(message.kind).filter(|m| *m != message::NEW_GENERATION)
    else {
        return;
    };
    let Some((head, attributes)) = message.body.split_first_chunk::<{ message::HEAD }>() else {
        return;
    };
    let Some(name) = value(attributes, TABLE).map(text) else { return };
    let ours =
        |t: &&FilterTable| message::protocol(t.family) == head[0] && *t.settings.table == *name;
    let Some(table) = tables.iter().find(ours) else { return };
    let elements = match kind {
        message::NEW_ELEMENTS | message::DELETE_ELEMENTS => {
            let set = value(attributes, NAME).map(text).unwrap_or_default();
            element::sights(&table.id(), &set, attributes)
        }
        _ => None,
    };
    let mut tell = |sight, kind| {
        let change = Change::Object(plan::Change { sight, kind, own: false });
        // Flushing a table causes an event for each part of it.
        if !changes.contains(&change) {
            changes.push(change);
        }
    };
    match elements {
        Some(sights) => {
            let there = kind == message::NEW_ELEMENTS;
            let kind = if there { ChangeKind::Present } else { ChangeKind::Gone };
            sights.into_iter().for_each(|sight| tell(sight, kind));
        }
        None => tell(table_sight(table), ChangeKind::Gone),
    }
}

#[cfg(test)]
mod tests;
