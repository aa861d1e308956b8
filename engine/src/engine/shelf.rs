//! The content store as the engine asks it: on behalf of a connection, which is called again when there
//! is an answer to what it asked.
//!
//! ```text
//!   application ── lookup ──► shelf ── lookup ──► store
//!                               │ ◄─── Pending ─────┘
//!                      (question, connection)
//!                               │ ◄─── answered ─── store
//!   go_on ◄─── tell ────────────┘
//! ```
//!
//! Thousands may wait for one answer, or each for one of its own. Whoever waits is called when the answer
//! concerns it, and not before; of those whom one answer concerns, as many as the caller asks for.

use core::fmt;
use std::collections::BTreeSet;

use crate::ids::ConnId;
use crate::service::{App, ContentId, Facts, Lookup, Question, Read, Store, Verified};
use crate::time::Instant;

/// See the module's documentation.
pub(super) struct Shelf {
    store: Box<dyn Store>,
    /// On whose behalf the store is asked.
    asker: ConnId,
    /// Who waits for what, by question and by connection.
    waiting: BTreeSet<(Question, ConnId)>,
    open: BTreeSet<(ConnId, Question)>,
    /// The answer that is being told.
    told: Option<Question>,
    /// Whether there may be others.
    news: bool,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("store")
    }
}

impl Shelf {
    pub(super) fn new(store: Box<dyn Store>) -> Self {
        Self {
            store,
            asker: ConnId(0),
            waiting: BTreeSet::new(),
            open: BTreeSet::new(),
            told: None,
            news: false,
        }
    }

    /// The store, for a connection's application.
    pub(super) fn of(&mut self, id: ConnId) -> &mut dyn Store {
        self.asker = id;
        self
    }

    /// The store has news.
    pub(super) const fn note_news(&mut self) {
        self.news = true;
    }

    /// Whether [`Self::tell`] has somebody to name, as far as is known.
    pub(super) const fn has_news(&self) -> bool {
        self.news || self.told.is_some()
    }

    /// The next connection that an answer of the store concerns. It waits for that answer no longer.
    pub(super) fn tell(&mut self) -> Option<ConnId> {
        loop {
            if let Some(question) = self.told {
                if let Some(id) = self.first(question) {
                    self.strike(question, id);
                    return Some(id);
                }
                self.told = None;
            }
            // Somebody's question may have been answered while others asked theirs.
            if !self.news && self.waiting.is_empty() {
                return None;
            }
            self.told = self.store.answered();
            self.news = self.told.is_some();
            self.told?;
        }
    }

    /// Whether a connection is called again when there is an answer.
    pub(super) fn awaits(&self, id: ConnId) -> bool {
        self.open.range((id, Question(0))..).next().is_some_and(|(waits, _)| *waits == id)
    }

    /// A connection is over: gives back what it holds, and asks for nothing any more.
    pub(super) fn close(&mut self, id: ConnId, app: &mut App) {
        app.close(self.store.as_mut());
        self.forget(id);
    }

    /// Nobody is to be told of what this connection asked.
    pub(super) fn forget(&mut self, id: ConnId) {
        while let Some(&(_, question)) =
            self.open.range((id, Question(0))..).next().filter(|(waits, _)| *waits == id)
        {
            self.strike(question, id);
            if self.first(question).is_none() {
                self.store.forget(question);
            }
        }
    }

    /// Nobody waits any more.
    pub(super) fn forget_all(&mut self) {
        self.waiting = BTreeSet::new();
        self.open = BTreeSet::new();
        self.told = None;
    }

    /// Whether both lists say the same, and name nobody who is gone.
    pub(super) fn audit(&self, exists: impl Fn(ConnId) -> bool) -> Result<(), String> {
        let same = self.open.iter().all(|(id, question)| self.waiting.contains(&(*question, *id)));
        if !same || self.open.len() != self.waiting.len() {
            return Err("the store's questions differ from those of the connections".to_owned());
        }
        match self.open.iter().find(|(id, _)| !exists(*id)) {
            Some((id, _)) => Err(format!("{id:?} is gone, and waits for the store")),
            None => Ok(()),
        }
    }

    fn first(&self, question: Question) -> Option<ConnId> {
        let (asked, id) = *self.waiting.range((question, ConnId(0))..).next()?;
        (asked == question).then_some(id)
    }

    fn strike(&mut self, question: Question, id: ConnId) {
        self.waiting.remove(&(question, id));
        self.open.remove(&(id, question));
    }

    /// The asker wants to be told when there is another answer.
    fn wait(&mut self) {
        let question = self.store.question();
        self.waiting.insert((question, self.asker));
        self.open.insert((self.asker, question));
    }
}

impl Store for Shelf {
    fn lookup(&mut self, root: u16, path: &str) -> Lookup {
        let answer = self.store.lookup(root, path);
        if answer == Lookup::Pending {
            self.wait();
        }
        answer
    }

    /// Who is told that the copy is another waits as well: for it to become right.
    fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified {
        let answer = self.store.verify(root, path, pinned);
        if !matches!(answer, Verified::Match(_)) {
            self.wait();
        }
        answer
    }

    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
        let answer = self.store.read(content, offset, into);
        if answer == Read::Pending {
            self.wait();
        }
        answer
    }

    fn release(&mut self, content: ContentId) {
        self.store.release(content);
    }

    fn hash(&mut self, content: ContentId) -> Option<[u8; 32]> {
        self.store.hash(content)
    }

    fn question(&mut self) -> Question {
        self.store.question()
    }

    fn answered(&mut self) -> Option<Question> {
        self.store.answered()
    }

    fn forget(&mut self, question: Question) {
        self.store.forget(question);
    }

    fn on_timer(&mut self, now: Instant) {
        self.store.on_timer(now);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, VecDeque};
    use std::rc::Rc;

    use super::*;
    use crate::service::{Edition, Env, Kind, Limits, MemoryStore, Patience};

    /// A store of which each path is a question of its own, answered when the test says so.
    #[derive(Default)]
    struct Slow {
        files: MemoryStore,
        asked: BTreeMap<String, Question>,
        known: Vec<String>,
        last: Option<Question>,
        serial: u64,
        told: VecDeque<Question>,
        forgotten: Vec<Question>,
        lookups: u64,
    }

    impl Slow {
        fn answer(&mut self, path: &str) {
            self.files.put(0, path, "content", 1);
            self.known.push(path.to_owned());
            self.told.extend(self.asked.remove(path));
        }
    }

    /// Shared with the test.
    #[derive(Default, Clone)]
    struct Shared(Rc<RefCell<Slow>>);

    impl Store for Shared {
        fn lookup(&mut self, root: u16, path: &str) -> Lookup {
            let slow = &mut *self.0.borrow_mut();
            slow.lookups += 1;
            if slow.known.iter().rev().any(|known| known == path) {
                return slow.files.lookup(root, path);
            }
            slow.serial += 1;
            let question = *slow.asked.entry(path.to_owned()).or_insert(Question(slow.serial));
            slow.last = Some(question);
            Lookup::Pending
        }

        fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified {
            self.0.borrow_mut().files.verify(root, path, pinned)
        }

        fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
            self.0.borrow_mut().files.read(content, offset, into)
        }

        fn release(&mut self, content: ContentId) {
            self.0.borrow_mut().files.release(content);
        }

        fn hash(&mut self, content: ContentId) -> Option<[u8; 32]> {
            self.0.borrow_mut().files.hash(content)
        }

        fn question(&mut self) -> Question {
            self.0.borrow_mut().last.take().expect("a question is open")
        }

        fn answered(&mut self) -> Option<Question> {
            self.0.borrow_mut().told.pop_front()
        }

        fn forget(&mut self, question: Question) {
            self.0.borrow_mut().forgotten.push(question);
        }
    }

    /// Connections that fetch, and the store that they ask.
    struct Crowd {
        slow: Shared,
        shelf: Shelf,
        apps: BTreeMap<ConnId, App>,
    }

    impl Crowd {
        fn new(paths: impl IntoIterator<Item = String>) -> Self {
            let slow = Shared::default();
            let mut crowd =
                Self { shelf: Shelf::new(Box::new(slow.clone())), slow, apps: BTreeMap::new() };
            for (id, path) in (1..).zip(paths) {
                let kind = Kind::Files { root: 0, patience: Patience::ENDLESS };
                let mut app = App::new(kind, &Limits::default());
                let request = format!("GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n");
                crowd.call(ConnId(id), &mut app, |app, env| app.on_input(request.as_bytes(), env));
                crowd.apps.insert(ConnId(id), app);
            }
            crowd
        }

        fn call(&mut self, id: ConnId, app: &mut App, what: impl FnOnce(&mut App, &mut Env<'_>)) {
            let store = self.shelf.of(id);
            let pins = &mut Vec::new();
            let mut env = Env { store, lead: true, pins, wall: 1, edition: Edition::Second };
            what(app, &mut env);
        }

        fn answer(&mut self, path: &str) {
            self.slow.0.borrow_mut().answer(path);
            self.shelf.note_news();
        }

        /// Calls whom the answers concern.
        fn tell(&mut self) -> Vec<u64> {
            let mut told = Vec::new();
            while let Some(id) = self.shelf.tell() {
                let mut app = self.apps.remove(&id).expect("it is there");
                self.call(id, &mut app, App::go_on);
                self.apps.insert(id, app);
                told.push(id.0);
            }
            self.shelf.audit(|id| self.apps.contains_key(&id)).expect("it adds up");
            told
        }

        fn lookups(&self) -> u64 {
            self.slow.0.borrow().lookups
        }
    }

    #[test]
    fn only_whom_an_answer_concerns_is_called() {
        let mut crowd = Crowd::new((0..5000).map(|n| format!("{n}")));
        assert_eq!(crowd.lookups(), 5000);
        for n in [4999_u64, 7] {
            crowd.answer(&format!("{n}"));
            assert_eq!(crowd.tell(), [n + 1]);
            assert!(!crowd.shelf.awaits(ConnId(n + 1)) && crowd.shelf.awaits(ConnId(n)));
        }
        for n in 0..5000 {
            crowd.answer(&format!("{n}"));
            crowd.tell();
        }
        assert_eq!(crowd.lookups(), 10_000, "each asks twice, however many wait");
        assert!(crowd.apps.values().all(|app| !app.awaits_store()), "nobody is forgotten");
        assert!(crowd.shelf.waiting.is_empty() && !crowd.shelf.has_news());
    }

    #[test]
    fn everybody_who_waits_for_one_answer_is_called_once() {
        let mut crowd = Crowd::new((0..5000).map(|n| format!("{}", n % 2)));
        crowd.answer("1");
        assert_eq!(crowd.tell().len(), 2500);
        assert_eq!(crowd.lookups(), 7500);
    }

    #[test]
    fn who_waits_reads_no_head_twice() {
        let mut crowd = Crowd::new(["a".to_owned()]);
        let mut app = crowd.apps.remove(&ConnId(1)).expect("it is there");
        for byte in b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n" {
            crowd.call(ConnId(1), &mut app, |app, env| app.on_input(&[*byte], env));
        }
        crowd.call(ConnId(1), &mut app, App::on_peer_finished);
        crowd.apps.insert(ConnId(1), app);
        assert_eq!(crowd.lookups(), 1, "what comes behind it changes nothing");
        crowd.answer("a");
        assert_eq!((crowd.tell(), crowd.lookups()), (vec![1], 3));
        crowd.answer("b");
        assert_eq!((crowd.tell(), crowd.lookups()), (vec![1], 4));
        assert!(crowd.apps[&ConnId(1)].finished(), "and the end of the input is not forgotten");
    }

    #[test]
    fn who_is_gone_is_not_called_and_its_question_is_taken_back() {
        let mut crowd = Crowd::new(["a", "b", "b"].map(str::to_owned));
        for id in [1, 2] {
            let mut app = crowd.apps.remove(&ConnId(id)).expect("it is there");
            crowd.shelf.close(ConnId(id), &mut app);
        }
        assert_eq!(crowd.slow.0.borrow().forgotten, [Question(1)], "somebody waits for the other");
        crowd.answer("a");
        crowd.answer("b");
        assert_eq!(crowd.tell(), [3]);
    }
}
