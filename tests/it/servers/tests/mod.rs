//! What the servers and the proxy promise to those who rely on them.

mod guarded;
mod haproxy;
mod postgres;
mod proxy;
mod rabbitmq;
