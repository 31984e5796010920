//! The origin as a process of its own, which is killed and started again.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod crash;
mod doctor;
mod events;
mod origin;
mod races;
mod redis;
mod restart;
mod transfer;
