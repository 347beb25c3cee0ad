//! Which time zone a window follows on a device.

use std::fmt;

use callboard_proto::time::Timestamp;
use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

use super::WindowTz;
use crate::device::Device;

/// A zone and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone.
    pub tz: Tz,
    /// Where it comes from.
    pub source: ZoneSource,
    /// The zone that the device reports, if its clock shows another time than its site's.
    pub mismatch: Option<Tz>,
}

/// Where a zone comes from, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ZoneSource {
    /// The window names it.
    Window,
    /// The device's site has it.
    Site,
    /// The device's label `tz` names it.
    Label,
    /// The device reports it.
    Device,
    /// Nobody knows better: the rollout's default.
    Default,
}

/// The zone that `window` follows on `device` at `now`.
pub fn zone_of(window: WindowTz, device: &Device, default: Tz, now: Timestamp) -> Zone {
    Clock::of(device, now).zone(window, default)
}

/// What is known of a device's zone at one moment, found once for all windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    own: Option<(Tz, ZoneSource)>,
    mismatch: Option<Tz>,
}

impl Clock {
    /// One that shows the time of `tz`, whatever the device.
    #[cfg(test)]
    pub(crate) const fn site(tz: Tz) -> Self {
        Self { own: Some((tz, ZoneSource::Site)), mismatch: None }
    }

    /// The clock of `device` at `now`.
    pub fn of(device: &Device, now: Timestamp) -> Self {
        let offset = |tz: Tz| tz.offset_from_utc_datetime(&now.utc().naive_utc()).fix();
        let mismatch = match (device.site_tz, device.tz) {
            (Some(site), Some(own)) if site != own && offset(site) != offset(own) => Some(own),
            _ => None,
        };
        Self { own: of_device(device), mismatch }
    }

    /// The zone of the device itself, if anybody knows it.
    pub fn own(&self) -> Option<Tz> {
        self.own.map(|(tz, _)| tz)
    }

    /// The zone that `window` follows by this clock; `default` if nobody knows better.
    pub fn zone(&self, window: WindowTz, default: Tz) -> Zone {
        let (tz, source) = match window {
            WindowTz::Zone(tz) => (tz, ZoneSource::Window),
            WindowTz::Site => self.own.unwrap_or((default, ZoneSource::Default)),
        };
        Zone { tz, source, mismatch: self.mismatch }
    }
}

fn of_device(device: &Device) -> Option<(Tz, ZoneSource)> {
    let label = || device.labels.get("tz").and_then(|name| name.parse().ok());
    (device.site_tz.map(|tz| (tz, ZoneSource::Site)))
        .or_else(|| label().map(|tz| (tz, ZoneSource::Label)))
        .or_else(|| device.tz.map(|tz| (tz, ZoneSource::Device)))
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.tz.name(), self.source)?;
        match self.mismatch {
            Some(own) => write!(f, " (the device reports {})", own.name()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ZoneSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window => "the window's zone",
            Self::Site => "the site's zone",
            Self::Label => "the zone of label tz",
            Self::Device => "the zone the device reports",
            Self::Default => "the rollout's default zone",
        })
    }
}
