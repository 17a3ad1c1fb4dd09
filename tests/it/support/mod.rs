//! What the stories share: a site on disk, an engine in this process, waiting for a condition.

pub mod site;
