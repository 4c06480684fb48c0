//! From settings to a replica that runs: its disk, its journal, its driver, its way to the peers.

use std::error::Error as _;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::journal::disk::{Disk, RealDisk};
use crate::journal::memory::MemoryDisk;
use crate::journal::{self, Journal, JournalError};
use crate::sync::uptime::uptime;
use crate::transport::Transport;
use crate::transport::memory::MemoryNetwork;
use crate::transport::tcp::{Tcp, TcpOptions};
use crate::types::error::{Error, ErrorKind, Result};
use crate::types::ids::ReplicaId;
use crate::types::time::Moment;

use super::driver::Driver;
use super::events;
use super::handle::Handle;
use super::threads;
use super::turn;

/// Everything that a replica is opened with, but its disk.
#[derive(Debug)]
pub struct Opening {
    /// How its journal is laid out.
    pub journal: journal::Options,
    /// What its driver is told.
    pub driver: turn::Options,
    /// How it reaches its peers, if it has any.
    pub reach: Reach,
    /// How long closing waits for what was proposed.
    pub close_timeout: Duration,
}

/// How a replica reaches its peers.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Over TCP.
    Tcp {
        /// Where it listens; `None` for the address that its peers know.
        listen: Option<String>,
        /// Most bytes that wait to be sent to a peer.
        peer_queue_bytes_max: usize,
    },
    /// Within this process.
    Memory(MemoryNetwork),
}

/// What a replica is started with.
pub struct Start<D: Disk> {
    /// The replica.
    pub driver: Driver<D>,
    /// How it reaches its peers; `None` alone.
    pub transport: Option<Arc<dyn Transport>>,
    /// How long closing waits for what was proposed.
    pub close_timeout: Duration,
}

impl<D: Disk> fmt::Debug for Start<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("close_timeout", &self.close_timeout).finish_non_exhaustive()
    }
}

impl Opening {
    /// Opens the replica in the directory `path`.
    ///
    /// # Errors
    ///
    /// Where the directory, its content or an address cannot be used.
    pub fn open(self, path: &Path) -> Result<Handle> {
        let disk = real_disk(path)?;
        match disk.is_private() {
            Ok(true) => {}
            // It was made by somebody else, who may have had a reason.
            Ok(false) => events::exposed(self.driver.id, path),
            Err(err) => {
                let message = format!("cannot look at the directory {}", path.display());
                return Err(Error::caused(ErrorKind::Io, message, err));
            }
        }
        self.open_on(disk).map_err(|err| match err.source() {
            Some(source) if source.is::<JournalError>() => of_directory(path, err),
            _ => err,
        })
    }

    /// Opens a replica that forgets everything in the end.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started.
    pub fn open_in_memory(self) -> Result<Handle> {
        self.open_on(MemoryDisk::new())
    }

    /// Opens a replica on any disk.
    ///
    /// # Errors
    ///
    /// Where its content or an address cannot be used, or a thread cannot be started.
    pub fn open_on<D: Disk>(self, disk: D) -> Result<Handle> {
        let Self { journal, driver: options, reach, close_timeout } = self;
        if options.read_lease.is_some() && uptime().is_none() {
            let message = "config: read_lease: this system has no clock that runs in suspend";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        Driver::check(&disk, &options)?;
        let id = options.id;
        let journal = Journal::open(disk, journal, id)?;
        let driver = Driver::open(journal, options, Moment::ZERO)?;
        let transport = reach.transport(&driver)?;
        threads::start(Start { driver, transport, close_timeout })
    }
}

/// The directory of the file system, which is made if it is not there.
pub(super) fn real_disk(path: &Path) -> Result<RealDisk> {
    RealDisk::new(path).map_err(|err| {
        let message = format!("cannot use the directory {}", path.display());
        Error::caused(ErrorKind::Io, message, err)
    })
}

/// The error, which says in which directory it was.
pub(super) fn of_directory(path: &Path, err: Error) -> Error {
    Error::caused(err.kind(), path.display().to_string(), err)
}

impl Reach {
    /// The way to the peers. `None` where this replica has no address to listen at, and needs none:
    /// it has no peers, or was removed. Then it stays alone as long as it is open.
    fn transport<D: Disk>(self, driver: &Driver<D>) -> Result<Option<Arc<dyn Transport>>> {
        let standing = driver.standing();
        let (peers, hello) = (standing.peers(), standing.hello);
        let listen = match &self {
            Self::Tcp { listen: Some(listen), .. } => listen.clone(),
            Self::Tcp { listen: None, .. } | Self::Memory(_) => hello.address.clone(),
        };
        let is_needed = !peers.is_empty() || driver.repair.is_opening();
        if listen.is_empty() && (!is_needed || driver.is_removed()) {
            return Ok(None);
        }
        // Whoever it asks must be able to connect to it, too.
        let is_nowhere = matches!(self, Self::Tcp { .. }) && hello.address.is_empty();
        if is_nowhere && is_needed && !driver.is_removed() {
            return Err(unaddressed(hello.replica));
        }
        let peer_queue_bytes_max = match self {
            Self::Memory(network) => return Ok(Some(Arc::new(network.transport(hello)))),
            Self::Tcp { peer_queue_bytes_max, .. } => peer_queue_bytes_max,
        };
        let options = TcpOptions { peer_queue_bytes_max, ..TcpOptions::default() };
        let tcp = Tcp::new(hello, listen.clone(), peers, options).map_err(|err| {
            Error::caused(ErrorKind::Io, format!("cannot listen on {listen}"), err)
        })?;
        Ok(Some(Arc::new(tcp)))
    }
}

fn unaddressed(id: ReplicaId) -> Error {
    let message = format!(
        "peers: none of them is replica {id} itself, and the ledger does not tell where that is to \
         be reached, as far as it is known here: wanted itself and one or more members"
    );
    Error::new(ErrorKind::InvalidArgument, message)
}
