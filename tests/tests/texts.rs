//! Texts that somebody else wrote: each is checked where it comes in, so that no database is asked to store what it
//! cannot. A request with a bad one is refused as the caller's mistake, never answered as one of the server.

use callboard_proto::{paths, problem::Code};
use callboard_tests::{
    device::{FakeDevice, Key, anonymous, enrolment},
    http::{Request, Response},
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use serde_json::{Map, Value, json};

use crate::{on_both, refused};

/// What becomes of a text, and what the refusal may say of it: the limit, or the grammar of the field.
const NUL: (&str, &[&str]) = ("a\0b", &["has the control character U+0000; none is allowed"]);
const GRAMMAR: [&str; 12] = [
    "is not one of a web server",
    "an API token has no session",
    "the password has ",
    // Of a password it is not said what is wrong with it.
    "name, password or code is wrong",
    "is not a ",
    "not a version",
    "not a time",
    "unknown variant",
    "column",
    "is not allowed: 1 to 64 of",
    "is not allowed: 1 to 64 printable ASCII characters",
    "is not an IANA time zone",
];
const LONG: &[&str] = &["has 1000000 bytes; at most"];

/// Every way to put a bad text into `body`: with the place where it is, and what the refusal may say.
fn spoilt(body: &Value) -> Vec<(String, Value, &'static [&'static str])> {
    let long = "x".repeat(1_000_000);
    let mut found = Vec::new();
    for (place, key) in places(body, String::new()) {
        for (bad, said) in [(NUL.0, NUL.1), ("a\u{1b}b", &["U+001B"]), ("a\u{9b}b", &["U+009B"]), (&long, LONG)] {
            let mut body = body.clone();
            let there = body.pointer_mut(&place).unwrap();
            match &key {
                None => *there = json!(bad),
                Some(key) => {
                    let object = there.as_object_mut().unwrap();
                    let value = object.remove(key).unwrap();
                    object.insert(bad.to_owned(), value);
                }
            }
            found.push((format!("{place} {key:?} {:?}", &bad[..3]), body, said));
        }
    }
    found
}

/// The texts in a body, and the keys that are texts themselves.
fn places(value: &Value, at: String) -> Vec<(String, Option<String>)> {
    match value {
        Value::String(_) => vec![(at, None)],
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(n, item)| places(item, format!("{at}/{n}"))).collect()
        }
        Value::Object(fields) => {
            let free = ["labels", "set", "installed", "attributes", "attacks"].iter().any(|name| at.ends_with(name));
            let keys = fields.keys().filter(|_| free).map(|key| (at.clone(), Some(key.clone())));
            let values = fields.iter().flat_map(|(key, value)| places(value, format!("{at}/{key}")));
            keys.chain(values).collect()
        }
        _ => Vec::new(),
    }
}

#[track_caller]
fn is_refused(answer: &Response, what: &str, said: &[&str]) {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!((400..500).contains(&answer.status), "{what}: {} {detail}", answer.status);
    let named = said.iter().chain(&GRAMMAR).any(|said| detail.contains(said));
    assert!(named, "{what}: {detail:.300}");
}

/// A body as the description of the API has it, with every field there is.
fn sample(document: &Value, schema: &Value, name: &str) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(document, document.pointer(&reference[1..]).unwrap(), name);
    }
    if let Some(first) = schema["enum"].get(0) {
        // The one action that a release to go back to may stand beside.
        return if name == "action" { json!("rollback_to") } else { first.clone() };
    }
    if let Some(of) = schema["oneOf"].as_array().or(schema["allOf"].as_array()) {
        let other = of.iter().find(|one| one["type"] != "null").unwrap();
        return sample(document, other, name);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].get(0)?.as_str());
    match kind.unwrap() {
        "string" if schema["format"] == "date-time" => json!("2027-03-01T00:00:00Z"),
        "string" => json!(match name {
            "release" => "pos-app@2.4.0",
            "rollback_to" => "pos-app@2.3.0",
            "tz" | "default_tz" => "America/New_York",
            "from" | "to" => "2027-03-01",
            "opens" | "start" => "08:00",
            "closes" => "18:00",
            "days" => "mon",
            _ => "x",
        }),
        "integer" | "number" => json!(1),
        "boolean" => json!(true),
        "array" => json!([sample(document, &schema["items"], name)]),
        "object" if schema["additionalProperties"].is_object() => {
            json!({ "k": sample(document, &schema["additionalProperties"], "") })
        }
        "object" => {
            let fields = schema["properties"].as_object().unwrap().iter();
            Value::Object(
                fields.map(|(name, field)| (name.clone(), sample(document, field, name))).collect::<Map<_, _>>(),
            )
        }
        other => panic!("{name} is of type {other}"),
    }
}

#[test]
fn a_nul_or_a_megabyte_in_any_text_of_an_operator_is_the_operators_mistake() {
    let document: Value = serde_json::from_str(include_str!("../../proto-docs/openapi.json")).unwrap();
    on_both(|server| {
        server.import_fleet();
        NewRelease::new("pos-app", "2.4.0", 100).publish(server);
        server.api().post::<Value>("rollouts", &rollout("r", "pos-app@2.4.0", &json!({})));
        let mut texts = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            let path = path.replace("{device}", "pos-nyc-001").replace("{site}", "NYC-001").replace("{rollout}", "r");
            for (method, operation) in methods.as_object().unwrap() {
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                if !schema["$ref"].is_string() {
                    continue;
                }
                let body = sample(&document, schema, "");
                for (what, body, said) in spoilt(&body) {
                    let request = Request::new(&method.to_uppercase(), format!("/api/v1{path}")).json(&body);
                    is_refused(&server.api().send(request), &format!("{method} {path} {what}"), said);
                    texts += 1;
                }
            }
        }
        assert!(texts > 4 * 40, "{texts}");
    });
}

#[test]
fn a_nul_in_a_path_or_a_query_is_the_callers_mistake() {
    let document: Value = serde_json::from_str(include_str!("../../proto-docs/openapi.json")).unwrap();
    on_both(|server| {
        let mut asked = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                // A header with a NUL is no HTTP; what stands elsewhere, for many to refer to, is a header.
                for parameter in parameters.filter(|one| one["in"] != "header" && one.get("$ref").is_none()) {
                    let name = parameter["name"].as_str().unwrap();
                    let path = match parameter["in"].as_str().unwrap() {
                        "path" => path.replace(&format!("{{{name}}}"), "a%00b"),
                        _ => format!("{}?{name}=a%00b", path.replace(['{', '}'], "")),
                    };
                    let body = json!({ "reason": "x", "phase": "x", "trading_hours": [], "bandwidth": [] });
                    let request = Request::new(&method.to_uppercase(), format!("/api/v1{path}")).json(&body);
                    let answer = server.api().send(request);
                    assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.text());
                    asked += 1;
                }
            }
        }
        assert!(asked > 40, "{asked}");
    });
}

#[test]
fn a_nul_in_any_text_of_a_device_is_the_devices_mistake() {
    on_both(|server: &mut TestServer| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let example: Value = serde_json::from_str(include_str!("../../proto-docs/examples/check-in.json")).unwrap();
        let send = |body: &Value| device.twin(server).try_check_in(&serde_json::to_vec(body).unwrap());
        for (what, body, said) in spoilt(&example) {
            let answer = send(&body);
            let too_large = answer.status == Code::TooLarge.row().2;
            // The nonce and the digest have grammars of their own.
            let said: Vec<&str> = said.iter().copied().chain(["64 lower-case hexadecimal digits"]).collect();
            assert_eq!(too_large, what.ends_with("\"xxx\""), "{what}");
            if !too_large {
                is_refused(&answer, &what, &said);
            }
        }
        // What is too long, but fits the body.
        let mut long = example.clone();
        long["facts"]["attributes"]["printer"] = json!("x".repeat(129));
        refused(&send(&long), Code::BadRequest, "facts.attributes.printer has 129 bytes; at most 128 are allowed");
        // The device is as welcome as before.
        device.check_in();
    });
}

#[test]
fn a_nul_or_a_megabyte_at_enrolment_is_the_devices_mistake() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({}));
        let body = serde_json::to_value(enrolment(&token, &Key::new()).named("till-1").serial("SN-1").body).unwrap();
        let send = |body: &Value| anonymous(server).send(&Request::post(paths::ENROL).json(body));
        for field in ["serial", "hw", "arch"] {
            let with = |text: String| {
                let mut body = body.clone();
                body[field] = json!(text);
                send(&body)
            };
            refused(&with("a\0b".to_owned()), Code::BadRequest, &format!("{field} has the control character U+0000"));
            refused(&with("\u{85}".to_owned()), Code::BadRequest, &format!("{field} has the control character U+0085"));
            refused(
                &with("x".repeat(129)),
                Code::BadRequest,
                &format!("{field} has 129 bytes; at most 128 are allowed"),
            );
            with("x".repeat(1_000_000)).problem(Code::TooLarge);
        }
        for field in ["token", "csr_pem", "name"] {
            let mut body = body.clone();
            body[field] = json!("a\0b");
            assert!((400..500).contains(&send(&body).status), "{field}");
        }
        send(&body).ok();
    });
}
