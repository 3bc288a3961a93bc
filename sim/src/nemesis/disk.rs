//! Disks that fail. What spoils or loses what a disk holds happens to the victim alone:
//! at most one copy of anything is bad, and min ISR 2 promises to outlive that. What only
//! refuses or delays (errors on writes, no space, slowness) may happen to every node.
//!
//! What each part of a node makes of it, when `weir_storage::fault_disk` did what it may:
//!
//! | fault | logs of partitions and their write-ahead log | metadata group: log, vote, snapshot |
//! |---|---|---|
//! | slow, full | acknowledges later or refuses; who is slow leaves the ISR | elects others |
//! | errors on writes and reads | the process gives up its disk, or the log its copy | the process ends |
//! | failed fsync | the process ends (S-41); what was dirty was never acknowledged by it | the process ends |
//! | bit rot, misdirected write, bad batch | found when it is read; the copy leaves the ISR and is made anew from another | the voter does not start with it (S-17), the others go on |
//! | rot of the last frame | cannot be told from a torn write: it is cut, and the copy is a suspect until others were asked (S-14) | it is cut: this one voter may forget what it said last; of what was agreed a majority has it |
//! | lying fsync | what was lost comes from the others: see below | not outlived: Raft presumes that a voter remembers |
//!
//! Groups, queues and their timers have logs of partitions, flushed and replicated
//! synchronously, and no files of their own.
//!
//! A disk that lies about fsync takes what its node was sure to have. While one machine
//! lies and the others hold it, nothing acknowledged is lost of a topic that is replicated
//! synchronously: with each start its node leaves every ISR, and comes back with what a
//! leader has. Unless fewer than min ISR are left, and the others go down before it is back:
//! then the liar is an eligible leader, and may be the only one there is. (No seed of 200 met
//! that.) What a leader acknowledged alone is worth no more than with async flush. Of a voter
//! no lie is outlived, nor of all disks at once: `--lying-fsync` is a run that must fail.
//!
//! The general swarm has no liar: seven invariants speak of what logs hold for certain, and
//! a seed with one would do without them. `--focus lies` looks for it.

use std::time::Duration;

use weir_base::NodeId;
use weir_storage::{SimDisk, SimFaults};

use super::{Event, Fault, Setting};
use crate::dice::Dice;

#[derive(Debug, Clone)]
pub(crate) struct DiskFault {
    pub(crate) node: NodeId,
    pub(crate) what: DiskFaultKind,
}

#[derive(Debug, Clone)]
pub(crate) enum DiskFaultKind {
    /// Every operation takes up to this long.
    Slow {
        max: Duration,
    },
    /// Once in that many.
    WriteErrors {
        odds: u64,
    },
    SyncErrors {
        odds: u64,
    },
    ReadErrors {
        odds: u64,
    },
    Misdirected {
        odds: u64,
    },
    /// Syncs say that they are done and do nothing: all since then is lost with the power.
    LyingSyncs,
    /// Only this much may still be written.
    Full {
        room: u64,
    },
    /// Bits flip, at once and for good, in files whose path begins so.
    BitRot {
        flips: u64,
        below: &'static str,
    },
    /// Batches, none of them the last of its log, are bad wherever the disk has them: they
    /// were spoilt on their way there.
    BadBatches {
        count: u64,
    },
}

impl DiskFault {
    pub(crate) fn kind(&self) -> &'static str {
        match &self.what {
            DiskFaultKind::Slow { .. } => "slow disk",
            DiskFaultKind::WriteErrors { .. } => "write errors",
            DiskFaultKind::SyncErrors { .. } => "fsync errors",
            DiskFaultKind::ReadErrors { .. } => "read errors",
            DiskFaultKind::Misdirected { .. } => "misdirected writes",
            DiskFaultKind::LyingSyncs => "lying fsync",
            DiskFaultKind::Full { .. } => "full disk",
            DiskFaultKind::BitRot { .. } => "bit rot",
            DiskFaultKind::BadBatches { .. } => "bad batches",
        }
    }

    /// Whether it spoils what the disk holds, beyond what a crash may.
    pub(crate) fn spoils(&self) -> bool {
        match &self.what {
            DiskFaultKind::Slow { .. }
            | DiskFaultKind::WriteErrors { .. }
            | DiskFaultKind::ReadErrors { .. }
            | DiskFaultKind::Full { .. } => false,
            DiskFaultKind::SyncErrors { .. }
            | DiskFaultKind::Misdirected { .. }
            | DiskFaultKind::LyingSyncs
            | DiskFaultKind::BitRot { .. }
            | DiskFaultKind::BadBatches { .. } => true,
        }
    }

    /// Whether it spoils what was durable, which is found when that is read. A failed fsync
    /// takes what it was to save, and ends the process.
    pub(crate) fn rots(&self) -> bool {
        self.spoils() && !matches!(self.what, DiskFaultKind::SyncErrors { .. })
    }

    /// Adds itself to what is wrong with the disk.
    pub(crate) fn add_to(&self, faults: &mut SimFaults, disk: &SimDisk) {
        match &self.what {
            DiskFaultKind::Slow { max } => faults.latency_max = faults.latency_max.max(*max),
            DiskFaultKind::WriteErrors { odds } => faults.write_failure_odds = *odds,
            DiskFaultKind::SyncErrors { odds } => faults.sync_failure_odds = *odds,
            DiskFaultKind::ReadErrors { odds } => faults.read_failure_odds = *odds,
            DiskFaultKind::Misdirected { odds } => faults.misdirection_odds = *odds,
            DiskFaultKind::LyingSyncs => faults.syncs_lie = true,
            DiskFaultKind::Full { room } => {
                let limit = disk.used_bytes() + room;
                faults.capacity_bytes = Some(limit);
            }
            DiskFaultKind::BitRot { .. } | DiskFaultKind::BadBatches { .. } => {}
        }
    }
}

/// Bytes that tell a batch from others.
const TELLING: usize = 24;
/// How far before the end of its segment a bad batch is, at least: a last one that is bad
/// looks like a torn write, which was never acknowledged.
const BEFORE_END: (u64, u64) = (1 << 10, 16 << 10);

/// Flips a bit of batches among the newest, in the segment and in the write-ahead log. Says
/// how many bits.
pub(crate) fn spoil_batches(disk: &SimDisk, count: u64, dice: &Dice) -> u64 {
    let files = disk.files();
    let segments: Vec<&String> = files.iter().filter(|p| p.ends_with(".segment")).collect();
    let logs: Vec<&String> = files.iter().filter(|p| p.starts_with("wal/")).collect();
    let (mut spoilt, mut flipped) = (0, 0);
    for _ in 0..count * 50 {
        if spoilt == count || segments.is_empty() {
            break;
        }
        let path = dice.pick(&segments);
        let bytes = disk.content(path).unwrap_or_default();
        let (least, most) = BEFORE_END;
        let before = usize::try_from(dice.magnitude(least, most)).unwrap_or(usize::MAX);
        let Some(from) = bytes.len().checked_sub(before) else {
            continue;
        };
        let telling = &bytes[from..from + TELLING];
        if telling.iter().filter(|byte| **byte != 0).count() < TELLING / 2 {
            continue;
        }
        let bit = u8::try_from(dice.between(0, 7)).unwrap_or(0);
        let mut places = Vec::new();
        for log in &logs {
            let content = disk.content(log).unwrap_or_default();
            let found = content
                .windows(TELLING)
                .position(|window| window == telling);
            places.extend(found.map(|at| (*log, at)));
        }
        // What a checkpoint let go of is bad in one place, as rot is.
        if places.is_empty() {
            continue;
        }
        places.push((path, from));
        spoilt += 1;
        for (path, at) in places {
            flipped += u64::from(disk.flip_bit(path, at as u64, bit).is_ok());
        }
    }
    flipped
}

/// Flips bits anywhere in the files below a directory, each half of a file as likely as
/// all before it: files are reserved ahead, and what they hold is at their beginning. Says
/// how many.
pub(crate) fn rot(disk: &SimDisk, below: &str, flips: u64, dice: &Dice) -> u64 {
    let mut files = disk.files();
    files.retain(|path| path.starts_with(below));
    let mut flipped = 0;
    for _ in 0..flips {
        if files.is_empty() {
            break;
        }
        let at = dice.between(0, files.len() as u64 - 1);
        let path = &files[usize::try_from(at).unwrap_or(0)];
        let bytes = disk.file_bytes(path).unwrap_or(0);
        if bytes > 0 {
            let bit = u8::try_from(dice.between(0, 7)).unwrap_or(0);
            let offset = dice.magnitude(1, bytes) - 1;
            flipped += u64::from(disk.flip_bit(path, offset, bit).is_ok());
        }
    }
    flipped
}

pub(super) fn plan(setting: &Setting<'_>) -> Vec<Event> {
    let victim = setting.victim;
    let fault = |node, what| Fault::Disk(DiskFault { node, what });
    let slow = setting.some(4, |dice| {
        let max = Duration::from_millis(dice.magnitude(2, 500));
        let what = DiskFaultKind::Slow { max };
        (dice.magnitude(500, 10_000), fault(setting.node(), what))
    });
    let writes = setting.some(2, |dice| {
        let odds = dice.magnitude(20, 1_000);
        let what = DiskFaultKind::WriteErrors { odds };
        (dice.magnitude(200, 3_000), fault(setting.node(), what))
    });
    let most = if setting.focus.is_some() { 4 } else { 2 };
    let syncs = setting.some(most, |dice| {
        // An error that is believed is the end of a process: rare ones strike any sync. One
        // that passes at once shows who does not believe it.
        if setting.focus.is_some() && dice.one_in(2) {
            let what = DiskFaultKind::SyncErrors { odds: 1 };
            return (dice.magnitude(4, 64), fault(victim, what));
        }
        let least = if setting.focus.is_some() { 4 } else { 20 };
        let odds = dice.magnitude(least, least * 50);
        let what = DiskFaultKind::SyncErrors { odds };
        (dice.magnitude(200, 3_000), fault(victim, what))
    });
    let reads = setting.some(2, |dice| {
        let odds = dice.magnitude(20, 1_000);
        let what = DiskFaultKind::ReadErrors { odds };
        (dice.magnitude(200, 3_000), fault(victim, what))
    });
    let misdirected = setting.some(2, |dice| {
        let odds = dice.magnitude(50, 1_000);
        let what = DiskFaultKind::Misdirected { odds };
        (dice.magnitude(200, 5_000), fault(victim, what))
    });
    let full = setting.some(2, |dice| {
        let room = dice.magnitude(1 << 10, 1 << 20);
        let what = DiskFaultKind::Full { room };
        (dice.magnitude(500, 8_000), fault(setting.node(), what))
    });
    let rot = setting.some(3, |dice| {
        let what = DiskFaultKind::BitRot {
            flips: dice.magnitude(1, 64),
            below: setting.rots(dice),
        };
        (1, fault(victim, what))
    });
    let mut bad = Vec::new();
    if setting.is_about("bad batches") {
        bad = setting.some(4, |dice| {
            let count = dice.magnitude(1, 4);
            (1, fault(victim, DiskFaultKind::BadBatches { count }))
        });
    }
    let mut lies = Vec::new();
    if setting.is_about("lying fsync") {
        lies = setting.some(2, |dice| {
            let what = DiskFaultKind::LyingSyncs;
            (dice.magnitude(1_000, 20_000), fault(victim, what))
        });
    }
    [
        slow,
        writes,
        syncs,
        reads,
        misdirected,
        full,
        rot,
        bad,
        lies,
    ]
    .concat()
}
