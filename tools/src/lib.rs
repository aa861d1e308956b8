//! Shared pieces of the tools.
