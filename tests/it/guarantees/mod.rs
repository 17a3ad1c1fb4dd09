//! The named guarantees G1 to G12, each told with a real daemon that is killed, restarted, and looked at from outside.

mod content;
mod cost;
mod crashes;
mod doors;
mod effects;
mod opened_secrets;
mod random_kills;
mod scaling;
mod secrets;
mod shutdown;
mod timers;
mod waiting;
