//! `weir queue set`: each node is told what it sets on the partitions that it leads.

use anyhow::{Result, bail};
use clap::Args;
use ureq::http::Method;
use weir_api::console::{AlterQueueGroup, AlteredQueueGroup, Done, TopicView};

use crate::Session;
use crate::client::{Client, segment};
use crate::topic::print_done;

/// For `weir queue set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The topic
    pub topic: String,
    /// The group; it is made if there is none
    pub group: String,
    /// Deliveries of one message before it is dead-lettered
    #[arg(long)]
    pub attempts: Option<u16>,
    /// Pauses before the next attempts in ms, such as 1000,3000,5000; the last one repeats
    #[arg(long, value_delimiter = ',')]
    pub backoff: Option<Vec<u64>>,
    /// Whether messages of one message group are delivered one after the other
    #[arg(long)]
    pub fifo: Option<bool>,
    /// Deliveries a second, of all partitions together; 0: as fast as it asks
    #[arg(long)]
    pub rate: Option<u32>,
    /// A new group begins at the start of the topic, not at its end
    #[arg(long)]
    pub from_start: bool,
}

pub(super) fn run(args: &SetArgs, session: &mut Session<'_>) -> Result<()> {
    let (topic, group) = (segment(&args.topic), segment(&args.group));
    let wish = AlterQueueGroup {
        attempts: args.attempts,
        backoff: args.backoff.clone(),
        fifo: args.fifo,
        rate: args.rate,
        from_start: args.from_start,
    };
    let view: TopicView = session.client.get(&format!("/v1/topics/{topic}"))?;
    let path = format!("/v1/queues/{topic}/groups/{group}");
    let mut done = 0;
    for node in session.client.cluster()?.nodes {
        let leads = view.partitions.iter().any(|p| p.leader == Some(node.id));
        let Some(admin) = node.endpoints.get("admin").filter(|_| leads) else {
            continue;
        };
        let node = Client::new(vec![admin.clone()]);
        let set: AlteredQueueGroup = node.send(Method::PATCH, &path, Some(&wish))?;
        done += set.partitions;
    }
    let all = view.partitions.len();
    if done != all {
        bail!("set on {done} of {all} partitions, the others were not led; set it again");
    }
    let done = Done {
        message: format!("group '{}' set on {all} partitions", args.group),
        id: None,
    };
    session.show(&done, print_done)
}
