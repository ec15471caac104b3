//! Boots the real thing on loopback.
