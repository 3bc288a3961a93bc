use super::*;
use crate::Timestamp;
use crate::batch::BatchBuilder;

const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const MIB: usize = 1024 * 1024;

fn plain(records: u32, value: &[u8]) -> RecordBatch {
    (0..records)
        .fold(BatchBuilder::new(Timestamp(7)), |builder, n| {
            builder.record(Some(&n.to_be_bytes()), Some(value))
        })
        .build()
}

fn compressed(batch: &RecordBatch, codec: Compression) -> RecordBatch {
    let body = compress(batch.body(), codec).unwrap();
    with_body(batch, body, codec)
}

fn with_body(batch: &RecordBatch, body: Bytes, codec: Compression) -> RecordBatch {
    let count = batch.header().record_count;
    batch.with_records(body, count, codec).unwrap()
}

#[test]
fn every_codec_gives_back_what_it_took() {
    let value: Vec<u8> = (0..2_000u32).flat_map(|n| (n * n).to_be_bytes()).collect();
    let batch = plain(300, &value);
    for codec in CODECS {
        let packed = compressed(&batch, codec);
        packed.verify().unwrap();
        assert_eq!(packed.header().attributes.compression(), codec);
        assert!(packed.size() < batch.size(), "{codec:?}");
        assert_eq!(decompress(&packed, 4 * MIB).as_ref(), Ok(batch.body()));
        let checked = RecordsCheck::new(&packed, 4 * MIB).run().unwrap();
        let bytes = batch.body().len();
        assert_eq!((checked.bytes, checked.without_key), (bytes, false));
        // Exactly the limit is allowed, one byte less is not.
        assert!(decompress(&packed, bytes).is_ok(), "{codec:?}");
        let refused = RecordsCheck::new(&packed, bytes - 1).run();
        assert_eq!(refused, Err(BatchError::Expands { max: bytes - 1 }));
    }
}

#[test]
fn a_count_that_lies_is_noticed_inside_every_codec() {
    let batch = plain(5, b"value");
    for codec in CODECS {
        let body = compress(batch.body(), codec).unwrap();
        for count in [1, 4, 6] {
            let mut lying = batch.with_records(body.clone(), count, codec).unwrap();
            lying.header.last_offset_delta = count - 1;
            let verdict = RecordsCheck::new(&lying, MIB).run();
            assert!(
                matches!(verdict, Err(BatchError::Count { .. })),
                "{verdict:?}"
            );
        }
    }
}

#[test]
fn what_is_cut_or_is_no_codec_is_refused() {
    let batch = plain(50, b"some value, and the same again: some value");
    for codec in CODECS {
        let body = compress(batch.body(), codec).unwrap();
        for length in 0..body.len() {
            let cut = with_body(&batch, body.slice(..length), codec);
            let verdict = RecordsCheck::new(&cut, MIB).run();
            // Without the end of the stream lz4 and gzip may have given all records.
            let whole =
                matches!(codec, Compression::Lz4 | Compression::Gzip) && length + 8 >= body.len();
            assert!(verdict.is_err() || whole, "{codec:?} cut to {length}");
        }
        for junk in [&b""[..], b"x", b"not compressed at all", &[0xff; 64]] {
            let junk = with_body(&batch, Bytes::from_static(junk), codec);
            assert!(RecordsCheck::new(&junk, MIB).run().is_err(), "{codec:?}");
        }
    }
}

#[test]
fn no_changed_byte_panics_or_gets_past_the_limit() {
    let value: Vec<u8> = (0..40u32).flat_map(|n| (n * n * n).to_be_bytes()).collect();
    let batch = plain(4, &value);
    let limit = batch.body().len() + 100;
    for codec in CODECS {
        let body = compress(batch.body(), codec).unwrap();
        for at in 0..body.len() {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut changed = body.to_vec();
                changed[at] ^= flip;
                let changed = with_body(&batch, changed.into(), codec);
                if let Ok(records) = decompress(&changed, limit) {
                    assert!(records.len() <= limit);
                }
            }
        }
    }
}

#[test]
fn small_batches_that_expand_without_end_are_stopped_at_the_limit() {
    let batch = plain(1, b"v");
    for codec in CODECS {
        let zeros = vec![0; 48 * MIB];
        let bomb = with_body(&batch, compress(&zeros, codec).unwrap(), codec);
        let mut decompressor = Decompressor::new(&bomb, MIB);
        let mut given = 0;
        let error = loop {
            match decompressor.piece() {
                Ok(Some(piece)) => given += piece.len(),
                Ok(None) => panic!("{codec:?} came to an end"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, BatchError::Expands { max: MIB }, "{codec:?}");
        assert!(given <= MIB);
    }
}

#[test]
fn snappy_comes_in_the_frame_of_the_java_client_too() {
    let batch = plain(100, b"value");
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in batch.body().chunks(150) {
        let block = snappy::compress(block).unwrap();
        framed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&block);
    }
    let twice = [&framed[..], &framed[..16]].concat();
    for body in [framed.clone(), twice] {
        let packed = with_body(&batch, body.into(), Compression::Snappy);
        assert_eq!(decompress(&packed, MIB).as_ref(), Ok(batch.body()));
    }
    framed[16..20].copy_from_slice(&i32::MAX.to_be_bytes());
    let lying = with_body(&batch, framed.into(), Compression::Snappy);
    assert_eq!(decompress(&lying, MIB), Err(BatchError::Decompress));
}

#[test]
fn snappy_lengths_that_cannot_be_are_refused_before_memory_is_reserved() {
    let batch = plain(1, b"v");
    // A length of 4 GiB less one, and three bytes of block.
    let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
    let lying = with_body(&batch, body, Compression::Snappy);
    assert_eq!(decompress(&lying, usize::MAX), Err(BatchError::Decompress));
}

/// A frame of `records` uncompressed in one block, with a window of 128 MiB or more.
fn far_sighted(records: &[u8], window: u8) -> Bytes {
    let mut frame = 0xfd2f_b528u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&[0, window]);
    let head = u32::try_from(records.len()).unwrap() << 3 | 1;
    frame.extend_from_slice(&head.to_le_bytes()[..3]);
    frame.extend_from_slice(records);
    frame.into()
}

#[test]
fn zstd_windows_larger_than_anything_that_may_come_out_are_fine() {
    let batch = plain(20, b"value");
    for window in [17 << 3, 18 << 3, 31 << 3 | 7] {
        let body = far_sighted(batch.body(), window);
        let packed = with_body(&batch, body, Compression::Zstd);
        assert_eq!(decompress(&packed, MIB).as_ref(), Ok(batch.body()));
    }
}

#[test]
fn zstd_takes_several_frames_and_skips_what_is_to_be_skipped() {
    let batch = plain(20, b"value");
    let (front, back) = batch.body().split_at(100);
    let skipped = [
        &0x184d_2a53u32.to_le_bytes()[..],
        &3u32.to_le_bytes(),
        b"abc",
    ]
    .concat();
    let frames = [
        &skipped[..],
        &compress(front, Compression::Zstd).unwrap(),
        &skipped,
        &compress(back, Compression::Zstd).unwrap(),
    ];
    let packed = with_body(&batch, frames.concat().into(), Compression::Zstd);
    assert_eq!(decompress(&packed, MIB).as_ref(), Ok(batch.body()));
    let lying = [
        &0x184d_2a53u32.to_le_bytes()[..],
        &9u32.to_le_bytes(),
        b"abc",
    ]
    .concat();
    let packed = with_body(&batch, lying.into(), Compression::Zstd);
    assert_eq!(decompress(&packed, MIB), Err(BatchError::Decompress));
}
