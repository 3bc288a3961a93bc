//! Queues of this node: none are hosted yet.

use weir_api::queue::{QueueApi, QueueCall, QueueCallError};
use weir_api::queues::{Payload, QueueCommand, QueueReply};
use weir_base::batch::Record;
use weir_base::{Offset, TopicPartition};

use crate::Broker;

impl QueueApi for Broker {
    fn call(&self, _at: TopicPartition, _command: QueueCommand) -> QueueCall<QueueReply> {
        Box::pin(async { Err(QueueCallError::NotAvailable) })
    }

    fn records(
        &self,
        _at: TopicPartition,
        _offsets: Vec<Offset>,
    ) -> QueueCall<Vec<Option<Record>>> {
        Box::pin(async { Err(QueueCallError::NotAvailable) })
    }

    fn kept(&self, _at: TopicPartition, _places: Vec<Offset>) -> QueueCall<Vec<Option<Payload>>> {
        Box::pin(async { Err(QueueCallError::NotAvailable) })
    }
}
