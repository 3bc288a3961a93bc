//! AckMessage: deliveries are settled for good, each with its own result.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_api::queue::Settlement;
use weir_api::queues::Receipt;

use super::queue;
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::names;
use crate::proto::{AckMessageRequest, AckMessageResponse, AckMessageResultEntry, Code, Status};

/// Receipts of one request.
const ENTRIES_MAX: usize = 1024;

pub(crate) async fn handle(
    call: Call,
    request: AckMessageRequest,
) -> Result<AckMessageResponse, Refusal> {
    let group: Arc<str> = names::group(request.group.as_ref())?.into();
    let topic = queue::topic(&call, request.topic.as_ref())?;
    if request.entries.is_empty() || request.entries.len() > ENTRIES_MAX {
        return Err(Refusal::new(
            Code::BadRequest,
            format!(
                "{} receipts: send 1 to {ENTRIES_MAX}",
                request.entries.len()
            ),
        ));
    }
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut partitions: BTreeMap<u32, Vec<(usize, Receipt)>> = BTreeMap::new();
    for entry in request.entries {
        let mut result = AckMessageResultEntry {
            message_id: entry.message_id,
            status: None,
            receipt_handle: entry.receipt_handle,
        };
        match errors::receipt(&result.receipt_handle) {
            Ok(receipt) => {
                let of = partitions.entry(receipt.partition).or_default();
                of.push((entries.len(), receipt));
            }
            Err(refusal) => result.status = Some(refusal.into()),
        }
        entries.push(result);
    }
    for (partition, receipts) in partitions {
        let at = queue::partition(&topic, partition);
        let (places, receipts): (Vec<usize>, Vec<Receipt>) = receipts.into_iter().unzip();
        let acked = queue::settle(&call, at, Arc::clone(&group), Settlement::Ack(receipts)).await;
        let statuses: Vec<Status> = match acked {
            Ok(results) => results
                .into_iter()
                .map(|result| {
                    result.map_or_else(|error| errors::bad_receipt(&error).into(), |()| ok())
                })
                .collect(),
            Err(error) => vec![errors::settling(&error).into(); places.len()],
        };
        for (place, status) in places.into_iter().zip(statuses) {
            if let Some(entry) = entries.get_mut(place) {
                entry.status = Some(status);
            }
        }
    }
    let statuses = entries.iter().filter_map(|entry| entry.status.as_ref());
    Ok(AckMessageResponse {
        status: Some(errors::overall(statuses)),
        entries,
    })
}
