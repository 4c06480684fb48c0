//! The store that stands for the ledger now.
//!
//! A replica that lagged too far behind takes in the state of another one as a whole. Whoever reads
//! a snapshot of the old state goes on with it; whoever begins to read finds the new one. So a
//! store is asked for when a read is answered, never before.
//!
//! Invariants:
//! * Of two stores, the later one stands behind a later slot.

use std::sync::Arc;

use parking_lot::RwLock;

use super::Store;

/// Where readers find the present store.
#[derive(Debug)]
pub struct Current {
    store: RwLock<Arc<Store>>,
}

impl Current {
    /// Begins with `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store: RwLock::new(store) }
    }

    /// The present store.
    #[must_use]
    pub fn get(&self) -> Arc<Store> {
        Arc::clone(&self.store.read())
    }

    /// `store` stands for the ledger from now on; returns the one before. Who drops the last handle
    /// on that one takes it apart, which takes long where it is large.
    pub fn exchange(&self, store: Arc<Store>) -> Arc<Store> {
        let mut present = self.store.write();
        let (before, after) = (present.applied().slot, store.applied().slot);
        assert!(before <= after, "the state below slot {after} would replace that below {before}");
        std::mem::replace(&mut *present, store)
    }
}
