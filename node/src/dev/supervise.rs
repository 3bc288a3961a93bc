//! Keeps the node processes running. The decisions are pure; [`super::run`] carries
//! them out.

use std::time::Duration;

/// Time between the death of a node and its restart: long enough that its death is
/// noticed by the cluster, as in real life, and that a node that dies at once does not
/// burn a core.
pub const RESTART_DELAY: Duration = Duration::from_secs(3);

/// Where one node's process stands. Times count from the start of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs, as this process.
    Running {
        /// Its process.
        pid: u32,
    },
    /// It died and is started again at this time, or never.
    Dead {
        /// When, if ever.
        restart_at: Option<Duration>,
    },
}

/// Which nodes run and which are due.
#[derive(Debug)]
pub struct Nodes {
    states: Vec<State>,
    restarts: bool,
}

impl Nodes {
    /// `count` nodes, all due at once. With `restarts`, one that dies is due again.
    #[must_use]
    pub fn new(count: usize, restarts: bool) -> Self {
        let due = State::Dead {
            restart_at: Some(Duration::ZERO),
        };
        Self {
            states: vec![due; count],
            restarts,
        }
    }

    /// Nodes to start now.
    #[must_use]
    pub fn due(&self, now: Duration) -> Vec<usize> {
        let is_due =
            |state: &State| matches!(state, State::Dead { restart_at: Some(at) } if *at <= now);
        (0..)
            .zip(&self.states)
            .filter(|(_, state)| is_due(state))
            .map(|(index, _)| index)
            .collect()
    }

    /// When the next node is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.states
            .iter()
            .filter_map(|state| match state {
                State::Dead { restart_at } => *restart_at,
                State::Running { .. } => None,
            })
            .min()
    }

    /// A node was started.
    pub fn on_started(&mut self, index: usize, pid: u32) {
        self.set(index, State::Running { pid });
    }

    /// A node's process ended. Gives the time of its restart, if there is one.
    pub fn on_exit(&mut self, index: usize, now: Duration) -> Option<Duration> {
        let restart_at = self.restarts.then(|| now + RESTART_DELAY);
        self.set(index, State::Dead { restart_at });
        restart_at
    }

    /// A node's process, if it runs.
    #[must_use]
    pub fn pid(&self, index: usize) -> Option<u32> {
        match self.states.get(index)? {
            State::Running { pid } => Some(*pid),
            State::Dead { .. } => None,
        }
    }

    /// Whether all run.
    #[must_use]
    pub fn all_running(&self) -> bool {
        let running = |state: &State| matches!(state, State::Running { .. });
        self.states.iter().all(running)
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(slot) = self.states.get_mut(index) {
            *slot = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_dead_node_is_due_again_after_the_delay() {
        let mut nodes = Nodes::new(2, true);
        assert_eq!(nodes.due(Duration::ZERO), [0, 1]);
        nodes.on_started(0, 10);
        nodes.on_started(1, 11);
        assert!(nodes.all_running());
        assert_eq!(nodes.next_due(), None);

        assert_eq!(nodes.on_exit(1, SECOND), Some(SECOND + RESTART_DELAY));
        assert_eq!((nodes.pid(0), nodes.pid(1)), (Some(10), None));
        assert!(!nodes.all_running());
        assert_eq!(nodes.due(SECOND * 3), [] as [usize; 0]);
        assert_eq!(nodes.next_due(), Some(SECOND * 4));
        assert_eq!(nodes.due(SECOND * 4), [1]);
        nodes.on_started(1, 12);
        assert_eq!(nodes.pid(1), Some(12));
        assert_eq!(nodes.due(SECOND * 9), [] as [usize; 0]);
    }

    #[test]
    fn without_restarts_the_dead_stay_dead() {
        let mut nodes = Nodes::new(1, false);
        nodes.on_started(0, 10);
        assert_eq!(nodes.on_exit(0, SECOND), None);
        assert_eq!(nodes.next_due(), None);
        assert_eq!(nodes.due(SECOND * 100), [] as [usize; 0]);
    }
}
