//! What an associated client asks a simulated meter, and what it is answered.

use super::association::{Association, Blocks, Form, MANAGEMENT, PUBLIC, Refusal, Stage};
use super::meter::{Meter, SecretManner, Staged, When};
use super::objects;
use crate::dlms::Malformed;
use crate::dlms::acse::protected_content;
use crate::dlms::axdr::Value;
use crate::dlms::keys::parse_key_transfer;
use crate::dlms::obis::Member;
use crate::dlms::service::{
    DENIED, Exception, GeneralGlo, Request, Service, TAG_ACTION, TAG_GENERAL_GLO, TAG_GET, TAG_SET,
    TYPE_UNMATCHED, action_answer, get_answer, get_block_answer, get_list_answer, global_tag,
    list_of_reads, no_block_answer, set_answer,
};

impl Association {
    pub(super) fn request(
        &mut self,
        meter: &mut Meter,
        message: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
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
                match meter.manners.answers_general {
                    true => (Form::GeneralGlo, plain),
                    false => (Form::Glo, plain),
                }
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
            Service::GetList(_) if meter.manners.takes_no_lists => Err(Exception::Unknown.into()),
            Service::Action(method, Some(value)) if self.client == MANAGEMENT => {
                let result = other_client(meter, method, &value);
                self.seal(meter, form, action_answer(invoke, result, None))
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
                    self.first_block(meter, invoke, value)
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
                let reads = list_of_reads(&selections.iter().map(read).collect::<Vec<_>>());
                match reads.len() > block_bytes(meter) {
                    true => self.first_block(meter, invoke, reads),
                    false => get_list_answer(invoke, &reads),
                }
            }
            Service::Set(..) if self.client != MANAGEMENT => set_answer(invoke, DENIED),
            Service::Set(attribute, value) => {
                set_answer(invoke, objects::write(meter, attribute, &value))
            }
            Service::Action(..) => action_answer(invoke, DENIED, None),
        }
    }

    fn first_block(&mut self, meter: &Meter, invoke: u8, rest: Vec<u8>) -> Vec<u8> {
        self.blocks = Some(Blocks { rest, next: 1 });
        self.next_block(meter, invoke)
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
}

/// Methods by which the manager changes what other clients come in with.
fn other_client(meter: &mut Meter, method: Member, value: &Value) -> u8 {
    match (method, value, meter.manners.secrets) {
        (objects::INSTALLER_KEY_TRANSFER, value, _) => match parse_key_transfer(value) {
            Ok(wrapped) => meter.transfer_to_installer(&wrapped),
            Err(_) => TYPE_UNMATCHED,
        },
        (objects::CHANGE_READER_SECRET, Value::OctetString(secret), SecretManner::Wrapped) => {
            meter.set_password(SecretManner::Wrapped, secret)
        }
        (objects::CHANGE_READER_SECRET, Value::OctetString(secret), _) => {
            meter.set_password(SecretManner::Plain, secret)
        }
        _ => DENIED,
    }
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
