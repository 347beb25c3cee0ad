//! Labels as they are typed: one `key=value` a line.

use callboard_proto::admin::Labels;

/// Labels as lines.
pub(crate) fn lines(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// Reads lines.
pub(crate) fn read(text: &str) -> Result<Labels, String> {
    let mut labels = Labels::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not key=value"))?;
        if labels.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
            return Err(format!("the key {:?} stands twice", key.trim()));
        }
    }
    Ok(labels)
}

/// What has to be set and removed to get from one to the other.
pub(crate) fn difference(from: &Labels, to: &Labels) -> (Labels, Vec<String>) {
    let set = to.iter().filter(|(key, value)| from.get(*key) != Some(*value));
    let set = set.map(|(key, value)| (key.clone(), value.clone())).collect();
    (set, from.keys().filter(|key| !to.contains_key(*key)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_written() {
        let labels = read("region=north\n\n ring = early \na=b=c\n").unwrap();
        assert_eq!(lines(&labels), "a=b=c\nregion=north\nring=early\n");
        assert_eq!(read("a").unwrap_err(), "\"a\" is not key=value");
        assert_eq!(read("a=1\na=2").unwrap_err(), "the key \"a\" stands twice");
        let (set, remove) = difference(&labels, &read("region=south\nring=early\nnew=1").unwrap());
        assert_eq!((lines(&set), remove), ("new=1\nregion=south\n".to_owned(), vec!["a".to_owned()]));
    }
}
