use super::*;
use weir_base::RecordBatch;

fn stored(payload: &Payload) -> Record {
    let batch = payload
        .append_to(BatchBuilder::new(Timestamp(5_000)))
        .build();
    let batch = RecordBatch::parse(&batch.to_bytes()).unwrap();
    batch.verify().unwrap();
    batch.records().unwrap().remove(0)
}

fn full() -> Message {
    Message {
        id: "01AB".into(),
        body: Bytes::from_static(b"\xff body"),
        tag: Some("paid".into()),
        keys: vec!["order-1".into(), "user-2".into()],
        group: Some("order-1-group".into()),
        born_at: Some(Timestamp(1_234)),
        born_host: Some("10.0.0.1".into()),
        trace: Some("00-ab-cd-01".into()),
        deliver_at: Some(Timestamp(9_999)),
        version: Some(u64::MAX),
        encoding: Some("gzip".into()),
        properties: vec![("region".into(), "eu".into()), ("ö".into(), "ß".into())],
    }
}

#[test]
fn a_message_comes_back_as_it_was_sent() {
    let message = full();
    let record = stored(&message.payload());
    assert_eq!(record.key.as_deref(), Some(&b"order-1-group"[..]));
    assert_eq!(Message::from_record(3, &record), message);
    let kept = Payload::decode(&message.payload().encode()).unwrap();
    assert_eq!(kept, message.payload());
}

#[test]
fn a_plain_record_reads_as_a_message() {
    let batch = BatchBuilder::new(Timestamp(5_000)).record_with_raw_headers(
        Some(b"user-7"),
        None,
        [
            (&b"a"[..], Some(&b"1"[..])),
            (b"a", Some(b"2")),
            (b"\xff", Some(b"not text")),
            (b"null", None),
        ]
        .into_iter(),
    );
    let record = batch.build().records().unwrap().remove(0);
    let message = Message::from_record(3, &record);
    assert_eq!(&*message.id, "3-0");
    assert_eq!(message.keys, [Arc::from("user-7")]);
    assert_eq!(message.born_at, Some(Timestamp(5_000)));
    assert!(message.body.is_empty());
    let properties = [("a".into(), "2".into()), ("null".into(), "".into())];
    assert_eq!(message.properties, properties);
    let payload = Payload::of(&record);
    assert_eq!(stored(&payload), record);
}

#[test]
fn facts_are_those_that_are_asked_for() {
    let record = stored(&full().payload());
    let facts = MessageFacts::of(&record, Needs::default());
    assert_eq!(facts.key, Some(KeyHash::of(b"order-1-group")));
    assert_eq!(facts.version, Some(u64::MAX));
    assert!(facts.tag.is_none() && facts.properties.is_empty());
    let needs = Needs {
        tag: true,
        properties: true,
        letter: true,
    };
    let facts = MessageFacts::of(&record, needs);
    assert_eq!(facts.tag.as_deref(), Some("paid"));
    assert_eq!(facts.properties, full().properties);
    // Not a dead letter: it has keys, and no home.
    let letter = facts.letter.unwrap();
    assert!(letter.keys.contains(&"order-1-group".into()));
    assert_eq!(letter.origin, None);
    assert_eq!(facts.only, None);
}

#[test]
fn letters_tell_where_they_came_from() {
    let attempts = crate::StoredAttempts {
        ended: 3,
        next_at: Timestamp(9),
        first_at: Timestamp(1),
        history: vec![crate::AttemptEnd {
            at: Timestamp(2),
            cause: crate::EndCause::Nack,
        }],
        note: Some("no stock".into()),
    };
    let group = "workers".into();
    let facts = DeadLetter { group, attempts };
    let mut payload = full().payload();
    for (name, value) in dead_letter_headers(&facts, "orders", 4, Offset(77)) {
        payload.set_header(name, &value);
    }
    let needs = Needs {
        letter: true,
        ..Needs::default()
    };
    let letter = MessageFacts::of(&stored(&payload), needs).letter.unwrap();
    let origin = letter.origin.unwrap();
    assert_eq!((&*origin.topic, origin.partition), ("orders", 4));
    assert_eq!(letter.group.as_deref(), Some("workers"));
    assert_eq!(&*letter.cause, "nack: no stock");
    payload.set_header("weir.dlq.origin.topic", "a/b");
    payload.set_header(HEADER_ONLY, "workers");
    let facts = MessageFacts::of(&stored(&payload), needs);
    assert_eq!(facts.letter.unwrap().origin, None);
    assert_eq!(facts.only, Some(KeyHash::of(b"workers")));
}

#[test]
fn delivery_times_are_read_from_either_header() {
    let read = |name: &'static str, value: &'static str| {
        let header = RecordHeader {
            key: Bytes::from_static(name.as_bytes()),
            value: Some(Bytes::from_static(value.as_bytes())),
        };
        delivery_time(&[header], Timestamp(100))
    };
    assert_eq!(read(HEADER_DELIVER_AT, "777"), Some(Timestamp(777)));
    assert_eq!(read(HEADER_DELIVER_AFTER, "50"), Some(Timestamp(150)));
    assert_eq!(
        read(HEADER_DELIVER_AFTER, "9223372036854775807"),
        Some(Timestamp(i64::MAX))
    );
    assert_eq!(read(HEADER_DELIVER_AFTER, "soon"), None);
    assert_eq!(read("deliver", "50"), None);
}

#[test]
fn delays_that_cannot_be_kept_are_refused_by_name() {
    let now = Timestamp(1_000_000);
    let check = |name: &'static str, value: &str| {
        let header = RecordHeader {
            key: Bytes::from_static(name.as_bytes()),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
        };
        check_delivery_time(&[header], now).map_err(|error| error.to_string())
    };
    let longest = i64::try_from(DELAY_MAX.as_millis()).unwrap();
    for fine in ["0", "-5", " 60000 ", &longest.to_string()] {
        assert_eq!(check(HEADER_DELIVER_AFTER, fine), Ok(()), "{fine}");
    }
    let at = |millis: i64| (now.0 + millis).to_string();
    assert_eq!(check(HEADER_DELIVER_AT, &at(longest)), Ok(()));
    for (name, value) in [
        (HEADER_DELIVER_AFTER, (longest + 1).to_string()),
        (HEADER_DELIVER_AT, at(longest + 1)),
        (HEADER_DELIVER_AT, i64::MAX.to_string()),
        (HEADER_DELIVER_AT, "soon".to_owned()),
        (HEADER_DELIVER_AFTER, String::new()),
    ] {
        let error = check(name, &value).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
    assert_eq!(check("other", "soon"), Ok(()));
}

#[test]
fn facts_tell_when_a_message_may_come() {
    let facts = |name: &str, value: &str| {
        let mut payload = Payload::default();
        payload.set_header(name, value);
        let mut record = stored(&payload);
        record.timestamp = Timestamp(1_000);
        MessageFacts::of(&record, Needs::default()).not_before
    };
    assert_eq!(facts(HEADER_DELIVER_AFTER, "500"), Some(Timestamp(1_500)));
    assert_eq!(facts(HEADER_DELIVER_AT, "7000"), Some(Timestamp(7_000)));
    let latest = facts(HEADER_DELIVER_AFTER, &i64::MAX.to_string());
    assert_eq!(latest, Some(Timestamp(i64::MAX)));
    assert_eq!(facts(HEADER_DELIVER_AFTER, "soon"), None);
    assert_eq!(facts("other", "500"), None);
}

#[test]
fn names_of_the_broker_are_not_for_properties() {
    let mut message = full();
    message.properties = vec![("weir.id".into(), "other".into())];
    assert!(!is_property_name("weir.id") && !is_property_name("") && is_property_name("weird"));
    let message = Message::from_record(0, &stored(&message.payload()));
    assert_eq!(&*message.id, "01AB");
    assert!(message.properties.is_empty());
}
