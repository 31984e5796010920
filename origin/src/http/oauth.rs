//! `/oauth2`: refresh (RFC 6749 §6), revocation (RFC 7009) and introspection (RFC 7662); who calls (RFC 6749 §2.3, RFC
//! 7523); what a client can learn of all this by itself (RFC 8414).

mod client;
pub(super) mod introspect;
mod metadata;
mod revoke;
mod token;

pub use self::metadata::Metadata;
pub(super) use self::{metadata::metadata, revoke::revoke, token::token};
