//! The bytes that two nodes compare. A change here is a change of the protocol: it needs a new version, and
//! the digests of the old one beside the new. The expected values were computed apart from this code.

use std::path::Path;

use super::Config;

/// One of everything that is digested, and nothing at its default.
const WHOLE: &str = r#"[pair]
key-file = "pair.key"
addresses = ["10.77.0.100", "fd77::100"]
lost-peer = "stop"

[node.a]
lan-interface = "eth0"
lan-address = "10.77.0.1"
replication-address = "10.78.0.1"

[node.b]
lan-interface = "eth0"
lan-address = "10.77.0.2"
replication-address = "10.78.0.2"

[ports]
replication = 7001
heartbeat = 7002

[timing]
heartbeat = "12ms"
detection = "1500ms"

[tcp]
receive-buffer = "64KiB"
send-buffer = "128KiB"
user-timeout = "90s"
time-wait = "30s"
backlog = 512
max-connections = 1000
keepalive = { idle = "2min", interval = "15s", probes = 4 }

[[service]]
kind = "echo"
port = 7

[[service]]
kind = "files"
port = 80
root = "/srv/www"

[arbiter]
kind = "etcd"
endpoints = ["http://192.0.2.9:2379"]
lost = "stop"
"#;

fn whole() -> Config {
    Config::parse("pair.toml", Path::new("/etc/standin"), WHOLE).unwrap()
}

#[test]
fn each_part_is_encoded_as_ever() {
    let golden = [
        (
            "addresses",
            "09 616464726573736573 01 04000000 0a4d0064 01 10000000 \
             fd770000000000000000000000000100",
        ),
        ("lost-peer", "09 6c6f73742d70656572 01 04000000 73746f70 02 08000000 0100000000000000"),
        ("ports", "05 706f727473 01 08000000 591b000000000000 02 08000000 5a1b000000000000"),
        ("timing", "06 74696d696e67 01 08000000 001bb70000000000 02 08000000 002f685900000000"),
        (
            "tcp",
            "03 746370 01 08000000 0000010000000000 02 08000000 0000020000000000 03 \
             27000000 \
             010800000000b08ef01b000000020800000000d6117e0300000003080000000400000000000000 \
             04 08000000 00046bf414000000 05 08000000 00ac23fc06000000 06 08000000 \
             0002000000000000 07 08000000 e803000000000000",
        ),
        (
            "services",
            "08 7365727669636573 01 21000000 \
             0108000000070000000000000002040000006563686f03060000006563686f2d37 \
             01 24000000 \
             01080000005000000000000000020500000066696c6573030800000066696c65732d3830",
        ),
        (
            "arbiter",
            "07 61726269746572 01 04000000 65746364 02 04000000 73746f70 03 09000000 \
             2f7374616e64696e2f 04 08000000 00f2052a01000000 05 08000000 0065cd1d00000000",
        ),
    ];
    let parts = whole().encoded();
    assert_eq!(parts.len(), golden.len());
    for (part, (name, golden)) in parts.iter().zip(golden) {
        let digits: String = part.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((part.name, digits), (name, golden.replace(' ', "")));
    }
}

/// By the encoding, and by the text that version 3 digests.
#[test]
fn each_part_has_its_digest_in_both_versions() {
    let golden = [
        ("addresses", 0xcedd_c482_9119_ed3b, 0xcd64_ea9e_ccef_b691),
        ("lost-peer", 0x1bf3_ef82_289b_22eb, 0x82a2_9b0d_9878_7657),
        ("ports", 0x8c13_e68c_2ff5_b5f0, 0xaae0_1f0b_2ad6_4563),
        ("timing", 0xb766_ea60_9b58_5baf, 0x8ec2_7d1d_4ecd_3176),
        ("tcp", 0xfd30_1a4c_49d6_2779, 0x7da4_f3c5_b2b6_e7bc),
        ("services", 0x2302_fd3e_4b10_fd9e, 0xe583_b312_7838_f3e1),
        ("arbiter", 0xe1ab_8905_7792_d950, 0xebf3_ea58_94d4_b50e),
    ];
    let (parts, parts_3) = (whole().parts(), whole().parts_3());
    assert_eq!(parts, golden.map(|(name, digest, _)| (name, digest)));
    assert_eq!(parts_3, golden.map(|(name, _, digest)| (name, digest)));
}

#[test]
fn a_service_is_named_by_the_same_number_on_both_nodes() {
    let names: Vec<_> = whole().services.iter().map(|service| service.id().0).collect();
    assert_eq!(names, [0x0fed_5b79, 0xe4aa_9a55]);
}

#[test]
fn what_is_not_configured_has_no_field() {
    let without = WHOLE.split("[arbiter]").next().unwrap().replace("keepalive =", "#");
    let config = Config::parse("pair.toml", Path::new("/etc/standin"), &without).unwrap();
    let (ours, whole) = (config.encoded(), whole().encoded());
    let differing = ours.iter().zip(&whole).filter(|(one, other)| one != other);
    assert_eq!(differing.map(|(part, _)| part.name).collect::<Vec<_>>(), ["tcp"]);
    assert_eq!((ours.len(), whole.len()), (6, 7), "and no arbiter's part");
    assert_eq!(whole[4].bytes.len() - ours[4].bytes.len(), 5 + 3 * (5 + 8), "keepalive's field");
}
