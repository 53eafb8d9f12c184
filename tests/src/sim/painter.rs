//! The same few pictures are asked for thousands of times, and a simulation is not about how they are painted: each is painted
//! once, and at once, so that no thread's speed decides what comes first.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use darkroom_providers::{Painted, PaintedFile, Picture};

/// So many are kept at most: memory has a bound.
const KEPT: usize = 64;

static PAINTED: Mutex<Option<HashMap<Picture, PaintedFile>>> = Mutex::new(None);

/// The file of a picture, from memory if it was painted before.
pub(crate) fn paint(picture: Picture) -> Painted {
    let mut painted = PAINTED.lock().unwrap_or_else(PoisonError::into_inner);
    let painted = painted.get_or_insert_default();
    if let Some(file) = painted.get(&picture) {
        return Ok(file.clone());
    }
    let file = picture.paint()?;
    if painted.len() < KEPT {
        painted.insert(picture, file.clone());
    }
    Ok(file)
}
