//! The record of a run: a hash of everything that happened, and on demand the text.
//!
//! Two runs of one seed are compared by [`Digest`]; where they differ, the texts of
//! both say at which event. Called by the simulated seams and by oracles.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Lines of text kept; the oldest are dropped beyond it.
const LINES_MAX: usize = 200_000;

/// A run's record, shared by its clones.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<State>>);

struct State {
    hash: Hash,
    events: u64,
    lines: Option<VecDeque<String>>,
    /// The words of one event; kept for its room.
    words: String,
}

/// What two equal runs have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Hash of every event, its time and its bytes.
    pub hash: u128,
    /// Number of events.
    pub events: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x} after {} events", self.hash, self.events)
    }
}

impl Trace {
    /// An empty record that keeps its hash only.
    #[must_use]
    pub fn new() -> Self {
        Self::with_lines(None)
    }

    /// An empty record that also keeps its last 200,000 lines.
    #[must_use]
    pub fn with_text() -> Self {
        Self::with_lines(Some(VecDeque::new()))
    }

    fn with_lines(lines: Option<VecDeque<String>>) -> Self {
        Self(Arc::new(Mutex::new(State {
            hash: Hash::new(),
            events: 0,
            lines,
            words: String::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that `what` happened at `who`, now.
    pub fn note(&self, who: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        let mut state = self.lock();
        let now = state.begin(who, what);
        state.record(now, str::to_owned);
    }

    /// Records that `what` happened at `who`, now, with these bytes.
    pub fn note_bytes(&self, who: &dyn fmt::Display, what: fmt::Arguments<'_>, chunks: &[Bytes]) {
        let mut state = self.lock();
        let now = state.begin(who, what);
        for chunk in chunks {
            state.hash.add(chunk);
        }
        state.record(now, |words| {
            let mut content = Hash::new();
            let mut len = 0;
            for chunk in chunks {
                content.add(chunk);
                len += chunk.len();
            }
            format!("{words} {len} bytes {:032x}", content.value())
        });
    }

    /// Records a datagram, now, and what became of it.
    pub fn datagram(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8], fate: &'static str) {
        let now = sim_now();
        let mut state = self.lock();
        state.hash.add_time(now);
        state.hash.add_address(from);
        state.hash.add_address(to);
        state.hash.add(bytes);
        state.hash.add(fate.as_bytes());
        state.record(now, |_| {
            let mut content = Hash::new();
            content.add(bytes);
            let (len, content) = (bytes.len(), content.value());
            format!("{from} > {to} {len} bytes {content:032x} {fate}")
        });
    }

    /// The hash and the count so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let state = self.lock();
        Digest {
            hash: state.hash.value(),
            events: state.events,
        }
    }

    /// The text kept so far, one line an event; empty if none is kept.
    #[must_use]
    pub fn text(&self) -> String {
        let state = self.lock();
        let mut text = String::new();
        for line in state.lines.iter().flatten() {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Takes the time and the words of an event into the hash.
    fn begin(&mut self, who: &dyn fmt::Display, what: fmt::Arguments<'_>) -> Duration {
        let now = sim_now();
        self.words.clear();
        // A string takes everything.
        write!(self.words, "{who} {what}").unwrap_or_default();
        self.hash.add_time(now);
        self.hash.add(self.words.as_bytes());
        now
    }

    fn record(&mut self, now: Duration, text: impl FnOnce(&str) -> String) {
        self.events += 1;
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            let text = text(&self.words);
            lines.push_back(format!("{:>12.6} {text}", now.as_secs_f64()));
        }
    }
}

thread_local! {
    /// What time it is outside of hosts: a run has a thread of its own.
    static OUTSIDE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Says what time it is for a scenario that looks at nodes, or speaks, between steps.
pub(crate) fn set_time_outside(now: Duration) {
    OUTSIDE.set(now);
}

/// Simulated time since the run started; outside of a host, as the scenario said last.
#[must_use]
pub fn sim_now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_else(|| OUTSIDE.get())
}

/// Writes simulated time in log lines, so that the logs of two equal runs are equal:
/// `tracing_subscriber::fmt().with_timer(SimTime)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimTime;

impl FormatTime for SimTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{:>12.6}", sim_now().as_secs_f64())
    }
}

/// FNV-1a of 128 bits, but eight bytes a step: every datagram and every write of a run
/// goes through it. Stable everywhere, and not meant to resist anyone.
struct Hash(u128);

impl Hash {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn step(&mut self, word: u64) {
        self.0 = (self.0 ^ u128::from(word)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
    }

    /// Ends with a word that has no more than seven bytes and their number: where one
    /// piece ends and the next begins counts, too.
    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.step(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (slot, byte) in last.iter_mut().zip(rest) {
            *slot = *byte;
        }
        last[7] = u8::try_from(rest.len()).unwrap_or(u8::MAX);
        self.step(u64::from_le_bytes(last));
    }

    fn add_time(&mut self, time: Duration) {
        self.step(time.as_secs());
        self.step(u64::from(time.subsec_nanos()));
    }

    fn add_address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => self.step(u64::from(ip.to_bits())),
            IpAddr::V6(ip) => self.add(&ip.octets()),
        }
        self.step(u64::from(address.port()));
    }

    fn value(&self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_event_counts() {
        let digest = |to: &str, bytes: &[u8], fate| {
            let trace = Trace::new();
            let from = "10.0.0.1:1".parse().unwrap();
            trace.datagram(from, to.parse().unwrap(), bytes, fate);
            trace.digest()
        };
        let base = digest("10.0.0.2:1", b"a", "sent");
        assert_eq!(base, digest("10.0.0.2:1", b"a", "sent"));
        assert_ne!(base, digest("10.0.0.3:1", b"a", "sent"));
        assert_ne!(base, digest("10.0.0.2:1", b"b", "sent"));
        assert_ne!(base, digest("10.0.0.2:1", b"a", "lost"));
    }

    #[test]
    fn every_byte_its_place_and_the_end_of_a_piece_count() {
        let hash = |pieces: &[&[u8]]| {
            let mut hash = Hash::new();
            pieces.iter().for_each(|piece| hash.add(piece));
            hash.value()
        };
        let text = b"nineteen bytes long";
        let whole = hash(&[text]);
        assert_eq!(whole, hash(&[text]));
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut other = *text;
                other[place] ^= 1 << bit;
                assert_ne!(whole, hash(&[&other]), "bit {bit} of byte {place}");
            }
            let (one, two) = text.split_at(place);
            assert_ne!(whole, hash(&[one, two]));
            assert_ne!(whole, hash(&[two, one]));
        }
        assert_ne!(hash(&[b"a"]), hash(&[b"a\0"]));
        assert_ne!(hash(&[b"12345678"]), hash(&[b"12345678", b""]));
    }
}
