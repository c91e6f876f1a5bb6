//! Replicas share what they answered through Redis, and whatever Redis does, no call pays for it.

mod facts;
mod servers;
