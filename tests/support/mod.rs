//! What the test programs share.

#![allow(dead_code, reason = "no test program uses all of this")]

pub mod script;
pub mod source;
