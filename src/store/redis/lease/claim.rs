//! What lies under a lease's name: whose it is, or that nobody is to wait there. Pure.
//!
//! ```text
//! claim   form u8   hops u8   random [16]
//! apart   "x"
//! ```
//!
//! # Scope
//! Whatever else lies there was written by nobody who holds a lease; it is no reason to wait.

use crate::dialect::chat::form::Form;

/// What the holder of a lease writes, and knows it again by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim([u8; LENGTH]);

/// Who holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A flight.
    Flight {
        /// The form that it was asked for in.
        form: Form,
        /// How often its call has come through Refrain.
        hops: u8,
    },
    /// Nobody: the last flight brought what answers no other call, so that others go on by themselves for a moment.
    Apart,
    /// Nobody.
    Nobody,
}

impl Claim {
    /// Makes the claim of a flight; `random` tells it from all others.
    pub fn new(form: Form, hops: u8, random: [u8; RANDOM]) -> Self {
        let mut claim = [0; LENGTH];
        let (head, tail) = claim.split_at_mut(LENGTH - RANDOM);
        head.copy_from_slice(&[byte(form), hops]);
        tail.copy_from_slice(&random);
        Self(claim)
    }

    /// Returns what is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Holder {
    /// Reads what lies under the name of a lease.
    pub fn read(value: &[u8]) -> Self {
        if value == APART {
            return Self::Apart;
        }
        let flight = match value {
            [form, hops, random @ ..] if random.len() == RANDOM => Some((*form, *hops)),
            _ => None,
        };
        let known = |(form, hops)| {
            let form = Form::ALL.into_iter().find(|known| byte(*known) == form)?;
            Some(Self::Flight { form, hops })
        };
        flight.and_then(known).unwrap_or(Self::Nobody)
    }
}

fn byte(form: Form) -> u8 {
    match form {
        Form::Plain => b'p',
        Form::Stream { usage: true } => b'u',
        Form::Stream { usage: false } => b's',
    }
}

/// What stands in place of a claim while nobody is to wait.
pub const APART: &[u8] = b"x";
/// Random bytes of a claim.
pub(super) const RANDOM: usize = 16;
/// Bytes of a claim.
const LENGTH: usize = 2 + RANDOM;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_tells_its_form_and_its_hops() {
        for form in Form::ALL {
            for hops in [0, 3, u8::MAX] {
                let claim = Claim::new(form, hops, [7; RANDOM]);
                let flight = Holder::Flight { form, hops };
                assert_eq!(Holder::read(claim.as_bytes()), flight);
            }
        }
    }

    #[test]
    fn what_no_flight_has_written_is_nobodys() {
        let claim = Claim::new(Form::Plain, 0, [7; RANDOM]);
        let unknown = [&b"?"[..], &claim.as_bytes()[1..]].concat();
        for (value, why) in [
            (&b""[..], "nothing is there"),
            (b"p", "too short"),
            (&claim.as_bytes()[..17], "cut off"),
            (&[claim.as_bytes(), b"!"].concat(), "too long"),
            (&unknown, "a form that does not exist"),
            (&[0xff; 18], "other bytes"),
        ] {
            assert_eq!(Holder::read(value), Holder::Nobody, "{why}");
        }
        assert_eq!(Holder::read(APART), Holder::Apart);
    }
}
