//! Placeholder: service.
