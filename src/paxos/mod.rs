//! Room for the paxos layer.
