//! `weir queue set`: each node is told what it sets on the partitions that it leads.

use anyhow::{Result, bail};
use clap::Args;
use ureq::http::Method;
use weir_api::console::{
    AlterQueueGroup, AlteredQueueGroup, BackoffView, Done, ExponentialView, NamedBackoff, TopicView,
};

use crate::client::{Client, segment};
use crate::topic::print_done;
use crate::{Session, time};

/// For `weir queue set`. What is not named stays as it is.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The topic
    pub topic: String,
    /// The group; it is made if there is none
    pub group: String,
    /// Deliveries of one message before it is dead-lettered: 1 to 10,000
    #[arg(long, visible_alias = "delivery-limit")]
    pub attempts: Option<u16>,
    /// Pause before the next attempt: a list such as 1s,3s,5s (the last one repeats),
    /// `ladder` (RocketMQ's, 10s to 2h), or `exponential`, with any of
    /// `exponential:initial=1s,max=2h,multiplier=2,jitter=20%`
    #[arg(long, value_name = "PAUSES", value_parser = backoff)]
    pub backoff: Option<BackoffView>,
    /// Whether messages of one message group are delivered one after the other
    #[arg(long)]
    pub fifo: Option<bool>,
    /// How long a delivered message is hidden from others, 1s to 12h, where the receive does
    /// not say
    #[arg(long, visible_alias = "invisible-duration", value_name = "DURATION", value_parser = duration)]
    pub lease: Option<u64>,
    /// Deliveries a second, of all partitions together; 0: as fast as it asks
    #[arg(long)]
    pub rate: Option<u32>,
    /// Messages delivered and not settled, of all partitions together; 0: no limit
    #[arg(long)]
    pub concurrency: Option<u32>,
    /// The same of one message group or key; 0: no limit
    #[arg(long)]
    pub key_concurrency: Option<u32>,
    /// Where messages go that failed too often; empty: dlq.GROUP
    #[arg(
        long,
        visible_alias = "dead-letter-topic",
        value_name = "TOPIC[:PARTITION]"
    )]
    pub dead_letter: Option<String>,
    /// How many messages may wait for it on each partition; 0: as the topic says
    #[arg(long, visible_alias = "max-length", value_name = "MESSAGES")]
    pub capacity: Option<u64>,
    /// What happens to more: reject, drop-oldest, redirect:TOPIC or redirect:TOPIC:PARTITION
    #[arg(long, visible_alias = "overflow", value_name = "POLICY")]
    pub on_full: Option<String>,
    /// The broadcast that it subscribes to, beside others that all get every message; empty:
    /// it competes
    #[arg(long, value_name = "NAME")]
    pub broadcast: Option<String>,
    /// Whether an older weir.version of a key is left out once a newer one was delivered
    #[arg(long)]
    pub versioned: Option<bool>,
    /// Forgotten after so long without a receive; 0: 24h with --broadcast, else never
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expires: Option<u64>,
    /// A new group begins at the start of the topic, not at its end
    #[arg(long)]
    pub from_start: bool,
}

fn duration(text: &str) -> Result<u64, String> {
    time::duration(text).ok_or_else(|| "write a duration such as 500ms, 30s, 10m or 2h".to_owned())
}

/// Reads what `--backoff` takes.
fn backoff(text: &str) -> Result<BackoffView, String> {
    if text == "ladder" {
        return Ok(BackoffView::Named(NamedBackoff::Ladder));
    }
    let Some(fields) = text.strip_prefix("exponential") else {
        let steps: Result<Vec<u64>, String> = text.split(',').map(duration).collect();
        return steps.map(BackoffView::List);
    };
    let mut view = ExponentialView::default();
    let fields = fields.strip_prefix(':').unwrap_or(fields);
    for field in fields.split(',').filter(|field| !field.is_empty()) {
        match field.split_once('=') {
            Some(("initial", value)) => view.initial = duration(value)?,
            Some(("max", value)) => view.max = duration(value)?,
            Some(("multiplier", value)) => view.multiplier_percent = factor(value)?,
            Some(("jitter", value)) => view.jitter_percent = percent(value)?,
            Some(_) | None => {
                return Err(format!(
                    "{field:?} is none of initial=, max=, multiplier=, jitter="
                ));
            }
        }
    }
    Ok(BackoffView::Exponential(view))
}

/// `2` or `1.5`, in percent.
fn factor(text: &str) -> Result<u16, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<2}");
    let right = fraction.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let percent = digits.parse().ok().filter(|_| right);
    percent.ok_or_else(|| "write a multiplier such as 2 or 1.5; 1 to 10".to_owned())
}

fn percent(text: &str) -> Result<u8, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse();
    percent.map_err(|_| "write a jitter such as 20%; 0 to 50".to_owned())
}

pub(super) fn run(args: &SetArgs, session: &mut Session<'_>) -> Result<()> {
    let (topic, group) = (segment(&args.topic), segment(&args.group));
    let wish = AlterQueueGroup {
        attempts: args.attempts,
        backoff: args.backoff.clone(),
        fifo: args.fifo,
        lease: args.lease,
        rate: args.rate,
        concurrency: args.concurrency,
        key_concurrency: args.key_concurrency,
        dead_letter: args.dead_letter.clone(),
        capacity: args.capacity,
        on_full: args.on_full.clone(),
        broadcast: args.broadcast.clone(),
        versioned: args.versioned,
        expires: args.expires,
        from_start: args.from_start,
    };
    let view: TopicView = session.client.get(&format!("/v1/topics/{topic}"))?;
    let path = format!("/v1/queues/{topic}/groups/{group}");
    let (mut done, all) = (0, view.partitions.len());
    for node in session.client.cluster()?.nodes {
        let leads = view.partitions.iter().any(|p| p.leader == Some(node.id));
        let Some(admin) = node.endpoints.get("admin").filter(|_| leads) else {
            continue;
        };
        let node = Client::new(vec![admin.clone()]);
        match node.send::<AlteredQueueGroup>(Method::PATCH, &path, Some(&wish)) {
            Ok(set) => done += set.partitions,
            Err(error) if done == 0 => return Err(error),
            Err(error) => bail!("set on {done} of {all} partitions, then: {error:#}; set it again"),
        }
    }
    if done != all {
        bail!("set on {done} of {all} partitions, the others were not led; set it again");
    }
    let done = Done {
        message: format!("group '{}' set on {all} partitions", args.group),
        id: None,
    };
    session.show(&done, print_done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_read_as_people_write_them() {
        assert_eq!(
            backoff("1s,3s,5000"),
            Ok(BackoffView::List(vec![1_000, 3_000, 5_000]))
        );
        let default = BackoffView::Exponential(ExponentialView::default());
        assert_eq!(backoff("exponential"), Ok(default));
        let fields = backoff("exponential:initial=2s,max=1m,multiplier=1.5,jitter=10%");
        let expected = ExponentialView {
            initial: 2_000,
            max: 60_000,
            multiplier_percent: 150,
            jitter_percent: 10,
        };
        assert_eq!(fields, Ok(BackoffView::Exponential(expected)));
        for bad in [
            "",
            "1s,",
            "linear",
            "exponential:grow=2",
            "exponential:multiplier=2.123",
            "exponential:jitter=300",
        ] {
            assert!(backoff(bad).is_err(), "{bad}");
        }
    }
}
