//! Shares of a whole, as people write them: `0.2`.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// A share of a whole: a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// Returns the share that `number` is, if it is one.
    pub fn new(number: f64) -> Option<Self> {
        (0.0..=1.0).contains(&number).then_some(Self(number))
    }

    /// Returns the number, from 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }
}

// No share is NaN.
impl Eq for Ratio {}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl Visitor<'_> for Reading {
            type Value = Ratio;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from `0.0` to `1.0`")
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Ratio, E> {
                Ratio::new(number)
                    .ok_or_else(|| E::invalid_value(Unexpected::Other(&number.to_string()), &self))
            }
        }

        deserializer.deserialize_f64(Reading)
    }
}

#[cfg(test)]
impl serde::Serialize for Ratio {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_at_most_the_whole() {
        for number in [0.0, 0.2, 1.0] {
            assert_eq!(Ratio::new(number).map(Ratio::get), Some(number));
        }
        for number in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::new(number), None, "{number}");
        }
    }
}
