//! The pack `aws`: nodes are EC2 instances, a group's place in the load balancer is a target group (ELBv2), its names are
//! in Route 53.
//!
//! A domain: it reaches the engine as actions, and the engine does not know it. Nothing is remembered here: what AWS has
//! is asked for by tags, by the name of a target group, by the records at a name. A call whose answer was lost may have
//! been heard, so nothing is made before a look, and nothing is made again after an answer that was not a clear no.

pub mod actions;
mod answer;
mod calls;
mod credentials;
mod hosted_zone;
mod instances;
mod name_actions;
mod naming;
mod node_actions;
mod node_wish;
mod nodes;
mod pack;
mod patience;
mod pool_actions;
mod record_sets;
mod refusal;
mod service;
mod settings;
mod signature;
mod target_group;
mod targets;
