//! Each invariant once kept and once broken, by hand-made sights.

mod commit;
mod notice;
mod relays;
mod roles;
mod scene;
