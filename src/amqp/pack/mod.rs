//! The pack `amqp`: an action that publishes, and queues whose messages become triggers. It may speak to another broker
//! than the one in front of the store, and knows nothing of it.

mod fields;
mod publish;
mod queues;
mod settings;

pub use publish::Publish;
pub use queues::Queues;
