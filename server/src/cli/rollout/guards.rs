//! Guards of a rollout, as flags and in words.

use callboard_proto::admin::{Cap, Caps, HaltRule, Pace, RolloutSpec};

use super::halt;

/// Flags that hold a rollout back.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GuardArgs {
    /// Devices that may download at the same time [default: any number]
    #[arg(long, value_name = "N")]
    max_downloads: Option<u32>,
    /// Devices of one site that may download at the same time
    #[arg(long, value_name = "N")]
    max_downloads_per_site: Option<u32>,
    /// Devices that may switch at the same time [default: any number]
    #[arg(long, value_name = "N")]
    max_activations: Option<u32>,
    /// Devices of one site that may switch at the same time
    #[arg(long, value_name = "N")]
    max_activations_per_site: Option<u32>,
    /// Devices that are offered the release in a minute [default: any number]
    #[arg(long, value_name = "N")]
    max_offers_per_minute: Option<u32>,
    /// Double the offers in a minute after every so many successes
    #[arg(long, value_name = "N", requires = "max_offers_per_minute")]
    doubles_every: Option<u32>,
    #[arg(long = "halt", value_name = "RULE", value_parser = halt::parse,
        help = format!("When it stops by itself; may be repeated: {}", halt::SYNTAX))]
    halt: Vec<HaltRule>,
}

impl GuardArgs {
    pub(super) fn pace(&self) -> Option<Pace> {
        let doubles_every = self.doubles_every;
        self.max_offers_per_minute.map(|max_offers_per_minute| Pace { max_offers_per_minute, doubles_every })
    }

    pub(super) fn halt(&self) -> Vec<HaltRule> {
        self.halt.clone()
    }

    pub(super) const fn caps(&self) -> Caps {
        Caps {
            downloads: Cap { max_in_flight: self.max_downloads, max_in_flight_per_site: self.max_downloads_per_site },
            activations: Cap {
                max_in_flight: self.max_activations,
                max_in_flight_per_site: self.max_activations_per_site,
            },
        }
    }
}

/// `at most 50 downloads (2 a site), 1 activation a site, 10 offers a minute`; empty without limits.
pub(super) fn in_words(spec: &RolloutSpec) -> String {
    limits(&spec.caps, spec.pace)
}

fn limits(caps: &Caps, pace: Option<Pace>) -> String {
    let cap = |cap: Cap, what: &str| match (cap.max_in_flight, cap.max_in_flight_per_site) {
        (Some(overall), Some(site)) => {
            Some(format!("{} ({site} a site)", callboard_policy::counted(overall.into(), what)))
        }
        (Some(overall), None) => Some(callboard_policy::counted(overall.into(), what)),
        (None, Some(site)) => Some(format!("{} a site", callboard_policy::counted(site.into(), what))),
        (None, None) => None,
    };
    let pace = pace.map(|Pace { max_offers_per_minute, doubles_every }| {
        let offers = format!("{} a minute", callboard_policy::counted(max_offers_per_minute.into(), "offer"));
        match doubles_every {
            Some(every) => format!("{offers}, doubled after every {every} successes"),
            None => offers,
        }
    });
    let parts = [cap(caps.downloads, "download"), cap(caps.activations, "activation"), pace];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("at most {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_in_words() {
        let cap = |overall, site| Cap { max_in_flight: overall, max_in_flight_per_site: site };
        let said = |downloads, activations| limits(&Caps { downloads, activations }, None);
        assert_eq!(said(cap(None, None), cap(None, None)), "");
        assert_eq!(
            said(cap(Some(50), Some(2)), cap(None, Some(1))),
            "at most 50 downloads (2 a site), 1 activation a site"
        );
        assert_eq!(said(cap(Some(1), None), cap(None, None)), "at most 1 download");
        let pace = |doubles_every| Some(Pace { max_offers_per_minute: 10, doubles_every });
        assert_eq!(limits(&Caps::default(), pace(None)), "at most 10 offers a minute");
        assert_eq!(
            limits(&Caps::default(), pace(Some(50))),
            "at most 10 offers a minute, doubled after every 50 successes"
        );
    }
}
