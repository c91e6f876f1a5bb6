//! What replicas tell each other over the channel. Pure.
//!
//! ```text
//! 'p'  value u64  at u64  change u64  name  a purge was done: so many changes of the purges there were by then
//! 'a'  subject [32]  score u64       an upstream has accepted or refused a credential
//! 'd'  key [32]  delivery u64        a flight is over
//! 'r'  key [32]  delivery u64  by u64  an entry was replaced
//! 's'                                somebody looks for the secret
//! 'b'  sender u64  number u64        a sign of life
//! ```
//!
//! Numbers are little-endian.
//!
//! # Scope
//! Whatever comes is read as one of these or as nothing: a purge that no replica does is none. What it says is believed as far as
//! what lies in Redis is.

use crate::{
    call::{Slot, key::Key},
    store::generations::Row,
};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A purge was done.
    Purged {
        /// Which.
        row: Row,
        /// The number of this change, of all since the purges lie there.
        change: u64,
    },
    /// An upstream has said something of a credential.
    Proof {
        /// What it is about.
        subject: [u8; 32],
        /// When, in milliseconds of Unix time, doubled; one more for a refusal.
        score: u64,
    },
    /// The flight for this slot is over.
    Done(Slot),
    /// Another entry lies there now than before, or none: what others have of it in memory is old.
    Replaced {
        /// Where.
        slot: Slot,
        /// Who has written it; random.
        by: u64,
    },
    /// Somebody looks for the secret that replicas share.
    Wanted,
    /// A replica hears itself.
    Beat {
        /// Which one; random.
        sender: u64,
        /// Counts its beats.
        number: u64,
    },
}

impl Message {
    /// Returns the bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Purged { row, change } => {
                let Row { name, value, at } = row;
                let numbers = [value, at, change].map(|number| number.to_le_bytes());
                spelled(PURGED, &[numbers.as_flattened(), name])
            }
            Self::Proof { subject, score } => spelled(PROOF, &[subject, &score.to_le_bytes()]),
            Self::Done(Slot { key, delivery }) => {
                spelled(DONE, &[key.as_bytes(), &delivery.to_le_bytes()])
            }
            Self::Replaced { slot, by } => spelled(
                REPLACED,
                &[
                    slot.key.as_bytes(),
                    &slot.delivery.to_le_bytes(),
                    &by.to_le_bytes(),
                ],
            ),
            Self::Wanted => spelled(WANTED, &[]),
            Self::Beat { sender, number } => {
                spelled(BEAT, &[&sender.to_le_bytes(), &number.to_le_bytes()])
            }
        }
    }

    /// Reads what has come; `None` for what is no message.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let mut rest = Rest(rest);
        let message = match *tag {
            PURGED => {
                let (value, at, change) = (rest.number()?, rest.number()?, rest.number()?);
                let name = std::mem::take(&mut rest.0).to_vec();
                let row = Row { name, value, at };
                // What is taken in is written down where the others have lost it.
                row.is_credible().then_some(Self::Purged { row, change })?
            }
            PROOF => Self::Proof {
                subject: rest.bytes()?,
                score: rest.number()?,
            },
            DONE => Self::Done(rest.slot()?),
            REPLACED => Self::Replaced {
                slot: rest.slot()?,
                by: rest.number()?,
            },
            WANTED => Self::Wanted,
            BEAT => Self::Beat {
                sender: rest.number()?,
                number: rest.number()?,
            },
            _ => return None,
        };
        rest.0.is_empty().then_some(message)
    }
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn slot(&mut self) -> Option<Slot> {
        Some(Slot {
            key: Key::from_bytes(self.bytes()?),
            delivery: self.number()?,
        })
    }

    fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }
}

fn spelled(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(parts.iter().copied().flatten());
    bytes
}

const PURGED: u8 = b'p';
const PROOF: u8 = b'a';
const DONE: u8 = b'd';
const REPLACED: u8 = b'r';
const WANTED: u8 = b's';
const BEAT: u8 = b'b';

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> impl Strategy<Value = Message> {
        let purged = (any::<(bool, Vec<u8>)>(), any::<[u64; 3]>()).prop_map(|(name, numbers)| {
            let [value, at, change] = numbers;
            let (soft, mut name) = name;
            name.insert(0, u8::from(soft));
            let row = Row {
                name,
                value,
                at: at / 9,
            };
            Message::Purged { row, change }
        });
        let proof = (any::<[u8; 32]>(), any::<u64>())
            .prop_map(|(subject, score)| Message::Proof { subject, score });
        let slots = (any::<[u8; 32]>(), any::<u64>()).prop_map(|(key, delivery)| {
            let key = Key::from_bytes(key);
            Slot { key, delivery }
        });
        let done = slots.clone().prop_map(Message::Done);
        let replaced = (slots, any::<u64>()).prop_map(|(slot, by)| Message::Replaced { slot, by });
        let beat = (any::<u64>(), any::<u64>())
            .prop_map(|(sender, number)| Message::Beat { sender, number });
        prop_oneof![purged, proof, done, replaced, Just(Message::Wanted), beat]
    }

    #[test]
    fn a_purge_that_would_spoil_what_replicas_share_is_no_message() {
        let sent = |name: &[u8], at| {
            let row = Row {
                name: name.to_vec(),
                value: 1,
                at,
            };
            Message::decode(&Message::Purged { row, change: 5 }.encode())
        };
        assert!(sent(&[0, 0, 0], 1_760_000_000_000).is_some());
        for name in [&b""[..], b"era", b"changes", b"forgotten", &[0; 9_000]] {
            assert_eq!(sent(name, 1_760_000_000_000), None, "{name:?}");
        }
        for at in [u64::MAX, u64::MAX / 4, u64::MAX / 4 - 1] {
            assert_eq!(
                sent(&[0, 0, 0], at),
                None,
                "behind it none could be written"
            );
        }
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_sent(message in messages()) {
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn whatever_comes_is_a_message_or_nothing(bytes in any::<Vec<u8>>()) {
            if let Some(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
