//! Boots nodes on simulated machines, and breaks the machines.
//!
//! A scenario builds a [`Cluster`], gives turmoil one host per node whose software calls
//! [`Cluster::boot`], and steps the simulation while its nemesis kills, cuts and heals.
//! Whatever a node holds is rebuilt by `boot`; what outlives a process is in the
//! cluster: the machine's disk, its clocks' faults, its power.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use weir_base::{Clock, Entropy, Env, NodeId, Tasks};
use weir_peer::NodeIdentity;
use weir_storage::{Crash, SimDisk};

use crate::env::{
    Authority, ClockFaults, Machines, SimClock, SimNet, SimQuic, SimSpawner, TracedDisk, Tripwire,
    Weather,
};
use crate::trace::Trace;

/// The port that every node's links listen on.
pub const PEER_PORT: u16 = 7400;

/// The length of one step of the simulation, and the grain of its network.
const TICK: Duration = Duration::from_millis(1);
/// Messages in flight to one socket: QUIC sends bursts that the default would drop.
const SOCKET_CAPACITY: usize = 4096;

/// The machines of one run, shared by its clones.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    entropy: Entropy,
    authority: Authority,
    machines: Machines,
    weather: Weather,
    wire: Tripwire,
    trace: Trace,
    nodes: BTreeMap<NodeId, Machine>,
    contains_panics: AtomicBool,
}

struct Machine {
    ip: IpAddr,
    disk: SimDisk,
    clock: Arc<ClockFaults>,
    /// How often its process was started: every start draws from a stream of its own.
    starts: AtomicU64,
    /// Of the process that runs, or ended by itself.
    process: Mutex<Option<Process>>,
}

impl Machine {
    /// Its process was ended: what it said of itself is no news of the next one.
    fn forget_process(&self) {
        let mut held = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
    }
}

/// The scenario's hold on one process.
#[derive(Clone)]
struct Process {
    spawner: Arc<SimSpawner>,
    stop: Arc<watch::Sender<bool>>,
}

/// What one start of a node is given.
pub struct Host {
    /// The node.
    pub node: NodeId,
    /// How often it was started, this time included.
    pub start: u64,
    /// Its seams.
    pub env: Env,
    /// Its UDP and cryptography.
    pub quic: SimQuic,
    /// Its certificate.
    pub identity: NodeIdentity,
    /// Where its links listen.
    pub peer_address: SocketAddr,
    /// Turns true when the process is asked to stop.
    pub stop: watch::Receiver<bool>,
    /// Its tasks, to end them all.
    pub process: Arc<SimSpawner>,
}

impl Cluster {
    /// Machines for `nodes`, with empty disks.
    ///
    /// # Errors
    /// If the certificates cannot be made.
    pub fn new(seed: u64, nodes: &[NodeId], trace: Trace) -> anyhow::Result<Self> {
        let entropy = entropy(seed);
        let machines = Machines::default();
        let mut table = BTreeMap::new();
        for node in nodes {
            let ip = ip(*node);
            machines.add(host_name(*node), ip);
            let machine = Machine {
                ip,
                disk: SimDisk::new(&entropy.fork(&format!("machine {node}"))),
                clock: Arc::default(),
                starts: AtomicU64::new(0),
                process: Mutex::default(),
            };
            table.insert(*node, machine);
        }
        Ok(Self(Arc::new(Inner {
            entropy,
            authority: Authority::new("sim")?,
            machines,
            weather: Weather::default(),
            wire: Tripwire::default(),
            trace,
            nodes: table,
            contains_panics: AtomicBool::new(false),
        })))
    }

    /// A turmoil builder with every source of difference fixed: one-way delays of 1 to
    /// 5 ms, no loss but the [`Weather`]'s.
    #[must_use]
    pub fn builder(seed: u64, duration: Duration) -> turmoil::Builder {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .epoch(epoch())
            .simulation_duration(duration)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(5))
            .udp_capacity(SOCKET_CAPACITY)
            .tcp_capacity(SOCKET_CAPACITY)
            .enable_random_order();
        builder
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.0.nodes.keys().copied()
    }

    /// The run's record.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// What the network does to datagrams.
    #[must_use]
    pub fn weather(&self) -> &Weather {
        &self.0.weather
    }

    /// Where writes to the nodes' write-ahead logs are seen.
    #[must_use]
    pub fn tripwire(&self) -> &Tripwire {
        &self.0.wire
    }

    /// A stream for one purpose of the scenario, such as its nemesis.
    #[must_use]
    pub fn entropy(&self, purpose: &str) -> Entropy {
        self.0.entropy.fork(purpose)
    }

    /// What is wrong with a node's clocks; `None` if there is no such node.
    #[must_use]
    pub fn clock_faults(&self, node: NodeId) -> Option<&ClockFaults> {
        self.0.nodes.get(&node).map(|machine| &*machine.clock)
    }

    /// A node's disk, to break it or to look at it; `None` if there is no such node.
    #[must_use]
    pub fn disk(&self, node: NodeId) -> Option<&SimDisk> {
        self.0.nodes.get(&node).map(|machine| &machine.disk)
    }

    /// Everything for one start of `node`. Call it inside the node's host.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn boot(&self, node: NodeId) -> anyhow::Result<Host> {
        let machine = self.machine(node)?;
        let start = machine.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let entropy = self.0.entropy.fork(&format!("node {node} start {start}"));
        let trace = self.0.trace.clone();
        trace.note(&node, format_args!("start {start}"));
        let mut spawner = SimSpawner::new(node, trace.clone());
        if self.0.contains_panics.load(Ordering::Relaxed) {
            spawner = spawner.containing_panics();
        }
        let spawner = Arc::new(spawner);
        let (stop, stopping) = watch::channel(false);
        let process = Process {
            spawner: Arc::clone(&spawner),
            stop: Arc::new(stop),
        };
        *machine
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(process);
        let tasks = Tasks::new(Arc::clone(&spawner) as _);
        let weather = self.0.weather.clone();
        let quic = SimQuic::new(
            machine.ip,
            Arc::clone(&spawner),
            &entropy,
            weather,
            trace.clone(),
        );
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(Arc::clone(&machine.clock)));
        let disk = machine.disk.handle(Some(Arc::clone(&clock)));
        let env = Env {
            clock,
            entropy,
            disk: Arc::new(TracedDisk::new(
                node,
                trace,
                self.0.wire.clone(),
                Arc::new(disk),
            )),
            net: Arc::new(SimNet::new(machine.ip, self.0.machines.clone())),
            tasks,
        };
        Ok(Host {
            node,
            start,
            env,
            quic,
            identity: self.0.authority.identity(node)?,
            peer_address: SocketAddr::new(machine.ip, PEER_PORT),
            stop: stopping,
            process: spawner,
        })
    }

    /// From now on a panic ends the process it happens in, and not the run: the scenario
    /// asks [`Cluster::death`] after every step.
    pub fn contain_panics(&self) {
        self.0.contains_panics.store(true, Ordering::Relaxed);
    }

    /// Why a node's process ended by itself, if it did. It is then to be killed.
    #[must_use]
    pub fn death(&self, node: NodeId) -> Option<String> {
        self.process(node)?.spawner.death()
    }

    /// Stops a node's process where it is, as SIGSTOP does.
    pub fn pause(&self, node: NodeId) {
        self.0.trace.note(&node, format_args!("paused"));
        if let Some(process) = self.process(node) {
            process.spawner.pause();
        }
    }

    /// Lets a paused process go on.
    pub fn resume(&self, node: NodeId) {
        self.0.trace.note(&node, format_args!("resumed"));
        if let Some(process) = self.process(node) {
            process.spawner.resume();
        }
    }

    /// Asks a node's process to stop, as SIGTERM does.
    pub fn ask_to_stop(&self, node: NodeId) {
        self.0.trace.note(&node, format_args!("asked to stop"));
        if let Some(process) = self.process(node) {
            process.stop.send_replace(true);
        }
    }

    fn process(&self, node: NodeId) -> Option<Process> {
        let held = &self.0.nodes.get(&node)?.process;
        held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Kills a node's process, as `kill -9` does: its machine goes on, refuses
    /// connections, and keeps what was written. Nothing if it does not run.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn kill(&self, sim: &mut turmoil::Sim<'_>, node: NodeId) -> anyhow::Result<()> {
        let machine = self.machine(node)?;
        self.0.trace.note(&node, format_args!("killed"));
        // First the disk: destructors run in the simulator, but not in a process that is
        // killed, and must not reach it.
        machine.disk.crash(Crash::Process);
        sim.crash(machine.ip);
        machine.forget_process();
        Ok(())
    }

    /// Takes a node's power: silence, and what was not synced may be lost.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn power_off(&self, sim: &mut turmoil::Sim<'_>, node: NodeId) -> anyhow::Result<()> {
        let machine = self.machine(node)?;
        self.0.trace.note(&node, format_args!("powered off"));
        // First the power, so that no dying socket says farewell.
        self.0.machines.set_on(machine.ip, false);
        let others: Vec<IpAddr> = self.others(node);
        for other in &others {
            sim.partition(machine.ip, *other);
        }
        machine.disk.crash(Crash::PowerLoss);
        sim.crash(machine.ip);
        machine.forget_process();
        for other in &others {
            sim.repair(machine.ip, *other);
        }
        Ok(())
    }

    /// Switches a node's machine off before its first start.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn leave_off(&self, sim: &mut turmoil::Sim<'_>, node: NodeId) -> anyhow::Result<()> {
        let machine = self.machine(node)?;
        self.0.machines.set_on(machine.ip, false);
        sim.crash(machine.ip);
        Ok(())
    }

    /// Starts a node that was killed or powered off.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn start(&self, sim: &mut turmoil::Sim<'_>, node: NodeId) -> anyhow::Result<()> {
        let machine = self.machine(node)?;
        self.0.machines.set_on(machine.ip, true);
        sim.bounce(machine.ip);
        Ok(())
    }

    fn machine(&self, node: NodeId) -> anyhow::Result<&Machine> {
        let machine = self.0.nodes.get(&node);
        machine.ok_or_else(|| anyhow::anyhow!("no node {node}"))
    }

    fn others(&self, node: NodeId) -> Vec<IpAddr> {
        let others = self.0.nodes.iter().filter(|(other, _)| **other != node);
        others.map(|(_, machine)| machine.ip).collect()
    }
}

/// The name of a node's machine.
#[must_use]
pub fn host_name(node: NodeId) -> String {
    format!("node-{node}")
}

/// The address of a node's machine: 10.0.0.1 for node 1, and on.
#[must_use]
pub fn ip(node: NodeId) -> IpAddr {
    let [_, b, c, d] = node.0.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, b, c, d))
}

/// The root of every random number in a run.
#[must_use]
pub fn entropy(seed: u64) -> Entropy {
    let mut bytes = [0; 32];
    for (slot, byte) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *slot = byte;
    }
    Entropy::from_seed(bytes)
}

fn epoch() -> SystemTime {
    let millis = u64::try_from(crate::env::EPOCH.0).unwrap_or(0);
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// Runs `run` on a thread of its own: what libraries keep in thread-locals does not
/// leak from one seed into the next.
///
/// # Panics
/// If `run` panics.
pub fn on_fresh_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().name("simulation".to_owned());
    match thread.spawn(run).map(std::thread::JoinHandle::join) {
        Ok(Ok(value)) => value,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => panic!("no thread for the simulation: {error}"),
    }
}
