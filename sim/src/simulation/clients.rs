//! The clients of a run: a writer and a reader a partition, and an admin, spread over
//! two machines.

use std::net::SocketAddr;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_base::{Env, NodeId};

use super::keys;
use crate::cluster::{Cluster, ip};
use crate::focus::Focus;
use crate::nemesis::Change;
use crate::plan::{CLIENTS, Plan, TOPICS};
use crate::whole_node::kafka_addresses;
use crate::workload::admin;
use crate::workload::clerk::{CLERKS, Clerk, Ledger};
use crate::workload::keeper::{KEEPERS, Keeper};
use crate::workload::member::{MEMBERS, Member, Progress};
use crate::workload::produce::create_topic;
use crate::workload::reader::Reader;
use crate::workload::recorder::Recorder;
use crate::workload::stage::Stage;
use crate::workload::workers::{self, book::Book};
use crate::workload::writer::{Target, Writer};

/// The run's end of its admin.
pub(super) struct Admin {
    /// What it is to do.
    pub(super) changes: UnboundedSender<Change>,
    /// The kinds of what it did.
    pub(super) done: UnboundedReceiver<&'static str>,
}

/// What the admin begins with.
type Orders = (UnboundedReceiver<Change>, UnboundedSender<&'static str>);

/// Starts them with the simulation.
pub(super) fn start(
    sim: &mut turmoil::Sim<'_>,
    cluster: &Cluster,
    plan: &Plan,
    recorder: &Recorder,
    stage: &Stage,
    book: &Book,
    ledger: &Ledger,
) -> Admin {
    let (changes, orders) = unbounded_channel();
    let (tell, done) = unbounded_channel();
    let mut orders: Option<Orders> = Some((orders, tell));
    let nodes = kafka_addresses(&plan.nodes);
    let has_small_files = plan.focus.is_some_and(|focus| focus.has_small_files);
    for (place, client) in CLIENTS.into_iter().enumerate() {
        let mine = keys().filter(|(_, _, key)| key.0 as usize % CLIENTS.len() == place);
        let targets: Vec<Target> = mine
            .map(|(topic, partition, key)| Target {
                topic: TOPICS[topic],
                partition,
                key,
                nodes: nodes.clone(),
                recorder: recorder.clone(),
                stage: stage.clone(),
                patience: plan.focus.map_or(1, |focus| focus.patience),
                repeats_often: plan.focus.is_some_and(|focus| focus.repeats_often),
            })
            .collect();
        // On the machine that has fewer writers.
        let is_last = place + 1 == CLIENTS.len();
        let others = plan.focus.filter(|_| is_last);
        let others = others.map(|focus| Others::new(focus, recorder, stage, ledger));
        let queues = plan.has_queues.then(|| Queues {
            place,
            nodes: plan.nodes.clone(),
            book: book.clone(),
            recorder: recorder.clone(),
            stage: stage.clone(),
        });
        let cluster = cluster.clone();
        let nodes = nodes.clone();
        // Clients are never restarted.
        let once = std::cell::RefCell::new(Some((targets, orders.take(), others, queues)));
        sim.host(ip(client), move || {
            let start = once.borrow_mut().take();
            let (cluster, nodes) = (cluster.clone(), nodes.clone());
            async move {
                let (targets, orders, others, queues) = start.unwrap_or_default();
                let host = Software {
                    client,
                    cluster,
                    nodes,
                    has_small_files,
                    queues,
                };
                host.run(targets, orders, others).await?;
                std::future::pending().await
            }
        });
    }
    Admin { changes, done }
}

/// What runs on one machine of clients.
struct Software {
    client: NodeId,
    cluster: Cluster,
    nodes: Vec<SocketAddr>,
    has_small_files: bool,
    queues: Option<Queues>,
}

/// What the clients of queues on one machine are given.
struct Queues {
    place: usize,
    nodes: Vec<NodeId>,
    book: Book,
    recorder: Recorder,
    stage: Stage,
}

/// Clients that only runs about something have, and how many.
struct Others {
    keepers: u64,
    members: u64,
    clerks: u64,
    recorder: Recorder,
    stage: Stage,
    ledger: Ledger,
}

impl Others {
    fn new(focus: &Focus, recorder: &Recorder, stage: &Stage, ledger: &Ledger) -> Self {
        let some = |has, count| if has { count } else { 0 };
        let others = Self {
            keepers: some(focus.has_groups, KEEPERS),
            members: some(focus.has_members, MEMBERS),
            clerks: some(focus.has_clerks, CLERKS),
            recorder: recorder.clone(),
            stage: stage.clone(),
            ledger: ledger.clone(),
        };
        let all = others.keepers + others.members + others.clerks;
        (0..all).for_each(|_| stage.keeper_begins());
        others
    }

    fn start(self, env: &Env, nodes: &[SocketAddr]) {
        for number in 0..self.keepers {
            let keeper = Keeper {
                env: env.clone(),
                number,
                topic: TOPICS[0].name,
                nodes: nodes.to_vec(),
                recorder: self.recorder.clone(),
                stage: self.stage.clone(),
            };
            env.tasks.spawn("keeper", keeper.run());
        }
        let progress = Progress::default();
        for number in 0..self.members {
            let member = Member {
                env: env.clone(),
                number,
                nodes: nodes.to_vec(),
                recorder: self.recorder.clone(),
                stage: self.stage.clone(),
                progress: progress.clone(),
            };
            env.tasks.spawn("member", member.run());
        }
        for number in 0..self.clerks {
            let clerk = Clerk {
                env: env.clone(),
                number,
                nodes: nodes.to_vec(),
                ledger: self.ledger.clone(),
                stage: self.stage.clone(),
            };
            env.tasks.spawn("clerk", clerk.run());
        }
    }
}

impl Software {
    async fn run(
        self,
        targets: Vec<Target>,
        orders: Option<Orders>,
        others: Option<Others>,
    ) -> anyhow::Result<()> {
        let Self {
            client,
            cluster,
            nodes,
            has_small_files,
            queues,
        } = self;
        let env = cluster.boot(client)?.env;
        if let Some(queues) = queues {
            let shared = (&queues.book, &queues.recorder, &queues.stage);
            workers::start(&env, queues.place, &queues.nodes, shared);
        }
        let trace = cluster.trace().clone();
        if let Some((changes, done)) = orders {
            let admin = admin::run(env.clone(), nodes.clone(), trace, changes, done);
            env.tasks.spawn("admin", admin);
        }
        if let Some(others) = others {
            others.start(&env, &nodes);
        }
        for target in targets {
            let (env, nodes) = (env.clone(), nodes.clone());
            let tasks = env.tasks.clone();
            tasks.clone().spawn("client", async move {
                let topic = target.topic;
                let mut configs = topic.configs().to_vec();
                if has_small_files {
                    configs.push(("segment.bytes", "4096"));
                }
                while create_topic(&env, &nodes, topic.name, topic.partitions, &configs)
                    .await
                    .is_err()
                {}
                let writer = Writer::new(&env, target.clone());
                tasks.spawn("writer", writer.run());
                tasks.spawn("reader", Reader::new(&env, target).run());
            });
        }
        Ok(())
    }
}
