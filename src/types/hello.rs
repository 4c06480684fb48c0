//! What a connection begins with: who speaks, to whom, and what its directory has come to.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::ids::{Boot, ClusterId, Incarnation, Lsn, ReplicaId};
use super::limits::ADDRESS_BYTES_MAX;
use super::protocols::Protocols;

/// What a connection begins with; it comes before any [`Message`](super::message::Message).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's cluster; zero where it belongs to none yet.
    pub cluster: ClusterId,
    /// The sender.
    pub replica: ReplicaId,
    /// Whom the sender believes to talk to.
    pub receiver: ReplicaId,
    /// The sender's directory.
    pub incarnation: Incarnation,
    /// The sender's opening.
    pub boot: Boot,
    /// The last frame that the sender found in its journal at this opening. Where that is below
    /// what it said was durable in an earlier one, it was set back.
    pub frontier: Lsn,
    /// Which protocols the sender speaks.
    pub protocols: Protocols,
    /// Where the sender is to be reached, as its own settings say; empty where they say nothing.
    /// At most [`ADDRESS_BYTES_MAX`] bytes.
    #[serde(deserialize_with = "bounded_address")]
    pub address: String,
}

fn bounded_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let address = String::deserialize(deserializer)?;
    if address.len() <= ADDRESS_BYTES_MAX {
        return Ok(address);
    }
    let found = address.len();
    Err(D::Error::custom(format!(
        "an address of {found} bytes, wanted at most {ADDRESS_BYTES_MAX}"
    )))
}
