//! Who may call, and who may spend the proxy's key: `[[caller]]`, `api_key`, `[limits] hosts`, `[cors]`.

use super::{Findings, NAME, is_name};
use crate::config::{
    ApiKey, Caller, Complaint, Cors, Identity, KeyHash, Proof, address, file, read::item_key,
};

/// Returns the proxy's own callers.
pub(super) fn callers(callers: Vec<file::Caller>, findings: &mut Findings) -> Vec<Caller> {
    let of = callers.len();
    let callers: Vec<_> = callers
        .into_iter()
        .enumerate()
        .map(|(i, caller)| the_caller(caller, &item_key("caller", i, of), findings))
        .collect();
    check_names(&callers, findings);
    check_keys(&callers, findings);
    check_scopes(&callers, findings);
    callers
}

/// Returns the names under which the proxy may be called beside loopback's.
pub(super) fn hosts(hosts: Vec<String>, findings: &mut Findings) -> Vec<String> {
    findings.distinct("limits.hosts", &hosts, |a, b| a.eq_ignore_ascii_case(b));
    for (i, host) in hosts.iter().enumerate() {
        if address::port_of(host) != Ok(None) {
            findings.add(
                item_key("limits.hosts", i, hosts.len()),
                format!("`{host}` is no host"),
                "write a name or an address without scheme and port, such as `refrain.internal`",
            );
        }
    }
    let plain = |host: String| host.trim_end_matches('.').to_ascii_lowercase();
    hosts.into_iter().map(plain).collect()
}

/// Returns the origins whose pages may call.
pub(super) fn cors(cors: file::Cors, findings: &mut Findings) -> Cors {
    let origins = cors.origins;
    findings.distinct("cors.origins", &origins, String::eq);
    for (i, origin) in origins.iter().enumerate() {
        let key = item_key("cors.origins", i, origins.len());
        if origin == ANY && origins.len() > 1 {
            findings.add(
                key,
                "`*` stands beside others",
                "it is all origins: leave out the rest",
            );
        } else if origin != ANY && !is_origin(origin) {
            findings.add(
                key,
                format!("`{origin}` is no origin"),
                "write it as browsers send it, such as `https://app.example` or `http://localhost:3000`: lower case, no path, no default port",
            );
        }
    }
    Cors { origins }
}

/// Refuses to go by the claims of tokens that nobody verifies: anybody could claim to be anybody.
///
/// `key` is the upstream.
pub(super) fn check_identity(
    key: &str,
    identity: Identity,
    proof: Option<&Proof>,
    api_key: Option<&ApiKey>,
    findings: &mut Findings,
) {
    if identity == Identity::Off {
        return;
    }
    let because = [
        (
            "api_key",
            api_key.is_some(),
            "the upstream never sees the callers' tokens",
        ),
        (
            "proof",
            proof == Some(&Proof::Off),
            "a token counts that the upstream has not accepted",
        ),
    ];
    for (setting, is_so, why) in because {
        if is_so {
            findings.clash(
                [&format!("{key}.identity"), &format!("{key}.{setting}")],
                format!("nobody verifies the tokens whose claims are to count: {why}"),
                "leave one of the two out",
            );
        }
    }
}

/// What the settings have to be to each other; `listen` are the addresses that calls are accepted on, `secret` the first
/// setting that gives the proxy something of the operator's to spend: what any one upstream is paid with has to be kept.
pub(super) fn check_together(
    listen: &[String],
    secret: Option<&str>,
    callers: &[Caller],
    cors: &Cors,
    findings: &mut Findings,
) {
    let Some(secret) = secret.filter(|_| callers.is_empty()) else {
        return;
    };
    if listen.iter().any(|address| !address::is_loopback(address)) {
        findings.clash(
            [secret, "listen"],
            "the key could be spent by whoever reaches the listener",
            "name the callers in `[[caller]]`, listen on `127.0.0.1`, or let callers send keys of their own",
        );
    }
    if cors.origins.iter().any(|origin| origin == ANY) {
        findings.warn(
            &["cors.origins", secret],
            "`*` without a `[[caller]]`: any web page that is open on this machine can spend the key".to_owned(),
            "list the origins of the pages that may",
        );
    }
}

fn the_caller(caller: file::Caller, key: &str, findings: &mut Findings) -> Caller {
    let file::Caller { name, keys, scope } = caller;
    if !is_name(&name) || name == ANONYMOUS {
        findings.add(
            format!("{key}.name"),
            format!("`{name}` is no name for a caller"),
            NAME,
        );
    }
    if !scope.is_empty() && !is_name(&scope) {
        findings.add(
            format!("{key}.scope"),
            format!("`{scope}` is no name for a tenant"),
            NAME,
        );
    }
    if keys.is_empty() {
        findings.note(
            vec![format!("{key}.keys"), format!("{key}.name"), key.to_owned()],
            Complaint::new(
                "has no keys, so nobody could be this caller",
                "`refrain hash-key --new` makes a key and its hash",
            ),
        );
    }
    let of = keys.len();
    let keys = keys.iter().enumerate().filter_map(|(i, hash)| {
        findings.unless_ok(
            &item_key(&format!("{key}.keys"), i, of),
            hash.parse::<KeyHash>(),
        )
    });
    Caller {
        keys: keys.collect(),
        name,
        scope: Some(scope).filter(|scope| !scope.is_empty()),
    }
}

fn check_names(callers: &[Caller], findings: &mut Findings) {
    for (i, caller) in callers.iter().enumerate() {
        if callers
            .iter()
            .take(i)
            .any(|other| other.name == caller.name)
        {
            findings.add(
                format!("{}.name", item_key("caller", i, callers.len())),
                format!("`{}` is the name of two callers", caller.name),
                "a caller may have several `keys`; else take another name",
            );
        }
    }
}

/// Refuses a key that would be two callers, or one twice.
fn check_keys(callers: &[Caller], findings: &mut Findings) {
    let mut known: Vec<KeyHash> = Vec::new();
    for (i, caller) in callers.iter().enumerate() {
        let key = format!("{}.keys", item_key("caller", i, callers.len()));
        for (j, hash) in caller.keys.iter().enumerate() {
            if known.contains(hash) {
                findings.add(
                    item_key(&key, j, caller.keys.len()),
                    "stands there twice",
                    "give each caller keys of its own",
                );
            }
            known.push(*hash);
        }
    }
}

/// Refuses a tenant called like a caller that does not belong to it: that one's entries would not be shared.
fn check_scopes(callers: &[Caller], findings: &mut Findings) {
    for (i, caller) in callers.iter().enumerate() {
        let Some(scope) = &caller.scope else { continue };
        let namesake = callers.iter().find(|other| other.name == *scope);
        if namesake.is_some_and(|other| other.scope.as_ref() != Some(scope)) {
            findings.add(
                format!("{}.scope", item_key("caller", i, callers.len())),
                format!("`{scope}` is a caller that does not belong to this tenant"),
                format!("write `scope = \"{scope}\"` there, too, or take another name"),
            );
        }
    }
}

/// Returns whether `text` is an origin as browsers send it (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
    let default_port = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    let port = address::port_of(host);
    !scheme.is_empty()
        && scheme.bytes().all(plain)
        && !host.bytes().any(|b| b.is_ascii_uppercase())
        && port.is_ok_and(|port| port.is_none() || port != default_port)
}

/// Stands for every origin.
const ANY: &str = "*";

/// The name of callers without a credential in log lines.
const ANONYMOUS: &str = "anonymous";
