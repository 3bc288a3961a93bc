//! From a request to the commands that carry it out. Pure.

use std::collections::BTreeMap;

use weir_base::Uuid;
use weir_base::image::{ClusterImage, TopicRecord};

use super::{elect, fence, place, reassign, resign};
use crate::ask::{Ask, ConfigChange, ConfigOp, ConfigResource, NewTopic, Resignation};
use crate::command::{Command, Item, Refusal};
use crate::topic_options::{Kind, cluster_option, topic_option, value};

/// Plans what `ask` wants of `image`. `fresh` is an id that was never used. An empty
/// item means that there is nothing to do.
pub(crate) fn plan(image: &ClusterImage, ask: &Ask, fresh: Uuid) -> Result<Item, Refusal> {
    match ask {
        Ask::Register(registration) => Ok(fence::plan_registration(image, registration)),
        Ask::CreateTopic { topic, .. } => create_topic(image, topic, fresh),
        Ask::DeleteTopic(id) => Ok(vec![Command::DeleteTopic { id: *id }]),
        Ask::CreatePartitions {
            topic,
            total,
            assignment,
            ..
        } => create_partitions(image, topic, *total, assignment.as_deref()),
        Ask::AlterConfigs {
            resource,
            changes,
            replace,
            ..
        } => alter_configs(image, resource, changes, *replace),
        Ask::ElectPreferred(at) => elect::plan_preferred(image, *at),
        Ask::Reassign { at, target } => match target {
            Some(target) => reassign::plan_start(image, *at, target),
            None => reassign::plan_cancel(image, *at),
        },
        Ask::AlterPartition(proposal) => Ok(vec![Command::AlterPartition(proposal.clone())]),
        Ask::DurabilityReady {
            at,
            partition_epoch,
        } => Ok(vec![Command::SetDurability {
            at: *at,
            partition_epoch: *partition_epoch,
        }]),
        Ask::ProducerIds(count) => Ok(vec![Command::AllocateProducerIds { count: *count }]),
        Ask::PutDocument {
            key,
            expected,
            value,
        } => Ok(vec![Command::PutDocument {
            key: key.clone(),
            expected: *expected,
            value: value.clone(),
        }]),
        Ask::DeleteDocument { key, expected } => Ok(vec![Command::DeleteDocument {
            key: key.clone(),
            expected: *expected,
        }]),
        Ask::Drain { node, epoch } => {
            same_boot(image, *node, *epoch).map(|()| fence::plan_drain(image, *node))
        }
        Ask::Leave { node, epoch } => {
            same_boot(image, *node, *epoch).map(|()| fence::plan_fence(image, *node))
        }
        Ask::Resign {
            at,
            node,
            epoch,
            what,
        } => {
            same_boot(image, *node, *epoch)?;
            match what {
                Resignation::Replica { id, .. } => resign::plan_replica(image, *at, *node, *id),
                Resignation::Leadership { epoch } => {
                    resign::plan_leadership(image, *at, *node, *epoch)
                }
            }
        }
        // What is planned of them depends on what others told: the task's business.
        Ask::LogEnds { node, epoch, .. } => same_boot(image, *node, *epoch).map(|()| Item::new()),
        Ask::Heartbeat(_) | Ask::Suspect { .. } | Ask::Probe(_) => Ok(Item::new()),
    }
}

fn same_boot(
    image: &ClusterImage,
    id: weir_base::NodeId,
    sent: weir_base::NodeEpoch,
) -> Result<(), Refusal> {
    match image.nodes.get(&id).map(|node| node.epoch) {
        Some(current) if current == sent => Ok(()),
        Some(current) => Err(Refusal::StaleNodeEpoch { id, sent, current }),
        None => Err(Refusal::UnknownNode(id)),
    }
}

fn create_topic(image: &ClusterImage, topic: &NewTopic, id: Uuid) -> Result<Item, Refusal> {
    // Before placing, so that an existing topic is told as such and not by a side issue.
    if image.topics.contains_key(topic.name.as_str()) {
        return Err(Refusal::TopicExists(topic.name.clone()));
    }
    if weir_base::companion::parent_of(&topic.name).is_some() {
        // It is laid beside its parent when it is applied.
        return Ok(vec![Command::CreateTopic {
            id,
            name: topic.name.clone(),
            internal: topic.internal,
            configs: topic.configs.clone(),
            replicas: Vec::new(),
        }]);
    }
    let replicas = match &topic.assignment {
        Some(given) => {
            place::check_given(image, given)?;
            given.clone()
        }
        None => {
            let partitions = topic
                .partitions
                .unwrap_or_else(|| place::default_partitions(image));
            check_total(partitions)?;
            let factor = topic
                .replication_factor
                .unwrap_or_else(|| place::default_replication_factor(image));
            place::place(image, partitions, factor)?
        }
    };
    Ok(vec![Command::CreateTopic {
        id,
        name: topic.name.clone(),
        internal: topic.internal,
        configs: topic.configs.clone(),
        replicas,
    }])
}

/// Bounds what is placed before anything is allocated for it.
fn check_total(partitions: u32) -> Result<(), Refusal> {
    let most = weir_base::limits::PARTITIONS_PER_TOPIC_MAX;
    if (1..=most).contains(&partitions) {
        Ok(())
    } else {
        Err(Refusal::InvalidPartitions(format!(
            "{partitions}: must be 1 to {most}"
        )))
    }
}

fn named<'a>(image: &'a ClusterImage, name: &str) -> Result<&'a TopicRecord, Refusal> {
    image
        .topics
        .get(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| Refusal::UnknownTopic(name.to_owned()))
}

fn create_partitions(
    image: &ClusterImage,
    name: &str,
    total: u32,
    given: Option<&[Vec<weir_base::NodeId>]>,
) -> Result<Item, Refusal> {
    let topic = named(image, name)?;
    check_total(total)?;
    let has = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let more = total.checked_sub(has).filter(|more| *more > 0);
    let more = more.ok_or_else(|| {
        Refusal::InvalidPartitions(format!(
            "topic '{name}' has {has} partitions, asked for {total}"
        ))
    })?;
    let replicas = match given {
        Some(given) => {
            place::check_given(image, given)?;
            if u32::try_from(given.len()) != Ok(more) {
                return Err(Refusal::InvalidAssignment(format!(
                    "{} assignments for {more} new partitions",
                    given.len()
                )));
            }
            given.to_vec()
        }
        None => {
            let width = topic.partitions.first().map_or(1, |first| {
                first.replicas.len().saturating_sub(first.adding.len())
            });
            place::place(image, more, u16::try_from(width).unwrap_or(u16::MAX))?
        }
    };
    let mut item = keep_groups(topic, has);
    item.push(Command::CreatePartitions {
        id: topic.id,
        from: has,
        replicas,
    });
    Ok(item)
}

/// Message groups stay where their messages wait (decisions/0006): the topic remembers over how
/// many partitions they are spread, unless it was told.
fn keep_groups(topic: &TopicRecord, has: u32) -> Item {
    const KEY: &str = "weir.message.group.partitions";
    let takes_groups = match topic.configs.get("weir.message.type").map(String::as_str) {
        Some("normal" | "delay" | "transaction") => false,
        Some(_) | None => true,
    };
    if topic.internal || !takes_groups || topic.configs.contains_key(KEY) {
        return Vec::new();
    }
    let mut configs = topic.configs.clone();
    configs.insert(KEY.to_owned(), has.to_string());
    vec![Command::SetTopicConfigs {
        id: topic.id,
        configs,
    }]
}

fn alter_configs(
    image: &ClusterImage,
    resource: &ConfigResource,
    changes: &[ConfigChange],
    replace: bool,
) -> Result<Item, Refusal> {
    let before = match resource {
        ConfigResource::Topic(name) => &named(image, name)?.configs,
        ConfigResource::Cluster => &image.configs,
    };
    let mut configs = if replace {
        BTreeMap::new()
    } else {
        before.clone()
    };
    for change in changes {
        let option = match resource {
            ConfigResource::Topic(_) => topic_option(&change.key),
            ConfigResource::Cluster => cluster_option(&change.key),
        };
        let option = option
            .ok_or_else(|| Refusal::InvalidConfig(format!("unknown config '{}'", change.key)))?;
        let current = value(option, &image.configs, &configs).to_owned();
        let next = match &change.op {
            ConfigOp::Set(value) => Some(value.clone()),
            ConfigOp::Delete => None,
            ConfigOp::Append(_) | ConfigOp::Subtract(_) if option.kind != Kind::List => {
                return Err(Refusal::InvalidConfig(format!(
                    "'{}' is no list: only set and delete apply",
                    change.key
                )));
            }
            ConfigOp::Append(more) => Some(edit_list(&current, more, true)),
            ConfigOp::Subtract(less) => Some(edit_list(&current, less, false)),
        };
        match next {
            Some(value) => configs.insert(change.key.clone(), value),
            None => configs.remove(&change.key),
        };
    }
    Ok(vec![match resource {
        ConfigResource::Topic(name) => Command::SetTopicConfigs {
            id: named(image, name)?.id,
            configs,
        },
        ConfigResource::Cluster => Command::SetClusterConfigs { configs },
    }])
}

fn edit_list(list: &str, change: &str, add: bool) -> String {
    let words = |text: &str| -> Vec<String> {
        text.split(',')
            .map(|word| word.trim().to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    let changed = words(change);
    let mut all = words(list);
    all.retain(|word| !changed.contains(word));
    if add {
        all.extend(changed);
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, nodes, run, topic};

    fn change(key: &str, op: ConfigOp) -> ConfigChange {
        ConfigChange {
            key: key.to_owned(),
            op,
        }
    }

    #[test]
    fn a_topic_gets_the_clusters_defaults() {
        let mut image = cluster(2);
        let ask = Ask::CreateTopic {
            topic: NewTopic {
                name: "t".to_owned(),
                ..NewTopic::default()
            },
            validate_only: false,
        };
        let item = plan(&image, &ask, Uuid([1; 16])).unwrap();
        run(&mut image, item).unwrap();
        let made = image.topics["t"].clone();
        assert_eq!(made.partitions.len(), 1);
        assert_eq!(made.partitions[0].replicas.len(), 2);
        assert_eq!(
            plan(&image, &ask, Uuid([2; 16])),
            Err(Refusal::TopicExists("t".to_owned()))
        );
    }

    #[test]
    fn absurd_numbers_are_refused_before_anything_is_placed() {
        let image = cluster(1);
        for partitions in [0, u32::MAX] {
            let ask = Ask::CreateTopic {
                topic: NewTopic {
                    name: "t".to_owned(),
                    partitions: Some(partitions),
                    ..NewTopic::default()
                },
                validate_only: false,
            };
            assert!(matches!(
                plan(&image, &ask, Uuid([1; 16])),
                Err(Refusal::InvalidPartitions(_))
            ));
        }
    }

    #[test]
    fn partitions_only_grow_and_assignments_must_fit() {
        let mut image = cluster(3);
        topic(&mut image, "t", &[1, 2], &[]);
        let ask = |total, assignment| Ask::CreatePartitions {
            topic: "t".to_owned(),
            total,
            assignment,
            validate_only: false,
        };
        for bad in [ask(0, None), ask(1, None), ask(3, Some(vec![nodes(&[1])]))] {
            assert!(plan(&image, &bad, Uuid::ZERO).is_err(), "{bad:?}");
        }
        let item = plan(&image, &ask(3, None), Uuid::ZERO).unwrap();
        run(&mut image, item).unwrap();
        let made = &image.topics["t"].partitions;
        assert_eq!(made.len(), 3);
        assert!(made.iter().all(|p| p.replicas.len() == 2));
        // Message groups stay where they are, however often it grows.
        let item = plan(&image, &ask(4, None), Uuid::ZERO).unwrap();
        run(&mut image, item).unwrap();
        let grown = &image.topics["t"];
        assert_eq!(grown.partitions.len(), 4);
        assert_eq!(grown.configs["weir.message.group.partitions"], "1");
        topic(&mut image, "n", &[1, 2], &[("weir.message.type", "normal")]);
        let ask = Ask::CreatePartitions {
            topic: "n".to_owned(),
            total: 2,
            assignment: None,
            validate_only: false,
        };
        let item = plan(&image, &ask, Uuid::ZERO).unwrap();
        run(&mut image, item).unwrap();
        assert_eq!(image.topics["n"].configs.len(), 1);
    }

    #[test]
    fn configs_are_set_deleted_and_edited_as_lists() {
        let mut image = cluster(1);
        topic(&mut image, "t", &[1], &[("retention.ms", "5")]);
        let alter = |changes, replace| Ask::AlterConfigs {
            resource: ConfigResource::Topic("t".to_owned()),
            changes,
            replace,
            validate_only: false,
        };
        let compact = || "compact".to_owned();
        let steps = [
            (
                vec![change("cleanup.policy", ConfigOp::Append(compact()))],
                false,
            ),
            (
                vec![
                    change("cleanup.policy", ConfigOp::Subtract("delete".to_owned())),
                    change("retention.ms", ConfigOp::Delete),
                ],
                false,
            ),
            (
                vec![change("segment.ms", ConfigOp::Set("9".to_owned()))],
                true,
            ),
        ];
        let expected = ["delete,compact 5", "compact -", "- -"];
        for ((changes, replace), expected) in steps.into_iter().zip(expected) {
            let item = plan(&image, &alter(changes, replace), Uuid::ZERO).unwrap();
            run(&mut image, item).unwrap();
            let set = &image.topics["t"].configs;
            let text = |key: &str| set.get(key).map_or("-", String::as_str).to_owned();
            assert_eq!(
                format!("{} {}", text("cleanup.policy"), text("retention.ms")),
                expected
            );
        }
        for bad in [
            change("retention.ms", ConfigOp::Append("1".to_owned())),
            change("no.such", ConfigOp::Delete),
        ] {
            assert!(plan(&image, &alter(vec![bad], false), Uuid::ZERO).is_err());
        }
    }
}
