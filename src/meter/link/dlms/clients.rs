//! Other clients of a DLMS meter: who they are, what lets them in, and how that is changed.

use zeroize::Zeroizing;

use super::DlmsLink;
use crate::dlms::axdr::Value;
use crate::dlms::keys::{KeyRole, WrappedKey, key_transfer, wrap, wrap_secret};
use crate::dlms::obis::{Member, Obis};
use crate::dlms::objects::listed_objects;
use crate::meter::link::{Change, Counters, LinkError};
use crate::meter::profile::{OtherClient, SecretChange};
use crate::meter::secrets::Role;

/// What was found in a meter besides the manager's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    known: Vec<OtherClient>,
    /// Associations and security set-ups of nobody that is known.
    doors: Vec<Obis>,
}

impl<C: Counters> DlmsLink<'_, C> {
    /// Looks through the object list for associations and security set-ups, once a line.
    pub(super) async fn find_clients(&mut self) -> Result<(), LinkError> {
        if self.clients.is_some() {
            return Ok(());
        }
        let mut clients = Clients::default();
        let listed = match self.get(Member::OBJECT_LIST).await {
            Ok(list) => listed_objects(&list).ok(),
            Err(LinkError::Denied(_)) => None,
            Err(error) => return Err(error),
        };
        // What cannot be looked through may have any door behind it.
        let objects = listed.unwrap_or_else(|| {
            clients.doors.push(Obis::CURRENT_ASSOCIATION);
            Vec::new()
        });
        let of = |class| {
            let such = objects.iter().filter(move |(found, _)| *found == class);
            such.map(|(_, object)| *object)
        };
        for association in of(15).filter(|object| *object != Obis::CURRENT_ASSOCIATION) {
            match self.client_of(association).await? {
                Some(client) if self.is_ours(client.client)? => {}
                Some(client) => clients.known.push(client),
                None => clients.doors.push(association),
            }
        }
        let own = self.profile()?.objects.security();
        let is_known = |object| {
            clients
                .known
                .iter()
                .any(|known| known.security == Some(object))
        };
        let strange: Vec<_> = of(64)
            .filter(|object| *object != own && !is_known(*object))
            .collect();
        clients.doors.extend(strange);
        self.clients = Some(clients);
        Ok(())
    }

    /// Whose an association is, by what the meter tells, or else by the profile.
    async fn client_of(&mut self, association: Obis) -> Result<Option<OtherClient>, LinkError> {
        let attributes = [PARTNERS, MECHANISM, SECURITY];
        let attributes = attributes.map(|number| Member::new(15, association, number));
        let told = self.get_all(&attributes).await?;
        let value = |at: usize| told.get(at).and_then(Option::as_ref);
        let mut named = self.profile()?.clients.iter();
        let named = named.find(|client| client.association == association);
        let client = value(0)
            .and_then(partner)
            .or(named.map(|named| named.client));
        let mechanism = value(1)
            .and_then(last_arc)
            .or(named.map(|named| named.mechanism));
        let security = value(2).and_then(|value| value.as_bytes().ok()?.try_into().ok());
        let security = security
            .map(Obis)
            .or(named.and_then(|named| named.security));
        Ok(client
            .zip(mechanism)
            .map(|(client, mechanism)| OtherClient {
                client,
                association,
                mechanism,
                security,
            }))
    }

    fn is_ours(&self, client: u16) -> Result<bool, LinkError> {
        let profile = self.profile()?;
        let ours = [profile.public_client, profile.management_client];
        Ok(ours.map(u16::from).contains(&client))
    }

    /// What lets the others in.
    pub(super) fn doors(&self) -> Result<Vec<Role>, LinkError> {
        let Some(clients) = &self.clients else {
            return Ok(Vec::new());
        };
        let own = self.profile()?.objects.security();
        let mut roles = Vec::new();
        for client in &clients.known {
            match client.mechanism {
                NOTHING | GMAC => {}
                ECDSA => roles.push(Role::Door(client.association)),
                _ => roles.push(Role::Client(client.client)),
            }
            match client.security {
                Some(security) if security != own => roles.extend(
                    [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek]
                        .map(|key| Role::ClientKey(client.client, key)),
                ),
                None if client.mechanism == GMAC => roles.push(Role::Door(client.association)),
                _ => {}
            }
        }
        roles.extend(clients.doors.iter().map(|object| Role::Door(*object)));
        Ok(roles)
    }

    /// Changes the password or secret of another client, in the form that the profile says.
    pub(super) async fn change_client(
        &mut self,
        client: u16,
        change: Change<'_>,
    ) -> Result<(), LinkError> {
        let association = self.client(client).await?.association;
        let secret = change.to.secret(Role::Client(client));
        let secret = secret.ok_or(LinkError::NotOffered)?;
        let attribute = Member::new(15, association, SECRET);
        let method = Member::new(15, association, CHANGE_SECRET);
        match self.profile()?.secret_change {
            SecretChange::Attribute => self.put(attribute, &octets(secret.expose())).await,
            SecretChange::Plain => self.call(method, &octets(secret.expose())).await,
            SecretChange::Wrapped => {
                let under = change.under.keys().ok_or(LinkError::NotOffered)?;
                let wrapped = wrap_secret(under.kek(), secret);
                let wrapped = wrapped.map_err(|_| LinkError::NotOffered)?;
                self.call(method, &octets(&wrapped)).await
            }
        }
    }

    /// Hands over keys of one security set-up, each under the key encryption key that the set-up has.
    pub(super) async fn transfer_keys(&mut self, change: Change<'_>) -> Result<(), LinkError> {
        let set_up = match change.roles.first() {
            Some(Role::Key(_)) => self.profile()?.objects.security(),
            Some(Role::ClientKey(client, _)) => {
                let security = self.client(*client).await?.security;
                security.ok_or(LinkError::NotOffered)?
            }
            _ => return Err(LinkError::NotOffered),
        };
        let keys = change.roles.iter().map(|role| wrapped(*role, change));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        let method = Member::new(64, set_up, TRANSFER);
        self.call(method, &key_transfer(&keys).encode()).await
    }

    async fn client(&mut self, client: u16) -> Result<OtherClient, LinkError> {
        self.find_clients().await?;
        let mut known = self.clients.iter().flat_map(|clients| &clients.known);
        let known = known.find(|known| known.client == client);
        known.copied().ok_or(LinkError::NotOffered)
    }
}

/// An octet-string in its tagged form, of which no copy stays behind.
fn octets(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u8::try_from(secret.len()).expect("a secret has 64 bytes at most");
    let mut encoded = Zeroizing::new(Vec::with_capacity(secret.len() + 2));
    encoded.extend_from_slice(&[OCTET_STRING, length]);
    encoded.extend_from_slice(secret);
    encoded
}

fn wrapped(role: Role, change: Change<'_>) -> Result<WrappedKey, LinkError> {
    let (key, kek) = match role {
        Role::Key(key) => (key, Role::Key(KeyRole::Kek)),
        Role::ClientKey(client, key) => (key, Role::ClientKey(client, KeyRole::Kek)),
        _ => return Err(LinkError::NotOffered),
    };
    let (new, kek) = (change.to.secret(role), change.under.secret(kek));
    let (new, kek) = new.zip(kek).ok_or(LinkError::NotOffered)?;
    wrap(kek, key, new).map_err(|_| LinkError::NotOffered)
}

/// The client's SAP: the first of the two in the structure.
fn partner(value: &Value) -> Option<u16> {
    let [client, ..] = value.as_items().ok()? else {
        return None;
    };
    client.as_integer().ok()?.try_into().ok()
}

/// The last arc of an object identifier, which is coded as such or as a structure.
fn last_arc(value: &Value) -> Option<u8> {
    match value.as_bytes() {
        Ok(bytes) => bytes.last().copied(),
        Err(_) => value
            .as_items()
            .ok()?
            .last()?
            .as_integer()
            .ok()?
            .try_into()
            .ok(),
    }
}

const OCTET_STRING: u8 = 9;
const PARTNERS: u8 = 3;
const MECHANISM: u8 = 6;
const SECRET: u8 = 7;
const SECURITY: u8 = 9;
const CHANGE_SECRET: u8 = 2;
const TRANSFER: u8 = 2;
const NOTHING: u8 = 0;
const GMAC: u8 = 5;
const ECDSA: u8 = 7;
