//! The maxima of format 1: what no key, command, entry, message or group may exceed.
//!
//! They bound what a file or a peer can make this process allocate, so they are constants of the
//! format and not settings. The settings in `config.rs` stay below them.

/// Longest encoded key, in bytes. A longer one is refused before it is proposed.
pub const KEY_BYTES_MAX: usize = 4 * 1024;

/// Longest encoded value, in bytes. A larger one is refused before it is proposed.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Longest table name, in bytes of UTF-8.
pub const TABLE_NAME_BYTES_MAX: usize = 255;

/// Largest encoded command (one transaction), in bytes. A larger one is refused before it is
/// proposed.
pub const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest encoded entry, in bytes. A batch ends before it would pass this.
pub const ENTRY_BYTES_MAX: usize = COMMAND_BYTES_MAX + 64 * 1024;

/// Largest message between replicas, in bytes, header included. A peer that announces more is
/// disconnected.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most commands in one entry.
pub const ENTRY_COMMANDS_MAX: usize = 4096;

/// Most voters in a membership.
pub const VOTERS_MAX: usize = 63;

/// Most observers in a membership.
pub const OBSERVERS_MAX: usize = 63;

/// Most ids that a membership remembers as removed. Who has removed so many begins a new ledger.
pub const REMOVED_MAX: usize = 4096;

/// Longest address of a replica, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// Most strangers that a replica talks to at a time: replicas of its cluster that are no members.
/// Who is gone makes room for one more; where all are there, one more is refused.
pub const STRANGERS_MAX: usize = 16;

/// How far ahead of `slot_chosen` a leader may propose: the protocol's alpha. It is part of the
/// first membership, so every replica of a cluster agrees on it.
pub const ALPHA: u64 = 4096;

/// The largest alpha that a membership may have. It bounds how far beyond `slot_chosen` a vote can
/// be, and with that what is allocated for the places between.
pub const ALPHA_MAX: u64 = 64 * 1024;

/// How many sequences of a session can be without an answer at once: a command is never so far
/// ahead of the lowest one. With that, what is kept of a session has a bound. Who has as many under
/// way goes on under another session.
pub const SESSION_WINDOW: u64 = 4096;

/// How many sessions the state remembers where the first membership does not say otherwise. Of
/// more, the one that was used least recently is forgotten.
pub const SESSIONS_MAX: u32 = 1024;

/// The most sessions that a membership may ask for. It bounds what the state can grow to.
pub const SESSIONS_MAX_MAX: u32 = 64 * 1024;

const _: () =
    assert!(ENTRY_BYTES_MAX + 1024 * 1024 <= MESSAGE_BYTES_MAX, "an entry fits a message");
