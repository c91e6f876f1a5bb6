//! A configuration put together from its sources: file, environment, flags.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    Config, Warning,
    check::{self, Checked, Finding, Surroundings},
    container, env,
    file::File,
    problem::{Complaint, Place, Problem, Problems},
    read,
    secret::Environment,
    state,
    tree::{Node, Override},
};

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

/// The files that settings name, as they were read. What stands in them is shown nowhere.
#[derive(Default)]
pub(super) struct Files(BTreeMap<String, Result<Vec<u8>, String>>);

impl Config {
    /// Reads and checks a configuration.
    ///
    /// Fails with everything that is wrong in any of the sources; only a file that is no TOML keeps its own settings from
    /// being checked.
    pub fn load(sources: Sources) -> Result<Self, Problems> {
        let surroundings = Surroundings {
            memory: container::memory_limit(),
            state: state::directory(&sources.env),
            env: Environment::of(&sources.env),
            files: Files::default(),
        };
        let (tree, problems) = sources.read();
        Self::settle(&tree, problems, surroundings)
    }

    pub(super) fn settle(
        tree: &Node,
        mut problems: Vec<Problem>,
        mut surroundings: Surroundings,
    ) -> Result<Self, Problems> {
        let (file, found) = read::read(tree);
        problems.extend(found);
        surroundings.files.add_named_by(&file);
        let checked = check::check(file, &surroundings);
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

impl Sources {
    /// Reads what was written, and what of it is nothing that could be.
    pub(super) fn read(self) -> (Node, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut tree = match self.path.as_deref() {
            Some(path) => read_file(path).unwrap_or_else(|found| {
                problems.extend(found);
                no_file()
            }),
            None => no_file(),
        };
        let (settings, found) = env::overrides(&self.env);
        problems.extend(found);
        let flags = self.flags.into_iter().map(Override::from);
        for setting in settings.into_iter().chain(flags) {
            tree.put(setting);
        }
        (tree, problems)
    }
}

impl Files {
    /// Reads the files that `file` names and that have not been read.
    fn add_named_by(&mut self, file: &File) {
        let tls = file.upstream.iter().map(|upstream| &upstream.tls);
        let paths = tls.flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]);
        let paths = paths.chain([&file.store.redis_ca]);
        for path in paths.filter(|path| !path.is_empty()) {
            if !self.0.contains_key(path) {
                self.0.insert(path.clone(), content(path));
            }
        }
    }

    /// Returns what stands in the file at `path`.
    pub(super) fn get(&self, path: &str) -> Result<&[u8], Complaint> {
        let content = self.0.get(path).map(Result::as_deref);
        content.unwrap_or(Ok(&[])).map_err(|error| {
            Complaint::new(
                format!("`{path}` cannot be read: {error}"),
                "name a file that whoever runs Refrain may read",
            )
        })
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromStr for Config {
    type Err = Problems;

    /// Reads the text of a `proxy.toml` alone, and the files that it names: no environment, no flags, no look at the
    /// container. So there is no state directory, and no disk tier unless the text names its file.
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

fn content(path: &str) -> Result<Vec<u8>, String> {
    let bytes = read_up_to(Path::new(path), LARGEST_FILE + 1).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err("it is larger than 1 MiB".to_owned());
    }
    Ok(bytes)
}

fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives a finding the place of the first of its settings that was written.
pub(super) fn placed(finding: &Finding, tree: &Node) -> Problem {
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

pub(super) const FILE_NAME: &str = "proxy.toml";

const LARGEST_FILE: u64 = 1 << 20;
