//! The identity provider: OpenID Connect with a code, PKCE, state and nonce. It knows the network and nothing of people
//! here; whoever calls it is not in a transaction, and may block.
//!
//! What the provider says of itself and its keys is kept for an hour, and asked for again when a token is signed by a key
//! that is not known. Tokens are compared with the clock of the machine, for the provider has no other.

mod wire;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use openidconnect::{
    AdditionalClaims, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, Client, ClientId, ClientSecret,
    CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenClaims, IdTokenFields,
    Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, Scope, StandardErrorResponse,
    StandardTokenResponse, SubjectIdentifier, TokenResponse as _, UserInfoClaims,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreResponseType,
        CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::oidc::Oidc;
pub(crate) use wire::MAX_SAID;

/// How long it is believed what the provider says of itself.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// Groups of one person that are looked at; more are no groups but an attack on memory.
const MAX_GROUPS: usize = 1000;
/// Longest subject, by the standard.
const MAX_SUBJECT: usize = 255;
/// Signatures that somebody other than the provider cannot make.
const SIGNATURES: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// The provider of this server.
pub(crate) struct Provider {
    pub(crate) settings: Oidc,
    secret: Option<ClientSecret>,
    agent: ureq::Agent,
    known: Mutex<Option<(CoreProviderMetadata, Instant)>>,
}

/// A login that begins: where the browser goes, and what it keeps until it is back.
pub(crate) struct Begun {
    pub(crate) url: String,
    pub(crate) kept: Kept,
}

/// What ties the answer to the browser that asked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) state: String,
    nonce: String,
    verifier: String,
}

/// Whom the provider vouches for.
#[derive(Debug)]
pub(crate) struct Somebody {
    /// Never another person's, whatever the name.
    pub(crate) subject: String,
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

/// Why nobody is vouched for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error("the identity provider cannot be asked: {0}")]
    Away(String),
    #[error("the identity provider refused the login: {0}")]
    Refused(String),
    #[error("the identity provider's answer cannot be trusted: {0}")]
    Untrusted(String),
}

/// Every claim that is not a standard one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Others(Map<String, Value>);

impl AdditionalClaims for Others {}

type Fields = IdTokenFields<
    Others,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Tokens = StandardTokenResponse<Fields, CoreTokenType>;
type Claims = IdTokenClaims<Others, CoreGenderClaim>;
type Asking = Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl Provider {
    /// The provider of these settings; it is not asked yet.
    pub(crate) fn load(settings: Oidc) -> Result<Self, String> {
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path).map_err(|source| format!("cannot read {}: {source}", path.display()))
        };
        let secret = settings.client_secret_file.as_deref().map(read).transpose()?;
        let secret = secret.map(|text| ClientSecret::new(text.trim().to_owned()));
        let agent = wire::agent(settings.issuer.as_str(), settings.ca_file.as_deref())?;
        Ok(Self { settings, secret, agent, known: Mutex::default() })
    }

    /// Begins a login.
    pub(crate) fn begin(&self) -> Result<Begun, ProviderError> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let client = self.client(self.metadata(false)?);
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let scopes = self.settings.scopes.iter().cloned().map(Scope::new);
        let asked = client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random);
        let (url, state, nonce) = asked.add_scopes(scopes).set_pkce_challenge(challenge).url();
        let kept =
            Kept { state: state.secret().clone(), nonce: nonce.secret().clone(), verifier: verifier.secret().clone() };
        Ok(Begun { url: url.into(), kept })
    }

    /// Learns for whom the code stands that the browser brought.
    pub(crate) fn finish(&self, code: String, kept: Kept) -> Result<Somebody, ProviderError> {
        let mut client = self.client(self.metadata(false)?);
        let ask = client.exchange_code(AuthorizationCode::new(code)).map_err(|source| refused(&source))?;
        let ask = ask.set_pkce_verifier(PkceCodeVerifier::new(kept.verifier));
        let tokens = ask.request(&|request| wire::call(&self.agent, request)).map_err(wire::of_tokens)?;
        let nonce = Nonce::new(kept.nonce);
        let claims = match claims(&client, &tokens, &nonce) {
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                client = self.client(self.metadata(true)?);
                claims(&client, &tokens, &nonce)
            }
            other => other,
        };
        let claims = claims.map_err(|source| ProviderError::Untrusted(wire::in_words(&source)))?;
        self.somebody(&client, &tokens, &claims)
    }

    fn client(&self, metadata: CoreProviderMetadata) -> Asking {
        let id = ClientId::new(self.settings.client_id.clone());
        Client::from_provider_metadata(metadata, id, self.secret.clone())
            .set_redirect_uri(self.settings.redirect.clone())
    }

    /// What the provider says of itself.
    fn metadata(&self, anew: bool) -> Result<CoreProviderMetadata, ProviderError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((metadata, at)) = known().as_ref()
            && !anew
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(metadata.clone());
        }
        let call = |request| wire::call(&self.agent, request);
        let found = CoreProviderMetadata::discover(&self.settings.issuer, &call)
            .map_err(|source| ProviderError::Away(wire::in_words(&source)))?;
        *known() = Some((found.clone(), Instant::now()));
        Ok(found)
    }

    /// Name and groups, by the token or else by the provider's page about the person.
    fn somebody(&self, client: &Asking, tokens: &Tokens, claims: &Claims) -> Result<Somebody, ProviderError> {
        let subject = claims.subject().to_string();
        if subject.is_empty() || subject.len() > MAX_SUBJECT {
            return Err(ProviderError::Untrusted(format!("its sub has {} bytes", subject.len())));
        }
        let Oidc { name_claim, groups_claim, .. } = &self.settings;
        let mut all = object(claims)?;
        if !(all.contains_key(name_claim) && all.contains_key(groups_claim)) {
            let more = self.user_info(client, tokens, claims.subject().clone())?;
            all.extend(more.into_iter().filter(|(key, _)| key == name_claim || key == groups_claim));
        }
        let name = all.get(name_claim).and_then(Value::as_str).map(str::to_owned);
        let name = name.ok_or_else(|| {
            ProviderError::Untrusted(format!("it has no claim {name_claim}, which is the name here (name_claim)"))
        })?;
        Ok(Somebody { subject, name, groups: groups(all.get(groups_claim)) })
    }

    fn user_info(
        &self,
        client: &Asking,
        tokens: &Tokens,
        subject: SubjectIdentifier,
    ) -> Result<Map<String, Value>, ProviderError> {
        // Not every provider has that page; what is missing is said then.
        let Ok(ask) = client.user_info(tokens.access_token().clone(), Some(subject)) else { return Ok(Map::new()) };
        let call = |request| wire::call(&self.agent, request);
        let found: UserInfoClaims<Others, CoreGenderClaim> =
            ask.request(&call).map_err(|source| ProviderError::Untrusted(wire::in_words(&source)))?;
        object(&found)
    }
}

fn refused(source: &dyn std::error::Error) -> ProviderError {
    ProviderError::Refused(wire::in_words(source))
}

fn claims(client: &Asking, tokens: &Tokens, nonce: &Nonce) -> Result<Claims, ClaimsVerificationError> {
    let token = tokens.id_token().ok_or_else(|| ClaimsVerificationError::Other("it has no ID token".to_owned()))?;
    let verifier = client.id_token_verifier().set_allowed_algs(SIGNATURES);
    token.clone().into_claims(&verifier, nonce)
}

fn object(claims: &impl Serialize) -> Result<Map<String, Value>, ProviderError> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(all)) => Ok(all),
        _ => Err(ProviderError::Untrusted("its claims are no object".to_owned())),
    }
}

/// A list of texts, or one text.
fn groups(claim: Option<&Value>) -> Vec<String> {
    let listed = match claim {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(one)) => BTreeSet::from([one.clone()]),
        _ => BTreeSet::new(),
    };
    listed.into_iter().take(MAX_GROUPS).collect()
}
