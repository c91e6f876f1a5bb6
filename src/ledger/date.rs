//! The date of a log line: RFC 3339, in UTC, to the millisecond. A thread works every second out once, not for each line.

use std::{
    cell::Cell,
    io::Write as _,
    time::{Duration, SystemTime},
};

/// Appends the date of `time`; what is before 1970 is 1970.
pub(super) fn write(out: &mut Vec<u8>, time: SystemTime) {
    let time = time.duration_since(SystemTime::UNIX_EPOCH);
    let time = time.unwrap_or_default();
    out.extend_from_slice(&second(time.as_secs()));
    out.push(b'.');
    out.extend_from_slice(&thousandths(time.subsec_millis()));
    out.push(b'Z');
}

/// Returns the last three decimal digits of `number`.
pub(super) fn thousandths(number: u32) -> [u8; 3] {
    [number / 100, number / 10, number].map(|number| (number % 10) as u8 + b'0')
}

/// Returns the date without its `Z`, `seconds` after 1970 began.
fn second(seconds: u64) -> [u8; 19] {
    let last = LAST.get();
    if last.seconds == seconds {
        return last.text;
    }
    let mut text = *EPOCH;
    let date =
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    // There is no room for the `Z`, nor for what comes after the year 9999.
    let _ = write!(text.as_mut_slice(), "{date}");
    LAST.set(Second { seconds, text });
    text
}

/// A second, and how it is written.
#[derive(Clone, Copy)]
struct Second {
    seconds: u64,
    text: [u8; 19],
}

const EPOCH: &[u8; 19] = b"1970-01-01T00:00:00";

thread_local! {
    static LAST: Cell<Second> = const { Cell::new(Second { seconds: 0, text: *EPOCH }) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(time: SystemTime) -> String {
        let mut out = Vec::new();
        write(&mut out, time);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn a_date_is_humantimes_also_when_the_second_was_written_before(
            seconds in 0_u64..250_000_000_000, millis in 0_u64..1_000, step in 0_u64..3,
        ) {
            for seconds in [seconds, seconds, seconds + step] {
                let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000 * seconds + millis);
                prop_assert_eq!(written(time), humantime::format_rfc3339_millis(time).to_string());
            }
        }
    }

    #[test]
    fn a_clock_before_1970_does_no_harm() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(written(time), "1970-01-01T00:00:00.000Z");
    }
}
