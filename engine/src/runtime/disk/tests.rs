use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use mio::{Events, Poll, Token};
use rustc_hash::{FxHashMap, FxHashSet};

use super::*;
use crate::time::Duration;

/// A store over a fresh directory, and the loop that it wakes.
struct Disk {
    poll: Poll,
    news: DiskNews,
    store: DiskStore,
    root: PathBuf,
}

impl Disk {
    /// Nothing is hashed that nobody asks for.
    fn new(name: &str) -> Self {
        Self::fresh(name, &HashSettings { rate: 0, ..hashing() })
    }

    fn fresh(name: &str, hashing: &HashSettings) -> Self {
        let root = place(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("www/sub")).unwrap();
        Self::over(root, hashing, false)
    }

    /// A store over what is there.
    fn over(root: PathBuf, hashing: &HashSettings, dotfiles: bool) -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let roots = [RootSettings { path: root.join("www"), dotfiles }];
        let (store, news) = DiskStore::open(&roots, hashing, waker).unwrap();
        Self { poll, news, store, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join("www").join(name)
    }

    /// Writes a file that was last modified long ago.
    fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
        age(&self.path(name), 1_000_000);
    }

    /// Asks until the answer is not "pending", waiting for news in between.
    fn settle<T>(&mut self, mut ask: impl FnMut(&mut DiskStore) -> Option<T>) -> T {
        for _ in 0..100 {
            if let Some(answer) = ask(&mut self.store) {
                return answer;
            }
            self.wait();
        }
        panic!("pending for ever");
    }

    fn wait(&mut self) {
        let mut events = Events::with_capacity(4);
        while !self.news.take() {
            self.poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "pending, and no news");
        }
    }

    fn lookup(&mut self, path: &str) -> Lookup {
        self.settle(|store| match store.lookup(0, path) {
            Lookup::Pending => None,
            answer => Some(answer),
        })
    }

    fn found(&mut self, path: &str) -> (Facts, ContentId) {
        match self.lookup(path) {
            Lookup::Found(facts, id) => (facts, id),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn verify(&mut self, path: &str, pinned: &Facts) -> Verified {
        self.settle(|store| match store.verify(0, path, pinned) {
            Verified::Pending => None,
            answer => Some(answer),
        })
    }

    fn read(&mut self, id: ContentId, offset: u64, length: usize) -> Result<Vec<u8>, Read> {
        let mut bytes = vec![0; length];
        let answer = self.settle(|store| match store.read(id, offset, &mut bytes) {
            Read::Pending => None,
            answer => Some(answer),
        });
        match answer {
            Read::Ready(read) => Ok(bytes[..read].to_vec()),
            other => Err(other),
        }
    }
}

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("standin-disk-{}-{name}", std::process::id()))
}

fn hashing() -> HashSettings {
    HashSettings { rate: 1 << 40, largest: u64::MAX, cache: None }
}

fn age(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_file_is_found_hashed_and_read() {
    let mut disk = Disk::new("found");
    let content: Vec<u8> = (0..300_000u32).map(|n| (n / 3) as u8).collect();
    disk.put("sub/a", &content);
    let (facts, id) = disk.found("sub/a");
    assert_eq!((facts.length, facts.modified), (300_000, 1_000_000_000_000_000));
    assert_eq!(disk.read(id, 299_990, 100), Ok(content[299_990..].to_vec()));
    assert_eq!(disk.read(id, 300_000, 10), Ok(vec![]));
    let mut whole = Vec::new();
    while whole.len() < content.len() {
        whole.extend(disk.read(id, whole.len() as u64, 70_000).unwrap());
    }
    assert!(whole == content);

    let hash = *blake3::hash(&content).as_bytes();
    while disk.found("sub/a").0.hash.is_none() {
        disk.wait();
    }
    let (facts, again) = disk.found("sub/a");
    assert_eq!((facts.hash, disk.read(again, 0, 1)), (Some(hash), Ok(content[..1].to_vec())));
    assert_eq!(disk.found("sub/a").1, again, "one content, however many hold it");
    disk.store.release(id);
}

#[test]
fn a_content_is_forgotten_with_its_last_hold() {
    let mut disk = Disk::new("holds");
    disk.put("a", b"a");
    let (_, first) = disk.found("a");
    let (_, second) = disk.found("a");
    disk.store.release(first);
    assert_eq!(disk.read(second, 0, 1), Ok(b"a".to_vec()));
    disk.store.release(second);
    assert_eq!(disk.store.contents.len(), 1, "its name is known for a moment");
    disk.store.on_timer(Instant::from_millis(10));
    assert_eq!((disk.store.contents.len(), disk.store.contents.open_files), (0, 0));
    assert_eq!(disk.read(second, 0, 1), Err(Read::Gone));
}

#[test]
fn a_name_is_believed_for_a_moment_and_never_against_its_file() {
    let mut disk = Disk::new("names");
    let link = |disk: &Disk, to: &str| {
        let _ = fs::remove_file(disk.path("www"));
        symlink(to, disk.path("www")).unwrap();
    };
    disk.put("a", b"first");
    disk.put("sub/a", b"another");
    link(&disk, ".");
    let (facts, _) = disk.found("www/a");
    assert_eq!(facts.length, 5);
    link(&disk, "sub");
    assert_eq!(disk.found("www/a").0.length, 5, "so lately that nobody looked again");
    disk.store.on_timer(Instant::from_millis(10));
    assert_eq!(disk.found("www/a").0.length, 7);

    // Written to, replaced, removed: seen in the next turn, and what is found can be read.
    let mut now = Instant::from_millis(10);
    let mut turn = |disk: &mut Disk| {
        now = now + Duration::from_micros(1);
        disk.store.on_timer(now);
    };
    fs::write(disk.path("a"), b"longer").unwrap();
    turn(&mut disk);
    let (facts, id) = disk.found("a");
    assert_eq!((facts.length, disk.read(id, 0, 9)), (6, Ok(b"longer".to_vec())));
    fs::write(disk.path("a"), b"longest").unwrap();
    turn(&mut disk);
    let (facts, id) = disk.found("a");
    assert_eq!((facts.length, disk.read(id, 0, 9)), (7, Ok(b"longest".to_vec())));
    disk.put("new", b"replaced");
    fs::rename(disk.path("new"), disk.path("a")).unwrap();
    turn(&mut disk);
    let (facts, id) = disk.found("a");
    assert_eq!((facts.length, disk.read(id, 0, 9)), (8, Ok(b"replaced".to_vec())));
    fs::remove_file(disk.path("a")).unwrap();
    turn(&mut disk);
    assert_eq!(disk.lookup("a"), Lookup::NotFound);
}

#[test]
fn names_are_bounded_and_keep_nothing() {
    let mut disk = Disk::new("bounded");
    for n in 0..1_000 {
        disk.put(&format!("{n}"), b"x");
        let (_, id) = disk.found(&format!("{n}"));
        disk.store.release(id);
        assert!(disk.store.contents.len() <= 256);
    }
    disk.store.on_timer(Instant::from_millis(10));
    assert_eq!((disk.store.contents.len(), disk.store.contents.open_files), (0, 0));
}

#[test]
fn what_is_not_a_file_is_told_apart() {
    let mut disk = Disk::new("kinds");
    disk.put("sub/a", b"inside");
    fs::write(disk.root.join("secret"), b"outside").unwrap();
    symlink("sub/a", disk.path("inside")).unwrap();
    symlink("../secret", disk.path("outside")).unwrap();
    symlink(disk.root.join("secret"), disk.path("absolute")).unwrap();
    std::process::Command::new("mkfifo").arg(disk.path("pipe")).status().unwrap();
    assert_eq!(disk.lookup("missing"), Lookup::NotFound);
    assert_eq!(disk.lookup("sub/a/b"), Lookup::NotFound);
    assert_eq!(disk.lookup("sub"), Lookup::Directory);
    assert_eq!(disk.lookup("pipe"), Lookup::Forbidden, "and nobody waits for a writer");
    assert_eq!(disk.lookup("outside"), Lookup::Forbidden);
    assert_eq!(disk.lookup("absolute"), Lookup::Forbidden);
    let (_, id) = disk.found("inside");
    assert_eq!(disk.read(id, 0, 9), Ok(b"inside".to_vec()));
    assert_eq!(disk.store.lookup(1, "sub/a"), Lookup::NotFound, "no such root");
}

#[test]
fn without_openat2_no_link_is_followed() {
    let mut disk = Disk::new("walk");
    disk.store.cached_lookups = false;
    disk.store.roots[0].openat2 = false;
    disk.put("sub/a", b"inside");
    symlink("sub", disk.path("link")).unwrap();
    assert_eq!(disk.store.lookup(0, "sub/a"), Lookup::Pending, "the helper's to find out");
    let (_, id) = disk.found("sub/a");
    assert_eq!(disk.read(id, 0, 9), Ok(b"inside".to_vec()));
    assert_eq!(disk.lookup("link"), Lookup::Forbidden);
    assert_eq!(disk.lookup("sub/b"), Lookup::NotFound);
    let lost = disk.lookup("link/a");
    assert!(matches!(lost, Lookup::NotFound | Lookup::Forbidden), "{lost:?}");
}

#[test]
fn changed_bytes_are_never_given() {
    let mut disk = Disk::new("changed");
    disk.put("a", b"first");
    let (_, id) = disk.found("a");
    fs::write(disk.path("a"), b"FIRST").unwrap();
    assert_eq!(disk.read(id, 0, 5), Err(Read::Gone));

    disk.put("b", b"first");
    let (_, id) = disk.found("b");
    fs::write(disk.path("new"), b"other").unwrap();
    fs::rename(disk.path("new"), disk.path("b")).unwrap();
    assert_eq!(disk.read(id, 0, 5), Ok(b"first".to_vec()), "replaced, not changed");
}

#[test]
fn a_pin_is_verified_by_its_hash_and_by_nothing_else() {
    let mut disk = Disk::new("verify");
    disk.put("a", b"content");
    let time = Facts { length: 7, modified: 1_000_000_000_000_000, hash: None };
    let hash = Facts { hash: Some(*blake3::hash(b"content").as_bytes()), modified: 5, ..time };
    let other = Facts { hash: Some(*blake3::hash(b"CONTENT").as_bytes()), ..time };
    let differs = Verified::Differs;
    let Verified::Match(id) = disk.verify("a", &hash) else { panic!("the hash is right") };
    assert_eq!(disk.verify("a", &other), differs(Difference::Content));
    assert_eq!(disk.verify("a", &time), differs(Difference::Unpinned), "at the same time");
    assert_eq!(disk.verify("a", &Facts { length: 8, ..hash }), differs(Difference::Length));
    assert_eq!(disk.verify("missing", &hash), differs(Difference::Missing));
    disk.store.release(id);
    disk.store.on_timer(Instant::from_millis(10));
    assert_eq!(disk.store.contents.len(), 0, "a question leaves no hold");
}

#[test]
fn what_is_too_large_is_not_hashed() {
    let mut disk = Disk::fresh("large", &HashSettings { largest: 6, rate: 0, ..hashing() });
    disk.put("a", b"content");
    let pinned = Facts { length: 7, modified: 0, hash: Some(*blake3::hash(b"content").as_bytes()) };
    assert_eq!(disk.verify("a", &pinned), Verified::Differs(Difference::Unhashable));
    assert_eq!(disk.found("a").0.hash, None);
}

/// The hash of what was held before it was hashed.
fn later(disk: &mut Disk, id: ContentId) -> Option<[u8; 32]> {
    let asked = disk.store.hash(id);
    while asked.is_none() && disk.store.questions.len() > 0 {
        disk.wait();
        disk.store.absorb();
    }
    disk.store.hash(id)
}

#[test]
fn a_hash_that_comes_later_is_of_the_bytes_that_were_given() {
    let mut disk = Disk::new("later");
    disk.put("a", b"content");
    std::thread::sleep(Duration::from_millis(110));
    let (facts, id) = disk.found("a");
    assert_eq!(facts.hash, None);
    assert_eq!(later(&mut disk, id), Some(*blake3::hash(b"content").as_bytes()));

    disk.put("b", b"content");
    let (_, id) = disk.found("b");
    assert_eq!(later(&mut disk, id), None, "it may have been written to within the same tick");

    disk.put("c", b"content");
    std::thread::sleep(Duration::from_millis(110));
    let (_, id) = disk.found("c");
    disk.put("c", b"CONTENT");
    assert_eq!(later(&mut disk, id), None, "and its time was put back");
}

/// Its times say that it is as it was. They lie.
#[test]
fn bytes_that_were_written_behind_a_time_put_back_are_never_given() {
    for hashed in [false, true] {
        let mut disk = Disk::new("behind");
        disk.put("a", b"first");
        let (mut facts, mut id) = disk.found("a");
        while hashed && facts.hash.is_none() {
            disk.wait();
            (facts, id) = disk.found("a");
        }
        assert_eq!(disk.read(id, 0, 5), Ok(b"first".to_vec()));
        std::thread::sleep(Duration::from_millis(20));
        disk.put("a", b"FIRST");
        assert_eq!(disk.read(id, 0, 5), Err(Read::Gone), "hashed {hashed}");
    }
}

/// A backup makes a link, somebody changes the mode, a new version is renamed over it.
#[test]
fn what_touches_a_file_and_not_its_bytes_ends_no_reply() {
    let mut disk = Disk::new("touched");
    disk.put("a", b"first");
    let (_, id) = disk.found("a");
    let read = |disk: &mut Disk| disk.read(id, 0, 5);
    assert_eq!(read(&mut disk), Ok(b"first".to_vec()));
    fs::hard_link(disk.path("a"), disk.path("b")).unwrap();
    assert_eq!(read(&mut disk), Ok(b"first".to_vec()), "a link was made");
    while disk.found("a").0.hash.is_none() {
        disk.wait();
    }
    let (_, id) = disk.found("a");
    let read = |disk: &mut Disk| disk.read(id, 0, 5);
    std::thread::sleep(Duration::from_millis(20));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(disk.path("a"), mode).unwrap();
    assert_eq!(read(&mut disk), Ok(b"first".to_vec()), "hashed again, and the same");
    disk.put("new", b"other");
    fs::rename(disk.path("new"), disk.path("a")).unwrap();
    fs::remove_file(disk.path("b")).unwrap();
    assert_eq!(read(&mut disk), Ok(b"first".to_vec()), "it has no name any more");
}

#[test]
fn what_begins_with_a_dot_is_served_to_who_asks_for_it() {
    let mut disk = Disk::new("dots");
    fs::create_dir_all(disk.path(".git")).unwrap();
    fs::create_dir_all(disk.path(".well-known")).unwrap();
    let all = [".htpasswd", ".git/config", ".well-known/x"];
    for path in all {
        disk.put(path, b"secret");
    }
    symlink(".htpasswd", disk.path("open")).unwrap();
    for path in [".htpasswd", ".git/config", ".git", ".missing"] {
        assert_eq!(disk.lookup(path), Lookup::NotFound, "{path}");
    }
    for path in [".well-known/x", "open"] {
        assert_eq!(disk.found(path).0.length, 6, "{path}");
    }
    let pinned = Facts { length: 6, modified: 0, hash: Some(*blake3::hash(b"secret").as_bytes()) };
    assert!(matches!(disk.verify(".htpasswd", &pinned), Verified::Match(_)), "the other may");
    let mut disk = Disk::over(disk.root, &HashSettings { rate: 0, ..hashing() }, true);
    for path in all {
        assert_eq!(disk.found(path).0.length, 6, "{path}");
    }
}

// ── Hashing ahead ───────────────────────────────────────────────────────────────────────────────

/// Waits until this version of the file is hashed, though nobody has asked for it.
fn hashed_ahead(disk: &Disk, name: &str) -> Hash {
    let began = crate::runtime::clock::Clock.now();
    loop {
        let stamp = Stamp::of(&fs::metadata(disk.path(name)).unwrap());
        if let Some(hash) = disk.store.digests.get(&stamp) {
            return hash.expect("it can be read");
        }
        let waited = crate::runtime::clock::Clock.now().since(began);
        assert!(waited < Duration::from_secs(20), "{name} is not hashed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hash_of(content: &[u8]) -> Hash {
    *blake3::hash(content).as_bytes()
}

#[test]
fn what_is_there_is_hashed_before_anybody_asks() {
    let disk = Disk::fresh("ahead", &HashSettings { rate: 0, ..hashing() });
    disk.put("a", b"one");
    disk.put("sub/b", b"two");
    disk.put(".hidden", b"three");
    fs::create_dir_all(disk.path(".git")).unwrap();
    disk.put(".git/c", b"four");
    symlink(".", disk.path("loop")).unwrap();
    let mut disk = Disk::over(disk.root, &hashing(), false);
    assert_eq!(hashed_ahead(&disk, "a"), hash_of(b"one"));
    assert_eq!(hashed_ahead(&disk, "sub/b"), hash_of(b"two"));
    assert_eq!(disk.found("sub/b").0.hash, Some(hash_of(b"two")), "at the first request");
    assert_eq!(disk.store.digests.all().len(), 2, "what is not served is not read");
}

#[test]
fn what_changes_is_hashed_anew() {
    let disk = Disk::fresh("changes", &hashing());
    disk.put("sub/a", b"first");
    assert_eq!(hashed_ahead(&disk, "sub/a"), hash_of(b"first"));
    disk.put("sub/a", b"other");
    assert_eq!(hashed_ahead(&disk, "sub/a"), hash_of(b"other"), "written to, time put back");
    disk.put("new", b"renamed");
    fs::rename(disk.path("new"), disk.path("sub/a")).unwrap();
    assert_eq!(hashed_ahead(&disk, "sub/a"), hash_of(b"renamed"));
    age(&disk.path("sub/a"), 77);
    assert_eq!(hashed_ahead(&disk, "sub/a"), hash_of(b"renamed"), "touched");

    // Directories that come later, by whatever way, and what comes into them.
    fs::create_dir_all(disk.path("later/deep/er")).unwrap();
    disk.put("later/deep/er/a", b"deep");
    assert_eq!(hashed_ahead(&disk, "later/deep/er/a"), hash_of(b"deep"));
    fs::create_dir_all(disk.root.join("outside/x")).unwrap();
    fs::write(disk.root.join("outside/x/a"), b"moved").unwrap();
    fs::rename(disk.root.join("outside"), disk.path("moved")).unwrap();
    assert_eq!(hashed_ahead(&disk, "moved/x/a"), hash_of(b"moved"));
    fs::rename(disk.path("moved"), disk.path("later/again")).unwrap();
    disk.put("later/again/x/b", b"again");
    assert_eq!(hashed_ahead(&disk, "later/again/x/b"), hash_of(b"again"));
    fs::hard_link(disk.path("later/again/x/b"), disk.path("linked")).unwrap();
    assert_eq!(hashed_ahead(&disk, "linked"), hash_of(b"again"));
}

#[test]
fn a_file_that_is_being_written_is_hashed_when_that_is_over() {
    use std::io::Write as _;
    let disk = Disk::fresh("writing", &hashing());
    let mut file = fs::File::create(disk.path("a")).unwrap();
    for _ in 0..40 {
        file.write_all(&[7; 1000]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(file);
    assert_eq!(hashed_ahead(&disk, "a"), hash_of(&[7; 40_000]));
    assert_eq!(disk.store.digests.all().len(), 1, "and no part of it was");
}

#[test]
fn a_restart_forgets_nothing() {
    let settings =
        HashSettings { cache: Some(place("restart").join("cache/a.digests")), ..hashing() };
    let disk = Disk::fresh("restart", &settings);
    disk.put("a", b"content");
    hashed_ahead(&disk, "a");
    let cache = settings.cache.clone().unwrap();
    while !cache.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut disk = Disk::over(disk.root, &HashSettings { rate: 0, ..settings.clone() }, false);
    assert_eq!(disk.found("a").0.hash, Some(hash_of(b"content")), "at once");
    disk.put("a", b"CONTENT");
    disk.store.on_timer(Instant::from_millis(50));
    assert_eq!(disk.found("a").0.hash, None, "another version");
    // What was damaged meanwhile is as good as none.
    let mut bytes = fs::read(&cache).unwrap();
    bytes[50] ^= 1;
    fs::write(&cache, bytes).unwrap();
    let disk = Disk::over(disk.root, &settings, false);
    assert_eq!(hashed_ahead(&disk, "a"), hash_of(b"CONTENT"));
}

#[test]
fn small_files_do_not_wait_for_large_ones() {
    let disk = Disk::fresh("order", &HashSettings { rate: 0, ..hashing() });
    disk.put("large", &vec![1; 3 << 20]);
    for n in 0..50 {
        disk.put(&format!("{n}"), &[n]);
    }
    std::thread::sleep(Duration::from_millis(110));
    // The large one alone takes three seconds.
    let disk = Disk::over(disk.root, &HashSettings { rate: 1 << 20, ..hashing() }, false);
    let began = crate::runtime::clock::Clock.now();
    for n in 0..50 {
        hashed_ahead(&disk, &format!("{n}"));
    }
    let took = crate::runtime::clock::Clock.now().since(began);
    let large = Stamp::of(&fs::metadata(disk.path("large")).unwrap());
    assert_eq!(disk.store.digests.get(&large), None, "after {took:?}");
    disk.put("late", b"late");
    hashed_ahead(&disk, "late");
    assert_eq!(disk.store.digests.get(&large), None, "it gives way in the middle");
}

#[test]
fn a_file_just_written_is_hashed_once_it_has_settled() {
    let mut disk = Disk::new("settle");
    fs::write(disk.path("a"), b"new").unwrap();
    while disk.found("a").0.hash.is_none() {
        disk.wait();
    }
    assert_eq!(disk.found("a").0.hash, Some(*blake3::hash(b"new").as_bytes()));
}

#[test]
fn more_files_than_descriptors_are_read_all_the_same() {
    let mut disk = Disk::new("many");
    disk.store.contents.files_max = 4;
    let ids: Vec<ContentId> = (0..20)
        .map(|n| {
            disk.put(&format!("{n}"), format!("file {n}").as_bytes());
            disk.found(&format!("{n}")).1
        })
        .collect();
    for _ in 0..2 {
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(disk.read(*id, 0, 20), Ok(format!("file {n}").into_bytes()));
            assert!(disk.store.contents.open_files <= 4);
        }
    }
    disk.put("3", b"another");
    let (_, last) = disk.found("19");
    assert_eq!(disk.read(last, 0, 20), Ok(b"file 19".to_vec()));
    assert_eq!(disk.read(ids[3], 0, 20), Err(Read::Gone));
}

#[test]
fn a_file_system_that_keeps_nothing_in_memory_is_read_by_a_helper() {
    let mut disk = Disk::new("plain");
    disk.put("a", b"content");
    let (_, id) = disk.found("a");
    let key = disk.store.contents.key(id).unwrap();
    for round in 0..=asking::FETCHES_MAX {
        assert_eq!(disk.store.contents[key].reading, Reading::Cached, "round {round}");
        disk.store.fetch(key, 9);
        // The hash is news as well, so one piece of news may not be the one.
        while disk.store.questions.is_asked(&About::Piece(id, 0)) {
            disk.wait();
            disk.store.absorb();
        }
    }
    assert_eq!(disk.store.contents[key].reading, Reading::Blocks);
    assert_eq!(disk.read(id, 0, 7), Ok(b"content".to_vec()));
}

// ── Questions ───────────────────────────────────────────────────────────────────────────────────

impl Disk {
    /// A store whose every lookup is a helper's, over so many files.
    fn slow(name: &str, files: u32) -> Self {
        let mut disk = Self::new(name);
        disk.store.cached_lookups = false;
        (0..files).for_each(|n| disk.put(&format!("{n}"), b"x"));
        disk
    }

    fn ask(&mut self, path: &str) -> Question {
        assert_eq!(self.store.lookup(0, path), Lookup::Pending, "{path}");
        self.store.question()
    }
}

/// A connection that waits for an answer asks anew when it is told, at once, and for nothing else.
#[test]
fn each_question_is_told_once_however_many_there_are() {
    let mut disk = Disk::slow("told", 1500);
    let mut open: FxHashMap<Question, u32> =
        (0..1500).map(|n| (disk.ask(&format!("{n}")), n)).collect();
    assert_eq!(open.len(), 1500);
    let mut told = FxHashSet::default();
    while !open.is_empty() {
        disk.wait();
        while let Some(question) = disk.store.answered() {
            assert!(told.insert(question), "each once");
            // Hashes are told of as well.
            let Some(n) = open.remove(&question) else { continue };
            let answer = disk.store.lookup(0, &format!("{n}"));
            let Lookup::Found(_, id) = answer else { panic!("{n}: {answer:?}") };
            disk.store.release(id);
        }
        assert!(disk.store.answers.len() <= questions::JOBS_MAX);
    }
}

/// Each of many waits for its own piece of one file.
#[test]
fn pieces_of_one_file_are_questions_of_their_own() {
    let mut disk = Disk::new("pieces");
    disk.put("a", &[7; 100]);
    let (_, id) = disk.found("a");
    let key = disk.store.contents.key(id).unwrap();
    let mut questions: Vec<Question> = (0..3)
        .map(|piece| {
            assert_eq!(disk.store.fetch(key, piece << 20), Read::Pending);
            disk.store.question()
        })
        .collect();
    while !questions.is_empty() {
        disk.wait();
        while let Some(told) = disk.store.answered() {
            questions.retain(|question| *question != told);
        }
    }
}

#[test]
fn a_copy_that_differs_is_told_of_when_it_becomes_another() {
    let mut disk = Disk::fresh("another", &hashing());
    let pinned = Facts { length: 5, modified: 0, hash: Some(hash_of(b"right")) };
    let differs = |disk: &mut Disk, path: &str| {
        assert!(matches!(disk.verify(path, &pinned), Verified::Differs(_)), "{path}");
        disk.store.question()
    };
    disk.put("a", b"wrong");
    for path in ["missing", "a"] {
        let mut open = differs(&mut disk, path);
        fs::write(disk.path(path), b"right").unwrap();
        // It may be told of the wrong copy first.
        disk.settle(|store| {
            store.on_timer(store.now + Duration::from_millis(20));
            while let Some(told) = store.answered() {
                let verified = (told == open).then(|| store.verify(0, path, &pinned));
                match verified {
                    Some(Verified::Match(_)) => return Some(()),
                    Some(_) => open = store.question(),
                    None => {}
                }
            }
            None
        });
    }
    // Where nobody tells of it, it is looked at again by and by.
    symlink("a", disk.path("link")).unwrap();
    let other = Facts { hash: Some(hash_of(b"other")), ..pinned };
    assert!(matches!(disk.verify("link", &other), Verified::Differs(_)));
    let link = disk.store.question();
    while disk.store.answered().is_some() {}
    disk.store.on_timer(disk.store.now + Duration::from_secs(6));
    assert_eq!(disk.store.answered(), Some(link));
}

// ── File systems that others serve ──────────────────────────────────────────────────────────────

impl Disk {
    /// A store that takes its root for one on which any call may wait.
    fn far(name: &str) -> Self {
        let mut disk = Self::new(name);
        disk.store.roots[0].near = false;
        disk.store.names = Names::new([false].into_iter());
        disk
    }

    /// What the loop's thread calls while it does something.
    fn calls<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let before = sys::CALLS.get();
        let done = what(self);
        (done, sys::CALLS.get() - before)
    }
}

#[test]
fn the_loop_makes_no_call_where_calls_may_wait() {
    let mut disk = Disk::far("far");
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    disk.put("a", &content);
    disk.put("sub/b", b"small");
    std::thread::sleep(Duration::from_millis(110));
    let (whole, calls) = disk.calls(|disk| {
        assert_eq!(disk.lookup("missing"), Lookup::NotFound);
        assert_eq!(disk.lookup("missing"), Lookup::NotFound);
        assert_eq!(disk.lookup("sub"), Lookup::Directory);
        let (facts, id) = disk.found("a");
        assert_eq!(facts.length, 1_000_000);
        let mut whole = Vec::new();
        while whole.len() < content.len() {
            whole.extend(disk.read(id, whole.len() as u64, 70_000).unwrap());
            disk.store.on_timer(disk.store.now + Duration::from_millis(1));
        }
        let (_, again) = disk.found("a");
        assert_eq!(again, id, "what a path led to is believed");
        disk.store.release(again);
        let (_, small) = disk.found("sub/b");
        assert_eq!(disk.read(small, 1, 9), Ok(b"mall".to_vec()));
        let hash = Facts { length: 5, modified: 0, hash: Some(hash_of(b"small")) };
        assert!(matches!(disk.verify("sub/b", &hash), Verified::Match(_)));
        [id, small].into_iter().for_each(|id| disk.store.release(id));
        disk.store.on_timer(disk.store.now + Duration::from_secs(2));
        whole
    });
    assert!(whole == content);
    assert_eq!(calls, 0, "on the loop");
    let (_, calls) = disk.calls(|disk| sys::facts(&disk.store.roots[0].directory).map(drop));
    assert_eq!(calls, 1, "and they are counted");
}

#[test]
fn changed_bytes_are_never_given_from_afar() {
    let mut disk = Disk::far("far-changed");
    disk.put("a", &[1; 300_000]);
    let (_, id) = disk.found("a");
    assert_eq!(disk.read(id, 0, 3), Ok(vec![1; 3]));
    disk.put("a", &[2; 300_000]);
    // A block that was read belongs to the version that was promised. The other is not.
    let gone = disk.settle(|store| match store.read(id, 290_000, &mut [0; 3]) {
        Read::Pending => None,
        answer => Some(answer),
    });
    // It may have been read ahead before it changed.
    assert!(matches!(gone, Read::Gone | Read::Ready(_)), "{gone:?}");
    let (_, other) = disk.settle(|store| {
        store.on_timer(store.now + Duration::from_secs(1));
        match store.lookup(0, "a") {
            Lookup::Found(facts, found) if found != id => Some((facts, found)),
            Lookup::Found(_, same) => {
                store.release(same);
                None
            }
            _ => None,
        }
    });
    assert_eq!(disk.read(other, 0, 3), Ok(vec![2; 3]));
}

/// Everybody may ask for what is not there, and one helper's answer is enough for a while.
#[test]
fn one_answer_from_afar_is_for_all_who_ask() {
    let mut disk = Disk::far("far-many");
    disk.put("a", b"x");
    std::thread::sleep(Duration::from_millis(110));
    for path in ["a", "missing"] {
        disk.lookup(path);
        for _ in 0..900 {
            disk.store.on_timer(disk.store.now + Duration::from_millis(1));
            assert_ne!(disk.store.lookup(0, path), Lookup::Pending, "{path}");
        }
        disk.store.on_timer(disk.store.now + Duration::from_secs(1));
        assert_eq!(disk.store.lookup(0, path), Lookup::Pending, "and is believed no longer");
    }
}
