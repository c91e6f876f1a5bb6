//! Durations, sizes and counts as people write them: `"10m"`, `"64MiB"`, `20`, `"off"`, `"auto"`.
//!
//! They are bounded when read, so that nobody behind has to think of overflow: a [`Span`] can be added to any clock, a
//! [`Size`] is exact also as a float.

use std::{fmt, marker::PhantomData, time::Duration};

use bytesize::ByteSize;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// A length of time, `"90s"`, `"10m"`, `"1h 30m"`, `"7d"`; at most ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub(super) Duration);

/// A number of bytes, `"64MiB"` (binary), `"64MB"` (decimal); at most 8 PiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

/// A number of things, written without quotes; none to a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Count(pub(super) u32);

/// A value, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off<T> {
    Off,
    At(T),
}

/// A value, or `"auto"`: Refrain decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auto<T> {
    Auto,
    At(T),
}

/// What is written as a string, or as a number, and read by rules of its own.
trait Unit: Sized {
    /// Whether it may be written as a number.
    const IS_NUMBER: bool = false;

    /// Writes what is allowed, to fit after "expected".
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Reads `text`.
    fn parse(text: &str) -> Option<Self>;
}

impl<T> Off<T> {
    /// Returns the value, unless it is off.
    pub(super) fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::At(value) => Some(value),
        }
    }
}

impl<T> Auto<T> {
    /// Returns the value, unless the decision is Refrain's.
    pub(super) fn given(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::At(value) => Some(value),
        }
    }
}

impl Unit for Span {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration of at most ten years, such as `90s`, `10m` or `7d`")
    }

    fn parse(text: &str) -> Option<Self> {
        let span = humantime::parse_duration(text).ok()?;
        (span <= LONGEST).then_some(Self(span))
    }
}

impl Unit for Size {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as `512KiB`, `64MiB` or `4GiB`")
    }

    fn parse(text: &str) -> Option<Self> {
        let size = text.parse::<ByteSize>().ok()?.as_u64();
        (size <= LARGEST).then_some(Self(size))
    }
}

impl Unit for Count {
    const IS_NUMBER: bool = true;

    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to a million, such as `20`")
    }

    fn parse(text: &str) -> Option<Self> {
        let count = text.replace('_', "").parse().ok()?;
        (count <= MOST).then_some(Self(count))
    }
}

impl<T: Unit> Unit for Off<T> {
    const IS_NUMBER: bool = T::IS_NUMBER;

    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`off` or ")?;
        T::expected(f)
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            Some(Self::Off)
        } else {
            T::parse(text).map(Self::At)
        }
    }
}

impl<T: Unit> Unit for Auto<T> {
    const IS_NUMBER: bool = T::IS_NUMBER;

    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`auto` or ")?;
        T::expected(f)
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "auto" {
            Some(Self::Auto)
        } else {
            T::parse(text).map(Self::At)
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_nanos() > 0 {
            return humantime::format_duration(self.0).fmt(f);
        }
        let units = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];
        in_units(self.0.as_secs(), units, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
            ("B", 1),
        ];
        in_units(self.0, units, f)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

impl<'de, T: Unit> Deserialize<'de> for Off<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

impl<'de, T: Unit> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)
    }
}

fn read<'de, T: Unit, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Reading<T>(PhantomData<T>);

    impl<T: Unit> Visitor<'_> for Reading<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            T::expected(f)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    if T::IS_NUMBER {
        // Of the two only this one is told of numbers; see `read`.
        deserializer.deserialize_u64(Reading(PhantomData))
    } else {
        deserializer.deserialize_str(Reading(PhantomData))
    }
}

/// Writes `number` as one would: as a whole number of the largest unit that it is a multiple of.
fn in_units(number: u64, units: [(&str, u64); 4], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [.., smallest] = units;
    let fits = |(_, unit): &(&str, u64)| number > 0 && number.is_multiple_of(*unit);
    let (name, unit) = units.into_iter().find(fits).unwrap_or(smallest);
    write!(f, "{}{name}", number / unit)
}

/// Ten years: more is a slip of the pen, and no clock overflows by it.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// 2^53: sizes are also used in proportions, and up to here an `f64` is exact.
const LARGEST: u64 = 1 << 53;

/// More of anything is a slip of the pen, too.
const MOST: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Serialize, Serializer};

    use super::*;

    // For the test that compares the keys of `File` with those of `proxy.toml`; the values do not matter there.
    impl Serialize for Span {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl Serialize for Size {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl Serialize for Count {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u32(self.0)
        }
    }

    impl<T: Serialize> Serialize for Off<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Off => serializer.serialize_str("off"),
                Self::At(value) => value.serialize(serializer),
            }
        }
    }

    impl<T: Serialize> Serialize for Auto<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Auto => serializer.serialize_str("auto"),
                Self::At(value) => value.serialize(serializer),
            }
        }
    }

    #[test]
    fn durations_are_read_as_written() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("10m", 600),
            ("1h 30m", 5400),
            ("7d", 604_800),
            ("3650d", 315_360_000),
        ] {
            assert_eq!(
                Span::parse(text),
                Some(Span(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        for text in [
            "",
            " ",
            "10",
            "m",
            "-1s",
            "5 parsecs",
            "off",
            "3651d",
            "99999999999999999999s",
            "1e3s",
        ] {
            assert_eq!(Span::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_written() {
        for (text, bytes) in [
            ("0B", 0),
            ("1024", 1024),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("1MB", 1_000_000),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1MiB",
            "64 elephants",
            "auto",
            "9PiB",
            "99999999999999999999EiB",
            "64MiB 1KiB",
        ] {
            assert_eq!(Size::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn counts_are_read_as_written() {
        for (text, count) in [("0", 0), ("20", 20), ("1_000", 1000), ("1000000", MOST)] {
            assert_eq!(Count::parse(text), Some(Count(count)), "{text}");
        }
        for text in [
            "",
            "_",
            "-1",
            "1.5",
            "0x10",
            "many",
            "1000001",
            "99999999999",
        ] {
            assert_eq!(Count::parse(text), None, "{text:?}");
        }
        assert_eq!(Off::<Count>::parse("off").map(Off::on), Some(None));
    }

    #[test]
    fn the_words_off_and_auto_stand_beside_the_values() {
        let hour = Span(Duration::from_secs(3600));
        assert_eq!(Off::<Span>::parse("off").map(Off::on), Some(None));
        assert_eq!(Off::<Span>::parse("1h").map(Off::on), Some(Some(hour)));
        assert_eq!(Auto::<Span>::parse("auto").map(Auto::given), Some(None));
        assert_eq!(Auto::<Span>::parse("1h").map(Auto::given), Some(Some(hour)));
        assert!(Off::<Span>::parse("auto").is_none());
        assert!(Auto::<Size>::parse("off").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_within_bounds(text in "\\PC*|[0-9. ]{1,30}[a-zA-Z]{0,4}") {
            if let Some(Span(span)) = Span::parse(&text) {
                prop_assert!(span <= LONGEST);
            }
            if let Some(Size(size)) = Size::parse(&text) {
                prop_assert!(size <= LARGEST);
            }
        }

        #[test]
        fn what_is_shown_can_be_read_again(seconds in 0..=LONGEST.as_secs(), bytes in 0..1024_u64, shift in 0..43_u32) {
            let span = Span(Duration::from_secs(seconds));
            prop_assert_eq!(Span::parse(&span.to_string()), Some(span));
            let size = Size(bytes << shift);
            prop_assert_eq!(Size::parse(&size.to_string()), Some(size));
        }
    }
}
