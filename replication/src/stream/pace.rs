//! How much a follower catches up with at once from one leader: what the follower's disk takes without
//! making others wait.
//!
//! What is appended now goes the same way as what is caught up with, and waits for all of
//! that which is before it. How long, the time tells that a chunk takes from the leader's
//! memory to the follower's disk: beyond the least of late, it waited. So the window grows
//! while chunks hardly wait and is halved when they wait too long; a queue that is never
//! empty and never long moves as much as a long one.
//!
//! ```text
//!   took:  least ....... + bearable / 2 ....... + bearable .......
//!          ── window grows ─┘└──── stays ─────┘└── is halved, once a round trip
//! ```
//! Bearable is the delay asked for, but at least the least and a quarter of it: who comes
//! while an fsync is under way waits for that one, too, and for what it brings to the disk.
//!
//! While it begins the window stays at its floor, to find the least.
//!
//! Never below a floor, so that catching up ends: where producers alone keep the disk busy
//! all chunks wait, whatever the window. If what is left does not shrink so, the floor is
//! doubled each period, up to the window's own limit. Pure; the outlet calls it.

use std::time::Duration;

use weir_base::Monotonic;

/// The least window, unless the limit is lower.
const FLOOR_BYTES: usize = 32 * 1024;
/// For so long, and up to twice that, the least time of a chunk is remembered; so often
/// it is looked at whether less is left.
const PERIOD: Duration = Duration::from_secs(5);
/// For so long from its beginning catching up stays at the floor: without a queue, the least
/// time of a chunk is what the way and the disk take, and a follower that just started
/// has other work, too.
const TRIAL: Duration = Duration::from_millis(500);
/// What is left must shrink by this share in a period.
const SHRINKS_BY: u64 = 64;

/// The window of one leader's streams to a follower.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes it may grow to.
    limit: usize,
    /// How long a chunk may wait, on a disk whose fsyncs do not take longer themselves.
    delay: Duration,
    floor: usize,
    window: usize,
    /// When this catching up began, and when it last got on.
    began: Monotonic,
    stored: Option<Monotonic>,
    /// The least time a chunk took, in this period and the one before.
    least: [Option<Duration>; 2],
    period_began: Monotonic,
    /// Offsets that were left when it began; zero if none or unknown.
    left: u64,
    /// When the window was last halved.
    halved: Monotonic,
}

impl Pace {
    /// At most `limit` bytes, of which none should wait longer than `delay`.
    pub(crate) fn new(limit: usize, delay: Duration) -> Pace {
        let floor = FLOOR_BYTES.min(limit);
        Pace {
            limit,
            delay,
            floor,
            window: floor,
            began: Monotonic::default(),
            stored: None,
            least: [None; 2],
            period_began: Monotonic::default(),
            left: 0,
            halved: Monotonic::default(),
        }
    }

    /// Bytes that may be under way.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Bytes of one read, of which two make a window.
    pub(crate) fn read_bytes(&self, most: usize) -> usize {
        (self.window / 2).clamp(1, most)
    }

    /// A chunk that was read at `since` is on the follower's disk.
    pub(crate) fn on_stored(&mut self, now: Monotonic, since: Monotonic, bytes: usize) {
        let took = now.since(since);
        if self.stored.is_none_or(|last| now.since(last) >= 2 * PERIOD) {
            self.began = now;
            self.least = [None; 2];
        }
        self.stored = Some(now);
        let [newest, before] = &mut self.least;
        let least = newest.map_or(took, |least| least.min(took));
        *newest = Some(least);
        let least = before.map_or(least, |before| before.min(least));
        if now.since(self.began) < TRIAL {
            return;
        }
        let (waited, bearable) = (took - least, self.delay.max(least + least / 4));
        if waited <= bearable / 2 {
            self.grow(bytes);
        } else if waited > bearable && since >= self.halved {
            self.window = (self.window / 2).max(self.floor);
            self.halved = now;
        }
    }

    /// A chunk is on the follower's disk that was in no hurry to get there: how long it
    /// took says nothing.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.window = (self.window + bytes).min(self.limit);
    }

    /// Whether [`Pace::on_period`] is due.
    pub(crate) fn is_due(&self, now: Monotonic) -> bool {
        now.since(self.period_began) >= PERIOD
    }

    /// A period is over, and `left` offsets are still to be caught up with.
    pub(crate) fn on_period(&mut self, now: Monotonic, left: u64) {
        self.least = [None, self.least[0]];
        // After a time without news, the period was not one of catching up.
        let is_known = self.left > 0 && now.since(self.period_began) < 2 * PERIOD;
        if left == 0 {
            self.floor = FLOOR_BYTES.min(self.limit);
        } else if is_known && left > self.left - self.left / SHRINKS_BY {
            self.floor = (2 * self.floor).min(self.limit);
            self.window = self.window.max(self.floor);
        }
        self.left = left;
        self.period_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const LIMIT: usize = 2 * MIB;
    const DELAY: Duration = Duration::from_millis(1);

    /// What is on its way to the disk: from a leader's log, or appended now.
    struct Chunk {
        leader: Option<usize>,
        since: Monotonic,
        bytes: usize,
    }

    /// A disk that commits all at once that came while it was busy.
    struct Disk {
        bytes_per_second: usize,
        fsync: Duration,
        waiting: Vec<Chunk>,
        committing: Vec<Chunk>,
        committed_at: Monotonic,
    }

    impl Disk {
        fn new(mib_per_second: usize, fsync: Duration) -> Disk {
            Disk {
                bytes_per_second: mib_per_second * MIB,
                fsync,
                waiting: vec![],
                committing: vec![],
                committed_at: Monotonic::default(),
            }
        }

        fn begin(&mut self, now: Monotonic) {
            if self.committing.is_empty() {
                self.committing = std::mem::take(&mut self.waiting);
                let bytes: usize = self.committing.iter().map(|chunk| chunk.bytes).sum();
                let nanos = bytes as u64 * 1_000_000_000 / self.bytes_per_second as u64;
                self.committed_at = now + self.fsync + Duration::from_nanos(nanos);
            }
        }
    }

    /// What became of some leaders' windows over one disk.
    #[derive(Debug)]
    struct Seen {
        mib_per_second: usize,
        /// Waits of what was appended, once the windows had settled; sorted.
        waits: Vec<Duration>,
    }

    impl Seen {
        fn p99(&self) -> Duration {
            self.waits[self.waits.len() * 99 / 100]
        }
    }

    /// Catches up over `disk` for 10 s, while every `every` a few bytes are appended, too.
    fn run(mut disk: Disk, leaders: usize, every: Duration, paced: bool) -> Seen {
        let mut paces: Vec<Pace> = (0..leaders).map(|_| Pace::new(LIMIT, DELAY)).collect();
        if !paced {
            paces.iter_mut().for_each(|pace| pace.grow(LIMIT));
        }
        let mut under_way = vec![0; leaders];
        let (mut now, mut append_at) = (Monotonic::default(), Monotonic::default());
        let (mut stored, mut waits) = (0, vec![]);
        while now < at(10) {
            for (leader, pace) in paces.iter().enumerate() {
                let bytes = pace.read_bytes(MIB);
                while under_way[leader] == 0 || under_way[leader] + bytes <= pace.window() {
                    under_way[leader] += bytes;
                    disk.waiting.push(Chunk {
                        leader: Some(leader),
                        since: now,
                        bytes,
                    });
                }
            }
            disk.begin(now);
            if append_at < disk.committed_at {
                now = append_at;
                append_at = append_at + every;
                disk.waiting.push(Chunk {
                    leader: None,
                    since: now,
                    bytes: 4096,
                });
                continue;
            }
            now = disk.committed_at;
            for Chunk {
                leader,
                since,
                bytes,
            } in std::mem::take(&mut disk.committing)
            {
                let Some(leader) = leader else {
                    waits.push(now.since(since));
                    continue;
                };
                stored += bytes;
                under_way[leader] -= bytes;
                if paced {
                    paces[leader].on_stored(now, since, bytes);
                }
            }
        }
        let mut waits = waits.split_off(waits.len() / 10);
        waits.sort_unstable();
        Seen {
            mib_per_second: stored / 10 / MIB,
            waits,
        }
    }

    #[test]
    fn the_disk_is_full_and_its_queue_short() {
        let often = Duration::from_millis(2);
        // Percent of what the disk takes without bounds: one that is slow to sync gives more up.
        let disks = [
            (100, 8_000, 55),
            (300, 300, 67),
            (1_000, 100, 67),
            (3_000, 30, 67),
        ];
        for (rate, micros, share) in disks {
            let fsync = Duration::from_micros(micros);
            for leaders in [1, 6] {
                let full = run(Disk::new(rate, fsync), leaders, often, false);
                let seen = run(Disk::new(rate, fsync), leaders, often, true);
                let what = format!(
                    "{rate} MiB/s, {leaders} leaders: {} of {} MiB/s, {:?} of {:?}",
                    seen.mib_per_second,
                    full.mib_per_second,
                    seen.p99(),
                    full.p99()
                );
                let least = full.mib_per_second * share;
                assert!(seen.mib_per_second * 100 >= least, "{what}");
                assert!(seen.p99() < 2 * (DELAY + 3 * fsync), "{what}");
            }
        }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default() + Duration::from_secs(seconds)
    }

    /// A chunk that was stored at `seconds` after so many milliseconds.
    fn stored(pace: &mut Pace, seconds: u64, millis: u64, bytes: usize) {
        let since = at(seconds).before(Duration::from_millis(millis));
        pace.on_stored(at(seconds), since, bytes);
    }

    #[test]
    fn at_first_and_after_a_rest_only_the_least_time_is_found() {
        let mut pace = Pace::new(LIMIT, DELAY);
        for (began, least) in [(1, 3), (60, 30)] {
            let later = |millis| at(began) + Duration::from_millis(millis);
            for (millis, took) in [(0, 40), (200, 30), (400, least), (499, 30)] {
                let now = later(millis);
                pace.on_stored(now, now.before(Duration::from_millis(took)), MIB);
            }
            assert_eq!(pace.window(), FLOOR_BYTES, "nothing makes it grow yet");
            let now = later(500);
            pace.on_stored(now, now.before(Duration::from_millis(least)), MIB);
            assert_eq!(pace.window(), FLOOR_BYTES + MIB);
            let since = later(505);
            pace.on_stored(since + Duration::from_millis(3 * least), since, MIB);
            assert_eq!(
                pace.window(),
                (FLOOR_BYTES + MIB) / 2,
                "{least} ms are the least"
            );
            pace.window = FLOOR_BYTES;
        }
    }

    #[test]
    fn a_long_wait_halves_the_window_once_and_never_below_the_floor() {
        let mut pace = Pace::new(LIMIT, DELAY);
        stored(&mut pace, 1, 3, MIB);
        stored(&mut pace, 2, 3, MIB);
        stored(&mut pace, 2, 4, MIB);
        assert_eq!(pace.window(), LIMIT, "1 ms of waiting is none");
        stored(&mut pace, 3, 6, MIB);
        assert_eq!(pace.window(), LIMIT, "3 are all right");
        stored(&mut pace, 4, 20, MIB);
        stored(&mut pace, 4, 25, MIB);
        assert_eq!(pace.window(), MIB, "both waited behind the same window");
        for seconds in 5..20 {
            stored(&mut pace, seconds, 20, MIB);
        }
        assert_eq!(pace.window(), FLOOR_BYTES);
        assert_eq!(pace.read_bytes(MIB), FLOOR_BYTES / 2);
    }

    #[test]
    fn a_disk_that_became_slower_is_believed_in_the_end() {
        let mut pace = Pace::new(LIMIT, DELAY);
        stored(&mut pace, 1, 3, MIB);
        for seconds in 2..40 {
            if pace.is_due(at(seconds)) {
                pace.on_period(at(seconds), 1_000_000 / seconds);
            }
            stored(&mut pace, seconds, 30, MIB);
        }
        assert_eq!(pace.window(), LIMIT);
    }

    #[test]
    fn if_nothing_gets_less_the_floor_rises_until_nothing_is_left() {
        let mut pace = Pace::new(LIMIT, DELAY);
        stored(&mut pace, 1, 3, MIB);
        let mut floors = vec![];
        for period in 1..8 {
            pace.on_period(at(5 * period), 1_000_000 + period);
            stored(&mut pace, 5 * period, 3, 0);
            for _ in 0..20 {
                pace.halved = Monotonic::default();
                stored(&mut pace, 5 * period, 900, MIB);
            }
            floors.push(pace.window() / FLOOR_BYTES);
        }
        assert_eq!(floors, [1, 2, 4, 8, 16, 32, 64]);
        pace.on_period(at(40), 0);
        pace.halved = Monotonic::default();
        for seconds in 41..50 {
            stored(&mut pace, seconds, 900, MIB);
        }
        assert_eq!(pace.window(), FLOOR_BYTES);
    }

    #[test]
    fn a_small_limit_holds() {
        let mut pace = Pace::new(4096, DELAY);
        pace.grow(MIB);
        assert_eq!((pace.window(), pace.read_bytes(MIB)), (4096, 2048));
        let pace = Pace::new(1, DELAY);
        assert_eq!((pace.window(), pace.read_bytes(MIB)), (1, 1));
    }
}
