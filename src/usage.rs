//! What is used of the machine: processors, memory, files, disk.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time that this process has spent on processors.
pub(crate) fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Memory that a process occupies, by its number or `self` (proc(5)). `None` where `/proc` does not say.
pub(crate) fn resident_bytes(process: impl Display) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Files and sockets that this process has open.
pub(crate) fn open_files() -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    // Less the one that is open for looking.
    Some((open.count() as u64).saturating_sub(1))
}

/// The blocks that all files below a directory take. What goes away meanwhile is not there.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process_and_its_files() {
        assert!(resident_bytes("self").unwrap() > 100_000);
        assert_eq!(resident_bytes(0), None);
        assert!(open_files().unwrap() >= 3 && cpu() > Duration::ZERO);
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below/file"), [1; 10_000]).unwrap();
        assert!(disk_bytes(directory.path()) >= 8192, "{}", disk_bytes(directory.path()));
    }
}
