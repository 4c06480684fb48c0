//! Room for the runtime layer.
