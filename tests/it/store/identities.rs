//! Users, tokens, API keys, audit.

use petrel::store::identities::{ApiKeyRow, AuditRow, TokenRow, UserRow};
use petrel::store::rows::Page;
use petrel::store::{Store, StoreError};
use serde_json::json;

use super::{at, id};

super::promises![
    a_user_goes_with_tokens_and_keys,
    a_token_ends,
    tokens_end_with_the_password_or_the_role_that_they_were_bought_with,
    a_key_is_switched_and_deleted_by_its_id,
    the_audit_log_is_read_newest_first,
];

fn user(name: &str, role: &str) -> UserRow {
    UserRow { name: name.to_owned(), password_hash: None, role: role.to_owned(), created_at: at(1) }
}

fn token(number: u8, user: &str) -> TokenRow {
    TokenRow { id: id(number), user: user.to_owned(), expires_at: at(100) }
}

fn api_key(number: u8, user: &str) -> ApiKeyRow {
    ApiKeyRow {
        id: id(number),
        hash: format!("hash-{number}"),
        user: user.to_owned(),
        metadata: json!({ "for": "ci" }),
        enabled: true,
        created_at: at(1),
    }
}

async fn a_user_goes_with_tokens_and_keys(store: Store) {
    let identities = store.identities();
    for (name, role) in [("bob", "observer"), ("ann", "observer"), ("ann", "admin")] {
        identities.user_put(&user(name, role)).await.unwrap();
    }
    assert_eq!(identities.user_list().await.unwrap(), [user("ann", "admin"), user("bob", "observer")]);
    identities.token_put(&token(1, "ann"), "t", None).await.unwrap();
    identities.api_key_put(&api_key(1, "ann")).await.unwrap();
    identities.api_key_put(&api_key(2, "bob")).await.unwrap();
    identities.user_delete("ann").await.unwrap();
    assert_eq!(identities.user_get("ann").await.unwrap(), None);
    assert_eq!(identities.token_user("t", at(1)).await.unwrap(), None);
    assert_eq!(identities.api_key_list().await.unwrap(), [api_key(2, "bob")]);
    assert!(matches!(identities.user_delete("ann").await, Err(StoreError::NotFound(_))));
}

async fn a_token_ends(store: Store) {
    let identities = store.identities();
    identities.user_put(&user("ann", "observer")).await.unwrap();
    identities.token_put(&token(1, "ann"), "t", None).await.unwrap();
    assert_eq!(identities.token_user("t", at(99)).await.unwrap(), Some(("ann".to_owned(), at(100))));
    assert_eq!(identities.token_user("t", at(100)).await.unwrap(), None);
    assert_eq!(identities.token_user("other", at(1)).await.unwrap(), None);
}

/// With the same role and password nothing ends; with others, all tokens of that user do, and nobody else's.
async fn tokens_end_with_the_password_or_the_role_that_they_were_bought_with(store: Store) {
    let identities = store.identities();
    let with = |role: &str, hash: &str| UserRow { password_hash: Some(hash.to_owned()), ..user("ann", role) };
    identities.user_put(&with("observer", "first")).await.unwrap();
    identities.user_put(&user("bob", "observer")).await.unwrap();
    identities.token_put(&token(1, "bob"), "bobs", None).await.unwrap();
    let tokens = async || {
        let all = identities.token_list(None, at(1)).await.unwrap();
        all.into_iter().map(|token| token.user).collect::<Vec<_>>()
    };
    for changed in [with("observer", "second"), with("operator", "second")] {
        let old = identities.user_get("ann").await.unwrap().unwrap();
        identities.token_put(&token(2, "ann"), "anns", old.password_hash.as_deref()).await.unwrap();
        identities.user_put(&old).await.unwrap();
        assert_eq!(tokens().await, ["bob", "ann"], "nothing was changed");
        identities.user_put(&changed).await.unwrap();
        assert_eq!(tokens().await, ["bob"]);
    }
    let late = identities.token_put(&token(3, "ann"), "late", Some("first")).await;
    assert_eq!(late, Err(StoreError::Conflict), "the password was changed while it was checked");
    assert_eq!(identities.token_list(Some("ann"), at(1)).await.unwrap(), []);
    identities.token_delete(id(1)).await.unwrap();
    assert_eq!(identities.token_user("bobs", at(1)).await.unwrap(), None);
    assert!(matches!(identities.token_delete(id(1)).await, Err(StoreError::NotFound(_))));
}

async fn a_key_is_switched_and_deleted_by_its_id(store: Store) {
    let identities = store.identities();
    identities.api_key_put(&api_key(1, "ann")).await.unwrap();
    assert_eq!(identities.api_key_put(&ApiKeyRow { id: id(2), ..api_key(1, "bob") }).await, Err(StoreError::Conflict));
    identities.api_key_enable(id(1), false).await.unwrap();
    assert!(!identities.api_key_by_hash("hash-1").await.unwrap().unwrap().enabled);
    identities.api_key_delete(id(1)).await.unwrap();
    assert_eq!(identities.api_key_by_hash("hash-1").await.unwrap(), None);
    assert!(matches!(identities.api_key_enable(id(1), true).await, Err(StoreError::NotFound(_))));
    assert!(matches!(identities.api_key_delete(id(1)).await, Err(StoreError::NotFound(_))));
}

async fn the_audit_log_is_read_newest_first(store: Store) {
    let line = |second: i64| AuditRow {
        at: at(second),
        user: "ann".to_owned(),
        what: "freeze".to_owned(),
        subject: "installation".to_owned(),
        detail: json!({ "second": second }),
    };
    for second in 1..=3 {
        store.identities().audit_write(&line(second)).await.unwrap();
    }
    let page = store.identities().audit_list(Page { limit: 2, offset: 1 }).await.unwrap();
    assert_eq!(page, [line(2), line(1)]);
}
