//! Volumes.

use super::route::Route;

/// Their operations.
pub const ROUTES: &[Route] = &[];
