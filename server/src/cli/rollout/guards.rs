//! Guards of a rollout, as flags and in words.

use callboard_proto::admin::{Cap, Caps};

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
}

impl GuardArgs {
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

/// `at most 50 downloads (2 a site), 1 activation a site`; empty without caps.
pub(super) fn in_words(caps: &Caps) -> String {
    let cap = |cap: Cap, what: &str| match (cap.max_in_flight, cap.max_in_flight_per_site) {
        (Some(overall), Some(site)) => Some(format!("{} ({site} a site)", counted(overall, what))),
        (Some(overall), None) => Some(counted(overall, what)),
        (None, Some(site)) => Some(format!("{} a site", counted(site, what))),
        (None, None) => None,
    };
    let parts: Vec<String> =
        [cap(caps.downloads, "download"), cap(caps.activations, "activation")].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("at most {}", parts.join(", ")) }
}

fn counted(n: u32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_in_words() {
        let cap = |overall, site| Cap { max_in_flight: overall, max_in_flight_per_site: site };
        let said = |downloads, activations| in_words(&Caps { downloads, activations });
        assert_eq!(said(cap(None, None), cap(None, None)), "");
        assert_eq!(
            said(cap(Some(50), Some(2)), cap(None, Some(1))),
            "at most 50 downloads (2 a site), 1 activation a site"
        );
        assert_eq!(said(cap(Some(1), None), cap(None, None)), "at most 1 download");
    }
}
