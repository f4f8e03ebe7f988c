//! One client at a simulated meter: who it is, whether it has proven it, and what it may be told.

use super::Faults;
use super::meter::Meter;
use crate::dlms::acse::{
    AUTHENTICATION_FAILURE, AUTHENTICATION_REQUIRED, AssociationRequest, AssociationResponse,
    CONTEXT_UNSUPPORTED, GMAC, InitiateRequest, LLS, MECHANISM_UNKNOWN, RELEASED, TAG_AARQ,
    TAG_RLRQ, Verdict, initiate_response, protected_content, tagged,
};
use crate::dlms::axdr::Value;
use crate::dlms::ciphering::{
    AUTHENTICATED, ENCRYPTED, Invocation, SecurityHeader, gmac, open, protect,
};
use crate::dlms::keys::KeyRole;
use crate::dlms::service::{
    DENIED, Exception, GeneralGlo, SUCCESS, TAG_GENERAL_GLO, action_answer, global_tag,
};
use crate::dlms::{Malformed, SystemTitle};
use crate::types::{Random as _, Secret, SystemRandom};

pub(super) enum Reply {
    Answer(Vec<u8>),
    Silence,
    Drop,
}

pub(super) struct Association {
    pub(super) client: u16,
    pub(super) stage: Stage,
    pub(super) is_ciphered: bool,
    pub(super) title: Option<SystemTitle>,
    to_meter: Vec<u8>,
    to_client: Vec<u8>,
    pub(super) blocks: Option<Blocks>,
    /// Keys that count once the association has ended.
    pub(super) deferred: Vec<(KeyRole, Secret)>,
    /// Whether this is the one that keeps others out.
    is_the_one: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Stage {
    None,
    Challenged,
    Open,
}

pub(super) struct Blocks {
    pub(super) rest: Vec<u8>,
    pub(super) next: u32,
}

/// In which form a request came, and its answer goes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Form {
    Plain,
    Glo,
    GeneralGlo,
}

/// Why a message gets no proper answer.
pub(super) enum Refusal {
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
            is_the_one: false,
        }
    }

    pub(super) fn end(&mut self, meter: &mut Meter) {
        if self.is_the_one {
            meter.is_open = false;
        }
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
            Err(Refusal::Exception(_)) if meter.faults.is_mute => Reply::Silence,
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
        let answered = |verdict| AssociationResponse {
            context: request.context,
            verdict,
            title: Vec::new(),
            challenge: Vec::new(),
            user_information: Vec::new(),
        };
        let refused = |diagnostic| answered(Verdict::Refused(diagnostic));
        let keeps_out = meter.faults.is_for_one && meter.is_open;
        if Faults::take(&mut meter.faults.refusals) || keeps_out {
            return Ok(answered(Verdict::Busy).encode());
        }
        if let Err(diagnostic) = admissible(client, &request, meter) {
            return Ok(refused(diagnostic).encode());
        }
        if client == MANAGEMENT && Faults::take(&mut meter.faults.forged_exceptions) {
            return Err(Exception::Counter(u32::MAX).into());
        }
        if let Some(reader) = meter.others.as_ref().filter(|_| client == READER)
            && reader.password.expose() != request.challenge
        {
            meter.fail(NOBODY);
            return Ok(refused(AUTHENTICATION_FAILURE).encode());
        }
        self.title = SystemTitle::from_slice(&request.title).ok();
        let initiate = match self.is_ciphered {
            false => request.user_information.clone(),
            true => self.open_initiate(meter, &request.user_information)?,
        };
        let Ok(initiate) = InitiateRequest::parse(&initiate) else {
            return Ok(refused(NO_REASON).encode());
        };
        (self.is_the_one, meter.is_open) = (true, true);
        let answer = initiate_response(initiate.conformance & CONFORMANCE, meter.faults.max_bytes);
        if client == PUBLIC {
            self.stage = Stage::Open;
            return Ok(self.accept(meter, Verdict::Accepted, answer));
        }
        if client == READER {
            self.stage = Stage::Open;
            return Ok(self.accept(meter, Verdict::Password, answer));
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

    /// The client's proof in, ours out. One try a challenge.
    pub(super) fn check_proof(
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
            meter.fail(title);
            self.stage = Stage::None;
            return Ok(action_answer(invoke, DENIED, None));
        };
        meter.note_nonce(title, header.counter);
        meter.log_in(title);
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
    pub(super) fn open(&mut self, meter: &mut Meter, protected: &[u8]) -> Result<Vec<u8>, Refusal> {
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
            meter.fail(title);
            return Err(Exception::Deciphering.into());
        };
        meter.last_counter = Some(header.counter);
        Ok(plain)
    }

    pub(super) fn seal(
        &self,
        meter: &mut Meter,
        form: Form,
        answer: Vec<u8>,
    ) -> Result<Vec<u8>, Refusal> {
        match form {
            Form::Plain => Ok(answer),
            Form::Glo => {
                let tag = answer
                    .first()
                    .copied()
                    .and_then(global_tag)
                    .ok_or(Refusal::Drop)?;
                let answer = mangled(meter, answer);
                Ok(tagged(tag, &self.protect(meter, &answer)?))
            }
            Form::GeneralGlo => {
                let answer = mangled(meter, answer);
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

fn mangled(meter: &mut Meter, answer: Vec<u8>) -> Vec<u8> {
    match &mut meter.faults.hostile {
        Some(hostile) => hostile.mangle(answer),
        None => answer,
    }
}

/// Whether a client may try at all; if not, the diagnostic.
fn admissible(client: u16, request: &AssociationRequest, meter: &Meter) -> Result<(), u8> {
    let (context, mechanism) = match client {
        PUBLIC => (PLAIN, 0),
        READER if meter.others.is_some() => (PLAIN, LLS),
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

/// A client without a title.
const NOBODY: SystemTitle = SystemTitle([0; 8]);
pub(super) const PUBLIC: u16 = 16;
pub(super) const MANAGEMENT: u16 = 1;
pub(super) const READER: u16 = 2;
pub(super) const INSTALLER: u16 = 3;
const PLAIN: u8 = 1;
const CIPHERED: u8 = 3;
const NO_REASON: u8 = 1;
const TITLE_UNKNOWN: u8 = 3;
const TAG_GLO_INITIATE: u8 = 0x21;
const TAG_GLO_INITIATE_ANSWER: u8 = 0x28;
/// General protection, block GET, several references, GET, SET, selective access, ACTION; bit 0 comes first.
const CONFORMANCE: u32 = 1 << 22 | 1 << 12 | 1 << 9 | 1 << 4 | 1 << 3 | 1 << 2 | 1;
