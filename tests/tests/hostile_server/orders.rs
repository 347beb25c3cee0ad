//! What may be wrong with the answer to a check-in.

use std::sync::Mutex;

use callboard_proto::{
    instruction::{Action, Instruction},
    paths,
    release::Release,
    signed::Document as _,
};
use callboard_tests::{
    clock::time,
    hostile::{Answer, Asked, Kit, seal},
};
use data_encoding::BASE64;
use ed25519_dalek::Signer as _;
use serde_json::{Value, json};

use super::{Case, Sign, Sign::Counts, answer, release, to_check_in};

/// An order in which the thief has changed something, properly signed.
fn ordered(name: &'static str, sign: Sign, change: fn(&mut Instruction)) -> Case {
    answer(name, sign, move |kit, asked| to_check_in(asked, || kit.order(asked, change)))
}

/// The envelope of an order, as JSON with something changed.
fn enveloped(name: &'static str, change: fn(&mut Value)) -> Case {
    answer(name, Counts("bad_sig"), move |kit, asked| {
        to_check_in(asked, || {
            let mut envelope: Value = serde_json::from_slice(&kit.order(asked, |_| {})).unwrap();
            change(&mut envelope);
            serde_json::to_vec(&envelope).unwrap()
        })
    })
}

/// The body of an order as text with something changed, properly signed.
fn written(name: &'static str, change: fn(String) -> String) -> Case {
    answer(name, Counts("bad_sig"), move |kit, asked| {
        to_check_in(asked, || {
            let body = change(String::from_utf8(kit.body(asked)).unwrap());
            seal(Instruction::TYPE, body.as_bytes(), &[&kit.stolen.online_key])
        })
    })
}

/// A byte of a base64 field becomes another one.
fn flip(field: &mut Value, at: usize) {
    let mut bytes = BASE64.decode(field.as_str().unwrap().as_bytes()).unwrap();
    bytes[at] ^= 1;
    *field = json!(BASE64.encode(&bytes));
}

fn signed_by(kit: &Kit, asked: &Asked, key: &ed25519_dalek::SigningKey) -> Vec<u8> {
    seal(Instruction::TYPE, &kit.body(asked), &[key])
}

#[expect(clippy::too_many_lines, reason = "one entry for each attack")]
pub(super) fn cases() -> Vec<Case> {
    let first: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let mut cases = vec![
        release("nothing is wrong, and what it is told to install is installed", Sign::Obeys, |stolen| {
            stolen.software(|_| {})
        }),
        enveloped("an order that nobody has signed", |envelope| envelope["signatures"] = json!([])),
        enveloped("a bit of the body is flipped", |envelope| flip(&mut envelope["payload"], 40)),
        enveloped("a bit of the signature is flipped", |envelope| flip(&mut envelope["signatures"][0]["sig"], 3)),
        enveloped("the signature is empty", |envelope| envelope["signatures"][0]["sig"] = json!("")),
        enveloped("the payload has white space in it", |envelope| {
            envelope["payload"] = json!(format!("{} ", envelope["payload"].as_str().unwrap()));
        }),
        enveloped("seventeen signatures", |envelope| {
            envelope["signatures"] = json!(vec![envelope["signatures"][0].clone(); 17]);
        }),
        enveloped("an order is shown as a root", |envelope| {
            envelope["payloadType"] = json!("application/vnd.callboard.root.v1+json");
        }),
        answer("an order by a key that no root lists", Counts("bad_sig"), |kit, asked| {
            to_check_in(asked, || signed_by(kit, asked, &kit.stolen.own_key))
        }),
        answer("an order by the release key", Counts("bad_sig"), |kit, asked| {
            to_check_in(asked, || signed_by(kit, asked, &kit.stolen.release_key))
        }),
        answer("an order by the root key", Counts("bad_sig"), |kit, asked| {
            to_check_in(asked, || signed_by(kit, asked, &kit.stolen.root_key))
        }),
        answer("the body is signed without its type", Counts("bad_sig"), |kit, asked| {
            to_check_in(asked, || {
                let body = kit.body(asked);
                let signature = kit.stolen.online_key.sign(&body).to_bytes();
                let envelope = json!({
                    "payloadType": Instruction::TYPE,
                    "payload": BASE64.encode(&body),
                    "signatures": [{ "keyid": "", "sig": BASE64.encode(&signature) }],
                });
                serde_json::to_vec(&envelope).unwrap()
            })
        }),
        answer("a release is given instead of an order", Counts("bad_sig"), |kit, asked| {
            to_check_in(asked, || kit.software.envelope.clone())
        }),
        answer("an order is signed as a release", Counts("bad_sig"), |kit, asked| {
            to_check_in(asked, || seal(Release::TYPE, &kit.body(asked), &[&kit.stolen.online_key]))
        }),
        answer("a field of the envelope stands twice", Counts("bad_sig"), |kit, asked| {
            to_check_in(asked, || {
                let text = String::from_utf8(kit.order(asked, |_| {})).unwrap();
                text.replacen('{', r#"{"payloadType":"x","#, 1).into_bytes()
            })
        }),
        answer("a bomb of brackets", Counts("bad_sig"), |_, asked| to_check_in(asked, || vec![b'['; 20_000])),
        answer("ten megabytes of text", Counts("oversize"), |_, asked| {
            to_check_in(asked, || format!("{{\"payload\":\"{}\"}}", "a".repeat(10 << 20)).into_bytes())
        }),
        answer("bytes that are no text", Counts("bad_sig"), |_, asked| to_check_in(asked, || vec![0xff; 1000])),
        answer("nothing to do, said by nobody", Counts("bad_sig"), |_, asked| {
            to_check_in(asked, || br#"{"action":"none"}"#.to_vec())
        }),
        answer("an empty answer", Counts("bad_sig"), |_, asked| to_check_in(asked, Vec::new)),
        answer("an answer that never ends", Counts("oversize"), |_, asked| {
            let endless = Answer::ok(vec![b' '; 4096]).end(callboard_tests::hostile::End::Endless);
            (asked.path == paths::CHECK_IN).then_some(endless)
        }),
        written("a field of the order stands twice", |body| body.replacen('{', r#"{"action":"none","#, 1)),
        written("a number that is none", |body| body.replacen("\"next_checkin_s\":10", "\"next_checkin_s\":NaN", 1)),
        written("a field that must be understood and is not", |body| body.replacen('{', r#"{"crit":["x"],"x":1,"#, 1)),
        written("an action that there is not", |body| body.replacen("\"install\"", "\"wipe\"", 1)),
        answer("yesterday's order once more", Counts("nonce_mismatch"), move |kit, asked| {
            to_check_in(asked, || {
                let mut first = first.lock().unwrap();
                let fresh = || {
                    kit.order(asked, |order| {
                        order.action = Action::None;
                        (order.release_sha256, order.assignment_id, order.attempt) = (None, None, None);
                    })
                };
                first.get_or_insert_with(fresh).clone()
            })
        }),
        ordered("an order for another device", Counts("wrong_device"), |order| {
            order.device_id = "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c77".parse().unwrap();
        }),
        ordered("an order for another request", Counts("nonce_mismatch"), |order| {
            order.request_sha256 = callboard_proto::digest::Digest::of(b"another");
        }),
        ordered("an order with another nonce", Counts("nonce_mismatch"), |order| order.nonce.0[0] ^= 1),
        ordered("a time before everything that was signed", Counts("clock_back"), |order| {
            order.server_time = time("1970-01-01T00:00:00Z");
            order.action = Action::Hold;
        }),
        ordered("a root that the server does not have", Sign::Says("root_missing"), |order| order.root_version = 9),
    ];
    // Orders that are right, and lead nowhere.
    cases.push(Case {
        never: Some("/payloads/"),
        ..ordered("an order for a release that is not there", Sign::Says("http_status"), |order| {
            order.release_sha256 = Some(callboard_proto::digest::Digest::of(b"not there"));
        })
    });
    for (name, interval) in [("asked to come again at once", 0), ("asked to come again in a hundred years", u32::MAX)] {
        let order = move |kit: &Kit, asked: &Asked| {
            to_check_in(asked, || {
                kit.order(asked, |order| {
                    order.next_checkin_s = interval;
                })
            })
        };
        cases.push(Case {
            software: Box::new(|stolen| stolen.software(|release| release.hw = vec!["another".to_owned()])),
            ..answer(name, Sign::Says("wrong_hardware"), order)
        });
    }
    cases
}
