//! The process, as Linux tells in `/proc`. Elsewhere nothing is told, and those metrics are absent.

use std::fs;

/// What is known of this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Seconds of processor time.
    pub cpu: f64,
    /// Seconds since 1970.
    pub start: f64,
    /// Bytes.
    pub resident: f64,
    /// Bytes.
    pub virtual_size: f64,
    /// Their number.
    pub threads: f64,
    /// Their number.
    pub open_fds: Option<f64>,
    /// Most of them.
    pub max_fds: Option<f64>,
}

impl Process {
    /// This one now.
    pub fn read() -> Option<Process> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let mut process = parse(&stat, &boot, ticks, rustix::param::page_size() as f64)?;
        process.open_fds = fs::read_dir("/proc/self/fd").ok().map(|open| open.count() as f64);
        process.max_fds = limits.lines().find_map(|line| {
            let (soft, _) = line.strip_prefix("Max open files")?.trim_start().split_once(' ')?;
            soft.parse().ok()
        });
        Some(process)
    }
}

/// `/proc/self/stat`, and the time of the boot out of `/proc/stat`. See proc(5); fields are counted from 3 after the name,
/// which may have anything in it but ends with the last `)`.
fn parse(stat: &str, boot: &str, ticks: f64, page: f64) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok())?;
    Some(Process {
        cpu: (field(14)? + field(15)?) / ticks,
        start: boot + field(22)? / ticks,
        resident: field(24)? * page,
        virtual_size: field(23)?,
        threads: field(20)?,
        open_fds: None,
        max_fds: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 7 0 2000 1048576 12 184467 1 1 0";
        let boot = "cpu  1 2 3\nbtime 1700000000\nprocesses 9\n";
        let process = parse(stat, boot, 100.0, 4096.0).unwrap();
        assert_eq!((process.cpu, process.start), (2.0, 1_700_000_020.0));
        assert_eq!((process.threads, process.virtual_size, process.resident), (7.0, 1_048_576.0, 49_152.0));
        assert_eq!(parse("nonsense", boot, 100.0, 4096.0), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_files_and_started_before_now() {
        let process = Process::read().unwrap();
        let now = jiff::Timestamp::now().as_second() as f64;
        assert!(process.start > now - 86_400.0 && process.start <= now + 1.0, "{process:?}");
        assert!(process.resident > 1e6 && process.virtual_size >= process.resident, "{process:?}");
        assert!(process.open_fds.unwrap() >= 3.0 && process.threads >= 1.0, "{process:?}");
    }
}
