//! The thread against servers of the tests' own making.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use mio::{Events, Poll, Token};

use super::*;
use crate::ids::{Epoch, Node};
use crate::role::{ArbiterRecord, Inquiry};
use crate::time::Duration;

const RECORD: ArbiterRecord = ArbiterRecord { owner: Node::A, epoch: Epoch(2), boot: 1 };

fn config(endpoints: Vec<String>) -> config::Arbiter {
    config::Arbiter {
        endpoints,
        lost: config::LostArbiter::Stop,
        prefix: "/p/".into(),
        lease: Duration::from_secs(5),
        timeout: Duration::from_secs(4),
        ca_file: None,
        identity: None,
        login: None,
    }
}

/// The body of the next request, and what came in front of it.
fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_lowercase();
            let length = lower.split("content-length: ").nth(1).expect("a length");
            let length = length.lines().next().and_then(|length| length.parse::<usize>().ok());
            if Some(body.len()) == length {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// A server that answers each request as `answer` says: status and body.
fn server(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            while let Some((head, body)) = request(&mut stream) {
                let (status, body) = answer(&head, &body);
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
                if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    format!("http://{address}")
}

/// A port where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

fn empty(_: &str, _: &str) -> (u16, String) {
    (200, r#"{"header":{"revision":"7"}}"#.to_owned())
}

fn answer_to(config: &config::Arbiter, what: Inquiry) -> Answer {
    let mut poll = Poll::new().expect("a poll");
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
    let client = ArbiterClient::start(config, "k", waker).expect("a client");
    client.ask(Ask { number: 9, what });
    let mut events = Events::with_capacity(4);
    poll.poll(&mut events, Some(Duration::from_secs(30))).expect("a poll");
    client.next_answer().expect("the waker wakes for an answer")
}

#[test]
fn the_answer_comes_with_its_number() {
    let config = config(vec![server(empty)]);
    let nothing = Reply { record: None, revision: 0, written: false };
    assert_eq!(answer_to(&config, Inquiry::Read), (9, Some(nothing)));
}

#[test]
fn another_endpoint_answers_for_one_that_does_not() {
    let refuses = server(|_, _| (503, "etcdserver: no leader".to_owned()));
    let nonsense = server(|_, _| (200, "<html>".to_owned()));
    let config = config(vec![nobody(), refuses, nonsense, server(empty)]);
    assert!(answer_to(&config, Inquiry::Read).1.is_some());
}

#[test]
fn no_answer_is_an_answer() {
    assert_eq!(answer_to(&config(vec![nobody()]), Inquiry::Read), (9, None));
    // One that takes the question and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let silent = config::Arbiter {
        timeout: Duration::from_millis(100),
        ..config(vec![format!("http://{address}")])
    };
    assert_eq!(answer_to(&silent, Inquiry::Read), (9, None));
}

#[test]
fn an_answer_without_end_is_not_read_to_it() {
    let endless = server(|_, _| (200, "x".repeat(1 << 20)));
    assert_eq!(answer_to(&config(vec![endless]), Inquiry::Read), (9, None));
}

#[test]
fn a_swap_goes_to_the_transaction() {
    let server = server(|head, body| {
        let right = head.starts_with("POST /v3/kv/txn ") && body.contains("VERSION");
        let answer = r#"{"header":{"revision":"8"},"succeeded":true}"#;
        if right { (200, answer.to_owned()) } else { (404, String::new()) }
    });
    let what = Inquiry::Swap { expected: None, revision: None, record: RECORD };
    let reply = Reply { record: Some(RECORD), revision: 8, written: true };
    assert_eq!(answer_to(&config(vec![server]), what), (9, Some(reply)));
}

#[test]
fn a_login_that_has_run_out_is_made_again() {
    let logins = std::sync::atomic::AtomicU64::new(0);
    let server = server(move |head, body| {
        use std::sync::atomic::Ordering;
        if head.starts_with("POST /v3/auth/authenticate ") {
            let right = body == r#"{"name":"u","password":"secret"}"#;
            let count = logins.fetch_add(1, Ordering::Relaxed);
            let token = format!(r#"{{"token":"t{count}"}}"#);
            return if right { (200, token) } else { (400, String::new()) };
        }
        // The first token is not good any more.
        if head.to_lowercase().contains("authorization: t1") {
            empty(head, body)
        } else {
            (401, "etcdserver: invalid auth token".to_owned())
        }
    });
    let file = std::env::temp_dir().join(format!("standin-password-{}", std::process::id()));
    std::fs::write(&file, "secret\n").expect("a file");
    let login = Some(config::Login { user: "u".into(), password_file: file.clone() });
    let config = config::Arbiter { login, ..config(vec![server]) };
    assert!(answer_to(&config, Inquiry::Read).1.is_some());
    std::fs::remove_file(&file).expect("the file");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let missing = config::Arbiter {
        ca_file: Some("/nowhere/ca.pem".into()),
        ..config(vec!["https://192.0.2.9:2379".into()])
    };
    let why = check(&missing).expect_err("there is no such file");
    assert!(why.starts_with("/nowhere/ca.pem: "), "{why}");
    let odd = config::Arbiter { ca_file: Some("/dev/null".into()), ..missing };
    assert_eq!(check(&odd), Err("/dev/null: no certificate in it".to_owned()));
}
