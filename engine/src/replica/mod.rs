//! Placeholder: replica.
