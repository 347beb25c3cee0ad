//! Rollouts by the pages, without scripts: made by fields and by a file, previewed, started, halted by themselves, rolled
//! back; changed by two people at once; and looked at by somebody who may do nothing.

use callboard_proto::admin::{Rollout, RolloutState};
use callboard_tests::{
    browser::{Browser, text},
    device::{FakeDevice, Health},
    release::NewRelease,
    server::TestServer,
};

use crate::{on_both, on_both_with};

/// Tills that run 1.0.0, of which 2.0.0 is the next release.
fn fleet(server: &TestServer, n: usize) -> Vec<FakeDevice> {
    let old = NewRelease::new("pos-app", "1.0.0", 1).publish(server).sha256;
    NewRelease::new("pos-app", "2.0.0", 2).publish(server);
    let till = |n: usize| {
        let mut till = FakeDevice::enrol(server, &format!("till-{n}"));
        let release = till.fetch_release(old);
        till.install(&release);
        till.check_in();
        till
    };
    (0..n).map(till).collect()
}

const TYPED: [(&str, &str); 10] = [
    ("name", "spring"),
    ("release", "pos-app@2.0.0"),
    ("selector", ""),
    ("policy", "progressive"),
    ("phases[1].name", "canary"),
    ("phases[1].percent", "50"),
    ("phases[1].success_percent", "1"),
    ("phases[2].name", "everyone"),
    ("phases[2].percent", "100"),
    ("halt[0].max_failures", "0"),
];

fn typed<'a>(change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let value = |(name, value)| (name, change.iter().find(|(own, _)| *own == name).map_or(value, |(_, new)| *new));
    let mut all: Vec<(&str, &str)> = TYPED.into_iter().map(value).collect();
    all.extend(change.iter().filter(|(name, _)| TYPED.iter().all(|(own, _)| own != name)));
    all
}

#[test]
fn a_rollout_is_made_by_fields_halts_by_itself_and_is_rolled_back() {
    on_both(|server| {
        let mut tills = fleet(server, 4);
        let ada = Browser::of(server, "operator");
        let form = ada.page("/rollouts/new?release=pos-app@2.0.0");
        assert!(form.contains("value=\"pos-app@2.0.0\"") && form.contains("Phase 3"), "{form}");
        // While one types.
        let part = ada.post("/rollouts/preview", &typed(&[]));
        let shown = text(&part.text());
        assert!(part.status == 200 && !part.text().contains("<html"), "{}", part.text());
        assert!(shown.contains("4 devices, 4 of them online") && shown.contains("canary"), "{shown}");
        let part = ada.post("/rollouts/preview", &typed(&[("release", "pos-app@9.9.9")])).text();
        assert!(part.contains("there is no release pos-app@9.9.9"), "{part}");
        // What is wrong stands at its field, with what was typed.
        for (change, said) in [
            (("phases[2].percent", "40"), "f-phases[2].percent-says\"><strong class=\"error\">"),
            (("release", "pos-app@9.9.9"), "f-release-says\"><strong class=\"error\">there is no release"),
            (("selector", "region ="), "f-selector-says\"><strong class=\"error\">"),
            (("priority", "high"), "invalid digit"),
            (("name", "Spring!"), "f-name-says\"><strong class=\"error\">&#34;Spring!&#34; is not a rollout name"),
        ] {
            let answer = ada.post("/rollouts/new", &typed(&[change]));
            assert_eq!(answer.status, 422, "{change:?}: {}", answer.text());
            assert!(answer.text().contains(said), "{change:?}: {}", answer.text());
            assert!(answer.text().contains("value=\"canary\""), "{change:?}: {}", answer.text());
        }
        // As a file, with the same settings.
        let file = ada.post("/rollouts/new", &typed(&[("as-file", "yes")])).text();
        assert!(file.contains("name = &#34;spring&#34;") && file.contains("percent = 50"), "{file}");
        let broken =
            ada.post("/rollouts/new", &[("file", "name = \"spring\"\nrelease = \"x@1\"\npolicy = \"never\"\n")]);
        assert!(
            broken.status == 422 && broken.text().contains("line 3, column 10: unknown variant"),
            "{}",
            broken.text()
        );

        let page = ada.submit("/rollouts/new", &typed(&[]));
        assert!(text(&page).contains("It is a draft"), "{page}");
        let start = ada.page("/rollouts/spring/preview");
        assert!(start.contains("Start for 4 devices"), "{start}");
        let page = ada.submit("/rollouts/spring/run", &[("deed", "start"), ("reason", "time")]);
        assert!(text(&page).contains("It has started."), "{page}");
        assert_eq!(server.rollout("spring").state, RolloutState::Running);
        let paused = ada.submit("/rollouts/spring/run", &[("deed", "pause"), ("reason", "lunch")]);
        assert!(text(&paused).contains("by operator: lunch"), "{paused}");
        ada.submit("/rollouts/spring/run", &[("deed", "resume")]);

        // The canaries: one succeeds, one fails, and the rollout stops by itself.
        let canaries: Vec<usize> =
            (0..4).filter(|n| tills[*n].check_in().action == callboard_proto::instruction::Action::Download).collect();
        assert_eq!(canaries.len(), 2);
        tills[canaries[0]].settle(Health::Good);
        tills[canaries[1]].settle(Health::Bad);
        let page = ada.page("/rollouts/spring");
        let shown = text(&page);
        assert!(shown.contains("paused") && shown.contains("halt: "), "{shown}");
        assert!(shown.contains("Failures") && shown.contains("1 ×") && page.contains("till-"), "{page}");
        assert!(page.contains("class=\"burn\"") && shown.contains("Done by its end"), "{page}");
        let list = text(&ada.page("/rollouts?state=paused"));
        assert!(list.contains("spring") && list.contains("1 failed"), "{list}");
        let devices = text(&ada.page("/rollouts/spring/devices?state=succeeded"));
        assert!(devices.contains(&format!("till-{}", canaries[0])), "{devices}");

        // Back to the release before, for those that have it.
        let to_nowhere = ada.post("/rollouts/spring/run", &[("deed", "rollback"), ("to", "pos-app@1.0.0")]);
        assert!(to_nowhere.status == 422 && to_nowhere.text().contains("reason is empty"), "{}", to_nowhere.text());
        let back = [("deed", "rollback"), ("to", "pos-app@1.0.0"), ("reason", "it prints no receipts")];
        let page = ada.submit("/rollouts/spring/run", &back);
        assert!(text(&page).contains("This rollout takes back what spring brought."), "{page}");
        let rollouts: Vec<Rollout> = server.api().list("rollouts");
        let undo = rollouts.iter().find(|one| one.takes_back.is_some()).unwrap();
        assert_eq!((undo.phases[0].counts.size, undo.created_by.as_str()), (1, "operator"));
        assert_eq!(server.rollout("spring").state, RolloutState::Cancelled);
        tills[canaries[0]].settle(Health::Good);
        assert_eq!(tills[canaries[0]].version_of("pos-app"), Some("1.0.0"));
    });
}

#[test]
fn two_people_who_change_a_rollout_see_both_versions_and_a_viewer_changes_nothing() {
    on_both_with(&["second_person_above = 1"], |server| {
        fleet(server, 1);
        let (ada, bob) = (Browser::of(server, "operator"), Browser::of(server, "admin"));
        ada.submit("/rollouts/new", &typed(&[]));
        let edition = |page: &str| {
            let value = page.split("name=\"edition\" value=\"").nth(1).unwrap();
            value.split('"').next().unwrap().to_owned()
        };
        let (first, second) =
            (edition(&ada.page("/rollouts/spring/edit")), edition(&bob.page("/rollouts/spring/edit")));
        let of = |priority: &'static str, edition: &str| {
            let mut fields = typed(&[("priority", priority)]);
            let edition = edition.to_owned();
            fields.push(("edition", Box::leak(edition.into_boxed_str())));
            fields
        };
        let page = ada.submit("/rollouts/spring/edit", &of("700", &first));
        assert!(text(&page).contains("It is changed."), "{page}");
        let late = bob.post("/rollouts/spring/edit", &of("300", &second));
        let shown = late.text();
        assert_eq!(late.status, 422, "{shown}");
        assert!(shown.contains("somebody else has changed it meanwhile") && shown.contains("value=\"300\""), "{shown}");
        assert!(text(&shown).contains("priority | 700 | 300"), "{}", text(&shown));
        bob.submit("/rollouts/spring/edit", &of("300", &edition(&shown)));
        assert_eq!(server.rollout("spring").spec.priority, 300);

        let eve = Browser::of(server, "viewer");
        let page = eve.page("/rollouts/spring");
        assert!(!page.contains("/rollouts/spring/run") && !page.contains("/edit\""), "{page}");
        assert_eq!(eve.post("/rollouts/spring/run", &[("deed", "start")]).status, 403);
        assert_eq!(eve.get("/rollouts/new").status, 403);
        // The second person's button is for an approver, of a rollout that waits for one.
        let pat = Browser::of(server, "approver");
        let asks = |name: &str| pat.page(&format!("/rollouts/{name}")).contains("Approve it as second person");
        assert!(!asks("spring"), "it is for one device");
        ada.submit("/rollouts/new", &typed(&[("name", "urgent"), ("security", "yes")]));
        assert!(asks("urgent"), "freezes let it pass only then");
        FakeDevice::enrol(server, "till-1");
        assert!(asks("spring") && !ada.page("/rollouts/spring").contains("Approve it as second person"));
        let page = pat.submit("/rollouts/spring/approve", &[("deed", "countersign"), ("reason", "looked at it")]);
        assert!(text(&page).contains("You have approved it."), "{page}");
        assert_eq!(server.rollout("spring").countersigned.unwrap().by, "approver");
        assert!(!asks("spring"));
    });
}
