//! What the kernel says of processes.

use std::fs;

/// Clock ticks a second, on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Seconds of CPU that a process has taken; with `children`, those that have ended as well.
pub fn cpu(pid: u32, children: bool) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let own = field(14) + field(15);
    let ended = if children { field(16) + field(17) } else { 0 };
    (own + ended) as f64 / TICKS
}

/// Of a process and its children, the ended ones included.
pub fn family_cpu(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    cpu(pid, true) + children.map(|child| cpu(child, false)).sum::<f64>()
}

/// Peak and present resident memory in MiB.
pub fn memory(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    (field("VmHWM:"), field("VmRSS:"))
}
