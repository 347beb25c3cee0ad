//! API tokens: making and revoking them. One that can be used is always left, unless somebody insists.

use callboard_proto::{
    admin::{self, ApiTokenCreated, check_token_name},
    ids::TokenId,
    problem::Code,
    time::Timestamp,
};

use super::{App, Error, Result, tokens};
use crate::db::{self, DbConn, api_tokens::ApiToken, events::NewEvent};

/// Makes a token.
pub(crate) async fn create(app: &App, name: String, by: String) -> Result<ApiTokenCreated> {
    let now = app.clock.now();
    app.db.write(move |conn| make(conn, &name, &by, now)).await
}

/// Makes a token; `by` is who asked for it.
pub(crate) fn make(conn: &mut DbConn, name: &str, by: &str, now: Timestamp) -> Result<ApiTokenCreated> {
    let name = name.trim();
    check_token_name(name).map_err(Error::invalid)?;
    if db::api_tokens::by_name(conn, name)?.is_some() {
        let detail = format!("there is an API token {name:?} already; revoke it first, or take another name");
        return Err(Error::refused(Code::Conflict, detail));
    }
    let plain = tokens::generate(tokens::API)?;
    db::api_tokens::insert(conn, plain.id, plain.secret_sha256, name, now)?;
    let text = format!("API token {name:?} ({}) was made by {by}", plain.id);
    db::events::insert(conn, now, &NewEvent::general("api_token.created", text))?;
    Ok(ApiTokenCreated { id: plain.id, name: name.to_owned(), token: plain.text })
}

/// Revokes a token, by its id or its name. `force` says that nobody needs to get in afterwards.
pub(crate) async fn revoke(app: &App, reference: String, force: bool, by: String) -> Result<()> {
    let now = app.clock.now();
    app.db
        .write(move |conn| {
            let token = match reference.parse::<TokenId>() {
                Ok(id) => db::api_tokens::get(conn, id)?,
                Err(_) if check_token_name(&reference).is_err() => None,
                Err(_) => db::api_tokens::by_name(conn, &reference)?,
            };
            let token = token.ok_or_else(|| Error::not_found("API token", &reference))?;
            if token.revoked_at.is_some() {
                return Ok(());
            }
            let name = &token.name;
            if !force && db::api_tokens::usable(conn)? <= 1 {
                let detail = format!(
                    "API token {name:?} is the last one that can be used, and without it nobody operates this server; \
                     make another one first, or insist with force=true (--force)"
                );
                return Err(Error::refused(Code::WrongState, detail));
            }
            db::api_tokens::revoke(conn, token.id, now)?;
            let text = format!("API token {name:?} ({}) was revoked by {by}", token.id);
            Ok(db::events::insert(conn, now, &NewEvent::general("api_token.revoked", text))?)
        })
        .await
}

/// A token as operators see it.
pub(crate) fn show(token: ApiToken) -> admin::ApiToken {
    admin::ApiToken { id: token.id, name: token.name, created_at: token.created_at, revoked_at: token.revoked_at }
}
