//! Placeholder: tcp.
