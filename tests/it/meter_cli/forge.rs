//! Releases as a service could hand them out whose depositors mean harm, and ears on the lines that they name.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};

use cos_escrow::client::Depositor;
use cos_escrow::envelope::package::{Credential, Package, SecretText};
use cos_escrow::envelope::{
    Body, Draft, Header, Item, Recipient, Release, SealingPublicKey, Stanza,
};
use cos_escrow::identity::{Identity, SigningIdentity, Subject, pem};
use cos_escrow::types::{
    Clock as _, Component, EnvelopeId, PartyId, Secret, SystemClock, SystemRandom,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::world::World;

/// Makes items for the gaining supplier of a world, of whatever content.
pub(super) struct Forge<'a> {
    world: &'a World,
    key: SealingPublicKey,
    recipient: Recipient,
}

impl<'a> Forge<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let gainer = world.gainer();
        Self {
            world,
            key: gainer.sealing.public().clone(),
            recipient: Recipient::Party(gainer.party.clone()),
        }
    }

    /// A copy of what the world's meter was released with.
    pub(super) fn package(&self) -> Package {
        let loaded = self.world.load(&self.world.releases[0]);
        let json = loaded.opened.generations[0].package.to_json();
        Package::parse(json.expose()).unwrap()
    }

    /// The same, of a meter at this address.
    pub(super) fn package_at(&self, address: SocketAddr) -> Package {
        let mut package = self.package();
        package.comms.address = SecretText::from_text(&address.ip().to_string());
        package.comms.port = NonZeroU16::new(address.port());
        package
    }

    fn header(&self, depositor: &PartyId) -> Header {
        let package = self.package();
        Header {
            envelope_id: EnvelopeId::random(&SystemRandom),
            component: Component::Credentials,
            created_at: SystemClock.now(),
            supply_point: package.supply_point.clone(),
            meter_make: package.meter.make.clone(),
            meter_serial: package.meter.serial.clone(),
            depositor: depositor.clone(),
            supply_start: None,
            read_commitment: None,
            inventory: package.inventory(),
        }
    }

    /// Content that its depositor has signed.
    pub(super) fn signed(&self, number: u32, who: &Who, content: &Secret) -> Item {
        let depositor = Depositor {
            party: who.party.clone(),
            signer: &who.signer,
            random: &SystemRandom,
            now: SystemClock.now(),
        };
        let recipients = [(self.recipient.clone(), self.key.clone())];
        let draft = Draft::seal(
            content.expose(),
            self.header(&who.party),
            &recipients,
            &SystemRandom,
        );
        let envelope = draft.unwrap().sign(|message| depositor.sign(message));
        let (body, mut stanzas) = envelope.unwrap().into_parts();
        item(number, body, stanzas.remove(0))
    }

    /// Content that the service sealed for whoever held the depositor's TLS key.
    pub(super) fn unsigned(&self, number: u32, who: &Who, content: &Secret) -> Item {
        let header = self.header(&who.party);
        let (body, dek) = Body::seal(content.expose(), header, &SystemRandom).unwrap();
        let digest = body.header().digest();
        let stanza = Stanza::seal(&dek, &digest, &self.recipient, &self.key, &SystemRandom);
        item(number, body, stanza.unwrap())
    }

    /// Writes these items as a release under the grant of the real one.
    pub(super) fn write(&self, name: &str, items: Vec<Item>) {
        let real = std::fs::read(&self.world.releases[0]).unwrap();
        let issue = Release::decode(&real).unwrap().issue().clone();
        let release = Release::assemble(issue, items).unwrap();
        std::fs::write(self.world.path(name), release.encode()).unwrap();
    }
}

fn item(generation: u32, body: Body, stanza: Stanza) -> Item {
    Item {
        generation,
        status: "current".parse().unwrap(),
        deposited_at: body.header().created_at,
        body,
        stanza,
    }
}

/// Somebody with a signing leaf of the authority that everybody trusts.
pub(super) struct Who {
    pub(super) party: PartyId,
    pub(super) signer: SigningIdentity,
}

impl Who {
    pub(super) fn new(world: &World, party: &PartyId) -> Self {
        let subject = Subject::Signer(Identity::party(party.clone()));
        let name = format!("{party}.forge");
        let files = world
            .market
            .write_identity(&subject, &name, SystemClock.now());
        let (chain, key) = files.unwrap();
        let chain = pem::certificates(&std::fs::read(chain).unwrap()).unwrap();
        let key = pem::key(&std::fs::read(key).unwrap()).unwrap();
        Self {
            party: party.clone(),
            signer: SigningIdentity::new(chain, &key).unwrap(),
        }
    }

    /// The supplier that loses the meters of a world.
    pub(super) fn loser(world: &World) -> Self {
        Self::new(world, &world.loser().party)
    }

    /// One that had the meter long ago.
    pub(super) fn former(world: &World) -> Self {
        Self::new(world, &"former".parse().unwrap())
    }
}

/// Changes all passwords of a package.
pub(super) fn with_passwords(mut package: Package, texts: [&str; 3]) -> Package {
    for credential in &mut package.credentials {
        if let Credential::Password(password) = credential {
            for (level, text) in password.levels.iter_mut().zip(texts) {
                level.password = SecretText::from_text(text).unwrap();
            }
        }
    }
    package
}

/// The passwords of a package.
pub(super) fn passwords(package: &Package) -> Vec<String> {
    let credentials = package.credentials.iter();
    let levels = credentials.flat_map(|credential| match credential {
        Credential::Password(password) => &password.levels[..],
        Credential::Dlms(_) => &[],
    });
    levels
        .map(|level| level.password.expose().to_owned())
        .collect()
}

/// A line to a meter that somebody listens on.
pub(super) struct Ear {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<usize>>,
    _task: JoinSet<()>,
}

impl Ear {
    pub(super) async fn on(meter: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, connections) = (Arc::default(), Arc::default());
        let mut task = JoinSet::new();
        task.spawn(listen(
            listener,
            meter,
            Arc::clone(&heard),
            Arc::clone(&connections),
        ));
        Self {
            address,
            heard,
            connections,
            _task: task,
        }
    }

    pub(super) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// Whether anybody said this.
    pub(super) fn has_heard(&self, text: &str) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.windows(text.len()).any(|w| w == text.as_bytes())
    }
}

async fn listen(
    listener: TcpListener,
    meter: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<usize>>,
) {
    let mut pipes = JoinSet::new();
    while let Ok((taker, _)) = listener.accept().await {
        *connections.lock().unwrap() += 1;
        let (from_taker, to_taker) = taker.into_split();
        let (from_meter, to_meter) = TcpStream::connect(meter).await.unwrap().into_split();
        pipes.spawn(pipe(from_taker, to_meter, Arc::clone(&heard)));
        pipes.spawn(pipe(from_meter, to_taker, Arc::default()));
    }
}

async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, heard: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        heard.lock().unwrap().extend(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
