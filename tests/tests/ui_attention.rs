//! What waits for somebody, on its page: failures and attacks.

use callboard_tests::{
    browser::{Browser, text},
    device::{FakeDevice, Health},
    release::NewRelease,
    wait,
    world::rollout,
};
use serde_json::json;

use crate::on_both;

#[test]
fn failures_are_listed_filtered_and_dealt_with_after_it_was_shown_which() {
    on_both(|server| {
        NewRelease::new("pos-app", "2.4.0", 1).publish(server);
        NewRelease::new("other", "1.0.0", 1).publish(server);
        let mut tills: Vec<FakeDevice> = ["a", "b", "c"]
            .map(|name| FakeDevice::enrol(server, name).runs("pos-app", "2.0.0").runs("other", "0.9.0"))
            .into();
        server.roll_out(&rollout("spring", "pos-app@2.4.0", &json!({})));
        tills.iter_mut().for_each(|till| drop(till.settle(Health::Bad)));
        server.roll_out(&rollout("second", "other@1.0.0", &json!({ "selector": "name = c" })));
        tills[2].settle(Health::Bad);
        let ada = Browser::of(server, "operator");
        let all = ada.page("/attention");
        assert_eq!(all.matches("name=\"one\" value=\"").count(), 4, "{all}");
        let second = ada.page("/attention?rollout=second");
        assert_eq!(second.matches("name=\"one\" value=\"second/c\"").count(), 1, "{second}");
        assert!(second.contains("<option selected>second</option>"), "{second}");
        let only = ada.page("/attention?selector=name%20in%20(a,%20c)&rollout=spring");
        assert!(only.matches("name=\"one\" value=\"spring/").count() == 2 && !only.contains("spring/b"), "{only}");
        assert!(only.contains("failures of spring on devices that are like this"), "{only}");
        let wrong = ada.get("/attention?selector=name%20=");
        let shown = wrong.text();
        assert!(wrong.status == 422 && shown.contains("column 7"), "{shown}");
        assert!(shown.contains("name =\n      ^</pre>") && !shown.contains("/attention/deal"), "{shown}");
        let deal = |fields: &[(&str, &str)]| ada.post("/attention/deal", fields);
        assert_eq!(deal(&[("deed", "skip"), ("rollout", "")]).header("location"), Some("/attention"));
        let all_of = [("deed", "skip"), ("rollout", ""), ("selector", "name = b"), ("whom", "all")];
        let asked = text(&deal(&all_of).text());
        assert!(asked.contains("spring: 1 device\nb"), "{asked}");
        let ticked = [("deed", "skip"), ("rollout", ""), ("one", "spring/a"), ("one", "second/c")];
        let asked = text(&deal(&ticked).text());
        assert!(asked.contains("spring: 1 device\na") && asked.contains("second: 1 device\nc"), "{asked}");
        assert_eq!(deal(&[&ticked[..], &[("step", "sure"), ("reason", " ")]].concat()).status, 422);
        let done = ada.submit("/attention/deal", &[&ticked[..], &[("step", "sure"), ("reason", "seen")]].concat());
        assert!(done.contains("Take note: 2 devices."), "{done}");
        let rest = [("deed", "retry"), ("rollout", ""), ("whom", "all"), ("step", "sure"), ("reason", "again")];
        assert!(ada.submit("/attention/deal", &rest).contains("Try again: 2 devices."));
        assert!(ada.page("/attention").contains("Nothing waits for anybody here."));
        // Whoever only looks is offered nothing.
        assert!(!Browser::of(server, "viewer").page("/attention").contains("name=\"deed\""));
    });
}

#[test]
fn attacks_are_listed_and_taken_note_of() {
    on_both(|server| {
        let mut till = FakeDevice::enrol(server, "till-1");
        till.check_in();
        till.attacks.insert("nonce_mismatch".to_owned(), 3);
        till.check_in();
        let ada = Browser::of(server, "operator");
        wait::until("it is told", || ada.page("/attention/attacks").contains("nonce_mismatch 3"));
        assert!(ada.page("/devices/till-1").contains("<b>nonce_mismatch 3</b>"));
        let path = "/attention/attacks/acknowledge";
        let wrong = ada.post(path, &[("device", "till-1"), ("reason", "")]);
        assert_eq!(wrong.status, 422);
        assert!(wrong.text().contains("value=\"till-1\" aria-label=\"till-1\" checked"), "{}", wrong.text());
        assert!(ada.post(path, &[("reason", "x")]).text().contains("tick the devices"));
        let done = ada.submit(path, &[("device", "till-1"), ("reason", "a proxy in between")]);
        assert!(
            done.contains("Taken note of the attacks of 1 device.") && done.contains("No device tells of any."),
            "{done}"
        );
    });
}
