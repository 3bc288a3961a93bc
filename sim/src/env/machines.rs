//! Which machines are up and what listens on them: what their kernels know.
//!
//! turmoil drops a crashed host's packets; a real machine whose process died goes on
//! answering for it, and refuses connections. Which of the two happens here is decided
//! by the nemesis: a killed process leaves its machine up, a power loss does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All machines of a run, shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct Machines(Arc<Mutex<BTreeMap<IpAddr, Machine>>>);

#[derive(Debug)]
struct Machine {
    name: String,
    is_on: bool,
    listening: BTreeSet<u16>,
}

impl Machines {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Machine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a machine, switched on.
    pub fn add(&self, name: impl Into<String>, ip: IpAddr) {
        let machine = Machine {
            name: name.into(),
            is_on: true,
            listening: BTreeSet::new(),
        };
        self.lock().insert(ip, machine);
    }

    /// Switches a machine on or off. What ran on it must be crashed by the caller.
    pub fn set_on(&self, ip: IpAddr, is_on: bool) {
        if let Some(machine) = self.lock().get_mut(&ip) {
            machine.is_on = is_on;
        }
    }

    /// The address of the machine of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<IpAddr> {
        let machines = self.lock();
        let mut all = machines.iter();
        all.find_map(|(ip, machine)| (machine.name == name).then_some(*ip))
    }

    /// Whether the machine is up and would say that nothing listens on `address`.
    pub(crate) fn refuses(&self, address: SocketAddr) -> bool {
        self.lock()
            .get(&address.ip())
            .is_some_and(|machine| machine.is_on && !machine.listening.contains(&address.port()))
    }

    pub(crate) fn set_listening(&self, address: SocketAddr, listening: bool) {
        if let Some(machine) = self.lock().get_mut(&address.ip()) {
            if listening {
                machine.listening.insert(address.port());
            } else {
                machine.listening.remove(&address.port());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_that_is_up_refuses() {
        let machines = Machines::default();
        let ip = "10.0.0.1".parse().unwrap();
        let address = SocketAddr::new(ip, 9);
        assert!(!machines.refuses(address));
        machines.add("one", ip);
        assert!(machines.refuses(address));
        machines.set_listening(address, true);
        assert!(!machines.refuses(address));
        machines.set_listening(address, false);
        machines.set_on(ip, false);
        assert!(!machines.refuses(address));
        assert_eq!(machines.find("one"), Some(ip));
    }
}
