//! A replay of dead letters whose leaders die: every letter is in one place.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::Api;
use weir_api::log::OffsetQuery;
use weir_api::queue::{QueueApi, QueueCallError};
use weir_api::queues::envelope::HEADER_REPLAYED;
use weir_api::queues::{
    EntryNumber, GroupSettings, QueueError, Receive, ReplayChange, ReplayCommand, ReplayError,
    ReplayFilter, ReplayReport, ReplayState, StartReplay,
};
use weir_base::batch::Record;
use weir_base::{Env, NodeId, Offset, TopicPartition};
use weir_checkers::queue::{Event, QueueHistory, replay};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{kafka_addresses, node_options, run_node_with};
use weir_sim::workload::produce::{Ledger, create_topic, idempotent_producer};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const CLIENT: NodeId = NodeId(200);
const PARTITIONS: u32 = 3;
const VALUES: u64 = 60;
const LETTERS: u64 = VALUES * PARTITIONS as u64;
const GROUP: &str = "workers";
const DEAD: &str = "dlq.workers";
const PAUSE: Duration = Duration::from_millis(50);

/// What the nodes' clients and the test tell each other.
#[derive(Default)]
struct Board {
    /// Letters that died.
    dead: u64,
    /// Whether the replay may begin.
    begin: bool,
    /// What is asked of it next.
    change: Option<ReplayChange>,
    /// Who leads the letters, and what is told of replays there.
    told: Option<(NodeId, ReplayReport)>,
    /// Whether the logs are to be read back.
    read_back: bool,
    /// What was read back, a partition each; the last is that of the letters.
    found: std::collections::BTreeMap<u32, Vec<Event>>,
    /// Letters that came to a worker when they were replayed.
    taken: std::collections::BTreeSet<u64>,
}

type Shared = Arc<Mutex<Board>>;

#[derive(Clone)]
struct Clients {
    env: Env,
    api: Api,
    board: Shared,
}

impl Clients {
    fn start(env: &Env, api: &Api, board: &Shared) {
        let clients = Self {
            env: env.clone(),
            api: api.clone(),
            board: Arc::clone(board),
        };
        for index in 0..PARTITIONS {
            env.tasks.spawn("worker", clients.clone().work(index));
        }
        env.tasks.spawn("operator", clients.operate());
    }

    /// A partition, if this node leads it.
    fn led(&self, topic: &str, index: u32) -> Option<TopicPartition> {
        let image = self.api.cluster.image();
        let at = TopicPartition::new(image.topics.get(topic)?.id, index);
        let leader = image.partition(at)?.leader;
        (leader == Some(self.api.cluster.node())).then_some(at)
    }

    /// Gives up whatever comes the first time, and takes it when it was replayed.
    async fn work(self, index: u32) {
        loop {
            if let Some(at) = self.led("jobs", index)
                && let Err(error) = self.take_some(at).await
            {
                tracing::debug!(%error, "a worker tries again");
            }
            self.env.sleep(PAUSE).await;
        }
    }

    async fn take_some(&self, at: TopicPartition) -> Result<(), QueueCallError> {
        let queues: &dyn QueueApi = &*self.api.queues;
        let (group, settings) = (GROUP.into(), GroupSettings::default());
        let made = queues.ensure_group(at, group, settings, Offset::ZERO, false);
        made.await?;
        let receive = Receive {
            group: GROUP.into(),
            member: format!("{}-{}", self.api.cluster.node(), at.index.0).into(),
            batch_max: 16,
            invisible: Some(Duration::from_secs(1)),
            wait: Duration::from_secs(1),
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        let got = queues.receive(at, receive).await?;
        let offsets = got.iter().map(|delivery| delivery.offset).collect();
        let records = queues.records(at, offsets).await?;
        for (record, delivery) in records.into_iter().zip(got) {
            let receipt = delivery.receipt;
            if let Some(letter) = record.and_then(|record| letter_of(&record)) {
                // Before it is told: a node that dies with the answer may have heard it.
                self.board.lock().unwrap().taken.insert(letter);
                queues.ack(at, GROUP.into(), vec![receipt]).await?;
            } else {
                queues.dead_letter(at, GROUP.into(), receipt, 0).await?;
            }
        }
        Ok(())
    }

    /// Does what the board says, where the letters are led.
    async fn operate(self) {
        loop {
            self.env.sleep(PAUSE).await;
            if let Some(at) = self.led(DEAD, 0)
                && let Err(error) = self.look(at).await
            {
                tracing::debug!(%error, "an operator tries again");
            }
            if !self.board.lock().unwrap().read_back {
                continue;
            }
            for index in 0..PARTITIONS {
                if let Some(at) = self.led("jobs", index) {
                    let found = self.replayed_on(at).await;
                    if let Some(found) = found {
                        self.board.lock().unwrap().found.insert(index, found);
                    }
                }
            }
        }
    }

    async fn look(&self, at: TopicPartition) -> Result<(), QueueCallError> {
        let queues: &dyn QueueApi = &*self.api.queues;
        let latest = self.api.log.offset(at, OffsetQuery::Latest, None).await;
        let end = latest.ok().and_then(|found| found.offset);
        let end = end.ok_or(QueueCallError::NotAvailable)?;
        let (begin, change, read_back) = {
            let mut board = self.board.lock().unwrap();
            board.dead = end.0;
            (board.begin, board.change, board.read_back)
        };
        if begin {
            let start = StartReplay {
                begin: Offset::ZERO,
                end,
                filter: ReplayFilter::default(),
                rate: Some(60),
                dry_run: false,
                by: "operator".into(),
            };
            let begun = queues.replay(at, ReplayCommand::Start(start)).await;
            match begun {
                // Or it was begun, and nobody heard.
                Ok(_)
                | Err(QueueCallError::Refused(QueueError::Replay(ReplayError::UnderWay(_)))) => {}
                Err(error) => return Err(error),
            }
            self.board.lock().unwrap().begin = false;
        }
        if let Some(change) = change {
            let replay = self.newest();
            let by = "operator".into();
            let change = ReplayCommand::Change { replay, change, by };
            queues.replay(at, change).await?;
            self.board.lock().unwrap().change = None;
        }
        let of: Vec<Offset> = (0..end.0).map(Offset).collect();
        let list = ReplayCommand::List {
            start: Offset::ZERO,
            of: of.clone(),
        };
        let report = match queues.replay(at, list).await {
            Err(QueueCallError::NoQueue) => ReplayReport::default(),
            report => report?,
        };
        let moved = report.among.clone();
        let told = (self.api.cluster.node(), report);
        self.board.lock().unwrap().told = Some(told);
        if read_back {
            let records = queues.records(at, of.clone()).await?;
            let letters = records.iter().flatten().map(|record| Event::DeadLetter {
                id: body(record),
                offset: record.offset.0,
            });
            let listed = of.iter().filter(|letter| !moved.contains(letter));
            let listed = listed.map(|letter| Event::Listed { letter: letter.0 });
            let found = letters.chain(listed).collect();
            self.board.lock().unwrap().found.insert(PARTITIONS, found);
        }
        Ok(())
    }

    fn newest(&self) -> EntryNumber {
        let board = self.board.lock().unwrap();
        let told = board.told.as_ref();
        let newest = told.and_then(|(_, report)| report.replays.last());
        newest.map_or(EntryNumber(0), |view| view.number)
    }

    /// Letters that came back to a partition.
    async fn replayed_on(&self, at: TopicPartition) -> Option<Vec<Event>> {
        let latest = self.api.log.offset(at, OffsetQuery::Latest, None).await;
        let end = latest.ok()?.offset?;
        let all = (0..end.0).map(Offset).collect();
        let records = self.api.queues.records(at, all).await.ok()?;
        let replayed = records.iter().flatten().filter_map(|record| {
            Some(Event::Replayed {
                id: body(record),
                letter: letter_of(record)?,
                offset: record.offset.0,
            })
        });
        Some(replayed.collect())
    }
}

fn body(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

/// The letter that a replayed message was.
fn letter_of(record: &Record) -> Option<u64> {
    let name = HEADER_REPLAYED.as_bytes();
    let header = record.headers.iter().find(|header| *header.key == *name)?;
    let text = std::str::from_utf8(header.value.as_deref()?).ok()?;
    text.rsplit('-').next()?.parse().ok()
}

/// What happens to whom while letters are moved back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Nothing,
    KillTheLeader,
    PowerOffTheLeader,
    PauseAndResume,
}

fn simulate(seed: u64, blows: &[Blow]) -> (QueueHistory, ReplayReport, u64) {
    let machines = [NODES.as_slice(), &[CLIENT]].concat();
    let cluster = Cluster::new(seed, &machines, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, Duration::from_secs(200)).build();
    let board = Shared::default();
    for node in NODES {
        let (cluster, board) = (cluster.clone(), Arc::clone(&board));
        sim.host(ip(node), move || {
            let (options, board) = (node_options(node, &NODES), Arc::clone(&board));
            let software = run_node_with(cluster.clone(), options, move |env, api| {
                Clients::start(env, &api, &board);
            });
            async move { Ok(software.await?) }
        });
    }
    let software = cluster.clone();
    sim.host(ip(CLIENT), move || {
        let cluster = software.clone();
        async move {
            let env = cluster.boot(CLIENT)?.env;
            let nodes = kafka_addresses(&NODES);
            create_topic(&env, &nodes, "jobs", i32::try_from(PARTITIONS)?, &[]).await?;
            for partition in 0..i32::try_from(PARTITIONS)? {
                let (env, nodes, ledger) = (env.clone(), nodes.clone(), Ledger::default());
                idempotent_producer(env, nodes, "jobs".into(), partition, VALUES, ledger).await?;
            }
            std::future::pending().await
        }
    });
    let step_until = |sim: &mut turmoil::Sim<'_>, what: &str, is: &dyn Fn(&Board) -> bool| {
        while !is(&board.lock().unwrap()) {
            if sim.elapsed() >= Duration::from_secs(180) {
                let board = board.lock().unwrap();
                let read: Vec<_> = board.found.keys().collect();
                panic!(
                    "seed {seed}: {what}: {} taken, {read:?} read",
                    board.taken.len()
                );
            }
            sim.step().unwrap();
        }
    };
    let moved = |board: &Board| {
        let replays = board.told.iter().flat_map(|(_, report)| &report.replays);
        replays.map(|view| view.replay.moved).sum::<u64>()
    };
    let is = |board: &Board, state: ReplayState| {
        let mut replays = board.told.iter().flat_map(|(_, report)| &report.replays);
        replays.any(|view| view.replay.state == state)
    };
    step_until(&mut sim, "all die", &|board| board.dead == LETTERS);
    board.lock().unwrap().begin = true;
    for (nth, blow) in (1..).zip(blows) {
        let due = LETTERS * nth / (blows.len() as u64 + 1);
        step_until(&mut sim, "some move", &|board| moved(board) >= due);
        let leader = board.lock().unwrap().told.as_ref().unwrap().0;
        match blow {
            Blow::Nothing => {}
            Blow::KillTheLeader => cluster.kill(&mut sim, leader).unwrap(),
            Blow::PowerOffTheLeader => cluster.power_off(&mut sim, leader).unwrap(),
            Blow::PauseAndResume => {
                board.lock().unwrap().change = Some(ReplayChange::Pause);
                step_until(&mut sim, "it rests", &|board| {
                    is(board, ReplayState::Paused)
                });
                let rested = moved(&board.lock().unwrap());
                let until = sim.elapsed() + Duration::from_secs(2);
                step_for(&mut sim, until);
                assert_eq!(
                    moved(&board.lock().unwrap()),
                    rested,
                    "it moves while it rests"
                );
                board.lock().unwrap().change = Some(ReplayChange::Resume);
            }
        }
        let until = sim.elapsed() + Duration::from_secs(1);
        step_for(&mut sim, until);
        if matches!(blow, Blow::KillTheLeader | Blow::PowerOffTheLeader) {
            cluster.start(&mut sim, leader).unwrap();
        }
    }
    step_until(&mut sim, "it ends", &|board| {
        let on_the_way = board.told.as_ref().map(|(_, report)| report.on_the_way);
        is(board, ReplayState::Done) && on_the_way == Some(0)
    });
    board.lock().unwrap().read_back = true;
    let places = PARTITIONS as usize + 1;
    step_until(&mut sim, "all is read", &|board| {
        board.found.len() == places && board.taken.len() as u64 == LETTERS
    });
    let board = board.lock().unwrap();
    let events = board.found.values().flatten().cloned().collect();
    let report = board.told.as_ref().unwrap().1.clone();
    (QueueHistory { events }, report, board.taken.len() as u64)
}

fn step_for(sim: &mut turmoil::Sim<'_>, until: Duration) {
    while sim.elapsed() < until {
        sim.step().unwrap();
    }
}

fn check(seed: u64, blows: &'static [Blow]) {
    let (history, report, taken) = on_fresh_thread(move || simulate(seed, blows));
    assert_eq!(replay::check(&history), [], "seed {seed}");
    let replayed = history.events.iter();
    let replayed = replayed.filter(|event| matches!(event, Event::Replayed { .. }));
    // A history in which nothing came back proves nothing.
    assert_eq!(replayed.count() as u64, LETTERS, "seed {seed}");
    assert_eq!(report.moved_back, LETTERS);
    assert_eq!(taken, LETTERS, "seed {seed}");
    let [view] = &report.replays[..] else {
        panic!("seed {seed}: {report:?}");
    };
    let audit = &view.replay.audit;
    assert_eq!(audit[0].by.as_ref(), "operator");
    assert_eq!(audit.last().unwrap().state, ReplayState::Done);
    assert_eq!(view.replay.moved, LETTERS);
}

#[test]
fn a_replay_moves_every_letter_once() {
    check(11, &[Blow::Nothing]);
}

#[test]
fn a_replay_survives_its_leaders_and_its_operator() {
    const BLOWS: &[Blow] = &[
        Blow::KillTheLeader,
        Blow::PauseAndResume,
        Blow::PowerOffTheLeader,
    ];
    for seed in 12..15 {
        check(seed, BLOWS);
    }
}
