//! What an operator has a replica do, beside its daily work.

use crate::replica::Replica;
use crate::runtime::pending::Pending;

impl Replica {
    /// Writes the state as it is applied here now to a checkpoint, so that the next opening has
    /// little to apply: before an upgrade, say. Commits go on meanwhile.
    ///
    /// Checkpoints are also taken without being asked for; see
    /// [`checkpoint_bytes`](crate::Config::checkpoint_bytes). Where nothing was applied since the
    /// newest one, this is answered at once.
    ///
    /// It takes as long as the state is large, longer beside commits (28 MiB a second), and has no
    /// deadline of its own.
    ///
    /// # Errors
    ///
    /// Where the disk is full ([`StorageFull`](crate::ErrorKind::StorageFull)); where this replica
    /// does not serve yet, or 4,096 wait for one already ([`Busy`](crate::ErrorKind::Busy)); where
    /// this replica is taking in a checkpoint of a peer, and the peer does not answer for ten
    /// election timeouts ([`Unreachable`](crate::ErrorKind::Unreachable)); or where this replica
    /// was closed or stopped. What was there before is still there.
    ///
    /// ```
    /// # use indelible::{Replica, Table};
    /// # const NAMES: Table<u64, String> = Table::new("names");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// replica.put(NAMES, 1, &"Ada".into()).wait()?;
    /// replica.checkpoint().wait()?;
    /// let status = replica.status();
    /// assert!(status.slot_checkpointed > 0);
    /// # replica.close()
    /// # }
    /// ```
    pub fn checkpoint(&self) -> Pending<()> {
        self.handle().checkpoint()
    }
}
