//! What every queue behind the waist must do, as checks to run on any broker: the fake
//! one and a real one. Each panics with what is wrong.

use std::sync::Arc;
use std::time::Duration;

use weir_base::batch::BatchBuilder;
use weir_base::{Env, Offset, Timestamp, TopicPartition};

use crate::queue::{QueueCallError, dead_letter_topic};
use crate::queues::{
    Backoff, Cancelled, Decision, DecisionSource, Delivery, GroupName, GroupSettings, Message,
    Payload, Prepare, QueueError, ReceiptError, Receive, Returned, Schedule, Scheduled,
};
use crate::{Acks, Api, NewTopic};

/// Longer than anything takes that is not waited for on purpose.
const PATIENCE: Duration = Duration::from_secs(20);
/// A pause that is.
const MOMENT: Duration = Duration::from_millis(300);

/// Runs every check, each on a topic of its own that the node of `api` leads; dead letters
/// must be led there, too, so the cluster has one node that is up.
pub async fn check_queues(env: &Env, api: &Api) {
    let check = |name: &'static str| Check::new(env, api, name);
    check("contract-ack")
        .await
        .deliveries_are_settled_once()
        .await;
    check("contract-wait")
        .await
        .a_receive_waits_and_ends()
        .await;
    check("contract-nack")
        .await
        .attempts_are_counted_and_end_in_dead_letters()
        .await;
    check("contract-delay")
        .await
        .nothing_comes_before_its_time()
        .await;
    check("contract-start")
        .await
        .a_subscription_misses_nothing()
        .await;
    check("contract-half")
        .await
        .halves_are_seen_when_committed()
        .await;
}

/// One topic of one partition.
struct Check<'a> {
    env: &'a Env,
    api: &'a Api,
    at: TopicPartition,
    group: GroupName,
}

impl<'a> Check<'a> {
    async fn new(env: &'a Env, api: &'a Api, name: &'static str) -> Check<'a> {
        let topic = NewTopic {
            name: name.to_owned(),
            assignment: Some(vec![replicas(api)]),
            ..NewTopic::default()
        };
        let made = api.admin.create_topic(topic, false, PATIENCE).await;
        let at = TopicPartition::new(made.expect("topic"), 0);
        let this = Check {
            env,
            api,
            at,
            group: "workers".into(),
        };
        let groups = this.settled(|| api.queues.list_groups(at)).await;
        assert_eq!(groups, Err(QueueCallError::NoQueue), "nothing was used yet");
        this
    }

    /// Repeats a call that is refused because somebody has to be waited for.
    async fn settled<T>(
        &self,
        call: impl Fn() -> crate::queue::QueueCall<T>,
    ) -> Result<T, QueueCallError> {
        let until = self.env.clock.now() + PATIENCE;
        loop {
            match call().await {
                Err(
                    QueueCallError::NotLeader(_)
                    | QueueCallError::NotAvailable
                    | QueueCallError::Loading
                    | QueueCallError::Overloaded,
                ) if self.env.clock.now() < until => {
                    self.env.sleep(Duration::from_millis(20)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn group(&self, settings: GroupSettings) {
        let made = || {
            let (group, settings) = (self.group.clone(), settings.clone());
            self.api
                .queues
                .ensure_group(self.at, group, settings, Offset::ZERO, false)
        };
        self.settled(made).await.expect("group");
    }

    async fn append(&self, values: &[&str]) {
        self.append_at(self.env.clock.wall(), values).await;
    }

    async fn append_at(&self, time: Timestamp, values: &[&str]) {
        let batch = BatchBuilder::new(time);
        let batch = values
            .iter()
            .fold(batch, |batch, v| batch.record(None, Some(v.as_bytes())));
        let batch = batch.build();
        let appended = self
            .api
            .log
            .append_forwarded(self.at, batch, Acks::All, PATIENCE);
        appended.await.expect("append");
    }

    fn after(&self, wait: Duration) -> Timestamp {
        self.env.clock.wall() + wait
    }

    /// Receives until there is something or `wait` is over.
    async fn receive(&self, most: usize, wait: Duration) -> Vec<Delivery> {
        let until = self.env.clock.now() + wait;
        loop {
            let left = until.since(self.env.clock.now());
            let receive = Receive {
                group: self.group.clone(),
                member: "m".into(),
                batch_max: most,
                invisible: None,
                wait: left,
                filter: None,
                attempt_id: None,
                auto_renew: false,
            };
            let call = || self.api.queues.receive(self.at, receive.clone());
            let got = self.settled(call).await.expect("receive");
            if !got.is_empty() || self.env.clock.now() >= until {
                return got;
            }
        }
    }

    async fn bodies(&self, deliveries: &[Delivery]) -> Vec<String> {
        let offsets: Vec<Offset> = deliveries.iter().map(|d| d.offset).collect();
        let records = self.api.queues.records(self.at, offsets).await;
        let records = records.expect("records").into_iter();
        let text = |record: Option<weir_base::batch::Record>| {
            let body = record.and_then(|record| record.value).expect("a record");
            String::from_utf8(body.into()).expect("text")
        };
        records.map(text).collect()
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), ReceiptError> {
        let receipts = vec![delivery.receipt];
        let acked = self.api.queues.ack(self.at, self.group.clone(), receipts);
        *acked.await.expect("ack").first().expect("one each")
    }

    async fn deliveries_are_settled_once(&self) {
        self.group(GroupSettings::default()).await;
        self.append(&["a", "b", "c"]).await;
        let mut got = Vec::new();
        while got.len() < 3 {
            got.extend(self.receive(2, PATIENCE).await);
        }
        assert_eq!(self.bodies(&got).await, ["a", "b", "c"]);
        assert!(got.iter().all(|delivery| delivery.attempt == 1));
        for delivery in &got {
            assert_eq!(self.ack(delivery).await, Ok(()));
            let again = self.ack(delivery).await;
            assert!(
                matches!(again, Err(ReceiptError::Expired { .. })),
                "{again:?}"
            );
        }
        assert_eq!(self.receive(9, MOMENT).await, []);
        let view = self.api.queues.list_groups(self.at).await.expect("groups");
        assert_eq!(view.first().map(|view| view.counts.acked), Some(3));
        let gone = self.api.queues.records(self.at, vec![Offset(99)]).await;
        assert_eq!(gone, Ok(vec![None]));
        let unknown = TopicPartition::new(self.at.topic, 7);
        let unknown = self.api.queues.list_groups(unknown).await;
        assert_eq!(unknown, Err(QueueCallError::UnknownPartition));
        let bad = self.api.queues.ensure_group(
            self.at,
            "no topic name".into(),
            GroupSettings::default(),
            Offset::ZERO,
            false,
        );
        assert_eq!(
            bad.await,
            Err(QueueCallError::IllegalGroupName("no topic name".into()))
        );
        let nobody = self.api.queues.ack(self.at, "nobody".into(), Vec::new());
        let refused = QueueError::NoSuchGroup("nobody".into());
        assert_eq!(nobody.await, Err(QueueCallError::Refused(refused)));
    }

    async fn a_receive_waits_and_ends(&self) {
        self.group(GroupSettings::default()).await;
        let started = self.env.clock.now();
        assert_eq!(self.receive(1, MOMENT).await, []);
        assert!(self.env.clock.now().since(started) >= MOMENT);
        let waiting = self.receive(1, PATIENCE);
        let appending = async {
            self.env.sleep(MOMENT).await;
            self.append(&["late"]).await;
        };
        let (got, ()) = both(waiting, appending).await;
        assert_eq!(self.bodies(&got).await, ["late"]);
        assert!(self.env.clock.now().since(started) < PATIENCE, "it woke");
    }

    async fn subscribe(&self) {
        let subscribe = || {
            let (group, settings) = (self.group.clone(), GroupSettings::default());
            self.api
                .queues
                .subscribe(self.at.topic, group, settings, PATIENCE)
        };
        let settings = self.settled(subscribe).await.expect("subscribed");
        assert_eq!(settings, GroupSettings::default());
    }

    async fn a_subscription_misses_nothing(mut self) {
        let old = Timestamp(self.env.clock.wall().0 - 7_200_000);
        self.append_at(old, &["old"]).await;
        self.subscribe().await;
        self.append(&["new"]).await;
        // The first one counts, whoever asks again.
        self.subscribe().await;
        let got = self.receive(9, PATIENCE).await;
        assert_eq!(self.bodies(&got).await, ["new"]);
        // A log without its beginning is not young, whatever its age.
        let (log, end) = (&self.api.log, Offset(2));
        assert_eq!(log.delete_records(self.at, Some(end)).await, Ok(end));
        self.append(&["newer"]).await;
        self.group = "others".into();
        self.subscribe().await;
        assert_eq!(self.receive(9, MOMENT).await, []);
        let young = Check::new(self.env, self.api, "contract-young").await;
        young.append(&["a", "b"]).await;
        young.subscribe().await;
        young.append(&["c"]).await;
        let mut got = Vec::new();
        while got.len() < 3 {
            got.extend(young.receive(9, PATIENCE).await);
        }
        assert_eq!(young.bodies(&got).await, ["a", "b", "c"]);
        let nothing = weir_base::Uuid([9; 16]);
        let (group, settings) = (self.group.clone(), GroupSettings::default());
        let unknown = self.api.queues.subscribe(nothing, group, settings, MOMENT);
        assert_eq!(unknown.await, Err(QueueCallError::UnknownPartition));
    }

    async fn attempts_are_counted_and_end_in_dead_letters(&self) {
        self.group(GroupSettings {
            attempts_max: 3,
            backoff: Backoff::List(vec![MOMENT]),
            ..GroupSettings::default()
        })
        .await;
        self.append(&["bad"]).await;
        for attempt in 1..=3 {
            let got = self.receive(1, PATIENCE).await;
            let delivery = *got.first().expect("a delivery");
            assert_eq!(delivery.attempt, attempt);
            let before = self.env.clock.wall();
            let nack = self
                .api
                .queues
                .nack(self.at, self.group.clone(), delivery.receipt, None);
            match nack.await.expect("nack") {
                Returned::Retry(at) => assert!(attempt < 3 && at >= before, "attempt {attempt}"),
                Returned::DeadLettered => assert_eq!(attempt, 3),
            }
        }
        let letters = self.log_of(&dead_letter_topic(&self.group), 1).await;
        let letter = letters.first().expect("one");
        assert_eq!(letter.value.as_deref(), Some(&b"bad"[..]), "unchanged");
        let header = |name: &str| {
            let header = letter.headers.iter().find(|h| *h.key == *name.as_bytes());
            header.and_then(|h| h.value.clone()).unwrap_or_default()
        };
        assert_eq!(header("weir.dlq.origin.topic"), "contract-nack");
        assert_eq!(header("weir.dlq.attempts"), "3");
        assert_eq!(header("weir.dlq.group"), "workers");
        assert_eq!(self.receive(1, MOMENT).await, [], "it is final");
    }

    /// The records of a topic of one partition, once there are so many.
    async fn log_of(&self, topic: &str, least: usize) -> Vec<weir_base::batch::Record> {
        let until = self.env.clock.now() + PATIENCE;
        loop {
            assert!(self.env.clock.now() < until, "topic {topic} has too little");
            self.env.sleep(Duration::from_millis(20)).await;
            let image = self.api.cluster.image();
            let Some(topic) = image.topics.get(topic) else {
                continue;
            };
            let at = TopicPartition::new(topic.id, 0);
            // Of a partition that is led elsewhere this broker cannot tell: the caller
            // sees to it that there is one node, or that all lead here.
            let offsets = (0..least as u64).map(Offset).collect();
            let found = self.api.queues.records(at, offsets).await;
            let found: Option<Vec<_>> = found.ok().and_then(|r| r.into_iter().collect());
            if let Some(found) = found {
                return found;
            }
        }
    }

    fn payload(&self, id: &str) -> bytes::Bytes {
        let message = Message {
            id: id.into(),
            body: bytes::Bytes::copy_from_slice(id.as_bytes()),
            ..Message::default()
        };
        message.payload().encode()
    }

    async fn nothing_comes_before_its_time(&self) {
        self.group(GroupSettings::default()).await;
        let due = self.after(MOMENT * 2);
        let schedule = |id: &str, deliver_at| Schedule {
            deliver_at,
            payload: self.payload(id),
            dedup: None,
            room: None,
        };
        let keep = |id: &'static str, at| {
            let schedule = schedule(id, at);
            move || self.api.queues.schedule(self.at, schedule.clone())
        };
        let kept = self.settled(keep("due", due)).await.expect("kept");
        let Scheduled::Kept(fired) = kept else {
            panic!("{kept:?}")
        };
        let far = self.after(PATIENCE * 10);
        let kept = self.settled(keep("never", far)).await.expect("kept");
        let Scheduled::Kept(taken_back) = kept else {
            panic!("{kept:?}")
        };
        for _ in 0..2 {
            let cancelled = self.api.queues.cancel(self.at, taken_back).await;
            assert_eq!(cancelled, Ok(Cancelled::Cancelled));
        }
        assert_eq!(self.receive(1, MOMENT).await, [], "too early");
        let got = self.receive(1, PATIENCE).await;
        assert!(self.env.clock.wall() >= due, "too early");
        assert_eq!(self.bodies(&got).await, ["due"]);
        let cancelled = self.api.queues.cancel(self.at, fired).await;
        assert_eq!(cancelled, Ok(Cancelled::AlreadyFired));
        let too_far = self.after(Duration::from_secs(400 * 24 * 3600));
        let refused = self.settled(keep("far", too_far)).await;
        assert!(
            matches!(
                refused,
                Err(QueueCallError::Refused(QueueError::DelayTooLong { .. }))
            ),
            "{refused:?}"
        );
    }

    async fn halves_are_seen_when_committed(&self) {
        self.group(GroupSettings::default()).await;
        let producers: Arc<str> = "tellers".into();
        let prepare = |id: &'static str| {
            let prepare = Prepare {
                payload: self.payload(id),
                producers: Arc::clone(&producers),
                check_after: Some(MOMENT),
                room: None,
                dedup: None,
            };
            move || self.api.queues.prepare(self.at, prepare.clone())
        };
        let yes = self.settled(prepare("yes")).await.expect("half");
        let no = self.settled(prepare("no")).await.expect("half");
        assert_eq!(self.receive(2, MOMENT / 2).await, [], "undecided");
        let asked = self.api.queues.await_checks(
            self.at,
            "teller-1".into(),
            Arc::clone(&producers),
            9,
            PATIENCE,
        );
        let asked = asked.await.expect("checks");
        assert!(!asked.is_empty(), "asked about");
        let places = asked.iter().map(|check| check.payload_at).collect();
        let kept = self.api.queues.kept(self.at, places).await.expect("kept");
        let id = |payload: Option<Payload>| Message::from_payload(&payload.expect("kept")).id;
        let ids: Vec<_> = kept.into_iter().map(id).collect();
        assert!(
            ids.iter().all(|id| ["yes", "no"].contains(&&**id)),
            "{ids:?}"
        );
        let resolve =
            |handle, decision, source| self.api.queues.resolve(self.at, handle, decision, source);
        let (producer, check) = (DecisionSource::Producer, DecisionSource::Check);
        assert_eq!(resolve(no, Decision::Rollback, producer).await, Ok(()));
        assert_eq!(resolve(yes, Decision::Commit, producer).await, Ok(()));
        assert_eq!(resolve(yes, Decision::Commit, check).await, Ok(()));
        let late = resolve(yes, Decision::Rollback, check).await;
        let decided = QueueError::AlreadyDecided(Decision::Commit);
        assert_eq!(late, Err(QueueCallError::Refused(decided)));
        let got = self.receive(2, PATIENCE).await;
        assert_eq!(self.bodies(&got).await, ["yes"]);
        assert_eq!(self.receive(2, MOMENT).await, [], "rolled back");
    }
}

/// All nodes, the one of `api` first.
fn replicas(api: &Api) -> Vec<weir_base::NodeId> {
    let me = api.cluster.node();
    let image = api.cluster.image();
    let others = image.nodes.keys().copied().filter(|node| *node != me);
    std::iter::once(me).chain(others).collect()
}

async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::join!(a, b)
}
