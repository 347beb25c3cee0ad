//! What may be wrong with roots, heads and releases.

use callboard_proto::{digest::Digest, head::Head, paths, release::Release, root::Root, signed::Document as _};
use callboard_tests::{
    clock::time,
    hostile::{Answer, Asked, Kit, Software, Stolen, seal},
    release::{NewRelease, bytes},
};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::{
    Case,
    Sign::{Counts, KeepsQuiet, Says},
    answer, release, to_check_in,
};

/// A root that is told of, instead of the one after the trusted one.
fn root(name: &'static str, kind: &'static str, make: fn(&Stolen) -> Vec<u8>) -> Case {
    answer(name, Counts(kind), move |kit, asked| {
        let order = || kit.order(asked, |order| order.root_version = 3);
        let root = (asked.path == paths::root(3)).then(|| Answer::ok(make(&kit.stolen)));
        root.or_else(|| to_check_in(asked, order))
    })
}

/// The next root with something changed, signed by these keys.
fn next(stolen: &Stolen, keys: &[&SigningKey], change: impl FnOnce(&mut Root)) -> Vec<u8> {
    let mut root = Root { version: 3, ..stolen.root.clone() };
    change(&mut root);
    seal(Root::TYPE, &serde_json::to_vec(&root).unwrap(), keys)
}

/// Puts another key into the root role.
fn handed_over(root: &mut Root, key: &SigningKey) {
    let (id, key) = (callboard_proto::signed::key_id(&key.verifying_key()), key.verifying_key());
    root.keys.insert(id, callboard_proto::root::Key::from_ed25519(&key));
    root.roles.root.keyids = vec![id];
}

/// A head that is told of.
fn head(name: &'static str, kind: &'static str, make: fn(&Stolen) -> Vec<u8>) -> Case {
    answer(name, Counts(kind), move |kit, asked| {
        let order = || {
            kit.order(asked, |order| {
                order.head_serial = Some(kit.stolen.head.serial + 1);
                order.action = callboard_proto::instruction::Action::None;
                (order.release_sha256, order.assignment_id, order.attempt) = (None, None, None);
            })
        };
        let head = (asked.path == paths::HEAD).then(|| Answer::ok(make(&kit.stolen)));
        head.or_else(|| to_check_in(asked, order))
    })
}

fn sealed_head(stolen: &Stolen, key: &SigningKey, change: impl FnOnce(&mut Head)) -> Vec<u8> {
    let mut head = stolen.head.clone();
    change(&mut head);
    seal(Head::TYPE, &serde_json::to_vec(&head).unwrap(), &[key])
}

/// A release whose body has something changed that no honest tool would write, properly signed.
fn written(name: &'static str, change: fn(&mut Value)) -> Case {
    release(name, Counts("bad_sig"), move |stolen| {
        let new = NewRelease::with_payload("pos-app", "6.6.6", 99, bytes("harm", 3000));
        let mut body = serde_json::to_value(&new.document).unwrap();
        change(&mut body);
        let envelope = seal(Release::TYPE, body.to_string().as_bytes(), &[&stolen.release_key]);
        Software::new(envelope, &new.document, &[new.payload])
    })
}

/// A release by these keys.
fn signed_by(name: &'static str, keys: fn(&Stolen) -> Vec<&SigningKey>) -> Case {
    release(name, Counts("bad_sig"), move |stolen| {
        let new = NewRelease::with_payload("pos-app", "6.6.6", 99, bytes("harm", 3000));
        let envelope = seal(Release::TYPE, &serde_json::to_vec(&new.document).unwrap(), &keys(stolen));
        Software::new(envelope, &new.document, &[new.payload])
    })
}

fn suits(name: &'static str, code: &'static str, change: fn(&mut Release)) -> Case {
    let case = release(name, Says(code), move |stolen| stolen.software(change));
    Case { never: Some("/payloads/"), ..case }
}

/// A release that is signed, and too old in some way.
fn old(name: &'static str, allow_downgrade: bool, change: fn(&mut Release)) -> Case {
    let order = move |kit: &Kit, asked: &Asked| {
        to_check_in(asked, || kit.order(asked, |order| order.allow_downgrade = allow_downgrade))
    };
    let software = Box::new(move |stolen: &Stolen| stolen.software(change));
    Case { software, never: Some("/payloads/"), ..answer(name, Counts("rollback"), order) }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = roots();
    cases.extend(heads());
    cases.extend(releases());
    cases
}

fn roots() -> Vec<Case> {
    vec![
        root("a root that nobody has signed", "bad_sig", |stolen| next(stolen, &[], |_| {})),
        root("the next root by a stranger", "bad_sig", |stolen| next(stolen, &[&stolen.own_key], |_| {})),
        root("the next root by the online key", "bad_sig", |stolen| next(stolen, &[&stolen.online_key], |_| {})),
        root("the next root by new keys only", "bad_sig", |stolen| {
            next(stolen, &[&stolen.own_key], |root| handed_over(root, &stolen.own_key))
        }),
        root("the next root by old keys only", "bad_sig", |stolen| {
            next(stolen, &[&stolen.root_key], |root| handed_over(root, &stolen.own_key))
        }),
        root("the next root asks for two signatures and has one", "threshold", |stolen| {
            next(stolen, &[&stolen.root_key], |root| {
                let own = stolen.own_key.verifying_key();
                let id = callboard_proto::signed::key_id(&own);
                root.keys.insert(id, callboard_proto::root::Key::from_ed25519(&own));
                root.roles.root.keyids.push(id);
                root.roles.root.threshold = 2;
            })
        }),
        root("the trusted root once more", "rollback", |stolen| stolen.root_envelope.clone()),
        root("the root after the next", "rollback", |stolen| {
            next(stolen, &[&stolen.root_key], |root| root.version = 4)
        }),
        root("a root with a threshold of none", "bad_sig", |stolen| {
            next(stolen, &[&stolen.root_key], |root| root.roles.release[0].threshold = 0)
        }),
        root("a root with a key under another id", "bad_sig", |stolen| {
            next(stolen, &[&stolen.root_key], |root| {
                let key = root.keys.values().next().unwrap().clone();
                root.keys.insert(Digest::of(b"another"), key);
            })
        }),
        root("a root of another type", "bad_sig", |stolen| {
            let root = Root { version: 3, ..stolen.root.clone() };
            seal(Head::TYPE, &serde_json::to_vec(&root).unwrap(), &[&stolen.root_key])
        }),
        root("a root over the limit", "oversize", |_| vec![b' '; 1 << 20]),
        answer("an endless chain of roots", KeepsQuiet, |kit, asked| {
            let version = asked.path.strip_prefix("/v1/trust/root/").and_then(|version| version.parse().ok());
            let root = version.map(|version: u64| {
                // A new connection for each, so that it is seen how it goes on.
                Answer::ok(next(&kit.stolen, &[&kit.stolen.root_key], |root| root.version = version))
                    .header("connection", "close")
                    .end(callboard_tests::hostile::End::Cut)
            });
            root.or_else(|| {
                let told = |order: &mut callboard_proto::instruction::Instruction| {
                    order.root_version = 1000;
                    order.action = callboard_proto::instruction::Action::None;
                    (order.release_sha256, order.assignment_id, order.attempt) = (None, None, None);
                };
                to_check_in(asked, || kit.order(asked, told))
            })
        }),
    ]
}

fn heads() -> Vec<Case> {
    vec![
        head("a head that nobody has signed", "bad_sig", |stolen| {
            seal(Head::TYPE, &serde_json::to_vec(&stolen.head).unwrap(), &[])
        }),
        head("a head by the online key", "bad_sig", |stolen| {
            sealed_head(stolen, &stolen.online_key, |head| head.serial = 6)
        }),
        head("a head with a lower serial", "rollback", |stolen| {
            sealed_head(stolen, &stolen.head_key, |head| head.serial = 4)
        }),
        head("the same serial with other contents", "rollback", |stolen| {
            sealed_head(stolen, &stolen.head_key, |head| head.products.clear())
        }),
        head("a head of another epoch", "bad_sig", |stolen| {
            sealed_head(stolen, &stolen.head_key, |head| (head.serial, head.epoch) = (6, 7))
        }),
        head("a head over the limit", "oversize", |_| vec![b' '; 1 << 20]),
    ]
}

#[expect(clippy::too_many_lines, reason = "one entry for each attack")]
fn releases() -> Vec<Case> {
    let mut cases = vec![
        signed_by("a release that nobody has signed", |_| vec![]),
        signed_by("a release by the online key", |stolen| vec![&stolen.online_key]),
        signed_by("a release by the root key", |stolen| vec![&stolen.root_key]),
        signed_by("a release by the head key", |stolen| vec![&stolen.head_key]),
        signed_by("a release by a stranger", |stolen| vec![&stolen.own_key]),
        signed_by("a release by a key for another product", |stolen| vec![&stolen.kiosk_key]),
        written("a name of a payload that leads out", |body| body["payloads"][0]["name"] = json!("../pos-app")),
        written("a name of a payload with a slash", |body| body["payloads"][0]["name"] = json!("a/b")),
        written("a name of a payload with a dot first", |body| body["payloads"][0]["name"] = json!(".bashrc")),
        written("a name of a payload with a zero byte", |body| body["payloads"][0]["name"] = json!("a\u{0}b")),
        written("a name of a payload of 300 letters", |body| body["payloads"][0]["name"] = json!("a".repeat(300))),
        written("a name of a payload that stands twice", |body| {
            let payload = body["payloads"][0].clone();
            body["payloads"].as_array_mut().unwrap().push(payload);
        }),
        written("a digest in upper case", |body| {
            let digest = body["payloads"][0]["sha256"].as_str().unwrap().to_uppercase();
            body["payloads"][0]["sha256"] = json!(digest);
        }),
        written("a digest that is too short", |body| body["payloads"][0]["sha256"] = json!("ab12")),
        written("a payload of no bytes", |body| body["payloads"][0]["size"] = json!(0)),
        written("a payload of 2^63 bytes", |body| body["payloads"][0]["size"] = json!(1_u64 << 63)),
        written("chunks of no bytes", |body| body["payloads"][0]["chunk_size"] = json!(0)),
        written("chunks of 3000 bytes", |body| body["payloads"][0]["chunk_size"] = json!(3000)),
        written("a format that there is not", |body| body["payloads"][0]["format"] = json!("rar")),
        written("an installer that there is not", |body| body["installer"] = json!("curl-to-shell")),
        written("no list of hardware", |body| drop(body.as_object_mut().unwrap().remove("hw"))),
        written("an empty list of hardware", |body| body["hw"] = json!([])),
        written("a critical field that is not known", |body| {
            (body["crit"], body["delegations"]) = (json!(["delegations"]), json!([]));
        }),
        old("a counter below the floor, ordered as a downgrade", true, |release| release.counter = 5),
        old("an older release, not ordered as a downgrade", false, |release| release.counter = 10),
        old("the installed counter with other contents", true, |release| release.counter = 11),
        old("a higher version with a lower counter", false, |release| {
            (release.counter, release.version) = (9, "99.0.0".parse().unwrap());
        }),
        old("a counter below the head's minimum", true, |release| release.counter = 2),
        suits("a release for other hardware", "wrong_hardware", |release| release.hw = vec!["x".to_owned()]),
        suits("a release of a channel that the till does not accept", "wrong_channel", |release| {
            release.channels = vec!["beta".to_owned()];
        }),
        suits("a release of another product", "unknown_product", |release| {
            release.product = "kiosk-app".parse().unwrap();
        }),
        suits("a release for a newer agent", "agent_too_old", |release| {
            release.requires_agent = Some("99.0.0".parse().unwrap());
        }),
        suits("a release that needs a stepping stone", "needs_stepping_stone", |release| {
            release.requires_at_least = Some(50);
        }),
    ];
    cases.push(Case {
        never: Some("/payloads/"),
        ..release("a release that may not be installed any more", Counts("expired"), |stolen| {
            stolen.software(|release| release.not_after = Some(time("2027-01-01T00:00:00Z")))
        })
    });
    cases.push(Case {
        other: Some(Box::new(|stolen| stolen.software(|release| release.counter = 100))),
        ..answer("another release than the ordered one", Counts("bad_sig"), |kit, asked| {
            let other = kit.other.as_ref().unwrap();
            (asked.path == paths::release(kit.software.digest)).then(|| Answer::ok(other.envelope.clone()))
        })
    });
    cases.push(answer("a release with a bit flipped", Counts("bad_sig"), |kit, asked| {
        (asked.path == paths::release(kit.software.digest)).then(|| {
            let mut envelope = kit.software.envelope.clone();
            let at = envelope.len() / 2;
            envelope[at] ^= 1;
            Answer::ok(envelope)
        })
    }));
    cases.push(answer("a release over the limit", Counts("oversize"), |kit, asked| {
        (asked.path == paths::release(kit.software.digest)).then(|| Answer::ok(vec![b' '; 1 << 20]))
    }));
    cases.push(revoked());
    cases
}

/// It was revoked by a head that the device gets together with the order.
fn revoked() -> Case {
    answer("a release that the head has revoked", Counts("rollback"), |kit, asked| {
        let serial = kit.stolen.head.serial + 1;
        let revokes = |head: &mut Head| {
            head.serial = serial;
            head.products[0].revoked = vec![kit.software.digest];
        };
        let head =
            (asked.path == paths::HEAD).then(|| Answer::ok(sealed_head(&kit.stolen, &kit.stolen.head_key, revokes)));
        head.or_else(|| to_check_in(asked, || kit.order(asked, |order| order.head_serial = Some(serial))))
    })
}
