//! What the figures depend on, and what processes cost: read from the kernel.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::sheet::{Sheet, round};
use crate::clock;
use crate::usage;

/// How long the disk is measured.
const DISK_TIME: Duration = Duration::from_secs(1);
/// What /proc counts processor time in: USER_HZ, which is 100 wherever Linux promises it to programs.
const TICK: Duration = Duration::from_millis(10);

/// The conditions that belong to every result.
pub(super) fn conditions(directory: &Path) -> anyhow::Result<Sheet> {
    Ok(Sheet::default()
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("build", if cfg!(debug_assertions) { "debug" } else { "optimised" })
        .with("cpus", std::thread::available_parallelism()?.get())
        .with("kernel", kernel())
        .with("fileSystem", file_system(directory).unwrap_or_else(|| "unknown".to_owned()))
        .with("durability", "disk")
        .with("fdatasyncPerSecond", round(fdatasync_per_second(directory)?)))
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

/// The type of the file system on which a directory lies: that of the longest mount point that is a prefix of its path.
fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.nth(1)?, fields.next()?))
    });
    let over = mounts.filter(|(point, _)| directory.starts_with(point));
    over.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

/// How often a second a small write can be made durable on the disk of `directory`: what bounds a store without group commit.
fn fdatasync_per_second(directory: &Path) -> anyhow::Result<f64> {
    let path = directory.join("fdatasync");
    let mut file = File::create(&path)?;
    let start = clock::now().mono;
    let mut count = 0.0;
    while clock::now().mono - start < DISK_TIME {
        file.write_all(&[0; 512])?;
        file.sync_data()?;
        count += 1.0;
    }
    let rate = count / (clock::now().mono - start).as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

/// Resident memory of a process, in MiB.
pub(super) fn resident_mib(id: u32) -> anyhow::Result<f64> {
    usage::resident_bytes(id).map(mib).context("the process has ended")
}

/// Processor time of a process so far, user and system (proc(5)).
pub(super) fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("the process has ended")?;
    // The second field is a name in parentheses that may hold anything.
    let fields = stat.rsplit_once(')').context("no name in /proc/…/stat")?.1;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(TICK * u32::try_from(ticks)?)
}

/// TCP connections of this host that nobody listened to, so far (`AttemptFails`).
pub(super) fn refused_connections() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/snmp").ok()?;
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let place = tcp.next()?.split(' ').position(|name| name == "AttemptFails")?;
    tcp.next()?.split(' ').nth(place)?.parse().ok()
}

pub(super) fn mib(bytes: u64) -> f64 {
    round(bytes as f64 / (1024.0 * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process_and_its_files() {
        let me = std::process::id();
        assert!(resident_mib(me).unwrap() > 1.0);
        assert!(cpu_time(me).is_ok() && refused_connections().is_some());
        assert!(file_system(&std::env::temp_dir()).is_some());
    }
}
