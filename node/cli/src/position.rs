//! Where in a topic: the options that say it, and the offsets they stand for.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::Args;
use weir_api::console::TopicView;

use crate::client::{Client, Refused, segment};
use crate::queue::point_in_time;
use crate::topic::offsets;

/// Where to go.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ToArgs {
    /// To the first message there is
    #[arg(long)]
    pub to_earliest: bool,
    /// Behind the last message there is
    #[arg(long)]
    pub to_latest: bool,
    /// To this offset, or the nearest that exists
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: Option<u64>,
    /// To the first message from this time on, such as 2026-11-21T16:00:00Z (UTC unless
    /// told otherwise)
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    pub to_datetime: Option<i64>,
}

/// The leader of each partition that has one; `None` if there is no such topic.
pub(crate) fn leaders(client: &Client, topic: &str) -> Result<Option<BTreeMap<u32, u32>>> {
    let view: Result<TopicView> = client.get(&format!("/v1/topics/{}", segment(topic)));
    match view {
        Ok(view) => Ok(Some(
            view.partitions
                .iter()
                .filter_map(|partition| Some((partition.partition, partition.leader?)))
                .collect(),
        )),
        Err(error) if is_unknown_topic(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_unknown_topic(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.0.error == "unknown_topic")
}

/// For each partition of a topic: where to go, within what there is, and its end.
pub(crate) fn targets(
    client: &Client,
    to: &ToArgs,
    topic: &str,
) -> Result<BTreeMap<u32, (u64, u64)>> {
    let Some(leaders) = leaders(client, topic)? else {
        bail!("topic '{topic}' does not exist; `weir topic list` shows what there is");
    };
    let leaders: BTreeSet<u32> = leaders.into_values().collect();
    let starts = offsets(client, topic, "earliest", &leaders)?;
    let ends = offsets(client, topic, "latest", &leaders)?;
    let at_time = match to.to_datetime {
        Some(time) => offsets(client, topic, &time.to_string(), &leaders)?,
        None => BTreeMap::new(),
    };
    let mut targets = BTreeMap::new();
    for (partition, start) in starts {
        let Some(&end) = ends.get(&partition) else {
            continue;
        };
        let wished = if to.to_earliest {
            start
        } else if let Some(offset) = to.to_offset {
            offset
        } else if to.to_datetime.is_some() {
            match at_time.get(&partition) {
                Some(offset) => *offset,
                None => continue,
            }
        } else {
            end
        };
        targets.insert(partition, (wished.max(start).min(end), end));
    }
    Ok(targets)
}
