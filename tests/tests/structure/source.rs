//! Source files as text: what they mention and what they import.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Below the directory that was asked for.
    pub(super) path: String,
    pub(super) text: String,
    /// The text without comments.
    code: String,
}

/// The project's directory.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The server's files.
pub(super) fn server() -> Vec<Source> {
    of("server/src")
}

/// Every file of the project, tests among them.
pub(super) fn workspace() -> Vec<Source> {
    let dirs = ["proto-docs", "server", "agent", "tests"];
    dirs.iter()
        .flat_map(|dir| of(dir).into_iter().map(move |file| Source { path: format!("{dir}/{}", file.path), ..file }))
        .collect()
}

/// The files below a directory of the project.
pub(super) fn of(dir: &str) -> Vec<Source> {
    let base = root().join(dir);
    let mut files = Vec::new();
    let mut dirs = vec![base.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What a fuzzer builds lies beside its targets.
                if path.ends_with("target") {
                    continue;
                }
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&base).unwrap().to_str().unwrap();
                files.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "{dir} has no source files");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code: code.join("\n") }
    }

    /// Whether it lies in one of these modules: `db` is `db.rs` and everything in `db/`.
    pub(super) fn is_under(&self, modules: &[&str]) -> bool {
        let own = self.path.strip_suffix(".rs").unwrap();
        modules.iter().any(|module| own == *module || own.starts_with(&format!("{module}/")))
    }

    /// A binary's three lines.
    pub(super) fn is_entry(&self) -> bool {
        self.path.ends_with("/main.rs") || self.path.contains("/bin/")
    }

    pub(super) fn is_test(&self) -> bool {
        self.path.contains("tests/") || self.path.ends_with("tests.rs")
    }

    /// Whether the code names `word`, as a whole word.
    pub(super) fn mentions(&self, word: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(word).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
    }

    /// The top modules of its own crate that it names.
    pub(super) fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            found.extend(heads(&self.code[at + "crate::".len()..]));
        }
        let modules: Vec<&str> = self.path.strip_suffix(".rs").unwrap().split('/').collect();
        for (at, _) in self.code.match_indices("super::") {
            if self.code[..at].ends_with("super::") {
                continue;
            }
            let mut rest = &self.code[at..];
            let mut up = 0;
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, up) = (further, up + 1);
            }
            match modules.len().checked_sub(up) {
                Some(0) | None => found.extend(heads(rest)),
                Some(_) => found.extend([modules[0].to_owned()]),
            }
        }
        found
    }
}

/// The first names of what follows a `crate::`: one name, or those of a list in braces.
fn heads(text: &str) -> Vec<String> {
    let name =
        |text: &str| -> String { text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(list) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(name(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}
