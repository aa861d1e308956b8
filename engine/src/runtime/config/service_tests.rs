use super::*;
use crate::relay::OnDeath;
use crate::service::{Again, OnDifference, Oversize};

const RELAY: &str = r#"[pair]
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
kind = "relay"
port = 8080
backends = ["10.77.0.21:80", { address = "[fd77::21]:80", weight = 2 }]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("pair.toml", Path::new("/etc/standin"), text)
}

/// What is said about [`RELAY`] with one piece replaced.
fn complaint(from: &str, to: &str) -> String {
    assert!(RELAY.contains(from), "{from}");
    parse(&RELAY.replacen(from, to, 1)).unwrap_err().to_string()
}

/// What is said about [`RELAY`] with more of its last service, below its backends on line 18.
fn with(more: &str) -> String {
    parse(&format!("{RELAY}{more}\n")).unwrap_err().to_string()
}

fn relay(text: &str) -> ServiceKind {
    parse(text).unwrap().services[0].kind.clone()
}

#[test]
fn a_relay_has_the_documented_defaults() {
    let backend = |address: &str, weight| Backend { address: address.parse().unwrap(), weight };
    let backends = vec![backend("10.77.0.21:80", 1), backend("[fd77::21]:80", 2)];
    let (s, ms) = (Duration::from_secs, Duration::from_millis);
    let check = Check { interval: s(2), timeout: s(1), rise: 2, fall: 3, http: None };
    let mode = RelayMode::Splice;
    let meant = ServiceKind::Relay {
        mode,
        backends: backends.clone(),
        check,
        idle: s(7440),
        client_max: 16_128,
        on_death: OnDeath::Cut,
    };
    assert_eq!(relay(RELAY), meant);
    assert_eq!(meant.name(), "relay");
    let set = "idle-timeout = \"1h\"\n\
               check = { interval = \"400ms\", timeout = \"300ms\", rise = 1, fall = 255 }\n";
    let on_death = OnDeath::Cut;
    let check = Check { interval: ms(400), timeout: ms(300), rise: 1, fall: 255, http: None };
    let meant =
        ServiceKind::Relay { mode, backends, check, idle: s(3600), client_max: 16_128, on_death };
    assert_eq!(relay(&format!("{RELAY}{set}")), meant);
}

#[test]
fn checks_can_be_off_and_their_timeout_follows_a_short_interval() {
    let check = |set: &str| match relay(&format!("{RELAY}check = {set}\n")) {
        ServiceKind::Relay { check, .. } => (check.interval, check.timeout),
        other => panic!("{other:?}"),
    };
    let ms = Duration::from_millis;
    assert_eq!(check("{ interval = \"0s\" }"), (ms(0), ms(1000)));
    assert_eq!(check("{ interval = \"500ms\" }"), (ms(500), ms(500)));
    assert_eq!(check("{ interval = \"1min\" }"), (ms(60_000), ms(1000)));
}

#[test]
fn what_is_wrong_with_backends_is_said() {
    let list = "[\"10.77.0.21:80\", { address = \"[fd77::21]:80\", weight = 2 }]";
    assert_eq!(
        complaint(&format!("backends = {list}\n"), ""),
        "pair.toml:15:1: service \"relay\" needs backends"
    );
    assert_eq!(complaint(list, "[]"), "pair.toml:18:12: a relay has 1 to 256 backends");
    let many: Vec<String> = (1..=257).map(|port| format!("\"10.77.0.21:{port}\"")).collect();
    assert_eq!(
        complaint(list, &format!("[{}]", many.join(", "))),
        "pair.toml:18:12: a relay has 1 to 256 backends"
    );
    assert_eq!(
        complaint("10.77.0.21:80", "10.77.0.100:80"),
        "pair.toml:18:13: backend 10.77.0.100:80 has a service address: it would be its own client"
    );
    assert_eq!(
        complaint(", \"fd77::100\"", ""),
        "pair.toml:18:30: backend [fd77::21]:80 gets no client: no service address is IPv6"
    );
    assert_eq!(
        complaint("[fd77::21]", "10.77.0.21"),
        "pair.toml:18:30: backend 10.77.0.21:80 is named twice"
    );
    assert_eq!(
        complaint("[fd77::21]", "[fe80::21]"),
        "pair.toml:18:30: fe80::21 cannot be a backend: it is link-local"
    );
    assert_eq!(complaint("10.77.0.21:80", "10.77.0.21:0"), "pair.toml:18:13: a port is 1 to 65535");
    let no_address =
        "is no address with a port, such as \"192.0.2.21:80\" or \"[2001:db8::21]:80\"";
    for (from, to) in [("10.77.0.21:80", "web:80"), ("[fd77::21]:80", "fd77::21")] {
        let told = complaint(from, to);
        assert!(told.starts_with("pair.toml:18:") && told.ends_with(no_address), "{told}");
    }
}

#[test]
fn what_is_wrong_with_weights_is_said() {
    assert_eq!(
        complaint("weight = 2", "weight = 257"),
        "pair.toml:18:68: weight is 0 to 256, not 257"
    );
    assert_eq!(
        complaint("\"10.77.0.21:80\", { address = \"[fd77::21]:80\", weight = 2 }", {
            "{ address = \"10.77.0.21:80\", weight = 0 }"
        }),
        "pair.toml:18:12: every backend has weight 0: no client would be served"
    );
    assert_eq!(
        complaint("weight = 2", "wait = 2"),
        "pair.toml:18:59: unknown field `wait`, expected `address` or `weight`"
    );
    assert_eq!(
        complaint("\"10.77.0.21:80\"", "80"),
        "pair.toml:18:13: invalid type: integer `80`, expected \"ADDRESS:PORT\" or { address = \
         \"ADDRESS:PORT\", weight = NUMBER }"
    );
}

#[test]
fn what_is_wrong_with_checks_is_said() {
    assert_eq!(
        with("check = { interval = \"10ms\" }"),
        "pair.toml:19:22: interval is 100ms to 1h, not 10ms"
    );
    assert_eq!(
        with("check = { interval = \"1s\", timeout = \"2s\" }"),
        "pair.toml:19:38: timeout (2s) is longer than interval (1s): a check must end before the \
         next"
    );
    assert_eq!(with("check = { rise = 0 }"), "pair.toml:19:18: rise is 1 to 255, not 0");
    assert_eq!(with("check = { fall = 256 }"), "pair.toml:19:18: fall is 1 to 255, not 256");
    assert_eq!(
        with("idle-timeout = \"0s\""),
        "pair.toml:19:16: idle-timeout is 1s to 30days, not 0s"
    );
}

#[test]
fn servers_may_be_asked_over_http() {
    let http = |set: &str| match relay(&format!("{RELAY}check = {{ {set} }}\n")) {
        ServiceKind::Relay { check: Check { http: Some(http), .. }, .. } => {
            (http.path.clone(), http.host.clone(), http.wanted.clone())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(http("http = \"/\""), ("/".into(), None, vec![(200, 399)]));
    let set =
        "http = \"/health?deep=1\", host = \"www.example.org:8080\", status = \"200-299, 401\"";
    let wanted = vec![(200, 299), (401, 401)];
    assert_eq!(http(set), ("/health?deep=1".into(), Some("www.example.org:8080".into()), wanted));
    assert_eq!(http("http = \"/\", status = \"204\"").2, [(204, 204)]);
}

#[test]
fn what_is_wrong_with_checks_over_http_is_said_all_at_once() {
    let path = "http is what is asked, such as \"/health\": it begins with a slash, has no blank and no \"#\", and at \
                most 256 bytes";
    let host = "host is a name or an address, with a port if need be, of at most 128 bytes";
    let status = "status is codes from 200 to 599, such as \"200-399\" or \"200, 204, 401\", at most 16 of them";
    let all =
        with("check = { http = \"health\", host = \"two words\", status = \"OK\", rise = 0 }");
    let mut lines: Vec<_> = all.lines().map(|line| line.split_once(": ").unwrap().1).collect();
    lines.sort_unstable();
    assert_eq!(lines, [host, path, "rise is 1 to 255, not 0", status]);
    let long = format!("/{}", "x".repeat(256));
    for wrong in ["", "/a b", "/a#b", "/\u{e4}", &long] {
        assert_eq!(
            with(&format!("check = {{ http = '{wrong}' }}")),
            format!("pair.toml:19:18: {path}")
        );
    }
    let long = "x".repeat(129);
    for wrong in ["", "a/b", "a\u{e4}", &long] {
        let told = with(&format!("check = {{ http = '/', host = '{wrong}' }}"));
        assert_eq!(told, format!("pair.toml:19:30: {host}"));
    }
    let many = vec!["200"; 17].join(",");
    for wrong in
        ["", "200-", "-200", "399-200", "100", "600", "20", "+200", "200;204", "200,", &many]
    {
        let told = with(&format!("check = {{ http = '/', status = '{wrong}' }}"));
        assert_eq!(told, format!("pair.toml:19:32: {status}"));
    }
    for (key, value) in [("host", "a"), ("status", "200")] {
        assert_eq!(
            with(&format!("check = {{ {key} = '{value}' }}")),
            format!(
                "pair.toml:19:{}: {key} belongs to a check over HTTP: say what is asked, http = \"/PATH\"",
                14 + key.len()
            )
        );
    }
}

#[test]
fn keys_belong_to_their_kind() {
    assert_eq!(with("root = \"/srv\""), "pair.toml:19:8: service \"relay\" has no root");
    let echo = RELAY.replace("\"relay\"", "\"echo\"");
    assert_eq!(
        parse(&format!("{echo}idle-timeout = \"1h\"\ncheck = {{}}\n")).unwrap_err().to_string(),
        "pair.toml:18:12: service \"echo\" has no backends\n\
         pair.toml:19:16: service \"echo\" has no idle-timeout\n\
         pair.toml:20:9: service \"echo\" has no check"
    );
    assert_eq!(
        with("[[service]]\nkind = \"echo\"\nport = 8080"),
        "pair.toml:21:8: port 8080 has a service already"
    );
}

/// So that they can be changed on one node, and then on the other.
#[test]
fn a_pair_agrees_on_its_relays_ports_and_not_on_their_backends() {
    let parts = |text: &str| parse(text).unwrap().parts();
    let one = parts(RELAY);
    for (from, to) in [("weight = 2", "weight = 3"), ("21:80", "22:80")] {
        assert_eq!(one, parts(&RELAY.replacen(from, to, 1)));
    }
    let other = parts(&RELAY.replacen("port = 8080", "port = 8081", 1));
    let differing = one.iter().zip(&other).filter(|(one, other)| one != other);
    assert_eq!(differing.map(|(one, _)| one.0).collect::<Vec<_>>(), ["services"]);
}

#[test]
fn a_family_whose_clients_a_relay_has_to_refuse_is_warned_of() {
    assert_eq!(parse(RELAY).unwrap().warnings(), [""; 0]);
    let refused =
        ["relay 8080 has no IPv6 backend that takes clients: whoever comes by IPv6 is refused"];
    for (from, to) in
        [(", { address = \"[fd77::21]:80\", weight = 2 }", ""), ("weight = 2", "weight = 0")]
    {
        assert_eq!(parse(&RELAY.replacen(from, to, 1)).unwrap().warnings(), refused);
    }
    let one_family = RELAY.replacen(", \"fd77::100\"", "", 1);
    let one_family = one_family.replacen(", { address = \"[fd77::21]:80\", weight = 2 }", "", 1);
    assert_eq!(parse(&one_family).unwrap().warnings(), [""; 0]);
}

/// Where something masks it, the death of a server is told by what its requests meet.
#[test]
fn what_a_dead_server_has_ends_where_nothing_masks_it() {
    let on_death = |set: &str| match relay(&format!("{RELAY}{set}\n")) {
        ServiceKind::Relay { on_death, .. } => on_death,
        other => panic!("{other:?}"),
    };
    let (cut, keep) = (OnDeath::Cut, OnDeath::Keep);
    for (mode, default) in [("splice", cut), ("join", cut), ("replay", keep), ("journal", keep)] {
        let mode = format!("mode = \"{mode}\"");
        assert_eq!(on_death(&mode), default, "{mode}");
        for (word, meant) in [("cut", cut), ("keep", keep)] {
            assert_eq!(on_death(&format!("{mode}\non-death = \"{word}\"")), meant, "{mode}");
        }
    }
    let told = with("on-death = \"kill\"");
    assert!(told.contains("unknown variant `kill`, expected `cut` or `keep`"), "{told}");
    let echo = RELAY.replace("\"relay\"", "\"echo\"");
    let told = parse(&format!("{echo}on-death = \"cut\"\n")).unwrap_err().to_string();
    assert!(told.ends_with("service \"echo\" has no on-death"), "{told}");
}

#[test]
fn a_client_has_a_bound_and_one_that_makes_sense() {
    let bounded = relay(&format!("{RELAY}client-max = 100\n"));
    assert!(matches!(bounded, ServiceKind::Relay { client_max: 100, .. }));
    assert_eq!(with("client-max = 0"), "pair.toml:19:14: client-max is 1 to 1000000, not 0");
}

#[test]
fn a_relay_may_join_and_then_has_a_time_for_its_servers_to_answer() {
    let mode = |set: &str| match relay(&format!("{RELAY}{set}\n")) {
        ServiceKind::Relay { mode, .. } => mode,
        other => panic!("{other:?}"),
    };
    let connect = Duration::from_secs;
    assert_eq!(mode("mode = \"splice\""), RelayMode::Splice);
    assert_eq!(mode("mode = \"join\""), RelayMode::Join { connect: connect(3) });
    let set = "mode = \"join\"\nconnect-timeout = \"9s\"";
    assert_eq!(mode(set), RelayMode::Join { connect: connect(9) });
    assert_eq!(
        with("connect-timeout = \"9s\""),
        "pair.toml:19:19: connect-timeout belongs to a relay with mode \"join\" or \"replay\" or \
         \"journal\" or \"mirror\""
    );
    assert!(
        with("mode = \"both\"").contains("unknown variant `both`"),
        "{}",
        with("mode = \"both\"")
    );
    let parts = |set: &str| parse(&format!("{RELAY}{set}\n")).unwrap().parts();
    assert_ne!(parts("mode = \"join\""), parts("mode = \"splice\""), "both nodes must agree");
}

#[test]
fn a_relay_may_mask_the_death_of_its_servers_and_says_of_which_requests() {
    let mode = |set: &str| match relay(&format!("{RELAY}{set}\n")) {
        ServiceKind::Relay {
            mode: RelayMode::Masked { rules, connect, first_byte }, idle, ..
        } => (rules, connect, first_byte, idle),
        other => panic!("{other:?}"),
    };
    let s = Duration::from_secs;
    for masking in [Masking::Replay, Masking::Journal] {
        let set = match masking {
            Masking::Replay => "mode = \"replay\"",
            Masking::Journal => "mode = \"journal\"",
        };
        assert_eq!(mode(set), (Rules::of(masking), s(3), s(60), s(300)));
    }
    let set = "mode = \"journal\"\nrequest-max = \"64KiB\"\nreply-max = \"32MiB\"\noversize = \
               \"refuse\"\nexecute-again = \"never\"\nretries = 0\nconnect-timeout = \"1s\"\n\
               first-byte-timeout = \"9s\"\nidle-timeout = \"1m\"";
    let rules = Rules {
        masking: Masking::Journal,
        request_max: 64 << 10,
        reply_max: 32 << 20,
        oversize: Oversize::Refuse,
        again: Again::Never,
        retries: 0,
    };
    assert_eq!(mode(set), (rules, s(1), s(9), s(60)));
    for (set, complaint) in [
        ("reply-max = \"1MiB\"", "20:13: reply-max belongs to a relay with mode \"journal\""),
        ("request-max = \"1KiB\"", "20:15: request-max is 4 KiB to 32 MiB, not 1.0 KiB"),
        ("request-max = \"33MiB\"", "20:15: request-max is 4 KiB to 32 MiB, not 33.0 MiB"),
        ("retries = 17", "20:11: retries is 0 to 16, not 17"),
        ("first-byte-timeout = \"1ms\"", "20:22: first-byte-timeout is 1s to 1day, not 1ms"),
    ] {
        let set = format!("mode = \"replay\"\n{set}");
        assert_eq!(with(&set), format!("pair.toml:{complaint}"));
    }
    let belongs = "belongs to a relay with mode \"replay\" or \"journal\"";
    for key in ["oversize = \"pass\"", "execute-again = \"all\"", "retries = 1"] {
        let complaint = with(key);
        assert!(complaint.ends_with(belongs), "{complaint}");
    }
    let parts = |set: &str| parse(&format!("{RELAY}{set}\n")).unwrap().parts();
    let [join, replay, journal] =
        ["join", "replay", "journal"].map(|mode| parts(&format!("mode = \"{mode}\"")));
    assert!(join != replay && replay != journal, "both nodes must agree");
}

/// Two backends of a family, and more of the relay.
fn mirror(more: &str) -> Result<Config, ConfigError> {
    let two = "backends = [\"10.77.0.21:80\", \"10.77.0.22:80\"]";
    let list = RELAY.lines().find(|line| line.starts_with("backends")).unwrap();
    parse(&format!("{}mode = \"mirror\"\n{more}\n", RELAY.replacen(list, two, 1)))
}

#[test]
fn a_relay_may_mirror_two_backends_and_says_when_one_of_them_has_failed() {
    let meant = |more: &str| match mirror(more).unwrap().services[0].kind.clone() {
        ServiceKind::Relay { mode: RelayMode::Mirror { rules, connect }, idle, .. } => {
            (rules, connect, idle)
        }
        other => panic!("{other:?}"),
    };
    let s = Duration::from_secs;
    let rules = MirrorRules { lag_time: s(3), lag_bytes: 0, on_difference: OnDifference::Elder };
    assert_eq!(meant(""), (rules, s(3), s(7440)));
    assert_eq!(meant("lag-bytes = \"0B\"\non-difference = \"elder\"").0, rules);
    let set = "lag-time = \"100ms\"\nlag-bytes = \"64KiB\"\non-difference = \"reset\"\n\
               connect-timeout = \"1s\"\nidle-timeout = \"1h\"";
    let rules = MirrorRules {
        lag_time: Duration::from_millis(100),
        lag_bytes: 64 << 10,
        on_difference: OnDifference::Reset,
    };
    assert_eq!(meant(set), (rules, s(1), s(3600)));
    let parts = |more: &str| mirror(more).unwrap().parts();
    assert_eq!(parts(""), parts(set), "rules go with each session");
    assert_ne!(parts(""), parse(RELAY).unwrap().parts(), "both nodes must agree");
}

#[test]
fn a_mirror_that_makes_no_sense_is_refused() {
    let says = |more: &str| mirror(more).unwrap_err().to_string();
    for (more, complaint) in [
        ("lag-time = \"1ms\"", "20:12: lag-time is 100ms to 1h, not 1ms"),
        ("lag-bytes = \"1KiB\"", "20:13: lag-bytes is 4 KiB to 32 MiB, not 1.0 KiB"),
        ("reply-max = \"1MiB\"", "20:13: reply-max belongs to a relay with mode \"journal\""),
        (
            "execute-again = \"all\"",
            "20:17: execute-again belongs to a relay with mode \"replay\" or \"journal\"",
        ),
    ] {
        assert_eq!(says(more), format!("pair.toml:{complaint}"));
    }
    for key in ["lag-time = \"3s\"", "lag-bytes = \"4KiB\"", "on-difference = \"reset\""] {
        let complaint = with(&format!("mode = \"join\"\n{key}"));
        assert!(complaint.ends_with("belongs to a relay with mode \"mirror\""), "{complaint}");
    }
    assert_eq!(
        with("mode = \"mirror\""),
        "pair.toml:18:12: a relay with mode \"mirror\" has two backends of a family, which get the \
         same input; of IPv4 it has 1\npair.toml:18:12: a relay with mode \"mirror\" has two backends \
         of a family, which get the same input; of IPv6 it has 1"
    );
    let text = RELAY.replacen(
        "[\"10.77.0.21:80\", { address = \"[fd77::21]:80\", weight = 2 }]",
        "[\"10.77.0.21:80\", { address = \"10.77.0.22:80\", weight = 0 }]",
        1,
    );
    assert_eq!(
        parse(&format!("{text}mode = \"mirror\"\n")).unwrap_err().to_string(),
        "pair.toml:18:12: a relay with mode \"mirror\" needs both of its backends: none has weight 0"
    );
}

#[test]
fn a_service_is_called_after_its_kind_and_port_or_as_it_is_told() {
    let named = |set: &str| parse(&format!("{RELAY}{set}\n")).unwrap();
    let plain = named("");
    let names: Vec<_> = plain.services.iter().map(|service| service.name.as_str()).collect();
    assert!(names.iter().any(|name| name.starts_with("relay-")), "{names:?}");
    let other = named("name = \"web\"");
    assert_eq!(other.services.last().map(|service| service.name.as_str()), Some("web"));
    assert_ne!(other.parts(), plain.parts(), "records name a service");
    assert_eq!(other.parts_3(), plain.parts_3(), "those of version 3 number it");
    for wrong in ["", "two words", &"x".repeat(65)] {
        let complaint = with(&format!("name = \"{wrong}\""));
        assert!(complaint.contains("a name has 1 to 64 letters"), "{complaint}");
    }
    let twin = "\n[[service]]\nkind = \"echo\"\nport = 9999\nname = \"web\"";
    let complaint = with(&format!("name = \"web\"\n{twin}"));
    assert!(complaint.contains("service \"web\" needs another name"), "{complaint}");
}
