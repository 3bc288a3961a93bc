//! `weir trace`: the whole story of a message, wherever it went.
//!
//! A message is looked for in the logs and in the journals, where delayed, half and
//! undeliverable ones are; then it is followed into the dead letters and back through
//! replays, both ways. What was not looked at is said.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_api::console::{
    FoundMessage, FoundMessages, KeptMessages, StandingView, StoryLine, TopicLine,
};

use super::{of_each, refused};
use crate::client::{Client, Refused, segment};
use crate::table::{Table, or_dash};
use crate::{Session, time};

/// Places that one story follows.
const PLACES_MAX: usize = 1_000;

/// For `weir trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// An id, a key or a message group, of any topic; with a partition and an offset, a topic
    #[arg(value_name = "ID|KEY|TOPIC", required_unless_present_any = ["id", "key"])]
    pub what: Option<String>,
    /// The partition, with the offset
    #[arg(requires = "offset", conflicts_with_all = ["id", "key", "topic"])]
    pub partition: Option<u32>,
    /// The message's offset
    pub offset: Option<u64>,
    /// Only messages of this topic, with what became of them elsewhere
    #[arg(long)]
    pub topic: Option<String>,
    /// Every message of this id
    #[arg(long, conflicts_with_all = ["key", "what"])]
    pub id: Option<String>,
    /// Every message of this key or message group
    #[arg(long, conflicts_with = "what")]
    pub key: Option<String>,
    /// Look through all that the topics hold, not only the newest 100,000 offsets of each
    /// partition
    #[arg(long)]
    pub all: bool,
}

/// All that is known of one message.
#[derive(Debug, Serialize)]
struct Traced {
    topic: String,
    partition: u32,
    /// Where it is in the log; `None` while, or as far as, only the journal tells of it.
    offset: Option<u64>,
    /// Its number in the journal, if that is what is told of.
    entry: Option<u64>,
    /// Its record, if it is still there.
    message: Option<FoundMessage>,
    /// What the journal tells, oldest first.
    story: Vec<StoryLine>,
    /// Where it stands now.
    standings: Vec<StandingView>,
}

impl Traced {
    /// When it began, to tell stories in their order.
    fn began(&self) -> Option<i64> {
        let stored = self.message.as_ref().map(|message| message.at);
        stored.or_else(|| self.story.first().map(|line| line.at))
    }
}

/// The whole answer.
#[derive(Debug, Default, Serialize)]
struct Biography {
    messages: Vec<Traced>,
    /// What was not looked at, for people.
    not_looked_at: Vec<String>,
}

/// A message's place.
type Place = (String, u32, u64);

/// Reads `topic-partition-offset`.
fn place_of(text: &str) -> Option<Place> {
    let mut parts = text.rsplitn(3, '-');
    let offset = parts.next()?.parse().ok()?;
    let partition = parts.next()?.parse().ok()?;
    Some((parts.next()?.to_owned(), partition, offset))
}

/// A search under way.
struct Search<'a> {
    client: &'a Client,
    /// Whether to look through everything.
    all: bool,
    /// Places to be told of.
    ahead: VecDeque<(Place, Option<FoundMessage>)>,
    /// Those that were ahead once.
    known: BTreeSet<Place>,
    /// Names that were looked for in a topic's journals.
    asked: BTreeSet<(String, String)>,
    told: Biography,
}

impl Search<'_> {
    fn add(&mut self, place: Place, message: Option<FoundMessage>) {
        if self.known.len() >= PLACES_MAX {
            let note = format!("more than {PLACES_MAX} messages: name one by its place");
            self.skip(note);
        } else if self.known.insert(place.clone()) {
            self.ahead.push_back((place, message));
        }
    }

    fn skip(&mut self, note: String) {
        if !self.told.not_looked_at.contains(&note) {
            self.told.not_looked_at.push(note);
        }
    }

    /// Messages of one topic's logs that `query` names.
    fn find(&mut self, topic: &str, query: &str) -> Result<Vec<FoundMessage>> {
        let path = format!("/v1/queues/{}/find?{query}", segment(topic));
        let mut answers: VecDeque<FoundMessages> = of_each(self.client, &path)?.into();
        let mut found = Vec::new();
        while let Some(answer) = answers.pop_front() {
            found.extend(answer.messages);
            if answer.more {
                self.skip(format!("{topic}: more than its first 1,000 matches"));
            }
            for looked in answer.looked_through {
                let (partition, from) = (looked.partition, looked.from);
                if from <= looked.start {
                    continue;
                }
                if self.all {
                    let older = format!("{path}&partition={partition}&before={from}");
                    answers.extend(of_each::<FoundMessages>(self.client, &older)?);
                } else {
                    let start = looked.start;
                    self.skip(format!(
                        "{topic}-{partition}: offsets {start} to {} (--all looks there)",
                        from - 1
                    ));
                }
            }
        }
        Ok(found)
    }

    /// Delayed, half and undeliverable messages of an id or key.
    fn find_kept(&mut self, topic: &str, name: &str) -> Result<()> {
        if !self.asked.insert((topic.to_owned(), name.to_owned())) {
            return Ok(());
        }
        let path = format!("/v1/queues/{}/kept?name={}", segment(topic), segment(name));
        for answer in of_each::<KeptMessages>(self.client, &path)? {
            if answer.more {
                self.skip(format!("{topic}: more than 100 delayed or half messages"));
            }
            let kept = answer.messages.into_iter().map(|kept| Traced {
                topic: topic.to_owned(),
                partition: kept.partition,
                offset: None,
                entry: Some(kept.number),
                message: None,
                story: kept.story,
                standings: Vec::new(),
            });
            self.told.messages.extend(kept);
        }
        Ok(())
    }

    /// Looks for a name in one topic.
    fn look_in(&mut self, topic: &str, (kind, name): (&str, &str)) -> Result<()> {
        for message in self.find(topic, &format!("{kind}={}", segment(name)))? {
            let place = (topic.to_owned(), message.partition, message.offset);
            self.add(place, Some(message));
        }
        self.find_kept(topic, name)
    }

    /// Tells of everything ahead, and of where it leads to.
    fn follow(&mut self) -> Result<()> {
        while let Some((place, message)) = self.ahead.pop_front() {
            let (topic, partition, offset) = &place;
            let message = match message {
                Some(message) => Some(message),
                None => {
                    let found = self.find(topic, &format!("place={partition}-{offset}"));
                    or_none(found)?.and_then(|mut found| found.pop())
                }
            };
            let at = format!("{partition}/{offset}");
            let path = |what: &str| format!("/v1/queues/{}/{what}/{at}", segment(topic));
            let story: Vec<StoryLine> = self.get(&path("story"))?;
            let standings = self.get(&path("trace"))?;
            let source = format!(
                "source={}",
                segment(&format!("{topic}-{partition}-{offset}"))
            );
            let to: BTreeSet<&String> = story.iter().filter_map(|line| line.to.as_ref()).collect();
            for to in to {
                let Some((next, _)) = to.rsplit_once('-') else {
                    continue;
                };
                // It is made with the first letter, which may be on its way.
                let found = or_none(self.find(next, &source))?;
                for message in found.unwrap_or_default() {
                    let place = (next.to_owned(), message.partition, message.offset);
                    self.add(place, Some(message));
                }
            }
            if let Some(message) = &message {
                let came_from = [&message.origin, &message.replayed_from];
                for from in came_from
                    .into_iter()
                    .flatten()
                    .filter_map(|at| place_of(at))
                {
                    self.add(from, None);
                }
                if message.id != format!("{partition}-{offset}") {
                    self.find_kept(topic, &message.id)?;
                }
            }
            self.told.messages.push(Traced {
                topic: place.0,
                partition: place.1,
                offset: Some(place.2),
                entry: None,
                message,
                story,
                standings,
            });
        }
        let messages = &mut self.told.messages;
        messages
            .sort_by_cached_key(|one| (one.began(), one.topic.clone(), one.partition, one.offset));
        Ok(())
    }

    /// What a node tells of one message; nothing where no queue is, or no such topic any more.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let told = or_none(self.client.get(path))?;
        Ok(told.unwrap_or_default())
    }
}

/// `None` where there is no such topic, or no queue of it.
fn or_none<T>(told: Result<T>) -> Result<Option<T>> {
    let is_nowhere = |error: &anyhow::Error| {
        let refused = error.downcast_ref::<Refused>();
        refused.is_some_and(|refused| {
            ["no_queue", "unknown_topic", "unknown_partition"].contains(&&*refused.0.error)
        })
    };
    match told {
        Ok(told) => Ok(Some(told)),
        Err(error) if is_nowhere(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn run(args: &TraceArgs, session: &mut Session<'_>) -> Result<()> {
    let mut search = Search {
        client: &session.client,
        all: args.all,
        ahead: VecDeque::new(),
        known: BTreeSet::new(),
        asked: BTreeSet::new(),
        told: Biography::default(),
    };
    match (&args.what, args.partition.zip(args.offset)) {
        (Some(topic), Some((partition, offset))) => {
            search.add((topic.clone(), partition, offset), None);
        }
        (what, _) => {
            let named = [("id", &args.id), ("key", &args.key), ("name", what)];
            let mut named = named.into_iter();
            let wanted = named.find_map(|(kind, name)| Some((kind, name.as_deref()?)));
            let wanted = wanted.context("name an id, a key, or a topic with a place in it")?;
            look(&mut search, args.topic.as_deref(), wanted)?;
        }
    }
    search.follow()?;
    let told = search.told;
    if told.messages.is_empty() {
        let mut what = match &args.topic {
            Some(topic) => format!("topic '{topic}' has no such message"),
            None => "no topic has such a message".to_owned(),
        };
        for note in &told.not_looked_at {
            what += &format!("; not looked at: {note}");
        }
        return Err(refused("unknown_message", what));
    }
    session.show(&told, Biography::print)
}

/// Looks in one topic or in all.
fn look(search: &mut Search<'_>, topic: Option<&str>, wanted: (&str, &str)) -> Result<()> {
    if let Some(topic) = topic {
        return search.look_in(topic, wanted);
    }
    let topics: Vec<TopicLine> = search.client.get("/v1/topics")?;
    for topic in topics.into_iter().filter(|topic| !topic.internal) {
        // One that cannot be asked does not hide the others.
        if let Err(error) = search.look_in(&topic.name, wanted) {
            search.skip(format!("{}: {error:#}", topic.name));
        }
    }
    Ok(())
}

impl Biography {
    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for one in &self.messages {
            let (topic, partition) = (&one.topic, one.partition);
            match (one.offset, one.entry) {
                (Some(offset), _) => {
                    writeln!(out, "topic {topic}, partition {partition}, offset {offset}")?;
                }
                (None, entry) => writeln!(
                    out,
                    "topic {topic}, partition {partition}, beside the log, number {}",
                    or_dash(entry)
                )?,
            }
            if let Some(message) = &one.message {
                let origin = message.origin.as_ref();
                let origin = origin.map(|origin| format!(", the dead letter of {origin}"));
                let from = message.replayed_from.as_ref();
                let from = from.map(|from| format!(", replayed from {from}"));
                let (origin, from) = (origin.unwrap_or_default(), from.unwrap_or_default());
                let (id, at) = (&message.id, time::show(message.at));
                writeln!(out, "  {at} stored, id {id}{origin}{from}")?;
            }
            for line in &one.story {
                let until = line
                    .until
                    .map(|until| format!(", until {}", time::show(until)));
                let (at, until) = (time::show(line.at), until.unwrap_or_default());
                writeln!(out, "  {at} {}{until}", line.what)?;
            }
            if !one.standings.is_empty() {
                print_standings(&one.standings, out)?;
            }
        }
        for note in &self.not_looked_at {
            writeln!(out, "not looked at: {note}")?;
        }
        Ok(())
    }
}

fn print_standings(standings: &[StandingView], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["GROUP", "STANDING", "MEMBER", "UNTIL", "ENDED ATTEMPTS"]);
    for standing in standings {
        let ended = standing.ended.iter();
        let ended = ended.map(|(cause, at)| format!("{cause} at {}", time::show(*at)));
        table.row(vec![
            standing.group.clone(),
            standing.standing.clone(),
            or_dash(standing.member.clone()),
            or_dash(standing.until.map(time::show)),
            ended.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.print(out)
}
