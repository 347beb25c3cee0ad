//! Rollouts as files on this machine, in TOML or JSON.

use std::{fs, io::Read as _, path::Path};

use anyhow::Context as _;
use callboard_proto::{
    admin::RolloutSpec,
    problem::{Code, Problem},
};

use crate::{
    cli::exit::{BadInput, Refused},
    rollout_file::{located, parse_toml},
};

/// Reads a file whose name ends in `.toml` or `.json`; `-` is TOML from standard input.
pub(super) fn read(file: &Path) -> anyhow::Result<RolloutSpec> {
    let name = file.display();
    let (text, format) = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        (text, Some("toml"))
    } else {
        let text = fs::read_to_string(file).map_err(|error| BadInput(format!("cannot read {name}: {error}")))?;
        (text, file.extension().and_then(|extension| extension.to_str()))
    };
    match format {
        Some("toml") => parse_toml(&text).map_err(|what| BadInput(format!("{name}: {what}")).into()),
        Some("json") => serde_json::from_str(&text).map_err(|error| BadInput(format!("{name}: {error}")).into()),
        _ => Err(BadInput(format!("{name}: the name must end in .toml or .json")).into()),
    }
}

/// The same refusal, with the lines of the TOML file in which its fields stand.
pub(super) fn told(file: Option<&Path>, error: anyhow::Error) -> anyhow::Error {
    let toml = file.filter(|file| file.extension().is_some_and(|extension| extension == "toml"));
    let refusal = error.downcast_ref::<Refused>().map(|Refused(problem)| problem);
    let about_fields =
        |problem: &&Problem| [Code::Invalid, Code::BadSelector].iter().any(|code| code.as_str() == problem.code);
    let (Some(file), Some(problem)) = (toml, refusal.filter(about_fields)) else {
        return error;
    };
    let text = fs::read_to_string(file).unwrap_or_default();
    match located(&text, &problem.detail) {
        Some(detail) => Refused(Problem { detail: format!("{}: {detail}", file.display()), ..problem.clone() }).into(),
        None => error,
    }
}
