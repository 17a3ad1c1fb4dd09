//! Where content comes from, and what happens when that changes.

use std::path::Path;

use super::*;
use crate::bus::MemoryBus;
use crate::clock::SimClock;
use crate::model::time::Timestamp;
use crate::packs::publication::Publication;
use crate::packs::publication::shelf::Shelf;
use crate::packs::publication::wire::WirePublication;
use crate::store::Store;
use crate::store::catalogues::PublishedRow;

const RULE: &str = "name: ring\nenabled: true\ntrigger: {type: t.rings}\naction: {ref: t.answer}\n";

/// A keeper over a site in a temporary folder.
struct House {
    folder: tempfile::TempDir,
    store: Store,
    clock: Arc<SimClock>,
    keeper: Arc<ContentKeeper>,
    catalogue: watch::Receiver<Arc<Catalogue>>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "rules/own.yaml", &RULE.replace("name: ring", "name: own"));
        write(folder.path(), "shipped/t/pack.yaml", "name: t\nref: t\nversion: 1.0.0\n");
        write(folder.path(), "shipped/t/actions/answer.yaml", "name: answer\nrunner_type: noop\n");
        write(folder.path(), "shipped/t/triggers/rings.yaml", "name: rings\npack: t\n");
        let store = Store::open_sqlite(&folder.path().join("petrel.db"), None).unwrap();
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let (keeper, catalogue) = keeper(folder.path(), &store, &clock);
        Self { folder, store, clock, keeper, catalogue }
    }

    /// Publishes as another daemon would: nobody here hears of it.
    async fn publish(&self, version: u64, digest: Option<&str>) -> PublishedRow {
        let publication = publication();
        let digest = digest.map_or_else(|| publication.digest(), str::to_owned);
        let row = PublishedRow {
            version,
            digest: Some(digest),
            published_by: "ann".to_owned(),
            published_at: Timestamp::default(),
        };
        self.store.catalogues().catalogue_publish(&row, &publication.to_bytes()).await.unwrap();
        row
    }

    fn source(&self) -> String {
        self.catalogue.borrow().source()
    }
}

fn keeper(site: &Path, store: &Store, clock: &Arc<SimClock>) -> (Arc<ContentKeeper>, watch::Receiver<Arc<Catalogue>>) {
    let shipped = site.join("shipped");
    let own = ContentRoots { site: site.to_owned(), packs: vec![shipped.clone()] };
    let parts = Parts {
        origins: Origins { own, shipped, shelf: Shelf::new(site.join("catalogues")), catalogues: store.catalogues() },
        writers: Writers::Others,
        contents: store.contents(),
        runners: [("noop".to_owned(), BTreeMap::new())].into(),
        bus: Arc::new(MemoryBus::default()),
        clock: Arc::<SimClock>::clone(clock),
    };
    let (sender, catalogue) = watch::channel(Arc::new(Catalogue::default()));
    (Arc::new(ContentKeeper::new(parts, sender)), catalogue)
}

fn write(folder: &Path, path: &str, text: &str) {
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

fn publication() -> Publication {
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, RULE);
    let wire = serde_json::json!({ "files": [{ "path": "rules/ring.yaml", "content_base64": text }] });
    Publication::try_from(serde_json::from_value::<WirePublication>(wire).unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_not_what_was_published_is_not_loaded_and_what_was_loaded_stays() {
    let house = House::new();
    house.publish(1, None).await;
    house.keeper.reload().await.unwrap();
    assert_eq!(house.source(), "v1");
    house.publish(2, Some("another digest")).await;
    let refused = house.keeper.reload().await;
    assert!(matches!(refused, Err(ContentError::NotItself { version: 2 })), "{refused:?}");
    assert_eq!(house.source(), "v1");
    assert!(house.catalogue.borrow().rules.contains_key(&"default.ring".parse().unwrap()));
    house.publish(3, None).await;
    house.keeper.reload().await.unwrap();
    assert_eq!(house.source(), "v3");
}

#[tokio::test]
async fn a_folder_that_was_changed_is_unpacked_again_at_the_next_start() {
    let house = House::new();
    house.publish(1, None).await;
    house.keeper.reload().await.unwrap();
    let unpacked = house.folder.path().join("catalogues/1/rules/ring.yaml");
    std::fs::write(&unpacked, RULE.replace("name: ring", "name: forged")).unwrap();
    let (next, catalogue) = keeper(house.folder.path(), &house.store, &house.clock);
    next.reload().await.unwrap();
    assert_eq!(std::fs::read_to_string(unpacked).unwrap(), RULE);
    let rules: Vec<String> = catalogue.borrow().rules.keys().map(ToString::to_string).collect();
    assert_eq!(rules, ["default.ring"]);
}

#[tokio::test]
async fn the_version_before_stays_unpacked_for_what_was_started_from_it_and_older_ones_go() {
    let house = House::new();
    for version in 1..=3 {
        house.publish(version, None).await;
        house.keeper.reload().await.unwrap();
    }
    let left = std::fs::read_dir(house.folder.path().join("catalogues")).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["2", "3"]);
}

#[tokio::test]
async fn what_nobody_told_of_is_found_by_itself() {
    let house = House::new();
    house.keeper.reload().await.unwrap();
    assert_eq!(house.source(), "files");
    let mut catalogue = house.catalogue.clone();
    let story = async {
        for version in 1..=2 {
            house.publish(version, None).await;
            catalogue.wait_for(|catalogue| catalogue.published == Some(version)).await.unwrap();
        }
    };
    let passing = async {
        loop {
            house.clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = house.keeper.run(CancellationToken::new()) => panic!("{ended:?}"),
        () = passing => {}
        () = story => {}
    }
}
