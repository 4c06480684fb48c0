//! Explores every state that a small cluster of protocol cores can reach.

pub mod bugs;
pub mod checks;
pub mod cluster;
pub mod journal;
pub mod past;
pub mod replica;
pub mod runs;
pub mod settings;
pub mod sound;
pub mod stale;
pub mod table;
pub mod turn;
pub mod unsound;
