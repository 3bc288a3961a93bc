//! Clerks: clients that write configs of one topic and read them back, at any node, several
//! at a time. Each config is a register with values of its own; what they are told is C24's
//! to judge.
//!
//! A connection is a session: it is to one process of one node. Some reads come right behind
//! a write over the same connection: those are the ones that may not be old. All clerks are on one
//! machine, so that what they note is in the order in which it happened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use weir_base::Env;
use weir_checkers::queue::Outcome;
use weir_checkers::registers::{Access, Call, Session};
use weir_checkers::{Key, Value};

use super::kafka_client::{KafkaClient, text};
use super::produce::create_topic;
use super::stage::Stage;
use crate::dice::Dice;
use crate::trace::Trace;

pub(crate) const CLERKS: u64 = 4;

const TOPIC: &str = "registers";
/// Configs that change nothing of an empty topic, whatever they are.
const REGISTERS: &[&str] = &["retention.ms", "retention.bytes", "segment.ms"];
/// What is added to a value: a config has to be a sensible one.
const BASE: u64 = 1_000_000_000;
const DEADLINE: Duration = Duration::from_secs(2);
/// Milliseconds between two calls of a clerk, at least and at most.
const PAUSE: (u64, u64) = (20, 600);
/// Writes to a register in a run, at most.
const WRITES_MAX: u64 = 100;
/// Kafka's numbers.
const TOPIC_RESOURCE: i8 = 2;
const SET_HERE: i8 = 1;
const UNKNOWN_TOPIC: i16 = 3;
const TIMED_OUT: i16 = 7;

/// What all clerks were told; clones write the same.
#[derive(Clone)]
pub(crate) struct Ledger {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    /// Rises with everything that begins or ends.
    now: u64,
    sessions: u32,
    values: BTreeMap<Key, u64>,
}

impl Ledger {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self {
            state: Arc::default(),
            trace: trace.clone(),
        }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        let mut state = self.lock();
        state.now += 1;
        state.now
    }

    fn session(&self) -> Session {
        let mut state = self.lock();
        state.sessions += 1;
        Session(state.sessions)
    }

    /// A value that nobody wrote before, unless enough were; what must be written, must.
    fn value(&self, key: Key, must: bool) -> Option<Value> {
        let mut state = self.lock();
        let last = state.values.entry(key).or_default();
        *last += 1;
        (must || *last <= WRITES_MAX).then_some(Value(*last))
    }

    fn note(&self, key: Key, session: Session, began: u64, access: Access) {
        let ended = self.now();
        let call = Call {
            key,
            session,
            began,
            ended,
            access,
        };
        let (key, session) = (key.0, session.0);
        self.trace.note(
            &format_args!("session {session}"),
            format_args!("{access:?} of register {key}, {began} to {ended}"),
        );
        self.lock().calls.push(call);
    }
}

/// One of them.
pub(crate) struct Clerk {
    pub(crate) env: Env,
    pub(crate) number: u64,
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) ledger: Ledger,
    pub(crate) stage: Stage,
}

impl Clerk {
    /// Writes and reads until the faults are over, and then reads all once more behind a write.
    pub(crate) async fn run(self) {
        let dice = Dice::new(self.env.entropy.fork(&format!("clerk {}", self.number)));
        while create_topic(&self.env, &self.nodes, TOPIC, 1, &[])
            .await
            .is_err()
        {}
        let mut open: BTreeMap<SocketAddr, (Session, KafkaClient)> = BTreeMap::new();
        let registers: Vec<Key> = (0..).take(REGISTERS.len()).map(Key).collect();
        while !self.stage.is_healed() {
            let (node, key) = (dice.pick(&self.nodes), dice.pick(&registers));
            let what = dice.between(0, 5);
            if let Some((session, mut client)) = self.take(&mut open, node).await {
                let done = match what {
                    0 => self.write(session, &mut client, key).await,
                    1 => match self.write(session, &mut client, key).await {
                        Ok(()) => self.read_all(session, &mut client).await,
                        Err(error) => Err(error),
                    },
                    2 => self.read_all(session, &mut client).await,
                    _ => self.read(session, &mut client, key).await,
                };
                if done.is_ok() {
                    open.insert(node, (session, client));
                }
            }
            let pause = dice.magnitude(PAUSE.0, PAUSE.1);
            self.env.sleep(Duration::from_millis(pause)).await;
        }
        self.read_the_last(&mut open, &registers).await;
        self.stage.keeper_ends();
    }

    /// Writes, and reads all behind it, until that worked.
    async fn read_the_last(
        &self,
        open: &mut BTreeMap<SocketAddr, (Session, KafkaClient)>,
        registers: &[Key],
    ) {
        let nodes = self.nodes.iter().zip(registers.iter().cycle()).cycle();
        for (node, key) in nodes {
            if let Some((session, mut client)) = self.take(open, *node).await
                && let Ok(()) = self.write(session, &mut client, *key).await
                && let Ok(()) = self.read_all(session, &mut client).await
            {
                return;
            }
            self.env.sleep(Duration::from_millis(PAUSE.1)).await;
        }
    }

    /// The connection to a node, taken out: it goes back if it still works.
    async fn take(
        &self,
        open: &mut BTreeMap<SocketAddr, (Session, KafkaClient)>,
        node: SocketAddr,
    ) -> Option<(Session, KafkaClient)> {
        if let Some(kept) = open.remove(&node) {
            return Some(kept);
        }
        let client = KafkaClient::connect(&self.env, node, DEADLINE).await.ok()?;
        Some((self.ledger.session(), client))
    }

    /// Writes a new value. An error is of the connection.
    async fn write(&self, session: Session, client: &mut KafkaClient, key: Key) -> Result<()> {
        let healed = self.stage.is_healed();
        let Some(value) = self.ledger.value(key, healed) else {
            return Ok(());
        };
        let began = self.ledger.now();
        let set = AlterableConfig::default()
            .with_name(text(register(key)?))
            .with_config_operation(0)
            .with_value(Some(text(&(BASE + value.0).to_string())));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(TOPIC))
            .with_configs(vec![set]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let told = client.call(&request, 1).await;
        let code = told.as_ref().map_err(ToString::to_string).and_then(|told| {
            let resource = told
                .responses
                .first()
                .ok_or_else(|| "no resource".to_owned())?;
            Ok(resource.error_code)
        });
        let outcome = match code {
            Ok(0) => Outcome::Ok,
            // All other refusals are definite.
            Ok(code) if code != TIMED_OUT => Outcome::Fail,
            Ok(_) | Err(_) => Outcome::Info,
        };
        let access = Access::Write(value, outcome);
        self.ledger.note(key, session, began, access);
        anyhow::ensure!(!healed || outcome == Outcome::Ok, "not written");
        told.map(drop)
    }

    async fn read_all(&self, session: Session, client: &mut KafkaClient) -> Result<()> {
        for key in (0..).take(REGISTERS.len()).map(Key) {
            self.read(session, client, key).await?;
        }
        Ok(())
    }

    /// Reads what the node shows. An error is of the connection.
    async fn read(&self, session: Session, client: &mut KafkaClient, key: Key) -> Result<()> {
        let began = self.ledger.now();
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(TOPIC))
            .with_configuration_keys(Some(vec![text(register(key)?)]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let response = client.call(&request, 4).await?;
        let told = response.results.first().context("no resource")?;
        let value = match told.error_code {
            0 => {
                let config = told.configs.first().context("no config")?;
                let is_set = config.config_source == SET_HERE;
                let value = config.value.as_deref().filter(|_| is_set);
                let value = value.map(str::parse::<u64>).transpose()?;
                value.map(|value| Value(value.saturating_sub(BASE)))
            }
            // It has not heard of the topic, let alone of a config.
            UNKNOWN_TOPIC => None,
            code => anyhow::bail!("error {code}"),
        };
        let access = Access::Read(value);
        self.ledger.note(key, session, began, access);
        Ok(())
    }
}

fn register(key: Key) -> Result<&'static str> {
    let at = usize::try_from(key.0)?;
    REGISTERS.get(at).copied().context("no such register")
}
