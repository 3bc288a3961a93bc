use super::*;
use weir_base::{Offset, Timestamp};

const TABLE: &str = include_str!("../../testdata/filters.txt");

fn message(properties: &str) -> MessageFacts {
    let pairs = properties
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    let (tags, properties): (Vec<_>, Vec<_>) = pairs.partition(|(name, _)| *name == "TAG");
    let text = |(name, value): (&str, &str)| (Arc::from(name), Arc::from(value));
    MessageFacts {
        offset: Offset(0),
        stored_at: Timestamp(0),
        bytes: 0,
        key: None,
        version: None,
        tag: tags.first().map(|(_, tag)| Arc::from(*tag)),
        properties: properties.into_iter().map(text).collect(),
        not_before: None,
        only: None,
        letter: None,
    }
}

/// What an expression gives for each line of properties, or its error.
fn answer(input: &str) -> String {
    let mut lines = input.lines();
    let expression = lines.next().unwrap();
    let filter = match expression.split_once(' ').unwrap() {
        ("tags", tags) => Filter::Tags(tags.into()),
        ("sql", condition) => Filter::Sql(condition.into()),
        (other, _) => panic!("{other}"),
    };
    match filter.compile() {
        Err(error) => format!("{error}\n"),
        Ok(compiled) => lines
            .map(|line| {
                format!(
                    "{}\n",
                    if compiled.wants(&message(line)) {
                        "yes"
                    } else {
                        "no"
                    }
                )
            })
            .collect(),
    }
}

#[test]
fn the_table_is_as_reviewed() {
    let mut written = String::new();
    for case in TABLE.split("\n\n").filter(|case| !case.trim().is_empty()) {
        let (input, _) = case.trim().split_once("\n----\n").expect(case);
        written += &format!("{input}\n----\n{}\n", answer(input));
    }
    assert_eq!(written.trim(), TABLE.trim());
}

#[test]
fn nothing_is_deep_or_long_enough_to_hurt() {
    let sql = |text: String| Filter::Sql(text.into()).compile();
    let deep = "(".repeat(2_000) + "a = 1" + &")".repeat(2_000);
    assert!(matches!(sql(deep), Err(FilterError::TooComplex { .. })));
    let nots = "NOT ".repeat(1_000) + "a = 1";
    assert!(matches!(sql(nots), Err(FilterError::TooComplex { .. })));
    let long = "a = 1".to_owned() + &" OR a = 1".repeat(400);
    assert!(matches!(sql(long), Err(FilterError::TooComplex { .. })));
    assert!(matches!(
        sql("x".repeat(5_000)),
        Err(FilterError::TooLong { .. })
    ));
    let slow = sql(format!("a LIKE '{}b'", "%a".repeat(1_000))).unwrap();
    assert!(!slow.wants(&message(&format!("a={}", "a".repeat(30_000)))));
}

#[test]
fn needs_are_what_the_condition_reads() {
    let needs = |text: &str| Filter::Sql(text.into()).compile().unwrap().needs();
    assert_eq!(
        (needs("TAGS = 'a'").tag, needs("TAGS = 'a'").properties),
        (true, false)
    );
    assert_eq!(
        (needs("a IS NULL").tag, needs("a IS NULL").properties),
        (false, true)
    );
}

#[test]
fn any_text_compiles_or_is_refused() {
    let pieces = [
        "a", "'x'", "1", "-", "(", ")", "AND", "NOT", "IN", ",", "=", "BETWEEN", "é", "IS",
    ];
    let mut random = 1u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..8 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text += pieces[usize::try_from(random >> 33).unwrap() % pieces.len()];
            text.push(' ');
        }
        if let Ok(compiled) = Filter::Sql(text.into()).compile() {
            let _wanted: bool = compiled.wants(&message("a=1"));
        }
    }
}
