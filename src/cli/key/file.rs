//! Files of sealing keys.
//!
//! ```text
//! cos-escrow-sealing-key 1
//! kem x-wing
//! key-id <SHA-256 of the public key, unpadded base64url>
//! private <private key in the KEM's serialised form, unpadded base64url>
//! ```
//! Lines end in LF. A file is for its owner alone (0600) and is never overwritten. The public half, which is nobody's
//! secret, is a file of its own:
//!
//! ```text
//! cos-escrow-sealing-key-public 1
//! kem x-wing
//! key-id <SHA-256 of the public key, unpadded base64url>
//! public <public key in the KEM's serialised form, unpadded base64url>
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure};
use crate::cli::files::{self, NewFile};
use crate::envelope::{Kem, SealingKeyPair, SealingPublicKey};
use crate::types::{KeyId, Secret};

/// Where a key of this name lies in a folder of keys.
pub(in crate::cli) fn path_in(folder: &Path, key: &KeyId) -> PathBuf {
    folder.join(format!("{key}.key"))
}

/// Writes a new file.
pub(in crate::cli) fn write(path: &Path, pair: &SealingKeyPair) -> Result<(), Failure> {
    let private = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(pair.to_secret().expose()));
    let (kem, id) = (pair.public().kem(), pair.id());
    let text = Zeroizing::new(format!(
        "{FIRST_LINE}\nkem {kem}\nkey-id {id}\nprivate {}\n",
        *private
    ));
    NewFile::create(path)?.write(text.as_bytes())
}

/// Reads a file back.
pub(in crate::cli) fn read(path: &Path) -> Result<SealingKeyPair, Failure> {
    let text = files::read(path)?;
    parse(&text).ok_or_else(|| {
        let wrong = format!("`{}` holds no sealing key", path.display());
        Failure::new(Exit::Unverified, wrong).hint("`cos-escrow key create` makes one")
    })
}

/// The public half of a key as the text of a file.
pub(in crate::cli) fn public_text(key: &SealingPublicKey) -> String {
    let public = BASE64_URL_SAFE_NO_PAD.encode(key.as_bytes());
    let (kem, id) = (key.kem(), key.id());
    format!("{FIRST_PUBLIC_LINE}\nkem {kem}\nkey-id {id}\npublic {public}\n")
}

/// Reads the public half of a key, from a file of its own or of the whole key.
pub(in crate::cli) fn read_public(path: &Path) -> Result<SealingPublicKey, Failure> {
    let text = files::read(path)?;
    let whole = || parse(&text).map(|pair| pair.public().clone());
    parse_public(&text).or_else(whole).ok_or_else(|| {
        let wrong = format!("`{}` holds neither half of a sealing key", path.display());
        Failure::new(Exit::Unverified, wrong).hint("`cos-escrow key public FILE` prints one")
    })
}

fn parse_public(text: &[u8]) -> Option<SealingPublicKey> {
    let mut lines = str::from_utf8(text).ok()?.lines();
    if lines.next()? != FIRST_PUBLIC_LINE {
        return None;
    }
    let kem: Kem = lines.next()?.strip_prefix("kem ")?.parse().ok()?;
    let id: KeyId = lines.next()?.strip_prefix("key-id ")?.parse().ok()?;
    let public = lines.next()?.strip_prefix("public ")?;
    let public = BASE64_URL_SAFE_NO_PAD.decode(public).ok()?;
    let key = SealingPublicKey::from_bytes(kem, &public).ok()?;
    (lines.next().is_none() && key.id() == id).then_some(key)
}

/// The first of these keys that a folder has.
pub(in crate::cli) fn find(
    folder: &Path,
    keys: impl Iterator<Item = KeyId>,
) -> Result<Option<SealingKeyPair>, Failure> {
    let mut paths = keys.map(|key| path_in(folder, &key));
    let found = paths.find(|path| fs::exists(path).unwrap_or(false));
    found.as_deref().map(read).transpose()
}

fn parse(text: &[u8]) -> Option<SealingKeyPair> {
    let mut lines = str::from_utf8(text).ok()?.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let kem: Kem = lines.next()?.strip_prefix("kem ")?.parse().ok()?;
    let id: KeyId = lines.next()?.strip_prefix("key-id ")?.parse().ok()?;
    let private = lines.next()?.strip_prefix("private ")?;
    let private = BASE64_URL_SAFE_NO_PAD.decode(private).ok()?;
    let pair = SealingKeyPair::from_secret(kem, &Secret::new(private)).ok()?;
    (lines.next().is_none() && pair.id() == id).then_some(pair)
}

const FIRST_LINE: &str = "cos-escrow-sealing-key 1";
const FIRST_PUBLIC_LINE: &str = "cos-escrow-sealing-key-public 1";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::types::SystemRandom;

    #[test]
    fn a_key_of_every_kem_is_the_same_after_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        for kem in Kem::ALL {
            let pair = SealingKeyPair::generate(kem, &SystemRandom);
            let path = path_in(folder.path(), &pair.id());
            write(&path, &pair).unwrap();
            assert_eq!(read(&path).unwrap().public(), pair.public());
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(write(&path, &pair).unwrap_err().exit, Exit::Refused);
            let found = find(folder.path(), [pair.id()].into_iter()).unwrap();
            assert_eq!(found.unwrap().id(), pair.id());
        }
    }

    #[test]
    fn the_public_half_comes_from_either_file() {
        let folder = tempfile::tempdir().unwrap();
        let pair = SealingKeyPair::generate(Kem::P256, &SystemRandom);
        let (whole, half) = (folder.path().join("whole"), folder.path().join("half"));
        write(&whole, &pair).unwrap();
        let text = public_text(pair.public());
        fs::write(&half, &text).unwrap();
        for path in [&whole, &half] {
            assert_eq!(&read_public(path).unwrap(), pair.public());
        }
        fs::write(&half, text.replace("p256", "x25519")).unwrap();
        assert_eq!(read_public(&half).unwrap_err().exit, Exit::Unverified);
        assert!(read(&half).is_err());
    }

    #[test]
    fn a_file_that_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, &SealingKeyPair::generate(Kem::X25519, &SystemRandom)).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        assert!(parse(good.as_bytes()).is_some());
        for bad in [
            good.replace("x25519", "p256"),
            good.replace("private ", "private A"),
            good.clone() + "more\n",
            good.lines().take(3).collect::<Vec<_>>().join("\n"),
            String::new(),
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
