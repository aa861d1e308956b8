//! The host is watched: what others change behind the engine's back is put back, followed, or told.
//!
//! A thread of its own hears of changes by netlink, looks at the host once a second besides (not
//! everything is notified), puts right what it can, and posts the rest to the loop. The loop waits
//! for none of it, so neither containers that come and go by the thousand nor a slow kernel cost a
//! beat.
//!
//! * `view`: what the host is like, what is wrong with it, what can be done; pure.
//! * `look`: reads it from the kernel. `patience`: how often something is put back.
//! * `trial`: a packet of our own through the peer's forwarding.
//!
//! Two things are done by the loop when it is told: the host routes, since only the loop knows for
//! certain that this node still has the address (I3), and what hangs on its own sockets.

mod look;
mod patience;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
mod trial;
mod view;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token, Waker};

use super::clock::Clock;
use super::lan::Lan;
use super::netlink::{Concern, Events, Link, Netlink};
use super::sys::OsError;
use super::{sysctl, tun};
use crate::engine::Obstacle;
use crate::time::{Duration, Instant};

use look::Refusals;
use patience::{Judgement, Patience};
use trial::Trier;
pub(super) use trial::is_trial;
use view::{Fault, Wanted, faults};

/// News that may wait for the loop, which takes all of them every turn.
const QUEUE: usize = 64;
/// From one look at everything to the next, when nothing is heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same for the trial of the routes, of which all who follow routes hear.
const TRY_EVERY: Duration = Duration::from_secs(30);
/// The least time between two, however much is heard.
const LOOK_GAP: Duration = Duration::from_millis(20);

/// From one trial packet to the next.
const SEND_EVERY: Duration = Duration::from_millis(500);
/// As many of them as do not arrive in this time are not lost by accident.
const BARRED_AFTER: Duration = Duration::from_secs(3);

const EVENTS: Token = Token(0);
const KICK: Token = Token(1);

/// What to watch.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The LAN interface as configured and as found at the start.
    pub lan: Link,
    /// The name and number of the TUN device.
    pub tun: (String, u32),
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// This node's own address on the LAN and the peer's.
    pub own: Option<(IpAddr, IpAddr)>,
    /// This node's address on the replication network.
    pub replication: Option<IpAddr>,
    /// A port on which the service answers.
    pub port: u16,
}

/// What the loop has to know.
#[derive(Debug)]
pub enum News {
    /// The LAN interface lost or regained its carrier. One that is gone has none.
    Carrier(bool),
    /// The LAN interface is another than it was.
    Lan {
        /// What it is like now.
        link: Link,
        /// A new packet socket on it, where the old one hears nothing any more.
        socket: Option<Lan>,
    },
    /// The interface of the replication address lost or regained its carrier.
    Cable(bool),
    /// A host route that is to be there is not.
    RouteGone,
    /// All that keeps this host from carrying the service; empty for nothing.
    Obstacles(Vec<Obstacle>),
}

/// The loop's end.
#[derive(Debug)]
pub struct Watch {
    news: Option<Receiver<News>>,
    /// Sockets that the loop is done with. To close one takes long.
    retired: Option<Sender<Lan>>,
    owner: Arc<AtomicBool>,
    trials: Arc<Trials>,
    stop: Arc<AtomicBool>,
    kick: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// What the loop says of trial packets, in nanoseconds of the clock.
#[derive(Debug, Default)]
struct Trials {
    /// Since when the peer is heard on the LAN and is known to send them; 0 if it is not.
    expected: AtomicU64,
    /// When the last one came.
    heard: AtomicU64,
}

impl Trials {
    /// Whether they should have come.
    fn are_barred(&self, now: Instant) -> bool {
        let expected = self.expected.load(Ordering::Acquire);
        let last = Instant::from_nanos(expected.max(self.heard.load(Ordering::Acquire)));
        expected != 0 && now.since(last) > BARRED_AFTER
    }
}

impl Watch {
    /// Looks at the host once, so that the first news are there when this returns, and goes on in a
    /// thread. `waker` is the loop's.
    pub fn start(watched: Watched, waker: Arc<Waker>) -> Result<Self, OsError> {
        let failed = |error| OsError::new("watch the host", error);
        let poll = Poll::new().map_err(failed)?;
        let kick = Arc::new(Waker::new(poll.registry(), KICK).map_err(failed)?);
        let events = Events::open()?;
        let fd = events.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), EVENTS, Interest::READABLE).map_err(failed)?;
        let (post, news) = bounded(QUEUE);
        let (retired, tray) = bounded(QUEUE);
        let (owner, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let trials = Arc::new(Trials::default());
        let trier = watched.own.map(|(own, peer)| Trier::new(own, peer, watched.port));
        let mut guard = Guard {
            trier: trier.transpose()?,
            send_at: Instant::ZERO,
            expected: Arc::clone(&trials),
            wanted: Wanted {
                lan: watched.lan.clone(),
                tun: watched.tun,
                addresses: watched.addresses,
                own: watched.own,
                replication: watched.replication,
                owner: false,
                rules: true,
            },
            configured: watched.lan.name,
            here: true,
            deaf: false,
            carrier: None,
            cable: true,
            told: Vec::new(),
            patience: Patience::default(),
            netlink: Netlink::open()?,
            events,
            poll,
            post,
            tray,
            waker,
            owner: Arc::clone(&owner),
            stop: Arc::clone(&stop),
            refusals: Refusals::new(),
            try_at: Instant::ZERO,
            looked: Instant::ZERO,
            look_at: Instant::ZERO,
        };
        guard.add_rules();
        // The loop is not there yet, and the queue has room for what can come of one look.
        if guard.turn().is_err() {
            return Err(OsError::new("watch the host", io::ErrorKind::BrokenPipe.into()));
        }
        let spawned = thread::Builder::new().name("watch".into()).spawn(move || guard.serve());
        let thread = spawned.map_err(failed)?;
        let (news, retired, thread) = (Some(news), Some(retired), Some(thread));
        Ok(Self { news, retired, owner, trials, stop, kick, thread })
    }

    /// The next of the news.
    pub fn next(&self) -> Option<News> {
        self.news.as_ref()?.try_recv().ok()
    }

    /// Whether this node has the service addresses. To be told before their routes go, and before
    /// they come.
    pub fn owns(&self, owner: bool) {
        self.owner.store(owner, Ordering::Release);
    }

    /// Whether the peer is known to send trial packets and is heard on the LAN; `now` and then.
    pub fn expects_trials(&self, now: Instant, expected: bool) {
        let expected = if expected { now.as_nanos() } else { 0 };
        let before = self.trials.expected.load(Ordering::Acquire);
        if (before == 0) != (expected == 0) {
            self.trials.expected.store(expected, Ordering::Release);
        }
    }

    /// A trial packet came through the TUN.
    pub fn on_trial(&self, now: Instant) {
        self.trials.heard.store(now.as_nanos(), Ordering::Release);
    }

    /// Takes over a socket that is not needed any more. If there is no room it is closed here.
    pub fn retire(&self, lan: Lan) {
        if let Some(retired) = &self.retired {
            drop(retired.try_send(lan));
            self.wake_up();
        }
    }

    fn wake_up(&self) {
        if let Err(error) = self.kick.wake() {
            log::debug!("the watching thread cannot be woken: {error}");
        }
    }
}

/// When this returns nothing is put back any more: the host is about to be put in order.
impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A thread that waits for room in the queue must not wait for us.
        self.news = None;
        self.retired = None;
        self.wake_up();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the watching thread has failed");
        }
    }
}

/// The loop is gone.
struct Gone;

/// The thread's end.
struct Guard {
    trier: Option<Trier>,
    send_at: Instant,
    expected: Arc<Trials>,
    wanted: Wanted,
    /// The name in the configuration, under which an interface that was deleted comes back.
    configured: String,
    /// Whether the LAN interface is there.
    here: bool,
    /// The packet socket hears nothing any more.
    deaf: bool,
    /// As last posted.
    carrier: Option<bool>,
    cable: bool,
    told: Vec<Obstacle>,
    patience: Patience,
    netlink: Netlink,
    events: Events,
    poll: Poll,
    post: Sender<News>,
    tray: Receiver<Lan>,
    waker: Arc<Waker>,
    owner: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    refusals: Refusals,
    try_at: Instant,
    looked: Instant,
    look_at: Instant,
}

impl Guard {
    fn serve(mut self) {
        let mut events = mio::Events::with_capacity(8);
        while !self.stop.load(Ordering::Acquire) {
            while self.tray.try_recv().is_ok() {}
            let timeout = self.look_at.min(self.send_at).until(Clock.now());
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    log::error!("the host is not watched any more: poll: {error}");
                    return;
                }
                _ => {}
            }
            if self.stop.load(Ordering::Acquire) || self.turn().is_err() {
                return;
            }
        }
    }

    /// Hears what there is to hear, and looks if it is time.
    fn turn(&mut self) -> Result<(), Gone> {
        let concern = Concern {
            interfaces: vec![self.wanted.lan.index, self.wanted.tun.1],
            new_interfaces: !self.here,
            addresses: self.wanted.addresses.clone(),
        };
        let (changes, more) = self.events.read(&concern).unwrap_or_else(|error| {
            // It is looked at everything once a second in any case.
            log::debug!("changes of the host: {error}");
            Default::default()
        });
        if changes.links {
            self.look_at_lan()?;
        }
        if changes.any() {
            self.look_at = self.look_at.min(self.looked + LOOK_GAP);
            self.try_at = Instant::ZERO;
        }
        if more {
            // The poll tells of what comes, not of what is there.
            self.look_again_within(Duration::ZERO);
        }
        let now = Clock.now();
        if now >= self.send_at {
            self.send_at = now + SEND_EVERY;
            if let Some(trier) = self.trier.as_mut().filter(|_| self.here) {
                trier.send(&mut self.netlink, &self.wanted.lan, &self.wanted.addresses);
            }
        }
        if now >= self.look_at {
            self.look()?;
        }
        Ok(())
    }

    /// Those that `HostSetup` has not made; with them it takes them away.
    fn add_rules(&mut self) {
        for rule in self.wanted.needed_rules(&self.wanted.lan.name) {
            if let Err(error) = self.netlink.add_rule(&rule) {
                log::debug!("{error}");
            }
        }
    }

    fn look_again_within(&mut self, time: Duration) {
        self.look_at = self.look_at.min(Clock.now() + time);
    }

    fn post(&self, news: News) -> Result<(), Gone> {
        self.post.send(news).map_err(|_| Gone)?;
        if let Err(error) = self.waker.wake() {
            log::error!("the loop cannot be woken: {error}");
        }
        Ok(())
    }

    /// The LAN interface, which is looked at first: its carrier decides who serves.
    fn look_at_lan(&mut self) -> Result<Option<Link>, Gone> {
        let last = self.wanted.lan.clone();
        let names = [self.configured.as_str(), last.name.as_str()];
        let lan = match look::find_lan(&mut self.netlink, last.index, &names) {
            Ok(lan) => lan,
            Err(error) => {
                log::debug!("{error}");
                return Ok(Some(last));
            }
        };
        let carrier = lan.as_ref().is_some_and(|lan| lan.carrier);
        if self.carrier != Some(carrier) {
            self.carrier = Some(carrier);
            self.post(News::Carrier(carrier))?;
        }
        match &lan {
            None => {
                if core::mem::replace(&mut self.here, false) {
                    log::warn!("the LAN interface {} is gone", last.name);
                }
                self.deaf = true;
            }
            Some(link) => self.follow(&last, link)?,
        }
        Ok(lan)
    }

    /// Follows the interface from what it was to what it is.
    fn follow(&mut self, last: &Link, link: &Link) -> Result<(), Gone> {
        let came_back = !core::mem::replace(&mut self.here, true);
        if came_back || link.index != last.index {
            log::warn!("the LAN interface {} is there again, number {}", link.name, link.index);
        } else if link.name != last.name {
            log::warn!("the LAN interface {} is called {} now", last.name, link.name);
        }
        if link.mtu != last.mtu {
            log::warn!("the MTU of {} is {} now, it was {}", link.name, link.mtu, last.mtu);
        }
        // Interfaces that go down, or are too small for IPv6 for a time, forget who listens.
        self.deaf |= link.index != last.index || (link.up && !last.up) || link.mtu > last.mtu;
        let changed = (link.index, &link.name, link.mac, link.mtu)
            != (last.index, &last.name, last.mac, last.mtu);
        if link.name != last.name {
            self.drop_rules_of(&last.name);
        }
        self.wanted.lan = link.clone();
        if !changed && !self.deaf {
            return Ok(());
        }
        let socket = if self.deaf && link.up { self.listen(link) } else { None };
        if changed || socket.is_some() {
            self.post(News::Lan { link: link.clone(), socket })?;
        }
        Ok(())
    }

    fn listen(&mut self, link: &Link) -> Option<Lan> {
        match Lan::open_on(link, &self.wanted.addresses) {
            Ok(socket) => {
                self.deaf = false;
                Some(socket)
            }
            Err(error) => {
                log::debug!("not yet: {error}");
                None
            }
        }
    }

    /// The rules under the interface's old name; those under the new one will be found missing.
    fn drop_rules_of(&mut self, name: &str) {
        for rule in self.wanted.needed_rules(name) {
            if let Err(error) = self.netlink.delete_rule(&rule) {
                log::debug!("{error}");
            }
        }
    }

    /// Looks at everything, puts right what can be, and tells what cannot.
    fn look(&mut self) -> Result<(), Gone> {
        let now = Clock.now();
        self.looked = now;
        self.look_at = now + LOOK_EVERY;
        self.wanted.owner = self.owner.load(Ordering::Acquire);
        let lan = self.look_at_lan()?;
        let mut found = self.find(now, lan.clone());
        // What is put right can show, or hide, something else.
        if self.mend(now, &found)? {
            self.try_at = now;
            found = self.find(now, lan);
            self.mend(now, &found)?;
        }
        self.tell(now, &found)?;
        self.look_at_cable()?;
        self.patience.forget(now);
        if let Some(deadline) = self.patience.deadline(now) {
            self.look_at = self.look_at.min(deadline);
        }
        Ok(())
    }

    /// The replication network, without which there is no standby.
    fn look_at_cable(&mut self) -> Result<(), Gone> {
        let address = self.wanted.replication;
        let carrier = address.and_then(|address| look::carrier_at(&mut self.netlink, address));
        match carrier {
            Some(carrier) if carrier != self.cable => {
                self.cable = carrier;
                self.post(News::Cable(carrier))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn find(&mut self, now: Instant, lan: Option<Link>) -> Vec<Fault> {
        let mut view = look::look(&mut self.netlink, &self.wanted, lan);
        if let Some(tun) = view.tun.as_ref().filter(|tun| tun.name != self.wanted.tun.0) {
            log::warn!("the TUN device {} is called {} now", self.wanted.tun.0, tun.name);
            self.wanted.tun.0.clone_from(&tun.name);
        }
        // A device that is down takes no routes, and is taken up first.
        if now >= self.try_at && view.tun.as_ref().is_some_and(|tun| tun.up) {
            self.try_at = now + TRY_EVERY;
            self.refusals = look::try_routes(&mut self.netlink, &self.wanted);
        }
        view.trials.clone_from(&self.refusals);
        view.barred = self.expected.are_barred(now);
        faults(&self.wanted, &view)
    }

    /// Puts right what may be tried now; whether anything was.
    fn mend(&mut self, now: Instant, found: &[Fault]) -> Result<bool, Gone> {
        let mut mended = false;
        for fault in found.iter().filter(|fault| fault.is_ours()) {
            // The second look of the same moment finds what waits for the loop.
            let Judgement::Try(number) = self.patience.judge(now, fault) else { continue };
            match self.put_right(fault)? {
                Ok(()) => {
                    mended = true;
                    let again = if number > 1 { ", which something takes away again" } else { "" };
                    log::warn!("put back: {fault}{again}");
                }
                Err(error) => {
                    self.patience.failed(fault);
                    log::warn!("{fault} cannot be put back: {error}");
                }
            }
        }
        Ok(mended)
    }

    fn put_right(&mut self, fault: &Fault) -> Result<Result<(), OsError>, Gone> {
        let Wanted { lan, tun: (_, tun), .. } = &self.wanted;
        Ok(match fault {
            Fault::TunDown | Fault::TunMtu => {
                self.netlink.configure_link(*tun, lan.mtu, tun::QUEUE_LEN)
            }
            Fault::Setting(setting) => sysctl::write(&setting.path, setting.value),
            Fault::RuleMissing(rule) => {
                let outcome = self.netlink.add_rule(rule);
                if outcome.as_ref().is_err_and(|e| e.errno() == Some(libc::EOPNOTSUPP)) {
                    self.wanted.rules = false;
                }
                outcome
            }
            Fault::RouteMissing(_) => {
                self.post(News::RouteGone)?;
                Ok(())
            }
            _ => Ok(()),
        })
    }

    /// Tells the loop if anything is in the way that was not, or is no more.
    fn tell(&mut self, now: Instant, found: &[Fault]) -> Result<(), Gone> {
        let lasting =
            found.iter().filter(|fault| !fault.is_ours() || self.patience.is_told(now, fault));
        let mut obstacles: Vec<Obstacle> = Vec::new();
        for obstacle in lasting.filter_map(|fault| fault.obstacle(&self.wanted)) {
            if !obstacles.contains(&obstacle) {
                obstacles.push(obstacle);
            }
        }
        if obstacles == self.told {
            return Ok(());
        }
        self.told.clone_from(&obstacles);
        self.post(News::Obstacles(obstacles))
    }
}
