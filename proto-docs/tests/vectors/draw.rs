//! Documents drawn anew in every run: signed by any of the keys, and changed in any place before or after.

use callboard_proto::{
    digest::Digest,
    head::Head,
    instruction::Instruction,
    release::Release,
    root::Root,
    signed::{Document, Envelope, Sign},
};
use serde_json::{Map, Value, json};

use super::{Kind, Vector, known, wrapped};

/// Another one each time, unless `CALLBOARD_SEED` says which.
pub(super) fn seed() -> u64 {
    let given = std::env::var("CALLBOARD_SEED").ok().map(|text| text.parse().unwrap());
    given.unwrap_or_else(|| {
        let hasher = std::hash::BuildHasher::build_hasher(&std::hash::RandomState::new());
        std::hash::Hasher::finish(&hasher)
    })
}

/// Random numbers that a seed gives again.
struct Dice {
    state: Digest,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.state = Digest::of(self.state.as_bytes());
        let (bytes, _) = self.state.as_bytes().split_first_chunk().unwrap();
        usize::try_from(u64::from_le_bytes(*bytes) % u64::try_from(n).unwrap()).unwrap()
    }

    fn often(&mut self) -> bool {
        self.below(4) != 0
    }
}

/// So many vectors.
pub(super) fn fresh(seed: u64, n: usize) -> Vec<Vector> {
    let mut dice = Dice { state: Digest::of(&seed.to_le_bytes()) };
    (0..n).map(|n| one(&mut dice, n)).collect()
}

fn one(dice: &mut Dice, n: usize) -> Vector {
    let kinds = [Kind::FirstRoot, Kind::NextRoot, Kind::Release, Kind::Head, Kind::Instruction];
    let kind = kinds[dice.below(kinds.len())];
    let (body, mut envelope) = match kind {
        Kind::FirstRoot => document(&known::root()),
        Kind::NextRoot => document(&Root { version: 2, ..known::root() }),
        Kind::Release => document(&known::release()),
        Kind::Head => document(&known::head()),
        Kind::Instruction => document(&known::instruction()),
    };
    if !dice.often() {
        envelope.payload = changed(dice, body).to_string().into_bytes();
    }
    let keys: [&dyn Sign; 9] = [
        &known::ed(1),
        &known::ed(2),
        &known::ed(3),
        &known::p256(11),
        &known::ed(4),
        &known::p256(12),
        &known::ed(5),
        &known::ed(6),
        &known::p256(13),
    ];
    for key in keys {
        if dice.often() {
            known::sign(&mut envelope, &[key]);
        }
    }
    let mut bytes = envelope.to_json();
    if dice.below(8) == 0 {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(7);
    }
    let trusted = (kind != Kind::FirstRoot).then(known::trusted);
    let name = format!("fresh-{n}");
    let mut vector = Vector {
        name,
        kind,
        trusted: trusted.map(|root| data_encoding::BASE64.encode(&root)),
        document: data_encoding::BASE64.encode(&bytes),
        accept: false,
        sha256: None,
    };
    // Nobody knows better what a random change has done; the question is whether both say the same.
    vector.sha256 = vector.verdict().ok();
    vector.accept = vector.sha256.is_some();
    vector
}

fn document<T: Document>(document: &T) -> (Value, Envelope) {
    let body = serde_json::to_value(document).unwrap();
    (body, wrapped::<T>(&serde_json::to_vec(document).unwrap()))
}

/// The same value with one thing changed somewhere inside.
fn changed(dice: &mut Dice, mut value: Value) -> Value {
    let place = &mut value;
    let mut place = place;
    loop {
        let size = match place {
            Value::Object(map) => map.len(),
            Value::Array(list) => list.len(),
            _ => 0,
        };
        if size == 0 || dice.below(3) == 0 && !matches!(place, Value::Object(_)) {
            break;
        }
        if let Value::Object(map) = place
            && dice.below(6) == 0
        {
            return_changed_map(dice, map);
            return value;
        }
        let at = dice.below(size);
        place = match place {
            Value::Object(map) => map.values_mut().nth(at).unwrap(),
            Value::Array(list) => &mut list[at],
            _ => unreachable!("it has a size"),
        };
    }
    *place = palette(dice);
    value
}

/// A field less, or one more.
fn return_changed_map(dice: &mut Dice, map: &mut Map<String, Value>) {
    if dice.below(2) == 0 {
        let name = map.keys().nth(dice.below(map.len())).unwrap().clone();
        map.remove(&name);
    } else {
        let name = ["later", "crit", "v", "epoch"][dice.below(4)];
        map.insert(name.to_owned(), palette(dice));
    }
}

fn palette(dice: &mut Dice) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("a/b"),
        json!("2026-11-23T02:00:00Z"),
        json!({}),
        json!(["x"]),
        json!([Release::TYPE, Head::TYPE, Instruction::TYPE]),
    ];
    values[dice.below(values.len())].clone()
}
