//! A Kafka client of two requests, written down byte by byte as the protocol has them.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use weir_base::RecordBatch;
use weir_base::batch::{Compression, Record, compress};

/// Sends a request, its header without the size included, and gives the answer's body.
fn ask(kafka: u16, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", kafka))?;
    let size = u32::try_from(request.len()).unwrap().to_be_bytes();
    stream.write_all(&[&size[..], request].concat())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer[..4], [0, 0, 0, 1], "the correlation id");
    Ok(answer.split_off(4))
}

/// A name, its length in front.
fn named(topic: &str) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    [&length[..], topic.as_bytes()].concat()
}

/// A batch to partition 0, as version 3 of the request; gives the error code.
pub(crate) fn produce(kafka: u16, topic: &str, batch: &RecordBatch) -> i16 {
    let batch = batch.to_bytes();
    let request = [
        // Produce, version 3, correlation 1, client id "t".
        &[0, 0, 0, 3, 0, 0, 0, 1, 0, 1, b't'][..],
        // No transaction, acks of all, 5 s; one topic with one partition, 0.
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0x13, 0x88, 0, 0, 0, 1],
        &named(topic),
        &[0, 0, 0, 1, 0, 0, 0, 0],
        &u32::try_from(batch.len()).unwrap().to_be_bytes(),
        &batch,
    ];
    let answer = ask(kafka, &request.concat()).unwrap();
    let at = 4 + 2 + topic.len() + 4 + 4;
    i16::from_be_bytes(answer[at..at + 2].try_into().unwrap())
}

/// The records of partition 0 from `offset` on, as version 4 of the request gives them;
/// compressed ones are opened.
pub(crate) fn fetch(kafka: u16, topic: &str, offset: u64) -> Vec<Record> {
    try_fetch(kafka, topic, offset).expect("the node leads it")
}

/// The same of a node that may be down, or lead it no more.
pub(crate) fn try_fetch(kafka: u16, topic: &str, offset: u64) -> Option<Vec<Record>> {
    let request = [
        // Fetch, version 4, correlation 1, client id "t"; no replica.
        &[0, 1, 0, 4, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff][..],
        // Waits 100 ms for 1 byte, takes 1 MiB, reads what is not committed, too.
        &[0, 0, 0, 100, 0, 0, 0, 1, 0, 16, 0, 0, 0, 0, 0, 0, 1],
        &named(topic),
        &[0, 0, 0, 1, 0, 0, 0, 0],
        &offset.to_be_bytes(),
        &[0, 16, 0, 0],
    ];
    let answer = ask(kafka, &request.concat()).ok()?;
    // Throttling, one topic, one partition, its number, error, high watermark, end of what is
    // decided.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    if answer[at..at + 2] != [0, 0] {
        return None;
    }
    let number = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
    let at = at + 2 + 8 + 8;
    assert!(matches!(number(at), 0 | u32::MAX), "no transactions");
    let records = &answer[at + 8..];
    assert_eq!(records.len(), usize::try_from(number(at + 4)).unwrap());
    let batches = RecordBatch::parse_all(records.to_vec().into()).unwrap();
    let records = batches.iter().flat_map(|batch| {
        batch.verify().unwrap();
        weir_api::records::open(batch).unwrap()
    });
    Some(records.filter(|record| record.offset.0 >= offset).collect())
}

/// The batch as a producer with this codec sends it.
pub(crate) fn packed(batch: &RecordBatch, codec: Compression) -> RecordBatch {
    if codec == Compression::None {
        return batch.clone();
    }
    let count = u32::try_from(batch.records().unwrap().len()).unwrap();
    let body = compress(batch.body(), codec).unwrap();
    batch.with_records(body, count, codec).unwrap()
}
