//! The requests of one connection, from their headers to the end of their answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use super::places::Seat;

/// What a connection is doing: nothing asked yet, or so many requests under way.
pub(super) type Doing = Option<usize>;

/// One request under way, until it is dropped.
pub(super) struct Running {
    doing: watch::Sender<Doing>,
    _seat: Option<Seat>,
}

impl Running {
    pub(super) fn begin(doing: &watch::Sender<Doing>, seat: Option<Seat>) -> Self {
        doing.send_modify(|doing| *doing = Some(doing.unwrap_or_default() + 1));
        Self {
            doing: doing.clone(),
            _seat: seat,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.doing
            .send_modify(|doing| *doing = doing.map(|count| count.saturating_sub(1)));
    }
}

/// The body of an answer, whose request is under way until it is sent or given up.
pub(super) struct Answering {
    body: Body,
    _running: Running,
}

impl Answering {
    pub(super) fn new(body: Body, running: Running) -> Self {
        Self {
            body,
            _running: running,
        }
    }
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
