//! Who is asking, and may they: credentials out of a request, secrets compared, roles. Pure: the store's part of it
//! (users, tokens, API keys) belongs to whoever asks.

mod credentials;
mod password;
mod roles;
mod token;
mod webhook;

pub use self::credentials::{Credential, CredentialError, Location, Presented};
pub use self::password::{PasswordError, PasswordHash, hash_password, verify_password};
pub use self::roles::{AuthMethod, BadRole, Permission, Principal, Role};
pub use self::token::{StoredHash, new_api_key, new_token};
pub use self::webhook::{
    Algorithm, Encoding, HmacAuth, HookRequest, MissingSecret, Place, Refusal, Scheme, SecretSource, Signature,
    Verifier, WebhookAuth, Withheld, WithheldOf,
};
