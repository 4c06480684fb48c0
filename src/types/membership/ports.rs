//! Addresses that name a port, as those of a network do.
//!
//! Within a process, replicas have any names. Whose addresses must name a port is no rule that
//! replicas agree to: it is asked where settings are checked, and before a change is proposed.

use super::{Member, Membership, MembershipError};

impl Membership {
    /// Whether the addresses that are new here name a port, as all that there were before do: then
    /// they are those of a network.
    ///
    /// # Errors
    ///
    /// The first address that names none.
    pub(crate) fn check_ports(&self, before: &Self) -> Result<(), MembershipError> {
        // One that was formed alone may have none.
        let known = before.members().map(|member| &member.address);
        let mut known = known.filter(|address| !address.is_empty()).peekable();
        let is_of_a_network = known.peek().is_some() && known.all(|address| has_port(address));
        let mut new = self.members().filter(|member| before.member(member.id) != Some(member));
        match new.find(|member| !has_port(&member.address)) {
            Some(Member { id, address, .. }) if is_of_a_network => {
                Err(MembershipError::AddressPort(*id, address.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an address ends in a port. Whether its host exists shows when it is connected to.
pub(crate) fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
