//! Capture files as the tools read them.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use standin_tools::capture::check_file;

/// The input is the file. Reading it ends, in a verdict or in a complaint.
pub fn run(data: &[u8]) {
    // The reader takes a path; a file in memory has one where there is such a thing.
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(data).and_then(|()| file.flush()).is_err() {
        return;
    }
    let services = [
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100)),
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100)),
    ];
    match check_file(file.path(), &services, Duration::ZERO) {
        Ok(verdict) => {
            assert!(verdict.segments <= verdict.frames);
            assert!(verdict.frames <= data.len() as u64, "a frame takes a byte at least");
            assert!(!verdict.to_string().is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
