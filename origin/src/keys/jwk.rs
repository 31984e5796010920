//! Public keys as JSON Web Keys (RFC 7517, RFC 8037), named by their thumbprint (RFC 7638).

use aws_lc_rs::digest;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Serialize;

/// A public key that verifies access tokens. Has no private member by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwk {
    #[serde(flatten)]
    material: Material,
    /// RFC 7638 thumbprint.
    pub kid: String,
    #[serde(rename = "use")]
    usage: &'static str,
    /// The one algorithm that the key may be used with.
    pub alg: &'static str,
}

/// A set of keys (RFC 7517 §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JwkSet {
    /// The keys, the one that signs first.
    pub keys: Vec<Jwk>,
}

// The order of the members is that of RFC 7638: `kty` stands between `crv` and `x`, and all are required ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Material {
    Okp { crv: &'static str, kty: &'static str, x: String },
    Ec { crv: &'static str, kty: &'static str, x: String, y: String },
}

impl Jwk {
    /// An Ed25519 key from its 32 bytes (RFC 8037 §2).
    pub fn ed25519(public: &[u8]) -> Self {
        let x = Base64UrlUnpadded::encode_string(public);
        Self::new(Material::Okp { crv: "Ed25519", kty: "OKP", x }, "Ed25519")
    }

    /// A P-256 key from its uncompressed point, `4 ‖ x ‖ y` (RFC 7518 §6.2); none if it is no such point.
    pub fn p256(point: &[u8]) -> Option<Self> {
        let (&[4], coordinates) = point.split_first_chunk::<1>()? else {
            return None;
        };
        let (x, y) = coordinates.split_at_checked(32).filter(|(_, y)| y.len() == 32)?;
        let (x, y) = (Base64UrlUnpadded::encode_string(x), Base64UrlUnpadded::encode_string(y));
        Some(Self::new(Material::Ec { crv: "P-256", kty: "EC", x, y }, "ES256"))
    }

    fn new(material: Material, alg: &'static str) -> Self {
        let kid = thumbprint(&material);
        Self { material, kid, usage: "sig", alg }
    }
}

fn thumbprint(material: &Material) -> String {
    // Serializing a struct of strings cannot fail.
    let canonical = serde_json::to_vec(material).unwrap_or_default();
    Base64UrlUnpadded::encode_string(digest::digest(&digest::SHA256, &canonical).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.2 and A.3.
    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let mut public = [0; 32];
        Base64UrlUnpadded::decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", &mut public).unwrap();
        assert_eq!(Jwk::ed25519(&public).kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn only_a_point_becomes_a_key() {
        assert!(Jwk::p256(&[4; 65]).is_some());
        for wrong in [&[4; 64][..], &[4; 66], &[2; 33], &[3; 65], &[]] {
            assert_eq!(Jwk::p256(wrong), None);
        }
    }

    #[test]
    fn a_key_shows_public_members_only() {
        let json = serde_json::to_value(Jwk::p256(&[4; 65]).unwrap()).unwrap();
        let members: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    }
}
