//! The named guarantees G1 to G12, each told with a real daemon that is killed, restarted, and looked at from outside.

mod content;
mod cost;
mod crashes;
mod data_folder;
mod doors;
mod effects;
mod opened_secrets;
mod poison;
mod random_kills;
mod scaling;
mod secrets;
mod shortages;
mod shutdown;
mod timers;
mod waiting;
