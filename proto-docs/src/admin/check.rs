//! What operators may write: every text of every body that they send, and the labels in them.
//!
//! Selectors are checked by their parser, which knows the column, and names by their types.

use super::{
    AcceptEnrolment, AcknowledgeAttacks, ActivateSite, AllowReenrolment, BandwidthLimit, Because, BeginTotp,
    ChangePassword, ChangeSite, Decommission, DevicesOfRollout, EditLabels, EditRollout, Grant, Hold, ImportDevice,
    ImportDevices, ImportSite, ImportSites, KeepDevice, Labels, Login, NOTICES, NewApiToken, NewFreeze, NewToken,
    NewUser, NewWebhook, OpenPhase, RollBack, RolloutSpec, SetBandwidth, SetGrants, SetPassword, SetSerial,
    SetTradingHours, TotpCode, TradingHours, Window,
};
use crate::text::{self, Check, MAX_TEXT};

/// Labels of one device or site at most.
pub const MAX_LABELS: usize = 32;
/// Longest key of a label in bytes.
pub const MAX_LABEL_KEY: usize = 64;
/// Longest reason in bytes: it stands in lists, and is told to every device concerned.
pub const MAX_REASON: usize = 200;
/// Longest description in bytes.
pub const MAX_DESCRIPTION: usize = 1000;
/// Longest selector beside a list of devices in bytes.
const MAX_SELECTOR: usize = 4096;
/// Longest name of an API token in bytes: it stands in events.
const MAX_TOKEN_NAME: usize = 64;
/// Roles of one person or token: each once for the fleet, and some regions.
const MAX_GRANTS: usize = 16;
/// Longest password that is looked at in bytes.
const MAX_PASSWORD: usize = 1024;
/// Longest address of a webhook in bytes.
const MAX_URL: usize = 1024;
/// Longest name of a release in bytes: a product, `@` and a version.
const MAX_RELEASE: usize = 2 * MAX_TEXT;
/// Kinds of gates.
const MAX_GATES: usize = 2;
/// Days of a week: a longer list has nothing more to say.
const MAX_DAYS: usize = 7;

/// Refuses labels that selectors could not name or pages could not show.
///
/// # Errors
/// Names the label, and says what is wrong with it.
pub fn check_labels(labels: &Labels) -> Result<(), String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("{} labels; at most {MAX_LABELS} are allowed", labels.len()));
    }
    for (key, value) in labels {
        label_key(key)?;
        text::field(format_args!("label {key}"), value, MAX_TEXT)?;
    }
    Ok(())
}

/// Refuses names of API tokens that the event log could not show, or that look like another one's: a second person is
/// told from the first by them.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn check_token_name(name: &str) -> Result<(), String> {
    let trimmed = name.trim();
    let legal = trimmed.bytes().all(|c| c.is_ascii_graphic() || c == b' ') && !trimmed.contains("  ");
    if legal && (1..=MAX_TOKEN_NAME).contains(&trimmed.len()) {
        return Ok(());
    }
    let name: String = trimmed.chars().take(MAX_TOKEN_NAME + 1).collect();
    Err(format!(
        "name {name:?} is not allowed: 1 to {MAX_TOKEN_NAME} printable ASCII characters with single spaces between words, such \
         as \"release script\""
    ))
}

fn label_key(key: &str) -> Result<(), String> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    let first = key.bytes().next().is_some_and(|c| c.is_ascii_alphabetic());
    if first && key.len() <= MAX_LABEL_KEY && key.bytes().all(legal) {
        return Ok(());
    }
    let key: String = key.chars().take(MAX_LABEL_KEY + 1).collect();
    Err(format!("label key {key:?} is not allowed: 1 to {MAX_LABEL_KEY} of A-Z a-z 0-9 _ - . beginning with a letter"))
}

fn reason(reason: &str) -> Result<(), String> {
    text::field("reason", reason, MAX_REASON)
}

fn days(days: &[String]) -> Result<(), String> {
    text::count("days", days.len(), MAX_DAYS)?;
    text::each("days", days, MAX_TEXT)
}

fn hours(hours: &[TradingHours]) -> Result<(), String> {
    hours.iter().enumerate().try_for_each(|(n, one)| {
        days(&one.days).map_err(|what| format!("trading_hours[{n}].{what}"))?;
        text::field(format_args!("trading_hours[{n}].opens"), &one.opens, MAX_TEXT)?;
        text::field(format_args!("trading_hours[{n}].closes"), &one.closes, MAX_TEXT)
    })
}

fn bandwidth(limits: &[BandwidthLimit]) -> Result<(), String> {
    limits.iter().enumerate().try_for_each(|(n, one)| {
        days(&one.days).map_err(|what| format!("bandwidth[{n}].{what}"))?;
        text::some(format_args!("bandwidth[{n}].from"), one.from.as_ref(), MAX_TEXT)?;
        text::some(format_args!("bandwidth[{n}].to"), one.to.as_ref(), MAX_TEXT)
    })
}

impl Check for ImportSites {
    fn check(&self) -> Result<(), String> {
        self.sites.iter().try_for_each(|site| site.check().map_err(|what| format!("site {}: {what}", site.id)))
    }
}

impl Check for ImportSite {
    fn check(&self) -> Result<(), String> {
        text::field("name", &self.name, MAX_TEXT)?;
        text::field("tz", &self.tz, MAX_TEXT)?;
        check_labels(&self.labels)?;
        hours(self.trading_hours.as_deref().unwrap_or_default())?;
        bandwidth(self.bandwidth.as_deref().unwrap_or_default())
    }
}

impl Check for ImportDevices {
    fn check(&self) -> Result<(), String> {
        let checked = |one: &ImportDevice| one.check().map_err(|what| format!("device {}: {what}", one.name));
        self.devices.iter().try_for_each(checked)
    }
}

impl Check for ImportDevice {
    fn check(&self) -> Result<(), String> {
        text::some("serial", self.serial.as_ref(), MAX_TEXT)?;
        text::field("description", &self.description, MAX_DESCRIPTION)?;
        check_labels(&self.labels)
    }
}

impl Check for EditLabels {
    fn check(&self) -> Result<(), String> {
        check_labels(&self.set)?;
        self.remove.iter().try_for_each(|key| label_key(key))
    }
}

impl Check for SetTradingHours {
    fn check(&self) -> Result<(), String> {
        hours(&self.trading_hours)
    }
}

impl Check for SetBandwidth {
    fn check(&self) -> Result<(), String> {
        bandwidth(&self.bandwidth)
    }
}

impl Check for ActivateSite {
    fn check(&self) -> Result<(), String> {
        reason(&self.reason)
    }
}

impl Check for ChangeSite {
    fn check(&self) -> Result<(), String> {
        reason(&self.reason)
    }
}

impl Check for Hold {
    fn check(&self) -> Result<(), String> {
        reason(&self.reason)
    }
}

impl Check for SetSerial {
    fn check(&self) -> Result<(), String> {
        text::field("serial", &self.serial, MAX_TEXT)
    }
}

impl Check for NewApiToken {
    fn check(&self) -> Result<(), String> {
        check_token_name(&self.name)?;
        check_grants(&self.grants)
    }
}

/// Grants of somebody: some, and not without end.
pub(super) fn check_grants(grants: &[Grant]) -> Result<(), String> {
    if grants.is_empty() {
        return Err("grants is empty; say what may be done, as in [{\"role\": \"viewer\"}]".to_owned());
    }
    text::count("grants", grants.len(), MAX_GRANTS)?;
    for (n, grant) in grants.iter().enumerate() {
        text::some(format_args!("grants[{n}].selector"), grant.selector.as_ref(), MAX_SELECTOR)?;
    }
    Ok(())
}

impl Check for NewUser {
    fn check(&self) -> Result<(), String> {
        check_token_name(&self.name)?;
        check_grants(&self.grants)
    }
}

impl Check for SetGrants {
    fn check(&self) -> Result<(), String> {
        check_grants(&self.grants)
    }
}

// Passwords are looked at where they are set; nothing of them is said here.

impl Check for SetPassword {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Check for ChangePassword {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Check for BeginTotp {
    fn check(&self) -> Result<(), String> {
        if self.password.len() > MAX_PASSWORD {
            return Err(format!("password has {} bytes; at most {MAX_PASSWORD} are allowed", self.password.len()));
        }
        Ok(())
    }
}

impl Check for TotpCode {
    fn check(&self) -> Result<(), String> {
        text::field("code", &self.code, MAX_TEXT)
    }
}

impl Check for Login {
    fn check(&self) -> Result<(), String> {
        text::field("name", &self.name, MAX_TOKEN_NAME)?;
        if self.password.len() > MAX_PASSWORD {
            return Err(format!("password has {} bytes; at most {MAX_PASSWORD} are allowed", self.password.len()));
        }
        text::some("code", self.code.as_ref(), MAX_TEXT)
    }
}

impl Check for NewWebhook {
    fn check(&self) -> Result<(), String> {
        check_token_name(&self.name)?;
        text::field("url", &self.url, MAX_URL)?;
        text::count("kinds", self.kinds.as_ref().map_or(0, Vec::len), NOTICES.len())?;
        text::each("kinds", self.kinds.as_deref().unwrap_or_default(), MAX_TEXT)
    }
}

impl Check for DevicesOfRollout {
    fn check(&self) -> Result<(), String> {
        text::each("devices", &self.devices, MAX_TEXT)?;
        // Before anybody looks whether it may stand beside `devices`.
        text::some("selector", self.selector.as_ref(), MAX_SELECTOR)?;
        reason(&self.reason)
    }
}

impl Check for AcknowledgeAttacks {
    fn check(&self) -> Result<(), String> {
        text::each("devices", &self.devices, MAX_TEXT)?;
        text::some("selector", self.selector.as_ref(), MAX_SELECTOR)?;
        reason(&self.reason)
    }
}

impl Check for Decommission {
    fn check(&self) -> Result<(), String> {
        reason(&self.reason)
    }
}

impl Check for KeepDevice {
    fn check(&self) -> Result<(), String> {
        reason(&self.reason)
    }
}

impl Check for AllowReenrolment {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Check for Because {
    fn check(&self) -> Result<(), String> {
        reason(&self.reason)
    }
}

impl Check for OpenPhase {
    fn check(&self) -> Result<(), String> {
        text::field("phase", &self.phase, MAX_TEXT)?;
        reason(&self.reason)
    }
}

impl Check for RollBack {
    fn check(&self) -> Result<(), String> {
        text::field("to", &self.to, MAX_TEXT)?;
        reason(&self.reason)
    }
}

impl Check for NewFreeze {
    fn check(&self) -> Result<(), String> {
        text::field("from", &self.from, MAX_TEXT)?;
        text::field("to", &self.to, MAX_TEXT)?;
        reason(&self.reason)
    }
}

impl Check for NewToken {
    fn check(&self) -> Result<(), String> {
        text::some("device", self.device.as_ref(), MAX_TEXT)?;
        text::some("serial_pattern", self.serial_pattern.as_ref(), MAX_TEXT)?;
        check_labels(&self.labels)
    }
}

impl Check for AcceptEnrolment {
    fn check(&self) -> Result<(), String> {
        text::some("device", self.device.as_ref(), MAX_TEXT)
    }
}

impl Check for RolloutSpec {
    fn check(&self) -> Result<(), String> {
        text::field("release", &self.release, MAX_RELEASE)?;
        text::some("default_tz", self.default_tz.as_ref(), MAX_TEXT)?;
        for (n, one) in self.windows.iter().enumerate() {
            window(one).map_err(|what| format!("windows[{n}].{what}"))?;
        }
        for (n, one) in self.phases.iter().enumerate() {
            text::field(format_args!("phases[{n}].name"), &one.name, MAX_TEXT)?;
        }
        for (n, one) in self.halt.iter().enumerate() {
            text::some(format_args!("halt[{n}].rollback_to"), one.rollback_to.as_ref(), MAX_RELEASE)?;
        }
        Ok(())
    }
}

impl Check for EditRollout {
    fn check(&self) -> Result<(), String> {
        self.spec.check().map_err(|what| format!("spec.{what}"))?;
        reason(&self.reason)
    }
}

fn window(window: &Window) -> Result<(), String> {
    text::field("tz", &window.tz, MAX_TEXT)?;
    days(&window.days)?;
    text::count("gates", window.gates.len(), MAX_GATES)?;
    text::some("start", window.start.as_ref(), MAX_TEXT)?;
    text::some("cron", window.cron.as_ref(), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_selectors_can_name_and_pages_can_show() {
        let refused = |key: &str, value: &str| check_labels(&[(key.to_owned(), value.to_owned())].into()).err();
        assert_eq!(refused("region", "northeast"), None);
        assert_eq!(refused("a.b_c-1", ""), None);
        for key in ["", "1st", "a b", "ä", "a\0", &"k".repeat(65)] {
            assert!(refused(key, "").is_some_and(|said| said.contains("is not allowed: 1 to 64 of A-Z")), "{key:?}");
        }
        assert_eq!(refused("k", "\n").as_deref(), Some("label k has the control character U+000A; none is allowed"));
        assert_eq!(refused("k", &"v".repeat(129)).as_deref(), Some("label k has 129 bytes; at most 128 are allowed"));
        let many = (0..33).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(check_labels(&many).err().as_deref(), Some("33 labels; at most 32 are allowed"));
    }
}
