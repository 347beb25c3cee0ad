//! What people change about themselves, while they are logged in: the password, and whether a login takes a code.

use callboard_proto::{
    admin::{BeginTotp, ChangePassword, TotpCode, TotpSecret},
    ids::TokenId,
    problem::Code,
};

use super::{blocking, change, check_own, hashed, password, resolve, totp};
use crate::{
    app::{Actor, App, Error, Result},
    db,
};

/// Changes the password; the other sessions end.
pub(crate) async fn change_password(app: &App, actor: Actor, session: TokenId, new: ChangePassword) -> Result<()> {
    let ChangePassword { old, new } = new;
    let name = actor.name.clone();
    check_password(app, &name, old, "old is not the password so far").await?;
    let (hash, _) = hashed(Some(new), &name).await?;
    change(app, actor, name, "user.password", move |conn, user, _| {
        user.password = Some(hash);
        db::sessions::delete_of(conn, user.id, Some(session))?;
        Ok("another password of one's own; the other sessions were ended".to_owned())
    })
    .await
    .map(drop)
}

/// Refuses whoever has found an open desk: the session alone is not enough.
async fn check_password(app: &App, name: &str, given: String, wrong: &'static str) -> Result<()> {
    app.doors.enter_inside(name)?;
    let asked = name.to_owned();
    let user = app.db.read(move |conn| resolve(conn, &asked)).await?;
    check_own(&user, "there is no password")?;
    let right = {
        let _place = app.doors.place().await;
        blocking(move || password::verify(&given, user.password.as_deref())).await?
    };
    if right { Ok(()) } else { Err(Error::refused(Code::Forbidden, wrong)) }
}

/// Makes a secret for codes; it counts as soon as a code shows that an app has it.
pub(crate) async fn begin_totp(app: &App, actor: Actor, begin: BeginTotp) -> Result<TotpSecret> {
    let name = actor.name.clone();
    check_password(app, &name, begin.password, "password is not the right one").await?;
    let secret = totp::secret()?;
    let pending = secret.clone();
    let user = change(app, actor, name, "user.totp", move |_, user, _| {
        if user.totp.is_some() {
            let detail = "a login takes a code already; switch that off first, which takes one";
            return Err(Error::refused(Code::WrongState, detail));
        }
        user.totp_pending = Some(pending);
        Ok("a secret for codes was made; it does not count yet".to_owned())
    })
    .await?;
    let (secret, uri) = totp::shown(&secret, &user.name);
    Ok(TotpSecret { secret, uri })
}

/// From now on a login takes a code.
pub(crate) async fn confirm_totp(app: &App, actor: Actor, given: TotpCode) -> Result<()> {
    let name = actor.name.clone();
    app.doors.enter_inside(&name)?;
    change(app, actor, name, "user.totp", move |_, user, now| {
        let Some(secret) = user.totp_pending.take() else {
            return Err(Error::refused(Code::WrongState, "there is no secret to confirm; begin again"));
        };
        let step = totp::step(&secret, given.code.trim(), now, None).ok_or_else(wrong_code)?;
        (user.totp, user.totp_used) = (Some(secret), Some(step));
        Ok("a login takes a code from now on, by one's own wish".to_owned())
    })
    .await
    .map(drop)
}

/// A login takes no code any more.
pub(crate) async fn end_totp(app: &App, actor: Actor, given: TotpCode) -> Result<()> {
    let name = actor.name.clone();
    app.doors.enter_inside(&name)?;
    change(app, actor, name, "user.totp", move |_, user, now| {
        let Some(secret) = &user.totp else {
            return Err(Error::refused(Code::WrongState, "a login takes no code as it is"));
        };
        totp::step(secret, given.code.trim(), now, user.totp_used).ok_or_else(wrong_code)?;
        (user.totp, user.totp_used) = (None, None);
        Ok("a login takes no code any more, by one's own wish".to_owned())
    })
    .await
    .map(drop)
}

fn wrong_code() -> Error {
    let detail = "code is not what the app shows now, or it was used before; check the telephone's clock";
    Error::refused(Code::Forbidden, detail)
}
