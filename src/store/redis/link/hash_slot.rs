//! Which of a cluster's 16,384 hash slots a key lies in. Pure.

/// Returns the hash slot of `key`: of what stands between its first `{` and the next `}`, if that is anything.
pub fn hash_slot(key: &[u8]) -> u16 {
    crc(tag(key)) % SLOTS
}

fn tag(key: &[u8]) -> &[u8] {
    let find = |bytes: &[u8], wanted: u8| bytes.iter().position(|byte| *byte == wanted);
    let open = find(key, b'{').and_then(|at| key.get(at + 1..));
    let tag = open.and_then(|rest| rest.get(..find(rest, b'}')?));
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// CRC-16/XMODEM, as the cluster's specification says.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
        crc
    })
}

/// How many there are.
pub(super) const SLOTS: u16 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_where_redis_says() {
        assert_eq!(crc(b"123456789"), 0x31c3, "the specification's check value");
        // As `CLUSTER KEYSLOT` of redis-server 7.0.15 says.
        for (key, slot) in [
            ("", 0),
            ("foo", 12_182),
            ("refrain:e:{foo}", 12_182),
            ("{foo}{bar}", 12_182),
            ("bar", 5_061),
        ] {
            assert_eq!(hash_slot(key.as_bytes()), slot, "{key}");
        }
        for whole in ["{}foo", "foo{}{bar}", "foo{bar", "}foo{"] {
            assert_eq!(hash_slot(whole.as_bytes()), crc(whole.as_bytes()) % SLOTS);
        }
        assert_eq!(hash_slot(b"a{{bar}}"), hash_slot(b"{bar"));
    }
}
