//! What somebody does to a rollout by a button: start, pause, resume, cancel, roll back; and, as a second person, approve.
//! Each was confirmed on a page that said what it means.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use callboard_policy::rollout::RolloutState;
use callboard_proto::problem::Code;

use super::{one, path};
use crate::{
    app::{self, App, rollouts},
    http::{
        auth::{Approve, Operate},
        problem::{ApiProblem, ApiResult},
    },
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame,
    },
};

/// `POST /rollouts/{rollout}/run`: the field `deed` says what.
pub(crate) async fn run(sent: Submitted<Operate>, app: Data<App>, rollout: Path<String>) -> ApiResult<HttpResponse> {
    let Submitted { desk, form } = sent;
    let name = rollout.into_inner();
    let because = app::Because { by: desk.actor.clone(), reason: form.text("reason").to_owned() };
    let change =
        async |to| rollouts::change_state(&app, name.clone(), to, because.clone(), form.has("acknowledge")).await;
    let done = match form.text("deed") {
        "start" => {
            rollouts::start(&app, name.clone(), because).await.map(|(_, doubts)| told("It has started.", &doubts))
        }
        "pause" => change(RolloutState::Paused).await.map(|_| "It is paused.".to_owned()),
        "resume" => change(RolloutState::Running).await.map(|_| "It goes on.".to_owned()),
        "cancel" => change(RolloutState::Cancelled).await.map(|_| "It is cancelled.".to_owned()),
        "rollback" => {
            let to = form.text("to").to_owned();
            match rollouts::take_back::by_hand(&app, name.clone(), to, because).await {
                Ok(made) => {
                    return frame::done(&path(made.as_str()), format!("This rollout takes back what {name} brought."));
                }
                Err(error) => Err(error),
            }
        }
        other => return Err(unknown(other)),
    };
    answer(&app, &desk, name, form, done).await
}

/// `POST /rollouts/{rollout}/approve`: what takes the permission to approve.
pub(crate) async fn approve(
    sent: Submitted<Approve>,
    app: Data<App>,
    rollout: Path<String>,
) -> ApiResult<HttpResponse> {
    let Submitted { desk, form } = sent;
    let name = rollout.into_inner();
    let because = app::Because { by: desk.actor.clone(), reason: form.text("reason").to_owned() };
    let done = match form.text("deed") {
        "countersign" => {
            rollouts::countersign::countersign(&app, name.clone(), because).await.map(|_| "You have approved it.")
        }
        "approve" => {
            rollouts::by_hand::approve(&app, name.clone(), because).await.map(|_| "You have approved the phase.")
        }
        "skip-soak" => rollouts::by_hand::skip_soak(&app, name.clone(), because).await.map(|_| "The soak is over."),
        "open-phase" => {
            let phase = form.text("phase").to_owned();
            rollouts::by_hand::open_phase(&app, name.clone(), phase, because).await.map(|_| "The phase is open.")
        }
        other => return Err(unknown(other)),
    };
    answer(&app, &desk, name, form, done.map(str::to_owned)).await
}

/// The page again: with what was done, or with what is wrong.
async fn answer<P>(
    app: &App,
    desk: &Desk<P>,
    name: String,
    mut form: Form,
    done: app::Result<String>,
) -> ApiResult<HttpResponse> {
    match done {
        Ok(text) => frame::done(&path(&name), text),
        Err(error) => {
            form.take(error)?;
            frame::show_refused(&one::page(app, desk, name, form).await?)
        }
    }
}

fn unknown(deed: &str) -> ApiProblem {
    ApiProblem::new(Code::BadRequest, format!("deed {deed:?} is none of this form's buttons"))
}

/// What was done, and what looks like a mistake in it.
pub(super) fn told(done: &str, doubts: &[String]) -> String {
    std::iter::once(done).chain(doubts.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}
