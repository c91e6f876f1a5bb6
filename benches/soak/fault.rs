//! What an upstream does wrong, and how often.

use crate::dice::Dice;

/// Something that goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The head comes late, but comes.
    Slow,
    /// An error of its own, in OpenAI's form.
    Failing,
    /// A 429 that asks for a second of patience.
    Busy,
    /// The connection is reset before the head.
    Reset,
    /// The connection ends in the middle of the head.
    HalfHead,
    /// Nothing comes at all.
    Hang,
    /// The connection is reset in the middle of the body.
    Cut,
    /// The connection ends in the middle of the body.
    Close,
    /// The body stops in its middle, and the connection stays.
    Stall,
    /// An error stands where the answer should; in a stream, its first event.
    Error,
    /// A stream has an error event in its middle; a plain answer stops in the middle of its JSON.
    LateError,
    /// A stream ends without its end mark; a plain answer is an empty object.
    NoEnd,
    /// The connection stays open, but carries nothing more: the next call on it finds it dead.
    DeadAfter,
}

/// How an upstream fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Every call is answered.
    Well,
    /// This many of a hundred calls meet with a fault.
    Rough(u64),
    /// Every call is answered with a 500.
    Failing,
}

impl Mood {
    /// Returns what goes wrong with the next call.
    pub(crate) fn fault(self, dice: &mut Dice) -> Option<Fault> {
        match self {
            Self::Well => None,
            Self::Failing => Some(Fault::Failing),
            Self::Rough(percent) => dice
                .percent(percent)
                .then(|| dice.one_of(&Fault::ALL))
                .flatten(),
        }
    }
}

impl Fault {
    const ALL: [Self; 13] = [
        Self::Slow,
        Self::Failing,
        Self::Busy,
        Self::Reset,
        Self::HalfHead,
        Self::Hang,
        Self::Cut,
        Self::Close,
        Self::Stall,
        Self::Error,
        Self::LateError,
        Self::NoEnd,
        Self::DeadAfter,
    ];
}
