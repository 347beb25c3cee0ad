//! An answer that lasts: it ends when the device that it is for is not welcome any more.
//!
//! Asked before each piece, of the same memory that every request asks. The database is asked when that memory knows
//! nothing, which is after each change of the device; one that is away then ends no transfer.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    web::{Bytes, Data},
};

use crate::{
    app::{App, devices},
    http::{auth::PeerIdentity, problem::ApiResult},
};

/// The body of an answer, for as long as it may be read.
pub(super) struct WhileWelcome {
    body: BoxBody,
    app: Data<App>,
    peer: PeerIdentity,
    asking: Option<Pin<Box<dyn Future<Output = ApiResult<()>>>>>,
}

impl WhileWelcome {
    pub(super) fn new(body: BoxBody, app: Data<App>, peer: PeerIdentity) -> Self {
        Self { body, app, peer, asking: None }
    }

    fn poll_welcome(&mut self, context: &mut Context<'_>) -> Poll<ApiResult<()>> {
        if self.asking.is_none() {
            if let Some(known) = self.app.devices.get(self.peer.device) {
                return Poll::Ready(self.peer.check(self.app.clock.now(), &known));
            }
            self.asking = Some(Box::pin(ask(self.app.clone(), self.peer)));
        }
        let Some(asking) = &mut self.asking else { return Poll::Ready(Ok(())) };
        let answer = ready!(asking.as_mut().poll(context));
        self.asking = None;
        Poll::Ready(answer)
    }
}

async fn ask(app: Data<App>, peer: PeerIdentity) -> ApiResult<()> {
    match devices::known(&app, peer.device).await {
        Ok(Some(known)) => peer.check(app.clock.now(), &known),
        // No row of a device is ever deleted.
        Ok(None) | Err(_) => Ok(()),
    }
}

impl MessageBody for WhileWelcome {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if let Err(refused) = ready!(this.poll_welcome(context)) {
            return Poll::Ready(Some(Err(io::Error::other(refused.detail).into())));
        }
        Pin::new(&mut this.body).poll_next(context)
    }
}
