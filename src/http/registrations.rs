//! `POST /v1/registrations`: a registrar's feed, one record a line.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use serde_json::json;

use super::Doors;
use super::caller::Authenticated;
use super::ndjson::{self, Desk};
use super::problem::Refusal;
use crate::handover::RegistrationEvent;
use crate::identity::Kind;
use crate::registry::{Format, Reader};
use crate::service::{Failure, RecordResult};

pub(super) fn router() -> Router<Doors> {
    Router::new().route("/v1/registrations", post(record))
}

async fn record(
    State(doors): State<Doors>,
    caller: Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller
        .0
        .require(Kind::Registrar)
        .map_err(|failure| caller.refuse(failure))?;
    let csv = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/csv"));
    let format = if csv { Format::Snapshot } else { Format::Css };
    let desk = caller.at(&doors);
    let answers = records(format, body)
        .chunks(RECORDS_AT_ONCE)
        .then(move |batch| {
            let desk = desk.clone();
            async move { Ok::<_, std::io::Error>(recorded(&desk, batch).await) }
        });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(answers)).into_response())
}

type Record = (u64, Result<RegistrationEvent, Failure>);

/// The records of a body, in order.
fn records(format: Format, body: Body) -> impl Stream<Item = Record> {
    let mut reader = Reader::new(format);
    ndjson::lines(body).flat_map(move |(number, line)| {
        let record = match line {
            Err(failure) => Some((number, Err(failure))),
            Ok(line) => reader.read(&line).map(|(_, record)| {
                let record = record.map_err(|error| Failure::because(error.code, error.message));
                (number, record)
            }),
        };
        stream::iter(record)
    })
}

/// Records a batch and answers line by line.
async fn recorded(desk: &Desk, batch: Vec<Record>) -> Bytes {
    let events: Vec<_> = batch
        .iter()
        .filter_map(|(_, record)| record.as_ref().ok().cloned())
        .collect();
    let results = match events.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let caller = desk.caller.clone();
            desk.escrow.record_registrations(caller, events).await
        }
    };
    let mut results = match results {
        Ok(results) => Ok(results.into_iter()),
        Err(failure) => Err(failure),
    };
    let mut answers = Vec::new();
    for (number, record) in batch {
        let answer = match (record, &mut results) {
            (Err(failure), _) => Err(failure),
            (Ok(_), Err(failure)) => Err(failure.clone()),
            (Ok(_), Ok(results)) => match results.next() {
                Some(RecordResult::Recorded) => Ok(json!({ "result": "recorded" })),
                Some(RecordResult::Known) => Ok(json!({ "result": "known" })),
                Some(RecordResult::Refused(code)) => Err(Failure::refused(code)),
                None => Err(Failure::Broken("a record without a result".to_owned())),
            },
        };
        answers.extend_from_slice(&desk.written(number, answer));
    }
    answers.into()
}

/// Records that are committed together.
const RECORDS_AT_ONCE: usize = 200;
