//! What was written turned into what holds, or all that is wrong with it. Pure: the surroundings are an argument, so
//! that a file is judged alike wherever it is read.
//!
//! # Scope
//! The file itself has been read by now: here stands what a value has to be beyond its type, and what values have to be
//! to each other.

mod access;
mod rule;

use std::{path::PathBuf, time::Duration};

use http::HeaderName;
use tracing_subscriber::EnvFilter;

use super::{
    Admin, CREDENTIALS, Cache, Config, Directive, Disk, KEEPABLE, Key, Limits, Log, MAX_BODY,
    Scope, Store, Timeouts, Token, Upstream, address, file,
    problem::Complaint,
    read::{hint_for, item_key},
    secret::Environment,
    units::{Off, Size, Span},
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
}

/// A configuration that can be used.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) config: Config,
    /// What the operator should think over.
    pub(super) doubts: Vec<Finding>,
}

/// Checks `file` and fills in what was left to Refrain.
pub(super) fn check(file: file::File, surroundings: Surroundings) -> Result<Checked, Vec<Finding>> {
    let mut findings = Findings::default();
    check_listeners(&file, &mut findings);
    check_limits(&file.limits, file.key.max_body, &mut findings);
    let memory = memory(&file, surroundings.memory, &mut findings);
    let token = findings.unless_ok(
        "admin.token",
        Token::resolved(file.admin.token.clone(), &surroundings.env),
    );
    let disk = disk(&file, surroundings.state, &mut findings);
    let upstream = the_upstream(file.upstream, &surroundings.env, &mut findings);
    let rules = rule::rules(file.rule, file.cache.max_ttl, &mut findings);
    let cache = cache(file.cache, memory, &mut findings);
    let callers = access::callers(file.caller, &mut findings);
    let cors = access::cors(file.cors, &mut findings);
    access::check_tenants("cache.scope", &cache.scope, &callers, &mut findings);
    for (i, rule) in rules.iter().enumerate() {
        let key = format!("{}.scope", item_key("rule", i, rules.len()));
        let scope = rule.scope.as_ref().unwrap_or(&Scope::Credential);
        access::check_tenants(&key, scope, &callers, &mut findings);
    }
    access::check_together(
        &file.listen,
        upstream
            .as_ref()
            .and_then(|upstream| upstream.api_key.as_ref()),
        &callers,
        &cors,
        &mut findings,
    );
    let key = key(file.key, &mut findings);
    let log = log(file.log, &mut findings);
    let config = upstream.map(|upstream| Config {
        listen: file.listen,
        admin: Admin {
            listen: (file.admin.listen != OFF).then_some(file.admin.listen),
            token: token.flatten(),
        },
        upstream,
        cache,
        rules,
        key,
        store: Store { memory, disk },
        limits: Limits {
            buffered: file.limits.buffered.0,
            header: file.limits.header.0,
            body: file.limits.body.0,
            idle: file.limits.idle.0,
            write: file.limits.write.0,
            drain: file.limits.drain.0,
            hosts: access::hosts(file.limits.hosts, &mut findings),
        },
        cors,
        callers,
        log,
        warnings: Vec::new(),
    });
    let Findings { problems, doubts } = findings;
    config
        .filter(|_| problems.is_empty())
        .map(|config| Checked { config, doubts })
        .ok_or(problems)
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
            format!("`{admin}` takes the same place as `{taken}` of `listen`"),
            "give the admin listener an address of its own, or `off`",
        );
    }
}

fn the_upstream(
    mut upstreams: Vec<file::Upstream>,
    env: &Environment,
    findings: &mut Findings,
) -> Option<Upstream> {
    if upstreams.is_empty() {
        findings.add(
            "upstream",
            "is empty",
            "name one upstream, or leave it out for OpenAI",
        );
    }
    if upstreams.len() > 1 {
        findings.add(
            "upstream[1]",
            "is a second upstream; Refrain calls exactly one",
            "keep one `[[upstream]]`",
        );
    }
    let upstream = (!upstreams.is_empty()).then(|| upstreams.swap_remove(0))?;
    if !is_name(&upstream.name) {
        findings.add(
            "upstream.name",
            format!("`{}` is no name", upstream.name),
            "expected at most 64 of `a-z`, `0-9`, `_` and `-`, a letter or digit first",
        );
    }
    findings.positive(
        "upstream.pool_idle",
        upstream.pool_idle,
        "write the time an idle connection is kept, such as `15s`",
    );
    let timeouts = timeouts(&upstream.timeouts, findings);
    let base_url = findings.unless_ok("upstream.base_url", upstream.base_url.parse());
    let proof = findings.unless_ok("upstream.proof", upstream.proof.parse());
    let api_key = access::api_key(upstream.api_key, env, findings);
    access::check_identity(
        upstream.identity,
        proof.as_ref(),
        api_key.as_ref(),
        findings,
    );
    Some(Upstream {
        name: upstream.name,
        base_url: base_url?,
        api_key,
        http: upstream.http,
        timeouts,
        pool_idle: upstream.pool_idle.0,
        proof: proof.unwrap_or_default(),
        identity: upstream.identity,
    })
}

fn timeouts(timeouts: &file::Timeouts, findings: &mut Findings) -> Timeouts {
    let mut timer = |key: &str, timer: Off<Span>| {
        let span = timer.on()?;
        findings.positive(
            &format!("upstream.timeouts.{key}"),
            span,
            "write `off` to wait for as long as it takes",
        );
        Some(span.0)
    };
    Timeouts {
        connect: timer("connect", timeouts.connect),
        first_byte: timer("first_byte", timeouts.first_byte),
        idle: timer("idle", timeouts.idle),
        total: timer("total", timeouts.total),
    }
}

fn cache(cache: file::Cache, memory: u64, findings: &mut Findings) -> Cache {
    check_lifetimes(&cache, findings);
    findings.positive(
        "cache.stall",
        cache.stall,
        "write how long a reader may hold up others, such as `10s`",
    );
    findings.positive(
        "cache.proof_ttl",
        cache.proof_ttl,
        "write how long a credential needs not be asked about again, such as `1h`",
    );
    if cache.finish_reasons.is_empty() {
        findings.add(
            "cache.finish_reasons",
            "is empty, so nothing would be stored",
            "for that, write `enabled = false`",
        );
    }
    findings.distinct("cache.finish_reasons", &cache.finish_reasons, String::eq);
    Cache {
        enabled: cache.enabled,
        scope: findings
            .unless_ok("cache.scope", cache.scope.parse())
            .unwrap_or(Scope::Credential),
        ttl: cache.ttl.given().map(|ttl| ttl.0),
        max_ttl: cache.max_ttl.0,
        stale_while_revalidate: cache
            .stale_while_revalidate
            .on()
            .map_or(Duration::ZERO, |span| span.0),
        stale_if_error: cache
            .stale_if_error
            .on()
            .map_or(Duration::ZERO, |span| span.0),
        proof_ttl: cache.proof_ttl.0,
        max_entry: cache.max_entry.0.min(memory / MEMORY_SHARE),
        on_disconnect: cache.on_disconnect,
        stall: cache.stall.0,
        allow: directives(&cache.allow, findings),
        aliases: cache.aliases,
        litellm: cache.litellm,
        vary: vary(&cache.vary, findings),
        finish_reasons: cache.finish_reasons,
    }
}

fn check_lifetimes(cache: &file::Cache, findings: &mut Findings) {
    const NOTHING_STORED: &str = "to store nothing, write `enabled = false`";
    findings.positive("cache.max_ttl", cache.max_ttl, NOTHING_STORED);
    let Some(ttl) = cache.ttl.given() else { return };
    findings.positive("cache.ttl", ttl, NOTHING_STORED);
    if ttl > cache.max_ttl {
        findings.clash(
            ["cache.ttl", "cache.max_ttl"],
            format!("`ttl` ({ttl}) is longer than `max_ttl` ({})", cache.max_ttl),
            "shorten the one or lengthen the other",
        );
    }
}

fn directives(names: &[String], findings: &mut Findings) -> Vec<Directive> {
    findings.distinct("cache.allow", names, String::eq);
    let mut directives = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match Directive::named(name) {
            Some(directive) => directives.push(directive),
            None => findings.add(
                item_key("cache.allow", i, names.len()),
                format!("`{name}` is no directive"),
                hint_for(name, &Directive::ALL.map(Directive::as_str), str::to_owned),
            ),
        }
    }
    directives
}

fn vary(names: &[String], findings: &mut Findings) -> Vec<HeaderName> {
    findings.distinct("cache.vary", names, |a, b| a.eq_ignore_ascii_case(b));
    let mut headers = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let key = item_key("cache.vary", i, names.len());
        headers.extend(findings.unless_ok(&key, keyable_header(name)));
    }
    headers
}

/// Reads the name of a request header that can be part of a key.
pub(super) fn keyable_header(name: &str) -> Result<HeaderName, Complaint> {
    let header: HeaderName = name.parse().map_err(|_| {
        Complaint::new(
            format!("`{name}` is no header name"),
            "write it as in `openai-beta`, without colon or blank",
        )
    })?;
    let refused = |what: &str| Err(Complaint::new(format!("`{header}` {what}"), "leave it out"));
    match header.as_str() {
        text if CREDENTIALS.contains(&text) => {
            refused("is a credential: whose entries a caller may read is not up to `vary`")
        }
        text if OF_THE_CONNECTION.contains(&text) => {
            refused("belongs to the connection and not to the call")
        }
        text if OURS.contains(&text) || text.starts_with("x-cache-") => {
            refused("is an instruction to Refrain and never part of a key")
        }
        _ => Ok(header),
    }
}

fn key(key: file::Key, findings: &mut Findings) -> Key {
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
        keep: key.keep,
        fold_openai_defaults: key.fold_openai_defaults,
        max_body: key.max_body.0,
    }
}

/// Returns the bound of the memory tier, after checking that entries fit into it.
///
/// In a small container `auto` comes out small, too; then `max_entry` is lowered with it instead of being a problem,
/// since neither was anybody's mistake.
fn memory(file: &file::File, container: Option<u64>, findings: &mut Findings) -> u64 {
    let written = file.store.memory.given();
    let memory = written.unwrap_or(AUTO_MEMORY);
    if memory < LEAST_MEMORY {
        findings.add(
            "store.memory",
            format!("{memory} is too little"),
            "expected at least 1MiB, or `auto`",
        );
    } else if file.cache.max_entry.0 > memory.0 / MEMORY_SHARE {
        findings.clash(
            ["cache.max_entry", "store.memory"],
            format!(
                "`cache.max_entry` ({}) is more than a quarter of `store.memory` ({memory})",
                file.cache.max_entry
            ),
            "lower the one or raise the other",
        );
    }
    if file.cache.max_entry.0 == 0 {
        findings.add(
            "cache.max_entry",
            "is zero, so nothing would be stored",
            "for that, write `enabled = false`",
        );
    }
    written.map_or_else(|| auto_memory(container), |memory| memory.0)
}

/// Returns the disk tier, if there is to be one.
fn disk(file: &file::File, state: Option<PathBuf>, findings: &mut Findings) -> Option<Disk> {
    let file::Store { path, max_size, .. } = &file.store;
    if path.is_empty() || path.ends_with('/') {
        findings.add(
            "store.path",
            format!("`{path}` is no file"),
            "name a file, such as `/var/lib/refrain/refrain.db`, or write `auto` or `off`",
        );
    }
    if path == OFF {
        return None;
    }
    if file.cache.max_entry.0 > max_size.0 / DISK_SHARE {
        findings.clash(
            ["store.max_size", "cache.max_entry"],
            format!(
                "`store.max_size` ({max_size}) is less than four times `cache.max_entry` ({})",
                file.cache.max_entry
            ),
            "raise the one or lower the other; for no disk, write `path = \"off\"`",
        );
    }
    let path = match path.as_str() {
        AUTO => state?.join(DATABASE),
        path => path.into(),
    };
    Some(Disk {
        path,
        max_size: max_size.0,
    })
}

/// Returns the bound of the memory tier that `auto` stands for: 256 MiB, at most 40 % of the container's limit.
fn auto_memory(container: Option<u64>) -> u64 {
    let share = container.map_or(u64::MAX, |limit| limit / 5 * 2);
    AUTO_MEMORY.0.min(share).max(LEAST_MEMORY.0)
}

fn check_limits(limits: &file::Limits, max_body: Size, findings: &mut Findings) {
    for (key, span) in [
        ("limits.header", limits.header),
        ("limits.body", limits.body),
        ("limits.idle", limits.idle),
        ("limits.write", limits.write),
    ] {
        findings.positive(key, span, "write how long a client may take, such as `10s`");
    }
    if limits.buffered < max_body {
        findings.clash(
            ["limits.buffered", "key.max_body"],
            format!(
                "`limits.buffered` ({}) is less than `key.max_body` ({max_body})",
                limits.buffered
            ),
            "raise the one or lower the other, else the largest bodies could never be keyed",
        );
    }
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

/// Switches the admin listener or the disk off.
const OFF: &str = "off";
/// Leaves the place of the disk to Refrain.
const AUTO: &str = "auto";
/// Name of the database in the state directory.
const DATABASE: &str = "refrain.db";

/// An entry takes at most one part in this many of the memory tier.
const MEMORY_SHARE: u64 = 4;
/// An entry takes at most one part in this many of the disk.
const DISK_SHARE: u64 = 4;

const AUTO_MEMORY: Size = Size(256 << 20);
const LEAST_MEMORY: Size = Size(1 << 20);

const LONGEST_VERSION: usize = 256;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const OURS: [&str; 3] = ["cache-control", "pragma", "x-fallback"];
