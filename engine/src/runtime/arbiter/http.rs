//! HTTP and HTTPS to the endpoints: blocking, bounded in time and size.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::etcd::ANSWER_MAX;
use crate::runtime::config;
use crate::time::Duration;

/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// How much of an error's text is shown, in characters.
const TEXT_MAX: usize = 200;

/// The way to the endpoints.
pub(super) struct Transport {
    agent: Agent,
    endpoints: Vec<String>,
    /// For each attempt: all of them take no longer than the configured time.
    patience: Duration,
    login: Option<(String, String)>,
    /// What a login has given.
    token: Option<String>,
}

impl Transport {
    /// Reads the files that `config` names. The error says which and why.
    pub(super) fn new(config: &config::Arbiter) -> Result<Self, String> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // The environment's proxy is for the web.
            .proxy(None)
            .max_response_header_size(HEAD_MAX)
            .user_agent("standin")
            .tls_config(tls(config)?)
            .build()
            .new_agent();
        let login = match &config.login {
            None => None,
            Some(login) => Some((login.user.clone(), read_line(&login.password_file)?)),
        };
        let count = u32::try_from(config.endpoints.len()).unwrap_or(u32::MAX).max(1);
        let patience = config.timeout / count;
        Ok(Self { agent, endpoints: config.endpoints.clone(), patience, login, token: None })
    }

    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    pub(super) fn name(&self, endpoint: usize) -> &str {
        &self.endpoints[endpoint]
    }

    /// The body of the answer. Logs in when that is asked for, once.
    pub(super) fn post(&mut self, at: usize, path: &str, body: &str) -> Result<String, String> {
        if self.login.is_some() && self.token.is_none() {
            self.log_in(at)?;
        }
        let (status, answer) = self.send(at, path, body)?;
        let denied = status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN;
        if !denied || self.login.is_none() {
            return judge(status, answer);
        }
        // Tokens run out, and do not outlive an endpoint.
        self.log_in(at)?;
        let (status, answer) = self.send(at, path, body)?;
        judge(status, answer)
    }

    fn log_in(&mut self, at: usize) -> Result<(), String> {
        let Some((name, password)) = &self.login else { return Ok(()) };
        let body = json!({ "name": name, "password": password }).to_string();
        self.token = None;
        let (status, answer) = self.send(at, "/v3/auth/authenticate", &body)?;
        let answer = judge(status, answer).map_err(|why| format!("login: {why}"))?;
        let answer: Value =
            serde_json::from_str(&answer).map_err(|error| format!("login: {error}"))?;
        let token = answer.get("token").and_then(Value::as_str).ok_or("login: no token")?;
        self.token = Some(token.to_owned());
        Ok(())
    }

    fn send(&self, at: usize, path: &str, body: &str) -> Result<(StatusCode, String), String> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.endpoints[at]))
            .config()
            .timeout_global(Some(self.patience))
            .build()
            .content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        let mut response = request.send(body).map_err(|error| error.to_string())?;
        let body = response.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
        let body = body.map_err(|error| error.to_string())?;
        Ok((response.status(), body))
    }
}

/// An answer that is one, or what to tell a person.
fn judge(status: StatusCode, body: String) -> Result<String, String> {
    if status == StatusCode::OK {
        return Ok(body);
    }
    let text: String = body.trim().chars().take(TEXT_MAX).collect();
    Err(format!("status {status}: {}", text.escape_debug()))
}

fn tls(config: &config::Arbiter) -> Result<TlsConfig, String> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &config.ca_file {
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path)?));
    }
    if let Some(config::Identity { certificate_file, private_key_file }) = &config.identity {
        let key = PrivateKey::from_pem(&read(private_key_file)?)
            .map_err(|error| format!("{}: {error}", private_key_file.display()))?;
        let chain = certificates(certificate_file)?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(tls.build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = read(path)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        let item = item.map_err(|error| format!("{}: {error}", path.display()))?;
        if let PemItem::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(found)
}

fn read_line(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read(path)?);
    let text = text.map_err(|_| format!("{}: not text", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What of the files that `config` names cannot be used on this host.
pub(in crate::runtime) fn check(config: &config::Arbiter) -> Result<(), String> {
    Transport::new(config).map(drop)
}
