//! What the network does to datagrams, besides turmoil's delays and partitions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_base::Entropy;

/// Loss and doubling of datagrams; shared by all nodes and the nemesis.
#[derive(Debug, Clone, Default)]
pub struct Weather(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    everywhere: Rates,
    /// One way each; in place of `everywhere`.
    paths: BTreeMap<(IpAddr, IpAddr), Rates>,
}

/// Of a thousand datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rates {
    lost: u32,
    doubled: u32,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Sent,
    Lost,
    Doubled,
}

impl Weather {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a thousand datagrams between any two nodes, how many are lost and doubled.
    pub fn set_everywhere(&self, lost_permille: u32, doubled_permille: u32) {
        self.lock().everywhere = Rates {
            lost: lost_permille,
            doubled: doubled_permille,
        };
    }

    /// The same for one way between two nodes, in place of what holds everywhere.
    pub fn set_path(&self, from: IpAddr, to: IpAddr, lost_permille: u32, doubled_permille: u32) {
        let rates = Rates {
            lost: lost_permille,
            doubled: doubled_permille,
        };
        self.lock().paths.insert((from, to), rates);
    }

    /// Calm everywhere.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    pub(crate) fn fate(&self, from: IpAddr, to: IpAddr, entropy: &Entropy) -> Fate {
        let state = self.lock();
        let rates = *state.paths.get(&(from, to)).unwrap_or(&state.everywhere);
        drop(state);
        if rates == Rates::default() {
            return Fate::Sent;
        }
        let drawn = entropy.below(1000);
        if drawn < u64::from(rates.lost) {
            Fate::Lost
        } else if drawn < u64::from(rates.lost + rates.doubled) {
            Fate::Doubled
        } else {
            Fate::Sent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_hold_one_way_and_clear() {
        let (weather, entropy) = (Weather::default(), Entropy::from_seed([5; 32]));
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let lost = |from, to| {
            (0..1000)
                .filter(|_| weather.fate(from, to, &entropy) == Fate::Lost)
                .count()
        };
        weather.set_everywhere(100, 100);
        weather.set_path(a, b, 1000, 0);
        assert_eq!(lost(a, b), 1000);
        assert!((60..140).contains(&lost(b, a)));
        weather.clear();
        assert_eq!(lost(a, b), 0);
    }
}
