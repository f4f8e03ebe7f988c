//! The DLMS/COSEM driver: HLS with GMAC over the TCP wrapper. Only this folder knows the client of `dlms-cosem-rs`.

use std::time::Duration;

use dlms_cosem_rs::Obis as CrateObis;
use dlms_cosem_rs::acse::AuthMechanism;
use dlms_cosem_rs::axdr::Data;
use dlms_cosem_rs::client::{AssociationStep, ClientConfig, ClientSession, Response};
use dlms_cosem_rs::codec::{Decode as _, Result as CrateResult};
use dlms_cosem_rs::security::{
    Key, KeyRing, RandomSource, RustCryptoProvider, Secret as CrateSecret, SecurityPolicy,
    SecuritySuite, SystemTitle as CrateTitle,
};
use dlms_cosem_rs::xdlms::{AttributeDescriptor, MethodDescriptor};

use super::transport::Transport;
use super::{
    Change, CounterBlock, Counters, Credentials, DeviceId, Dial, Identity, Item, LinkError, Login,
    MeterLink, Setting, SettingName, Shown, Station,
};
use crate::dlms::SystemTitle;
use crate::dlms::axdr::Value;
use crate::dlms::keys::key_name;
use crate::dlms::obis::Member;
use crate::dlms::service::Selection;
use crate::meter::profile::{Dlms, Protocol};
use crate::meter::secrets::{KeySet, Role};
use crate::types::{Digest, Random, Secret, Timestamp};
pub(super) use words::words;

use association::{Association, Session, rejection};
use clients::Clients;

mod association;
mod clients;
mod registers;
mod values;
mod words;

/// Makes links to DLMS meters.
pub struct DlmsDial<'a, C> {
    /// Our own system title. All that send under one key must have titles of their own or share a journal.
    pub title: SystemTitle,
    /// Where counters come from.
    pub counters: &'a C,
    /// Where challenges come from.
    pub random: &'a dyn Random,
}

impl<'a, C: Counters> Dial for DlmsDial<'a, C> {
    type Link = DlmsLink<'a, C>;

    fn dial(&self, station: Station) -> Self::Link {
        let takes_lists = match &station.profile.protocol {
            Protocol::Dlms(profile) => profile.get_with_list,
            Protocol::ModeC(_) => false,
        };
        DlmsLink {
            title: self.title,
            counters: self.counters,
            random: self.random,
            takes_lists,
            clients: None,
            station,
            association: None,
        }
    }
}

/// A line to a DLMS meter.
pub struct DlmsLink<'a, C> {
    title: SystemTitle,
    counters: &'a C,
    random: &'a dyn Random,
    station: Station,
    takes_lists: bool,
    clients: Option<Clients>,
    association: Option<Association<'a>>,
}

impl<'a, C: Counters> MeterLink for DlmsLink<'a, C> {
    async fn enter(&mut self, login: Login<'_>) -> Result<(), LinkError> {
        if self.association.is_some() {
            self.leave().await;
            tokio::time::sleep(self.station.profile.line.pause()).await;
        }
        match login {
            Login::Anybody => self.associate_publicly().await,
            Login::Manager(credentials) => self.associate_as_manager(credentials).await,
            Login::Other(role @ Role::Client(client), secrets) => {
                let password = secrets.secret(role).ok_or(LinkError::NotOffered)?;
                self.associate_with_password(client, password).await
            }
            Login::Other(..) => Err(LinkError::NotOffered),
        }
    }

    async fn identity(&mut self, wanted: &[Item]) -> Result<Identity, LinkError> {
        let objects = self.profile()?.objects.clone();
        let has = |item: &Item| Some((*item, objects.item(*item)?));
        let (items, attributes): (Vec<_>, Vec<_>) = wanted.iter().filter_map(has).unzip();
        let values = self.get_all(&attributes).await?;
        let mut told = Identity::default();
        for (item, value) in items.into_iter().zip(values) {
            if let Some(value) = value {
                values::put_item(&mut told, item, &value);
            }
        }
        Ok(told)
    }

    async fn registers(&mut self, as_of: Option<Timestamp>) -> Result<Vec<Shown>, LinkError> {
        let buffer = self.profile()?.read.frozen;
        let frozen = match (buffer, as_of) {
            (Some(buffer), Some(as_of)) => self.frozen(buffer, as_of).await?,
            _ => Vec::new(),
        };
        match frozen.is_empty() {
            true => self.current().await,
            false => Ok(frozen),
        }
    }

    async fn setting(&mut self, name: SettingName) -> Result<Setting, LinkError> {
        let attribute = self.profile()?.objects.setting(name);
        let value = self.get(attribute.ok_or(LinkError::NotOffered)?).await?;
        values::setting(name, &value).map_err(|_| LinkError::Garbled)
    }

    async fn set(&mut self, setting: &Setting) -> Result<(), LinkError> {
        let attribute = self.profile()?.objects.setting(setting.name());
        let attribute = attribute.ok_or(LinkError::NotOffered)?;
        let encoded = values::of_setting(setting).encode();
        self.put(attribute, &encoded).await
    }

    async fn other_secrets(&mut self) -> Result<Vec<Role>, LinkError> {
        self.find_clients().await?;
        self.doors()
    }

    async fn change(&mut self, change: Change<'_>) -> Result<(), LinkError> {
        match *change.roles {
            [Role::Client(client)] => self.change_client(client, change).await,
            _ => self.transfer_keys(change).await,
        }
    }

    async fn leave(&mut self) {
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
    fn profile(&self) -> Result<&Dlms, LinkError> {
        match &self.station.profile.protocol {
            Protocol::Dlms(profile) => Ok(profile),
            Protocol::ModeC(_) => Err(LinkError::NotOffered),
        }
    }

    async fn get(&mut self, attribute: Member) -> Result<Value, LinkError> {
        self.get_selected(Selection {
            attribute,
            selector: None,
        })
        .await
    }

    async fn put(&mut self, attribute: Member, encoded: &[u8]) -> Result<(), LinkError> {
        let descriptor = attribute_descriptor(attribute)?;
        let mut association = self.take().await?;
        let request = |session: &mut Session<'_>, out: &mut [u8]| {
            session.set_request(descriptor, None, Data::from_bytes(encoded)?, out)
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

    async fn call(&mut self, method: Member, encoded: &[u8]) -> Result<(), LinkError> {
        let descriptor = method_descriptor(method)?;
        let mut association = self.take().await?;
        let request = |session: &mut Session<'_>, out: &mut [u8]| {
            session.action_request(descriptor, Some(Data::from_bytes(encoded)?), out)
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

    async fn get_selected(&mut self, selection: Selection) -> Result<Value, LinkError> {
        let mut association = self.take().await?;
        let value = association.read(&selection, self).await;
        self.keep(association, value)
    }

    /// The values of several attributes, `None` where the meter shows none: in few round trips, where it takes lists.
    async fn get_all(&mut self, attributes: &[Member]) -> Result<Vec<Option<Value>>, LinkError> {
        let mut values = Vec::with_capacity(attributes.len());
        for some in attributes.chunks(LIST) {
            let listed = match some.len() > 1 && self.takes_lists {
                true => self.get_list(some).await?,
                false => None,
            };
            if let Some(listed) = listed {
                values.extend(listed.into_iter().map(Result::ok));
                continue;
            }
            for attribute in some {
                values.push(match self.get(*attribute).await {
                    Ok(value) => Some(value),
                    Err(LinkError::Denied(_)) => None,
                    Err(error) => return Err(error),
                });
            }
        }
        Ok(values)
    }

    /// The results of one request for several attributes. `None` if the meter takes no lists; it is not asked again.
    async fn get_list(
        &mut self,
        attributes: &[Member],
    ) -> Result<Option<Vec<Result<Value, u8>>>, LinkError> {
        let mut association = self.take().await?;
        match association.read_list(attributes, self).await {
            Err(
                LinkError::Denied(_) | LinkError::NotOffered | LinkError::AssociationRefused(_),
            ) => {
                self.takes_lists = false;
                self.association = Some(association);
                Ok(None)
            }
            read => self.keep(association, read).map(Some),
        }
    }

    async fn associate_publicly(&mut self) -> Result<(), LinkError> {
        let config = ClientConfig {
            client_sap: self.profile()?.public_client,
            ..ClientConfig::default()
        };
        self.associate_plainly(config).await
    }

    /// The password goes in clear: nobody should do this over a path that is not its own.
    async fn associate_with_password(
        &mut self,
        client: u16,
        password: &Secret,
    ) -> Result<(), LinkError> {
        let password = CrateSecret::new(password.expose());
        let config = ClientConfig {
            client_sap: client.try_into().map_err(|_| LinkError::NotOffered)?,
            mechanism: AuthMechanism::Low,
            password: Some(password.map_err(|_| LinkError::NotOffered)?),
            ..ClientConfig::default()
        };
        self.associate_plainly(config).await
    }

    async fn associate_plainly(&mut self, config: ClientConfig) -> Result<(), LinkError> {
        let client = config.client_sap;
        let session = self.session(config, KeyRing::default());
        let mut association = self.connect(client, session, None).await?;
        let request = association.request(|session, out| session.associate_request(out))?;
        let answer = association.transport.exchange(&request).await?;
        match association.session.handle_associate_response(&answer) {
            Ok(AssociationStep::Established) => {
                self.association = Some(association);
                Ok(())
            }
            Ok(AssociationStep::Rejected { result, diagnostic }) => {
                Err(rejection(result, diagnostic))
            }
            Ok(_) => Err(LinkError::AssociationRefused(0)),
            Err(_) => Err(LinkError::Garbled),
        }
    }

    async fn associate_as_manager(&mut self, login: Credentials<'_>) -> Result<(), LinkError> {
        let DeviceId::SystemTitle(meter) = self.station.device else {
            return Err(LinkError::NotOffered);
        };
        let (Some(keys), Some(gak)) = (login.secrets.keys(), login.gak.keys()) else {
            return Err(LinkError::NotOffered);
        };
        let key = key_name(keys.guek());
        let (title, above) = (self.title, login.counter_above);
        // ORDER: the counters are ours, durably, before the first of them is used.
        let block = self.counters.reserve(key, title, above).await?;
        let suite = SecuritySuite::from_id(keys.suite().id()).map_err(|_| LinkError::Garbled)?;
        let client = self.profile()?.management_client;
        let config = ClientConfig {
            client_sap: client,
            system_title: Some(CrateTitle::new(title.0)),
            mechanism: AuthMechanism::HighGmac,
            security: SecurityPolicy::authenticated_encrypted(suite),
            invocation_counter: block.first.saturating_sub(1),
            ..ClientConfig::default()
        };
        let session = self.session(config, key_ring(keys, gak)?);
        let counting = Some((key, block));
        let mut association = self.connect(client, session, counting).await?;
        association.open(meter, self).await?;
        if block.is_far {
            let counter = association.session.invocation_counter();
            self.counters.prove(key, title, counter).await?;
        }
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
        let ends = (client.into(), self.profile()?.server);
        let transport =
            Transport::connect(self.station.address, ends, &self.station.profile.line).await?;
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

fn key_ring(keys: &KeySet, gak: &KeySet) -> Result<KeyRing, LinkError> {
    let key = |key: &Secret| Key::from_slice(key.expose()).map_err(|_| LinkError::Garbled);
    Ok(KeyRing {
        guek: Some(key(keys.guek())?),
        gak: Some(key(gak.gak())?),
        ..KeyRing::default()
    })
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

/// Attributes a request: what fits into the messages of the smallest meters.
const LIST: usize = 16;
const GOODBYE: Duration = Duration::from_secs(2);
