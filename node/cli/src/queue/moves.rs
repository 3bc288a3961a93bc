//! `weir queue delete` and `weir queue seek`: each node is told about the partitions that it
//! leads, and every partition is reported.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use ureq::http::Method;
use weir_api::console::{QueueLine, QueueStep, SeekQueueGroup, TopicView};

use super::{of_all, refused};
use crate::Session;
use crate::client::{Client, Refused, segment};
use crate::position::{ToArgs, targets};
use crate::table::{Table, or_dash};

/// For `weir queue delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The topic
    pub topic: String,
    /// The group
    pub group: String,
    /// Also while it has consumers: those that go on make it anew, at the end
    #[arg(long)]
    pub force: bool,
}

/// For `weir queue seek`.
#[derive(Debug, Args)]
pub struct SeekArgs {
    /// The topic
    pub topic: String,
    /// The group
    pub group: String,
    /// Only these partitions, such as 0,2
    #[arg(long = "partition", value_delimiter = ',', value_name = "PARTITIONS")]
    pub partitions: Vec<u32>,
    /// Where to.
    #[command(flatten)]
    pub to: ToArgs,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn delete(args: &DeleteArgs, session: &mut Session<'_>) -> Result<()> {
    let (topic, group) = (segment(&args.topic), segment(&args.group));
    let lines = lines_of(&args.topic, &args.group, session)?;
    let busy = lines.iter().find(|line| line.in_flight + line.waiting > 0);
    if let Some(line) = busy.filter(|_| !args.force) {
        bail!(
            "group '{}' has consumers on {}-{}; stop them first, or insist with --force: they would make it anew, at the end",
            args.group,
            args.topic,
            line.partition
        );
    }
    let path = format!("/v1/queues/{topic}/groups/{group}?force={}", args.force);
    let all = all_partitions(&session.client, &args.topic)?;
    let steps = spread(&session.client, &all, |node| {
        node.send(Method::DELETE, &path, None::<&()>)
    })?;
    report(&steps, session)?;
    let left = count(&steps, |step| step.outcome == "failed");
    if left > 0 {
        bail!(
            "group '{}' is deleted, but for {left} of {} partitions: delete it again",
            args.group,
            steps.len()
        );
    }
    Ok(())
}

pub(super) fn seek(args: &SeekArgs, session: &mut Session<'_>) -> Result<()> {
    let (topic, group) = (segment(&args.topic), segment(&args.group));
    lines_of(&args.topic, &args.group, session)?;
    let mut all = all_partitions(&session.client, &args.topic)?;
    if let Some(none) = args.partitions.iter().find(|p| !all.contains_key(p)) {
        bail!("topic '{}' has no partition {none}", args.topic);
    }
    let is_wanted =
        |partition: &u32| args.partitions.is_empty() || args.partitions.contains(partition);
    all.retain(|partition, _| is_wanted(partition));
    let places = targets(&session.client, &args.to, &args.topic)?;
    let places = places
        .into_iter()
        .filter(|(partition, _)| is_wanted(partition));
    let wish = SeekQueueGroup {
        offsets: places.map(|(partition, (to, _))| (partition, to)).collect(),
        dry_run: args.dry_run,
    };
    let path = format!("/v1/queues/{topic}/groups/{group}/seek");
    let steps = spread(&session.client, &all, |node| {
        node.send(Method::POST, &path, Some(&wish))
    })?;
    report(&steps, session)?;
    let word = if args.dry_run { "checked" } else { "done" };
    let left = count(&steps, |step| step.outcome != word);
    if left > 0 {
        bail!(
            "group '{}': {left} of {} partitions are not {word}; seek again for those",
            args.group,
            steps.len()
        );
    }
    Ok(())
}

/// The lines of a group that is somewhere, else a refusal.
fn lines_of(topic: &str, group: &str, session: &Session<'_>) -> Result<Vec<QueueLine>> {
    let mut lines: Vec<QueueLine> = of_all(&session.client, "/v1/queues")?;
    lines.retain(|line| line.topic == topic && line.group == group);
    if lines.is_empty() {
        let what = format!("topic '{topic}' has no queue group '{group}'");
        return Err(refused("unknown_group", what));
    }
    Ok(lines)
}

/// All partitions, with their leaders.
fn all_partitions(client: &Client, topic: &str) -> Result<BTreeMap<u32, Option<u32>>> {
    let view: TopicView = client.get(&format!("/v1/topics/{}", segment(topic)))?;
    let partitions = view.partitions.iter();
    Ok(partitions.map(|one| (one.partition, one.leader)).collect())
}

/// Tells every node that leads some of `all`, and gives a step for each of them. Refused by
/// the first that is asked, nothing was done.
fn spread(
    client: &Client,
    all: &BTreeMap<u32, Option<u32>>,
    tell: impl Fn(&Client) -> Result<Vec<QueueStep>>,
) -> Result<Vec<QueueStep>> {
    let mut steps: BTreeMap<u32, QueueStep> = BTreeMap::new();
    for node in client.cluster()?.nodes {
        let led = all.iter().filter(|(_, leader)| **leader == Some(node.id));
        let led: Vec<u32> = led.map(|(partition, _)| *partition).collect();
        let Some(admin) = node.endpoints.get("admin").filter(|_| !led.is_empty()) else {
            continue;
        };
        match tell(&Client::new(vec![admin.clone()])) {
            Ok(told) => steps.extend(told.into_iter().map(|step| (step.partition, step))),
            Err(error) if error.is::<Refused>() && steps.is_empty() => return Err(error),
            Err(error) => steps.extend(
                led.into_iter()
                    .map(|partition| (partition, failed(partition, format!("{error:#}")))),
            ),
        }
    }
    for partition in all.keys() {
        steps.entry(*partition).or_insert_with(|| {
            failed(
                *partition,
                "nobody leads it just now, or its leader moved".to_owned(),
            )
        });
    }
    let asked = steps
        .into_values()
        .filter(|step| all.contains_key(&step.partition));
    Ok(asked.collect())
}

fn failed(partition: u32, why: String) -> QueueStep {
    QueueStep {
        partition,
        outcome: "failed".to_owned(),
        why,
        ..QueueStep::default()
    }
}

fn count(steps: &[QueueStep], which: impl Fn(&QueueStep) -> bool) -> usize {
    steps.iter().filter(|step| which(step)).count()
}

fn report(steps: &[QueueStep], session: &mut Session<'_>) -> Result<()> {
    session.show(&steps, |steps, out| {
        let mut table = Table::new(&["PARTITION", "FROM", "TO", "LAG", "OUTCOME"]);
        for step in *steps {
            let outcome = match step.why.as_str() {
                "" => step.outcome.clone(),
                why => format!("{}: {why}", step.outcome),
            };
            table.row(vec![
                step.partition.to_string(),
                or_dash(step.from),
                or_dash(step.to),
                or_dash(step.lag),
                outcome,
            ]);
        }
        table.print(out)
    })
}
