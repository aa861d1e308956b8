//! Stories of relays: splices, backends, takeovers.
