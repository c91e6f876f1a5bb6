//! How much memory the container allows, read from control groups v2 and v1.

use std::{
    fs,
    path::{Component, Path},
};

/// Returns the memory limit of this process in bytes; `None` outside of a limited control group.
pub(super) fn memory_limit() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(Path::new("/sys/fs/cgroup"), &membership)
}

/// Returns the least limit on the way from the groups in `membership` (cgroups(7), "/proc/pid/cgroup") up to `root`.
fn limit_of(root: &Path, membership: &str) -> Option<u64> {
    membership
        .lines()
        .filter_map(|line| limit_of_group(root, line))
        .min()
}

/// Returns the limit that one line, `id:controllers:path`, stands for.
fn limit_of_group(root: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (base, file) = if controllers.is_empty() {
        (root.to_path_buf(), "memory.max")
    } else if controllers
        .split(',')
        .any(|controller| controller == "memory")
    {
        (root.join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // Inside a container the path may be the host's and lead nowhere; its ancestors end at the container's own group.
    let group = Path::new(path)
        .components()
        .filter(|component| matches!(component, Component::Normal(_)))
        .fold(base.clone(), |group, name| group.join(name));
    group
        .ancestors()
        .take_while(|group| group.starts_with(&base))
        .filter_map(|group| {
            fs::read_to_string(group.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = groups(&[
            ("a/memory.max", "200\n"),
            ("a/b/memory.max", "300\n"),
            ("a/b/c/memory.max", "max\n"),
        ]);
        assert_eq!(limit_of(root.path(), "0::/a/b/c\n"), Some(200));
    }

    #[test]
    fn version_1_groups_are_read_beside_version_2() {
        let root = groups(&[
            ("memory/box/memory.limit_in_bytes", "500\n"),
            ("memory.max", "max\n"),
        ]);
        assert_eq!(
            limit_of(root.path(), "5:cpu,memory:/box\n1:cpu:/box\n0::/\n"),
            Some(500)
        );
    }

    #[test]
    fn a_path_of_the_host_still_finds_the_containers_own_limit() {
        let root = groups(&[("memory.max", "700\n")]);
        assert_eq!(limit_of(root.path(), "0::/../docker/0123abc\n"), Some(700));
    }

    #[test]
    fn no_limit_and_nonsense_are_no_limit() {
        let root = groups(&[
            ("memory.max", "max\n"),
            ("memory/memory.limit_in_bytes", "plenty"),
        ]);
        for membership in [
            "0::/\n",
            "4:memory:/\n",
            "",
            "garbage",
            "0:",
            "::",
            "0::/nowhere",
        ] {
            assert_eq!(limit_of(root.path(), membership), None, "{membership:?}");
        }
    }
}
