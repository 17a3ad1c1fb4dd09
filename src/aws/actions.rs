//! The actions of the pack `aws`. All can be repeated: each looks at what AWS has and goes on from there.

use std::sync::Arc;

use tokio::sync::watch;

use super::pack::Pack;
use super::{name_actions, node_actions, pool_actions};
use crate::clock::Clock;
use crate::model::pack::Catalogue;
use crate::runners::native::Native;

/// Adds all actions of the pack. Its configuration is read at each call.
pub fn add_actions(native: &mut Native, catalogue: &watch::Receiver<Arc<Catalogue>>, clock: &Arc<dyn Clock>) {
    let pack = Pack::new(catalogue, clock);
    node_actions::add_actions(native, &pack);
    pool_actions::add_actions(native, &pack);
    name_actions::add_actions(native, &pack);
}
