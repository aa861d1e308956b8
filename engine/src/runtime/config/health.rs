//! How a relay's servers are watched.

use core::time::Duration;
use std::sync::Arc;

use toml::Spanned;

use super::check::{self, show};
use super::raw;
use crate::relay::{Check, HttpCheck};

/// The status codes that are wanted where nothing else is configured.
const WANTED: (u16, u16) = (200, 399);

/// Status codes of a reply that is not followed by another one, as far as RFC 9110 §15 gives them a meaning.
const CODES: core::ops::RangeInclusive<u16> = 200..=599;

/// Ranges of status codes in one list.
const RANGES_MAX: usize = 16;

impl check::Check {
    pub(super) fn health_check(&mut self, check: Option<&raw::HealthCheck>) -> Check {
        let default = Check::default();
        let Some(raw::HealthCheck { interval, timeout, rise, fall, http, host, status }) = check
        else {
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
            http: self.http_check(http.as_ref(), host.as_ref(), status.as_ref()),
        }
    }

    fn http_check(
        &mut self,
        path: Option<&Spanned<String>>,
        host: Option<&Spanned<String>>,
        status: Option<&Spanned<String>>,
    ) -> Option<Arc<HttpCheck>> {
        let host = host.map(|host| self.host(host));
        let wanted = status.map_or_else(|| vec![WANTED], |status| self.codes(status));
        let Some(path) = path else {
            for (key, place) in
                [("host", host.map(|(_, place)| place)), ("status", status.map(Spanned::span))]
            {
                if let Some(place) = place {
                    let what = format!(
                        "{key} belongs to a check over HTTP: say what is asked, http = \"/PATH\""
                    );
                    self.complain(place, what);
                }
            }
            return None;
        };
        let text = path.get_ref();
        let sound = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !text.starts_with('/') || !text.bytes().all(sound) || text.len() > HttpCheck::PATH_MAX {
            let what = format!(
                "http is what is asked, such as \"/health\": it begins with a slash, has no blank and no \"#\", \
                 and at most {} bytes",
                HttpCheck::PATH_MAX
            );
            self.complain(path.span(), what);
        }
        let host = host.map(|(host, _)| host);
        Some(Arc::new(HttpCheck { path: text.clone(), host, wanted }))
    }

    /// The value of a Host field, and where it stands.
    fn host(&mut self, host: &Spanned<String>) -> (String, core::ops::Range<usize>) {
        let text = host.get_ref();
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if !(1..=HttpCheck::HOST_MAX).contains(&text.len()) || !text.bytes().all(sound) {
            let what = format!(
                "host is a name or an address, with a port if need be, of at most {} bytes",
                HttpCheck::HOST_MAX
            );
            self.complain(host.span(), what);
        }
        (text.clone(), host.span())
    }

    /// Status codes, and ranges of them.
    fn codes(&mut self, list: &Spanned<String>) -> Vec<(u16, u16)> {
        let code = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|code| digits && CODES.contains(code))
        };
        let range = |text: &str| {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            let (from, to): (u16, u16) = (code(from.trim())?, code(to.trim())?);
            (from <= to).then_some((from, to))
        };
        let ranges: Option<Vec<_>> =
            list.get_ref().split(',').map(|text| range(text.trim())).collect();
        let ranges = ranges.filter(|ranges| ranges.len() <= RANGES_MAX);
        if ranges.is_none() {
            let (from, to) = (CODES.start(), CODES.end());
            let what = format!(
                "status is codes from {from} to {to}, such as \"200-399\" or \"200, 204, 401\", at most \
                 {RANGES_MAX} of them"
            );
            self.complain(list.span(), what);
        }
        ranges.unwrap_or_default()
    }
}
