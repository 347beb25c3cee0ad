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
    let csv = &decode(csv.as_bytes().to_vec()).expect("UTF-8");
    let expected = devices(csv, Format::Csv).expect("CSV");
    assert!(expected.contains(r#""labels":{"type":"flagship"},"installed":{"pos-app":"2.3.1"}"#), "{expected}");
    assert_eq!(devices(json, sniff(json)).expect("an object"), expected);
    assert_eq!(devices(list, sniff(list)).expect("a list"), expected);
    let marked = decode(format!("\u{feff}{list}").into_bytes()).expect("UTF-8");
    assert_eq!(devices(&marked, sniff(&marked)).expect("a list"), expected);
}

#[test]
fn sites_are_read_from_csv() {
    let csv = "id,tz,trading_hours,bandwidth,label.region\n\
               NYC-001,America/New_York,mon-tue 08:00-20:00; sun 10:00-18:00,sun 0; 2MB/s,northeast\n\
               NYC-002,America/New_York,none,none,\n\
               NYC-003,America/New_York,,,\n";
    let rows: Vec<ImportSite> = parse(csv, Format::Csv).expect("sites");
    let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).expect("JSON")).collect();
    assert_eq!(
        lines,
        [
            r#"{"id":"NYC-001","name":"","tz":"America/New_York","labels":{"region":"northeast"},"trading_hours":[{"days":["mon","tue"],"opens":"08:00","closes":"20:00"},{"days":["sun"],"opens":"10:00","closes":"18:00"}],"bandwidth":[{"days":["sun"],"from":null,"to":null,"bytes_per_s":0},{"days":[],"from":null,"to":null,"bytes_per_s":2000000}]}"#,
            r#"{"id":"NYC-002","name":"","tz":"America/New_York","labels":{},"trading_hours":[],"bandwidth":[]}"#,
            r#"{"id":"NYC-003","name":"","tz":"America/New_York","labels":{},"trading_hours":null,"bandwidth":null}"#,
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
        ("name\ntill-1\n\n\ntill-1\n", "\"till-1\" stands twice, in lines 2 and 5"),
        ("name,serial\na,S\nb,S\n", "serial number \"S\" stands twice, in lines 2 and 3"),
        ("name\n", "there are no devices in it"),
        ("", "it is empty; the first line names the columns"),
        (" \r\n\r\n", "it is empty"),
        (
            "name;site\na;b\n",
            "line 1, column 1: \"name;site\" is not known; they are separated by commas, and columns are",
        ),
        ("name\tsite\na\tb\n", "line 1, column 1: \"name\\tsite\" is not known; they are separated by commas"),
        ("name,site\ntill-1,A,B\n", "line 2: 3 columns, but the header has 2"),
        ("name,description\ntill-1,\"open\ntill-2,x\n", "line 2, column 2: the quote is not closed on this line"),
        ("name,description\ntill-1,\"a\ntill-2,b\"\n", "line 2, column 2: the quote is not closed on this line"),
        ("name,\"site\n", "line 1, column 2: the quote is not closed"),
        ("name,description\ntill-1,5\" screen\n", "line 2, column 2: a quote in the middle; put the whole cell in"),
        ("name,description\ntill-1,\"a\" b\n", "line 2, column 2: text behind the closing quote"),
        ("name\rtill-1\rtill-2\r", "line 1, column 1: a line that ends in CR alone"),
    ] {
        let said = refusal::<ImportDevice>(text);
        assert!(said.starts_with(what), "{text:?}\n{said}");
    }
}

#[test]
fn quoted_cells_hold_commas_and_quotes() {
    let csv = "name,description,site\n till-1 , \"5\"\" screen, left\" ,\n\"till-2\",\"\",NYC-001\n";
    let rows: Vec<ImportDevice> = parse(csv, Format::Csv).expect("devices");
    assert_eq!((rows[0].description.as_str(), rows[0].site.as_ref()), ("5\" screen, left", None));
    assert_eq!((rows[1].name.as_str(), rows[1].description.as_str()), ("till-2", ""));
}

#[test]
fn another_encoding_is_told_by_its_line() {
    assert_eq!(
        decode(b"name\ncaf\xe9\n".to_vec()).expect_err("Latin-1"),
        "line 2 is not UTF-8; save the file in that encoding"
    );
    assert!(decode(b"\xff\xfen\0a\0".to_vec()).expect_err("UTF-16").starts_with("line 1 is not UTF-8"));
}

#[test]
fn bad_json_is_told_by_line_and_column() {
    for (text, what) in [
        ("[{\"name\": \"till-1\",\n \"colour\": 1}]", "unknown field `colour`"),
        ("[{\"name\": \"till 1\"}]", "\"till 1\" is not a device name"),
        ("{\"sites\": []}", "unknown field `sites`, expected `devices`"),
        ("[{\"name\": \"till-1\"},", "EOF while parsing"),
        ("[{\"name\": \"till-1\", \"name\": \"till-2\"}]", "duplicate field `name`"),
        ("[] []", "trailing characters"),
    ] {
        let said = refusal::<ImportDevice>(text);
        assert!(said.starts_with(what) && said.contains(" at line "), "{text:?}\n{said}");
    }
    assert_eq!(
        refusal::<ImportDevice>("[{\"name\": \"a\"}, {\"name\": \"a\"}]"),
        "\"a\" stands twice, in items 1 and 2"
    );
}

/// What the server would say to each request, and what came in.
fn imported(file: &str, text: &str, dry_run: bool, answers: &[usize]) -> (Imported, Vec<(usize, bool)>) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(file);
    fs::write(&file, text).expect("written");
    let answer = |created: &usize| {
        let eligible = r#"[{"rollout": "patch", "devices": 2}]"#;
        let counts = format!(r#""created": {created}, "updated": 0, "unchanged": 0"#);
        (200, format!(r#"{{{counts}, "dry_run": true, "eligible": {eligible}}}"#))
    };
    let (api, serving) = crate::cli::api::stub::serve(answers.iter().map(answer).collect());
    let done = run::<ImportDevice>(&api, &ImportArgs { file, dry_run }).expect("imported");
    let seen = serving.join().expect("served").into_iter().map(|seen| {
        assert_eq!(seen.line, "POST /api/v1/devices/import");
        let body: ImportDevices = serde_json::from_slice(&seen.body).expect("a body");
        (body.devices.len(), body.dry_run)
    });
    (done, seen.collect())
}

#[test]
fn large_files_are_sent_in_batches_and_summed() {
    let names: String = (0..MAX_IMPORT + 1).map(|n| format!("till-{n}\n")).collect();
    let (done, seen) = imported("devices.csv", &format!("name\n{names}"), true, &[MAX_IMPORT, 1]);
    assert_eq!((done.created, done.dry_run), (5001, true));
    assert_eq!((done.eligible.len(), done.eligible[0].devices), (1, 4));
    assert_eq!(seen, [(5000, true), (1, true)]);
}

#[test]
fn a_file_of_several_batches_is_tried_before_the_first_is_imported() {
    let text = "x".repeat(2 << 20);
    let rows: String = (0..4).map(|n| format!("till-{n},{text}\n")).collect();
    let (done, seen) = imported("devices.csv", &format!("name,description\n{rows}"), false, &[2, 2, 2, 2]);
    assert_eq!((done.created, done.dry_run), (4, false));
    assert_eq!(seen, [(2, true), (2, true), (2, false), (2, false)]);
}
