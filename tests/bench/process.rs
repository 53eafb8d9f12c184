//! What the kernel says of a process (proc(5)).

/// CPU and memory of one or more processes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    /// The largest resident set of any one of them.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// Both together: times add up, the larger peak stays.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }
}

/// Ticks of the kernel's clock per second, on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process's usage so far; `None` when it is gone.
pub(crate) fn usage(process_id: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
    // The name in parentheses may hold spaces; after it, user and system time are fields 12 and 13.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.split_whitespace().next()?.parse().ok()?;
    Some(Usage { cpu_seconds: ticks / TICKS_PER_SECOND, peak_bytes: kilobytes * 1024 })
}

/// The machine's time since it started, in ticks of all its processors.
#[derive(Clone, Copy, Default)]
pub(crate) struct MachineTime {
    busy: u64,
    stolen: u64,
}

impl MachineTime {
    /// As of now; nothing where the kernel does not tell.
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        // cpu user nice system idle iowait irq softirq steal (proc(5)).
        let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<u64> = ticks.filter_map(|tick| tick.parse().ok()).collect();
        let [user, nice, system, _, _, irq, softirq, stolen, ..] = ticks[..] else { return Self::default() };
        Self { busy: user + nice + system + irq + softirq, stolen }
    }

    /// Of the time that was wanted since `before`, the share that the machine's host gave to others.
    pub(crate) fn stolen_since(self, before: Self) -> f64 {
        let (busy, stolen) =
            (self.busy.saturating_sub(before.busy), self.stolen.saturating_sub(before.stolen));
        stolen as f64 / (busy + stolen).max(1) as f64
    }
}
