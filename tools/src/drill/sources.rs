//! The addresses that a drill's connections come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// A list of addresses, ranges and networks, one family or both.
///
/// Written `10.77.0.10`, `10.77.0.20-10.77.0.29` or `10.77.1.0/24`. Every address must be set on
/// this host; the kernel says so when one is not. With no address of a family the kernel chooses.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

/// Why a source is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    /// Neither an address nor a range nor a network.
    #[error("'{0}' is not an address, a range FIRST-LAST or a network ADDRESS/LENGTH")]
    Syntax(String),
    /// The end lies before the start, or in the other family.
    #[error("'{0}' is not a range: its last address does not follow its first")]
    Range(String),
}

impl Sources {
    /// Adds one entry.
    ///
    /// # Errors
    /// When it is not an address, a range or a network.
    pub fn add(&mut self, entry: &str) -> Result<(), SourceError> {
        let (first, last) = bounds(entry)?;
        let (family, range) = match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (&mut self.v4, (u128::from(a.to_bits()), u128::from(b.to_bits())))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (&mut self.v6, (a.to_bits(), b.to_bits())),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(SourceError::Range(entry.into()));
            }
        };
        if range.1 < range.0 {
            return Err(SourceError::Range(entry.into()));
        }
        family.push(range);
        Ok(())
    }

    /// The source of the `index`-th connection towards `target`, going round the list.
    pub fn pick(&self, index: u64, target: IpAddr) -> Option<IpAddr> {
        let ranges = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        let count = |(first, last): &(u128, u128)| (last - first).saturating_add(1);
        let total = ranges.iter().map(count).fold(0, u128::saturating_add);
        let mut rest = u128::from(index).checked_rem(total)?;
        for range in ranges {
            if rest < count(range) {
                let bits = range.0 + rest;
                return Some(match u32::try_from(bits) {
                    Ok(bits) if target.is_ipv4() => IpAddr::V4(Ipv4Addr::from_bits(bits)),
                    _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
                });
            }
            rest -= count(range);
        }
        None
    }
}

fn bounds(entry: &str) -> Result<(IpAddr, IpAddr), SourceError> {
    let syntax = || SourceError::Syntax(entry.into());
    if let Ok(address) = IpAddr::from_str(entry) {
        return Ok((address, address));
    }
    if let Some((first, last)) = entry.split_once('-') {
        return Ok((first.parse().map_err(|_| syntax())?, last.parse().map_err(|_| syntax())?));
    }
    let network = IpNet::from_str(entry).map_err(|_| syntax())?;
    Ok((network.network(), network.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(entries: &[&str]) -> Sources {
        let mut sources = Sources::default();
        for entry in entries {
            sources.add(entry).unwrap();
        }
        sources
    }

    #[test]
    fn connections_go_round_the_addresses_of_their_family() {
        let sources = sources(&["10.0.0.1", "10.0.0.5-10.0.0.6", "fd00::/127"]);
        let four: IpAddr = "10.9.9.9".parse().unwrap();
        let six: IpAddr = "fd99::1".parse().unwrap();
        let picked = |target| -> Vec<String> {
            (0..4).filter_map(|i| sources.pick(i, target)).map(|a| a.to_string()).collect()
        };
        assert_eq!(picked(four), ["10.0.0.1", "10.0.0.5", "10.0.0.6", "10.0.0.1"]);
        assert_eq!(picked(six), ["fd00::", "fd00::1", "fd00::", "fd00::1"]);
    }

    #[test]
    fn without_a_source_the_kernel_chooses() {
        assert_eq!(Sources::default().pick(3, "10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let refuse = |entry: &str| Sources::default().add(entry).unwrap_err();
        assert_eq!(refuse("router"), SourceError::Syntax("router".into()));
        assert_eq!(refuse("10.0.0.0/33"), SourceError::Syntax("10.0.0.0/33".into()));
        let backwards = "10.0.0.9-10.0.0.1";
        assert_eq!(refuse(backwards), SourceError::Range(backwards.into()));
        assert_eq!(refuse("10.0.0.1-fd00::1"), SourceError::Range("10.0.0.1-fd00::1".into()));
    }
}
