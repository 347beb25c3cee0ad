//! Random devices and random selectors about them, from small pools so that they meet.

use std::collections::BTreeMap;

use callboard_policy::{
    device::Connectivity,
    selector::{Ago, Expr, Field, Glob, Kind, Op, TimeUnit, TimeValue, Value},
};
use callboard_proto::{
    admin::Device,
    check_in::{Facts, Installed},
    ids::DeviceId,
    time::Timestamp,
};
use proptest::{collection, option, prelude::*, sample};
use serde_json::{Value as Json, json};

/// Text that engines might read differently: case, wildcards, quotes, characters of several bytes, emptiness.
const TEXTS: [&str; 24] = [
    "", "a", "A", "b", "ab", "a b", "a*b", "a?b", "a%b", "a_b", "axb", "[ab]", "[", "]", "^a", "a\\b", "a\"b", "'",
    "--", "ä", "ä", "🦀", "true", "zz",
];
const PATTERNS: [&str; 16] =
    ["*", "", "a*", "*b", "a?b", "?", "??", "a*b*", "[ab]", "[*", "a\\*", "a%*", "_", "*ä*", "*\"*", "till-1?"];
const VERSIONS: [&str; 18] = [
    "1",
    "1.0",
    "1.0.0",
    "1.0.0-rc.1",
    "1.0.0-rc.2",
    "1.0.0-rc.10",
    "1.0.0+build.5",
    "1.0.1",
    "2.1",
    "2.9.9",
    "2.10",
    "2.10.0-1",
    "10",
    "010",
    "v1.2",
    "1.0a",
    "2026.11",
    "banana",
];
const PRODUCTS: [&str; 3] = ["pos-app", "os", "os.2"];
const LABELS: [&str; 5] = ["ring", "region", "tz", "a.b", "x_y"];
const ATTRIBUTES: [&str; 5] = ["k", "k.l", "ключ", "a\"b", "$.x"];
pub(super) const SITES: [&str; 3] = ["NYC-001", "TYO", "a.b"];
const ZONES: [&str; 4] = ["America/New_York", "Asia/Tokyo", "UTC", "Mars/Olympus"];

/// What is drawn of one device.
#[derive(Clone, Debug)]
pub(super) struct AnyDevice {
    pub(super) site: Option<&'static str>,
    pub(super) labels: BTreeMap<&'static str, &'static str>,
    pub(super) imported: BTreeMap<&'static str, &'static str>,
    pub(super) facts: Facts,
    /// Seconds until the next device.
    pub(super) pause_s: u64,
}

/// Names are fixed, so that selectors can be about them.
pub(super) fn name(n: usize) -> String {
    format!("till-{n}")
}

/// The sites on which devices stand.
pub(super) fn sites() -> Json {
    json!([
        { "id": SITES[0], "tz": ZONES[0], "labels": { "region": "a", "ring": "A" } },
        { "id": SITES[1], "tz": ZONES[1], "labels": { "region": "ä", "tz": "x" } },
        { "id": SITES[2], "tz": ZONES[2] },
    ])
}

fn text() -> impl Strategy<Value = &'static str> {
    sample::select(&TEXTS[..])
}

/// A random device.
pub(super) fn device() -> impl Strategy<Value = AnyDevice> {
    let labels = collection::btree_map(sample::select(&LABELS[..]), text(), 0..4);
    let versions = || collection::btree_map(sample::select(&PRODUCTS[..]), sample::select(&VERSIONS[..]), 0..3);
    let pause = prop_oneof![Just(0_u64), Just(1), Just(299), Just(86_400), Just(3 * 86_400)];
    (option::of(sample::select(&SITES[..])), labels, versions(), facts(), pause)
        .prop_map(|(site, labels, imported, facts, pause_s)| AnyDevice { site, labels, imported, facts, pause_s })
}

fn facts() -> impl Strategy<Value = Facts> {
    let versions = collection::btree_map(sample::select(&PRODUCTS[..]), sample::select(&VERSIONS[..]), 0..3);
    let attributes = collection::btree_map(sample::select(&ATTRIBUTES[..]), text(), 0..4);
    let agent = prop_oneof![sample::select(&VERSIONS[..]), Just("not a version")];
    (agent, text(), text(), option::of(sample::select(&ZONES[..])), versions, attributes).prop_map(
        |(agent, hw, arch, tz, versions, attributes)| Facts {
            agent: agent.to_owned(),
            hw: hw.to_owned(),
            arch: arch.to_owned(),
            tz: tz.map(str::to_owned),
            serial: None,
            image_id: None,
            hardware_id: None,
            channels: Vec::new(),
            installed: versions.into_iter().map(|(product, version)| installed(product, version)).collect(),
            attributes: attributes.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        },
    )
}

fn installed(product: &str, version: &str) -> Installed {
    let (product, version) = (product.parse().unwrap(), version.parse().unwrap());
    Installed { product, version, release: None, epoch: 0, counter: 0, floor: 0 }
}

/// The ids that selectors may be about, and one that nobody has.
pub(super) fn ids(devices: &[Device]) -> Vec<DeviceId> {
    let stranger = "01973f5e-8c00-7d1a-b0e4-2f6c1d9a7b01".parse().unwrap();
    devices.iter().map(|device| device.id).chain([stranger]).collect()
}

/// A random selector for questions asked at `now`.
pub(super) fn selector(ids: Vec<DeviceId>, now: Timestamp) -> impl Strategy<Value = Expr> {
    let leaf = field().prop_flat_map(move |field| term(field, ids.clone(), now));
    let leaf = prop_oneof![1 => Just(Expr::All), 20 => leaf];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 2..4).prop_map(Expr::and),
            collection::vec(inner.clone(), 2..4).prop_map(Expr::or),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn field() -> impl Strategy<Value = Field> {
    let plain = sample::select(vec![
        Field::Id,
        Field::Name,
        Field::Site,
        Field::Status,
        Field::LastSeen,
        Field::Enrolled,
        Field::Hw,
        Field::Arch,
        Field::Tz,
        Field::Agent,
    ]);
    prop_oneof![
        5 => plain,
        2 => sample::select(&PRODUCTS[..]).prop_map(|product| Field::Version(product.parse().unwrap())),
        2 => sample::select(&LABELS[..]).prop_map(|key| Field::Label(key.to_owned())),
        2 => sample::select(&ATTRIBUTES[..]).prop_map(|key| Field::Attr(key.to_owned())),
    ]
}

fn term(field: Field, ids: Vec<DeviceId>, now: Timestamp) -> BoxedStrategy<Expr> {
    let kind = field.kind();
    let exists = Just(Expr::Exists(field.clone())).boxed();
    let mut kinds = vec![exists, compare(&field, value(&field, ids.clone(), now))];
    if kind != Kind::Time {
        kinds.push(one_of(&field, value(&field, ids, now)));
    }
    if matches!(kind, Kind::Text | Kind::Version) {
        let like = field.clone();
        let glob = sample::select(&PATTERNS[..]);
        kinds.push(glob.prop_map(move |glob| Expr::Like { field: like.clone(), glob: Glob::new(glob) }).boxed());
    }
    prop::strategy::Union::new(kinds).boxed()
}

fn compare(field: &Field, value: BoxedStrategy<Value>) -> BoxedStrategy<Expr> {
    let ops = match field.kind() {
        Kind::Id | Kind::Status => vec![Op::Eq, Op::Ne],
        Kind::Text | Kind::Version | Kind::Time => vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge],
    };
    let field = field.clone();
    (sample::select(ops), value).prop_map(move |(op, value)| Expr::Compare { field: field.clone(), op, value }).boxed()
}

fn one_of(field: &Field, value: BoxedStrategy<Value>) -> BoxedStrategy<Expr> {
    let field = field.clone();
    (collection::vec(value, 1..4), any::<bool>())
        .prop_map(move |(values, negated)| Expr::In { field: field.clone(), values, negated })
        .boxed()
}

fn value(field: &Field, ids: Vec<DeviceId>, now: Timestamp) -> BoxedStrategy<Value> {
    let texts =
        |pool: &'static [&'static str]| sample::select(pool).prop_map(|text| Value::Text(text.to_owned())).boxed();
    match field {
        Field::Id => sample::select(ids).prop_map(Value::Id).boxed(),
        Field::Name => (0..50_usize).prop_map(|n| Value::Text(name(n))).boxed(),
        Field::Site => texts(&SITES[..]),
        Field::Tz => prop_oneof![texts(&ZONES[..]), texts(&TEXTS[..])].boxed(),
        Field::Status => sample::select(&Connectivity::ALL[..]).prop_map(Value::Status).boxed(),
        Field::LastSeen | Field::Enrolled => time(now),
        Field::Agent | Field::Version(_) => {
            sample::select(&VERSIONS[..]).prop_map(|version| Value::Version(version.parse().unwrap())).boxed()
        }
        Field::Hw | Field::Arch | Field::Label(_) | Field::Attr(_) => texts(&TEXTS[..]),
    }
}

fn time(now: Timestamp) -> BoxedStrategy<Value> {
    let units = vec![TimeUnit::Second, TimeUnit::Minute, TimeUnit::Hour, TimeUnit::Day, TimeUnit::Week];
    let ago = (0..40_u32, sample::select(units)).prop_map(|(count, unit)| TimeValue::Ago(Ago { count, unit }));
    let at = (0..40_u64, -1..2_i64).prop_map(move |(days, ms)| {
        let day = now - std::time::Duration::from_secs(days * 86_400);
        TimeValue::At(Timestamp::from_millis(day.millis() + ms))
    });
    prop_oneof![ago, at].prop_map(Value::Time).boxed()
}
