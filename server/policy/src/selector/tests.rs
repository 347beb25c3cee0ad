use super::*;
use crate::fixture::{at, till};

fn canonical(text: &str) -> String {
    match Selector::parse(text) {
        Ok(selector) => {
            let canonical = selector.to_string();
            assert_eq!(Selector::parse(&canonical).as_ref(), Ok(&selector), "{canonical}");
            canonical
        }
        Err(error) => error.to_string(),
    }
}

fn check(text: &str, wanted: &str) {
    assert_eq!(canonical(text), wanted, "{text}");
}

#[test]
fn selectors_have_one_canonical_text() {
    check(
        r#"region=northeast and version("pos-app") < 2.2.0 and not canary = true"#,
        r#"region = northeast and version("pos-app") < 2.2.0 and not canary = true"#,
    );
    check("status = online or last_seen > 24h ago", "status = online or last_seen > 24h ago");
    check(r#"site in(NYC-001,BOS-002) and hw~verifone-*"#, r#"site in (NYC-001, BOS-002) and hw ~ "verifone-*""#);
    check("all", "all");
    check("( a = b )", "a = b");
    check("a = b and (c = d or e = f)", "a = b and (c = d or e = f)");
    check("a = b or c = d and e = f", "a = b or (c = d and e = f)");
    check("a = b and (c = d and e = f)", "a = b and c = d and e = f");
    check("not (a = b or c = d)", "not (a = b or c = d)");
    check("not not a = b", "not not a = b");
    check("exists(region) or exists version(os)", r#"exists region or exists version("os")"#);
    // A product is a word, so its quotes may be left out, as everywhere.
    check("version(pos-app) < 2.2.0", r#"version("pos-app") < 2.2.0"#);
    check("label.region = x", "region = x");
    check("label.version = x", "label.version = x");
    check("label.\"a b\" != \"x \\\" \\\\ y\"", "label.\"a b\" != \"x \\\" \\\\ y\"");
    check("attr.os.release = 13", "attr.os.release = 13");
    check("inland = yes and orchid = no and notable = x", "inland = yes and orchid = no and notable = x");
    check("a not in (x)", "a not in (x)");
    check("a = and", "a = and");
    check("enrolled < 2026-11-23T02:00:00Z", "enrolled < 2026-11-23T02:00:00Z");
    check("enrolled >= 90 s ago", "enrolled >= 90s ago");
    check("id = pos-nyc-001", "name = pos-nyc-001");
    check("id = 0192F0C1-7E8A-7C3E-9D54-3F1F6A2B8C11", "id = 0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c11");
    check(
        "id not in (till-1, 0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c11)",
        "id not in (0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c11) and name not in (till-1)",
    );
    check("\n tz =\tEurope/Berlin\n", "tz = Europe/Berlin");
    check("label.empty = \"\"", "empty = \"\"");
}

#[test]
fn errors_name_the_column_and_what_was_expected() {
    let a_term = "a field (id, name, site, status, last_seen, enrolled, hw, arch, tz, agent, version(\"product\"), \
                  attr.key or a label), `not`, `exists`, `all` or `(`";
    let text_ops = "one of = != < <= > >= ~ in, not in";
    for (text, column, expected, found) in [
        ("", 1, a_term, "the end"),
        ("   ", 4, a_term, "the end"),
        ("and", 1, a_term, "`and`"),
        ("a = b and", 10, a_term, "the end"),
        ("a = b or or", 10, a_term, "`or`"),
        ("a = b c = d", 7, "`and`, `or` or the end", "`c`"),
        ("a = b AND c = d", 7, "`and`, `or` or the end", "`AND`"),
        ("(a = b", 7, "`and`, `or` or `)`", "the end"),
        ("a = b)", 6, "`and`, `or` or the end", "`)`"),
        ("region", 7, text_ops, "the end"),
        ("region northeast", 8, text_ops, "`northeast`"),
        ("region == x", 9, "a value: a word, or text in double quotes", "`=`"),
        ("region =", 9, "a value: a word, or text in double quotes", "the end"),
        ("region = \"north", 16, "a closing `\"`", "the end"),
        (r#"region = "a\n""#, 13, "a quote or a backslash after the backslash", "`n`"),
        ("region in x", 11, "`(` and a list of values", "`x`"),
        ("region in ()", 12, "a value: a word, or text in double quotes", "`)`"),
        ("region in (a b)", 14, "`,` or `)`", "`b`"),
        ("region not x", 12, "`in`", "`x`"),
        ("status = up", 10, "one of unknown, online, offline, abandoned", "`up`"),
        ("status < online", 8, "one of = != in, not in", "`<`"),
        ("id ~ x", 4, "one of = != in, not in", "`~`"),
        ("last_seen in (24h ago)", 11, "one of = != < <= > >=", "`in`"),
        ("last_seen > yesterday", 13, "a time such as 2026-11-23T02:00:00Z or 24h ago", "`yesterday`"),
        ("last_seen > 24h", 16, "`ago`", "the end"),
        ("last_seen > 99999999999h ago", 13, "a time such as 2026-11-23T02:00:00Z or 24h ago", "`99999999999h`"),
        ("version = 2", 9, "`(` and the name of a product", "`=`"),
        ("version(\"a b\") = 2", 9, "the name of a product", "`\"`"),
        ("version(os) = \"1 2\"", 15, "a version such as 2.2.0", "`\"`"),
        (
            "exists",
            7,
            "a field (id, name, site, status, last_seen, enrolled, hw, arch, tz, agent, \
            version(\"product\"), attr.key or a label)",
            "the end",
        ),
        ("attr. = x", 6, "a key", "` `"),
        ("größe = 1", 3, text_ops, "`ö`"),
    ] {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!((error.column, error.expected.as_str(), error.found.as_str()), (column, expected, found), "{text}");
    }
}

#[test]
fn selectors_have_limits() {
    let nested = |n: usize| format!("{}a = b{}", "(".repeat(n), ")".repeat(n));
    assert!(Selector::parse(&nested(MAX_DEPTH)).is_ok());
    check(&nested(MAX_DEPTH + 1), "column 18: expected at most 16 levels of `(` and `not`, found `a`");
    let terms = |n: usize| vec!["a = b"; n].join(" or ");
    assert!(Selector::parse(&terms(MAX_TERMS)).is_ok());
    assert!(canonical(&terms(MAX_TERMS + 1)).contains("expected at most 128 terms"));
    let values = |n: usize| format!("a in ({})", vec!["x"; n].join(","));
    assert!(Selector::parse(&values(MAX_VALUES)).is_ok());
    assert!(canonical(&values(MAX_VALUES + 1)).contains("expected at most 512 values"));
    check(&"x".repeat(MAX_LEN + 1), "column 1: expected at most 8192 bytes, found 8193 bytes");
}

fn matches(text: &str) -> bool {
    let now = at("2026-11-23T12:00:00Z");
    let mut device = till(1);
    device.labels.insert("empty".to_owned(), String::new());
    let seen = Seen { last_seen: Some(at("2026-11-22T12:00:00Z")), status: Connectivity::Offline, now };
    Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&device, &seen)
}

#[test]
fn what_a_device_has_is_compared() {
    for text in [
        "all",
        "name = till-1 and id = till-1",
        "id = 00000001-0707-0707-0707-070707070707",
        "id in (till-9, 00000001-0707-0707-0707-070707070707)",
        "site = NYC-001 and site ~ \"NYC-*\" and site < NYC-002",
        "region in (west, northeast) and region not in (west)",
        "region != west and region > north",
        "hw ~ \"verifone-m??0\" and arch = x86_64",
        "tz = America/New_York",
        "version(pos-app) = 2.1 and version(pos-app) < 2.10 and version(pos-app) > 2.1.0-rc.1",
        "version(pos-app) in (2.1, 3) and version(pos-app) ~ \"2.1.*\"",
        "agent >= 0.3 and agent < 0.10",
        "status = offline and status in (offline, abandoned)",
        "last_seen >= 24h ago and last_seen <= 24h ago and last_seen > 2d ago and last_seen < 1d ago or all",
        "enrolled = 2026-01-01T00:00:00Z",
        "attr.os = debian",
        "empty = \"\" and exists empty",
    ] {
        assert!(matches(text), "{text}");
        assert!(!matches(&format!("not ({text})")), "not ({text})");
    }
}

#[test]
fn what_a_device_has_not_matches_nothing_but_not() {
    for field in ["canary", "attr.disk", "version(\"os\")"] {
        for term in ["= 1", "!= 1", "< 1", "> 1", "~ \"*\"", "in (1)", "not in (1)"] {
            assert!(!matches(&format!("{field} {term}")), "{field} {term}");
            assert!(matches(&format!("not {field} {term}")), "not {field} {term}");
        }
        assert!(!matches(&format!("exists {field}")), "{field}");
    }
    assert!(!matches("region = Northeast"), "case counts");
}

#[test]
fn an_explanation_names_the_term_that_failed() {
    let now = at("2026-11-23T12:00:00Z");
    let seen = Seen { last_seen: None, status: Connectivity::Unknown, now };
    let why = |text: &str| Selector::parse(text).expect(text).why_not(&till(1), &seen);
    assert_eq!(why("region = northeast"), None);
    assert_eq!(
        why("region = northeast and version(\"os\") < 13").as_deref(),
        Some("version(\"os\") < 13: the device has no version(\"os\")")
    );
    assert_eq!(
        why("status = online or hw = x").as_deref(),
        Some("status = online: it is unknown; and hw = x: it is verifone-m440")
    );
    assert_eq!(why("not region = northeast").as_deref(), Some("not region = northeast is not so"));
}

#[test]
fn status_and_last_seen_are_for_frozen_audiences() {
    let field = |text: &str| Selector::parse(text).expect(text).frozen_only().map(ToString::to_string);
    assert_eq!(field("region = x and not (status = online)"), Some("status".to_owned()));
    assert_eq!(field("exists last_seen"), Some("last_seen".to_owned()));
    assert_eq!(field("label.status = x and enrolled > 1d ago"), None);
}

mod round_trip {
    use proptest::prelude::*;

    use super::super::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-zA-Z0-9._:+/@*?-]{1,6}", "[ -~äß€]{0,6}", Just("and".to_owned())]
    }

    fn field() -> impl Strategy<Value = Field> {
        prop_oneof![
            Just(Field::Id),
            Just(Field::Name),
            Just(Field::Status),
            Just(Field::LastSeen),
            Just(Field::Tz),
            Just(Field::Agent),
            "[a-z][a-z0-9.-]{0,5}".prop_map(|name| Field::Version(name.parse().expect("a name"))),
            text().prop_map(Field::Label),
            prop_oneof!["label[.]x", "attr[.]x", "version", "not"].prop_map(Field::Label),
            text().prop_map(Field::Attr),
        ]
    }

    fn value(kind: Kind) -> BoxedStrategy<Value> {
        match kind {
            Kind::Id => any::<[u8; 16]>()
                .prop_map(|bytes| Value::Id(callboard_proto::ids::DeviceId::from_slice(&bytes).expect("16 bytes")))
                .boxed(),
            Kind::Text => text().prop_map(Value::Text).boxed(),
            Kind::Version => "[!-~]{1,6}".prop_map(|text| Value::Version(text.parse().expect("a version"))).boxed(),
            Kind::Status => prop::sample::select(Connectivity::ALL.as_slice()).prop_map(Value::Status).boxed(),
            Kind::Time => prop_oneof![
                any::<i64>().prop_map(|ms| Value::Time(TimeValue::At(Timestamp::from_millis(ms)))),
                (0..1_000_000_000u32, 0..5usize).prop_map(|(count, unit)| {
                    use TimeUnit::{Day, Hour, Minute, Second, Week};
                    let unit = [Second, Minute, Hour, Day, Week][unit];
                    Value::Time(TimeValue::Ago(Ago { count, unit }))
                }),
            ]
            .boxed(),
        }
    }

    fn term() -> impl Strategy<Value = Expr> {
        let ops = vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge];
        let compare = (field(), prop::sample::select(ops)).prop_flat_map(|(field, op)| {
            let equality = matches!(field.kind(), Kind::Id | Kind::Status);
            let op = if equality && op != Op::Ne { Op::Eq } else { op };
            value(field.kind()).prop_map(move |value| Expr::Compare { field: field.clone(), op, value })
        });
        let within = field().prop_filter("no lists of times", |field| field.kind() != Kind::Time);
        let within = (within, any::<bool>()).prop_flat_map(|(field, negated)| {
            let values = prop::collection::vec(value(field.kind()), 1..4);
            values.prop_map(move |values| Expr::In { field: field.clone(), values, negated })
        });
        let like = field().prop_filter("text", |field| matches!(field.kind(), Kind::Text | Kind::Version));
        let like = (like, text()).prop_map(|(field, glob)| Expr::Like { field, glob: Glob::new(glob) });
        prop_oneof![Just(Expr::All), field().prop_map(Expr::Exists), compare, within, like]
    }

    fn expr() -> impl Strategy<Value = Expr> {
        term().prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::and),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::or),
                inner.prop_map(|inner| Expr::Not(Box::new(inner))),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_and_tree_are_the_same(expr in expr()) {
            let selector = Selector::from_expr(expr);
            let text = selector.to_string();
            let read = Selector::parse(&text);
            prop_assert_eq!(read.as_ref(), Ok(&selector), "{}", text);
            prop_assert_eq!(read.map(|read| read.to_string()), Ok(text));
        }

        #[test]
        fn no_text_is_too_much(text in "[ -~ä\n]{0,60}") {
            if let Err(error) = Selector::parse(&text) {
                prop_assert!(error.column <= text.chars().count() + 1);
            }
        }
    }
}
