//! I5 to I7, I9, I10 of what the controller decides: every image is sound, and so is
//! every step to the next. The rules themselves are `weir_metadata::invariants`.

use std::sync::Arc;

use weir_base::image::ClusterImage;
use weir_metadata::invariants::{check_image, check_step};

use super::{Check, Told};
use crate::probe::Seen;

#[derive(Default)]
pub(super) struct Records(Option<Arc<ClusterImage>>);

impl Check for Records {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let newest = &seen.newest;
        let before = self.0.replace(Arc::clone(newest));
        let before = before.filter(|before| before.version != newest.version);
        let Some(before) = before else {
            return vec![];
        };
        let checks = [check_image(newest), check_step(&before, newest)];
        let broken = checks.into_iter().filter_map(Result::err);
        broken.map(|violation| violation.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    #[test]
    fn an_unsound_record_is_flagged() {
        let mut check = Records::default();
        let sound = Scene::new().leader(1, 1, 5).isr(&[1, 2]);
        assert!(
            check
                .look(&sound.clone().version(1).seen(), &Told::new())
                .is_empty()
        );
        assert!(
            check
                .look(&sound.clone().version(2).seen(), &Told::new())
                .is_empty()
        );
        // The leader is not in the ISR (I5).
        let bad = sound.isr(&[2]).version(3).seen();
        let broken = check.look(&bad, &Told::new());
        assert!(broken.iter().any(|b| b.contains("I5")), "{broken:?}");
    }
}
