//! Trust that changes while connections live.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::config::{TlsError, server_config};
use super::key_exchange::PostQuantum;
use super::material::Material;
use crate::identity::{Anchors, CertificateDer, Identity, IdentityError, Leaf};
use crate::types::{Clock, Digest, Timestamp};

/// The service's TLS: what new connections are made with, and what living ones are checked against.
pub struct LiveTls {
    state: ArcSwap<State>,
    epoch: watch::Sender<u64>,
    post_quantum: PostQuantum,
    clock: Arc<dyn Clock>,
}

/// Configuration and trust of one epoch; a handshake never mixes two.
struct State {
    config: Arc<ServerConfig>,
    trust: Arc<Trust>,
}

/// Whom the service trusts, from one reload to the next.
#[derive(Debug)]
pub struct Trust {
    anchors: Arc<Anchors>,
    epoch: u64,
    settled_until: Timestamp,
}

impl Trust {
    /// Verifies a client's chain, leaf first.
    pub fn verify_client(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Leaf, IdentityError> {
        self.anchors.verify_client(chain, now)
    }

    /// Roots and revocation lists, for signatures.
    pub fn anchors(&self) -> &Arc<Anchors> {
        &self.anchors
    }

    /// Counts the reloads.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// When the first root ends or the first revocation list becomes stale: what to alert on.
    pub fn settled_until(&self) -> Timestamp {
        self.settled_until
    }
}

/// The other end of one connection. Lives as long as the connection, in the extensions of each of its requests.
#[derive(Debug)]
pub struct Peer {
    /// Whom it speaks for.
    pub identity: Identity,
    /// The SHA-256 of its leaf's DER form.
    pub fingerprint: Digest,
    /// The last instant at which its whole chain is valid.
    pub not_after: Timestamp,
    /// Its chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    verified_epoch: AtomicU64,
}

impl LiveTls {
    /// Sets up TLS in its first epoch.
    pub fn new(
        material: &Material,
        post_quantum: PostQuantum,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let state = State::new(material, 1, post_quantum, Arc::clone(&clock))?;
        Ok(Self {
            state: ArcSwap::from_pointee(state),
            epoch: watch::Sender::new(1),
            post_quantum,
            clock,
        })
    }

    /// Takes new material into use: for new connections at once, and every living one is verified again. Returns the
    /// new epoch. If the material is not acceptable, all stays as it was.
    pub fn reload(&self, material: &Material) -> Result<u64, TlsError> {
        let mut outcome = Ok(0);
        // The sender's lock keeps two reloads from overtaking each other.
        self.epoch.send_if_modified(|epoch| {
            outcome = self.replace(material, *epoch + 1);
            if let Ok(next) = outcome {
                *epoch = next;
            }
            outcome.is_ok()
        });
        outcome
    }

    fn replace(&self, material: &Material, epoch: u64) -> Result<u64, TlsError> {
        let clock = Arc::clone(&self.clock);
        let state = State::new(material, epoch, self.post_quantum, clock)?;
        if state.trust.anchors.rewinds(&self.trust().anchors) {
            return Err(TlsError::Rewound);
        }
        self.state.store(Arc::new(state));
        Ok(epoch)
    }

    /// The configuration and the trust for one new connection.
    pub fn current(&self) -> (Arc<ServerConfig>, Arc<Trust>) {
        let state = self.state.load();
        (Arc::clone(&state.config), Arc::clone(&state.trust))
    }

    /// The trust in force.
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.state.load().trust)
    }

    /// Wakes whoever must look again after a reload.
    pub fn epochs(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// The clock that handshakes ask.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether the peer may still speak: to be asked for every request. Cheap as long as nothing has changed; otherwise
    /// the chain is verified as in a handshake.
    pub fn still_valid(&self, peer: &Peer, now: Timestamp) -> Result<(), IdentityError> {
        let trust = self.trust();
        let unchanged = peer.verified_epoch.load(Ordering::Acquire) == trust.epoch;
        if unchanged && now < peer.not_after && now < trust.settled_until {
            return Ok(());
        }
        trust.verify_client(&peer.chain, now)?;
        peer.verified_epoch.store(trust.epoch, Ordering::Release);
        Ok(())
    }
}

impl State {
    fn new(
        material: &Material,
        epoch: u64,
        post_quantum: PostQuantum,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let anchors = Anchors::new(&material.roots, &material.lists, clock.now())
            .map(Arc::new)
            .map_err(TlsError::Trust)?;
        let config = server_config(material, Arc::clone(&anchors), post_quantum, clock)?;
        Ok(Self {
            config: Arc::new(config),
            trust: Arc::new(Trust {
                settled_until: anchors.settled_until(),
                anchors,
                epoch,
            }),
        })
    }
}

impl Peer {
    /// The peer with this chain, verified.
    pub fn verify(
        chain: Vec<CertificateDer<'static>>,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let leaf = trust.verify_client(&chain, now)?;
        Ok(Self {
            identity: leaf.identity,
            fingerprint: leaf.fingerprint,
            not_after: leaf.not_after,
            chain,
            verified_epoch: AtomicU64::new(trust.epoch),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{Authority, Subject};
    use crate::types::ManualClock;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn material(authority: &Authority, now: Timestamp) -> Material {
        let localhost = Subject::Server(vec!["localhost".to_owned()]);
        let issued = authority.issue(&localhost, 90, NOW).unwrap();
        Material {
            chain: issued.chain,
            key: issued.key.unwrap(),
            roots: vec![authority.root().clone()],
            lists: authority.lists(now, now.after(7 * DAY)).unwrap().into(),
        }
    }

    fn live(authority: &Authority) -> LiveTls {
        let clock = Arc::new(ManualClock::at(NOW));
        LiveTls::new(&material(authority, NOW), PostQuantum::Preferred, clock).unwrap()
    }

    fn peer(authority: &Authority, live: &LiveTls) -> (Peer, crate::identity::Serial) {
        let north = Subject::Client("urn:cos-escrow:party:north".parse().unwrap());
        let issued = authority.issue(&north, 5, NOW).unwrap();
        let peer = Peer::verify(issued.chain, &live.trust(), NOW).unwrap();
        (peer, issued.certificate.serial)
    }

    #[test]
    fn a_peer_is_valid_until_its_certificate_or_the_lists_end() {
        let authority = Authority::create("test", NOW).unwrap();
        let live = live(&authority);
        let (peer, _) = peer(&authority, &live);
        assert_eq!(live.still_valid(&peer, NOW.after(4 * DAY)), Ok(()));
        assert_eq!(
            live.still_valid(&peer, NOW.after(5 * DAY)),
            Err(IdentityError::Expired)
        );
        let long_lived = Subject::Client("urn:cos-escrow:party:south".parse().unwrap());
        let issued = authority.issue(&long_lived, 90, NOW).unwrap();
        let peer = Peer::verify(issued.chain, &live.trust(), NOW).unwrap();
        assert_eq!(
            live.still_valid(&peer, NOW.after(7 * DAY)),
            Err(IdentityError::RevocationUnknown)
        );
    }

    #[test]
    fn a_reload_revokes_a_peer_and_leaves_the_others() {
        let mut authority = Authority::create("test", NOW).unwrap();
        let live = live(&authority);
        let (bad, serial) = peer(&authority, &live);
        let (good, _) = peer(&authority, &live);
        authority.revoke(serial, NOW);
        let later = NOW.after(DAY);
        assert_eq!(live.still_valid(&bad, later), Ok(()));
        assert_eq!(live.reload(&material(&authority, later)).unwrap(), 2);
        assert_eq!(live.trust().epoch(), 2);
        assert_eq!(live.still_valid(&bad, later), Err(IdentityError::Revoked));
        assert_eq!(live.still_valid(&good, later), Ok(()));
        assert_eq!(good.verified_epoch.load(Ordering::Acquire), 2);
    }

    #[test]
    fn material_that_is_refused_changes_nothing() {
        let authority = Authority::create("test", NOW).unwrap();
        let live = live(&authority);
        let older = material(&authority, NOW.before(DAY));
        assert!(matches!(live.reload(&older), Err(TlsError::Rewound)));
        let mut foreign_key = material(&authority, NOW.after(DAY));
        foreign_key.key = material(&authority, NOW).key;
        assert!(matches!(
            live.reload(&foreign_key),
            Err(TlsError::Library(_))
        ));
        let mut no_server = material(&authority, NOW.after(DAY));
        no_server.chain.reverse();
        assert!(matches!(live.reload(&no_server), Err(TlsError::Own(_))));
        assert_eq!(live.trust().epoch(), 1);
    }
}
