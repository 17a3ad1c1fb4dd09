//! What a daemon finds or makes before anything else: the store, the key of encrypted values, and the folders that all
//! daemons of a host share. Several daemons over one store must agree on some of it; here they do, or are refused.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::action_user::RunnersHome;
use super::data_folder;
use super::engine::World;
use crate::clock;
use crate::config::Config;
use crate::model::time::format_duration;
use crate::private;
use crate::secrets::Keyring;
use crate::store::contents::{DATASTORE_KEY, KEY_IS_LOST};
use crate::store::{PostgresSettings, Store, StoreError};

/// A PostgreSQL that starts together with its daemons gets this long to answer.
const STORE_PATIENCE: Duration = Duration::from_mins(1);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// The ground on which an engine stands.
pub(super) struct Installation {
    /// The truth.
    pub(super) store: Store,
    /// Opens what is sealed.
    pub(super) keyring: Arc<Keyring>,
    /// Where guards of this host note what they guard.
    pub(super) guards_dir: PathBuf,
    /// Where nodes of the provider `local` live.
    pub(super) nodes_dir: PathBuf,
    /// As whom actions run, and where their scripts lie.
    pub(super) runners: RunnersHome,
    /// Whether other daemons may work over the same store.
    pub(super) sharing: Sharing,
}

/// Whether other daemons may work over the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The store is a file in the data folder, which this daemon alone has.
    Alone,
    /// There may be others.
    Shared,
}

impl Installation {
    /// Opens the store that the configuration names, and checks that this daemon fits to it.
    pub(super) async fn open(config: &Config, world: &World) -> anyhow::Result<Self> {
        let runners = RunnersHome::open(config)?;
        let key_file = config.secrets.key_file.clone().unwrap_or_else(|| config.data_dir.join("datastore.key"));
        let nodes_dir = config.local.nodes_dir.clone().unwrap_or_else(|| config.data_dir.join("nodes"));
        let guards_dir = config.workers.guards_dir.clone();
        let Some(url) = &config.store.url else {
            let database = config.data_dir.join("petrel.db");
            data_folder::check_before_opening(config, &database)?;
            let store = Store::open_sqlite(&database, config.retention.max_database_bytes)
                .with_context(|| format!("opening {}", database.display()))?;
            data_folder::check_opened(&store, &config.data_dir).await?;
            refuse_to_replace_key(&store, &key_file).await?;
            let keyring = Arc::new(Keyring::open_or_create_at(&key_file)?);
            agree_on_key(&store, &keyring, &key_file).await?;
            let store = store.sealed_by(Arc::<Keyring>::clone(&keyring));
            let guards_dir = guards_dir.unwrap_or_else(|| config.data_dir.join("guards"));
            keep_private([&guards_dir, &nodes_dir])?;
            return Ok(Self { store, keyring, guards_dir, nodes_dir, runners, sharing: Sharing::Alone });
        };
        let settings = PostgresSettings {
            url: url.expose().to_owned(),
            connections: config.store.connections,
            ca_file: config.store.ca_file.clone(),
        };
        let store = connect(&settings, world).await.context("opening the store")?;
        data_folder::check_opened(&store, &config.data_dir).await?;
        let keyring = Arc::new(Keyring::open_or_create_at(&key_file)?);
        agree_on_key(&store, &keyring, &key_file).await?;
        let store = store.sealed_by(Arc::<Keyring>::clone(&keyring));
        let name = store.contents().setting_agree("installation", &world.ids.uuid_v4()).await?;
        let guards_dir = match guards_dir {
            Some(dir) => dir,
            None => host_folder(&name)?.join("guards"),
        };
        keep_private([&guards_dir, &nodes_dir])?;
        Ok(Self { store, keyring, guards_dir, nodes_dir, runners, sharing: Sharing::Shared })
    }
}

/// Folders that may have been named by the operator and lie outside of the data folder.
fn keep_private(folders: [&PathBuf; 2]) -> anyhow::Result<()> {
    for folder in folders {
        if let Some(repaired) = private::ensure_folder(folder)? {
            tracing::warn!("{repaired}");
        }
    }
    Ok(())
}

async fn connect(settings: &PostgresSettings, world: &World) -> Result<Store, StoreError> {
    let until = world.clock.monotonic().saturating_add(STORE_PATIENCE);
    let mut told = None;
    loop {
        match Store::open_postgres(settings, Arc::clone(&world.clock)).await {
            Err(StoreError::Unavailable(why)) if world.clock.monotonic() < until => {
                if told.as_ref() != Some(&why) {
                    let patience = format_duration(STORE_PATIENCE);
                    tracing::warn!(why, "the store cannot be used yet; it is tried again for {patience}");
                    told = Some(why);
                }
                clock::sleep(&*world.clock, BETWEEN_TRIES).await;
            }
            result => return result,
        }
    }
}

/// Without the key with which values were sealed nobody reads them again: a new one in its place would hide that it is lost.
async fn refuse_to_replace_key(store: &Store, key_file: &std::path::Path) -> anyhow::Result<()> {
    let is_agreed = store.contents().setting_get(DATASTORE_KEY).await?.is_some();
    anyhow::ensure!(
        key_file.exists() || !is_agreed,
        "the key {} of the encrypted values in this store is missing: put it back, or name it with secrets.key_file \
         (PETREL__SECRETS__KEY_FILE). {KEY_IS_LOST}",
        key_file.display()
    );
    Ok(())
}

/// A daemon with another key could read nothing that was sealed, and would seal what nobody else can read.
async fn agree_on_key(store: &Store, keyring: &Keyring, key_file: &std::path::Path) -> anyhow::Result<()> {
    let ours = keyring.keyed_hash(b"the key of this installation");
    let agreed = store.contents().setting_agree(DATASTORE_KEY, &ours).await?;
    anyhow::ensure!(
        ours == agreed,
        "the key {} is not the one with which this store was written, and of the other daemons over it; put that one in its \
         place, or name it with secrets.key_file (PETREL__SECRETS__KEY_FILE). {KEY_IS_LOST}",
        key_file.display()
    );
    Ok(())
}

/// A folder of this installation that all its daemons on this host find, and nobody else may use. It outlives none of
/// the processes it tells of, so a folder that is cleared at boot would do as well.
fn host_folder(installation: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::geteuid().as_raw();
    let folder = PathBuf::from(format!("/var/tmp/petrel-{user}-{installation}"));
    let making = || format!("making the folder {}", folder.display());
    private::create_folder(&folder).with_context(making)?;
    let found = std::fs::symlink_metadata(&folder).with_context(making)?;
    let is_ours = found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0;
    anyhow::ensure!(is_ours, "{} belongs to somebody else; set workers.guards_dir", folder.display());
    if let Some(repaired) = private::ensure_folder(&folder)? {
        tracing::warn!("{repaired}");
    }
    Ok(folder)
}
