//! What became of a transaction whose outcome is unknown: settled for good.

use crate::replica::Replica;
use crate::runtime::pending::Pending;
use crate::store::verdict::Resolution;
use crate::types::ids::RequestId;

impl Replica {
    /// Settles for good what became of a transaction whose outcome is unknown.
    ///
    /// Tells the original outcome where the transaction had arrived, in whatever way and through
    /// whatever replica. Where it had not, it never has an effect from now on, however late it
    /// arrives: whoever waits for it is told [`Burned`]. Goes through the log as a transaction
    /// does, and can be asked as often as wanted, of any replica, also after the one that submitted
    /// the transaction was opened anew: keep [`Error::request`].
    ///
    /// [`Burned`]: crate::ErrorKind::Burned
    /// [`Error::request`]: crate::Error::request
    ///
    /// # Errors
    ///
    /// Where what became of it is not remembered any more ([`SessionExpired`]): its caller was told
    /// already, or too many sessions were used since. Where no leader took the question in time,
    /// too much waits already, or the replica stopped, the outcome is as unknown as it was
    /// ([`OutcomeUnknown`], with the same request), and it can be asked again, here or elsewhere.
    ///
    /// [`SessionExpired`]: crate::ErrorKind::SessionExpired
    /// [`OutcomeUnknown`]: crate::ErrorKind::OutcomeUnknown
    ///
    /// ```
    /// # use indelible::{RawTable, Replica, Resolution};
    /// # const NOTES: RawTable<u64> = RawTable::new("notes");
    /// # fn main() -> indelible::Result<()> {
    /// # let replica = Replica::in_memory()?;
    /// let written = match replica.put(NOTES, 1, b"text").wait() {
    ///     Err(err) if err.is_outcome_unknown() => {
    ///         let request = err.request().expect("an unknown outcome names its transaction");
    ///         replica.resolve(request).wait()?.committed()
    ///     }
    ///     result => Some(result?),
    /// };
    /// println!("written: {}", written.is_some());
    /// # replica.close()
    /// # }
    /// ```
    pub fn resolve(&self, request: RequestId) -> Pending<Resolution> {
        self.handle.resolve(request).or_else(move |err| err.unresolved(request))
    }
}
