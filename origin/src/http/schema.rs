//! How the identifiers of `shared` look in the OpenAPI document. A field names one with
//! `#[schema(value_type = schema::SubjectName)]`; nothing here exists at run time.

use std::borrow::Cow;

use shared::session::{DEVICE_NAME_BYTES_MAX, FIELDS_BYTES_MAX, FIELDS_MAX};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, Type},
    },
};

use crate::service::open::{AUTHENTICATION_BYTES_MAX, SCOPE_BYTES_MAX};

/// The fields of a session, at most 256 bytes in all.
pub(crate) struct FieldsMap;

impl PartialSchema for FieldsMap {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some(format!("Names and values, which have at most {FIELDS_BYTES_MAX} bytes in all.")))
            .property_names(Some(text().pattern(Some("^[a-z0-9_]{1,32}$")).build()))
            .additional_properties(Some(text().max_length(Some(FIELDS_BYTES_MAX))))
            .max_properties(Some(FIELDS_MAX))
            .examples([serde_json::json!({ "theme": "dark" })])
            .into()
    }
}

impl ToSchema for FieldsMap {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("FieldsMap")
    }
}

macro_rules! text {
    ($(#[doc = $about:literal])+ $name:ident, $bytes:expr, $pattern:literal, $example:literal) => {
        $(#[doc = $about])+
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some(concat!($($about),+).trim_start()))
                    .min_length(Some(*$bytes.start()))
                    .max_length(Some(*$bytes.end()))
                    .pattern(Some($pattern))
                    .examples([$example])
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    };
}

text! {
    /// Names a session: 22 characters of unpadded base64url, for 128 random bits.
    SessionIdText, (22..=22), "^[A-Za-z0-9_-]{21}[AQgw]$", "wPvVJq3cQ3m0s1r0pX1TNA"
}
text! {
    /// Names an API key: 22 characters of unpadded base64url.
    ApiKeyIdText, (22..=22), "^[A-Za-z0-9_-]{21}[AQgw]$", "kPvVJq3cQ3m0s1r0pX1TNA"
}
text! {
    /// Who a session speaks for: visible ASCII.
    SubjectName, (1..=128), "^[!-~]+$", "alice"
}
text! {
    /// The organisation that a subject belongs to: visible ASCII.
    TenantName, (1..=128), "^[!-~]+$", "acme"
}
text! {
    /// The OAuth client: visible ASCII.
    ClientName, (1..=128), "^[!-~]+$", "web"
}
text! {
    /// The name of a signing key: its thumbprint (RFC 7638).
    KeyName, (43..=43), "^[A-Za-z0-9_-]{43}$", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
}
text! {
    /// A place in a list, as `next_cursor` of the page before says it.
    PageCursor, (32..=32), "^[A-Za-z0-9_-]{32}$", "AAABmqCz4AB61vvSpwBpn-9PTjD8PLSM"
}
text! {
    /// The entity tag of the fields of a session: their revision.
    FieldsTag, (3..=12), r##"^"[0-9]{1,10}"$"##, r##""1""##
}
text! {
    /// A name that the user of a device knows: no control characters, and none that reorder or hide text; at most 64 bytes.
    DeviceName, (1..=DEVICE_NAME_BYTES_MAX), r"^[^\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+$", "Zoë’s phone"
}
text! {
    /// A role.
    RoleName, (1..=32), "^[A-Za-z0-9._:-]+$", "member"
}
text! {
    /// Scope tokens with one space between them (RFC 6749 section 3.3).
    ScopeText, (1..=SCOPE_BYTES_MAX), r##"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$"##, "read write"
}
text! {
    /// An authentication context class or method: visible ASCII without quote and backslash.
    AuthenticationText, (1..=AUTHENTICATION_BYTES_MAX), r##"^[!#-\[\]-~]+$"##, "urn:example:mfa"
}
text! {
    /// Decides how long a session may last: `browse`, `standard` or `privileged`.
    TierName, (6..=10), "^(browse|standard|privileged)$", "standard"
}
text! {
    /// What happens over the limit on concurrent sessions: `evict-oldest` or `refuse`.
    OnLimitName, (6..=12), "^(evict-oldest|refuse)$", "refuse"
}
text! {
    /// Why a session is ended: `signed_out`, `revoked`, `replaced`, `credential_changed`, `compromised` or `policy`.
    ReasonName, (6..=18), "^(signed_out|revoked|replaced|credential_changed|compromised|policy)$", "signed_out"
}
text! {
    /// Who asked for it (CAEP 1.0 section 2): `admin`, `user`, `policy` or `system`.
    InitiatorName, (4..=6), "^(admin|user|policy|system)$", "user"
}
