//! What certificates must look like: the five profiles in `pki/*.toml`, compiled in.

use std::fmt;
use std::sync::LazyLock;

/// The sorts of certificate that there are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Signs issuing authorities; what others trust.
    Root,
    /// Signs leaves.
    Issuing,
    /// TLS of somebody with an identity.
    Client,
    /// TLS of the service.
    Server,
    /// Signs statements, envelopes and confirmations; refused for TLS.
    Signing,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Issuing => "issuing authority",
            Self::Client => "client leaf",
            Self::Server => "server leaf",
            Self::Signing => "signing leaf",
        })
    }
}

/// What a certificate of one sort must look like; read from `pki/*.toml` at build time.
#[derive(Debug)]
pub struct Profile {
    /// The sort.
    pub sort: Sort,
    /// Days of validity where none are asked for.
    pub default_days: u32,
    /// The most days of validity.
    pub max_days: u32,
    /// The key usages, exactly.
    pub(super) key_usage: Vec<KeyUsage>,
    /// The one extended key usage; an authority has none.
    pub(super) purpose: Option<Purpose>,
    /// How many authorities may stand below; a leaf has none.
    pub(super) path_length: Option<u8>,
}

impl Profile {
    /// Whether certificates of this sort sign others.
    pub fn is_authority(&self) -> bool {
        self.path_length.is_some()
    }

    /// The value of the extended key usage extension, where there is one.
    pub(super) fn purpose_extension(&self) -> Option<Vec<u8>> {
        self.purpose.as_ref().map(Purpose::extension_value)
    }

    /// The key usages as the bits of RFC 5280 section 4.2.1.3, bit 0 lowest.
    pub(super) fn key_usage_bits(&self) -> u16 {
        self.key_usage
            .iter()
            .fold(0, |bits, usage| bits | 1 << usage.bit())
    }
}

/// The key usages that our profiles have.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyUsage {
    DigitalSignature,
    KeyCertSign,
    CrlSign,
}

impl KeyUsage {
    fn bit(self) -> u16 {
        match self {
            Self::DigitalSignature => 0,
            Self::KeyCertSign => 5,
            Self::CrlSign => 6,
        }
    }
}

/// An object identifier as the content bytes of its DER form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Purpose(Vec<u8>);

impl Purpose {
    /// The content bytes, without tag and length.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value of an extended key usage extension that has this purpose and no other.
    ///
    /// ```text
    /// 30 len  06 len  <content>
    /// ```
    fn extension_value(&self) -> Vec<u8> {
        let length = u8::try_from(self.0.len()).expect("`parse` bounds the length");
        let mut value = vec![0x30, length + 2, 0x06, length];
        value.extend_from_slice(&self.0);
        value
    }

    /// Dotted decimal; components up to 128 bits, as the UUID arc 2.25 needs them.
    fn parse(dotted: &str) -> Option<Self> {
        let mut arcs = dotted.split('.').map(|arc| arc.parse::<u128>().ok());
        let (first, second) = (arcs.next()??, arcs.next()??);
        if first > 2 || (first < 2 && second > 39) {
            return None;
        }
        let mut content = base128(second.checked_add(40 * first)?);
        for arc in arcs {
            content.extend(base128(arc?));
        }
        (content.len() <= MAX_PURPOSE_BYTES).then_some(Self(content))
    }
}

/// Seven bits a byte, most significant first, the top bit set on all but the last.
fn base128(mut value: u128) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
        bytes.push(if bytes.is_empty() { low } else { low | 0x80 });
        value >>= 7;
        if value == 0 {
            break;
        }
    }
    bytes.reverse();
    bytes
}

/// The root.
pub static ROOT: LazyLock<Profile> =
    LazyLock::new(|| compiled_in(Sort::Root, include_str!("../../pki/root.toml")));
/// An issuing authority.
pub static ISSUING: LazyLock<Profile> =
    LazyLock::new(|| compiled_in(Sort::Issuing, include_str!("../../pki/issuing.toml")));
/// The TLS leaf of somebody with an identity.
pub static CLIENT: LazyLock<Profile> =
    LazyLock::new(|| compiled_in(Sort::Client, include_str!("../../pki/client.toml")));
/// The TLS leaf of the service.
pub static SERVER: LazyLock<Profile> =
    LazyLock::new(|| compiled_in(Sort::Server, include_str!("../../pki/server.toml")));
/// The leaf that signs statements, envelopes and confirmations.
pub static SIGNING: LazyLock<Profile> =
    LazyLock::new(|| compiled_in(Sort::Signing, include_str!("../../pki/signing.toml")));

/// File name and text of each profile, to be kept beside an authority that was made from them.
pub const SOURCES: [(&str, &str); 5] = [
    ("root.toml", include_str!("../../pki/root.toml")),
    ("issuing.toml", include_str!("../../pki/issuing.toml")),
    ("client.toml", include_str!("../../pki/client.toml")),
    ("server.toml", include_str!("../../pki/server.toml")),
    ("signing.toml", include_str!("../../pki/signing.toml")),
];

fn compiled_in(sort: Sort, text: &str) -> Profile {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Source {
        default_days: u32,
        max_days: u32,
        key_usage: Vec<KeyUsage>,
        purpose: Option<String>,
        path_length: Option<u8>,
    }
    let source: Source = toml::from_str(text).expect("a test reads every compiled-in profile");
    let purpose = source
        .purpose
        .map(|dotted| Purpose::parse(&dotted).expect("a test reads every compiled-in purpose"));
    Profile {
        sort,
        default_days: source.default_days,
        max_days: source.max_days,
        key_usage: source.key_usage,
        purpose,
        path_length: source.path_length,
    }
}

/// Keeps the extension value within DER's one-byte lengths.
const MAX_PURPOSE_BYTES: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_an_authority_or_has_a_purpose() {
        for profile in [&ROOT, &ISSUING, &CLIENT, &SERVER, &SIGNING] {
            assert_ne!(profile.is_authority(), profile.purpose.is_some());
            assert!(profile.default_days <= profile.max_days);
            assert_ne!(profile.key_usage_bits(), 0);
        }
    }

    #[test]
    fn tls_leaves_live_at_most_ninety_days() {
        assert!(CLIENT.max_days <= 90 && SERVER.max_days <= 90);
    }

    #[test]
    fn a_purpose_has_its_der_form() {
        let client = Purpose::parse("1.3.6.1.5.5.7.3.2").unwrap();
        assert_eq!(
            client.extension_value(),
            [0x30, 0x0a, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2]
        );
        let wide = Purpose::parse("2.999.340282366920938463463374607431768211455").unwrap();
        assert_eq!(wide.as_bytes()[..3], [0x88, 0x37, 0x83]);
        assert_eq!(wide.as_bytes().len(), 2 + 19);
    }

    #[test]
    fn text_that_is_no_purpose_is_refused() {
        for text in ["", "1", "3.1", "1.40", "1.2.", "1.2.x", "1.2.-3"] {
            assert_eq!(Purpose::parse(text), None, "{text:?}");
        }
    }
}
