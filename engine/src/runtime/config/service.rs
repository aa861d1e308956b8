//! What answers on a port: which keys belong to which kind, and what a relay needs.

use core::ops::{Range, RangeInclusive};
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use super::check;
use super::raw::{self, Kind, Mode};
use super::{Config, RelayMode, Service, ServiceKind, id_of};
use crate::relay::{Backend, CLIENT_MAX, IDLE, OnDeath, WEIGHT_MAX};
use crate::service::{Again, Masking, MirrorRules, OnDifference, Oversize, Patience, Rules};

/// How long a server may take to answer where nothing else is configured: a SYN that was lost is
/// repeated after one second (RFC 6298 §2.1).
const CONNECT: Duration = Duration::from_secs(3);

/// How long a server may take to begin a reply where nothing else is configured.
const FIRST_BYTE: Duration = Duration::from_secs(60);

/// How long a client of a masking relay may say nothing where nothing else is configured.
const IDLE_REQUESTS: Duration = Duration::from_secs(300);

/// How long a message may be to be kept, in bytes: the state of a session is one record, which has 64 MiB.
const LENGTHS: RangeInclusive<u64> = 4 << 10..=32 << 20;

/// The longest name of a service.
const NAME_MAX: usize = 64;

/// Backends of one relay: each new splice compares them all.
const BACKENDS_MAX: usize = 256;

impl Config {
    /// What is right as it is written, and hardly what is meant: a service address whose clients a
    /// relay has to refuse, a password that anybody on the way can read.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(arbiter) = &self.arbiter
            && let Some(login) = &arbiter.login
        {
            let plain = |endpoint: &&String| !endpoint.starts_with("https://");
            warnings.extend(arbiter.endpoints.iter().filter(plain).map(|endpoint| {
                format!(
                    "the password of {} goes to the arbiter at {endpoint} in clear: https:// keeps \
                     it secret",
                    login.user
                )
            }));
        }
        for Service { port, kind, .. } in &self.services {
            let ServiceKind::Relay { backends, .. } = kind else { continue };
            for (family, is_ipv6) in [("IPv4", false), ("IPv6", true)] {
                let serves = |backend: &Backend| backend.address.is_ipv6() == is_ipv6;
                let comes = self.addresses.iter().any(|address| address.is_ipv6() == is_ipv6);
                if comes && !backends.iter().any(|backend| backend.weight > 0 && serves(backend)) {
                    warnings.push(format!(
                        "relay {port} has no {family} backend that takes clients: whoever comes by \
                         {family} is refused"
                    ));
                }
            }
        }
        warnings
    }
}

impl check::Check {
    pub(super) fn services(
        &mut self,
        services: &[Spanned<raw::Service>],
        addresses: &[IpAddr],
    ) -> Vec<Service> {
        if services.is_empty() {
            self.complain(0..0, "at least one [[service]] is needed");
        }
        let mut seen: Vec<u16> = Vec::new();
        let mut meant: Vec<Service> = Vec::new();
        for service in services {
            let span = service.span();
            let service = service.get_ref();
            let port = *service.port.get_ref();
            self.nonzero(&service.port);
            if seen.contains(&port) {
                self.complain(service.port.span(), format!("port {port} has a service already"));
            }
            seen.push(port);
            self.foreign_keys(service);
            let named = service.name.as_ref().map_or_else(|| span.clone(), Spanned::span);
            if let Some(kind) = self.service_kind(service, span, addresses) {
                let name = self.service_name(service, &kind);
                if let Some(other) = meant.iter().find(|other| other.id() == id_of(&name)) {
                    let what =
                        format!("service \"{name}\" needs another name: \"{}\" is", other.name);
                    self.complain(named, format!("{what} the same to the other node"));
                }
                meant.push(Service { port, name, kind });
            }
        }
        meant
    }

    /// What a service is called: after its kind and port, unless it is given a name.
    fn service_name(&mut self, service: &raw::Service, kind: &ServiceKind) -> String {
        let Some(name) = &service.name else {
            return format!("{}-{}", kind.name(), service.port.get_ref());
        };
        let text = name.get_ref();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=NAME_MAX).contains(&text.len()) || !text.chars().all(is_plain) {
            let what =
                format!("a name has 1 to {NAME_MAX} letters, digits, dots, hyphens, underscores");
            self.complain(name.span(), what);
        }
        text.clone()
    }

    /// Keys that belong to another kind.
    fn foreign_keys(&mut self, service: &raw::Service) {
        let raw::Service {
            kind,
            port: _,
            name: _,
            root,
            dotfiles,
            request_timeout,
            body_timeout,
            reply_timeout,
            mode,
            connect_timeout,
            first_byte_timeout,
            request_max,
            reply_max,
            oversize,
            execute_again,
            retries,
            lag_time,
            lag_bytes,
            on_difference,
            backends,
            check,
            idle_timeout,
            client_max,
            on_death,
        } = service;
        let (files, relay) = (&[Kind::Files][..], &[Kind::Relay][..]);
        let keys = [
            (files, "root", root.as_ref().map(Spanned::span)),
            (files, "dotfiles", dotfiles.as_ref().map(Spanned::span)),
            (files, "request-timeout", request_timeout.as_ref().map(Spanned::span)),
            (files, "body-timeout", body_timeout.as_ref().map(Spanned::span)),
            (files, "reply-timeout", reply_timeout.as_ref().map(Spanned::span)),
            (relay, "mode", mode.as_ref().map(Spanned::span)),
            (relay, "backends", backends.as_ref().map(Spanned::span)),
            (relay, "check", check.as_ref().map(Spanned::span)),
            (&[Kind::Files, Kind::Relay], "idle-timeout", idle_timeout.as_ref().map(Spanned::span)),
            (relay, "client-max", client_max.as_ref().map(Spanned::span)),
            (relay, "on-death", on_death.as_ref().map(Spanned::span)),
        ];
        let mode = mode.as_ref().map_or(Mode::Splice, |mode| *mode.get_ref());
        let masked = &[Mode::Replay, Mode::Journal][..];
        // In a splice the client's own patience decides.
        let of_modes = [
            (
                &[Mode::Join, Mode::Replay, Mode::Journal, Mode::Mirror][..],
                "connect-timeout",
                spans(connect_timeout),
            ),
            (masked, "first-byte-timeout", spans(first_byte_timeout)),
            (masked, "request-max", spans(request_max)),
            (&[Mode::Journal], "reply-max", spans(reply_max)),
            (masked, "oversize", spans(oversize)),
            (masked, "execute-again", spans(execute_again)),
            (masked, "retries", spans(retries)),
            (&[Mode::Mirror], "lag-time", spans(lag_time)),
            (&[Mode::Mirror], "lag-bytes", spans(lag_bytes)),
            (&[Mode::Mirror], "on-difference", spans(on_difference)),
        ];
        for (owners, key, span) in of_modes {
            if let Some(span) = span
                && !owners.contains(&mode)
            {
                let owners: Vec<_> =
                    owners.iter().map(|mode| format!("\"{}\"", mode.name())).collect();
                let owners = owners.join(" or ");
                self.complain(span, format!("{key} belongs to a relay with mode {owners}"));
            }
        }
        for (owners, key, span) in keys {
            if let Some(span) = span
                && !owners.contains(kind)
            {
                self.complain(span, format!("service \"{}\" has no {key}", kind.name()));
            }
        }
    }

    /// How long clients of `files` are waited for.
    fn patience(&mut self, service: &raw::Service) -> Patience {
        let raw::Service { request_timeout, body_timeout, reply_timeout, idle_timeout, .. } =
            service;
        let Patience { request, body, idle, reply } = Patience::default();
        let s = Duration::from_secs;
        let (day, month) = (s(86_400), s(30 * 86_400));
        Patience {
            request: self.time("request-timeout", request_timeout, request, s(1)..=day),
            body: self.time("body-timeout", body_timeout, body, s(1)..=day),
            idle: self.time("idle-timeout", idle_timeout, idle, s(1)..=month),
            reply: self.time("reply-timeout", reply_timeout, reply, s(1)..=day),
        }
    }

    fn service_kind(
        &mut self,
        service: &raw::Service,
        span: Range<usize>,
        addresses: &[IpAddr],
    ) -> Option<ServiceKind> {
        match service.kind {
            Kind::Echo => Some(ServiceKind::Echo),
            Kind::Discard => Some(ServiceKind::Discard),
            Kind::Chargen => Some(ServiceKind::Chargen),
            Kind::Files => {
                let Some(root) = &service.root else {
                    self.complain(span, "service \"files\" needs a root");
                    return None;
                };
                self.absolute(root);
                Some(ServiceKind::Files {
                    root: root.get_ref().into(),
                    dotfiles: service.dotfiles.as_ref().is_some_and(|yes| *yes.get_ref()),
                    patience: self.patience(service),
                })
            }
            Kind::Relay => {
                let Some(backends) = &service.backends else {
                    self.complain(span, "service \"relay\" needs backends");
                    return None;
                };
                let s = Duration::from_secs;
                let mode = self.relay_mode(service);
                let idle = match mode {
                    RelayMode::Splice | RelayMode::Join { .. } | RelayMode::Mirror { .. } => IDLE,
                    RelayMode::Masked { .. } => IDLE_REQUESTS,
                };
                let list = backends.span();
                let backends = self.backends(backends, addresses);
                if matches!(mode, RelayMode::Mirror { .. }) {
                    self.twins(list, &backends);
                }
                let on_death = on_death(service, &mode);
                Some(ServiceKind::Relay {
                    on_death,
                    mode,
                    backends,
                    check: self.health_check(service.check.as_ref().map(Spanned::get_ref)),
                    idle: self.time(
                        "idle-timeout",
                        &service.idle_timeout,
                        idle,
                        s(1)..=s(30 * 86_400),
                    ),
                    client_max: self.number(
                        "client-max",
                        &service.client_max,
                        CLIENT_MAX,
                        1..=1_000_000,
                    ),
                })
            }
        }
    }

    /// How a relay's clients come to its servers.
    fn relay_mode(&mut self, service: &raw::Service) -> RelayMode {
        let s = Duration::from_secs;
        let patience = Duration::from_millis(100)..=s(3600);
        let connect = self.time("connect-timeout", &service.connect_timeout, CONNECT, patience);
        let masking = match service.mode.as_ref().map(Spanned::get_ref) {
            None | Some(Mode::Splice) => return RelayMode::Splice,
            Some(Mode::Join) => return RelayMode::Join { connect },
            Some(Mode::Replay) => Masking::Replay,
            Some(Mode::Journal) => Masking::Journal,
            Some(Mode::Mirror) => {
                return RelayMode::Mirror { rules: self.mirror_rules(service), connect };
            }
        };
        let default = Rules::of(masking);
        let again = service.execute_again.as_ref().map(Spanned::get_ref);
        let oversize = service.oversize.as_ref().map(Spanned::get_ref);
        RelayMode::Masked {
            rules: Rules {
                masking,
                request_max: self.length("request-max", &service.request_max, default.request_max),
                reply_max: self.length("reply-max", &service.reply_max, default.reply_max),
                oversize: match oversize {
                    None => default.oversize,
                    Some(raw::Oversize::Pass) => Oversize::Pass,
                    Some(raw::Oversize::Refuse) => Oversize::Refuse,
                },
                again: match again {
                    None => default.again,
                    Some(raw::Again::Never) => Again::Never,
                    Some(raw::Again::Safe) => Again::Safe,
                    Some(raw::Again::Idempotent) => Again::Idempotent,
                    Some(raw::Again::Keyed) => Again::Keyed,
                    Some(raw::Again::All) => Again::All,
                },
                retries: self.byte("retries", &service.retries, default.retries, 0..=16),
            },
            connect,
            first_byte: self.time(
                "first-byte-timeout",
                &service.first_byte_timeout,
                FIRST_BYTE,
                s(1)..=s(86_400),
            ),
        }
    }

    /// When one of two servers has failed, and what becomes of two that differ.
    fn mirror_rules(&mut self, service: &raw::Service) -> MirrorRules {
        let MirrorRules { lag_time, lag_bytes, on_difference } = MirrorRules::default();
        let range = Duration::from_millis(100)..=Duration::from_secs(3600);
        MirrorRules {
            lag_time: self.time("lag-time", &service.lag_time, lag_time, range),
            lag_bytes: match &service.lag_bytes {
                // By time alone.
                Some(size) if size.get_ref().0 == 0 => 0,
                size => self.length("lag-bytes", size, lag_bytes),
            },
            on_difference: match service.on_difference.as_ref().map(Spanned::get_ref) {
                None => on_difference,
                Some(raw::OnDifference::Elder) => OnDifference::Elder,
                Some(raw::OnDifference::Reset) => OnDifference::Reset,
            },
        }
    }

    /// Two of each family that there is one of, and both to be used.
    fn twins(&mut self, list: Range<usize>, backends: &[Backend]) {
        for (family, is_ipv6) in [("IPv4", false), ("IPv6", true)] {
            let count = backends.iter().filter(|one| one.address.is_ipv6() == is_ipv6).count();
            if count != 0 && count != 2 {
                let what = format!(
                    "a relay with mode \"mirror\" has two backends of a family, which get the same \
                     input; of {family} it has {count}"
                );
                self.complain(list.clone(), what);
            }
        }
        if backends.iter().any(|backend| backend.weight == 0) {
            let what = "a relay with mode \"mirror\" needs both of its backends: none has weight 0";
            self.complain(list, what);
        }
    }

    /// How long a message may be, to be kept.
    fn length(&mut self, key: &str, value: &Option<Spanned<raw::Size>>, default: u32) -> u32 {
        let Some(value) = value else { return default };
        let size = value.get_ref().0;
        if !LENGTHS.contains(&size) {
            let size = bytesize::ByteSize(size);
            self.complain(value.span(), format!("{key} is 4 KiB to 32 MiB, not {size}"));
        }
        u32::try_from(size).unwrap_or(default)
    }

    fn backends(
        &mut self,
        list: &Spanned<Vec<Spanned<raw::Backend>>>,
        addresses: &[IpAddr],
    ) -> Vec<Backend> {
        let backends = list.get_ref();
        if !(1..=BACKENDS_MAX).contains(&backends.len()) {
            self.complain(list.span(), format!("a relay has 1 to {BACKENDS_MAX} backends"));
        }
        let mut seen: Vec<SocketAddr> = Vec::new();
        let mut meant = Vec::new();
        for backend in backends {
            let raw::Backend { address, weight } = backend.get_ref();
            self.backend_address(backend.span(), *address, addresses);
            if seen.contains(address) {
                self.complain(backend.span(), format!("backend {address} is named twice"));
            }
            seen.push(*address);
            let weight = self.number("weight", weight, 1, 0..=WEIGHT_MAX.into());
            let weight = u16::try_from(weight).unwrap_or(WEIGHT_MAX);
            meant.push(Backend { address: (*address).into(), weight });
        }
        if !meant.is_empty() && meant.iter().all(|backend| backend.weight == 0) {
            self.complain(list.span(), "every backend has weight 0: no client would be served");
        }
        meant
    }

    /// A host that a splice can reach from one of the service addresses.
    fn backend_address(&mut self, span: Range<usize>, backend: SocketAddr, addresses: &[IpAddr]) {
        self.unicast(span.clone(), backend.ip(), "a backend");
        if backend.port() == 0 {
            self.complain(span.clone(), "a port is 1 to 65535");
        }
        if addresses.contains(&backend.ip()) {
            let message =
                format!("backend {backend} has a service address: it would be its own client");
            self.complain(span, message);
        } else if !addresses.iter().any(|address| address.is_ipv4() == backend.is_ipv4()) {
            let family = if backend.is_ipv4() { "IPv4" } else { "IPv6" };
            let message =
                format!("backend {backend} gets no client: no service address is {family}");
            self.complain(span, message);
        }
    }

    pub(super) fn byte(
        &mut self,
        key: &str,
        value: &Option<Spanned<u32>>,
        default: u8,
        range: RangeInclusive<u32>,
    ) -> u8 {
        let number = self.number(key, value, default.into(), range);
        u8::try_from(number).unwrap_or(default)
    }
}

/// What becomes of what a dead server has: without a word about it, it is ended where nothing else would end
/// it.
fn on_death(service: &raw::Service, mode: &RelayMode) -> OnDeath {
    match (service.on_death.as_ref().map(Spanned::get_ref), mode) {
        (Some(raw::OnDeath::Cut), _) => OnDeath::Cut,
        (Some(raw::OnDeath::Keep), _) => OnDeath::Keep,
        (None, RelayMode::Splice | RelayMode::Join { .. }) => OnDeath::Cut,
        (None, RelayMode::Masked { .. } | RelayMode::Mirror { .. }) => OnDeath::Keep,
    }
}

fn spans<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}
