//! The files that the `files` service serves to the targets.

use standin::service::MemoryStore;

/// The time of day in every target, seconds since 1970.
pub(crate) const WALL: u64 = 1_700_000_000;

/// A few files, modified in 2020.
pub(crate) fn library() -> MemoryStore {
    let mut store = MemoryStore::new();
    let modified = 1_577_836_800 * 1_000_000_000 + 5;
    store.put(0, "index.html", "<h1>hello</h1>", modified);
    store.put(0, "ten.txt", "0123456789", modified);
    store.put(0, "empty.bin", "", modified);
    let long: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
    store.put(0, "docs/long", long, modified);
    store.put(0, "docs/index.html", "docs", modified);
    store.forbid(0, "secret");
    store
}
