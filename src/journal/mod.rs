//! Room for the journal layer.
