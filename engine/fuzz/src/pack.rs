//! A corpus in one file: each input behind its length, 32 bits, big-endian.

/// The longest pack, bytes: all of them together stay below 600 kB.
pub const PACK_MAX: usize = 40_000;

/// The inputs of `pack`, in its order; `None` if it is not one.
#[must_use]
pub fn unpack(pack: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut inputs, mut rest) = (Vec::new(), pack);
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (input, behind) = behind.split_at_checked(length)?;
        inputs.push(input);
        rest = behind;
    }
    Some(inputs)
}

/// The pack of `inputs`, the shortest first, none twice: the same corpus is the same file. What does
/// not fit into [`PACK_MAX`] is left out; of those the fuzzers find more than enough.
#[must_use]
pub fn pack(mut inputs: Vec<Vec<u8>>) -> Vec<u8> {
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let mut bytes = Vec::new();
    for input in &inputs {
        let Ok(length) = u32::try_from(input.len()) else { break };
        if bytes.len() + 4 + input.len() > PACK_MAX {
            break;
        }
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(input);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_sorted_and_once() {
        let bytes = pack(vec![b"bb".to_vec(), b"a".to_vec(), Vec::new(), b"bb".to_vec()]);
        assert_eq!(unpack(&bytes), Some(vec![&b""[..], b"a", b"bb"]));
        assert_eq!(unpack(&bytes[..bytes.len() - 1]), None, "cut off");
    }

    #[test]
    fn what_is_long_finds_no_room() {
        let bytes = pack(vec![vec![1; PACK_MAX], vec![2; 10]]);
        assert_eq!(unpack(&bytes), Some(vec![&[2; 10][..]]));
    }
}
