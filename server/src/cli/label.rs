//! Labels on the command line: `key=value`.

use callboard_proto::admin::Labels;

use super::exit::BadInput;

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    key: String,
    value: String,
}

/// Reads `key=value`; what keys and values may be is the server's business.
///
/// # Errors
/// Says what a label looks like.
pub(crate) fn parse(text: &str) -> Result<Label, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok(Label { key: key.trim().to_owned(), value: value.trim().to_owned() })
        }
        _ => Err(format!("{text:?} is not a label: KEY=VALUE is wanted, such as region=northeast")),
    }
}

/// All of them, each key once.
pub(crate) fn collect(labels: Vec<Label>) -> Result<Labels, BadInput> {
    let mut map = Labels::new();
    for Label { key, value } in labels {
        if let Some(other) = map.insert(key.clone(), value) {
            return Err(BadInput(format!("label {key} is given twice, once as {other:?}")));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_key_and_value_and_each_key_stands_once() {
        let labels = ["region=northeast", "a=", "b=c=d"].map(|text| parse(text).expect("a label"));
        let map = collect(labels.to_vec()).expect("distinct");
        assert_eq!(
            map.into_iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>(),
            ["a:", "b:c=d", "region:northeast"]
        );
        assert!(parse("region").expect_err("no value").contains("KEY=VALUE"));
        assert!(parse("=x").is_err());
        let twice = ["a=1", "a=2"].map(|text| parse(text).expect("a label"));
        assert_eq!(collect(twice.to_vec()).expect_err("twice").0, "label a is given twice, once as \"1\"");
    }
}
