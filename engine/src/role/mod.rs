//! Placeholder: role.
