//! The control socket: one JSON object a line, both ways.
//!
//! ```text
//!   {"command":"status"}      →  {"ok":true,"age_ms":12,"status":{…}}
//!   {"command":"switchover"}  →  {"ok":true}   or   {"ok":false,"error":"no standby"}
//!   {"command":"switchover","force":true}   the same, also if connections are lost by it
//!   {"command":"capture-start","file":"/x.pcapng","size":67108864,"ring":4}
//!                             →  {"ok":true,"text":"…"}   size and ring may be left out
//!   {"command":"capture-stop"}  →  {"ok":true,"text":"…"}
//!   {"command":"backend","address":"192.0.2.21:80","state":"drain","weight":1,"relay":8080,"cut":true}
//!                             →  {"ok":true,"text":"…"}   one of state and weight, and what is left of the rest
//! ```
//!
//! Threads of their own serve it, so that a client that dawdles costs the data path nothing. The
//! status is a snapshot that the loop publishes; one that is older than the detection time is stale: the
//! loop does not turn, and what it last said of protection is true no more. What
//! changes something goes to the loop through a bounded channel, with a waker.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::capture::{self, CaptureSpec};
use super::clock::Clock;
use super::logging::warn_sparingly;
use crate::relay::{Admin, Order};
use crate::time::{Duration, Instant};

/// Clients at a time; more are turned away.
const CLIENTS_MAX: usize = 8;
/// Longest request line, in bytes.
const REQUEST_MAX: u64 = 4096;
/// How long a client may keep silent, or not read.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the loop may take to answer a command.
const LOOP_PATIENCE: Duration = Duration::from_secs(5);
/// Commands waiting for the loop.
const COMMANDS_MAX: usize = 16;
/// Longest answer that a client takes, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The published snapshot.
    Status,
    /// Hand the role to the peer.
    Switchover {
        /// Also if connections are lost by it.
        #[serde(skip_serializing_if = "core::ops::Not::not", default)]
        force: bool,
    },
    /// Begin a capture; see [`CaptureSpec::new`].
    CaptureStart {
        /// Where to, an absolute path on the engine's host.
        file: PathBuf,
        /// The most bytes of one file.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        size: Option<u64>,
        /// How many files are kept.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ring: Option<u32>,
    },
    /// End the capture.
    CaptureStop,
    /// Say what a backend is there for.
    Backend(BackendRequest),
}

/// What is to become of a backend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendRequest {
    /// Where it listens.
    pub address: SocketAddr,
    /// The port of the relay that is meant; without it, every one that has the backend.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub relay: Option<u16>,
    /// What it is to be there for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<BackendState>,
    /// Its share of new clients.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<u16>,
    /// Whether to end what it has.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub cut: bool,
}

/// What a backend is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendState {
    /// It gets clients.
    Ready,
    /// It gets no new ones.
    Drain,
    /// The same, and it is not checked.
    Maint,
}

impl BackendRequest {
    /// What the engine is told; the error is for a person.
    pub fn order(&self) -> Result<Order, String> {
        let Self { address, relay: port, state, weight, cut } = *self;
        if state.is_none() && weight.is_none() {
            return Err("a backend's state or weight is needed".into());
        }
        if cut && !matches!(state, Some(BackendState::Drain | BackendState::Maint)) {
            return Err("cut belongs to drain and maint: who is ready would get new clients".into());
        }
        let admin = state.map(|state| match state {
            BackendState::Ready => Admin::Ready,
            BackendState::Drain => Admin::Drain,
            BackendState::Maint => Admin::Maint,
        });
        Ok(Order { address: address.into(), port, admin, weight, cut })
    }
}

/// What a client is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Age of the snapshot in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_ms: Option<u64>,
    /// The snapshot is older than the detection time: the loop does not turn.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub stale: bool,
    /// What was done, in a line for a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// The snapshot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<serde_json::Value>,
}

impl Answer {
    const fn done() -> Self {
        Self { ok: true, error: None, age_ms: None, stale: false, text: None, status: None }
    }

    fn refused(error: impl Into<String>) -> Self {
        Self { ok: false, error: Some(error.into()), ..Self::done() }
    }
}

/// Something for the loop to do.
#[derive(Debug)]
pub enum Command {
    /// Hand the role to the peer; the answer says whether that has begun.
    Switchover {
        /// Also if connections are lost by it.
        force: bool,
        /// Where the answer goes. Never blocks; nobody may be waiting any more.
        reply: Sender<Result<(), String>>,
    },
    /// Begin a capture; the answer comes from the thread that writes it.
    CaptureStart {
        /// Into what.
        spec: CaptureSpec,
        /// Where the answer goes.
        reply: capture::Reply,
    },
    /// End the capture.
    CaptureStop {
        /// Where the answer goes, once all is written.
        reply: capture::Reply,
    },
    /// Say what a backend is there for; the answer comes when the standby knows it, too.
    Backend {
        /// What is to be done.
        order: Order,
        /// Where the answer goes. Never blocks; nobody may be waiting any more.
        reply: Sender<Result<String, String>>,
    },
}

/// The snapshot that the loop publishes.
type Published<S> = Mutex<Option<(Instant, S)>>;
/// What there is instead as long as there is no loop.
type Waiting = Mutex<String>;

/// The loop's end. The socket's file goes with it.
#[derive(Debug)]
pub struct Control<S> {
    published: Arc<Published<S>>,
    waiting: Arc<Waiting>,
    commands: Receiver<Command>,
    path: PathBuf,
}

impl<S: Serialize + Clone + Send + 'static> Control<S> {
    /// Opens the socket at `path` and serves it. Only its owner can connect. A socket that a dead
    /// engine left behind is replaced, a live one is an error.
    /// A snapshot is stale once it is older than `fresh`.
    pub fn open(path: &Path, waker: Arc<Waker>, fresh: Duration) -> io::Result<Self> {
        let listener = listen(path)?;
        let published = Arc::new(Mutex::new(None));
        let (sender, commands) = bounded(COMMANDS_MAX);
        let waiting = Arc::new(Mutex::new(String::new()));
        let office = Office {
            published: Arc::clone(&published),
            waiting: Arc::clone(&waiting),
            commands: sender,
            waker,
            fresh,
        };
        thread::Builder::new().name("control".into()).spawn(move || office.serve(&listener))?;
        Ok(Self { published, waiting, commands, path: path.to_owned() })
    }

    /// There is no engine yet: it waits for what `lacking` says.
    pub fn wait_for(&self, lacking: &str) {
        lacking.clone_into(&mut self.waiting.lock());
    }

    /// Makes `status` what clients see from now on.
    pub fn publish(&self, now: Instant, status: S) {
        *self.published.lock() = Some((now, status));
    }

    /// The next command, if there is one.
    #[must_use]
    pub fn next_command(&self) -> Option<Command> {
        self.commands.try_recv().ok()
    }
}

impl<S> Drop for Control<S> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The threads' end.
struct Office<S> {
    published: Arc<Published<S>>,
    waiting: Arc<Waiting>,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    fresh: Duration,
}

impl<S: Serialize + Clone + Send + 'static> Office<S> {
    fn serve(self, listener: &UnixListener) {
        let office = Arc::new(self);
        let clients = Arc::new(AtomicUsize::new(0));
        for client in listener.incoming() {
            let client = match client {
                Ok(client) => client,
                Err(error) => {
                    // Out of descriptors, most likely: waiting is all that helps.
                    warn_sparingly("control", format_args!("control socket: {error}"));
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if clients.load(Ordering::Relaxed) >= CLIENTS_MAX {
                let _ = answer(&client, &Answer::refused("too many clients"));
                continue;
            }
            clients.fetch_add(1, Ordering::Relaxed);
            let (office, count) = (Arc::clone(&office), Arc::clone(&clients));
            let spawned = thread::Builder::new().name("control client".into()).spawn(move || {
                if let Err(error) = office.attend(&client) {
                    log::debug!("control client: {error}");
                }
                count.fetch_sub(1, Ordering::Relaxed);
            });
            if spawned.is_err() {
                clients.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// One client, until it leaves.
    fn attend(&self, client: &UnixStream) -> io::Result<()> {
        client.set_read_timeout(Some(CLIENT_PATIENCE))?;
        client.set_write_timeout(Some(CLIENT_PATIENCE))?;
        let mut lines = BufReader::new(client);
        loop {
            let mut line = String::new();
            let length = lines.by_ref().take(REQUEST_MAX).read_line(&mut line)?;
            if length == 0 {
                return Ok(());
            }
            if !line.ends_with('\n') && length as u64 == REQUEST_MAX {
                return answer(client, &Answer::refused("the request is too long"));
            }
            answer(client, &self.handle(&line))?;
        }
    }

    fn handle(&self, line: &str) -> Answer {
        match serde_json::from_str(line) {
            Ok(Request::Status) => self.status(),
            Ok(Request::Switchover { force }) => {
                self.ask_loop(|reply| Command::Switchover { force, reply }, |()| None)
            }
            Ok(Request::CaptureStart { file, size, ring }) => self.start_capture(file, size, ring),
            Ok(Request::CaptureStop) => self.ask_loop(|reply| Command::CaptureStop { reply }, Some),
            Ok(Request::Backend(request)) => match request.order() {
                Ok(order) => self.ask_loop(|reply| Command::Backend { order, reply }, Some),
                Err(why) => Answer::refused(why),
            },
            Err(error) => Answer::refused(format!("not a request: {error}")),
        }
    }

    fn status(&self) -> Answer {
        // Copied out under the lock, written outside of it: the loop publishes into the same.
        let Some((at, status)) = self.published.lock().clone() else {
            return self.not_begun().unwrap_or_else(|| Answer::refused("no status yet"));
        };
        match serde_json::to_value(status) {
            Ok(mut status) => {
                let age = Clock.now().since(at);
                let (age_ms, stale) = (millis(age), age > self.fresh);
                if stale {
                    disown(&mut status, age);
                }
                Answer { age_ms: Some(age_ms), stale, status: Some(status), ..Answer::done() }
            }
            Err(error) => Answer::refused(error.to_string()),
        }
    }

    /// What everybody is told as long as the engine waits for its host.
    fn not_begun(&self) -> Option<Answer> {
        let lacking = self.waiting.lock().clone();
        let waits = !lacking.is_empty() && self.published.lock().is_none();
        waits.then(|| Answer::refused(format!("the engine has not begun, it waits: {lacking}")))
    }

    fn start_capture(&self, file: PathBuf, size: Option<u64>, ring: Option<u32>) -> Answer {
        if !file.is_absolute() {
            return Answer::refused("the path of a capture is absolute");
        }
        match CaptureSpec::new(file, size, ring) {
            Ok(spec) => self.ask_loop(|reply| Command::CaptureStart { spec, reply }, Some),
            Err(why) => Answer::refused(why),
        }
    }

    /// Gives the loop a command and waits for what comes of it; `text` makes that the answer's.
    fn ask_loop<T>(
        &self,
        command: impl FnOnce(Sender<Result<T, String>>) -> Command,
        text: impl FnOnce(T) -> Option<String>,
    ) -> Answer {
        if let Some(answer) = self.not_begun() {
            return answer;
        }
        let (reply, result) = bounded(1);
        if self.commands.try_send(command(reply)).is_err() {
            return Answer::refused("the engine is busy");
        }
        if let Err(error) = self.waker.wake() {
            return Answer::refused(error.to_string());
        }
        match result.recv_timeout(LOOP_PATIENCE) {
            Ok(Ok(done)) => Answer { text: text(done), ..Answer::done() },
            Ok(Err(why)) => Answer::refused(why),
            Err(_) => Answer::refused("the engine does not answer"),
        }
    }
}

/// Nobody vouches for what a loop that does not turn last said.
fn disown(status: &mut serde_json::Value, age: Duration) {
    if let Some(fields) = status.as_object_mut() {
        let why = format!("the engine's loop has not turned for {} ms", millis(age));
        fields.insert("protected".into(), false.into());
        fields.insert("why".into(), vec![why].into());
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn answer(mut client: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    client.write_all(&line)
}

/// Binds under a passing name and moves the socket into place once nobody else can connect: the
/// permissions are never wider, and a stale socket is replaced in one step.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another engine serves this control socket",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            use std::os::unix::fs::FileTypeExt as _;
            if !fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket"));
            }
        }
        Err(error) => return Err(error),
    }
    let mut passing = path.as_os_str().to_owned();
    passing.push("~");
    let passing = PathBuf::from(passing);
    match fs::remove_file(&passing) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&passing)?;
    fs::set_permissions(&passing, fs::Permissions::from_mode(0o600))?;
    fs::rename(&passing, path)?;
    Ok(listener)
}

/// The client's side: asks one thing at `path`, and waits for so long. `TimedOut`: there was no answer.
///
/// A thread of its own asks: to connect blocks, too, once a stopped engine has enough clients waiting.
pub fn ask(path: &Path, request: &Request, patience: Duration) -> io::Result<Answer> {
    let (reply, result) = bounded(1);
    let (path, request) = (path.to_owned(), request.clone());
    thread::Builder::new().name("asking".into()).spawn(move || {
        // The requester may have gone.
        let _ = reply.send(ask_at_length(&path, &request, patience));
    })?;
    match result.recv_timeout(patience) {
        Ok(answer) => answer.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        }),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn ask_at_length(path: &Path, request: &Request, patience: Duration) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};
    use serde_json::json;

    use super::*;

    #[derive(Clone, Serialize)]
    struct Status {
        role: &'static str,
    }

    fn path(name: &str) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("standin-control-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory.join("a.sock")
    }

    fn open(path: &Path) -> (Poll, io::Result<Control<Status>>) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        (poll, Control::open(path, waker, Duration::from_secs(60)))
    }

    fn raw(path: &Path, line: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(line).unwrap();
        let mut text = String::new();
        BufReader::new(stream).read_line(&mut text).unwrap();
        text
    }

    fn asked(path: &Path, request: &Request) -> Answer {
        ask(path, request, Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn a_status_that_nobody_vouches_for_any_more_protects_nothing() {
        let path = path("old");
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let fresh = Duration::from_millis(1);
        let control: Control<serde_json::Value> = Control::open(&path, waker, fresh).unwrap();
        control.publish(Clock.now(), json!({ "protected": true, "why": [], "epoch": 2 }));
        thread::sleep(Duration::from_millis(20));
        let answer = asked(&path, &Request::Status);
        let age = answer.age_ms.unwrap();
        let why = format!("the engine's loop has not turned for {age} ms");
        let status = json!({ "protected": false, "why": [why], "epoch": 2 });
        let stale =
            Answer { age_ms: Some(age), stale: true, status: Some(status), ..Answer::done() };
        assert_eq!(answer, stale);
    }

    #[test]
    fn an_engine_that_is_stopped_keeps_nobody_waiting() {
        let path = path("stopped");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The kernel takes connections for it, until nobody can connect any more.
        let listener = UnixListener::bind(&path).unwrap();
        let short = Duration::from_millis(50);
        for _ in 0..2 {
            let error = ask(&path, &Request::Status, short).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        drop(listener);
        let error = ask(&path, &Request::Status, short).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn status_is_what_the_loop_published_last() {
        let path = path("status");
        let (_poll, control) = open(&path);
        let control = control.unwrap();
        assert_eq!(
            raw(&path, b"{\"command\":\"status\"}\n"),
            "{\"ok\":false,\"error\":\"no status yet\"}\n"
        );
        control.publish(Clock.now(), Status { role: "standby" });
        control.publish(Clock.now(), Status { role: "primary" });
        let answer = asked(&path, &Request::Status);
        assert!(answer.age_ms.is_some_and(|age| age < 60_000));
        assert_eq!(
            answer,
            Answer {
                age_ms: answer.age_ms,
                status: Some(json!({ "role": "primary" })),
                ..Answer::done()
            }
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn switchover_is_the_loops_to_answer() {
        let path = path("switchover");
        let (mut poll, control) = open(&path);
        let control = control.unwrap();
        let asking = thread::spawn({
            let path = path.clone();
            move || [false, true].map(|force| asked(&path, &Request::Switchover { force }))
        });
        for (result, expected) in [(Ok(()), false), (Err("no standby".to_owned()), true)] {
            let mut events = Events::with_capacity(4);
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "the waker wakes");
            let Some(Command::Switchover { force, reply }) = control.next_command() else {
                panic!("a command")
            };
            assert_eq!(force, expected);
            reply.try_send(result).unwrap();
        }
        assert_eq!(asking.join().unwrap(), [Answer::done(), Answer::refused("no standby")]);
    }

    #[test]
    fn a_capture_is_begun_and_ended_by_whom_the_loop_hands_it_to() {
        let path = path("capture");
        let (mut poll, control) = open(&path);
        let control = control.unwrap();
        let start =
            |file: &str, size| Request::CaptureStart { file: file.into(), size, ring: None };
        let refused = |file, size| asked(&path, &start(file, size)).error.unwrap();
        assert_eq!(refused("c", None), "the path of a capture is absolute");
        assert_eq!(refused("/c", Some(3)), "a capture file has 1.0 MiB to 1.0 TiB, not 3 B");
        let asking = thread::spawn({
            let path = path.clone();
            let start = start("/c", Some(1 << 20));
            move || [start, Request::CaptureStop].map(|request| asked(&path, &request))
        });
        for _ in 0..2 {
            let mut events = Events::with_capacity(4);
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            match control.next_command() {
                Some(Command::CaptureStart { spec, reply }) => {
                    assert_eq!(
                        (spec.file(), spec.size(), spec.ring()),
                        (Path::new("/c"), 1 << 20, 1)
                    );
                    reply.try_send(Ok("begun".into())).unwrap();
                }
                Some(Command::CaptureStop { reply }) => reply.try_send(Err("none".into())).unwrap(),
                other => panic!("{other:?}"),
            }
        }
        let begun = Answer { text: Some("begun".into()), ..Answer::done() };
        assert_eq!(asking.join().unwrap(), [begun, Answer::refused("none")]);
    }

    #[test]
    fn nonsense_is_answered_and_bounded() {
        let path = path("nonsense");
        let (_poll, control) = open(&path);
        let _control = control.unwrap();
        assert_eq!(
            raw(&path, b"{\"command\":\"explode\"}\n"),
            "{\"ok\":false,\"error\":\"not a request: unknown variant `explode`, expected \
             one of `status`, `switchover`, `capture-start`, `capture-stop`, `backend` at line \
             1 column 20\"}\n"
        );
        let long = [b'x'; 4096];
        assert_eq!(raw(&path, &long), "{\"ok\":false,\"error\":\"the request is too long\"}\n");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = path("stale");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead engine leaves its socket");
        let (_poll, control) = open(&path);
        let control = control.unwrap();
        let (_poll, second) = open(&path);
        assert_eq!(
            second.err().map(|error| error.to_string()).as_deref(),
            Some("another engine serves this control socket")
        );
        drop(control);
        assert!(!path.exists());
    }
}
