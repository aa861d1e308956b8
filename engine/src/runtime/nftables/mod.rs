//! The engine's own packet rules: it looks like a host, and this host does not become a router.
//!
//! The kernel *forwards* what is for the service address, from the LAN into the TUN and back. Two
//! things about forwarding would show, and a table of nf_tables, named after the TUN, mends them:
//!
//! * **TTL and hop limit.** A router takes one off, and refuses what has one left. A host does not.
//!   nf_tables cannot add, but it can look up: what is low is raised before the kernel forwards it, if
//!   its route leads into the TUN, and the rest is raised after that. So everything arrives with what
//!   it was sent with, and a packet that has not come through the TUN is aged as ever: strays that two
//!   hosts send each other die.
//!
//!   ```text
//!              before    forwarding    after
//!       1 ───► 2 ──────────► 1 ─────────────────► 1      up to LOW: raised before
//!      64 ─────────────────► 63 ────► 64 ───────► 64     above: raised after (LOW + 1 arrives as LOW)
//!     255 ─────────────────► 254 ───► 255 ──────► 255    what only a neighbour can send, RFC 5082
//!   ```
//! * **Routing.** Where the engine had to switch forwarding on, the LAN could reach every other
//!   network of this host. So of what the LAN sends only what is for a service address is forwarded.
//!   A host that forwarded before is a router by somebody's will, and stays one. One that somebody makes
//!   a router later (container managers do) is let: for IPv4 the switch for all interfaces tells. The
//!   one for IPv6 is on already.
//!
//! The table belongs to this process (`NFT_TABLE_F_OWNER`): nobody can change it by mistake, also not a
//! firewall that flushes all rules when it is loaded. Where the kernel can (Linux 6.9), it outlives a
//! crash, since the setting that it guards does; the next start, or the last engine to stop, removes
//! it. On a kernel without nf_tables the engine runs, and says what does not hold.

mod message;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use parking_lot::Mutex;

use self::message::{
    ADDRESSES, Attributes, Batch, DELETE_RULE, DELETE_TABLE, Expressions, Family, GET_CHAIN,
    GET_ELEMENTS, GET_RULE, GET_SET, Is, Meta, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, NEW_SET,
    NEW_TABLE, RAISED, Verdict, attributes, dump, elements, interface, messages, octets,
};
use super::netlink::TUN_GROUP;
use super::sysctl::{self, ipv4};

/// The kernel answers at once; an answer that is this late will not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers are small, and a dump comes in pieces of at most this.
const BUFFER_LEN: usize = 64 * 1024;
/// TTLs up to this are raised before the kernel forwards, those above after it.
const LOW: u8 = 15;

/// How soon it is noticed that somebody has made a router of this host.
const ROUTER_POLL: Duration = Duration::from_secs(1);

const OWNER: u32 = 2;
const PERSIST: u32 = 4;

/// Before the kernel decides on a packet's way.
const PREROUTING: (u32, i32) = (0, -300);
/// Before the host's own rules on forwarding, which come at 0.
const FORWARD: (u32, i32) = (2, -10);
const POSTROUTING: (u32, i32) = (4, 300);

/// What the rules are about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// The name of the TUN device, and of the table.
    pub(super) tun: String,
    /// The name of the LAN interface.
    pub(super) lan: String,
    /// The service addresses of every engine on this host.
    pub(super) addresses: Vec<IpAddr>,
    /// IPv4 packets from the LAN are forwarded to service addresses alone.
    pub(super) close_ipv4: bool,
    /// IPv6 packets are forwarded to service addresses alone.
    pub(super) close_ipv6: bool,
}

/// The rules, in place; removed by [`remove`], or on most kernels with the process.
#[derive(Debug)]
pub(super) struct Rules {
    /// The table belongs to the process that has this socket.
    _socket: Arc<Mutex<Socket>>,
    /// Why TTLs are not mended.
    pub(super) ages: Option<io::Error>,
}

impl Rules {
    /// Puts the rules in place, instead of those that an engine of this name left.
    pub(super) fn install(plan: &Plan) -> io::Result<Self> {
        remove(&plan.tun)?;
        let mut why = None;
        for ttl in [true, false] {
            // Newest kernels first: what they know and older ones do not is refused as a whole.
            for flags in [OWNER | PERSIST, OWNER, 0] {
                let socket = open()?;
                match carry_out(&socket, &table(plan, flags, ttl)) {
                    Ok(()) => {
                        let socket = Arc::new(Mutex::new(socket));
                        if plan.close_ipv4 {
                            yield_to_router(&socket, plan)?;
                        }
                        return Ok(Self { _socket: socket, ages: why.filter(|_| !ttl) });
                    }
                    Err(error) => why = Some(error),
                }
            }
        }
        Err(why.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
    }
}

/// Starts the thread that lets IPv4 through once somebody has made a router of this host.
fn yield_to_router(socket: &Arc<Mutex<Socket>>, plan: &Plan) -> io::Result<()> {
    let (rules, plan) = (Arc::downgrade(socket), Plan { close_ipv4: false, ..plan.clone() });
    let name = "router".to_owned();
    thread::Builder::new().name(name).spawn(move || wait_for_router(&rules, &plan)).map(drop)
}

fn wait_for_router(rules: &Weak<Mutex<Socket>>, plan: &Plan) {
    loop {
        thread::sleep(ROUTER_POLL);
        let is_router = sysctl::read(&ipv4("all", "forwarding")).is_ok_and(|value| value == "1");
        // Gone with the engine's rules.
        let Some(socket) = rules.upgrade() else { return };
        if !is_router {
            continue;
        }
        let mut batch = Batch::new();
        let all = Attributes::default().text(1, &plan.tun).text(2, "forward");
        batch.push(DELETE_RULE, all);
        add_forward_rules(&mut batch, plan);
        match carry_out(&socket.lock(), &batch) {
            Ok(()) => log::info!(
                "somebody has switched IPv4 forwarding on for all interfaces: {} routes as it says",
                plan.lan
            ),
            Err(error) => log::warn!("{} routes no IPv4 but the service's: {error}", plan.lan),
        }
        return;
    }
}

/// Removes the rules of the engine whose TUN is called `tun`. What is not there is as good as removed.
pub(super) fn remove(tun: &str) -> io::Result<()> {
    let mut batch = Batch::new();
    batch.push(DELETE_TABLE, Attributes::default().text(1, tun));
    match carry_out(&open()?, &batch) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The chains that drop what is forwarded unless a rule admits it, as `family table chain`, without
/// those in whose table a rule or a set names `interface` or one of `addresses`. Whether that rule
/// admits anything is not looked at.
pub(super) fn forward_drops(name: &str, addresses: &[IpAddr]) -> io::Result<Vec<String>> {
    let mut words: Vec<Vec<u8>> = addresses.iter().copied().map(octets).collect();
    words.push(interface(name)[..=name.len().min(15)].to_vec());
    let names_us =
        |body: &Vec<u8>| words.iter().any(|word| body.windows(word.len()).any(|part| part == word));
    let everything = Attributes::default();
    let (mut found, mut rules, mut sets) = (Vec::new(), None, None);
    for body in collect(GET_CHAIN, 0, &everything)? {
        let Some((family, table, chain)) = dropping_chain(&body) else { continue };
        let of_table = |body: &&Vec<u8>| {
            body.first() == Some(&family) && text_of(body, 1).as_deref() == Some(&table)
        };
        if rules.is_none() {
            rules = Some(collect(GET_RULE, 0, &everything)?);
            sets = Some(collect(GET_SET, 0, &everything)?);
        }
        // A jump may lead to any chain of the table.
        let mut admits = rules.iter().flatten().filter(of_table).any(names_us);
        for set in sets.iter().flatten().filter(of_table).filter_map(|set| text_of(set, 2)) {
            let of = Attributes::default().text(1, &table).text(2, &set);
            admits = admits || collect(GET_ELEMENTS, family, &of)?.iter().any(names_us);
        }
        if !admits {
            found.push(format!("{} {table} {chain}", family_name(family)));
        }
    }
    Ok(found)
}

fn table(plan: &Plan, flags: u32, ttl: bool) -> Batch {
    let name = plan.tun.as_str();
    let mut batch = Batch::new();
    let table = Attributes::default().text(1, name).number(2, flags);
    batch.push(NEW_TABLE, table);
    for (number, (family, set)) in (1..).zip(ADDRESSES) {
        let key_len = family.address_len();
        let new = Attributes::default().text(1, name).text(2, set).number(3, 0);
        batch.push(NEW_SET, new.number(4, 0).number(5, key_len).number(10, number));
        let of_family = plan.addresses.iter().filter(|a| a.is_ipv4() == (family == Family::V4));
        let keys: Vec<_> = of_family.map(|address| (octets(*address), None)).collect();
        if !keys.is_empty() {
            batch.push(NEW_ELEMENTS, elements(name, set, &keys));
        }
    }
    add_forward(&mut batch, plan);
    if ttl {
        add_map(&mut batch, name);
        add_ttl(&mut batch, plan);
    }
    batch
}

fn add_chain(batch: &mut Batch, table: &str, name: &str, (hook, priority): (u32, i32)) {
    let hook = Attributes::default().number(1, hook).bytes(2, &priority.to_be_bytes());
    let chain = Attributes::default().text(1, table).text(3, name).nest(4, &hook);
    const ACCEPT: u32 = 1;
    batch.push(NEW_CHAIN, chain.number(5, ACCEPT).text(7, "filter"));
}

fn add_forward(batch: &mut Batch, plan: &Plan) {
    add_chain(batch, &plan.tun, "forward", FORWARD);
    add_forward_rules(batch, plan);
}

/// What the LAN sends goes to service addresses alone. The other engines' TUNs are known by their
/// group, and what is for their addresses and passes by (strays) by the sets.
fn add_forward_rules(batch: &mut Batch, plan: &Plan) {
    let table = plan.tun.as_str();
    let mut rule = |expressions: Expressions| {
        batch.push(NEW_RULE, expressions.rule(table, "forward"));
    };
    let any = Expressions::default;
    for key in [Meta::InGroup, Meta::OutGroup] {
        rule(any().meta(key, Is::Equal, &TUN_GROUP.to_ne_bytes()).verdict(Verdict::Accept));
    }
    for (family, set) in ADDRESSES {
        rule(any().family(family).bound_for(family, set).verdict(Verdict::Accept));
    }
    if plan.close_ipv4 {
        let from_lan = any().meta(Meta::InName, Is::Equal, &interface(&plan.lan));
        rule(from_lan.family(Family::V4).verdict(Verdict::Drop));
    }
    if plan.close_ipv6 {
        rule(any().family(Family::V6).verdict(Verdict::Drop));
    }
}

fn add_map(batch: &mut Batch, table: &str) {
    const MAP: u32 = 8;
    let new = Attributes::default().text(1, table).text(2, RAISED).number(3, MAP);
    batch.push(NEW_SET, new.number(4, 0).number(5, 1).number(6, 0).number(7, 1).number(10, 3));
    let pairs: Vec<_> = (1..u8::MAX).map(|ttl| (vec![ttl], Some(ttl + 1))).collect();
    batch.push(NEW_ELEMENTS, elements(table, RAISED, &pairs));
}

fn add_ttl(batch: &mut Batch, plan: &Plan) {
    let (table, tun) = (plan.tun.as_str(), interface(&plan.tun));
    add_chain(batch, table, "before", PREROUTING);
    add_chain(batch, table, "after", POSTROUTING);
    let any = Expressions::default;
    for (family, set) in ADDRESSES {
        let to_service = any().family(family).bound_for(family, set).ttl(family, Is::AtMost, LOW);
        let from_tun = any().meta(Meta::InName, Is::Equal, &tun).family(family);
        let before =
            [to_service.routed_to(&plan.tun), from_tun.clone().ttl(family, Is::AtMost, LOW)];
        for rule in before {
            batch.push(NEW_RULE, rule.raise_ttl(family).rule(table, "before"));
        }
        // Not what this host sends itself: nothing was taken off that.
        let into_tun = any()
            .meta(Meta::InInterface, Is::NotEqual, &0_u32.to_ne_bytes())
            .meta(Meta::OutName, Is::Equal, &tun)
            .family(family);
        for rule in [into_tun, from_tun] {
            let rule = rule.ttl(family, Is::AtLeast, LOW + 1).raise_ttl(family);
            batch.push(NEW_RULE, rule.rule(table, "after"));
        }
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket2::SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket)
}

/// Sends a batch, and waits for the first message that is refused or for the last one's answer.
fn carry_out(socket: &Socket, batch: &Batch) -> io::Result<()> {
    socket.send(&batch.to_bytes(), 0)?;
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    loop {
        receive(socket, &mut buffer)?;
        for (kind, number, body) in messages(&buffer) {
            if let Some(outcome) = outcome(kind, body)
                && (outcome.is_err() || number == batch.last())
            {
                return outcome;
            }
        }
    }
}

/// The bodies of all objects of one kind, each beginning with its family.
fn collect(kind: u16, family: u8, of: &Attributes) -> io::Result<Vec<Vec<u8>>> {
    const DONE: u16 = 3;
    const OBJECTS_MAX: usize = 100_000;
    let socket = open()?;
    socket.send(&dump(kind, family, of), 0)?;
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    let mut found = Vec::new();
    while found.len() < OBJECTS_MAX {
        receive(&socket, &mut buffer)?;
        for (kind, _, body) in messages(&buffer) {
            match outcome(kind, body) {
                Some(outcome) => outcome?,
                None if kind == DONE => return Ok(found),
                None => found.push(body.to_vec()),
            }
        }
    }
    Ok(found)
}

fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        buffer.clear();
        match socket.recv(buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received.map(drop),
        }
    }
}

/// What an error message says: 0 is the acknowledgement. None for a message of another type.
fn outcome(kind: u16, body: &[u8]) -> Option<io::Result<()>> {
    const ERROR: u16 = 2;
    if kind != ERROR {
        return None;
    }
    let code = body.first_chunk().map_or(-libc::EIO, |code| i32::from_ne_bytes(*code));
    Some(if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) })
}

/// A base chain of the hook `forward` whose policy is to drop.
fn dropping_chain(body: &[u8]) -> Option<(u8, String, String)> {
    const DROP: [u8; 4] = [0; 4];
    let number = |value: &[u8]| value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let (family, attribute) = (*body.first()?, body.get(4..)?);
    let hook = attributes(attribute).find(|(kind, _)| *kind == 4)?.1;
    let hook = attributes(hook).find(|(kind, _)| *kind == 1)?.1;
    let policy = attributes(attribute).find(|(kind, _)| *kind == 5)?.1;
    let drops = number(hook) == Some(FORWARD.0) && policy == DROP;
    drops.then_some((family, text_of(body, 1)?, text_of(body, 3)?))
}

/// The text in attribute `kind` of an object.
fn text_of(body: &[u8], kind: u16) -> Option<String> {
    let (_, value) = attributes(body.get(4..)?).find(|(found, _)| *found == kind)?;
    let text = value.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

const fn family_name(family: u8) -> &'static str {
    match family {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => "other",
    }
}
