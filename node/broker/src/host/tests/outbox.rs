//! What a machine sends arrives once, wherever its leader dies on the way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;
use weir_base::env::TaskHandle;
use weir_base::machine::{Decision, Machine, Token};
use weir_base::{BoxFuture, Offset, Timestamp};

use super::toy::{Node, Shared, settle};
use crate::host::Journaled;
use crate::host::desk::Parcel;
use crate::host::outbox::{Carrier, CarryError, drain};

/// Sends letters.
enum Mailer {}

#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Mail {
    next: u64,
    open: BTreeMap<u64, u64>,
}

#[derive(Debug)]
enum Command {
    Send(u64),
    Done(u64),
    /// The reply is how many letters are open.
    Count,
}

/// A letter's number, and its text or that it is done.
type Record = (u64, Option<u64>);

impl Machine for Mailer {
    type Durable = Mail;
    type Volatile = ();
    type Command = Command;
    type Record = Record;
    type Reply = usize;

    fn decide(
        mail: &Mail,
        (): &mut (),
        _: Timestamp,
        token: Token,
        command: Command,
        out: &mut Decision<Record, usize>,
    ) {
        match command {
            Command::Send(text) => out.records.push((mail.next, Some(text))),
            Command::Done(number) => out.records.push((number, None)),
            Command::Count => {}
        }
        out.replies.push((token, mail.open.len()));
    }

    fn apply(mail: &mut Mail, _: Offset, (number, text): &Record) {
        match text {
            Some(text) => {
                mail.next = number + 1;
                mail.open.insert(*number, *text);
            }
            None => drop(mail.open.remove(number)),
        }
    }

    fn on_tick(_: &Mail, (): &mut (), _: Timestamp, _: &mut Decision<Record, usize>) {}

    fn next_deadline(_: &Mail, (): &()) -> Option<Timestamp> {
        None
    }
}

/// A letter on its way.
#[derive(Debug, Clone)]
struct Letter {
    number: u64,
    text: u64,
}

impl Parcel for Letter {
    type Lane = ();

    fn lane(&self) -> &() {
        &()
    }

    fn number(&self) -> u64 {
        self.number
    }
}

impl Journaled for Mailer {
    const KIND: &'static str = "mailer";
    type Want = ();
    type Parcel = Letter;
    type Notice = ();

    fn encode((number, text): &Record) -> (Bytes, Option<Bytes>) {
        let bytes = |n: &u64| Bytes::copy_from_slice(&n.to_be_bytes());
        (bytes(number), text.as_ref().map(bytes))
    }

    fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, String> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes);
        let key = number(key.unwrap_or_default()).map_err(|_| "key".to_owned())?;
        Ok((key, value.map(number).transpose().map_err(|_| "value")?))
    }

    fn parcels(mail: &Mail, known: &[Letter]) -> Option<Vec<Letter>> {
        let head = mail.open.first_key_value();
        let same = head.map(|(number, _)| number) == known.first().map(|l| &l.number);
        let letter = |(number, text): (&u64, &u64)| Letter {
            number: *number,
            text: *text,
        };
        (!same).then(|| head.map(letter).into_iter().collect())
    }
}

/// Where a letter is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nowhere,
    BeforeTheAppend,
    BeforeItsAnswer,
}

/// A partition elsewhere, which knows what its producer sent last.
struct Target {
    hold: watch::Sender<Hold>,
    log: Mutex<Vec<u64>>,
    /// How often anything was tried.
    tries: Mutex<u64>,
}

struct Postman(Arc<Target>);

impl Carrier<Mailer> for Postman {
    fn carry(&self, letter: Letter) -> BoxFuture<'static, Result<(), CarryError>> {
        let target = Arc::clone(&self.0);
        Box::pin(async move {
            let mut hold = target.hold.subscribe();
            *target.tries.lock().unwrap() += 1;
            drop(hold.wait_for(|h| *h != Hold::BeforeTheAppend).await);
            {
                let mut log = target.log.lock().unwrap();
                let next = log.len() as u64;
                if letter.number > next {
                    return Err(CarryError::later(format!("{next} is missing")));
                }
                if letter.number == next {
                    log.push(letter.text);
                }
            }
            drop(hold.wait_for(|h| *h != Hold::BeforeItsAnswer).await);
            Ok(())
        })
    }

    fn done(&self, letter: &Letter) -> Command {
        Command::Done(letter.number)
    }
}

/// Two nodes with their outboxes.
struct Post {
    cluster: Shared,
    nodes: [Node<Mailer>; 2],
    target: Arc<Target>,
    _outboxes: Vec<TaskHandle>,
}

impl Post {
    async fn new() -> Self {
        let cluster = Shared::new(2);
        let nodes = [Node::<Mailer>::new(&cluster, 0), Node::new(&cluster, 1)];
        let target = Arc::new(Target {
            hold: watch::Sender::new(Hold::Nowhere),
            log: Mutex::default(),
            tries: Mutex::default(),
        });
        let outbox = |node: &Node<Mailer>| {
            let (env, host) = (node.env(), node.host());
            let carrier = Arc::new(Postman(Arc::clone(&target)));
            let draining = drain(env.clone(), Arc::clone(host.desk()), host.caller(), carrier);
            env.tasks.spawn_owned("outbox", draining)
        };
        let outboxes = nodes.iter().map(outbox).collect();
        cluster.get().lead(0, true);
        settle().await;
        Self {
            cluster,
            nodes,
            target,
            _outboxes: outboxes,
        }
    }

    fn hold(&self, at: Hold) {
        self.target.hold.send_replace(at);
    }

    fn log(&self) -> Vec<u64> {
        self.target.log.lock().unwrap().clone()
    }

    fn tries(&self) -> u64 {
        *self.target.tries.lock().unwrap()
    }

    /// Commits one batch, if there is one.
    async fn commit(&self) {
        settle().await;
        self.cluster.get().commit(1);
        settle().await;
    }

    /// Lets everything go its way.
    async fn finish(&self) {
        self.hold(Hold::Nowhere);
        for _ in 0..10 {
            self.commit().await;
        }
    }

    async fn open(&self, node: usize) -> usize {
        let mut count = self.nodes[node].call(Command::Count);
        count.now().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn letters_arrive_in_order_and_are_forgotten() {
    let post = Post::new().await;
    for text in [7, 8, 9] {
        drop(post.nodes[0].call(Command::Send(text)));
    }
    post.finish().await;
    assert_eq!(post.log(), [7, 8, 9]);
    assert_eq!((post.open(0).await, post.tries()), (0, 3));
}

#[tokio::test]
async fn nothing_leaves_before_it_is_on_record_for_good() {
    for survives in [false, true] {
        let post = Post::new().await;
        drop(post.nodes[0].call(Command::Send(7)));
        settle().await;
        assert_eq!(post.tries(), 0, "not committed");
        post.cluster.get().lead(1, survives);
        post.finish().await;
        let expected: &[u64] = if survives { &[7] } else { &[] };
        assert_eq!(post.log(), expected);
        assert_eq!(post.open(1).await, 0);
    }
}

/// The leader dies when the letter is on record and not yet appended, appended and not
/// answered, answered and not on record as done, with and without that record.
#[tokio::test]
async fn a_leader_that_dies_on_the_way_loses_and_doubles_nothing() {
    for (hold, survives, tries) in [
        (Hold::BeforeTheAppend, true, 2),
        (Hold::BeforeItsAnswer, true, 2),
        (Hold::Nowhere, false, 2),
        (Hold::Nowhere, true, 1),
    ] {
        let post = Post::new().await;
        post.hold(hold);
        drop(post.nodes[0].call(Command::Send(7)));
        post.commit().await;
        let appended: &[u64] = if hold == Hold::BeforeTheAppend {
            &[]
        } else {
            &[7]
        };
        assert_eq!(post.log(), appended, "{hold:?}");
        post.cluster.get().lead(1, survives);
        post.finish().await;
        assert_eq!(post.log(), [7], "{hold:?} {survives}");
        assert_eq!(post.open(1).await, 0, "{hold:?} {survives}");
        assert_eq!(post.tries(), tries, "{hold:?} {survives}");
        drop(post.nodes[1].call(Command::Send(8)));
        post.finish().await;
        assert_eq!(post.log(), [7, 8], "{hold:?} {survives}");
    }
}

/// The whole node dies and comes back alone.
#[tokio::test]
async fn a_restarted_leader_goes_on_where_its_journal_is() {
    let mut post = Post::new().await;
    post.hold(Hold::BeforeItsAnswer);
    drop(post.nodes[0].call(Command::Send(7)));
    post.commit().await;
    assert_eq!(post.log(), [7]);
    post.nodes[0].start();
    let (env, host) = (post.nodes[0].env(), post.nodes[0].host());
    let carrier = Arc::new(Postman(Arc::clone(&post.target)));
    let draining = drain(env.clone(), Arc::clone(host.desk()), host.caller(), carrier);
    let _outbox = env.tasks.spawn_owned("outbox", draining);
    post.cluster.get().lead(0, true);
    post.finish().await;
    assert_eq!(post.log(), [7]);
    assert_eq!(post.open(0).await, 0);
}
