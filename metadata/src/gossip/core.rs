//! foca without the world: time and datagrams in, datagrams and hints out. Pure.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{Config, Foca, Identity, NoCustomBroadcast, Notification, PostcardCodec, Timer};
use serde::{Deserialize, Serialize};
use weir_base::{Entropy, Monotonic, NodeId};

/// What fits into one datagram of the peer link.
const PACKET_MAX: usize = 1000;
/// Longest address taken from a datagram.
const ADDRESS_MAX: usize = 255;
/// Timers waiting; foca needs a handful a member.
const TIMERS_MAX: usize = 10_000;

/// A node as gossip names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: u32,
    /// Which start of it: the later wins.
    pub(crate) generation: u64,
    pub(crate) address: String,
}

impl Identity for Member {
    type Addr = u32;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            generation: self.generation.saturating_add(1),
            ..self.clone()
        })
    }

    fn addr(&self) -> u32 {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// What comes out: datagrams to send, and hints.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    pub(crate) sends: Vec<(NodeId, Bytes)>,
    pub(crate) up: Vec<(NodeId, String)>,
    pub(crate) down: Vec<NodeId>,
}

struct Random(Entropy);

impl rand_core_10::TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(self.0.next_u64() >> 32).unwrap_or(u32::MAX))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

/// See the module.
pub(crate) struct Core {
    foca: Foca<Member, PostcardCodec, Random, NoCustomBroadcast>,
    timers: Timers,
}

#[derive(Default)]
struct Timers {
    due: BTreeMap<(Monotonic, u64), Timer<Member>>,
    made: u64,
}

/// Collects what one call of foca wants done.
struct Collector<'a> {
    now: Monotonic,
    timers: &'a mut Timers,
    hints: &'a mut Hints,
}

impl foca::Runtime<Member> for Collector<'_> {
    fn notify(&mut self, notification: Notification<'_, Member>) {
        match notification {
            Notification::MemberUp(member) => self.up(member),
            Notification::Rename(_, member) => self.up(member),
            Notification::MemberDown(member) => self.hints.down.push(NodeId(member.id)),
            Notification::Active
            | Notification::Idle
            | Notification::Defunct
            | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Member, data: &[u8]) {
        let bytes = Bytes::copy_from_slice(data);
        self.hints.sends.push((NodeId(to.id), bytes));
    }

    fn submit_after(&mut self, event: Timer<Member>, after: Duration) {
        if self.timers.due.len() < TIMERS_MAX {
            self.timers.made += 1;
            let key = (self.now + after, self.timers.made);
            self.timers.due.insert(key, event);
        }
    }
}

impl Collector<'_> {
    fn up(&mut self, member: &Member) {
        if member.address.len() <= ADDRESS_MAX {
            let found = (NodeId(member.id), member.address.clone());
            self.hints.up.push(found);
        }
    }
}

impl Core {
    pub(crate) fn new(me: Member, period: Duration, entropy: Entropy) -> Self {
        let size = NonZeroU32::MIN.saturating_add(7);
        let mut config = Config::new_lan(size);
        config.probe_period = period;
        config.probe_rtt = period / 2;
        config.suspect_to_down_after = period * 2;
        config.max_packet_size = NonZeroUsize::MIN.saturating_add(PACKET_MAX - 1);
        Self {
            foca: Foca::new(me, config, Random(entropy), PostcardCodec),
            timers: Timers::default(),
        }
    }

    /// Whether no other member is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.foca.iter_members().next().is_none()
    }

    /// When `on_time` has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.due.keys().next().map(|(at, _)| *at)
    }

    /// Calls on a node.
    pub(crate) fn announce(&mut self, now: Monotonic, to: NodeId, hints: &mut Hints) {
        let to = Member {
            id: to.0,
            generation: 0,
            address: String::new(),
        };
        self.with(now, hints, |foca, runtime| foca.announce(to, runtime));
    }

    /// A datagram came in from a node whose certificate says `from`. One that claims to
    /// come from another is dropped, as is what does not decode.
    pub(crate) fn on_datagram(
        &mut self,
        now: Monotonic,
        from: NodeId,
        bytes: &[u8],
        hints: &mut Hints,
    ) {
        let claimed: Result<(foca::Header<Member>, _), _> = postcard::take_from_bytes(bytes);
        if claimed.is_ok_and(|(header, _)| header.src.id == from.0) {
            self.with(now, hints, |foca, runtime| foca.handle_data(bytes, runtime));
        }
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self, now: Monotonic, hints: &mut Hints) {
        while let Some(next) = self.timers.due.first_entry() {
            if next.key().0 > now {
                return;
            }
            let event = next.remove();
            self.with(now, hints, |foca, runtime| {
                foca.handle_timer(event, runtime)
            });
        }
    }

    fn with(
        &mut self,
        now: Monotonic,
        hints: &mut Hints,
        call: impl FnOnce(
            &mut Foca<Member, PostcardCodec, Random, NoCustomBroadcast>,
            Collector<'_>,
        ) -> Result<(), foca::Error>,
    ) {
        let collector = Collector {
            now,
            timers: &mut self.timers,
            hints,
        };
        if let Err(error) = call(&mut self.foca, collector) {
            tracing::debug!(%error, "gossip");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Net {
        cores: BTreeMap<u32, Core>,
        down: BTreeMap<u32, Vec<NodeId>>,
        now: Monotonic,
    }

    impl Net {
        fn new(ids: &[u32]) -> Self {
            let core = |id: u32| {
                let me = Member {
                    id,
                    generation: 1,
                    address: format!("127.0.0.1:{id}"),
                };
                let seed = Entropy::from_seed([u8::try_from(id).unwrap(); 32]);
                Core::new(me, Duration::from_millis(100), seed)
            };
            Self {
                cores: ids.iter().map(|id| (*id, core(*id))).collect(),
                down: BTreeMap::new(),
                now: Monotonic(0),
            }
        }

        fn deliver(&mut self, from: u32, hints: Hints) {
            self.down.entry(from).or_default().extend(hints.down);
            for (to, bytes) in hints.sends {
                assert!(bytes.len() <= PACKET_MAX);
                let mut next = Hints::default();
                if let Some(core) = self.cores.get_mut(&to.0) {
                    core.on_datagram(self.now, NodeId(from), &bytes, &mut next);
                    self.deliver(to.0, next);
                }
            }
        }

        fn run(&mut self, millis: u64) {
            for _ in 0..millis {
                self.now = self.now + Duration::from_millis(1);
                let ids: Vec<u32> = self.cores.keys().copied().collect();
                for id in ids {
                    let mut hints = Hints::default();
                    if let Some(core) = self.cores.get_mut(&id) {
                        core.on_time(self.now, &mut hints);
                    }
                    self.deliver(id, hints);
                }
            }
        }

        fn members(&self, id: u32) -> usize {
            self.cores[&id].foca.iter_members().count()
        }
    }

    #[test]
    fn everyone_hears_of_everyone_and_a_dead_one_is_suspected_by_all() {
        let mut net = Net::new(&[1, 2, 3, 4]);
        for id in 2..=4 {
            let mut hints = Hints::default();
            let core = net.cores.get_mut(&id).unwrap();
            core.announce(Monotonic(0), NodeId(1), &mut hints);
            net.deliver(id, hints);
        }
        net.run(2000);
        assert!((1..=4).all(|id| net.members(id) == 3));
        assert!(net.down.values().all(Vec::is_empty));
        net.cores.remove(&3);
        net.run(3000);
        for id in [1, 2, 4] {
            assert_eq!(net.down[&id], [NodeId(3)], "node {id}");
        }
    }

    #[test]
    fn noise_and_impostors_are_dropped() {
        let mut net = Net::new(&[1, 2]);
        let mut hints = Hints::default();
        let core = net.cores.get_mut(&2).unwrap();
        core.announce(Monotonic(0), NodeId(1), &mut hints);
        let (_, announce) = hints.sends.remove(0);
        let core = net.cores.get_mut(&1).unwrap();
        let mut out = Hints::default();
        core.on_datagram(Monotonic(0), NodeId(7), &announce, &mut out);
        for noise in [&b""[..], b"x", &[0xff; 900]] {
            core.on_datagram(Monotonic(0), NodeId(2), noise, &mut out);
        }
        assert!(core.is_alone() && out.sends.is_empty());
        core.on_datagram(Monotonic(0), NodeId(2), &announce, &mut out);
        assert!(!core.is_alone());
    }
}
