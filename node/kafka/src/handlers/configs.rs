//! What the config handlers share: which resource a request means.

use weir_api::AdminError;
use weir_api::admin::ConfigResource;

use crate::context::Call;

/// Kafka's numbers of resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// The resource named by type and name. Nodes have no configs of their own to change
/// here: a broker resource means all of them, and must be unnamed unless only read.
pub(super) fn resource(
    call: &Call,
    kind: i8,
    name: &str,
    to_change: bool,
) -> Result<ConfigResource, AdminError> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        BROKER if to_change => {
            let why = "configs are changed for all brokers: leave the broker's name empty";
            Err(AdminError::InvalidRequest(why.to_owned()))
        }
        BROKER => {
            let image = call.shared.image();
            let node = name.parse().ok().map(weir_base::NodeId);
            match node.filter(|node| image.nodes.contains_key(node)) {
                Some(_) => Ok(ConfigResource::Cluster),
                None => Err(AdminError::InvalidRequest(format!("no broker '{name}'"))),
            }
        }
        other => {
            let why = format!("resource type {other} has no configs here");
            Err(AdminError::InvalidRequest(why))
        }
    }
}
