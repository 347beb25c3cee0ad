//! The operator's profile: which server, with which token. One small TOML file that only its owner can read.
//!
//! `callboard init` writes it; every command that talks to a server reads it when neither flags nor environment
//! say otherwise.

use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Names another profile than the usual one.
pub(crate) const VARIABLE: &str = "CALLBOARD_PROFILE";

/// What a command needs to talk to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// URL of the admin listener.
    pub(crate) server: String,
    /// The operator's API token.
    pub(crate) token: String,
    /// Certificates (PEM) to trust instead of the system's, for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

/// Why a profile could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("HOME is not set, so there is no place for the profile; give a file with --profile or {VARIABLE}")]
    Nowhere,
    #[error("{0:?} is not a profile: a name (letters, digits, - _ .) or the path of a .toml file is wanted")]
    Name(String),
    #[error("cannot read the profile {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {what}; wanted are server, token and, if needed, ca", .path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("cannot write the profile {path:?}")]
    Write { path: PathBuf, source: io::Error },
}

/// Where a profile lies: a path as it is, a name below `~/.config/callboard`, where the usual one is `profile.toml`.
pub(crate) fn path(name: Option<&str>, home: Option<OsString>) -> Result<PathBuf, ProfileError> {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("profile");
    if name.contains('/') || name.ends_with(".toml") {
        return Ok(name.into());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(legal) || name.starts_with('.') {
        return Err(ProfileError::Name(name.to_owned()));
    }
    let home = home.filter(|home| !home.is_empty()).ok_or(ProfileError::Nowhere)?;
    Ok(PathBuf::from(home).join(".config/callboard").join(format!("{name}.toml")))
}

/// Reads a profile; `None` if there is no such file.
pub(crate) fn load(path: &Path) -> Result<Option<Profile>, ProfileError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ProfileError::Read { path: path.to_owned(), source }),
    };
    toml::from_str(&text).map(Some).map_err(|source: toml::de::Error| ProfileError::Malformed {
        path: path.to_owned(),
        // Never the source text: it holds the token.
        what: source.message().to_owned(),
    })
}

impl Profile {
    /// Writes the profile with mode 0600, making its directory; a reader never sees half of it.
    pub(crate) fn save(&self, path: &Path) -> Result<(), ProfileError> {
        let written = || -> io::Result<()> {
            let text = toml::to_string(self).map_err(io::Error::other)?;
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::create_dir_all(dir)?;
            // A named temporary file has mode 0600 from its first moment.
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        written().map_err(|source| ProfileError::Write { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_profile_is_a_path_or_a_name_in_the_home_directory() {
        let at = |name: &str| path(Some(name), Some("/home/o".into())).map(|path| path.display().to_string());
        assert_eq!(at("/p.toml").expect("a path"), "/p.toml");
        assert_eq!(at("p.toml").expect("a path"), "p.toml");
        assert_eq!(at("./p").expect("a path"), "./p");
        assert_eq!(at("test-1").expect("a name"), "/home/o/.config/callboard/test-1.toml");
        assert_eq!(at("").expect("the usual one"), "/home/o/.config/callboard/profile.toml");
        assert_eq!(path(None, Some("/h".into())).expect("a path"), Path::new("/h/.config/callboard/profile.toml"));
        assert!(matches!(path(None, None), Err(ProfileError::Nowhere)));
        assert!(matches!(at(".."), Err(ProfileError::Name(_))) && matches!(at("a b"), Err(ProfileError::Name(_))));
    }

    #[test]
    fn a_saved_profile_is_read_back_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("deep/profile.toml");
        let profile = Profile { server: "http://127.0.0.1:8080".into(), token: "cba_x".into(), ca: None };
        profile.save(&file).expect("saved");
        profile.save(&file).expect("saved again");
        assert_eq!(load(&file).expect("read"), Some(profile));
        assert_eq!(fs::metadata(&file).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("deep")).expect("listed").count(), 1);
    }

    #[test]
    fn no_profile_is_none_and_a_bad_one_is_an_error_without_the_token() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("profile.toml");
        assert_eq!(load(&file).expect("none"), None);
        fs::write(&file, "server = \"x\"\ntoken = \"secret\"\ncolour = 1\n").expect("written");
        let error = load(&file).expect_err("an unknown key").to_string();
        assert!(error.contains("unknown field `colour`") && !error.contains("secret"), "{error}");
    }
}
