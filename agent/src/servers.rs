//! Where this device checks in: the address that answered last, and those that the newest root lists.
//!
//! A root that came after enrolment can move its devices. The address at hand is kept until another one has given an
//! answer that can be believed; that is one file replaced by another, so a power cut leaves the one address or the other.
//! Whoever writes a wrong address into a root has not lost its devices: they ask there now and then, and stay where they
//! are.

use std::{collections::BTreeSet, io, rc::Rc, sync::Arc, time::Duration};

use callboard_proto::root::{Root, Server};
use data_encoding::BASE64;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    agent::Agent,
    check_in::CheckInError,
    client::{Client, ClientError, Credentials, Endpoint, TlsError},
    clock::{Clock, boottime},
    config::Network,
    dice, fs,
    identity::Identity,
    poll,
};

/// One address of the server, and who may have issued the certificate that is shown there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    /// Certificates in PEM.
    pub(crate) ca_pem: String,
}

/// Which address is asked, and how asking elsewhere went.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Where the present client connects to.
    asked: Place,
    /// Times in a row that no listed address answered while the device's own did, or might have.
    failures: u32,
    /// Not before then is a listed address asked first again, in time since boot.
    not_before: Duration,
}

/// An address that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("use the server's address: {0}")]
    Endpoint(String),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("read the device's key: {0}")]
    Key(#[from] io::Error),
}

impl Place {
    /// A client for this address.
    pub(crate) fn client(
        &self,
        credentials: Credentials,
        clock: &Arc<Clock>,
        network: Network,
    ) -> Result<Client, PlaceError> {
        Ok(Client::new(self.endpoint()?, &self.ca_pem, Some(credentials), clock, network)?)
    }

    fn endpoint(&self) -> Result<Endpoint, PlaceError> {
        Endpoint::parse(&self.url).map_err(PlaceError::Endpoint)
    }

    /// Whether both are the same address with the same certificates.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let key = |place: &Self| (target(&place.url), certificates(&place.ca_pem));
        key(self) == key(other)
    }
}

impl Servers {
    pub(crate) fn at(own: Place) -> Self {
        Self { asked: own, failures: 0, not_before: Duration::ZERO }
    }

    /// Says when listed addresses may come first.
    #[cfg(test)]
    pub(crate) fn put_off(&mut self, not_before: Duration) {
        self.not_before = not_before;
    }

    /// Who may have issued the certificate of the server that is asked.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.asked.ca_pem
    }
}

impl From<&Server> for Place {
    fn from(server: &Server) -> Self {
        Self { url: server.url.clone(), ca_pem: server.ca_der.iter().map(|der| pem(der)).collect() }
    }
}

/// Host and port; text that is no address is only itself.
fn target(url: &str) -> String {
    Endpoint::parse(url).map_or_else(|_unusable| url.to_owned(), |endpoint| endpoint.target().to_ascii_lowercase())
}

fn certificates(pem: &str) -> BTreeSet<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().map(|der| der.to_vec()).collect()
}

/// A certificate as it stands in a root, in PEM; what is not base64 is nothing.
fn pem(der: &str) -> String {
    if der.is_empty() || BASE64.decode(der.as_bytes()).is_err() {
        return String::new();
    }
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = der;
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The addresses that a root lists, those left out that this agent cannot use.
pub(crate) fn listed(root: &Root) -> Vec<Place> {
    let usable = |place: &Place| Endpoint::parse(&place.url).is_ok() && !certificates(&place.ca_pem).is_empty();
    root.servers.iter().map(Place::from).filter(usable).collect()
}

/// Whether the root says that this device checks in elsewhere. The root that came with the bundle says nothing against the
/// address that came with it.
pub(crate) fn moves(own: &Identity, root: &Root, listed: &[Place]) -> bool {
    let place = own.place();
    root.version > own.server_root && !listed.is_empty() && !listed.iter().any(|other| other.is(&place))
}

/// The addresses in the order in which they are asked now, the device's own among them.
pub(crate) fn to_ask(agent: &Agent) -> Vec<Place> {
    let (own, root) = (Rc::clone(&agent.identity.borrow()), agent.trust.root());
    let listed = listed(&root);
    let elsewhere_first = moves(&own, &root, &listed) && boottime() >= agent.servers.borrow().not_before;
    let place = own.place();
    let others = listed.into_iter().filter(|other| !other.is(&place)).collect::<Vec<_>>();
    if elsewhere_first { [others, vec![place]].concat() } else { [vec![place], others].concat() }
}

/// Whether this is the address that the device has.
pub(crate) fn is_own(agent: &Agent, place: &Place) -> bool {
    agent.identity.borrow().place().is(place)
}

/// Lets the agent speak with this address.
pub(crate) fn turn_to(agent: &Agent, place: &Place) -> Result<(), PlaceError> {
    if agent.servers.borrow().asked.is(place) {
        return Ok(());
    }
    let client = agent.client().elsewhere(place.endpoint()?, &place.ca_pem)?;
    // What is under way over the client before goes on with that.
    agent.client.replace(Rc::new(client));
    agent.servers.borrow_mut().asked = place.clone();
    Ok(())
}

/// The address that is asked has given an answer that can be believed: it is the device's from now on.
pub(crate) fn answered(agent: &Agent) {
    let place = agent.servers.borrow().asked.clone();
    if is_own(agent, &place) {
        return;
    }
    let before = Rc::clone(&agent.identity.borrow());
    let Place { url: server_url, ca_pem: server_ca_pem } = place;
    let server_root = agent.trust.root().version;
    let own = Identity { server_url, server_ca_pem, server_root, ..(*before).clone() };
    let written = serde_json::to_vec_pretty(&own).map_err(io::Error::from);
    match written.and_then(|bytes| fs::replace(&*agent.fs, &agent.state_dir.identity(), &bytes)) {
        Ok(()) => {
            tracing::info!(from = before.server_url, to = own.server_url, "the server has moved");
            *agent.identity.borrow_mut() = Rc::new(own);
            let mut servers = agent.servers.borrow_mut();
            (servers.failures, servers.not_before) = (0, Duration::ZERO);
        }
        // It answers the next time as well.
        Err(error) => tracing::warn!(%error, "the server's new address could not be kept; the one before is"),
    }
}

/// Whether another address is to be asked after this one gave no answer.
pub(crate) fn go_on(agent: &Agent, place: &Place, error: &CheckInError) -> bool {
    let listed = listed(&agent.trust.root());
    if !is_own(agent, place) {
        tracing::info!(server = place.url, reason = %error, "a listed server gives no answer; the others are asked");
        return true;
    }
    match error {
        // It is there, and wants to be left alone for a while.
        CheckInError::Client(ClientError::Status { status: 429 | 503, .. }) => false,
        // It has the right to say so, unless its time is over.
        error if error.is_refusal() => !listed.iter().any(|other| other.is(place)),
        _ => true,
    }
}

/// Nobody has answered in the place of the device's own server: that is asked first for a while.
pub(crate) fn stay(agent: &Agent) {
    {
        let mut servers = agent.servers.borrow_mut();
        servers.not_before = boottime() + poll::back_off(agent.settings.polling, servers.failures, None, dice::roll());
        servers.failures = servers.failures.saturating_add(1);
    }
    go_home(agent);
}

/// Back to the device's own address, if another one was asked last.
pub(crate) fn go_home(agent: &Agent) {
    let own = agent.identity.borrow().place();
    if let Err(error) = turn_to(agent, &own) {
        tracing::warn!(server = own.url, %error, "the device's server cannot be asked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str, ca_pem: &str) -> Place {
        Place { url: url.to_owned(), ca_pem: ca_pem.to_owned() }
    }

    #[test]
    fn a_place_is_an_address_and_certificates_whatever_they_are_written_like() {
        let certificates = [1, 2].map(|_| {
            let key = rcgen::KeyPair::generate().expect("a key");
            rcgen::CertificateParams::default().self_signed(&key).expect("a certificate")
        });
        let [first, second] = &certificates;
        let server = Server {
            url: "https://updates.example.com".to_owned(),
            ca_der: certificates.iter().map(|one| BASE64.encode(one.der())).collect(),
        };
        let listed = Place::from(&server);
        let both = format!("{}{}", second.pem(), first.pem());
        assert!(listed.is(&place("https://UPDATES.example.com:443/", &both)));
        assert!(!listed.is(&place("https://updates.example.com:8443", &both)));
        assert!(!listed.is(&place("https://updates.example.com", &first.pem())), "one certificate is another place");
    }

    #[test]
    fn entries_that_cannot_be_used_are_left_out() {
        let keys = crate::testing::Keys::fixed();
        let mut root = crate::testing::first_root(&keys);
        let certificate = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&certificate).expect("a certificate");
        let good = BASE64.encode(certificate.der());
        let server = |url: &str, ca: &str| Server { url: url.to_owned(), ca_der: vec![ca.to_owned()] };
        root.servers = vec![
            server("http://plain.example.com", &good),
            server("https://no-base64.example.com", "*"),
            Server { ca_der: Vec::new(), ..server("https://nobody.example.com", "") },
            server("https://good.example.com", &good),
        ];
        let urls: Vec<String> = listed(&root).into_iter().map(|place| place.url).collect();
        assert_eq!(urls, ["https://good.example.com"]);
    }
}
