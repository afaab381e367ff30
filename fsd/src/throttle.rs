//! Written next door.
