//! What the config handlers share: which resource a request means, and changing one
//! after the other.

use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;
use weir_api::admin::{ConfigChange, ConfigResource};

use crate::context::Call;
use crate::errors::{self, NONE};

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

/// A resource to be changed, as a request names it.
pub(super) struct Wanted {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    pub(super) changes: Result<Vec<ConfigChange>, AdminError>,
}

/// What came of it.
pub(super) struct Altered {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    pub(super) code: i16,
    pub(super) message: Option<StrBytes>,
}

/// Changes one resource after the other; each is changed as a whole or not at all.
/// `replace` drops what is not among its changes.
pub(super) async fn alter_all(
    call: &Call,
    resources: impl Iterator<Item = Wanted>,
    replace: bool,
    validate_only: bool,
) -> Vec<Altered> {
    let mut all = Vec::new();
    for wanted in resources {
        let Wanted {
            kind,
            name,
            changes,
        } = wanted;
        let altered = async {
            let resource = resource(call, kind, &name, true)?;
            let admin = &call.shared.api.admin;
            let altering = admin.alter_configs(resource, changes?, replace, validate_only);
            altering.await
        };
        let error = altered.await.err();
        all.push(Altered {
            code: error
                .as_ref()
                .map_or(NONE, |error| errors::admin(error).code()),
            message: error.map(|error| StrBytes::from_string(error.to_string())),
            kind,
            name,
        });
    }
    all
}
