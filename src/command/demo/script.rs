//! The demo's script: which calls are made, and what is claimed about each.

/// One line of the table: a call, or several identical ones at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    /// What stands in the table.
    pub(super) title: &'static str,
    /// The call.
    pub(super) ask: Ask,
    /// How many make it, all at once.
    pub(super) callers: usize,
    /// What is to come of it.
    pub(super) claim: Claim,
}

/// A chat call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// The user's message.
    pub(super) question: &'static str,
    /// Whether the answer is wanted as a stream.
    pub(super) stream: bool,
    /// `temperature`, if it is sent.
    pub(super) temperature: Option<f64>,
    /// The caller's API key.
    pub(super) key: &'static str,
    /// `Cache-Control`, if it is sent.
    pub(super) cache_control: Option<&'static str>,
}

/// What a scene is to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// How many answers come with which `X-Cache`.
    pub(super) verdicts: &'static [(usize, &'static str)],
    /// How many calls reach the upstream.
    pub(super) upstream: u64,
    /// The scene, by its place in the script, whose answer comes again byte for byte.
    pub(super) replays: Option<usize>,
}

/// The place of the first question in the script.
pub(super) const FIRST: usize = 0;

/// The place where it is asked again; the summary compares their times.
pub(super) const AGAIN: usize = 1;

/// The script.
pub(super) const SCENES: [Scene; 9] = [
    once("\"What is a cache?\"", QUESTION, MISS),
    once("  again", QUESTION, hit(FIRST)),
    once("  at temperature 0.7", WARMER, MISS),
    once("  with another API key", STRANGER, MISS),
    once("  Cache-Control: no-cache", REFRESH, MISS),
    once("  again", QUESTION, hit(4)),
    once("\"Sing me a song.\", streamed", SONG, MISS),
    once("  again", SONG, hit(6)),
    Scene {
        title: "\"All together!\", 20 at once",
        ask: TOGETHER,
        callers: 20,
        claim: Claim {
            verdicts: &[(1, "MISS"), (19, "COLLAPSED")],
            upstream: 1,
            replays: None,
        },
    },
];

const QUESTION: Ask = Ask {
    question: "What is a cache?",
    stream: false,
    temperature: None,
    key: "sk-demo",
    cache_control: None,
};

const SONG: Ask = Ask {
    question: "Sing me a song.",
    stream: true,
    ..QUESTION
};

const TOGETHER: Ask = Ask {
    question: "All together!",
    ..SONG
};

const WARMER: Ask = Ask {
    temperature: Some(0.7),
    ..QUESTION
};

const STRANGER: Ask = Ask {
    key: "sk-another",
    ..QUESTION
};

const REFRESH: Ask = Ask {
    cache_control: Some("no-cache"),
    ..QUESTION
};

const MISS: Claim = Claim {
    verdicts: &[(1, "MISS")],
    upstream: 1,
    replays: None,
};

const fn hit(replays: usize) -> Claim {
    Claim {
        verdicts: &[(1, "HIT")],
        upstream: 0,
        replays: Some(replays),
    }
}

const fn once(title: &'static str, ask: Ask, claim: Claim) -> Scene {
    Scene {
        title,
        ask,
        callers: 1,
        claim,
    }
}
