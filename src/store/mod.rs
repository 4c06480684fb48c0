//! Room for the store layer.
