use weir_base::batch::BatchBuilder;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn header(epoch: i16, sequence: i32, records: usize) -> BatchHeader {
    let mut builder =
        BatchBuilder::new(NOW).producer(ProducerId(9), ProducerEpoch(epoch), sequence);
    for _ in 0..records {
        builder = builder.record(None, Some(b"v"));
    }
    *builder.build().header()
}

fn append(producers: &mut Producers, header: &BatchHeader, base: u64) {
    assert_eq!(producers.check(header, NOW), Verdict::New);
    let end = Offset(base + u64::from(header.last_offset_delta) + 1);
    producers.on_append(header, Offset(base), end, NOW);
}

#[test]
fn the_last_five_batches_are_answered_with_their_offsets() {
    let mut producers = Producers::default();
    for batch in 0..6 {
        append(
            &mut producers,
            &header(0, batch * 2, 2),
            100 + 2 * u64::try_from(batch).unwrap(),
        );
    }
    assert_eq!(
        producers.check(&header(0, 2, 2), NOW),
        Verdict::Duplicate {
            base: Offset(102),
            end: Offset(104)
        }
    );
    let too_old = Verdict::Refused(SequenceError::OutOfOrder {
        sequence: 0,
        expected: 12,
    });
    assert_eq!(producers.check(&header(0, 0, 2), NOW), too_old);
}

#[test]
fn gaps_and_strangers_are_refused() {
    let mut producers = Producers::default();
    assert_eq!(
        producers.check(&header(0, 3, 1), NOW),
        Verdict::Refused(SequenceError::UnknownProducer {
            producer: ProducerId(9)
        })
    );
    append(&mut producers, &header(0, 0, 1), 0);
    assert_eq!(
        producers.check(&header(0, 2, 1), NOW),
        Verdict::Refused(SequenceError::OutOfOrder {
            sequence: 2,
            expected: 1
        })
    );
}

#[test]
fn epochs_fence_and_begin_at_zero() {
    let mut producers = Producers::default();
    append(&mut producers, &header(3, 0, 1), 0);
    assert_eq!(
        producers.check(&header(2, 1, 1), NOW),
        Verdict::Refused(SequenceError::Fenced {
            epoch: ProducerEpoch(2),
            current: ProducerEpoch(3)
        })
    );
    assert_eq!(
        producers.check(&header(4, 1, 1), NOW),
        Verdict::Refused(SequenceError::OutOfOrder {
            sequence: 1,
            expected: 0
        })
    );
    append(&mut producers, &header(4, 0, 1), 1);
}

#[test]
fn a_marker_fences_without_a_sequence() {
    let mut producers = Producers::default();
    append(&mut producers, &header(3, 0, 2), 0);
    let marker = BatchBuilder::new(NOW)
        .control()
        .producer(ProducerId(9), ProducerEpoch(4), -1)
        .record(None, None)
        .build();
    append(&mut producers, marker.header(), 2);
    assert!(matches!(
        producers.check(&header(3, 2, 1), NOW),
        Verdict::Refused(SequenceError::Fenced { .. })
    ));
    append(&mut producers, &header(4, 0, 1), 3);
}

#[test]
fn a_control_batch_with_a_sequence_is_known_when_it_is_repeated() {
    let mut producers = Producers::default();
    let id = ProducerId(ProducerId::JOURNALS_FROM | 5);
    let copies = |sequence| {
        let batch = BatchBuilder::new(NOW).control();
        let batch = batch.producer(id, ProducerEpoch(0), sequence);
        *batch.record(None, Some(b"v")).build().header()
    };
    append(&mut producers, &copies(7), 0);
    append(&mut producers, &copies(8), 1);
    let (base, end) = (Offset(0), Offset(1));
    let repeated = producers.check(&copies(7), NOW);
    assert_eq!(repeated, Verdict::Duplicate { base, end });
    assert!(matches!(
        producers.check(&copies(10), NOW),
        Verdict::Refused(SequenceError::OutOfOrder { .. })
    ));
}

#[test]
fn sequences_wrap_after_the_largest() {
    let mut producers = Producers::default();
    append(&mut producers, &header(0, 0, 1), 0);
    producers
        .by_id
        .get_mut(&ProducerId(9))
        .unwrap()
        .last_sequence = i32::MAX - 2;
    append(&mut producers, &header(0, i32::MAX - 1, 3), 1);
    assert_eq!(producers.summaries()[0].last_sequence, 0);
    assert!(matches!(
        producers.check(&header(0, i32::MAX - 1, 3), NOW),
        Verdict::Duplicate { .. }
    ));
    append(&mut producers, &header(0, 1, 1), 4);
}

#[test]
fn a_day_of_silence_is_forgotten() {
    let mut producers = Producers::default();
    append(&mut producers, &header(5, 0, 1), 0);
    let later = NOW + PRODUCER_EXPIRY + Duration::from_millis(1);
    assert!(matches!(
        producers.check(&header(5, 1, 1), later),
        Verdict::Refused(SequenceError::UnknownProducer { .. })
    ));
    producers.expire(later);
    assert_eq!(producers, Producers::default());
}
