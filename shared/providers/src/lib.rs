//! Darkroom.
