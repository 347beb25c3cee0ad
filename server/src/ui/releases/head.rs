//! `POST /releases/head`: a head that was signed where its key is. It takes releases back, and says how fresh is fresh.

use actix_web::{HttpResponse, web::Data};
use askama::Template;

use crate::{
    app::{App, trust},
    http::{auth::Publish, problem::ApiResult},
    ui::{
        desk::Submitted,
        form::Form,
        frame::{self, Frame, Section, segment},
    },
};

#[derive(Template)]
#[template(path = "release_head.html")]
struct Page {
    frame: Frame,
    form: Form,
}

/// Publishes the head in the form.
pub(crate) async fn post(sent: Submitted<Publish>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let head = form.text("head").trim().as_bytes().to_vec();
    match trust::head::publish(&app, desk.actor.clone(), head).await {
        Ok(serial) => {
            let back = match form.some("release") {
                Some(release) => format!("/releases/{}", segment(&release)),
                None => "/releases".to_owned(),
            };
            frame::done(&back, format!("Head {serial} is published; devices learn of it at their next check-in."))
        }
        Err(error) => {
            form.take(error)?;
            frame::show_refused(&Page { frame: Frame::new(&desk, Section::Releases, "Head"), form })
        }
    }
}
