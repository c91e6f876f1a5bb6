//! Settings from the environment: `REFRAIN_CACHE__TTL=1h` is `ttl` of `[cache]`.
//!
//! # Scope
//! Every variable that begins with `REFRAIN_` is a setting, so that a misspelt one is reported like a misspelt key.
//! Two kinds are not: [`CONFIG`], which names the file, and what Kubernetes puts into the environment of whoever runs
//! beside a service called `refrain` or `refrain-something`.

use std::ffi::OsString;

use super::{
    file::File,
    problem::{Complaint, Place, Problem},
    read,
    tree::{Node, Override},
};

/// Names the configuration file; read by the command line.
pub const CONFIG: &str = "REFRAIN_CONFIG";

/// Returns the settings among `variables`, in the order of their names, and the problems with the rest.
pub(super) fn overrides(variables: &[(OsString, OsString)]) -> (Vec<Override>, Vec<Problem>) {
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in variables {
        let Some(name) = name
            .to_str()
            .filter(|name| name.starts_with(PREFIX) && *name != CONFIG)
        else {
            continue;
        };
        match value.to_str() {
            Some(value) if is_service_link(name, value) => {}
            Some(_) if name.bytes().any(|b| b.is_ascii_lowercase()) => {
                problems.push(not_capitals(name));
            }
            Some(value) => match with_sections(name) {
                Some(meant) => problems.push(unknown(name, &meant)),
                None => settings.push(setting(name, value)),
            },
            None => problems.push(problem(name, "is not valid UTF-8", String::new())),
        }
    }
    // A section comes before the settings inside it, whatever the order of the environment.
    settings.sort_by(|a, b| a.path.cmp(&b.path));
    (settings, problems)
}

/// Returns the variable that sets `key`, such as `cache.ttl`.
pub(super) fn name_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

fn setting(name: &str, value: &str) -> Override {
    let key = name.strip_prefix(PREFIX).unwrap_or_default();
    Override {
        place: Place::Environment(name.to_owned()),
        path: key.split("__").map(str::to_ascii_lowercase).collect(),
        values: vec![value.to_owned()],
    }
}

/// Returns the variable that was meant by one that names no setting but would with two underscores behind its sections.
fn with_sections(name: &str) -> Option<String> {
    let path = setting(name, "").path;
    if name.len() > LONGEST || is_known(&path) {
        return None;
    }
    let path = split(&[], &path.join("_"))?;
    Some(name_of(&path.join(".")))
}

/// Cuts `rest` at underscores so that, behind `sections`, it is the way to a setting.
fn split(sections: &[String], rest: &str) -> Option<Vec<String>> {
    let path = |name: &str| [sections, &[name.to_owned()]].concat();
    if is_known(&path(rest)) {
        return Some(path(rest));
    }
    rest.match_indices('_').find_map(|(at, _)| {
        let section = path(rest.get(..at)?);
        let rest = rest.get(at + 1..)?;
        is_known(&section).then(|| split(&section, rest)).flatten()
    })
}

/// Returns whether there is a setting or a section at the end of `path`: whatever stands there, it is read so far.
fn is_known(path: &[String]) -> bool {
    let place = Place::Environment(String::new());
    let mut tree = Node::empty(place.clone());
    tree.put(Override {
        place,
        path: path.to_vec(),
        values: vec![String::new()],
    });
    let (_, problems) = read::read::<File>(&tree);
    let key = path.join(".");
    problems
        .iter()
        .all(|problem| problem.key == key && problem.complaint.what != read::UNKNOWN)
}

fn unknown(name: &str, meant: &str) -> Problem {
    problem(name, read::UNKNOWN, format!("did you mean `{meant}`?"))
}

fn not_capitals(name: &str) -> Problem {
    problem(
        name,
        "is not written in capitals",
        format!("did you mean `{}`?", name.to_ascii_uppercase()),
    )
}

fn problem(name: &str, what: &str, hint: String) -> Problem {
    Problem {
        place: Some(Place::Environment(name.to_owned())),
        key: String::new(),
        complaint: Complaint::new(what, hint),
    }
}

/// Returns whether the variable describes a service next door, such as `REFRAIN_PORT_8080_TCP=tcp://10.0.0.7:8080`
/// (Kubernetes, "Accessing the Service", environment variables).
fn is_service_link(name: &str, value: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let is_port = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.split("_PORT_").skip(1).any(is_port)
}

const PREFIX: &str = "REFRAIN_";

/// No setting has a longer variable.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(variables: &[(&str, &str)]) -> Vec<String> {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let (settings, problems) = overrides(&variables);
        assert_eq!(problems, []);
        settings
            .iter()
            .map(|setting| setting.path.join("."))
            .collect()
    }

    #[test]
    fn two_underscores_separate_a_section_from_its_setting() {
        let variables = [
            ("REFRAIN_UPSTREAM__TIMEOUTS__FIRST_BYTE", "1m"),
            ("REFRAIN_LISTEN", "127.0.0.1:0"),
            ("REFRAIN_CACHE__MAX_TTL", "1h"),
        ];
        assert_eq!(
            paths(&variables),
            ["cache.max_ttl", "listen", "upstream.timeouts.first_byte"]
        );
        assert_eq!(name_of("upstream.timeouts.first_byte"), variables[0].0);
    }

    #[test]
    fn what_is_not_a_setting_is_left_alone() {
        let foreign = [
            ("PATH", "/bin"),
            ("REFRAINING", "1"),
            ("REFRAIN_CONFIG", "/etc/refrain/proxy.toml"),
            ("REFRAIN_SERVICE_HOST", "10.0.0.7"),
            ("REFRAIN_SERVICE_PORT_HTTP", "8080"),
            ("REFRAIN_PORT", "tcp://10.0.0.7:8080"),
            ("REFRAIN_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("REFRAIN_ADMIN_PORT_8081_TCP_PROTO", "tcp"),
        ];
        assert_eq!(paths(&foreign), Vec::<String>::new());
        assert_eq!(
            paths(&[("REFRAIN_PORT", "8080")]),
            ["port"],
            "a guess at a setting is no service link"
        );
    }

    #[test]
    fn one_underscore_in_place_of_two_is_told() {
        for (variable, meant) in [
            ("CACHE_TTL", "CACHE__TTL"),
            ("CACHE_MAX_TTL", "CACHE__MAX_TTL"),
            ("UPSTREAM_BASE_URL", "UPSTREAM__BASE_URL"),
            (
                "UPSTREAM_TIMEOUTS_FIRST_BYTE",
                "UPSTREAM__TIMEOUTS__FIRST_BYTE",
            ),
            ("UPSTREAM__TIMEOUTS_TOTAL", "UPSTREAM__TIMEOUTS__TOTAL"),
            ("ADMIN_LISTEN", "ADMIN__LISTEN"),
        ] {
            let name = format!("{PREFIX}{variable}");
            let meant = format!("{PREFIX}{meant}");
            let (settings, problems) = overrides(&[(name.clone().into(), "1".into())]);
            assert!(settings.is_empty(), "{name}");
            assert_eq!(problems, [unknown(&name, &meant)]);
        }
        for other in ["LISTEN_ADDRESS", "CACHE_TLL", "CACHE__TLL", "CACHE_", "_"] {
            let name = format!("{PREFIX}{other}");
            assert_eq!(with_sections(&name), None, "{name}");
        }
    }

    #[test]
    fn lower_case_is_a_problem_of_its_own() {
        let (settings, problems) = overrides(&[("REFRAIN_cache__ttl".into(), "1h".into())]);
        assert!(settings.is_empty());
        insta::assert_snapshot!(problems[0], @"
    error: environment REFRAIN_cache__ttl: is not written in capitals
      hint: did you mean `REFRAIN_CACHE__TTL`?
    ");
    }
}
