//! What a scenario breaks: processes, machines, links.

use anyhow::Result;
use weir_base::NodeId;

use super::Theatre;
use super::clients::CLIENT;
use crate::cluster::ip;

impl Theatre {
    /// `kill -9`.
    pub(in crate::scenarios) fn kill(&mut self, node: NodeId) -> Result<()> {
        self.up.remove(&node);
        let inside = self.insides.lock().remove(&node);
        drop(inside);
        self.cluster.kill(&mut self.sim, node)
    }

    /// Takes a machine's power. Not while links are cut: it heals them.
    pub(in crate::scenarios) fn power_off(&mut self, node: NodeId) -> Result<()> {
        self.up.remove(&node);
        let inside = self.insides.lock().remove(&node);
        drop(inside);
        self.cluster.power_off(&mut self.sim, node)
    }

    /// Starts what was killed or lost its power.
    pub(in crate::scenarios) fn start(&mut self, node: NodeId) -> Result<()> {
        self.up.insert(node);
        self.cluster.start(&mut self.sim, node)
    }

    /// From now on the process may end by itself.
    pub(in crate::scenarios) fn may_die(&mut self, node: NodeId) {
        self.mortal.insert(node);
    }

    pub(in crate::scenarios) fn pause(&self, node: NodeId) {
        self.cluster.pause(node);
    }

    pub(in crate::scenarios) fn resume(&self, node: NodeId) {
        self.cluster.resume(node);
    }

    /// What each of `one` sends to each of `two` vanishes.
    pub(in crate::scenarios) fn cut_oneway(&self, one: &[NodeId], two: &[NodeId]) {
        for (a, b) in pairs(one, two) {
            self.sim.partition_oneway(ip(a), ip(b));
        }
    }

    /// Nothing gets from one side to the other.
    pub(in crate::scenarios) fn cut(&self, one: &[NodeId], two: &[NodeId]) {
        for (a, b) in pairs(one, two) {
            self.sim.partition(ip(a), ip(b));
        }
    }

    /// Nothing gets from the clients to a node, or back; or it does again.
    pub(in crate::scenarios) fn cut_clients(&self, node: NodeId, is_cut: bool) {
        if is_cut {
            self.sim.partition(ip(CLIENT), ip(node));
        } else {
            self.sim.repair(ip(CLIENT), ip(node));
        }
    }

    /// What is sent between two sides arrives when all is healed.
    pub(in crate::scenarios) fn hold(&self, one: &[NodeId], two: &[NodeId]) {
        for (a, b) in pairs(one, two) {
            self.sim.hold(ip(a), ip(b));
        }
    }

    /// All links between nodes work.
    pub(in crate::scenarios) fn heal(&self) {
        for (a, b) in pairs(&self.all, &self.all) {
            self.sim.release(ip(a), ip(b));
            self.sim.repair(ip(a), ip(b));
        }
    }

    /// All nodes but these.
    pub(in crate::scenarios) fn others(&self, but: &[NodeId]) -> Vec<NodeId> {
        let all = self.all.iter().copied();
        all.filter(|node| !but.contains(node)).collect()
    }
}

fn pairs(one: &[NodeId], two: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let all = one.iter().flat_map(|a| two.iter().map(|b| (*a, *b)));
    all.filter(|(a, b)| a != b).collect()
}
