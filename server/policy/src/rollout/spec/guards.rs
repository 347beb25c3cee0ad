//! Guards as they were typed.

use super::Errors;
use crate::guard::{Cap, Caps};

pub(super) fn check_caps(caps: &Caps, errors: &mut Errors) {
    check_cap("caps.downloads", caps.downloads, errors);
    check_cap("caps.activations", caps.activations, errors);
}

fn check_cap(path: &str, cap: Cap, errors: &mut Errors) {
    let numbers = [("max_in_flight", cap.max_in_flight), ("max_in_flight_per_site", cap.max_in_flight_per_site)];
    for (field, _) in numbers.iter().filter(|(_, number)| *number == Some(0)) {
        let message = "is 0, which lets no device through; leave it out for no cap, or pause the rollout";
        errors.add(format!("{path}.{field}"), message);
    }
    if let (Some(overall), Some(site)) = (cap.max_in_flight, cap.max_in_flight_per_site)
        && site > overall
        && overall > 0
    {
        let message = format!("is {site}, more than max_in_flight ({overall}) ever lets through");
        errors.add(format!("{path}.max_in_flight_per_site"), message);
    }
}
