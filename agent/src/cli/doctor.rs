//! `callboard-agent doctor`

use std::path::Path;

use callboard_proto::{
    enrol::Bundle,
    text::{shown, shown_json},
};

use super::{Failed, Output, runtime, say};
use crate::{
    config::Settings,
    doctor::{self, Finding, Verdict},
    enrol::MAX_BUNDLE_BYTES,
    fs::{Disk, Fs},
};

pub(super) fn doctor(settings: &Settings, bundle: Option<&Path>, output: Output) -> Result<(), Failed> {
    let bundle = bundle.map(read).transpose()?;
    let findings = runtime()?.block_on(doctor::examine(settings, bundle));
    match output {
        Output::Json => say(&shown_json(&serde_json::to_string_pretty(&findings).unwrap_or_default()))?,
        Output::Text => say(&findings.iter().map(text).collect::<Vec<_>>().join("\n"))?,
    }
    let blocking = findings.iter().filter(|finding| finding.verdict == Verdict::Blocks).count();
    match blocking {
        0 => Ok(()),
        1 => Err(Failed::Tried("one thing keeps this device from its updates, see above".to_owned())),
        n => Err(Failed::Tried(format!("{n} things keep this device from its updates, see above"))),
    }
}

fn read(path: &Path) -> Result<Bundle, Failed> {
    let wrong = |reason: String| Failed::Input(format!("{}: {reason}", path.display()));
    let bytes = Disk.read(path, MAX_BUNDLE_BYTES).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("not an enrolment bundle: {error}")))
}

fn text(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Good => "ok",
        Verdict::Note => "note",
        Verdict::Blocks => "BLOCKS",
    };
    let line = format!("{verdict:<7} {:<12} {}", finding.what, shown(&finding.found));
    match &finding.remedy {
        Some(remedy) => format!("{line}\n{:<20} -> {}", "", shown(remedy)),
        None => line,
    }
}
