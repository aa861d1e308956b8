//! The arbiter's part of the configuration.

use core::time::Duration;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use ureq::http::Uri;

use super::{Problem, raw};

/// Endpoints of one store.
const ENDPOINTS_MAX: usize = 9;
/// Length of a key's prefix, in bytes.
const PREFIX_MAX: usize = 200;

/// The third party: an etcd cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arbiter {
    /// Where it is: URLs without a path, one to nine.
    pub endpoints: Vec<String>,
    /// What to do when it does not answer.
    pub lost: LostArbiter,
    /// In front of the key of the pair's record.
    pub prefix: String,
    /// How long a grant holds that is not renewed, 1 s to 1 h.
    pub lease: Duration,
    /// How long an answer may take, 10 ms to 1 min, at most a quarter of `lease`; under
    /// [`LostArbiter::Table`] at most the detection time.
    pub timeout: Duration,
    /// Certificates to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// What this node proves to etcd to be.
    pub identity: Option<Identity>,
    /// How it logs in.
    pub login: Option<Login>,
}

/// A TLS client's certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The chain, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub private_key_file: PathBuf,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The name.
    pub user: String,
    /// Where the password is, one line.
    pub password_file: PathBuf,
}

/// Policy for an arbiter that does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostArbiter {
    /// Nobody owns anew, and nobody goes on alone beyond its grant: consistency first.
    Stop,
    /// The nodes decide by what they hear of each other: availability first.
    Table,
}

impl Arbiter {
    pub(super) fn check(
        raw: raw::Arbiter,
        lease: Duration,
        timeout: Duration,
        directory: &Path,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let raw::ArbiterKind::Etcd = raw.kind;
        check_endpoints(&raw.endpoints, problems);
        let endpoints: Vec<String> = raw
            .endpoints
            .into_inner()
            .into_iter()
            .map(|endpoint| endpoint.into_inner().trim_end_matches('/').to_owned())
            .collect();
        if let Some(prefix) = &raw.prefix {
            check_prefix(prefix, problems);
        }
        let plain = endpoints.iter().any(|endpoint| !endpoint.starts_with("https://"));
        let tls = [&raw.ca_file, &raw.certificate_file, &raw.private_key_file];
        if let (true, Some(file)) = (plain, tls.into_iter().flatten().next()) {
            complain(problems, file, "certificates are for endpoints with https://");
        }
        let file = |file: Spanned<String>| directory.join(file.into_inner());
        let identity = both(
            ("certificate-file", raw.certificate_file),
            ("private-key-file", raw.private_key_file),
            problems,
        );
        let login = both(("user", raw.user), ("password-file", raw.password_file), problems);
        Self {
            endpoints,
            lost: raw.lost,
            prefix: raw.prefix.map_or("/standin/".to_owned(), Spanned::into_inner),
            lease,
            timeout,
            ca_file: raw.ca_file.map(file),
            identity: identity.map(|(certificate, key)| Identity {
                certificate_file: file(certificate),
                private_key_file: file(key),
            }),
            login: login.map(|(user, password)| Login {
                user: user.into_inner(),
                password_file: file(password),
            }),
        }
    }
}

type Text = Spanned<String>;

/// Two keys that need each other.
fn both(
    (one_key, one): (&str, Option<Text>),
    (other_key, other): (&str, Option<Text>),
    problems: &mut Vec<Problem>,
) -> Option<(Text, Text)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one, other)),
        (None, None) => None,
        (Some(one), None) => {
            complain(problems, &one, format!("{one_key} needs a {other_key}"));
            None
        }
        (None, Some(other)) => {
            complain(problems, &other, format!("{other_key} needs a {one_key}"));
            None
        }
    }
}

fn check_endpoints(endpoints: &Spanned<Vec<Text>>, problems: &mut Vec<Problem>) {
    let all = endpoints.get_ref();
    if all.is_empty() || all.len() > ENDPOINTS_MAX {
        let message = format!("an arbiter has 1 to {ENDPOINTS_MAX} endpoints");
        problems.push(Problem { span: endpoints.span(), message });
    }
    for endpoint in all {
        if let Some(why) = odd(endpoint.get_ref()) {
            let text = endpoint.get_ref().escape_debug();
            let message =
                format!("\"{text}\" is no endpoint, such as \"http://192.0.2.9:2379\": {why}");
            complain(problems, endpoint, message);
        }
    }
}

/// What is wrong with an endpoint.
fn odd(endpoint: &str) -> Option<&'static str> {
    let Ok(uri) = endpoint.parse::<Uri>() else { return Some("it is no URL") };
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().is_some_and(|host| !host.is_empty());
    match () {
        () if !known => Some("it does not begin with http:// or https://"),
        () if !host => Some("it names no host"),
        () if uri.authority().is_some_and(|all| all.as_str().contains('@')) => {
            Some("a user goes into user and password-file")
        }
        () if uri.port_u16() == Some(0) => Some("a port is 1 to 65535"),
        () if uri.path() != "/" || uri.query().is_some() => Some("it has a path"),
        () => None,
    }
}

fn check_prefix(prefix: &Text, problems: &mut Vec<Problem>) {
    let text = prefix.get_ref();
    if text.is_empty() || text.len() > PREFIX_MAX || text.chars().any(char::is_control) {
        let message = format!("prefix has 1 to {PREFIX_MAX} bytes, and no control characters");
        complain(problems, prefix, message);
    }
}

fn complain(problems: &mut Vec<Problem>, place: &Text, message: impl Into<String>) {
    problems.push(Problem { span: place.span(), message: message.into() });
}
