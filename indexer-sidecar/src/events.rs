//! Event streams of the publishers: subscribe, order by sequence number, replay what is missing, decode, apply.

pub mod decode;
pub mod event;
pub mod msgpack;
