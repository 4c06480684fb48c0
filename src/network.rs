//! A network within this process: what a user's tests cut and heal.

use crate::transport::memory::MemoryNetwork;
use crate::types::ids::ReplicaId;

/// A network within this process, for tests of services that run several replicas.
///
/// Links can be cut and healed one way at a time.
///
/// ```
/// use indelible::{Network, Replica};
/// use std::time::Duration;
///
/// # fn main() -> indelible::Result<()> {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// let network = Network::new();
/// let mut replicas = Vec::new();
/// for id in 1..=3 {
///     let builder = Replica::builder(directory.path().join(id.to_string()))
///         .id(id)
///         .peers([(1, "one"), (2, "two"), (3, "three")])
///         .network(&network);
///     replicas.push(builder.open()?);
/// }
/// replicas[0].wait_ready(Duration::from_secs(30))?;
/// # for replica in replicas { replica.close()?; }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Network(pub(crate) MemoryNetwork);

impl Network {
    /// A network on which all links are whole.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses every message from `from` to `to` from now on.
    ///
    /// ```
    /// let network = indelible::Network::new();
    /// network.cut(1, 2); // 2 still reaches 1
    /// network.heal(1, 2);
    /// ```
    pub fn cut(&self, from: u64, to: u64) {
        self.0.cut(ReplicaId(from), ReplicaId(to));
    }

    /// Carries messages from `from` to `to` again.
    ///
    /// ```
    /// let network = indelible::Network::new();
    /// network.heal(1, 2); // it was whole
    /// ```
    pub fn heal(&self, from: u64, to: u64) {
        self.0.heal(ReplicaId(from), ReplicaId(to));
    }
}
