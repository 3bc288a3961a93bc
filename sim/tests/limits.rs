//! Limits of queues on a whole node: what producers hear, and where messages go.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use weir_api::log::{Acks, Appended, OffsetQuery};
use weir_api::queue::QueueApi;
use weir_api::queues::{
    Decision, DecisionSource, GroupSettings, GroupView, Message, Prepare, QueueCommand, QueueError,
    QueueReply, Rate, Receive, Schedule,
};
use weir_api::{Api, AppendError, NewTopic, QueueCallError};
use weir_base::batch::BatchBuilder;
use weir_base::limits::BATCH_BYTES_MAX_DEFAULT;
use weir_base::{Env, NodeId, Offset, ProducerEpoch, ProducerId, TopicPartition};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};

const NODE: NodeId = NodeId(1);
const LIMIT: u64 = 10;

#[derive(Clone)]
struct Tester {
    env: Env,
    api: Api,
}

impl Tester {
    /// A topic with a limit and a group on it.
    async fn topic(&self, name: &str, configs: &[(&str, &str)]) -> TopicPartition {
        let limit = LIMIT.to_string();
        let capacity = [("weir.queue.capacity", limit.as_str())];
        let configs = capacity.iter().chain(configs);
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(1),
            configs: configs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..NewTopic::default()
        };
        let made = self
            .api
            .admin
            .create_topic(topic, false, Duration::from_secs(10));
        let at = TopicPartition::new(made.await.unwrap(), 0);
        loop {
            let queues: &dyn QueueApi = &*self.api.queues;
            let settings = GroupSettings::default();
            let made = queues.ensure_group(at, "g".into(), settings, Offset::ZERO, false);
            match made.await {
                Ok(_) => return at,
                Err(error) => tracing::debug!(%error, "not yet"),
            }
            self.env.sleep(Duration::from_millis(50)).await;
        }
    }

    async fn append(
        &self,
        to: TopicPartition,
        producer: Option<i32>,
    ) -> Result<Appended, AppendError> {
        let batch = BatchBuilder::new(self.env.clock.wall()).record(None, Some(b"x"));
        let batch = match producer {
            Some(sequence) => batch.producer(ProducerId(7), ProducerEpoch(0), sequence),
            None => batch,
        };
        let wait = Duration::from_secs(5);
        self.api
            .log
            .append(to, batch.build(), Acks::All, wait)
            .await
    }

    async fn take(&self, at: TopicPartition) {
        let queues: &dyn QueueApi = &*self.api.queues;
        let receive = Receive {
            group: "g".into(),
            member: "m".into(),
            batch_max: 1,
            invisible: None,
            wait: Duration::from_secs(5),
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        let got = queues.receive(at, receive).await.unwrap();
        let receipts = got.iter().map(|delivery| delivery.receipt).collect();
        let acked = queues.ack(at, "g".into(), receipts).await.unwrap();
        assert_eq!(acked, [Ok(())]);
    }

    async fn group(&self, at: TopicPartition) -> GroupView {
        let command = QueueCommand::Describe { group: "g".into() };
        match self.api.queues.call(at, command).await {
            Ok(QueueReply::Describe(Ok(view))) => view,
            other => panic!("{other:?}"),
        }
    }

    async fn end(&self, at: TopicPartition) -> u64 {
        let found = self.api.log.offset(at, OffsetQuery::Latest, None).await;
        found.unwrap().offset.unwrap().0
    }

    async fn rejects(&self) {
        let at = self.topic("rejects", &[]).await;
        for sequence in 0..10 {
            self.append(at, Some(sequence)).await.unwrap();
        }
        let full = AppendError::QueueFull {
            group: "g".to_owned(),
            messages_max: LIMIT,
        };
        assert_eq!(self.append(at, Some(10)).await, Err(full.clone()));
        assert_eq!(self.append(at, None).await, Err(full.clone()));
        // What is there is not refused: its producer did not hear.
        let again = self.append(at, Some(9)).await;
        assert_eq!(again.unwrap().base, Offset(9));
        assert_eq!(self.end(at).await, 10);
        self.take(at).await;
        // Nothing was lost of the producer's order, either.
        self.append(at, Some(10)).await.unwrap();
        assert_eq!(self.append(at, None).await, Err(full));
    }

    async fn drops(&self) {
        let at = self
            .topic("drops", &[("weir.queue.on.full", "drop-oldest")])
            .await;
        for _ in 0..25 {
            self.append(at, None).await.unwrap();
        }
        loop {
            let view = self.group(at).await;
            if view.counts.dropped == 15 {
                assert_eq!(view.cursor, Offset(15));
                return;
            }
            assert!(view.counts.dropped < 15, "{view:?}");
            self.env.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Messages that are kept for later count, and come when they may.
    async fn keeps(&self) {
        let queues: &dyn QueueApi = &*self.api.queues;
        let at = self.topic("keeps", &[]).await;
        let due = self.env.clock.wall() + Duration::from_secs(20);
        let schedule = |deliver_at, bytes| Schedule {
            deliver_at,
            payload: payload(bytes),
            dedup: None,
            room: None,
        };
        let prepare = || Prepare {
            payload: payload(1),
            producers: "p".into(),
            check_after: None,
            room: None,
            dedup: None,
        };
        for _ in 0..5 {
            queues.schedule(at, schedule(due, 1)).await.unwrap();
        }
        let half = queues.prepare(at, prepare()).await.unwrap();
        for _ in 0..4 {
            self.append(at, None).await.unwrap();
        }
        let full = QueueError::Full {
            group: "g".into(),
            messages_max: LIMIT,
        };
        let full = || QueueCallError::Refused(full.clone());
        assert_eq!(queues.schedule(at, schedule(due, 1)).await, Err(full()));
        assert_eq!(queues.prepare(at, prepare()).await, Err(full()));
        let refused = self.append(at, None).await;
        assert!(
            matches!(refused, Err(AppendError::QueueFull { .. })),
            "{refused:?}"
        );
        // As large as all of the journal's and the topic's batches may be at other times.
        self.take(at).await;
        let (rollback, source) = (Decision::Rollback, DecisionSource::Producer);
        queues.resolve(at, half, rollback, source).await.unwrap();
        let large = BATCH_BYTES_MAX_DEFAULT as usize - 200;
        queues.schedule(at, schedule(due, large)).await.unwrap();
        let larger = BATCH_BYTES_MAX_DEFAULT as usize;
        let refused = queues.schedule(at, schedule(due, larger)).await;
        assert!(
            matches!(refused, Err(QueueCallError::TooLarge { max, .. }) if max == larger),
            "{refused:?}"
        );
        while self.end(at).await < 10 {
            self.env.sleep(Duration::from_millis(100)).await;
        }
        assert!(self.env.clock.wall() >= due);
    }

    /// What is due at once is more than a batch of the topic may have.
    async fn releases(&self) {
        let queues: &dyn QueueApi = &*self.api.queues;
        let small = [("max.message.bytes", "2000"), ("weir.queue.capacity", "-1")];
        let at = self.topic("releases", &small).await;
        let due = self.env.clock.wall() + Duration::from_secs(2);
        for _ in 0..10 {
            let schedule = Schedule {
                deliver_at: due,
                payload: payload(1_000),
                dedup: None,
                room: None,
            };
            queues.schedule(at, schedule).await.unwrap();
        }
        while self.end(at).await < 10 {
            self.env.sleep(Duration::from_millis(100)).await;
        }
    }

    /// A group's rate is that of all partitions together, also when there are more of them.
    async fn paces(&self) {
        let queues: &dyn QueueApi = &*self.api.queues;
        let no_limit = [("weir.queue.capacity", "-1")];
        let at = self.topic("paces", &no_limit).await;
        let mut settings = GroupSettings::default();
        settings.pacing.rate = Rate::Topic(100);
        let made = queues.ensure_group(at, "slow".into(), settings, Offset::ZERO, false);
        made.await.unwrap();
        let wait = Duration::from_secs(5);
        let grown = (self.api.admin).create_partitions("paces".to_owned(), 3, None, false, wait);
        grown.await.unwrap();
        let partitions = (0..3).map(|index| TopicPartition::new(at.topic, index));
        let partitions: Vec<TopicPartition> = partitions.collect();
        for at in &partitions {
            let records = vec![b"x".as_slice(); 1_000].into_iter();
            let batch = BatchBuilder::new(self.env.clock.wall());
            let batch = records.fold(batch, |batch, body| batch.record(None, Some(body)));
            let appended = (self.api.log).append_forwarded(*at, batch.build(), Acks::All, wait);
            appended.await.unwrap();
        }
        // Whoever subscribes finds the group, and makes it where it is missing.
        let subscribed =
            queues.subscribe(at.topic, "slow".into(), GroupSettings::default(), wait * 2);
        assert_eq!(subscribed.await.unwrap().pacing.rate, Rate::Topic(100));
        let mut delivered = [0; 2];
        for (round, seconds) in [2, 10].into_iter().enumerate() {
            let until = self.env.clock.now() + Duration::from_secs(seconds);
            while self.env.clock.now() < until {
                for at in &partitions {
                    delivered[round] += self.take_some(*at).await;
                }
            }
        }
        assert!((970..=1_030).contains(&delivered[1]), "{delivered:?}");
    }

    /// Takes what there is for the paced group.
    async fn take_some(&self, at: TopicPartition) -> usize {
        let queues: &dyn QueueApi = &*self.api.queues;
        let receive = Receive {
            group: "slow".into(),
            member: "m".into(),
            batch_max: 32,
            invisible: None,
            wait: Duration::ZERO,
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        let got = queues.receive(at, receive).await.unwrap();
        let receipts = got.iter().map(|delivery| delivery.receipt).collect();
        queues.ack(at, "slow".into(), receipts).await.unwrap();
        got.len()
    }

    async fn redirects(&self) {
        let configs = [
            ("weir.queue.on.full", "redirect"),
            ("weir.queue.redirect", "overflow"),
        ];
        // It is as full, and would send back: each batch goes on once.
        let back = [
            ("weir.queue.on.full", "redirect"),
            ("weir.queue.redirect", "redirects"),
        ];
        let overflow = self.topic("overflow", &back).await;
        let at = self.topic("redirects", &configs).await;
        for _ in 0..10 {
            self.append(at, None).await.unwrap();
        }
        for _ in 0..10 {
            self.append(at, None).await.unwrap();
        }
        assert_eq!((self.end(at).await, self.end(overflow).await), (10, 10));
        let refused = self.append(at, None).await;
        assert!(
            matches!(refused, Err(AppendError::QueueFull { .. })),
            "{refused:?}"
        );
        let refused = self.append(at, Some(0)).await;
        assert!(
            matches!(refused, Err(AppendError::QueueFull { .. })),
            "{refused:?}"
        );
    }
}

fn payload(bytes: usize) -> Bytes {
    let message = Message {
        body: vec![b'x'; bytes].into(),
        ..Message::default()
    };
    message.payload().encode()
}

fn on_one_node(seed: u64) {
    let cluster = Cluster::new(seed, &[NODE], Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, Duration::from_secs(120)).build();
    let done = Arc::new(Mutex::new(false));
    let (software, told) = (cluster, Arc::clone(&done));
    sim.host(ip(NODE), move || {
        let (cluster, told) = (software.clone(), Arc::clone(&told));
        async move {
            let options = node_options(NODE, &[NODE]);
            let run = run_node_with(cluster, options, move |env, api| {
                let (tasks, env) = (env.tasks.clone(), env.clone());
                let testing = async move {
                    while api.cluster.image().nodes.is_empty() {
                        env.sleep(Duration::from_millis(20)).await;
                    }
                    let tester = Tester { env, api };
                    tester.rejects().await;
                    tester.drops().await;
                    tester.redirects().await;
                    tester.keeps().await;
                    tester.releases().await;
                    tester.paces().await;
                    *told.lock().unwrap() = true;
                };
                tasks.spawn("limits", testing);
            });
            Ok(run.await?)
        }
    });
    while !*done.lock().unwrap() {
        assert!(sim.elapsed() < Duration::from_secs(100), "not done");
        sim.step().unwrap();
    }
}

#[test]
fn full_queues_reject_drop_or_redirect() {
    on_fresh_thread(|| on_one_node(21));
}
