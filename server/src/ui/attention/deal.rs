//! What is done about failures: which, why, and then that it is done.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use callboard_proto::admin::DevicesOfRollout;

use crate::{
    app::{self, App, Because, attention::Deed},
    http::{admin::attention, auth::Operate, problem::ApiResult},
    ui::{
        desk::Submitted,
        form::Form,
        frame::{self, Frame, Section},
        parts::{count, link},
    },
};

/// Failures that are done at once from this page at most.
const AT_ONCE: i64 = 1000;

#[derive(Template)]
#[template(path = "attention_deal.html")]
struct Page {
    frame: Frame,
    form: Form,
    deed: &'static str,
    title: &'static str,
    says: &'static str,
    rollout: String,
    selector: String,
    back: String,
    /// Of which rollout how many, and which.
    meant: Vec<(String, String, Vec<String>)>,
    keys: Vec<String>,
}

/// The word of the form, what the button says, and what it does.
const fn words(deed: Deed) -> (&'static str, &'static str, &'static str) {
    match deed {
        Deed::Retry => ("retry", "Try again", "They begin anew, whatever failed before."),
        Deed::Skip => {
            ("skip", "Take note", "Gates and this list look past these failures; the devices stay as they are.")
        }
        Deed::Cancel => ("cancel", "Call off", "The rollouts bring these devices nothing more, and do not count them."),
    }
}

/// `POST /attention/deal`: first which failures are meant, and with `sure` it is done.
pub(crate) async fn post(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let rollout = form.text("rollout").to_owned();
    let selector = form.text("selector").to_owned();
    let back = link("/attention", &[("rollout", &rollout), ("selector", &selector)]);
    let deed = [Deed::Retry, Deed::Skip, Deed::Cancel].into_iter().find(|deed| form.is("deed", words(*deed).0));
    let mut keys: Vec<String> = form.all("one").map(str::to_owned).collect();
    if form.is("whom", "all") {
        let named = Some(rollout.clone()).filter(|name| !name.is_empty());
        let meant = desk.may.only(app::devices::parse_selector(Some(&selector))?);
        let page = attention::page(&app, &meant, named, None, AT_ONCE + 1).await?;
        keys = page.items.iter().map(|one| format!("{}/{}", one.rollout, one.device)).collect();
    }
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (rollout, device) in keys.iter().filter_map(|key| key.split_once('/')) {
        of.entry(rollout.to_owned()).or_default().push(device.to_owned());
    }
    let (Some(deed), false) = (deed, of.is_empty()) else {
        return frame::not_done(&back, "Tick the failures that are meant, or take all of them.");
    };
    if form.is("step", "sure") && form.some("reason").is_none() {
        form.refuse("reason", "reason is empty; say why");
    }
    if !form.is("step", "sure") || !form.is_right() {
        let (word, title, says) = words(deed);
        let meant = of.into_iter().map(|(rollout, devices)| {
            let number = count(u64::try_from(devices.len()).unwrap_or(0), "device");
            (rollout, number, devices.into_iter().take(20).collect())
        });
        let meant = meant.collect();
        let frame = Frame::new(&desk, Section::Attention, title);
        let refused = !form.is_right();
        let page = Page { frame, form, deed: word, title, says, rollout, selector, back, meant, keys };
        return if refused { frame::show_refused(&page) } else { frame::show(&page) };
    }
    let (mut done, mut refused) = (0_u64, Vec::new());
    for (rollout, devices) in of {
        let reason = form.text("reason").to_owned();
        let because = Because { by: desk.actor.clone(), reason: reason.clone() };
        let wanted = DevicesOfRollout { devices, selector: None, reason };
        let dealt = app::attention::act(&app, rollout, deed, wanted, because).await?;
        done += u64::from(dealt.total);
        refused.extend(dealt.refused.into_iter().map(|one| format!("{}: {}", one.device, one.reason)));
    }
    let said = format!("{}: {}.", words(deed).1, count(done, "device"));
    if refused.is_empty() {
        return frame::done(&back, said);
    }
    frame::not_done(&back, format!("{said} Not done for {}", refused.join("; ")))
}
