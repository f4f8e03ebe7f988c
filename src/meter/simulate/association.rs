//! One client at a simulated meter: who it is, whether it has proven it, and what it may be told.

use super::meter::{Meter, Staged, When};
use super::objects;
use crate::dlms::acse::{
    AUTHENTICATION_FAILURE, AUTHENTICATION_REQUIRED, AssociationRequest, AssociationResponse,
    CONTEXT_UNSUPPORTED, GMAC, InitiateRequest, MECHANISM_UNKNOWN, RELEASED, TAG_AARQ, TAG_RLRQ,
    Verdict, initiate_response, protected_content, tagged,
};
use crate::dlms::axdr::Value;
use crate::dlms::ciphering::{
    AUTHENTICATED, ENCRYPTED, Invocation, SecurityHeader, gmac, open, protect,
};
use crate::dlms::keys::{KeyRole, parse_key_transfer};
use crate::dlms::obis::Member;
use crate::dlms::service::{
    DENIED, Exception, GeneralGlo, Request, SUCCESS, Service, TAG_ACTION, TAG_GENERAL_GLO, TAG_GET,
    TAG_SET, TYPE_UNMATCHED, action_answer, get_answer, get_block_answer, get_list_answer,
    global_tag, no_block_answer, set_answer,
};
use crate::dlms::{Malformed, SystemTitle};
use crate::types::{Random as _, Secret, SystemRandom};

pub(super) enum Reply {
    Answer(Vec<u8>),
    Drop,
}

pub(super) struct Association {
    client: u16,
    stage: Stage,
    is_ciphered: bool,
    title: Option<SystemTitle>,
    to_meter: Vec<u8>,
    to_client: Vec<u8>,
    blocks: Option<Blocks>,
    /// Keys that count once the association has ended.
    deferred: Vec<(KeyRole, Secret)>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Stage {
    None,
    Challenged,
    Open,
}

struct Blocks {
    rest: Vec<u8>,
    next: u32,
}

/// In which form a request came, and its answer goes.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    Plain,
    Glo,
    GeneralGlo,
}

/// Why a message gets no proper answer.
enum Refusal {
    Exception(Exception),
    Drop,
}

impl From<Exception> for Refusal {
    fn from(exception: Exception) -> Self {
        Self::Exception(exception)
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Drop
    }
}

impl Association {
    pub(super) fn new() -> Self {
        Self {
            client: 0,
            stage: Stage::None,
            is_ciphered: false,
            title: None,
            to_meter: Vec::new(),
            to_client: Vec::new(),
            blocks: None,
            deferred: Vec::new(),
        }
    }

    pub(super) fn end(&mut self, meter: &mut Meter) {
        meter.commit(std::mem::take(&mut self.deferred));
        *self = Self::new();
    }

    pub(super) fn handle(&mut self, meter: &mut Meter, client: u16, message: &[u8]) -> Reply {
        if meter.is_locked() {
            return Reply::Drop;
        }
        if client != self.client {
            self.end(meter);
            self.client = client;
        }
        match self.dispatch(meter, message) {
            Ok(answer) => Reply::Answer(answer),
            Err(Refusal::Exception(exception)) if !meter.faults.is_silent => {
                Reply::Answer(exception.encode())
            }
            Err(_) => Reply::Drop,
        }
    }

    fn dispatch(&mut self, meter: &mut Meter, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        match message.first() {
            None => Err(Refusal::Drop),
            Some(&TAG_AARQ) => self.associate(meter, message),
            Some(&TAG_RLRQ) => {
                let client = self.client;
                self.end(meter);
                self.client = client;
                Ok(RELEASED.to_vec())
            }
            Some(_) if self.stage == Stage::None => Err(Exception::NotAllowed.into()),
            Some(_) => self.request(meter, message),
        }
    }

    fn associate(&mut self, meter: &mut Meter, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        let client = self.client;
        self.end(meter);
        self.client = client;
        let request = AssociationRequest::parse(message)?;
        self.is_ciphered = request.context == CIPHERED;
        let refused = |diagnostic| AssociationResponse {
            context: request.context,
            verdict: Verdict::Refused(diagnostic),
            title: Vec::new(),
            challenge: Vec::new(),
            user_information: Vec::new(),
        };
        if let Err(diagnostic) = admissible(client, &request) {
            return Ok(refused(diagnostic).encode());
        }
        self.title = SystemTitle::from_slice(&request.title).ok();
        let initiate = match self.is_ciphered {
            false => request.user_information.clone(),
            true => self.open_initiate(meter, &request.user_information)?,
        };
        let Ok(initiate) = InitiateRequest::parse(&initiate) else {
            return Ok(refused(NO_REASON).encode());
        };
        let answer = initiate_response(initiate.conformance & CONFORMANCE, meter.faults.max_bytes);
        if client == PUBLIC {
            self.stage = Stage::Open;
            return Ok(self.accept(meter, Verdict::Accepted, answer));
        }
        self.stage = Stage::Challenged;
        self.to_meter = request.challenge;
        self.to_client = vec![0; 16];
        SystemRandom.fill(&mut self.to_client);
        let protected = self.protect(meter, &answer)?;
        Ok(self.accept(
            meter,
            Verdict::Pending,
            tagged(TAG_GLO_INITIATE_ANSWER, &protected),
        ))
    }

    fn accept(&self, meter: &Meter, verdict: Verdict, user_information: Vec<u8>) -> Vec<u8> {
        let title = if self.is_ciphered {
            meter.title.0.to_vec()
        } else {
            Vec::new()
        };
        AssociationResponse {
            context: if self.is_ciphered { CIPHERED } else { PLAIN },
            verdict,
            title,
            challenge: self.to_client.clone(),
            user_information,
        }
        .encode()
    }

    fn open_initiate(&mut self, meter: &mut Meter, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        match message.first() {
            Some(&TAG_GENERAL_GLO) => {
                let general = GeneralGlo::parse(message)?;
                self.open(meter, general.protected)
            }
            _ => self.open(meter, protected_content(message, TAG_GLO_INITIATE)?),
        }
    }

    fn request(&mut self, meter: &mut Meter, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (form, plain) = match message {
            [TAG_GENERAL_GLO, ..] => {
                let general = GeneralGlo::parse(message)?;
                let mine = self.title.is_some_and(|title| title.0 == general.title);
                if !mine && !general.title.is_empty() {
                    return Err(Exception::Deciphering.into());
                }
                (Form::GeneralGlo, self.open(meter, general.protected)?)
            }
            [TAG_GET | TAG_SET | TAG_ACTION, ..] if !self.is_ciphered => {
                (Form::Plain, message.to_vec())
            }
            [tag, ..]
                if [TAG_GET, TAG_SET, TAG_ACTION]
                    .map(global_tag)
                    .contains(&Some(*tag)) =>
            {
                let plain = self.open(meter, protected_content(message, *tag)?)?;
                // The outer tag is not authenticated: it must not say another service than the inner one.
                if plain.first().copied().and_then(global_tag) != Some(*tag) {
                    return Err(Exception::Deciphering.into());
                }
                (Form::Glo, plain)
            }
            _ => return Err(Exception::NotAllowed.into()),
        };
        self.answer(meter, form, &plain)
    }

    fn answer(&mut self, meter: &mut Meter, form: Form, plain: &[u8]) -> Result<Vec<u8>, Refusal> {
        let Request { invoke, service } = Request::parse(plain)?;
        match service {
            Service::Action(Member::REPLY_TO_HLS, proof) if self.stage == Stage::Challenged => {
                let answer = self.check_proof(meter, invoke, proof.as_ref())?;
                self.seal(meter, form, answer)
            }
            _ if self.stage == Stage::Challenged => Err(Exception::NotAllowed.into()),
            Service::Action(Member::KEY_TRANSFER, Some(value)) if self.client == MANAGEMENT => {
                let staged = match parse_key_transfer(&value) {
                    Ok(wrapped) if !wrapped.is_empty() => meter.transfer(&wrapped),
                    Err(Malformed::Tag(_)) => refused_transfer(DENIED),
                    _ => refused_transfer(TYPE_UNMATCHED),
                };
                self.answer_transfer(meter, form, invoke, staged)
            }
            service => {
                let answer = self.serve(meter, invoke, service);
                self.seal(meter, form, answer)
            }
        }
    }

    fn answer_transfer(
        &mut self,
        meter: &mut Meter,
        form: Form,
        invoke: u8,
        staged: Staged,
    ) -> Result<Vec<u8>, Refusal> {
        let answer = action_answer(invoke, staged.result, None);
        match staged.when {
            When::NoAnswer => {
                meter.commit(staged.keys);
                Err(Refusal::Drop)
            }
            When::BeforeAnswer => {
                meter.commit(staged.keys);
                self.seal(meter, form, answer)
            }
            When::AfterAnswer => {
                let sealed = self.seal(meter, form, answer)?;
                meter.commit(staged.keys);
                Ok(sealed)
            }
            When::AtTheEnd => {
                self.deferred = staged.keys;
                self.seal(meter, form, answer)
            }
        }
    }

    fn serve(&mut self, meter: &mut Meter, invoke: u8, service: Service) -> Vec<u8> {
        let is_public = self.client == PUBLIC;
        match service {
            Service::Get(selection) => match objects::read(meter, is_public, &selection) {
                Ok(value) if value.len() > block_bytes(meter) => {
                    self.blocks = Some(Blocks {
                        rest: value,
                        next: 1,
                    });
                    self.next_block(meter, invoke)
                }
                read => get_answer(invoke, &read),
            },
            Service::GetNext(done) => match &self.blocks {
                Some(blocks) if blocks.next == done.wrapping_add(1) => {
                    self.next_block(meter, invoke)
                }
                _ => no_block_answer(invoke, done),
            },
            Service::GetList(selections) => {
                let read = |selection| objects::read(meter, is_public, selection);
                get_list_answer(invoke, &selections.iter().map(read).collect::<Vec<_>>())
            }
            Service::Set(..) if is_public => set_answer(invoke, DENIED),
            Service::Set(attribute, value) => {
                set_answer(invoke, objects::write(meter, attribute, &value))
            }
            Service::Action(..) => action_answer(invoke, DENIED, None),
        }
    }

    fn next_block(&mut self, meter: &Meter, invoke: u8) -> Vec<u8> {
        let Some(Blocks { mut rest, next }) = self.blocks.take() else {
            return no_block_answer(invoke, 0);
        };
        let later = rest.split_off(rest.len().min(block_bytes(meter)));
        let is_last = later.is_empty();
        if !is_last {
            self.blocks = Some(Blocks {
                rest: later,
                next: next.wrapping_add(1),
            });
        }
        get_block_answer(invoke, next, &rest, is_last)
    }

    /// The client's proof in, ours out. One try a challenge.
    fn check_proof(
        &mut self,
        meter: &mut Meter,
        invoke: u8,
        proof: Option<&Value>,
    ) -> Result<Vec<u8>, Refusal> {
        let challenge = std::mem::take(&mut self.to_client);
        let title = self.title.ok_or(Refusal::Drop)?;
        let control = AUTHENTICATED | meter.suite.id();
        let proven = proof
            .and_then(|proof| SecurityHeader::split(proof.as_bytes().ok()?).ok())
            .filter(|(header, _)| header.control == control)
            .filter(|(header, tag)| {
                let counter = header.counter;
                let expected = gmac(
                    control,
                    meter.cipher_keys(),
                    Invocation { title, counter },
                    &challenge,
                );
                expected.is_ok_and(|expected| expected == *tag)
            });
        let Some((header, _)) = proven else {
            meter.fail();
            self.stage = Stage::None;
            return Ok(action_answer(invoke, DENIED, None));
        };
        meter.note_nonce(title, header.counter);
        meter.log_in();
        self.stage = Stage::Open;
        let ours = Invocation {
            title: meter.title,
            counter: meter.next_answer(),
        };
        let tag =
            gmac(control, meter.cipher_keys(), ours, &self.to_meter).map_err(|_| Refusal::Drop)?;
        let proof = [&[control][..], &ours.counter.to_be_bytes(), &tag].concat();
        Ok(action_answer(
            invoke,
            SUCCESS,
            Some(&Value::OctetString(proof)),
        ))
    }

    /// Opens what a client protected: this suite, both kinds of protection, a counter never seen, a tag that holds.
    fn open(&mut self, meter: &mut Meter, protected: &[u8]) -> Result<Vec<u8>, Refusal> {
        let title = self.title.ok_or(Refusal::Drop)?;
        let (header, body) = SecurityHeader::split(protected)?;
        if header.control != AUTHENTICATED | ENCRYPTED | meter.suite.id() {
            return Err(Exception::Deciphering.into());
        }
        let opened = open(header, meter.cipher_keys(), title, body);
        if opened.is_ok() {
            meter.note_nonce(title, header.counter);
        }
        if let Some(last) = meter.last_counter.filter(|last| header.counter <= *last) {
            return Err(Exception::Counter(last.saturating_add(1)).into());
        }
        let Ok(plain) = opened else {
            meter.fail();
            return Err(Exception::Deciphering.into());
        };
        meter.last_counter = Some(header.counter);
        Ok(plain)
    }

    fn seal(&self, meter: &mut Meter, form: Form, answer: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        match form {
            Form::Plain => Ok(answer),
            Form::Glo => {
                let tag = answer
                    .first()
                    .copied()
                    .and_then(global_tag)
                    .ok_or(Refusal::Drop)?;
                Ok(tagged(tag, &self.protect(meter, &answer)?))
            }
            Form::GeneralGlo => {
                let protected = self.protect(meter, &answer)?;
                let title = &meter.title.0;
                Ok(GeneralGlo {
                    title,
                    protected: &protected,
                }
                .encode())
            }
        }
    }

    fn protect(&self, meter: &mut Meter, plain: &[u8]) -> Result<Vec<u8>, Refusal> {
        let counter = meter.next_answer();
        let control = AUTHENTICATED | ENCRYPTED | meter.suite.id();
        let invocation = Invocation {
            title: meter.title,
            counter,
        };
        protect(control, meter.cipher_keys(), invocation, plain).map_err(|_| Refusal::Drop)
    }
}

/// Whether a client may try at all; if not, the diagnostic.
fn admissible(client: u16, request: &AssociationRequest) -> Result<(), u8> {
    let (context, mechanism) = match client {
        PUBLIC => (PLAIN, 0),
        MANAGEMENT => (CIPHERED, GMAC),
        _ => return Err(NO_REASON),
    };
    if request.context != context {
        return Err(CONTEXT_UNSUPPORTED);
    }
    if request.mechanism == 0 && mechanism != 0 {
        return Err(AUTHENTICATION_REQUIRED);
    }
    if request.mechanism != mechanism {
        return Err(MECHANISM_UNKNOWN);
    }
    if client == MANAGEMENT && request.title.len() != 8 {
        return Err(TITLE_UNKNOWN);
    }
    if client == MANAGEMENT && !(8..=64).contains(&request.challenge.len()) {
        return Err(AUTHENTICATION_FAILURE);
    }
    Ok(())
}

fn refused_transfer(result: u8) -> Staged {
    Staged {
        result,
        keys: Vec::new(),
        when: When::AfterAnswer,
    }
}

/// What fits into one message beside its headers.
fn block_bytes(meter: &Meter) -> usize {
    usize::from(meter.faults.max_bytes)
        .saturating_sub(64)
        .max(16)
}

const PUBLIC: u16 = 16;
const MANAGEMENT: u16 = 1;
const PLAIN: u8 = 1;
const CIPHERED: u8 = 3;
const NO_REASON: u8 = 1;
const TITLE_UNKNOWN: u8 = 3;
const TAG_GLO_INITIATE: u8 = 0x21;
const TAG_GLO_INITIATE_ANSWER: u8 = 0x28;
/// General protection, block GET, several references, GET, SET, selective access, ACTION; bit 0 comes first.
const CONFORMANCE: u32 = 1 << 22 | 1 << 12 | 1 << 9 | 1 << 4 | 1 << 3 | 1 << 2 | 1;
