//! `weir trace`: what befell a message, and where it stands with every group.

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use weir_api::console::{FoundMessage, StandingView, StoryLine};

use super::{of_all, refused};
use crate::client::segment;
use crate::table::{Table, or_dash};
use crate::{Session, time};

/// For `weir trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The topic
    pub topic: String,
    /// The partition, with the offset
    #[arg(requires = "offset", conflicts_with_all = ["id", "key"])]
    pub partition: Option<u32>,
    /// The message's offset
    pub offset: Option<u64>,
    /// Every message of this id, among the newest 100,000 of each partition
    #[arg(long, conflicts_with = "key", required_unless_present_any = ["partition", "key"])]
    pub id: Option<String>,
    /// Every message of this key or message group, among the newest 100,000
    #[arg(long)]
    pub key: Option<String>,
}

/// All that is known of one message.
#[derive(Debug, Serialize)]
struct Traced {
    partition: u32,
    offset: u64,
    /// `None` when it was named by its offset.
    message: Option<FoundMessage>,
    /// What the journal tells, oldest first.
    story: Vec<StoryLine>,
    /// Where it stands now.
    standings: Vec<StandingView>,
}

pub(crate) fn run(args: &TraceArgs, session: &mut Session<'_>) -> Result<()> {
    let topic = segment(&args.topic);
    let by = |name: &str, value: &str| -> Result<Vec<FoundMessage>> {
        let path = format!("/v1/queues/{topic}/find?{name}={}", segment(value));
        of_all(&session.client, &path)
    };
    let places: Vec<(u32, u64, Option<FoundMessage>)> =
        match (args.partition.zip(args.offset), &args.id, &args.key) {
            (Some((partition, offset)), ..) => vec![(partition, offset, None)],
            (None, Some(id), _) => by("id", id)?.into_iter().map(place).collect(),
            (None, None, Some(key)) => by("key", key)?.into_iter().map(place).collect(),
            (None, None, None) => bail!("name a partition and an offset, an id or a key"),
        };
    if places.is_empty() {
        let what = format!("topic '{}' has no such message", args.topic);
        return Err(refused("unknown_message", what));
    }
    let mut traced = Vec::new();
    for (partition, offset, message) in places {
        let at = format!("{partition}/{offset}");
        let story = format!("/v1/queues/{topic}/story/{at}");
        let trace = format!("/v1/queues/{topic}/trace/{at}");
        traced.push(Traced {
            partition,
            offset,
            message,
            story: session.client.get(&story)?,
            standings: session.client.get(&trace)?,
        });
    }
    session.show(&traced, |traced, out| {
        for one in traced {
            writeln!(out, "partition {}, offset {}", one.partition, one.offset)?;
            if let Some(message) = &one.message {
                let from = message.replayed_from.as_ref();
                let from = from.map_or_else(String::new, |from| format!(", replayed from {from}"));
                let (id, at) = (&message.id, time::show(message.at));
                writeln!(out, "  {at} stored, id {id}{from}")?;
            }
            for line in &one.story {
                writeln!(out, "  {} {}", time::show(line.at), line.what)?;
            }
            let mut table = Table::new(&["GROUP", "STANDING", "MEMBER", "UNTIL", "ENDED ATTEMPTS"]);
            for standing in &one.standings {
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
            table.print(out)?;
        }
        Ok(())
    })
}

fn place(message: FoundMessage) -> (u32, u64, Option<FoundMessage>) {
    (message.partition, message.offset, Some(message))
}
