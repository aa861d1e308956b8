//! `standin-replay` as a command: real captures, exit status, messages, and memory that does not
//! grow with the capture.
//!
//! The size of the large capture is 24 MiB; `STANDIN_CAPTURE_MIB=1024` makes it a gigabyte.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use etherparse::{PacketBuilder, TcpOptionElement};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 100];
/// Address space that the command may take, whatever it reads: 256 MiB.
const MEMORY: &str = "--as=268435456";

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_standin-replay")).args(arguments).output().unwrap()
}

fn bounded(arguments: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.args([MEMORY, env!("CARGO_BIN_EXE_standin-replay")]).args(arguments);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A capture of real clients; `testbed/captures` made it.
fn real(name: &str) -> String {
    format!("{}/tests/data/captures/{name}.pcapng", env!("CARGO_MANIFEST_DIR"))
}

/// A file that goes when it is no longer needed.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("standin-{}-{name}", std::process::id())))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A capture that is written as it grows.
struct Writer {
    file: BufWriter<File>,
    micros: u64,
    written: u64,
}

/// One side's segment: sequence number, acknowledgment, flags, payload.
struct Seg<'a>(u32, u32, &'a str, &'a [u8]);

impl Writer {
    fn new(path: &Path) -> Self {
        let mut file = BufWriter::new(File::create(path).unwrap());
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
            file.write_all(&word.to_le_bytes()).unwrap();
        }
        Self { file, micros: 0, written: 0 }
    }

    fn segment(&mut self, from_server: bool, port: u16, Seg(seq, ack, flags, payload): Seg<'_>) {
        let (source, target) = if from_server { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
        let ports = if from_server { (80, port) } else { (port, 80) };
        let mut builder =
            PacketBuilder::ipv4(source, target, 64).tcp(ports.0, ports.1, seq, 60_000);
        for flag in flags.chars() {
            let options =
                [TcpOptionElement::MaximumSegmentSize(1460), TcpOptionElement::WindowScale(4)];
            builder = match flag {
                'S' => builder.options(&options).unwrap().syn(),
                'F' => builder.fin(),
                _ => builder.ack(ack),
            };
        }
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        self.micros += 20;
        let length = packet.len() as u32;
        let (seconds, rest) = (self.micros / 1_000_000, self.micros % 1_000_000);
        for word in [seconds as u32, rest as u32, length, length] {
            self.file.write_all(&word.to_le_bytes()).unwrap();
        }
        self.file.write_all(&packet).unwrap();
        self.written += u64::from(length) + 16;
    }

    /// A whole connection that downloads `bytes`.
    fn download(&mut self, port: u16, bytes: usize) {
        let payload = [b'x'; 1460];
        self.segment(false, port, Seg(99, 0, "S", b""));
        self.segment(true, port, Seg(199, 100, "S.", b""));
        self.segment(false, port, Seg(100, 200, ".", b"GET"));
        let mut sent = 0;
        while sent < bytes {
            let part = payload.len().min(bytes - sent);
            self.segment(true, port, Seg(200 + sent as u32, 103, ".", &payload[..part]));
            sent += part;
            if sent % (4 * payload.len()) == 0 || sent == bytes {
                self.segment(false, port, Seg(103, 200 + sent as u32, ".", b""));
            }
        }
        self.segment(false, port, Seg(103, 200 + sent as u32, "F.", b""));
        self.segment(true, port, Seg(200 + sent as u32, 104, "F.", b""));
        self.segment(false, port, Seg(104, 201 + sent as u32, ".", b""));
    }
}

/// One long download and many short ones, until the file has its size.
fn large(path: &Path, bytes: u64) {
    let mut writer = Writer::new(path);
    writer.download(1_000, bytes as usize / 2);
    let mut port = 1_001;
    while writer.written < bytes {
        writer.download(port, 40_000);
        port = if port == u16::MAX { 1_001 } else { port + 1 };
    }
    writer.file.flush().unwrap();
}

#[test]
fn memory_does_not_grow_with_the_capture() {
    let mebibytes: u64 = std::env::var("STANDIN_CAPTURE_MIB")
        .map_or(24, |size| size.parse().expect("STANDIN_CAPTURE_MIB is a number"));
    let file = Temporary::new("large.pcap");
    large(&file.0, mebibytes << 20);
    for arguments in [&["explain", file.text()][..], &["replay", file.text(), "--brief"]] {
        let output = bounded(arguments);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        assert!(text.contains("segments of"), "{text}");
    }
}

#[test]
fn exit_status_says_what_came_of_it() {
    let good = Temporary::new("good.pcap");
    let mut writer = Writer::new(&good.0);
    writer.download(1_000, 5_000);
    writer.file.flush().unwrap();
    let foreign = Temporary::new("foreign");
    fs::write(&foreign.0, "this is a letter, and no capture at all").unwrap();
    let echo = ["replay", good.text(), "--service", "10.0.0.100:80=echo"];
    for (arguments, status, says) in [
        (&["explain", good.text()][..], 0, "5000 bytes"),
        (&["replay", good.text()], 0, "nothing that a client relies on differs"),
        (&echo, 1, "DIFFERS"),
        (&["explain", foreign.text()], 2, "foreign: not a pcap or pcapng file"),
        (&["crash", good.text(), "--at", "99999"], 2, "the capture has"),
        (&["crash", good.text(), "--events", "0"], 2, "--events"),
        (&["crash", good.text(), "--service", "10.0.0.100:80=files"], 2, "stands in for files"),
        (&["replay", "/nowhere/at/all"], 2, "cannot read the file"),
        (&["explain", good.text(), "--conn", "7"], 2, "names no connection"),
        (&["rewind", good.text()], 2, "unrecognized subcommand"),
    ] {
        let output = replay(arguments);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

/// `explain` reads twice, and no pipe can be.
#[test]
fn captures_come_through_pipes_too() {
    for command in ["explain", "replay"] {
        let [piped, read] = ["-", &real("ssh")].map(|file| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_standin-replay"))
                .args([command, file])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut pipe = child.stdin.take().unwrap();
            // A command that does not read it closes it.
            let _ = pipe.write_all(&fs::read(real("ssh")).unwrap());
            drop(pipe);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{command} {file}");
            text(&output)
        });
        assert!(piped.contains("segments of 2 connections") && piped == read, "{piped}");
    }
}

#[test]
fn real_clients_get_from_our_tcp_what_they_got() {
    for (name, connections) in [
        ("browser", 8),
        ("curl-download", 1),
        ("curl-upload", 1),
        ("iperf3", 2),
        ("ipv6", 2),
        ("loss", 2),
        ("redis", 6),
        ("ssh", 2),
        ("takeover-download", 1),
        ("takeover-echo", 2),
    ] {
        let output = replay(&["replay", &real(name)]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
        assert!(text.contains(&format!("\n{connections} connections replayed")), "{name}: {text}");
    }
}

#[test]
fn our_services_answer_real_clients_as_they_did() {
    let output = replay(&["replay", &real("takeover-echo"), "--service", "10.77.0.100:7=echo"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.matches("3264 bytes compared, the same").count(), 2, "{text}");
}

#[test]
fn takeovers_in_real_captures_are_told() {
    for (name, says) in [
        ("takeover-echo", "speaks from another hardware address"),
        ("takeover-download", "by the new owner of the address"),
        ("engine", "takeover: begins, epoch"),
    ] {
        let output = replay(&["explain", &real(name), "--midway"]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
        assert!(text.contains("takeover at ") && text.contains(says), "{name}: {text}");
    }
}
