//! Plain data that every layer speaks of: identities, entries, messages, records, errors.
//!
//! Nothing here behaves: there are comparisons, checks and encodings, and no clock, disk, socket,
//! thread or source of randomness. Every other layer may import this one; it imports none.

pub mod bugs;
pub mod marks;

pub mod ids;
pub mod slots;
pub mod time;

pub mod limits;

pub mod conflict;
pub mod error;

pub mod codec;

pub mod command;
pub mod edition;
pub mod entry;
pub mod membership;

pub mod hello;
pub mod message;
pub mod protocols;
pub mod record;
