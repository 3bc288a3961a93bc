//! I15: every node's image is a prefix of one history: at one version, all are equal.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_base::NodeId;
use weir_base::image::ClusterImage;

use super::{Check, Told};
use crate::probe::Seen;

/// Versions remembered; a node further behind is not compared.
const VERSIONS: usize = 2_000;

#[derive(Default)]
pub(super) struct Images {
    by_version: BTreeMap<u64, Arc<ClusterImage>>,
    compared: BTreeMap<NodeId, u64>,
}

impl Check for Images {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            let version = inside.image.version;
            if self.compared.insert(*node, version) == Some(version) {
                continue;
            }
            let first = self.by_version.entry(version);
            let first = first.or_insert_with(|| Arc::clone(&inside.image));
            if **first != *inside.image {
                broken.push(format!(
                    "I15: node {node} has another image of version {version} than others"
                ));
            }
        }
        while self.by_version.len() > VERSIONS {
            self.by_version.pop_first();
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    #[test]
    fn two_images_of_one_version_are_flagged() {
        let mut check = Images::default();
        let scene = || Scene::new().leader(1, 1, 5).version(3);
        assert!(check.look(&scene().seen(), &Told::new()).is_empty());
        let other = Scene::new().leader(2, 1, 5).version(3);
        assert_eq!(check.look(&other.seen(), &Told::new()).len(), 1);
        let later = Scene::new().leader(2, 1, 5).version(4);
        assert!(check.look(&later.seen(), &Told::new()).is_empty());
    }
}
