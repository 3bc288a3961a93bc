//! The shapes of requests in their versions before flexible encoding.
//!
//! Those versions count arrays in plain 32-bit numbers, and the decoder reserves memory
//! by them. Each request is walked by its shape first: an array whose elements are not
//! really there ends the walk before anything is reserved.
//!
//! Notation: `4` skips so many bytes, `s` is a string (16-bit length, -1 null), `b` is
//! bytes (32-bit length, -1 null), `[..]` an array; `@3` means from version 3 on, `@2-4`
//! only in those.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use thiserror::Error;

/// Most array elements of one request, nested ones included: bounds what decoding takes.
const ELEMENTS_MAX: usize = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum ShapeError {
    #[error("message ends early")]
    Short,
    #[error("length is negative")]
    Negative,
    #[error("more than {ELEMENTS_MAX} array elements")]
    Elements,
}

/// Checks that `body` really holds the arrays it counts.
pub(super) fn check(api: ApiKey, version: i16, body: &Bytes) -> Result<(), ShapeError> {
    let mut walk = Walk {
        body: &body[..],
        version,
        elements: 0,
    };
    walk.fields(shape(api).as_bytes(), true)?;
    Ok(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "apis that are not served are refused before"
)]
fn shape(api: ApiKey) -> &'static str {
    match api {
        ApiKey::Fetch => "4 4 4 4 1 4@7 4@7 [s [4 4@9 8 8@5 4]] [s [4]]@7 s@11",
        ApiKey::ListOffsets => "4 1@2 [s [4 4@4 8]]",
        ApiKey::Metadata => "[s] 1@4 2@8",
        ApiKey::OffsetCommit => "s 4 s s@7 8@2-4 [s [4 8 4@6 s]]",
        ApiKey::OffsetFetch => "s [s [4]]",
        ApiKey::FindCoordinator => "s 1@1",
        ApiKey::JoinGroup => "s 4 4@1 s s@5 s [s b]",
        ApiKey::Heartbeat => "s 4 s s@3",
        ApiKey::LeaveGroup => "s s@0-2 [s s]@3",
        ApiKey::SyncGroup => "s 4 s s@3 [s b]",
        ApiKey::DescribeGroups => "[s] 1@3",
        ApiKey::CreateTopics => "[s 4 2 [4 [4]] [s s]] 4 1",
        ApiKey::DeleteTopics => "[s] 4",
        ApiKey::DeleteRecords => "[s [4 8]] 4",
        ApiKey::InitProducerId => "s 4",
        ApiKey::OffsetForLeaderEpoch => "4@3 [s [4 4 4]]",
        ApiKey::DescribeConfigs => "[1 s [s]] 1 1@3",
        ApiKey::AlterConfigs => "[1 s [s s]] 1",
        ApiKey::IncrementalAlterConfigs => "[1 s [s 1 s]] 1",
        ApiKey::DescribeLogDirs => "[s [4]]",
        ApiKey::CreatePartitions => "[s 4 [[4]]] 4 1",
        ApiKey::DeleteGroups => "[s]",
        ApiKey::ElectLeaders => "1@1 [s [4]] 4",
        ApiKey::OffsetDelete => "s [s [4]]",
        _ => "",
    }
}

struct Walk<'a> {
    body: &'a [u8],
    version: i16,
    elements: usize,
}

impl Walk<'_> {
    /// Walks the fields of one shape up to its end or the closing bracket; gives the
    /// shape behind that. With `live` false only the shape is stepped over.
    fn fields<'s>(&mut self, mut shape: &'s [u8], live: bool) -> Result<&'s [u8], ShapeError> {
        while let Some((token, rest)) = shape.split_first() {
            shape = match token {
                b' ' => rest,
                b']' => return Ok(rest),
                b'[' => self.array(rest, live)?,
                kind => {
                    let (wanted, rest) = self.condition(rest);
                    if live && wanted {
                        self.scalar(*kind)?;
                    }
                    rest
                }
            };
        }
        Ok(shape)
    }

    fn array<'s>(&mut self, inner: &'s [u8], live: bool) -> Result<&'s [u8], ShapeError> {
        let behind = self.fields(inner, false)?;
        let (wanted, behind) = self.condition(behind);
        if !(live && wanted) {
            return Ok(behind);
        }
        let count = match self.body.try_get_i32().map_err(|_| ShapeError::Short)? {
            -1 => 0,
            count => usize::try_from(count).map_err(|_| ShapeError::Negative)?,
        };
        // Every element takes at least one byte.
        if count > self.body.len() {
            return Err(ShapeError::Short);
        }
        self.elements += count;
        if self.elements > ELEMENTS_MAX {
            return Err(ShapeError::Elements);
        }
        for _ in 0..count {
            self.fields(inner, true)?;
        }
        Ok(behind)
    }

    fn scalar(&mut self, kind: u8) -> Result<(), ShapeError> {
        let length = match kind {
            b's' => match self.body.try_get_i16().map_err(|_| ShapeError::Short)? {
                -1 => 0,
                length => usize::try_from(length).map_err(|_| ShapeError::Negative)?,
            },
            b'b' => match self.body.try_get_i32().map_err(|_| ShapeError::Short)? {
                -1 => 0,
                length => usize::try_from(length).map_err(|_| ShapeError::Negative)?,
            },
            digit => usize::from(digit - b'0'),
        };
        self.body = self.body.get(length..).ok_or(ShapeError::Short)?;
        Ok(())
    }

    /// Reads `@3` or `@2-4` off the shape: whether the field is there, and what follows.
    fn condition<'s>(&self, shape: &'s [u8]) -> (bool, &'s [u8]) {
        let digit = |byte: &u8| i16::from(byte - b'0');
        match shape {
            [b'@', one @ b'1', two @ b'0'..=b'9', rest @ ..] => {
                (self.version >= 10 * digit(one) + digit(two), rest)
            }
            [b'@', from, b'-', to, rest @ ..] => {
                ((digit(from)..=digit(to)).contains(&self.version), rest)
            }
            [b'@', from, rest @ ..] => (self.version >= digit(from), rest),
            rest => (true, rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::RequestKind;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::versions::SERVED;

    /// Mostly small numbers: such bodies parse deep.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![6 => Just(0u8), 2 => 1u8..4, 1 => Just(0xffu8), 1 => any::<u8>()];
        proptest::collection::vec(byte, 0..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_walk_and_the_decoder_agree_on_every_shape(body in bodies()) {
            let body = Bytes::from(body);
            for row in SERVED.iter().filter(|row| row.api as i16 != 0) {
                for version in row.min..=row.max {
                    if row.api.request_header_version(version) >= 2 {
                        continue;
                    }
                    let mut walk = Walk { body: &body[..], version, elements: 0 };
                    if walk.fields(shape(row.api).as_bytes(), true).is_err() {
                        continue;
                    }
                    let left = walk.body.len();
                    let mut rest = body.clone();
                    if RequestKind::decode(row.api, &mut rest, version).is_ok() {
                        prop_assert_eq!(left, rest.len(), "{:?} {}", row.api, version);
                    }
                }
            }
        }
    }
}
