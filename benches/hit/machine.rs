//! The machine that figures belong to.

use std::{fs, thread};

use anyhow::Result;

/// Returns one line: processor, cores, kernel, and how busy the machine is with other things.
pub(crate) fn describe() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "machine: {model}, {cores} cores, Linux {}, load {} at the start",
        kernel.trim(),
        load()?
    ))
}

/// Returns the mean number of runnable threads over the last minute.
fn load() -> Result<String> {
    let averages = fs::read_to_string("/proc/loadavg")?;
    Ok(averages.split(' ').next().unwrap_or_default().to_owned())
}
