//! The DLMS/COSEM driver: HLS with GMAC over the TCP wrapper. Only this folder knows the client of `dlms-cosem-rs`.

use std::net::SocketAddr;
use std::time::Duration;

use dlms_cosem_rs::Obis as CrateObis;
use dlms_cosem_rs::acse::AuthMechanism;
use dlms_cosem_rs::axdr::Data;
use dlms_cosem_rs::client::{AssociationStep, ClientConfig, ClientSession, Response};
use dlms_cosem_rs::codec::{Decode as _, Result as CrateResult};
use dlms_cosem_rs::security::{
    Key, KeyRing, RandomSource, RustCryptoProvider, SecurityPolicy, SecuritySuite,
    SystemTitle as CrateTitle,
};
use dlms_cosem_rs::xdlms::{AttributeDescriptor, MethodDescriptor};

use super::transport::Transport;
use super::{CounterBlock, Counters, Credentials, Dial, LinkError, Login, MeterLink};
use crate::dlms::SystemTitle;
use crate::dlms::axdr::Value;
use crate::dlms::keys::{Suite, WrappedKey, key_name, key_transfer};
use crate::dlms::obis::Member;
use crate::types::{Digest, Random};
use association::{Association, Session};

mod association;

/// How a head end behaves on the line.
#[derive(Clone, Copy, Debug)]
pub struct LinkSettings {
    /// Our own system title. All that send under one key must have titles of their own or share a journal.
    pub title: SystemTitle,
    /// How long a connection may take to come about.
    pub connect_within: Duration,
    /// How long an answer may take.
    pub answer_within: Duration,
    /// How long to wait between two connections: some meters keep the old one open for a while.
    pub pause: Duration,
}

impl LinkSettings {
    /// Settings that suit a meter behind a mobile network.
    pub fn new(title: SystemTitle) -> Self {
        Self {
            title,
            connect_within: Duration::from_secs(20),
            answer_within: Duration::from_secs(30),
            pause: Duration::ZERO,
        }
    }
}

/// Makes links to DLMS meters.
pub struct DlmsDial<'a, C> {
    /// How to behave.
    pub settings: LinkSettings,
    /// Where counters come from.
    pub counters: &'a C,
    /// Where challenges come from.
    pub random: &'a dyn Random,
}

impl<'a, C: Counters> Dial for DlmsDial<'a, C> {
    type Link = DlmsLink<'a, C>;

    fn dial(&self, address: SocketAddr) -> Self::Link {
        DlmsLink {
            settings: self.settings,
            counters: self.counters,
            random: self.random,
            address,
            association: None,
        }
    }
}

/// A line to a DLMS meter.
pub struct DlmsLink<'a, C> {
    settings: LinkSettings,
    counters: &'a C,
    random: &'a dyn Random,
    address: SocketAddr,
    association: Option<Association<'a>>,
}

impl<'a, C: Counters> MeterLink for DlmsLink<'a, C> {
    async fn associate(&mut self, login: Login<'_>) -> Result<(), LinkError> {
        if self.association.is_some() {
            self.release().await;
            tokio::time::sleep(self.settings.pause).await;
        }
        match login {
            Login::Public => self.associate_publicly().await,
            Login::Management(credentials) => self.associate_as_manager(credentials).await,
        }
    }

    async fn read(&mut self, attribute: Member) -> Result<Value, LinkError> {
        let descriptor = attribute_descriptor(attribute)?;
        let mut association = self.take().await?;
        let value = association.read(descriptor, self).await;
        self.keep(association, value)
    }

    async fn write(&mut self, attribute: Member, value: &Value) -> Result<(), LinkError> {
        let descriptor = attribute_descriptor(attribute)?;
        let encoded = value.encode();
        let mut association = self.take().await?;
        let request = |session: &mut Session<'_>, out: &mut [u8]| {
            session.set_request(descriptor, None, Data::from_bytes(&encoded)?, out)
        };
        let done = association.ask(self, request).await.and_then(|answer| {
            association.understand(&answer, |response| match response {
                Response::Ok => Ok(()),
                Response::DataError(result) => Err(LinkError::Denied(result.as_u8())),
                _ => Err(LinkError::Garbled),
            })
        });
        self.keep(association, done)
    }

    async fn transfer_keys(&mut self, keys: &[WrappedKey]) -> Result<(), LinkError> {
        let descriptor = method_descriptor(Member::KEY_TRANSFER)?;
        let encoded = key_transfer(keys).encode();
        let mut association = self.take().await?;
        let request = |session: &mut Session<'_>, out: &mut [u8]| {
            session.action_request(descriptor, Some(Data::from_bytes(&encoded)?), out)
        };
        let done = association.ask(self, request).await.and_then(|answer| {
            association.understand(&answer, |response| match response {
                Response::ActionResult { result, .. } if result.is_success() => Ok(()),
                Response::ActionResult { result, .. } => Err(LinkError::Denied(result.as_u8())),
                _ => Err(LinkError::Garbled),
            })
        });
        self.keep(association, done)
    }

    async fn release(&mut self) {
        if let Some(mut association) = self.association.take() {
            let mut message = [0; 64];
            if let Ok(length) = association.session.release_request(&mut message) {
                let goodbye = association.transport.exchange(&message[..length]);
                let _ = tokio::time::timeout(GOODBYE, goodbye).await;
            }
        }
    }
}

impl<'a, C: Counters> DlmsLink<'a, C> {
    async fn associate_publicly(&mut self) -> Result<(), LinkError> {
        let config = ClientConfig {
            client_sap: PUBLIC_CLIENT,
            ..ClientConfig::default()
        };
        let session = self.session(config, KeyRing::default());
        let mut association = self.connect(PUBLIC_CLIENT, session, None).await?;
        let request = association.request(|session, out| session.associate_request(out))?;
        let answer = association.transport.exchange(&request).await?;
        match association.session.handle_associate_response(&answer) {
            Ok(AssociationStep::Established) => {
                self.association = Some(association);
                Ok(())
            }
            Ok(_) => Err(LinkError::AssociationRefused(0)),
            Err(_) => Err(LinkError::Garbled),
        }
    }

    async fn associate_as_manager(&mut self, login: Credentials<'_>) -> Result<(), LinkError> {
        let key = key_name(login.keys.guek);
        let (title, above) = (self.settings.title, login.counter_above);
        // ORDER: the counters are ours, durably, before the first of them is used.
        let block = self.counters.reserve(key, title, above).await?;
        let suite = SecuritySuite::from_id(login.suite.id()).map_err(|_| LinkError::Garbled)?;
        let config = ClientConfig {
            client_sap: MANAGEMENT_CLIENT,
            system_title: Some(CrateTitle::new(title.0)),
            mechanism: AuthMechanism::HighGmac,
            security: SecurityPolicy::authenticated_encrypted(suite),
            invocation_counter: block.first.saturating_sub(1),
            ..ClientConfig::default()
        };
        let session = self.session(config, key_ring(login)?);
        let counting = Some((key, block));
        let mut association = self.connect(MANAGEMENT_CLIENT, session, counting).await?;
        association.open(login.meter, self).await?;
        self.association = Some(association);
        Ok(())
    }

    fn session(&self, config: ClientConfig, keys: KeyRing) -> Session<'a> {
        let provider = RustCryptoProvider::with_rng(keys, CrateRandom(self.random));
        Box::new(ClientSession::new(config, provider))
    }

    async fn connect(
        &self,
        client: u8,
        session: Session<'a>,
        counting: Option<(Digest, CounterBlock)>,
    ) -> Result<Association<'a>, LinkError> {
        let LinkSettings {
            connect_within,
            answer_within,
            ..
        } = self.settings;
        let transport =
            Transport::connect(self.address, client.into(), connect_within, answer_within).await?;
        Ok(Association {
            transport,
            session,
            counting,
        })
    }

    async fn take(&mut self) -> Result<Association<'a>, LinkError> {
        self.association.take().ok_or(LinkError::Closed)
    }

    /// Puts the association back unless it is spoilt: after anything but a clear answer, nobody knows what comes next.
    fn keep<T>(
        &mut self,
        association: Association<'a>,
        result: Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        if matches!(result, Ok(_) | Err(LinkError::Denied(_))) {
            self.association = Some(association);
        }
        result
    }
}

fn key_ring(login: Credentials<'_>) -> Result<KeyRing, LinkError> {
    let key = |bytes| Key::from_slice(bytes).map_err(|_| LinkError::Garbled);
    let ring = KeyRing {
        guek: Some(key(login.keys.guek.expose())?),
        gak: Some(key(login.keys.gak.expose())?),
        ..KeyRing::default()
    };
    let fits = |suite: Suite| login.keys.guek.expose().len() == suite.key_bytes();
    fits(login.suite).then_some(ring).ok_or(LinkError::Garbled)
}

fn attribute_descriptor(member: Member) -> Result<AttributeDescriptor, LinkError> {
    let number = i8::try_from(member.number).map_err(|_| LinkError::Garbled)?;
    let object = CrateObis::from_bytes(member.object.0);
    Ok(AttributeDescriptor::new(member.class, object, number))
}

fn method_descriptor(member: Member) -> Result<MethodDescriptor, LinkError> {
    let number = i8::try_from(member.number).map_err(|_| LinkError::Garbled)?;
    let object = CrateObis::from_bytes(member.object.0);
    Ok(MethodDescriptor::new(member.class, object, number))
}

struct CrateRandom<'a>(&'a dyn Random);

impl RandomSource for CrateRandom<'_> {
    fn fill(&self, out: &mut [u8]) -> CrateResult<()> {
        self.0.fill(out);
        Ok(())
    }
}

const PUBLIC_CLIENT: u8 = 16;
const MANAGEMENT_CLIENT: u8 = 1;
const GOODBYE: Duration = Duration::from_secs(2);
