//! The kernel's table of virtual servers, over generic netlink.
//!
//! Requests are packed: many in one datagram, of which only the last asks for an acknowledgement; refusals carry the
//! sequence number of their request. That is thirty times faster than one at a time, and a table may have tens of
//! thousands of entries. The kernel answers while the request is being sent, so nothing here waits, except for loading
//! a module.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Command, Stdio};

use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;

mod attribute;
pub mod daemon;
#[doc(hidden)]
pub mod list;
pub mod message;
pub mod timeout;

use crate::model::ServiceKey;
use crate::plan::Outcome;
use crate::plan::ipvs::{DestinationKey, Destinations, Entry, Op, Settings, Table};
use crate::plan::listing::Listing;
use message::{Body, DecodeError};

/// Operations in one datagram. Even if all of them are refused, the answers fit into the receive buffer.
pub const PACKED: usize = 100;
/// Requested size of the receive buffer, in octets; the kernel limits it to `rmem_max`.
const RECEIVE_BUFFER: usize = 1 << 20;
/// The longest datagram, in octets: the kernel packs up to 32 KiB of a list into one.
const DATAGRAM: usize = 64 << 10;
/// Up to this many services are requested by key, in one datagram; more by a list of all, including foreign ones. The
/// answers fit into the smallest receive buffer.
const SINGLE: usize = 64;
/// Attempts to read a list that does not change meanwhile.
const ATTEMPTS: usize = 5;
/// Where the kernel stores the path of the program that loads modules.
const MODPROBE_PATH: &str = "/proc/sys/kernel/modprobe";
/// Its default.
const MODPROBE: &str = "/sbin/modprobe";

/// Why the table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no IPVS, or does not permit its use.
    #[error("no IPVS: {}", io::Error::from_raw_os_error(*.0))]
    Unavailable(i32),
    /// The kernel refused a request.
    #[error("the kernel refused: {}", io::Error::from_raw_os_error(*.0))]
    Refused(i32),
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Io(#[from] io::Error),
    /// The kernel's answer cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The kernel did not answer.
    #[error("the kernel did not answer")]
    Silent,
}

impl Error {
    /// The error number, positive.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Unavailable(errno) | Self::Refused(errno) => *errno,
            Self::Io(e) => e.raw_os_error().unwrap_or(libc::EIO),
            Self::Decode(_) => libc::EBADMSG,
            Self::Silent => libc::ETIMEDOUT,
        }
    }
}

/// A connection to the kernel's IPVS. It is opened at its first use and again after a failure.
pub struct Ipvs {
    connection: Option<Connection>,
    /// The requested receive buffer, in octets, and whether it may exceed the limit of the system.
    wanted: (Option<u32>, bool),
    /// Loading the module was requested: once is enough for a process, since the kernel also loads it on demand.
    asked: bool,
}

struct Connection {
    socket: NlSocket,
    family: u16,
    sequence: u32,
    out: Vec<u8>,
    buffer: Vec<u8>,
    /// Datagrams sent.
    sent: u64,
}

impl Ipvs {
    /// A connection that is not yet opened.
    #[must_use]
    pub const fn new() -> Self {
        Self { connection: None, wanted: (None, false), asked: false }
    }

    /// Sets the receive buffer to `octets`, but at least to its usual size of 1 MiB; it exceeds the limit of the system
    /// (`net.core.rmem_max`) only with `force`, which needs NET_ADMIN.
    pub fn resize(&mut self, octets: Option<u32>, force: bool) {
        self.wanted = (octets, force);
        if let Some(connection) = &self.connection {
            connection.resize(self.wanted);
        }
    }

    /// Number of datagrams sent over this connection.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.connection.as_ref().map_or(0, |connection| connection.sent)
    }

    /// The kernel's state of these services, with their servers. Entries of a kind that cannot be configured are left
    /// out.
    ///
    /// # Errors
    /// If the kernel has no IPVS and its module could not be loaded, or reading is not permitted.
    pub fn read(&mut self, services: &[ServiceKey]) -> Result<Table, Error> {
        let result = self.connect().and_then(|connection| connection.read(services));
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// A compact list of all services of the kernel. Some may be missing if the table changes meanwhile.
    ///
    /// # Errors
    /// As [`Self::read`], and if the kernel provides no such list.
    pub fn list(&mut self) -> Result<Listing, Error> {
        let result = self.connect().and_then(Connection::list);
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// Carries out operations in order; returns the outcome of each.
    pub fn apply<'o>(&mut self, ops: impl IntoIterator<Item = &'o Op>) -> Vec<Outcome> {
        let ops: Vec<&Op> = ops.into_iter().collect();
        let mut outcomes = Vec::with_capacity(ops.len());
        for packet in ops.chunks(PACKED) {
            let answers = match self.connect().and_then(|connection| connection.apply(packet)) {
                Ok(answers) => answers,
                Err(e) => {
                    self.connection = None;
                    vec![Some(e.errno()); packet.len()]
                }
            };
            outcomes.extend(packet.iter().zip(answers).map(|(op, answer)| outcome(op, answer)));
        }
        outcomes
    }

    fn connect(&mut self) -> Result<&mut Connection, Error> {
        if self.connection.is_none() {
            let connection = match Connection::open() {
                // The kernel loads the module on demand if it can; otherwise modprobe may succeed.
                Err(Error::Unavailable(errno)) if !core::mem::replace(&mut self.asked, true) => {
                    load_module();
                    Connection::open().map_err(|_| Error::Unavailable(errno))
                }
                other => other,
            }?;
            connection.resize(self.wanted);
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(Error::Silent)
    }
}

impl Default for Ipvs {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    fn open() -> Result<Self, Error> {
        let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        socket.nonblock()?;
        // A smaller one works, too.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let (out, buffer) = (Vec::new(), vec![0; DATAGRAM]);
        let mut connection = Self { socket, family: 0, sequence: 0, out, buffer, sent: 0 };
        connection.family = connection.resolve()?;
        Ok(connection)
    }

    fn resize(&self, (octets, force): (Option<u32>, bool)) {
        let socket = crate::sys::socket::of_netlink(&self.socket);
        super::netlink::resize(&socket, RECEIVE_BUFFER, octets, force);
    }

    /// The number that the kernel gave to the family when the module was loaded.
    fn resolve(&mut self) -> Result<u16, Error> {
        let sequence = self.begin();
        message::ask_family(&mut self.out, sequence);
        self.send()?;
        let mut family = None;
        self.answers(sequence, |payload| {
            family = Some(message::family(payload)?);
            Ok(())
        })
        .map_err(|e| match e {
            Error::Refused(errno) => Error::Unavailable(errno),
            other => other,
        })?;
        Ok(family.ok_or(DecodeError::Missing("FAMILY_ID"))?)
    }

    fn read(&mut self, services: &[ServiceKey]) -> Result<Table, Error> {
        let mut table = Table::default();
        for (key, settings) in self.services(services)? {
            let destinations = self.destinations(&key, &mut table.local)?;
            table.services.insert(key, Entry { settings, destinations });
        }
        self.drop_removed(&mut table)?;
        Ok(table)
    }

    /// Drops services that were removed before their servers were requested: the kernel answers as for one without any.
    fn drop_removed(&mut self, table: &mut Table) -> Result<(), Error> {
        let bare = table.services.iter().filter(|(_, entry)| entry.destinations.is_empty());
        let bare: Vec<ServiceKey> = bare.map(|(key, _)| *key).collect();
        for part in bare.chunks(SINGLE) {
            let mut found = BTreeMap::new();
            self.single(part, &mut found)?;
            for key in part.iter().filter(|key| !found.contains_key(*key)) {
                table.services.remove(key);
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        self.all_services(|key, settings| listing.service(key, &settings))?;
        list::add_servers(&mut listing)?;
        Ok(listing)
    }

    /// Requests all services, including foreign ones. True if the list was made at once.
    fn all_services(&mut self, mut each: impl FnMut(ServiceKey, Settings)) -> Result<bool, Error> {
        let sequence = self.begin();
        message::ask_services(&mut self.out, self.family, sequence);
        self.send()?;
        self.answers(sequence, |payload| {
            match message::decode_service(payload) {
                Ok((key, settings)) => each(key, settings),
                // A foreign service of an unknown kind.
                Err(DecodeError::Unknown(_)) => {}
                Err(e) => return Err(e.into()),
            }
            Ok(())
        })
    }

    fn services(
        &mut self,
        services: &[ServiceKey],
    ) -> Result<BTreeMap<ServiceKey, Settings>, Error> {
        if services.len() <= SINGLE {
            let mut found = BTreeMap::new();
            self.single(services, &mut found)?;
            return Ok(found);
        }
        let wanted: BTreeSet<ServiceKey> = services.iter().copied().collect();
        settled(|found| {
            self.all_services(|key, settings| {
                if wanted.contains(&key) {
                    found.insert(key, settings);
                }
            })
        })
    }

    /// Requests services by key, all in one datagram.
    fn single(
        &mut self,
        services: &[ServiceKey],
        found: &mut BTreeMap<ServiceKey, Settings>,
    ) -> Result<(), Error> {
        let first = self.sequence.wrapping_add(1);
        self.out.clear();
        for key in services {
            self.sequence = self.sequence.wrapping_add(1);
            message::ask_service(&mut self.out, self.family, self.sequence, key);
        }
        let mut open = services.len();
        if open > 0 {
            self.send()?;
        }
        // Each is answered by an acknowledgement, after the service if there is one.
        while open > 0 {
            let Some(datagram) = receive(&self.socket, &mut self.buffer)? else {
                return Err(Error::Silent);
            };
            for reply in message::replies(datagram) {
                let reply = reply?;
                if reply.sequence.wrapping_sub(first) as usize >= services.len() {
                    continue;
                }
                match reply.body {
                    Body::Payload(payload) | Body::Interrupted(payload) => {
                        let (key, settings) = message::decode_service(payload)?;
                        found.insert(key, settings);
                    }
                    Body::Status(None | Some(libc::ESRCH | libc::ENOENT)) => open -= 1,
                    Body::Status(Some(errno)) => return Err(Error::Refused(errno)),
                    Body::End(_) | Body::Nothing => {}
                }
            }
        }
        Ok(())
    }

    fn destinations(
        &mut self,
        key: &ServiceKey,
        local: &mut BTreeSet<(ServiceKey, DestinationKey)>,
    ) -> Result<Destinations, Error> {
        let list = settled(|list| {
            let sequence = self.begin();
            message::ask_destinations(&mut self.out, self.family, sequence, key);
            self.send()?;
            self.answers(sequence, |payload| {
                match message::decode_destination(payload, key.family()) {
                    Ok(pair) => {
                        if message::is_local(payload) {
                            local.insert((*key, pair.0));
                        }
                        list.insert(pair.0, pair.1);
                    }
                    Err(DecodeError::Unknown(what)) => {
                        tracing::warn!(service = %key, "VS {key} has a server with unknown {what}");
                    }
                    Err(e) => return Err(e.into()),
                }
                Ok(())
            })
        })?;
        Ok(list.into_iter().collect())
    }

    /// Sends operations in one datagram. Returns the error number of each refused one.
    fn apply(&mut self, ops: &[&Op]) -> Result<Vec<Option<i32>>, Error> {
        let answers = self.apply_once(ops)?;
        // The kernel also answers this for an unknown family: the module was reloaded.
        if answers.contains(&Some(libc::ENOENT)) {
            let family = self.resolve()?;
            if family != self.family {
                self.family = family;
                return self.apply_once(ops);
            }
        }
        Ok(answers)
    }

    fn apply_once(&mut self, ops: &[&Op]) -> Result<Vec<Option<i32>>, Error> {
        let first = self.sequence.wrapping_add(1);
        self.out.clear();
        for (position, op) in ops.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let is_last = position + 1 == ops.len();
            message::encode(&mut self.out, self.family, self.sequence, op, is_last);
        }
        self.send()?;
        let mut answers = vec![None; ops.len()];
        let mut lost = false;
        loop {
            let datagram = match receive(&self.socket, &mut self.buffer) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Err(Error::Silent),
                // Some answers found no room, so it is unknown which operations were refused: all without an answer
                // count as refused, and retrying them reveals their state.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    lost = true;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            for reply in message::replies(datagram) {
                let reply = reply?;
                let position = reply.sequence.wrapping_sub(first) as usize;
                let (Some(answer), Body::Status(errno)) = (answers.get_mut(position), reply.body)
                else {
                    continue;
                };
                *answer = errno;
                if position + 1 == ops.len() {
                    if lost {
                        for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
                            *answer = Some(libc::ENOBUFS);
                        }
                    }
                    return Ok(answers);
                }
            }
        }
    }

    fn begin(&mut self) -> u32 {
        self.out.clear();
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&mut self) -> io::Result<()> {
        self.sent += 1;
        self.socket.send(&self.out, Msg::empty()).map(|_| ())
    }

    /// Reads the answers to a request, to their end. True if the kernel made the list at once, so that nothing can have
    /// changed meanwhile.
    fn answers(
        &mut self,
        sequence: u32,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let (mut whole, mut parts) = (true, 0);
        loop {
            let Some(datagram) = receive(&self.socket, &mut self.buffer)? else {
                return Err(Error::Silent);
            };
            let mut is_part = false;
            for reply in message::replies(datagram) {
                let reply = reply?;
                if reply.sequence != sequence {
                    continue;
                }
                if !core::mem::replace(&mut is_part, matches!(reply.body, Body::Payload(_))) {
                    parts += u32::from(is_part);
                }
                match reply.body {
                    Body::Status(None) | Body::End(None) => return Ok(whole && parts <= 1),
                    Body::Status(Some(errno)) | Body::End(Some(errno)) => {
                        return Err(Error::Refused(errno));
                    }
                    Body::Interrupted(payload) => {
                        whole = false;
                        each(payload)?;
                    }
                    Body::Payload(payload) => each(payload)?,
                    Body::Nothing => {}
                }
            }
        }
    }
}

/// A list as it was at one moment, as far as that can be known. The kernel makes a long one in parts, without a word about
/// changes between them, and counts its way through: an entry that is removed in one part makes it leave out another one
/// of the next, and for services any network namespace can do that. So a list in parts is requested until it is the same
/// twice. Otherwise all attempts are joined, since one that lacks an entry makes it look as if another program had removed
/// it.
fn settled<K: Ord, V: PartialEq>(
    mut list: impl FnMut(&mut BTreeMap<K, V>) -> Result<bool, Error>,
) -> Result<BTreeMap<K, V>, Error> {
    let mut attempts = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut found = BTreeMap::new();
        if list(&mut found)? || attempts.last() == Some(&found) {
            return Ok(found);
        }
        attempts.push(found);
    }
    Ok(attempts.into_iter().flatten().collect())
}

/// The next available datagram; the kernel answers while a request is being sent.
fn receive<'b>(socket: &NlSocket, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
    loop {
        match socket.recv(&mut *buffer, Msg::empty()) {
            Ok((length, _)) => return Ok(Some(buffer.get(..length).unwrap_or_default())),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

fn outcome(op: &Op, errno: Option<i32>) -> Outcome {
    let is_add = matches!(op, Op::AddService { .. } | Op::AddDestination { .. });
    let is_removal = matches!(op, Op::DeleteService { .. } | Op::DeleteDestination { .. });
    match errno {
        None => Outcome::Done,
        Some(libc::EEXIST) if is_add => Outcome::Already,
        Some(libc::ENOENT | libc::ESRCH) if is_removal => Outcome::Already,
        Some(errno) => Outcome::Refused(errno),
    }
}

/// Runs the program that loads modules for `ip_vs`. Whether that succeeded shows when the family is requested.
fn load_module() {
    let named = std::fs::read_to_string(MODPROBE_PATH).unwrap_or_default();
    let named = named.trim();
    for program in [named, MODPROBE] {
        if program.is_empty() {
            continue;
        }
        let run = Command::new(program)
            .args(["-q", "--", "ip_vs"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match run {
            Ok(status) if status.success() => return,
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
