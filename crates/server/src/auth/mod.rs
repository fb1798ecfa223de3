//! Who someone is: tokens of clients, API keys of servers, and what was revoked.
//!
//! A token is believed if a configured key signed it. Which algorithms a key may be used with is a property of the key;
//! the token's header only chooses among them. An issuer's keys are fetched from its key set, and are never used for
//! tokens of another issuer.

mod options;
mod error;
mod verifier;
mod token;
mod members;
mod claims;
mod key;
mod key_set;
mod issuer_keys;
pub mod outbound;
mod address;
mod api_keys;
mod mint;
mod revocations;
#[cfg(test)]
mod tests;

pub use api_keys::ApiKeys;
pub use claims::Claims;
pub use error::{AuthError, KeyError};
pub use mint::mint;
pub use options::{Anonymous, AuthOptions, Expiry, Issuer, PublicKey, Secret};
pub use outbound::PrivateAddresses;
pub use revocations::{Revocations, RevocationsFull, Revoked};
pub use verifier::Verifier;
