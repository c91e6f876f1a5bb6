//! The forms that one answer can be asked for in, and which of them can stand in for which. Pure.
//!
//! # Usage is exact or absent
//! A plain completion tells its usage; a stream only where `stream_options.include_usage` asked for it. So a stream
//! that was recorded without is the one recording that has less to say than another call is entitled to.

/// A form that an answer is asked for and recorded in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// One JSON object.
    #[default]
    Plain,
    /// A stream of chunks.
    Stream {
        /// Whether it is to tell its usage (`stream_options.include_usage`).
        usage: bool,
    },
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Plain, Self::TELLING, Self::SILENT];

    /// A stream that tells its usage.
    const TELLING: Self = Self::Stream { usage: true };
    /// A stream that does not.
    const SILENT: Self = Self::Stream { usage: false };

    /// Returns whether this is a stream.
    pub fn is_stream(self) -> bool {
        self != Self::Plain
    }

    /// Returns whether a call for this form is entitled to the usage.
    pub fn is_entitled(self) -> bool {
        self != Self::SILENT
    }

    /// Returns the `Content-Type` of an answer told anew in this form.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "application/json",
            Self::Stream { .. } => "text/event-stream; charset=utf-8",
        }
    }

    /// Returns whether a recording made in this form, which tells its usage or does not (`has_usage`), may answer a
    /// call that asks for `asked`.
    ///
    /// A plain completion without usage says all that its upstream would have said, so it lends itself to everybody.
    pub fn lends(self, has_usage: bool, asked: Self) -> bool {
        self == asked || self == Self::Plain || has_usage || !asked.is_entitled()
    }

    /// Returns whether a recording made in this form that lends itself to a call for `asked` is, byte for byte, what that
    /// call gets: its own form, or a stream whose usage came unasked.
    pub fn passes_for(self, asked: Self) -> bool {
        self == asked || (self == Self::SILENT && asked == Self::TELLING)
    }

    /// Returns the forms whose flights a call for this form may join, the best first: itself, then those that tell
    /// what it is entitled to.
    pub fn joins(self) -> &'static [Self] {
        match self {
            Self::Plain => &[Self::Plain, Self::TELLING],
            Self::Stream { usage: true } => &[Self::TELLING, Self::Plain],
            Self::Stream { usage: false } => &[Self::SILENT, Self::TELLING, Self::Plain],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recording_that_may_lack_the_usage_is_kept_from_those_entitled_to_it() {
        let (plain, telling, silent) = (Form::Plain, Form::TELLING, Form::SILENT);
        let table = [
            (plain, [true, true, true], "the most that an upstream tells"),
            (telling, [false, true, true], "asked for it and got none"),
            (silent, [false, false, true], "did not ask"),
        ];
        for (recorded, without, why) in table {
            let lends = |has_usage| Form::ALL.map(|asked| recorded.lends(has_usage, asked));
            assert_eq!(lends(false), without, "{why}");
            assert_eq!(lends(true), [true; 3], "{why}");
        }
        assert_eq!(Form::ALL, [plain, telling, silent]);
    }

    #[test]
    fn a_flight_is_joined_only_by_those_whom_its_recording_would_serve_with_its_usage() {
        for asked in Form::ALL {
            let joins: Vec<_> = Form::ALL
                .into_iter()
                .filter(|flight| asked.joins().contains(flight))
                .collect();
            let expected: Vec<_> = Form::ALL
                .into_iter()
                .filter(|flight| flight.lends(flight.is_entitled(), asked))
                .collect();
            assert_eq!(joins, expected, "{asked:?}");
            assert_eq!(asked.joins().first(), Some(&asked), "its own is the best");
        }
    }
}
