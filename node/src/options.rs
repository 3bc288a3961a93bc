//! All options of a node: one TOML file, overridden by environment variables.
//!
//! Owns how options are read, checked, documented and written. Rooms get plain values
//! from `wire_up`. An option exists once, in `sections`; the reference (`CONFIG.md`),
//! the variable names and the checks follow from it. Whatever is wrong becomes one line
//! that names the key, the value and the remedy, before anything is started.

mod load;
pub mod quantity;
mod reference;
mod rooms;
mod section;
mod sections;
mod validate;

pub use load::{Environment, Loaded, OptionsError, load};
pub use quantity::{ByteSize, HostPort, LogFormat, LogLevel, Voter};
pub use reference::reference;
pub use section::{Field, Input, Section};
pub use sections::{
    AdminSection, GroupsSection, KafkaSection, LogSection, MetadataSection, NodeSection,
    PeerSection, QueuesSection, ReplicationSection, RocketmqSection, StorageSection,
};
pub use validate::Invalid;

/// The options of one node.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "each section says what it is about")]
pub struct NodeOptions {
    pub node: NodeSection,
    pub log: LogSection,
    pub kafka: KafkaSection,
    pub rocketmq: RocketmqSection,
    pub admin: AdminSection,
    pub peer: PeerSection,
    pub metadata: MetadataSection,
    pub storage: StorageSection,
    pub replication: ReplicationSection,
    pub groups: GroupsSection,
    pub queues: QueuesSection,
}

impl NodeOptions {
    /// The sections, in the order of the reference.
    #[must_use]
    pub fn sections(&self) -> [&dyn Section; 11] {
        [
            &self.node,
            &self.log,
            &self.kafka,
            &self.rocketmq,
            &self.admin,
            &self.peer,
            &self.metadata,
            &self.storage,
            &self.replication,
            &self.groups,
            &self.queues,
        ]
    }

    fn sections_mut(&mut self) -> [&mut dyn Section; 11] {
        [
            &mut self.node,
            &mut self.log,
            &mut self.kafka,
            &mut self.rocketmq,
            &mut self.admin,
            &mut self.peer,
            &mut self.metadata,
            &mut self.storage,
            &mut self.replication,
            &mut self.groups,
            &mut self.queues,
        ]
    }

    /// The node's name for people.
    #[must_use]
    pub fn display_name(&self) -> String {
        if self.node.name.is_empty() {
            format!("weir-{}", self.node.id)
        } else {
            self.node.name.clone()
        }
    }

    /// The file that gives these options: every option that differs from its default,
    /// and those in `always` (`section.key`) in any case.
    #[must_use]
    pub fn to_toml(&self, always: &[&str]) -> String {
        let mut text = String::new();
        for (section, default) in self.sections().iter().zip(Self::default().sections()) {
            let changed: Vec<_> = section
                .fields()
                .iter()
                .map(|field| (field.key, section.show(field.key)))
                .filter(|(key, value)| {
                    let path = format!("{}.{key}", section.name());
                    let wanted = *value != default.show(key) || always.contains(&path.as_str());
                    wanted && !value.is_empty()
                })
                .collect();
            if changed.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("[{}]\n", section.name()));
            for (key, value) in changed {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text
    }
}

/// The environment variable of an option: `WEIR_KAFKA_LISTEN` for `kafka.listen`.
#[must_use]
pub fn variable(section: &str, key: &str) -> String {
    format!("WEIR_{}_{}", section, key).to_uppercase()
}

#[cfg(test)]
mod tests;
