//! Enrolled devices and what they say when they check in.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context as _, ensure};
use callboard_proto::{
    check_in::{CheckIn, Facts, Installed, MAX_WAIT_S},
    enrol::{Enrol, Enrolled},
    instruction::Nonce,
    paths,
    state::AgentState,
};
use rustls::ClientConfig;
use tokio::task::JoinSet;

use crate::{
    client::{self, Connection, Identity},
    product::Product,
};

/// Under the 120 a minute that one address may.
const ENROLMENTS_OF_ONE_ADDRESS: usize = 100;
/// Enrolled at the same time, so that many share a commit.
const TOGETHER: usize = 64;

/// A device that is enrolled.
pub(crate) struct Device {
    identity: Identity,
    server_ca: Arc<str>,
    /// What it says when nothing is new.
    said: CheckIn,
    request: Vec<u8>,
    /// The same check-in, with as long a wait as there is.
    pub(crate) waiting: Vec<u8>,
    nonce_at: usize,
}

impl Device {
    /// Its TLS settings, without any session yet.
    pub(crate) fn tls(&self, resume: bool) -> anyhow::Result<Arc<ClientConfig>> {
        client::tls(&self.server_ca, Some(&self.identity), resume)
    }

    /// A check-in that says something else than the others.
    pub(crate) fn saying(&self, change: impl FnOnce(&mut CheckIn)) -> anyhow::Result<Vec<u8>> {
        let mut check_in = self.said.clone();
        change(&mut check_in);
        Ok(client::post(paths::CHECK_IN, &serde_json::to_vec(&check_in)?))
    }

    pub(crate) fn requests(&self) -> CheckIns {
        CheckIns { request: self.request.clone(), nonce_at: self.nonce_at, n: 0 }
    }
}

/// Check-ins of one device: each with a nonce of its own, otherwise the same.
pub(crate) struct CheckIns {
    request: Vec<u8>,
    nonce_at: usize,
    n: u32,
}

impl CheckIns {
    pub(crate) fn next(&mut self) -> &[u8] {
        self.n += 1;
        let text = format!("{:08x}", self.n);
        self.request[self.nonce_at..self.nonce_at + text.len()].copy_from_slice(text.as_bytes());
        &self.request
    }
}

/// Enrols `n` devices. `serial` names the imported device that each becomes.
pub(crate) async fn enrol(
    product: &Product,
    n: usize,
    serial: impl Fn(usize) -> String,
) -> anyhow::Result<Vec<Arc<Device>>> {
    let bundle = product.bundle(u32::try_from(n)?)?;
    let server_ca: Arc<str> = bundle.server_ca_pem.into();
    let tls = client::tls(&server_ca, None, false)?;
    let mut devices = Vec::with_capacity(n);
    let mut running = JoinSet::new();
    for i in 0..n {
        if running.len() == TOGETHER {
            devices.push(running.join_next().await.context("nobody enrols")???);
        }
        let address = u8::try_from(i / ENROLMENTS_OF_ONE_ADDRESS % 250)?;
        let from = Ipv4Addr::new(127, 0, 1, address + 1);
        let (tls, server, server_ca) = (tls.clone(), product.device_addr, server_ca.clone());
        let (token, serial) = (bundle.token.clone(), serial(i));
        running.spawn(async move {
            let mut connection = Connection::open(server, from, &tls).await?;
            let device = one(&mut connection, token, serial, server_ca).await;
            connection.close().await;
            device
        });
    }
    while let Some(device) = running.join_next().await {
        devices.push(device??);
    }
    Ok(devices)
}

async fn one(
    connection: &mut Connection,
    token: String,
    serial: String,
    server_ca: Arc<str>,
) -> anyhow::Result<Arc<Device>> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let csr_pem = rcgen::CertificateParams::default().serialize_request(&key)?.pem()?;
    let facts = facts(&serial)?;
    let body = Enrol {
        crit: Vec::new(),
        token,
        csr_pem,
        name: None,
        serial: Some(serial),
        hw: facts.hw.clone(),
        arch: facts.arch.clone(),
    };
    let answer = connection.exchange(&client::post("/v1/enrol", &serde_json::to_vec(&body)?), None).await?;
    let text = String::from_utf8_lossy(connection.body());
    ensure!(answer.status == 200, "enrolment was refused: {text}");
    let enrolled: Enrolled = serde_json::from_str(&text)?;
    let check_in = check_in(facts);
    let request = client::post(paths::CHECK_IN, &serde_json::to_vec(&check_in)?);
    let waiting = CheckIn { wait_s: MAX_WAIT_S, ..check_in.clone() };
    let waiting = client::post(paths::CHECK_IN, &serde_json::to_vec(&waiting)?);
    let nonce = b"\"nonce\":\"";
    let nonce_at = request.windows(nonce.len()).position(|some| some == nonce).context("no nonce")? + nonce.len();
    let identity = Identity { certificate_pem: enrolled.certificate_pem, key_pem: key.serialize_pem() };
    Ok(Arc::new(Device { identity, server_ca, said: check_in, request, waiting, nonce_at }))
}

/// A till with two products and a few attributes.
fn facts(serial: &str) -> anyhow::Result<Facts> {
    let installed = [("pos-app", "2.1.0"), ("pos-os", "11.4.2")].map(|(product, version)| {
        Ok::<_, anyhow::Error>(Installed {
            product: product.parse()?,
            version: version.parse()?,
            release: None,
            epoch: 0,
            counter: 0,
            floor: 0,
        })
    });
    Ok(Facts {
        agent: "0.1.0".to_owned(),
        hw: "verifone-m440".to_owned(),
        arch: "x86_64".to_owned(),
        tz: Some("America/New_York".to_owned()),
        serial: Some(serial.to_owned()),
        image_id: None,
        hardware_id: None,
        channels: vec!["stable".to_owned()],
        installed: installed.into_iter().collect::<Result<_, _>>()?,
        attributes: [("printer", "epson-tm88"), ("lane", "4")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    })
}

fn check_in(facts: Facts) -> CheckIn {
    CheckIn {
        crit: Vec::new(),
        nonce: Nonce([0x5a; 32]),
        checkin_seq: 4711,
        boot_id: "3f0c9d0e-8d0f-4d7a-9a53-4b8f6b1f2c11".to_owned(),
        uptime_s: 86_400,
        facts,
        state: AgentState::Idle,
        progress: None,
        root_version: 1,
        head_serial: None,
        free_bytes: Some(12_000_000_000),
        last_error: None,
        attacks: [].into(),
        wait_s: 0,
    }
}
