//! Seeded bugs: mistakes that the simulator can switch on, to show that its checkers notice.
//!
//! Each is a mistake that a system like this one made once. A place in the code asks
//! [`is_on`]; without the feature `sim` the answer is a constant `false`, and the compiler removes
//! the question. With it, all bugs are off until a test switches one on for its own thread: it is
//! never a cargo feature, so that code built with all features is still correct.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A mistake that can be switched on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All bugs there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as a command line spells it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

bugs! {
    /// A vote is acknowledged before its record is durable.
    AckBeforeSync = "ack-before-sync",
}

impl Bug {
    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

/// Whether this mistake is to be made.
#[cfg(not(feature = "sim"))]
#[inline(always)]
#[must_use]
pub const fn is_on(_: Bug) -> bool {
    false
}

/// Whether this mistake is to be made.
#[cfg(feature = "sim")]
#[inline]
#[must_use]
pub fn is_on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Switches a mistake on, or all off, for this thread.
#[cfg(feature = "sim")]
pub fn switch(bug: Option<Bug>) {
    ON.set(bug);
}

#[cfg(feature = "sim")]
std::thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}
