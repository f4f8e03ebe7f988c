//! What is said in one association, and how answers and refusals are read.

use dlms_cosem_rs::acse::{AssociationResult, Diagnostic};
use dlms_cosem_rs::axdr::Data;
use dlms_cosem_rs::client::{AssociationStep, ClientSession, Response};
use dlms_cosem_rs::codec::{Decode as _, Encode as _, Error, ErrorKind, Result as CrateResult};
use dlms_cosem_rs::security::RustCryptoProvider;
use dlms_cosem_rs::xdlms::{AttributeDescriptorWithSelection, Conformance, SelectiveAccess};
use tokio::time::timeout;

use super::{CrateRandom, DlmsLink, attribute_descriptor};
use crate::dlms::SystemTitle;
use crate::dlms::acse::{AUTHENTICATION_FAILURE, TAG_AARE};
use crate::dlms::axdr::Value;
use crate::dlms::obis::Member;
use crate::dlms::service::{Selection, TAG_EXCEPTION, TAG_SERVICE_ERROR, parse_reads};
use crate::meter::link::transport::{MAX_BYTES, Transport};
use crate::meter::link::{CounterBlock, Counters, CountersError, LinkError};
use crate::types::Digest;

/// An association of one client, open or on the way to it.
pub(super) struct Association<'a> {
    pub(super) transport: Transport,
    pub(super) session: Session<'a>,
    /// Of the ciphered kind: under which key, and which counters are ours.
    pub(super) counting: Option<(Digest, CounterBlock)>,
}

pub(super) type Session<'a> = Box<ClientSession<RustCryptoProvider<CrateRandom<'a>>, MAX_BYTES>>;

impl Association<'_> {
    /// The four passes of HLS: request, challenge, our proof, the meter's proof.
    pub(super) async fn open<C: Counters>(
        &mut self,
        meter: SystemTitle,
        link: &DlmsLink<'_, C>,
    ) -> Result<(), LinkError> {
        let request = self.request(|session, out| session.associate_request(out))?;
        let answer = self.transport.exchange(&request).await?;
        refusal(&answer)?;
        if answer.first() != Some(&TAG_AARE) {
            return Err(LinkError::Garbled);
        }
        let step = self.session.handle_associate_response(&answer);
        if let Some(title) = self.session.server_system_title() {
            let title = SystemTitle(*title.as_bytes());
            if title != meter {
                return Err(LinkError::WrongMeter(title.to_string()));
            }
        }
        match step.map_err(login_error)? {
            AssociationStep::HlsReplyRequired => {}
            AssociationStep::Rejected { result, diagnostic } => {
                return Err(rejection(result, diagnostic));
            }
            _ => return Err(LinkError::Garbled),
        }
        // One counter for the proof and the next for the message that carries it.
        let answer = self
            .ask_with(link, 2, |session, out| session.hls_reply_request(out))
            .await?;
        refusal(&answer)?;
        match self.session.handle_hls_reply_response(&answer) {
            Ok(AssociationStep::Established) => Ok(()),
            Ok(AssociationStep::Rejected { .. }) => Err(LinkError::KeysRefused),
            Ok(_) => Err(LinkError::Garbled),
            Err(error) => Err(login_error(error)),
        }
    }

    /// Reads an attribute, or what a selector chooses of it.
    pub(super) async fn read<C: Counters>(
        &mut self,
        selection: &Selection,
        link: &DlmsLink<'_, C>,
    ) -> Result<Value, LinkError> {
        let descriptor = attribute_descriptor(selection.attribute)?;
        let selector = selection.selector.as_ref();
        let selector = selector.map(|(number, parameters)| (*number, parameters.encode()));
        let request = |session: &mut Session<'_>, out: &mut [u8]| {
            let access = match &selector {
                None => None,
                Some((selector, parameters)) => Some(SelectiveAccess {
                    selector: *selector,
                    parameters: Data::from_bytes(parameters)?,
                }),
            };
            session.get_request(descriptor, access, out)
        };
        let answer = self.ask(link, request).await?;
        let bytes = self.collect(answer, link).await?;
        Value::decode(&bytes).map_err(|_| LinkError::Garbled)
    }

    /// Reads several attributes in one request: of each its value, or a data-access-result.
    pub(super) async fn read_list<C: Counters>(
        &mut self,
        attributes: &[Member],
        link: &DlmsLink<'_, C>,
    ) -> Result<Vec<Result<Value, u8>>, LinkError> {
        let agreed = self
            .session
            .negotiated()
            .map(|agreed| agreed.negotiated_conformance);
        if !agreed.is_some_and(|agreed| agreed.contains(Conformance::MULTIPLE_REFERENCES)) {
            return Err(LinkError::NotOffered);
        }
        let item = |attribute: &Member| {
            let descriptor = attribute_descriptor(*attribute);
            descriptor.map(|descriptor| AttributeDescriptorWithSelection {
                descriptor,
                access: None,
            })
        };
        let items: Vec<_> = attributes.iter().map(item).collect::<Result<_, _>>()?;
        let request =
            |session: &mut Session<'_>, out: &mut [u8]| session.get_request_with_list(&items, out);
        let answer = self.ask(link, request).await?;
        let bytes = self.collect(answer, link).await?;
        let reads = parse_reads(&bytes).map_err(|_| LinkError::Garbled)?;
        match reads.len() == attributes.len() {
            true => Ok(reads),
            false => Err(LinkError::Garbled),
        }
    }

    /// All that a GET brings, in blocks where it is long. A meter that never comes to an end is cut off.
    async fn collect<C: Counters>(
        &mut self,
        answer: Vec<u8>,
        link: &DlmsLink<'_, C>,
    ) -> Result<Vec<u8>, LinkError> {
        let within = link.station.profile.line.answer_within() * ANSWERS_A_VALUE;
        timeout(within, self.collect_blocks(answer, link))
            .await
            .map_err(|_| LinkError::TimedOut)?
    }

    async fn collect_blocks<C: Counters>(
        &mut self,
        mut answer: Vec<u8>,
        link: &DlmsLink<'_, C>,
    ) -> Result<Vec<u8>, LinkError> {
        let mut collected = Vec::new();
        for expected in 1..=MAX_BLOCKS {
            let part = self.understand(&answer, |response| Part::of(response, expected))?;
            let (bytes, last) = match part {
                Part::Whole(bytes) => (bytes, true),
                Part::Block(bytes, last) => (bytes, last),
            };
            collected.extend_from_slice(&bytes);
            if last {
                return Ok(collected);
            }
            if collected.len() > MAX_VALUE_BYTES {
                break;
            }
            answer = self
                .ask(link, |session, out| {
                    session.get_next_block_request(expected, out)
                })
                .await?;
        }
        Err(LinkError::Garbled)
    }

    pub(super) async fn ask<C: Counters>(
        &mut self,
        link: &DlmsLink<'_, C>,
        request: impl FnOnce(&mut Session<'_>, &mut [u8]) -> CrateResult<usize>,
    ) -> Result<Vec<u8>, LinkError> {
        let answer = self.ask_with(link, 1, request).await?;
        refusal(&answer)?;
        Ok(answer)
    }

    /// Sends one request that uses `counters` counters, after making sure that they are ours.
    async fn ask_with<C: Counters>(
        &mut self,
        link: &DlmsLink<'_, C>,
        counters: u32,
        request: impl FnOnce(&mut Session<'_>, &mut [u8]) -> CrateResult<usize>,
    ) -> Result<Vec<u8>, LinkError> {
        if let Some((key, block)) = self.counting {
            let used = self.session.invocation_counter();
            if used
                .checked_add(counters)
                .is_none_or(|last| last > block.last)
            {
                let block = link.counters.reserve(key, link.title, used).await?;
                let before = block.first.checked_sub(1).filter(|before| *before >= used);
                let before = before.ok_or(LinkError::Counters(CountersError::Spent))?;
                self.session.set_invocation_counter(before);
                self.counting = Some((key, block));
            }
        }
        let message = self.request(request)?;
        self.transport.exchange(&message).await
    }

    pub(super) fn request(
        &mut self,
        request: impl FnOnce(&mut Session<'_>, &mut [u8]) -> CrateResult<usize>,
    ) -> Result<Vec<u8>, LinkError> {
        let mut message = vec![0; MAX_BYTES];
        let length = request(&mut self.session, &mut message).map_err(|_| LinkError::Garbled)?;
        message.truncate(length);
        Ok(message)
    }

    pub(super) fn understand<T>(
        &mut self,
        answer: &[u8],
        read: impl FnOnce(Response<'_>) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let mut plain = vec![0; MAX_BYTES];
        let response = self.session.handle_response(answer, &mut plain);
        read(response.map_err(login_error)?)
    }
}

/// What a GET brought: all of it, or the next block.
enum Part {
    Whole(Vec<u8>),
    Block(Vec<u8>, bool),
}

impl Part {
    fn of(response: Response<'_>, expected: u32) -> Result<Self, LinkError> {
        match response {
            Response::Data(data) if expected == 1 => {
                let mut bytes = Vec::new();
                data.encode(&mut bytes).map_err(|_| LinkError::Garbled)?;
                Ok(Self::Whole(bytes))
            }
            Response::DataList(reads) if expected == 1 => {
                let mut bytes = Vec::new();
                reads.encode(&mut bytes).map_err(|_| LinkError::Garbled)?;
                Ok(Self::Whole(bytes))
            }
            Response::Block { last, number, data } if number == expected => {
                Ok(Self::Block(data.to_vec(), last))
            }
            Response::DataError(result) => Err(LinkError::Denied(result.as_u8())),
            _ => Err(LinkError::Garbled),
        }
    }
}

/// A meter that does not want to talk says so unprotected, in one of two ways that the crate takes for damage.
fn refusal(answer: &[u8]) -> Result<(), LinkError> {
    match answer {
        [TAG_EXCEPTION, _, DECIPHERING_ERROR, ..] => Err(LinkError::KeysRefused),
        [TAG_EXCEPTION, _, COUNTER_ERROR, rest @ ..] => {
            let lowest = rest.first_chunk().copied().map(u32::from_be_bytes);
            Err(LinkError::StaleCounter(lowest))
        }
        [TAG_EXCEPTION, _, reason, ..] => Err(LinkError::AssociationRefused(*reason)),
        [TAG_SERVICE_ERROR, ..] => Err(LinkError::KeysRefused),
        _ => Ok(()),
    }
}

pub(super) fn rejection(result: AssociationResult, diagnostic: Diagnostic) -> LinkError {
    match diagnostic {
        _ if result == AssociationResult::RejectedTransient => LinkError::Busy,
        Diagnostic::User(reason) => match reason.as_u8() {
            NO_REASON | AUTHENTICATION_FAILURE => LinkError::KeysRefused,
            other => LinkError::AssociationRefused(other),
        },
        Diagnostic::Provider(reason) => LinkError::AssociationRefused(reason),
    }
}

fn login_error(error: Error) -> LinkError {
    match error.kind {
        ErrorKind::BadTag | ErrorKind::Replay => LinkError::MeterUnproven,
        _ => LinkError::Garbled,
    }
}

const DECIPHERING_ERROR: u8 = 5;
const COUNTER_ERROR: u8 = 6;
const NO_REASON: u8 = 1;
/// A value of a meter that is longer is none that a takeover reads.
const MAX_VALUE_BYTES: usize = 256 * 1024;
/// Blocks of a byte, or of none, would hardly fill that bound.
const MAX_BLOCKS: u32 = 4096;
/// How many times the limit of one answer a value may take that comes in blocks.
const ANSWERS_A_VALUE: u32 = 8;
