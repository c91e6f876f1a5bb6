//! What was written turned into what holds, or all that is wrong with it. Pure: the surroundings are an argument, so
//! that a file is judged alike wherever it is read.
//!
//! # Scope
//! The file itself has been read by now: here stands what a value has to be beyond its type, and what values have to be
//! to each other.

mod access;
mod cache;
mod doubt;
mod failure;
mod glob;
mod limits;
mod route;
mod rule;
mod store;
mod tls;
mod upstream;

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

pub(super) use self::cache::keyable_header;
use super::{
    Admin, ApiKey, Coalesce, Config, KEEPABLE, Key, Log, MAX_BODY, Store, Token, address, file,
    load::Files,
    problem::Complaint,
    read::{hint_for, item_key},
    secret::Environment,
    units::{Count, Off, Size, Span},
};

/// Something that is wrong with a setting, or with two together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The settings concerned; the problem's place is that of the first one that was written.
    pub(super) keys: Vec<String>,
    pub(super) complaint: Complaint,
}

/// What is left to Refrain depends on where it runs.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// The container's memory limit, bytes.
    pub(super) memory: Option<u64>,
    /// The directory for state.
    pub(super) state: Option<PathBuf>,
    /// The variables that secrets may be taken from.
    pub(super) env: Environment,
    /// The files that the settings name.
    pub(super) files: Files,
}

/// A configuration that can be used.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) config: Config,
    /// What the operator should think over.
    pub(super) doubts: Vec<Finding>,
}

/// Checks `file` and fills in what was left to Refrain.
pub(super) fn check(
    file: file::File,
    surroundings: &Surroundings,
) -> Result<Checked, Vec<Finding>> {
    let mut findings = Findings::default();
    check_listeners(&file, &mut findings);
    let memory = store::memory(&file, surroundings.memory, &mut findings);
    let token = token(&file.admin, &surroundings.env);
    let token = token.unwrap_or_else(|finding| {
        findings.problems.push(finding);
        None
    });
    let redis = store::redis(&file.store, surroundings, &mut findings);
    let disk = store::disk(&file, redis.as_ref(), surroundings, &mut findings);
    let upstreams = upstream::upstreams(file.upstream, surroundings, &mut findings);
    let limits = limits::limits(file.limits, file.key.max_body, &mut findings);
    let retry = failure::retry(&file.retry, &mut findings);
    let breaker = failure::breaker(&file.breaker, &mut findings);
    let fallback = failure::fallback(&file.fallback, &mut findings);
    let rules = rule::rules(file.rule, file.cache.max_ttl, &mut findings);
    let cache = cache::cache(file.cache, memory, &mut findings);
    let callers = access::callers(file.caller, &mut findings);
    let cors = access::cors(file.cors, &mut findings);
    access::check_together(
        &file.listen,
        upstreams.as_deref().and_then(upstream::secret).as_deref(),
        &callers,
        &cors,
        &mut findings,
    );
    let coalesce = coalesce(&file.coalesce, &mut findings);
    let key = key(file.key, &surroundings.env, &mut findings);
    let log = log(file.log, &mut findings);
    let config = upstreams.map(|upstreams| Config {
        listen: file.listen,
        admin: Admin {
            listen: admin(file.admin.listen),
            token,
        },
        upstreams,
        retry,
        breaker,
        fallback,
        cache,
        coalesce,
        rules,
        key,
        store: Store {
            memory,
            disk,
            redis,
            trust: store::trust(&file.store),
        },
        limits,
        cors,
        callers,
        log,
        warnings: Vec::new(),
    });
    if let Some(config) = &config {
        doubt::check(config, &mut findings);
    }
    let Findings { problems, doubts } = findings;
    config
        .filter(|_| problems.is_empty())
        .map(|config| Checked { config, doubts })
        .ok_or(problems)
}

/// Returns what is wrong with the addresses that Refrain listens on.
pub(super) fn listeners(file: &file::File) -> Vec<Finding> {
    let mut findings = Findings::default();
    check_listeners(file, &mut findings);
    findings.problems
}

/// Returns the token of the admin listener, if there is one.
pub(super) fn token(admin: &file::Admin, env: &Environment) -> Result<Option<Token>, Finding> {
    Token::resolved(admin.token.clone(), env).map_err(|complaint| Finding {
        keys: vec!["admin.token".to_owned()],
        complaint,
    })
}

/// Returns the address of the admin listener, unless it is switched off.
pub(super) fn admin(listen: String) -> Option<String> {
    (listen != OFF).then_some(listen)
}

#[derive(Debug, Default)]
struct Findings {
    problems: Vec<Finding>,
    doubts: Vec<Finding>,
}

impl Findings {
    /// Notes what is wrong with `key`.
    fn add(&mut self, key: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) {
        self.note(vec![key.into()], Complaint::new(what, hint));
    }

    /// Notes that two settings do not go together.
    fn clash(&mut self, keys: [&str; 2], what: impl Into<String>, hint: impl Into<String>) {
        self.note(keys.map(str::to_owned).to_vec(), Complaint::new(what, hint));
    }

    fn note(&mut self, keys: Vec<String>, complaint: Complaint) {
        self.problems.push(Finding { keys, complaint });
    }

    /// Notes what can be done, but can hardly be meant.
    fn warn(&mut self, keys: &[&str], what: impl Into<String>, hint: impl Into<String>) {
        self.doubts.push(Finding {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            complaint: Complaint::new(what, hint),
        });
    }

    /// Returns what came out well, else notes what is wrong.
    fn unless_ok<T>(&mut self, key: &str, result: Result<T, Complaint>) -> Option<T> {
        result
            .map_err(|complaint| self.note(vec![key.to_owned()], complaint))
            .ok()
    }

    /// Notes a duration of nothing.
    fn positive(&mut self, key: &str, span: Span, hint: &str) {
        if span.0.is_zero() {
            self.add(key, format!("`{span}` is no time at all"), hint);
        }
    }

    /// Notes every item that stood in its list before; `same` tells when two mean the same.
    fn distinct<T>(&mut self, key: &str, items: &[T], same: impl Fn(&T, &T) -> bool) {
        for (i, item) in items.iter().enumerate() {
            if items.iter().take(i).any(|earlier| same(earlier, item)) {
                self.add(
                    item_key(key, i, items.len()),
                    "stands in the list twice",
                    "leave one of the two out",
                );
            }
        }
    }
}

fn check_listeners(file: &file::File, findings: &mut Findings) {
    if file.listen.is_empty() {
        findings.add(
            "listen",
            "is empty",
            "name at least one address, such as `127.0.0.1:8080`",
        );
    }
    for (i, address) in file.listen.iter().enumerate() {
        let key = item_key("listen", i, file.listen.len());
        findings.unless_ok(&key, address::check_listen(address));
    }
    for (i, address) in file.listen.iter().enumerate() {
        let mut earlier = file.listen.iter().take(i);
        if let Some(taken) = earlier.find(|earlier| address::collide(earlier, address)) {
            findings.add(
                item_key("listen", i, file.listen.len()),
                format!("`{address}` takes the same place as `{taken}`"),
                "leave one of the two out",
            );
        }
    }
    let admin = &file.admin.listen;
    if admin == OFF {
        return;
    }
    findings.unless_ok("admin.listen", address::check_listen(admin));
    let mut listen = file.listen.iter();
    if let Some(taken) = listen.find(|address| address::collide(address, admin)) {
        findings.clash(
            ["admin.listen", "listen"],
            format!("`admin.listen` (`{admin}`) takes the same place as `listen` (`{taken}`)"),
            "give the admin listener an address of its own, or `off`",
        );
    }
}

fn coalesce(coalesce: &file::Coalesce, findings: &mut Findings) -> Coalesce {
    if let Off::At(wait) = coalesce.wait {
        findings.positive(
            "coalesce.wait",
            wait,
            "for no flights across replicas, write `off`",
        );
    }
    Coalesce {
        wait: coalesce.wait.on().map(|wait| wait.0),
    }
}

fn key(key: file::Key, env: &Environment, findings: &mut Findings) -> Key {
    let secret = findings.unless_ok("key.secret", secret(key.secret, env));
    findings.distinct("key.keep", &key.keep, String::eq);
    for (i, field) in key.keep.iter().enumerate() {
        if !KEEPABLE.contains(&field.as_str()) {
            findings.add(
                item_key("key.keep", i, key.keep.len()),
                format!("`{field}` is not among the fields that are left out of the key"),
                hint_for(field, &KEEPABLE, str::to_owned),
            );
        }
    }
    if key.version.len() > LONGEST_VERSION {
        findings.add(
            "key.version",
            "is too long",
            format!("at most {LONGEST_VERSION} bytes"),
        );
    }
    if key.max_body.0 == 0 {
        findings.add(
            "key.max_body",
            "is zero, so nothing would be keyed",
            "for that, write `enabled = false` in `[cache]`",
        );
    }
    if key.max_body > Size(MAX_BODY) {
        findings.add(
            "key.max_body",
            format!("{} is too much", key.max_body),
            "expected at most 256MiB",
        );
    }
    Key {
        version: key.version,
        secret: secret.flatten(),
        keep: key.keep,
        fold_openai_defaults: key.fold_openai_defaults,
        max_body: key.max_body.0,
    }
}

/// Reads the secret of `[key]`: whoever guesses it can test guesses of credentials against what the store holds.
fn secret(written: ApiKey, env: &Environment) -> Result<Option<ApiKey>, Complaint> {
    let secret = written.resolved(env)?;
    let is_short = |secret: &ApiKey| secret.expose().len() < LEAST_SECRET;
    if secret.as_ref().is_some_and(is_short) {
        return Err(Complaint::new(
            "is too short for a secret",
            format!(
                "expected at least {LEAST_SECRET} visible ASCII characters, such as `openssl rand -hex 32` prints"
            ),
        ));
    }
    Ok(secret)
}

fn log(log: file::Log, findings: &mut Findings) -> Log {
    const HINT: &str = "expected `off`, `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,refrain=debug`";
    // A lone word that is no level is a legal filter, namely everything from a crate of that name: never what was meant.
    let is_typo = |part: &str| {
        !part.contains(['=', '[', ':']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str())
    };
    if log.level.split(',').any(|part| is_typo(part.trim()))
        || EnvFilter::builder().parse(&log.level).is_err()
    {
        findings.add(
            "log.level",
            format!("`{}` is no log level", log.level),
            HINT,
        );
    }
    Log {
        format: log.format,
        level: log.level,
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 64
        && name.bytes().next().is_some_and(is_plain)
        && name
            .bytes()
            .all(|b| is_plain(b) || matches!(b, b'_' | b'-'))
}

/// What names look like.
const NAME: &str = "expected at most 64 of `a-z`, `0-9`, `_` and `-`, a letter or digit first";
/// Switches the admin listener or the disk off.
const OFF: &str = "off";
/// An entry takes at most one part in this many of the memory tier.
const MEMORY_SHARE: u64 = 4;
const LONGEST_VERSION: usize = 256;
/// Fewest characters of the secret.
const LEAST_SECRET: usize = 32;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
