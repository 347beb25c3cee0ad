//! What import files are read as, and what is said about bad ones.

use super::*;

fn devices(text: &str, format: Format) -> Result<String, String> {
    parse::<ImportDevice>(text, format).map(|rows| serde_json::to_string(&rows).expect("JSON"))
}

fn refusal<T: Row>(text: &str) -> String {
    match parse::<T>(text, sniff(text)) {
        Ok(_) => panic!("accepted {text:?}"),
        Err(what) => what,
    }
}

#[test]
fn csv_and_json_give_the_same_devices() {
    let csv = "\u{feff}name, site,serial,description,label.type,label.old,installed.pos-app\r\n\
               till-1,NYC-001,S1,\"Times Square, 1\",flagship,,2.3.1\r\n\
               till-2,,,,,,\r\n";
    let json = r#" {"devices": [
        {"name": "till-1", "site": "NYC-001", "serial": "S1", "description": "Times Square, 1",
         "labels": {"type": "flagship"}, "installed": {"pos-app": "2.3.1"}},
        {"name": "till-2"}]}"#;
    let list = r#"[{"name": "till-1", "site": "NYC-001", "serial": "S1", "description": "Times Square, 1",
         "labels": {"type": "flagship"}, "installed": {"pos-app": "2.3.1"}}, {"name": "till-2"}]"#;
    let expected = devices(csv, Format::Csv).expect("CSV");
    assert!(expected.contains(r#""labels":{"type":"flagship"},"installed":{"pos-app":"2.3.1"}"#), "{expected}");
    assert_eq!(devices(json, sniff(json)).expect("an object"), expected);
    assert_eq!(devices(list, sniff(list)).expect("a list"), expected);
}

#[test]
fn sites_are_read_from_csv() {
    let csv = "id,tz,trading_hours,label.region\n\
               NYC-001,America/New_York,mon-tue 08:00-20:00; sun 10:00-18:00,northeast\n\
               NYC-002,America/New_York,none,\n\
               NYC-003,America/New_York,,\n";
    let rows: Vec<ImportSite> = parse(csv, Format::Csv).expect("sites");
    let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).expect("JSON")).collect();
    assert_eq!(
        lines,
        [
            r#"{"id":"NYC-001","name":"","tz":"America/New_York","labels":{"region":"northeast"},"trading_hours":[{"days":["mon","tue"],"opens":"08:00","closes":"20:00"},{"days":["sun"],"opens":"10:00","closes":"18:00"}]}"#,
            r#"{"id":"NYC-002","name":"","tz":"America/New_York","labels":{},"trading_hours":[]}"#,
            r#"{"id":"NYC-003","name":"","tz":"America/New_York","labels":{},"trading_hours":null}"#,
        ]
    );
    let bad = refusal::<ImportSite>("id,tz,trading_hours\nNYC-001,UTC,mon 8-20\n");
    assert!(bad.starts_with("line 2, column trading_hours: \"8-20\" is not a span such as 08:00-20:00"), "{bad}");
}

#[test]
fn bad_csv_is_told_by_line_and_column() {
    for (text, what) in [
        (
            "name,colour\n",
            "line 1, column 2: \"colour\" is not known; columns are name, site, serial, description, label.KEY, installed.KEY",
        ),
        ("name,label.\n", "line 1, column 2: \"label.\" is not known"),
        ("name,site,site\n", "line 1, column 3: \"site\" stands twice"),
        ("site\nNYC-001\n", "line 1: column \"name\" is missing"),
        ("name,site\ntill-1,NYC-001\ntill 2,NYC-001\n", "line 3, column name: \"till 2\" is not a device name"),
        ("name,site\n,NYC-001\n", "line 2, column name: it is empty"),
        ("name,site\ntill-1,../etc\n", "line 2, column site: \"../etc\" is not a site name"),
        ("name,installed.pos-app\ntill-1,2 3\n", "line 2, column installed.pos-app: not a version"),
        ("name,site\n\ntill-1\n", "line 3: 1 columns, but the header has 2"),
        ("name\ntill-1\ntill-2\ntill-1\n", "\"till-1\" stands twice, in lines 2 and 4"),
        ("name\n", "there are no devices in it"),
    ] {
        let said = refusal::<ImportDevice>(text);
        assert!(said.starts_with(what), "{text:?}\n{said}");
    }
}

#[test]
fn bad_json_is_told_by_line_and_column() {
    for (text, what) in [
        ("[{\"name\": \"till-1\",\n \"colour\": 1}]", "unknown field `colour`"),
        ("[{\"name\": \"till 1\"}]", "\"till 1\" is not a device name"),
        ("{\"sites\": []}", "unknown field `sites`, expected `devices`"),
        ("[{\"name\": \"till-1\"},", "EOF while parsing"),
    ] {
        let said = refusal::<ImportDevice>(text);
        assert!(said.starts_with(what) && said.contains(" at line "), "{text:?}\n{said}");
    }
    assert_eq!(
        refusal::<ImportDevice>("[{\"name\": \"a\"}, {\"name\": \"a\"}]"),
        "\"a\" stands twice, in items 1 and 2"
    );
}

#[test]
fn large_files_are_sent_in_batches_and_summed() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("devices.csv");
    let names: String = (0..MAX_IMPORT + 1).map(|n| format!("till-{n}\n")).collect();
    fs::write(&file, format!("name\n{names}")).expect("written");
    let answer = |created: usize| {
        let eligible = r#"[{"rollout": "patch", "devices": 2}]"#;
        let counts = format!(r#""created": {created}, "updated": 0, "unchanged": 0"#);
        (200, format!(r#"{{{counts}, "dry_run": true, "eligible": {eligible}}}"#))
    };
    let (api, serving) = crate::cli::api::stub::serve(vec![answer(MAX_IMPORT), answer(1)]);
    let done = run::<ImportDevice>(&api, &ImportArgs { file, dry_run: true }).expect("imported");
    assert_eq!((done.created, done.dry_run), (5001, true));
    assert_eq!((done.eligible.len(), done.eligible[0].devices), (1, 4));
    let seen = serving.join().expect("served");
    let sent = |n: usize| serde_json::from_slice::<ImportDevices>(&seen[n].body).expect("a body").devices.len();
    assert_eq!((seen[0].line.as_str(), sent(0), sent(1)), ("POST /api/v1/devices/import", 5000, 1));
}
