//! What answers on a port: which keys belong to which kind, and what a relay needs.

use core::ops::{Range, RangeInclusive};
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use super::check::{self, show};
use super::raw::{self, Kind};
use super::{Config, Service, ServiceKind};
use crate::relay::{Backend, CLIENT_MAX, Check, IDLE};

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
        for Service { port, kind } in &self.services {
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
        let mut meant = Vec::new();
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
            if let Some(kind) = self.service_kind(service, span, addresses) {
                meant.push(Service { port, kind });
            }
        }
        meant
    }

    /// Keys that belong to another kind.
    fn foreign_keys(&mut self, service: &raw::Service) {
        let raw::Service {
            kind,
            port: _,
            root,
            dotfiles,
            backends,
            check,
            idle_timeout,
            client_max,
        } = service;
        let keys = [
            (Kind::Files, "root", root.as_ref().map(Spanned::span)),
            (Kind::Files, "dotfiles", dotfiles.as_ref().map(Spanned::span)),
            (Kind::Relay, "backends", backends.as_ref().map(Spanned::span)),
            (Kind::Relay, "check", check.as_ref().map(Spanned::span)),
            (Kind::Relay, "idle-timeout", idle_timeout.as_ref().map(Spanned::span)),
            (Kind::Relay, "client-max", client_max.as_ref().map(Spanned::span)),
        ];
        for (owner, key, span) in keys {
            if let Some(span) = span
                && owner != *kind
            {
                self.complain(span, format!("service \"{}\" has no {key}", kind.name()));
            }
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
                })
            }
            Kind::Relay => {
                let Some(backends) = &service.backends else {
                    self.complain(span, "service \"relay\" needs backends");
                    return None;
                };
                let s = Duration::from_secs;
                Some(ServiceKind::Relay {
                    backends: self.backends(backends, addresses),
                    check: self.health_check(service.check.as_ref().map(Spanned::get_ref)),
                    idle: self.time(
                        "idle-timeout",
                        &service.idle_timeout,
                        IDLE,
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
            let weight = self.byte("weight", weight, 1, 0..=255);
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

    fn health_check(&mut self, check: Option<&raw::HealthCheck>) -> Check {
        let default = Check::default();
        let Some(raw::HealthCheck { interval, timeout, rise, fall }) = check else {
            return default;
        };
        let ms = Duration::from_millis;
        let zero = interval.as_ref().is_some_and(|interval| interval.get_ref().0.is_zero());
        let every = if zero {
            Duration::ZERO
        } else {
            self.time("interval", interval, default.interval, ms(100)..=ms(3_600_000))
        };
        let patience = if zero { default.timeout } else { default.timeout.min(every) };
        let patience = self.time("timeout", timeout, patience, ms(10)..=ms(60_000));
        if !zero && patience > every {
            let message = format!(
                "timeout ({}) is longer than interval ({}): a check must end before the next",
                show(patience),
                show(every)
            );
            let place = timeout.as_ref().or(interval.as_ref());
            self.complain(place.map_or(0..0, Spanned::span), message);
        }
        Check {
            interval: every,
            timeout: patience,
            rise: self.byte("rise", rise, default.rise, 1..=255),
            fall: self.byte("fall", fall, default.fall, 1..=255),
        }
    }

    fn byte(
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
