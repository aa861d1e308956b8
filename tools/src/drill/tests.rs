//! Whole drills against small servers of the standard library, good and bad ones.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::*;

/// Serves each connection by `serve`, on a port of its own; the listener lives as long as the
/// test process.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn echo(mut stream: TcpStream) {
    let mut reader = stream.try_clone().unwrap();
    let _ = std::io::copy(&mut reader, &mut stream);
    let _ = stream.shutdown(Shutdown::Write);
}

fn discard(mut stream: TcpStream) {
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

fn chargen(mut stream: TcpStream) {
    let line: Vec<u8> = (0..74 * 95).map(chargen_byte).collect();
    while stream.write_all(&line).is_ok() {}
}

/// Answers every request with a hundred thousand bytes of `pattern`.
fn files(mut stream: TcpStream, pattern: Pattern) {
    let mut body = vec![0; 100_000];
    pattern.fill(0, &mut body);
    let mut request = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|count| count == 1) {
        request.push(byte[0]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    }
}

fn plan(port: u16, workload: Workload) -> Plan {
    let targets = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let workload = Workload { port, ..workload };
    Plan { stall: Duration::from_secs(20), ..Plan::new(targets, vec![workload]) }
}

fn of(service: Service, bytes: u64) -> Workload {
    Workload { bytes: Some(bytes), ..Workload::new(service) }
}

/// A drill that must be without fault.
fn passes(plan: &Plan) -> Summary {
    let report = run(plan).unwrap();
    assert!(report.ok, "{report}");
    assert_eq!(report.total.opened, report.total.completed, "{report}");
    report.total
}

/// The causes in a drill that must fail.
fn causes(plan: &Plan) -> Vec<String> {
    let report = run(plan).unwrap();
    assert!(!report.ok, "{report}");
    report.failures.into_iter().map(|failure| failure.cause).collect()
}

#[test]
fn echo_comes_back_whole_on_many_connections() {
    let plan = Plan { connections: 20, ..plan(server(echo), of(Service::Echo, 300_000)) };
    let total = passes(&plan);
    assert_eq!((total.sent, total.received), (6_000_000, 6_000_000));
    assert_eq!(total.gap_ms.count, 20);
}

#[test]
fn requests_are_sent_one_by_one_and_once_more_at_the_end() {
    let think = Some(Duration::from_millis(5));
    let asking = Workload { think, request: 100, ..Workload::new(Service::Echo) };
    let duration = Some(Duration::from_millis(200));
    let total = passes(&Plan { duration, connections: 2, ..plan(server(echo), asking) });
    assert!(total.exchanges >= 6, "{total:?}");
    assert_eq!(total.received, total.exchanges * 100);
}

#[test]
fn idle_connection_speaks_twice() {
    let idle = Workload { think: Some(Duration::MAX), ..Workload::new(Service::Echo) };
    let duration = Some(Duration::from_millis(150));
    let total = passes(&Plan { duration, ..plan(server(echo), idle) });
    assert_eq!((total.exchanges, total.received), (2, 128));
    assert!(total.gap_ms.max < 150.0, "silence is no gap: {total:?}");
}

#[test]
fn upload_ends_when_everything_is_acknowledged() {
    let total = passes(&plan(server(discard), of(Service::Discard, 5_000_000)));
    assert_eq!((total.sent, total.received), (5_000_000, 0));
}

#[test]
fn character_generator_may_ignore_a_half_close() {
    let total = passes(&plan(server(chargen), of(Service::Chargen, 2_000_000)));
    assert!(total.received >= 2_000_000, "{total:?}");
}

#[test]
fn download_is_held_to_its_rate() {
    let slow = Plan {
        rate: Some(1_000_000),
        duration: Some(Duration::from_millis(300)),
        ..plan(server(chargen), Workload::new(Service::Chargen))
    };
    // Two seconds' worth at most, with a second of lingering.
    let total = passes(&slow);
    assert!((100_000..2_500_000).contains(&total.received), "{total:?}");
}

#[test]
fn files_are_fetched_again_until_the_time_is_over() {
    let pattern = Pattern::new(5, 0);
    let port = server(move |stream| files(stream, pattern));
    let file = Some(Expected { path: "/f".into(), pattern: Some(pattern), ..Expected::default() });
    let workload = Workload { file, ..Workload::new(Service::Files) };
    let duration = Some(Duration::from_millis(200));
    let total = passes(&Plan { duration, ..plan(port, workload.clone()) });
    assert!(total.exchanges > 1, "{total:?}");

    // With FIN behind the request there is one reply to a connection.
    let early = Workload { early_fin: true, ..workload };
    let total = passes(&Plan { connections: 3, ..plan(port, early) });
    assert_eq!((total.exchanges, total.completed), (3, 3));
}

#[test]
fn connections_follow_one_another_when_asked_to() {
    let duration = Some(Duration::from_millis(200));
    let short = of(Service::Echo, 1_000);
    let total = passes(&Plan { duration, repeat: true, ..plan(server(echo), short) });
    assert!(total.opened > 2, "{total:?}");
    assert_eq!(total.received, total.opened * 1_000);
}

#[test]
fn mixed_drill_reports_each_workload() {
    let workloads = vec![
        Workload { port: server(echo), weight: 2, ..of(Service::Echo, 10_000) },
        Workload { port: server(discard), ..of(Service::Discard, 10_000) },
    ];
    let targets = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let report = run(&Plan { connections: 9, ..Plan::new(targets, workloads) }).unwrap();
    assert!(report.ok, "{report}");
    let counts: Vec<_> = report.workloads.iter().map(|(name, w)| (*name, w.completed)).collect();
    assert_eq!(counts, [("discard", 3), ("echo", 6)]);
}

#[test]
fn wrong_byte_is_found_and_named() {
    let port = server(|mut stream: TcpStream| {
        let mut bytes = [0; 1_000];
        let _ = stream.read_exact(&mut bytes);
        bytes[321] ^= 0x40;
        let _ = stream.write_all(&bytes);
        echo(stream);
    });
    let causes = causes(&plan(port, of(Service::Echo, 5_000)));
    assert_eq!(causes.len(), 1);
    assert!(causes[0].starts_with("wrong byte at offset 321: "), "{causes:?}");
}

#[test]
fn bytes_that_nobody_sent_are_excess() {
    let port = server(|mut stream: TcpStream| {
        let _ = stream.write_all(b"welcome");
        discard(stream);
    });
    let upload = Workload::new(Service::Discard);
    let duration = Some(Duration::from_secs(10));
    let causes = causes(&Plan { duration, ..plan(port, upload) });
    assert_eq!(causes, ["unexpected bytes after offset 0, where the stream should end"]);
}

#[test]
fn early_close_and_reset_are_losses() {
    let port = server(|mut stream: TcpStream| {
        let mut bytes = [0; 100];
        let _ = stream.read_exact(&mut bytes).and_then(|()| stream.write_all(&bytes));
    });
    let think = Some(Duration::ZERO);
    let asking = Workload { think, request: 100, ..Workload::new(Service::Echo) };
    let duration = Some(Duration::from_secs(10));
    let causes = causes(&Plan { duration, ..plan(port, asking) });
    assert_eq!(causes.len(), 1);
    assert!(causes[0].starts_with("closed by the peer") || causes[0].starts_with("lost at"));
}

#[test]
fn silence_ends_as_a_stall_and_counts_as_gap() {
    let port = server(|stream: TcpStream| {
        thread::sleep(Duration::from_secs(30 + stream.ttl().map_or(0, u64::from)))
    });
    let silent = Plan { stall: Duration::from_millis(200), ..plan(port, of(Service::Echo, 10)) };
    let report = run(&silent).unwrap();
    assert!(!report.ok);
    assert!(report.failures[0].cause.starts_with("no progress for 0."), "{report}");
    assert!(report.total.gap_ms.max >= 199.0, "{report}");
}

#[test]
fn refused_connection_is_a_failure_not_an_error() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let causes = causes(&plan(free, of(Service::Echo, 10)));
    assert!(causes[0].starts_with("cannot connect: "), "{causes:?}");
}

#[test]
fn source_address_is_used() {
    let port = server(|mut stream: TcpStream| {
        let address = stream.peer_addr().map(|a| a.ip());
        let right = address.is_ok_and(|a| a == Ipv4Addr::new(127, 0, 0, 9));
        if right {
            echo(stream);
        } else {
            let _ = stream.write_all(b"wrong source");
        }
    });
    let mut plan = plan(port, of(Service::Echo, 10));
    plan.sources.add("127.0.0.9").unwrap();
    plan.sources.add(&Ipv6Addr::LOCALHOST.to_string()).unwrap();
    passes(&plan);
}
