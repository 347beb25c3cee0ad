use super::*;

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
