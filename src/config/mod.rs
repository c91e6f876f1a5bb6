//! What the operator decided, checked and ready for use.
//!
//! [`Config`] is the checked form; `file` mirrors `proxy.toml` one to one, `check` turns the one into the other and
//! reports every problem at once. Consumers receive their own section, never the whole.
//!
//! ```text
//! proxy.toml ─┐
//! environment ├─ tree ── read ──> File ── check ──> Config
//! flags ──────┘            └─────────┴── Problems, each with its place and a hint
//! ```
//!
//! # Scope
//! Flags count more than the environment, the environment more than the file. Without a path no file is read; there is
//! no place where one would be looked for.

mod address;
mod base_url;
mod caller;
mod check;
mod container;
mod env;
mod file;
mod glob;
mod problem;
mod proof;
mod read;
mod rule;
mod scope;
mod secret;
mod state;
mod token;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use http::HeaderName;
use serde::Deserialize;

pub use self::{
    base_url::BaseUrl,
    caller::{Caller, KeyHash},
    env::CONFIG as CONFIG_VARIABLE,
    glob::Glob,
    problem::{Complaint, Place, Problem, Problems, Warning},
    proof::Proof,
    rule::{DIALECTS, MAX_NAME, MAX_TAGS, Match, Rule, Temperature, Timer, Timers},
    scope::{Pointer, Scope},
    secret::ApiKey,
    token::Token,
};
use self::{
    check::{Checked, Finding, Surroundings},
    secret::Environment,
    tree::{Node, Override},
};

/// Everything that the operator can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses that calls are accepted on, `host:port`; at least one.
    pub listen: Vec<String>,
    /// The operator's own listener.
    pub admin: Admin,
    /// Where calls go.
    pub upstream: Upstream,
    /// What is kept, how long and for whom.
    pub cache: Cache,
    /// What holds for some calls instead; the first that fits counts.
    pub rules: Vec<Rule>,
    /// What the key is made of.
    pub key: Key,
    /// Where entries are kept.
    pub store: Store,
    /// Bounds on what clients may cost.
    pub limits: Limits,
    /// The web pages that may call.
    pub cors: Cors,
    /// The proxy's own callers; none for whomever the upstream accepts.
    pub callers: Vec<Caller>,
    /// The log.
    pub log: Log,
    /// What can hardly be meant, although it can be done.
    pub warnings: Vec<Warning>,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address of the admin listener, `host:port`; `None` when switched off.
    pub listen: Option<String>,
    /// What the operator proves to be the operator by; `None` where loopback alone is trusted.
    pub token: Option<Token>,
}

/// `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in headers and log lines; part of the key.
    pub name: String,
    /// What an SDK would be given as its base URL.
    pub base_url: BaseUrl,
    /// The proxy's own key for it, which is sent in place of callers' credentials.
    pub api_key: Option<ApiKey>,
    /// HTTP version spoken to it.
    pub http: HttpVersion,
    /// Its timers.
    pub timeouts: Timeouts,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
    /// How it is asked whether a credential still holds.
    pub proof: Proof,
    /// What of a bearer token is the scope `credential`.
    pub identity: Identity,
}

/// What of a bearer token is the scope `credential`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase", expecting = "`off` or `jwt`")]
pub enum Identity {
    /// The whole token.
    Off,
    /// Of a JWT its issuer, audience, tenant and subject.
    Jwt,
}

/// HTTP version spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(expecting = "`\"1.1\"` or `\"2\"`, in quotes")]
pub enum HttpVersion {
    /// HTTP/1.1, one call per connection at a time.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2, by ALPN on https, by prior knowledge on http.
    #[serde(rename = "2")]
    Http2,
}

/// Timers of an upstream; `None` = off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To establish a connection, TLS included.
    pub connect: Option<Duration>,
    /// From the call sent to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the body.
    pub idle: Option<Duration>,
    /// For the whole call.
    pub total: Option<Duration>,
}

/// `[cache]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Whether anything is read or stored at all.
    pub enabled: bool,
    /// Whose entries may be shared with a caller.
    pub scope: Scope,
    /// Lifetime of an entry; `None` = the dialect's default (chat: 24 h).
    pub ttl: Option<Duration>,
    /// Upper bound on every lifetime, also on `X-Cache-TTL`.
    pub max_ttl: Duration,
    /// How long past its lifetime an entry is served at once, and refreshed in the background.
    pub stale_while_revalidate: Duration,
    /// How long past its lifetime an entry may stand in for a failed upstream.
    pub stale_if_error: Duration,
    /// For how long a credential that its upstream has accepted needs not be asked about again.
    pub proof_ttl: Duration,
    /// Largest body that is stored, bytes.
    pub max_entry: u64,
    /// What becomes of a call whose only client hung up.
    pub on_disconnect: OnDisconnect,
    /// How long a reader may hold up a tape that no longer records everything.
    pub stall: Duration,
    /// Request headers and directives that callers may use.
    pub allow: Vec<Directive>,
    /// Whether other gateways' cache headers are understood.
    pub aliases: bool,
    /// Whether LiteLLM's `cache` object in the body of a call is understood, and cut out of it.
    pub litellm: bool,
    /// Request headers whose values are part of the key.
    pub vary: Vec<HeaderName>,
    /// Finish reasons with which an answer is stored.
    pub finish_reasons: Vec<String>,
}

/// What becomes of a call whose only client hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase", expecting = "`finish` or `cancel`")]
pub enum OnDisconnect {
    /// It goes on for at most 60 s, if its answer can be stored.
    Finish,
    /// It is cancelled.
    Cancel,
}

/// A request header or `Cache-Control` directive that the operator may take from callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Directive {
    /// `Cache-Control: no-cache`, `Pragma: no-cache`, `X-Cache-Refresh`.
    NoCache,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `X-Cache-Bypass`.
    Bypass,
    /// `Cache-Control: max-age`.
    MaxAge,
    /// `Cache-Control: min-fresh`.
    MinFresh,
    /// `Cache-Control: max-stale`.
    MaxStale,
    /// `Cache-Control: only-if-cached`.
    OnlyIfCached,
    /// `Cache-Control: stale-if-error`.
    StaleIfError,
    /// `X-Cache-TTL`.
    Ttl,
    /// `X-Cache-Namespace`.
    Namespace,
    /// `X-Cache-Tags`.
    Tags,
    /// `DELETE /_refrain/cache/KEY`, `POST /_refrain/purge`.
    Purge,
}

/// `[key]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The operator's own version; changing it starts an empty key space.
    pub version: String,
    /// Fields that are keyed although they are on the dialect's ignore list.
    pub keep: Vec<String>,
    /// Whether a field at OpenAI's documented default equals its absence.
    pub fold_openai_defaults: bool,
    /// Largest body that is keyed, bytes.
    pub max_body: u64,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bound of the memory tier, open tapes included, bytes.
    pub memory: u64,
    /// The disk tier; `None` when switched off, or where there is no place for it.
    pub disk: Option<Disk>,
}

/// The disk tier of `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The database file.
    pub path: PathBuf,
    /// Its bound, bytes.
    pub max_size: u64,
    /// For all that a call may wait for it.
    pub budget: Duration,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request bodies held for keying, all calls together, bytes.
    pub buffered: u64,
    /// For the head of a request to arrive.
    pub header: Duration,
    /// Between two pieces of a request's body.
    pub body: Duration,
    /// Between two calls on a connection.
    pub idle: Duration,
    /// For a client that does not read to make room again.
    pub write: Duration,
    /// For running calls to end after SIGTERM.
    pub drain: Duration,
    /// Names that the proxy may be called by, beside loopback's, where its own key would be spent; in lower case, no
    /// dot at the end.
    pub hosts: Vec<String>,
}

/// `[cors]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins of the pages that may call, as browsers send them; `*` alone for all.
    pub origins: Vec<String>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Form of the lines.
    pub format: LogFormat,
    /// `tracing` filter, such as `info` or `refrain=debug`.
    pub level: String,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase", expecting = "`auto`, `text` or `json`")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; `None` for none.
    pub path: Option<PathBuf>,
    /// The environment, whole; those that are no settings are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// The flags that were given.
    pub flags: Vec<Flag>,
}

/// A flag that stands for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The flag, such as `--upstream`.
    pub name: &'static str,
    /// The setting, such as `upstream.base_url`.
    pub key: &'static str,
    /// What it was given, once for each time.
    pub values: Vec<String>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// Fails with everything that is wrong in any of the sources; only a file that is no TOML keeps its own settings from
    /// being checked.
    pub fn load(sources: Sources) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut tree = match sources.path.as_deref() {
            Some(path) => read_file(path).unwrap_or_else(|found| {
                problems.extend(found);
                no_file()
            }),
            None => no_file(),
        };
        let (settings, found) = env::overrides(&sources.env);
        problems.extend(found);
        for setting in settings
            .into_iter()
            .chain(sources.flags.into_iter().map(Override::from))
        {
            tree.put(setting);
        }
        let surroundings = Surroundings {
            memory: container::memory_limit(),
            state: state::directory(&sources.env),
            env: Environment::of(&sources.env),
        };
        Self::settle(&tree, problems, surroundings)
    }

    fn settle(
        tree: &Node,
        mut problems: Vec<Problem>,
        surroundings: Surroundings,
    ) -> Result<Self, Problems> {
        let (file, found) = read::read(tree);
        problems.extend(found);
        let checked = check::check(file, surroundings);
        if let Err(findings) = &checked {
            problems.extend(findings.iter().map(|finding| placed(finding, tree)));
        }
        match checked {
            Ok(Checked { mut config, doubts }) if problems.is_empty() => {
                let mut doubts: Vec<_> = doubts.iter().map(|doubt| placed(doubt, tree)).collect();
                doubts.sort();
                config.warnings = doubts.into_iter().map(Warning::of).collect();
                Ok(config)
            }
            _ => Err(Problems::of(problems)),
        }
    }
}

impl FromStr for Config {
    type Err = Problems;

    /// Reads the text of a `proxy.toml` alone: no environment, no flags, no look at the container. So there is no state
    /// directory, and no disk tier unless the text names its file.
    fn from_str(text: &str) -> Result<Self, Problems> {
        let (tree, problems) = match Node::parse(FILE_NAME, text) {
            Ok(tree) => (tree, Vec::new()),
            Err(problems) => (no_file(), problems),
        };
        Self::settle(&tree, problems, Surroundings::default())
    }
}

impl Default for Config {
    /// Returns what an empty file stands for.
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "an empty file is fine, as a test says")]
        Self::from_str("").expect("the defaults are fine")
    }
}

impl Directive {
    /// Every directive.
    pub const ALL: [Self; 12] = [
        Self::NoCache,
        Self::NoStore,
        Self::Bypass,
        Self::MaxAge,
        Self::MinFresh,
        Self::MaxStale,
        Self::OnlyIfCached,
        Self::StaleIfError,
        Self::Ttl,
        Self::Namespace,
        Self::Tags,
        Self::Purge,
    ];

    /// Returns the name in `[cache] allow`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCache => "no-cache",
            Self::NoStore => "no-store",
            Self::Bypass => "bypass",
            Self::MaxAge => "max-age",
            Self::MinFresh => "min-fresh",
            Self::MaxStale => "max-stale",
            Self::OnlyIfCached => "only-if-cached",
            Self::StaleIfError => "stale-if-error",
            Self::Ttl => "ttl",
            Self::Namespace => "namespace",
            Self::Tags => "tags",
            Self::Purge => "purge",
        }
    }

    /// Returns the directive of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|directive| directive.as_str() == name)
    }
}

impl From<Flag> for Override {
    fn from(flag: Flag) -> Self {
        Self {
            place: Place::Flag(flag.name),
            path: flag.key.split('.').map(str::to_owned).collect(),
            values: flag.values,
        }
    }
}

fn no_file() -> Node {
    Node::empty(Place::File(FILE_NAME.into()))
}

/// Reads a file whole, but no endless one: `/dev/zero` and a log named by mistake are refused.
fn read_file(path: &Path) -> Result<Node, Vec<Problem>> {
    let name = path.display().to_string();
    let refuse = |what: String, hint: &str| {
        vec![Problem {
            place: Some(Place::File(name.as_str().into())),
            key: String::new(),
            complaint: Complaint::new(what, hint),
        }]
    };
    let bytes = read_up_to(path, LARGEST_FILE + 1).map_err(|error| {
        refuse(
            format!("cannot be read: {error}"),
            "name a file by `--config`, or leave it out for the defaults",
        )
    })?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(refuse(
            "is larger than 1 MiB, so hardly a configuration".to_owned(),
            "",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        refuse(
            format!(
                "is not valid UTF-8 from byte {} on",
                error.utf8_error().valid_up_to()
            ),
            "save it as UTF-8",
        )
    })?;
    Node::parse(&name, &text)
}

fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives a finding the place of the first of its settings that was written.
fn placed(finding: &Finding, tree: &Node) -> Problem {
    let written = finding
        .keys
        .iter()
        .find_map(|key| Some((key, tree.place_of(key)?)));
    Problem {
        place: written.map(|(_, place)| place.clone()),
        key: written
            .map(|(key, _)| key)
            .or(finding.keys.first())
            .cloned()
            .unwrap_or_default(),
        complaint: finding.complaint.clone(),
    }
}

/// The documented file, equal to the defaults.
pub const PROXY_TOML: &str = include_str!("../../proxy.toml");

/// The fields that `[key] keep` may name: those that the chat dialect leaves out of the key although an operator may
/// want them in. `stream` and `stream_options` are not among them, since one entry serves both modes.
pub const KEEPABLE: [&str; 5] = [
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Largest body that can be keyed at all, bytes: places in its canonical form, which may be longer, fit in 32 bits.
pub const MAX_BODY: u64 = 1 << 28;

/// Request headers that carry a credential: together they are the caller's.
///
/// The first four are those of OpenAI, Azure and Anthropic; the others are of gateways in front of them, where a
/// caller may be known by nothing else.
pub const CREDENTIALS: [&str; 10] = [
    "authorization",
    "api-key",
    "x-api-key",
    "cookie",
    "cf-aig-authorization",
    "helicone-auth",
    "ocp-apim-subscription-key",
    "x-goog-api-key",
    "x-portkey-api-key",
    "x-portkey-virtual-key",
];

const FILE_NAME: &str = "proxy.toml";

const LARGEST_FILE: u64 = 1 << 20;
