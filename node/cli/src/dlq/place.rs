//! Where the dead letters of a group lie: on `dlq.<group>`, which is for them alone, or where
//! its settings say, perhaps among those of other groups.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow, bail};
use weir_api::console::{QueueLine, parse_target};

use super::LettersOf;
use crate::client::{Client, segment};
use crate::queue::of_all;

/// Where to look for letters of one group.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) topic: String,
    /// The one partition that has them; none: all of the topic.
    pub(super) partition: Option<u32>,
    /// The group, where others may have their letters beside its own.
    pub(super) among: Option<String>,
}

impl Place {
    /// As it is told, or else as the group's settings say; a group that is nowhere set has its
    /// letters where groups have them by default.
    pub(super) fn of(client: &Client, of: &LettersOf) -> Result<Place> {
        let group = &of.group;
        let by_name = format!("dlq.{group}");
        let text = match &of.letters {
            Some(text) => text.clone(),
            None => {
                let lines: Vec<QueueLine> = of_all(client, "/v1/queues")?;
                let lines = lines.into_iter().filter(|line| line.group == *group);
                let targets = lines.map(|line| line.settings.dead_letter);
                let targets: BTreeSet<String> = targets.filter(|to| !to.is_empty()).collect();
                if targets.len() > 1 {
                    let all: Vec<String> = targets.into_iter().collect();
                    bail!(
                        "letters of group '{group}' go to {}; say which with --letters",
                        all.join(", ")
                    );
                }
                targets
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| by_name.clone())
            }
        };
        let target = parse_target(&text).ok_or_else(|| {
            anyhow!("'{text}' is no place of letters; write TOPIC or TOPIC:PARTITION")
        })?;
        let is_alone = *target.topic == *by_name;
        Ok(Place {
            topic: target.topic.to_string(),
            partition: (!is_alone).then_some(target.partition),
            among: (!is_alone).then(|| group.clone()),
        })
    }

    /// Of the admin API.
    pub(super) fn path(&self) -> String {
        format!("/v1/dlq/{}", segment(&self.topic))
    }
}

/// Who sends letters to a topic.
#[derive(Debug, Default)]
pub(super) struct Users {
    groups: BTreeSet<String>,
    partitions: BTreeSet<u32>,
}

impl Users {
    /// Their names.
    pub(super) fn groups(&self) -> String {
        let names: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        names.join(", ")
    }

    /// The partitions that they name.
    pub(super) fn partitions(&self) -> BTreeSet<u32> {
        self.partitions.clone()
    }
}

/// The topics that groups name for their letters.
pub(super) fn said(client: &Client) -> Result<BTreeMap<String, Users>> {
    let lines: Vec<QueueLine> = of_all(client, "/v1/queues")?;
    let mut said: BTreeMap<String, Users> = BTreeMap::new();
    for line in lines {
        if let Some(target) = parse_target(&line.settings.dead_letter) {
            let users = said.entry(target.topic.to_string()).or_default();
            users.groups.insert(line.group);
            users.partitions.insert(target.partition);
        }
    }
    Ok(said)
}
