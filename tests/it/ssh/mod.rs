//! Other machines by SSH, against a real OpenSSH server: what a command there gives back, who is trusted, what nobody
//! may see, and nodes that serve only when they are what their profile says.

mod commands;
mod connections;
mod group;
mod profiles;
mod rig;
mod secrets;
