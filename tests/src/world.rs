//! The fleet of the examples: eight shops in four time zones and ten terminals, as two import files.

use callboard_proto::admin::{
    ApiTokenCreated, ImportDevice, ImportDevices, ImportSite, ImportSites, Imported, Preview, Rollout, RolloutSpec,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{api::Api, device::FakeDevice, server::TestServer};

/// The shops.
pub fn sites() -> Vec<ImportSite> {
    #[derive(Deserialize)]
    struct File {
        sites: Vec<ImportSite>,
    }
    serde_json::from_str::<File>(include_str!("../fleet/sites.json")).unwrap().sites
}

/// The terminals.
pub fn devices() -> Vec<ImportDevice> {
    #[derive(Deserialize)]
    struct File {
        devices: Vec<ImportDevice>,
    }
    serde_json::from_str::<File>(include_str!("../fleet/devices.json")).unwrap().devices
}

impl TestServer {
    /// Makes the fleet known; nothing of it is switched on yet.
    #[track_caller]
    pub fn import_fleet(&self) {
        self.api().post::<Imported>("sites/import", &ImportSites { sites: sites(), dry_run: false });
        self.api().post::<Imported>("devices/import", &ImportDevices { devices: devices(), dry_run: false });
    }

    /// Enrols a terminal of the fleet; it runs what the file says.
    #[track_caller]
    pub fn switch_on(&self, name: &str) -> FakeDevice {
        let known = devices().into_iter().find(|device| device.name.as_str() == name).unwrap();
        let version = known.installed.values().next().unwrap().to_string();
        FakeDevice::enrol_imported(self, name).runs("pos-app", &version)
    }

    /// Makes and starts a rollout.
    #[track_caller]
    pub fn roll_out(&self, spec: &Value) -> Rollout {
        let made: Rollout = self.api().post("rollouts", spec);
        self.api().post(&format!("rollouts/{}/start", made.spec.name), &json!({}))
    }

    /// The API under a token of that name, which is made.
    #[track_caller]
    pub fn api_of(&self, name: &str) -> Api {
        let made: ApiTokenCreated = self.api().post("api-tokens", &json!({ "name": name }));
        Api { address: self.api().address, token: made.token }
    }

    #[track_caller]
    pub fn rollout(&self, name: &str) -> Rollout {
        self.api().get(&format!("rollouts/{name}"))
    }

    /// `pause`, `resume` or `cancel`.
    #[track_caller]
    pub fn tell_rollout(&self, name: &str, verb: &str) -> Rollout {
        self.api().post(&format!("rollouts/{name}/{verb}"), &json!({ "reason": "a test" }))
    }

    /// What a rollout would do now.
    #[track_caller]
    pub fn preview(&self, spec: &Value) -> Preview {
        self.api().post("rollouts/preview", spec)
    }

    /// What a device's next check-in would bring, and why.
    #[track_caller]
    pub fn explain(&self, device: &FakeDevice) -> callboard_proto::admin::Explanation {
        self.api().get(&format!("devices/{}/explain", device.name))
    }
}

/// A rollout of a release to everybody at once, with `more` fields over the defaults.
pub fn rollout(name: &str, release: &str, more: &Value) -> Value {
    let mut spec = json!({ "name": name, "release": release, "policy": "immediate" });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    // What it becomes is what the API takes: a typo in a test is found here.
    serde_json::from_value::<RolloutSpec>(spec.clone()).unwrap();
    spec
}
