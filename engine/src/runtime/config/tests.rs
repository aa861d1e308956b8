use super::*;

const PAIR: &str = r#"[pair]
key-file = "pair.key"
addresses = ["10.77.0.100", "fd77::100"]

[node.a]
lan-interface = "eth0"
lan-address = "10.77.0.1"
replication-address = "10.78.0.1"

[node.b]
lan-interface = "eth0"
lan-address = "10.77.0.2"
replication-address = "10.78.0.2"

[[service]]
kind = "echo"
port = 7

[[service]]
kind = "files"
port = 80
root = "/srv/www"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("pair.toml", Path::new("/etc/standin"), text)
}

/// What is said about [`PAIR`] with one piece replaced.
fn complaint(from: &str, to: &str) -> String {
    assert!(PAIR.contains(from), "{from}");
    parse(&PAIR.replacen(from, to, 1)).unwrap_err().to_string()
}

fn with(more: &str) -> String {
    parse(&format!("{PAIR}{more}")).unwrap_err().to_string()
}

fn node(last: u8, name: char) -> NodeConfig {
    NodeConfig {
        lan_interface: "eth0".into(),
        paths: Some(Paths { lan: [10, 77, 0, last].into(), replication: [10, 78, 0, last].into() }),
        control_socket: format!("/run/standin/{name}.sock").into(),
        state_directory: "/run/standin".into(),
        tun: "standin0".into(),
    }
}

#[test]
fn a_short_file_has_the_documented_defaults() {
    let config = parse(PAIR).unwrap();
    assert_eq!(
        config,
        Config {
            key_file: Some("/etc/standin/pair.key".into()),
            addresses: vec!["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()],
            lost_peer: LostPeer::Continue,
            a: node(1, 'a'),
            b: Some(node(2, 'b')),
            ports: Ports { replication: 7701, heartbeat: 7702 },
            timing: Timing {
                heartbeat: Duration::from_millis(10),
                detection: Duration::from_millis(50),
            },
            tcp: Tcp {
                receive_buffer: 1 << 20,
                send_buffer: 1 << 20,
                keepalive: None,
                user_timeout: Duration::from_secs(900),
                time_wait: Duration::from_secs(60),
                rfc1337: false,
                backlog: 4096,
                max_connections: 1 << 20,
                offload: true,
                congestion: Congestion::Cubic,
                ecn: true,
            },
            files: Files::default(),
            limits: Limits::default(),
            arbiter: None,
            services: vec![
                Service { port: 7, name: "echo-7".to_owned(), kind: ServiceKind::Echo },
                Service {
                    port: 80,
                    name: "files-80".to_owned(),
                    kind: ServiceKind::Files {
                        root: "/srv/www".into(),
                        dotfiles: false,
                        patience: Patience {
                            request: Duration::from_secs(30),
                            body: Duration::from_secs(30),
                            idle: Duration::from_secs(60),
                            reply: Duration::from_secs(300),
                        },
                    }
                },
            ],
        }
    );
    let (own, peer) = config.replication(Node::B).unwrap();
    assert_eq!(
        (own.to_string(), peer.to_string()),
        ("10.78.0.2:7701".to_owned(), "10.78.0.1:7701".to_owned())
    );
    let [_, (own, peer)] = config.heartbeats(Node::A).unwrap();
    assert_eq!(
        (own.to_string(), peer.to_string()),
        ("10.77.0.1:7702".to_owned(), "10.77.0.2:7702".to_owned())
    );
}

#[test]
fn every_value_can_be_set() {
    let text = PAIR.replace("[pair]", "[pair]\nlost-peer = \"stop\"").replace(
        "[node.b]",
        "control-socket = \"/tmp/a\"\nstate-directory = \"/var/lib/standin\"\ntun = \"si0\"\n\
         [node.b]",
    ) + r#"
[ports]
replication = 1
heartbeat = 2
[timing]
heartbeat = "5ms"
detection = "15ms"
[tcp]
receive-buffer = "64KiB"
send-buffer = "2MiB"
keepalive = { idle = "1m", interval = "2s", probes = 3 }
user-timeout = "30s"
time-wait = "1s"
rfc1337 = true
backlog = 10
max-connections = 11
offload = false
congestion = "newreno"
ecn = false
[limits]
memory = "64MiB"
connections-per-source = 12
rate-per-source = 13
"#;
    let config = parse(&text).unwrap();
    let s = Duration::from_secs;
    assert_eq!(config.lost_peer, LostPeer::Stop);
    assert_eq!(config.a.control_socket, Path::new("/tmp/a"));
    assert_eq!(config.a.state_directory, Path::new("/var/lib/standin"));
    assert_eq!(config.a.tun, "si0");
    assert_eq!(config.ports, Ports { replication: 1, heartbeat: 2 });
    assert_eq!(config.timing.detection, Duration::from_millis(15));
    assert_eq!(
        config.tcp,
        Tcp {
            receive_buffer: 65536,
            send_buffer: 2 << 20,
            keepalive: Some(Keepalive { idle: s(60), interval: s(2), probes: 3 }),
            user_timeout: s(30),
            time_wait: s(1),
            rfc1337: true,
            backlog: 10,
            max_connections: 11,
            offload: false,
            congestion: Congestion::NewReno,
            ecn: false,
        }
    );
    let limits = Limits { memory: 64 << 20, connections_per_source: 12, rate_per_source: 13 };
    assert_eq!(config.limits, limits);
}

#[test]
fn one_node_needs_neither_key_nor_peer_addresses() {
    let text = "[pair]\naddresses = [\"10.0.0.9\"]\n[node.a]\nlan-interface = \"eth0\"\n\
                [[service]]\nkind = \"discard\"\nport = 9\n";
    let config = parse(text).unwrap();
    assert!(!config.is_pair());
    assert_eq!((config.key_file.as_ref(), config.a.paths), (None, None));
    assert_eq!((config.replication(Node::A), config.heartbeats(Node::A)), (None, None));
    assert_eq!(config.check_host(Node::B), ["node b is not configured"]);
}

#[test]
fn syntax_and_type_errors_have_a_place() {
    assert_eq!(
        complaint("port = 7\n", "port = 70000\n"),
        "pair.toml:17:8: invalid value: integer `70000`, expected u16"
    );
    assert_eq!(
        complaint("lan-interface", "lan_interface"),
        "pair.toml:5:1: missing field `lan-interface`\n\
         pair.toml:6:1: unknown field `lan_interface`, expected one of `lan-interface`, \
         `lan-address`, `replication-address`, `control-socket`, `state-directory`, `tun`"
    );
    assert_eq!(
        complaint("\"echo\"", "\"ecko\""),
        "pair.toml:16:8: unknown variant `ecko`, expected one of `echo`, `discard`, `chargen`, \
         `files`, `relay`"
    );
}

#[test]
fn limits_that_limit_nothing_are_refused() {
    assert_eq!(
        with("[limits]\nconnections-per-source = 16777217\nrate-per-source = 1000001\n"),
        "pair.toml:24:26: connections-per-source is 0 to 16777216, not 16777217\n\
         pair.toml:25:19: rate-per-source is 0 to 1000000, not 1000001"
    );
    assert_eq!(
        with("[limits]\nrate-per-source = \"10/s\"\n"),
        "pair.toml:24:19: invalid type: string \"10/s\", expected u32"
    );
}

#[test]
fn durations_and_sizes_are_read_with_their_unit() {
    assert_eq!(
        with("[timing]\ndetection = \"fast\"\n"),
        "pair.toml:24:13: \"fast\" is no duration: expected number at 0"
    );
    assert_eq!(
        with("[tcp]\nsend-buffer = \"64 miles\"\n").split(": ").next(),
        Some("pair.toml:24:15")
    );
    assert_eq!(
        with("[timing]\nheartbeat = \"0ms\"\n"),
        "pair.toml:24:13: heartbeat is 1ms to 10s, not 0s"
    );
    assert_eq!(
        with("[tcp]\nreceive-buffer = \"1GiB\"\n"),
        "pair.toml:24:18: receive-buffer is 32 KiB to 16 MiB, not 1.0 GiB"
    );
    assert_eq!(with("[tcp]\nbacklog = 0\n"), "pair.toml:24:11: backlog is 1 to 1048576, not 0");
    assert_eq!(
        with("[tcp]\ncongestion = \"bbr\"\n"),
        "pair.toml:24:14: unknown variant `bbr`, expected `cubic` or `newreno`"
    );
}

#[test]
fn contradictions_have_a_place() {
    assert_eq!(
        with("[timing]\nheartbeat = \"20ms\"\n"),
        "pair.toml:24:13: detection (50ms) is less than three times heartbeat (20ms): one lost \
         datagram would look like a lost host"
    );
    assert_eq!(
        complaint("\"fd77::100\"", "\"10.77.0.100\""),
        "pair.toml:3:29: service address 10.77.0.100 is named twice"
    );
    assert_eq!(
        complaint("10.77.0.100", "10.77.0.2"),
        "pair.toml:3:14: service address 10.77.0.2 is also the lan-address of node b"
    );
    assert_eq!(
        complaint("10.77.0.100", "224.0.0.1"),
        "pair.toml:3:14: 224.0.0.1 cannot be a service address: it is a multicast address"
    );
    assert_eq!(complaint("port = 80", "port = 7"), "pair.toml:21:8: port 7 has a service already");
    assert_eq!(
        complaint("10.78.0.2", "10.78.0.1"),
        "pair.toml:13:23: replication-address is the same on both nodes"
    );
    assert_eq!(
        complaint("10.77.0.2", "fd77::2"),
        "pair.toml:12:15: lan-address is IPv4 on one node and IPv6 on the other"
    );
    assert_eq!(
        complaint("10.78.0.1", "10.77.0.1"),
        "pair.toml:8:23: replication-address is the lan-address: the two paths must be separate, \
         or one cable cuts both"
    );
}

#[test]
fn missing_and_superfluous_values_have_a_place() {
    assert_eq!(
        complaint("root = \"/srv/www\"\n", ""),
        "pair.toml:19:1: service \"files\" needs a root"
    );
    assert_eq!(
        complaint("port = 7\n", "port = 7\nroot = \"/srv\"\n"),
        "pair.toml:18:8: service \"echo\" has no root"
    );
    assert_eq!(complaint("/srv/www", "www"), "pair.toml:22:8: \"www\" is not an absolute path");
    assert_eq!(
        complaint("key-file = \"pair.key\"\n", ""),
        "pair.toml:1:1: two nodes need a key-file (\"standin key FILE\" makes one)"
    );
    assert_eq!(
        complaint("lan-address = \"10.77.0.2\"\n", ""),
        "pair.toml:10:1: node b of a pair needs a lan-address"
    );
    assert_eq!(
        complaint("\"eth0\"", "\"a very long interface\""),
        "pair.toml:6:17: \"a very long interface\" cannot be an interface: 1 to 15 bytes, no \
         space, colon or slash"
    );
}

#[test]
fn clients_of_files_are_waited_for_as_long_as_is_said() {
    let with =
        |keys: &str| parse(&PAIR.replacen("port = 80\n", &format!("port = 80\n{keys}\n"), 1));
    let config = with(
        "request-timeout = \"5s\"\nbody-timeout = \"6s\"\nidle-timeout = \"30days\"\n\
         reply-timeout = \"1day\"",
    );
    let s = Duration::from_secs;
    let (idle, reply) = (s(30 * 86_400), s(86_400));
    let meant = Patience { request: s(5), body: s(6), idle, reply };
    let config = config.unwrap();
    let ServiceKind::Files { patience, .. } = config.services[1].kind else { panic!("files") };
    assert_eq!(patience, meant);
    assert_eq!(config.parts(), parse(PAIR).unwrap().parts(), "the primary's alone count");

    for (key, value, range) in [
        ("request-timeout", "999ms", "1s to 1day"),
        ("body-timeout", "0s", "1s to 1day"),
        ("reply-timeout", "2days", "1s to 1day"),
        ("idle-timeout", "31days", "1s to 30days"),
    ] {
        let said = with(&format!("{key} = \"{value}\"")).unwrap_err().to_string();
        assert!(said.contains(&format!(": {key} is {range}, not ")), "{said}");
    }
    for key in ["request-timeout", "body-timeout", "idle-timeout", "reply-timeout"] {
        let said = complaint("port = 7\n", &format!("port = 7\n{key} = \"5s\"\n"));
        assert!(said.ends_with(&format!(": service \"echo\" has no {key}")), "{said}");
    }
}

#[test]
fn all_complaints_come_at_once_in_the_order_of_the_text() {
    let text = PAIR.replace("port = 80", "port = 0").replace("fd77::100", "::1");
    assert_eq!(
        parse(&text).unwrap_err().to_string(),
        "pair.toml:3:29: ::1 cannot be a service address: it is a loopback address\n\
         pair.toml:21:8: a port is 1 to 65535"
    );
}

#[test]
fn parts_differ_where_the_nodes_would_disagree() {
    let parts = |text: &str| parse(text).unwrap().parts();
    let differing = |from: &str, to: &str| {
        let other = parts(&PAIR.replacen(from, to, 1));
        let pairs = parts(PAIR).into_iter().zip(other);
        pairs.filter(|(one, two)| one != two).map(|(one, _)| one.0).collect::<Vec<_>>()
    };
    assert_eq!(differing("10.77.0.100", "10.77.0.101"), ["addresses"]);
    assert_eq!(differing("port = 7\n", "port = 8\n"), ["services"]);
    assert_eq!(differing("[pair]", "[timing]\ndetection = \"60ms\"\n[pair]"), ["timing"]);
    assert_eq!(differing("[pair]", "[tcp]\nbacklog = 1\n[pair]"), ["tcp"]);
    assert_eq!(differing("[pair]", "[ports]\nheartbeat = 1\n[pair]"), ["ports"]);
    assert_eq!(differing("[pair]", "[pair]\nlost-peer = \"stop\""), ["lost-peer"]);
    assert_eq!(differing("eth0", "eth7"), [""; 0], "a host's own affair");
    assert_eq!(differing("[pair]", "[tcp]\noffload = false\n[pair]"), [""; 0]);
    assert_eq!(differing("[pair]", "[tcp]\ncongestion = \"newreno\"\n[pair]"), [""; 0]);
}

const ARBITER: &str = r#"[arbiter]
kind = "etcd"
endpoints = ["http://192.0.2.9:2379"]
lost = "stop"
"#;

#[test]
fn an_arbiter_has_the_documented_defaults() {
    let config = parse(&format!("{PAIR}{ARBITER}")).unwrap();
    let arbiter = Arbiter {
        endpoints: vec!["http://192.0.2.9:2379".into()],
        lost: LostArbiter::Stop,
        prefix: "/standin/".into(),
        lease: Duration::from_secs(5),
        timeout: Duration::from_millis(500),
        ca_file: None,
        identity: None,
        login: None,
    };
    assert_eq!(config.arbiter.as_ref(), Some(&arbiter));
    let table = parse(&format!("{PAIR}{}", ARBITER.replace("stop", "table"))).unwrap();
    assert_eq!(table.arbiter.map(|arbiter| arbiter.timeout), Some(Duration::from_millis(50)));
    let more = r#"prefix = "p"
lease = "10s"
timeout = "1s"
ca-file = "ca.pem"
certificate-file = "/c.pem"
private-key-file = "k.pem"
user = "u"
password-file = "w"
"#;
    let text = format!("{PAIR}{}{more}", ARBITER.replace("http://192.0.2.9", "https://[fd77::9]"));
    let arbiter = Arbiter {
        endpoints: vec!["https://[fd77::9]:2379".into()],
        prefix: "p".into(),
        lease: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        ca_file: Some("/etc/standin/ca.pem".into()),
        identity: Some(Identity {
            certificate_file: "/c.pem".into(),
            private_key_file: "/etc/standin/k.pem".into(),
        }),
        login: Some(Login { user: "u".into(), password_file: "/etc/standin/w".into() }),
        ..arbiter
    };
    assert_eq!(parse(&text).unwrap().arbiter, Some(arbiter));
}

#[test]
fn what_is_wrong_with_an_arbiter_is_said() {
    let said = |from: &str, to: &str| {
        assert!(ARBITER.contains(from), "{from}");
        with(&ARBITER.replacen(from, to, 1))
    };
    assert_eq!(said("lost = \"stop\"\n", ""), "pair.toml:23:1: missing field `lost`");
    assert_eq!(
        said("\"http://192.0.2.9:2379\"", ""),
        "pair.toml:25:13: an arbiter has 1 to 9 endpoints"
    );
    let odd = |endpoint: &str| {
        let told = said("http://192.0.2.9:2379", endpoint);
        told.split("2379\": ").nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(odd("192.0.2.9:2379"), "it does not begin with http:// or https://");
    assert_eq!(odd("ftp://192.0.2.9"), "it does not begin with http:// or https://");
    assert_eq!(odd("http://u:p@192.0.2.9"), "a user goes into user and password-file");
    assert_eq!(odd("http://192.0.2.9/v3"), "it has a path");
    assert_eq!(odd("http://192.0.2.9:0"), "a port is 1 to 65535");
    assert_eq!(odd("http://a b"), "it is no URL");
    assert_eq!(
        said("lost", "timeout = \"2s\"\nlost"),
        "pair.toml:26:11: lease (5s) is less than four times timeout (2s): one lost answer would \
         end a grant"
    );
    assert_eq!(
        said("lost = \"stop\"", "timeout = \"60ms\"\nlost = \"table\""),
        "pair.toml:26:11: timeout (60ms) is longer than detection (50ms): a takeover that waits so \
         long for an arbiter that does not answer would lose the connections"
    );
    assert_eq!(
        said("lost", "ca-file = \"ca\"\nlost"),
        "pair.toml:26:11: certificates are for endpoints with https://"
    );
    assert_eq!(said("lost", "user = \"u\"\nlost"), "pair.toml:26:8: user needs a password-file");
    let alone = format!("{PAIR}{ARBITER}");
    let from = alone.find("[node.b]").unwrap();
    let to = alone.find("[[service]]").unwrap();
    let alone = format!("{}{}", &alone[..from], &alone[to..]);
    assert!(
        parse(&alone).unwrap_err().to_string().contains("an arbiter is for two nodes"),
        "{alone}"
    );
}

#[test]
fn a_pair_agrees_on_its_arbiter_and_each_node_on_its_way_to_it() {
    let parts = |text: &str| parse(&format!("{PAIR}{text}")).unwrap().parts();
    let one = parts(ARBITER);
    assert_eq!(one.last().unwrap().0, "arbiter");
    assert_ne!(one, parts(""), "one has an arbiter and the other has not");
    assert_ne!(one, parts(&ARBITER.replace("stop", "table")));
    assert_eq!(one, parts(&ARBITER.replace("192.0.2.9", "192.0.2.8")));
}

/// An unknown key hides nothing of what stands behind it.
#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = PAIR
        .replace("lost-peer", "lost-pear")
        .replace("[node.a]\n", "[node.a]\ncolour = \"red\"\n")
        .replace("port = 7\n", "port = 0\n");
    let told = parse(&format!("{text}[timing]\ndetection = \"fast\"\nheartbeat = \"1h\"\n"));
    let told = told.unwrap_err().to_string();
    for wrong in ["`colour`", "a port is 1 to 65535", "\"fast\" is no duration", "heartbeat"] {
        assert!(told.contains(wrong), "{wrong}: {told}");
    }
    assert_eq!(told.matches("missing field").count(), 0, "{told}");
}

#[test]
fn a_password_in_clear_and_secrets_that_others_can_read_are_warned_of() {
    let file = std::env::temp_dir().join(format!("standin-secret-{}", std::process::id()));
    std::fs::write(&file, "word").unwrap();
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&file, mode).unwrap();
    };
    let login = format!("user = \"standin\"\npassword-file = \"{}\"\n", file.display());
    let config = parse(&format!("{PAIR}{ARBITER}{login}")).unwrap();
    assert!(config.warnings().iter().any(|line| line.contains("in clear")), "http://");
    mode(0o644);
    let told = config.host_warnings();
    assert!(told.len() == 1 && told[0].ends_with("has mode 0644, 0600 is wanted"), "{told:?}");
    mode(0o600);
    assert_eq!(config.host_warnings(), [""; 0]);
    let _ = std::fs::remove_file(file);
}
