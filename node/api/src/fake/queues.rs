//! Queues of the fake: none yet.

use weir_base::batch::Record;
use weir_base::{Offset, TopicPartition};

use super::FakeBroker;
use crate::queue::{QueueApi, QueueCall, QueueCallError};
use crate::queues::{Payload, QueueCommand, QueueReply};

impl QueueApi for FakeBroker {
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
