//! Bytes to typed requests and typed responses to bytes.
//!
//! The messages are those of crate `kafka-protocol`, but two: produce requests
//! ([`produce`]), whose record batches stay slices of the frame, and fetch responses
//! ([`fetch`]), whose payload is written as it is. The crate reserves memory for as
//! many array elements as a message claims, so nothing reaches it unchecked: see
//! [`guard`] and [`schema`].

pub(crate) mod fetch;
mod guard;
pub(crate) mod produce;
mod schema;
pub(crate) mod versions;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use crate::close::CloseReason;
use guard::Guarded;

/// What precedes every request's body.
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) client_id: Option<StrBytes>,
}

impl RequestHead {
    /// Takes the header off the front of a frame.
    pub(crate) fn read(frame: &mut Bytes) -> Result<RequestHead, CloseReason> {
        let malformed = |_| CloseReason::MalformedHeader;
        let key = frame.try_get_i16().map_err(malformed)?;
        let version = frame.try_get_i16().map_err(malformed)?;
        let correlation = frame.try_get_i32().map_err(malformed)?;
        let api = ApiKey::try_from(key).map_err(|()| CloseReason::UnknownApi(key))?;
        let client_id = match frame.try_get_i16().map_err(malformed)? {
            -1 => None,
            length => Some(
                usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= frame.len())
                    .and_then(|length| StrBytes::from_utf8(frame.split_to(length)).ok())
                    .ok_or(CloseReason::MalformedHeader)?,
            ),
        };
        if api.request_header_version(version) >= 2 {
            skip_tags(frame).ok_or(CloseReason::MalformedHeader)?;
        }
        Ok(RequestHead {
            api,
            version,
            correlation,
            client_id,
        })
    }

    pub(crate) fn malformed(&self, detail: impl ToString) -> CloseReason {
        CloseReason::Malformed {
            api: self.api as i16,
            version: self.version,
            detail: detail.to_string(),
        }
    }

    /// Decodes a body with the crate, behind the guards.
    pub(crate) fn decode<R: Decodable>(&self, body: Bytes) -> Result<R, CloseReason> {
        if self.api.request_header_version(self.version) < 2 {
            schema::check(self.api, self.version, &body).map_err(|why| self.malformed(why))?;
        }
        R::decode(&mut Guarded::new(body), self.version).map_err(|why| self.malformed(why))
    }

    /// Encodes a response, length prefix and header included.
    pub(crate) fn encode<R: Encodable + HeaderVersion>(
        &self,
        response: &R,
    ) -> Result<Bytes, CloseReason> {
        let unencodable = |error: String| CloseReason::Unencodable {
            api: self.api as i16,
            version: self.version,
            detail: error,
        };
        let size = response
            .compute_size(self.version)
            .map_err(|error| unencodable(error.to_string()))?;
        let mut out = BytesMut::with_capacity(size + 16);
        out.put_i32(0);
        ResponseHeader::default()
            .with_correlation_id(self.correlation)
            .encode(&mut out, R::header_version(self.version))
            .and_then(|()| response.encode(&mut out, self.version))
            .map_err(|error| unencodable(error.to_string()))?;
        put_length(&mut out, 0);
        Ok(out.freeze())
    }
}

/// Writes the frame length over the first four bytes: what `out` holds after them and
/// `more` bytes that follow elsewhere.
pub(crate) fn put_length(out: &mut BytesMut, more: usize) {
    let length = i32::try_from(out.len() - 4 + more).unwrap_or(i32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
}

/// An unsigned varint of at most five bytes; `None` if malformed or too short.
pub(crate) fn get_uvarint(bytes: &mut Bytes) -> Option<u32> {
    let mut value = 0u32;
    for at in 0..5 {
        let byte = bytes.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f).checked_shl(7 * at)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.put_u8(low & 0x7f);
        }
        out.put_u8(low | 0x80);
    }
}

/// Steps over a section of tagged fields.
pub(crate) fn skip_tags(bytes: &mut Bytes) -> Option<()> {
    for _ in 0..get_uvarint(bytes)? {
        get_uvarint(bytes)?;
        let size = usize::try_from(get_uvarint(bytes)?).ok()?;
        if size > bytes.len() {
            return None;
        }
        bytes.advance(size);
    }
    Some(())
}
