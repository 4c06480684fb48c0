//! Room for the sim layer.
