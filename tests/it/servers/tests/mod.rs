//! What the servers and the proxy promise to those who rely on them.

mod guarded;
mod postgres;
mod proxy;
mod rabbitmq;
