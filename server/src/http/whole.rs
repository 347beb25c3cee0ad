//! Requests that change something are carried out to their end, whether or not somebody waits for the answer.
//!
//! A handler whose client hangs up is dropped where it stands. Between a commit and the caches that follow from it that
//! would leave this server with what it knew before.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::ErrorInternalServerError,
    middleware::Next,
    rt,
};

/// Runs the rest of the request as a task of its own.
pub(crate) async fn to_the_end<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    rt::spawn(next.call(request)).await.unwrap_or_else(|source| Err(ErrorInternalServerError(source)))
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::Context,
    };

    use actix_web::{App, HttpResponse, middleware::from_fn, test, web};
    use tokio::sync::Notify;

    use super::*;

    /// A change, and what has to follow it.
    #[derive(Clone, Default)]
    struct Change {
        committed: Arc<Notify>,
        goes_on: Arc<Notify>,
        followed: Arc<AtomicBool>,
    }

    #[actix_web::test]
    async fn what_was_begun_is_ended_for_a_client_that_hangs_up() {
        let change = Change::default();
        let handler = |change: web::Data<Change>| async move {
            change.committed.notify_one();
            change.goes_on.notified().await;
            change.followed.store(true, Ordering::Release);
            change.committed.notify_one();
            HttpResponse::Ok().finish()
        };
        let app = App::new()
            .app_data(web::Data::new(change.clone()))
            .service(web::scope("/api").wrap(from_fn(to_the_end)).route("/x", web::post().to(handler)));
        let service = test::init_service(app).await;
        {
            let mut asked =
                pin!(test::try_call_service(&service, test::TestRequest::post().uri("/api/x").to_request()));
            assert!(asked.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
            change.committed.notified().await;
            // Here the client hangs up.
        }
        change.goes_on.notify_one();
        change.committed.notified().await;
        assert!(change.followed.load(Ordering::Acquire));
    }
}
